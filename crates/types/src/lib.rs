//! The words every floor shares: paths, ids, positions in the log, capabilities, durations, and the clock.
//!
//! Knows nothing of tokio, disks or cryptography.

pub mod clock;
pub mod id;
pub mod path;
pub mod position;

pub use clock::{Clock, SystemClock, Timestamp};
pub use id::{ClusterId, NodeId, RequestId};
pub use path::Path;
pub use position::{Index, Position, Revision, Term};

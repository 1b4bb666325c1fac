//! The words every floor shares: paths, ids, positions in the log, capabilities, durations, limits on JSON, and the clock.
//!
//! Knows nothing of tokio, disks or cryptography.

pub mod capability;
pub mod clock;
pub mod duration;
pub mod feature_level;
pub mod hcl;
pub mod id;
pub mod json;
pub mod path;
pub mod position;

pub use capability::{Capability, Verb};
pub use clock::{Clock, SystemClock, Timestamp};
pub use feature_level::{FeatureLevel, FeatureLevels, UnknownLevel};
pub use id::{ClusterId, NodeId, RequestId};
pub use json::{JsonLimitError, JsonLimits};
pub use path::{Path, PathError};
pub use position::{Index, Position, Revision, Term};

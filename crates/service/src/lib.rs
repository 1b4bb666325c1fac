//! The service: who asks, whether they may, what it comes to, and the record of it.
//!
//! Knows nothing of sockets or status codes. [`Service::handle`] is the one way of a request.

mod audit;
mod audited;
mod auth;
mod autopilot;
mod backend;
mod body;
mod chores;
mod cidr;
mod denials;
mod due;
#[cfg(test)]
mod golden;
mod help;
#[cfg(test)]
mod hostile;
mod journal;
mod lease;
mod mount;
mod namespace;
mod node;
mod outcome;
mod permit;
mod pipeline;
pub mod policy;
mod purge;
mod records;
mod refused_shares;
mod request;
mod shares;
mod snapshots;
mod store;
mod sys;
#[cfg(test)]
mod testing;
mod token;
mod ttl;
mod wrapping;

use barrier::{Keyring, Plan};
use crypto::{Rng, Zeroizing};
use types::Timestamp;

pub use audit::{AuditFailures, AuditTable, DEVICES_MAX, DeviceConfig, HEADERS_MAX, RECORD_DURATION_MAX};
pub use chores::ChoreCounts;
pub use mount::{MOUNTS_MAX, Mount, MountTable};
pub use node::{Counted, Node, Software, TraceFormat, TraceLevel, Verdict};
pub use outcome::Settings;
pub use permit::Permit;
pub use pipeline::{ATTEMPTS_MAX, Service};
pub use refused_shares::{REFUSED_SHARES_MAX, RefusedShares, TooManyShares, WINDOW_MS as REFUSED_SHARES_WINDOW_MS};
pub use request::{Answer, Auth, Download, Lease, Pieces, Raw, Reading, Refusal, Request, Response, Wrapped};
pub use shares::{ShareOrder, ShareRequest, ShareRequestError, ShownShares, encrypt_text};
pub use snapshots::schedule::SnapshotFigures;
pub use snapshots::{takes_long, takes_upload};
pub use store::Store;
pub use sys::{Cors, UiHeaders, is_share_refused, takes_share_in_delete};
pub use token::Caller;

/// The first records of a new cluster, and its root token, which nobody can tell again.
pub fn found(keyring: &Keyring, now: Timestamp, rng: &dyn Rng) -> (Plan, Zeroizing<String>) {
    let mut plan = Plan::new();
    MountTable::found(rng).store(namespace::Namespace::ROOT_ID, &mut plan);
    let root_token = token::found(keyring, now, rng, &mut plan);
    (plan, root_token)
}

//! The replicated log: openraft over `storage` and a [`Transport`]. Proposes with group commit, reads linearizably on
//! every node, changes membership, sends snapshots.
//!
//! Does not know what a batch contains.

mod check;
mod codec;
pub mod compaction;
mod config;
mod forward;
mod gauges;
pub mod grpc;
mod handle;
mod inbound;
mod level;
mod log_store;
mod machine;
pub mod membership;
mod network;
mod read_index;
mod rejoin;
mod runtime;
mod scratch;
mod snapshots;
#[cfg(test)]
mod suite;
mod transport;
pub mod watch;

pub use check::{Check, MemberCheck, Totals, disagreeing};
pub use codec::CodecError;
pub use compaction::{Compaction, Sizes};
pub use config::{KeyPin, Member};
pub use gauges::{Follower, Gauges};
pub use handle::{
    BootstrapError, DISK_RESERVE_BYTES, Flushing, LEADER_WAIT_MAX, MemberInfo, MembershipError, Parts, ProposeError, Raft, ReadError, Role,
    StartError, Status, Timing,
};
pub use inbound::{Inbound, InboundError};
pub use level::{LevelTooLow, raising};
pub use machine::Observer;
pub use membership::{
    ChangeError, ChangeOptions, Health, HealthPolicy, Heirs, MemberChange, MemberFacts, MembersView, Refusal, RefusalKind,
};
pub use read_index::ReadConsistency;
pub use rejoin::BeginError;
pub use runtime::dangerous_seed_election_jitter;
pub use scratch::{Scratch, ScratchTable};
pub use transport::{AppendStream, Peer, Transport, TransportError};

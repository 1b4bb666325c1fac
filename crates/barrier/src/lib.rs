//! The barrier: plaintext above it, ciphertext below. Seals and opens the cluster, encrypts names and values, turns plans
//! into batches.
//!
//! Knows nothing of mounts, tokens or HTTP.

mod attempt;
mod backup;
mod barrier;
mod cache;
mod changes;
mod drill;
#[cfg(test)]
mod golden;
pub mod identity;
pub mod journal;
mod key;
mod keyring;
mod keys;
mod level;
mod membership;
mod name;
mod opening;
mod peers;
mod plan;
mod pool;
mod records;
mod rejoin;
mod restore;
mod rotation;
mod seals;
pub mod testing;
mod verified;
mod view;

pub use attempt::{Act, ActError, Attempt, AttemptStatus, DETAILS_BYTES_MAX, KnownShare, NewShares, Proof, SealsStatus, Step, Verified};
pub use backup::{Backup, BackupError};
pub use barrier::{AccessError, Barrier, CommitError, InitError, Initialized, NodeFacts, Opening, Parts, SealStatus};
pub use cache::{Cache, Cached};
pub use changes::Changes;
pub use drill::{DrillError, Drilled, Past};
pub use journal::{FileJournal, Journal, JournalError, JournalLine, MemoryJournal};
pub use key::{AREA_CLEAR, AREA_SEALED};
pub use keyring::{
    BATCH_TOKEN_FORMAT, BATCH_TOKEN_OVERHEAD_BYTES, KeyStatus, Keyring, KeyringError, VALUE_FORMAT, ValueError, batch_token_version,
};
pub use level::{LevelStatus, MemberLevels, RaiseError, levels_of};
pub use name::Name;
pub use opening::{HandOverError, KeyRefusal, SealError, SealedNode, ShareError};
pub use peers::{CeremonyPeers, CeremonyService, GrpcCeremonyPeers, PeerCallError};
pub use plan::{Plan, SealedKey};
pub use raft::Check as ReplicaCheck;
pub use records::RecordError;
pub use rejoin::{REJOIN_COUNT_MAX, REJOIN_COUNT_PERIOD, REJOIN_WITHIN_MAX, REJOIN_WITHIN_MIN, Rejoin};
pub use restore::{Fork, RestoreError, RestoreProgress, Restored};
pub use rotation::{INTERVAL_MIN, NewestKey, OPERATIONS_MAX, OPERATIONS_MIN, PolicyError, RotateError, RotationPolicy};
pub use seals::{
    HOLDER_NAME_BYTES_MAX, Holder, HolderStatus, NewSplit, STATIC_SEALS_MAX, SplitError, SplitStatus, StaticKey, StaticSealStatus,
    UnsealError,
};
pub use view::{CHILDREN_MAX, Child, Found, View, ViewError};

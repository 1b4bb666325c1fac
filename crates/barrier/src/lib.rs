//! The barrier: plaintext above it, ciphertext below. Seals and opens the cluster, encrypts names and values, turns plans
//! into batches.
//!
//! Knows nothing of mounts, tokens or HTTP.

mod barrier;
mod cache;
mod changes;
pub mod journal;
mod key;
mod keyring;
mod keys;
mod name;
mod peers;
mod plan;
mod pool;
mod records;
pub mod testing;
mod view;

pub use barrier::{AccessError, Barrier, CommitError, HandOverError, InitError, Initialized, NodeFacts, SealError, SealStatus, ShareError};
pub use cache::{Cache, Cached};
pub use changes::Changes;
pub use journal::{FileJournal, Journal, JournalError, JournalLine, MemoryJournal};
pub use key::{AREA_CLEAR, AREA_SEALED};
pub use keyring::{BATCH_TOKEN_FORMAT, BATCH_TOKEN_OVERHEAD_BYTES, KeyStatus, Keyring, KeyringError, VALUE_FORMAT, ValueError};
pub use name::Name;
pub use peers::{CeremonyPeers, CeremonyService, GrpcCeremonyPeers, PeerCallError};
pub use plan::{Plan, SealedKey};
pub use records::{RecordError, UnsealError};
pub use view::{CHILDREN_MAX, Child, Found, View, ViewError};

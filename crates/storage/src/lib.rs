//! Durable state: the replicated log, the table it is applied to, snapshot files, and the data folder that holds them.
//!
//! Always: nothing is reported done before it is on stable storage; what was damaged is named by file and offset and
//! never dropped in silence; every stored format has a version (`docs/storage-format.md`).
//! Knows nothing of keys' meaning, of Raft's roles or of tokio: every call is synchronous and may come from any thread.

pub mod adoption;
pub mod batch;
pub mod container;
pub mod datadir;
pub mod disk;
pub mod feature_level;
pub mod journal;
pub mod log;
pub mod quarantine;
pub mod snapshot;
pub mod table;

mod codec;
#[cfg(test)]
mod golden;
mod hash;

pub use adoption::{Adoption, Staged};
pub use batch::{Batch, Expectation, Write};
pub use datadir::DataDir;
pub use disk::{Disk, FsDisk, MemoryDisk, RamDisk};
pub use hash::StateHash;
pub use journal::Journal;
pub use log::{Flusher, Log, LogBounds, LogEntry, LogFailure, LogOptions};
pub use snapshot::{SnapshotInfo, SnapshotReader, SnapshotStore};
pub use table::{Applied, Cell, Change, Committed, MemoryTable, Outcome, RedbTable, Table, TableView};

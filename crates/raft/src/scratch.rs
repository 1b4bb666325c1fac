//! Room on this node's disk for snapshots that did not come from Raft: a backup that is uploaded, a drill.

use std::path::PathBuf;
use std::sync::Arc;

use storage::snapshot::{Receiver, SnapshotError};
use storage::table::RedbTableOptions;
use storage::{Disk, RedbTable, Table};

use crate::handle::{DISK_RESERVE_BYTES, Raft};

/// Takes in one snapshot file beside those that Raft keeps. What it made is removed when it, or what came of it, is dropped.
#[derive(Clone)]
pub struct Scratch(Raft);

impl Scratch {
    /// A place for a file of `bytes` bytes, if the disk has that much room beside what it keeps free.
    pub fn receive(&self, bytes: u64) -> Result<Receiver, SnapshotError> {
        let (disk, folder) = &self.0.core.disk;
        let io = |source| SnapshotError::Io { file: folder.clone(), source };
        let free = disk.free_bytes(folder).map_err(io)?;
        if bytes > free.saturating_sub(DISK_RESERVE_BYTES) {
            let text = format!("a file of {bytes} bytes does not fit: {free} bytes are free, of which {DISK_RESERVE_BYTES} are kept");
            return Err(io(std::io::Error::new(std::io::ErrorKind::StorageFull, text)));
        }
        self.0.core.snapshots.store().receive(bytes)
    }
}

/// A table that is thrown away, with its file.
pub struct ScratchTable {
    table: Option<RedbTable>,
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl ScratchTable {
    /// The table.
    pub fn table(&self) -> &dyn Table {
        self.table.as_ref().expect("it goes when this is dropped")
    }
}

impl Drop for ScratchTable {
    fn drop(&mut self) {
        self.table = None;
        if let Err(error) = RedbTable::remove(&*self.disk, &self.path) {
            // Else the next start removes it.
            tracing::warn!(%error, "remove a scratch table");
        }
    }
}

impl Scratch {
    /// An empty table beside the snapshots, for a state that is looked at and thrown away. One at a time for each `name`.
    pub fn table(&self, name: &str) -> Result<ScratchTable, storage::table::OpenError> {
        let (disk, folder) = &self.0.core.disk;
        // As everything that ends so, it is removed when the node starts.
        let path = folder.join(format!("{name}{}", storage::disk::TEMPORARY_SUFFIX));
        RedbTable::remove(&**disk, &path).map_err(|source| storage::table::OpenError::Io { file: path.clone(), source })?;
        let table = RedbTable::open(Arc::clone(disk), &path, RedbTableOptions::default())?;
        Ok(ScratchTable { table: Some(table), disk: Arc::clone(disk), path })
    }
}

impl Raft {
    /// Room on this node's disk.
    pub fn scratch(&self) -> Scratch {
        Scratch(self.clone())
    }

    /// The disk of this node's files.
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.core.disk.0)
    }
}

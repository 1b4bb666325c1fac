//! Room on this node's disk for snapshots that did not come from Raft: a backup that is uploaded, a drill.

use std::sync::Arc;

use storage::Disk;
use storage::snapshot::{Receiver, SnapshotError};

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

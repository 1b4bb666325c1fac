//! [`SimDisk`]: a node's disk. It loses in a crash what was not synced; a lying one only pretends to sync.

use std::io;
use std::path::Path;
use std::sync::Arc;

use storage::disk::{DiskFile, DiskLock, OpenMode};
use storage::{Disk, MemoryDisk};

/// Whether a disk does what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Honesty {
    /// What was synced survives a crash.
    Honest,
    /// A sync of the log does nothing, and says that it was done: the positive control, which the harness must catch.
    Lying,
}

/// A disk in memory.
#[derive(Clone)]
pub struct SimDisk {
    memory: MemoryDisk,
    honesty: Honesty,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(honesty: Honesty) -> SimDisk {
        SimDisk { memory: MemoryDisk::new(), honesty }
    }

    /// What a node opens its files on.
    pub fn as_disk(&self) -> Arc<dyn Disk> {
        match self.honesty {
            Honesty::Honest => Arc::new(self.memory.clone()),
            Honesty::Lying => Arc::new(LyingDisk(self.memory.clone())),
        }
    }

    /// What happens behind the node's back: crashes, faults, a look at the bytes.
    pub fn memory(&self) -> &MemoryDisk {
        &self.memory
    }
}

struct LyingDisk(MemoryDisk);

struct LyingFile(Arc<dyn DiskFile>);

impl Disk for LyingDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir_all(dir)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.0.open(path, mode)?;
        // About the log only: a node whose other files are gone does not start at all, which would be too easy to catch.
        let lies = path.extension().is_some_and(|extension| extension == "log");
        Ok(if lies { Arc::new(LyingFile(file)) } else { file })
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.0.free_bytes(dir)
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        self.0.try_lock(path)
    }
}

impl DiskFile for LyingFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(out, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(data, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether some crash of a few loses what was synced.
    fn loses_synced_bytes(honesty: Honesty) -> bool {
        (0..8).any(|seed| {
            let disk = SimDisk::new(honesty);
            let file = disk.as_disk().open(Path::new("/file.log"), OpenMode::Create).unwrap();
            file.write_at(b"bytes", 0).unwrap();
            file.sync_data().unwrap();
            disk.as_disk().sync_dir(Path::new("/")).unwrap();
            disk.memory().crash(seed);
            disk.memory().content(Path::new("/file.log")).unwrap() != b"bytes"
        })
    }

    #[test]
    fn only_a_lying_disk_loses_what_was_synced() {
        assert!(!loses_synced_bytes(Honesty::Honest));
        assert!(loses_synced_bytes(Honesty::Lying));
    }
}

//! [`SimDisk`]: a node's disk. It loses in a crash what was not synced; a false one loses more.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use storage::disk::{DiskFile, DiskLock, OpenMode};
use storage::{Disk, MemoryDisk};

/// Whether a disk does what it is asked. All but the first are positive controls, which the harness must catch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Honesty {
    /// What was synced survives a crash.
    Honest,
    /// A sync of the log does nothing, and says that it was done: a crash leaves holes.
    Lying,
    /// A sync is done later, in order: a crash leaves all as it was some syncs ago. No checksum can tell.
    Lagging,
}

/// After so many syncs, a lagging disk catches up.
const LAG_SYNCS: u64 = 64;

/// A disk in memory.
pub struct SimDisk {
    honesty: Honesty,
    state: Arc<Mutex<State>>,
}

struct State {
    memory: MemoryDisk,
    /// Of a lagging disk: what has reached the medium.
    medium: Option<MemoryDisk>,
    syncs: u64,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(honesty: Honesty) -> SimDisk {
        SimDisk { honesty, state: Arc::new(Mutex::new(State { memory: MemoryDisk::new(), medium: None, syncs: 0 })) }
    }

    /// What a process opens its files on. A crash ends it.
    pub fn open(&self) -> Arc<dyn Disk> {
        let memory = self.memory();
        match self.honesty {
            Honesty::Honest => Arc::new(memory),
            Honesty::Lying | Honesty::Lagging => Arc::new(FalseDisk { memory, honesty: self.honesty, state: Arc::clone(&self.state) }),
        }
    }

    /// What happens behind the process's back: faults, a look at the bytes.
    pub fn memory(&self) -> MemoryDisk {
        self.state().memory.clone()
    }

    /// Cuts the power: what was not synced is kept, lost or torn, as `seed` decides; what was synced is kept by an honest disk.
    pub fn crash(&self, seed: u64) {
        let mut state = self.state();
        state.memory.crash(seed);
        if let Some(medium) = state.medium.take() {
            medium.crash(seed);
            state.memory = medium;
            state.syncs = 0;
        }
    }

    /// Puts an empty disk in the place of this one. Nothing may have it open.
    pub fn replace(&self) {
        *self.state() = State { memory: MemoryDisk::new(), medium: None, syncs: 0 };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nothing panics while it holds the disk")
}

struct FalseDisk {
    memory: MemoryDisk,
    honesty: Honesty,
    state: Arc<Mutex<State>>,
}

struct FalseFile {
    file: Arc<dyn DiskFile>,
    honesty: Honesty,
    state: Arc<Mutex<State>>,
}

impl Disk for FalseDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.memory.create_dir_all(dir)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.memory.open(path, mode)?;
        // A liar lies about the log only: a node whose other files are damaged does not start, which would be too easy to catch.
        let is_log = path.parent().is_some_and(|folder| folder.ends_with("log"));
        if self.honesty == Honesty::Lying && !is_log {
            return Ok(file);
        }
        Ok(Arc::new(FalseFile { file, honesty: self.honesty, state: Arc::clone(&self.state) }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.memory.exists(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.memory.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.memory.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.memory.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.memory.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.memory.free_bytes(dir)
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        self.memory.try_lock(path)
    }
}

impl DiskFile for FalseFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(out, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(data, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.honesty == Honesty::Lagging {
            self.file.sync_data()?;
            let mut state = lock(&self.state);
            if state.syncs.is_multiple_of(LAG_SYNCS) {
                state.medium = Some(state.memory.fork());
            }
            state.syncs += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether some crash of a few loses what was synced last.
    fn loses_synced_bytes(honesty: Honesty) -> bool {
        let path = Path::new("/log/1.log");
        (0..8).any(|seed| {
            let disk = SimDisk::new(honesty);
            let files = disk.open();
            files.create_dir_all(Path::new("/log")).unwrap();
            let file = files.open(path, OpenMode::Create).unwrap();
            files.sync_dir(Path::new("/log")).unwrap();
            for text in [b"older", b"newer"] {
                file.write_at(text, 0).unwrap();
                file.sync_data().unwrap();
            }
            disk.crash(seed);
            let left = disk.memory().content(path).unwrap();
            assert!(honesty != Honesty::Lagging || left == b"older", "a lagging disk loses the newest only");
            left != b"newer"
        })
    }

    #[test]
    fn only_a_false_disk_loses_what_was_synced() {
        assert!(!loses_synced_bytes(Honesty::Honest));
        assert!(loses_synced_bytes(Honesty::Lying));
        assert!(loses_synced_bytes(Honesty::Lagging));
    }
}

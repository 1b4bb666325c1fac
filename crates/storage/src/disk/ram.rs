//! [`RamDisk`]: files in memory, for a node that is to forget everything when it ends.
//!
//! Always: a removed file's memory is given back once the last handle of it is gone; syncs do nothing, as there is nothing to
//! lose but the process. Only ciphertext is ever in it, as on a real disk.
//! Knows no format.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use super::{Disk, DiskFile, DiskLock, OpenMode, parent};

const LOCK: &str = "no code panics while it holds the files";
/// Where Linux tells how much memory may still be used.
const MEMORY_FILE: &str = "/proc/meminfo";

/// Files in memory. Clones share the files.
#[derive(Clone, Default)]
pub struct RamDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    names: BTreeMap<PathBuf, Node>,
    locks: BTreeSet<PathBuf>,
}

#[derive(Clone)]
enum Node {
    Dir,
    File(Arc<RamFile>),
}

#[derive(Default)]
struct RamFile(RwLock<Vec<u8>>);

/// Unlocks when dropped.
struct Held(RamDisk, PathBuf);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.state().locks.remove(&self.1);
    }
}

impl RamDisk {
    /// An empty disk.
    pub fn new() -> RamDisk {
        RamDisk::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect(LOCK)
    }
}

fn absent(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", path.display()))
}

impl State {
    fn file(&self, path: &Path) -> io::Result<Arc<RamFile>> {
        match self.names.get(path) {
            Some(Node::File(file)) => Ok(Arc::clone(file)),
            Some(Node::Dir) => Err(io::Error::new(io::ErrorKind::IsADirectory, format!("{} is a folder", path.display()))),
            None => Err(absent(path)),
        }
    }

    fn create(&mut self, path: &Path) -> io::Result<Arc<RamFile>> {
        if self.names.contains_key(path) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is there already", path.display())));
        }
        if !self.is_dir(parent(path)) {
            return Err(absent(parent(path)));
        }
        let file = Arc::new(RamFile::default());
        self.names.insert(path.to_owned(), Node::File(Arc::clone(&file)));
        Ok(file)
    }

    fn is_dir(&self, dir: &Path) -> bool {
        dir.parent().is_none() || dir == Path::new(".") || matches!(self.names.get(dir), Some(Node::Dir))
    }
}

impl Disk for RamDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        for above in dir.ancestors().filter(|above| above.parent().is_some()) {
            if let Node::File(_) = state.names.entry(above.to_owned()).or_insert(Node::Dir) {
                return Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} is a file", above.display())));
            }
        }
        Ok(())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let file = match mode {
            OpenMode::Read | OpenMode::Write => state.file(path)?,
            OpenMode::Create => state.create(path)?,
        };
        Ok(file)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.state();
        Ok(state.is_dir(path) || state.names.contains_key(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        if !state.is_dir(dir) {
            return Err(absent(dir));
        }
        let names = state.names.keys().filter(|path| parent(path) == dir).filter_map(|path| path.file_name()?.to_str());
        Ok(names.map(str::to_owned).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let file = state.file(from)?;
        if matches!(state.names.get(to), Some(Node::Dir)) || !state.is_dir(parent(to)) {
            return Err(absent(to));
        }
        state.names.remove(from);
        state.names.insert(to.to_owned(), Node::File(file));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.file(path)?;
        state.names.remove(path);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.state().is_dir(dir) { Ok(()) } else { Err(absent(dir)) }
    }

    /// The memory that the system could still give.
    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let text = std::fs::read_to_string(MEMORY_FILE)?;
        available_bytes(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/meminfo does not say what is available"))
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        let mut state = self.state();
        if !state.names.contains_key(path) {
            state.create(path)?;
        }
        let is_free = state.locks.insert(path.to_owned());
        Ok(is_free.then(|| DiskLock::new(Held(self.clone(), path.to_owned()))))
    }
}

impl DiskFile for RamFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.0.read().expect(LOCK);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let count = out.len().min(content.len() - start);
        out[..count].copy_from_slice(&content[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut content = self.0.write().expect(LOCK);
        let start = index(offset)?;
        let end = start.checked_add(data.len()).ok_or_else(too_large)?;
        if end > content.len() {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(data);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.read().expect(LOCK).len() as u64)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut content = self.0.write().expect(LOCK);
        content.resize(index(length)?, 0);
        content.shrink_to_fit();
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| too_large())
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "larger than memory")
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available_bytes(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{read_whole, write_whole};

    #[test]
    fn files_are_what_was_written() {
        let disk = RamDisk::new();
        let dir = Path::new("/a/b");
        assert_eq!(disk.list(dir).unwrap_err().kind(), io::ErrorKind::NotFound);
        disk.create_dir_all(dir).unwrap();
        write_whole(&disk, &dir.join("f"), b"one").unwrap();
        write_whole(&disk, &dir.join("f"), b"other").unwrap();
        assert_eq!(read_whole(&disk, &dir.join("f"), 10).unwrap(), b"other");
        assert_eq!(disk.list(dir).unwrap(), ["f"]);
        assert_eq!(disk.list(Path::new("/a")).unwrap(), ["b"]);
        let file = disk.open(&dir.join("g"), OpenMode::Create).unwrap();
        file.write_at(b"xy", 3).unwrap();
        let mut bytes = [9; 8];
        assert_eq!(file.read_at(&mut bytes, 1).unwrap(), 4);
        assert_eq!(bytes[..4], *b"\0\0xy");
        file.set_len(4).unwrap();
        assert_eq!(file.len().unwrap(), 4);
        assert!(file.write_at(b"x", u64::MAX).is_err());
    }

    #[test]
    fn wrong_names_are_errors() {
        let disk = RamDisk::new();
        let dir = Path::new("/d");
        disk.create_dir_all(dir).unwrap();
        let kind = |result: io::Result<()>| result.unwrap_err().kind();
        disk.open(&dir.join("f"), OpenMode::Create).unwrap();
        assert_eq!(kind(disk.open(&dir.join("f"), OpenMode::Create).map(drop)), io::ErrorKind::AlreadyExists);
        assert_eq!(kind(disk.open(&dir.join("n"), OpenMode::Write).map(drop)), io::ErrorKind::NotFound);
        assert_eq!(kind(disk.open(dir, OpenMode::Read).map(drop)), io::ErrorKind::IsADirectory);
        assert_eq!(kind(disk.open(Path::new("/none/f"), OpenMode::Create).map(drop)), io::ErrorKind::NotFound);
        assert_eq!(kind(disk.remove(&dir.join("n"))), io::ErrorKind::NotFound);
        assert_eq!(kind(disk.rename(&dir.join("f"), Path::new("/none/f"))), io::ErrorKind::NotFound);
        assert_eq!(kind(disk.create_dir_all(&dir.join("f"))), io::ErrorKind::NotADirectory);
        assert_eq!(kind(disk.sync_dir(Path::new("/none"))), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_lock_is_held_until_it_is_dropped() {
        let disk = RamDisk::new();
        let held = disk.try_lock(Path::new("/lock")).unwrap();
        assert!(held.is_some());
        assert!(disk.try_lock(Path::new("/lock")).unwrap().is_none());
        drop(held);
        assert!(disk.try_lock(Path::new("/lock")).unwrap().is_some());
    }

    #[test]
    fn a_removed_file_gives_its_memory_back() {
        let disk = RamDisk::new();
        let file = disk.open(Path::new("/f"), OpenMode::Create).unwrap();
        let kept = Arc::downgrade(&disk.state().file(Path::new("/f")).unwrap());
        disk.remove(Path::new("/f")).unwrap();
        assert!(kept.upgrade().is_some(), "an open file stays usable");
        drop(file);
        assert!(kept.upgrade().is_none());
    }

    #[test]
    fn what_is_free_is_what_the_system_says() {
        assert_eq!(available_bytes("MemTotal:  9 kB\nMemAvailable:    2048 kB\n"), Some(2_097_152));
        assert_eq!(available_bytes("MemTotal: 9 kB\n"), None);
        assert!(RamDisk::new().free_bytes(Path::new("/")).unwrap() > 0);
    }
}

//! [`Disk`]: the few file operations that the log, the table, snapshots and the data folder need, and nothing else.
//!
//! Always: a write is durable after [`DiskFile::sync_data`] on the file it went to, a create, rename or remove after
//! [`Disk::sync_dir`] on its folder; nothing is durable before, and both may happen at any time. All file access of the
//! project goes through here, so that [`MemoryDisk`] can lose what was not made durable.
//! Knows no format.

mod fs;
mod memory;
mod ram;

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use fs::FsDisk;
pub(crate) use memory::Dice;
pub use memory::{Fault, FaultPoint, MemoryDisk};
pub use ram::RamDisk;

/// How [`Disk::open`] opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Reads only; the file must exist.
    Read,
    /// Reads and writes; the file must exist.
    Write,
    /// Reads and writes; the file must not exist and is made, empty.
    Create,
}

/// A place for files: the real one, or one in memory.
pub trait Disk: Send + Sync + 'static {
    /// Makes a folder and those above it, each for the owner only. An existing folder is closed to others too.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Opens a file. A symbolic link in its place is an error.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Whether a file or folder of that name is there.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// The names in a folder, sorted. A name that is not UTF-8 is an error.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Gives a file another name; a file of that name is replaced in the same step. In the same folder one sync covers it; into
    /// another both must be synced, and until then the file may be found in either, in both or in neither.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes all creates, renames and removes in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that may still be written below `dir`, as far as the system tells.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// Locks a file (made if missing) for as long as the returned value lives; `None` when somebody else holds it.
    fn try_lock(&self, path: &Path) -> io::Result<Option<DiskLock>>;
}

/// An open file. It stays usable after its name was removed or renamed.
#[expect(clippy::len_without_is_empty, reason = "a file's length is asked for to find its end, not to learn whether it is empty")]
pub trait DiskFile: Send + Sync + 'static {
    /// Reads up to `out.len()` bytes from `offset`; less at the end of the file, 0 beyond it.
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `data` at `offset`; a gap before it reads as zeros. On an error any part may have been written.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// How much of the disk it takes, in bytes: less than its length where it was never written.
    fn allocated_bytes(&self) -> io::Result<u64> {
        self.len()
    }
    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Makes content and length durable. After an error what was written before may be lost even if a later call
    /// succeeds, so the caller must stop.
    fn sync_data(&self) -> io::Result<()>;

    /// Fills `out` from `offset`, or fails with [`io::ErrorKind::UnexpectedEof`].
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < out.len() {
            match self.read_at(&mut out[done..], offset + done as u64)? {
                0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "file ends early")),
                count => done += count,
            }
        }
        Ok(())
    }
}

/// A held lock; dropping it unlocks.
pub struct DiskLock(#[expect(dead_code, reason = "held for its Drop")] Box<dyn Any + Send + Sync>);

impl DiskLock {
    /// Wraps whatever holds the lock.
    pub fn new(holder: impl Any + Send + Sync) -> DiskLock {
        DiskLock(Box::new(holder))
    }
}

impl std::fmt::Debug for DiskLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DiskLock")
    }
}

/// The ending of files that are being written; [`remove_temporary`] clears them away.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

/// Puts `bytes` into the file at `path` so that, whenever power is lost, it holds either what it held before or all of `bytes`.
///
/// Written under a temporary name in the same folder, synced, renamed, and the folder synced.
pub fn write_whole(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_name(path);
    if disk.exists(&temporary)? {
        disk.remove(&temporary)?;
    }
    let file = disk.open(&temporary, OpenMode::Create)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(parent(path))
}

/// Reads a small file; one longer than `bytes_max` is [`io::ErrorKind::FileTooLarge`].
pub fn read_whole(disk: &dyn Disk, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let length = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{length} bytes, at most {bytes_max} expected")));
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Removes what was being written in a folder when the process last ended.
pub fn remove_temporary(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let mut removed = false;
    for name in disk.list(dir)?.into_iter().filter(|name| name.ends_with(TEMPORARY_SUFFIX)) {
        disk.remove(&dir.join(name))?;
        removed = true;
    }
    if removed { disk.sync_dir(dir) } else { Ok(()) }
}

/// The name under which `path` is written until it is whole.
pub(crate) fn temporary_name(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY_SUFFIX);
    name.into()
}

/// The folder of a file.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

//! [`FsDisk`]: the operating system's files, for the owner only.
//!
//! Always: new files have mode 0600 and new folders 0700, whatever the umask; symbolic links are not followed.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use super::{Disk, DiskFile, DiskLock, OpenMode, parent};

const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;
const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct FsDisk;

impl Disk for FsDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        match std::fs::symlink_metadata(dir) {
            Ok(found) if found.is_symlink() => return Err(io::Error::new(io::ErrorKind::InvalidInput, "is a symbolic link")),
            Ok(found) if !found.is_dir() => return Err(io::Error::new(io::ErrorKind::NotADirectory, "is not a folder")),
            Ok(found) if found.permissions().mode() & 0o077 == 0 => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let above = parent(dir);
                if !above.try_exists()? {
                    self.create_dir_all(above)?;
                }
                match DirBuilder::new().mode(DIR_MODE).create(dir) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    _ => {}
                }
                self.sync_dir(above)?;
            }
            Err(error) => return Err(error),
        }
        std::fs::set_permissions(dir, Permissions::from_mode(DIR_MODE))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(FILE_MODE).custom_flags(NO_FOLLOW);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => _ = options.write(true),
            OpenMode::Create => _ = options.write(true).create_new(true),
        }
        let file = options.open(path)?;
        if mode == OpenMode::Create {
            file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        }
        Ok(Arc::new(FsFile(file)))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match std::fs::symlink_metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let name = entry?.file_name();
            names.push(
                name.into_string()
                    .map_err(|name| io::Error::new(io::ErrorKind::InvalidData, format!("file name {name:?} is not UTF-8")))?,
            );
        }
        names.sort_unstable();
        Ok(names)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the Disk that the ban points to")]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the Disk that the ban points to")]
    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE).custom_flags(NO_FOLLOW);
        let file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(DiskLock::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

struct FsFile(File);

impl DiskFile for FsFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(out, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        // Blocks of 512 bytes, whatever the file system's own are (stat(2)).
        Ok(self.0.metadata()?.blocks().saturating_mul(512))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_for_the_owner_only() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        FsDisk.create_dir_all(&dir).unwrap();
        FsDisk.open(&dir.join("f"), OpenMode::Create).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&root.path().join("a")), mode(&dir), mode(&dir.join("f"))), (0o700, 0o700, 0o600));

        std::fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        FsDisk.create_dir_all(&dir).unwrap();
        assert_eq!(mode(&dir), 0o700, "an open folder is closed");
    }

    #[test]
    fn symbolic_links_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let (target, link) = (root.path().join("target"), root.path().join("link"));
        FsDisk.open(&target, OpenMode::Create).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for mode in [OpenMode::Read, OpenMode::Write, OpenMode::Create] {
            assert!(FsDisk.open(&link, mode).is_err(), "{mode:?}");
        }
        std::os::unix::fs::symlink(root.path(), root.path().join("dirlink")).unwrap();
        assert!(FsDisk.create_dir_all(&root.path().join("dirlink")).is_err());
        assert!(FsDisk.try_lock(&link).is_err());
    }

    #[test]
    fn a_lock_has_one_holder() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let held = FsDisk.try_lock(&path).unwrap();
        assert!(held.is_some());
        assert!(FsDisk.try_lock(&path).unwrap().is_none());
        drop(held);
        assert!(FsDisk.try_lock(&path).unwrap().is_some());
    }

    #[test]
    fn behaves_like_the_memory_disk() {
        let root = tempfile::tempdir().unwrap();
        crate::disk::memory::tests::disk_contract(&FsDisk, root.path());
    }
}

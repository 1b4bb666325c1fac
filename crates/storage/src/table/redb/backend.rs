//! redb's file, by way of [`Disk`].
//!
//! Always: a failed sync is marked beside the file, so that no later process trusts it. Knows nothing of what redb writes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::redb::StorageBackend;

use crate::disk::{Disk, DiskFile, OpenMode};

/// redb's file, by way of [`Disk`]. The data folder's lock keeps other processes away, so it has none of its own.
///
/// After a failed sync the system may show pages that never reached the disk, to this process and to the next. So the
/// failure is marked beside the file: not durably, for a power loss takes the pages and, it may be, the mark.
pub(super) struct Backend {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) failed_mark: PathBuf,
}

/// The mark of a table's file.
pub(super) fn failed_mark(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".failed");
    name.into()
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Backend")
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().inspect_err(|error| {
            tracing::error!(file = %self.failed_mark.display(), %error, "table's sync failed");
            if let Err(error) = self.disk.open(&self.failed_mark, OpenMode::Create)
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                tracing::error!(file = %self.failed_mark.display(), %error, "the failure could not be marked");
            }
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(data, offset)
    }
}

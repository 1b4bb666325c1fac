//! The file device: JSON lines, appended and synced by one thread, many records in one sync.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crypto::MacKey;
use tokio::sync::{mpsc, oneshot};

/// Records that wait for the device, at most; further requests wait for a place.
const QUEUE_MAX: usize = 4096;
/// Bytes that go into one write, about.
const WRITE_BYTES_MAX: usize = 4 * 1024 * 1024;

struct Line {
    text: Vec<u8>,
    reply: oneshot::Sender<io::Result<()>>,
}

/// An open file device. Dropped, it writes what waits and ends.
pub(crate) struct FileDevice {
    key: MacKey,
    queue: Option<mpsc::Sender<Line>>,
}

impl FileDevice {
    /// Opens the file in a thread of its own. A file that cannot be opened makes every record fail, until it can.
    pub(crate) fn open(path: PathBuf, key: MacKey) -> FileDevice {
        let (queue, inbox) = mpsc::channel(QUEUE_MAX);
        let spawned = std::thread::Builder::new().name("audit".into()).spawn(move || run(&path, inbox));
        if let Err(error) = &spawned {
            tracing::error!(%error, "no thread for an audit device");
        }
        FileDevice { key, queue: spawned.is_ok().then_some(queue) }
    }

    pub(crate) fn key(&self) -> &MacKey {
        &self.key
    }

    /// Appends a line; returns once it is on stable storage. When the call is dropped, the line may still be written.
    pub(crate) async fn write(&self, text: Vec<u8>) -> io::Result<()> {
        let gone = || io::Error::other("the audit device has no thread");
        let (reply, written) = oneshot::channel();
        self.queue.as_ref().ok_or_else(gone)?.send(Line { text, reply }).await.map_err(|_| gone())?;
        written.await.map_err(|_| gone())?
    }
}

/// Whether records could be written to `path`: creates the file if it is not there. Asked before a device is enabled.
pub(crate) fn probe(path: &Path) -> io::Result<()> {
    open(path).map(drop)
}

/// Opens the file so that the next line begins at the start of one, and so that the file itself outlives a power loss.
fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::OFlags;
    // A link is not followed; a pipe without a reader is an error at once, instead of a wait for ever.
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    if kind.is_fifo() || kind.is_block_device() || kind.is_char_device() || kind.is_socket() {
        return Err(io::Error::other("not a regular file"));
    }
    if metadata.len() == 0 {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
    } else {
        let mut last = [0];
        file.read_exact_at(&mut last, metadata.len() - 1)?;
        if last != *b"\n" {
            // A line was cut off by a full disk or a crash: it must not swallow the next one.
            (&file).write_all(b"\n")?;
        }
    }
    Ok(file)
}

fn run(path: &Path, mut inbox: mpsc::Receiver<Line>) {
    let mut file: Option<File> = None;
    let mut bytes = Vec::new();
    let mut replies = Vec::new();
    while let Some(first) = inbox.blocking_recv() {
        bytes.clear();
        let mut next = Some(first);
        while let Some(line) = next {
            bytes.extend_from_slice(&line.text);
            replies.push(line.reply);
            next = if bytes.len() < WRITE_BYTES_MAX { inbox.try_recv().ok() } else { None };
        }
        let result = append(path, &mut file, &bytes);
        for reply in replies.drain(..) {
            // An io::Error cannot be cloned: each waiter gets one like it.
            let result = match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            // The request may have gone; its record stays.
            let _ = reply.send(result);
        }
    }
}

fn append(path: &Path, file: &mut Option<File>, bytes: &[u8]) -> io::Result<()> {
    let open_file = match file.take() {
        // A deleted file takes records that nobody will ever read. (A renamed one does not: that is how files are rotated.)
        Some(file) if file.metadata()?.nlink() > 0 => file,
        _ => open(path)?,
    };
    (&open_file).write_all(bytes)?;
    open_file.sync_data()?;
    // Only a file that works is kept open; after an error it is opened anew, which ends a torn line.
    *file = Some(open_file);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(path: &Path) -> FileDevice {
        FileDevice::open(path.to_owned(), MacKey::new(&[1; 32]))
    }

    #[tokio::test]
    async fn lines_are_in_the_file_when_the_write_returns() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let device = device(&path);
        device.write(b"one\n".to_vec()).await.unwrap();
        device.write(b"two\n".to_vec()).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_deleted_file_is_made_again_and_a_deleted_folder_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("audit");
        let path = folder.join("audit.log");
        std::fs::create_dir(&folder).unwrap();
        let device = device(&path);
        device.write(b"one\n".to_vec()).await.unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(device.write(b"two\n".to_vec()).await.is_err());
        std::fs::create_dir(&folder).unwrap();
        device.write(b"three\n".to_vec()).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"three\n");
    }

    #[tokio::test]
    async fn what_is_no_regular_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(device(&dir.path().join("no/such/folder/audit.log")).write(b"x\n".to_vec()).await.is_err());
        assert!(device(Path::new("/dev/null")).write(b"x\n".to_vec()).await.is_err());
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(device(&link).write(b"x\n".to_vec()).await.is_err(), "a link is not followed");
    }

    #[test]
    fn a_pipe_without_a_reader_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(probe(&pipe).is_err()));
        assert_eq!(receiver.recv_timeout(std::time::Duration::from_secs(5)), Ok(true));
    }

    #[tokio::test]
    async fn a_line_after_a_torn_one_stands_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        OpenOptions::new().create(true).append(true).open(&path).unwrap().write_all(b"{\"torn").unwrap();
        device(&path).write(b"{}\n".to_vec()).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"torn\n{}\n");
    }
}

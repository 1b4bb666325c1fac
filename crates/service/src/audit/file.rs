//! The file of a device: appends whole lines to whatever file has the path, and makes them durable.
//!
//! Always: a line begins at the start of one, whatever a crash or a full disk has cut off; the file is a regular one, no link is
//! followed, and it holds audit records or nothing; a file that was deleted, renamed or replaced is noticed before a line goes
//! to it. Several processes may append to one file: they take turns by its lock. Knows nothing of records.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};
use rustix::io::Errno;

use super::options::Target;

/// The permissions of a file that is made.
const MODE_NEW: u32 = 0o600;
/// How often a line is written again because its file was deleted meanwhile.
const ATTEMPTS_MAX: u32 = 4;
/// Room that there must be before a device is turned on, in bytes.
const ROOM_BYTES: u64 = 64 * 1024;

/// Where lines go. Opened when it is first needed, and again whenever it failed or its file is another.
pub(super) enum Sink {
    File(LogFile),
    Stdout,
}

impl Sink {
    /// `prefix` stands before each line.
    pub(super) fn new(target: &Target, prefix: &str) -> Sink {
        match target {
            Target::File { path, mode } => Sink::File(LogFile { path: path.clone(), mode: *mode, prefix: prefix.into(), open: None }),
            Target::Stdout => Sink::Stdout,
        }
    }

    /// Writes whole lines; with `sync`, returns once they are on stable storage.
    ///
    /// After an error some of them may have been written.
    pub(super) fn append(&mut self, lines: &[u8], sync: bool) -> io::Result<()> {
        match self {
            Sink::File(file) => file.append(lines, sync),
            Sink::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines)?;
                stdout.flush()
            }
        }
    }

    /// Closes the file; the next line opens it anew.
    pub(super) fn close(&mut self) {
        if let Sink::File(file) = self {
            file.open = None;
        }
    }

    /// Whether lines can be written: opens the file, makes it if it is not there, and asks for room.
    pub(super) fn probe(&mut self) -> io::Result<()> {
        let Sink::File(file) = self else { return Ok(()) };
        let open = file.open()?;
        match rustix::fs::fallocate(&open, FallocateFlags::KEEP_SIZE, open.metadata()?.len(), ROOM_BYTES) {
            // Not every file system can be asked.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A file that lines are appended to.
pub(super) struct LogFile {
    path: PathBuf,
    /// `None` keeps the permissions that the file has.
    mode: Option<u32>,
    prefix: Vec<u8>,
    open: Option<File>,
}

impl LogFile {
    fn append(&mut self, lines: &[u8], sync: bool) -> io::Result<()> {
        for _ in 0..ATTEMPTS_MAX {
            // Kept open only while all is well: after an error it is opened, and looked at, anew.
            let file = match self.open.take() {
                Some(file) if self.has_path(&file)? => file,
                _ => self.open()?,
            };
            write_lines(&file, lines)?;
            if sync {
                file.sync_data()?;
            }
            // What was written to a deleted file nobody will ever read.
            let is_there = file.metadata()?.nlink() > 0;
            self.open = Some(file);
            if is_there {
                return Ok(());
            }
        }
        Err(io::Error::other("the file is deleted again and again"))
    }

    /// Whether the path still leads to this file.
    fn has_path(&self, file: &File) -> io::Result<bool> {
        let own = file.metadata()?;
        match fs::symlink_metadata(&self.path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (own.dev(), own.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Opens the file so that it outlives a power loss, and refuses what is no audit file.
    fn open(&self) -> io::Result<File> {
        // A link is not followed; a pipe without a reader is an error at once, instead of a wait for ever.
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).map_err(io::Error::other)?;
        let mut options = OpenOptions::new();
        let options = options.create(true).read(true).append(true).mode(self.mode.unwrap_or(MODE_NEW)).custom_flags(flags);
        let file = options.open(&self.path).map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::LOOP) => io::Error::other("a symbolic link (name the file that it leads to)"),
            _ => error,
        })?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file (for standard output the path is \"stdout\")"));
        }
        if metadata.len() == 0 {
            sync_folder(&self.path)?;
        } else if !self.holds_records(&file)? {
            return Err(io::Error::other("the file holds something else than this device's records (move it away, or name another)"));
        }
        if let Some(mode) = self.mode.filter(|mode| metadata.permissions().mode() & 0o7777 != *mode) {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        Ok(file)
    }

    /// Whether the file begins as a record does: a wrong path must not spoil a file that somebody needs.
    fn holds_records(&self, file: &File) -> io::Result<bool> {
        let mut begin = vec![0; self.prefix.len() + 1];
        let read = file.read_at(&mut begin, 0)?;
        let record = [&self.prefix[..], b"{"].concat();
        // A first record may be torn; that leaves a newline behind it.
        Ok(begin[..read] == record || begin[..read].split(|byte| *byte == b'\n').next().is_some_and(|begin| record.starts_with(begin)))
    }
}

/// Appends under the file's lock, on a line of its own.
fn write_lines(mut file: &File, lines: &[u8]) -> io::Result<()> {
    rustix::fs::flock(file, FlockOperation::LockExclusive)?;
    let written = end_line(file).and_then(|()| file.write_all(lines));
    rustix::fs::flock(file, FlockOperation::Unlock)?;
    written
}

/// Ends a line that was cut off by a full disk or a crash: it must not swallow the next one.
fn end_line(mut file: &File) -> io::Result<()> {
    let bytes = file.metadata()?.len();
    let mut last = [b'\n'];
    if bytes > 0 {
        file.read_exact_at(&mut last, bytes - 1)?;
    }
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "test files need not be durable")]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Folder {
            Folder(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn sink(&self, name: &str) -> Sink {
            Sink::new(&Target::File { path: self.path(name), mode: Some(0o600) }, "")
        }

        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.path(name)).unwrap()
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_renamed_file_is_left_and_a_new_one_made() {
        let folder = Folder::new();
        let mut sink = folder.sink("a");
        sink.append(b"{1}\n", true).unwrap();
        fs::rename(folder.path("a"), folder.path("a.1")).unwrap();
        sink.append(b"{2}\n", true).unwrap();
        assert_eq!((folder.text("a.1"), folder.text("a")), ("{1}\n".into(), "{2}\n".into()));
    }

    #[test]
    fn a_replaced_file_is_written_and_one_that_is_none_refused() {
        let folder = Folder::new();
        let mut sink = folder.sink("a");
        sink.append(b"{1}\n", true).unwrap();
        fs::write(folder.path("b"), "{b}\n").unwrap();
        fs::rename(folder.path("b"), folder.path("a")).unwrap();
        sink.append(b"{2}\n", true).unwrap();
        assert_eq!(folder.text("a"), "{b}\n{2}\n");
        fs::remove_file(folder.path("a")).unwrap();
        std::os::unix::fs::symlink(folder.path("c"), folder.path("a")).unwrap();
        assert!(sink.append(b"{3}\n", true).unwrap_err().to_string().contains("symbolic link"));
        assert!(!folder.path("c").exists(), "a link is not followed");
        fs::remove_file(folder.path("a")).unwrap();
        sink.append(b"{3}\n", true).unwrap();
        assert_eq!(folder.text("a"), "{3}\n");
    }

    #[test]
    fn a_closed_file_is_opened_again() {
        let folder = Folder::new();
        let mut sink = folder.sink("a");
        sink.append(b"{1}\n", false).unwrap();
        sink.close();
        sink.append(b"{2}\n", false).unwrap();
        assert_eq!(folder.text("a"), "{1}\n{2}\n");
    }

    #[test]
    fn a_deleted_folder_is_an_error_until_it_is_back() {
        let folder = Folder::new();
        fs::create_dir(folder.path("d")).unwrap();
        let mut sink = folder.sink("d/a");
        sink.append(b"{1}\n", true).unwrap();
        fs::remove_dir_all(folder.path("d")).unwrap();
        assert!(sink.append(b"{2}\n", true).is_err());
        fs::create_dir(folder.path("d")).unwrap();
        sink.append(b"{3}\n", true).unwrap();
        assert_eq!(folder.text("d/a"), "{3}\n");
    }

    #[test]
    fn permissions_are_those_that_were_asked_for() {
        let folder = Folder::new();
        folder.sink("a").append(b"{1}\n", true).unwrap();
        assert_eq!(mode(&folder.path("a")), 0o600);
        let with_mode = |mode| Sink::new(&Target::File { path: folder.path("a"), mode }, "");
        with_mode(Some(0o640)).append(b"{2}\n", true).unwrap();
        assert_eq!(mode(&folder.path("a")), 0o640, "an existing file gets them too");
        with_mode(None).append(b"{3}\n", true).unwrap();
        assert_eq!(mode(&folder.path("a")), 0o640, "kept");
        Sink::new(&Target::File { path: folder.path("b"), mode: None }, "").append(b"{1}\n", true).unwrap();
        assert_eq!(mode(&folder.path("b")), 0o600, "a new file is nobody else's");
    }

    #[test]
    fn a_line_after_a_torn_one_stands_by_itself() {
        let folder = Folder::new();
        fs::write(folder.path("a"), "{\"torn").unwrap();
        let mut sink = folder.sink("a");
        sink.append(b"{1}\n", true).unwrap();
        // Another process, say, that died while it wrote.
        OpenOptions::new().append(true).open(folder.path("a")).unwrap().write_all(b"{\"tor").unwrap();
        sink.append(b"{2}\n", true).unwrap();
        assert_eq!(folder.text("a"), "{\"torn\n{1}\n{\"tor\n{2}\n");
    }

    #[test]
    fn a_file_of_something_else_is_not_spoiled() {
        let folder = Folder::new();
        for (prefix, content, fits) in [
            ("", "ssh-ed25519 AAAA\n", false),
            ("", "\0\0\0\u{1}", false),
            ("", "\n", true),
            ("", "{\"time\"", true),
            ("", "{", true),
            ("p: ", "{\"time\"", false),
            ("p: ", "p: {\"time\"", true),
            ("p: ", "p:", true),
            ("p: ", "p:\np: {", true),
            ("p: ", "p: x{", false),
        ] {
            fs::write(folder.path("a"), content).unwrap();
            let mut sink = Sink::new(&Target::File { path: folder.path("a"), mode: Some(0o600) }, prefix);
            assert_eq!((sink.probe().is_ok(), sink.append(b"{}\n", true).is_ok()), (fits, fits), "{prefix:?} {content:?}");
            assert_eq!(folder.text("a") == content, !fits, "{prefix:?} {content:?}");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = Folder::new();
        let pipe = folder.path("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        std::os::unix::fs::symlink(folder.path("target"), folder.path("link")).unwrap();
        for path in [pipe, folder.path("link"), "/dev/null".into(), folder.0.path().to_owned(), folder.path("no/such/folder")] {
            let (sender, receiver) = std::sync::mpsc::channel();
            let mut sink = Sink::new(&Target::File { path: path.clone(), mode: Some(0o600) }, "");
            std::thread::spawn(move || sender.send(sink.probe().is_err() && sink.append(b"{}\n", true).is_err()));
            assert_eq!(receiver.recv_timeout(std::time::Duration::from_secs(5)), Ok(true), "{path:?}");
        }
    }

    #[test]
    fn writers_of_one_file_do_not_mix_their_lines() {
        let folder = Folder::new();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let mut sink = folder.sink("a");
                scope.spawn(move || {
                    for line in 0..100 {
                        sink.append(format!("{{{writer}-{line}-{}}}\n", "x".repeat(5000)).as_bytes(), false).unwrap();
                    }
                });
            }
        });
        let text = folder.text("a");
        assert_eq!(text.lines().count(), 400);
        assert!(text.lines().all(|line| line.starts_with('{') && line.ends_with("x}")));
    }
}

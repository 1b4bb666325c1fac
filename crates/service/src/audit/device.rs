//! The file device: one thread appends what waits, many records in one write and one sync (group commit).
//!
//! Always: a record counts once its line is written and, with `sync`, on stable storage; what waits is bounded in lines and in
//! bytes; nobody waits longer than [`RECORD_DURATION_MAX`]. A device that hangs makes nobody wait until it moves again: records
//! still go to it while there is room, but do not count.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crypto::MacKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::file::Sink;
use super::options::DeviceOptions;
use super::record::{AuditedHeaders, Event, JournalEvent};
use super::redact::Redaction;

/// How long a record may wait for a device; then the device counts as failed for it.
pub const RECORD_DURATION_MAX: Duration = Duration::from_secs(10);
/// Lines that wait for the device, at most; further ones wait for a place.
const QUEUE_LINES_MAX: usize = 4096;
/// What waits for the device, at most, in units of 1024 bytes. A single line may be larger than that.
const QUEUE_KIB_MAX: u32 = 64 * 1024;
/// Bytes that go into one write, about.
const WRITE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a record was not written, or may not have been.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum WriteError {
    /// The device never worked: its options make no sense to this version, or there was no thread for it.
    #[error("{0}")]
    Unusable(Arc<str>),
    #[error("the device's thread has ended")]
    Gone,
    #[error("nothing was written for {} s", .0.as_secs())]
    TookTooLong(Duration),
    #[error("an earlier write still hangs")]
    Hangs,
    #[error("write")]
    Io(#[source] Arc<io::Error>),
}

enum Message {
    Line {
        text: Vec<u8>,
        reply: oneshot::Sender<Result<(), Arc<io::Error>>>,
        _room: OwnedSemaphorePermit,
    },
    /// Nothing to write: look at the flags.
    Wake,
}

/// What the device and its thread share.
#[derive(Default)]
struct Flags {
    /// The file is to be closed and opened anew before the next write.
    reopen: AtomicBool,
    /// Somebody waited in vain, and nothing has been written since.
    hangs: AtomicBool,
}

/// An open file device. Dropped, it writes what waits and ends.
pub(crate) struct FileDevice {
    /// Where it is mounted, for traces.
    path: String,
    redaction: Redaction,
    prefix: String,
    room: Arc<Semaphore>,
    flags: Arc<Flags>,
    queue: Result<mpsc::Sender<Message>, Arc<str>>,
    /// How long a record waits.
    patience: Duration,
    fails: AtomicBool,
    failures: AtomicU64,
}

impl FileDevice {
    /// Starts the device's thread, which opens the file. A file that cannot be opened makes every record fail, until it can.
    pub(crate) fn open(path: &str, options: &DeviceOptions, key: MacKey) -> FileDevice {
        let sink = Sink::new(&options.target, &options.prefix);
        if options.log_raw {
            tracing::warn!(device = path, "an audit device writes tokens and secrets in clear (log_raw)");
        }
        FileDevice::start(path, options, key, sink)
    }

    fn start(path: &str, options: &DeviceOptions, key: MacKey, sink: Sink) -> FileDevice {
        let flags = Arc::<Flags>::default();
        let (queue, inbox) = mpsc::channel(QUEUE_LINES_MAX);
        let (shared, sync) = (Arc::clone(&flags), options.sync);
        let spawned = std::thread::Builder::new().name("audit".into()).spawn(move || run(sink, sync, &shared, inbox));
        let redaction = Redaction {
            key,
            log_raw: options.log_raw,
            hmac_accessor: options.hmac_accessor,
            elide_list_responses: options.elide_list_responses,
        };
        let queue = spawned.map(|_| queue).map_err(|error| format!("no thread for the device: {error}").into());
        FileDevice::with(path, redaction, options.prefix.clone(), flags, queue)
    }

    /// A device that takes no record, and says why.
    pub(crate) fn unusable(path: &str, key: MacKey, why: &str) -> FileDevice {
        let redaction = Redaction { key, log_raw: false, hmac_accessor: true, elide_list_responses: false };
        FileDevice::with(path, redaction, String::new(), Arc::default(), Err(why.into()))
    }

    fn with(
        path: &str,
        redaction: Redaction,
        prefix: String,
        flags: Arc<Flags>,
        queue: Result<mpsc::Sender<Message>, Arc<str>>,
    ) -> FileDevice {
        let room = Arc::new(Semaphore::new(QUEUE_KIB_MAX as usize));
        FileDevice {
            path: path.into(),
            redaction,
            prefix,
            room,
            flags,
            queue,
            patience: RECORD_DURATION_MAX,
            fails: AtomicBool::new(false),
            failures: AtomicU64::new(0),
        }
    }

    /// Records that this device did not take.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Has the file closed and opened anew, so that a renamed one is let go.
    pub(crate) fn reopen(&self) {
        self.flags.reopen.store(true, Ordering::Release);
        if let Ok(queue) = &self.queue {
            // With a full queue the thread is awake anyway.
            let _ = queue.try_send(Message::Wake);
        }
    }

    /// Takes a record; true once it counts. A failure is traced when the device begins to fail, not for each record.
    ///
    /// When the call is dropped, or fails, the record may still be written.
    pub(crate) async fn record(&self, event: &Event<'_>, headers: &AuditedHeaders) -> bool {
        self.take(event.line(&self.prefix, &self.redaction, headers)).await
    }

    /// Takes a record of the journal, as [`FileDevice::record`] does one of a request.
    pub(crate) async fn record_journal(&self, event: &JournalEvent<'_>) -> bool {
        self.take(event.line(&self.prefix)).await
    }

    async fn take(&self, line: Vec<u8>) -> bool {
        let written = self.write(line).await;
        match &written {
            Ok(()) if self.fails.swap(false, Ordering::Relaxed) => tracing::info!(device = self.path, "an audit device works again"),
            Ok(()) => {}
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                if !self.fails.swap(true, Ordering::Relaxed) {
                    let cause = std::error::Error::source(error).map(ToString::to_string);
                    tracing::error!(device = self.path, %error, cause, "an audit device fails");
                }
            }
        }
        written.is_ok()
    }

    async fn write(&self, text: Vec<u8>) -> Result<(), WriteError> {
        let queue = self.queue.as_ref().map_err(|why| WriteError::Unusable(Arc::clone(why)))?;
        let kib = u32::try_from(text.len().div_ceil(1024)).unwrap_or(u32::MAX).min(QUEUE_KIB_MAX);
        let (reply, written) = oneshot::channel();
        let room = Arc::clone(&self.room);
        if self.flags.hangs.load(Ordering::Acquire) {
            if let Ok(room) = room.try_acquire_many_owned(kib) {
                let _ = queue.try_send(Message::Line { text, reply, _room: room });
            }
            return Err(WriteError::Hangs);
        }
        let queued_and_written = async {
            let room = room.acquire_many_owned(kib).await.map_err(|_| WriteError::Gone)?;
            queue.send(Message::Line { text, reply, _room: room }).await.map_err(|_| WriteError::Gone)?;
            written.await.map_err(|_| WriteError::Gone)?.map_err(WriteError::Io)
        };
        match tokio::time::timeout(self.patience, queued_and_written).await {
            Ok(written) => written,
            Err(_) => {
                // Should the thread have moved just now, it will say so again after the next record.
                self.flags.hangs.store(true, Ordering::Release);
                Err(WriteError::TookTooLong(self.patience))
            }
        }
    }
}

fn run(mut sink: Sink, sync: bool, flags: &Flags, mut inbox: mpsc::Receiver<Message>) {
    let mut bytes = Vec::new();
    let mut waiting = Vec::new();
    while let Some(first) = inbox.blocking_recv() {
        if flags.reopen.swap(false, Ordering::AcqRel) {
            sink.close();
        }
        let mut next = Some(first);
        while let Some(message) = next {
            if let Message::Line { text, reply, _room } = message {
                bytes.extend_from_slice(&text);
                waiting.push((reply, _room));
            }
            next = if bytes.len() < WRITE_BYTES_MAX { inbox.try_recv().ok() } else { None };
        }
        if waiting.is_empty() {
            continue;
        }
        let result = sink.append(&bytes, sync).map_err(Arc::new);
        flags.hangs.store(false, Ordering::Release);
        for (reply, _room) in waiting.drain(..) {
            // The request may have gone; its record stays.
            let _ = reply.send(result.clone());
        }
        bytes.clear();
        bytes.shrink_to(WRITE_BYTES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use types::{RequestId, Timestamp};
    use uuid::Uuid;

    use super::super::options::Target;
    use super::super::record::{Asked, Auth};
    use super::*;

    fn options(path: &Path, sync: bool) -> DeviceOptions {
        let target = Target::File { path: path.to_owned(), mode: Some(0o600) };
        DeviceOptions { target, sync, log_raw: false, hmac_accessor: true, elide_list_responses: false, prefix: String::new() }
    }

    fn device(path: &Path) -> FileDevice {
        FileDevice::open("file/", &options(path, true), MacKey::new(&[1; 32]))
    }

    fn event(path: &str) -> Event<'_> {
        let request = Asked::new(RequestId(Uuid::nil()), "read", path);
        Event { time: Timestamp(0), auth: Auth::default(), request, response: None, error: None }
    }

    async fn record(device: &FileDevice, path: &str) -> bool {
        device.record(&event(path), &AuditedHeaders::new()).await
    }

    fn paths(file: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(file).unwrap();
        let path = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["request"]["path"].as_str().unwrap().to_owned();
        text.lines().map(path).collect()
    }

    #[tokio::test]
    async fn a_record_is_in_the_file_when_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.log");
        for sync in [true, false] {
            let device = FileDevice::open("file/", &options(&file, sync), MacKey::new(&[1; 32]));
            assert!(record(&device, "one").await && record(&device, "two").await);
        }
        assert_eq!(paths(&file), ["one", "two", "one", "two"]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_one_of_many_records_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.log");
        let device = Arc::new(device(&file));
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..16 {
            let device = Arc::clone(&device);
            writers.spawn(async move {
                for at in 0..50 {
                    assert!(record(&device, &format!("{writer}-{at}")).await);
                }
            });
        }
        while let Some(writer) = writers.join_next().await {
            writer.unwrap();
        }
        let mut seen = paths(&file);
        seen.sort();
        let mut want: Vec<String> = (0..16).flat_map(|writer| (0..50).map(move |at| format!("{writer}-{at}"))).collect();
        want.sort();
        assert_eq!(seen, want);
    }

    #[tokio::test]
    async fn a_failure_is_counted_and_ends_when_its_cause_does() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("none").join("audit.log");
        let device = device(&file);
        assert!(!record(&device, "a").await && !record(&device, "b").await);
        assert_eq!(device.failures(), 2);
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        assert!(record(&device, "c").await);
        assert_eq!((device.failures(), paths(&file)), (2, vec!["c".to_owned()]));
        assert!(!record(&FileDevice::unusable("x/", MacKey::new(&[1; 32]), "why"), "d").await);
    }

    #[tokio::test]
    async fn a_reopened_device_lets_a_file_go() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.log");
        let device = device(&file);
        assert!(record(&device, "a").await);
        let is_open = || {
            let held = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
            held.into_iter().any(|target| target == file)
        };
        assert!(is_open());
        device.reopen();
        let begun = Instant::now();
        while is_open() {
            assert!(begun.elapsed() < Duration::from_secs(5), "the file is not let go");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(record(&device, "b").await);
        assert_eq!(paths(&file), ["a", "b"]);
    }

    /// Another process holds the file's lock: the write hangs, as it would on a disk that does not answer.
    #[tokio::test]
    async fn a_device_that_hangs_holds_nobody_for_ever_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut device = device(&path);
        assert!(record(&device, "before").await);
        let holder = std::fs::File::open(&path).unwrap();
        rustix::fs::flock(&holder, rustix::fs::FlockOperation::LockExclusive).unwrap();
        device.patience = Duration::from_millis(100);
        assert!(!record(&device, "hangs").await, "it is given up");
        device.patience = Duration::from_secs(600);
        for _ in 0..QUEUE_LINES_MAX + 10 {
            assert!(!record(&device, "meanwhile").await, "now nobody waits at all");
        }
        rustix::fs::flock(&holder, rustix::fs::FlockOperation::Unlock).unwrap();
        let begun = Instant::now();
        while !record(&device, "after").await {
            assert!(begun.elapsed() < Duration::from_secs(5), "the device works again and is not used");
            std::thread::sleep(Duration::from_millis(1));
        }
        let seen = paths(&path);
        assert_eq!((&*seen[0], &*seen[1], &**seen.last().unwrap()), ("before", "hangs", "after"));
        assert!(seen.iter().filter(|path| *path == "meanwhile").count() >= QUEUE_LINES_MAX, "what fitted was kept");
    }

    /// By hand: `cargo test -p service --release -- --ignored --nocapture records_a_second`. Set AUDIT_FOLDER to measure another disk.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "a measurement, not a test"]
    async fn records_a_second() {
        let folder = std::env::var_os("AUDIT_FOLDER").map(std::path::PathBuf::from).unwrap_or_else(std::env::temp_dir);
        for (what, sync, writers) in [
            ("one sync a record", true, 1),
            ("64 waiters, sync", true, 64),
            ("1 waiter, no sync", false, 1),
            ("64 waiters, no sync", false, 64),
        ] {
            let dir = tempfile::tempdir_in(&folder).unwrap();
            let file = dir.path().join("audit.log");
            let device = Arc::new(FileDevice::open("file/", &options(&file, sync), MacKey::new(&[1; 32])));
            let (begun, mut tasks) = (Instant::now(), tokio::task::JoinSet::new());
            let records = Arc::new(AtomicU64::new(0));
            for _ in 0..writers {
                let (device, records) = (Arc::clone(&device), Arc::clone(&records));
                tasks.spawn(async move {
                    let body = crypto::SecretBytes::from(br#"{"data":{"user":"u","password":"0123456789abcdef"}}"#.to_vec());
                    while begun.elapsed() < Duration::from_secs(3) {
                        let mut event = event("secret/data/app");
                        event.request.data = Some(&body);
                        event.auth.client_token = Some(b"hvs.0123456789abcdef");
                        assert!(device.record(&event, &AuditedHeaders::new()).await);
                        records.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            tasks.join_all().await;
            println!("{what}: {:.0} records/s", records.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64());
        }
    }
}

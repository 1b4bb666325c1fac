//! The durable log of Raft: entries, vote and pointers in one ordered stream of frames.
//!
//! Always: what [`Log`] is told is done in that order, and reported done only after `fdatasync`; several waiting calls share
//! one write and one sync. After the first failed write or sync nothing is ever reported done again: the caller ends the
//! process. At open only frames that were never reported done may be cut off the end; anything else that is wrong is an
//! [`OpenError::Corrupt`] with file and offset.
//! Knows nothing of what entries and votes mean, nor of threads: [`Flusher`] is run by whoever likes.

mod flusher;
mod frame;
mod open;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use bytes::Bytes;
use types::{Index, Position, Term};

use crate::disk::{Disk, DiskFile};
use frame::{ENTRY_HEAD_BYTES, FRAME_HEAD_BYTES, FrameHead, Record, frame_is_intact};

pub use flusher::{Flusher, Step};
pub use frame::{ENTRY_BYTES_MAX, LOG_VERSION, VOTE_BYTES_MAX};

/// The most bytes that may wait to be written; a disk that falls further behind has failed.
pub const QUEUE_BYTES_MAX: usize = 512 << 20;
/// The largest [`LogOptions::segment_bytes`].
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// The most bytes read from a file at once, unless one entry is longer.
const READ_BYTES_MAX: usize = 1 << 20;

const LOCK: &str = "no code panics while it holds the log";

/// An entry as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its term and index.
    pub position: Position,
    /// Its content, at most [`ENTRY_BYTES_MAX`] bytes.
    pub payload: Bytes,
}

/// Is called once, when what it was given with is durable or will never be; from the flusher's thread or the caller's.
pub type Done = Box<dyn FnOnce(Result<(), LogFailure>) + Send>;

/// How a log is kept.
#[derive(Debug, Clone, Copy)]
pub struct LogOptions {
    /// A segment that has reached this many bytes is followed by a new one; at most [`SEGMENT_BYTES_MAX`].
    pub segment_bytes: u64,
    /// How many bytes of recent entries are kept in memory. Entries not yet written are always.
    pub cache_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions { segment_bytes: 32 << 20, cache_bytes: 16 << 20 }
    }
}

/// Why something was not, or will never be, done. After all but [`LogFailure::Refused`] the log takes nothing more.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogFailure {
    /// The caller's mistake; nothing was changed.
    #[error("log refuses: {0}")]
    Refused(String),
    /// The disk failed. What was not reported done before may or may not be there after a restart.
    #[error("{}: {source}", file.display())]
    Disk {
        /// The file that could not be written, synced or made.
        file: PathBuf,
        /// The disk's error.
        source: Arc<io::Error>,
    },
    /// The disk is so slow that [`QUEUE_BYTES_MAX`] bytes wait for it.
    #[error("{bytes} bytes wait to be written (at most {QUEUE_BYTES_MAX}): the disk is too slow or hangs")]
    Backlog {
        /// How many would wait.
        bytes: usize,
    },
    /// The flusher is gone.
    #[error("log is closed")]
    Closed,
}

/// Why a log did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file is not as it was written, in a place that was durable. Nothing was changed. The node must be rebuilt from its peers.
    #[error("{} is corrupt at byte {offset}: {what}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where the wrong part begins.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// A segment is not there though later ones, or the mark, say that it was.
    #[error("segment {} is missing", file.display())]
    Missing {
        /// The file that should be there.
        file: PathBuf,
    },
    /// Written by a newer release.
    #[error("{} has version {version}, this release reads up to {LOG_VERSION}", file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// The version found.
        version: u32,
    },
    /// The caller's mistake.
    #[error("segment size of {segment_bytes} bytes (must be 1 to {SEGMENT_BYTES_MAX})")]
    Options {
        /// The size asked for.
        segment_bytes: u64,
    },
    /// The disk failed.
    #[error("log file {}", file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// The disk's error.
        #[source]
        source: io::Error,
    },
}

/// Why entries could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The entry is not as it was written.
    #[error("{} is corrupt at byte {offset}: {what}", file.display())]
    Corrupt {
        /// The segment.
        file: PathBuf,
        /// Where the entry's frame begins.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The disk failed.
    #[error("log file {}", file.display())]
    Io {
        /// The segment.
        file: PathBuf,
        /// The disk's error.
        #[source]
        source: io::Error,
    },
}

/// Where a log begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogBounds {
    /// The last purged entry.
    pub purged: Option<Position>,
    /// The last entry, or `purged` when there is none.
    pub last: Option<Position>,
}

/// Counts, since the log was opened unless they are sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogStats {
    /// The length of all segments, in bytes.
    pub bytes: u64,
    /// How many segments there are.
    pub segments: u64,
    /// Rounds of the flusher that ended with a sync.
    pub rounds: u64,
    /// Syncs of segments; more than `rounds` by those for roll-overs.
    pub syncs: u64,
    /// Frames written: `frames / rounds` tells how well calls share syncs.
    pub frames: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Payload bytes of entries in memory.
    pub cached_bytes: usize,
    /// Payload bytes that wait to be written.
    pub queued_bytes: usize,
}

/// A handle to the log. Cheap to clone; the log closes, and its flusher ends, when the last one is gone.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
    _open: Arc<OpenHandle>,
}

struct OpenHandle(Arc<Shared>);

impl Drop for OpenHandle {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.wake();
    }
}

/// What handles and flusher share.
struct Shared {
    inner: Mutex<Inner>,
    /// Told when something was queued or the log was closed.
    queued: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect(LOCK)
    }

    fn wake(&self) {
        self.queued.notify_all();
        let waker = self.lock().waker.clone();
        if let Some(waker) = waker {
            waker();
        }
    }
}

type Waker = Arc<dyn Fn() + Send + Sync>;

struct Inner {
    vote: Option<Bytes>,
    committed: Option<Position>,
    /// Whether `committed` has yet to be written.
    committed_dirty: bool,
    entries: Entries,
    segments: BTreeMap<u32, Arc<Segment>>,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    ticket_next: u64,
    failure: Option<LogFailure>,
    closed: bool,
    waker: Option<Waker>,
    stats: LogStats,
    cache_bytes_max: usize,
}

/// An open file of the log.
struct Segment {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
}

/// A call that waits for the flusher.
struct Queued {
    ticket: u64,
    action: Action,
    /// Payload bytes.
    bytes: usize,
    done: Done,
}

enum Action {
    Append(Vec<LogEntry>),
    Vote(Bytes),
    Truncate(Option<Position>),
    Purge(Position),
}

/// Where each entry is: terms and places of all, payloads of the last ones.
#[derive(Default)]
struct Entries {
    purged: Option<Position>,
    last: Option<Position>,
    /// One for each entry, oldest first, ending at `last`.
    slots: VecDeque<Slot>,
    /// The payloads of the last `cache.len()` entries.
    cache: VecDeque<Bytes>,
    cache_bytes: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    term: Term,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the call with this ticket.
    Queued(u64),
    /// A frame in a segment.
    Written { segment: u32, offset: u32, frame_bytes: u32 },
}

impl Entries {
    /// The index of the first slot. Only when there is one.
    fn first(&self) -> u64 {
        let last = self.last.expect("a slot makes a last entry");
        last.index.0 + 1 - self.slots.len() as u64
    }

    fn slot(&self, index: Index) -> Option<usize> {
        let at = index.0.checked_sub(if self.slots.is_empty() { return None } else { self.first() })?;
        usize::try_from(at).ok().filter(|at| *at < self.slots.len())
    }

    fn position(&self, index: Index) -> Option<Position> {
        self.slot(index).map(|at| Position { term: self.slots[at].term, index })
    }

    /// Why `position` cannot be appended.
    fn check_next(&self, position: Position) -> Result<(), String> {
        match self.last {
            Some(last) if position.index.0 != last.index.0 + 1 => Err(format!("entry {position} does not follow {last}")),
            _ => Ok(()),
        }
    }

    fn push(&mut self, position: Position, place: Place, payload: Option<Bytes>) {
        self.slots.push_back(Slot { term: position.term, place });
        self.last = Some(position);
        match payload {
            Some(payload) => {
                self.cache_bytes += payload.len();
                self.cache.push_back(payload);
            }
            None => debug_assert!(self.cache.is_empty(), "the cache holds the last entries"),
        }
    }

    /// The last entry there will be after a truncation.
    fn truncated(&self, last: Option<Index>) -> Option<Position> {
        match last {
            Some(last) if self.last.is_some_and(|now| now.index <= last) => self.last,
            Some(last) => self.position(last).or(self.purged),
            None => self.purged,
        }
    }

    fn truncate(&mut self, last: Option<Position>) {
        let Some(now) = self.last else { return };
        let gone = last.map_or(u64::MAX, |last| now.index.0.saturating_sub(last.index.0));
        for _ in 0..gone.min(self.slots.len() as u64) {
            self.slots.pop_back();
            if let Some(payload) = self.cache.pop_back() {
                self.cache_bytes -= payload.len();
            }
        }
        self.last = last;
    }

    fn purge(&mut self, through: Position) {
        if self.purged.is_some_and(|purged| purged.index >= through.index) {
            return;
        }
        while !self.slots.is_empty() && self.first() <= through.index.0 {
            self.slots.pop_front();
            self.drop_cached_beyond(self.slots.len());
        }
        self.purged = Some(through);
        if self.last.is_none_or(|last| last.index <= through.index) {
            self.last = Some(through);
        }
    }

    fn drop_cached_beyond(&mut self, count: usize) {
        while self.cache.len() > count {
            let payload = self.cache.pop_front().expect("longer than count");
            self.cache_bytes -= payload.len();
        }
    }

    /// Notes where an entry was written, unless it was truncated or purged meanwhile.
    fn written(&mut self, index: Index, ticket: u64, place: Place) {
        if let Some(at) = self.slot(index)
            && self.slots[at].place == Place::Queued(ticket)
        {
            self.slots[at].place = place;
        }
    }

    /// Lets go of the oldest written payloads above the limit.
    fn evict(&mut self, bytes_max: usize) {
        while self.cache_bytes > bytes_max {
            let oldest = self.slots[self.slots.len() - self.cache.len()];
            if matches!(oldest.place, Place::Queued(_)) {
                break;
            }
            self.drop_cached_beyond(self.cache.len() - 1);
        }
    }

    fn bounds(&self) -> LogBounds {
        LogBounds { purged: self.purged, last: self.last }
    }
}

impl Log {
    /// Opens the log in a folder, or makes it. See [`OpenError`] for what is refused.
    ///
    /// Reads all segments once. Frames at the end that are torn and were never reported done are cut off; all that is left is
    /// durable on return.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: LogOptions) -> Result<(Log, Flusher), OpenError> {
        if options.segment_bytes == 0 || options.segment_bytes > SEGMENT_BYTES_MAX {
            return Err(OpenError::Options { segment_bytes: options.segment_bytes });
        }
        let opened = open::open(&disk, dir, options.segment_bytes)?;
        let bytes = opened.segments.iter().map(|segment| segment.bytes).sum();
        let inner = Inner {
            vote: opened.checkpoint.vote.clone(),
            committed: opened.checkpoint.committed,
            committed_dirty: false,
            entries: opened.entries,
            segments: opened.segments.iter().map(|segment| (segment.number, Arc::clone(&segment.segment))).collect(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            ticket_next: 0,
            failure: None,
            closed: false,
            waker: None,
            stats: LogStats { bytes, segments: opened.segments.len() as u64, ..LogStats::default() },
            cache_bytes_max: options.cache_bytes,
        };
        let shared = Arc::new(Shared { inner: Mutex::new(inner), queued: Condvar::new() });
        let flusher = Flusher::new(Arc::clone(&shared), opened.writer);
        Ok((Log { _open: Arc::new(OpenHandle(Arc::clone(&shared))), shared }, flusher))
    }

    /// Appends entries with consecutive indexes, the first one after the last. Readable when this returns.
    ///
    /// The very first entry of a log may have any index. What does not follow is [`LogFailure::Refused`], all of it.
    pub fn append(&self, entries: Vec<LogEntry>, done: Done) {
        self.queue(done, |inner, ticket| {
            let mut next = inner.entries.last;
            for LogEntry { position, payload } in &entries {
                match next {
                    Some(last) if position.index.0 != last.index.0 + 1 => return Err(format!("entry {position} does not follow {last}")),
                    _ if position.index.0 == u64::MAX => return Err(format!("entry {position} leaves no index for a next one")),
                    _ if payload.len() > ENTRY_BYTES_MAX => {
                        return Err(format!("entry {position} has {} bytes (at most {ENTRY_BYTES_MAX})", payload.len()));
                    }
                    _ => next = Some(*position),
                }
            }
            for LogEntry { position, payload } in &entries {
                inner.entries.push(*position, Place::Queued(ticket), Some(payload.clone()));
            }
            let bytes = entries.iter().map(|entry| entry.payload.len()).sum();
            Ok((Action::Append(entries), bytes))
        });
    }

    /// Saves a vote of at most [`VOTE_BYTES_MAX`] bytes in the place of the last one.
    pub fn save_vote(&self, vote: Bytes, done: Done) {
        self.queue(done, |inner, _| {
            if vote.len() > VOTE_BYTES_MAX {
                return Err(format!("vote of {} bytes (at most {VOTE_BYTES_MAX})", vote.len()));
            }
            inner.vote = Some(vote.clone());
            let bytes = vote.len();
            Ok((Action::Vote(vote), bytes))
        });
    }

    /// Removes all entries after `last`; `None` removes all that are not purged.
    pub fn truncate_after(&self, last: Option<Index>, done: Done) {
        self.queue(done, |inner, _| {
            let last = inner.entries.truncated(last);
            inner.entries.truncate(last);
            Ok((Action::Truncate(last), 0))
        });
    }

    /// Removes all entries up to `position`, which may lie beyond the last one. Their files go once this is durable.
    pub fn purge_through(&self, position: Position, done: Done) {
        self.queue(done, |inner, _| {
            if position.index.0 == u64::MAX {
                return Err(format!("purge through {position} leaves no index for a next entry"));
            }
            inner.entries.purge(position);
            Ok((Action::Purge(position), 0))
        });
    }

    /// Notes what is committed. Written with whatever is synced next, at the latest when the log closes.
    pub fn save_committed(&self, committed: Option<Position>) {
        let mut inner = self.shared.lock();
        inner.committed = committed;
        inner.committed_dirty = true;
    }

    /// The last saved vote.
    pub fn vote(&self) -> Option<Bytes> {
        self.shared.lock().vote.clone()
    }

    /// What was last noted as committed. After a crash it may be older, never newer.
    pub fn committed(&self) -> Option<Position> {
        self.shared.lock().committed
    }

    /// Where the log begins and ends.
    pub fn bounds(&self) -> LogBounds {
        self.shared.lock().entries.bounds()
    }

    /// The position of an entry that is there.
    pub fn position(&self, index: Index) -> Option<Position> {
        self.shared.lock().entries.position(index)
    }

    /// The last entry of those that may go if at most `entries_max` entries of at most `bytes_max` bytes, as stored, are to be kept;
    /// `None` when all of them fit.
    pub fn surplus(&self, entries_max: u64, bytes_max: u64) -> Option<Index> {
        let inner = self.shared.lock();
        let Entries { slots, cache, .. } = &inner.entries;
        let (mut kept, mut bytes) = (0, 0);
        for (at, slot) in slots.iter().enumerate().rev() {
            bytes += match slot.place {
                Place::Written { frame_bytes, .. } => u64::from(frame_bytes),
                Place::Queued(_) => {
                    let payload = (at + cache.len()).checked_sub(slots.len()).map_or(0, |at| cache[at].len());
                    (FRAME_HEAD_BYTES + ENTRY_HEAD_BYTES + payload) as u64
                }
            };
            kept += 1;
            if kept > entries_max || bytes > bytes_max {
                return Some(Index(inner.entries.first() + at as u64));
            }
        }
        None
    }

    /// Counts and sizes.
    pub fn stats(&self) -> LogStats {
        let inner = self.shared.lock();
        LogStats { cached_bytes: inner.entries.cache_bytes, queued_bytes: inner.queued_bytes, ..inner.stats }
    }

    /// Why nothing is reported done any more.
    pub fn failure(&self) -> Option<LogFailure> {
        self.shared.lock().failure.clone()
    }

    /// Has `waker` called whenever the flusher gets something to do: for those who call [`Flusher::step`] themselves.
    /// It runs in the thread of whoever asks for something, and must not call the log.
    pub fn set_waker(&self, waker: Box<dyn Fn() + Send + Sync>) {
        self.shared.lock().waker = Some(waker.into());
    }

    /// The entries of `range` that are there, in order, without a gap; as many as fit in `bytes_max` bytes as stored, but at
    /// least one if any is there.
    pub fn read(&self, range: Range<Index>, bytes_max: usize) -> Result<Vec<LogEntry>, ReadError> {
        let (stored, cached) = self.locate(range, bytes_max);
        let mut entries = Vec::with_capacity(stored.len() + cached.len());
        let mut stored = &stored[..];
        while let Some(first) = stored.first() {
            let mut run = 1;
            let mut bytes = first.frame_bytes;
            while let Some(next) = stored.get(run)
                && Arc::ptr_eq(&next.segment, &first.segment)
                && next.offset == first.offset + bytes as u64
                && bytes + next.frame_bytes <= READ_BYTES_MAX
            {
                bytes += next.frame_bytes;
                run += 1;
            }
            read_run(&stored[..run], bytes, &mut entries)?;
            stored = &stored[run..];
        }
        entries.extend(cached);
        Ok(entries)
    }

    /// Which entries to read from files, and those from memory that follow them.
    fn locate(&self, range: Range<Index>, bytes_max: usize) -> (Vec<Stored>, Vec<LogEntry>) {
        let (mut stored, mut cached) = (Vec::new(), Vec::new());
        let inner = self.shared.lock();
        let Entries { slots, cache, .. } = &inner.entries;
        if slots.is_empty() {
            return (stored, cached);
        }
        let first = inner.entries.first();
        let end = range.end.0.min(first + slots.len() as u64);
        let mut bytes = 0;
        for index in range.start.0.max(first)..end {
            let at = (index - first) as usize;
            let Slot { term, place } = slots[at];
            let position = Position { term, index: Index(index) };
            let payload = (at + cache.len()).checked_sub(slots.len()).map(|at| &cache[at]);
            bytes += match (payload, place) {
                (Some(payload), _) => FRAME_HEAD_BYTES + ENTRY_HEAD_BYTES + payload.len(),
                (None, Place::Written { frame_bytes, .. }) => frame_bytes as usize,
                (None, Place::Queued(_)) => unreachable!("what is not written is in memory"),
            };
            if bytes > bytes_max && !(stored.is_empty() && cached.is_empty()) {
                break;
            }
            match (payload, place) {
                (Some(payload), _) => cached.push(LogEntry { position, payload: payload.clone() }),
                (None, Place::Written { segment, offset, frame_bytes }) => stored.push(Stored {
                    segment: Arc::clone(&inner.segments[&segment]),
                    offset: u64::from(offset),
                    frame_bytes: frame_bytes as usize,
                    position,
                }),
                (None, Place::Queued(_)) => {}
            }
        }
        (stored, cached)
    }

    /// Queues what `make` makes of the present state, or reports at once why not.
    fn queue(&self, done: Done, make: impl FnOnce(&mut Inner, u64) -> Result<(Action, usize), String>) {
        let mut inner = self.shared.lock();
        let ticket = inner.ticket_next;
        let made = match inner.failure.clone() {
            Some(failure) => Err(failure),
            None => make(&mut inner, ticket).map_err(LogFailure::Refused),
        };
        match made {
            Ok((action, bytes)) => {
                inner.ticket_next += 1;
                inner.queued_bytes += bytes;
                if inner.queued_bytes > QUEUE_BYTES_MAX && !inner.queue.is_empty() {
                    inner.failure = Some(LogFailure::Backlog { bytes: inner.queued_bytes });
                }
                inner.queue.push_back(Queued { ticket, action, bytes, done });
                drop(inner);
                self.shared.wake();
            }
            Err(failure) => {
                drop(inner);
                done(Err(failure));
            }
        }
    }
}

/// An entry's frame in a file.
struct Stored {
    segment: Arc<Segment>,
    offset: u64,
    frame_bytes: usize,
    position: Position,
}

/// Reads frames that lie side by side.
fn read_run(run: &[Stored], bytes: usize, entries: &mut Vec<LogEntry>) -> Result<(), ReadError> {
    let Stored { segment, offset, .. } = &run[0];
    let mut buffer = vec![0; bytes];
    segment.file.read_exact_at(&mut buffer, *offset).map_err(|source| ReadError::Io { file: segment.path.clone(), source })?;
    let mut buffer = Bytes::from(buffer);
    for stored in run {
        let frame = buffer.split_to(stored.frame_bytes);
        let payload = entry_payload(&frame, stored.position).ok_or_else(|| ReadError::Corrupt {
            file: segment.path.clone(),
            offset: stored.offset,
            what: "the frame is not the entry that was written there",
        })?;
        entries.push(LogEntry { position: stored.position, payload });
    }
    Ok(())
}

fn entry_payload(frame: &Bytes, expected: Position) -> Option<Bytes> {
    let head = FrameHead::decode(frame[..FRAME_HEAD_BYTES].try_into().expect("a slice of that length")).ok()?;
    if !frame_is_intact(frame) || head.frame_bytes() != frame.len() {
        return None;
    }
    match Record::decode(head.kind, &frame.slice(FRAME_HEAD_BYTES..)).ok()? {
        Record::Append { position, payload } if position == expected => Some(payload),
        _ => None,
    }
}

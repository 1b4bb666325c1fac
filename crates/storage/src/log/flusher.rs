//! [`Flusher`]: the log's only writer, which gives all that waits one write and one sync.
//!
//! Always: frames go out in the order of the calls; a call is reported done after the sync that covers it; a segment is
//! whole and synced before the next is made, and the next is synced and named durably before a frame goes into it; a
//! segment is removed only after the purge of its last entry is durable, the oldest first.
//! Knows no threads: [`Flusher::run`] is a loop for one, [`Flusher::step`] is for simulation.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use types::Index;

use super::frame::{Checkpoint, Mark, Record, SegmentHead, put_frame};
use super::{Action, LogEntry, LogFailure, OpenError, Place, Queued, Segment, Shared};
use crate::disk::{Disk, DiskFile, OpenMode, temporary_name};

/// The most calls that share a sync.
const ROUND_CALLS_MAX: usize = 4096;
/// A round takes no further call once it has this many bytes.
const ROUND_BYTES_MAX: usize = 16 << 20;
/// The most bytes encoded before they are written.
const BUFFER_BYTES_MAX: usize = 4 << 20;

/// The segment that is written to is given up early, so that it can go, when nothing in it is needed and it has so many bytes.
const EMPTIED_BYTES_MIN: u64 = 256 << 10;

/// Bytes of a segment's file name before `.log`.
const NUMBER_DIGITS: usize = 20;
const SEGMENT_SUFFIX: &str = ".log";
/// The mark's file, in the log's folder.
const MARK_FILE: &str = "durable";

/// The log's only writer. Dropping it ends the log: what still waits is told [`LogFailure::Closed`].
pub struct Flusher {
    shared: Arc<Shared>,
    writer: Writer,
}

/// What [`Flusher::step`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing waited.
    Idle,
    /// So many calls were made durable and told so.
    Flushed(usize),
    /// The last handle is gone and everything is written: call no more.
    Closed,
    /// The log has failed: call no more.
    Failed,
}

impl Flusher {
    pub(super) fn new(shared: Arc<Shared>, writer: Writer) -> Flusher {
        Flusher { shared, writer }
    }

    /// Flushes until every handle is gone or the disk fails. Blocks; meant for a thread of its own.
    pub fn run(mut self) {
        loop {
            match self.step() {
                Step::Flushed(_) => {}
                Step::Closed | Step::Failed => return,
                Step::Idle => {
                    let mut inner = self.shared.lock();
                    while inner.queue.is_empty() && !inner.closed && inner.failure.is_none() {
                        inner = self.shared.queued.wait(inner).expect(super::LOCK);
                    }
                }
            }
        }
    }

    /// One round: takes what waits (bounded in count and bytes), writes it, syncs once, and calls all callbacks.
    pub fn step(&mut self) -> Step {
        let (mut round, committed, closed) = {
            let mut inner = self.shared.lock();
            if inner.failure.is_some() {
                drop(inner);
                self.fail(VecDeque::new(), None);
                return Step::Failed;
            }
            let mut bytes = 0;
            let fits = |queued: &&Queued| {
                let first = bytes == 0;
                bytes += queued.bytes;
                first || bytes <= ROUND_BYTES_MAX
            };
            let count = inner.queue.iter().take(ROUND_CALLS_MAX).take_while(fits).count();
            let round: VecDeque<Queued> = inner.queue.drain(..count).collect();
            // What is committed waits for something that needs a sync, or for the end.
            let closed = inner.closed && inner.queue.is_empty();
            let write_committed = inner.committed_dirty && (!round.is_empty() || closed);
            let committed = write_committed.then_some(inner.committed);
            inner.committed_dirty &= !write_committed;
            (round, committed, closed)
        };
        if round.is_empty() && committed.is_none() {
            return if closed { Step::Closed } else { Step::Idle };
        }
        let places = match self.write(&round, committed) {
            Ok(places) => places,
            Err(error) => {
                self.fail(round, Some(error));
                return Step::Failed;
            }
        };
        {
            let mut inner = self.shared.lock();
            for (index, ticket, place) in places {
                inner.entries.written(index, ticket, place);
            }
            inner.queued_bytes -= round.iter().map(|queued| queued.bytes).sum::<usize>();
            let bytes_max = inner.cache_bytes_max;
            inner.entries.evict(bytes_max);
            self.writer.publish(&mut inner);
            inner.stats.rounds += 1;
        }
        let count = round.len();
        for queued in round.drain(..) {
            (queued.done)(Ok(()));
        }
        if let Err(error) = self.trim() {
            self.fail(round, Some(error));
            return Step::Failed;
        }
        Step::Flushed(count)
    }

    /// Writes and syncs a round, and tells where each entry went.
    fn write(
        &mut self,
        round: &VecDeque<Queued>,
        committed: Option<Option<types::Position>>,
    ) -> Result<Vec<(Index, u64, Place)>, WriteError> {
        let mut places = Vec::new();
        for Queued { ticket, action, .. } in round {
            match action {
                Action::Append(entries) => {
                    for LogEntry { position, payload } in entries {
                        let record = Record::Append { position: *position, payload: payload.clone() };
                        places.push((position.index, *ticket, self.writer.put(&record)?));
                    }
                }
                Action::Vote(vote) => _ = self.writer.put(&Record::Vote(vote.clone()))?,
                Action::Truncate(last) => _ = self.writer.put(&Record::Truncate { last: *last })?,
                Action::Purge(through) => _ = self.writer.put(&Record::Purge(*through))?,
            }
        }
        if let Some(committed) = committed {
            self.writer.put(&Record::Committed(committed))?;
        }
        self.writer.sync()?;
        Ok(places)
    }

    /// Removes segments whose entries are all durably purged.
    fn trim(&mut self) -> Result<(), WriteError> {
        let removed = self.writer.trim()?;
        if !removed.is_empty() {
            let mut inner = self.shared.lock();
            for number in removed {
                inner.segments.remove(&number);
            }
            self.writer.publish(&mut inner);
        }
        Ok(())
    }

    /// Makes the failure known and tells everyone who waits.
    fn fail(&self, round: VecDeque<Queued>, error: Option<WriteError>) {
        let (failure, waiting) = {
            let mut inner = self.shared.lock();
            if let Some(WriteError { file, source }) = error {
                tracing::error!(file = %file.display(), error = %source, "log failed");
                inner.failure.get_or_insert(LogFailure::Disk { file, source: Arc::new(source) });
            }
            let failure = inner.failure.get_or_insert(LogFailure::Closed).clone();
            (failure, std::mem::take(&mut inner.queue))
        };
        for queued in round.into_iter().chain(waiting) {
            (queued.done)(Err(failure.clone()));
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.fail(VecDeque::new(), None);
    }
}

/// What a disk answered in place of writing, syncing, making or removing a file.
pub(super) struct WriteError {
    pub(super) file: PathBuf,
    pub(super) source: io::Error,
}

impl From<WriteError> for OpenError {
    fn from(WriteError { file, source }: WriteError) -> OpenError {
        OpenError::Io { file, source }
    }
}

/// A segment as the writer knows it.
pub(super) struct SegmentState {
    pub(super) number: u32,
    pub(super) segment: Arc<Segment>,
    pub(super) bytes: u64,
    /// The highest index of an entry that was ever written to it.
    pub(super) index_max: Option<Index>,
}

/// The end of the log, where frames are written.
pub(super) struct Writer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) segment_bytes: u64,
    /// Oldest first; the last one is written to.
    pub(super) segments: VecDeque<SegmentState>,
    /// As all frames so far leave it.
    pub(super) checkpoint: Checkpoint,
    /// Of the last frame.
    pub(super) sequence: u64,
    /// Of the last frame.
    pub(super) checksum: u32,
    /// The last frame that is durable.
    pub(super) durable: u64,
    pub(super) mark: Arc<dyn DiskFile>,
    pub(super) buffer: Vec<u8>,
    pub(super) counts: Counts,
}

/// What was done since it was last published.
#[derive(Default)]
pub(super) struct Counts {
    syncs: u64,
    frames: u64,
    bytes_written: u64,
    /// Segments made, to be shared.
    made: Vec<(u32, Arc<Segment>)>,
}

impl Writer {
    /// Puts a frame at the end. Durable after [`Writer::sync`].
    fn put(&mut self, record: &Record) -> Result<Place, WriteError> {
        let full = |writer: &Writer| writer.current().bytes + writer.buffer.len() as u64 >= writer.segment_bytes;
        if full(self) {
            self.sync()?;
            self.roll()?;
        } else if self.buffer.len() >= BUFFER_BYTES_MAX {
            self.write_buffer()?;
        }
        let start = self.buffer.len();
        let offset = self.current().bytes + start as u64;
        self.checksum = put_frame(&mut self.buffer, record, self.checksum, self.sequence + 1, self.durable);
        self.sequence += 1;
        self.counts.frames += 1;
        self.checkpoint.note(record);
        let current = self.segments.back_mut().expect(CURRENT);
        if let Record::Append { position, .. } = record {
            current.index_max = current.index_max.max(Some(position.index));
        }
        let fits = "segment and frame sizes are limited to far less than 4 GiB";
        Ok(Place::Written {
            segment: current.number,
            offset: u32::try_from(offset).expect(fits),
            frame_bytes: u32::try_from(self.buffer.len() - start).expect(fits),
        })
    }

    fn current(&self) -> &SegmentState {
        self.segments.back().expect(CURRENT)
    }

    fn write_buffer(&mut self) -> Result<(), WriteError> {
        let current = self.segments.back_mut().expect(CURRENT);
        let Segment { path, file } = &*current.segment;
        file.write_at(&self.buffer, current.bytes).map_err(|source| WriteError { file: path.clone(), source })?;
        current.bytes += self.buffer.len() as u64;
        self.counts.bytes_written += self.buffer.len() as u64;
        self.buffer.clear();
        // One huge entry does not keep its memory for ever.
        self.buffer.shrink_to(2 * BUFFER_BYTES_MAX);
        Ok(())
    }

    /// Makes all frames so far durable.
    fn sync(&mut self) -> Result<(), WriteError> {
        if !self.buffer.is_empty() {
            self.write_buffer()?;
        }
        if self.durable < self.sequence {
            let Segment { path, file } = &*self.current().segment;
            file.sync_data().map_err(|source| WriteError { file: path.clone(), source })?;
            self.counts.syncs += 1;
            self.durable = self.sequence;
            self.write_mark()?;
        }
        Ok(())
    }

    /// Notes beside the log how far it is durable. Not synced: it is true whenever it gets to the disk.
    pub(super) fn write_mark(&mut self) -> Result<(), WriteError> {
        let mark = Mark { sequence: self.durable, checksum: self.checksum };
        self.mark.write_at(&mark.encode(), 0).map_err(|source| WriteError { file: mark_path(&self.dir), source })
    }

    /// Makes the next segment, durably. All frames so far are durable.
    pub(super) fn roll(&mut self) -> Result<(), WriteError> {
        let number = self.segments.back().map_or(1, |current| current.number + 1);
        let path = segment_path(&self.dir, number);
        let temporary = temporary_name(&path);
        let mut content = Vec::new();
        SegmentHead { number: number.into(), first_sequence: self.sequence + 1, previous: self.checksum }.put(&mut content);
        let record = Record::Checkpoint(self.checkpoint.clone());
        let checksum = put_frame(&mut content, &record, self.checksum, self.sequence + 1, self.durable);
        let make = || {
            let file = self.disk.open(&temporary, OpenMode::Create)?;
            file.write_at(&content, 0)?;
            file.sync_data()?;
            self.disk.rename(&temporary, &path)?;
            self.disk.sync_dir(&self.dir)?;
            self.mark.sync_data()?;
            Ok(file)
        };
        let file = make().map_err(|source| WriteError { file: path.clone(), source })?;
        let segment = Arc::new(Segment { path, file });
        self.counts.syncs += 1;
        self.counts.frames += 1;
        self.counts.bytes_written += content.len() as u64;
        self.counts.made.push((number, Arc::clone(&segment)));
        self.segments.push_back(SegmentState { number, segment, bytes: content.len() as u64, index_max: None });
        self.checksum = checksum;
        self.sequence += 1;
        self.durable = self.sequence;
        Ok(())
    }

    /// Removes the oldest segments as long as all their entries are durably purged, and tells which.
    pub(super) fn trim(&mut self) -> Result<Vec<u32>, WriteError> {
        let mut removed = Vec::new();
        let purged = self.checkpoint.purged.map(|purged| purged.index);
        let current = self.current();
        if current.bytes >= EMPTIED_BYTES_MIN && current.index_max.is_some() && current.index_max <= purged {
            self.roll()?;
        }
        while self.segments.len() > 1 && self.segments[0].index_max <= purged {
            let SegmentState { number, segment, .. } = self.segments.pop_front().expect("there are two");
            // One by one, so that a crash leaves no gap between those that are left.
            let remove = || {
                self.disk.remove(&segment.path)?;
                self.disk.sync_dir(&self.dir)
            };
            remove().map_err(|source| WriteError { file: segment.path.clone(), source })?;
            removed.push(number);
        }
        Ok(removed)
    }

    /// Shows readers what changed.
    fn publish(&mut self, inner: &mut super::Inner) {
        let Counts { syncs, frames, bytes_written, made } = std::mem::take(&mut self.counts);
        inner.stats.syncs += syncs;
        inner.stats.frames += frames;
        inner.stats.bytes_written += bytes_written;
        inner.stats.bytes = self.segments.iter().map(|segment| segment.bytes).sum();
        inner.stats.segments = self.segments.len() as u64;
        inner.segments.extend(made);
    }
}

const CURRENT: &str = "a log has at least one segment";

impl Checkpoint {
    /// Takes in what a frame says.
    pub(super) fn note(&mut self, record: &Record) {
        match record {
            Record::Checkpoint(checkpoint) => self.clone_from(checkpoint),
            Record::Append { position, .. } => self.last = Some(*position),
            Record::Vote(vote) => self.vote = Some(vote.clone()),
            Record::Truncate { last } => self.last = *last,
            Record::Purge(through) if self.purged.is_some_and(|purged| purged.index >= through.index) => {}
            Record::Purge(through) => {
                self.purged = Some(*through);
                if self.last.is_none_or(|last| last.index <= through.index) {
                    self.last = Some(*through);
                }
            }
            Record::Committed(committed) => self.committed = *committed,
        }
    }
}

pub(super) fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:0NUMBER_DIGITS$}{SEGMENT_SUFFIX}"))
}

/// The number of a segment's file, if it is one.
pub(super) fn segment_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    if digits.len() == NUMBER_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

pub(super) fn mark_path(dir: &Path) -> PathBuf {
    dir.join(MARK_FILE)
}

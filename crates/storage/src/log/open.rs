//! Opening a log: reads every frame, tells a torn end from damage, and leaves a log that is whole and durable.
//!
//! Always: nothing is cut off but frames that were never reported done. That a frame was durable is known from the mark
//! beside the log, and from every later frame, which says so.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use types::Index;

use super::flusher::{Counts, SegmentState, Writer, mark_path, segment_number, segment_path};
use super::frame::{
    Checkpoint, FRAME_HEAD_BYTES, FrameHead, HeadError, MARK_BYTES, Mark, Record, SEGMENT_HEAD_BYTES, SegmentHead, frame_is_intact,
};
use super::{Entries, OpenError, Place, Segment};
use crate::disk::{Disk, DiskFile, OpenMode, read_whole, remove_temporary, write_whole};

const WINDOW_BYTES: usize = 1 << 20;

/// A log that was read and is ready to be written to.
pub(super) struct Opened {
    pub(super) checkpoint: Checkpoint,
    pub(super) entries: Entries,
    pub(super) segments: Vec<OpenedSegment>,
    pub(super) writer: Writer,
}

pub(super) struct OpenedSegment {
    pub(super) number: u32,
    pub(super) segment: Arc<Segment>,
    pub(super) bytes: u64,
}

pub(super) fn open(disk: &Arc<dyn Disk>, dir: &Path, segment_bytes: u64) -> Result<Opened, OpenError> {
    let io = |source| OpenError::Io { file: dir.to_owned(), source };
    disk.create_dir_all(dir).map_err(io)?;
    remove_temporary(&**disk, dir).map_err(io)?;
    let numbers: Vec<u32> = disk.list(dir).map_err(io)?.iter().filter_map(|name| segment_number(name)).collect();
    for pair in numbers.windows(2) {
        if pair[1] != pair[0] + 1 {
            return Err(OpenError::Missing { file: segment_path(dir, pair[0] + 1) });
        }
    }
    let (mark, mark_file) = open_mark(&**disk, dir, numbers.is_empty())?;
    let mut replay = Replay::new(mark);
    let mut segments = VecDeque::new();
    for number in &numbers {
        let path = segment_path(dir, *number);
        let file = disk.open(&path, OpenMode::Write).map_err(|source| OpenError::Io { file: path.clone(), source })?;
        let segment = Arc::new(Segment { path, file });
        let bytes = replay.segment(&segment, *number, Some(number) == numbers.last())?;
        segments.push_back(SegmentState { number: *number, segment, bytes, index_max: replay.index_max.take() });
    }
    if let Some(last) = segments.back() {
        replay.finish(last)?;
        disk.sync_dir(dir).map_err(io)?;
    }
    let mut writer = Writer {
        disk: Arc::clone(disk),
        dir: dir.to_owned(),
        segment_bytes,
        segments,
        checkpoint: replay.checkpoint.clone(),
        sequence: replay.sequence,
        checksum: replay.checksum,
        durable: replay.sequence,
        mark: mark_file,
        buffer: Vec::new(),
        counts: Counts::default(),
    };
    if writer.segments.is_empty() {
        writer.roll()?;
    }
    writer.write_mark()?;
    writer.trim()?;
    writer.counts = Counts::default();
    let shared = |state: &SegmentState| OpenedSegment { number: state.number, segment: Arc::clone(&state.segment), bytes: state.bytes };
    let segments = writer.segments.iter().map(shared).collect();
    Ok(Opened { checkpoint: replay.checkpoint, entries: replay.entries, segments, writer })
}

/// Reads the mark, and makes it durably if it is not there.
fn open_mark(disk: &dyn Disk, dir: &Path, new: bool) -> Result<(Option<Mark>, Arc<dyn DiskFile>), OpenError> {
    let path = mark_path(dir);
    let io = |source| OpenError::Io { file: path.clone(), source };
    let corrupt = |what: String| OpenError::Corrupt { file: path.clone(), offset: 0, what };
    let mut mark = None;
    if disk.exists(&path).map_err(io)? {
        let bytes = read_whole(disk, &path, MARK_BYTES.max(4096)).map_err(io)?;
        match Mark::decode(&bytes) {
            Ok(found) => mark = Some(found),
            Err(HeadError::Version(version)) => return Err(OpenError::Version { file: path.clone(), version }),
            Err(HeadError::Malformed(what)) if new => return Err(corrupt(format!("{what}, and there is no segment"))),
            // It only adds to what the log itself proves, and is written anew.
            Err(HeadError::Malformed(what)) => tracing::warn!(file = %path.display(), what, "log's mark is damaged and ignored"),
        }
        if let Some(mark) = mark.filter(|mark| new && mark.sequence > 0) {
            tracing::error!(sequence = mark.sequence, "log's segments are gone");
            return Err(OpenError::Missing { file: segment_path(dir, 1) });
        }
    } else {
        if !new {
            tracing::warn!(file = %path.display(), "log's mark is missing and made anew");
        }
        write_whole(disk, &path, &Mark { sequence: 0, checksum: 0 }.encode()).map_err(io)?;
    }
    let file = disk.open(&path, OpenMode::Write).map_err(io)?;
    Ok((mark, file))
}

/// What the frames read so far add up to.
struct Replay {
    mark: Option<Mark>,
    checkpoint: Checkpoint,
    entries: Entries,
    /// Entries up to this one lay in segments that are gone; they must turn out to be purged.
    gone: Option<Index>,
    /// Of the last frame.
    sequence: u64,
    checksum: u32,
    /// The highest frame that is known to have been durable.
    proven: u64,
    /// Sequence and offset of those frames of this segment that are not, oldest first.
    unproven: VecDeque<(u64, u64)>,
    /// Of this segment's entries.
    index_max: Option<Index>,
    /// Whether a segment's header was read.
    chained: bool,
    /// Whether the first checkpoint was read.
    begun: bool,
}

impl Replay {
    fn new(mark: Option<Mark>) -> Replay {
        Replay {
            mark,
            checkpoint: Checkpoint::default(),
            entries: Entries::default(),
            gone: None,
            sequence: 0,
            checksum: 0,
            proven: mark.map_or(0, |mark| mark.sequence),
            unproven: VecDeque::new(),
            index_max: None,
            chained: false,
            begun: false,
        }
    }

    /// Reads a segment to its end, or to where its torn end begins, and returns that place.
    fn segment(&mut self, segment: &Segment, number: u32, last: bool) -> Result<u64, OpenError> {
        let mut window = Window::new(segment)?;
        self.segment_head(&mut window, number)?;
        self.unproven.clear();
        let head_offset = window.offset;
        while !window.at_end() {
            let offset = window.offset;
            let (head, record) = match window.frame(self.sequence + 1, self.checksum)? {
                Ok(frame) => frame,
                // The head of a segment was synced before it got its name.
                Err(bad) if !last || offset == head_offset || bad.misplaced || self.was_durable(&mut window)? => {
                    return Err(window.corrupt(offset, bad.what));
                }
                Err(bad) => {
                    let cut = window.length - offset;
                    tracing::warn!(file = %segment.path.display(), offset, cut, what = bad.what, "torn end of the log is cut off");
                    return Ok(offset);
                }
            };
            if (offset == head_offset) != matches!(record, Record::Checkpoint(_)) {
                return Err(window.corrupt(offset, "checkpoint in a wrong place"));
            }
            self.sequence = head.sequence;
            self.checksum = head.checksum;
            if let Some(mark) = self.mark
                && mark.sequence == head.sequence
                && mark.checksum != head.checksum
            {
                return Err(window.corrupt(offset, "the frame is not the one that the log's mark is about"));
            }
            self.proven = self.proven.max(head.durable);
            self.unproven.push_back((head.sequence, offset));
            while self.unproven.front().is_some_and(|(sequence, _)| *sequence <= self.proven) {
                self.unproven.pop_front();
            }
            let frame = Place::Written {
                segment: number,
                offset: u32::try_from(offset).map_err(|_| window.corrupt(offset, "segment is too long"))?,
                frame_bytes: u32::try_from(head.frame_bytes()).expect("payloads are limited to far less than 4 GiB"),
            };
            self.record(&record, frame).map_err(|what| window.corrupt(offset, what))?;
        }
        if window.offset == head_offset {
            return Err(window.corrupt(head_offset, "segment without a checkpoint"));
        }
        Ok(window.offset)
    }

    fn segment_head(&mut self, window: &mut Window, number: u32) -> Result<(), OpenError> {
        if !window.fill(SEGMENT_HEAD_BYTES)? {
            return Err(window.corrupt(0, "segment's header is cut short"));
        }
        let head = window.buffer.split_to(SEGMENT_HEAD_BYTES);
        let head: &[u8; SEGMENT_HEAD_BYTES] = head[..].try_into().expect("split at that length");
        let head = SegmentHead::decode(head).map_err(|error| match error {
            HeadError::Version(version) => OpenError::Version { file: window.path.to_owned(), version },
            HeadError::Malformed(what) => window.corrupt(0, what),
        })?;
        window.offset += SEGMENT_HEAD_BYTES as u64;
        if head.number != u64::from(number) {
            return Err(window.corrupt(0, "the header is another segment's"));
        }
        if !std::mem::replace(&mut self.chained, true) {
            (self.sequence, self.checksum) = (head.first_sequence.wrapping_sub(1), head.previous);
        } else if (head.first_sequence, head.previous) != (self.sequence + 1, self.checksum) {
            return Err(window.corrupt(0, "the segment does not follow the one before it, whose end is missing"));
        }
        // A segment is made only after all before it is durable.
        self.proven = self.proven.max(head.first_sequence);
        Ok(())
    }

    /// Whether the frame that is bad here is known to have been durable.
    fn was_durable(&self, window: &mut Window) -> Result<bool, OpenError> {
        let bad = self.sequence + 1;
        Ok(self.proven >= bad || window.later_frame_proves(bad)?)
    }

    fn record(&mut self, record: &Record, place: Place) -> Result<(), &'static str> {
        let entries = &mut self.entries;
        match record {
            Record::Checkpoint(checkpoint) => {
                if !std::mem::replace(&mut self.begun, true) {
                    entries.purged = checkpoint.purged;
                    entries.last = checkpoint.last;
                    self.gone = checkpoint.last.map(|last| last.index);
                } else if *checkpoint != self.checkpoint {
                    return Err("checkpoint is not what the frames before it add up to");
                }
            }
            Record::Append { position, .. } => {
                entries.check_next(*position).map_err(|_| "entry does not follow the one before it")?;
                if position.index.0 == u64::MAX {
                    return Err("entry with the highest index");
                }
                entries.push(*position, place, None);
                self.index_max = self.index_max.max(Some(position.index));
            }
            Record::Truncate { last } => {
                if last.map(|last| last.index) > entries.last.map(|last| last.index) {
                    return Err("truncation after an entry that is not there");
                }
                entries.truncate(*last);
            }
            Record::Purge(through) => {
                if through.index.0 == u64::MAX {
                    return Err("purge through the highest index");
                }
                entries.purge(*through);
            }
            Record::Vote(_) | Record::Committed(_) => {}
        }
        self.checkpoint.note(record);
        Ok(())
    }

    /// Checks what can be checked only at the end, cuts off the torn end, and makes the rest durable.
    fn finish(&mut self, last: &SegmentState) -> Result<(), OpenError> {
        let Segment { path, file } = &*last.segment;
        let io = |source| OpenError::Io { file: path.clone(), source };
        let corrupt = |what: &str| OpenError::Corrupt { file: path.clone(), offset: last.bytes, what: what.to_owned() };
        if self.sequence < self.proven {
            return Err(corrupt("frames that were durable are missing at the end"));
        }
        let purged = self.entries.purged.map(|purged| purged.index);
        if self.gone > purged {
            return Err(corrupt("entries that are not purged lay in segments that are missing"));
        }
        if file.len().map_err(io)? > last.bytes {
            file.set_len(last.bytes).map_err(io)?;
        }
        // A failed sync may have left frames that can be read but are not on the disk and are never written again by
        // themselves; so what is not known to have been durable is written once more.
        let mut offset = self.unproven.front().map_or(last.bytes, |(_, offset)| *offset);
        while offset < last.bytes {
            let length = usize::try_from(last.bytes - offset).unwrap_or(usize::MAX).min(WINDOW_BYTES);
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset).map_err(io)?;
            file.write_at(&bytes, offset).map_err(io)?;
            offset += length as u64;
        }
        file.sync_data().map_err(io)
    }
}

/// A frame that is not as it should be.
struct Bad {
    what: &'static str,
    /// It is intact, but belongs elsewhere: no torn write looks like that.
    misplaced: bool,
}

/// A file read from front to end.
struct Window<'a> {
    path: &'a Path,
    file: &'a dyn DiskFile,
    length: u64,
    /// Where `buffer` begins.
    offset: u64,
    buffer: BytesMut,
}

impl Window<'_> {
    fn new(segment: &Segment) -> Result<Window<'_>, OpenError> {
        let Segment { path, file } = segment;
        let length = file.len().map_err(|source| OpenError::Io { file: path.clone(), source })?;
        Ok(Window { path, file: &**file, length, offset: 0, buffer: BytesMut::new() })
    }

    fn at_end(&self) -> bool {
        self.offset >= self.length
    }

    fn corrupt(&self, offset: u64, what: impl Into<String>) -> OpenError {
        OpenError::Corrupt { file: self.path.to_owned(), offset, what: what.into() }
    }

    fn io(&self, source: io::Error) -> OpenError {
        OpenError::Io { file: self.path.to_owned(), source }
    }

    /// Makes `bytes` bytes available in the buffer; false if the file ends before.
    fn fill(&mut self, bytes: usize) -> Result<bool, OpenError> {
        let left = self.length - self.offset;
        if (bytes as u64) > left {
            return Ok(false);
        }
        let have = self.buffer.len();
        if have < bytes {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.max(WINDOW_BYTES));
            self.buffer.resize(want, 0);
            self.file.read_exact_at(&mut self.buffer[have..], self.offset + have as u64).map_err(|source| self.io(source))?;
        }
        Ok(true)
    }

    /// Reads the frame that should be here. The window moves on only if it is good.
    fn frame(&mut self, sequence: u64, previous: u32) -> Result<Result<(FrameHead, Record), Bad>, OpenError> {
        let bad = |what| Ok(Err(Bad { what, misplaced: false }));
        if !self.fill(FRAME_HEAD_BYTES)? {
            return bad("frame is cut short");
        }
        let head = match FrameHead::decode(self.buffer[..FRAME_HEAD_BYTES].try_into().expect("a slice of that length")) {
            Ok(head) => head,
            Err(what) => return bad(what),
        };
        if !self.fill(head.frame_bytes())? {
            return bad("frame is cut short");
        }
        if !frame_is_intact(&self.buffer[..head.frame_bytes()]) {
            return bad("frame fails its checksum");
        }
        if (head.sequence, head.previous) != (sequence, previous) {
            return Ok(Err(Bad { what: "frame does not follow the one before it", misplaced: true }));
        }
        let frame = self.buffer.split_to(head.frame_bytes()).freeze();
        let record = match Record::decode(head.kind, &frame.slice(FRAME_HEAD_BYTES..)) {
            Ok(record) => record,
            Err(malformed) => return Ok(Err(Bad { what: malformed.what, misplaced: true })),
        };
        self.offset += frame.len() as u64;
        Ok(Ok((head, record)))
    }

    /// Whether an intact frame anywhere behind this place says that frame `bad` was durable when it was written.
    fn later_frame_proves(&mut self, bad: u64) -> Result<bool, OpenError> {
        let start = self.offset;
        let mut found = false;
        // So many frames fit at most; a number beyond that is chance.
        let sequence_max = bad.saturating_add((self.length - start) / FRAME_HEAD_BYTES as u64);
        while !found && self.fill(FRAME_HEAD_BYTES)? {
            let head = FrameHead::decode(self.buffer[..FRAME_HEAD_BYTES].try_into().expect("a slice of that length"));
            if let Ok(head) = head
                && head.durable >= bad
                && head.sequence <= sequence_max
                && self.fill(head.frame_bytes())?
            {
                found = frame_is_intact(&self.buffer[..head.frame_bytes()]);
            }
            bytes::Buf::advance(&mut self.buffer, 1);
            self.offset += 1;
        }
        Ok(found)
    }
}

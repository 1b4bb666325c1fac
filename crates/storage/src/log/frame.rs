//! Frames: the unit of the log's files, and the records they carry.
//!
//! Always: a frame can be verified by itself (its own checksum) and in its place (sequence number, and the checksum of the
//! frame before it). It also says up to which frame everything was durable when it was written, so that a gap behind
//! which work went on is told from a torn end. Layout: `docs/storage-format.md`, "Log".

use bytes::{Buf, BufMut, Bytes};
use types::{Index, Position, Term};

use crate::codec::{Malformed, POSITION_BYTES, Reader, length_field, put_position};

/// The version in each segment's header.
pub const LOG_VERSION: u32 = 1;
/// The longest payload of an entry, in bytes.
pub const ENTRY_BYTES_MAX: usize = 64 << 20;
/// The longest vote, in bytes.
pub const VOTE_BYTES_MAX: usize = 4 << 10;

/// In front of each payload: checksum, length, previous checksum, sequence, durable, kind.
pub(super) const FRAME_HEAD_BYTES: usize = 4 + 4 + 4 + 8 + 8 + 1;
/// In front of an entry's payload within its frame: term, index.
pub(super) const ENTRY_HEAD_BYTES: usize = 8 + 8;
/// The longest frame payload.
pub(super) const PAYLOAD_BYTES_MAX: usize = ENTRY_HEAD_BYTES + ENTRY_BYTES_MAX;
/// Magic, version, number, first sequence, previous checksum, checksum.
pub(super) const SEGMENT_HEAD_BYTES: usize = 8 + 4 + 8 + 8 + 4 + 4;
/// Magic, version, sequence, frame's checksum, checksum.
pub(super) const MARK_BYTES: usize = 8 + 4 + 8 + 4 + 4;

const SEGMENT_MAGIC: &[u8; 8] = b"CNCLVLOG";
const MARK_MAGIC: &[u8; 8] = b"CNCLVMRK";

const KIND_CHECKPOINT: u8 = 1;
const KIND_APPEND: u8 = 2;
const KIND_VOTE: u8 = 3;
const KIND_TRUNCATE: u8 = 4;
const KIND_PURGE: u8 = 5;
const KIND_COMMITTED: u8 = 6;

/// All that the log knows beside its entries; written at each segment's head, so that older segments can go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Checkpoint {
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Position>,
    pub(super) purged: Option<Position>,
    /// The last entry, or the last purged one when there is none.
    pub(super) last: Option<Position>,
}

/// What one frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Checkpoint(Checkpoint),
    Append {
        position: Position,
        payload: Bytes,
    },
    Vote(Bytes),
    /// Entries after this one are no more.
    Truncate {
        last: Option<Position>,
    },
    /// Entries up to this one are no more.
    Purge(Position),
    Committed(Option<Position>),
}

impl Record {
    fn kind(&self) -> u8 {
        match self {
            Record::Checkpoint(_) => KIND_CHECKPOINT,
            Record::Append { .. } => KIND_APPEND,
            Record::Vote(_) => KIND_VOTE,
            Record::Truncate { .. } => KIND_TRUNCATE,
            Record::Purge(_) => KIND_PURGE,
            Record::Committed(_) => KIND_COMMITTED,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Record::Checkpoint(Checkpoint { vote, committed, purged, last }) => {
                for position in [committed, purged, last] {
                    put_position(out, *position);
                }
                out.put_u8(u8::from(vote.is_some()));
                out.put_slice(vote.as_deref().unwrap_or_default());
            }
            Record::Append { position, payload } => {
                out.put_u64_le(position.term.0);
                out.put_u64_le(position.index.0);
                out.put_slice(payload);
            }
            Record::Vote(vote) => out.put_slice(vote),
            Record::Truncate { last } => put_position(out, *last),
            Record::Purge(through) => put_position(out, Some(*through)),
            Record::Committed(committed) => put_position(out, *committed),
        }
    }

    pub(super) fn decode(kind: u8, payload: &Bytes) -> Result<Record, Malformed> {
        let mut reader = Reader::new(payload);
        let record = match kind {
            KIND_CHECKPOINT => {
                let mut position = || reader.position("position in a checkpoint");
                let (committed, purged, last) = (position()?, position()?, position()?);
                let vote = reader.flag("mark of a vote")?.then(|| reader.rest());
                Record::Checkpoint(Checkpoint { vote, committed, purged, last })
            }
            KIND_APPEND => {
                let position = Position { term: Term(reader.u64("term")?), index: Index(reader.u64("index")?) };
                Record::Append { position, payload: reader.rest() }
            }
            KIND_VOTE => Record::Vote(reader.rest()),
            KIND_TRUNCATE => Record::Truncate { last: reader.position("last position")? },
            KIND_PURGE => {
                let missing = reader.malformed("purged position");
                Record::Purge(reader.position("purged position")?.ok_or(missing)?)
            }
            KIND_COMMITTED => Record::Committed(reader.position("committed position")?),
            _ => return Err(reader.malformed("kind of frame")),
        };
        reader.finish()?;
        Ok(record)
    }
}

/// A frame's fields in front of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) checksum: u32,
    pub(super) length: usize,
    pub(super) previous: u32,
    pub(super) sequence: u64,
    pub(super) durable: u64,
    pub(super) kind: u8,
}

impl FrameHead {
    /// Reads the fields of a frame that may be anything, refusing those that cannot be a frame's.
    pub(super) fn decode(bytes: &[u8; FRAME_HEAD_BYTES]) -> Result<FrameHead, &'static str> {
        let mut bytes = &bytes[..];
        let head = FrameHead {
            checksum: bytes.get_u32_le(),
            length: bytes.get_u32_le() as usize,
            previous: bytes.get_u32_le(),
            sequence: bytes.get_u64_le(),
            durable: bytes.get_u64_le(),
            kind: bytes.get_u8(),
        };
        let payload_bytes_max = match head.kind {
            KIND_CHECKPOINT => 3 * POSITION_BYTES + 1 + VOTE_BYTES_MAX,
            KIND_APPEND => PAYLOAD_BYTES_MAX,
            KIND_VOTE => VOTE_BYTES_MAX,
            KIND_TRUNCATE | KIND_PURGE | KIND_COMMITTED => POSITION_BYTES,
            _ => return Err("kind of frame"),
        };
        if head.length > payload_bytes_max {
            return Err("length of a frame");
        }
        if head.durable >= head.sequence {
            return Err("sequence of a frame");
        }
        Ok(head)
    }

    pub(super) fn frame_bytes(&self) -> usize {
        FRAME_HEAD_BYTES + self.length
    }
}

/// Whether a whole frame is as it was written.
pub(super) fn frame_is_intact(frame: &[u8]) -> bool {
    frame.len() >= FRAME_HEAD_BYTES && frame[..4] == crc32c::crc32c(&frame[4..]).to_le_bytes()
}

/// Appends a frame and returns its checksum.
pub(super) fn put_frame(out: &mut Vec<u8>, record: &Record, previous: u32, sequence: u64, durable: u64) -> u32 {
    let start = out.len();
    out.put_u64_le(0); // Checksum and length, known below.
    out.put_u32_le(previous);
    out.put_u64_le(sequence);
    out.put_u64_le(durable);
    out.put_u8(record.kind());
    record.put(out);
    let length = length_field(out.len() - start - FRAME_HEAD_BYTES);
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    let checksum = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
    checksum
}

/// The first bytes of a segment: which it is, and which frame it goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHead {
    pub(super) number: u64,
    pub(super) first_sequence: u64,
    pub(super) previous: u32,
}

/// Why a header is none.
pub(super) enum HeadError {
    Version(u32),
    Malformed(&'static str),
}

impl SegmentHead {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_slice(SEGMENT_MAGIC);
        out.put_u32_le(LOG_VERSION);
        out.put_u64_le(self.number);
        out.put_u64_le(self.first_sequence);
        out.put_u32_le(self.previous);
        let checksum = crc32c::crc32c(&out[start..]);
        out.put_u32_le(checksum);
    }

    pub(super) fn decode(bytes: &[u8; SEGMENT_HEAD_BYTES]) -> Result<SegmentHead, HeadError> {
        let (mut fields, mut checksum) = bytes.split_at(SEGMENT_HEAD_BYTES - 4);
        let intact = crc32c::crc32c(fields) == checksum.get_u32_le();
        if !fields.starts_with(SEGMENT_MAGIC) {
            return Err(HeadError::Malformed("not a segment of the log"));
        }
        fields.advance(SEGMENT_MAGIC.len());
        match fields.get_u32_le() {
            _ if !intact => Err(HeadError::Malformed("segment's header fails its checksum")),
            LOG_VERSION => {
                Ok(SegmentHead { number: fields.get_u64_le(), first_sequence: fields.get_u64_le(), previous: fields.get_u32_le() })
            }
            version => Err(HeadError::Version(version)),
        }
    }
}

/// Up to which frame the log was durable, kept beside it: a lower bound, for it is not synced itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) sequence: u64,
    /// Of the frame with that number.
    pub(super) checksum: u32,
}

impl Mark {
    pub(super) fn encode(&self) -> [u8; MARK_BYTES] {
        let mut out = Vec::with_capacity(MARK_BYTES);
        out.put_slice(MARK_MAGIC);
        out.put_u32_le(LOG_VERSION);
        out.put_u64_le(self.sequence);
        out.put_u32_le(self.checksum);
        let checksum = crc32c::crc32c(&out);
        out.put_u32_le(checksum);
        out.try_into().expect("the fields add up to MARK_BYTES")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Mark, HeadError> {
        let bytes: &[u8; MARK_BYTES] = bytes.try_into().map_err(|_| HeadError::Malformed("length"))?;
        let (mut fields, mut checksum) = bytes.split_at(MARK_BYTES - 4);
        let intact = crc32c::crc32c(fields) == checksum.get_u32_le();
        if !fields.starts_with(MARK_MAGIC) || !intact {
            return Err(HeadError::Malformed("checksum"));
        }
        fields.advance(MARK_MAGIC.len());
        match fields.get_u32_le() {
            LOG_VERSION => Ok(Mark { sequence: fields.get_u64_le(), checksum: fields.get_u32_le() }),
            version => Err(HeadError::Version(version)),
        }
    }
}

//! The journal's lines: one JSON object each, chained by SHA-256, and the check of a whole file.
//!
//! Always: every line but the first of the first file names the hash of the line before it, so that no line can be changed, left
//! out, added or moved without a trace in all that follow; a state has one spelling, and any other is refused.
//! Knows nothing of disks, and of no act: names of acts and fields are texts here. Format: `docs/storage-format.md`, "Journal".

use std::fmt;

use serde_json::{Map, Value};
use types::{ClusterId, NodeId, Timestamp};
use uuid::Uuid;

/// The version in each line.
pub const JOURNAL_VERSION: u64 = 1;
/// A line without its newline, at most, in bytes.
pub const LINE_BYTES_MAX: usize = 8 << 10;
/// What a header says that this file is.
pub const JOURNAL_FORMAT: &str = "conclave journal";

/// No entry has a higher number: what JSON readers take for a number ends there.
pub(super) const SEQUENCE_MAX: u64 = 1 << 53;

/// How every line begins.
const LINE_BEGIN: &[u8] = b"{\"v\":";
const ENVELOPE_BEFORE: [&str; 6] = ["v", "sequence", "time", "node", "act", "outcome"];
const PREVIOUS: &str = "previous";

/// The SHA-256 of a whole line without its newline, or of a whole file.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LineHash(pub [u8; 32]);

impl LineHash {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> LineHash {
        LineHash(crypto::digest::sha256(bytes))
    }

    /// From 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<LineHash> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).ok()?;
        let hash = LineHash(hash);
        (hash.to_string() == text).then_some(hash)
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The first line of a file: whose journal it is, and what it goes on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Counts the files, from 1.
    pub file: u64,
    /// Whose journal.
    pub node: NodeId,
    /// Of which cluster, if the node knew when it began the file.
    pub cluster: Option<ClusterId>,
    /// The sequence number of the first entry.
    pub next: u64,
    /// Set when the file before is broken: the line in it that is, counted from 1.
    pub broken: Option<u64>,
    /// The hash of the last line of the file before; with `broken`, of that whole file. `None` for the first file.
    pub previous: Option<LineHash>,
}

impl Header {
    /// The line, without its newline.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut object = Map::new();
        object.insert("v".into(), JOURNAL_VERSION.into());
        object.insert("format".into(), JOURNAL_FORMAT.into());
        object.insert("file".into(), self.file.into());
        object.insert("node".into(), self.node.as_str().into());
        if let Some(cluster) = self.cluster {
            object.insert("cluster".into(), cluster.to_string().into());
        }
        object.insert("next".into(), self.next.into());
        if let Some(line) = self.broken {
            object.insert("broken".into(), line.into());
        }
        if let Some(previous) = self.previous {
            object.insert(PREVIOUS.into(), previous.to_string().into());
        }
        to_bytes(&object)
    }

    /// Parses a header.
    pub(super) fn decode(line: &[u8]) -> Result<Header, LineFault> {
        let object = parse(line)?;
        let malformed = || LineFault::Malformed("it is no header of a journal");
        if text(&object, "format") != Some(JOURNAL_FORMAT) {
            return Err(malformed());
        }
        let cluster = match object.get("cluster") {
            Some(_) => {
                let cluster = text(&object, "cluster").and_then(|text| Uuid::parse_str(text).ok());
                Some(ClusterId(cluster.ok_or(LineFault::Malformed("cluster"))?))
            }
            None => None,
        };
        let broken = match object.get("broken") {
            Some(_) => Some(number(&object, "broken").filter(|line| *line > 0).ok_or(LineFault::Malformed("broken"))?),
            None => None,
        };
        let previous = match object.get(PREVIOUS) {
            Some(_) => Some(text(&object, PREVIOUS).and_then(LineHash::parse).ok_or(LineFault::Malformed(PREVIOUS))?),
            None => None,
        };
        let header = Header {
            file: number(&object, "file").filter(|file| *file > 0).ok_or(LineFault::Malformed("file"))?,
            node: text(&object, "node").and_then(|node| NodeId::parse(node).ok()).ok_or(LineFault::Malformed("node"))?,
            cluster,
            next: number(&object, "next").filter(|next| (1..=SEQUENCE_MAX).contains(next)).ok_or(LineFault::Malformed("next"))?,
            broken,
            previous,
        };
        if header.previous.is_none() && (header.file, header.next, header.broken) != (1, 1, None) {
            return Err(LineFault::Malformed("it names no line before it, and is not the first file"));
        }
        // One state has one spelling.
        if header.encode() == line { Ok(header) } else { Err(malformed()) }
    }
}

/// One act, as it was read from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counts the entries of this node's journal over all files, from 1.
    pub sequence: u64,
    /// When, by the node's clock: RFC 3339, UTC, milliseconds.
    pub time: String,
    /// At which node.
    pub node: NodeId,
    /// What was done.
    pub act: String,
    /// What came of it.
    pub outcome: String,
    /// What else is known of it: texts, numbers and flags, in the order of the line.
    pub fields: Map<String, Value>,
    /// Of this whole line: what the next one names.
    pub hash: LineHash,
}

impl Line {
    /// A field that is a text; `None` when it is absent.
    pub fn text(&self, name: &str) -> Option<&str> {
        text(&self.fields, name)
    }

    /// A field that is a number; `None` when it is absent.
    pub fn number(&self, name: &str) -> Option<u64> {
        number(&self.fields, name)
    }
}

/// An entry that is about to be written.
pub(super) struct Draft<'a> {
    pub(super) sequence: u64,
    pub(super) time: Timestamp,
    pub(super) node: &'a NodeId,
    pub(super) act: &'a str,
    pub(super) outcome: &'a str,
    pub(super) fields: Map<String, Value>,
    pub(super) previous: LineHash,
}

impl Draft<'_> {
    /// The line, without its newline.
    pub(super) fn encode(self) -> Vec<u8> {
        let mut object = Map::new();
        object.insert("v".into(), JOURNAL_VERSION.into());
        object.insert("sequence".into(), self.sequence.into());
        object.insert("time".into(), rfc3339(self.time).into());
        object.insert("node".into(), self.node.as_str().into());
        object.insert("act".into(), self.act.into());
        object.insert("outcome".into(), self.outcome.into());
        object.extend(self.fields);
        object.insert(PREVIOUS.into(), self.previous.to_string().into());
        to_bytes(&object)
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// Not what this software writes.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// Longer than a line may be.
    #[error("longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// A newer release wrote it.
    #[error("version {0}, and this release reads version {JOURNAL_VERSION}")]
    Version(u64),
    /// A line before it was changed, left out or added.
    #[error("it names {found} as the hash of the line before it, which has {wanted}")]
    Previous {
        /// What it names.
        found: LineHash,
        /// What the line before it has.
        wanted: LineHash,
    },
    /// Entries before it are missing or too many.
    #[error("it is entry {found}, and entry {wanted} was to come")]
    Sequence {
        /// What it says.
        found: u64,
        /// What comes after the line before it.
        wanted: u64,
    },
    /// Another node's.
    #[error("it is of node {found}, and the journal is of node {wanted}")]
    Node {
        /// Whose it is.
        found: NodeId,
        /// Whose journal it is in.
        wanted: NodeId,
    },
}

/// Where a file's chain ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// At the end of the file.
    Whole,
    /// The rest, from this offset, is a line that was being written: it was never reported done.
    Torn {
        /// In bytes.
        offset: usize,
    },
    /// A line is not as it was written, or not in its place.
    Broken(Broken),
}

/// A line at which the chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct Broken {
    /// Counted from 1; the header is line 1.
    pub line: u64,
    /// What is wrong with it.
    pub fault: LineFault,
}

/// A file that was read as far as it is whole.
#[derive(Debug, Clone)]
pub struct Checked {
    /// `None`: already the first line is broken.
    pub header: Option<Header>,
    /// All entries up to [`Checked::end`].
    pub lines: Vec<Line>,
    /// The hash of the last line that is whole, the header included.
    pub head: Option<LineHash>,
    /// Where the last line that is whole begins, in bytes.
    pub last_offset: usize,
    /// What comes after the lines.
    pub end: End,
}

impl Checked {
    /// The sequence number that the next entry has; 1 when there is not even a header.
    pub fn next(&self) -> u64 {
        self.lines.last().map(|line| line.sequence.saturating_add(1)).or(self.header.as_ref().map(|header| header.next)).unwrap_or(1)
    }
}

/// Reads a file's content and checks its chain. Any bytes will do; memory is a few times their length.
pub fn check(bytes: &[u8]) -> Checked {
    let mut checked = Checked { header: None, lines: Vec::new(), head: None, last_offset: 0, end: End::Whole };
    let (mut offset, mut number) = (0, 0);
    loop {
        let rest = &bytes[offset..];
        number += 1;
        let newline = rest.iter().position(|byte| *byte == b'\n');
        let whole = newline.map(|end| &rest[..end]);
        let read = match (&checked.header, whole) {
            // A header gets its name only when it is whole and durable.
            (None, None) => Err(LineFault::Malformed("there is no header")),
            (None, Some(line)) => Header::decode(line).map(|header| checked.header = Some(header)),
            (Some(_), None) if rest.is_empty() => return checked,
            (Some(_), None) => Err(LineFault::Malformed("it has no end")),
            (Some(header), Some(line)) => {
                let previous = checked.head.expect("the header was read");
                decode(line, header, checked.next(), previous).map(|line| checked.lines.push(line))
            }
        };
        match read {
            Ok(()) => {
                let line = whole.expect("only whole lines are read");
                checked.head = Some(LineHash::of(line));
                checked.last_offset = offset;
                offset += line.len() + 1;
            }
            Err(fault) => {
                let is_torn = checked.header.is_some() && matches!(fault, LineFault::Malformed(_)) && may_be_torn(rest);
                checked.end = if is_torn { End::Torn { offset } } else { End::Broken(Broken { line: number, fault }) };
                return checked;
            }
        }
    }
}

/// Whether `rest` can be what an append that was cut off has left: no longer than a line, and no other line begins in it.
///
/// Sectors of a write reach the disk in any order, so it may have a newline at its end and zeros, or what an earlier vain attempt wrote
/// in the same place, before that. What was reported done is followed by nothing or by another line's beginning, which no text within a
/// line can look like, as its quotes are escaped.
fn may_be_torn(rest: &[u8]) -> bool {
    rest.len() <= LINE_BYTES_MAX + 1 && !rest[1..].windows(LINE_BEGIN.len()).any(|window| window == LINE_BEGIN)
}

fn decode(line: &[u8], header: &Header, sequence: u64, previous: LineHash) -> Result<Line, LineFault> {
    let mut object = parse(line)?;
    let ordered = object.keys().map(String::as_str).take(ENVELOPE_BEFORE.len()).eq(ENVELOPE_BEFORE);
    if !ordered || object.keys().next_back().map(String::as_str) != Some(PREVIOUS) {
        return Err(LineFault::Malformed("its fields are not those of an entry"));
    }
    let field = |name: &'static str| text(&object, name).map(str::to_owned).ok_or(LineFault::Malformed(name));
    let found = LineHash::parse(&field(PREVIOUS)?).ok_or(LineFault::Malformed(PREVIOUS))?;
    let node = NodeId::parse(&field("node")?).map_err(|_| LineFault::Malformed("node"))?;
    let (time, act, outcome) = (field("time")?, field("act")?, field("outcome")?);
    let found_sequence = number(&object, "sequence").ok_or(LineFault::Malformed("sequence"))?;
    if parse_rfc3339(&time).is_none() {
        return Err(LineFault::Malformed("time"));
    }
    if node != header.node {
        return Err(LineFault::Node { found: node, wanted: header.node.clone() });
    }
    if found_sequence != sequence {
        return Err(LineFault::Sequence { found: found_sequence, wanted: sequence });
    }
    if found != previous {
        return Err(LineFault::Previous { found, wanted: previous });
    }
    for name in ENVELOPE_BEFORE.into_iter().chain([PREVIOUS]) {
        // Keeps the others' order.
        object.shift_remove(name);
    }
    Ok(Line { sequence, time, node, act, outcome, fields: object, hash: LineHash::of(line) })
}

/// A flat object of texts, numbers and flags, of our version and in our spelling.
fn parse(line: &[u8]) -> Result<Map<String, Value>, LineFault> {
    if line.len() > LINE_BYTES_MAX {
        return Err(LineFault::TooLong);
    }
    let Ok(Value::Object(object)) = serde_json::from_slice(line) else {
        return Err(LineFault::Malformed("it is no JSON object"));
    };
    match number(&object, "v") {
        Some(JOURNAL_VERSION) => {}
        Some(version) => return Err(LineFault::Version(version)),
        None => return Err(LineFault::Malformed("it has no version")),
    }
    let is_flat = object.values().all(|value| matches!(value, Value::String(_) | Value::Bool(_)) || value.is_u64());
    // Also finds a name that comes twice.
    if is_flat && to_bytes(&object) == line { Ok(object) } else { Err(LineFault::Malformed("its spelling is not ours")) }
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

fn number(object: &Map<String, Value>, name: &str) -> Option<u64> {
    object.get(name).and_then(Value::as_u64)
}

fn to_bytes(object: &Map<String, Value>) -> Vec<u8> {
    serde_json::to_vec(object).expect("a map of texts and numbers is written to memory")
}

/// RFC 3339 in UTC with milliseconds, as each line has it.
pub(super) fn rfc3339(time: Timestamp) -> String {
    let time = i64::try_from(time.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or(jiff::Timestamp::MAX);
    format!("{time:.3}")
}

fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    let time = Timestamp(u64::try_from(time.as_millisecond()).ok()?);
    (rfc3339(time) == text).then_some(time)
}

//! [`Journal`]: what was done with the cluster's keys at this node, in a hash-chained file that needs no key.
//!
//! Always: an entry that was reported written is on stable storage; entries are never changed; each names the hash of the one before
//! it, also from file to file. A torn end is cut off, kept apart and noted; any other damage ends the file where it is, and the
//! journal goes on in a new one that names the whole damaged file's hash. Bounded in lines, files and entries that anybody can cause.
//! Knows no act: the barrier names them. Format: `docs/storage-format.md`, "Journal".

mod line;
#[cfg(test)]
mod tests;
mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use types::{Clock, ClusterId, NodeId, Timestamp};

use crate::disk::{Disk, DiskFile, OpenMode, parent, read_whole, remove_temporary, write_whole};
use line::{Draft, SEQUENCE_MAX};

pub use verify::{FileFault, FileReport, Verifier};

pub use line::{Broken, Checked, End, Header, JOURNAL_FORMAT, JOURNAL_VERSION, LINE_BYTES_MAX, Line, LineFault, LineHash, check};

/// A file that has grown so far is followed by another, in bytes. No file is longer than this and one line.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// Files that are kept; older ones are removed. At [`REFUSALS_REFILL`], a stranger needs more than a year to push an entry out.
pub const FILES_MAX: u64 = 64;
/// Entries of refusals that are written at once, at most.
pub const REFUSALS_MAX: u32 = 20;
/// How long it takes until one more refusal may be written.
pub const REFUSALS_REFILL: Duration = Duration::from_secs(60);
/// Bytes of a text in an entry; longer ones are cut.
pub const TEXT_BYTES_MAX: usize = 256;
/// Fields of an entry besides those that each has.
pub const FIELDS_MAX: usize = 12;

const WINDOW_BYTES: usize = 64 << 10;
const EXTENSION: &str = ".jsonl";
const TORN_EXTENSION: &str = ".torn";

/// What the journal itself does, as an entry's act.
const ACT_TORN: &str = "torn_end_removed";
const ACT_BROKEN: &str = "journal_broken";

/// A value in an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// Cut to [`TEXT_BYTES_MAX`]; control characters are shown as `?`.
    Text(String),
    /// A number.
    Number(u64),
}

/// An act to be written down.
#[derive(Debug, Clone, Default)]
pub struct NewEntry {
    /// What was done, as one word.
    pub act: &'static str,
    /// What came of it.
    pub outcome: String,
    /// What else is known: at most [`FIELDS_MAX`], each name once and none that every entry has.
    pub fields: Vec<(&'static str, Field)>,
    /// Anybody can cause it: beyond [`REFUSALS_MAX`] it is counted only.
    pub is_refusal: bool,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is on stable storage.
    Written {
        /// Its number.
        sequence: u64,
        /// Its line's hash.
        hash: LineHash,
    },
    /// There were too many refusals. The next entry tells how many were left out.
    LeftOut,
}

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
#[error("journal {}", file.display())]
pub struct OpenError {
    /// The file or folder.
    pub file: PathBuf,
    /// The disk's error.
    #[source]
    pub source: io::Error,
}

/// Why an entry is not surely written. It may be, after a crash.
#[derive(Debug, thiserror::Error)]
#[error("write to the journal {}", file.display())]
pub struct AppendError {
    /// The file.
    pub file: PathBuf,
    /// The disk's error.
    #[source]
    pub source: io::Error,
}

/// Why entries cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read the journal {}", file.display())]
pub struct ReadError {
    /// The file.
    pub file: PathBuf,
    /// The disk's error.
    #[source]
    pub source: io::Error,
}

/// How large the files become, and how many are kept.
#[derive(Clone, Copy)]
struct Limits {
    file_bytes: u64,
    files: u64,
}

const LIMITS: Limits = Limits { file_bytes: FILE_BYTES_MAX, files: FILES_MAX };

/// A node's journal, open.
pub struct Journal {
    limits: Limits,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    node: NodeId,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// The number of the last entry.
    last: AtomicU64,
    failures: AtomicU64,
}

struct State {
    file: Arc<dyn DiskFile>,
    number: u64,
    /// Of what is durable, in bytes: where the next line goes.
    length: u64,
    /// A write failed, so that something may stand after `length`.
    is_dirty: bool,
    /// Of the next entry.
    next: u64,
    /// The last line's hash.
    head: LineHash,
    cluster: Option<ClusterId>,
    refusals: Allowance,
    left_out: u64,
}

/// How many refusals may still be written.
#[derive(Clone, Copy)]
struct Allowance {
    left: u32,
    /// When `left` was that.
    since: Timestamp,
}

impl Allowance {
    fn take(&mut self, now: Timestamp) -> bool {
        // A clock that was set back must not stop the journal until it has caught up.
        self.since = self.since.min(now);
        let refill_ms = REFUSALS_REFILL.as_millis() as u64;
        match u32::try_from((now.0 - self.since.0) / refill_ms) {
            Ok(refills) if refills < REFUSALS_MAX - self.left => {
                self.left += refills;
                self.since = Timestamp(self.since.0 + u64::from(refills) * refill_ms);
            }
            _ => *self = Allowance { left: REFUSALS_MAX, since: now },
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

impl Journal {
    /// Opens the journal in the folder `dir`, or makes it. `cluster` goes into the header of each file that is begun.
    ///
    /// Damage is no error: it is traced, noted in the journal itself, and the node goes on.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        node: &NodeId,
        cluster: Option<ClusterId>,
        clock: Arc<dyn Clock>,
    ) -> Result<Journal, OpenError> {
        Journal::open_with(LIMITS, disk, dir, node, cluster, clock)
    }

    fn open_with(
        limits: Limits,
        disk: Arc<dyn Disk>,
        dir: &Path,
        node: &NodeId,
        cluster: Option<ClusterId>,
        clock: Arc<dyn Clock>,
    ) -> Result<Journal, OpenError> {
        let io = |source| OpenError { file: dir.to_owned(), source };
        disk.create_dir_all(dir).map_err(io)?;
        disk.sync_dir(parent(dir)).map_err(io)?;
        remove_temporary(&*disk, dir).map_err(io)?;
        let numbers = file_numbers(&*disk, dir).map_err(io)?;
        let (begun, note) = if numbers.is_empty() {
            let header = Header { file: 1, node: node.clone(), cluster, next: 1, broken: None, previous: None };
            (begin(&*disk, dir, &header).map_err(io)?, None)
        } else {
            resume(&*disk, dir, &numbers, node, cluster).map_err(io)?
        };
        let Begun { file, number, length, next, head } = begun;
        let refusals = Allowance { left: REFUSALS_MAX, since: clock.now() };
        let state = State { file, number, length, is_dirty: false, next, head, cluster, refusals, left_out: 0 };
        let journal = Journal {
            limits,
            disk,
            dir: dir.to_owned(),
            node: node.clone(),
            clock,
            state: Mutex::new(state),
            last: AtomicU64::new(next - 1),
            failures: AtomicU64::new(0),
        };
        if let Some(note) = note {
            journal.append(note).map_err(|AppendError { file, source }| OpenError { file, source })?;
        }
        Ok(journal)
    }

    /// Writes an entry; returns when it is on stable storage.
    ///
    /// After an error the entry may be lost or not, and the next one is tried afresh. The caller says what then happens to the act.
    ///
    /// # Panics
    /// When the entry has too many fields, one twice, or one that every entry has.
    pub fn append(&self, entry: NewEntry) -> Result<Appended, AppendError> {
        let mut state = self.state();
        let now = self.clock.now();
        if entry.is_refusal && !state.refusals.take(now) {
            state.left_out = state.left_out.saturating_add(1);
            return Ok(Appended::LeftOut);
        }
        let written = self.write(&mut state, entry, now);
        if written.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        written
    }

    /// The cluster is known now: it goes into the header of the next file.
    pub fn bind_cluster(&self, cluster: ClusterId) {
        self.state().cluster = Some(cluster);
    }

    /// The number of the last entry that was written; 0 for none.
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// Entries that could not be written since the journal was opened.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Up to `count_max` entries that come after number `sequence`, in order. Those in files that are gone, or beyond a break in a
    /// file, are passed over. Reads one file at least, which takes up to [`FILE_BYTES_MAX`] of memory a few times over.
    pub fn after(&self, sequence: u64, count_max: usize) -> Result<Vec<Line>, ReadError> {
        let (active, length) = {
            let state = self.state();
            (state.number, state.length)
        };
        let io = |file: &Path| {
            let file = file.to_owned();
            move |source| ReadError { file, source }
        };
        let mut numbers = file_numbers(&*self.disk, &self.dir).map_err(io(&self.dir))?;
        numbers.retain(|number| *number <= active);
        // Of the files that begin no later than what is asked for, only the last is needed.
        while let Some(second) = numbers.get(1) {
            let path = file_path(&self.dir, *second);
            match first_line(&*self.disk, &path).map_err(io(&path))? {
                Some(header) if header.next <= sequence.saturating_add(1) => numbers.remove(0),
                _ => break,
            };
        }
        let mut found = Vec::new();
        for number in numbers {
            let path = file_path(&self.dir, number);
            let mut bytes = match read_whole(&*self.disk, &path, file_bytes_max()) {
                Ok(bytes) => bytes,
                // Grown by somebody else's hand: what it holds was passed over when it was found to be broken.
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => continue,
                Err(error) => return Err(io(&path)(error)),
            };
            if number == active {
                bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            }
            found.extend(check(&bytes).lines.into_iter().filter(|line| line.sequence > sequence).take(count_max - found.len()));
            if found.len() >= count_max {
                break;
            }
        }
        Ok(found)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, state: &mut State, entry: NewEntry, now: Timestamp) -> Result<Appended, AppendError> {
        let mut fields = Map::new();
        assert!(entry.fields.len() <= FIELDS_MAX, "an entry has at most {FIELDS_MAX} fields");
        for (name, value) in entry.fields {
            let reserved = ["v", "sequence", "time", "node", "act", "outcome", "left_out", "previous"];
            assert!(!reserved.contains(&name), "every entry has a field {name:?} of its own");
            let value = match value {
                Field::Text(text) => Value::String(shown(&text)),
                Field::Number(number) => number.into(),
            };
            assert!(fields.insert(name.to_owned(), value).is_none(), "an entry has the field {name:?} once");
        }
        if state.left_out > 0 {
            fields.insert("left_out".into(), state.left_out.into());
        }
        let outcome = shown(&entry.outcome);
        let encode = |state: &State| {
            let fields = fields.clone();
            Draft { sequence: state.next, time: now, node: &self.node, act: entry.act, outcome: &outcome, fields, previous: state.head }
                .encode()
        };
        let mut line = encode(state);
        if state.length + line.len() as u64 >= self.limits.file_bytes {
            self.rotate(state)?;
            line = encode(state);
        }
        assert!(line.len() <= LINE_BYTES_MAX, "the parts of an entry are limited, so that it fits");
        let hash = LineHash::of(&line);
        line.push(b'\n');
        let path = file_path(&self.dir, state.number);
        let written = (|| {
            if std::mem::replace(&mut state.is_dirty, true) {
                state.file.set_len(state.length)?;
            }
            state.file.write_at(&line, state.length)?;
            state.file.sync_data()
        })();
        written.map_err(|source| AppendError { file: path, source })?;
        let sequence = state.next;
        state.is_dirty = false;
        state.length += line.len() as u64;
        state.next += 1;
        state.head = hash;
        state.left_out = 0;
        self.last.store(sequence, Ordering::Release);
        Ok(Appended::Written { sequence, hash })
    }

    /// Begins the next file, and removes the oldest.
    fn rotate(&self, state: &mut State) -> Result<(), AppendError> {
        let header = Header {
            file: state.number + 1,
            node: self.node.clone(),
            cluster: state.cluster,
            next: state.next,
            broken: None,
            previous: Some(state.head),
        };
        let error = |source| AppendError { file: file_path(&self.dir, header.file), source };
        if std::mem::take(&mut state.is_dirty) {
            // The old file must end with its last line.
            let cut = state.file.set_len(state.length).and_then(|()| state.file.sync_data());
            if let Err(source) = cut {
                state.is_dirty = true;
                return Err(AppendError { file: file_path(&self.dir, state.number), source });
            }
        }
        let Begun { file, number, length, next, head } = begin(&*self.disk, &self.dir, &header).map_err(error)?;
        *state = State { file, number, length, is_dirty: false, next, head, ..*state };
        if let Err(error) = remove_old(&*self.disk, &self.dir, number, self.limits.files) {
            tracing::warn!(%error, "remove old files of the journal");
        }
        Ok(())
    }
}

/// A file's header; `None` if it has none that is whole.
fn first_line(disk: &dyn Disk, path: &Path) -> io::Result<Option<Header>> {
    let file = disk.open(path, OpenMode::Read)?;
    let mut bytes = vec![0; LINE_BYTES_MAX + 1];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    let line = bytes[..filled].split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(Header::decode(line).ok())
}

/// A file that can be written to.
struct Begun {
    file: Arc<dyn DiskFile>,
    number: u64,
    length: u64,
    next: u64,
    head: LineHash,
}

/// Makes a file of which only the header is there, durably.
fn begin(disk: &dyn Disk, dir: &Path, header: &Header) -> io::Result<Begun> {
    let mut line = header.encode();
    let head = LineHash::of(&line);
    line.push(b'\n');
    let path = file_path(dir, header.file);
    write_whole(disk, &path, &line)?;
    let file = disk.open(&path, OpenMode::Write)?;
    Ok(Begun { file, number: header.file, length: line.len() as u64, next: header.next, head })
}

/// Goes on in the newest file, or in a new one after it if it is broken. The second part is what the journal has to say of it.
fn resume(
    disk: &dyn Disk,
    dir: &Path,
    numbers: &[u64],
    node: &NodeId,
    cluster: Option<ClusterId>,
) -> io::Result<(Begun, Option<NewEntry>)> {
    let number = *numbers.last().expect("asked when there is a file");
    let path = file_path(dir, number);
    let file = disk.open(&path, OpenMode::Write)?;
    let bytes = match read_whole(disk, &path, file_bytes_max()) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => None,
        Err(error) => return Err(error),
    };
    let mut checked = check(bytes.as_deref().unwrap_or_default());
    if bytes.is_none() {
        checked.end = End::Broken(Broken { line: 1, fault: LineFault::Malformed("the file is longer than a journal's") });
    } else if let Some(header) = &checked.header {
        if header.node != *node {
            let fault = LineFault::Node { found: header.node.clone(), wanted: node.clone() };
            checked.end = End::Broken(Broken { line: 1, fault });
        } else if header.file != number {
            checked.end = End::Broken(Broken { line: 1, fault: LineFault::Malformed("the header is another file's") });
        }
    }
    let bytes = bytes.unwrap_or_default();
    let note = match &checked.end {
        End::Broken(broken) => {
            let (newlines, whole) = scan(&*file)?;
            let before = match (&checked.header, numbers.len().checked_sub(2)) {
                (None, Some(place)) => last_of(disk, &file_path(dir, numbers[place]))?,
                _ => 0,
            };
            let next = before.saturating_add(taken(&checked, newlines)).saturating_add(1).min(SEQUENCE_MAX);
            tracing::error!(
                file = %path.display(), line = broken.line, fault = %broken.fault, goes_on_in = number + 1,
                "THE JOURNAL IS BROKEN: keep the file, compare it with the audit log and the other nodes' journals"
            );
            let header = Header { file: number + 1, node: node.clone(), cluster, next, broken: Some(broken.line), previous: Some(whole) };
            let entry = NewEntry {
                act: ACT_BROKEN,
                outcome: broken.fault.to_string(),
                fields: vec![
                    ("file", Field::Number(number)),
                    ("line", Field::Number(broken.line)),
                    ("sha256", Field::Text(whole.to_string())),
                ],
                is_refusal: false,
            };
            return Ok((begin(disk, dir, &header)?, Some(entry)));
        }
        End::Torn { offset } => {
            let rest = &bytes[*offset..];
            tracing::warn!(file = %path.display(), offset, bytes = rest.len(), "torn end of the journal is cut off");
            write_whole(disk, &dir.join(format!("{number:08}{TORN_EXTENSION}")), rest)?;
            file.set_len(*offset as u64)?;
            Some(NewEntry {
                act: ACT_TORN,
                outcome: "it was never reported written".into(),
                fields: vec![
                    ("file", Field::Number(number)),
                    ("bytes", Field::Number(rest.len() as u64)),
                    ("sha256", Field::Text(LineHash::of(rest).to_string())),
                ],
                is_refusal: false,
            })
        }
        End::Whole => None,
    };
    // After a failed sync the last line may be readable and yet not on the disk; so it is written once more.
    let length = match checked.end {
        End::Torn { offset } => offset,
        _ => bytes.len(),
    };
    file.write_at(&bytes[checked.last_offset..length], checked.last_offset as u64)?;
    file.sync_data()?;
    disk.sync_dir(dir)?;
    let head = checked.head.expect("a file that is not broken has a header");
    Ok((Begun { file, number, length: length as u64, next: checked.next(), head }, note))
}

/// How many newlines a file has, and the hash of all of it.
fn scan(file: &dyn DiskFile) -> io::Result<(u64, LineHash)> {
    let mut hash = crypto::digest::Sha256::new();
    let (mut newlines, mut offset, mut window) = (0, 0, vec![0; WINDOW_BYTES]);
    loop {
        let count = file.read_at(&mut window, offset)?;
        if count == 0 {
            return Ok((newlines, LineHash(hash.finish())));
        }
        hash.update(&window[..count]);
        newlines += window[..count].iter().filter(|byte| **byte == b'\n').count() as u64;
        offset += count as u64;
    }
}

/// The highest number that an entry of a file may have, broken or not: numbers are never given twice, so every line beyond a break
/// counts as an entry. Without a header, how many entries the file may have.
fn taken(checked: &Checked, newlines: u64) -> u64 {
    match &checked.header {
        Some(_) => (checked.next() - 1).saturating_add(newlines.saturating_sub(1 + checked.lines.len() as u64)),
        None => newlines,
    }
}

/// The same of the file at `path`; 0 for one that is too long to be a journal's.
fn last_of(disk: &dyn Disk, path: &Path) -> io::Result<u64> {
    match read_whole(disk, path, file_bytes_max()) {
        Ok(bytes) => Ok(taken(&check(&bytes), bytes.iter().filter(|byte| **byte == b'\n').count() as u64)),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(0),
        Err(error) => Err(error),
    }
}

fn remove_old(disk: &dyn Disk, dir: &Path, newest: u64, files_max: u64) -> io::Result<()> {
    let mut removed = false;
    for number in file_numbers(disk, dir)?.into_iter().filter(|number| *number + files_max <= newest) {
        disk.remove(&file_path(dir, number))?;
        removed = true;
    }
    if removed { disk.sync_dir(dir) } else { Ok(()) }
}

/// A text as a line shows it.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).take(TEXT_BYTES_MAX).collect();
    let mut length = shown.len().min(TEXT_BYTES_MAX);
    while !shown.is_char_boundary(length) {
        length -= 1;
    }
    shown.truncate(length);
    shown
}

/// The path of a file of the journal.
fn file_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}{EXTENSION}"))
}

/// The number of a file of this name; `None` for any other file.
pub fn file_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(EXTENSION)?;
    let number = digits.parse().ok().filter(|number| (1..1 << 40).contains(number))?;
    (format!("{number:08}") == digits).then_some(number)
}

fn file_numbers(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<u64> = disk.list(dir)?.iter().filter_map(|name| file_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The longest file that this software writes.
fn file_bytes_max() -> usize {
    usize::try_from(FILE_BYTES_MAX).expect("it fits memory") + 2 * (LINE_BYTES_MAX + 1)
}

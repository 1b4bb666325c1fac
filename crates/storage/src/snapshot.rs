//! Snapshot files: the whole table in one stream, checked whole before any of it is used.
//!
//! Always: equal tables give equal files; a file under its final name was complete, verified and synced; a reader hands out
//! records only after header, every record, counts, state hash and the SHA-256 over all were found right, and checks them
//! again while it hands them out. One snapshot is kept.
//! Knows nothing of keys' meaning; the SHA-256 is against damage, not against forgery. Layout: `docs/storage-format.md`, "Snapshot".

use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use crypto::digest::Sha256;
use types::{Index, Position, Revision, Term};

use crate::batch::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::codec::{POSITION_BYTES, Reader, length_field, put_position};
use crate::container::PackError;
use crate::disk::{Disk, DiskFile, OpenMode, TEMPORARY_SUFFIX, remove_temporary};
use crate::hash::StateHash;
use crate::table::{Applied, Cell, MEMBERSHIP_BYTES_MAX, ReadError, TableView};

/// The version in the header.
pub const SNAPSHOT_VERSION: u32 = 1;
/// The longest snapshot file that is written or received unless the caller says less, in bytes.
pub const SNAPSHOT_BYTES_MAX: u64 = 64 << 30;
/// The longest piece that [`SnapshotSource::read_chunk`] gives, in bytes.
pub const CHUNK_BYTES_MAX: usize = 4 << 20;

const MAGIC: &[u8; 8] = b"CNCLVSNP";
const SUFFIX: &str = ".snapshot";
/// Magic, version, length of the membership.
const HEAD_BYTES: usize = 8 + 4 + 4;
/// Position, membership's position, keys, bytes, hash.
const TOTALS_BYTES: usize = 2 * POSITION_BYTES + 8 + 8 + 32;
/// Checksum, key length, value length, revision.
const RECORD_HEAD_BYTES: usize = 4 + 4 + 4 + 8;
/// In the place of a record's key length: no more records, the SHA-256 follows.
const END: u32 = u32::MAX;
const BUFFER_BYTES: usize = 256 << 10;
const LOCK: &str = "no code panics while it holds the snapshots";

/// What a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The table's totals: where it stood, its membership, counts and hash.
    pub applied: Applied,
    /// The length of the file, in bytes.
    pub file_bytes: u64,
}

/// A cell with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The encrypted name.
    pub key: Bytes,
    /// Revision and encrypted value.
    pub cell: Cell,
}

/// What is wrong with a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file is cut short or not as it was written. It must not be used; take another from a peer.
    #[error("{} is corrupt at byte {offset}: {what}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where the first wrong part begins.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Written by a newer release.
    #[error("{} has version {version}, this release reads up to {SNAPSHOT_VERSION}", file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// The version found.
        version: u32,
    },
    /// More bytes came than were allowed.
    #[error("snapshot is longer than the {bytes_max} bytes allowed")]
    TooLong {
        /// The limit.
        bytes_max: u64,
    },
    /// A newer one is kept already.
    #[error("snapshot at {position:?} is older than the kept one at {kept:?}")]
    Stale {
        /// Of the refused one.
        position: Option<Position>,
        /// Of the kept one.
        kept: Option<Position>,
    },
    /// The disk failed. A full disk is no more than that: nothing was changed.
    #[error("snapshot file {}", file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// The disk's error.
        #[source]
        source: io::Error,
    },
}

/// Why no snapshot was made. The kept one is still there.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The table could not be read, or its cells are not what its totals say.
    #[error("read the table")]
    Table(#[from] ReadError),
    /// The file could not be written.
    #[error(transparent)]
    File(#[from] SnapshotError),
}

/// The folder of snapshots: one kept, others on their way in.
pub struct SnapshotStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    current: Option<Current>,
    temporary_next: u64,
}

#[derive(Clone)]
struct Current {
    info: SnapshotInfo,
    path: PathBuf,
}

impl SnapshotStore {
    /// Opens the folder, or makes it; removes what was half written and all but the newest snapshot.
    ///
    /// Reads no more than the headers: [`SnapshotStore::reader`] verifies the rest.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<SnapshotStore, SnapshotError> {
        let io = |source| SnapshotError::Io { file: dir.to_owned(), source };
        disk.create_dir_all(dir).map_err(io)?;
        remove_temporary(&*disk, dir).map_err(io)?;
        let mut found = Vec::new();
        for name in disk.list(dir).map_err(io)?.into_iter().filter(|name| name.ends_with(SUFFIX)) {
            let path = dir.join(name);
            let file = open_file(&*disk, &path)?;
            let info = Scan::start(file, &path)?.info()?;
            found.push(Current { info, path });
        }
        found.sort_by_key(|current| current.info.applied.position);
        let current = found.pop();
        for old in &found {
            disk.remove(&old.path).map_err(io)?;
        }
        if !found.is_empty() {
            disk.sync_dir(dir).map_err(io)?;
        }
        Ok(SnapshotStore { disk, dir: dir.to_owned(), inner: Mutex::new(Inner { current, temporary_next: 0 }) })
    }

    /// The kept snapshot.
    pub fn current(&self) -> Option<SnapshotInfo> {
        self.lock().current.as_ref().map(|current| current.info.clone())
    }

    /// The file of the kept snapshot.
    pub fn current_path(&self) -> Option<PathBuf> {
        self.lock().current.as_ref().map(|current| current.path.clone())
    }

    /// Writes a view to a new file and keeps that in the place of the older one; if a newer one is kept by then, that stays
    /// and is returned.
    ///
    /// The view's cells are added up on the way: a table whose totals are wrong makes no snapshot.
    pub fn create(&self, view: &dyn TableView) -> Result<SnapshotInfo, CreateError> {
        let applied = view.applied()?;
        let mut writer = Writer::new(self.temporary()?);
        writer.header(&applied)?;
        let mut found = Applied { position: applied.position, membership: applied.membership.clone(), ..Applied::default() };
        let mut failed = None;
        view.visit(Bound::Unbounded, Bound::Unbounded, &mut |key, revision, value| {
            count(&mut found, key, revision, value);
            match writer.record(key, revision, value) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        if found != applied {
            return Err(ReadError::Diverged { kept: Box::new(applied), found: Box::new(found) }.into());
        }
        let (temporary, _) = writer.end()?;
        temporary.file.sync_data().map_err(|source| temporary.io(source))?;
        let info = SnapshotInfo { applied, file_bytes: temporary.written };
        match self.keep_file(&temporary, info.clone()) {
            // One was received meanwhile that is newer: what was asked for is there.
            Err(SnapshotError::Stale { .. }) => Ok(self.current().expect("something newer is kept")),
            kept => Ok(kept.map(|()| info)?),
        }
    }

    /// Opens the kept snapshot and verifies all of it.
    pub fn reader(&self) -> Result<Option<SnapshotReader>, SnapshotError> {
        let Some(current) = self.lock().current.clone() else { return Ok(None) };
        SnapshotReader::open(&*self.disk, &current.path).map(Some)
    }

    /// The kept snapshot's bytes, to be sent. It stays readable when a newer one takes its place.
    pub fn source(&self) -> Result<Option<SnapshotSource>, SnapshotError> {
        let Some(Current { info, path }) = self.lock().current.clone() else { return Ok(None) };
        Ok(Some(SnapshotSource { file: open_file(&*self.disk, &path)?, path, info }))
    }

    /// Begins to take in a snapshot of at most `bytes_max` bytes.
    pub fn receive(&self, bytes_max: u64) -> Result<Receiver, SnapshotError> {
        Ok(Receiver { temporary: self.temporary()?, bytes_max })
    }

    /// Keeps a received snapshot in the place of the older one: durable on return. One kept already stays as it is.
    pub fn keep(&self, reader: &SnapshotReader) -> Result<SnapshotInfo, SnapshotError> {
        if let Some(temporary) = &reader.temporary {
            self.keep_file(temporary, reader.info.clone())?;
        }
        Ok(reader.info.clone())
    }

    fn keep_file(&self, temporary: &Temporary, info: SnapshotInfo) -> Result<(), SnapshotError> {
        let mut inner = self.lock();
        if !temporary.armed.load(std::sync::atomic::Ordering::Acquire) {
            return Ok(());
        }
        let (position, kept) = (info.applied.position, inner.current.as_ref().and_then(|current| current.info.applied.position));
        if position < kept {
            return Err(SnapshotError::Stale { position, kept });
        }
        let Position { term, index } = position.unwrap_or(Position { term: Term(0), index: Index(0) });
        let path = self.dir.join(format!("{index:020}-{term}{SUFFIX}"));
        let io = |source| SnapshotError::Io { file: path.clone(), source };
        self.disk.rename(&temporary.path, &path).map_err(io)?;
        temporary.armed.store(false, std::sync::atomic::Ordering::Release);
        self.disk.sync_dir(&self.dir).map_err(io)?;
        if let Some(old) = inner.current.replace(Current { info, path: path.clone() })
            && old.path != path
        {
            self.disk.remove(&old.path).map_err(io)?;
            self.disk.sync_dir(&self.dir).map_err(io)?;
        }
        Ok(())
    }

    fn temporary(&self) -> Result<Temporary, SnapshotError> {
        let number = {
            let mut inner = self.lock();
            inner.temporary_next += 1;
            inner.temporary_next
        };
        let path = self.dir.join(format!("incoming-{number}{TEMPORARY_SUFFIX}"));
        let file = self.disk.open(&path, OpenMode::Create).map_err(|source| SnapshotError::Io { file: path.clone(), source })?;
        Ok(Temporary { disk: Arc::clone(&self.disk), file, path, written: 0, armed: true.into() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect(LOCK)
    }
}

fn open_file(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn DiskFile>, SnapshotError> {
    disk.open(path, OpenMode::Read).map_err(|source| SnapshotError::Io { file: path.to_owned(), source })
}

fn count(found: &mut Applied, key: &[u8], revision: Revision, value: &[u8]) {
    found.keys += 1;
    found.bytes += (key.len() + value.len()) as u64;
    found.hash.add(key, revision, value);
}

/// A file that is removed unless it gets a final name.
struct Temporary {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    written: u64,
    armed: std::sync::atomic::AtomicBool,
}

impl Temporary {
    fn io(&self, source: io::Error) -> SnapshotError {
        SnapshotError::Io { file: self.path.clone(), source }
    }
}

/// Takes a file's bytes, in order.
trait Sink {
    type Error;
    fn append(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}

impl Sink for Temporary {
    type Error = SnapshotError;

    fn append(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.file.write_at(bytes, self.written).map_err(|source| self.io(source))?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

impl<W: io::Write> Sink for &mut W {
    type Error = io::Error;

    fn append(&mut self, bytes: &[u8]) -> Result<(), io::Error> {
        self.write_all(bytes)
    }
}

/// How long the snapshot of a table with these totals is, in bytes.
pub(crate) fn file_bytes(applied: &Applied) -> u64 {
    let membership = applied.membership.as_ref().map_or(0, |(_, membership)| membership.len());
    let header = (HEAD_BYTES + TOTALS_BYTES + membership + 4) as u64;
    header + applied.keys * RECORD_HEAD_BYTES as u64 + applied.bytes + 8 + 32
}

/// Writes a view, without cells whose keys are `end` or greater, as the snapshot of a table with these totals; answers the SHA-256 of it
/// all. Fails when the totals are not those of the cells.
pub(crate) fn write_state(view: &dyn TableView, end: &[u8], applied: &Applied, out: &mut impl io::Write) -> Result<[u8; 32], PackError> {
    let mut writer = Writer::new(out);
    writer.header(applied)?;
    let mut found = Applied { position: applied.position, membership: applied.membership.clone(), ..Applied::default() };
    let mut failed = None;
    view.visit(Bound::Unbounded, Bound::Excluded(end), &mut |key, revision, value| {
        count(&mut found, key, revision, value);
        match writer.record(key, revision, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    if found != *applied {
        return Err(ReadError::Diverged { kept: Box::new(applied.clone()), found: Box::new(found) }.into());
    }
    Ok(writer.end()?.1)
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if *self.armed.get_mut() {
            // Else the next open removes it.
            _ = self.disk.remove(&self.path);
        }
    }
}

/// Writes header, records and trailer.
struct Writer<S> {
    out: S,
    buffer: Vec<u8>,
    sha: Sha256,
    crc: u32,
}

impl<S: Sink> Writer<S> {
    fn new(out: S) -> Writer<S> {
        Writer { out, buffer: Vec::with_capacity(BUFFER_BYTES), sha: Sha256::new(), crc: 0 }
    }

    fn header(&mut self, applied: &Applied) -> Result<(), S::Error> {
        let membership = applied.membership.as_ref().map_or(&[][..], |(_, membership)| membership);
        let buffer = &mut self.buffer;
        buffer.put_slice(MAGIC);
        buffer.put_u32_le(SNAPSHOT_VERSION);
        buffer.put_u32_le(length_field(membership.len()));
        put_position(buffer, applied.position);
        put_position(buffer, applied.membership.as_ref().map(|(position, _)| *position));
        buffer.put_u64_le(applied.keys);
        buffer.put_u64_le(applied.bytes);
        buffer.put_slice(&applied.hash.to_bytes());
        buffer.put_slice(membership);
        self.crc = crc32c::crc32c(buffer);
        buffer.put_u32_le(self.crc);
        self.drain(0)
    }

    fn record(&mut self, key: &[u8], revision: Revision, value: &[u8]) -> Result<(), S::Error> {
        let mut head = [0; RECORD_HEAD_BYTES];
        head[4..8].copy_from_slice(&length_field(key.len()).to_le_bytes());
        head[8..12].copy_from_slice(&length_field(value.len()).to_le_bytes());
        head[12..].copy_from_slice(&revision.0.to_le_bytes());
        for part in [&head[4..], key, value] {
            self.crc = crc32c::crc32c_append(self.crc, part);
        }
        head[..4].copy_from_slice(&self.crc.to_le_bytes());
        for part in [&head[..], key, value] {
            self.buffer.extend_from_slice(part);
        }
        self.drain(BUFFER_BYTES)
    }

    fn drain(&mut self, above: usize) -> Result<(), S::Error> {
        if self.buffer.len() > above {
            self.sha.update(&self.buffer);
            self.out.append(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Writes the trailer; answers the SHA-256 of the whole file.
    fn end(mut self) -> Result<(S, [u8; 32]), S::Error> {
        self.crc = crc32c::crc32c_append(self.crc, &END.to_le_bytes());
        self.buffer.put_u32_le(self.crc);
        self.buffer.put_u32_le(END);
        self.drain(0)?;
        let mut whole = self.sha.clone();
        let sum = self.sha.finish();
        self.out.append(&sum)?;
        whole.update(&sum);
        Ok((self.out, whole.finish()))
    }
}

/// Takes in a snapshot's bytes, in order. Dropped before [`Receiver::finish`], it leaves nothing behind.
pub struct Receiver {
    temporary: Temporary,
    bytes_max: u64,
}

impl Receiver {
    /// How many bytes have come so far: where the next piece belongs.
    pub fn received(&self) -> u64 {
        self.temporary.written
    }

    /// Appends the next piece.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), SnapshotError> {
        if chunk.len() as u64 > self.bytes_max - self.temporary.written {
            return Err(SnapshotError::TooLong { bytes_max: self.bytes_max });
        }
        self.temporary.append(chunk)
    }

    /// Syncs and verifies all of it. It replaces nothing until [`SnapshotStore::keep`].
    pub fn finish(self) -> Result<SnapshotReader, SnapshotError> {
        let Receiver { temporary, .. } = self;
        temporary.file.sync_data().map_err(|source| temporary.io(source))?;
        let (file, path) = (Arc::clone(&temporary.file), temporary.path.clone());
        let info = verify(&file, &path)?;
        Ok(SnapshotReader { file, path, info, temporary: Some(temporary) })
    }
}

/// The bytes of a snapshot file, to be sent.
pub struct SnapshotSource {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    info: SnapshotInfo,
}

impl SnapshotSource {
    /// What it is of.
    pub fn info(&self) -> &SnapshotInfo {
        &self.info
    }

    /// Up to `bytes_max` bytes (at most [`CHUNK_BYTES_MAX`]) from `offset`; none at the end.
    pub fn read_chunk(&self, offset: u64, bytes_max: usize) -> Result<Bytes, SnapshotError> {
        let left = self.info.file_bytes.saturating_sub(offset);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes_max).min(CHUNK_BYTES_MAX);
        let mut chunk = BytesMut::zeroed(length);
        self.file.read_exact_at(&mut chunk, offset).map_err(|source| SnapshotError::Io { file: self.path.clone(), source })?;
        Ok(chunk.freeze())
    }
}

/// A snapshot file that was verified whole.
pub struct SnapshotReader {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    info: SnapshotInfo,
    temporary: Option<Temporary>,
}

impl SnapshotReader {
    /// Opens a file and verifies all of it: reads it once.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<SnapshotReader, SnapshotError> {
        let file = open_file(disk, path)?;
        let info = verify(&file, path)?;
        Ok(SnapshotReader { file, path: path.to_owned(), info, temporary: None })
    }

    /// What it is of.
    pub fn info(&self) -> &SnapshotInfo {
        &self.info
    }

    /// The totals of the table it holds.
    pub fn applied(&self) -> &Applied {
        &self.info.applied
    }

    /// Hands out the records in the order of their keys, verifying everything once more. What was taken may be used only
    /// when the end came without an error.
    pub fn records(&self) -> Result<Records, SnapshotError> {
        Ok(Records { scan: Scan::start(Arc::clone(&self.file), &self.path)?, done: false })
    }
}

/// The records of a snapshot. Ends after the first error.
pub struct Records {
    scan: Scan,
    done: bool,
}

impl Iterator for Records {
    type Item = Result<Record, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.scan.next().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

fn verify(file: &Arc<dyn DiskFile>, path: &Path) -> Result<SnapshotInfo, SnapshotError> {
    let mut scan = Scan::start(Arc::clone(file), path)?;
    while scan.next()?.is_some() {}
    scan.info()
}

/// Reads a file from front to end, checking all that can be checked at each place.
struct Scan {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    buffer: BytesMut,
    /// Where in the file `buffer` begins.
    offset: u64,
    sha: Sha256,
    crc: u32,
    applied: Applied,
    found: Applied,
    last_key: Bytes,
}

impl Scan {
    fn start(file: Arc<dyn DiskFile>, path: &Path) -> Result<Scan, SnapshotError> {
        let mut scan = Scan {
            file,
            path: path.to_owned(),
            buffer: BytesMut::new(),
            offset: 0,
            sha: Sha256::new(),
            crc: 0,
            applied: Applied::default(),
            found: Applied::default(),
            last_key: Bytes::new(),
        };
        scan.header()?;
        Ok(scan)
    }

    fn info(&self) -> Result<SnapshotInfo, SnapshotError> {
        let file_bytes = self.file.len().map_err(|source| self.io(source))?;
        Ok(SnapshotInfo { applied: self.applied.clone(), file_bytes })
    }

    fn io(&self, source: io::Error) -> SnapshotError {
        SnapshotError::Io { file: self.path.clone(), source }
    }

    fn corrupt(&self, what: &'static str) -> SnapshotError {
        SnapshotError::Corrupt { file: self.path.clone(), offset: self.offset, what }
    }

    /// Makes at least `bytes` available in the buffer.
    fn fill(&mut self, bytes: usize, what: &'static str) -> Result<(), SnapshotError> {
        while self.buffer.len() < bytes {
            let have = self.buffer.len();
            self.buffer.resize(bytes.max(BUFFER_BYTES), 0);
            let read = self.file.read_at(&mut self.buffer[have..], self.offset + have as u64);
            self.buffer.truncate(have + *read.as_ref().unwrap_or(&0));
            if read.map_err(|source| self.io(source))? == 0 {
                return Err(self.corrupt(what));
            }
        }
        Ok(())
    }

    /// Takes bytes that [`Scan::fill`] made available.
    fn take(&mut self, bytes: usize) -> Bytes {
        let taken = self.buffer.split_to(bytes).freeze();
        self.offset += bytes as u64;
        taken
    }

    fn header(&mut self) -> Result<(), SnapshotError> {
        self.fill(HEAD_BYTES, "header cut short")?;
        if &self.buffer[..8] != MAGIC {
            return Err(self.corrupt("not a snapshot"));
        }
        let mut head = &self.buffer[8..HEAD_BYTES];
        let (version, membership_bytes) = (head.get_u32_le(), head.get_u32_le() as usize);
        if version != SNAPSHOT_VERSION {
            return Err(SnapshotError::Version { file: self.path.clone(), version });
        }
        if membership_bytes > MEMBERSHIP_BYTES_MAX {
            return Err(self.corrupt("length of the membership"));
        }
        let length = HEAD_BYTES + TOTALS_BYTES + membership_bytes;
        self.fill(length + 4, "header cut short")?;
        self.crc = crc32c::crc32c(&self.buffer[..length]);
        if self.buffer[length..length + 4] != self.crc.to_le_bytes() {
            return Err(self.corrupt("header fails its checksum"));
        }
        self.sha.update(&self.buffer[..length + 4]);
        let start = self.corrupt("header's fields");
        let header = self.take(length + 4);
        self.applied = decode_totals(&header.slice(HEAD_BYTES..length)).ok_or(start)?;
        self.found = Applied { position: self.applied.position, membership: self.applied.membership.clone(), ..Applied::default() };
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Record>, SnapshotError> {
        self.fill(8, "ends without a trailer")?;
        let mut head = &self.buffer[..8];
        let (checksum, key_bytes) = (head.get_u32_le(), head.get_u32_le());
        if key_bytes == END {
            return self.trailer(checksum).map(|()| None);
        }
        let key_bytes = key_bytes as usize;
        if key_bytes == 0 || key_bytes > KEY_BYTES_MAX {
            return Err(self.corrupt("length of a key"));
        }
        self.fill(RECORD_HEAD_BYTES, "record cut short")?;
        let mut head = &self.buffer[8..RECORD_HEAD_BYTES];
        let (value_bytes, revision) = (head.get_u32_le() as usize, Revision(head.get_u64_le()));
        if value_bytes > VALUE_BYTES_MAX {
            return Err(self.corrupt("length of a value"));
        }
        let length = RECORD_HEAD_BYTES + key_bytes + value_bytes;
        self.fill(length, "record cut short")?;
        self.crc = crc32c::crc32c_append(self.crc, &self.buffer[4..length]);
        if self.crc != checksum {
            return Err(self.corrupt("record fails its checksum"));
        }
        let key = &self.buffer[RECORD_HEAD_BYTES..RECORD_HEAD_BYTES + key_bytes];
        if *key <= self.last_key[..] {
            return Err(self.corrupt("keys are out of order"));
        }
        count(&mut self.found, key, revision, &self.buffer[RECORD_HEAD_BYTES + key_bytes..length]);
        self.sha.update(&self.buffer[..length]);
        let record = self.take(length);
        let key = record.slice(RECORD_HEAD_BYTES..RECORD_HEAD_BYTES + key_bytes);
        self.last_key = key.clone();
        Ok(Some(Record { key, cell: Cell { revision, value: record.slice(RECORD_HEAD_BYTES + key_bytes..) } }))
    }

    fn trailer(&mut self, checksum: u32) -> Result<(), SnapshotError> {
        self.crc = crc32c::crc32c_append(self.crc, &END.to_le_bytes());
        if self.crc != checksum {
            return Err(self.corrupt("trailer fails its checksum"));
        }
        self.sha.update(&self.buffer[..8]);
        self.take(8);
        self.fill(32, "trailer cut short")?;
        if self.buffer[..32] != self.sha.clone().finish() {
            return Err(self.corrupt("SHA-256 over the file"));
        }
        self.take(32);
        if self.found != self.applied {
            return Err(self.corrupt("counts or state hash are not those of the header"));
        }
        if self.file.len().map_err(|source| self.io(source))? != self.offset {
            return Err(self.corrupt("bytes after the trailer"));
        }
        Ok(())
    }
}

fn decode_totals(bytes: &Bytes) -> Option<Applied> {
    let mut reader = Reader::new(bytes);
    let position = reader.position("position").ok()?;
    let membership_position = reader.position("membership's position").ok()?;
    let (keys, table_bytes) = (reader.u64("keys").ok()?, reader.u64("bytes").ok()?);
    let hash = StateHash::from_bytes(reader.array("hash").ok()?);
    let membership = match (membership_position, reader.rest()) {
        (Some(position), membership) => Some((position, membership)),
        (None, membership) if membership.is_empty() => None,
        (None, _) => return None,
    };
    Some(Applied { position, membership, keys, bytes: table_bytes, hash })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Fault, FaultPoint, MemoryDisk};
    use crate::table::conformance::{at, batch, history};
    use crate::table::{Change, Committed, MemoryTable, Table};

    fn dir() -> &'static Path {
        Path::new("/n1/snapshots")
    }

    fn open(disk: &MemoryDisk) -> SnapshotStore {
        SnapshotStore::open(Arc::new(disk.clone()), dir()).unwrap()
    }

    fn table(seed: u64, calls: u64) -> MemoryTable {
        let table = MemoryTable::new();
        history(seed, calls).iter().for_each(|call| _ = table.apply(call).unwrap());
        table
    }

    fn small_table() -> MemoryTable {
        let table = MemoryTable::new();
        let membership = Committed { position: at(1, 0), change: Change::Membership(Bytes::from_static(b"members")) };
        let cells = batch(1, &[], &[("a", Some("1")), ("b", Some("")), ("b/c", Some("three"))]);
        table.apply(&[membership, cells]).unwrap();
        table
    }

    #[test]
    fn golden_bytes_of_version_1() {
        let disk = MemoryDisk::new();
        let store = open(&disk);
        store.create(&*small_table().view().unwrap()).unwrap();
        let path = store.current_path().unwrap();
        let golden = crate::golden::check("golden/storage/snapshot-v1.bin", &disk.content(&path).unwrap());
        disk.set_content(&path, golden);
        let reader = store.reader().unwrap().unwrap();
        assert_eq!(*reader.applied(), small_table().applied());
        let records: Vec<_> = reader.records().unwrap().map(|record| record.unwrap().key).collect();
        assert_eq!(records, ["a", "b", "b/c"]);
    }

    #[test]
    fn equal_tables_give_equal_files_which_are_kept_over_a_crash() {
        let (disk, other) = (MemoryDisk::new(), MemoryDisk::new());
        let info = open(&disk).create(&*table(3, 50).view().unwrap()).unwrap();
        open(&other).create(&*table(3, 50).view().unwrap()).unwrap();
        disk.crash(0);
        let store = open(&disk);
        assert_eq!(store.current().unwrap(), info);
        assert_eq!(info.applied, table(3, 50).applied());
        let path = store.current_path().unwrap();
        let content = disk.content(&path).unwrap();
        assert_eq!(content, other.content(&path).unwrap());
        assert_eq!(content.len() as u64, info.file_bytes);
    }

    #[test]
    fn an_empty_table_has_a_snapshot_too() {
        let store = open(&MemoryDisk::new());
        assert!(store.current().is_none() && store.reader().unwrap().is_none() && store.source().unwrap().is_none());
        store.create(&*MemoryTable::new().view().unwrap()).unwrap();
        let reader = store.reader().unwrap().unwrap();
        assert_eq!(*reader.applied(), Applied::default());
        assert_eq!(reader.records().unwrap().count(), 0);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_an_error_that_names_the_place() {
        let disk = MemoryDisk::new();
        let store = open(&disk);
        store.create(&*small_table().view().unwrap()).unwrap();
        let path = store.current_path().unwrap();
        let content = disk.content(&path).unwrap();
        let check = |content: Vec<u8>, at: usize, what: &str| {
            disk.set_content(&path, content);
            match store.reader().err().unwrap_or_else(|| panic!("{what} {at} was not noticed")) {
                SnapshotError::Corrupt { file, offset, .. } => {
                    assert_eq!(file, path);
                    assert!(offset <= at as u64, "{what} {at}: {offset}");
                }
                SnapshotError::Version { .. } => assert!((8..12).contains(&at), "{what} {at}"),
                error => panic!("{what} {at}: {error}"),
            }
        };
        for bit in 0..content.len() * 8 {
            let mut flipped = content.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            check(flipped, bit / 8, "flip at");
        }
        for length in 0..content.len() {
            check(content[..length].to_vec(), length, "cut to");
        }
        check([&content[..], &[0]].concat(), content.len(), "byte added at");
    }

    /// A file as the writer would write it, but of `records` under the totals of `applied`.
    fn forged(applied: &Applied, records: &[(&[u8], &[u8])]) -> Vec<u8> {
        let disk = MemoryDisk::new();
        let store = open(&disk);
        let mut writer = Writer::new(store.temporary().unwrap());
        writer.header(applied).unwrap();
        records.iter().for_each(|(key, value)| writer.record(key, Revision(1), value).unwrap());
        let (temporary, _) = writer.end().unwrap();
        disk.content(&temporary.path).unwrap()
    }

    #[test]
    fn totals_and_order_are_checked_though_all_checksums_are_right() {
        let table = MemoryTable::new();
        table.apply(&[batch(0, &[], &[("a", Some("1")), ("b", Some("2"))])]).unwrap();
        let applied = table.applied();
        let disk = MemoryDisk::new();
        let store = open(&disk);
        let whole: [(&[u8], &[u8]); 2] = [(b"a", b"1"), (b"b", b"2")];
        let receive = |content: &[u8]| {
            let mut receiver = store.receive(1 << 20).unwrap();
            receiver.write(content).unwrap();
            receiver.finish().map(|reader| reader.info().clone())
        };
        assert_eq!(receive(&forged(&applied, &whole)).unwrap().applied, applied);
        for (records, what) in [
            (vec![whole[0]], "one is missing"),
            (vec![whole[1], whole[0]], "wrong order"),
            (vec![whole[0], whole[0], whole[1]], "one twice"),
            (vec![whole[0], (b"b", b"3")], "another value"),
        ] {
            assert!(matches!(receive(&forged(&applied, &records)), Err(SnapshotError::Corrupt { .. })), "{what}");
        }
        let counted = Applied { bytes: applied.bytes + 1, ..applied.clone() };
        assert!(receive(&forged(&counted, &whole)).is_err());
        assert!(disk.paths().is_empty(), "refused ones leave nothing behind");
    }

    #[test]
    fn sent_in_pieces_it_arrives_whole_and_takes_its_place_once_kept() {
        let (from, to) = (open(&MemoryDisk::new()), MemoryDisk::new());
        let store = open(&to);
        store.create(&*table(1, 3).view().unwrap()).unwrap();
        let old = store.current_path().unwrap();
        let info = from.create(&*table(1, 60).view().unwrap()).unwrap();
        let source = from.source().unwrap().unwrap();
        let mut receiver = store.receive(info.file_bytes).unwrap();
        loop {
            let chunk = source.read_chunk(receiver.received(), 1000).unwrap();
            if chunk.is_empty() {
                break;
            }
            receiver.write(&chunk).unwrap();
        }
        let reader = receiver.finish().unwrap();
        assert_eq!(store.current_path().unwrap(), old, "not before it is kept");
        assert_eq!(store.keep(&reader).unwrap(), info);
        assert_eq!(store.keep(&reader).unwrap(), info, "twice does no harm");
        drop(reader);
        assert_eq!(to.paths(), [store.current_path().unwrap()]);
        for seed in 0..16 {
            let lost = to.fork();
            lost.crash(seed);
            let kept = open(&lost).reader().unwrap().expect("it was kept durably");
            assert_eq!(kept.info(), &info, "{seed}");
        }
    }

    #[test]
    fn what_is_too_long_older_or_dropped_changes_nothing() {
        let disk = MemoryDisk::new();
        let store = open(&disk);
        let info = store.create(&*table(1, 60).view().unwrap()).unwrap();
        let kept = disk.paths();
        let mut receiver = store.receive(10).unwrap();
        receiver.write(&[0; 10]).unwrap();
        assert!(matches!(receiver.write(&[0]), Err(SnapshotError::TooLong { bytes_max: 10 })));
        drop(receiver);
        assert_eq!(store.create(&*table(1, 3).view().unwrap()).unwrap(), info, "a newer one is kept");
        let older = open(&MemoryDisk::new());
        older.create(&*table(1, 3).view().unwrap()).unwrap();
        let source = older.source().unwrap().unwrap();
        let mut receiver = store.receive(1 << 20).unwrap();
        receiver.write(&source.read_chunk(0, 1 << 20).unwrap()).unwrap();
        let error = store.keep(&receiver.finish().unwrap()).unwrap_err();
        assert!(matches!(error, SnapshotError::Stale { .. }), "{error}");
        assert_eq!(disk.paths(), kept);
        assert_eq!(store.current().unwrap(), info);
    }

    #[test]
    fn a_table_whose_totals_are_wrong_makes_none() {
        struct Wrong(Arc<dyn TableView>);
        impl TableView for Wrong {
            fn applied(&self) -> Result<Applied, ReadError> {
                let applied = self.0.applied()?;
                Ok(Applied { keys: applied.keys + 1, ..applied })
            }
            fn get(&self, key: &[u8]) -> Result<Option<Cell>, ReadError> {
                self.0.get(key)
            }
            fn visit(&self, start: Bound<&[u8]>, end: Bound<&[u8]>, visit: &mut crate::table::Visitor<'_>) -> Result<(), ReadError> {
                self.0.visit(start, end, visit)
            }
        }
        let disk = MemoryDisk::new();
        let error = open(&disk).create(&Wrong(small_table().view().unwrap())).unwrap_err();
        assert!(matches!(error, CreateError::Table(ReadError::Diverged { .. })), "{error}");
        assert!(disk.paths().is_empty());
    }

    #[test]
    fn power_may_go_at_any_operation() {
        let script = |disk: &MemoryDisk, kept: &mut Vec<SnapshotInfo>| -> Option<()> {
            let store = SnapshotStore::open(Arc::new(disk.clone()), dir()).ok()?;
            for calls in [5, 10, 15] {
                kept.push(store.create(&*table(1, calls).view().unwrap()).ok()?);
            }
            Some(())
        };
        let whole = MemoryDisk::new();
        script(&whole, &mut Vec::new()).unwrap();
        for operation in 0..whole.operations() {
            for seed in 0..6 {
                let disk = MemoryDisk::new();
                let mut kept = Vec::new();
                disk.fail(Fault { point: FaultPoint::Change, after: operation, error: io::ErrorKind::StorageFull, forever: true });
                script(&disk, &mut kept);
                disk.crash(seed);
                let store = open(&disk);
                let found = store.reader().unwrap().map(|reader| reader.info().clone());
                let position = |info: &SnapshotInfo| info.applied.position;
                assert!(found.as_ref().map(position) >= kept.last().map(position), "{operation} {seed}");
                assert!(disk.paths().len() <= 1, "{operation} {seed}: {:?}", disk.paths());
            }
        }
    }

    #[test]
    fn a_full_disk_leaves_the_kept_one() {
        let disk = MemoryDisk::new();
        let store = open(&disk);
        let info = store.create(&*table(1, 10).view().unwrap()).unwrap();
        disk.set_capacity(Some(info.file_bytes + 100));
        let view = table(1, 60).view().unwrap();
        assert!(matches!(store.create(&*view), Err(CreateError::File(SnapshotError::Io { .. }))));
        assert_eq!(store.reader().unwrap().unwrap().info(), &info);
        disk.set_capacity(None);
        store.create(&*view).unwrap();
    }
}

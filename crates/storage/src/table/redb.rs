//! [`RedbTable`]: the table in a redb file, the default.
//!
//! Always: the file comes into being whole (temporary name, synced, renamed, folder synced) and is checked whole when it is
//! opened. An apply changes memory only; a flush writes all changes, with totals, membership and applied position, in one
//! durable transaction, and neither applies nor reads wait for it. So after a crash the table is as some flush left it: it may
//! lag the log, never lead it.
//! Knows redb only here; redb's file access goes through [`Disk`]. Layout: `docs/storage-format.md`, "Table".

use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use ::redb::{
    Builder, Database, DatabaseError, ReadOnlyTable, ReadTransaction, ReadableDatabase, StorageBackend, StorageError, TableDefinition,
    WriteTransaction,
};
use bytes::{BufMut, Bytes, BytesMut};
use types::{Position, Revision};

use super::layer::Layer;
use super::{
    Applied, ApplyError, Cell, Cells, Committed, EngineError, FlushError, Outcome, ReadError, ReplaceError, Table, TableView, Visitor,
    apply_all, is_empty_range,
};
use crate::codec::{Malformed, Reader, put_position};
use crate::disk::{Disk, DiskFile, OpenMode, parent, temporary_name};
use crate::hash::StateHash;
use crate::snapshot::SnapshotReader;

/// The version of the table's rows, in the state row.
pub const TABLE_VERSION: u8 = 1;

const CELLS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("cells");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const STATE_ROW: &str = "state";
const MEMBERSHIP_ROW: &str = "membership";

/// Changes in memory at which an apply waits for a flush, in bytes.
pub const LAYER_BYTES_MAX: usize = 64 << 20;

/// Checksum and revision in front of each value, in bytes.
const CELL_HEAD_BYTES: usize = 4 + 8;

const LOCK: &str = "no code panics while it holds the table";

/// How a [`RedbTable`] is opened.
#[derive(Debug, Clone, Copy)]
pub struct RedbTableOptions {
    /// Memory for pages, in bytes: half of it at most for pages not yet written.
    pub cache_bytes: usize,
}

impl Default for RedbTableOptions {
    fn default() -> RedbTableOptions {
        RedbTableOptions { cache_bytes: 64 << 20 }
    }
}

/// Why a table did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file is not as it was written. Remove it: the table is rebuilt from snapshot and log, or from a peer.
    #[error("{} is corrupt: {reason}", file.display())]
    Corrupt {
        /// The table's file.
        file: PathBuf,
        /// What redb or the rows say.
        reason: String,
    },
    /// Written by a newer release.
    #[error("{} has version {version}, this release reads up to {TABLE_VERSION}", file.display())]
    Version {
        /// The table's file.
        file: PathBuf,
        /// The version found.
        version: u8,
    },
    /// The disk failed.
    #[error("open {}", file.display())]
    Io {
        /// The table's file.
        file: PathBuf,
        /// The disk's error.
        #[source]
        source: io::Error,
    },
}

/// A table in a redb file.
///
/// What was applied lies in up to three places, the newest first: the active layer, to which applies add; the frozen layer,
/// which a flush is writing; and the file, as the last flush left it.
pub struct RedbTable {
    database: Database,
    /// Held by a flush or a replacement. Taken before `applying`.
    flushing: Mutex<()>,
    /// Held by an apply or a replacement, and by a flush for the moment in which it freezes the active layer.
    applying: Mutex<()>,
    /// Held for a few lines.
    state: Mutex<State>,
}

struct State {
    applied: Applied,
    /// What the file holds.
    flushed: Applied,
    /// Counts applies: a view sees what came up to its own moment.
    moment: u64,
    active: Arc<Layer>,
    frozen: Option<Arc<Layer>>,
    base: Arc<Base>,
    failed: bool,
}

/// A state of the file.
struct Base {
    cells: ReadOnlyTable<&'static [u8], &'static [u8]>,
    _read: ReadTransaction,
}

impl RedbTable {
    /// Opens the table at `path`, or makes an empty one.
    ///
    /// Always walks the whole file and verifies all of redb's checksums (about 1.5 ms for each MB): a flipped bit becomes an
    /// error here instead of a wrong answer later, also after a clean stop.
    pub fn open(disk: Arc<dyn Disk>, path: &Path, options: RedbTableOptions) -> Result<RedbTable, OpenError> {
        let io = |source| OpenError::Io { file: path.to_owned(), source };
        if disk.exists(&failed_mark(path)).map_err(io)? {
            let reason = "a sync failed in an earlier run, so that what can be read may not be on the disk".to_owned();
            return Err(OpenError::Corrupt { file: path.to_owned(), reason });
        }
        if !disk.exists(path).map_err(io)? {
            create(&disk, path, options)?;
        }
        let backend = Backend { file: disk.open(path, OpenMode::Write).map_err(io)?, disk, failed_mark: failed_mark(path) };
        let database = open_file(backend, path, options)?;
        RedbTable::over(database, path)
    }

    fn over(database: Database, path: &Path) -> Result<RedbTable, OpenError> {
        let flushed = load(&database, path)?;
        let corrupt = |error: EngineError| OpenError::Corrupt { file: path.to_owned(), reason: error.to_string() };
        let state = State {
            applied: flushed.clone(),
            flushed,
            moment: 0,
            active: Arc::default(),
            frozen: None,
            base: Base::newest(&database).map_err(corrupt)?,
            failed: false,
        };
        Ok(RedbTable { database, flushing: Mutex::new(()), applying: Mutex::new(()), state: Mutex::new(state) })
    }

    /// Removes the file of a table that is closed, so that the next open starts with an empty one.
    pub fn remove(disk: &dyn Disk, path: &Path) -> io::Result<()> {
        // The mark last: as long as the file is there, it counts.
        for path in [path, &failed_mark(path)] {
            if disk.exists(path)? {
                disk.remove(path)?;
                disk.sync_dir(parent(path))?;
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(LOCK)
    }

    fn begin(&self) -> Result<WriteTransaction, EngineError> {
        let mut write = self.database.begin_write().map_err(engine)?;
        // Saves the allocator's state, so that the next open need not rebuild it, and commits in two phases: redb's page
        // checksums are not cryptographic and keys come from outside.
        write.set_quick_repair(true);
        Ok(write)
    }

    /// Writes a layer to the file, durably.
    fn write(&self, layer: &Layer, applied: &Applied, membership_changed: bool) -> Result<Arc<Base>, EngineError> {
        let write = self.begin()?;
        {
            let mut cells = write.open_table(CELLS).map_err(engine)?;
            let mut stored = Vec::new();
            layer.newest(|key, cell| match cell {
                Some(cell) => {
                    encode_cell(&mut stored, key, cell);
                    cells.insert(&key[..], &stored[..]).map(drop).map_err(engine)
                }
                None => cells.remove(&key[..]).map(drop).map_err(engine),
            })?;
        }
        self.commit(write, applied, membership_changed)
    }

    /// Writes the rows about the whole and commits.
    fn commit(&self, write: WriteTransaction, applied: &Applied, membership_changed: bool) -> Result<Arc<Base>, EngineError> {
        {
            let mut meta = write.open_table(META).map_err(engine)?;
            meta.insert(STATE_ROW, &encode_state(applied)[..]).map_err(engine)?;
            match &applied.membership {
                _ if !membership_changed => {}
                Some((position, membership)) => {
                    meta.insert(MEMBERSHIP_ROW, &encode_membership(*position, membership)[..]).map_err(engine)?;
                }
                None => _ = meta.remove(MEMBERSHIP_ROW).map_err(engine)?,
            }
        }
        write.commit().map_err(engine)?;
        Base::newest(&self.database)
    }
}

impl Base {
    fn newest(database: &Database) -> Result<Arc<Base>, EngineError> {
        let read = database.begin_read().map_err(engine)?;
        Ok(Arc::new(Base { cells: read.open_table(CELLS).map_err(engine)?, _read: read }))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Cell>, ReadError> {
        let Some(stored) = self.cells.get(key).map_err(engine)? else { return Ok(None) };
        let (revision, value) = decode_cell(key, stored.value())?;
        Ok(Some(Cell { revision, value: Bytes::copy_from_slice(value) }))
    }
}

/// Makes an empty table whole, or not at all.
fn create(disk: &Arc<dyn Disk>, path: &Path, options: RedbTableOptions) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { file: path.to_owned(), source };
    let temporary = temporary_name(path);
    if disk.exists(&temporary).map_err(io)? {
        disk.remove(&temporary).map_err(io)?;
    }
    let file = disk.open(&temporary, OpenMode::Create).map_err(io)?;
    let backend = Backend { file: Arc::clone(&file), disk: Arc::clone(disk), failed_mark: failed_mark(path) };
    let database = open_file(backend, &temporary, options)?;
    let failed = |error: String| OpenError::Io { file: path.to_owned(), source: io::Error::other(error) };
    let fill = || -> Result<(), EngineError> {
        let mut write = database.begin_write().map_err(engine)?;
        write.set_quick_repair(true);
        write.open_table(CELLS).map_err(engine)?;
        write.open_table(META).map_err(engine)?.insert(STATE_ROW, &encode_state(&Applied::default())[..]).map_err(engine)?;
        write.commit().map_err(engine)
    };
    fill().map_err(|error| failed(error.to_string()))?;
    database.close().map_err(|error| failed(error.to_string()))?;
    file.sync_data().map_err(io)?;
    disk.rename(&temporary, path).map_err(io)?;
    disk.sync_dir(parent(path)).map_err(io)
}

fn open_file(backend: Backend, path: &Path, options: RedbTableOptions) -> Result<Database, OpenError> {
    let mut builder = Builder::new();
    builder.set_cache_size(options.cache_bytes).set_check_integrity_on_open(true);
    builder.create_with_backend(backend).map_err(|error| match error {
        DatabaseError::Storage(StorageError::Io(source)) if source.kind() != io::ErrorKind::InvalidData => {
            OpenError::Io { file: path.to_owned(), source }
        }
        other => OpenError::Corrupt { file: path.to_owned(), reason: other.to_string() },
    })
}

fn load(database: &Database, path: &Path) -> Result<Applied, OpenError> {
    let corrupt = |reason: String| OpenError::Corrupt { file: path.to_owned(), reason };
    let read = database.begin_read().map_err(|error| corrupt(error.to_string()))?;
    let meta = read.open_table(META).map_err(|error| corrupt(error.to_string()))?;
    read.open_table(CELLS).map_err(|error| corrupt(error.to_string()))?;
    read_applied(&meta).map_err(|error| match error {
        RowError::Version(version) => OpenError::Version { file: path.to_owned(), version },
        RowError::Corrupt(reason) => corrupt(reason),
    })
}

enum RowError {
    Version(u8),
    Corrupt(String),
}

fn read_applied(meta: &ReadOnlyTable<&'static str, &'static [u8]>) -> Result<Applied, RowError> {
    let row = |name| match meta.get(name) {
        Ok(row) => Ok(row.map(|row| Bytes::copy_from_slice(row.value()))),
        Err(error) => Err(RowError::Corrupt(error.to_string())),
    };
    let malformed = |Malformed { what, offset }| RowError::Corrupt(format!("row about the whole: {what} at byte {offset}"));
    let state = row(STATE_ROW)?.ok_or_else(|| RowError::Corrupt("no row about the whole".to_owned()))?;
    if let Some(version) = state.first().copied().filter(|version| *version != TABLE_VERSION) {
        return Err(RowError::Version(version));
    }
    let mut applied = decode_state(&state).map_err(malformed)?;
    applied.membership = row(MEMBERSHIP_ROW)?.map(|row| decode_membership(&row)).transpose().map_err(malformed)?;
    Ok(applied)
}

/// version, applied position, keys, bytes, hash.
fn encode_state(applied: &Applied) -> BytesMut {
    let mut row = BytesMut::with_capacity(66);
    row.put_u8(TABLE_VERSION);
    put_position(&mut row, applied.position);
    row.put_u64_le(applied.keys);
    row.put_u64_le(applied.bytes);
    row.put_slice(&applied.hash.to_bytes());
    row
}

fn decode_state(row: &Bytes) -> Result<Applied, Malformed> {
    let mut reader = Reader::new(row);
    reader.u8("version")?;
    let applied = Applied {
        position: reader.position("applied position")?,
        membership: None,
        keys: reader.u64("count of keys")?,
        bytes: reader.u64("count of bytes")?,
        hash: StateHash::from_bytes(reader.array("state hash")?),
    };
    reader.finish()?;
    Ok(applied)
}

fn encode_membership(position: Position, membership: &[u8]) -> BytesMut {
    let mut row = BytesMut::with_capacity(crate::codec::POSITION_BYTES + membership.len());
    put_position(&mut row, Some(position));
    row.put_slice(membership);
    row
}

fn decode_membership(row: &Bytes) -> Result<(Position, Bytes), Malformed> {
    let mut reader = Reader::new(row);
    let missing = reader.malformed("membership's position");
    let position = reader.position("membership's position")?.ok_or(missing)?;
    Ok((position, reader.rest()))
}

fn encode_cell(scratch: &mut Vec<u8>, key: &[u8], cell: &Cell) {
    scratch.clear();
    scratch.reserve_exact(CELL_HEAD_BYTES + cell.value.len());
    scratch.extend_from_slice(&cell_checksum(key, cell.revision, &cell.value).to_le_bytes());
    scratch.extend_from_slice(&cell.revision.0.to_le_bytes());
    scratch.extend_from_slice(&cell.value);
}

/// Covers the key too, so that a cell found under another key is noticed.
fn cell_checksum(key: &[u8], revision: Revision, value: &[u8]) -> u32 {
    let crc = crc32c::crc32c(key);
    let crc = crc32c::crc32c_append(crc, &revision.0.to_le_bytes());
    crc32c::crc32c_append(crc, value)
}

fn decode_cell<'a>(key: &[u8], stored: &'a [u8]) -> Result<(Revision, &'a [u8]), ReadError> {
    let corrupt = || ReadError::Corrupt(format!("a cell of {} bytes fails its checksum", stored.len()));
    let (head, value) = stored.split_at_checked(CELL_HEAD_BYTES).ok_or_else(corrupt)?;
    let (checksum, revision) = head.split_at(4);
    let revision = Revision(u64::from_le_bytes(revision.try_into().expect("split at the size of the head")));
    if checksum == cell_checksum(key, revision, value).to_le_bytes() { Ok((revision, value)) } else { Err(corrupt()) }
}

fn engine(error: impl Into<::redb::Error>) -> EngineError {
    match error.into() {
        ::redb::Error::Io(source) => EngineError::Io(source),
        ::redb::Error::PreviousIo => EngineError::Failed,
        other => EngineError::Engine(other.to_string()),
    }
}

impl Table for RedbTable {
    fn view(&self) -> Result<Arc<dyn TableView>, ReadError> {
        let state = self.state();
        if state.failed {
            return Err(EngineError::Failed.into());
        }
        Ok(Arc::new(View { applied: state.applied.clone(), layers: Layers::of(&state) }))
    }

    fn apply(&self, committed: &[Committed]) -> Result<Vec<Outcome>, ApplyError> {
        let full = self.state().active.bytes() >= LAYER_BYTES_MAX;
        if full {
            self.flush().map_err(|FlushError(error)| error)?;
        }
        let _applying = self.applying.lock().expect(LOCK);
        let (mut applied, mut layers) = {
            let state = self.state();
            if state.failed {
                return Err(EngineError::Failed.into());
            }
            (state.applied.clone(), Layers::of(&state))
        };
        // Not seen by anyone until it is the state's moment.
        layers.moment += 1;
        let outcomes = apply_all(&mut layers, &mut applied, committed);
        let mut state = self.state();
        match &outcomes {
            Ok(_) => (state.applied, state.moment) = (applied, layers.moment),
            Err(ApplyError::Order { .. } | ApplyError::Membership { .. }) => {}
            // The layer holds half of it.
            Err(ApplyError::Read(_) | ApplyError::Engine(_)) => state.failed = true,
        }
        outcomes
    }

    fn applied(&self) -> Applied {
        self.state().applied.clone()
    }

    fn flush(&self) -> Result<Option<Position>, FlushError> {
        let _flushing = self.flushing.lock().expect(LOCK);
        let (layer, applied, membership_changed) = {
            let _applying = self.applying.lock().expect(LOCK);
            let mut state = self.state();
            if state.failed {
                return Err(EngineError::Failed.into());
            }
            if state.applied.position == state.flushed.position {
                return Ok(state.flushed.position);
            }
            let layer = std::mem::take(&mut state.active);
            state.frozen = Some(Arc::clone(&layer));
            (layer, state.applied.clone(), state.applied.membership != state.flushed.membership)
        };
        let written = self.write(&layer, &applied, membership_changed);
        let mut state = self.state();
        match written {
            Ok(base) => {
                state.base = base;
                state.frozen = None;
                state.flushed = applied;
                Ok(state.flushed.position)
            }
            Err(error) => {
                state.failed = true;
                Err(error.into())
            }
        }
    }

    fn durable(&self) -> Option<Position> {
        self.state().flushed.position
    }

    fn note_snapshot(&self, _: Position) {}

    fn replace(&self, snapshot: &mut SnapshotReader) -> Result<(), ReplaceError> {
        let _flushing = self.flushing.lock().expect(LOCK);
        let _applying = self.applying.lock().expect(LOCK);
        let write = self.begin()?;
        write.delete_table(CELLS).map_err(engine)?;
        {
            let mut cells = write.open_table(CELLS).map_err(engine)?;
            let mut stored = Vec::new();
            for record in snapshot.records()? {
                let record = record?;
                encode_cell(&mut stored, &record.key, &record.cell);
                cells.insert(&record.key[..], &stored[..]).map_err(engine)?;
            }
        }
        let applied = snapshot.applied().clone();
        let committed = self.commit(write, &applied, true);
        let mut state = self.state();
        match committed {
            Ok(base) => {
                (state.base, state.active, state.frozen) = (base, Arc::default(), None);
                state.moment += 1;
                state.flushed = applied.clone();
                state.applied = applied;
                Ok(())
            }
            Err(error) => {
                // Whether the commit took place is not known.
                state.failed = true;
                Err(error.into())
            }
        }
    }
}

/// Where the cells of one moment lie.
struct Layers {
    moment: u64,
    active: Arc<Layer>,
    frozen: Option<Arc<Layer>>,
    base: Arc<Base>,
}

impl Layers {
    fn of(state: &State) -> Layers {
        let State { moment, active, frozen, base, .. } = state;
        Layers { moment: *moment, active: Arc::clone(active), frozen: frozen.clone(), base: Arc::clone(base) }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Cell>, ReadError> {
        let frozen = || self.frozen.as_ref()?.get(key, self.moment);
        match self.active.get(key, self.moment).or_else(frozen) {
            Some(cell) => Ok(cell),
            None => self.base.get(key),
        }
    }
}

impl Cells for Layers {
    fn revision(&self, key: &[u8]) -> Result<Revision, ApplyError> {
        Ok(self.get(key)?.map_or(Revision::ABSENT, |cell| cell.revision))
    }

    fn put(&mut self, key: &Bytes, cell: &Cell, old: &mut dyn FnMut(Revision, &[u8])) -> Result<(), ApplyError> {
        if let Some(cell) = self.get(key)? {
            old(cell.revision, &cell.value);
        }
        // A copy, because the value may be a small part of a large message.
        let cell = Cell { revision: cell.revision, value: Bytes::copy_from_slice(&cell.value) };
        self.active.put(key, self.moment, Some(cell));
        Ok(())
    }

    fn delete(&mut self, key: &Bytes, old: &mut dyn FnMut(Revision, &[u8])) -> Result<(), ApplyError> {
        if let Some(cell) = self.get(key)? {
            old(cell.revision, &cell.value);
            self.active.put(key, self.moment, None);
        }
        Ok(())
    }
}

struct View {
    applied: Applied,
    layers: Layers,
}

impl TableView for View {
    fn applied(&self) -> Result<Applied, ReadError> {
        Ok(self.applied.clone())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Cell>, ReadError> {
        self.layers.get(key)
    }

    fn visit(&self, start: Bound<&[u8]>, end: Bound<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), ReadError> {
        if is_empty_range(start, end) {
            return Ok(());
        }
        let Layers { moment, active, frozen, base } = &self.layers;
        let mut layers = vec![active.cursor(start, end, *moment)];
        layers.extend(frozen.as_ref().map(|frozen| frozen.cursor(start, end, *moment)));
        let mut rows = base.cells.range::<&[u8]>((start, end)).map_err(engine)?;
        let mut row = rows.next().transpose().map_err(engine)?;
        loop {
            let changed = layers.iter_mut().filter_map(|layer| layer.peek().map(|(key, _)| key)).min().cloned();
            let stored = row.as_ref().map(|(key, _)| key.value());
            let flow = match (&changed, stored) {
                (None, None) => return Ok(()),
                (Some(changed), stored) if stored.is_none_or(|stored| &changed[..] <= stored) => {
                    if stored.is_some_and(|stored| stored == &changed[..]) {
                        row = rows.next().transpose().map_err(engine)?;
                    }
                    // The newest layer that says something of the key hides what the others say.
                    let mut newest = None;
                    for layer in &mut layers {
                        if layer.peek().is_some_and(|(key, _)| key == changed) {
                            newest = newest.or(layer.next());
                        }
                    }
                    match newest {
                        Some((key, Some(cell))) => visit(&key, cell.revision, &cell.value),
                        _ => ControlFlow::Continue(()),
                    }
                }
                (_, Some(_)) => {
                    let (key, stored) = row.take().expect("it was looked at above");
                    let (revision, value) = decode_cell(key.value(), stored.value())?;
                    let flow = visit(key.value(), revision, value);
                    row = rows.next().transpose().map_err(engine)?;
                    flow
                }
                (Some(_), None) => unreachable!("the guard above takes every change when nothing is stored"),
            };
            if flow == ControlFlow::Break(()) {
                return Ok(());
            }
        }
    }
}

/// redb's file, by way of [`Disk`]. The data folder's lock keeps other processes away, so it has none of its own.
///
/// After a failed sync the system may show pages that never reached the disk, to this process and to the next. So the
/// failure is marked beside the file: not durably, for a power loss takes the pages and, it may be, the mark.
struct Backend {
    file: Arc<dyn DiskFile>,
    disk: Arc<dyn Disk>,
    failed_mark: PathBuf,
}

fn failed_mark(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".failed");
    name.into()
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Backend")
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().inspect_err(|error| {
            tracing::error!(file = %self.failed_mark.display(), %error, "table's sync failed");
            if let Err(error) = self.disk.open(&self.failed_mark, OpenMode::Create)
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                tracing::error!(file = %self.failed_mark.display(), %error, "the failure could not be marked");
            }
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(data, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Fault, FaultPoint, FsDisk, MemoryDisk};
    use crate::snapshot::SnapshotStore;
    use crate::table::conformance::{all, at, batch, cells, history};

    type Action = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

    /// A file that does something else while it syncs.
    struct Meanwhile(Arc<dyn DiskFile>, Action);

    impl DiskFile for Meanwhile {
        fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
            self.0.read_at(out, offset)
        }
        fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
            self.0.write_at(data, offset)
        }
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn set_len(&self, length: u64) -> io::Result<()> {
            self.0.set_len(length)
        }
        fn sync_data(&self) -> io::Result<()> {
            if let Some(action) = self.1.lock().unwrap().take() {
                action();
            }
            self.0.sync_data()
        }
    }

    const SMALL: RedbTableOptions = RedbTableOptions { cache_bytes: 1 << 20 };

    fn path() -> &'static Path {
        Path::new("/n1/table.redb")
    }

    fn disk() -> MemoryDisk {
        let disk = MemoryDisk::new();
        disk.create_dir_all(parent(path())).unwrap();
        disk
    }

    fn open(disk: &MemoryDisk) -> Result<RedbTable, OpenError> {
        RedbTable::open(Arc::new(disk.clone()), path(), SMALL)
    }

    #[test]
    fn conforms_in_memory() {
        all(&|| Arc::new(open(&disk()).unwrap()));
    }

    #[test]
    fn conforms_on_a_real_disk() {
        let root = tempfile::tempdir().unwrap();
        let number = std::sync::atomic::AtomicU32::new(0);
        all(&|| {
            let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Arc::new(RedbTable::open(Arc::new(FsDisk), &root.path().join(number.to_string()), SMALL).unwrap())
        });
    }

    #[test]
    fn a_flush_survives_a_crash_and_what_came_after_does_not_matter() {
        let disk = disk();
        let table = open(&disk).unwrap();
        for call in history(1, 20) {
            table.apply(&call).unwrap();
        }
        let flushed = table.applied();
        assert_eq!(table.durable(), None);
        assert_eq!(table.flush().unwrap(), flushed.position);
        assert_eq!(table.durable(), flushed.position);
        let want = cells(&*table.view().unwrap());
        let later = Committed { position: at(99, 1000), ..batch(0, &[], &[("later", Some("1"))]) };
        table.apply(&[later]).unwrap();
        assert_eq!(table.durable(), flushed.position);
        disk.crash(0);
        drop(table);
        let table = open(&disk).unwrap();
        assert_eq!((table.applied(), table.durable()), (flushed.clone(), flushed.position));
        assert_eq!(cells(&*table.view().unwrap()), want);
    }

    #[test]
    fn nobody_waits_for_a_flush_and_what_is_applied_meanwhile_is_the_next_ones() {
        let disk = disk();
        drop(open(&disk).unwrap());
        let action = Action::default();
        let file = Arc::new(Meanwhile(disk.open(path(), OpenMode::Write).unwrap(), Arc::clone(&action)));
        let database = open_file(Backend { file, disk: Arc::new(disk.clone()), failed_mark: failed_mark(path()) }, path(), SMALL).unwrap();
        let table = Arc::new(RedbTable::over(database, path()).unwrap());
        table.apply(&[batch(0, &[], &[("a", Some("1")), ("b", Some("1"))])]).unwrap();
        let before = table.view().unwrap();
        let other = Arc::clone(&table);
        *action.lock().unwrap() = Some(Box::new(move || {
            // Within the flush's sync, in its thread: whoever waited for it would wait for ever.
            other.apply(&[batch(1, &[("a", 1)], &[("a", Some("2")), ("b", None), ("c", Some("2"))])]).unwrap();
            assert_eq!(cells(&*other.view().unwrap()).len(), 2);
        }));
        assert_eq!(table.flush().unwrap(), Some(at(1, 0)));
        assert!(action.lock().unwrap().is_none(), "it was tried");
        assert_eq!((table.applied().position, table.durable()), (Some(at(1, 1)), Some(at(1, 0))));
        let after = table.view().unwrap();
        assert_eq!(cells(&*after).into_keys().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(table.flush().unwrap(), Some(at(1, 1)));
        assert_eq!(cells(&*before).into_keys().collect::<Vec<_>>(), ["a", "b"]);
        let want = cells(&*after);
        assert_eq!(cells(&*table.view().unwrap()), want);
        disk.kill();
        drop(table);
        assert_eq!(cells(&*open(&disk).unwrap().view().unwrap()), want);
    }

    #[test]
    fn a_flush_writes_whole_applies_only() {
        let disk = disk();
        let table = open(&disk).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let keys: Vec<String> = (0..200).map(|key| key.to_string()).collect();
                let mut index = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let value = index.to_string();
                    let writes: Vec<_> = keys.iter().map(|key| (&key[..], Some(&value[..]))).collect();
                    table.apply(&[batch(index, &[], &writes)]).unwrap();
                    index += 1;
                }
            });
            for _ in 0..40 {
                table.flush().unwrap();
                let lost = disk.fork();
                lost.crash(0);
                let found = open(&lost).unwrap();
                let values: std::collections::BTreeSet<_> = cells(&*found.view().unwrap()).into_values().collect();
                assert!(values.len() <= 1, "all keys have the value of one apply");
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    #[test]
    fn changes_in_memory_are_bounded() {
        let disk = disk();
        let table = open(&disk).unwrap();
        let value = Bytes::from(vec![1; 8 << 20]);
        for index in 0..12 {
            let write = crate::batch::Write { key: Bytes::from_static(b"k"), value: Some(value.clone()) };
            let change = super::super::Change::Batch(crate::batch::Batch { expectations: vec![], writes: vec![write] });
            table.apply(&[Committed { position: at(1, index), change }]).unwrap();
        }
        assert!(table.state().active.bytes() < LAYER_BYTES_MAX);
        assert!(table.durable().is_some(), "an apply that found it full flushed");
        assert_eq!(cells(&*table.view().unwrap()).len(), 1);
    }

    /// Power goes at any operation of a table's making, of applies, flushes and a replacement.
    #[test]
    fn whatever_happens_the_table_is_as_a_flush_left_it() {
        let snapshots = SnapshotStore::open(Arc::new(MemoryDisk::new()), Path::new("/s")).unwrap();
        let other = crate::table::MemoryTable::new();
        history(77, 30).iter().for_each(|call| _ = other.apply(call).unwrap());
        snapshots.create(&*other.view().unwrap()).unwrap();
        let calls = history(5, 24);
        // Applied states, the snapshot's among them, and the last that is known to be durable.
        let script = |disk: &MemoryDisk, states: &mut Vec<Applied>, durable: &mut usize| -> Option<()> {
            let table = open(disk).ok()?;
            let last = calls.len() - 1;
            for (number, call) in calls.iter().enumerate() {
                let moved = |committed: &Committed| {
                    // After the snapshot, entries go on behind it.
                    let Position { term, index } = committed.position;
                    let shift = if number == last { 1000 } else { 0 };
                    Committed { position: at(term.0 + shift, index.0 + shift), change: committed.change.clone() }
                };
                if number == last {
                    states.push(other.applied());
                    table.replace(&mut snapshots.reader().unwrap().unwrap()).ok()?;
                    *durable = states.len() - 1;
                }
                table.apply(&call.iter().map(moved).collect::<Vec<_>>()).ok()?;
                states.push(table.applied());
                if number % 6 == 5 {
                    table.flush().ok()?;
                    *durable = states.len() - 1;
                }
            }
            Some(())
        };
        let whole = disk();
        script(&whole, &mut Vec::new(), &mut 0).unwrap();
        let operations = whole.operations();
        assert!(operations > 50, "{operations}");
        for operation in 0..operations {
            for seed in 0..3 {
                let disk = disk();
                let (mut states, mut durable) = (vec![Applied::default()], 0);
                disk.fail(Fault { point: FaultPoint::Change, after: operation, error: io::ErrorKind::Other, forever: true });
                script(&disk, &mut states, &mut durable);
                disk.crash(seed * 1000 + operation);
                let table = open(&disk).unwrap_or_else(|error| panic!("{operation} {seed}: {error}"));
                let found = table.applied();
                assert!(states[durable..].contains(&found), "{operation} {seed}: {found} is not among what may be");
                cells(&*table.view().unwrap());
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_an_error_at_open_or_does_no_harm() {
        let disk = disk();
        let table = open(&disk).unwrap();
        for call in history(2, 40) {
            table.apply(&call).unwrap();
        }
        table.flush().unwrap();
        let (applied, want) = (table.applied(), cells(&*table.view().unwrap()));
        drop(table);
        let content = disk.content(path()).unwrap();
        let (mut noticed, mut harmless) = (0, 0);
        for byte in (0..content.len()).step_by(53) {
            let damaged = disk.fork();
            let mut flipped = content.clone();
            flipped[byte] ^= 1 << (byte % 8);
            damaged.set_content(path(), flipped);
            match open(&damaged) {
                Err(OpenError::Corrupt { .. } | OpenError::Version { .. }) => noticed += 1,
                Err(error) => panic!("byte {byte}: {error}"),
                Ok(table) => {
                    harmless += 1;
                    assert_eq!(table.applied(), applied, "byte {byte}");
                    assert_eq!(cells(&*table.view().unwrap()), want, "byte {byte}");
                }
            }
        }
        assert!(noticed > 100 && harmless > 0, "{noticed} noticed, {harmless} in unused places");
    }

    #[test]
    fn a_cell_that_rots_while_the_table_is_open_is_not_answered() {
        let mut stored = Vec::new();
        let cell = Cell { revision: Revision(7), value: Bytes::from_static(b"value") };
        encode_cell(&mut stored, b"key", &cell);
        assert_eq!(decode_cell(b"key", &stored).unwrap(), (Revision(7), &b"value"[..]));
        assert!(decode_cell(b"kez", &stored).is_err(), "another key's cell");
        for bit in 0..stored.len() * 8 {
            stored[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_cell(b"key", &stored).is_err(), "bit {bit}");
            stored[bit / 8] ^= 1 << (bit % 8);
        }
        for length in 0..stored.len() {
            assert!(decode_cell(b"key", &stored[..length]).is_err());
        }
    }

    #[test]
    fn golden_rows_of_version_1() {
        let mut hash = StateHash::EMPTY;
        hash.add(b"key", Revision(7), b"value");
        let applied = Applied { position: Some(at(3, 6)), membership: None, keys: 1, bytes: 8, hash };
        let mut rows = encode_state(&applied).to_vec();
        rows.extend_from_slice(&encode_membership(at(2, 5), b"members"));
        let mut cell = Vec::new();
        encode_cell(&mut cell, b"key", &Cell { revision: Revision(7), value: Bytes::from_static(b"value") });
        rows.extend_from_slice(&cell);
        crate::golden::check("table-rows-v1.bin", &rows);
        assert_eq!(decode_state(&encode_state(&applied).freeze()).unwrap(), applied);
        let (position, membership) = decode_membership(&encode_membership(at(2, 5), b"members").freeze()).unwrap();
        assert_eq!((position, &membership[..]), (at(2, 5), &b"members"[..]));
    }

    #[test]
    fn an_unknown_version_and_a_foreign_file_are_refused() {
        let disk = disk();
        let table = open(&disk).unwrap();
        let write = table.begin().unwrap();
        let mut row = encode_state(&Applied::default());
        row[0] = TABLE_VERSION + 1;
        write.open_table(META).unwrap().insert(STATE_ROW, &row[..]).unwrap();
        write.commit().unwrap();
        drop(table);
        assert!(matches!(open(&disk), Err(OpenError::Version { version: 2, .. })));
        disk.set_content(path(), b"something else entirely".repeat(1000));
        let error = open(&disk).err().unwrap();
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
        assert!(error.to_string().starts_with("/n1/table.redb is corrupt"), "{error}");
        RedbTable::remove(&disk, path()).unwrap();
        assert_eq!(open(&disk).unwrap().applied(), Applied::default());
    }

    #[test]
    fn a_failed_disk_is_an_error_and_nothing_counts_as_durable() {
        for point in [FaultPoint::Write, FaultPoint::Sync] {
            let disk = disk();
            let table = open(&disk).unwrap();
            table.apply(&[batch(0, &[], &[("a", Some("1"))])]).unwrap();
            table.flush().unwrap();
            table.apply(&[batch(1, &[], &[("a", Some("2"))])]).unwrap();
            disk.fail(Fault { point, after: 0, error: io::ErrorKind::StorageFull, forever: true });
            assert!(table.flush().is_err(), "{point:?}");
            assert_eq!(table.durable(), Some(at(1, 0)));
            let lost = disk.fork();
            disk.kill();
            drop(table);
            // The system still shows what may never have reached the disk.
            if point == FaultPoint::Sync {
                let error = open(&disk).err().expect("cannot be trusted");
                assert!(error.to_string().contains("sync failed"), "{error}");
                RedbTable::remove(&disk, path()).unwrap();
                assert_eq!(open(&disk).unwrap().applied(), Applied::default());
            } else {
                assert!([Some(at(1, 0)), Some(at(1, 1))].contains(&open(&disk).unwrap().applied().position));
            }
            let mut opened = 0;
            for seed in 0..20 {
                let lost = lost.fork();
                lost.crash(seed);
                // The mark may have reached the disk by itself.
                let Ok(table) = open(&lost) else { continue };
                opened += 1;
                assert!([Some(at(1, 0)), Some(at(1, 1))].contains(&table.applied().position), "{point:?} {seed}");
                cells(&*table.view().unwrap());
            }
            assert!(opened > 5, "{point:?}: {opened}");
        }
    }
}

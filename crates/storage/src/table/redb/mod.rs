//! [`RedbTable`]: the table in a redb file, the default.
//!
//! Always: the file comes into being whole (temporary name, synced, renamed, folder synced) and is checked whole when it is
//! opened. An apply changes memory only; a flush writes all changes, with totals, membership and applied position, in one
//! durable transaction, and neither applies nor reads wait for it. So after a crash the table is as some flush left it: it may
//! lag the log, never lead it.
//! Knows redb only here; redb's file access goes through [`Disk`]. Layout: `docs/storage-format.md`, "Table".

mod backend;
mod compaction;
mod rows;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use ::redb::{Builder, Database, DatabaseError, ReadOnlyTable, ReadTransaction, ReadableDatabase, StorageError, WriteTransaction};
use bytes::Bytes;
use types::{Position, Revision};

use self::backend::{Backend, failed_mark};
use self::rows::{
    CELLS, MEMBERSHIP_ROW, META, RowError, STATE_ROW, decode_cell, encode_cell, encode_membership, encode_state, read_applied,
};
use super::layer::Layer;
use super::{
    Applied, ApplyError, Cell, Cells, Committed, CompactError, EngineError, FlushError, Outcome, ReadError, ReplaceError, Table, TableView,
    Visitor, apply_all, apply_in_turn, is_empty_range,
};
use crate::adoption::Adoption;
use crate::disk::{Disk, DiskFile, OpenMode, parent, temporary_name};
use crate::snapshot::SnapshotReader;

pub use self::rows::TABLE_VERSION;

/// Changes in memory at which an apply waits for a flush, in bytes.
pub const LAYER_BYTES_MAX: usize = 64 << 20;

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
    place: Place,
    /// Changes with a compaction, under `flushing` and `state`. Held for a few lines.
    current: Mutex<Current>,
    /// Held by a compaction.
    compacting: Mutex<()>,
    /// Held by a flush or a replacement. Taken before `applying`.
    flushing: Mutex<()>,
    /// Held by an apply or a replacement, and by a flush for the moment in which it freezes the active layer.
    applying: Mutex<()>,
    /// Held for a few lines.
    state: Mutex<State>,
}

/// Where the file is, and how it is opened.
struct Place {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    options: RedbTableOptions,
}

/// An open file.
struct Current {
    database: Database,
    file: Arc<dyn DiskFile>,
    retired: Arc<Retired>,
}

/// Keeps a database that another has taken the place of until the last view of it is gone. Empty before.
#[derive(Default)]
struct Retired(Mutex<Option<Database>>);

struct State {
    applied: Applied,
    /// What the file holds.
    flushed: Applied,
    /// Counts applies: a view sees what came up to its own moment.
    moment: u64,
    active: Arc<Layer>,
    frozen: Option<Arc<Layer>>,
    base: Arc<Base>,
    /// What was flushed since a compaction began; `None` when there is none, or when it must begin anew.
    since: Option<Vec<Arc<Layer>>>,
    failed: bool,
}

/// A state of the file.
struct Base {
    cells: ReadOnlyTable<&'static [u8], &'static [u8]>,
    _read: ReadTransaction,
    /// Last, so that it goes last.
    _retired: Arc<Retired>,
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
        let file = disk.open(path, OpenMode::Write).map_err(io)?;
        RedbTable::over(file, Place { disk, path: path.to_owned(), options })
    }

    fn over(file: Arc<dyn DiskFile>, place: Place) -> Result<RedbTable, OpenError> {
        let Place { disk, path, options } = &place;
        let backend = Backend { file: Arc::clone(&file), disk: Arc::clone(disk), failed_mark: failed_mark(path) };
        let database = open_file(backend, path, *options)?;
        let flushed = load(&database, path)?;
        let retired = Arc::default();
        let corrupt = |error: EngineError| OpenError::Corrupt { file: path.clone(), reason: error.to_string() };
        let state = State {
            applied: flushed.clone(),
            flushed,
            moment: 0,
            active: Arc::default(),
            frozen: None,
            base: Base::newest(&database, &retired).map_err(corrupt)?,
            since: None,
            failed: false,
        };
        Ok(RedbTable {
            place,
            current: Mutex::new(Current { database, file, retired }),
            compacting: Mutex::new(()),
            flushing: Mutex::new(()),
            applying: Mutex::new(()),
            state: Mutex::new(state),
        })
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

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().expect(LOCK)
    }

    fn begin(&self) -> Result<WriteTransaction, EngineError> {
        let mut write = self.current().database.begin_write().map_err(engine)?;
        // Saves the allocator's state, so that the next open need not rebuild it, and commits in two phases: redb's page
        // checksums are not cryptographic and keys come from outside.
        write.set_quick_repair(true);
        Ok(write)
    }

    /// Writes a layer to the file, durably.
    fn write(&self, layer: &Layer, applied: &Applied, membership_changed: bool) -> Result<Arc<Base>, EngineError> {
        let write = self.begin()?;
        put_layer(&write, layer)?;
        self.commit(write, applied, membership_changed)
    }

    /// Writes the rows about the whole and commits.
    fn commit(&self, write: WriteTransaction, applied: &Applied, membership_changed: bool) -> Result<Arc<Base>, EngineError> {
        put_totals(&write, applied, membership_changed)?;
        write.commit().map_err(engine)?;
        let current = self.current();
        Base::newest(&current.database, &current.retired)
    }

    /// Applies entries that are no adoptions.
    fn apply_run(&self, committed: &[Committed]) -> Result<Vec<Outcome>, ApplyError> {
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

    /// Carries an adoption out: straight into the file, in one durable transaction, so that memory holds none of it.
    fn adopt(&self, position: Position, adoption: &Adoption) -> Result<Outcome, ApplyError> {
        let _flushing = self.flushing.lock().expect(LOCK);
        let _applying = self.applying.lock().expect(LOCK);
        let view = {
            let state = self.state();
            if state.failed {
                return Err(EngineError::Failed.into());
            }
            View { applied: state.applied.clone(), layers: Layers::of(&state) }
        };
        let outcome = adoption.check(&view)?;
        if outcome != Outcome::Applied {
            self.state().applied.position = Some(position);
            return Ok(outcome);
        }
        let written = self.write_adopted(&view, position, adoption);
        let mut state = self.state();
        match written {
            Ok((base, applied)) => {
                (state.base, state.active, state.frozen, state.since) = (base, Arc::default(), None, None);
                state.moment += 1;
                state.flushed = applied.clone();
                state.applied = applied;
                Ok(outcome)
            }
            Err(error) => {
                // Whether the commit took place is not known.
                state.failed = true;
                Err(error)
            }
        }
    }

    fn write_adopted(&self, view: &View, position: Position, adoption: &Adoption) -> Result<(Arc<Base>, Applied), ApplyError> {
        let write = self.begin()?;
        write.delete_table(CELLS).map_err(engine)?;
        let applied = {
            let mut cells = write.open_table(CELLS).map_err(engine)?;
            let mut stored = Vec::new();
            adoption.carry_out(view, &view.applied, position, &mut |key, revision, value| {
                encode_cell(&mut stored, key, &Cell { revision, value: Bytes::copy_from_slice(value) });
                cells.insert(key, &stored[..]).map(drop).map_err(engine)
            })?
        };
        let base = self.commit(write, &applied, true)?;
        Ok((base, applied))
    }
}

impl Base {
    fn newest(database: &Database, retired: &Arc<Retired>) -> Result<Arc<Base>, EngineError> {
        let read = database.begin_read().map_err(engine)?;
        Ok(Arc::new(Base { cells: read.open_table(CELLS).map_err(engine)?, _read: read, _retired: Arc::clone(retired) }))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Cell>, ReadError> {
        let Some(stored) = self.cells.get(key).map_err(engine)? else { return Ok(None) };
        let (revision, value) = decode_cell(key, stored.value())?;
        Ok(Some(Cell { revision, value: Bytes::copy_from_slice(value) }))
    }
}

/// Writes what a layer changes.
fn put_layer(write: &WriteTransaction, layer: &Layer) -> Result<(), EngineError> {
    let mut cells = write.open_table(CELLS).map_err(engine)?;
    let mut stored = Vec::new();
    layer.newest(|key, cell| match cell {
        Some(cell) => {
            encode_cell(&mut stored, key, cell);
            cells.insert(&key[..], &stored[..]).map(drop).map_err(engine)
        }
        None => cells.remove(&key[..]).map(drop).map_err(engine),
    })
}

/// Writes the rows about the whole.
fn put_totals(write: &WriteTransaction, applied: &Applied, membership_changed: bool) -> Result<(), EngineError> {
    let mut meta = write.open_table(META).map_err(engine)?;
    meta.insert(STATE_ROW, &encode_state(applied)[..]).map_err(engine)?;
    match &applied.membership {
        _ if !membership_changed => {}
        Some((position, membership)) => {
            meta.insert(MEMBERSHIP_ROW, &encode_membership(*position, membership)[..]).map_err(engine)?;
        }
        None => _ = meta.remove(MEMBERSHIP_ROW).map_err(engine)?,
    }
    Ok(())
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
        let position = self.state().applied.position;
        apply_in_turn(position, committed, &mut |run| self.apply_run(run), &mut |position, adoption| self.adopt(position, adoption))
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
                if let Some(since) = &mut state.since {
                    since.push(layer);
                }
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

    fn disk_bytes(&self) -> u64 {
        let file = Arc::clone(&self.current().file);
        file.allocated_bytes().unwrap_or_else(|error| {
            tracing::warn!(%error, file = %self.place.path.display(), "ask how much of the disk the table takes");
            0
        })
    }

    fn compact(&self) -> Result<bool, CompactError> {
        self.rewrite()
    }

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
                (state.base, state.active, state.frozen, state.since) = (base, Arc::default(), None, None);
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

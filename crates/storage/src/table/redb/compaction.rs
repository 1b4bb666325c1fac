//! Makes the table's file anew, in the order of its keys, and puts it in the place of the old one.
//!
//! Always: the old file is the table until the new one is whole, synced and renamed over it; what is flushed meanwhile is in both;
//! views of the old one stay as they are. Every cell's checksum is verified on the way, so that rot is found, not copied.
//!
//! redb gives pages back for its own use only: a file is as large as it ever had to be, and leaves that were split stay half
//! empty. In ascending order it fills them.

use std::path::Path;
use std::sync::Arc;

use ::redb::WriteTransaction;

use super::backend::{Backend, failed_mark};
use super::rows::{CELLS, decode_cell};
use super::{Base, CompactError, Current, EngineError, LOCK, Layer, RedbTable, engine, open_file, put_layer, put_totals};
use crate::disk::{OpenMode, parent, temporary_name};
use crate::table::{Applied, ReadError};

/// Changes that may come in while a copy is made, in bytes of memory: with more the copy is given up, for it would never catch up.
const SINCE_BYTES_MAX: usize = 256 << 20;

impl RedbTable {
    /// See [`crate::Table::compact`].
    pub(super) fn rewrite(&self) -> Result<bool, CompactError> {
        let Ok(_compacting) = self.compacting.try_lock() else { return Ok(false) };
        let base = {
            let _flushing = self.flushing.lock().expect(LOCK);
            let mut state = self.state();
            if state.failed {
                return Err(CompactError::Write(EngineError::Failed));
            }
            state.since = Some(Vec::new());
            Arc::clone(&state.base)
        };
        let temporary = temporary_name(&self.place.path);
        let done = self.copy(&base, &temporary).and_then(|copy| copy.map_or(Ok(false), |copy| self.take_place(copy, &temporary)));
        self.state().since = None;
        if !matches!(done, Ok(true)) && !self.state().failed {
            // What is left the next open removes. A failed sync of the copy says nothing of the table.
            for file in [temporary, failed_mark(&self.place.path)] {
                drop(self.place.disk.remove(&file));
            }
        }
        done
    }

    /// A new file with the cells of `base`, not committed; `None` when it is not worth while any more.
    pub(super) fn copy(&self, base: &Base, temporary: &Path) -> Result<Option<Copy>, CompactError> {
        let disk = &self.place.disk;
        let io = |source| CompactError::Write(EngineError::Io(source));
        if disk.exists(temporary).map_err(io)? {
            disk.remove(temporary).map_err(io)?;
        }
        let file = disk.open(temporary, OpenMode::Create).map_err(io)?;
        let backend = Backend { file: Arc::clone(&file), disk: Arc::clone(disk), failed_mark: failed_mark(&self.place.path) };
        let opened = open_file(backend, temporary, self.place.options);
        let database = opened.map_err(|error| CompactError::Write(EngineError::Engine(error.to_string())))?;
        let mut write = database.begin_write().map_err(engine).map_err(CompactError::Write)?;
        write.set_quick_repair(true);
        {
            let mut cells = write.open_table(CELLS).map_err(engine).map_err(CompactError::Write)?;
            for row in base.cells.range::<&[u8]>(..).map_err(engine).map_err(ReadError::from)? {
                let (key, stored) = row.map_err(engine).map_err(ReadError::from)?;
                decode_cell(key.value(), stored.value())?;
                cells.insert(key.value(), stored.value()).map_err(engine).map_err(CompactError::Write)?;
            }
        }
        let current = Current { database, file, retired: Arc::default() };
        Ok(self.is_worth_while().then_some(Copy { current, write }))
    }

    /// Whether nothing has replaced the table meanwhile, and not too much was changed.
    fn is_worth_while(&self) -> bool {
        let state = self.state();
        state.since.as_ref().is_some_and(|since| since.iter().map(|layer| layer.bytes()).sum::<usize>() <= SINCE_BYTES_MAX)
    }

    /// Brings a copy up to date and puts it in the table's place.
    pub(super) fn take_place(&self, Copy { current, write }: Copy, temporary: &Path) -> Result<bool, CompactError> {
        let _flushing = self.flushing.lock().expect(LOCK);
        let (since, flushed): (Vec<Arc<Layer>>, Applied) = {
            let mut state = self.state();
            match state.since.take() {
                Some(since) if !state.failed => (since, state.flushed.clone()),
                _ => return Ok(false),
            }
        };
        let disk = &self.place.disk;
        let finish = || -> Result<Arc<Base>, EngineError> {
            since.iter().try_for_each(|layer| put_layer(&write, layer))?;
            put_totals(&write, &flushed, true)?;
            write.commit().map_err(engine)?;
            let base = Base::newest(&current.database, &current.retired)?;
            current.file.sync_data().map_err(EngineError::Io)?;
            disk.rename(temporary, &self.place.path).map_err(EngineError::Io)?;
            Ok(base)
        };
        let base = finish().map_err(CompactError::Write)?;
        // From here on the new file is the table.
        let synced = disk.sync_dir(parent(&self.place.path));
        let old = std::mem::replace(&mut *self.current(), current);
        let mut state = self.state();
        state.base = base;
        // The old database's last view, which may be this state's old base, ends it.
        let keep = Arc::clone(&old.retired);
        *keep.0.lock().expect(LOCK) = Some(old.database);
        if let Err(source) = synced {
            // Whichever file the next start finds, it is whole; but nobody can say which one later flushes go to.
            state.failed = true;
            return Err(CompactError::Write(EngineError::Io(source)));
        }
        Ok(true)
    }
}

/// A file that is to become the table.
pub(super) struct Copy {
    current: Current,
    write: WriteTransaction,
}

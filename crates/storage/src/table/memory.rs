//! [`MemoryTable`]: a table in memory, for simulation, tests, and nodes that are to forget everything.
//!
//! Always: as every [`Table`], but a crash empties it, so that it is rebuilt from the last snapshot and the log.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use types::Position;

use super::overlay::{Overlay, Store};
use super::{
    Applied, ApplyError, Cell, Committed, EngineError, FlushError, Outcome, ReadError, ReplaceError, Table, TableView, is_empty_range,
};
use crate::snapshot::SnapshotReader;

/// A table in memory.
pub struct MemoryTable(Overlay<BTreeMap<Bytes, Cell>>);

impl MemoryTable {
    /// An empty table.
    pub fn new() -> MemoryTable {
        MemoryTable(Overlay::new(BTreeMap::new()))
    }
}

impl Default for MemoryTable {
    fn default() -> MemoryTable {
        MemoryTable::new()
    }
}

impl Table for MemoryTable {
    fn view(&self) -> Result<Arc<dyn TableView>, ReadError> {
        self.0.view()
    }

    fn apply(&self, committed: &[Committed]) -> Result<Vec<Outcome>, ApplyError> {
        self.0.apply(committed)
    }

    fn applied(&self) -> Applied {
        self.0.applied()
    }

    fn flush(&self) -> Result<Option<Position>, FlushError> {
        Ok(self.durable())
    }

    fn durable(&self) -> Option<Position> {
        self.0.durable()
    }

    fn note_snapshot(&self, position: Position) {
        self.0.note_snapshot(position);
    }

    fn replace(&self, snapshot: &mut SnapshotReader) -> Result<(), ReplaceError> {
        self.0.replace(snapshot)
    }
}

impl Store for BTreeMap<Bytes, Cell> {
    fn get(&self, key: &[u8]) -> Result<Option<Cell>, ReadError> {
        Ok(BTreeMap::get(self, key).cloned())
    }

    fn put(&mut self, key: &Bytes, cell: &Cell) -> Result<(), EngineError> {
        self.insert(key.clone(), cell.clone());
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), EngineError> {
        self.remove(key);
        Ok(())
    }

    fn first(&self, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Result<Option<(Bytes, Cell)>, ReadError> {
        if is_empty_range(start, end) {
            return Ok(None);
        }
        Ok(self.range::<[u8], _>((start, end)).next().map(|(key, cell)| (key.clone(), cell.clone())))
    }

    fn fresh(&self) -> Result<Self, EngineError> {
        Ok(BTreeMap::new())
    }
}

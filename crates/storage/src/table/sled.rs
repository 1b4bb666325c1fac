//! [`SledTable`]: the table in sled, for those who want it.
//!
//! Always: it starts empty. Sled's `flush` is not durable on Linux, and what a crash leaves cannot be trusted
//! (`docs/storage-format.md`, "Table"), so what a former process left is thrown away and the table is rebuilt from the last
//! snapshot and the log. Sled then serves what it is good for: a map larger than memory.
//! Knows sled only here; sled opens its own files, so this table does not run on a simulated disk.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use types::{Position, Revision};

use super::overlay::{Overlay, Store};
use super::{
    Applied, ApplyError, Cell, Committed, EngineError, FlushError, Outcome, ReadError, ReplaceError, Table, TableView, is_empty_range,
};
use crate::codec::Reader;
use crate::snapshot::SnapshotReader;

/// Memory for pages.
const CACHE_BYTES: u64 = 64 << 20;

/// A volatile table in a sled database.
pub struct SledTable {
    overlay: Overlay<SledStore>,
    /// Keeps the files until the last view is gone.
    _database: sled::Db,
}

/// Why sled did not open.
#[derive(Debug, thiserror::Error)]
#[error("open sled in {}: {reason}", dir.display())]
pub struct OpenError {
    /// The folder.
    pub dir: PathBuf,
    /// What the system or sled says.
    pub reason: String,
}

impl SledTable {
    /// Throws away what is in the folder and opens an empty table there.
    pub fn open(dir: &Path) -> Result<SledTable, OpenError> {
        let error = |reason: String| OpenError { dir: dir.to_owned(), reason };
        match std::fs::remove_dir_all(dir) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(error(source.to_string())),
            _ => {}
        }
        let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let database = config.open().map_err(|source| error(source.to_string()))?;
        let tree = database.open_tree("0").map_err(|source| error(source.to_string()))?;
        let overlay = Overlay::new(SledStore { database: database.clone(), tree, number: 0 });
        Ok(SledTable { overlay, _database: database })
    }
}

impl Table for SledTable {
    fn view(&self) -> Result<Arc<dyn TableView>, ReadError> {
        self.overlay.view()
    }

    fn apply(&self, committed: &[Committed]) -> Result<Vec<Outcome>, ApplyError> {
        self.overlay.apply(committed)
    }

    fn applied(&self) -> Applied {
        self.overlay.applied()
    }

    fn flush(&self) -> Result<Option<Position>, FlushError> {
        Ok(self.durable())
    }

    fn durable(&self) -> Option<Position> {
        self.overlay.durable()
    }

    fn note_snapshot(&self, position: Position) {
        self.overlay.note_snapshot(position);
    }

    fn replace(&self, snapshot: &mut SnapshotReader) -> Result<(), ReplaceError> {
        self.overlay.replace(snapshot)
    }
}

struct SledStore {
    database: sled::Db,
    tree: sled::Tree,
    number: u64,
}

impl Drop for SledStore {
    fn drop(&mut self) {
        // A store that was replaced; the last one goes with the folder.
        _ = self.database.drop_tree(self.number.to_string());
    }
}

fn engine(error: sled::Error) -> EngineError {
    match error {
        sled::Error::Io(source) => EngineError::Io(source),
        other => EngineError::Engine(other.to_string()),
    }
}

fn decode(stored: &[u8]) -> Result<Cell, ReadError> {
    let mut reader = Reader::new(&Bytes::copy_from_slice(stored));
    let revision = reader.u64("revision").map_err(|malformed| ReadError::Corrupt(malformed.to_string()))?;
    Ok(Cell { revision: Revision(revision), value: reader.rest() })
}

impl Store for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Cell>, ReadError> {
        self.tree.get(key).map_err(engine)?.map(|stored| decode(&stored)).transpose()
    }

    fn put(&mut self, key: &Bytes, cell: &Cell) -> Result<(), EngineError> {
        let mut stored = BytesMut::with_capacity(8 + cell.value.len());
        stored.put_u64_le(cell.revision.0);
        stored.put_slice(&cell.value);
        self.tree.insert(key, &stored[..]).map_err(engine)?;
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), EngineError> {
        self.tree.remove(key).map_err(engine)?;
        Ok(())
    }

    fn first(&self, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Result<Option<(Bytes, Cell)>, ReadError> {
        if is_empty_range(start, end) {
            return Ok(None);
        }
        let found = self.tree.range::<&[u8], _>((start, end)).next().transpose().map_err(engine)?;
        found.map(|(key, stored)| Ok((Bytes::copy_from_slice(&key), decode(&stored)?))).transpose()
    }

    fn fresh(&self) -> Result<SledStore, EngineError> {
        let number = self.number + 1;
        let name = number.to_string();
        // Left over when an earlier replacement failed.
        self.database.drop_tree(&name).map_err(engine)?;
        Ok(SledStore { tree: self.database.open_tree(&name).map_err(engine)?, database: self.database.clone(), number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::conformance::{all, batch};

    #[test]
    fn conforms() {
        let root = tempfile::tempdir().unwrap();
        let number = std::sync::atomic::AtomicU32::new(0);
        all(&|| {
            let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Arc::new(SledTable::open(&root.path().join(number.to_string())).unwrap())
        });
    }

    #[test]
    fn what_a_former_process_left_is_thrown_away() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("sled");
        let table = SledTable::open(&dir).unwrap();
        table.apply(&[batch(0, &[], &[("a", Some("1"))])]).unwrap();
        drop(table);
        let table = SledTable::open(&dir).unwrap();
        assert_eq!(table.applied(), Applied::default());
        assert_eq!(table.view().unwrap().get(b"a").unwrap(), None);
    }
}

//! [`Layer`]: changes in memory that are not yet in the table's file.
//!
//! Always: a key keeps every version it had in this layer, by the moment it came, so that a view of an earlier moment finds
//! what was there then; versions are only added, so that reading piece by piece is as good as reading at once.
//! Knows no file.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::RwLock;

use bytes::Bytes;

use super::{Cell, is_empty_range};

/// Cells taken from a layer at once while scanning.
const CHUNK_CELLS: usize = 256;
/// Memory of a version beside key and value, roughly, in bytes.
const VERSION_BYTES: usize = 128;

const LOCK: &str = "no code panics while it holds a layer";

/// Changes of cells since some moment. `None` is a delete.
#[derive(Default)]
pub(super) struct Layer(RwLock<Changes>);

#[derive(Default)]
struct Changes {
    keys: BTreeMap<Bytes, Versions>,
    bytes: usize,
}

struct Versions {
    newest: Version,
    /// Oldest first.
    older: Vec<Version>,
}

struct Version {
    moment: u64,
    cell: Option<Cell>,
}

impl Versions {
    fn at(&self, moment: u64) -> Option<&Option<Cell>> {
        let versions = std::iter::once(&self.newest).chain(self.older.iter().rev());
        versions.into_iter().find(|version| version.moment <= moment).map(|version| &version.cell)
    }
}

impl Layer {
    /// What this layer says of a key at a moment: a cell, its absence, or nothing.
    pub(super) fn get(&self, key: &[u8], moment: u64) -> Option<Option<Cell>> {
        self.0.read().expect(LOCK).keys.get(key)?.at(moment).cloned()
    }

    /// Adds a version. Moments never go back.
    pub(super) fn put(&self, key: &Bytes, moment: u64, cell: Option<Cell>) {
        let mut changes = self.0.write().expect(LOCK);
        changes.bytes += VERSION_BYTES + key.len() + cell.as_ref().map_or(0, |cell| cell.value.len());
        let version = Version { moment, cell };
        match changes.keys.get_mut(key) {
            Some(versions) => {
                let old = std::mem::replace(&mut versions.newest, version);
                // Within one moment only the last counts.
                if old.moment < moment {
                    versions.older.push(old);
                }
            }
            // A copy, because the key may be a small part of a large message.
            None => _ = changes.keys.insert(Bytes::copy_from_slice(key), Versions { newest: version, older: Vec::new() }),
        }
    }

    /// Memory held, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.0.read().expect(LOCK).bytes
    }

    /// Lends the newest version of each key, in order, until `visit` fails.
    pub(super) fn newest<E>(&self, mut visit: impl FnMut(&Bytes, &Option<Cell>) -> Result<(), E>) -> Result<(), E> {
        let changes = self.0.read().expect(LOCK);
        changes.keys.iter().try_for_each(|(key, versions)| visit(key, &versions.newest.cell))
    }

    /// Goes through what this layer says of the keys between two bounds at a moment.
    pub(super) fn cursor<'a>(&'a self, start: Bound<&[u8]>, end: Bound<&'a [u8]>, moment: u64) -> Cursor<'a> {
        Cursor { layer: self, moment, from: Some(start.map(Bytes::copy_from_slice)), end, chunk: VecDeque::new() }
    }
}

/// A place in a layer. Holds no lock between calls.
pub(super) struct Cursor<'a> {
    layer: &'a Layer,
    moment: u64,
    /// Where to go on when the chunk is used up; `None` at the end.
    from: Option<Bound<Bytes>>,
    end: Bound<&'a [u8]>,
    chunk: VecDeque<(Bytes, Option<Cell>)>,
}

impl Cursor<'_> {
    /// The next key, without moving on.
    pub(super) fn peek(&mut self) -> Option<&(Bytes, Option<Cell>)> {
        while self.chunk.is_empty() {
            let from = self.from.take()?;
            let from_key = from.as_ref().map(|key| &key[..]);
            if is_empty_range(from_key, self.end) {
                return None;
            }
            let changes = self.layer.0.read().expect(LOCK);
            let mut seen = 0;
            for (key, versions) in changes.keys.range::<[u8], _>((from_key, self.end)).take(CHUNK_CELLS) {
                seen += 1;
                if let Some(cell) = versions.at(self.moment) {
                    self.chunk.push_back((key.clone(), cell.clone()));
                }
                if seen == CHUNK_CELLS {
                    self.from = Some(Bound::Excluded(key.clone()));
                }
            }
        }
        self.chunk.front()
    }

    /// Moves on.
    pub(super) fn next(&mut self) -> Option<(Bytes, Option<Cell>)> {
        self.peek()?;
        self.chunk.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use types::Revision;

    use super::*;

    fn cell(value: &'static str) -> Option<Cell> {
        Some(Cell { revision: Revision(1), value: Bytes::from_static(value.as_bytes()) })
    }

    #[test]
    fn each_moment_sees_its_own_version() {
        let layer = Layer::default();
        let key = Bytes::from_static(b"k");
        layer.put(&key, 2, cell("two"));
        layer.put(&key, 4, cell("lost"));
        layer.put(&key, 4, cell("four"));
        layer.put(&key, 6, None);
        layer.put(&key, 8, cell("eight"));
        for (moment, want) in [(1, None), (2, Some(cell("two"))), (3, Some(cell("two"))), (5, Some(cell("four"))), (7, Some(None))] {
            assert_eq!(layer.get(b"k", moment), want, "{moment}");
        }
        assert_eq!(layer.get(b"k", u64::MAX), Some(cell("eight")));
        assert_eq!(layer.get(b"other", 9), None);
    }

    #[test]
    fn a_cursor_passes_chunks_and_keys_that_came_later() {
        let layer = Layer::default();
        let key = |number: u32| Bytes::from(format!("{number:05}"));
        for number in 0..1000 {
            layer.put(&key(number), u64::from(number % 3), cell("v"));
        }
        let keys = |start: Bound<&[u8]>, end, moment| {
            let mut cursor = layer.cursor(start, end, moment);
            std::iter::from_fn(|| cursor.next()).map(|(key, _)| key).collect::<Vec<_>>()
        };
        let all: Vec<_> = (0..1000).map(key).collect();
        assert_eq!(keys(Bound::Unbounded, Bound::Unbounded, 2), all);
        assert_eq!(keys(Bound::Unbounded, Bound::Unbounded, 0), all.iter().step_by(3).cloned().collect::<Vec<_>>());
        assert_eq!(keys(Bound::Excluded(b"00100"), Bound::Included(b"00700"), 2), all[101..=700]);
        assert!(keys(Bound::Included(b"00700"), Bound::Excluded(b"00100"), 2).is_empty());
        let nothing_yet = Layer::default();
        (0..1000).for_each(|number| nothing_yet.put(&key(number), 5, cell("v")));
        assert!(nothing_yet.cursor(Bound::Unbounded, Bound::Unbounded, 4).next().is_none());
    }
}

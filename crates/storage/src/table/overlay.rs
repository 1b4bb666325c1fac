//! [`Overlay`]: gives an engine without snapshots views that later changes do not touch.
//!
//! Always: each live view keeps, for every key changed since it was taken, what the key held then; so a view costs what
//! changes while it lives, and taking one costs nothing. Cells, overlays and totals change under one lock.
//! Knows no engine: only [`Store`].

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, RwLock, Weak};

use bytes::Bytes;
use types::{Position, Revision};

use super::{
    Applied, ApplyError, Cell, Cells, Committed, EngineError, Outcome, ReadError, ReplaceError, TableView, Visitor, apply_all,
    apply_in_turn, is_empty_range,
};
use crate::adoption::Adoption;
use crate::snapshot::SnapshotReader;

/// An ordered map without snapshots.
pub(super) trait Store: Send + Sync + 'static {
    fn get(&self, key: &[u8]) -> Result<Option<Cell>, ReadError>;
    fn put(&mut self, key: &Bytes, cell: &Cell) -> Result<(), EngineError>;
    fn delete(&mut self, key: &[u8]) -> Result<(), EngineError>;
    /// The first cell between two keys.
    fn first(&self, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Result<Option<(Bytes, Cell)>, ReadError>;
    /// An empty store to fill and put in this one's place.
    fn fresh(&self) -> Result<Self, EngineError>
    where
        Self: Sized;
}

/// A volatile table over a [`Store`]. Shared by clones.
pub(super) struct Overlay<S> {
    shared: Arc<RwLock<Shared<S>>>,
    /// Outside `shared`, so that asking never waits for an apply.
    durable: Mutex<Option<Position>>,
}

struct Shared<S> {
    store: Arc<RwLock<S>>,
    applied: Applied,
    views: Vec<Weak<Undo>>,
    failed: bool,
}

/// What keys held when a view was taken, for those changed since. `None`: the key was not there.
type Undo = Mutex<BTreeMap<Bytes, Option<Cell>>>;

const LOCK: &str = "no code panics while it holds the table";

impl<S: Store> Overlay<S> {
    pub(super) fn new(store: S) -> Overlay<S> {
        let store = Arc::new(RwLock::new(store));
        let shared = Shared { store, applied: Applied::default(), views: Vec::new(), failed: false };
        Overlay { shared: Arc::new(RwLock::new(shared)), durable: Mutex::new(None) }
    }

    pub(super) fn applied(&self) -> Applied {
        self.shared.read().expect(LOCK).applied.clone()
    }

    pub(super) fn durable(&self) -> Option<Position> {
        *self.durable.lock().expect(LOCK)
    }

    pub(super) fn note_snapshot(&self, position: Position) {
        let mut durable = self.durable.lock().expect(LOCK);
        *durable = (*durable).max(Some(position));
    }

    pub(super) fn view(&self) -> Result<Arc<dyn TableView>, ReadError> {
        let mut shared = self.shared.write().expect(LOCK);
        if shared.failed {
            return Err(EngineError::Failed.into());
        }
        let undo = Arc::new(Undo::default());
        shared.views.retain(|view| view.strong_count() > 0);
        shared.views.push(Arc::downgrade(&undo));
        Ok(Arc::new(View { store: Arc::clone(&shared.store), applied: shared.applied.clone(), undo }))
    }

    pub(super) fn apply(&self, committed: &[Committed]) -> Result<Vec<Outcome>, ApplyError> {
        let position = self.shared.read().expect(LOCK).applied.position;
        apply_in_turn(position, committed, &mut |run| self.apply_run(run), &mut |position, adoption| self.adopt(position, adoption))
    }

    fn adopt(&self, position: Position, adoption: &Adoption) -> Result<Outcome, ApplyError> {
        let view = self.view()?;
        let before = view.applied()?;
        let outcome = adoption.check(&*view)?;
        if outcome != Outcome::Applied {
            self.shared.write().expect(LOCK).applied.position = Some(position);
            return Ok(outcome);
        }
        let mut fresh = self.shared.read().expect(LOCK).store.read().expect(LOCK).fresh()?;
        let applied = adoption.carry_out(&*view, &before, position, &mut |key, revision, value| {
            fresh.put(&Bytes::copy_from_slice(key), &Cell { revision, value: Bytes::copy_from_slice(value) })
        })?;
        // Views taken before keep the old store, which nobody changes any more.
        *self.shared.write().expect(LOCK) = Shared { store: Arc::new(RwLock::new(fresh)), applied, views: Vec::new(), failed: false };
        Ok(outcome)
    }

    fn apply_run(&self, committed: &[Committed]) -> Result<Vec<Outcome>, ApplyError> {
        let mut shared = self.shared.write().expect(LOCK);
        if shared.failed {
            return Err(EngineError::Failed.into());
        }
        let views: Vec<Arc<Undo>> = shared.views.iter().filter_map(Weak::upgrade).collect();
        let mut applied = shared.applied.clone();
        let store = Arc::clone(&shared.store);
        let outcomes = apply_all(&mut Undoing { store: &mut *store.write().expect(LOCK), views }, &mut applied, committed);
        match &outcomes {
            Ok(_) => shared.applied = applied,
            Err(ApplyError::Order { .. } | ApplyError::Membership { .. }) => {}
            // Half of it may be done, and there is no way back: volatile tables are rebuilt.
            Err(ApplyError::Read(_) | ApplyError::Engine(_)) => shared.failed = true,
        }
        outcomes
    }

    pub(super) fn replace(&self, snapshot: &mut SnapshotReader) -> Result<(), ReplaceError> {
        let mut fresh = self.shared.read().expect(LOCK).store.read().expect(LOCK).fresh()?;
        for record in snapshot.records()? {
            let record = record?;
            fresh.put(&record.key, &record.cell)?;
        }
        let applied = snapshot.applied().clone();
        let position = applied.position;
        let mut shared = self.shared.write().expect(LOCK);
        // Views taken before keep the old store, which nobody changes any more.
        *shared = Shared { store: Arc::new(RwLock::new(fresh)), applied, views: Vec::new(), failed: false };
        *self.durable.lock().expect(LOCK) = position;
        Ok(())
    }
}

/// Changes a store, and writes down for each live view what it changed.
struct Undoing<'a, S> {
    store: &'a mut S,
    views: Vec<Arc<Undo>>,
}

impl<S: Store> Undoing<'_, S> {
    fn save(&self, key: &Bytes, old: &Option<Cell>) {
        for view in &self.views {
            view.lock().expect(LOCK).entry(key.clone()).or_insert_with(|| old.clone());
        }
    }
}

impl<S: Store> Cells for Undoing<'_, S> {
    fn revision(&self, key: &[u8]) -> Result<Revision, ApplyError> {
        Ok(self.store.get(key)?.map_or(Revision::ABSENT, |cell| cell.revision))
    }

    fn put(&mut self, key: &Bytes, cell: &Cell, lend: &mut dyn FnMut(Revision, &[u8])) -> Result<(), ApplyError> {
        let old = self.store.get(key)?;
        self.save(key, &old);
        if let Some(old) = old {
            lend(old.revision, &old.value);
        }
        Ok(self.store.put(key, cell)?)
    }

    fn delete(&mut self, key: &Bytes, lend: &mut dyn FnMut(Revision, &[u8])) -> Result<(), ApplyError> {
        if let Some(old) = self.store.get(key)? {
            lend(old.revision, &old.value);
            self.save(key, &Some(old));
            self.store.delete(key)?;
        }
        Ok(())
    }
}

struct View<S> {
    store: Arc<RwLock<S>>,
    applied: Applied,
    undo: Arc<Undo>,
}

impl<S: Store> View<S> {
    /// The first cell between two keys as it was when the view was taken.
    fn first(&self, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Result<Option<(Bytes, Cell)>, ReadError> {
        let store = self.store.read().expect(LOCK);
        let undo = self.undo.lock().expect(LOCK);
        let mut from = own(start);
        loop {
            if is_empty_range(borrow(&from), end) {
                return Ok(None);
            }
            let stored = store.first(borrow(&from), end)?;
            let undone = undo.range::<[u8], _>((borrow(&from), end)).next();
            let key = match (stored, undone) {
                (None, None) => return Ok(None),
                (Some((key, cell)), None) => return Ok(Some((key, cell))),
                (Some((key, cell)), Some((undone, _))) if key < *undone => return Ok(Some((key, cell))),
                (_, Some((key, Some(cell)))) => return Ok(Some((key.clone(), cell.clone()))),
                // It came later than this view.
                (_, Some((key, None))) => key.clone(),
            };
            from = Bound::Excluded(key);
        }
    }
}

impl<S: Store> TableView for View<S> {
    fn applied(&self) -> Result<Applied, ReadError> {
        Ok(self.applied.clone())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Cell>, ReadError> {
        let store = self.store.read().expect(LOCK);
        match self.undo.lock().expect(LOCK).get(key) {
            Some(old) => Ok(old.clone()),
            None => store.get(key),
        }
    }

    fn visit(&self, start: Bound<&[u8]>, end: Bound<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), ReadError> {
        let mut from = own(start);
        while let Some((key, cell)) = self.first(borrow(&from), end)? {
            if visit(&key, cell.revision, &cell.value) == ControlFlow::Break(()) {
                break;
            }
            from = Bound::Excluded(key);
        }
        Ok(())
    }
}

fn own(bound: Bound<&[u8]>) -> Bound<Bytes> {
    bound.map(Bytes::copy_from_slice)
}

fn borrow(bound: &Bound<Bytes>) -> Bound<&[u8]> {
    bound.as_ref().map(|key| &key[..])
}

//! An open barrier without a cluster: one table in memory. For tests of the floors above.

use std::sync::Arc;

use crypto::{KeyringKey, SeededRng};
use storage::{Change, Committed, MemoryTable, Outcome, Table};
use types::{ClusterId, Index, Position, Revision, Term, Timestamp};
use uuid::Uuid;

use crate::keyring::Keyring;
use crate::keys::Keys;
use crate::plan::Plan;
use crate::view::View;

/// A table in memory and keys from a seed. Commits one plan after another.
pub struct MemoryBarrier {
    table: MemoryTable,
    keys: Arc<Keys>,
    rng: SeededRng,
    next: std::sync::Mutex<u64>,
}

impl MemoryBarrier {
    /// Empty, with keys from `seed`.
    pub fn new(seed: u64) -> MemoryBarrier {
        let rng = SeededRng::dangerous_from_seed(seed);
        let (key, cluster) = (KeyringKey::generate(&rng), ClusterId(Uuid::nil()));
        let (keyring, _) = Keyring::generate(&key, cluster, Timestamp(0), &rng);
        let keys = Arc::new(Keys::sealed());
        assert!(keys.open(keyring, key, cluster, 1), "never sealed");
        MemoryBarrier { table: MemoryTable::new(), keys, rng, next: std::sync::Mutex::new(1) }
    }

    /// Everything, as it is now.
    ///
    /// # Panics
    /// When the table in memory cannot be read, which does not happen.
    pub fn view(&self) -> View {
        View::new(self.table.view().expect("a table in memory can be read"), Arc::clone(&self.keys))
    }

    /// Carries a plan out; false when something it expects does not hold.
    ///
    /// # Panics
    /// When the barrier was sealed or the table refuses the entry, which a test wants to know.
    pub fn commit(&self, view: &View, plan: &Plan) -> bool {
        self.commit_at(view, plan).is_some()
    }

    /// As [`MemoryBarrier::commit`]: the revision that everything it wrote has then; `None` when something it expects does not hold.
    ///
    /// # Panics
    /// As [`MemoryBarrier::commit`].
    pub fn commit_at(&self, view: &View, plan: &Plan) -> Option<Revision> {
        let Ok(batch) = view.seal(plan, &self.rng) else { panic!("sealed") };
        let mut next = self.next.lock().expect("no test panics while it commits");
        let position = Position { term: Term(1), index: Index(*next) };
        *next += 1;
        let outcomes = self.table.apply(&[Committed { position, change: Change::Batch(batch) }]).expect("the entry follows the last");
        (outcomes == [Outcome::Applied]).then_some(Revision::at(position.index))
    }

    /// Borrows the keyring.
    ///
    /// # Panics
    /// When the barrier was sealed.
    pub fn with_keyring<T>(&self, act: impl FnOnce(&Keyring) -> T) -> T {
        self.keys.with(act).expect("not sealed")
    }

    /// Wipes the keys.
    pub fn seal(&self) {
        self.keys.seal();
    }
}

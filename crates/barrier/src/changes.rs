//! What the barrier hears from apply: that the cluster was sealed, and that watched records changed.
//!
//! Always: a change is heard before anybody can learn that it was applied, so no cache outlives the write that changed it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use prost::Message;
use proto::stored;
use raft::Observer;
use storage::{Batch, TableView};

use crate::key::AREA_CLEAR;
use crate::keys::Keys;
use crate::records;

/// Counts the changes below one name. A cache remembers the count it was filled at.
#[derive(Clone)]
pub struct Generation(Arc<AtomicU64>);

impl Generation {
    /// How many changes there were.
    pub fn current(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Hears every applied change, on behalf of one barrier. Made before Raft starts, and given to it.
pub struct Changes {
    pub(crate) keys: Arc<Keys>,
    watched: RwLock<Vec<(Bytes, Arc<AtomicU64>)>>,
}

impl Changes {
    /// For a barrier that is sealed.
    pub fn new() -> Arc<Changes> {
        Arc::new(Changes { keys: Arc::new(Keys::sealed()), watched: RwLock::default() })
    }

    /// Counts the changes of keys that start with `prefix`, from now on.
    pub(crate) fn watch(&self, prefix: Bytes) -> Generation {
        let mut watched = self.watched.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, count)) = watched.iter().find(|(known, _)| *known == prefix) {
            return Generation(Arc::clone(count));
        }
        let count = Arc::new(AtomicU64::new(0));
        watched.push((prefix, Arc::clone(&count)));
        Generation(count)
    }

    fn sealed_at(&self, value: &Bytes) {
        match stored::SealEpoch::decode(value.clone()) {
            Ok(record) => self.keys.seal_before(record.epoch),
            Err(error) => {
                tracing::error!(%error, "the seal epoch is malformed: sealing");
                self.keys.seal();
            }
        }
    }
}

impl Observer for Changes {
    fn applied(&self, batch: &Batch) {
        for write in &batch.writes {
            if write.key.first() == Some(&AREA_CLEAR) {
                if write.key == records::epoch_key()
                    && let Some(value) = &write.value
                {
                    self.sealed_at(value);
                }
                continue;
            }
            let watched = self.watched.read().unwrap_or_else(PoisonError::into_inner);
            for (prefix, count) in watched.iter() {
                if write.key.starts_with(prefix) {
                    count.fetch_add(1, Ordering::AcqRel);
                }
            }
        }
    }

    fn replaced(&self, table: &dyn TableView) {
        match table.get(&records::epoch_key()) {
            Ok(Some(cell)) => self.sealed_at(&cell.value),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "the seal epoch cannot be read: sealing");
                self.keys.seal();
            }
        }
        for (_, count) in self.watched.read().unwrap_or_else(PoisonError::into_inner).iter() {
            count.fetch_add(1, Ordering::AcqRel);
        }
    }
}

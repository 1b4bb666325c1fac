//! What the barrier hears from apply: that the cluster was sealed, and that the keyring is another one.
//!
//! Always: both are heard before anybody can learn that they were applied.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use prost::Message;
use proto::stored;
use raft::Observer;
use storage::{Batch, TableView};

use crate::keys::Keys;
use crate::pool::Pools;
use crate::records;

/// Hears every applied change, on behalf of one barrier. Made before Raft starts, and given to it.
pub struct Changes {
    pub(crate) keys: Arc<Keys>,
    /// The shares that were entered here: a seal throws them away.
    pools: Mutex<Pools>,
}

impl Changes {
    /// For a barrier that is sealed.
    pub fn new() -> Arc<Changes> {
        Arc::new(Changes { keys: Arc::new(Keys::sealed()), pools: Mutex::default() })
    }

    pub(crate) fn pools(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sealed_at(&self, value: &Bytes) {
        match stored::SealEpoch::decode(value.clone()) {
            Ok(record) => {
                if self.keys.seal_before(record.epoch) {
                    self.pools().clear();
                }
            }
            Err(error) => {
                tracing::error!(%error, "the seal epoch is malformed: sealing");
                self.keys.seal();
                self.pools().clear();
            }
        }
    }
}

impl Changes {
    /// Takes notice of a restore, also of one before this node's start.
    pub(crate) fn restored(&self, value: Option<&Bytes>) {
        let is_unfinished = |value: &Bytes| match stored::RestoredCluster::decode(value.clone()) {
            Ok(record) => record.unfinished,
            Err(error) => {
                tracing::error!(%error, "the record of the last restore is malformed: this node does not open");
                true
            }
        };
        self.keys.set_unfinished(value.is_some_and(is_unfinished));
    }
}

impl Observer for Changes {
    fn applied(&self, batch: &Batch) {
        for write in &batch.writes {
            if write.key == records::restored_key() {
                self.restored(write.value.as_ref());
            }
            let Some(value) = &write.value else { continue };
            if write.key == records::epoch_key() {
                self.sealed_at(value);
            } else if write.key == records::keyring_key() {
                self.keys.renew(value);
            }
        }
    }

    fn replaced(&self, table: &dyn TableView) {
        match table.get(&records::restored_key()) {
            Ok(cell) => self.restored(cell.map(|cell| cell.value).as_ref()),
            Err(error) => {
                tracing::error!(%error, "the record of the last restore cannot be read: sealing");
                self.keys.seal();
            }
        }
        match (table.get(&records::epoch_key()), table.get(&records::keyring_key())) {
            (Ok(epoch), Ok(keyring)) => {
                if let Some(epoch) = epoch {
                    self.sealed_at(&epoch.value);
                }
                if let Some(keyring) = keyring {
                    self.keys.renew(&keyring.value);
                }
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "the seal epoch or the keyring cannot be read: sealing");
                self.keys.seal();
            }
        }
    }
}

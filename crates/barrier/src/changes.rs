//! What the barrier hears from apply: that the cluster was sealed.
//!
//! Always: a seal is heard before anybody can learn that it was applied.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use proto::stored;
use raft::Observer;
use storage::{Batch, TableView};

use crate::keys::Keys;
use crate::records;

/// Hears every applied change, on behalf of one barrier. Made before Raft starts, and given to it.
pub struct Changes {
    pub(crate) keys: Arc<Keys>,
}

impl Changes {
    /// For a barrier that is sealed.
    pub fn new() -> Arc<Changes> {
        Arc::new(Changes { keys: Arc::new(Keys::sealed()) })
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
            if write.key == records::epoch_key()
                && let Some(value) = &write.value
            {
                self.sealed_at(value);
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
    }
}

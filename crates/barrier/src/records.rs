//! The records in clear: the seals, the sealed keyring, and the seal epoch.
//!
//! Always: they were written by one batch at init, so either all are there or none.

use bytes::Bytes;
use prost::Message;
use proto::stored;
use storage::table::ReadError;
use storage::{Expectation, TableView, Write};
use types::Revision;

use crate::key;
use crate::seals::Seals;

pub(crate) fn seals_key() -> Bytes {
    key::clear("seals")
}

pub(crate) fn keyring_key() -> Bytes {
    key::clear("keyring")
}

pub(crate) fn epoch_key() -> Bytes {
    key::clear("epoch")
}

/// What the last restore did.
pub(crate) fn restored_key() -> Bytes {
    key::clear("restored")
}

/// Why the records in clear cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The table cannot be read.
    #[error("read the table")]
    Table(#[from] ReadError),
    /// A record is not what an open cluster wrote.
    #[error("the {0} record is malformed")]
    Malformed(&'static str),
    /// Written by a newer version of Conclave.
    #[error("the {record} record is of version {version}: start a version of Conclave that knows it")]
    Version {
        /// Which record.
        record: &'static str,
        /// Its version.
        version: u32,
    },
}

/// All records in clear at one state.
pub(crate) struct Records {
    pub(crate) seals: Seals,
    pub(crate) seals_revision: Revision,
    pub(crate) keyring: Bytes,
    pub(crate) keyring_revision: Revision,
    pub(crate) epoch: u64,
    pub(crate) epoch_revision: Revision,
}

/// Reads the records; `None` before init.
pub(crate) fn read(table: &dyn TableView) -> Result<Option<Records>, RecordError> {
    let Some(seals) = table.get(&seals_key())? else {
        return Ok(None);
    };
    let keyring = table.get(&keyring_key())?.ok_or(RecordError::Malformed("keyring"))?;
    let epoch = table.get(&epoch_key())?.ok_or(RecordError::Malformed("seal epoch"))?;
    let record = stored::SealEpoch::decode(epoch.value).map_err(|_| RecordError::Malformed("seal epoch"))?;
    Ok(Some(Records {
        seals: Seals::decode(seals.value)?,
        seals_revision: seals.revision,
        keyring: keyring.value,
        keyring_revision: keyring.revision,
        epoch: record.epoch,
        epoch_revision: epoch.revision,
    }))
}

/// What the last restore did; `None`: there was none.
pub(crate) fn read_restored(table: &dyn TableView) -> Result<Option<(stored::RestoredCluster, Revision)>, RecordError> {
    let Some(cell) = table.get(&restored_key())? else { return Ok(None) };
    let record = stored::RestoredCluster::decode(cell.value).map_err(|_| RecordError::Malformed("restored cluster"))?;
    Ok(Some((record, cell.revision)))
}

impl Records {
    /// What a change of the seals, the keyring or the epoch expects: that none of the three has changed since.
    pub(crate) fn expectations(&self) -> Vec<Expectation> {
        let expect = |(key, revision)| Expectation { key, revision };
        [(seals_key(), self.seals_revision), (keyring_key(), self.keyring_revision), (epoch_key(), self.epoch_revision)]
            .map(expect)
            .to_vec()
    }
}

/// What init writes, if none of it is there yet.
pub(crate) fn founding(seals: &Seals, sealed_keyring: Vec<u8>) -> (Vec<Expectation>, Vec<Write>) {
    let records = [(seals_key(), seals.encode()), (keyring_key(), sealed_keyring.into()), (epoch_key(), encode_epoch(1))];
    let expectations = records.iter().map(|(key, _)| Expectation { key: key.clone(), revision: Revision::ABSENT }).collect();
    let writes = records.into_iter().map(|(key, value)| Write { key, value: Some(value) }).collect();
    (expectations, writes)
}

/// A seal epoch as it is stored.
pub(crate) fn encode_epoch(epoch: u64) -> Bytes {
    stored::SealEpoch { epoch }.encode_to_vec().into()
}

//! The records in clear: how the root key is sealed, the sealed keyring, and the seal epoch.
//!
//! Always: they were written by one batch at init, so either all are there or none.

use bytes::Bytes;
use crypto::kdf::label;
use crypto::{AeadKey, Quorum, Rng, RootKey, SealKey, Share, ShareDigest, ShareTag, aead, constant_time_eq, rng::generate_bytes};
use prost::Message;
use proto::stored;
use storage::table::ReadError;
use storage::{Expectation, TableView, Write};
use types::{ClusterId, Revision};
use uuid::Uuid;

use crate::key;

pub(crate) fn seal_key() -> Bytes {
    key::clear("seal")
}

pub(crate) fn keyring_key() -> Bytes {
    key::clear("keyring")
}

pub(crate) fn epoch_key() -> Bytes {
    key::clear("epoch")
}

/// Why the records in clear cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The table cannot be read.
    #[error("read the table")]
    Table(#[from] ReadError),
    /// A record is not what init wrote.
    #[error("the {0} record is malformed")]
    Malformed(&'static str),
}

/// The seal record, parsed.
#[derive(Clone)]
pub(crate) struct SealRecord {
    pub(crate) quorum: Quorum,
    pub(crate) cluster_id: ClusterId,
    pub(crate) cluster_name: String,
    stored: stored::SealRecord,
}

/// Why a complete set of shares does not give the root key.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// The shares are right, but what they open is not what init wrote.
    #[error("the seal record was changed: {0}")]
    Forged(&'static str),
    /// The shares do not fit the quorum.
    #[error("combine the shares")]
    Combine(#[from] crypto::CombineError),
}

impl SealRecord {
    /// Seals a root key with a new seal key, split into shares.
    pub(crate) fn make(
        root: &RootKey,
        quorum: Quorum,
        cluster_id: ClusterId,
        cluster_name: &str,
        rng: &dyn Rng,
    ) -> (SealRecord, Vec<Share>) {
        let seal_key = SealKey::generate(rng);
        let shares = crypto::shamir::split(&seal_key, quorum, ShareTag::of(cluster_id.0.as_bytes()), rng);
        let salt: [u8; 16] = generate_bytes(rng);
        let mut stored = stored::SealRecord {
            kind: "shamir".into(),
            shares: quorum.shares().into(),
            threshold: quorum.threshold().into(),
            digest_salt: salt.to_vec(),
            share_digests: shares.iter().map(|share| share.digest(&salt).0.to_vec()).collect(),
            // EXPOSE: the root key is what the seal key encrypts.
            wrapped_root_key: aead::seal(&wrap_key(&seal_key), rng, cluster_id.0.as_bytes(), root.expose()),
            cluster_id: cluster_id.0.as_bytes().to_vec(),
            cluster_name: cluster_name.to_owned(),
            root_commitment: root.derive_commitment().to_vec(),
            mac: Vec::new(),
        };
        stored.mac = authenticate(root, &stored).to_vec();
        (SealRecord { quorum, cluster_id, cluster_name: cluster_name.to_owned(), stored }, shares)
    }

    pub(crate) fn encode(&self) -> Bytes {
        self.stored.encode_to_vec().into()
    }

    fn decode(bytes: Bytes) -> Result<SealRecord, RecordError> {
        let malformed = || RecordError::Malformed("seal");
        let stored = stored::SealRecord::decode(bytes).map_err(|_| malformed())?;
        let quorum = Quorum::new(stored.shares.into(), stored.threshold.into()).map_err(|_| malformed())?;
        let digests_fit = stored.share_digests.len() == usize::from(quorum.shares());
        if stored.kind != "shamir" || stored.digest_salt.len() != 16 || !digests_fit {
            return Err(malformed());
        }
        let cluster_id = ClusterId(Uuid::from_slice(&stored.cluster_id).map_err(|_| malformed())?);
        Ok(SealRecord { quorum, cluster_id, cluster_name: stored.cluster_name.clone(), stored })
    }

    /// Whether `share` is one of this record's, by its digest.
    pub(crate) fn recognises(&self, share: &Share) -> bool {
        let salt: Result<[u8; 16], _> = self.stored.digest_salt.as_slice().try_into();
        let digest = usize::from(share.number()).checked_sub(1).and_then(|place| self.stored.share_digests.get(place));
        match (salt, digest.and_then(|digest| <[u8; 32]>::try_from(digest.as_slice()).ok())) {
            (Ok(salt), Some(digest)) => share.digest(&salt) == ShareDigest(digest),
            _ => false,
        }
    }

    /// The root key, from exactly a threshold of recognised shares. Checks the record by it before it is used.
    pub(crate) fn open(&self, shares: &[Share]) -> Result<RootKey, UnsealError> {
        let seal_key = crypto::shamir::combine(shares, self.quorum)?;
        let opened = aead::open(&wrap_key(&seal_key), self.cluster_id.0.as_bytes(), &self.stored.wrapped_root_key)
            .map_err(|_| UnsealError::Forged("the wrapped root key does not open"))?;
        // EXPOSE: the root key leaves its wrapping into its own type.
        let root = RootKey::from_slice(opened.expose()).ok_or(UnsealError::Forged("the root key has another length"))?;
        self.authenticate(&root)?;
        Ok(root)
    }

    /// Checks that this record was made with `root`.
    pub(crate) fn authenticate(&self, root: &RootKey) -> Result<(), UnsealError> {
        if !constant_time_eq(&root.derive_commitment(), &self.stored.root_commitment) {
            return Err(UnsealError::Forged("it was made with another root key"));
        }
        if !constant_time_eq(&authenticate(root, &self.stored), &self.stored.mac) {
            return Err(UnsealError::Forged("its authentication tag does not fit"));
        }
        Ok(())
    }
}

fn wrap_key(seal_key: &SealKey) -> AeadKey {
    seal_key.derive_aead_key(label::ROOT, b"")
}

fn authenticate(root: &RootKey, stored: &stored::SealRecord) -> [u8; 32] {
    let unauthenticated = stored::SealRecord { mac: Vec::new(), ..stored.clone() };
    root.derive_mac_key(label::SEAL_RECORD, b"").tag(&unauthenticated.encode_to_vec())
}

/// All records in clear at one state.
pub(crate) struct Records {
    pub(crate) seal: SealRecord,
    pub(crate) keyring: Bytes,
    pub(crate) epoch: u64,
    pub(crate) epoch_revision: Revision,
}

/// Reads the records; `None` before init.
pub(crate) fn read(table: &dyn TableView) -> Result<Option<Records>, RecordError> {
    let Some(seal) = table.get(&seal_key())? else {
        return Ok(None);
    };
    let keyring = table.get(&keyring_key())?.ok_or(RecordError::Malformed("keyring"))?;
    let epoch = table.get(&epoch_key())?.ok_or(RecordError::Malformed("seal epoch"))?;
    let record = stored::SealEpoch::decode(epoch.value).map_err(|_| RecordError::Malformed("seal epoch"))?;
    Ok(Some(Records { seal: SealRecord::decode(seal.value)?, keyring: keyring.value, epoch: record.epoch, epoch_revision: epoch.revision }))
}

/// What init writes, if none of it is there yet.
pub(crate) fn founding(seal: &SealRecord, sealed_keyring: Vec<u8>) -> (Vec<Expectation>, Vec<Write>) {
    let records = [(seal_key(), seal.encode()), (keyring_key(), sealed_keyring.into()), (epoch_key(), encode_epoch(1))];
    let expectations = records.iter().map(|(key, _)| Expectation { key: key.clone(), revision: Revision::ABSENT }).collect();
    let writes = records.into_iter().map(|(key, value)| Write { key, value: Some(value) }).collect();
    (expectations, writes)
}

/// A seal epoch as it is stored.
pub(crate) fn encode_epoch(epoch: u64) -> Bytes {
    stored::SealEpoch { epoch }.encode_to_vec().into()
}

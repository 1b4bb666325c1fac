//! The seals: each wraps the root key on its own, so that any of them opens the cluster. One record, in clear, holds them all.
//!
//! Always: there is one split into shares, so that people can open the cluster whatever becomes of a static key; what a rekey has made
//! waits beside it as the *next* seals, which open the cluster too, until it takes their place. The record is authenticated by a key that
//! is derived from the root key, before anything in it but a digest is relied on.
//! Knows nothing of nodes or of who enters a share.

use bytes::Bytes;
use crypto::kdf::label;
use crypto::{
    AeadKey, KeyringKey, Quorum, Rng, RootKey, SealKey, Share, ShareDigest, ShareTag, aead, constant_time_eq, kdf, rng::generate_bytes,
};
use prost::Message;
use proto::stored;
use types::{ClusterId, Timestamp};
use uuid::Uuid;

use crate::records::RecordError;
use crate::verified::Times;

/// The version of the record.
const VERSION: u32 = 1;
/// The longest name of a holder, in bytes.
pub const HOLDER_NAME_BYTES_MAX: usize = 128;
/// Static seals in one set, at most: one in use, and one that it is being replaced by, twice over.
pub const STATIC_SEALS_MAX: usize = 4;

/// Who is to have a share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holder {
    /// A name, shown to operators and stored in clear. May be empty.
    pub name: String,
    /// The key that the share is encrypted to before it is shown: an OpenPGP fingerprint or an age recipient. May be empty.
    pub recipient: String,
}

/// How a new seal key is to be split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSplit {
    quorum: Quorum,
    holders: Vec<Holder>,
}

/// Why a split cannot be made as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Names for more or fewer shares than there are.
    #[error("{holders} holders were named for {shares} shares (name each, or none)")]
    Count {
        /// How many were named.
        holders: usize,
        /// How many shares there are.
        shares: u8,
    },
    /// A name that cannot be shown.
    #[error("the name of holder {number} is longer than {HOLDER_NAME_BYTES_MAX} bytes or holds control characters")]
    Name {
        /// Whose, from 1.
        number: usize,
    },
    /// Two holders of one name could not be told apart.
    #[error("two holders are named {name:?} (give each a name of its own)")]
    Repeated {
        /// The name of both.
        name: String,
    },
}

impl NewSplit {
    /// A split among nameless holders.
    pub fn nameless(quorum: Quorum) -> NewSplit {
        NewSplit { quorum, holders: vec![Holder::default(); usize::from(quorum.shares())] }
    }

    /// A split among these, in the order of the shares' numbers; none of them means nameless ones.
    pub fn new(quorum: Quorum, holders: Vec<Holder>) -> Result<NewSplit, SplitError> {
        if holders.is_empty() {
            return Ok(NewSplit::nameless(quorum));
        }
        if holders.len() != usize::from(quorum.shares()) {
            return Err(SplitError::Count { holders: holders.len(), shares: quorum.shares() });
        }
        for (at, holder) in holders.iter().enumerate() {
            if holder.name.len() > HOLDER_NAME_BYTES_MAX || holder.name.chars().any(char::is_control) {
                return Err(SplitError::Name { number: at + 1 });
            }
            if !holder.name.is_empty() && holders[..at].iter().any(|other| other.name == holder.name) {
                return Err(SplitError::Repeated { name: holder.name.clone() });
            }
        }
        Ok(NewSplit { quorum, holders })
    }

    /// How many shares, and how many of them are needed.
    pub fn quorum(&self) -> Quorum {
        self.quorum
    }
}

/// A key in a file or an environment variable that opens the node by itself.
pub struct StaticKey {
    id: String,
    key: SealKey,
    is_previous: bool,
}

impl StaticKey {
    /// The key that the configuration calls `id`.
    pub fn new(id: String, key: SealKey) -> StaticKey {
        StaticKey { id, key, is_previous: false }
    }

    /// One that is being replaced: it opens the seal that there is of it, and gets no new one.
    pub fn previous(id: String, key: SealKey) -> StaticKey {
        StaticKey { id, key, is_previous: true }
    }

    /// Whether there is to be a seal of it.
    pub(crate) fn gets_seal(&self) -> bool {
        !self.is_previous
    }

    /// What the configuration calls it.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Why a seal does not give the root key.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// The key is right, but what it opens is not what was written.
    #[error("the seal records were changed: {0}")]
    Forged(&'static str),
    /// The shares do not fit the quorum.
    #[error("combine the shares")]
    Combine(#[from] crypto::CombineError),
}

/// Which of the splits at hand a share is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Split {
    /// The one in force.
    InForce,
    /// The one of a rekey whose shares have not come back yet.
    Next,
}

/// A share that is one of this cluster's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recognised {
    pub(crate) split: Split,
    pub(crate) number: u8,
    /// Whose it is; may be empty.
    pub(crate) holder: String,
    /// Its public digest.
    pub(crate) digest: [u8; 32],
}

/// Why a share is none of those that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unrecognised {
    /// It says itself that it is another cluster's.
    OtherCluster,
    /// It is this cluster's, and of no split at hand.
    OtherSplit,
}

/// What a quorum opens.
pub(crate) struct Opened {
    /// The root key in force.
    pub(crate) root: RootKey,
    /// The one that is to follow it, if the shares were those of the next split.
    pub(crate) next_root: Option<RootKey>,
}

/// One split as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitStatus {
    /// Names the split.
    pub id: String,
    /// How many shares, and how many are needed.
    pub quorum: Quorum,
    /// When it was made.
    pub created: Timestamp,
    /// Who has which share, in the order of their numbers, from 1.
    pub holders: Vec<HolderStatus>,
}

/// Who has a share, and since when nobody has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderStatus {
    /// Who.
    pub holder: Holder,
    /// When the share was last seen to be right; `None`: never, or the node is sealed.
    pub last_verified: Option<Timestamp>,
}

impl SplitStatus {
    /// Tells when each share was last seen.
    pub(crate) fn with_times(mut self, times: &Times) -> SplitStatus {
        for (number, holder) in (1..=u8::MAX).zip(&mut self.holders) {
            holder.last_verified = times.get(&(self.id.clone(), number)).copied();
        }
        self
    }
}

/// A static seal as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticSealStatus {
    /// What the configuration calls the key.
    pub key_id: String,
    /// When it was added.
    pub created: Timestamp,
}

/// All seals, parsed. Nothing here is secret.
#[derive(Clone)]
pub(crate) struct Seals {
    pub(crate) cluster_id: ClusterId,
    pub(crate) cluster_name: String,
    pub(crate) quorum: Quorum,
    next_quorum: Option<Quorum>,
    stored: stored::Seals,
}

impl Seals {
    /// The first seals of a cluster: a split, and one seal for each static key.
    pub(crate) fn found(
        root: &RootKey,
        split: &NewSplit,
        static_keys: &[StaticKey],
        (cluster_id, cluster_name): (ClusterId, &str),
        now: Timestamp,
        rng: &dyn Rng,
    ) -> (Seals, Vec<Share>) {
        let (shamir, shares) = make_shamir(root, split, cluster_id, now, rng);
        let mut stored = stored::Seals {
            version: VERSION,
            cluster_id: cluster_id.0.as_bytes().to_vec(),
            cluster_name: cluster_name.to_owned(),
            root_commitment: root.derive_commitment().to_vec(),
            shamir: Some(shamir),
            static_seals: static_keys
                .iter()
                .filter(|key| key.gets_seal())
                .map(|key| make_static(root, key, cluster_id, now, rng))
                .collect(),
            next: None,
            mac: Vec::new(),
        };
        authenticate(&root.derive_keyring_key(), &mut stored);
        (Seals::parse(stored).expect("seals just made are well formed"), shares)
    }

    pub(crate) fn encode(&self) -> Bytes {
        self.stored.encode_to_vec().into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Seals, RecordError> {
        Seals::parse(stored::Seals::decode(bytes).map_err(|_| RecordError::Malformed("seals"))?)
    }

    fn parse(stored: stored::Seals) -> Result<Seals, RecordError> {
        let malformed = || RecordError::Malformed("seals");
        if stored.version != VERSION {
            return Err(RecordError::Version { record: "seals", version: stored.version });
        }
        let quorum = parse_quorum(stored.shamir.as_ref()).ok_or_else(malformed)?;
        let next_quorum = match &stored.next {
            Some(next) => Some(parse_quorum(next.shamir.as_ref()).ok_or_else(malformed)?),
            None => None,
        };
        let cluster_id = ClusterId(Uuid::from_slice(&stored.cluster_id).map_err(|_| malformed())?);
        Ok(Seals { cluster_id, cluster_name: stored.cluster_name.clone(), quorum, next_quorum, stored })
    }

    fn shamir(&self, split: Split) -> Option<&stored::ShamirSeal> {
        match split {
            Split::InForce => self.stored.shamir.as_ref(),
            Split::Next => self.stored.next.as_ref().and_then(|next| next.shamir.as_ref()),
        }
    }

    /// The quorum of a split; `None` when there is no such split.
    pub(crate) fn quorum_of(&self, split: Split) -> Option<Quorum> {
        match split {
            Split::InForce => Some(self.quorum),
            Split::Next => self.next_quorum,
        }
    }

    /// Names a split; `None` when there is no such.
    pub(crate) fn id_of(&self, split: Split) -> Option<&str> {
        self.shamir(split).map(|shamir| shamir.id.as_str())
    }

    /// The split as operators see it; `None` when there is no such.
    pub(crate) fn status_of(&self, split: Split) -> Option<SplitStatus> {
        let (shamir, quorum) = (self.shamir(split)?, self.quorum_of(split)?);
        let holder = |holder: &stored::ShareHolder| HolderStatus {
            holder: Holder { name: holder.name.clone(), recipient: holder.recipient.clone() },
            last_verified: None,
        };
        let holders = shamir.holders.iter().map(holder).collect();
        Some(SplitStatus { id: shamir.id.clone(), quorum, created: Timestamp(shamir.created_ms), holders })
    }

    /// The static seals.
    pub(crate) fn static_seals(&self) -> Vec<StaticSealStatus> {
        let status = |seal: &stored::StaticSeal| StaticSealStatus { key_id: seal.key_id.clone(), created: Timestamp(seal.created_ms) };
        self.stored.static_seals.iter().map(status).collect()
    }

    /// Which split a share is of, by its digest.
    pub(crate) fn recognise(&self, share: &Share) -> Result<Recognised, Unrecognised> {
        for split in [Split::InForce, Split::Next] {
            let Some(shamir) = self.shamir(split) else { continue };
            let Some(salt) = salt(shamir) else { continue };
            let digest = share.digest(&salt);
            let place = usize::from(share.number()).checked_sub(1);
            let holder = place.and_then(|place| shamir.holders.get(place));
            let known = holder.and_then(|holder| Some((holder, <[u8; 32]>::try_from(holder.digest.as_slice()).ok()?)));
            if let Some((holder, known)) = known
                && digest == ShareDigest(known)
            {
                return Ok(Recognised { split, number: share.number(), holder: holder.name.clone(), digest: digest.0 });
            }
        }
        let ours = ShareTag::of(self.cluster_id.0.as_bytes());
        Err(if share.tag() == ours { Unrecognised::OtherSplit } else { Unrecognised::OtherCluster })
    }

    /// The root key, from exactly a threshold of recognised shares of one split. Checks the record by it before it is used.
    pub(crate) fn open(&self, split: Split, shares: &[Share]) -> Result<Opened, UnsealError> {
        let forged = UnsealError::Forged;
        let shamir = self.shamir(split).ok_or(forged("there is no such split"))?;
        let quorum = self.quorum_of(split).ok_or(forged("there is no such split"))?;
        let seal_key = crypto::shamir::combine(shares, quorum)?;
        let wrapped = self.unwrap(&wrap_key(&seal_key, &shamir.id), &shamir.wrapped_root_key)?;
        let (root, next_root) = match (split, &self.stored.next) {
            (Split::InForce, _) => (wrapped, None),
            (Split::Next, None) => return Err(forged("there is no such split")),
            (Split::Next, Some(next)) => {
                committed(&wrapped, &next.root_commitment)?;
                let root = self.unwrap(&in_force_key(&wrapped), &next.wrapped_root_key_in_force)?;
                (root, Some(wrapped))
            }
        };
        self.check_root(&root)?;
        Ok(Opened { root, next_root })
    }

    /// The root key, by a static key; `None` when there is no seal of this key.
    pub(crate) fn open_static(&self, key: &StaticKey) -> Result<Option<RootKey>, UnsealError> {
        let Some(seal) = self.stored.static_seals.iter().find(|seal| seal.key_id == key.id) else { return Ok(None) };
        if !constant_time_eq(&key.key.derive_commitment(), &seal.key_commitment) {
            return Err(UnsealError::Forged("the static key of this id is another one"));
        }
        let root = self.unwrap(&wrap_key(&key.key, &seal.key_id), &seal.wrapped_root_key)?;
        self.check_root(&root)?;
        Ok(Some(root))
    }

    /// Checks that this record is what an open cluster wrote.
    pub(crate) fn check(&self, keyring_key: &KeyringKey) -> Result<(), UnsealError> {
        if !constant_time_eq(&mac(keyring_key, &self.stored), &self.stored.mac) {
            return Err(UnsealError::Forged("the authentication tag does not fit"));
        }
        Ok(())
    }

    fn check_root(&self, root: &RootKey) -> Result<(), UnsealError> {
        committed(root, &self.stored.root_commitment)?;
        self.check(&root.derive_keyring_key())
    }

    fn unwrap(&self, key: &AeadKey, wrapped: &[u8]) -> Result<RootKey, UnsealError> {
        let opened =
            aead::open(key, self.cluster_id.0.as_bytes(), wrapped).map_err(|_| UnsealError::Forged("a wrapped root key does not open"))?;
        // EXPOSE: the root key leaves its wrapping into its own type.
        RootKey::from_slice(opened.expose()).ok_or(UnsealError::Forged("a root key has another length"))
    }

    /// Whether the seals of a rekey wait for their shares to come back.
    pub(crate) fn has_next(&self) -> bool {
        self.stored.next.is_some()
    }

    /// The same, with next seals beside those in force: a new seal key, split anew, and a new root key. Every static seal needs its key.
    ///
    /// # Errors
    /// The id of the static key that is missing.
    pub(crate) fn with_next(
        &self,
        root: &RootKey,
        split: &NewSplit,
        static_keys: &[StaticKey],
        now: Timestamp,
        rng: &dyn Rng,
    ) -> Result<(Seals, Vec<Share>), String> {
        let next_root = RootKey::generate(rng);
        let (shamir, shares) = make_shamir(&next_root, split, self.cluster_id, now, rng);
        let static_seal = |seal: &stored::StaticSeal| {
            let key = static_keys.iter().find(|key| key.id == seal.key_id).ok_or_else(|| seal.key_id.clone())?;
            Ok(make_static(&next_root, key, self.cluster_id, Timestamp(seal.created_ms), rng))
        };
        let next = stored::NextSeals {
            root_commitment: next_root.derive_commitment().to_vec(),
            shamir: Some(shamir),
            static_seals: self.stored.static_seals.iter().map(static_seal).collect::<Result<_, String>>()?,
            // EXPOSE: the root key in force is what the next one encrypts.
            wrapped_root_key_in_force: aead::seal(&in_force_key(&next_root), rng, self.cluster_id.0.as_bytes(), root.expose()),
        };
        Ok((self.changed(&root.derive_keyring_key(), |stored| stored.next = Some(next)), shares))
    }

    /// The same without next seals.
    pub(crate) fn without_next(&self, keyring_key: &KeyringKey) -> Seals {
        self.changed(keyring_key, |stored| stored.next = None)
    }

    /// The next seals in force, in place of those that are. Their shares have come back, and gave `next_root`.
    pub(crate) fn promoted(&self, next_root: &RootKey) -> Option<Seals> {
        let next = self.stored.next.clone()?;
        Some(self.changed(&next_root.derive_keyring_key(), |stored| {
            stored.root_commitment = next.root_commitment;
            stored.shamir = next.shamir;
            stored.static_seals = next.static_seals;
            stored.next = None;
        }))
    }

    /// The same with a seal of this key; in place of an older one of the same id.
    pub(crate) fn with_static(&self, root: &RootKey, key: &StaticKey, now: Timestamp, rng: &dyn Rng) -> Seals {
        let seal = make_static(root, key, self.cluster_id, now, rng);
        self.changed(&root.derive_keyring_key(), |stored| {
            stored.static_seals.retain(|seal| seal.key_id != key.id);
            stored.static_seals.push(seal);
        })
    }

    /// The same without the seal of the key of this id.
    pub(crate) fn without_static(&self, keyring_key: &KeyringKey, key_id: &str) -> Seals {
        self.changed(keyring_key, |stored| stored.static_seals.retain(|seal| seal.key_id != key_id))
    }

    fn changed(&self, keyring_key: &KeyringKey, change: impl FnOnce(&mut stored::Seals)) -> Seals {
        let mut stored = self.stored.clone();
        change(&mut stored);
        authenticate(keyring_key, &mut stored);
        Seals::parse(stored).expect("a change keeps the seals well formed")
    }
}

fn parse_quorum(shamir: Option<&stored::ShamirSeal>) -> Option<Quorum> {
    let shamir = shamir?;
    salt(shamir)?;
    Quorum::new(u64::try_from(shamir.holders.len()).ok()?, shamir.threshold.into()).ok()
}

fn salt(shamir: &stored::ShamirSeal) -> Option<[u8; 16]> {
    shamir.digest_salt.as_slice().try_into().ok()
}

fn make_shamir(root: &RootKey, split: &NewSplit, cluster: ClusterId, now: Timestamp, rng: &dyn Rng) -> (stored::ShamirSeal, Vec<Share>) {
    let seal_key = SealKey::generate(rng);
    let shares = crypto::shamir::split(&seal_key, split.quorum, ShareTag::of(cluster.0.as_bytes()), rng);
    let (id, salt): ([u8; 8], [u8; 16]) = (generate_bytes(rng), generate_bytes(rng));
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let holder = |(share, holder): (&Share, &Holder)| stored::ShareHolder {
        digest: share.digest(&salt).0.to_vec(),
        name: holder.name.clone(),
        recipient: holder.recipient.clone(),
    };
    let shamir = stored::ShamirSeal {
        threshold: split.quorum.threshold().into(),
        digest_salt: salt.to_vec(),
        holders: shares.iter().zip(&split.holders).map(holder).collect(),
        // EXPOSE: the root key is what the seal key encrypts.
        wrapped_root_key: aead::seal(&wrap_key(&seal_key, &id), rng, cluster.0.as_bytes(), root.expose()),
        created_ms: now.0,
        id,
    };
    (shamir, shares)
}

fn make_static(root: &RootKey, key: &StaticKey, cluster: ClusterId, now: Timestamp, rng: &dyn Rng) -> stored::StaticSeal {
    stored::StaticSeal {
        key_id: key.id.clone(),
        key_commitment: key.key.derive_commitment().to_vec(),
        // EXPOSE: the root key is what the static key encrypts.
        wrapped_root_key: aead::seal(&wrap_key(&key.key, &key.id), rng, cluster.0.as_bytes(), root.expose()),
        created_ms: now.0,
    }
}

fn wrap_key(seal_key: &SealKey, seal_id: &str) -> AeadKey {
    seal_key.derive_aead_key(label::ROOT, seal_id.as_bytes())
}

fn in_force_key(next_root: &RootKey) -> AeadKey {
    next_root.derive_aead_key(label::ROOT_IN_FORCE, b"")
}

fn committed(root: &RootKey, commitment: &[u8]) -> Result<(), UnsealError> {
    // EXPOSE: its public check value is compared.
    if constant_time_eq(&kdf::derive_commitment(root.expose()), commitment) {
        Ok(())
    } else {
        Err(UnsealError::Forged("they were made with another root key"))
    }
}

fn authenticate(keyring_key: &KeyringKey, stored: &mut stored::Seals) {
    stored.mac = mac(keyring_key, stored).to_vec();
}

fn mac(keyring_key: &KeyringKey, stored: &stored::Seals) -> [u8; 32] {
    let unauthenticated = stored::Seals { mac: Vec::new(), ..stored.clone() };
    keyring_key.derive_mac_key(label::SEAL_RECORD, b"").tag(&unauthenticated.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use crypto::SeededRng;

    use super::*;

    const NOW: Timestamp = Timestamp(1);

    fn rng() -> SeededRng {
        SeededRng::dangerous_from_seed(1)
    }

    fn cluster() -> (ClusterId, &'static str) {
        (ClusterId(Uuid::max()), "test")
    }

    fn split(shares: u64, threshold: u64) -> NewSplit {
        NewSplit::nameless(Quorum::new(shares, threshold).unwrap())
    }

    fn static_key(byte: u8) -> StaticKey {
        StaticKey::new(format!("key-{byte}"), SealKey::from_slice(&[byte; 32]).unwrap())
    }

    fn pick(shares: &[Share], picks: &[usize]) -> Vec<Share> {
        picks.iter().map(|&pick| Share::from_bytes(shares[pick].expose()).unwrap()).collect()
    }

    #[test]
    fn any_seal_opens_and_gives_the_same_root_key() {
        let (root, rng) = (RootKey::generate(&rng()), rng());
        let (seals, shares) = Seals::found(&root, &split(5, 3), &[static_key(1), static_key(2)], cluster(), NOW, &rng);
        let seals = Seals::decode(seals.encode()).unwrap();
        assert_eq!(seals.open(Split::InForce, &pick(&shares, &[4, 0, 2])).unwrap().root.expose(), root.expose());
        for byte in [1, 2] {
            assert_eq!(seals.open_static(&static_key(byte)).unwrap().unwrap().expose(), root.expose());
        }
        assert!(seals.open_static(&static_key(3)).unwrap().is_none(), "no such seal");
        let other = StaticKey::new("key-1".into(), SealKey::from_slice(&[9; 32]).unwrap());
        assert!(matches!(seals.open_static(&other), Err(UnsealError::Forged(_))), "another key of the same id");

        let without = seals.without_static(&root.derive_keyring_key(), "key-1");
        assert!(without.open_static(&static_key(1)).unwrap().is_none());
        assert!(without.open_static(&static_key(2)).unwrap().is_some());
        let again = without.with_static(&root, &static_key(1), NOW, &rng);
        assert_eq!(again.open_static(&static_key(1)).unwrap().unwrap().expose(), root.expose());
    }

    #[test]
    fn until_the_new_shares_have_come_back_both_splits_open_and_then_only_the_new() {
        let (root, rng) = (RootKey::generate(&rng()), rng());
        let (seals, old) = Seals::found(&root, &split(5, 3), &[static_key(1)], cluster(), NOW, &rng);
        assert_eq!(seals.with_next(&root, &split(3, 2), &[], NOW, &rng).err().as_deref(), Some("key-1"), "a static key is missing");
        let (seals, new) = seals.with_next(&root, &split(3, 2), &[static_key(1)], NOW, &rng).unwrap();
        let seals = Seals::decode(seals.encode()).unwrap();

        let by_old = seals.open(Split::InForce, &pick(&old, &[0, 1, 2])).unwrap();
        let by_new = seals.open(Split::Next, &pick(&new, &[2, 0])).unwrap();
        assert!(by_old.root.expose() == root.expose() && by_new.root.expose() == root.expose(), "both give the root key in force");
        assert!(by_old.next_root.is_none());
        let next_root = by_new.next_root.expect("the new shares give the next root key as well");
        assert_ne!(next_root.expose(), root.expose());
        assert_eq!(seals.recognise(&old[0]).unwrap().split, Split::InForce);
        assert_eq!(seals.recognise(&new[0]).unwrap().split, Split::Next);

        let promoted = seals.promoted(&next_root).unwrap();
        assert_eq!(promoted.recognise(&old[0]), Err(Unrecognised::OtherSplit));
        assert_eq!(promoted.open(Split::InForce, &pick(&new, &[0, 1])).unwrap().root.expose(), next_root.expose());
        assert_eq!(promoted.open_static(&static_key(1)).unwrap().unwrap().expose(), next_root.expose());
        assert!(promoted.check(&root.derive_keyring_key()).is_err(), "the old keyring key vouches for nothing any more");

        let cancelled = seals.without_next(&root.derive_keyring_key());
        assert_eq!(cancelled.recognise(&new[0]), Err(Unrecognised::OtherSplit));
        assert_eq!(cancelled.open(Split::InForce, &pick(&old, &[0, 1, 2])).unwrap().root.expose(), root.expose());
    }

    #[test]
    fn a_share_is_told_by_split_cluster_and_holder() {
        let (root, rng) = (RootKey::generate(&rng()), rng());
        let quorum = Quorum::new(3, 2).unwrap();
        let named = |name: &str| Holder { name: name.into(), recipient: String::new() };
        let split = NewSplit::new(quorum, ["Ada", "Grace", ""].map(named).to_vec()).unwrap();
        let (seals, shares) = Seals::found(&root, &split, &[], cluster(), NOW, &rng);
        let names: Vec<String> = shares.iter().map(|share| seals.recognise(share).unwrap().holder).collect();
        assert_eq!(names, ["Ada", "Grace", ""]);
        let (_, earlier) = Seals::found(&root, &split, &[], cluster(), NOW, &rng);
        let (_, foreign) = Seals::found(&root, &split, &[], (ClusterId(Uuid::nil()), "other"), NOW, &rng);
        assert_eq!(seals.recognise(&earlier[0]), Err(Unrecognised::OtherSplit));
        assert_eq!(seals.recognise(&foreign[0]), Err(Unrecognised::OtherCluster));

        let refused = |names: &[&str]| NewSplit::new(quorum, names.iter().map(|name| named(name)).collect()).unwrap_err();
        assert_eq!(refused(&["a", "b"]), SplitError::Count { holders: 2, shares: 3 });
        assert_eq!(refused(&["a", "b\n", "c"]), SplitError::Name { number: 2 });
        assert_eq!(refused(&["a", "b", "a"]), SplitError::Repeated { name: "a".into() });
        assert!(NewSplit::new(quorum, Vec::new()).is_ok());
    }

    #[test]
    fn no_byte_of_the_record_can_be_changed() {
        let (root, rng) = (RootKey::generate(&rng()), rng());
        let (seals, old) = Seals::found(&root, &split(3, 2), &[static_key(1)], cluster(), NOW, &rng);
        let (seals, new) = seals.with_next(&root, &split(3, 2), &[static_key(1)], NOW, &rng).unwrap();
        let bytes = seals.encode();
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            let Ok(seals) = Seals::decode(changed.into()) else { continue };
            assert!(seals.open(Split::InForce, &pick(&old, &[0, 1])).is_err(), "byte {at}, by the old shares");
            assert!(seals.open(Split::Next, &pick(&new, &[0, 1])).is_err(), "byte {at}, by the new shares");
            assert!(!matches!(seals.open_static(&static_key(1)), Ok(Some(_))), "byte {at}, by the static key");
        }
    }
}

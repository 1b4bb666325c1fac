//! Keyring: the barrier's keys.
//!
//! Always: value keys have consecutive versions from 1, only the newest encrypts, every kept one decrypts. Names, tokens and
//! audit values have keys derived from the base key, so that they outlive a rotation of the value keys.
//! Knows nothing of paths, requests or the log. Nonce rule: NIST SP 800-38D, section 8 (random 96-bit nonces).

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes};
use crypto::kdf::label;
use crypto::{AeadKey, KeyringKey, MacKey, NameCipher, NameKey, OpenError, Rng, SecretBytes, ValueKey, Zeroizing, aead, kdf};
use prost::Message;
use proto::stored;
use types::{ClusterId, Timestamp};
use zeroize::Zeroize;

use crate::key;
use crate::name::Name;

/// The first byte of a sealed value: how it is encrypted.
pub const VALUE_FORMAT: u8 = 1;
/// The first byte of a sealed batch token.
pub const BATCH_TOKEN_FORMAT: u8 = 1;
/// The first byte of what authenticates a snapshot.
pub(crate) const SNAPSHOT_SEAL_FORMAT: u8 = 1;
const SNAPSHOT_SEAL_BYTES: usize = VALUE_HEADER_BYTES + 32;
/// Versions of the value key, at most: at one rotation a day they last for 179 years.
const KEY_VERSIONS_MAX: usize = 65_536;
/// Format (1) and key version (4) before nonce, ciphertext and tag, of values and batch tokens.
const VALUE_HEADER_BYTES: usize = 5;
/// How much longer a sealed batch token is than its plaintext.
pub const BATCH_TOKEN_OVERHEAD_BYTES: usize = VALUE_HEADER_BYTES + aead::OVERHEAD_BYTES;

/// The keys of an open barrier. Wiped on drop; cannot be printed, cloned or serialised.
pub struct Keyring {
    values: Vec<AeadKey>,
    /// One for each value key, of the same version.
    batch_tokens: Vec<AeadKey>,
    /// One for each value key, of the same version.
    snapshots: Vec<MacKey>,
    names: NameCipher,
    tokens: MacKey,
    credentials: MacKey,
    audit: MacKey,
    peers: MacKey,
    newest_created: Timestamp,
    /// How often the newest keys were used here, and how often they may be: what this node has set aside for itself.
    spent: AtomicU64,
    allowance: AtomicU64,
}

/// What may be told of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyStatus {
    /// Counted from 1.
    pub version: u32,
    /// When it was drawn.
    pub created: Timestamp,
}

/// The version of the value key that a batch token was sealed under, as it says itself.
pub fn batch_token_version(sealed: &[u8]) -> Option<u32> {
    sealed.get(1..VALUE_HEADER_BYTES)?.try_into().ok().map(u32::from_be_bytes)
}

/// Why a stored keyring is none.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The keyring key is not the one that it was sealed with, or it was changed.
    #[error("the keyring does not open")]
    Sealed(#[from] OpenError),
    /// It opened, and makes no sense.
    #[error("the keyring is malformed: {0}")]
    Malformed(&'static str),
    /// It has been rotated too often.
    #[error("the keyring holds {KEY_VERSIONS_MAX} keys, and takes no more")]
    Full,
}

/// Why a sealed value is refused.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// Changed, moved from another name, or sealed under another key.
    #[error("the value does not open")]
    Sealed(#[from] OpenError),
    /// Written by a newer version of Conclave, or damaged.
    #[error("value format {0} is unknown")]
    Format(u8),
    /// Its key is not in this keyring.
    #[error("value key {0} is not in the keyring")]
    KeyVersion(u32),
}

impl Keyring {
    /// Draws a new keyring and seals it under the keyring key.
    pub fn generate(keyring_key: &KeyringKey, cluster: ClusterId, now: Timestamp, rng: &dyn Rng) -> (Keyring, Vec<u8>) {
        // EXPOSE: both keys go into the record that the keyring key encrypts.
        let record = StoredKeyring(stored::Keyring {
            value_keys: vec![stored::KeyVersion { version: 1, key: ValueKey::generate(rng).expose().to_vec(), created_ms: now.0 }],
            base_key: crypto::rng::generate_bytes::<32>(rng).to_vec(),
        });
        let sealed = record.seal(keyring_key, cluster, rng);
        let keyring = Keyring::from_record(&record).expect("a keyring just made is well formed");
        (keyring, sealed)
    }

    /// Opens a stored keyring.
    pub fn open(keyring_key: &KeyringKey, cluster: ClusterId, sealed: &[u8]) -> Result<Keyring, KeyringError> {
        Keyring::from_record(&StoredKeyring::open(keyring_key, cluster, sealed)?)
    }

    /// The stored keyring with one more value key, which is the newest.
    pub(crate) fn rotated(
        keyring_key: &KeyringKey,
        cluster: ClusterId,
        sealed: &[u8],
        now: Timestamp,
        rng: &dyn Rng,
    ) -> Result<Vec<u8>, KeyringError> {
        let mut record = StoredKeyring::open(keyring_key, cluster, sealed)?;
        if record.0.value_keys.len() >= KEY_VERSIONS_MAX {
            return Err(KeyringError::Full);
        }
        let version = u32::try_from(record.0.value_keys.len() + 1).expect("bounded just above");
        // A Vec that grew would leave its keys behind.
        let mut keys = Vec::with_capacity(record.0.value_keys.len() + 1);
        keys.append(&mut record.0.value_keys);
        // EXPOSE: the key goes into the record that the keyring key encrypts.
        keys.push(stored::KeyVersion { version, key: ValueKey::generate(rng).expose().to_vec(), created_ms: now.0 });
        record.0.value_keys = keys;
        Ok(record.seal(keyring_key, cluster, rng))
    }

    /// The stored keyring under another keyring key.
    pub(crate) fn resealed(
        from: &KeyringKey,
        to: &KeyringKey,
        cluster: ClusterId,
        sealed: &[u8],
        rng: &dyn Rng,
    ) -> Result<Vec<u8>, KeyringError> {
        Ok(StoredKeyring::open(from, cluster, sealed)?.seal(to, cluster, rng))
    }

    fn from_record(record: &StoredKeyring) -> Result<Keyring, KeyringError> {
        let key32 = |bytes: &[u8]| bytes.try_into().map(Zeroizing::new).map_err(|_| KeyringError::Malformed("a key is not 32 bytes long"));
        let mut values = Vec::with_capacity(record.0.value_keys.len());
        let mut batch_tokens = Vec::with_capacity(record.0.value_keys.len());
        let mut snapshots = Vec::with_capacity(record.0.value_keys.len());
        for (position, value_key) in record.0.value_keys.iter().enumerate() {
            if usize::try_from(value_key.version) != Ok(position + 1) {
                return Err(KeyringError::Malformed("value keys are not consecutive from 1"));
            }
            let value_key = ValueKey::from_bytes(key32(&value_key.key)?);
            values.push(value_key.derive_aead_key(label::VALUE, b""));
            batch_tokens.push(value_key.derive_aead_key(label::BATCH_TOKEN, b""));
            snapshots.push(value_key.derive_mac_key(label::SNAPSHOT, b""));
        }
        if values.is_empty() {
            return Err(KeyringError::Malformed("no value key"));
        }
        let base: Zeroizing<[u8; 32]> = key32(&record.0.base_key)?;
        Ok(Keyring {
            values,
            batch_tokens,
            snapshots,
            names: NameCipher::new(&NameKey::from_bytes(kdf::derive_key_64(&base, label::NAME, b""))),
            tokens: MacKey::new(&kdf::derive_key(&base, label::TOKEN, b"")),
            credentials: MacKey::new(&kdf::derive_key(&base, label::CREDENTIAL, b"")),
            audit: MacKey::new(&kdf::derive_key(&base, label::AUDIT, b"")),
            peers: MacKey::new(&kdf::derive_key(&base, label::PEER_PROOF, b"")),
            newest_created: record.0.value_keys.last().map(|key| Timestamp(key.created_ms)).unwrap_or_default(),
            spent: AtomicU64::new(0),
            allowance: AtomicU64::new(0),
        })
    }

    /// The value key that encrypts what is written now.
    pub fn newest(&self) -> KeyStatus {
        KeyStatus { version: u32::try_from(self.values.len()).expect("fewer than 2^32 rotations"), created: self.newest_created }
    }

    /// Claims `count` encryptions under the newest key of what was set aside for this node; false, and none, when that is used up.
    pub(crate) fn claim(&self, count: u64) -> bool {
        let allowance = self.allowance.load(Ordering::Acquire);
        let claimed = |spent: u64| spent.checked_add(count).filter(|spent| *spent <= allowance);
        self.spent.fetch_update(Ordering::AcqRel, Ordering::Acquire, claimed).is_ok()
    }

    /// Lets this node encrypt so often more under key `version`, if that is still the newest.
    pub(crate) fn allow(&self, version: u32, count: u64) {
        if self.newest().version == version {
            self.allowance.fetch_add(count, Ordering::AcqRel);
        }
    }

    /// Goes on with the count of `before`, if its newest key is this one's.
    pub(crate) fn follow(self, before: &Keyring) -> Keyring {
        if self.newest() == before.newest() {
            self.spent.store(before.spent.load(Ordering::Acquire), Ordering::Release);
            self.allowance.store(before.allowance.load(Ordering::Acquire), Ordering::Release);
        }
        self
    }

    /// Authenticates the sums of a snapshot: format ‖ key version ‖ HMAC-SHA256, under a key of its own for each version of the value key.
    /// Who can check it has that value key, and with it all older ones: it opens whatever the snapshot holds.
    pub fn seal_snapshot(&self, sums: &[u8]) -> Vec<u8> {
        let version = self.newest().version;
        let mut sealed = Vec::with_capacity(SNAPSHOT_SEAL_BYTES);
        sealed.put_u8(SNAPSHOT_SEAL_FORMAT);
        sealed.put_u32(version);
        sealed.put_slice(&self.snapshots.last().expect("a keyring has a key").tag(sums));
        sealed
    }

    /// Checks what [`Keyring::seal_snapshot`] made: the key version if this keyring made it, or one of which this is a continuation.
    pub fn check_snapshot(&self, sums: &[u8], sealed: &[u8]) -> Option<u32> {
        let (head, tag) = sealed.split_at_checked(VALUE_HEADER_BYTES)?;
        let version = u32::from_be_bytes(*head.last_chunk().expect("a header has 5 bytes"));
        let key = self.snapshots.get(usize::try_from(version).ok()?.checked_sub(1)?)?;
        (head[0] == SNAPSHOT_SEAL_FORMAT && sealed.len() == SNAPSHOT_SEAL_BYTES && key.verify(sums, tag)).then_some(version)
    }

    /// The storage key of `name`.
    pub(crate) fn seal_name(&self, name: &Name) -> Bytes {
        key::seal_name(&self.names, name)
    }

    /// Opens the segment of `key` that follows its first `prefix` bytes.
    pub(crate) fn open_child(&self, key: &[u8], prefix: usize) -> Result<key::ChildSegment, OpenError> {
        key::open_child(&self.names, key, prefix)
    }

    /// Seals the value of the record at `key`: format ‖ key version ‖ nonce ‖ ciphertext ‖ tag. The associated data is format,
    /// version and the whole key, so that a record which was moved or swapped does not open.
    pub(crate) fn seal_value(&self, key: &[u8], plaintext: &[u8], rng: &dyn Rng) -> Vec<u8> {
        seal_versioned(&self.values, VALUE_FORMAT, key, plaintext, rng)
    }

    /// Opens what [`Keyring::seal_value`] made for the same key.
    pub(crate) fn open_value(&self, key: &[u8], sealed: &[u8]) -> Result<SecretBytes, ValueError> {
        open_versioned(&self.values, VALUE_FORMAT, key, sealed)
    }

    /// Seals what a batch token holds: format ‖ key version ‖ nonce ‖ ciphertext ‖ tag, under a key of its own for each version of the
    /// value key. It opens as long as that version is kept.
    pub fn seal_batch_token(&self, plaintext: &[u8], rng: &dyn Rng) -> Vec<u8> {
        // Not claimed beforehand, since nothing waits for it; the next claim pays for it.
        self.spent.fetch_add(1, Ordering::AcqRel);
        seal_versioned(&self.batch_tokens, BATCH_TOKEN_FORMAT, b"", plaintext, rng)
    }

    /// Opens what [`Keyring::seal_batch_token`] made.
    pub fn open_batch_token(&self, sealed: &[u8]) -> Result<SecretBytes, ValueError> {
        open_versioned(&self.batch_tokens, BATCH_TOKEN_FORMAT, b"", sealed)
    }

    /// How a token is stored and looked up: HMAC-SHA256, so that the table holds no token.
    pub fn token_tag(&self, token: &[u8]) -> [u8; 32] {
        self.tokens.tag(token)
    }

    /// How a credential of an auth method is stored and looked up: HMAC-SHA256 over what it is, whose it is, and its text, each behind its
    /// length (u32, big-endian), so that equal texts elsewhere look different.
    pub fn credential_tag(&self, kind: &str, owner: &str, text: &[u8]) -> [u8; 32] {
        let mut message = Zeroizing::new(Vec::with_capacity(12 + kind.len() + owner.len() + text.len()));
        for part in [kind.as_bytes(), owner.as_bytes(), text] {
            message.put_u32(u32::try_from(part.len()).expect("a request is smaller than 4 GiB"));
            message.put_slice(part);
        }
        self.credentials.tag(&message)
    }

    /// How an open node shows another one that it has the keyring: HMAC-SHA256 over both ids, each behind its length (u32, big-endian).
    pub(crate) fn peer_proof(&self, asker: &str, asked: &str) -> [u8; 32] {
        let mut message = Vec::with_capacity(8 + asker.len() + asked.len());
        for id in [asker, asked] {
            message.put_u32(u32::try_from(id.len()).expect("node ids are short"));
            message.put_slice(id.as_bytes());
        }
        self.peers.tag(&message)
    }

    /// How a secret string shows in an audit record: HMAC-SHA256 by a key of the device.
    pub fn audit_key(&self, device: &str) -> MacKey {
        MacKey::new(&self.audit.tag(device.as_bytes()))
    }
}

/// Seals under the newest of `keys`, bound to the format, the key's version and the place.
fn seal_versioned(keys: &[AeadKey], format: u8, place: &[u8], plaintext: &[u8], rng: &dyn Rng) -> Vec<u8> {
    let version = u32::try_from(keys.len()).expect("fewer than 2^32 rotations");
    let newest = keys.last().expect("a keyring has a value key");
    let mut sealed = Vec::with_capacity(VALUE_HEADER_BYTES + plaintext.len() + aead::OVERHEAD_BYTES);
    sealed.put_u8(format);
    sealed.put_u32(version);
    sealed.extend_from_slice(&aead::seal(newest, rng, &associated_data(format, version, place), plaintext));
    sealed
}

/// Opens what [`seal_versioned`] made with these keys, this format and this place.
fn open_versioned(keys: &[AeadKey], format: u8, place: &[u8], sealed: &[u8]) -> Result<SecretBytes, ValueError> {
    let (header, body) = sealed.split_at_checked(VALUE_HEADER_BYTES).ok_or(OpenError::NotAuthentic)?;
    if header[0] != format {
        return Err(ValueError::Format(header[0]));
    }
    let version = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
    let position = usize::try_from(version).ok().and_then(|version| version.checked_sub(1));
    let key = position.and_then(|position| keys.get(position)).ok_or(ValueError::KeyVersion(version))?;
    Ok(aead::open(key, &associated_data(format, version, place), body)?)
}

fn associated_data(format: u8, version: u32, key: &[u8]) -> Vec<u8> {
    let mut data = Vec::with_capacity(VALUE_HEADER_BYTES + key.len());
    data.put_u8(format);
    data.put_u32(version);
    data.put_slice(key);
    data
}

/// A decoded keyring record, wiped on drop.
struct StoredKeyring(stored::Keyring);

impl StoredKeyring {
    fn open(keyring_key: &KeyringKey, cluster: ClusterId, sealed: &[u8]) -> Result<StoredKeyring, KeyringError> {
        let plaintext = aead::open(&keyring_key.derive_aead_key(label::KEYRING, b""), cluster.0.as_bytes(), sealed)?;
        // EXPOSE: decoded into a record that wipes itself.
        stored::Keyring::decode(plaintext.expose()).map(StoredKeyring).map_err(|_| KeyringError::Malformed("not a keyring"))
    }

    fn seal(&self, keyring_key: &KeyringKey, cluster: ClusterId, rng: &dyn Rng) -> Vec<u8> {
        let plaintext = Zeroizing::new(self.0.encode_to_vec());
        aead::seal(&keyring_key.derive_aead_key(label::KEYRING, b""), rng, cluster.0.as_bytes(), &plaintext)
    }
}

impl Drop for StoredKeyring {
    fn drop(&mut self) {
        self.0.base_key.zeroize();
        for value_key in &mut self.0.value_keys {
            value_key.key.zeroize();
        }
    }
}

#[cfg(test)]
mod tests {
    use crypto::SeededRng;
    use uuid::Uuid;

    use super::*;

    fn keyring(seed: u64) -> (Keyring, KeyringKey, Vec<u8>) {
        let rng = SeededRng::dangerous_from_seed(seed);
        let key = KeyringKey::generate(&rng);
        let (keyring, sealed) = Keyring::generate(&key, ClusterId(Uuid::nil()), Timestamp(0), &rng);
        (keyring, key, sealed)
    }

    /// As many as `CONCLAVE_NONCES` says: the long run is of 10 000 000 (reference T28).
    #[test]
    fn no_nonce_comes_twice() {
        let count = std::env::var("CONCLAVE_NONCES").map_or(100_000, |count| count.parse().expect("CONCLAVE_NONCES is a number"));
        let (keyring, _, _) = keyring(1);
        let (place, rng) = (keyring.seal_name(&Name::new("a")), crypto::OsRng::new());
        let nonce = |_| {
            let sealed = keyring.seal_value(&place, b"", &rng);
            *sealed[VALUE_HEADER_BYTES..].first_chunk::<12>().expect("a value begins with its nonce")
        };
        let mut nonces: Vec<[u8; 12]> = (0..count).map(nonce).collect();
        nonces.sort_unstable();
        assert!(nonces.windows(2).all(|pair| pair[0] != pair[1]), "a nonce came twice among {count}");
    }

    #[test]
    fn after_a_rotation_old_values_open_and_new_ones_are_under_the_new_key() {
        let rng = SeededRng::dangerous_from_seed(3);
        let (first, key, sealed) = keyring(1);
        let place = first.seal_name(&Name::new("a"));
        let old = first.seal_value(&place, b"old", &rng);
        let rotated = Keyring::rotated(&key, ClusterId(Uuid::nil()), &sealed, Timestamp(7), &rng).unwrap();
        let second = Keyring::open(&key, ClusterId(Uuid::nil()), &rotated).unwrap();
        assert_eq!(second.newest(), KeyStatus { version: 2, created: Timestamp(7) });
        assert_eq!(second.open_value(&place, &old).unwrap().expose(), b"old");
        let new = second.seal_value(&place, b"new", &rng);
        assert_eq!(second.open_value(&place, &new).unwrap().expose(), b"new");
        assert!(matches!(first.open_value(&place, &new), Err(ValueError::KeyVersion(2))), "the old keyring has no such key");
        assert_eq!((second.seal_name(&Name::new("a")), second.token_tag(b"t")), (place, first.token_tag(b"t")), "names and tokens stay");

        let other = KeyringKey::generate(&rng);
        let resealed = Keyring::resealed(&key, &other, ClusterId(Uuid::nil()), &rotated, &rng).unwrap();
        assert!(Keyring::open(&key, ClusterId(Uuid::nil()), &resealed).is_err());
        assert_eq!(Keyring::open(&other, ClusterId(Uuid::nil()), &resealed).unwrap().newest(), second.newest());
    }

    #[test]
    fn a_stored_keyring_opens_with_its_key_and_cluster_only() {
        let (made, key, sealed) = keyring(1);
        let opened = Keyring::open(&key, ClusterId(Uuid::nil()), &sealed).unwrap();
        assert_eq!(made.token_tag(b"t"), opened.token_tag(b"t"));
        assert!(Keyring::open(&keyring(2).1, ClusterId(Uuid::nil()), &sealed).is_err(), "another key");
        assert!(Keyring::open(&key, ClusterId(Uuid::max()), &sealed).is_err(), "another cluster");
    }

    #[test]
    fn equal_credentials_of_different_owners_look_different() {
        let (keyring, ..) = keyring(1);
        let tag = keyring.credential_tag("a", "b", b"c");
        assert_eq!(tag, keyring.credential_tag("a", "b", b"c"));
        for (kind, owner, text) in [("x", "b", "c"), ("a", "x", "c"), ("a", "b", "x"), ("ab", "", "c"), ("a", "", "bc"), ("", "ab", "c")] {
            assert_ne!(tag, keyring.credential_tag(kind, owner, text.as_bytes()), "{kind} {owner} {text}");
        }
        assert_ne!(keyring.credential_tag("", "", b"t"), keyring.token_tag(b"t"));
    }

    #[test]
    fn a_snapshot_is_known_by_the_keyring_that_made_it_and_by_those_that_continue_it() {
        let (first, key, stored) = keyring(1);
        let sealed = first.seal_snapshot(b"sums");
        let rotated = |stored: &[u8], seed| {
            let rng = SeededRng::dangerous_from_seed(seed);
            let stored = Keyring::rotated(&key, ClusterId(Uuid::nil()), stored, Timestamp(7), &rng).unwrap();
            Keyring::open(&key, ClusterId(Uuid::nil()), &stored).unwrap()
        };
        let (second, other) = (rotated(&stored, 5), rotated(&stored, 6));
        assert_eq!((first.check_snapshot(b"sums", &sealed), second.check_snapshot(b"sums", &sealed)), (Some(1), Some(1)));
        let later = second.seal_snapshot(b"sums");
        assert_eq!((second.check_snapshot(b"sums", &later), first.check_snapshot(b"sums", &later)), (Some(2), None));
        assert_eq!(other.check_snapshot(b"sums", &later), None, "another history from the same beginning");
        assert_eq!(keyring(2).0.check_snapshot(b"sums", &sealed), None, "another keyring");
        assert_eq!(first.check_snapshot(b"suns", &sealed), None);
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(second.check_snapshot(b"sums", &flipped), None, "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(first.check_snapshot(b"sums", &sealed[..length]), None);
        }
    }

    #[test]
    fn a_value_opens_under_its_own_name_only() {
        let rng = SeededRng::dangerous_from_seed(3);
        let (keyring, ..) = keyring(1);
        let (here, there) = (keyring.seal_name(&Name::new("a/b")), keyring.seal_name(&Name::new("a/c")));
        let sealed = keyring.seal_value(&here, b"s3cret", &rng);
        assert_eq!(keyring.open_value(&here, &sealed).unwrap().expose(), b"s3cret");
        assert!(keyring.open_value(&there, &sealed).is_err(), "moved");
        for byte in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[byte] ^= 1;
            assert!(keyring.open_value(&here, &flipped).is_err(), "byte {byte} flipped");
        }
        assert!(keyring.open_value(&here, &sealed[..4]).is_err(), "cut off");
    }

    #[test]
    fn a_batch_token_opens_with_its_keyring_only_and_is_no_value() {
        let rng = SeededRng::dangerous_from_seed(3);
        let (keyring, ..) = keyring(1);
        let sealed = keyring.seal_batch_token(b"s3cret", &rng);
        assert_eq!(sealed.len(), 6 + BATCH_TOKEN_OVERHEAD_BYTES);
        assert_eq!(keyring.open_batch_token(&sealed).unwrap().expose(), b"s3cret");
        assert!(self::keyring(2).0.open_batch_token(&sealed).is_err(), "another keyring");
        assert!(keyring.open_value(b"", &sealed).is_err(), "as a value");
        assert!(keyring.open_batch_token(&keyring.seal_value(b"", b"x", &rng)).is_err(), "a value");
        for byte in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[byte] ^= 1;
            assert!(keyring.open_batch_token(&flipped).is_err(), "byte {byte} flipped");
        }
        for length in 0..sealed.len() {
            assert!(keyring.open_batch_token(&sealed[..length]).is_err(), "cut off after {length}");
        }
    }
}

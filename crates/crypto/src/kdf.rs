//! HKDF-SHA256 (RFC 5869), by ring: many keys from one.
//!
//! Always: the key depends on the secret, on the label, on the context and on its own length, and no two such tuples are encoded alike.
//! A new use takes a new label, from [`label`].

use ring::hkdf;
use zeroize::{Zeroizing, zeroize_stack};

/// What each derived key is for. One use, one label; a label is never given another meaning, since stored records depend on it.
pub mod label {
    /// AES-256-GCM over the keyring, under the root key.
    pub const KEYRING: &str = "conclave/keyring/aead/v1";
    /// AES-256-GCM over the root key, under a seal key.
    pub const ROOT: &str = "conclave/root/aead/v1";
    /// AES-256-GCM over values, under a value key.
    pub const VALUE: &str = "conclave/value/aead/v1";
    /// AES-256-SIV over names (64 bytes).
    pub const NAME: &str = "conclave/name/siv/v1";
    /// HMAC-SHA256 of the strings in audit records.
    pub const AUDIT: &str = "conclave/audit/hmac/v1";
    /// HMAC-SHA256 by which tokens are stored and looked up.
    pub const TOKEN: &str = "conclave/token/hmac/v1";
    /// HMAC-SHA256 over snapshot files.
    pub const SNAPSHOT: &str = "conclave/snapshot/hmac/v1";
    /// HMAC-SHA256 over the seal records, which are stored in clear.
    pub const SEAL_RECORD: &str = "conclave/seal-record/hmac/v1";
    /// The check value of [`super::derive_commitment`].
    pub const COMMITMENT: &str = "conclave/key-commitment/v1";
}

/// The fixed salt of RFC 5869's extract step: our own, so that nobody else's HKDF over the same secret gives our keys.
const SALT: &[u8] = b"conclave hkdf v1";

/// The longest label, in bytes: its length is encoded in one.
pub const LABEL_BYTES_MAX: usize = 255;

/// Stack that ring may have used for the derivation, with room to spare. Wiped after.
const STACK_WIPED_BYTES: usize = 4096;

/// Derives a 32-byte key from `secret`, which must be uniformly random.
///
/// `label` says what the key is for (see [`label`]), `context` for which instance of it: a key version, a mount's id, a device's name.
/// `info` of RFC 5869 is: length of the key (1 byte) ‖ length of the label (1 byte) ‖ label ‖ context.
///
/// # Panics
/// If `label` is longer than [`LABEL_BYTES_MAX`], which is a fault in our own code.
pub fn derive_key(secret: &[u8; 32], label: &'static str, context: &[u8]) -> Zeroizing<[u8; 32]> {
    derive(secret, label, context)
}

/// Derives a 64-byte key, for AES-256-SIV. Its first half is not the 32-byte key of the same label.
///
/// # Panics
/// As [`derive_key`].
pub fn derive_key_64(secret: &[u8; 32], label: &'static str, context: &[u8]) -> Zeroizing<[u8; 64]> {
    derive(secret, label, context)
}

/// A public check value of `secret`, kept beside what `secret` encrypts.
///
/// AES-GCM does not commit to its key: a ciphertext can be made that opens under two keys. Who compares this value first (in constant time, by
/// [`crate::constant_time_eq`]) knows that it is the one key. It tells nothing of a uniformly random secret.
pub fn derive_commitment(secret: &[u8; 32]) -> [u8; 32] {
    *derive_key(secret, label::COMMITMENT, b"")
}

fn derive<const N: usize>(secret: &[u8; 32], label: &'static str, context: &[u8]) -> Zeroizing<[u8; N]> {
    let label_length = u8::try_from(label.len()).expect("a label is at most LABEL_BYTES_MAX long");
    let key_length = u8::try_from(N).expect("keys of 32 and 64 bytes are derived");
    let mut key = Zeroizing::new([0; N]);
    hkdf_sha256(SALT, secret, &[&[key_length, label_length], label.as_bytes(), context], &mut *key);
    zeroize_stack::<STACK_WIPED_BYTES>();
    key
}

/// RFC 5869, both steps. `okm` is at most 255 * 32 bytes.
#[inline(never)]
fn hkdf_sha256(salt: &[u8], secret: &[u8], info: &[&[u8]], okm: &mut [u8]) {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(secret)
        .expand(info, Length(okm.len()))
        .and_then(|key| key.fill(okm))
        .expect("HKDF-SHA256 gives up to 8160 bytes, and more are never asked for");
}

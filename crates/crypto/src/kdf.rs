//! HKDF-SHA256 (RFC 5869), by ring: many keys from one.
//!
//! Always: the key depends on the secret, on the label, on the context and on its own length, and no two such tuples are encoded alike.
//! A new use takes a new label, from [`label`].

use ring::hkdf;
use zeroize::Zeroizing;

use crate::secret::wipe_stack;

/// What each derived key is for. One use, one label; a label is never given another meaning, since stored records depend on it.
pub mod label {
    /// The keyring key, under the root key.
    pub const KEYRING_KEY: &str = "conclave/keyring-key/v1";
    /// AES-256-GCM over the keyring, under the keyring key.
    pub const KEYRING: &str = "conclave/keyring/aead/v1";
    /// AES-256-GCM over the root key, under a seal key.
    pub const ROOT: &str = "conclave/root/aead/v1";
    /// AES-256-GCM over the root key in force, under the one that is to follow it.
    pub const ROOT_IN_FORCE: &str = "conclave/root-in-force/aead/v1";
    /// HMAC-SHA256 by which an open node proves that it is one, under the keyring's base key.
    pub const PEER_PROOF: &str = "conclave/peer-proof/hmac/v1";
    /// HMAC-SHA256 over the challenges that nodes are given who would join, under the keyring key.
    pub const JOIN_CHALLENGE: &str = "conclave/join-challenge/hmac/v1";
    /// The secret of those who join with the cluster's shares in place of a token, under the keyring key.
    pub const JOIN_BY_SHARES: &str = "conclave/join-by-shares/v1";
    /// HMAC-SHA256 over what a node asks that would join, under the secret of its token.
    pub const JOIN_REQUEST: &str = "conclave/join-request/hmac/v1";
    /// HMAC-SHA256 over what it is answered, under the same.
    pub const JOIN_ANSWER: &str = "conclave/join-answer/hmac/v1";
    /// AES-256-GCM over values, under a value key.
    pub const VALUE: &str = "conclave/value/aead/v1";
    /// AES-256-SIV over names (64 bytes).
    pub const NAME: &str = "conclave/name/siv/v1";
    /// HMAC-SHA256 of the strings in audit records.
    pub const AUDIT: &str = "conclave/audit/hmac/v1";
    /// HMAC-SHA256 by which tokens are stored and looked up.
    pub const TOKEN: &str = "conclave/token/hmac/v1";
    /// AES-256-GCM over batch tokens, under a value key.
    pub const BATCH_TOKEN: &str = "conclave/batch-token/aead/v1";
    /// HMAC-SHA256 by which credentials of auth methods are stored and looked up.
    pub const CREDENTIAL: &str = "conclave/credential/hmac/v1";
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

/// Derives a 32-byte key from `secret`, which must be uniformly random.
///
/// `label` says what the key is for (see [`label`]), `context` for which instance of it: a key version, a mount's id, a device's name.
/// `info` of RFC 5869 is: length of the key (1 byte) ‖ length of the label (1 byte) ‖ label ‖ context.
///
/// An array that is returned may leave a copy on the stack where the compiler moves it (a debug build does). A key that is kept is derived
/// in its place, by [`derive_into`].
///
/// # Panics
/// If `label` is longer than [`LABEL_BYTES_MAX`], which is a fault in our own code.
pub fn derive_key(secret: &[u8; 32], label: &'static str, context: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    derive_into(secret, label, context, &mut key);
    key
}

/// Derives a 64-byte key, for AES-256-SIV, as [`derive_key`]. Its first half is not the 32-byte key of the same label.
pub fn derive_key_64(secret: &[u8; 32], label: &'static str, context: &[u8]) -> Zeroizing<[u8; 64]> {
    let mut key = Zeroizing::new([0; 64]);
    derive_into(secret, label, context, &mut key);
    key
}

/// Derives a key of `N` bytes, 1 to 255, in its place: see [`derive_key`].
pub fn derive_into<const N: usize>(secret: &[u8; 32], label: &'static str, context: &[u8], key: &mut [u8; N]) {
    let label_length = u8::try_from(label.len()).expect("a label is at most LABEL_BYTES_MAX long");
    let key_length = u8::try_from(N).expect("keys of 32 and 64 bytes are derived");
    hkdf_sha256(SALT, secret, &[&[key_length, label_length], label.as_bytes(), context], key);
    wipe_stack();
}

/// A public check value of `secret`, kept beside what `secret` encrypts.
///
/// AES-GCM does not commit to its key: a ciphertext can be made that opens under two keys. Who compares this value first (in constant time,
/// by [`crate::constant_time_eq`]) knows that it is the one key. It tells nothing of a uniformly random secret.
pub fn derive_commitment(secret: &[u8; 32]) -> [u8; 32] {
    let mut commitment = [0; 32];
    derive_into(secret, label::COMMITMENT, b"", &mut commitment);
    commitment
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::cases;

    fn hex(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    /// RFC 5869, appendices A.1 to A.3.
    #[test]
    fn vectors_of_rfc_5869() {
        let range = |from: u8, to: u8| (from..=to).collect::<Vec<u8>>();
        for (salt, secret, info, okm) in [
            (
                range(0, 0x0c),
                vec![0x0b; 22],
                range(0xf0, 0xf9),
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            ),
            (
                range(0x60, 0xaf),
                range(0x00, 0x4f),
                range(0xb0, 0xff),
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
            ),
            (vec![], vec![0x0b; 22], vec![], "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
        ] {
            let mut made = vec![0; okm.len() / 2];
            hkdf_sha256(&salt, &secret, &[&info], &mut made);
            assert_eq!(made, hex(okm));
        }
    }

    #[test]
    fn vectors_of_wycheproof() {
        let cases = cases::<4>(include_str!("../vectors/hkdf_sha256.txt"));
        assert_eq!(cases.len(), 83);
        for case in cases {
            let [secret, salt, info, okm] = case.fields;
            let mut made = vec![0; okm.len()];
            hkdf_sha256(&salt, &secret, &[&info], &mut made);
            assert_eq!(made, okm, "case {}", case.number);
        }
    }

    /// Stored records depend on these bytes: a change here is a change of format. RFC 5869 done by hand, with one block of output.
    #[test]
    fn the_encoding_of_labels_is_fixed() {
        use crate::mac::MacKey;
        let (secret, label, context) = ([7; 32], label::KEYRING, b"context".as_slice());
        let mut salt = [0; 32];
        salt[..SALT.len()].copy_from_slice(SALT); // HMAC pads a short key with zeros
        let extracted = MacKey::new(&salt).tag(&secret);
        let info = [&[32, 24], label.as_bytes(), context, &[1]].concat();
        assert_eq!(*derive_key(&secret, label, context), MacKey::new(&extracted).tag(&info));
    }

    #[test]
    fn every_part_of_the_input_changes_the_key() {
        let base = derive_key(&[7; 32], label::ROOT, b"1");
        assert_eq!(*base, *derive_key(&[7; 32], label::ROOT, b"1"));
        for other in [
            derive_key(&[8; 32], label::ROOT, b"1"),
            derive_key(&[7; 32], label::VALUE, b"1"),
            derive_key(&[7; 32], label::ROOT, b"2"),
            derive_key(&[7; 32], label::ROOT, b""),
            // The same bytes, divided otherwise.
            derive_key(&[7; 32], "conclave/root/aead/v11", b""),
        ] {
            assert_ne!(*base, *other);
        }
        assert_ne!(*base, derive_key_64(&[7; 32], label::ROOT, b"1")[..32]);
        assert_ne!(derive_commitment(&[7; 32]), derive_commitment(&[8; 32]));
    }

    #[test]
    fn no_two_uses_share_a_label() {
        use label::*;
        let labels = [KEYRING, ROOT, VALUE, NAME, AUDIT, TOKEN, SNAPSHOT, SEAL_RECORD, COMMITMENT];
        let distinct: std::collections::HashSet<&str> = labels.into_iter().collect();
        assert_eq!(distinct.len(), labels.len());
    }
}

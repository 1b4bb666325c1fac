//! AES-256-GCM (NIST SP 800-38D) with random 96-bit nonces, by ring.
//!
//! Always: a sealed record is nonce (12 bytes) ‖ ciphertext (as long as the plaintext) ‖ tag (16 bytes); a fresh nonce is drawn for each.
//! Does not count its own uses: whoever keeps a key counts seals and replaces it before [`SEALS_MAX`] (SP 800-38D, section 8.3).
//! Does not commit to its key: see [`crate::kdf::derive_commitment`].

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use zeroize::{Zeroizing, optimization_barrier};

use crate::rng::{self, Rng};
use crate::secret::{SecretBytes, wipe_stack};

/// Bytes of the nonce, in front.
pub const NONCE_BYTES: usize = 12;
/// Bytes of the tag, behind.
pub const TAG_BYTES: usize = 16;
/// How much longer a sealed record is than its plaintext.
pub const OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;
/// The most records that one key may ever seal: with more, the chance that a nonce repeats passes 2⁻³².
pub const SEALS_MAX: u64 = 1 << 32;
/// The longest plaintext, in bytes: far below GCM's own 2³⁶ − 32, and below what any caller may hold in memory.
pub const PLAINTEXT_BYTES_MAX: usize = 1 << 30;

/// Why [`open`] refused. One variant on purpose: which byte was wrong is nobody's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Shorter than any sealed record, or not made with this key, these associated data and these bytes.
    #[error("the sealed record is damaged, or not made with this key for this place")]
    NotAuthentic,
}

/// An AES-256-GCM key with its key schedule, prepared once. Wiped on drop; cannot be printed, cloned, compared or serialised.
///
/// ```compile_fail,E0277
/// fn printable(_: impl std::fmt::Debug) {}
/// printable(crypto::AeadKey::new(&[0; 32]));
/// ```
/// ```compile_fail,E0599
/// let key = crypto::AeadKey::new(&[0; 32]);
/// let copy: crypto::AeadKey = key.clone();
/// ```
pub struct AeadKey(Box<LessSafeKey>);

impl AeadKey {
    /// Prepares `key`, which must be uniformly random and have no other use: derive it, by [`crate::kdf`] or a key's `derive_aead_key`.
    pub fn new(key: &[u8; 32]) -> AeadKey {
        let prepared = prepare(key);
        wipe_stack();
        AeadKey(prepared)
    }
}

impl Drop for AeadKey {
    fn drop(&mut self) {
        // ring does not wipe its keys: write that of zeros over this one.
        *self.0 = schedule(&[0; 32]);
        optimization_barrier(&*self.0);
    }
}

#[inline(never)]
fn prepare(key: &[u8; 32]) -> Box<LessSafeKey> {
    Box::new(schedule(key))
}

fn schedule(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes 32 bytes"))
}

/// Seals `plaintext`, bound to `aad`. The plaintext's only copy here is encrypted in place.
///
/// # Panics
/// If `plaintext` is longer than [`PLAINTEXT_BYTES_MAX`]; every caller has a far lower limit of its own.
pub fn seal(key: &AeadKey, rng: &dyn Rng, aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    seal_with_nonce(key, rng::generate_bytes(rng), aad, plaintext)
}

fn seal_with_nonce(key: &AeadKey, nonce: [u8; NONCE_BYTES], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    assert!(plaintext.len() <= PLAINTEXT_BYTES_MAX, "{} bytes to seal, more than {PLAINTEXT_BYTES_MAX}", plaintext.len());
    let mut sealed = Vec::with_capacity(plaintext.len() + OVERHEAD_BYTES);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(plaintext);
    let tag = key
        .0
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut sealed[NONCE_BYTES..])
        .expect("AES-256-GCM seals up to 2^36 - 32 bytes");
    sealed.extend_from_slice(tag.as_ref());
    sealed
}

/// Opens what [`seal`] made with the same key and `aad`. A buffer that held unauthentic plaintext is wiped.
pub fn open(key: &AeadKey, aad: &[u8], sealed: &[u8]) -> Result<SecretBytes, OpenError> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError::NotAuthentic)?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(OpenError::NotAuthentic)?;
    let mut buffer = Zeroizing::new(ciphertext.to_vec().into_boxed_slice());
    key.0
        .open_in_place_separate_tag(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), Tag::from(*tag), &mut buffer, 0..)
        .map_err(|_| OpenError::NotAuthentic)?;
    Ok(SecretBytes::from_boxed(buffer))
}

#[cfg(test)]
mod tests {
    use aes_gcm::aead::{Aead, Payload};
    use aes_gcm::{Aes256Gcm, KeyInit};
    use proptest::prelude::*;

    use super::*;
    use crate::rng::{OsRng, SeededRng};
    use crate::vectors::cases;

    fn hex(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    /// McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, the cases with 256-bit keys and 96-bit nonces.
    #[test]
    fn vectors_of_the_gcm_specification() {
        let key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
        let plaintext = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";
        let ciphertext = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad";
        for (case, key, nonce, aad, plaintext, ciphertext, tag) in [
            (13, &*"00".repeat(32), &*"00".repeat(12), "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
            (
                14,
                &"00".repeat(32),
                &"00".repeat(12),
                "",
                &*"00".repeat(16),
                "cea7403d4d606b6e074ec5d3baf39d18",
                "d0d1c8a799996bf0265b98b5d48ab919",
            ),
            (15, key, "cafebabefacedbaddecaf888", "", plaintext, ciphertext, "b094dac5d93471bdec1a502270e3cc6c"),
            (
                16,
                key,
                "cafebabefacedbaddecaf888",
                "feedfacedeadbeeffeedfacedeadbeefabaddad2",
                &plaintext[..120],
                &ciphertext[..120],
                "76fc6ece0f4e1768cddf8853bb2d551b",
            ),
        ] {
            let key = AeadKey::new(hex(key).as_slice().try_into().unwrap());
            let (aad, plaintext) = (hex(aad), hex(plaintext));
            let sealed = seal_with_nonce(&key, hex(nonce).try_into().unwrap(), &aad, &plaintext);
            assert_eq!(hex::encode(&sealed), format!("{nonce}{ciphertext}{tag}"), "case {case}");
            assert_eq!(open(&key, &aad, &sealed).unwrap().expose(), plaintext, "case {case}");
        }
    }

    #[test]
    fn vectors_of_wycheproof() {
        let cases = cases::<6>(include_str!("../vectors/aes_256_gcm.txt"));
        assert_eq!((cases.len(), cases.iter().filter(|case| !case.valid).count()), (66, 27));
        for case in cases {
            let [key, nonce, aad, plaintext, ciphertext, tag] = case.fields;
            let key = AeadKey::new(key.as_slice().try_into().unwrap());
            let published = [nonce.clone(), ciphertext, tag].concat();
            if case.valid {
                assert_eq!(seal_with_nonce(&key, nonce.try_into().unwrap(), &aad, &plaintext), published, "case {}", case.number);
                assert_eq!(open(&key, &aad, &published).unwrap().expose(), plaintext, "case {}", case.number);
            } else {
                assert_eq!(open(&key, &aad, &published).err(), Some(OpenError::NotAuthentic), "case {}", case.number);
            }
        }
    }

    #[test]
    fn any_changed_bit_is_refused() {
        let (key, rng) = (AeadKey::new(&[7; 32]), SeededRng::dangerous_from_seed(1));
        let sealed = seal(&key, &rng, b"place", b"seventeen letters");
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key, b"place", &changed).is_err(), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert!(open(&key, b"place", &sealed[..len]).is_err(), "cut to {len}");
            assert!(open(&key, b"place", &sealed[len + 1..]).is_err(), "cut by {len} and one in front");
        }
        assert!(open(&key, b"place", &[&sealed[..], &[0]].concat()).is_err());
        assert!(open(&key, b"elsewhere", &sealed).is_err());
        assert!(open(&AeadKey::new(&[8; 32]), b"place", &sealed).is_err());
    }

    #[test]
    fn a_nonce_is_never_drawn_twice() {
        let (key, rng) = (AeadKey::new(&[7; 32]), OsRng::new());
        let nonces: std::collections::HashSet<Vec<u8>> = (0..10_000).map(|_| seal(&key, &rng, b"", b"")[..NONCE_BYTES].to_vec()).collect();
        assert_eq!(nonces.len(), 10_000);
    }

    proptest! {
        #[test]
        fn agrees_with_an_independent_implementation(
            key in any::<[u8; 32]>(),
            nonce in any::<[u8; NONCE_BYTES]>(),
            aad in proptest::collection::vec(any::<u8>(), 0..100),
            plaintext in proptest::collection::vec(any::<u8>(), 0..1000),
        ) {
            let ours = seal_with_nonce(&AeadKey::new(&key), nonce, &aad, &plaintext);
            let theirs = Aes256Gcm::new(&key.into()).encrypt(&nonce.into(), Payload { msg: &plaintext, aad: &aad }).unwrap();
            prop_assert_eq!(&ours[NONCE_BYTES..], &theirs);
            prop_assert_eq!(ours.len(), plaintext.len() + OVERHEAD_BYTES);
            let opened = open(&AeadKey::new(&key), &aad, &ours).unwrap();
            prop_assert_eq!(opened.expose(), &plaintext);
        }

        #[test]
        fn no_bytes_make_it_panic(aad in proptest::collection::vec(any::<u8>(), 0..40), sealed in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(open(&AeadKey::new(&[7; 32]), &aad, &sealed).is_err());
        }
    }
}

//! AES-256-GCM (NIST SP 800-38D) with random 96-bit nonces, by ring.
//!
//! Always: a sealed record is nonce (12 bytes) ‖ ciphertext (as long as the plaintext) ‖ tag (16 bytes); a fresh nonce is drawn for each.
//! Does not count its own uses: whoever keeps a key counts seals and replaces it before [`SEALS_MAX`] (SP 800-38D, section 8.3).
//! Does not commit to its key: see [`crate::kdf::derive_commitment`].

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use zeroize::{Zeroizing, optimization_barrier, zeroize_stack};

use crate::rng::{self, Rng};
use crate::secret::SecretBytes;

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

/// Stack that ring may have used for a key schedule, with room to spare. Wiped after.
const STACK_WIPED_BYTES: usize = 4096;

/// Why [`open`] refused. One variant on purpose: which byte was wrong is nobody's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Shorter than any sealed record, or not made with this key, these associated data and these bytes.
    #[error("the sealed record is damaged, or not made with this key for this place")]
    NotAuthentic,
}

/// An AES-256-GCM key with its key schedule, prepared once. Wiped on drop; cannot be printed, cloned, compared or serialised.
///
/// ```compile_fail
/// fn printable(_: impl std::fmt::Debug) {}
/// printable(crypto::AeadKey::new(&[0; 32]));
/// ```
/// ```compile_fail
/// let key = crypto::AeadKey::new(&[0; 32]);
/// let copy: crypto::AeadKey = key.clone();
/// ```
pub struct AeadKey(Box<LessSafeKey>);

impl AeadKey {
    /// Prepares `key`, which must be uniformly random and have no other use: derive it, by [`crate::kdf`] or a key's `derive_aead_key`.
    pub fn new(key: &[u8; 32]) -> AeadKey {
        let prepared = prepare(key);
        zeroize_stack::<STACK_WIPED_BYTES>();
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

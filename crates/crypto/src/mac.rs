//! HMAC-SHA256 (RFC 2104, FIPS 198-1), by ring.
//!
//! Always: tags are compared in constant time; the prepared key is wiped on drop.

use ring::hmac;
use zeroize::{optimization_barrier, zeroize_stack};

/// Stack that ring may have used to prepare a key, with room to spare. Wiped after.
const STACK_WIPED_BYTES: usize = 4096;

/// A key that tags bytes, prepared once. Wiped on drop; cannot be printed, cloned, compared or serialised.
///
/// ```compile_fail
/// fn printable(_: impl std::fmt::Debug) {}
/// printable(crypto::MacKey::new(&[0; 32]));
/// ```
/// ```compile_fail
/// let key = crypto::MacKey::new(&[0; 32]);
/// let copy: crypto::MacKey = key.clone();
/// ```
pub struct MacKey(Box<hmac::Key>);

impl MacKey {
    /// Prepares `key`, which must be uniformly random (drawn, or from [`crate::kdf`]).
    pub fn new(key: &[u8; 32]) -> MacKey {
        let prepared = prepare(key);
        zeroize_stack::<STACK_WIPED_BYTES>();
        MacKey(prepared)
    }

    /// The tag of `bytes`.
    pub fn tag(&self, bytes: &[u8]) -> [u8; 32] {
        hmac::sign(&self.0, bytes).as_ref().try_into().expect("HMAC-SHA256 gives 32 bytes")
    }

    /// Whether `tag` is the whole tag of `bytes`; a shortened one is not. Takes the same time wherever they differ.
    #[must_use]
    pub fn verify(&self, bytes: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.0, bytes, tag).is_ok()
    }
}

impl Drop for MacKey {
    fn drop(&mut self) {
        // ring does not wipe its keys: write that of zeros over this one.
        *self.0 = hmac::Key::new(hmac::HMAC_SHA256, &[0; 32]);
        optimization_barrier(&*self.0);
    }
}

#[inline(never)]
fn prepare(key: &[u8; 32]) -> Box<hmac::Key> {
    Box::new(hmac::Key::new(hmac::HMAC_SHA256, key))
}

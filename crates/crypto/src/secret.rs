//! The types that hold secrets: one for each kind of key, and [`SecretBytes`] for the rest.
//!
//! Always: the bytes live once, on the heap, in a buffer of their final size, and are wiped when the owner is dropped. None of these types
//! can be printed, cloned, compared or serialised; a look at the bytes is an explicit `expose`. Knows nothing of what the keys open.

use subtle::ConstantTimeEq;
use zeroize::{Zeroizing, zeroize_stack};

use crate::aead::AeadKey;
use crate::kdf;
use crate::mac::MacKey;
use crate::rng::Rng;

/// Whether `a` and `b` are the same bytes. The time depends on their lengths, never on where they differ.
#[must_use]
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// Wipes what a call that has just returned may have left below this frame. That call must not be inlined. For the preparation of keys,
/// which is rare (a library's key schedule passes through several frames on its way to the heap: `tests/wiped.rs` counts the copies). Takes one to two microseconds.
#[inline(never)]
pub fn wipe_stack() {
    /// More than any of these calls uses: a debug build, which moves more, stays below 32 KiB.
    const BYTES: usize = 64 * 1024;
    zeroize_stack::<BYTES>();
}

/// As [`wipe_stack`], for a thread that is about to rest and has done all kinds of work: handlers nest deeper than a key's preparation. A debug
/// build was seen to leave a token 100 KiB below the frame in which its thread rests.
#[inline(never)]
pub fn wipe_resting_stack() {
    const BYTES: usize = if cfg!(debug_assertions) { 256 * 1024 } else { 64 * 1024 };
    zeroize_stack::<BYTES>();
}

/// Secret bytes of any length: an opened value, a name, a request's body. Wiped on drop; cannot be printed, cloned, compared or serialised.
///
/// ```
/// fn serialisable(_: impl serde::Serialize) {}
/// serialisable(vec![0_u8]);
/// assert_eq!(crypto::SecretBytes::from(vec![7]).expose(), [7]);
/// ```
/// ```compile_fail,E0277
/// fn serialisable(_: impl serde::Serialize) {}
/// serialisable(crypto::SecretBytes::from(vec![0]));
/// ```
/// ```compile_fail,E0277
/// fn printable(_: impl std::fmt::Debug) {}
/// printable(crypto::SecretBytes::from(vec![0]));
/// ```
/// ```compile_fail,E0599
/// let secret = crypto::SecretBytes::from(vec![0]);
/// let copy: crypto::SecretBytes = secret.clone();
/// ```
/// ```compile_fail,E0369
/// let (a, b) = (crypto::SecretBytes::from(vec![0]), crypto::SecretBytes::from(vec![0]));
/// let same = a == b;
/// ```
pub struct SecretBytes(Zeroizing<Box<[u8]>>);

impl SecretBytes {
    /// Makes `len` zero bytes and lets `write` fill them in place.
    pub fn with_len(len: usize, write: impl FnOnce(&mut [u8])) -> SecretBytes {
        let mut bytes = Zeroizing::new(vec![0; len].into_boxed_slice());
        write(&mut bytes);
        SecretBytes(bytes)
    }

    pub(crate) fn from_boxed(bytes: Zeroizing<Box<[u8]>>) -> SecretBytes {
        SecretBytes(bytes)
    }

    /// Lends the bytes; each caller says why in an `// EXPOSE:` line.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for SecretBytes {
    /// Takes `bytes` over. One with room to spare is copied into a buffer of its exact size, and wiped. (Copies that it left behind while
    /// it grew are out of reach: give a `Vec` its final capacity at once.)
    fn from(bytes: Vec<u8>) -> SecretBytes {
        if bytes.capacity() == bytes.len() {
            return SecretBytes(Zeroizing::new(bytes.into_boxed_slice()));
        }
        let bytes = Zeroizing::new(bytes);
        SecretBytes::with_len(bytes.len(), |exact| exact.copy_from_slice(&bytes))
    }
}

macro_rules! key {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        /// Wiped on drop; cannot be printed, cloned, compared or serialised.
        ///
        /// ```
        #[doc = concat!("let key = crypto::", stringify!($name), "::generate(&crypto::OsRng::new());")]
        #[doc = concat!("assert_eq!(key.expose().len(), crypto::", stringify!($name), "::LEN);")]
        /// ```
        /// ```compile_fail,E0277
        /// fn serialisable(_: impl serde::Serialize) {}
        #[doc = concat!("serialisable(crypto::", stringify!($name), "::generate(&crypto::OsRng::new()));")]
        /// ```
        /// ```compile_fail,E0277
        /// fn printable(_: impl std::fmt::Debug) {}
        #[doc = concat!("printable(crypto::", stringify!($name), "::generate(&crypto::OsRng::new()));")]
        /// ```
        /// ```compile_fail,E0599
        #[doc = concat!("let key = crypto::", stringify!($name), "::generate(&crypto::OsRng::new());")]
        #[doc = concat!("let copy: crypto::", stringify!($name), " = key.clone();")]
        /// ```
        /// ```compile_fail,E0369
        #[doc = concat!("let key = crypto::", stringify!($name), "::generate(&crypto::OsRng::new());")]
        /// let same = key == key;
        /// ```
        pub struct $name(Box<Zeroizing<[u8; $len]>>);

        impl $name {
            /// Bytes of the key.
            pub const LEN: usize = $len;

            /// Draws a new key.
            pub fn generate(rng: &dyn Rng) -> Self {
                Self::with_bytes(|bytes| rng.fill(bytes))
            }

            /// Makes a key of zeros and lets `write` fill it in place: the way that leaves no copy of it elsewhere.
            pub fn with_bytes(write: impl FnOnce(&mut [u8; $len])) -> Self {
                let mut key = Self(Box::new(Zeroizing::new([0; $len])));
                write(&mut key.0);
                key
            }

            /// Takes a key that is held by value. Handing it over may leave a copy on the stack: see [`Self::with_bytes`].
            pub fn from_bytes(bytes: Zeroizing<[u8; $len]>) -> Self {
                Self::with_bytes(|key| key.copy_from_slice(&*bytes))
            }

            /// Copies a key that was opened or combined; `None` unless it has the right length,
            #[doc = concat!(stringify!($len), " bytes.")]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                let bytes: &[u8; $len] = bytes.try_into().ok()?;
                Some(Self::with_bytes(|key| key.copy_from_slice(bytes)))
            }

            /// Lends the bytes; each caller says why in an `// EXPOSE:` line.
            pub fn expose(&self) -> &[u8; $len] {
                &self.0
            }
        }
    };
}

macro_rules! root_of_keys {
    ($name:ident) => {
        impl $name {
            /// Derives an AES-256-GCM key: see [`kdf::derive_key`] for `label` and `context`.
            pub fn derive_aead_key(&self, label: &'static str, context: &[u8]) -> AeadKey {
                let mut key = Zeroizing::new([0; 32]);
                kdf::derive_into(self.expose(), label, context, &mut key);
                AeadKey::new(&key)
            }

            /// Derives an HMAC-SHA256 key: see [`kdf::derive_key`] for `label` and `context`.
            pub fn derive_mac_key(&self, label: &'static str, context: &[u8]) -> MacKey {
                let mut key = Zeroizing::new([0; 32]);
                kdf::derive_into(self.expose(), label, context, &mut key);
                MacKey::new(&key)
            }

            /// The public check value of this key: see [`kdf::derive_commitment`].
            pub fn derive_commitment(&self) -> [u8; 32] {
                kdf::derive_commitment(self.expose())
            }
        }
    };
}

key! {
    /// What each seal wraps: the root of all keys. Only a ceremony holds it, and only until it is done.
    RootKey, 32
}
key! {
    /// Encrypts the keyring, and authenticates the seal records. Derived from the root key; an open node keeps it.
    KeyringKey, 32
}
key! {
    /// What the shares combine to: wraps the root key.
    SealKey, 32
}
key! {
    /// One version of the keyring's key for values.
    ValueKey, 32
}
key! {
    /// Hashes tokens, so that the store never holds one.
    TokenKey, 32
}
key! {
    /// Hashes the strings in audit records.
    AuditKey, 32
}
key! {
    /// Encrypts names, deterministically: the two halves of an AES-256-SIV key.
    NameKey, 64
}

root_of_keys!(RootKey);
root_of_keys!(KeyringKey);
root_of_keys!(SealKey);
root_of_keys!(ValueKey);
root_of_keys!(TokenKey);
root_of_keys!(AuditKey);

impl RootKey {
    /// The key of the keyring.
    pub fn derive_keyring_key(&self) -> KeyringKey {
        KeyringKey::with_bytes(|key| kdf::derive_into(self.expose(), kdf::label::KEYRING_KEY, b"", key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SeededRng;

    #[test]
    fn bytes_get_a_buffer_of_their_exact_size() {
        let mut roomy = Vec::with_capacity(100);
        roomy.extend_from_slice(b"secret");
        for secret in [
            SecretBytes::from(roomy),
            SecretBytes::from(b"secret".to_vec()),
            SecretBytes::with_len(6, |bytes| bytes.copy_from_slice(b"secret")),
        ] {
            assert_eq!(secret.expose(), b"secret");
            assert_eq!((secret.len(), secret.is_empty()), (6, false));
        }
        assert!(SecretBytes::from(Vec::new()).is_empty());
    }

    #[test]
    fn keys_are_drawn_anew_and_kept_whole() {
        let rng = SeededRng::dangerous_from_seed(1);
        let (first, second) = (NameKey::generate(&rng), NameKey::generate(&rng));
        assert_ne!(first.expose(), second.expose());
        assert_eq!(NameKey::from_bytes(Zeroizing::new(*first.expose())).expose(), first.expose());
        assert_eq!(NameKey::from_slice(first.expose()).unwrap().expose(), first.expose());
        assert!(NameKey::from_slice(&first.expose()[1..]).is_none());
        assert!(RootKey::from_slice(first.expose()).is_none());
    }

    #[test]
    fn keys_derived_for_two_uses_differ() {
        let key = RootKey::generate(&SeededRng::dangerous_from_seed(1));
        let rng = SeededRng::dangerous_from_seed(2);
        let sealed = crate::aead::seal(&key.derive_aead_key(kdf::label::KEYRING, b""), &rng, b"", b"text");
        assert!(crate::aead::open(&key.derive_aead_key(kdf::label::KEYRING, b""), b"", &sealed).is_ok());
        assert!(crate::aead::open(&key.derive_aead_key(kdf::label::VALUE, b""), b"", &sealed).is_err());
        assert!(crate::aead::open(&key.derive_aead_key(kdf::label::KEYRING, b"2"), b"", &sealed).is_err());
        assert_ne!(key.derive_mac_key(kdf::label::AUDIT, b"").tag(b""), key.derive_mac_key(kdf::label::TOKEN, b"").tag(b""));
        assert_eq!(key.derive_commitment(), kdf::derive_commitment(key.expose()));
    }

    #[test]
    fn equality_is_that_of_the_bytes() {
        for (a, b, equal) in [(&b"ab"[..], &b"ab"[..], true), (b"ab", b"ac", false), (b"ab", b"abc", false), (b"", b"", true)] {
            assert_eq!(constant_time_eq(a, b), equal);
        }
    }
}

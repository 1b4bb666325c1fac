//! AES-256-SIV (RFC 5297): deterministic authenticated encryption, for names.
//!
//! Always: the same key, associated data and plaintext give the same bytes, and that equality is all that they show beside the length.
//! A sealed name is the synthetic IV (16 bytes) ‖ ciphertext (as long as the plaintext).

use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use zeroize::Zeroizing;

use crate::aead::OpenError;
use crate::secret::{NameKey, SecretBytes};

/// How much longer a sealed name is than the name.
pub const OVERHEAD_BYTES: usize = 16;

/// Seals and opens names.
pub struct NameCipher(Box<Zeroizing<[u8; NameKey::LEN]>>);

impl NameCipher {
    /// Prepares `key`.
    pub fn new(key: &NameKey) -> NameCipher {
        NameCipher(Box::new(Zeroizing::new(*key.expose())))
    }

    /// Seals `plaintext`, bound to `aad`.
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        self.state().encrypt([aad], plaintext).expect("one header is within RFC 5297's limit of 126")
    }

    /// Opens what [`NameCipher::seal`] made with the same key and `aad`.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<SecretBytes, OpenError> {
        let plaintext = self.state().decrypt([aad], sealed).map_err(|_| OpenError::NotAuthentic)?;
        Ok(SecretBytes::from(plaintext))
    }

    fn state(&self) -> Aes256Siv {
        Aes256Siv::new((&**self.0).into())
    }
}

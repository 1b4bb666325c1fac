//! The primitives: sealing, deriving, tagging, splitting, the types that hold secrets and wipe them, and a heap that wipes the rest.
//!
//! Always: each algorithm is a published one, named with its source and tested against published vectors; every secret is wiped
//! when it is dropped; nothing here prints, clones or serialises a secret. Knows nothing of disks, networks, or of what is encrypted.
//!
//! | module | algorithm | source |
//! |---|---|---|
//! | [`aead`] | AES-256-GCM, random 96-bit nonces | NIST SP 800-38D |
//! | [`siv`] | AES-256-SIV (deterministic, for names) | RFC 5297 |
//! | [`kdf`] | HKDF-SHA256 | RFC 5869 |
//! | [`mac`] | HMAC-SHA256 | RFC 2104, FIPS 198-1 |
//! | [`digest`] | SHA-256 | FIPS 180-4 |
//! | [`password`] | Argon2id version 1.3 | RFC 9106 |
//! | [`shamir`] | Shamir's scheme over GF(256) | CACM 22(11), 1979 |

pub mod aead;
pub mod digest;
mod gf256;
pub mod heap;
pub mod kdf;
pub mod mac;
pub mod password;
pub mod rng;
pub mod secret;
pub mod shamir;
pub mod siv;
#[cfg(test)]
mod vectors;

pub use aead::{AeadKey, OpenError};
pub use heap::WipingAllocator;
pub use mac::MacKey;
pub use rng::{OsRng, Rng, SeededRng};
pub use secret::{
    AuditKey, KeyringKey, NameKey, RootKey, SealKey, SecretBytes, TokenKey, ValueKey, constant_time_eq, wipe_resting_stack, wipe_stack,
};
pub use shamir::{CombineError, Quorum, QuorumError, Share, ShareDigest, ShareParseError, ShareTag};
pub use siv::NameCipher;
/// A buffer that is wiped when it is dropped; re-exported so that every floor uses the same version.
pub use zeroize::Zeroizing;

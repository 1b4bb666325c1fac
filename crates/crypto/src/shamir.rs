//! Shamir's secret sharing over GF(256) (CACM 22(11), 1979): the seal key in parts, any `threshold` of which restore it.
//!
//! The arithmetic is the crate `sharks` (its maintained fork, blahaj; field polynomial 0x11d, x from 1 upwards). That crate checks little, so this file
//! stands before it. Always: a [`Quorum`] is one that makes sense; exactly `threshold` distinct, non-zero x enter an interpolation; every share has one length;
//! a share is wiped on drop.
//!
//! A combined key is not yet known to be the right one: shares carry no checksum of the secret (it would be a hint to who holds fewer than `threshold`).
//! The caller compares each share with its [`ShareDigest`] when it is entered, and opens something under the key before it trusts it.
//!
//! # Timing
//! `sharks` multiplies through log tables indexed by secret bytes and branches on zero, so its time depends on the secret through the CPU's cache. To observe
//! it, one must run code on the same physical core or its last-level cache *during* one of the few ceremonies of a cluster's life, and gets one noisy
//! trace of each. Who can do that on a node of this cluster is close to reading its memory. It is accepted until the share version changes
//! ([`SHARE_VERSION`] makes room for that); a reply's time is not affected, since a ceremony's reply waits for a raft commit or an AEAD check that dwarfs it.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::digest::Sha256;
use crate::rng::{CoreRng, Rng};
use crate::secret::{SealKey, constant_time_eq};

/// The first byte of a share: the scheme and its encoding.
pub const SHARE_VERSION: u8 = 1;
/// Bytes of a share: version, x, and one y for each byte of the key.
pub const SHARE_BYTES: usize = 2 + SealKey::LEN;
/// The most shares: x is one byte, and zero is the secret's own place.
pub const SHARES_MAX: u8 = 255;

/// Characters of a share in base64, padded; in base64, not padded; in hex.
const BASE64_CHARS: usize = 48;
const BASE64_CHARS_UNPADDED: usize = 46;
const HEX_CHARS: usize = 2 * SHARE_BYTES;
/// Bytes of a share of Vault and OpenBao, whose format is another: 44 characters of base64, 66 of hex.
const VAULT_SHARE_CHARS: [usize; 2] = [44, 66];

/// Accepts base64 with or without padding.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// How many shares there are, and how many of them are needed: `2 <= threshold <= shares <= 255`, or one of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quorum {
    shares: u8,
    threshold: u8,
}

/// Why two numbers are no [`Quorum`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// No shares at all, or more than fit one byte.
    #[error("{shares} shares were asked for (use 1 to {SHARES_MAX})")]
    Shares {
        /// How many were asked for.
        shares: u64,
    },
    /// No share would be needed.
    #[error("a threshold of 0 was asked for (use at least 2, or 1 share with threshold 1)")]
    ThresholdZero,
    /// Each share alone would be the key.
    #[error("with threshold 1 each of the {shares} shares alone is the key (use a threshold of at least 2, or 1 share)")]
    ThresholdOne {
        /// How many shares were asked for.
        shares: u64,
    },
    /// More are needed than exist.
    #[error("threshold {threshold} is more than the {shares} shares (use a threshold of 2 to {shares})")]
    ThresholdAboveShares {
        /// How many shares were asked for.
        shares: u64,
        /// The threshold that was asked for.
        threshold: u64,
    },
}

impl Quorum {
    /// Checks and keeps both numbers.
    pub fn new(shares: u64, threshold: u64) -> Result<Quorum, QuorumError> {
        let Ok(shares_byte @ 1..) = u8::try_from(shares) else {
            return Err(QuorumError::Shares { shares });
        };
        match u8::try_from(threshold) {
            Ok(0) => Err(QuorumError::ThresholdZero),
            Ok(1) if shares_byte > 1 => Err(QuorumError::ThresholdOne { shares }),
            Ok(threshold_byte) if threshold_byte <= shares_byte => Ok(Quorum { shares: shares_byte, threshold: threshold_byte }),
            _ => Err(QuorumError::ThresholdAboveShares { shares, threshold }),
        }
    }

    /// How many shares exist.
    pub fn shares(self) -> u8 {
        self.shares
    }

    /// How many of them restore the key.
    pub fn threshold(self) -> u8 {
        self.threshold
    }
}

/// One part of a seal key: version (1) ‖ x (1 to 255) ‖ 32 bytes of y. Wiped on drop; cannot be printed, cloned, compared or serialised.
///
/// ```compile_fail
/// fn printable(_: impl std::fmt::Debug) {}
/// printable(crypto::Share::parse_text("").unwrap_or_else(|_| panic!()));
/// ```
/// ```compile_fail
/// fn copy(share: &crypto::Share) -> crypto::Share { share.clone() }
/// ```
pub struct Share(Box<Zeroizing<[u8; SHARE_BYTES]>>);

/// Why a text or some bytes are no [`Share`]. Never holds a piece of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareParseError {
    /// Nothing but white space.
    #[error("the share is empty")]
    Empty,
    /// Too long or too short.
    #[error(
        "the share has {chars} characters (a whole one has {BASE64_CHARS} in base64, {BASE64_CHARS_UNPADDED} without its padding, or {HEX_CHARS} in hex)"
    )]
    Length {
        /// How many characters it has, white space at its ends left out.
        chars: usize,
    },
    /// As long as a share of Vault or OpenBao.
    #[error(
        "the share has {chars} characters, as those of Vault and OpenBao have (a share of this cluster has {BASE64_CHARS} in base64 or {HEX_CHARS} in hex)"
    )]
    Vault {
        /// How many characters it has.
        chars: usize,
    },
    /// As long as base64, but it is not.
    #[error("the share is no base64: look at character {position} (allowed are A-Z, a-z, 0-9, '+', '/', and '=' at the end)")]
    Base64 {
        /// Which character is wrong, from 1.
        position: usize,
    },
    /// As long as hex, but it is not.
    #[error("the share is no hex: look at character {position} (allowed are 0-9 and a-f)")]
    Hex {
        /// Which character is wrong, from 1.
        position: usize,
    },
    /// Not [`SHARE_BYTES`] bytes.
    #[error("the share has {bytes} bytes (a whole one has {SHARE_BYTES})")]
    Bytes {
        /// How many there are.
        bytes: usize,
    },
    /// Another version of the format, or not a share at all.
    #[error("the share's first byte is {version}, not {SHARE_VERSION}: it is mistyped, no share of Conclave, or from a newer version")]
    Version {
        /// Its first byte, which is not secret in a share.
        version: u8,
    },
    /// x is zero, where the secret itself would be.
    #[error("the share's number is 0, which no share has: it is mistyped or forged")]
    NumberZero,
}

impl Share {
    /// Takes a share's bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Share, ShareParseError> {
        let bytes: &[u8; SHARE_BYTES] = bytes.try_into().map_err(|_| ShareParseError::Bytes { bytes: bytes.len() })?;
        match *bytes {
            [version, ..] if version != SHARE_VERSION => Err(ShareParseError::Version { version }),
            [_, 0, ..] => Err(ShareParseError::NumberZero),
            _ => Ok(Share::copy_of(bytes)),
        }
    }

    /// Takes a share as people type it: base64 (standard alphabet, with or without padding) or hex, white space at its ends left out.
    pub fn parse_text(text: &str) -> Result<Share, ShareParseError> {
        let text = text.trim();
        // One byte to spare: the decoder may need room for what the padding hides.
        let mut bytes = Zeroizing::new([0; SHARE_BYTES + 2]);
        match text.chars().count() {
            0 => return Err(ShareParseError::Empty),
            BASE64_CHARS | BASE64_CHARS_UNPADDED => decode_base64(text, &mut *bytes)?,
            HEX_CHARS => decode_hex(text, &mut *bytes)?,
            chars if VAULT_SHARE_CHARS.contains(&chars) => return Err(ShareParseError::Vault { chars }),
            chars => return Err(ShareParseError::Length { chars }),
        }
        Share::from_bytes(&bytes[..SHARE_BYTES])
    }

    /// The share in base64 (standard, padded): 48 characters.
    pub fn to_base64(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(BASE64_CHARS));
        STANDARD.encode_string(self.0.as_slice(), &mut text);
        text
    }

    /// The share in lower-case hex: 68 characters.
    pub fn to_hex(&self) -> Zeroizing<String> {
        let mut digits = Zeroizing::new([0; HEX_CHARS]);
        hex::encode_to_slice(self.0.as_slice(), &mut *digits).expect("two digits for each byte");
        let mut text = Zeroizing::new(String::with_capacity(HEX_CHARS));
        text.push_str(std::str::from_utf8(&*digits).expect("hex digits are ASCII"));
        text
    }

    /// x: the share's number, 1 to 255. Not secret.
    pub fn number(&self) -> u8 {
        self.0[1]
    }

    /// Lends the bytes; each caller says why in an `// EXPOSE:` line.
    pub fn expose(&self) -> &[u8; SHARE_BYTES] {
        &self.0
    }

    /// A public digest of this share, by which a node knows a wrong share at once: SHA-256 of a label, `salt` and the share. A share holds 256 bits of
    /// entropy, so that its digest tells nothing.
    pub fn digest(&self, salt: &[u8; 16]) -> ShareDigest {
        let mut hash = Sha256::new();
        hash.update(b"conclave share digest v1");
        hash.update(salt);
        hash.update(&**self.0);
        ShareDigest(hash.finish())
    }

    fn new(number: u8, y: &[u8; SealKey::LEN]) -> Share {
        let mut share = Share(Box::new(Zeroizing::new([0; SHARE_BYTES])));
        share.0[0] = SHARE_VERSION;
        share.0[1] = number;
        share.0[2..].copy_from_slice(y);
        share
    }

    fn copy_of(bytes: &[u8; SHARE_BYTES]) -> Share {
        let mut share = Share(Box::new(Zeroizing::new([0; SHARE_BYTES])));
        share.0.copy_from_slice(bytes);
        share
    }
}

fn decode_base64(text: &str, bytes: &mut [u8]) -> Result<(), ShareParseError> {
    use base64::DecodeSliceError::{DecodeError, OutputSliceTooSmall};
    let last = text.chars().count();
    let position = match BASE64.decode_slice(text, bytes) {
        Ok(SHARE_BYTES) => return Ok(()),
        Ok(_) | Err(OutputSliceTooSmall) => last,
        Err(DecodeError(base64::DecodeError::InvalidByte(offset, _) | base64::DecodeError::InvalidLastSymbol(offset, _))) => {
            text.char_indices().take_while(|(start, _)| *start <= offset).count()
        }
        Err(DecodeError(_)) => last,
    };
    Err(ShareParseError::Base64 { position })
}

fn decode_hex(text: &str, bytes: &mut [u8]) -> Result<(), ShareParseError> {
    if let Some(wrong) = text.chars().position(|digit| !digit.is_ascii_hexdigit()) {
        return Err(ShareParseError::Hex { position: wrong + 1 });
    }
    hex::decode_to_slice(text, &mut bytes[..SHARE_BYTES]).expect("68 hex digits are 34 bytes");
    Ok(())
}

/// A salted digest of a share. Public; compared in constant time all the same.
#[derive(Debug, Clone, Copy)]
pub struct ShareDigest(pub [u8; 32]);

impl PartialEq for ShareDigest {
    fn eq(&self, other: &ShareDigest) -> bool {
        constant_time_eq(&self.0, &other.0)
    }
}

impl Eq for ShareDigest {}

/// Splits `key` into `quorum.shares()` parts, numbered from 1, any `quorum.threshold()` of which restore it.
///
/// Coefficients are uniform over all 256 values (RUSTSEC-2024-0398). One of one is the key itself. Cannot fail: a [`Quorum`] already holds what is needed.
pub fn split(key: &SealKey, quorum: Quorum, rng: &dyn Rng) -> Vec<Share> {
    // EXPOSE: the polynomials' constant terms are the key's bytes.
    let secret = key.expose();
    if quorum.shares == 1 {
        return vec![Share::new(1, secret)];
    }
    let mut rng = CoreRng::new(rng);
    sharks::Sharks(quorum.threshold)
        .dealer_rng(secret, &mut rng)
        .take(usize::from(quorum.shares))
        .map(|dealt| {
            let bytes = Zeroizing::new(Vec::from(&dealt));
            let (number, y) = bytes.split_first().expect("a dealt share begins with x");
            Share::new(*number, y.try_into().expect("one y for each byte of the key"))
        })
        .collect()
}

/// Why [`combine`] refused. Holds numbers of shares, never their content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CombineError {
    /// Too few shares, or more than are needed.
    #[error("{given} shares were given (exactly {needed} are needed)")]
    Count {
        /// How many were given.
        given: usize,
        /// The threshold.
        needed: u8,
    },
    /// Two shares have one number.
    #[error("share {number} was given twice (each share counts once)")]
    Duplicate {
        /// The number of both.
        number: u8,
    },
    /// A share's number is above the quorum's count of shares.
    #[error("share {number} was given, but there are only {shares}: it is from another split")]
    Foreign {
        /// The share's number.
        number: u8,
        /// How many shares this quorum has.
        shares: u8,
    },
}

/// Restores the key from exactly `quorum.threshold()` distinct shares.
///
/// A wrong share gives a wrong key, not an error: compare digests before, and open something under the key after (see the top of this file).
pub fn combine(shares: &[Share], quorum: Quorum) -> Result<SealKey, CombineError> {
    let mut seen = [false; 256];
    for share in shares {
        let number = share.number();
        if number > quorum.shares {
            return Err(CombineError::Foreign { number, shares: quorum.shares });
        }
        if std::mem::replace(&mut seen[usize::from(number)], true) {
            return Err(CombineError::Duplicate { number });
        }
    }
    if shares.len() != usize::from(quorum.threshold) {
        return Err(CombineError::Count { given: shares.len(), needed: quorum.threshold });
    }
    if let [only] = shares {
        return Ok(key_of(&only.0[2..]));
    }
    let dealt: Vec<sharks::Share> = shares
        .iter()
        // The version byte is ours; x and y are the crate's own encoding.
        .map(|share| sharks::Share::try_from(&share.0[1..]).expect("x and 32 bytes of y"))
        .collect();
    let secret = Zeroizing::new(sharks::Sharks(quorum.threshold).recover(&dealt).expect("enough distinct shares of one length"));
    Ok(key_of(&secret))
}

fn key_of(bytes: &[u8]) -> SealKey {
    SealKey::from_slice(bytes).expect("a share has one y for each byte of the key")
}

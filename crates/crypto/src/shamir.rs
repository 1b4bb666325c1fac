//! Shamir's secret sharing over GF(256) (CACM 22(11), 1979): the seal key in parts, any `threshold` of which restore it.
//!
//! The field has the polynomial 0x11d, x counts from 1 upwards: as the crate `sharks` (its maintained fork, blahaj), with which the tests
//! compare. Always: a [`Quorum`] is one that makes sense; exactly `threshold` distinct, non-zero x enter an interpolation; every share has
//! one length; a share is wiped on drop.
//!
//! A share says which cluster's it is ([`ShareTag`]) and carries a checksum of itself, so that a slip of the pen and a share of another
//! cluster are told apart where it is entered. It carries none of the secret (that would be a hint to who holds fewer than `threshold`), so a
//! combined key is not yet known to be the right one. The caller compares each share with its [`ShareDigest`] when it is entered, and opens
//! something under the key before it trusts it.
//!
//! # Timing
//! Neither splitting nor combining looks up a table or branches by a secret: secrets are only ever multiplied with numbers of shares, which are
//! public (`gf256.rs`, docs/adr/0012). `cargo run --release -p benches -- timing` measures it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::digest::Sha256;
use crate::gf256::{self, Elements};
use crate::rng::Rng;
use crate::secret::{SealKey, constant_time_eq, wipe_stack};

/// The first byte of a share: the scheme and its encoding.
pub const SHARE_VERSION: u8 = 2;
/// Bytes of a share: version, x, the cluster's tag, one y for each byte of the key, and the checksum of all before.
pub const SHARE_BYTES: usize = CHECKSUM_AT + CHECKSUM_BYTES;
const TAG_AT: usize = 2;
const TAG_BYTES: usize = 3;
const Y_AT: usize = TAG_AT + TAG_BYTES;
const CHECKSUM_AT: usize = Y_AT + SealKey::LEN;
const CHECKSUM_BYTES: usize = 2;
/// The most shares: x is one byte, and zero is the secret's own place.
pub const SHARES_MAX: u8 = 255;

/// Characters of a share in base64, which needs no padding; in hex.
const BASE64_CHARS: usize = 52;
const HEX_CHARS: usize = 2 * SHARE_BYTES;
/// Bytes of a share of Vault and OpenBao, whose format is another: 44 characters of base64, 66 of hex.
const VAULT_SHARE_CHARS: [usize; 2] = [44, 66];

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
/// ```compile_fail,E0277
/// fn printable(_: impl std::fmt::Debug) {}
/// fn share(share: crypto::Share) { printable(share) }
/// ```
/// ```compile_fail,E0599
/// fn copy(share: crypto::Share) -> crypto::Share { share.clone() }
/// ```
/// ```compile_fail,E0369
/// fn same(a: crypto::Share, b: crypto::Share) -> bool { a == b }
/// ```
/// ```compile_fail,E0277
/// fn serialisable(_: impl serde::Serialize) {}
/// fn share(share: crypto::Share) { serialisable(share) }
/// ```
pub struct Share(Box<Zeroizing<[u8; SHARE_BYTES]>>);

/// Why a text or some bytes are no [`Share`]. Never holds a piece of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareParseError {
    /// Nothing but white space.
    #[error("the share is empty")]
    Empty,
    /// Too long or too short.
    #[error("the share has {chars} characters (a whole one has {BASE64_CHARS} in base64, {HEX_CHARS} in hex)")]
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
    #[error("the share is no base64: look at character {position} (allowed are A-Z, a-z, 0-9, '+' and '/')")]
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
    /// Some character is another than it was.
    #[error("the share's checksum does not fit: it is mistyped somewhere")]
    Checksum,
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
            _ if checksum(bytes) != bytes[CHECKSUM_AT..] => Err(ShareParseError::Checksum),
            _ => Ok(Share::copy_of(bytes)),
        }
    }

    /// Takes a share as people type it: base64 (standard alphabet) or hex, white space at its ends left out.
    pub fn parse_text(text: &str) -> Result<Share, ShareParseError> {
        let text = text.trim();
        // One byte to spare: the decoder may need room for what the padding hides.
        let mut bytes = Zeroizing::new([0; SHARE_BYTES + 2]);
        match text.chars().count() {
            0 => return Err(ShareParseError::Empty),
            BASE64_CHARS => decode_base64(text, &mut *bytes)?,
            HEX_CHARS => decode_hex(text, &mut *bytes)?,
            chars if VAULT_SHARE_CHARS.contains(&chars) => return Err(ShareParseError::Vault { chars }),
            chars => return Err(ShareParseError::Length { chars }),
        }
        Share::from_bytes(&bytes[..SHARE_BYTES])
    }

    /// The share in base64 (standard): 52 characters.
    pub fn to_base64(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(BASE64_CHARS));
        STANDARD.encode_string(self.0.as_slice(), &mut text);
        text
    }

    /// The share in lower-case hex: 78 characters.
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

    /// Whose share it is, as it says itself. Not secret.
    pub fn tag(&self) -> ShareTag {
        ShareTag(self.0[TAG_AT..Y_AT].try_into().expect("the tag's place"))
    }

    /// Lends the bytes; each caller says why in an `// EXPOSE:` line.
    pub fn expose(&self) -> &[u8; SHARE_BYTES] {
        &self.0
    }

    /// A public digest of this share, by which a node knows a wrong share at once: SHA-256 of a label, `salt` and the share. A share holds
    /// 256 bits of entropy, so that its digest tells nothing.
    pub fn digest(&self, salt: &[u8; 16]) -> ShareDigest {
        let digest = hash(&[b"conclave share digest v1", salt, &**self.0]);
        wipe_stack();
        ShareDigest(digest)
    }

    fn with_y(number: u8, tag: ShareTag, write: impl FnOnce(&mut [u8; SealKey::LEN])) -> Share {
        let mut share = Share(Box::new(Zeroizing::new([0; SHARE_BYTES])));
        share.0[0] = SHARE_VERSION;
        share.0[1] = number;
        share.0[TAG_AT..Y_AT].copy_from_slice(&tag.0);
        write((&mut share.0[Y_AT..CHECKSUM_AT]).try_into().expect("the place of y"));
        let checksum = checksum(&share.0);
        share.0[CHECKSUM_AT..].copy_from_slice(&checksum);
        share
    }

    fn y(&self) -> &[u8; SealKey::LEN] {
        self.0[Y_AT..CHECKSUM_AT].try_into().expect("the place of y")
    }

    fn copy_of(bytes: &[u8; SHARE_BYTES]) -> Share {
        let mut share = Share(Box::new(Zeroizing::new([0; SHARE_BYTES])));
        share.0.copy_from_slice(bytes);
        share
    }
}

/// Over a share's bytes before the checksum: the first bytes of a SHA-256.
fn checksum(share: &[u8; SHARE_BYTES]) -> [u8; CHECKSUM_BYTES] {
    let [first, second, ..] = hash(&[b"conclave share checksum v1", &share[..CHECKSUM_AT]]);
    wipe_stack();
    [first, second]
}

/// Keeps what it hashes in its frames: the caller wipes them.
#[inline(never)]
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finish()
}

/// Three bytes by which a share says whose it is: of 16 million clusters no two need look alike. Public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareTag([u8; TAG_BYTES]);

impl ShareTag {
    /// The tag of whatever `identity` names: a cluster's id.
    pub fn of(identity: &[u8]) -> ShareTag {
        let mut hash = Sha256::new();
        hash.update(b"conclave share tag v1");
        hash.update(identity);
        let [first, second, third, ..] = hash.finish();
        ShareTag([first, second, third])
    }
}

fn decode_base64(text: &str, bytes: &mut [u8]) -> Result<(), ShareParseError> {
    use base64::DecodeSliceError::{DecodeError, OutputSliceTooSmall};
    let last = text.chars().count();
    let position = match STANDARD.decode_slice(text, bytes) {
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
    hex::decode_to_slice(text, &mut bytes[..SHARE_BYTES]).expect("78 hex digits are 39 bytes");
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

/// Splits `key` into `quorum.shares()` parts, numbered from 1 and marked with `tag`, any `quorum.threshold()` of which restore it.
///
/// Coefficients are uniform over all 256 values (RUSTSEC-2024-0398). One of one is the key itself, a polynomial of degree zero. Cannot fail: a
/// [`Quorum`] already holds what is needed.
pub fn split(key: &SealKey, quorum: Quorum, tag: ShareTag, rng: &dyn Rng) -> Vec<Share> {
    let dealt = (1..=quorum.shares).zip(deal(key, quorum, rng));
    let shares = dealt.map(|(number, y)| Share::with_y(number, tag, |bytes| y.write_to(bytes))).collect();
    wipe_stack();
    shares
}

/// The y of each share, in order: a random polynomial for each byte of the key, at 1, 2, …
fn deal(key: &SealKey, quorum: Quorum, rng: &dyn Rng) -> impl Iterator<Item = Elements> {
    // The highest coefficients first; the constant term is the key's byte.
    let mut coefficients = Vec::with_capacity(usize::from(quorum.threshold));
    for _ in 1..quorum.threshold {
        let mut drawn = Zeroizing::new([0; SealKey::LEN]);
        rng.fill(&mut *drawn);
        coefficients.push(drawn);
    }
    // EXPOSE: the polynomials' constant terms are the key's bytes.
    coefficients.push(Zeroizing::new(*key.expose()));
    (1..=quorum.shares).map(move |number| {
        // By Horner's rule.
        let mut y = Elements::zero();
        for coefficient in &coefficients {
            y.scale(number);
            y.add(coefficient);
        }
        y
    })
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
/// A wrong share gives a wrong key, not an error: compare digests before, and open something under the key after (see the top of this
/// file).
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
    let mut key = Elements::zero();
    for share in shares {
        key.add_multiple(weight(share.number(), shares), share.y());
    }
    let combined = SealKey::with_bytes(|bytes| key.write_to(bytes));
    drop(key);
    wipe_stack();
    Ok(combined)
}

/// By Lagrange's interpolation at zero: how much the share with this number counts among `shares`. Public.
fn weight(number: u8, shares: &[Share]) -> u8 {
    shares.iter().map(Share::number).filter(|other| *other != number).fold(1, |weight, other| {
        // x_other / (x_other - x_number): subtraction is XOR, and distinct numbers have an inverse.
        gf256::multiply(weight, gf256::multiply(other, gf256::inverse(other ^ number)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::{CoreRng, Rng, SeededRng};

    /// Multiplication in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1, bit by bit: no table, nothing shared with the crate under test.
    fn times(mut a: u8, mut b: u8) -> u8 {
        let mut product = 0;
        while b != 0 {
            if b & 1 == 1 {
                product ^= a;
            }
            a = (a << 1) ^ if a & 0x80 == 0 { 0 } else { 0x1d };
            b >>= 1;
        }
        product
    }

    /// a^254, which is a's inverse.
    fn inverse(a: u8) -> u8 {
        (0..254).fold(1, |power, _| times(power, a))
    }

    /// The polynomial with `coefficients` (constant term first) at x, by Horner's rule.
    fn evaluate(coefficients: &[u8], x: u8) -> u8 {
        coefficients.iter().rev().fold(0, |sum, &coefficient| times(sum, x) ^ coefficient)
    }

    /// Lagrange's interpolation at `at` through `points`.
    fn interpolate(points: &[(u8, u8)], at: u8) -> u8 {
        points.iter().fold(0, |sum, &(x, y)| {
            let others = points.iter().filter(|other| other.0 != x);
            sum ^ others.fold(y, |term, other| times(term, times(at ^ other.0, inverse(x ^ other.0))))
        })
    }

    fn key(byte: u8) -> SealKey {
        SealKey::from_slice(&std::array::from_fn::<u8, 32, _>(|i| byte ^ i as u8)).unwrap()
    }

    fn share(number: u8, y: [u8; 32]) -> Share {
        Share::with_y(number, tag(), |bytes| bytes.copy_from_slice(&y))
    }

    fn copies(shares: &[Share], picks: &[usize]) -> Vec<Share> {
        picks.iter().map(|&pick| Share::copy_of(shares[pick].expose())).collect()
    }

    fn tag() -> ShareTag {
        ShareTag::of(b"a cluster")
    }

    fn quorum(shares: u64, threshold: u64) -> Quorum {
        Quorum::new(shares, threshold).unwrap()
    }

    fn rng() -> SeededRng {
        SeededRng::dangerous_from_seed(1)
    }

    /// Worked by hand: 3x² + 2x + 5 is 4 at 1, 3·4 + 2·2 + 5 = 13 at 2, and 2·0x80 = 0x11d − 0x100 = 0x1d.
    #[test]
    fn the_field_of_these_tests_is_the_stated_one() {
        assert_eq!((evaluate(&[5, 2, 3], 1), evaluate(&[5, 2, 3], 2), times(2, 0x80)), (4, 13, 0x1d));
        assert!((1..=255).all(|a| times(a, inverse(a)) == 1));
    }

    #[test]
    fn a_split_made_elsewhere_in_the_same_field_combines() {
        // One polynomial of degree 3 for each byte, from an arithmetic pattern that includes zero coefficients.
        let coefficients: [[u8; 4]; 32] = std::array::from_fn(|i| std::array::from_fn(|j| (i * 29 + j * 83 + i * j * 7) as u8));
        let at = |x: u8| share(x, coefficients.map(|polynomial| evaluate(&polynomial, x)));
        let secret = coefficients.map(|polynomial| polynomial[0]);
        for numbers in [[1, 2, 3, 4], [4, 3, 2, 1], [255, 1, 128, 77]] {
            assert_eq!(combine(&numbers.map(at), quorum(255, 4)).unwrap().expose(), &secret, "{numbers:?}");
        }
    }

    #[test]
    fn our_split_combines_elsewhere_and_every_share_is_on_the_polynomial() {
        let shares = split(&key(0xa5), quorum(7, 3), tag(), &rng());
        for byte in 0..32 {
            let points: Vec<(u8, u8)> = shares.iter().map(|share| (share.number(), share.y()[byte])).collect();
            assert_eq!(interpolate(&points[2..5], 0), key(0xa5).expose()[byte]);
            for &(x, y) in &points {
                assert_eq!(interpolate(&points[..3], x), y);
            }
        }
        assert_eq!(shares.iter().map(Share::number).collect::<Vec<u8>>(), [1, 2, 3, 4, 5, 6, 7]);
    }

    /// The crate `sharks` has the same field and the same numbers, in an arithmetic of its own.
    #[test]
    fn our_shares_combine_in_sharks_and_theirs_here() {
        let rng = rng();
        for (shares, threshold) in [(2, 2), (5, 3), (9, 9), (255, 40)] {
            let quorum = quorum(shares, threshold);
            let secret = SealKey::generate(&rng);
            let ours: Vec<sharks::Share> = split(&secret, quorum, tag(), &rng)
                .iter()
                .rev()
                .take(usize::from(quorum.threshold()))
                .map(|share| sharks::Share::try_from(&[&[share.number()], &share.y()[..]].concat()[..]).unwrap())
                .collect();
            assert_eq!(sharks::Sharks(quorum.threshold()).recover(&ours).unwrap(), secret.expose(), "{shares}, {threshold}");

            let theirs: Vec<Share> = sharks::Sharks(quorum.threshold())
                .dealer_rng(secret.expose(), &mut CoreRng(&rng))
                .take(usize::from(quorum.threshold()))
                .map(|dealt| Vec::from(&dealt))
                .map(|dealt| share(dealt[0], dealt[1..].try_into().unwrap()))
                .collect();
            assert_eq!(combine(&theirs, quorum).unwrap().expose(), secret.expose(), "{shares}, {threshold}");
        }
    }

    /// Reference T10: no x is zero and none is there twice, for every number of shares.
    #[test]
    fn numbers_count_from_one_and_each_is_there_once() {
        let rng = rng();
        for shares in 2..=255 {
            let numbers: Vec<u8> = split(&key(1), quorum(shares, 2), tag(), &rng).iter().map(Share::number).collect();
            assert_eq!(numbers, (1..=u8::try_from(shares).unwrap()).collect::<Vec<u8>>());
        }
    }

    #[test]
    fn golden_share() {
        let golden = "AgHyBskAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eH29H";
        let [only] = &split(&key(0), quorum(1, 1), tag(), &rng())[..] else { panic!("one share") };
        assert_eq!(*only.to_base64(), golden);
        assert_eq!(*only.to_hex(), "0201f206c9000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f6f47");
        assert_eq!(combine(&[Share::parse_text(golden).unwrap()], quorum(1, 1)).unwrap().expose(), key(0).expose());
    }

    /// Defect (a) of the crate: a duplicate cancels out, and the wrong secret comes back as if it were right.
    #[test]
    fn a_share_given_twice_is_refused() {
        let shares = split(&key(1), quorum(5, 3), tag(), &rng());
        for picks in [&[0, 1, 2, 2][..], &[0, 1, 1], &[0, 0, 0]] {
            let refusal = combine(&copies(&shares, picks), quorum(5, 3)).err();
            assert!(matches!(refusal, Some(CombineError::Duplicate { .. })), "{picks:?}: {refusal:?}");
        }
        let mut forged = copies(&shares, &[0, 1, 1]);
        forged[2].0[Y_AT] ^= 1;
        assert_eq!(combine(&forged, quorum(5, 3)).err(), Some(CombineError::Duplicate { number: 2 }), "one number, two contents");
    }

    /// Defect (b): a share at x = 0 is the answer, so whoever brings one chooses it.
    #[test]
    fn a_share_at_zero_cannot_be_made() {
        let bytes = *share(0, [7; 32]).expose();
        assert_eq!(Share::from_bytes(&bytes).err(), Some(ShareParseError::NumberZero));
        assert_eq!(Share::parse_text(&STANDARD.encode(bytes)).err(), Some(ShareParseError::NumberZero));
        assert_eq!(Share::parse_text(&hex::encode(bytes)).err(), Some(ShareParseError::NumberZero));
        assert!(split(&key(1), quorum(255, 2), tag(), &rng()).iter().all(|share| share.number() != 0));
    }

    /// Defect (c): with a threshold of 0 or 1 every share is the plaintext.
    #[test]
    fn a_threshold_that_protects_nothing_is_refused() {
        use QuorumError::*;
        for (shares, threshold, want) in [
            (1, 1, Ok((1, 1))),
            (2, 2, Ok((2, 2))),
            (5, 3, Ok((5, 3))),
            (255, 2, Ok((255, 2))),
            (255, 255, Ok((255, 255))),
            (0, 0, Err(Shares { shares: 0 })),
            (0, 1, Err(Shares { shares: 0 })),
            (256, 3, Err(Shares { shares: 256 })),
            (u64::MAX, u64::MAX, Err(Shares { shares: u64::MAX })),
            (1, 0, Err(ThresholdZero)),
            (5, 0, Err(ThresholdZero)),
            (2, 1, Err(ThresholdOne { shares: 2 })),
            (255, 1, Err(ThresholdOne { shares: 255 })),
            (1, 2, Err(ThresholdAboveShares { shares: 1, threshold: 2 })),
            (5, 6, Err(ThresholdAboveShares { shares: 5, threshold: 6 })),
            (5, 256 + 3, Err(ThresholdAboveShares { shares: 5, threshold: 259 })),
        ] {
            assert_eq!(Quorum::new(shares, threshold).map(|quorum| (quorum.shares(), quorum.threshold())), want, "{shares}, {threshold}");
        }
        let secret = key(1);
        for share in split(&secret, quorum(255, 2), tag(), &rng()) {
            assert_ne!(share.y(), secret.expose(), "share {}", share.number());
        }
    }

    /// Defect (d): an empty secret, or shares of another length. The types leave no way to say either.
    #[test]
    fn a_share_of_another_length_is_refused() {
        let whole = [&share(1, [7; 32]).expose()[..], &[7; 32]].concat();
        for len in (0..whole.len()).filter(|&len| len != SHARE_BYTES) {
            assert_eq!(Share::from_bytes(&whole[..len]).err(), Some(ShareParseError::Bytes { bytes: len }));
            assert!(Share::parse_text(&hex::encode(&whole[..len])).is_err(), "{len} bytes of hex");
            assert!(Share::parse_text(&STANDARD.encode(&whole[..len])).is_err(), "{len} bytes of base64");
        }
        assert!(Share::from_bytes(&whole[..SHARE_BYTES]).is_ok());
    }

    /// RUSTSEC-2024-0398: a coefficient that is never zero means that a share never equals the secret, which after some hundred splits
    /// gives it away.
    #[test]
    fn coefficients_are_zero_as_often_as_anything_else() {
        let (secret, rng, mut zeros) = (key(1), rng(), 0);
        for _ in 0..2_000 {
            // One coefficient: a share at 1 is the secret plus it.
            let shares = split(&secret, quorum(2, 2), tag(), &rng);
            zeros += shares[0].y().iter().zip(secret.expose()).filter(|(y, secret)| y == secret).count();
        }
        // 64 000 bytes, 250 zeros expected, standard deviation 15.8.
        assert!((187..=313).contains(&zeros), "{zeros} zero coefficients");
    }

    /// For 255 degrees of freedom the statistic has mean 255 and deviation 22.6; 370 is passed once in a million.
    const CHI_SQUARE_MAX: f64 = 370.0;

    /// How far counts of bytes are from those of uniform ones (Pearson's test).
    fn chi_square(counts: &[u32; 256]) -> f64 {
        let expected = f64::from(counts.iter().sum::<u32>()) / 256.0;
        counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum()
    }

    /// Below the threshold every secret is as likely as before (reference T4): whatever the secret, a share and any mix of two shares are
    /// uniform, and so is what two shares and a guess at the third make of the secret.
    #[test]
    fn fewer_shares_than_the_threshold_tell_nothing() {
        const SPLITS: usize = 100_000;
        let rng = rng();
        // What shares 1 and 3, and a third share at 4 that is guessed to be zero, count for in the secret.
        let weights = [interpolate(&[(1, 1), (3, 0), (4, 0)], 0), interpolate(&[(1, 0), (3, 1), (4, 0)], 0)];
        for secret in [0x00, 0xff] {
            let secret = SealKey::from_slice(&[secret; 32]).unwrap();
            let mut counts = [[0_u32; 256]; 5];
            for _ in 0..SPLITS / 2 {
                let mut y = [[0; 32]; 3];
                deal(&secret, quorum(3, 3), &rng).zip(&mut y).for_each(|(dealt, y)| dealt.write_to(y));
                let [first, _, third] = y.map(|y| y[0]);
                let mixed = times(first, 3) ^ times(third, 7);
                let guessed = times(first, weights[0]) ^ times(third, weights[1]);
                for (mix, value) in [first, third, first ^ third, mixed, guessed].into_iter().enumerate() {
                    counts[mix][usize::from(value)] += 1;
                }
            }
            for (mix, counts) in counts.iter().enumerate() {
                let found = chi_square(counts);
                assert!(found < CHI_SQUARE_MAX, "mix {mix}: {found}");
            }
        }
    }

    /// Never draws a zero: what the original `sharks` did.
    struct NeverZero(SeededRng);

    impl Rng for NeverZero {
        fn fill(&self, bytes: &mut [u8]) {
            self.0.fill(bytes);
            for byte in bytes {
                while *byte == 0 {
                    self.0.fill(std::slice::from_mut(byte));
                }
            }
        }
    }

    /// Draws one of 256 values a little too often.
    struct Biased(SeededRng);

    impl Rng for Biased {
        fn fill(&self, bytes: &mut [u8]) {
            self.0.fill(bytes);
            for byte in bytes {
                let coins: [u8; 1] = crate::rng::generate_bytes(&self.0);
                // 2 % of all.
                *byte = if coins[0] < 5 { 0x42 } else { *byte };
            }
        }
    }

    /// The test above can fail: with generators that are only a little wrong, it does.
    #[test]
    fn a_generator_that_is_a_little_wrong_shows() {
        let statistic = |rng: &dyn Rng| {
            let mut counts = [0_u32; 256];
            for _ in 0..100_000 / 32 {
                for y in split(&key(0), quorum(2, 2), tag(), rng)[0].y().iter().zip(key(0).expose()).map(|(y, secret)| y ^ secret) {
                    counts[usize::from(y)] += 1;
                }
            }
            chi_square(&counts)
        };
        let good = statistic(&rng());
        assert!(good < CHI_SQUARE_MAX, "{good}");
        for (what, rng) in [("no zero", &NeverZero(rng()) as &dyn Rng), ("one value too often", &Biased(rng()))] {
            let found = statistic(rng);
            assert!(found > CHI_SQUARE_MAX, "{what}: {found}");
        }
    }

    #[test]
    fn only_the_exact_count_of_shares_is_taken() {
        let shares = split(&key(1), quorum(5, 3), tag(), &rng());
        for given in [0, 1, 2, 4, 5] {
            let picks: Vec<usize> = (0..given).collect();
            assert_eq!(combine(&copies(&shares, &picks), quorum(5, 3)).err(), Some(CombineError::Count { given, needed: 3 }));
        }
        let foreign = split(&key(1), quorum(9, 3), tag(), &rng());
        assert_eq!(combine(&copies(&foreign, &[0, 1, 8]), quorum(5, 3)).err(), Some(CombineError::Foreign { number: 9, shares: 5 }));
    }

    #[test]
    fn mixed_or_changed_shares_give_neither_key_and_are_known_by_their_digest() {
        let (first, second, rng) = (key(1), key(2), rng());
        let (ours, theirs) = (split(&first, quorum(5, 3), tag(), &rng), split(&second, quorum(5, 3), tag(), &rng));
        let salt = [9; 16];
        let digests: Vec<ShareDigest> = ours.iter().map(|share| share.digest(&salt)).collect();
        assert!(ours.iter().all(|share| digests.contains(&share.digest(&salt))));
        assert!(theirs.iter().all(|share| !digests.contains(&share.digest(&salt))));
        let mut mixed = copies(&ours, &[0, 1]);
        mixed.extend(copies(&theirs, &[2]));
        let made = combine(&mixed, quorum(5, 3)).unwrap();
        assert!(made.expose() != first.expose() && made.expose() != second.expose());
    }

    #[test]
    fn a_share_says_whose_it_is_and_a_slip_is_noticed() {
        let whole = share(3, [7; 32]);
        assert_eq!(whole.tag(), tag());
        assert_ne!(ShareTag::of(b"another cluster"), tag());
        let mut noticed = 0;
        for byte in 0..SHARE_BYTES {
            for flip in 1..=255 {
                let mut bytes = *whole.expose();
                bytes[byte] ^= flip;
                noticed += usize::from(Share::from_bytes(&bytes).is_err());
            }
        }
        // One slip in 65 536 stays unnoticed by 16 bits of checksum, and is caught by the digest.
        assert!(noticed >= SHARE_BYTES * 255 - 2, "{noticed}");
    }

    #[test]
    fn a_digest_depends_on_the_salt_and_every_bit_of_the_share() {
        let whole = share(3, [7; 32]);
        let digest = whole.digest(&[1; 16]);
        assert_eq!(digest, Share::copy_of(whole.expose()).digest(&[1; 16]));
        assert_ne!(digest, whole.digest(&[2; 16]));
        for bit in 0..SHARE_BYTES * 8 {
            let mut bytes = *whole.expose();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(digest, Share::copy_of(&bytes).digest(&[1; 16]), "bit {bit}");
        }
        let by_hand = crate::digest::sha256(&[&b"conclave share digest v1"[..], &[1; 16], whole.expose()].concat());
        assert_eq!(digest.0, by_hand);
    }

    #[test]
    fn what_people_type_is_read_or_refused_with_a_reason() {
        use ShareParseError::*;
        let whole = share(3, std::array::from_fn(|i| 0xf0 ^ i as u8));
        let (base64, hex) = (whole.to_base64(), whole.to_hex());
        let reads: [String; 5] =
            [base64.to_string(), hex.to_string(), hex.to_uppercase(), format!(" \t{}\r\n", *base64), format!("\u{a0}{}\n", *hex)];
        for text in reads {
            assert_eq!(Share::parse_text(&text).unwrap().expose(), whole.expose(), "{text}");
        }
        let with =
            |text: &str, at: usize, other: char| text.chars().enumerate().map(|(i, c)| if i == at { other } else { c }).collect::<String>();
        for (text, want) in [
            (String::new(), Empty),
            (" \n\t".to_owned(), Empty),
            (base64[..51].to_owned(), Length { chars: 51 }),
            (hex[..77].to_owned(), Length { chars: 77 }),
            ("x".repeat(10_000), Length { chars: 10_000 }),
            ("A".repeat(44), Vault { chars: 44 }),
            ("0".repeat(66), Vault { chars: 66 }),
            (with(&base64, 9, '-'), Base64 { position: 10 }),
            (with(&base64, 0, 'é'), Base64 { position: 1 }),
            (with(&base64, 30, '\u{1f511}'), Base64 { position: 31 }),
            (with(&base64, 20, '='), Base64 { position: 21 }),
            (with(&base64, 51, '='), Base64 { position: 52 }),
            (with(&base64, 30, if base64.as_bytes()[30] == b'A' { 'B' } else { 'A' }), Checksum),
            (with(&hex, 40, if hex.as_bytes()[40] == b'0' { '1' } else { '0' }), Checksum),
            (with(&hex, 77, 'g'), Hex { position: 78 }),
            (with(&hex, 3, '\u{1f511}'), Hex { position: 4 }),
            (with(&hex, 1, '1'), Version { version: 1 }),
            (with(&with(&hex, 1, '0'), 0, '0'), Version { version: 0 }),
        ] {
            let error = Share::parse_text(&text).err().unwrap_or_else(|| panic!("{text} was read"));
            assert_eq!(error, want, "{text}");
            let told = error.to_string();
            assert!(
                text.len() < 16 || !text.as_bytes().windows(8).any(|part| told.as_bytes().windows(8).any(|said| said == part)),
                "{told}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_threshold_of_shares_in_any_order_restores_the_key(
            bytes in any::<[u8; 32]>(),
            seed in any::<u64>(),
            (shares, threshold, order) in (2..=20_usize).prop_flat_map(|n| (Just(n), 2..=n, Just((0..n).collect::<Vec<_>>()).prop_shuffle())),
        ) {
            let quorum = quorum(shares as u64, threshold as u64);
            let dealt = split(&SealKey::from_slice(&bytes).unwrap(), quorum, tag(), &SeededRng::dangerous_from_seed(seed));
            prop_assert_eq!(dealt.len(), shares);
            let made = combine(&copies(&dealt, &order[..threshold]), quorum).unwrap();
            prop_assert_eq!(made.expose(), &bytes);
        }

        #[test]
        fn text_is_read_back(number in 1..=255_u8, y in any::<[u8; 32]>()) {
            let whole = share(number, y);
            for text in [whole.to_base64(), whole.to_hex()] {
                let read = Share::parse_text(&text).unwrap();
                prop_assert_eq!(read.expose(), whole.expose());
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}", typed in "[A-Za-z0-9+/=]{52}|[0-9a-g]{78}") {
            let _ = Share::parse_text(&text);
            let _ = Share::parse_text(&typed);
        }
    }

    #[test]
    fn the_largest_quorum_works() {
        let shares = split(&key(1), quorum(255, 255), tag(), &rng());
        assert_eq!(combine(&shares, quorum(255, 255)).unwrap().expose(), key(1).expose());
    }
}

//! age: encrypts to an X25519 recipient in the format age-encryption.org/v1 (the C2SP specification "age").
//!
//! A file is a header (a version line, one stanza for each recipient, a MAC) and a payload of encrypted chunks. Here there is always one stanza
//! and one chunk, and everything is encrypted in place, in a buffer of its final size. The crate `age` does all of the format, but keeps the
//! plaintext in a buffer that it does not wipe, and brings some forty crates for languages, passwords and plugins that are not needed.
//!
//! Always: a [`Key`] is a point of more than low order. Knows nothing of other kinds of recipients, and cannot decrypt.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use crypto::{Rng, Zeroizing};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::hmac;
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

use crate::{AgeTextError, RecipientError};

/// What a recipient begins with, before Bech32's separator.
const PREFIX: &str = "age";
/// Characters of a recipient: prefix, separator, 32 bytes in groups of five bits, and the checksum.
const CHARS: usize = 3 + 1 + DATA_CHARS + CHECKSUM_CHARS;
const DATA_CHARS: usize = 52;
const CHECKSUM_CHARS: usize = 6;
/// Bech32's digits (BIP 173).
const DIGITS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

const POINT_BYTES: usize = 32;
const FILE_KEY_BYTES: usize = 16;
const PAYLOAD_NONCE_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// The nonce of the only chunk: counter 0, and the flag of the last one.
const LAST_CHUNK: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// An X25519 public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key([u8; POINT_BYTES]);

impl Key {
    pub(crate) fn parse(text: &str) -> Result<Key, RecipientError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(RecipientError::Empty);
        }
        let begins = |prefix: &str| text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        if begins("age-secret-key-") || begins("age-plugin-") {
            return Err(RecipientError::PrivateKey);
        }
        if let Some(kind) = other_kind(text) {
            return Err(RecipientError::AgeKind { kind });
        }
        let key = decode(text).map_err(|why| RecipientError::Age { why })?;
        // Every scalar that X25519 takes is a multiple of eight, and so all points of low order go to zero, whatever it is.
        if x25519(X25519_BASEPOINT_BYTES, key) == [0; POINT_BYTES] {
            return Err(RecipientError::Age { why: AgeTextError::LowOrder });
        }
        Ok(Key(key))
    }

    /// The whole file.
    pub(crate) fn encrypt(&self, secret: &[u8], rng: &dyn Rng) -> Vec<u8> {
        let mut file_key = Zeroizing::new([0; FILE_KEY_BYTES]);
        rng.fill(&mut *file_key);
        let mut file = format!("age-encryption.org/v1\n{}---", self.stanza(&file_key, rng)).into_bytes();
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*derive(&[], &*file_key, b"header")), &file);

        let mut nonce = [0; PAYLOAD_NONCE_BYTES];
        rng.fill(&mut nonce);
        file.extend_from_slice(format!(" {}\n", STANDARD_NO_PAD.encode(mac)).as_bytes());
        file.extend_from_slice(&nonce);
        let chunk = seal(&derive(&nonce, &*file_key, b"payload"), LAST_CHUNK, secret);
        file.extend_from_slice(&chunk);
        file
    }

    /// The file key for this recipient: `-> X25519 <ephemeral public key>` and the sealed key, each in base64 on a line.
    fn stanza(&self, file_key: &[u8; FILE_KEY_BYTES], rng: &dyn Rng) -> String {
        let mut scalar = Zeroizing::new([0; POINT_BYTES]);
        rng.fill(&mut *scalar);
        let ephemeral = x25519(*scalar, X25519_BASEPOINT_BYTES);
        let shared = Zeroizing::new(x25519(*scalar, self.0));
        let mut salt = [0; 2 * POINT_BYTES];
        salt[..POINT_BYTES].copy_from_slice(&ephemeral);
        salt[POINT_BYTES..].copy_from_slice(&self.0);
        // Of one use, so that its nonce may be zero.
        let sealed = seal(&derive(&salt, &*shared, b"age-encryption.org/v1/X25519"), [0; 12], file_key);
        format!("-> X25519 {}\n{}\n", STANDARD_NO_PAD.encode(ephemeral), STANDARD_NO_PAD.encode(sealed))
    }
}

/// HKDF-SHA256 (RFC 5869).
fn derive(salt: &[u8], secret: &[u8], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let extracted = Salt::new(HKDF_SHA256, salt).extract(secret);
    let info = [info];
    let expanded = extracted.expand(&info, HKDF_SHA256).expect("32 bytes are fewer than HKDF's limit");
    expanded.fill(&mut *key).expect("the length is the one asked for");
    key
}

/// ChaCha20-Poly1305 (RFC 8439), in place: `plaintext` is copied once, and that copy encrypted.
fn seal(key: &[u8; 32], nonce: [u8; 12], plaintext: &[u8]) -> Vec<u8> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("ChaCha20 takes 32 bytes"));
    let mut sealed = Vec::with_capacity(plaintext.len() + TAG_BYTES);
    sealed.extend_from_slice(plaintext);
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
        .expect("a secret is far shorter than ChaCha20's limit");
    sealed.extend_from_slice(tag.as_ref());
    sealed
}

/// Names the kind of a recipient that age or a plugin knows, and we do not: `age1name1…`, and SSH's public keys.
fn other_kind(text: &str) -> Option<String> {
    if text.starts_with("ssh-") {
        return Some(text.split_whitespace().next().unwrap_or(text).chars().take(20).collect());
    }
    // Bech32's separator is the last `1`, and its digits have none.
    let (name, _) = text.strip_prefix("age1")?.rsplit_once('1')?;
    let is_name = !name.is_empty() && name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte));
    is_name.then(|| name.to_owned())
}

/// Bech32 (BIP 173), without its limit of 90 characters, which does not matter here.
fn decode(text: &str) -> Result<[u8; POINT_BYTES], AgeTextError> {
    let chars = text.chars().count();
    let Some(digits) = text.strip_prefix("age1") else {
        return Err(AgeTextError::Prefix);
    };
    let mut values = Vec::with_capacity(DATA_CHARS + CHECKSUM_CHARS);
    for (at, character) in digits.chars().take(DATA_CHARS + CHECKSUM_CHARS).enumerate() {
        let value = DIGITS.iter().position(|digit| char::from(*digit) == character);
        let value = value.ok_or(AgeTextError::Character { position: PREFIX.len() + 2 + at })?;
        values.push(u8::try_from(value).expect("there are 32 digits"));
    }
    if chars != CHARS {
        return Err(AgeTextError::Length { chars });
    }
    if polymod(expanded_prefix().chain(values.iter().copied())) != 1 {
        return Err(AgeTextError::Checksum);
    }
    let mut bytes = [0; POINT_BYTES];
    let (mut held, mut bits, mut filled) = (0_u32, 0, 0);
    for value in &values[..DATA_CHARS] {
        held = held << 5 | u32::from(*value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes[filled] = (held >> bits) as u8;
            held &= (1 << bits) - 1;
            filled += 1;
        }
    }
    // Four bits are left over, and mean nothing: one text for one key.
    if held == 0 { Ok(bytes) } else { Err(AgeTextError::Checksum) }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values = Vec::with_capacity(DATA_CHARS + CHECKSUM_CHARS);
        let (mut held, mut bits) = (0_u32, 0);
        for byte in self.0 {
            held = held << 8 | u32::from(byte);
            bits += 8;
            while bits >= 5 {
                bits -= 5;
                values.push((held >> bits) as u8 & 31);
                held &= (1 << bits) - 1;
            }
        }
        values.push((held << (5 - bits)) as u8);
        let checksum = polymod(expanded_prefix().chain(values.iter().copied()).chain([0; CHECKSUM_CHARS])) ^ 1;
        values.extend((0..CHECKSUM_CHARS).map(|at| (checksum >> (5 * (CHECKSUM_CHARS - 1 - at))) as u8 & 31));
        let text: String = values.iter().map(|value| char::from(DIGITS[usize::from(*value)])).collect();
        write!(f, "{PREFIX}1{text}")
    }
}

fn expanded_prefix() -> impl Iterator<Item = u8> {
    let bytes = PREFIX.bytes();
    bytes.clone().map(|byte| byte >> 5).chain([0]).chain(bytes.map(|byte| byte & 31))
}

/// The remainder of Bech32's code.
fn polymod(values: impl Iterator<Item = u8>) -> u32 {
    const GENERATORS: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    values.fold(1, |checksum, value| {
        let top = checksum >> 25;
        let shifted = (checksum & 0x01ff_ffff) << 5 ^ u32::from(value);
        GENERATORS.iter().enumerate().filter(|(bit, _)| top >> bit & 1 == 1).fold(shifted, |sum, (_, generator)| sum ^ generator)
    })
}

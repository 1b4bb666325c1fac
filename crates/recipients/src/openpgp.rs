//! OpenPGP: reads one public key, chooses the subkey that encrypts, and makes a message for it.
//!
//! The packets, the signatures and the public-key operations are rPGP's (RFC 9580). What it leaves to its callers is here: what is one public
//! key and nothing else, which signatures count, what is revoked or expired, which subkey is meant. The message is put together from its parts
//! as well, since rPGP's own builder leaves the plaintext behind in buffers; here it is in one, which is wiped.
//!
//! Always: a [`Key`] is of version 4 and certified by itself; its encrypting part is bound to it, of a supported algorithm, and was neither
//! revoked nor expired when it was read. Signatures of others, and packets that are not of a key, say nothing. Knows no private keys.

mod frame;

use std::borrow::Cow;

use base64::Engine as _;
use crypto::{Rng, SeededRng, Zeroizing};
use pgp::composed::{Deserializable as _, RawSessionKey, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::crypto::sym::SymmetricKeyAlgorithm;
use pgp::packet::{
    PacketTrait as _, PublicKey, PublicKeyEncryptedSessionKey, PublicSubkey, Signature, SignatureType, SubpacketData,
    SymEncryptedProtectedData,
};
use pgp::ser::Serialize as _;
use pgp::types::{EncryptionKey, KeyDetails, KeyVersion, PublicParams, SignedUser, Tag};
use types::Timestamp;

use crate::armor;
use crate::{KEY_BYTES_MAX, RecipientError, SIGNATURES_MAX, UnfitSubkeys};

/// As text a key is a third longer, and has line ends.
const KEY_TEXT_BYTES_MAX: usize = KEY_BYTES_MAX + KEY_BYTES_MAX / 2;
/// Any program that reads version 1 of integrity protection knows this cipher.
const CIPHER: SymmetricKeyAlgorithm = SymmetricKeyAlgorithm::AES256;
const CIPHER_KEY_BYTES: usize = 32;
/// RSA's modulus is this long at least.
const RSA_MODULUS_BYTES_MIN: usize = 256;

/// A public key, of which one part encrypts.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// Of the primary key: lower-case hex.
    fingerprint: String,
    encrypts: Encrypts,
}

#[derive(Clone, PartialEq, Eq)]
enum Encrypts {
    Subkey(PublicSubkey),
    /// Old keys have no subkeys.
    Primary(PublicKey),
}

impl Key {
    pub(crate) fn parse(given: &[u8], now: Timestamp) -> Result<Key, RecipientError> {
        let bytes = binary(given)?;
        let outline = frame::outline(&bytes).ok_or(RecipientError::NotAKey)?;
        // First of all: a private key is told as one, however damaged the rest.
        if outline.holds_private {
            return Err(RecipientError::PrivateKey);
        }
        if outline.public_keys > 1 {
            return Err(RecipientError::SeveralKeys { keys: outline.public_keys });
        }
        if outline.signatures > SIGNATURES_MAX {
            return Err(RecipientError::Signatures { signatures: outline.signatures });
        }
        match outline.version {
            Some(4) if outline.public_keys == 1 => {}
            Some(version @ (2 | 3 | 5 | 6)) => return Err(RecipientError::Version { version }),
            _ => return Err(RecipientError::NotAKey),
        }
        let key = SignedPublicKey::from_bytes(&*bytes).map_err(|_| RecipientError::NotAKey)?;
        if key.version() != KeyVersion::V4 {
            return Err(RecipientError::NotAKey);
        }
        let fingerprint = key.fingerprint().to_string();
        let encrypts = choose(&key, &fingerprint, now.seconds())?;
        Ok(Key { fingerprint, encrypts })
    }

    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The whole message.
    pub(crate) fn encrypt(&self, secret: &[u8], rng: &dyn Rng) -> Vec<u8> {
        match &self.encrypts {
            Encrypts::Subkey(key) => message(key, secret, rng),
            Encrypts::Primary(key) => message(key, secret, rng),
        }
    }
}

/// The packets, of whichever of the three forms.
fn binary(given: &[u8]) -> Result<Cow<'_, [u8]>, RecipientError> {
    let is_binary = given.first().is_some_and(|byte| byte & 0x80 != 0);
    let bytes_max = if is_binary { KEY_BYTES_MAX } else { KEY_TEXT_BYTES_MAX };
    if given.len() > bytes_max {
        return Err(RecipientError::TooLarge { bytes: given.len(), bytes_max });
    }
    if is_binary {
        return Ok(Cow::Borrowed(given));
    }
    let text = given.trim_ascii();
    if text.is_empty() {
        return Err(RecipientError::Empty);
    }
    let bytes = if is_armored(text) { unarmored(text)? } else { decoded(given)? };
    // The base64 of an armored text: what a pipe through `base64` makes of `gpg --armor --export`.
    let bytes = if is_armored(bytes.trim_ascii()) { unarmored(bytes.trim_ascii())? } else { bytes };
    if bytes.len() > KEY_BYTES_MAX {
        return Err(RecipientError::TooLarge { bytes: bytes.len(), bytes_max: KEY_BYTES_MAX });
    }
    Ok(Cow::Owned(bytes))
}

fn is_armored(text: &[u8]) -> bool {
    text.starts_with(b"-----BEGIN ")
}

/// White space may be anywhere: lines are broken where people copy them.
fn decoded(text: &[u8]) -> Result<Vec<u8>, RecipientError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte) || byte.is_ascii_whitespace();
    if let Some(at) = text.iter().position(|byte| !is_allowed(*byte)) {
        return Err(RecipientError::Base64 { position: at + 1 });
    }
    let dense: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    armor::BASE64.decode(dense).map_err(|_| RecipientError::Base64 { position: text.trim_ascii_end().len() })
}

fn unarmored(text: &[u8]) -> Result<Vec<u8>, RecipientError> {
    let count = |needle: &[u8]| text.windows(needle.len()).filter(|window| *window == needle).count();
    if count(b"PRIVATE KEY") > 0 {
        return Err(RecipientError::PrivateKey);
    }
    match count(b"-----BEGIN ") {
        0 | 1 => {}
        keys => return Err(RecipientError::SeveralKeys { keys }),
    }
    std::str::from_utf8(text).ok().and_then(armor::public_key).ok_or(RecipientError::Armor)
}

/// The part that encrypts: of the subkeys that may and can, the newest; the primary key if it may and no subkey does.
fn choose(key: &SignedPublicKey, fingerprint: &str, now: u64) -> Result<Encrypts, RecipientError> {
    let primary = &key.primary_key;
    let named = || fingerprint.to_owned();
    // A revocation is for ever, whatever was signed after it: nobody should be left to guess.
    if key.details.revocation_signatures.iter().any(|signature| signature.verify_key(primary).is_ok()) {
        return Err(RecipientError::Revoked { fingerprint: named() });
    }
    let own = own_signature(key, now).ok_or_else(|| RecipientError::Uncertified { fingerprint: named() })?;
    if let Some(end) = end(primary, own).filter(|end| *end <= now) {
        return Err(RecipientError::Expired { fingerprint: named(), expired: date(end) });
    }
    let mut unfit = UnfitSubkeys::default();
    let newest = key
        .public_subkeys
        .iter()
        .filter(|subkey| judge(primary, subkey, now, &mut unfit))
        .max_by_key(|subkey| subkey.key.created_at().as_secs());
    if let Some(subkey) = newest {
        return Ok(Encrypts::Subkey(subkey.key.clone()));
    }
    if may_encrypt(own, primary.algorithm()) && can_encrypt(primary, &mut unfit) {
        return Ok(Encrypts::Primary(primary.clone()));
    }
    Err(RecipientError::CannotEncrypt { fingerprint: named(), why: unfit })
}

/// What the key last said of itself: the newest valid signature by itself on the key or on one of its names.
fn own_signature(key: &SignedPublicKey, now: u64) -> Option<&Signature> {
    let primary = &key.primary_key;
    let direct = newest(&key.details.direct_signatures, now, |signature| {
        signature.typ() == Some(SignatureType::Key) && signature.verify_key(primary).is_ok()
    });
    let names = key.details.users.iter().filter_map(|user| certification(primary, user, now));
    direct.into_iter().chain(names).max_by_key(|signature| created(signature))
}

/// The newest certification of a name by the key itself, unless that took it back.
fn certification<'a>(primary: &PublicKey, user: &'a SignedUser, now: u64) -> Option<&'a Signature> {
    let is_valid = |signature: &Signature| signature.verify_certification(primary, Tag::UserId, &user.id).is_ok();
    let is_revocation = |signature: &Signature| signature.typ() == Some(SignatureType::CertRevocation);
    let given = newest(&user.signatures, now, |signature| !is_revocation(signature) && is_valid(signature))?;
    let taken = newest(&user.signatures, now, |signature| is_revocation(signature) && is_valid(signature));
    taken.is_none_or(|taken| created(taken) < created(given)).then_some(given)
}

/// Whether a subkey encrypts now; if it was meant to and does not, `unfit` counts why.
fn judge(primary: &PublicKey, subkey: &SignedPublicSubKey, now: u64, unfit: &mut UnfitSubkeys) -> bool {
    let is_valid = |signature: &Signature| signature.verify_subkey_binding(primary, &subkey.key).is_ok();
    let of = |kind, signature: &Signature| signature.typ() == Some(kind) && is_valid(signature);
    let Some(binding) = newest(&subkey.signatures, now, |signature| of(SignatureType::SubkeyBinding, signature)) else {
        return false;
    };
    if !may_encrypt(binding, subkey.key.algorithm()) {
        return false;
    }
    if subkey.signatures.iter().any(|signature| of(SignatureType::SubkeyRevocation, signature)) {
        unfit.revoked += 1;
        return false;
    }
    if end(&subkey.key, binding).is_some_and(|end| end <= now) {
        unfit.expired += 1;
        return false;
    }
    can_encrypt(&subkey.key, unfit)
}

/// Whether its owner meant it for encryption. Keys from before there were flags say nothing, and their algorithm decides.
fn may_encrypt(signature: &Signature, algorithm: PublicKeyAlgorithm) -> bool {
    let subpackets = signature.config().into_iter().flat_map(|config| config.hashed_subpackets());
    let is_said = subpackets.into_iter().any(|subpacket| matches!(subpacket.data, SubpacketData::KeyFlags(_)));
    let flags = signature.key_flags();
    if is_said { flags.encrypt_comms() || flags.encrypt_storage() } else { algorithm.can_encrypt() }
}

/// Whether we can encrypt to it.
fn can_encrypt(key: &impl EncryptionKey, unfit: &mut UnfitSubkeys) -> bool {
    if let PublicParams::RSA(modulus_and_exponent) = key.public_params() {
        // Two numbers, each behind two bytes of length; no exponent in use is shorter than one byte.
        if modulus_and_exponent.write_len() <= 2 + RSA_MODULUS_BYTES_MIN + 2 {
            unfit.weak += 1;
            return false;
        }
    }
    // What it depends on is spread over curves, hashes and ciphers that the key itself names; so it is tried, with nothing that is secret.
    let rng = SeededRng::dangerous_from_seed(0);
    let is_supported =
        PublicKeyEncryptedSessionKey::from_session_key_v3(OldRng(&rng), &RawSessionKey::from(&[0; CIPHER_KEY_BYTES][..]), CIPHER, key)
            .is_ok();
    unfit.unsupported += usize::from(!is_supported);
    is_supported
}

/// The newest signature that is valid and has not ended itself. The newest are tried first, and most keys have no others.
fn newest(signatures: &[Signature], now: u64, is_valid: impl Fn(&Signature) -> bool) -> Option<&Signature> {
    let has_ended = |signature: &Signature| {
        let seconds = signature.signature_expiration_time().map_or(0, |duration| duration.as_secs());
        seconds != 0 && created(signature) + u64::from(seconds) <= now
    };
    let mut candidates: Vec<&Signature> =
        signatures.iter().filter(|signature| signature.created().is_some() && !has_ended(signature)).collect();
    candidates.sort_by_key(|signature| std::cmp::Reverse(created(signature)));
    candidates.into_iter().find(|signature| is_valid(signature))
}

/// Seconds since 1970.
fn created(signature: &Signature) -> u64 {
    signature.created().map_or(0, |time| u64::from(time.as_secs()))
}

/// When the key ends, in seconds since 1970, as `signature` has it.
fn end(key: &impl KeyDetails, signature: &Signature) -> Option<u64> {
    let seconds = signature.key_expiration_time()?.as_secs();
    (seconds != 0).then(|| u64::from(key.created_at().as_secs()) + u64::from(seconds))
}

fn date(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| format!("{seconds} s after 1970"), |time| time.to_string())
}

/// Encrypted session key ‖ integrity-protected data ( literal ).
fn message(key: &impl EncryptionKey, secret: &[u8], rng: &dyn Rng) -> Vec<u8> {
    let mut rng = OldRng(rng);
    let mut session_key = Zeroizing::new([0; CIPHER_KEY_BYTES]);
    rng.0.fill(&mut *session_key);
    // Wiped with it, as rPGP says.
    let session_key = RawSessionKey::from(&session_key[..]);
    let for_recipient =
        PublicKeyEncryptedSessionKey::from_session_key_v3(&mut rng, &session_key, CIPHER, key).expect("it was tried when the key was read");
    let literal = frame::literal(secret);
    let protected = SymEncryptedProtectedData::encrypt_seipdv1(&mut rng, CIPHER, session_key.as_ref(), &literal)
        .expect("the key is as long as the cipher's, and the secret short");
    let mut message = Vec::new();
    for_recipient.to_writer_with_header(&mut message).expect("writing to a Vec cannot fail");
    protected.to_writer_with_header(&mut message).expect("writing to a Vec cannot fail");
    message
}

/// Lends an [`Rng`] to rPGP, which asks for the traits of an earlier year.
struct OldRng<'a>(&'a dyn Rng);

impl rand_core_06::RngCore for OldRng<'_> {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core_06::Error> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl rand_core_06::CryptoRng for OldRng<'_> {}

#[cfg(test)]
#[cfg(feature = "age")]
mod tests {
    use pgp::composed::{KeyType, SecretKeyParamsBuilder};
    use pgp::crypto::hash::HashAlgorithm;
    use pgp::packet::{KeyFlags, PubKeyInner, SignatureConfig, Subpacket};
    use pgp::types::{EcdhKdfType, EcdhPublicParams, Password};

    use super::*;

    /// A key, made by whoever likes, with a subkey on Curve25519 that wraps by this hash and this cipher.
    fn wrapping_by(hash: HashAlgorithm, alg_sym: SymmetricKeyAlgorithm) -> Vec<u8> {
        let rng = SeededRng::dangerous_from_seed(1);
        let mut params = SecretKeyParamsBuilder::default();
        params.key_type(KeyType::Ed25519Legacy).can_certify(true).primary_user_id("Mal <mal@example.org>".to_owned());
        let secret = params.build().unwrap().generate(OldRng(&rng)).unwrap();
        let mut key = secret.to_public_key();
        let point = x25519_dalek::PublicKey::from([9; 32]);
        let params = PublicParams::ECDH(EcdhPublicParams::Curve25519Legacy { p: point, hash, alg_sym, ecdh_kdf_type: EcdhKdfType::Native });
        let inner = PubKeyInner::new(KeyVersion::V4, PublicKeyAlgorithm::ECDH, key.created_at(), None, params).unwrap();
        let subkey = PublicSubkey::from_inner(inner).unwrap();
        let mut flags = KeyFlags::default();
        flags.set_encrypt_storage(true);
        let mut config = SignatureConfig::from_key(OldRng(&rng), &secret.primary_key, SignatureType::SubkeyBinding).unwrap();
        config.hashed_subpackets = vec![
            Subpacket::regular(SubpacketData::SignatureCreationTime(key.created_at())).unwrap(),
            Subpacket::regular(SubpacketData::KeyFlags(flags)).unwrap(),
        ];
        let binding = config.sign_subkey_binding(&secret.primary_key, &key.primary_key, &Password::empty(), &subkey).unwrap();
        key.public_subkeys = vec![SignedPublicSubKey::new(subkey, vec![binding])];
        let mut bytes = Vec::new();
        key.to_writer(&mut bytes).unwrap();
        bytes
    }

    /// Such a key is well signed; what it asks for is found out when it is read, not when a share is to be encrypted.
    #[test]
    fn a_subkey_that_wraps_in_a_way_that_is_not_supported_is_refused() {
        let parse = |hash, cipher| Key::parse(&wrapping_by(hash, cipher), Timestamp(u64::from(u32::MAX) * 1000));
        parse(HashAlgorithm::Sha256, SymmetricKeyAlgorithm::AES128).unwrap().encrypt(b"secret", &SeededRng::dangerous_from_seed(2));
        for (hash, cipher) in [
            (HashAlgorithm::Sha1, SymmetricKeyAlgorithm::AES128),
            (HashAlgorithm::Other(99), SymmetricKeyAlgorithm::AES128),
            (HashAlgorithm::Sha256, SymmetricKeyAlgorithm::Plaintext),
            (HashAlgorithm::Sha256, SymmetricKeyAlgorithm::Other(99)),
        ] {
            let error = parse(hash, cipher).err().unwrap();
            let RecipientError::CannotEncrypt { why, .. } = error else { panic!("{error}") };
            assert_eq!(why, UnfitSubkeys { unsupported: 1, ..UnfitSubkeys::default() }, "{hash:?} {cipher:?}");
        }
    }
}

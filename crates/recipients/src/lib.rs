//! Recipients: people to whom secret bytes are encrypted, each by a public key of their own: OpenPGP or age.
//!
//! Always: a [`Recipient`] was checked when it was made (it is one public key, it can encrypt, it is neither revoked nor expired), so
//! that encrypting to it can only fail on the length of the secret; the plaintext and the message's key are wiped from heap and stack
//! before `encrypt` returns. Knows nothing of shares, of who holds them, or of where messages go; never holds a private key.
//!
//! # What is encrypted
//! As Vault does it, and as was seen with OpenBao 2.7.2 and GnuPG 2.2:
//!
//! * For `init`, `rekey` and their like with `pgp_keys`, the plaintext is the **hex text of the share**, in lower case, without a line end: gpg
//!   prints what `operator unseal` takes. `keys_base64` of the answer is the base64, and `keys` the hex, of the binary message.
//! * With `root_token_pgp_key`, the plaintext is the token's text, and `root_token` of the answer the base64 of the binary message.
//! * A key is the base64 of a binary public key in the API; armored text is refused there, and accepted by their command line, which turns it
//!   into base64 itself. Here each of the three forms is accepted. Of several keys in one, OpenBao takes the first, and it takes a private key
//!   too: both are refused here. A key that cannot encrypt is refused there as here, before anything is made.
//! * The message has one recipient: a public-key encrypted session key (version 3, with the key id of the newest subkey that encrypts) and one
//!   integrity-protected packet (version 1, since GnuPG 2.2 reads no other), with a literal in it that has no name and no date.
//!
//! For age there is no precedent; the same plaintexts are encrypted, as a binary age file, or an armored one for people.

#[cfg(feature = "age")]
mod age;
mod armor;
#[cfg(feature = "openpgp")]
mod openpgp;

use std::fmt;

use types::Timestamp;

/// The longest secret, in bytes: far more than a share or a token, and one chunk in either format.
pub const SECRET_BYTES_MAX: usize = 4096;
/// The largest public key, in bytes, before it is base64 or armor. Photographs and other people's signatures make a key large, and are not
/// needed.
pub const KEY_BYTES_MAX: usize = 64 * 1024;
/// The most signatures in an OpenPGP key: each is a public-key operation to check.
pub const SIGNATURES_MAX: usize = 256;

/// More of the stack than either format uses.
const STACK_BYTES: usize = 64 * 1024;

/// One person's public key, checked and ready to encrypt to.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(Inner);

#[derive(Clone, PartialEq, Eq)]
enum Inner {
    #[cfg(feature = "openpgp")]
    OpenPgp(Box<openpgp::Key>),
    #[cfg(feature = "age")]
    Age(age::Key),
}

/// Which kind of key a recipient has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// RFC 9580, and RFC 4880 before it; keys of version 4.
    OpenPgp,
    /// The format age-encryption.org/v1 with X25519 recipients.
    Age,
}

/// Why something is no [`Recipient`]. Holds nothing of what was given but public names and numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipientError {
    /// Nothing but white space.
    #[error("the key is empty")]
    Empty,
    /// More than is read.
    #[error(
        "the key has {bytes} bytes, more than {bytes_max} (export it without photographs and others' signatures: gpg --export-options export-minimal --export)"
    )]
    TooLarge {
        /// How many were given.
        bytes: usize,
        /// How many are read at most.
        bytes_max: usize,
    },
    /// More than are checked.
    #[error(
        "the key has {signatures} signatures, more than {SIGNATURES_MAX} (export it without those of others: gpg --export-options export-minimal --export)"
    )]
    Signatures {
        /// How many it has.
        signatures: usize,
    },
    /// Neither binary, nor armored, nor base64.
    #[error("the key is no base64: look at character {position} (give the base64 of `gpg --export KEY`, or its armored text)")]
    Base64 {
        /// The first character that cannot be, from 1.
        position: usize,
    },
    /// An armored text that is damaged, or something other than a public key.
    #[error("the key's armor is damaged, or not that of a public key (it begins with -----BEGIN PGP PUBLIC KEY BLOCK-----)")]
    Armor,
    /// Bytes that are no key.
    #[error("these bytes are no OpenPGP public key (give the base64 of `gpg --export KEY`, or its armored text)")]
    NotAKey,
    /// A private key. It has now been shown to a server, a shell, perhaps a log.
    #[error(
        "this is a PRIVATE key. It must not be given to anyone: take it for disclosed, revoke it, make a new one, and give the public key only (gpg --export, age-keygen -y)"
    )]
    PrivateKey,
    /// Which of them is meant cannot be known.
    #[error("there are {keys} keys in one (give one public key for each holder: gpg --export FINGERPRINT)")]
    SeveralKeys {
        /// How many.
        keys: usize,
    },
    /// A format of keys that is not known.
    #[error("an OpenPGP key of version {version} is not supported (use one of version 4, as GnuPG makes them)")]
    Version {
        /// Its version.
        version: u8,
    },
    /// Nobody vouches for it: a key without a valid signature by itself.
    #[error("key {fingerprint} has no valid signature of its own (export it again from where it was made)")]
    Uncertified {
        /// Of the key.
        fingerprint: String,
    },
    /// Its owner took it back.
    #[error("key {fingerprint} is revoked (ask its owner for the new one)")]
    Revoked {
        /// Of the key.
        fingerprint: String,
    },
    /// Its owner set an end, and it is past.
    #[error("key {fingerprint} expired on {expired} (ask its owner to extend it, and to export it again)")]
    Expired {
        /// Of the key.
        fingerprint: String,
        /// When, in UTC, as RFC 3339 has it.
        expired: String,
    },
    /// It can sign, perhaps, but not encrypt.
    #[error("key {fingerprint} cannot encrypt: {why} (its owner adds a subkey that can: gpg --quick-add-key {fingerprint} default encr)")]
    CannotEncrypt {
        /// Of the key.
        fingerprint: String,
        /// What is the matter with its subkeys.
        why: UnfitSubkeys,
    },
    /// Not the text of an age recipient.
    #[error("this is no age recipient: {why} (it looks like age1… with 62 characters, as age-keygen prints it)")]
    Age {
        /// What is the matter with it.
        why: AgeTextError,
    },
    /// A recipient that needs another program, or another kind of key.
    #[error(
        "age recipients of the kind {kind} are not supported (give one of age's own, X25519: age1… with 62 characters, as age-keygen makes it)"
    )]
    AgeKind {
        /// The plugin's or the kind's name.
        kind: String,
    },
    /// This build leaves that kind out.
    #[error("this build encrypts to no {kind} keys (build it with the feature {kind})")]
    NotBuilt {
        /// Which kind.
        kind: Kind,
    },
}

/// The subkeys of an OpenPGP key that were looked at, and why none encrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnfitSubkeys {
    /// Past their end.
    pub expired: usize,
    /// Taken back.
    pub revoked: usize,
    /// For encryption, but by an algorithm that is not supported.
    pub unsupported: usize,
    /// RSA of less than 2048 bits.
    pub weak: usize,
}

impl fmt::Display for UnfitSubkeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut found = Vec::new();
        for (count, what) in [
            (self.expired, "expired"),
            (self.revoked, "revoked"),
            (self.unsupported, "of an algorithm that is not supported"),
            (self.weak, "of RSA with less than 2048 bits"),
        ] {
            if count > 0 {
                found.push(format!("{count} {what}"));
            }
        }
        if found.is_empty() { f.write_str("it has no subkey for encryption") } else { write!(f, "of its keys, {}", found.join(", ")) }
    }
}

/// What is the matter with a text that should be an age recipient (Bech32, BIP 173).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AgeTextError {
    /// Not of 62 characters.
    #[error("it has {chars} characters")]
    Length {
        /// How many it has.
        chars: usize,
    },
    /// It does not begin as it must.
    #[error("it does not begin with age1")]
    Prefix,
    /// A character that Bech32 does not have.
    #[error("character {position} cannot be in one")]
    Character {
        /// Which, from 1.
        position: usize,
    },
    /// A mistyped character, somewhere.
    #[error("its checksum is wrong, so a character is")]
    Checksum,
    /// Anyone could read what is encrypted to it.
    #[error("it is a point of low order, to which nothing can be encrypted")]
    LowOrder,
}

/// Why [`Recipient::encrypt`] refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncryptError {
    /// More than one message takes.
    #[error("the secret has {bytes} bytes, more than {SECRET_BYTES_MAX}")]
    TooLarge {
        /// How many.
        bytes: usize,
    },
}

impl Recipient {
    /// An OpenPGP public key: the base64 of a binary one (as in Vault's `pgp_keys`), armored text, or a binary one.
    ///
    /// `now` decides what is expired. Refuses what cannot be encrypted to, and private keys: see [`RecipientError`].
    pub fn openpgp(key: &[u8], now: Timestamp) -> Result<Recipient, RecipientError> {
        #[cfg(feature = "openpgp")]
        return openpgp::Key::parse(key, now).map(|key| Recipient(Inner::OpenPgp(Box::new(key))));
        #[cfg(not(feature = "openpgp"))]
        {
            let _ = (key, now);
            Err(RecipientError::NotBuilt { kind: Kind::OpenPgp })
        }
    }

    /// An age recipient of the kind X25519, `age1…`; white space at its ends is left out. Recipients of plugins, of SSH and of other kinds, and
    /// identities (private keys) are refused: see [`RecipientError`].
    pub fn age(text: &str) -> Result<Recipient, RecipientError> {
        #[cfg(feature = "age")]
        return age::Key::parse(text).map(|key| Recipient(Inner::Age(key)));
        #[cfg(not(feature = "age"))]
        {
            let _ = text;
            Err(RecipientError::NotBuilt { kind: Kind::Age })
        }
    }

    /// Either kind, told by how the text begins: as `-pgp-keys` and files of keys may mix them.
    pub fn parse(key: &[u8], now: Timestamp) -> Result<Recipient, RecipientError> {
        match std::str::from_utf8(key) {
            Ok(text) if is_age(text.trim()) => Recipient::age(text),
            _ => Recipient::openpgp(key, now),
        }
    }

    /// The key's name in records and answers. OpenPGP: its fingerprint in lower-case hex, as Vault's `pgp_fingerprints` (that of the primary key,
    /// not of the subkey that encrypts). age: the recipient itself.
    pub fn fingerprint(&self) -> String {
        match self.0 {
            #[cfg(feature = "openpgp")]
            Inner::OpenPgp(ref key) => key.fingerprint().to_owned(),
            #[cfg(feature = "age")]
            Inner::Age(ref key) => key.to_string(),
        }
    }

    /// Which kind of key it is.
    pub fn kind(&self) -> Kind {
        match self.0 {
            #[cfg(feature = "openpgp")]
            Inner::OpenPgp(_) => Kind::OpenPgp,
            #[cfg(feature = "age")]
            Inner::Age(_) => Kind::Age,
        }
    }

    /// Encrypts `secret` as a binary message, which `gpg --decrypt` or `age --decrypt` opens. Two messages of the same secret differ.
    ///
    /// Fails only if `secret` is longer than [`SECRET_BYTES_MAX`].
    pub fn encrypt(&self, secret: &[u8], rng: &dyn crypto::Rng) -> Result<Vec<u8>, EncryptError> {
        if secret.len() > SECRET_BYTES_MAX {
            return Err(EncryptError::TooLarge { bytes: secret.len() });
        }
        let message = self.encrypt_on_stack(secret, rng);
        // What the libraries left below: key schedules, and keys that passed by value; and in buffers that they freed.
        zeroize::zeroize_stack::<STACK_BYTES>();
        wipe_freed();
        Ok(message)
    }

    /// The same as text in the armor of its kind, for people: lines of 64 characters between a BEGIN and an END.
    pub fn encrypt_armored(&self, secret: &[u8], rng: &dyn crypto::Rng) -> Result<String, EncryptError> {
        let message = self.encrypt(secret, rng)?;
        Ok(match self.kind() {
            Kind::OpenPgp => armor::openpgp_message(&message),
            Kind::Age => armor::age_file(&message),
        })
    }

    #[inline(never)]
    #[cfg_attr(not(any(feature = "openpgp", feature = "age")), expect(unused_variables, reason = "without a kind there is no recipient"))]
    fn encrypt_on_stack(&self, secret: &[u8], rng: &dyn crypto::Rng) -> Vec<u8> {
        match self.0 {
            #[cfg(feature = "openpgp")]
            Inner::OpenPgp(ref key) => key.encrypt(secret, rng),
            #[cfg(feature = "age")]
            Inner::Age(ref key) => key.encrypt(secret, rng),
        }
    }
}

/// Overwrites small buffers that this thread has just freed. rPGP frees the message's key and what it is wrapped with unwiped, for some kinds of
/// keys; the allocator keeps such buffers in lists by size, and gives them out again first. Measured by `tests/wiped.rs`.
fn wipe_freed() {
    /// Larger than any key or shared secret, with its padding.
    const BYTES_MAX: usize = 512;
    /// As many as glibc keeps of one size in a thread's cache, and one more.
    const EACH: usize = 8;
    let mut buffers = Vec::with_capacity(EACH * BYTES_MAX / 16);
    for bytes in (16..=BYTES_MAX).step_by(16) {
        for _ in 0..EACH {
            #[expect(clippy::slow_vector_initialization, reason = "for `vec![0; bytes]` the allocator has other places")]
            let mut buffer: Vec<u8> = Vec::with_capacity(bytes);
            buffer.resize(bytes, 0);
            zeroize::optimization_barrier(buffer.as_slice());
            buffers.push(buffer);
        }
    }
}

/// Whether a text is meant for age, well-formed or not.
fn is_age(text: &str) -> bool {
    let begins = |prefix: &str| text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    begins("age1") || begins("age-") || begins("ssh-")
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({} {})", self.kind(), self.fingerprint())
    }
}

impl Kind {
    /// Its name in records, answers and features.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::OpenPgp => "openpgp",
            Kind::Age => "age",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

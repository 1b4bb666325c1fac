//! Shares for people: who is to have them, to which keys they are encrypted, and how they are shown. For `sys/init` and for a rekey.
//!
//! Always: what is shown of a share with a recipient is its encryption only; all recipients are checked before any key is drawn.

use std::fmt;

use barrier::{Holder, NewSplit, SplitError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto::{Quorum, QuorumError, Rng, Share, Zeroizing};
use recipients::{Recipient, RecipientError};
use types::Timestamp;

/// What somebody asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShareRequest {
    /// How many shares.
    pub shares: u64,
    /// How many of them are needed.
    pub threshold: u64,
    /// Names, one for each share; empty: none.
    pub holders: Vec<String>,
    /// OpenPGP keys, one for each share; empty: none.
    pub pgp_keys: Vec<String>,
    /// OpenPGP keys or age recipients, one for each share, in place of `pgp_keys`; empty: none.
    pub recipients: Vec<String>,
}

/// Why shares cannot be made as asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ShareRequestError {
    /// The numbers.
    #[error(transparent)]
    Quorum(#[from] QuorumError),
    /// The names.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// Two lists that say the same.
    #[error("give pgp_keys or recipients, not both (recipients may be OpenPGP keys, too)")]
    Both,
    /// More or fewer keys than shares.
    #[error("{name}: there are {keys} keys for {shares} shares (give one for each share, in the order of the holders)")]
    Count {
        /// Which list.
        name: &'static str,
        /// How many there are.
        keys: usize,
        /// How many shares.
        shares: u8,
    },
    /// One of the keys.
    #[error("{name}: key {number}: {error}")]
    Recipient {
        /// Which list.
        name: &'static str,
        /// Which key, from 1.
        number: usize,
        /// What is the matter with it.
        error: RecipientError,
    },
}

/// Who is to have which share, checked.
pub struct ShareOrder {
    split: NewSplit,
    /// One for each share, or none at all.
    recipients: Vec<Recipient>,
}

/// Shares as they are told, once. Confidential unless they are encrypted: no `Debug`.
pub struct ShownShares {
    /// In hex: each share or, where there are recipients, its encryption.
    pub keys: Vec<Zeroizing<String>>,
    /// The same in base64.
    pub keys_base64: Vec<Zeroizing<String>>,
}

impl ShareRequest {
    /// Checks it. `now` decides which keys are expired.
    pub fn check(&self, now: Timestamp) -> Result<ShareOrder, ShareRequestError> {
        let quorum = Quorum::new(self.shares, self.threshold)?;
        let (name, keys) = match (self.pgp_keys.is_empty(), self.recipients.is_empty()) {
            (false, false) => return Err(ShareRequestError::Both),
            (false, true) => ("pgp_keys", &self.pgp_keys),
            (true, _) => ("recipients", &self.recipients),
        };
        if !keys.is_empty() && keys.len() != usize::from(quorum.shares()) {
            return Err(ShareRequestError::Count { name, keys: keys.len(), shares: quorum.shares() });
        }
        let recipient = |(at, key): (usize, &String)| {
            let parsed = if name == "pgp_keys" { Recipient::openpgp(key.as_bytes(), now) } else { Recipient::parse(key.as_bytes(), now) };
            parsed.map_err(|error| ShareRequestError::Recipient { name, number: at + 1, error })
        };
        let recipients: Vec<Recipient> = keys.iter().enumerate().map(recipient).collect::<Result<_, _>>()?;
        if !self.holders.is_empty() && self.holders.len() != usize::from(quorum.shares()) {
            return Err(SplitError::Count { holders: self.holders.len(), shares: quorum.shares() }.into());
        }
        let holder = |at: usize| Holder {
            name: self.holders.get(at).cloned().unwrap_or_default(),
            recipient: recipients.get(at).map(Recipient::fingerprint).unwrap_or_default(),
        };
        let split = NewSplit::new(quorum, (0..usize::from(quorum.shares())).map(holder).collect())?;
        Ok(ShareOrder { split, recipients })
    }

    /// The keys, whichever list they came in.
    pub(crate) fn keys(&self) -> &[String] {
        if self.pgp_keys.is_empty() { &self.recipients } else { &self.pgp_keys }
    }
}

impl ShareOrder {
    /// For the barrier.
    pub fn split(&self) -> &NewSplit {
        &self.split
    }

    /// The recipients' fingerprints, one for each share; `None` where shares are told as they are.
    pub fn fingerprints(&self) -> Option<Vec<String>> {
        (!self.recipients.is_empty()).then(|| self.recipients.iter().map(Recipient::fingerprint).collect())
    }

    /// Each share encrypted to its recipient; `None` where there are none.
    pub(crate) fn encrypt(&self, shares: &[Share], rng: &dyn Rng) -> Option<Vec<Vec<u8>>> {
        (!self.recipients.is_empty()).then(|| {
            let encrypt = |(share, recipient): (&Share, &Recipient)| {
                // As Vault: the hex text, so that gpg prints what unseal takes.
                recipient.encrypt(share.to_hex().as_bytes(), rng).expect("a share is shorter than the limit")
            };
            shares.iter().zip(&self.recipients).map(encrypt).collect()
        })
    }

    /// What may be told of the shares: themselves, or their encryptions.
    pub fn show(&self, shares: &[Share], rng: &dyn Rng) -> ShownShares {
        match self.encrypt(shares, rng) {
            Some(messages) => ShownShares::of_messages(&messages),
            None => {
                ShownShares { keys: shares.iter().map(Share::to_hex).collect(), keys_base64: shares.iter().map(Share::to_base64).collect() }
            }
        }
    }
}

impl ShownShares {
    pub(crate) fn of_messages(messages: &[Vec<u8>]) -> ShownShares {
        ShownShares {
            keys: messages.iter().map(|message| Zeroizing::new(hex::encode(message))).collect(),
            keys_base64: messages.iter().map(|message| Zeroizing::new(STANDARD.encode(message))).collect(),
        }
    }
}

impl fmt::Debug for ShareOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShareOrder({:?}, {:?})", self.split, self.recipients)
    }
}

/// A secret text encrypted to a recipient, in base64, as Vault answers a root token.
pub fn encrypt_text(text: &str, recipient: &Recipient, rng: &dyn Rng) -> String {
    STANDARD.encode(recipient.encrypt(text.as_bytes(), rng).expect("a token is shorter than the limit"))
}

#[cfg(test)]
mod tests {
    use crypto::SeededRng;

    use super::*;

    /// An age recipient, of which nobody kept the identity.
    const AGE: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    fn request(shares: u64, holders: &[&str], pgp_keys: &[&str], recipients: &[&str]) -> ShareRequest {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        ShareRequest { shares, threshold: shares.min(2), holders: owned(holders), pgp_keys: owned(pgp_keys), recipients: owned(recipients) }
    }

    #[test]
    fn what_does_not_fit_is_said_before_anything_is_made() {
        let now = Timestamp(1);
        assert!(request(2, &[], &[], &[]).check(now).unwrap().fingerprints().is_none());
        let order = request(2, &["Ada", "Grace"], &[], &[AGE, AGE]).check(now).unwrap();
        assert_eq!(order.fingerprints().unwrap(), [AGE, AGE]);
        for (asked, says) in [
            (request(0, &[], &[], &[]), "shares"),
            (request(2, &["Ada"], &[], &[]), "1 holders were named for 2 shares"),
            (request(2, &["Ada", "Ada"], &[], &[]), "two holders"),
            (request(2, &[], &[AGE, AGE], &[]), "pgp_keys: key 1"),
            (request(2, &[], &[], &[AGE]), "recipients: there are 1 keys for 2 shares"),
            (request(2, &[], &[], &[AGE, "nobody"]), "recipients: key 2"),
            (request(2, &[], &[AGE, AGE], &[AGE, AGE]), "not both"),
        ] {
            let error = asked.check(now).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_share_with_a_recipient_is_told_encrypted_only() {
        let rng = SeededRng::dangerous_from_seed(1);
        let key = crypto::SealKey::generate(&rng);
        let order = request(2, &[], &[], &[AGE, AGE]).check(Timestamp(1)).unwrap();
        let shares = crypto::shamir::split(&key, order.split().quorum(), crypto::ShareTag::of(b"cluster"), &rng);
        let shown = order.show(&shares, &rng);
        for ((key, base64), share) in shown.keys.iter().zip(&shown.keys_base64).zip(&shares) {
            assert!(!key.contains(share.to_hex().as_str()) && !base64.contains(share.to_base64().as_str()));
            assert!(hex::decode(key.as_str()).unwrap().starts_with(b"age-encryption.org/v1"));
            assert_eq!(STANDARD.decode(base64.as_str()).unwrap(), hex::decode(key.as_str()).unwrap());
        }
        let plain = request(2, &[], &[], &[]).check(Timestamp(1)).unwrap().show(&shares, &rng);
        assert_eq!(plain.keys[1], shares[1].to_hex());
    }
}

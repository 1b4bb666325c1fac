//! Shares that wait for the rest of a quorum. Wiped when the barrier opens, or on reset.

use std::collections::BTreeMap;
use std::sync::Arc;

use crypto::rng::generate_bytes;
use crypto::{Quorum, Rng, Share};
use uuid::{Builder, Uuid};

/// Distinct shares, each recognised by its digest before it came here.
pub(crate) struct Pool {
    nonce: Uuid,
    shares: BTreeMap<u8, Share>,
    rng: Arc<dyn Rng>,
}

impl Pool {
    /// Empty; `rng` draws the names of attempts.
    pub(crate) fn new(rng: Arc<dyn Rng>) -> Pool {
        let nonce = Builder::from_random_bytes(generate_bytes(&*rng)).into_uuid();
        Pool { nonce, shares: BTreeMap::new(), rng }
    }

    /// Adds a share; false when it was there already.
    pub(crate) fn add(&mut self, share: Share) -> bool {
        self.shares.insert(share.number(), share).is_none()
    }

    /// Throws everything away and names the next attempt anew.
    pub(crate) fn reset(&mut self) {
        *self = Pool::new(Arc::clone(&self.rng));
    }

    /// Takes a quorum out, if there is one; the rest is thrown away.
    pub(crate) fn take_quorum(&mut self, quorum: Quorum) -> Option<Vec<Share>> {
        let needed = usize::from(quorum.threshold());
        if self.shares.len() < needed {
            return None;
        }
        let shares = std::mem::take(&mut self.shares);
        self.reset();
        Some(shares.into_values().take(needed).collect())
    }

    pub(crate) fn len(&self) -> u8 {
        u8::try_from(self.shares.len()).expect("share numbers are one byte")
    }

    /// Names the attempt; empty while there is none.
    pub(crate) fn nonce(&self) -> String {
        if self.shares.is_empty() { String::new() } else { self.nonce.to_string() }
    }

    pub(crate) fn shares(&self) -> impl Iterator<Item = &Share> {
        self.shares.values()
    }
}

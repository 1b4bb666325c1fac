//! Shares that wait for the rest of a quorum, apart for each purpose and split. Wiped when a quorum has come, on reset, and by a seal.
//!
//! Always: every share here was recognised by its digest before it came; of the attempts at one act only the newest has shares.

use std::collections::BTreeMap;

use bytes::Bytes;
use crypto::rng::generate_bytes;
use crypto::{Quorum, Rng, Share};
use proto::peer;
use uuid::{Builder, Uuid};

use crate::seals::Split;

/// What shares are entered for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To open the cluster.
    Unseal,
    /// To act on the keys: the attempt of this nonce.
    Act(peer::purpose::Act, Uuid),
}

impl Purpose {
    pub(crate) fn of(message: Option<&peer::Purpose>) -> Option<Purpose> {
        let message = message?;
        match message.act() {
            peer::purpose::Act::Unseal => message.nonce.is_empty().then_some(Purpose::Unseal),
            act => Some(Purpose::Act(act, Uuid::from_slice(&message.nonce).ok()?)),
        }
    }

    pub(crate) fn message(self) -> peer::Purpose {
        match self {
            Purpose::Unseal => peer::Purpose { act: peer::purpose::Act::Unseal.into(), nonce: Bytes::new() },
            Purpose::Act(act, nonce) => peer::Purpose { act: act.into(), nonce: Bytes::copy_from_slice(nonce.as_bytes()) },
        }
    }

    fn act(self) -> peer::purpose::Act {
        match self {
            Purpose::Unseal => peer::purpose::Act::Unseal,
            Purpose::Act(act, _) => act,
        }
    }
}

/// Distinct shares of one purpose.
struct Pool {
    purpose: Purpose,
    /// Names the attempt to unseal.
    nonce: Uuid,
    shares: BTreeMap<(Split, u8), Share>,
}

/// All pools of a node: at most one for each act.
#[derive(Default)]
pub(crate) struct Pools {
    pools: BTreeMap<i32, Pool>,
}

impl Pools {
    fn pool(&self, purpose: Purpose) -> Option<&Pool> {
        self.pools.get(&purpose.act().into()).filter(|pool| pool.purpose == purpose)
    }

    /// Adds a share; false when it was there already. Shares of an earlier attempt at the same act are thrown away.
    pub(crate) fn add(&mut self, purpose: Purpose, split: Split, share: Share, rng: &dyn Rng) -> bool {
        let new = || Pool { purpose, nonce: Builder::from_random_bytes(generate_bytes(rng)).into_uuid(), shares: BTreeMap::new() };
        let pool = self.pools.entry(purpose.act().into()).or_insert_with(new);
        if pool.purpose != purpose {
            *pool = new();
        }
        pool.shares.insert((split, share.number()), share).is_none()
    }

    /// Throws the shares of one purpose away.
    pub(crate) fn reset(&mut self, purpose: Purpose) {
        if self.pool(purpose).is_some() {
            self.pools.remove(&purpose.act().into());
        }
    }

    /// Throws everything away.
    pub(crate) fn clear(&mut self) {
        self.pools.clear();
    }

    /// Takes the shares of a quorum of one split out, if there is one; all others of this purpose are thrown away.
    pub(crate) fn take_quorum(&mut self, purpose: Purpose, quorum_of: impl Fn(Split) -> Option<Quorum>) -> Option<(Split, Vec<Share>)> {
        let pool = self.pool(purpose)?;
        let complete = |split: &Split| {
            let needed = quorum_of(*split).map(|quorum| usize::from(quorum.threshold()));
            needed.is_some_and(|needed| pool.of(*split).count() >= needed)
        };
        let split = [Split::InForce, Split::Next].into_iter().find(complete)?;
        let needed = usize::from(quorum_of(split)?.threshold());
        let pool = self.pools.remove(&purpose.act().into())?;
        let shares = pool.shares.into_iter().filter(|((of, _), _)| *of == split).take(needed).map(|(_, share)| share).collect();
        Some((split, shares))
    }

    /// The numbers of the shares of the split that has come furthest, and which it is.
    pub(crate) fn entered(&self, purpose: Purpose) -> (Split, Vec<u8>) {
        let numbers = |split| self.pool(purpose).map(|pool| pool.of(split).collect::<Vec<u8>>()).unwrap_or_default();
        let (in_force, next) = (numbers(Split::InForce), numbers(Split::Next));
        if next.len() > in_force.len() { (Split::Next, next) } else { (Split::InForce, in_force) }
    }

    /// Names the attempt to unseal; empty while there is none.
    pub(crate) fn nonce(&self) -> String {
        self.pool(Purpose::Unseal).map(|pool| pool.nonce.to_string()).unwrap_or_default()
    }

    /// The shares of one purpose.
    pub(crate) fn shares(&self, purpose: Purpose) -> impl Iterator<Item = &Share> {
        self.pool(purpose).into_iter().flat_map(|pool| pool.shares.values())
    }
}

impl Pool {
    fn of(&self, split: Split) -> impl Iterator<Item = u8> {
        self.shares.keys().filter(move |(of, _)| *of == split).map(|(_, number)| *number)
    }
}

#[cfg(test)]
mod tests {
    use crypto::{SealKey, SeededRng, ShareTag};
    use peer::purpose::Act;

    use super::*;

    #[test]
    fn shares_of_different_purposes_splits_and_attempts_never_meet() {
        let rng = SeededRng::dangerous_from_seed(1);
        let quorum = Quorum::new(3, 2).unwrap();
        let split = || crypto::shamir::split(&SealKey::generate(&rng), quorum, ShareTag::of(b""), &rng).into_iter();
        let (mut old, mut new) = (split(), split());
        let mut pools = Pools::default();
        let quorum_of = |_| Some(quorum);
        let (first, second) = (Purpose::Act(Act::Rekey, Uuid::nil()), Purpose::Act(Act::Rekey, Uuid::max()));

        assert!(pools.add(Purpose::Unseal, Split::InForce, old.next().unwrap(), &rng));
        assert!(pools.add(Purpose::Unseal, Split::Next, new.next().unwrap(), &rng));
        assert!(pools.take_quorum(Purpose::Unseal, quorum_of).is_none(), "one of each split is no quorum");
        assert!(pools.add(first, Split::InForce, old.next().unwrap(), &rng));
        assert!(pools.add(second, Split::InForce, old.next().unwrap(), &rng));
        assert!(pools.take_quorum(second, quorum_of).is_none(), "the shares of an earlier attempt are gone");
        assert_eq!(pools.entered(first).1, [] as [u8; 0]);
        assert_eq!(pools.entered(second).1, [3]);
        let again = new.next().unwrap();
        assert!(pools.add(Purpose::Unseal, Split::Next, Share::from_bytes(again.expose()).unwrap(), &rng));
        assert!(!pools.add(Purpose::Unseal, Split::Next, again, &rng), "entered already");
        assert_eq!(pools.entered(Purpose::Unseal), (Split::Next, vec![1, 2]));
        let (split, shares) = pools.take_quorum(Purpose::Unseal, quorum_of).unwrap();
        assert_eq!((split, shares.len()), (Split::Next, 2));
        assert_eq!(pools.entered(Purpose::Unseal).1, [] as [u8; 0], "what was left over is thrown away");
        pools.reset(first);
        assert_eq!(pools.entered(second).1, [3], "a reset of another attempt does nothing");
        pools.reset(second);
        assert_eq!(pools.entered(second).1, [] as [u8; 0]);
    }
}

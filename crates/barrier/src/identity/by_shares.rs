//! A node that joins by the cluster's shares, in place of a token: they are entered at it, checked against the seals that a node of the cluster
//! has sent, and never leave it. What they open derives the secret of the join.
//!
//! Always: seals that were made up open by nothing that the holders of shares have; a share of other seals is refused before it is kept.

use std::time::Duration;

use bytes::Bytes;
use crypto::{KeyringKey, Quorum, Share};
use proto::peer;
use types::ClusterId;

use super::JoinSecret;
use crate::barrier::Barrier;
use crate::journal::{Act, Entry, OpenedBy};
use crate::opening::{HandOverError, ShareError};
use crate::records::RecordError;
use crate::seals::{Seals, Split};

/// For how long a node that has joined waits for the cluster's records, to open itself by the shares that were entered.
const OPEN_MAX: Duration = Duration::from_secs(600);
const OPEN_PAUSE: Duration = Duration::from_millis(100);

/// The shares that were entered so far at a node that would join.
pub struct JoinShares {
    seals: Seals,
    shares: Vec<(Split, Share)>,
}

/// The keys that a quorum of shares opened. Confidential: no `Debug`.
pub struct JoinKeys(KeyringKey);

impl JoinKeys {
    /// By which the join is authenticated.
    pub fn secret(&self) -> JoinSecret {
        JoinSecret::of_shares(&self.0)
    }
}

impl JoinShares {
    /// For a cluster's seals, as [`Barrier::join_challenge`] gave them.
    ///
    /// # Errors
    /// They are none.
    pub fn new(seals: Bytes) -> Result<JoinShares, RecordError> {
        Ok(JoinShares { seals: Seals::decode(seals)?, shares: Vec::new() })
    }

    /// The cluster and its name.
    pub fn cluster(&self) -> (ClusterId, &str) {
        (self.seals.cluster_id, &self.seals.cluster_name)
    }

    /// How many shares are needed, of how many.
    pub fn quorum(&self) -> Quorum {
        self.shares.last().and_then(|(split, _)| self.seals.quorum_of(*split)).unwrap_or(self.seals.quorum)
    }

    /// The numbers of the shares so far.
    pub fn entered(&self) -> Vec<u8> {
        let Some((last, _)) = self.shares.last() else { return Vec::new() };
        self.shares.iter().filter(|(split, _)| split == last).map(|(_, share)| share.number()).collect()
    }

    /// Takes a share. At the threshold it answers the keys, and the shares are wiped.
    ///
    /// # Errors
    /// It is none of this cluster's, or was entered before.
    pub fn enter(&mut self, share: Share) -> Result<Option<JoinKeys>, ShareError> {
        let number = share.number();
        let recognised = self.seals.recognise(&share).map_err(|unrecognised| unrecognised.of_share(number))?;
        let split = recognised.split;
        if self.shares.iter().any(|(known, share)| *known == split && share.number() == number) {
            return Err(ShareError::Repeated { number, holder: recognised.holder });
        }
        self.shares.push((split, share));
        let threshold = self.seals.quorum_of(split).map_or(u8::MAX, |quorum| quorum.threshold());
        if self.entered().len() < usize::from(threshold) {
            return Ok(None);
        }
        let (quorum, _others): (Vec<_>, Vec<_>) = self.shares.drain(..).partition(|(known, _)| *known == split);
        let quorum: Vec<Share> = quorum.into_iter().map(|(_, share)| share).collect();
        let root = self.seals.open(split, &quorum)?.root;
        Ok(Some(JoinKeys(root.derive_keyring_key())))
    }
}

impl Barrier {
    /// Opens this node by the keys with which it has joined, once it has the cluster's records; `seal_epoch`: as the cluster said it then.
    /// Goes on by itself, for ten minutes at most.
    pub fn open_once_replicated(&self, keys: JoinKeys, seal_epoch: u64) {
        let barrier = self.clone();
        let opening = async move {
            let deadline = tokio::time::Instant::now() + OPEN_MAX;
            while tokio::time::Instant::now() < deadline && barrier.is_sealed() {
                // EXPOSE: the key stays in this process.
                let keyring_key = Bytes::copy_from_slice(keys.0.expose());
                match barrier.take_keys(&peer::HandOverRequest { keyring_key, seal_epoch }, false) {
                    Ok(()) => {
                        tracing::info!("unsealed by the shares with which this node has joined");
                        return barrier.journal(Entry::new(Act::Opened { by: OpenedBy::Shares }));
                    }
                    Err(HandOverError::NotYet) => {}
                    Err(error) => return tracing::warn!(%error, "this node has joined, and stays sealed: enter the shares again"),
                }
                tokio::select! {
                    biased;
                    () = barrier.inner.stop.cancelled() => return,
                    () = tokio::time::sleep(OPEN_PAUSE) => {}
                }
            }
        };
        self.inner.tasks.spawn(opening);
    }
}

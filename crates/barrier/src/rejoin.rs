//! Rejoin: a node that has restarted is opened by its open peers, within limits, where the configuration of both says so.
//!
//! Always: a key is given only after the grant was recorded, so that no crash and no second peer lets a node rejoin more often than it may;
//! a seal of the cluster ends every node's leave to rejoin, and a seal of one node ends its own, until it was opened otherwise. That a node
//! was open is written by itself, with the keys that only an open node has: a certificate alone cannot claim it.
//! Knows nothing of who a node is: the caller's certificate was checked, and that it is a member's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crypto::SecretBytes;
use prost::Message;
use proto::{peer, stored};
use types::{NodeId, Revision, Timestamp};

use crate::barrier::{Barrier, CommitError};
use crate::journal::{Act, Entry};
use crate::name::Name;
use crate::opening::KeyRefusal;
use crate::peers::PeerCallError;
use crate::plan::Plan;
use crate::view::{View, ViewError};

/// The shortest [`Rejoin::within`]: nodes write down that they are open four times as often.
pub const REJOIN_WITHIN_MIN: Duration = Duration::from_secs(10);
/// The longest [`Rejoin::within`].
pub const REJOIN_WITHIN_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The most that [`Rejoin::count`] may say.
pub const REJOIN_COUNT_MAX: u32 = 100;
/// The time over which grants are counted.
pub const REJOIN_COUNT_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);

/// How often an open node writes that it is open: so many times within [`Rejoin::within`].
const MARKS_WITHIN: u32 = 4;
/// After a mark that could not be written, or an ask that nobody could answer.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The pause between asks grows up to this.
const ASK_PAUSE_MAX: Duration = Duration::from_secs(30);
/// How often a grant is tried anew because its record was changed meanwhile.
const GRANT_TRIES_MAX: usize = 8;
/// What a seal of this node alone waits for the keys to encrypt its mark.
const MARK_OF_SEAL_MAX: Duration = Duration::from_millis(500);
/// And for the mark to be written, once the keys are gone.
const WRITE_OF_SEAL_MAX: Duration = Duration::from_secs(5);

/// Within which limits a node is opened by its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejoin {
    /// So long after it was last open, at most; as it writes that down now and then only, the time counts from up to a quarter of it earlier.
    pub within: Duration,
    /// So often within [`REJOIN_COUNT_PERIOD`], by all peers together.
    pub count: u32,
}

/// What is known of a node, as it is stored.
#[derive(Clone)]
struct Mark(stored::Rejoin);

impl Mark {
    fn name(node: &NodeId) -> Name {
        Name::new(&format!("core/rejoin/{node}"))
    }

    fn read(view: &View, node: &NodeId) -> Result<(Revision, Option<Mark>), ViewError> {
        let found = view.read(&Mark::name(node))?;
        let Some(value) = found.value else { return Ok((found.revision, None)) };
        // EXPOSE: the record is decoded.
        let record = stored::Rejoin::decode(value.expose()).map_err(|_| ViewError::Malformed)?;
        Ok((found.revision, Some(Mark(record))))
    }

    fn put(&self, node: &NodeId, plan: &mut Plan) {
        plan.put(Mark::name(node), SecretBytes::from(self.0.encode_to_vec()));
    }

    /// The node is open now.
    fn open(before: Option<Mark>, now: Timestamp, epoch: u64) -> Mark {
        let granted_ms = before.map(|mark| mark.0.granted_ms).unwrap_or_default();
        Mark(stored::Rejoin { seen_open_ms: now.0, seal_epoch: epoch, sealed_on_purpose: false, granted_ms })
    }

    /// The node is sealed on purpose, alone.
    fn sealed(now: Timestamp, epoch: u64) -> Mark {
        Mark(stored::Rejoin { seen_open_ms: now.0, seal_epoch: epoch, sealed_on_purpose: true, granted_ms: Vec::new() })
    }

    /// The mark with one grant more, if the limits leave room for it.
    fn granted(&self, rejoin: Rejoin, now: Timestamp, epoch: u64) -> Result<Mark, KeyRefusal> {
        let mark = &self.0;
        if mark.sealed_on_purpose || mark.seal_epoch != epoch {
            return Err(KeyRefusal::SealedOnPurpose);
        }
        let age = |time_ms: u64| Duration::from_millis(now.0.saturating_sub(time_ms));
        if age(mark.seen_open_ms) > rejoin.within {
            return Err(KeyRefusal::TooLate { within: rejoin.within });
        }
        let mut granted_ms: Vec<u64> = mark.granted_ms.iter().copied().filter(|&time| age(time) < REJOIN_COUNT_PERIOD).collect();
        if granted_ms.len() >= usize::try_from(rejoin.count.min(REJOIN_COUNT_MAX)).unwrap_or(usize::MAX) {
            return Err(KeyRefusal::TooOften { count: rejoin.count });
        }
        granted_ms.push(now.0);
        Ok(Mark(stored::Rejoin { granted_ms, ..mark.clone() }))
    }
}

/// What came of asking the peers.
enum Asked {
    /// One of them gave the keys.
    Opened,
    /// All of them refused; why the last did.
    Refused(String),
    /// Somebody could not answer yet.
    NotYet,
}

impl Barrier {
    /// While this node is open: writes that it is, so that it may rejoin.
    pub(crate) async fn mark_open(&self) {
        let Some(rejoin) = self.inner.opening.rejoin else { return };
        let mut open = self.watch_open();
        loop {
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                waited = open.wait_for(|open| *open) => if waited.is_err() { return },
            }
            let pause = match self.write_mark_open().await {
                Ok(()) => rejoin.within / MARKS_WITHIN,
                Err(error) => {
                    tracing::debug!(%error, "write that this node is open");
                    RETRY_PAUSE
                }
            };
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                // Sealed, and perhaps open again: that counts anew.
                changed = open.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn write_mark_open(&self) -> Result<(), CommitError> {
        let this = &self.inner.facts.node_id;
        let epoch = self.keys().with_all(|held| held.epoch).ok_or(CommitError::Sealed)?;
        let view = self.view().await?;
        let (revision, before) = Mark::read(&view, this)?;
        let mut plan = Plan::new();
        plan.expect(Mark::name(this), revision);
        Mark::open(before, self.inner.clock.now(), epoch).put(this, &mut plan);
        self.commit(&view, &plan).await.map(drop)
    }

    /// What keeps this node from rejoining after it was sealed on purpose: encrypted while there are keys, to be written once they are gone.
    pub(crate) async fn mark_of_seal(&self) -> Option<Bytes> {
        self.inner.opening.rejoin?;
        let make = async {
            let epoch = self.keys().with_all(|held| held.epoch).ok_or(CommitError::Sealed)?;
            let mut plan = Plan::new();
            Mark::sealed(self.inner.clock.now(), epoch).put(&self.inner.facts.node_id, &mut plan);
            let view = self.view().await?;
            Ok::<Bytes, CommitError>(self.seal_counted(&view, &plan).await?.encode()?)
        };
        let made = tokio::time::timeout(MARK_OF_SEAL_MAX, make).await;
        let why = match made {
            Ok(Ok(batch)) => return Some(batch),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no quorum in time".to_owned(),
        };
        tracing::warn!(why, "it is not written that this node was sealed on purpose: its peers may open it when it restarts");
        None
    }

    pub(crate) async fn write_mark_of_seal(&self, mark: Bytes) {
        let why = match tokio::time::timeout(WRITE_OF_SEAL_MAX, self.inner.raft.propose_from_reserve(mark)).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no quorum in time".to_owned(),
        };
        tracing::warn!(why, "it is not written that this node was sealed on purpose: its peers may open it when it restarts");
    }

    /// After a start: asks the open peers for the keys, until one gives them, all refuse, or the time to rejoin is over.
    pub(crate) async fn rejoin(&self) {
        let Some(rejoin) = self.inner.opening.rejoin else { return };
        let deadline = tokio::time::Instant::now() + rejoin.within;
        let mut pause = RETRY_PAUSE;
        let mut open = self.watch_open();
        while self.is_sealed() && tokio::time::Instant::now() < deadline {
            match self.ask_to_rejoin().await {
                Asked::Opened => return,
                Asked::Refused(why) => {
                    return tracing::warn!(why, "the peers do not open this node: it stays sealed until shares are entered");
                }
                Asked::NotYet => {}
            }
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(ASK_PAUSE_MAX),
                waited = open.wait_for(|open| *open) => { let _ = waited; return; }
            }
        }
    }

    async fn ask_to_rejoin(&self) -> Asked {
        // Only a replica that has come as far as the others can use the keys, and each grant counts.
        let is_initialized = match self.inner.raft.read().await {
            Ok(table) => matches!(crate::records::read(&*table), Ok(Some(_))),
            Err(_) => false,
        };
        if !is_initialized {
            return Asked::NotYet;
        }
        let mut refused = None;
        let mut somebody_may = false;
        for peer in self.other_members() {
            if !self.is_sealed() {
                return Asked::Opened;
            }
            match self.inner.peers.keyring_key(Arc::clone(&peer), peer::KeyringKeyRequest { proof: Bytes::new() }).await {
                Ok(given) => {
                    let handed = peer::HandOverRequest { keyring_key: given.keyring_key, seal_epoch: given.seal_epoch };
                    match self.take_keys(&handed, false) {
                        Ok(()) => {
                            tracing::info!(from = %peer.id, "opened by a peer (rejoin)");
                            self.journal(Entry::new(Act::Rejoined { from: peer.id.clone() }));
                            return Asked::Opened;
                        }
                        Err(error) => tracing::warn!(from = %peer.id, %error, "take the keys that a peer gave (rejoin)"),
                    }
                    somebody_may = true;
                }
                Err(PeerCallError::Refused(why)) => refused = Some(why),
                Err(PeerCallError::Lost(why)) => {
                    tracing::debug!(from = %peer.id, why, "ask to rejoin");
                    somebody_may = true;
                }
            }
        }
        match refused {
            Some(why) if !somebody_may => Asked::Refused(why),
            _ => Asked::NotYet,
        }
    }

    /// A sealed member asks to be opened: gives it the key of the keyring, if it may rejoin.
    pub(crate) async fn grant_rejoin(&self, caller: &NodeId) -> Result<peer::KeyringKeyResponse, KeyRefusal> {
        let given = self.try_grant_rejoin(caller).await;
        let to = caller.clone();
        match &given {
            Ok(_) => {
                tracing::warn!(node = %caller, "opened a restarted node (rejoin)");
                self.journal(Entry::new(Act::RejoinGranted { to }));
            }
            Err(error) if error.is_passing() => tracing::debug!(node = %caller, %error, "rejoin"),
            Err(error) => {
                match error {
                    KeyRefusal::IsOpen => tracing::error!(node = %caller, %error, "refused to open a node (rejoin)"),
                    _ => tracing::warn!(node = %caller, %error, "refused to open a node (rejoin)"),
                }
                self.journal(Entry::new(Act::RejoinRefused { to, reason: error.to_string() }));
            }
        }
        given
    }

    async fn try_grant_rejoin(&self, caller: &NodeId) -> Result<peer::KeyringKeyResponse, KeyRefusal> {
        let rejoin = self.inner.opening.rejoin.ok_or(KeyRefusal::NotOn)?;
        let epoch = self.keys().with_all(|held| held.epoch).ok_or(KeyRefusal::NotHere)?;
        let member = self.inner.raft.peer(caller).ok_or(KeyRefusal::NoMember)?;
        // Who has only the certificate of a member that runs is found out here.
        match self.inner.peers.status(member).await {
            Ok(status) if status.sealed => {}
            Ok(_) => return Err(KeyRefusal::IsOpen),
            Err(_) => return Err(KeyRefusal::NotReached),
        }
        for _ in 0..GRANT_TRIES_MAX {
            let view = self.view().await.map_err(|_| KeyRefusal::NotHere)?;
            let (revision, mark) = Mark::read(&view, caller).map_err(|_| KeyRefusal::NotHere)?;
            let granted = mark.ok_or(KeyRefusal::NeverOpen)?.granted(rejoin, self.inner.clock.now(), epoch)?;
            let mut plan = Plan::new();
            plan.expect(Mark::name(caller), revision);
            granted.put(caller, &mut plan);
            match self.commit(&view, &plan).await {
                Ok(_) => {
                    let given = self.keys().with_all(|held| {
                        // EXPOSE: the key of the keyring goes to a member of the cluster, under mutual TLS that ends there.
                        (held.epoch == epoch).then(|| peer::KeyringKeyResponse {
                            keyring_key: Bytes::copy_from_slice(held.keyring_key.expose()),
                            seal_epoch: held.epoch,
                        })
                    });
                    return given.flatten().ok_or(KeyRefusal::NotHere);
                }
                Err(CommitError::Conflict) => {}
                Err(error) => {
                    tracing::warn!(node = %caller, %error, "record a grant (rejoin)");
                    return Err(KeyRefusal::NotHere);
                }
            }
        }
        Err(KeyRefusal::NotHere)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Rejoin = Rejoin { within: Duration::from_secs(900), count: 2 };
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    /// Why there is no grant; `None` when there is one.
    fn refusal(mark: &Mark, now: u64, epoch: u64) -> Option<KeyRefusal> {
        mark.granted(LIMITS, Timestamp(now), epoch).err()
    }

    #[test]
    fn grants_end_with_the_window_the_count_and_any_seal() {
        let open = Mark::open(None, Timestamp(1_000), 7);
        assert!(matches!(refusal(&open, 1_000 + 900_001, 7), Some(KeyRefusal::TooLate { .. })));
        assert!(refusal(&open, 1_000 + 900_000, 7).is_none());
        assert!(refusal(&open, 0, 7).is_none(), "another node's clock may be a little behind");
        assert!(matches!(refusal(&open, 2_000, 8), Some(KeyRefusal::SealedOnPurpose)), "sealed since");
        let sealed = Mark::sealed(Timestamp(1_000), 7);
        assert!(matches!(refusal(&sealed, 1_001, 7), Some(KeyRefusal::SealedOnPurpose)));

        let granted = |mark: &Mark, now: u64| mark.granted(LIMITS, Timestamp(now), 7).ok().unwrap();
        let first = granted(&open, 2_000);
        let second = granted(&Mark::open(Some(first), Timestamp(3_000), 7), 4_000);
        let reopened = Mark::open(Some(second.clone()), Timestamp(4_500), 7);
        assert!(matches!(refusal(&reopened, 5_000, 7), Some(KeyRefusal::TooOften { count: 2 })), "to be open gives no new grants");
        let next_day = granted(&Mark::open(Some(second), Timestamp(2_000 + DAY_MS), 7), 2_001 + DAY_MS);
        assert_eq!(next_day.0.granted_ms, [4_000, 2_001 + DAY_MS], "a grant counts for a day");
    }
}

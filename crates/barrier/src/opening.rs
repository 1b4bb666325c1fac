//! How the cluster opens and is sealed: shares entered at any node, keys handed from member to member, static keys, and the seal epoch.
//!
//! A share goes on to the coordinator (the Raft leader, sealed or not), which opens the root key once a quorum has come, and hands the key
//! of the keyring to every sealed member. The root key itself leaves the coordinator only to a node that carries out an act on the keys
//! ([`crate::attempt`]), and no node keeps it. One write to the log (the seal epoch) seals all nodes: each wipes its keys when it applies it.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::Ordering as AtomicOrdering;
use std::time::Duration;

use bytes::Bytes;
use crypto::{KeyringKey, RootKey, Share, ShareDigest, constant_time_eq};
use proto::peer;
use raft::{Heirs, Peer, ProposeError, Role};
use storage::{Batch, Expectation, Write};
use types::NodeId;

use crate::barrier::{Barrier, SealStatus};
use crate::journal::{Act, Entry, OpenedBy, SealScope};
use crate::keyring::{Keyring, KeyringError};
use crate::peers::PeerCallError;
use crate::pool::Purpose;
use crate::records::{self, RecordError, Records};
use crate::seals::{Recognised, Split, Unrecognised, UnsealError};

/// How long the coordinator tries to hand the keys to a member that does not answer.
const HAND_OVER_MAX: Duration = Duration::from_secs(30);
const HAND_OVER_PAUSE: Duration = Duration::from_millis(200);
/// Shares in one submission, at most.
const SUBMITTED_SHARES_MAX: usize = 2 * crypto::shamir::SHARES_MAX as usize;
/// How long a seal waits for the other nodes to say that they are sealed.
const CONFIRM_MAX: Duration = Duration::from_secs(3);
const CONFIRM_PAUSE: Duration = Duration::from_millis(50);
/// How often a sealed leader looks whether another member could lead, and a node behind asks for the keys again.
pub(crate) const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// How long a node that opens itself waits for the cluster's newest records, before it goes by its own.
const NEWEST_RECORDS_MAX: Duration = Duration::from_secs(10);

/// Why a share was not accepted. The progress stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// There is nothing to open yet.
    #[error("the cluster is not initialized")]
    NotInitialized,
    /// It says itself that it belongs elsewhere.
    #[error("share {number} is wrong: it is a share of another cluster")]
    OtherCluster {
        /// Its number.
        number: u8,
    },
    /// This cluster's, but of no split that counts.
    #[error("share {number} is wrong: it is of an earlier split of this cluster's key (the shares were renewed since), or forged")]
    OtherSplit {
        /// Its number.
        number: u8,
    },
    /// A new share where an old one is asked for, or the other way round.
    #[error("share {number} is wrong here: it is one of the {given} shares, and the {wanted} ones are asked for")]
    WrongSplit {
        /// Its number.
        number: u8,
        /// "new" or "old".
        given: &'static str,
        /// The other of the two.
        wanted: &'static str,
    },
    /// It counts once.
    #[error("share {number}{} was entered already", of(holder))]
    Repeated {
        /// Its number.
        number: u8,
        /// Whose it is; may be empty.
        holder: String,
    },
    /// A quorum came, and did not open the cluster.
    #[error("the shares are right, but do not open the cluster")]
    Unseal(#[from] UnsealError),
    /// As above.
    #[error("the shares are right, but the keyring does not open")]
    Keyring(#[from] KeyringError),
    /// A peer sent what is no share.
    #[error("malformed share")]
    Malformed(#[from] crypto::ShareParseError),
    /// A peer sent what this version does not know.
    #[error("the other node asks for what this one does not know: run the same version on both")]
    UnknownPurpose,
    /// A seal came in between: the shares that were entered are gone.
    #[error("the cluster was sealed meanwhile: enter the shares again")]
    SealedMeanwhile,
    /// The records cannot be read.
    #[error("read the seal record")]
    Record(#[from] RecordError),
    /// The share is kept at this node, and will be handed on once there is a leader.
    #[error("no leader to hand the share to (it is kept and will be handed on)")]
    NoCoordinator,
    /// As above, but it is not kept.
    #[error("no leader to hand the share to (it is not kept: enter it again once there is one)")]
    NotHandedOn,
    /// The coordinator refused.
    #[error("the coordinator refused the share: {0}")]
    Refused(String),
}

fn of(holder: &str) -> String {
    if holder.is_empty() { String::new() } else { format!(" ({holder}'s)") }
}

/// Why keys that a peer handed over were not taken.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// This replica has not come so far yet.
    #[error("this replica has not applied what the coordinator has")]
    NotYet,
    /// The cluster has been sealed since.
    #[error("the cluster has been sealed since")]
    Stale,
    /// Not the key of this cluster's keyring.
    #[error("not the key of this cluster's keyring")]
    Wrong,
    /// The records cannot be read.
    #[error("read the seal record")]
    Record(#[from] RecordError),
}

/// Why a peer did not get the key of the keyring.
#[derive(Debug, thiserror::Error)]
pub enum KeyRefusal {
    /// This node is sealed, or has not got the newest key itself.
    #[error("this node has not got the keys either")]
    NotHere,
    /// The asker did not prove that it is an open node.
    #[error("only open nodes are given the keys")]
    NotOpen,
    /// This node's configuration lets nobody rejoin.
    #[error("no node is opened by its peers here (rejoin is off)")]
    NotOn,
    /// The asker is no member.
    #[error("it is not a member")]
    NoMember,
    /// The member of this name is open.
    #[error("the node of this name is open already: is its certificate used by somebody else?")]
    IsOpen,
    /// The member of this name does not answer.
    #[error("the node of this name does not answer at its address")]
    NotReached,
    /// It has never been open with rejoin on.
    #[error("it was never open while rejoin was on")]
    NeverOpen,
    /// It, or the whole cluster, was sealed on purpose.
    #[error("it was sealed on purpose since it was open")]
    SealedOnPurpose,
    /// It was away for too long.
    #[error("it was not open within the last {within:?} (rejoin_within)")]
    TooLate {
        /// The limit.
        within: Duration,
    },
    /// It was opened too often.
    #[error("its peers have opened it {count} times within a day (rejoin_count)")]
    TooOften {
        /// The limit.
        count: u32,
    },
}

impl KeyRefusal {
    /// Whether another ask, or another node, may have another answer.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, KeyRefusal::NotHere | KeyRefusal::NotReached)
    }
}

/// Why the cluster is not sealed as asked. This node is sealed in any case.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There was nothing to seal.
    #[error("the cluster is not initialized")]
    NotInitialized,
    /// No quorum: the other nodes were not told, or nobody knows.
    #[error("only this node is surely sealed: {0}")]
    OnlyThisNode(String),
    /// The records cannot be read.
    #[error("read the seal record")]
    Record(#[from] RecordError),
}

/// What a node said after every node was told to seal itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedNode {
    /// Its id.
    pub node_id: NodeId,
    /// Whether it confirmed that it is sealed. One that does not answer seals itself when it hears of it.
    pub confirmed: bool,
}

/// What a share that was taken has brought.
pub(crate) struct Entered {
    pub(crate) progress: peer::Progress,
    /// Of an act's last share: what the quorum opened.
    pub(crate) root: Option<RootKey>,
}

impl Barrier {
    /// Takes a share. At the threshold every sealed node opens. Answers the status after it. With `migrate` the seals become those of the
    /// coordinator's configuration.
    ///
    /// At an open node nothing is taken: there the status says so.
    pub async fn enter_share(&self, share: Share, migrate: bool) -> Result<SealStatus, ShareError> {
        if !self.is_sealed() {
            self.records().await?.ok_or(ShareError::NotInitialized)?;
            return Ok(self.status().await?);
        }
        let entered = self.enter(Purpose::Unseal, share, migrate).await?;
        let progress = entered.progress;
        if progress.open {
            // The coordinator is about to hand the keys over; the answer should already show it.
            let mut open = self.watch_open();
            let opened = tokio::time::timeout(Duration::from_secs(1), open.wait_for(|open| *open)).await;
            if opened.is_err() {
                tracing::warn!("the coordinator is open, but has not handed the keys over yet");
            }
        }
        let mut status = self.status().await?;
        if status.sealed && !progress.open {
            status.take(progress);
        }
        Ok(status)
    }

    /// Takes a share for whatever purpose, hands it to the coordinator, and writes down what came of it.
    pub(crate) async fn enter(&self, purpose: Purpose, share: Share, migrate: bool) -> Result<Entered, ShareError> {
        let records = self.records().await?.ok_or(ShareError::NotInitialized)?;
        let number = share.number();
        let nonce = match purpose {
            Purpose::Unseal => String::new(),
            Purpose::Act(_, nonce) => nonce.to_string(),
        };
        let recognised = recognise(&records, &share, purpose).inspect_err(|error| {
            self.journal(Entry::new(Act::ShareRefused { reason: error.to_string() }).share(number, None).nonce(&nonce));
        })?;
        self.note_verified(&records.seals, &recognised);
        let entry = |act| Entry::new(act).share(number, Some(&ShareDigest(recognised.digest))).holder(&recognised.holder).nonce(&nonce);
        // Before it counts: what a share brings about is written down after it.
        self.journal(entry(Act::ShareAccepted));
        let entered = self.hand_in(purpose, &records, share, &recognised, migrate).await;
        if let Err(error) = &entered {
            self.journal(entry(Act::ShareRefused { reason: error.to_string() }));
        }
        entered
    }

    async fn hand_in(
        &self,
        purpose: Purpose,
        records: &Records,
        share: Share,
        recognised: &Recognised,
        migrate: bool,
    ) -> Result<Entered, ShareError> {
        let number = share.number();
        let repeated = || ShareError::Repeated { number, holder: recognised.holder.clone() };
        match self.coordinator() {
            None if self.leads() => {
                let is_new = self.pools().add(purpose, recognised.split, share, &*self.inner.rng);
                let (progress, root) = self.complete(purpose, records, migrate)?;
                if !is_new && !progress.open {
                    return Err(repeated());
                }
                Ok(Entered { progress, root })
            }
            None if purpose == Purpose::Unseal => {
                self.pools().add(purpose, recognised.split, share, &*self.inner.rng);
                Err(ShareError::NoCoordinator)
            }
            None => Err(ShareError::NotHandedOn),
            Some(coordinator) => {
                // Shares that open the cluster are kept, for the next coordinator if this one goes; those of an act only pass through.
                let shares = if purpose == Purpose::Unseal {
                    self.pools().add(purpose, recognised.split, share, &*self.inner.rng);
                    self.pooled(purpose)
                } else {
                    // EXPOSE: the share goes to the coordinator, under mutual TLS that ends there.
                    vec![Bytes::copy_from_slice(share.expose())]
                };
                let mut progress = self.submit(coordinator, purpose, shares, migrate, records.epoch).await?;
                if progress.repeated_shares.contains(&number.into()) && !progress.open {
                    return Err(repeated());
                }
                let root = RootKey::from_slice(&std::mem::take(&mut progress.root_key));
                Ok(Entered { progress, root })
            }
        }
    }

    /// Throws the progress away, at every node that can be reached. One share is the proof that a holder wants it; it is not kept.
    pub async fn reset_ceremony(&self, proof: &Share) -> Result<SealStatus, ShareError> {
        let records = self.records().await?.ok_or(ShareError::NotInitialized)?;
        let recognised = recognise(&records, proof, Purpose::Unseal)?;
        self.reset_everywhere(Purpose::Unseal).await;
        let entry = Entry::new(Act::CeremonyReset).share(proof.number(), Some(&ShareDigest(recognised.digest)));
        self.journal(entry.holder(&recognised.holder));
        Ok(self.status().await?)
    }

    pub(crate) async fn reset_everywhere(&self, purpose: Purpose) {
        self.pools().reset(purpose);
        let resets = self.other_members().into_iter().map(|peer| self.inner.peers.reset(peer, purpose.message()));
        for error in futures::future::join_all(resets).await.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "a node did not hear of the reset");
        }
    }

    fn pooled(&self, purpose: Purpose) -> Vec<Bytes> {
        // EXPOSE: shares go to the coordinator, under mutual TLS that ends there.
        self.pools().shares(purpose).map(|share| Bytes::copy_from_slice(share.expose())).collect()
    }

    async fn submit(
        &self,
        to: Arc<Peer>,
        purpose: Purpose,
        shares: Vec<Bytes>,
        migrate: bool,
        seal_epoch: u64,
    ) -> Result<peer::Progress, ShareError> {
        let request = peer::SubmitRequest { shares, purpose: Some(purpose.message()), migrate, seal_epoch };
        match self.inner.peers.submit(to, request).await {
            Ok(progress) => Ok(progress),
            Err(PeerCallError::Refused(why)) => Err(ShareError::Refused(why)),
            Err(error @ PeerCallError::Lost(_)) => {
                tracing::warn!(%error, "hand a share to the coordinator");
                Err(if purpose == Purpose::Unseal { ShareError::NoCoordinator } else { ShareError::NotHandedOn })
            }
        }
    }

    /// Opens what a quorum of shares was entered for, if there is one: the cluster, or the root key for who acts on it.
    fn complete(&self, purpose: Purpose, records: &Records, migrate: bool) -> Result<(peer::Progress, Option<RootKey>), ShareError> {
        let taken = self.pools().take_quorum(purpose, |split| records.seals.quorum_of(split));
        let Some((split, shares)) = taken else {
            return Ok((self.peer_progress(purpose), None));
        };
        let opened = records.seals.open(split, &shares)?;
        drop(shares);
        if let Purpose::Act(act, _) = purpose {
            let root = if act == peer::purpose::Act::Verify { opened.next_root } else { Some(opened.root) };
            return Ok((self.peer_progress(purpose), root));
        }
        self.open_by(&opened.root, records, OpenedBy::Shares)?;
        let barrier = self.clone();
        self.inner.tasks.spawn(async move {
            if migrate && let Err(error) = barrier.migrate(&opened.root).await {
                tracing::error!(%error, "the seals stay as they were");
            }
            // The new shares have come back: they take the place of the old ones.
            if let Some(next_root) = opened.next_root
                && let Err(error) = barrier.promote(&next_root).await
            {
                tracing::error!(%error, "the new shares opened the cluster, but are not in force yet: the old ones open it too");
            }
        });
        Ok((peer::Progress { open: true, ..self.peer_progress(purpose) }, None))
    }

    /// Opens this node, and hands the keys to every other one.
    fn open_by(&self, root: &RootKey, records: &Records, by: OpenedBy) -> Result<(), ShareError> {
        let keyring_key = root.derive_keyring_key();
        let cluster = records.seals.cluster_id;
        let keyring = Keyring::open(&keyring_key, cluster, &records.keyring)?;
        if self.is_sealed() {
            if !self.keys().open(keyring, keyring_key, cluster, records.epoch) {
                return Err(ShareError::SealedMeanwhile);
            }
            tracing::info!(?by, "unsealed");
            self.journal(Entry::new(Act::Opened { by }));
        }
        for peer in self.other_members() {
            let (barrier, epoch) = (self.clone(), records.epoch);
            self.inner.tasks.spawn(async move { barrier.hand_over(peer, epoch).await });
        }
        Ok(())
    }

    /// Hands the keys to a member, again and again until it has taken them, the time is over, or the cluster is sealed.
    async fn hand_over(&self, peer: Arc<Peer>, epoch: u64) {
        let attempts = async {
            // EXPOSE: the key of the keyring goes to a member of the cluster, under mutual TLS that ends there.
            let request = || {
                let key = self.keys().with_all(|held| (held.epoch <= epoch).then(|| Bytes::copy_from_slice(held.keyring_key.expose())));
                key.flatten().map(|keyring_key| peer::HandOverRequest { keyring_key, seal_epoch: epoch })
            };
            while let Some(request) = request() {
                match self.inner.peers.hand_over(Arc::clone(&peer), request).await {
                    Ok(()) => return tracing::info!(peer = %peer.id, "handed the keys over"),
                    Err(error) => tracing::debug!(peer = %peer.id, %error, "hand the keys over"),
                }
                tokio::time::sleep(HAND_OVER_PAUSE).await;
            }
        };
        tokio::select! {
            biased;
            () = self.inner.stop.cancelled() => {}
            () = tokio::time::sleep(HAND_OVER_MAX) => tracing::warn!(peer = %peer.id, "it did not take the keys in time and stays sealed"),
            () = attempts => {}
        }
    }

    /// Seals this node at once, and then every other, by an entry in the log at which each wipes its keys. Tells which have confirmed it.
    ///
    /// When the call is dropped half-way, the sealing goes on: this node is sealed in any case.
    pub async fn seal(&self, by: &str) -> Result<Vec<SealedNode>, SealError> {
        self.inner.sealing.store(true, AtomicOrdering::Release);
        self.wipe();
        self.journal(Entry::new(Act::Sealed { scope: SealScope::Cluster }).actor(by));
        let barrier = self.clone();
        let sealing = self.inner.tasks.spawn(async move { barrier.seal_all().await });
        let sealed = sealing.await.unwrap_or_else(|_| Err(SealError::OnlyThisNode("the node is stopping".into())));
        // Keys that a ceremony handed over before the entry was applied are gone as well.
        self.keys().seal();
        tracing::info!(all = sealed.is_ok(), "sealed");
        sealed?;
        Ok(self.confirmations().await)
    }

    /// Seals this node and no other. It goes on to vote and to replicate; a leader hands leadership to a member that is open.
    ///
    /// When the call is dropped half-way, the sealing goes on.
    pub async fn seal_this_node(&self, by: &str) {
        let (barrier, by) = (self.clone(), by.to_owned());
        let sealing = self.inner.tasks.spawn(async move {
            let mark = barrier.mark_of_seal().await;
            barrier.inner.sealing.store(true, AtomicOrdering::Release);
            barrier.wipe();
            barrier.journal(Entry::new(Act::Sealed { scope: SealScope::Node }).actor(&by));
            tracing::info!("sealed, this node only");
            if let Some(mark) = mark {
                barrier.write_mark_of_seal(mark).await;
            }
            barrier.step_aside().await;
        });
        if sealing.await.is_err() {
            self.wipe();
        }
    }

    /// Writes down that this node was sealed from elsewhere.
    pub(crate) async fn journal_seals(&self) {
        let mut open = self.watch_open();
        loop {
            for wanted in [true, false] {
                tokio::select! {
                    biased;
                    () = self.inner.stop.cancelled() => return,
                    waited = open.wait_for(|open| *open == wanted) => if waited.is_err() { return },
                }
            }
            if !self.inner.sealing.swap(false, AtomicOrdering::AcqRel) {
                self.journal(Entry::new(Act::Sealed { scope: SealScope::Cluster }).outcome("done, as another node was asked"));
            }
        }
    }

    fn wipe(&self) {
        self.keys().seal();
        self.pools().clear();
    }

    async fn confirmations(&self) -> Vec<SealedNode> {
        let deadline = tokio::time::Instant::now() + CONFIRM_MAX;
        let asks = self.other_members().into_iter().map(|peer| async move {
            loop {
                let status = self.inner.peers.status(Arc::clone(&peer)).await;
                if matches!(&status, Ok(status) if status.sealed) {
                    return SealedNode { node_id: peer.id.clone(), confirmed: true };
                }
                if tokio::time::Instant::now() >= deadline {
                    return SealedNode { node_id: peer.id.clone(), confirmed: false };
                }
                tokio::time::sleep(CONFIRM_PAUSE).await;
            }
        });
        let mut nodes = futures::future::join_all(asks).await;
        nodes.push(SealedNode { node_id: self.inner.facts.node_id.clone(), confirmed: true });
        nodes.sort_by(|a, b| a.node_id.cmp(&b.node_id));
        nodes
    }

    async fn seal_all(&self) -> Result<(), SealError> {
        loop {
            let records = match self.inner.raft.read().await {
                Ok(table) => records::read(&*table)?.ok_or(SealError::NotInitialized)?,
                Err(error) => return Err(SealError::OnlyThisNode(error.to_string())),
            };
            let batch = Batch {
                expectations: vec![Expectation { key: records::epoch_key(), revision: records.epoch_revision }],
                writes: vec![Write { key: records::epoch_key(), value: Some(records::encode_epoch(records.epoch + 1)) }],
            };
            let encoded = batch.encode().map_err(|error| SealError::OnlyThisNode(error.to_string()))?;
            // A full disk must not keep a cluster open.
            match self.inner.raft.propose_from_reserve(encoded).await {
                Ok(_) => return Ok(()),
                Err(ProposeError::Conflict { .. }) => {}
                Err(error) => return Err(SealError::OnlyThisNode(error.to_string())),
            }
        }
    }

    /// Hands leadership to an open member, if this node leads and is sealed: so that the cluster's work is done by who can.
    async fn step_aside(&self) {
        if self.inner.raft.status().role != Role::Leader || !self.is_sealed() {
            return;
        }
        let prefer = self.open_members().await;
        if prefer.is_empty() {
            return;
        }
        match self.inner.raft.step_down(&Heirs { prefer, no_others: true }).await {
            Ok(()) => tracing::info!("sealed, so leadership went to an open member"),
            Err(error) => tracing::warn!(%error, "hand leadership to an open member"),
        }
    }

    /// Looks now and then whether this node should not lead.
    pub(crate) async fn lead_open_only(&self) {
        loop {
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_PAUSE) => self.step_aside().await,
            }
        }
    }

    /// Sees to it that the shares that were entered here to open the cluster are with whoever coordinates: at once when another node comes
    /// to lead, and else within [`LOOK_PAUSE`], should the coordinator not have been reached, or have restarted.
    pub(crate) async fn follow_the_coordinator(&self) {
        let mut known = None;
        loop {
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                leader = self.inner.raft.leader_changed(known.as_ref()) => {
                    if leader == known {
                        // Raft has ended: there will be no other leader.
                        return;
                    }
                    known = leader;
                }
                () = tokio::time::sleep(LOOK_PAUSE) => {}
            }
            if self.is_sealed()
                && let Err(error) = self.hand_on().await
            {
                tracing::warn!(%error, "hand the entered shares on to the coordinator");
            }
        }
    }

    async fn hand_on(&self) -> Result<(), ShareError> {
        // Before the shares: a seal that is applied in between throws them away.
        let Some(records) = self.records_here()? else { return Ok(()) };
        let entered = self.pools().entered(Purpose::Unseal).1;
        if entered.is_empty() {
            return Ok(());
        }
        let Some(coordinator) = self.coordinator() else {
            return if self.leads() { self.complete(Purpose::Unseal, &records, false).map(drop) } else { Ok(()) };
        };
        let Ok(there) = self.inner.peers.progress(Arc::clone(&coordinator), Purpose::Unseal.message()).await else { return Ok(()) };
        // One that is open is about to hand the keys over.
        if there.open || entered.iter().all(|&number| there.shares.contains(&number.into())) {
            return Ok(());
        }
        self.submit(coordinator, Purpose::Unseal, self.pooled(Purpose::Unseal), false, records.epoch).await.map(drop)
    }

    /// Opens this node by a static key of its configuration, if there is a seal of one.
    pub(crate) async fn open_by_static_key(&self) {
        if self.inner.opening.static_keys.is_empty() {
            return;
        }
        // A node that was away must not go by the seals of then, nor miss a seal that was asked for meanwhile.
        let deadline = tokio::time::Instant::now() + NEWEST_RECORDS_MAX;
        let records = loop {
            let newest = match self.inner.raft.read().await {
                Ok(table) => Some(records::read(&*table)),
                Err(_) if tokio::time::Instant::now() >= deadline => Some(self.records_here()),
                Err(_) => None,
            };
            match newest {
                Some(Ok(Some(records))) => break records,
                Some(Err(error)) => return tracing::error!(%error, "open by a static key"),
                Some(Ok(None)) | None => {}
            }
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_PAUSE / 5) => {}
            }
        };
        for key in &self.inner.opening.static_keys {
            if !self.is_sealed() {
                return;
            }
            match records.seals.open_static(key) {
                Ok(Some(root)) => match self.open_by(&root, &records, OpenedBy::StaticSeal { name: key.id().to_owned() }) {
                    Ok(()) => {
                        // A key that follows the one before it needs no ceremony.
                        if !key.gets_seal()
                            && let Err(error) = self.add_missing_seals(&root).await
                        {
                            tracing::error!(%error, "opened by the previous key, but there is no seal of the current one yet");
                        }
                        return;
                    }
                    Err(error) => tracing::error!(%error, key_id = key.id(), "open by a static key"),
                },
                Ok(None) => tracing::warn!(key_id = key.id(), "there is no seal of this key (unseal with -migrate adds it)"),
                Err(error) => {
                    tracing::error!(%error, key_id = key.id(), "the static key does not open this cluster (the shares do)");
                }
            }
        }
    }

    /// Gets the key of a keyring that another node has rekeyed, from any open member.
    pub(crate) async fn catch_up(&self) {
        let mut behind = self.keys().watch_behind();
        loop {
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                waited = behind.wait_for(|behind| *behind) => if waited.is_err() { return },
            }
            if self.is_sealed() || self.ask_for_keys().await {
                tracing::debug!("the key of the newest keyring is at hand, or the node is sealed");
            }
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(HAND_OVER_PAUSE) => {}
            }
        }
    }

    async fn ask_for_keys(&self) -> bool {
        let this = self.inner.facts.node_id.as_str();
        for peer in self.other_members() {
            let Some(proof) = self.keys().with(|keyring| keyring.peer_proof(this, peer.id.as_str())) else { return false };
            let request = peer::KeyringKeyRequest { proof: Bytes::copy_from_slice(&proof) };
            let Ok(answer) = self.inner.peers.keyring_key(Arc::clone(&peer), request).await else { continue };
            let handed = peer::HandOverRequest { keyring_key: answer.keyring_key, seal_epoch: answer.seal_epoch };
            match self.take_keys(&handed, true) {
                Ok(()) => {
                    tracing::info!(from = %peer.id, "took the keys of the newest keyring");
                    return true;
                }
                Err(error) => tracing::debug!(from = %peer.id, %error, "take the keys of the newest keyring"),
            }
        }
        false
    }

    /// What another node asks: takes the shares that were entered there, and opens what they are for once they are a quorum.
    pub fn peer_submit(&self, request: peer::SubmitRequest) -> Result<peer::Progress, ShareError> {
        let purpose = Purpose::of(request.purpose.as_ref()).ok_or(ShareError::UnknownPurpose)?;
        let records = self.records_here()?.ok_or(ShareError::NotInitialized)?;
        if request.seal_epoch < records.epoch {
            return Err(ShareError::SealedMeanwhile);
        }
        let mut repeated_shares = Vec::new();
        for bytes in request.shares.iter().take(SUBMITTED_SHARES_MAX) {
            let share = Share::from_bytes(bytes)?;
            let number = share.number();
            let recognised = recognise(&records, &share, purpose)?;
            if !self.pools().add(purpose, recognised.split, share, &*self.inner.rng) {
                repeated_shares.push(number.into());
            }
        }
        let (progress, root) = self.complete(purpose, &records, request.migrate)?;
        // EXPOSE: the root key goes to the member that acts on it, under mutual TLS that ends there.
        let root_key = root.map(|root| Bytes::copy_from_slice(root.expose())).unwrap_or_default();
        Ok(peer::Progress { repeated_shares, root_key, ..progress })
    }

    /// What another node asks: throws the shares of a purpose away.
    pub fn peer_reset(&self, request: &peer::ResetRequest) -> peer::Progress {
        let Some(purpose) = Purpose::of(request.purpose.as_ref()) else { return peer::Progress::default() };
        self.pools().reset(purpose);
        self.peer_progress(purpose)
    }

    /// What another node asks: which shares are here.
    pub fn peer_watch(&self, request: &peer::ProgressRequest) -> peer::Progress {
        Purpose::of(request.purpose.as_ref()).map(|purpose| self.peer_progress(purpose)).unwrap_or_default()
    }

    pub(crate) fn peer_progress(&self, purpose: Purpose) -> peer::Progress {
        let (nonce, (split, shares)) = {
            let pools = self.pools();
            (pools.nonce(), pools.entered(purpose))
        };
        let open = purpose == Purpose::Unseal && shares.is_empty() && !self.is_sealed();
        let split = match split {
            Split::InForce => String::new(),
            Split::Next => {
                self.records_here().ok().flatten().and_then(|records| records.seals.id_of(split).map(str::to_owned)).unwrap_or_default()
            }
        };
        let shares = shares.into_iter().map(u32::from).collect();
        peer::Progress { shares, nonce, open, repeated_shares: Vec::new(), root_key: Bytes::new(), split }
    }

    /// What the coordinator asks: takes the keys, if they are this cluster's and nobody has sealed it since.
    pub fn peer_hand_over(&self, caller: &NodeId, request: &peer::HandOverRequest) -> Result<(), HandOverError> {
        if self.is_sealed() {
            self.take_keys(request, false)?;
            tracing::info!(from = %caller, "unsealed by a member");
            self.journal(Entry::new(Act::Opened { by: OpenedBy::HandOver { from: caller.clone() } }));
        }
        self.pools().reset(Purpose::Unseal);
        Ok(())
    }

    /// Takes keys that a member handed over; `is_open`: in place of older ones, and only while the node is open.
    pub(crate) fn take_keys(&self, request: &peer::HandOverRequest, is_open: bool) -> Result<(), HandOverError> {
        let keyring_key = KeyringKey::from_slice(&request.keyring_key).ok_or(HandOverError::Wrong)?;
        let records = self.records_here()?.ok_or(HandOverError::NotYet)?;
        match request.seal_epoch.cmp(&records.epoch) {
            Ordering::Less => return Err(HandOverError::Stale),
            // Taken at its word, an epoch that never was would outlive every seal.
            Ordering::Greater => return Err(HandOverError::NotYet),
            Ordering::Equal => {}
        }
        records.seals.check(&keyring_key).map_err(|_| HandOverError::Wrong)?;
        let cluster = records.seals.cluster_id;
        let keyring = Keyring::open(&keyring_key, cluster, &records.keyring).map_err(|_| HandOverError::Wrong)?;
        if is_open && self.is_sealed() {
            return Err(HandOverError::Stale);
        }
        if self.keys().open(keyring, keyring_key, cluster, request.seal_epoch) { Ok(()) } else { Err(HandOverError::Stale) }
    }

    /// What an open node asks that has not got the key of the newest keyring, with a proof that it is open; without one, what a node asks
    /// that has restarted, and would rejoin.
    pub async fn peer_keyring_key(
        &self,
        caller: &NodeId,
        request: &peer::KeyringKeyRequest,
    ) -> Result<peer::KeyringKeyResponse, KeyRefusal> {
        if *self.keys().watch_behind().borrow() {
            return Err(KeyRefusal::NotHere);
        }
        if request.proof.is_empty() {
            return self.grant_rejoin(caller).await;
        }
        let this = self.inner.facts.node_id.as_str();
        let held = self.keys().with_all(|held| {
            let is_open = constant_time_eq(&held.keyring.peer_proof(caller.as_str(), this), &request.proof);
            // EXPOSE: the key of the keyring goes to an open member of the cluster, under mutual TLS that ends there.
            is_open.then(|| peer::KeyringKeyResponse {
                keyring_key: Bytes::copy_from_slice(held.keyring_key.expose()),
                seal_epoch: held.epoch,
            })
        });
        held.ok_or(KeyRefusal::NotHere)?.ok_or(KeyRefusal::NotOpen)
    }
}

impl Unrecognised {
    /// What the holder of share `number` is told.
    pub(crate) fn of_share(self, number: u8) -> ShareError {
        match self {
            Unrecognised::OtherCluster => ShareError::OtherCluster { number },
            Unrecognised::OtherSplit => ShareError::OtherSplit { number },
        }
    }
}

/// Whether a share is one of those that are asked for.
fn recognise(records: &Records, share: &Share, purpose: Purpose) -> Result<Recognised, ShareError> {
    let number = share.number();
    let recognised = records.seals.recognise(share).map_err(|unrecognised| unrecognised.of_share(number))?;
    let wrong = |given, wanted| ShareError::WrongSplit { number, given, wanted };
    match (purpose, recognised.split) {
        (Purpose::Act(peer::purpose::Act::Verify, _), Split::InForce) => Err(wrong("old", "new")),
        (Purpose::Act(act, _), Split::Next) if act != peer::purpose::Act::Verify => Err(wrong("new", "old")),
        _ => Ok(recognised),
    }
}

//! [`Barrier`]: initialises the cluster's keys, opens and seals them, and lets upper floors read and write through them.
//!
//! One ceremony opens the cluster: a share entered at any node goes on to the coordinator (the Raft leader, sealed or not),
//! which hands the root key to every sealed member once a quorum has come. One write to the log (the seal epoch) seals all
//! of them: each node wipes its keys when it applies it.

use std::cmp::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use crypto::{Quorum, Rng, RootKey, Share, Zeroizing};
use proto::peer;
use raft::{Peer, ProposeError, Raft, ReadError, watch};
use storage::batch::EncodeError;
use storage::{Batch, Expectation, Write};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::{Clock, ClusterId, Index, NodeId};

use crate::changes::Changes;
use crate::keyring::{Keyring, KeyringError};
use crate::keys::Keys;
use crate::name::Name;
use crate::peers::{CeremonyPeers, PeerCallError};
use crate::plan::Plan;
use crate::pool::Pool;
use crate::records::{self, RecordError, Records, SealRecord, UnsealError};
use crate::view::{View, ViewError, seal_plan};

/// How long the coordinator tries to hand the root key to a member that does not answer.
const HAND_OVER_MAX: Duration = Duration::from_secs(30);
const HAND_OVER_PAUSE: Duration = Duration::from_millis(200);
/// Shares in one submission, at most.
const SUBMITTED_SHARES_MAX: usize = crypto::shamir::SHARES_MAX as usize;

/// What a node tells of itself, besides what the barrier and Raft know.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// Its id.
    pub node_id: NodeId,
    /// URL for clients.
    pub api_address: String,
    /// The software's version.
    pub version: String,
}

struct Inner {
    raft: Raft,
    changes: Arc<Changes>,
    peers: Arc<dyn CeremonyPeers>,
    rng: Arc<dyn Rng>,
    clock: Arc<dyn Clock>,
    facts: NodeFacts,
    pool: Mutex<Pool>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The barrier of this node. Cheap to clone; ends with [`Barrier::shutdown`].
#[derive(Clone)]
pub struct Barrier {
    inner: Arc<Inner>,
}

/// How the cluster is sealed, and how far the ceremony has come.
#[derive(Debug, Clone)]
pub struct SealStatus {
    /// Whether the cluster has keys.
    pub initialized: bool,
    /// Whether this node is sealed.
    pub sealed: bool,
    /// `None` before init.
    pub quorum: Option<Quorum>,
    /// Distinct shares entered so far, anywhere in the cluster.
    pub progress: u8,
    /// Names the attempt; empty while there is none.
    pub nonce: String,
    /// `None` before init.
    pub cluster: Option<(ClusterId, String)>,
}

/// What init gives, once and never again.
pub struct Initialized {
    /// All shares, numbered from 1.
    pub shares: Vec<Share>,
    /// The new cluster's id.
    pub cluster_id: ClusterId,
}

/// Why init did not happen.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The cluster has keys already, or another init came first.
    #[error("the cluster is already initialized")]
    AlreadyInitialized,
    /// No leader: nothing was written.
    #[error("no leader yet")]
    NoLeader,
    /// The disk of this node or of the leader is almost full: nothing was written.
    #[error("the disk is almost full")]
    DiskFull,
    /// The records cannot be read.
    #[error("read the seal record")]
    Record(#[from] RecordError),
    /// Raft or the table failed.
    #[error("{0}")]
    Failed(String),
}

/// Why a share was not accepted. The progress stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// There is nothing to open yet.
    #[error("the cluster is not initialized")]
    NotInitialized,
    /// Not one of this cluster's shares.
    #[error("share {number} is wrong: it is not one of this cluster's shares, or of an earlier split, or was mistyped")]
    Unknown {
        /// The number it claims.
        number: u8,
    },
    /// It counts once.
    #[error("share {number} was entered already")]
    Repeated {
        /// Its number.
        number: u8,
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
    /// A seal came in between: the shares that were entered are gone.
    #[error("the cluster was sealed meanwhile: enter the shares again")]
    SealedMeanwhile,
    /// The records cannot be read.
    #[error("read the seal record")]
    Record(#[from] RecordError),
    /// The share is kept at this node, and will be handed on once there is a leader.
    #[error("no leader to hand the share to (it is kept and will be handed on)")]
    NoCoordinator,
    /// The coordinator refused.
    #[error("the coordinator refused the share: {0}")]
    Refused(String),
}

/// Why a root key that a peer handed over was not taken.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// This replica has not come so far yet.
    #[error("this replica has not applied what the coordinator has")]
    NotYet,
    /// The cluster has been sealed since.
    #[error("the cluster has been sealed since")]
    Stale,
    /// Not this cluster's root key.
    #[error("not this cluster's root key")]
    Wrong,
    /// The records cannot be read.
    #[error("read the seal record")]
    Record(#[from] RecordError),
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

/// Why a view cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The barrier is sealed.
    #[error("sealed")]
    Sealed,
    /// No linearizable read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why a plan was not carried out, or why nobody can say whether it was.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The barrier is sealed; nothing was written.
    #[error("sealed")]
    Sealed,
    /// Something it was made from has changed; nothing was written. Make the plan again from a fresh view.
    #[error("conflict")]
    Conflict,
    /// It is larger than an entry may be; nothing was written.
    #[error("the write is too large")]
    TooLarge(#[from] EncodeError),
    /// The table cannot be read; nothing was written.
    #[error("read the table")]
    Table(#[from] storage::table::ReadError),
    /// No leader was found in time; nothing was written.
    #[error("no leader")]
    NoLeader,
    /// The disk of this node or of the leader is almost full; nothing was written.
    #[error("the disk is almost full")]
    DiskFull,
    /// It may take effect, now or later.
    #[error("the fate of the write is unknown: {0}")]
    Indeterminate(String),
    /// Raft has ended; the process is about to.
    #[error("raft has stopped")]
    Stopped,
}

impl Barrier {
    /// A sealed barrier over a started Raft. `changes` is the observer that this Raft was started with.
    pub fn start(
        raft: Raft,
        changes: Arc<Changes>,
        peers: Arc<dyn CeremonyPeers>,
        rng: Arc<dyn Rng>,
        clock: Arc<dyn Clock>,
        facts: NodeFacts,
    ) -> Barrier {
        let pool = Mutex::new(Pool::new(Arc::clone(&rng)));
        let inner = Inner { raft, changes, peers, rng, clock, facts, pool, tasks: TaskTracker::new(), stop: CancellationToken::new() };
        let barrier = Barrier { inner: Arc::new(inner) };
        let following = barrier.clone();
        barrier.inner.tasks.spawn(async move { following.follow_the_coordinator().await });
        barrier
    }

    /// Stops the tasks and wipes the keys.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.keys().seal();
        self.pool().reset();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Whether the barrier is open, and every change of that.
    pub fn watch_open(&self) -> watch::Receiver<bool> {
        self.keys().watch()
    }

    /// Whether this node is sealed.
    pub fn is_sealed(&self) -> bool {
        !self.keys().is_open()
    }

    /// How the cluster is sealed, as far as this node knows; the progress is the coordinator's if it answers.
    pub async fn status(&self) -> Result<SealStatus, RecordError> {
        let records = self.records_here()?;
        let sealed = self.is_sealed();
        let (mut progress, mut nonce) = self.own_progress();
        if sealed
            && records.is_some()
            && let Some(coordinator) = self.coordinator()
            && let Ok(answer) = self.inner.peers.progress(coordinator).await
        {
            (progress, nonce) = (u8::try_from(answer.shares).unwrap_or(u8::MAX), answer.nonce);
        }
        Ok(SealStatus {
            initialized: records.is_some(),
            sealed,
            quorum: records.as_ref().map(|records| records.seal.quorum),
            progress: if sealed { progress } else { 0 },
            nonce: if sealed { nonce } else { String::new() },
            cluster: records.map(|records| (records.seal.cluster_id, records.seal.cluster_name)),
        })
    }

    /// Whether the cluster has keys: asks the leader if there is one, else answers from what this node has. Keys that were
    /// seen once stay, so that a node which has them needs nobody to ask.
    pub async fn is_initialized(&self) -> Result<bool, RecordError> {
        Ok(self.records_here()?.is_some() || self.records().await?.is_some())
    }

    /// Draws the cluster's keys and writes them together with what `found` plans, all or nothing. The barrier stays sealed.
    ///
    /// Of two inits at once, on whichever nodes, one wins. When the call is dropped half-way, the cluster may be initialised
    /// with shares that nobody has seen: start over with empty data folders.
    pub async fn initialize(
        &self,
        quorum: Quorum,
        cluster_name: &str,
        found: impl FnOnce(&Keyring) -> Plan + Send,
    ) -> Result<Initialized, InitError> {
        if self.records().await?.is_some() {
            return Err(InitError::AlreadyInitialized);
        }
        let rng = &*self.inner.rng;
        let cluster_id = ClusterId(uuid::Builder::from_random_bytes(crypto::rng::generate_bytes(rng)).into_uuid());
        let (seal, shares, batch) = {
            let root = RootKey::generate(rng);
            let (seal, shares) = SealRecord::make(&root, quorum, cluster_id, cluster_name, rng);
            let (keyring, sealed_keyring) = Keyring::generate(&root, cluster_id, self.inner.clock.now(), rng);
            let mut batch = seal_plan(&keyring, &Name::root(), &found(&keyring), rng);
            let (expectations, writes) = records::founding(&seal, sealed_keyring);
            batch.expectations.extend(expectations);
            batch.writes.extend(writes);
            (seal, shares, batch)
        };
        let encoded = batch.encode().map_err(|error| InitError::Failed(error.to_string()))?;
        loop {
            match self.inner.raft.propose(encoded.clone()).await {
                Ok(_) => break,
                Err(ProposeError::NoLeader) => return Err(InitError::NoLeader),
                Err(ProposeError::DiskFull) => return Err(InitError::DiskFull),
                Err(error @ (ProposeError::Stopped | ProposeError::Malformed(_))) => return Err(InitError::Failed(error.to_string())),
                // The keys exist only here: whether they were written must be found out, not guessed.
                Err(ProposeError::Conflict { .. } | ProposeError::Indeterminate(_)) => {
                    let found = match self.inner.raft.read().await {
                        Ok(table) => records::read(&*table)?,
                        // Nobody can tell yet. The same batch again does no harm: it takes effect once at most.
                        Err(ReadError::NoLeader) => None,
                        Err(error) => return Err(InitError::Failed(error.to_string())),
                    };
                    match found {
                        Some(records) if records.seal.encode() == seal.encode() => break,
                        Some(_) => return Err(InitError::AlreadyInitialized),
                        None => {}
                    }
                }
            }
        }
        tracing::info!(cluster = %cluster_id, shares = quorum.shares(), threshold = quorum.threshold(), "initialized");
        Ok(Initialized { shares, cluster_id })
    }

    /// Takes a share. At the threshold every sealed node opens. Answers the status after it.
    ///
    /// At an open node nothing is taken: there the status says so.
    pub async fn enter_share(&self, share: Share) -> Result<SealStatus, ShareError> {
        let records = self.records().await?.ok_or(ShareError::NotInitialized)?;
        if !self.is_sealed() {
            return Ok(self.status().await?);
        }
        let number = share.number();
        if !records.seal.recognises(&share) {
            return Err(ShareError::Unknown { number });
        }
        let is_new = self.pool().add(share);
        let progress = match self.coordinator() {
            None if self.leads() => self.complete(&records).map(|()| self.peer_progress())?,
            None => return Err(ShareError::NoCoordinator),
            Some(coordinator) => {
                let progress = self.submit_pool(coordinator).await?;
                if progress.repeated_shares.contains(&number.into()) && !progress.open {
                    return Err(ShareError::Repeated { number });
                }
                progress
            }
        };
        if !is_new && !progress.open {
            return Err(ShareError::Repeated { number });
        }
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
            status.progress = u8::try_from(progress.shares).unwrap_or(u8::MAX);
            status.nonce = progress.nonce;
        }
        Ok(status)
    }

    /// Throws the progress away, at every node that can be reached. One share is the proof that a holder wants it; it is not kept.
    pub async fn reset_ceremony(&self, proof: &Share) -> Result<SealStatus, ShareError> {
        let records = self.records().await?.ok_or(ShareError::NotInitialized)?;
        if !records.seal.recognises(proof) {
            return Err(ShareError::Unknown { number: proof.number() });
        }
        self.pool().reset();
        let resets = self.other_members().into_iter().map(|peer| self.inner.peers.reset(peer));
        for error in futures::future::join_all(resets).await.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "a node did not hear of the reset");
        }
        Ok(self.status().await?)
    }

    /// Seals this node at once, and then every other, by an entry in the log at which each wipes its keys.
    ///
    /// When the call is dropped half-way, the sealing goes on: this node is sealed in any case.
    pub async fn seal(&self) -> Result<(), SealError> {
        self.keys().seal();
        self.pool().reset();
        let barrier = self.clone();
        let sealing = self.inner.tasks.spawn(async move { barrier.seal_all().await });
        let sealed = sealing.await.unwrap_or_else(|_| Err(SealError::OnlyThisNode("the node is stopping".into())));
        // Keys that a ceremony handed over before the entry was applied are gone as well.
        self.keys().seal();
        tracing::info!(all = sealed.is_ok(), "sealed");
        sealed
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

    /// Every record, as of now: what was acknowledged anywhere before this call is seen.
    pub async fn view(&self) -> Result<View, AccessError> {
        if self.is_sealed() {
            return Err(AccessError::Sealed);
        }
        let table = self.inner.raft.read().await?;
        Ok(View::new(table, Arc::clone(self.keys())))
    }

    /// Carries a plan out, all or nothing, if everything it expects still holds. `view` is what it was made from; when the
    /// cluster was sealed since, nothing is written.
    ///
    /// When the call is dropped half-way, the plan may still be carried out.
    pub async fn commit(&self, view: &View, plan: &Plan) -> Result<Index, CommitError> {
        let mut batch = view.seal(plan, &*self.inner.rng).map_err(|error| match error {
            ViewError::Sealed => CommitError::Sealed,
            _ => unreachable!("sealing a plan reads nothing"),
        })?;
        batch.expectations.push(view.epoch_expectation()?);
        let encoded = batch.encode()?;
        self.inner.raft.propose(encoded).await.map_err(|error| match error {
            ProposeError::Conflict { .. } => CommitError::Conflict,
            ProposeError::NoLeader => CommitError::NoLeader,
            ProposeError::DiskFull => CommitError::DiskFull,
            ProposeError::Indeterminate(why) => CommitError::Indeterminate(why),
            ProposeError::Stopped => CommitError::Stopped,
            ProposeError::Malformed(_) => unreachable!("the batch was encoded here"),
        })
    }

    /// Borrows the keyring for one call; `None` when sealed.
    pub fn with_keyring<T>(&self, act: impl FnOnce(&Keyring) -> T) -> Option<T> {
        self.keys().with(act)
    }

    /// What each member tells of itself, in the order of their ids; `None` for one that does not answer.
    pub async fn members(&self) -> Vec<(raft::MemberInfo, Option<peer::MemberStatus>)> {
        let members = self.inner.raft.status().members;
        let asks =
            members.iter().map(|info| {
                let peer = Arc::new(Peer { id: info.id.clone(), member: info.member.clone() });
                async move {
                    if peer.id == self.inner.facts.node_id { Some(self.peer_status()) } else { self.inner.peers.status(peer).await.ok() }
                }
            });
        let answers = futures::future::join_all(asks).await;
        members.into_iter().zip(answers).collect()
    }

    fn keys(&self) -> &Arc<Keys> {
        &self.inner.changes.keys
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.inner.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own_progress(&self) -> (u8, String) {
        let pool = self.pool();
        (pool.len(), pool.nonce())
    }

    /// Whether this node leads, as far as it knows: it may not have heard yet that another one does.
    pub fn leads(&self) -> bool {
        self.inner.raft.status().leader.as_ref() == Some(&self.inner.facts.node_id)
    }

    /// The node that counts shares, if it is another one.
    fn coordinator(&self) -> Option<Arc<Peer>> {
        let leader = self.inner.raft.status().leader?;
        if leader == self.inner.facts.node_id { None } else { self.inner.raft.peer(&leader) }
    }

    fn other_members(&self) -> Vec<Arc<Peer>> {
        let others =
            |info: raft::MemberInfo| (info.id != self.inner.facts.node_id).then(|| Arc::new(Peer { id: info.id, member: info.member }));
        self.inner.raft.status().members.into_iter().filter_map(others).collect()
    }

    fn records_here(&self) -> Result<Option<Records>, RecordError> {
        match self.inner.raft.local() {
            Ok(table) => records::read(&*table),
            Err(error) => {
                tracing::error!(%error, "read the seal record");
                Err(RecordError::Malformed("seal"))
            }
        }
    }

    /// The newest records, or this node's own when there is no leader to ask.
    async fn records(&self) -> Result<Option<Records>, RecordError> {
        match self.inner.raft.read().await {
            Ok(table) => records::read(&*table),
            Err(_) => self.records_here(),
        }
    }

    async fn submit_pool(&self, coordinator: Arc<Peer>) -> Result<peer::Progress, ShareError> {
        // EXPOSE: shares go to the coordinator, under mutual TLS that ends there.
        let shares = self.pool().shares().map(|share| Bytes::copy_from_slice(share.expose())).collect();
        match self.inner.peers.submit(coordinator, peer::SubmitRequest { shares }).await {
            Ok(progress) => Ok(progress),
            Err(PeerCallError::Refused(why)) => Err(ShareError::Refused(why)),
            Err(error @ PeerCallError::Lost(_)) => {
                tracing::warn!(%error, "hand a share to the coordinator");
                Err(ShareError::NoCoordinator)
            }
        }
    }

    /// Opens the cluster, if the pool holds a quorum.
    fn complete(&self, records: &Records) -> Result<(), ShareError> {
        let Some(shares) = self.pool().take_quorum(records.seal.quorum) else {
            return Ok(());
        };
        let root = records.seal.open(&shares)?;
        drop(shares);
        let keyring = Keyring::open(&root, records.seal.cluster_id, &records.keyring)?;
        if self.is_sealed() {
            if !self.keys().open(keyring, records.epoch) {
                return Err(ShareError::SealedMeanwhile);
            }
            tracing::info!("unsealed by a quorum of shares");
        }
        let root = Arc::new(root);
        for peer in self.other_members() {
            let barrier = self.clone();
            let (root, epoch) = (Arc::clone(&root), records.epoch);
            self.inner.tasks.spawn(async move { barrier.hand_over(peer, root, epoch).await });
        }
        Ok(())
    }

    /// Hands the root key to a member, again and again until it has taken it, the time is over, or the cluster is sealed.
    async fn hand_over(&self, peer: Arc<Peer>, root: Arc<RootKey>, epoch: u64) {
        let attempts = async {
            while self.keys().epoch().is_some_and(|opened| opened <= epoch) {
                // EXPOSE: the root key goes to a member of the cluster, under mutual TLS that ends there.
                let request = peer::HandOverRequest { root_key: Bytes::copy_from_slice(root.expose()), seal_epoch: epoch };
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

    /// When another node comes to lead, the shares that were entered here go to it.
    async fn follow_the_coordinator(&self) {
        let mut known = None;
        loop {
            let leader = tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                leader = self.inner.raft.leader_changed(known.as_ref()) => leader,
            };
            if leader == known {
                // Raft has ended: there will be no other leader.
                return;
            }
            known = leader;
            if !self.is_sealed() || self.pool().len() == 0 {
                continue;
            }
            let handed = match self.coordinator() {
                Some(coordinator) => self.submit_pool(coordinator).await.map(drop),
                None if self.leads() => match self.records_here() {
                    Ok(Some(records)) => self.complete(&records),
                    Ok(None) => Ok(()),
                    Err(error) => Err(error.into()),
                },
                None => Ok(()),
            };
            if let Err(error) = handed {
                tracing::warn!(%error, "hand the entered shares to the new coordinator");
            }
        }
    }

    /// What another node asks: takes the shares that were entered there, and opens the cluster once they are a quorum.
    pub fn peer_submit(&self, request: peer::SubmitRequest) -> Result<peer::Progress, ShareError> {
        let records = self.records_here()?.ok_or(ShareError::NotInitialized)?;
        let mut repeated_shares = Vec::new();
        for bytes in request.shares.iter().take(SUBMITTED_SHARES_MAX) {
            let share = Share::from_bytes(bytes)?;
            let number = share.number();
            if !records.seal.recognises(&share) {
                return Err(ShareError::Unknown { number });
            }
            if !self.pool().add(share) {
                repeated_shares.push(number.into());
            }
        }
        let before = self.pool().len();
        self.complete(&records)?;
        let opened = before > 0 && self.pool().len() == 0;
        Ok(peer::Progress { repeated_shares, open: opened, ..self.peer_progress() })
    }

    /// What another node asks: throws the shares away.
    pub fn peer_reset(&self) -> peer::Progress {
        self.pool().reset();
        self.peer_progress()
    }

    /// What another node asks: how many shares are here.
    pub fn peer_progress(&self) -> peer::Progress {
        let (shares, nonce) = self.own_progress();
        peer::Progress { shares: shares.into(), nonce, open: shares == 0 && !self.is_sealed(), repeated_shares: Vec::new() }
    }

    /// What the coordinator asks: takes the root key, if it is this cluster's and nobody has sealed it since.
    pub fn peer_hand_over(&self, caller: &NodeId, request: peer::HandOverRequest) -> Result<(), HandOverError> {
        let key = Zeroizing::new(<[u8; 32]>::try_from(&request.root_key[..]).map_err(|_| HandOverError::Wrong)?);
        let root = RootKey::from_bytes(key);
        let records = self.records_here()?.ok_or(HandOverError::NotYet)?;
        match request.seal_epoch.cmp(&records.epoch) {
            Ordering::Less => return Err(HandOverError::Stale),
            // Taken at its word, an epoch that never was would outlive every seal.
            Ordering::Greater => return Err(HandOverError::NotYet),
            Ordering::Equal => {}
        }
        records.seal.authenticate(&root).map_err(|_| HandOverError::Wrong)?;
        let keyring = Keyring::open(&root, records.seal.cluster_id, &records.keyring).map_err(|_| HandOverError::Wrong)?;
        if self.is_sealed() {
            if !self.keys().open(keyring, request.seal_epoch) {
                return Err(HandOverError::Stale);
            }
            tracing::info!(from = %caller, "unsealed by the coordinator");
        }
        self.pool().reset();
        Ok(())
    }

    /// What another node asks: what this one has to tell of itself.
    pub fn peer_status(&self) -> peer::MemberStatus {
        let status = self.inner.raft.status();
        peer::MemberStatus {
            node_id: self.inner.facts.node_id.to_string(),
            initialized: matches!(self.records_here(), Ok(Some(_))),
            sealed: self.is_sealed(),
            version: self.inner.facts.version.clone(),
            term: status.term.0,
            applied: status.applied.map(|index| peer::Position { term: status.term.0, index: index.0 }),
            leader: status.leader.map(|leader| leader.to_string()).unwrap_or_default(),
            api_address: self.inner.facts.api_address.clone(),
        }
    }
}

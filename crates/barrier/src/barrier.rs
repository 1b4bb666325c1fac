//! [`Barrier`]: initialises the cluster's keys, and lets upper floors read and write through them while they are open.
//!
//! Opening and sealing are in [`crate::opening`], acts on the keys in [`crate::attempt`], rotation in [`crate::rotation`].

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use crypto::{Quorum, Rng, RootKey, Share};
use proto::peer;
use raft::{Peer, ProposeError, Raft, ReadError, watch};
use storage::batch::EncodeError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::{Clock, ClusterId, Index, NodeId};

use crate::attempt::ActError;
use crate::changes::Changes;
use crate::journal::{Act, Entry, Journal};
use crate::keyring::Keyring;
use crate::keys::Keys;
use crate::name::Name;
use crate::peers::CeremonyPeers;
use crate::plan::Plan;
use crate::pool::{Pools, Purpose};
use crate::records::{self, RecordError, Records};
use crate::rejoin::Rejoin;
use crate::rotation::commit_error;
use crate::seals::{NewSplit, Seals, Split, StaticKey};
use crate::verified::Seen;
use crate::view::{View, seal_plan};

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

/// How a node opens itself, by its configuration.
#[derive(Default)]
pub struct Opening {
    /// Static keys.
    pub static_keys: Vec<StaticKey>,
    /// The ids of static keys whose seals are to go with the next migration.
    pub disabled_keys: Vec<String>,
    /// Whether open peers open it, and it them; `None`: neither.
    pub rejoin: Option<Rejoin>,
}

/// What a barrier is made of.
pub struct Parts {
    /// A started Raft.
    pub raft: Raft,
    /// The observer that this Raft was started with.
    pub changes: Arc<Changes>,
    /// The way to the other nodes.
    pub peers: Arc<dyn CeremonyPeers>,
    /// Draws keys and nonces.
    pub rng: Arc<dyn Rng>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// What this node tells of itself.
    pub facts: NodeFacts,
    /// How it opens itself.
    pub opening: Opening,
    /// Where acts on the keys are written down.
    pub journal: Arc<dyn Journal>,
    /// In place of the rotation policy's count, and with no least value: for tests of rotation.
    pub operations_max: Option<u64>,
    /// How long every member must have known a higher feature level before the cluster is raised to it by itself; `None`: never.
    pub raise_after: Option<Duration>,
}

pub(crate) struct Inner {
    pub(crate) raft: Raft,
    pub(crate) changes: Arc<Changes>,
    pub(crate) peers: Arc<dyn CeremonyPeers>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) facts: NodeFacts,
    pub(crate) opening: Opening,
    pub(crate) journal: Arc<dyn Journal>,
    /// Somebody seals from here: the act is written down where it was asked for.
    pub(crate) sealing: AtomicBool,
    pub(crate) operations_max: Option<u64>,
    pub(crate) raise_after: Option<Duration>,
    /// Held by who sets encryptions aside for this node.
    pub(crate) setting_aside: tokio::sync::Mutex<()>,
    /// Which shares were seen to be right.
    pub(crate) seen: Seen,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// The barrier of this node. Cheap to clone; ends with [`Barrier::shutdown`].
#[derive(Clone)]
pub struct Barrier {
    pub(crate) inner: Arc<Inner>,
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
    /// Their numbers.
    pub entered: Vec<u8>,
    /// Whether this node's configuration asks for other static seals than there are.
    pub migration: bool,
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
    /// It is written in a way that not every member reads yet; nothing was written.
    #[error(transparent)]
    FeatureLevel(raft::LevelTooLow),
    /// It may take effect, now or later.
    #[error("the fate of the write is unknown: {0}")]
    Indeterminate(String),
    /// Raft has ended; the process is about to.
    #[error("raft has stopped")]
    Stopped,
}

impl SealStatus {
    /// Shows the progress of the ceremony.
    pub(crate) fn take(&mut self, progress: peer::Progress) {
        self.entered = progress.shares.into_iter().filter_map(|number| u8::try_from(number).ok()).collect();
        self.progress = u8::try_from(self.entered.len()).unwrap_or(u8::MAX);
        self.nonce = progress.nonce;
    }
}

impl Barrier {
    /// A sealed barrier.
    pub fn start(parts: Parts) -> Barrier {
        let Parts { raft, changes, peers, rng, clock, facts, opening, journal, operations_max, raise_after } = parts;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let setting_aside = tokio::sync::Mutex::new(());
        let inner = Inner {
            raft,
            changes,
            peers,
            rng,
            clock,
            facts,
            opening,
            journal,
            sealing: AtomicBool::new(false),
            operations_max,
            raise_after,
            setting_aside,
            seen: Seen::default(),
            tasks,
            stop,
        };
        let barrier = Barrier { inner: Arc::new(inner) };
        barrier.look_for_restore();
        let spawn = |task: fn(Barrier) -> futures::future::BoxFuture<'static, ()>| barrier.inner.tasks.spawn(task(barrier.clone()));
        spawn(|barrier| Box::pin(async move { barrier.follow_the_coordinator().await }));
        spawn(|barrier| Box::pin(async move { barrier.lead_open_only().await }));
        spawn(|barrier| Box::pin(async move { barrier.catch_up().await }));
        spawn(|barrier| Box::pin(async move { barrier.rotate_in_time().await }));
        spawn(|barrier| Box::pin(async move { barrier.raise_in_time().await }));
        spawn(|barrier| Box::pin(async move { barrier.record_verified().await }));
        spawn(|barrier| Box::pin(async move { barrier.journal_seals().await }));
        spawn(|barrier| Box::pin(async move { barrier.open_by_static_key().await }));
        spawn(|barrier| Box::pin(async move { barrier.mark_open().await }));
        spawn(|barrier| Box::pin(async move { barrier.rejoin().await }));
        spawn(|barrier| Box::pin(async move { barrier.forget_removed().await }));
        spawn(|barrier| Box::pin(async move { barrier.finish_restore().await }));
        spawn(|barrier| Box::pin(async move { barrier.remove_left_over().await }));
        barrier
    }

    /// Stops the tasks and wipes the keys.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.keys().seal();
        self.pools().clear();
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
        let mut progress = self.peer_progress(Purpose::Unseal);
        if sealed
            && records.is_some()
            && let Some(coordinator) = self.coordinator()
            && let Ok(answer) = self.inner.peers.progress(coordinator, Purpose::Unseal.message()).await
        {
            progress = answer;
        }
        let mut status = SealStatus {
            initialized: records.is_some(),
            sealed,
            quorum: records.as_ref().map(|records| records.seals.quorum),
            progress: 0,
            entered: Vec::new(),
            migration: records.as_ref().is_some_and(|records| self.wants_other_seals(&records.seals)),
            nonce: String::new(),
            cluster: records.as_ref().map(|records| (records.seals.cluster_id, records.seals.cluster_name.clone())),
        };
        if sealed {
            // The new shares of a rekey that come first are counted by their own quorum.
            if let Some(records) = &records
                && records.seals.id_of(Split::Next).is_some_and(|id| id == progress.split)
            {
                status.quorum = records.seals.quorum_of(Split::Next);
            }
            status.take(progress);
        }
        Ok(status)
    }

    fn wants_other_seals(&self, seals: &Seals) -> bool {
        let there = seals.static_seals();
        let is_there = |id: &str| there.iter().any(|seal| seal.key_id == id);
        let opening = &self.inner.opening;
        opening.static_keys.iter().any(|key| key.gets_seal() && !is_there(key.id())) || opening.disabled_keys.iter().any(|id| is_there(id))
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
        split: &NewSplit,
        cluster_name: &str,
        found: impl FnOnce(&Keyring) -> Plan + Send,
    ) -> Result<Initialized, InitError> {
        if self.records().await?.is_some() {
            return Err(InitError::AlreadyInitialized);
        }
        let level = self.level_to_found().await;
        let rng = &*self.inner.rng;
        let cluster_id = ClusterId(uuid::Builder::from_random_bytes(crypto::rng::generate_bytes(rng)).into_uuid());
        let (seals, shares, batch) = {
            let (root, now) = (RootKey::generate(rng), self.inner.clock.now());
            let (seals, shares) = Seals::found(&root, split, &self.inner.opening.static_keys, (cluster_id, cluster_name), now, rng);
            let (keyring, sealed_keyring) = Keyring::generate(&root.derive_keyring_key(), cluster_id, now, rng);
            let mut batch = seal_plan(&keyring, &Name::root(), &found(&keyring), rng);
            let (expectations, writes) = records::founding(&seals, sealed_keyring);
            batch.expectations.extend(expectations);
            batch.writes.extend(writes);
            batch.writes.extend(level);
            (seals, shares, batch)
        };
        let encoded = batch.encode().map_err(|error| InitError::Failed(error.to_string()))?;
        loop {
            match self.inner.raft.propose(encoded.clone()).await {
                Ok(_) => break,
                Err(ProposeError::NoLeader) => return Err(InitError::NoLeader),
                Err(ProposeError::DiskFull) => return Err(InitError::DiskFull),
                Err(error @ (ProposeError::Stopped | ProposeError::Malformed(_) | ProposeError::FeatureLevel(_))) => {
                    return Err(InitError::Failed(error.to_string()));
                }
                // The keys exist only here: whether they were written must be found out, not guessed.
                Err(ProposeError::Conflict { .. } | ProposeError::Indeterminate(_)) => {
                    let found = match self.inner.raft.read().await {
                        Ok(table) => records::read(&*table)?,
                        // Nobody can tell yet. The same batch again does no harm: it takes effect once at most.
                        Err(ReadError::NoLeader) => None,
                        Err(error) => return Err(InitError::Failed(error.to_string())),
                    };
                    match found {
                        Some(records) if records.seals.encode() == seals.encode() => break,
                        Some(_) => return Err(InitError::AlreadyInitialized),
                        None => {}
                    }
                }
            }
        }
        let quorum = split.quorum();
        tracing::info!(cluster = %cluster_id, shares = quorum.shares(), threshold = quorum.threshold(), "initialized");
        self.journal(Entry::new(Act::Initialized { shares: quorum.shares(), threshold: quorum.threshold() }));
        // With a static key nobody needs to come.
        let barrier = self.clone();
        self.inner.tasks.spawn(async move { barrier.open_by_static_key().await });
        Ok(Initialized { shares, cluster_id })
    }

    /// Every record, as of now: what was acknowledged anywhere before this call is seen.
    pub async fn view(&self) -> Result<View, AccessError> {
        if self.is_sealed() {
            return Err(AccessError::Sealed);
        }
        let table = self.inner.raft.read().await?;
        Ok(View::new(table, Arc::clone(self.keys())))
    }

    /// As [`Barrier::view`], after the leader has asked a quorum, whatever the configuration says.
    pub async fn view_by_quorum(&self) -> Result<View, AccessError> {
        if self.is_sealed() {
            return Err(AccessError::Sealed);
        }
        let table = self.inner.raft.read_by(raft::ReadConsistency::Quorum).await?;
        Ok(View::new(table, Arc::clone(self.keys())))
    }

    /// Every record, but what was acknowledged within `staleness_max` may be lacking; and how old the state can be. Asks no other node where
    /// that is not needed.
    pub async fn view_stale(&self, staleness_max: Duration) -> Result<(View, Duration), AccessError> {
        if self.is_sealed() {
            return Err(AccessError::Sealed);
        }
        let (table, age) = self.inner.raft.read_stale(staleness_max).await?;
        Ok((View::new(table, Arc::clone(self.keys())), age))
    }

    /// Carries a plan out, all or nothing, if everything it expects still holds. `view` is what it was made from; when the
    /// cluster was sealed since, nothing is written.
    ///
    /// When the call is dropped half-way, the plan may still be carried out.
    pub async fn commit(&self, view: &View, plan: &Plan) -> Result<Index, CommitError> {
        let mut batch = self.seal_counted(view, plan).await?;
        batch.expectations.push(view.epoch_expectation()?);
        self.inner.raft.propose(batch.encode()?).await.map_err(commit_error)
    }

    /// Every record and the records in clear, at one state.
    pub(crate) async fn view_and_records(&self) -> Result<(View, Records), ActError> {
        if self.is_sealed() {
            return Err(AccessError::Sealed.into());
        }
        let table = self.inner.raft.read().await.map_err(AccessError::from)?;
        let records = records::read(&*table)?.ok_or(AccessError::Sealed)?;
        Ok((View::new(table, Arc::clone(self.keys())), records))
    }

    /// Borrows the keyring for one call; `None` when sealed.
    pub fn with_keyring<T>(&self, act: impl FnOnce(&Keyring) -> T) -> Option<T> {
        self.keys().with(act)
    }

    /// Compares what all replicas hold at one entry.
    ///
    /// # Errors
    /// The check was not committed.
    pub async fn check_replicas(&self) -> Result<raft::Check, CommitError> {
        self.inner.raft.check().await.map_err(commit_error)
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

    /// Writes an act down. One that cannot be written down happens all the same: a cluster that does not open because a disk is full helps
    /// nobody, and what an open cluster does to its keys is in the audit log as well, without which it is not done.
    pub(crate) fn journal(&self, entry: Entry) {
        if let Err(error) = self.inner.journal.record(entry) {
            tracing::error!(%error, "an act on the keys is NOT in this node's journal");
        }
    }

    pub(crate) fn keys(&self) -> &Arc<Keys> {
        &self.inner.changes.keys
    }

    pub(crate) fn pools(&self) -> MutexGuard<'_, Pools> {
        self.inner.changes.pools()
    }

    /// Whether this node leads, as far as it knows: it may not have heard yet that another one does.
    pub fn leads(&self) -> bool {
        self.inner.raft.status().leader.as_ref() == Some(&self.inner.facts.node_id)
    }

    /// The node that counts shares, if it is another one.
    pub(crate) fn coordinator(&self) -> Option<Arc<Peer>> {
        let leader = self.inner.raft.status().leader?;
        if leader == self.inner.facts.node_id { None } else { self.inner.raft.peer(&leader) }
    }

    pub(crate) fn other_members(&self) -> Vec<Arc<Peer>> {
        let others =
            |info: raft::MemberInfo| (info.id != self.inner.facts.node_id).then(|| Arc::new(Peer { id: info.id, member: info.member }));
        self.inner.raft.status().members.into_iter().filter_map(others).collect()
    }

    pub(crate) fn records_here(&self) -> Result<Option<Records>, RecordError> {
        match self.inner.raft.local() {
            Ok(table) => records::read(&*table),
            Err(error) => {
                tracing::error!(%error, "read the seal record");
                Err(RecordError::Malformed("seal"))
            }
        }
    }

    /// The newest records, or this node's own when there is no leader to ask.
    pub(crate) async fn records(&self) -> Result<Option<Records>, RecordError> {
        if self.inner.raft.status().members.is_empty() {
            // There is nobody to ask: this node belongs to no cluster yet.
            return self.records_here();
        }
        match self.inner.raft.read().await {
            Ok(table) => records::read(&*table),
            Err(_) => self.records_here(),
        }
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
            feature_level_min: self.inner.raft.feature_levels().min.0,
            feature_level_max: self.inner.raft.feature_levels().max.0,
            feature_level: self.inner.raft.feature_level().0,
        }
    }
}

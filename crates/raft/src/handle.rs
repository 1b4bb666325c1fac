//! [`Raft`]: the handle that upper floors hold. Proposes, reads linearizably, tells who leads.
//!
//! Every node serves: a follower hands its batches to the leader ([`crate::forward`]) and asks it for read indexes
//! ([`crate::read_index`]). A call that cannot say whether it took effect says so ([`ProposeError::Indeterminate`]).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, InitializeError, LinearizableReadError};
use openraft::vote::RaftLeaderId;
use storage::feature_level::LevelRecord;
use storage::log::Step;
use storage::quarantine::Scope;
use storage::{Change, Disk, Flusher, Log, Table, TableView};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::{Clock, FeatureLevels, Index, NodeId, Revision, Term};

use crate::check::{self, Notes};
use crate::codec::{self, CodecError};
use crate::compaction::{self, Compaction, Sizes};
use crate::config::{Answer, LogId, Member, Proposal, SnapshotMeta, TypeConfig, Vote};
use crate::forward::Forwarder;
use crate::inbound::{self, Inbound};
use crate::level::LevelTooLow;
use crate::log_store::LogStore;
use crate::machine::{Level, Machine, Observer};
use crate::membership;
use crate::network::Network;
use crate::read_index::{ReadConsistency, ReadIndexer};
use crate::rejoin::Part;
use crate::snapshots::{SharedSnapshots, Snapshots};
use crate::transport::{Peer, Transport};
use crate::watch;

/// How long a proposal or a read waits for a leader before it gives up.
pub const LEADER_WAIT_MAX: Duration = Duration::from_secs(5);
/// With less room than this on its disk, a node takes no writes: an append that does not fit ends the process, since nobody
/// can tell what of it is durable.
pub const DISK_RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// With less room than this the table is not made durable: it copies what it changes, and fails for good when there is no room.
const FLUSH_ROOM_BYTES: u64 = 16 * 1024 * 1024;
/// How often a node looks how much room there is.
const DISK_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How often the table is made durable while there is something new in it.
const TABLE_FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait before asking again when the leader could not be reached.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

pub(crate) type OpenRaft = openraft::Raft<TypeConfig, Machine>;

/// Raft's timers.
#[derive(Debug, Clone)]
pub struct Timing {
    /// How often the leader speaks.
    pub heartbeat: Duration,
    /// A follower stands for election between once and twice this long after the leader's lease has ended.
    /// The lease is twice this long, so that a dead leader is replaced after three to four times this long.
    pub election: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing { heartbeat: Duration::from_millis(50), election: Duration::from_millis(150) }
    }
}

/// Who drives the log's flusher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushing {
    /// A thread of its own, as a node does.
    Thread,
    /// A task on the same runtime, as a simulation does.
    Task {
        /// How long the disk takes to sync: what waits meanwhile is not durable, and shares the next sync.
        latency: Duration,
    },
}

/// What [`Raft::start`] needs.
pub struct Parts {
    /// This node.
    pub node_id: NodeId,
    /// Raft's timers.
    pub timing: Timing,
    /// When snapshots are made, and what is kept of the log.
    pub compaction: Compaction,
    /// The durable log and its flusher.
    pub log: (Log, Flusher),
    /// Who drives the flusher.
    pub flushing: Flushing,
    /// The state machine's table.
    pub table: Arc<dyn Table>,
    /// The disk that all of it lies on, and the folder that holds it: its free room is watched.
    pub disk: (Arc<dyn Disk>, PathBuf),
    /// Where snapshots are kept.
    pub snapshots: storage::SnapshotStore,
    /// The way to the peers.
    pub transport: Arc<dyn Transport>,
    /// Tells the time that is written into entries while this node leads.
    pub clock: Arc<dyn Clock>,
    /// Told of every applied change, inside apply.
    pub observer: Arc<dyn Observer>,
    /// The feature levels that this binary knows: [`storage::feature_level::FEATURE_LEVELS`], but in tests of upgrades.
    pub feature_levels: FeatureLevels,
    /// How reads are made certain where nobody asks for more.
    pub read_consistency: ReadConsistency,
}

/// Why Raft did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The timers contradict each other.
    #[error("raft timing")]
    Timing(#[source] openraft::ConfigError),
    /// The log or the table cannot be used.
    #[error("raft state on disk")]
    State(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The table ends before the log begins, and there is no snapshot between: a part of this node's state is lost.
    #[error("what this node has is not whole")]
    Incomplete(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The kept snapshot, which the table must be rebuilt from, is damaged.
    #[error("rebuild the table from the kept snapshot")]
    Snapshot(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No thread for the log's flusher.
    #[error("start the log flusher")]
    Flusher(#[source] std::io::Error),
}

/// Why the first membership was not written.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// This node is not in the list.
    #[error("node {0} is not among the members")]
    NotAMember(NodeId),
    /// Raft has ended.
    #[error("raft has stopped")]
    Stopped,
}

/// Why a proposal did not take effect, or why nobody can say whether it did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// An expected revision did not hold; nothing was written. `index` is the entry that found it so.
    #[error("expectation {expectation}: found revision {found}")]
    Conflict {
        /// Which expectation of the batch, counted from 0.
        expectation: usize,
        /// What was found instead.
        found: Revision,
        /// The refused entry.
        index: Index,
    },
    /// No leader was found in time; nothing was proposed.
    #[error("no leader")]
    NoLeader,
    /// Proposed, and then lost from sight: it may take effect, now or later.
    #[error("the fate of the write is unknown: {0}")]
    Indeterminate(String),
    /// The disk of this node or of the leader is almost full; nothing was proposed.
    #[error("the disk is almost full (less than {} MiB are free): make room, and try again", DISK_RESERVE_BYTES >> 20)]
    DiskFull,
    /// Not a batch; nothing was proposed.
    #[error("malformed batch")]
    Malformed(#[from] storage::batch::DecodeError),
    /// Not every member can be sure to read it; nothing was proposed.
    #[error(transparent)]
    FeatureLevel(#[from] LevelTooLow),
    /// Raft has ended; the process is about to.
    #[error("raft has stopped")]
    Stopped,
}

/// Why a linearizable read cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// No leader with a quorum was found in time.
    #[error("no leader with a quorum")]
    NoLeader,
    /// Raft has ended; the process is about to.
    #[error("raft has stopped")]
    Stopped,
    /// The table cannot be read.
    #[error("read the table")]
    Table(#[source] Arc<storage::table::ReadError>),
}

/// What a node does in Raft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Leads.
    Leader,
    /// Follows.
    Follower,
    /// Stands for election.
    Candidate,
    /// Replicates without a vote, or is not part of a cluster yet.
    Learner,
}

/// A member as the last membership names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    /// The node.
    pub id: NodeId,
    /// Where it is.
    pub member: Member,
    /// Whether it votes.
    pub voter: bool,
}

/// Where this node stands.
#[derive(Debug, Clone)]
pub struct Status {
    /// What it does.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// The newest entry it knows to be committed.
    pub committed: Option<Index>,
    /// The newest entry it has applied.
    pub applied: Option<Index>,
    /// In the order of their ids; empty before bootstrap.
    pub members: Vec<MemberInfo>,
}

/// What the tasks and both directions share.
pub(crate) struct Core {
    pub(crate) node_id: NodeId,
    pub(crate) raft: OpenRaft,
    pub(crate) snapshots: SharedSnapshots,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) membership: membership::State,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) table: Arc<dyn Table>,
    pub(crate) log: Log,
    pub(crate) notes: Notes,
    applied: watch::Receiver<Option<Index>>,
    pub(crate) level: watch::Receiver<LevelRecord>,
    pub(crate) feature_levels: FeatureLevels,
    read_consistency: ReadConsistency,
    pub(crate) disk: (Arc<dyn Disk>, PathBuf),
    disk_is_full: AtomicBool,
    /// What this node takes part in.
    pub(crate) part: Mutex<Part>,
    /// It had no state at all when it started: it never took part, or has lost what it took part with.
    pub(crate) is_pristine: bool,
    /// Why this node gives up what it has, once it does.
    condemned: Mutex<Option<String>>,
    /// Ends the receiving of a snapshot when another begins to arrive.
    receiving: Mutex<CancellationToken>,
}

/// Raft on this node. Cheap to clone; ends with [`Raft::shutdown`].
#[derive(Clone)]
pub struct Raft {
    pub(crate) core: Arc<Core>,
    forwarder: Forwarder,
    reads: ReadIndexer,
}

impl Raft {
    /// Opens openraft over the given parts and starts its tasks. Replays what the table misses before it returns.
    pub async fn start(parts: Parts) -> Result<Raft, StartError> {
        let state = |error: Box<dyn std::error::Error + Send + Sync>| StartError::State(error);
        let (log, flusher) = parts.log;
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let began = Instant::now();
        let has_voted = log.vote().is_some();
        drive(flusher, &log, parts.flushing, &tasks, &stop).map_err(StartError::Flusher)?;

        let snapshots = Arc::new(Snapshots::new(parts.snapshots));
        let (applied_sender, applied) = watch::channel(None);
        let (level_sender, level_record) = watch::channel(LevelRecord::first());
        let level = Level { known: parts.feature_levels, record: level_sender };
        let bounds = log.bounds();
        let purged = bounds.purged;
        let is_pristine = !has_voted && bounds.last.or(purged).is_none() && parts.table.applied().position.is_none();
        let part = Part::at_start(&*parts.disk.0, &parts.disk.1).map_err(|error| state(error.into()))?;
        let notes = Notes::new();
        let machine =
            Machine::open(Arc::clone(&parts.table), Arc::clone(&snapshots), parts.observer, applied_sender, level, notes.clone(), purged)?;
        let config = openraft::Config {
            cluster_name: "conclave".into(),
            heartbeat_interval: millis(parts.timing.heartbeat),
            election_timeout_min: millis(parts.timing.election),
            election_timeout_max: millis(parts.timing.election) * 2,
            enable_pre_vote: Some(true),
            // See `compaction`.
            snapshot_policy: openraft::SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: parts.compaction.entries_kept,
            replication_lag_threshold: parts.compaction.entries.saturating_mul(2),
            enable_leader_restore: Some(false),
            enable_elect: part.votes(),
            backoff: "50ms 100ms 200ms ...500ms".into(),
            ..openraft::Config::default()
        };
        let config = Arc::new(config.validate().map_err(StartError::Timing)?);
        if has_voted {
            // Before it ended, this node may have answered a leader that counts on it for a lease's time. Openraft forgets that,
            // and would vote at once: the old leader could then serve reads while a new one takes writes.
            tokio::time::sleep_until(began + Duration::from_millis(config.election_timeout_max)).await;
        }
        let raft =
            OpenRaft::new(parts.node_id.clone(), config, Network::new(Arc::clone(&parts.transport)), LogStore::new(log.clone()), machine)
                .await
                .map_err(|error| state(Box::new(error)))?;

        let core = Arc::new(Core {
            node_id: parts.node_id,
            raft,
            snapshots,
            tasks,
            stop,
            transport: parts.transport,
            membership: membership::State::default(),
            table: parts.table,
            log,
            notes,
            clock: parts.clock,
            applied,
            level: level_record,
            feature_levels: parts.feature_levels,
            read_consistency: parts.read_consistency,
            disk: parts.disk,
            disk_is_full: AtomicBool::new(false),
            part: Mutex::new(part),
            is_pristine,
            condemned: Mutex::default(),
            receiving: Mutex::default(),
        });
        core.look_at_disk();
        core.tasks.spawn(watch_disk(Arc::clone(&core)));
        core.tasks.spawn(trace_leader(Arc::clone(&core)));
        core.tasks.spawn(Arc::clone(&core).watch_health());
        core.tasks.spawn(flush_table(Arc::clone(&core), parts.flushing));
        core.tasks.spawn(check::watch_checks(Arc::clone(&core)));
        core.tasks.spawn(check::check_at_snapshots(Arc::clone(&core)));
        core.tasks.spawn(compaction::keep_small(Arc::clone(&core), parts.compaction, parts.flushing));
        let forwarder = Forwarder::start(Arc::clone(&core));
        let reads = ReadIndexer::start(Arc::clone(&core));
        Ok(Raft { core, forwarder, reads })
    }

    /// Writes the first membership, unless this node already has one. Every first member calls it with the same list.
    pub async fn bootstrap(&self, members: BTreeMap<NodeId, Member>) -> Result<(), BootstrapError> {
        if !members.contains_key(&self.core.node_id) {
            return Err(BootstrapError::NotAMember(self.core.node_id.clone()));
        }
        match self.core.raft.initialize(members).await.map_err(inbound::api_error) {
            Ok(()) | Err(Some(InitializeError::NotAllowed(_))) => Ok(()),
            Err(Some(InitializeError::NotInMembers(_))) => Err(BootstrapError::NotAMember(self.core.node_id.clone())),
            Err(None) => Err(BootstrapError::Stopped),
        }
    }

    /// Replicates a batch and applies it; answers its index once it is applied here, so that a read that follows sees it.
    ///
    /// Waits up to [`LEADER_WAIT_MAX`] for a leader. When the call is dropped half-way, the batch may still take effect.
    pub async fn propose(&self, batch: Bytes) -> Result<Index, ProposeError> {
        self.propose_into(batch, false).await
    }

    /// As [`Raft::propose`], but also when disks are almost full: it may use the [`DISK_RESERVE_BYTES`]. For the few small
    /// batches that must not wait for room, such as one that seals the cluster.
    pub async fn propose_from_reserve(&self, batch: Bytes) -> Result<Index, ProposeError> {
        self.propose_into(batch, true).await
    }

    async fn propose_into(&self, batch: Bytes, from_reserve: bool) -> Result<Index, ProposeError> {
        // Apply stops the replica at a batch it cannot read, so none may get that far.
        self.require_feature_level(storage::feature_level::needed_by(&Change::decode(&batch)?))?;
        if self.core.is_disk_full() && !from_reserve {
            return Err(ProposeError::DiskFull);
        }
        let deadline = Instant::now() + LEADER_WAIT_MAX;
        loop {
            let attempt = match self.core.route() {
                Route::Here => self.propose_here(batch.clone()).await?,
                Route::There(leader) => self.forwarder.propose(leader, batch.clone(), from_reserve).await?,
                Route::Nowhere => Attempt::NotProposed,
            };
            match attempt {
                Attempt::Applied(index) => {
                    self.core.wait_applied(index, deadline).await;
                    return Ok(index);
                }
                Attempt::NotProposed => {
                    if !self.core.wait_for_leader(deadline).await {
                        return Err(ProposeError::NoLeader);
                    }
                }
            }
        }
    }

    /// A view of the table that holds every write acknowledged before this call, on any node.
    ///
    /// Waits up to [`LEADER_WAIT_MAX`] for a leader. Nothing is lost when the call is dropped.
    pub async fn read(&self) -> Result<Arc<dyn TableView>, ReadError> {
        self.read_by(ReadConsistency::default()).await
    }

    /// As [`Raft::read`], made certain by `consistency` or by what is configured, whichever is stricter.
    pub async fn read_by(&self, consistency: ReadConsistency) -> Result<Arc<dyn TableView>, ReadError> {
        let deadline = Instant::now() + LEADER_WAIT_MAX;
        let index = self.reads.read_index(consistency.max(self.core.read_consistency), deadline).await?;
        if !self.core.wait_applied(index, deadline).await {
            return Err(ReadError::NoLeader);
        }
        self.local()
    }

    /// A view that lacks nothing that was acknowledged more than `staleness_max` ago, and how long ago that was at most: what this node
    /// has, if it is known to be so fresh, without a word to any other node; else as [`Raft::read`], and then nothing is lacking.
    ///
    /// Time is this node's monotonic time since it asked the leader last, so that no clock of another node matters.
    pub async fn read_stale(&self, staleness_max: Duration) -> Result<(Arc<dyn TableView>, Duration), ReadError> {
        let applied = *self.core.applied.borrow();
        if let Some(age) = self.reads.age(applied)
            && age <= staleness_max
        {
            if age > staleness_max / 2 {
                self.reads.refresh(self.core.read_consistency);
            }
            return Ok((self.local()?, age));
        }
        Ok((self.read().await?, Duration::ZERO))
    }

    /// A view of the table as this node has it: it may lie in the past. For what needs no more (seal records, progress).
    pub fn local(&self) -> Result<Arc<dyn TableView>, ReadError> {
        self.core.table.view().map_err(|error| ReadError::Table(Arc::new(error)))
    }

    /// What the log counts.
    pub fn log_stats(&self) -> storage::log::LogStats {
        self.core.log.stats()
    }

    /// What takes this node's disk.
    pub fn sizes(&self) -> Sizes {
        self.core.sizes()
    }

    /// This node.
    pub fn node_id(&self) -> &NodeId {
        &self.core.node_id
    }

    /// Where this node stands.
    pub fn status(&self) -> Status {
        self.core.status()
    }

    /// Waits until the leader, as this node knows it, is another than `known`; answers the new one.
    pub async fn leader_changed(&self, known: Option<&NodeId>) -> Option<NodeId> {
        let mut metrics = self.core.raft.server_metrics();
        loop {
            let leader = metrics.borrow_watched().current_leader.clone();
            if leader.as_ref() != known || metrics.changed().await.is_err() {
                return leader;
            }
        }
    }

    /// Waits until Raft ends (a disk that does not sync, a broken invariant) and answers why. The process must end.
    pub async fn failed(&self) -> String {
        // These metrics change with elections only, so that waiting here costs no write anything; they end with Raft.
        let mut metrics = self.core.raft.server_metrics();
        while metrics.changed().await.is_ok() {}
        if let Some(why) = &*self.core.condemned.lock().unwrap_or_else(PoisonError::into_inner) {
            return why.clone();
        }
        match &self.core.raft.metrics().borrow_watched().running_state {
            Err(fatal) => fatal.to_string(),
            Ok(()) => "raft has stopped".into(),
        }
    }

    /// The incoming side, for the peers' listener.
    pub fn inbound(&self) -> Inbound {
        Inbound::new(Arc::clone(&self.core))
    }

    /// How to reach a member, if there is one of that id.
    pub fn peer(&self, id: &NodeId) -> Option<Arc<Peer>> {
        self.core.peer(id)
    }

    /// Asks the leader, this node, to hand over to `to`, a voter. Answers once asked; watch [`Raft::leader_changed`] for the
    /// outcome. A leader that is to hand over to itself goes on leading.
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), MembershipError> {
        if to == self.core.node_id {
            return Ok(());
        }
        // Openraft would step down for whomever it is told to, and nobody would lead.
        if !self.core.status().members.iter().any(|member| member.voter && member.id == to) {
            return Err(MembershipError::Refused(format!("{to} is no voter")));
        }
        self.core.raft.trigger().transfer_leader(to).await.map_err(|_| MembershipError::Stopped)
    }

    /// Asks for a snapshot now. Answers once asked.
    pub async fn trigger_snapshot(&self) -> Result<(), MembershipError> {
        self.core.raft.trigger().snapshot().await.map_err(|_| MembershipError::Stopped)
    }

    /// Stops Raft and its tasks, and makes the table durable.
    pub async fn shutdown(&self) {
        self.core.stop.cancel();
        if self.core.raft.shutdown().await.is_err() {
            tracing::warn!("raft did not stop cleanly");
        }
        self.core.tasks.close();
        self.core.tasks.wait().await;
        if let Err(error) = self.core.table.flush() {
            tracing::error!(%error, "flush the table at shutdown");
        }
    }

    async fn propose_here(&self, batch: Bytes) -> Result<Attempt, ProposeError> {
        let result = self.core.raft.client_write(self.core.stamp(batch)).await;
        match result.map_err(inbound::api_error) {
            Ok(response) => settle(Index(response.log_id.index()), response.data),
            Err(Some(ClientWriteError::ForwardToLeader(_))) => Ok(Attempt::NotProposed),
            Err(Some(error @ ClientWriteError::LogEntryDiscarded(_))) => Err(ProposeError::Indeterminate(error.to_string())),
            Err(Some(ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_))) => {
                unreachable!("a batch changes no membership and has no precondition")
            }
            // It may lie in the log, and be committed by others or after a restart.
            Err(None) => Err(ProposeError::Indeterminate("raft has stopped".into())),
        }
    }
}

/// Why an order to Raft was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// It makes no sense.
    #[error("refused: {0}")]
    Refused(String),
    /// Raft has ended.
    #[error("raft has stopped")]
    Stopped,
}

/// What one attempt at a proposal came to, when it came to no error.
pub(crate) enum Attempt {
    /// Applied by the leader at this index.
    Applied(Index),
    /// Certainly not proposed; it may be tried again.
    NotProposed,
}

/// Where the leader is, seen from here.
pub(crate) enum Route {
    Here,
    There(Arc<Peer>),
    Nowhere,
}

pub(crate) fn settle(index: Index, answer: Answer) -> Result<Attempt, ProposeError> {
    match answer {
        Answer::Nothing | Answer::Applied => Ok(Attempt::Applied(index)),
        Answer::Conflict { expectation, found } => Err(ProposeError::Conflict { expectation, found, index }),
    }
}

impl Core {
    /// Gives up what this node has, or a part of it: ends Raft, and with it the process. The next start moves it aside, and the node
    /// is rebuilt from its own snapshot and log or, if nothing is left, from its peers.
    pub(crate) async fn condemn(&self, scope: Scope, reason: String) {
        tracing::error!(?scope, reason, "what this node holds is damaged: it ends, and is rebuilt when it is started again");
        let (disk, folder) = (Arc::clone(&self.disk.0), self.disk.1.clone());
        let note = format!("{}: {reason}", self.node_id);
        if let Err(error) = crate::machine::blocking(move || storage::quarantine::condemn(&*disk, &folder, scope, &note)).await {
            return tracing::error!(%error, "the damage could not be written down: the node goes on");
        }
        *self.condemned.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        if self.raft.shutdown().await.is_err() {
            tracing::warn!("raft did not stop cleanly");
        }
    }

    pub(crate) fn stamp(&self, batch: Bytes) -> Proposal {
        Proposal { time: self.clock.now(), batch }
    }

    /// Whether the disk has too little room for writes.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.disk_is_full.load(Ordering::Relaxed)
    }

    /// Asks anew: others may have filled the disk a moment ago.
    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        let (disk, folder) = &self.disk;
        disk.free_bytes(folder).is_ok_and(|free| free >= bytes)
    }

    fn look_at_disk(&self) {
        let (disk, folder) = &self.disk;
        let free = match disk.free_bytes(folder) {
            Ok(free) => free,
            Err(error) => return tracing::warn!(%error, "ask how much room the disk has"),
        };
        let is_full = free < DISK_RESERVE_BYTES;
        let was_full = self.disk_is_full.swap(is_full, Ordering::Relaxed);
        match (was_full, is_full) {
            (false, true) => tracing::error!(free_bytes = free, "the disk is almost full: no writes until there is room"),
            (true, false) => tracing::info!(free_bytes = free, "the disk has room again"),
            _ => {}
        }
    }

    /// Refuses a peer's vote of an absurd term.
    pub(crate) fn plausible(&self, vote: &Vote) -> Result<(), CodecError> {
        codec::check_leap(vote, self.raft.metrics().borrow_watched().current_term)
    }

    /// Gives up the snapshot that is arriving, if there is one; answers what tells that the next one is given up.
    pub(crate) fn supersede_snapshot(&self) -> CancellationToken {
        let token = self.stop.child_token();
        std::mem::replace(&mut *self.receiving.lock().unwrap_or_else(PoisonError::into_inner), token.clone()).cancel();
        token
    }

    /// Refuses a snapshot that the sender of `vote` cannot have made: openraft would take it for a broken invariant, and end.
    pub(crate) fn check_snapshot(&self, vote: &Vote, meta: &SnapshotMeta) -> Result<(), CodecError> {
        let invalid = |problem: &str| CodecError::Invalid { field: "snapshot", problem: problem.to_owned() };
        let Some(last) = &meta.last_log_id else {
            return Err(CodecError::Missing("snapshot position"));
        };
        if codec::position_of(last).term.0 > codec::term_of(vote) {
            return Err(invalid("of a later term than the sender's"));
        }
        let metrics = self.raft.metrics();
        match &metrics.borrow_watched().local_committed {
            Some(committed) if last > committed && last.index() <= committed.index() => Err(invalid("contradicts what is committed here")),
            _ => Ok(()),
        }
    }

    pub(crate) fn route(&self) -> Route {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        match &metrics.current_leader {
            None => Route::Nowhere,
            Some(leader) if *leader == self.node_id => Route::Here,
            Some(leader) => match metrics.membership_config.get_node(leader) {
                Some(member) => Route::There(Arc::new(Peer { id: leader.clone(), member: member.clone() })),
                None => Route::Nowhere,
            },
        }
    }

    pub(crate) fn peer(&self, id: &NodeId) -> Option<Arc<Peer>> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.get_node(id).map(|member| Arc::new(Peer { id: id.clone(), member: member.clone() }))
    }

    /// Pauses, then waits until a leader is known; false when the deadline came first.
    pub(crate) async fn wait_for_leader(&self, deadline: Instant) -> bool {
        tokio::time::sleep_until(deadline.min(Instant::now() + RETRY_PAUSE)).await;
        let mut metrics = self.raft.server_metrics();
        while metrics.borrow_watched().current_leader.is_none() {
            match tokio::time::timeout_at(deadline, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return false,
            }
        }
        Instant::now() < deadline
    }

    /// Waits until this node has applied `index`; false when the deadline came first.
    pub(crate) async fn wait_applied(&self, index: Index, deadline: Instant) -> bool {
        let mut applied = self.applied.clone();
        let reached = applied.wait_for(|applied| applied.is_some_and(|applied| applied >= index));
        matches!(tokio::time::timeout_at(deadline, reached).await, Ok(Ok(_)))
    }

    /// The read index, if this node leads with a lease or a quorum; else who leads, if known.
    pub(crate) async fn read_index_here(&self, consistency: ReadConsistency) -> Result<LogId, Option<NodeId>> {
        let policy = match consistency.max(self.read_consistency) {
            ReadConsistency::Lease => ReadPolicy::LeaseRead,
            ReadConsistency::Quorum => ReadPolicy::ReadIndex,
        };
        match self.raft.get_read_linearizer(policy).await.map_err(inbound::api_error) {
            Ok(linearizer) => Ok(*linearizer.read_log_id().log_id()),
            Err(Some(LinearizableReadError::ForwardToLeader(forward))) => Err(forward.leader_id),
            Err(Some(LinearizableReadError::QuorumNotEnough(_)) | None) => Err(None),
        }
    }

    pub(crate) fn status(&self) -> Status {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters: std::collections::BTreeSet<NodeId> = membership.voter_ids().collect();
        let members = membership
            .nodes()
            .map(|(id, member)| MemberInfo { id: id.clone(), member: member.clone(), voter: voters.contains(id) })
            .collect();
        Status {
            role: match metrics.state {
                openraft::ServerState::Leader => Role::Leader,
                openraft::ServerState::Follower => Role::Follower,
                openraft::ServerState::Candidate => Role::Candidate,
                openraft::ServerState::Learner | openraft::ServerState::Shutdown => Role::Learner,
            },
            term: Term(metrics.current_term),
            leader: metrics.current_leader.clone(),
            committed: metrics.local_committed.as_ref().map(|id| codec::position_of(id).index),
            applied: *self.applied.borrow(),
            members,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn drive(mut flusher: Flusher, log: &Log, flushing: Flushing, tasks: &TaskTracker, stop: &CancellationToken) -> Result<(), std::io::Error> {
    match flushing {
        Flushing::Thread => std::thread::Builder::new().name("log-flusher".into()).spawn(move || flusher.run()).map(drop),
        Flushing::Task { latency } => {
            let wake = Arc::new(tokio::sync::Notify::new());
            let waker = Arc::clone(&wake);
            log.set_waker(Box::new(move || waker.notify_one()));
            let stop = stop.clone();
            tasks.spawn(async move {
                loop {
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => break,
                        () = wake.notified() => tokio::time::sleep(latency).await,
                    }
                    while let Step::Flushed(_) = flusher.step() {}
                }
            });
            Ok(())
        }
    }
}

/// Tells in the traces who leads, at each change.
async fn trace_leader(core: Arc<Core>) {
    let mut metrics = core.raft.server_metrics();
    let mut told = (0, None);
    loop {
        let now = {
            let metrics = metrics.borrow_watched();
            (metrics.vote.leader_id.term(), metrics.current_leader.clone())
        };
        if now != told {
            match &now {
                (term, Some(leader)) => tracing::info!(term, %leader, "this node knows its leader"),
                (term, None) => tracing::info!(term, "this node knows no leader"),
            }
            told = now;
        }
        tokio::select! {
            biased;
            () = core.stop.cancelled() => return,
            changed = metrics.changed() => if changed.is_err() { return },
        }
    }
}

async fn watch_disk(core: Arc<Core>) {
    loop {
        tokio::select! {
            biased;
            () = core.stop.cancelled() => return,
            () = tokio::time::sleep(DISK_CHECK_INTERVAL) => core.look_at_disk(),
        }
    }
}

/// Makes the table durable from time to time, so that the log can be purged and a restart replays little.
async fn flush_table(core: Arc<Core>, flushing: Flushing) {
    loop {
        tokio::select! {
            biased;
            () = core.stop.cancelled() => return,
            () = tokio::time::sleep(TABLE_FLUSH_INTERVAL) => {}
        }
        // Waiting loses nothing: what the table lacks after a crash is in the log.
        if core.table.durable() == core.table.applied().position || !core.has_room_for(FLUSH_ROOM_BYTES) {
            continue;
        }
        let table = Arc::clone(&core.table);
        let result = match flushing {
            Flushing::Thread => match tokio::task::spawn_blocking(move || table.flush()).await {
                Ok(result) => result,
                Err(_) => return,
            },
            Flushing::Task { .. } => table.flush(),
        };
        if let Err(error) = result {
            // What a later sync would claim cannot be believed: the process ends, and the next one rebuilds the table.
            tracing::error!(%error, "the table's flush failed");
            if core.raft.shutdown().await.is_err() {
                tracing::warn!("raft did not stop cleanly");
            }
            return;
        }
    }
}

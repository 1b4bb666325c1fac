//! [`Node`]: one simulated machine, and its [`Life`]: a process on it, put together as `node` does, without sockets.
//!
//! Always: a crashed life is cut off from disk and network at one moment, before any of its tasks runs again; what its tasks
//! do until they have ended touches nothing that is left.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use barrier::{Barrier, Changes, FileJournal, NodeFacts};
use crypto::{Rng, SeededRng};
use raft::{Compaction, Flushing, Member, Parts, Raft, ReadConsistency, Timing};
use service::{Service, Settings};
use storage::{Applied, DataDir, Log, LogOptions, SnapshotStore, Table, TableView};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::{FeatureLevels, NodeId};

use crate::clock::SimClock;
use crate::disk::SimDisk;
use crate::network::{Endpoint, SimNetwork};
use crate::witness::{Invariant, Violation, Witness, WitnessedTable};

/// The data folder of every node, each on a disk of its own.
const DATA_FOLDER: &str = "/data";
/// Small, so that a history of seconds sees snapshots, purges and nodes that fall behind them.
const COMPACTION: Compaction = Compaction { interval: Duration::from_millis(200), entries: 100, entries_kept: 25 };
/// Small for the same reason.
const SEGMENT_BYTES: u64 = 16 << 10;
/// How long the tasks of a crashed process may take until each has met its end.
const END_MAX: Duration = Duration::from_secs(60);

/// A machine: what outlives a process.
pub struct Node {
    /// Its name for life.
    pub id: NodeId,
    /// Its disk.
    pub disk: SimDisk,
    /// Its wall clock.
    pub clock: SimClock,
    life: Mutex<Option<Arc<Life>>>,
}

/// A running process.
pub struct Life {
    /// Raft.
    pub raft: Raft,
    /// The barrier.
    pub barrier: Barrier,
    /// Cancelled at the crash: whatever waits for this process waits in vain.
    pub down: CancellationToken,
    table: Arc<WitnessedTable>,
    service: Mutex<Option<Arc<Service>>>,
    /// Its disk is about to fail, or it is about to crash: that its Raft fails proves nothing.
    is_doomed: AtomicBool,
    tasks: TaskTracker,
}

/// What one life is drawn from.
pub struct Fate {
    /// Seeds its keys, nonces and ids.
    pub rng_seed: u64,
    /// How long its disk takes to sync.
    pub sync_latency: Duration,
    /// After so many encryptions the keyring rotates; `None`: as the product does.
    pub operations_max: Option<u64>,
    /// What its release knows.
    pub feature_levels: FeatureLevels,
    /// Its timers, as they really run: slower ones are a slower clock.
    pub timing: Timing,
    /// How its reads are made certain.
    pub read_consistency: ReadConsistency,
    /// How long every member must have known a higher feature level before the cluster is raised by itself; `None`: never.
    pub raise_after: Option<Duration>,
}

impl Node {
    /// A machine on which nothing runs yet.
    pub fn new(id: NodeId, disk: SimDisk, clock: SimClock) -> Node {
        Node { id, disk, clock, life: Mutex::new(None) }
    }

    /// The running process, if there is one.
    pub fn life(&self) -> Option<Arc<Life>> {
        self.slot().clone()
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Life>>> {
        self.life.lock().expect("nothing panics while it holds the slot")
    }

    /// Starts a process on what the disk holds.
    pub async fn start(&self, fate: Fate, network: &SimNetwork, witness: &Witness) -> Result<Arc<Life>, Violation> {
        let started = self.try_start(fate, network, witness).await;
        let life = started.map_err(|error| Violation::new(Invariant::EveryRestartSucceeds, format_args!("{}: {error:#}", self.id)))?;
        *self.slot() = Some(Arc::clone(&life));
        Ok(life)
    }

    async fn try_start(&self, fate: Fate, network: &SimNetwork, witness: &Witness) -> anyhow::Result<Arc<Life>> {
        let down = CancellationToken::new();
        let peers = Arc::new(network.peers(self.id.clone(), down.clone()));
        let disk = self.disk.open();
        let rng: Arc<dyn Rng> = Arc::new(SeededRng::dangerous_from_seed(fate.rng_seed));
        let clock = Arc::new(self.clock.clone());
        let data_dir = DataDir::open_at(Arc::clone(&disk), Path::new(DATA_FOLDER), &self.id, None, fate.feature_levels)?;
        let table = Arc::new(WitnessedTable::new(self.id.clone(), witness.clone()));
        let journal =
            FileJournal::open(Arc::clone(&disk), &data_dir.journal(), &self.id, None, Arc::clone(&clock) as Arc<dyn types::Clock>)?;
        let log_options = LogOptions { segment_bytes: SEGMENT_BYTES, ..LogOptions::default() };
        let changes = Changes::new();
        let raft = Raft::start(Parts {
            node_id: self.id.clone(),
            timing: fate.timing,
            compaction: COMPACTION,
            log: Log::open(Arc::clone(&disk), &data_dir.log(), log_options)?,
            flushing: Flushing::Task { latency: fate.sync_latency },
            table: Arc::clone(&table) as Arc<dyn Table>,
            disk: (Arc::clone(&disk), data_dir.path().to_owned()),
            snapshots: SnapshotStore::open(disk, &data_dir.snapshots())?,
            transport: Arc::clone(&peers) as Arc<dyn raft::Transport>,
            clock: Arc::clone(&clock) as Arc<dyn types::Clock>,
            observer: Arc::clone(&changes) as Arc<dyn raft::Observer>,
            feature_levels: fate.feature_levels,
            read_consistency: fate.read_consistency,
        })
        .await?;
        let facts = NodeFacts { node_id: self.id.clone(), api_address: address(&self.id), version: "simulated".into() };
        let barrier = Barrier::start(barrier::Parts {
            raft: raft.clone(),
            changes,
            peers,
            rng: Arc::clone(&rng),
            clock: Arc::clone(&clock) as Arc<dyn types::Clock>,
            facts,
            opening: barrier::Opening::default(),
            journal: Arc::new(journal),
            operations_max: fate.operations_max,
            raise_after: fate.raise_after,
        });
        if let Some((cluster, _)) = barrier.status().await?.cluster {
            data_dir.bind_cluster(cluster)?;
        }

        let tasks = TaskTracker::new();
        let life = Arc::new(Life {
            raft: raft.clone(),
            barrier: barrier.clone(),
            down: down.clone(),
            table,
            service: Mutex::new(None),
            is_doomed: AtomicBool::new(false),
            tasks: tasks.clone(),
        });
        let data_dir = Arc::new(data_dir);
        tasks.spawn(follow(Arc::clone(&life), Arc::clone(&data_dir), clock, rng));
        let keeping = life.raft.clone();
        tasks.spawn(async move { keeping.keep_level_in(&data_dir).await });
        tasks.spawn(watch(Arc::clone(&life), self.id.clone(), witness.clone()));
        network.connect(self.id.clone(), Endpoint { inbound: raft.inbound(), barrier, down, tasks });
        Ok(life)
    }

    /// Has a process that was started take part in the cluster of `members`, as a task: an empty node asks the others first, and
    /// they may not be there yet.
    pub fn begin(&self, life: &Arc<Life>, members: BTreeMap<NodeId, Member>, witness: &Witness) {
        let (life, id, witness) = (Arc::clone(life), self.id.clone(), witness.clone());
        let beginning = life.raft.begin(members);
        life.tasks.clone().spawn(async move {
            tokio::select! {
                biased;
                () = life.down.cancelled() => {}
                begun = beginning => {
                    if let Err(error) = begun
                        && !life.is_doomed.load(Ordering::Relaxed)
                    {
                        witness.accuse(Invariant::EveryRestartSucceeds, format_args!("{id}: {error}"));
                    }
                }
            }
        });
    }

    /// Throws a crashed node's disk away, for an empty one.
    pub fn wipe(&self) {
        self.disk.replace();
    }

    /// Cuts the power, if a process runs: what was not synced is lost, kept or torn as `seed` decides. Returns once every task
    /// of the process has ended.
    pub async fn crash(&self, seed: u64, network: &SimNetwork) -> Result<(), Violation> {
        let Some(life) = self.slot().take() else { return Ok(()) };
        life.doom();
        life.down.cancel();
        network.disconnect(&self.id);
        self.disk.crash(seed);
        // From here on it can reach nothing. Its tasks are told to end, so that they do not pile up.
        let end = async {
            life.barrier.shutdown().await;
            life.raft.shutdown().await;
            life.tasks.close();
            life.tasks.wait().await;
        };
        let ended = timeout(END_MAX, end).await;
        ended.map_err(|_| {
            Violation::new(Invariant::CrashedNodesLeaveNothing, format_args!("{}: tasks still run after {END_MAX:?}", self.id))
        })
    }
}

/// Where a node would be found, if there were addresses.
pub(crate) fn address(id: &NodeId) -> String {
    format!("http://{id}.simulated")
}

impl Life {
    /// The service, while the barrier is open.
    pub fn service(&self) -> Option<Arc<Service>> {
        self.service.lock().expect("nothing panics while it holds the service").clone()
    }

    /// What its table is the result of.
    pub fn applied(&self) -> Applied {
        self.table.applied()
    }

    /// Its table.
    pub fn table(&self) -> Result<Arc<dyn TableView>, storage::table::ReadError> {
        self.table.view()
    }

    /// From now on its Raft may fail.
    pub fn doom(&self) {
        self.is_doomed.store(true, Ordering::Relaxed);
    }

    fn serve(&self, service: Option<Arc<Service>>) {
        *self.service.lock().expect("nothing panics while it holds the service") = service;
    }
}

/// Builds and drops the service as the barrier opens and seals, and remembers the cluster, as a node's lifecycle does.
async fn follow(life: Arc<Life>, data_dir: Arc<DataDir>, clock: Arc<SimClock>, rng: Arc<dyn Rng>) {
    let mut open = life.barrier.watch_open();
    loop {
        let is_open = *open.borrow_and_update();
        let service = is_open.then(|| {
            Service::new(
                Arc::new(life.barrier.clone()),
                Arc::clone(&clock) as _,
                Arc::clone(&rng),
                Settings::default(),
                Arc::new(QuietNode),
            )
        });
        let service = service.map(Arc::new);
        life.serve(service.clone());
        if is_open
            && let Ok(status) = life.barrier.status().await
            && let Some((cluster, _)) = status.cluster
            && data_dir.bind_cluster(cluster).is_err()
        {
            // Its disk has failed: so will its Raft.
            return;
        }
        let chores = async {
            match &service {
                Some(service) => service.run_chores().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = life.down.cancelled() => return,
            changed = open.changed() => if changed.is_err() { return },
            () = chores => {}
        }
    }
}

/// Accuses a Raft that fails although nothing was done to it.
async fn watch(life: Arc<Life>, id: NodeId, witness: Witness) {
    tokio::select! {
        biased;
        () = life.down.cancelled() => {}
        why = life.raft.failed() => {
            if !life.is_doomed.load(Ordering::Relaxed) {
                witness.accuse(Invariant::NoNodeFailsByItself, format_args!("{id}: {why}"));
            }
        }
    }
}

/// The simulated machine tells nothing of itself.
struct QuietNode;

impl service::Node for QuietNode {
    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    fn software(&self) -> service::Software {
        service::Software { version: self.version(), source_date: String::new() }
    }

    fn host_info(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn in_flight(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn metrics(&self, _format: Option<&str>, _accept: Option<&str>) -> Result<(String, String), String> {
        Err("a simulated node has no metrics".into())
    }

    fn configuration(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn routes(&self) -> Vec<engine::route::Outline> {
        Vec::new()
    }
}

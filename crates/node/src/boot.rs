//! Start and stop: opens the data folder, starts Raft, the barrier and the listeners, and ends them in reverse order. Between
//! the two it waits for the end, and reads the configuration anew when it is told to.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use barrier::{Barrier, Changes, FileJournal, Journal, NodeFacts};
use crypto::{OsRng, Rng};
use raft::grpc::PeerTlsError;
use raft::{ChangeError, Flushing, Parts, Raft, Refusal, RefusalKind, Timing};
use service::Settings;
use storage::datadir::DataDir;
use storage::feature_level::FEATURE_LEVELS;
use storage::table::RedbTableOptions;
use storage::{Disk, FsDisk, MemoryTable, RamDisk, RedbTable, Table};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::{Clock, FeatureLevels, SystemClock};

use crate::config::{Config, KeyError, StoragePlace, TableKind};
use crate::facts::{self, Facts};
use crate::http::Edge;
use crate::lifecycle::{Follow, Serving, follow};
use crate::listener::ListenerTls;
use crate::peers::{OwnError, PeerSide, Peering};
use crate::recovery;
use crate::supervisor::Supervisor;
use crate::telemetry::{Monitor, Traces};
use crate::{VERSION, harden, listener};

/// How long a leader that stops waits for another to take over: it asks who is open, and then two of them if need be.
const HAND_OVER_MAX: Duration = Duration::from_secs(3);
/// For how long at least a node that stops goes on as before, but for its health and for HTTP/1.1 connections, which end with their next
/// answer: so that hardly any of them is closed just when a request is on its way.
const FAREWELL_MIN: Duration = Duration::from_millis(200);
/// Where a node in memory keeps its files: a name of its own disk, not of the machine's.
const MEMORY_FOLDER: &str = "/memory";
/// How long requests under way may take once the node stops.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Why a node did not start, or why it ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A port is taken, or may not be used.
    #[error("{role} cannot listen on {address} (is another process on this port? `ss -ltnp` tells which)")]
    Listen {
        /// Which listener.
        role: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A certificate or key file cannot be read.
    #[error("read {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A static key cannot be had any more.
    #[error("seal: {0}")]
    StaticKey(#[from] KeyError),
    /// The peers' certificate cannot be used.
    #[error("cluster.tls_cert_file")]
    PeerTls(#[from] PeerTlsError),
    /// The node's own key or certificate cannot be used.
    #[error("peer identity")]
    Own(#[from] OwnError),
    /// The clients' certificate cannot be used.
    #[error("listener.tls_cert_file, listener.tls_key_file: {0}")]
    ListenerTls(String),
    /// The authority of the clients' own certificates cannot be used.
    #[error("listener.tls_client_ca_file: {0}")]
    ClientAuthority(String),
    /// The file for the process's id cannot be written.
    #[error("pid_file {}", path.display())]
    PidFile {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The data folder is refused.
    #[error("data folder")]
    DataDir(#[from] storage::datadir::OpenError),
    /// The data folder is of a cluster of another name.
    #[error("data folder {} holds cluster {found:?}, but cluster_name is {wanted:?} (use that cluster's folder, or set cluster_name to {found:?})", folder.display())]
    OtherCluster {
        /// Which folder.
        folder: PathBuf,
        /// Whose it is.
        found: String,
        /// What the configuration says.
        wanted: String,
    },
    /// The journal can be neither read nor made.
    #[error("journal")]
    Journal(#[from] storage::journal::OpenError),
    /// The log is refused.
    #[error("log")]
    Log(#[from] storage::log::OpenError),
    /// The table is refused.
    #[error("table")]
    Table(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The kept snapshot is refused.
    #[error("snapshots")]
    Snapshots(#[from] storage::snapshot::SnapshotError),
    /// Raft does not start.
    #[error("raft")]
    Raft(#[from] raft::StartError),
    /// What is on disk is not as it was written, and no other node has it.
    #[error(
        "the data folder is damaged, and there is no peer to rebuild it from; nothing was changed (put the folder back from a copy, or begin a new one \
         and restore a snapshot into it: docs/operate/repair.md)"
    )]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is damaged could not be moved aside.
    #[error("move what is damaged aside")]
    Quarantine(#[source] io::Error),
    /// The first membership cannot be written.
    #[error("cluster.member")]
    Begin(#[from] raft::BeginError),
    /// The records in the table cannot be used.
    #[error("seal record")]
    Records(#[from] barrier::RecordError),
    /// Raft ended while the node ran: what it had acknowledged is safe, and it must be started again.
    #[error("raft failed: {0}")]
    Failed(String),
}

/// What a running node is told from outside.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    /// End in order.
    pub stop: CancellationToken,
    /// Open the audit devices' files anew, and read the configuration's files again: the log level and the clients' certificates
    /// change, and no connection ends.
    pub reload: Arc<Notify>,
}

/// Runs a node until it is told to stop, or until it fails.
///
/// # Errors
/// What kept it from starting, or [`RunError::Failed`] when its disk or Raft failed while it ran.
pub async fn run(config: Config, signals: Signals) -> Result<(), RunError> {
    let Signals { stop, reload } = signals;
    let traces = Traces::start(&config.log);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let is_locked = harden::process(config.lock_memory);
    tracing::info!(node = %config.storage.node_id, version = VERSION, "starting");

    let opening = config.seal.opening()?;
    // Ports first: a taken one must be found before anything is touched.
    let client_listener = listen("the client listener", config.listener.address)?;
    let client_tls = config.listener.tls.as_ref().map(ListenerTls::load).transpose()?;
    let peer_side = PeerSide::start(&config).await?;

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let rng: Arc<dyn Rng> = Arc::new(OsRng::new());
    let (disk, folder): (Arc<dyn Disk>, &Path) = match &config.storage.place {
        StoragePlace::Folder { path, .. } => (Arc::new(FsDisk), path),
        StoragePlace::Memory => {
            tracing::warn!("NOTHING IS KEPT: log and table are in memory, and all secrets and keys are lost when this process ends");
            (Arc::new(RamDisk::new()), Path::new(MEMORY_FOLDER))
        }
    };
    let feature_levels = feature_levels();
    let data_dir = Arc::new(recovery::open_folder(&config, &disk, folder, feature_levels)?);
    let peering = peer_side.peering(&config, &data_dir, &clock)?;
    let _pid_file = config.pid_file.as_deref().map(PidFile::write).transpose()?;
    let journal = FileJournal::open(Arc::clone(&disk), &data_dir.journal(), data_dir.node(), data_dir.cluster(), Arc::clone(&clock))?;
    let journal: Arc<dyn Journal> = Arc::new(journal);
    let changes = Changes::new();
    let raft = recovery::start(&config, &data_dir, |state| {
        Raft::start(Parts {
            node_id: config.storage.node_id.clone(),
            timing: Timing::default(),
            compaction: config.storage.compaction,
            log: state.log,
            flushing: Flushing::Thread,
            table: state.table,
            disk: (Arc::clone(&disk), data_dir.path().to_owned()),
            snapshots: state.snapshots,
            transport: Arc::clone(&peer_side.transport),
            clock: Arc::clone(&clock),
            observer: Arc::clone(&changes) as Arc<dyn raft::Observer>,
            feature_levels,
            read_consistency: config.read_consistency,
        })
    })
    .await?;
    let own = NodeFacts { node_id: config.storage.node_id.clone(), api_address: config.api_addr.to_string(), version: VERSION.to_owned() };
    let barrier = Barrier::start(barrier::Parts {
        raft: raft.clone(),
        changes,
        peers: Arc::clone(&peer_side.ceremony),
        rng: Arc::clone(&rng),
        clock: Arc::clone(&clock),
        facts: own,
        opening,
        journal: Arc::clone(&journal),
        operations_max: None,
        raise_after: config.feature_level_raise_after,
    });
    if let Some((cluster, found)) = barrier.status().await?.cluster {
        if found != config.cluster_name {
            let wanted = config.cluster_name.clone();
            return Err(RunError::OtherCluster { folder: data_dir.path().to_owned(), found, wanted });
        }
        data_dir.rebind_cluster(cluster, &barrier.replaced_clusters()?)?;
    }

    // Before anyone can be answered: a node that has lost its folder must not vote.
    let beginning = peering.first_members(&config).map(|members| raft.begin(members));
    let tasks = TaskTracker::new();
    let (levelled, folder) = (raft.clone(), Arc::clone(&data_dir));
    tasks.spawn(async move { levelled.keep_level_in(&folder).await });
    // Listeners end first, and with them the requests; peers are served until Raft has stopped.
    let stop_peers = CancellationToken::new();
    if let Some(peers) = peer_side.serve(&config, &peering, (&raft, &barrier), stop_peers.clone(), stop.clone()) {
        tasks.spawn(peers);
    }
    match beginning {
        // It founds a cluster at its init, or joins one.
        None => {}
        Some(beginning) if raft.takes_part() => beginning.await?,
        // The others are asked first, and they may not have been started yet: meanwhile this node answers clients already.
        Some(beginning) => drop(tasks.spawn(begin(beginning, stop.clone()))),
    }

    let serving = Serving::default();
    let (health, health_service) = tonic_health::server::health_reporter();
    let facts = Arc::new(Facts::new(&config, Arc::clone(&clock)).with_monitor(traces.monitor()));
    note_listener_certificate(&config, facts.certificates()).await;
    let following = Follow {
        barrier: barrier.clone(),
        serving: serving.clone(),
        data_dir: Arc::clone(&data_dir),
        journal: Arc::clone(&journal),
        clock: Arc::clone(&clock),
        rng: Arc::clone(&rng),
        settings: Settings { lease_ttl_default: config.lease_ttl_default, lease_ttl_max: config.lease_ttl_max },
        node: Arc::clone(&facts) as Arc<dyn service::Node>,
        health,
        stop: stop.clone(),
    };
    tasks.spawn(follow(following));

    let (measured, serving_measured, traces_lost) = (raft.clone(), serving.clone(), traces.lost());
    let (certificate_noted, peering_shown) = (facts.certificates().clone(), peering.clone());
    facts.metrics().add_source(move |scrape| {
        let service = serving_measured.service();
        facts::measure_journal(scrape, &*journal, service.as_ref().map(|service| service.journal_joined()));
        certificate_noted.note_end("peers", peering_shown.certificate_ends());
        facts::measure_node(scrape, &measured, service.is_some(), is_locked, traces_lost());
        facts::measure_space(scrape, &measured);
        if let Some(service) = service {
            facts::measure_service(scrape, &service.audit_failures(), service.chore_counts());
            facts::measure_snapshots(scrape, service.snapshot_figures());
        }
    });
    let node_id = config.storage.node_id.clone();
    let leading = (facts.leading().clone(), facts::Elections::of(facts.metrics()));
    tasks.spawn(facts::follow(leading, raft.clone(), node_id, Arc::clone(&clock), stop.clone()));

    tasks.spawn(end_following(barrier.clone(), traces.monitor(), stop.clone()));
    let certificates = facts.certificates().clone();
    let edge = Edge {
        facts,
        raft: raft.clone(),
        barrier: barrier.clone(),
        serving: serving.clone(),
        clock,
        rng,
        limits: listener::limits(&config.listener, config.stale_reads_max),
        cluster_name: config.cluster_name.clone(),
        node_id: config.storage.node_id.clone(),
        refused_shares: Arc::default(),
        peering: peering.clone(),
        joining: Arc::default(),
        stopping: stop.clone(),
    };
    let stop_clients = CancellationToken::new();
    let address = client_listener.local_addr().unwrap_or(config.listener.address);
    tracing::info!(%address, tls = client_tls.is_some(), "serving clients");
    let clients = listener::serve(client_listener, client_tls.clone(), edge, health_service, &config.listener, stop_clients.clone());
    let clients = tasks.spawn(clients);

    let supervisor = Arc::new(Supervisor::of_environment());
    supervisor.ready();
    supervisor.status("serves; whether it is open, `conclave status` tells");
    let (living, stop_living) = (Arc::clone(&supervisor), stop.clone());
    tasks.spawn(async move { living.live(stop_living).await });

    let reloadable = Reloadable { config: config.clone(), traces: &traces, client_tls, peering, serving: serving.clone(), certificates };
    let failure = {
        let failed = raft.failed();
        tokio::pin!(failed);
        loop {
            tokio::select! {
                () = stop.cancelled() => break None,
                why = &mut failed => break Some(why),
                () = reload.notified() => {
                    supervisor.reloading();
                    reloadable.reload().await;
                    supervisor.ready();
                }
            }
        }
    };
    stop.cancel();
    if let Some(why) = failure {
        // The disk or an invariant failed: nothing may be acknowledged any more, so nothing is drained.
        tracing::error!(why, "raft failed: the node ends");
        return Err(RunError::Failed(why));
    }
    tracing::info!("stopping");
    supervisor.stopping();
    // Health says so from now on. Leadership goes while clients are still served, so that no election has to find out.
    let farewell = tokio::time::sleep(config.shutdown_delay.max(FAREWELL_MIN));
    tokio::join!(hand_leadership_over(&barrier), farewell);
    stop_clients.cancel();
    if tokio::time::timeout(DRAIN_MAX, clients).await.is_err() {
        tracing::warn!("requests were still under way and are cut off");
    }
    // Whoever it was given to may have ended meanwhile, and this node lead again.
    hand_leadership_over(&barrier).await;
    barrier.shutdown().await;
    raft.shutdown().await;
    stop_peers.cancel();
    tasks.close();
    if tokio::time::timeout(DRAIN_MAX, tasks.wait()).await.is_err() {
        tracing::warn!("some tasks did not end in time");
    }
    tracing::info!("stopped");
    Ok(())
}

/// What changes while the node runs.
struct Reloadable<'a> {
    /// As the node was started.
    config: Config,
    traces: &'a Traces,
    client_tls: Option<ListenerTls>,
    peering: Peering,
    serving: Serving,
    certificates: facts::Certificates,
}

impl Reloadable<'_> {
    /// Reads the configuration again. A wrong one changes nothing.
    async fn reload(&self) {
        // First: a log that was renamed must be let go whatever the configuration says.
        if let Some(service) = self.serving.service() {
            service.reopen_audit();
        }
        let sources = self.config.sources.clone();
        let read = tokio::task::spawn_blocking(move || Config::load(&sources)).await;
        let renewed = match read {
            Ok(Ok(renewed)) => renewed,
            Ok(Err(errors)) => {
                errors.mistakes().iter().for_each(|mistake| tracing::error!("{mistake}"));
                return tracing::error!("the configuration is wrong, so nothing is changed");
            }
            Err(error) => return tracing::error!(%error, "read the configuration"),
        };
        self.traces.set_filter(&renewed.log.filter);
        if let (Some(tls), Some(files)) = (&self.client_tls, &renewed.listener.tls) {
            match tls.reload(files) {
                Ok(()) => note_listener_certificate(&renewed, &self.certificates).await,
                Err(error) => tracing::error!(%error, "the clients' certificate stays as it was"),
            }
        }
        if let Err(error) = self.peering.reload(&renewed).await {
            tracing::error!(%error, cause = error.source().map(|cause| cause.to_string()), "the peers' certificate stays as it was");
        }
        for name in self.config.restart_needed(&renewed) {
            tracing::warn!("{name} has changed: that takes a restart");
        }
        tracing::info!("the configuration was read again: log level and certificates are as it says now");
    }
}

/// Who follows the traces was let in by an open node: that ends with the seal, and when the node stops.
async fn end_following(barrier: Barrier, monitor: Monitor, stop: CancellationToken) {
    let mut open = barrier.watch_open();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            changed = open.changed() => if changed.is_err() { break },
        }
        if !*open.borrow_and_update() {
            monitor.close();
        }
    }
    monitor.close();
}

/// Until when the listener's certificate is valid, for the metrics. A file that cannot be read was told of when it was loaded.
async fn note_listener_certificate(config: &Config, certificates: &facts::Certificates) {
    if let Some(files) = &config.listener.tls
        && let Ok(pem) = tokio::fs::read(&files.cert).await
    {
        certificates.note("listener", &pem);
    }
}

/// The file that holds the process's id, while the process runs.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> Result<PidFile, RunError> {
        let text = format!("{}\n", std::process::id());
        storage::disk::write_whole(&FsDisk, path, text.as_bytes()).map_err(|source| RunError::PidFile { path: path.to_owned(), source })?;
        Ok(PidFile(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = FsDisk.remove(&self.0) {
            tracing::warn!(%error, file = %self.0.display(), "remove the file of the process's id");
        }
    }
}

pub(crate) fn listen(role: &'static str, address: SocketAddr) -> Result<TcpListener, RunError> {
    listener::bind(address).map_err(|source| RunError::Listen { role, address, source })
}

pub(crate) fn open_table(config: &Config, data_dir: &DataDir) -> Result<Arc<dyn Table>, RunError> {
    let kind = match config.storage.place {
        StoragePlace::Memory => return Ok(Arc::new(MemoryTable::new())),
        StoragePlace::Folder { table, .. } => table,
    };
    match kind {
        TableKind::Redb => {
            let table = RedbTable::open(data_dir.disk(), &data_dir.table(), RedbTableOptions::default());
            Ok(Arc::new(table.map_err(|error| RunError::Table(Box::new(error)))?))
        }
        #[cfg(feature = "sled")]
        TableKind::Sled => {
            let table = storage::table::SledTable::open(&data_dir.path().join("table.sled"));
            Ok(Arc::new(table.map_err(|error| RunError::Table(Box::new(error)))?))
        }
        #[cfg(not(feature = "sled"))]
        TableKind::Sled => Err(RunError::Table("this build has no sled (build with `--features sled`, or use \"redb\")".into())),
    }
}

/// The feature levels that this binary knows. A debug build can be told to play an older release, so that tests have one to upgrade from.
fn feature_levels() -> FeatureLevels {
    #[cfg(debug_assertions)]
    if let Some(max) = std::env::var("CONCLAVE_TEST_FEATURE_LEVEL_MAX").ok().and_then(|max| max.parse().ok()) {
        return FeatureLevels { max: types::FeatureLevel(max), ..FEATURE_LEVELS };
    }
    FEATURE_LEVELS
}

/// Takes part in the cluster once it is known whether this node has lost what it had, and once that is here again.
async fn begin(beginning: impl Future<Output = Result<(), raft::BeginError>>, stop: CancellationToken) {
    if let Some(Err(error)) = stop.run_until_cancelled(beginning).await {
        tracing::error!(error = &error as &dyn std::error::Error, "this node takes no part in the cluster until it is started again");
    }
}

/// A leader that stops lets another lead first, rather an open one, so that no election has to find out.
async fn hand_leadership_over(barrier: &Barrier) {
    match tokio::time::timeout(HAND_OVER_MAX, barrier.step_down()).await {
        Ok(Ok(())) | Ok(Err(ChangeError::Refused(Refusal { kind: RefusalKind::LastVoter, .. }))) => {}
        Ok(Err(error)) => tracing::warn!(%error, "leadership is not handed over"),
        Err(_) => tracing::warn!("nobody took the leadership over in time"),
    }
}

//! The node's side towards its peers: the listener, the channels, and what it shows to them ([`raft::grpc::PeerTls`]), which may change while it
//! runs: certificates are renewed, by operators or by the node itself.
//!
//! Always: the listener's port is taken at the start, before anything is touched; connections are accepted once there is an identity,
//! each by the newest one.

mod alone;
mod http;
mod managed;
mod own;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use barrier::identity::IdentityService;
use barrier::{Barrier, CeremonyPeers, CeremonyService, GrpcCeremonyPeers};
use raft::grpc::{Admission, Channels, GrpcTransport, PeerIdentity, PeerTls, RaftService, incoming};
use raft::{Member, Raft, Transport};
use storage::{DataDir, Disk};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use types::{Clock, NodeId, Timestamp};

use crate::boot::{RunError, listen};
use crate::config::{ClusterIdentity, Config, PeerTlsFiles};
use alone::Alone;

pub(crate) use http::{Target, TargetTls};
pub(crate) use managed::{FoundError, JoinBy, JoinFailure, Managed};
pub use own::OwnError;

/// Calls that one peer may have under way on one connection.
const STREAMS_MAX: u32 = 1024;
/// How often a peer's connection is looked at, and how long the answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// What peers are reached by, and reach this node by.
pub(crate) struct PeerSide {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) ceremony: Arc<dyn CeremonyPeers>,
    /// `None` for a node without a cluster block.
    side: Option<Side>,
}

struct Side {
    listener: TcpListener,
    identity: Arc<watch::Sender<Option<PeerTls>>>,
}

impl PeerSide {
    /// Takes the port, and reads the certificates that operators have brought.
    pub(crate) async fn start(config: &Config) -> Result<PeerSide, RunError> {
        let Some(cluster) = &config.cluster else {
            return Ok(PeerSide { transport: Arc::new(Alone), ceremony: Arc::new(Alone), side: None });
        };
        let tls = match &cluster.identity {
            ClusterIdentity::Managed { .. } => None,
            ClusterIdentity::Brought { tls, .. } => Some(read_tls(config, tls).await?),
        };
        let listener = listen("the peers' listener", cluster.listen)?;
        let (identity, shown) = watch::channel(tls);
        let channels = Channels::new(shown);
        Ok(PeerSide {
            transport: Arc::new(GrpcTransport::new(channels.clone())),
            ceremony: Arc::new(GrpcCeremonyPeers::new(channels)),
            side: Some(Side { listener, identity: Arc::new(identity) }),
        })
    }

    /// What the node is to its peers, over its data folder.
    pub(crate) fn peering(&self, config: &Config, data_dir: &Arc<DataDir>, clock: &Arc<dyn Clock>) -> Result<Peering, RunError> {
        let identity = self.side.as_ref().map(|side| Arc::clone(&side.identity));
        let managed = match (&identity, &config.cluster, &config.cluster_addr) {
            (Some(identity), Some(cluster), Some(address)) => match &cluster.identity {
                ClusterIdentity::Managed { certificate_ttl } => {
                    let managed = Managed::open(config, address, *certificate_ttl, data_dir, clock, Arc::clone(identity));
                    Some(Arc::new(managed?))
                }
                ClusterIdentity::Brought { .. } => None,
            },
            _ => None,
        };
        Ok(Peering { identity, managed })
    }

    /// Serves the peers until `stop`, and keeps the node's own certificate until `stop_asking`; `None`: there are no peers.
    pub(crate) fn serve(
        self,
        config: &Config,
        peering: &Peering,
        (raft, barrier): (&Raft, &Barrier),
        stop: CancellationToken,
        stop_asking: CancellationToken,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let Side { listener, identity } = self.side?;
        let managed = peering.managed.clone();
        if let Some(managed) = &managed {
            managed.attach(raft.clone(), barrier.clone());
        }
        let admission = admission(config, raft, managed.clone());
        let serving = server(raft, barrier, admission, listener, identity.subscribe(), stop);
        Some(async move {
            let keeping = async {
                if let Some(managed) = &managed {
                    tokio::join!(managed.keep_asking(&stop_asking), managed.keep_certificate(&stop_asking));
                }
            };
            tokio::join!(serving, keeping);
        })
    }
}

/// What the node is to its peers, while it runs. Clones share it.
#[derive(Clone)]
pub(crate) struct Peering {
    /// `None`: it has no peers.
    identity: Option<Arc<watch::Sender<Option<PeerTls>>>>,
    /// `None`: it has none, or operators bring its certificate.
    managed: Option<Arc<Managed>>,
}

impl Peering {
    /// What makes its certificate itself.
    pub(crate) fn managed(&self) -> Option<&Arc<Managed>> {
        self.managed.as_ref()
    }

    /// The members with which Raft begins: as the configuration lists them, as they were when the node joined, or the node alone. None where
    /// the cluster is founded at init, or joined.
    pub(crate) fn first_members(&self, config: &Config) -> Option<BTreeMap<NodeId, Member>> {
        match &self.managed {
            Some(managed) => managed.first_members(),
            None => configured_members(config),
        }
    }

    /// When the certificate ends that peers are shown; `None`: there is none.
    pub(crate) fn certificate_ends(&self) -> Option<Timestamp> {
        self.identity.as_ref()?.borrow().as_ref().map(PeerTls::valid_until)
    }

    /// How long a certificate is valid that this node signs for another.
    pub(crate) fn certificate_ttl(&self) -> Duration {
        self.managed.as_ref().map_or(barrier::identity::CERTIFICATE_LIFE, |managed| managed.certificate_ttl())
    }

    /// Reads the certificates that operators have brought anew, for the connections to come. After an error all stays as it was.
    pub(crate) async fn reload(&self, config: &Config) -> Result<(), RunError> {
        if let (Some(identity), Some(cluster)) = (&self.identity, &config.cluster)
            && let (ClusterIdentity::Brought { tls, .. }, None) = (&cluster.identity, &self.managed)
        {
            identity.send_replace(Some(read_tls(config, tls).await?));
        }
        Ok(())
    }
}

async fn read_file(path: &std::path::Path) -> Result<Vec<u8>, RunError> {
    tokio::fs::read(path).await.map_err(|source| RunError::File { path: path.to_owned(), source })
}

async fn read_tls(config: &Config, files: &PeerTlsFiles) -> Result<PeerTls, RunError> {
    let (ca, cert, key) = (read_file(&files.ca).await?, read_file(&files.cert).await?, read_file(&files.key).await?);
    let key = crypto::Zeroizing::new(key);
    Ok(PeerTls::new(&config.storage.node_id, &config.cluster_name, &ca, &cert, &key)?)
}

/// The members that the configuration lists; a node without peers is the only one. `None`: it lists none.
pub(crate) fn configured_members(config: &Config) -> Option<BTreeMap<NodeId, Member>> {
    let Some(cluster) = &config.cluster else {
        let member = Member { api_address: config.api_addr.to_string(), ..Member::default() };
        return Some(BTreeMap::from([(config.storage.node_id.clone(), member)]));
    };
    let ClusterIdentity::Brought { members, .. } = &cluster.identity else { return None };
    let member = |(id, member): (&NodeId, &crate::config::Member)| {
        let place =
            Member { cluster_address: member.cluster_addr.to_string(), api_address: member.api_addr.to_string(), ..Member::default() };
        (id.clone(), place)
    };
    Some(members.iter().map(member).collect())
}

/// Whether this node knows of other members before Raft is started: by its configuration, or by what is kept beside its certificate.
pub(crate) fn knows_others(config: &Config, disk: &dyn Disk, folder: &std::path::Path) -> bool {
    match configured_members(config) {
        Some(members) => members.len() > 1,
        None => own::knows_others(disk, folder, &config.storage.node_id),
    }
}

/// Members are admitted: those of the last membership, or, before there is one, those of the configuration or of the time of the join.
fn admission(config: &Config, raft: &Raft, managed: Option<Arc<Managed>>) -> Admission {
    let configured = configured_members(config).unwrap_or_default();
    let raft = raft.clone();
    let member = move |id: &NodeId| match (raft.peer(id), &managed) {
        (Some(peer), _) => Some(peer.member.clone()),
        (None, _) if !raft.status().members.is_empty() => None,
        (None, Some(managed)) => managed.members_at_join(id),
        (None, None) => configured.get(id).cloned(),
    };
    Admission::new(&config.cluster_name, Arc::new(member))
}

fn server(
    raft: &Raft,
    barrier: &Barrier,
    admission: Admission,
    listener: TcpListener,
    identity: PeerIdentity,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let server = Server::builder()
        .initial_stream_window_size(8 * 1024 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024)
        .max_concurrent_streams(STREAMS_MAX)
        // A peer that vanished without a word leaves its connections, and a task for each of its streams.
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_INTERVAL))
        .add_service(RaftService::server(raft.inbound(), admission.clone()))
        .add_service(CeremonyService::server(barrier.clone(), admission.clone()))
        .add_service(IdentityService::server(barrier.clone(), admission));
    let serving = server.serve_with_incoming_shutdown(incoming(listener, identity), async move { stop.cancelled().await });
    async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the peers' listener has ended");
        }
    }
}

//! The node's side towards its peers: the listener, the channels, and what it shows to them ([`raft::grpc::PeerTls`]), which may change while it
//! runs: certificates are renewed, by operators or by the node itself.
//!
//! Always: the listener's port is taken at the start, before anything is touched; connections are accepted once there is an identity,
//! each by the newest one.

mod alone;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use barrier::{Barrier, CeremonyPeers, CeremonyService, GrpcCeremonyPeers};
use raft::grpc::{Admission, Channels, GrpcTransport, PeerIdentity, PeerTls, RaftService, incoming};
use raft::{Member, Raft, Transport};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use types::NodeId;

use crate::boot::{RunError, listen};
use crate::config::{ClusterConfig, Config};
use alone::Alone;

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
        let tls = read_tls(config, cluster).await?;
        let listener = listen("the peers' listener", cluster.listen)?;
        let (identity, shown) = watch::channel(Some(tls));
        let channels = Channels::new(shown);
        Ok(PeerSide {
            transport: Arc::new(GrpcTransport::new(channels.clone())),
            ceremony: Arc::new(GrpcCeremonyPeers::new(channels)),
            side: Some(Side { listener, identity: Arc::new(identity) }),
        })
    }

    /// Serves the peers, until it is told to stop; answers what changes the identity meanwhile.
    pub(crate) fn serve(
        self,
        config: &Config,
        raft: &Raft,
        barrier: &Barrier,
        stop: CancellationToken,
    ) -> Option<(impl Future<Output = ()> + Send + use<>, IdentityChanges)> {
        let Side { listener, identity } = self.side?;
        let server = server(raft, barrier, admission(config, raft), listener, identity.subscribe(), stop);
        Some((server, IdentityChanges(identity)))
    }
}

/// Changes what the node shows to its peers.
pub(crate) struct IdentityChanges(Arc<watch::Sender<Option<PeerTls>>>);

impl IdentityChanges {
    /// Reads the certificates of the configuration anew, for the connections to come. After an error all stays as it was.
    pub(crate) async fn reload(&self, config: &Config) -> Result<(), RunError> {
        if let Some(cluster) = &config.cluster {
            self.0.send_replace(Some(read_tls(config, cluster).await?));
        }
        Ok(())
    }
}

async fn read_file(path: &std::path::Path) -> Result<Vec<u8>, RunError> {
    tokio::fs::read(path).await.map_err(|source| RunError::File { path: path.to_owned(), source })
}

async fn read_tls(config: &Config, cluster: &ClusterConfig) -> Result<PeerTls, RunError> {
    let (ca, cert, key) = (read_file(&cluster.tls.ca).await?, read_file(&cluster.tls.cert).await?, read_file(&cluster.tls.key).await?);
    let key = crypto::Zeroizing::new(key);
    Ok(PeerTls::new(&config.storage.node_id, &config.cluster_name, &ca, &cert, &key)?)
}

/// Every member as the configuration lists them; a node without peers is the only one.
pub(crate) fn first_members(config: &Config) -> BTreeMap<NodeId, Member> {
    match &config.cluster {
        None => {
            let member = Member { api_address: config.api_addr.to_string(), ..Member::default() };
            BTreeMap::from([(config.storage.node_id.clone(), member)])
        }
        Some(cluster) => {
            let member = |(id, member): (&NodeId, &crate::config::Member)| {
                let place = Member {
                    cluster_address: member.cluster_addr.to_string(),
                    api_address: member.api_addr.to_string(),
                    ..Member::default()
                };
                (id.clone(), place)
            };
            cluster.members.iter().map(member).collect()
        }
    }
}

/// Members are admitted: those of the last membership, or, before there is one, those of the configuration.
fn admission(config: &Config, raft: &Raft) -> Admission {
    let configured = first_members(config);
    let raft = raft.clone();
    let member = move |id: &NodeId| match raft.peer(id) {
        Some(peer) => Some(peer.member.clone()),
        None if raft.status().members.is_empty() => configured.get(id).cloned(),
        None => None,
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
        .add_service(CeremonyService::server(barrier.clone(), admission));
    let serving = server.serve_with_incoming_shutdown(incoming(listener, identity), async move { stop.cancelled().await });
    async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the peers' listener has ended");
        }
    }
}

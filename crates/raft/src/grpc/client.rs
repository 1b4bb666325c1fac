//! The client side: one connection to each peer, opened when needed and kept.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use proto::peer;
use proto::peer::raft_client::RaftClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use types::NodeId;

use super::{MESSAGE_BYTES_MAX, PeerIdentity, PeerTls};
use crate::config::Member;
use crate::transport::{AppendStream, Peer, Transport, TransportError};

const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// A connection on which a ping is not answered for [`PING_TIMEOUT`] is closed: so a paused or vanished peer is noticed.
const PING_INTERVAL: Duration = Duration::from_millis(500);
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a follower waits for a read index before it looks for another leader.
const READ_INDEX_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a follower waits for its batches to be committed before their fate is unknown.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a change of the members may take: longer than the leader works at it.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(27);
/// How long a node waits for what another holds at a check: the other may have to apply it first.
const CHECK_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a node that asks what there was before it waits for one answer.
const REJOIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections to peers, by node. Cheap to clone; other services on the peers' port share them.
#[derive(Clone)]
pub struct Channels {
    identity: PeerIdentity,
    open: Arc<Mutex<HashMap<NodeId, Open>>>,
}

/// A connection, and what it was made by.
struct Open {
    member: Member,
    tls: PeerTls,
    channel: Channel,
}

impl Channels {
    /// No connection yet.
    pub fn new(identity: PeerIdentity) -> Channels {
        Channels { identity, open: Arc::default() }
    }

    /// A connection to `peer`; it is made at the first call, and made anew when its address or key or this node's identity has changed.
    pub fn to(&self, peer: &Peer) -> Result<Channel, TransportError> {
        let tls = self.tls(peer)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = open.get(&peer.id)
            && open.member == peer.member
            && open.tls.is(&tls)
        {
            return Ok(open.channel.clone());
        }
        let channel = connection(peer, &tls)?;
        open.insert(peer.id.clone(), Open { member: peer.member.clone(), tls, channel: channel.clone() });
        Ok(channel)
    }

    fn tls(&self, peer: &Peer) -> Result<PeerTls, TransportError> {
        let reason = || "this node has no certificate for its peers yet".to_owned();
        self.identity.borrow().clone().ok_or_else(|| TransportError::Unreachable { peer: peer.id.clone(), reason: reason() })
    }

    /// A connection of its own to `peer`, made at the first call, which ends when it is dropped. For keys: the buffers of a connection
    /// hold what went over it last.
    pub fn fresh(&self, peer: &Peer) -> Result<Channel, TransportError> {
        connection(peer, &self.tls(peer)?)
    }
}

fn connection(peer: &Peer, tls: &PeerTls) -> Result<Channel, TransportError> {
    let unusable = |error: tonic::transport::Error| TransportError::Unreachable { peer: peer.id.clone(), reason: chain(&error) };
    let (config, verifier) = tls.client(&peer.id, peer.member.key);
    let endpoint = Endpoint::from_shared(peer.member.cluster_address.clone())
        .map_err(unusable)?
        .tls_config_with_verifier(config, verifier)
        .map_err(unusable)?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .initial_stream_window_size(8 * 1024 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024);
    Ok(endpoint.connect_lazy())
}

/// The whole story of an error: what tonic says alone is "transport error".
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Tells a call that never left from one whose answer was lost.
///
/// Tonic reports both as statuses; only a failed connect attempt says surely that nothing was sent.
pub(crate) fn transport_error(peer: &NodeId, status: &Status) -> TransportError {
    let peer = peer.clone();
    let source = std::error::Error::source(status);
    let reason = source.map_or_else(|| status.message().to_owned(), chain);
    let never_sent = source.is_some_and(is_connect_error);
    match status.code() {
        _ if never_sent => TransportError::Unreachable { peer, reason },
        Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented | Code::FailedPrecondition => {
            TransportError::Refused { peer, reason: status.message().to_owned() }
        }
        _ => TransportError::Lost { peer, reason },
    }
}

fn is_connect_error(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        error.is::<tonic::ConnectError>()
            || error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused)
    })
}

/// A stream of requests of a nameable type: the compiler cannot prove a call future with a bare boxed stream in it `Send`.
struct Outgoing<T>(BoxStream<'static, T>);

impl<T> Stream for Outgoing<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_next_unpin(context)
    }
}

/// [`Transport`] over gRPC with mutual TLS.
pub struct GrpcTransport {
    channels: Channels,
}

impl GrpcTransport {
    /// Calls go over `channels`.
    pub fn new(channels: Channels) -> GrpcTransport {
        GrpcTransport { channels }
    }

    fn client(&self, peer: &Peer) -> Result<RaftClient<Channel>, TransportError> {
        let channel = self.channels.to(peer)?;
        Ok(RaftClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    fn call<R, F, C>(&self, to: Arc<Peer>, timeout: Option<Duration>, call: C) -> BoxFuture<'static, Result<R, TransportError>>
    where
        R: Send + 'static,
        F: Future<Output = Result<tonic::Response<R>, Status>> + Send + 'static,
        C: FnOnce(RaftClient<Channel>) -> F + Send + 'static,
    {
        let client = self.client(&to);
        async move {
            let call = call(client?);
            let response = match timeout {
                None => call.await,
                Some(timeout) => match tokio::time::timeout(timeout, call).await {
                    Ok(response) => response,
                    Err(_) => return Err(TransportError::Lost { peer: to.id.clone(), reason: format!("no answer in {timeout:?}") }),
                },
            };
            response.map(tonic::Response::into_inner).map_err(|status| transport_error(&to.id, &status))
        }
        .boxed()
    }
}

impl Transport for GrpcTransport {
    fn append(
        &self,
        to: Arc<Peer>,
        requests: BoxStream<'static, peer::AppendRequest>,
    ) -> BoxFuture<'static, Result<AppendStream, TransportError>> {
        let id = to.id.clone();
        let call = self.call(to, None, |mut client| async move { client.append(Outgoing(requests)).await });
        async move {
            let responses = call.await?;
            Ok(responses.map(move |response| response.map_err(|status| transport_error(&id, &status))).boxed())
        }
        .boxed()
    }

    fn vote(&self, to: Arc<Peer>, request: peer::VoteRequest) -> BoxFuture<'static, Result<peer::VoteResponse, TransportError>> {
        self.call(to, None, |mut client| async move { client.vote(request).await })
    }

    fn snapshot(
        &self,
        to: Arc<Peer>,
        chunks: BoxStream<'static, peer::SnapshotChunk>,
    ) -> BoxFuture<'static, Result<peer::SnapshotResponse, TransportError>> {
        self.call(to, None, |mut client| async move { client.snapshot(Outgoing(chunks)).await })
    }

    fn transfer_leader(
        &self,
        to: Arc<Peer>,
        request: peer::TransferLeaderRequest,
    ) -> BoxFuture<'static, Result<peer::TransferLeaderResponse, TransportError>> {
        self.call(to, None, |mut client| async move { client.transfer_leader(request).await })
    }

    fn read_index(
        &self,
        to: Arc<Peer>,
        request: peer::ReadIndexRequest,
    ) -> BoxFuture<'static, Result<peer::ReadIndexResponse, TransportError>> {
        let call = move |mut client: RaftClient<Channel>| async move { client.read_index(request).await };
        self.call(to, Some(READ_INDEX_TIMEOUT), call)
    }

    fn propose(&self, to: Arc<Peer>, request: peer::ProposeRequest) -> BoxFuture<'static, Result<peer::ProposeResponse, TransportError>> {
        self.call(to, Some(PROPOSE_TIMEOUT), |mut client| async move { client.propose(request).await })
    }

    fn membership(
        &self,
        to: Arc<Peer>,
        request: peer::MembershipRequest,
    ) -> BoxFuture<'static, Result<peer::MembershipResponse, TransportError>> {
        let timeout = if request.change.is_some() { CHANGE_TIMEOUT } else { READ_INDEX_TIMEOUT };
        self.call(to, Some(timeout), |mut client| async move { client.membership(request).await })
    }

    fn check(&self, to: Arc<Peer>, request: peer::CheckRequest) -> BoxFuture<'static, Result<peer::CheckResponse, TransportError>> {
        self.call(to, Some(CHECK_TIMEOUT), move |mut client: RaftClient<Channel>| async move { client.check(request).await })
    }

    fn rejoin(&self, to: Arc<Peer>, request: peer::RejoinRequest) -> BoxFuture<'static, Result<peer::RejoinResponse, TransportError>> {
        self.call(to, Some(REJOIN_TIMEOUT), |mut client| async move { client.rejoin(request).await })
    }
}

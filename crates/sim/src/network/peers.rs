//! [`SimPeers`]: one node's way to the others, for Raft and for the ceremony.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use barrier::{CeremonyPeers, PeerCallError};
use futures::future::{BoxFuture, ready};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use prost::Message;
use proto::peer;
use raft::{AppendStream, InboundError, Peer, Transport, TransportError};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use types::NodeId;

use super::stream::{Connection, Direction};
use super::{CallError, Endpoint, SimNetwork};

// How long the real transports wait for an answer (raft::grpc, barrier::peers).
const READ_INDEX_TIMEOUT: Duration = Duration::from_millis(500);
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
const CHANGE_TIMEOUT: Duration = Duration::from_secs(27);
const CHECK_TIMEOUT: Duration = Duration::from_secs(4);
const REJOIN_TIMEOUT: Duration = Duration::from_secs(1);
const CEREMONY_TIMEOUT: Duration = Duration::from_secs(1);
/// Longer than the caller waits.
const UNBOUNDED: Duration = Duration::from_secs(60);

/// One life of a node, as a caller. Calls fail once it is over.
pub struct SimPeers {
    network: SimNetwork,
    from: NodeId,
    down: CancellationToken,
}

impl SimPeers {
    pub(super) fn new(network: SimNetwork, from: NodeId, down: CancellationToken) -> SimPeers {
        SimPeers { network, from, down }
    }

    fn call<Q, A, E, F>(
        &self,
        to: &Peer,
        call: &'static str,
        patience: Duration,
        question: Q,
        serve: impl FnOnce(Endpoint, Q) -> F + Send + 'static,
    ) -> BoxFuture<'static, Result<A, CallError>>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
        E: std::fmt::Display + Send + 'static,
        F: Future<Output = Result<A, E>> + Send + 'static,
    {
        let called = self.network.clone().call(self.from.clone(), to.id.clone(), call, question, serve);
        within_life(self.down.clone(), patience, called.boxed()).boxed()
    }

    fn raft<Q, A, F>(
        &self,
        to: &Arc<Peer>,
        call: &'static str,
        patience: Duration,
        question: Q,
        serve: impl FnOnce(Endpoint, Q) -> F + Send + 'static,
    ) -> BoxFuture<'static, Result<A, TransportError>>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
        F: Future<Output = Result<A, InboundError>> + Send + 'static,
    {
        let (to, called) = (Arc::clone(to), self.call(to, call, patience, question, serve));
        async move { called.await.map_err(|error| transport_error(&to, error)) }.boxed()
    }

    fn ceremony<Q, A, E>(
        &self,
        to: &Peer,
        call: &'static str,
        question: Q,
        serve: impl FnOnce(Endpoint, Q) -> Result<A, E> + Send + 'static,
    ) -> BoxFuture<'static, Result<A, PeerCallError>>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let called = self.call(to, call, CEREMONY_TIMEOUT, question, |endpoint, question| async move { serve(endpoint, question) });
        async move { called.await.map_err(peer_call_error) }.boxed()
    }
}

/// A call that ends with the life of its caller, or with its patience.
async fn within_life<A>(
    down: CancellationToken,
    patience: Duration,
    call: BoxFuture<'static, Result<A, CallError>>,
) -> Result<A, CallError> {
    tokio::select! {
        biased;
        () = down.cancelled() => Err(CallError::Lost("this node is down")),
        answer = timeout(patience, call) => answer.unwrap_or(Err(CallError::Lost("timed out"))),
    }
}

fn peer_call_error(error: CallError) -> PeerCallError {
    match error {
        CallError::Unreachable(why) | CallError::Lost(why) => PeerCallError::Lost(why.to_owned()),
        CallError::Refused(why) => PeerCallError::Refused(why),
    }
}

fn transport_error(to: &Peer, error: CallError) -> TransportError {
    let peer = to.id.clone();
    match error {
        CallError::Unreachable(why) => TransportError::Unreachable { peer, reason: why.to_owned() },
        CallError::Lost(why) => TransportError::Lost { peer, reason: why.to_owned() },
        CallError::Refused(reason) => TransportError::Refused { peer, reason },
    }
}

impl Transport for SimPeers {
    fn append(
        &self,
        to: Arc<Peer>,
        requests: BoxStream<'static, peer::AppendRequest>,
    ) -> BoxFuture<'static, Result<AppendStream, TransportError>> {
        let (network, down) = (self.network.clone(), self.down.clone());
        let there = Direction { from: self.from.clone(), to: to.id.clone(), call: "append" };
        let call = async move {
            let (connection, endpoint, guard) = Connection::open(&network, &there, &down).await?;
            let (witness, leader) = (network.witness.clone(), there.from.clone());
            let (asking, asked) = connection.carry(there.clone(), requests, move |request| witness.saw_append(&leader, request));
            // A refusal ends the stream; the caller sees the connection close.
            let closed = connection.closed.clone();
            let answers = endpoint.inbound.append(asked).filter_map(move |answer| ready(answer.inspect_err(|_| closed.cancel()).ok()));
            let (answering, answered) = connection.carry(there.back(), answers.boxed(), |_| {});
            endpoint.tasks.spawn(asking);
            endpoint.tasks.spawn(answering);
            Ok((answered, guard))
        };
        async move {
            let (answered, guard) = call.await.map_err(|error| transport_error(&to, error))?;
            let lost = move |_| TransportError::Lost { peer: to.id.clone(), reason: "connection reset".into() };
            Ok(answered
                .map(move |answer| {
                    let _open_as_long_as_somebody_listens = &guard;
                    answer.map_err(&lost)
                })
                .boxed())
        }
        .boxed()
    }

    fn vote(&self, to: Arc<Peer>, request: peer::VoteRequest) -> BoxFuture<'static, Result<peer::VoteResponse, TransportError>> {
        let (witness, voter) = (self.network.witness.clone(), to.id.clone());
        self.raft(&to, "vote", UNBOUNDED, request, |endpoint, request| async move {
            let response = endpoint.inbound.vote(request.clone()).await?;
            witness.saw_vote(&voter, &request, &response);
            Ok(response)
        })
    }

    fn snapshot(
        &self,
        to: Arc<Peer>,
        chunks: BoxStream<'static, peer::SnapshotChunk>,
    ) -> BoxFuture<'static, Result<peer::SnapshotResponse, TransportError>> {
        let (network, down) = (self.network.clone(), self.down.clone());
        let there = Direction { from: self.from.clone(), to: to.id.clone(), call: "snapshot" };
        let call = async move {
            let (connection, endpoint, _guard) = Connection::open(&network, &there, &down).await?;
            let (sending, arriving) = connection.carry(there.clone(), chunks, |_| {});
            let (reply, answer) = oneshot::channel();
            let inbound = endpoint.inbound.clone();
            endpoint.tasks.spawn(sending);
            // The sender may have gone.
            endpoint.tasks.spawn(async move { drop(reply.send(inbound.snapshot(arriving).await)) });
            let answer = tokio::select! {
                biased;
                answer = answer => answer,
                () = connection.closed.cancelled() => return Err(CallError::Lost("connection reset")),
            };
            let answer = answer.map_err(|_| CallError::Lost("connection reset"))?;
            let answer = answer.map_err(|refusal| CallError::Refused(refusal.to_string()))?;
            network.transmit(&there.to, &there.from, there.call, &answer);
            network.mended(&there.to, &there.from).await;
            tokio::time::sleep(network.reliable_passage()).await;
            Ok(answer)
        };
        async move { call.await.map_err(|error| transport_error(&to, error)) }.boxed()
    }

    fn transfer_leader(
        &self,
        to: Arc<Peer>,
        request: peer::TransferLeaderRequest,
    ) -> BoxFuture<'static, Result<peer::TransferLeaderResponse, TransportError>> {
        self.raft(
            &to,
            "transfer_leader",
            UNBOUNDED,
            request,
            |endpoint, request| async move { endpoint.inbound.transfer_leader(request).await },
        )
    }

    fn read_index(
        &self,
        to: Arc<Peer>,
        request: peer::ReadIndexRequest,
    ) -> BoxFuture<'static, Result<peer::ReadIndexResponse, TransportError>> {
        self.raft(&to, "read_index", READ_INDEX_TIMEOUT, request, |endpoint, request| async move {
            Ok(endpoint.inbound.read_index(request).await)
        })
    }

    fn propose(&self, to: Arc<Peer>, request: peer::ProposeRequest) -> BoxFuture<'static, Result<peer::ProposeResponse, TransportError>> {
        self.raft(&to, "propose", PROPOSE_TIMEOUT, request, |endpoint, request| async move { endpoint.inbound.propose(request).await })
    }

    fn membership(
        &self,
        to: Arc<Peer>,
        request: peer::MembershipRequest,
    ) -> BoxFuture<'static, Result<peer::MembershipResponse, TransportError>> {
        let patience = if request.change.is_some() { CHANGE_TIMEOUT } else { READ_INDEX_TIMEOUT };
        self.raft(&to, "membership", patience, request, |endpoint, request| async move { endpoint.inbound.membership(request).await })
    }

    fn check(&self, to: Arc<Peer>, request: peer::CheckRequest) -> BoxFuture<'static, Result<peer::CheckResponse, TransportError>> {
        self.raft(&to, "check", CHECK_TIMEOUT, request, |endpoint, request| async move { Ok(endpoint.inbound.check(request).await) })
    }

    fn rejoin(&self, to: Arc<Peer>, request: peer::RejoinRequest) -> BoxFuture<'static, Result<peer::RejoinResponse, TransportError>> {
        self.raft(&to, "rejoin", REJOIN_TIMEOUT, request, |endpoint, request| async move { endpoint.inbound.rejoin(request).await })
    }
}

impl CeremonyPeers for SimPeers {
    fn submit(&self, to: Arc<Peer>, request: peer::SubmitRequest) -> BoxFuture<'static, Result<peer::Progress, PeerCallError>> {
        self.ceremony(&to, "submit", request, |endpoint, request| endpoint.barrier.peer_submit(request))
    }

    fn reset(&self, to: Arc<Peer>, purpose: peer::Purpose) -> BoxFuture<'static, Result<peer::Progress, PeerCallError>> {
        let request = peer::ResetRequest { purpose: Some(purpose) };
        self.ceremony(&to, "reset", request, |endpoint, request| Ok::<_, Infallible>(endpoint.barrier.peer_reset(&request)))
    }

    fn progress(&self, to: Arc<Peer>, purpose: peer::Purpose) -> BoxFuture<'static, Result<peer::Progress, PeerCallError>> {
        let request = peer::ProgressRequest { purpose: Some(purpose) };
        self.ceremony(&to, "progress", request, |endpoint, request| Ok::<_, Infallible>(endpoint.barrier.peer_watch(&request)))
    }

    fn keyring_key(
        &self,
        to: Arc<Peer>,
        request: peer::KeyringKeyRequest,
    ) -> BoxFuture<'static, Result<peer::KeyringKeyResponse, PeerCallError>> {
        let caller = self.from.clone();
        let called = self.call(&to, "keyring_key", CEREMONY_TIMEOUT, request, move |endpoint, request| async move {
            endpoint.barrier.peer_keyring_key(&caller, &request).await
        });
        async move { called.await.map_err(peer_call_error) }.boxed()
    }

    fn hand_over(&self, to: Arc<Peer>, request: peer::HandOverRequest) -> BoxFuture<'static, Result<(), PeerCallError>> {
        let caller = self.from.clone();
        let handed = self.ceremony(&to, "hand_over", request, move |endpoint, request| {
            endpoint.barrier.peer_hand_over(&caller, &request).map(|()| peer::HandOverResponse {})
        });
        async move { handed.await.map(drop) }.boxed()
    }

    fn admit(&self, to: Arc<Peer>, request: peer::AdmitRequest) -> BoxFuture<'static, Result<(), PeerCallError>> {
        let called = self.call(&to, "admit", CEREMONY_TIMEOUT, request, |endpoint, request| async move {
            endpoint.barrier.peer_admit(request).await.map(|()| peer::AdmitResponse {})
        });
        async move { called.await.map(drop).map_err(peer_call_error) }.boxed()
    }

    fn status(&self, to: Arc<Peer>) -> BoxFuture<'static, Result<peer::MemberStatus, PeerCallError>> {
        self.ceremony(&to, "status", peer::MemberStatusRequest {}, |endpoint, _| Ok::<_, Infallible>(endpoint.barrier.peer_status()))
    }
}

//! Openraft's outgoing calls, over a [`Transport`].

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::Either;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use openraft::OptionalSend;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendError, StreamAppendResult, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use proto::peer;
use types::NodeId;

use crate::codec::{self, CodecError};
use crate::config::{Member, TypeConfig, Vote};
use crate::snapshots::Snapshot;
use crate::transport::{Peer, Transport, TransportError};

/// An append stream on which nothing comes back for so long is given up and opened again.
const APPEND_STALL: Duration = Duration::from_secs(5);
/// Bytes of a snapshot in one message.
const SNAPSHOT_CHUNK_BYTES: usize = 256 * 1024;
/// A snapshot that is not acknowledged for so long is given up.
const SNAPSHOT_STALL: Duration = Duration::from_secs(600);

/// Makes the outgoing side of each connection.
pub(crate) struct Network {
    transport: Arc<dyn Transport>,
}

impl Network {
    pub(crate) fn new(transport: Arc<dyn Transport>) -> Network {
        Network { transport }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: NodeId, node: &Member) -> Connection {
        let peer = Arc::new(Peer { id: target, member: node.clone() });
        Connection { peer, transport: Arc::clone(&self.transport) }
    }
}

/// The outgoing side to one peer.
pub(crate) struct Connection {
    peer: Arc<Peer>,
    transport: Arc<dyn Transport>,
}

fn rpc_error(error: TransportError) -> RPCError<TypeConfig> {
    match error {
        TransportError::Unreachable { .. } => RPCError::Unreachable(Unreachable::new(&error)),
        TransportError::Lost { .. } | TransportError::Refused { .. } => RPCError::Network(NetworkError::new(&error)),
    }
}

fn malformed(error: CodecError) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::new(&error))
}

/// The answer to an append request that was sent in `term`.
fn appended(response: peer::AppendResponse, term: u64) -> Result<StreamAppendResult<TypeConfig>, CodecError> {
    let result = codec::appended_from_peer(response)?;
    if let Err(StreamAppendError::HigherVote(vote)) = &result {
        codec::check_leap(vote, term)?;
    }
    Ok(result)
}

impl Connection {
    fn too_late(&self, call: &'static str) -> RPCError<TypeConfig> {
        RPCError::Network(NetworkError::from_string(format!("{}: no answer to {call} in time", self.peer.id)))
    }

    async fn ask_for_vote(
        &self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
        pre_vote: bool,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let term = codec::term_of(&request.vote);
        let request = codec::vote_request_to_peer(&request, pre_vote);
        let call = self.transport.vote(Arc::clone(&self.peer), request);
        let response = tokio::time::timeout(option.soft_ttl(), call).await.map_err(|_| self.too_late("vote"))?.map_err(rpc_error)?;
        let response = codec::vote_response_from_peer(&response).map_err(malformed)?;
        codec::check_leap(&response.vote, term).map_err(malformed)?;
        Ok(response)
    }
}

impl NetBackoff<TypeConfig> for Connection {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl NetStreamAppend<TypeConfig> for Connection {
    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        _option: RPCOption,
    ) -> futures::future::BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>, RPCError<TypeConfig>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let sent_term = Arc::new(AtomicU64::new(0));
        let term = Arc::clone(&sent_term);
        let (transport, to) = (Arc::clone(&self.transport), Arc::clone(&self.peer));
        let peer = self.peer.id.clone();
        async move {
            // Openraft waits between its attempts inside this stream: so a request is taken from it before the peer is called.
            // A call that fails before it looked at the stream would be tried again at once, without end.
            let Some(first) = input.next().await else { return Ok(futures::stream::empty().boxed()) };
            let requests = futures::stream::iter([first]).chain(input).map(move |request| {
                term.store(codec::term_of(&request.vote), Ordering::Relaxed);
                codec::append_to_peer(&request)
            });
            let responses = transport.append(to, requests.boxed()).await.map_err(rpc_error)?;
            let results = futures::stream::unfold(Some(responses), move |state| {
                let (peer, sent_term) = (peer.clone(), Arc::clone(&sent_term));
                async move {
                    let mut responses = state?;
                    match tokio::time::timeout(APPEND_STALL, responses.next()).await {
                        Ok(Some(Ok(response))) => match appended(response, sent_term.load(Ordering::Relaxed)) {
                            Ok(result) => Some((Ok(result), Some(responses))),
                            Err(error) => Some((Err(malformed(error)), None)),
                        },
                        Ok(Some(Err(error))) => Some((Err(rpc_error(error)), None)),
                        Ok(None) => None,
                        Err(_) => {
                            let error = NetworkError::from_string(format!("{peer}: append stalled for {APPEND_STALL:?}"));
                            Some((Err(RPCError::Network(error)), None))
                        }
                    }
                }
            });
            Ok(results.boxed())
        }
        .boxed()
    }
}

impl NetVote<TypeConfig> for Connection {
    async fn vote(&mut self, rpc: VoteRequest<TypeConfig>, option: RPCOption) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(rpc, option, false).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(rpc, option, true).await
    }
}

impl NetSnapshot<TypeConfig> for Connection {
    type SnapshotData = Snapshot;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::type_config::alias::SnapshotOf<TypeConfig, Snapshot>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        use peer::snapshot_chunk::Part;
        let header = peer::SnapshotHeader { vote: Some(codec::vote_to_peer(&vote)), size_bytes: snapshot.snapshot.size_bytes() };
        let file = Arc::new(snapshot.snapshot);
        let data = futures::stream::unfold((file, 0u64), |(file, offset)| async move {
            // A short read ends the stream; the receiver finds the file incomplete and refuses it.
            let bytes = file.read_at(offset, SNAPSHOT_CHUNK_BYTES).ok().filter(|bytes| !bytes.is_empty())?;
            let next = offset + bytes.len() as u64;
            Some((peer::SnapshotChunk { part: Some(Part::Data(bytes)) }, (file, next)))
        });
        let chunks = futures::stream::iter([peer::SnapshotChunk { part: Some(Part::Header(header)) }]).chain(data).boxed();
        let call = tokio::time::timeout(SNAPSHOT_STALL, self.transport.snapshot(Arc::clone(&self.peer), chunks));
        let response = match futures::future::select(call.boxed(), std::pin::pin!(cancel)).await {
            Either::Left((Ok(response), _)) => response.map_err(rpc_error)?,
            Either::Left((Err(_), _)) => return Err(self.too_late("snapshot").into()),
            Either::Right((closed, _)) => return Err(StreamingError::Closed(closed)),
        };
        let sent_term = codec::term_of(&vote);
        let vote = codec::vote_from_peer(response.vote.as_ref()).map_err(malformed)?;
        codec::check_leap(&vote, sent_term).map_err(malformed)?;
        Ok(SnapshotResponse::new(vote))
    }
}

impl NetTransferLeader<TypeConfig> for Connection {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        use peer::transfer_leader_response::Outcome;
        let call = self.transport.transfer_leader(Arc::clone(&self.peer), codec::transfer_to_peer(&req));
        let response =
            tokio::time::timeout(option.soft_ttl(), call).await.map_err(|_| self.too_late("transfer_leader"))?.map_err(rpc_error)?;
        Ok(match response.outcome.ok_or(CodecError::Missing("outcome")).map_err(malformed)? {
            Outcome::Accepted(_) => Ok(()),
            Outcome::VoteChanged(vote) => Err(TransferLeaderError::VoteChanged {
                expected: req.from_leader().clone(),
                actual: codec::vote_from_peer(Some(&vote)).map_err(malformed)?,
            }),
            Outcome::LogBehind(behind) => Err(TransferLeaderError::LogNotFlushed {
                expected: req.last_log_id().cloned(),
                actual: behind.last.as_ref().map(codec::position_from_peer).transpose().map_err(malformed)?,
            }),
        })
    }
}

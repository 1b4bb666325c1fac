//! What peers may ask of this node. The gRPC service and the simulator's network both end here.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::TransferLeaderError;
use proto::peer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::codec::{self, CodecError};
use crate::config::{Answer, TypeConfig};
use crate::handle::Core;
use crate::machine::blocking;
use crate::read_index::ReadConsistency;

/// A snapshot of which nothing arrives for so long is given up.
const SNAPSHOT_CHUNK_STALL: Duration = Duration::from_secs(30);
/// Append requests of one peer that wait for the log, at most.
const APPENDS_PENDING_MAX: usize = 64;

/// Why a peer's call was refused.
#[derive(Debug, thiserror::Error)]
pub enum InboundError {
    /// The message makes no sense.
    #[error("malformed request")]
    Malformed(#[from] CodecError),
    /// This node's Raft has ended; the process is about to.
    #[error("raft has stopped")]
    Stopped,
    /// This node has lost what it had, and knows neither what it has voted nor, yet, what it had acknowledged.
    #[error("this node has lost its folder, and abstains until it has caught up")]
    Abstains,
    /// The snapshot did not arrive whole, or is not what it should be.
    #[error("snapshot refused")]
    Snapshot(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The incoming side: answers peers. Cheap to clone.
#[derive(Clone)]
pub struct Inbound {
    core: Arc<Core>,
}

impl Inbound {
    pub(crate) fn new(core: Arc<Core>) -> Inbound {
        Inbound { core }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Appends what `requests` bring, in order, and answers each once it is durable. Ends at the first refusal or malformed request.
    pub fn append<S, E>(&self, requests: S) -> BoxStream<'static, Result<peer::AppendResponse, InboundError>>
    where
        S: Stream<Item = Result<peer::AppendRequest, E>> + Send + 'static,
        E: std::fmt::Display + Send,
    {
        let (sender, receiver) = mpsc::channel(APPENDS_PENDING_MAX);
        let core = Arc::clone(&self.core);
        let decode = async move {
            let mut requests = std::pin::pin!(requests);
            loop {
                // A peer that is paused keeps its stream open and silent; that must not keep this task.
                let next = tokio::select! {
                    biased;
                    () = core.stop.cancelled() => break,
                    () = sender.closed() => break,
                    next = requests.next() => next,
                };
                let Some(Ok(request)) = next else { break };
                match codec::append_from_peer(request).and_then(|request| core.plausible(&request.vote).map(|()| request)) {
                    // Ends without an answer: the sender tries again.
                    Ok(request) if !core.takes(&request) => break,
                    Ok(request) => {
                        if sender.send(request).await.is_err() {
                            break;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "malformed append request");
                        break;
                    }
                }
            }
        };
        self.core.tasks.spawn(decode);
        self.core
            .raft
            .stream_append(ReceiverStream::new(receiver))
            .map(|result| result.map(|appended| codec::appended_to_peer(&appended)).map_err(|_| InboundError::Stopped))
            .boxed()
    }

    /// Answers a candidate.
    pub async fn vote(&self, request: peer::VoteRequest) -> Result<peer::VoteResponse, InboundError> {
        let vote = codec::vote_request_from_peer(&request)?;
        self.core.plausible(&vote.vote)?;
        if !self.core.votes() {
            return Err(InboundError::Abstains);
        }
        let response = if request.pre_vote { self.core.raft.pre_vote(vote).await } else { self.core.raft.vote(vote).await };
        response.map(|response| codec::vote_response_to_peer(&response)).map_err(|_| InboundError::Stopped)
    }

    /// Receives a snapshot into a temporary file, checks it whole, and only then lets it replace the table.
    pub async fn snapshot<S, E>(&self, chunks: S) -> Result<peer::SnapshotResponse, InboundError>
    where
        S: Stream<Item = Result<peer::SnapshotChunk, E>> + Send + 'static,
        E: std::fmt::Display + Send,
    {
        use peer::snapshot_chunk::Part;
        let mut chunks = std::pin::pin!(chunks);
        let Some(Ok(peer::SnapshotChunk { part: Some(Part::Header(header)) })) = chunks.next().await else {
            return Err(CodecError::Missing("snapshot header").into());
        };
        let vote = codec::vote_from_peer(header.vote.as_ref())?;
        self.core.plausible(&vote)?;
        if !self.core.admits(codec::term_of(&vote)) {
            return Err(InboundError::Abstains);
        }
        let refuse = |error: std::io::Error| InboundError::Snapshot(Box::new(error));
        // One at a time: a newer one is of a newer leader, or of the same leader's next attempt.
        let superseded = self.core.supersede_snapshot();
        let mut incoming = self.core.snapshots.receive(header.size_bytes).map_err(refuse)?;
        loop {
            let next = tokio::select! {
                biased;
                () = superseded.cancelled() => return Err(InboundError::Snapshot("another one is being received".into())),
                next = tokio::time::timeout(SNAPSHOT_CHUNK_STALL, chunks.next()) => next,
            };
            match next {
                Ok(None) => break,
                Ok(Some(Ok(peer::SnapshotChunk { part: Some(Part::Data(bytes)) }))) => incoming.write(&bytes).map_err(refuse)?,
                Ok(Some(Ok(_))) => return Err(CodecError::Missing("snapshot data").into()),
                Ok(Some(Err(error))) => return Err(InboundError::Snapshot(error.to_string().into())),
                Err(_) => return Err(InboundError::Snapshot("it stopped arriving".into())),
            }
        }
        // The whole file is synced and read: not on a thread that answers heartbeats.
        let snapshot = blocking(move || incoming.finish()).await.map_err(refuse)?;
        self.core.check_snapshot(&vote, &snapshot.meta)?;
        let response = self.core.raft.install_full_snapshot(vote, snapshot).await.map_err(|_| InboundError::Stopped)?;
        Ok(peer::SnapshotResponse { vote: Some(codec::vote_to_peer(&response.vote)) })
    }

    /// Takes notice that leadership is to change.
    pub async fn transfer_leader(&self, request: peer::TransferLeaderRequest) -> Result<peer::TransferLeaderResponse, InboundError> {
        use peer::transfer_leader_response::Outcome;
        let request = codec::transfer_from_peer(&request)?;
        self.core.plausible(request.from_leader())?;
        if !self.core.votes() {
            return Err(InboundError::Abstains);
        }
        let response = self.core.raft.handle_transfer_leader(request).await.map_err(|_| InboundError::Stopped)?;
        let outcome = match response {
            Ok(()) => Outcome::Accepted(peer::Accepted {}),
            Err(TransferLeaderError::VoteChanged { actual, .. }) => Outcome::VoteChanged(codec::vote_to_peer(&actual)),
            Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
                Outcome::LogBehind(peer::LogBehind { last: actual.as_ref().map(codec::position_to_peer) })
            }
        };
        Ok(peer::TransferLeaderResponse { outcome: Some(outcome) })
    }

    /// What this node's table holds at a check.
    pub async fn check(&self, request: peer::CheckRequest) -> peer::CheckResponse {
        self.core.answer_check(&request).await
    }

    /// Tells a member that has lost its folder what this node remembers; the leader feeds it from the beginning.
    pub async fn rejoin(&self, request: peer::RejoinRequest) -> Result<peer::RejoinResponse, InboundError> {
        self.core.answer_rejoin(&request).await
    }

    /// How far a linearizable read must have applied, if this node leads.
    pub async fn read_index(&self, request: peer::ReadIndexRequest) -> peer::ReadIndexResponse {
        use peer::read_index_response::Outcome;
        let consistency = if request.quorum { ReadConsistency::Quorum } else { ReadConsistency::Lease };
        let outcome = match self.core.read_index_here(consistency).await {
            Ok(position) => Outcome::ReadIndex(peer::ReadIndex { position: Some(codec::position_to_peer(&position)) }),
            Err(leader) => Outcome::Leader(leader.map(|id| id.to_string()).unwrap_or_default()),
        };
        peer::ReadIndexResponse { outcome: Some(outcome) }
    }

    /// Proposes a follower's batches; each succeeds, conflicts or fails by itself.
    pub async fn propose(&self, request: peer::ProposeRequest) -> Result<peer::ProposeResponse, InboundError> {
        if self.core.is_disk_full() && !request.from_reserve {
            let full = || peer::ProposeOutcome { outcome: Some(peer::propose_outcome::Outcome::DiskFull(peer::DiskFull {})) };
            return Ok(peer::ProposeResponse { outcomes: request.batches.iter().map(|_| full()).collect() });
        }
        for batch in &request.batches {
            storage::Change::decode(batch).map_err(|error| CodecError::Invalid { field: "batches", problem: error.to_string() })?;
        }
        let proposals = request.batches.into_iter().map(|batch| self.core.stamp(batch));
        let mut results = self.core.raft.client_write_many(proposals).await.map_err(|_| InboundError::Stopped)?;
        let mut outcomes = Vec::new();
        while let Some(result) = results.next().await {
            let outcome = match result {
                Ok(Ok(response)) => outcome_to_peer(response.log_id.index(), response.response),
                Ok(Err(error)) => refusal_to_peer(error),
                Err(_) => peer::propose_outcome::Outcome::Unknown("raft has stopped".into()),
            };
            outcomes.push(peer::ProposeOutcome { outcome: Some(outcome) });
        }
        Ok(peer::ProposeResponse { outcomes })
    }
}

fn outcome_to_peer(index: u64, answer: Answer) -> peer::propose_outcome::Outcome {
    use peer::propose_outcome::Outcome;
    match answer {
        Answer::Nothing | Answer::Applied => Outcome::Applied(index),
        Answer::Conflict { expectation, found } => {
            Outcome::Conflict(peer::Conflict { expectation: u32::try_from(expectation).unwrap_or(u32::MAX), found: found.0, index })
        }
    }
}

fn refusal_to_peer(error: ClientWriteError<TypeConfig>) -> peer::propose_outcome::Outcome {
    use peer::propose_outcome::Outcome;
    match error {
        ClientWriteError::ForwardToLeader(forward) => Outcome::Leader(forward.leader_id.map(|id| id.to_string()).unwrap_or_default()),
        ClientWriteError::LogEntryDiscarded(_) => Outcome::Unknown("the leader lost its office before the entry was committed".into()),
        ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_) => {
            Outcome::Unknown("the leader refused the entry".into())
        }
    }
}

/// Keeps the error types of openraft in one place.
pub(crate) fn api_error<E: std::error::Error>(error: RaftError<TypeConfig, E>) -> Option<E> {
    match error {
        RaftError::APIError(error) => Some(error),
        RaftError::Fatal(_) => None,
    }
}

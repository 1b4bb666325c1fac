//! How nodes reach each other: [`Transport`], a seam that gRPC fills in real life and the simulator in tests.
//!
//! It carries the messages of `/proto/conclave/peer/v1`; it does not know what they mean.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use proto::peer;
use types::NodeId;

use crate::config::Member;

/// Whom to call: a node, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The node that must answer; a transport refuses anyone else at that address.
    pub id: NodeId,
    /// Where it listens.
    pub member: Member,
}

/// Why a call to a peer brought no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// The call certainly did not reach the peer.
    #[error("{peer} cannot be reached: {reason}")]
    Unreachable {
        /// Who was called.
        peer: NodeId,
        /// What the network said.
        reason: String,
    },
    /// The call may have reached the peer.
    #[error("no answer from {peer}: {reason}")]
    Lost {
        /// Who was called.
        peer: NodeId,
        /// What the network said.
        reason: String,
    },
    /// The peer answered with a refusal.
    #[error("{peer} refused: {reason}")]
    Refused {
        /// Who was called.
        peer: NodeId,
        /// What it said.
        reason: String,
    },
}

/// A stream of answers to a stream of append requests, in the same order.
pub type AppendStream = BoxStream<'static, Result<peer::AppendResponse, TransportError>>;

/// Carries Raft's messages to a peer. A dropped call may or may not have reached it.
pub trait Transport: Send + Sync + 'static {
    /// Sends append requests in order, over one connection; answers come in the same order. Ends at the first error.
    fn append(
        &self,
        to: Arc<Peer>,
        requests: BoxStream<'static, peer::AppendRequest>,
    ) -> BoxFuture<'static, Result<AppendStream, TransportError>>;
    /// Asks for a vote, or whether one would be granted.
    fn vote(&self, to: Arc<Peer>, request: peer::VoteRequest) -> BoxFuture<'static, Result<peer::VoteResponse, TransportError>>;
    /// Sends a whole snapshot: its header first.
    fn snapshot(
        &self,
        to: Arc<Peer>,
        chunks: BoxStream<'static, peer::SnapshotChunk>,
    ) -> BoxFuture<'static, Result<peer::SnapshotResponse, TransportError>>;
    /// Tells a peer that leadership is to change.
    fn transfer_leader(
        &self,
        to: Arc<Peer>,
        request: peer::TransferLeaderRequest,
    ) -> BoxFuture<'static, Result<peer::TransferLeaderResponse, TransportError>>;
    /// Asks the leader how far a read must have applied.
    fn read_index(
        &self,
        to: Arc<Peer>,
        request: peer::ReadIndexRequest,
    ) -> BoxFuture<'static, Result<peer::ReadIndexResponse, TransportError>>;
    /// Hands batches to the leader.
    fn propose(&self, to: Arc<Peer>, request: peer::ProposeRequest) -> BoxFuture<'static, Result<peer::ProposeResponse, TransportError>>;
    /// Asks the leader for a change of the members, and for what it knows of them.
    fn membership(
        &self,
        to: Arc<Peer>,
        request: peer::MembershipRequest,
    ) -> BoxFuture<'static, Result<peer::MembershipResponse, TransportError>>;
    /// Asks what a peer remembers, on behalf of a node that has lost what it had.
    fn rejoin(&self, to: Arc<Peer>, request: peer::RejoinRequest) -> BoxFuture<'static, Result<peer::RejoinResponse, TransportError>>;
    /// Asks what a peer's table holds at a check.
    fn check(&self, to: Arc<Peer>, request: peer::CheckRequest) -> BoxFuture<'static, Result<peer::CheckResponse, TransportError>>;
}

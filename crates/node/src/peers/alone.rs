//! A node without peers: the transport of a cluster of one.

use std::sync::Arc;

use barrier::{CeremonyPeers, PeerCallError};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use proto::peer;
use raft::{AppendStream, Peer, Transport, TransportError};

/// Reaches nobody: there is nobody.
pub(super) struct Alone;

fn nobody<T: Send + 'static>(to: &Peer) -> BoxFuture<'static, Result<T, TransportError>> {
    let error = TransportError::Unreachable { peer: to.id.clone(), reason: "this node is configured without peers".into() };
    futures::future::ready(Err(error)).boxed()
}

fn nobody_for_ceremony<T: Send + 'static>() -> BoxFuture<'static, Result<T, PeerCallError>> {
    futures::future::ready(Err(PeerCallError::Lost("this node is configured without peers".into()))).boxed()
}

impl Transport for Alone {
    fn append(
        &self,
        to: Arc<Peer>,
        _requests: BoxStream<'static, peer::AppendRequest>,
    ) -> BoxFuture<'static, Result<AppendStream, TransportError>> {
        nobody(&to)
    }

    fn vote(&self, to: Arc<Peer>, _request: peer::VoteRequest) -> BoxFuture<'static, Result<peer::VoteResponse, TransportError>> {
        nobody(&to)
    }

    fn snapshot(
        &self,
        to: Arc<Peer>,
        _chunks: BoxStream<'static, peer::SnapshotChunk>,
    ) -> BoxFuture<'static, Result<peer::SnapshotResponse, TransportError>> {
        nobody(&to)
    }

    fn transfer_leader(
        &self,
        to: Arc<Peer>,
        _request: peer::TransferLeaderRequest,
    ) -> BoxFuture<'static, Result<peer::TransferLeaderResponse, TransportError>> {
        nobody(&to)
    }

    fn read_index(
        &self,
        to: Arc<Peer>,
        _request: peer::ReadIndexRequest,
    ) -> BoxFuture<'static, Result<peer::ReadIndexResponse, TransportError>> {
        nobody(&to)
    }

    fn propose(&self, to: Arc<Peer>, _request: peer::ProposeRequest) -> BoxFuture<'static, Result<peer::ProposeResponse, TransportError>> {
        nobody(&to)
    }

    fn membership(
        &self,
        to: Arc<Peer>,
        _request: peer::MembershipRequest,
    ) -> BoxFuture<'static, Result<peer::MembershipResponse, TransportError>> {
        nobody(&to)
    }

    fn check(&self, to: Arc<Peer>, _request: peer::CheckRequest) -> BoxFuture<'static, Result<peer::CheckResponse, TransportError>> {
        nobody(&to)
    }

    fn rejoin(&self, to: Arc<Peer>, _request: peer::RejoinRequest) -> BoxFuture<'static, Result<peer::RejoinResponse, TransportError>> {
        nobody(&to)
    }
}

impl CeremonyPeers for Alone {
    fn submit(&self, _to: Arc<Peer>, _request: peer::SubmitRequest) -> BoxFuture<'static, Result<peer::Progress, PeerCallError>> {
        nobody_for_ceremony()
    }

    fn reset(&self, _to: Arc<Peer>, _purpose: peer::Purpose) -> BoxFuture<'static, Result<peer::Progress, PeerCallError>> {
        nobody_for_ceremony()
    }

    fn progress(&self, _to: Arc<Peer>, _purpose: peer::Purpose) -> BoxFuture<'static, Result<peer::Progress, PeerCallError>> {
        nobody_for_ceremony()
    }

    fn keyring_key(
        &self,
        _to: Arc<Peer>,
        _request: peer::KeyringKeyRequest,
    ) -> BoxFuture<'static, Result<peer::KeyringKeyResponse, PeerCallError>> {
        nobody_for_ceremony()
    }

    fn hand_over(&self, _to: Arc<Peer>, _request: peer::HandOverRequest) -> BoxFuture<'static, Result<(), PeerCallError>> {
        nobody_for_ceremony()
    }

    fn admit(&self, _to: Arc<Peer>, _request: peer::AdmitRequest) -> BoxFuture<'static, Result<(), PeerCallError>> {
        nobody_for_ceremony()
    }

    fn status(&self, _to: Arc<Peer>) -> BoxFuture<'static, Result<peer::MemberStatus, PeerCallError>> {
        nobody_for_ceremony()
    }
}

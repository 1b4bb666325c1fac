//! The server side: admits a caller, then passes its call to [`Inbound`].

use futures::StreamExt;
use futures::stream::BoxStream;
use proto::peer;
use proto::peer::raft_server::{Raft, RaftServer};
use tonic::{Request, Response, Status, Streaming};
use types::NodeId;

use super::{Admission, MESSAGE_BYTES_MAX};
use crate::inbound::{Inbound, InboundError};

/// The gRPC service that peers call.
pub struct RaftService {
    inbound: Inbound,
    admission: Admission,
}

impl RaftService {
    /// Ready to be added to the peers' listener.
    pub fn server(inbound: Inbound, admission: Admission) -> RaftServer<RaftService> {
        RaftServer::new(RaftService { inbound, admission })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

fn status(error: InboundError) -> Status {
    match error {
        InboundError::Malformed(source) => Status::invalid_argument(source.to_string()),
        InboundError::Snapshot(source) => Status::failed_precondition(source.to_string()),
        InboundError::Abstains => Status::unavailable(error.to_string()),
        InboundError::Stopped => Status::unavailable("raft has stopped"),
    }
}

/// Refuses a message in another node's name: a vote is only ever sent by the node that it is for.
fn speaks_for_itself(caller: &NodeId, vote: Option<&peer::Vote>) -> Result<(), Status> {
    match vote {
        Some(vote) if vote.node_id != caller.as_str() => {
            tracing::warn!(%caller, "a peer speaks in another's name");
            Err(Status::permission_denied("the vote is not the caller's"))
        }
        // One that is missing is refused as malformed.
        _ => Ok(()),
    }
}

#[tonic::async_trait]
impl Raft for RaftService {
    type AppendStream = BoxStream<'static, Result<peer::AppendResponse, Status>>;

    async fn append(&self, request: Request<Streaming<peer::AppendRequest>>) -> Result<Response<Self::AppendStream>, Status> {
        let caller = self.admission.admit(&request)?;
        let requests = request.into_inner().map(move |request| {
            let request = request?;
            speaks_for_itself(&caller, request.vote.as_ref()).map(|()| request)
        });
        let responses = self.inbound.append(requests);
        Ok(Response::new(responses.map(|response| response.map_err(status)).boxed()))
    }

    async fn vote(&self, request: Request<peer::VoteRequest>) -> Result<Response<peer::VoteResponse>, Status> {
        let caller = self.admission.admit(&request)?;
        speaks_for_itself(&caller, request.get_ref().vote.as_ref())?;
        self.inbound.vote(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn snapshot(&self, request: Request<Streaming<peer::SnapshotChunk>>) -> Result<Response<peer::SnapshotResponse>, Status> {
        let caller = self.admission.admit(&request)?;
        let chunks = request.into_inner().map(move |chunk| {
            let chunk = chunk?;
            match &chunk.part {
                Some(peer::snapshot_chunk::Part::Header(header)) => speaks_for_itself(&caller, header.vote.as_ref())?,
                Some(peer::snapshot_chunk::Part::Data(_)) | None => {}
            }
            Ok::<_, Status>(chunk)
        });
        self.inbound.snapshot(chunks).await.map(Response::new).map_err(status)
    }

    async fn transfer_leader(
        &self,
        request: Request<peer::TransferLeaderRequest>,
    ) -> Result<Response<peer::TransferLeaderResponse>, Status> {
        let caller = self.admission.admit(&request)?;
        speaks_for_itself(&caller, request.get_ref().from.as_ref())?;
        self.inbound.transfer_leader(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn read_index(&self, request: Request<peer::ReadIndexRequest>) -> Result<Response<peer::ReadIndexResponse>, Status> {
        self.admission.admit(&request)?;
        Ok(Response::new(self.inbound.read_index(request.into_inner()).await))
    }

    async fn propose(&self, request: Request<peer::ProposeRequest>) -> Result<Response<peer::ProposeResponse>, Status> {
        self.admission.admit(&request)?;
        self.inbound.propose(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn membership(&self, request: Request<peer::MembershipRequest>) -> Result<Response<peer::MembershipResponse>, Status> {
        let caller = self.admission.admit(&request)?;
        if request.get_ref().change.is_some() {
            tracing::info!(%caller, "asked for a change of the members");
        }
        self.inbound.membership(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn check(&self, request: Request<peer::CheckRequest>) -> Result<Response<peer::CheckResponse>, Status> {
        self.admission.admit(&request)?;
        Ok(Response::new(self.inbound.check(request.into_inner()).await))
    }

    async fn rejoin(&self, request: Request<peer::RejoinRequest>) -> Result<Response<peer::RejoinResponse>, Status> {
        let caller = self.admission.admit(&request)?;
        if request.get_ref().node_id != caller.as_str() {
            tracing::warn!(%caller, "a peer speaks in another's name");
            return Err(Status::permission_denied("a node rejoins for itself only"));
        }
        self.inbound.rejoin(request.into_inner()).await.map(Response::new).map_err(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_speaks_for_itself_only() {
        let caller = NodeId::parse("n2").unwrap();
        let vote = |node_id: &str| peer::Vote { term: 7, node_id: node_id.into(), committed: true };
        assert!(speaks_for_itself(&caller, Some(&vote("n2"))).is_ok());
        assert!(speaks_for_itself(&caller, Some(&vote("n3"))).is_err());
        assert!(speaks_for_itself(&caller, Some(&vote(""))).is_err());
    }
}

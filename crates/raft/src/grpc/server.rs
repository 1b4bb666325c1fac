//! The server side: admits a caller, then passes its call to [`Inbound`].

use futures::StreamExt;
use futures::stream::BoxStream;
use proto::peer;
use proto::peer::raft_server::{Raft, RaftServer};
use tonic::{Request, Response, Status, Streaming};

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
        InboundError::Stopped => Status::unavailable("raft has stopped"),
    }
}

#[tonic::async_trait]
impl Raft for RaftService {
    type AppendStream = BoxStream<'static, Result<peer::AppendResponse, Status>>;

    async fn append(&self, request: Request<Streaming<peer::AppendRequest>>) -> Result<Response<Self::AppendStream>, Status> {
        self.admission.admit(&request)?;
        let responses = self.inbound.append(request.into_inner());
        Ok(Response::new(responses.map(|response| response.map_err(status)).boxed()))
    }

    async fn vote(&self, request: Request<peer::VoteRequest>) -> Result<Response<peer::VoteResponse>, Status> {
        self.admission.admit(&request)?;
        self.inbound.vote(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn snapshot(&self, request: Request<Streaming<peer::SnapshotChunk>>) -> Result<Response<peer::SnapshotResponse>, Status> {
        self.admission.admit(&request)?;
        self.inbound.snapshot(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn transfer_leader(
        &self,
        request: Request<peer::TransferLeaderRequest>,
    ) -> Result<Response<peer::TransferLeaderResponse>, Status> {
        self.admission.admit(&request)?;
        self.inbound.transfer_leader(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn read_index(&self, request: Request<peer::ReadIndexRequest>) -> Result<Response<peer::ReadIndexResponse>, Status> {
        self.admission.admit(&request)?;
        Ok(Response::new(self.inbound.read_index().await))
    }

    async fn propose(&self, request: Request<peer::ProposeRequest>) -> Result<Response<peer::ProposeResponse>, Status> {
        self.admission.admit(&request)?;
        self.inbound.propose(request.into_inner()).await.map(Response::new).map_err(status)
    }
}

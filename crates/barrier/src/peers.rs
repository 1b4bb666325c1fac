//! What the ceremony asks of other nodes: [`CeremonyPeers`], over gRPC in real life, in memory in simulations.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use proto::peer;
use proto::peer::ceremony_client::CeremonyClient;
use proto::peer::ceremony_server::{Ceremony, CeremonyServer};
use proto::peer::identity_client::IdentityClient;
use raft::Peer;
use raft::grpc::{Admission, Channels};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::barrier::Barrier;

/// A ceremony call is answered from memory; a peer that needs longer counts as unreachable.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// The keys are given only once that is recorded.
const KEYS_TIMEOUT: Duration = Duration::from_secs(10);
/// A change of the membership waits for another one.
const ADMIT_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a ceremony call brought no answer. Holds nothing of what was sent.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerCallError {
    /// No answer; it may have arrived all the same.
    #[error("no answer: {0}")]
    Lost(String),
    /// The peer said no.
    #[error("refused: {0}")]
    Refused(String),
}

/// Carries the ceremony's messages.
pub trait CeremonyPeers: Send + Sync + 'static {
    /// Hands shares to the coordinator.
    fn submit(&self, to: Arc<Peer>, request: peer::SubmitRequest) -> BoxFuture<'static, Result<peer::Progress, PeerCallError>>;
    /// Throws a node's shares for one purpose away.
    fn reset(&self, to: Arc<Peer>, purpose: peer::Purpose) -> BoxFuture<'static, Result<peer::Progress, PeerCallError>>;
    /// How far a ceremony has come.
    fn progress(&self, to: Arc<Peer>, purpose: peer::Purpose) -> BoxFuture<'static, Result<peer::Progress, PeerCallError>>;
    /// Asks an open member for the key of the keyring.
    fn keyring_key(
        &self,
        to: Arc<Peer>,
        request: peer::KeyringKeyRequest,
    ) -> BoxFuture<'static, Result<peer::KeyringKeyResponse, PeerCallError>>;
    /// Hands the keys to a sealed member.
    fn hand_over(&self, to: Arc<Peer>, request: peer::HandOverRequest) -> BoxFuture<'static, Result<(), PeerCallError>>;
    /// Asks the leader to take in a node that may join.
    fn admit(&self, to: Arc<Peer>, request: peer::AdmitRequest) -> BoxFuture<'static, Result<(), PeerCallError>>;
    /// What a node tells of itself.
    fn status(&self, to: Arc<Peer>) -> BoxFuture<'static, Result<peer::MemberStatus, PeerCallError>>;
}

/// The ceremony over gRPC: on the same connections as Raft, but for calls that carry shares or keys.
pub struct GrpcCeremonyPeers {
    channels: Channels,
}

impl GrpcCeremonyPeers {
    /// Calls go over `channels`.
    pub fn new(channels: Channels) -> GrpcCeremonyPeers {
        GrpcCeremonyPeers { channels }
    }

    fn call<R, F>(
        &self,
        to: &Peer,
        timeout: Duration,
        holds_secrets: bool,
        call: impl FnOnce(CeremonyClient<Channel>) -> F + Send + 'static,
    ) -> BoxFuture<'static, Result<R, PeerCallError>>
    where
        R: Send + 'static,
        F: Future<Output = Result<Response<R>, Status>> + Send + 'static,
    {
        // Shares and keys must not stay in the buffers of a connection that goes on.
        let channel = if holds_secrets { self.channels.fresh(to) } else { self.channels.to(to) };
        async move {
            let client = CeremonyClient::new(channel.map_err(|error| PeerCallError::Lost(error.to_string()))?);
            match tokio::time::timeout(timeout, call(client)).await {
                Ok(Ok(response)) => Ok(response.into_inner()),
                Ok(Err(status)) if status.code() == tonic::Code::FailedPrecondition => {
                    Err(PeerCallError::Refused(status.message().to_owned()))
                }
                Ok(Err(status)) => Err(PeerCallError::Lost(status.message().to_owned())),
                Err(_) => Err(PeerCallError::Lost(format!("nothing in {timeout:?}"))),
            }
        }
        .boxed()
    }
}

impl CeremonyPeers for GrpcCeremonyPeers {
    fn submit(&self, to: Arc<Peer>, request: peer::SubmitRequest) -> BoxFuture<'static, Result<peer::Progress, PeerCallError>> {
        self.call(&to, CALL_TIMEOUT, true, |mut client| async move { client.submit(request).await })
    }

    fn reset(&self, to: Arc<Peer>, purpose: peer::Purpose) -> BoxFuture<'static, Result<peer::Progress, PeerCallError>> {
        self.call(&to, CALL_TIMEOUT, false, |mut client| async move { client.reset(peer::ResetRequest { purpose: Some(purpose) }).await })
    }

    fn progress(&self, to: Arc<Peer>, purpose: peer::Purpose) -> BoxFuture<'static, Result<peer::Progress, PeerCallError>> {
        self.call(
            &to,
            CALL_TIMEOUT,
            false,
            |mut client| async move { client.watch(peer::ProgressRequest { purpose: Some(purpose) }).await },
        )
    }

    fn keyring_key(
        &self,
        to: Arc<Peer>,
        request: peer::KeyringKeyRequest,
    ) -> BoxFuture<'static, Result<peer::KeyringKeyResponse, PeerCallError>> {
        self.call(&to, KEYS_TIMEOUT, true, |mut client| async move { client.keyring_key(request).await })
    }

    fn hand_over(&self, to: Arc<Peer>, request: peer::HandOverRequest) -> BoxFuture<'static, Result<(), PeerCallError>> {
        let call = self.call(&to, CALL_TIMEOUT, true, |mut client| async move { client.hand_over(request).await });
        async move { call.await.map(drop) }.boxed()
    }

    fn admit(&self, to: Arc<Peer>, request: peer::AdmitRequest) -> BoxFuture<'static, Result<(), PeerCallError>> {
        let channel = self.channels.to(&to);
        let call = async move {
            let mut client = IdentityClient::new(channel.map_err(|error| Status::unavailable(error.to_string()))?);
            client.admit(request).await.map(drop)
        };
        async move {
            match tokio::time::timeout(ADMIT_TIMEOUT, call).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(status)) if status.code() == tonic::Code::FailedPrecondition => {
                    Err(PeerCallError::Refused(status.message().to_owned()))
                }
                Ok(Err(status)) => Err(PeerCallError::Lost(status.message().to_owned())),
                Err(_) => Err(PeerCallError::Lost(format!("nothing in {ADMIT_TIMEOUT:?}"))),
            }
        }
        .boxed()
    }

    fn status(&self, to: Arc<Peer>) -> BoxFuture<'static, Result<peer::MemberStatus, PeerCallError>> {
        self.call(&to, CALL_TIMEOUT, false, |mut client| async move { client.status(peer::MemberStatusRequest {}).await })
    }
}

/// The server side: admits a caller, then passes its call to the barrier.
pub struct CeremonyService {
    barrier: Barrier,
    admission: Admission,
}

impl CeremonyService {
    /// Ready to be added to the peers' listener.
    pub fn server(barrier: Barrier, admission: Admission) -> CeremonyServer<CeremonyService> {
        CeremonyServer::new(CeremonyService { barrier, admission })
    }
}

#[tonic::async_trait]
impl Ceremony for CeremonyService {
    async fn submit(&self, request: Request<peer::SubmitRequest>) -> Result<Response<peer::Progress>, Status> {
        self.admission.admit(&request)?;
        let submitted = self.barrier.peer_submit(request.into_inner());
        submitted.map(Response::new).map_err(|error| Status::failed_precondition(error.to_string()))
    }

    async fn reset(&self, request: Request<peer::ResetRequest>) -> Result<Response<peer::Progress>, Status> {
        self.admission.admit(&request)?;
        Ok(Response::new(self.barrier.peer_reset(request.get_ref())))
    }

    async fn watch(&self, request: Request<peer::ProgressRequest>) -> Result<Response<peer::Progress>, Status> {
        self.admission.admit(&request)?;
        Ok(Response::new(self.barrier.peer_watch(request.get_ref())))
    }

    async fn hand_over(&self, request: Request<peer::HandOverRequest>) -> Result<Response<peer::HandOverResponse>, Status> {
        let caller = self.admission.admit(&request)?;
        let accepted = self.barrier.peer_hand_over(&caller, request.get_ref());
        accepted.map(|()| Response::new(peer::HandOverResponse {})).map_err(|error| Status::failed_precondition(error.to_string()))
    }

    async fn keyring_key(&self, request: Request<peer::KeyringKeyRequest>) -> Result<Response<peer::KeyringKeyResponse>, Status> {
        let caller = self.admission.admit(&request)?;
        let given = self.barrier.peer_keyring_key(&caller, request.get_ref()).await;
        given.map(Response::new).map_err(|error| match error.is_passing() {
            true => Status::unavailable(error.to_string()),
            false => Status::failed_precondition(error.to_string()),
        })
    }

    async fn status(&self, request: Request<peer::MemberStatusRequest>) -> Result<Response<peer::MemberStatus>, Status> {
        self.admission.admit(&request)?;
        Ok(Response::new(self.barrier.peer_status()))
    }
}

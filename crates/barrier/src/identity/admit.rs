//! The cluster's side of a join and of a renewal, on an open node: whom it takes in, and for whom it signs.
//!
//! Always: a node becomes a member only after the use of its token was recorded; a node id that is a member's is refused to every other key;
//! a certificate is signed for a member on its pinned key only. Nothing is kept for an attempt that is refused.

use std::time::Duration;

use crypto::constant_time_eq;
use proto::peer;
use proto::peer::identity_server::{Identity, IdentityServer};
use proto::stored;
use raft::grpc::Admission;
use raft::{ChangeError, ChangeOptions, KeyPin, Member, MemberChange, Refusal, RefusalKind};
use tonic::{Request, Response, Status};
use types::{NodeId, Revision, Timestamp};

use super::authority::{Authority, AuthorityError, NodeKey};
use super::token::Record;
use super::wire::{self, Joined, Received, SealedRequest};
use super::{JoinSecret, wire::member_to_peer};
use crate::barrier::{AccessError, Barrier, CommitError};
use crate::name::Name;
use crate::peers::PeerCallError;
use crate::plan::Plan;
use crate::records::RecordError;
use crate::view::ViewError;

/// Members that a cluster may have.
const MEMBERS_MAX: usize = 31;
/// How often a record is written anew because it was changed meanwhile.
const COMMIT_TRIES_MAX: usize = 8;

/// Why a node did not join. What is told before the sender has shown that it knows a secret says nothing of the cluster.
#[derive(Debug, thiserror::Error)]
pub enum JoinRefusal {
    /// This node cannot tell.
    #[error("this node is sealed: ask an open one")]
    Sealed,
    /// It is no request.
    #[error("malformed join request")]
    Malformed,
    /// The challenge is too old, or another cluster's.
    #[error("the challenge is not one that this cluster gave lately: ask for one again, and see that the nodes' clocks agree")]
    Challenge,
    /// No such token, or its secret is another; or shares of another cluster.
    #[error("there is no such join token, or its secret is another (`conclave operator join-token` makes one)")]
    Unknown,
    /// The token is over.
    #[error("the join token has expired (`conclave operator join-token` makes another)")]
    Expired,
    /// The token has brought in another node, or one that was removed since.
    #[error("the join token has been used by node {0} (`conclave operator join-token` makes another)")]
    Used(String),
    /// The token is for another node.
    #[error("the join token is for node {0}")]
    OtherNode(String),
    /// The node would join a cluster of another name.
    #[error("this is cluster {found:?}, not {wanted:?} (set cluster_name to {found:?})")]
    OtherCluster {
        /// This one.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// One of the node's facts cannot be.
    #[error("{0}")]
    Facts(String),
    /// There is a member of this id.
    #[error(
        "node {0} is a member of this cluster already, with another key: a node id is for life (remove it first: `conclave operator members remove {0}`; or choose another)"
    )]
    IsMember(NodeId),
    /// A member has this address.
    #[error("{address} is the cluster_addr of member {member} (each node has its own)")]
    AddressTaken {
        /// Which.
        address: String,
        /// Whose.
        member: NodeId,
    },
    /// The nodes of this cluster get their certificates from operators.
    #[error("the certificates of this cluster's nodes are brought by its operators, so nobody joins by a token (see docs/operate/join.md)")]
    NotManaged,
    /// There are enough.
    #[error("the cluster has {MEMBERS_MAX} members, and takes no more")]
    Full,
    /// It may work later, or at another node.
    #[error("the node cannot be taken in now: {0}")]
    NotNow(String),
    /// Something here is broken.
    #[error("the node cannot be taken in: {0}")]
    Failed(String),
}

/// Why a node's certificate was not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewRefusal {
    /// This node cannot tell.
    #[error("this node is sealed: ask an open one")]
    Sealed,
    /// Not a certificate request.
    #[error("malformed certificate request")]
    Malformed,
    /// Not one of a member that has joined by itself.
    #[error("no member of this id has this key")]
    NotAMember,
    /// Something here is broken, or there is no quorum.
    #[error("no certificate now: {0}")]
    Failed(String),
}

impl From<AccessError> for JoinRefusal {
    fn from(error: AccessError) -> JoinRefusal {
        match error {
            AccessError::Sealed => JoinRefusal::Sealed,
            AccessError::Read(error) => JoinRefusal::NotNow(error.to_string()),
        }
    }
}

impl From<ViewError> for JoinRefusal {
    fn from(error: ViewError) -> JoinRefusal {
        match error {
            ViewError::Sealed => JoinRefusal::Sealed,
            error => JoinRefusal::Failed(error.to_string()),
        }
    }
}

impl From<CommitError> for JoinRefusal {
    fn from(error: CommitError) -> JoinRefusal {
        match error {
            CommitError::Sealed => JoinRefusal::Sealed,
            error => JoinRefusal::NotNow(error.to_string()),
        }
    }
}

impl From<RecordError> for JoinRefusal {
    fn from(error: RecordError) -> JoinRefusal {
        JoinRefusal::Failed(error.to_string())
    }
}

impl From<AuthorityError> for JoinRefusal {
    fn from(error: AuthorityError) -> JoinRefusal {
        JoinRefusal::Failed(error.to_string())
    }
}

impl From<JoinRefusal> for RenewRefusal {
    fn from(error: JoinRefusal) -> RenewRefusal {
        match error {
            JoinRefusal::Sealed => RenewRefusal::Sealed,
            error => RenewRefusal::Failed(error.to_string()),
        }
    }
}

/// A node that asked rightly, as it would be a member.
struct Candidate {
    id: NodeId,
    member: Member,
    key: NodeKey,
    non_voter: bool,
}

impl Barrier {
    /// What a node that would join sends back with its request; and the seals, which say how shares open the cluster. `None`: sealed.
    ///
    /// Nothing is kept of it.
    pub fn join_challenge(&self) -> Result<Option<(bytes::Bytes, bytes::Bytes)>, RecordError> {
        let Some(records) = self.records_here()? else { return Ok(None) };
        let now = self.inner.clock.now();
        let challenge = self.keys().with_all(|held| wire::challenge(held.keyring_key, now, &*self.inner.rng));
        Ok(challenge.map(|challenge| (challenge, records.seals.encode())))
    }

    /// Takes a node in that knows the secret of a join token, or the cluster's shares: makes it a member, and signs its certificate,
    /// valid for `life`.
    ///
    /// The same node may ask again, should it not have got the answer. When the call is dropped half-way, the node may be a member; it is
    /// answered when it asks again.
    pub async fn answer_join(&self, sealed: &SealedRequest, life: Duration) -> Result<SealedRequest, JoinRefusal> {
        let received = Received::decode(sealed).ok_or(JoinRefusal::Malformed)?;
        let now = self.inner.clock.now();
        let fresh = self.keys().with_all(|held| wire::is_fresh(held.keyring_key, &received.request.challenge, now));
        if !fresh.ok_or(JoinRefusal::Sealed)? {
            return Err(JoinRefusal::Challenge);
        }
        if received.request.token_id.is_empty() {
            let secret = self.keys().with_all(|held| JoinSecret::of_shares(held.keyring_key)).ok_or(JoinRefusal::Sealed)?;
            if !received.is_by(&secret) {
                return Err(JoinRefusal::Unknown);
            }
            let candidate = self.candidate(&received).await?;
            self.take_in(&candidate).await?;
            return self.welcome(&received, &secret, &candidate, life).await;
        }
        let id = hex::encode(&received.request.token_id);
        let view = self.view().await?;
        let token = Record::read(&view, &id)?.ok_or(JoinRefusal::Unknown)?;
        let secret = token.secret().ok_or(JoinRefusal::Unknown)?;
        if !received.is_by(&secret) {
            return Err(JoinRefusal::Unknown);
        }
        let mut candidate = self.candidate(&received).await?;
        candidate.non_voter |= token.record.non_voter;
        self.use_token(&id, &candidate, now, false).await?;
        self.take_in(&candidate).await?;
        self.use_token(&id, &candidate, now, true).await?;
        self.welcome(&received, &secret, &candidate, life).await
    }

    /// What the sender would be, if that can be.
    async fn candidate(&self, received: &Received) -> Result<Candidate, JoinRefusal> {
        let request = &received.request;
        let cluster_name = self.cluster_name()?;
        if request.cluster_name != cluster_name {
            return Err(JoinRefusal::OtherCluster { found: cluster_name, wanted: request.cluster_name.chars().take(80).collect() });
        }
        let id = NodeId::parse(&request.node_id).map_err(|error| JoinRefusal::Facts(error.to_string()))?;
        for (name, address, schemes) in [
            ("cluster_addr", &request.cluster_address, &["https://"][..]),
            ("api_addr", &request.api_address, &["https://", "http://"][..]),
        ] {
            let is_fine = address.len() <= 300
                && address.bytes().all(|byte| byte.is_ascii_graphic())
                && schemes.iter().any(|scheme| address.len() > scheme.len() && address.starts_with(scheme));
            if !is_fine {
                return Err(JoinRefusal::Facts(format!("{name} is no URL that other nodes could use")));
            }
        }
        let key = NodeKey::parse(&request.certificate_request).map_err(|_| JoinRefusal::Malformed)?;
        let member = Member {
            cluster_address: request.cluster_address.clone(),
            api_address: request.api_address.clone(),
            key: Some(key.pin()),
            non_voter: request.non_voter,
        };
        Ok(Candidate { id, member, key, non_voter: request.non_voter })
    }

    /// Records that a node uses a token; `joined`: that it has become a member by it.
    async fn use_token(&self, id: &str, candidate: &Candidate, now: Timestamp, joined: bool) -> Result<(), JoinRefusal> {
        for _ in 0..COMMIT_TRIES_MAX {
            let view = self.view().await?;
            let mut token = Record::read(&view, id)?.ok_or(JoinRefusal::Unknown)?;
            if Timestamp(token.record.expires_ms) <= now {
                return Err(JoinRefusal::Expired);
            }
            if !token.record.node_id.is_empty() && token.record.node_id != candidate.id.as_str() {
                return Err(JoinRefusal::OtherNode(token.record.node_id));
            }
            let key = candidate.key.pin();
            let used = stored::JoinTokenUse {
                node_id: candidate.id.to_string(),
                key_sha256: key.0.to_vec(),
                used_ms: token.record.r#use.as_ref().map_or(now.0, |used| used.used_ms),
                joined,
            };
            match &token.record.r#use {
                Some(before) if before.node_id != used.node_id || !constant_time_eq(&before.key_sha256, &used.key_sha256) => {
                    return Err(JoinRefusal::Used(before.node_id.clone()));
                }
                // It joined, and is a member no more: it was removed.
                Some(before) if before.joined && !self.is_member(&candidate.id, key) => {
                    return Err(JoinRefusal::Used(before.node_id.clone()));
                }
                Some(before) if before.joined || *before == used => return Ok(()),
                _ => {}
            }
            token.record.r#use = Some(used);
            let mut plan = Plan::new();
            token.put(&mut plan);
            match self.commit(&view, &plan).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(JoinRefusal::NotNow("the token is used by several nodes at once".into()))
    }

    fn is_member(&self, id: &NodeId, key: KeyPin) -> bool {
        self.inner.raft.peer(id).is_some_and(|peer| peer.member.key == Some(key))
    }

    /// Makes a node a member, here or at the leader.
    async fn take_in(&self, candidate: &Candidate) -> Result<(), JoinRefusal> {
        let request = peer::AdmitRequest { member: Some(member_to_peer(&candidate.id, &candidate.member)), non_voter: candidate.non_voter };
        let Some(leader) = self.coordinator() else { return self.peer_admit(request).await };
        self.inner.peers.admit(leader, request).await.map_err(|error| match error {
            PeerCallError::Refused(why) => JoinRefusal::Facts(why),
            PeerCallError::Lost(why) => JoinRefusal::NotNow(format!("the leader does not answer: {why}")),
        })
    }

    /// What another open node asks of the leader: to take in a node whose right to join that one has checked.
    pub async fn peer_admit(&self, request: peer::AdmitRequest) -> Result<(), JoinRefusal> {
        let (id, member) = request.member.as_ref().and_then(wire::member_from_peer).ok_or(JoinRefusal::Malformed)?;
        let status = self.inner.raft.status();
        let members = &status.members;
        if !members.iter().any(|other| other.id == self.inner.facts.node_id && other.member.key.is_some()) {
            return Err(JoinRefusal::NotManaged);
        }
        if let Some(there) = members.iter().find(|other| other.id == id) {
            return if there.member.key.is_some() && there.member.key == member.key { Ok(()) } else { Err(JoinRefusal::IsMember(id)) };
        }
        if let Some(there) = members.iter().find(|other| other.member.cluster_address == member.cluster_address) {
            return Err(JoinRefusal::AddressTaken { address: member.cluster_address, member: there.id.clone() });
        }
        if members.len() >= MEMBERS_MAX {
            return Err(JoinRefusal::Full);
        }
        // It replicates first; autopilot gives it its vote once it has caught up and proven stable.
        let member = Member { non_voter: request.non_voter, ..member };
        let change = MemberChange::Add { id: id.clone(), member: member.clone() };
        match self.inner.raft.change_members(change, ChangeOptions::default()).await {
            Ok(_) => {}
            Err(ChangeError::Refused(Refusal { kind: RefusalKind::AlreadyMember, .. })) => return Err(JoinRefusal::IsMember(id)),
            Err(error) => return Err(JoinRefusal::NotNow(error.to_string())),
        }
        // Of two nodes of one id at once, the first is the member.
        if self.inner.raft.peer(&id).is_none_or(|peer| peer.member.key != member.key) {
            return Err(JoinRefusal::IsMember(id));
        }
        tracing::info!(node = %id, address = member.cluster_address, "a node has joined");
        Ok(())
    }

    /// The answer to a node that is a member now.
    async fn welcome(
        &self,
        received: &Received,
        secret: &JoinSecret,
        candidate: &Candidate,
        life: Duration,
    ) -> Result<SealedRequest, JoinRefusal> {
        let cluster_name = self.cluster_name()?;
        let authority = self.authority().await?;
        let rng = &*self.inner.rng;
        let certificate = authority.sign(&cluster_name, &candidate.id, &candidate.key, life, self.inner.clock.now(), rng)?;
        let records = self.records_here()?.ok_or(JoinRefusal::Sealed)?;
        let mut members: Vec<_> = self.inner.raft.status().members.into_iter().map(|info| (info.id, info.member)).collect();
        if !members.iter().any(|(id, _)| *id == candidate.id) {
            // This replica has not applied it yet.
            members.push((candidate.id.clone(), candidate.member.clone()));
        }
        let joined = Joined {
            cluster_id: records.seals.cluster_id,
            authority: authority.certificate().to_vec(),
            certificate,
            seal_epoch: records.epoch,
            members,
        };
        Ok(received.answer(secret, &joined, &cluster_name))
    }

    /// A certificate for a member on its pinned key, valid for `life`: whoever asks has shown by the request itself that it holds that key. DER.
    pub async fn renew_certificate(&self, node_id: &NodeId, certificate_request: &[u8], life: Duration) -> Result<Vec<u8>, RenewRefusal> {
        let key = NodeKey::parse(certificate_request).map_err(|_| RenewRefusal::Malformed)?;
        // As of now: a node that was removed a moment ago is none of ours.
        self.view().await.map_err(JoinRefusal::from)?;
        if !self.is_member(node_id, key.pin()) {
            return Err(RenewRefusal::NotAMember);
        }
        let authority = self.authority().await?;
        let cluster_name = self.cluster_name()?;
        let signed = authority.sign(&cluster_name, node_id, &key, life, self.inner.clock.now(), &*self.inner.rng);
        signed.map_err(|error| RenewRefusal::Failed(error.to_string()))
    }

    /// The certificate of the cluster's authority; DER. The authority is made if there is none.
    pub async fn authority_certificate(&self) -> Result<Vec<u8>, RenewRefusal> {
        Ok(self.authority().await?.certificate().to_vec())
    }

    /// The cluster's authority; made at the first need.
    async fn authority(&self) -> Result<Authority, JoinRefusal> {
        for _ in 0..COMMIT_TRIES_MAX {
            let view = self.view().await?;
            let found = view.read(&Authority::name())?;
            if let Some(record) = found.value {
                // EXPOSE: the record is decoded.
                return Ok(Authority::decode(record.expose())?);
            }
            let made = Authority::generate(&self.cluster_name()?, self.inner.clock.now())?;
            let mut plan = Plan::new();
            plan.expect(Authority::name(), Revision::ABSENT);
            plan.put(Authority::name(), made.encode());
            match self.commit(&view, &plan).await {
                Ok(_) => tracing::info!("the cluster's certificate authority was made"),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(JoinRefusal::NotNow("the authority's record changes all the time".into()))
    }

    fn cluster_name(&self) -> Result<String, JoinRefusal> {
        Ok(self.records_here()?.ok_or(JoinRefusal::Sealed)?.seals.cluster_name)
    }

    /// Forgets what was kept of nodes that are no members any more. On the leader, now and then.
    pub(crate) async fn forget_removed(&self) {
        loop {
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(FORGET_PAUSE) => {}
            }
            if self.leads()
                && !self.is_sealed()
                && let Err(error) = self.forget_now().await
            {
                tracing::debug!(%error, "forget nodes that were removed");
            }
        }
    }

    async fn forget_now(&self) -> Result<(), JoinRefusal> {
        let view = self.view().await?;
        let mut plan = Plan::new();
        for child in view.children(&Name::new("core/rejoin"))? {
            let is_gone = NodeId::parse(child.as_str()).is_ok_and(|id| self.inner.raft.peer(&id).is_none());
            if is_gone {
                plan.delete(Name::new(&format!("core/rejoin/{}", child.as_str())));
            }
        }
        if !plan.is_empty() {
            self.commit(&view, &plan).await?;
        }
        Ok(())
    }
}

/// How often the leader looks for what removed nodes have left.
const FORGET_PAUSE: Duration = Duration::from_secs(60);

/// The server side of what members ask of each other for the sake of members.
pub struct IdentityService {
    barrier: Barrier,
    admission: Admission,
}

impl IdentityService {
    /// Ready to be added to the peers' listener.
    pub fn server(barrier: Barrier, admission: Admission) -> IdentityServer<IdentityService> {
        IdentityServer::new(IdentityService { barrier, admission })
    }
}

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn admit(&self, request: Request<peer::AdmitRequest>) -> Result<Response<peer::AdmitResponse>, Status> {
        self.admission.admit(&request)?;
        match self.barrier.peer_admit(request.into_inner()).await {
            Ok(()) => Ok(Response::new(peer::AdmitResponse {})),
            Err(error @ (JoinRefusal::NotNow(_) | JoinRefusal::Sealed)) => Err(Status::unavailable(error.to_string())),
            Err(error) => Err(Status::failed_precondition(error.to_string())),
        }
    }
}

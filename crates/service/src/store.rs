//! What the service stands on: records at one applied state, and batches that are carried out whole or not at all. In a node it is the
//! barrier over Raft; in tests one table in memory.

use std::time::Duration;

use barrier::{AccessError, Barrier, CommitError, Plan, SealedNode, View};
use proto::http::{HaNode, HaStatus};
use types::{NodeId, Revision, Timestamp, duration};

/// How long the leader may take to tell what it sees of the members.
const LEADER_ANSWER_MAX: Duration = Duration::from_secs(1);

use crate::request::Reading;

/// The records, and the cluster that keeps them.
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// Every record, as of now.
    async fn view(&self) -> Result<View, AccessError>;

    /// Every record, as fresh as `reading` asks for, and how old the state can be.
    async fn view_by(&self, _reading: Reading) -> Result<(View, Duration), AccessError> {
        self.view().await.map(|view| (view, Duration::ZERO))
    }

    /// Carries a plan out, if everything that it expects still holds: the revision of what it wrote. Dropped half-way, it may still be
    /// carried out.
    async fn commit(&self, view: &View, plan: &Plan) -> Result<Revision, CommitError>;

    /// Whether this node leads the cluster, as far as it knows: for work that one node is enough for.
    fn leads(&self) -> bool;

    /// Seals every node, as `by` asks, and says which have confirmed it. An error text for the caller.
    async fn seal(&self, by: &str) -> Result<Vec<SealedNode>, String>;

    /// The barrier itself, for acts on its keys; `None`: there is none.
    fn keys(&self) -> Option<&Barrier> {
        None
    }

    /// What every member tells of itself.
    async fn members(&self, now: Timestamp) -> HaStatus;
}

#[async_trait::async_trait]
impl Store for Barrier {
    async fn view(&self) -> Result<View, AccessError> {
        Barrier::view(self).await
    }

    async fn view_by(&self, reading: Reading) -> Result<(View, Duration), AccessError> {
        match reading {
            Reading::Configured => Barrier::view(self).await.map(|view| (view, Duration::ZERO)),
            Reading::Quorum => self.view_by_quorum().await.map(|view| (view, Duration::ZERO)),
            Reading::Stale(staleness_max) => self.view_stale(staleness_max).await,
        }
    }

    async fn commit(&self, view: &View, plan: &Plan) -> Result<Revision, CommitError> {
        Barrier::commit(self, view, plan).await.map(Revision::at)
    }

    fn leads(&self) -> bool {
        Barrier::leads(self)
    }

    async fn seal(&self, by: &str) -> Result<Vec<SealedNode>, String> {
        Barrier::seal(self, by).await.map_err(|error| format!("{error}; seal the other nodes once there is a quorum, or stop them"))
    }

    fn keys(&self) -> Option<&Barrier> {
        Some(self)
    }

    async fn members(&self, now: Timestamp) -> HaStatus {
        // Without a leader nobody knows more than the members themselves.
        let asked = tokio::time::timeout(LEADER_ANSWER_MAX, self.members_view());
        let (members, view) = tokio::join!(Barrier::members(self), asked);
        let view = view.ok().and_then(Result::ok);
        let seen = |id: &NodeId| view.as_ref().and_then(|view| view.member(id));
        let heard = i64::try_from(now.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default().to_string();
        let leader = members.iter().filter_map(|(_, status)| status.as_ref()).max_by_key(|status| status.term);
        let leader = leader.map(|status| status.leader.clone()).unwrap_or_default();
        let role = |info: &raft::MemberInfo| match (info.voter, info.member.non_voter) {
            (true, _) => "voter",
            (false, false) => "learner",
            (false, true) => "non-voter",
        };
        let nodes = members.into_iter().map(|(info, status)| HaNode {
            role: role(&info).into(),
            hostname: info.id.to_string(),
            api_address: info.member.api_address,
            cluster_address: info.member.cluster_address,
            active_node: info.id.as_str() == leader,
            last_echo: status.as_ref().map(|_| heard.clone()),
            version: status.as_ref().map(|status| status.version.clone()).unwrap_or_default(),
            upgrade_version: status.as_ref().map(|status| status.version.clone()).unwrap_or_default(),
            node_id: info.id.to_string(),
            healthy: seen(&info.id).map(|facts| facts.health.healthy),
            last_contact: seen(&info.id).and_then(|facts| facts.last_contact).map(duration::print_go),
            lag: seen(&info.id).map(|facts| facts.lag),
            sealed: status.as_ref().map(|status| status.sealed),
            applied_index: status.as_ref().and_then(|status| status.applied).map(|position| position.index),
            term: status.as_ref().map(|status| status.term),
        });
        HaStatus { nodes: nodes.collect() }
    }
}

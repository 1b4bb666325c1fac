//! Changes of the cluster's members, as Raft makes them, with what only the barrier knows: who is open, and so had better lead.

use raft::{ChangeError, ChangeOptions, HealthPolicy, Heirs, MemberChange, MembersView};
use types::NodeId;

use crate::barrier::Barrier;

impl Barrier {
    /// Brings a change of the members about, wherever the leader is; should another lead, rather an open one.
    ///
    /// Dropped half-way, the change may be made in part or whole; asking again goes on.
    pub async fn change_members(&self, change: MemberChange, force: bool) -> Result<MembersView, ChangeError> {
        let options = ChangeOptions { force, prefer: self.open_members().await };
        self.inner.raft.change_members(change, options).await
    }

    /// The members as the leader sees them.
    pub async fn members_view(&self) -> Result<MembersView, ChangeError> {
        self.inner.raft.members().await
    }

    /// The members as this node sees them; `None` unless it leads.
    pub fn members_here(&self) -> Option<MembersView> {
        self.inner.raft.members_here()
    }

    /// By which rule members are healthy, while this node leads.
    pub fn set_health_policy(&self, policy: HealthPolicy) {
        self.inner.raft.set_health_policy(policy);
    }

    /// If this node leads, has another voter lead, rather an open one. Answers once another does.
    pub async fn step_down(&self) -> Result<(), ChangeError> {
        if !self.leads() {
            return Ok(());
        }
        let prefer = self.open_members().await;
        self.inner.raft.step_down(&Heirs { prefer, no_others: false }).await
    }

    /// Who answers that it is open.
    pub(crate) async fn open_members(&self) -> Vec<NodeId> {
        let is_open = |answer: Option<proto::peer::MemberStatus>| answer.is_some_and(|answer| answer.initialized && !answer.sealed);
        self.members().await.into_iter().filter_map(|(info, answer)| is_open(answer).then_some(info.id)).collect()
    }
}

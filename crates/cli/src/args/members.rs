//! `conclave operator members …`, and Vault's names for the same.

use clap::{Args, Subcommand};

use super::Snapshot;

#[derive(Args)]
pub(crate) struct Members {
    #[command(subcommand)]
    pub(crate) verb: Option<MembersVerb>,
}

#[derive(Subcommand)]
pub(crate) enum MembersVerb {
    /// Show every member (as without a verb)
    List,
    /// Show how the members are, as the leader sees them: exit 0 all well, 2 not
    Health,
    /// Add a node whose certificate you bring; it votes once it has caught up and been stable
    Add(AddMember),
    /// Remove a member; a leader hands over first
    Remove(ChangeMember),
    /// Give a member a vote, once it has caught up
    Promote(ChangeMember),
    /// Take a member's vote for good; it goes on to replicate
    Demote(ChangeMember),
    /// Give one member a vote, and then remove another
    Replace(ReplaceMember),
    /// Tell the cluster where a member is now
    Update(MemberPlace),
    /// Have another voter lead
    Transfer(TransferLeadership),
    /// Have another voter lead: an open one that has come furthest
    StepDown,
}

#[derive(Args)]
pub(crate) struct ChangeMember {
    /// The member's node id
    #[arg(value_name = "NODE")]
    pub(crate) node: String,
    /// Even if too few voters that can be reached would be left, or the member has not caught up
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args)]
pub(crate) struct MemberPlace {
    /// The member's node id
    #[arg(value_name = "NODE")]
    pub(crate) node: String,
    /// Where its peers reach it: https://host:port
    #[arg(long, value_name = "URL")]
    pub(crate) cluster_addr: String,
    /// Where clients reach it
    #[arg(long, value_name = "URL")]
    pub(crate) api_addr: String,
}

#[derive(Args)]
pub(crate) struct AddMember {
    #[command(flatten)]
    pub(crate) place: MemberPlace,
    /// It is to replicate without a vote for good
    #[arg(long)]
    pub(crate) non_voter: bool,
}

#[derive(Args)]
pub(crate) struct ReplaceMember {
    /// The node id of the member that goes
    #[arg(value_name = "OLD")]
    pub(crate) old: String,
    /// The node id of the member that takes its place
    #[arg(value_name = "NEW")]
    pub(crate) new: String,
    /// Even if too few voters that can be reached would be left, or the new one has not caught up
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args)]
pub(crate) struct TransferLeadership {
    /// Who is to lead [default: an open voter that has come furthest]
    #[arg(value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// Even if it cannot be reached, or is far behind
    #[arg(long, requires = "node")]
    pub(crate) force: bool,
}

#[derive(Subcommand)]
pub(crate) enum Raft {
    /// As `conclave operator snapshot`
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Show the members
    ListPeers,
    /// Remove a member
    RemovePeer(RaftPeer),
    /// Give a member a vote
    Promote(RaftPeer),
    /// Take a member's vote for good
    Demote(RaftPeer),
    /// How the leader looks after the members by itself
    #[command(subcommand)]
    Autopilot(Autopilot),
}

#[derive(Args)]
pub(crate) struct RaftPeer {
    /// The member's node id
    #[arg(value_name = "SERVER_ID")]
    pub(crate) server_id: String,
}

#[derive(Subcommand)]
pub(crate) enum Autopilot {
    /// Show how the members are
    State,
    /// Show the settings
    GetConfig,
    /// Change the settings; what is left out stays
    SetConfig(AutopilotConfig),
}

#[derive(Args)]
#[group(required = true, multiple = true)]
pub(crate) struct AutopilotConfig {
    /// Whether members that are dead are removed
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) cleanup_dead_servers: Option<bool>,
    /// Silent for so long, a member is not healthy
    #[arg(long, value_name = "DURATION")]
    pub(crate) last_contact_threshold: Option<String>,
    /// Silent for so long, a member is dead; at least 1m
    #[arg(long, value_name = "DURATION")]
    pub(crate) dead_server_last_contact_threshold: Option<String>,
    /// Lacking more entries than this, a member is not healthy
    #[arg(long, value_name = "N")]
    pub(crate) max_trailing_logs: Option<u64>,
    /// Dead members are removed only while so many voters are left; at least 3
    #[arg(long, value_name = "N")]
    pub(crate) min_quorum: Option<u64>,
    /// Healthy for so long, a learner gets a vote
    #[arg(long, value_name = "DURATION")]
    pub(crate) server_stabilization_time: Option<String>,
}

//! The cluster's members and its leader: changed from any node, one change at a time, at the leader.
//!
//! Always: each change is a goal, reached by single steps of one entry each, of which every one leaves a membership that the next
//! leader can go on from; two changes never overlap; a new voter has caught up before it votes; the leader hands over before it goes.
//! The membership is never changed on what a former leader knew: each step names the membership that it was planned from.
//!
//! Knows nothing of seals or policies. Who should rather lead is said by the caller.

mod health;
mod steps;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::Precondition;
use openraft::{ChangeMembers, EntryPayload, Instant as _, ServerState};
use proto::peer;
use tokio::time::Instant;
use types::{Index, NodeId, Position, Term, Timestamp};

use crate::codec;
use crate::config::{LogId, Member, Membership, TypeConfig};
use crate::handle::{Core, LEADER_WAIT_MAX, MemberInfo, Raft, Route};
use crate::inbound::{self, Inbound};
use crate::transport::{Peer, TransportError};
use health::Book;
pub use health::{Health, HealthPolicy};
use steps::{Known, Step};

/// How long the leader works at one change, waiting for its turn and for a learner included.
pub const CHANGE_MAX: Duration = Duration::from_secs(25);
/// How long whoever asks waits for it, elections included.
const ASK_MAX: Duration = Duration::from_secs(30);
/// Changes that wait for their turn at the leader, at most; further ones are refused.
pub const CHANGES_WAITING_MAX: usize = 32;
/// Members of a cluster, at most.
pub const MEMBERS_MAX: usize = 64;
/// A learner may vote when it lacks no more than so many entries of the leader's log.
pub const PROMOTION_LAG_MAX: u64 = 200;
/// A member that has answered within this time can be reached.
pub const REACHABLE_WITHIN: Duration = Duration::from_secs(2);
/// A voter that lacks more entries than this is not asked to take over: the cluster would stand still until it has them.
const HEIR_LAG_MAX: u64 = 2_000;
/// How long an heir may take to lead before another is asked.
const HAND_OVER_MAX: Duration = Duration::from_secs(1);
/// Heirs that are asked, at most.
const HEIRS_MAX: usize = 3;
/// Between two looks at something that is waited for.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// How often the leader looks at the members' health.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);

/// A change of the members or of the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// A new member replicates without a vote. Unless it is a non-voter, it is to be promoted once it has caught up.
    Add {
        /// The node.
        id: NodeId,
        /// Where it is, and who.
        member: Member,
    },
    /// Nothing is sent to it any more, and it is admitted no more.
    Remove {
        /// The node.
        id: NodeId,
    },
    /// A learner votes from now on, once it has caught up.
    Promote {
        /// The node.
        id: NodeId,
    },
    /// A voter, or a learner that would become one, replicates without a vote for good.
    Demote {
        /// The node.
        id: NodeId,
    },
    /// A member takes a voter's place, which goes.
    Replace {
        /// Goes.
        old: NodeId,
        /// A member already; votes.
        new: NodeId,
    },
    /// A member has moved, or shows another key from now on.
    Update {
        /// The node.
        id: NodeId,
        /// Where it is now; whether it is a non-voter stays as it is.
        member: Member,
    },
    /// Another voter leads.
    Transfer {
        /// Who; `None`: the one that has come furthest.
        to: Option<NodeId>,
    },
}

/// How a change is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeOptions {
    /// Even if too few voters that can be reached would be left, or the member is far behind. What cannot be committed still is not.
    pub force: bool,
    /// Should another lead, then rather one of these: open ones, as a rule.
    pub prefer: Vec<NodeId>,
}

/// Who may take the leadership over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heirs {
    /// Rather one of these.
    pub prefer: Vec<NodeId>,
    /// None but these.
    pub no_others: bool,
}

/// What kind of refusal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// No such member.
    UnknownMember,
    /// There is such a member, and it is another.
    AlreadyMember,
    /// It has no vote.
    NotAVoter,
    /// Nobody would vote.
    LastVoter,
    /// Too few voters that can be reached would be left.
    NoQuorum,
    /// It has not caught up.
    Behind,
    /// Nobody can take the leadership over.
    NoHeir,
    /// Too many changes wait.
    Busy,
    /// Whatever else the leader says.
    Other,
}

/// The leader's no. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// For programs.
    pub kind: RefusalKind,
    /// For people; says what to do.
    pub text: String,
}

impl Refusal {
    fn new(kind: RefusalKind, text: impl Into<String>) -> Refusal {
        Refusal { kind, text: text.into() }
    }
}

/// Why a change was not made, or why nobody can say whether it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// No leader was found in time.
    #[error("no leader")]
    NoLeader,
    /// The leader will not.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It was begun, and is not known to be done. Asking for the same again goes on from there.
    #[error("the change was begun and is not known to be done ({0}): look at the members, and ask for it again")]
    Unfinished(String),
    /// Raft has ended.
    #[error("raft has stopped")]
    Stopped,
}

/// A member as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberFacts {
    /// Who it is, and whether it votes.
    pub info: MemberInfo,
    /// Since its last answer; zero for the leader itself, `None` if it has not answered this leader yet.
    pub last_contact: Option<Duration>,
    /// How far its log agrees with the leader's.
    pub matched: Option<Position>,
    /// Entries of the leader's log that it is not known to have.
    pub lag: u64,
    /// By the policy in force.
    pub health: Health,
}

/// The members as their leader sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembersView {
    /// Who leads.
    pub leader: NodeId,
    /// Its term.
    pub term: Term,
    /// The last entry of its log.
    pub last: Option<Position>,
    /// The entry that made them the members.
    pub configured: Option<Position>,
    /// In the order of their ids.
    pub members: Vec<MemberFacts>,
}

impl MembersView {
    /// The member of this id.
    pub fn member(&self, id: &NodeId) -> Option<&MemberFacts> {
        self.members.iter().find(|facts| facts.info.id == *id)
    }
}

/// What the leader keeps besides openraft's own state.
#[derive(Default)]
pub(crate) struct State {
    /// Held by the change that is being made.
    turn: tokio::sync::Mutex<()>,
    waiting: AtomicUsize,
    book: Mutex<Book>,
}

/// A request as it comes to the leader.
struct Ask {
    change: MemberChange,
    options: ChangeOptions,
    resumed: bool,
}

/// Why the leader stopped working at a change.
enum Halt {
    /// It leads no more; who does, if it knows.
    NotLeader(Option<NodeId>),
    Refused(Refusal),
    Unfinished(String),
    Stopped,
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Halt {
        Halt::Refused(refusal)
    }
}

impl Raft {
    /// Brings a change about, wherever the leader is, and answers the members as they are then. Asking for what is so already changes
    /// nothing.
    ///
    /// Waits up to half a minute, elections included. Dropped half-way, the change may be made in part or whole; asking again goes on.
    pub async fn change_members(&self, change: MemberChange, options: ChangeOptions) -> Result<MembersView, ChangeError> {
        self.core.ask_leader(Some((change, options)), Instant::now() + ASK_MAX).await
    }

    /// The members as the leader sees them. Waits up to [`LEADER_WAIT_MAX`] for one.
    pub async fn members(&self) -> Result<MembersView, ChangeError> {
        self.core.ask_leader(None, Instant::now() + LEADER_WAIT_MAX).await
    }

    /// The members as this node sees them; `None` unless it leads.
    pub fn members_here(&self) -> Option<MembersView> {
        self.core.members_view()
    }

    /// By which rule members are healthy, from now on, while this node leads.
    pub fn set_health_policy(&self, policy: HealthPolicy) {
        self.core.membership.book().policy = policy;
    }

    /// If this node leads, has another voter take over, the one that has come furthest; answers once another leads.
    ///
    /// # Errors
    /// [`RefusalKind::NoHeir`] when nobody can, [`RefusalKind::LastVoter`] when there is nobody else.
    pub async fn step_down(&self, heirs: &Heirs) -> Result<(), ChangeError> {
        if self.core.leader_metrics().is_none() {
            return Ok(());
        }
        match self.core.hand_over(heirs, false).await {
            Ok(()) => Ok(()),
            Err(Halt::NotLeader(_)) => Ok(()),
            Err(Halt::Refused(refusal)) => Err(ChangeError::Refused(refusal)),
            Err(Halt::Unfinished(why)) => Err(ChangeError::Unfinished(why)),
            Err(Halt::Stopped) => Err(ChangeError::Stopped),
        }
    }
}

impl Inbound {
    /// Makes a change for another node, if this one leads.
    pub async fn membership(&self, request: peer::MembershipRequest) -> Result<peer::MembershipResponse, inbound::InboundError> {
        use peer::membership_response::Outcome;
        let core = self.core();
        let made = match request.change {
            None => Ok(()),
            Some(change) => {
                let options = wire::options_from_peer(request.force, &request.prefer)?;
                let ask = Ask { change: wire::change_from_peer(change)?, options, resumed: request.resumed };
                core.change_here(&ask).await
            }
        };
        let outcome = match made {
            Ok(()) => match core.members_view() {
                Some(view) => Outcome::Done(wire::view_to_peer(&view)),
                None => Outcome::Leader(core.known_leader().map(|id| id.to_string()).unwrap_or_default()),
            },
            Err(Halt::NotLeader(leader)) => Outcome::Leader(leader.map(|id| id.to_string()).unwrap_or_default()),
            Err(Halt::Refused(refusal)) => Outcome::Refused(wire::refusal_to_peer(&refusal)),
            Err(Halt::Unfinished(why)) => Outcome::Unfinished(why),
            Err(Halt::Stopped) => return Err(inbound::InboundError::Stopped),
        };
        Ok(peer::MembershipResponse { outcome: Some(outcome) })
    }
}

impl State {
    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a leader knows at one moment.
struct LeaderMetrics {
    term: u64,
    last: Option<LogId>,
    effective: Arc<crate::config::StoredMembership>,
    /// Whether the effective membership is committed.
    is_settled: bool,
    contacts: BTreeMap<NodeId, Option<Duration>>,
    matched: BTreeMap<NodeId, Option<LogId>>,
}

impl LeaderMetrics {
    fn voters(&self) -> BTreeSet<NodeId> {
        self.effective.membership().voter_ids().collect()
    }

    fn lag(&self, id: &NodeId) -> u64 {
        let next = |position: Option<&LogId>| position.map_or(0, |position| position.index() + 1);
        next(self.last.as_ref()).saturating_sub(next(self.matched.get(id).and_then(Option::as_ref)))
    }

    fn is_reachable(&self, id: &NodeId) -> bool {
        self.contacts.get(id).copied().flatten().is_some_and(|contact| contact <= REACHABLE_WITHIN)
    }
}

impl Core {
    fn known_leader(&self) -> Option<NodeId> {
        self.raft.server_metrics().borrow_watched().current_leader.clone()
    }

    /// `None` unless this node leads.
    fn leader_metrics(&self) -> Option<LeaderMetrics> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            return None;
        }
        let (heartbeat, replication) = (metrics.heartbeat.as_ref()?, metrics.replication.as_ref()?);
        // A leader's last entry is of its own term: its first act is to write one.
        let last = metrics.last_log_index.map(|index| codec::log_id_of(Position { term: Term(metrics.current_term), index: Index(index) }));
        let mut contacts: BTreeMap<_, _> = heartbeat.iter().map(|(id, at)| (id.clone(), at.map(|at| at.elapsed()))).collect();
        let mut matched = replication.clone();
        contacts.insert(self.node_id.clone(), Some(Duration::ZERO));
        matched.insert(self.node_id.clone(), last);
        Some(LeaderMetrics {
            term: metrics.current_term,
            last,
            is_settled: metrics.membership_config.log_id() == metrics.committed_membership_config.log_id(),
            effective: Arc::clone(&metrics.membership_config),
            contacts,
            matched,
        })
    }

    fn members_view(&self) -> Option<MembersView> {
        let metrics = self.leader_metrics()?;
        let voters = metrics.voters();
        let mut members: Vec<MemberFacts> = Vec::new();
        for (id, member) in metrics.effective.membership().nodes() {
            members.push(MemberFacts {
                info: MemberInfo { id: id.clone(), member: member.clone(), voter: voters.contains(id) },
                last_contact: metrics.contacts.get(id).copied().flatten(),
                matched: metrics.matched.get(id).and_then(Option::as_ref).map(codec::position_of),
                lag: metrics.lag(id),
                health: Health { healthy: false, since: Timestamp(0) },
            });
        }
        let mut view = MembersView {
            leader: self.node_id.clone(),
            term: Term(metrics.term),
            last: metrics.last.as_ref().map(codec::position_of),
            configured: metrics.effective.log_id().as_ref().map(codec::position_of),
            members,
        };
        self.membership.book().judge(&mut view, self.clock.now());
        Some(view)
    }

    /// Asks whoever leads, again and again while leaders come and go.
    async fn ask_leader(&self, mut asked: Option<(MemberChange, ChangeOptions)>, deadline: Instant) -> Result<MembersView, ChangeError> {
        let hands_over = matches!(asked, Some((MemberChange::Transfer { to: None }, _)));
        let (mut first_leader, mut resumed, mut trouble) = (None, false, None);
        loop {
            let leader = self.known_leader();
            if let Some(leader) = &leader {
                let first = first_leader.get_or_insert_with(|| leader.clone());
                if hands_over && first != leader {
                    // Another leads: nothing more is to change.
                    asked = None;
                }
            }
            match self.route() {
                Route::Here => {
                    let made = match &asked {
                        None => Ok(()),
                        Some((change, options)) => {
                            let ask = Ask { change: change.clone(), options: options.clone(), resumed };
                            self.change_here(&ask).await
                        }
                    };
                    match made {
                        Ok(()) => {
                            if let Some(view) = self.members_view() {
                                return Ok(view);
                            }
                            resumed |= asked.is_some();
                        }
                        Err(Halt::NotLeader(_)) => resumed |= asked.is_some(),
                        Err(Halt::Refused(refusal)) => return Err(ChangeError::Refused(refusal)),
                        Err(Halt::Unfinished(why)) => return Err(ChangeError::Unfinished(why)),
                        Err(Halt::Stopped) => return Err(ChangeError::Stopped),
                    }
                }
                Route::There(leader) => match self.ask_there(leader, asked.as_ref(), resumed).await {
                    Ok(view) => return Ok(view),
                    Err(There::Over(error)) => return Err(error),
                    Err(There::Again { may_be_done, why }) => {
                        resumed |= may_be_done && asked.is_some();
                        trouble = Some(why);
                    }
                },
                Route::Nowhere => {}
            }
            if !self.wait_for_leader(deadline).await {
                return Err(match trouble {
                    Some(why) if resumed => ChangeError::Unfinished(why),
                    _ if resumed => ChangeError::Unfinished("there is no leader now".into()),
                    _ => ChangeError::NoLeader,
                });
            }
        }
    }

    async fn ask_there(
        &self,
        leader: Arc<Peer>,
        asked: Option<&(MemberChange, ChangeOptions)>,
        resumed: bool,
    ) -> Result<MembersView, There> {
        use peer::membership_response::Outcome;
        let request = wire::request_to_peer(asked, resumed);
        let again = |may_be_done, why: String| There::Again { may_be_done, why };
        let response = self.transport.membership(leader, request).await.map_err(|error| match error {
            TransportError::Unreachable { .. } => again(false, error.to_string()),
            TransportError::Lost { .. } => again(true, error.to_string()),
            TransportError::Refused { .. } => There::Over(ChangeError::Refused(Refusal::new(RefusalKind::Other, error.to_string()))),
        })?;
        match response.outcome {
            Some(Outcome::Done(view)) => wire::view_from_peer(&view).map_err(|error| again(true, error.to_string())),
            Some(Outcome::Refused(refusal)) => Err(There::Over(ChangeError::Refused(wire::refusal_from_peer(refusal)))),
            Some(Outcome::Unfinished(why)) => Err(There::Over(ChangeError::Unfinished(why))),
            // It may have handed over on the way.
            Some(Outcome::Leader(_)) => Err(again(true, "the leader leads no more".into())),
            None => Err(again(true, "the leader's answer is empty".into())),
        }
    }

    /// Makes a change, if this node leads.
    async fn change_here(&self, ask: &Ask) -> Result<(), Halt> {
        let deadline = Instant::now() + CHANGE_MAX;
        let _turn = self.take_turn(deadline).await?;
        let mut resumed = ask.resumed;
        loop {
            let (metrics, known) = self.settled(deadline).await?;
            match steps::next(&ask.change, &known, &self.node_id, resumed)? {
                Step::Done => return Ok(()),
                Step::HandOver { to } => {
                    let heirs = match to {
                        Some(to) => Heirs { prefer: vec![to], no_others: true },
                        None => Heirs { prefer: ask.options.prefer.clone(), no_others: false },
                    };
                    // Forced: whom the operator names, but never whoever comes to hand.
                    self.hand_over(&heirs, ask.options.force && heirs.no_others).await?;
                    return Err(Halt::NotLeader(self.known_leader()));
                }
                Step::Describe { id, member } => {
                    let change = ChangeMembers::SetNodes(BTreeMap::from([(id, member)]));
                    let written = self.raft.change_membership_if(change, true, [planned_from(&metrics)]);
                    written_in_time(written, deadline).await?;
                }
                Step::Append { voters, members } => {
                    for new in voters.difference(&known.voters) {
                        self.await_promotion(new, ask.options.force, deadline).await?;
                    }
                    if !ask.options.force && voters != known.voters {
                        let Some(now) = self.leader_metrics() else { return Err(Halt::NotLeader(self.known_leader())) };
                        steps::check_quorum(&voters, &|id| now.is_reachable(id))?;
                    }
                    let membership =
                        Membership::new(vec![voters], members).map_err(|error| Refusal::new(RefusalKind::Other, error.to_string()))?;
                    let written = self.raft.append_membership(membership, EntryPayload::Blank, [planned_from(&metrics)]);
                    written_in_time(written, deadline).await?;
                }
            }
            resumed = true;
        }
    }

    /// Waits for the changes before this one; refused when too many do.
    async fn take_turn(&self, deadline: Instant) -> Result<tokio::sync::MutexGuard<'_, ()>, Halt> {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::AcqRel);
            }
        }
        let before = self.membership.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(&self.membership.waiting);
        if before >= CHANGES_WAITING_MAX {
            return Err(Refusal::new(RefusalKind::Busy, "too many changes of the members are waiting: try again later").into());
        }
        tokio::time::timeout_at(deadline, self.membership.turn.lock()).await.map_err(|_| {
            Refusal::new(RefusalKind::Busy, "another change of the members has not come to its end: look at the members, then try again")
                .into()
        })
    }

    /// The membership, once it is committed and not joint.
    async fn settled(&self, deadline: Instant) -> Result<(LeaderMetrics, Known), Halt> {
        loop {
            let Some(metrics) = self.leader_metrics() else { return Err(Halt::NotLeader(self.known_leader())) };
            let membership = metrics.effective.membership();
            match (metrics.is_settled, membership.get_joint_config().as_slice()) {
                (true, [voters]) => {
                    let members = membership.nodes().map(|(id, member)| (id.clone(), member.clone())).collect();
                    let known = Known { voters: voters.clone(), members };
                    return Ok((metrics, known));
                }
                // Somebody began a joint change and did not end it.
                (true, _) => {
                    let flat = ChangeMembers::AddVoterIds(BTreeSet::new());
                    let written = self.raft.change_membership_if(flat, true, [planned_from(&metrics)]);
                    written_in_time(written, deadline).await?;
                }
                (false, _) if Instant::now() >= deadline => {
                    return Err(Halt::Unfinished("the membership before this one is not committed: is there a quorum?".into()));
                }
                (false, _) => tokio::time::sleep(LOOK_PAUSE).await,
            }
        }
    }

    /// Waits until a learner has caught up.
    async fn await_promotion(&self, id: &NodeId, force: bool, deadline: Instant) -> Result<(), Halt> {
        loop {
            let Some(metrics) = self.leader_metrics() else { return Err(Halt::NotLeader(self.known_leader())) };
            let lag = metrics.lag(id);
            if force || (metrics.is_reachable(id) && lag <= PROMOTION_LAG_MAX) {
                return Ok(());
            }
            if Instant::now() + LOOK_PAUSE >= deadline {
                let state = if metrics.is_reachable(id) { "is catching up" } else { "cannot be reached" };
                let text = format!("{id} {state}: it lacks {lag} entries, and may vote at {PROMOTION_LAG_MAX} (wait, and try again)");
                return Err(Refusal::new(RefusalKind::Behind, text).into());
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Has another voter lead, whoever is best placed. Answers once this node knows that it leads no more.
    async fn hand_over(&self, heirs: &Heirs, force: bool) -> Result<(), Halt> {
        let Some(metrics) = self.leader_metrics() else { return Err(Halt::NotLeader(self.known_leader())) };
        let others: Vec<NodeId> = metrics.voters().into_iter().filter(|id| *id != self.node_id).collect();
        if others.is_empty() {
            let text = format!("{} is the only voter: add and promote another member first", self.node_id);
            return Err(Refusal::new(RefusalKind::LastVoter, text).into());
        }
        let is_heir = |id: &NodeId| !heirs.no_others || heirs.prefer.contains(id);
        let mut able: Vec<NodeId> = others.into_iter().filter(|id| is_heir(id) && (force || can_lead(&metrics, id))).collect();
        // Best first: a preferred one, then the one that has come furthest, then the one heard of last.
        able.sort_by_key(|id| (!heirs.prefer.contains(id), metrics.lag(id), metrics.contacts.get(id).copied().flatten()));
        if able.is_empty() {
            let text = match (heirs.no_others, heirs.prefer.as_slice()) {
                (true, [only]) => format!("{only} cannot be reached, or is far behind: start it, or wait until it has caught up"),
                _ => "no other voter can be reached and has come far enough to lead: start one, or wait until it has caught up".into(),
            };
            return Err(Refusal::new(RefusalKind::NoHeir, text).into());
        }
        for heir in able.into_iter().take(HEIRS_MAX) {
            tracing::info!(to = %heir, "handing leadership over");
            self.raft.trigger().transfer_leader(heir.clone()).await.map_err(|_| Halt::Stopped)?;
            if tokio::time::timeout(HAND_OVER_MAX, self.until_other_leads()).await.is_ok() {
                return Ok(());
            }
            tracing::warn!(to = %heir, "did not take the leadership over in time");
        }
        Err(Halt::Unfinished("nobody has taken the leadership over yet".into()))
    }

    async fn until_other_leads(&self) {
        let mut metrics = self.raft.server_metrics();
        loop {
            if metrics.borrow_watched().current_leader.as_ref().is_some_and(|leader| *leader != self.node_id) {
                return;
            }
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// Looks at the members' health now and then, so that times of change are right whoever asks.
    pub(crate) async fn watch_health(self: Arc<Core>) {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(HEALTH_INTERVAL) => {}
            }
            if self.members_view().is_none() {
                self.membership.book().forget();
            }
        }
    }
}

/// What came of asking another node.
enum There {
    Over(ChangeError),
    Again { may_be_done: bool, why: String },
}

fn planned_from(metrics: &LeaderMetrics) -> Precondition<TypeConfig> {
    Precondition::LastMembershipLogId { last_membership_log_id: *metrics.effective.log_id() }
}

/// Waits for a membership entry. What only came at the wrong moment is planned anew by the caller.
async fn written_in_time<T>(
    written: impl Future<Output = Result<T, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>>,
    deadline: Instant,
) -> Result<(), Halt> {
    let Ok(written) = tokio::time::timeout_at(deadline, written).await else {
        return Err(Halt::Unfinished("no quorum has confirmed it in time".into()));
    };
    match written.map_err(inbound::api_error) {
        Ok(_) => Ok(()),
        Err(None) => Err(Halt::Stopped),
        Err(Some(ClientWriteError::ForwardToLeader(forward))) => Err(Halt::NotLeader(forward.leader_id)),
        Err(Some(ClientWriteError::LogEntryDiscarded(_))) => Err(Halt::NotLeader(None)),
        Err(Some(
            ClientWriteError::PreconditionFailed(_)
            | ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_)),
        )) => {
            tokio::time::sleep(LOOK_PAUSE).await;
            if Instant::now() < deadline { Ok(()) } else { Err(Halt::Unfinished("the members kept changing".into())) }
        }
        Err(Some(ClientWriteError::ChangeMembershipError(error))) => Err(Refusal::new(RefusalKind::Other, error.to_string()).into()),
    }
}

fn can_lead(metrics: &LeaderMetrics, id: &NodeId) -> bool {
    metrics.is_reachable(id) && metrics.lag(id) <= HEIR_LAG_MAX
}

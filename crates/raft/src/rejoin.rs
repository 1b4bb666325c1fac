//! How a node with an empty folder begins: it forms a new cluster with the others, or comes back to one that has gone on
//! without it ([`Raft::begin`]).
//!
//! Always: a node that may have lost what it had answers no candidate, and stands for no election, until it has again all that
//! it may have acknowledged, and every other voter has told its term. (A voter that forgets lets two leaders be elected in one
//! term, or a leader that lacks acknowledged writes.) It answers a leader only once that one has agreed to feed it from the
//! beginning: a leader that does not expect it takes a log that goes back for a broken invariant, and ends. That it is so is
//! written down before the first entry is taken, so that a restart half-way changes nothing.
//! Knows nothing of entries' content. Why it is so, and what it cannot know: `docs/adr/0018-lost-folders-and-quarantine.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::AppendEntriesRequest;
use proto::peer;
use proto::peer::rejoin_response::Past as PeerPast;
use storage::Disk;
use storage::datadir::{is_rejoining, note_rejoining};
use tokio::time::Instant;
use types::{Index, NodeId, Term};

use crate::codec::{self, CodecError};
use crate::config::{LogId, Member, TypeConfig};
use crate::handle::{BootstrapError, Core, Raft, Role};
use crate::inbound::InboundError;
use crate::machine::blocking;
use crate::transport::Peer;

/// Pause between two rounds of asking.
const PAUSE: Duration = Duration::from_millis(100);
/// After so long without getting further, the leader is asked again to append something.
const NUDGE_INTERVAL: Duration = Duration::from_secs(5);
/// How often the traces say what is waited for.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// What a node takes part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything.
    Whole,
    /// Nothing: its folder is empty, and it does not know yet whether the cluster is new.
    Waiting,
    /// It has lost what it had. It replicates from the leader that granted it so in this term, and does not vote.
    Rejoining { granted: Option<Term> },
}

impl Part {
    /// As the folder says.
    pub(crate) fn at_start(disk: &dyn Disk, folder: &Path) -> io::Result<Part> {
        Ok(if is_rejoining(disk, folder)? { Part::Rejoining { granted: None } } else { Part::Whole })
    }

    /// Whether it votes and stands for election.
    pub(crate) fn votes(self) -> bool {
        self == Part::Whole
    }

    /// Whether it takes entries and snapshots from the leader of `term`.
    fn admits(self, term: u64) -> bool {
        match self {
            Part::Whole => true,
            Part::Waiting => false,
            Part::Rejoining { granted } => granted == Some(Term(term)),
        }
    }
}

/// Why a node did not begin. Until it is started again it abstains.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The first membership was not written.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// It could not be written down that this node has lost its folder, or that it has caught up.
    #[error("note in the data folder that this node rejoins")]
    Note(#[source] io::Error),
}

/// What a node remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Past {
    /// Nothing: it is new, or has lost what it had.
    Empty,
    /// The first membership; it has never heard of a leader.
    Unled,
    /// The log of a cluster that has had a leader.
    Led,
    /// It had lost what it had, and has not caught up yet.
    Rejoining,
}

impl From<PeerPast> for Past {
    fn from(past: PeerPast) -> Past {
        match past {
            PeerPast::Empty => Past::Empty,
            PeerPast::Unled => Past::Unled,
            PeerPast::Led => Past::Led,
            PeerPast::Rejoining => Past::Rejoining,
        }
    }
}

impl From<Past> for PeerPast {
    fn from(past: Past) -> PeerPast {
        match past {
            Past::Empty => PeerPast::Empty,
            Past::Unled => PeerPast::Unled,
            Past::Led => PeerPast::Led,
            Past::Rejoining => PeerPast::Rejoining,
        }
    }
}

/// What a member answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answer {
    past: Past,
    term: Term,
}

/// What the answers so far come to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Not enough have answered.
    Unknown,
    /// The cluster is new: nobody has had a leader.
    New,
    /// The cluster lives.
    Lives,
}

fn judge(answers: &BTreeMap<NodeId, Answer>, voters: usize) -> Verdict {
    if answers.values().any(|answer| matches!(answer.past, Past::Led | Past::Rejoining)) {
        Verdict::Lives
    } else if 2 * (answers.len() + 1) > voters {
        Verdict::New
    } else {
        Verdict::Unknown
    }
}

/// A leader's consent, and how far its log reached then: everything that was committed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Grant {
    term: Term,
    last: Index,
}

/// What a node that rejoins waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lacks {
    Grant,
    Answers(Vec<NodeId>),
    /// So many of so many voters have lost their folders: what only they had acknowledged is gone.
    Majority {
        lost: usize,
        voters: usize,
    },
    NewerLeader(Term),
    Entries {
        applied: Option<Index>,
        wanted: Index,
    },
}

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lacks::Grant => f.write_str("no leader answers"),
            Lacks::Answers(from) => {
                f.write_str("no answer yet from ")?;
                from.iter().enumerate().try_for_each(|(at, id)| write!(f, "{}{id}", if at == 0 { "" } else { ", " }))
            }
            Lacks::Majority { lost, voters } => write!(
                f,
                "{lost} of {voters} voters have lost their folders: writes may be lost that were acknowledged, and no election is safe \
                 (bring a lost folder back, or restore a snapshot into a new cluster)"
            ),
            Lacks::NewerLeader(term) => write!(f, "a member knows of term {}, and its leader has not answered", term.0),
            Lacks::Entries { applied, wanted } => {
                write!(f, "applied {} of {wanted}", applied.map_or_else(|| "nothing".to_owned(), |applied| applied.to_string()))
            }
        }
    }
}

/// Whether a node that rejoins may vote again: all that it may have acknowledged before is here again or with those it hears,
/// and it follows a leader of a term in which, and before which, it cannot have voted for another.
fn lacks(
    answers: &BTreeMap<NodeId, Answer>,
    others: &BTreeSet<NodeId>,
    grant: Option<Grant>,
    term: Term,
    applied: Option<Index>,
) -> Option<Lacks> {
    let missing: Vec<NodeId> = others.iter().filter(|id| !answers.contains_key(*id)).cloned().collect();
    if !missing.is_empty() {
        return Some(Lacks::Answers(missing));
    }
    let heard = || others.iter().filter_map(|id| answers.get(id));
    let voters = others.len() + 1;
    let lost = 1 + heard().filter(|answer| matches!(answer.past, Past::Empty | Past::Rejoining)).count();
    // Every quorum that committed something must have a member that remembers it.
    if lost > voters / 2 {
        return Some(Lacks::Majority { lost, voters });
    }
    let Some(grant) = grant else { return Some(Lacks::Grant) };
    let newest = heard().map(|answer| answer.term).max().unwrap_or(Term(0));
    if newest > grant.term || term < grant.term {
        return Some(Lacks::NewerLeader(newest.max(grant.term)));
    }
    (applied < Some(grant.last)).then_some(Lacks::Entries { applied, wanted: grant.last })
}

impl Core {
    fn part(&self) -> Part {
        *self.part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_part(&self, part: Part) {
        *self.part.lock().unwrap_or_else(PoisonError::into_inner) = part;
    }

    /// Whether this node answers candidates.
    pub(crate) fn votes(&self) -> bool {
        self.part().votes()
    }

    /// Whether this node takes entries and snapshots from the leader of `term`.
    pub(crate) fn admits(&self, term: u64) -> bool {
        self.part().admits(term)
    }

    /// Whether this node answers an append request.
    ///
    /// While it rejoins it does not answer an empty one that builds on what it lacks: that is a heartbeat, and openraft would hear
    /// of the same gap from heartbeats and from replication, the one perhaps after the other has closed it.
    pub(crate) fn takes(&self, request: &AppendEntriesRequest<TypeConfig>) -> bool {
        let part = self.part();
        part.admits(codec::term_of(&request.vote))
            && (part == Part::Whole || !request.entries.is_empty() || request.prev_log_id.as_ref().map(LogId::index) <= self.last_index())
    }

    fn last_index(&self) -> Option<u64> {
        self.raft.metrics().borrow_watched().last_log_index
    }

    fn past(&self) -> Past {
        match (self.part(), self.last_index()) {
            (Part::Rejoining { .. }, _) => Past::Rejoining,
            // The first membership has index 0; the first leader's first entry has 1.
            (_, Some(1..)) => Past::Led,
            (Part::Waiting, _) => Past::Empty,
            (Part::Whole, None) if self.is_pristine => Past::Empty,
            (Part::Whole, _) => Past::Unled,
        }
    }

    /// Answers a member that has lost its folder.
    pub(crate) async fn answer_rejoin(&self, request: &peer::RejoinRequest) -> Result<peer::RejoinResponse, InboundError> {
        let caller = codec::node_id(&request.node_id, "node_id")?;
        if caller == self.node_id {
            return Err(CodecError::Invalid { field: "node_id", problem: "is this node's own".into() }.into());
        }
        let before = self.status();
        let allowed = match before.role {
            Role::Leader => self.raft.trigger().allow_next_revert(&caller, request.feed).await.map_err(|_| InboundError::Stopped)?.is_ok(),
            Role::Follower | Role::Candidate | Role::Learner => false,
        };
        let status = self.status();
        let granted = allowed && status.role == Role::Leader && status.term == before.term;
        if granted && request.feed {
            tracing::info!(member = %caller, "a member has lost its folder: it is fed from the beginning");
            if request.nudge && !self.is_disk_full() {
                let (raft, nothing) = (self.raft.clone(), self.stamp(crate::check::entry()));
                self.tasks.spawn(async move { drop(raft.client_write(nothing).await) });
            }
        }
        Ok(peer::RejoinResponse {
            past: PeerPast::from(self.past()).into(),
            term: status.term.0,
            last: self.last_index().unwrap_or_default(),
            granted,
        })
    }

    /// The other voters, as the newest membership here says or, before there is one, as `configured`.
    fn others(&self, configured: &BTreeMap<NodeId, Member>) -> Vec<Arc<Peer>> {
        let members = self.status().members;
        let peer = |id: &NodeId, member: &Member| Arc::new(Peer { id: id.clone(), member: member.clone() });
        if members.is_empty() {
            configured.iter().filter(|(id, _)| **id != self.node_id).map(|(id, member)| peer(id, member)).collect()
        } else {
            let voters = members.iter().filter(|member| member.voter && member.id != self.node_id);
            voters.map(|info| peer(&info.id, &info.member)).collect()
        }
    }

    async fn ask(&self, peers: &[Arc<Peer>], feed: bool, nudge: bool) -> Vec<(NodeId, peer::RejoinResponse)> {
        let ask = |to: &Arc<Peer>| {
            let request = peer::RejoinRequest { node_id: self.node_id.to_string(), feed, nudge };
            let (id, asked) = (to.id.clone(), self.transport.rejoin(Arc::clone(to), request));
            async move { asked.await.ok().map(|answer| (id, answer)) }
        };
        join_all(peers.iter().map(ask)).await.into_iter().flatten().collect()
    }

    async fn note(&self, rejoining: bool) -> Result<(), BeginError> {
        let (disk, folder) = (Arc::clone(&self.disk.0), self.disk.1.clone());
        blocking(move || note_rejoining(&*disk, &folder, rejoining)).await.map_err(BeginError::Note)
    }
}

impl Raft {
    /// Takes part in the cluster of `members`, the first ones, this node among them.
    ///
    /// A node with state goes on with it. One without asks the others, and if none of them has ever had a leader, they form the
    /// cluster; else it is fed by the leader, and abstains from votes until it has caught up. That may take as long as another
    /// voter is not there: the future ends once this node takes part in everything. From the call on, before the future is first
    /// polled, an empty node answers nobody; when the future is dropped it stays so.
    pub fn begin(&self, members: BTreeMap<NodeId, Member>) -> impl Future<Output = Result<(), BeginError>> + Send + use<> {
        let raft = self.clone();
        let core = &self.core;
        let is_alone = members.keys().all(|id| *id == core.node_id);
        if core.is_pristine && !is_alone && core.part() == Part::Whole {
            core.take_part(Part::Waiting);
        }
        async move {
            if raft.core.part() == Part::Whole {
                return Ok(raft.bootstrap(members).await?);
            }
            match raft.find_out(&members).await {
                Verdict::New => {
                    raft.core.take_part(Part::Whole);
                    Ok(raft.bootstrap(members).await?)
                }
                Verdict::Lives | Verdict::Unknown => raft.rejoin(&members).await,
            }
        }
    }

    /// Whether this node votes and answers every leader. If not, [`Raft::begin`] has yet to find out what it has lost, or to bring it
    /// back.
    pub fn takes_part(&self) -> bool {
        self.core.votes()
    }

    /// Whether this node is on its way back to a cluster that has gone on without it: it does not vote.
    pub fn is_rejoining(&self) -> bool {
        matches!(self.core.part(), Part::Rejoining { .. })
    }

    async fn find_out(&self, members: &BTreeMap<NodeId, Member>) -> Verdict {
        let mut answers = BTreeMap::new();
        while self.core.part() == Part::Waiting {
            let others = self.core.others(members);
            for (id, answer) in self.core.ask(&others, false, false).await {
                answers.insert(id, Answer { past: answer.past().into(), term: Term(answer.term) });
            }
            match judge(&answers, others.len() + 1) {
                Verdict::Unknown => tokio::time::sleep(PAUSE).await,
                verdict => return verdict,
            }
        }
        Verdict::Lives
    }

    async fn rejoin(&self, members: &BTreeMap<NodeId, Member>) -> Result<(), BeginError> {
        let core = &self.core;
        core.note(true).await?;
        core.raft.runtime_config().elect(false);
        core.take_part(Part::Rejoining { granted: None });
        tracing::error!(
            "this node has lost its folder, or what was in it, and the cluster is in use: it is fed again by the leader, and does not vote until it has caught up"
        );
        let mut answers: BTreeMap<NodeId, Answer> = BTreeMap::new();
        let mut grant: Option<Grant> = None;
        let (mut nudged, mut reported) = (None::<Instant>, None::<Instant>);
        loop {
            let others = core.others(members);
            let nudge = nudged.is_none_or(|at| at.elapsed() >= NUDGE_INTERVAL);
            for (id, answer) in core.ask(&others, true, nudge).await {
                let term = Term(answer.term);
                if answer.granted && grant.is_none_or(|grant| grant.term < term) {
                    grant = Some(Grant { term, last: Index(answer.last) });
                    core.take_part(Part::Rejoining { granted: Some(term) });
                    nudged = nudge.then(Instant::now);
                } else if answer.granted && nudge {
                    nudged = Some(Instant::now());
                }
                answers.insert(id, Answer { past: answer.past().into(), term });
            }
            let status = core.status();
            let ids = others.iter().map(|peer| peer.id.clone()).collect();
            match lacks(&answers, &ids, grant, status.term, status.applied) {
                None => break,
                Some(lacks) if reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) => {
                    match &lacks {
                        Lacks::Majority { .. } => tracing::error!("this node does not vote: {lacks}"),
                        _ => tracing::warn!("this node does not vote yet: {lacks}"),
                    }
                    reported = Some(Instant::now());
                }
                Some(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
        // From here on a log that goes back is again what the leader must not overlook.
        core.ask(&core.others(members), false, false).await;
        core.note(false).await?;
        core.take_part(Part::Whole);
        core.raft.runtime_config().elect(true);
        tracing::info!("caught up: this node votes again");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> NodeId {
        NodeId::parse(name).expect("a node's id")
    }

    fn answers(of: &[(&str, Past, u64)]) -> BTreeMap<NodeId, Answer> {
        of.iter().map(|(name, past, term)| (id(name), Answer { past: *past, term: Term(*term) })).collect()
    }

    #[test]
    fn a_cluster_is_new_if_a_majority_has_never_had_a_leader() {
        for (of, voters, want) in [
            (&[][..], 3, Verdict::Unknown),
            (&[("n2", Past::Empty, 0)], 3, Verdict::New),
            (&[("n2", Past::Unled, 0)], 3, Verdict::New),
            (&[("n2", Past::Empty, 0)], 5, Verdict::Unknown),
            (&[("n2", Past::Led, 1)], 5, Verdict::Lives),
            (&[("n2", Past::Empty, 0), ("n3", Past::Led, 1)], 3, Verdict::Lives),
            (&[("n2", Past::Empty, 0), ("n3", Past::Rejoining, 0)], 3, Verdict::Lives),
        ] {
            assert_eq!(judge(&answers(of), voters), want, "{of:?} of {voters}");
        }
    }

    #[test]
    fn a_node_votes_again_only_when_nothing_it_acknowledged_can_be_missing() {
        let others: BTreeSet<_> = ["n2", "n3"].map(id).into();
        let grant = Some(Grant { term: Term(8), last: Index(90) });
        let both = [("n2", Past::Led, 8), ("n3", Past::Led, 7)];
        let ask = |of: &[(&str, Past, u64)], grant, term, applied| lacks(&answers(of), &others, grant, Term(term), applied);
        assert_eq!(ask(&both, grant, 8, Some(Index(90))), None);
        assert_eq!(ask(&both[..1], grant, 8, Some(Index(90))), Some(Lacks::Answers(vec![id("n3")])));
        assert_eq!(ask(&both, None, 8, Some(Index(90))), Some(Lacks::Grant));
        let entries = |applied| Some(Lacks::Entries { applied, wanted: Index(90) });
        assert_eq!(ask(&both, grant, 8, Some(Index(89))), entries(Some(Index(89))));
        assert_eq!(ask(&both, grant, 8, None), entries(None));
        // It may have voted for n3 in term 9.
        let higher = [("n2", Past::Led, 8), ("n3", Past::Led, 9)];
        assert_eq!(ask(&higher, grant, 8, Some(Index(90))), Some(Lacks::NewerLeader(Term(9))));
        assert_eq!(ask(&both, grant, 7, Some(Index(90))), Some(Lacks::NewerLeader(Term(8))));
        for past in [Past::Empty, Past::Rejoining] {
            let lost = [("n2", Past::Led, 8), ("n3", past, 0)];
            assert_eq!(ask(&lost, grant, 8, Some(Index(90))), Some(Lacks::Majority { lost: 2, voters: 3 }));
        }
    }

    #[test]
    fn two_of_five_may_be_lost_at_once() {
        let others: BTreeSet<_> = ["n2", "n3", "n4", "n5"].map(id).into();
        let grant = Some(Grant { term: Term(3), last: Index(9) });
        let mut of = vec![("n2", Past::Led, 3), ("n3", Past::Led, 3), ("n4", Past::Unled, 0), ("n5", Past::Empty, 0)];
        assert_eq!(lacks(&answers(&of), &others, grant, Term(3), Some(Index(9))), None);
        of[2] = ("n4", Past::Rejoining, 3);
        let majority = Some(Lacks::Majority { lost: 3, voters: 5 });
        assert_eq!(lacks(&answers(&of), &others, grant, Term(3), Some(Index(9))), majority);
    }

    #[test]
    fn a_node_that_rejoins_listens_to_the_leader_that_granted_it_only() {
        let part = Part::Rejoining { granted: Some(Term(4)) };
        assert!(part.admits(4) && !part.admits(3) && !part.admits(5) && !part.votes());
        assert!(!Part::Rejoining { granted: None }.admits(4) && !Part::Waiting.admits(4) && !Part::Waiting.votes());
        assert!(Part::Whole.admits(4) && Part::Whole.votes());
    }
}

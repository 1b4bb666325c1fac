//! Whether all replicas hold the same: each notes its state hash when it applies a check, an entry that changes nothing, and they
//! compare what they noted at the same entry.
//!
//! Always: a replica judges itself. One that holds another state than a majority of the voters, who agree with each other, says so
//! loudly and gives up what it has: at its next start it is fed again ([`crate::rejoin`]). Where there is no majority nobody can say
//! who is right: then all say so, and nothing is given up. Nobody can be told by another that it is wrong.
//! Notes live in memory: a replica that was started after a check has nothing to compare, which is no divergence.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use proto::peer;
use storage::quarantine::Scope;
use storage::table::ApplyError;
use storage::{Applied, Batch, Change, Committed, Outcome, StateHash, Table};
use tokio::time::Instant;
use types::{Index, NodeId, Position, Term};

use crate::handle::{Core, ProposeError, Raft, Role};
use crate::transport::Peer;
use crate::watch;

/// Notes that a node keeps.
const NOTES_MAX: usize = 64;
/// How long a node that is asked waits until it has applied the check.
const APPLY_MAX: Duration = Duration::from_secs(2);
/// How often a leader looks whether it has made a snapshot, after which it checks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A batch that asks and changes nothing.
pub(crate) fn entry() -> Bytes {
    Batch::default().encode().expect("a batch without keys and values is within every limit")
}

fn is_check(committed: &Committed) -> bool {
    matches!(&committed.change, Change::Batch(batch) if batch.expectations.is_empty() && batch.writes.is_empty())
}

/// What a table held at one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// The entry.
    pub position: Position,
    /// How many keys.
    pub keys: u64,
    /// The sum of the lengths of keys and values.
    pub bytes: u64,
    /// Over all of it.
    pub hash: StateHash,
}

/// What one member holds at the check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberCheck {
    /// The member.
    pub id: NodeId,
    /// Whether it votes.
    pub voter: bool,
    /// What it noted; `None` if it did not answer, has not come so far, or was started after the check.
    pub totals: Option<Totals>,
    /// Whether it holds what the majority of the voters holds; `None` if it has no note, or if there is no majority.
    pub agrees: Option<bool>,
}

/// What a comparison came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The entry at which the states are compared.
    pub index: Index,
    /// In the order of their ids.
    pub members: Vec<MemberCheck>,
}

impl Check {
    /// Whether two members hold different states.
    pub fn is_divergent(&self) -> bool {
        let mut noted = self.members.iter().filter_map(|member| member.totals);
        let first = noted.next();
        noted.any(|totals| Some(totals) != first)
    }

    fn judge(index: Index, mut members: Vec<MemberCheck>) -> Check {
        let voters = members.iter().filter(|member| member.voter).count();
        let with = |totals: Totals| members.iter().filter(|member| member.voter && member.totals == Some(totals)).count();
        let right = members.iter().filter_map(|member| member.totals).find(|totals| 2 * with(*totals) > voters);
        for member in &mut members {
            member.agrees = member.totals.and_then(|totals| right.map(|right| totals == right));
        }
        Check { index, members }
    }
}

/// What this node noted, and what the last comparison came to.
#[derive(Clone)]
pub(crate) struct Notes(Arc<Inner>);

struct Inner {
    notes: Mutex<VecDeque<Totals>>,
    newest: watch::Sender<Option<Index>>,
    last: Mutex<Option<Check>>,
}

impl Notes {
    pub(crate) fn new() -> Notes {
        let (newest, _) = watch::channel(None);
        Notes(Arc::new(Inner { notes: Mutex::default(), newest, last: Mutex::default() }))
    }

    /// Applies entries, and notes what the table holds after each check among them.
    pub(crate) fn apply(&self, table: &dyn Table, changes: &[Committed]) -> Result<Vec<Outcome>, ApplyError> {
        let mut outcomes = Vec::with_capacity(changes.len());
        for run in changes.split_inclusive(is_check) {
            outcomes.extend(table.apply(run)?);
            if run.last().is_some_and(is_check) {
                self.put(&table.applied());
            }
        }
        Ok(outcomes)
    }

    fn put(&self, applied: &Applied) {
        let Some(position) = applied.position else { return };
        let mut notes = self.0.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() == NOTES_MAX {
            notes.pop_front();
        }
        notes.push_back(Totals { position, keys: applied.keys, bytes: applied.bytes, hash: applied.hash });
        drop(notes);
        self.0.newest.send_replace(Some(position.index));
    }

    fn at(&self, index: Index) -> Option<Totals> {
        let notes = self.0.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.iter().rev().find(|totals| totals.position.index == index).copied()
    }
}

impl Core {
    /// Tells a peer what this node noted.
    pub(crate) async fn answer_check(&self, request: &peer::CheckRequest) -> peer::CheckResponse {
        let index = Index(request.index);
        self.wait_applied(index, Instant::now() + APPLY_MAX).await;
        let totals = self.notes.at(index).map(|totals| peer::Totals {
            position: Some(peer::Position { term: totals.position.term.0, index: totals.position.index.0 }),
            keys: totals.keys,
            bytes: totals.bytes,
            hash: Bytes::copy_from_slice(&totals.hash.to_bytes()),
        });
        peer::CheckResponse { totals }
    }

    /// Asks every member what it noted at `index`.
    async fn compare(&self, index: Index) -> Check {
        let members = self.status().members.into_iter().map(|info| async move {
            let totals = if info.id == self.node_id {
                self.notes.at(index)
            } else {
                let to = Arc::new(Peer { id: info.id.clone(), member: info.member });
                let answer = self.transport.check(to, peer::CheckRequest { index: index.0 }).await.ok();
                answer.and_then(|answer| answer.totals).and_then(|totals| totals_from_peer(&totals))
            };
            MemberCheck { id: info.id, voter: info.voter, totals, agrees: None }
        });
        Check::judge(index, join_all(members).await)
    }

    /// Compares, says what is wrong, and gives up what this node has if it is the one.
    async fn settle(&self, index: Index) -> Check {
        let check = self.compare(index).await;
        *self.notes.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(check.clone());
        if !check.is_divergent() {
            return check;
        }
        for member in &check.members {
            let (id, totals) = (&member.id, &member.totals);
            match member.agrees {
                Some(true) => {}
                Some(false) => {
                    tracing::error!(member = %id, index = index.0, ?totals, "REPLICAS DIVERGE: a member holds another state than the majority")
                }
                None => {
                    tracing::error!(member = %id, index = index.0, ?totals, "REPLICAS DIVERGE, and no majority says which state is right")
                }
            }
        }
        if check.members.iter().any(|member| member.id == self.node_id && member.agrees == Some(false)) {
            let reason = format!("the table holds another state at entry {index} than the majority of the cluster");
            self.condemn(Scope::Everything, reason).await;
        }
        check
    }
}

fn totals_from_peer(totals: &peer::Totals) -> Option<Totals> {
    let position = totals.position.as_ref()?;
    Some(Totals {
        position: Position { term: Term(position.term), index: Index(position.index) },
        keys: totals.keys,
        bytes: totals.bytes,
        hash: StateHash::from_bytes(totals.hash[..].try_into().ok()?),
    })
}

impl Raft {
    /// Has every replica note what it holds at one entry, and compares. A replica that differs from the majority is named in the
    /// traces, and gives up what it has.
    ///
    /// # Errors
    /// As [`Raft::propose`].
    pub async fn check(&self) -> Result<Check, ProposeError> {
        let index = self.propose(entry()).await?;
        Ok(self.core.settle(index).await)
    }

    /// What the newest comparison on this node came to.
    pub fn last_check(&self) -> Option<Check> {
        self.core.notes.0.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Compares after each check that anyone has proposed. Runs until the node stops.
pub(crate) async fn watch_checks(core: Arc<Core>) {
    let mut newest = core.notes.0.newest.subscribe();
    let mut done = None;
    loop {
        tokio::select! {
            biased;
            () = core.stop.cancelled() => return,
            changed = newest.changed() => if changed.is_err() { return },
        }
        let index = *newest.borrow();
        // A node that is being fed again applies old checks too: those are nobody's any more.
        if let Some(index) = index.filter(|_| index != done && core.votes()) {
            core.settle(index).await;
            done = Some(index);
        }
    }
}

/// While this node leads: has the replicas compared after each of its snapshots. Runs until the node stops.
pub(crate) async fn check_at_snapshots(core: Arc<Core>) {
    let position = |core: &Core| core.snapshots.store().current().and_then(|info| info.applied.position);
    let mut checked = position(&core);
    loop {
        tokio::select! {
            biased;
            () = core.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
        let newest = position(&core);
        if newest != checked && core.status().role == Role::Leader && !core.is_disk_full() {
            checked = newest;
            // Whether it is committed shows when it is applied.
            drop(core.raft.client_write(core.stamp(entry())).await);
        }
    }
}

/// The newest comparison, by member: for metrics.
pub fn disagreeing(check: &Check) -> BTreeMap<&NodeId, bool> {
    check.members.iter().filter_map(|member| member.agrees.map(|agrees| (&member.id, !agrees))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, voter: bool, bytes: Option<u64>) -> MemberCheck {
        let totals = bytes.map(|bytes| {
            let position = Position { term: Term(1), index: Index(9) };
            Totals { position, keys: 1, bytes, hash: StateHash::EMPTY }
        });
        MemberCheck { id: NodeId::parse(id).expect("an id"), voter, totals, agrees: None }
    }

    #[test]
    fn the_majority_of_the_voters_is_right_and_without_one_nobody_is() {
        for (members, agree, divergent) in [
            (vec![("n1", true, Some(1)), ("n2", true, Some(1)), ("n3", true, Some(1))], vec![Some(true); 3], false),
            (vec![("n1", true, Some(1)), ("n2", true, Some(2)), ("n3", true, Some(1))], vec![Some(true), Some(false), Some(true)], true),
            // One that does not answer is no witness.
            (vec![("n1", true, Some(1)), ("n2", true, Some(2)), ("n3", true, None)], vec![None; 3], true),
            (vec![("n1", true, Some(1)), ("n2", true, Some(1)), ("n3", true, None)], vec![Some(true), Some(true), None], false),
            // Learners count for nothing, but are judged.
            (vec![("n1", true, Some(1)), ("n2", false, Some(2)), ("n3", false, Some(2))], vec![Some(true), Some(false), Some(false)], true),
            (vec![("n1", true, Some(1)), ("n2", true, Some(2))], vec![None, None], true),
        ] {
            let check = Check::judge(Index(9), members.iter().map(|(id, voter, bytes)| member(id, *voter, *bytes)).collect());
            let found: Vec<_> = check.members.iter().map(|member| member.agrees).collect();
            assert_eq!((found, check.is_divergent()), (agree, divergent), "{members:?}");
        }
    }
}

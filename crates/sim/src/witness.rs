//! [`Witness`]: sees every message and every applied entry of the cluster, and remembers what must not happen.
//!
//! Its invariants hold at every moment, so each is checked where it could break, not only between steps.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};

use proto::peer;
use storage::snapshot::SnapshotReader;
use storage::table::{ApplyError, FlushError, ReadError, ReplaceError};
use storage::{Applied, Change, Committed, MemoryTable, Outcome, StateHash, Table, TableView};
use types::{NodeId, Position};

use crate::canary::Canaries;

/// What must hold. Each reads as a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invariant {
    /// No two nodes send entries as leaders of one term.
    OneLeaderPerTerm,
    /// No node grants its vote to two candidates in one term, not even across a crash.
    OneVotePerTerm,
    /// Two tables that have applied the same entry hold the same.
    AppliedPrefixesAgree,
    /// A table's counts and hash are those of its cells.
    TablesAreWhole,
    /// Every version of a secret whose write was acknowledged can be read.
    NothingAcknowledgedIsLost,
    /// The history of each secret is linearizable.
    HistoryIsLinearizable,
    /// Neither disks nor messages hold secrets in plaintext.
    NoPlaintextBelowBarrier,
    /// A node starts from whatever a crash has left.
    EveryRestartSucceeds,
    /// No node's Raft fails unless its disk did.
    NoNodeFailsByItself,
    /// No task panics.
    NoTaskPanics,
    /// Nothing of a crashed node goes on.
    CrashedNodesLeaveNothing,
    /// A quorum of shares, entered anywhere, opens every node.
    QuorumOpensEveryNode,
    /// Once all faults are over, every node serves again.
    ServesAgainWhenHealed,
    /// Once all is quiet, all nodes hold the same.
    AllNodesConverge,
    /// No nonce encrypts two values under one key.
    NonceEncryptsOneValue,
}

/// An invariant that was broken, and how. Holds no secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub invariant: Invariant,
    /// What was seen.
    pub seen: String,
}

impl Violation {
    /// `invariant` is broken, as `seen` tells.
    pub fn new(invariant: Invariant, seen: impl fmt::Display) -> Violation {
        Violation { invariant, seen: seen.to_string() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.seen)
    }
}

impl std::error::Error for Violation {}

/// Before a value's nonce: format (1 byte) and version of the key (4).
const VALUE_HEADER_BYTES: usize = 5;
const NONCE_BYTES: usize = 12;

/// The witness. Clones are one.
#[derive(Clone, Default)]
pub struct Witness(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    leaders: BTreeMap<u64, String>,
    votes: BTreeMap<(NodeId, u64), String>,
    states: BTreeMap<Position, (StateHash, NodeId)>,
    /// By the version of the value key: each nonce, and what it encrypted.
    nonces: BTreeMap<u32, BTreeMap<[u8; NONCE_BYTES], u64>>,
    /// Must not be seen on the wire.
    canaries: Canaries,
    /// The first one; what follows from it is of no interest.
    violation: Option<Violation>,
}

impl Witness {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().expect("nothing panics while it holds the witness")
    }

    /// From now on, these must not be seen on the wire.
    pub fn watch_for(&self, canaries: Canaries) {
        self.seen().canaries = canaries;
    }

    /// How often each value key was used, by its version, in all that was committed, whether it took effect or not.
    pub fn encryptions(&self) -> BTreeMap<u32, usize> {
        self.seen().nonces.iter().map(|(version, nonces)| (*version, nonces.len())).collect()
    }

    /// What was seen first of what must not happen.
    pub fn violation(&self) -> Option<Violation> {
        self.seen().violation.clone()
    }

    /// Remembers a violation, unless there was one before.
    pub fn accuse(&self, invariant: Invariant, seen: impl fmt::Display) {
        self.seen().accuse(invariant, seen);
    }

    /// Looks at the bytes of a message.
    pub(crate) fn saw_message(&self, call: &str, bytes: &[u8]) {
        let mut seen = self.seen();
        if let Some(name) = seen.canaries.find_in(bytes) {
            seen.accuse(Invariant::NoPlaintextBelowBarrier, format_args!("{name} in a message of {call}"));
        }
    }

    /// Only leaders send entries.
    pub(crate) fn saw_append(&self, from: &NodeId, request: &peer::AppendRequest) {
        let Some(vote) = &request.vote else { return };
        let mut seen = self.seen();
        if vote.node_id != from.as_str() {
            seen.accuse(Invariant::OneLeaderPerTerm, format_args!("{from} sends entries under the vote for {}", vote.node_id));
        }
        let leader = seen.leaders.entry(vote.term).or_insert_with(|| vote.node_id.clone()).clone();
        if leader != vote.node_id {
            seen.accuse(Invariant::OneLeaderPerTerm, format_args!("both {leader} and {from} lead in term {}", vote.term));
        }
    }

    /// A vote, in answer to a request that was no mere question.
    pub(crate) fn saw_vote(&self, voter: &NodeId, request: &peer::VoteRequest, response: &peer::VoteResponse) {
        let Some(vote) = request.vote.as_ref().filter(|_| response.granted && !request.pre_vote) else { return };
        let mut seen = self.seen();
        let earlier = seen.votes.entry((voter.clone(), vote.term)).or_insert_with(|| vote.node_id.clone()).clone();
        if earlier != vote.node_id {
            let what = format_args!("{voter} votes for {earlier} and for {} in term {}", vote.node_id, vote.term);
            seen.accuse(Invariant::OneVotePerTerm, what);
        }
    }

    fn saw_values(&self, committed: &Committed) {
        let Change::Batch(batch) = &committed.change else { return };
        let mut seen = self.seen();
        for write in batch.writes.iter().filter(|write| write.key.first() == Some(&barrier::AREA_SEALED)) {
            let Some(value) = &write.value else { continue };
            let Some((header, rest)) = value.split_at_checked(VALUE_HEADER_BYTES) else { continue };
            let Some(nonce) = rest.first_chunk::<NONCE_BYTES>() else { continue };
            let version = u32::from_be_bytes(*header.last_chunk().expect("a header has 5 bytes"));
            let mut hasher = DefaultHasher::new();
            (&write.key, value).hash(&mut hasher);
            let hash = hasher.finish();
            // The same entry is applied by each node, and a proposal whose fate was unknown may be committed twice.
            if *seen.nonces.entry(version).or_default().entry(*nonce).or_insert(hash) != hash {
                seen.accuse(Invariant::NonceEncryptsOneValue, format_args!("two values under version {version} in {}", committed.position));
            }
        }
    }

    fn saw_state(&self, node: &NodeId, applied: &Applied) {
        let Some(position) = applied.position else { return };
        let mut seen = self.seen();
        match seen.states.entry(position) {
            Entry::Vacant(entry) => _ = entry.insert((applied.hash, node.clone())),
            Entry::Occupied(entry) => {
                let (hash, other) = entry.get().clone();
                if hash != applied.hash {
                    let what = format_args!("after entry {position}, {other} holds {hash:?} and {node} {:?}", applied.hash);
                    seen.accuse(Invariant::AppliedPrefixesAgree, what);
                }
            }
        }
    }
}

impl Seen {
    fn accuse(&mut self, invariant: Invariant, seen: impl fmt::Display) {
        self.violation.get_or_insert_with(|| Violation::new(invariant, seen));
    }
}

/// A node's table, under the eyes of the witness: entries are applied one by one, and each state is compared with what other
/// nodes, and earlier lives of this one, had at that entry.
pub(crate) struct WitnessedTable {
    table: MemoryTable,
    node: NodeId,
    witness: Witness,
}

impl WitnessedTable {
    /// An empty table.
    pub(crate) fn new(node: NodeId, witness: Witness) -> WitnessedTable {
        WitnessedTable { table: MemoryTable::new(), node, witness }
    }
}

impl Table for WitnessedTable {
    fn view(&self) -> Result<Arc<dyn TableView>, ReadError> {
        self.table.view()
    }

    fn apply(&self, committed: &[Committed]) -> Result<Vec<Outcome>, ApplyError> {
        let mut outcomes = Vec::with_capacity(committed.len());
        for entry in committed {
            self.witness.saw_values(entry);
            outcomes.extend(self.table.apply(std::slice::from_ref(entry))?);
            self.witness.saw_state(&self.node, &self.table.applied());
        }
        Ok(outcomes)
    }

    fn applied(&self) -> Applied {
        self.table.applied()
    }

    fn flush(&self) -> Result<Option<Position>, FlushError> {
        self.table.flush()
    }

    fn durable(&self) -> Option<Position> {
        self.table.durable()
    }

    fn note_snapshot(&self, position: Position) {
        self.table.note_snapshot(position);
    }

    fn replace(&self, snapshot: &mut SnapshotReader) -> Result<(), ReplaceError> {
        self.table.replace(snapshot)?;
        self.witness.saw_state(&self.node, &self.table.applied());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use storage::{Batch, Write};
    use types::{Index, Term};

    use super::*;

    fn append(term: u64, leader: &str) -> peer::AppendRequest {
        let vote = peer::Vote { term, node_id: leader.into(), committed: true };
        peer::AppendRequest { vote: Some(vote), ..peer::AppendRequest::default() }
    }

    fn broken(witness: &Witness) -> Option<Invariant> {
        witness.violation().map(|violation| violation.invariant)
    }

    #[test]
    fn two_leaders_of_one_term_are_seen() {
        let witness = Witness::default();
        let [first, second] = [1, 2].map(NodeId::from);
        witness.saw_append(&first, &append(1, "1"));
        witness.saw_append(&second, &append(2, "2"));
        witness.saw_append(&first, &append(1, "1"));
        assert_eq!(broken(&witness), None);
        witness.saw_append(&first, &append(2, "1"));
        assert_eq!(broken(&witness), Some(Invariant::OneLeaderPerTerm));
    }

    #[test]
    fn two_votes_in_one_term_are_seen() {
        let witness = Witness::default();
        let voter = NodeId::from(3);
        let ask = |candidate: &str, pre_vote| peer::VoteRequest {
            vote: Some(peer::Vote { term: 5, node_id: candidate.into(), committed: false }),
            pre_vote,
            ..peer::VoteRequest::default()
        };
        let granted = peer::VoteResponse { granted: true, ..peer::VoteResponse::default() };
        let refused = peer::VoteResponse::default();
        witness.saw_vote(&voter, &ask("1", true), &granted);
        witness.saw_vote(&voter, &ask("2", false), &granted);
        witness.saw_vote(&voter, &ask("1", false), &refused);
        assert_eq!(broken(&witness), None);
        witness.saw_vote(&voter, &ask("1", false), &granted);
        assert_eq!(broken(&witness), Some(Invariant::OneVotePerTerm));
    }

    #[test]
    fn tables_that_differ_after_the_same_entry_are_seen() {
        let witness = Witness::default();
        let entry = |index, value: &'static str| Committed {
            position: Position { term: Term(1), index: Index(index) },
            change: Change::Batch(Batch {
                expectations: vec![],
                writes: vec![Write { key: Bytes::from_static(b"key"), value: Some(Bytes::from_static(value.as_bytes())) }],
            }),
        };
        let tables = [1, 2].map(|node| WitnessedTable::new(NodeId::from(node), witness.clone()));
        tables[0].apply(&[entry(1, "a"), entry(2, "b"), entry(3, "c")]).unwrap();
        tables[1].apply(&[entry(1, "a")]).unwrap();
        tables[1].apply(&[entry(2, "b")]).unwrap();
        assert_eq!(broken(&witness), None);
        // They differ in the middle of what the first applied at once.
        let third = WitnessedTable::new(NodeId::from(3), witness.clone());
        third.apply(&[entry(1, "a"), entry(2, "x")]).unwrap();
        assert_eq!(broken(&witness), Some(Invariant::AppliedPrefixesAgree));
    }

    #[test]
    fn a_nonce_that_encrypts_two_values_is_seen() {
        let witness = Witness::default();
        let value = |version: u8, nonce: u8, text: &[u8]| {
            let mut value = vec![1, 0, 0, 0, version];
            value.extend_from_slice(&[nonce; NONCE_BYTES]);
            value.extend_from_slice(text);
            let write = Write { key: Bytes::from_static(&[barrier::AREA_SEALED, 7]), value: Some(value.into()) };
            let change = Change::Batch(Batch { expectations: vec![], writes: vec![write] });
            Committed { position: Position { term: Term(1), index: Index(1) }, change }
        };
        for committed in [value(1, 1, b"a"), value(1, 1, b"a"), value(2, 1, b"b"), value(1, 2, b"b")] {
            witness.saw_values(&committed);
        }
        assert_eq!(broken(&witness), None);
        assert_eq!(witness.encryptions(), BTreeMap::from([(1, 2), (2, 1)]));
        witness.saw_values(&value(1, 1, b"b"));
        assert_eq!(broken(&witness), Some(Invariant::NonceEncryptsOneValue));
    }

    #[test]
    fn canaries_on_the_wire_are_seen() {
        let witness = Witness::default();
        let mut canaries = Canaries::default();
        canaries.add("canary", b"tweet tweet tweet");
        witness.watch_for(canaries);
        witness.saw_message("append", b"........");
        assert_eq!(broken(&witness), None);
        witness.saw_message("append", b"..tweet tweet tweet..");
        assert_eq!(broken(&witness), Some(Invariant::NoPlaintextBelowBarrier));
    }
}

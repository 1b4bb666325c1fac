//! Between openraft's types and the messages of `/proto`, in both directions.
//!
//! Foreign bytes become an error that names the field; nothing here panics.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::impls::leader_id_std;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest, VoteResponse};
use openraft::vote::RaftLeaderId;
use prost::Message;
use proto::{peer, stored};
use types::{Index, NodeId, Position, Term, Timestamp};

use crate::config::{Entry, KeyPin, LogId, Member, Membership, Proposal, StoredMembership, TypeConfig, Vote};

/// The highest term and index that are believed: what is counted up from there does not overflow.
const COUNT_MAX: u64 = u64::MAX / 2;
/// By how much a peer's term may lie above the one it is compared with. Elections raise a term by one each, a few a second at
/// most; a peer that claims more would use terms up, so that one day none is left for an election.
const TERM_LEAP_MAX: u64 = 1 << 32;

/// Why bytes from a peer or from the log are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field holds what it cannot hold.
    #[error("{field}: {problem}")]
    Invalid {
        /// Which one.
        field: &'static str,
        /// What is wrong with it; never its content.
        problem: String,
    },
}

fn invalid(field: &'static str, problem: impl ToString) -> CodecError {
    CodecError::Invalid { field, problem: problem.to_string() }
}

pub(crate) fn position_of(id: &LogId) -> Position {
    Position { term: Term(**id.committed_leader_id()), index: Index(id.index()) }
}

pub(crate) fn log_id_of(position: Position) -> LogId {
    LogId::new(leader_id_std::LeaderId::<u64, NodeId>::new(position.term.0, NodeId::from(0)).to_committed(), position.index.0)
}

pub(crate) fn position_to_peer(id: &LogId) -> peer::Position {
    let position = position_of(id);
    peer::Position { term: position.term.0, index: position.index.0 }
}

pub(crate) fn position_from_peer(position: &peer::Position) -> Result<LogId, CodecError> {
    if position.index > COUNT_MAX || position.term > COUNT_MAX {
        return Err(invalid("position", "no log gets so far"));
    }
    Ok(log_id_of(Position { term: Term(position.term), index: Index(position.index) }))
}

fn optional_position(position: Option<&peer::Position>) -> Result<Option<LogId>, CodecError> {
    position.map(position_from_peer).transpose()
}

/// A position in the log of whoever sends `vote`: of no later term.
fn position_of_sender(position: Option<&peer::Position>, vote: &Vote) -> Result<Option<LogId>, CodecError> {
    if position.is_some_and(|position| position.term > vote.leader_id.term()) {
        return Err(invalid("position", "of a later term than the sender's"));
    }
    optional_position(position)
}

pub(crate) fn term_of(vote: &Vote) -> u64 {
    vote.leader_id.term()
}

/// Refuses a peer's vote whose term lies absurdly far above `known`.
pub(crate) fn check_leap(vote: &Vote, known: u64) -> Result<(), CodecError> {
    if term_of(vote) > known.saturating_add(TERM_LEAP_MAX) {
        return Err(invalid("vote.term", "far above any term that elections can have come to"));
    }
    Ok(())
}

pub(crate) fn vote_to_peer(vote: &Vote) -> peer::Vote {
    peer::Vote { term: vote.leader_id.term(), node_id: vote.leader_id.node_id().to_string(), committed: vote.committed }
}

pub(crate) fn vote_from_peer(vote: Option<&peer::Vote>) -> Result<Vote, CodecError> {
    let vote = vote.ok_or(CodecError::Missing("vote"))?;
    if vote.term > COUNT_MAX {
        return Err(invalid("vote.term", "no election gets so far"));
    }
    let node_id = node_id(&vote.node_id, "vote.node_id")?;
    Ok(if vote.committed { Vote::new_committed(vote.term, node_id) } else { Vote::new(vote.term, node_id) })
}

pub(crate) fn node_id(text: &str, field: &'static str) -> Result<NodeId, CodecError> {
    NodeId::parse(text).map_err(|error| invalid(field, error))
}

/// A vote as it lies in the log.
pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    vote_to_peer(vote).encode_to_vec().into()
}

pub(crate) fn decode_vote(bytes: &Bytes) -> Result<Vote, CodecError> {
    let vote = peer::Vote::decode(bytes.clone()).map_err(|error| invalid("vote", error))?;
    vote_from_peer(Some(&vote))
}

/// An entry's payload as it lies in the log and travels between peers.
pub(crate) fn encode_payload(entry: &Entry) -> Bytes {
    let change = match &entry.payload {
        EntryPayload::Blank => stored::entry::Change::Blank(stored::Blank {}),
        EntryPayload::Normal(proposal) => {
            stored::entry::Change::Proposal(stored::Proposal { time_ms: proposal.time.0, batch: proposal.batch.clone() })
        }
        EntryPayload::Membership(membership) => stored::entry::Change::Membership(membership_to_stored(membership)),
    };
    stored::Entry { change: Some(change) }.encode_to_vec().into()
}

pub(crate) fn decode_entry(position: Position, payload: Bytes) -> Result<Entry, CodecError> {
    let entry = stored::Entry::decode(payload).map_err(|error| invalid("entry.payload", error))?;
    let payload = match entry.change.ok_or(CodecError::Missing("entry.payload.change"))? {
        stored::entry::Change::Blank(_) => EntryPayload::Blank,
        stored::entry::Change::Membership(membership) => EntryPayload::Membership(membership_from_stored(&membership)?),
        stored::entry::Change::Proposal(proposal) => {
            EntryPayload::Normal(Proposal { time: Timestamp(proposal.time_ms), batch: proposal.batch })
        }
    };
    Ok(Entry::new(log_id_of(position), payload))
}

fn membership_to_stored(membership: &Membership) -> stored::Membership {
    let voters =
        membership.get_joint_config().iter().map(|set| stored::Voters { node_ids: set.iter().map(NodeId::to_string).collect() }).collect();
    let members = membership
        .nodes()
        .map(|(id, member)| stored::Member {
            node_id: id.to_string(),
            cluster_address: member.cluster_address.clone(),
            api_address: member.api_address.clone(),
            key_sha256: member.key.map(|key| key.0.to_vec()).unwrap_or_default(),
            non_voter: member.non_voter,
        })
        .collect();
    stored::Membership { voters, members }
}

/// Empty: no key is pinned.
pub(crate) fn key_pin(bytes: &[u8]) -> Result<Option<KeyPin>, CodecError> {
    match (bytes.is_empty(), <[u8; 32]>::try_from(bytes)) {
        (true, _) => Ok(None),
        (false, Ok(hash)) => Ok(Some(KeyPin(hash))),
        (false, Err(_)) => Err(invalid("key_sha256", format_args!("{} bytes, not 32", bytes.len()))),
    }
}

fn membership_from_stored(membership: &stored::Membership) -> Result<Membership, CodecError> {
    let mut voters = Vec::with_capacity(membership.voters.len());
    for set in &membership.voters {
        let ids: Result<BTreeSet<_>, _> = set.node_ids.iter().map(|id| node_id(id, "membership.voters")).collect();
        voters.push(ids?);
    }
    let mut members = BTreeMap::new();
    for member in &membership.members {
        let place = Member {
            cluster_address: member.cluster_address.clone(),
            api_address: member.api_address.clone(),
            key: key_pin(&member.key_sha256)?,
            non_voter: member.non_voter,
        };
        members.insert(node_id(&member.node_id, "membership.members")?, place);
    }
    Membership::new(voters, members).map_err(|error| invalid("membership", error))
}

pub(crate) fn encode_membership(membership: &Membership) -> Bytes {
    membership_to_stored(membership).encode_to_vec().into()
}

pub(crate) fn decode_membership(stored: Option<&(Position, Bytes)>) -> Result<StoredMembership, CodecError> {
    let Some((position, bytes)) = stored else {
        return Ok(StoredMembership::default());
    };
    let membership = stored::Membership::decode(bytes.clone()).map_err(|error| invalid("membership", error))?;
    Ok(StoredMembership::new(Some(log_id_of(*position)), membership_from_stored(&membership)?))
}

pub(crate) fn append_to_peer(request: &AppendEntriesRequest<TypeConfig>) -> peer::AppendRequest {
    let entries = request
        .entries
        .iter()
        .map(|entry| peer::Entry { position: Some(position_to_peer(&entry.log_id)), payload: encode_payload(entry) })
        .collect();
    peer::AppendRequest {
        vote: Some(vote_to_peer(&request.vote)),
        previous: request.prev_log_id.as_ref().map(position_to_peer),
        entries,
        committed: request.leader_commit.as_ref().map(position_to_peer),
    }
}

pub(crate) fn append_from_peer(request: peer::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, CodecError> {
    let vote = vote_from_peer(request.vote.as_ref())?;
    let prev_log_id = position_of_sender(request.previous.as_ref(), &vote)?;
    let leader_commit = position_of_sender(request.committed.as_ref(), &vote)?;
    let first = request.previous.map_or(0, |position| position.index.saturating_add(1));
    let mut entries = Vec::with_capacity(request.entries.len());
    for (index, entry) in (first..).zip(request.entries) {
        let position = entry.position.ok_or(CodecError::Missing("entries.position"))?;
        if position.index != index || position.term > vote.leader_id.term() {
            return Err(invalid("entries.position", "not consecutive, or of a later term than the sender's"));
        }
        entries.push(decode_entry(position_of(&position_from_peer(&position)?), entry.payload)?);
    }
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

pub(crate) fn appended_to_peer(result: &StreamAppendResult<TypeConfig>) -> peer::AppendResponse {
    use peer::append_response::Outcome;
    let outcome = match result {
        Ok(last) => Outcome::Success(peer::Done { last: last.as_ref().map(position_to_peer) }),
        Err(StreamAppendError::Conflict(at)) => Outcome::Conflict(position_to_peer(at)),
        Err(StreamAppendError::HigherVote(vote)) => Outcome::HigherVote(vote_to_peer(vote)),
    };
    peer::AppendResponse { outcome: Some(outcome) }
}

pub(crate) fn appended_from_peer(response: peer::AppendResponse) -> Result<StreamAppendResult<TypeConfig>, CodecError> {
    use peer::append_response::Outcome;
    Ok(match response.outcome.ok_or(CodecError::Missing("outcome"))? {
        Outcome::Success(done) => Ok(optional_position(done.last.as_ref())?),
        Outcome::Conflict(at) => Err(StreamAppendError::Conflict(position_from_peer(&at)?)),
        Outcome::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_from_peer(Some(&vote))?)),
    })
}

pub(crate) fn vote_request_to_peer(request: &VoteRequest<TypeConfig>, pre_vote: bool) -> peer::VoteRequest {
    peer::VoteRequest {
        vote: Some(vote_to_peer(&request.vote)),
        last: request.last_log_id.as_ref().map(position_to_peer),
        pre_vote,
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_from_peer(request: &peer::VoteRequest) -> Result<VoteRequest<TypeConfig>, CodecError> {
    Ok(VoteRequest {
        vote: vote_from_peer(request.vote.as_ref())?,
        last_log_id: optional_position(request.last.as_ref())?,
        leadership_transfer: request.leadership_transfer,
    })
}

pub(crate) fn vote_response_to_peer(response: &VoteResponse<TypeConfig>) -> peer::VoteResponse {
    peer::VoteResponse {
        vote: Some(vote_to_peer(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(position_to_peer),
    }
}

pub(crate) fn vote_response_from_peer(response: &peer::VoteResponse) -> Result<VoteResponse<TypeConfig>, CodecError> {
    Ok(VoteResponse {
        vote: vote_from_peer(response.vote.as_ref())?,
        vote_granted: response.granted,
        last_log_id: optional_position(response.last.as_ref())?,
    })
}

pub(crate) fn transfer_to_peer(request: &TransferLeaderRequest<TypeConfig>) -> peer::TransferLeaderRequest {
    peer::TransferLeaderRequest {
        from: Some(vote_to_peer(request.from_leader())),
        to: request.to_node_id().to_string(),
        last: request.last_log_id().map(position_to_peer),
    }
}

pub(crate) fn transfer_from_peer(request: &peer::TransferLeaderRequest) -> Result<TransferLeaderRequest<TypeConfig>, CodecError> {
    let from = vote_from_peer(request.from.as_ref())?;
    Ok(TransferLeaderRequest::new(from, node_id(&request.to, "to")?, optional_position(request.last.as_ref())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(term: u64) -> Option<peer::Vote> {
        Some(peer::Vote { term, node_id: "n2".into(), committed: true })
    }

    fn at(term: u64, index: u64) -> peer::Position {
        peer::Position { term, index }
    }

    fn append(vote_term: u64, previous: Option<peer::Position>, entries: &[peer::Position]) -> peer::AppendRequest {
        let payload = Bytes::from(stored::Entry { change: Some(stored::entry::Change::Blank(stored::Blank {})) }.encode_to_vec());
        let entries = entries.iter().map(|position| peer::Entry { position: Some(*position), payload: payload.clone() }).collect();
        peer::AppendRequest { vote: vote(vote_term), previous, entries, committed: None }
    }

    #[test]
    fn positions_that_would_overflow_are_refused() {
        assert!(append_from_peer(append(3, Some(at(3, 7)), &[at(3, 8), at(3, 9)])).is_ok());
        let refused = [
            append(u64::MAX, None, &[]),
            append(3, Some(at(3, u64::MAX)), &[]),
            append(3, Some(at(3, u64::MAX)), &[at(3, u64::MAX)]),
            append(3, Some(at(4, 7)), &[]),
            append(3, Some(at(3, 7)), &[at(3, 9)]),
            append(3, Some(at(3, 7)), &[at(4, 8)]),
            peer::AppendRequest { committed: Some(at(3, u64::MAX)), ..append(3, None, &[]) },
            peer::AppendRequest { committed: Some(at(4, 1)), ..append(3, None, &[]) },
            peer::AppendRequest { vote: None, ..append(3, None, &[]) },
        ];
        for (case, bad) in refused.into_iter().enumerate() {
            assert!(append_from_peer(bad).is_err(), "case {case}");
        }
        for outcome in [
            peer::append_response::Outcome::Success(peer::Done { last: Some(at(1, u64::MAX)) }),
            peer::append_response::Outcome::Conflict(at(u64::MAX, 1)),
            peer::append_response::Outcome::HigherVote(vote(u64::MAX).unwrap()),
        ] {
            assert!(appended_from_peer(peer::AppendResponse { outcome: Some(outcome) }).is_err());
        }
        assert!(vote_from_peer(vote(u64::MAX).as_ref()).is_err());
    }

    /// Golden bytes of memberships, as they lie in the log, in the table and in snapshots.
    #[test]
    fn golden_memberships() {
        let plain: &[u8] = include_bytes!("../../../tests/golden/raft/membership-v1.bin");
        let pinned: &[u8] = include_bytes!("../../../tests/golden/raft/membership-pinned-v1.bin");
        let non_voter: &[u8] = include_bytes!("../../../tests/golden/raft/membership-non-voter-v1.bin");
        for (golden, key, first) in [(plain, None, "n1"), (pinned, Some(KeyPin([7; 32])), "n1"), (non_voter, None, "n2")] {
            let place = |id: &str| Member {
                cluster_address: format!("https://{id}:8201"),
                api_address: format!("https://{id}:8200"),
                key,
                non_voter: first == "n2" && id == "n1",
            };
            let nodes = ["n1", "n2"].map(|id| (NodeId::parse(id).unwrap(), place(id)));
            let voters = BTreeSet::from([NodeId::parse(first).unwrap()]);
            let membership = Membership::new(vec![voters], BTreeMap::from(nodes)).unwrap();
            assert_eq!(encode_membership(&membership), golden);
            let read = stored::Membership::decode(golden).unwrap();
            assert_eq!(membership_from_stored(&read).unwrap(), membership);
        }
        let mut short = stored::Membership::decode(pinned).unwrap();
        short.members[0].key_sha256.pop();
        assert!(membership_from_stored(&short).is_err());
    }

    #[test]
    fn terms_cannot_be_used_up_by_one_message() {
        let at_term = |term| vote_from_peer(vote(term).as_ref()).unwrap();
        assert!(check_leap(&at_term(5 + TERM_LEAP_MAX), 5).is_ok());
        assert!(check_leap(&at_term(6 + TERM_LEAP_MAX), 5).is_err());
    }
}

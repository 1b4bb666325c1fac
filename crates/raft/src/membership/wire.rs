//! Between the types of [`super`] and the messages of `/proto/conclave/peer/v1`.

use std::time::Duration;

use proto::peer;
use types::{NodeId, Position, Term, Timestamp};

use super::{ChangeOptions, Health, MEMBERS_MAX, MemberChange, MemberFacts, MembersView, Refusal, RefusalKind};
use crate::codec::{self, CodecError};
use crate::config::Member;
use crate::handle::MemberInfo;

fn member_to_peer(id: &NodeId, member: &Member) -> peer::Member {
    peer::Member {
        node_id: id.to_string(),
        cluster_address: member.cluster_address.clone(),
        api_address: member.api_address.clone(),
        key_sha256: member.key.map(|key| key.0.to_vec().into()).unwrap_or_default(),
        non_voter: member.non_voter,
    }
}

fn member_from_peer(member: Option<peer::Member>) -> Result<(NodeId, Member), CodecError> {
    let member = member.ok_or(CodecError::Missing("member"))?;
    let id = codec::node_id(&member.node_id, "member.node_id")?;
    let key = codec::key_pin(&member.key_sha256)?;
    let (cluster_address, api_address, non_voter) = (member.cluster_address, member.api_address, member.non_voter);
    Ok((id, Member { cluster_address, api_address, key, non_voter }))
}

pub(super) fn request_to_peer(asked: Option<&(MemberChange, ChangeOptions)>, resumed: bool) -> peer::MembershipRequest {
    let options = asked.map(|(_, options)| options.clone()).unwrap_or_default();
    peer::MembershipRequest {
        change: asked.map(|(change, _)| change_to_peer(change)),
        force: options.force,
        prefer: options.prefer.iter().map(NodeId::to_string).collect(),
        resumed,
    }
}

fn change_to_peer(change: &MemberChange) -> peer::MemberChange {
    use peer::member_change::Change;
    let change = match change {
        MemberChange::Add { id, member } => Change::Add(peer::AddMember { member: Some(member_to_peer(id, member)) }),
        MemberChange::Remove { id } => Change::Remove(id.to_string()),
        MemberChange::Promote { id } => Change::Promote(id.to_string()),
        MemberChange::Demote { id } => Change::Demote(id.to_string()),
        MemberChange::Replace { old, new } => Change::Replace(peer::ReplaceMember { old: old.to_string(), new: new.to_string() }),
        MemberChange::Update { id, member } => Change::Update(member_to_peer(id, member)),
        MemberChange::Transfer { to } => {
            Change::Transfer(peer::TransferLeadership { to: to.as_ref().map(NodeId::to_string).unwrap_or_default() })
        }
    };
    peer::MemberChange { change: Some(change) }
}

pub(super) fn change_from_peer(change: peer::MemberChange) -> Result<MemberChange, CodecError> {
    use peer::member_change::Change;
    let id = |text: &str| codec::node_id(text, "change");
    Ok(match change.change.ok_or(CodecError::Missing("change"))? {
        Change::Add(add) => {
            let (id, member) = member_from_peer(add.member)?;
            MemberChange::Add { id, member }
        }
        Change::Remove(text) => MemberChange::Remove { id: id(&text)? },
        Change::Promote(text) => MemberChange::Promote { id: id(&text)? },
        Change::Demote(text) => MemberChange::Demote { id: id(&text)? },
        Change::Replace(replace) => MemberChange::Replace { old: id(&replace.old)?, new: id(&replace.new)? },
        Change::Update(member) => {
            let (id, member) = member_from_peer(Some(member))?;
            MemberChange::Update { id, member }
        }
        Change::Transfer(transfer) if transfer.to.is_empty() => MemberChange::Transfer { to: None },
        Change::Transfer(transfer) => MemberChange::Transfer { to: Some(id(&transfer.to)?) },
    })
}

pub(super) fn options_from_peer(force: bool, prefer: &[String]) -> Result<ChangeOptions, CodecError> {
    let prefer = prefer.iter().take(MEMBERS_MAX).map(|text| codec::node_id(text, "prefer")).collect::<Result<_, _>>()?;
    Ok(ChangeOptions { force, prefer })
}

/// In the order of `peer::membership_refusal::Kind`.
const KINDS: [(RefusalKind, peer::membership_refusal::Kind); 9] = {
    use peer::membership_refusal::Kind;
    [
        (RefusalKind::Other, Kind::Other),
        (RefusalKind::UnknownMember, Kind::UnknownMember),
        (RefusalKind::AlreadyMember, Kind::AlreadyMember),
        (RefusalKind::NotAVoter, Kind::NotAVoter),
        (RefusalKind::LastVoter, Kind::LastVoter),
        (RefusalKind::NoQuorum, Kind::NoQuorum),
        (RefusalKind::Behind, Kind::Behind),
        (RefusalKind::NoHeir, Kind::NoHeir),
        (RefusalKind::Busy, Kind::Busy),
    ]
};

pub(super) fn refusal_to_peer(refusal: &Refusal) -> peer::MembershipRefusal {
    let kind = KINDS.iter().find(|(kind, _)| *kind == refusal.kind).map_or(peer::membership_refusal::Kind::Other, |(_, kind)| *kind);
    peer::MembershipRefusal { kind: kind.into(), text: refusal.text.clone() }
}

pub(super) fn refusal_from_peer(refusal: peer::MembershipRefusal) -> Refusal {
    let kind = KINDS.iter().find(|(_, kind)| *kind == refusal.kind()).map_or(RefusalKind::Other, |(kind, _)| *kind);
    Refusal { kind, text: refusal.text }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn to_peer(position: Position) -> peer::Position {
    peer::Position { term: position.term.0, index: position.index.0 }
}

fn from_peer(position: Option<&peer::Position>) -> Result<Option<Position>, CodecError> {
    position.map(|position| codec::position_from_peer(position).map(|id| codec::position_of(&id))).transpose()
}

pub(super) fn view_to_peer(view: &MembersView) -> peer::MembersView {
    let facts = |facts: &MemberFacts| peer::MemberFacts {
        member: Some(member_to_peer(&facts.info.id, &facts.info.member)),
        voter: facts.info.voter,
        last_contact_ms: facts.last_contact.map(millis),
        matched: facts.matched.map(to_peer),
        healthy: facts.health.healthy,
        since_ms: facts.health.since.0,
    };
    peer::MembersView {
        leader: view.leader.to_string(),
        term: view.term.0,
        last: view.last.map(to_peer),
        configured: view.configured.map(to_peer),
        members: view.members.iter().map(facts).collect(),
    }
}

pub(super) fn view_from_peer(view: &peer::MembersView) -> Result<MembersView, CodecError> {
    let last = from_peer(view.last.as_ref())?;
    let next = |position: Option<Position>| position.map_or(0, |position| position.index.0 + 1);
    let mut members = Vec::with_capacity(view.members.len().min(MEMBERS_MAX));
    for facts in view.members.iter().take(MEMBERS_MAX) {
        let (id, member) = member_from_peer(facts.member.clone())?;
        let matched = from_peer(facts.matched.as_ref())?;
        members.push(MemberFacts {
            info: MemberInfo { id, member, voter: facts.voter },
            last_contact: facts.last_contact_ms.map(Duration::from_millis),
            matched,
            lag: next(last).saturating_sub(next(matched)),
            health: Health { healthy: facts.healthy, since: Timestamp(facts.since_ms) },
        });
    }
    let configured = from_peer(view.configured.as_ref())?;
    Ok(MembersView { leader: codec::node_id(&view.leader, "leader")?, term: Term(view.term), last, configured, members })
}

#[cfg(test)]
mod tests {
    use types::Index;

    use super::*;
    use crate::config::KeyPin;

    #[test]
    fn changes_cross_the_wire_as_they_are() {
        let id = |text: &str| NodeId::parse(text).unwrap();
        let member = Member {
            cluster_address: "https://a:1".into(),
            api_address: "https://a:2".into(),
            key: Some(KeyPin([7; 32])),
            non_voter: true,
        };
        for change in [
            MemberChange::Add { id: id("a"), member: member.clone() },
            MemberChange::Remove { id: id("a") },
            MemberChange::Promote { id: id("a") },
            MemberChange::Demote { id: id("a") },
            MemberChange::Replace { old: id("a"), new: id("b") },
            MemberChange::Update { id: id("a"), member },
            MemberChange::Transfer { to: None },
            MemberChange::Transfer { to: Some(id("a")) },
        ] {
            assert_eq!(change_from_peer(change_to_peer(&change)), Ok(change));
        }
        assert!(change_from_peer(peer::MemberChange { change: None }).is_err());
        let nameless = peer::member_change::Change::Remove(String::new());
        assert!(change_from_peer(peer::MemberChange { change: Some(nameless) }).is_err());
    }

    #[test]
    fn refusals_and_views_cross_the_wire_as_they_are() {
        for (kind, _) in KINDS {
            let refusal = Refusal { kind, text: "because".into() };
            assert_eq!(refusal_from_peer(refusal_to_peer(&refusal)), refusal);
        }
        let at = |index| Some(Position { term: Term(3), index: Index(index) });
        let facts = MemberFacts {
            info: MemberInfo { id: NodeId::from(1), member: Member::default(), voter: true },
            last_contact: Some(Duration::from_millis(12)),
            matched: at(7),
            lag: 2,
            health: Health { healthy: true, since: Timestamp(99) },
        };
        let unheard = MemberFacts { last_contact: None, matched: None, lag: 10, ..facts.clone() };
        let view = MembersView { leader: NodeId::from(1), term: Term(3), last: at(9), configured: at(4), members: vec![facts, unheard] };
        assert_eq!(view_from_peer(&view_to_peer(&view)), Ok(view));
    }
}

//! The steps of a change: from a settled membership and a goal, the next entry. Pure.
//!
//! Always: two memberships in a row differ in one voter at most, so that any two of their majorities have a member in common (Raft thesis,
//! section 4.1); no step removes or demotes the leader; from every membership on the way the same goal can be asked for again.

use std::collections::{BTreeMap, BTreeSet};

use types::NodeId;

use super::{MEMBERS_MAX, MemberChange, Refusal, RefusalKind};
use crate::config::Member;

/// A membership that is committed and not joint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) voters: BTreeSet<NodeId>,
    /// Voters and learners.
    pub(super) members: BTreeMap<NodeId, Member>,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is as was asked for.
    Done,
    /// What is kept of a member changes; no vote does.
    Describe { id: NodeId, member: Member },
    /// One voter more or less, or other members.
    Append { voters: BTreeSet<NodeId>, members: BTreeMap<NodeId, Member> },
    /// Another must lead first.
    HandOver { to: Option<NodeId> },
}

/// The next step. `resumed`: something of it was done already, so that it is no mistake to find it done.
pub(super) fn next(change: &MemberChange, known: &Known, leader: &NodeId, resumed: bool) -> Result<Step, Refusal> {
    match change {
        MemberChange::Add { id, member } => known.add(id, member),
        MemberChange::Remove { id } if resumed && !known.members.contains_key(id) => Ok(Step::Done),
        MemberChange::Remove { id } => known.remove(id, leader),
        MemberChange::Promote { id } => known.promote(id),
        MemberChange::Demote { id } => known.demote(id, leader),
        MemberChange::Replace { old, new } => known.replace(old, new, leader, resumed),
        MemberChange::Update { id, member } => known.update(id, member),
        MemberChange::Transfer { to } => known.transfer(to.as_ref(), leader),
    }
}

/// Refuses voters of whom too few can be reached to decide anything.
pub(super) fn check_quorum(voters: &BTreeSet<NodeId>, is_reachable: &dyn Fn(&NodeId) -> bool) -> Result<(), Refusal> {
    let needed = voters.len() / 2 + 1;
    let missing: Vec<&str> = voters.iter().filter(|id| !is_reachable(id)).map(NodeId::as_str).collect();
    let reachable = voters.len() - missing.len();
    if reachable >= needed {
        return Ok(());
    }
    let text = format!(
        "of the {} voters then, {needed} would be needed and {reachable} can be reached: start {} first, or remove it",
        voters.len(),
        missing.join(", "),
    );
    Err(Refusal::new(RefusalKind::NoQuorum, text))
}

fn already(text: String) -> Refusal {
    Refusal::new(RefusalKind::AlreadyMember, text)
}

impl Known {
    fn member(&self, id: &NodeId) -> Result<&Member, Refusal> {
        self.members.get(id).ok_or_else(|| {
            let ids: Vec<&str> = self.members.keys().map(NodeId::as_str).collect();
            Refusal::new(RefusalKind::UnknownMember, format!("{id} is no member of this cluster (its members: {})", ids.join(", ")))
        })
    }

    fn is_voter(&self, id: &NodeId) -> bool {
        self.voters.contains(id)
    }

    /// Nobody else is where `member` says that `id` is.
    fn check_place(&self, id: &NodeId, member: &Member) -> Result<(), Refusal> {
        let is_there = |(other, place): &(&NodeId, &Member)| *other != id && place.cluster_address == member.cluster_address;
        match self.members.iter().find(is_there) {
            Some((other, _)) => Err(already(format!("{other} is at {} already: give {id} an address of its own", member.cluster_address))),
            None => Ok(()),
        }
    }

    fn add(&self, id: &NodeId, member: &Member) -> Result<Step, Refusal> {
        self.check_place(id, member)?;
        let Some(known) = self.members.get(id) else {
            if self.members.len() >= MEMBERS_MAX {
                return Err(Refusal::new(RefusalKind::Other, format!("a cluster has {MEMBERS_MAX} members at most: remove one first")));
            }
            let mut members = self.members.clone();
            members.insert(id.clone(), member.clone());
            return Ok(Step::Append { voters: self.voters.clone(), members });
        };
        if known.key != member.key {
            return Err(already(format!("{id} is a member with another key: if that node is gone for good, remove it first")));
        }
        let moved = Member { non_voter: known.non_voter, ..member.clone() };
        if *known == moved {
            return Ok(Step::Done);
        }
        if known.key.is_none() {
            let place = &known.cluster_address;
            return Err(already(format!("{id} is a member, at {place}: remove it first, or tell the cluster that it has moved")));
        }
        // Its key says that it is the same node.
        Ok(Step::Describe { id: id.clone(), member: moved })
    }

    fn update(&self, id: &NodeId, member: &Member) -> Result<Step, Refusal> {
        let known = self.member(id)?;
        self.check_place(id, member)?;
        let member = Member { non_voter: known.non_voter, ..member.clone() };
        Ok(if *known == member { Step::Done } else { Step::Describe { id: id.clone(), member } })
    }

    fn remove(&self, id: &NodeId, leader: &NodeId) -> Result<Step, Refusal> {
        self.member(id)?;
        let mut voters = self.voters.clone();
        if voters.remove(id) && voters.is_empty() {
            let text = format!("{id} is the only voter: without it there is no cluster (add and promote another member first)");
            return Err(Refusal::new(RefusalKind::LastVoter, text));
        }
        if id == leader {
            return Ok(Step::HandOver { to: None });
        }
        let mut members = self.members.clone();
        members.remove(id);
        Ok(Step::Append { voters, members })
    }

    fn promote(&self, id: &NodeId) -> Result<Step, Refusal> {
        let member = self.member(id)?;
        if member.non_voter {
            return Ok(Step::Describe { id: id.clone(), member: Member { non_voter: false, ..member.clone() } });
        }
        if self.is_voter(id) {
            return Ok(Step::Done);
        }
        let mut voters = self.voters.clone();
        voters.insert(id.clone());
        Ok(Step::Append { voters, members: self.members.clone() })
    }

    fn demote(&self, id: &NodeId, leader: &NodeId) -> Result<Step, Refusal> {
        let member = self.member(id)?;
        let mut voters = self.voters.clone();
        if voters.remove(id) && voters.is_empty() {
            let text = format!("{id} is the only voter: add and promote another member first");
            return Err(Refusal::new(RefusalKind::LastVoter, text));
        }
        if id == leader {
            return Ok(Step::HandOver { to: None });
        }
        if !member.non_voter {
            // First: should the rest not be done, it is known what was meant.
            return Ok(Step::Describe { id: id.clone(), member: Member { non_voter: true, ..member.clone() } });
        }
        Ok(if voters == self.voters { Step::Done } else { Step::Append { voters, members: self.members.clone() } })
    }

    fn replace(&self, old: &NodeId, new: &NodeId, leader: &NodeId, resumed: bool) -> Result<Step, Refusal> {
        if old == new {
            return Err(Refusal::new(RefusalKind::Other, format!("{old} cannot take its own place")));
        }
        self.member(new)?;
        let is_old_gone = !self.members.contains_key(old);
        if !(is_old_gone && resumed) {
            self.member(old)?;
        }
        match self.promote(new)? {
            Step::Done if is_old_gone => Ok(Step::Done),
            // Then the new one may as well lead.
            Step::Done if old == leader => Ok(Step::HandOver { to: None }),
            Step::Done => self.remove(old, leader),
            step => Ok(step),
        }
    }

    fn transfer(&self, to: Option<&NodeId>, leader: &NodeId) -> Result<Step, Refusal> {
        let Some(to) = to else { return Ok(Step::HandOver { to: None }) };
        self.member(to)?;
        if !self.is_voter(to) {
            return Err(Refusal::new(RefusalKind::NotAVoter, format!("{to} has no vote, so it cannot lead: promote it first")));
        }
        Ok(if to == leader { Step::Done } else { Step::HandOver { to: Some(to.clone()) } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyPin;

    fn id(text: &str) -> NodeId {
        NodeId::parse(text).unwrap()
    }

    fn place(text: &str) -> Member {
        Member { cluster_address: format!("https://{text}:1"), api_address: format!("https://{text}:2"), ..Member::default() }
    }

    /// Upper-case words are voters; a learner with `-` before it is one for good.
    fn known(members: &str) -> Known {
        let mut known = Known { voters: BTreeSet::new(), members: BTreeMap::new() };
        for word in members.split(' ') {
            let name = word.trim_start_matches('-').to_lowercase();
            if word.contains(|letter: char| letter.is_ascii_uppercase()) {
                known.voters.insert(id(&name));
            }
            known.members.insert(id(&name), Member { non_voter: word.starts_with('-'), ..place(&name) });
        }
        known
    }

    fn shown(known: &Known) -> String {
        let word = |(id, member): (&NodeId, &Member)| {
            let name = if known.voters.contains(id) { id.as_str().to_uppercase() } else { id.to_string() };
            if member.non_voter { format!("-{name}") } else { name }
        };
        known.members.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    fn change(text: &str) -> MemberChange {
        let words: Vec<&str> = text.split(' ').collect();
        match words[..] {
            ["add", new] => MemberChange::Add { id: id(new), member: place(new) },
            ["add", new, "for-good"] => MemberChange::Add { id: id(new), member: Member { non_voter: true, ..place(new) } },
            ["add", new, "at", other] => MemberChange::Add { id: id(new), member: place(other) },
            ["update", new, "at", other] => MemberChange::Update { id: id(new), member: place(other) },
            ["remove", old] => MemberChange::Remove { id: id(old) },
            ["promote", it] => MemberChange::Promote { id: id(it) },
            ["demote", it] => MemberChange::Demote { id: id(it) },
            ["replace", old, new] => MemberChange::Replace { old: id(old), new: id(new) },
            ["transfer", to] => MemberChange::Transfer { to: Some(id(to)) },
            ["transfer"] => MemberChange::Transfer { to: None },
            _ => panic!("{text}"),
        }
    }

    /// The memberships on the way, `>x` for a change of the leader to x; the first voter that is not the leader takes over.
    fn way(members: &str, what: &str) -> Result<Vec<String>, RefusalKind> {
        let (mut known, mut way, mut resumed) = (known(members), Vec::new(), false);
        let mut leader = known.voters.first().unwrap().clone();
        loop {
            assert!(way.len() < 10, "{what} in {members} has no end: {way:?}");
            let before = known.voters.clone();
            match next(&change(what), &known, &leader, resumed).map_err(|refusal| refusal.kind)? {
                Step::Done => return Ok(way),
                Step::Describe { id, member } => _ = known.members.insert(id, member),
                Step::Append { voters, members } => known = Known { voters, members },
                Step::HandOver { to } => {
                    leader = to.unwrap_or_else(|| known.voters.iter().find(|id| **id != leader).unwrap().clone());
                    way.push(format!(">{leader}"));
                    if what == "transfer" {
                        return Ok(way);
                    }
                    resumed = true;
                    continue;
                }
            }
            assert!(before.symmetric_difference(&known.voters).count() <= 1, "{what} in {members} moves two votes at once");
            assert!(known.voters.contains(&leader), "{what} in {members} takes the leader's vote");
            assert!(known.voters.iter().all(|id| known.members.contains_key(id)), "{what} in {members}: a voter that is nowhere");
            // The goal can be asked for again from here, by who does not know how far it came.
            assert!(next(&change(what), &known, &leader, true).is_ok(), "{what} cannot be resumed from {}", shown(&known));
            way.push(shown(&known));
            resumed = true;
        }
    }

    #[test]
    fn every_change_goes_step_by_step() {
        let table: &[(&str, &str, &[&str])] = &[
            ("A B C", "add d", &["A B C d"]),
            ("A B C", "add d for-good", &["A B C -d"]),
            ("A B C d", "add d", &[]),
            ("A B C -d", "add d", &[]),
            ("A B C d", "promote d", &["A B C D"]),
            ("A B C -d", "promote d", &["A B C d", "A B C D"]),
            ("A B C", "promote c", &[]),
            ("A B -C", "promote c", &["A B C"]),
            ("A B C", "demote c", &["A B -C", "A B -c"]),
            ("A B c", "demote c", &["A B -c"]),
            ("A B -C", "demote c", &["A B -c"]),
            ("A B -c", "demote c", &[]),
            ("A B C", "demote a", &[">b", "-A B C", "-a B C"]),
            ("A B C", "remove c", &["A B"]),
            ("A B c", "remove c", &["A B"]),
            ("A B C", "remove a", &[">b", "B C"]),
            ("A B C d", "replace c d", &["A B C D", "A B D"]),
            ("A B C -d", "replace c d", &["A B C d", "A B C D", "A B D"]),
            ("A B C d", "replace a d", &["A B C D", ">b", "B C D"]),
            ("A b", "replace a b", &["A B", ">b", "B"]),
            ("A B C", "transfer b", &[">b"]),
            ("A B C", "transfer a", &[]),
            ("A B C", "transfer", &[">b"]),
            ("A B c", "update c at x", &["A B c"]),
            ("A B c", "update c at c", &[]),
        ];
        for (members, what, steps) in table {
            let steps: Vec<String> = steps.iter().map(|step| (*step).to_owned()).collect();
            assert_eq!(way(members, what), Ok(steps), "{what} in {members}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let table = [
            ("A", "remove a", RefusalKind::LastVoter),
            ("A b", "remove a", RefusalKind::LastVoter),
            ("A b", "demote a", RefusalKind::LastVoter),
            ("A B", "remove x", RefusalKind::UnknownMember),
            ("A B", "promote x", RefusalKind::UnknownMember),
            ("A B", "demote x", RefusalKind::UnknownMember),
            ("A B", "replace x a", RefusalKind::UnknownMember),
            ("A B", "replace a x", RefusalKind::UnknownMember),
            ("A B", "replace a a", RefusalKind::Other),
            ("A B", "transfer x", RefusalKind::UnknownMember),
            ("A B c", "transfer c", RefusalKind::NotAVoter),
            ("A B", "add b at x", RefusalKind::AlreadyMember),
            ("A B", "add x at b", RefusalKind::AlreadyMember),
            ("A B", "update b at a", RefusalKind::AlreadyMember),
            ("A B", "update x at x", RefusalKind::UnknownMember),
        ];
        for (members, what, kind) in table {
            assert_eq!(way(members, what), Err(kind), "{what} in {members}");
        }
    }

    #[test]
    fn a_node_with_its_key_may_move_and_another_with_its_name_may_not_come() {
        let mut cluster = known("A B C");
        let pinned = |name: &str, key: u8| Member { key: Some(KeyPin([key; 32])), ..place(name) };
        cluster.members.insert(id("c"), pinned("c", 1));
        let add = |member: Member| next(&MemberChange::Add { id: id("c"), member }, &cluster, &id("a"), false);
        assert_eq!(add(pinned("c", 1)), Ok(Step::Done));
        assert_eq!(add(pinned("elsewhere", 1)), Ok(Step::Describe { id: id("c"), member: pinned("elsewhere", 1) }));
        for other in [pinned("c", 2), place("c")] {
            assert_eq!(add(other).map_err(|refusal| refusal.kind), Err(RefusalKind::AlreadyMember));
        }
    }

    #[test]
    fn a_cluster_has_an_end() {
        let mut full = known("A");
        for number in 1..MEMBERS_MAX {
            full.members.insert(id(&format!("n{number}")), place(&format!("n{number}")));
        }
        assert_eq!(next(&change("add x"), &full, &id("a"), false).map_err(|refusal| refusal.kind), Err(RefusalKind::Other));
    }

    #[test]
    fn a_majority_must_be_reachable() {
        for (voters, dead, enough) in [
            ("A B C", "", true),
            ("A B C", "c", true),
            ("A B C", "bc", false),
            ("A B", "b", false),
            ("A", "", true),
            ("A B C D", "cd", false),
        ] {
            let checked = check_quorum(&known(voters).voters, &|id| !dead.contains(id.as_str()));
            assert_eq!(checked.is_ok(), enough, "{voters} without {dead}");
        }
    }
}

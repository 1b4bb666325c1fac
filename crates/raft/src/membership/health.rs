//! Which members are healthy, and since when, by a policy.
//!
//! Always: judged by what the leader sees; who is judged anew as before keeps its time.

use std::collections::BTreeMap;
use std::time::Duration;

use types::{NodeId, Term, Timestamp};

use super::{MemberFacts, MembersView};

/// By which rule a member is healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthPolicy {
    /// It has answered within this time.
    pub last_contact_max: Duration,
    /// It lacks no more than so many entries of the leader's log.
    pub lag_max: u64,
}

impl Default for HealthPolicy {
    /// As Vault's autopilot.
    fn default() -> HealthPolicy {
        HealthPolicy { last_contact_max: Duration::from_secs(10), lag_max: 1_000 }
    }
}

/// Whether a member is healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// It answers and keeps up.
    pub healthy: bool,
    /// Since when it is so, or is not, by the leader's clock; not before this leader led.
    pub since: Timestamp,
}

/// What was found when the members were last looked at, in one term.
#[derive(Default)]
pub(super) struct Book {
    pub(super) policy: HealthPolicy,
    term: Term,
    found: BTreeMap<NodeId, Health>,
}

impl Book {
    /// Judges every member, and writes it into `view`.
    pub(super) fn judge(&mut self, view: &mut MembersView, now: Timestamp) {
        if self.term != view.term {
            self.forget();
            self.term = view.term;
        }
        self.found.retain(|id, _| view.members.iter().any(|facts| facts.info.id == *id));
        for facts in &mut view.members {
            let healthy = facts.info.id == view.leader || self.is_healthy(facts, view.term);
            let known = self.found.entry(facts.info.id.clone()).or_insert(Health { healthy, since: now });
            if known.healthy != healthy {
                *known = Health { healthy, since: now };
            }
            facts.health = *known;
        }
    }

    /// This node leads no more.
    pub(super) fn forget(&mut self) {
        self.found.clear();
    }

    fn is_healthy(&self, facts: &MemberFacts, term: Term) -> bool {
        let answers = facts.last_contact.is_some_and(|contact| contact <= self.policy.last_contact_max);
        // Who has nothing of this term has not heard this leader's first entry.
        answers && facts.lag <= self.policy.lag_max && facts.matched.is_some_and(|matched| matched.term == term)
    }
}

#[cfg(test)]
mod tests {
    use types::{Index, Position};

    use super::*;
    use crate::handle::MemberInfo;

    fn view(term: u64, others: &[(&str, Option<u64>, u64, u64)]) -> MembersView {
        let unknown = Health { healthy: false, since: Timestamp(0) };
        let leader = MemberFacts {
            info: MemberInfo { id: NodeId::parse("a").unwrap(), member: crate::Member::default(), voter: true },
            last_contact: Some(Duration::ZERO),
            matched: None,
            lag: 0,
            health: unknown,
        };
        let other = |(id, contact_s, matched_term, lag): &(&str, Option<u64>, u64, u64)| MemberFacts {
            info: MemberInfo { id: NodeId::parse(id).unwrap(), ..leader.info.clone() },
            last_contact: contact_s.map(Duration::from_secs),
            matched: Some(Position { term: Term(*matched_term), index: Index(1) }),
            lag: *lag,
            health: unknown,
        };
        let members = std::iter::once(leader.clone()).chain(others.iter().map(other)).collect();
        MembersView { leader: leader.info.id, term: Term(term), last: None, configured: None, members }
    }

    #[test]
    fn who_answers_and_keeps_up_in_this_term_is_healthy() {
        let mut book = Book::default();
        let table = [
            (("b", Some(0), 3, 0), true),
            (("b", Some(10), 3, 1_000), true),
            (("b", Some(11), 3, 0), false),
            (("b", None, 3, 0), false),
            (("b", Some(0), 3, 1_001), false),
            (("b", Some(0), 2, 0), false),
        ];
        for (other, healthy) in table {
            let mut view = view(3, &[other]);
            book.judge(&mut view, Timestamp(5));
            assert_eq!(view.members.iter().map(|facts| facts.health.healthy).collect::<Vec<_>>(), [true, healthy], "{other:?}");
        }
    }

    #[test]
    fn the_time_is_that_of_the_last_change_under_this_leader() {
        let mut book = Book::default();
        let mut since = |term, contact, now| {
            let mut view = view(term, &[("b", Some(contact), term, 0)]);
            book.judge(&mut view, Timestamp(now));
            (view.members[1].health.healthy, view.members[1].health.since.0)
        };
        assert_eq!(since(3, 0, 100), (true, 100));
        assert_eq!(since(3, 1, 200), (true, 100));
        assert_eq!(since(3, 20, 300), (false, 300));
        assert_eq!(since(3, 0, 400), (true, 400));
        assert_eq!(since(4, 0, 500), (true, 500), "another leader begins anew");
        let mut gone = view(4, &[]);
        book.judge(&mut gone, Timestamp(600));
        assert_eq!(book.found.len(), 1, "who is no member is forgotten");
    }
}

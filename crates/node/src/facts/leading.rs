//! Since when this node leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use raft::Raft;
use tokio_util::sync::CancellationToken;
use types::{Clock, NodeId, Timestamp};

use super::metrics::{Counter, Metrics};

/// Since when this node leads. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leading(Arc<AtomicU64>);

/// Stands for "does not lead".
const NOT: u64 = 0;

impl Leading {
    /// `None` while this node does not lead.
    pub(crate) fn since(&self) -> Option<Timestamp> {
        match self.0.load(Ordering::Relaxed) {
            NOT => None,
            since => Some(Timestamp(since)),
        }
    }

    fn set(&self, leads: bool, now: Timestamp) {
        self.0.store(if leads { now.0.max(NOT + 1) } else { NOT }, Ordering::Relaxed);
    }
}

/// How often the leader was another, or none, as this node saw it.
#[derive(Clone)]
pub(crate) struct Elections {
    found: Counter,
    lost: Counter,
}

impl Elections {
    /// Counted there.
    pub(crate) fn of(metrics: &Metrics) -> Elections {
        Elections {
            found: metrics.counter("conclave_raft_leaders_found_total", "How often this node learned of a leader, or became it."),
            lost: metrics.counter("conclave_raft_leaders_lost_total", "How often this node knew of no leader any more."),
        }
    }

    fn count(&self, leader: Option<&NodeId>) {
        match leader {
            Some(_) => self.found.add(1),
            None => self.lost.add(1),
        }
    }
}

/// Keeps `leading` right, and counts, until `stop`.
pub(crate) async fn follow(
    (leading, elections): (Leading, Elections),
    raft: Raft,
    this: NodeId,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut known: Option<NodeId> = None;
    loop {
        let leader = tokio::select! {
            () = stop.cancelled() => return,
            leader = raft.leader_changed(known.as_ref()) => leader,
        };
        if leader == known {
            // Raft has ended.
            leading.set(false, clock.now());
            return;
        }
        elections.count(leader.as_ref());
        leading.set(leader.as_ref() == Some(&this), clock.now());
        known = leader;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_leads_since_it_was_told_so() {
        let leading = Leading::default();
        assert_eq!(leading.since(), None);
        leading.set(true, Timestamp(77));
        assert_eq!(leading.since(), Some(Timestamp(77)));
        leading.set(false, Timestamp(99));
        assert_eq!(leading.since(), None);
        leading.set(true, Timestamp(0));
        assert!(leading.since().is_some(), "also by a clock that stands at the epoch");
    }
}

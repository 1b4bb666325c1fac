//! Since when this node leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use raft::Raft;
use tokio_util::sync::CancellationToken;
use types::{Clock, NodeId, Timestamp};

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

/// Keeps `leading` right until `stop`.
pub(crate) async fn follow(leading: Leading, raft: Raft, this: NodeId, clock: Arc<dyn Clock>, stop: CancellationToken) {
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

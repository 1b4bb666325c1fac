//! Read indexes (Raft thesis, section 6.4): asks that wait together share one round to the leader.
//!
//! Always: an ask is answered only by a round that began after it arrived. A [`Mark`] is no younger than the beginning of the round
//! that brought it, by this node's own monotonic clock: no clock is compared with another node's.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::peer;
use proto::peer::read_index_response::Outcome;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use types::Index;

use crate::codec;
use crate::handle::{Core, ReadError, Route};

/// Reads that wait for the next round, at most; further readers wait for a place.
const ASKS_MAX: usize = 4096;
/// Marks that wait until they are applied, at most; with more the newest is not kept.
const MARKS_MAX: usize = 64;

/// How the leader makes certain that nobody else leads before it answers a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum ReadConsistency {
    /// By its lease: no other can have been elected yet, if clocks run at about the same speed.
    #[default]
    Lease,
    /// By asking a quorum, in each round: no clock matters.
    Quorum,
}

/// At `asked` nothing was acknowledged that comes after `index`.
#[derive(Debug, Clone, Copy)]
struct Mark {
    asked: Instant,
    index: Index,
}

/// What rounds have told so far, oldest first.
#[derive(Default)]
struct Marks(Mutex<VecDeque<Mark>>);

impl Marks {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Mark>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, mark: Mark) {
        let mut marks = self.lock();
        // Rounds of both kinds run side by side, so that one may end before another that began earlier.
        if marks.len() < MARKS_MAX && marks.back().is_none_or(|newest| newest.asked < mark.asked) {
            marks.push_back(mark);
        }
    }

    /// When what is applied up to `applied` was all there was; forgets what is older than that.
    fn fresh_at(&self, applied: Option<Index>) -> Option<Instant> {
        let mut marks = self.lock();
        let is_applied = |mark: &Mark| applied.is_some_and(|applied| mark.index <= applied);
        while marks.get(1).is_some_and(is_applied) {
            marks.pop_front();
        }
        marks.front().filter(|mark| is_applied(mark)).map(|mark| mark.asked)
    }
}

type Ask = oneshot::Sender<Option<Index>>;

/// The sending ends of the queues, one for each kind of round.
#[derive(Clone)]
pub(crate) struct ReadIndexer {
    lease: mpsc::Sender<Ask>,
    quorum: mpsc::Sender<Ask>,
    marks: Arc<Marks>,
    core: Arc<Core>,
}

impl ReadIndexer {
    pub(crate) fn start(core: Arc<Core>) -> ReadIndexer {
        let marks = Arc::new(Marks::default());
        let queue = |consistency| {
            let (queue, inbox) = mpsc::channel(ASKS_MAX);
            core.tasks.spawn(run(Arc::clone(&core), consistency, Arc::clone(&marks), inbox));
            queue
        };
        let (lease, quorum) = (queue(ReadConsistency::Lease), queue(ReadConsistency::Quorum));
        ReadIndexer { lease, quorum, marks, core }
    }

    /// The index that a read must have applied. Asks again, until the deadline, while no leader answers.
    pub(crate) async fn read_index(&self, consistency: ReadConsistency, deadline: Instant) -> Result<Index, ReadError> {
        let queue = match consistency {
            ReadConsistency::Lease => &self.lease,
            ReadConsistency::Quorum => &self.quorum,
        };
        loop {
            let (reply, answer) = oneshot::channel();
            queue.send(reply).await.map_err(|_| ReadError::Stopped)?;
            match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(Some(index))) => return Ok(index),
                Ok(Ok(None)) => {
                    if !self.core.wait_for_leader(deadline).await {
                        return Err(ReadError::NoLeader);
                    }
                }
                Ok(Err(_)) => return Err(ReadError::Stopped),
                Err(_) => return Err(ReadError::NoLeader),
            }
        }
    }

    /// How old what this node has applied can be, if any round has told yet: nothing was acknowledged longer ago that it lacks.
    pub(crate) fn age(&self, applied: Option<Index>) -> Option<Duration> {
        self.marks.fresh_at(applied).map(|fresh| fresh.elapsed())
    }

    /// Has a round begin, if none waits, for those who come later.
    pub(crate) fn refresh(&self, consistency: ReadConsistency) {
        let queue = match consistency {
            ReadConsistency::Lease => &self.lease,
            ReadConsistency::Quorum => &self.quorum,
        };
        if queue.capacity() == ASKS_MAX {
            // Nobody waits for the answer: what counts is the mark.
            drop(queue.try_send(oneshot::channel().0));
        }
    }
}

async fn run(core: Arc<Core>, consistency: ReadConsistency, marks: Arc<Marks>, mut inbox: mpsc::Receiver<Ask>) {
    let mut asks = Vec::new();
    loop {
        let received = tokio::select! {
            biased;
            () = core.stop.cancelled() => return,
            received = inbox.recv_many(&mut asks, ASKS_MAX) => received,
        };
        if received == 0 {
            return;
        }
        let asked = Instant::now();
        let index = round(&core, consistency).await;
        if let Some(index) = index {
            marks.add(Mark { asked, index });
        }
        for ask in asks.drain(..) {
            // The reader may have gone; nobody else needs the answer.
            let _ = ask.send(index);
        }
    }
}

async fn round(core: &Core, consistency: ReadConsistency) -> Option<Index> {
    match core.route() {
        Route::Here => core.read_index_here(consistency).await.ok().map(|id| codec::position_of(&id).index),
        Route::There(leader) => {
            let request = peer::ReadIndexRequest { quorum: consistency == ReadConsistency::Quorum };
            match core.transport.read_index(leader, request).await.ok()?.outcome? {
                Outcome::ReadIndex(index) => index.position.map(|position| Index(position.index)),
                Outcome::Leader(_) => None,
            }
        }
        Route::Nowhere => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_applied_is_as_fresh_as_the_newest_mark_it_covers() {
        let marks = Marks::default();
        assert_eq!(marks.fresh_at(Some(Index(9))), None, "nobody has told anything");
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        for (seconds, index) in [(1, 5), (2, 5), (3, 8), (2, 7)] {
            marks.add(Mark { asked: at(seconds), index: Index(index) });
        }
        assert_eq!(marks.fresh_at(None), None);
        assert_eq!(marks.fresh_at(Some(Index(4))), None);
        assert_eq!(marks.fresh_at(Some(Index(6))), Some(at(2)));
        assert_eq!(marks.fresh_at(Some(Index(8))), Some(at(3)));
        assert_eq!(marks.lock().len(), 1, "the older ones are forgotten");
        for seconds in 4..200 {
            marks.add(Mark { asked: at(seconds), index: Index(1000) });
        }
        assert_eq!(marks.lock().len(), MARKS_MAX);
        assert_eq!(marks.fresh_at(Some(Index(8))), Some(at(3)), "a node that lags keeps what it can use");
    }
}

//! Read indexes (Raft thesis, section 6.4): asks that wait together share one round to the leader.
//!
//! An ask is answered only by a round that began after it arrived.

use std::sync::Arc;

use proto::peer::read_index_response::Outcome;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use types::Index;

use crate::codec;
use crate::handle::{Core, ReadError, Route};

/// Reads that wait for the next round, at most; further readers wait for a place.
const ASKS_MAX: usize = 4096;

/// The queue's sending end.
#[derive(Clone)]
pub(crate) struct ReadIndexer {
    queue: mpsc::Sender<oneshot::Sender<Option<Index>>>,
    core: Arc<Core>,
}

impl ReadIndexer {
    pub(crate) fn start(core: Arc<Core>) -> ReadIndexer {
        let (queue, inbox) = mpsc::channel(ASKS_MAX);
        core.tasks.spawn(run(Arc::clone(&core), inbox));
        ReadIndexer { queue, core }
    }

    /// The index that a read must have applied. Asks again, until the deadline, while no leader answers.
    pub(crate) async fn read_index(&self, deadline: Instant) -> Result<Index, ReadError> {
        loop {
            let (reply, answer) = oneshot::channel();
            self.queue.send(reply).await.map_err(|_| ReadError::Stopped)?;
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
}

async fn run(core: Arc<Core>, mut inbox: mpsc::Receiver<oneshot::Sender<Option<Index>>>) {
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
        let index = round(&core).await;
        for ask in asks.drain(..) {
            // The reader may have gone; nobody else needs the answer.
            let _ = ask.send(index);
        }
    }
}

async fn round(core: &Core) -> Option<Index> {
    match core.route() {
        Route::Here => core.read_index_here().await.ok().map(|id| codec::position_of(&id).index),
        Route::There(leader) => match core.transport.read_index(leader).await.ok()?.outcome? {
            Outcome::ReadIndex(index) => index.position.map(|position| Index(position.index)),
            Outcome::Leader(_) => None,
        },
        Route::Nowhere => None,
    }
}

//! A follower's batches on their way to the leader: what waits together travels together.

use std::sync::Arc;

use bytes::Bytes;
use proto::peer;
use tokio::sync::{Semaphore, mpsc, oneshot};
use types::{Index, Revision};

use crate::config::Answer;
use crate::handle::{Attempt, Core, ProposeError, settle};
use crate::transport::{Peer, TransportError};

/// Batches that wait for a place in a call, at most; further callers wait.
const QUEUE_MAX: usize = 4096;
/// Batches in one call, at most.
const BATCHES_PER_CALL_MAX: usize = 256;
/// Bytes in one call, at most (one batch may be larger by itself).
const BYTES_PER_CALL_MAX: usize = 4 * 1024 * 1024;
/// Calls under way at once, at most.
const CALLS_MAX: usize = 16;

struct Forwarded {
    leader: Arc<Peer>,
    batch: Bytes,
    from_reserve: bool,
    reply: oneshot::Sender<Result<Attempt, ProposeError>>,
}

/// The queue's sending end.
#[derive(Clone)]
pub(crate) struct Forwarder {
    queue: mpsc::Sender<Forwarded>,
}

impl Forwarder {
    pub(crate) fn start(core: Arc<Core>) -> Forwarder {
        let (queue, inbox) = mpsc::channel(QUEUE_MAX);
        let tasks = core.tasks.clone();
        tasks.spawn(run(core, inbox));
        Forwarder { queue }
    }

    pub(crate) async fn propose(&self, leader: Arc<Peer>, batch: Bytes, from_reserve: bool) -> Result<Attempt, ProposeError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Forwarded { leader, batch, from_reserve, reply }).await.map_err(|_| ProposeError::Stopped)?;
        answer.await.map_err(|_| ProposeError::Indeterminate("the node is stopping".into()))?
    }
}

async fn run(core: Arc<Core>, mut inbox: mpsc::Receiver<Forwarded>) {
    let calls = Arc::new(Semaphore::new(CALLS_MAX));
    let mut waiting = Vec::new();
    loop {
        if waiting.is_empty() {
            let received = tokio::select! {
                biased;
                () = core.stop.cancelled() => return,
                received = inbox.recv_many(&mut waiting, BATCHES_PER_CALL_MAX) => received,
            };
            if received == 0 {
                return;
            }
        }
        let Ok(permit) = Arc::clone(&calls).acquire_owned().await else { return };
        let call = take_call(&mut waiting);
        let calling = Arc::clone(&core);
        core.tasks.spawn(async move {
            forward(&calling, call).await;
            drop(permit);
        });
    }
}

/// Takes from the front what may travel together: the same leader, the same room, within the limits.
fn take_call(waiting: &mut Vec<Forwarded>) -> Vec<Forwarded> {
    let mut bytes = 0;
    let together = waiting
        .iter()
        .take_while(|forwarded| {
            let fits = bytes == 0 || bytes + forwarded.batch.len() <= BYTES_PER_CALL_MAX;
            bytes += forwarded.batch.len();
            fits && forwarded.leader.id == waiting[0].leader.id && forwarded.from_reserve == waiting[0].from_reserve
        })
        .count();
    waiting.drain(..together).collect()
}

async fn forward(core: &Core, call: Vec<Forwarded>) {
    let leader = Arc::clone(&call[0].leader);
    let batches = call.iter().map(|forwarded| forwarded.batch.clone()).collect();
    let request = peer::ProposeRequest { batches, from_reserve: call[0].from_reserve };
    match core.transport.propose(leader, request).await {
        Ok(response) => {
            let mut outcomes = response.outcomes.into_iter();
            for forwarded in call {
                let result = match outcomes.next().and_then(|outcome| outcome.outcome) {
                    Some(outcome) => attempt(outcome),
                    None => Err(ProposeError::Indeterminate("the leader's answer is incomplete".into())),
                };
                // The asker may have gone; nobody else needs the answer.
                let _ = forwarded.reply.send(result);
            }
        }
        Err(error) => {
            for forwarded in call {
                let result = match &error {
                    TransportError::Unreachable { .. } => Ok(Attempt::NotProposed),
                    TransportError::Lost { .. } | TransportError::Refused { .. } => Err(ProposeError::Indeterminate(error.to_string())),
                };
                let _ = forwarded.reply.send(result);
            }
        }
    }
}

fn attempt(outcome: peer::propose_outcome::Outcome) -> Result<Attempt, ProposeError> {
    use peer::propose_outcome::Outcome;
    match outcome {
        Outcome::Applied(index) => Ok(Attempt::Applied(Index(index))),
        Outcome::Conflict(conflict) => {
            let answer = Answer::Conflict { expectation: conflict.expectation as usize, found: Revision(conflict.found) };
            settle(Index(conflict.index), answer)
        }
        Outcome::DiskFull(_) => Err(ProposeError::DiskFull),
        Outcome::Leader(_) => Ok(Attempt::NotProposed),
        Outcome::Unknown(reason) => Err(ProposeError::Indeterminate(reason)),
    }
}

//! Clients that read and write registers at any node, and remember what came of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Outcome};
use crate::dice::Dice;
use crate::history::History;
use crate::linearizability::register::{Action, Answer};
use crate::node::Node;

/// How long a client thinks between two operations.
const THOUGHT: std::ops::Range<Duration> = Duration::from_millis(5)..Duration::from_millis(120);
/// Registers that clients share.
pub const KEYS: usize = 4;

/// Lets a client work until `stop`.
pub async fn work(number: usize, client: Client, nodes: Arc<Vec<Node>>, history: History, mut dice: Dice, stop: CancellationToken) {
    // The newest version of each key that this client knows of.
    let mut known = [0; KEYS];
    let mut node = dice.pick(&nodes);
    for operation in 0u64.. {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(dice.duration(THOUGHT)) => {}
        }
        // Mostly faithful to one node, as a client with a connection is.
        if dice.chance(20) {
            node = dice.pick(&nodes);
        }
        let key = usize::try_from(dice.within(0..KEYS as u64)).expect("there are few keys");
        let value = number as u64 * 1_000_000 + operation + 1;
        let action = match dice.within(0..100) {
            0..50 => Action::Read,
            50..80 => Action::Write(value),
            // Now and then one that is sure to be refused.
            80..84 => Action::CompareAndSet { expected: known[key] + 1_000, value },
            _ => Action::CompareAndSet { expected: known[key], value },
        };
        let call = history.call(number, key, action);
        match client.operate(node, key, action).await {
            Outcome::Answered(answer) => {
                history.answered(call, answer);
                match answer {
                    Answer::Found(newest) => known[key] = newest.map_or(0, |(version, _)| version),
                    Answer::Written(version) => known[key] = version,
                    Answer::Mismatch => {}
                }
            }
            Outcome::NothingDone(_) => {
                history.refused(call);
                node = dice.pick(&nodes);
            }
            Outcome::Unknown(_) => {
                history.unknown(call);
                node = dice.pick(&nodes);
            }
        }
    }
}

/// Clients at work; they stop when told, or when this is dropped.
pub struct Clients {
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Clients {
    /// Lets them begin.
    pub fn start(clients: Vec<(Client, Dice)>, nodes: &Arc<Vec<Node>>, history: &History) -> Clients {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for (number, (client, dice)) in clients.into_iter().enumerate() {
            tasks.spawn(work(number, client, Arc::clone(nodes), history.clone(), dice, stop.clone()));
        }
        Clients { tasks, stop }
    }

    /// Lets each finish what it is at.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

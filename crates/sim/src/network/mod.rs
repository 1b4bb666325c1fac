//! [`SimNetwork`]: the wires between the nodes. Messages are delayed, lost and cut off; each is encoded, seen by the witness,
//! and decoded again.
//!
//! Behaves as gRPC over TCP does where nodes can tell: calls overtake each other, streams do not; a crashed node refuses
//! at once; a cut is noticed when keep-alives fail; a call that was dropped may yet be carried out.
//! Always: what a node sent is judged by the wires at that moment, not by those of the future.

mod peers;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use barrier::Barrier;
use bytes::Bytes;
use prost::Message;
use raft::Inbound;
use raft::watch;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::NodeId;

use crate::dice::Dice;
use crate::trace::Trace;
use crate::witness::Witness;

pub use peers::SimPeers;

/// A connection is given up when its peer was cut off for so long: as the ping and its timeout of the real transport.
const KEEP_ALIVE: Duration = Duration::from_millis(1500);
/// A new connection that is not answered for so long is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// After this time a sender of a stream sends again what was lost.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// How well messages travel.
#[derive(Debug, Clone)]
pub struct Weather {
    /// How long a message takes.
    pub delay: Range<Duration>,
    /// How many of a hundred messages are lost.
    pub loss_percent: u64,
}

impl Weather {
    /// As in one data centre.
    pub fn fair() -> Weather {
        Weather { delay: Duration::from_micros(100)..Duration::from_millis(2), loss_percent: 0 }
    }

    /// As between continents, on a bad day.
    pub fn foul() -> Weather {
        Weather { delay: Duration::from_millis(1)..Duration::from_millis(60), loss_percent: 4 }
    }
}

/// A running node, as the network reaches it.
#[derive(Clone)]
pub struct Endpoint {
    /// Answers Raft's calls.
    pub inbound: Inbound,
    /// Answers the ceremony's calls.
    pub barrier: Barrier,
    /// Cancelled when the node crashes.
    pub down: CancellationToken,
    /// Of the node: what it does for its peers.
    pub tasks: TaskTracker,
}

/// Why a call brought no answer.
#[derive(Debug)]
enum CallError {
    /// It certainly did not arrive.
    Unreachable(&'static str),
    /// It may have arrived.
    Lost(&'static str),
    /// The peer said no.
    Refused(String),
}

/// The wires. Clones are the same ones.
#[derive(Clone)]
pub struct SimNetwork {
    state: Arc<Mutex<State>>,
    /// Changes with every cut and repair.
    cuts: watch::Sender<()>,
    trace: Trace,
    witness: Witness,
}

struct State {
    dice: Dice,
    weather: Weather,
    endpoints: BTreeMap<NodeId, Endpoint>,
    /// From, to: nothing passes.
    cut: BTreeSet<(NodeId, NodeId)>,
}

impl SimNetwork {
    /// Wires in fair weather, to nobody yet.
    pub fn new(dice: Dice, trace: Trace, witness: Witness) -> SimNetwork {
        let state = State { dice, weather: Weather::fair(), endpoints: BTreeMap::new(), cut: BTreeSet::new() };
        SimNetwork { state: Arc::new(Mutex::new(state)), cuts: watch::Sender::new(()), trace, witness }
    }

    /// A node's way to its peers, until `down`.
    pub fn peers(&self, from: NodeId, down: CancellationToken) -> SimPeers {
        SimPeers::new(self.clone(), from, down)
    }

    /// From now on `node` can be reached.
    pub fn connect(&self, node: NodeId, endpoint: Endpoint) {
        self.state().endpoints.insert(node, endpoint);
    }

    /// From now on `node` refuses connections, as a machine does on which no process listens.
    pub fn disconnect(&self, node: &NodeId) {
        self.state().endpoints.remove(node);
    }

    /// From now on nothing passes from `from` to `to`. The other direction is another cut.
    pub fn cut(&self, from: &NodeId, to: &NodeId) {
        self.state().cut.insert((from.clone(), to.clone()));
        self.cuts.send_replace(());
    }

    /// Mends all cuts and brings fair weather.
    pub fn heal(&self) {
        let mut state = self.state();
        state.cut.clear();
        state.weather = Weather::fair();
        drop(state);
        self.cuts.send_replace(());
    }

    /// Changes the weather everywhere.
    pub fn set_weather(&self, weather: Weather) {
        self.state().weather = weather;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the wires")
    }

    fn endpoint(&self, node: &NodeId) -> Option<Endpoint> {
        self.state().endpoints.get(node).cloned()
    }

    fn is_cut(&self, from: &NodeId, to: &NodeId) -> bool {
        self.state().cut.contains(&(from.clone(), to.clone()))
    }

    /// Puts a message on the wire: it is encoded, and everybody on the way sees the bytes.
    fn transmit(&self, from: &NodeId, to: &NodeId, call: &'static str, message: &impl Message) -> Bytes {
        let bytes = Bytes::from(message.encode_to_vec());
        self.witness.saw_message(call, &bytes);
        self.trace.message(from, to, call, &bytes);
        bytes
    }

    /// How long a message takes; `None` when it does not arrive.
    fn passage(&self, from: &NodeId, to: &NodeId) -> Option<Duration> {
        let mut state = self.state();
        let Weather { delay, loss_percent } = state.weather.clone();
        let is_lost = state.dice.chance(loss_percent);
        let delay = state.dice.duration(delay);
        let passes = !is_lost && !state.cut.contains(&(from.clone(), to.clone()));
        passes.then_some(delay)
    }

    /// How long a message takes on a stream, where what is lost is sent again.
    fn reliable_passage(&self) -> Duration {
        let mut state = self.state();
        let Weather { delay, loss_percent } = state.weather.clone();
        let is_lost = state.dice.chance(loss_percent);
        state.dice.duration(delay) + if is_lost { RETRANSMISSION } else { Duration::ZERO }
    }

    /// Waits until messages pass.
    async fn mended(&self, from: &NodeId, to: &NodeId) {
        let mut cuts = self.cuts.subscribe();
        while self.is_cut(from, to) {
            if cuts.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until one of two nodes could not hear the other for [`KEEP_ALIVE`].
    async fn severed(&self, one: &NodeId, other: &NodeId) {
        let mut cuts = self.cuts.subscribe();
        loop {
            let is_cut = self.is_cut(one, other) || self.is_cut(other, one);
            let patience = if is_cut { KEEP_ALIVE } else { Duration::MAX };
            if timeout(patience, cuts.changed()).await.is_err() {
                return;
            }
        }
    }

    /// A call with one question and one answer. `serve` is carried out at the other node, whatever becomes of the caller.
    async fn call<Q, A, E, F>(
        self,
        from: NodeId,
        to: NodeId,
        call: &'static str,
        question: Q,
        serve: impl FnOnce(Endpoint, Q) -> F + Send + 'static,
    ) -> Result<A, CallError>
    where
        Q: Message + Default,
        A: Message + Default + 'static,
        E: fmt::Display + Send + 'static,
        F: Future<Output = Result<A, E>> + Send + 'static,
    {
        let bytes = self.transmit(&from, &to, call, &question);
        let Some(delay) = self.passage(&from, &to) else {
            sleep(CONNECT_TIMEOUT).await;
            return Err(CallError::Lost("no answer"));
        };
        sleep(delay).await;
        let endpoint = self.endpoint(&to).ok_or(CallError::Unreachable("connection refused"))?;
        let question = Q::decode(bytes).expect("it was encoded by the same type");

        let (reply, answer) = oneshot::channel();
        let serving = serve(endpoint.clone(), question);
        let down = endpoint.down.clone();
        endpoint.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = down.cancelled() => {}
                // The caller may have gone.
                served = serving => drop(reply.send(served)),
            }
        });
        let answer = tokio::select! {
            biased;
            answer = answer => answer.map_err(|_| CallError::Lost("connection reset"))?,
            () = self.severed(&from, &to) => return Err(CallError::Lost("keep-alive timed out")),
        };
        let answer = answer.map_err(|refusal| CallError::Refused(refusal.to_string()))?;
        let bytes = self.transmit(&to, &from, call, &answer);
        match self.passage(&to, &from) {
            Some(delay) => sleep(delay).await,
            None => {
                sleep(KEEP_ALIVE).await;
                return Err(CallError::Lost("no answer"));
            }
        }
        Ok(A::decode(bytes).expect("it was encoded by the same type"))
    }
}

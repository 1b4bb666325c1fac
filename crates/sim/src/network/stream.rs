//! Streams between two nodes: in order, and broken as a whole.

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use types::NodeId;

use super::{CallError, Endpoint, SimNetwork};

/// Messages under way in one direction, at most; further ones wait at the sender, as behind a full window.
const UNDER_WAY_MAX: usize = 256;

/// The connection is gone.
#[derive(Debug)]
pub(super) struct Reset;

impl std::fmt::Display for Reset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("connection reset")
    }
}

/// A connection. It ends when either node crashes, when they cannot hear each other for long, or when the caller lets go.
#[derive(Clone)]
pub(super) struct Connection {
    network: SimNetwork,
    pub(super) closed: CancellationToken,
}

/// One direction of a connection.
#[derive(Clone)]
pub(super) struct Direction {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) call: &'static str,
}

impl Direction {
    pub(super) fn back(&self) -> Direction {
        Direction { from: self.to.clone(), to: self.from.clone(), call: self.call }
    }
}

impl Connection {
    /// Connects two nodes; the guard closes the connection when it is dropped. `down` is the caller's.
    pub(super) async fn open(
        network: &SimNetwork,
        direction: &Direction,
        down: &CancellationToken,
    ) -> Result<(Connection, Endpoint, DropGuard), CallError> {
        let Direction { from, to, .. } = direction;
        let Some(delay) = network.passage(from, to) else {
            tokio::time::sleep(super::CONNECT_TIMEOUT).await;
            return Err(CallError::Unreachable("connection timed out"));
        };
        tokio::time::sleep(delay).await;
        let endpoint = network.endpoint(to).ok_or(CallError::Unreachable("connection refused"))?;
        let closed = down.child_token();
        let connection = Connection { network: network.clone(), closed: closed.clone() };
        let (network, peer_down, direction) = (network.clone(), endpoint.down.clone(), direction.clone());
        endpoint.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = closed.cancelled() => {}
                () = peer_down.cancelled() => {}
                () = network.severed(&direction.from, &direction.to) => {}
            }
            closed.cancel();
        });
        let guard = connection.closed.clone().drop_guard();
        Ok((connection, endpoint, guard))
    }

    /// Carries what `source` gives to the other node; `sent` is shown each message that goes on the wire.
    ///
    /// Returns the sending side's work, to be driven as a task, and what arrives.
    pub(super) fn carry<M: Message + Default + 'static>(
        &self,
        direction: Direction,
        source: BoxStream<'static, M>,
        sent: impl Fn(&M) + Send + 'static,
    ) -> (BoxFuture<'static, ()>, BoxStream<'static, Result<M, Reset>>) {
        let (sender, receiver) = mpsc::channel(UNDER_WAY_MAX);
        let sending = send(self.clone(), direction, source, sent, sender);
        (sending.boxed(), arrivals(self.closed.clone(), receiver).boxed())
    }
}

async fn send<M: Message + Default>(
    connection: Connection,
    direction: Direction,
    mut source: BoxStream<'static, M>,
    sent: impl Fn(&M) + Send + 'static,
    sender: mpsc::Sender<(Instant, M)>,
) {
    let Connection { network, closed } = connection;
    let Direction { from, to, call } = direction;
    let mut arrival = Instant::now();
    loop {
        let message = tokio::select! {
            biased;
            () = closed.cancelled() => return,
            message = source.next() => message,
        };
        let Some(message) = message else { return };
        sent(&message);
        let bytes = network.transmit(&from, &to, call, &message);
        tokio::select! {
            biased;
            () = closed.cancelled() => return,
            () = network.mended(&from, &to) => {}
        }
        // None arrives before the one that was sent before it.
        arrival = arrival.max(Instant::now() + network.reliable_passage());
        let message = M::decode(bytes).expect("it was encoded by the same type");
        tokio::select! {
            biased;
            () = closed.cancelled() => return,
            taken = sender.send((arrival, message)) => if taken.is_err() { return closed.cancel() },
        }
    }
}

/// What arrives, and at last whether the connection broke.
fn arrivals<M: Send>(closed: CancellationToken, receiver: mpsc::Receiver<(Instant, M)>) -> impl Stream<Item = Result<M, Reset>> {
    futures::stream::unfold(Some((closed, receiver)), |state| async move {
        let (closed, mut receiver) = state?;
        let message = tokio::select! {
            biased;
            () = closed.cancelled() => return Some((Err(Reset), None)),
            message = receiver.recv() => message,
        };
        let (arrival, message) = message?;
        tokio::select! {
            biased;
            () = closed.cancelled() => Some((Err(Reset), None)),
            () = sleep_until(arrival) => Some((Ok(message), Some((closed, receiver)))),
        }
    })
}

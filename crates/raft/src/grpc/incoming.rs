//! The peers' listener: TCP connections become TLS ones, each by the identity that the node has when it comes.
//!
//! Always: at most [`HANDSHAKES_MAX`] handshakes are under way, each at most [`HANDSHAKE_MAX`] long. While the node has no identity,
//! connections end at once, so that callers need not wait to find out.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::PeerIdentity;

/// Handshakes at once: a cluster has few nodes, each with few connections. Further callers wait in the system's queue.
const HANDSHAKES_MAX: usize = 256;
/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(3);
/// A pause after an accept that failed: the process may be out of files for a while.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

type Handshake = BoxFuture<'static, Option<TlsStream<TcpStream>>>;

struct Incoming {
    listener: TcpListener,
    identity: PeerIdentity,
    handshakes: FuturesUnordered<Handshake>,
}

/// The connections of peers who have shown a certificate of the cluster's CA. Who they are is for [`super::Admission`] to say.
pub fn incoming(listener: TcpListener, identity: PeerIdentity) -> impl Stream<Item = Result<TlsStream<TcpStream>, Infallible>> + Send {
    let incoming = Incoming { listener, identity, handshakes: FuturesUnordered::new() };
    futures::stream::unfold(incoming, |mut incoming| async move {
        let stream = incoming.next().await;
        Some((Ok(stream), incoming))
    })
}

impl Incoming {
    async fn next(&mut self) -> TlsStream<TcpStream> {
        loop {
            tokio::select! {
                Some(shaken) = self.handshakes.next() => if let Some(stream) = shaken {
                    return stream;
                },
                accepted = self.listener.accept(), if self.handshakes.len() < HANDSHAKES_MAX => match accepted {
                    Ok((stream, _)) => self.begin(stream),
                    Err(error) => {
                        tracing::warn!(%error, "accept a peer's connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn begin(&self, stream: TcpStream) {
        let Some(tls) = self.identity.borrow().clone() else { return };
        // With Nagle's algorithm an answer waits for the acknowledgement of the one before it, which the peer delays by 40 ms.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "set no delay for a peer's connection");
        }
        let handshake = async move {
            let shaken = tokio::time::timeout(HANDSHAKE_MAX, TlsAcceptor::from(tls.server()).accept(stream)).await;
            let shaken = shaken.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")));
            shaken.inspect_err(|error| tracing::debug!(%error, "a peer's handshake")).ok()
        };
        self.handshakes.push(handshake.boxed());
    }
}

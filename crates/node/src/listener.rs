//! The client listener: TCP, TLS, time limits; HTTP/1.1, HTTP/2 and gRPC on one port.
//!
//! Always: a connection on which nothing happens is closed, however it is silent; one that carried a share ends after its answer,
//! and all end when the node is sealed, since what went over them is still in their buffers; certificates can be changed while
//! connections go on. A client's certificate is asked for and, unless an authority is configured, believed by nobody: who
//! relies on it must verify it.

mod activity;
mod ending;
mod files;
mod tls;

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::handler::Handler;
use hyper::service::Service as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic_health::pb::health_server::{Health, HealthServer};
use types::json::JsonLimits;

use crate::config::ListenerConfig;
use crate::facts::Facts;
use crate::grpc::KvService;
use crate::http::{Edge, Limits};
use crate::room::Room;

use activity::Activity;
use ending::EndAll;

pub(crate) use ending::Ending;
pub(crate) use tls::ListenerTls;

/// How long a TLS handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Streams that one HTTP/2 connection may have open at once.
const STREAMS_MAX: u32 = 256;
/// Bytes of headers of one HTTP/2 request.
const HEADER_LIST_BYTES_MAX: u32 = 64 * 1024;
/// Bytes of headers of one HTTP/1.1 request.
const HEADER_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How long a connection stays open after its node has begun to stop, for a request that is on its way.
const LINGER: Duration = Duration::from_millis(300);
/// How long a connection may take to end once it is told to.
const CLOSE_MAX: Duration = Duration::from_secs(8);
/// Connections that the system keeps until they are accepted. Beyond them it drops what asks for one, and who asked waits a second
/// (Linux cuts this to `net.core.somaxconn`, 4096 by default).
const BACKLOG: u32 = 4_096;
/// Pause after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the HTTP side must hold to.
pub(crate) fn limits(config: &ListenerConfig, stale_max: Duration) -> Limits {
    Limits {
        stale_max,
        body_bytes_max: usize::try_from(config.request_size_bytes_max).unwrap_or(usize::MAX),
        duration_max: config.request_duration_max,
        json: JsonLimits::default(),
        room: Room::default(),
    }
}

/// Listens. A port that a process before this one used can be used again at once.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop`, then lets requests under way end.
pub(crate) fn serve<H: Health>(
    listener: TcpListener,
    tls: Option<ListenerTls>,
    edge: Edge,
    health: HealthServer<H>,
    config: &ListenerConfig,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<H> {
    let mut open = edge.barrier.watch_open();
    let router = router(edge, health, config);
    let (header_max, idle_max) = (config.header_read_timeout, config.idle_timeout);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Hyper's own limit for headers would also end connections that wait for their next request.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(HEADER_BUFFER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .keep_alive_timeout(Duration::from_secs(20));
    let server = Arc::new(builder);
    async move {
        let connections = TaskTracker::new();
        let places = Arc::new(Semaphore::new(files::connections_max()));
        // Ends the connections that are still there when all should have ended.
        let cut_off = CancellationToken::new();
        let end_all = EndAll::default();
        let mut late = 0;
        loop {
            // Connections that the system has made already: their clients may have asked, and would not know what became of it.
            let is_late = stop.is_cancelled();
            if is_late {
                late += 1;
                if late > BACKLOG {
                    break;
                }
            }
            let accepted = tokio::select! {
                biased;
                accepted = accept(&listener, &places), if is_late => accepted,
                () = std::future::ready(()), if is_late => break,
                () = stop.cancelled(), if !is_late => continue,
                Ok(()) = open.changed() => {
                    if !*open.borrow_and_update() {
                        end_all.now();
                    }
                    continue;
                }
                accepted = accept(&listener, &places) => accepted,
            };
            let Some((stream, remote, place)) = accepted else { continue };
            let ending = end_all.ending();
            let service = router.clone().layer(axum::Extension(crate::http::Remote(remote))).layer(axum::Extension(ending.clone()));
            let (acceptor, server, stop) = (tls.as_ref().map(ListenerTls::acceptor), Arc::clone(&server), stop.clone());
            let connection = async move {
                let activity = Activity::new(header_max, idle_max);
                match acceptor {
                    None => {
                        converse(&server, Watched::new(stream, header_max, activity.clone()), service, activity, ending, stop, remote).await
                    }
                    Some(acceptor) => match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => {
                            converse(&server, Watched::new(stream, header_max, activity.clone()), service, activity, ending, stop, remote)
                                .await;
                        }
                        Ok(Err(error)) => tracing::debug!(%error, %remote, "TLS handshake"),
                        Err(_) => tracing::debug!(%remote, "TLS handshake took too long"),
                    },
                }
                drop(place);
            };
            let cut_off = cut_off.clone();
            connections.spawn(async move {
                tokio::select! {
                    () = cut_off.cancelled() => {}
                    () = connection => {}
                }
            });
        }
        drop(listener);
        connections.close();
        if tokio::time::timeout(CLOSE_MAX, connections.wait()).await.is_err() {
            tracing::warn!("connections were still open and are cut off");
            cut_off.cancel();
            connections.wait().await;
        }
    }
}

/// gRPC by its paths, metrics if anybody may have them, and the HTTP API for all else.
fn router<H: Health>(edge: Edge, health: HealthServer<H>, config: &ListenerConfig) -> axum::Router {
    let kv = KvService::server(edge.clone());
    let facts: Arc<Facts> = Arc::clone(&edge.facts);
    let edge = Arc::new(edge);
    let limit = axum::middleware::from_fn_with_state(Arc::clone(&edge), crate::grpc::limit);
    let grpc = tonic::service::Routes::new(health).add_service(kv).into_axum_router().layer(limit);
    let mut router = grpc.fallback_service(crate::http::handle.with_state(edge));
    if config.metrics_without_token {
        let metrics = axum::routing::get(crate::facts::serve_metrics).with_state(Arc::clone(&facts));
        router = router.route_service("/v1/sys/metrics", metrics);
    }
    router.layer(axum::middleware::from_fn_with_state(facts, crate::facts::observe))
}

/// Serves one connection to its end.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    server: &auto::Builder<TokioExecutor>,
    stream: Watched<S>,
    router: axum::Router,
    activity: Activity,
    ending: Ending,
    stop: CancellationToken,
    remote: SocketAddr,
) {
    let inner = TowerToHyperService::new(router);
    let counted = activity.clone();
    let service = hyper::service::service_fn(move |request| {
        let (request_of, answer) = (counted.begin(), inner.call(request));
        async move {
            let answer = answer.await;
            match answer {
                // It runs until its body is sent.
                Ok(response) if response.extensions().get::<crate::http::Streamed>().is_some() => Ok(response.map(|body| {
                    axum::body::Body::new(http_body_util::BodyExt::map_frame(body, move |frame| {
                        let _request_of = &request_of;
                        frame
                    }))
                })),
                answer => answer,
            }
        }
    });
    let connection = server.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => Some(served),
        () = stop.cancelled() => {
            // A request may be on its way: it is answered, and ends the connection.
            match tokio::time::timeout(LINGER, connection.as_mut()).await {
                Ok(served) => Some(served),
                Err(_) => {
                    // What runs goes on; the connection ends after it.
                    connection.as_mut().graceful_shutdown();
                    Some(connection.await)
                }
            }
        }
        () = async { tokio::select! { () = ending.asked() => {}, () = activity.idle() => {} } } => {
            connection.as_mut().graceful_shutdown();
            loop {
                match tokio::time::timeout(CLOSE_MAX, connection.as_mut()).await {
                    Ok(served) => break Some(served),
                    // A request has a limit of its own.
                    Err(_) if activity.is_busy() => {}
                    Err(_) => break None,
                }
            }
        }
    };
    let Some(served) = served else { return tracing::debug!(%remote, "a connection did not close and is cut off") };
    if let Err(error) = served {
        tracing::debug!(error, %remote, "connection ended");
    }
}

/// How an HTTP/2 connection begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that is closed when a request's headers do not come in time.
///
/// Until it is clear whether it speaks HTTP/1.1 or HTTP/2, something must come. Over HTTP/1.1 a request must begin in time
/// after its first byte. (Over HTTP/2 headers are bounded by their frames, and the peer must answer pings.)
struct Watched<S> {
    stream: S,
    /// When headers must be there; `None` while none are being waited for.
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
    within: Duration,
    protocol: Protocol,
    activity: Activity,
}

/// What a connection speaks.
enum Protocol {
    /// So many bytes of the preface have come.
    Unclear(usize),
    Http1,
    Http2,
}

impl<S> Watched<S> {
    fn new(stream: S, within: Duration, activity: Activity) -> Watched<S> {
        let deadline = Some(Box::pin(tokio::time::sleep(within)));
        Watched { stream, deadline, within, protocol: Protocol::Unclear(0), activity }
    }

    fn note(&mut self, bytes: &[u8]) {
        match self.protocol {
            Protocol::Unclear(matched) => {
                let rest = &PREFACE[matched..];
                let compared = rest.len().min(bytes.len());
                if rest[..compared] != bytes[..compared] {
                    // The deadline goes on: these are the first headers.
                    self.protocol = Protocol::Http1;
                } else if matched + compared == PREFACE.len() {
                    self.protocol = Protocol::Http2;
                    self.deadline = None;
                } else {
                    self.protocol = Protocol::Unclear(matched + compared);
                }
            }
            Protocol::Http1 if self.deadline.is_none() && !self.activity.is_busy() => {
                self.deadline = Some(Box::pin(tokio::time::sleep(self.within)));
            }
            Protocol::Http1 | Protocol::Http2 => {}
        }
    }

    /// Whether headers should have come by now.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        // Once a request has begun, its headers were there.
        if matches!(self.protocol, Protocol::Http1) && self.activity.take_began() {
            self.deadline = None;
        }
        self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(context).is_ready())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        match &polled {
            Poll::Pending if this.is_late(context) => {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no request came")));
            }
            Poll::Ready(Ok(())) => {
                // A byte at a time must not win more of it.
                if this.is_late(context) {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "a request's headers took too long")));
                }
                this.note(&buffer.filled()[before..]);
            }
            Poll::Pending | Poll::Ready(Err(_)) => {}
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<Accepted> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, remote)) => {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "set TCP_NODELAY");
            }
            Some((stream, remote, place))
        }
        Err(error) => {
            tracing::warn!(%error, "accept");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const HEADER_MAX: Duration = Duration::from_millis(50);

    fn activity() -> Activity {
        Activity::new(HEADER_MAX, Duration::from_secs(9))
    }

    /// What a reader gets that waits for `sent` and more: bytes, or the error's kind.
    async fn read(sent: &[u8], activity: Activity) -> Result<usize, io::ErrorKind> {
        let (mut client, server) = tokio::io::duplex(1024);
        let mut server = Watched::new(server, HEADER_MAX, activity.clone());
        client.write_all(sent).await.unwrap();
        let mut got = 0;
        loop {
            match tokio::time::timeout(HEADER_MAX * 6, server.read(&mut [0; 7])).await {
                Ok(Ok(count)) => got += count,
                Ok(Err(error)) => return Err(error.kind()),
                Err(_) => return Ok(got),
            }
        }
    }

    #[tokio::test]
    async fn a_silent_connection_does_not_keep_its_place() {
        for silent in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", b"G", b"GET / HTTP/1.1\r\nhost:"] {
            assert_eq!(read(silent, activity()).await, Err(io::ErrorKind::TimedOut), "{silent:?}");
        }
        assert_eq!(read(PREFACE, activity()).await, Ok(PREFACE.len()), "other limits hold from here on");
    }

    #[tokio::test]
    async fn a_request_that_has_begun_has_other_limits() {
        let activity = activity();
        let _request = activity.begin();
        assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n", activity).await, Ok(18));
    }

    #[tokio::test]
    async fn the_next_requests_headers_must_come_in_time_too_but_may_begin_late() {
        let activity = activity();
        let (mut client, server) = tokio::io::duplex(1024);
        let mut server = Watched::new(server, HEADER_MAX, activity.clone());
        client.write_all(b"GET").await.unwrap();
        assert_eq!(server.read(&mut [0; 9]).await.unwrap(), 3);
        drop(activity.begin());
        let idle = tokio::time::timeout(HEADER_MAX * 4, server.read(&mut [0; 9])).await;
        assert!(idle.is_err(), "between two requests a connection may rest");
        client.write_all(b"GET").await.unwrap();
        assert_eq!(server.read(&mut [0; 9]).await.unwrap(), 3);
        let late = tokio::time::timeout(HEADER_MAX * 4, server.read(&mut [0; 9])).await.expect("it does not wait for ever");
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}

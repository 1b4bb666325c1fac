//! The client listener: TCP, TLS, time limits; HTTP/1.1, HTTP/2 and gRPC on one port.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::handler::Handler;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic_health::pb::health_server::{Health, HealthServer};
use types::json::JsonLimits;

use crate::boot::RunError;
use crate::config::{ListenerConfig, TlsFiles, TlsVersion};
use crate::grpc::KvService;
use crate::http::{Edge, Limits};
use crate::room::Room;

/// Connections at once, at most; further ones wait in the system's queue.
const CONNECTIONS_MAX: usize = 16_384;
/// How long a TLS handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Streams that one HTTP/2 connection may have open at once.
const STREAMS_MAX: u32 = 256;
/// Bytes of headers of one HTTP/2 request.
const HEADER_LIST_BYTES_MAX: u32 = 64 * 1024;
/// Bytes of headers of one HTTP/1.1 request.
const HEADER_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How long connections may take to end once the node stops.
const CLOSE_MAX: Duration = Duration::from_secs(8);
/// Pause after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the HTTP side must hold to.
pub(crate) fn limits(config: &ListenerConfig) -> Limits {
    Limits {
        body_bytes_max: usize::try_from(config.request_size_bytes_max).unwrap_or(usize::MAX),
        duration_max: config.request_duration_max,
        json: JsonLimits::default(),
        room: Room::default(),
    }
}

/// Reads the clients' certificate and key.
pub(crate) fn tls(files: &TlsFiles) -> Result<TlsAcceptor, RunError> {
    let refuse = |error: &dyn std::fmt::Display| RunError::ListenerTls(error.to_string());
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(&files.cert).and_then(Iterator::collect).map_err(|error| refuse(&error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| refuse(&error))?;
    let versions: &[&rustls::SupportedProtocolVersion] = match files.min_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .map_err(|error| refuse(&error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| refuse(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until `stop`, then lets requests under way end.
pub(crate) fn serve<H: Health>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    edge: Edge,
    health: HealthServer<H>,
    config: &ListenerConfig,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<H> {
    let kv = KvService::server(edge.clone());
    let edge = Arc::new(edge);
    let limit = axum::middleware::from_fn_with_state(Arc::clone(&edge), crate::grpc::limit);
    let grpc = tonic::service::Routes::new(health).add_service(kv).into_axum_router().layer(limit);
    let router = grpc.fallback_service(crate::http::handle.with_state(edge));
    let preface_max = config.header_read_timeout;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(config.header_read_timeout).max_buf_size(HEADER_BUFFER_BYTES_MAX);
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
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&listener, &places) => accepted,
            };
            let Some((stream, remote, place)) = accepted else { continue };
            let service = TowerToHyperService::new(router.clone().layer(axum::Extension(crate::http::Remote(remote))));
            let (tls, server, watcher) = (tls.clone(), Arc::clone(&server), graceful.watcher());
            connections.spawn(async move {
                let served = match tls {
                    None => {
                        watcher.watch(server.serve_connection(TokioIo::new(Prompt::new(stream, preface_max)), service).into_owned()).await
                    }
                    Some(tls) => match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
                        Ok(Ok(stream)) => {
                            let stream = Prompt::new(stream, preface_max);
                            watcher.watch(server.serve_connection(TokioIo::new(stream), service).into_owned()).await
                        }
                        Ok(Err(error)) => return tracing::debug!(%error, %remote, "TLS handshake"),
                        Err(_) => return tracing::debug!(%remote, "TLS handshake took too long"),
                    },
                };
                if let Err(error) = served {
                    tracing::debug!(error, %remote, "connection ended");
                }
                drop(place);
            });
        }
        drop(listener);
        connections.close();
        if tokio::time::timeout(CLOSE_MAX, graceful.shutdown()).await.is_err() {
            tracing::warn!("connections were still open and are cut off");
        }
    }
}

/// How an HTTP/2 connection begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection on which it must be clear in time whether it speaks HTTP/1.1 or HTTP/2: until then, no other limit runs.
struct Prompt<S> {
    stream: S,
    /// `None` once it is clear.
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Bytes of the preface that have come.
    matched: usize,
}

impl<S> Prompt<S> {
    fn new(stream: S, within: Duration) -> Prompt<S> {
        Prompt { stream, deadline: Some(Box::pin(tokio::time::sleep(within))), matched: 0 }
    }

    fn note(&mut self, bytes: &[u8]) {
        let rest = &PREFACE[self.matched..];
        let compared = rest.len().min(bytes.len());
        self.matched += compared;
        if self.matched == PREFACE.len() || rest[..compared] != bytes[..compared] {
            self.deadline = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prompt<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        if let Some(deadline) = &mut this.deadline {
            match &polled {
                Poll::Pending if deadline.as_mut().poll(context).is_ready() => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no request came")));
                }
                Poll::Ready(Ok(())) => this.note(&buffer.filled()[before..]),
                Poll::Pending | Poll::Ready(Err(_)) => {}
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prompt<S> {
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

type Accepted = (TcpStream, std::net::SocketAddr, tokio::sync::OwnedSemaphorePermit);

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

    /// What a reader gets that waits for `sent` and more: bytes, or the error's kind.
    async fn read(sent: &[u8]) -> Result<usize, io::ErrorKind> {
        let (mut client, server) = tokio::io::duplex(1024);
        let mut server = Prompt::new(server, Duration::from_millis(50));
        client.write_all(sent).await.unwrap();
        let mut got = 0;
        loop {
            match tokio::time::timeout(Duration::from_millis(300), server.read(&mut [0; 7])).await {
                Ok(Ok(count)) => got += count,
                Ok(Err(error)) => return Err(error.kind()),
                Err(_) => return Ok(got),
            }
        }
    }

    #[tokio::test]
    async fn a_silent_connection_does_not_keep_its_place() {
        for silent in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            assert_eq!(read(silent).await, Err(io::ErrorKind::TimedOut), "{silent:?}");
        }
        for clear in [PREFACE, b"G", b"GET / HTTP/1.0\r\n\r\n", b"PRI * HTTP/1.1"] {
            assert_eq!(read(clear).await, Ok(clear.len()), "{clear:?}: other limits hold from here on");
        }
    }
}

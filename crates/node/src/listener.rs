//! The client listener: TCP, TLS, time limits; HTTP/1.1, HTTP/2 and gRPC on one port.

use std::sync::Arc;
use std::time::Duration;

use axum::handler::Handler;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
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
use crate::http::{BODIES_BYTES_MAX, BODY_UNIT_BYTES, Edge, Limits};

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
        bodies: Arc::new(Semaphore::new(BODIES_BYTES_MAX / BODY_UNIT_BYTES)),
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
    let grpc = tonic::service::Routes::new(health).add_service(kv).into_axum_router();
    let router = grpc.fallback_service(crate::http::handle.with_state(Arc::new(edge)));
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
                    None => watcher.watch(server.serve_connection(TokioIo::new(stream), service).into_owned()).await,
                    Some(tls) => match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
                        Ok(Ok(stream)) => watcher.watch(server.serve_connection(TokioIo::new(stream), service).into_owned()).await,
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

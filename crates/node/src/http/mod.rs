//! HTTP: reads a request into what the service understands, and writes its answer as Vault's clients expect it.

mod error;
mod joining;
mod read;
mod reading;
mod render;
mod system;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use barrier::Barrier;
use crypto::{Rng, SecretBytes};
use futures::StreamExt;
use raft::Raft;
use service::RefusedShares;
use tokio_util::sync::CancellationToken;
use types::json::JsonLimits;
use types::{Clock, NodeId, Path, RequestId};

use crate::lifecycle::Serving;
use crate::listener::Ending;
use crate::room::{BodyError, Gate, Held, Room};

pub(crate) use error::Failure;
pub(crate) use read::{check_json, namespace, reading, shown_headers, token};
pub(crate) use reading::read_whole;
pub(crate) use render::AGE_HEADER;
pub(crate) use system::ROUTES as SYSTEM_ROUTES;

/// What a request may cost before anybody is known to ask.
#[derive(Clone)]
pub(crate) struct Limits {
    pub(crate) body_bytes_max: usize,
    pub(crate) duration_max: Duration,
    pub(crate) json: JsonLimits,
    /// The most staleness that a read may ask for.
    pub(crate) stale_max: Duration,
    /// Room for the bodies of all requests together.
    pub(crate) room: Room,
}

/// How long a snapshot may take to arrive and to be put in place. One that stops arriving ends long before.
const TRANSFER_DURATION_MAX: Duration = Duration::from_secs(6 * 60 * 60);
/// The namespace that a request is for; the answer repeats it.
const NAMESPACE_HEADER: &str = "x-vault-namespace";
/// The largest body of a route that is served without a token.
const SYSTEM_BODY_BYTES_MAX: usize = crate::room::FREE_BYTES;

/// What listeners hold of the floors below.
#[derive(Clone)]
pub(crate) struct Edge {
    pub(crate) raft: Raft,
    pub(crate) barrier: Barrier,
    pub(crate) serving: Serving,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) limits: Limits,
    pub(crate) cluster_name: String,
    pub(crate) node_id: NodeId,
    pub(crate) facts: Arc<crate::facts::Facts>,
    /// Who has entered wrong shares.
    pub(crate) refused_shares: Arc<RefusedShares>,
    pub(crate) peering: crate::peers::Peering,
    pub(crate) joining: Arc<joining::Joining>,
    /// Cancelled when the node begins to stop: it answers on for a while, and asks to be left alone.
    pub(crate) stopping: CancellationToken,
}

impl Edge {
    /// Finds out, when asked, whether there is such a token.
    pub(crate) fn knows(&self, token: &SecretBytes) -> Gate {
        let serving = self.serving.clone();
        // EXPOSE: a copy of the token, to be looked up when the body turns out to be large.
        let token = SecretBytes::with_len(token.len(), |buffer| buffer.copy_from_slice(token.expose()));
        Box::pin(async move {
            match serving.service() {
                Some(service) => service.knows(&token).await,
                None => false,
            }
        })
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy)]
pub(crate) struct Remote(pub(crate) SocketAddr);

/// Handles a request that is not gRPC.
pub(crate) async fn handle(
    State(edge): State<Arc<Edge>>,
    Extension(Remote(remote)): Extension<Remote>,
    Extension(ending): Extension<Ending>,
    request: Request,
) -> Response {
    let id = RequestId::generate();
    let is_head = request.method() == http::Method::HEAD;
    let is_http1 = request.version() <= http::Version::HTTP_11;
    let namespace = request.headers().get(NAMESPACE_HEADER).cloned();
    let is_page = is_page(request.uri().path());
    let takes_long =
        Path::parse_http(request.uri().path().strip_prefix("/v1/").unwrap_or_default()).is_ok_and(|path| service::takes_long(&path));
    let duration_max = if takes_long { edge.limits.duration_max.max(TRANSFER_DURATION_MAX) } else { edge.limits.duration_max };
    let handled = tokio::time::timeout(duration_max, shared(&edge, id, remote, &ending, request)).await;
    let mut response = match handled {
        Ok(Ok(response)) => response,
        Ok(Err(failure)) => render::failure(&failure),
        Err(_) => render::failure(&Failure::TookTooLong),
    };
    if is_page && let Some(headers) = page_headers(&edge).await {
        render::add(&mut response, &headers);
    }
    render::name(&mut response, id);
    if let Some(namespace) = namespace {
        // As it came: clients compare it.
        response.headers_mut().insert(NAMESPACE_HEADER, namespace);
    }
    if is_http1 && (ending.is_asked() || edge.stopping.is_cancelled()) {
        // So that the client sends no further request on a connection that is about to close. (HTTP/2 has a frame for that.)
        response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
    }
    if is_head { response.map(|_| Body::empty()) } else { response }
}

/// Whether a path is where Vault has its pages. There are none here, and what answers for them says so with the headers that are set for them.
fn is_page(path: &str) -> bool {
    path == "/ui" || path.starts_with("/ui/")
}

async fn page_headers(edge: &Edge) -> Option<service::UiHeaders> {
    let service = edge.serving.service()?;
    tokio::time::timeout(edge.limits.duration_max, service.ui_headers()).await.ok().flatten()
}

/// Answers, and lets the script of a web page read the answer if its page may call (Fetch standard, CORS protocol).
async fn shared(edge: &Edge, id: RequestId, remote: SocketAddr, ending: &Ending, request: Request) -> Result<Response, Failure> {
    let Some(origin) = request.headers().get(http::header::ORIGIN).cloned() else { return route(edge, id, remote, ending, request).await };
    let cors = match edge.serving.service() {
        Some(service) => service.cors().await,
        None => None,
    };
    let Some(cors) = cors else { return route(edge, id, remote, ending, request).await };
    if !origin.to_str().is_ok_and(|origin| cors.allows(origin)) {
        return Err(Failure::Origin);
    }
    let mut response = match *request.method() {
        http::Method::OPTIONS => render::preflight(&cors),
        _ => route(edge, id, remote, ending, request).await.unwrap_or_else(|failure| render::failure(&failure)),
    };
    render::share(&mut response, &origin);
    Ok(response)
}

async fn route(edge: &Edge, id: RequestId, remote: SocketAddr, ending: &Ending, request: Request) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    let path = read::path(&head)?;
    if let Some(route) = system::find(&path) {
        if !system::is_in_every_namespace(route) && !read::namespace(&head.headers)?.is_root() {
            return Err(Failure::Header("operation unavailable in namespaces".into()));
        }
        // What is written without a token is a share, and what is answered may be all of them.
        let _ends = (!matches!(head.method, http::Method::GET | http::Method::HEAD)).then(|| ending.after_answer());
        let bytes_max = system::body_bytes_max(route).min(edge.limits.body_bytes_max);
        // Larger than what anybody may send is only what makes the first keys: there is nobody yet who could be known.
        let barrier = edge.barrier.clone();
        let gate: Gate = Box::pin(async move { matches!(barrier.is_initialized().await, Ok(false)) });
        let (body, _held) = read::body(&head, body, bytes_max, &edge.limits, gate).await?;
        return system::handle(edge, route, &head, &body, remote).await;
    }
    // Refused before the body is read: a sealed node holds nothing in memory for anybody.
    if edge.serving.service().is_none() {
        return Err(Failure::Sealed);
    }
    let namespace = read::namespace(&head.headers)?;
    let wrap_ttl = read::wrap_ttl(&head.headers)?;
    let (verb, query) = read::verb(&head)?;
    let reading = read::reading(&head.headers, verb, edge.limits.stale_max)?;
    let token = read::token(&head.headers)?;
    let gate: Gate = match &token {
        Some(token) => edge.knows(token),
        // A login's body is small.
        None => Box::pin(async { false }),
    };
    let is_upload = verb == types::capability::Verb::Write && service::takes_upload(&path);
    let mut upload = None;
    let read = if is_upload {
        // Read by whom it is for, once it is clear that the caller may.
        upload = Some(service::Pieces::new(body.into_data_stream().map(|piece| piece.map_err(std::io::Error::other)).boxed()));
        Ok((engine::no_body(), Held::default()))
    } else if head.method == http::Method::DELETE && service::takes_share_in_delete(&path) {
        // A share, perhaps.
        read::any_body(&head, body, SYSTEM_BODY_BYTES_MAX.min(edge.limits.body_bytes_max), &edge.limits, gate).await
    } else {
        read::body(&head, body, edge.limits.body_bytes_max, &edge.limits, gate).await
    };
    let (body, _held) = match read {
        // Denied as any unknown caller is, and recorded.
        Err(Failure::Upload(BodyError::UnknownCaller)) => (engine::no_body(), Held::default()),
        read => read?,
    };
    // Taken only now: a slow body must not keep the service, and its keys, beyond a seal.
    let service = edge.serving.service().ok_or(Failure::Sealed)?;
    let path = if matches!(verb, types::capability::Verb::List | types::capability::Verb::Scan) { path.as_folder() } else { path };
    let is_top_level = render::is_top_level(&path);
    let headers = read::shown_headers(&head.headers);
    let request =
        service::Request { id, verb, namespace, path, body, query, token, remote: Some(remote), headers, wrap_ttl, reading, upload };
    let response = service.handle(request).await;
    Ok(render::response(response, is_top_level))
}

/// Marks an answer whose body is made while it is sent: its connection is busy until then.
#[derive(Clone, Copy)]
pub(crate) struct Streamed;

//! The native gRPC API: KV v2. Each call becomes the request that its HTTP form would be, and goes the same way.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::middleware::Next;
use crypto::{SecretBytes, Zeroizing};
use engine::AskError;
use futures::TryStreamExt;
use proto::kv;
use proto::kv::kv_server::{Kv, KvServer};
use serde::Deserialize;
use serde_json::value::RawValue;
use service::{Answer, Refusal};
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};
use types::capability::Verb;
use types::{Path, RequestId};

use crate::http::{AGE_HEADER, Edge, Remote};
use crate::room::{BodyError, FREE_BYTES, Framing, Gate};

mod transact;

/// Serves `conclave.kv.v1.Kv`.
pub(crate) struct KvService {
    edge: Arc<Edge>,
}

impl KvService {
    /// Ready to be added to the clients' listener.
    pub(crate) fn server(edge: Edge) -> KvServer<KvService> {
        let limit = edge.limits.body_bytes_max;
        KvServer::new(KvService { edge: Arc::new(edge) }).max_decoding_message_size(limit).max_encoding_message_size(limit)
    }

    /// Sends a call that has no use for an age.
    async fn ask<T>(
        &self,
        call: &Request<T>,
        verb: Verb,
        parts: &[&str],
        query: Vec<(String, String)>,
        body: SecretBytes,
    ) -> Result<Answer, Status> {
        self.ask_aged(call, verb, parts, query, body).await.map(|(answer, _)| answer)
    }

    /// Sends a call the way of every request. `parts` of the path: mount, area and what is below. Of a bounded-stale read also its age.
    async fn ask_aged<T>(
        &self,
        call: &Request<T>,
        verb: Verb,
        parts: &[&str],
        query: Vec<(String, String)>,
        body: SecretBytes,
    ) -> Result<(Answer, Option<Duration>), Status> {
        let service = self.edge.serving.service().ok_or_else(|| Status::unavailable("sealed"))?;
        let text = Zeroizing::new(parts.join("/"));
        let path = Path::parse(&text).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let path = if verb == Verb::List { path.as_folder() } else { path };
        // EXPOSE: the body's shape is checked.
        crate::http::check_json(body.expose(), &self.edge.limits.json).map_err(|failure| Status::invalid_argument(failure.to_string()))?;
        let token = crate::http::token(call.metadata().as_ref()).map_err(|failure| Status::invalid_argument(failure.to_string()))?;
        let remote = call.extensions().get::<Remote>().map(|Remote(remote)| *remote);
        let namespace =
            crate::http::namespace(call.metadata().as_ref()).map_err(|failure| Status::invalid_argument(failure.to_string()))?;
        let reading = crate::http::reading(call.metadata().as_ref(), verb, self.edge.limits.stale_max)
            .map_err(|failure| Status::invalid_argument(failure.to_string()))?;
        let headers = crate::http::shown_headers(call.metadata().as_ref());
        let id = RequestId::generate();
        let request =
            service::Request { id, verb, namespace, path, body, query, token, remote, headers, wrap_ttl: None, reading, upload: None };
        let response = service.handle(request).await;
        let age = response.age;
        response.outcome.map(|answer| (answer, age)).map_err(|refusal| {
            let mut status = status(&refusal);
            if let Ok(id) = MetadataValue::try_from(id.to_string()) {
                status.metadata_mut().insert("x-conclave-request-id", id);
            }
            status
        })
    }
}

/// An answer that tells its age, if it has one.
fn aged<T>(message: T, age: Option<Duration>) -> Response<T> {
    let mut response = Response::new(message);
    if let Some(value) = age.and_then(|age| MetadataValue::try_from(types::duration::print(age)).ok()) {
        response.metadata_mut().insert(AGE_HEADER, value);
    }
    response
}

/// Holds every gRPC call to the limits of all requests, before its message is read: its room in memory, and its time.
pub(crate) async fn limit(State(edge): State<Arc<Edge>>, call: axum::extract::Request, next: Next) -> axum::response::Response {
    let (head, body) = call.into_parts();
    let (bytes_max, gate): (usize, Gate) = match crate::http::token(&head.headers) {
        Ok(Some(token)) => (edge.limits.body_bytes_max, edge.knows(&token)),
        // Nothing will be done for this caller, so little is read from it.
        Ok(None) => (FREE_BYTES, Box::pin(async { false })),
        Err(failure) => return Status::invalid_argument(failure.to_string()).into_http(),
    };
    let (stream, _held) = edge.limits.room.meter(body, bytes_max, Framing::Grpc, gate);
    let body = Body::from_stream(stream.map_err(|error| match error {
        BodyError::UnknownCaller => Status::permission_denied(error.to_string()),
        BodyError::NoRoom | BodyError::TooLarge(_) => Status::resource_exhausted(error.to_string()),
        BodyError::Lost => Status::cancelled(error.to_string()),
    }));
    match tokio::time::timeout(edge.limits.duration_max, next.run(axum::extract::Request::from_parts(head, body))).await {
        Ok(response) => response,
        Err(_) => Status::deadline_exceeded("the request took too long; if it was a write, read before you try again").into_http(),
    }
}

/// The gRPC form of a refusal. `unavailable` and `aborted` may be tried again; `unknown` only by who has read first.
fn status(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        Refusal::Denied | Refusal::Forbidden(_) => Status::permission_denied(text),
        Refusal::NoRoute(_) | Refusal::NoSuch(_) | Refusal::Ask(AskError::UnsupportedPath) => Status::not_found(text),
        Refusal::Ask(AskError::UnsupportedOperation) => Status::unimplemented(text),
        Refusal::Ask(AskError::Invalid(_) | AskError::UnsupportedMediaType(_)) => Status::invalid_argument(text),
        Refusal::Refused(_) => Status::failed_precondition(text),
        Refusal::TooLarge | Refusal::DiskFull | Refusal::TooMany(_) => Status::resource_exhausted(text),
        Refusal::Contended => Status::aborted(text),
        Refusal::Sealed | Refusal::NoLeader | Refusal::Unavailable(_) => Status::unavailable(text),
        Refusal::Indeterminate => Status::unknown(text),
        Refusal::Audit | Refusal::Internal => Status::internal(text),
    }
}

#[derive(Deserialize)]
struct Versioned<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    metadata: VersionJson,
}

#[derive(Deserialize)]
struct VersionJson {
    version: u64,
    created_time: String,
    deletion_time: String,
    destroyed: bool,
}

impl From<VersionJson> for kv::Version {
    fn from(json: VersionJson) -> kv::Version {
        kv::Version { number: json.version, created_time: json.created_time, deletion_time: json.deletion_time, destroyed: json.destroyed }
    }
}

fn malformed(error: serde_json::Error) -> Status {
    tracing::error!(%error, "an engine's answer is not what it should be");
    Status::internal("internal error")
}

/// The caller's own data, as JSON; else what is wrong with it. Whether it is an object the engine says.
fn object(data: &[u8]) -> Result<&RawValue, &'static str> {
    serde_json::from_slice(data).map_err(|_| "data must be a JSON object")
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn transact(&self, call: Request<kv::TransactRequest>) -> Result<Response<kv::TransactResponse>, Status> {
        let operations = &call.get_ref().operations;
        let body = transact::body(operations)?;
        match self.ask(&call, Verb::Write, &["sys", "transaction"], Vec::new(), body).await? {
            // EXPOSE: the answer leaves for the caller who may have it; its audit records are durable.
            Answer::Data(data) => Ok(Response::new(transact::response(operations, data.expose())?)),
            _ => Err(Status::internal("internal error")),
        }
    }

    async fn get(&self, call: Request<kv::GetRequest>) -> Result<Response<kv::GetResponse>, Status> {
        let ask = call.get_ref();
        let query = if ask.version == 0 { Vec::new() } else { vec![("version".into(), ask.version.to_string())] };
        let (answer, age) = self.ask_aged(&call, Verb::Read, &[&ask.mount, "data", &ask.path], query, engine::no_body()).await?;
        match answer {
            Answer::Data(data) => {
                // EXPOSE: the answer leaves for the caller who may have it; its audit record is durable.
                let found: Versioned<'_> = serde_json::from_slice(data.expose()).map_err(malformed)?;
                let data = found.data.map(|data| data.get().as_bytes().to_vec()).unwrap_or_default();
                Ok(aged(kv::GetResponse { data, version: Some(found.metadata.into()) }, age))
            }
            Answer::Gone(_) => Err(Status::not_found("this version is deleted")),
            _ => Err(Status::not_found("no such secret")),
        }
    }

    async fn put(&self, call: Request<kv::PutRequest>) -> Result<Response<kv::PutResponse>, Status> {
        let ask = call.get_ref();
        // EXPOSE: the caller's own data becomes part of the body.
        let data = object(&ask.data).map_err(Status::invalid_argument)?;
        let mut body = Vec::with_capacity(ask.data.len() + 64);
        body.extend_from_slice(b"{\"data\":");
        body.extend_from_slice(data.get().as_bytes());
        if let Some(cas) = ask.cas {
            body.extend_from_slice(format!(",\"options\":{{\"cas\":{cas}}}").as_bytes());
        }
        body.push(b'}');
        match self.ask(&call, Verb::Write, &[&ask.mount, "data", &ask.path], Vec::new(), SecretBytes::from(body)).await? {
            Answer::Data(data) => {
                // EXPOSE: holds the new version's number and times.
                let version: VersionJson = serde_json::from_slice(data.expose()).map_err(malformed)?;
                Ok(Response::new(kv::PutResponse { version: Some(version.into()) }))
            }
            _ => Err(Status::internal("internal error")),
        }
    }

    async fn delete(&self, call: Request<kv::DeleteRequest>) -> Result<Response<kv::DeleteResponse>, Status> {
        let ask = call.get_ref();
        let answer = if ask.versions.is_empty() {
            self.ask(&call, Verb::Delete, &[&ask.mount, "data", &ask.path], Vec::new(), engine::no_body()).await?
        } else {
            let body = engine::json(&serde_json::json!({ "versions": ask.versions }));
            self.ask(&call, Verb::Write, &[&ask.mount, "delete", &ask.path], Vec::new(), body).await?
        };
        match answer {
            Answer::Done | Answer::Data(_) => Ok(Response::new(kv::DeleteResponse {})),
            _ => Err(Status::not_found("no such secret")),
        }
    }

    async fn list(&self, call: Request<kv::ListRequest>) -> Result<Response<kv::ListResponse>, Status> {
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<String>,
        }
        let ask = call.get_ref();
        let (answer, age) = self.ask_aged(&call, Verb::List, &[&ask.mount, "metadata", &ask.path], Vec::new(), engine::no_body()).await?;
        match answer {
            Answer::Data(data) => {
                // EXPOSE: the names leave for the caller who may have them; the audit record is durable.
                let Keys { keys } = serde_json::from_slice(data.expose()).map_err(malformed)?;
                Ok(aged(kv::ListResponse { keys }, age))
            }
            _ => Ok(aged(kv::ListResponse { keys: Vec::new() }, age)),
        }
    }
}

//! KV v2 over gRPC (`proto/conclave/kv/v1`), on the same addresses and with the same failover as HTTP.
//!
//! Always: a status that came from the server says whether the write was applied; one that the library made up because the
//! connection broke does not.

use std::error::Error as _;
use std::str::FromStr as _;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use proto::kv::kv_client::KvClient;
use proto::kv::{DeleteRequest, GetRequest, ListRequest, PutRequest};
use rustls::pki_types::ServerName;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, ConnectError, Status};
use zeroize::Zeroizing;

use crate::failover::{Ask, Safety, Verdict, drive};
use crate::http::{REQUEST_ID, connect_failure, innermost};
use crate::kv::{Secret, Version};
use crate::{Client, Error, Failure, Reading, Refusal, SecretData};

/// The largest message that is read or sent; the server's default body limit.
const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// See [`Client::kv_grpc`].
pub struct KvGrpc<'a> {
    client: &'a Client,
    mount: &'a str,
}

impl<'a> KvGrpc<'a> {
    pub(crate) fn new(client: &'a Client, mount: &'a str) -> KvGrpc<'a> {
        KvGrpc { client, mount: mount.trim_matches('/') }
    }

    /// The newest version; `version` asks for another. A deleted one is an error that [`Error::is_not_found`] knows, or (from a
    /// server that tells more) an answer without data.
    pub async fn get(&self, path: &str, version: Option<u64>) -> Result<Secret, Error> {
        let message = GetRequest { mount: self.mount.to_owned(), path: path.to_owned(), version: version.unwrap_or(0) };
        let reading = self.client.reading;
        let send = move |mut stub: KvClient<Channel>, message| async move { stub.get(asking(reading, message)).await };
        let (message, address) = self.call("Get", path, Safety::Repeatable, message, send).await?;
        let bytes = Zeroizing::new(message.data);
        let version = self.version(message.version, "Get", path, &address)?;
        if bytes.is_empty() {
            return Ok(Secret { data: None, version });
        }
        let fields: Map<String, Value> =
            serde_json::from_slice(&bytes).map_err(|_| self.malformed("Get", path, &address, "data is no JSON object"))?;
        Ok(Secret { data: Some(SecretData::from(fields)), version })
    }

    /// Writes a new version. `cas`: only if this is the newest (0: only if there is none).
    pub async fn put(&self, path: &str, data: SecretData, cas: Option<u64>) -> Result<Version, Error> {
        // EXPOSE: the fields go to the server. The library keeps copies of the message that it does not wipe.
        let bytes = serde_json::to_vec(data.expose())
            .map_err(|source| Error::Input { reason: format!("the data of {path:?} is no JSON: {source}") })?;
        let message = PutRequest { mount: self.mount.to_owned(), path: path.to_owned(), data: bytes, cas };
        let send = |mut stub: KvClient<Channel>, message| async move { stub.put(message).await };
        let (answer, address) = self.call("Put", path, Safety::Once, message, send).await?;
        self.version(answer.version, "Put", path, &address)
    }

    /// Deletes the newest version, or these.
    pub async fn delete(&self, path: &str, versions: &[u64]) -> Result<(), Error> {
        let message = DeleteRequest { mount: self.mount.to_owned(), path: path.to_owned(), versions: versions.to_vec() };
        // Naming the versions makes it the same when done twice.
        let safety = if versions.is_empty() { Safety::Once } else { Safety::Repeatable };
        let send = |mut stub: KvClient<Channel>, message| async move { stub.delete(message).await };
        self.call("Delete", path, safety, message, send).await.map(drop)
    }

    /// The names below `path` (`""` for the mount itself), sorted; folders end with `/`. Empty when there are none.
    pub async fn list(&self, path: &str) -> Result<Vec<String>, Error> {
        let message = ListRequest { mount: self.mount.to_owned(), path: path.to_owned() };
        let reading = self.client.reading;
        let send = move |mut stub: KvClient<Channel>, message| async move { stub.list(asking(reading, message)).await };
        match self.call("List", path, Safety::Repeatable, message, send).await {
            Ok((answer, _)) => Ok(answer.keys),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Runs one call with failover; gives the answer and who gave it.
    async fn call<M: Clone, T, F: Future<Output = Result<tonic::Response<T>, Status>>>(
        &self,
        name: &str,
        path: &str,
        safety: Safety,
        message: M,
        send: impl Fn(KvClient<Channel>, tonic::Request<M>) -> F,
    ) -> Result<(T, Arc<str>), Error> {
        call(self.client, self.ask(name, path), safety, message, send).await
    }

    fn ask(&self, name: &str, path: &str) -> String {
        format!("conclave.kv.v1.Kv/{name} {}/{}", self.mount, path.trim_start_matches('/'))
    }

    fn version(&self, version: Option<proto::kv::Version>, name: &str, path: &str, address: &Arc<str>) -> Result<Version, Error> {
        version.map(Version::from).ok_or_else(|| self.malformed(name, path, address, "version is missing"))
    }

    fn malformed(&self, name: &str, path: &str, address: &Arc<str>, reason: &str) -> Error {
        Error::Malformed { ask: self.ask(name, path), address: address.clone(), reason: reason.to_owned() }
    }
}

impl From<proto::kv::Version> for Version {
    fn from(version: proto::kv::Version) -> Version {
        Version {
            number: version.number,
            created_time: version.created_time,
            deletion_time: version.deletion_time,
            destroyed: version.destroyed,
        }
    }
}

/// Runs one call, named `name` in errors, with failover; gives the answer and who gave it.
pub(crate) async fn call<M: Clone, T, F: Future<Output = Result<tonic::Response<T>, Status>>>(
    client: &Client,
    name: String,
    safety: Safety,
    message: M,
    send: impl Fn(KvClient<Channel>, tonic::Request<M>) -> F,
) -> Result<(T, Arc<str>), Error> {
    client.discover_if_due().await;
    let ask = Ask { name: name.clone(), safety, pinned: client.pinned.clone(), timeout: None };
    let nodes = &client.shared.nodes;
    drive(nodes, &client.shared.settings, ask, |address: Arc<str>| {
        let channel = nodes.channel(&address, || channel(client, &address));
        let stub = KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX);
        let sending = sign(client, message.clone()).map(|request| send(stub, request));
        let name = name.clone();
        async move {
            let answered = match sending {
                Ok(sending) => sending.await,
                Err(status) => Err(status),
            };
            match answered {
                Ok(answer) => Verdict::Answer((answer.into_inner(), address)),
                Err(status) => verdict(&status, name, address),
            }
        }
    })
    .await
}

/// Adds how fresh the answer must be.
fn asking<M>(reading: Reading, mut request: tonic::Request<M>) -> tonic::Request<M> {
    if let Some((name, text)) = reading.header() {
        request.metadata_mut().insert(name, AsciiMetadataValue::from_str(&text).expect("digits and letters are a header"));
    }
    request
}

/// Adds the token and the namespace.
fn sign<M>(client: &Client, message: M) -> Result<tonic::Request<M>, Status> {
    let mut request = tonic::Request::new(message);
    if let Some(token) = &client.token {
        // EXPOSE: the token goes to the server; marked sensitive, so that no library prints it.
        let mut value = AsciiMetadataValue::from_str(token.expose().trim())
            .map_err(|_| Status::invalid_argument("the token has characters that no token has"))?;
        value.set_sensitive(true);
        request.metadata_mut().insert("x-vault-token", value);
    }
    if let Some(namespace) = &client.shared.settings.namespace {
        let value = AsciiMetadataValue::from_str(namespace)
            .map_err(|_| Status::invalid_argument("the namespace has characters that no header may have"))?;
        request.metadata_mut().insert("x-vault-namespace", value);
    }
    Ok(request)
}

/// What a status says of the call's fate.
fn verdict<T>(status: &Status, ask: String, address: Arc<str>) -> Verdict<T> {
    if let Some(connect) = connect_error(status) {
        return Verdict::NotApplied(connect_failure(connect));
    }
    // The server's own status has no source; one that the library made from a broken connection has.
    if let Some(source) = status.source() {
        return Verdict::Unknown(Failure::Broken(innermost(source)));
    }
    let request_id = status.metadata().get(REQUEST_ID);
    let words = vec![status.message().to_owned()].into_iter().filter(|message| !message.is_empty()).collect();
    match status.code() {
        Code::Unavailable => Verdict::NotApplied(Failure::Status { status: 503, errors: words }),
        Code::ResourceExhausted => Verdict::NotApplied(Failure::Status { status: 429, errors: words }),
        Code::Ok | Code::Cancelled | Code::Unknown | Code::DeadlineExceeded | Code::Internal | Code::DataLoss => {
            Verdict::Unknown(Failure::Status { status: 500, errors: words })
        }
        code => {
            let status = match code {
                Code::NotFound => 404,
                Code::PermissionDenied | Code::Unauthenticated => 403,
                Code::Unimplemented => 501,
                _ => 400,
            };
            let request_id = request_id.and_then(|id| id.to_str().ok()).map(str::to_owned);
            Verdict::Final(Error::Refused(Box::new(Refusal { status, errors: words, ask, address, request_id })))
        }
    }
}

fn connect_error(status: &Status) -> Option<&(dyn std::error::Error + 'static)> {
    let mut next = status.source();
    while let Some(error) = next {
        if error.is::<ConnectError>() {
            return Some(error);
        }
        next = error.source();
    }
    None
}

/// A channel that connects when it is first used, and again when the connection was lost.
fn channel(client: &Client, address: &str) -> Channel {
    let url = reqwest::Url::parse(address).expect("addresses are checked when they are taken");
    let host = url.host_str().expect("a checked address has a host").to_owned();
    let port = url.port_or_known_default().expect("a checked address has a port");
    let origin = http::Uri::from_str(address).expect("a checked address is a URI");
    let tls = (url.scheme() == "https").then(|| client.shared.tls.clone());
    // The library's own TLS cannot take our settings, so our connector does TLS, and the library is told plain HTTP.
    let endpoint = Endpoint::from_shared(format!("http://{host}:{port}"))
        .expect("a checked address is a URI")
        .origin(origin)
        .connect_timeout(client.shared.settings.connect_timeout)
        .tcp_nodelay(true);
    endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| connect(host.clone(), port, tls.clone())))
}

async fn connect(host: String, port: u16, tls: Option<Arc<rustls::ClientConfig>>) -> std::io::Result<TokioIo<Box<dyn Connection>>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let tcp = TcpStream::connect((bare, port)).await?;
    tcp.set_nodelay(true)?;
    let Some(config) = tls else {
        return Ok(TokioIo::new(Box::new(tcp)));
    };
    let name = ServerName::try_from(bare.to_owned()).map_err(std::io::Error::other)?;
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await?;
    Ok(TokioIo::new(Box::new(stream)))
}

/// A TCP stream, with TLS or without.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<C: AsyncRead + AsyncWrite + Send + Unpin> Connection for C {}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(status: &Status) -> &'static str {
        match verdict::<()>(status, String::new(), Arc::from("a")) {
            Verdict::Answer(()) => "answer",
            Verdict::Final(_) => "final",
            Verdict::NotApplied(_) => "not applied",
            Verdict::Unknown(_) => "unknown",
        }
    }

    #[test]
    fn a_status_says_what_became_of_the_call() {
        for (code, want) in [
            (Code::NotFound, "final"),
            (Code::PermissionDenied, "final"),
            (Code::FailedPrecondition, "final"),
            (Code::InvalidArgument, "final"),
            (Code::Unavailable, "not applied"),
            (Code::ResourceExhausted, "not applied"),
            (Code::Internal, "unknown"),
            (Code::DeadlineExceeded, "unknown"),
            (Code::Unknown, "unknown"),
        ] {
            assert_eq!(fate(&Status::new(code, "")), want, "{code:?}");
        }
        let lost = Status::from_error(Box::new(std::io::Error::other("reset")));
        assert_eq!(fate(&lost), "unknown", "a broken connection says nothing");
        let refused = Status::from_error(Box::new(ConnectError(Box::new(std::io::Error::other("refused")))));
        assert_eq!(fate(&refused), "not applied", "nothing was sent");
    }
}

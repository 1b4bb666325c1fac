//! One keep-alive HTTP/1.1 connection.
//!
//! Always: at most one request at a time; an answer is read whole, within a deadline and a size. Knows nothing of what is asked.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long one answer may take.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How large one answer may be.
pub(crate) const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection, and the task that drives it, which ends with it.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    token: Option<HeaderValue>,
    _driver: JoinSet<()>,
}

impl Connection {
    /// Opens a connection; each of its requests carries `token`.
    pub(crate) async fn open(address: SocketAddr, token: Option<&str>) -> Result<Connection> {
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await.context("connect in time")?.context("connect")?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.context("begin HTTP/1.1")?;
        let mut driver = JoinSet::new();
        // Its error reaches whoever waits for an answer.
        driver.spawn(async move { drop(connection.await) });
        let token = token.map(HeaderValue::from_str).transpose().context("a token that is a header value")?;
        let token = token.map(|mut token| {
            token.set_sensitive(true);
            token
        });
        let host = HeaderValue::from_str(&address.to_string()).context("an address is a header value")?;
        Ok(Connection { sender, host, token, _driver: driver })
    }

    /// Asks, and reads the answer whole.
    pub(crate) async fn ask(&mut self, method: Method, target: Uri, body: Bytes) -> Result<(StatusCode, Bytes)> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = target;
        let headers = request.headers_mut();
        headers.insert(http::header::HOST, self.host.clone());
        if let Some(token) = &self.token {
            headers.insert("x-vault-token", token.clone());
        }
        let answer = async {
            self.sender.ready().await?;
            let response = self.sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(anyhow::Error::from_boxed)?;
            anyhow::Ok((status, body.to_bytes()))
        };
        timeout(ANSWER_TIMEOUT, answer).await.context("an answer in time")?
    }
}

/// Asks once, over a connection of its own. The answer's body is JSON, or nothing (`Null`).
pub(crate) async fn call(
    address: SocketAddr,
    token: Option<&str>,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<(StatusCode, Value)> {
    let mut connection = Connection::open(address, token).await?;
    let target = path.parse().context("a path is a request target")?;
    let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    let (status, body) = connection.ask(method, target, body).await?;
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).context("the answer is JSON")? };
    Ok((status, body))
}

/// As [`call`], and any status but 2xx is an error that shows the server's own words.
pub(crate) async fn done(address: SocketAddr, token: Option<&str>, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
    let (status, answer) =
        call(address, token, method.clone(), path, body).await.with_context(|| format!("{method} {path} at {address}"))?;
    if !status.is_success() {
        // Only the errors: the rest of an answer may hold what must not be shown.
        bail!("{method} {path} at {address}: {status} {}", answer.get("errors").unwrap_or(&Value::Null));
    }
    Ok(answer)
}

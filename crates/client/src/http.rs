//! Requests over HTTP: Vault's API as it is, with failover.
//!
//! Always: bodies are wiped and never traced; an answer is bounded in size; a status decides, together with the request's
//! safety, whether the request may be sent again ([`judge`]).

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::failover::{Ask, Nodes, Safety, Verdict, drive};
use crate::{Client, Error, Failure, Reading, Refusal, parse_duration, path};

/// The largest answer that is read. A list of a million names fits.
const RESPONSE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The first buffer for an answer of unknown length.
const RESPONSE_BYTES_FIRST: usize = 16 * 1024;

/// Carries the server's name of a request, in its answer.
pub(crate) const REQUEST_ID: &str = "x-conclave-request-id";
/// How old the state can be that a bounded-stale read was answered from.
const AGE: &str = "x-conclave-age";

/// The verbs of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Reads, without a body in the answer.
    Head,
    /// Lists the names below a path.
    List,
    /// Writes; the same as `Put` to the server.
    Post,
    /// Writes; the same as `Post` to the server.
    Put,
    /// Changes parts (JSON merge patch, RFC 7396).
    Patch,
    /// Deletes.
    Delete,
}

impl Method {
    /// As it is sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::List => "LIST",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }

    fn safety(self) -> Safety {
        match self {
            Method::Get | Method::Head | Method::List => Safety::Repeatable,
            Method::Post | Method::Put | Method::Patch | Method::Delete => Safety::Once,
        }
    }
}

impl Client {
    /// Any request: `path` is what follows `/v1/`, not encoded.
    pub fn request<'a>(&'a self, method: Method, path: &'a str) -> Request<'a> {
        Request {
            client: self,
            method,
            path,
            query: Vec::new(),
            body: Ok(None),
            safety: method.safety(),
            accepted: &[],
            any_status: false,
            timeout: None,
            discovery: true,
        }
    }
}

/// A request that is being made. Nothing is sent before [`Request::send`].
#[must_use = "a request does nothing until it is sent"]
pub struct Request<'a> {
    client: &'a Client,
    method: Method,
    path: &'a str,
    query: Vec<(String, String)>,
    body: Result<Option<Bytes>, serde_json::Error>,
    safety: Safety,
    accepted: &'static [u16],
    any_status: bool,
    timeout: Option<Duration>,
    discovery: bool,
}

impl Request<'_> {
    /// The JSON body. Its bytes are wiped when the request is done.
    pub fn body<B: Serialize + ?Sized>(mut self, body: &B) -> Self {
        self.body = serialize(body).map(Some);
        self
    }

    /// Adds to the query.
    pub fn query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    /// Says that a write may be sent again even when an earlier try may have been applied: the end is the same, whoever
    /// else writes in between.
    pub fn idempotent(mut self) -> Self {
        self.safety = Safety::Repeatable;
        self
    }

    /// Makes these statuses answers rather than errors.
    pub fn accept(mut self, statuses: &'static [u16]) -> Self {
        self.accepted = statuses;
        self
    }

    /// Makes every status an answer: for health, whose statuses are its message.
    pub fn accept_any_status(mut self) -> Self {
        self.any_status = true;
        self
    }

    /// The whole call's limit, in place of the client's; `None` keeps the client's.
    pub fn within(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// For the requests by which members are learned.
    pub(crate) fn without_discovery(mut self) -> Self {
        self.discovery = false;
        self
    }

    /// Sends it, and fails over as [`Client`]'s settings say. Dropped half-way, a write may still be applied.
    pub async fn send(self) -> Result<Response, Error> {
        let encoded = path::encode(self.path)?;
        let name = format!("{} /v1/{encoded}", self.method.as_str());
        let body = match self.body {
            Ok(body) => body,
            Err(source) => return Err(Error::Input { reason: format!("{name}: the body is no JSON: {source}") }),
        };
        let headers = headers(self.client, self.method)?;
        if self.discovery {
            self.client.discover_if_due().await;
        }
        let exchange = Exchange {
            http: &self.client.shared.http,
            nodes: &self.client.shared.nodes,
            method: self.method,
            name: &name,
            target: format!("/v1/{encoded}"),
            query: &self.query,
            headers,
            body,
            accepted: self.accepted,
            any_status: self.any_status,
        };
        let ask = Ask { name: name.clone(), safety: self.safety, pinned: self.client.pinned.clone(), timeout: self.timeout };
        drive(&self.client.shared.nodes, &self.client.shared.settings, ask, |address| exchange.attempt(address)).await
    }
}

/// An answer. Its body is wiped on drop.
pub struct Response {
    status: u16,
    address: Arc<str>,
    ask: String,
    request_id: Option<String>,
    age: Option<Duration>,
    body: Zeroizing<Vec<u8>>,
}

impl Reading {
    /// The header that asks for it, if one is needed.
    pub(crate) fn header(self) -> Option<(&'static str, String)> {
        match self {
            Reading::Configured => None,
            Reading::Quorum => Some(("x-conclave-read-consistency", "quorum".to_owned())),
            // A part of a millisecond is rounded up: zero would ask for something else.
            Reading::Stale(within) => Some(("x-conclave-max-staleness", format!("{}ms", within.as_nanos().div_ceil(1_000_000)))),
        }
    }
}

impl Response {
    /// HTTP's status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The node that answered.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The server's name of the request; from Conclave only.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// Of a bounded-stale read: nothing that was acknowledged longer ago is lacking. `None`: nothing is lacking, or nobody says.
    pub fn age(&self) -> Option<Duration> {
        self.age
    }

    /// The body as it came; empty for 204.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The whole body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| self.malformed(&error))
    }

    /// The envelope's `data`; the whole body where there is no envelope (`sys/seal-status` and its like).
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, Error> {
        #[derive(serde::Deserialize)]
        struct Enveloped<'a> {
            request_id: Option<serde::de::IgnoredAny>,
            #[serde(borrow)]
            data: Option<&'a serde_json::value::RawValue>,
        }
        let enveloped: Enveloped<'_> = serde_json::from_slice(&self.body).map_err(|error| self.malformed(&error))?;
        match (enveloped.request_id, enveloped.data) {
            (Some(_), Some(data)) => serde_json::from_str(data.get()).map_err(|error| self.malformed(&error)),
            _ => self.json(),
        }
    }

    /// The answer as the "no" that its status is, for statuses that were accepted to look into the body.
    pub fn refusal(&self) -> Error {
        let errors = error_words(&self.body).unwrap_or_default();
        let refusal = Refusal {
            status: self.status,
            errors,
            ask: self.ask.clone(),
            address: self.address.clone(),
            request_id: self.request_id.clone(),
        };
        Error::Refused(Box::new(refusal))
    }

    /// Says where and what, but nothing of the content.
    pub(crate) fn malformed(&self, error: &serde_json::Error) -> Error {
        let kind = match error.classify() {
            serde_json::error::Category::Io => "cannot be read",
            serde_json::error::Category::Syntax => "is no JSON",
            serde_json::error::Category::Data => "has other fields than the API says",
            serde_json::error::Category::Eof => "ends too early",
        };
        let reason = format!("the body {kind} (line {}, column {})", error.line(), error.column());
        Error::Malformed { ask: self.ask.clone(), address: self.address.clone(), reason }
    }
}

/// All that one attempt needs, whoever is asked.
struct Exchange<'a> {
    http: &'a reqwest::Client,
    nodes: &'a Nodes,
    method: Method,
    name: &'a str,
    target: String,
    query: &'a [(String, String)],
    headers: HeaderMap,
    body: Option<Bytes>,
    accepted: &'static [u16],
    any_status: bool,
}

impl Exchange<'_> {
    async fn attempt(&self, address: Arc<str>) -> Verdict<Response> {
        let method = reqwest::Method::from_bytes(self.method.as_str().as_bytes()).expect("every verb is an HTTP token");
        let mut url = reqwest::Url::parse(&format!("{address}{}", self.target)).expect("a checked address and an encoded path");
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(self.query);
        }
        let mut request = self.http.request(method, url).headers(self.headers.clone());
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return transport_failure(&error),
        };
        let status = answer.status().as_u16();
        if answer.headers().get_all(CONNECTION).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"close")) {
            self.nodes.leaves(&address, Instant::now());
        }
        let request_id = answer.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
        let age = answer.headers().get(AGE).and_then(|age| age.to_str().ok()).and_then(parse_age);
        let body = match read_body(answer).await {
            Ok(body) => body,
            Err(BodyError::TooLarge) => {
                let reason = format!("the body is larger than {RESPONSE_BYTES_MAX} bytes");
                return Verdict::Final(Error::Malformed { ask: self.name.to_owned(), address, reason });
            }
            Err(BodyError::Broken(error)) => return Verdict::Unknown(Failure::Broken(innermost(&error))),
        };
        let words = error_words(&body);
        if self.any_status || self.accepted.contains(&status) {
            return Verdict::Answer(Response { status, address, ask: self.name.to_owned(), request_id, age, body });
        }
        match judge(status, words.is_some()) {
            Judgement::Answer => Verdict::Answer(Response { status, address, ask: self.name.to_owned(), request_id, age, body }),
            Judgement::Refused => {
                let refusal = Refusal { status, errors: words.unwrap_or_default(), ask: self.name.to_owned(), address, request_id };
                Verdict::Final(Error::Refused(Box::new(refusal)))
            }
            Judgement::NotApplied => Verdict::NotApplied(Failure::Status { status, errors: words.unwrap_or_default() }),
            Judgement::Unknown => Verdict::Unknown(Failure::Status { status, errors: words.unwrap_or_default() }),
        }
    }
}

/// What a status says of the request's fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    Answer,
    Refused,
    NotApplied,
    Unknown,
}

/// `own_words`: the body is the API's `{"errors": …}`, so it comes from the server and not from a proxy on the way.
///
/// The server's side of it: 503 (sealed, no leader), 429 and 412 are answered only when nothing was, or will be, changed;
/// a write whose fate it does not know is a 500 or 504. A proxy's 502, 503 or 504 says nothing of the kind.
fn judge(status: u16, own_words: bool) -> Judgement {
    match status {
        200..=299 => Judgement::Answer,
        412 | 429 => Judgement::NotApplied,
        501 => Judgement::Refused,
        503 if own_words => Judgement::NotApplied,
        500..=599 => Judgement::Unknown,
        _ => Judgement::Refused,
    }
}

/// The server's own words; `None` when the body is not the API's.
pub(crate) fn error_words(body: &[u8]) -> Option<Vec<String>> {
    serde_json::from_slice::<proto::http::Errors>(body).ok().map(|errors| errors.errors)
}

fn transport_failure<T>(error: &reqwest::Error) -> Verdict<T> {
    if error.is_connect() {
        return Verdict::NotApplied(connect_failure(error));
    }
    if error.is_timeout() { Verdict::Unknown(Failure::Timeout) } else { Verdict::Unknown(Failure::Broken(innermost(error))) }
}

/// A connection that was never made, told apart by whether waiting can help.
pub(crate) fn connect_failure(error: &(dyn std::error::Error + 'static)) -> Failure {
    match find_tls(error) {
        Some(rustls::Error::InvalidMessage(_)) => {
            Failure::Tls("the other side does not speak TLS; if it is plain HTTP on purpose, the address begins with http://".to_owned())
        }
        Some(tls) => Failure::Tls(tls.to_string()),
        None => Failure::Connect(innermost(error)),
    }
}

/// The TLS error among the causes. An [`io::Error`] hides what it wraps: its source is the wrapped error's source.
fn find_tls<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// The last cause: the ones around it repeat the address.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// An age as the server prints it: `1.25s`, `250ms`, with parts of a unit. Rounded up to whole milliseconds.
fn parse_age(text: &str) -> Option<Duration> {
    let split = text.find(|letter: char| letter.is_ascii_alphabetic() || letter == 'µ')?;
    let number: f64 = text[..split].parse().ok()?;
    let scale = match &text[split..] {
        "ns" => 1e-6,
        "us" | "µs" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        // Minutes and more have several parts, all whole or in seconds.
        _ => return parse_duration(text).ok(),
    };
    let milliseconds = (number * scale).ceil();
    (milliseconds.is_finite() && milliseconds >= 0.0).then(|| Duration::from_secs_f64(milliseconds / 1e3))
}

pub(crate) fn headers(client: &Client, method: Method) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    headers.insert("x-vault-request", HeaderValue::from_static("true"));
    if let Some(token) = &client.token {
        // EXPOSE: the token goes to the server; marked sensitive, so that no library prints it.
        let mut value = HeaderValue::from_str(token.expose().trim()).map_err(|_| Error::Input {
            reason: "the token has characters that no token has (is the file or variable intact?)".to_owned(),
        })?;
        value.set_sensitive(true);
        headers.insert("x-vault-token", value);
    }
    if let Some(namespace) = &client.shared.settings.namespace {
        let value = HeaderValue::from_str(namespace)
            .map_err(|_| Error::Input { reason: "the namespace has characters that no header may have".to_owned() })?;
        headers.insert("x-vault-namespace", value);
    }
    if let Some(ttl) = &client.wrap_ttl {
        let value = HeaderValue::from_str(ttl)
            .map_err(|_| Error::Input { reason: "the wrapping TTL has characters that no header may have".to_owned() })?;
        headers.insert("x-vault-wrap-ttl", value);
    }
    if matches!(method, Method::Get | Method::List)
        && let Some((name, text)) = client.reading.header()
    {
        headers.insert(name, HeaderValue::from_str(&text).expect("digits and letters are a header"));
    }
    let content = if method == Method::Patch { "application/merge-patch+json" } else { "application/json" };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    Ok(headers)
}

/// Into a buffer of exactly the right size, which is wiped when the last user drops it: one that grew would leave copies.
fn serialize<B: Serialize + ?Sized>(body: &B) -> Result<Bytes, serde_json::Error> {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, body)?;
    let mut buffer = Zeroizing::new(Vec::with_capacity(count.0));
    serde_json::to_writer(&mut *buffer, body)?;
    Ok(Bytes::from_owner(Wiped(buffer)))
}

/// Lends the bytes to [`Bytes`].
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

enum BodyError {
    TooLarge,
    Broken(reqwest::Error),
}

async fn read_body(mut answer: reqwest::Response) -> Result<Zeroizing<Vec<u8>>, BodyError> {
    let announced = answer.content_length().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if announced.is_some_and(|length| length > RESPONSE_BYTES_MAX) {
        return Err(BodyError::TooLarge);
    }
    let mut body = Zeroizing::new(Vec::with_capacity(announced.unwrap_or(RESPONSE_BYTES_FIRST)));
    while let Some(chunk) = answer.chunk().await.map_err(BodyError::Broken)? {
        let needed = body.len() + chunk.len();
        if needed > RESPONSE_BYTES_MAX {
            return Err(BodyError::TooLarge);
        }
        if needed > body.capacity() {
            // By hand, so that the old buffer is wiped.
            let mut larger = Zeroizing::new(Vec::with_capacity((2 * body.capacity()).max(needed)));
            larger.extend_from_slice(&body);
            body = larger;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_became_of_the_request() {
        for (status, own_words, want) in [
            (200, false, Judgement::Answer),
            (204, false, Judgement::Answer),
            (400, true, Judgement::Refused),
            (403, true, Judgement::Refused),
            (404, true, Judgement::Refused),
            (307, false, Judgement::Refused),
            (412, true, Judgement::NotApplied),
            (429, true, Judgement::NotApplied),
            (500, true, Judgement::Unknown),
            (501, true, Judgement::Refused),
            (502, false, Judgement::Unknown),
            (503, true, Judgement::NotApplied),
            (503, false, Judgement::Unknown),
            (504, true, Judgement::Unknown),
        ] {
            assert_eq!(judge(status, own_words), want, "{status}, own words: {own_words}");
        }
    }

    #[test]
    fn only_reads_may_be_sent_again_unasked() {
        for method in [Method::Get, Method::Head, Method::List] {
            assert_eq!(method.safety(), Safety::Repeatable, "{method:?}");
        }
        for method in [Method::Post, Method::Put, Method::Patch, Method::Delete] {
            assert_eq!(method.safety(), Safety::Once, "{method:?}");
        }
    }

    #[test]
    fn the_body_fills_its_buffer_exactly() {
        let bytes = serialize(&serde_json::json!({"a": ["b", 1]})).unwrap();
        assert_eq!(&bytes[..], br#"{"a":["b",1]}"#);
    }

    #[test]
    fn only_the_apis_errors_count_as_its_words() {
        assert_eq!(error_words(br#"{"errors":["Vault is sealed"]}"#), Some(vec!["Vault is sealed".to_owned()]));
        assert_eq!(error_words(br#"{"errors":[]}"#), Some(vec![]));
        assert_eq!(error_words(b"<html>503</html>"), None);
        assert_eq!(error_words(b"{}"), None);
    }
}

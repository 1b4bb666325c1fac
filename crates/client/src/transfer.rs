//! What is too large for memory: a snapshot on its way from or to a node.
//!
//! Always: one node does it from end to end. Another is asked only as long as none was reached: what was begun cannot be continued elsewhere.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use reqwest::Body;

use crate::http::{Method, REQUEST_ID, connect_failure, error_words, headers, innermost};
use crate::{Attempt, Client, Error, Failure, Refusal, path};

/// How long a transfer may take: as the server has it.
const TRANSFER_MAX: Duration = Duration::from_secs(6 * 60 * 60);
/// The longest answer to an upload, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

impl Client {
    /// Reads `path` and hands what comes to `take`, in order; answers how much it was. What `take` got is whole only then.
    pub async fn download(&self, path: &str, take: &mut (dyn FnMut(&[u8]) -> io::Result<()> + Send)) -> Result<u64, Error> {
        let (mut answer, name, address) = self.ask(Method::Get, path, &[], None::<fn() -> futures::stream::Empty<_>>).await?;
        let broken = |cause: String| Error::Indeterminate {
            ask: name.clone(),
            last: Box::new(Attempt { address: Arc::clone(&address), failure: Failure::Broken(cause) }),
        };
        let mut bytes = 0;
        while let Some(piece) = answer.chunk().await.map_err(|error| broken(innermost(&error)))? {
            bytes += piece.len() as u64;
            take(&piece).map_err(|error| Error::Input { reason: format!("keep what comes: {error}") })?;
        }
        Ok(bytes)
    }

    /// Writes what `make` gives to `path`; answers the body of the answer. `make` is called for each node that is tried.
    pub async fn upload<S>(&self, path: &str, query: &[(&str, String)], make: impl Fn() -> S) -> Result<Vec<u8>, Error>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let (mut answer, name, address) = self.ask(Method::Post, path, query, Some(make)).await?;
        let mut body = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(piece)) if body.len() + piece.len() <= ANSWER_BYTES_MAX => body.extend_from_slice(&piece),
                Ok(Some(_)) => return Err(Error::Malformed { ask: name, address, reason: "the answer is too long".into() }),
                Ok(None) => return Ok(body),
                Err(error) => {
                    let failure = Failure::Broken(innermost(&error));
                    return Err(Error::Indeterminate { ask: name, last: Box::new(Attempt { address, failure }) });
                }
            }
        }
    }

    async fn ask<S>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        make: Option<impl Fn() -> S>,
    ) -> Result<(reqwest::Response, String, Arc<str>), Error>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let encoded = path::encode(path)?;
        let name = format!("{} /v1/{encoded}", method.as_str());
        let headers = headers(self, method)?;
        let addresses = match &self.pinned {
            Some(address) => vec![Arc::clone(address)],
            None => self.shared.nodes.addresses(),
        };
        let mut tried = Vec::new();
        for address in addresses {
            let verb = reqwest::Method::from_bytes(method.as_str().as_bytes()).expect("every verb is an HTTP token");
            let mut url = reqwest::Url::parse(&format!("{address}/v1/{encoded}")).expect("a checked address and an encoded path");
            if !query.is_empty() {
                url.query_pairs_mut().extend_pairs(query);
            }
            let mut request = self.shared.http.request(verb, url).headers(headers.clone()).timeout(TRANSFER_MAX);
            if let Some(make) = &make {
                request = request.header(reqwest::header::CONTENT_TYPE, "application/gzip").body(Body::wrap_stream(make()));
            }
            let failure = match request.send().await {
                Ok(answer) if answer.status().is_success() => return Ok((answer, name, address)),
                Ok(answer) => {
                    let (status, id) = (answer.status().as_u16(), answer.headers().get(REQUEST_ID).cloned());
                    let request_id = id.and_then(|id| id.to_str().ok().map(str::to_owned));
                    let body = answer.bytes().await.unwrap_or_default();
                    let errors = error_words(&body).unwrap_or_default();
                    if status != 503 {
                        return Err(Error::Refused(Box::new(Refusal { status, errors, ask: name, address, request_id })));
                    }
                    Failure::Status { status, errors }
                }
                Err(error) if error.is_connect() => connect_failure(&error),
                Err(error) => {
                    let failure = if error.is_timeout() { Failure::Timeout } else { Failure::Broken(innermost(&error)) };
                    return Err(Error::Indeterminate { ask: name, last: Box::new(Attempt { address, failure }) });
                }
            };
            tried.push(Attempt { address, failure });
        }
        Err(Error::Unavailable { ask: name, tried })
    }
}

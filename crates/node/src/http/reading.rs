//! Reading a whole request that is already in memory, by the same steps and in the same order as one from a connection: for fuzzing.

use crypto::SecretBytes;
use http::request::Parts;
use types::RequestId;
use types::json::JsonLimits;

use super::{Failure, read, render};

/// What the service is asked; or the status of the refusal.
pub(crate) fn read_whole(head: &Parts, body: &[u8]) -> Result<service::Request, u16> {
    try_read(head, body).map_err(|failure| render::failure(&failure).status().as_u16())
}

fn try_read(head: &Parts, body: &[u8]) -> Result<service::Request, Failure> {
    let path = read::path(head)?;
    let namespace = read::namespace(&head.headers)?;
    let wrap_ttl = read::wrap_ttl(&head.headers)?;
    let (verb, query) = read::verb(head)?;
    let token = read::token(&head.headers)?;
    read::check_json(body, &JsonLimits::default())?;
    let path = if matches!(verb, types::capability::Verb::List | types::capability::Verb::Scan) { path.as_folder() } else { path };
    let headers = read::shown_headers(&head.headers);
    let body = SecretBytes::from(body.to_vec());
    let reading = read::reading(&head.headers, verb, crate::config::STALE_READS_MAX_DEFAULT)?;
    Ok(service::Request {
        id: RequestId::generate(),
        verb,
        namespace,
        path,
        body,
        query,
        token,
        remote: None,
        headers,
        wrap_ttl,
        reading,
        upload: None,
    })
}

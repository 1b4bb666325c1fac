//! Writes answers: Vault's envelope, its error bodies, its headers.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use proto::http::{Envelope, Errors};
use serde::Serialize;
use serde_json::value::RawValue;
use service::{Answer, Lease};
use types::Path;

use super::error::{Failure, status_of_failure, status_of_refusal};

/// Which request this answers, for who asks about it.
pub(super) fn name(response: &mut Response, id: types::RequestId) {
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert("x-conclave-request-id", value);
    }
}

/// Headers that an operator has set: in place of the answer's own of these names.
pub(super) fn add(response: &mut Response, headers: &service::UiHeaders) {
    for (name, values) in headers.iter() {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        response.headers_mut().remove(&name);
        for value in values.iter().filter_map(|value| HeaderValue::from_str(value).ok()) {
            response.headers_mut().append(&name, value);
        }
    }
}

/// What a browser asks before a script's request, for a page that may call.
pub(super) fn preflight(cors: &service::Cors) -> Response {
    let mut response = no_content();
    let headers = response.headers_mut();
    headers.insert("access-control-allow-methods", HeaderValue::from_static("DELETE, GET, OPTIONS, POST, PUT, LIST, SCAN, PATCH"));
    headers.insert("access-control-max-age", HeaderValue::from_static("300"));
    if let Ok(value) = HeaderValue::from_str(&cors.headers.join(",")) {
        headers.insert("access-control-allow-headers", value);
    }
    response
}

/// Lets the page's script read an answer.
pub(super) fn share(response: &mut Response, origin: &HeaderValue) {
    let headers = response.headers_mut();
    headers.insert("access-control-allow-origin", origin.clone());
    headers.insert("vary", HeaderValue::from_static("Origin"));
}

/// Of a bounded-stale read: nothing that was acknowledged longer ago is lacking.
pub(crate) const AGE_HEADER: &str = "x-conclave-age";

/// Paths whose data Vault repeats at the top level of the answer.
const TOP_LEVEL: &[&[&str]] = &[
    &["auth"],
    &["mounts"],
    &["policy"],
    &["audit"],
    &["audit-hash"],
    &["config", "auditing"],
    &["capabilities"],
    &["capabilities-self"],
    &["capabilities-accessor"],
    &["key-status"],
    &["rekey"],
    &["generate-root"],
    &["rotate"],
    &["ha-status"],
    &["remount"],
    &["config", "cors"],
];

/// The media type is exactly this: hvac compares it.
const JSON: &str = "application/json";

/// Whether clients also look for this path's data at the top level.
pub(super) fn is_top_level(path: &Path) -> bool {
    let mut segments = path.segments();
    if segments.next() != Some("sys") {
        return false;
    }
    let rest: Vec<&str> = segments.collect();
    TOP_LEVEL.iter().any(|known| rest.starts_with(known))
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => bytes_response(status, bytes, JSON),
        Err(error) => {
            tracing::error!(%error, "an answer does not serialise");
            failure(&Failure::Internal)
        }
    }
}

/// No content.
pub(super) fn no_content() -> Response {
    bytes_response(StatusCode::NO_CONTENT, Vec::new(), JSON)
}

fn bytes_response(status: StatusCode, bytes: Vec<u8>, content_type: &str) -> Response {
    let is_empty = status == StatusCode::NO_CONTENT;
    let mut response = Response::new(if is_empty { Body::empty() } else { Body::from(bytes) });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !is_empty {
        let content_type = HeaderValue::from_str(content_type).unwrap_or(HeaderValue::from_static("application/octet-stream"));
        headers.insert(CONTENT_TYPE, content_type);
    }
    response
}

fn errors(status: StatusCode, texts: Vec<String>) -> Response {
    json(status, &Errors { errors: texts })
}

/// A failure of the edge itself.
pub(super) fn failure(failure: &Failure) -> Response {
    let status = status_of_failure(failure);
    let texts = if matches!(failure, Failure::Method) { Vec::new() } else { vec![failure.to_string()] };
    errors(status, texts)
}

/// What the service answered.
pub(super) fn response(response: service::Response, is_top_level: bool) -> Response {
    let age = response.age;
    let mut answered = answer(response, is_top_level);
    if let Some(value) = age.and_then(|age| HeaderValue::from_str(&types::duration::print(age)).ok()) {
        answered.headers_mut().insert(AGE_HEADER, value);
    }
    answered
}

fn answer(response: service::Response, is_top_level: bool) -> Response {
    let id = response.id.to_string();
    let response = match response.outcome {
        Ok(Answer::Stream(download)) => return stream(download),
        _ => response,
    };
    let warnings = if response.warnings.is_empty() { None } else { Some(response.warnings) };
    let whole = |status, parts| envelope(status, id, parts, warnings.clone(), is_top_level);
    match &response.outcome {
        Ok(Answer::Done) if warnings.is_none() => no_content(),
        Ok(Answer::Done) => whole(StatusCode::OK, Parts::default()),
        Ok(Answer::Accepted) => whole(StatusCode::ACCEPTED, Parts::default()),
        // EXPOSE: the answer leaves for the caller who may have it; its audit record is durable.
        Ok(Answer::Data(data)) => whole(StatusCode::OK, Parts { data: Some(data.expose()), ..Parts::default() }),
        // EXPOSE: as above.
        Ok(Answer::Leased(data, lease)) => {
            whole(StatusCode::OK, Parts { data: Some(data.expose()), lease: Some(lease), ..Parts::default() })
        }
        // EXPOSE: as above.
        Ok(Answer::Auth(auth)) => whole(StatusCode::OK, Parts { auth: Some(auth.json().expose()), ..Parts::default() }),
        // EXPOSE: as above.
        Ok(Answer::Wrapped(wrapped)) => whole(StatusCode::OK, Parts { wrap_info: Some(wrapped.json().expose()), ..Parts::default() }),
        // EXPOSE: as above.
        Ok(Answer::Raw(raw)) => bytes_response(StatusCode::OK, raw.body.expose().to_vec(), &raw.content_type),
        Ok(Answer::Stream(_)) => unreachable!("taken out above"),
        // EXPOSE: as above.
        Ok(Answer::Gone(data)) => whole(StatusCode::NOT_FOUND, Parts { data: Some(data.expose()), ..Parts::default() }),
        Ok(Answer::NotFound) if warnings.is_none() => errors(StatusCode::NOT_FOUND, Vec::new()),
        Ok(Answer::NotFound) => whole(StatusCode::NOT_FOUND, Parts::default()),
        Err(refusal) => {
            let (status, text) = status_of_refusal(refusal);
            errors(status, vec![text])
        }
    }
}

fn stream(download: service::Download) -> Response {
    let mut response = Response::new(download.body.take().map_or_else(Body::empty, Body::from_stream));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.insert(CONTENT_TYPE, HeaderValue::from_str(&download.content_type).unwrap_or(octets));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename={}", download.file_name)) {
        headers.insert(http::header::CONTENT_DISPOSITION, value);
    }
    response.extensions_mut().insert(super::Streamed);
    response
}

/// What fills an envelope: JSON texts.
#[derive(Default)]
struct Parts<'a> {
    data: Option<&'a [u8]>,
    auth: Option<&'a [u8]>,
    wrap_info: Option<&'a [u8]>,
    lease: Option<&'a Lease>,
}

fn envelope(status: StatusCode, request_id: String, parts: Parts<'_>, warnings: Option<Vec<String>>, is_top_level: bool) -> Response {
    let raw = |part: Option<&[u8]>| part.map(serde_json::from_slice::<&RawValue>).transpose().map(|part| part.map(ToOwned::to_owned));
    let (data, auth, wrap_info) = match (raw(parts.data), raw(parts.auth), raw(parts.wrap_info)) {
        (Ok(data), Ok(auth), Ok(wrap_info)) => (data, auth, wrap_info),
        (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => {
            tracing::error!(%error, "an engine's answer is no JSON");
            return failure(&Failure::Internal);
        }
    };
    let (lease_id, renewable, lease_duration) =
        parts.lease.map(|lease| (lease.id.clone(), lease.renewable, lease.duration.as_secs())).unwrap_or_default();
    let body: Envelope<&RawValue, &RawValue> =
        Envelope { request_id, lease_id, renewable, lease_duration, data: data.as_deref(), wrap_info, warnings, auth: auth.as_deref() };
    match &data {
        Some(data) if is_top_level => match with_top_level(&body, data) {
            Some(bytes) => bytes_response(status, bytes, JSON),
            None => json(status, &body),
        },
        _ => json(status, &body),
    }
}

/// The envelope with the fields of `data` before its own; `None` when `data` is no object with fields.
fn with_top_level(body: &impl Serialize, data: &RawValue) -> Option<Vec<u8>> {
    let fields = data.get().trim().strip_prefix('{')?.strip_suffix('}')?;
    if fields.trim().is_empty() {
        return None;
    }
    let own = serde_json::to_vec(body).ok()?;
    let mut bytes = Vec::with_capacity(own.len() + fields.len() + 2);
    bytes.push(b'{');
    bytes.extend_from_slice(fields.as_bytes());
    bytes.push(b',');
    bytes.extend_from_slice(own.get(1..)?);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_repeated_at_the_top_level_where_clients_look_for_it() {
        for (path, want) in [
            ("sys/mounts", true),
            ("sys/mounts/secret", true),
            ("sys/ha-status", true),
            ("sys/internal/ui/mounts", false),
            ("secret/mounts", false),
        ] {
            assert_eq!(is_top_level(&Path::parse(path).unwrap()), want, "{path}");
        }
        let data = RawValue::from_string(r#"{"secret/":{"type":"kv"}}"#.into()).unwrap();
        let body = serde_json::json!({"request_id": "r", "data": null});
        let merged: serde_json::Value = serde_json::from_slice(&with_top_level(&body, &data).unwrap()).unwrap();
        assert_eq!(merged["secret/"]["type"], "kv");
        assert_eq!(merged["request_id"], "r");
        let empty = RawValue::from_string("{}".into()).unwrap();
        assert!(with_top_level(&body, &empty).is_none());
    }
}

//! Reads what came over HTTP: path, verb, token, body. Limits first; nothing here is known to be from anybody yet.

use std::fmt;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use crypto::SecretBytes;
use futures::TryStreamExt;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Method};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use service::Reading;
use types::Path;
use types::capability::Verb;
use types::json;

use super::{Failure, Limits};
use crate::room::{BodyError, Framing, Gate, Held};

/// Under which every path of the API lies.
const PREFIX: &str = "/v1/";
/// The longest token that is looked at, in bytes: as Vault 2.0.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Query parameters in one request, at most.
const QUERY_PARAMETERS_MAX: usize = 64;
const TOKEN_HEADER: &str = "x-vault-token";

/// The canonical path below `/v1/`.
pub(super) fn path(head: &Parts) -> Result<Path, Failure> {
    let raw = head.uri.path().strip_prefix(PREFIX).ok_or(Failure::NotFound)?;
    Ok(Path::parse_http(raw)?)
}

/// What is to be done, and the query parameters. `GET ?list=true` and `?scan=true` are lists.
pub(super) fn verb(head: &Parts) -> Result<(Verb, Vec<(String, String)>), Failure> {
    let query = query(head.uri.query().unwrap_or_default())?;
    let verb = match head.method {
        Method::GET | Method::HEAD if asks_for(&query, "list")? => Verb::List,
        Method::GET | Method::HEAD if asks_for(&query, "scan")? => Verb::Scan,
        Method::GET | Method::HEAD => Verb::Read,
        Method::POST | Method::PUT => Verb::Write,
        Method::DELETE => Verb::Delete,
        Method::PATCH => {
            let given = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
            if given.split(';').next().map(str::trim) != Some("application/merge-patch+json") {
                return Err(Failure::MediaType(given.chars().take(80).collect()));
            }
            Verb::Patch
        }
        ref other if other.as_str() == "LIST" => Verb::List,
        ref other if other.as_str() == "SCAN" => Verb::Scan,
        _ => return Err(Failure::Method),
    };
    Ok((verb, query))
}

/// Whether a parameter is set, in the spellings that Go's `strconv.ParseBool` and so Vault knows: hvac sends `True`.
fn asks_for(query: &[(String, String)], name: &str) -> Result<bool, Failure> {
    let given = query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    match given.unwrap_or_default() {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "" | "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err(Failure::Header(format!("the query parameter {name} must be true or false"))),
    }
}

pub(super) fn query(text: &str) -> Result<Vec<(String, String)>, Failure> {
    let mut parameters = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        if parameters.len() == QUERY_PARAMETERS_MAX {
            return Err(Failure::Header(format!("more than {QUERY_PARAMETERS_MAX} query parameters")));
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parameters.push((decode(name)?, decode(value)?));
    }
    Ok(parameters)
}

/// Form decoding of one query text: `+` is a space, `%XX` a byte of UTF-8.
fn decode(text: &str) -> Result<String, Failure> {
    let bad = || Failure::Header("a query parameter is not percent-encoded UTF-8".into());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = rest.get(..2).ok_or_else(bad)?;
                let mut byte = [0];
                hex::decode_to_slice(digits, &mut byte).map_err(|_| bad())?;
                bytes.push(byte[0]);
                rest = &rest[2..];
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

/// The token of the request. Two that differ are refused: who relies on which is not for us to guess.
pub(crate) fn token(headers: &HeaderMap) -> Result<Option<SecretBytes>, Failure> {
    let bearer = |value: &http::HeaderValue| value.as_bytes().strip_prefix(b"Bearer ").map(<[u8]>::to_vec);
    let mut found: Option<Vec<u8>> = None;
    let plain = headers.get_all(TOKEN_HEADER).iter().map(|value| value.as_bytes().to_vec());
    for token in plain.chain(headers.get_all(AUTHORIZATION).iter().filter_map(bearer)) {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Failure::HeaderTooLong("X-Vault-Token"));
        }
        match &found {
            Some(other) if *other != token => return Err(Failure::Header("the request carries two different tokens".into())),
            _ => found = Some(token),
        }
    }
    Ok(found.filter(|token| !token.is_empty()).map(SecretBytes::from))
}

/// The one value of a header. Two that differ are refused: a proxy may have gone by the other one.
fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a http::HeaderValue>, Failure> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.any(|value| Some(value) != first) {
        true => Err(Failure::Header(format!("the request carries {name} twice, with different values"))),
        false => Ok(first),
    }
}

/// The namespace that the caller names; the root when it names none.
pub(crate) fn namespace(headers: &HeaderMap) -> Result<Path, Failure> {
    let bad = |error: &dyn fmt::Display| Failure::Header(format!("X-Vault-Namespace is no path: {error}"));
    let Some(value) = single(headers, "x-vault-namespace")? else { return Ok(Path::root()) };
    let text = value.to_str().map_err(|error| bad(&error))?.trim_matches('/');
    // As Vault's clients name it.
    if text == "root" { Ok(Path::root()) } else { Path::parse(text).map_err(|error| bad(&error)) }
}

/// Headers, for audit records: those that carry no secret.
pub(crate) fn shown_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let is_shown = |name: &str| !matches!(name, TOKEN_HEADER | "authorization" | "cookie" | "proxy-authorization");
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().filter(|(name, _)| is_shown(name.as_str())).map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// For how long the answer is to be wrapped: seconds, or a duration. The wrapping token is an ordinary one; who wants it as a JWT is refused.
pub(super) fn wrap_ttl(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    if headers.get("x-vault-wrap-format").is_some_and(|value| !value.is_empty()) {
        let text = "X-Vault-Wrap-Format is not available: a wrapping token is an ordinary token, and no JWT (leave the header out)";
        return Err(Failure::Header(text.into()));
    }
    let bad = || Failure::Header("X-Vault-Wrap-TTL must be seconds or a duration, for example 300 or 5m".into());
    let Some(value) = single(headers, "x-vault-wrap-ttl")? else { return Ok(None) };
    let ttl = match value.to_str().map_err(|_| bad())? {
        "" => Duration::ZERO,
        text => types::duration::parse(text).map_err(|_| bad())?,
    };
    Ok(Some(ttl).filter(|ttl| !ttl.is_zero()))
}

/// How fresh the state must be that the request is answered from: `X-Conclave-Read-Consistency`, `X-Conclave-Max-Staleness`. At most
/// `stale_max` of staleness is given.
pub(crate) fn reading(headers: &HeaderMap, verb: Verb, stale_max: Duration) -> Result<Reading, Failure> {
    let text = |name| match single(headers, name)? {
        None => Ok(None),
        Some(value) => value.to_str().map(Some).map_err(|_| Failure::Header(format!("{name} is no text"))),
    };
    let consistency = text("x-conclave-read-consistency")?;
    let reading = match consistency {
        None | Some("" | "lease") => Reading::Configured,
        Some("quorum") => Reading::Quorum,
        Some(_) => return Err(Failure::Header("X-Conclave-Read-Consistency must be lease or quorum".into())),
    };
    let Some(staleness) = text("x-conclave-max-staleness")?.filter(|text| !text.is_empty()) else { return Ok(reading) };
    let staleness = types::duration::parse(staleness)
        .map_err(|_| Failure::Header("X-Conclave-Max-Staleness must be a duration, for example 500ms".into()))?;
    if staleness.is_zero() {
        return Ok(reading);
    }
    if consistency.is_some_and(|text| !text.is_empty()) {
        return Err(Failure::Header(
            "X-Conclave-Max-Staleness and X-Conclave-Read-Consistency contradict each other (leave one out)".into(),
        ));
    }
    if !matches!(verb, Verb::Read | Verb::List | Verb::Scan) {
        return Err(Failure::Header("X-Conclave-Max-Staleness is for reads and lists (leave it out of a write)".into()));
    }
    if staleness > stale_max {
        let most = types::duration::print(stale_max);
        return Err(Failure::Header(format!(
            "X-Conclave-Max-Staleness is at most {most} here (stale_reads_max in the node's configuration)"
        )));
    }
    Ok(Reading::Stale(staleness))
}

/// The body, and the room that it takes: within `bytes_max` and the JSON limits, and a JSON object if there is one. A body that
/// is larger than [`FREE_BYTES`](crate::room::FREE_BYTES) is taken only if `gate` lets it.
pub(super) async fn body(head: &Parts, body: Body, bytes_max: usize, limits: &Limits, gate: Gate) -> Result<(SecretBytes, Held), Failure> {
    if matches!(head.method, Method::GET | Method::HEAD | Method::DELETE) || head.method.as_str() == "LIST" {
        // Such a body means nothing; it is not read.
        return Ok((engine::no_body(), Held::default()));
    }
    any_body(head, body, bytes_max, limits, gate).await
}

/// As [`body`], also where the method seldom has one.
pub(super) async fn any_body(
    head: &Parts,
    body: Body,
    bytes_max: usize,
    limits: &Limits,
    gate: Gate,
) -> Result<(SecretBytes, Held), Failure> {
    let declared = head.headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|declared| declared > bytes_max) {
        return Err(Failure::Upload(BodyError::TooLarge(bytes_max)));
    }
    let (stream, held) = limits.room.meter(body, bytes_max, Framing::Plain, gate);
    let chunks: Vec<Bytes> = stream.try_collect().await.map_err(Failure::Upload)?;
    // One buffer of the final size: one that grows leaves copies behind.
    let bytes = SecretBytes::with_len(chunks.iter().map(Bytes::len).sum(), |buffer| {
        let mut rest = buffer;
        for chunk in &chunks {
            let (place, after) = rest.split_at_mut(chunk.len());
            place.copy_from_slice(chunk);
            rest = after;
        }
    });
    drop(chunks);
    // EXPOSE: the body's shape is checked.
    if bytes.expose().trim_ascii() == b"null" {
        // What `bao write -f` sends: there is nothing to say.
        return Ok((engine::no_body(), Held::default()));
    }
    check_json(bytes.expose(), &limits.json)?;
    Ok((bytes, held))
}

pub(crate) fn check_json(bytes: &[u8], limits: &json::JsonLimits) -> Result<(), Failure> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    json::check_limits(bytes, limits)?;
    serde_json::from_slice::<Wellformed>(bytes)
        .map_err(|error| Failure::Body(format!("failed to parse JSON input: line {}, column {}", error.line(), error.column())))?;
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => Ok(()),
        _ => Err(Failure::Body("failed to parse JSON input: the body must be a JSON object".into())),
    }
}

/// A JSON document whose every string and number can be read: nothing is kept of it. (`IgnoredAny` skips over lone surrogates
/// and numbers out of range; stored, they could be neither read nor audited.)
struct Wellformed;

impl<'de> Deserialize<'de> for Wellformed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Wellformed, D::Error> {
        deserializer.deserialize_any(Wellformed)
    }
}

impl<'de> Visitor<'de> for Wellformed {
    type Value = Wellformed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Wellformed, E> {
        Ok(Wellformed)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Wellformed, E> {
        Ok(Wellformed)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Wellformed, E> {
        Ok(Wellformed)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Wellformed, E> {
        Ok(Wellformed)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Wellformed, E> {
        Ok(Wellformed)
    }

    fn visit_str<E>(self, _: &str) -> Result<Wellformed, E> {
        Ok(Wellformed)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Wellformed, A::Error> {
        while elements.next_element::<Wellformed>()?.is_some() {}
        Ok(Wellformed)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Wellformed, A::Error> {
        while entries.next_entry::<Wellformed, Wellformed>()?.is_some() {}
        Ok(Wellformed)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn head(method: &str, uri: &str) -> Parts {
        http::Request::builder().method(method).uri(uri).body(()).unwrap().into_parts().0
    }

    #[test]
    fn every_spelling_of_a_verb_is_understood() {
        for (method, uri, want) in [
            ("GET", "/v1/a", Some(Verb::Read)),
            ("GET", "/v1/a?list=true", Some(Verb::List)),
            ("GET", "/v1/a?list=True", Some(Verb::List)),
            ("GET", "/v1/a?list=1", Some(Verb::List)),
            ("GET", "/v1/a?list=false", Some(Verb::Read)),
            ("GET", "/v1/a?list", Some(Verb::Read)),
            ("GET", "/v1/a?list=yes", None),
            ("LIST", "/v1/a?list=yes", Some(Verb::List)),
            ("GET", "/v1/a?scan=true", Some(Verb::Scan)),
            ("LIST", "/v1/a", Some(Verb::List)),
            ("SCAN", "/v1/a", Some(Verb::Scan)),
            ("PUT", "/v1/a", Some(Verb::Write)),
            ("POST", "/v1/a", Some(Verb::Write)),
            ("DELETE", "/v1/a", Some(Verb::Delete)),
            ("OPTIONS", "/v1/a", None),
            ("TRACE", "/v1/a", None),
            ("PATCH", "/v1/a", None),
        ] {
            assert_eq!(verb(&head(method, uri)).map(|(verb, _)| verb).ok(), want, "{method} {uri}");
        }
    }

    #[test]
    fn staleness_is_asked_for_by_name_within_limits_and_for_reads_only() {
        let ask = |verb, headers: &[(&'static str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_str(value).unwrap());
            }
            reading(&map, verb, Duration::from_secs(10)).map_err(|failure| failure.to_string())
        };
        const STALENESS: &str = "x-conclave-max-staleness";
        const CONSISTENCY: &str = "x-conclave-read-consistency";
        for (verb, headers, want) in [
            (Verb::Read, &[][..], Ok(Reading::Configured)),
            (Verb::Read, &[(STALENESS, "500ms")], Ok(Reading::Stale(Duration::from_millis(500)))),
            (Verb::List, &[(STALENESS, "10")], Ok(Reading::Stale(Duration::from_secs(10)))),
            (Verb::Read, &[(STALENESS, "0s"), (CONSISTENCY, "quorum")], Ok(Reading::Quorum)),
            (Verb::Write, &[(CONSISTENCY, "quorum")], Ok(Reading::Quorum)),
            (Verb::Read, &[(CONSISTENCY, "lease")], Ok(Reading::Configured)),
            (Verb::Write, &[(STALENESS, "1s")], Err("for reads and lists")),
            (Verb::Read, &[(STALENESS, "11s")], Err("at most 10s here")),
            (Verb::Read, &[(STALENESS, "-1s")], Err("must be a duration")),
            (Verb::Read, &[(STALENESS, "1s"), (STALENESS, "2s")], Err("twice")),
            (Verb::Read, &[(STALENESS, "1s"), (CONSISTENCY, "quorum")], Err("contradict")),
            (Verb::Read, &[(CONSISTENCY, "stale")], Err("must be lease or quorum")),
        ] {
            match (ask(verb, headers), want) {
                (Ok(found), Ok(want)) => assert_eq!(found, want, "{headers:?}"),
                (Err(found), Err(want)) => assert!(found.contains(want), "{headers:?}: {found}"),
                (found, want) => panic!("{headers:?}: {found:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn query_parameters_are_decoded_once() {
        let parsed = query("version=3&a=%2525&b=x+y&c").unwrap();
        let want = [("version", "3"), ("a", "%25"), ("b", "x y"), ("c", "")];
        assert_eq!(parsed, want.map(|(name, value)| (name.to_owned(), value.to_owned())));
        for bad in ["a=%", "a=%f", "a=%zz", "a=%ff"] {
            assert!(query(bad).is_err(), "{bad}");
        }
        assert!(query(&"a&".repeat(65)).is_err(), "too many");
    }

    #[test]
    fn a_wrap_ttl_is_seconds_or_a_duration_and_nothing_else() {
        let ttl = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
            wrap_ttl(&headers.collect()).map(|ttl| ttl.map(|ttl| ttl.as_secs())).map_err(|error| error.to_string())
        };
        let name = "x-vault-wrap-ttl";
        for (value, want) in [("60", Some(60)), ("5m", Some(300)), ("1h30m", Some(5400)), ("0", None), ("", None)] {
            assert_eq!(ttl(&[(name, value)]), Ok(want), "{value}");
        }
        assert_eq!(ttl(&[]), Ok(None));
        for value in ["abc", "-5", "5 m", "1e3"] {
            assert!(ttl(&[(name, value)]).unwrap_err().contains("X-Vault-Wrap-TTL"), "{value}");
        }
        assert!(ttl(&[(name, "60"), ("x-vault-wrap-format", "jwt")]).unwrap_err().contains("JWT"));
    }

    #[test]
    fn two_tokens_that_differ_are_refused() {
        let tokens = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            token(&headers).map(|token| token.map(|token| token.expose().to_vec()))
        };
        assert_eq!(tokens(&[]).unwrap(), None);
        assert_eq!(tokens(&[("x-vault-token", "")]).unwrap(), None);
        assert_eq!(tokens(&[("x-vault-token", "t")]).unwrap(), Some(b"t".to_vec()));
        assert_eq!(tokens(&[("authorization", "Bearer t")]).unwrap(), Some(b"t".to_vec()));
        assert_eq!(tokens(&[("authorization", "Basic t")]).unwrap(), None);
        assert_eq!(tokens(&[("x-vault-token", "t"), ("authorization", "Bearer t")]).unwrap(), Some(b"t".to_vec()));
        assert!(tokens(&[("x-vault-token", "t"), ("authorization", "Bearer u")]).is_err());
        assert!(tokens(&[("x-vault-token", "t"), ("x-vault-token", "u")]).is_err());
    }

    #[test]
    fn two_namespaces_or_wrap_ttls_that_differ_are_refused() {
        let headers = |name: &'static str, values: &[&'static str]| {
            values.iter().map(|value| (http::HeaderName::from_static(name), HeaderValue::from_static(value))).collect::<HeaderMap>()
        };
        for (values, fits) in [(&["a"][..], true), (&["a", "a"], true), (&["a", "b"], false), (&["", "a"], false), (&["a", ""], false)] {
            assert_eq!(namespace(&headers("x-vault-namespace", values)).is_ok(), fits, "{values:?}");
        }
        for (values, fits) in [(&["60"][..], true), (&["60", "60"], true), (&["60", "0"], false), (&["", "60"], false)] {
            assert_eq!(wrap_ttl(&headers("x-vault-wrap-ttl", values)).is_ok(), fits, "{values:?}");
        }
        // CVE-2026-55775: the root under the name that clients give it is the root before anything is decided.
        for (value, want) in [("root", ""), ("root/", ""), ("/root", ""), ("", ""), ("/", ""), ("Root", "Root"), ("root/a", "root/a")] {
            assert_eq!(namespace(&headers("x-vault-namespace", &[value])).unwrap().as_str(), want, "{value}");
        }
    }

    #[test]
    fn cve_2026_4525_no_header_that_holds_a_token_goes_further() {
        let names = ["x-vault-token", "authorization", "proxy-authorization", "cookie"];
        let all = names
            .iter()
            .chain(&["accept", "user-agent"])
            .map(|name| (http::HeaderName::from_static(name), HeaderValue::from_static("canary")));
        let shown: Vec<String> = shown_headers(&all.collect()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(shown, ["accept", "user-agent"]);
    }

    #[test]
    fn a_body_is_a_json_object_within_limits() {
        let limits = json::JsonLimits::default();
        for (body, fits) in [
            ("", true),
            (" ", true),
            ("{}", true),
            (" {\"a\": 1} ", true),
            ("[]", false),
            ("1", false),
            ("{", false),
            ("{bad", false),
            (r#"{"a": "\ud800"}"#, false),
            (r#"{"\udc00": 1}"#, false),
            (r#"{"a": "\ud83d\ude00"}"#, true),
            (r#"{"a": [1e400]}"#, false),
            (r#"{"a": 123456789012345678901234567890}"#, true),
        ] {
            assert_eq!(check_json(body.as_bytes(), &limits).is_ok(), fits, "{body}");
        }
        let deep = format!("{}{}", "{\"a\":".repeat(500), "1".to_owned() + &"}".repeat(500));
        assert!(matches!(check_json(deep.as_bytes(), &limits), Err(Failure::JsonLimit(_))));
        let secret = check_json(b"{\"password\": canary}", &limits).unwrap_err().to_string();
        assert!(!secret.contains("canary"), "an error repeats the body: {secret}");
    }
}

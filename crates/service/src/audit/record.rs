//! One audit record: which request, by whom, what came of it. Vault's field names.

use crypto::MacKey;
use serde_json::{Map, Value, json};
use types::Timestamp;

use crate::permit::Permit;
use crate::request::{Answer, Request, Response};
use crate::token::Caller;

/// What the record is of.
pub(crate) enum Stage<'a> {
    /// Before anything is done. `denied`: nothing will be.
    Request { denied: bool },
    /// Before anything is told.
    Response(&'a Response),
}

/// All that a record shows.
pub(crate) struct Event<'a> {
    pub(crate) time: Timestamp,
    pub(crate) request: &'a Request,
    /// The body, parsed once for all devices; null when there is none or it is no JSON.
    pub(crate) body: &'a Value,
    pub(crate) caller: Option<&'a Caller>,
    pub(crate) permit: Option<&'a Permit>,
    pub(crate) mount: Option<(&'a str, &'a str)>,
    pub(crate) stage: Stage<'a>,
}

/// Parses a body for its record.
pub(crate) fn parse_body(body: &[u8]) -> Value {
    if body.is_empty() { Value::Null } else { serde_json::from_slice(body).unwrap_or(Value::Null) }
}

impl Event<'_> {
    /// The record as a JSON line, with secrets as HMACs by `key`.
    pub(crate) fn line(&self, key: &MacKey) -> Vec<u8> {
        let time = i64::try_from(self.time.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
        let mut record = Map::new();
        record.insert("time".into(), json!(time.to_string()));
        record.insert("type".into(), json!(if matches!(self.stage, Stage::Request { .. }) { "request" } else { "response" }));
        record.insert("auth".into(), self.auth(key));
        record.insert("request".into(), self.request_part(key));
        let error = match &self.stage {
            Stage::Request { denied: true } => Some("permission denied".to_owned()),
            Stage::Request { denied: false } => None,
            Stage::Response(response) => {
                record.insert("response".into(), response_part(response, key));
                response.outcome.as_ref().err().map(ToString::to_string)
            }
        };
        if let Some(error) = error {
            record.insert("error".into(), json!(error));
        }
        let mut line = Value::Object(record).to_string().into_bytes();
        line.push(b'\n');
        line
    }

    fn auth(&self, key: &MacKey) -> Value {
        let Some(caller) = self.caller else { return json!({}) };
        json!({
            // EXPOSE: only its HMAC is shown.
            "client_token": hmac(key, caller.text.expose()),
            "accessor": hmac(key, caller.token.accessor.as_bytes()),
            "display_name": caller.token.display_name,
            "policies": caller.token.policies,
            "token_policies": caller.token.policies,
            "policy_results": { "allowed": self.permit.is_some() },
            "token_type": "service",
        })
    }

    fn request_part(&self, key: &MacKey) -> Value {
        let request = self.request;
        let operation = match self.permit {
            Some(permit) => permit.capability().as_str(),
            None => match request.verb {
                types::capability::Verb::Write => "update",
                verb => verb.as_str(),
            },
        };
        let mut part = Map::new();
        part.insert("id".into(), json!(request.id.to_string()));
        part.insert("operation".into(), json!(operation));
        if let Some((path, kind)) = self.mount {
            part.insert("mount_point".into(), json!(path));
            part.insert("mount_type".into(), json!(kind));
        }
        if let Some(token) = &request.token {
            // EXPOSE: only its HMAC is shown.
            part.insert("client_token".into(), json!(hmac(key, token.expose())));
        }
        part.insert("path".into(), json!(request.path.as_str()));
        if !self.body.is_null() {
            part.insert("data".into(), redact(self.body, key));
        }
        if !request.query.is_empty() {
            let query: Map<_, _> = request.query.iter().map(|(name, value)| (name.clone(), json!(hmac(key, value.as_bytes())))).collect();
            part.insert("query".into(), Value::Object(query));
        }
        if let Some(remote) = request.remote {
            part.insert("remote_address".into(), json!(remote.ip().to_string()));
            part.insert("remote_port".into(), json!(remote.port()));
        }
        Value::Object(part)
    }
}

fn response_part(response: &Response, key: &MacKey) -> Value {
    match &response.outcome {
        // EXPOSE: only HMACs of it are shown.
        Ok(Answer::Data(data) | Answer::Gone(data)) => json!({ "data": redact(&parse_body(data.expose()), key) }),
        // EXPOSE: as above.
        Ok(Answer::Leased(data, lease)) => json!({
            "data": redact(&parse_body(data.expose()), key),
            "secret": { "lease_id": lease.id },
        }),
        // EXPOSE: only HMACs of what is secret in it are shown.
        Ok(Answer::Auth(auth)) => json!({ "auth": {
            "client_token": hmac(key, auth.client_token.expose()),
            "accessor": hmac(key, auth.accessor.as_bytes()),
            "policies": auth.policies,
            "token_policies": auth.policies,
            "metadata": auth.metadata,
            "token_type": if auth.is_batch { "batch" } else { "service" },
            "token_ttl": auth.ttl.as_secs(),
        } }),
        // EXPOSE: only its HMAC is shown.
        Ok(Answer::Raw(raw)) => json!({ "data": { "http_raw_body": hmac(key, raw.body.expose()), "http_content_type": raw.content_type } }),
        Ok(Answer::Done | Answer::NotFound) | Err(_) => json!({}),
    }
}

fn hmac(key: &MacKey, bytes: &[u8]) -> String {
    format!("hmac-sha256:{}", hex::encode(key.tag(bytes)))
}

/// The same value with every string and number as an HMAC. Names of fields, booleans and nulls stay, as in Vault's records;
/// numbers do not, since a PIN is one.
fn redact(value: &Value, key: &MacKey) -> Value {
    match value {
        Value::Null | Value::Bool(_) => value.clone(),
        Value::String(text) => json!(hmac(key, text.as_bytes())),
        Value::Number(number) => json!(hmac(key, number.to_string().as_bytes())),
        Value::Array(values) => values.iter().map(|value| redact(value, key)).collect(),
        Value::Object(fields) => Value::Object(fields.iter().map(|(name, value)| (name.clone(), redact(value, key))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_string_or_number_shows() {
        let key = MacKey::new(&[7; 32]);
        let shown = redact(&json!({"a": "canary-1", "b": [424242, {"c": "canary-1"}], "d": true, "e": null}), &key).to_string();
        assert!(!shown.contains("canary") && !shown.contains("424242"), "{shown}");
        assert_eq!(shown.matches(&hmac(&key, b"canary-1")).count(), 2, "equal values look equal");
        assert!(shown.contains("true") && shown.contains("null"));
    }
}

//! The requests under way.
//!
//! Always: a request is listed exactly while it is under way, also when it is dropped half-way. Of its path only the first
//! part is kept, and a second one below `sys/` and `auth/`: names of secrets, tokens and lease ids come after those.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Method;
use serde_json::{Map, Value, json};
use types::{RequestId, Timestamp};

use super::rfc3339;

/// The longest part of a path that is kept, in characters.
const PART_CHARS_MAX: usize = 64;

/// The list. Clones share it. Bounded by the connections and their streams.
#[derive(Clone, Default)]
pub(super) struct InFlight(Arc<Mutex<HashMap<RequestId, Flight>>>);

struct Flight {
    started: Timestamp,
    remote: Option<SocketAddr>,
    method: Method,
    path: String,
}

/// Lists a request until it is dropped.
pub(super) struct Listed(InFlight, RequestId);

impl Drop for Listed {
    fn drop(&mut self) {
        self.0.flights().remove(&self.1);
    }
}

impl InFlight {
    fn flights(&self) -> MutexGuard<'_, HashMap<RequestId, Flight>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, id: RequestId, now: Timestamp, remote: Option<SocketAddr>, method: &Method, path: &str) -> Listed {
        let flight = Flight { started: now, remote, method: method.clone(), path: shown_path(path) };
        self.flights().insert(id, flight);
        Listed(self.clone(), id)
    }

    pub(super) fn count(&self) -> usize {
        self.flights().len()
    }

    pub(super) fn to_json(&self) -> Value {
        let flights = self.flights();
        let entries = flights.iter().map(|(id, flight)| {
            let value = json!({
                "start_time": rfc3339(flight.started),
                "client_remote_address": flight.remote.map(|remote| remote.to_string()).unwrap_or_default(),
                "request_path": flight.path,
                "request_method": flight.method.as_str(),
                "client_id": "",
            });
            (id.to_string(), value)
        });
        Value::Object(entries.collect::<Map<String, Value>>())
    }
}

/// What of a path may be shown: as it came, so nothing in it is known to be well-formed.
fn shown_path(path: &str) -> String {
    let below = path.strip_prefix("/v1/").unwrap_or(path);
    let mut parts = below.split('/').filter(|part| !part.is_empty());
    let short = |part: &str| part.chars().take(PART_CHARS_MAX).collect::<String>();
    let Some(first) = parts.next() else { return String::new() };
    let mut shown = short(first);
    if matches!(first, "sys" | "auth")
        && let Some(second) = parts.next()
    {
        shown.push('/');
        shown.push_str(&short(second));
    }
    if parts.next().is_some() {
        shown.push_str("/…");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_path_only_what_names_the_mount_is_shown() {
        for (path, want) in [
            ("/v1/secret/data/bank/pin", "secret/…"),
            ("/v1/sys/health", "sys/health"),
            ("/v1/auth/token/lookup/hvs.CANARY", "auth/token/…"),
            ("/v1/sys/leases/lookup/db/creds/x/CANARY", "sys/leases/…"),
            ("/v1//secret//x", "secret/…"),
            ("/v1/", ""),
            ("/conclave.kv.v1.Kv/Get", "conclave.kv.v1.Kv/…"),
        ] {
            assert_eq!(shown_path(path), want, "{path}");
        }
        assert_eq!(shown_path(&format!("/v1/{}", "x".repeat(9000))).len(), PART_CHARS_MAX);
    }

    #[test]
    fn a_request_is_listed_while_it_is_under_way() {
        let list = InFlight::default();
        let id = RequestId::generate();
        let listed = list.enter(id, Timestamp(0), Some("127.0.0.1:9".parse().unwrap()), &Method::GET, "/v1/secret/a");
        let json = list.to_json();
        let entry = &json[id.to_string()];
        assert_eq!(entry["request_path"], "secret/…");
        assert_eq!(entry["start_time"], "1970-01-01T00:00:00Z");
        assert_eq!(entry["client_remote_address"], "127.0.0.1:9");
        drop(listed);
        assert_eq!(list.count(), 0);
        assert_eq!(list.to_json(), json!({}));
    }
}

//! One audit record: which request, by whom, what came of it. Vault's field names, in Vault's order; what is empty is left out.
//!
//! Knows nothing of tokens, policies or mounts: the pipeline lends what is to be shown.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use barrier::JournalLine;
use crypto::SecretBytes;
use types::{NodeId, RequestId, Timestamp};

use super::json::{self, Object};
use super::redact::{Redaction, Special};

/// How our built-in engines and methods are named as plugins.
const RUNNING_VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"), "+builtin.conclave");
/// Room for a record without its data, so that its buffer seldom grows.
const RECORD_BYTES: usize = 2048;

/// All that a record shows.
#[derive(Clone, Copy)]
pub(crate) struct Event<'a> {
    /// When.
    pub(crate) time: Timestamp,
    /// Who asks.
    pub(crate) auth: Auth<'a>,
    /// For what.
    pub(crate) request: Asked<'a>,
    /// `None`: a record of a request, before anything is done. `Some`: of a response, before anything is told.
    pub(crate) response: Option<Answered<'a>>,
    /// Why it was, or will be, refused: a text for the caller, without secrets.
    pub(crate) error: Option<&'a str>,
}

/// A token: the caller's, or one that a login or a creation makes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Auth<'a> {
    /// Shown as an HMAC. `None` for a caller whom nobody knows.
    pub(crate) client_token: Option<&'a [u8]>,
    /// Shown as an HMAC, unless the device has `hmac_accessor = false`.
    pub(crate) accessor: &'a str,
    pub(crate) display_name: &'a str,
    /// All of them, those of the token and those of its entity.
    pub(crate) policies: &'a [String],
    pub(crate) token_policies: &'a [String],
    pub(crate) identity_policies: &'a [String],
    /// What the policies say of this request; `None` when they were not asked.
    pub(crate) policy_results: Option<PolicyResults<'a>>,
    pub(crate) metadata: Option<&'a BTreeMap<String, String>>,
    /// How often a new token can be used; 0 for ever.
    pub(crate) num_uses: u64,
    /// How often the caller's token can still be used, this time included; 0 for ever.
    pub(crate) remaining_uses: u64,
    pub(crate) entity_id: &'a str,
    /// "service", "batch"; empty for a caller whom nobody knows.
    pub(crate) token_type: &'a str,
    /// As it was when the token was made or last renewed.
    pub(crate) token_ttl: Duration,
    pub(crate) token_issue_time: Option<Timestamp>,
}

/// What the policies said.
#[derive(Clone, Copy, Default)]
pub(crate) struct PolicyResults<'a> {
    pub(crate) allowed: bool,
    /// Which of them allowed it.
    pub(crate) granting_policies: &'a [GrantingPolicy<'a>],
}

/// A policy that allowed the request.
#[derive(Clone, Copy)]
pub(crate) struct GrantingPolicy<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace_id: &'a str,
}

/// Where a request leads.
#[derive(Clone, Copy)]
pub(crate) struct MountShown<'a> {
    /// With its namespace's path in front; ends with `/`.
    pub(crate) path: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) accessor: &'a str,
    /// An auth method, or a secret engine.
    pub(crate) is_auth: bool,
    /// The mount's `audit_non_hmac_request_keys`: names whose strings and numbers show as they are.
    pub(crate) plain_request_keys: &'a [String],
    /// Its `audit_non_hmac_response_keys`.
    pub(crate) plain_response_keys: &'a [String],
}

/// A request.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) id: RequestId,
    /// Names the caller as one client, where clients are counted.
    pub(crate) client_id: &'a str,
    /// "create", "read", "update", …
    pub(crate) operation: &'a str,
    pub(crate) mount: Option<MountShown<'a>>,
    /// As it came, also when there is no such token. Shown as an HMAC.
    pub(crate) client_token: Option<&'a [u8]>,
    /// Of the caller's token, when there is one.
    pub(crate) client_token_accessor: &'a str,
    /// "root", or the namespace's id.
    pub(crate) namespace_id: &'a str,
    /// Ends with `/`; empty for the root namespace.
    pub(crate) namespace_path: &'a str,
    /// Below the namespace.
    pub(crate) path: &'a str,
    /// The body, as JSON; `None` when it is not shown: there is none, or nobody knows who sent it.
    pub(crate) data: Option<&'a SecretBytes>,
    /// Decoded. Shown as `data` where there is no body, as in Vault, and else as `query`.
    pub(crate) query: &'a [(String, String)],
    pub(crate) policy_override: bool,
    pub(crate) remote: Option<SocketAddr>,
    /// Zero: not to be wrapped.
    pub(crate) wrap_ttl: Duration,
    /// All that came, with lower-case names. Those that `sys/config/auditing/request-headers` names are shown.
    pub(crate) headers: &'a [(String, String)],
}

impl<'a> Asked<'a> {
    /// A request of which only this is known.
    pub(crate) fn new(id: RequestId, operation: &'a str, path: &'a str) -> Asked<'a> {
        Asked {
            id,
            client_id: "",
            operation,
            mount: None,
            client_token: None,
            client_token_accessor: "",
            namespace_id: "root",
            namespace_path: "",
            path,
            data: None,
            query: &[],
            policy_override: false,
            remote: None,
            wrap_ttl: Duration::ZERO,
            headers: &[],
        }
    }
}

/// An answer.
#[derive(Clone, Copy, Default)]
pub(crate) struct Answered<'a> {
    /// A token that was made, or renewed.
    pub(crate) auth: Option<Auth<'a>>,
    /// What is told, as JSON.
    pub(crate) data: Option<&'a SecretBytes>,
    pub(crate) wrap_info: Option<WrapInfo<'a>>,
    /// The lease that comes with the answer; empty for none.
    pub(crate) lease_id: &'a str,
    /// For people: without secrets.
    pub(crate) warnings: &'a [String],
    pub(crate) redirect: &'a str,
}

/// How an answer was wrapped.
#[derive(Clone, Copy)]
pub(crate) struct WrapInfo<'a> {
    pub(crate) ttl: Duration,
    /// Shown as an HMAC.
    pub(crate) token: &'a [u8],
    pub(crate) accessor: &'a str,
    pub(crate) creation_time: Timestamp,
    pub(crate) creation_path: &'a str,
    /// Of the token that is in it; empty for none.
    pub(crate) wrapped_accessor: &'a str,
}

/// Which request headers are shown, by their lower-case names, and whether as HMACs.
pub(crate) type AuditedHeaders = BTreeMap<String, bool>;

impl Event<'_> {
    /// The record as a line of JSON after `prefix`, as a device with this redaction shows it.
    pub(crate) fn line(&self, prefix: &str, redaction: &Redaction, headers: &AuditedHeaders) -> Vec<u8> {
        let shown = Shown { event: self, redaction, headers };
        let mut line = Vec::with_capacity(RECORD_BYTES);
        line.extend_from_slice(prefix.as_bytes());
        json::object(&mut line, |record| {
            record.text("time", &rfc3339(self.time));
            record.text("type", if self.response.is_none() { "request" } else { "response" });
            record.object("auth", |part| shown.auth(part, &self.auth, true));
            record.object("request", |part| shown.request(part));
            if let Some(response) = &self.response {
                record.object("response", |part| shown.response(part, response));
            }
            record.text("error", self.error.unwrap_or_default());
        });
        line.push(b'\n');
        line
    }
}

/// A record of the journal: an entry of it, or what is wrong with it.
#[derive(Clone, Copy)]
pub(crate) struct JournalEvent<'a> {
    /// When it is recorded, which may be long after the act.
    pub(crate) time: Timestamp,
    /// Whose journal.
    pub(crate) node: &'a NodeId,
    /// The entry; `None` when the record is about the journal itself.
    pub(crate) line: Option<&'a JournalLine>,
    /// What is wrong: a text without secrets.
    pub(crate) error: Option<&'a str>,
}

impl JournalEvent<'_> {
    /// The record as a line of JSON after `prefix`. All of it shows as it is: a journal holds no secret.
    pub(crate) fn line(&self, prefix: &str) -> Vec<u8> {
        let mut line = Vec::with_capacity(RECORD_BYTES);
        line.extend_from_slice(prefix.as_bytes());
        json::object(&mut line, |record| {
            record.text("time", &rfc3339(self.time));
            record.text("type", "journal");
            // By way of a map, which escapes names too: those of a journal's fields come from a file.
            let mut shown = serde_json::Map::new();
            shown.insert("node".into(), self.node.as_str().into());
            if let Some(line) = self.line {
                shown.insert("sequence".into(), line.sequence.into());
                shown.insert("time".into(), line.time.as_str().into());
                shown.insert("act".into(), line.act.as_str().into());
                shown.insert("outcome".into(), line.outcome.as_str().into());
                shown.extend(line.fields.clone());
                shown.insert("hash".into(), line.hash.to_string().into());
            }
            serde_json::to_writer(record.value("journal"), &shown).expect("a map is written to memory");
            record.text("error", self.error.unwrap_or_default());
        });
        line.push(b'\n');
        line
    }
}

/// An event on its way to one device.
struct Shown<'a> {
    event: &'a Event<'a>,
    redaction: &'a Redaction,
    headers: &'a AuditedHeaders,
}

impl Shown<'_> {
    fn auth(&self, part: &mut Object<'_>, auth: &Auth<'_>, is_caller: bool) {
        if let Some(token) = auth.client_token {
            self.redaction.write_secret(part.value("client_token"), token);
        }
        self.accessor(part, "accessor", auth.accessor);
        part.text("display_name", auth.display_name);
        part.texts("policies", auth.policies);
        part.texts("token_policies", auth.token_policies);
        part.texts("identity_policies", auth.identity_policies);
        if let Some(results) = &auth.policy_results {
            part.object("policy_results", |part| policy_results(part, results));
        }
        if let Some(metadata) = auth.metadata {
            part.map("metadata", metadata);
        }
        part.number("num_uses", auth.num_uses);
        part.number("remaining_uses", auth.remaining_uses);
        part.text("entity_id", auth.entity_id);
        part.text("token_type", if auth.token_type.is_empty() && is_caller { "default" } else { auth.token_type });
        part.number("token_ttl", auth.token_ttl.as_secs());
        if let Some(time) = auth.token_issue_time {
            part.text("token_issue_time", &rfc3339(Timestamp(time.seconds() * 1000)));
        }
    }

    fn request(&self, part: &mut Object<'_>) {
        let request = &self.event.request;
        part.text("id", &request.id.to_string());
        part.text("client_id", request.client_id);
        part.text("operation", request.operation);
        if let Some(mount) = &request.mount {
            mount_fields(part, mount, "mount_running_version");
        }
        if let Some(token) = request.client_token {
            self.redaction.write_secret(part.value("client_token"), token);
        }
        self.accessor(part, "client_token_accessor", request.client_token_accessor);
        part.object("namespace", |part| {
            part.text("id", request.namespace_id);
            part.text("path", request.namespace_path);
        });
        part.text("path", request.path);
        match request.data.filter(|data| !data.is_empty()) {
            Some(data) => {
                let plain_keys = request.mount.map_or(&[][..], |mount| mount.plain_request_keys);
                // EXPOSE: it is shown redacted.
                self.redaction.write_json(part.value("data"), data.expose(), Special { plain_keys, ..Special::default() });
                self.query(part, "query");
            }
            None => self.query(part, "data"),
        }
        if request.policy_override {
            part.flag("policy_override", true);
        }
        if let Some(remote) = request.remote {
            part.text("remote_address", &remote.ip().to_canonical().to_string());
            part.number("remote_port", remote.port().into());
        }
        part.number("wrap_ttl", request.wrap_ttl.as_secs());
        self.headers(part);
    }

    fn response(&self, part: &mut Object<'_>, response: &Answered<'_>) {
        let request = &self.event.request;
        if let Some(auth) = &response.auth {
            part.object("auth", |part| self.auth(part, auth, false));
        }
        if let Some(mount) = &request.mount {
            mount_fields(part, mount, "mount_running_plugin_version");
        }
        if !response.lease_id.is_empty() {
            part.object("secret", |part| part.text("lease_id", response.lease_id));
        }
        if let Some(data) = response.data.filter(|data| !data.is_empty()) {
            let plain_keys = request.mount.map_or(&[][..], |mount| mount.plain_response_keys);
            let is_list = matches!(request.operation, "list" | "scan");
            // EXPOSE: it is shown redacted.
            self.redaction.write_json(part.value("data"), data.expose(), Special { plain_keys, is_list, is_answer: true });
        } else if let Some(error) = self.event.error {
            part.object("data", |part| self.redaction.write_secret(part.value("error"), error.as_bytes()));
        }
        part.texts("warnings", response.warnings);
        part.text("redirect", response.redirect);
        if let Some(wrap) = &response.wrap_info {
            part.object("wrap_info", |part| self.wrap_info(part, wrap));
        }
    }

    fn wrap_info(&self, part: &mut Object<'_>, wrap: &WrapInfo<'_>) {
        part.number("ttl", wrap.ttl.as_secs());
        self.redaction.write_secret(part.value("token"), wrap.token);
        self.accessor(part, "accessor", wrap.accessor);
        part.text("creation_time", &rfc3339(wrap.creation_time));
        part.text("creation_path", wrap.creation_path);
        self.accessor(part, "wrapped_accessor", wrap.wrapped_accessor);
    }

    fn accessor(&self, part: &mut Object<'_>, name: &str, accessor: &str) {
        if !accessor.is_empty() {
            self.redaction.write_accessor(part.value(name), accessor);
        }
    }

    /// Query parameters: a string each, an array where a name comes more than once.
    fn query(&self, part: &mut Object<'_>, name: &str) {
        let query = self.event.request.query;
        if query.is_empty() {
            return;
        }
        let plain_keys = self.event.request.mount.map_or(&[][..], |mount| mount.plain_request_keys);
        let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, value) in query {
            values.entry(name).or_default().push(value);
        }
        let out = part.value(name);
        let mut opening = b'{';
        for (name, values) in values {
            out.push(opening);
            opening = b',';
            json::string(out, name);
            out.push(b':');
            let is_plain = plain_keys.iter().any(|key| key == name);
            let write = |out: &mut Vec<u8>, value: &str| {
                if is_plain { json::string(out, value) } else { self.redaction.write_secret(out, value.as_bytes()) }
            };
            match values[..] {
                [value] => write(out, value),
                _ => json::array(out, values, write),
            }
        }
        out.push(b'}');
    }

    /// The headers that are configured. What is asked to be an HMAC is one on every device, as in Vault.
    fn headers(&self, part: &mut Object<'_>) {
        if self.headers.is_empty() {
            return;
        }
        let mut found: BTreeMap<&str, (bool, Vec<&str>)> = BTreeMap::new();
        for (name, value) in self.event.request.headers {
            if let Some((name, hmac)) = self.headers.get_key_value(name) {
                found.entry(name).or_insert((*hmac, Vec::new())).1.push(value);
            }
        }
        if found.is_empty() {
            return;
        }
        let out = part.value("headers");
        let mut opening = b'{';
        for (name, (hmac, values)) in found {
            out.push(opening);
            opening = b',';
            json::string(out, name);
            out.push(b':');
            json::array(out, values, |out, value| {
                let shown = if hmac { Cow::Owned(self.redaction.tag(value.as_bytes())) } else { Cow::Borrowed(value) };
                json::string(out, &shown);
            });
        }
        out.push(b'}');
    }
}

fn policy_results(part: &mut Object<'_>, results: &PolicyResults<'_>) {
    part.flag("allowed", results.allowed);
    if !results.granting_policies.is_empty() {
        json::array(part.value("granting_policies"), results.granting_policies, |out, policy| {
            json::object(out, |part| {
                part.text("name", policy.name);
                part.text("namespace_id", policy.namespace_id);
                part.text("type", "acl");
            });
        });
    }
}

fn mount_fields(part: &mut Object<'_>, mount: &MountShown<'_>, version_field: &str) {
    part.text("mount_point", mount.path);
    part.text("mount_type", mount.kind);
    part.text("mount_accessor", mount.accessor);
    part.text(version_field, RUNNING_VERSION);
    part.text("mount_class", if mount.is_auth { "auth" } else { "secret" });
}

fn rfc3339(time: Timestamp) -> String {
    let time = i64::try_from(time.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use crypto::MacKey;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    fn redaction() -> Redaction {
        Redaction { key: MacKey::new(&[7; 32]), log_raw: false, hmac_accessor: true, elide_list_responses: false }
    }

    fn secret(text: &str) -> SecretBytes {
        SecretBytes::from(text.as_bytes().to_vec())
    }

    fn parsed(event: &Event<'_>, redaction: &Redaction, headers: &AuditedHeaders) -> Value {
        let line = event.line("", redaction, headers);
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1), "one line");
        serde_json::from_slice(&line).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&line)))
    }

    fn with_event<T>(act: impl FnOnce(Event<'_>) -> T) -> T {
        let (policies, keys) = (["default".to_owned(), "app".to_owned()], ["user".to_owned()]);
        let metadata = BTreeMap::from([("username".to_owned(), "u".to_owned())]);
        let granting = [GrantingPolicy { name: "app", namespace_id: "root" }];
        let warnings = ["a warning".to_owned()];
        let headers =
            [("x-a", "canary"), ("x-a", "two"), ("x-b", "plain"), ("x-c", "canary")].map(|(name, value)| (name.into(), value.into()));
        let query = [("version", "canary"), ("two", "canary"), ("two", "2")].map(|(name, value)| (name.into(), value.into()));
        let body = secret(r#"{"user":"u","password":"canary"}"#);
        let answer = secret(r#"{"user":"u","accessor":"canary-accessor","n":1}"#);
        let caller = Auth {
            client_token: Some(b"canary-token"),
            accessor: "canary-accessor",
            display_name: "userpass-u",
            policies: &policies,
            token_policies: &policies[..1],
            identity_policies: &policies[1..],
            policy_results: Some(PolicyResults { allowed: true, granting_policies: &granting }),
            metadata: Some(&metadata),
            remaining_uses: 2,
            entity_id: "entity",
            token_type: "service",
            token_ttl: Duration::from_secs(3600),
            token_issue_time: Some(Timestamp(1_700_000_000_999)),
            ..Auth::default()
        };
        let mount = MountShown {
            path: "ns1/secret/",
            kind: "kv",
            accessor: "kv_1",
            is_auth: false,
            plain_request_keys: &keys,
            plain_response_keys: &[],
        };
        let request = Asked {
            mount: Some(mount),
            client_token: Some(b"canary-token"),
            client_token_accessor: "canary-accessor",
            namespace_id: "abc123",
            namespace_path: "ns1/",
            data: Some(&body),
            query: &query,
            policy_override: true,
            remote: Some("127.0.0.1:1234".parse().unwrap()),
            wrap_ttl: Duration::from_secs(60),
            headers: &headers,
            ..Asked::new(RequestId(Uuid::nil()), "update", "secret/data/app")
        };
        let made =
            Auth { client_token: Some(b"canary-made"), accessor: "canary-accessor", num_uses: 3, token_type: "batch", ..Auth::default() };
        let wrap = WrapInfo {
            ttl: Duration::from_secs(60),
            token: b"canary-wrapping",
            accessor: "canary-accessor",
            creation_time: Timestamp(1_700_000_000_001),
            creation_path: "secret/data/app",
            wrapped_accessor: "canary-accessor",
        };
        let response = Answered {
            auth: Some(made),
            data: Some(&answer),
            wrap_info: Some(wrap),
            lease_id: "database/creds/app/1",
            warnings: &warnings,
            redirect: "https://other/",
        };
        act(Event { time: Timestamp(1_700_000_000_001), auth: caller, request, response: Some(response), error: Some("permission denied") })
    }

    /// Field for field what OpenBao 2.7.2 writes, but for the numbers and times in bodies, which it shows.
    #[test]
    fn a_record_has_vaults_fields() {
        let redaction = redaction();
        let tag = |text: &str| redaction.tag(text.as_bytes());
        let headers = AuditedHeaders::from([("x-a".into(), true), ("x-b".into(), false), ("x-none".into(), false)]);
        let auth = json!({
            "client_token": tag("canary-token"), "accessor": tag("canary-accessor"), "display_name": "userpass-u",
            "policies": ["default", "app"], "token_policies": ["default"], "identity_policies": ["app"],
            "policy_results": {"allowed": true, "granting_policies": [{"name": "app", "namespace_id": "root", "type": "acl"}]},
            "metadata": {"username": "u"}, "remaining_uses": 2, "entity_id": "entity", "token_type": "service", "token_ttl": 3600,
            "token_issue_time": "2023-11-14T22:13:20Z",
        });
        let request = json!({
            "id": "00000000-0000-0000-0000-000000000000", "operation": "update",
            "mount_point": "ns1/secret/", "mount_type": "kv", "mount_accessor": "kv_1", "mount_running_version": RUNNING_VERSION,
            "mount_class": "secret", "client_token": tag("canary-token"), "client_token_accessor": tag("canary-accessor"),
            "namespace": {"id": "abc123", "path": "ns1/"}, "path": "secret/data/app",
            "data": {"user": "u", "password": tag("canary")}, "query": {"version": tag("canary"), "two": [tag("canary"), tag("2")]},
            "policy_override": true, "remote_address": "127.0.0.1", "remote_port": 1234, "wrap_ttl": 60,
            "headers": {"x-a": [tag("canary"), tag("two")], "x-b": ["plain"]},
        });
        let response = json!({
            "auth": {"client_token": tag("canary-made"), "accessor": tag("canary-accessor"), "num_uses": 3, "token_type": "batch"},
            "mount_point": "ns1/secret/", "mount_type": "kv", "mount_accessor": "kv_1", "mount_running_plugin_version": RUNNING_VERSION,
            "mount_class": "secret", "secret": {"lease_id": "database/creds/app/1"},
            "data": {"user": tag("u"), "accessor": tag("canary-accessor"), "n": tag("1")},
            "warnings": ["a warning"], "redirect": "https://other/",
            "wrap_info": {"ttl": 60, "token": tag("canary-wrapping"), "accessor": tag("canary-accessor"), "creation_time": "2023-11-14T22:13:20.001Z",
                "creation_path": "secret/data/app", "wrapped_accessor": tag("canary-accessor")},
        });
        let record = |kind: &str| json!({"time": "2023-11-14T22:13:20.001Z", "type": kind, "auth": auth, "request": request});
        with_event(|event| {
            let (mut want, got) = (record("response"), parsed(&event, &redaction, &headers));
            want["response"] = response;
            want["error"] = json!("permission denied");
            assert_eq!(got, want);
            assert!(!got.to_string().contains("canary"), "{got}");
            assert_eq!(parsed(&Event { response: None, error: None, ..event }, &redaction, &headers), record("request"));
        });
    }

    #[test]
    fn an_unknown_caller_leaves_little() {
        let request = Asked { client_token: Some(b"canary"), ..Asked::new(RequestId(Uuid::nil()), "read", "secret/data/app") };
        let event = Event {
            time: Timestamp(0),
            auth: Auth::default(),
            request,
            response: Some(Answered::default()),
            error: Some("permission denied"),
        };
        let redaction = redaction();
        let want = json!({
            "time": "1970-01-01T00:00:00Z", "type": "response", "auth": {"token_type": "default"},
            "request": {
                "id": "00000000-0000-0000-0000-000000000000", "operation": "read", "client_token": redaction.tag(b"canary"),
                "namespace": {"id": "root"}, "path": "secret/data/app",
            },
            "response": {"data": {"error": redaction.tag(b"permission denied")}},
            "error": "permission denied",
        });
        assert_eq!(parsed(&event, &redaction, &AuditedHeaders::new()), want);
    }

    #[test]
    fn without_a_body_the_query_is_the_data() {
        let redaction = redaction();
        with_event(|mut event| {
            event.request.data = None;
            let record = parsed(&event, &redaction, &AuditedHeaders::new());
            assert_eq!(record["request"]["data"]["version"], json!(redaction.tag(b"canary")));
            assert!(record["request"].get("query").is_none() && record["request"].get("headers").is_none());
        });
    }

    #[test]
    fn accessors_and_raw_values_show_where_the_device_says_so() {
        with_event(|event| {
            let accessors = parsed(&event, &Redaction { hmac_accessor: false, ..redaction() }, &AuditedHeaders::new());
            for accessor in ["/auth/accessor", "/request/client_token_accessor", "/response/auth/accessor", "/response/data/accessor"] {
                assert_eq!(accessors.pointer(accessor), Some(&json!("canary-accessor")), "{accessor}");
            }
            assert!(!accessors.to_string().replace("canary-accessor", "").contains("canary"), "only accessors: {accessors}");
            let headers = AuditedHeaders::from([("x-a".into(), true)]);
            let raw = parsed(&event, &Redaction { log_raw: true, ..redaction() }, &headers);
            assert_eq!(raw["auth"]["client_token"], json!("canary-token"));
            assert_eq!(raw["request"]["data"], json!({"user": "u", "password": "canary"}));
            assert_eq!(raw["response"]["data"]["n"], json!(1));
            assert_eq!(raw["response"]["wrap_info"]["token"], json!("canary-wrapping"));
            assert!(raw["request"]["headers"]["x-a"][0].as_str().unwrap().starts_with("hmac-sha256:"));
        });
    }

    #[test]
    fn the_prefix_stands_before_the_line() {
        with_event(|event| {
            assert!(event.line("@cee: ", &redaction(), &AuditedHeaders::new()).starts_with(b"@cee: {\"time\":"));
        });
    }
}

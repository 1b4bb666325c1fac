//! `sys/audit`, `sys/audit-hash` and `sys/config/auditing`: which devices record, how a value shows in their records, and which
//! request headers are in them.

use std::collections::BTreeMap;

use barrier::{Plan, View, ViewError};
use crypto::{Rng, SecretBytes, rng::generate_bytes};
use engine::{Ask, AskError, Operation, Outcome, PlanError, Reply};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use types::Timestamp;

use super::Prepared;
use crate::audit::{AuditTable, DeviceConfig, DeviceOptions, parse_flag, probe};

/// The longest name of a header that is shown, in bytes.
const HEADER_NAME_BYTES_MAX: usize = 128;
/// Headers that carry what lets one in: they are shown as HMACs or not at all.
const SECRET_HEADERS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-vault-token"];

/// All devices.
pub(crate) struct List;

impl Operation for List {
    fn plan(&self, view: &View, _now: Timestamp) -> Result<Outcome, PlanError> {
        let table = AuditTable::load(view)?;
        let shown = |device: &DeviceConfig| {
            let value = json!({
                "type": "file",
                "description": device.description,
                "options": device.options,
                "path": device.path,
                "local": device.local,
            });
            (device.path.clone(), value)
        };
        let devices: Map<String, Value> = table.devices().iter().map(shown).collect();
        Ok(Outcome::answer(Reply::Data(engine::json(&devices))))
    }
}

/// Clients send null for what they leave out.
#[derive(Deserialize)]
struct EnableBody {
    #[serde(rename = "type")]
    kind: Option<String>,
    description: Option<String>,
    options: Option<BTreeMap<String, Value>>,
    local: Option<Value>,
}

/// Adds a device.
struct Enable {
    device: DeviceConfig,
    warnings: Vec<String>,
}

fn device_path(segments: &[&str]) -> String {
    let mut path = segments.join("/");
    path.push('/');
    path
}

fn invalid(text: impl Into<String>) -> AskError {
    AskError::Invalid(text.into())
}

/// A boolean, in the spellings that Vault takes.
fn flag(name: &str, value: &Value) -> Result<bool, AskError> {
    let flag = match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => parse_flag(text),
        Value::Number(number) => parse_flag(&number.to_string()),
        _ => None,
    };
    flag.ok_or_else(|| invalid(format!("{name:?} must be true or false")))
}

/// Parses `PUT sys/audit/PATH`. The device must be usable on this node before the table changes.
pub(crate) fn parse_enable(segments: &[&str], ask: &Ask, rng: &dyn Rng) -> Result<Prepared, AskError> {
    // EXPOSE: the body is parsed; it holds no secret, and no error repeats it.
    let body: EnableBody = serde_json::from_slice(ask.body.expose()).map_err(|_| {
        invalid(r#"a JSON object with "type" and "options" is needed, for example {"type": "file", "options": {"file_path": "/var/log/audit.log"}}"#)
    })?;
    let kind = body.kind.unwrap_or_default();
    if kind != "file" {
        let shown: String = kind.chars().take(40).collect();
        return Err(invalid(format!("unknown backend type: {shown:?} (use \"file\")")));
    }
    let mut options = BTreeMap::new();
    for (name, value) in body.options.unwrap_or_default() {
        let text = match value {
            Value::String(text) => text,
            Value::Bool(flag) => flag.to_string(),
            Value::Number(number) => number.to_string(),
            _ => return Err(invalid(format!("option {:?} must be a string", name.chars().take(40).collect::<String>()))),
        };
        options.insert(name, text);
    }
    let parsed = DeviceOptions::parse(&options).map_err(|error| invalid(error.to_string()))?;
    let local = body.local.as_ref().filter(|local| !local.is_null()).map(|local| flag("local", local)).transpose()?.unwrap_or(false);
    let uuid = uuid::Builder::from_random_bytes(generate_bytes(rng)).into_uuid().to_string();
    let device = DeviceConfig { path: device_path(segments), uuid, description: body.description.unwrap_or_default(), options, local };
    let warnings = if parsed.log_raw { vec!["log_raw: tokens and secrets are written in clear".into()] } else { Vec::new() };
    let check = Box::new(move || probe(&parsed));
    Ok(Prepared::Checked { check, operation: Box::new(Enable { device, warnings }) })
}

impl Operation for Enable {
    fn plan(&self, view: &View, _now: Timestamp) -> Result<Outcome, PlanError> {
        let table = AuditTable::load(view)?.with(self.device.clone()).map_err(PlanError::Refused)?;
        let mut plan = Plan::new();
        table.store(&mut plan);
        Ok(Outcome::new(plan, Reply::Done).with_warnings(self.warnings.clone()))
    }
}

/// Takes a device away.
pub(crate) struct Disable {
    path: String,
}

impl Disable {
    pub(crate) fn parse(segments: &[&str]) -> Disable {
        Disable { path: device_path(segments) }
    }
}

impl Operation for Disable {
    fn plan(&self, view: &View, _now: Timestamp) -> Result<Outcome, PlanError> {
        // As Vault: a device that is not there is gone.
        Ok(stored(AuditTable::load(view)?.without(&self.path)))
    }
}

/// How a value shows in a device's records.
pub(crate) struct Hash {
    path: String,
    input: SecretBytes,
}

impl Hash {
    /// Parses `POST sys/audit-hash/PATH`.
    pub(crate) fn parse(segments: &[&str], ask: &Ask) -> Result<Hash, AskError> {
        #[derive(Deserialize)]
        struct Body {
            input: Option<Value>,
        }
        // EXPOSE: the body is parsed, and no error repeats it.
        let body: Body = serde_json::from_slice(ask.body.expose()).map_err(|_| invalid("the \"input\" parameter is empty"))?;
        let input = match body.input {
            Some(Value::String(text)) => text,
            // A number shows as the HMAC of its text.
            Some(Value::Number(number)) => number.to_string(),
            None | Some(Value::Null) => String::new(),
            Some(_) => return Err(invalid("the \"input\" parameter must be a string")),
        };
        if input.is_empty() {
            return Err(invalid("the \"input\" parameter is empty"));
        }
        Ok(Hash { path: device_path(segments), input: SecretBytes::from(input.into_bytes()) })
    }
}

impl Operation for Hash {
    fn plan(&self, view: &View, _now: Timestamp) -> Result<Outcome, PlanError> {
        let table = AuditTable::load(view)?;
        let device = table.device(&self.path).ok_or_else(|| PlanError::Refused(format!("unknown audit backend {:?}", self.path)))?;
        let key = view.audit_key(&device.uuid).ok_or(ViewError::Sealed)?;
        // EXPOSE: only its HMAC is shown.
        let hash = format!("hmac-sha256:{}", hex::encode(key.tag(self.input.expose())));
        Ok(Outcome::answer(Reply::Data(engine::json(&json!({ "hash": hash })))))
    }
}

/// All headers that are shown.
pub(crate) struct Headers;

impl Operation for Headers {
    fn plan(&self, view: &View, _now: Timestamp) -> Result<Outcome, PlanError> {
        let table = AuditTable::load(view)?;
        let headers: Map<String, Value> = table.headers().iter().map(|(name, hmac)| (name.clone(), json!({ "hmac": hmac }))).collect();
        Ok(Outcome::answer(Reply::Data(engine::json(&json!({ "headers": headers })))))
    }
}

/// One header.
pub(crate) struct ShowHeader {
    /// As it was asked for: the answer repeats it.
    name: String,
}

impl ShowHeader {
    pub(crate) fn parse(name: &str) -> ShowHeader {
        ShowHeader { name: name.to_owned() }
    }
}

impl Operation for ShowHeader {
    fn plan(&self, view: &View, _now: Timestamp) -> Result<Outcome, PlanError> {
        let table = AuditTable::load(view)?;
        let hmac = table.headers().get(&self.name.to_ascii_lowercase());
        let hmac = hmac.ok_or_else(|| PlanError::Refused("Could not find header in config".into()))?;
        let shown = Map::from_iter([(self.name.clone(), json!({ "hmac": hmac }))]);
        Ok(Outcome::answer(Reply::Data(engine::json(&shown))))
    }
}

/// Shows a header from now on.
pub(crate) struct SetHeader {
    name: String,
    hmac: bool,
}

impl SetHeader {
    /// Parses `POST sys/config/auditing/request-headers/NAME`.
    pub(crate) fn parse(name: &str, ask: &Ask) -> Result<SetHeader, AskError> {
        #[derive(Deserialize)]
        struct Body {
            hmac: Option<Value>,
        }
        let name = name.to_ascii_lowercase();
        // The characters of RFC 9110, section 5.6.2.
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        if !is_name || name.is_empty() || name.len() > HEADER_NAME_BYTES_MAX {
            return Err(invalid(format!(
                "no header can have this name (at most {HEADER_NAME_BYTES_MAX} letters, digits and '-', for example X-Forwarded-For)"
            )));
        }
        // EXPOSE: the body is parsed; it holds no secret, and no error repeats it.
        let body = if ask.body.is_empty() { &b"{}"[..] } else { ask.body.expose() };
        let body: Body = serde_json::from_slice(body).map_err(|_| invalid(r#"a JSON object is needed, for example {"hmac": true}"#))?;
        let hmac = body.hmac.as_ref().filter(|hmac| !hmac.is_null()).map(|hmac| flag("hmac", hmac)).transpose()?.unwrap_or(false);
        if !hmac && SECRET_HEADERS.contains(&name.as_str()) {
            return Err(invalid(format!("{name} carries what lets a caller in: it can only be audited as an HMAC (set \"hmac\" to true)")));
        }
        Ok(SetHeader { name, hmac })
    }
}

impl Operation for SetHeader {
    fn plan(&self, view: &View, _now: Timestamp) -> Result<Outcome, PlanError> {
        let table = AuditTable::load(view)?.with_header(self.name.clone(), self.hmac).map_err(PlanError::Refused)?;
        Ok(stored(Some(table)))
    }
}

/// Shows a header no more.
pub(crate) struct RemoveHeader {
    name: String,
}

impl RemoveHeader {
    pub(crate) fn parse(name: &str) -> RemoveHeader {
        RemoveHeader { name: name.to_ascii_lowercase() }
    }
}

impl Operation for RemoveHeader {
    fn plan(&self, view: &View, _now: Timestamp) -> Result<Outcome, PlanError> {
        Ok(stored(AuditTable::load(view)?.without_header(&self.name)))
    }
}

/// Stores a table that has changed; without one nothing has.
fn stored(table: Option<AuditTable>) -> Outcome {
    let mut plan = Plan::new();
    if let Some(table) = table {
        table.store(&mut plan);
    }
    Outcome::new(plan, Reply::Done)
}

#[cfg(test)]
mod tests {
    use types::capability::Verb;

    use super::*;
    use crate::request::Answer;
    use crate::testing::{World, shown};

    struct Fixture {
        world: World,
        dir: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Fixture {
            Fixture { world: World::new(1), dir: tempfile::tempdir().unwrap() }
        }

        /// The answer's data, or its warnings if it has none, or the text of the refusal.
        async fn ask(&self, verb: Verb, path: &str, body: &Value) -> Result<Value, String> {
            let response = self.world.send(self.world.asking(verb, &format!("sys/{path}"), body.clone())).await;
            match response.outcome.map_err(|refusal| refusal.to_string())? {
                Answer::Done => Ok(json!(response.warnings)),
                answer => Ok(shown(&answer)),
            }
        }

        async fn write(&self, path: &str, body: &Value) -> Result<Value, String> {
            self.ask(Verb::Write, path, body).await
        }

        async fn enable(&self, path: &str, options: &Value) -> Result<Value, String> {
            self.write(&format!("audit/{path}"), &json!({"type": "file", "options": options})).await
        }

        fn file(&self, name: &str) -> String {
            self.dir.path().join(name).to_str().unwrap().to_owned()
        }
    }

    #[tokio::test]
    async fn devices_are_enabled_listed_and_disabled() {
        let fixture = Fixture::new();
        let (a, b) = (fixture.file("a"), fixture.file("b"));
        let options = json!({"path": a, "hmac_accessor": false, "mode": "0640"});
        let body = json!({"type": "file", "description": "d", "options": options, "local": "true"});
        assert_eq!(fixture.write("audit/team/file", &body).await, Ok(json!([])));
        let raw = fixture.enable("raw", &json!({"file_path": b, "log_raw": "1"})).await.unwrap();
        assert!(raw[0].as_str().unwrap().contains("in clear"), "who turns it on is told: {raw}");
        assert!(std::path::Path::new(&a).exists());
        for path in ["team/file", "team", "team/file/more", "raw"] {
            assert_eq!(fixture.enable(path, &json!({"file_path": b})).await, Err("path already in use".into()), "{path}");
        }
        let want = json!({
            "team/file/": {
                "type": "file", "description": "d", "path": "team/file/", "local": true,
                "options": {"path": a, "hmac_accessor": "false", "mode": "0640"},
            },
            "raw/": {"type": "file", "description": "", "path": "raw/", "local": false, "options": {"file_path": b, "log_raw": "1"}},
        });
        assert_eq!(fixture.ask(Verb::Read, "audit", &Value::Null).await, Ok(want));
        for path in ["audit/raw", "audit/raw", "audit/never", "audit/team/file"] {
            assert_eq!(fixture.ask(Verb::Delete, path, &Value::Null).await, Ok(json!([])), "{path}");
        }
        assert_eq!(fixture.ask(Verb::Read, "audit", &Value::Null).await, Ok(json!({})));
        let nulls = json!({"type": "file", "description": null, "local": null, "options": {"file_path": a}});
        assert_eq!(fixture.write("audit/file", &nulls).await, Ok(json!([])), "hvac sends nulls");
        assert_eq!(fixture.ask(Verb::Read, "audit/file", &Value::Null).await, Err("unsupported operation".into()));
    }

    #[tokio::test]
    async fn what_cannot_record_is_not_enabled() {
        let fixture = Fixture::new();
        for (body, says) in [
            (json!({"type": "syslog"}), "unknown backend type: \"syslog\""),
            (json!({}), "unknown backend type: \"\""),
            (json!({"type": "file"}), "file_path is required"),
            (json!({"type": "file", "options": null}), "file_path is required"),
            (json!({"type": "file", "options": {"file_path": "relative"}}), "absolute path"),
            (json!({"type": "file", "options": {"file_path": fixture.file("no/folder")}}), "sanity check failed; unable to open"),
            (json!({"type": "file", "options": {"file_path": fixture.file("a"), "format": "jsonx"}}), "unknown format type \"jsonx\""),
            (json!({"type": "file", "options": {"file_path": fixture.file("a"), "mode": "9"}}), "octal"),
            (json!({"type": "file", "options": {"file_path": {"a": 1}}}), "must be a string"),
            (json!({"type": "file", "options": "x"}), "JSON object"),
            (json!({"type": "file", "options": {"file_path": fixture.file("a")}, "local": "x"}), "true or false"),
        ] {
            let refused = fixture.write("audit/file", &body).await.expect_err(says);
            assert!(refused.contains(says), "{body}: {refused}");
        }
        assert_eq!(fixture.ask(Verb::Read, "audit", &Value::Null).await, Ok(json!({})));
    }

    #[tokio::test]
    async fn a_hash_is_what_the_device_shows() {
        let fixture = Fixture::new();
        fixture.enable("file", &json!({"file_path": fixture.file("a")})).await.unwrap();
        fixture.enable("other", &json!({"file_path": fixture.file("b")})).await.unwrap();
        let hash = async |path: &str, input: Value| fixture.write(&format!("audit-hash/{path}"), &json!({ "input": input })).await;
        let uuid = AuditTable::load(&fixture.world.barrier.view()).unwrap().device("file/").unwrap().uuid.clone();
        let key = fixture.world.barrier.view().audit_key(&uuid).unwrap();
        let tag = |text: &str| Ok(json!({"hash": format!("hmac-sha256:{}", hex::encode(key.tag(text.as_bytes())))}));
        assert_eq!(hash("file", json!("abc")).await, tag("abc"));
        assert_eq!(hash("file", json!(5)).await, tag("5"));
        assert_ne!(hash("other", json!("abc")).await, tag("abc"));
        assert_eq!(hash("nope", json!("abc")).await, Err("unknown audit backend \"nope/\"".into()));
        for empty in [json!(""), Value::Null] {
            assert_eq!(hash("file", empty).await, Err("the \"input\" parameter is empty".into()));
        }
        assert!(hash("file", json!(["canary"])).await.is_err_and(|text| !text.contains("canary")));
        assert_eq!(fixture.write("audit-hash/file", &Value::Null).await, Err("the \"input\" parameter is empty".into()));
        assert_eq!(fixture.ask(Verb::Read, "audit-hash/file", &Value::Null).await, Err("unsupported operation".into()));
    }

    #[tokio::test]
    async fn headers_are_set_shown_and_removed() {
        let fixture = Fixture::new();
        let at = |name: &str| format!("config/auditing/request-headers/{name}");
        let all = async || fixture.ask(Verb::Read, "config/auditing/request-headers", &Value::Null).await;
        assert_eq!(all().await, Ok(json!({"headers": {}})));
        for (name, body) in [("X-Foo", json!({"hmac": true})), ("x-bar", Value::Null), ("X-Vault-Token", json!({"hmac": "true"}))] {
            assert_eq!(fixture.write(&at(name), &body).await, Ok(json!([])), "{name}");
        }
        assert_eq!(
            all().await,
            Ok(json!({"headers": {"x-foo": {"hmac": true}, "x-bar": {"hmac": false}, "x-vault-token": {"hmac": true}}}))
        );
        assert_eq!(fixture.ask(Verb::Read, &at("x-FOO"), &Value::Null).await, Ok(json!({"x-FOO": {"hmac": true}})));
        assert_eq!(fixture.ask(Verb::Read, &at("x-no"), &Value::Null).await, Err("Could not find header in config".into()));
        for (name, body) in [
            ("x-baz", json!({"hmac": "no"})),
            ("x a", json!({})),
            ("x:a", json!({})),
            ("x-\u{e9}", json!({})),
            (&"x".repeat(129), json!({})),
            ("X-Vault-Token", json!({"hmac": false})),
            ("Authorization", Value::Null),
        ] {
            assert!(fixture.write(&at(name), &body).await.is_err(), "{name}");
        }
        for name in ["X-foo", "x-none"] {
            assert_eq!(fixture.ask(Verb::Delete, &at(name), &Value::Null).await, Ok(json!([])), "{name}");
        }
        assert_eq!(all().await, Ok(json!({"headers": {"x-bar": {"hmac": false}, "x-vault-token": {"hmac": true}}})));
        assert_eq!(fixture.write("config/auditing/request-headers", &json!({})).await, Err("unsupported operation".into()));
    }
}

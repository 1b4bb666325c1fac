//! `sys/mounts`, `sys/auth`, `sys/internal/ui/mounts`: what is mounted, and mounting.

use std::collections::BTreeMap;

use barrier::{Plan, View};
use crypto::Rng;
use engine::{Ask, AskError, Operation, Outcome, PlanError, Reply};
use proto::http;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use types::{Path, Timestamp, duration};

use crate::mount::{Mount, MountTable};

/// How a mount is shown.
fn shown(mount: &Mount) -> http::Mount {
    let options: BTreeMap<String, String> = mount.options.clone();
    http::Mount {
        kind: mount.kind.clone(),
        description: mount.description.clone(),
        accessor: mount.accessor.clone(),
        config: http::MountConfig {
            default_lease_ttl: mount.lease_ttl_default_s,
            max_lease_ttl: mount.lease_ttl_max_s,
            force_no_cache: false,
        },
        options: if options.is_empty() { None } else { Some(options) },
        local: false,
        seal_wrap: mount.kind == "system",
        external_entropy_access: false,
        uuid: mount.uuid.clone(),
        plugin_version: String::new(),
        running_plugin_version: String::new(),
        running_sha256: String::new(),
        deprecation_status: if mount.kind == "kv" { "supported".into() } else { String::new() },
    }
}

fn shown_value(mount: &Mount) -> Value {
    let mut value = serde_json::to_value(shown(mount)).expect("a mount is plain data");
    if mount.path.starts_with("auth/") {
        value["config"]["token_type"] = json!("default-service");
    }
    value
}

fn listing(table: &MountTable, auth: bool) -> Map<String, Value> {
    let part = table.iter().filter(|mount| mount.path.starts_with("auth/") == auth);
    part.map(|mount| (mount.path.trim_start_matches("auth/").to_owned(), shown_value(mount))).collect()
}

/// The segments as a mount's path: joined, with a slash at the end.
fn mount_path(segments: &[&str]) -> String {
    let mut path = segments.join("/");
    path.push('/');
    path
}

/// All mounts of one sort.
pub(crate) struct List {
    pub(crate) auth: bool,
}

impl Operation for List {
    fn plan(&self, view: &View, _now: Timestamp) -> Result<Outcome, PlanError> {
        let table = MountTable::load(view)?;
        Ok(Outcome::answer(Reply::Data(engine::json(&listing(&table, self.auth)))))
    }
}

/// One mount.
pub(crate) struct Show {
    path: String,
}

impl Show {
    pub(crate) fn parse(segments: &[&str]) -> Show {
        Show { path: mount_path(segments) }
    }
}

impl Operation for Show {
    fn plan(&self, view: &View, _now: Timestamp) -> Result<Outcome, PlanError> {
        let table = MountTable::load(view)?;
        match table.iter().find(|mount| mount.path == self.path) {
            Some(mount) => Ok(Outcome::answer(Reply::Data(engine::json(&shown_value(mount))))),
            None => Err(PlanError::Refused(format!("No secret engine mount at {}", self.path))),
        }
    }
}

/// What a client may see before it knows where it is.
pub(crate) struct Overview;

impl Operation for Overview {
    fn plan(&self, view: &View, _now: Timestamp) -> Result<Outcome, PlanError> {
        let table = MountTable::load(view)?;
        let data = json!({ "auth": listing(&table, true), "secret": listing(&table, false) });
        Ok(Outcome::answer(Reply::Data(engine::json(&data))))
    }
}

/// The mount that holds a path: asked by clients before each KV call.
pub(crate) struct Holding {
    path: Path,
}

impl Holding {
    pub(crate) fn parse(segments: &[&str]) -> Result<Holding, AskError> {
        let path = Path::parse(&segments.join("/")).map_err(|error| AskError::Invalid(error.to_string()))?;
        Ok(Holding { path })
    }
}

impl Operation for Holding {
    fn plan(&self, view: &View, _now: Timestamp) -> Result<Outcome, PlanError> {
        let table = MountTable::load(view)?;
        match table.route(&self.path) {
            Some(route) => {
                let mut data = shown_value(&route.mount);
                data["path"] = json!(route.mount.path);
                Ok(Outcome::answer(Reply::Data(engine::json(&data))))
            }
            None => Err(PlanError::Denied),
        }
    }
}

#[derive(Deserialize)]
struct EnableBody {
    #[serde(rename = "type")]
    kind: String,
    /// hvac sends null when there is none.
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    options: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    config: Option<BTreeMap<String, Value>>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// The lease times of a mount, in seconds; what else `config` may say is refused unless it asks for nothing.
fn lease_ttls(config: BTreeMap<String, Value>) -> Result<(u64, u64), String> {
    let (mut default, mut max) = (0, 0);
    for (name, value) in config {
        let ttl = || {
            let parsed = match &value {
                Value::String(text) if text.is_empty() => Ok(std::time::Duration::ZERO),
                Value::String(text) => duration::parse(text).map_err(|error| error.to_string()),
                Value::Number(number) => {
                    number.as_u64().map(std::time::Duration::from_secs).ok_or("it is no whole number of seconds".into())
                }
                _ => Err("it is neither a duration nor a number of seconds".into()),
            };
            parsed.map(|ttl| ttl.as_secs()).map_err(|problem| format!("config.{name}: {problem}"))
        };
        match name.as_str() {
            "default_lease_ttl" => default = ttl()?,
            "max_lease_ttl" => max = ttl()?,
            _ if asks_for_nothing(&value) => {}
            _ => return Err(format!("config.{name} is not available yet (leave it out)")),
        }
    }
    if max != 0 && default > max {
        return Err(format!("config.default_lease_ttl ({default} s) is longer than config.max_lease_ttl ({max} s)"));
    }
    Ok((default, max))
}

/// Clients send settings with their empty values; such a one need not be understood.
fn asks_for_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "hidden",
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.values().all(asks_for_nothing),
    }
}

/// Mounts an engine.
struct Enable(Mount);

/// Parses `POST sys/mounts/PATH`.
pub(crate) fn parse_enable(segments: &[&str], ask: &Ask, rng: &dyn Rng) -> Result<Box<dyn Operation>, AskError> {
    let invalid = |text: String| AskError::Invalid(text);
    // EXPOSE: the body is parsed; it holds no secret, and no error repeats it.
    let body: EnableBody = serde_json::from_slice(ask.body.expose())
        .map_err(|_| invalid(r#"a JSON object with "type" is needed, for example {"type": "kv", "options": {"version": "2"}}"#.into()))?;
    if segments.len() > 1 && segments.last() == Some(&"tune") {
        return Err(invalid("tuning a mount is not available yet".into()));
    }
    if let Some((name, _)) = body.others.iter().find(|(_, value)| !asks_for_nothing(value)) {
        return Err(invalid(format!("{name:?} is not available yet (leave it out)")));
    }
    let (lease_ttl_default_s, lease_ttl_max_s) = lease_ttls(body.config.unwrap_or_default()).map_err(invalid)?;
    let path = mount_path(segments);
    let first = segments.first().copied().unwrap_or_default();
    if ["sys", "auth", "audit", "identity", "cubbyhole"].contains(&first) {
        return Err(invalid(format!("cannot mount under reserved path {path:?}")));
    }
    let mut options = BTreeMap::new();
    for (name, value) in body.options.unwrap_or_default() {
        let text = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            _ => return Err(invalid(format!("option {name:?} must be a text or a number"))),
        };
        options.insert(name, text);
    }
    let kind = match body.kind.as_str() {
        "kv-v2" => {
            options.insert("version".into(), "2".into());
            "kv".to_owned()
        }
        _ => body.kind,
    };
    if kind != "kv" {
        return Err(invalid(format!("plugin not found in the catalog: {kind}")));
    }
    match options.get("version").map(String::as_str) {
        Some("2") => {}
        Some(other) if other != "1" => return Err(invalid(format!("kv has no version {other:?} (use \"2\")"))),
        _ => return Err(invalid("only version 2 of kv exists so far (set options.version to \"2\")".into())),
    }
    let description = body.description.unwrap_or_default();
    let mount = Mount::make(&path, &kind, &description, options, rng);
    Ok(Box::new(Enable(Mount { lease_ttl_default_s, lease_ttl_max_s, ..mount })))
}

impl Operation for Enable {
    fn plan(&self, view: &View, _now: Timestamp) -> Result<Outcome, PlanError> {
        let table = MountTable::load(view)?.with(self.0.clone()).map_err(PlanError::Refused)?;
        let mut plan = Plan::new();
        table.store(&mut plan);
        Ok(Outcome { plan, reply: Reply::Done, warnings: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use crypto::{SecretBytes, SeededRng};
    use types::capability::Verb;

    use super::*;

    #[test]
    fn what_cannot_be_done_is_refused_and_not_ignored() {
        let enable = |segments: &[&str], body: &str| {
            let ask = Ask { verb: Verb::Write, path: Path::root(), body: SecretBytes::from(body.as_bytes().to_vec()), query: Vec::new() };
            parse_enable(segments, &ask, &SeededRng::dangerous_from_seed(1)).map(drop).map_err(|error| error.to_string())
        };
        let kv = |more: &str| format!(r#"{{"type": "kv", "options": {{"version": "2"}}{more}}}"#);
        // As `bao secrets enable` and hvac send it.
        let all_empty = r#", "local": false, "seal_wrap": false, "external_entropy_access": false, "plugin_version": "",
            "config": {"default_lease_ttl": "0s", "max_lease_ttl": 0, "force_no_cache": false, "options": null}"#;
        assert_eq!(enable(&["a"], &kv(all_empty)), Ok(()));
        assert_eq!(enable(&["a"], &kv(r#", "config": {"default_lease_ttl": "1h", "max_lease_ttl": "2h"}"#)), Ok(()));
        for (segments, body, names) in [
            (&["a"][..], kv(r#", "local": true"#), "local"),
            (&["a"], kv(r#", "seal_wrap": true"#), "seal_wrap"),
            (&["a"], kv(r#", "config": {"force_no_cache": true}"#), "force_no_cache"),
            (&["a"], kv(r#", "config": {"max_lease_ttl": "soon"}"#), "max_lease_ttl"),
            (&["a"], kv(r#", "config": {"default_lease_ttl": "3h", "max_lease_ttl": "2h"}"#), "longer"),
            (&["a", "tune"], kv(""), "tuning"),
            (&["a"], r#"{"type": "pki"}"#.into(), "pki"),
            (&["a"], r#"{"type": "kv", "options": {"version": "1"}}"#.into(), "version 2"),
            (&["sys"], kv(""), "reserved"),
        ] {
            let refusal = enable(segments, &body).unwrap_err();
            assert!(refusal.contains(names), "{segments:?} {body}: {refusal}");
        }
    }
}

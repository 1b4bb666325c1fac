//! `sys/mounts`, `sys/auth`, `sys/internal/ui/mounts`: what is mounted, and mounting.

use std::collections::BTreeMap;

use barrier::Plan;
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use proto::http;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use types::capability::Verb;
use types::{Path, duration};

use crate::backend::{Asked, Handler};
use crate::mount::{Mount, MountTable};
use crate::outcome::{Operation, Outcome, PlanError, planned};
use crate::request::Answer;

const MOUNT_PATH: &[Field] = &[Field::required("path", FieldKind::Text, "Where it is mounted.")];
const MOUNT_FIELDS: &[Field] = &[
    Field::required("type", FieldKind::Text, "The engine."),
    Field::optional("description", FieldKind::Text, "For people."),
    Field::optional("config", FieldKind::Map, "Settings: default_lease_ttl and max_lease_ttl."),
    Field::optional("options", FieldKind::Map, "The engine's own options; kv has version."),
];

/// What may be asked of mounts.
pub(super) const ROUTES: &[Route<Handler>] = &[
    Route {
        pattern: "mounts",
        about: "Secret engines that are mounted.",
        parameters: &[],
        methods: &[Method { verb: Verb::Read, summary: "Shows every mount.", fields: &[], query: &[], handler: list_secrets }],
        access: Access::Token,
    },
    Route {
        pattern: "mounts/{path...}",
        about: "One secret engine's mount.",
        parameters: MOUNT_PATH,
        methods: &[
            Method { verb: Verb::Read, summary: "Shows the mount.", fields: &[], query: &[], handler: show },
            Method { verb: Verb::Write, summary: "Mounts an engine.", fields: MOUNT_FIELDS, query: &[], handler: enable },
        ],
        access: Access::Token,
    },
    Route {
        pattern: "auth",
        about: "Auth methods that are mounted.",
        parameters: &[],
        methods: &[Method { verb: Verb::Read, summary: "Shows every auth method.", fields: &[], query: &[], handler: list_auth }],
        access: Access::Token,
    },
    Route {
        pattern: "internal/ui/mounts",
        about: "What clients may see of mounts before they know where they are.",
        parameters: &[],
        methods: &[Method { verb: Verb::Read, summary: "Shows every mount.", fields: &[], query: &[], handler: overview }],
        access: Access::Token,
    },
    Route {
        pattern: "internal/ui/mounts/{path...}",
        about: "The mount that holds a path.",
        parameters: &[Field::required("path", FieldKind::Text, "Any path.")],
        methods: &[Method { verb: Verb::Read, summary: "Shows the mount that holds the path.", fields: &[], query: &[], handler: holding }],
        access: Access::Token,
    },
];

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

/// All secret engines.
fn list_secrets(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| Ok(Outcome::data(&listing(&*scope.records.mounts(&scope.namespace)?, false)))))
}

/// All auth methods.
fn list_auth(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| Ok(Outcome::data(&listing(&*scope.records.mounts(&scope.namespace)?, true)))))
}

/// One mount.
fn show(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let path = format!("{}/", asked.captures.text("path"));
    Ok(planned(move |scope| {
        let table = scope.records.mounts(&scope.namespace)?;
        match table.iter().find(|mount| mount.path == path) {
            Some(mount) => Ok(Outcome::data(&shown_value(mount))),
            None => Err(PlanError::Refused(format!("No secret engine mount at {path}"))),
        }
    }))
}

/// What a client may see before it knows where it is.
fn overview(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| {
        let table = scope.records.mounts(&scope.namespace)?;
        Ok(Outcome::data(&json!({ "auth": listing(&table, true), "secret": listing(&table, false) })))
    }))
}

/// The mount that holds a path: asked by clients before each KV call.
fn holding(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let path: Path = asked.captures.path("path");
    Ok(planned(move |scope| {
        let table = scope.records.mounts(&scope.namespace)?;
        match table.route(&path) {
            Some(route) => {
                let mut data = shown_value(&route.mount);
                data["path"] = json!(route.mount.path);
                Ok(Outcome::data(&data))
            }
            None => Err(PlanError::Denied),
        }
    }))
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

/// Mounts an engine: `POST sys/mounts/PATH`.
fn enable(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let segments: Vec<&str> = asked.captures.text("path").split('/').collect();
    let (ask, rng) = (asked.ask, asked.rng);
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
    let path = format!("{}/", segments.join("/"));
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
    let mount = Mount { lease_ttl_default_s, lease_ttl_max_s, ..mount };
    Ok(planned(move |scope| {
        let namespace_id = &scope.namespace.id;
        let table = MountTable::load(&scope.records.view, namespace_id)?.with(mount.clone()).map_err(PlanError::Refused)?;
        let mut plan = Plan::new();
        table.store(namespace_id, &mut plan);
        Ok(Outcome::written(plan, Answer::Done))
    }))
}

#[cfg(test)]
mod tests {
    use crypto::{SecretBytes, SeededRng};
    use engine::Ask;

    use super::*;
    use crate::backend::Backend;

    #[test]
    fn what_cannot_be_done_is_refused_and_not_ignored() {
        let enable = |segments: &[&str], body: &str| {
            let path = Path::parse(&format!("mounts/{}", segments.join("/"))).unwrap();
            let ask = Ask { verb: Verb::Write, path, body: SecretBytes::from(body.as_bytes().to_vec()), query: Vec::new() };
            let parsed = Backend::Own(&crate::sys::ROUTES).parse(ask, &SeededRng::dangerous_from_seed(1));
            parsed.map(drop).map_err(|error| error.to_string())
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

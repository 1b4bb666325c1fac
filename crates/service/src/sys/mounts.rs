//! `sys/mounts`, `sys/auth`, `sys/internal/ui/mounts`: what is mounted, and mounting.

use std::collections::BTreeMap;

use barrier::{Plan, View};
use crypto::Rng;
use engine::{Ask, AskError, Operation, Outcome, PlanError, Reply};
use proto::http;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use types::{Path, Timestamp};

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
}

/// Mounts an engine.
struct Enable(Mount);

/// Parses `POST sys/mounts/PATH`.
pub(crate) fn parse_enable(segments: &[&str], ask: &Ask, rng: &dyn Rng) -> Result<Box<dyn Operation>, AskError> {
    let invalid = |text: String| AskError::Invalid(text);
    // EXPOSE: the body is parsed; it holds no secret, and no error repeats it.
    let body: EnableBody = serde_json::from_slice(ask.body.expose())
        .map_err(|_| invalid(r#"a JSON object with "type" is needed, for example {"type": "kv", "options": {"version": "2"}}"#.into()))?;
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
    Ok(Box::new(Enable(Mount::make(&path, &kind, &description, options, rng))))
}

impl Operation for Enable {
    fn plan(&self, view: &View, _now: Timestamp) -> Result<Outcome, PlanError> {
        let table = MountTable::load(view)?.with(self.0.clone()).map_err(PlanError::Refused)?;
        let mut plan = Plan::new();
        table.store(&mut plan);
        Ok(Outcome { plan, reply: Reply::Done, warnings: Vec::new() })
    }
}

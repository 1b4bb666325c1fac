//! `sys/audit`: which devices record, enabling and disabling them.

use std::collections::BTreeMap;
use std::path::Path;

use barrier::{Plan, View};
use crypto::{Rng, rng::generate_bytes};
use engine::{Ask, AskError, Operation, Outcome, PlanError, Reply};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use types::Timestamp;

use super::Prepared;
use crate::audit::{AuditTable, DeviceConfig, probe};

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
                "local": false,
            });
            (device.path.clone(), value)
        };
        let devices: Map<String, Value> = table.devices().iter().map(shown).collect();
        Ok(Outcome::answer(Reply::Data(engine::json(&devices))))
    }
}

#[derive(Deserialize)]
struct EnableBody {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    options: BTreeMap<String, Value>,
}

/// Adds a device.
struct Enable(DeviceConfig);

fn device_path(segments: &[&str]) -> String {
    let mut path = segments.join("/");
    path.push('/');
    path
}

/// Parses `PUT sys/audit/PATH`. The device must be usable on this node before the table changes.
pub(crate) fn parse_enable(segments: &[&str], ask: &Ask, rng: &dyn Rng) -> Result<Prepared, AskError> {
    let invalid = |text: String| AskError::Invalid(text);
    // EXPOSE: the body is parsed; it holds no secret, and no error repeats it.
    let body: EnableBody = serde_json::from_slice(ask.body.expose()).map_err(|_| {
        invalid(r#"a JSON object with "type" and "options" is needed, for example {"type": "file", "options": {"file_path": "/var/log/audit.log"}}"#.into())
    })?;
    if body.kind != "file" {
        return Err(invalid(format!("unknown backend type: {:?} (use \"file\")", body.kind)));
    }
    let mut options = BTreeMap::new();
    for (name, value) in body.options {
        match (name.as_str(), value) {
            ("file_path" | "path", Value::String(text)) => options.insert("file_path".into(), text),
            ("mode", Value::String(mode)) if mode == "0600" => None,
            ("format", Value::String(format)) if format == "json" => None,
            _ => {
                return Err(invalid(format!(
                    "option {name:?} is not supported with this value (supported: file_path, mode 0600, format json)"
                )));
            }
        };
    }
    let file = options.get("file_path").cloned().unwrap_or_default();
    if !Path::new(&file).is_absolute() {
        return Err(invalid("option \"file_path\" must be an absolute path to a file that each node can write".into()));
    }
    let uuid = uuid::Builder::from_random_bytes(generate_bytes(rng)).into_uuid().to_string();
    let device = DeviceConfig { path: device_path(segments), uuid, description: body.description, options };
    let check = Box::new(move || {
        probe(Path::new(&file)).map_err(|error| format!("sanity check failed; unable to open the file for writing: {error}"))
    });
    Ok(Prepared::Checked { check, operation: Box::new(Enable(device)) })
}

impl Operation for Enable {
    fn plan(&self, view: &View, _now: Timestamp) -> Result<Outcome, PlanError> {
        let table = AuditTable::load(view)?.with(self.0.clone()).map_err(PlanError::Refused)?;
        let mut plan = Plan::new();
        table.store(&mut plan);
        Ok(Outcome { plan, reply: Reply::Done, warnings: Vec::new() })
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
        let mut plan = Plan::new();
        // As Vault: a device that is not there is gone.
        if let Some(table) = AuditTable::load(view)?.without(&self.path) {
            table.store(&mut plan);
        }
        Ok(Outcome { plan, reply: Reply::Done, warnings: Vec::new() })
    }
}

//! `sys/audit`, `sys/audit-hash` and `sys/config/auditing`: which devices record, how a value shows in their records, and which
//! request headers are in them.
//!
//! Always: they are the cluster's, so only the root namespace has them.

use barrier::{Plan, ViewError};
use crypto::SecretBytes;
use crypto::rng::generate_bytes;
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use serde_json::{Map, Value, json};
use types::capability::Verb;

use crate::audit::{AuditTable, DeviceConfig, DeviceOptions, probe};
use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::request::Answer;

/// The longest name of a header that is shown, in bytes.
const HEADER_NAME_BYTES_MAX: usize = 128;
/// Headers that carry what lets one in. They are never shown; the token is in each record anyway, as an HMAC.
const SECRET_HEADERS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-vault-token"];
/// How much of an unknown type an error repeats, in characters.
const KIND_CHARS_SHOWN: usize = 40;

const PATH: Field = Field::required("path", FieldKind::Text, "The device's name.");
const NAME: Field = Field::required("name", FieldKind::Text, "The header's name; upper and lower case are the same.");

/// What may be asked of audit.
pub(super) const ROUTES: &[Route<Handler>] = &[
    Route {
        pattern: "audit",
        about: "Audit devices.",
        parameters: &[],
        methods: &[Method { verb: Verb::Read, summary: "Shows every device.", fields: &[], query: &[], handler: list }],
        access: Access::Sudo,
    },
    Route {
        pattern: "audit/{path...}",
        about: "One audit device.",
        parameters: &[PATH],
        methods: &[
            Method {
                verb: Verb::Write,
                summary: "Enables a device.",
                fields: &[
                    Field::required("type", FieldKind::Text, "The kind of device: file."),
                    Field::optional("description", FieldKind::Text, "For people."),
                    Field::required(
                        "options",
                        FieldKind::Map,
                        "file_path (an absolute path, or stdout), mode, format, prefix, log_raw, hmac_accessor, elide_list_responses, sync.",
                    ),
                    Field::optional("local", FieldKind::Boolean, "Kept and shown; every node has every device."),
                ],
                query: &[],
                handler: enable,
            },
            Method { verb: Verb::Delete, summary: "Disables a device.", fields: &[], query: &[], handler: disable },
        ],
        access: Access::Sudo,
    },
    Route {
        pattern: "audit-hash/{path...}",
        about: "How a value shows in a device's records.",
        parameters: &[PATH],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Shows the value's hash.",
            fields: &[Field::required("input", FieldKind::Text, "The value.")],
            query: &[],
            handler: hash,
        }],
        access: Access::Token,
    },
    Route {
        pattern: "config/auditing/request-headers",
        about: "Request headers that audit records show.",
        parameters: &[],
        methods: &[Method { verb: Verb::Read, summary: "Shows them all.", fields: &[], query: &[], handler: headers }],
        access: Access::Sudo,
    },
    Route {
        pattern: "config/auditing/request-headers/{name}",
        about: "One request header that audit records show.",
        parameters: &[NAME],
        methods: &[
            Method { verb: Verb::Read, summary: "Shows it.", fields: &[], query: &[], handler: header },
            Method {
                verb: Verb::Write,
                summary: "Shows it in records from now on.",
                fields: &[Field::optional("hmac", FieldKind::Boolean, "Whether its values show as HMACs; false when nothing is said.")],
                query: &[],
                handler: set_header,
            },
            Method { verb: Verb::Delete, summary: "Shows it no more.", fields: &[], query: &[], handler: remove_header },
        ],
        access: Access::Sudo,
    },
];

/// A tenant has no say in what the cluster records, and where.
fn in_root(scope: &Scope<'_>) -> Result<AuditTable, PlanError> {
    if !scope.namespace.is_root() {
        return Err(PlanError::Refused("operation unavailable in namespaces".into()));
    }
    Ok(AuditTable::load(&scope.records.view)?)
}

/// Shows something of the table.
fn shows(
    show: impl Fn(&Scope<'_>, AuditTable) -> Result<Value, PlanError> + Send + Sync + 'static,
) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(move |scope| Ok(Outcome::data(&show(scope, in_root(scope)?)?))))
}

/// Changes the table; `None` from `change`: nothing is to be changed.
fn changes(
    change: impl Fn(AuditTable) -> Result<Option<AuditTable>, PlanError> + Send + Sync + 'static,
) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(move |scope| {
        let mut plan = Plan::new();
        if let Some(table) = change(in_root(scope)?)? {
            table.store(&mut plan);
        }
        Ok(Outcome::written(plan, Answer::Done))
    }))
}

fn invalid(text: impl Into<String>) -> AskError {
    AskError::Invalid(text.into())
}

/// The device's path, as the table has it.
fn device_path(asked: &Asked<'_>) -> String {
    format!("{}/", asked.captures.text("path"))
}

fn list(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    shows(|_, table| {
        let shown = |device: &DeviceConfig| {
            let DeviceConfig { path, description, options, local, .. } = device;
            (path.clone(), json!({ "type": "file", "description": description, "options": options, "path": path, "local": local }))
        };
        Ok(table.devices().iter().map(shown).collect::<Map<_, _>>().into())
    })
}

/// Adds a device. It must be usable on this node before the table changes.
struct Enable {
    device: DeviceConfig,
    options: DeviceOptions,
}

#[async_trait::async_trait]
impl Operation for Enable {
    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        let table = in_root(scope)?.with(self.device.clone()).map_err(PlanError::Refused)?;
        probe(&self.options).await.map_err(PlanError::Refused)?;
        let mut plan = Plan::new();
        table.store(&mut plan);
        let mut outcome = Outcome::written(plan, Answer::Done);
        if self.options.log_raw {
            outcome.warnings.push("log_raw: tokens and secrets are written in clear".into());
        }
        Ok(outcome)
    }
}

fn enable(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let kind = fields.text("type")?.unwrap_or_default();
    if kind != "file" {
        let shown: String = kind.chars().take(KIND_CHARS_SHOWN).collect();
        return Err(invalid(format!("unknown backend type: {shown:?} (use \"file\")")));
    }
    let given = fields.map("options")?.unwrap_or_default();
    let options = DeviceOptions::parse(&given).map_err(|error| invalid(error.to_string()))?;
    let uuid = uuid::Builder::from_random_bytes(generate_bytes(asked.rng)).into_uuid().to_string();
    let device = DeviceConfig {
        path: device_path(asked),
        uuid,
        description: fields.text("description")?.unwrap_or_default().to_owned(),
        options: given,
        local: fields.boolean("local")?.unwrap_or(false),
    };
    Ok(Box::new(Enable { device, options }))
}

fn disable(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let path = device_path(asked);
    // As Vault: a device that is not there is gone.
    changes(move |table| Ok(table.without(&path)))
}

fn hash(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let path = device_path(asked);
    let fields = Fields::of(asked.ask)?;
    let input = match fields.value("input") {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        // A number shows as the HMAC of its text.
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => return Err(invalid("the \"input\" parameter must be a string")),
    };
    if input.is_empty() {
        return Err(invalid("the \"input\" parameter is empty"));
    }
    let input = SecretBytes::from(input.into_bytes());
    shows(move |scope, table| {
        let device = table.device(&path).ok_or_else(|| PlanError::Refused(format!("unknown audit backend {path:?}")))?;
        let key = scope.records.view.audit_key(&device.uuid).ok_or(ViewError::Sealed)?;
        // EXPOSE: only its HMAC is shown.
        Ok(json!({ "hash": format!("hmac-sha256:{}", hex::encode(key.tag(input.expose()))) }))
    })
}

fn headers(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    shows(|_, table| {
        let headers: Map<_, _> = table.headers().iter().map(|(name, hmac)| (name.clone(), json!({ "hmac": hmac }))).collect();
        Ok(json!({ "headers": headers }))
    })
}

fn header(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = asked.captures.text("name").to_owned();
    shows(move |_, table| {
        let hmac = table.headers().get(&name.to_ascii_lowercase());
        let hmac = hmac.ok_or_else(|| PlanError::Refused("Could not find header in config".into()))?;
        // As it was asked for.
        Ok(Map::from_iter([(name.clone(), json!({ "hmac": hmac }))]).into())
    })
}

fn set_header(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = asked.captures.text("name").to_ascii_lowercase();
    // The characters of RFC 9110, section 5.6.2.
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
    if !is_name || name.is_empty() || name.len() > HEADER_NAME_BYTES_MAX {
        return Err(invalid(format!(
            "no header can have this name (at most {HEADER_NAME_BYTES_MAX} letters, digits and '-', for example X-Forwarded-For)"
        )));
    }
    if SECRET_HEADERS.contains(&name.as_str()) {
        return Err(invalid(format!(
            "{name} carries what lets a caller in and is never recorded (each record has the token's HMAC as client_token)"
        )));
    }
    let hmac = Fields::of(asked.ask)?.boolean("hmac")?.unwrap_or(false);
    changes(move |table| table.with_header(name.clone(), hmac).map(Some).map_err(PlanError::Refused))
}

fn remove_header(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = asked.captures.text("name").to_ascii_lowercase();
    changes(move |table| Ok(table.without_header(&name)))
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

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
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

    /// With a tenant's own record of mounts, its `sys/` is there; the root token may all in it.
    #[tokio::test]
    async fn a_tenant_has_no_say_in_audit() {
        use prost::Message;
        let fixture = Fixture::new();
        let path = types::Path::parse("tenant").unwrap();
        let record = proto::stored::Namespace { id: "aaaaaa".into(), ..Default::default() };
        let mut plan = Plan::new();
        plan.put(crate::namespace::Namespace::name(&path), SecretBytes::from(record.encode_to_vec()));
        crate::mount::MountTable::found(&crypto::SeededRng::dangerous_from_seed(9)).store("aaaaaa", &mut plan);
        assert!(fixture.world.barrier.commit(&fixture.world.barrier.view(), &plan));
        let device = json!({"type": "file", "options": {"file_path": fixture.file("a")}});
        for (verb, path, body) in [
            (Verb::Read, "sys/audit", Value::Null),
            (Verb::Write, "sys/audit/file", device.clone()),
            (Verb::Delete, "sys/audit/file", Value::Null),
            (Verb::Write, "sys/audit-hash/file", json!({"input": "x"})),
            (Verb::Read, "sys/config/auditing/request-headers", Value::Null),
            (Verb::Read, "sys/config/auditing/request-headers/x-a", Value::Null),
            (Verb::Write, "sys/config/auditing/request-headers/x-a", json!({})),
            (Verb::Delete, "sys/config/auditing/request-headers/x-a", Value::Null),
        ] {
            let asking = crate::testing::Asking { namespace: "tenant", ..fixture.world.asking(verb, path, body) };
            let refused = fixture.world.send(asking).await.outcome.err().map(|refusal| refusal.to_string());
            assert_eq!(refused.as_deref(), Some("operation unavailable in namespaces"), "{verb} {path}");
        }
        assert!(!std::path::Path::new(&fixture.file("a")).exists(), "nothing was made on the node");
        assert_eq!(fixture.write("audit/file", &device).await, Ok(json!([])), "the root namespace may");
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
            (json!({"type": "file", "options": {"file_path": {"a": 1}}}), "members are texts"),
            (json!({"type": "file", "options": ["x"]}), "must be an object"),
            (json!({"type": "file", "options": {"file_path": fixture.file("a")}, "local": "x"}), "true or false"),
        ] {
            let refused = fixture.write("audit/file", &body).await.expect_err(says);
            assert!(refused.contains(says), "{body}: {refused}");
        }
        assert_eq!(fixture.ask(Verb::Read, "audit", &Value::Null).await, Ok(json!({})));
    }

    #[tokio::test]
    async fn a_record_says_denied_of_what_policies_deny_and_of_nothing_else() {
        let fixture = Fixture::new();
        fixture.write("auth/userpass", &json!({"type": "userpass"})).await.unwrap();
        let world = &fixture.world;
        world.ask(Verb::Write, "auth/userpass/users/bob", json!({"password": "builder-1"})).await.unwrap();
        let file = fixture.file("a");
        fixture.enable("file", &json!({"file_path": file})).await.unwrap();
        let denied = Some("permission denied");
        for (namespace, token, verb, path, body, error, allowed) in [
            ("", Some("hvs.nobody"), Verb::Read, "secret/a", Value::Null, denied, json!(false)),
            ("nosuch", Some("hvs.nobody"), Verb::Read, "secret/a", Value::Null, denied, json!(false)),
            ("nosuch", Some(&*world.root_token), Verb::Read, "secret/a", Value::Null, None, json!(true)),
            ("", Some(&*world.root_token), Verb::Read, "nowhere/a", Value::Null, None, json!(true)),
            ("", Some(&*world.root_token), Verb::Write, "sys/config/cors", json!({}), None, json!(true)),
            ("", None, Verb::Write, "auth/userpass/login/bob", json!({"password": "builder-1"}), None, json!(true)),
        ] {
            let before = std::fs::read_to_string(&file).unwrap().lines().count();
            let asking = crate::testing::Asking { namespace, token: token.map(str::to_owned), ..world.asking(verb, path, body) };
            let outcome = world.send(asking).await.outcome;
            let text = std::fs::read_to_string(&file).unwrap();
            let records: Vec<Value> = text.lines().skip(before).map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(records.len(), 2, "{namespace} {path}: {records:?}");
            assert_eq!(records[0]["error"].as_str(), error, "{namespace} {path}");
            assert_eq!(records[1]["error"].as_str().is_some(), outcome.is_err(), "{namespace} {path}");
            for record in &records {
                let found = record["auth"]["policy_results"].get("allowed").cloned().unwrap_or(json!(false));
                assert_eq!(found, allowed, "{namespace} {path}: {record}");
            }
        }
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
        for (name, body) in [("X-Foo", json!({"hmac": true})), ("x-bar", Value::Null), ("x-text", json!({"hmac": "true"}))] {
            assert_eq!(fixture.write(&at(name), &body).await, Ok(json!([])), "{name}");
        }
        assert_eq!(all().await, Ok(json!({"headers": {"x-foo": {"hmac": true}, "x-bar": {"hmac": false}, "x-text": {"hmac": true}}})));
        assert_eq!(fixture.ask(Verb::Read, &at("x-FOO"), &Value::Null).await, Ok(json!({"x-FOO": {"hmac": true}})));
        assert_eq!(fixture.ask(Verb::Read, &at("x-no"), &Value::Null).await, Err("Could not find header in config".into()));
        for (name, body) in [
            ("x-baz", json!({"hmac": "no"})),
            ("x a", json!({})),
            ("x:a", json!({})),
            ("x-\u{e9}", json!({})),
            (&"x".repeat(129), json!({})),
            ("X-Vault-Token", json!({"hmac": true})),
            ("Authorization", Value::Null),
        ] {
            assert!(fixture.write(&at(name), &body).await.is_err(), "{name}");
        }
        for name in ["X-foo", "x-none"] {
            assert_eq!(fixture.ask(Verb::Delete, &at(name), &Value::Null).await, Ok(json!([])), "{name}");
        }
        assert_eq!(all().await, Ok(json!({"headers": {"x-bar": {"hmac": false}, "x-text": {"hmac": true}}})));
        assert_eq!(fixture.write("config/auditing/request-headers", &json!({})).await, Err("unsupported operation".into()));
    }
}

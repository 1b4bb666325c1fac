//! `sys/mounts`, `sys/auth`, `sys/internal/ui/mounts`: what is mounted, and mounting.
//!
//! Always: a mount that is disabled is gone at once, for all nodes, and what it kept is erased by a chore that was planned with its end.
//! A setting is kept and does what it says, or is refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use barrier::Plan;
use engine::AskError;
use engine::kv::Version;
use engine::route::{Access, Field, FieldKind, Method, Route};
use proto::http;
use proto::stored;
use proto::stored::chore::Task;
use serde_json::{Map, Value, json};
use types::Path;
use types::capability::Verb;

use crate::backend::{self, Asked, Handler};
use crate::body::{self, Fields};
use crate::due;
use crate::mount::{Mount, MountTable};
use crate::namespace::Namespace;
use crate::outcome::{Operation, Outcome, PlanError, Scope, Settings, planned};
use crate::request::Answer;

/// Names in one of a mount's lists, at most.
const NAMES_MAX: usize = 256;
/// Bytes of a mount's path, at most.
const PATH_BYTES_MAX: usize = 512;
/// Bytes of a description, an option or a name in a list, at most.
const TEXT_BYTES_MAX: usize = 4096;
/// Options of one mount, at most.
const OPTIONS_MAX: usize = 64;

const MOUNT_PATH: &[Field] = &[Field::required("path", FieldKind::Text, "Where it is mounted.")];
const MOUNT_FIELDS: &[Field] = &[
    Field::required("type", FieldKind::Text, "What is mounted: for secrets kv or kv-v2, for auth the method's name."),
    Field::optional("description", FieldKind::Text, "For people."),
    Field::optional("config", FieldKind::Map, "Settings, as they can be tuned later."),
    Field::optional("options", FieldKind::Map, "The engine's own options; kv has version."),
    Field::optional("local", FieldKind::Boolean, "False, or left out: every node has every mount."),
    Field::optional("seal_wrap", FieldKind::Boolean, "False, or left out: there is one seal, for everything."),
    Field::optional("external_entropy_access", FieldKind::Boolean, "False, or left out: there is one seal, for everything."),
    Field::optional("plugin_name", FieldKind::Text, "Empty, or left out: every engine is built in."),
    Field::optional("plugin_version", FieldKind::Text, "Empty, or left out: every engine is built in, in one version."),
];
const TUNE_FIELDS: &[Field] = &[
    Field::optional(
        "default_lease_ttl",
        FieldKind::Duration,
        "How long leases and tokens live when nothing is said; system or 0: as the system says.",
    ),
    Field::optional("max_lease_ttl", FieldKind::Duration, "How long they may live; system or 0: as the system says."),
    Field::optional("description", FieldKind::Text, "For people."),
    Field::optional("options", FieldKind::Map, "The engine's own options; kv has version."),
    Field::optional("force_no_cache", FieldKind::Boolean, "Kept and shown; no cache here ever answers with what is old."),
    Field::optional("plugin_version", FieldKind::Text, "Empty, or left out: every engine is built in, in one version."),
    Field::optional("listing_visibility", FieldKind::Text, "unauth: shown to everybody; hidden: to who may do anything below it."),
    Field::optional("audit_non_hmac_request_keys", FieldKind::List, "Members of bodies that audit records show in clear."),
    Field::optional("audit_non_hmac_response_keys", FieldKind::List, "Members of answers that audit records show in clear."),
    Field::optional("passthrough_request_headers", FieldKind::List, "Headers that the engine may see; no engine so far looks at any."),
    Field::optional("allowed_response_headers", FieldKind::List, "Headers that the engine may set; no engine so far sets any."),
    Field::optional("token_type", FieldKind::Text, "Of an auth method: default-service, default-batch, service or batch."),
    Field::optional(
        "user_lockout_config",
        FieldKind::Map,
        "Of approle, ldap and userpass: lockout_threshold, lockout_duration, lockout_counter_reset_duration, lockout_disable.",
    ),
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
            Method { verb: Verb::Read, summary: "Shows the mount.", fields: &[], query: &[], handler: show_secret },
            Method { verb: Verb::Write, summary: "Mounts an engine.", fields: MOUNT_FIELDS, query: &[], handler: enable_secret },
            Method {
                verb: Verb::Delete,
                summary: "Unmounts the engine and erases what it kept.",
                fields: &[],
                query: &[],
                handler: disable_secret,
            },
        ],
        access: Access::Token,
    },
    Route {
        pattern: "mounts/{path...}/tune",
        about: "A mount's settings.",
        parameters: MOUNT_PATH,
        methods: &[
            Method { verb: Verb::Read, summary: "Shows the settings as they work.", fields: &[], query: &[], handler: show_tuning },
            Method { verb: Verb::Write, summary: "Changes the settings that are named.", fields: TUNE_FIELDS, query: &[], handler: tune },
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
        pattern: "auth/{path...}",
        about: "One auth method's mount.",
        parameters: MOUNT_PATH,
        methods: &[
            Method { verb: Verb::Read, summary: "Shows the mount.", fields: &[], query: &[], handler: show_auth },
            Method { verb: Verb::Write, summary: "Mounts an auth method.", fields: MOUNT_FIELDS, query: &[], handler: enable_auth },
            Method {
                verb: Verb::Delete,
                summary: "Unmounts the method, ends its tokens and erases what it kept.",
                fields: &[],
                query: &[],
                handler: disable_auth,
            },
        ],
        access: Access::Sudo,
    },
    Route {
        pattern: "auth/{path...}/tune",
        about: "An auth method's settings.",
        parameters: MOUNT_PATH,
        methods: &[
            Method { verb: Verb::Read, summary: "Shows the settings as they work.", fields: &[], query: &[], handler: show_auth_tuning },
            Method {
                verb: Verb::Write,
                summary: "Changes the settings that are named.",
                fields: TUNE_FIELDS,
                query: &[],
                handler: tune_auth,
            },
        ],
        access: Access::Sudo,
    },
    Route {
        pattern: "internal/ui/mounts",
        about: "The mounts below which the token may do anything; for who has none, those that are shown to everybody.",
        parameters: &[],
        methods: &[Method { verb: Verb::Read, summary: "Shows the mounts.", fields: &[], query: &[], handler: overview }],
        access: Access::Anyone,
    },
    Route {
        pattern: "internal/ui/mounts/{path...}",
        about: "The mount that holds a path, for who may do anything below it.",
        parameters: &[Field::required("path", FieldKind::Text, "Any path.")],
        methods: &[Method { verb: Verb::Read, summary: "Shows the mount that holds the path.", fields: &[], query: &[], handler: holding }],
        // Whoever has a token may ask, whatever its policies; they decide what is shown.
        access: Access::Anyone,
    },
];

/// How a mount is shown.
fn shown(mount: &Mount, namespace: &Namespace) -> Value {
    let is_own = matches!(mount.kind.as_str(), "system" | "token" | "cubbyhole");
    let kind = if is_own && !namespace.is_root() { format!("ns_{}", mount.kind) } else { mount.kind.clone() };
    let shown = http::Mount {
        kind,
        description: mount.description.clone(),
        accessor: mount.accessor.clone(),
        config: http::MountConfig {
            default_lease_ttl: mount.lease_ttl_default_s,
            max_lease_ttl: mount.lease_ttl_max_s,
            force_no_cache: mount.force_no_cache,
        },
        options: if mount.options.is_empty() { None } else { Some(mount.options.clone()) },
        local: mount.kind == "cubbyhole",
        seal_wrap: mount.kind == "system",
        external_entropy_access: false,
        uuid: mount.uuid.clone(),
        plugin_version: String::new(),
        running_plugin_version: String::new(),
        running_sha256: String::new(),
        deprecation_status: if is_own { String::new() } else { "supported".into() },
    };
    let mut shown = serde_json::to_value(shown).expect("a mount is plain data");
    let config = shown["config"].as_object_mut().expect("it was made so");
    settings(mount, config);
    if let Some(lockout) = &mount.user_lockout {
        config.insert("user_lockout_config".into(), Value::Object(shown_lockout(lockout)));
    }
    shown
}

/// The settings that are shown alike in a mount's `config` and in its tuning, those that say anything.
fn settings(mount: &Mount, shown: &mut Map<String, Value>) {
    if mount.is_auth() {
        shown.insert("token_type".into(), json!(if mount.token_type.is_empty() { "default-service" } else { &mount.token_type }));
    }
    if !mount.listing_visibility.is_empty() {
        shown.insert("listing_visibility".into(), json!(mount.listing_visibility));
    }
    for (name, list) in [
        ("audit_non_hmac_request_keys", &mount.audit_non_hmac_request_keys),
        ("audit_non_hmac_response_keys", &mount.audit_non_hmac_response_keys),
        ("passthrough_request_headers", &mount.passthrough_request_headers),
        ("allowed_response_headers", &mount.allowed_response_headers),
    ] {
        if !list.is_empty() {
            shown.insert(name.into(), json!(list));
        }
    }
}

fn shown_lockout(lockout: &stored::UserLockout) -> Map<String, Value> {
    Map::from_iter([
        ("user_lockout_threshold".into(), json!(lockout.threshold)),
        ("user_lockout_duration".into(), json!(lockout.duration_s)),
        ("user_lockout_counter_reset_duration".into(), json!(lockout.counter_reset_s)),
        ("user_lockout_disable".into(), json!(lockout.disabled)),
    ])
}

/// The settings as they work.
fn tuning(mount: &Mount, system: &Settings) -> Value {
    let (default, max) = mount.lease_ttls(system);
    let mut shown = Map::from_iter([
        ("description".into(), json!(mount.description)),
        ("default_lease_ttl".into(), json!(default.as_secs())),
        ("max_lease_ttl".into(), json!(max.as_secs())),
        ("force_no_cache".into(), json!(mount.force_no_cache)),
    ]);
    if !mount.options.is_empty() {
        shown.insert("options".into(), json!(mount.options));
    }
    settings(mount, &mut shown);
    shown.extend(mount.user_lockout.as_ref().map(shown_lockout).unwrap_or_default());
    Value::Object(shown)
}

fn listing(scope: &Scope<'_>, auth: bool) -> Result<Map<String, Value>, PlanError> {
    let table = scope.records.mounts(&scope.namespace)?;
    let part = table.iter().filter(|mount| mount.is_auth() == auth);
    Ok(part.map(|mount| (mount.shown_path().to_owned(), shown(mount, &scope.namespace))).collect())
}

fn list_secrets(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| Ok(Outcome::data(&listing(scope, false)?))))
}

fn list_auth(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| Ok(Outcome::data(&listing(scope, true)?))))
}

/// The mount that the request's path names. Auth methods may also be named as `mounts/auth/…`.
fn named(asked: &Asked<'_>, prefix: &str) -> String {
    format!("{prefix}{}/", asked.captures.text("path"))
}

fn show(path: String, problem: &'static str) -> Box<dyn Operation> {
    planned(move |scope| match scope.records.mounts(&scope.namespace)?.find(&path) {
        Some(mount) => Ok(Outcome::data(&shown(mount, &scope.namespace))),
        None => Err(PlanError::Refused(format!("{problem} at {}", path.strip_prefix("auth/").unwrap_or(&path)))),
    })
}

fn show_secret(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(show(named(asked, ""), "No secret engine mount"))
}

fn show_auth(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(show(named(asked, "auth/"), "No auth engine"))
}

fn show_tuning_of(path: String) -> Box<dyn Operation> {
    planned(move |scope| match scope.records.mounts(&scope.namespace)?.find(&path) {
        Some(mount) => Ok(Outcome::data(&tuning(mount, scope.settings))),
        None => Err(PlanError::Refused(format!("cannot fetch sysview for path {path:?}"))),
    })
}

fn show_tuning(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(show_tuning_of(named(asked, "")))
}

fn show_auth_tuning(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(show_tuning_of(named(asked, "auth/")))
}

/// The path of a mount from the root namespace on.
fn full_path(mount: &Mount, namespace: &Namespace) -> Result<Path, PlanError> {
    let path = Path::parse(&mount.path).map_err(|_| PlanError::Malformed)?;
    namespace.path.join(&path).map_err(|_| PlanError::Malformed)
}

/// What a client may see before it knows where it is.
fn overview(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| {
        let authority = scope.caller_authority()?;
        let (mut auth, mut secret) = (Map::new(), Map::new());
        for mount in scope.records.mounts(&scope.namespace)?.iter() {
            let is_public = mount.listing_visibility == "unauth";
            let value = match &authority {
                Some(authority) if is_public || authority.acl().grants_below(&full_path(mount, &scope.namespace)?) => {
                    shown(mount, &scope.namespace)
                }
                None if is_public => {
                    let options = (!mount.options.is_empty()).then_some(&mount.options);
                    json!({ "type": mount.kind, "description": mount.description, "options": options })
                }
                _ => continue,
            };
            let part = if mount.is_auth() { &mut auth } else { &mut secret };
            part.insert(mount.shown_path().to_owned(), value);
        }
        Ok(Outcome::data(&json!({ "auth": auth, "secret": secret })))
    }))
}

/// The mount that holds a path: asked by clients before each KV call.
fn holding(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let path: Path = asked.captures.path("path");
    Ok(planned(move |scope| {
        let authority = scope.caller_authority()?.ok_or(PlanError::Denied)?;
        // The path may lead through namespaces.
        let (mut namespace, mut rest) = (Arc::clone(&scope.namespace), path.clone());
        loop {
            if let Some(route) = scope.records.mounts(&namespace)?.route(&rest) {
                let full_path = full_path(&route.mount, &namespace)?;
                if !authority.acl().grants_below(&full_path) {
                    break;
                }
                let mut data = shown(&route.mount, &namespace);
                let within = namespace.path.strip_prefix(&scope.namespace.path).ok_or(PlanError::Malformed)?;
                data["path"] = if within.is_root() {
                    json!(route.mount.shown_path())
                } else {
                    json!(format!("{}/{}", within.as_str(), route.mount.shown_path()))
                };
                return Ok(Outcome::data(&data));
            }
            match scope.records.inner_namespace(&namespace, &rest)? {
                Some(inner) => (namespace, rest) = inner,
                None => break,
            }
        }
        let path = path.as_folder();
        Err(PlanError::Forbidden(format!(
            "preflight capability check returned 403, please ensure client's policies grant access to path {:?}",
            path.as_str()
        )))
    }))
}

/// Where settings are read from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The body of a request: what else it has is no setting, and is ignored with a warning.
    Body,
    /// The member `config` of a new mount: each of its members is a setting, or meant to be one.
    Config,
}

/// What may be said of a mount when it is made or tuned. `None`: stays as it is.
#[derive(Default)]
struct Tuning {
    lease_ttl_default: Option<Duration>,
    lease_ttl_max: Option<Duration>,
    description: Option<String>,
    options: Option<BTreeMap<String, String>>,
    force_no_cache: Option<bool>,
    listing_visibility: Option<String>,
    lists: [Option<Vec<String>>; 4],
    token_type: Option<String>,
    user_lockout: Option<LockoutTuning>,
}

/// As [`Tuning`], of the lock-out.
#[derive(Default)]
struct LockoutTuning {
    threshold: Option<u64>,
    duration: Option<Duration>,
    counter_reset: Option<Duration>,
    disabled: Option<bool>,
}

/// Clients send settings with their empty values; such a one need not be understood.
fn asks_for_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "false",
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.values().all(asks_for_nothing),
    }
}

fn invalid(text: impl Into<String>) -> AskError {
    AskError::Invalid(text.into())
}

/// Settings that Vault has and that mean nothing here.
const NOT_TAKEN: [&str; 5] = ["local", "seal_wrap", "external_entropy_access", "plugin_version", "plugin_name"];

/// Why a setting is not taken; for those that Vault has and that mean nothing here, what stands in their place.
fn refusal(name: &str) -> AskError {
    let why = match name {
        "local" => "every node has every mount",
        "seal_wrap" | "external_entropy_access" => "there is one seal, for everything",
        "plugin_version" | "plugin_name" => "every engine is built in, in one version",
        _ => "there is no such setting",
    };
    invalid(format!("{name:?} cannot be set: {why} (leave it out)"))
}

/// Refuses settings that are not taken.
fn check_names(fields: &Fields, source: Source) -> Result<(), AskError> {
    let is_setting = |name: &str| TUNE_FIELDS.iter().any(|field| field.name == name && name != "plugin_version");
    let is_refused = |name: &&str| match source {
        Source::Body => NOT_TAKEN.contains(name),
        Source::Config => !is_setting(name),
    };
    let asks = |name: &&str| !fields.value(name).is_none_or(asks_for_nothing);
    match fields.names().filter(is_refused).find(asks) {
        Some(name) => Err(refusal(name)),
        None => Ok(()),
    }
}

/// A duration; `system` is 0. The empty text says nothing: so the CLI sends what is not to be changed.
fn lease_ttl(fields: &Fields, name: &str) -> Result<Option<Duration>, AskError> {
    match fields.value(name) {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text == "system" => Ok(Some(Duration::ZERO)),
        Some(value) => match body::duration_of(value) {
            Some(ttl) => Ok(Some(ttl)),
            None => Err(invalid(format!(r#"{name} must be a duration: seconds, or a text such as "1h30m", or "system""#))),
        },
    }
}

fn check_text(name: &str, text: &str) -> Result<(), AskError> {
    if text.len() > TEXT_BYTES_MAX { Err(invalid(format!("{name} is longer than {TEXT_BYTES_MAX} bytes"))) } else { Ok(()) }
}

fn check_options(options: Option<&BTreeMap<String, String>>) -> Result<(), AskError> {
    let Some(options) = options else { return Ok(()) };
    if options.len() > OPTIONS_MAX {
        return Err(invalid(format!("a mount has at most {OPTIONS_MAX} options")));
    }
    options.iter().try_for_each(|(name, text)| check_text("an option", name).and(check_text("an option", text)))
}

impl Tuning {
    /// Reads the members that are settings. Settings of Vault that mean nothing here are refused, unless they ask for nothing.
    fn of(fields: &Fields, source: Source) -> Result<Tuning, AskError> {
        const LISTS: [&str; 4] =
            ["audit_non_hmac_request_keys", "audit_non_hmac_response_keys", "passthrough_request_headers", "allowed_response_headers"];
        let mut tuning = Tuning {
            lease_ttl_default: lease_ttl(fields, "default_lease_ttl")?,
            lease_ttl_max: lease_ttl(fields, "max_lease_ttl")?,
            description: fields.text("description")?.map(str::to_owned),
            options: fields.map("options")?,
            // The CLI sends false with every change.
            force_no_cache: fields.boolean("force_no_cache")?.filter(|asked| *asked),
            listing_visibility: fields.text("listing_visibility")?.map(str::to_owned),
            token_type: fields.text("token_type")?.filter(|text| !text.is_empty()).map(str::to_owned),
            ..Tuning::default()
        };
        check_text("description", tuning.description.as_deref().unwrap_or_default())?;
        check_options(tuning.options.as_ref())?;
        if let Some(visibility) = &tuning.listing_visibility
            && !["", "hidden", "unauth"].contains(&visibility.as_str())
        {
            return Err(invalid(format!("invalid listing_visibility {visibility:?} (use \"unauth\" or \"hidden\")")));
        }
        for (list, name) in tuning.lists.iter_mut().zip(LISTS) {
            *list = fields.list(name)?;
            if list.as_ref().is_some_and(|list| list.len() > NAMES_MAX) {
                return Err(invalid(format!("{name} has more than {NAMES_MAX} entries")));
            }
            list.iter().flatten().try_for_each(|text| check_text(name, text))?;
        }
        if let Some(kind) = &tuning.token_type
            && !["default-service", "default-batch", "service", "batch"].contains(&kind.as_str())
        {
            return Err(invalid("invalid value for 'token_type' (use \"default-service\", \"default-batch\", \"service\" or \"batch\")"));
        }
        if let Some(lockout) = fields.value("user_lockout_config").filter(|value| !asks_for_nothing(value)) {
            tuning.user_lockout = Some(LockoutTuning::of(lockout)?);
        }
        check_names(fields, source)?;
        Ok(tuning)
    }

    /// Changes `mount`; an error text for the caller.
    fn apply(&self, mount: &mut Mount) -> Result<(), String> {
        fn set<T: Clone>(place: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                place.clone_from(value);
            }
        }
        if self.token_type.is_some() && !mount.is_auth() {
            return Err("'token_type' can only be set on auth mounts".into());
        }
        if self.token_type.is_some() && mount.kind == "token" {
            return Err("'token_type' cannot be set for 'token' or 'ns_token' auth mounts".into());
        }
        set(&mut mount.lease_ttl_default_s, &self.lease_ttl_default.map(|ttl| ttl.as_secs()));
        set(&mut mount.lease_ttl_max_s, &self.lease_ttl_max.map(|ttl| ttl.as_secs()));
        set(&mut mount.description, &self.description);
        set(&mut mount.force_no_cache, &self.force_no_cache);
        set(&mut mount.listing_visibility, &self.listing_visibility);
        set(&mut mount.token_type, &self.token_type);
        let [request_keys, response_keys, request_headers, response_headers] = &self.lists;
        set(&mut mount.audit_non_hmac_request_keys, request_keys);
        set(&mut mount.audit_non_hmac_response_keys, response_keys);
        set(&mut mount.passthrough_request_headers, request_headers);
        set(&mut mount.allowed_response_headers, response_headers);
        if let Some(tuning) = &self.user_lockout {
            if !mount.is_auth() || !["approle", "ldap", "userpass"].contains(&mount.kind.as_str()) {
                return Err(format!("tuning of user lockout configuration for auth type {:?} not allowed", mount.kind));
            }
            tuning.apply(mount.user_lockout.get_or_insert_default());
        }
        Ok(())
    }
}

impl LockoutTuning {
    fn of(value: &Value) -> Result<LockoutTuning, AskError> {
        let Value::Object(members) = value else { return Err(invalid("user_lockout_config must be an object")) };
        let fields = Fields::from_object(members.clone());
        let known = ["lockout_threshold", "lockout_duration", "lockout_counter_reset_duration", "lockout_disable"];
        if let Some(name) = fields.names().find(|name| !known.contains(name)) {
            return Err(invalid(format!("user_lockout_config has no {name:?} (it has {})", known.join(", "))));
        }
        Ok(LockoutTuning {
            threshold: fields.integer("lockout_threshold")?,
            duration: fields.duration("lockout_duration")?,
            counter_reset: fields.duration("lockout_counter_reset_duration")?,
            disabled: fields.boolean("lockout_disable")?,
        })
    }

    fn apply(&self, lockout: &mut stored::UserLockout) {
        lockout.threshold = self.threshold.unwrap_or(lockout.threshold);
        lockout.duration_s = self.duration.map_or(lockout.duration_s, |duration| duration.as_secs());
        lockout.counter_reset_s = self.counter_reset.map_or(lockout.counter_reset_s, |duration| duration.as_secs());
        lockout.disabled = self.disabled.unwrap_or(lockout.disabled);
    }
}

/// Whether a new mount's lease times fit each other and the system's; an error text for the caller.
fn check_lease_ttls(mount: &Mount, system: &Settings) -> Result<(), String> {
    let (default, max) = (mount.lease_ttl_default_s, mount.lease_ttl_max_s);
    let system_max = system.lease_ttl_max.as_secs();
    if max != 0 && default > max {
        return Err("given default lease TTL greater than given max lease TTL".into());
    }
    if max == 0 && default > system_max {
        return Err(format!("given default lease TTL greater than system max lease TTL of {system_max}"));
    }
    Ok(())
}

/// Whether something may be mounted at this path at all; an error text for the caller.
pub(super) fn check_path(path: &str) -> Result<(), String> {
    let first = path.strip_prefix("auth/").unwrap_or(path).split('/').next().unwrap_or_default();
    let is_auth = path.starts_with("auth/");
    if !is_auth && ["sys", "auth", "audit", "identity", "cubbyhole"].contains(&first) {
        return Err(format!("cannot mount {path:?}"));
    }
    if path.split('/').any(|segment| segment == "tune") {
        return Err(format!("cannot mount {path:?}: \"tune\" is no name for a part of a mount's path"));
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(format!("a mount's path has at most {PATH_BYTES_MAX} bytes"));
    }
    Ok(())
}

/// Plans that a mount at `path` and a namespace of its first segment never meet; an error when they would.
pub(super) fn expect_no_namespace(scope: &Scope<'_>, namespace: &Namespace, path: &str, plan: &mut Plan) -> Result<(), PlanError> {
    let first = path.split('/').next().unwrap_or_default();
    let inner = Path::parse(first).and_then(|first| namespace.path.join(&first)).map_err(|error| PlanError::Refused(error.to_string()))?;
    if scope.records.namespace(&inner)?.is_some() {
        return Err(PlanError::Refused(format!("existing mount at {first}/ (it is a namespace)")));
    }
    plan.expect(Namespace::name(&inner), types::Revision::ABSENT);
    Ok(())
}

fn enable_secret(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let path = named(asked, "");
    if path.starts_with("auth/") {
        return Err(invalid(format!("cannot mount {path:?}")));
    }
    check_path(&path).map_err(invalid)?;
    enable(asked, path)
}

fn enable_auth(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let path = named(asked, "auth/");
    check_path(&path).map_err(invalid)?;
    enable(asked, path)
}

/// The kind and options of what is to be mounted.
fn kind_and_options(
    path: &str,
    given: &str,
    mut options: BTreeMap<String, String>,
) -> Result<(String, BTreeMap<String, String>), AskError> {
    if path.starts_with("auth/") {
        return match given {
            "token" => Err(invalid("token credential backend cannot be instantiated")),
            _ if !backend::is_auth_method(given) => Err(invalid(format!("plugin not found in the catalog: {given}"))),
            _ => Ok((given.to_owned(), options)),
        };
    }
    let kind = match given {
        // The name of the engine before it was called kv.
        "generic" => "kv",
        "kv-v1" | "kv-v2" => {
            options.insert("version".into(), given[4..].into());
            "kv"
        }
        "system" | "token" | "cubbyhole" | "identity" => return Err(invalid(format!("mount type of {given:?} is not mountable"))),
        _ => given,
    };
    if backend::engine(kind, &options).is_some() {
        return Ok((kind.to_owned(), options));
    }
    match options.get("version") {
        Some(version) if kind == "kv" => Err(invalid(format!("kv has no version {version:?} (use \"1\" or \"2\")"))),
        _ => Err(invalid(format!("plugin not found in the catalog: {kind}"))),
    }
}

/// Mounts an engine or a method: `POST sys/mounts/PATH`, `POST sys/auth/PATH`.
fn enable(asked: &Asked<'_>, path: String) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let given = fields.text("type")?.filter(|kind| !kind.is_empty()).ok_or_else(|| {
        invalid(r#"backend type must be specified as a string: a JSON object with "type", for example {"type": "kv", "options": {"version": "2"}}"#)
    })?;
    // What is a setting lies in `config`.
    check_names(&fields, Source::Body)?;
    let mut config = match fields.value("config") {
        None => Tuning::default(),
        Some(Value::Object(members)) => Tuning::of(&Fields::from_object(members.clone()), Source::Config)?,
        Some(_) => return Err(invalid("config must be an object")),
    };
    let (description, options) = (fields.text("description")?.map(str::to_owned), fields.map("options")?);
    check_text("description", description.as_deref().unwrap_or_default())?;
    check_options(options.as_ref())?;
    config.description = description.or(config.description);
    let options = options.or_else(|| config.options.take()).unwrap_or_default();
    let (kind, options) = kind_and_options(&path, given, options)?;
    let mut mount = Mount::make(&path, &kind, "", options, asked.rng);
    config.apply(&mut mount).map_err(invalid)?;
    Ok(planned(move |scope| {
        check_lease_ttls(&mount, scope.settings).map_err(PlanError::Refused)?;
        let mut plan = Plan::new();
        expect_no_namespace(scope, &scope.namespace, &mount.path, &mut plan)?;
        let namespace_id = &scope.namespace.id;
        MountTable::load(&scope.records.view, namespace_id)?
            .with(mount.clone())
            .map_err(PlanError::Refused)?
            .store(namespace_id, &mut plan);
        Ok(Outcome::written(plan, Answer::Done))
    }))
}

fn disable_secret(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let path = named(asked, "");
    if ["sys/", "cubbyhole/", "identity/"].contains(&path.as_str()) || path.starts_with("auth/") {
        return Err(invalid(format!("cannot unmount {path:?}")));
    }
    Ok(disable(path))
}

fn disable_auth(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let path = named(asked, "auth/");
    if path == "auth/token/" {
        return Err(invalid("token credential backend cannot be disabled"));
    }
    Ok(disable(path))
}

/// Unmounts. Gone at once; tokens that an auth method made are not good any more, since their mount is not there. One that was not there
/// stays so.
fn disable(path: String) -> Box<dyn Operation> {
    planned(move |scope| {
        let namespace_id = &scope.namespace.id;
        let mut plan = Plan::new();
        if let Some((table, mount)) = MountTable::load(&scope.records.view, namespace_id)?.without(&path) {
            table.store(namespace_id, &mut plan);
            let gone = stored::GoneMount {
                namespace_id: namespace_id.clone(),
                path: mount.path.clone(),
                accessor: mount.accessor.clone(),
                after: String::new(),
            };
            due::put_now(&mut plan, scope.now, &format!("leases-{}", mount.uuid), Task::EndMountLeases(gone));
            due::put_now(&mut plan, scope.now, &format!("mount-{}", mount.uuid), Task::PurgeMount(mount.uuid.clone()));
        }
        Ok(Outcome::written(plan, Answer::Done))
    })
}

fn tune(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    tune_at(asked, named(asked, ""))
}

fn tune_auth(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    tune_at(asked, named(asked, "auth/"))
}

fn tune_at(asked: &Asked<'_>, path: String) -> Result<Box<dyn Operation>, AskError> {
    let tuning = Tuning::of(&Fields::of(asked.ask)?, Source::Body)?;
    if ["sys/", "cubbyhole/"].contains(&path.as_str()) {
        let problem = match &tuning {
            Tuning { description: Some(_), .. } => "description",
            Tuning { options: Some(_), .. } => "options",
            _ => "lease TTLs and visibility",
        };
        return Err(invalid(format!("cannot tune parameter {problem} of {path}")));
    }
    Ok(planned(move |scope| {
        let namespace_id = &scope.namespace.id;
        let table = MountTable::load(&scope.records.view, namespace_id)?;
        let Some(mount) = table.find(&path) else {
            return Err(PlanError::Refused(format!("tune of path {path:?} failed: no mount entry found")));
        };
        let mut mount = Mount::clone(mount);
        let mut plan = Plan::new();
        let mut warnings = Vec::new();
        tuning.apply(&mut mount).map_err(PlanError::Refused)?;
        let (default, max) = (mount.lease_ttl_default_s, mount.lease_ttl_max_s);
        if max != 0 && default > max {
            return Err(PlanError::Refused(format!(
                "backend max lease TTL of {max} would be less than backend default lease TTL of {default}"
            )));
        }
        check_lease_ttls(&mount, scope.settings).map_err(PlanError::Refused)?;
        if let Some(options) = &tuning.options
            && change_options(&mut mount, options).map_err(PlanError::Refused)?
        {
            // From here on nothing of version 1 is written; what there is is converted by a chore.
            mount.options.insert("version".into(), "2".into());
            mount.upgrading = true;
            let mark = engine::kv::upgrade::step(&scope.records.view.below(&mount.root()), scope.now)?;
            plan.append(mark.plan.below(&mount.root()));
            let reference = stored::MountReference { namespace_id: namespace_id.clone(), uuid: mount.uuid.clone() };
            due::put_now(&mut plan, scope.now, &format!("upgrade-{}", mount.uuid), Task::UpgradeMount(reference));
            warnings.push(
                "Upgrading mount from version 1 to version 2. This mount will be unavailable for a brief period and will resume service \
                 shortly."
                    .to_owned(),
            );
        }
        table.replacing(mount).store(namespace_id, &mut plan);
        Ok(Outcome { warnings, ..Outcome::written(plan, Answer::Done) })
    }))
}

/// Changes options of a mount that is there, and answers whether it is to become one of KV version 2; an error text for the caller.
fn change_options(mount: &mut Mount, changes: &BTreeMap<String, String>) -> Result<bool, String> {
    let mut is_upgrade = false;
    for (name, value) in changes {
        if mount.kind != "kv" || name != "version" {
            mount.options.insert(name.clone(), value.clone());
            continue;
        }
        let version = |text: Option<&str>| Version::parse(text).map_err(|_| format!("invalid version provided: {value}"));
        match (version(mount.options.get(name).map(String::as_str))?, version(Some(value))?) {
            (Version::Two, Version::One) => return Err("cannot downgrade mount from version 2".into()),
            (Version::One, Version::Two) => is_upgrade = true,
            (Version::One, Version::One) | (Version::Two, Version::Two) => {}
        }
    }
    Ok(is_upgrade)
}

#[cfg(test)]
mod tests;

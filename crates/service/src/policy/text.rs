//! Policies: from text to rules. HCL and JSON of the same shape, as Vault's and OpenBao's.
//!
//! Always: a [`Policy`] that exists has no unknown key and no value out of place; a rule with `deny` has nothing else. What cannot be honoured
//! here (control groups, MFA) is refused rather than passed over, since a rule without its conditions would grant more than it says.
//! Knows nothing of names, namespaces or other policies. The text itself is its caller's to keep.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Number, Value as Json};
use types::duration;
use types::hcl::{Body, Value, shown};
use types::{Capability, Timestamp};

use super::capabilities::Capabilities;
use super::filter::ListFilter;
use super::mistake::{Block, PolicyError, Report};
use super::parameter::{Parameters, Values};
use super::pattern::RULE_PATH_BYTES_MAX;

/// The most rules in one policy.
pub const RULES_MAX: usize = 10_000;

/// Every key of a rule that is read.
const RULE_KEYS: [&str; 11] = [
    "capabilities",
    "policy",
    "allowed_parameters",
    "denied_parameters",
    "required_parameters",
    "min_wrapping_ttl",
    "max_wrapping_ttl",
    "pagination_limit",
    "list_scan_response_keys_filter_path",
    "expiration",
    "comment",
];
/// Keys of a rule that put conditions on it which nothing here could check.
const CONDITIONS: [&str; 3] = ["control_group", "mfa_methods", "subscribe_event_types"];

/// What the text of one policy says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    rules: Vec<Rule>,
}

/// One `path` block.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Where it stands, counted from 1.
    pub line: usize,
    /// Its path as it was written, less one slash in front: no namespace, with its wildcards.
    pub path: String,
    /// Whether the path has a `{{ … }}` in it. Such a rule matches nothing, as there is no identity to fill it in.
    pub is_templated: bool,
    /// What it grants; or `deny` alone.
    pub capabilities: Capabilities,
    /// What it asks of a request's parameters.
    pub parameters: Parameters,
    /// The bounds it sets on response wrapping.
    pub wrapping: Wrapping,
    /// The most keys that a list may return at once.
    pub pagination_limit: Option<u64>,
    /// Which keys of a list are shown.
    pub list_filter: Option<Arc<ListFilter>>,
    /// When it ceases to hold. `None`: never.
    pub expires: Option<Timestamp>,
}

/// Bounds on the time to live of a response-wrapping token. Either makes wrapping mandatory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wrapping {
    /// The shortest.
    pub min: Option<Duration>,
    /// The longest.
    pub max: Option<Duration>,
}

impl Policy {
    /// Reads the text of a policy. An empty one grants nothing.
    ///
    /// # Errors
    /// Everything that is wrong, at once: not HCL or JSON, unknown keys or capabilities, keys given twice, values of another type or out of
    /// range, wildcards where there can be none, conditions that are not checked here, a text or path that is too long.
    pub fn parse(text: &str) -> Result<Policy, PolicyError> {
        let report = Report::default();
        let body = report.read(text);
        let block = Block::open(&report, String::new(), 1, &body, &["name"], &["path"]);
        block.text("name");
        let paths = block.labelled("path");
        if paths.len() > RULES_MAX {
            block.wrong(format!("has {} rules (at most {RULES_MAX}; divide it into several policies)", paths.len()));
        }
        let rules = paths.into_iter().take(RULES_MAX).map(|(path, line, body)| rule(&report, path, line, body)).collect();
        report.finish(Policy { rules })
    }

    /// Its rules, in the order of the text.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether a rule's path has a `{{ … }}` in it.
    pub fn is_templated(&self) -> bool {
        self.rules.iter().any(|rule| rule.is_templated)
    }
}

fn rule(report: &Report, path: &str, line: usize, body: &Body) -> Rule {
    let place = format!("path {}", shown(path));
    let known: Vec<&'static str> = RULE_KEYS.iter().chain(&CONDITIONS).copied().collect();
    let block = Block::open(report, place, line, body, &known, &[]);
    for key in CONDITIONS.into_iter().filter(|key| block.has(key)) {
        block.mistake(key, "is not supported here (remove it, if the rule may hold without it)");
    }
    let is_templated = check_path(&block, path);
    block.text("comment");
    let capabilities = capabilities(&block);
    let parameters = Parameters {
        allowed: values(&block, "allowed_parameters"),
        denied: values(&block, "denied_parameters"),
        required: block.texts("required_parameters", "a list such as [\"name\"]").iter().map(|name| name.to_lowercase().into()).collect(),
    };
    let wrapping = Wrapping { min: block.duration("min_wrapping_ttl"), max: block.duration("max_wrapping_ttl") };
    if let (Some(min), Some(max)) = (wrapping.min, wrapping.max)
        && max < min
    {
        let (min, max) = (duration::print(min), duration::print(max));
        block.mistake("max_wrapping_ttl", format!("{max} is less than min_wrapping_ttl, {min} (no request could meet both)"));
    }
    let pagination_limit = block.integer("pagination_limit").and_then(|limit| match u64::try_from(limit) {
        Ok(limit) => Some(limit).filter(|limit| *limit > 0),
        Err(_) => {
            block.mistake("pagination_limit", format!("{limit} is negative (write at least 1, or remove it)"));
            None
        }
    });
    let path = path.strip_prefix('/').unwrap_or(path);
    let list_filter = list_filter(&block, path, capabilities);
    let expires = expires(&block, body);
    let rule =
        Rule { line, path: path.to_owned(), is_templated, capabilities, parameters, wrapping, pagination_limit, list_filter, expires };
    if rule.capabilities.has(Capability::Deny) {
        return Rule {
            parameters: Parameters::default(),
            wrapping: Wrapping::default(),
            pagination_limit: None,
            list_filter: None,
            ..rule
        };
    }
    rule
}

/// Reports what no path can have. Whether it is templated.
fn check_path(block: &Block<'_>, path: &str) -> bool {
    if path.len() > RULE_PATH_BYTES_MAX {
        block.wrong(format!("the path is {} bytes long (at most {RULE_PATH_BYTES_MAX})", path.len()));
    }
    if path.contains("+*") {
        block.wrong("the path has \"+*\" in it (write + for a whole segment, or * at the end)");
    }
    let unbalanced = "the path has a {{ or }} without its other half (write {{ … }})";
    let mut pieces = path.split("{{");
    if pieces.next().is_some_and(|first| first.contains("}}")) || pieces.clone().any(|piece| piece.matches("}}").count() != 1) {
        block.wrong(unbalanced);
    }
    pieces.next().is_some()
}

fn capabilities(block: &Block<'_>) -> Capabilities {
    let mut set = Capabilities::NONE;
    for text in block.texts("capabilities", "a list such as [\"read\", \"list\"]") {
        match text.parse::<Capability>() {
            Ok(capability) => set = set | Capabilities::of(capability),
            Err(error) => block.mistake("capabilities", error.to_string()),
        }
    }
    use Capability::{Create, Delete, Deny, List, Read, Sudo, Update};
    let old: &[Capability] = match block.text("policy") {
        None => &[],
        Some("deny") => &[Deny],
        Some("read") => &[Read, List],
        Some("write") => &[Create, Read, Update, Delete, List],
        Some("sudo") => &[Create, Read, Update, Delete, List, Sudo],
        Some(other) => {
            block.mistake("policy", format!("{} is not one of deny, read, write, sudo (better: write capabilities)", shown(other)));
            &[]
        }
    };
    let set = set | old.iter().copied().collect();
    if set.has(Capability::Deny) { Capabilities::of(Capability::Deny) } else { set }
}

fn values(block: &Block<'_>, key: &str) -> HashMap<Box<str>, Values> {
    let example = "names and lists of values, such as { \"name\" = [\"a\", \"b\"] }";
    let mut found = HashMap::new();
    for entry in block.objects(key, example) {
        match &entry.value {
            Value::List(values) => {
                Parameters::add(&mut found, &entry.name, Values::new(values.iter().map(json).collect()));
            }
            other => {
                let place = format!("{key}: {}", shown(&entry.name));
                let _: Option<()> = block.wrong_type(&place, entry.line, other, "a list of values; [] for any value");
            }
        }
    }
    found
}

/// A value of a rule as a request's body would have it.
fn json(value: &Value) -> Json {
    match value {
        Value::Text(text) => Json::String(text.clone()),
        Value::Integer(number) => Json::from(*number),
        // Too large for 64 bits, or with a fraction: as near as a request's number is read.
        Value::Decimal(text) => text.parse().ok().and_then(Number::from_f64).map_or(Json::Null, Json::Number),
        Value::Bool(truth) => Json::Bool(*truth),
        Value::Null | Value::Invalid => Json::Null,
        Value::List(values) => Json::Array(values.iter().map(json).collect()),
        Value::Body(body) => Json::Object(body.entries.iter().map(|entry| (entry.name.clone(), json(&entry.value))).collect::<Map<_, _>>()),
    }
}

fn list_filter(block: &Block<'_>, path: &str, capabilities: Capabilities) -> Option<Arc<ListFilter>> {
    let key = "list_scan_response_keys_filter_path";
    let template = block.text(key).filter(|template| !template.is_empty())?;
    if !capabilities.has(Capability::List) && !capabilities.has(Capability::Deny) {
        block.mistake(key, "needs the capability list (add it, or remove this)");
    }
    ListFilter::parse(template, path).map(Arc::new).map_err(|error| block.mistake(key, error.to_string())).ok()
}

/// `expiration`: a time of RFC 3339, or seconds since the epoch.
fn expires(block: &Block<'_>, body: &Body) -> Option<Timestamp> {
    let key = "expiration";
    let cure = "a time such as \"2030-01-31T00:00:00Z\"";
    let entry = body.entries.iter().find(|entry| entry.name == key)?;
    let seconds = match &entry.value {
        Value::Integer(seconds) => Some(*seconds),
        Value::Text(text) => text.parse().ok(),
        other => return block.wrong_type(key, entry.line, other, cure),
    };
    let milliseconds = match (seconds, &entry.value) {
        (Some(seconds), _) => Some(seconds.saturating_mul(1000)),
        (None, Value::Text(text)) if text.is_empty() => return None,
        (None, Value::Text(text)) => text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond),
        (None, _) => None,
    };
    match milliseconds {
        // Before the epoch is as expired as at it.
        Some(milliseconds) => Some(Timestamp(u64::try_from(milliseconds).unwrap_or(0))),
        None => block.wrong_type(key, entry.line, &entry.value, cure),
    }
}

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
use super::mistake::{Block, Keys, PolicyError, Report};
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
        let block = Block::open(&report, String::new(), 1, &body, Keys { once: &["name"], repeatable: &["path"], refused: &[] });
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
    let block = Block::open(report, place, line, body, Keys { once: &RULE_KEYS, repeatable: &[], refused: &CONDITIONS });
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::acl::Acl;
    use super::super::mistake::TEXT_BYTES_MAX;
    use super::super::password::PasswordPolicy;
    use super::*;

    fn mistakes(text: &str) -> String {
        Policy::parse(text).map_or_else(|error| error.to_string(), |policy| panic!("{text}: {policy:?}"))
    }

    #[test]
    fn a_rule_holds_what_its_block_says() {
        let text = r#"
            name = "x"
            path "/kv/+/a*" {
              capabilities = ["create", "list"]
              comment = "why"
              allowed_parameters = { "A" = ["x", "y*"], "b" = [] }
              denied_parameters { c = [1] }
              required_parameters = ["A"]
              min_wrapping_ttl = 10
              max_wrapping_ttl = "1h"
              pagination_limit = "7"
              list_scan_response_keys_filter_path = "{{ .path }}{{ .key }}"
              expiration = "2030-01-31T00:00:00Z"
            }"#;
        let policy = Policy::parse(text).unwrap();
        let [rule] = policy.rules() else { panic!("{policy:?}") };
        assert_eq!((rule.line, rule.path.as_str(), rule.is_templated), (3, "kv/+/a*", false));
        assert_eq!(rule.capabilities.names(), ["create", "list"]);
        assert_eq!(rule.wrapping, Wrapping { min: Some(Duration::from_secs(10)), max: Some(Duration::from_secs(3600)) });
        assert_eq!((rule.pagination_limit, rule.expires), (Some(7), Some(Timestamp(1_896_048_000_000))));
        assert_eq!(rule.list_filter.as_ref().unwrap().path("kv/x/a/", "k").as_deref(), Some("kv/x/a/k"));
        let parameters = &rule.parameters;
        assert_eq!((parameters.allowed.len(), parameters.denied.len(), parameters.required.as_slice()), (2, 1, &["a".into()][..]));
        assert!(parameters.allowed.contains_key("a") && parameters.denied.contains_key("c"));
    }

    #[test]
    fn hcl_and_json_say_the_same() {
        let hcl = "path \"a\" { capabilities = [\"read\"] }\npath \"b/*\" { policy = \"write\" pagination_limit = 3 }";
        for json in [
            r#"{"path": {"a": {"capabilities": ["read"]}, "b/*": {"policy": "write", "pagination_limit": 3}}}"#,
            r#"{"path": [{"a": {"capabilities": ["read"]}}, {"b/*": {"policy": "write", "pagination_limit": 3}}]}"#,
            r#"{"path": {"a": [{"capabilities": ["read"]}]}, "path": {"b/*": {"policy": "write", "pagination_limit": 3}}}"#,
        ] {
            let rules = |text: &str| -> Vec<Rule> {
                Policy::parse(text).unwrap().rules().iter().map(|rule| Rule { line: 0, ..rule.clone() }).collect()
            };
            assert_eq!(rules(hcl), rules(json), "{json}");
        }
        for empty in ["", " \n", "# nothing", "{}", "name = \"x\"", "path {}"] {
            assert_eq!(Policy::parse(empty).map(|policy| policy.rules().len()), Ok(0), "{empty}");
        }
    }

    #[test]
    fn deny_has_nothing_beside_it() {
        let policy =
            Policy::parse(r#"path "a" { capabilities = ["read", "deny"] required_parameters = ["x"] min_wrapping_ttl = 5 }"#).unwrap();
        let rule = &policy.rules()[0];
        assert_eq!(rule.capabilities, Capabilities::of(Capability::Deny));
        assert!(rule.parameters.is_empty());
        assert_eq!(rule.wrapping, Wrapping::default());
    }

    #[test]
    fn each_mistake_is_named_with_its_line_and_cure() {
        for (text, want) in [
            (r#"path "a" { capabilites = ["read"] }"#, r#"line 1: path "a": unknown key "capabilites" (did you mean capabilities?)"#),
            ("policy = \"x\"", "line 1: unknown key \"policy\" (known here: name, path)"),
            (
                "path \"a\" {\n  capabilities = [\"raed\"]\n}",
                "line 2: path \"a\": capabilities: \"raed\" is no capability (use create, read, update, patch, delete, list, scan, sudo, subscribe or deny)",
            ),
            (
                r#"path "a" { capabilities = "read" }"#,
                r#"line 1: path "a": capabilities: "read" is text (write a list such as ["read", "list"])"#,
            ),
            (
                r#"path "a" { capabilities = [1] }"#,
                r#"line 1: path "a": capabilities: 1 is a number (write a list such as ["read", "list"])"#,
            ),
            (
                "path \"a\" {\n  capabilities = [\"read\"]\n  capabilities = [\"list\"]\n}",
                "line 3: path \"a\": capabilities: is given twice (first in line 2; keep one)",
            ),
            (
                r#"path "a" { policy = "all" }"#,
                r#"line 1: path "a": policy: "all" is not one of deny, read, write, sudo (better: write capabilities)"#,
            ),
            (r#"path { capabilities = ["read"] }"#, "line 1: path: the block has no label (write path \"…\" { … })"),
            (
                r#"path "a" "b" { capabilities = ["read"] }"#,
                r#"line 1: path "a": unknown key "b" (known here: capabilities, policy, allowed_parameters, denied_parameters, required_parameters, min_wrapping_ttl, max_wrapping_ttl, pagination_limit, list_scan_response_keys_filter_path, expiration, comment)"#,
            ),
            (r#"path = "a""#, "line 1: path: \"a\" is text (write path \"…\" { … })"),
            (r#"path "a+*" {}"#, r#"line 1: path "a+*": the path has "+*" in it (write + for a whole segment, or * at the end)"#),
            (r#"path "a/{{b" {}"#, r#"line 1: path "a/{{b": the path has a {{ or }} without its other half (write {{ … }})"#),
            (r#"path "a}}/{{b}}" {}"#, r#"line 1: path "a}}/{{b}}": the path has a {{ or }} without its other half (write {{ … }})"#),
            (
                "path \"a\" {\n  min_wrapping_ttl = \"1m\"\n  max_wrapping_ttl = 30\n}",
                "line 3: path \"a\": max_wrapping_ttl: 30s is less than min_wrapping_ttl, 1m (no request could meet both)",
            ),
            (
                r#"path "a" { min_wrapping_ttl = "soon" }"#,
                r#"line 1: path "a": min_wrapping_ttl: "soon" is no duration (write for example "30s", "1h30m", "7d", or seconds as in "900")"#,
            ),
            (
                r#"path "a" { pagination_limit = -1 }"#,
                r#"line 1: path "a": pagination_limit: -1 is negative (write at least 1, or remove it)"#,
            ),
            (r#"path "a" { pagination_limit = 1.5 }"#, r#"line 1: path "a": pagination_limit: "1.5" is a number (write a whole number)"#),
            (
                r#"path "a" { expiration = "1h" }"#,
                r#"line 1: path "a": expiration: "1h" is text (write a time such as "2030-01-31T00:00:00Z")"#,
            ),
            (
                r#"path "a" { capabilities = ["read"] list_scan_response_keys_filter_path = "{{ .key }}" }"#,
                r#"line 1: path "a": list_scan_response_keys_filter_path: needs the capability list (add it, or remove this)"#,
            ),
            (
                r#"path "a" { capabilities = ["list"] list_scan_response_keys_filter_path = "{{ .Key }}" }"#,
                r#"line 1: path "a": list_scan_response_keys_filter_path: ".Key" is no value (there are .path and .key)"#,
            ),
            (
                r#"path "a" { mfa_methods = ["x"] }"#,
                r#"line 1: path "a": mfa_methods: is not supported here (remove it, if the block may stand without it)"#,
            ),
            (
                r#"path "a" { allowed_parameters = { "x" = "y" } }"#,
                r#"line 1: path "a": allowed_parameters: "x": "y" is text (write a list of values; [] for any value)"#,
            ),
            (
                r#"path "a" { allowed_parameters = ["x"] }"#,
                r#"line 1: path "a": allowed_parameters: "x" is text (write names and lists of values, such as { "name" = ["a", "b"] })"#,
            ),
            ("path \"a\" {\n  capabilities = [\"read\"\n", "line 2: this \"[\" is never closed (add \"]\" where the list ends)"),
        ] {
            let found = mistakes(text);
            assert_eq!(found.lines().find(|line| line.split(':').next() == want.split(':').next()), Some(want), "{text}");
        }
        let all = mistakes("path \"a\" { x = 1 }\npath \"b\" { y = 1 }\nz = 1");
        assert_eq!(all.lines().map(|line| &line[..7]).collect::<Vec<_>>(), ["line 1:", "line 2:", "line 3:"]);
    }

    #[test]
    fn texts_paths_and_rules_are_bounded() {
        assert!(Policy::parse(&" ".repeat(TEXT_BYTES_MAX)).is_ok());
        assert!(mistakes(&" ".repeat(TEXT_BYTES_MAX + 1)).contains("1048577 bytes long (at most 1048576"));
        let path = |bytes: usize| format!("path \"{}\" {{}}", "a".repeat(bytes));
        assert!(Policy::parse(&path(RULE_PATH_BYTES_MAX)).is_ok());
        assert!(mistakes(&path(RULE_PATH_BYTES_MAX + 1)).contains("the path is 8193 bytes long (at most 8192)"));
        let rules = |count: usize| (0..count).map(|number| format!("path \"{number}\" {{}}\n")).collect::<String>();
        assert_eq!(Policy::parse(&rules(RULES_MAX)).map(|policy| policy.rules().len()), Ok(RULES_MAX));
        assert!(mistakes(&rules(RULES_MAX + 1)).contains("has 10001 rules (at most 10000"));
        assert!(mistakes(&format!("path \"a\" {{ comment = {}", "[".repeat(100_000))).contains("nested deeper than 16 levels"));
    }

    const MANUAL: &str = include_str!("../../../../docs/operate/policies.md");

    #[test]
    fn the_manuals_examples_parse() {
        let examples: Vec<&str> = MANUAL.split("```hcl\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        let (password, policies) = examples.split_last().unwrap();
        assert_eq!(policies.len(), 2);
        for example in policies {
            Policy::parse(example).unwrap_or_else(|error| panic!("{error}\n{example}"));
        }
        PasswordPolicy::parse(password).unwrap_or_else(|error| panic!("{error}\n{password}"));
    }

    #[test]
    fn the_manual_describes_each_key_and_no_other() {
        let described = MANUAL.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let described: Vec<&str> = described.flat_map(|keys| keys.split(", ")).map(|key| key.trim_matches('`')).collect();
        let (mut described, mut known) = (described, RULE_KEYS.to_vec());
        described.sort_unstable();
        known.sort_unstable();
        assert_eq!(described, known);
        assert!(CONDITIONS.iter().all(|key| MANUAL.contains(&format!("`{key}`"))));
    }

    /// Text made of what a policy is made of.
    fn pieces() -> impl Strategy<Value = String> {
        let words = [
            "path",
            "\"a\"",
            "\"a/*\"",
            "\"+/b\"",
            "\"{{x}}\"",
            "\"{{\"",
            "capabilities",
            "policy",
            "[\"read\"]",
            "[\"deny\"]",
            "\"write\"",
            "allowed_parameters",
            "denied_parameters",
            "required_parameters",
            "min_wrapping_ttl",
            "\"5s\"",
            "pagination_limit",
            "3",
            "-9",
            "1e400",
            "expiration",
            "\"2030-01-31T00:00:00Z\"",
            "list_scan_response_keys_filter_path",
            "\"{{ .path }}{{ .key }}\"",
            "{",
            "}",
            "[",
            "]",
            "=",
            ":",
            ",",
            "\n",
            " ",
            "true",
            "null",
            "\"",
            "\\",
            "#",
            "/*",
            "*/",
            "<<E",
            "${",
            "é",
            "\0",
        ];
        proptest::collection::vec(prop_oneof![8 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => ".{0,4}"], 0..80)
            .prop_map(|pieces| pieces.join(" "))
    }

    proptest! {
        #[test]
        fn no_text_panics(text in prop_oneof![pieces(), any::<String>()], bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for text in [text.as_str(), &String::from_utf8_lossy(&bytes)] {
                match Policy::parse(text) {
                    Ok(policy) => {
                        let acl = Acl::compile([("p", &policy, "ns/")], Timestamp(0));
                        acl.capabilities(&types::Path::parse("ns/a/b").unwrap());
                    }
                    Err(error) => {
                        let lines = text.matches('\n').count() + 1;
                        for mistake in error.mistakes() {
                            prop_assert!((1..=lines).contains(&mistake.line), "{mistake}");
                        }
                    }
                }
            }
        }
    }
}

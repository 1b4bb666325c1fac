//! ACLs: the rules of all policies of one caller, ready to be asked in each request.
//!
//! Which rule decides: one whose path is exact; else, of those that match, the one whose first wildcard comes latest, then one that does not end
//! in `*`, then the one with fewer `+`, then the longer, then the greater text. A list of `p/` also looks for `p`, after `p/`. Rules with the
//! same path are one: it grants what any of them grants, unless one denies, and asks what all of them ask.
//! Always: without a rule, no; a check allocates nothing, unless a list's path lacks its slash or a parameter's name is not in lower case.
//! Knows nothing of tokens, storage or time: an ACL is compiled for a moment, and says until when it holds.

mod explain;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};
use types::{Capability, Path, Timestamp};

use super::capabilities::Capabilities;
use super::decision::{Allowed, Decision, Denial, Question, Reason};
use super::filter::ListFilter;
use super::parameter::Parameters;
use super::pattern::{Kind, Pattern, Prefixes};
use super::text::{Policy, Rule, Wrapping};

/// The policy that allows everything. It has no text.
pub const ROOT: &str = "root";
/// The parameter that bounds a list.
const LIMIT: &str = "limit";
/// The limit that stands for the most that is allowed.
const LIMIT_MAX: &str = "max";

/// All rules of one caller.
#[derive(Debug, Default)]
pub struct Acl {
    /// The namespaces below which everything is allowed.
    roots: Vec<Box<str>>,
    policies: Vec<Source>,
    rules: Vec<Compiled>,
    exact: HashMap<Box<str>, usize>,
    prefixes: Prefixes,
    /// Rules with a `+`, the greatest rank first.
    segments: Vec<usize>,
    expires: Option<Timestamp>,
}

/// A policy that was compiled.
#[derive(Debug)]
struct Source {
    name: Box<str>,
    namespace: Box<str>,
}

/// All rules of one path.
#[derive(Debug, Clone)]
struct Compiled {
    pattern: Pattern,
    capabilities: Capabilities,
    parameters: Parameters,
    wrapping: Wrapping,
    pagination_limit: Option<u64>,
    list_filter: Option<Arc<ListFilter>>,
    /// Which policies have it, and what each of them grants.
    sources: Vec<(usize, Capabilities)>,
}

/// One rule of an [`Acl`], merged from every policy that has it.
#[derive(Clone, Copy)]
pub struct RuleRef<'a> {
    acl: &'a Acl,
    rule: &'a Compiled,
}

impl<'a> RuleRef<'a> {
    /// Its path from the root namespace on, with its wildcards.
    pub fn pattern(&self) -> &'a str {
        self.rule.pattern.text()
    }

    /// How its path matches.
    pub fn kind(&self) -> Kind {
        self.rule.pattern.kind()
    }

    /// What it grants; or `deny` alone.
    pub fn capabilities(&self) -> Capabilities {
        self.rule.capabilities
    }

    /// The policies that have it: name, namespace, and what each grants or denies by itself.
    pub fn policies(&self) -> impl Iterator<Item = (&'a str, &'a str, Capabilities)> {
        let acl = self.acl;
        self.rule.sources.iter().map(move |(source, capabilities)| {
            let source = &acl.policies[*source];
            (&*source.name, &*source.namespace, *capabilities)
        })
    }
}

impl fmt::Debug for RuleRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuleRef").field("pattern", &self.pattern()).field("capabilities", &self.capabilities()).finish_non_exhaustive()
    }
}

impl Acl {
    /// Puts policies together: of each its name, what it says, and its namespace (`""` for the root, else with a slash behind: `ns1/`). Rules that
    /// have expired at `now` are left out. Where policies set different list filters on one path, the first one's holds.
    ///
    /// A policy called [`ROOT`] allows everything below its namespace, whatever it and the others say.
    pub fn compile<'p>(policies: impl IntoIterator<Item = (&'p str, &'p Policy, &'p str)>, now: Timestamp) -> Acl {
        let mut acl = Acl::default();
        let mut places: HashMap<Box<str>, usize> = HashMap::new();
        for (name, policy, namespace) in policies {
            if name == ROOT {
                acl.roots.push(namespace.into());
            }
            let source = acl.policies.len();
            acl.policies.push(Source { name: name.into(), namespace: namespace.into() });
            for rule in policy.rules().iter().filter(|rule| !rule.is_templated) {
                match rule.expires {
                    Some(expires) if expires < now => continue,
                    Some(expires) => acl.expires = Some(acl.expires.map_or(expires, |earliest| earliest.min(expires))),
                    None => {}
                }
                let pattern = Pattern::new(namespace, &rule.path);
                match places.get(pattern.text()) {
                    Some(place) => acl.rules[*place].merge(rule, source),
                    None => {
                        places.insert(pattern.text().into(), acl.rules.len());
                        acl.rules.push(Compiled::new(pattern, rule, source));
                    }
                }
            }
        }
        acl.index();
        acl
    }

    fn index(&mut self) {
        let mut prefixes = Vec::new();
        for (place, rule) in self.rules.iter().enumerate() {
            match rule.pattern.kind() {
                Kind::Exact => drop(self.exact.insert(rule.pattern.text().into(), place)),
                Kind::Prefix => prefixes.push((rule.pattern.body().into(), place)),
                Kind::Segments => self.segments.push(place),
            }
        }
        self.prefixes = Prefixes::new(prefixes);
        self.segments.sort_unstable_by(|left, right| self.rules[*right].pattern.rank().cmp(&self.rules[*left].pattern.rank()));
    }

    /// When the first of its rules expires: after this, compile it again. `None`: it holds until a policy changes.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    /// Every rule, one for each path. The policy `root` has none.
    pub fn rules(&self) -> impl Iterator<Item = RuleRef<'_>> {
        self.rules.iter().map(|rule| RuleRef { acl: self, rule })
    }

    /// Whether the policy `root` allows everything at `path`.
    pub fn is_root_at(&self, path: &Path) -> bool {
        self.roots.iter().any(|namespace| path.as_str().starts_with(&**namespace))
    }

    /// Whether a policy `root` is among its policies, of whatever namespace.
    pub fn has_root(&self) -> bool {
        !self.roots.is_empty()
    }

    /// May the caller do what `question` asks, and on which terms?
    pub fn check<'a>(&'a self, question: &Question<'a>) -> Decision<'a> {
        if self.is_root_at(question.path) {
            let limit = question.is_list().then(|| limit(None, false, question.parameters.fields()).ok().flatten()).flatten();
            return Decision::Allowed(Allowed {
                capabilities: Capabilities::ALL,
                rule: None,
                wrapping: Wrapping::default(),
                limit,
                list_filter: None,
            });
        }
        let path = match question.path.as_str() {
            // A list is one of a folder, however it is written.
            path if question.is_list() && !question.path.is_folder() => Cow::Owned([path, "/"].concat()),
            path => Cow::Borrowed(path),
        };
        let Some(rule) = self.find(&path, question.is_list()) else {
            return Decision::Denied(Denial { reason: Reason::NoRule, rule: None });
        };
        let reference = RuleRef { acl: self, rule };
        match rule.check(question) {
            Ok(limit) => Decision::Allowed(Allowed {
                capabilities: rule.capabilities,
                rule: Some(reference),
                wrapping: rule.wrapping,
                limit,
                list_filter: rule.list_filter.as_deref().filter(|_| question.is_list()),
            }),
            Err(reason) => Decision::Denied(Denial { reason, rule: Some(reference) }),
        }
    }

    /// What `sys/capabilities` answers for `path`: `root`; or what the rule grants, in alphabetical order; or `deny`.
    pub fn capabilities(&self, path: &Path) -> Vec<&'static str> {
        self.capabilities_as_kept(path, None)
    }

    /// As [`Acl::capabilities`], of a path that its backend keeps under another spelling: as for requests, a rule that speaks of that one
    /// takes away what it does not grant.
    pub fn capabilities_as_kept(&self, path: &Path, kept: Option<&Path>) -> Vec<&'static str> {
        if self.is_root_at(path) {
            return vec![ROOT];
        }
        let said = |path: &Path| self.find(path.as_str(), true).map(|rule| rule.capabilities);
        let asked = said(path).unwrap_or(Capabilities::NONE);
        let granted = kept.and_then(said).map_or(asked, |kept| asked & kept);
        if granted.is_empty() { vec![Capability::Deny.as_str()] } else { granted.names() }
    }

    /// Whether anything at or below `folder` is granted: what may be known of a mount at all.
    pub fn grants_below(&self, folder: &Path) -> bool {
        let grants = |rule: &Compiled| !rule.capabilities.is_empty() && !rule.capabilities.has(Capability::Deny);
        let folder = folder.as_folder();
        let below = |rule: &Compiled| match rule.pattern.kind() {
            Kind::Exact | Kind::Prefix => rule.pattern.body().starts_with(folder.as_str()),
            Kind::Segments => rule.pattern.reaches_into(folder.segments()),
        };
        self.is_root_at(&folder)
            || self.find(folder.as_str(), true).is_some_and(grants)
            || self.rules.iter().any(|rule| grants(rule) && below(rule))
    }

    /// The rule that decides for `path`.
    fn find(&self, path: &str, is_list: bool) -> Option<&Compiled> {
        // The same path, not as a folder; only a list looks there.
        let bare = path.strip_suffix('/').filter(|_| is_list);
        let exact = |path: &str| self.exact.get(path).map(|place| &self.rules[*place]);
        exact(path)
            .or_else(|| bare.and_then(exact))
            .or_else(|| self.find_wildcard(path))
            .or_else(|| bare.and_then(|bare| self.find_wildcard(bare)))
    }

    fn find_wildcard(&self, path: &str) -> Option<&Compiled> {
        let prefix = self.prefixes.longest(path).map(|place| &self.rules[place]);
        for place in &self.segments {
            let rule = &self.rules[*place];
            if prefix.is_some_and(|prefix| prefix.pattern.rank() > rule.pattern.rank()) {
                break;
            }
            if rule.pattern.matches_segments(path) {
                return Some(rule);
            }
        }
        prefix
    }
}

impl Compiled {
    fn new(pattern: Pattern, rule: &Rule, source: usize) -> Compiled {
        Compiled {
            pattern,
            capabilities: rule.capabilities,
            parameters: rule.parameters.clone(),
            wrapping: rule.wrapping,
            pagination_limit: rule.pagination_limit,
            list_filter: rule.list_filter.clone(),
            sources: vec![(source, rule.capabilities)],
        }
    }

    fn merge(&mut self, rule: &Rule, source: usize) {
        self.sources.push((source, rule.capabilities));
        let denies = |capabilities: Capabilities| capabilities.has(Capability::Deny);
        if denies(self.capabilities) || denies(rule.capabilities) {
            self.capabilities = Capabilities::of(Capability::Deny);
            return;
        }
        self.capabilities = self.capabilities | rule.capabilities;
        self.parameters.merge(&rule.parameters);
        // The lower of two bounds, of either kind, as in Vault: it keeps wrapped answers short-lived.
        self.wrapping.min = lower(self.wrapping.min, rule.wrapping.min);
        self.wrapping.max = lower(self.wrapping.max, rule.wrapping.max);
        self.pagination_limit = lower(self.pagination_limit, rule.pagination_limit);
        if self.list_filter.is_none() {
            self.list_filter.clone_from(&rule.list_filter);
        }
    }

    /// The limit to use for a list; or why not.
    fn check<'a>(&'a self, question: &Question<'a>) -> Result<Option<u64>, Reason<'a>> {
        if self.capabilities.has(Capability::Deny) {
            return Err(Reason::Deny);
        }
        if !self.capabilities.has_any(question.needed()) {
            return Err(Reason::Capability(question.needed()));
        }
        if question.is_sudo && !self.capabilities.has(Capability::Sudo) {
            return Err(Reason::Sudo);
        }
        let Wrapping { min, max } = self.wrapping;
        let is_within = match question.wrap_ttl {
            None => min.is_none() && max.is_none(),
            // Merged bounds may exclude each other; then nothing is within them.
            Some(asked) => min.is_none_or(|min| asked >= min) && max.is_none_or(|max| asked <= max),
        };
        if !is_within {
            return Err(Reason::Wrapping { bounds: self.wrapping, asked: question.wrap_ttl });
        }
        if question.is_list() {
            return limit(self.pagination_limit, self.parameters.requires(LIMIT), question.parameters.fields());
        }
        let has_parameters = question.verb != types::Verb::Delete;
        if has_parameters && !self.parameters.is_empty() {
            self.parameters.check(question.parameters.fields())?;
        }
        Ok(None)
    }
}

/// The lower of two, of which either may be missing.
fn lower<T: Ord>(left: Option<T>, right: Option<T>) -> Option<T> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.min(right)),
        (left, right) => left.or(right),
    }
}

/// The limit of a list, where the rule allows at most `most`: a number, or `max` for as many as are allowed. `None`: what was asked for stands.
fn limit<'a>(most: Option<u64>, is_required: bool, given: Option<&'a Map<String, Value>>) -> Result<Option<u64>, Reason<'a>> {
    let asked = given.and_then(|given| given.get(LIMIT));
    let is_max = asked.is_some_and(|asked| asked == LIMIT_MAX);
    let Some(most) = most else { return Ok(is_max.then_some(0)) };
    let number = match asked {
        None if is_required => return Err(Reason::LimitMissing(most)),
        None => return Ok(Some(most)),
        Some(_) if is_max => return Ok(Some(most)),
        Some(Value::String(text)) if text.is_empty() => Some(0),
        Some(Value::String(text)) => text.parse().ok(),
        Some(number) => number.as_u64(),
    };
    match number {
        Some(0) => Ok(Some(most)),
        Some(number) if number <= most => Ok(None),
        _ => Err(Reason::Limit(most)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use types::Verb;

    use super::*;

    fn acl(policies: &[(&str, &str, &str)]) -> Acl {
        let parsed: Vec<Policy> = policies.iter().map(|(_, text, _)| Policy::parse(text).unwrap()).collect();
        Acl::compile(policies.iter().zip(&parsed).map(|((name, _, namespace), policy)| (*name, policy, *namespace)), Timestamp(1000))
    }

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    fn may(acl: &Acl, verb: Verb, at: &str) -> bool {
        acl.check(&Question::new(&path(at), verb)).is_allowed()
    }

    #[test]
    fn root_may_all_in_its_namespace_and_every_other_name_nothing() {
        for (name, namespace, at, want) in [
            ("root", "", "secret/data/x", true),
            ("root", "", "ns/secret/data/x", true),
            ("root", "ns/", "ns/secret/data/x", true),
            ("root", "ns/", "secret/data/x", false),
            ("root", "ns/", "nsx/y", false),
            ("Root", "", "secret/data/x", false),
            ("root ", "", "secret/data/x", false),
        ] {
            let acl = acl(&[("default", "", ""), (name, "", namespace)]);
            for verb in Verb::ALL {
                let at = path(at);
                let question = Question { is_sudo: true, ..Question::new(&at, *verb) };
                assert_eq!(acl.check(&question).is_allowed(), want, "{name} {namespace} {verb}");
            }
            assert_eq!(acl.capabilities(&path(at)), [if want { "root" } else { "deny" }]);
            assert_eq!((acl.is_root_at(&path(at)), acl.grants_below(&path(at))), (want, want));
        }
    }

    #[test]
    fn a_policy_says_nothing_outside_its_namespace() {
        let acl = acl(&[
            ("p", r#"path "*" { policy = "read" } path "+" { policy = "read" }"#, "n/"),
            ("q", r#"path "a" { policy = "read" }"#, ""),
        ]);
        for (at, want) in [("n/x", true), ("n/x/y", true), ("n", false), ("nn/x", false), ("a", true), ("b", false)] {
            assert_eq!(may(&acl, Verb::Read, at), want, "{at}");
        }
    }

    #[test]
    fn an_answer_names_its_rule_and_policies() {
        let acl = acl(&[
            ("first", r#"path "kv/*" { capabilities = ["read"] }"#, ""),
            ("second", r#"path "kv/*" { capabilities = ["update"] } path "kv/x" { capabilities = ["deny"] }"#, ""),
        ]);
        let (at, denied_at, nowhere) = (path("kv/a"), path("kv/x"), path("b"));
        let allowed = acl.check(&Question::new(&at, Verb::Read)).into_result().unwrap();
        let rule = allowed.rule.unwrap();
        assert_eq!((rule.pattern(), allowed.capabilities.names()), ("kv/*", vec!["read", "update"]));
        let policies: Vec<_> = rule.policies().map(|(name, namespace, own)| (name, namespace, own.names())).collect();
        assert_eq!(policies, [("first", "", vec!["read"]), ("second", "", vec!["update"])]);
        for (at, verb, want, pattern) in [
            (&at, Verb::Delete, "the rule does not grant delete", Some("kv/*")),
            (&denied_at, Verb::Read, "the rule denies everything", Some("kv/x")),
            (&nowhere, Verb::Write, "no rule matches the path", None),
        ] {
            let denial = acl.check(&Question::new(at, verb)).into_result().unwrap_err();
            assert_eq!((denial.reason.to_string().as_str(), denial.rule.map(|rule| rule.pattern())), (want, pattern));
        }
    }

    #[test]
    fn each_condition_is_named_when_it_is_not_met() {
        let text = r#"
            path "a" {
              capabilities = ["update", "list"]
              required_parameters = ["r"]
              allowed_parameters = { r = [], v = ["x"], d = [] }
              denied_parameters = { d = ["no"] }
              pagination_limit = 5
            }
            path "none" { capabilities = ["update"] denied_parameters = { "*" = [] } }
            path "page" { capabilities = ["list"] required_parameters = ["limit"] pagination_limit = 5 }
            path "w" { capabilities = ["read"] min_wrapping_ttl = 10 max_wrapping_ttl = "1m" }"#;
        let acl = acl(&[("p", text, "")]);
        for (verb, at, wrap, is_sudo, data, want) in [
            (Verb::Write, "a", 0, false, json!({"r": 1, "v": "x", "d": "yes"}), ""),
            (Verb::Write, "a", 0, false, json!({}), "the parameter \"r\" is required"),
            (Verb::Write, "a", 0, false, json!({"r": 1, "o": 1}), "the parameter \"o\" is not among those allowed"),
            (Verb::Write, "a", 0, false, json!({"r": 1, "v": "y"}), "the parameter \"v\" has a value that is not allowed"),
            (Verb::Write, "a", 0, false, json!({"r": 1, "d": "no"}), "the parameter \"d\" is denied, or has a value that is"),
            (Verb::Write, "a", 0, true, json!({"r": 1}), "the path needs sudo, which the rule does not grant"),
            (Verb::Write, "none", 0, false, json!({}), ""),
            (Verb::Write, "none", 0, false, json!({"x": 1}), "every parameter is denied"),
            (Verb::List, "a", 0, false, json!({"limit": "6"}), "the list's limit must be a number from 0 to 5, or max"),
            (Verb::List, "page", 0, false, json!({}), "the list must be asked for with a limit, of at most 5"),
            (Verb::Read, "w", 0, false, json!({}), "the answer must be wrapped for at least 10s for at most 1m"),
            (Verb::Read, "w", 9, false, json!({}), "the answer must be wrapped for at least 10s for at most 1m, not for 9s"),
            (Verb::Read, "w", 60, false, json!({}), ""),
        ] {
            let at = path(at);
            let wrap_ttl = (wrap > 0).then(|| std::time::Duration::from_secs(wrap));
            let question = Question { is_sudo, wrap_ttl, parameters: data.as_object().unwrap(), ..Question::new(&at, verb) };
            let found = acl.check(&question).into_result().map_or_else(|denial| denial.reason.to_string(), |_| String::new());
            assert_eq!(found, want, "{verb} {data}");
        }
    }

    #[test]
    fn a_rule_holds_until_it_expires() {
        let text = |seconds: u64| format!("path \"a\" {{ capabilities = [\"read\"] expiration = {seconds} }} path \"b\" {{}}");
        let (past, now, later) = (text(0), text(1), text(2));
        assert!(!may(&acl(&[("p", &past, "")]), Verb::Read, "a"));
        assert!(may(&acl(&[("p", &now, "")]), Verb::Read, "a"));
        let both = acl(&[("p", &later, ""), ("q", &now, "")]);
        assert_eq!(both.expires(), Some(Timestamp(1000)));
        assert_eq!(acl(&[("p", &past, "")]).expires(), None);
    }

    #[test]
    fn a_mount_is_known_to_whom_something_in_it_is_granted() {
        for (rule, yes) in [
            (r#"path "kv/a" { capabilities = ["read"] }"#, true),
            (r#"path "kv/*" { capabilities = ["read"] }"#, true),
            (r#"path "k*" { capabilities = ["read"] }"#, true),
            (r#"path "+/a" { capabilities = ["read"] }"#, true),
            (r#"path "+/+/a*" { capabilities = ["read"] }"#, true),
            (r#"path "+" { capabilities = ["read"] }"#, true),
            (r#"path "+/a" { capabilities = ["deny"] }"#, false),
            (r#"path "kv/a" { capabilities = ["deny"] }"#, false),
            (r#"path "kv/a" {}"#, false),
            (r#"path "kvx/a" { capabilities = ["read"] }"#, false),
            (r#"path "x/+" { capabilities = ["read"] }"#, false),
        ] {
            assert_eq!(acl(&[("p", rule, "")]).grants_below(&path("kv/")), yes, "{rule}");
        }
    }
}

//! Explanations: the smallest rule that would allow what was denied.
//!
//! Always: what is proposed was tried, and takes away no capability that the path had.

use serde_json::{Map, Value};
use types::{Capability, duration};

use super::{Acl, Compiled, Source};
use crate::policy::capabilities::Capabilities;
use crate::policy::decision::{Question, Reason};
use crate::policy::pattern::{Kind, Pattern};
use crate::policy::text::Policy;

impl Acl {
    /// The text of the smallest rule that, in one more policy of `namespace` (with a slash behind, or empty), would allow what `question` asks,
    /// and take no capability away. It is for the one path alone, and has the capabilities that are granted there already; the conditions on
    /// these too, if the request meets them.
    ///
    /// `None`: it is allowed already; or no further rule could allow it, since the rule that denies is for this one path too; or the path cannot
    /// be written without a wildcard, or is not in `namespace`.
    pub fn smallest_rule(&self, question: &Question<'_>, namespace: &str) -> Option<String> {
        let denial = self.check(question).into_result().err()?;
        let path = if question.is_list() { question.path.as_folder() } else { question.path.clone() };
        let own = path.as_str().strip_prefix(namespace)?;
        if Pattern::new(namespace, own).kind() != Kind::Exact || own.contains("{{") || own.contains("}}") {
            return None;
        }
        let rule = denial.rule.map(|reference| reference.rule);
        let is_merged = rule.is_some_and(|rule| rule.pattern.kind() == Kind::Exact && rule.pattern.text() == path.as_str());
        if is_merged && !matches!(denial.reason, Reason::Capability(_) | Reason::Sudo) {
            return None;
        }
        let sudo = if question.is_sudo { Capabilities::of(Capability::Sudo) } else { Capabilities::NONE };
        let needed = question.needed() | sudo;
        if is_merged {
            return self.if_enough(needed, None, own, question, namespace);
        }
        // The new rule would decide every request at this path, and every list of it; other rules may have decided these until now.
        let granted = |path: &str, is_list| self.find(path, is_list).map_or(Capabilities::NONE, |rule| rule.capabilities);
        let held = granted(path.as_str(), false).without(Capability::Deny);
        let listing = granted(path.as_folder().as_str(), true);
        let listed = [Capability::List, Capability::Scan].into_iter().filter(|name| listing.has(*name)).collect();
        let all = needed | held | listed;
        let with_conditions = rule.and_then(|rule| self.if_enough(all, Some(rule), own, question, namespace));
        with_conditions.or_else(|| self.if_enough(all, None, own, question, namespace))
    }

    /// The text of a rule for `path` with these capabilities, and with the conditions of another; if it is enough.
    fn if_enough(
        &self,
        capabilities: Capabilities,
        conditions: Option<&Compiled>,
        path: &str,
        question: &Question<'_>,
        namespace: &str,
    ) -> Option<String> {
        let mut text = format!("path {} {{\n  capabilities = {}\n", Value::from(path), Value::from(capabilities.names()));
        for (key, value) in conditions.map(Compiled::conditions).unwrap_or_default() {
            text += &format!("  {key} = {}\n", hcl(&value));
        }
        text += "}\n";
        let policy = Policy::parse(&text).ok()?;
        let tried = self.with(&policy, namespace);
        tried.check(question).is_allowed().then_some(text)
    }

    /// This ACL and one policy more.
    fn with(&self, policy: &Policy, namespace: &str) -> Acl {
        let mut acl = Acl { roots: self.roots.clone(), ..Acl::default() };
        acl.policies.push(Source { name: "".into(), namespace: namespace.into() });
        acl.rules = self.rules.iter().map(|rule| Compiled { sources: Vec::new(), ..rule.clone() }).collect();
        for rule in policy.rules() {
            let pattern = Pattern::new(namespace, &rule.path);
            match acl.rules.iter_mut().find(|own| own.pattern == pattern) {
                Some(own) => own.merge(rule, 0),
                None => acl.rules.push(Compiled::new(pattern, rule, 0)),
            }
        }
        acl.index();
        acl
    }
}

impl Compiled {
    /// Its conditions, as a policy has them.
    fn conditions(&self) -> Vec<(&'static str, Value)> {
        let parameters = &self.parameters;
        let ttl = |bound: Option<std::time::Duration>| bound.map(|ttl| Value::from(duration::print(ttl)));
        let table = |list: Map<String, Value>| (!list.is_empty()).then_some(Value::Object(list));
        let required: Vec<&str> = parameters.required.iter().map(|name| &**name).collect();
        let all = [
            ("allowed_parameters", table(parameters.allowed_values())),
            ("denied_parameters", table(parameters.denied_values())),
            ("required_parameters", (!required.is_empty()).then(|| Value::from(required))),
            ("min_wrapping_ttl", ttl(self.wrapping.min)),
            ("max_wrapping_ttl", ttl(self.wrapping.max)),
            ("pagination_limit", self.pagination_limit.map(Value::from)),
            ("list_scan_response_keys_filter_path", self.list_filter.as_ref().map(|filter| Value::from(filter.source()))),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

/// A value as HCL has it: JSON, but for the equals sign.
fn hcl(value: &Value) -> String {
    match value {
        Value::Array(values) => format!("[{}]", values.iter().map(hcl).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => {
            let entries = entries.iter().map(|(name, value)| format!("{} = {}", Value::from(name.as_str()), hcl(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use types::{Path, Timestamp, Verb};

    use super::*;

    fn acl(policies: &[(&str, &str, &str)]) -> Acl {
        let parsed: Vec<Policy> = policies.iter().map(|(_, text, _)| Policy::parse(text).unwrap()).collect();
        Acl::compile(policies.iter().zip(&parsed).map(|((name, _, namespace), policy)| (*name, policy, *namespace)), Timestamp(1000))
    }

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    #[test]
    fn the_smallest_rule_keeps_what_is_granted() {
        let acl = acl(&[(
            "p",
            r#"path "kv/*" { capabilities = ["read"] } path "kv/x" { capabilities = ["deny"] } path "kv/d/*" { policy = "deny" }"#,
            "",
        )]);
        let rule = |verb, at: &str, namespace| acl.smallest_rule(&Question::new(&path(at), verb), namespace);
        assert_eq!(rule(Verb::Delete, "kv/a", "").as_deref(), Some("path \"kv/a\" {\n  capabilities = [\"delete\",\"read\"]\n}\n"));
        assert_eq!(rule(Verb::List, "kv/d", "").as_deref(), Some("path \"kv/d/\" {\n  capabilities = [\"list\"]\n}\n"));
        assert_eq!(rule(Verb::Read, "n/a", "n/").as_deref(), Some("path \"a\" {\n  capabilities = [\"read\"]\n}\n"));
        // Allowed already; denied for this one path; not in the namespace; not to be written without a wildcard.
        for (verb, at, namespace) in
            [(Verb::Read, "kv/a", ""), (Verb::Read, "kv/x", ""), (Verb::Read, "b", "n/"), (Verb::Read, "a/+", ""), (Verb::Read, "a*", "")]
        {
            assert_eq!(rule(verb, at, namespace), None, "{at}");
        }
    }

    #[test]
    fn a_rule_for_a_list_keeps_what_others_may_do_at_its_folder() {
        let acl = acl(&[("p", r#"path "kv" { capabilities = ["scan"] } path "kv*" { capabilities = ["read"] }"#, "")]);
        let found = acl.smallest_rule(&Question::new(&path("kv"), Verb::List), "");
        assert_eq!(found.as_deref(), Some("path \"kv/\" {\n  capabilities = [\"list\",\"read\",\"scan\"]\n}\n"));
    }

    #[test]
    fn the_smallest_rule_keeps_the_conditions_that_were_met() {
        let text = r#"
            path "kv/*" {
              capabilities = ["read"]
              allowed_parameters = { "a" = ["x*", "*y", "*z*", {"b" = 1}], "c" = [] }
              denied_parameters = { "d" = ["*"] }
              required_parameters = ["A"]
              min_wrapping_ttl = "90s"
            }"#;
        let acl = acl(&[("p", text, "")]);
        let at = path("kv/k");
        let data = serde_json::json!({"a": "xx"});
        let wrap_ttl = Some(std::time::Duration::from_secs(100));
        let question = Question { wrap_ttl, parameters: data.as_object().unwrap(), ..Question::new(&at, Verb::Patch) };
        let found = acl.smallest_rule(&question, "").unwrap();
        let want = Policy::parse(&text.replace("kv/*", "kv/k").replace("[\"read\"]", "[\"read\", \"patch\"]")).unwrap();
        let line = |policy: &Policy| crate::policy::text::Rule { line: 0, ..policy.rules()[0].clone() };
        assert_eq!(line(&Policy::parse(&found).unwrap()), line(&want), "{found}");
        // They were not met: what would allow it has none.
        let question = Question { wrap_ttl: None, ..question };
        assert_eq!(acl.smallest_rule(&question, "").as_deref(), Some("path \"kv/k\" {\n  capabilities = [\"patch\",\"read\"]\n}\n"));
    }
}

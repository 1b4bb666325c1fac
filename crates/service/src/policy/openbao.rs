//! Table test: what OpenBao 2.7.2 answered to policies, paths and requests is what we answer.
//!
//! The table was recorded by `openbao.py` from a running server. Nothing in it is left out here: what we do otherwise on purpose (numbers in
//! value lists, keys given twice) is not in it, and stands in docs/operate/policies.md.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use types::{Path, Timestamp, Verb};

use super::acl::Acl;
use super::decision::Question;
use super::text::Policy;

const TABLE: &str = include_str!("../../../../tests/golden/policy/openbao-2.7.2.jsonl");
/// When the table was recorded, about: rules that expire stand on either side of it.
const RECORDED: Timestamp = Timestamp(1_790_000_000_000);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    namespace: String,
    policies: Vec<String>,
    /// By path, what `sys/capabilities` answered.
    capabilities: BTreeMap<String, Vec<String>>,
    requests: Vec<Asked>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    verb: String,
    path: String,
    data: Option<Map<String, Value>>,
    /// Seconds.
    wrap: Option<u64>,
    #[serde(default)]
    sudo: bool,
    create: Option<bool>,
    allowed: bool,
}

#[test]
fn we_answer_as_openbao_did() {
    let mut lines = TABLE.lines();
    assert_eq!(lines.next(), Some(r#"{"openbao": "2.7.2"}"#));
    let mut counts = [0, 0];
    for line in lines {
        let case: Case = serde_json::from_str(line).unwrap();
        let policies: Vec<Policy> =
            case.policies.iter().map(|text| Policy::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"))).collect();
        let acl = Acl::compile(policies.iter().map(|policy| ("p", policy, case.namespace.as_str())), RECORDED);
        let texts = || case.policies.join("\n");
        let path = |text: &str| Path::parse(&format!("{}{text}", case.namespace)).unwrap();
        for (asked, answer) in &case.capabilities {
            assert_eq!(&acl.capabilities(&path(asked)), answer, "{asked}\n{}", texts());
        }
        for asked in &case.requests {
            let path = path(&asked.path);
            let verb = if asked.verb == "write" { Verb::Write } else { asked.verb.parse().unwrap() };
            let question = Question {
                path: &path,
                verb,
                is_create: asked.create,
                is_sudo: asked.sudo,
                wrap_ttl: asked.wrap.map(Duration::from_secs),
                parameters: &asked.data,
            };
            let decision = acl.check(&question);
            let context = || format!("{line}\n{} {} {:?}\n{}\n{decision:?}", asked.verb, asked.path, asked.data, texts());
            assert_eq!(decision.is_allowed(), asked.allowed, "{}", context());
            counts[usize::from(asked.allowed)] += 1;
        }
    }
    assert!(counts[0] > 500 && counts[1] > 500, "{counts:?} denied and allowed");
}

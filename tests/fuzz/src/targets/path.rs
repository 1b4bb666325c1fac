//! Paths and ACLs: the first line of an input is the path of a request, the rest a policy.
//!
//! A path has one spelling, in which nothing could be read in two ways; and a rule that denies it denies it for every verb.

use service::policy::acl::Acl;
use service::policy::decision::Question;
use service::policy::text::Policy;
use types::{Path, Timestamp, Verb};

use super::lines;
use crate::driver::Subject;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const VERBS: [Verb; 6] = [Verb::Read, Verb::Write, Verb::Patch, Verb::Delete, Verb::List, Verb::Scan];

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let paths = [
        include_str!("../../../corpora/paths-refused.txt"),
        include_str!("../../../corpora/paths-same.txt"),
        include_str!("../../../corpora/paths-other.txt"),
    ];
    let policy = "path \"secret/data/team/*\" { capabilities = [\"read\", \"list\", \"create\"] }\npath \"secret/+/team\" { capabilities = [\"deny\"] }\n";
    paths.into_iter().flat_map(lines).map(|path| format!("{}\n{policy}", path.strip_prefix("/v1/").unwrap_or(path)).into_bytes()).collect()
}

pub(super) fn subject() -> Box<Subject> {
    Box::new(|input| {
        let at = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
        let Some(raw) = super::text(&input[..at]) else { return "no text".into() };
        let path = match Path::parse_http(raw) {
            Ok(path) => path,
            Err(error) => return error.to_string(),
        };
        is_canonical(&path);
        let policy = super::text(input.get(at + 1..).unwrap_or_default()).map(Policy::parse);
        let Some(Ok(policy)) = policy else { return "a path, and no policy".into() };
        let acl = Acl::compile([("p", &policy, "")], NOW);
        let denying = Policy::parse(&denial(&path));
        let mut outcome = String::from("a path and a policy: ");
        for verb in VERBS {
            let asked = if matches!(verb, Verb::List | Verb::Scan) { path.as_folder() } else { path.clone() };
            let is_allowed = acl.check(&Question::new(&asked, verb)).is_allowed();
            outcome.push(if is_allowed { 'y' } else { 'n' });
            // A path that no pattern stands for is denied by a rule of its own, whatever others say.
            if let Ok(denying) = &denying
                && !path.as_str().contains(['*', '+'])
            {
                let both = Acl::compile([("p", &policy, ""), ("q", denying, "")], NOW);
                assert!(!both.check(&Question::new(&asked, verb)).is_allowed(), "{verb} is allowed at a path that is denied");
            }
        }
        outcome
    })
}

fn denial(path: &Path) -> String {
    let exact = |path: &Path| format!("path {} {{ capabilities = [\"deny\"] }}\n", serde_json::Value::from(path.as_str()));
    exact(&path.without_folder()) + &exact(&path.as_folder())
}

fn is_canonical(path: &Path) {
    let text = path.as_str();
    assert!(Path::parse(text).as_ref() == Ok(path), "a canonical path reads back as another");
    assert!(!text.contains("//") && !text.starts_with('/') && !text.contains('\\'), "an empty segment or a backslash");
    assert!(!text.chars().any(char::is_control), "a control character");
    for segment in path.segments() {
        assert!(!matches!(segment.split(';').next(), Some("." | "..")), "a segment of dots");
    }
    assert!(text.len() <= types::path::PATH_BYTES_MAX + 1, "longer than the longest path");
}

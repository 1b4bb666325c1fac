//! KV, version 1, against a model of it: a map from paths to texts.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Cubbyhole, Kv1};
use crate::testing::Mount;

const PATHS: [&str; 6] = ["a", "a/b", "a/b/c", "a.b", "v1/a", "upgrade"];
const BODIES: [&str; 3] = [r#"{"n":1e400}"#, r#"{"k":1,"k":2}"#, r#"{"ttl":"1h", "x":{}}"#];

#[derive(Debug, Clone)]
enum Step {
    Write { path: usize, body: usize },
    Read { path: usize },
    Delete { path: usize },
    List { folder: &'static str },
    Scan { folder: &'static str, after: usize, limit: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let path = || 0..PATHS.len();
    let folder = || prop::sample::select(&["", "a", "a/b", "v1"][..]);
    prop_oneof![
        4 => (path(), 0..BODIES.len()).prop_map(|(path, body)| Step::Write { path, body }),
        2 => path().prop_map(|path| Step::Read { path }),
        2 => path().prop_map(|path| Step::Delete { path }),
        2 => folder().prop_map(|folder| Step::List { folder }),
        2 => (folder(), path(), 0_usize..4).prop_map(|(folder, after, limit)| Step::Scan { folder, after, limit }),
    ]
}

/// What is asked, and what should come back.
fn expected(model: &mut BTreeMap<&'static str, &'static str>, step: &Step) -> (String, &'static str, u16, String) {
    let done = |line: String, body: &'static str| (line, body, 204, String::new());
    let names = |line: String, names: Vec<String>| match names.as_slice() {
        [] => (line, "", 404, String::new()),
        names => (line, "", 200, serde_json::to_string(names).unwrap()),
    };
    match *step {
        Step::Write { path, body } => {
            model.insert(PATHS[path], BODIES[body]);
            done(format!("POST {}", PATHS[path]), BODIES[body])
        }
        Step::Delete { path } => {
            model.remove(PATHS[path]);
            done(format!("DELETE {}", PATHS[path]), "")
        }
        Step::Read { path } => {
            let line = format!("GET {}", PATHS[path]);
            model.get(PATHS[path]).map_or((line.clone(), "", 404, String::new()), |text| (line, "", 200, (*text).to_owned()))
        }
        Step::List { folder } => {
            let below = below(model, folder);
            let first = |name: String| name.split_once('/').map_or(name.clone(), |(first, _)| format!("{first}/"));
            names(format!("LIST {folder}"), below.into_iter().map(first).collect::<BTreeSet<_>>().into_iter().collect())
        }
        Step::Scan { folder, after, limit } => {
            let after = PATHS[after];
            let found = below(model, folder).into_iter().filter(|name| name.as_str() > after);
            let limit_or_all = if limit == 0 { usize::MAX } else { limit };
            names(format!("SCAN {folder}?after={after}&limit={limit}"), found.take(limit_or_all).collect())
        }
    }
}

fn below(model: &BTreeMap<&'static str, &'static str>, folder: &str) -> Vec<String> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    model.keys().filter_map(|path| path.strip_prefix(&prefix)).map(str::to_owned).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn answers_are_those_of_the_model(steps in prop::collection::vec(step(), 1..40), is_cubbyhole: bool) {
        let mount = if is_cubbyhole { Mount::of(&Cubbyhole) } else { Mount::of(&Kv1) };
        let mut model = BTreeMap::new();
        for step in &steps {
            let (line, body, status, want) = expected(&mut model, step);
            let answer = mount.ask(&line, body);
            prop_assert_eq!((answer.status, answer.body), (status, want), "{}", line);
            let records: BTreeMap<String, Vec<u8>> =
                model.iter().map(|(path, text)| (format!("v1/{path}"), text.as_bytes().to_vec())).collect();
            prop_assert_eq!(mount.records(), records, "after {}", line);
        }
    }
}

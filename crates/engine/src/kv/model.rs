//! KV against a model of it: whatever is asked in whatever order, both give the same answers, and the records below the mount
//! are those that the model says. The model keeps every version for ever and works out at each question what is left of it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::testing::{Mount, START};

/// Secrets whose names could be taken for each other's versions or folders.
const PATHS: [&str; 4] = ["a", "a/1", "a/0000000000000001", "b"];
/// Data, each with a spelling that a parser would change.
const DATA: [&str; 4] = ["{}", r#"{"n":1e400}"#, r#"{"k":1,"k":2}"#, "null"];

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Write { path: usize, data: usize, cas: Option<i64> },
    Patch { path: usize, number: u32 },
    Read { path: usize, version: u64 },
    DeleteNewest { path: usize },
    Change { area: &'static str, path: usize, versions: Vec<u64> },
    WriteMetadata { path: usize, max_versions: u32, cas_required: bool, seconds: u64 },
    ReadMetadata { path: usize },
    DeleteMetadata { path: usize },
    List { folder: &'static str },
    Scan { folder: &'static str, after: usize },
    WriteConfig { max_versions: u32, cas_required: bool, seconds: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    // Few numbers, and one secret more often than the others, so that steps meet.
    let path = || prop_oneof![3 => Just(0), 1 => 1..PATHS.len()];
    let versions = || prop::collection::vec(0_u64..7, 1..4);
    prop_oneof![
        2 => (0_u64..8000).prop_map(Step::Wait),
        6 => (path(), 0..DATA.len(), prop::option::weighted(0.3, 0_i64..6)).prop_map(|(path, data, cas)| Step::Write { path, data, cas }),
        1 => (path(), 0_u32..9).prop_map(|(path, number)| Step::Patch { path, number }),
        4 => (path(), 0_u64..7).prop_map(|(path, version)| Step::Read { path, version }),
        2 => path().prop_map(|path| Step::DeleteNewest { path }),
        3 => (prop::sample::select(&["delete", "undelete", "destroy"][..]), path(), versions())
            .prop_map(|(area, path, versions)| Step::Change { area, path, versions }),
        1 => (path(), 0_u32..4, prop::bool::weighted(0.2), 0_u64..12)
            .prop_map(|(path, max_versions, cas_required, seconds)| Step::WriteMetadata { path, max_versions, cas_required, seconds }),
        2 => path().prop_map(|path| Step::ReadMetadata { path }),
        1 => path().prop_map(|path| Step::DeleteMetadata { path }),
        1 => prop::sample::select(&["", "a", "b"][..]).prop_map(|folder| Step::List { folder }),
        1 => (prop::sample::select(&["", "a", "b"][..]), 0..PATHS.len()).prop_map(|(folder, after)| Step::Scan { folder, after }),
        1 => (0_u32..4, prop::bool::weighted(0.1), -1_i64..12)
            .prop_map(|(max_versions, cas_required, seconds)| Step::WriteConfig { max_versions, cas_required, seconds }),
    ]
}

impl Step {
    /// As a client sends it.
    fn ask(&self) -> (String, String) {
        match self {
            Step::Wait(_) => unreachable!("no question"),
            Step::Write { path, data, cas } => {
                let options = cas.map_or(String::new(), |cas| format!(r#","options":{{"cas":{cas}}}"#));
                (format!("POST data/{}", PATHS[*path]), format!(r#"{{"data":{}{options}}}"#, DATA[*data]))
            }
            Step::Patch { path, number } => (format!("PATCH data/{}", PATHS[*path]), format!(r#"{{"data":{{"p":{number}}}}}"#)),
            Step::Read { path, version } => (format!("GET data/{}?version={version}", PATHS[*path]), String::new()),
            Step::DeleteNewest { path } => (format!("DELETE data/{}", PATHS[*path]), String::new()),
            Step::Change { area, path, versions } => (format!("POST {area}/{}", PATHS[*path]), json!({ "versions": versions }).to_string()),
            Step::WriteMetadata { path, max_versions, cas_required, seconds } => {
                let body = json!({ "max_versions": max_versions, "cas_required": cas_required, "delete_version_after": seconds });
                (format!("POST metadata/{}", PATHS[*path]), body.to_string())
            }
            Step::ReadMetadata { path } => (format!("GET metadata/{}", PATHS[*path]), String::new()),
            Step::DeleteMetadata { path } => (format!("DELETE metadata/{}", PATHS[*path]), String::new()),
            Step::List { folder } => (format!("LIST metadata/{folder}"), String::new()),
            Step::Scan { folder, after } => (format!("SCAN metadata/{folder}?after={}", PATHS[*after]), String::new()),
            Step::WriteConfig { max_versions, cas_required, seconds } => {
                let body = json!({ "max_versions": max_versions, "cas_required": cas_required, "delete_version_after": seconds });
                ("POST config".to_owned(), body.to_string())
            }
        }
    }
}

/// What a mount should hold. Times in milliseconds after [`START`].
#[derive(Default)]
struct Model {
    now: u64,
    secrets: BTreeMap<&'static str, Secret>,
    config: Limits,
}

#[derive(Default, Clone, Copy)]
struct Limits {
    max_versions: u32,
    cas_required: bool,
    /// Below zero: never.
    seconds: i64,
}

#[derive(Default)]
struct Secret {
    created: u64,
    /// Version 1 is the first.
    versions: Vec<Version>,
    /// So many of the first are gone.
    gone: usize,
    limits: Limits,
}

struct Version {
    data: String,
    created: u64,
    deleted: Option<u64>,
    destroyed: bool,
}

/// A status and what the body should be.
type Expected = (u16, Value);

const NOT_FOUND: Expected = (404, Value::Null);
const DONE: Expected = (204, Value::Null);

impl Model {
    fn answer(&mut self, step: &Step) -> Expected {
        let now = self.now;
        match step {
            Step::Wait(milliseconds) => {
                self.now += milliseconds;
                DONE
            }
            Step::Write { path, data, cas } => self.write(PATHS[*path], DATA[*data].to_owned(), *cas),
            Step::Patch { path, number } => self.patch(PATHS[*path], *number),
            Step::Read { path, version } => self.read(PATHS[*path], *version),
            Step::DeleteNewest { path } => {
                let newest = self.secrets.get(PATHS[*path]).map_or(0, |secret| secret.versions.len() as u64);
                self.change("delete", PATHS[*path], &[newest])
            }
            Step::Change { area, path, versions } => self.change(area, PATHS[*path], versions),
            Step::WriteMetadata { path, max_versions, cas_required, seconds } => {
                let secret = self.secrets.entry(PATHS[*path]).or_insert_with(|| Secret { created: now, ..Secret::default() });
                secret.limits =
                    Limits { max_versions: *max_versions, cas_required: *cas_required, seconds: i64::try_from(*seconds).unwrap() };
                DONE
            }
            Step::ReadMetadata { path } => self.read_metadata(PATHS[*path]),
            Step::DeleteMetadata { path } => {
                self.secrets.remove(PATHS[*path]);
                DONE
            }
            Step::List { folder } => self.list(folder),
            Step::Scan { folder, after } => self.scan(folder, PATHS[*after]),
            Step::WriteConfig { max_versions, cas_required, seconds } => {
                self.config = Limits { max_versions: *max_versions, cas_required: *cas_required, seconds: *seconds };
                DONE
            }
        }
    }

    fn write(&mut self, path: &'static str, data: String, cas: Option<i64>) -> Expected {
        let newest = self.secrets.get(path).map_or(0, |secret| secret.versions.len() as i64);
        let cas_required = self.config.cas_required || self.secrets.get(path).is_some_and(|secret| secret.limits.cas_required);
        match cas {
            None if cas_required => return (400, json!("check-and-set parameter required for this call")),
            Some(cas) if cas != newest => return (400, json!("check-and-set parameter did not match the current version")),
            _ => {}
        }
        let now = self.now;
        let expires = self.expires(path);
        let secret = self.secrets.entry(path).or_insert_with(|| Secret { created: now, ..Secret::default() });
        secret.versions.push(Version { data, created: now, deleted: expires, destroyed: false });
        let max = match (self.config.max_versions, secret.limits.max_versions) {
            (0, 0) => 10,
            (a, b) => a.max(b) as usize,
        };
        secret.gone = secret.gone.max(secret.versions.len().saturating_sub(max));
        (200, secret.version(secret.versions.len()))
    }

    fn patch(&mut self, path: &'static str, number: u32) -> Expected {
        let newest = self.secrets.get(path).map_or(0, |secret| secret.versions.len());
        match self.read(path, 0) {
            (200, _) => {}
            (_, Value::Null) => return NOT_FOUND,
            (status, _) => return (status, self.secrets[path].version(newest)),
        }
        let old = &self.secrets[path].versions[newest - 1].data;
        // What comes of each of DATA, and of an earlier patch.
        let data = match old.as_str() {
            r#"{"n":1e400}"# => format!(r#"{{"n":1e400,"p":{number}}}"#),
            r#"{"k":1,"k":2}"# => format!(r#"{{"k":2,"p":{number}}}"#),
            "{}" | "null" => format!(r#"{{"p":{number}}}"#),
            patched => {
                let at = patched.find("\"p\":").unwrap() + 4;
                format!("{}{number}}}", &patched[..at])
            }
        };
        self.write(path, data, None)
    }

    fn read(&self, path: &str, version: u64) -> Expected {
        let Some(secret) = self.secrets.get(path) else { return NOT_FOUND };
        let number = if version == 0 { secret.versions.len() } else { version as usize };
        if number <= secret.gone || number > secret.versions.len() {
            return NOT_FOUND;
        }
        let version = &secret.versions[number - 1];
        if version.destroyed || version.deleted.is_some_and(|deleted| deleted <= self.now) {
            return (404, json!({ "data": "null", "metadata": secret.version(number) }));
        }
        (200, json!({ "data": version.data, "metadata": secret.version(number) }))
    }

    fn change(&mut self, area: &str, path: &str, numbers: &[u64]) -> Expected {
        let (now, expires) = (self.now, self.expires(path));
        let Some(secret) = self.secrets.get_mut(path) else { return DONE };
        let gone = secret.gone;
        for (at, version) in secret.versions.iter_mut().enumerate() {
            if at < gone || !numbers.contains(&(at as u64 + 1)) || version.destroyed {
                continue;
            }
            match area {
                "delete" if version.deleted.is_some_and(|deleted| deleted <= now) => {}
                "delete" => version.deleted = Some(now),
                "undelete" => version.deleted = expires,
                _ => version.destroyed = true,
            }
        }
        DONE
    }

    fn read_metadata(&self, path: &str) -> Expected {
        let Some(secret) = self.secrets.get(path) else { return NOT_FOUND };
        let versions: serde_json::Map<String, Value> = (secret.gone + 1..=secret.versions.len())
            .map(|number| {
                let mut version = secret.version(number);
                version.as_object_mut().unwrap().retain(|name, _| name != "version" && name != "custom_metadata");
                (number.to_string(), version)
            })
            .collect();
        let known = json!({
            "created_time": time(Some(secret.created)), "current_version": secret.versions.len(), "versions": versions,
            "max_versions": secret.limits.max_versions, "cas_required": secret.limits.cas_required,
        });
        (200, known)
    }

    fn list(&self, folder: &str) -> Expected {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let names: BTreeSet<String> = self
            .secrets
            .keys()
            .filter_map(|path| path.strip_prefix(&prefix))
            .map(|rest| rest.split_once('/').map_or(rest.to_owned(), |(first, _)| format!("{first}/")))
            .collect();
        if names.is_empty() { NOT_FOUND } else { (200, json!(names)) }
    }

    fn scan(&self, folder: &str, after: &str) -> Expected {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let names: Vec<&str> = self.secrets.keys().filter_map(|path| path.strip_prefix(&prefix)).filter(|name| *name > after).collect();
        if names.is_empty() { NOT_FOUND } else { (200, json!(names)) }
    }

    fn expires(&self, path: &str) -> Option<u64> {
        let own = self.secrets.get(path).map_or(0, |secret| secret.limits.seconds);
        let seconds = match (self.config.seconds, own) {
            (-1, _) | (0, 0) => return None,
            (0, seconds) | (seconds, 0) => seconds,
            (mount, secret) => mount.min(secret),
        };
        Some(self.now + 1000 * seconds as u64)
    }

    /// The names of the records that there should be, but for the settings.
    fn records(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (path, secret) in &self.secrets {
            names.insert(format!("meta/{path}"));
            for (at, version) in secret.versions.iter().enumerate().skip(secret.gone) {
                if !version.destroyed {
                    names.insert(format!("data/{:016x}/{path}", at + 1));
                }
            }
        }
        names
    }
}

impl Secret {
    fn version(&self, number: usize) -> Value {
        let version = &self.versions[number - 1];
        json!({
            "created_time": time(Some(version.created)), "custom_metadata": null, "deletion_time": time(version.deleted),
            "destroyed": version.destroyed, "version": number,
        })
    }
}

fn time(after_start: Option<u64>) -> String {
    let milliseconds = |after: u64| i64::try_from(START.0 + after).unwrap();
    after_start.map_or(String::new(), |after| jiff::Timestamp::from_millisecond(milliseconds(after)).unwrap().to_string())
}

/// An answer, in the form of the model's: data as text, so that its spelling is compared, and of metadata what the model knows.
fn observed(step: &Step, mount: &Mount) -> Expected {
    let (line, body) = step.ask();
    let answer = mount.ask(&line, &body);
    let value = match answer.status {
        400 => json!(answer.body),
        _ if answer.body.is_empty() => Value::Null,
        _ => match answer.body.strip_prefix("{\"data\":") {
            Some(rest) => {
                let (data, metadata) = rest.split_once(",\"metadata\":").unwrap();
                json!({ "data": data, "metadata": parse(metadata.strip_suffix('}').unwrap()) })
            }
            None => parse(&answer.body),
        },
    };
    (answer.status, known_of(step, value))
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn known_of(step: &Step, mut value: Value) -> Value {
    const KNOWN: [&str; 5] = ["created_time", "current_version", "versions", "max_versions", "cas_required"];
    if let (Step::ReadMetadata { .. }, Some(object)) = (step, value.as_object_mut()) {
        object.retain(|name, _| KNOWN.contains(&name.as_str()));
    }
    value
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn answers_are_those_of_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let mount = Mount::new();
        let mut model = Model::default();
        for step in &steps {
            let want = model.answer(step);
            if let Step::Wait(milliseconds) = step {
                mount.wait(*milliseconds);
                continue;
            }
            prop_assert_eq!(observed(step, &mount), want, "{:?}", step);
            let records: BTreeSet<String> = mount.records().into_keys().filter(|name| name != "config").collect();
            prop_assert_eq!(records, model.records(), "after {:?}", step);
        }
    }
}

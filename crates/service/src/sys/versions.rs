//! `sys/version-history`: which versions of the software have led the open cluster, and since when.
//!
//! Always: an open node that leads adds its version before it does its first chore; a version is there once, with the time it first led.

use barrier::{Name, Plan};
use crypto::SecretBytes;
use engine::AskError;
use engine::route::{Access, Method, Route};
use prost::Message;
use proto::stored;
use serde_json::{Map, Value, json};
use types::Timestamp;
use types::capability::Verb;

use crate::backend::{Asked, Handler};
use crate::node::Software;
use crate::outcome::{Operation, Outcome, PlanError, planned};
use crate::records::Records;
use crate::request::shown_time;

/// Versions that are remembered; the oldest go.
const VERSIONS_MAX: usize = 1_000;

/// What may be asked.
pub(crate) static ROUTES: &[Route<Handler>] = &[Route {
    pattern: "version-history",
    about: "Which versions of the software have led the cluster.",
    parameters: &[],
    methods: &[Method { verb: Verb::List, summary: "Lists them, oldest first.", fields: &[], query: &[], handler: list }],
    access: Access::Token,
}];

fn name() -> Name {
    Name::new("core/versions")
}

fn decode(value: Option<SecretBytes>) -> Result<stored::Versions, PlanError> {
    match value {
        // EXPOSE: versions are no secret.
        Some(value) => stored::Versions::decode(value.expose()).map_err(|_| PlanError::Malformed),
        None => Ok(stored::Versions::default()),
    }
}

/// Plans that this version has led; `None` when that is known.
pub(crate) fn note(records: &Records, software: &Software, now: Timestamp) -> Result<Option<Plan>, PlanError> {
    let record = records.view.read(&name())?;
    let mut versions = decode(record.value)?.versions;
    if versions.iter().any(|known| known.version == software.version) {
        return Ok(None);
    }
    versions.push(stored::Version { version: software.version.clone(), source_date: software.source_date.clone(), led_ms: now.0 });
    versions.drain(..versions.len().saturating_sub(VERSIONS_MAX));
    let mut plan = Plan::new();
    plan.expect(name(), record.revision);
    plan.put(name(), SecretBytes::from(stored::Versions { versions }.encode_to_vec()));
    Ok(Some(plan))
}

fn list(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| {
        let versions = decode(scope.records.view.read(&name())?.value)?.versions;
        let mut previous = Value::Null;
        let mut shown = Map::new();
        for known in &versions {
            let since = shown_time(Timestamp(known.led_ms));
            let date = &known.source_date;
            let info = json!({ "previous_version": previous, "timestamp_installed": since, "build_date": date, "commit_date": date });
            shown.insert(known.version.clone(), info);
            previous = json!(known.version);
        }
        let keys: Vec<&str> = versions.iter().map(|known| known.version.as_str()).collect();
        Ok(Outcome::data(&json!({ "keys": keys, "key_info": shown })))
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::World;

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_version_is_remembered_from_when_it_first_led() {
        let world = World::new(1);
        let note = |version: &str, at: u64| {
            let records = Records::new(world.barrier.view(), Arc::default());
            let software = Software { version: version.to_owned(), source_date: String::new() };
            let plan = note(&records, &software, Timestamp(at)).unwrap();
            plan.is_some_and(|plan| world.barrier.commit(&records.view, &plan))
        };
        assert_eq!([note("0.1.0", 1_000), note("0.1.0", 2_000), note("0.2.0", 3_000), note("0.1.0", 4_000)], [true, false, true, false]);
        let shown = world.ask(Verb::List, "sys/version-history", Value::Null).await.unwrap();
        assert_eq!(shown["keys"], json!(["0.1.0", "0.2.0"]));
        assert_eq!(shown["key_info"]["0.1.0"]["timestamp_installed"], "1970-01-01T00:00:01Z");
        assert_eq!(shown["key_info"]["0.1.0"]["previous_version"], Value::Null);
        assert_eq!(shown["key_info"]["0.2.0"]["previous_version"], "0.1.0");
        for at in 0..VERSIONS_MAX {
            assert!(note(&format!("1.0.{at}"), 5_000));
        }
        let shown = world.ask(Verb::List, "sys/version-history", Value::Null).await.unwrap();
        assert_eq!(shown["keys"].as_array().unwrap().len(), VERSIONS_MAX);
    }
}

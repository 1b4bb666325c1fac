//! `sys/storage/raft/check`: whether all replicas hold the same.

use barrier::{Barrier, ReplicaCheck};
use engine::AskError;
use engine::route::{Access, Method, Route};
use serde_json::{Value, json};
use types::capability::Verb;

use crate::backend::{Asked, Handler};
use crate::outcome::{Operation, Outcome, PlanError, Scope};

/// What may be asked.
pub(super) const ROUTES: &[Route<Handler>] = &[Route {
    pattern: "storage/raft/check",
    about: "Compares the state hashes of all replicas at one entry of the log. One that differs from the majority is rebuilt.",
    parameters: &[],
    methods: &[Method { verb: Verb::Write, summary: "Compares now.", fields: &[], query: &[], handler: check }],
    access: Access::Sudo,
}];

struct Check;

#[async_trait::async_trait]
impl Operation for Check {
    fn takes_turns(&self) -> bool {
        false
    }

    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        let barrier: &Barrier = scope.store.keys().ok_or_else(|| PlanError::Refused("this server is no member of a cluster".into()))?;
        Ok(Outcome::data(&shown(&barrier.check_replicas().await?)))
    }
}

fn check(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(Box::new(Check))
}

fn shown(check: &ReplicaCheck) -> Value {
    let members = check.members.iter().map(|member| {
        json!({
            "node_id": member.id.to_string(),
            "voter": member.voter,
            "applied": member.totals.map(|totals| totals.position.index.0),
            "keys": member.totals.map(|totals| totals.keys),
            "bytes": member.totals.map(|totals| totals.bytes),
            "hash": member.totals.map(|totals| totals.hash.to_string()),
            "equal": member.agrees,
        })
    });
    json!({
        "index": check.index.0,
        "equal": !check.is_divergent() && check.members.iter().all(|member| member.agrees == Some(true)),
        "divergent": check.is_divergent(),
        "members": members.collect::<Vec<_>>(),
    })
}

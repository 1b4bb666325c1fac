//! `sys/storage/raft/feature-level`: how far the cluster has been upgraded, and the step after which nobody can go back.

use barrier::{Barrier, LevelStatus, MemberLevels, RaiseError};
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use serde_json::{Value, json};
use types::FeatureLevel;
use types::capability::Verb;

use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, PlanError, Scope};

/// What may be asked.
pub(super) const ROUTES: &[Route<Handler>] = &[Route {
    pattern: "storage/raft/feature-level",
    about: "What the cluster may write: it rises once every member runs a release that reads it, and never falls.",
    parameters: &[],
    methods: &[
        Method { verb: Verb::Read, summary: "Shows the level, and what each member knows.", fields: &[], query: &[], handler: read },
        Method {
            verb: Verb::Write,
            summary: "Raises the level. Older releases start no more on any member's data.",
            fields: &[Field::optional("level", FieldKind::Integer, "Up to where; without it as far as every member knows.")],
            query: &[],
            handler: raise,
        },
    ],
    access: Access::Sudo,
}];

fn barrier<'a>(scope: &'a Scope<'_>) -> Result<&'a Barrier, PlanError> {
    scope.store.keys().ok_or_else(|| PlanError::Refused("this server is no member of a cluster".into()))
}

struct Read;

#[async_trait::async_trait]
impl Operation for Read {
    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        Ok(Outcome::data(&shown(&barrier(scope)?.level_status().await)))
    }
}

fn read(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(Box::new(Read))
}

struct Raise(Option<FeatureLevel>);

#[async_trait::async_trait]
impl Operation for Raise {
    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        let barrier = barrier(scope)?;
        barrier.raise_level(self.0).await.map_err(|error| match error {
            RaiseError::Commit(error) => PlanError::Commit(error),
            RaiseError::Silent(_) => PlanError::Unavailable(error.to_string()),
            RaiseError::NotInitialized | RaiseError::Unknown { .. } | RaiseError::Lower { .. } => PlanError::Refused(error.to_string()),
        })?;
        Ok(Outcome::data(&shown(&barrier.level_status().await)))
    }
}

fn raise(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let level = Fields::of(asked.ask)?.integer("level")?;
    let level = level.map(|level| u32::try_from(level).map(FeatureLevel)).transpose();
    let level = level.map_err(|_| AskError::Invalid("'level' is larger than any level".into()))?;
    if level == Some(FeatureLevel(0)) {
        return Err(AskError::Invalid("'level' begins at 1".into()));
    }
    Ok(Box::new(Raise(level)))
}

fn shown(status: &LevelStatus) -> Value {
    let member = |member: &MemberLevels| {
        json!({
            "node_id": member.node_id.to_string(),
            "voter": member.voter,
            "version": member.software,
            "level_min": member.levels.map(|levels| levels.min.0),
            "level_max": member.levels.map(|levels| levels.max.0),
        })
    };
    json!({
        "level": status.record.level.0,
        "raised_by_version": status.record.software,
        "level_common": status.common.map(|level| level.0),
        "members": status.members.iter().map(member).collect::<Vec<_>>(),
    })
}

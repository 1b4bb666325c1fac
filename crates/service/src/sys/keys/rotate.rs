//! `sys/rotate`, `sys/rotate/config`, `sys/key-status`: the key that encrypts what is written now.

use std::time::Duration;

use barrier::{Barrier, CommitError, Plan, RotateError, RotationPolicy};
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use serde_json::json;
use types::capability::Verb;

use super::{acting, barrier, caller_name, internal, method, route};
use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, PlanError, Scope};
use crate::request::Answer;
use crate::token;

/// How often a rotation is tried again when somebody else changed the keys meanwhile.
const ATTEMPTS_MAX: u32 = 8;

const ROTATE: &[Method<Handler>] = &[method(Verb::Write, "Draws a new key, which encrypts from now on.", &[], rotate)];
const ROTATE_ABOUT: &str = "The key that encrypts what is written: a new one. What older ones have encrypted they still open.";

/// What may be asked.
pub(super) const ROUTES: &[Route<Handler>] = &[
    route("rotate", ROTATE_ABOUT, ROTATE, Access::Sudo),
    route("rotate/keyring", ROTATE_ABOUT, ROTATE, Access::Sudo),
    route(
        "rotate/config",
        "When the key that encrypts is renewed without anybody asking.",
        &[
            method(Verb::Read, "Shows the settings.", &[], read_config),
            method(
                Verb::Write,
                "Changes the settings; what is left out stays.",
                &[
                    Field::optional("enabled", FieldKind::Boolean, "Whether it is renewed before it must be."),
                    Field::optional("max_operations", FieldKind::Integer, "After so many encryptions in the whole cluster."),
                    Field::optional("interval", FieldKind::Duration, "After so long; 0: not by time; else at least 24h."),
                ],
                write_config,
            ),
        ],
        Access::Sudo,
    ),
    route(
        "key-status",
        "The key that encrypts what is written now.",
        &[method(Verb::Read, "Shows its version, since when it is there, and how often it was used at most.", &[], key_status)],
        Access::Token,
    ),
];

fn of_commit(error: CommitError) -> PlanError {
    match error {
        CommitError::Conflict => PlanError::Refused("somebody else changed the keys meanwhile: look at their state, and try again".into()),
        error => PlanError::Commit(error),
    }
}

fn rotate(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    acting((), |(), scope| {
        Box::pin(async move {
            let (barrier, by) = (barrier(scope)?, caller_name(scope)?);
            for _ in 1..ATTEMPTS_MAX {
                match barrier.rotate(&by).await {
                    Err(RotateError::Commit(CommitError::Conflict)) => {}
                    done => return rotated(done.map(drop)),
                }
            }
            rotated(barrier.rotate(&by).await.map(drop))
        })
    })
}

fn rotated(done: Result<(), RotateError>) -> Result<Outcome, PlanError> {
    match done {
        Ok(()) => Ok(Outcome::answer(Answer::Done)),
        Err(RotateError::Commit(error)) => Err(of_commit(error)),
        Err(error @ RotateError::Keyring(_)) => Err(internal(&error)),
    }
}

fn read_config(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    acting((), |(), scope| {
        Box::pin(async move {
            let policy = barrier(scope)?.rotation_policy().await.map_err(of_commit)?;
            // As Vault: no interval is the number 0, another one a text.
            let interval = policy.interval.map_or(json!(0), |interval| json!(types::duration::print_go(interval)));
            Ok(Outcome::data(&json!({
                "enabled": policy.enabled,
                "max_operations": policy.operations_max,
                "interval": interval,
            })))
        })
    })
}

struct Config {
    enabled: Option<bool>,
    operations_max: Option<u64>,
    interval: Option<Duration>,
}

fn write_config(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let config = Config {
        enabled: fields.boolean("enabled")?,
        operations_max: fields.integer("max_operations")?,
        interval: fields.duration("interval")?,
    };
    acting(config, |config, scope| Box::pin(config.write(scope)))
}

impl Config {
    async fn write(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        let known = barrier(scope)?.rotation_policy().await.map_err(of_commit)?;
        let policy = RotationPolicy {
            enabled: self.enabled.unwrap_or(known.enabled),
            operations_max: self.operations_max.unwrap_or(known.operations_max),
            interval: self.interval.map_or(known.interval, |interval| Some(interval).filter(|interval| !interval.is_zero())),
        };
        policy.check().map_err(|error| PlanError::Refused(error.to_string()))?;
        let mut plan = Plan::new();
        Barrier::plan_rotation_policy(&policy, &mut plan);
        Ok(Outcome::written(plan, Answer::Done))
    }
}

fn key_status(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    acting((), |(), scope| Box::pin(show_key_status(scope)))
}

async fn show_key_status(scope: &Scope<'_>) -> Result<Outcome, PlanError> {
    let newest = scope.records.view.with_keyring(barrier::Keyring::newest).ok_or(barrier::ViewError::Sealed)?;
    let mut shown = json!({ "term": newest.version, "install_time": token::time(newest.created.0) });
    if let Some(barrier) = scope.store.keys() {
        let newest = barrier.newest_key().await.map_err(of_commit)?;
        shown = json!({
            "term": newest.key.version,
            "install_time": token::time(newest.key.created.0),
            "encryptions": newest.encryptions,
        });
    }
    Ok(Outcome::data(&shown))
}

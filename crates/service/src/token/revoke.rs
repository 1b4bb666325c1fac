//! The end of a token before its time.
//!
//! Always: one batch removes the token's own records, and with that it and all its children are dead at once. What is left of the
//! children, its leases and its cubbyhole is a chore, planned in the same batch.

use std::sync::Arc;

use barrier::Plan;
use crypto::SecretBytes;
use engine::AskError;
use prost::Message;
use proto::stored;
use proto::stored::chore::Task;
use types::Timestamp;

use super::{Caller, issue, show};
use crate::backend::Asked;
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::request::Answer;
use crate::{due, records};

/// Plans the end of a token whose record was found with this content.
pub(crate) fn revoke(token: &stored::Token, reference: &stored::TokenParent, now: Timestamp, plan: &mut Plan) {
    issue::erase(token, &reference.namespace_id, &reference.tag, plan);
    plan_cleaning(reference, now, plan);
}

/// Plans the end of a token that is dead already. `leaves_something`: whether there is something to clean up.
pub(crate) fn end(token: &stored::Token, reference: &stored::TokenParent, leaves_something: bool, now: Timestamp, plan: &mut Plan) {
    issue::erase(token, &reference.namespace_id, &reference.tag, plan);
    if leaves_something {
        plan_cleaning(reference, now, plan);
    }
}

/// Plans the chore that removes what hangs on a token that has ended.
pub(crate) fn plan_cleaning(reference: &stored::TokenParent, at: Timestamp, plan: &mut Plan) {
    due::put(plan, at, &cleaning_id(reference), Task::RevokeChildren(reference.clone()));
}

fn cleaning_id(reference: &stored::TokenParent) -> String {
    format!("children-{}-{}", reference.namespace_id, hex::encode(&reference.tag))
}

/// Plans the end of a token whose children live on, without a parent. Its record stays, as a mark, until each of them was told.
fn revoke_and_orphan(token: &stored::Token, reference: &stored::TokenParent, now: Timestamp, plan: &mut Plan) {
    issue::erase(token, &reference.namespace_id, &reference.tag, plan);
    let mark = stored::Token { children_are_orphans: true, ..Default::default() };
    plan.put(records::token_name(&reference.namespace_id, &reference.tag), SecretBytes::from(mark.encode_to_vec()));
    let id = format!("orphans-{}-{}", reference.namespace_id, hex::encode(&reference.tag));
    due::put_now(plan, now, &id, Task::OrphanChildren(reference.clone()));
}

/// Revokes a token that was found; one that was not is revoked already.
fn revoked(scope: &Scope<'_>, found: Option<&Caller>) -> Result<Outcome, PlanError> {
    let Some(found) = found else { return Ok(Outcome::answer(Answer::Done)) };
    if found.token.batch {
        return Err(PlanError::Refused("batch tokens cannot be revoked".into()));
    }
    let mut plan = Plan::new();
    if !found.is_used_up() {
        found.expect(&mut plan);
        revoke(&found.token, &found.reference(), scope.now, &mut plan);
    }
    Ok(Outcome::written(plan, Answer::Done))
}

/// `revoke-self`.
pub(super) fn own(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| revoked(scope, Some(scope.caller()?))))
}

/// `revoke`.
pub(super) fn by_text(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let text = show::required_token(&Fields::of(asked.ask)?)?;
    Ok(planned(move |scope| revoked(scope, show::by_text(scope, &text)?.as_deref())))
}

/// `revoke-accessor`.
pub(super) fn by_accessor(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let accessor = show::required_accessor(&Fields::of(asked.ask)?)?;
    Ok(planned(move |scope| {
        let found = show::by_accessor(scope, &accessor)?;
        let mut outcome = revoked(scope, found.as_deref())?;
        if found.is_none() {
            outcome.warnings.push("No token found with this accessor".into());
        }
        Ok(outcome)
    }))
}

/// `revoke-orphan`.
pub(super) fn leaving_children(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let text = show::required_token(&Fields::of(asked.ask)?)?;
    Ok(planned(move |scope| {
        if !scope.is_sudo() {
            return Err(PlanError::Refused("root or sudo privileges required to revoke and orphan".into()));
        }
        let found: Arc<Caller> = show::by_text(scope, &text)?.ok_or_else(|| PlanError::Refused("token to revoke not found".into()))?;
        if found.token.batch {
            return Err(PlanError::Refused("batch tokens cannot be revoked".into()));
        }
        let mut plan = Plan::new();
        if !found.is_used_up() {
            found.expect(&mut plan);
            revoke_and_orphan(&found.token, &found.reference(), scope.now, &mut plan);
        }
        Ok(Outcome::written(plan, Answer::Done))
    }))
}

//! Finding a token that somebody asks for, and what is told of it: `lookup`, `lookup-self`, `lookup-accessor`, `accessors`, `tidy`.

use std::sync::Arc;

use barrier::Plan;
use crypto::{SecretBytes, Zeroizing};
use engine::AskError;
use jiff::Timestamp as Rfc3339;
use prost::Message;
use proto::stored;
use serde_json::{Value, json};
use types::Timestamp;

use super::{Caller, find, find_accessor};
use crate::backend::Asked;
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::records;
use crate::request::Answer;

/// Records that one tidy removes, at most.
const TIDIED_MAX: usize = 1_000;
/// After so many records a tidy lets others work.
const TIDY_STEP: usize = 256;

/// The member `token` of a body; it must be there.
pub(super) fn required_token(fields: &Fields) -> Result<Zeroizing<String>, AskError> {
    let text = fields.secret("token")?.filter(|text| !text.is_empty());
    text.ok_or_else(|| AskError::Invalid("missing token ID".into()))
}

/// The member `accessor` of a body; it must be there.
pub(super) fn required_accessor(fields: &Fields) -> Result<String, AskError> {
    let text = fields.text("accessor")?.filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| AskError::Invalid("missing accessor".into()))
}

/// A good token of the request's namespace, or of one inside it. `None`: there is none.
pub(super) fn by_text(scope: &Scope<'_>, text: &str) -> Result<Option<Arc<Caller>>, PlanError> {
    let found = find(&scope.records, &SecretBytes::from(text.as_bytes().to_vec()), scope.now)?;
    Ok(found.filter(|found| scope.namespace.contains(&found.namespace)).map(Arc::new))
}

/// As [`by_text`], by the accessor.
pub(super) fn by_accessor(scope: &Scope<'_>, accessor: &str) -> Result<Option<Arc<Caller>>, PlanError> {
    let found = find_accessor(&scope.records, accessor, scope.now)?;
    Ok(found.filter(|found| scope.namespace.contains(&found.namespace)).map(Arc::new))
}

/// A time in clients' form.
pub(crate) fn time(ms: u64) -> String {
    i64::try_from(ms).ok().and_then(|ms| Rfc3339::from_millisecond(ms).ok()).unwrap_or_default().to_string()
}

/// All that may be told of a token. Its text is told only to who has sent it.
fn shown(caller: &Caller, now: Timestamp) -> Value {
    let token = &*caller.token;
    let meta = if token.meta.is_empty() { None } else { Some(&token.meta) };
    // Vault's clients know: less than none are left.
    let uses = if caller.is_used_up() { json!(-1) } else { json!(token.uses_left) };
    let mut shown = json!({
        "accessor": token.accessor,
        "creation_time": token.created_ms / 1000,
        "creation_ttl": token.ttl_ms / 1000,
        "display_name": token.display_name,
        "entity_id": "",
        "expire_time": (token.expires_ms != 0).then(|| time(token.expires_ms)),
        "explicit_max_ttl": token.explicit_max_ttl_ms / 1000,
        // EXPOSE: the caller sent this token, and asks for what is known of it.
        "id": String::from_utf8_lossy(caller.text.expose()),
        "issue_time": time(token.created_ms),
        "meta": meta,
        "num_uses": uses,
        "orphan": token.orphan,
        "path": token.path,
        "policies": token.policies,
        "renewable": token.renewable,
        "ttl": token.expires_ms.saturating_sub(now.0) / 1000,
        "type": if token.batch { "batch" } else { "service" },
    });
    if token.renewed_ms != 0 {
        shown["last_renewal"] = json!(time(token.renewed_ms));
        shown["last_renewal_time"] = json!(token.renewed_ms / 1000);
    }
    if token.period_ms != 0 {
        shown["period"] = json!(token.period_ms / 1000);
    }
    if !token.role.is_empty() {
        shown["role"] = json!(token.role);
    }
    if !token.bound_cidrs.is_empty() {
        shown["bound_cidrs"] = json!(token.bound_cidrs);
    }
    if !caller.namespace.is_root() {
        shown["namespace_path"] = json!(caller.namespace.shown_path());
    }
    shown
}

/// `lookup-self`.
pub(super) fn own(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| Ok(Outcome::data(&shown(scope.caller()?, scope.now)))))
}

/// `lookup`: of the caller's own token when it names none.
pub(super) fn lookup(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let text = Fields::of(asked.ask)?.secret("token")?.filter(|text| !text.is_empty());
    Ok(planned(move |scope| {
        let found = match &text {
            Some(text) => by_text(scope, text)?.ok_or_else(|| PlanError::Forbidden("bad token".into()))?,
            None => Arc::clone(scope.caller()?),
        };
        Ok(Outcome::data(&shown(&found, scope.now)))
    }))
}

/// `lookup-accessor`.
pub(super) fn lookup_accessor(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let accessor = required_accessor(&Fields::of(asked.ask)?)?;
    Ok(planned(move |scope| {
        let found = by_accessor(scope, &accessor)?.ok_or_else(|| PlanError::Refused("invalid accessor".into()))?;
        Ok(Outcome::data(&shown(&found, scope.now)))
    }))
}

/// `accessors`.
pub(super) fn accessors(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| {
        let children = scope.records.view.children(&records::accessor_name(&scope.namespace.id, ""))?;
        Ok(Outcome::list(children.into_iter().map(|child| child.as_str().to_owned()).collect()))
    }))
}

struct Tidy;

#[async_trait::async_trait]
impl Operation for Tidy {
    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        let (view, namespace_id) = (&scope.records.view, &scope.namespace.id);
        let mut plan = Plan::new();
        let accessors = view.children(&records::accessor_name(namespace_id, ""))?;
        let checked = accessors.len();
        for (count, child) in accessors.into_iter().enumerate() {
            if count % TIDY_STEP == TIDY_STEP - 1 {
                tokio::task::yield_now().await;
            }
            if plan.len() == TIDIED_MAX {
                break;
            }
            let name = records::accessor_name(namespace_id, child.as_str());
            let found = view.read(&name)?;
            let Some(value) = found.value else { continue };
            // EXPOSE: the record is decoded.
            let record = stored::TokenAccessor::decode(value.expose()).map_err(|_| PlanError::Malformed)?;
            let token = records::token_name(namespace_id, &record.tag);
            if !view.contains(&token)? {
                plan.expect(name.clone(), found.revision);
                plan.expect(token, types::Revision::ABSENT);
                plan.delete(name);
            }
        }
        let warning = format!("Tidy operation finished: {checked} accessors checked, {} without a token removed.", plan.len());
        Ok(Outcome { warnings: vec![warning], ..Outcome::written(plan, Answer::Accepted) })
    }
}

/// `tidy`: tokens leave nothing behind, since all their records go in one batch; this looks whether that is so.
pub(super) fn tidy(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(Box::new(Tidy))
}

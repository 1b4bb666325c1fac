//! `sys/leases`: lookup, renewal and the end of leases, by id or by prefix; and those that cannot be undone. With the old paths beside it
//! (`sys/renew`, `sys/revoke` …).

use std::collections::BTreeMap;

use barrier::Plan;
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use proto::stored;
use proto::stored::chore::Task;
use proto::stored::lease::What;
use serde_json::json;
use types::capability::Verb;

use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::request::{Answer, Lease};
use crate::{due, lease, records, token};

/// Leases that one request revokes by their prefix; the others are a chore.
const REVOKED_MAX: usize = 200;
/// Chores that failed and are looked at, at most.
const FAILING_MAX: usize = 10_000;
/// Leases that one tidy looks at, and removes, at most.
const TIDY_CHECKED_MAX: usize = 100_000;
const TIDIED_MAX: usize = 1_000;
/// After so many records a tidy lets others work.
const TIDY_STEP: usize = 256;

const LEASE_ID: Field = Field::required("lease_id", FieldKind::Text, "The lease's id.");
const LEASE_ID_BODY: Field = Field::optional("lease_id", FieldKind::Text, "The lease's id, where the path has none.");
const URL_LEASE_ID: &[Field] = &[Field::required("url_lease_id", FieldKind::Text, "The lease's id. One in the body takes its place.")];
const INCREMENT: Field = Field::optional(
    "increment",
    FieldKind::Duration,
    "How long the lease is to live from now on, within its bounds. Without it, as long as it was given last.",
);
const SYNC: Field = Field::optional(
    "sync",
    FieldKind::Boolean,
    "Taken for compatibility: a token ends before the answer in any case, and what an engine has made outside is undone right after.",
);
const PREFIX: &[Field] = &[Field::required("prefix", FieldKind::Text, "What their ids begin with: whole segments.")];
const KIND: Field =
    Field::optional("type", FieldKind::Text, "Which leases: irrevocable, the default, are those that could not be undone yet.");
const INSIDE: Field = Field::optional("include_child_namespaces", FieldKind::Boolean, "Those of the namespaces inside this one too.");
const LIMIT: Field = Field::optional("limit", FieldKind::Text, "How many to show, or none for as many as there are. 10000 without it.");

const fn write(summary: &'static str, fields: &'static [Field], handler: Handler) -> Method<Handler> {
    Method { verb: Verb::Write, summary, fields, query: &[], handler }
}

const fn route(
    pattern: &'static str,
    about: &'static str,
    parameters: &'static [Field],
    methods: &'static [Method<Handler>],
    access: Access,
) -> Route<Handler> {
    Route { pattern, about, parameters, methods, access }
}

const RENEW: &[Method<Handler>] = &[write("Renews the lease.", &[LEASE_ID_BODY, INCREMENT], renew)];
const REVOKE: &[Method<Handler>] = &[write("Revokes the lease, and the token that it stands for.", &[LEASE_ID_BODY, SYNC], revoke)];
const REVOKE_PREFIX: &[Method<Handler>] = &[write("Revokes all of them.", &[SYNC], revoke_prefix)];
const REVOKE_FORCE: &[Method<Handler>] = &[write("Revokes all of them, and forgets those that cannot be undone.", &[], revoke_force)];

/// What may be asked of leases.
pub(super) const ROUTES: &[Route<Handler>] = &[
    route(
        "leases",
        "Leases that could not be undone yet.",
        &[],
        &[Method {
            verb: Verb::Read,
            summary: "Shows them, and why not.",
            fields: &[],
            query: &[KIND, INSIDE, LIMIT],
            handler: irrevocable,
        }],
        Access::Token,
    ),
    route(
        "leases/count",
        "How many leases could not be undone yet.",
        &[],
        &[Method { verb: Verb::Read, summary: "Counts them, by mount.", fields: &[], query: &[KIND, INSIDE], handler: count }],
        Access::Token,
    ),
    route(
        "leases/lookup",
        "Leases.",
        &[],
        &[
            write("Shows a lease.", &[LEASE_ID], lookup),
            Method {
                verb: Verb::List,
                summary: "Lists the first segments of all ids. Needs sudo.",
                fields: &[],
                query: &[],
                handler: list,
            },
        ],
        Access::Token,
    ),
    route(
        "leases/lookup/{prefix...}",
        "Leases whose ids begin alike.",
        PREFIX,
        &[Method { verb: Verb::List, summary: "Lists the segments that follow.", fields: &[], query: &[], handler: list }],
        Access::Sudo,
    ),
    route("leases/renew", "A later end for a lease.", &[], RENEW, Access::Token),
    route("leases/renew/{url_lease_id...}", "A later end for a lease.", URL_LEASE_ID, RENEW, Access::Token),
    route("renew", "A later end for a lease: the old path.", &[], RENEW, Access::Token),
    route("renew/{url_lease_id...}", "A later end for a lease: the old path.", URL_LEASE_ID, RENEW, Access::Token),
    route("leases/revoke", "The end of a lease.", &[], REVOKE, Access::Token),
    route("leases/revoke/{url_lease_id...}", "The end of a lease.", URL_LEASE_ID, REVOKE, Access::Token),
    route("revoke", "The end of a lease: the old path.", &[], REVOKE, Access::Token),
    route("revoke/{url_lease_id...}", "The end of a lease: the old path.", URL_LEASE_ID, REVOKE, Access::Token),
    route("leases/revoke-prefix/{prefix...}", "The end of all leases whose ids begin alike.", PREFIX, REVOKE_PREFIX, Access::Sudo),
    route("revoke-prefix/{prefix...}", "The end of all leases whose ids begin alike: the old path.", PREFIX, REVOKE_PREFIX, Access::Sudo),
    route("leases/revoke-force/{prefix...}", "The end of leases that cannot be undone.", PREFIX, REVOKE_FORCE, Access::Sudo),
    route("revoke-force/{prefix...}", "The end of leases that cannot be undone: the old path.", PREFIX, REVOKE_FORCE, Access::Sudo),
    route(
        "leases/tidy",
        "What is left of leases that have ended.",
        &[],
        &[write("Looks for such records, and removes them.", &[], tidy)],
        Access::Sudo,
    ),
];

/// The id of a lease, from the body or the path. It must be one that records can have.
fn id_of(asked: &Asked<'_>, fields: &Fields) -> Result<String, AskError> {
    let invalid = |text: &str| AskError::Invalid(text.into());
    let named = fields.text("lease_id")?.filter(|id| !id.is_empty()).or_else(|| asked.captures.get("url_lease_id"));
    let id = named.ok_or_else(|| invalid("lease_id must be specified"))?.trim_matches('/');
    if id.len() > lease::ID_BYTES_MAX {
        return Err(AskError::Invalid(format!("lease_id is longer than {} bytes", lease::ID_BYTES_MAX)));
    }
    types::Path::parse(id).map_err(|_| invalid("lease_id is no path"))?;
    Ok(id.to_owned())
}

fn reference(scope: &Scope<'_>, lease_id: &str, force: bool) -> stored::LeaseReference {
    stored::LeaseReference { namespace_id: scope.namespace.id.clone(), lease_id: lease_id.to_owned(), at_once: false, force }
}

fn lookup(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let id = id_of(asked, &Fields::of(asked.ask)?)?;
    Ok(planned(move |scope| {
        let invalid = || PlanError::Refused("invalid lease".into());
        let found = lease::find(&scope.records, &scope.namespace.id, &id)?.ok_or_else(invalid)?;
        let (created, renewed, expires, renewable) = match &found.what {
            What::TokenTag(tag) => {
                let token = scope.records.token(&scope.namespace.id, tag)?.value.ok_or_else(invalid)?;
                (token.created_ms, token.renewed_ms, token.expires_ms, token.renewable)
            }
            What::Secret(secret) => (secret.created_ms, secret.renewed_ms, secret.expires_ms, secret.renewable),
        };
        if scope.now.0 >= expires {
            return Err(invalid());
        }
        let path = id.rsplit_once('/').map_or(id.as_str(), |(path, _)| path);
        Ok(Outcome::data(&json!({
            "id": id,
            "path": path,
            "issue_time": token::time(created),
            "expire_time": token::time(expires),
            "last_renewal": (renewed != 0).then(|| token::time(renewed)),
            "renewable": renewable,
            "ttl": (expires - scope.now.0) / 1000,
        })))
    }))
}

fn list(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let prefix = asked.captures.get("prefix").unwrap_or_default().to_owned();
    Ok(planned(move |scope| {
        // Beside it, and on the same path, lies the lookup of one lease, which needs no sudo.
        if !scope.is_sudo() {
            return Err(PlanError::Denied);
        }
        let children = scope.records.view.children(&records::lease_name(&scope.namespace.id, &prefix))?;
        Ok(Outcome::list(children.into_iter().map(|child| child.as_str().to_owned()).collect()))
    }))
}

fn renew(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let (id, increment) = (id_of(asked, &fields)?, fields.duration("increment")?.unwrap_or_default());
    Ok(planned(move |scope| {
        let not_found = || PlanError::Refused("lease not found".into());
        let found = lease::find(&scope.records, &scope.namespace.id, &id)?.ok_or_else(not_found)?;
        let What::Secret(secret) = &found.what else {
            return Err(PlanError::Refused("tokens cannot be renewed through this endpoint (use auth/token/renew)".into()));
        };
        let mounts = scope.records.mounts(&scope.namespace)?;
        let mount = mounts.iter().find(|mount| mount.accessor == secret.mount_accessor).ok_or_else(not_found)?;
        let (_, mount_max) = mount.lease_ttls(scope.settings);
        let mut plan = Plan::new();
        let of = lease::Renewal { reference: reference(scope, &id, false), secret, revision: found.revision, increment, mount_max };
        let life = lease::renew(&of, scope.now, &mut plan)?;
        let shown = Lease { id: id.clone(), duration: life.ttl, renewable: true };
        let answer = Answer::Leased(engine::json(&serde_json::Value::Null), shown);
        Ok(Outcome { warnings: life.warning.into_iter().collect(), ..Outcome::written(plan, answer) })
    }))
}

fn revoke(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    fields.boolean("sync")?;
    let id = id_of(asked, &fields)?;
    Ok(planned(move |scope| {
        let mut plan = Plan::new();
        // One that is not there is revoked already.
        if let Some(found) = lease::find(&scope.records, &scope.namespace.id, &id)? {
            lease::revoke(&scope.records, &reference(scope, &id, false), found, scope.now, &mut plan)?;
        }
        Ok(Outcome::written(plan, Answer::Done))
    }))
}

/// Revokes what fits into one batch; with more than that, a chore goes on, planned in the same batch.
fn revoke_below(scope: &Scope<'_>, prefix: &str, force: bool) -> Result<Outcome, PlanError> {
    let mut plan = Plan::new();
    let reference = reference(scope, prefix, force);
    let is_more = lease::revoke_below(&scope.records, &reference, REVOKED_MAX, scope.now, &mut plan)?;
    let mut outcome = Outcome::written(plan, Answer::Done);
    if is_more {
        let id = format!("prefix-{}-{}", scope.request.id, u8::from(force));
        due::put_now(&mut outcome.plan, scope.now, &id, Task::RevokePrefix(reference));
        outcome.warnings.push(format!("The first {REVOKED_MAX} leases were revoked; the others are being revoked now."));
    }
    Ok(outcome)
}

fn revoke_prefix(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Fields::of(asked.ask)?.boolean("sync")?;
    let prefix = asked.captures.text("prefix").to_owned();
    Ok(planned(move |scope| revoke_below(scope, &prefix, false)))
}

fn revoke_force(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let prefix = asked.captures.text("prefix").to_owned();
    Ok(planned(move |scope| revoke_below(scope, &prefix, true)))
}

/// A lease that could not be undone yet.
struct Irrevocable {
    lease_id: String,
    mount_accessor: String,
    error: String,
}

/// Those of the request's namespace, and with `is_inside` of those inside it.
fn irrevocables(scope: &Scope<'_>, is_inside: bool) -> Result<Vec<Irrevocable>, PlanError> {
    let mut found = Vec::new();
    for chore in due::failing(&scope.records.view, FAILING_MAX)? {
        let Some(Task::RevokeLease(reference)) = chore.task else { continue };
        let is_meant = reference.namespace_id == scope.namespace.id
            || is_inside && scope.records.namespace_by_id(&reference.namespace_id)?.is_some_and(|other| scope.namespace.contains(&other));
        if !is_meant {
            continue;
        }
        if let Some((secret, _)) = lease::find_ended(&scope.records, &reference.namespace_id, &reference.lease_id)? {
            let (lease_id, mount_accessor) = (reference.lease_id, secret.mount_accessor);
            found.push(Irrevocable { lease_id, mount_accessor, error: chore.last_error });
        }
    }
    Ok(found)
}

/// Which leases are asked for: so far only one kind can be.
fn asked_kind(fields: &Fields) -> Result<bool, AskError> {
    match fields.text("type")? {
        None | Some("" | "irrevocable") => Ok(fields.boolean("include_child_namespaces")?.unwrap_or_default()),
        Some(_) => Err(AskError::Invalid("type must be irrevocable, or be left out".into())),
    }
}

fn irrevocable(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let is_inside = asked_kind(&fields)?;
    let limit = match fields.text("limit")? {
        None | Some("" | "none") => FAILING_MAX,
        Some(text) => text.parse().map_err(|_| AskError::Invalid("limit must be a whole number, or none".into()))?,
    };
    Ok(planned(move |scope| {
        let found = irrevocables(scope, is_inside)?;
        let shown: Vec<_> = found
            .iter()
            .take(limit)
            .map(|lease| json!({ "lease_id": lease.lease_id, "mount_id": lease.mount_accessor, "error": lease.error }))
            .collect();
        Ok(Outcome::data(&json!({ "lease_count": found.len(), "leases": shown })))
    }))
}

fn count(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let is_inside = asked_kind(&Fields::of(asked.ask)?)?;
    Ok(planned(move |scope| {
        let found = irrevocables(scope, is_inside)?;
        let mut counts = BTreeMap::<&str, u64>::new();
        for lease in &found {
            *counts.entry(&lease.mount_accessor).or_default() += 1;
        }
        Ok(Outcome::data(&json!({ "lease_count": found.len(), "counts": counts })))
    }))
}

struct Tidy;

#[async_trait::async_trait]
impl Operation for Tidy {
    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        let namespace_id = &scope.namespace.id;
        let names = scope.records.view.names_below(&records::lease_name(namespace_id, ""), TIDY_CHECKED_MAX)?;
        let mut plan = Plan::new();
        let mut removed = 0;
        for (count, name) in names.iter().enumerate() {
            if count % TIDY_STEP == TIDY_STEP - 1 {
                tokio::task::yield_now().await;
            }
            if removed == TIDIED_MAX {
                break;
            }
            let Some(found) = lease::find(&scope.records, namespace_id, name.as_str())? else { continue };
            if let What::TokenTag(tag) = &found.what
                && !scope.records.view.contains(&records::token_name(namespace_id, tag))?
            {
                lease::revoke(&scope.records, &reference(scope, name.as_str(), false), found, scope.now, &mut plan)?;
                removed += 1;
            }
        }
        let warning = format!("Tidy operation finished: {} leases checked, {removed} without a token removed.", names.len());
        Ok(Outcome { warnings: vec![warning], ..Outcome::written(plan, Answer::Accepted) })
    }
}

/// Leases leave nothing behind, since all records of one go in one batch; this looks whether that is so.
fn tidy(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(Box::new(Tidy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
    }
}

//! Making a token: from what a login or a creator asks for, to the records of it.

use std::time::Duration;

use barrier::{Plan, ViewError};
use crypto::{SecretBytes, Zeroizing};
use prost::Message;
use proto::stored;
use proto::stored::chore::Task;
use types::Timestamp;

use super::{ANCESTORS_MAX, SERVICE_PREFIX, TOKEN_CHARS, batch, generate_text};
use crate::due;
use crate::outcome::{Grant, PlanError, Scope};
use crate::records;
use crate::request::Auth;
use crate::ttl::{self, Bounds};

/// Policies of one token, at most.
const POLICIES_MAX: usize = 256;

/// Makes the token that `grant` asks for: plans its records, and answers it with what its maker may know of it. What the maker should
/// be told is added to `warnings`.
pub(crate) fn issue(scope: &Scope<'_>, grant: &Grant, plan: &mut Plan, warnings: &mut Vec<String>) -> Result<Auth, PlanError> {
    let namespace = &scope.namespace;
    let policies = policies(&grant.policies, grant.no_default_policy)?;
    let is_root = policies.iter().any(|policy| policy == "root");
    let life = if grant.is_eternal {
        None
    } else {
        let life = ttl::grant(&bounds(scope, grant), scope.now, scope.now)
            .map_err(|_| PlanError::Refused("the TTL is less than a second".into()))?;
        warnings.extend(life.warning.clone());
        Some(life)
    };
    if grant.parent.as_ref().is_some_and(|parent| parent.grounds.len() >= ANCESTORS_MAX) {
        return Err(PlanError::Refused(format!("the token's parent has {ANCESTORS_MAX} ancestors, which is the limit (make an orphan)")));
    }

    let suffix = if namespace.is_root() { String::new() } else { format!(".{}", namespace.id) };
    let mut token = stored::Token {
        accessor: String::new(),
        policies,
        display_name: grant.display_name.clone(),
        created_ms: scope.now.0,
        ttl_ms: life.as_ref().map_or(0, |life| millis(life.ttl)),
        path: if grant.path.is_empty() { scope.request.path.as_str().to_owned() } else { grant.path.clone() },
        orphan: grant.parent.is_none(),
        meta: grant.meta.clone().into_iter().collect(),
        expires_ms: life.as_ref().map_or(0, |life| life.expires.0),
        renewed_ms: 0,
        renewable: grant.renewable && !grant.is_batch && !is_eternal_root(grant, is_root),
        period_ms: millis(grant.period),
        explicit_max_ttl_ms: millis(grant.explicit_max_ttl),
        max_ttl_ms: millis(grant.max_ttl),
        uses_left: grant.uses,
        role: grant.role.clone(),
        parent: grant.parent.as_ref().map(|parent| parent.reference()),
        bound_cidrs: grant.bound_cidrs.clone(),
        mount_accessor: if grant.is_of_no_mount { String::new() } else { scope.mount.accessor.clone() },
        namespace_id: String::new(),
        internal: grant.internal.clone().into_iter().collect(),
        batch: grant.is_batch,
        children_are_orphans: false,
    };
    if grant.is_batch {
        // Nobody renews it or counts its uses.
        let known_by_record = grant.uses != 0 || !grant.period.is_zero() || grant.text.is_some() || grant.is_eternal;
        if known_by_record {
            return Err(PlanError::Refused(
                "a batch token has neither uses, a period nor an ID of its own, and ends (make a service token)".into(),
            ));
        }
        token.namespace_id.clone_from(&namespace.id);
        token.internal.clear();
        let text = batch::seal(&scope.records.view, &token, scope.rng)?;
        return Ok(Auth::of(SecretBytes::from(text.as_bytes().to_vec()), &token));
    }
    token.accessor = generate_text("", TOKEN_CHARS, &suffix, scope.rng).to_string();
    let text = match &grant.text {
        Some(text) => Zeroizing::new(format!("{}{suffix}", text.as_str())),
        None => generate_text(SERVICE_PREFIX, TOKEN_CHARS, &suffix, scope.rng),
    };
    let tag = scope.records.view.token_tag(text.as_bytes()).ok_or(ViewError::Sealed)?;
    if grant.text.is_some() {
        refuse_known(scope, &tag)?;
    }
    plan.expect(records::token_name(&namespace.id, &tag), types::Revision::ABSENT);
    store(&token, &namespace.id, &tag, plan);
    Ok(Auth::of(SecretBytes::from(text.as_bytes().to_vec()), &token))
}

/// Refuses a text that a token has, or has had until so lately that something of it is left: the new one would inherit that.
fn refuse_known(scope: &Scope<'_>, tag: &[u8; 32]) -> Result<(), PlanError> {
    let (view, id) = (&scope.records.view, &scope.namespace.id);
    if view.contains(&records::token_name(id, tag))? {
        return Err(PlanError::Refused("cannot create a token with a duplicate ID".into()));
    }
    for folder in [records::children_folder(id, tag), records::cubbyhole_folder(id, tag), records::token_leases_folder(id, tag)] {
        if !view.keys_below(&folder, 1)?.is_empty() {
            return Err(PlanError::Refused(
                "a token with this ID was revoked and is still being cleaned up (try again in a moment)".into(),
            ));
        }
    }
    Ok(())
}

fn is_eternal_root(grant: &Grant, is_root: bool) -> bool {
    grant.is_eternal && is_root
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The bounds of a new token of this grant.
fn bounds(scope: &Scope<'_>, grant: &Grant) -> Bounds {
    let (default, mount_max) = if grant.is_of_no_mount { (grant.ttl, Duration::ZERO) } else { scope.mount.lease_ttls(scope.settings) };
    Bounds { asked: grant.ttl, default, mount_max, max: grant.max_ttl, explicit_max: grant.explicit_max_ttl, period: grant.period }
}

/// Policies as a token carries them: lower case, each once, sorted, with `default` unless left out; `root` stands alone.
fn policies(asked: &[String], no_default: bool) -> Result<Vec<String>, PlanError> {
    let mut policies: Vec<String> = asked.iter().map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty()).collect();
    if policies.iter().any(|name| name == "root") {
        return Ok(vec!["root".into()]);
    }
    if !no_default {
        policies.push("default".into());
    }
    policies.sort();
    policies.dedup();
    if policies.len() > POLICIES_MAX {
        return Err(PlanError::Refused(format!("a token has at most {POLICIES_MAX} policies")));
    }
    Ok(policies)
}

/// Plans the records of a token: itself, its accessor, its lease, its end, and its parent's knowledge of it.
pub(super) fn store(token: &stored::Token, namespace_id: &str, tag: &[u8], plan: &mut Plan) {
    let put = |plan: &mut Plan, name, message: Vec<u8>| plan.put(name, SecretBytes::from(message));
    put(plan, records::token_name(namespace_id, tag), token.encode_to_vec());
    let accessor = stored::TokenAccessor { tag: tag.to_vec() };
    put(plan, records::accessor_name(namespace_id, &token.accessor), accessor.encode_to_vec());
    if let Some(parent) = &token.parent {
        put(plan, records::child_name(parent, namespace_id, tag), Vec::new());
    }
    if token.expires_ms != 0 {
        let lease = stored::Lease { what: Some(stored::lease::What::TokenTag(tag.to_vec())) };
        put(plan, records::lease_name(namespace_id, &lease_id(token, tag)), lease.encode_to_vec());
        plan_end(token, namespace_id, tag, plan);
    }
}

/// Plans the end of a token: nothing of [`store`] is left.
pub(super) fn erase(token: &stored::Token, namespace_id: &str, tag: &[u8], plan: &mut Plan) {
    plan.delete(records::token_name(namespace_id, tag));
    plan.delete(records::accessor_name(namespace_id, &token.accessor));
    if let Some(parent) = &token.parent {
        plan.delete(records::child_name(parent, namespace_id, tag));
    }
    if token.expires_ms != 0 {
        plan.delete(records::lease_name(namespace_id, &lease_id(token, tag)));
        due::remove(plan, Timestamp(token.expires_ms), &due_id(namespace_id, tag));
    }
}

/// Plans another end for a token that was renewed.
pub(super) fn move_end(old: &stored::Token, new: &stored::Token, namespace_id: &str, tag: &[u8], plan: &mut Plan) {
    due::remove(plan, Timestamp(old.expires_ms), &due_id(namespace_id, tag));
    plan_end(new, namespace_id, tag, plan);
}

fn plan_end(token: &stored::Token, namespace_id: &str, tag: &[u8], plan: &mut Plan) {
    let end = Task::ExpireToken(stored::TokenParent { namespace_id: namespace_id.to_owned(), tag: tag.to_vec() });
    due::put(plan, Timestamp(token.expires_ms), &due_id(namespace_id, tag), end);
}

/// The id of a token's lease: the path that made it, and a name that does not tell the token.
pub(crate) fn lease_id(token: &stored::Token, tag: &[u8]) -> String {
    format!("{}/h{}", token.path, hex::encode(tag))
}

/// How a token is named among what is due.
fn due_id(namespace_id: &str, tag: &[u8]) -> String {
    format!("token-{namespace_id}-{}", hex::encode(tag))
}

//! Making a token: from what a login or a creator asks for, to the records of it.

use std::time::Duration;

use barrier::{Plan, ViewError};
use crypto::SecretBytes;
use prost::Message;
use proto::stored;
use proto::stored::chore::Task;

use super::{ANCESTORS_MAX, SERVICE_PREFIX, TOKEN_CHARS, generate_text};
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
    let token = stored::Token {
        accessor: generate_text("", TOKEN_CHARS, &suffix, scope.rng).to_string(),
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
        mount_accessor: scope.mount.accessor.clone(),
        namespace_id: String::new(),
        internal: grant.internal.clone().into_iter().collect(),
        batch: false,
        children_are_orphans: false,
    };
    if grant.is_batch {
        return Err(PlanError::Refused("batch tokens are not available yet".into()));
    }
    let text = match &grant.text {
        Some(text) => text.clone(),
        None => generate_text(SERVICE_PREFIX, TOKEN_CHARS, &suffix, scope.rng),
    };
    let tag = scope.records.view.token_tag(text.as_bytes()).ok_or(ViewError::Sealed)?;
    plan.expect(records::token_name(&namespace.id, &tag), types::Revision::ABSENT);
    store(&token, &namespace.id, &tag, plan);
    Ok(Auth::of(SecretBytes::from(text.as_bytes().to_vec()), &token))
}

fn is_eternal_root(grant: &Grant, is_root: bool) -> bool {
    grant.is_eternal && is_root
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The bounds of a new token of this grant.
fn bounds(scope: &Scope<'_>, grant: &Grant) -> Bounds {
    let (default, mount_max) = scope.mount.lease_ttls(scope.settings);
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
pub(super) fn store(token: &stored::Token, namespace_id: &str, tag: &[u8; 32], plan: &mut Plan) {
    let put = |plan: &mut Plan, name, message: Vec<u8>| plan.put(name, SecretBytes::from(message));
    put(plan, records::token_name(namespace_id, tag), token.encode_to_vec());
    let accessor = stored::TokenAccessor { tag: tag.to_vec() };
    put(plan, records::accessor_name(namespace_id, &token.accessor), accessor.encode_to_vec());
    if let Some(parent) = &token.parent {
        put(plan, records::child_name(parent, namespace_id, tag), Vec::new());
    }
    if token.expires_ms != 0 {
        let lease = stored::Lease { token_tag: tag.to_vec() };
        put(plan, records::lease_name(namespace_id, &lease_id(token, tag)), lease.encode_to_vec());
        let end = Task::ExpireToken(stored::TokenParent { namespace_id: namespace_id.to_owned(), tag: tag.to_vec() });
        due::put(plan, types::Timestamp(token.expires_ms), &due_id(tag), end);
    }
}

/// Plans the end of a token: nothing of [`store`] is left.
pub(super) fn erase(token: &stored::Token, namespace_id: &str, tag: &[u8; 32], plan: &mut Plan) {
    plan.delete(records::token_name(namespace_id, tag));
    plan.delete(records::accessor_name(namespace_id, &token.accessor));
    if let Some(parent) = &token.parent {
        plan.delete(records::child_name(parent, namespace_id, tag));
    }
    if token.expires_ms != 0 {
        plan.delete(records::lease_name(namespace_id, &lease_id(token, tag)));
        due::remove(plan, types::Timestamp(token.expires_ms), &due_id(tag));
    }
}

/// The id of a token's lease: the path that made it, and a name that does not tell the token.
pub(crate) fn lease_id(token: &stored::Token, tag: &[u8; 32]) -> String {
    format!("{}/h{}", token.path, hex::encode(tag))
}

/// How a token is named among what is due.
fn due_id(tag: &[u8; 32]) -> String {
    format!("token-{}", hex::encode(tag))
}

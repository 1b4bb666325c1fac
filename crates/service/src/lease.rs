//! Leases: what ends by itself at a time, and can be renewed or revoked by its id until then.
//!
//! Always: a lease is a record, and what is to be done at its end is a chore, planned in the same batch. A lease of a token stands for the
//! token, whose record knows its times. A lease of an engine's secret holds what the engine needs to undo it outside; the record stays until
//! that is done, however often it fails, unless somebody forces it out. One that has ended is set aside, so that no list of leases shows it.

use std::time::Duration;

use barrier::{Name, Plan};
use crypto::SecretBytes;
use prost::Message;
use proto::stored;
use proto::stored::chore::Task;
use proto::stored::lease::What;
use types::{Revision, Timestamp};

use crate::outcome::PlanError;
use crate::records::{self, Records};
use crate::ttl::{self, Bounds, Life};
use crate::{due, token};

/// The longest id of a lease, in bytes.
pub(crate) const ID_BYTES_MAX: usize = 4096;

/// Undoes outside what an engine has made there. Called by the leader's chores, again and again until it succeeds: it must succeed for what
/// is undone already.
#[async_trait::async_trait]
pub(crate) trait Undo: Send + Sync {
    /// Undoes what the lease stands for. An error text for people, without secrets.
    async fn undo(&self, lease_id: &str, payload: &[u8]) -> Result<(), String>;
}

/// Finds who undoes the leases of a kind of mount.
pub(crate) type Undoers = fn(kind: &str) -> Option<&'static dyn Undo>;

/// Those of this service. No engine makes leases yet: those that do enter here.
pub(crate) fn undoers(_kind: &str) -> Option<&'static dyn Undo> {
    None
}

/// A lease that was found.
pub(crate) struct Found {
    pub(crate) what: What,
    pub(crate) revision: Revision,
}

/// The lease of an id, if there is one.
pub(crate) fn find(records: &Records, namespace_id: &str, id: &str) -> Result<Option<Found>, PlanError> {
    let found = records.view.read(&records::lease_name(namespace_id, id))?;
    let Some(value) = found.value else { return Ok(None) };
    // EXPOSE: the record is decoded.
    let lease = stored::Lease::decode(value.expose()).map_err(|_| PlanError::Malformed)?;
    Ok(Some(Found { what: lease.what.ok_or(PlanError::Malformed)?, revision: found.revision }))
}

/// How a lease is named among what is due: ids may be long.
fn due_id(namespace_id: &str, id: &str) -> String {
    format!("lease-{namespace_id}-{}", hex::encode(crypto::digest::sha256(id.as_bytes())))
}

/// Plans the end of a lease at once: a token's with the token; an engine's is set aside to be undone, as a chore.
pub(crate) fn revoke(
    records: &Records,
    reference: &stored::LeaseReference,
    found: Found,
    now: Timestamp,
    plan: &mut Plan,
) -> Result<(), PlanError> {
    let (namespace_id, id) = (&reference.namespace_id, &reference.lease_id);
    plan.expect(records::lease_name(namespace_id, id), found.revision);
    plan.delete(records::lease_name(namespace_id, id));
    match found.what {
        What::TokenTag(tag) => {
            let record = records.token(namespace_id, &tag)?;
            if let Some(token) = record.value {
                plan.expect(records::token_name(namespace_id, &tag), record.revision);
                token::revoke(&token, &stored::TokenParent { namespace_id: namespace_id.clone(), tag }, now, plan);
            }
        }
        What::Secret(secret) => {
            due::remove(plan, Timestamp(secret.expires_ms), &due_id(namespace_id, id));
            if let Some(token) = &secret.token {
                plan.delete(records::token_leases_folder(&token.namespace_id, &token.tag).join(id));
            }
            let lease = stored::Lease { what: Some(What::Secret(secret)) };
            plan.put(records::ended_lease_name(namespace_id, id), SecretBytes::from(lease.encode_to_vec()));
            plan_undoing(reference, now, plan);
        }
    }
    Ok(())
}

/// Plans the chore that has an engine undo a lease that was set aside.
fn plan_undoing(reference: &stored::LeaseReference, now: Timestamp, plan: &mut Plan) {
    let kind = if reference.force { "force" } else { "undo" };
    let id = format!("{kind}-{}", due_id(&reference.namespace_id, &reference.lease_id));
    due::put_now(plan, now, &id, Task::RevokeLease(stored::LeaseReference { at_once: true, ..reference.clone() }));
}

/// Plans the end of at most `limit` leases below a prefix. With `force`, those that could not be undone yet are forgotten too. True: there
/// may be more.
pub(crate) fn revoke_below(
    records: &Records,
    prefix: &stored::LeaseReference,
    limit: usize,
    now: Timestamp,
    plan: &mut Plan,
) -> Result<bool, PlanError> {
    let below = |name: &Name| {
        let lease_id = Name::new(&prefix.lease_id).join(name.as_str()).as_str().to_owned();
        stored::LeaseReference { lease_id, ..prefix.clone() }
    };
    let names = records.view.names_below(&records::lease_name(&prefix.namespace_id, &prefix.lease_id), limit)?;
    for reference in names.iter().map(below) {
        if let Some(found) = find(records, &reference.namespace_id, &reference.lease_id)? {
            revoke(records, &reference, found, now, plan)?;
        }
    }
    let mut is_more = names.len() == limit;
    if prefix.force {
        let ended = records.view.names_below(&records::ended_lease_name(&prefix.namespace_id, &prefix.lease_id), limit)?;
        ended.iter().map(below).for_each(|reference| plan_undoing(&reference, now, plan));
        is_more |= ended.len() == limit;
    }
    Ok(is_more)
}

/// An engine's lease that was set aside to be undone, if it was not undone yet.
pub(crate) fn find_ended(records: &Records, namespace_id: &str, id: &str) -> Result<Option<(stored::SecretLease, Revision)>, PlanError> {
    let found = records.view.read(&records::ended_lease_name(namespace_id, id))?;
    let Some(value) = found.value else { return Ok(None) };
    // EXPOSE: the record is decoded.
    match stored::Lease::decode(value.expose()).map_err(|_| PlanError::Malformed)?.what {
        Some(What::Secret(secret)) => Ok(Some((secret, found.revision))),
        _ => Err(PlanError::Malformed),
    }
}

/// Plans that nothing is left of a lease that was undone.
pub(crate) fn forget(namespace_id: &str, id: &str, revision: Revision, plan: &mut Plan) {
    plan.expect(records::ended_lease_name(namespace_id, id), revision);
    plan.delete(records::ended_lease_name(namespace_id, id));
}

/// A renewal that is asked for.
pub(crate) struct Renewal<'a> {
    pub(crate) reference: stored::LeaseReference,
    pub(crate) secret: &'a stored::SecretLease,
    /// Of the lease's record.
    pub(crate) revision: Revision,
    /// From now on; zero: as long as it was given last.
    pub(crate) increment: Duration,
    /// How long anything of its mount may live.
    pub(crate) mount_max: Duration,
}

/// Plans a later end for an engine's lease, within every bound. Answers how long it lives.
pub(crate) fn renew(renewal: &Renewal<'_>, now: Timestamp, plan: &mut Plan) -> Result<Life, PlanError> {
    let Renewal { reference, secret, revision, increment, mount_max } = renewal;
    if !secret.renewable || now.0 >= secret.expires_ms {
        return Err(PlanError::Refused("lease is not renewable".into()));
    }
    let made = Timestamp(secret.created_ms);
    let granted = Timestamp(secret.expires_ms).since(Timestamp(secret.created_ms.max(secret.renewed_ms)));
    // It does not outlive what it hangs on.
    let until = |bound_ms: u64| if bound_ms == 0 { Duration::ZERO } else { Timestamp(bound_ms).since(made) };
    let bounds = Bounds {
        asked: *increment,
        default: granted,
        mount_max: *mount_max,
        max: Duration::from_millis(secret.max_ttl_ms),
        explicit_max: until(secret.bound_ms),
        period: Duration::ZERO,
    };
    let life = ttl::grant(&bounds, made, now).map_err(|over| PlanError::Refused(over.to_string()))?;
    let (namespace_id, id) = (&reference.namespace_id, &reference.lease_id);
    let renewed = stored::SecretLease { expires_ms: life.expires.0, renewed_ms: now.0, ..(*secret).clone() };
    let lease = stored::Lease { what: Some(What::Secret(renewed)) };
    plan.expect(records::lease_name(namespace_id, id), *revision);
    plan.put(records::lease_name(namespace_id, id), SecretBytes::from(lease.encode_to_vec()));
    due::remove(plan, Timestamp(secret.expires_ms), &due_id(namespace_id, id));
    due::put(
        plan,
        life.expires,
        &due_id(namespace_id, id),
        Task::RevokeLease(stored::LeaseReference { at_once: false, ..reference.clone() }),
    );
    Ok(life)
}

/// Plans a new lease of an engine's secret: its record, its end, and its token's knowledge of it. No engine makes leases yet.
#[cfg(test)]
pub(crate) fn store(reference: &stored::LeaseReference, secret: stored::SecretLease, plan: &mut Plan) {
    let (namespace_id, id) = (&reference.namespace_id, &reference.lease_id);
    due::put(plan, Timestamp(secret.expires_ms), &due_id(namespace_id, id), Task::RevokeLease(reference.clone()));
    if let Some(token) = &secret.token {
        plan.put(
            records::token_leases_folder(&token.namespace_id, &token.tag).join(id),
            SecretBytes::from(namespace_id.as_bytes().to_vec()),
        );
    }
    let lease = stored::Lease { what: Some(What::Secret(secret)) };
    plan.put(records::lease_name(namespace_id, id), SecretBytes::from(lease.encode_to_vec()));
}

//! Purges: erasing what a mount or a namespace kept, once nobody can reach it any more.
//!
//! Always: a step is bounded, and finds out by what is still there how to go on; so a purge is resumed by whichever node leads, and ends
//! only when it has seen that nothing is left. What must be undone outside is waited for.

use barrier::{Name, Plan};
use prost::Message;
use proto::stored;
use proto::stored::chore::Task;
use proto::stored::lease::What;
use types::Timestamp;

use crate::chores::Step;
use crate::mount::MountTable;
use crate::namespace::Namespace;
use crate::outcome::PlanError;
use crate::records::{self, Records};
use crate::{lease, token};

/// Records that one step erases, at most.
const ERASED_MAX: usize = 1_000;
/// Tokens or leases that one step ends, at most.
const ENDED_MAX: usize = 200;
/// Leases that one step looks at, at most.
const LOOKED_AT_MAX: usize = 2_000;

/// Plans to erase what lies below a folder, at most `limit` records. Answers how many.
fn erase_below(records: &Records, folder: &Name, limit: usize, plan: &mut Plan) -> Result<usize, PlanError> {
    let keys = records.view.keys_below(folder, limit)?;
    let count = keys.len();
    keys.into_iter().for_each(|key| plan.erase(key));
    Ok(count)
}

/// A mount is gone: its records are erased.
pub(crate) fn mount(records: &Records, uuid: &str) -> Result<Step, PlanError> {
    let mut plan = Plan::new();
    let erased = erase_below(records, &Name::new("mount").join(uuid), ERASED_MAX, &mut plan)?;
    Ok(if erased == ERASED_MAX { Step::More(plan) } else { Step::Done(plan) })
}

/// A mount is gone: what it made ends. Leases below its path that another mount made, which has come there since, stay.
pub(crate) fn mount_leases(records: &Records, gone: &stored::GoneMount, now: Timestamp) -> Result<Step, PlanError> {
    let mut plan = Plan::new();
    let folder = records::lease_name(&gone.namespace_id, &gone.path);
    let after = (!gone.after.is_empty()).then(|| Name::new(&gone.after));
    let names = records.view.names_below_after(&folder, after.as_ref(), LOOKED_AT_MAX)?;
    let (mut ended, mut last) = (0, None);
    for name in &names {
        if ended == ENDED_MAX {
            break;
        }
        last = Some(name);
        let lease_id = Name::new(&gone.path).join(name.as_str()).as_str().to_owned();
        let Some(found) = lease::find(records, &gone.namespace_id, &lease_id)? else { continue };
        let maker = match &found.what {
            What::TokenTag(tag) => records.token(&gone.namespace_id, tag)?.value.map(|token| token.mount_accessor.clone()),
            What::Secret(secret) => Some(secret.mount_accessor.clone()),
        };
        // The lease of a token that is not there is nobody's.
        if maker.is_none_or(|accessor| accessor == gone.accessor) {
            let reference = stored::LeaseReference { namespace_id: gone.namespace_id.clone(), lease_id, at_once: false, force: false };
            lease::revoke(records, &reference, found, now, &mut plan)?;
            ended += 1;
        }
    }
    let is_last = names.len() < LOOKED_AT_MAX && last == names.last();
    match last.filter(|_| !is_last) {
        None => Ok(Step::Done(plan)),
        Some(last) => {
            let after = last.as_str().to_owned();
            Ok(Step::Next(plan, Task::EndMountLeases(stored::GoneMount { after, ..gone.clone() })))
        }
    }
}

/// A namespace is being deleted: its leases end, then its tokens, then all that its mounts and it itself kept is erased, and its own record
/// last.
pub(crate) fn namespace(records: &Records, id: &str, now: Timestamp) -> Result<Step, PlanError> {
    let mut plan = Plan::new();
    let everything = stored::LeaseReference { namespace_id: id.to_owned(), ..Default::default() };
    lease::revoke_below(records, &everything, ENDED_MAX, now, &mut plan)?;
    if plan.is_empty() {
        end_tokens(records, id, now, &mut plan)?;
    }
    if !plan.is_empty() {
        return Ok(Step::More(plan));
    }
    if !records.view.keys_below(&records::ended_lease_name(id, ""), 1)?.is_empty() {
        return Err(PlanError::Refused("leases of the namespace are still to be undone".into()));
    }
    let mut left = ERASED_MAX;
    if records.view.contains(&MountTable::name(id))? {
        for mount in MountTable::load(&records.view, id)?.iter() {
            left -= erase_below(records, &mount.root(), left, &mut plan)?;
            if left == 0 {
                return Ok(Step::More(plan));
            }
        }
    }
    // The table of mounts goes with the last of the mounts' records, not before.
    left -= erase_below(records, &records::of_namespace(id), left, &mut plan)?;
    if left == 0 {
        return Ok(Step::More(plan));
    }
    if let Some(namespace) = records.namespace_by_id(id)? {
        plan.delete(Namespace::name(&namespace.path));
    }
    plan.delete(Namespace::id_name(id));
    Ok(Step::Done(plan))
}

/// Plans the end of tokens that have no lease, so that no parent elsewhere keeps a record of them.
fn end_tokens(records: &Records, namespace_id: &str, now: Timestamp, plan: &mut Plan) -> Result<(), PlanError> {
    let folder = records::of_namespace(namespace_id).join("token");
    for name in records.view.names_below(&folder, ENDED_MAX)? {
        let found = records.view.read(&folder.join(name.as_str()))?;
        let Some(value) = found.value else { continue };
        // EXPOSE: the record is decoded.
        let token = stored::Token::decode(value.expose()).map_err(|_| PlanError::Malformed)?;
        let tag = hex::decode(name.as_str()).map_err(|_| PlanError::Malformed)?;
        token::end(&token, &stored::TokenParent { namespace_id: namespace_id.to_owned(), tag }, false, now, plan);
    }
    Ok(())
}

/// The next step of the upgrade of a KV mount to version 2; with the last one it serves again.
pub(crate) fn upgrade(records: &Records, reference: &stored::MountReference, now: Timestamp) -> Result<Step, PlanError> {
    let namespace_id = &reference.namespace_id;
    if !records.view.contains(&MountTable::name(namespace_id))? {
        return Ok(Step::Done(Plan::new()));
    }
    let table = MountTable::load(&records.view, namespace_id)?;
    let Some(mount) = table.iter().find(|mount| mount.uuid == reference.uuid) else { return Ok(Step::Done(Plan::new())) };
    let step = engine::kv::upgrade::step(&records.view.below(&mount.root()), now)?;
    let mut plan = step.plan.below(&mount.root());
    if !step.is_last {
        return Ok(Step::More(plan));
    }
    let mut upgraded = crate::mount::Mount::clone(mount);
    upgraded.upgrading = false;
    table.replacing(upgraded).store(namespace_id, &mut plan);
    Ok(Step::Done(plan))
}

//! Removing the records of secret ids that are over or whose role is gone. Nothing hangs on it: such a secret id is not good anyway, and
//! chores remove its records too; this is for who does not want to wait for them.

use std::collections::BTreeSet;

use barrier::Plan;
use engine::AskError;
use proto::stored::{AppRole, AppRoleAccessor, AppRoleSecretId};

use super::secret_id::is_good;
use super::secret_ids_folder;
use crate::auth::read;
use crate::backend::Asked;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::request::Answer;

/// Records that one call erases, at most (and a few more).
const ERASED_MAX: usize = 4_000;
/// Records that one call reads, at most.
const READ_MAX: usize = 50_000;

pub(super) fn tidy(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(plan))
}

fn plan(scope: &Scope<'_>) -> Result<Outcome, PlanError> {
    let (view, root) = (&scope.records.view, scope.mount.root());
    let mut roles = BTreeSet::new();
    for name in view.children(&root.join("role"))? {
        let (_, role) = read::<AppRole>(view, &root.join("role").join(name.as_str()))?;
        roles.extend(role.map(|role| role.id));
    }
    let mut plan = Plan::new();
    let mut is_all = true;
    for folder in ["secret-id", "accessor"] {
        let folder = root.join(folder);
        for child in view.children(&folder)?.iter().filter(|child| child.is_folder()) {
            let id = child.as_str().trim_end_matches('/');
            if !roles.contains(id) {
                let limit = ERASED_MAX.saturating_sub(plan.len());
                let keys = view.keys_below(&folder.join(id), limit + 1)?;
                is_all &= keys.len() <= limit;
                keys.into_iter().take(limit).for_each(|key| plan.erase(key));
            }
        }
    }
    // One role after another, from a random one on, so that each comes to its turn however many there are.
    let mut roles: Vec<String> = roles.into_iter().collect();
    let start = u64::from_le_bytes(crypto::rng::generate_bytes(scope.rng));
    let turn = usize::try_from(start % u64::try_from(roles.len().max(1)).unwrap_or(1)).unwrap_or(0);
    roles.rotate_left(turn);
    let mut reads = 0;
    for id in roles {
        let role = AppRole { id, ..AppRole::default() };
        let accessors = super::accessors_folder(&root, &role);
        for accessor in view.children(&accessors)? {
            if reads >= READ_MAX || plan.len() >= ERASED_MAX {
                is_all = false;
                break;
            }
            reads += 1;
            let accessor = accessors.join(accessor.as_str());
            let (_, stands_for) = read::<AppRoleAccessor>(view, &accessor)?;
            let Some(stands_for) = stands_for else { continue };
            let record = secret_ids_folder(&root, &role).join(&hex::encode(&stands_for.tag));
            let (revision, secret_id) = read::<AppRoleSecretId>(view, &record)?;
            if secret_id.is_none_or(|secret_id| !is_good(&secret_id, scope.now)) {
                plan.expect(record.clone(), revision);
                plan.delete(record);
                plan.delete(accessor);
            }
        }
    }
    let mut outcome = Outcome::written(plan, Answer::Done);
    outcome.warnings.push(if is_all {
        "Tidy operation done.".to_owned()
    } else {
        format!("so many records were removed that there may be more: call again (at most {ERASED_MAX} at once)")
    });
    Ok(outcome)
}

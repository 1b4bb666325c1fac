//! Logging in with role id and secret id.

use std::collections::BTreeMap;

use barrier::Plan;
use crypto::Zeroizing;
use engine::AskError;
use proto::stored::AppRole;

use super::ID_BYTES_MAX;
use super::role::by_role_id;
use super::secret_id::FoundSecretId;
use crate::auth::login::{Admitted, Attempt, admit};
use crate::auth::put;
use crate::backend::Asked;
use crate::body::Fields;
use crate::cidr;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};

/// What is said of a wrong role id and of a wrong secret id.
const INVALID: &str = "invalid role or secret ID";

struct Login {
    role_id: String,
    /// Empty when none came.
    secret_id: Zeroizing<String>,
}

pub(super) fn login(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let role_id = fields.text("role_id")?.filter(|text| !text.is_empty()).ok_or_else(|| AskError::Invalid("missing role_id".into()))?;
    let secret_id = fields.secret("secret_id")?.unwrap_or_default();
    if role_id.len() > ID_BYTES_MAX || secret_id.len() > ID_BYTES_MAX {
        // No role has such an id: no work is done to say so.
        return Ok(planned(|_| Err(PlanError::Refused(INVALID.into()))));
    }
    Ok(Box::new(Login { role_id: role_id.to_owned(), secret_id }))
}

#[async_trait::async_trait]
impl Operation for Login {
    /// All roles log in on one path, and each login writes a token of its own.
    fn takes_turns(&self) -> bool {
        false
    }

    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        let attempt = Attempt::begin(scope, &scope.logins.role_names, &self.role_id, INVALID)?;
        let found = by_role_id(scope, &self.role_id)?;
        // The same whether the role needs one or is not there at all.
        if self.secret_id.is_empty() && found.as_ref().is_none_or(|(_, found)| found.role.bind_secret_id) {
            return Err(PlanError::Refused("missing secret_id".into()));
        }
        let Some((name, found)) = found else {
            // The lookups of a role that is there, so that the answer comes no sooner.
            FoundSecretId::good(scope, &AppRole { id: "none".into(), ..AppRole::default() }, &self.secret_id)?;
            return Err(attempt.failed());
        };
        let role = &found.role;
        let secret_id = if role.bind_secret_id {
            Some(FoundSecretId::good(scope, role, &self.secret_id)?.ok_or_else(|| attempt.failed())?)
        } else {
            None
        };
        attempt.succeeded()?;

        // Who has the credentials may know why they do not help.
        let check = |blocks: &[String], whose: &str| {
            if cidr::allows(blocks, scope.request.remote) {
                return Ok(());
            }
            let source = cidr::of_caller(scope.request.remote).unwrap_or_else(|| "unknown".into());
            Err(PlanError::Refused(format!("source address \"{source}\" unauthorized by CIDR restrictions on the {whose}")))
        };
        check(&role.secret_id_bound_cidrs, "role")?;
        let mut meta = BTreeMap::new();
        let mut plan = Plan::new();
        let mut bound_cidrs: &[String] = &[];
        if let Some(secret_id) = &secret_id {
            check(&secret_id.secret_id.bound_cidrs, "secret ID")?;
            spend(scope, role, secret_id, &mut plan);
            meta.extend(secret_id.secret_id.metadata.clone());
            bound_cidrs = &secret_id.secret_id.token_bound_cidrs;
        }
        meta.insert("role_name".into(), name.as_str().to_owned());
        found.expect(&mut plan);
        let parameters = role.token.clone().unwrap_or_default();
        let internal = BTreeMap::from([("role_name".into(), name.as_str().to_owned()), ("role".into(), role.id.clone())]);
        let reply = admit(scope, Admitted { display_name: "", parameters: &parameters, bound_cidrs, meta, internal })?;
        Ok(Outcome { plan, reply, warnings: Vec::new() })
    }
}

/// Plans one use of a secret id: in the batch that makes the token, and only if nobody else uses or destroys it meanwhile.
fn spend(scope: &Scope<'_>, role: &AppRole, found: &FoundSecretId, plan: &mut Plan) {
    plan.expect(found.record.clone(), found.revision);
    match found.secret_id.uses_left {
        0 => {}
        1 => found.destroy(scope, role, plan),
        uses => {
            let mut secret_id = found.secret_id.clone();
            secret_id.uses_left = uses - 1;
            secret_id.updated_ms = scope.now.0;
            put(plan, found.record.clone(), &secret_id);
        }
    }
}

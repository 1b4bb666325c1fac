//! Renewal: a later end for a token, within every bound that holds for it.

use std::time::Duration;

use barrier::Plan;
use crypto::{SecretBytes, Zeroizing};
use engine::AskError;
use prost::Message;
use proto::stored;
use types::Timestamp;

use super::{Caller, issue, roles, show};
use crate::backend::{self, Asked};
use crate::body::Fields;
use crate::mount::Mount;
use crate::outcome::{Operation, Outcome, PlanError, Scope, Settings, planned};
use crate::records::{self, Records};
use crate::request::{Answer, Auth};
use crate::ttl::{self, Bounds, Over};

/// Asks the method that made a token how long it may live on, with nothing asked for; the plan gets what that hangs on. Refuses when what the
/// login was for is gone or has changed. It finds what it kept in the token's `internal`.
pub(crate) type RenewalCheck = fn(&Records, &Settings, &Mount, &stored::Token, &mut Plan) -> Result<Bounds, PlanError>;

fn not_renewable() -> PlanError {
    PlanError::Refused("lease is not renewable".into())
}

/// The stricter of two bounds, zero being none.
fn stricter(one: Duration, other: Duration) -> Duration {
    if one.is_zero() || other.is_zero() { one.max(other) } else { one.min(other) }
}

/// What bounds the next life of `token`.
fn bounds(scope: &Scope<'_>, found: &Caller, increment: Duration, plan: &mut Plan) -> Result<Bounds, PlanError> {
    let token = &*found.token;
    let mounts = scope.records.mounts(&found.namespace)?;
    let mount = mounts.iter().find(|mount| mount.accessor == token.mount_accessor);
    let (_, mount_max) = match mount {
        Some(mount) => mount.lease_ttls(scope.settings),
        None => (scope.settings.lease_ttl_default, scope.settings.lease_ttl_max),
    };
    let granted = Timestamp(token.expires_ms).since(Timestamp(token.created_ms.max(token.renewed_ms)));
    let ms = Duration::from_millis;
    let mut bounds = Bounds {
        asked: increment,
        // As long as it was given last.
        default: granted,
        mount_max,
        max: ms(token.max_ttl_ms),
        explicit_max: ms(token.explicit_max_ttl_ms),
        period: ms(token.period_ms),
    };
    if !token.role.is_empty() && mount.is_some_and(|mount| mount.kind == "token") {
        let (revision, role) = roles::load(&scope.records, &found.namespace.id, &token.role)?;
        roles::expect(&found.namespace.id, &token.role, revision, plan);
        let role =
            role.ok_or_else(|| PlanError::Refused(format!("original token role {:?} could not be found, not renewing", token.role)))?;
        bounds.period = ms(role.period_ms);
        bounds.explicit_max = stricter(bounds.explicit_max, ms(role.explicit_max_ttl_ms));
    }
    if let Some(mount) = mount
        && let Some(check) = backend::renewal(&mount.kind)
    {
        bounds = Bounds { asked: increment, ..check(&scope.records, scope.settings, mount, token, plan)? };
    }
    Ok(bounds)
}

/// Plans the renewal of a good token: what it is then, and its new life.
fn renewed(scope: &Scope<'_>, found: &Caller, increment: Duration) -> Result<Outcome, PlanError> {
    if found.token.batch {
        return Err(PlanError::Refused("batch tokens cannot be renewed".into()));
    }
    if found.is_used_up() {
        return Err(PlanError::Refused("token not found".into()));
    }
    if !found.token.renewable || found.token.expires_ms == 0 {
        return Err(not_renewable());
    }
    let mut plan = Plan::new();
    let life = ttl::grant(&bounds(scope, found, increment, &mut plan)?, Timestamp(found.token.created_ms), scope.now)
        .map_err(|over: Over| PlanError::Refused(over.to_string()))?;
    let token = stored::Token { expires_ms: life.expires.0, renewed_ms: scope.now.0, ..(*found.token).clone() };
    found.expect(&mut plan);
    plan.put(records::token_name(&found.namespace.id, &found.tag), SecretBytes::from(token.encode_to_vec()));
    issue::move_end(&found.token, &token, &found.namespace.id, &found.tag, &mut plan);
    let mut auth = Auth::of(super::copied(&found.text), &token);
    auth.ttl = life.ttl;
    Ok(Outcome { warnings: life.warning.into_iter().collect(), ..Outcome::written(plan, Answer::Auth(Box::new(auth))) })
}

fn increment(fields: &Fields) -> Result<Duration, AskError> {
    Ok(fields.duration("increment")?.unwrap_or_default())
}

/// `renew-self`.
pub(super) fn own(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let increment = increment(&Fields::of(asked.ask)?)?;
    Ok(planned(move |scope| renewed(scope, scope.caller()?, increment)))
}

/// `renew`.
pub(super) fn by_text(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let (text, increment): (Zeroizing<String>, Duration) = (show::required_token(&fields)?, increment(&fields)?);
    Ok(planned(move |scope| {
        let found = show::by_text(scope, &text)?.ok_or_else(|| PlanError::Refused("token not found".into()))?;
        renewed(scope, &found, increment)
    }))
}

/// `renew-accessor`.
pub(super) fn by_accessor(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let (accessor, increment) = (show::required_accessor(&fields)?, increment(&fields)?);
    Ok(planned(move |scope| {
        let found = show::by_accessor(scope, &accessor)?.ok_or_else(|| PlanError::Refused("invalid accessor".into()))?;
        renewed(scope, &found, increment)
    }))
}

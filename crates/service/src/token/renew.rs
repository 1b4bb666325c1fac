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
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::records;
use crate::request::{Answer, Auth};
use crate::ttl::{self, Bounds, Over};

/// What the method that made a token allows it now. Zero: nothing said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MethodLimits {
    /// When no increment is asked for.
    pub(crate) ttl: Duration,
    /// From the making on. Not for periodic tokens.
    pub(crate) max_ttl: Duration,
    /// Each renewal gives this much.
    pub(crate) period: Duration,
}

/// Asks the method that made a token whether it may be renewed, and within which limits. Refuses when what the login was for is gone or
/// has changed. Finds what it kept in the token's `internal`.
pub(crate) type RenewalCheck = fn(&Scope<'_>, &Mount, &stored::Token) -> Result<MethodLimits, PlanError>;

fn not_renewable() -> PlanError {
    PlanError::Refused("lease is not renewable".into())
}

/// The stricter of two bounds, zero being none.
fn stricter(one: Duration, other: Duration) -> Duration {
    if one.is_zero() || other.is_zero() { one.max(other) } else { one.min(other) }
}

/// What bounds the next life of `token`.
fn bounds(scope: &Scope<'_>, found: &Caller, increment: Duration) -> Result<Bounds, PlanError> {
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
        let role = roles::load(&scope.records, &found.namespace.id, &token.role)?.1;
        let role = role.ok_or_else(|| PlanError::Refused(format!("original token role {:?} could not be found, not renewing", token.role)))?;
        bounds.period = ms(role.period_ms);
        bounds.explicit_max = stricter(bounds.explicit_max, ms(role.explicit_max_ttl_ms));
    }
    if let Some(mount) = mount
        && let Some(check) = backend::renewal(&mount.kind)
    {
        let limits = check(scope, mount, token)?;
        bounds.max = limits.max_ttl;
        bounds.period = limits.period;
        if !limits.ttl.is_zero() {
            bounds.default = limits.ttl;
        }
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
    let life = ttl::grant(&bounds(scope, found, increment)?, Timestamp(found.token.created_ms), scope.now)
        .map_err(|over: Over| PlanError::Refused(over.to_string()))?;
    let token = stored::Token { expires_ms: life.expires.0, renewed_ms: scope.now.0, ..(*found.token).clone() };
    let mut plan = Plan::new();
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

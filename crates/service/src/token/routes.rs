//! `auth/token/…`.

use engine::AskError;
use engine::route::{Access, Method, Route};
use jiff::Timestamp as Rfc3339;
use serde_json::{Value, json};
use types::Timestamp;
use types::capability::Verb;

use super::{Caller, issue};
use crate::backend::{Asked, Handler};
use crate::outcome::{Operation, Outcome, PlanError, planned};
use crate::request::Answer;

/// What may be asked below `auth/token/`.
pub(crate) static ROUTES: &[Route<Handler>] = &[
    Route {
        pattern: "lookup-self",
        about: "What is known of the caller's own token.",
        parameters: &[],
        methods: &[
            Method { verb: Verb::Read, summary: "Shows the caller's token.", fields: &[], query: &[], handler: lookup_self },
            Method { verb: Verb::Write, summary: "Shows the caller's token.", fields: &[], query: &[], handler: lookup_self },
        ],
        access: Access::Token,
    },
    Route {
        pattern: "revoke-self",
        about: "The end of the caller's own token.",
        parameters: &[],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Revokes the caller's token and its children.",
            fields: &[],
            query: &[],
            handler: revoke_self,
        }],
        access: Access::Token,
    },
];

/// All that may be told of a token to who may know its text.
pub(super) fn shown(caller: &Caller, now: Timestamp) -> Value {
    let token = &*caller.token;
    let time = |ms: u64| i64::try_from(ms).ok().and_then(|ms| Rfc3339::from_millisecond(ms).ok()).unwrap_or_default().to_string();
    let meta = if token.meta.is_empty() { None } else { Some(&token.meta) };
    json!({
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
        "num_uses": token.uses_left,
        "orphan": token.orphan,
        "path": token.path,
        "policies": token.policies,
        "renewable": token.renewable,
        "ttl": token.expires_ms.saturating_sub(now.0) / 1000,
        "type": "service",
    })
}

fn lookup_self(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| Ok(Outcome::data(&shown(scope.caller()?, scope.now)))))
}

fn revoke_self(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| {
        let caller = scope.caller()?;
        let mut plan = barrier::Plan::new();
        issue::erase(&caller.token, &caller.namespace.id, &caller.tag, &mut plan);
        Ok::<_, PlanError>(Outcome::written(plan, Answer::Done))
    }))
}

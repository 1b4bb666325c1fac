//! `sys/wrapping`: wrapping a value of one's own, and looking at, taking and passing on wrapped answers.

use barrier::Plan;
use crypto::SecretBytes;
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use serde_json::json;
use types::Path;
use types::capability::Verb;

use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::request::{Answer, shown_time};
use crate::wrapping::{self, Found, INVALID};

const TOKEN: &[Field] =
    &[Field::optional("token", FieldKind::Text, "The wrapping token. Without it the token of the request itself is meant.")];

/// What may be asked of wrapped answers.
pub(super) const ROUTES: &[Route<Handler>] = &[
    Route {
        pattern: "wrapping/wrap",
        about: "Wraps a value.",
        parameters: &[],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Wraps the body, whatever members it has, for as long as the header X-Vault-Wrap-TTL says.",
            fields: &[],
            query: &[],
            handler: wrap,
        }],
        access: Access::Token,
    },
    Route {
        pattern: "wrapping/unwrap",
        about: "Takes a wrapped answer.",
        parameters: &[],
        methods: &[Method { verb: Verb::Write, summary: "Answers what was wrapped, once.", fields: TOKEN, query: &[], handler: unwrap }],
        access: Access::Token,
    },
    Route {
        pattern: "wrapping/lookup",
        about: "Looks at a wrapping token. It is not used by that; whoever holds it may ask.",
        parameters: &[],
        methods: &[
            Method { verb: Verb::Read, summary: "Shows when and by which path it was made.", fields: &[], query: &[], handler: lookup },
            Method { verb: Verb::Write, summary: "Shows when and by which path it was made.", fields: TOKEN, query: &[], handler: lookup },
        ],
        access: Access::Anyone,
    },
    Route {
        pattern: "wrapping/rewrap",
        about: "Passes a wrapped answer on.",
        parameters: &[],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Wraps the same answer under another token, for as long as before; the old token ends.",
            fields: TOKEN,
            query: &[],
            handler: rewrap,
        }],
        access: Access::Token,
    },
];

/// Whether a path of `sys/` takes a wrapped answer: such a request is told that its wrapping token is not valid (any more).
pub(crate) fn takes_a_wrapped_answer(rest: &Path) -> bool {
    ["wrapping/unwrap", "wrapping/rewrap"].contains(&rest.as_str())
}

/// The wrapping token that a request means.
fn token(fields: &Fields) -> Result<Option<SecretBytes>, AskError> {
    Ok(fields.secret("token")?.filter(|text| !text.is_empty()).map(|text| SecretBytes::from(text.as_bytes().to_vec())))
}

fn find(scope: &Scope<'_>, token: Option<&SecretBytes>) -> Result<Found, PlanError> {
    let invalid = || PlanError::Refused(INVALID.into());
    let token = token.or(scope.request.token.as_ref()).ok_or_else(invalid)?;
    wrapping::find(&scope.records, token, scope.now)?.ok_or_else(invalid)
}

fn wrap(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    // It must be an object; what is in it stays as it was written.
    Fields::of(asked.ask)?;
    Ok(planned(|scope| {
        if scope.request.wrap_ttl.is_none() {
            return Err(PlanError::Refused("endpoint requires response wrapping to be used (the header X-Vault-Wrap-TTL)".into()));
        }
        let body = &scope.request.body;
        // EXPOSE: a copy, wiped like the original.
        let copy = || SecretBytes::with_len(body.len(), |buffer| buffer.copy_from_slice(body.expose()));
        let data = if body.expose().trim_ascii().is_empty() { engine::json(&json!({})) } else { copy() };
        Ok(Outcome::answer(Answer::Data(data)))
    }))
}

fn unwrap(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let token = token(&Fields::of(asked.ask)?)?;
    Ok(planned(move |scope| {
        let mut found = find(scope, token.as_ref())?;
        let mut plan = Plan::new();
        found.spend(scope.now, &mut plan);
        let answer = found.answer()?;
        Ok(Outcome { warnings: std::mem::take(&mut found.record.warnings), ..Outcome::written(plan, answer) })
    }))
}

fn lookup(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let token = token(&Fields::of(asked.ask)?)?;
    Ok(planned(move |scope| {
        let record = find(scope, token.as_ref())?.record;
        Ok(Outcome::data(&json!({
            "creation_path": record.path,
            "creation_time": shown_time(types::Timestamp(record.created_ms)),
            "creation_ttl": record.ttl_ms / 1000,
        })))
    }))
}

fn rewrap(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let token = token(&Fields::of(asked.ask)?)?;
    Ok(planned(move |scope| {
        let found = find(scope, token.as_ref())?;
        let mut plan = Plan::new();
        let answer = found.rewrap(scope, &mut plan)?;
        Ok(Outcome::written(plan, answer))
    }))
}

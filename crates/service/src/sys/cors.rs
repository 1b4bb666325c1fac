//! `sys/config/cors`: which web pages' scripts may call this API (Fetch standard, CORS protocol). The listener asks for each request
//! that a browser sends for a page.

use barrier::{Name, Plan};
use crypto::SecretBytes;
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use prost::Message;
use proto::stored;
use serde_json::json;
use types::capability::Verb;

use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::request::Answer;

/// Origins and headers, at most, each.
const ENTRIES_MAX: usize = 100;
/// Headers of requests that scripts may always set: as Vault's.
const HEADERS: [&str; 11] = [
    "Content-Type",
    "X-Requested-With",
    "X-Vault-AWS-IAM-Server-ID",
    "X-Vault-MFA",
    "X-Vault-No-Request-Forwarding",
    "X-Vault-Wrap-Format",
    "X-Vault-Wrap-TTL",
    "X-Vault-Policy-Override",
    "Authorization",
    "X-Vault-Token",
    "X-Vault-Namespace",
];

/// What may be asked.
pub(crate) static ROUTES: &[Route<Handler>] = &[Route {
    pattern: "config/cors",
    about: "Which web pages' scripts may call this API. None until it is set.",
    parameters: &[],
    methods: &[
        Method { verb: Verb::Read, summary: "Shows the settings.", fields: &[], query: &[], handler: read },
        Method {
            verb: Verb::Write,
            summary: "Sets them, and turns them on.",
            fields: &[
                Field::required("allowed_origins", FieldKind::List, "Origins such as https://app.example.com; or * for all."),
                Field::optional(
                    "allowed_headers",
                    FieldKind::List,
                    "Request headers that scripts may set, besides those that they always may.",
                ),
            ],
            query: &[],
            handler: write,
        },
        Method { verb: Verb::Delete, summary: "Turns them off.", fields: &[], query: &[], handler: delete },
    ],
    access: Access::Sudo,
}];

/// Which web pages' scripts may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Origins; `*` stands for all.
    pub origins: Vec<String>,
    /// Request headers that scripts may set.
    pub headers: Vec<String>,
}

impl Cors {
    /// The record's name.
    pub(crate) fn name() -> Name {
        Name::new("core/config/cors")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Cors> {
        let record = stored::Cors::decode(bytes).ok()?;
        Some(Cors { origins: record.origins, headers: record.headers })
    }

    /// Whether scripts of pages from `origin` may call.
    pub fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
    }
}

/// The settings at these records; `None`: off.
fn load(scope: &Scope<'_>) -> Result<Option<Cors>, PlanError> {
    match scope.records.view.read(&Cors::name())?.value {
        // EXPOSE: the settings are no secret.
        Some(value) => Cors::decode(value.expose()).map(Some).ok_or(PlanError::Malformed),
        None => Ok(None),
    }
}

fn read(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| {
        Ok(match load(scope)? {
            Some(cors) => Outcome::data(&json!({ "enabled": true, "allowed_origins": cors.origins, "allowed_headers": cors.headers })),
            None => Outcome::data(&json!({ "enabled": false })),
        })
    }))
}

fn write(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let origins = fields.list("allowed_origins")?.unwrap_or_default();
    let more = fields.list("allowed_headers")?.unwrap_or_default();
    if origins.is_empty() {
        return Err(AskError::Invalid("at least one origin or the wildcard must be provided".into()));
    }
    if origins.len() > 1 && origins.iter().any(|origin| origin == "*") {
        return Err(AskError::Invalid("to allow all origins the '*' must be the only value for allowed_origins".into()));
    }
    if origins.len() > ENTRIES_MAX || more.len() > ENTRIES_MAX {
        return Err(AskError::Invalid(format!("more than {ENTRIES_MAX} origins or headers")));
    }
    let is_name = |name: &String| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !more.iter().all(is_name) {
        return Err(AskError::Invalid("allowed_headers must be names of headers".into()));
    }
    if origins.iter().any(|origin| !origin.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(AskError::Invalid("allowed_origins must be origins such as https://app.example.com".into()));
    }
    let mut headers: Vec<String> = HEADERS.iter().map(ToString::to_string).collect();
    headers.extend(more);
    Ok(planned(move |_| {
        let mut plan = Plan::new();
        let record = stored::Cors { origins: origins.clone(), headers: headers.clone() };
        plan.put(Cors::name(), SecretBytes::from(record.encode_to_vec()));
        Ok(Outcome::written(plan, Answer::Done))
    }))
}

fn delete(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|_| {
        let mut plan = Plan::new();
        plan.delete(Cors::name());
        Ok(Outcome::written(plan, Answer::Done))
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::request::Refusal;
    use crate::testing::World;

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
    }

    #[tokio::test]
    async fn pages_may_call_as_long_as_they_are_named() {
        let world = World::new(1);
        assert_eq!(world.service.cors().await, None);
        for (origins, is_fine) in
            [(json!([]), false), (json!(["*", "https://a"]), false), (json!(["https://a b"]), false), (json!("https://a,https://b"), true)]
        {
            let asked = world.ask(Verb::Write, "sys/config/cors", json!({ "allowed_origins": origins })).await;
            assert_eq!(matches!(asked, Err(Refusal::Ask(_))), !is_fine, "{origins}");
        }
        let cors = world.service.cors().await.unwrap();
        for (origin, may) in [("https://a", true), ("HTTPS://B", true), ("https://c", false), ("", false)] {
            assert_eq!(cors.allows(origin), may, "{origin}");
        }
        assert_eq!(world.ask(Verb::Delete, "sys/config/cors", Value::Null).await, Ok(Value::Null));
        assert_eq!(world.service.cors().await, None);
    }
}

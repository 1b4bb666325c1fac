//! `sys/capabilities*`, `sys/internal/ui/resultant-acl`: what a token may do, for clients that show only what can be done.

use std::sync::Arc;

use crypto::SecretBytes;
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use prost::Message;
use proto::stored;
use serde_json::{Map, Value, json};
use types::Path;
use types::capability::Verb;

use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::namespace::Namespace;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::policy::acl::Acl;
use crate::policy::pattern::Kind;
use crate::records;
use crate::token;

/// Paths in one question, at most.
const PATHS_MAX: usize = 1_000;

const PATHS: Field = Field::optional("paths", FieldKind::List, "The paths to ask for.");
const PATH: Field = Field::optional("path", FieldKind::List, "As paths; for one.");
const TOKEN: Field = Field::required("token", FieldKind::Text, "The token to ask for.");
const ACCESSOR: Field = Field::required("accessor", FieldKind::Text, "The accessor of the token to ask for.");

/// What may be asked of capabilities.
pub(crate) static ROUTES: &[Route<Handler>] = &[
    Route {
        pattern: "capabilities-self",
        about: "What the caller's token may do.",
        parameters: &[],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Shows its capabilities on paths.",
            fields: &[PATHS, PATH],
            query: &[],
            handler: of_self,
        }],
        access: Access::Token,
    },
    Route {
        pattern: "capabilities",
        about: "What a token may do.",
        parameters: &[],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Shows its capabilities on paths.",
            fields: &[TOKEN, PATHS, PATH],
            query: &[],
            handler: of_token,
        }],
        access: Access::Token,
    },
    Route {
        pattern: "capabilities-accessor",
        about: "What the token of an accessor may do.",
        parameters: &[],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Shows its capabilities on paths.",
            fields: &[ACCESSOR, PATHS, PATH],
            query: &[],
            handler: of_accessor,
        }],
        access: Access::Token,
    },
    Route {
        pattern: "internal/ui/resultant-acl",
        about: "The rules of the caller's token, for user interfaces.",
        parameters: &[],
        methods: &[Method { verb: Verb::Read, summary: "Shows the rules.", fields: &[], query: &[], handler: resultant_acl }],
        access: Access::Token,
    },
];

/// The paths of a question, as they were written and as they are.
fn paths(fields: &Fields) -> Result<Vec<(String, Path)>, AskError> {
    let mut texts = fields.list("paths")?.unwrap_or_default();
    texts.extend(fields.list("path")?.unwrap_or_default());
    if texts.is_empty() {
        return Err(AskError::Invalid("paths must be supplied".into()));
    }
    if texts.len() > PATHS_MAX {
        return Err(AskError::Invalid(format!("more than {PATHS_MAX} paths")));
    }
    let parse = |text: String| match Path::parse(&text) {
        Ok(path) => Ok((text, path)),
        Err(error) => Err(AskError::Invalid(format!("paths: {error}"))),
    };
    texts.into_iter().map(parse).collect()
}

/// The answer: by path, and for one path also by a fixed name, which Vault's CLI reads.
fn answer(scope: &Scope<'_>, acl: &Acl, paths: &[(String, Path)]) -> Result<Outcome, PlanError> {
    let mut shown = Map::new();
    for (text, path) in paths {
        let (path, kept) = scope.full_paths(path)?;
        let capabilities = json!(acl.capabilities_as_kept(&path, kept.as_ref()));
        if paths.len() == 1 {
            shown.insert("capabilities".into(), capabilities.clone());
        }
        shown.insert(text.clone(), capabilities);
    }
    Ok(Outcome::data(&shown))
}

fn of_self(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let paths = paths(&Fields::of(asked.ask)?)?;
    Ok(planned(move |scope| {
        let authority = scope.authority.as_ref().ok_or(PlanError::Denied)?;
        answer(scope, authority.acl(), &paths)
    }))
}

/// The rules of another token, if it is one of the request's namespace or of one further inside.
fn acl_of(scope: &Scope<'_>, namespace: &Namespace, policies: &[String]) -> Result<Arc<Acl>, PlanError> {
    scope.acls.compiled(&scope.records, namespace, policies, scope.now)
}

fn of_token(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let paths = paths(&fields)?;
    let text = fields.required_text("token")?.as_bytes().to_vec();
    let text = SecretBytes::from(text);
    Ok(planned(move |scope| {
        let invalid = || PlanError::Refused("1 error occurred:\n\t* invalid token\n\n".into());
        let found = token::find(&scope.records, &text, scope.now)?.ok_or_else(invalid)?;
        let is_here = scope.namespace.contains(&found.namespace) || found.namespace.contains(&scope.namespace);
        let found = Some(found).filter(|_| is_here).ok_or_else(invalid)?;
        answer(scope, &*acl_of(scope, &found.namespace, found.policies())?, &paths)
    }))
}

fn of_accessor(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let paths = paths(&fields)?;
    let accessor = fields.required_text("accessor")?.to_owned();
    Ok(planned(move |scope| {
        let invalid = || PlanError::Refused("1 error occurred:\n\t* invalid accessor\n\n".into());
        if Path::parse(&accessor).is_err() || accessor.contains('/') {
            return Err(invalid());
        }
        let record = scope.records.view.read(&records::accessor_name(&scope.namespace.id, &accessor))?.value.ok_or_else(invalid)?;
        // EXPOSE: the record is decoded.
        let tag = stored::TokenAccessor::decode(record.expose()).map_err(|_| PlanError::Malformed)?.tag;
        let reference = stored::TokenParent { namespace_id: scope.namespace.id.clone(), tag };
        let found = token::find_reference(&scope.records, &reference, scope.now)?.ok_or_else(invalid)?;
        answer(scope, &*acl_of(scope, &found.namespace, &found.token.policies)?, &paths)
    }))
}

fn resultant_acl(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| {
        let acl = scope.authority.as_ref().ok_or(PlanError::Denied)?.acl();
        if acl.is_root_at(&scope.namespace.path) {
            return Ok(Outcome::data(&json!({ "root": true })));
        }
        let (mut exact, mut globs) = (Map::new(), Map::new());
        for rule in acl.rules() {
            let shown: Value = json!({ "capabilities": rule.capabilities().names() });
            match rule.kind() {
                Kind::Exact => exact.insert(rule.pattern().to_owned(), shown),
                // As Vault: without the star at the end.
                Kind::Prefix | Kind::Segments => globs.insert(rule.pattern().trim_end_matches('*').to_owned(), shown),
            };
        }
        exact.sort_keys();
        globs.sort_keys();
        Ok(Outcome::data(&json!({ "exact_paths": exact, "glob_paths": globs, "root": false })))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Refusal;
    use crate::testing::World;

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
    }

    /// What a token with `rules` is told of `path`, by each route that tells it; they agree with what it may do.
    async fn told(world: &World, rules: &str, path: &str) -> Value {
        world.ask(Verb::Write, "sys/policies/acl/p", json!({ "policy": rules })).await.unwrap();
        let token = world.ask(Verb::Write, "auth/token/create", json!({ "policies": ["p"], "no_default_policy": true })).await.unwrap();
        let (token, accessor) = (token["auth"]["client_token"].clone(), token["auth"]["accessor"].clone());
        let by_token = world.ask(Verb::Write, "sys/capabilities", json!({ "token": token, "paths": [path] })).await.unwrap();
        let by_accessor =
            world.ask(Verb::Write, "sys/capabilities-accessor", json!({ "accessor": accessor, "paths": [path] })).await.unwrap();
        assert_eq!(by_token, by_accessor, "{path}");
        let told = by_token["capabilities"].clone();
        for capability in ["read", "update", "delete"] {
            let can = world.ask(Verb::Write, "sys/policies/who-can", json!({ "path": path, "capability": capability })).await.unwrap();
            let has = told.as_array().unwrap().contains(&json!(capability));
            let is_named = can["policies"].as_array().unwrap().iter().any(|policy| policy["name"] == "p");
            let is_shown = can["tokens"].as_array().unwrap().iter().any(|shown| shown["accessor"] == accessor);
            assert_eq!((is_named, is_shown), (has, has), "{capability} of {path}: {told}");
        }
        let reads = world.ask_as(token.as_str().unwrap(), Verb::Read, path, Value::Null).await;
        assert_eq!(reads != Err(Refusal::Denied), told.as_array().unwrap().contains(&json!("read")), "{path}: {told}, {reads:?}");
        told
    }

    #[tokio::test]
    async fn a_path_is_judged_under_the_spelling_that_is_kept_too() {
        let world = World::new(1);
        world.ask(Verb::Write, "sys/auth/up", json!({ "type": "userpass" })).await.unwrap();
        let all = r#"path "auth/up/users/*" { capabilities = ["read", "update"] }"#;
        let of_bob = |capabilities: &str| format!("{all}\npath \"auth/up/users/bob\" {{ capabilities = [{capabilities}] }}");
        for (rules, path, want) in [
            (all.to_owned(), "auth/up/users/BOB", json!(["read", "update"])),
            (of_bob(r#""read""#), "auth/up/users/BOB", json!(["read"])),
            (of_bob(r#""deny""#), "auth/up/users/BOB", json!(["deny"])),
            (of_bob(r#""deny""#), "auth/up/users/ALICE", json!(["read", "update"])),
            // What is granted for the kept spelling alone is not granted for others.
            (r#"path "auth/up/users/bob" { capabilities = ["read"] }"#.to_owned(), "auth/up/users/BOB", json!(["deny"])),
            // Where names keep their case, so do rules.
            (
                r#"path "cubbyhole/*" { capabilities = ["read"] } path "cubbyhole/a" { capabilities = ["deny"] }"#.to_owned(),
                "cubbyhole/A",
                json!(["read"]),
            ),
        ] {
            assert_eq!(told(&world, &rules, path).await, want, "{path}: {rules}");
        }
    }
}

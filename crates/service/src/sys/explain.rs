//! `sys/policies/explain`, `sys/policies/who-can`: why a request was denied, and who could do it. For who may see policies.

use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use jiff::Timestamp as Rfc3339;
use prost::Message;
use proto::stored;
use serde_json::{Value, json};
use types::Path;
use types::capability::{Capability, Verb};

use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::policy::acl::{Acl, ROOT};
use crate::policy::decision::{NoFields, Question};
use crate::records;
use crate::token;

/// Policies and tokens that are looked at, at most: an answer that stopped there says so.
const LOOKED_AT_MAX: usize = 100_000;
/// Tokens that are shown, at most.
const TOKENS_SHOWN_MAX: usize = 1_000;

/// What may be asked.
pub(crate) static ROUTES: &[Route<Handler>] = &[
    Route {
        pattern: "policies/explain/{request_id}",
        about: "Why a request was denied. Each node knows its own newest denials.",
        parameters: &[Field::required(
            "request_id",
            FieldKind::Text,
            "The id of the denied request: its answer's header X-Conclave-Request-Id, or its audit record.",
        )],
        methods: &[Method {
            verb: Verb::Read,
            summary: "Shows the rule that denied it, and the smallest that would allow it.",
            fields: &[],
            query: &[],
            handler: explain,
        }],
        access: Access::Sudo,
    },
    Route {
        pattern: "policies/who-can",
        about: "Who can do something somewhere: policies, and the tokens that carry them.",
        parameters: &[],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Lists the policies that grant a capability on a path, and the tokens with them.",
            fields: &[
                Field::required("path", FieldKind::Text, "The path, below the request's namespace."),
                Field::optional("capability", FieldKind::Text, "The capability; read when nothing is said."),
            ],
            query: &[],
            handler: who_can,
        }],
        access: Access::Sudo,
    },
];

fn explain(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let id = asked.captures.text("request_id").to_owned();
    Ok(planned(move |scope| {
        let unknown = || {
            PlanError::NoSuch(format!("no denial of request {id:?} is known here (ask the node that denied it; it keeps its newest only)"))
        };
        let denied = scope.denials.find(&id).ok_or_else(unknown)?;
        let namespace = scope.records.namespace_by_id(&denied.namespace_id)?.ok_or_else(unknown)?;
        // Who may ask in one namespace learns nothing of what lies outside it.
        if !scope.namespace.contains(&namespace) {
            return Err(unknown());
        }
        let acl = scope.acls.compiled(&scope.records, &namespace, &denied.policies, scope.now)?;
        let question = Question {
            path: &denied.path,
            verb: denied.verb,
            is_create: Some(denied.is_create),
            is_sudo: denied.is_sudo,
            wrap_ttl: denied.wrap_ttl,
            parameters: &NoFields,
        };
        // As when it was asked: what is kept under another spelling is judged under that too, as far as a rule speaks of it.
        let kept = denied.kept.as_ref().map(|path| Question { path, ..question });
        let is_kept_denied = |kept: &Question<'_>| matches!(acl.check(kept).into_result(), Err(denial) if denial.rule.is_some());
        let kept = kept.filter(is_kept_denied);
        // The one that stands in the way.
        let in_the_way = if acl.check(&question).is_allowed() { kept.as_ref().unwrap_or(&question) } else { &question };
        let time = i64::try_from(denied.time.0).ok().and_then(|ms| Rfc3339::from_millisecond(ms).ok()).unwrap_or_default();
        let rule = denied.rule.as_ref().map(|(path, policies)| json!({ "path": path, "policies": policies }));
        Ok(Outcome::data(&json!({
            "request_id": id,
            "time": time.to_string(),
            "namespace": namespace.shown_path(),
            "path": denied.path.as_str(),
            "operation": if denied.verb == Verb::Write && denied.is_create { "create" } else { denied.verb.as_str() },
            "accessor": denied.accessor,
            "policies": denied.policies,
            "reason": denied.reason,
            "rule": rule,
            "allowed_now": acl.check(in_the_way).is_allowed(),
            "smallest_rule": acl.smallest_rule(in_the_way, &namespace.shown_path()),
        })))
    }))
}

/// Whether these policies, alone, grant the capability.
fn grants(acl: &Acl, (path, kept): &(Path, Option<Path>), capability: Capability) -> bool {
    let granted = acl.capabilities_as_kept(path, kept.as_ref());
    granted.contains(&ROOT) || granted.contains(&capability.as_str())
}

fn who_can(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let path = Path::parse(fields.required_text("path")?).map_err(|error| AskError::Invalid(format!("path: {error}")))?;
    let capability: Capability =
        fields.text("capability")?.unwrap_or("read").parse().map_err(|error| AskError::Invalid(format!("capability: {error}")))?;
    Ok(planned(move |scope| {
        let full = scope.full_paths(&path)?;
        let policies = granting_policies(scope, &full, capability)?;
        let (tokens, is_whole) = granting_tokens(scope, &full, capability)?;
        let shown: Vec<&Value> = tokens.iter().take(TOKENS_SHOWN_MAX).collect();
        let mut outcome = Outcome::data(&json!({
            "path": path.as_str(),
            "capability": capability.as_str(),
            "policies": policies,
            "tokens": shown,
            "token_count": tokens.len(),
        }));
        if !is_whole {
            outcome.warnings.push(format!("there are more than {LOOKED_AT_MAX} tokens; the others were not looked at"));
        }
        if shown.len() < tokens.len() {
            outcome.warnings.push(format!("{TOKENS_SHOWN_MAX} of {} tokens are shown", tokens.len()));
        }
        Ok(outcome)
    }))
}

/// The namespace's policies that grant it, each with the rule that does.
fn granting_policies(scope: &Scope<'_>, path: &(Path, Option<Path>), capability: Capability) -> Result<Vec<Value>, PlanError> {
    let mut names: Vec<String> = scope
        .records
        .view
        .names_below(&records::policy_name(&scope.namespace.id, ""), LOOKED_AT_MAX)?
        .iter()
        .map(|name| name.as_str().to_owned())
        .collect();
    names.push("default".into());
    names.sort();
    names.dedup();
    let mut granting = Vec::new();
    for name in names {
        let acl = scope.acls.compiled(&scope.records, &scope.namespace, std::slice::from_ref(&name), scope.now)?;
        if grants(&acl, path, capability) {
            let rules: Vec<&str> = acl.rules().filter(|rule| rule.capabilities().has(capability)).map(|rule| rule.pattern()).collect();
            granting.push(json!({ "name": name, "rules": rules }));
        }
    }
    Ok(granting)
}

/// The namespace's good tokens that can, without their texts; and whether every token was looked at.
fn granting_tokens(scope: &Scope<'_>, path: &(Path, Option<Path>), capability: Capability) -> Result<(Vec<Value>, bool), PlanError> {
    let namespace = &scope.namespace;
    let accessors = scope.records.view.names_below(&records::accessor_name(&namespace.id, ""), LOOKED_AT_MAX)?;
    let is_whole = accessors.len() < LOOKED_AT_MAX;
    let mut granting = Vec::new();
    for accessor in accessors {
        let Some(record) = scope.records.view.read(&records::accessor_name(&namespace.id, accessor.as_str()))?.value else { continue };
        // EXPOSE: the record is decoded.
        let tag = stored::TokenAccessor::decode(record.expose()).map_err(|_| PlanError::Malformed)?.tag;
        let reference = stored::TokenParent { namespace_id: namespace.id.clone(), tag };
        let Some(good) = token::find_reference(&scope.records, &reference, scope.now)? else { continue };
        let acl = scope.acls.compiled(&scope.records, &good.namespace, &good.token.policies, scope.now)?;
        if grants(&acl, path, capability) {
            granting.push(json!({
                "accessor": accessor.as_str(),
                "display_name": good.token.display_name,
                "path": good.token.path,
                "policies": good.token.policies,
            }));
        }
    }
    Ok((granting, is_whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
    }
}

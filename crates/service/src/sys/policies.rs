//! `sys/policies/acl`, `sys/policy`, `sys/policies/password`: the texts of policies, kept byte for byte.

use barrier::Plan;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto::SecretBytes;
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use prost::Message;
use proto::stored;
use serde_json::json;
use types::Path;
use types::capability::Verb;

use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::policy::acl::ROOT;
use crate::policy::builtin::{DEFAULT, RESPONSE_WRAPPING};
use crate::policy::password::PasswordPolicy;
use crate::policy::text::Policy;
use crate::records;
use crate::request::Answer;

/// Policies that one answer lists, at most.
const LISTED_MAX: usize = 100_000;

const NAME: Field = Field::required("name", FieldKind::Text, "The policy's name; case does not matter.");
const POLICY: Field = Field::required("policy", FieldKind::Text, "Its text, HCL or JSON, as it is or in base64.");
const RULES: Field = Field::optional("rules", FieldKind::Text, "An old name of policy.");
/// Conditions on a whole policy that OpenBao has: refused, since a policy without them would grant more than was meant.
const CONDITIONS: [&str; 5] = ["cas", "cas_required", "ttl", "expiration", "allow_wildcards_in_identity_templates"];

/// What may be asked of policies.
pub(crate) static ROUTES: &[Route<Handler>] = &[
    Route {
        pattern: "policies/acl",
        about: "The namespace's ACL policies.",
        parameters: &[],
        methods: &[
            Method { verb: Verb::List, summary: "Lists their names.", fields: &[], query: &[], handler: list_acl },
            Method { verb: Verb::Read, summary: "Lists their names.", fields: &[], query: &[], handler: list_acl },
        ],
        access: Access::Token,
    },
    Route {
        pattern: "policies/acl/{name...}",
        about: "One ACL policy: what tokens that carry its name may do, where.",
        parameters: &[NAME],
        methods: &[
            Method { verb: Verb::Read, summary: "Shows its text.", fields: &[], query: &[], handler: read_acl },
            Method { verb: Verb::Write, summary: "Writes it.", fields: &[POLICY], query: &[], handler: write },
            Method { verb: Verb::Delete, summary: "Deletes it.", fields: &[], query: &[], handler: delete },
            Method { verb: Verb::List, summary: "Lists the names below this one.", fields: &[], query: &[], handler: list_acl },
        ],
        access: Access::Token,
    },
    Route {
        pattern: "policy",
        about: "The namespace's ACL policies, as older clients ask for them.",
        parameters: &[],
        methods: &[
            Method { verb: Verb::Read, summary: "Lists their names.", fields: &[], query: &[], handler: list_old },
            Method { verb: Verb::List, summary: "Lists their names.", fields: &[], query: &[], handler: list_old },
        ],
        access: Access::Token,
    },
    Route {
        pattern: "policy/{name...}",
        about: "One ACL policy, as older clients ask for it.",
        parameters: &[NAME],
        methods: &[
            Method { verb: Verb::Read, summary: "Shows its text.", fields: &[], query: &[], handler: read_old },
            Method { verb: Verb::Write, summary: "Writes it.", fields: &[POLICY, RULES], query: &[], handler: write },
            Method { verb: Verb::Delete, summary: "Deletes it.", fields: &[], query: &[], handler: delete },
        ],
        access: Access::Token,
    },
    Route {
        pattern: "policies/password",
        about: "The namespace's password policies.",
        parameters: &[],
        methods: &[Method { verb: Verb::List, summary: "Lists their names.", fields: &[], query: &[], handler: list_password }],
        access: Access::Token,
    },
    Route {
        pattern: "policies/password/{name}",
        about: "One password policy: how passwords are generated.",
        parameters: &[NAME],
        methods: &[
            Method { verb: Verb::Read, summary: "Shows its text.", fields: &[], query: &[], handler: read_password },
            Method { verb: Verb::Write, summary: "Writes it.", fields: &[POLICY], query: &[], handler: write_password },
            Method { verb: Verb::Delete, summary: "Deletes it.", fields: &[], query: &[], handler: delete_password },
        ],
        access: Access::Token,
    },
    Route {
        pattern: "policies/password/{name}/generate",
        about: "Passwords by a policy.",
        parameters: &[NAME],
        methods: &[Method { verb: Verb::Read, summary: "Generates a password.", fields: &[], query: &[], handler: generate }],
        access: Access::Token,
    },
];

fn name(asked: &Asked<'_>) -> String {
    asked.captures.text("name").to_lowercase()
}

/// Every name of the namespace's policies, sorted, below `folder`; as Vault, `root` stands at the end.
fn names(scope: &Scope<'_>, folder: &str) -> Result<Vec<String>, PlanError> {
    let all = scope.records.view.names_below(&records::policy_name(&scope.namespace.id, ""), LISTED_MAX)?;
    let mut names: Vec<String> = all.iter().map(|name| name.as_str().to_owned()).collect();
    names.push(DEFAULT.to_owned());
    names.sort();
    names.dedup();
    names.retain(|name| folder.is_empty() || name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')));
    if folder.is_empty() && scope.namespace.is_root() {
        names.push(ROOT.to_owned());
    }
    Ok(names)
}

fn list_acl(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let folder = asked.captures.get("name").unwrap_or_default().to_lowercase();
    Ok(planned(move |scope| Ok(Outcome::list(names(scope, &folder)?))))
}

fn list_old(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| {
        let names = names(scope, "")?;
        Ok(Outcome::data(&json!({ "keys": names, "policies": names })))
    }))
}

fn read(asked: &Asked<'_>, text_name: &'static str) -> Result<Box<dyn Operation>, AskError> {
    let name = name(asked);
    Ok(planned(move |scope| {
        let text = if name == ROOT && scope.namespace.is_root() {
            String::new()
        } else {
            match scope.records.policy(&scope.namespace.id, &name)? {
                Some(policy) => policy.text.clone(),
                None => return Ok(Outcome::answer(Answer::NotFound)),
            }
        };
        Ok(Outcome::data(&json!({ "name": name, text_name: text })))
    }))
}

fn read_acl(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    read(asked, "policy")
}

fn read_old(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    read(asked, "rules")
}

/// The text that was sent: as it is, or in base64.
fn sent_text(text: &str) -> String {
    let decoded = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.unwrap_or_else(|| text.to_owned())
}

fn write(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = name(asked);
    let fields = Fields::of(asked.ask)?;
    let is_old_name = !fields.has("policy") && fields.has("rules") && asked.ask.path.starts_with(["policy"]);
    let field = if is_old_name { "rules" } else { "policy" };
    let text = sent_text(fields.text(field)?.unwrap_or_default());
    if text.is_empty() {
        return Err(AskError::Invalid("'policy' parameter not supplied or empty".into()));
    }
    if let Some(condition) = CONDITIONS.into_iter().find(|condition| fields.value(condition).is_some_and(|value| *value != json!(false))) {
        return Err(AskError::Invalid(format!("{condition} is not available (a rule may have an expiration of its own)")));
    }
    if [ROOT, RESPONSE_WRAPPING].contains(&name.as_str()) {
        return Err(AskError::Invalid(format!("cannot update {name:?} policy")));
    }
    Path::parse(&name).map_err(|error| AskError::Invalid(format!("the policy's name: {error}")))?;
    Policy::parse(&text).map_err(|error| AskError::Invalid(format!("failed to parse policy: {error}")))?;
    Ok(planned(move |scope| {
        let mut plan = Plan::new();
        let record = stored::Policy { text: text.clone() };
        plan.put(records::policy_name(&scope.namespace.id, &name), SecretBytes::from(record.encode_to_vec()));
        let mut outcome = Outcome::written(plan, Answer::Done);
        if is_old_name {
            outcome.warnings.push("'rules' is deprecated, please use 'policy' instead".into());
        }
        Ok(outcome)
    }))
}

fn delete(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = name(asked);
    match name.as_str() {
        DEFAULT => return Err(AskError::Invalid("cannot delete default policy".into())),
        ROOT | RESPONSE_WRAPPING => return Err(AskError::Invalid(format!("cannot delete {name:?} policy"))),
        _ => {}
    }
    Ok(planned(move |scope| {
        let mut plan = Plan::new();
        plan.delete(records::policy_name(&scope.namespace.id, &name));
        Ok(Outcome::written(plan, Answer::Done))
    }))
}

fn list_password(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| {
        let children = scope.records.view.children(&records::password_policy_name(&scope.namespace.id, ""))?;
        Ok(Outcome::list(children.iter().map(|child| child.as_str().to_owned()).collect()))
    }))
}

/// The text of a password policy.
fn password_text(scope: &Scope<'_>, name: &str) -> Result<String, PlanError> {
    let found = scope.records.view.read(&records::password_policy_name(&scope.namespace.id, name))?;
    let value = found.value.ok_or_else(|| PlanError::NoSuch("1 error occurred:\n\t* policy does not exist\n\n".into()))?;
    // EXPOSE: a policy is no secret.
    Ok(stored::PasswordPolicy::decode(value.expose()).map_err(|_| PlanError::Malformed)?.text)
}

fn read_password(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = name(asked);
    Ok(planned(move |scope| Ok(Outcome::data(&json!({ "policy": password_text(scope, &name)? })))))
}

fn write_password(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = name(asked);
    let fields = Fields::of(asked.ask)?;
    let text = sent_text(fields.text("policy")?.unwrap_or_default());
    if text.is_empty() {
        return Err(AskError::Invalid("missing policy".into()));
    }
    PasswordPolicy::parse(&text).map_err(|error| AskError::Invalid(format!("invalid password policy: {error}")))?;
    Ok(planned(move |scope| {
        let mut plan = Plan::new();
        let record = stored::PasswordPolicy { text: text.clone() };
        plan.put(records::password_policy_name(&scope.namespace.id, &name), SecretBytes::from(record.encode_to_vec()));
        Ok(Outcome::written(plan, Answer::Done))
    }))
}

fn delete_password(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = name(asked);
    Ok(planned(move |scope| {
        let mut plan = Plan::new();
        plan.delete(records::password_policy_name(&scope.namespace.id, &name));
        Ok(Outcome::written(plan, Answer::Done))
    }))
}

fn generate(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = name(asked);
    Ok(planned(move |scope| {
        // It was read before it was stored.
        let policy = PasswordPolicy::parse(&password_text(scope, &name)?).map_err(|_| PlanError::Malformed)?;
        let password = policy.generate(scope.rng);
        Ok(Outcome::data(&json!({ "password": *password })))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
    }

    #[test]
    fn a_text_is_taken_as_it_is_or_out_of_base64() {
        for (sent, want) in [
            ("path \"x\" {}", "path \"x\" {}"),
            ("cGF0aCAieCIgeyBjYXBhYmlsaXRpZXM9WyJyZWFkIl0gfQ==", "path \"x\" { capabilities=[\"read\"] }"),
            ("", ""),
        ] {
            assert_eq!(sent_text(sent), want);
        }
    }
}

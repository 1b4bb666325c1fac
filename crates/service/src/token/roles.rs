//! Roles of the token method: what tokens that are made with one may be.

use std::time::Duration;

use barrier::Plan;
use crypto::SecretBytes;
use engine::AskError;
use prost::Message;
use proto::stored;
use serde_json::json;
use types::Revision;

use crate::backend::Asked;
use crate::body::Fields;
use crate::cidr;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::records::{self, Records};
use crate::request::Answer;

/// The longest name of a role, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// The longest suffix of a path, in bytes.
const SUFFIX_BYTES_MAX: usize = 256;
/// Policies in each list of a role, at most.
const POLICIES_MAX: usize = 1_000;

/// The record of a role.
fn name(namespace_id: &str, role: &str) -> barrier::Name {
    records::of_namespace(namespace_id).join("role").join(role)
}

/// A role as it is stored, and the revision of its record.
pub(super) fn load(records: &Records, namespace_id: &str, role: &str) -> Result<(Revision, Option<stored::TokenRole>), PlanError> {
    let found = records.view.read(&name(namespace_id, role))?;
    // EXPOSE: the record is decoded.
    let role = found.value.map(|value| stored::TokenRole::decode(value.expose()).map_err(|_| PlanError::Malformed)).transpose()?;
    Ok((found.revision, role))
}

/// Plans that a role must still be as it was read.
pub(super) fn expect(namespace_id: &str, role: &str, revision: Revision, plan: &mut Plan) {
    plan.expect(name(namespace_id, role), revision);
}

fn new() -> stored::TokenRole {
    stored::TokenRole { renewable: true, token_type: "default-service".into(), ..Default::default() }
}

/// What a body says of a role. `None`: nothing, so it stays as it is.
#[derive(Default)]
struct Change {
    allowed_policies: Option<Vec<String>>,
    disallowed_policies: Option<Vec<String>>,
    allowed_policies_glob: Option<Vec<String>>,
    disallowed_policies_glob: Option<Vec<String>>,
    orphan: Option<bool>,
    renewable: Option<bool>,
    period: Option<Duration>,
    explicit_max_ttl: Option<Duration>,
    bound_cidrs: Option<Vec<String>>,
    no_default_policy: Option<bool>,
    uses: Option<u64>,
    token_type: Option<String>,
    path_suffix: Option<String>,
    allowed_entity_aliases: Option<Vec<String>>,
}

impl Change {
    fn parse(fields: &Fields) -> Result<Change, AskError> {
        let invalid = |text: String| AskError::Invalid(text);
        let policies = |name: &str| -> Result<Option<Vec<String>>, AskError> {
            let list = fields.list(name)?;
            if list.as_ref().is_some_and(|list| list.len() > POLICIES_MAX) {
                return Err(invalid(format!("{name} has more than {POLICIES_MAX} entries")));
            }
            Ok(list.map(|list| list.into_iter().map(|name| name.to_lowercase()).collect()))
        };
        // The name with `token_` wins over the old one.
        let either = |new: &'static str, old: &'static str| if fields.has(new) { new } else { old };
        for name in ["token_ttl", "token_max_ttl", "token_policies", "token_strictly_bind_ip"] {
            let asks_for_nothing = match fields.value(name) {
                None => true,
                Some(value) => {
                    value.as_u64() == Some(0)
                        || value.as_bool() == Some(false)
                        || value.as_str() == Some("")
                        || value.as_array().is_some_and(Vec::is_empty)
                }
            };
            if !asks_for_nothing {
                let cure = match name {
                    "token_policies" => "use allowed_policies",
                    "token_strictly_bind_ip" => "use token_bound_cidrs",
                    _ => "ask for a ttl when a token is made, or use token_explicit_max_ttl or token_period",
                };
                return Err(invalid(format!("{name} means nothing to a token role ({cure})")));
            }
        }
        let bound_cidrs = either("token_bound_cidrs", "bound_cidrs");
        let bound_cidrs = fields.list(bound_cidrs)?.map(|blocks| cidr::parse(bound_cidrs, &blocks)).transpose()?;
        let token_type = fields.text("token_type")?.filter(|text| !text.is_empty()).map(str::to_owned);
        if let Some(kind) = &token_type
            && !["default-service", "default-batch", "service", "batch"].contains(&kind.as_str())
        {
            let shown: String = kind.chars().take(40).collect();
            return Err(invalid(format!("invalid 'token_type' value {shown:?}")));
        }
        let path_suffix = fields.text("path_suffix")?.map(str::to_owned);
        if let Some(suffix) = &path_suffix {
            check_suffix(suffix)?;
        }
        let aliases = fields.list("allowed_entity_aliases")?;
        Ok(Change {
            allowed_policies: policies("allowed_policies")?,
            disallowed_policies: policies("disallowed_policies")?,
            allowed_policies_glob: policies("allowed_policies_glob")?,
            disallowed_policies_glob: policies("disallowed_policies_glob")?,
            orphan: fields.boolean("orphan")?,
            renewable: fields.boolean("renewable")?,
            period: fields.duration(either("token_period", "period"))?,
            explicit_max_ttl: fields.duration(either("token_explicit_max_ttl", "explicit_max_ttl"))?,
            bound_cidrs,
            no_default_policy: fields.boolean("token_no_default_policy")?,
            uses: fields.integer("token_num_uses")?,
            token_type,
            path_suffix,
            allowed_entity_aliases: aliases.map(|aliases| aliases.into_iter().map(|alias| alias.to_lowercase()).collect()),
        })
    }

    fn apply(&self, role: &mut stored::TokenRole) {
        fn set<T: Clone>(value: &mut T, new: Option<&T>) {
            if let Some(new) = new {
                value.clone_from(new);
            }
        }
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        set(&mut role.allowed_policies, self.allowed_policies.as_ref());
        set(&mut role.disallowed_policies, self.disallowed_policies.as_ref());
        set(&mut role.allowed_policies_glob, self.allowed_policies_glob.as_ref());
        set(&mut role.disallowed_policies_glob, self.disallowed_policies_glob.as_ref());
        set(&mut role.orphan, self.orphan.as_ref());
        set(&mut role.renewable, self.renewable.as_ref());
        set(&mut role.period_ms, self.period.map(ms).as_ref());
        set(&mut role.explicit_max_ttl_ms, self.explicit_max_ttl.map(ms).as_ref());
        set(&mut role.bound_cidrs, self.bound_cidrs.as_ref());
        set(&mut role.no_default_policy, self.no_default_policy.as_ref());
        set(&mut role.uses, self.uses.as_ref());
        set(&mut role.token_type, self.token_type.as_ref());
        set(&mut role.path_suffix, self.path_suffix.as_ref());
        set(&mut role.allowed_entity_aliases, self.allowed_entity_aliases.as_ref());
    }
}

/// A suffix is one segment of plain characters: it becomes a part of paths.
fn check_suffix(suffix: &str) -> Result<(), AskError> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_plain = suffix.len() <= SUFFIX_BYTES_MAX
        && suffix.chars().all(|c| is_word(c) || c == '-' || c == '.')
        && suffix.starts_with(is_word)
        && suffix.ends_with(is_word);
    if suffix.is_empty() || is_plain {
        return Ok(());
    }
    Err(AskError::Invalid("given role path suffix contains invalid characters; must match \\w[\\w-.]+\\w".into()))
}

/// Refuses a role that could never make a token.
fn check_whole(role: &stored::TokenRole) -> Result<(), PlanError> {
    if role.token_type != "batch" {
        return Ok(());
    }
    let refused = |text: &str| Err(PlanError::Refused(format!("'token_type' cannot be 'batch' when role is set to {text}")));
    if !role.orphan {
        return refused("generate non-orphan tokens");
    }
    if role.period_ms != 0 {
        return refused("generate periodic tokens");
    }
    if role.renewable {
        return refused("generate renewable tokens");
    }
    if role.explicit_max_ttl_ms != 0 {
        return refused("generate tokens with an explicit max TTL");
    }
    if role.uses != 0 {
        return refused("generate tokens with limited use count");
    }
    Ok(())
}

fn role_of(asked: &Asked<'_>) -> Result<String, AskError> {
    let name = asked.captures.text("name");
    if name.len() > NAME_BYTES_MAX {
        return Err(AskError::Invalid(format!("a role's name has at most {NAME_BYTES_MAX} bytes")));
    }
    Ok(name.to_owned())
}

/// Shows a role.
pub(super) fn show(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let role_name = role_of(asked)?;
    Ok(planned(move |scope| {
        let Some(role) = load(&scope.records, &scope.namespace.id, &role_name)?.1 else {
            return Ok(Outcome::answer(Answer::NotFound));
        };
        let aliases = if role.allowed_entity_aliases.is_empty() { None } else { Some(&role.allowed_entity_aliases) };
        let mut shown = json!({
            "name": role_name,
            "allowed_policies": role.allowed_policies,
            "disallowed_policies": role.disallowed_policies,
            "allowed_policies_glob": role.allowed_policies_glob,
            "disallowed_policies_glob": role.disallowed_policies_glob,
            "allowed_entity_aliases": aliases,
            "orphan": role.orphan,
            "renewable": role.renewable,
            "path_suffix": role.path_suffix,
            "period": role.period_ms / 1000,
            "token_period": role.period_ms / 1000,
            "explicit_max_ttl": role.explicit_max_ttl_ms / 1000,
            "token_explicit_max_ttl": role.explicit_max_ttl_ms / 1000,
            "token_no_default_policy": role.no_default_policy,
            "token_type": role.token_type,
        });
        if role.uses != 0 {
            shown["token_num_uses"] = json!(role.uses);
        }
        if !role.bound_cidrs.is_empty() {
            shown["bound_cidrs"] = json!(role.bound_cidrs);
            shown["token_bound_cidrs"] = json!(role.bound_cidrs);
        }
        Ok(Outcome::data(&shown))
    }))
}

struct Write {
    name: String,
    change: Change,
}

#[async_trait::async_trait]
impl Operation for Write {
    fn is_create(&self, scope: &Scope<'_>) -> Result<Option<bool>, PlanError> {
        Ok(Some(!scope.records.view.contains(&name(&scope.namespace.id, &self.name))?))
    }

    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        let (revision, role) = load(&scope.records, &scope.namespace.id, &self.name)?;
        let mut role = role.unwrap_or_else(new);
        self.change.apply(&mut role);
        check_whole(&role)?;
        let mut plan = Plan::new();
        expect(&scope.namespace.id, &self.name, revision, &mut plan);
        plan.put(name(&scope.namespace.id, &self.name), SecretBytes::from(role.encode_to_vec()));
        let mut outcome = Outcome::written(plan, Answer::Done);
        let (_, max) = scope.mount.lease_ttls(scope.settings);
        for (what, ms) in [("explicit max TTL", role.explicit_max_ttl_ms), ("period", role.period_ms)] {
            if Duration::from_millis(ms) > max {
                let (given, max) = (ms / 1000, max.as_secs());
                outcome.warnings.push(format!(
                    "Given {what} of {given} is greater than the system's or mount's {max} seconds; tokens are capped to that"
                ));
            }
        }
        Ok(outcome)
    }
}

/// Makes or changes a role.
pub(super) fn write(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(Box::new(Write { name: role_of(asked)?, change: Change::parse(&Fields::of(asked.ask)?)? }))
}

/// Deletes a role. Its tokens live on, and cannot be renewed.
pub(super) fn delete(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let role_name = role_of(asked)?;
    Ok(planned(move |scope| {
        let mut plan = Plan::new();
        plan.delete(name(&scope.namespace.id, &role_name));
        Ok(Outcome::written(plan, Answer::Done))
    }))
}

/// Names of all roles.
pub(super) fn list(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| {
        let children = scope.records.view.children(&name(&scope.namespace.id, ""))?;
        Ok(Outcome::list(children.into_iter().map(|child| child.as_str().to_owned()).collect()))
    }))
}

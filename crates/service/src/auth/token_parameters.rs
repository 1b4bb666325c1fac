//! `token_…`: what a user or a role says of the tokens that it makes. One set of members for all methods.
//!
//! Always: what is stored fits together (no periodic or counted batch tokens; no default above the bound); policies are in normal form.

use std::time::Duration;

use engine::AskError;
use engine::route::{Field, FieldKind};
use proto::stored::TokenParameters;
use serde_json::{Map, Value, json};

use crate::body::Fields;
use crate::cidr;
use crate::outcome::PlanError;

/// Policies that one list names, at most.
const POLICIES_MAX: usize = 256;

pub(crate) const TOKEN_TTL: Field =
    Field::optional("token_ttl", FieldKind::Duration, "How long its tokens live at first. 0: the mount's default.");
pub(crate) const TOKEN_MAX_TTL: Field = Field::optional(
    "token_max_ttl",
    FieldKind::Duration,
    "How long they live at most, however often they are renewed. 0: as the mount says.",
);
pub(crate) const TOKEN_EXPLICIT_MAX_TTL: Field = Field::optional(
    "token_explicit_max_ttl",
    FieldKind::Duration,
    "As token_max_ttl, but written into the token, and for periodic ones too. 0: no such bound.",
);
pub(crate) const TOKEN_PERIOD: Field =
    Field::optional("token_period", FieldKind::Duration, "Each renewal lasts this long, without an end. 0: not periodic.");
pub(crate) const TOKEN_POLICIES: Field = Field::optional("token_policies", FieldKind::List, "Policies of its tokens.");
pub(crate) const TOKEN_NO_DEFAULT_POLICY: Field =
    Field::optional("token_no_default_policy", FieldKind::Boolean, "Leave the policy default out. False at first.");
pub(crate) const TOKEN_NUM_USES: Field =
    Field::optional("token_num_uses", FieldKind::Integer, "How often each token can be used. 0: as often as one likes.");
pub(crate) const TOKEN_BOUND_CIDRS: Field = Field::optional(
    "token_bound_cidrs",
    FieldKind::List,
    "Addresses or CIDR blocks from which its tokens are made and used. Empty: from everywhere.",
);
pub(crate) const TOKEN_STRICTLY_BIND_IP: Field =
    Field::optional("token_strictly_bind_ip", FieldKind::Boolean, "Bind each token to the very address that logged in. False at first.");
pub(crate) const TOKEN_TYPE: Field =
    Field::optional("token_type", FieldKind::Text, "service, batch, or default: what the mount's token_type says.");

/// The fields of a route: its own, and then all of these.
macro_rules! with_token_fields {
    ($($field:expr),* $(,)?) => {
        &[
            $($field,)*
            $crate::auth::token_parameters::TOKEN_TTL,
            $crate::auth::token_parameters::TOKEN_MAX_TTL,
            $crate::auth::token_parameters::TOKEN_EXPLICIT_MAX_TTL,
            $crate::auth::token_parameters::TOKEN_PERIOD,
            $crate::auth::token_parameters::TOKEN_POLICIES,
            $crate::auth::token_parameters::TOKEN_NO_DEFAULT_POLICY,
            $crate::auth::token_parameters::TOKEN_NUM_USES,
            $crate::auth::token_parameters::TOKEN_BOUND_CIDRS,
            $crate::auth::token_parameters::TOKEN_STRICTLY_BIND_IP,
            $crate::auth::token_parameters::TOKEN_TYPE,
        ]
    };
}
pub(crate) use with_token_fields;

/// An old name of a member, and the new one.
pub(crate) type OldName = (&'static str, &'static str);

/// What a body says of them. What it does not name stays as it is.
#[derive(Debug, Default)]
pub(crate) struct Change {
    policies: Option<Vec<String>>,
    ttl_s: Option<u64>,
    max_ttl_s: Option<u64>,
    explicit_max_ttl_s: Option<u64>,
    period_s: Option<u64>,
    uses: Option<u64>,
    no_default_policy: Option<bool>,
    bound_cidrs: Option<Vec<String>>,
    strictly_bind_address: Option<bool>,
    kind: Option<String>,
    /// Old names, and whether each was used (else the new one was).
    names: Vec<(&'static str, bool)>,
}

/// Policies in normal form: lower case, each once, sorted.
pub(crate) fn normal_policies(names: &[String]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty()).collect();
    names.sort();
    names.dedup();
    names
}

/// A duration in whole seconds; less than one, but not none, would mean the default.
pub(crate) fn seconds(fields: &Fields, name: &str) -> Result<Option<u64>, AskError> {
    match fields.duration(name)? {
        Some(duration) if !duration.is_zero() && duration < Duration::from_secs(1) => {
            Err(AskError::Invalid(format!("{name} must be at least a second, or 0")))
        }
        duration => Ok(duration.map(|duration| duration.as_secs())),
    }
}

impl Change {
    /// Reads the members of a body; `old_names` are those that this method still takes. Of an old and a new name the new one holds.
    pub(crate) fn parse(fields: &Fields, old_names: &[OldName]) -> Result<Change, AskError> {
        let mut names = Vec::new();
        let mut name_of = |new: &'static str| {
            let old = old_names.iter().find(|(_, known)| *known == new).map(|(old, _)| *old);
            match old {
                Some(old) if fields.has(new) || fields.has(old) => {
                    names.push((old, !fields.has(new)));
                    if fields.has(new) { new } else { old }
                }
                _ => new,
            }
        };
        let policies = fields.list(name_of("token_policies"))?.map(|names| normal_policies(&names));
        if policies.as_ref().is_some_and(|policies| policies.len() > POLICIES_MAX) {
            return Err(AskError::Invalid(format!("token_policies has more than {POLICIES_MAX} names")));
        }
        let cidrs_name = name_of("token_bound_cidrs");
        let kind = match fields.text("token_type")? {
            None => None,
            Some("" | "default") => Some("default".to_owned()),
            Some(kind @ ("service" | "batch")) => Some(kind.to_owned()),
            Some(_) => return Err(AskError::Invalid("invalid 'token_type' value (must be service, batch or default)".into())),
        };
        Ok(Change {
            policies,
            ttl_s: seconds(fields, name_of("token_ttl"))?,
            max_ttl_s: seconds(fields, name_of("token_max_ttl"))?,
            explicit_max_ttl_s: seconds(fields, "token_explicit_max_ttl")?,
            period_s: seconds(fields, name_of("token_period"))?,
            uses: fields.integer(name_of("token_num_uses"))?,
            no_default_policy: fields.boolean("token_no_default_policy")?,
            bound_cidrs: fields.list(cidrs_name)?.map(|texts| cidr::parse(cidrs_name, &texts)).transpose()?,
            strictly_bind_address: fields.boolean("token_strictly_bind_ip")?,
            kind,
            names,
        })
    }

    /// Changes what is stored, if the result fits together.
    pub(crate) fn apply(&self, to: &mut TokenParameters) -> Result<(), PlanError> {
        fn set<T: Clone>(to: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                *to = value.clone();
            }
        }
        set(&mut to.policies, &self.policies);
        set(&mut to.ttl_s, &self.ttl_s);
        set(&mut to.max_ttl_s, &self.max_ttl_s);
        set(&mut to.explicit_max_ttl_s, &self.explicit_max_ttl_s);
        set(&mut to.period_s, &self.period_s);
        set(&mut to.uses, &self.uses);
        set(&mut to.no_default_policy, &self.no_default_policy);
        set(&mut to.bound_cidrs, &self.bound_cidrs);
        set(&mut to.strictly_bind_address, &self.strictly_bind_address);
        set(&mut to.kind, &self.kind);
        for (old, is_used) in &self.names {
            to.old_names.retain(|known| known != old);
            if *is_used {
                to.old_names.push((*old).to_owned());
            }
        }
        check(to).map_err(|text| PlanError::Refused(text.into()))
    }
}

fn check(parameters: &TokenParameters) -> Result<(), &'static str> {
    let is_batch = parameters.kind == "batch";
    if parameters.max_ttl_s != 0 && parameters.ttl_s > parameters.max_ttl_s {
        return Err("'token_ttl' cannot be greater than 'token_max_ttl'");
    }
    if is_batch && parameters.period_s != 0 {
        return Err("'token_type' cannot be 'batch' or 'default_batch' when set to generate periodic tokens");
    }
    if is_batch && parameters.uses != 0 {
        return Err("'token_type' cannot be 'batch' or 'default_batch' when set to generate tokens with limited use count");
    }
    Ok(())
}

/// Adds them to what is shown of a user or a role.
pub(crate) fn show(parameters: &TokenParameters, old_names: &[OldName], into: &mut Map<String, Value>) {
    let shown = [
        ("token_bound_cidrs", json!(parameters.bound_cidrs)),
        ("token_explicit_max_ttl", json!(parameters.explicit_max_ttl_s)),
        ("token_max_ttl", json!(parameters.max_ttl_s)),
        ("token_no_default_policy", json!(parameters.no_default_policy)),
        ("token_num_uses", json!(parameters.uses)),
        ("token_period", json!(parameters.period_s)),
        ("token_policies", json!(parameters.policies)),
        ("token_strictly_bind_ip", json!(parameters.strictly_bind_address)),
        ("token_ttl", json!(parameters.ttl_s)),
        ("token_type", json!(if parameters.kind.is_empty() { "default" } else { &parameters.kind })),
    ];
    for (old, new) in old_names {
        let value = shown.iter().find(|(name, _)| name == new).map(|(_, value)| value);
        // As Vault: shown under the old name too, if that was used and there is something to show.
        if let Some(value) = value
            && parameters.old_names.iter().any(|used| used == old)
            && *value != json!(0)
            && *value != json!([])
        {
            into.insert((*old).to_owned(), value.clone());
        }
    }
    into.extend(shown.map(|(name, value)| (name.to_owned(), value)));
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &[OldName] = &[("policies", "token_policies"), ("ttl", "token_ttl"), ("bound_cidrs", "token_bound_cidrs")];

    fn change(body: &Value) -> Result<Change, AskError> {
        Change::parse(&Fields::from_object(body.as_object().unwrap().clone()), OLD)
    }

    fn shown(parameters: &TokenParameters) -> Value {
        let mut map = Map::new();
        show(parameters, OLD, &mut map);
        Value::Object(map)
    }

    #[test]
    fn what_is_written_is_shown_under_the_names_that_were_used() {
        let mut parameters = TokenParameters::default();
        change(&json!({"policies": " B,a,b", "ttl": "1h", "bound_cidrs": "127.0.0.1/32"})).unwrap().apply(&mut parameters).unwrap();
        let value = shown(&parameters);
        for (name, want) in [
            ("policies", json!(["a", "b"])),
            ("token_policies", json!(["a", "b"])),
            ("ttl", json!(3600)),
            ("token_ttl", json!(3600)),
            ("bound_cidrs", json!(["127.0.0.1"])),
            ("token_type", json!("default")),
            ("token_max_ttl", json!(0)),
        ] {
            assert_eq!(value[name], want, "{name}");
        }
        change(&json!({"token_policies": ["x"], "policies": ["y"], "ttl": 0})).unwrap().apply(&mut parameters).unwrap();
        let value = shown(&parameters);
        assert_eq!(value["token_policies"], json!(["x"]), "the new name holds");
        assert_eq!(value.get("policies").or(value.get("ttl")), None);
        assert_eq!(value["bound_cidrs"], json!(["127.0.0.1"]), "what is not named stays");
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for body in [
            json!({"token_ttl": "2h", "token_max_ttl": "1h"}),
            json!({"token_type": "batch", "token_period": 60}),
            json!({"token_type": "batch", "token_num_uses": 1}),
        ] {
            let refused = change(&body).unwrap().apply(&mut TokenParameters::default());
            assert!(matches!(refused, Err(PlanError::Refused(_))), "{body}");
        }
        for body in [
            json!({"token_type": "default-service"}),
            json!({"token_type": "bogus"}),
            json!({"token_bound_cidrs": "garbage"}),
            json!({"token_num_uses": -1}),
            json!({"token_ttl": "-1s"}),
            json!({"token_ttl": "10ms"}),
            json!({"token_no_default_policy": "perhaps"}),
            json!({"token_policies": (0..=POLICIES_MAX).map(|number| number.to_string()).collect::<Vec<_>>()}),
        ] {
            assert!(change(&body).is_err(), "{body}");
        }
    }

    #[test]
    fn cve_2025_5999_every_spelling_of_root_is_root() {
        for spelling in ["root", "ROOT", " Root ", "rOOt\t", "\u{a0}root"] {
            assert_eq!(normal_policies(&[spelling.to_owned()]), ["root"], "{spelling:?}");
        }
    }
}

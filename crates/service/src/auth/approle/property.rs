//! Properties of a role, each by a path of its own: the last segment of the path says which.

use engine::AskError;
use serde_json::{Map, Value, json};

use super::role::{Change, shown};
use super::{FoundRole, name_of};
use crate::backend::Asked;
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, planned};
use crate::request::Answer;

/// A property that has a path.
#[derive(Clone, Copy)]
struct Property {
    /// The last segment of its path.
    segment: &'static str,
    /// The member that it is shown as, and written by.
    member: &'static str,
    /// An older name of that member.
    old_member: Option<&'static str>,
    /// The member of the role that it is.
    of_role: &'static str,
}

const fn property(segment: &'static str, member: &'static str) -> Property {
    Property { segment, member, old_member: None, of_role: member }
}

const PROPERTIES: &[Property] = &[
    Property { old_member: Some("policies"), ..property("policies", "token_policies") },
    property("token-ttl", "token_ttl"),
    property("token-max-ttl", "token_max_ttl"),
    property("token-num-uses", "token_num_uses"),
    property("token-bound-cidrs", "token_bound_cidrs"),
    Property { old_member: Some("period"), ..property("period", "token_period") },
    property("bind-secret-id", "bind_secret_id"),
    property("secret-id-num-uses", "secret_id_num_uses"),
    property("secret-id-ttl", "secret_id_ttl"),
    property("secret-id-bound-cidrs", "secret_id_bound_cidrs"),
    Property { of_role: "secret_id_bound_cidrs", ..property("bound-cidr-list", "bound_cidr_list") },
    property("local-secret-ids", "local_secret_ids"),
];

impl Property {
    fn of(asked: &Asked<'_>) -> Result<Property, AskError> {
        let last = asked.ask.path.segments().next_back().unwrap_or_default();
        PROPERTIES.iter().find(|property| property.segment == last).copied().ok_or(AskError::UnsupportedPath)
    }

    /// What a new role has.
    fn first_value(self) -> Value {
        match self.of_role {
            "bind_secret_id" => json!(true),
            "token_policies" | "token_bound_cidrs" | "secret_id_bound_cidrs" => json!([]),
            _ => json!(0),
        }
    }
}

pub(super) fn read_property(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let (name, property) = (name_of(asked)?, Property::of(asked)?);
    Ok(planned(move |scope| {
        let Some(found) = FoundRole::find(scope, &name)? else { return Ok(Outcome::answer(Answer::NotFound)) };
        let value = shown(&found.role).remove(property.of_role).unwrap_or_default();
        let mut outcome = Outcome::data(&json!({ property.member: value }));
        if property.member != property.of_role {
            outcome.warnings.push(format!("{} is an old name of {}", property.member, property.of_role));
        }
        Ok(outcome)
    }))
}

pub(super) fn write_property(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let (name, property) = (name_of(asked)?, Property::of(asked)?);
    let fields = Fields::of(asked.ask)?;
    let members = [Some(property.member), property.old_member].into_iter().flatten();
    let members: Map<String, Value> = members.filter_map(|member| Some((member.to_owned(), fields.value(member)?.clone()))).collect();
    if members.is_empty() {
        return Err(AskError::Invalid(format!("missing {}", property.member)));
    }
    let change = Change::parse(&Fields::from_object(members))?;
    Ok(planned(move |scope| {
        let found = FoundRole::existing(scope, &name)?;
        Ok(Outcome::written(change.plan(scope, &name, Some(found))?, Answer::Done))
    }))
}

pub(super) fn delete_property(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let (name, property) = (name_of(asked)?, Property::of(asked)?);
    let members = Map::from_iter([(property.member.to_owned(), property.first_value())]);
    let change = Change::parse(&Fields::from_object(members))?;
    Ok(planned(move |scope| {
        let Some(found) = FoundRole::find(scope, &name)? else { return Ok(Outcome::answer(Answer::Done)) };
        Ok(Outcome::written(change.plan(scope, &name, Some(found))?, Answer::Done))
    }))
}

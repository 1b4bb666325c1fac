//! Parameters: which fields a request may, must and must not have, and with which values.
//!
//! Names are compared without regard to case. Text compares by the globs of its rule (`*` in front, behind, or both), numbers by value, all
//! else by equality. Always: a value list that is empty stands for every value.
//! Knows nothing of paths.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Map, Number, Value};

use super::decision::Reason;

/// The name that stands for all parameters.
const EVERY: &str = "*";

/// What a rule asks of a request's parameters. Empty: nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters {
    /// Where this is not empty, parameters that are not in it are refused (unless `*` is), and those in it must have one of its values.
    pub(super) allowed: HashMap<Box<str>, Values>,
    /// These are refused if they have one of these values; `*` refuses all.
    pub(super) denied: HashMap<Box<str>, Values>,
    /// These must be there.
    pub(super) required: Vec<Box<str>>,
}

/// The values that a rule names for a parameter.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    /// Each.
    Any,
    /// One of these; never empty.
    OneOf(Vec<ValuePattern>),
}

/// A value in a rule.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ValuePattern {
    /// Text that begins so: `x*`.
    Begins(Box<str>),
    /// Text that ends so: `*x`.
    Ends(Box<str>),
    /// Text that has this in it: `*x*`.
    Contains(Box<str>),
    /// This value.
    Equals(Value),
}

impl ValuePattern {
    pub(super) fn new(value: Value) -> ValuePattern {
        let Value::String(text) = &value else { return ValuePattern::Equals(value) };
        // A lone star is a star, as in Vault.
        match (text.len() > 1, text.strip_prefix('*'), text.strip_suffix('*')) {
            (true, Some(rest), Some(_)) => ValuePattern::Contains(rest[..rest.len() - 1].into()),
            (true, Some(rest), None) => ValuePattern::Ends(rest.into()),
            (true, None, Some(rest)) => ValuePattern::Begins(rest.into()),
            _ => ValuePattern::Equals(value),
        }
    }

    /// The value that [`ValuePattern::new`] takes for this.
    fn print(&self) -> Value {
        match self {
            ValuePattern::Begins(part) => Value::String(format!("{part}*")),
            ValuePattern::Ends(part) => Value::String(format!("*{part}")),
            ValuePattern::Contains(part) => Value::String(format!("*{part}*")),
            ValuePattern::Equals(value) => value.clone(),
        }
    }

    fn matches(&self, value: &Value) -> bool {
        match (self, value) {
            (ValuePattern::Begins(part), Value::String(text)) => text.starts_with(&**part),
            (ValuePattern::Ends(part), Value::String(text)) => text.ends_with(&**part),
            (ValuePattern::Contains(part), Value::String(text)) => text.contains(&**part),
            (ValuePattern::Equals(wanted), value) => equal(wanted, value),
            _ => false,
        }
    }
}

impl Values {
    pub(super) fn new(values: Vec<Value>) -> Values {
        if values.is_empty() { Values::Any } else { Values::OneOf(values.into_iter().map(ValuePattern::new).collect()) }
    }

    fn has(&self, value: &Value) -> bool {
        match self {
            Values::Any => true,
            Values::OneOf(patterns) => patterns.iter().any(|pattern| pattern.matches(value)),
        }
    }

    fn merge(&mut self, other: &Values) {
        match (&mut *self, other) {
            (Values::Any, _) => {}
            (_, Values::Any) => *self = Values::Any,
            (Values::OneOf(own), Values::OneOf(others)) => own.extend(others.iter().cloned()),
        }
    }
}

impl Parameters {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.allowed.is_empty() && self.denied.is_empty() && self.required.is_empty()
    }

    /// Adds what a parameter's name stands for in a rule.
    pub(super) fn add(parameters: &mut HashMap<Box<str>, Values>, name: &str, values: Values) {
        parameters.entry(lower(name).into()).and_modify(|own| own.merge(&values)).or_insert(values);
    }

    /// Adds what another rule with the same path asks: what either requires or denies, and values that either allows.
    pub(super) fn merge(&mut self, other: &Parameters) {
        for (own, others) in [(&mut self.allowed, &other.allowed), (&mut self.denied, &other.denied)] {
            for (name, values) in others {
                Parameters::add(own, name, values.clone());
            }
        }
        for name in &other.required {
            if !self.required.contains(name) {
                self.required.push(name.clone());
            }
        }
    }

    /// The parameters that may be there, as a policy has them.
    pub(super) fn allowed_values(&self) -> Map<String, Value> {
        print(&self.allowed)
    }

    /// The parameters that must not be there, as a policy has them.
    pub(super) fn denied_values(&self) -> Map<String, Value> {
        print(&self.denied)
    }

    /// Whether `name`, in lower case, must be there.
    pub(super) fn requires(&self, name: &str) -> bool {
        self.required.iter().any(|required| **required == *name)
    }

    /// Why a request with these parameters is refused.
    pub(super) fn check<'a>(&'a self, given: Option<&'a Map<String, Value>>) -> Result<(), Reason<'a>> {
        // As in Vault, a required parameter counts only if it is written in lower case.
        if let Some(missing) = self.required.iter().find(|name| !given.is_some_and(|given| given.contains_key(&***name))) {
            return Err(Reason::ParameterMissing(missing));
        }
        let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(()) };
        if self.denied.contains_key(EVERY) {
            return Err(Reason::ParametersDenied);
        }
        if !self.denied.is_empty()
            && let Some((name, _)) = given.iter().find(|(name, value)| self.denied.get(&*lower(name)).is_some_and(|list| list.has(value)))
        {
            return Err(Reason::ParameterDenied(name));
        }
        if self.allowed.is_empty() {
            return Ok(());
        }
        let others_may = self.allowed.contains_key(EVERY);
        for (name, value) in given {
            match self.allowed.get(&*lower(name)) {
                None if others_may => {}
                None => return Err(Reason::ParameterNotAllowed(name)),
                // With nothing but `*` in the list, its values do not count, as in Vault.
                Some(_) if others_may && self.allowed.len() == 1 => {}
                Some(values) if values.has(value) => {}
                Some(_) => return Err(Reason::ParameterValueNotAllowed(name)),
            }
        }
        Ok(())
    }
}

/// Names and value lists, in the order of the names.
fn print(parameters: &HashMap<Box<str>, Values>) -> Map<String, Value> {
    let mut names: Vec<_> = parameters.iter().collect();
    names.sort_unstable_by_key(|(name, _)| *name);
    let values = |values: &Values| match values {
        Values::Any => Vec::new(),
        Values::OneOf(patterns) => patterns.iter().map(ValuePattern::print).collect(),
    };
    names.into_iter().map(|(name, list)| (name.to_string(), Value::Array(values(list)))).collect()
}

/// `name` in lower case; without a copy where it is already.
fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(name.to_lowercase())
    }
}

/// Equality of JSON, numbers by value. Vault's never matches a number of a rule with one of a request, so that a denied number passes it.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => equal_numbers(left, right),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len() && left.iter().all(|(name, value)| right.get(name).is_some_and(|other| equal(value, other)))
        }
        (left, right) => left == right,
    }
}

fn equal_numbers(left: &Number, right: &Number) -> bool {
    match (left.as_i128(), right.as_i128()) {
        (Some(left), Some(right)) => left == right,
        _ => left.as_f64() == right.as_f64(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_match_by_glob_number_and_equality() {
        for (pattern, yes, no) in [
            (json!("a*"), json!(["a", "ab", "a*"]), json!(["ba", "A", 1, null, ["a"]])),
            (json!("*a"), json!(["a", "ba"]), json!(["ab"])),
            (json!("*a*"), json!(["a", "bab"]), json!(["b"])),
            (json!("**"), json!(["", "x"]), json!([1])),
            (json!("*"), json!(["*"]), json!(["", "x"])),
            (json!(""), json!([""]), json!(["x", null])),
            (json!("a*b"), json!(["a*b"]), json!(["ab", "axb"])),
            (json!(5), json!([5, 5.0]), json!(["5", 6, true])),
            (json!(0.5), json!([0.5]), json!(["0.5", 1])),
            (json!(18_446_744_073_709_551_615_u64), json!([18_446_744_073_709_551_615_u64]), json!([18_446_744_073_709_551_614_u64, -1])),
            (json!(true), json!([true]), json!(["true", false, 1])),
            (json!(null), json!([null]), json!(["", false])),
            (json!(["a*", 1]), json!([["a*", 1.0]]), json!([["ab", 1], ["a*"], [1, "a*"]])),
            (json!({"a": {"b": 1}}), json!([{"a": {"b": 1}}]), json!([{"a": {"b": 2}}, {"a": {}}, {"a": {"b": 1}, "c": 1}])),
        ] {
            let compiled = ValuePattern::new(pattern.clone());
            for value in yes.as_array().unwrap() {
                assert!(compiled.matches(value), "{pattern} {value}");
            }
            for value in no.as_array().unwrap() {
                assert!(!compiled.matches(value), "{pattern} {value}");
            }
        }
    }

    #[test]
    fn every_value_outweighs_some_when_rules_merge() {
        let (any, some) = (Values::new(Vec::new()), Values::new(vec![json!("a")]));
        let merged = |left: &Values, right: &Values| {
            let mut left = left.clone();
            left.merge(right);
            left
        };
        assert_eq!([merged(&any, &some), merged(&some, &any)], [Values::Any, Values::Any]);
        assert_eq!(merged(&some, &Values::new(vec![json!("b")])), Values::new(vec![json!("a"), json!("b")]));
    }
}

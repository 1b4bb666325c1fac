//! Members of a body or query, in the forms in which Vault's clients send them: numbers and booleans also as text, durations as
//! seconds or as text, lists also as one text with commas.
//!
//! Errors name the member and what would be right, and hold nothing of its value.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use crypto::Zeroizing;
use engine::{Ask, AskError};
use serde_json::{Map, Value};
use types::duration;

use crate::policy::decision;
use crate::request::Request;

/// The members of one request: the body's, and the query's where the body has none of that name. Wiped as far as JSON values can be.
pub(crate) struct Fields {
    members: Map<String, Value>,
}

fn invalid(name: &str, cure: &str) -> AskError {
    AskError::Invalid(format!("{name} {cure}"))
}

impl Fields {
    /// Of an ask. A body that is there must be a JSON object.
    pub(crate) fn of(ask: &Ask) -> Result<Fields, AskError> {
        // EXPOSE: the body is parsed.
        let body = ask.body.expose();
        let mut members = if body.is_empty() {
            Map::new()
        } else {
            // What serde_json says may repeat parts of the body.
            serde_json::from_slice(body).map_err(|_| AskError::Invalid("the body must be a JSON object".into()))?
        };
        for (name, value) in &ask.query {
            if !members.contains_key(name) {
                members.insert(name.clone(), Value::String(value.clone()));
            }
        }
        Ok(Fields { members })
    }

    /// Of an object that is already parsed.
    pub(crate) fn from_object(members: Map<String, Value>) -> Fields {
        Fields { members }
    }

    /// Names of all members.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Whether it is there and not null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// As it came; `None` when it is not there or null.
    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    /// Text; numbers and booleans count as what they look like.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, AskError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(name, "must be a text")),
        }
    }

    /// Text that must be there and not be empty.
    pub(crate) fn required_text(&self, name: &str) -> Result<&str, AskError> {
        self.text(name)?.filter(|text| !text.is_empty()).ok_or_else(|| invalid(name, "is missing"))
    }

    /// A secret text: its copy is wiped.
    pub(crate) fn secret(&self, name: &str) -> Result<Option<Zeroizing<String>>, AskError> {
        Ok(self.text(name)?.map(|text| Zeroizing::new(text.to_owned())))
    }

    /// A boolean.
    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, AskError> {
        let cure = || invalid(name, "must be true or false");
        match self.value(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(Value::String(text)) => match text.as_str() {
                "" => Ok(None),
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
                _ => Err(cure()),
            },
            Some(Value::Number(number)) => match number.as_u64() {
                Some(0) => Ok(Some(false)),
                Some(1) => Ok(Some(true)),
                _ => Err(cure()),
            },
            Some(_) => Err(cure()),
        }
    }

    /// A whole number that is not negative.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<u64>, AskError> {
        let parsed = match self.value(name) {
            None => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::String(text)) => text.parse().ok(),
            Some(Value::Number(number)) => number.as_u64(),
            Some(_) => None,
        };
        parsed.map(Some).ok_or_else(|| invalid(name, "must be a whole number, not negative"))
    }

    /// A duration: seconds, or text such as `1h30m`. Not negative.
    pub(crate) fn duration(&self, name: &str) -> Result<Option<Duration>, AskError> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => duration_of(value)
                .map(Some)
                .ok_or_else(|| invalid(name, r#"must be a duration: seconds, or a text such as "1h30m" or "7d", not negative"#)),
        }
    }

    /// Texts: a list, or one text with commas. Blanks around each are dropped, and so are empty ones.
    pub(crate) fn list(&self, name: &str) -> Result<Option<Vec<String>>, AskError> {
        let cure = || invalid(name, "must be a list of texts, or one text with commas");
        let texts: Vec<String> = match self.value(name) {
            None => return Ok(None),
            Some(Value::String(text)) => text.split(',').map(str::to_owned).collect(),
            Some(Value::Array(values)) => {
                values.iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<_>>().ok_or_else(cure)?
            }
            Some(_) => return Err(cure()),
        };
        Ok(Some(texts.into_iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect()))
    }

    /// Names with texts. Numbers and booleans become texts, as the CLI sends them.
    pub(crate) fn map(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, AskError> {
        let cure = || invalid(name, "must be an object whose members are texts");
        let parsed;
        let members = match self.value(name) {
            None => return Ok(None),
            Some(Value::Object(members)) => members,
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            // As `metadata=@file` of the CLI, and AppRole's `metadata`, come: JSON in a text.
            Some(Value::String(text)) => {
                parsed = serde_json::from_str::<Map<String, Value>>(text).map_err(|_| cure())?;
                &parsed
            }
            Some(_) => return Err(cure()),
        };
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            _ => None,
        };
        members.iter().map(|(name, value)| Some((name.clone(), text(value)?))).collect::<Option<_>>().map(Some).ok_or_else(cure)
    }
}

/// The request's parameters, as policies look at them and as [`Fields`] hands them out: the body's members, and the query's where the body has
/// none of that name. Parsed when a rule asks.
pub(crate) struct Parameters<'a> {
    request: &'a Request,
    parsed: OnceLock<Option<Map<String, Value>>>,
}

impl<'a> Parameters<'a> {
    /// Of a request.
    pub(crate) fn of(request: &'a Request) -> Parameters<'a> {
        Parameters { request, parsed: OnceLock::new() }
    }
}

impl decision::Fields for Parameters<'_> {
    fn fields(&self) -> Option<&Map<String, Value>> {
        self.parsed.get_or_init(|| parameters(self.request)).as_ref()
    }
}

fn parameters(request: &Request) -> Option<Map<String, Value>> {
    let mut members: Map<String, Value> = match request.body.is_empty() {
        true => Map::new(),
        // EXPOSE: the body is parsed.
        false => serde_json::from_slice(request.body.expose()).ok()?,
    };
    for (name, value) in &request.query {
        if !members.contains_key(name) {
            members.insert(name.clone(), Value::String(value.clone()));
        }
    }
    Some(members).filter(|members| !members.is_empty() || !request.body.is_empty())
}

/// A duration in any of the forms that clients send.
pub(crate) fn duration_of(value: &Value) -> Option<Duration> {
    match value {
        Value::String(text) if text.is_empty() => Some(Duration::ZERO),
        Value::String(text) => duration::parse(text).ok(),
        Value::Number(number) => duration::from_seconds(number.as_i64()?).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::from_object(value.as_object().unwrap().clone())
    }

    #[test]
    fn the_forms_that_clients_send_are_understood() {
        let fields = fields(json!({
            "n": 5, "n_text": "5", "yes": true, "yes_text": "true", "s": 60, "s_text": "1m", "s_bare": "60", "list": ["a", " b "],
            "list_text": "a, b,", "map": {"a": "1", "b": 2, "c": true}, "map_text": "{\"a\":\"1\"}", "null": null
        }));
        assert_eq!(
            [fields.integer("n").unwrap(), fields.integer("n_text").unwrap(), fields.integer("none").unwrap()],
            [Some(5), Some(5), None]
        );
        assert_eq!(
            [fields.boolean("yes").unwrap(), fields.boolean("yes_text").unwrap(), fields.boolean("null").unwrap()],
            [Some(true), Some(true), None]
        );
        for name in ["s", "s_text", "s_bare"] {
            assert_eq!(fields.duration(name).unwrap(), Some(Duration::from_secs(60)), "{name}");
        }
        for name in ["list", "list_text"] {
            assert_eq!(fields.list(name).unwrap().unwrap(), ["a", "b"], "{name}");
        }
        assert_eq!(fields.map("map").unwrap().unwrap()["b"], "2");
        assert_eq!(fields.map("map_text").unwrap().unwrap()["a"], "1");
    }

    #[test]
    fn what_does_not_fit_is_named_and_not_repeated() {
        let fields = fields(json!({"a": "hush-hush", "b": -1, "c": [1], "d": {"x": []}, "e": 1.5}));
        let errors = [
            fields.integer("a").unwrap_err(),
            fields.boolean("a").unwrap_err(),
            fields.duration("a").unwrap_err(),
            fields.duration("b").unwrap_err(),
            fields.integer("b").unwrap_err(),
            fields.list("c").unwrap_err(),
            fields.map("d").unwrap_err(),
            fields.map("a").unwrap_err(),
            fields.integer("e").unwrap_err(),
            fields.required_text("none").unwrap_err(),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(!text.contains("hush") && text.contains("must be") | text.contains("missing"), "{text}");
        }
    }
}

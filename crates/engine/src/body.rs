//! What comes in bodies and queries. A body is a JSON object of which only the names are read: each value stays the text it was, so that nothing is lost.
//!
//! Always: of a name that comes twice the last value holds, as in Go. Errors tell the place and what would be right, never
//! what was there. The lenient forms (`"5"` for 5, `"true"`, `null` for nothing) are those that Vault's clients rely on.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Ask, AskError};

/// An object's members, by name.
#[derive(Deserialize, Default)]
#[serde(transparent)]
pub(crate) struct Object<'a> {
    #[serde(borrow)]
    members: BTreeMap<Key<'a>, &'a RawValue>,
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl Borrow<str> for Key<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// What a JSON text is, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// What kind of value `text` is: any text of a [`RawValue`].
pub(crate) fn kind(text: &str) -> Kind {
    match text.as_bytes().first() {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b'"') => Kind::String,
        Some(b't' | b'f') => Kind::Bool,
        Some(b'n') => Kind::Null,
        _ => Kind::Number,
    }
}

impl Kind {
    /// As Go's decoder calls it; clients see it in errors.
    pub(crate) fn go_name(self) -> &'static str {
        match self {
            Kind::Null => "nil",
            Kind::Bool => "bool",
            Kind::Number => "json.Number",
            Kind::String => "string",
            Kind::Array => "[]interface {}",
            Kind::Object => "map[string]interface {}",
        }
    }
}

impl<'a> Object<'a> {
    /// Reads a request's body. None at all, and `null`, are an empty object.
    pub(crate) fn parse_body(body: &'a [u8]) -> Result<Object<'a>, AskError> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Object::default());
        }
        let value: &RawValue = serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let what = if error.is_eof() { "unexpected end" } else { "not JSON" };
            AskError::Invalid(format!("failed to decode JSON input: {what} at line {line}, column {column}"))
        })?;
        match kind(value.get()) {
            Kind::Null => Ok(Object::default()),
            Kind::Object => Object::parse(value.get())
                .ok_or_else(|| AskError::Invalid("failed to decode JSON input: a name in the object is no valid text".to_owned())),
            _ => Err(AskError::Invalid("failed to decode JSON input: the body must be an object".to_owned())),
        }
    }

    /// Reads an object; `None` if the text is none.
    pub(crate) fn parse(text: &'a str) -> Option<Object<'a>> {
        serde_json::from_str(text).ok()
    }

    /// A member's text.
    pub(crate) fn member(&self, name: &str) -> Option<&'a str> {
        self.members.get(name).map(|value| value.get())
    }

    /// All names with their texts, sorted by name.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.members.iter().map(|(name, value)| (&*name.0, value.get()))
    }

    /// How many members.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// A member that is an object; `None` if it is absent or null.
    pub(crate) fn object(&self, field: &str) -> Result<Option<Object<'a>>, AskError> {
        let Some(text) = self.member(field) else { return Ok(None) };
        match kind(text) {
            Kind::Null => Ok(None),
            Kind::Object => Object::parse(text).map(Some).ok_or_else(|| wrong(field, "a name in it is no valid text")),
            kind => Err(not_a_map(field, kind)),
        }
    }

    /// A member that is a whole number.
    pub(crate) fn integer(&self, field: &str) -> Result<Option<i64>, AskError> {
        self.read(field, integer, "expected a whole number")
    }

    /// A member that is true or false.
    pub(crate) fn boolean(&self, field: &str) -> Result<Option<bool>, AskError> {
        self.read(field, boolean, "expected true or false")
    }

    /// A member that is a list of whole numbers.
    pub(crate) fn integers(&self, field: &str) -> Result<Option<Vec<i64>>, AskError> {
        self.read(field, integers, "expected a list of whole numbers, such as [1,2]")
    }

    /// A member that is a duration in seconds or a text such as `1h30m`, cut to whole seconds.
    pub(crate) fn duration(&self, field: &str) -> Result<Option<SignedDuration>, AskError> {
        self.read(field, duration, "expected a duration, such as \"1h30m\" or a number of seconds")
    }

    fn read<T>(&self, field: &str, read: impl Fn(&str) -> Option<T>, expected: &str) -> Result<Option<T>, AskError> {
        self.member(field).map(|text| read(text).ok_or_else(|| wrong(field, expected))).transpose()
    }
}

/// A duration as it was written: Vault gives a meaning to negative ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignedDuration {
    /// Below zero.
    Negative,
    /// Whole seconds, or none.
    Positive(Duration),
}

/// An error that names a field.
pub(crate) fn wrong(field: &str, what: &str) -> AskError {
    AskError::Invalid(format!("error converting input for field {field:?}: {what}"))
}

/// Vault's error for a field that should be an object.
pub(crate) fn not_a_map(field: &str, kind: Kind) -> AskError {
    let kind = kind.go_name();
    wrong(field, &format!("'' expected type 'map[string]interface {{}}', got unconvertible type '{kind}'"))
}

/// A whole number, from a number, a text that holds one, or nothing.
pub(crate) fn integer(text: &str) -> Option<i64> {
    match kind(text) {
        Kind::Null => Some(0),
        Kind::Number => text.parse().ok(),
        Kind::String => integer_in_text(&string(text)?),
        _ => None,
    }
}

/// A whole number from a query parameter or a text in a body. The empty one is zero.
pub(crate) fn integer_in_text(text: &str) -> Option<i64> {
    if text.is_empty() { Some(0) } else { text.parse().ok() }
}

/// A query parameter that is a whole number; 0 if it is absent.
pub(crate) fn query_integer(ask: &Ask, name: &str) -> Result<i64, AskError> {
    integer_in_text(ask.query(name).unwrap_or_default()).ok_or_else(|| {
        AskError::Invalid(format!("Field validation failed: error converting input for field {name:?}: expected a whole number"))
    })
}

/// A JSON string's content.
pub(crate) fn string(text: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Key<'_>>(text).ok().map(|key| key.0)
}

fn boolean(text: &str) -> Option<bool> {
    match kind(text) {
        Kind::Null => Some(false),
        Kind::Bool => Some(text == "true"),
        Kind::Number => integer(text).map(|number| number != 0),
        Kind::String => match &*string(text)? {
            "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
            "" | "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
            _ => None,
        },
        Kind::Array | Kind::Object => None,
    }
}

fn integers(text: &str) -> Option<Vec<i64>> {
    match kind(text) {
        Kind::Null => Some(Vec::new()),
        Kind::Number => integer(text).map(|number| vec![number]),
        Kind::String => string(text)?.split(',').map(|part| integer_in_text(part.trim())).collect(),
        Kind::Array => serde_json::from_str::<Vec<&RawValue>>(text).ok()?.into_iter().map(|value| integer(value.get())).collect(),
        Kind::Bool | Kind::Object => None,
    }
}

/// A duration, from a number of seconds, a text, or nothing; cut to whole seconds.
pub(crate) fn duration(text: &str) -> Option<SignedDuration> {
    let text = match kind(text) {
        Kind::Null => return Some(SignedDuration::Positive(Duration::ZERO)),
        Kind::Number => Cow::Borrowed(text),
        Kind::String => string(text)?,
        _ => return None,
    };
    let text = text.trim();
    let seconds = |text| types::duration::parse(text).ok().map(|duration| Duration::from_secs(duration.as_secs()));
    match text.strip_prefix('-') {
        None => seconds(text).map(SignedDuration::Positive),
        Some(rest) if rest.starts_with(['-', ' ']) || rest.is_empty() => None,
        Some(rest) => seconds(rest).map(|duration| match duration {
            Duration::ZERO => SignedDuration::Positive(Duration::ZERO),
            _ => SignedDuration::Negative,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_objects() {
        for body in ["", " \n", "null", "{}", " {} "] {
            assert!(Object::parse_body(body.as_bytes()).is_ok_and(|object| object.len() == 0), "{body}");
        }
        for body in ["[]", "\"x\"", "5", "{", "{} x", "{\"a\"}", "\u{feff}{}", r#"{"\ud800":1}"#, "{\"a\":1,}"] {
            let Err(AskError::Invalid(text)) = Object::parse_body(body.as_bytes()) else { panic!("{body} is accepted") };
            assert!(text.starts_with("failed to decode JSON input: "), "{body}: {text}");
        }
        assert!(Object::parse_body(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn the_last_of_two_members_holds() {
        let object = Object::parse_body(br#"{"a":1,"\u0061":2}"#).unwrap_or_default();
        assert_eq!(object.member("a"), Some("2"));
        assert_eq!(object.len(), 1);
    }

    #[test]
    fn whole_numbers_are_lenient_as_vaults_but_never_rounded() {
        for (text, want) in [
            ("5", Some(5)),
            ("-5", Some(-5)),
            ("\"5\"", Some(5)),
            ("\"\"", Some(0)),
            ("null", Some(0)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("1.0", None),
            ("1e2", None),
            ("\"x\"", None),
            ("\" 5\"", None),
            ("true", None),
            ("[]", None),
            ("{}", None),
        ] {
            assert_eq!(integer(text), want, "{text}");
        }
    }

    #[test]
    fn booleans_and_lists_are_lenient_as_vaults() {
        for (text, want) in [
            ("true", Some(true)),
            ("false", Some(false)),
            ("\"true\"", Some(true)),
            ("\"0\"", Some(false)),
            ("0", Some(false)),
            ("2", Some(true)),
            ("null", Some(false)),
            ("\"yes\"", None),
            ("[]", None),
        ] {
            assert_eq!(boolean(text), want, "{text}");
        }
        for (text, want) in [
            ("[1,2]", Some(vec![1, 2])),
            ("[ 1 , \"2\" ]", Some(vec![1, 2])),
            ("[]", Some(vec![])),
            ("3", Some(vec![3])),
            ("\"1,2\"", Some(vec![1, 2])),
            ("null", Some(vec![])),
            ("[1.5]", None),
            ("[[1]]", None),
            ("[\"1,2\"]", None),
            ("{}", None),
            ("true", None),
        ] {
            assert_eq!(integers(text), want, "{text}");
        }
    }

    #[test]
    fn durations_are_whole_seconds_with_a_sign() {
        let seconds = |seconds| Some(SignedDuration::Positive(Duration::from_secs(seconds)));
        for (text, want) in [
            ("90", seconds(90)),
            ("\"90\"", seconds(90)),
            ("\"1h30m\"", seconds(5400)),
            ("\"1.5h\"", seconds(5400)),
            ("\"5d\"", seconds(432_000)),
            ("\"1500ms\"", seconds(1)),
            ("\"\"", seconds(0)),
            ("null", seconds(0)),
            ("-5", Some(SignedDuration::Negative)),
            ("\"-1h\"", Some(SignedDuration::Negative)),
            ("\"-0s\"", seconds(0)),
            ("\"--1h\"", None),
            ("\"-\"", None),
            ("\"x\"", None),
            ("[]", None),
            ("true", None),
        ] {
            assert_eq!(duration(text), want, "{text}");
        }
    }
}

//! Custom metadata: what an operator notes on a secret. Not secret itself in Vault's eyes, yet kept as one.
//!
//! Always: within the limits below, which are Vault's.

use std::collections::BTreeMap;

use super::json::{Kind, Object, kind, not_a_map, string, wrong};
use crate::AskError;

/// Names that a secret's custom metadata may have.
pub const CUSTOM_KEYS_MAX: usize = 64;
/// Bytes of such a name.
pub const CUSTOM_KEY_BYTES_MAX: usize = 128;
/// Bytes of what stands under it.
pub const CUSTOM_VALUE_BYTES_MAX: usize = 512;

/// The field's name, in bodies and errors.
const FIELD: &str = "custom_metadata";

/// Reads the field of a body. `None`: it is not there. Null and an empty object are both nothing.
pub(super) fn parse(body: &Object<'_>) -> Result<Option<BTreeMap<String, String>>, AskError> {
    match body.member(FIELD).map(kind) {
        None => return Ok(None),
        Some(Kind::Null) => return Ok(Some(BTreeMap::new())),
        Some(Kind::Object) => {}
        Some(kind) => return Err(not_a_map(FIELD, kind)),
    }
    let object = body.object(FIELD)?.unwrap_or_default();
    if object.len() > CUSTOM_KEYS_MAX {
        let provided = object.len();
        return Err(refused(&[format!("payload must contain at most {CUSTOM_KEYS_MAX} keys, provided {provided}")]));
    }
    let mut custom = BTreeMap::new();
    let mut faults = Vec::new();
    for (at, (key, text)) in object.members().enumerate() {
        let value = value(text)?;
        faults.extend(faults_of(at + 1, key, &value));
        custom.insert(key.to_owned(), value);
    }
    if faults.is_empty() { Ok(Some(custom)) } else { Err(refused(&faults)) }
}

/// A text; a number as it is spelled, and true and false as 1 and 0.
fn value(text: &str) -> Result<String, AskError> {
    match kind(text) {
        Kind::Null => Ok(String::new()),
        Kind::Number => Ok(text.to_owned()),
        Kind::Bool => Ok(if text == "true" { "1" } else { "0" }.to_owned()),
        Kind::String => Ok(string(text).ok_or_else(|| wrong(FIELD, "a value is no valid text"))?.into_owned()),
        kind @ (Kind::Array | Kind::Object) => {
            let kind = kind.go_name();
            Err(AskError::Invalid(format!("custom_metadata validation failed: '' expected type 'string', got unconvertible type '{kind}'")))
        }
    }
}

/// What is wrong with the key that is the `at`th in the order of names, and with its value.
fn faults_of(at: usize, key: &str, value: &str) -> Vec<String> {
    let (key_bytes, value_bytes) = (key.len(), value.len());
    let mut faults = Vec::new();
    if key.is_empty() || key_bytes > CUSTOM_KEY_BYTES_MAX {
        faults.push(format!("length of key {at} is {key_bytes} but must be 0 < len(key) <= {CUSTOM_KEY_BYTES_MAX}"));
    }
    if value.is_empty() || value_bytes > CUSTOM_VALUE_BYTES_MAX {
        faults.push(format!("length of value for key {at} is {value_bytes} but must be 0 < len(value) <= {CUSTOM_VALUE_BYTES_MAX}"));
    }
    if !is_printable(key) {
        faults.push(format!("key {at} contains unprintable characters"));
    }
    if !is_printable(value) {
        faults.push(format!("value for key {at} contains unprintable characters"));
    }
    faults
}

/// Whether a reader would see each character: letters, marks, numbers, punctuation, symbols and the plain space.
fn is_printable(text: &str) -> bool {
    // `escape_debug` leaves such characters as they are, save for these three; behind a letter, marks too.
    let visible = |c: char| matches!(c, '"' | '\'' | '\\') || format!("a{c}").escape_debug().count() == 2;
    text.chars().all(|c| matches!(c, ' '..='~') || visible(c))
}

/// All faults in one error, in the form of Vault's.
fn refused(faults: &[String]) -> AskError {
    let count = faults.len();
    let errors = if count == 1 { "error" } else { "errors" };
    let lines: String = faults.iter().map(|fault| format!("\n\t* custom_metadata validation failed: {fault}")).collect();
    AskError::Invalid(format!("{count} {errors} occurred:{lines}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(custom: &str) -> Result<Option<BTreeMap<String, String>>, AskError> {
        parse(&Object::parse_body(format!("{{\"custom_metadata\":{custom}}}").as_bytes()).ok().unwrap())
    }

    #[test]
    fn values_become_text() {
        for (custom, want) in [
            (r#"{"a":"b"}"#, vec![("a", "b")]),
            (r#"{"a":1.50,"b":true,"c":false}"#, vec![("a", "1.50"), ("b", "1"), ("c", "0")]),
            (r#"{"é":"日本 \"'\\ e\u0301 😀"}"#, vec![("é", "日本 \"'\\ e\u{301} 😀")]),
            ("{}", vec![]),
            ("null", vec![]),
        ] {
            let want = want.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            assert_eq!(parsed(custom), Ok(Some(want)), "{custom}");
        }
        assert_eq!(parse(&Object::default()), Ok(None));
    }

    #[test]
    fn limits() {
        let long = |count: usize| "x".repeat(count);
        let many = |count: usize| format!("{{{}}}", (0..count).map(|i| format!("\"k{i}\":\"v\"")).collect::<Vec<_>>().join(","));
        assert!(parsed(&many(64)).is_ok());
        assert!(parsed(&format!(r#"{{"{}":"{}"}}"#, long(128), long(512))).is_ok());
        for (custom, want) in [
            (many(65), "payload must contain at most 64 keys, provided 65"),
            (format!(r#"{{"{}":"v"}}"#, long(129)), "length of key 1 is 129 but must be 0 < len(key) <= 128"),
            (format!(r#"{{"a":"v","b":"{}"}}"#, long(513)), "length of value for key 2 is 513 but must be 0 < len(value) <= 512"),
            (r#"{"a":""}"#.to_owned(), "length of value for key 1 is 0 but must be 0 < len(value) <= 512"),
            (r#"{"a":null}"#.to_owned(), "length of value for key 1 is 0 but must be 0 < len(value) <= 512"),
            (r#"{"":"a"}"#.to_owned(), "length of key 1 is 0 but must be 0 < len(key) <= 128"),
            (r#"{"a\nb":"v"}"#.to_owned(), "key 1 contains unprintable characters"),
            (r#"{"a":"b\u202ec"}"#.to_owned(), "value for key 1 contains unprintable characters"),
            (r#"{"a":"b\u00a0c"}"#.to_owned(), "value for key 1 contains unprintable characters"),
        ] {
            let want = format!("1 error occurred:\n\t* custom_metadata validation failed: {want}\n\n");
            assert_eq!(parsed(&custom), Err(AskError::Invalid(want)));
        }
        let two = "2 errors occurred:\n\t* custom_metadata validation failed: length of key 1 is 0 but must be 0 < len(key) <= 128\n\t* custom_metadata \
                   validation failed: length of value for key 1 is 0 but must be 0 < len(value) <= 512\n\n";
        assert_eq!(parsed(r#"{"":""}"#), Err(AskError::Invalid(two.to_owned())));
    }

    #[test]
    fn wrong_kinds() {
        for (custom, want) in [
            (
                "\"x\"",
                "error converting input for field \"custom_metadata\": '' expected type 'map[string]interface {}', got unconvertible type 'string'",
            ),
            (r#"{"a":[]}"#, "custom_metadata validation failed: '' expected type 'string', got unconvertible type '[]interface {}'"),
            (
                r#"{"a":{"b":1}}"#,
                "custom_metadata validation failed: '' expected type 'string', got unconvertible type 'map[string]interface {}'",
            ),
        ] {
            assert_eq!(parsed(custom), Err(AskError::Invalid(want.to_owned())));
        }
    }
}

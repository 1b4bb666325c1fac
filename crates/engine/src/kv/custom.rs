//! Custom metadata: what an operator notes on a secret. Not secret itself in Vault's eyes, yet kept as one.
//!
//! Always: within the limits below, which are Vault's.

use std::collections::BTreeMap;

use crate::AskError;
use crate::body::{Kind, Object, kind, not_a_map, string, wrong};

/// Names that a secret's custom metadata may have.
pub const CUSTOM_KEYS_MAX: usize = 64;
/// Bytes of such a name.
pub const CUSTOM_KEY_BYTES_MAX: usize = 128;
/// Bytes of what stands under it.
pub const CUSTOM_VALUE_BYTES_MAX: usize = 512;

/// The field's name, in bodies and errors.
const FIELD: &str = "custom_metadata";

/// What a request does to a secret's custom metadata.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// This and nothing else.
    Replace(BTreeMap<String, String>),
    /// Each name gets its value, or goes (`None`); others stay. RFC 7396.
    Merge(BTreeMap<String, Option<String>>),
}

impl Change {
    /// Makes the change; the error text is for the caller.
    pub(super) fn apply(&self, custom: &mut BTreeMap<String, String>) -> Result<(), String> {
        let changes = match self {
            Change::Replace(new) => {
                custom.clone_from(new);
                return Ok(());
            }
            Change::Merge(changes) => changes,
        };
        for (key, value) in changes {
            match value {
                Some(value) => drop(custom.insert(key.clone(), value.clone())),
                None => drop(custom.remove(key)),
            }
        }
        if custom.len() <= CUSTOM_KEYS_MAX { Ok(()) } else { Err(refused_text(&[too_many(custom.len())])) }
    }
}

/// Reads the field of a body that is written as a whole. `None`: it is not there. Null and an empty object are both nothing.
pub(super) fn parse(body: &Object<'_>) -> Result<Option<Change>, AskError> {
    let Some(members) = members(body, false)? else { return Ok(None) };
    Ok(Some(Change::Replace(members.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())))
}

/// Reads the field of a merge patch. `None`: it is not there. Null removes a name, or all of them.
pub(super) fn parse_patch(body: &Object<'_>) -> Result<Option<Change>, AskError> {
    if body.member(FIELD).map(kind) == Some(Kind::Null) {
        return Ok(Some(Change::Replace(BTreeMap::new())));
    }
    Ok(members(body, true)?.map(Change::Merge))
}

/// Names and their values. A null is `None` if nulls remove, and else an empty text, which is refused.
fn members(body: &Object<'_>, nulls_remove: bool) -> Result<Option<BTreeMap<String, Option<String>>>, AskError> {
    match body.member(FIELD).map(kind) {
        None => return Ok(None),
        Some(Kind::Null) => return Ok(Some(BTreeMap::new())),
        Some(Kind::Object) => {}
        Some(kind) => return Err(not_a_map(FIELD, kind)),
    }
    let object = body.object(FIELD)?.unwrap_or_default();
    // Nulls count too: what one request may hold is bounded.
    if object.len() > CUSTOM_KEYS_MAX {
        return Err(refused(&[too_many(object.len())]));
    }
    let mut custom = BTreeMap::new();
    let mut faults = Vec::new();
    for (at, (key, text)) in object.members().enumerate() {
        if nulls_remove && kind(text) == Kind::Null {
            custom.insert(key.to_owned(), None);
            continue;
        }
        let value = value(text)?;
        faults.extend(faults_of(at + 1, key, &value));
        custom.insert(key.to_owned(), Some(value));
    }
    if faults.is_empty() { Ok(Some(custom)) } else { Err(refused(&faults)) }
}

fn too_many(provided: usize) -> String {
    format!("payload must contain at most {CUSTOM_KEYS_MAX} keys, provided {provided}")
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
    AskError::Invalid(refused_text(faults))
}

fn refused_text(faults: &[String]) -> String {
    let count = faults.len();
    let errors = if count == 1 { "error" } else { "errors" };
    let lines: String = faults.iter().map(|fault| format!("\n\t* custom_metadata validation failed: {fault}")).collect();
    format!("{count} {errors} occurred:{lines}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(custom: &str) -> Result<Option<Change>, AskError> {
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
            assert_eq!(parsed(custom), Ok(Some(Change::Replace(want))), "{custom}");
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
    fn a_patch_removes_what_is_null_and_keeps_what_it_does_not_name() {
        let owned = |custom: &[(&str, &str)]| -> BTreeMap<String, String> {
            custom.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        for (custom, want) in [
            (r#"{"c":"3"}"#, vec![("a", "1"), ("b", "2"), ("c", "3")]),
            (r#"{"a":null,"b":4}"#, vec![("b", "4")]),
            (r#"{"nope":null,"":null}"#, vec![("a", "1"), ("b", "2")]),
            ("{}", vec![("a", "1"), ("b", "2")]),
            ("null", vec![]),
        ] {
            let body = format!("{{\"custom_metadata\":{custom}}}");
            let change = parse_patch(&Object::parse_body(body.as_bytes()).ok().unwrap()).unwrap().unwrap();
            let mut found = owned(&[("a", "1"), ("b", "2")]);
            change.apply(&mut found).unwrap();
            assert_eq!(found, owned(&want), "{custom}");
        }
        assert_eq!(parse_patch(&Object::default()), Ok(None));
    }

    #[test]
    fn a_patch_cannot_exceed_the_limit_of_names() {
        let mut custom: BTreeMap<String, String> = (0..60).map(|at| (format!("k{at}"), "v".to_owned())).collect();
        let more = |count: usize| Change::Merge((0..count).map(|at| (format!("m{at}"), Some("v".to_owned()))).collect());
        let want = "1 error occurred:\n\t* custom_metadata validation failed: payload must contain at most 64 keys, provided 65\n\n";
        assert_eq!(more(5).apply(&mut custom.clone()), Err(want.to_owned()));
        assert_eq!(more(4).apply(&mut custom), Ok(()));
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

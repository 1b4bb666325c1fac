//! Limits of JSON: the check on raw bytes, and a naive measure of what the parser made of them, say the same.

use serde_json::Value;
use types::json::{JsonLimits, check_limits};

use super::lines;
use crate::driver::Subject;

/// Small ones, so that mutations reach them.
const LIMITS: JsonLimits = JsonLimits { depth: 8, string_bytes: 24, entries: 6, elements: 6 };

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let own = [
        "[[[[[[[[1]]]]]]]]",
        "[[[[[[[[[1]]]]]]]]]",
        "[1,2,3,4,5,6]",
        "[1,2,3,4,5,6,7]",
        r#"{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6}"#,
        r#""\u00e9\n\ud83d\ude00""#,
    ];
    lines(include_str!("../../../corpora/json-bodies.txt")).chain(own).map(|line| line.as_bytes().to_vec()).collect()
}

pub(super) fn subject() -> Box<Subject> {
    Box::new(|input| {
        let checked = check_limits(input, &LIMITS);
        let _ = check_limits(input, &JsonLimits::default());
        // A member that is there twice is one for the parser, and two for the check, which counts what it reads: so members are listed.
        let Ok(value) = serde_json::from_slice::<Value>(input) else { return format!("no JSON {}", checked.is_ok()) };
        let naive = measure(&value, 1);
        if checked.is_ok() {
            assert_eq!(naive, None, "within the limits by the check, and not by the parser");
        } else if naive.is_none() {
            assert!(has_twice(input, &value), "beyond the limits by the check alone: {checked:?}");
        }
        format!("{naive:?} {:?}", checked.map_err(|error| error.to_string()))
    })
}

/// The first limit that the value passes.
fn measure(value: &Value, depth: usize) -> Option<&'static str> {
    let text = |text: &str| (text.len() > LIMITS.string_bytes).then_some("string");
    match value {
        Value::String(own) => text(own),
        Value::Array(_) | Value::Object(_) if depth > LIMITS.depth => Some("depth"),
        Value::Array(elements) if elements.len() > LIMITS.elements => Some("elements"),
        Value::Object(entries) if entries.len() > LIMITS.entries => Some("entries"),
        Value::Array(elements) => elements.iter().find_map(|element| measure(element, depth + 1)),
        Value::Object(entries) => entries.iter().find_map(|(name, value)| text(name).or_else(|| measure(value, depth + 1))),
        _ => None,
    }
}

/// Whether the parser dropped something: then the text names more members than the value has.
fn has_twice(input: &[u8], value: &Value) -> bool {
    fn members(value: &Value) -> usize {
        match value {
            Value::Array(elements) => elements.iter().map(members).sum(),
            Value::Object(entries) => entries.len() + entries.values().map(members).sum::<usize>(),
            _ => 0,
        }
    }
    let (mut colons, mut in_string, mut escaped) = (0, false, false);
    for byte in input {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b':' if !in_string => colons += 1,
            _ => {}
        }
    }
    colons > members(value)
}

//! JSON merge patch, RFC 7396, on text: what the patch does not touch keeps its very spelling.
//!
//! Always: the result is no longer than both texts and two braces, so its buffer never grows. Names are sorted where an object
//! was merged.

use crypto::{SecretBytes, Zeroizing};

use crate::body::{Kind, Object, kind};

/// Why two texts cannot be merged: one has a name that is no valid text, such as half of a surrogate pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name in the data is no valid text, so that it cannot be patched (write the whole)")]
pub(super) struct MergeError;

/// Applies `patch`, an object, to `target`. Both are JSON of bounded depth.
pub(super) fn merge(target: &str, patch: &str) -> Result<SecretBytes, MergeError> {
    // Two braces: a target that is no object counts as an empty one.
    let mut merged = Zeroizing::new(Vec::with_capacity(target.len() + patch.len() + 2));
    merge_into(&mut merged, Some(target), patch)?;
    Ok(SecretBytes::with_len(merged.len(), |exact| exact.copy_from_slice(&merged)))
}

fn merge_into(merged: &mut Vec<u8>, target: Option<&str>, patch: &str) -> Result<(), MergeError> {
    let target = match target {
        Some(text) if kind(text) == Kind::Object => Object::parse(text).ok_or(MergeError)?,
        _ => Object::default(),
    };
    let patch = Object::parse(patch).ok_or(MergeError)?;
    let mut members = Members { merged, any: false };
    for (name, old) in target.members() {
        match patch.member(name) {
            None => members.name(name).extend_from_slice(old.as_bytes()),
            Some(new) => members.patched(name, Some(old), new)?,
        }
    }
    for (name, new) in patch.members().filter(|(name, _)| target.member(name).is_none()) {
        members.patched(name, None, new)?;
    }
    members.close();
    Ok(())
}

/// Writes an object.
struct Members<'a> {
    merged: &'a mut Vec<u8>,
    any: bool,
}

impl Members<'_> {
    fn patched(&mut self, name: &str, old: Option<&str>, new: &str) -> Result<(), MergeError> {
        match kind(new) {
            Kind::Null => Ok(()),
            Kind::Object => merge_into(self.name(name), old, new),
            _ => {
                self.name(name).extend_from_slice(new.as_bytes());
                Ok(())
            }
        }
    }

    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        self.merged.push(if self.any { b',' } else { b'{' });
        self.any = true;
        serde_json::to_writer(&mut *self.merged, name).expect("a vector takes all, and a text is always JSON");
        self.merged.push(b':');
        self.merged
    }

    fn close(self) {
        self.merged.extend_from_slice(if self.any { b"}" } else { b"{}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(target: &str, patch: &str) -> Option<String> {
        let merged = merge(target, patch).ok()?;
        Some(String::from_utf8(merged.expose().to_vec()).unwrap())
    }

    /// The examples of RFC 7396, appendix A, whose patch is an object.
    #[test]
    fn examples_of_the_rfc() {
        for (target, patch, want) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            (r#"[1,2]"#, r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            (r#"{}"#, r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            assert_eq!(merged(target, patch).as_deref(), Some(want), "{target} {patch}");
        }
    }

    #[test]
    fn untouched_values_keep_their_spelling() {
        let target = r#"{"n":1e400,"z":{"k":1.0, "d":1,"d":2},"s":"\u0041"}"#;
        assert_eq!(merged(target, r#"{"x":-0}"#).unwrap(), r#"{"n":1e400,"s":"\u0041","z":{"k":1.0, "d":1,"d":2},"x":-0}"#);
        assert_eq!(merged("null", "{}").unwrap(), "{}");
        assert_eq!(merged(r#"{"a\"\n":1}"#, r#"{"b/":2}"#).unwrap(), r#"{"a\"\n":1,"b/":2}"#);
    }

    #[test]
    fn a_name_that_is_no_text_is_refused() {
        assert_eq!(merged(r#"{"\ud800":1}"#, "{}"), None);
        assert_eq!(merged("{}", r#"{"a":{"\ud800":1}}"#), None);
    }

    proptest::proptest! {
        #[test]
        fn as_a_merge_of_values(target in object(), patch in object()) {
            let mut want = target.clone();
            merge_values(&mut want, &patch);
            let merged = merged(&target.to_string(), &patch.to_string()).unwrap();
            proptest::prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&merged).unwrap(), want);
        }
    }

    fn object() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
        use proptest::prelude::*;
        use serde_json::{Value, json};
        let leaf = prop_oneof![Just(Value::Null), Just(json!(1)), Just(json!("x")), Just(json!([1]))];
        let tree = leaf.prop_recursive(3, 24, 4, |inner| {
            prop::collection::vec(("[a-c]", inner), 0..4).prop_map(|members| Value::Object(members.into_iter().collect()))
        });
        prop::collection::vec(("[a-c]", tree), 0..4).prop_map(|members| Value::Object(members.into_iter().collect()))
    }

    /// The RFC's own algorithm, on values.
    fn merge_values(target: &mut serde_json::Value, patch: &serde_json::Value) {
        let serde_json::Value::Object(patch) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = serde_json::json!({});
        }
        let target = target.as_object_mut().unwrap();
        for (name, value) in patch {
            if value.is_null() {
                target.remove(name);
            } else {
                merge_values(target.entry(name.clone()).or_insert(serde_json::Value::Null), value);
            }
        }
    }
}

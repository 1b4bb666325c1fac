//! Writes a JSON object field by field: what is empty is left out, as in Vault's records.
//!
//! Always: names of fields are plain words of ours and need no escapes; an object is closed when its writer returns.

use std::collections::BTreeMap;

/// An object that is being written.
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
}

/// Writes an object.
pub(super) fn object(out: &mut Vec<u8>, write: impl FnOnce(&mut Object<'_>)) {
    out.push(b'{');
    write(&mut Object { out, is_empty: true });
    out.push(b'}');
}

/// Writes a string with its quotes and escapes.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is written to memory");
}

impl Object<'_> {
    /// Begins a field; its value goes into what this returns.
    pub(super) fn value(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    pub(super) fn object(&mut self, name: &str, write: impl FnOnce(&mut Object<'_>)) {
        object(self.value(name), write);
    }

    pub(super) fn text(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            string(self.value(name), text);
        }
    }

    pub(super) fn number(&mut self, name: &str, number: u64) {
        if number != 0 {
            self.value(name).extend_from_slice(number.to_string().as_bytes());
        }
    }

    /// Shown whether it is set or not.
    pub(super) fn flag(&mut self, name: &str, flag: bool) {
        self.value(name).extend_from_slice(if flag { b"true" } else { b"false" });
    }

    pub(super) fn texts(&mut self, name: &str, texts: &[String]) {
        if !texts.is_empty() {
            array(self.value(name), texts, |out, text| string(out, text));
        }
    }

    pub(super) fn map(&mut self, name: &str, map: &BTreeMap<String, String>) {
        if map.is_empty() {
            return;
        }
        let out = self.value(name);
        let mut opening = b'{';
        for (key, value) in map {
            out.push(opening);
            opening = b',';
            string(out, key);
            out.push(b':');
            string(out, value);
        }
        out.push(b'}');
    }
}

/// Writes an array, one element after another.
pub(super) fn array<T>(out: &mut Vec<u8>, elements: impl IntoIterator<Item = T>, write: impl Fn(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (at, element) in elements.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, element);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn empty_fields_are_left_out_and_the_rest_is_json() {
        let mut out = Vec::new();
        object(&mut out, |object| {
            object.text("none", "");
            object.number("zero", 0);
            object.texts("nobody", &[]);
            object.map("nothing", &BTreeMap::new());
            object.text("text", "a\"b\n\u{1f511}");
            object.number("number", 7);
            object.flag("flag", false);
            object.texts("texts", &["a".into(), "b".into()]);
            object.map("map", &BTreeMap::from([("k\"".into(), "v".into()), ("l".into(), "w".into())]));
            object.object("object", |object| object.number("one", 1));
            object.object("empty", |_| {});
        });
        let want = json!({
            "text": "a\"b\n\u{1f511}", "number": 7, "flag": false, "texts": ["a", "b"], "map": {"k\"": "v", "l": "w"},
            "object": {"one": 1}, "empty": {},
        });
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), want);
    }
}

//! Redaction: what a record shows of a value. A secret becomes its HMAC-SHA256 by the device's key, so that equal values look
//! equal and nobody without the key can tell what they are.
//!
//! Always: JSON is redacted as it is read, token by token; no tree of it is built, and nothing of it is copied but what shows.
//! Names of fields, booleans and nulls show, as in Vault's records; numbers do not, since a PIN is one.

use std::fmt;

use crypto::MacKey;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json;

/// The most that a record shows of one body or answer, in bytes. A larger one shows as one HMAC of the whole.
pub(super) const DATA_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Under which name it then shows.
const WHOLE: &str = "elided";

/// How a device shows values.
pub(crate) struct Redaction {
    /// The device's own.
    pub(crate) key: MacKey,
    /// Everything shows as it is.
    pub(crate) log_raw: bool,
    /// Accessors show as HMACs too.
    pub(crate) hmac_accessor: bool,
    /// Of a list only its length shows.
    pub(crate) elide_list_responses: bool,
}

/// What is special about one piece of data.
#[derive(Clone, Copy, Default)]
pub(super) struct Special<'a> {
    /// Strings and numbers under these names, at any depth, show as they are: the mount says so.
    pub(super) plain_keys: &'a [String],
    /// It answers a list.
    pub(super) is_list: bool,
    /// It answers something: a field `accessor` at its top is a token's.
    pub(super) is_answer: bool,
}

impl Redaction {
    /// `hmac-sha256:` and the HMAC in hex.
    pub(crate) fn tag(&self, bytes: &[u8]) -> String {
        format!("hmac-sha256:{}", hex::encode(self.key.tag(bytes)))
    }

    /// Writes a secret text as a JSON string.
    pub(super) fn write_secret(&self, out: &mut Vec<u8>, bytes: &[u8]) {
        if self.log_raw {
            json::string(out, &String::from_utf8_lossy(bytes));
        } else {
            self.write_tag(out, bytes);
        }
    }

    /// Writes an accessor as a JSON string.
    pub(super) fn write_accessor(&self, out: &mut Vec<u8>, accessor: &str) {
        if self.hmac_accessor { self.write_secret(out, accessor.as_bytes()) } else { json::string(out, accessor) }
    }

    /// Writes a JSON text, redacted. One that is none shows as one HMAC of its bytes, and so does one that is too large.
    pub(super) fn write_json(&self, out: &mut Vec<u8>, text: &[u8], special: Special<'_>) {
        let start = out.len();
        let mut reader = serde_json::Deserializer::from_slice(text);
        let walk =
            Walk { redaction: self, special, out, bytes_max: start + DATA_BYTES_MAX, depth: 0, is_plain: self.log_raw, counts: false };
        let written = walk.deserialize(&mut reader).and_then(|()| reader.end());
        if written.is_err() {
            out.truncate(start);
            json::object(out, |object| self.write_tag(object.value(WHOLE), text));
        }
    }

    fn write_tag(&self, out: &mut Vec<u8>, bytes: &[u8]) {
        let mut digits = [0; 64];
        hex::encode_to_slice(self.key.tag(bytes), &mut digits).expect("32 bytes are 64 digits");
        out.extend_from_slice(b"\"hmac-sha256:");
        out.extend_from_slice(&digits);
        out.push(b'"');
    }
}

/// Reads one JSON value and writes what shows of it.
struct Walk<'w> {
    redaction: &'w Redaction,
    special: Special<'w>,
    out: &'w mut Vec<u8>,
    /// `out` grows to this length, about.
    bytes_max: usize,
    /// 0 for the whole, 1 for its fields.
    depth: usize,
    is_plain: bool,
    /// Of an array or object only its length shows.
    counts: bool,
}

impl Walk<'_> {
    fn scalar<E: serde::de::Error>(&mut self, text: &str, is_string: bool) -> Result<(), E> {
        match (self.is_plain, is_string) {
            (true, true) => json::string(self.out, text),
            (true, false) => self.out.extend_from_slice(text.as_bytes()),
            (false, _) => self.redaction.write_tag(self.out, text.as_bytes()),
        }
        self.within_limit()
    }

    fn word<E: serde::de::Error>(&mut self, word: &str) -> Result<(), E> {
        self.out.extend_from_slice(word.as_bytes());
        self.within_limit()
    }

    fn within_limit<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.out.len() > self.bytes_max { Err(E::custom("too large to show")) } else { Ok(()) }
    }

    /// The same, for a value in this one.
    fn inner(&mut self, is_plain: bool, counts: bool) -> Walk<'_> {
        let Walk { redaction, special, bytes_max, depth, .. } = *self;
        Walk { redaction, special, out: &mut *self.out, bytes_max, depth: depth + 1, is_plain, counts }
    }

    /// Whether what stands under `name` shows as it is, and whether only its length shows.
    fn under(&self, name: &str) -> (bool, bool) {
        let Walk { redaction, special, depth, .. } = self;
        let is_accessor = *depth == 0 && special.is_answer && name == "accessor" && !redaction.hmac_accessor;
        let is_plain = redaction.log_raw || is_accessor || special.plain_keys.iter().any(|key| key == name);
        let counts = *depth == 0 && special.is_list && redaction.elide_list_responses && matches!(name, "keys" | "key_info");
        (is_plain, counts)
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(mut self) -> Result<(), E> {
        self.word("null")
    }

    fn visit_bool<E: serde::de::Error>(mut self, value: bool) -> Result<(), E> {
        self.word(if value { "true" } else { "false" })
    }

    fn visit_u64<E: serde::de::Error>(mut self, value: u64) -> Result<(), E> {
        self.scalar(&value.to_string(), false)
    }

    fn visit_i64<E: serde::de::Error>(mut self, value: i64) -> Result<(), E> {
        self.scalar(&value.to_string(), false)
    }

    fn visit_f64<E: serde::de::Error>(mut self, value: f64) -> Result<(), E> {
        let number = serde_json::Number::from_f64(value).ok_or_else(|| E::custom("no JSON number"))?;
        self.scalar(&number.to_string(), false)
    }

    fn visit_str<E: serde::de::Error>(mut self, text: &str) -> Result<(), E> {
        self.scalar(text, true)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        if self.counts {
            let mut count = 0_u64;
            while elements.next_element::<IgnoredAny>()?.is_some() {
                count += 1;
            }
            return self.word(&count.to_string());
        }
        self.out.push(b'[');
        let mut is_first = true;
        loop {
            let end = self.out.len();
            if !is_first {
                self.out.push(b',');
            }
            is_first = false;
            let is_plain = self.is_plain;
            if elements.next_element_seed(self.inner(is_plain, false))?.is_none() {
                self.out.truncate(end);
                break;
            }
        }
        self.out.push(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<(), A::Error> {
        if self.counts {
            let mut count = 0_u64;
            while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                count += 1;
            }
            return self.word(&count.to_string());
        }
        self.out.push(b'{');
        let mut is_first = true;
        loop {
            let end = self.out.len();
            if !is_first {
                self.out.push(b',');
            }
            is_first = false;
            let Some((is_plain, counts)) = fields.next_key_seed(FieldName(&mut self))? else {
                self.out.truncate(end);
                break;
            };
            fields.next_value_seed(self.inner(is_plain, counts))?;
        }
        self.out.push(b'}');
        Ok(())
    }
}

/// Reads a field's name, writes it, and says how its value shows.
struct FieldName<'f, 'w>(&'f mut Walk<'w>);

impl<'de> DeserializeSeed<'de> for FieldName<'_, '_> {
    type Value = (bool, bool);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(bool, bool), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for FieldName<'_, '_> {
    type Value = (bool, bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<(bool, bool), E> {
        json::string(self.0.out, name);
        self.0.out.push(b':');
        self.0.within_limit()?;
        Ok(self.0.under(name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn redaction() -> Redaction {
        Redaction { key: MacKey::new(&[7; 32]), log_raw: false, hmac_accessor: true, elide_list_responses: false }
    }

    fn shown(redaction: &Redaction, value: &Value, special: Special<'_>) -> Value {
        let mut out = Vec::new();
        redaction.write_json(&mut out, value.to_string().as_bytes(), special);
        serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
    }

    #[test]
    fn no_string_or_number_shows() {
        let redaction = redaction();
        let value = json!({"a": "canary-1", "b": [424242, {"c": "canary-1"}, -7, 1.5], "d": true, "e": null, "f": {}, "g": []});
        let tag = |text: &str| redaction.tag(text.as_bytes());
        let want = json!({
            "a": tag("canary-1"), "b": [tag("424242"), {"c": tag("canary-1")}, tag("-7"), tag("1.5")], "d": true, "e": null, "f": {}, "g": [],
        });
        assert_eq!(shown(&redaction, &value, Special::default()), want);
    }

    #[test]
    fn the_mounts_plain_keys_show_wherever_they_are() {
        let redaction = redaction();
        let plain = ["user".to_owned(), "list".to_owned()];
        let special = Special { plain_keys: &plain, ..Special::default() };
        let value = json!({"user": "u", "data": {"user": 1, "list": ["a", {"b": "canary"}], "other": "canary"}, "list": {"in": "canary"}});
        let canary = redaction.tag(b"canary");
        let want = json!({"user": "u", "data": {"user": 1, "list": ["a", {"b": canary}], "other": canary}, "list": {"in": canary}});
        assert_eq!(shown(&redaction, &value, special), want);
    }

    #[test]
    fn lists_can_be_elided_and_accessors_shown() {
        let redaction = Redaction { elide_list_responses: true, hmac_accessor: false, ..redaction() };
        let value = json!({"keys": ["a", "b"], "key_info": {"a": {}, "b": {}, "c": 1}, "other": ["x"], "accessor": "acc", "in": {"keys": ["x"], "accessor": "y"}});
        let tag = |text: &str| redaction.tag(text.as_bytes());
        let inner = json!({"keys": [tag("x")], "accessor": tag("y")});
        let list = shown(&redaction, &value, Special { is_list: true, is_answer: true, ..Special::default() });
        assert_eq!(list, json!({"keys": 2, "key_info": 3, "other": [tag("x")], "accessor": "acc", "in": inner}));
        let read = shown(&redaction, &value, Special::default());
        assert_eq!((&read["keys"], &read["accessor"]), (&json!([tag("a"), tag("b")]), &json!(tag("acc"))));
    }

    #[test]
    fn what_is_no_json_or_too_large_is_one_hmac() {
        let redaction = redaction();
        for text in [r#"{"a": "canary"#, "canary", r#"{"a":1} canary"#, "", "\u{0}", r#"{"a":"\ud800"}"#] {
            let mut out = b"before".to_vec();
            redaction.write_json(&mut out, text.as_bytes(), Special::default());
            let want = json!({"elided": redaction.tag(text.as_bytes())});
            assert_eq!(String::from_utf8(out).unwrap(), format!("before{want}"), "{text}");
        }
        let large = format!("[{}1]", "1,".repeat(300_000));
        let mut out = Vec::new();
        redaction.write_json(&mut out, large.as_bytes(), Special::default());
        assert!(out.len() < 200, "{} bytes", out.len());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            // Few digits: the parser may miss the last of many.
            any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
            "[a-z\"\\\\\n\u{e9}]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map("[a-d\"]{0,3}", inner, 0..5).prop_map(Value::from_iter),
            ]
        })
    }

    /// The same rule, written over a tree.
    fn redacted(redaction: &Redaction, value: &Value) -> Value {
        match value {
            Value::Null | Value::Bool(_) => value.clone(),
            Value::String(text) => json!(redaction.tag(text.as_bytes())),
            Value::Number(number) => json!(redaction.tag(number.to_string().as_bytes())),
            Value::Array(values) => values.iter().map(|value| redacted(redaction, value)).collect(),
            Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), redacted(redaction, value))).collect(),
        }
    }

    proptest! {
        #[test]
        fn any_json_keeps_its_shape(value in any_json()) {
            let hidden = redaction();
            prop_assert_eq!(shown(&hidden, &value, Special::default()), redacted(&hidden, &value));
            let raw = Redaction { log_raw: true, ..redaction() };
            prop_assert_eq!(shown(&raw, &value, Special::default()), value);
        }
    }
}

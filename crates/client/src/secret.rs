//! Values that must not be seen: [`SecretString`] for tokens and shares, [`SecretData`] for a secret's fields.
//!
//! Always: no `Debug`, no `Display`, no `Serialize`; wiped when dropped.

use serde_json::{Map, Value};
use zeroize::{Zeroize, Zeroizing};

/// A token or a share. Wiped on drop; cannot be printed, cloned or compared.
pub struct SecretString(Zeroizing<String>);

impl SecretString {
    /// Lends the text; each caller says why in an `// EXPOSE:` line.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretString {
    /// Takes `text` over without a copy.
    fn from(text: String) -> SecretString {
        SecretString(Zeroizing::new(text))
    }
}

/// The fields of one KV secret. Values are wiped on drop (names of fields are not); cannot be printed.
#[derive(Default)]
pub struct SecretData(Map<String, Value>);

impl SecretData {
    /// Lends the fields; each caller says why in an `// EXPOSE:` line.
    pub fn expose(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl From<Map<String, Value>> for SecretData {
    fn from(fields: Map<String, Value>) -> SecretData {
        SecretData(fields)
    }
}

impl Drop for SecretData {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

/// Wipes every text below `value`. The parser bounds the depth (128), so the recursion is bounded too.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wiping_reaches_every_text() {
        let mut value = serde_json::json!({"a": "x", "b": ["y", {"c": "z"}], "d": 1});
        wipe(&mut value);
        assert_eq!(value, serde_json::json!({"a": "", "b": ["", {"c": ""}], "d": 1}));
    }
}

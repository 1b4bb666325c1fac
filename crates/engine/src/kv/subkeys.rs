//! `subkeys/<path>`: the names in a secret's data, without its values.
//!
//! Always: no value shows, whatever it is: at its place stands null. Names are sorted; of a name that comes twice the last holds.

use barrier::View;
use crypto::{SecretBytes, Zeroizing};
use types::{Path, Timestamp};

use super::record::Transaction;
use super::reply;
use crate::body::{Kind, Object, kind};
use crate::{Outcome, PlanError, Reply};

/// Reads the names in a version's data.
pub(super) struct Read {
    pub(super) path: Path,
    /// `None`: the newest.
    pub(super) version: Option<u64>,
    /// Names of so many levels; `None`: of all.
    pub(super) depth: Option<usize>,
}

impl Read {
    pub(super) fn plan(&self, view: &View, now: Timestamp) -> Result<Outcome, PlanError> {
        let mut transaction = Transaction::new(view);
        let Some(metadata) = transaction.read_metadata(&self.path)? else { return Ok(Outcome::answer(Reply::NotFound)) };
        let number = self.version.unwrap_or(metadata.newest);
        let Some(&version) = metadata.versions.get(&number) else { return Ok(Outcome::answer(Reply::NotFound)) };
        if !version.is_readable(now) {
            return Ok(Outcome::answer(Reply::Gone(reply::subkeys(b"null", &metadata, number, version))));
        }
        let data = transaction.read_data(&self.path, number)?;
        // EXPOSE: the names in it are the answer.
        let text = std::str::from_utf8(data.expose()).map_err(|_| PlanError::Malformed)?;
        let subkeys = subkeys(text, self.depth)?;
        // EXPOSE: the names in it are the answer.
        Ok(Outcome::answer(Reply::Data(reply::subkeys(subkeys.expose(), &metadata, number, version))))
    }
}

/// The names in `data`, which is an object or null, of bounded depth.
fn subkeys(data: &str, depth: Option<usize>) -> Result<SecretBytes, PlanError> {
    // A value has one byte at least, and null four; with its name's quotes, colon and comma that is no more than twice as long.
    let mut shown = Zeroizing::new(Vec::with_capacity(2 * data.len()));
    if kind(data) == Kind::Object {
        show(&mut shown, data, depth)?;
    } else {
        shown.extend_from_slice(b"null");
    }
    Ok(SecretBytes::with_len(shown.len(), |exact| exact.copy_from_slice(&shown)))
}

fn show(shown: &mut Vec<u8>, object: &str, depth: Option<usize>) -> Result<(), PlanError> {
    let unreadable = || PlanError::Refused("a name in the data is no valid text, so that it cannot be shown (read the data)".to_owned());
    let object = Object::parse(object).ok_or_else(unreadable)?;
    shown.push(b'{');
    for (at, (name, value)) in object.members().enumerate() {
        if at > 0 {
            shown.push(b',');
        }
        serde_json::to_writer(&mut *shown, name).expect("a vector takes all, and a text is always JSON");
        shown.push(b':');
        let below = depth.map(|depth| depth - 1);
        let is_shown = kind(value) == Kind::Object && below != Some(0) && Object::parse(value).is_none_or(|inner| inner.len() > 0);
        if is_shown { show(shown, value, below)? } else { shown.extend_from_slice(b"null") }
    }
    shown.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::testing::{Mount, START_TEXT, version};

    fn shown(data: &str, depth: Option<usize>) -> Option<String> {
        Some(String::from_utf8(subkeys(data, depth).ok()?.expose().to_vec()).unwrap())
    }

    #[test]
    fn values_are_null_and_names_stay() {
        let data = r#"{"z":"hidden","a":{"b":{"c":1},"l":[{"x":1}],"e":{}},"n":null}"#;
        for (depth, want) in [
            (None, r#"{"a":{"b":{"c":null},"e":null,"l":null},"n":null,"z":null}"#),
            (Some(1), r#"{"a":null,"n":null,"z":null}"#),
            (Some(2), r#"{"a":{"b":null,"e":null,"l":null},"n":null,"z":null}"#),
            (Some(3), r#"{"a":{"b":{"c":null},"e":null,"l":null},"n":null,"z":null}"#),
        ] {
            assert_eq!(shown(data, depth).as_deref(), Some(want), "{depth:?}");
        }
        for (data, want) in
            [("{}", "{}"), ("null", "null"), (r#"{"a":1,"a":{"b":2}}"#, r#"{"a":{"b":null}}"#), (r#"{"\u0061":1}"#, r#"{"a":null}"#)]
        {
            assert_eq!(shown(data, None).as_deref(), Some(want), "{data}");
        }
        assert_eq!(shown(r#"{"\ud800":1}"#, None), None);
        assert_eq!(shown(r#"{"a":{"\ud800":1}}"#, None), None);
        assert_eq!(shown(r#"{"a":{"\ud800":1}}"#, Some(1)).as_deref(), Some(r#"{"a":null}"#));
    }

    #[test]
    fn versions_and_depths_are_chosen() {
        let mount = Mount::new();
        let answer = |subkeys: &str, version: &str| format!(r#"{{"metadata":{version},"subkeys":{subkeys}}}"#);
        mount.check("GET subkeys/a", "", 404, "");
        mount.ask("POST data/a", r#"{"data":{"a":{"b":"x"}}}"#);
        mount.ask("POST data/a", r#"{"data":null}"#);
        for (query, subkeys, number) in [
            ("", "null", 2),
            ("?version=2", "null", 2),
            ("?version=1", r#"{"a":{"b":null}}"#, 1),
            ("?version=1&depth=0", r#"{"a":{"b":null}}"#, 1),
            ("?version=1&depth=1", r#"{"a":null}"#, 1),
            ("?version=1&depth=-1", r#"{"a":null}"#, 1),
        ] {
            mount.check(&format!("GET subkeys/a{query}"), "", 200, &answer(subkeys, &version(number, START_TEXT, "", false)));
        }
        mount.check("GET subkeys/a?version=3", "", 404, "");
        mount.ask("DELETE data/a", "");
        mount.check("GET subkeys/a", "", 404, &answer("null", &version(2, START_TEXT, START_TEXT, false)));
        let want = "Field validation failed: error converting input for field \"depth\": expected a whole number";
        mount.check("GET subkeys/a?depth=x", "", 400, want);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..10_i32).prop_map(Value::from),
            ".{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map(".{0,2}", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// The rule, on parsed values.
    fn emptied(value: &Value, depth: usize) -> Value {
        match value {
            Value::Object(members) if depth > 0 && !members.is_empty() => {
                members.iter().map(|(name, value)| (name.clone(), emptied(value, depth - 1))).collect()
            }
            _ => Value::Null,
        }
    }

    proptest! {
        #[test]
        fn nothing_but_names_shows(members in prop::collection::btree_map(".{0,2}", value(), 1..5), depth in 1_usize..5) {
            let data = Value::Object(members.into_iter().collect());
            let shown: Value = serde_json::from_str(&shown(&data.to_string(), Some(depth)).unwrap()).unwrap();
            prop_assert_eq!(shown, emptied(&data, depth));
        }
    }
}

//! Secret engines: each turns an ask into a typed operation, and an operation into a plan.
//!
//! An engine reads through a [`View`] of its own mount and writes only by the [`Plan`] it returns. It does not know who
//! asks, nor HTTP, nor other engines. An operation may be planned several times, on ever fresher views: planning must have
//! no effect of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use barrier::{Plan, View, ViewError};
use crypto::SecretBytes;
use serde_json::value::RawValue;
use types::capability::Verb;
use types::{Path, Timestamp};

mod body;
pub mod kv;
pub mod kv1;
mod listing;
pub mod route;
#[cfg(test)]
mod testing;

pub use listing::SCAN_NAMES_MAX;

/// What is asked of an engine. Confidential: no `Debug`.
pub struct Ask {
    /// What to do.
    pub verb: Verb,
    /// Where, below the mount.
    pub path: Path,
    /// The body: JSON within the limits of `types::json`, or empty.
    pub body: SecretBytes,
    /// Query parameters, decoded, in the order in which they came.
    pub query: Vec<(String, String)>,
}

impl Ask {
    /// The last value of a query parameter.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Why an ask is no operation. The text is for the caller and holds nothing of the body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// There is no such path in this engine.
    #[error("unsupported path")]
    UnsupportedPath,
    /// The path is there, but not for this verb.
    #[error("unsupported operation")]
    UnsupportedOperation,
    /// The body or a parameter is wrong: says which, and what would be right.
    #[error("{0}")]
    Invalid(String),
    /// A patch whose body is not `application/merge-patch+json` by intent.
    #[error("{0}")]
    UnsupportedMediaType(String),
}

/// Why an operation cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The caller's condition or request does not fit what is stored: says how. (400)
    #[error("{0}")]
    Refused(String),
    /// What is stored says that the caller may not. (403)
    #[error("permission denied")]
    Denied,
    /// A record cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A record opened, and makes no sense.
    #[error("a stored record is malformed")]
    Malformed,
}

/// The answer's data: a JSON value, as text. A secret.
pub type Json = SecretBytes;

/// What an engine answers. Confidential: no `Debug`.
pub enum Reply {
    /// There is something to show. (200)
    Data(Json),
    /// Done; nothing to show. (204)
    Done,
    /// Nothing there. (404, no body)
    NotFound,
    /// Deleted or destroyed: what is left to say of it. (404 with data)
    Gone(Json),
    /// A folder's names. An empty list is 404.
    List(Vec<String>),
    /// A folder's names, with what is known of each: `keys` and `key_info` ([`details`]). An empty list is 404.
    Details(Vec<(String, Json)>),
}

/// How long a client may take an answer for current: `lease_duration`, without a lease that could be renewed or revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LeaseDuration {
    /// Nothing is said of it (0).
    #[default]
    Unsaid,
    /// As long as a lease of the mount lasts when nobody says how long.
    MountDefault,
    /// So long.
    Exactly(Duration),
}

/// What an operation comes to: what to write, and what to answer once it is written.
pub struct Outcome {
    /// Empty for a read.
    pub plan: Plan,
    /// Sent only when the plan was carried out.
    pub reply: Reply,
    /// For how long the reply holds.
    pub lease_duration: LeaseDuration,
    /// For people.
    pub warnings: Vec<String>,
}

impl Outcome {
    /// Nothing to write.
    pub fn answer(reply: Reply) -> Outcome {
        Outcome::new(Plan::new(), reply)
    }

    /// Something to write, and what to answer then.
    pub fn new(plan: Plan, reply: Reply) -> Outcome {
        Outcome { plan, reply, lease_duration: LeaseDuration::Unsaid, warnings: Vec::new() }
    }

    /// The same, for people to be warned.
    #[must_use]
    pub fn with_warnings(self, warnings: Vec<String>) -> Outcome {
        Outcome { warnings, ..self }
    }

    /// The same, with how long the reply holds.
    #[must_use]
    pub fn lasting(self, lease_duration: LeaseDuration) -> Outcome {
        Outcome { lease_duration, ..self }
    }
}

/// A parsed ask, ready to be planned.
pub trait Operation: Send + Sync {
    /// For a write: whether it would make something that is not there yet (`create`) or change it (`update`).
    /// `None` when the engine makes no such difference; a write is then an `update`.
    fn is_create(&self, _view: &View) -> Result<Option<bool>, PlanError> {
        Ok(None)
    }

    /// Reads what it needs and says what to write. `now` is the node's clock.
    fn plan(&self, view: &View, now: Timestamp) -> Result<Outcome, PlanError>;
}

/// A kind of secret engine.
pub trait Engine: Send + Sync {
    /// Its type, as mounts name it.
    fn kind(&self) -> &'static str;

    /// What may be asked of it: for help and the OpenAPI document.
    fn routes(&self) -> Vec<route::Outline>;

    /// Parses an ask, once.
    fn parse(&self, ask: Ask) -> Result<Box<dyn Operation>, AskError>;
}

/// A body that is not there.
pub fn no_body() -> SecretBytes {
    SecretBytes::from(Vec::new())
}

/// Text of JSON, from a value that serialises. Exact size, wiped when dropped.
pub fn json(value: &impl serde::Serialize) -> Json {
    SecretBytes::from(serde_json::to_vec(value).expect("maps with text keys and no failing serializer"))
}

/// What the answer to [`Reply::Details`] holds: `keys` and `key_info`, as Vault has them.
pub fn details(entries: &[(String, Json)]) -> Json {
    // EXPOSE: the answer is made of it.
    fn raw(info: &Json) -> &RawValue {
        serde_json::from_slice(info.expose()).expect("an engine tells of a name in JSON")
    }
    #[derive(serde::Serialize)]
    struct Details<'a> {
        key_info: BTreeMap<&'a str, &'a RawValue>,
        keys: Vec<&'a str>,
    }
    json(&Details {
        key_info: entries.iter().map(|(name, info)| (name.as_str(), raw(info))).collect(),
        keys: entries.iter().map(|(name, _)| name.as_str()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Mount, ask};

    const LINES: [&str; 24] = [
        "data/a",
        "data/a/b",
        "data/a/",
        "data",
        "delete/a",
        "undelete/a",
        "destroy/a",
        "metadata/a",
        "metadata/a/",
        "metadata",
        "subkeys/a",
        "detailed-metadata",
        "detailed-metadata/a",
        "config",
        "upgrade",
        "v1/a",
        "",
        "a",
        "a?version=9223372036854775807",
        "data/a?version=18446744073709551616",
        "subkeys/a?depth=-9223372036854775808",
        "metadata?limit=9223372036854775807&after=\u{10ffff}",
        "metadata?limit=-9223372036854775808",
        "?limit=1&after=a",
    ];

    const NAMES: [&str; 9] =
        ["data", "options", "cas", "versions", "max_versions", "cas_required", "delete_version_after", "custom_metadata", "ttl"];

    /// JSON of what fields mean something, with values that may not.
    fn body() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "[0-9]{1,40}(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,5})?",
            Just("-1".to_owned()),
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just(r#""\ud800""#.to_owned()),
            Just(r#""9999999999999h""#.to_owned()),
            any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
            Just(r#""-1s""#.to_owned()),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            let name = prop_oneof![
                8 => prop::sample::select(&NAMES[..]).prop_map(|name| format!("{name:?}")),
                1 => Just(r#""\udc00""#.to_owned()),
                1 => Just(r#""""#.to_owned()),
            ];
            let members = prop::collection::vec((name, inner.clone()), 0..5);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
                members.prop_map(|members| {
                    let members: Vec<String> = members.into_iter().map(|(name, value)| format!("{name}:{value}")).collect();
                    format!("{{{}}}", members.join(","))
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        /// No ask does, whatever was written before it.
        #[test]
        fn nothing_panics(
            asks in prop::collection::vec(
                (0..LINES.len(), prop::sample::select(&["GET", "POST", "PATCH", "DELETE", "LIST", "SCAN"][..]), body()),
                1..30,
            ),
            engine in 0_usize..3,
        ) {
            let engines: [&'static dyn Engine; 3] = [&kv::Kv, &kv1::Kv1, &kv1::Cubbyhole];
            let mount = Mount::of(engines[engine]);
            for (line, verb, body) in asks {
                let answer = mount.ask(&format!("{verb} {}", LINES[line]), &body);
                prop_assert!([200, 204, 400, 404, 405].contains(&answer.status), "{}", answer.status);
                if matches!(answer.status, 200 | 204) && !answer.body.is_empty() {
                    let _: &RawValue = serde_json::from_str(&answer.body).unwrap();
                }
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, line in 0..LINES.len(), verb in prop::sample::select(&["POST", "PATCH"][..])) {
            for engine in [&kv::Kv as &dyn Engine, &kv1::Kv1, &kv1::Cubbyhole] {
                let ask = Ask { body: SecretBytes::from(bytes.clone()), ..ask(&format!("{verb} {}", LINES[line]), "") };
                drop(engine.parse(ask));
            }
        }
    }

    #[test]
    fn every_engine_tells_what_may_be_asked_of_it() {
        for (engine, kind, patterns) in [(&kv::Kv as &dyn Engine, "kv", 10), (&kv1::Kv1, "kv", 2), (&kv1::Cubbyhole, "cubbyhole", 2)] {
            assert_eq!((engine.kind(), engine.routes().len()), (kind, patterns));
        }
    }

    #[test]
    fn details_are_keys_in_their_order_and_what_is_known_of_each() {
        let entry = |name: &str, info: &str| (name.to_owned(), SecretBytes::from(info.as_bytes().to_vec()));
        let answer = details(&[entry("b", r#"{"n":1.0}"#), entry("a/", "{}")]);
        assert_eq!(answer.expose(), br#"{"key_info":{"a/":{},"b":{"n":1.0}},"keys":["b","a/"]}"#);
    }
}

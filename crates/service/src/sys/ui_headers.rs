//! `sys/config/ui/headers`: headers of the answers below `/ui/`, as operators want them: a proxy that serves pages there beside this API, or a
//! scanner that insists on some. The listener asks for each such request.
//!
//! Always: a header that is kept can be sent as it is (RFC 9110, section 5), and is none by which the node frames or names its answer.

use barrier::{Name, Plan};
use crypto::SecretBytes;
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use prost::Message;
use proto::stored;
use serde_json::{Value, json};
use types::capability::Verb;

use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::request::Answer;

/// Headers, at most.
const HEADERS_MAX: usize = 64;
/// Values of one header, at most.
const VALUES_MAX: usize = 16;
/// Bytes of one name, at most.
const NAME_BYTES_MAX: usize = 128;
/// Bytes of one value, at most.
const VALUE_BYTES_MAX: usize = 4 * 1024;
/// Bytes of all names and values, at most: every answer below `/ui/` carries them.
const TOTAL_BYTES_MAX: usize = 32 * 1024;
/// By how names begin that are the node's own.
const RESERVED: [&str; 2] = ["x-vault-", "x-conclave-"];
/// They say how the answer is framed, which is for the node to know (RFC 9110, sections 7.6.1 and 8.6; RFC 9112, sections 6 and 7).
const FRAMING: [&str; 9] =
    ["connection", "content-length", "date", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

const NAME: Field = Field::required("name", FieldKind::Text, "The header's name; upper and lower case are the same.");

/// What may be asked.
pub(crate) static ROUTES: &[Route<Handler>] = &[
    Route {
        pattern: "config/ui/headers",
        about: "Headers of the answers below /ui/.",
        parameters: &[],
        methods: &[Method { verb: Verb::List, summary: "Lists their names.", fields: &[], query: &[], handler: list }],
        access: Access::Sudo,
    },
    Route {
        pattern: "config/ui/headers/{name}",
        about: "One header of the answers below /ui/.",
        parameters: &[NAME],
        methods: &[
            Method {
                verb: Verb::Read,
                summary: "Shows its first value.",
                fields: &[],
                query: &[Field::optional("multivalue", FieldKind::Boolean, "Shows all values.")],
                handler: read,
            },
            Method {
                verb: Verb::Write,
                summary: "Sets it.",
                fields: &[Field::required("values", FieldKind::List, "Its values, in their order. One text is one value, commas and all.")],
                query: &[],
                handler: write,
            },
            Method { verb: Verb::Delete, summary: "Removes it.", fields: &[], query: &[], handler: delete },
        ],
        access: Access::Sudo,
    },
];

/// Headers of the answers below `/ui/`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UiHeaders(Vec<(String, Vec<String>)>);

impl UiHeaders {
    /// The record's name.
    pub(crate) fn name() -> Name {
        Name::new("core/config/ui-headers")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<UiHeaders> {
        let record = stored::UiHeaders::decode(bytes).ok()?;
        Some(UiHeaders(record.headers.into_iter().map(|header| (header.name, header.values)).collect()))
    }

    /// Names in canonical spelling, in alphabetical order, each with its values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().map(|(name, values)| (name.as_str(), values.as_slice()))
    }

    fn values(&self, name: &str) -> Option<&[String]> {
        self.iter().find(|(known, _)| *known == name).map(|(_, values)| values)
    }

    /// With `values` in place of what `name` had; none removes it.
    fn with(mut self, name: &str, values: Vec<String>) -> Result<UiHeaders, PlanError> {
        self.0.retain(|(known, _)| known != name);
        if !values.is_empty() {
            self.0.push((name.to_owned(), values));
        }
        self.0.sort();
        let bytes: usize = self.iter().map(|(name, values)| values.iter().map(|value| name.len() + value.len()).sum::<usize>()).sum();
        if self.0.len() > HEADERS_MAX || bytes > TOTAL_BYTES_MAX {
            return Err(PlanError::Refused(format!("more than {HEADERS_MAX} headers or {TOTAL_BYTES_MAX} bytes: remove others first")));
        }
        Ok(self)
    }

    fn store(self, plan: &mut Plan) {
        let headers = self.0.into_iter().map(|(name, values)| stored::UiHeader { name, values }).collect::<Vec<_>>();
        if headers.is_empty() {
            plan.delete(UiHeaders::name());
        } else {
            plan.put(UiHeaders::name(), SecretBytes::from(stored::UiHeaders { headers }.encode_to_vec()));
        }
    }
}

/// The headers at these records.
fn load(scope: &Scope<'_>) -> Result<UiHeaders, PlanError> {
    match scope.records.view.read(&UiHeaders::name())?.value {
        // EXPOSE: the settings are no secret.
        Some(value) => UiHeaders::decode(value.expose()).ok_or(PlanError::Malformed),
        None => Ok(UiHeaders::default()),
    }
}

/// `x-frame-options` as `X-Frame-Options`: how names are kept and shown.
fn canonical(name: &str) -> String {
    let mut begins = true;
    let spell = |character: char| {
        let spelled = if begins { character.to_ascii_uppercase() } else { character.to_ascii_lowercase() };
        begins = character == '-';
        spelled
    };
    name.chars().map(spell).collect()
}

/// The name that is asked for, in canonical spelling. What no header can be called is not there.
fn asked_name(asked: &Asked<'_>) -> Result<String, AskError> {
    let name = asked.captures.text("name");
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_inner = |byte: u8| is_word(byte) || byte == b'-' || byte == b'.';
    let ends = [name.bytes().next(), name.bytes().next_back()];
    if name.len() > NAME_BYTES_MAX || !name.bytes().all(is_inner) || !ends.into_iter().all(|byte| byte.is_some_and(is_word)) {
        return Err(AskError::UnsupportedPath);
    }
    Ok(canonical(name))
}

fn invalid(text: impl Into<String>) -> AskError {
    AskError::Invalid(text.into())
}

/// One text or a list of them: values may have commas in them.
fn asked_values(fields: &Fields) -> Result<Vec<String>, AskError> {
    let cure = || invalid("values must be a text or a list of texts");
    let values = match fields.value("values") {
        None => Vec::new(),
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(values)) => {
            values.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(cure)).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(cure()),
    };
    if values.is_empty() {
        return Err(invalid("header and values must be specified"));
    }
    if values.len() > VALUES_MAX || values.iter().any(|value| value.len() > VALUE_BYTES_MAX) {
        return Err(invalid(format!("more than {VALUES_MAX} values, or one longer than {VALUE_BYTES_MAX} bytes")));
    }
    if !values.iter().all(|value| value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))) {
        return Err(invalid("values must be of printable ASCII characters, without line breaks"));
    }
    Ok(values)
}

fn list(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| Ok(Outcome::list(load(scope)?.iter().map(|(name, _)| name.to_owned()).collect()))))
}

fn read(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = asked_name(asked)?;
    let shows_all = Fields::of(asked.ask)?.boolean("multivalue")?.unwrap_or(false);
    Ok(planned(move |scope| {
        let headers = load(scope)?;
        Ok(match headers.values(&name) {
            Some(values) if shows_all => Outcome::data(&json!({ "values": values })),
            Some(values) => Outcome::data(&json!({ "value": values.first() })),
            None => Outcome::answer(Answer::NotFound),
        })
    }))
}

fn write(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = asked_name(asked)?;
    let folded = name.to_ascii_lowercase();
    if folded.starts_with(RESERVED[0]) {
        return Err(invalid("X-Vault headers cannot be set"));
    }
    if FRAMING.contains(&folded.as_str()) || RESERVED.iter().any(|reserved| folded.starts_with(reserved)) {
        return Err(invalid(format!("{name} cannot be set: the server sets it by itself")));
    }
    let values = asked_values(&Fields::of(asked.ask)?)?;
    Ok(planned(move |scope| {
        let mut plan = Plan::new();
        load(scope)?.with(&name, values.clone())?.store(&mut plan);
        let mut outcome = Outcome::written(plan, Answer::Data(engine::json(&Value::Null)));
        if name == "Content-Security-Policy" {
            outcome.warnings.push("overriding default Content-Security-Policy which is secure by default, proceed with caution".into());
        }
        Ok(outcome)
    }))
}

fn delete(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = asked_name(asked)?;
    Ok(planned(move |scope| {
        let mut plan = Plan::new();
        let headers = load(scope)?;
        if headers.values(&name).is_some() {
            headers.with(&name, Vec::new())?.store(&mut plan);
        }
        Ok(Outcome::written(plan, Answer::Done))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Refusal;
    use crate::testing::World;

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
    }

    #[test]
    fn names_have_one_spelling() {
        for (name, want) in [("x-frame-options", "X-Frame-Options"), ("CSP", "Csp"), ("x_a.b-c", "X_a.b-C"), ("1-a", "1-A")] {
            assert_eq!(canonical(name), want);
        }
    }

    #[tokio::test]
    async fn headers_are_kept_as_they_can_be_sent() {
        let world = World::new(1);
        let write = async |name: &str, body| world.ask(Verb::Write, &format!("sys/config/ui/headers/{name}"), body).await;
        let read = async |name: &str, query| world.ask(Verb::Read, &format!("sys/config/ui/headers/{name}"), query).await;
        assert_eq!(world.service.ui_headers().await, None);
        assert_eq!(world.ask(Verb::List, "sys/config/ui/headers", Value::Null).await, Ok(json!("none")));
        assert_eq!(write("x-b", json!({ "values": ["1", "2, 3"] })).await, Ok(Value::Null));
        assert_eq!(write("X-A", json!({ "values": "a,b" })).await, Ok(Value::Null));
        assert_eq!(read("X-B", Value::Null).await.unwrap(), json!({ "value": "1" }));
        assert_eq!(read("x-b", json!({ "multivalue": true })).await.unwrap(), json!({ "values": ["1", "2, 3"] }));
        assert_eq!(world.ask(Verb::List, "sys/config/ui/headers", Value::Null).await.unwrap(), json!({ "keys": ["X-A", "X-B"] }));
        let kept = world.service.ui_headers().await.unwrap();
        let kept: Vec<_> = kept.iter().map(|(name, values)| (name, values.join("|"))).collect();
        assert_eq!(kept, [("X-A", "a,b".to_owned()), ("X-B", "1|2, 3".to_owned())]);
        assert_eq!(world.ask(Verb::Delete, "sys/config/ui/headers/x-B", Value::Null).await, Ok(Value::Null));
        assert_eq!(world.ask(Verb::Delete, "sys/config/ui/headers/x-a", Value::Null).await, Ok(Value::Null));
        assert_eq!(world.service.ui_headers().await, None, "nothing is kept of nothing");
    }

    #[tokio::test]
    async fn what_cannot_be_sent_or_is_the_nodes_own_is_refused() {
        let world = World::new(1);
        let write = async |name: &str, body| world.ask(Verb::Write, &format!("sys/config/ui/headers/{name}"), body).await;
        for name in ["x-vault-a", "X-Conclave-Request-Id", "content-length", "Transfer-Encoding", "connection"] {
            assert!(matches!(write(name, json!({ "values": "a" })).await, Err(Refusal::Ask(AskError::Invalid(_)))), "{name}");
        }
        for name in ["a b", "a:", "-a", "a.", "ä", "a(b", &"a".repeat(NAME_BYTES_MAX + 1)] {
            assert_eq!(write(name, json!({ "values": "a" })).await, Err(Refusal::Ask(AskError::UnsupportedPath)), "{name}");
        }
        let (many, long) = (json!(vec!["v"; VALUES_MAX + 1]), json!("v".repeat(VALUE_BYTES_MAX + 1)));
        for values in [json!(null), json!(""), json!([]), json!(["a\r\nb: c"]), json!(["ä"]), json!([1]), json!({}), many, long] {
            assert!(matches!(write("x-a", json!({ "values": values })).await, Err(Refusal::Ask(AskError::Invalid(_)))), "{values}");
        }
        assert_eq!(world.service.ui_headers().await, None);
        for at in 0..HEADERS_MAX {
            write(&format!("x-{at}"), json!({ "values": "a" })).await.unwrap();
        }
        assert!(matches!(write("x-more", json!({ "values": "a" })).await, Err(Refusal::Refused(_))));
        write("x-0", json!({ "values": "b" })).await.unwrap();
    }
}

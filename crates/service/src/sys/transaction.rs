//! `sys/transaction`: several reads and writes of secrets, of any mounts of the namespace, as one.
//!
//! Always: every part is authorised, and its request recorded, as if it came by itself (the answers are in the record of the whole); all
//! parts read one state, from before any of them; all writes happen, or none, and only if no record that any part has read by name has
//! changed. What is listed may have got or lost names meanwhile. Parts are operations of secret engines: KV and cubbyhole.

use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use serde::Deserialize;
use serde_json::value::RawValue;
use types::Path;
use types::capability::Verb;

use crate::backend::{Asked, Handler};
use crate::outcome::{Operation, Outcome, Part, PlanError, Scope};

/// Parts of one transaction, at most.
pub(crate) const PARTS_MAX: usize = 256;

/// What may be asked.
pub(crate) static ROUTES: &[Route<Handler>] = &[Route {
    pattern: "transaction",
    about: "Several reads and writes of secrets as one: all are done, at one state, or none. Each is allowed by itself.",
    parameters: &[],
    methods: &[Method {
        verb: Verb::Write,
        summary: "Does all of the operations, or none.",
        fields: &[Field::required(
            "operations",
            FieldKind::Any,
            "A list of objects: operation (read, list, create, update, patch or delete), path, and body and query (objects) as the request \
             by itself would have them. Each reads what was there before all of them; no two may write the same secret.",
        )],
        query: &[],
        handler: transaction,
    }],
    access: Access::Token,
}];

/// One part, as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent<'a> {
    operation: String,
    path: String,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
    #[serde(default)]
    query: std::collections::BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    operations: Vec<Sent<'a>>,
}

struct Transaction(Vec<Part>);

#[async_trait::async_trait]
impl Operation for Transaction {
    fn parts(&self) -> &[Part] {
        &self.0
    }

    async fn plan(&self, _scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        // The pipeline plans the parts.
        Err(PlanError::Malformed)
    }
}

fn part(at: usize, sent: Sent<'_>) -> Result<Part, AskError> {
    let invalid = |text: String| AskError::Invalid(format!("operations[{at}]: {text}"));
    let verb = match sent.operation.as_str() {
        "read" => Verb::Read,
        "list" => Verb::List,
        "create" | "update" | "write" => Verb::Write,
        "patch" => Verb::Patch,
        "delete" => Verb::Delete,
        _ => return Err(invalid("operation must be read, list, create, update, patch or delete".into())),
    };
    let path = Path::parse(&sent.path).map_err(|error| invalid(format!("path: {error}")))?;
    let path = if verb == Verb::List { path.as_folder() } else { path };
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => Ok(text),
        value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => Ok(value.to_string()),
        _ => Err(invalid("query must be an object whose members are texts".into())),
    };
    let query = sent.query.into_iter().map(|(name, value)| Ok((name, text(value)?))).collect::<Result<_, AskError>>()?;
    // A body is the very text that was sent: numbers keep their spelling.
    let body = sent.body.map(RawValue::get).filter(|body| *body != "null").unwrap_or_default();
    if !(body.is_empty() || body.starts_with('{')) {
        return Err(invalid("body must be an object".into()));
    }
    Ok(Part { verb, path, body: body.as_bytes().to_vec().into(), query })
}

fn transaction(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    // EXPOSE: the body is parsed; errors do not repeat it.
    let body: Body<'_> = serde_json::from_slice(asked.ask.body.expose()).map_err(|_| {
        AskError::Invalid(r#"operations must be a list of objects, for example [{"operation": "read", "path": "secret/data/app"}]"#.into())
    })?;
    if body.operations.is_empty() || body.operations.len() > PARTS_MAX {
        return Err(AskError::Invalid(format!("operations must be 1 to {PARTS_MAX}")));
    }
    let parts = body.operations.into_iter().enumerate().map(|(at, sent)| part(at, sent)).collect::<Result<_, _>>()?;
    Ok(Box::new(Transaction(parts)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::request::Refusal;
    use crate::testing::World;

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
    }

    async fn world() -> World {
        let world = World::new(1);
        for (path, version) in [("a", "2"), ("b", "1")] {
            let body = json!({ "type": "kv", "options": { "version": version } });
            assert_eq!(world.ask(Verb::Write, &format!("sys/mounts/{path}"), body).await, Ok(Value::Null));
        }
        world
    }

    fn write(path: &str, value: &str, cas: u64) -> Value {
        json!({ "operation": "update", "path": path, "body": { "data": { "v": value }, "options": { "cas": cas } } })
    }

    async fn value(world: &World, path: &str) -> Option<Value> {
        world.ask(Verb::Read, path, Value::Null).await.ok().filter(|answer| answer.is_object())
    }

    #[tokio::test]
    async fn all_parts_happen_or_none_across_mounts() {
        let world = world().await;
        let both = json!({ "operations": [
            write("a/data/x", "1", 0),
            { "operation": "create", "path": "b/y", "body": { "v": "1" } },
            { "operation": "read", "path": "b/y" },
        ]});
        let answer = world.ask(Verb::Write, "sys/transaction", both.clone()).await.unwrap();
        assert_eq!(answer["results"][0]["data"]["version"], 1);
        assert_eq!(answer["results"][1], json!({ "status": 204 }));
        assert_eq!(answer["results"][2], json!({ "status": 404 }), "a part reads what was there before");
        assert_eq!(value(&world, "b/y").await.unwrap(), json!({ "v": "1" }));

        // The second time the condition of the first part does not hold: the second does not happen either.
        let changed = json!({ "operations": [write("a/data/x", "2", 0), { "operation": "update", "path": "b/y", "body": { "v": "2" } }] });
        let refused = world.ask(Verb::Write, "sys/transaction", changed).await;
        assert!(matches!(&refused, Err(Refusal::Refused(text)) if text.starts_with("operations[0]: ")), "{refused:?}");
        assert_eq!(value(&world, "b/y").await.unwrap(), json!({ "v": "1" }));
        assert_eq!(value(&world, "a/data/x").await.unwrap()["data"], json!({ "v": "1" }));
    }

    #[tokio::test]
    async fn every_part_is_authorised() {
        let world = world().await;
        let policy = r#"path "sys/transaction" { capabilities = ["update"] } path "b/y" { capabilities = ["create", "update"] }"#;
        assert_eq!(world.ask(Verb::Write, "sys/policies/acl/half", json!({ "policy": policy })).await, Ok(Value::Null));
        let made = world.ask(Verb::Write, "auth/token/create", json!({ "policies": ["half"] })).await.unwrap();
        let token = made["auth"]["client_token"].as_str().unwrap().to_owned();
        let allowed = json!({ "operation": "update", "path": "b/y", "body": { "v": "1" } });
        for (operations, may) in [
            (json!([allowed]), true),
            (json!([allowed, write("a/data/x", "1", 0)]), false),
            (json!([{ "operation": "read", "path": "b/y" }]), false),
        ] {
            let asked = world.ask_as(&token, Verb::Write, "sys/transaction", json!({ "operations": operations })).await;
            assert_eq!(asked.is_ok(), may, "{operations}: {asked:?}");
            assert!(may || asked == Err(Refusal::Denied));
        }
        assert_eq!(value(&world, "a/data/x").await, None);
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused_whole() {
        let world = world().await;
        for (operations, says) in [
            (json!([]), "1 to 256"),
            (json!("x"), "list of objects"),
            (json!([{ "operation": "read", "path": "a/data/x", "extra": 1 }]), "list of objects"),
            (json!([{ "operation": "sudo", "path": "a/data/x" }]), "operations[0]: operation must be"),
            (json!([{ "operation": "read", "path": "a/../x" }]), "operations[0]: path"),
            (json!([{ "operation": "update", "path": "a/data/x", "body": [1] }]), "operations[0]: body"),
            (json!([write("a/data/x", "1", 0), { "operation": "read", "path": "sys/mounts" }]), "operations[1]: only"),
            (json!([{ "operation": "update", "path": "auth/token/create" }]), "operations[0]: only"),
            (json!([write("a/data/x", "1", 0), write("a/data/x", "2", 0)]), "operations[1]: "),
        ] {
            let refused = world.ask(Verb::Write, "sys/transaction", json!({ "operations": operations })).await.unwrap_err();
            assert!(refused.to_string().contains(says), "{operations}: {refused}");
        }
        assert_eq!(value(&world, "a/data/x").await, None);
    }
}

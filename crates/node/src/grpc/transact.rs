//! `Transact`: from the calls of one transaction to the body of `sys/transaction`, and from its answer to theirs.
//!
//! Always: results stand in the order of the operations. Knows nothing of who may do what: each part is judged as if it came by itself.

use std::collections::BTreeMap;

use crypto::SecretBytes;
use proto::kv;
use proto::kv::operation::Call;
use proto::kv::operation_result::Outcome;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tonic::Status;

use super::{VersionJson, Versioned, malformed, object};

#[derive(Serialize)]
struct Body<'a> {
    operations: Vec<Part<'a>>,
}

/// One operation, as `sys/transaction` has it.
#[derive(Serialize)]
struct Part<'a> {
    operation: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<PartBody<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum PartBody<'a> {
    Put { data: &'a RawValue, options: BTreeMap<&'static str, u64> },
    Versions { versions: &'a [u64] },
}

/// The body of the one request that the operations are. Errors name the operation.
pub(super) fn body(operations: &[kv::Operation]) -> Result<SecretBytes, Status> {
    let parts = operations.iter().enumerate().map(|(at, operation)| {
        let invalid = |text: &str| Status::invalid_argument(format!("operations[{at}]: {text}"));
        match &operation.call {
            None => Err(invalid("one of get, put, delete and list must be set")),
            Some(call) => part(call).map_err(invalid),
        }
    });
    Ok(engine::json(&Body { operations: parts.collect::<Result<_, _>>()? }))
}

fn part(call: &Call) -> Result<Part<'_>, &'static str> {
    let path = |mount: &str, area: &str, path: &str| [mount, area, path].join("/");
    Ok(match call {
        Call::Get(get) => {
            let query = (get.version != 0).then_some(("version", get.version)).into_iter().collect();
            Part { operation: "read", path: path(&get.mount, "data", &get.path), body: None, query }
        }
        Call::Put(put) => {
            // EXPOSE: the caller's own data becomes part of the body.
            let body = PartBody::Put { data: object(&put.data)?, options: put.cas.map(|cas| ("cas", cas)).into_iter().collect() };
            Part { operation: "update", path: path(&put.mount, "data", &put.path), body: Some(body), query: BTreeMap::new() }
        }
        Call::Delete(delete) if delete.versions.is_empty() => {
            Part { operation: "delete", path: path(&delete.mount, "data", &delete.path), body: None, query: BTreeMap::new() }
        }
        Call::Delete(delete) => {
            let body = Some(PartBody::Versions { versions: &delete.versions });
            Part { operation: "update", path: path(&delete.mount, "delete", &delete.path), body, query: BTreeMap::new() }
        }
        Call::List(list) => Part { operation: "list", path: path(&list.mount, "metadata", &list.path), body: None, query: BTreeMap::new() },
    })
}

#[derive(Deserialize)]
struct Results<'a> {
    #[serde(borrow)]
    results: Vec<PartResult<'a>>,
}

#[derive(Deserialize)]
struct PartResult<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

/// What the answer of `sys/transaction` says of each operation.
pub(super) fn response(operations: &[kv::Operation], answer: &[u8]) -> Result<kv::TransactResponse, Status> {
    let Results { results } = serde_json::from_slice(answer).map_err(malformed)?;
    if results.len() != operations.len() {
        tracing::error!(operations = operations.len(), results = results.len(), "a transaction's answer is not what it should be");
        return Err(Status::internal("internal error"));
    }
    let results = operations.iter().zip(&results).map(|(operation, result)| {
        let outcome = outcome(operation.call.as_ref(), result.data).map_err(malformed)?;
        Ok(kv::OperationResult { outcome: Some(outcome) })
    });
    Ok(kv::TransactResponse { results: results.collect::<Result<_, Status>>()? })
}

fn outcome(call: Option<&Call>, data: Option<&RawValue>) -> Result<Outcome, serde_json::Error> {
    let data = data.map(RawValue::get);
    Ok(match (call, data) {
        (Some(Call::Get(_)), Some(data)) => {
            let found: Versioned<'_> = serde_json::from_str(data)?;
            let data = found.data.map(|data| data.get().as_bytes().to_vec()).unwrap_or_default();
            Outcome::Get(kv::GetResponse { data, version: Some(found.metadata.into()) })
        }
        (Some(Call::Put(_)), Some(data)) => {
            Outcome::Put(kv::PutResponse { version: Some(serde_json::from_str::<VersionJson>(data)?.into()) })
        }
        (Some(Call::Delete(_)), _) => Outcome::Delete(kv::DeleteResponse {}),
        (Some(Call::List(_)), Some(data)) => Outcome::List(kv::ListResponse { keys: serde_json::from_str::<Keys>(data)?.keys }),
        (Some(Call::List(_)), None) => Outcome::List(kv::ListResponse { keys: Vec::new() }),
        (Some(Call::Get(_) | Call::Put(_)) | None, _) => Outcome::NotFound(kv::NotFound {}),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn operation(call: Call) -> kv::Operation {
        kv::Operation { call: Some(call) }
    }

    fn operations() -> Vec<kv::Operation> {
        let [mount, path] = ["a".to_owned(), "x/y".to_owned()];
        vec![
            operation(Call::Get(kv::GetRequest { mount: mount.clone(), path: path.clone(), version: 3 })),
            operation(Call::Put(kv::PutRequest {
                mount: mount.clone(),
                path: path.clone(),
                data: br#"{"n": 1.10}"#.to_vec(),
                cas: Some(0),
            })),
            operation(Call::Delete(kv::DeleteRequest { mount: mount.clone(), path: path.clone(), versions: Vec::new() })),
            operation(Call::Delete(kv::DeleteRequest { mount: mount.clone(), path: path.clone(), versions: vec![1, 2] })),
            operation(Call::List(kv::ListRequest { mount, path })),
        ]
    }

    #[test]
    fn operations_are_what_their_calls_would_be() {
        let body = body(&operations()).unwrap();
        // EXPOSE: the test's own values.
        assert!(std::str::from_utf8(body.expose()).unwrap().contains(r#"{"n": 1.10}"#), "data stays to the byte");
        let value: Value = serde_json::from_slice(body.expose()).unwrap();
        let want = json!({ "operations": [
            { "operation": "read", "path": "a/data/x/y", "query": { "version": 3 } },
            { "operation": "update", "path": "a/data/x/y", "body": { "data": { "n": 1.10 }, "options": { "cas": 0 } } },
            { "operation": "delete", "path": "a/data/x/y" },
            { "operation": "update", "path": "a/delete/x/y", "body": { "versions": [1, 2] } },
            { "operation": "list", "path": "a/metadata/x/y" },
        ]});
        assert_eq!(value, want);
    }

    #[test]
    fn an_operation_that_is_none_is_named() {
        let bad = kv::PutRequest { mount: "a".into(), path: "x".into(), data: b"{".to_vec(), cas: None };
        for call in [None, Some(Call::Put(bad))] {
            let mut all = operations();
            all[2] = kv::Operation { call };
            let status = body(&all).map(|_| ()).unwrap_err();
            assert!(status.message().starts_with("operations[2]: "), "{status}");
        }
    }

    #[test]
    fn each_result_has_the_kind_of_its_operation() {
        let metadata = json!({ "version": 4, "created_time": "c", "deletion_time": "d", "destroyed": false });
        let answer = json!({ "results": [
            { "status": 404, "data": { "data": null, "metadata": metadata } },
            { "status": 200, "data": metadata },
            { "status": 204 },
            { "status": 204 },
            { "status": 404 },
        ]});
        let results = response(&operations(), answer.to_string().as_bytes()).unwrap().results;
        assert!(matches!(&results[0].outcome, Some(Outcome::Get(get)) if get.data.is_empty() && get.version.as_ref().unwrap().number == 4));
        assert!(matches!(&results[1].outcome, Some(Outcome::Put(put)) if put.version.as_ref().unwrap().number == 4));
        assert!(matches!(&results[2].outcome, Some(Outcome::Delete(_))));
        assert!(matches!(&results[4].outcome, Some(Outcome::List(list)) if list.keys.is_empty()));
        assert!(response(&operations()[1..], answer.to_string().as_bytes()).is_err(), "a result too many");
    }
}

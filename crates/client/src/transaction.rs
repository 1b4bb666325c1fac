//! Several reads and writes of secrets as one: all are done, at one state, or none. Over HTTP or gRPC.
//!
//! Always: results stand in the order of the operations; a transaction that writes is sent again only when it surely was not applied.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use proto::kv::kv_client::KvClient;
use proto::kv::operation::Call;
use proto::kv::operation_result::Outcome;
use proto::kv::{DeleteRequest, GetRequest, ListRequest, Operation as Message, PutRequest, TransactRequest};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tonic::transport::Channel;
use zeroize::Zeroizing;

use crate::failover::Safety;
use crate::kv::{Secret, Version};
use crate::kv_grpc::call;
use crate::{Client, Error, Method, SecretData};

/// Operations on secrets of KV v2 mounts of one namespace, done as one: all or none, at one state; each sees what was there before all of
/// them, and no two may write the same secret. 1 to 256. Nothing is sent before [`Transaction::commit`].
#[must_use = "a transaction does nothing until it is committed"]
pub struct Transaction<'a> {
    client: &'a Client,
    operations: Vec<Operation>,
}

enum Operation {
    Get { mount: String, path: String, version: Option<u64> },
    Put { mount: String, path: String, data: SecretData, cas: Option<u64> },
    Delete { mount: String, path: String, versions: Vec<u64> },
    List { mount: String, path: String },
}

/// What one operation of a [`Transaction`] came to.
pub enum TransactionResult {
    /// The secret; without data when the version is deleted. `None`: there is none.
    Get(Option<Secret>),
    /// The version that was written.
    Put(Version),
    /// It is deleted, if it was there.
    Delete,
    /// The names, sorted; folders end with `/`. Empty when there are none.
    List(Vec<String>),
}

/// Why a transaction was not done.
#[derive(Debug)]
pub struct TransactionError {
    /// Which operation, from 0, was at fault; `None`: no single one, or (when it was denied) the server does not tell.
    pub operation: Option<usize>,
    /// What went wrong.
    pub error: Error,
}

impl fmt::Display for TransactionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The server's words name the operation.
        self.error.fmt(f)
    }
}

impl std::error::Error for TransactionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<Error> for TransactionError {
    fn from(error: Error) -> TransactionError {
        let words = match &error {
            Error::Refused(refusal) => refusal.errors.as_slice(),
            Error::Unavailable { .. } | Error::Indeterminate { .. } | Error::Malformed { .. } | Error::Input { .. } => &[],
        };
        TransactionError { operation: words.iter().find_map(|text| operation_named(text)), error }
    }
}

/// `operations[7]: …`
fn operation_named(text: &str) -> Option<usize> {
    text.trim_start().strip_prefix("operations[")?.split_once("]: ")?.0.parse().ok()
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(client: &'a Client) -> Transaction<'a> {
        Transaction { client, operations: Vec::new() }
    }

    fn with(mut self, operation: Operation) -> Self {
        self.operations.push(operation);
        self
    }

    /// Reads the newest version.
    pub fn get(self, mount: &str, path: &str) -> Self {
        self.with(Operation::Get { mount: trimmed(mount), path: below(path), version: None })
    }

    /// Reads one version.
    pub fn get_version(self, mount: &str, path: &str, version: u64) -> Self {
        self.with(Operation::Get { mount: trimmed(mount), path: below(path), version: Some(version) })
    }

    /// Writes a new version. `cas`: only if this is the newest (0: only if there is none).
    pub fn put(self, mount: &str, path: &str, data: SecretData, cas: Option<u64>) -> Self {
        self.with(Operation::Put { mount: trimmed(mount), path: below(path), data, cas })
    }

    /// Deletes the newest version.
    pub fn delete(self, mount: &str, path: &str) -> Self {
        self.delete_versions(mount, path, &[])
    }

    /// Deletes these versions; none: the newest.
    pub fn delete_versions(self, mount: &str, path: &str, versions: &[u64]) -> Self {
        self.with(Operation::Delete { mount: trimmed(mount), path: below(path), versions: versions.to_vec() })
    }

    /// Lists the names below `path` (`""` for the mount itself).
    pub fn list(self, mount: &str, path: &str) -> Self {
        self.with(Operation::List { mount: trimmed(mount), path: below(path) })
    }

    fn safety(&self) -> Safety {
        let reads = |operation: &Operation| matches!(operation, Operation::Get { .. } | Operation::List { .. });
        if self.operations.iter().all(reads) { Safety::Repeatable } else { Safety::Once }
    }

    /// Does it over HTTP (`sys/transaction`). Dropped half-way, it may still be applied, whole.
    pub async fn commit(self) -> Result<Vec<TransactionResult>, TransactionError> {
        let mut request = self.client.request(Method::Post, "sys/transaction");
        if self.safety() == Safety::Repeatable {
            request = request.idempotent();
        }
        let parts: Vec<Part<'_>> = self.operations.iter().map(Part::of).collect();
        let response = request.body(&BTreeMap::from([("operations", parts)])).send().await?;
        let Results { results } = response.data::<Results>()?;
        let malformed = |reason: String| Error::Malformed {
            ask: "POST /v1/sys/transaction".to_owned(),
            address: Arc::from(response.address()),
            reason,
        };
        same_count(self.operations.len(), results.len()).map_err(&malformed)?;
        let typed = self.operations.iter().zip(results).enumerate().map(|(at, (operation, result))| {
            // The parser's own words may hold a value.
            result.typed(operation).map_err(|_| malformed(format!("results[{at}] is not what the API says")))
        });
        Ok(typed.collect::<Result<_, Error>>()?)
    }

    /// Does it over gRPC. Dropped half-way, it may still be applied, whole.
    pub async fn commit_grpc(self) -> Result<Vec<TransactionResult>, TransactionError> {
        let name = "conclave.kv.v1.Kv/Transact";
        let count = self.operations.len();
        let safety = self.safety();
        let client = self.client;
        let operations = self.operations.into_iter().map(message).collect::<Result<_, _>>()?;
        let send = |mut stub: KvClient<Channel>, message| async move { stub.transact(message).await };
        let (answer, address) = call(client, name.to_owned(), safety, TransactRequest { operations }, send).await?;
        let malformed = |reason: String| Error::Malformed { ask: name.to_owned(), address: address.clone(), reason };
        same_count(count, answer.results.len()).map_err(&malformed)?;
        let typed =
            answer.results.into_iter().enumerate().map(|(at, result)| {
                result.outcome.and_then(typed).ok_or_else(|| malformed(format!("results[{at}] is not what the API says")))
            });
        Ok(typed.collect::<Result<_, Error>>()?)
    }
}

fn trimmed(mount: &str) -> String {
    mount.trim_matches('/').to_owned()
}

fn below(path: &str) -> String {
    path.trim_start_matches('/').to_owned()
}

fn same_count(operations: usize, results: usize) -> Result<(), String> {
    if operations == results { Ok(()) } else { Err(format!("it has {results} results for {operations} operations")) }
}

/// An operation, as `sys/transaction` has it.
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
    Put { data: &'a Map<String, Value>, options: BTreeMap<&'static str, u64> },
    Versions { versions: &'a [u64] },
}

impl Part<'_> {
    fn of(operation: &Operation) -> Part<'_> {
        let (operation, path, body, query) = match operation {
            Operation::Get { mount, path, version } => {
                ("read", format!("{mount}/data/{path}"), None, version.map(|version| ("version", version)))
            }
            Operation::Put { mount, path, data, cas } => {
                // EXPOSE: the fields go to the server.
                let body = PartBody::Put { data: data.expose(), options: cas.map(|cas| ("cas", cas)).into_iter().collect() };
                ("update", format!("{mount}/data/{path}"), Some(body), None)
            }
            Operation::Delete { mount, path, versions } if versions.is_empty() => ("delete", format!("{mount}/data/{path}"), None, None),
            Operation::Delete { mount, path, versions } => {
                ("update", format!("{mount}/delete/{path}"), Some(PartBody::Versions { versions }), None)
            }
            Operation::List { mount, path } => ("list", format!("{mount}/metadata/{path}"), None, None),
        };
        Part { operation, path, body, query: query.into_iter().collect() }
    }
}

#[derive(Deserialize)]
struct Results {
    results: Vec<PartResult>,
}

#[derive(Deserialize)]
struct PartResult {
    data: Option<Box<RawValue>>,
}

impl PartResult {
    fn typed(self, operation: &Operation) -> Result<TransactionResult, serde_json::Error> {
        #[derive(Deserialize)]
        struct Read {
            data: Option<Map<String, Value>>,
            metadata: Version,
        }
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<String>,
        }
        let data = self.data.as_deref().map(RawValue::get);
        Ok(match (operation, data) {
            (Operation::Get { .. }, None) => TransactionResult::Get(None),
            (Operation::Get { .. }, Some(data)) => {
                let read: Read = serde_json::from_str(data)?;
                TransactionResult::Get(Some(Secret { data: read.data.map(SecretData::from), version: read.metadata }))
            }
            (Operation::Put { .. }, data) => TransactionResult::Put(serde_json::from_str(data.unwrap_or("null"))?),
            (Operation::Delete { .. }, _) => TransactionResult::Delete,
            (Operation::List { .. }, None) => TransactionResult::List(Vec::new()),
            (Operation::List { .. }, Some(data)) => TransactionResult::List(serde_json::from_str::<Keys>(data)?.keys),
        })
    }
}

/// An operation, as gRPC has it.
fn message(operation: Operation) -> Result<Message, Error> {
    let call = match operation {
        Operation::Get { mount, path, version } => Call::Get(GetRequest { mount, path, version: version.unwrap_or(0) }),
        Operation::Put { mount, path, data, cas } => {
            // EXPOSE: the fields go to the server. The library keeps copies of the message that it does not wipe.
            let data = serde_json::to_vec(data.expose())
                .map_err(|source| Error::Input { reason: format!("the data of {path:?} is no JSON: {source}") })?;
            Call::Put(PutRequest { mount, path, data, cas })
        }
        Operation::Delete { mount, path, versions } => Call::Delete(DeleteRequest { mount, path, versions }),
        Operation::List { mount, path } => Call::List(ListRequest { mount, path }),
    };
    Ok(Message { call: Some(call) })
}

/// `None`: it is not what the API says.
fn typed(outcome: Outcome) -> Option<TransactionResult> {
    Some(match outcome {
        Outcome::Get(get) => {
            let bytes = Zeroizing::new(get.data);
            let data =
                if bytes.is_empty() { None } else { Some(SecretData::from(serde_json::from_slice::<Map<String, Value>>(&bytes).ok()?)) };
            TransactionResult::Get(Some(Secret { data, version: get.version?.into() }))
        }
        Outcome::Put(put) => TransactionResult::Put(put.version?.into()),
        Outcome::Delete(_) => TransactionResult::Delete,
        Outcome::List(list) => TransactionResult::List(list.keys),
        Outcome::NotFound(_) => TransactionResult::Get(None),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn data(value: Value) -> SecretData {
        value.as_object().unwrap().clone().into()
    }

    #[test]
    fn operations_are_written_as_the_api_has_them() {
        let client = Client::builder().addresses(["http://127.0.0.1:1"]).build().unwrap();
        let reads = client.transaction().get("a/", "/x").get_version("a", "x", 2).list("a", "");
        assert_eq!(reads.safety(), Safety::Repeatable);
        let all = reads.put("a", "x", data(json!({ "v": 1 })), Some(0)).delete("b", "y").delete_versions("b", "y", &[3]);
        assert_eq!(all.safety(), Safety::Once);
        let parts: Vec<Part<'_>> = all.operations.iter().map(Part::of).collect();
        let want = json!([
            { "operation": "read", "path": "a/data/x" },
            { "operation": "read", "path": "a/data/x", "query": { "version": 2 } },
            { "operation": "list", "path": "a/metadata/" },
            { "operation": "update", "path": "a/data/x", "body": { "data": { "v": 1 }, "options": { "cas": 0 } } },
            { "operation": "delete", "path": "b/data/y" },
            { "operation": "update", "path": "b/delete/y", "body": { "versions": [3] } },
        ]);
        assert_eq!(serde_json::to_value(parts).unwrap(), want);
    }

    #[test]
    fn a_refusal_names_the_operation() {
        for (text, want) in [
            ("operations[7]: check-and-set parameter did not match the current version", Some(7)),
            ("operations must be 1 to 256", None),
            ("operations[x]: y", None),
            ("permission denied", None),
        ] {
            assert_eq!(operation_named(text), want, "{text}");
        }
    }
}

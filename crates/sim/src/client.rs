//! A client of the simulated cluster: makes requests of KV version 2 at a node, as a listener would, and reads the answers.

use std::time::Duration;

use crypto::{Rng, SeededRng, rng::generate_bytes};
use engine::Json;
use serde_json::{Value, json};
use service::{Answer as Reply, Reading, Refusal, Request};
use tokio::time::timeout;
use types::capability::Verb;
use types::{Path, RequestId};

use crate::linearizability::register::{Action, Answer, Newest};
use crate::node::Node;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(12);
/// The mount that the workload writes to.
const MOUNT: &str = "secret";

/// What became of a request.
pub enum Outcome<T> {
    /// Answered.
    Answered(T),
    /// It certainly did nothing.
    NothingDone(String),
    /// Nobody knows.
    Unknown(String),
}

impl<T> Outcome<T> {
    fn map<U>(self, map: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Outcome::Answered(answer) => Outcome::Answered(map(answer)),
            Outcome::NothingDone(why) => Outcome::NothingDone(why),
            Outcome::Unknown(why) => Outcome::Unknown(why),
        }
    }
}

/// A caller with a token. Knows how keys and values of the workload are spelt, and reads them back.
pub struct Client {
    rng: SeededRng,
    token: String,
    marker: String,
    reading: Reading,
}

impl Client {
    /// `marker` is a part of each name and value, so that it can be sought where it must not be.
    pub fn new(rng_seed: u64, token: &str, marker: &str) -> Client {
        Client {
            rng: SeededRng::dangerous_from_seed(rng_seed),
            token: token.to_owned(),
            marker: marker.to_owned(),
            reading: Reading::Configured,
        }
    }

    /// What is read must be as fresh as `reading` says.
    pub fn reading(self, reading: Reading) -> Client {
        Client { reading, ..self }
    }

    /// Mounts the engine that the workload writes to, and has it keep as many versions as it can.
    pub async fn mount(&self, node: &Node) -> Outcome<()> {
        let body = json!({ "type": "kv", "options": { "version": "2" } });
        match self.ask(node, Verb::Write, &format!("sys/mounts/{MOUNT}"), vec![], Some(body)).await {
            Outcome::Answered(_) => {}
            other => return other.map(drop),
        }
        let body = json!({ "max_versions": engine::kv::VERSIONS_MAX });
        self.ask(node, Verb::Write, &format!("{MOUNT}/config"), vec![], Some(body)).await.map(drop)
    }

    /// One operation on a register.
    ///
    /// # Panics
    /// When the node refuses what it must not refuse, or the answer is none that KV version 2 gives. So do the others.
    pub async fn operate(&self, node: &Node, key: usize, action: Action) -> Outcome<Answer> {
        match action {
            Action::Read => self.read(node, key, None).await.map(Answer::Found),
            Action::Write(value) => self.write(node, key, json!({ "data": self.data(value) })).await,
            Action::CompareAndSet { expected, value } => {
                self.write(node, key, json!({ "data": self.data(value), "options": { "cas": expected } })).await
            }
        }
    }

    /// One version of a register, or the newest.
    ///
    /// # Panics
    /// As [`Client::operate`].
    pub async fn read(&self, node: &Node, key: usize, version: Option<u64>) -> Outcome<Newest> {
        let query = version.map(|version| ("version".to_owned(), version.to_string())).into_iter().collect();
        let answer = self.ask(node, Verb::Read, &self.path(key), query, None).await;
        answer.map(|reply| match reply {
            Some(data) => {
                let version = data["metadata"]["version"].as_u64().expect("a version has a number");
                Some((version, self.value(&data["data"])))
            }
            None => None,
        })
    }

    async fn write(&self, node: &Node, key: usize, body: Value) -> Outcome<Answer> {
        match self.ask(node, Verb::Write, &self.path(key), vec![], Some(body)).await {
            Outcome::NothingDone(why) if why.contains("check-and-set") => Outcome::Answered(Answer::Mismatch),
            other => other.map(|data| {
                let version = data.as_ref().and_then(|data| data["version"].as_u64());
                Answer::Written(version.expect("the answer to a write names the version"))
            }),
        }
    }

    /// The path of a register: a secret of its own.
    pub fn path(&self, key: usize) -> String {
        format!("{MOUNT}/data/team/{}-{key}", self.marker)
    }

    fn data(&self, value: u64) -> Value {
        json!({ "value": format!("{}={value}", self.marker) })
    }

    fn value(&self, data: &Value) -> u64 {
        let text = data["value"].as_str().and_then(|text| text.strip_prefix(&self.marker)?.strip_prefix('='));
        text.and_then(|number| number.parse().ok()).expect("what was read is what this workload wrote")
    }

    /// The data of the answer; `None` for an answer without any, or when there is nothing.
    async fn ask(&self, node: &Node, verb: Verb, path: &str, query: Vec<(String, String)>, body: Option<Value>) -> Outcome<Option<Value>> {
        let Some(life) = node.life() else { return Outcome::NothingDone("connection refused".into()) };
        let Some(service) = life.service() else { return Outcome::NothingDone("sealed".into()) };
        let request = Request {
            namespace: Path::root(),
            headers: Vec::new(),
            wrap_ttl: None,
            upload: None,
            reading: self.reading,
            id: RequestId(uuid::Builder::from_random_bytes(generate_bytes(&self.rng as &dyn Rng)).into_uuid()),
            verb,
            path: Path::parse(path).expect("the workload's paths are canonical"),
            body: body.map_or_else(engine::no_body, |body| Json::from(body.to_string().into_bytes())),
            query,
            token: Some(self.token.clone().into_bytes().into()),
            remote: None,
        };
        let answered = tokio::select! {
            biased;
            () = life.down.cancelled() => return Outcome::Unknown("connection reset".into()),
            answered = timeout(PATIENCE, service.handle(request)) => answered,
        };
        match answered {
            Err(_) => Outcome::Unknown("timed out".into()),
            Ok(response) => match response.outcome {
                Ok(Reply::Data(data)) => Outcome::Answered(Some(serde_json::from_slice(data.expose()).expect("an answer is JSON"))),
                Ok(Reply::Done | Reply::Accepted | Reply::NotFound) => Outcome::Answered(None),
                Ok(Reply::Gone(_) | Reply::Leased(..) | Reply::Auth(_) | Reply::Wrapped(_) | Reply::Raw(_) | Reply::Stream(_)) => {
                    panic!("{verb} {path}: this workload deletes nothing and asks for no token or snapshot")
                }
                Err(refusal @ (Refusal::Indeterminate | Refusal::Internal | Refusal::Audit)) => Outcome::Unknown(refusal.to_string()),
                Err(
                    refusal @ (Refusal::Contended | Refusal::Sealed | Refusal::NoLeader | Refusal::Unavailable(_) | Refusal::Refused(_)),
                ) => Outcome::NothingDone(refusal.to_string()),
                Err(
                    refusal @ (Refusal::Denied
                    | Refusal::Forbidden(_)
                    | Refusal::NoRoute(_)
                    | Refusal::NoSuch(_)
                    | Refusal::TooMany(_)
                    | Refusal::Ask(_)
                    | Refusal::TooLarge
                    | Refusal::DiskFull),
                ) => {
                    panic!("{verb} {path}: {refusal}, although this client may, and asks for what is there")
                }
            },
        }
    }
}

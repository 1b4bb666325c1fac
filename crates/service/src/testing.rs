//! A whole service over one table in memory, for tests: requests go the way of every request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use barrier::testing::MemoryBarrier;
use barrier::{AccessError, CommitError, Plan, SealedNode, View};
use crypto::{Rng, SecretBytes, SeededRng};
use engine::route::Outline;
use proto::http::HaStatus;
use serde_json::{Value, json};
use types::{Clock, Path, RequestId, Revision, Timestamp, Verb};

use crate::node::{Node, Software};
use crate::outcome::Settings;
use crate::pipeline::Service;
use crate::request::{Answer, Refusal, Request, Response};
use crate::store::Store;

/// One table in memory.
pub(crate) struct MemoryStore(pub(crate) Arc<MemoryBarrier>);

#[async_trait::async_trait]
impl Store for MemoryStore {
    async fn view(&self) -> Result<View, AccessError> {
        Ok(self.0.view())
    }

    async fn commit(&self, view: &View, plan: &Plan) -> Result<Revision, CommitError> {
        self.0.commit_at(view, plan).ok_or(CommitError::Conflict)
    }

    fn leads(&self) -> bool {
        true
    }

    async fn seal(&self, _by: &str) -> Result<Vec<SealedNode>, String> {
        self.0.seal();
        Ok(Vec::new())
    }

    async fn members(&self, _now: Timestamp) -> HaStatus {
        HaStatus { nodes: Vec::new() }
    }
}

/// A node that tells nothing of itself.
pub(crate) struct QuietNode;

pub(crate) fn software() -> Software {
    Software { version: "0.0.0".into(), source_date: String::new() }
}

impl Node for QuietNode {
    fn version(&self) -> String {
        "0.0.0".into()
    }

    fn software(&self) -> Software {
        software()
    }

    fn host_info(&self) -> Value {
        json!({})
    }

    fn in_flight(&self) -> Value {
        json!({})
    }

    fn metrics(&self, _format: Option<&str>, _accept: Option<&str>) -> Result<(String, String), String> {
        Err("none here".into())
    }

    fn configuration(&self) -> Value {
        json!({})
    }

    fn routes(&self) -> Vec<Outline> {
        Vec::new()
    }
}

/// A clock that stands still until it is told to go on.
pub(crate) struct ManualClock(AtomicU64);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// A new cluster of one, open, with its root token.
pub(crate) struct World {
    pub(crate) barrier: Arc<MemoryBarrier>,
    pub(crate) service: Arc<Service>,
    pub(crate) root_token: String,
    clock: Arc<ManualClock>,
}

/// A request's parts that tests change; the rest is as usual.
pub(crate) struct Asking {
    pub(crate) verb: Verb,
    pub(crate) namespace: &'static str,
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) token: Option<String>,
    pub(crate) remote: &'static str,
    pub(crate) wrap_ttl_s: u64,
}

impl World {
    /// Keys and randomness come from `seed`; the time is some day in 2026.
    pub(crate) fn new(seed: u64) -> World {
        let barrier = Arc::new(MemoryBarrier::new(seed));
        let rng: Arc<dyn Rng> = Arc::new(SeededRng::dangerous_from_seed(seed + 1));
        let clock = Arc::new(ManualClock(AtomicU64::new(1_795_510_800_000)));
        let (plan, root_token) = barrier.with_keyring(|keyring| crate::found(keyring, clock.now(), &*rng));
        assert!(barrier.commit(&barrier.view(), &plan));
        let store = Arc::new(MemoryStore(Arc::clone(&barrier)));
        let service = Arc::new(Service::new(store, Arc::clone(&clock) as _, rng, Settings::default(), Arc::new(QuietNode)));
        World { barrier, service, root_token: root_token.to_string(), clock }
    }

    /// Another node of the same cluster.
    pub(crate) fn another_node(&self, seed: u64) -> World {
        let rng: Arc<dyn Rng> = Arc::new(SeededRng::dangerous_from_seed(seed));
        let store = Arc::new(MemoryStore(Arc::clone(&self.barrier)));
        let service = Arc::new(Service::new(store, Arc::clone(&self.clock) as _, rng, Settings::default(), Arc::new(QuietNode)));
        World { barrier: Arc::clone(&self.barrier), service, root_token: self.root_token.clone(), clock: Arc::clone(&self.clock) }
    }

    /// Lets so many milliseconds go by.
    pub(crate) fn pass_ms(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    /// Lets time go by.
    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A request with the root token.
    pub(crate) fn asking(&self, verb: Verb, path: &str, body: Value) -> Asking {
        let token = Some(self.root_token.clone());
        Asking { verb, namespace: "", path: path.to_owned(), body, token, remote: "127.0.0.1:40000", wrap_ttl_s: 0 }
    }

    /// Sends a request.
    pub(crate) async fn send(&self, asking: Asking) -> Response {
        let body = if asking.body.is_null() { Vec::new() } else { asking.body.to_string().into_bytes() };
        let path = Path::parse(&asking.path).unwrap();
        let path = if matches!(asking.verb, Verb::List | Verb::Scan) { path.as_folder() } else { path };
        let request = Request {
            id: RequestId::generate(),
            verb: asking.verb,
            namespace: Path::parse(asking.namespace).unwrap(),
            path,
            body: SecretBytes::from(body),
            query: Vec::new(),
            token: asking.token.map(|token| SecretBytes::from(token.into_bytes())),
            remote: Some(asking.remote.parse().unwrap()),
            headers: Vec::new(),
            wrap_ttl: (asking.wrap_ttl_s > 0).then(|| std::time::Duration::from_secs(asking.wrap_ttl_s)),
            upload: None,
            reading: Default::default(),
        };
        self.service.handle(request).await
    }

    /// Sends a request with a token: what the answer shows (an object with `auth` for a token; `null` for done, `"none"` for nothing
    /// there), or the refusal.
    pub(crate) async fn ask_as(&self, token: &str, verb: Verb, path: &str, body: Value) -> Result<Value, Refusal> {
        let response = self.send(Asking { token: Some(token.to_owned()), ..self.asking(verb, path, body) }).await;
        response.outcome.map(|answer| shown(&answer))
    }

    /// As [`World::ask_as`], in a namespace.
    pub(crate) async fn ask_in(&self, namespace: &'static str, token: &str, verb: Verb, path: &str, body: Value) -> Result<Value, Refusal> {
        let response = self.send(Asking { token: Some(token.to_owned()), namespace, ..self.asking(verb, path, body) }).await;
        response.outcome.map(|answer| shown(&answer))
    }

    /// A second later, all chores that are due are done.
    pub(crate) async fn do_chores(&self) {
        self.pass(1);
        while self.service.reaper(crate::lease::undoers).round().await.unwrap() > 0 {}
    }

    /// Every record with its revision, by its name.
    pub(crate) fn records(&self) -> std::collections::BTreeMap<String, types::Revision> {
        let view = self.barrier.view();
        let names = view.names_below(&barrier::Name::root(), usize::MAX).unwrap();
        names.iter().map(|name| (name.as_str().to_owned(), view.read(name).unwrap().revision)).collect()
    }

    /// As [`World::ask_as`], with the root token.
    pub(crate) async fn ask(&self, verb: Verb, path: &str, body: Value) -> Result<Value, Refusal> {
        self.ask_as(&self.root_token, verb, path, body).await
    }
}

/// An answer, for assertions.
pub(crate) fn shown(answer: &Answer) -> Value {
    let parsed = |data: &SecretBytes| serde_json::from_slice::<Value>(data.expose()).unwrap();
    match answer {
        Answer::Data(data) | Answer::Leased(data, _) => parsed(data),
        Answer::Gone(data) => json!({ "gone": parsed(data) }),
        Answer::Auth(auth) => json!({ "auth": parsed(&auth.json()) }),
        Answer::Wrapped(wrapped) => json!({ "wrap_info": parsed(&wrapped.json()) }),
        Answer::Raw(raw) => json!({ "raw": String::from_utf8_lossy(raw.body.expose()) }),
        Answer::Stream(download) => json!({ "stream": download.file_name }),
        Answer::Done | Answer::Accepted => Value::Null,
        Answer::NotFound => json!("none"),
    }
}

#[tokio::test]
async fn policies_rule_what_a_token_may() {
    let world = World::new(1);
    let policy = json!({ "policy": "path \"sys/policies/acl/*\" { capabilities = [\"read\"] }" });
    assert_eq!(world.ask(Verb::Write, "sys/policies/acl/reader", policy.clone()).await, Ok(Value::Null));
    assert_eq!(world.ask(Verb::Read, "sys/policies/acl/reader", Value::Null).await.unwrap()["policy"], policy["policy"]);
    let denied = world.ask_as("hvs.nobody", Verb::Read, "sys/policies/acl/reader", Value::Null).await;
    assert_eq!(denied, Err(Refusal::Denied));
    let missing = world.ask(Verb::Read, "sys/policies/acl/none", Value::Null).await;
    assert_eq!(missing, Ok(json!("none")));
}

//! A whole service over one table in memory, for targets that send it requests.

use std::sync::Arc;

use barrier::testing::MemoryBarrier;
use barrier::{AccessError, CommitError, Plan, SealedNode, View};
use crypto::{Rng, SecretBytes, SeededRng};
use engine::route::Outline;
use proto::http::HaStatus;
use serde_json::{Value, json};
use service::{Node, Refusal, Request, Service, Settings, Software, Store};
use types::{Clock, Path, RequestId, Revision, Timestamp, Verb};

/// Requests to one service, before a new one takes its place: the table is in memory.
const REQUESTS_MAX: u32 = 20_000;

struct MemoryStore(Arc<MemoryBarrier>);

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
        Ok(Vec::new())
    }

    async fn members(&self, _now: Timestamp) -> HaStatus {
        HaStatus { nodes: Vec::new() }
    }
}

struct QuietNode;

impl Node for QuietNode {
    fn version(&self) -> String {
        "0.0.0".into()
    }

    fn software(&self) -> Software {
        Software { version: "0.0.0".into(), source_date: String::new() }
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

struct OneTime;

impl Clock for OneTime {
    fn now(&self) -> Timestamp {
        Timestamp(1_795_510_800_000)
    }
}

/// A service with a mount of each kind.
pub(super) struct World {
    runtime: tokio::runtime::Runtime,
    service: Service,
    pub(super) root_token: String,
    asked: u32,
}

impl World {
    pub(super) fn new() -> World {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime of one thread");
        let barrier = Arc::new(MemoryBarrier::new(1));
        let rng: Arc<dyn Rng> = Arc::new(SeededRng::dangerous_from_seed(2));
        let (plan, root_token) = barrier.with_keyring(|keyring| service::found(keyring, OneTime.now(), &*rng));
        assert!(barrier.commit(&barrier.view(), &plan), "an empty table takes the first records");
        let store = Arc::new(MemoryStore(barrier));
        let service = Service::new(store, Arc::new(OneTime), rng, Settings::default(), Arc::new(QuietNode));
        let mut world = World { runtime, service, root_token: root_token.to_string(), asked: 0 };
        for (path, kind) in [("mounts/v1", "kv-v1"), ("mounts/secret", "kv-v2"), ("auth/userpass", "userpass"), ("auth/approle", "approle")]
        {
            let done = world.ask(&format!("sys/{path}"), &json!({ "type": kind }).to_string());
            assert!(done.is_ok(), "{path}: {done:?}");
        }
        world
    }

    /// A write with the root token.
    fn ask(&mut self, path: &str, body: &str) -> Result<(), Refusal> {
        let (path, token) = (Path::parse(path).expect("a path of ours"), Some(SecretBytes::from(self.root_token.as_bytes().to_vec())));
        let body = SecretBytes::from(body.as_bytes().to_vec());
        let id = RequestId::generate();
        let request = Request {
            id,
            verb: Verb::Write,
            namespace: Path::root(),
            path,
            body,
            query: vec![],
            token,
            remote: None,
            headers: vec![],
            wrap_ttl: None,
            upload: None,
            reading: service::Reading::Configured,
        };
        self.send(request)
    }

    /// Sends a request. An internal error is a broken promise: whatever is asked, the fault is not ours.
    pub(super) fn send(&mut self, request: Request) -> Result<(), Refusal> {
        self.asked += 1;
        let outcome = self.runtime.block_on(self.service.handle(request)).outcome.map(|_| ());
        assert_ne!(outcome, Err(Refusal::Internal), "an internal error");
        outcome
    }

    /// Whether it has been asked so much that a new one should take its place.
    pub(super) fn is_worn(&self) -> bool {
        self.asked >= REQUESTS_MAX
    }
}

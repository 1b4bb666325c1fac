//! A node without a cluster, for tests: one mount of a method, its requests planned and committed as the pipeline does it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use barrier::Plan;
use barrier::testing::MemoryBarrier;
use crypto::{SecretBytes, SeededRng};
use engine::Ask;
use serde_json::Value;
use types::capability::Verb;
use types::{Clock, Path, RequestId, Timestamp};

use super::Logins;
use crate::backend::{self, Backend, Parsed};
use crate::chores::{Counters, Reaper};
use crate::denials::Denials;
use crate::mount::{Mount, MountTable};
use crate::namespace::Namespace;
use crate::outcome::{PlanError, Reply, Scope, Settings};
use crate::permit::Acls;
use crate::records::{Caches, Records};
use crate::request::{Answer, Request};
use crate::snapshots::Snapshots;
use crate::testing::{MemoryStore, QuietNode};
use crate::ttl::Bounds;

/// What a request came to, in the words of HTTP.
#[derive(Debug, PartialEq)]
pub(super) enum Got {
    Data(Value),
    Auth(Value),
    Done,
    NotFound,
    /// The status and the text.
    Error(u16, String),
}

impl Got {
    pub(super) fn data(self) -> Value {
        match self {
            Got::Data(value) => value,
            other => panic!("no data: {other:?}"),
        }
    }

    pub(super) fn auth(self) -> Value {
        match self {
            Got::Auth(value) => value,
            other => panic!("no token: {other:?}"),
        }
    }
}

pub(super) fn refused(text: &str) -> Got {
    Got::Error(400, text.into())
}

pub(super) fn denied() -> Got {
    Got::Error(403, "permission denied".into())
}

struct Stopped(Timestamp);

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        self.0
    }
}

pub(super) struct Node {
    pub(super) barrier: Arc<MemoryBarrier>,
    caches: Arc<Caches>,
    pub(super) logins: Logins,
    mount: Arc<Mount>,
    sys: Arc<Mount>,
    rng: SeededRng,
    pub(super) now: AtomicU64,
    pub(super) remote: std::sync::Mutex<Option<std::net::SocketAddr>>,
}

/// A plan that was made and is not carried out yet.
pub(super) struct Pending {
    records: Records,
    plan: Plan,
    got: Got,
}

impl Node {
    pub(super) fn new(kind: &str) -> Node {
        let rng = SeededRng::dangerous_from_seed(7);
        let barrier = Arc::new(MemoryBarrier::new(1));
        let mount = Mount::make(&format!("auth/{kind}/"), kind, "", std::collections::BTreeMap::default(), &rng);
        let table = MountTable::found(&rng).with(mount).unwrap();
        let found = |kind: &str| Arc::clone(table.iter().find(|mount| mount.kind == kind).unwrap());
        let (mount, sys) = (found(kind), found("system"));
        let mut plan = Plan::new();
        table.store(Namespace::ROOT_ID, &mut plan);
        assert!(barrier.commit(&barrier.view(), &plan));
        let remote = std::sync::Mutex::new(Some("127.0.0.1:9".parse().unwrap()));
        let logins = Logins::new(&rng);
        Node { barrier, caches: Arc::default(), logins, mount, sys, rng, now: AtomicU64::new(1_000_000_000), remote }
    }

    pub(super) fn accessor(&self) -> &str {
        &self.mount.accessor
    }

    pub(super) fn mount_root(&self) -> barrier::Name {
        self.mount.root()
    }

    pub(super) fn pass(&self, seconds: u64) {
        self.now.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    pub(super) fn from(&self, address: &str) -> &Node {
        *self.remote.lock().unwrap() = Some(std::net::SocketAddr::new(address.parse().unwrap(), 9));
        self
    }

    fn records(&self) -> Records {
        Records::new(self.barrier.view(), Arc::clone(&self.caches))
    }

    /// How many records the mount has.
    pub(super) fn records_of_mount(&self) -> usize {
        self.barrier.view().names_below(&self.mount.root(), usize::MAX).unwrap().len()
    }

    /// Does what is due.
    pub(super) async fn do_chores(&self) {
        let (store, counters) = (MemoryStore(Arc::clone(&self.barrier)), Counters::default());
        let clock = Stopped(Timestamp(self.now.load(Ordering::Relaxed)));
        let wake = tokio::sync::Notify::new();
        let (undoers, software) = (crate::lease::undoers, crate::testing::software());
        let reaper = Reaper { store: &store, caches: &self.caches, clock: &clock, counters: &counters, wake: &wake, undoers, software };
        while reaper.round().await.unwrap() > 0 {}
    }

    /// How many tokens there are.
    pub(super) fn tokens(&self) -> usize {
        self.barrier.view().children(&crate::records::of_namespace("root").join("token")).unwrap().len()
    }

    /// Asks something of the method.
    pub(super) async fn ask(&self, verb: Verb, path: &str, body: Value) -> Got {
        match self.prepare(&self.mount, verb, path, &body).await {
            Ok(pending) => self.carry_out(pending).expect("nobody else writes"),
            Err(got) => got,
        }
    }

    /// Asks something of `sys/`.
    pub(super) async fn ask_sys(&self, verb: Verb, path: &str) -> Got {
        match self.prepare(&self.sys, verb, path, &Value::Null).await {
            Ok(pending) => self.carry_out(pending).expect("nobody else writes"),
            Err(got) => got,
        }
    }

    /// Plans what is asked of the method, to be carried out later.
    pub(super) async fn begin(&self, path: &str, body: Value) -> Pending {
        self.prepare(&self.mount, Verb::Write, path, &body).await.map_err(|got| format!("{got:?}")).unwrap()
    }

    /// `None` when what the plan depends on has changed.
    pub(super) fn carry_out(&self, pending: Pending) -> Option<Got> {
        let is_done = pending.plan.is_empty() || self.barrier.commit(&pending.records.view, &pending.plan);
        is_done.then_some(pending.got)
    }

    async fn prepare(&self, mount: &Arc<Mount>, verb: Verb, path: &str, body: &Value) -> Result<Pending, Got> {
        let body = || SecretBytes::from(if body.is_null() { Vec::new() } else { body.to_string().into_bytes() });
        let request = Request {
            id: RequestId::generate(),
            verb,
            namespace: Path::root(),
            path: Path::parse(&format!("{}{path}", mount.path)).unwrap(),
            body: body(),
            query: Vec::new(),
            token: None,
            remote: *self.remote.lock().unwrap(),
            headers: Vec::new(),
            wrap_ttl: None,
            upload: None,
            reading: Default::default(),
        };
        let ask = Ask { verb, path: Path::parse(path).unwrap(), body: body(), query: Vec::new() };
        let table = Backend::Own(backend::own(&mount.kind).unwrap());
        let parsed = table.parse(ask, &self.rng).map_err(|error| Got::Error(400, error.to_string()))?;
        let Parsed::Own(operation) = parsed else { unreachable!("a table of the service's own") };
        let (settings, acls, denials, snapshots) = (Settings::default(), Acls::default(), Denials::default(), Snapshots::default());
        let scope = Scope {
            records: self.records(),
            now: Timestamp(self.now.load(Ordering::Relaxed)),
            rng: &self.rng,
            settings: &settings,
            request: &request,
            namespace: Namespace::root(),
            mount: Arc::clone(mount),
            caller: None,
            authority: None,
            acls: &acls,
            denials: &denials,
            snapshots: &snapshots,
            node: &QuietNode,
            store: &MemoryStore(Arc::clone(&self.barrier)),
            logins: &self.logins,
            refused_shares: &crate::refused_shares::RefusedShares::default(),
        };
        let outcome = operation.plan(&scope).await.map_err(|error| {
            let status = match &error {
                PlanError::Denied | PlanError::Forbidden(_) => 403,
                PlanError::NoSuch(_) => 404,
                PlanError::TooMany(_) => 429,
                PlanError::Unavailable(_) | PlanError::Commit(_) => 503,
                PlanError::View(_) | PlanError::Malformed => 500,
                _ => 400,
            };
            Got::Error(status, error.to_string())
        })?;
        let mut plan = outcome.plan;
        // EXPOSE: a test looks at answers.
        let value = |json: &SecretBytes| serde_json::from_slice(json.expose()).unwrap();
        let got = match outcome.reply {
            Reply::Answer(Answer::Data(data)) => Got::Data(value(&data)),
            Reply::Answer(Answer::Done) => Got::Done,
            Reply::Answer(Answer::NotFound) => Got::NotFound,
            Reply::Answer(_) => unreachable!("no method answers otherwise"),
            Reply::Issue(grant) => {
                let auth = crate::token::issue(&scope, &grant, &mut plan, &mut Vec::new());
                Got::Auth(value(&auth.map_err(|error| Got::Error(400, error.to_string()))?.json()))
            }
        };
        Ok(Pending { records: scope.records, plan, got })
    }

    /// What the method says of the renewal of the token with this answer.
    pub(super) fn renew(&self, auth: &Value) -> Result<Bounds, String> {
        let text = auth["client_token"].as_str().unwrap();
        let records = self.records();
        let text = SecretBytes::from(text.as_bytes().to_vec());
        let caller = crate::token::find(&records, &text, Timestamp(self.now.load(Ordering::Relaxed))).unwrap().expect("the token is good");
        let mut plan = Plan::new();
        super::renew_bounds(&records, &Settings::default(), &self.mount, &caller.token, &mut plan).map_err(|error| error.to_string())
    }
}

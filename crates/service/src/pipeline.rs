//! The pipeline: the one way of a request, whichever listener it came by.
//!
//! Token → policy → permit → audit → operation → plan → commit → audit → answer. Nothing is dispatched without a [`Permit`],
//! and nothing is told or done without its audit record.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use barrier::{AccessError, Barrier, CommitError, Generation, Name, View, ViewError};
use crypto::{Rng, SecretBytes, rng::generate_bytes};
use engine::{Ask, Engine, Operation, Outcome, PlanError, Reply};
use types::capability::Verb;
use types::{Clock, Path, Timestamp};

use crate::audit::{Answered, Asked, AuditFailures, AuditTable, Auth, Broker, Event, GrantingPolicy, MountShown, PolicyResults};
use crate::mount::{Mount, MountTable, Route};
use crate::policy::{Acl, Permit};
use crate::request::{Answer, Refusal, Request, Response};
use crate::sys::{self, Act, Check, Prepared};
use crate::token::{self, Caller};

/// How often a plan is made again when others have written the same records meanwhile.
pub const ATTEMPTS_MAX: u32 = 64;
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// Writers of one path take turns on a node; paths share this many turns.
const TURNS: usize = 1024;

/// What the service knows from records, at one generation of them.
struct Tables {
    generations: (u64, u64),
    mounts: Arc<MountTable>,
    audit: Arc<Broker>,
}

/// Serves requests while the barrier is open. Built by unseal and dropped by seal.
pub struct Service {
    barrier: Barrier,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    engines: Vec<Box<dyn Engine>>,
    mounts: Generation,
    audit: Generation,
    tables: ArcSwap<Tables>,
    turns: Vec<tokio::sync::Mutex<()>>,
    /// Drawn, so that nobody outside can tell which paths share a turn.
    turn_salt: u64,
}

/// A request's operation, found but not yet allowed.
enum Target {
    Operation { check: Option<Check>, operation: Box<dyn Operation> },
    Act(Act),
}

impl Service {
    /// For an open barrier; `None` when it is sealed (again).
    pub fn new(barrier: Barrier, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Option<Service> {
        let mounts = barrier.generation(&MountTable::name())?;
        let audit = barrier.generation(&AuditTable::name())?;
        let nothing_loaded =
            Tables { generations: (u64::MAX, u64::MAX), mounts: Arc::new(MountTable::empty()), audit: Arc::new(Broker::default()) };
        let turn_salt = u64::from_le_bytes(generate_bytes(&*rng));
        Some(Service {
            barrier,
            clock,
            rng,
            engines: vec![Box::new(engine::kv::Kv)],
            mounts,
            audit,
            tables: ArcSwap::from_pointee(nothing_loaded),
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::new(())).collect(),
            turn_salt,
        })
    }

    /// Handles a request. When the call is dropped half-way, a write may still take effect.
    pub async fn handle(&self, request: Request) -> Response {
        let mut warnings = Vec::new();
        let outcome = self.try_handle(&request, &mut warnings).await;
        Response { id: request.id, outcome, warnings }
    }

    /// Whether there is such a token now. For limits that depend on it; what it may do is for [`Service::handle`] to say.
    pub async fn knows(&self, token: &SecretBytes) -> bool {
        match self.fresh().await {
            Ok((view, _)) => matches!(self.find(&view, token), Ok(Some(_))),
            Err(_) => false,
        }
    }

    async fn try_handle(&self, request: &Request, warnings: &mut Vec<String>) -> Result<Answer, Refusal> {
        let (view, tables) = self.fresh().await?;
        let caller = self.caller(&view, request)?;
        let route = tables.mounts.route(&request.path);
        let permitted = match &caller {
            Some(caller) => self.permit(request, caller, route.as_ref(), &view),
            None => Err(Refusal::Denied),
        };

        let policies = caller.as_ref().map(|caller| caller.policies()).unwrap_or_default();
        let granting: Vec<_> = policies.iter().map(|name| GrantingPolicy { name, namespace_id: "root" }).collect();
        let results = PolicyResults { allowed: permitted.is_ok(), granting_policies: if permitted.is_ok() { &granting } else { &[] } };
        let event = Event {
            time: self.clock.now(),
            auth: caller.as_ref().map(|caller| shown_caller(caller, results)).unwrap_or_default(),
            request: shown_request(request, caller.as_deref(), permitted.as_ref().ok().map(|(permit, _)| permit), route.as_ref()),
            response: None,
            error: permitted.as_ref().is_err().then_some("permission denied"),
        };
        tables.audit.record(&event).await.map_err(|_| Refusal::Audit)?;

        let outcome = match permitted {
            Err(ref refusal) => Err(refusal.clone()),
            Ok((ref permit, ref target)) => self.dispatch(request, permit, target, route.as_ref(), view).await,
        };
        let (outcome, more) = match outcome {
            Ok((answer, more)) => (Ok(answer), more),
            Err(refusal) => (Err(refusal), Vec::new()),
        };
        *warnings = more;
        let error = outcome.as_ref().err().map(ToString::to_string);
        let data = match &outcome {
            Ok(Answer::Data(data) | Answer::Gone(data)) => Some(data),
            Ok(Answer::Done | Answer::NotFound) | Err(_) => None,
        };
        let answered = Answered { data, warnings, ..Answered::default() };
        let event = Event { time: self.clock.now(), response: Some(answered), error: error.as_deref(), ..event };
        // The devices that have the request's record get the answer's too, also when this very request disabled one.
        tables.audit.record(&event).await.map_err(|_| Refusal::Audit)?;
        outcome
    }

    /// Has every audit device's file closed and opened anew, so that a renamed one is let go: for `SIGHUP`.
    pub fn reopen_audit(&self) {
        self.tables.load().audit.reopen();
    }

    /// What could not be recorded since this node was opened: for metrics.
    pub fn audit_failures(&self) -> AuditFailures {
        self.tables.load().audit.failures()
    }

    /// A view of now, and the tables at that view or newer.
    async fn fresh(&self) -> Result<(View, Arc<Tables>), Refusal> {
        // Read before the view is taken: what the tables are loaded from is then at least as new as they are said to be.
        let generations = (self.mounts.current(), self.audit.current());
        let view = self.barrier.view().await.map_err(|error| match error {
            AccessError::Sealed => Refusal::Sealed,
            AccessError::Read(raft::ReadError::NoLeader) => Refusal::NoLeader,
            AccessError::Read(error) => internal(&error),
        })?;
        let known = self.tables.load_full();
        if known.generations == generations && (self.mounts.current(), self.audit.current()) == generations {
            return Ok((view, known));
        }
        let mounts = Arc::new(MountTable::load(&view).map_err(|error| refusal(&error))?);
        let audit = AuditTable::load(&view).map_err(|error| refusal(&error))?;
        let audit = known.audit.renew(&audit, &self.barrier).ok_or(Refusal::Sealed)?;
        let renewed = Arc::new(Tables { generations, mounts, audit: Arc::new(audit) });
        self.tables.store(Arc::clone(&renewed));
        Ok((view, renewed))
    }

    fn caller(&self, view: &View, request: &Request) -> Result<Option<Arc<Caller>>, Refusal> {
        match &request.token {
            Some(text) => self.find(view, text),
            None => Ok(None),
        }
    }

    fn find(&self, view: &View, text: &SecretBytes) -> Result<Option<Arc<Caller>>, Refusal> {
        // EXPOSE: a token is looked up by its keyed hash.
        let tag = view.token_tag(text.expose()).ok_or(Refusal::Sealed)?;
        let copy = SecretBytes::with_len(text.len(), |buffer| buffer.copy_from_slice(text.expose()));
        let caller = token::lookup(view, tag, copy).map_err(|error| refusal(&error))?;
        Ok(caller.map(Arc::new))
    }

    /// Finds out what is asked, and whether the caller may. A caller who may not learns nothing else.
    fn permit(&self, request: &Request, caller: &Arc<Caller>, route: Option<&Route>, view: &View) -> Result<(Permit, Target), Refusal> {
        let acl = Acl::of(Arc::clone(caller));
        let target = match route {
            Some(route) => self.target(request, caller, route),
            None => Err(Refusal::NoRoute(request.path.as_str().to_owned())),
        };
        let existing = match (&target, route, request.verb) {
            (Ok(Target::Operation { operation, .. }), Some(route), Verb::Write) => operation.is_create(&view.below(&route.mount.root())),
            _ => Ok(None),
        };
        let is_create = matches!(existing, Ok(Some(true)));
        let permit = acl.check(request.verb, is_create, &request.path).map_err(|_| Refusal::Denied)?;
        existing.map_err(|error| refusal(&error))?;
        Ok((permit, target?))
    }

    fn target(&self, request: &Request, caller: &Arc<Caller>, route: &Route) -> Result<Target, Refusal> {
        // EXPOSE: the body goes to the engine that it is for.
        let body = SecretBytes::with_len(request.body.len(), |buffer| buffer.copy_from_slice(request.body.expose()));
        let ask = Ask { verb: request.verb, path: route.rest.clone(), body, query: request.query.clone() };
        let plain = |operation| Target::Operation { check: None, operation };
        match route.mount.kind.as_str() {
            "system" => Ok(match sys::parse(ask, &*self.rng)? {
                Prepared::Operation(operation) => plain(operation),
                Prepared::Checked { check, operation } => Target::Operation { check: Some(check), operation },
                Prepared::Act(act) => Target::Act(act),
            }),
            "token" => Ok(plain(token::parse(&ask, caller)?)),
            kind => match self.engines.iter().find(|engine| engine.kind() == kind) {
                Some(engine) => Ok(plain(engine.parse(ask)?)),
                None => Err(Refusal::NoRoute(request.path.as_str().to_owned())),
            },
        }
    }

    /// Does what the permit allows.
    async fn dispatch(
        &self,
        request: &Request,
        permit: &Permit,
        target: &Target,
        route: Option<&Route>,
        view: View,
    ) -> Result<(Answer, Vec<String>), Refusal> {
        let outcome = match target {
            Target::Act(act) => sys::act(act, &self.barrier, self.clock.now(), permit).await.map_err(|error| refusal(&error))?,
            Target::Operation { check, operation } => {
                if let Some(check) = check {
                    check().map_err(Refusal::Refused)?;
                }
                let mount = &route.expect("an operation was found by its route").mount;
                self.carry_out(request, &**operation, mount, view).await?
            }
        };
        let answer = match outcome.reply {
            Reply::Data(data) => Answer::Data(data),
            Reply::Gone(data) => Answer::Gone(data),
            Reply::Done => Answer::Done,
            Reply::NotFound => Answer::NotFound,
            Reply::List(names) if names.is_empty() => Answer::NotFound,
            Reply::List(names) => Answer::Data(engine::json(&serde_json::json!({ "keys": names }))),
        };
        Ok((answer, outcome.warnings))
    }

    /// Plans on `view`; when something to write was read meanwhile by others, plans again on a fresh one.
    async fn carry_out(&self, request: &Request, operation: &dyn Operation, mount: &Mount, view: View) -> Result<Outcome, Refusal> {
        let root = mount.root();
        let first = self.plan(operation, &root, &view)?;
        if first.plan.is_empty() {
            return Ok(first);
        }
        let turn = match self.turn(&request.path).try_lock() {
            // Nobody else is writing here: what was planned may well hold.
            Ok(turn) => {
                match self.commit(&view, &root, &first).await {
                    Ok(()) => return Ok(first),
                    Err(Refusal::Contended) => {}
                    Err(refusal) => return Err(refusal),
                }
                turn
            }
            Err(_) => self.turn(&request.path).lock().await,
        };
        for attempt in 1..ATTEMPTS_MAX {
            let (view, _) = self.fresh().await?;
            let outcome = self.plan(operation, &root, &view)?;
            match self.commit(&view, &root, &outcome).await {
                Ok(()) => return Ok(outcome),
                Err(Refusal::Contended) => self.pause(attempt).await,
                Err(refusal) => return Err(refusal),
            }
        }
        drop(turn);
        Err(Refusal::Contended)
    }

    fn turn(&self, path: &Path) -> &tokio::sync::Mutex<()> {
        let mut hasher = DefaultHasher::new();
        (self.turn_salt, path.as_str()).hash(&mut hasher);
        &self.turns[hasher.finish() as usize % TURNS]
    }

    fn plan(&self, operation: &dyn Operation, root: &Name, view: &View) -> Result<Outcome, Refusal> {
        operation.plan(&view.below(root), self.clock.now()).map_err(|error| refusal(&error))
    }

    async fn commit(&self, view: &View, root: &Name, outcome: &Outcome) -> Result<(), Refusal> {
        if outcome.plan.is_empty() {
            return Ok(());
        }
        let committed = self.barrier.commit(&view.below(root), &outcome.plan).await;
        committed.map(drop).map_err(|error| match error {
            CommitError::Sealed => Refusal::Sealed,
            CommitError::Conflict => Refusal::Contended,
            CommitError::TooLarge(_) => Refusal::TooLarge,
            CommitError::NoLeader => Refusal::NoLeader,
            CommitError::DiskFull => Refusal::DiskFull,
            CommitError::Indeterminate(why) => {
                tracing::warn!(why, "the fate of a write is unknown");
                Refusal::Indeterminate
            }
            CommitError::Stopped => internal(&error),
        })
    }

    /// Longer after each attempt, and never the same for two writers.
    async fn pause(&self, attempt: u32) {
        let [jitter] = generate_bytes::<1>(&*self.rng);
        let longest = PAUSE_MAX.min(Duration::from_micros(250) * attempt);
        tokio::time::sleep(longest.mul_f64(f64::from(jitter) / 255.0)).await;
    }
}

fn shown_caller<'a>(caller: &'a Caller, results: PolicyResults<'a>) -> Auth<'a> {
    Auth {
        // EXPOSE: its HMAC is shown.
        client_token: Some(caller.text.expose()),
        accessor: &caller.token.accessor,
        display_name: &caller.token.display_name,
        policies: caller.policies(),
        token_policies: caller.policies(),
        policy_results: Some(results),
        metadata: Some(&caller.token.meta),
        token_type: "service",
        token_ttl: Duration::from_millis(caller.token.ttl_ms),
        token_issue_time: Some(Timestamp(caller.token.created_ms)),
        ..Auth::default()
    }
}

fn shown_request<'a>(request: &'a Request, caller: Option<&'a Caller>, permit: Option<&Permit>, route: Option<&'a Route>) -> Asked<'a> {
    let operation = match (permit, request.verb) {
        (Some(permit), _) => permit.capability().as_str(),
        (None, Verb::Write) => "update",
        (None, verb) => verb.as_str(),
    };
    let mount = route.map(|route| MountShown {
        path: &route.mount.path,
        kind: &route.mount.kind,
        accessor: &route.mount.accessor,
        is_auth: route.mount.path.starts_with("auth/"),
        plain_request_keys: &[],
        plain_response_keys: &[],
    });
    Asked {
        mount,
        // EXPOSE: its HMAC is shown.
        client_token: request.token.as_ref().map(SecretBytes::expose),
        client_token_accessor: caller.map(|caller| caller.token.accessor.as_str()).unwrap_or_default(),
        // What an unknown caller sends is not worth the work; that it came is recorded all the same.
        data: caller.map(|_| &request.body),
        query: &request.query,
        remote: request.remote,
        ..Asked::new(request.id, operation, request.path.as_str())
    }
}

fn internal(error: &dyn std::error::Error) -> Refusal {
    let chain: Vec<String> = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    tracing::error!(error = chain.join(": "), "a request failed");
    Refusal::Internal
}

fn refusal(error: &PlanError) -> Refusal {
    match error {
        PlanError::Refused(text) => Refusal::Refused(text.clone()),
        PlanError::Denied => Refusal::Denied,
        PlanError::View(ViewError::Sealed) => Refusal::Sealed,
        PlanError::View(ViewError::TooMany) => Refusal::Refused(ViewError::TooMany.to_string()),
        PlanError::View(_) | PlanError::Malformed => internal(error),
    }
}

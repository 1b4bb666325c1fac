//! The pipeline: the one way of a request, whichever listener it came by.
//!
//! Token → policy → permit → audit → operation → plan → commit → audit → answer. Nothing is dispatched without a [`Permit`],
//! and nothing is told or done without its audit record.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use barrier::{AccessError, Barrier, CommitError, Name, Plan, ViewError};
use crypto::{Rng, SecretBytes, rng::generate_bytes};
use engine::route::Access;
use engine::{Ask, Engine};
use serde_json::Value;
use types::capability::Verb;
use types::{Clock, Path};

use crate::audit::{AuditTable, Broker, Event, Stage, parse_body};
use crate::backend::{self, Backend, Parsed};
use crate::mount::{Mount, Route};
use crate::namespace::Namespace;
use crate::outcome::{Outcome, PlanError, Reply, Scope, Settings};
use crate::policy::{Acl, Permit};
use crate::records::{Caches, Records};
use crate::request::{Answer, Refusal, Request, Response};
use crate::token::{self, Caller};

/// How often a plan is made again when others have written the same records meanwhile.
pub const ATTEMPTS_MAX: u32 = 64;
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// Writers of one path take turns on a node; paths share this many turns.
const TURNS: usize = 1024;

/// The devices that record, and the table that they were opened from.
#[derive(Default)]
struct Recording {
    table: Option<Arc<AuditTable>>,
    broker: Arc<Broker>,
}

/// Serves requests while the barrier is open. Built by unseal and dropped by seal.
pub struct Service {
    barrier: Barrier,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    settings: Settings,
    engines: Vec<Box<dyn Engine>>,
    caches: Arc<Caches>,
    recording: ArcSwap<Recording>,
    turns: Vec<tokio::sync::Mutex<()>>,
    /// Drawn, so that nobody outside can tell which paths share a turn.
    turn_salt: u64,
}

/// Where a path leads.
struct Place {
    namespace: Arc<Namespace>,
    /// `None`: nothing is mounted there.
    route: Option<Route>,
}

impl Service {
    /// For an open barrier. Once that is sealed (again), every request is refused.
    pub fn new(barrier: Barrier, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>, settings: Settings) -> Service {
        let turn_salt = u64::from_le_bytes(generate_bytes(&*rng));
        Service {
            barrier,
            clock,
            rng,
            settings,
            engines: vec![Box::new(engine::kv::Kv)],
            caches: Arc::default(),
            recording: ArcSwap::default(),
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::new(())).collect(),
            turn_salt,
        }
    }

    /// Handles a request. When the call is dropped half-way, a write may still take effect.
    pub async fn handle(&self, request: Request) -> Response {
        let mut warnings = Vec::new();
        let id = request.id;
        let outcome = self.try_handle(request, &mut warnings).await;
        Response { id, outcome, warnings }
    }

    /// Whether there is such a token now. For limits that depend on it; what it may do is for [`Service::handle`] to say.
    pub async fn knows(&self, token: &SecretBytes) -> bool {
        match self.fresh().await {
            Ok(records) => matches!(token::find(&records, token, self.clock.now()), Ok(Some(_))),
            Err(_) => false,
        }
    }

    async fn try_handle(&self, mut request: Request, warnings: &mut Vec<String>) -> Result<Answer, Refusal> {
        if request.wrap_ttl.is_some() {
            return Err(Refusal::Refused("response wrapping is not available yet (leave out X-Vault-Wrap-TTL)".into()));
        }
        let records = self.fresh().await?;
        let audit = self.recording(&records)?;
        let place = self.place(&records, &mut request)?;
        let request = &request;
        let caller = match &request.token {
            Some(text) => token::find(&records, text, self.clock.now()).map_err(|error| refusal(&error))?.map(Arc::new),
            None => None,
        };
        let permitted = self.permit(request, caller.as_ref(), &place, &records);

        // What an unknown caller sends is not worth a parser's memory, unless it is meant for strangers; that it came is recorded.
        let is_shown = (caller.is_some() || permitted.is_ok()) && !audit.is_empty();
        let body = if is_shown { parse_body(request.body.expose()) } else { Value::Null };
        let mount = place.route.as_ref().map(|route| (route.mount.path.as_str(), route.mount.kind.as_str()));
        let permit = permitted.as_ref().ok().map(|(permit, _)| permit);
        let event = |stage| Event { time: self.clock.now(), request, body: &body, caller: caller.as_deref(), permit, mount, stage };
        let denied = permitted.is_err();
        audit.record(&event(Stage::Request { denied })).await.map_err(|_| Refusal::Audit)?;

        let outcome = match permitted {
            Err(ref refusal) => Err(refusal.clone()),
            Ok((ref permit, ref parsed)) => {
                let work = Work { request, caller: caller.as_ref(), place: &place, permit, parsed };
                self.dispatch(&work, records, warnings).await
            }
        };
        let response = Response { id: request.id, outcome, warnings: Vec::new() };
        // The devices that have the request's record get the answer's too, also when this very request disabled one.
        audit.record(&event(Stage::Response(&response))).await.map_err(|_| Refusal::Audit)?;
        response.outcome
    }

    /// The records of now.
    async fn fresh(&self) -> Result<Records, Refusal> {
        let view = self.barrier.view().await.map_err(|error| match error {
            AccessError::Sealed => Refusal::Sealed,
            AccessError::Read(raft::ReadError::NoLeader) => Refusal::NoLeader,
            AccessError::Read(error) => internal(&error),
        })?;
        Ok(Records::new(view, Arc::clone(&self.caches)))
    }

    /// The devices that are configured at these records, open.
    fn recording(&self, records: &Records) -> Result<Arc<Broker>, Refusal> {
        let table = records.audit().map_err(|error| refusal(&error))?;
        let known = self.recording.load();
        let is_known = match (&table, &known.table) {
            (Some(table), Some(known)) => Arc::ptr_eq(table, known),
            (None, None) => true,
            _ => false,
        };
        if is_known {
            return Ok(Arc::clone(&known.broker));
        }
        let broker = match &table {
            Some(table) => Arc::new(known.broker.renew(table, &self.barrier).ok_or(Refusal::Sealed)?),
            None => Arc::default(),
        };
        self.recording.store(Arc::new(Recording { table, broker: Arc::clone(&broker) }));
        Ok(broker)
    }

    /// Finds the namespace and the mount. Afterwards the request's path is that within the namespace.
    fn place(&self, records: &Records, request: &mut Request) -> Result<Place, Refusal> {
        let find = |path: &Path| records.namespace(path).map_err(|error| refusal(&error));
        let usable = |found: Option<Arc<Namespace>>| found.filter(|namespace| !namespace.tainted);
        let no_route = |request: &Request| Refusal::NoRoute(request.path.as_str().to_owned());
        let mut namespace = usable(find(&request.namespace)?).ok_or_else(|| no_route(request))?;
        loop {
            let route = records.mounts(&namespace).map_err(|error| refusal(&error))?.route(&request.path);
            let inner = match (&route, request.path.segments().next()) {
                // A namespace and a mount never share a name, so most paths need no second look.
                (Some(_), _) | (None, None) => None,
                (None, Some(first)) => {
                    let path = Path::parse(first).and_then(|first| namespace.path.join(&first)).map_err(|_| no_route(request))?;
                    usable(find(&path)?)
                }
            };
            match inner {
                None => return Ok(Place { namespace, route }),
                Some(inner) => {
                    let (_, rest) = request.path.as_str().split_once('/').unwrap_or_default();
                    request.path = Path::parse(rest).map_err(|_| no_route(request))?;
                    request.namespace = inner.path.clone();
                    namespace = inner;
                }
            }
        }
    }

    /// Finds out what is asked, and whether the caller may. A caller who may not learns nothing else.
    fn permit(
        &self,
        request: &Request,
        caller: Option<&Arc<Caller>>,
        place: &Place,
        records: &Records,
    ) -> Result<(Permit, Parsed), Refusal> {
        let backend = place.route.as_ref().and_then(|route| self.backend(&route.mount));
        if let (Some(route), Some(backend)) = (&place.route, &backend)
            && backend.access(request.verb, &route.rest) == Access::Anyone
        {
            let parsed = backend.parse(ask(request, route), &*self.rng)?;
            return Ok((Permit::open(request.verb, &request.path), parsed));
        }
        let caller = caller.filter(|caller| caller.namespace.contains(&place.namespace)).ok_or(Refusal::Denied)?;
        let acl = Acl::of(Arc::clone(caller));
        let parsed = match (&place.route, &backend) {
            (Some(route), Some(backend)) => backend.parse(ask(request, route), &*self.rng).map_err(Refusal::Ask),
            _ => Err(Refusal::NoRoute(request.path.as_str().to_owned())),
        };
        let existing = match (&parsed, &place.route, request.verb) {
            (Ok(Parsed::Engine(operation)), Some(route), Verb::Write) => {
                operation.is_create(&records.view.below(&route.mount.root())).map_err(PlanError::from)
            }
            (Ok(Parsed::Own(operation)), Some(route), Verb::Write) => {
                operation.is_create(&self.scope(request, Some(caller), &place.namespace, &route.mount, records.clone()))
            }
            _ => Ok(None),
        };
        let is_create = matches!(existing, Ok(Some(true)));
        let permit = acl.check(request.verb, is_create, &request.path).map_err(|_| Refusal::Denied)?;
        existing.map_err(|error| refusal(&error))?;
        Ok((permit, parsed?))
    }

    fn backend(&self, mount: &Mount) -> Option<Backend<'_>> {
        if let Some(routes) = backend::own(&mount.kind) {
            return Some(Backend::Own(routes));
        }
        self.engines.iter().find(|engine| engine.kind() == mount.kind).map(|engine| Backend::Engine(&**engine))
    }

    fn scope<'a>(
        &'a self,
        request: &'a Request,
        caller: Option<&Arc<Caller>>,
        namespace: &Arc<Namespace>,
        mount: &Arc<Mount>,
        records: Records,
    ) -> Scope<'a> {
        Scope {
            records,
            now: self.clock.now(),
            rng: &*self.rng,
            settings: &self.settings,
            request,
            namespace: Arc::clone(namespace),
            mount: Arc::clone(mount),
            caller: caller.cloned(),
            cluster: &self.barrier,
        }
    }

    /// Does what the permit allows: plans on `records`; when something that the plan depends on was written meanwhile by others, plans
    /// again on fresh ones.
    async fn dispatch(&self, work: &Work<'_>, records: Records, warnings: &mut Vec<String>) -> Result<Answer, Refusal> {
        let first = self.plan(work, work.caller, records.clone()).await?;
        if first.plan.is_empty() {
            *warnings = first.warnings;
            return Ok(first.answer);
        }
        let turn = match self.turn(&work.request.path).try_lock() {
            // Nobody else is writing here: what was planned may well hold.
            Ok(turn) => {
                match self.commit(&records, &first.plan).await {
                    Ok(()) => {
                        *warnings = first.warnings;
                        return Ok(first.answer);
                    }
                    Err(Refusal::Contended) => {}
                    Err(refusal) => return Err(refusal),
                }
                turn
            }
            Err(_) => self.turn(&work.request.path).lock().await,
        };
        for attempt in 1..ATTEMPTS_MAX {
            let records = self.fresh().await?;
            let caller = self.still_may(work, &records)?;
            let planned = self.plan(work, caller.as_ref(), records.clone()).await?;
            match self.commit(&records, &planned.plan).await {
                Ok(()) => {
                    *warnings = planned.warnings;
                    return Ok(planned.answer);
                }
                Err(Refusal::Contended) => self.pause(attempt).await,
                Err(refusal) => return Err(refusal),
            }
        }
        drop(turn);
        Err(Refusal::Contended)
    }

    /// Before a plan is made again: the mount must still be there, and the caller's token be good. Answers the caller as these records
    /// have it: a renewal may have changed its grounds without making it less good.
    fn still_may(&self, work: &Work<'_>, records: &Records) -> Result<Option<Arc<Caller>>, Refusal> {
        let mounts = records.mounts(&work.place.namespace).map_err(|error| refusal(&error))?;
        if !mounts.has_accessor(&work.mount().accessor) {
            return Err(Refusal::NoRoute(work.request.path.as_str().to_owned()));
        }
        let Some(caller) = work.caller else { return Ok(None) };
        let good = token::find_reference(records, &caller.reference(), self.clock.now()).map_err(|error| refusal(&error))?;
        let good = good.ok_or(Refusal::Denied)?;
        // EXPOSE: a copy, wiped like the original.
        let text = SecretBytes::with_len(caller.text.len(), |buffer| buffer.copy_from_slice(caller.text.expose()));
        let renewed = Caller { text, tag: caller.tag, namespace: good.namespace, token: good.token, grounds: good.grounds };
        Ok(Some(Arc::new(renewed)))
    }

    /// What the operation comes to on these records, with all that it depends on.
    async fn plan(&self, work: &Work<'_>, caller: Option<&Arc<Caller>>, records: Records) -> Result<Planned, Refusal> {
        let mount = work.mount();
        let scope = self.scope(work.request, caller, &work.place.namespace, mount, records);
        let outcome = match work.parsed {
            Parsed::Engine(operation) => {
                let root = mount.root();
                let planned = operation.plan(&scope.records.view.below(&root), scope.now);
                planned.map(|outcome| from_engine(outcome, &root)).map_err(PlanError::from)
            }
            Parsed::Own(operation) => operation.plan(&scope).await,
        };
        let Outcome { mut plan, reply, mut warnings } = outcome.map_err(|error| refusal(&error))?;
        let answer = match reply {
            Reply::Answer(answer) => answer,
            Reply::Issue(grant) => {
                let auth = token::issue(&scope, &grant, &mut plan, &mut warnings).map_err(|error| refusal(&error))?;
                Answer::Auth(Box::new(auth))
            }
        };
        if !plan.is_empty() {
            if let Some(caller) = &scope.caller {
                caller.expect(&mut plan);
            }
            let mounts = scope.records.mounts_revision(&scope.namespace).map_err(|error| refusal(&error))?;
            plan.expect(crate::mount::MountTable::name(&scope.namespace.id), mounts);
        }
        Ok(Planned { plan, answer, warnings })
    }

    fn turn(&self, path: &Path) -> &tokio::sync::Mutex<()> {
        let mut hasher = DefaultHasher::new();
        (self.turn_salt, path.as_str()).hash(&mut hasher);
        &self.turns[hasher.finish() as usize % TURNS]
    }

    async fn commit(&self, records: &Records, plan: &Plan) -> Result<(), Refusal> {
        if plan.is_empty() {
            return Ok(());
        }
        let committed = self.barrier.commit(&records.view, plan).await;
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
            CommitError::Stopped | CommitError::Table(_) => internal(&error),
        })
    }

    /// Longer after each attempt, and never the same for two writers.
    async fn pause(&self, attempt: u32) {
        let [jitter] = generate_bytes::<1>(&*self.rng);
        let longest = PAUSE_MAX.min(Duration::from_micros(250) * attempt);
        tokio::time::sleep(longest.mul_f64(f64::from(jitter) / 255.0)).await;
    }
}

/// A permitted request.
struct Work<'a> {
    request: &'a Request,
    caller: Option<&'a Arc<Caller>>,
    place: &'a Place,
    /// That it may be done.
    permit: &'a Permit,
    parsed: &'a Parsed,
}

impl Work<'_> {
    fn mount(&self) -> &Arc<Mount> {
        // The permit was made for this very path.
        debug_assert!(*self.permit.path() == self.request.path, "a permit holds for its path");
        &self.place.route.as_ref().expect("an operation was found by its route").mount
    }
}

/// What to commit, and what to answer then.
struct Planned {
    plan: Plan,
    answer: Answer,
    warnings: Vec<String>,
}

/// The ask of a request, below its mount.
fn ask(request: &Request, route: &Route) -> Ask {
    // EXPOSE: the body goes to the backend that it is for.
    let body = SecretBytes::with_len(request.body.len(), |buffer| buffer.copy_from_slice(request.body.expose()));
    Ask { verb: request.verb, path: route.rest.clone(), body, query: request.query.clone() }
}

/// An engine's outcome, seen from the root.
pub(crate) fn from_engine(outcome: engine::Outcome, root: &Name) -> Outcome {
    let answer = match outcome.reply {
        engine::Reply::Data(data) => Answer::Data(data),
        engine::Reply::Gone(data) => Answer::Gone(data),
        engine::Reply::Done => Answer::Done,
        engine::Reply::NotFound => Answer::NotFound,
        engine::Reply::List(names) if names.is_empty() => Answer::NotFound,
        engine::Reply::List(names) => Answer::Data(engine::json(&serde_json::json!({ "keys": names }))),
    };
    Outcome { plan: outcome.plan.below(root), reply: Reply::Answer(answer), warnings: outcome.warnings }
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
        PlanError::Forbidden(text) => Refusal::Forbidden(text.clone()),
        PlanError::NoSuch(text) => Refusal::NoSuch(text.clone()),
        PlanError::TooMany(text) => Refusal::TooMany(text.clone()),
        PlanError::View(ViewError::Sealed) => Refusal::Sealed,
        PlanError::View(ViewError::TooMany) => Refusal::Refused(ViewError::TooMany.to_string()),
        PlanError::View(_) | PlanError::Malformed => internal(error),
    }
}

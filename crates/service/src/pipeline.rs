//! The pipeline: the one way of a request, whichever listener it came by.
//!
//! Token → policy → permit → audit → operation → plan → commit → audit → answer. Nothing is dispatched without a [`Permit`],
//! and nothing is told or done without its audit record.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use barrier::{AccessError, CommitError, Journal, Name, Plan, ViewError};
use crypto::{Rng, SecretBytes, rng::generate_bytes};
use engine::route::Access;
use engine::{Ask, Json, LeaseDuration};
use serde_json::Value;
use serde_json::value::RawValue;
use types::capability::Verb;
use types::{Clock, NodeId, Path, Revision};

use crate::audit::{AuditFailures, AuditTable, Broker, Event, PolicyResults};
use crate::audited;
use crate::auth::Logins;
use crate::backend::{self, Backend, Parsed};
use crate::chores::{ChoreCounts, Reaper};
use crate::denials::{Denials, Denied};
use crate::journal::Joiner;
use crate::mount::{Mount, Route};
use crate::namespace::Namespace;
use crate::node::{Counted, Node, Verdict};
use crate::outcome::{Outcome, Part, PlanError, Reply, Scope, Settings};
use crate::permit::{Acls, Authority, Permit};
use crate::policy::decision::{Denial, Question};
use crate::policy::filter::ListFilter;
use crate::records::{Caches, Records};
use crate::refused_shares::RefusedShares;
use crate::request::{Answer, Lease, Reading, Refusal, Request, Response};
use crate::snapshots::Snapshots;
use crate::snapshots::schedule::SnapshotFigures;
use crate::store::Store;
use crate::sys::{Cors, UiHeaders, keys};
use crate::token::{self, Caller};
use crate::{autopilot, body, chores, cidr, due, help, lease, records, sys, wrapping};

/// How often a plan is made again when others have written the same records meanwhile.
pub const ATTEMPTS_MAX: u32 = 64;
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// What is answered of a mount that is being upgraded; clients know it by its beginning.
const UPGRADING: &str = "Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief period and will \
                         resume service shortly.";
/// Names in one warning of what was ignored, at most.
const IGNORED_NAMES_MAX: usize = 32;
/// Of each such name so much is shown.
const IGNORED_NAME_CHARS_MAX: usize = 64;
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
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    settings: Settings,
    node: Arc<dyn Node>,
    caches: Arc<Caches>,
    acls: Acls,
    denials: Denials,
    chores: chores::Counters,
    /// Told when something was written that is due at once.
    wake: tokio::sync::Notify,
    journal_joined: AtomicU64,
    logins: Logins,
    refused_shares: RefusedShares,
    snapshots: Snapshots,
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
    /// The namespace that the caller names is not there: this is the one that it would lie in.
    is_lost: bool,
}

impl Service {
    /// Over an open store. Once that is sealed (again), every request is refused.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>, settings: Settings, node: Arc<dyn Node>) -> Service {
        let turn_salt = u64::from_le_bytes(generate_bytes(&*rng));
        let logins = Logins::new(&*rng);
        Service {
            store,
            clock,
            rng,
            settings,
            node,
            caches: Arc::default(),
            acls: Acls::default(),
            denials: Denials::default(),
            chores: chores::Counters::default(),
            wake: tokio::sync::Notify::new(),
            journal_joined: AtomicU64::new(0),
            logins,
            refused_shares: RefusedShares::default(),
            snapshots: Snapshots::default(),
            recording: ArcSwap::default(),
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::new(())).collect(),
            turn_salt,
        }
    }

    /// Handles a request. When the call is dropped half-way, a write may still take effect.
    pub async fn handle(&self, request: Request) -> Response {
        let mut warnings = Vec::new();
        let (id, verb) = (request.id, request.verb);
        let (mut mount, mut age) = (None, None);
        let outcome = self.try_handle(request, &mut warnings, &mut mount, &mut age).await;
        let mount_type = mount.as_ref().map_or("none", |mount| mount.kind.as_str());
        self.node.count(Counted { mount_type, verb, result: Verdict::of(outcome.as_ref().err()) });
        Response { id, outcome, warnings, age }
    }

    /// Whether there is such a token now. For limits that depend on it; what it may do is for [`Service::handle`] to say.
    pub async fn knows(&self, token: &SecretBytes) -> bool {
        match self.fresh().await {
            Ok(records) => matches!(token::find(&records, token, self.clock.now()), Ok(Some(_))),
            Err(_) => false,
        }
    }

    /// Which web pages' scripts may call; `None`: none, or nobody can tell now.
    pub async fn cors(&self) -> Option<Cors> {
        let records = self.fresh().await.ok()?;
        // EXPOSE: the settings are no secret.
        records.view.read(&Cors::name()).ok()?.value.and_then(|value| Cors::decode(value.expose()))
    }

    /// Headers of the answers below `/ui/`; `None`: none, or nobody can tell now.
    pub async fn ui_headers(&self) -> Option<UiHeaders> {
        let records = self.fresh().await.ok()?;
        // EXPOSE: the settings are no secret.
        records.view.read(&UiHeaders::name()).ok()?.value.and_then(|value| UiHeaders::decode(value.expose()))
    }

    /// `mount`: told where the request goes, once that is known. `age`: of a bounded-stale read, how old the state can be.
    async fn try_handle(
        &self,
        mut request: Request,
        warnings: &mut Vec<String>,
        mount: &mut Option<Arc<Mount>>,
        age: &mut Option<Duration>,
    ) -> Result<Answer, Refusal> {
        let changes_nothing = matches!(request.verb, Verb::Read | Verb::List | Verb::Scan);
        let records = match request.reading {
            Reading::Stale(_) if !changes_nothing => self.fresh().await?,
            reading => {
                let (records, known) = self.records_by(reading).await?;
                *age = matches!(reading, Reading::Stale(_)).then_some(known);
                records
            }
        };
        let audit = self.recording(&records)?;
        let caller = match &request.token {
            Some(text) => token::find(&records, text, self.clock.now()).map_err(|error| refusal(&error))?.map(Arc::new),
            None => None,
        };
        // A token that is used from where it may not be is as good as none.
        let caller = caller.filter(|caller| cidr::allows(&caller.token.bound_cidrs, request.remote));
        let mut place = self.place(&records, &mut request)?;
        if let Some(caller) = caller.as_ref().filter(|caller| wrapping::is_wrapping_token(caller)) {
            // Who was given one need not be told of which namespace it is.
            request.namespace = caller.namespace.path.clone();
            place = self.place(&records, &mut request)?;
        }
        *mount = place.route.as_ref().map(|route| Arc::clone(&route.mount));
        let request = &request;
        let mut permitted = self.permit(request, caller.as_ref(), &place, &records);
        if caller.is_none() && request.token.is_some() && permitted.is_err() && place.takes_a_wrapped_answer() {
            permitted = Err(Refusal::Refused(wrapping::INVALID.into()));
        }

        self.record_asked(&audit, request, caller.as_deref(), &place, &permitted).await?;
        let permit = permitted.as_ref().ok().map(|permitted| Arc::clone(&permitted.permit));
        // The parts of a transaction are permitted, and their requests recorded, as if each came by itself.
        let permitted = match permitted {
            Ok(permitted) => match self.parts(request, caller.as_ref(), &place, &permitted, &records, &audit).await {
                Ok(parts) => Ok((permitted, parts)),
                Err(refusal @ Refusal::Audit) => return Err(refusal),
                Err(refusal) => Err(refusal),
            },
            Err(refusal) => Err(refusal),
        };

        // A denied request spends a use too.
        // Who takes a wrapped answer ends the token with that, in one commit.
        let spends_nothing = self.is_open(request, &place) || caller.as_ref().is_some_and(|caller| place.ends_its_token(caller));
        let spent = if spends_nothing { Ok(caller.clone()) } else { self.spend(caller.as_ref(), &records).await };
        let outcome = match (permitted, spent) {
            (Err(refusal), _) | (_, Err(refusal)) => Err(refusal),
            (Ok((permitted, parts)), Ok(caller)) => {
                let work = Work { request, caller, place: &place, permitted, parts };
                self.dispatch(work, records, warnings).await
            }
        };
        // The devices that have the request's record get the answer's too, also when this very request disabled one.
        self.record_answered(&audit, request, caller.as_deref(), &place, permit.as_deref(), &outcome, warnings).await?;
        outcome
    }

    /// Records a request before anything is done.
    async fn record_asked(
        &self,
        audit: &Broker,
        request: &Request,
        caller: Option<&Caller>,
        place: &Place,
        permitted: &Result<Permitted, Refusal>,
    ) -> Result<(), Refusal> {
        let permit = permitted.as_ref().ok().map(|permitted| &*permitted.permit);
        let granting = audited::granting(permit, caller);
        // What is refused for another reason was not denied: its answer's record tells the reason.
        let is_denied = matches!(permitted, Err(Refusal::Denied | Refusal::Forbidden(_)));
        let results = PolicyResults { allowed: !is_denied, granting_policies: &granting };
        let namespace_path = place.namespace.shown_path();
        let event = Event {
            time: self.clock.now(),
            auth: audited::asking(caller, results),
            request: audited::asked(request, caller, permit, &place.namespace, &namespace_path, place.route.as_ref()),
            response: None,
            error: is_denied.then_some("permission denied"),
        };
        audit.record(&event).await.map_err(|_| Refusal::Audit)
    }

    /// Records an answer before anything is told.
    #[expect(clippy::too_many_arguments, reason = "all that a record shows")]
    async fn record_answered(
        &self,
        audit: &Broker,
        request: &Request,
        caller: Option<&Caller>,
        place: &Place,
        permit: Option<&Permit>,
        outcome: &Result<Answer, Refusal>,
        warnings: &[String],
    ) -> Result<(), Refusal> {
        let granting = audited::granting(permit, caller);
        let is_denied = permit.is_none() && matches!(outcome, Err(Refusal::Denied | Refusal::Forbidden(_)));
        let results = PolicyResults { allowed: !is_denied, granting_policies: &granting };
        let namespace_path = place.namespace.shown_path();
        let error = outcome.as_ref().err().map(ToString::to_string);
        let event = Event {
            time: self.clock.now(),
            auth: audited::asking(caller, results),
            request: audited::asked(request, caller, permit, &place.namespace, &namespace_path, place.route.as_ref()),
            response: Some(audited::answered(outcome, warnings)),
            error: error.as_deref(),
        };
        audit.record(&event).await.map_err(|_| Refusal::Audit)
    }

    /// The parts of a transaction, each permitted and recorded; none for every other request.
    async fn parts(
        &self,
        request: &Request,
        caller: Option<&Arc<Caller>>,
        place: &Place,
        permitted: &Permitted,
        records: &Records,
        audit: &Broker,
    ) -> Result<Vec<PermittedPart>, Refusal> {
        let Parsed::Own(operation) = &permitted.parsed else { return Ok(Vec::new()) };
        let mut parts = Vec::with_capacity(operation.parts().len());
        for (at, part) in operation.parts().iter().enumerate() {
            let mut request = part_of(request, part, &place.namespace);
            let place = self.place(records, &mut request)?;
            let permitted = self.permit_part(&request, caller, &place, records);
            self.record_asked(audit, &request, caller.map(|caller| &**caller), &place, &permitted).await?;
            let permitted = permitted.map_err(|refusal| of_part(at, refusal))?;
            parts.push(PermittedPart { request, place, permitted });
        }
        Ok(parts)
    }

    /// May the caller do this as a part of a transaction?
    fn permit_part(&self, request: &Request, caller: Option<&Arc<Caller>>, place: &Place, records: &Records) -> Result<Permitted, Refusal> {
        let permitted = self.permit(request, caller, place, records)?;
        match permitted.parsed {
            Parsed::Engine(_) => Ok(permitted),
            Parsed::Own(_) => Err(Refusal::Refused("only secrets can be read and written in a transaction".into())),
        }
    }

    /// Has every audit device's file closed and opened anew, so that a renamed one is let go: for `SIGHUP`.
    pub fn reopen_audit(&self) {
        self.recording.load().broker.reopen();
    }

    /// What could not be recorded since this node was opened: for metrics.
    pub fn audit_failures(&self) -> AuditFailures {
        self.recording.load().broker.failures()
    }

    /// Does what is due, and looks after the members, whenever this node leads; never ends. May be dropped at any time.
    pub async fn run_chores(&self) {
        let reaper = self.reaper(lease::undoers);
        tokio::join!(reaper.run(), autopilot::run(&*self.store, &*self.clock));
    }

    /// Writes the entries of this node's journal to the audit devices, in order; never ends. May be dropped at any time: what was being
    /// written then may be written once more.
    pub async fn join_journal(&self, journal: Arc<dyn Journal>, node: &NodeId) {
        self.joiner(journal, node).run().await;
    }

    /// The last entry of this node's journal that is in the audit log, as far as is known since this node was opened: for metrics.
    pub fn journal_joined(&self) -> u64 {
        self.journal_joined.load(Ordering::Relaxed)
    }

    pub(crate) fn joiner<'a>(&'a self, journal: Arc<dyn Journal>, node: &'a NodeId) -> Joiner<'a> {
        Joiner::new(self, &*self.store, &*self.clock, journal, node, &self.journal_joined)
    }

    pub(crate) fn reaper(&self, undoers: lease::Undoers) -> Reaper<'_> {
        let software = self.node.software();
        Reaper {
            store: &*self.store,
            clock: &*self.clock,
            caches: &self.caches,
            counters: &self.chores,
            wake: &self.wake,
            undoers,
            software,
        }
    }

    /// How the schedules of snapshots went, as far as this node knows: for metrics.
    pub fn snapshot_figures(&self) -> SnapshotFigures {
        self.snapshots.figures.get()
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// How the chores of this node went: for metrics.
    pub fn chore_counts(&self) -> ChoreCounts {
        self.chores.counts()
    }

    /// The records of now.
    pub(crate) async fn fresh(&self) -> Result<Records, Refusal> {
        let view = self.store.view().await.map_err(|error| of_access(&error))?;
        Ok(Records::new(view, Arc::clone(&self.caches)))
    }

    /// The records as fresh as `reading` asks for, and how old they can be.
    async fn records_by(&self, reading: Reading) -> Result<(Records, Duration), Refusal> {
        let (view, age) = self.store.view_by(reading).await.map_err(|error| of_access(&error))?;
        Ok((Records::new(view, Arc::clone(&self.caches)), age))
    }

    /// The devices that are configured at these records, open.
    pub(crate) fn recording(&self, records: &Records) -> Result<Arc<Broker>, Refusal> {
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
            Some(table) => Arc::new(known.broker.renew(table, &records.view).ok_or(Refusal::Sealed)?),
            None => Arc::default(),
        };
        self.recording.store(Arc::new(Recording { table, broker: Arc::clone(&broker) }));
        Ok(broker)
    }

    /// Finds the namespace and the mount. Afterwards the request's path is that within the namespace.
    fn place(&self, records: &Records, request: &mut Request) -> Result<Place, Refusal> {
        let mut namespace = Namespace::root();
        let mut named = request.namespace.clone();
        while !named.is_root() {
            match records.inner_namespace(&namespace, &named).map_err(|error| refusal(&error))? {
                Some((inner, rest)) => (namespace, named) = (inner, rest),
                // Recorded as any other place that is not there.
                None => return Ok(Place { namespace, route: None, is_lost: true }),
            }
        }
        loop {
            let route = records.mounts(&namespace).map_err(|error| refusal(&error))?.route(&request.path);
            // A namespace and a mount never share a name, so most paths need no second look.
            let inner = match &route {
                Some(_) => None,
                None => records.inner_namespace(&namespace, &request.path).map_err(|error| refusal(&error))?,
            };
            match inner {
                None => return Ok(Place { namespace, route, is_lost: false }),
                Some((inner, rest)) => {
                    request.path = rest;
                    request.namespace = inner.path.clone();
                    namespace = inner;
                }
            }
        }
    }

    /// Whether everybody is served there, whatever token comes along.
    fn is_open(&self, request: &Request, place: &Place) -> bool {
        place
            .route
            .as_ref()
            .is_some_and(|route| backend::find(&route.mount).is_some_and(|backend| access(&backend, request, route) == Access::Anyone))
    }

    /// Spends a use of the caller's token, if its uses are limited, before anything is done for it. Of two requests that spend the last
    /// one, on whichever nodes, one is denied.
    async fn spend(&self, caller: Option<&Arc<Caller>>, records: &Records) -> Result<Option<Arc<Caller>>, Refusal> {
        let Some(caller) = caller.filter(|caller| caller.token.uses_left != 0) else { return Ok(caller.cloned()) };
        let (mut caller, mut records) = (Arc::clone(caller), records.clone());
        for attempt in 1..=ATTEMPTS_MAX {
            let (plan, spent) = token::spend(&caller, self.clock.now());
            match self.commit(&records, &plan).await {
                Ok(revision) => return Ok(Some(Arc::new(caller.after_use(spent, revision.unwrap_or(Revision::ABSENT))))),
                Err(Refusal::Contended) => self.pause(attempt).await,
                Err(refusal) => return Err(refusal),
            }
            records = self.fresh().await?;
            let again = token::find_again(&records, &caller, self.clock.now()).map_err(|error| refusal(&error))?;
            caller = Arc::new(again.ok_or(Refusal::Denied)?);
        }
        Err(Refusal::Contended)
    }

    /// Finds out what is asked, and whether the caller may. A caller who may not learns nothing else.
    fn permit(&self, request: &Request, caller: Option<&Arc<Caller>>, place: &Place, records: &Records) -> Result<Permitted, Refusal> {
        let permitted = self.permit_by_policy(request, caller, place, records);
        match (&permitted, &place.route) {
            // Who has no token must learn that a share will do.
            (Err(Refusal::Denied), Some(route)) if place.namespace.is_root() && asks_for_share(request, route) => {
                Err(Refusal::Forbidden(keys::SUDO_OR_SHARE.into()))
            }
            _ => permitted,
        }
    }

    fn permit_by_policy(
        &self,
        request: &Request,
        caller: Option<&Arc<Caller>>,
        place: &Place,
        records: &Records,
    ) -> Result<Permitted, Refusal> {
        let is_root_only = place.is_only_in_the_root() && !place.namespace.is_root();
        let backend = place.route.as_ref().and_then(|route| backend_of(&route.mount, caller)).filter(|_| !is_root_only);
        if let (Some(route), Some(backend)) = (&place.route, &backend)
            && access(backend, request, route) == Access::Anyone
        {
            let parsed = backend.parse(ask(request, route), &*self.rng)?;
            return Ok(Permitted { permit: Arc::new(Permit::open(request.verb, full_path(request, place)?)), parsed, authority: None });
        }
        let caller = caller.filter(|caller| caller.namespace.contains(&place.namespace)).ok_or(Refusal::Denied)?;
        if place.is_lost {
            return Err(Refusal::NoSuch("namespace not found".into()));
        }
        if is_root_only {
            return Err(Refusal::Refused("operation unavailable in namespaces".into()));
        }
        let path = full_path(request, place)?;
        if let (Some(route), Some(backend), true) = (&place.route, &backend, help::is_asked_for(request)) {
            let operation = help::operation(&route.mount, &route.rest, backend.outlines());
            return Ok(Permitted { permit: Arc::new(Permit::help(caller, path)), parsed: Parsed::Own(operation), authority: None });
        }
        let authority = self.acls.authority(records, caller, self.clock.now()).map_err(|error| refusal(&error))?;
        let parameters = body::Parameters::of(request);
        let is_sudo = match (&place.route, &backend) {
            (Some(route), Some(backend)) => access(backend, request, route) == Access::Sudo,
            _ => false,
        };
        let parsed = match (&place.route, &backend) {
            (Some(route), Some(_)) if route.mount.upgrading => Err(Refusal::Refused(UPGRADING.into())),
            (Some(route), Some(backend)) => backend.parse(ask(request, route), &*self.rng).map_err(Refusal::Ask),
            _ => Err(Refusal::NoRoute(request.path.as_str().to_owned())),
        };
        let existing = match (&parsed, &place.route, request.verb) {
            (Ok(Parsed::Engine(operation)), Some(route), Verb::Write) => {
                let root = engine_root(&route.mount, Some(caller));
                root.and_then(|root| operation.is_create(&records.view.below(&root)).map_err(PlanError::from))
            }
            (Ok(Parsed::Own(operation)), Some(route), Verb::Write) => {
                let who = Who { caller: Some(Arc::clone(caller)), authority: Some(authority.clone()) };
                operation.is_create(&self.scope(request, who, &place.namespace, &route.mount, records.clone()))
            }
            _ => Ok(None),
        };
        let question = Question {
            path: &path,
            verb: request.verb,
            is_create: Some(matches!(existing, Ok(Some(true)))),
            is_sudo,
            wrap_ttl: request.wrap_ttl,
            parameters: &parameters,
        };
        // What the backend keeps under another spelling is judged under that too, as far as a rule speaks of it: none escapes by its case.
        let kept = place.route.as_ref().and_then(|route| backend::kept_path(&path, route));
        let kept = kept.as_ref().map(|path| Question { path, ..question });
        let verdict = authority.permit(&question).and_then(|permit| match kept.as_ref().map(|kept| authority.permit(kept)) {
            Some(Err(denial)) if denial.rule.is_some() => Err(denial),
            _ => Ok(permit),
        });
        let permit = match verdict {
            Ok(permit) => permit,
            Err(denial) => {
                self.denials.keep(denied(
                    request,
                    caller,
                    &question,
                    kept.as_ref().map(|kept| kept.path.clone()),
                    &denial,
                    self.clock.now(),
                ));
                return Err(Refusal::Denied);
            }
        };
        existing.map_err(|error| refusal(&error))?;
        let mut parsed = parsed?;
        if let (Some(limit), Some(route), Some(backend)) = (permit.limit(), &place.route, &backend) {
            let mut ask = ask(request, route);
            ask.query.retain(|(name, _)| name != "limit");
            ask.query.push(("limit".into(), limit.to_string()));
            parsed = backend.parse(ask, &*self.rng).map_err(Refusal::Ask)?;
        }
        Ok(Permitted { permit: Arc::new(permit), parsed, authority: Some(authority) })
    }

    fn scope<'a>(&'a self, request: &'a Request, who: Who, namespace: &Arc<Namespace>, mount: &Arc<Mount>, records: Records) -> Scope<'a> {
        Scope {
            records,
            now: self.clock.now(),
            rng: &*self.rng,
            settings: &self.settings,
            request,
            namespace: Arc::clone(namespace),
            mount: Arc::clone(mount),
            caller: who.caller,
            authority: who.authority,
            acls: &self.acls,
            denials: &self.denials,
            node: &*self.node,
            store: &*self.store,
            logins: &self.logins,
            refused_shares: &self.refused_shares,
            snapshots: &self.snapshots,
        }
    }

    /// Does what the permit allows: plans on `records`; when something that the plan depends on was written meanwhile by others, finds out
    /// again whether the caller may, and plans again, on fresh ones.
    async fn dispatch(&self, mut work: Work<'_>, mut records: Records, warnings: &mut Vec<String>) -> Result<Answer, Refusal> {
        let turn = self.turn(&work.request.path);
        let mut waited = None;
        for attempt in 1..=ATTEMPTS_MAX {
            let planned = self.plan(&work, records).await?;
            // Nobody else is writing here: what was planned may well hold. Else it waits for its turn, and plans again.
            let needs_turn = attempt > 1 || work.permitted.parsed.takes_turns();
            let may_commit = planned.plan.is_empty() || !needs_turn || waited.is_some() || {
                waited = turn.try_lock().ok();
                waited.is_some()
            };
            if may_commit {
                match self.commit(&planned.records, &planned.plan).await {
                    Ok(_) => {
                        *warnings = planned.warnings;
                        return Ok(planned.answer);
                    }
                    Err(Refusal::Contended) => self.pause(attempt).await,
                    Err(refusal) => return Err(refusal),
                }
            } else {
                waited = Some(turn.lock().await);
            }
            records = self.fresh().await?;
            work = self.permit_again(work, &records)?;
        }
        Err(Refusal::Contended)
    }

    /// Before a plan is made again: the mount must still be there, the caller's token be good, and its policies allow what is asked.
    fn permit_again<'a>(&self, work: Work<'a>, records: &Records) -> Result<Work<'a>, Refusal> {
        let mounts = records.mounts(&work.place.namespace).map_err(|error| refusal(&error))?;
        if !mounts.has_accessor(&work.place.mount().accessor) {
            return Err(Refusal::NoRoute(work.request.path.as_str().to_owned()));
        }
        let caller = match &work.caller {
            None => None,
            Some(caller) => {
                let again = token::find_again(records, caller, self.clock.now()).map_err(|error| refusal(&error))?;
                Some(Arc::new(again.ok_or(Refusal::Denied)?))
            }
        };
        let permitted = self.permit(work.request, caller.as_ref(), work.place, records)?;
        let mut parts = Vec::with_capacity(work.parts.len());
        for (at, part) in work.parts.into_iter().enumerate() {
            let PermittedPart { mut request, .. } = part;
            let place = self.place(records, &mut request)?;
            let permitted = self.permit_part(&request, caller.as_ref(), &place, records).map_err(|refusal| of_part(at, refusal))?;
            parts.push(PermittedPart { request, place, permitted });
        }
        Ok(Work { request: work.request, place: work.place, caller, permitted, parts })
    }

    /// What the request comes to on these records: itself, or all of its parts.
    async fn plan(&self, work: &Work<'_>, records: Records) -> Result<Planned, Refusal> {
        if work.parts.is_empty() {
            return self.plan_one(work.request, work.caller.as_ref(), work.place, &work.permitted, records, false).await;
        }
        let mut whole = Planned { plan: Plan::new(), answer: Answer::Done, warnings: Vec::new(), records: records.clone() };
        let mut written = HashSet::new();
        let mut results = Vec::with_capacity(work.parts.len());
        for (at, part) in work.parts.iter().enumerate() {
            let planned = self.plan_one(&part.request, work.caller.as_ref(), &part.place, &part.permitted, records.clone(), true).await;
            let Planned { plan, answer, warnings, .. } = planned.map_err(|refusal| of_part(at, refusal))?;
            if !plan.written().all(|name| written.insert(name.clone())) {
                return Err(of_part(at, Refusal::Refused("an operation before writes the same secret".into())));
            }
            whole.plan.append(plan);
            whole.warnings.extend(warnings.into_iter().map(|warning| format!("operations[{at}]: {warning}")));
            results.push(PartResult::of(&answer)?);
        }
        whole.answer = Answer::Data(engine::json(&BTreeMap::from([("results", results)])));
        Ok(whole)
    }

    /// What one operation comes to on these records, with all that it depends on.
    async fn plan_one(
        &self,
        request: &Request,
        caller: Option<&Arc<Caller>>,
        place: &Place,
        permitted: &Permitted,
        records: Records,
        is_part: bool,
    ) -> Result<Planned, Refusal> {
        let mount = place.mount();
        let Permitted { permit, parsed, authority } = permitted;
        let who = Who { caller: caller.cloned(), authority: authority.clone() };
        let scope = self.scope(request, who, &place.namespace, mount, records);
        let outcome = match parsed {
            Parsed::Engine(operation) => {
                let root = engine_root(mount, caller).map_err(|error| refusal(&error))?;
                let view = scope.records.view.below(&root);
                // What one part reads, the writes of the others depend on.
                let view = if is_part { view.noting() } else { view };
                let planned = operation.plan(&view, scope.now);
                let (lease_default, _) = mount.lease_ttls(&self.settings);
                planned
                    .map(|outcome| {
                        let mut outcome = from_engine(outcome, &root, lease_default);
                        view.expect_noted(&mut outcome.plan);
                        outcome
                    })
                    .map_err(PlanError::from)
            }
            Parsed::Own(operation) => operation.plan(&scope).await,
        };
        let Outcome { mut plan, reply, mut warnings } = outcome.map_err(|error| refusal(&error))?;
        let mut answer = match reply {
            Reply::Answer(answer) => answer,
            Reply::Issue(grant) => {
                let auth = token::issue(&scope, &grant, &mut plan, &mut warnings).map_err(|error| refusal(&error))?;
                Answer::Auth(Box::new(auth))
            }
        };
        if let (Some(filter), Some(authority), Answer::Data(data)) = (permit.list_filter(), authority, &answer) {
            answer = filtered(data, filter, authority, permit, &place.namespace).unwrap_or(Answer::NotFound);
        }
        if let (Answer::Data(_) | Answer::Leased(..) | Answer::Auth(_), Some(route)) = (&answer, &place.route) {
            let names = backend_of(mount, caller).map(|backend| backend.unrecognized(request, &route.rest)).unwrap_or_default();
            warnings.extend((!names.is_empty()).then(|| ignored(&names)));
        }
        if let Some(ttl) = request.wrap_ttl {
            if scope.caller.is_none() && !matches!(answer, Answer::Auth(_)) {
                // Strangers write nothing.
                return Err(Refusal::Refused("only who has a token can have this answer wrapped (leave out X-Vault-Wrap-TTL)".into()));
            }
            answer = wrapping::wrap(&scope, answer, ttl, &mut warnings, &mut plan).map_err(|error| refusal(&error))?;
        }
        if !plan.is_empty() {
            if let Some(caller) = &scope.caller {
                caller.expect(&mut plan);
            }
            let mounts = scope.records.mounts_revision(&scope.namespace).map_err(|error| refusal(&error))?;
            plan.expect(crate::mount::MountTable::name(&scope.namespace.id), mounts);
        }
        Ok(Planned { plan, answer, warnings, records: scope.records })
    }

    fn turn(&self, path: &Path) -> &tokio::sync::Mutex<()> {
        let mut hasher = DefaultHasher::new();
        (self.turn_salt, path.as_str()).hash(&mut hasher);
        &self.turns[hasher.finish() as usize % TURNS]
    }

    /// Carries a plan out: the revision of what it wrote, if it wrote anything.
    async fn commit(&self, records: &Records, plan: &Plan) -> Result<Option<Revision>, Refusal> {
        if plan.is_empty() {
            return Ok(None);
        }
        let committed = self.store.commit(&records.view, plan).await;
        if committed.is_ok() && due::is_due_in(plan, self.clock.now()) {
            self.wake.notify_one();
        }
        committed.map(Some).map_err(|error| of_commit(&error))
    }

    /// Longer after each attempt, and never the same for two writers.
    async fn pause(&self, attempt: u32) {
        let [jitter] = generate_bytes::<1>(&*self.rng);
        let longest = PAUSE_MAX.min(Duration::from_micros(250) * attempt);
        tokio::time::sleep(longest.mul_f64(f64::from(jitter) / 255.0)).await;
    }
}

/// Who asks, and what they may.
struct Who {
    caller: Option<Arc<Caller>>,
    authority: Option<Authority>,
}

/// What was allowed.
struct Permitted {
    permit: Arc<Permit>,
    parsed: Parsed,
    /// `None` where no policy was asked.
    authority: Option<Authority>,
}

/// A permitted request.
struct Work<'a> {
    request: &'a Request,
    caller: Option<Arc<Caller>>,
    place: &'a Place,
    permitted: Permitted,
    /// Of which it consists; empty unless it is a transaction.
    parts: Vec<PermittedPart>,
}

/// A permitted part of a transaction.
struct PermittedPart {
    request: Request,
    place: Place,
    permitted: Permitted,
}

/// The request that a part would be by itself.
fn part_of(whole: &Request, part: &Part, namespace: &Namespace) -> Request {
    // EXPOSE: copies, wiped like the originals.
    let copy = |secret: &SecretBytes| SecretBytes::with_len(secret.len(), |buffer| buffer.copy_from_slice(secret.expose()));
    Request {
        id: whole.id,
        verb: part.verb,
        namespace: namespace.path.clone(),
        reading: Reading::Configured,
        path: part.path.clone(),
        body: copy(&part.body),
        query: part.query.clone(),
        token: whole.token.as_ref().map(copy),
        remote: whole.remote,
        headers: whole.headers.clone(),
        wrap_ttl: None,
        upload: None,
    }
}

/// A refusal that says which part of a transaction it is about, where it says anything at all.
fn of_part(at: usize, refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Refused(text) => Refusal::Refused(format!("operations[{at}]: {text}")),
        Refusal::Ask(error) => Refusal::Refused(format!("operations[{at}]: {error}")),
        Refusal::NoRoute(_) | Refusal::NoSuch(_) | Refusal::Forbidden(_) | Refusal::TooMany(_) => {
            Refusal::Refused(format!("operations[{at}]: {refusal}"))
        }
        other => other,
    }
}

/// What a part of a transaction came to: the status that it would have by itself, and its data, to the byte.
#[derive(serde::Serialize)]
struct PartResult {
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

impl PartResult {
    fn of(answer: &Answer) -> Result<PartResult, Refusal> {
        let (status, data) = match answer {
            Answer::Data(data) | Answer::Leased(data, _) => (200, Some(data)),
            Answer::Gone(data) => (404, Some(data)),
            Answer::NotFound => (404, None),
            Answer::Done => (204, None),
            Answer::Accepted => (202, None),
            Answer::Auth(_) | Answer::Wrapped(_) | Answer::Raw(_) | Answer::Stream(_) => return Err(Refusal::Internal),
        };
        // EXPOSE: it becomes part of the whole answer.
        let data = data.map(|data| serde_json::from_slice(data.expose())).transpose().map_err(|error| internal(&error))?;
        Ok(PartResult { status, data })
    }
}

/// What to commit, and what to answer then.
struct Planned {
    plan: Plan,
    answer: Answer,
    warnings: Vec<String>,
    /// What it was made from.
    records: Records,
}

/// As Vault warns of names that mean nothing, which are no error. Where the answer has no body it says nothing, so that clients which wait for
/// a 204 get one. Never their values.
fn ignored(names: &[String]) -> String {
    let shorten = |name: &String| name.chars().take(IGNORED_NAME_CHARS_MAX).collect::<String>();
    let shown: Vec<String> = names.iter().take(IGNORED_NAMES_MAX).map(shorten).collect();
    let more = if names.len() > IGNORED_NAMES_MAX { " ..." } else { "" };
    format!("Endpoint ignored these unrecognized parameters: [{}{more}]", shown.join(" "))
}

/// What is kept of a denial, to be explained to who may ask.
fn denied(
    request: &Request,
    caller: &Caller,
    question: &Question<'_>,
    kept: Option<Path>,
    denial: &Denial<'_>,
    time: types::Timestamp,
) -> Denied {
    Denied {
        id: request.id,
        time,
        path: question.path.clone(),
        kept,
        verb: question.verb,
        is_create: question.is_create == Some(true),
        is_sudo: question.is_sudo,
        wrap_ttl: question.wrap_ttl,
        namespace_id: caller.namespace.id.clone(),
        accessor: caller.token.accessor.clone(),
        policies: caller.policies().to_vec(),
        reason: denial.reason.to_string(),
        rule: denial.rule.map(|rule| (rule.pattern().to_owned(), rule.policies().map(|(name, ..)| name.to_owned()).collect())),
    }
}

impl Place {
    fn mount(&self) -> &Arc<Mount> {
        &self.route.as_ref().expect("an operation was found by its route").mount
    }

    /// Whether it is a path of `sys/` that is there only in the root namespace.
    fn is_only_in_the_root(&self) -> bool {
        self.route.as_ref().is_some_and(|route| route.mount.kind == "system" && sys::is_root_only(&route.rest))
    }

    /// Whether what is asked there ends the caller's token when it is done: the token of a wrapped answer.
    fn ends_its_token(&self, caller: &Caller) -> bool {
        let is_response = self.route.as_ref().is_some_and(|route| route.mount.kind == "cubbyhole" && route.rest.as_str() == "response");
        wrapping::is_wrapping_token(caller) && (is_response || self.takes_a_wrapped_answer())
    }

    /// Whether what is asked there is a wrapped answer.
    fn takes_a_wrapped_answer(&self) -> bool {
        self.route.as_ref().is_some_and(|route| route.mount.kind == "system" && sys::wrapping::takes_a_wrapped_answer(&route.rest))
    }
}

/// Who may do this, before policies are asked: a share that came along stands in for a token where it may.
fn access(backend: &Backend<'_>, request: &Request, route: &Route) -> Access {
    match backend.access(request.verb, &route.rest) {
        Access::SudoOrShare if request.verb == Verb::Read || keys::brings_share(&request.body) => Access::Anyone,
        Access::SudoOrShare => Access::Sudo,
        access => access,
    }
}

/// Whether a share would do, and none came.
fn asks_for_share(request: &Request, route: &Route) -> bool {
    backend::find(&route.mount).is_some_and(|backend| {
        backend.access(request.verb, &route.rest) == Access::SudoOrShare && access(&backend, request, route) == Access::Sudo
    })
}

/// What stands behind a mount, for this caller.
fn backend_of(mount: &Mount, caller: Option<&Arc<Caller>>) -> Option<Backend<'static>> {
    if mount.kind == "cubbyhole" && caller.is_some_and(|caller| wrapping::is_wrapping_token(caller)) {
        return Some(Backend::Own(wrapping::CUBBYHOLE_ROUTES));
    }
    backend::find(mount)
}

/// Where an engine's records lie: the mount's own, or for a cubbyhole the caller's own.
fn engine_root(mount: &Mount, caller: Option<&Arc<Caller>>) -> Result<Name, PlanError> {
    match caller {
        _ if mount.kind != "cubbyhole" => Ok(mount.root()),
        Some(caller) if caller.token.batch => {
            Err(PlanError::Refused("cubbyhole operations are only supported by 'service' type tokens".into()))
        }
        Some(caller) => Ok(records::cubbyhole_folder(&caller.namespace.id, &caller.tag)),
        None => Err(PlanError::Denied),
    }
}

/// The path from the root namespace on.
fn full_path(request: &Request, place: &Place) -> Result<Path, Refusal> {
    if place.namespace.is_root() {
        return Ok(request.path.clone());
    }
    place.namespace.path.join(&request.path).map_err(|error| Refusal::Refused(error.to_string()))
}

/// A list with those of its keys that the filter's paths may be read or listed at; `None` when none is left.
fn filtered(data: &Json, filter: &ListFilter, authority: &Authority, permit: &Permit, namespace: &Namespace) -> Option<Answer> {
    // EXPOSE: names are looked at to leave some out.
    let mut shown: Value = serde_json::from_slice(data.expose()).ok()?;
    let folder = permit.path().strip_prefix(&namespace.path)?;
    let may = |key: &Value| {
        let key = key.as_str().unwrap_or_default();
        let verb = if key.ends_with('/') { Verb::List } else { Verb::Read };
        let path = filter.path(folder.as_str(), key).and_then(|path| Path::parse(&path).ok());
        let path = path.and_then(|path| if namespace.is_root() { Some(path) } else { namespace.path.join(&path).ok() });
        path.is_some_and(|path| authority.permit(&Question::new(&path, verb)).is_ok())
    };
    let keys: Vec<Value> = shown["keys"].as_array()?.iter().filter(|key| may(key)).cloned().collect();
    if keys.is_empty() {
        return None;
    }
    if let Some(info) = shown.get_mut("key_info").and_then(Value::as_object_mut) {
        info.retain(|name, _| keys.iter().any(|key| key == name));
    }
    shown["keys"] = Value::Array(keys);
    Some(Answer::Data(engine::json(&shown)))
}

/// The ask of a request, below its mount.
fn ask(request: &Request, route: &Route) -> Ask {
    // EXPOSE: the body goes to the backend that it is for.
    let body = SecretBytes::with_len(request.body.len(), |buffer| buffer.copy_from_slice(request.body.expose()));
    Ask { verb: request.verb, path: route.rest.clone(), body, query: request.query.clone() }
}

/// An engine's outcome, seen from the root.
/// `lease_default`: how long a lease of the mount lasts when nobody says how long.
pub(crate) fn from_engine(outcome: engine::Outcome, root: &Name, lease_default: Duration) -> Outcome {
    let duration = match outcome.lease_duration {
        LeaseDuration::Unsaid => None,
        LeaseDuration::MountDefault => Some(lease_default),
        LeaseDuration::Exactly(duration) => Some(duration),
    };
    let answer = match outcome.reply {
        engine::Reply::Data(data) => match duration {
            Some(duration) => Answer::Leased(data, Lease { id: String::new(), duration, renewable: false }),
            None => Answer::Data(data),
        },
        engine::Reply::Details(names) if names.is_empty() => Answer::NotFound,
        engine::Reply::Details(names) => Answer::Data(engine::details(&names)),
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

fn of_access(error: &AccessError) -> Refusal {
    match error {
        AccessError::Sealed => Refusal::Sealed,
        AccessError::Read(raft::ReadError::NoLeader) => Refusal::NoLeader,
        AccessError::Read(error) => internal(error),
    }
}

fn of_commit(error: &CommitError) -> Refusal {
    match error {
        CommitError::Sealed => Refusal::Sealed,
        CommitError::Conflict => Refusal::Contended,
        CommitError::TooLarge(_) => Refusal::TooLarge,
        CommitError::NoLeader => Refusal::NoLeader,
        CommitError::DiskFull => Refusal::DiskFull,
        CommitError::FeatureLevel(error) => Refusal::Refused(error.to_string()),
        CommitError::Indeterminate(why) => {
            tracing::warn!(why, "the fate of a write is unknown");
            Refusal::Indeterminate
        }
        CommitError::Stopped | CommitError::Table(_) => internal(error),
    }
}

fn refusal(error: &PlanError) -> Refusal {
    match error {
        PlanError::Commit(error) => of_commit(error),
        PlanError::Unavailable(text) => Refusal::Unavailable(text.clone()),
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

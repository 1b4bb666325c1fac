//! A secret, a folder or a mount out of a snapshot: what was deleted by mistake comes back, and all else stays as it is.
//!
//! Always: the snapshot is this cluster's own, by its keyring; it lies open in a scratch table only for as long as the request lives. What comes
//! back is written as any caller would write it: one batch, for which the target needs the right of a write, and the source `sudo` on its
//! `metadata/` path (version 1: its path), as for `sys/copy`. Values are shown to nobody.

use std::sync::Arc;

use barrier::{Past, RestoreError};
use crypto::SecretBytes;
use engine::kv::Version;
use engine::kv::transfer::{self, End, Existing, TransferError, Transferred};
use engine::{Ask, AskError, Reply};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use types::capability::{Capability, Verb};
use types::{Path, Timestamp};

use super::restore::{of_restore, receive};
use super::{barrier as barrier_of, chain};
use crate::backend::{self, Asked};
use crate::mount::Route as MountRoute;
use crate::outcome::{Operation, Outcome, PlanError, Scope};
use crate::records::{Caches, Records};
use crate::request::{Answer, shown_time};
use crate::sys::transfer::{kv_mount, ruled};

/// The name of the scratch table.
const SCRATCH: &str = "extract";
/// Secrets that an answer tells of, at most.
const SHOWN_MAX: usize = 1_000;

/// What is to come out.
struct Extract {
    from: Path,
    to: Path,
    apply: bool,
    existing: Existing,
    version: Option<u64>,
}

/// A snapshot that lies open, one at a time.
struct Opened {
    past: Past,
    _place: OwnedSemaphorePermit,
}

pub(super) fn extract(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let query = |name: &str| asked.ask.query(name).filter(|text| !text.is_empty());
    let path = |name: &str, text: &str| Path::parse(text).map_err(|error| AskError::Invalid(format!("{name}: {error}")));
    let boolean = |name: &str| match query(name) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(AskError::Invalid(format!("the query parameter {name} must be true or false"))),
    };
    let from = path("from", query("from").ok_or_else(|| AskError::Invalid("the query parameter from is missing".into()))?)?;
    let to = query("to").map_or_else(|| Ok(from.clone()), |text| path("to", text))?;
    let version = query("version").map(|text| {
        let number = text.parse().ok().filter(|number: &u64| *number > 0);
        number.ok_or_else(|| AskError::Invalid("the query parameter version must be a number from 1 on".into()))
    });
    let existing = if boolean("overwrite")? { Existing::IsReplaced } else { Existing::Refuses };
    Ok(Box::new(Extract { from, to, apply: boolean("apply")?, existing, version: version.transpose()? }))
}

#[async_trait::async_trait]
impl Operation for Extract {
    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        let opened = open(scope).await?;
        let records = Records::new(opened.past.view().clone(), Arc::new(Caches::default()));
        let (source, source_version) = kv_mount(&records, &scope.namespace, &self.from)?;
        let (target, target_version) = kv_mount(&scope.records, &scope.namespace, &self.to)?;
        let ends = Ends { scope, opened: &opened, source, source_version, target, target_version };
        match self.version {
            Some(version) => self.one_version(&ends, version),
            None => self.with_history(&ends),
        }
    }
}

/// Takes the snapshot in, and opens it; once for each request, however often it is planned.
async fn open(scope: &Scope<'_>) -> Result<Arc<Opened>, PlanError> {
    let barrier = barrier_of(scope)?;
    let upload = scope.request.upload.as_ref().ok_or_else(|| PlanError::Refused("the body must be a snapshot".into()))?;
    if let Some(opened) = upload.kept::<Opened>() {
        return Ok(opened);
    }
    let busy = |_| PlanError::Unavailable("this node is reading another snapshot now: try again".into());
    let place = Arc::clone(&scope.snapshots.extracting).try_acquire_owned().map_err(busy)?;
    let begun = scope.snapshots.begin(scope.now)?;
    let container = receive(barrier, upload, &begun).await?;
    begun.step("opening");
    let opening = barrier.clone();
    let past = barrier.run_blocking(move || opening.open_past(SCRATCH, container)).await;
    let past = past.map_err(|_| PlanError::Unavailable("the node is stopping".into()))?.map_err(|error| match error {
        barrier::DrillError::Restore(RestoreError::NotAuthentic) => {
            PlanError::Refused("the snapshot is not this cluster's own, or was changed: its keyring does not authenticate it".into())
        }
        barrier::DrillError::Restore(error) => of_restore(error),
        barrier::DrillError::Sealed => PlanError::Commit(barrier::CommitError::Sealed),
        error => PlanError::Refused(chain(&error)),
    })?;
    let opened = Arc::new(Opened { past, _place: place });
    upload.keep(Arc::clone(&opened) as _);
    Ok(opened)
}

/// Both ends.
struct Ends<'a> {
    scope: &'a Scope<'a>,
    opened: &'a Opened,
    source: MountRoute,
    source_version: Version,
    target: MountRoute,
    target_version: Version,
}

impl Ends<'_> {
    /// Whether the caller may take this secret from there, and put it here.
    fn allow(&self, from: &Path, to: &Path, replaces: bool) -> Result<(), PlanError> {
        let acl = self.scope.authority.as_ref().ok_or(PlanError::Denied)?.acl();
        let may = |path: &Path, needed: Capability| {
            let granted = acl.capabilities(path);
            granted.contains(&"root") || granted.contains(&needed.as_str())
        };
        let write = if replaces { Capability::Update } else { Capability::Create };
        let may_take = may(&ruled(self.scope, &self.source, self.source_version, "metadata", from)?, Capability::Sudo);
        let may_put = may(&ruled(self.scope, &self.target, self.target_version, "data", to)?, write);
        if may_take && may_put { Ok(()) } else { Err(PlanError::Denied) }
    }

    fn answer(&self, applied: bool, secrets: &[Value], count: usize) -> Answer {
        let about = self.opened.past.about();
        Answer::Data(engine::json(&json!({
            "snapshot_id": about.id,
            "saved": shown_time(Timestamp(about.saved_ms)),
            "applied": applied,
            "count": count,
            "secrets": secrets,
        })))
    }

    /// What the snapshot tells of a secret without its values; nothing of one of version 1.
    fn metadata(&self, secret: &Path) -> Result<Value, PlanError> {
        if self.source_version == Version::One {
            return Ok(Value::Null);
        }
        let path = Path::parse(&format!("metadata/{}", secret.as_str())).map_err(|_| PlanError::Malformed)?;
        match self.read_past(path, Vec::new())? {
            // EXPOSE: metadata is shown; no value is in it.
            Reply::Data(data) => serde_json::from_slice(data.expose()).map_err(|_| PlanError::Malformed),
            _ => Ok(Value::Null),
        }
    }

    fn read_past(&self, path: Path, query: Vec<(String, String)>) -> Result<Reply, PlanError> {
        let engine = backend::engine("kv", &self.source.mount.options).ok_or(PlanError::Malformed)?;
        let ask = Ask { verb: Verb::Read, path, body: engine::no_body(), query };
        let operation = engine.parse(ask).map_err(|error| PlanError::Refused(error.to_string()))?;
        let view = self.opened.past.view().below(&self.source.mount.root());
        Ok(operation.plan(&view, self.scope.now)?.reply)
    }
}

impl Extract {
    fn with_history(&self, ends: &Ends<'_>) -> Result<Outcome, PlanError> {
        let (source_root, target_root) = (ends.source.mount.root(), ends.target.mount.root());
        let from = End { root: &source_root, version: ends.source_version, path: &ends.source.rest };
        let to = End { root: &target_root, version: ends.target_version, path: &ends.target.rest };
        // What would be replaced is shown, whether it may be or not.
        let existing = if self.apply { self.existing } else { Existing::IsReplaced };
        let planned = transfer::plan_from_past(ends.opened.past.view(), &ends.scope.records.view, from, to, existing);
        let Transferred { plan, secrets } = match planned {
            Ok(transferred) => transferred,
            Err(error) => {
                ends.allow(&ends.source.rest, &ends.target.rest, false)?;
                return Err(match error {
                    TransferError::NotFound => PlanError::NoSuch("the snapshot has nothing there".into()),
                    TransferError::Plan(error) => error.into(),
                    error => PlanError::Refused(error.to_string()),
                });
            }
        };
        for secret in &secrets {
            ends.allow(&secret.from, &secret.to, secret.replaces)?;
        }
        let shown = |mount: &MountRoute, path: &Path| format!("{}{}", mount.mount.path, path.as_str());
        let mut told = Vec::with_capacity(secrets.len().min(SHOWN_MAX));
        for secret in secrets.iter().take(SHOWN_MAX) {
            told.push(json!({
                "from": shown(&ends.source, &secret.from),
                "to": shown(&ends.target, &secret.to),
                "replaced": secret.replaces,
                "metadata": ends.metadata(&secret.from)?,
            }));
        }
        let answer = ends.answer(self.apply, &told, secrets.len());
        Ok(if self.apply { Outcome::written(plan, answer) } else { Outcome::answer(answer) })
    }

    /// One version of one secret, as a new version of it: an ordinary write.
    fn one_version(&self, ends: &Ends<'_>, version: u64) -> Result<Outcome, PlanError> {
        #[derive(Deserialize)]
        struct Read<'a> {
            #[serde(borrow)]
            data: &'a RawValue,
            metadata: Value,
        }
        #[derive(Serialize)]
        struct Write<'a> {
            data: &'a RawValue,
        }
        let is_one_secret =
            ends.source_version == Version::Two && ends.target_version == Version::Two && !self.from.is_folder() && !self.to.is_folder();
        if !is_one_secret {
            return Err(PlanError::Refused(
                "a version is taken of one secret of KV version 2: leave out version to take all of each".into(),
            ));
        }
        let data_path = |rest: &Path| Path::parse(&format!("data/{}", rest.as_str())).map_err(|_| PlanError::Malformed);
        let target_root = ends.target.mount.root();
        let view = ends.scope.records.view.below(&target_root);
        let engine = backend::engine("kv", &ends.target.mount.options).ok_or(PlanError::Malformed)?;
        let asked = |body: SecretBytes| -> Result<_, PlanError> {
            let ask = Ask { verb: Verb::Write, path: data_path(&ends.target.rest)?, body, query: Vec::new() };
            engine.parse(ask).map_err(|error| PlanError::Refused(error.to_string()))
        };
        let nothing = asked(SecretBytes::from(br#"{"data":{}}"#.to_vec()))?;
        let replaces = nothing.is_create(&view)? != Some(true);
        ends.allow(&ends.source.rest, &ends.target.rest, replaces)?;
        let reply = ends.read_past(data_path(&ends.source.rest)?, vec![("version".into(), version.to_string())])?;
        let Reply::Data(data) = reply else {
            return Err(PlanError::NoSuch("the snapshot has no such version, or it was deleted".into()));
        };
        // EXPOSE: the value goes on into a write, and to nobody else.
        let read: Read<'_> = serde_json::from_slice(data.expose()).map_err(|_| PlanError::Malformed)?;
        let told = json!({
            "from": format!("{}{}", ends.source.mount.path, ends.source.rest.as_str()),
            "to": format!("{}{}", ends.target.mount.path, ends.target.rest.as_str()),
            "replaced": false,
            "metadata": read.metadata,
        });
        let answer = ends.answer(self.apply, &[told], 1);
        if !self.apply {
            return Ok(Outcome::answer(answer));
        }
        let written = asked(engine::json(&Write { data: read.data }))?.plan(&view, ends.scope.now)?;
        Ok(Outcome::written(written.plan.below(&target_root), answer))
    }
}

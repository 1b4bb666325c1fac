//! Snapshots of the cluster: `sys/storage/raft/snapshot…`. Saved, restored and watched at any node.
//!
//! Always: who may not is refused before a byte of a snapshot is read or written; none is held in memory; a restore replaces nothing before
//! the whole file was checked. What a snapshot is, and how one takes the place of every record, is the barrier's.

mod extract;
mod restore;
mod save;
pub(crate) mod schedule;
mod verify;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use barrier::Barrier;
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use types::capability::Verb;
use types::{Path, Timestamp};

use crate::backend::Handler;
use crate::outcome::{Operation, Outcome, PlanError, Scope};
use crate::request::{Answer, shown_time};

/// Snapshots that one node writes at once.
const SAVES_MAX: usize = 2;

/// What may be asked.
pub(crate) static ROUTES: &[Route<Handler>] = &[
    Route {
        pattern: "storage/raft/snapshot",
        about: "The whole cluster as a file: a gzipped tar, as Vault's tools know it. It holds ciphertext only.",
        parameters: &[],
        methods: &[
            method(Verb::Read, "Answers a snapshot of now.", |_| acting(save::save)),
            method(Verb::Write, "Puts the snapshot in the body, one of this cluster, in the place of every record.", |_| {
                acting(|scope| restore::restore(scope, false))
            }),
        ],
        access: Access::Sudo,
    },
    Route {
        pattern: "storage/raft/snapshot-force",
        about: "A restore that takes another cluster's snapshot too. Its shares open the cluster from then on.",
        parameters: &[],
        methods: &[method(Verb::Write, "Puts the snapshot in the body in the place of every record, whosever it is.", |_| {
            acting(|scope| restore::restore(scope, true))
        })],
        access: Access::Sudo,
    },
    Route {
        pattern: "storage/raft/snapshot-extract",
        about: "A secret, a folder or a whole KV mount out of a snapshot of this cluster, back to where it was or to another place.",
        parameters: &[],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Takes them out of the snapshot in the body; without apply it only shows what there is.",
            fields: &[],
            query: &[
                Field::required(
                    "from",
                    FieldKind::Text,
                    "A secret, as mount/path, or a folder or mount, with a slash at the end, as the snapshot has it.",
                ),
                Field::optional(
                    "to",
                    FieldKind::Text,
                    "Where it comes to; from, when nothing is said. With a slash at the end exactly if from has one.",
                ),
                Field::optional("apply", FieldKind::Boolean, "Whether it is written; false when nothing is said: then it is only shown."),
                Field::optional("overwrite", FieldKind::Boolean, "Whether secrets that are there are replaced, with their history."),
                Field::optional(
                    "version",
                    FieldKind::Integer,
                    "Of one secret of KV v2: only this version, written as a new version of the secret.",
                ),
            ],
            handler: extract::extract,
        }],
        access: Access::Sudo,
    },
    Route {
        pattern: "storage/raft/snapshot-verify",
        about: "Whether a snapshot is this cluster's own, unchanged: only its keyring can tell.",
        parameters: &[],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Checks what authenticates a snapshot.",
            fields: &[
                Field::required("sums", FieldKind::Text, "The member SHA256SUMS of the snapshot, in hexadecimal digits."),
                Field::required("sealed", FieldKind::Text, "The member SHA256SUMS.sealed, likewise."),
            ],
            query: &[],
            handler: verify::verify,
        }],
        access: Access::Sudo,
    },
    Route {
        pattern: "storage/raft/snapshot/progress",
        about: "The restore that is under way, at whichever node it was asked for.",
        parameters: &[],
        methods: &[
            method(Verb::Read, "Shows how far it has come, and how the last one at the answering node ended.", |_| {
                acting(restore::progress)
            }),
            method(Verb::Delete, "Ends it, as long as nothing is replaced.", |_| acting(restore::cancel)),
        ],
        access: Access::Sudo,
    },
];

const fn method(verb: Verb, summary: &'static str, handler: Handler) -> Method<Handler> {
    Method { verb, summary, fields: &[], query: &[], handler }
}

/// Whether what is written there is too large for memory: it comes as a stream, and is no JSON.
pub fn takes_upload(path: &Path) -> bool {
    matches!(path.as_str(), "sys/storage/raft/snapshot" | "sys/storage/raft/snapshot-force" | "sys/storage/raft/snapshot-extract")
}

/// Whether an answer there, or what is sent there, may take long.
pub fn takes_long(path: &Path) -> bool {
    takes_upload(path) || path.starts_with(["sys", "storage", "raft", "snapshot-auto", "drill"])
}

/// An operation that acts by itself, and leaves nothing to commit: so it is carried out once.
struct Acting(Act);

type Act = for<'a> fn(&'a Scope<'a>) -> BoxFuture<'a, Result<Outcome, PlanError>>;

#[async_trait::async_trait]
impl Operation for Acting {
    fn takes_turns(&self) -> bool {
        false
    }

    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        (self.0)(scope).await
    }
}

fn acting(act: Act) -> Result<Box<dyn Operation>, AskError> {
    Ok(Box::new(Acting(act)))
}

fn barrier<'a>(scope: &'a Scope<'_>) -> Result<&'a Barrier, PlanError> {
    scope.store.keys().ok_or_else(|| PlanError::Refused("this server has no cluster that could be saved".into()))
}

/// The caller, as the journal and other operators are told.
fn caller_name(scope: &Scope<'_>) -> Result<String, PlanError> {
    let token = &scope.caller()?.token;
    Ok(format!("{} (accessor {})", token.display_name, token.accessor))
}

/// What this node does with snapshots now, and how the last restore here ended.
pub(crate) struct Snapshots {
    saves: Arc<Semaphore>,
    restore: Mutex<Restoring>,
    /// Held by who restores into the scratch table.
    drilling: tokio::sync::Mutex<()>,
    /// Held by who reads out of a snapshot.
    extracting: Arc<Semaphore>,
    pub(crate) figures: schedule::Figures,
}

#[derive(Default)]
struct Restoring {
    running: Option<Running>,
    last: Option<Value>,
}

/// A restore that was asked for here.
struct Running {
    since: Timestamp,
    received: u64,
    step: &'static str,
    cancel: CancellationToken,
}

impl Default for Snapshots {
    fn default() -> Snapshots {
        Snapshots {
            saves: Arc::new(Semaphore::new(SAVES_MAX)),
            restore: Mutex::default(),
            drilling: tokio::sync::Mutex::default(),
            extracting: Arc::new(Semaphore::new(1)),
            figures: schedule::Figures::default(),
        }
    }
}

impl Snapshots {
    fn restoring(&self) -> MutexGuard<'_, Restoring> {
        self.restore.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a restore; one at a time.
    fn begin(&self, now: Timestamp) -> Result<Begun<'_>, PlanError> {
        let mut restoring = self.restoring();
        if restoring.running.is_some() {
            return Err(PlanError::Unavailable("this node is restoring a snapshot now: wait until it has ended, or cancel it".into()));
        }
        let cancel = CancellationToken::new();
        restoring.running = Some(Running { since: now, received: 0, step: "receiving", cancel: cancel.clone() });
        Ok(Begun { snapshots: self, cancel })
    }

    fn show(&self) -> (Value, Value) {
        let restoring = self.restoring();
        let running = restoring
            .running
            .as_ref()
            .map(|running| json!({ "step": running.step, "since": shown_time(running.since), "received_bytes": running.received }));
        (running.unwrap_or_default(), restoring.last.clone().unwrap_or_default())
    }

    fn cancel(&self) -> bool {
        let restoring = self.restoring();
        restoring.running.as_ref().inspect(|running| running.cancel.cancel()).is_some()
    }
}

/// A restore that runs here, until this is dropped.
struct Begun<'a> {
    snapshots: &'a Snapshots,
    cancel: CancellationToken,
}

impl Begun<'_> {
    fn received(&self, bytes: u64) {
        if let Some(running) = &mut self.snapshots.restoring().running {
            running.received = bytes;
        }
    }

    fn step(&self, step: &'static str) {
        if let Some(running) = &mut self.snapshots.restoring().running {
            running.step = step;
        }
    }

    fn ended(&self, last: Value) {
        self.snapshots.restoring().last = Some(last);
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        // While it arrives, who sends it may go; what is being restored goes on.
        self.snapshots.restoring().running = None;
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn done() -> Outcome {
    Outcome::answer(Answer::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
    }

    #[test]
    fn one_restore_at_a_time_and_none_is_left_behind() {
        let snapshots = Snapshots::default();
        let begun = snapshots.begin(Timestamp(0)).expect("the first");
        begun.received(7);
        begun.step("checking");
        assert!(snapshots.begin(Timestamp(1)).is_err());
        assert_eq!((snapshots.show().0["received_bytes"].clone(), snapshots.show().0["step"].clone()), (7.into(), "checking".into()));
        assert!(snapshots.cancel() && begun.cancel.is_cancelled());
        begun.ended(json!("x"));
        drop(begun);
        assert_eq!((snapshots.show(), snapshots.cancel()), ((Value::Null, json!("x")), false));
        assert!(snapshots.begin(Timestamp(2)).is_ok());
    }
}

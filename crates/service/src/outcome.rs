//! What is asked of the service's own operations, and what comes of them.
//!
//! An operation reads through its [`Scope`] and writes only by the plan it returns. It may be planned several times, on ever
//! fresher records: planning has no effect of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use barrier::{CommitError, Plan, ViewError};
use crypto::{Rng, SecretBytes};
use types::{Path, Timestamp, Verb};

use crate::auth::Logins;
use crate::denials::Denials;
use crate::mount::Mount;
use crate::namespace::Namespace;
use crate::node::Node;
use crate::permit::{Acls, Authority};
use crate::records::Records;
use crate::refused_shares::RefusedShares;
use crate::request::{Answer, Request};
use crate::snapshots::Snapshots;
use crate::store::Store;
use crate::token::Caller;

/// What holds for every request of this service.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long tokens and leases live when nothing else is said.
    pub lease_ttl_default: Duration,
    /// How long they may live.
    pub lease_ttl_max: Duration,
}

impl Default for Settings {
    /// 32 days each, as Vault.
    fn default() -> Settings {
        let month = Duration::from_secs(768 * 3600);
        Settings { lease_ttl_default: month, lease_ttl_max: month }
    }
}

/// All that an operation may look at.
pub(crate) struct Scope<'a> {
    /// The records, from the root.
    pub(crate) records: Records,
    /// The node's clock.
    pub(crate) now: Timestamp,
    pub(crate) rng: &'a dyn Rng,
    pub(crate) settings: &'a Settings,
    pub(crate) request: &'a Request,
    /// The namespace that the path lies in.
    pub(crate) namespace: Arc<Namespace>,
    /// The mount that the path lies in.
    pub(crate) mount: Arc<Mount>,
    /// Who asks; `None` only on routes that are served to everybody.
    pub(crate) caller: Option<Arc<Caller>>,
    /// What the caller's policies allow; `None` where they were not asked.
    pub(crate) authority: Option<Authority>,
    /// For the rules of other tokens.
    pub(crate) acls: &'a Acls,
    pub(crate) denials: &'a Denials,
    /// The node that answers.
    pub(crate) node: &'a dyn Node,
    /// For acts on the cluster rather than on records.
    pub(crate) store: &'a dyn Store,
    /// What this node keeps of logins.
    pub(crate) logins: &'a Logins,
    /// Who has entered wrong shares at this node.
    pub(crate) refused_shares: &'a RefusedShares,
    /// What this node does with snapshots.
    pub(crate) snapshots: &'a Snapshots,
}

impl Scope<'_> {
    /// Who asks, on a route that takes a token.
    pub(crate) fn caller(&self) -> Result<&Arc<Caller>, PlanError> {
        self.caller.as_ref().ok_or(PlanError::Denied)
    }

    /// What the caller's policies allow, also where they were not asked; `None` for who has no token for this namespace.
    pub(crate) fn caller_authority(&self) -> Result<Option<Authority>, PlanError> {
        match &self.caller {
            Some(caller) if caller.namespace.contains(&self.namespace) => self.acls.authority(&self.records, caller, self.now).map(Some),
            _ => Ok(None),
        }
    }

    /// A path below the request's namespace, from the root namespace on; and how its backend keeps it, when that is another spelling.
    pub(crate) fn full_paths(&self, path: &Path) -> Result<(Path, Option<Path>), PlanError> {
        let full = if self.namespace.is_root() { Ok(path.clone()) } else { self.namespace.path.join(path) };
        let full = full.map_err(|error| PlanError::Refused(error.to_string()))?;
        let (mut namespace, mut rest) = (Arc::clone(&self.namespace), path.clone());
        loop {
            if let Some(route) = self.records.mounts(&namespace)?.route(&rest) {
                let kept = crate::backend::kept_path(&full, &route);
                return Ok((full, kept));
            }
            match self.records.inner_namespace(&namespace, &rest)? {
                Some((inner, below)) => (namespace, rest) = (inner, below),
                None => return Ok((full, None)),
            }
        }
    }

    /// Whether the caller may do as it likes here: by `root`, or by `sudo` on the request's path.
    pub(crate) fn is_sudo(&self) -> bool {
        let path = if self.namespace.is_root() { Ok(self.request.path.clone()) } else { self.namespace.path.join(&self.request.path) };
        match (&self.authority, path) {
            (Some(authority), Ok(path)) => {
                let capabilities = authority.acl().capabilities(&path);
                capabilities.contains(&"root") || capabilities.contains(&"sudo")
            }
            _ => false,
        }
    }
}

/// Why an operation was not planned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// What is stored, or what was asked, does not allow it: says how. (400)
    #[error("{0}")]
    Refused(String),
    /// What is stored says that the caller may not. (403)
    #[error("permission denied")]
    Denied,
    /// As above, and the caller may know why. (403)
    #[error("{0}")]
    Forbidden(String),
    /// There is no such thing: says which. (404)
    #[error("{0}")]
    NoSuch(String),
    /// Too often. (429)
    #[error("{0}")]
    TooMany(String),
    /// Not now: says what is missing. (503)
    #[error("{0}")]
    Unavailable(String),
    /// An act on the cluster that was not carried out, or nobody knows.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A record cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A record opened, and makes no sense.
    #[error("a stored record is malformed")]
    Malformed,
}

impl From<engine::PlanError> for PlanError {
    fn from(error: engine::PlanError) -> PlanError {
        match error {
            engine::PlanError::Refused(text) => PlanError::Refused(text),
            engine::PlanError::Denied => PlanError::Denied,
            engine::PlanError::View(error) => PlanError::View(error),
            engine::PlanError::Malformed => PlanError::Malformed,
        }
    }
}

/// A token that an operation asks for. The pipeline makes it, in the same batch as the operation's own writes.
#[derive(Default)]
pub(crate) struct Grant {
    /// Its text instead of a drawn one: only an authorised creator may say it.
    pub(crate) text: Option<crypto::Zeroizing<String>>,
    pub(crate) policies: Vec<String>,
    /// Leave `default` out.
    pub(crate) no_default_policy: bool,
    pub(crate) display_name: String,
    pub(crate) meta: BTreeMap<String, String>,
    /// What the method needs to renew it.
    pub(crate) internal: BTreeMap<String, String>,
    pub(crate) renewable: bool,
    pub(crate) is_batch: bool,
    /// Asked for; zero: the default.
    pub(crate) ttl: Duration,
    /// The method's own bound; zero: none.
    pub(crate) max_ttl: Duration,
    /// A bound that is kept and shown; zero: none.
    pub(crate) explicit_max_ttl: Duration,
    /// Zero: not periodic.
    pub(crate) period: Duration,
    /// Zero: as often as one likes.
    pub(crate) uses: u64,
    pub(crate) role: String,
    pub(crate) bound_cidrs: Vec<String>,
    /// Whose child it is; `None`: an orphan.
    pub(crate) parent: Option<Arc<Caller>>,
    /// The path that is recorded as its maker; empty: the request's.
    pub(crate) path: String,
    /// Never ends. Only for tokens with the policy `root`.
    pub(crate) is_eternal: bool,
    /// No mount made it: it ends with none, and none bounds its life.
    pub(crate) is_of_no_mount: bool,
}

/// What an operation answers.
pub(crate) enum Reply {
    /// As it is.
    Answer(Answer),
    /// A new token.
    Issue(Box<Grant>),
}

/// What an operation comes to: what to write, and what to answer once it is written.
pub(crate) struct Outcome {
    /// Names from the root. Empty for a read.
    pub(crate) plan: Plan,
    /// Sent only when the plan was carried out.
    pub(crate) reply: Reply,
    /// For people.
    pub(crate) warnings: Vec<String>,
}

impl Outcome {
    /// Nothing to write.
    pub(crate) fn answer(answer: Answer) -> Outcome {
        Outcome::written(Plan::new(), answer)
    }

    /// Nothing to write; an object to show.
    pub(crate) fn data(value: &impl serde::Serialize) -> Outcome {
        Outcome::answer(Answer::Data(engine::json(value)))
    }

    /// Something to write, and what to say then.
    pub(crate) fn written(plan: Plan, answer: Answer) -> Outcome {
        Outcome { plan, reply: Reply::Answer(answer), warnings: Vec::new() }
    }

    /// Names to show; nothing there when there are none.
    pub(crate) fn list(names: Vec<String>) -> Outcome {
        Outcome::answer(if names.is_empty() { Answer::NotFound } else { Answer::Data(engine::json(&serde_json::json!({ "keys": names }))) })
    }
}

/// One of several asks that are one request. Confidential: no `Debug`.
pub(crate) struct Part {
    pub(crate) verb: Verb,
    /// Below the request's namespace.
    pub(crate) path: Path,
    pub(crate) body: SecretBytes,
    pub(crate) query: Vec<(String, String)>,
}

/// A parsed ask of the service itself, ready to be planned.
#[async_trait::async_trait]
pub(crate) trait Operation: Send + Sync {
    /// For a write: whether it would make something that is not there yet. `None`: no such difference, it is an update.
    fn is_create(&self, _scope: &Scope<'_>) -> Result<Option<bool>, PlanError> {
        Ok(None)
    }

    /// Whether those who ask this on one path write the same records, so that they had better take turns. Not where many ask on one path for
    /// records of their own.
    fn takes_turns(&self) -> bool {
        true
    }

    /// Of what it consists, if it is not itself what is done: then the pipeline permits, records and plans each part.
    fn parts(&self) -> &[Part] {
        &[]
    }

    /// Reads what it needs and says what to write. Dropped half-way it has done nothing, but for acts on the cluster.
    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError>;
}

struct Planned<F>(F);

#[async_trait::async_trait]
impl<F: Fn(&Scope<'_>) -> Result<Outcome, PlanError> + Send + Sync> Operation for Planned<F> {
    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        (self.0)(scope)
    }
}

/// An operation that waits for nothing.
pub(crate) fn planned(plan: impl Fn(&Scope<'_>) -> Result<Outcome, PlanError> + Send + Sync + 'static) -> Box<dyn Operation> {
    Box::new(Planned(plan))
}

//! What comes in and what goes out: a request, and the answer or the refusal.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use crypto::SecretBytes;
use engine::{AskError, Json};
use futures::stream::BoxStream;
use proto::stored;
use types::capability::Verb;
use types::{Path, RequestId, Timestamp};

/// A request, as a listener has read it. Confidential: no `Debug`.
pub struct Request {
    /// Named in the answer and in every audit record.
    pub id: RequestId,
    /// What to do.
    pub verb: Verb,
    /// The namespace that the caller names beside the path; the root when it names none.
    pub namespace: Path,
    /// Where: canonical, made once by the listener. Below `namespace`; it may lead into namespaces further inside.
    pub path: Path,
    /// The body: JSON within the limits, or empty.
    pub body: SecretBytes,
    /// Query parameters, decoded.
    pub query: Vec<(String, String)>,
    /// The token, if one came.
    pub token: Option<SecretBytes>,
    /// Who calls.
    pub remote: Option<SocketAddr>,
    /// What else came with it, by lower-case names, but for what is secret: for audit records.
    pub headers: Vec<(String, String)>,
    /// For how long the answer is to be wrapped; `None`: not at all.
    pub wrap_ttl: Option<Duration>,
    /// How fresh the state must be that it is answered from.
    pub reading: Reading,
    /// A body that is too large for memory, where one is taken ([`takes_upload`](crate::takes_upload)); `body` is empty then.
    pub upload: Option<Pieces>,
}

/// Bytes that come piece by piece, and are taken once, by whom they are for. Confidential: no `Debug`.
pub struct Pieces {
    stream: Mutex<Option<BoxStream<'static, std::io::Result<Bytes>>>>,
    /// What was made of them, for who plans again.
    made: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
}

impl Pieces {
    /// Those of a stream.
    pub fn new(pieces: BoxStream<'static, std::io::Result<Bytes>>) -> Pieces {
        Pieces { stream: Mutex::new(Some(pieces)), made: Mutex::new(None) }
    }

    /// The pieces; `None` when somebody has taken them.
    pub fn take(&self) -> Option<BoxStream<'static, std::io::Result<Bytes>>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps what was made of them for as long as the request lives.
    pub(crate) fn keep(&self, made: Arc<dyn Any + Send + Sync>) {
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
    }

    /// What was kept, if it is of this type.
    pub(crate) fn kept<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clone()?.downcast().ok()
    }
}

/// How fresh the state must be that a request is answered from: all of it, the caller's token and the policies as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reading {
    /// It holds every write that was acknowledged before, as the node's configuration has that made certain.
    #[default]
    Configured,
    /// As above, and a quorum was asked.
    Quorum,
    /// It may lack what was acknowledged within this time. A request that changes something is answered from the state of now all the same.
    Stale(Duration),
}

/// What a request came to.
pub struct Response {
    /// The request's id.
    pub id: RequestId,
    /// The answer, or why there is none.
    pub outcome: Result<Answer, Refusal>,
    /// For people.
    pub warnings: Vec<String>,
    /// Of a bounded-stale read: nothing older than this is lacking.
    pub age: Option<Duration>,
}

/// An answer. Confidential: no `Debug`.
pub enum Answer {
    /// A JSON value.
    Data(Json),
    /// A JSON value that is good for a while.
    Leased(Json, Lease),
    /// A token, or what became of one.
    Auth(Box<Auth>),
    /// An answer that waits for who holds its token.
    Wrapped(Box<Wrapped>),
    /// Not JSON: as it is.
    Raw(Raw),
    /// Not JSON, and too large for memory.
    Stream(Download),
    /// Done; nothing to show.
    Done,
    /// Taken up, as clients expect of work that takes a while; nothing to show. It may be done already: the warnings say.
    Accepted,
    /// Nothing there.
    NotFound,
    /// Deleted or destroyed: what is left to say of it.
    Gone(Json),
}

/// How long an answer is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Empty when there is nothing to renew or revoke.
    pub id: String,
    /// From now on.
    pub duration: Duration,
    /// Whether it can be renewed.
    pub renewable: bool,
}

/// A wrapped answer, as who asked for it is told of it. Confidential: no `Debug`.
pub struct Wrapped {
    /// The text of the token that it waits for.
    pub token: SecretBytes,
    /// The token's accessor.
    pub accessor: String,
    /// How long it waits, from `created` on.
    pub ttl: Duration,
    /// When it was wrapped.
    pub created: Timestamp,
    /// The path that was asked, within its namespace.
    pub path: String,
    /// The accessor of the token or the secret id in the answer; empty when there is none.
    pub wrapped_accessor: String,
}

impl Wrapped {
    /// The member `wrap_info` of Vault's envelope. Exact size, wiped when dropped.
    pub fn json(&self) -> Json {
        #[derive(serde::Serialize)]
        struct Shown<'a> {
            token: &'a str,
            accessor: &'a str,
            ttl: u64,
            creation_time: String,
            creation_path: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            wrapped_accessor: &'a str,
        }
        engine::json(&Shown {
            // EXPOSE: the token goes to who asked for it.
            token: std::str::from_utf8(self.token.expose()).unwrap_or_default(),
            accessor: &self.accessor,
            ttl: self.ttl.as_secs(),
            creation_time: shown_time(self.created),
            creation_path: &self.path,
            wrapped_accessor: &self.wrapped_accessor,
        })
    }
}

/// A time as clients read it: RFC 3339, in UTC.
pub(crate) fn shown_time(at: Timestamp) -> String {
    i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default().to_string()
}

/// An answer that is not JSON.
pub struct Raw {
    /// Its media type.
    pub content_type: String,
    /// The body.
    pub body: SecretBytes,
}

/// An answer that is made while it is sent. An error in it means that it is not whole.
pub struct Download {
    /// Its media type.
    pub content_type: String,
    /// Under which name it may be kept.
    pub file_name: String,
    /// The body.
    pub body: Pieces,
}

/// A token as its maker, or who renews it, is told of it. Confidential: no `Debug`.
pub struct Auth {
    /// The token's text. Empty when it is not told again.
    pub client_token: SecretBytes,
    /// Stands for the token where its text would be too much.
    pub accessor: String,
    /// What it may.
    pub policies: Vec<String>,
    /// For people and templates.
    pub metadata: BTreeMap<String, String>,
    /// From now on; zero: it never ends.
    pub ttl: Duration,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// `service` or `batch`.
    pub is_batch: bool,
    /// Whether its end is no other token's.
    pub orphan: bool,
    /// Uses that are left; 0: as many as one likes.
    pub uses: u64,
}

impl Auth {
    /// What the record says, with the token's text.
    pub(crate) fn of(client_token: SecretBytes, token: &stored::Token) -> Auth {
        Auth {
            client_token,
            accessor: token.accessor.clone(),
            policies: token.policies.clone(),
            metadata: token.meta.clone().into_iter().collect(),
            ttl: Duration::from_millis(token.ttl_ms),
            renewable: token.renewable,
            is_batch: token.batch,
            orphan: token.orphan,
            uses: token.uses_left,
        }
    }

    /// The member `auth` of Vault's envelope. Exact size, wiped when dropped.
    pub fn json(&self) -> Json {
        #[derive(serde::Serialize)]
        struct Shown<'a> {
            client_token: &'a str,
            accessor: &'a str,
            policies: &'a [String],
            token_policies: &'a [String],
            identity_policies: Option<&'a [String]>,
            metadata: Option<&'a BTreeMap<String, String>>,
            lease_duration: u64,
            renewable: bool,
            entity_id: &'static str,
            token_type: &'static str,
            orphan: bool,
            mfa_requirement: Option<&'a str>,
            num_uses: u64,
        }
        engine::json(&Shown {
            // EXPOSE: the token goes to who asked for it.
            client_token: std::str::from_utf8(self.client_token.expose()).unwrap_or_default(),
            accessor: &self.accessor,
            policies: &self.policies,
            token_policies: &self.policies,
            identity_policies: None,
            metadata: if self.metadata.is_empty() { None } else { Some(&self.metadata) },
            lease_duration: self.ttl.as_secs(),
            renewable: self.renewable,
            entity_id: "",
            token_type: if self.is_batch { "batch" } else { "service" },
            orphan: self.orphan,
            mfa_requirement: None,
            num_uses: self.uses,
        })
    }
}

/// Why a request was not answered. The texts are for the caller and hold nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No token, a wrong one, or one without the right. One text for all three.
    #[error("permission denied")]
    Denied,
    /// Nothing is mounted there.
    #[error("no handler for route {0:?}. route entry not found.")]
    NoRoute(String),
    /// The engine has no such operation, or the body does not fit it.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// What is stored does not allow it: says how.
    #[error("{0}")]
    Refused(String),
    /// The caller may not, and may know why.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such thing.
    #[error("{0}")]
    NoSuch(String),
    /// Too often: later.
    #[error("{0}")]
    TooMany(String),
    /// Larger than an entry of the log may be; nothing was written.
    #[error("the write is too large")]
    TooLarge,
    /// Others wrote the same records again and again; nothing was written. Safe to try again.
    #[error("too many writes to the same records at once; nothing was written")]
    Contended,
    /// The barrier is sealed.
    #[error("Vault is sealed")]
    Sealed,
    /// Not now: says what is missing.
    #[error("{0}")]
    Unavailable(String),
    /// No leader with a quorum; nothing was written. Safe to try again.
    #[error("no leader with a quorum; nothing was written")]
    NoLeader,
    /// The disk of this node or of the leader is almost full; nothing was written.
    #[error("the disk is almost full; nothing was written (make room on the nodes' disks, and try again)")]
    DiskFull,
    /// It may have been written, or may yet be.
    #[error("the fate of the write is unknown: read before you try again")]
    Indeterminate,
    /// No audit device took the record, so nothing was done, or nothing is told of what was done.
    #[error("no audit device could record this request")]
    Audit,
    /// Our fault: see the trace of this request.
    #[error("internal error")]
    Internal,
}

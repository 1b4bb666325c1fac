//! What comes in and what goes out: a request, and the answer or the refusal.

use std::net::SocketAddr;

use crypto::SecretBytes;
use engine::{AskError, Json};
use types::capability::Verb;
use types::{Path, RequestId};

/// A request, as a listener has read it. Confidential: no `Debug`.
pub struct Request {
    /// Named in the answer and in every audit record.
    pub id: RequestId,
    /// What to do.
    pub verb: Verb,
    /// Where: canonical, made once by the listener.
    pub path: Path,
    /// The body: JSON within the limits, or empty.
    pub body: SecretBytes,
    /// Query parameters, decoded.
    pub query: Vec<(String, String)>,
    /// The token, if one came.
    pub token: Option<SecretBytes>,
    /// Who calls.
    pub remote: Option<SocketAddr>,
}

/// What a request came to.
pub struct Response {
    /// The request's id.
    pub id: RequestId,
    /// The answer, or why there is none.
    pub outcome: Result<Answer, Refusal>,
    /// For people.
    pub warnings: Vec<String>,
}

/// An answer. Confidential: no `Debug`.
pub enum Answer {
    /// A JSON value.
    Data(Json),
    /// Done; nothing to show.
    Done,
    /// Nothing there.
    NotFound,
    /// Deleted or destroyed: what is left to say of it.
    Gone(Json),
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
    /// Larger than an entry of the log may be; nothing was written.
    #[error("the write is too large")]
    TooLarge,
    /// Others wrote the same records again and again; nothing was written. Safe to try again.
    #[error("too many writes to the same records at once; nothing was written")]
    Contended,
    /// The barrier is sealed.
    #[error("Vault is sealed")]
    Sealed,
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

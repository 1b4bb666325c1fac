//! What a call can end with besides an answer. Holds addresses, paths, statuses and the server's own words: never a token,
//! a share or a value.

use std::fmt;
use std::sync::Arc;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A node answered, and said no. Nothing was changed.
    #[error("{0}")]
    Refused(Box<Refusal>),

    /// No node could take it, within the deadline or the retries. Nothing was changed.
    #[error("{ask}: no node could take it: {}", Attempts(tried))]
    Unavailable {
        /// Method and path.
        ask: String,
        /// The last failure at each address.
        tried: Vec<Attempt>,
    },

    /// A write was sent, and its fate is unknown: it may be applied, now or later. Read before you write again.
    #[error("{ask}: sent, but whether it was applied is unknown: {last}")]
    Indeterminate {
        /// Method and path.
        ask: String,
        /// What happened at the node that may have applied it.
        last: Box<Attempt>,
    },

    /// A node answered with something that is not in the API.
    #[error("{ask}: the answer of {address} is not understood: {reason}")]
    Malformed {
        /// Method and path.
        ask: String,
        /// Who answered.
        address: Arc<str>,
        /// What is wrong with it; holds no content.
        reason: String,
    },

    /// The caller's own input cannot be sent.
    #[error("{reason}")]
    Input {
        /// What is wrong with it, and the cure.
        reason: String,
    },
}

impl Error {
    /// The status of the refusal, or of the last failure that had one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Refused(refusal) => Some(refusal.status),
            Error::Unavailable { tried, .. } => tried.iter().rev().find_map(|attempt| attempt.failure.status()),
            Error::Indeterminate { last, .. } => last.failure.status(),
            Error::Malformed { .. } | Error::Input { .. } => None,
        }
    }

    /// Whether a node that was reached is sealed, and so could not answer.
    pub fn is_sealed(&self) -> bool {
        let says_sealed = |messages: &[String]| messages.iter().any(|message| message.contains("sealed"));
        match self {
            Error::Refused(refusal) => refusal.status == 503 && says_sealed(&refusal.errors),
            Error::Unavailable { tried, .. } => tried.iter().any(|attempt| match &attempt.failure {
                Failure::Status { status: 503, errors } => says_sealed(errors),
                _ => false,
            }),
            Error::Indeterminate { .. } | Error::Malformed { .. } | Error::Input { .. } => false,
        }
    }

    /// The server's name of the request that it refused.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Error::Refused(refusal) => refusal.request_id.as_deref(),
            Error::Unavailable { .. } | Error::Indeterminate { .. } | Error::Malformed { .. } | Error::Input { .. } => None,
        }
    }

    /// Whether the server answered "not found": no such path, no such version, or an empty list.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Refused(refusal) if refusal.status == 404)
    }
}

/// A node's "no".
#[derive(Debug, Clone)]
pub struct Refusal {
    /// HTTP's; gRPC's codes are translated (NOT_FOUND 404, PERMISSION_DENIED and UNAUTHENTICATED 403, UNIMPLEMENTED 501,
    /// all others 400).
    pub status: u16,
    /// The server's words; empty for "not found".
    pub errors: Vec<String>,
    /// Method and path.
    pub ask: String,
    /// Who answered.
    pub address: Arc<str>,
    /// The server's name of this request, in its audit log and for [`Sys::explain`](crate::Sys::explain); from Conclave only.
    pub request_id: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: status {}", self.ask, self.address, self.status)?;
        Words(&self.errors).fmt(f)
    }
}

/// One address, and why it gave no answer.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Who was asked.
    pub address: Arc<str>,
    /// What happened.
    pub failure: Failure,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.failure)
    }
}

/// What happened at one node.
#[derive(Debug, Clone)]
pub enum Failure {
    /// No connection: nothing was sent. Holds the cause.
    Connect(String),
    /// No connection, because the two sides do not agree on TLS; waiting does not help. Holds the cause.
    Tls(String),
    /// No answer in time.
    Timeout,
    /// The connection broke while the answer was awaited. Holds the cause.
    Broken(String),
    /// The node answered that it cannot serve this now.
    Status {
        /// HTTP's; for gRPC UNAVAILABLE is 503, RESOURCE_EXHAUSTED 429, all others 500.
        status: u16,
        /// The server's words.
        errors: Vec<String>,
    },
}

impl Failure {
    /// The status, when there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Failure::Status { status, .. } => Some(*status),
            Failure::Connect(_) | Failure::Tls(_) | Failure::Timeout | Failure::Broken(_) => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect(cause) => write!(f, "no connection ({cause})"),
            Failure::Tls(cause) => write!(f, "no TLS connection ({cause})"),
            Failure::Timeout => write!(f, "no answer in time"),
            Failure::Broken(cause) => write!(f, "connection lost ({cause})"),
            Failure::Status { status, errors } => {
                write!(f, "status {status}")?;
                Words(errors).fmt(f)
            }
        }
    }
}

/// The server's words, behind a colon; nothing when there are none.
struct Words<'a>(&'a [String]);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, message) in self.0.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { ": " } else { "; " }, message.trim())?;
        }
        Ok(())
    }
}

struct Attempts<'a>(&'a [Attempt]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(f, "the deadline was over before any was asked");
        }
        for (at, attempt) in self.0.iter().enumerate() {
            write!(f, "{}{attempt}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

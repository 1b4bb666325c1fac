//! What the node around the service tells of itself. The service decides who may ask.

use bytes::Bytes;
use engine::route::Outline;
use futures::stream::BoxStream;
use serde_json::Value;
use types::capability::Verb;

use crate::request::Refusal;

/// The software that a node runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Software {
    /// Its own version, not the one of the API that it speaks.
    pub version: String,
    /// When its sources are from, RFC 3339; empty when the build does not say.
    pub source_date: String,
}

/// How detailed traces are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceLevel {
    /// Everything.
    Trace,
    /// What a developer wants to know.
    Debug,
    /// A state has changed.
    Info,
    /// To be looked at tomorrow.
    Warn,
    /// Wake someone.
    Error,
}

/// How traces are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceFormat {
    /// A line for people, as Vault writes it.
    Standard,
    /// An object a line.
    Json,
}

/// A request that was answered, as it is counted. Holds no path and no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counted<'a> {
    /// The kind of mount that it went to: one of those that there are here, or `none` where nothing is mounted.
    pub mount_type: &'a str,
    /// What was asked.
    pub verb: Verb,
    /// How it ended.
    pub result: Verdict,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As asked; also when there is nothing at that place.
    Done,
    /// The caller may not.
    Denied,
    /// It cannot be done: the caller's mistake, or what is stored does not allow it.
    Refused,
    /// The node or the cluster could not: sealed, no leader, a full disk, no audit record, a fault of ours.
    Failed,
}

impl Verdict {
    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Done => "done",
            Verdict::Denied => "denied",
            Verdict::Refused => "refused",
            Verdict::Failed => "failed",
        }
    }

    pub(crate) fn of(refusal: Option<&Refusal>) -> Verdict {
        match refusal {
            None => Verdict::Done,
            Some(Refusal::Denied | Refusal::Forbidden(_)) => Verdict::Denied,
            Some(
                Refusal::NoRoute(_)
                | Refusal::Ask(_)
                | Refusal::Refused(_)
                | Refusal::NoSuch(_)
                | Refusal::TooMany(_)
                | Refusal::TooLarge
                | Refusal::Contended,
            ) => Verdict::Refused,
            Some(
                Refusal::Sealed
                | Refusal::Unavailable(_)
                | Refusal::NoLeader
                | Refusal::DiskFull
                | Refusal::Indeterminate
                | Refusal::Audit
                | Refusal::Internal,
            ) => Verdict::Failed,
        }
    }
}

/// The node's facts. None holds a secret, a token, or a path beyond its mount.
pub trait Node: Send + Sync + 'static {
    /// The Vault-like version that clients are told.
    fn version(&self) -> String;

    /// What it runs.
    fn software(&self) -> Software;

    /// The machine.
    fn host_info(&self) -> Value;

    /// The requests under way, by id.
    fn in_flight(&self) -> Value;

    /// All metrics: media type and text. `format` as the query says it, `accept` as the header does. An error text for the caller.
    fn metrics(&self, format: Option<&str>, accept: Option<&str>) -> Result<(String, String), String>;

    /// The configuration without what is secret in it.
    fn configuration(&self) -> Value;

    /// The node's traces from now on, as they come; they end with the service. `None`: not to be had, or too many follow them already.
    fn follow_traces(&self, _level: TraceLevel, _format: TraceFormat) -> Option<BoxStream<'static, std::io::Result<Bytes>>> {
        None
    }

    /// Counts a request that was answered. Must be quick: every request waits for it.
    fn count(&self, _counted: Counted<'_>) {}

    /// Routes that the node serves by itself, below no mount, to everybody.
    fn routes(&self) -> Vec<Outline>;
}

//! Decisions: what is asked of an [`Acl`](super::acl::Acl), what it answers, and which rule decided.
//!
//! Always: an answer names the rule it comes from, so that it can be explained. A [`Denial`] is for those who may see policies; the caller who
//! was denied learns nothing of it.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};
use types::{Capability, Path, Verb, duration};

use super::acl::RuleRef;
use super::capabilities::Capabilities;
use super::filter::ListFilter;
use super::text::Wrapping;

/// May someone do this here?
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// Where, from the root namespace on: `ns1/secret/data/x`. For a list, `p` and `p/` are one.
    pub path: &'a Path,
    /// What.
    pub verb: Verb,
    /// For a write: whether it makes something new. `None`: not known yet; then the right to create or to update is enough, and the asker must
    /// look at [`Allowed::capabilities`] as soon as it knows.
    pub is_create: Option<bool>,
    /// Whether the route needs `sudo` besides.
    pub is_sudo: bool,
    /// For how long the caller wants the answer wrapped. `None`: not at all.
    pub wrap_ttl: Option<Duration>,
    /// The request's parameters. Asked only if the rule that decides looks at them, so they may be parsed then.
    pub parameters: &'a dyn Fields,
}

/// The parameters of a request: fields of the body, or of the query.
pub trait Fields {
    /// The fields. `None`: there are none. The same at each call.
    fn fields(&self) -> Option<&Map<String, Value>>;
}

/// No parameters.
#[derive(Debug, Clone, Copy)]
pub struct NoFields;

impl Fields for NoFields {
    fn fields(&self) -> Option<&Map<String, Value>> {
        None
    }
}

impl Fields for Map<String, Value> {
    fn fields(&self) -> Option<&Map<String, Value>> {
        Some(self)
    }
}

impl Fields for Option<Map<String, Value>> {
    fn fields(&self) -> Option<&Map<String, Value>> {
        self.as_ref()
    }
}

impl fmt::Debug for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question")
            .field("path", self.path)
            .field("verb", &self.verb)
            .field("is_create", &self.is_create)
            .finish_non_exhaustive()
    }
}

impl<'a> Question<'a> {
    /// Asks for `verb` at `path`: not known whether a write creates, no sudo, no wrapping, no parameters.
    pub fn new(path: &'a Path, verb: Verb) -> Question<'a> {
        Question { path, verb, is_create: None, is_sudo: false, wrap_ttl: None, parameters: &NoFields }
    }

    /// The capabilities of which one is needed.
    pub fn needed(&self) -> Capabilities {
        let one = |capability| Capabilities::of(capability);
        match (self.verb, self.is_create) {
            (Verb::Read, _) => one(Capability::Read),
            (Verb::Write, Some(true)) => one(Capability::Create),
            (Verb::Write, Some(false)) => one(Capability::Update),
            (Verb::Write, None) => one(Capability::Create) | one(Capability::Update),
            (Verb::Patch, _) => one(Capability::Patch),
            (Verb::Delete, _) => one(Capability::Delete),
            (Verb::List, _) => one(Capability::List),
            (Verb::Scan, _) => one(Capability::Scan),
        }
    }

    /// Whether names are asked for.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.verb, Verb::List | Verb::Scan)
    }
}

/// The answer to a [`Question`].
#[derive(Debug, Clone, Copy)]
pub enum Decision<'a> {
    /// Yes, on these terms.
    Allowed(Allowed<'a>),
    /// No.
    Denied(Denial<'a>),
}

impl<'a> Decision<'a> {
    /// Whether it is yes.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allowed(_))
    }

    /// The terms; or why not.
    pub fn into_result(self) -> Result<Allowed<'a>, Denial<'a>> {
        match self {
            Decision::Allowed(allowed) => Ok(allowed),
            Decision::Denied(denial) => Err(denial),
        }
    }
}

/// The terms on which something is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Allowed<'a> {
    /// All that the rule grants at this path.
    pub capabilities: Capabilities,
    /// The rule. `None`: the policy `root`.
    pub rule: Option<RuleRef<'a>>,
    /// The bounds within which the answer must be wrapped; what was asked for is within them.
    pub wrapping: Wrapping,
    /// For a list: the limit to use in place of the one that was asked for. 0 is no limit. `None`: the one that was asked for.
    pub limit: Option<u64>,
    /// For a list: which keys may be shown.
    pub list_filter: Option<&'a ListFilter>,
}

/// Why something is denied.
#[derive(Debug, Clone, Copy)]
pub struct Denial<'a> {
    /// Why.
    pub reason: Reason<'a>,
    /// The rule that decided. `None`: none matches.
    pub rule: Option<RuleRef<'a>>,
}

/// The first condition that was not met. Names of parameters are the request's: confidential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason<'a> {
    /// No rule matches the path.
    NoRule,
    /// The rule says `deny`.
    Deny,
    /// The rule grants none of these.
    Capability(Capabilities),
    /// The path needs `sudo`, which the rule does not grant.
    Sudo,
    /// The answer must be wrapped, for a time within bounds.
    Wrapping {
        /// The rule's.
        bounds: Wrapping,
        /// What was asked for.
        asked: Option<Duration>,
    },
    /// This parameter must be there.
    ParameterMissing(&'a str),
    /// No parameter may be there.
    ParametersDenied,
    /// This parameter must not be there, or not with this value.
    ParameterDenied(&'a str),
    /// This parameter is not among those that may be there.
    ParameterNotAllowed(&'a str),
    /// This parameter may be there, but not with this value.
    ParameterValueNotAllowed(&'a str),
    /// The list must be asked for in pages.
    LimitMissing(u64),
    /// The list must be asked for in pages no larger than this.
    Limit(u64),
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoRule => f.write_str("no rule matches the path"),
            Reason::Deny => f.write_str("the rule denies everything"),
            Reason::Capability(needed) => write!(f, "the rule does not grant {}", needed.names().join(" or ")),
            Reason::Sudo => f.write_str("the path needs sudo, which the rule does not grant"),
            Reason::Wrapping { bounds, asked } => {
                f.write_str("the answer must be wrapped")?;
                if let Some(min) = bounds.min {
                    write!(f, " for at least {}", duration::print(min))?;
                }
                if let Some(max) = bounds.max {
                    write!(f, " for at most {}", duration::print(max))?;
                }
                match asked {
                    Some(asked) => write!(f, ", not for {}", duration::print(*asked)),
                    None => Ok(()),
                }
            }
            Reason::ParameterMissing(name) => write!(f, "the parameter {name:?} is required"),
            Reason::ParametersDenied => f.write_str("every parameter is denied"),
            Reason::ParameterDenied(name) => write!(f, "the parameter {name:?} is denied, or has a value that is"),
            Reason::ParameterNotAllowed(name) => write!(f, "the parameter {name:?} is not among those allowed"),
            Reason::ParameterValueNotAllowed(name) => write!(f, "the parameter {name:?} has a value that is not allowed"),
            Reason::LimitMissing(max) => write!(f, "the list must be asked for with a limit, of at most {max}"),
            Reason::Limit(max) => write!(f, "the list's limit must be a number from 0 to {max}, or max"),
        }
    }
}

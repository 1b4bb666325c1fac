//! Denials: why a request was denied, for who may ask. The one who was denied learns nothing.
//!
//! Always: bounded; kept in this node's memory alone, and gone with its seal. Holds paths and names of policies and parameters, no values.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use types::{Path, RequestId, Timestamp, Verb};

/// Denials that are kept, at most: the newest.
pub(crate) const DENIALS_MAX: usize = 10_000;

/// One denied request.
#[derive(Clone)]
pub(crate) struct Denied {
    pub(crate) id: RequestId,
    pub(crate) time: Timestamp,
    /// From the root namespace on.
    pub(crate) path: Path,
    /// As its backend keeps it, when that is another spelling.
    pub(crate) kept: Option<Path>,
    pub(crate) verb: Verb,
    /// What a write would have been.
    pub(crate) is_create: bool,
    pub(crate) is_sudo: bool,
    pub(crate) wrap_ttl: Option<Duration>,
    /// The namespace of the caller's token, by its id.
    pub(crate) namespace_id: String,
    /// The caller's.
    pub(crate) accessor: String,
    pub(crate) policies: Vec<String>,
    /// The first condition that was not met.
    pub(crate) reason: String,
    /// The path of the rule that decided, and the policies that have it; `None`: no rule matched.
    pub(crate) rule: Option<(String, Vec<String>)>,
}

/// The newest denials.
#[derive(Default)]
pub(crate) struct Denials {
    kept: Mutex<VecDeque<Denied>>,
}

impl Denials {
    /// Keeps one; the oldest makes room for it.
    pub(crate) fn keep(&self, denied: Denied) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= DENIALS_MAX {
            kept.pop_front();
        }
        kept.push_back(denied);
    }

    /// The denial of a request, if it is still known.
    pub(crate) fn find(&self, id: &str) -> Option<Denied> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().rev().find(|denied| denied.id.to_string() == id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> Denied {
        Denied {
            id: RequestId::generate(),
            time: Timestamp(0),
            path: Path::root(),
            kept: None,
            verb: Verb::Read,
            is_create: false,
            is_sudo: false,
            wrap_ttl: None,
            namespace_id: "root".into(),
            accessor: String::new(),
            policies: Vec::new(),
            reason: String::new(),
            rule: None,
        }
    }

    #[test]
    fn the_newest_are_kept_and_no_more() {
        let denials = Denials::default();
        let (first, last) = (denied(), denied());
        denials.keep(first.clone());
        assert!(denials.find(&first.id.to_string()).is_some());
        for _ in 1..DENIALS_MAX {
            denials.keep(denied());
        }
        denials.keep(last.clone());
        assert!(denials.find(&first.id.to_string()).is_none() && denials.find(&last.id.to_string()).is_some());
        assert_eq!(denials.kept.lock().unwrap().len(), DENIALS_MAX);
    }
}

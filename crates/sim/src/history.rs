//! [`History`]: what the clients asked, when, and what came of it.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::linearizability::OperationOf;
use crate::linearizability::register::{Action, Answer, Register};

/// An operation and the key of its register.
pub type Entry = (usize, OperationOf<Register>);

/// A version whose write was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// Which register.
    pub key: usize,
    /// The version's number.
    pub version: u64,
    /// What was written.
    pub value: u64,
}

/// A history that grows. Clones are the same one.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// Counts calls and returns: since all clients live in one thread, this is their true order.
    moment: u64,
    /// `None`: certainly did not take effect.
    entries: Vec<Option<Entry>>,
}

/// An operation that was called and has not returned.
#[must_use]
pub struct Call(usize);

impl History {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("nothing panics while it holds the history")
    }

    /// A client calls.
    pub fn call(&self, client: usize, key: usize, action: Action) -> Call {
        let mut inner = self.inner();
        inner.moment += 1;
        let called = inner.moment;
        inner.entries.push(Some((key, OperationOf::<Register> { client, action, called, returned: None })));
        Call(inner.entries.len() - 1)
    }

    /// The call was answered.
    pub fn answered(&self, call: Call, answer: Answer) {
        let mut inner = self.inner();
        inner.moment += 1;
        let returned = inner.moment;
        if let Some((_, operation)) = &mut inner.entries[call.0] {
            operation.returned = Some((returned, answer));
        }
    }

    /// The call certainly did not take effect.
    pub fn refused(&self, call: Call) {
        self.inner().entries[call.0] = None;
    }

    /// Nobody knows whether the call took effect, or will.
    pub fn unknown(&self, call: Call) {
        let mut inner = self.inner();
        // A read that was not answered says nothing.
        if matches!(&inner.entries[call.0], Some((_, operation)) if operation.action == Action::Read) {
            inner.entries[call.0] = None;
        }
    }

    /// What may have taken effect.
    pub fn entries(&self) -> Vec<Entry> {
        self.inner().entries.iter().flatten().cloned().collect()
    }

    /// Every write that was acknowledged so far.
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        let written = |(key, operation): &Entry| match (operation.action, &operation.returned) {
            (Action::Write(value) | Action::CompareAndSet { value, .. }, Some((_, Answer::Written(version)))) => {
                Some(Acknowledged { key: *key, version: *version, value })
            }
            _ => None,
        };
        self.inner().entries.iter().flatten().filter_map(written).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_happen_is_left_out_and_what_may_have_stays() {
        let history = History::default();
        let written = history.call(0, 7, Action::Write(1));
        let refused = history.call(1, 7, Action::Write(2));
        let lost = history.call(2, 7, Action::Write(3));
        let unseen = history.call(3, 7, Action::Read);
        history.answered(written, Answer::Written(1));
        history.refused(refused);
        history.unknown(lost);
        history.unknown(unseen);
        let entries: Vec<_> = history.entries().into_iter().map(|(_, operation)| (operation.client, operation.returned)).collect();
        assert_eq!(entries, [(0, Some((5, Answer::Written(1)))), (2, None)]);
        assert_eq!(history.acknowledged(), [Acknowledged { key: 7, version: 1, value: 1 }]);
    }
}

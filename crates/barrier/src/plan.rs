//! A plan: what an engine read, and what it wants written, in plaintext. The barrier turns it into a batch.

use crypto::SecretBytes;
use types::Revision;

use crate::name::Name;

/// What to do, and under which condition. Names are relative to the view that the plan was made from.
#[derive(Default)]
pub struct Plan {
    pub(crate) expectations: Vec<(Name, Revision)>,
    pub(crate) writes: Vec<(Name, Option<SecretBytes>)>,
}

impl Plan {
    /// Nothing read, nothing to write.
    pub fn new() -> Plan {
        Plan::default()
    }

    /// Holds only if the record is still at this revision when the plan is carried out ([`Revision::ABSENT`]: still not there).
    pub fn expect(&mut self, name: Name, revision: Revision) {
        self.expectations.push((name, revision));
    }

    /// Writes a record.
    pub fn put(&mut self, name: Name, value: SecretBytes) {
        self.writes.push((name, Some(value)));
    }

    /// Deletes a record; one that is not there stays so.
    pub fn delete(&mut self, name: Name) {
        self.writes.push((name, None));
    }

    /// Whether nothing is to be written: such a plan needs no commit.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

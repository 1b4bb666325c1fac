//! A plan: what an engine read, and what it wants written, in plaintext. The barrier turns it into a batch.

use bytes::Bytes;
use crypto::SecretBytes;
use storage::Expectation;
use types::Revision;

use crate::name::Name;

/// What to do, and under which condition. Names are relative to the view that the plan was made from.
#[derive(Default)]
pub struct Plan {
    pub(crate) expectations: Vec<(Name, Revision)>,
    pub(crate) writes: Vec<(Name, Option<SecretBytes>)>,
    /// Records to delete whose names nobody needs to read.
    pub(crate) erased: Vec<SealedKey>,
    /// What a view has noted of the records that were read.
    pub(crate) noted: Vec<Expectation>,
}

/// The storage key of a record that was found, not named: enough to delete it. See [`View::keys_below`](crate::View::keys_below).
#[derive(Clone)]
pub struct SealedKey(pub(crate) Bytes);

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

    /// Deletes a record that was found by its storage key.
    pub fn erase(&mut self, key: SealedKey) {
        self.erased.push(key);
    }

    /// Whether nothing is to be written: such a plan needs no commit.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.erased.is_empty()
    }

    /// The records that it writes or deletes by name.
    pub fn written(&self) -> impl Iterator<Item = &Name> {
        self.writes.iter().map(|(name, _)| name)
    }

    /// How many records it writes or deletes.
    pub fn len(&self) -> usize {
        self.writes.len() + self.erased.len()
    }

    /// How many values it encrypts.
    pub(crate) fn encryptions(&self) -> u64 {
        self.writes.iter().filter(|(_, value)| value.is_some()).count() as u64
    }

    /// The same plan, seen from further out: every name continues `root`.
    #[must_use]
    pub fn below(self, root: &Name) -> Plan {
        let moved = |name: Name| root.join(name.as_str());
        Plan {
            expectations: self.expectations.into_iter().map(|(name, revision)| (moved(name), revision)).collect(),
            writes: self.writes.into_iter().map(|(name, value)| (moved(name), value)).collect(),
            erased: self.erased,
            noted: self.noted,
        }
    }

    /// Both plans as one: they are carried out together or not at all. Of two writes to one record the later holds.
    pub fn append(&mut self, more: Plan) {
        self.expectations.extend(more.expectations);
        self.writes.extend(more.writes);
        self.erased.extend(more.erased);
        self.noted.extend(more.noted);
    }
}

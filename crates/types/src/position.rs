//! Positions in the replicated log: [`Term`], [`Index`], both together, and the [`Revision`] of a key.

use std::fmt;

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

counter! {
    /// A Raft term: the reign of at most one leader.
    Term
}
counter! {
    /// The place of an entry in the replicated log. Openraft's first entry (the first membership) has index 0.
    Index
}
counter! {
    /// The [`Index`] of the entry that last wrote a key, plus one. `Revision::ABSENT` says that the key is not there.
    Revision
}

impl Index {
    /// The index after this one.
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }
}

impl Revision {
    /// No such key.
    pub const ABSENT: Revision = Revision(0);

    /// The revision that the entry at `index` gives to each key it writes.
    pub fn at(index: Index) -> Revision {
        Revision(index.0 + 1)
    }
}

/// An entry's place and the term that put it there. Ordered by term, then index, as Raft compares logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The term of the leader that appended the entry.
    pub term: Term,
    /// The entry's place.
    pub index: Index,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}

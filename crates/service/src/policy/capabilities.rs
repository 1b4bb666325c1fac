//! Capabilities: a set of [`Capability`], in one word.
//!
//! Knows nothing of paths or policies; that `deny` outweighs the others is for the rules to say.

use std::fmt;
use std::ops::{BitAnd, BitOr};

use types::Capability;

/// A set of capabilities. Cheap to copy; iterates in the order of [`Capability::ALL`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Capabilities(u16);

impl Capabilities {
    /// The empty set.
    pub const NONE: Capabilities = Capabilities(0);
    /// Everything that can be granted: all but `deny`.
    pub const ALL: Capabilities = Capabilities(((1 << Capability::ALL.len()) - 1) & !(1 << Capability::Deny as u16));

    /// Whether `capability` is in the set.
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & Capabilities::of(capability).0 != 0
    }

    /// Whether any of `others` is in the set.
    pub const fn has_any(self, others: Capabilities) -> bool {
        self.0 & others.0 != 0
    }

    /// Whether nothing is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set without `capability`.
    pub const fn without(self, capability: Capability) -> Capabilities {
        Capabilities(self.0 & !Capabilities::of(capability).0)
    }

    /// What is in the set, in the order of [`Capability::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.iter().copied().filter(move |capability| self.has(*capability))
    }

    /// The texts, in alphabetical order, as `sys/capabilities` prints them.
    pub fn names(self) -> Vec<&'static str> {
        let mut names: Vec<&str> = self.iter().map(Capability::as_str).collect();
        names.sort_unstable();
        names
    }

    /// The set of one.
    pub const fn of(capability: Capability) -> Capabilities {
        Capabilities(1 << capability as u16)
    }
}

impl BitOr for Capabilities {
    type Output = Capabilities;

    fn bitor(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }
}

impl BitAnd for Capabilities {
    type Output = Capabilities;

    fn bitand(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & other.0)
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Capabilities {
        capabilities.into_iter().fold(Capabilities::NONE, |set, capability| set | Capabilities::of(capability))
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_and_no_more() {
        let set: Capabilities = [Capability::Update, Capability::Create, Capability::Update].into_iter().collect();
        for &capability in Capability::ALL {
            assert_eq!(set.has(capability), matches!(capability, Capability::Create | Capability::Update), "{capability}");
            assert!(!Capabilities::NONE.has(capability));
            assert_eq!(Capabilities::ALL.has(capability), capability != Capability::Deny, "{capability}");
        }
        assert_eq!(set.names(), ["create", "update"]);
        assert_eq!(set.without(Capability::Update), Capabilities::of(Capability::Create));
    }
}

//! [`FeatureLevel`]: what a cluster may write, counted up by one with every release that stores or sends something new.

use std::fmt;

/// A cluster's feature level. Formats of a higher one are not written before every member reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeatureLevel(pub u32);

impl FeatureLevel {
    /// The first: what a cluster without a record of its level is at.
    pub const FIRST: FeatureLevel = FeatureLevel(1);
}

impl fmt::Display for FeatureLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The levels that a binary can work at: it reads what was written at each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureLevels {
    /// The lowest. What was written below it is not read any more.
    pub min: FeatureLevel,
    /// The highest.
    pub max: FeatureLevel,
}

/// A level that a binary does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnknownLevel {
    /// A newer release has raised it.
    #[error("feature level {found}, of which this release knows nothing (it reads {} to {})", levels.min, levels.max)]
    Newer {
        /// What was found.
        found: FeatureLevel,
        /// What this binary knows.
        levels: FeatureLevels,
    },
    /// This release has left it behind.
    #[error("feature level {found}, which this release does not read any more (it reads {} to {})", levels.min, levels.max)]
    Older {
        /// What was found.
        found: FeatureLevel,
        /// What this binary knows.
        levels: FeatureLevels,
    },
}

impl FeatureLevels {
    /// Whether a binary of these levels may touch what is at `found`.
    pub fn check(self, found: FeatureLevel) -> Result<(), UnknownLevel> {
        if found > self.max {
            return Err(UnknownLevel::Newer { found, levels: self });
        }
        if found < self.min {
            return Err(UnknownLevel::Older { found, levels: self });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_is_refused_with_both_sides_named() {
        let levels = FeatureLevels { min: FeatureLevel(2), max: FeatureLevel(3) };
        for (found, said) in [
            (1, Some("feature level 1, which this release does not read any more (it reads 2 to 3)")),
            (2, None),
            (3, None),
            (4, Some("feature level 4, of which this release knows nothing (it reads 2 to 3)")),
        ] {
            assert_eq!(levels.check(FeatureLevel(found)).err().map(|error| error.to_string()).as_deref(), said);
        }
    }
}

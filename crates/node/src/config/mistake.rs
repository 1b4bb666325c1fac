//! Mistakes: what is wrong in a configuration, where, and what to write instead.
//!
//! Always: a mistake names its file; its line too, unless the thing that is wrong is the whole file.
//! Knows nothing of the keys a configuration has.

use std::cell::RefCell;
use std::fmt;

pub use types::hcl::MISTAKES_MAX;
pub(super) use types::hcl::{nearest, shown};

/// One thing that is wrong, or doubtful, in a configuration file.
///
/// Displayed as `FILE:LINE: PLACE: what is wrong (what to do)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file, as it was named to [`super::Config::load`].
    pub file: String,
    /// Counted from 1; `None` when it concerns the file as a whole.
    pub line: Option<usize>,
    /// The blocks and the key, joined by dots: `listener.address`. Empty for the file as a whole.
    pub place: String,
    /// What is wrong, and the cure.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.place.is_empty() {
            write!(f, ": {}", self.place)?;
        }
        write!(f, ": {}", self.text)
    }
}

/// Every mistake of a configuration file, in the order of its lines; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigErrors {
    mistakes: Vec<Mistake>,
}

impl ConfigErrors {
    /// The mistakes, in the order of their lines.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

/// Gathers the mistakes of one file while it is read.
pub(super) struct Report {
    file: String,
    mistakes: RefCell<Vec<Mistake>>,
    warnings: RefCell<Vec<Mistake>>,
}

impl Report {
    pub(super) fn new(file: &str) -> Report {
        Report { file: file.to_owned(), mistakes: RefCell::default(), warnings: RefCell::default() }
    }

    /// Something that stops the node from starting.
    pub(super) fn mistake(&self, line: Option<usize>, place: &str, text: impl Into<String>) {
        self.keep(&self.mistakes, line, place, text.into());
    }

    /// Something that works, and is probably not what the operator wants.
    pub(super) fn warning(&self, line: Option<usize>, place: &str, text: impl Into<String>) {
        self.keep(&self.warnings, line, place, text.into());
    }

    fn keep(&self, list: &RefCell<Vec<Mistake>>, line: Option<usize>, place: &str, text: String) {
        let mut list = list.borrow_mut();
        if list.len() < MISTAKES_MAX {
            list.push(Mistake { file: self.file.clone(), line, place: place.to_owned(), text });
        }
    }

    /// `value` with the warnings, unless there was a mistake.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<(T, Vec<Mistake>), ConfigErrors> {
        let mut mistakes = self.mistakes.into_inner();
        let mut warnings = self.warnings.into_inner();
        match value {
            Some(value) if mistakes.is_empty() => {
                warnings.sort_by_key(|warning| warning.line);
                Ok((value, warnings))
            }
            _ => {
                assert!(!mistakes.is_empty(), "a configuration is refused only with a reason");
                mistakes.sort_by_key(|mistake| mistake.line);
                Err(ConfigErrors { mistakes })
            }
        }
    }
}

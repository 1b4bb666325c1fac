//! Mistakes: what is wrong in a configuration, where, and what to write instead.
//!
//! Always: a mistake names its file; its line too, unless the thing that is wrong is the whole configuration.
//! Knows nothing of the keys a configuration has.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

pub use types::hcl::MISTAKES_MAX;
pub(super) use types::hcl::{nearest, shown};

/// One thing that is wrong, or doubtful, in a configuration file.
///
/// Displayed as `FILE:LINE: PLACE: what is wrong (what to do)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file, as it was named to [`super::Config::load`]; all of them where it concerns the whole of several.
    pub file: String,
    /// Counted from 1; `None` when it concerns the configuration as a whole.
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

/// One file of a configuration.
pub(super) struct Source {
    /// As it was named.
    pub(super) file: String,
    /// Where relative paths in it start.
    pub(super) folder: PathBuf,
    /// Lines of the files before it: its line 1 is this plus 1 for [`Report`].
    pub(super) lines_before: usize,
}

/// Gathers the mistakes of a configuration while it is read. Lines are counted through all its files.
pub(super) struct Report {
    /// In their order; at least one.
    sources: Vec<Source>,
    mistakes: RefCell<Vec<(Option<usize>, Mistake)>>,
    warnings: RefCell<Vec<(Option<usize>, Mistake)>>,
}

impl Report {
    pub(super) fn new(sources: Vec<Source>) -> Report {
        assert!(!sources.is_empty(), "a configuration has a file");
        Report { sources, mistakes: RefCell::default(), warnings: RefCell::default() }
    }

    /// Something that stops the node from starting.
    pub(super) fn mistake(&self, line: Option<usize>, place: &str, text: impl Into<String>) {
        self.keep(&self.mistakes, line, place, text.into());
    }

    /// Something that works, and is probably not what the operator wants.
    pub(super) fn warning(&self, line: Option<usize>, place: &str, text: impl Into<String>) {
        self.keep(&self.warnings, line, place, text.into());
    }

    /// A file that could not be read.
    pub(super) fn of_file(&self, file: &str, text: String) {
        let mistake = Mistake { file: file.to_owned(), line: None, place: String::new(), text };
        self.mistakes.borrow_mut().push((None, mistake));
    }

    fn keep(&self, list: &RefCell<Vec<(Option<usize>, Mistake)>>, line: Option<usize>, place: &str, text: String) {
        let (file, local) = match line {
            Some(line) => {
                let source = self.source(line);
                (source.file.clone(), Some(line.saturating_sub(source.lines_before)))
            }
            None => (self.sources.iter().map(|source| source.file.as_str()).collect::<Vec<_>>().join(", "), None),
        };
        let mut list = list.borrow_mut();
        if list.len() < MISTAKES_MAX {
            list.push((line, Mistake { file, line: local, place: place.to_owned(), text }));
        }
    }

    /// The file that holds `line`.
    fn source(&self, line: usize) -> &Source {
        self.sources.iter().rev().find(|source| source.lines_before < line).unwrap_or(&self.sources[0])
    }

    /// Where relative paths start that stand in `line`.
    pub(super) fn folder(&self, line: usize) -> &Path {
        &self.source(line).folder
    }

    /// How `line` is named in a message about another line.
    pub(super) fn shown_line(&self, line: usize) -> String {
        let source = self.source(line);
        let local = line.saturating_sub(source.lines_before);
        if self.sources.len() == 1 { format!("line {local}") } else { format!("{}:{local}", source.file) }
    }

    /// `value` with the warnings, unless there was a mistake.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<(T, Vec<Mistake>), ConfigErrors> {
        let in_order = |list: RefCell<Vec<(Option<usize>, Mistake)>>| {
            let mut list = list.into_inner();
            list.sort_by_key(|(line, _)| *line);
            list.into_iter().map(|(_, mistake)| mistake).collect::<Vec<Mistake>>()
        };
        let mistakes = in_order(self.mistakes);
        match value {
            Some(value) if mistakes.is_empty() => Ok((value, in_order(self.warnings))),
            _ => {
                assert!(!mistakes.is_empty(), "a configuration is refused only with a reason");
                Err(ConfigErrors { mistakes })
            }
        }
    }
}

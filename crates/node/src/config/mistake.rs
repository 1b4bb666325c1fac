//! Mistakes: what is wrong in a configuration, where, and what to write instead.
//!
//! Always: a mistake names its file; its line too, unless the thing that is wrong is the whole file.
//! Knows nothing of the keys a configuration has.

use std::cell::RefCell;
use std::fmt;

/// Mistakes (and warnings) kept of one file; the rest are dropped, as no one reads on before mending these.
pub const MISTAKES_MAX: usize = 100;

/// The longest piece of a value that a message repeats, in characters.
const SHOWN_CHARS_MAX: usize = 80;

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

/// `text` as it is repeated in a message: quoted, escaped, shortened, and never a private key.
pub(super) fn shown(text: &str) -> String {
    if text.contains("PRIVATE KEY") {
        return "a private key".to_owned();
    }
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The one of `known` that is closest to `word`, if any is close enough to be meant: two edits or a third of it off, or cut short.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word: String = word.chars().take(SHOWN_CHARS_MAX).collect();
    let cut_short = |candidate: &str| word.len() >= 4 && candidate.starts_with(&word);
    let edits = |candidate: &str| if cut_short(candidate) { 0 } else { distance(&word, candidate) };
    let (edits, candidate) = known.iter().map(|candidate| (edits(candidate), *candidate)).min()?;
    let least = if word.len() < 4 { 1 } else { 2 };
    (edits <= least.max(candidate.len().max(word.len()) / 3)).then_some(candidate)
}

/// How many characters to insert, drop or change to make `left` into `right`. V. Levenshtein, 1966.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (done, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = done + 1;
        for (column, r) in right.iter().enumerate() {
            let changed = diagonal + usize::from(l != *r);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_one_that_could_be_meant() {
        let known = ["address", "tls_cert_file", "tls_key_file"];
        for (word, want) in [
            ("adress", Some("address")),
            ("tls_cert", Some("tls_cert_file")),
            ("tls_key_fil", Some("tls_key_file")),
            ("port", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known), want, "{word}");
        }
    }

    #[test]
    fn distances_are_levenshtein() {
        for (left, right, want) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)] {
            assert_eq!(distance(left, right), want, "{left} {right}");
            assert_eq!(distance(right, left), want, "{right} {left}");
        }
    }

    #[test]
    fn a_private_key_is_never_shown() {
        assert_eq!(shown("-----BEGIN PRIVATE KEY-----\nMC4C"), "a private key");
    }
}

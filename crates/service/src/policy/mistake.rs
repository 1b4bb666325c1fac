//! Mistakes: what is wrong in a policy's text, where, and what to write instead; and the reader of blocks that finds them.
//!
//! Always: a key is either known and read, or reported; so is a key given twice, or with a value of another type.
//! Knows nothing of what the keys mean.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use types::duration;
use types::hcl::{self, Body, Entry, Interpolation, MISTAKES_MAX, Value, nearest, shown};

/// The longest text of a policy, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// One thing that is wrong in a policy's text.
///
/// Displayed as `line LINE: PLACE: what is wrong (what to do)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Counted from 1.
    pub line: usize,
    /// The block and the key, such as `path "secret/*": capabilities`. Empty for the text as a whole.
    pub place: String,
    /// What is wrong, and the cure.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.text)
    }
}

/// Every mistake of a policy's text, in the order of its lines; never empty, at most [`MISTAKES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n"))]
pub struct PolicyError {
    mistakes: Vec<Mistake>,
}

impl PolicyError {
    /// The mistakes, in the order of their lines.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

/// Gathers the mistakes of one text while it is read.
#[derive(Default)]
pub(super) struct Report(RefCell<Vec<Mistake>>);

impl Report {
    pub(super) fn mistake(&self, line: usize, place: &str, text: impl Into<String>) {
        let mut mistakes = self.0.borrow_mut();
        if mistakes.len() < MISTAKES_MAX {
            mistakes.push(Mistake { line, place: place.to_owned(), text: text.into() });
        }
    }

    /// Reads `text` as HCL or JSON; nothing of one that is too long.
    pub(super) fn read(&self, text: &str) -> Body {
        if text.len() > TEXT_BYTES_MAX {
            let bytes = text.len();
            self.mistake(1, "", format!("the text is {bytes} bytes long (at most {TEXT_BYTES_MAX}; divide it into several policies)"));
            return Body::default();
        }
        let (body, errors) = hcl::parse(text, Interpolation::Plain);
        for error in errors {
            self.mistake(error.line, "", error.text);
        }
        body
    }

    /// `value`, unless there was a mistake.
    pub(super) fn finish<T>(self, value: T) -> Result<T, PolicyError> {
        let mut mistakes = self.0.into_inner();
        if mistakes.is_empty() {
            return Ok(value);
        }
        mistakes.sort_by_key(|mistake| mistake.line);
        Err(PolicyError { mistakes })
    }
}

/// The keys that a block may have.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    /// At most once each.
    pub(super) once: &'static [&'static str],
    /// Any number of times.
    pub(super) repeatable: &'static [&'static str],
    /// Known elsewhere, but not supported here.
    pub(super) refused: &'static [&'static str],
}

/// One block, or the whole text.
pub(super) struct Block<'a> {
    report: &'a Report,
    place: String,
    line: usize,
    /// The first entry of each known key, and all of a repeatable one.
    entries: Vec<&'a Entry>,
}

impl<'a> Block<'a> {
    /// Reports what in `body` is not among `keys`.
    pub(super) fn open(report: &'a Report, place: String, line: usize, body: &'a Body, keys: Keys) -> Block<'a> {
        let known: Vec<&str> = keys.once.iter().chain(keys.repeatable).copied().collect();
        let mut block = Block { report, place, line, entries: Vec::new() };
        for entry in &body.entries {
            let name = entry.name.as_str();
            if keys.refused.contains(&name) {
                report.mistake(entry.line, &block.at(name), "is not supported here (remove it, if the block may stand without it)");
            } else if !known.contains(&name) {
                let cure = match nearest(name, &known) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                report.mistake(entry.line, &block.place, format!("unknown key {} ({cure})", shown(name)));
            } else if let (Some(first), false) = (block.entry(name), keys.repeatable.contains(&name)) {
                report.mistake(entry.line, &block.at(name), format!("is given twice (first in line {}; keep one)", first.line));
            } else {
                block.entries.push(entry);
            }
        }
        block
    }

    fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.name == key).copied()
    }

    /// `key` within this block, as messages name it.
    fn at(&self, key: &str) -> String {
        if self.place.is_empty() { key.to_owned() } else { format!("{}: {key}", self.place) }
    }

    /// Whether `key` is given, with a right value or a wrong one.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Reports that `key` holds something wrong; or that the block does, where it is not given.
    pub(super) fn mistake(&self, key: &str, text: impl Into<String>) {
        let line = self.entry(key).map_or(self.line, |entry| entry.line);
        self.report.mistake(line, &self.at(key), text);
    }

    /// Reports that this block itself is wrong.
    pub(super) fn wrong(&self, text: impl Into<String>) {
        self.report.mistake(self.line, &self.place, text);
    }

    /// The text of `key`.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        let entry = self.entry(key)?;
        match &entry.value {
            Value::Text(text) => Some(text),
            other => self.wrong_type(key, entry.line, other, "text in double quotes"),
        }
    }

    /// The texts of `key`, a list; `example` shows a right value. Empty where it is not given.
    pub(super) fn texts(&self, key: &str, example: &str) -> Vec<&'a str> {
        let Some(entry) = self.entry(key) else { return Vec::new() };
        let Value::List(values) = &entry.value else {
            return self.wrong_type(key, entry.line, &entry.value, example).unwrap_or_default();
        };
        let texts = values.iter().filter_map(|value| match value {
            Value::Text(text) => Some(text.as_str()),
            other => self.wrong_type(key, entry.line, other, example),
        });
        texts.collect()
    }

    /// The whole number of `key`; text of digits is taken as one.
    pub(super) fn integer(&self, key: &str) -> Option<i64> {
        let entry = self.entry(key)?;
        let wanted = "a whole number";
        match &entry.value {
            Value::Integer(number) => Some(*number),
            Value::Text(text) => match text.parse() {
                Ok(number) => Some(number),
                Err(_) => self.wrong_type(key, entry.line, &entry.value, wanted),
            },
            other => self.wrong_type(key, entry.line, other, wanted),
        }
    }

    /// The duration of `key`: text with units, or whole seconds. Zero is none.
    pub(super) fn duration(&self, key: &str) -> Option<Duration> {
        let entry = self.entry(key)?;
        let parsed = match &entry.value {
            Value::Text(text) => duration::parse(text),
            Value::Integer(seconds) => duration::from_seconds(*seconds),
            other => return self.wrong_type(key, entry.line, other, "a duration, such as \"90s\""),
        };
        parsed.map_err(|error| self.mistake(key, error.to_string())).ok().filter(|duration| !duration.is_zero())
    }

    /// The entries of all the blocks or objects that `key` holds.
    pub(super) fn objects(&self, key: &str, example: &str) -> impl Iterator<Item = &'a Entry> {
        let bodies = self.entries.iter().filter(|entry| entry.name == key).flat_map(|entry| self.bodies(entry, example));
        bodies.collect::<Vec<_>>().into_iter().flat_map(|body| &body.entries)
    }

    /// The blocks `key "LABEL"`, in their order, with their lines.
    pub(super) fn labelled(&self, key: &str) -> Vec<(&'a str, usize, &'a Body)> {
        let example = format!("{key} \"…\" {{ … }}");
        let mut found = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.name == key) {
            for body in self.bodies(entry, &example) {
                let holds_bodies = |value: &Value| match value {
                    Value::List(values) => values.iter().all(|value| matches!(value, Value::Body(_))),
                    value => matches!(value, Value::Body(_) | Value::Invalid),
                };
                if !body.entries.iter().all(|label| holds_bodies(&label.value)) {
                    self.report.mistake(entry.line, &self.at(key), format!("the block has no label (write {example})"));
                    continue;
                }
                for label in &body.entries {
                    found.extend(self.bodies(label, &example).into_iter().map(|body| (label.name.as_str(), label.line, body)));
                }
            }
        }
        found
    }

    /// The bodies that an entry holds: one, or (in JSON) a list of them.
    fn bodies(&self, entry: &'a Entry, example: &str) -> Vec<&'a Body> {
        let values = match &entry.value {
            Value::List(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        let bodies = values.iter().filter_map(|value| match value {
            Value::Body(body) => Some(body),
            other => self.wrong_type(&entry.name, entry.line, other, example),
        });
        bodies.collect()
    }

    /// Reports that `value` should be something else. Gives nothing, so that it ends an expression.
    pub(super) fn wrong_type<T>(&self, key: &str, line: usize, value: &Value, wanted: &str) -> Option<T> {
        let found = match value {
            Value::Text(text) => format!("{} is text", shown(text)),
            Value::Integer(number) => format!("{number} is a number"),
            Value::Decimal(number) => format!("{} is a number", shown(number)),
            Value::Bool(truth) => format!("{truth} is a truth value"),
            Value::Null => "null is no value".to_owned(),
            Value::List(_) => "holds a list".to_owned(),
            Value::Body(_) => "holds a block".to_owned(),
            Value::Invalid => return None,
        };
        self.report.mistake(line, &self.at(key), format!("{found} (write {wanted})"));
        None
    }
}

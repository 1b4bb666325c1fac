//! Sections: a block's keys, each read once into the type it must have.
//!
//! Always: a key is either known and read, or reported; so is a key given twice, or with a value of another type. A key of
//! Vault's that is no setting here is reported with the reason, unless its value asks for nothing.
//! Knows nothing of what the keys mean.

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use types::duration;
use types::hcl::{Body, Entry, Value};

use super::mistake::{Report, nearest, shown};

/// The keys that a block may have.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    /// Settings, each at most once.
    pub(super) own: &'static [&'static str],
    /// Blocks that may be there many times.
    pub(super) repeatable: &'static [&'static str],
    /// Vault's, which are no settings here.
    pub(super) foreign: &'static [(&'static str, Foreign)],
}

/// What becomes of a key of Vault's that is no setting here.
#[derive(Debug, Clone, Copy)]
pub(super) enum Foreign {
    /// It would change nothing; the warning says why.
    Idle(&'static str),
    /// It would change something, so it is refused; the text says what to do.
    Refused(&'static str),
}

/// One block, or the whole configuration.
pub(super) struct Section<'a> {
    report: &'a Report,
    place: String,
    /// `None` for the whole configuration.
    line: Option<usize>,
    /// The first entry of each known key, and all of a repeatable one.
    entries: Vec<&'a Entry>,
}

impl<'a> Section<'a> {
    /// The whole configuration.
    pub(super) fn root(report: &'a Report, body: &'a Body, keys: Keys) -> Section<'a> {
        Section::open(report, String::new(), None, body, keys)
    }

    /// Reports what in `body` is not one of `keys`.
    fn open(report: &'a Report, place: String, line: Option<usize>, body: &'a Body, keys: Keys) -> Section<'a> {
        let known: Vec<&str> = keys.own.iter().chain(keys.repeatable).copied().collect();
        let mut section = Section { report, place, line, entries: Vec::new() };
        for entry in &body.entries {
            let first = section.entry(&entry.name);
            if let Some((_, foreign)) = keys.foreign.iter().find(|(name, _)| *name == entry.name) {
                section.foreign(entry, *foreign);
            } else if !known.contains(&entry.name.as_str()) {
                let cure = match nearest(&entry.name, &known) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                report.mistake(Some(entry.line), &section.place, format!("unknown key {} ({cure})", shown(&entry.name)));
            } else if let (Some(first), false) = (first, keys.repeatable.contains(&entry.name.as_str())) {
                section.twice(entry.line, &entry.name, first.line);
            } else {
                section.entries.push(entry);
            }
        }
        section
    }

    /// Reports that `key`, in `line`, was given in line `first` already.
    pub(super) fn twice(&self, line: usize, key: &str, first: usize) {
        let first = self.report.shown_line(first);
        self.mistake_at(line, key, format!("is given twice (first in {first}; keep one)"));
    }

    /// Reports that a block `key`, in `line`, is wrong as a whole.
    pub(super) fn mistake_at(&self, line: usize, key: &str, text: impl Into<String>) {
        self.report.mistake(Some(line), &self.at(key), text);
    }

    /// Who asks for nothing gets it.
    fn foreign(&self, entry: &Entry, foreign: Foreign) {
        let asks_for_nothing = match &entry.value {
            Value::Bool(value) => !value,
            Value::Integer(value) => *value == 0,
            Value::Text(text) => text.is_empty() || parse_bool(text) == Some(false),
            Value::List(values) => values.is_empty(),
            Value::Null | Value::Invalid => true,
            Value::Decimal(_) | Value::Body(_) => false,
        };
        let place = self.at(&entry.name);
        match foreign {
            _ if asks_for_nothing => {}
            Foreign::Idle(why) => self.report.warning(Some(entry.line), &place, format!("does nothing here: {why}")),
            Foreign::Refused(cure) => self.report.mistake(Some(entry.line), &place, format!("is not supported: {cure}")),
        }
    }

    fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.name == key).copied()
    }

    /// `key` within this section, as messages name it.
    pub(super) fn at(&self, key: &str) -> String {
        if self.place.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place) }
    }

    /// Whether `key` is given, with a right value or a wrong one.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// The line of `key`, or of the section where it is not given.
    pub(super) fn line_of(&self, key: &str) -> Option<usize> {
        self.entry(key).map(|entry| entry.line).or(self.line)
    }

    /// Where relative paths in `key` start.
    pub(super) fn folder(&self, key: &str) -> &'a Path {
        self.report.folder(self.line_of(key).unwrap_or(1))
    }

    /// Reports that `key` holds something wrong.
    pub(super) fn mistake(&self, key: &str, text: impl Into<String>) {
        self.report.mistake(self.line_of(key), &self.at(key), text);
    }

    /// Reports that this block as a whole is wrong.
    pub(super) fn wrong(&self, text: impl Into<String>) {
        self.report.mistake(self.line, &self.place, text);
    }

    /// Reports that this block as a whole is doubtful.
    pub(super) fn doubtful(&self, text: impl Into<String>) {
        self.report.warning(self.line, &self.place, text);
    }

    /// Reports that `key` holds something doubtful.
    pub(super) fn warning(&self, key: &str, text: impl Into<String>) {
        self.report.warning(self.line_of(key), &self.at(key), text);
    }

    /// Reports that `key` is not given; `example` is the line to add.
    pub(super) fn missing(&self, key: &str, example: &str) {
        let whereto = if self.place.is_empty() { "at the top of the file" } else { "to this block" };
        self.report.mistake(self.line, &self.place, format!("{key} is missing (add {example} {whereto})"));
    }

    /// The text of `key`.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        let entry = self.entry(key)?;
        match &entry.value {
            Value::Text(text) => Some(text),
            other => self.wrong_type(entry, other, "text in double quotes"),
        }
    }

    /// Whether `key` holds just this text.
    pub(super) fn is_text(&self, key: &str, text: &str) -> bool {
        self.entry(key).is_some_and(|entry| matches!(&entry.value, Value::Text(found) if found == text))
    }

    /// The text of `key`, which must be given; `example` shows a right value.
    pub(super) fn required_text(&self, key: &str, example: &str) -> Option<&'a str> {
        if !self.has(key) {
            self.missing(key, &format!("{key} = {example:?}"));
        }
        self.text(key)
    }

    /// The text of `key`, which must be one of `choices`; the first is the default.
    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&'static str, T)]) -> Option<T> {
        if !self.has(key) {
            return Some(choices[0].1);
        }
        let text = self.text(key)?;
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice);
        if found.is_none() {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
            self.mistake(key, format!("{} is not one of {}", shown(text), names.join(", ")));
        }
        found
    }

    /// The truth of `key`, or `default`. As in Vault, the words may stand in quotes, and be 1 and 0.
    pub(super) fn boolean(&self, key: &str, default: bool) -> Option<bool> {
        let Some(entry) = self.entry(key) else { return Some(default) };
        let given = match &entry.value {
            Value::Bool(value) => Some(*value),
            Value::Integer(value) => parse_bool(&value.to_string()),
            Value::Text(text) => parse_bool(text),
            _ => None,
        };
        given.or_else(|| self.wrong_type(entry, &entry.value, "true or false"))
    }

    /// The whole number of `key` within `range`, or `default`. As in Vault, it may stand in quotes.
    pub(super) fn integer(&self, key: &str, default: u64, range: RangeInclusive<u64>) -> Option<u64> {
        let Some(entry) = self.entry(key) else { return Some(default) };
        let given = match &entry.value {
            Value::Integer(value) => *value,
            Value::Decimal(value) => return self.out_of_range(key, value, range.start(), range.end()),
            Value::Text(text) => match text.parse() {
                Ok(value) => value,
                Err(_) => return self.wrong_type(entry, &entry.value, "a whole number"),
            },
            other => return self.wrong_type(entry, other, "a whole number"),
        };
        match u64::try_from(given) {
            Ok(value) if range.contains(&value) => Some(value),
            _ => self.out_of_range(key, given, range.start(), range.end()),
        }
    }

    /// The duration of `key` (text with units, or whole seconds) within `range`, or `default`.
    pub(super) fn duration(&self, key: &str, default: Duration, range: RangeInclusive<Duration>) -> Option<Duration> {
        let Some(entry) = self.entry(key) else { return Some(default) };
        let parsed = match &entry.value {
            Value::Text(text) => duration::parse(text).map_err(|error| error.to_string()),
            Value::Integer(seconds) => duration::from_seconds(*seconds).map_err(|error| error.to_string()),
            other => return self.wrong_type(entry, other, "a duration, such as \"90s\""),
        };
        match parsed {
            Ok(duration) if range.contains(&duration) => Some(duration),
            Ok(given) => {
                let quoted = |duration: &Duration| format!("{:?}", duration::print(*duration));
                self.out_of_range(key, quoted(&given), quoted(range.start()), quoted(range.end()))
            }
            Err(text) => {
                self.mistake(key, text);
                None
            }
        }
    }

    /// The section of the one block `key`.
    pub(super) fn block(&self, key: &str, keys: Keys) -> Option<Section<'a>> {
        let entry = self.entry(key)?;
        let mut bodies = self.bodies(entry, &entry.value).into_iter();
        let body = bodies.next()?;
        if bodies.next().is_some() {
            self.twice(entry.line, key, entry.line);
        }
        Some(Section::open(self.report, self.at(key), Some(entry.line), body, keys))
    }

    /// The sections of the blocks `key`, in their order.
    pub(super) fn all(&self, key: &str, keys: Keys) -> Vec<Section<'a>> {
        let entries = self.entries.iter().filter(|entry| entry.name == key);
        let bodies: Vec<_> =
            entries.flat_map(|entry| self.bodies(entry, &entry.value).into_iter().map(|body| (entry.line, body))).collect();
        bodies.into_iter().map(|(line, body)| Section::open(self.report, self.at(key), Some(line), body, keys)).collect()
    }

    /// The bodies of the blocks `key "LABEL"`, in their order, with the lines of their labels.
    pub(super) fn labels(&self, key: &str) -> Vec<(&'a str, usize, &'a Body)> {
        let mut found = Vec::new();
        for body in self.entries.iter().filter(|entry| entry.name == key).flat_map(|entry| self.bodies(entry, &entry.value)) {
            let is_label = |value: &Value| matches!(value, Value::Body(_) | Value::List(_) | Value::Invalid);
            if !body.entries.iter().any(|label| is_label(&label.value)) {
                let text = format!("the block has no label (write {key} \"…\" {{ … }})");
                self.report.mistake(Some(body.line), &self.at(key), text);
                continue;
            }
            for label in &body.entries {
                found.extend(self.bodies(label, &label.value).into_iter().map(|body| (label.name.as_str(), label.line, body)));
            }
        }
        found
    }

    /// The section of a labelled block. `place`: how messages name it.
    pub(super) fn labelled(&self, place: String, line: usize, body: &'a Body, keys: Keys) -> Section<'a> {
        Section::open(self.report, place, Some(line), body, keys)
    }

    /// The sections of the blocks `key "LABEL"`, in their order; no label twice.
    pub(super) fn all_labelled(&self, key: &str, keys: Keys) -> Vec<(&'a str, Section<'a>)> {
        let mut first_lines: HashMap<&str, usize> = HashMap::new();
        let mut found = Vec::new();
        for (label, line, body) in self.labels(key) {
            if let Some(first) = first_lines.insert(label, line) {
                self.twice(line, &format!("{key}.{label}"), first);
            } else {
                let place = format!("{}.{label}", self.at(key));
                found.push((label, self.labelled(place, line, body, keys)));
            }
        }
        found
    }

    /// The bodies that an entry holds: one, or (in JSON) a list of them.
    fn bodies(&self, entry: &'a Entry, value: &'a Value) -> Vec<&'a Body> {
        let values = match value {
            Value::List(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        if values.is_empty() {
            self.report.mistake(Some(entry.line), &self.at(&entry.name), "is an empty list (write a block in braces)");
        }
        let bodies = values.iter().filter_map(|value| match value {
            Value::Body(body) => Some(body),
            other => self.wrong_type(entry, other, "a block in braces"),
        });
        bodies.collect()
    }

    fn wrong_type<T>(&self, entry: &Entry, value: &Value, want: &str) -> Option<T> {
        let found = match value {
            Value::Text(text) => format!("{} is text", shown(text)),
            Value::Integer(number) => format!("{number} is a number"),
            Value::Decimal(number) => format!("{number} is a number"),
            Value::Bool(truth) => format!("{truth} is a truth value"),
            Value::Null => "null is no value".to_owned(),
            Value::List(_) => "holds a list".to_owned(),
            Value::Body(_) => "holds a block".to_owned(),
            Value::Invalid => return None,
        };
        self.report.mistake(Some(entry.line), &self.at(&entry.name), format!("{found} (write {want})"));
        None
    }

    fn out_of_range<T>(&self, key: &str, given: impl Display, least: impl Display, most: impl Display) -> Option<T> {
        self.mistake(key, format!("{given} is out of range (write {least} to {most})"));
        None
    }
}

/// The spellings that Go's `strconv.ParseBool`, and so Vault, knows.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

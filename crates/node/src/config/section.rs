//! Sections: a block's keys, each read once into the type it must have.
//!
//! Always: a key is either known and read, or reported; so is a key given twice, or with a value of another type.
//! Knows nothing of what the keys mean.

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use types::duration;
use types::hcl::{Body, Entry, Value};

use super::mistake::{Report, nearest, shown};

/// One block, or the whole file.
pub(super) struct Section<'a> {
    report: &'a Report,
    place: String,
    /// `None` for the whole file.
    line: Option<usize>,
    /// The first entry of each known key, and all of a repeatable one.
    entries: Vec<&'a Entry>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(report: &'a Report, body: &'a Body, keys: &[&'static str]) -> Section<'a> {
        Section::open(report, String::new(), None, body, keys, &[])
    }

    /// Reports what in `body` is not one of `keys` (each at most once) or `repeatable` (any number of times).
    fn open(
        report: &'a Report,
        place: String,
        line: Option<usize>,
        body: &'a Body,
        keys: &[&'static str],
        repeatable: &[&'static str],
    ) -> Section<'a> {
        let known: Vec<&str> = keys.iter().chain(repeatable).copied().collect();
        let mut section = Section { report, place, line, entries: Vec::new() };
        for entry in &body.entries {
            let first = section.entry(&entry.name);
            if !known.contains(&entry.name.as_str()) {
                let cure = match nearest(&entry.name, &known) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                report.mistake(Some(entry.line), &section.place, format!("unknown key {} ({cure})", shown(&entry.name)));
            } else if let (Some(first), false) = (first, repeatable.contains(&entry.name.as_str())) {
                section.twice(entry, first.line);
            } else {
                section.entries.push(entry);
            }
        }
        section
    }

    fn twice(&self, entry: &Entry, first: usize) {
        self.report.mistake(Some(entry.line), &self.at(&entry.name), format!("is given twice (first in line {first}; keep one)"));
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

    /// Reports that `key` holds something wrong.
    pub(super) fn mistake(&self, key: &str, text: impl Into<String>) {
        self.report.mistake(self.line_of(key), &self.at(key), text);
    }

    /// Reports that this block itself is wrong.
    pub(super) fn wrong(&self, text: impl Into<String>) {
        self.report.mistake(self.line, &self.place, text);
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

    /// The truth of `key`, or `default`.
    pub(super) fn boolean(&self, key: &str, default: bool) -> Option<bool> {
        let Some(entry) = self.entry(key) else { return Some(default) };
        match &entry.value {
            Value::Bool(value) => Some(*value),
            other => self.wrong_type(entry, other, "true or false, without quotes"),
        }
    }

    /// The whole number of `key` within `range`, or `default`.
    pub(super) fn integer(&self, key: &str, default: u64, range: RangeInclusive<u64>) -> Option<u64> {
        let Some(entry) = self.entry(key) else { return Some(default) };
        match &entry.value {
            Value::Integer(value) => match u64::try_from(*value) {
                Ok(value) if range.contains(&value) => Some(value),
                _ => self.out_of_range(key, value, range.start(), range.end()),
            },
            Value::Decimal(value) => self.out_of_range(key, value, range.start(), range.end()),
            other => self.wrong_type(entry, other, "a whole number, without quotes"),
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
    pub(super) fn block(&self, key: &str, keys: &[&'static str], repeatable: &[&'static str]) -> Option<Section<'a>> {
        let entry = self.entry(key)?;
        let mut bodies = self.bodies(entry).into_iter();
        let body = bodies.next()?;
        if bodies.next().is_some() {
            self.twice(entry, entry.line);
        }
        Some(Section::open(self.report, self.at(key), Some(entry.line), body, keys, repeatable))
    }

    /// The sections of the blocks `key "LABEL"`, in their order; no label twice. `label_in_place`: whether messages name it.
    pub(super) fn labelled(&self, key: &str, keys: &[&'static str], label_in_place: bool) -> Vec<(&'a str, Section<'a>)> {
        let mut first_lines: HashMap<&str, usize> = HashMap::new();
        let mut found = Vec::new();
        for body in self.entries.iter().filter(|entry| entry.name == key).flat_map(|entry| self.bodies(entry)) {
            if !body.entries.iter().any(|label| matches!(label.value, Value::Body(_) | Value::Invalid)) {
                let text = format!("the block has no label (write {key} \"…\" {{ … }})");
                self.report.mistake(Some(body.line), &self.at(key), text);
                continue;
            }
            for label in &body.entries {
                let place = if label_in_place { format!("{}.{}", self.at(key), label.name) } else { self.at(key) };
                if let Some(first) = first_lines.insert(&label.name, label.line) {
                    self.report.mistake(Some(label.line), &place, format!("is given twice (first in line {first}; keep one)"));
                } else if let Value::Body(body) = &label.value {
                    let section = Section::open(self.report, place, Some(label.line), body, keys, &[]);
                    found.push((label.name.as_str(), section));
                } else {
                    let _: Option<()> = self.wrong_type(label, &label.value, "a block in braces");
                }
            }
        }
        found
    }

    /// The bodies that an entry holds: one, or (in JSON) a list of them.
    fn bodies(&self, entry: &'a Entry) -> Vec<&'a Body> {
        let values = match &entry.value {
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

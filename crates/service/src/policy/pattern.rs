//! Patterns: the path of a rule, and which of several that match a path goes before the others.
//!
//! A pattern matches a path exactly; or, ending in `*`, every path that begins with what stands before it; and a segment `+` matches any one
//! segment, an empty one too. Always: of two different patterns that match one path, exactly one goes before the other.
//! Knows nothing of what a rule grants.

use std::cmp::{Ordering, Reverse};

use types::path::PATH_BYTES_MAX;

/// The longest path of a rule, in bytes, without its namespace.
pub const RULE_PATH_BYTES_MAX: usize = PATH_BYTES_MAX;

/// How a pattern matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One path.
    Exact,
    /// All paths that begin with what stands before the `*`.
    Prefix,
    /// Segment by segment; `+` matches any. Perhaps with a `*` at the end.
    Segments,
}

/// The path of a rule, from the root namespace on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// As it was written, but for the namespace in front; with its `*`.
    text: Box<str>,
    kind: Kind,
    is_prefix: bool,
    /// How many segments are `+`.
    wildcards: usize,
    /// Where the first `+` or `*` is, in bytes.
    first_wildcard: usize,
}

/// The rank of a pattern among those that match a path: the greatest wins.
///
/// In this order: the first `+` or `*` comes later; it does not end in `*`; it has fewer `+` segments; it is longer; it is the greater text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank<'a>(usize, bool, Reverse<usize>, usize, &'a str);

impl Pattern {
    pub(super) fn new(namespace: &str, path: &str) -> Pattern {
        let text: Box<str> = [namespace, path].concat().into();
        let has_segments = &*text == "+" || text.starts_with("+/") || text.contains("/+");
        let is_prefix = text.ends_with('*');
        let kind = match (has_segments, is_prefix) {
            (true, _) => Kind::Segments,
            (false, true) => Kind::Prefix,
            (false, false) => Kind::Exact,
        };
        let body = text.strip_suffix('*').unwrap_or(&text);
        let wildcards = if has_segments { body.split('/').filter(|segment| *segment == "+").count() } else { 0 };
        // Any plus counts, as in Vault, even one that is only a letter of a name.
        let first_wildcard = if has_segments { text.find('+').unwrap_or(body.len()) } else { body.len() };
        Pattern { kind, is_prefix, wildcards, first_wildcard, text }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The text without a `*` at its end.
    pub(super) fn body(&self) -> &str {
        if self.is_prefix { &self.text[..self.text.len() - 1] } else { &self.text }
    }

    pub(super) fn rank(&self) -> Rank<'_> {
        Rank(self.first_wildcard, !self.is_prefix, Reverse(self.wildcards), self.body().len(), self.body())
    }

    /// Whether `path` has the segments of this pattern, whose kind is [`Kind::Segments`].
    pub(super) fn matches_segments(&self, path: &str) -> bool {
        let body = self.body();
        if !path.as_bytes().starts_with(&body.as_bytes()[..self.first_wildcard]) {
            return false;
        }
        let mut segments = path.split('/');
        let mut wanted = body.split('/').peekable();
        while let Some(want) = wanted.next() {
            let Some(segment) = segments.next() else { return false };
            let begins = self.is_prefix && wanted.peek().is_none() && segment.starts_with(want);
            if want != "+" && want != segment && !begins {
                return false;
            }
        }
        self.is_prefix || segments.next().is_none()
    }

    /// Whether this pattern, whose kind is [`Kind::Segments`], could match something in the folder of these segments.
    pub(super) fn reaches_into<'a>(&self, folder: impl Iterator<Item = &'a str>) -> bool {
        let mut wanted = self.body().split('/').peekable();
        for segment in folder {
            let Some(want) = wanted.next() else { return false };
            let is_last = wanted.peek().is_none();
            if self.is_prefix && is_last && segment.starts_with(want) {
                return true;
            }
            if want != "+" && want != segment {
                return false;
            }
        }
        true
    }
}

/// Prefixes by text, for the longest that begins a path.
#[derive(Debug, Default)]
pub(super) struct Prefixes(Vec<Prefix>);

#[derive(Debug)]
struct Prefix {
    text: Box<str>,
    /// Which rule has it.
    rule: usize,
    /// The place of the longest other prefix that begins this one.
    parent: Option<usize>,
}

impl Prefixes {
    /// Takes each prefix with the place of its rule; no prefix twice.
    pub(super) fn new(mut prefixes: Vec<(Box<str>, usize)>) -> Prefixes {
        prefixes.sort_unstable();
        let mut sorted: Vec<Prefix> = Vec::with_capacity(prefixes.len());
        for (text, rule) in prefixes {
            let mut parent = sorted.len().checked_sub(1);
            while let Some(place) = parent.filter(|place| !text.starts_with(&*sorted[*place].text)) {
                parent = sorted[place].parent;
            }
            sorted.push(Prefix { text, rule, parent });
        }
        Prefixes(sorted)
    }

    /// The rule of the longest prefix of `path`, and the prefix's place.
    pub(super) fn longest(&self, path: &str) -> Option<usize> {
        // All that stands between a prefix of `path` and `path` itself begins with that prefix, so has it as an ancestor.
        let mut place = self.0.partition_point(|prefix| (*prefix.text).cmp(path) != Ordering::Greater).checked_sub(1);
        while let Some(prefix) = place.map(|place| &self.0[place]) {
            if path.starts_with(&*prefix.text) {
                return Some(prefix.rule);
            }
            place = prefix.parent;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::new("", pattern).matches_segments(path)
    }

    #[test]
    fn a_plus_is_one_segment_and_a_star_the_rest() {
        for (pattern, yes, no) in [
            ("+", &["a", ""][..], &["a/b", "a/"][..]),
            ("a/+", &["a/b", "a/"], &["a", "a/b/c", "b/a"]),
            ("+/b", &["a/b", "/b"], &["a/c", "a/b/"]),
            ("a/+/c", &["a/b/c"], &["a/c", "a/b/b/c", "a/b/c/"]),
            ("a/+/c*", &["a/b/c", "a/b/cd", "a/b/c/d/e"], &["a/b/d", "a/c"]),
            ("a/+/*", &["a/b/", "a/b/c", "a/b/c/d"], &["a/b", "a"]),
            ("+/+", &["a/b", "a/"], &["a"]),
            // A plus within a name is a letter.
            ("a/+b", &["a/+b"], &["a/xb", "a/b"]),
            ("a/+b/+", &["a/+b/c"], &["a/xb/c"]),
        ] {
            for path in yes {
                assert!(matches(pattern, path), "{pattern} {path}");
            }
            for path in no {
                assert!(!matches(pattern, path), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn kinds_are_told_apart_with_the_namespace_in_front() {
        for (namespace, path, kind) in [
            ("", "a", Kind::Exact),
            ("", "a*b", Kind::Exact),
            ("", "a+b", Kind::Exact),
            ("", "+b", Kind::Exact),
            ("ns/", "+b", Kind::Segments),
            ("", "a*", Kind::Prefix),
            ("", "*", Kind::Prefix),
            ("", "", Kind::Exact),
            ("", "+", Kind::Segments),
            ("ns/", "+", Kind::Segments),
            ("", "a/+/b*", Kind::Segments),
        ] {
            assert_eq!(Pattern::new(namespace, path).kind(), kind, "{namespace} {path}");
        }
    }

    #[test]
    fn the_longest_prefix_is_found() {
        let texts = ["", "a", "a/", "a/b", "a/bb/", "b/", "c"];
        for skip in 0..=texts.len() {
            let kept: Vec<&str> = texts.iter().enumerate().filter(|(place, _)| *place != skip).map(|(_, text)| *text).collect();
            let prefixes = Prefixes::new(kept.iter().enumerate().map(|(rule, text)| (Box::from(*text), rule)).collect());
            for path in ["", "a", "a/", "a/b", "a/bb", "a/bb/c", "a/c", "aa", "b", "b/x", "cc/d", "zzz", "\u{e9}"] {
                let naive = kept.iter().filter(|text| path.starts_with(**text)).max_by_key(|text| text.len()).copied();
                assert_eq!(prefixes.longest(path).map(|rule| kept[rule]), naive, "{path} {kept:?}");
            }
        }
    }
}

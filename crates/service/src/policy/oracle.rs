//! Oracle: a second, naive answer to the questions that an ACL is asked, straight from the written rules. For tests.
//!
//! It shares no code with the ACL: it has its own form of a rule ([`Stanza`]), reads no text, and looks at every rule for every question.
//!
//! The written rules (Vault's, "Policies", sections "Policy syntax", "Fine-grained control" and "Required response wrapping TTLs"; OpenBao's for
//! lists; what they leave open was asked of OpenBao 2.7.2):
//!
//! 1. A path matches a request exactly; or with `*` at its end, by the text before it; and a segment `+` matches any one segment.
//! 2. Of the paths that match, an exact one goes first. Else P1 goes after P2 if, the first of these that differs, 1. its first `+` or `*` is
//!    earlier, 2. it ends in `*` and P2 does not, 3. it has more `+` segments, 4. it is shorter, 5. it is the lesser text.
//! 3. The same path in several places is one rule: it grants what each grants; if one denies, it denies.
//! 4. A list or scan is one of a folder, `p/`. Rules for `p/` go first, then those for `p`; exact ones of both before all others.
//! 5. Nothing matches: denied. A path that needs sudo needs it besides.
//! 6. Required parameters must be there. Denied ones must not, or not with a value listed; `*` denies all. If any are allowed, only these may be
//!    there, with a value listed if any is; `*` allows those not named. A value list that is empty is every value, also when merged.
//! 7. A wrapping bound makes wrapping mandatory. Merged, the lowest of each kind counts. Several pagination limits: the lowest.
//! 8. Parameters count for reads, writes and patches; lists have only `limit`; deletes have none.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use types::Verb;

/// A rule as a test writes it, its path with the namespace in front.
#[derive(Debug, Clone, Default)]
pub(super) struct Stanza {
    pub(super) path: String,
    pub(super) capabilities: Vec<&'static str>,
    pub(super) allowed: Vec<(&'static str, Vec<Value>)>,
    pub(super) denied: Vec<(&'static str, Vec<Value>)>,
    pub(super) required: Vec<&'static str>,
    /// Seconds; 0 is none.
    pub(super) wrap_min: u64,
    pub(super) wrap_max: u64,
    pub(super) page: u64,
}

/// A request as a test asks it.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) path: String,
    pub(super) verb: Verb,
    pub(super) is_create: Option<bool>,
    pub(super) is_sudo: bool,
    pub(super) wrap: Option<u64>,
    pub(super) data: Map<String, Value>,
}

/// The path of the rule that decides.
pub(super) fn deciding<'s>(stanzas: &'s [Stanza], path: &str, is_list: bool) -> Option<&'s str> {
    let mut spellings = vec![path.to_owned()];
    if is_list && path.ends_with('/') {
        spellings.push(path[..path.len() - 1].to_owned());
    }
    for spelling in &spellings {
        if let Some(exact) = stanzas.iter().find(|stanza| !is_wild(&stanza.path) && stanza.path == *spelling) {
            return Some(&exact.path);
        }
    }
    for spelling in &spellings {
        let mut best: Option<&str> = None;
        for stanza in stanzas.iter().filter(|stanza| is_wild(&stanza.path) && matches(&stanza.path, spelling)) {
            if best.is_none_or(|best| goes_before(&stanza.path, best)) {
                best = Some(&stanza.path);
            }
        }
        if best.is_some() {
            return best;
        }
    }
    None
}

fn has_plus_segment(pattern: &str) -> bool {
    pattern.split('/').enumerate().any(|(number, segment)| segment == "+" || (number > 0 && segment.starts_with('+')))
}

fn is_wild(pattern: &str) -> bool {
    has_plus_segment(pattern) || pattern.ends_with('*')
}

fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let path: Vec<char> = path.chars().collect();
    match_from(&pattern, &path, true)
}

/// By trying: each `+` segment takes one character more, or none.
fn match_from(pattern: &[char], path: &[char], at_start: bool) -> bool {
    match pattern {
        [] => path.is_empty(),
        ['*'] => true,
        ['+', rest @ ..] if at_start && matches!(rest, [] | ['/', ..]) => {
            match_from(rest, path, false) || (matches!(path, [first, ..] if *first != '/') && match_from(pattern, &path[1..], true))
        }
        [first, rest @ ..] => path.first() == Some(first) && match_from(rest, &path[1..], *first == '/'),
    }
}

fn goes_before(one: &str, other: &str) -> bool {
    let first = |pattern: &str| if has_plus_segment(pattern) { pattern.find('+') } else { pattern.find('*').map(|_| pattern.len() - 1) };
    let stars = |pattern: &str| pattern.ends_with('*');
    let pluses = |pattern: &str| pattern.split('/').filter(|segment| *segment == "+").count();
    let text = |pattern: &str| pattern.trim_end_matches('*').to_owned();
    if first(one) != first(other) {
        return first(one) > first(other);
    }
    if stars(one) != stars(other) {
        return !stars(one);
    }
    if pluses(one) != pluses(other) {
        return pluses(one) < pluses(other);
    }
    if text(one).len() != text(other).len() {
        return text(one).len() > text(other).len();
    }
    text(one) > text(other)
}

/// What `sys/capabilities` says.
pub(super) fn capabilities(stanzas: &[Stanza], path: &str) -> Vec<&'static str> {
    let Some(pattern) = deciding(stanzas, path, true) else { return vec!["deny"] };
    let granted = granted(stanzas, pattern);
    if granted.contains("deny") || granted.is_empty() { vec!["deny"] } else { granted.into_iter().collect() }
}

fn granted(stanzas: &[Stanza], pattern: &str) -> BTreeSet<&'static str> {
    stanzas.iter().filter(|stanza| stanza.path == pattern).flat_map(|stanza| stanza.capabilities.iter().copied()).collect()
}

/// Whether the request may go on; and for a list, the limit that it then has, if another than it asked for.
pub(super) fn allows(stanzas: &[Stanza], ask: &Ask) -> Option<Option<u64>> {
    let is_list = matches!(ask.verb, Verb::List | Verb::Scan);
    let mut path = ask.path.clone();
    if is_list && !path.is_empty() && !path.ends_with('/') {
        path.push('/');
    }
    let pattern = deciding(stanzas, &path, is_list)?;
    let granted = granted(stanzas, pattern);
    let rules: Vec<&Stanza> = stanzas.iter().filter(|stanza| stanza.path == pattern).collect();
    if granted.contains("deny") || (ask.is_sudo && !granted.contains("sudo")) {
        return None;
    }
    let has_right = match ask.verb {
        Verb::Read => granted.contains("read"),
        Verb::Write => match ask.is_create {
            Some(true) => granted.contains("create"),
            Some(false) => granted.contains("update"),
            None => granted.contains("create") || granted.contains("update"),
        },
        Verb::Patch => granted.contains("patch"),
        Verb::Delete => granted.contains("delete"),
        Verb::List => granted.contains("list"),
        Verb::Scan => granted.contains("scan"),
    };
    if !has_right {
        return None;
    }
    let wrap_min = rules.iter().map(|rule| rule.wrap_min).filter(|seconds| *seconds > 0).min();
    let wrap_max = rules.iter().map(|rule| rule.wrap_max).filter(|seconds| *seconds > 0).min();
    if (wrap_min.is_some() || wrap_max.is_some()) && ask.wrap.is_none() {
        return None;
    }
    if let Some(wrap) = ask.wrap
        && (wrap_min.is_some_and(|min| wrap < min) || wrap_max.is_some_and(|max| wrap > max))
    {
        return None;
    }
    let required: Vec<String> = rules.iter().flat_map(|rule| rule.required.iter().map(|name| name.to_lowercase())).collect();
    if is_list {
        let page = rules.iter().map(|rule| rule.page).filter(|page| *page > 0).min();
        return page_of(page, required.contains(&"limit".to_owned()), ask.data.get("limit"));
    }
    if ask.verb != Verb::Delete && !parameters_pass(&rules, &required, &ask.data) {
        return None;
    }
    Some(None)
}

fn page_of(page: Option<u64>, is_required: bool, limit: Option<&Value>) -> Option<Option<u64>> {
    let says_max = limit == Some(&Value::String("max".to_owned()));
    match (page, limit) {
        (None, _) if says_max => Some(Some(0)),
        (None, _) => Some(None),
        (Some(_), None) if is_required => None,
        (Some(page), None) => Some(Some(page)),
        (Some(page), Some(_)) if says_max => Some(Some(page)),
        (Some(page), Some(limit)) => {
            let text = limit.as_str().map_or_else(|| limit.to_string(), str::to_owned);
            let number: i64 = if text.is_empty() { 0 } else { text.parse().ok()? };
            match number {
                0 => Some(Some(page)),
                number if number > 0 && number as u64 <= page => Some(None),
                _ => None,
            }
        }
    }
}

fn parameters_pass(rules: &[&Stanza], required: &[String], data: &Map<String, Value>) -> bool {
    if required.iter().any(|name| !data.contains_key(name)) {
        return false;
    }
    let denied: Vec<_> = rules.iter().flat_map(|rule| &rule.denied).collect();
    let allowed: Vec<_> = rules.iter().flat_map(|rule| &rule.allowed).collect();
    // Each parameter by itself: is it, with its value, in the list?
    let is_named = |list: &[&(&'static str, Vec<Value>)], name: &str| list.iter().any(|(own, _)| own.to_lowercase() == name.to_lowercase());
    let is_listed = |list: &[&(&'static str, Vec<Value>)], name: &str, value: &Value| {
        let same: Vec<_> = list.iter().filter(|(own, _)| own.to_lowercase() == name.to_lowercase()).collect();
        !same.is_empty()
            && (same.iter().any(|(_, values)| values.is_empty()) || same.iter().any(|(_, values)| values.iter().any(|v| globs(v, value))))
    };
    if !data.is_empty() && is_named(&denied, "*") {
        return false;
    }
    let only_star = allowed.iter().all(|(name, _)| *name == "*");
    data.iter().all(|(name, value)| {
        !is_listed(&denied, name, value)
            && (only_star || is_listed(&allowed, name, value) || (is_named(&allowed, "*") && !is_named(&allowed, name)))
    })
}

fn globs(pattern: &Value, value: &Value) -> bool {
    let (Some(pattern_text), Some(text)) = (pattern.as_str(), value.as_str()) else { return pattern == value };
    let characters: Vec<char> = pattern_text.chars().collect();
    match characters.as_slice() {
        ['*', middle @ .., '*'] => text.contains(&middle.iter().collect::<String>()),
        ['*', rest @ ..] if !rest.is_empty() => text.ends_with(&rest.iter().collect::<String>()),
        [rest @ .., '*'] if !rest.is_empty() => text.starts_with(&rest.iter().collect::<String>()),
        _ => pattern_text == text,
    }
}

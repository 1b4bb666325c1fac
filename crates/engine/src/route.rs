//! Routes: what may be asked below a mount, as one table. It drives routing, path-help and the OpenAPI document, so that they cannot differ.
//!
//! Always: which route a path takes depends on the patterns alone, never on their order in the table; the time is linear in the table, and
//! nothing is allocated. A path's folder slash is no part of the match. Knows nothing of mounts, policies or what a handler is: `H` is a
//! function pointer, an enum, or whatever its owner likes.
//!
//! # Patterns
//!
//! Segments joined by `/`, none of them empty; the empty pattern is the mount itself.
//!
//! | segment | matches |
//! |---|---|
//! | `text` | the very segment `text` |
//! | `{name}` | any one segment |
//! | `{name...}` | one or more segments; at most once in a pattern, with any segments before and behind (`mounts/{path...}/tune`) |
//!
//! Where several patterns match, they are compared segment by segment from the front: the literal wins over the parameter, and that over
//! `{name...}`. Are they equal up to a `{name...}`, then what stands behind it is compared from the end, in the same way, and more segments
//! win over fewer. Two patterns that neither rule tells apart match the same paths; [`check`] refuses a table that has them.
//!
//! # Example
//!
//! ```
//! use engine::route::{Access, Field, FieldKind, Method, Route, find};
//! use types::{Path, capability::Verb};
//!
//! static TABLE: &[Route<fn() -> &'static str>] = &[Route {
//!     pattern: "mounts/{path...}/tune",
//!     about: "A mount's settings.",
//!     parameters: &[Field::required("path", FieldKind::Text, "Where the mount is.")],
//!     methods: &[Method { verb: Verb::Read, summary: "Reads the settings.", fields: &[], query: &[], handler: || "tuned" }],
//!     access: Access::Token,
//! }];
//!
//! let path = Path::parse("mounts/team/kv/tune")?;
//! let (route, captures) = find(TABLE, &path).ok_or("no such route")?;
//! assert_eq!(captures.text("path"), "team/kv");
//! assert_eq!((route.method(Verb::Read).ok_or("no such method")?.handler)(), "tuned");
//! assert!(find(TABLE, &Path::parse("mounts/tune")?).is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use types::Path;
use types::capability::Verb;

/// Parameters that one pattern may have.
pub const PARAMETERS_MAX: usize = 4;

/// One kind of path, and what may be done there.
#[derive(Clone, Copy)]
pub struct Route<H: 'static> {
    /// Which paths: see the module.
    pub pattern: &'static str,
    /// What is there, for people: whole sentences.
    pub about: &'static str,
    /// What the pattern's parameters mean: one field each, in any order.
    pub parameters: &'static [Field],
    /// One for each verb.
    pub methods: &'static [Method<H>],
    /// Who may call.
    pub access: Access,
}

/// What one verb does on a route.
pub struct Method<H: 'static> {
    /// The verb.
    pub verb: Verb,
    /// What it does, in one sentence for people.
    pub summary: &'static str,
    /// Members of the body.
    pub fields: &'static [Field],
    /// Query parameters.
    pub query: &'static [Field],
    /// Who does it.
    pub handler: H,
}

/// A named value that a caller gives: in the path, the query or the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name, as callers write it.
    pub name: &'static str,
    /// What values it takes.
    pub kind: FieldKind,
    /// What it means, its unit and what holds without it; whole sentences, for people.
    pub about: &'static str,
    /// Without it the call is refused.
    pub required: bool,
}

/// What values a field takes. Handlers may take more (a number as text, a list as one text with commas), as Vault's do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// Seconds as a number, or text such as `1h30m`.
    Duration,
    /// True or false.
    Boolean,
    /// A list of texts.
    List,
    /// A list of whole numbers.
    Integers,
    /// Names with values: a JSON object.
    Map,
    /// Any JSON value.
    Any,
}

/// Who may call a route, before policies are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Whoever has a token whose policies allow it.
    Token,
    /// As [`Access::Token`], and the policies must grant `sudo` too.
    Sudo,
    /// Reading is for everybody, and shows what strangers may see. A change is for who has a token as with [`Access::Sudo`], or brings one of
    /// the cluster's shares in the body, as `share` or `key`: the handler must check it.
    SudoOrShare,
    /// Everybody: no token is asked for. Each such route is an entry in the inventory of what strangers reach.
    Anyone,
}

impl Access {
    /// Whether everybody is served, whatever comes along.
    pub fn is_open(self, verb: Verb) -> bool {
        match self {
            Access::Anyone => true,
            Access::SudoOrShare => verb == Verb::Read,
            Access::Token | Access::Sudo => false,
        }
    }
}

impl Field {
    /// A field that may be left out.
    pub const fn optional(name: &'static str, kind: FieldKind, about: &'static str) -> Field {
        Field { name, kind, about, required: false }
    }

    /// A field that must be there.
    pub const fn required(name: &'static str, kind: FieldKind, about: &'static str) -> Field {
        Field { name, kind, about, required: true }
    }
}

impl<H> Route<H> {
    /// What `verb` does here.
    pub fn method(&self, verb: Verb) -> Option<&'static Method<H>> {
        self.methods.iter().find(|method| method.verb == verb)
    }

    /// This route without its handlers: to be told of, not to be called.
    pub fn outline(&self) -> Outline {
        let Route { pattern, about, parameters, methods, access } = *self;
        let methods = methods.iter().map(|&Method { verb, summary, fields, query, .. }| MethodOutline { verb, summary, fields, query });
        Outline { pattern, about, parameters, methods: methods.collect(), access }
    }
}

/// A [`Route`] without its handlers, so that tables of different handlers can be shown together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// [`Route::pattern`].
    pub pattern: &'static str,
    /// [`Route::about`].
    pub about: &'static str,
    /// [`Route::parameters`].
    pub parameters: &'static [Field],
    /// [`Route::methods`].
    pub methods: Vec<MethodOutline>,
    /// [`Route::access`].
    pub access: Access,
}

/// A [`Method`] without its handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodOutline {
    /// [`Method::verb`].
    pub verb: Verb,
    /// [`Method::summary`].
    pub summary: &'static str,
    /// [`Method::fields`].
    pub fields: &'static [Field],
    /// [`Method::query`].
    pub query: &'static [Field],
}

/// A whole table without its handlers.
pub fn outlines<H>(table: &[Route<H>]) -> Vec<Outline> {
    table.iter().map(Route::outline).collect()
}

/// What a pattern's parameters stand for in one path. Confidential, as paths are: no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Captures {
    path: Path,
    spans: Spans,
}

/// Where each parameter lies in the path's text.
type Spans = [Option<Span>; PARAMETERS_MAX];

#[derive(Clone, PartialEq, Eq)]
struct Span {
    name: &'static str,
    range: Range<usize>,
}

impl Captures {
    /// What the parameter stands for: one segment, or several joined by `/`; never a slash at either end.
    ///
    /// # Panics
    /// When the route's pattern has no parameter of this name: table and handler do not fit, which the first call of any test finds.
    pub fn text(&self, name: &str) -> &str {
        match self.get(name) {
            Some(text) => text,
            None => panic!("the route's pattern has no parameter {{{name}}}"),
        }
    }

    /// What the parameter stands for; `None` when the route's pattern has none of this name. For handlers that serve several routes.
    pub fn get(&self, name: &str) -> Option<&str> {
        let span = self.spans.iter().flatten().find(|span| span.name == name)?;
        Some(&self.path.as_str()[span.range.clone()])
    }

    /// What the parameter stands for, as a path, which is no folder.
    ///
    /// # Panics
    /// As [`Captures::text`].
    pub fn path(&self, name: &str) -> Path {
        Path::parse(self.text(name)).expect("segments of a path are a path")
    }
}

/// The route that `path` takes, and what its parameters stand for. Whether the path may be a folder is for the caller to say, who knows the verb
/// ([`resolve`] says it as Vault does).
pub fn find<'t, H>(table: &'t [Route<H>], path: &Path) -> Option<(&'t Route<H>, Captures)> {
    let matches = table.iter().filter_map(|route| Some((route, spans(route.pattern, path)?)));
    let (route, spans) = matches.min_by(|(a, _), (b, _)| precedence(a.pattern, b.pattern))?;
    Some((route, Captures { path: path.clone(), spans }))
}

/// As [`find`], among outlines.
pub fn find_outline<'t>(table: &'t [Outline], path: &Path) -> Option<&'t Outline> {
    let matches = table.iter().filter(|route| spans(route.pattern, path).is_some());
    matches.min_by(|a, b| precedence(a.pattern, b.pattern))
}

/// What was asked for, found in a table.
pub struct Resolved<'t, H: 'static> {
    /// The route.
    pub route: &'t Route<H>,
    /// What the verb does there.
    pub method: &'static Method<H>,
    /// What the route's parameters stand for.
    pub captures: Captures,
}

/// Why there is nothing to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No pattern matches the path.
    #[error("unsupported path")]
    NoRoute,
    /// The path is there, but not for this verb.
    #[error("unsupported operation")]
    NoMethod,
    /// A path that ends in a slash is a folder, which can only be listed.
    #[error("cannot {verb} a path ending in '/' (leave the slash out)")]
    Folder {
        /// What was asked.
        verb: Verb,
    },
}

/// The route and the method for `verb` on `path`. A path that ends in a slash means a folder, and fits only [`Verb::List`] and [`Verb::Scan`].
pub fn resolve<'t, H>(table: &'t [Route<H>], verb: Verb, path: &Path) -> Result<Resolved<'t, H>, ResolveError> {
    let (route, captures) = find(table, path).ok_or(ResolveError::NoRoute)?;
    let method = route.method(verb).ok_or(ResolveError::NoMethod)?;
    // The mount itself has no slash to leave out.
    if path.is_folder() && !path.is_root() && !matches!(verb, Verb::List | Verb::Scan) {
        return Err(ResolveError::Folder { verb });
    }
    Ok(Resolved { route, method, captures })
}

/// One segment of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Token {
    // In the order of precedence.
    Literal(&'static str),
    One(&'static str),
    Rest(&'static str),
}

impl Token {
    fn of(segment: &'static str) -> Token {
        match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            None => Token::Literal(segment),
            Some(name) => match name.strip_suffix("...") {
                None => Token::One(name),
                Some(name) => Token::Rest(name),
            },
        }
    }

    /// The same for all tokens that match alike.
    fn shape(self) -> Token {
        match self {
            Token::Literal(text) => Token::Literal(text),
            Token::One(_) => Token::One(""),
            Token::Rest(_) => Token::Rest(""),
        }
    }

    /// The lower, the more exact.
    fn rank(self) -> u8 {
        match self {
            Token::Literal(_) => 0,
            Token::One(_) => 1,
            Token::Rest(_) => 2,
        }
    }
}

fn tokens(pattern: &'static str) -> impl DoubleEndedIterator<Item = Token> + Clone {
    pattern.split('/').filter(|segment| !segment.is_empty()).map(Token::of)
}

/// The segments of a path that no token has matched yet, as a range of its text.
struct Unmatched<'p> {
    text: &'p str,
    range: Range<usize>,
}

impl Unmatched<'_> {
    fn take_first(&mut self) -> Option<Range<usize>> {
        let all = self.range.clone();
        let left = self.text.get(all.clone()).filter(|left| !left.is_empty())?;
        let end = all.start + left.find('/').unwrap_or(left.len());
        self.range.start = all.end.min(end + 1);
        Some(all.start..end)
    }

    fn take_last(&mut self) -> Option<Range<usize>> {
        let all = self.range.clone();
        let left = self.text.get(all.clone()).filter(|left| !left.is_empty())?;
        let slash = left.rfind('/');
        self.range.end = all.start + slash.unwrap_or(0);
        Some(all.start + slash.map_or(0, |slash| slash + 1)..all.end)
    }
}

/// Where the parameters lie, if the pattern matches.
fn spans(pattern: &'static str, path: &Path) -> Option<Spans> {
    let text = path.as_str().trim_end_matches('/');
    let mut unmatched = Unmatched { text, range: 0..text.len() };
    let mut spans: Spans = [const { None }; PARAMETERS_MAX];
    let mut free = spans.iter_mut();
    let mut tokens = tokens(pattern);
    let mut note = |name, range| {
        // A table that is not well-formed must not bring down a server: what has no room is not captured.
        if let Some(span) = free.next() {
            *span = Some(Span { name, range });
        }
    };
    while let Some(token) = tokens.next() {
        match token {
            Token::Literal(literal) => unmatched.take_first().filter(|range| &text[range.clone()] == literal).map(drop)?,
            Token::One(name) => note(name, unmatched.take_first()?),
            Token::Rest(name) => {
                while let Some(token) = tokens.next_back() {
                    let range = unmatched.take_last()?;
                    match token {
                        Token::Literal(literal) if &text[range.clone()] != literal => return None,
                        Token::Literal(_) => {}
                        Token::One(name) | Token::Rest(name) => note(name, range),
                    }
                }
                let range = std::mem::replace(&mut unmatched.range, 0..0);
                if range.is_empty() {
                    return None;
                }
                note(name, range);
            }
        }
    }
    unmatched.range.is_empty().then_some(spans)
}

/// Which of two patterns that match the same path goes first: see the module.
fn precedence(a: &'static str, b: &'static str) -> Ordering {
    let (mut a, mut b) = (tokens(a), tokens(b));
    loop {
        match (a.next(), b.next()) {
            (Some(Token::Rest(_)), Some(Token::Rest(_))) => break,
            (Some(a), Some(b)) if a.rank() != b.rank() => return a.rank().cmp(&b.rank()),
            (Some(_), Some(_)) => {}
            // Without a `{name...}` both have as many segments as the path.
            (None, None) => return Ordering::Equal,
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
        }
    }
    loop {
        match (a.next_back(), b.next_back()) {
            (Some(a), Some(b)) if a.rank() != b.rank() => return a.rank().cmp(&b.rank()),
            (Some(_), Some(_)) => {}
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (None, None) => return Ordering::Equal,
        }
    }
}

/// What is wrong with a table, each fault with its pattern: empty when it is well-formed. For a test of each table.
///
/// Well-formed means: patterns keep to their language and no two match the same paths; every route, method and field is documented; a route
/// has a method, and one for each verb; its parameters are those of its pattern; no two fields of a method share a name, nor one with a
/// parameter; what only reads takes no body.
pub fn check<H>(table: &[Route<H>]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut shapes = HashSet::new();
    for route in table {
        let mut fault = |text: String| faults.push(format!("{:?}: {text}", route.pattern));
        check_pattern(route.pattern, &mut fault);
        if !shapes.insert(tokens(route.pattern).map(Token::shape).map(|token| format!("{token:?}")).collect::<Vec<_>>()) {
            fault("another route has a pattern for the same paths".to_owned());
        }
        if !is_text(route.about) {
            fault("the route is not documented".to_owned());
        }
        let captured: BTreeSet<&str> = parameter_names(route.pattern).collect();
        if route.parameters.len() != captured.len() || !route.parameters.iter().all(|field| captured.contains(field.name)) {
            fault("its parameters are not those of its pattern".to_owned());
        }
        check_fields("path", route.parameters, &mut fault);
        if route.methods.is_empty() {
            fault("it has no method".to_owned());
        }
        let mut verbs = HashSet::new();
        for method in route.methods {
            check_method(method, &captured, &mut fault);
            if !verbs.insert(method.verb) {
                fault(format!("it has two methods for {}", method.verb));
            }
        }
    }
    faults
}

fn check_method<H>(method: &Method<H>, captured: &BTreeSet<&str>, fault: &mut impl FnMut(String)) {
    let verb = method.verb;
    if !is_text(method.summary) {
        fault(format!("{verb} is not documented"));
    }
    if matches!(verb, Verb::Read | Verb::List | Verb::Scan) && !method.fields.is_empty() {
        fault(format!("{verb} takes a body, which no client sends"));
    }
    check_fields("body", method.fields, fault);
    check_fields("query", method.query, fault);
    for field in method.fields.iter().chain(method.query) {
        if captured.contains(field.name) {
            fault(format!("{verb} has a field {:?} beside the parameter", field.name));
        }
    }
}

fn check_fields(place: &str, fields: &[Field], fault: &mut impl FnMut(String)) {
    let mut names = HashSet::new();
    for field in fields {
        if field.name.is_empty() || field.name.contains(['/', '{', '}', ' ']) {
            fault(format!("{:?} cannot be the name of a field", field.name));
        }
        if !is_text(field.about) {
            fault(format!("the field {:?} ({place}) is not documented", field.name));
        }
        if !names.insert(field.name) {
            fault(format!("two fields ({place}) are named {:?}", field.name));
        }
    }
}

fn check_pattern(pattern: &'static str, fault: &mut impl FnMut(String)) {
    if !pattern.is_empty() && pattern.split('/').any(str::is_empty) {
        fault("an empty segment".to_owned());
    }
    let names: Vec<&str> = parameter_names(pattern).collect();
    let is_name = |name: &&str| {
        name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    if !names.iter().all(is_name) {
        fault("a parameter's name has other characters than a to z, 0 to 9 and _, or does not begin with a letter".to_owned());
    }
    if names.iter().collect::<HashSet<_>>().len() != names.len() {
        fault("two parameters of one name".to_owned());
    }
    if names.len() > PARAMETERS_MAX {
        fault(format!("more than {PARAMETERS_MAX} parameters"));
    }
    if tokens(pattern).filter(|token| matches!(token, Token::Rest(_))).count() > 1 {
        fault("more than one {name...}".to_owned());
    }
    if tokens(pattern).any(|token| matches!(token, Token::Literal(text) if text.contains(['{', '}']))) {
        fault("a parameter is a whole segment: {name} or {name...}".to_owned());
    }
}

fn parameter_names(pattern: &'static str) -> impl Iterator<Item = &'static str> {
    tokens(pattern).filter_map(|token| match token {
        Token::Literal(_) => None,
        Token::One(name) | Token::Rest(name) => Some(name),
    })
}

/// Whether people can read it.
fn is_text(text: &str) -> bool {
    !text.is_empty() && text.trim() == text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: Field = Field::required("name", FieldKind::Text, "A name.");

    fn route(pattern: &'static str) -> Route<&'static str> {
        const METHODS: &[Method<&str>] =
            &[Method { verb: Verb::Read, summary: "Reads.", fields: &[], query: &[], handler: "read" }, LIST, SCAN];
        const LIST: Method<&str> = Method { verb: Verb::List, summary: "Lists.", fields: &[], query: &[], handler: "list" };
        const SCAN: Method<&str> = Method { verb: Verb::Scan, summary: "Scans.", fields: &[], query: &[], handler: "scan" };
        let parameters: Vec<Field> = parameter_names(pattern).map(|name| Field { name, ..NAME }).collect();
        Route { pattern, about: "About.", parameters: parameters.leak(), methods: METHODS, access: Access::Token }
    }

    fn table(patterns: &[&'static str]) -> Vec<Route<&'static str>> {
        patterns.iter().map(|pattern| route(pattern)).collect()
    }

    /// Pattern and captures, as text.
    fn found(table: &[Route<&'static str>], path: &str) -> Option<(&'static str, String)> {
        let (route, captures) = find(table, &Path::parse(path).unwrap())?;
        let captured: Vec<String> = parameter_names(route.pattern).map(|name| format!("{name}={}", captures.text(name))).collect();
        Some((route.pattern, captured.join(" ")))
    }

    #[test]
    fn a_path_takes_the_most_exact_pattern_whatever_the_order() {
        let patterns = [
            "",
            "config",
            "data/{path...}",
            "keys/{name}",
            "keys/{name}/config",
            "keys/{name}/{act}",
            "keys/all/{act}",
            "keys/{rest...}",
            "mounts",
            "mounts/{path...}",
            "mounts/{path...}/tune",
            "mounts/{path...}/{name}/info",
        ];
        let cases = [
            ("", Some(("", ""))),
            ("config", Some(("config", ""))),
            ("config/", Some(("config", ""))),
            ("config/x", None),
            ("conf", None),
            ("configs", None),
            ("data", None),
            ("data/", None),
            ("data/a", Some(("data/{path...}", "path=a"))),
            ("data/a/", Some(("data/{path...}", "path=a"))),
            ("data/a/b/c/", Some(("data/{path...}", "path=a/b/c"))),
            ("keys/a", Some(("keys/{name}", "name=a"))),
            ("keys/{name}", Some(("keys/{name}", "name={name}"))),
            ("keys/a/config", Some(("keys/{name}/config", "name=a"))),
            ("keys/a/rotate", Some(("keys/{name}/{act}", "name=a act=rotate"))),
            ("keys/all/config", Some(("keys/all/{act}", "act=config"))),
            ("keys/a/b/c", Some(("keys/{rest...}", "rest=a/b/c"))),
            ("mounts/", Some(("mounts", ""))),
            ("mounts/a/b", Some(("mounts/{path...}", "path=a/b"))),
            ("mounts/tune", Some(("mounts/{path...}", "path=tune"))),
            ("mounts/a/tune", Some(("mounts/{path...}/tune", "path=a"))),
            ("mounts/a/tune/tune", Some(("mounts/{path...}/tune", "path=a/tune"))),
            ("mounts/a/info", Some(("mounts/{path...}", "path=a/info"))),
            ("mounts/a/b/é/info", Some(("mounts/{path...}/{name}/info", "path=a/b name=é"))),
        ];
        let mut table = table(&patterns);
        assert_eq!(check(&table), Vec::<String>::new());
        for _ in 0..patterns.len() {
            table.rotate_left(1);
            for (path, want) in cases {
                assert_eq!(found(&table, path), want.map(|(pattern, captured)| (pattern, captured.to_owned())), "{path}");
            }
        }
    }

    #[test]
    fn only_lists_take_a_folder() {
        let table = table(&["", "a/{path...}"]);
        let resolved = |verb, path| resolve(&table, verb, &Path::parse(path).unwrap()).map(|resolved| resolved.method.handler);
        for (verb, path, want) in [
            (Verb::Read, "a/b", Ok("read")),
            (Verb::List, "a/b", Ok("list")),
            (Verb::List, "a/b/", Ok("list")),
            (Verb::Scan, "a/b/", Ok("scan")),
            (Verb::Read, "", Ok("read")),
            (Verb::Read, "a/b/", Err(ResolveError::Folder { verb: Verb::Read })),
            (Verb::Delete, "a/b/", Err(ResolveError::NoMethod)),
            (Verb::Write, "a/b", Err(ResolveError::NoMethod)),
            (Verb::Read, "b", Err(ResolveError::NoRoute)),
        ] {
            assert_eq!(resolved(verb, path), want, "{verb} {path}");
        }
    }

    #[test]
    fn captures_are_paths_too() {
        let table = table(&["a/{path...}"]);
        let (_, captures) = find(&table, &Path::parse("a/b/c/").unwrap()).unwrap();
        assert!(captures.path("path") == Path::parse("b/c").unwrap());
        assert_eq!(captures.get("nothing"), None);
    }

    #[test]
    fn faults_of_a_table_are_found() {
        let faults = |route: Route<&'static str>| check(&[route]).join("; ");
        for (pattern, want) in [
            ("/a", "an empty segment"),
            ("a/", "an empty segment"),
            ("a//b", "an empty segment"),
            ("{Name}", "a parameter's name"),
            ("{}", "a parameter's name"),
            ("{a}/{a}", "two parameters of one name"),
            ("{a}/{b}/{c}/{d}/{e}", "more than 4 parameters"),
            ("{a...}/{b...}", "more than one {name...}"),
            ("a{b}", "a whole segment"),
        ] {
            assert!(faults(route(pattern)).contains(want), "{pattern}: {}", faults(route(pattern)));
        }
        const EMPTY: Field = Field::optional("x", FieldKind::Any, "");
        const X: Field = Field::optional("x", FieldKind::Any, "About.");
        type Change = fn(&mut Route<&'static str>);
        let changes: &[(&str, Change)] = &[
            ("the route is not documented", |route| route.about = " "),
            ("its parameters are not those", |route| route.parameters = &[]),
            ("its parameters are not those", |route| route.parameters = &[X]),
            ("it has no method", |route| route.methods = &[]),
            ("update is not documented", |route| {
                route.methods = &[Method { verb: Verb::Write, summary: "", fields: &[], query: &[], handler: "" }];
            }),
            ("read takes a body", |route| {
                route.methods = &[Method { verb: Verb::Read, summary: "x", fields: &[X], query: &[], handler: "" }];
            }),
            ("the field \"x\" (query) is not documented", |route| {
                route.methods = &[Method { verb: Verb::Read, summary: "x", fields: &[], query: &[EMPTY], handler: "" }];
            }),
            ("two fields (body) are named \"x\"", |route| {
                route.methods = &[Method { verb: Verb::Write, summary: "x", fields: &[X, X], query: &[], handler: "" }];
            }),
            ("update has a field \"name\" beside the parameter", |route| {
                route.methods = &[Method { verb: Verb::Write, summary: "x", fields: &[NAME], query: &[], handler: "" }];
            }),
            ("it has two methods for update", |route| {
                const WRITE: Method<&str> = Method { verb: Verb::Write, summary: "x", fields: &[], query: &[], handler: "" };
                route.methods = &[WRITE, WRITE];
            }),
        ];
        for (want, change) in changes {
            let mut route = route("a/{name}");
            change(&mut route);
            let found = faults(route);
            assert!(found.contains(want), "{want}: {found}");
        }
        assert!(check(&table(&["a/{x}", "a/{y}"])).join("").contains("the same paths"));
    }

    #[test]
    fn outlines_tell_all_but_the_handlers() {
        let outlines = outlines(&table(&["a/{name}"]));
        assert_eq!(outlines[0].pattern, "a/{name}");
        assert_eq!(outlines[0].parameters, [NAME]);
        assert_eq!(outlines[0].methods.iter().map(|method| method.verb).collect::<Vec<_>>(), [Verb::Read, Verb::List, Verb::Scan]);
    }

    /// Every way of matching, one after the other.
    fn matches_naively(pattern: &[Token], path: &[&str]) -> bool {
        match (pattern.first(), path.first()) {
            (None, None) => true,
            (Some(Token::Literal(text)), Some(segment)) => text == segment && matches_naively(&pattern[1..], &path[1..]),
            (Some(Token::One(_)), Some(_)) => matches_naively(&pattern[1..], &path[1..]),
            (Some(Token::Rest(_)), Some(_)) => (1..=path.len()).any(|count| matches_naively(&pattern[1..], &path[count..])),
            _ => false,
        }
    }

    const PATTERNS: [&str; 16] = [
        "",
        "a",
        "b",
        "a/b",
        "{x}",
        "{x}/b",
        "a/{x}",
        "{x}/{y}",
        "{x...}",
        "a/{x...}",
        "{x...}/a",
        "{x...}/{y}",
        "{x...}/b/{y}",
        "a/{x...}/b",
        "{y}/{x...}/b",
        "{y}/{x...}",
    ];

    proptest! {
        #[test]
        fn a_match_is_found_exactly_if_there_is_one(
            path in prop::collection::vec(prop::sample::select(&["a", "b", "c"][..]), 0..5),
            chosen in prop::sample::subsequence(&PATTERNS[..], 1..PATTERNS.len()),
        ) {
            let table = table(&chosen);
            let matching: Vec<&str> =
                chosen.iter().copied().filter(|pattern| matches_naively(&tokens(pattern).collect::<Vec<_>>(), &path)).collect();
            let mut reversed = chosen.clone();
            reversed.reverse();
            let found = found(&table, &path.join("/"));
            prop_assert_eq!(&found, &self::found(&self::table(&reversed), &path.join("/")));
            match found {
                None => prop_assert!(matching.is_empty()),
                Some((pattern, _)) => {
                    prop_assert!(matching.contains(&pattern));
                    for other in matching {
                        prop_assert!(other == pattern || precedence(pattern, other) == Ordering::Less, "{} {}", pattern, other);
                    }
                }
            }
        }
    }
}

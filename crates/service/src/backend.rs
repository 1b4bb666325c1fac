//! Backends: what stands behind a mount. Secret engines come from the crate `engine`; the service has its own for `sys`, tokens and auth
//! methods. Each has one table of routes, which drives routing, help and the OpenAPI document.

use std::collections::{BTreeMap, BTreeSet};

use crypto::Rng;
use engine::kv::Version;
use engine::route::{Access, Captures, Outline, ResolveError, Resolved, Route, find as find_route, resolve};
use engine::{Ask, AskError, Engine};
use types::Path;
use types::capability::Verb;

use crate::mount::Mount;
use crate::outcome::Operation;
use crate::request::Request;
use crate::{auth, sys, token};

/// Query parameters that say which verb a `GET` is.
const QUERY_OF_VERBS: [&str; 3] = ["help", "list", "scan"];

/// An ask that has found its route.
pub(crate) struct Asked<'a> {
    /// What the pattern's parameters stand for.
    pub(crate) captures: Captures,
    pub(crate) ask: &'a Ask,
    pub(crate) rng: &'a dyn Rng,
}

/// Parses an ask into an operation. Called only for who may ask.
pub(crate) type Handler = fn(&Asked<'_>) -> Result<Box<dyn Operation>, AskError>;

/// The largest body of a route that looks at its members: parsed, they take many times its size. As long as a policy's text in base64.
pub(crate) const FIELDS_BYTES_MAX: usize = 2 << 20;
/// Routes that keep the text of what they are given.
const KEPT_AS_TEXT: [&str; 2] = ["transaction", "wrapping/wrap"];

/// What stands behind a mount.
pub(crate) enum Backend<'a> {
    /// A secret engine.
    Engine(&'a dyn Engine),
    /// One of the service's own, by its table.
    Own(&'static [Route<Handler>]),
}

/// A parsed ask.
pub(crate) enum Parsed {
    /// For a view of the mount.
    Engine(Box<dyn engine::Operation>),
    /// For the whole scope.
    Own(Box<dyn Operation>),
}

impl Parsed {
    /// Whether those who ask this on one path write the same records.
    pub(crate) fn takes_turns(&self) -> bool {
        match self {
            Parsed::Engine(_) => true,
            Parsed::Own(operation) => operation.takes_turns(),
        }
    }
}

/// The service's own backend of this kind.
pub(crate) fn own(kind: &str) -> Option<&'static [Route<Handler>]> {
    match kind {
        "system" => Some(&sys::ROUTES),
        "token" => Some(token::ROUTES),
        "userpass" => Some(auth::userpass::ROUTES),
        "approle" => Some(auth::approle::ROUTES),
        _ => None,
    }
}

/// Who says, for a mount of this kind, whether a token that it made may be renewed; `None`: nobody needs to.
pub(crate) fn renewal(kind: &str) -> Option<token::RenewalCheck> {
    matches!(kind, "userpass" | "approle").then_some(auth::renew_bounds as token::RenewalCheck)
}

/// The secret engine of this kind, in the version that the mount's options name. Engines have no state.
pub(crate) fn engine(kind: &str, options: &BTreeMap<String, String>) -> Option<&'static dyn Engine> {
    match kind {
        "kv" => Version::parse(options.get("version").map(String::as_str)).ok().map(Version::engine),
        "cubbyhole" => Some(&engine::kv1::Cubbyhole),
        _ => None,
    }
}

/// What stands behind a mount; `None` when there is nothing of its kind.
pub(crate) fn find(mount: &Mount) -> Option<Backend<'static>> {
    match own(&mount.kind) {
        Some(routes) => Some(Backend::Own(routes)),
        None => engine(&mount.kind, &mount.options).map(Backend::Engine),
    }
}

/// Whether an auth method of this kind can be mounted.
pub(crate) fn is_auth_method(kind: &str) -> bool {
    !matches!(kind, "system" | "token") && own(kind).is_some()
}

/// Below these paths of `sys/` names are kept in lower case, as those of userpass and AppRole are.
const FOLDED: &[&[&str]] =
    &[&["policy"], &["policies"], &["config", "auditing", "request-headers"], &["config", "ui", "headers"], &["locked-users"]];

/// The path below a mount as its backend keeps it, when that differs from how it was asked for: names of users, roles and policies are in
/// lower case, whatever the caller writes.
pub(crate) fn kept_spelling(kind: &str, rest: &Path) -> Option<String> {
    let is_folded = match kind {
        "userpass" | "approle" => true,
        "system" => FOLDED.iter().any(|folder| rest.starts_with(folder.iter().copied())),
        _ => false,
    };
    Some(rest.as_str().to_lowercase()).filter(|kept| is_folded && kept != rest.as_str())
}

/// The path from the root namespace on, of something at `route`, as its backend keeps it, when that is another.
pub(crate) fn kept_path(path: &Path, route: &crate::mount::Route) -> Option<Path> {
    let kept = kept_spelling(&route.mount.kind, &route.rest)?;
    let above = path.as_str().strip_suffix(route.rest.as_str())?;
    Path::parse(&format!("{above}{kept}")).ok()
}

impl Backend<'_> {
    /// Who may ask this, before policies are asked. What is not there is asked for with a token.
    pub(crate) fn access(&self, verb: Verb, path: &Path) -> Access {
        match self {
            Backend::Engine(_) => Access::Token,
            Backend::Own(table) => resolve(table, verb, path).map_or(Access::Token, |found| found.route.access),
        }
    }

    /// Finds the operation that is asked for.
    pub(crate) fn parse(&self, ask: Ask, rng: &dyn Rng) -> Result<Parsed, AskError> {
        match self {
            Backend::Engine(engine) => Ok(Parsed::Engine(engine.parse(ask)?)),
            Backend::Own(table) => {
                let Resolved { route, method, captures } = resolve(table, ask.verb, &ask.path).map_err(|error| match error {
                    ResolveError::NoRoute => AskError::UnsupportedPath,
                    ResolveError::NoMethod => AskError::UnsupportedOperation,
                    ResolveError::Folder { .. } => AskError::Invalid(error.to_string()),
                })?;
                if ask.body.len() > FIELDS_BYTES_MAX && !KEPT_AS_TEXT.contains(&route.pattern) {
                    return Err(AskError::Invalid(format!("the body is larger than {FIELDS_BYTES_MAX} bytes, which is the limit here")));
                }
                Ok(Parsed::Own((method.handler)(&Asked { captures, ask: &ask, rng })?))
            }
        }
    }

    /// Names of members and query parameters that came along and that the route knows none of; sorted, each once. Empty for engines, which look
    /// after theirs, and where a route declares none. What is not there has none.
    pub(crate) fn unrecognized(&self, request: &Request, path: &Path) -> Vec<String> {
        let Backend::Own(table) = self else { return Vec::new() };
        let Some((route, _)) = find_route(table, path) else { return Vec::new() };
        let fields = || route.methods.iter().flat_map(|method| method.fields.iter().chain(method.query)).chain(route.parameters);
        if route.method(request.verb).is_none_or(|method| method.fields.is_empty() && method.query.is_empty()) {
            return Vec::new();
        }
        // EXPOSE: only names are kept.
        let members = serde_json::from_slice::<BTreeMap<String, serde::de::IgnoredAny>>(request.body.expose()).unwrap_or_default();
        let names: BTreeSet<&str> = members.keys().map(String::as_str).chain(request.query.iter().map(|(name, _)| name.as_str())).collect();
        let is_known = |name: &str| QUERY_OF_VERBS.contains(&name) || fields().any(|field| field.name == name);
        names.into_iter().filter(|name| !is_known(name)).map(str::to_owned).collect()
    }

    /// Its routes, to be shown.
    pub(crate) fn outlines(&self) -> Vec<Outline> {
        match self {
            Backend::Engine(engine) => engine.routes(),
            Backend::Own(table) => engine::route::outlines(table),
        }
    }
}

//! Backends: what stands behind a mount. Secret engines come from the crate `engine`; the service has its own for `sys`, tokens and auth
//! methods. Each has one table of routes, which drives routing, help and the OpenAPI document.

use crypto::Rng;
use engine::route::{Access, Captures, Outline, ResolveError, Resolved, Route, resolve};
use engine::{Ask, AskError, Engine};
use types::Path;
use types::capability::Verb;

use crate::outcome::Operation;
use crate::{auth, sys, token};

/// An ask that has found its route.
pub(crate) struct Asked<'a> {
    /// What the pattern's parameters stand for.
    pub(crate) captures: Captures,
    pub(crate) ask: &'a Ask,
    pub(crate) rng: &'a dyn Rng,
}

/// Parses an ask into an operation. Called only for who may ask.
pub(crate) type Handler = fn(&Asked<'_>) -> Result<Box<dyn Operation>, AskError>;

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
                let Resolved { method, captures, .. } = resolve(table, ask.verb, &ask.path).map_err(|error| match error {
                    ResolveError::NoRoute => AskError::UnsupportedPath,
                    ResolveError::NoMethod => AskError::UnsupportedOperation,
                    ResolveError::Folder { .. } => AskError::Invalid(error.to_string()),
                })?;
                Ok(Parsed::Own((method.handler)(&Asked { captures, ask: &ask, rng })?))
            }
        }
    }

    /// Its routes, to be shown.
    pub(crate) fn outlines(&self) -> Vec<Outline> {
        match self {
            Backend::Engine(_) => Vec::new(),
            Backend::Own(table) => engine::route::outlines(table),
        }
    }
}

//! KV, version 1: secrets without versions, as Vault's clients know them; and the cubbyhole, which is the same for one token.
//!
//! Always: a secret is the very text that was written, never read as numbers or sorted. A write replaces the whole. Of two racing
//! writes one is planned again, so that who may only create never replaces. Knows nothing of who asks; the view of a cubbyhole is
//! rooted at its token's own folder.
//!
//! # Paths
//!
//! | path | verbs | |
//! |---|---|---|
//! | `<path>` | read, write, delete, list and scan (`?after`, `?limit`) | a secret: an object with a member at least |
//!
//! `<path>` does not end in a slash, but to list. A write is a *create* when there is no such secret, else an *update*.
//!
//! # How long an answer holds
//!
//! The answer to a read says how long to take it for current (`lease_duration`): as the secret's member `ttl` says, or its member
//! `lease`: a duration, as a number of seconds or a text. Without one, or if it is none: as long as the mount's leases. There is no
//! lease behind it. A cubbyhole's answers do not say.
//!
//! # Records below the mount (KV v1 and cubbyhole)
//!
//! | name | value |
//! |---|---|
//! | `v1/<path>` | the secret as JSON text: an object |
//! | `upgrade` | protobuf `conclave.stored.v1.KvUpgrade`: the mount becomes one of version 2 (see [`kv::upgrade`](crate::kv::upgrade)) |
//!
//! JSON text begins with `{`; any other first byte is free for a later format. Once there is a record `upgrade`, nothing of version 1 is
//! served any more.
//!
//! # Where OpenBao is not followed
//!
//! - Numbers keep their spelling, and one that no float holds (`1e400`) is taken; OpenBao refuses it.
//! - Deleting a path that ends in a slash is refused; OpenBao answers 204 and deletes nothing.
//! - Lists and scans heed `after` and `limit`; a scan is sorted by the bytes of the whole names, and 404 when it finds nothing.
//! - A negative `ttl` is none; OpenBao answers a negative `lease_duration`.
//! - A cubbyhole can be scanned, and answers 400 to a body without members and to a write or deletion without a path; OpenBao answers 405 and 500.

mod operation;

#[cfg(test)]
mod model;

use barrier::Name;
use types::Path;

use crate::route::{Outline, outlines};
use crate::{Ask, AskError, Engine, Operation};

/// KV, version 1. It has no state: everything is in the mount's records.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kv1;

/// The cubbyhole: KV, version 1, for one token. It has no state: everything is in the records of the view it is given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cubbyhole;

impl Engine for Kv1 {
    fn kind(&self) -> &'static str {
        "kv"
    }

    fn routes(&self) -> Vec<Outline> {
        outlines(operation::ROUTES)
    }

    fn parse(&self, ask: Ask) -> Result<Box<dyn Operation>, AskError> {
        Ok(Box::new(operation::parse(&ask, operation::Form::Kv)?))
    }
}

impl Engine for Cubbyhole {
    fn kind(&self) -> &'static str {
        "cubbyhole"
    }

    fn routes(&self) -> Vec<Outline> {
        outlines(operation::ROUTES)
    }

    fn parse(&self, ask: Ask) -> Result<Box<dyn Operation>, AskError> {
        Ok(Box::new(operation::parse(&ask, operation::Form::Cubbyhole)?))
    }
}

/// The folder of all secrets.
pub(crate) fn secrets_folder() -> Name {
    Name::new("v1")
}

/// The record of a secret.
pub(crate) fn secret_name(path: &Path) -> Name {
    secrets_folder().join(path.as_str())
}

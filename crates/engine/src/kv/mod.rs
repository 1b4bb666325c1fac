//! KV, version 2: secrets with versions, as Vault's clients know them.
//!
//! Always: a secret's data is the very text that was written, never read as numbers or sorted; a write depends on the
//! revision of the secret's metadata and of the mount's settings, so of two racing writes one is planned again; version
//! numbers rise by one and are not used twice while the metadata lives. Deleting the metadata forgets the secret whole, and
//! its next version is 1 again. Knows nothing of who asks.
//!
//! # Paths
//!
//! | path | verbs | |
//! |---|---|---|
//! | `data/<path>` | read (`?version`), write, patch, delete | a version's data; delete hides the newest |
//! | `subkeys/<path>` | read (`?version`, `?depth`) | the names in a version's data |
//! | `delete/<path>` | write `{versions}` | hides versions |
//! | `undelete/<path>` | write `{versions}` | shows them again |
//! | `destroy/<path>` | write `{versions}` | erases their data |
//! | `metadata/<path>` | read, write, patch, delete, list and scan (`?after`, `?limit`) | all but the data; delete erases everything |
//! | `detailed-metadata/<path>` | list and scan (`?after`, `?limit`) | names, with the metadata of each secret |
//! | `config` | read, write | the mount's settings |
//!
//! `<path>` does not end in a slash, but to list. A scan lists the secrets below a folder, at any depth. A write to `data/` or `metadata/` is a *create* when the secret has no
//! metadata record, else an *update*: a secret whose versions are all deleted or destroyed is still there. Every other write
//! is an update.
//!
//! # Records below the mount (KV v2)
//!
//! | name | value |
//! |---|---|
//! | `config` | protobuf `conclave.stored.v1.KvConfig`; absent: all defaults |
//! | `meta/<path>` | protobuf `conclave.stored.v1.KvMetadata` |
//! | `data/<version>/<path>` | the data of one version, as JSON text: an object, or `null` |
//! | `upgrade` | protobuf `conclave.stored.v1.KvUpgrade`, if the mount was of version 1 (see [`upgrade`]) |
//!
//! `<version>` is 16 lower-case hex digits, and always the second segment, so that no secret's path can be taken for another
//! secret's version: version 1 of `a` is `data/0000000000000001/a`, and a secret `a/1` begins at `data/0000000000000001/a/1`.
//! A data record is there exactly if its version is in the metadata and not destroyed. JSON text begins with `{` or `n`; any
//! other first byte is free for a later format.
//!
//! # Where OpenBao is not followed
//!
//! - `data` that is an array is refused; OpenBao takes its elements for a map.
//! - `max_versions` is at most [`VERSIONS_MAX`], and not negative; OpenBao takes it modulo 2³².
//! - Deleting a path that ends in a slash is refused; OpenBao deletes the secret without the slash, past policies on it.
//! - A patch of `null` data is a patch of `{}`; OpenBao answers 500.
//! - Errors tell the place, not the value: they hold nothing of a body.
//! - `options` that is a list is refused; OpenBao takes an empty list for no options.
//! - A scan is sorted by the bytes of the whole names, and heeds `after` and `limit`; OpenBao's has the folders' names behind those
//!   of secrets, level by level, and heeds neither.
//! - A scan that finds nothing is 404, as a list is; OpenBao answers 200 with an empty object.
//! - In detailed lists nothing is said of a folder; OpenBao shows there the metadata of a secret of the same name.

mod config;
mod custom;
mod data;
mod merge;
mod metadata;
mod operation;
mod record;
mod reply;
mod subkeys;
pub mod transfer;
pub mod upgrade;
mod versions;

#[cfg(test)]
mod model;

use barrier::Name;
use types::Path;

use crate::route::{Outline, outlines};
use crate::{Ask, AskError, Engine, Operation};

pub use custom::{CUSTOM_KEY_BYTES_MAX, CUSTOM_KEYS_MAX, CUSTOM_VALUE_BYTES_MAX};
pub use data::DATA_BYTES_MAX;

/// Versions that a secret keeps when neither it nor its mount says how many.
pub const VERSIONS_DEFAULT: u32 = 10;
/// Versions that a secret may keep. Its metadata is one record, written with each version, and all versions go in one plan
/// when the metadata is deleted; both bound the number.
pub const VERSIONS_MAX: u32 = 2048;

/// The engine. It has no state: everything is in the mount's records.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kv;

impl Engine for Kv {
    fn kind(&self) -> &'static str {
        "kv"
    }

    fn routes(&self) -> Vec<Outline> {
        outlines(operation::ROUTES)
    }

    fn parse(&self, ask: Ask) -> Result<Box<dyn Operation>, AskError> {
        Ok(Box::new(operation::parse(&ask)?))
    }
}

/// Which of the two forms of KV a mount has: its option `version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// [`kv1`](crate::kv1): no versions of a secret.
    #[default]
    One,
    /// [`kv`](self): versions.
    Two,
}

/// A version that KV does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid version provided: {text} (KV has 1 and 2)")]
pub struct VersionError {
    /// What was given, shortened.
    text: String,
}

impl Version {
    /// Reads the mount option `version`; without it, KV is version 1, as in Vault.
    pub fn parse(option: Option<&str>) -> Result<Version, VersionError> {
        match option {
            None | Some("" | "1") => Ok(Version::One),
            Some("2") => Ok(Version::Two),
            Some(text) => Err(VersionError { text: text.chars().take(VERSION_CHARS_SHOWN).collect() }),
        }
    }

    /// The engine of this version.
    pub fn engine(self) -> &'static dyn Engine {
        match self {
            Version::One => &crate::kv1::Kv1,
            Version::Two => &Kv,
        }
    }
}

/// Characters of a wrong version that its error repeats.
const VERSION_CHARS_SHOWN: usize = 16;

/// The record of the mount's settings.
fn config_name() -> Name {
    Name::new("config")
}

/// The folder of metadata records.
fn metadata_folder() -> Name {
    Name::new("meta")
}

/// The record of a secret's metadata.
fn metadata_name(path: &Path) -> Name {
    metadata_folder().join(path.as_str())
}

/// The record of one version's data.
fn data_name(path: &Path, version: u64) -> Name {
    Name::new(&format!("data/{version:016x}")).join(path.as_str())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_records_share_a_name() {
        let paths = ["a", "a/1", "a/0000000000000001", "0000000000000001/a", "0000000000000001", "1", "config", "meta/a", "data"];
        let mut names = vec![config_name()];
        for path in paths {
            let path = Path::parse(path).unwrap();
            names.push(metadata_name(&path));
            names.extend([1, 2, 0x10, u64::MAX].map(|version| data_name(&path, version)));
        }
        let different: BTreeSet<&str> = names.iter().map(Name::as_str).collect();
        assert_eq!(different.len(), names.len());
    }

    #[test]
    fn a_mount_without_a_version_is_of_the_first() {
        for (option, want) in [(None, Version::One), (Some(""), Version::One), (Some("1"), Version::One), (Some("2"), Version::Two)] {
            assert_eq!(Version::parse(option), Ok(want), "{option:?}");
            assert_eq!(want.engine().kind(), "kv");
        }
        assert_eq!(Version::One.engine().routes().len(), 2);
        for wrong in ["0", "3", "v2", " 2"] {
            assert_eq!(Version::parse(Some(wrong)).unwrap_err().to_string(), format!("invalid version provided: {wrong} (KV has 1 and 2)"));
        }
    }

    #[test]
    fn the_layout_is_as_documented() {
        let path = Path::parse("app/db").unwrap();
        for (name, want) in
            [(config_name(), "config"), (metadata_name(&path), "meta/app/db"), (data_name(&path, 26), "data/000000000000001a/app/db")]
        {
            assert_eq!(name.as_str(), want);
        }
    }
}

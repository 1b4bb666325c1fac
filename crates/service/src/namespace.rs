//! Namespaces: tenants, each with mounts, policies and tokens of its own, one inside another.
//!
//! Always: a namespace's records lie below its id, which is never used again; the root, whose id is `root`, has no record and
//! cannot be deleted. A namespace that is being deleted is not found.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use barrier::{Name, Plan, View};
use crypto::{Rng, SecretBytes};
use prost::Message;
use proto::stored;
use types::{Path, Revision};

use crate::outcome::PlanError;
use crate::token;

/// Characters of a namespace's id: 36 bits.
const ID_CHARS: usize = 6;
/// Namespaces inside each other, at most.
pub(crate) const DEPTH_MAX: usize = 16;
/// Bytes of one name, at most.
pub(crate) const NAME_BYTES_MAX: usize = 128;
/// First segments that lead to no namespace, whatever is mounted.
const RESERVED: &[&str] = &["root", "sys", "audit", "auth", "cubbyhole", "identity"];

/// One namespace.
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    /// Names it in records and tokens.
    pub(crate) id: String,
    /// Shown to clients.
    pub(crate) uuid: String,
    /// From the root, without a slash at the end; the root's is empty.
    pub(crate) path: Path,
    /// For people.
    pub(crate) custom_metadata: BTreeMap<String, String>,
    /// It is being deleted.
    pub(crate) tainted: bool,
}

impl Namespace {
    /// The root's id.
    pub(crate) const ROOT_ID: &'static str = "root";

    /// The root.
    pub(crate) fn root() -> Arc<Namespace> {
        static ROOT: LazyLock<Arc<Namespace>> = LazyLock::new(|| {
            Arc::new(Namespace {
                id: Namespace::ROOT_ID.into(),
                uuid: String::new(),
                path: Path::root(),
                custom_metadata: BTreeMap::new(),
                tainted: false,
            })
        });
        Arc::clone(&ROOT)
    }

    pub(crate) fn is_root(&self) -> bool {
        self.id == Namespace::ROOT_ID
    }

    /// As clients see it: empty for the root, else with a slash at the end.
    pub(crate) fn shown_path(&self) -> String {
        if self.is_root() { String::new() } else { format!("{}/", self.path.as_str()) }
    }

    /// Whether `other` is this namespace or lies inside it.
    pub(crate) fn contains(&self, other: &Namespace) -> bool {
        self.is_root() || other.path.starts_with(self.path.segments())
    }

    /// The record of the namespace at `path`.
    pub(crate) fn name(path: &Path) -> Name {
        Name::new("core/namespace").join(path.as_str())
    }

    /// The record that leads from an id to a path.
    pub(crate) fn id_name(id: &str) -> Name {
        Name::new("core/namespace-id").join(id)
    }

    /// A new namespace. Its id is not in use as far as `view` knows.
    pub(crate) fn make(path: Path, view: &View, rng: &dyn Rng) -> Result<Namespace, PlanError> {
        let mut id = token::generate_text("", ID_CHARS, "", rng);
        while view.contains(&Namespace::id_name(&id))? {
            id = token::generate_text("", ID_CHARS, "", rng);
        }
        Ok(Namespace {
            id: id.to_string(),
            uuid: uuid::Builder::from_random_bytes(crypto::rng::generate_bytes(rng)).into_uuid().to_string(),
            path,
            custom_metadata: BTreeMap::new(),
            tainted: false,
        })
    }

    /// Reads the namespace at `path` to change it; also one that is being deleted. `None` when there is none.
    pub(crate) fn load(view: &View, path: &Path) -> Result<Option<(Namespace, Revision)>, PlanError> {
        let found = view.read(&Namespace::name(path))?;
        let Some(value) = found.value else { return Ok(None) };
        // EXPOSE: the record is decoded.
        let namespace = Namespace::decode(path, value.expose()).ok_or(PlanError::Malformed)?;
        Ok(Some((namespace, found.revision)))
    }

    /// Plans to store it, if it is still at `revision`.
    pub(crate) fn store(&self, revision: Revision, plan: &mut Plan) {
        let name = Namespace::name(&self.path);
        let record = stored::Namespace {
            id: self.id.clone(),
            uuid: self.uuid.clone(),
            custom_metadata: self.custom_metadata.clone().into_iter().collect(),
            tainted: self.tainted,
        };
        plan.expect(name.clone(), revision);
        plan.put(name, SecretBytes::from(record.encode_to_vec()));
    }

    /// Plans the record that leads from its id to its path. The id must be new.
    pub(crate) fn store_id(&self, plan: &mut Plan) {
        let name = Namespace::id_name(&self.id);
        let record = stored::NamespacePath { path: self.path.as_str().to_owned() };
        plan.expect(name.clone(), Revision::ABSENT);
        plan.put(name, SecretBytes::from(record.encode_to_vec()));
    }

    pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Option<Namespace> {
        let record = stored::Namespace::decode(bytes).ok()?;
        let custom_metadata = record.custom_metadata.into_iter().collect();
        Some(Namespace { id: record.id, uuid: record.uuid, path: path.without_folder(), custom_metadata, tainted: record.tainted })
    }
}

/// Whether a namespace may have this name, in its parent; an error text for the caller.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.contains('/') {
        return Err("namespace name cannot contain /".into());
    }
    if RESERVED.contains(&name) {
        return Err(format!("\"{name}/\" is a reserved path and cannot be used as a namespace name"));
    }
    if name.contains(' ') {
        return Err(format!("{name:?} contains space characters that cannot be used in a namespace name"));
    }
    if let Some(wildcard) = name.chars().find(|character| matches!(character, '+' | '*')) {
        return Err(format!("{name:?} contains wildcard characters that cannot be used in a namespace name: '{wildcard}'"));
    }
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(format!("a namespace's name has 1 to {NAME_BYTES_MAX} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_mean_something_else_are_refused() {
        for name in ["a", "UPPER", "tenant-1", "é", "rootx"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "a/b", "root", "sys", "auth", "audit", "cubbyhole", "identity", "a b", "a+", "*", &"x".repeat(NAME_BYTES_MAX + 1)]
        {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_namespace_contains_what_lies_inside_it() {
        let at = |path: &str| Namespace { path: Path::parse(path).unwrap(), id: "x".into(), ..(*Namespace::root()).clone() };
        assert!(at("a").contains(&at("a")) && at("a").contains(&at("a/b")) && Namespace::root().contains(&at("a")));
        assert!(!at("a").contains(&at("ab")) && !at("a/b").contains(&at("a")) && !at("a").contains(&Namespace::root()));
    }
}

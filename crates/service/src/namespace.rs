//! Namespaces: tenants, each with mounts, policies and tokens of its own, one inside another.
//!
//! Always: a namespace's records lie below its id, which is never used again; the root, whose id is `root`, has no record and
//! cannot be deleted. A namespace that is being deleted is not found.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use barrier::Name;
use prost::Message;
use proto::stored;
use types::Path;

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

    pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Option<Namespace> {
        let record = stored::Namespace::decode(bytes).ok()?;
        let custom_metadata = record.custom_metadata.into_iter().collect();
        Some(Namespace { id: record.id, uuid: record.uuid, path: path.without_folder(), custom_metadata, tainted: record.tainted })
    }
}

//! The service's own records: where each lies, and decoded ones kept for the next request.
//!
//! | name | what |
//! |---|---|
//! | `ns/<id>/mounts` | the namespace's mounts, in one record |
//! | `ns/<id>/policy/<name>`, `ns/<id>/password-policy/<name>` | policies' texts |
//! | `ns/<id>/token/<tag>` | tokens, by the keyed hash of their text, in hex |
//! | `ns/<id>/accessor/<accessor>` | accessors |
//! | `ns/<id>/child/<tag>/<namespace id>/<tag>` | a token's children |
//! | `ns/<id>/role/<name>` | roles of the token method |
//! | `ns/<id>/lease/<lease id>` | leases |
//! | `ns/<id>/ended-lease/<lease id>` | leases that have ended and have to be undone yet |
//! | `ns/<id>/token-lease/<tag>/<lease id>` | leases that end with a token |
//! | `ns/<id>/cubbyhole/<tag>/…` | a token's own secrets; below a wrapping token `response`, the wrapped answer |
//! | `ns/<id>/moves` | the last moves of mounts |
//! | `core/audit` | audit devices |
//! | `core/journal/<node>` | how much of a node's journal is in the audit log |
//! | `core/namespace/<path>`, `core/namespace-id/<id>` | namespaces below the root, whose id is `root` |
//! | `core/due/<day>/<hour>/<minute>/<second>/<id>` | chores, by when they are due (UTC) |
//! | `core/failing/<id>` | chores that were tried in vain |
//! | `core/restored` | the last restore: which tokens are of a history that is gone (the barrier writes it) |
//! | `mount/<uuid>/…` | what an engine or an auth method keeps |

use std::sync::{Arc, LazyLock};

use barrier::{Cache, Cached, Fork, Name, View};
use prost::Message;
use proto::stored;
use types::Revision;

use crate::audit::AuditTable;
use crate::mount::MountTable;
use crate::namespace::Namespace;
use crate::outcome::PlanError;
use crate::permit::StoredPolicy;
use crate::policy::{builtin, text::Policy};

/// Decoded tokens that are kept, at most (twice as many for a while).
const TOKENS_KEPT_MAX: usize = 20_000;
/// As above, of each other kind.
const RECORDS_KEPT_MAX: usize = 4_000;

/// Decoded records of every kind.
pub(crate) struct Caches {
    mounts: Cache<MountTable>,
    audit: Cache<AuditTable>,
    tokens: Cache<stored::Token>,
    policies: Cache<StoredPolicy>,
    namespaces: Cache<Namespace>,
    namespace_paths: Cache<stored::NamespacePath>,
    fork: Cache<Fork>,
}

impl Default for Caches {
    fn default() -> Caches {
        Caches {
            mounts: Cache::new(RECORDS_KEPT_MAX),
            audit: Cache::new(1),
            tokens: Cache::new(TOKENS_KEPT_MAX),
            policies: Cache::new(RECORDS_KEPT_MAX),
            namespaces: Cache::new(RECORDS_KEPT_MAX),
            namespace_paths: Cache::new(RECORDS_KEPT_MAX),
            fork: Cache::new(1),
        }
    }
}

/// The records at one applied state.
#[derive(Clone)]
pub(crate) struct Records {
    /// Everything, from the root.
    pub(crate) view: View,
    caches: Arc<Caches>,
}

/// The folder of a namespace's own records.
pub(crate) fn of_namespace(id: &str) -> Name {
    Name::new("ns").join(id)
}

/// The record of a token.
pub(crate) fn token_name(namespace_id: &str, tag: &[u8]) -> Name {
    of_namespace(namespace_id).join("token").join(&hex::encode(tag))
}

/// The record of a policy.
pub(crate) fn policy_name(namespace_id: &str, name: &str) -> Name {
    of_namespace(namespace_id).join("policy").join(name)
}

/// The record of a password policy.
pub(crate) fn password_policy_name(namespace_id: &str, name: &str) -> Name {
    of_namespace(namespace_id).join("password-policy").join(name)
}

/// The record of an accessor.
pub(crate) fn accessor_name(namespace_id: &str, accessor: &str) -> Name {
    of_namespace(namespace_id).join("accessor").join(accessor)
}

/// The folder of what a token is the parent of.
pub(crate) fn children_folder(namespace_id: &str, tag: &[u8]) -> Name {
    of_namespace(namespace_id).join("child").join(&hex::encode(tag))
}

/// The record that says that one token is another's child.
pub(crate) fn child_name(parent: &stored::TokenParent, namespace_id: &str, tag: &[u8]) -> Name {
    children_folder(&parent.namespace_id, &parent.tag).join(namespace_id).join(&hex::encode(tag))
}

/// The record of a lease.
pub(crate) fn lease_name(namespace_id: &str, lease_id: &str) -> Name {
    of_namespace(namespace_id).join("lease").join(lease_id)
}

/// The record of a lease that has ended and has to be undone yet.
pub(crate) fn ended_lease_name(namespace_id: &str, lease_id: &str) -> Name {
    of_namespace(namespace_id).join("ended-lease").join(lease_id)
}

/// The folder of the leases that end with a token.
pub(crate) fn token_leases_folder(namespace_id: &str, tag: &[u8]) -> Name {
    of_namespace(namespace_id).join("token-lease").join(&hex::encode(tag))
}

/// The folder of a token's own secrets.
pub(crate) fn cubbyhole_folder(namespace_id: &str, tag: &[u8]) -> Name {
    of_namespace(namespace_id).join("cubbyhole").join(&hex::encode(tag))
}

impl Records {
    /// As `view` has them.
    pub(crate) fn new(view: View, caches: Arc<Caches>) -> Records {
        Records { view, caches }
    }

    /// Where the last restore ended a history; `None`: there was none.
    pub(crate) fn fork(&self) -> Result<Option<Arc<Fork>>, PlanError> {
        Ok(self.view.fork(&self.caches.fork)?)
    }

    /// A namespace's mounts, and the revision of their record.
    pub(crate) fn mounts(&self, namespace: &Namespace) -> Result<Arc<MountTable>, PlanError> {
        let name = MountTable::name(&namespace.id);
        let found = self.view.read_cached(&self.caches.mounts, &name, MountTable::decode)?;
        let table = found.value.ok_or(PlanError::Malformed)?;
        Ok(table)
    }

    /// The revision of a namespace's mounts, without reading them.
    pub(crate) fn mounts_revision(&self, namespace: &Namespace) -> Result<Revision, PlanError> {
        let name = MountTable::name(&namespace.id);
        Ok(self.view.read_cached(&self.caches.mounts, &name, MountTable::decode)?.revision)
    }

    /// The audit devices; `None` when there never was one.
    pub(crate) fn audit(&self) -> Result<Option<Arc<AuditTable>>, PlanError> {
        Ok(self.view.read_cached(&self.caches.audit, &AuditTable::name(), AuditTable::decode)?.value)
    }

    /// A token's record.
    pub(crate) fn token(&self, namespace_id: &str, tag: &[u8]) -> Result<Cached<stored::Token>, PlanError> {
        Ok(self.view.read_cached(&self.caches.tokens, &token_name(namespace_id, tag), |bytes| stored::Token::decode(bytes).ok())?)
    }

    /// A policy; `None` when there is no such policy. `root` has no text and is none.
    pub(crate) fn policy(&self, namespace_id: &str, name: &str) -> Result<Option<Arc<StoredPolicy>>, PlanError> {
        static DEFAULT: LazyLock<Arc<StoredPolicy>> = LazyLock::new(|| built_in(builtin::DEFAULT_TEXT));
        static RESPONSE_WRAPPING: LazyLock<Arc<StoredPolicy>> = LazyLock::new(|| built_in(builtin::RESPONSE_WRAPPING_TEXT));
        if name == builtin::RESPONSE_WRAPPING {
            return Ok(Some(Arc::clone(&RESPONSE_WRAPPING)));
        }
        let decode = |bytes: &[u8]| {
            let stored::Policy { text } = stored::Policy::decode(bytes).ok()?;
            // It was read before it was stored.
            let policy = Policy::parse(&text).ok()?;
            Some(StoredPolicy { text, policy })
        };
        let found = self.view.read_cached(&self.caches.policies, &policy_name(namespace_id, name), decode)?.value;
        // Until somebody writes it, it is what every namespace begins with.
        Ok(found.or_else(|| (name == builtin::DEFAULT).then(|| Arc::clone(&DEFAULT))))
    }

    /// The namespace at a path, if there is one that can be used.
    pub(crate) fn namespace(&self, path: &types::Path) -> Result<Option<Arc<Namespace>>, PlanError> {
        if path.is_root() {
            return Ok(Some(Namespace::root()));
        }
        let found = self.view.read_cached(&self.caches.namespaces, &Namespace::name(path), |bytes| Namespace::decode(path, bytes))?;
        Ok(found.value)
    }

    /// The namespace below `outer` that a path begins with, and the rest of the path; `None` when there is none, or it is being deleted.
    pub(crate) fn inner_namespace(
        &self,
        outer: &Namespace,
        path: &types::Path,
    ) -> Result<Option<(Arc<Namespace>, types::Path)>, PlanError> {
        let (first, rest) = path.as_str().split_once('/').unwrap_or((path.as_str(), ""));
        // A path that is too long is none that a namespace has.
        let inner = types::Path::parse(first).and_then(|first| outer.path.join(&first));
        let (Ok(inner), Ok(rest), false) = (inner, types::Path::parse(rest), first.is_empty()) else { return Ok(None) };
        let found = self.namespace(&inner)?.filter(|namespace| !namespace.tainted);
        Ok(found.map(|namespace| (namespace, rest)))
    }

    /// The namespace of an id, if there is one that can be used.
    pub(crate) fn namespace_by_id(&self, id: &str) -> Result<Option<Arc<Namespace>>, PlanError> {
        if id == Namespace::ROOT_ID {
            return Ok(Some(Namespace::root()));
        }
        let decode = |bytes: &[u8]| stored::NamespacePath::decode(bytes).ok();
        let found = self.view.read_cached(&self.caches.namespace_paths, &Namespace::id_name(id), decode)?;
        match found.value {
            Some(record) => self.namespace(&types::Path::parse(&record.path).map_err(|_| PlanError::Malformed)?),
            None => Ok(None),
        }
    }
}

fn built_in(text: &str) -> Arc<StoredPolicy> {
    Arc::new(StoredPolicy { text: text.to_owned(), policy: Policy::parse(text).expect("every built-in text parses") })
}

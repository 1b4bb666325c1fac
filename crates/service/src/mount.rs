//! The mount table: what is mounted where, as one immutable snapshot, and the router over it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use barrier::{Name, Plan, View};
use crypto::{Rng, SecretBytes};
use prost::Message;
use proto::stored;
use types::{Path, Revision};

use crate::outcome::{PlanError, Settings};
use crate::records;

/// Mounts in one namespace, at most.
pub const MOUNTS_MAX: usize = 10_000;

/// One mount.
#[derive(Clone)]
pub struct Mount {
    /// Ends with `/`.
    pub path: String,
    /// The engine.
    pub kind: String,
    /// Names its records.
    pub uuid: String,
    /// Shown to clients.
    pub accessor: String,
    /// For people.
    pub description: String,
    /// The engine's options; KV has `version`.
    pub options: BTreeMap<String, String>,
    /// Seconds; 0 means the system's.
    pub lease_ttl_default_s: u64,
    /// Seconds; 0 means the system's.
    pub lease_ttl_max_s: u64,
}

impl Mount {
    /// A new mount with an identity of its own.
    pub fn make(path: &str, kind: &str, description: &str, options: BTreeMap<String, String>, rng: &dyn Rng) -> Mount {
        let accessor_kind = if path.starts_with("auth/") { format!("auth_{kind}") } else { kind.to_owned() };
        Mount {
            path: path.to_owned(),
            kind: kind.to_owned(),
            uuid: uuid::Builder::from_random_bytes(crypto::rng::generate_bytes(rng)).into_uuid().to_string(),
            accessor: format!("{accessor_kind}_{}", hex::encode(crypto::rng::generate_bytes::<4>(rng))),
            description: description.to_owned(),
            options,
            lease_ttl_default_s: 0,
            lease_ttl_max_s: 0,
        }
    }

    /// Where its records lie.
    pub(crate) fn root(&self) -> Name {
        Name::new("mount").join(&self.uuid)
    }

    /// Whether it is an auth method.
    pub(crate) fn is_auth(&self) -> bool {
        self.path.starts_with("auth/")
    }

    /// How long what it makes lives by default, and at most.
    pub(crate) fn lease_ttls(&self, settings: &Settings) -> (Duration, Duration) {
        let or = |seconds: u64, system: Duration| if seconds == 0 { system } else { Duration::from_secs(seconds) };
        let max = or(self.lease_ttl_max_s, settings.lease_ttl_max);
        (or(self.lease_ttl_default_s, settings.lease_ttl_default).min(max), max)
    }
}

/// All mounts at one revision. Never changed: a new one takes its place.
pub struct MountTable {
    pub(crate) revision: Revision,
    mounts: Vec<Arc<Mount>>,
}

/// Where a path leads.
pub(crate) struct Route {
    pub(crate) mount: Arc<Mount>,
    /// The rest of the path, below the mount.
    pub(crate) rest: Path,
}

impl MountTable {
    /// The record's name.
    pub(crate) fn name(namespace_id: &str) -> Name {
        records::of_namespace(namespace_id).join("mounts")
    }

    /// What a new namespace has mounted.
    pub(crate) fn found(rng: &dyn Rng) -> MountTable {
        let system = "system endpoints used for control, policy and debugging";
        MountTable {
            revision: Revision::ABSENT,
            mounts: vec![
                Arc::new(Mount::make("sys/", "system", system, BTreeMap::new(), rng)),
                Arc::new(Mount::make("auth/token/", "token", "token based credentials", BTreeMap::new(), rng)),
            ],
        }
    }

    /// Reads the table to change it: with the revision that a change expects.
    pub(crate) fn load(view: &View, namespace_id: &str) -> Result<MountTable, PlanError> {
        let found = view.read(&MountTable::name(namespace_id))?;
        let value = found.value.ok_or(PlanError::Malformed)?;
        // EXPOSE: the record is decoded.
        let table = MountTable::decode(value.expose()).ok_or(PlanError::Malformed)?;
        Ok(MountTable { revision: found.revision, ..table })
    }

    /// The table as it is stored; its revision is not known.
    pub(crate) fn decode(bytes: &[u8]) -> Option<MountTable> {
        let table = stored::MountTable::decode(bytes).ok()?;
        let mounts = table.mounts.into_iter().map(|mount| {
            Arc::new(Mount {
                path: mount.path,
                kind: mount.kind,
                uuid: mount.uuid,
                accessor: mount.accessor,
                description: mount.description,
                options: mount.options.into_iter().collect(),
                lease_ttl_default_s: mount.lease_ttl_default_s,
                lease_ttl_max_s: mount.lease_ttl_max_s,
            })
        });
        Some(MountTable { revision: Revision::ABSENT, mounts: mounts.collect() })
    }

    /// Whether there is a mount with this accessor.
    pub(crate) fn has_accessor(&self, accessor: &str) -> bool {
        self.mounts.iter().any(|mount| mount.accessor == accessor)
    }

    /// Plans to store the table, if nobody has changed it since it was loaded.
    pub(crate) fn store(&self, namespace_id: &str, plan: &mut Plan) {
        let mounts = self.mounts.iter().map(|mount| stored::Mount {
            path: mount.path.clone(),
            kind: mount.kind.clone(),
            uuid: mount.uuid.clone(),
            accessor: mount.accessor.clone(),
            description: mount.description.clone(),
            options: mount.options.clone().into_iter().collect(),
            lease_ttl_default_s: mount.lease_ttl_default_s,
            lease_ttl_max_s: mount.lease_ttl_max_s,
        });
        let table = stored::MountTable { mounts: mounts.collect() };
        plan.expect(MountTable::name(namespace_id), self.revision);
        plan.put(MountTable::name(namespace_id), SecretBytes::from(table.encode_to_vec()));
    }

    /// The mount that holds `path`: the longest prefix, segment by segment.
    pub(crate) fn route(&self, path: &Path) -> Option<Route> {
        let holds = |mount: &&Arc<Mount>| {
            let prefix = mount.path.trim_end_matches('/');
            path.as_str().strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mount = self.mounts.iter().filter(holds).max_by_key(|mount| mount.path.len())?;
        let rest = Path::parse(&path.as_str()[mount.path.len().min(path.as_str().len())..]).ok()?;
        Some(Route { mount: Arc::clone(mount), rest })
    }

    /// Every mount, in the order in which they were made.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Mount>> {
        self.mounts.iter()
    }

    /// The table with one more mount; an error text for the caller when it cannot be there.
    pub(crate) fn with(&self, mount: Mount) -> Result<MountTable, String> {
        for other in &self.mounts {
            if other.path == mount.path {
                return Err(format!("path is already in use at {}", other.path));
            }
            if other.path.starts_with(&mount.path) || mount.path.starts_with(&other.path) {
                return Err(format!("path is already in use at {}", other.path));
            }
        }
        if self.mounts.len() >= MOUNTS_MAX {
            return Err(format!("there are {MOUNTS_MAX} mounts already, which is the limit"));
        }
        let mut mounts = self.mounts.clone();
        mounts.push(Arc::new(mount));
        Ok(MountTable { revision: self.revision, mounts })
    }
}

#[cfg(test)]
mod tests {
    use crypto::SeededRng;

    use super::*;

    fn table(paths: &[&str]) -> MountTable {
        let rng = SeededRng::dangerous_from_seed(1);
        let mounts = paths.iter().map(|path| Arc::new(Mount::make(path, "kv", "", BTreeMap::new(), &rng)));
        MountTable { revision: Revision::ABSENT, mounts: mounts.collect() }
    }

    #[test]
    fn the_mount_that_holds_a_path_is_found() {
        let table = table(&["secret/", "team/kv/", "sys/"]);
        let cases = [
            ("secret/data/x", Some(("secret/", "data/x"))),
            ("secret", Some(("secret/", ""))),
            ("secret/", Some(("secret/", ""))),
            ("secrets/data/x", None),
            ("team", None),
            ("team/kv/metadata/", Some(("team/kv/", "metadata/"))),
            ("other", None),
        ];
        for (path, want) in cases {
            let route = table.route(&Path::parse(path).unwrap());
            let got = route.as_ref().map(|route| (route.mount.path.as_str(), route.rest.as_str()));
            assert_eq!(got, want, "{path}");
        }
    }

    #[test]
    fn no_mount_lies_inside_another() {
        let table = table(&["secret/", "team/kv/"]);
        let rng = SeededRng::dangerous_from_seed(2);
        for (path, fits) in [("secret/", false), ("secret/sub/", false), ("team/", false), ("team/other/", true), ("sec/", true)] {
            assert_eq!(table.with(Mount::make(path, "kv", "", BTreeMap::new(), &rng)).is_ok(), fits, "{path}");
        }
    }
}

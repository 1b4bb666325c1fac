//! The mount table: what is mounted where, as one immutable snapshot, and the router over it.
//!
//! Always: no mount lies inside another, so of all mounts at most one holds a path, and it is found by one binary search.

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
    /// `unauth`: shown to everybody. Else `hidden`, or empty, which means the same.
    pub listing_visibility: String,
    /// Members of bodies that audit records show in clear.
    pub audit_non_hmac_request_keys: Vec<String>,
    /// Members of answers that audit records show in clear.
    pub audit_non_hmac_response_keys: Vec<String>,
    /// Request headers that the engine may see. No engine here looks at any.
    pub passthrough_request_headers: Vec<String>,
    /// Response headers that the engine may set. No engine here sets any.
    pub allowed_response_headers: Vec<String>,
    /// Of an auth method: `default-service`, `default-batch`, `service` or `batch`; empty means the first.
    pub token_type: String,
    /// Asked for and shown. Always so: no cache here ever answers with what is old.
    pub force_no_cache: bool,
    /// Of KV: its secrets are being made ones of version 2. Until that is done it serves nobody.
    pub upgrading: bool,
    /// Of an auth method: when users are locked out; `None`: the defaults.
    pub user_lockout: Option<stored::UserLockout>,
}

impl Mount {
    /// A new mount with an identity of its own.
    pub fn make(path: &str, kind: &str, description: &str, options: BTreeMap<String, String>, rng: &dyn Rng) -> Mount {
        let accessor_kind = if path.starts_with("auth/") { format!("auth_{kind}") } else { kind.to_owned() };
        Mount {
            uuid: uuid::Builder::from_random_bytes(crypto::rng::generate_bytes(rng)).into_uuid().to_string(),
            accessor: format!("{accessor_kind}_{}", hex::encode(crypto::rng::generate_bytes::<4>(rng))),
            options,
            ..Mount::from(stored::Mount {
                path: path.to_owned(),
                kind: kind.to_owned(),
                description: description.to_owned(),
                ..stored::Mount::default()
            })
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

    /// Its path as lists of its own kind show it: that of an auth method without `auth/`.
    pub(crate) fn shown_path(&self) -> &str {
        self.path.strip_prefix("auth/").unwrap_or(&self.path)
    }

    /// How long what it makes lives by default, and at most.
    pub(crate) fn lease_ttls(&self, settings: &Settings) -> (Duration, Duration) {
        let or = |seconds: u64, system: Duration| if seconds == 0 { system } else { Duration::from_secs(seconds) };
        let max = or(self.lease_ttl_max_s, settings.lease_ttl_max);
        (or(self.lease_ttl_default_s, settings.lease_ttl_default).min(max), max)
    }
}

impl From<stored::Mount> for Mount {
    fn from(mount: stored::Mount) -> Mount {
        Mount {
            path: mount.path,
            kind: mount.kind,
            uuid: mount.uuid,
            accessor: mount.accessor,
            description: mount.description,
            options: mount.options.into_iter().collect(),
            lease_ttl_default_s: mount.lease_ttl_default_s,
            lease_ttl_max_s: mount.lease_ttl_max_s,
            listing_visibility: mount.listing_visibility,
            audit_non_hmac_request_keys: mount.audit_non_hmac_request_keys,
            audit_non_hmac_response_keys: mount.audit_non_hmac_response_keys,
            passthrough_request_headers: mount.passthrough_request_headers,
            allowed_response_headers: mount.allowed_response_headers,
            token_type: mount.token_type,
            user_lockout: mount.user_lockout,
            force_no_cache: mount.force_no_cache,
            upgrading: mount.upgrading,
        }
    }
}

impl From<&Mount> for stored::Mount {
    fn from(mount: &Mount) -> stored::Mount {
        let mount = mount.clone();
        stored::Mount {
            path: mount.path,
            kind: mount.kind,
            uuid: mount.uuid,
            accessor: mount.accessor,
            description: mount.description,
            options: mount.options.into_iter().collect(),
            lease_ttl_default_s: mount.lease_ttl_default_s,
            lease_ttl_max_s: mount.lease_ttl_max_s,
            listing_visibility: mount.listing_visibility,
            audit_non_hmac_request_keys: mount.audit_non_hmac_request_keys,
            audit_non_hmac_response_keys: mount.audit_non_hmac_response_keys,
            passthrough_request_headers: mount.passthrough_request_headers,
            allowed_response_headers: mount.allowed_response_headers,
            token_type: mount.token_type,
            user_lockout: mount.user_lockout,
            force_no_cache: mount.force_no_cache,
            upgrading: mount.upgrading,
        }
    }
}

/// All mounts of one namespace at one revision. Never changed: a new one takes its place.
pub struct MountTable {
    pub(crate) revision: Revision,
    /// Sorted by path.
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
        MountTable::of([
            Mount::make("sys/", "system", system, BTreeMap::new(), rng),
            Mount::make("auth/token/", "token", "token based credentials", BTreeMap::new(), rng),
            Mount::make("cubbyhole/", "cubbyhole", "per-token private secret storage", BTreeMap::new(), rng),
        ])
    }

    fn of(mounts: impl IntoIterator<Item = Mount>) -> MountTable {
        let mut mounts: Vec<Arc<Mount>> = mounts.into_iter().map(Arc::new).collect();
        mounts.sort_by(|left, right| left.path.cmp(&right.path));
        MountTable { revision: Revision::ABSENT, mounts }
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
        Some(MountTable::of(stored::MountTable::decode(bytes).ok()?.mounts.into_iter().map(Mount::from)))
    }

    /// Whether there is a mount with this accessor.
    pub(crate) fn has_accessor(&self, accessor: &str) -> bool {
        self.mounts.iter().any(|mount| mount.accessor == accessor)
    }

    /// Plans to store the table, if nobody has changed it since it was loaded.
    pub(crate) fn store(&self, namespace_id: &str, plan: &mut Plan) {
        let table = stored::MountTable { mounts: self.mounts.iter().map(|mount| stored::Mount::from(&**mount)).collect() };
        plan.expect(MountTable::name(namespace_id), self.revision);
        plan.put(MountTable::name(namespace_id), SecretBytes::from(table.encode_to_vec()));
    }

    /// The mount that holds `path`, segment by segment.
    pub(crate) fn route(&self, path: &Path) -> Option<Route> {
        let text = path.as_str().trim_end_matches('/');
        // A mount that holds the folder `text/` is the last one not after it: what lies between the two lies inside the mount, and
        // nothing does.
        let folder = || text.bytes().chain(std::iter::once(b'/'));
        let after = self.mounts.partition_point(|mount| mount.path.bytes().le(folder()));
        let mount = self.mounts.get(after.checked_sub(1)?)?;
        let prefix = mount.path.trim_end_matches('/');
        if !text.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return None;
        }
        let rest = Path::parse(&path.as_str()[mount.path.len().min(path.as_str().len())..]).ok()?;
        Some(Route { mount: Arc::clone(mount), rest })
    }

    /// Every mount, sorted by path.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Mount>> {
        self.mounts.iter()
    }

    /// The mount at `path`, which ends with `/`.
    pub(crate) fn find(&self, path: &str) -> Option<&Arc<Mount>> {
        self.mounts.binary_search_by(|mount| mount.path.as_str().cmp(path)).ok().map(|at| &self.mounts[at])
    }

    /// A mount at `path` or inside it, or that `path` lies inside of.
    pub(crate) fn conflict(&self, path: &str) -> Option<&Arc<Mount>> {
        let at = self.mounts.partition_point(|mount| mount.path.as_str() < path);
        let before = at.checked_sub(1).and_then(|before| self.mounts.get(before)).filter(|mount| path.starts_with(&mount.path));
        before.or_else(|| self.mounts.get(at).filter(|mount| mount.path.starts_with(path)))
    }

    /// The table with one more mount; an error text for the caller when it cannot be there.
    pub(crate) fn with(&self, mount: Mount) -> Result<MountTable, String> {
        if let Some(other) = self.conflict(&mount.path) {
            return Err(format!("path is already in use at {}", other.shown_path()));
        }
        if self.mounts.len() >= MOUNTS_MAX {
            return Err(format!("there are {MOUNTS_MAX} mounts already, which is the limit"));
        }
        let at = self.mounts.partition_point(|other| other.path < mount.path);
        let mut mounts = self.mounts.clone();
        mounts.insert(at, Arc::new(mount));
        Ok(MountTable { revision: self.revision, mounts })
    }

    /// The table without the mount at `path`, and that mount; `None` when there is none.
    pub(crate) fn without(&self, path: &str) -> Option<(MountTable, Arc<Mount>)> {
        let at = self.mounts.binary_search_by(|mount| mount.path.as_str().cmp(path)).ok()?;
        let mut mounts = self.mounts.clone();
        let mount = mounts.remove(at);
        Some((MountTable { revision: self.revision, mounts }, mount))
    }

    /// The table with `mount` in place of the one at the same path.
    pub(crate) fn replacing(&self, mount: Mount) -> MountTable {
        let mut mounts = self.mounts.clone();
        if let Ok(at) = mounts.binary_search_by(|other| other.path.cmp(&mount.path)) {
            mounts[at] = Arc::new(mount);
        }
        MountTable { revision: self.revision, mounts }
    }
}

#[cfg(test)]
mod tests {
    use crypto::SeededRng;
    use proptest::prelude::*;

    use super::*;

    fn table(paths: &[&str]) -> MountTable {
        let rng = SeededRng::dangerous_from_seed(1);
        MountTable::of(paths.iter().map(|path| Mount::make(path, "kv", "", BTreeMap::new(), &rng)))
    }

    #[test]
    fn the_mount_that_holds_a_path_is_found() {
        let table = table(&["secret/", "team/kv/", "sys/", "team-a/", "team!/"]);
        let cases = [
            ("secret/data/x", Some(("secret/", "data/x"))),
            ("secret", Some(("secret/", ""))),
            ("secret/", Some(("secret/", ""))),
            ("secrets/data/x", None),
            ("team", None),
            ("team/", None),
            ("team-a", Some(("team-a/", ""))),
            ("team!/x", Some(("team!/", "x"))),
            ("team/kv/metadata/", Some(("team/kv/", "metadata/"))),
            ("team/kvx", None),
            ("other", None),
            ("", None),
        ];
        for (path, want) in cases {
            let route = table.route(&Path::parse(path).unwrap());
            let got = route.as_ref().map(|route| (route.mount.path.as_str(), route.rest.as_str()));
            assert_eq!(got, want, "{path}");
        }
    }

    #[test]
    fn no_mount_lies_inside_another() {
        let table = table(&["secret/", "team/kv/", "auth/user/pass/"]);
        let rng = SeededRng::dangerous_from_seed(2);
        for (path, want) in [
            ("secret/", Err("path is already in use at secret/")),
            ("secret/sub/", Err("path is already in use at secret/")),
            ("team/", Err("path is already in use at team/kv/")),
            ("auth/user/", Err("path is already in use at user/pass/")),
            ("auth/user/pass/more/", Err("path is already in use at user/pass/")),
            ("team/other/", Ok(())),
            ("sec/", Ok(())),
        ] {
            let with = table.with(Mount::make(path, "kv", "", BTreeMap::new(), &rng)).map(drop);
            assert_eq!(with, want.map_err(str::to_owned), "{path}");
        }
    }

    #[test]
    fn a_mount_is_stored_whole() {
        let rng = SeededRng::dangerous_from_seed(3);
        let mount = Mount {
            lease_ttl_default_s: 1,
            lease_ttl_max_s: 2,
            listing_visibility: "unauth".into(),
            audit_non_hmac_request_keys: vec!["a".into()],
            audit_non_hmac_response_keys: vec!["b".into()],
            passthrough_request_headers: vec!["c".into()],
            allowed_response_headers: vec!["d".into()],
            token_type: "batch".into(),
            user_lockout: Some(stored::UserLockout { threshold: 3, duration_s: 4, counter_reset_s: 5, disabled: true }),
            force_no_cache: true,
            upgrading: true,
            ..Mount::make("auth/x/", "userpass", "d", BTreeMap::from([("o".into(), "p".into())]), &rng)
        };
        let once = stored::Mount::from(&mount);
        assert!(stored::Mount::from(&Mount::from(once.clone())) == once);
    }

    proptest! {
        #[test]
        fn the_search_finds_what_looking_at_each_mount_finds(
            paths in proptest::collection::vec("[ab!]{1,2}(/[ab!]{1,2}){0,2}/", 0..12),
            path in "[ab!]{1,2}(/[ab!]{1,2}){0,3}/?",
        ) {
            let rng = SeededRng::dangerous_from_seed(4);
            let mut table = table(&[]);
            for path in &paths {
                let inside = |mount: &Arc<Mount>| mount.path.starts_with(path.as_str()) || path.starts_with(&mount.path);
                let is_free = !table.iter().any(inside);
                let with = table.with(Mount::make(path, "kv", "", BTreeMap::new(), &rng));
                prop_assert_eq!(with.is_ok(), is_free);
                table = with.unwrap_or(table);
            }
            let folder = format!("{}/", path.trim_end_matches('/'));
            let want = table.iter().find(|mount| folder.starts_with(&mount.path)).map(|mount| mount.path.clone());
            prop_assert_eq!(table.route(&Path::parse(&path).unwrap()).map(|route| route.mount.path.clone()), want);
        }
    }
}

//! [`DataDir`]: a node's folder – who holds it, whose it is, and where its parts lie.
//!
//! Always: one process at a time; a folder belongs to one node for life and to one cluster once that is known, and is refused
//! to any other; folders have mode 0700, files 0600.
//! Knows nothing of what its parts hold. Layout: `docs/storage-format.md`, "Data folder".

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use types::{ClusterId, FeatureLevels, NodeId};
use uuid::Uuid;

use crate::disk::{Disk, DiskLock, OpenMode, TEMPORARY_SUFFIX, read_whole, remove_temporary, write_whole};
use crate::feature_level::{FEATURE_LEVELS, LevelError, LevelRecord, SOFTWARE_BYTES_MAX};
use crate::quarantine::{self, Quarantined, Scope};

/// The newest version in the identity file: one that tells the feature level. A folder of the first level has version 1.
pub const DATADIR_VERSION: u32 = 2;

/// In the folder of a node that has lost what it had, until it has caught up with its peers; see [`is_rejoining`].
const REJOINING_FILE: &str = "rejoining";
const LOCK_FILE: &str = "lock";
const IDENTITY_FILE: &str = "identity";
const IDENTITY_BYTES_MAX: usize = 4 << 10;
const TITLE: &str = "conclave data folder, version ";

/// A node's folder, held by this process until it is dropped.
pub struct DataDir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    node: NodeId,
    bound: Mutex<Bound>,
    _lock: DiskLock,
}

/// What the identity tells besides the node, once that is known.
#[derive(Clone)]
struct Bound {
    cluster: Option<ClusterId>,
    level: LevelRecord,
}

/// Why a data folder was refused. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("data folder {} is in use by {holder} (stop it, or use another folder)", dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// What the lock file says of the holder.
        holder: String,
    },
    /// Another node's.
    #[error("data folder {} belongs to node {found}, not to {wanted} (a node must keep its id for life)", dir.display())]
    OtherNode {
        /// The folder.
        dir: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Who wanted it.
        wanted: NodeId,
    },
    /// Another cluster's.
    #[error("data folder {} belongs to cluster {found}, not to {wanted}", dir.display())]
    OtherCluster {
        /// The folder.
        dir: PathBuf,
        /// Whose it is.
        found: ClusterId,
        /// Who wanted it.
        wanted: ClusterId,
    },
    /// It holds something, but says not whose.
    #[error("folder {} holds {name:?} but no identity file: it is no data folder, or a damaged one", dir.display())]
    Foreign {
        /// The folder.
        dir: PathBuf,
        /// One thing that is in it.
        name: String,
    },
    /// The identity file is not as it was written.
    #[error("{} is corrupt: {what}", file.display())]
    Corrupt {
        /// The identity file.
        file: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Written by a newer release.
    #[error("{} has version {version}, this release reads up to {DATADIR_VERSION}", file.display())]
    Version {
        /// The identity file.
        file: PathBuf,
        /// The version found.
        version: u32,
    },
    /// Its cluster is at a feature level that this release does not know.
    #[error("data folder {}", dir.display())]
    Level {
        /// The folder.
        dir: PathBuf,
        /// Which level, and the cure.
        #[source]
        source: LevelError,
    },
    /// The disk failed.
    #[error("data folder {}", dir.display())]
    Io {
        /// The folder.
        dir: PathBuf,
        /// The disk's error.
        #[source]
        source: io::Error,
    },
}

impl DataDir {
    /// Opens the folder for `node`, or makes it. `cluster` is compared if both sides know one.
    pub fn open(disk: Arc<dyn Disk>, path: &Path, node: &NodeId, cluster: Option<ClusterId>) -> Result<DataDir, OpenError> {
        DataDir::open_at(disk, path, node, cluster, FEATURE_LEVELS)
    }

    /// As [`DataDir::open`], on behalf of a binary that knows `levels`: a folder of another one is refused before anything in it is read
    /// or changed.
    pub fn open_at(
        disk: Arc<dyn Disk>,
        path: &Path,
        node: &NodeId,
        cluster: Option<ClusterId>,
        levels: FeatureLevels,
    ) -> Result<DataDir, OpenError> {
        let io = |source| OpenError::Io { dir: path.to_owned(), source };
        disk.create_dir_all(path).map_err(io)?;
        // Before the lock, so that nothing is left in somebody else's folder.
        refuse_foreign(&*disk, path)?;
        let lock = lock(&*disk, path)?;
        let identity_file = path.join(IDENTITY_FILE);
        let found = match disk.exists(&identity_file).map_err(io)? {
            true => {
                let bytes = read_whole(&*disk, &identity_file, IDENTITY_BYTES_MAX).map_err(io)?;
                Identity::decode(&bytes, &identity_file)?
            }
            false => {
                let identity = Identity { node: node.clone(), bound: Bound { cluster, level: LevelRecord::first() } };
                write_whole(&*disk, &identity_file, identity.encode().as_bytes()).map_err(io)?;
                identity
            }
        };
        if found.node != *node {
            return Err(OpenError::OtherNode { dir: path.to_owned(), found: found.node, wanted: node.clone() });
        }
        found.bound.level.check(levels).map_err(|source| OpenError::Level { dir: path.to_owned(), source })?;
        remove_temporary(&*disk, path).map_err(io)?;
        if let Some(Quarantined { scope, reason, place }) = quarantine::carry_out(&*disk, path).map_err(io)? {
            tracing::error!(?scope, reason, place = %place.display(), "what was found damaged is moved aside");
        }
        let dir = DataDir { disk, path: path.to_owned(), node: found.node, bound: Mutex::new(found.bound), _lock: lock };
        if let Some(cluster) = cluster {
            dir.bind_cluster(cluster)?;
        }
        Ok(dir)
    }

    /// Gives up a folder whose identity file is damaged, so that [`DataDir::open`] finds one that has lost what it had: nobody can say
    /// whose log and table are in it. Only for a node that has peers; the folder must be the caller's own, by its configuration.
    pub fn abandon(disk: &dyn Disk, path: &Path, node: &NodeId, reason: &str) -> io::Result<()> {
        let held = lock(disk, path).map_err(io::Error::other)?;
        quarantine::condemn(disk, path, Scope::Everything, reason)?;
        let place = quarantine::copy_aside(disk, path, IDENTITY_FILE, reason)?;
        tracing::error!(reason, place = %place.display(), "the identity file is kept aside, and written anew as configured");
        let identity = Identity { node: node.clone(), bound: Bound { cluster: None, level: LevelRecord::first() } };
        write_whole(disk, &path.join(IDENTITY_FILE), identity.encode().as_bytes())?;
        drop(held);
        Ok(())
    }

    /// Writes down, durably, that the folder belongs to `cluster` from now on. It may already; another is refused.
    pub fn bind_cluster(&self, cluster: ClusterId) -> Result<(), OpenError> {
        let mut bound = self.bound();
        match bound.cluster {
            Some(found) if found != cluster => Err(OpenError::OtherCluster { dir: self.path.clone(), found, wanted: cluster }),
            Some(_) => Ok(()),
            None => self.write_identity(&mut bound, |bound| bound.cluster = Some(cluster)),
        }
    }

    /// As [`DataDir::bind_cluster`], also when the folder belongs to one of `replaced`: ids that this very cluster had before a restore of
    /// another one's snapshot.
    pub fn rebind_cluster(&self, cluster: ClusterId, replaced: &[ClusterId]) -> Result<(), OpenError> {
        let mut bound = self.bound();
        match bound.cluster {
            Some(found) if found != cluster && replaced.contains(&found) => {
                self.write_identity(&mut bound, |bound| bound.cluster = Some(cluster))
            }
            _ => {
                drop(bound);
                self.bind_cluster(cluster)
            }
        }
    }

    /// Writes down, durably, that the cluster is at this level, so that an older release refuses the folder before it touches anything.
    /// A level that is not above the known one changes nothing.
    pub fn bind_level(&self, level: &LevelRecord) -> Result<(), OpenError> {
        let mut bound = self.bound();
        if level.level <= bound.level.level {
            return Ok(());
        }
        self.write_identity(&mut bound, |bound| bound.level = level.clone())
    }

    fn write_identity(&self, bound: &mut Bound, change: impl FnOnce(&mut Bound)) -> Result<(), OpenError> {
        let mut changed = bound.clone();
        change(&mut changed);
        let identity = Identity { node: self.node.clone(), bound: changed };
        write_whole(&*self.disk, &self.path.join(IDENTITY_FILE), identity.encode().as_bytes())
            .map_err(|source| OpenError::Io { dir: self.path.clone(), source })?;
        *bound = identity.bound;
        Ok(())
    }

    fn bound(&self) -> std::sync::MutexGuard<'_, Bound> {
        self.bound.lock().expect("no code panics while it holds the identity")
    }

    /// The node it belongs to.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The cluster it belongs to, once that is known.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.bound().cluster
    }

    /// The disk it lies on.
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the log's segments.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// The folder of the journal.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// The table's file.
    pub fn table(&self) -> PathBuf {
        self.path.join("table.redb")
    }

    /// The folder of what the node shows to its peers: its key and its certificate, where it makes them itself.
    pub fn peer(&self) -> PathBuf {
        peer_folder(&self.path)
    }

    /// The folder of snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }
}

/// Whether the node whose folder this is has lost what it had and has not caught up with its peers yet: it must not vote.
pub fn is_rejoining(disk: &dyn Disk, folder: &Path) -> io::Result<bool> {
    disk.exists(&folder.join(REJOINING_FILE))
}

/// Writes down, durably, that the node [`is_rejoining`], or that it no longer is.
pub fn note_rejoining(disk: &dyn Disk, folder: &Path, rejoining: bool) -> io::Result<()> {
    let path = folder.join(REJOINING_FILE);
    match (rejoining, disk.exists(&path)?) {
        // What it holds is for people: that it is there is what counts.
        (true, false) => write_whole(disk, &path, b"this node has lost its log: it does not vote until it has caught up with its peers\n"),
        (false, true) => {
            disk.remove(&path)?;
            disk.sync_dir(folder)
        }
        _ => Ok(()),
    }
}

/// Where in a data folder the node keeps what it shows to its peers.
pub fn peer_folder(data_folder: &Path) -> PathBuf {
    data_folder.join("peer")
}

/// A folder without an identity may hold only what a start that was cut off has left.
fn refuse_foreign(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    let names = disk.list(dir).map_err(|source| OpenError::Io { dir: dir.to_owned(), source })?;
    let ours = |name: &String| name == LOCK_FILE || name == "lost+found" || name.ends_with(TEMPORARY_SUFFIX);
    if names.iter().any(|name| name == IDENTITY_FILE) {
        return Ok(());
    }
    match names.into_iter().find(|name| !ours(name)) {
        Some(name) => Err(OpenError::Foreign { dir: dir.to_owned(), name }),
        None => Ok(()),
    }
}

/// Takes the lock and writes into its file who has it.
fn lock(disk: &dyn Disk, dir: &Path) -> Result<DiskLock, OpenError> {
    let io = |source| OpenError::Io { dir: dir.to_owned(), source };
    let path = dir.join(LOCK_FILE);
    let Some(lock) = disk.try_lock(&path).map_err(io)? else {
        let said = read_whole(disk, &path, IDENTITY_BYTES_MAX).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        let holder = if said.starts_with("pid ") { said } else { "another process".to_owned() };
        return Err(OpenError::InUse { dir: dir.to_owned(), holder });
    };
    // Only for people: the lock is the kernel's, so a stale number does no harm.
    let file = disk.open(&path, OpenMode::Write).map_err(io)?;
    file.set_len(0).map_err(io)?;
    file.write_at(format!("pid {}\n", std::process::id()).as_bytes(), 0).map_err(io)?;
    Ok(lock)
}

struct Identity {
    node: NodeId,
    bound: Bound,
}

impl Identity {
    /// Lines that a person can read, and a checksum. Of version 1 while there is no level to tell, so that older releases read it.
    fn encode(&self) -> String {
        let written = "writing to a String cannot fail";
        let Bound { cluster, level } = &self.bound;
        let version = if *level == LevelRecord::first() { 1 } else { DATADIR_VERSION };
        let mut text = format!("{TITLE}{version}\nnode {}\n", self.node);
        if let Some(cluster) = cluster {
            writeln!(text, "cluster {cluster}").expect(written);
        }
        if version > 1 {
            writeln!(text, "level {} {}", level.level, level.software).expect(written);
        }
        writeln!(text, "crc32c {:08x}", crc32c::crc32c(text.as_bytes())).expect(written);
        text
    }

    fn decode(bytes: &[u8], file: &Path) -> Result<Identity, OpenError> {
        let corrupt = |what| OpenError::Corrupt { file: file.to_owned(), what };
        let text = std::str::from_utf8(bytes).map_err(|_| corrupt("not UTF-8"))?;
        let title = text.lines().next().and_then(|line| line.strip_prefix(TITLE)).ok_or_else(|| corrupt("first line"))?;
        let version: u32 = title.parse().map_err(|_| corrupt("first line"))?;
        if !(1..=DATADIR_VERSION).contains(&version) {
            return Err(OpenError::Version { file: file.to_owned(), version });
        }
        let mut lines = text.lines().skip(1).peekable();
        let node = lines.next().and_then(|line| line.strip_prefix("node ")).ok_or_else(|| corrupt("line of the node"))?;
        let node = NodeId::parse(node).map_err(|_| corrupt("line of the node"))?;
        let cluster = match lines.peek().and_then(|line| line.strip_prefix("cluster ")) {
            Some(cluster) => {
                lines.next();
                Some(ClusterId(Uuid::parse_str(cluster).map_err(|_| corrupt("line of the cluster"))?))
            }
            None => None,
        };
        let level = match version {
            1 => LevelRecord::first(),
            _ => lines.next().and_then(level_of_line).ok_or_else(|| corrupt("line of the feature level"))?,
        };
        let identity = Identity { node, bound: Bound { cluster, level } };
        // One state has one form, so this compares the checksum and finds whatever else was changed.
        if identity.encode() == text { Ok(identity) } else { Err(corrupt("checksum")) }
    }
}

/// Reads `level <level> <release>`.
fn level_of_line(line: &str) -> Option<LevelRecord> {
    let (level, software) = line.strip_prefix("level ")?.split_once(' ')?;
    let level = types::FeatureLevel(level.parse().ok()?);
    (software.len() <= SOFTWARE_BYTES_MAX).then(|| LevelRecord { level, software: software.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Fault, FaultPoint, FsDisk, MemoryDisk};

    fn node(id: &str) -> NodeId {
        NodeId::parse(id).unwrap()
    }

    fn cluster(number: u128) -> ClusterId {
        ClusterId(Uuid::from_u128(number))
    }

    fn level(number: u32) -> LevelRecord {
        LevelRecord { level: types::FeatureLevel(number), software: "0.9.3".into() }
    }

    fn open(disk: &MemoryDisk, id: &str, of: Option<ClusterId>) -> Result<DataDir, OpenError> {
        DataDir::open(Arc::new(disk.clone()), Path::new("/var/n1"), &node(id), of)
    }

    #[test]
    fn belongs_to_one_node_and_one_cluster_for_life() {
        let disk = MemoryDisk::new();
        let dir = open(&disk, "n1", None).unwrap();
        assert_eq!((dir.node(), dir.cluster()), (&node("n1"), None));
        dir.bind_cluster(cluster(1)).unwrap();
        dir.bind_cluster(cluster(1)).unwrap();
        assert!(matches!(dir.bind_cluster(cluster(2)), Err(OpenError::OtherCluster { .. })));
        drop(dir);
        disk.crash(0);
        let error = open(&disk, "n2", None).err().unwrap();
        assert_eq!(error.to_string(), "data folder /var/n1 belongs to node n1, not to n2 (a node must keep its id for life)");
        let error = open(&disk, "n1", Some(cluster(2))).err().unwrap();
        let said = format!("data folder /var/n1 belongs to cluster {}, not to {}", cluster(1), cluster(2));
        assert_eq!(error.to_string(), said);
        assert_eq!(open(&disk, "n1", None).unwrap().cluster(), Some(cluster(1)));
        open(&disk, "n1", Some(cluster(1))).unwrap();
    }

    #[test]
    fn a_folder_goes_with_its_cluster_when_that_gets_another_id() {
        let disk = MemoryDisk::new();
        let dir = open(&disk, "n1", Some(cluster(1))).unwrap();
        dir.rebind_cluster(cluster(1), &[]).unwrap();
        assert!(matches!(dir.rebind_cluster(cluster(2), &[cluster(3)]), Err(OpenError::OtherCluster { .. })));
        dir.rebind_cluster(cluster(2), &[cluster(3), cluster(1)]).unwrap();
        assert!(matches!(dir.bind_cluster(cluster(1)), Err(OpenError::OtherCluster { .. })));
        drop(dir);
        disk.crash(0);
        assert_eq!(open(&disk, "n1", None).unwrap().cluster(), Some(cluster(2)));
    }

    #[test]
    fn golden_identity_of_version_1() {
        let disk = MemoryDisk::new();
        let dir = open(&disk, "node-1", Some(cluster(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff))).unwrap();
        let golden = crate::golden::check("golden/storage/identity-v1.txt", &disk.content(&dir.path().join(IDENTITY_FILE)).unwrap());
        let identity = Identity::decode(&golden, Path::new("identity")).unwrap();
        assert_eq!((identity.node, identity.bound.cluster), (node("node-1"), dir.cluster()));
        assert_eq!(identity.bound.level, LevelRecord::first());
    }

    #[test]
    fn golden_identity_of_version_2() {
        let disk = MemoryDisk::new();
        let dir = open(&disk, "node-1", Some(cluster(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff))).unwrap();
        dir.bind_level(&level(2)).unwrap();
        let golden = crate::golden::check("golden/storage/identity-v2.txt", &disk.content(&dir.path().join(IDENTITY_FILE)).unwrap());
        let identity = Identity::decode(&golden, Path::new("identity")).unwrap();
        assert_eq!((identity.bound.cluster, identity.bound.level), (dir.cluster(), level(2)));
    }

    #[test]
    fn a_folder_of_a_level_that_is_not_known_is_refused_before_anything_is_touched() {
        let disk = MemoryDisk::new();
        let dir = open(&disk, "n1", None).unwrap();
        dir.bind_level(&level(3)).unwrap();
        dir.bind_level(&level(2)).unwrap();
        drop(dir);
        let content = disk.content(Path::new("/var/n1/identity")).unwrap();
        disk.set_content(Path::new("/var/n1/left.tmp"), vec![1]);
        let levels = |min, max| FeatureLevels { min: types::FeatureLevel(min), max: types::FeatureLevel(max) };
        let open_at = |levels| DataDir::open_at(Arc::new(disk.clone()), Path::new("/var/n1"), &node("n1"), None, levels);
        for (known, cure) in [(levels(1, 2), "start Conclave 0.9.3 or newer"), (levels(4, 5), "operator upgrade raise")] {
            let Err(OpenError::Level { source, .. }) = open_at(known) else { panic!("level 3 was taken by {known:?}") };
            assert!(source.to_string().contains(cure), "{source}");
            assert_eq!(disk.content(Path::new("/var/n1/identity")).unwrap(), content);
            assert!(disk.content(Path::new("/var/n1/left.tmp")).is_some(), "nothing was touched");
        }
        open_at(levels(2, 3)).unwrap();
    }

    #[test]
    fn a_second_process_is_told_who_has_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        let dir = DataDir::open(Arc::new(FsDisk), &path, &node("n1"), None).unwrap();
        let error = DataDir::open(Arc::new(FsDisk), &path, &node("n1"), None).err().unwrap();
        let said = format!("in use by pid {} (stop it", std::process::id());
        assert!(error.to_string().contains(&said), "{error}");
        drop(dir);
        DataDir::open(Arc::new(FsDisk), &path, &node("n1"), None).unwrap();
    }

    #[test]
    fn a_folder_that_is_none_is_left_alone() {
        let disk = MemoryDisk::new();
        disk.set_content(Path::new("/var/n1/log/00000000000000000001.log"), vec![1]);
        let error = open(&disk, "n1", None).err().unwrap();
        assert!(matches!(&error, OpenError::Foreign { name, .. } if name == "log"), "{error}");
        assert!(disk.content(Path::new("/var/n1/identity")).is_none());
    }

    #[test]
    fn every_changed_byte_of_the_identity_is_an_error() {
        let disk = MemoryDisk::new();
        drop(open(&disk, "n1", Some(cluster(7))).unwrap());
        let path = Path::new("/var/n1/identity");
        let content = disk.content(path).unwrap();
        for bit in 0..content.len() * 8 {
            let mut flipped = content.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            disk.set_content(path, flipped);
            let error = open(&disk, "n1", None).err().unwrap_or_else(|| panic!("bit {bit} was not noticed"));
            assert!(matches!(error, OpenError::Corrupt { .. } | OpenError::Version { .. }), "bit {bit}: {error}");
        }
        for length in 0..content.len() {
            disk.set_content(path, content[..length].to_vec());
            assert!(open(&disk, "n1", None).is_err(), "cut to {length}");
        }
        let newer = String::from_utf8(content).unwrap().replace("version 1", "version 3");
        disk.set_content(path, newer.into_bytes());
        assert!(matches!(open(&disk, "n1", None), Err(OpenError::Version { version: 3, .. })));
    }

    #[test]
    fn power_may_go_at_any_operation() {
        let script = |disk: &MemoryDisk| -> Result<(), OpenError> {
            let dir = open(disk, "n1", None)?;
            dir.bind_cluster(cluster(1))?;
            dir.bind_level(&level(2))
        };
        let whole = MemoryDisk::new();
        script(&whole).unwrap();
        for operation in 0..whole.operations() {
            for seed in 0..8 {
                let disk = MemoryDisk::new();
                disk.fail(Fault { point: FaultPoint::Change, after: operation, error: io::ErrorKind::Other, forever: true });
                assert!(script(&disk).is_err());
                disk.crash(seed);
                script(&disk).unwrap_or_else(|error| panic!("{operation} {seed}: {error}"));
            }
        }
    }
}

//! [`DataDir`]: a node's folder – who holds it, whose it is, and where its parts lie.
//!
//! Always: one process at a time; a folder belongs to one node for life and to one cluster once that is known, and is refused
//! to any other; folders have mode 0700, files 0600.
//! Knows nothing of what its parts hold. Layout: `docs/storage-format.md`, "Data folder".

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use types::{ClusterId, NodeId};
use uuid::Uuid;

use crate::disk::{Disk, DiskLock, OpenMode, TEMPORARY_SUFFIX, read_whole, remove_temporary, write_whole};

/// The version in the identity file.
pub const DATADIR_VERSION: u32 = 1;

const LOCK_FILE: &str = "lock";
const IDENTITY_FILE: &str = "identity";
const IDENTITY_BYTES_MAX: usize = 4 << 10;
const TITLE: &str = "conclave data folder, version ";

/// A node's folder, held by this process until it is dropped.
pub struct DataDir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    node: NodeId,
    cluster: Mutex<Option<ClusterId>>,
    _lock: DiskLock,
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
                let identity = Identity { node: node.clone(), cluster };
                write_whole(&*disk, &identity_file, identity.encode().as_bytes()).map_err(io)?;
                identity
            }
        };
        if found.node != *node {
            return Err(OpenError::OtherNode { dir: path.to_owned(), found: found.node, wanted: node.clone() });
        }
        remove_temporary(&*disk, path).map_err(io)?;
        let dir = DataDir { disk, path: path.to_owned(), node: found.node, cluster: Mutex::new(found.cluster), _lock: lock };
        if let Some(cluster) = cluster {
            dir.bind_cluster(cluster)?;
        }
        Ok(dir)
    }

    /// Writes down, durably, that the folder belongs to `cluster` from now on. It may already; another is refused.
    pub fn bind_cluster(&self, cluster: ClusterId) -> Result<(), OpenError> {
        let mut bound = self.cluster.lock().expect("no code panics while it holds the cluster's id");
        match *bound {
            Some(found) if found != cluster => Err(OpenError::OtherCluster { dir: self.path.clone(), found, wanted: cluster }),
            Some(_) => Ok(()),
            None => {
                let identity = Identity { node: self.node.clone(), cluster: Some(cluster) };
                write_whole(&*self.disk, &self.path.join(IDENTITY_FILE), identity.encode().as_bytes())
                    .map_err(|source| OpenError::Io { dir: self.path.clone(), source })?;
                *bound = Some(cluster);
                Ok(())
            }
        }
    }

    /// The node it belongs to.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The cluster it belongs to, once that is known.
    pub fn cluster(&self) -> Option<ClusterId> {
        *self.cluster.lock().expect("no code panics while it holds the cluster's id")
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
        self.path.join("peer")
    }

    /// The folder of snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }
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
    cluster: Option<ClusterId>,
}

impl Identity {
    /// Lines that a person can read, and a checksum.
    fn encode(&self) -> String {
        let mut text = format!("{TITLE}{DATADIR_VERSION}\nnode {}\n", self.node);
        if let Some(cluster) = self.cluster {
            writeln!(text, "cluster {cluster}").expect("writing to a String cannot fail");
        }
        writeln!(text, "crc32c {:08x}", crc32c::crc32c(text.as_bytes())).expect("writing to a String cannot fail");
        text
    }

    fn decode(bytes: &[u8], file: &Path) -> Result<Identity, OpenError> {
        let corrupt = |what| OpenError::Corrupt { file: file.to_owned(), what };
        let text = std::str::from_utf8(bytes).map_err(|_| corrupt("not UTF-8"))?;
        let title = text.lines().next().and_then(|line| line.strip_prefix(TITLE)).ok_or_else(|| corrupt("first line"))?;
        let version: u32 = title.parse().map_err(|_| corrupt("first line"))?;
        if version != DATADIR_VERSION {
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
        let identity = Identity { node, cluster };
        // One state has one form, so this compares the checksum and finds whatever else was changed.
        if identity.encode() == text { Ok(identity) } else { Err(corrupt("checksum")) }
    }
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
    fn golden_identity_of_version_1() {
        let disk = MemoryDisk::new();
        let dir = open(&disk, "node-1", Some(cluster(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff))).unwrap();
        let golden = crate::golden::check("golden/storage/identity-v1.txt", &disk.content(&dir.path().join(IDENTITY_FILE)).unwrap());
        let identity = Identity::decode(&golden, Path::new("identity")).unwrap();
        assert_eq!((identity.node, identity.cluster), (node("node-1"), dir.cluster()));
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
        let newer = String::from_utf8(content).unwrap().replace("version 1", "version 2");
        disk.set_content(path, newer.into_bytes());
        assert!(matches!(open(&disk, "n1", None), Err(OpenError::Version { version: 2, .. })));
    }

    #[test]
    fn power_may_go_at_any_operation() {
        let script = |disk: &MemoryDisk| -> Result<(), OpenError> { open(disk, "n1", None)?.bind_cluster(cluster(1)) };
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

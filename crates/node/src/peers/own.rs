//! The node's own key and certificate, where it makes them itself: the folder `peer/` of its data.
//!
//! Always: the key is made here and never leaves; it is for life, since the membership pins it. The certificate is replaced whole.
//! Files: `docs/storage-format.md`, "Peer identity".

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crypto::Zeroizing;
use crypto::digest::sha256;
use prost::Message;
use proto::stored;
use raft::grpc::{PeerTls, PeerTlsError, pin};
use raft::{KeyPin, Member};
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use storage::disk::{read_whole, write_whole};
use storage::{DataDir, Disk};
use types::{ClusterId, NodeId};
use uuid::Uuid;

const KEY_FILE: &str = "key.pem";
const KEY_BYTES_MAX: usize = 16 << 10;
const IDENTITY_FILE: &str = "identity";
const IDENTITY_BYTES_MAX: usize = 1 << 20;
const MAGIC: &[u8; 8] = b"CNCLVPID";
const CHECKSUM_BYTES: usize = 8;
const VERSION: u32 = 1;

/// Why the node's own key or certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// The disk failed.
    #[error("{}", file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// The disk's error.
        #[source]
        source: io::Error,
    },
    /// It is not what was written.
    #[error("{} is damaged: {problem} ({cure})", file.display())]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        cure: &'static str,
    },
    /// Written by a newer release.
    #[error("{} has version {version}, this release reads up to {VERSION}", file.display())]
    Version {
        /// Which file.
        file: PathBuf,
        /// Its version.
        version: u32,
    },
    /// No key can be made.
    #[error("make the node's key: {0}")]
    Key(#[from] rcgen::Error),
    /// The certificate is not for this node and key.
    #[error("the node's certificate")]
    Tls(#[from] PeerTlsError),
}

/// The node's key.
pub(super) struct OwnKey {
    pair: KeyPair,
    folder: PathBuf,
    disk: Arc<dyn Disk>,
}

/// Whether what is kept beside the certificate names other members than `node`; not where it is not there, or damaged.
pub(super) fn knows_others(disk: &dyn Disk, folder: &std::path::Path, node: &NodeId) -> bool {
    let file = storage::datadir::peer_folder(folder).join(IDENTITY_FILE);
    let shown = read_whole(disk, &file, IDENTITY_BYTES_MAX).ok().and_then(|bytes| Shown::decode(&bytes).ok());
    shown.is_some_and(|shown| shown.members.iter().any(|(id, _)| id != node))
}

/// What a node that belongs to a cluster shows to its peers, besides its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) cluster_id: ClusterId,
    pub(super) cluster_name: String,
    /// DER.
    pub(super) authority: Vec<u8>,
    /// DER.
    pub(super) certificate: Vec<u8>,
    /// As they were when it joined.
    pub(super) members: Vec<(NodeId, Member)>,
}

impl OwnKey {
    /// Reads the key, or makes it at the first start.
    pub(super) fn open(data_dir: &DataDir) -> Result<OwnKey, OwnError> {
        let (disk, folder) = (data_dir.disk(), data_dir.peer());
        let file = folder.join(KEY_FILE);
        let io = |source| OwnError::Io { file: file.clone(), source };
        disk.create_dir_all(&folder).map_err(io)?;
        storage::disk::remove_temporary(&*disk, &folder).map_err(io)?;
        let pair = if disk.exists(&file).map_err(io)? {
            let pem = Zeroizing::new(read_whole(&*disk, &file, KEY_BYTES_MAX).map_err(io)?);
            let damaged = |problem: String| OwnError::Damaged {
                file: file.clone(),
                problem,
                cure: "remove this node from the cluster, empty its data folder, and let it join again",
            };
            let text = std::str::from_utf8(&pem).map_err(|error| damaged(error.to_string()))?;
            KeyPair::from_pem(text).map_err(|error| damaged(error.to_string()))?
        } else {
            let pair = KeyPair::generate()?;
            write_whole(&*disk, &file, Zeroizing::new(pair.serialize_pem()).as_bytes()).map_err(io)?;
            tracing::info!(key = %pin(&pair.subject_public_key_info()), "this node's key for its peers was made");
            pair
        };
        Ok(OwnKey { pair, folder, disk })
    }

    /// What pins it in the membership.
    pub(super) fn pin(&self) -> KeyPin {
        pin(&self.pair.subject_public_key_info())
    }

    /// A certificate request, PKCS #10, DER: the proof that this node has the key.
    pub(super) fn request(&self) -> Result<Vec<u8>, OwnError> {
        Ok(CertificateParams::default().serialize_request(&self.pair)?.der().to_vec())
    }

    /// What there is to show; `None`: the node belongs to no cluster yet.
    pub(super) fn shown(&self) -> Result<Option<Shown>, OwnError> {
        let file = self.folder.join(IDENTITY_FILE);
        let io = |source| OwnError::Io { file: file.clone(), source };
        if !self.disk.exists(&file).map_err(io)? {
            return Ok(None);
        }
        let bytes = read_whole(&*self.disk, &file, IDENTITY_BYTES_MAX).map_err(io)?;
        Shown::decode(&bytes).map(Some).map_err(|error| match error {
            DecodeError::Damaged(problem) => OwnError::Damaged {
                file: file.clone(),
                problem: problem.into(),
                cure: "remove this file: an open member makes the certificate anew; a node that has only just joined joins again",
            },
            DecodeError::Version(version) => OwnError::Version { file: file.clone(), version },
        })
    }

    /// Keeps it, durably.
    pub(super) fn keep(&self, shown: &Shown) -> Result<(), OwnError> {
        let file = self.folder.join(IDENTITY_FILE);
        write_whole(&*self.disk, &file, &shown.encode()).map_err(|source| OwnError::Io { file: file.clone(), source })
    }

    /// For connections.
    pub(super) fn tls(&self, node_id: &NodeId, shown: &Shown) -> Result<PeerTls, OwnError> {
        // EXPOSE: the key goes to the TLS library, in this process.
        let key = Zeroizing::new(self.pair.serialize_der());
        Ok(PeerTls::from_der(node_id, &shown.cluster_name, &shown.authority, &shown.certificate, &key)?)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum DecodeError {
    Damaged(&'static str),
    Version(u32),
}

impl Shown {
    /// Magic, the first 8 bytes of the message's SHA-256, the message.
    fn encode(&self) -> Vec<u8> {
        let members = self.members.iter().map(|(id, member)| stored::Member {
            node_id: id.to_string(),
            cluster_address: member.cluster_address.clone(),
            api_address: member.api_address.clone(),
            key_sha256: member.key.map(|key| key.0.to_vec()).unwrap_or_default(),
            non_voter: member.non_voter,
        });
        let message = stored::PeerIdentity {
            version: VERSION,
            cluster_id: self.cluster_id.0.as_bytes().to_vec(),
            cluster_name: self.cluster_name.clone(),
            authority: self.authority.clone(),
            certificate: self.certificate.clone(),
            members: members.collect(),
        };
        let message = message.encode_to_vec();
        [&MAGIC[..], &sha256(&message)[..CHECKSUM_BYTES], &message].concat()
    }

    fn decode(bytes: &[u8]) -> Result<Shown, DecodeError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(DecodeError::Damaged("it does not begin as one"))?;
        let (checksum, message) = rest.split_at_checked(CHECKSUM_BYTES).ok_or(DecodeError::Damaged("it is too short"))?;
        if checksum != &sha256(message)[..CHECKSUM_BYTES] {
            return Err(DecodeError::Damaged("its checksum is wrong"));
        }
        let malformed = DecodeError::Damaged("it is malformed");
        let Ok(message) = stored::PeerIdentity::decode(message) else { return Err(malformed) };
        if message.version != VERSION {
            return Err(DecodeError::Version(message.version));
        }
        let member = |member: &stored::Member| {
            let key = match member.key_sha256.len() {
                0 => None,
                _ => Some(KeyPin(<[u8; 32]>::try_from(member.key_sha256.as_slice()).ok()?)),
            };
            let place = Member {
                cluster_address: member.cluster_address.clone(),
                api_address: member.api_address.clone(),
                key,
                non_voter: member.non_voter,
            };
            Some((NodeId::parse(&member.node_id).ok()?, place))
        };
        let (Ok(cluster_id), Some(members)) =
            (Uuid::from_slice(&message.cluster_id), message.members.iter().map(member).collect::<Option<Vec<_>>>())
        else {
            return Err(malformed);
        };
        Ok(Shown {
            cluster_id: ClusterId(cluster_id),
            cluster_name: message.cluster_name,
            authority: message.authority,
            certificate: message.certificate,
            members,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use storage::RamDisk;

    use super::*;

    fn shown() -> Shown {
        let member = |key| Member {
            cluster_address: "https://10.0.0.1:8201".into(),
            api_address: "https://10.0.0.1:8200".into(),
            key,
            non_voter: false,
        };
        Shown {
            cluster_id: ClusterId(Uuid::max()),
            cluster_name: "blue".into(),
            authority: vec![1; 8],
            certificate: vec![2; 8],
            members: vec![(NodeId::parse("n1").unwrap(), member(Some(KeyPin([3; 32])))), (NodeId::parse("n2").unwrap(), member(None))],
        }
    }

    #[test]
    fn golden_identity_of_version_1() {
        let golden: &[u8] = include_bytes!("../../../../tests/golden/node/peer-identity-v1.bin");
        assert_eq!(hex::encode(shown().encode()), hex::encode(golden));
        assert_eq!(Shown::decode(golden), Ok(shown()));
        for at in 0..golden.len() {
            let mut damaged = golden.to_vec();
            damaged[at] ^= 0x10;
            assert!(matches!(Shown::decode(&damaged), Err(DecodeError::Damaged(_))), "byte {at}");
            assert!(matches!(Shown::decode(&golden[..at]), Err(DecodeError::Damaged(_))), "cut at {at}");
        }
    }

    #[test]
    fn a_key_is_for_life() {
        let disk: Arc<dyn Disk> = Arc::new(RamDisk::new());
        let data_dir = DataDir::open(Arc::clone(&disk), Path::new("/data"), &NodeId::parse("n1").unwrap(), None).unwrap();
        let first = OwnKey::open(&data_dir).unwrap_or_else(|error| panic!("{error}"));
        assert!(first.shown().unwrap_or_else(|error| panic!("{error}")).is_none());
        first.keep(&shown()).unwrap_or_else(|error| panic!("{error}"));
        let again = OwnKey::open(&data_dir).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(first.pin(), again.pin());
        assert_eq!(again.shown().unwrap_or_else(|error| panic!("{error}")), Some(shown()));
        let request = barrier::identity::NodeKey::parse(&again.request().unwrap_or_else(|error| panic!("{error}")));
        assert_eq!(request.map(|key| key.pin()).ok(), Some(first.pin()));
    }
}

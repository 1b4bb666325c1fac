//! Backups: the whole cluster as a file, authenticated by the keyring.
//!
//! Always: it is of a state that holds every write acknowledged before it was asked for; it is written piece by piece, and writes go on
//! meanwhile; what it holds is ciphertext.

use std::io;
use std::sync::Arc;

use storage::TableView;
use storage::container::{About, PackError, Packed, pack};
use types::ClusterId;

use crate::barrier::{AccessError, Barrier};
use crate::keys::Keys;
use crate::records::{self, RecordError};
use crate::restore::STAGED_PREFIX;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The barrier is sealed, or there is no quorum.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The records cannot be read.
    #[error("read the seal record")]
    Record(#[from] RecordError),
}

/// A state of the cluster, to be written to a file.
pub struct Backup {
    table: Arc<dyn TableView>,
    keys: Arc<Keys>,
    about: About,
}

impl Backup {
    /// What it will tell of itself.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// About how long the file will be, in bytes: ciphertext does not compress.
    pub fn size_bytes(&self) -> Result<u64, storage::table::ReadError> {
        let applied = self.table.applied()?;
        Ok(storage::container::packed_bytes_max(&applied))
    }

    /// Writes it. Blocks for as long as `out` does; fails when the node is sealed before the end.
    pub fn write(&self, out: &mut dyn io::Write) -> Result<Packed, PackError> {
        let mut seal = |sums: &[u8]| {
            let sealed = self.keys.with(|keyring| keyring.seal_snapshot(sums));
            sealed.ok_or_else(|| io::Error::other("the node was sealed meanwhile"))
        };
        pack(&*self.table, &[STAGED_PREFIX], &self.about, &mut seal, out)
    }
}

impl Barrier {
    /// The cluster's state as of now, to be written to a file.
    pub async fn backup(&self) -> Result<Backup, BackupError> {
        if self.is_sealed() {
            return Err(AccessError::Sealed.into());
        }
        let table = self.inner.raft.read().await.map_err(AccessError::from)?;
        let records = records::read(&*table)?.ok_or(AccessError::Sealed)?;
        let position = table.applied().map_err(RecordError::from)?.position;
        let saved = self.inner.clock.now();
        let facts = &self.inner.facts;
        let members = self.inner.raft.status().members;
        let about = About {
            id: format!(
                "{}-{}",
                position.map_or_else(|| "0-0".to_owned(), |position| format!("{}-{}", position.term.0, position.index.0)),
                saved.0
            ),
            cluster_id: records.seals.cluster_id.to_string(),
            cluster_name: records.seals.cluster_name,
            node_id: facts.node_id.to_string(),
            software: facts.version.clone(),
            saved_ms: saved.0,
            members: members.into_iter().map(|info| (info.id.to_string(), info.member.cluster_address)).collect(),
        };
        Ok(Backup { table, keys: Arc::clone(self.keys()), about })
    }

    /// Runs what blocks, on a thread for such work; the barrier's end waits for it.
    pub fn run_blocking<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> tokio::task::JoinHandle<T> {
        self.inner.tasks.spawn_blocking(act)
    }

    /// This node.
    pub fn node_id(&self) -> &types::NodeId {
        &self.inner.facts.node_id
    }

    /// The disk of this node's files.
    pub fn disk(&self) -> Arc<dyn storage::Disk> {
        self.inner.raft.disk()
    }

    /// Whether a backup is this cluster's own, unchanged: by the key that its sums are authenticated with. `None` when sealed.
    pub fn knows_backup(&self, sums: &[u8], sealed: &[u8]) -> Option<bool> {
        self.keys().with(|keyring| keyring.check_snapshot(sums, sealed).is_some())
    }

    /// The cluster's id, as this node has it; `None` before init.
    pub fn cluster_id(&self) -> Result<Option<ClusterId>, RecordError> {
        Ok(self.records_here()?.map(|records| records.seals.cluster_id))
    }
}

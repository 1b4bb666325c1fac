//! Snapshots as openraft moves them: a file to send, or a file received and checked.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::Snapshot as RaftSnapshot;
use storage::snapshot::{Receiver, SNAPSHOT_BYTES_MAX, SnapshotSource};
use storage::{SnapshotInfo, SnapshotReader, SnapshotStore};

use crate::codec;
use crate::config::SnapshotMeta;

type OpenraftSnapshot = openraft::type_config::alias::SnapshotOf<crate::config::TypeConfig, Snapshot>;

/// A snapshot on its way.
pub(crate) enum Snapshot {
    /// This node's own, to be sent.
    Own(SnapshotSource),
    /// A peer's, received and checked whole.
    Received(Box<SnapshotReader>),
}

impl Snapshot {
    fn info(&self) -> &SnapshotInfo {
        match self {
            Snapshot::Own(source) => source.info(),
            Snapshot::Received(reader) => reader.info(),
        }
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.info().file_bytes
    }

    /// Up to `bytes_max` bytes of the file from `offset`; empty at its end.
    pub(crate) fn read_at(&self, offset: u64, bytes_max: usize) -> io::Result<Bytes> {
        match self {
            Snapshot::Own(source) => source.read_chunk(offset, bytes_max).map_err(io::Error::other),
            Snapshot::Received(_) => Err(io::Error::other("a received snapshot is not sent on")),
        }
    }
}

/// The node's kept snapshot, and those that arrive.
pub(crate) struct Snapshots {
    store: SnapshotStore,
}

impl Snapshots {
    pub(crate) fn new(store: SnapshotStore) -> Snapshots {
        Snapshots { store }
    }

    pub(crate) fn store(&self) -> &SnapshotStore {
        &self.store
    }

    /// The kept snapshot, ready to be sent.
    pub(crate) fn current(&self) -> io::Result<Option<OpenraftSnapshot>> {
        let Some(source) = self.store.source().map_err(io::Error::other)? else {
            return Ok(None);
        };
        let meta = meta(source.info())?;
        Ok(Some(RaftSnapshot { meta, snapshot: Snapshot::Own(source) }))
    }

    /// A place for a snapshot of `size_bytes` that a peer is about to send.
    pub(crate) fn receive(&self, size_bytes: u64) -> io::Result<Incoming> {
        if size_bytes > SNAPSHOT_BYTES_MAX {
            return Err(io::Error::other(format!("a snapshot of {size_bytes} bytes (at most {SNAPSHOT_BYTES_MAX})")));
        }
        Ok(Incoming { receiver: self.store.receive(size_bytes).map_err(io::Error::other)? })
    }

    /// Makes any snapshot a checked file of this store.
    pub(crate) fn checked(&self, snapshot: Snapshot) -> io::Result<Box<SnapshotReader>> {
        match snapshot {
            Snapshot::Received(reader) => Ok(reader),
            Snapshot::Own(source) => {
                let mut incoming = self.receive(source.info().file_bytes)?;
                let mut offset = 0;
                loop {
                    let chunk = source.read_chunk(offset, storage::snapshot::CHUNK_BYTES_MAX).map_err(io::Error::other)?;
                    if chunk.is_empty() {
                        break;
                    }
                    offset += chunk.len() as u64;
                    incoming.write(&chunk)?;
                }
                incoming.receiver.finish().map(Box::new).map_err(io::Error::other)
            }
        }
    }
}

/// A snapshot that arrives piece by piece into a temporary file.
pub(crate) struct Incoming {
    receiver: Receiver,
}

impl Incoming {
    pub(crate) fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.receiver.write(chunk).map_err(io::Error::other)
    }

    /// Checks the whole file.
    pub(crate) fn finish(self) -> io::Result<OpenraftSnapshot> {
        let reader = self.receiver.finish().map_err(io::Error::other)?;
        let meta = meta(reader.info())?;
        Ok(RaftSnapshot { meta, snapshot: Snapshot::Received(Box::new(reader)) })
    }
}

fn meta(info: &SnapshotInfo) -> io::Result<SnapshotMeta> {
    Ok(SnapshotMeta {
        last_log_id: info.applied.position.map(codec::log_id_of),
        last_membership: codec::decode_membership(info.applied.membership.as_ref()).map_err(io::Error::other)?,
    })
}

/// Shared by the machine, its snapshot builder and the incoming side.
pub(crate) type SharedSnapshots = Arc<Snapshots>;

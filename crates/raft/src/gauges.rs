//! [`Raft::gauges`]: figures of Raft, its log, its table and its disk, for whoever watches a node.
//!
//! Always: cheap, from memory and one question to the file system; nothing waits. Of the other members only the leader knows.
//! Knows nothing of how they are told.

use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use types::{Index, NodeId};

use crate::handle::{Core, Raft};

/// The figures at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gauges {
    /// The newest entry in the log; `None`: there is none.
    pub last: Option<Index>,
    /// The newest entry that is in the log no more.
    pub purged: Option<Index>,
    /// The newest entry that the kept snapshot holds.
    pub snapshot: Option<Index>,
    /// The length of the kept snapshot's file; 0 without one.
    pub snapshot_bytes: u64,
    /// How many keys the table has.
    pub table_keys: u64,
    /// The sum of the lengths of all keys and values.
    pub table_bytes: u64,
    /// Bytes that may still be written to the disk; `None`: the system does not tell.
    pub disk_free_bytes: Option<u64>,
    /// Whether there is so little room that no writes are taken.
    pub disk_is_full: bool,
    /// At the leader: for how long no quorum has answered it. `None` elsewhere.
    pub quorum_silence: Option<Duration>,
    /// At the leader: the other members, in the order of their ids. Empty elsewhere.
    pub followers: Vec<Follower>,
}

/// Another member, as the leader knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follower {
    /// Which.
    pub id: NodeId,
    /// The newest entry that it has on its disk; `None`: nothing is known yet.
    pub matched: Option<Index>,
    /// For how long it has not answered; `None`: it never has since this node leads.
    pub silence: Option<Duration>,
}

impl Raft {
    /// Figures of this node for whoever watches it.
    pub fn gauges(&self) -> Gauges {
        self.core.gauges()
    }
}

impl Core {
    fn gauges(&self) -> Gauges {
        let table = self.table.applied();
        let (disk, folder) = &self.disk;
        let disk_free_bytes = disk.free_bytes(folder).ok();
        let snapshot_bytes = self.snapshots.store().current().map_or(0, |info| info.file_bytes);
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let position = |id: &crate::config::LogId| Index(id.index());
        let heartbeat = metrics.heartbeat.as_ref();
        let followers = metrics.replication.iter().flatten().filter(|(id, _)| **id != self.node_id).map(|(id, matched)| Follower {
            id: id.clone(),
            matched: matched.as_ref().map(position),
            silence: heartbeat.and_then(|heard| heard.get(id)?.as_ref()).map(|heard| heard.elapsed()),
        });
        Gauges {
            last: metrics.last_log_index.map(Index),
            purged: metrics.purged.as_ref().map(position),
            snapshot: metrics.snapshot.as_ref().map(position),
            snapshot_bytes,
            table_keys: table.keys,
            table_bytes: table.bytes,
            disk_free_bytes,
            disk_is_full: self.is_disk_full(),
            quorum_silence: metrics.last_quorum_acked.as_ref().map(|heard| heard.elapsed()),
            followers: followers.collect(),
        }
    }
}

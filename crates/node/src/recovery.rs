//! Opening log, table and snapshot, and what to do where one of them is damaged.
//!
//! Always: damage is named, with file and offset, and moved aside, never deleted; a node with peers then begins anew with what they
//! have, and does not vote until it has caught up ([`raft::Raft::begin`]); one without peers gives up only what the rest of its files
//! holds as well, and else refuses to start.
//! What an operator does: `docs/operate/repair.md`.

use std::sync::Arc;

use raft::{Raft, StartError};
use storage::datadir::{DataDir, OpenError as FolderError};
use storage::log::OpenError as LogError;
use storage::quarantine::{self, Quarantined, Scope};
use storage::snapshot::SnapshotError;
use storage::table::OpenError as TableError;
use storage::{Disk, Flusher, Log, LogOptions, SnapshotStore, Table};
use types::FeatureLevels;

use crate::boot::RunError;
use crate::config::Config;
use crate::peers;

/// A log shrinks by whole segments.
const SEGMENT_BYTES: u64 = 4 << 20;
/// Table, snapshot and all: more cannot be moved aside one after the other.
const ATTEMPTS_MAX: usize = 4;

/// What Raft is started over.
pub(crate) struct State {
    pub(crate) log: (Log, Flusher),
    pub(crate) table: Arc<dyn Table>,
    pub(crate) snapshots: SnapshotStore,
}

/// Whether another node has what this one has.
fn has_peers(config: &Config, disk: &dyn Disk, folder: &std::path::Path) -> bool {
    peers::knows_others(config, disk, folder)
}

/// Opens the data folder; one whose identity is damaged begins anew, where there are peers.
pub(crate) fn open_folder(
    config: &Config,
    disk: &Arc<dyn Disk>,
    folder: &std::path::Path,
    levels: FeatureLevels,
) -> Result<DataDir, RunError> {
    let node = &config.storage.node_id;
    let open = || DataDir::open_at(Arc::clone(disk), folder, node, None, levels);
    match open() {
        Err(error @ FolderError::Corrupt { .. }) if has_peers(config, &**disk, folder) => {
            DataDir::abandon(&**disk, folder, node, &error.to_string()).map_err(RunError::Quarantine)?;
            Ok(open()?)
        }
        Err(error @ FolderError::Corrupt { .. }) => Err(RunError::Damaged(error.into())),
        opened => Ok(opened?),
    }
}

/// Opens what is in the folder and starts Raft over it, as `start` does.
pub(crate) async fn start<F>(config: &Config, data_dir: &DataDir, mut start: impl FnMut(State) -> F) -> Result<Raft, RunError>
where
    F: Future<Output = Result<Raft, StartError>>,
{
    let mut attempts = 0;
    loop {
        attempts += 1;
        let error = match open(config, data_dir) {
            Ok(state) => match start(state).await {
                Ok(raft) => return Ok(raft),
                Err(error) => error.into(),
            },
            Err(error) => error,
        };
        let Some(scope) = damage(&error) else { return Err(error) };
        // The table is in snapshot and log, and the snapshot in the table: if not, the next attempt tells.
        if attempts == ATTEMPTS_MAX || (scope == Scope::Everything && !has_peers(config, &*data_dir.disk(), data_dir.path())) {
            return Err(RunError::Damaged(error.into()));
        }
        let (disk, folder) = (data_dir.disk(), data_dir.path());
        let reason = chain(&error);
        tracing::error!(?scope, reason, "damage is found");
        quarantine::condemn(&*disk, folder, scope, &reason).map_err(RunError::Quarantine)?;
        if let Some(Quarantined { place, .. }) = quarantine::carry_out(&*disk, folder).map_err(RunError::Quarantine)? {
            tracing::error!(place = %place.display(), "what was found damaged is moved aside");
        }
    }
}

fn open(config: &Config, data_dir: &DataDir) -> Result<State, RunError> {
    let options = LogOptions { segment_bytes: SEGMENT_BYTES, ..LogOptions::default() };
    Ok(State {
        log: Log::open(data_dir.disk(), &data_dir.log(), options)?,
        snapshots: SnapshotStore::open(data_dir.disk(), &data_dir.snapshots())?,
        table: crate::boot::open_table(config, data_dir)?,
    })
}

/// What cannot be trusted after an error that is damage.
fn damage(error: &RunError) -> Option<Scope> {
    match error {
        RunError::Log(LogError::Corrupt { .. } | LogError::Missing { .. }) => Some(Scope::Everything),
        RunError::Snapshots(SnapshotError::Corrupt { .. }) => Some(Scope::Snapshot),
        RunError::Raft(StartError::Incomplete(_)) => Some(Scope::Everything),
        RunError::Raft(StartError::Snapshot(_)) => Some(Scope::Snapshot),
        RunError::Table(source) => match source.downcast_ref() {
            Some(TableError::Corrupt { .. }) => Some(Scope::Table),
            Some(TableError::Version { .. } | TableError::Io { .. }) | None => None,
        },
        _ => None,
    }
}

/// The whole story of an error.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

//! The cluster's feature level: what this node has applied of it, and the gate before everything that not every release reads.
//!
//! Always: the level rises by an entry of the log, so that each replica is at the same level at the same place in it; what a gate let
//! through is read by every member, since a level is raised only to what all of them know.

use bytes::Bytes;
use storage::feature_level::{FEATURE_LEVEL_KEY, LevelRecord};
use storage::{DataDir, Expectation, Write};
use types::{FeatureLevel, FeatureLevels, Revision};

use crate::handle::Raft;
use crate::watch;

/// The cluster is not at the level yet from which on something is written: not every member can be sure to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this needs feature level {needed}, and the cluster is at {level}: run a release that knows it on every node, then `conclave operator upgrade raise`"
)]
pub struct LevelTooLow {
    /// From which on it is written.
    pub needed: FeatureLevel,
    /// The cluster's.
    pub level: FeatureLevel,
}

impl Raft {
    /// The cluster's feature level, as far as this node has applied the log: never above what every member knows.
    pub fn feature_level(&self) -> FeatureLevel {
        self.core.level.borrow().level
    }

    /// The level and who raised it, and every change of that.
    pub fn watch_feature_level(&self) -> watch::Receiver<LevelRecord> {
        self.core.level.clone()
    }

    /// What this binary knows.
    pub fn feature_levels(&self) -> FeatureLevels {
        self.core.feature_levels
    }

    /// Writes the level into the data folder, now and whenever it is raised, until Raft ends: so that an older release refuses the folder.
    pub async fn keep_level_in(&self, data_dir: &DataDir) {
        let mut level = self.watch_feature_level();
        loop {
            let record = level.borrow_and_update().clone();
            if let Err(error) = data_dir.bind_level(&record) {
                // The table says it too, and is asked at the next start.
                tracing::error!(%error, level = %record.level, "write the feature level into the data folder");
            }
            tokio::select! {
                biased;
                () = self.core.stop.cancelled() => return,
                changed = level.changed() => if changed.is_err() { return },
            }
        }
    }

    /// The gate: refuses what is written from `needed` on while the cluster is not there yet.
    pub fn require_feature_level(&self, needed: FeatureLevel) -> Result<(), LevelTooLow> {
        let level = self.feature_level();
        if needed > level { Err(LevelTooLow { needed, level }) } else { Ok(()) }
    }
}

/// What a batch that puts the cluster at a level expects and writes. Who proposes it has asked every member whether it knows that level.
pub fn raising(known: Revision, to: &LevelRecord) -> (Expectation, Write) {
    let key = Bytes::from_static(FEATURE_LEVEL_KEY);
    (Expectation { key: key.clone(), revision: known }, Write { key, value: Some(to.encode()) })
}

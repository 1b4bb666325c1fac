//! Openraft's view of the table: applies committed entries, makes and installs snapshots.
//!
//! Always: what an observer hears comes after the table has applied it and before anyone can wait for it to be applied.
//! Apply sees only the entry: no clock, no randomness. What is of a feature level that this release does not know ends Raft before it
//! changes anything.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use storage::feature_level::{LevelError, LevelRecord};
use storage::{Batch, Change, Committed, Outcome, Table, TableView};
use types::{FeatureLevels, Index, Position};

use crate::check::Notes;
use crate::codec;
use crate::config::{Answer, Entry, LogId, SnapshotMeta, StoredMembership, TypeConfig};
use crate::handle::StartError;
use crate::snapshots::{SharedSnapshots, Snapshot};
use crate::watch;

/// Entries applied in one transaction of the table, at most.
const APPLY_ENTRIES_MAX: usize = 1024;

/// Hears what was applied. Called inside apply: it must be quick, and must not call back into Raft.
pub trait Observer: Send + Sync + 'static {
    /// A batch was applied (conflicts are not told).
    fn applied(&self, batch: &Batch);
    /// The whole table was replaced, by a snapshot's content or by what was staged: `table` is the state after it.
    fn replaced(&self, table: &dyn TableView);
}

/// Why the table cannot be used together with the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("the table stands at {applied:?}, the log begins after {purged}, and no snapshot fills the gap")]
    Gap { applied: Option<Position>, purged: Position },
    #[error("read the kept snapshot")]
    Snapshot(#[source] storage::snapshot::SnapshotError),
    #[error("restore the table from the kept snapshot")]
    Restore(#[source] storage::table::ReplaceError),
    #[error(transparent)]
    Level(#[from] LevelError),
    #[error("read the table")]
    Table(#[source] storage::table::ReadError),
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> StartError {
        use storage::snapshot::SnapshotError;
        use storage::table::ReplaceError;
        match error {
            OpenError::Gap { .. } => StartError::Incomplete(error.into()),
            OpenError::Snapshot(SnapshotError::Corrupt { .. })
            | OpenError::Restore(ReplaceError::Snapshot(SnapshotError::Corrupt { .. })) => StartError::Snapshot(error.into()),
            OpenError::Snapshot(_) | OpenError::Restore(_) | OpenError::Level(_) | OpenError::Table(_) => StartError::State(error.into()),
        }
    }
}

/// The cluster's feature level as the table has it.
pub(crate) struct Level {
    /// What this binary knows.
    pub(crate) known: FeatureLevels,
    pub(crate) record: watch::Sender<LevelRecord>,
}

/// The state machine.
pub(crate) struct Machine {
    table: Arc<dyn Table>,
    snapshots: SharedSnapshots,
    observer: Arc<dyn Observer>,
    applied: watch::Sender<Option<Index>>,
    level: Level,
    notes: Notes,
}

impl Machine {
    /// Brings the table at least to where the log begins, from the kept snapshot if need be.
    pub(crate) fn open(
        table: Arc<dyn Table>,
        snapshots: SharedSnapshots,
        observer: Arc<dyn Observer>,
        applied: watch::Sender<Option<Index>>,
        level: Level,
        notes: Notes,
        purged: Option<Position>,
    ) -> Result<Machine, OpenError> {
        LevelRecord::of_table(&*table.view().map_err(OpenError::Table)?)?.check(level.known)?;
        let kept = snapshots.store().current().and_then(|info| info.applied.position);
        if kept > table.applied().position
            && let Some(mut reader) = snapshots.store().reader().map_err(OpenError::Snapshot)?
        {
            LevelRecord::of_snapshot(&reader)?.check(level.known)?;
            table.replace(&mut reader).map_err(OpenError::Restore)?;
        }
        if let Some(kept) = kept {
            table.note_snapshot(kept);
        }
        let position = table.applied().position;
        match purged {
            Some(purged) if position < Some(purged) => Err(OpenError::Gap { applied: position, purged }),
            _ => {
                level.record.send_replace(LevelRecord::of_table(&*table.view().map_err(OpenError::Table)?)?);
                applied.send_replace(position.map(|position| position.index));
                Ok(Machine { table, snapshots, observer, applied, level, notes })
            }
        }
    }

    fn publish(&self, index: Option<Index>) {
        self.applied.send_replace(index);
    }

    /// The level that an entry raises the cluster to, if it does and if this binary knows it.
    fn raised(&self, change: &Change) -> Result<Option<LevelRecord>, LevelError> {
        let Change::Batch(batch) = change else { return Ok(None) };
        let record = LevelRecord::of_batch(batch)?;
        if let Some(record) = &record {
            record.check(self.level.known)?;
        }
        Ok(record)
    }
}

/// The entry as the table takes it.
fn committed(entry: Entry) -> Result<Committed, io::Error> {
    let position = codec::position_of(&entry.log_id);
    let change = match entry.payload {
        EntryPayload::Blank => Change::Blank,
        EntryPayload::Membership(membership) => Change::Membership(codec::encode_membership(&membership)),
        // Proposals were decoded once before they were proposed: one that cannot be now is damage or a newer format.
        EntryPayload::Normal(proposal) => Change::decode(&proposal.batch).map_err(io::Error::other)?,
    };
    Ok(Committed { position, change })
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Snapshot;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let applied = self.table.applied();
        let membership = codec::decode_membership(applied.membership.as_ref()).map_err(io::Error::other)?;
        Ok((applied.position.map(codec::log_id_of), membership))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut chunks = entries.ready_chunks(APPLY_ENTRIES_MAX);
        while let Some(chunk) = chunks.next().await {
            let mut changes = Vec::with_capacity(chunk.len());
            let mut responders = Vec::with_capacity(chunk.len());
            let mut raised = Vec::new();
            for item in chunk {
                let (entry, responder) = item?;
                let change = committed(entry)?;
                if let Some(record) = self.raised(&change.change).map_err(io::Error::other)? {
                    raised.push((changes.len(), record));
                }
                changes.push(change);
                responders.push(responder);
            }
            let outcomes = if changes.iter().any(|change| matches!(change.change, Change::Adopt(_))) {
                // It moves every cell there is: on a thread for such work, so that the leader's heartbeat goes on.
                let (table, notes, moved) = (Arc::clone(&self.table), self.notes.clone(), changes.clone());
                blocking(move || notes.apply(&*table, &moved).map_err(io::Error::other)).await?
            } else {
                self.notes.apply(&*self.table, &changes).map_err(io::Error::other)?
            };
            for (change, outcome) in changes.iter().zip(&outcomes) {
                match (&change.change, outcome) {
                    (Change::Batch(batch), Outcome::Applied) => self.observer.applied(batch),
                    (Change::Adopt(_), Outcome::Applied) => self.observer.replaced(&*self.table.view().map_err(io::Error::other)?),
                    _ => {}
                }
            }
            for (place, record) in raised {
                if outcomes[place] == Outcome::Applied {
                    self.level.record.send_replace(record);
                }
            }
            self.publish(changes.last().map(|change| change.position.index));
            for ((change, outcome), responder) in changes.iter().zip(outcomes).zip(responders) {
                if let Some(responder) = responder {
                    responder.send(answer(&change.change, outcome));
                }
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { table: Arc::clone(&self.table), snapshots: Arc::clone(&self.snapshots) }
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, snapshot: Snapshot) -> Result<(), io::Error> {
        let (table, snapshots, known) = (Arc::clone(&self.table), Arc::clone(&self.snapshots), self.level.known);
        blocking(move || {
            let mut reader = snapshots.checked(snapshot)?;
            LevelRecord::of_snapshot(&reader).and_then(|record| record.check(known)).map_err(io::Error::other)?;
            snapshots.store().keep(&reader).map_err(io::Error::other)?;
            table.replace(&mut reader).map_err(io::Error::other)
        })
        .await?;
        let applied = self.table.applied();
        if let Some(position) = applied.position {
            self.table.note_snapshot(position);
        }
        let view = self.table.view().map_err(io::Error::other)?;
        self.level.record.send_replace(LevelRecord::of_table(&*view).map_err(io::Error::other)?);
        self.observer.replaced(&*view);
        self.publish(applied.position.map(|position| position.index));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<openraft::type_config::alias::SnapshotOf<TypeConfig, Snapshot>>, io::Error> {
        self.snapshots.current()
    }
}

/// Runs what waits for the disk, on a thread for such work if the runtime has several.
pub(crate) async fn blocking<T: Send + 'static>(act: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    if tokio::runtime::Handle::current().runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread {
        tokio::task::spawn_blocking(act).await.map_err(io::Error::other)?
    } else {
        act()
    }
}

fn answer(change: &Change, outcome: Outcome) -> Answer {
    match (change, outcome) {
        (Change::Blank | Change::Membership(_), _) => Answer::Nothing,
        (Change::Batch(_) | Change::Adopt(_), Outcome::Applied) => Answer::Applied,
        (Change::Batch(_) | Change::Adopt(_), Outcome::Conflict { expectation, found }) => Answer::Conflict { expectation, found },
    }
}

/// Makes a snapshot file without stopping writes.
pub(crate) struct Builder {
    table: Arc<dyn Table>,
    snapshots: SharedSnapshots,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Snapshot;

    async fn build_snapshot(&mut self) -> Result<openraft::type_config::alias::SnapshotOf<TypeConfig, Snapshot>, io::Error> {
        let table = Arc::clone(&self.table);
        let snapshots = Arc::clone(&self.snapshots);
        let build = move || -> Result<(), io::Error> {
            // The log is purged up to the snapshot: from then on the table must not need what was purged.
            table.flush().map_err(io::Error::other)?;
            let view = table.view().map_err(io::Error::other)?;
            let info = snapshots.store().create(&*view).map_err(io::Error::other)?;
            if let Some(position) = info.applied.position {
                table.note_snapshot(position);
            }
            Ok(())
        };
        blocking(build).await?;
        self.snapshots.current()?.ok_or_else(|| io::Error::other("the snapshot just made is gone"))
    }
}

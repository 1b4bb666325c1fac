//! Restore: a backup takes the place of every record, on every node at once.
//!
//! Its records are staged by ordinary batches, beside those that are served; then one entry puts them in place ([`storage::adoption`]). So
//! nothing is half restored, whoever stops when, and no node has to be reached that is not there: it does the same when it applies the entry.
//!
//! Always: a backup was checked whole before the first record is staged. One of this cluster (by the key that authenticates it) leaves seals
//! and keyring as they are, and rotates the keyring; the cluster stays open. Another cluster's brings its own seals and keyring: every node is
//! sealed by it, its shares open it, and no node serves before its keyring has authenticated it and was rotated ([`Barrier::finish_restore`]).
//! A plan that was made before is void after. What is left of a restore that did not end is found by its age, and removed.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use crypto::SecretBytes;
use prost::Message;
use proto::stored;
use raft::{ProposeError, Scratch};
use storage::adoption::{Adoption, Staged};
use storage::container::{About, Container, ContainerError, sums_fit_meta};
use storage::feature_level::{FEATURE_LEVEL_KEY, FEATURE_LEVELS, LevelError, LevelRecord};
use storage::snapshot::{Record, SnapshotError, SnapshotReader};
use storage::table::ReadError as TableError;
use storage::{Batch, Expectation, TableView, Write};
use tokio_util::sync::CancellationToken;
use types::{ClusterId, FeatureLevel, Revision, Timestamp};
use uuid::Uuid;

use crate::barrier::{AccessError, Barrier, CommitError};
use crate::journal::{Act, Entry};
use crate::key::{AREA_CLEAR, AREA_SEALED};
use crate::keyring::{Keyring, KeyringError};
use crate::name::Name;
use crate::plan::Plan;
use crate::records::{self, RecordError, Records};
use crate::rotation::commit_error;
use crate::seals::Seals;
use crate::view::{View, ViewError};

/// Below it lie the keys of what is staged. No other area begins with it or a greater byte but the header's.
pub(crate) const STAGED_PREFIX: u8 = 0xf0;
/// The key of the header.
const HEADER_KEY: &[u8] = b"\xf1restore";
/// The level from which on a cluster can be restored.
const LEVEL: FeatureLevel = FeatureLevel(2);
/// What one batch stages, at most: records, and their bytes (one record may be larger by itself).
const STAGED_RECORDS_MAX: usize = 2048;
const STAGED_BYTES_MAX: usize = 1 << 20;
/// Records that one batch removes, at most.
const REMOVED_MAX: usize = 4096;
/// What is staged and was not added to for so long is left over.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(60);
/// How often the leader looks for it, and a node looks again whether a restore can be finished.
const LOOK_PAUSE: Duration = Duration::from_secs(5);
/// How often the last step is made again when others rotate or rekey meanwhile, or its fate is unknown.
const ATTEMPTS_MAX: u32 = 20;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);

/// What is of the cluster as it is, and not of its past: these folders stay as they are. The authority that nodes' certificates come from and
/// tokens to join, acts on the keys that are under way, what was granted to nodes that restarted, how much of the journals is in the audit log.
const KEPT: &[&str] = &["core/authority", "core/join", "core/ceremony", "core/rejoin", "core/journal", "core/shares-verified"];
/// Of another cluster's snapshot these say what is not true here.
const FORGOTTEN: &[&str] = &["core/join", "core/ceremony", "core/rejoin", "core/journal"];

fn restored_name() -> Name {
    Name::new("core/restored")
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Which snapshot.
    pub snapshot_id: String,
    /// Records that it put in place.
    pub records: u64,
    /// How often the cluster was restored.
    pub epoch: u64,
    /// It was another cluster's: every node is sealed, and the snapshot's shares open it.
    pub is_foreign: bool,
}

/// How far a restore has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestoreProgress {
    /// Which snapshot; empty when none is under way.
    pub snapshot_id: String,
    /// The node that carries it out.
    pub node_id: String,
    /// Records in all.
    pub records: u64,
    /// Records that are staged.
    pub staged: u64,
    /// When it was last heard of.
    pub touched: Timestamp,
}

/// Why nothing was restored. Unless it says otherwise, every record is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is no backup, or no whole one.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// Its state cannot be read again.
    #[error("read the snapshot")]
    Snapshot(#[from] SnapshotError),
    /// It holds what no cluster has.
    #[error("the snapshot is no cluster's: {0}")]
    NoCluster(&'static str),
    /// Another cluster's.
    #[error(
        "the snapshot is of another cluster ({found}), not of this one ({here}). Restored by force, every record here is lost, every node is \
         sealed, and only the shares of the snapshot's cluster open it"
    )]
    Foreign {
        /// Whose it is.
        found: ClusterId,
        /// This cluster.
        here: ClusterId,
    },
    /// This cluster's by its name, but not authenticated by its keyring.
    #[error(
        "the snapshot bears this cluster's id, but its keyring does not authenticate it: it was changed or put together from others, or it \
         is of a history that ended when the cluster was restored from an older snapshot. Restored by force, its own shares open it, and it is \
         checked then"
    )]
    NotAuthentic,
    /// Of a cluster of another name, which the nodes' configuration and certificates would not fit.
    #[error(
        "the snapshot is of a cluster named {found:?}, and this one is named {here:?}: start nodes with cluster_name = {found:?} to restore it"
    )]
    Name {
        /// The snapshot's.
        found: String,
        /// This cluster's.
        here: String,
    },
    /// It was written by a release that knows more.
    #[error("the snapshot needs a newer release")]
    Level(#[from] LevelError),
    /// Not every node can carry a restore out.
    #[error("the cluster is at feature level {0}, and a restore needs {LEVEL}: upgrade every node and raise it first")]
    ClusterLevel(FeatureLevel),
    /// Another one is under way.
    #[error("{0} is restoring a snapshot now: wait until it has ended, or cancel it")]
    Busy(String),
    /// Somebody cancelled it, or another one took its place.
    #[error("the restore was cancelled; nothing was changed")]
    Cancelled,
    /// The records in clear cannot be read.
    #[error("read the records")]
    Record(#[from] RecordError),
    /// The table cannot be read.
    #[error("read the table")]
    Table(#[from] TableError),
    /// The keyring cannot be rotated.
    #[error("rotate the keyring")]
    Keyring(#[from] KeyringError),
    /// A batch was not carried out.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// What was staged is not what the snapshot holds: somebody else wrote there.
    #[error("what was staged is not what the snapshot holds; nothing was changed")]
    Staged,
    /// Whether it was done could not be found out.
    #[error("the fate of the restore is unknown: look at sys/storage/raft/snapshot/progress")]
    Indeterminate,
}

impl From<AccessError> for RestoreError {
    fn from(error: AccessError) -> RestoreError {
        RestoreError::Commit(error.into())
    }
}

impl From<ViewError> for RestoreError {
    fn from(error: ViewError) -> RestoreError {
        RestoreError::Commit(error.into())
    }
}

impl From<storage::batch::EncodeError> for RestoreError {
    fn from(error: storage::batch::EncodeError) -> RestoreError {
        RestoreError::Commit(error.into())
    }
}

/// Whose snapshot it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// This cluster's, at this version of its keyring or a later one.
    Own,
    /// Another's, or one that only its own keys can tell.
    Foreign,
}

/// What a snapshot holds, besides what its own sums say.
pub(crate) struct Examined {
    seals: Seals,
    epoch: u64,
    staged: Staged,
}

impl Barrier {
    /// Room on this node's disk for a backup that comes from outside.
    pub fn scratch(&self) -> Scratch {
        self.inner.raft.scratch()
    }

    /// Puts a backup in the place of every record, on every node. `by` is who asked, for people.
    ///
    /// With `force` also another cluster's, whose shares open the cluster from then on. The call goes on when it is dropped, up to its end;
    /// `cancel` ends it as long as nothing is replaced.
    pub async fn restore(&self, container: Container, force: bool, by: &str, cancel: CancellationToken) -> Result<Restored, RestoreError> {
        let (barrier, by) = (self.clone(), by.to_owned());
        let running = self.inner.tasks.spawn(async move { barrier.restore_whole(container, force, &by, &cancel).await });
        running.await.unwrap_or(Err(RestoreError::Indeterminate))
    }

    /// How far the restore has come that is under way, on whichever node; `None`: there is none.
    pub async fn restore_progress(&self) -> Result<Option<RestoreProgress>, RestoreError> {
        let table = self.inner.raft.read().await.map_err(AccessError::from)?;
        Ok(read_header(&*table)?.map(|(header, _)| RestoreProgress {
            snapshot_id: header.snapshot_id,
            node_id: header.node_id,
            records: header.records,
            staged: header.staged,
            touched: Timestamp(header.touched_ms),
        }))
    }

    /// The last restore's number; 0: there was none.
    pub async fn restore_epoch(&self) -> Result<u64, RestoreError> {
        let table = self.inner.raft.read().await.map_err(AccessError::from)?;
        Ok(records::read_restored(&*table)?.map_or(0, |(record, _)| record.epoch))
    }

    /// Ends the restore that is under way, on whichever node, and removes what is staged. False when there is none.
    pub async fn cancel_restore(&self) -> Result<bool, RestoreError> {
        let table = self.inner.raft.read().await.map_err(AccessError::from)?;
        let Some((_, revision)) = read_header(&*table)? else { return Ok(false) };
        self.unstage(Some(revision)).await?;
        Ok(true)
    }

    /// Ids that this cluster had before a snapshot of another one was restored.
    pub fn replaced_clusters(&self) -> Result<Vec<ClusterId>, RecordError> {
        let table = self.inner.raft.local().map_err(|_| RecordError::Malformed("restored cluster"))?;
        let record = records::read_restored(&*table)?.map(|(record, _)| record).unwrap_or_default();
        Ok(record.replaced_cluster_ids.iter().filter_map(|id| Uuid::from_slice(id).ok().map(ClusterId)).collect())
    }

    async fn restore_whole(
        &self,
        container: Container,
        force: bool,
        by: &str,
        cancel: &CancellationToken,
    ) -> Result<Restored, RestoreError> {
        let level = self.inner.raft.feature_level();
        if level < LEVEL {
            return Err(RestoreError::ClusterLevel(level));
        }
        let Container { about, meta, sums, sealed, state } = container;
        let (state, examined) = off_thread(move || {
            let examined = examine(&state);
            (state, examined)
        })
        .await;
        let examined = examined?;
        let origin = self.origin(&examined, &sums, &sealed, force).await?;
        let id = uuid::Builder::from_random_bytes(crypto::rng::generate_bytes(&*self.inner.rng)).into_uuid().to_string();
        let mut header = stored::Staging {
            id: id.clone(),
            node_id: self.inner.facts.node_id.to_string(),
            snapshot_id: about.id.clone(),
            records: examined.staged.keys,
            staged: 0,
            touched_ms: 0,
        };
        tracing::info!(snapshot = about.id, records = header.records, "restoring a snapshot");
        let staged = self.stage(&mut header, state, cancel).await;
        let revision = match staged {
            Ok(revision) => revision,
            Err(error) => {
                self.give_up(&id).await;
                return Err(error);
            }
        };
        let order = Order { id: &id, about: &about, parts: [meta, sums, sealed], examined: &examined, origin, by };
        let adopted = if cancel.is_cancelled() { Err(RestoreError::Cancelled) } else { self.adopt(&order, revision).await };
        match adopted {
            Ok(epoch) => {
                let is_foreign = origin == Origin::Foreign;
                tracing::warn!(snapshot = about.id, epoch, is_foreign, "a snapshot was restored");
                self.journal(Entry::new(Act::Restored { snapshot: about.id.clone(), is_foreign }).actor(by));
                Ok(Restored { snapshot_id: about.id, records: examined.staged.keys, epoch, is_foreign })
            }
            Err(error) => {
                self.give_up(&id).await;
                Err(error)
            }
        }
    }

    /// Whose the snapshot is, and whether that may be restored here.
    async fn origin(&self, examined: &Examined, sums: &[u8], sealed: &[u8], force: bool) -> Result<Origin, RestoreError> {
        let (_, records) = self.view_and_records().await.map_err(of_act)?;
        let is_own = self.knows_backup(sums, sealed).ok_or(AccessError::Sealed)?;
        let (here, found) = (&records.seals, &examined.seals);
        if is_own && here.cluster_id == found.cluster_id {
            return Ok(Origin::Own);
        }
        if !force && here.cluster_id == found.cluster_id {
            return Err(RestoreError::NotAuthentic);
        }
        if !force {
            return Err(RestoreError::Foreign { found: found.cluster_id, here: here.cluster_id });
        }
        if here.cluster_name != found.cluster_name {
            return Err(RestoreError::Name { found: found.cluster_name.clone(), here: here.cluster_name.clone() });
        }
        Ok(Origin::Foreign)
    }

    /// Stages every record; answers the revision of the header after the last.
    async fn stage(
        &self,
        header: &mut stored::Staging,
        state: SnapshotReader,
        cancel: &CancellationToken,
    ) -> Result<Revision, RestoreError> {
        let mut revision = self.begin_staging(header).await?;
        // One piece ahead: the disk is read while the last piece is replicated.
        let (sender, mut pieces) = tokio::sync::mpsc::channel::<Result<Vec<Record>, SnapshotError>>(1);
        let reading = self.inner.tasks.spawn(off_thread(move || read_pieces(&state, &sender)));
        while let Some(piece) = pieces.recv().await {
            if cancel.is_cancelled() {
                return Err(RestoreError::Cancelled);
            }
            let piece = piece?;
            header.staged += piece.len() as u64;
            let writes = piece.into_iter().map(|Record { key, cell }| Write { key: staged_key(&key), value: Some(cell.value) }).collect();
            revision = self.write_staged(header, revision, writes).await?;
        }
        drop(reading.await);
        Ok(revision)
    }

    /// Writes the first header. What an earlier restore has left goes first.
    async fn begin_staging(&self, header: &mut stored::Staging) -> Result<Revision, RestoreError> {
        let table = self.inner.raft.read().await.map_err(AccessError::from)?;
        if let Some((other, revision)) = read_header(&*table)? {
            if !self.is_left_over(&other) {
                return Err(RestoreError::Busy(other.node_id));
            }
            self.unstage(Some(revision)).await?;
        } else {
            self.unstage(None).await?;
        }
        self.write_staged(header, Revision::ABSENT, Vec::new()).await
    }

    fn is_left_over(&self, header: &stored::Staging) -> bool {
        Duration::from_millis(self.inner.clock.now().0.saturating_sub(header.touched_ms)) > LEFT_OVER_AFTER
    }

    /// Writes the header and some records, if the header is still as this restore left it; answers its new revision.
    async fn write_staged(
        &self,
        header: &mut stored::Staging,
        revision: Revision,
        mut writes: Vec<Write>,
    ) -> Result<Revision, RestoreError> {
        header.touched_ms = self.inner.clock.now().0;
        let key = Bytes::from_static(HEADER_KEY);
        writes.push(Write { key: key.clone(), value: Some(header.encode_to_vec().into()) });
        let batch = Batch { expectations: vec![Expectation { key, revision }], writes }.encode()?;
        for _ in 0..ATTEMPTS_MAX {
            match self.inner.raft.propose(batch.clone()).await {
                Ok(index) => return Ok(Revision::at(index)),
                // It may have been carried out by an attempt whose fate was unknown.
                Err(ProposeError::Conflict { .. } | ProposeError::Indeterminate(_)) => {
                    let table = self.inner.raft.read().await.map_err(AccessError::from)?;
                    match read_header(&*table)? {
                        Some((found, at)) if found == *header => return Ok(at),
                        Some((_, at)) if at == revision => {}
                        None if revision == Revision::ABSENT => {}
                        _ => return Err(RestoreError::Cancelled),
                    }
                }
                Err(ProposeError::NoLeader) => {}
                Err(error) => return Err(commit_error(error).into()),
            }
            tokio::time::sleep(ATTEMPT_PAUSE).await;
        }
        Err(CommitError::NoLeader.into())
    }

    /// Puts what is staged in place; answers the epoch. Made again when seals or keyring change meanwhile.
    async fn adopt(&self, order: &Order<'_>, staged: Revision) -> Result<u64, RestoreError> {
        for _ in 0..ATTEMPTS_MAX {
            let (view, records) = self.view_and_records().await.map_err(of_act)?;
            let restored = records::read_restored(view.table())?;
            let epoch = restored.as_ref().map_or(0, |(record, _)| record.epoch) + 1;
            let mut adoption = match order.origin {
                Origin::Own => self.adoption_of_own(order, &view, &records, restored.map(|(record, _)| record), epoch)?,
                Origin::Foreign => self.adoption_of_foreign(order, &records, restored.map(|(record, _)| record), epoch),
            };
            adoption.batch.expectations.extend(records.expectations());
            adoption.batch.expectations.push(Expectation { key: Bytes::from_static(HEADER_KEY), revision: staged });
            let expectations = adoption.batch.expectations.len();
            let proposed = self.inner.raft.propose(adoption.encode()?).await;
            match proposed {
                Ok(_) => return Ok(epoch),
                Err(ProposeError::Conflict { expectation, .. }) if expectation == expectations => return Err(RestoreError::Staged),
                Err(ProposeError::NoLeader | ProposeError::Conflict { .. } | ProposeError::Indeterminate(_)) => {}
                Err(error) => return Err(commit_error(error).into()),
            }
            tokio::time::sleep(ATTEMPT_PAUSE).await;
            let table = self.inner.raft.read().await.map_err(|_| RestoreError::Indeterminate)?;
            if let Some((record, _)) = records::read_restored(&*table)?.filter(|(record, _)| record.id == order.id) {
                return Ok(record.epoch);
            }
            match read_header(&*table)? {
                Some((_, revision)) if revision == staged => {}
                _ => return Err(RestoreError::Cancelled),
            }
        }
        Err(RestoreError::Indeterminate)
    }

    /// This cluster's own: seals stay, the keyring gets a new key, and what is of the present stays.
    fn adoption_of_own(
        &self,
        order: &Order<'_>,
        view: &View,
        records: &Records,
        before: Option<stored::RestoredCluster>,
        epoch: u64,
    ) -> Result<Adoption, RestoreError> {
        let now = self.inner.clock.now();
        let cluster = records.seals.cluster_id;
        let rotated = |held: crate::keys::Held<'_>| {
            let keyring = Keyring::rotated(held.keyring_key, cluster, &records.keyring, now, &*self.inner.rng)?;
            let kept: Vec<Bytes> = KEPT.iter().map(|name| held.keyring.seal_name(&Name::new(name))).collect();
            Ok::<_, KeyringError>((keyring, kept, held.keyring.newest().version))
        };
        let (keyring, mut kept, key_version) = self.keys().with_all(rotated).ok_or(AccessError::Sealed)??;
        kept.extend([records::seals_key(), Bytes::from_static(FEATURE_LEVEL_KEY)]);
        let mut plan = Plan::new();
        put_restored(&mut plan, order.about, epoch, now, key_version);
        let mut batch = view.seal(&plan, &*self.inner.rng)?;
        let record = stored::RestoredCluster {
            id: order.id.to_owned(),
            epoch,
            replaced_cluster_ids: before.map(|record| record.replaced_cluster_ids).unwrap_or_default(),
            restored_ms: now.0,
            actor: order.by.to_owned(),
            ..Default::default()
        };
        batch.writes.extend([
            Write { key: records::keyring_key(), value: Some(keyring.into()) },
            // The same epoch, at a new revision: a plan from before is void.
            Write { key: records::epoch_key(), value: Some(records::encode_epoch(records.epoch)) },
            Write { key: records::restored_key(), value: Some(record.encode_to_vec().into()) },
        ]);
        Ok(Adoption { from: Bytes::from_static(&[STAGED_PREFIX]), staged: order.examined.staged, kept, batch })
    }

    /// Another cluster's: its seals and keyring come with it, and every node is sealed.
    fn adoption_of_foreign(&self, order: &Order<'_>, records: &Records, before: Option<stored::RestoredCluster>, epoch: u64) -> Adoption {
        let [meta, sums, sealed] = order.parts.clone();
        let mut replaced = before.map(|record| record.replaced_cluster_ids).unwrap_or_default();
        let here = records.seals.cluster_id.0.as_bytes().to_vec();
        if !replaced.contains(&here) {
            replaced.push(here);
        }
        let record = stored::RestoredCluster {
            id: order.id.to_owned(),
            epoch,
            unfinished: true,
            replaced_cluster_ids: replaced,
            meta,
            sums,
            sealed,
            restored_ms: self.inner.clock.now().0,
            actor: order.by.to_owned(),
        };
        let seal_epoch = records.epoch.max(order.examined.epoch) + 1;
        let writes = vec![
            Write { key: records::epoch_key(), value: Some(records::encode_epoch(seal_epoch)) },
            Write { key: records::restored_key(), value: Some(record.encode_to_vec().into()) },
        ];
        let batch = Batch { expectations: Vec::new(), writes };
        // The level is of the members, not of what they keep.
        let kept = vec![Bytes::from_static(FEATURE_LEVEL_KEY)];
        Adoption { from: Bytes::from_static(&[STAGED_PREFIX]), staged: order.examined.staged, kept, batch }
    }

    /// Removes what this restore has staged; what cannot be removed now is left over, and found.
    async fn give_up(&self, id: &str) {
        let removed = async {
            let table = self.inner.raft.read().await.map_err(AccessError::from)?;
            match read_header(&*table)? {
                Some((header, revision)) if header.id == id => self.unstage(Some(revision)).await,
                _ => Ok(()),
            }
        };
        if let Err(error) = removed.await {
            tracing::warn!(%error, "what was staged is still there; it is removed later");
        }
    }

    /// Removes everything that is staged, the header first: so whoever stages finds out. `header` is its revision, if there is one.
    async fn unstage(&self, header: Option<Revision>) -> Result<(), RestoreError> {
        if let Some(revision) = header {
            let key = Bytes::from_static(HEADER_KEY);
            let batch = Batch { expectations: vec![Expectation { key: key.clone(), revision }], writes: vec![Write { key, value: None }] };
            match self.inner.raft.propose(batch.encode()?).await {
                Ok(_) => {}
                Err(ProposeError::Conflict { .. }) => return Err(RestoreError::Busy("another node".into())),
                Err(error) => return Err(commit_error(error).into()),
            }
        }
        let expectations = vec![Expectation { key: Bytes::from_static(HEADER_KEY), revision: Revision::ABSENT }];
        loop {
            let table = self.inner.raft.read().await.map_err(AccessError::from)?;
            let mut writes = Vec::new();
            table.visit(Bound::Included(&[STAGED_PREFIX]), Bound::Excluded(&[STAGED_PREFIX + 1]), &mut |key, _, _| {
                writes.push(Write { key: Bytes::copy_from_slice(key), value: None });
                if writes.len() == REMOVED_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            if writes.is_empty() {
                return Ok(());
            }
            match self.inner.raft.propose(Batch { expectations: expectations.clone(), writes }.encode()?).await {
                Ok(_) => {}
                // Another restore has begun: what is staged is its own.
                Err(ProposeError::Conflict { .. }) => return Ok(()),
                Err(error) => return Err(commit_error(error).into()),
            }
        }
    }

    /// On the leader: removes what a restore has left that did not end. It needs no keys.
    pub(crate) async fn remove_left_over(&self) {
        loop {
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_PAUSE) => {}
            }
            if !self.leads() {
                continue;
            }
            let look = || -> Result<Option<Option<Revision>>, RestoreError> {
                let table = self.inner.raft.local().map_err(AccessError::from)?;
                match read_header(&*table)? {
                    Some((header, revision)) => Ok(self.is_left_over(&header).then_some(Some(revision))),
                    None => Ok((!table.scan(Bound::Included(&[STAGED_PREFIX]), Bound::Excluded(&[STAGED_PREFIX + 1]), 1)?.is_empty())
                        .then_some(None)),
                }
            };
            let removed = match look() {
                Ok(None) => continue,
                Ok(Some(header)) => self.unstage(header).await,
                Err(error) => Err(error),
            };
            match removed {
                Ok(()) => tracing::warn!("removed what was left of a restore that did not end"),
                Err(error) => tracing::warn!(%error, "remove what is left of a restore that did not end"),
            }
        }
    }

    /// At the start: whether the table holds another cluster's records that no keys have looked at.
    pub(crate) fn look_for_restore(&self) {
        match self.inner.raft.local().map(|table| table.get(&records::restored_key())) {
            Ok(Ok(cell)) => self.inner.changes.restored(cell.map(|cell| cell.value).as_ref()),
            Ok(Err(error)) => tracing::error!(%error, "read the record of the last restore"),
            Err(error) => tracing::error!(%error, "read the record of the last restore"),
        }
    }

    /// Once keys are there: lets the keyring of another cluster's snapshot authenticate it, rotates it, and ends the tokens of later. Only
    /// then does the node open.
    pub(crate) async fn finish_restore(&self) {
        let mut finishing = self.keys().watch_finishing();
        loop {
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                waited = finishing.wait_for(|finishing| *finishing) => if waited.is_err() { return },
            }
            match self.finish_once().await {
                Ok(Some(snapshot)) => {
                    tracing::info!(snapshot, "the restore is finished");
                    self.journal(Entry::new(Act::RestoreFinished { snapshot }));
                }
                Ok(None) => {}
                Err(error @ (RestoreError::NotAuthentic | RestoreError::Container(_) | RestoreError::NoCluster(_))) => {
                    tracing::error!(%error, "THE RESTORED SNAPSHOT WAS CHANGED: this node stays sealed (start over with empty folders and another snapshot)");
                    self.keys().seal();
                }
                Err(error) => tracing::warn!(%error, "finish the restore"),
            }
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(ATTEMPT_PAUSE) => {}
            }
        }
    }

    /// The snapshot that was finished here; `None`: another node did it, or is about to.
    async fn finish_once(&self) -> Result<Option<String>, RestoreError> {
        let table = self.inner.raft.read().await.map_err(AccessError::from)?;
        let Some((record, revision)) = records::read_restored(&*table)?.filter(|(record, _)| record.unfinished) else { return Ok(None) };
        let records = records::read(&*table)?.ok_or(AccessError::Sealed)?;
        let view = View::new(table, Arc::clone(self.keys()));
        let is_authentic = self.knows_backup(&record.sums, &record.sealed).ok_or(AccessError::Sealed)?;
        if !is_authentic || !sums_fit_meta(&record.sums, &record.meta) {
            return Err(RestoreError::NotAuthentic);
        }
        let about = About::decode(&record.meta)?;
        let (now, cluster) = (self.inner.clock.now(), records.seals.cluster_id);
        let rotated = |held: crate::keys::Held<'_>| {
            let keyring = Keyring::rotated(held.keyring_key, cluster, &records.keyring, now, &*self.inner.rng)?;
            Ok::<_, KeyringError>((keyring, held.keyring.newest().version))
        };
        let (keyring, key_version) = self.keys().with_all(rotated).ok_or(AccessError::Sealed)??;
        let mut plan = Plan::new();
        for folder in FORGOTTEN {
            let folder = Name::new(folder);
            view.keys_below(&folder, REMOVED_MAX)?.into_iter().for_each(|key| plan.erase(key));
        }
        // The snapshot's cluster may have been restored before.
        let earlier = view.read(&restored_name())?.value;
        // EXPOSE: the record is decoded.
        let earlier = earlier.and_then(|value| stored::Restored::decode(value.expose()).ok()).unwrap_or_default();
        let epoch = record.epoch.max(earlier.epoch + 1);
        put_restored(&mut plan, &about, epoch, Timestamp(record.restored_ms), key_version);
        let mut batch = view.seal(&plan, &*self.inner.rng)?;
        let finished =
            stored::RestoredCluster { epoch, unfinished: false, meta: Vec::new(), sums: Vec::new(), sealed: Vec::new(), ..record };
        batch.expectations.extend(records.expectations());
        batch.expectations.push(Expectation { key: records::restored_key(), revision });
        batch.writes.extend([
            Write { key: records::keyring_key(), value: Some(keyring.into()) },
            Write { key: records::restored_key(), value: Some(finished.encode_to_vec().into()) },
        ]);
        match self.inner.raft.propose(batch.encode()?).await {
            Ok(_) => Ok(Some(about.id)),
            Err(ProposeError::Conflict { .. }) => Ok(None),
            Err(error) => Err(commit_error(error).into()),
        }
    }
}

/// What is to be put in place.
struct Order<'a> {
    id: &'a str,
    about: &'a About,
    /// `meta.json`, `SHA256SUMS`, `SHA256SUMS.sealed`.
    parts: [Vec<u8>; 3],
    examined: &'a Examined,
    origin: Origin,
    by: &'a str,
}

fn put_restored(plan: &mut Plan, about: &About, epoch: u64, now: Timestamp, key_version: u32) {
    let record = stored::Restored { epoch, snapshot_id: about.id.clone(), saved_ms: about.saved_ms, restored_ms: now.0, key_version };
    plan.put(restored_name(), SecretBytes::from(record.encode_to_vec()));
}

/// A moment in the cluster's past from which on it has another history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fork {
    /// The state that the cluster was put back to is of this time.
    pub saved: Timestamp,
    /// The newest value key of the history that ended.
    pub key_version: u32,
}

impl View {
    /// Where the last restore ended a history; `None`: there was none. Cheap when asked often, through `cache`.
    pub fn fork(&self, cache: &crate::Cache<Fork>) -> Result<Option<Arc<Fork>>, ViewError> {
        let decode = |value: &[u8]| {
            let record = stored::Restored::decode(value).ok()?;
            Some(Fork { saved: Timestamp(record.saved_ms), key_version: record.key_version })
        };
        Ok(self.read_cached(cache, &restored_name(), decode)?.value)
    }
}

/// Reads a snapshot once: that it holds a cluster's records and nothing else, and what an adoption says of them.
pub(crate) fn examine(state: &SnapshotReader) -> Result<Examined, RestoreError> {
    LevelRecord::of_snapshot(state)?.check(FEATURE_LEVELS)?;
    let mut staged = Staged::default();
    let (mut seals, mut keyring, mut epoch) = (None, false, None);
    for record in state.records()? {
        let Record { key, cell } = record?;
        match key.first() {
            Some(&AREA_CLEAR) if key == records::seals_key() => seals = Some(Seals::decode(cell.value.clone())?),
            Some(&AREA_CLEAR) if key == records::keyring_key() => keyring = true,
            Some(&AREA_CLEAR) if key == records::epoch_key() => {
                let decoded =
                    stored::SealEpoch::decode(cell.value.clone()).map_err(|_| RestoreError::NoCluster("its seal epoch is none"))?;
                epoch = Some(decoded.epoch);
            }
            Some(&(AREA_CLEAR | AREA_SEALED)) => {}
            _ => return Err(RestoreError::NoCluster("it holds records of an unknown area")),
        }
        staged.add(&key, &cell.value);
    }
    match (seals, keyring, epoch) {
        // An epoch that is counted up from there does not overflow.
        (Some(seals), true, Some(epoch)) if epoch < u64::MAX / 2 => Ok(Examined { seals, epoch, staged }),
        _ => Err(RestoreError::NoCluster("seals, keyring or seal epoch are missing")),
    }
}

fn read_pieces(state: &SnapshotReader, sender: &tokio::sync::mpsc::Sender<Result<Vec<Record>, SnapshotError>>) {
    let send = |piece| sender.blocking_send(piece).is_ok();
    let records = match state.records() {
        Ok(records) => records,
        Err(error) => {
            send(Err(error));
            return;
        }
    };
    let (mut piece, mut bytes) = (Vec::new(), 0);
    for record in records {
        match record {
            Ok(record) => {
                bytes += record.key.len() + record.cell.value.len();
                piece.push(record);
            }
            Err(error) => {
                send(Err(error));
                return;
            }
        }
        if piece.len() == STAGED_RECORDS_MAX || bytes >= STAGED_BYTES_MAX {
            bytes = 0;
            if !send(Ok(std::mem::take(&mut piece))) {
                return;
            }
        }
    }
    if !piece.is_empty() {
        send(Ok(piece));
    }
}

fn staged_key(key: &[u8]) -> Bytes {
    let mut staged = BytesMut::with_capacity(1 + key.len());
    staged.put_u8(STAGED_PREFIX);
    staged.put_slice(key);
    staged.freeze()
}

fn read_header(table: &dyn TableView) -> Result<Option<(stored::Staging, Revision)>, RestoreError> {
    let Some(cell) = table.get(HEADER_KEY)? else { return Ok(None) };
    // One that makes no sense is old, and left over.
    Ok(Some((stored::Staging::decode(cell.value).unwrap_or_default(), cell.revision)))
}

fn of_act(error: crate::attempt::ActError) -> RestoreError {
    match error {
        crate::attempt::ActError::Access(error) => error.into(),
        crate::attempt::ActError::Record(error) => error.into(),
        error => RestoreError::Commit(CommitError::Indeterminate(error.to_string())),
    }
}

/// Runs what waits for the disk on a thread for such work.
async fn off_thread<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(act).await.expect("reading a snapshot does not panic, and is not cancelled")
}

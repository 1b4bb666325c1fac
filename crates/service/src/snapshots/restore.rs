//! Restoring: a backup on its way from a caller into a temporary file, checked whole, and then in the place of every record.

use std::time::Duration;

use barrier::{Barrier, RestoreError};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use storage::container::{Container, ContainerError, Unpacker};
use storage::snapshot::SNAPSHOT_BYTES_MAX;
use tokio::sync::mpsc;

use super::{Begun, barrier, caller_name, done};
use crate::outcome::{Outcome, PlanError, Scope};
use crate::request::{Pieces, shown_time};

/// Pieces that wait for the disk.
const PIECES_MAX: usize = 4;
/// A caller who sends nothing for so long has gone.
const STALL_MAX: Duration = Duration::from_secs(60);

pub(super) fn restore<'a>(scope: &'a Scope<'a>, force: bool) -> BoxFuture<'a, Result<Outcome, PlanError>> {
    Box::pin(async move {
        let barrier = barrier(scope)?;
        let upload = scope.request.upload.as_ref().ok_or_else(|| PlanError::Refused("the body must be a snapshot".into()))?;
        let begun = scope.snapshots.begin(scope.now)?;
        let by = caller_name(scope)?;
        let restored = async {
            let container = receive(barrier, upload, &begun).await?;
            begun.step("restoring");
            barrier.restore(container, force, &by, begun.cancel.clone()).await.map_err(of_restore)
        };
        match restored.await {
            Ok(restored) => {
                begun.ended(json!({
                    "snapshot_id": restored.snapshot_id,
                    "records": restored.records,
                    "cluster_epoch": restored.epoch,
                    "of_another_cluster": restored.is_foreign,
                    "by": by,
                }));
                Ok(done())
            }
            Err(error) => {
                begun.ended(json!({ "error": error.to_string(), "by": by }));
                Err(error)
            }
        }
    })
}

/// Takes a snapshot in and checks it whole. What has come goes when the caller does.
pub(super) async fn receive(barrier: &Barrier, upload: &Pieces, begun: &Begun<'_>) -> Result<Container, PlanError> {
    let mut body = upload.take().ok_or_else(|| PlanError::Refused("the snapshot was read already: send it again".into()))?;
    let scratch = barrier.scratch();
    let (sender, mut pieces) = mpsc::channel::<Bytes>(PIECES_MAX);
    let unpacking = barrier.run_blocking(move || -> Result<Container, ContainerError> {
        let mut unpacker = Unpacker::new(SNAPSHOT_BYTES_MAX, Box::new(move |bytes| scratch.receive(bytes)));
        while let Some(piece) = pieces.blocking_recv() {
            unpacker.write(&piece)?;
        }
        unpacker.finish()
    });
    let mut received = 0;
    loop {
        let next = tokio::select! {
            biased;
            () = begun.cancel.cancelled() => return Err(of_restore(RestoreError::Cancelled)),
            next = tokio::time::timeout(STALL_MAX, body.next()) => next,
        };
        match next {
            Ok(Some(Ok(piece))) => {
                received += piece.len() as u64;
                begun.received(received);
                // Refused already: the answer says why.
                if sender.send(piece).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(PlanError::Refused("the snapshot did not arrive whole; nothing was changed".into())),
            Err(_) => return Err(PlanError::Refused("the snapshot stopped arriving; nothing was changed".into())),
        }
    }
    drop(sender);
    begun.step("checking");
    let unpacked = unpacking.await.map_err(|_| PlanError::Unavailable("the node is stopping".into()))?;
    unpacked.map_err(|error| of_restore(error.into()))
}

pub(super) fn progress<'a>(scope: &'a Scope<'a>) -> BoxFuture<'a, Result<Outcome, PlanError>> {
    Box::pin(async move {
        let barrier = barrier(scope)?;
        let running = barrier.restore_progress().await.map_err(of_restore)?;
        let running = running.map(|running| {
            json!({
                "snapshot_id": running.snapshot_id,
                "node_id": running.node_id,
                "records": running.records,
                "staged": running.staged,
                "touched": shown_time(running.touched),
            })
        });
        let (here, last) = scope.snapshots.show();
        let epoch = barrier.restore_epoch().await.map_err(of_restore)?;
        let shown: Value = json!({ "restore": running, "receiving": here, "last": last, "cluster_epoch": epoch });
        Ok(Outcome::data(&shown))
    })
}

pub(super) fn cancel<'a>(scope: &'a Scope<'a>) -> BoxFuture<'a, Result<Outcome, PlanError>> {
    Box::pin(async move {
        let here = scope.snapshots.cancel();
        let staged = barrier(scope)?.cancel_restore().await;
        match staged {
            Ok(false) if !here => Err(PlanError::NoSuch("no restore is under way".into())),
            Ok(_) => Ok(done()),
            // Whoever stages was faster: it is told by its own token.
            Err(RestoreError::Busy(_)) if here => Ok(done()),
            Err(RestoreError::Busy(_)) => Err(PlanError::Unavailable("the restore goes on at this moment: cancel it again".into())),
            Err(error) => Err(of_restore(error)),
        }
    })
}

/// What the caller is told.
pub(super) fn of_restore(error: RestoreError) -> PlanError {
    let text = || {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    };
    match error {
        RestoreError::Commit(error) => PlanError::Commit(error),
        RestoreError::Busy(_) | RestoreError::Indeterminate => PlanError::Unavailable(text()),
        RestoreError::Container(ContainerError::State(_)) | RestoreError::Snapshot(_) => PlanError::Refused(text()),
        RestoreError::Record(_) | RestoreError::Table(_) | RestoreError::Keyring(_) => {
            tracing::error!(error = text(), "restore a snapshot");
            PlanError::Malformed
        }
        RestoreError::Container(_)
        | RestoreError::NoCluster(_)
        | RestoreError::Foreign { .. }
        | RestoreError::NotAuthentic
        | RestoreError::Name { .. }
        | RestoreError::Level(_)
        | RestoreError::ClusterLevel(_)
        | RestoreError::Cancelled
        | RestoreError::Staged => PlanError::Refused(text()),
    }
}

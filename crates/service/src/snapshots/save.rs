//! Saving: a backup on its way to a caller, piece by piece.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::barrier;
use crate::outcome::{Outcome, PlanError, Scope};
use crate::request::{Answer, Download, Pieces};

/// Bytes in one piece.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces that wait for the caller.
const PIECES_MAX: usize = 4;
/// A caller who takes nothing for so long gets no more: what it reads keeps old records from being forgotten.
const STALL_MAX: Duration = Duration::from_secs(60);

pub(super) fn save<'a>(scope: &'a Scope<'a>) -> BoxFuture<'a, Result<Outcome, PlanError>> {
    Box::pin(async move {
        let barrier = barrier(scope)?;
        let busy = || PlanError::Unavailable("this node is writing other snapshots now: try again, or ask another node".into());
        let place = std::sync::Arc::clone(&scope.snapshots.saves).try_acquire_owned().map_err(|_| busy())?;
        let backup = barrier.backup().await.map_err(|error| match error {
            barrier::BackupError::Access(error) => PlanError::Commit(error.into()),
            barrier::BackupError::Record(_) => PlanError::Malformed,
        })?;
        let file_name = format!("conclave-{}.snap", backup.about().id);
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let runtime = Handle::current();
        barrier.run_blocking(move || {
            let mut pipe = Pipe { runtime, sender, piece: Vec::with_capacity(PIECE_BYTES) };
            match backup.write(&mut pipe) {
                Ok(packed) => {
                    tracing::info!(snapshot = backup.about().id, records = packed.records, bytes = packed.state_bytes, "saved a snapshot")
                }
                Err(error) => {
                    tracing::warn!(%error, "a snapshot was not saved");
                    // So that the caller does not take what has come for a whole one.
                    drop(pipe.send(Err(io::Error::other("the snapshot is not whole"))));
                }
            }
            drop(place);
        });
        let body = futures::stream::unfold(pieces, |mut pieces| async move { pieces.recv().await.map(|piece| (piece, pieces)) }).boxed();
        let body = Pieces::new(body);
        Ok(Outcome::answer(Answer::Stream(Download { content_type: "application/gzip".into(), file_name, body })))
    })
}

/// Sends what is written, in pieces.
struct Pipe {
    runtime: Handle,
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Pipe {
    fn send(&self, piece: io::Result<Bytes>) -> io::Result<()> {
        match self.runtime.block_on(tokio::time::timeout(STALL_MAX, self.sender.send(piece))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the caller has gone")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the caller takes nothing")),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.send(Ok(piece.into()))
    }
}

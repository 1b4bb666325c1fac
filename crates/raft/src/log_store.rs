//! Openraft's view of the durable log.
//!
//! Always: a vote, an append, a truncation and a purge are on stable storage before they are reported done.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use openraft::OptionalSend;
use openraft::RaftLogReader;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use storage::log::Done;
use storage::{Log, LogEntry};
use tokio::sync::oneshot;
use types::Index;

use crate::codec;
use crate::config::{Entry, LogId, TypeConfig, Vote};

/// Bytes of entries in one append request to a follower, at most (one entry may be larger by itself).
const REPLICATE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The log, as openraft appends to it and reads it.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: Log,
}

impl LogStore {
    pub(crate) fn new(log: Log) -> LogStore {
        LogStore { log }
    }

    fn read(&self, start: u64, end: u64, bytes_max: usize) -> Result<Vec<Entry>, io::Error> {
        let entries = self.log.read(Index(start)..Index(end), bytes_max).map_err(io::Error::other)?;
        // A failed log has dropped what it could not write. Fewer entries than were asked for would pass for all there are, and
        // openraft would hold an entry for applied that the table has never seen.
        if let Some(failure) = self.log.failure() {
            return Err(io::Error::other(failure));
        }
        let decode = |entry: LogEntry| codec::decode_entry(entry.position, entry.payload).map_err(io::Error::other);
        entries.into_iter().map(decode).collect()
    }
}

/// A callback, and what to await until it is called.
fn done() -> (Done, impl Future<Output = Result<(), io::Error>>) {
    let (sender, receiver) = oneshot::channel();
    // The waiter may have gone; the write is done all the same.
    let done: Done = Box::new(move |result| drop(sender.send(result)));
    let wait = async move {
        match receiver.await {
            Ok(result) => result.map_err(io::Error::other),
            Err(_) => Err(io::Error::other("the log has stopped")),
        }
    };
    (done, wait)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end, usize::MAX)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.log.vote().map(|bytes| codec::decode_vote(&bytes)).transpose().map_err(io::Error::other)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, REPLICATE_BYTES_MAX)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let bounds = self.log.bounds();
        let last = bounds.last.or(bounds.purged);
        Ok(LogState { last_purged_log_id: bounds.purged.map(codec::log_id_of), last_log_id: last.map(codec::log_id_of) })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, wait) = done();
        self.log.save_vote(codec::encode_vote(vote), done);
        wait.await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.log.save_committed(committed.as_ref().map(codec::position_of));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.log.committed().map(codec::log_id_of))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries
            .into_iter()
            .map(|entry| LogEntry { position: codec::position_of(&entry.log_id), payload: codec::encode_payload(&entry) })
            .collect();
        self.log.append(entries, Box::new(move |result| callback.io_completed(result.map_err(io::Error::other))));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let (done, wait) = done();
        self.log.truncate_after(last_log_id.map(|id| codec::position_of(&id).index), done);
        wait.await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let (done, wait) = done();
        self.log.purge_through(codec::position_of(&log_id), done);
        wait.await
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use storage::disk::{Fault, FaultPoint};
    use storage::{LogOptions, MemoryDisk};
    use types::{Position, Term};

    use super::*;

    /// Found by sim seed 40118 with 20 faults and 8 clients: an entry that the disk did not take was applied as if it were nothing.
    #[tokio::test]
    async fn a_failed_log_does_not_say_that_there_is_nothing() {
        let disk = MemoryDisk::new();
        let (log, mut flusher) = Log::open(Arc::new(disk.clone()), Path::new("/log"), LogOptions::default()).unwrap();
        let append = |index| {
            let position = Position { term: Term(1), index: Index(index) };
            let entry = codec::encode_payload(&openraft::entry::RaftEntry::new_blank(codec::log_id_of(position)));
            log.append(vec![LogEntry { position, payload: entry }], Box::new(drop));
        };
        append(0);
        flusher.step();
        let mut store = LogStore::new(log.clone());
        assert_eq!(store.try_get_log_entries(0..2).await.unwrap().len(), 1, "what is not there yet is no error");

        disk.fail(Fault { point: FaultPoint::Sync, after: 0, error: io::ErrorKind::Other, forever: true });
        append(1);
        flusher.step();
        append(2);
        for range in [0..1, 1..2, 2..3] {
            assert!(store.try_get_log_entries(range.clone()).await.is_err(), "{range:?}");
        }
    }
}

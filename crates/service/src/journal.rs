//! [`Joiner`]: brings this node's journal into the audit log, once there is one to bring it into.
//!
//! Always: entries are recorded in order, each at least once; how far that has come is a record of its own, written after them, so that a
//! crash repeats entries and never leaves one out. A repeated one has the same number and hash. The record also remembers the last entry's
//! hash, so that a journal that was changed since is found out, and said in the audit log.
//! No request waits for it. Knows no act.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use barrier::journal::JournalHash;
use barrier::{CommitError, Journal, JournalError, JournalLine, Name, Plan, ViewError};
use crypto::SecretBytes;
use prost::Message;
use proto::stored;
use types::{Clock, NodeId, Revision};

use crate::audit::{Broker, JournalEvent};
use crate::pipeline::Service;
use crate::request::Refusal;
use crate::store::Store;

/// The pause between two looks at the journal.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause after a round that could not be carried out.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(5);
/// Entries that are recorded in one round, at most.
const LINES_MAX: usize = 512;

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    #[error("the records cannot be read: {0}")]
    Records(#[from] Refusal),
    #[error("read how much of the journal is in the audit log")]
    View(#[from] ViewError),
    #[error("read the journal")]
    Journal(#[from] JournalError),
    #[error("write how much of the journal is in the audit log")]
    Commit(#[from] CommitError),
    #[error("no audit device takes the journal's entries")]
    NotRecorded,
}

/// What a round came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    /// All that there is has been recorded, or there is no audit device to record it.
    Idle,
    /// So much further than before, and there may be more.
    Joined(u64),
}

/// How much is in the audit log.
#[derive(Clone, Copy, Default)]
struct Joined {
    sequence: u64,
    /// `None` when `sequence` is 0.
    hash: Option<JournalHash>,
}

/// Brings one journal into the audit log.
pub(crate) struct Joiner<'a> {
    service: &'a Service,
    store: &'a dyn Store,
    clock: &'a dyn Clock,
    journal: Arc<dyn Journal>,
    node: &'a NodeId,
    /// The last entry that is recorded and remembered as such, for metrics.
    joined: &'a AtomicU64,
    /// The last entry that is known to be recorded and remembered as such; `None` before the first round.
    known: Option<u64>,
    /// The last entry that was recorded here. While it cannot be remembered (a full disk), it is not recorded again and again.
    recorded: Joined,
    /// A change of the journal was told, and is not told again until it is remembered.
    is_told: bool,
}

impl<'a> Joiner<'a> {
    pub(crate) fn new(
        service: &'a Service,
        store: &'a dyn Store,
        clock: &'a dyn Clock,
        journal: Arc<dyn Journal>,
        node: &'a NodeId,
        joined: &'a AtomicU64,
    ) -> Joiner<'a> {
        Joiner { service, store, clock, journal, node, joined, known: None, recorded: Joined::default(), is_told: false }
    }

    /// Joins what there is and what comes, for ever.
    pub(crate) async fn run(&mut self) {
        let mut fails = false;
        loop {
            let round = self.round().await;
            let pause = match &round {
                Ok(Round::Joined(_)) => Duration::ZERO,
                Ok(Round::Idle) | Err(JoinError::Commit(CommitError::Conflict)) => PAUSE,
                Err(JoinError::Records(Refusal::Sealed) | JoinError::Commit(CommitError::Sealed)) => PAUSE,
                Err(error) => {
                    // Once, not for each attempt.
                    if !fails {
                        let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                        tracing::warn!(%error, source, "the journal waits to be joined into the audit log");
                    }
                    PAUSE_AFTER_ERROR
                }
            };
            fails = round.is_err();
            tokio::time::sleep(pause).await;
        }
    }

    /// Records the next entries, and then that they are.
    pub(crate) async fn round(&mut self) -> Result<Round, JoinError> {
        if self.known == Some(self.journal.last()) {
            return Ok(Round::Idle);
        }
        let records = self.service.fresh().await?;
        let broker = self.service.recording(&records)?;
        if !broker.is_on() {
            return Ok(Round::Idle);
        }
        let found = records.view.read(&name(self.node))?;
        // EXPOSE: a number and a public hash. What is no record of this kind counts as none: better twice than not at all.
        let joined = found.value.and_then(|value| decode(value.expose())).unwrap_or_default();
        let mut lines = self.read(joined.sequence.saturating_sub(1)).await?;
        if let Some(error) = changed(&joined, lines.first()) {
            if !self.is_told {
                tracing::error!(sequence = joined.sequence, "THE JOURNAL IS NOT WHAT IT WAS: {error}");
                self.record(&broker, None, Some(&error)).await?;
                self.is_told = true;
            }
            self.commit(&records.view, Joined::default(), found.revision).await?;
            (self.known, self.recorded, self.is_told) = (None, Joined::default(), false);
            return Ok(Round::Joined(0));
        }
        let mut last = if self.recorded.sequence > joined.sequence { self.recorded } else { joined };
        lines.retain(|line| line.sequence > last.sequence);
        let mut failed = None;
        for line in &lines {
            if let Err(error) = self.record(&broker, Some(line), None).await {
                failed = Some(error);
                break;
            }
            last = Joined { sequence: line.sequence, hash: Some(line.hash) };
            self.recorded = last;
        }
        let count = last.sequence.saturating_sub(joined.sequence);
        if count > 0 {
            self.commit(&records.view, last, found.revision).await?;
        }
        self.joined.store(last.sequence, Ordering::Relaxed);
        match failed {
            Some(error) => Err(error),
            None if count > 0 => Ok(Round::Joined(count)),
            None => {
                self.known = Some(joined.sequence);
                Ok(Round::Idle)
            }
        }
    }

    async fn record(&self, broker: &Broker, line: Option<&JournalLine>, error: Option<&str>) -> Result<(), JoinError> {
        let event = JournalEvent { time: self.clock.now(), node: self.node, line, error };
        broker.record_journal(&event).await.map_err(|_| JoinError::NotRecorded)
    }

    /// The next entries after `sequence`. In a thread that may wait for the disk.
    async fn read(&self, sequence: u64) -> Result<Vec<JournalLine>, JournalError> {
        let journal = Arc::clone(&self.journal);
        let reading = tokio::task::spawn_blocking(move || journal.after(sequence, LINES_MAX));
        reading.await.expect("reading the journal does not panic, and is not cancelled")
    }

    async fn commit(&self, view: &barrier::View, joined: Joined, revision: Revision) -> Result<(), CommitError> {
        let record = stored::JournalJoined { sequence: joined.sequence, hash: joined.hash.map(|hash| hash.0.to_vec()).unwrap_or_default() };
        let mut plan = Plan::new();
        plan.expect(name(self.node), revision);
        plan.put(name(self.node), SecretBytes::from(record.encode_to_vec()));
        self.store.commit(view, &plan).await.map(drop)
    }
}

/// The record's name.
fn name(node: &NodeId) -> Name {
    Name::new(&format!("core/journal/{node}"))
}

fn decode(bytes: &[u8]) -> Option<Joined> {
    let record = stored::JournalJoined::decode(bytes).ok()?;
    let hash = match record.sequence {
        0 => None,
        _ => Some(JournalHash(record.hash.as_slice().try_into().ok()?)),
    };
    Some(Joined { sequence: record.sequence, hash })
}

/// What is wrong, when the journal no longer has the entry that was recorded last. `first`: its first entry from that number on.
///
/// A later number is no fault: the file may be archived, or its end broken, which the journal says itself.
fn changed(joined: &Joined, first: Option<&JournalLine>) -> Option<String> {
    let hash = joined.hash?;
    match first {
        Some(line) if line.sequence == joined.sequence && line.hash != hash => Some(format!(
            "entry {} was recorded here with the hash {hash} and now has {}: the journal was rewritten, and all of it is recorded again",
            joined.sequence, line.hash
        )),
        Some(_) => None,
        None => Some(format!(
            "entry {} was recorded here with the hash {hash} and is gone: the journal was cut or replaced, and all of it is recorded again",
            joined.sequence
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use barrier::MemoryJournal;
    use barrier::journal::{Act, Entry};
    use serde_json::{Value, json};
    use types::{SystemClock, Verb};

    use super::*;
    use crate::testing::World;

    struct Fixture {
        world: World,
        dir: tempfile::TempDir,
        node: NodeId,
    }

    impl Fixture {
        fn new() -> Fixture {
            Fixture { world: World::new(1), dir: tempfile::tempdir().unwrap(), node: NodeId::parse("n1").unwrap() }
        }

        fn journal(&self) -> Arc<MemoryJournal> {
            Arc::new(MemoryJournal::new(&self.node, Arc::new(SystemClock)))
        }

        fn file(&self) -> PathBuf {
            self.dir.path().join("audit.log")
        }

        async fn enable(&self) {
            let body = json!({"type": "file", "options": {"file_path": self.file().to_str().unwrap()}});
            self.world.ask(Verb::Write, "sys/audit/file", body).await.unwrap();
        }

        /// The journal's records in the audit log, oldest first.
        fn records(&self) -> Vec<Value> {
            let text = std::fs::read_to_string(self.file()).unwrap_or_default();
            let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            records.filter(|record| record["type"] == "journal").collect()
        }

        fn sequences(&self) -> Vec<u64> {
            self.records().iter().filter_map(|record| record["journal"]["sequence"].as_u64()).collect()
        }

        /// Rounds until nothing is left to do.
        async fn join(&self, joiner: &mut Joiner<'_>) -> u64 {
            let mut joined = 0;
            while let Round::Joined(count) = joiner.round().await.unwrap() {
                joined += count;
            }
            joined
        }
    }

    fn write(journal: &MemoryJournal, count: u64) {
        (0..count).for_each(|_| journal.record(Entry::new(Act::ShareAccepted).holder("al\"ice")).unwrap());
    }

    #[tokio::test]
    async fn entries_wait_for_a_device_and_are_recorded_once_in_order() {
        let fixture = Fixture::new();
        let journal = fixture.journal();
        write(&journal, 3);
        let mut joiner = fixture.world.service.joiner(Arc::clone(&journal) as _, &fixture.node);
        assert_eq!(fixture.join(&mut joiner).await, 0, "no device is on");
        fixture.enable().await;
        assert_eq!(fixture.join(&mut joiner).await, 3);
        write(&journal, 2);
        assert_eq!((fixture.join(&mut joiner).await, fixture.world.service.journal_joined()), (2, 5));
        // After a restart of the node, or at another start of the service.
        let mut joiner = fixture.world.service.joiner(Arc::clone(&journal) as _, &fixture.node);
        assert_eq!(fixture.join(&mut joiner).await, 0);
        assert_eq!(fixture.sequences(), [1, 2, 3, 4, 5]);
        let line = journal.after(0, 1).unwrap().remove(0);
        let want = json!({
            "node": "n1", "sequence": 1, "time": line.time, "act": "share_accepted", "outcome": "done", "holder": "al\"ice",
            "hash": line.hash.to_string(),
        });
        assert_eq!(fixture.records()[0]["journal"], want);
        assert!(fixture.records()[0]["time"].is_string() && fixture.records()[0].get("error").is_none());
    }

    #[tokio::test]
    async fn each_node_has_its_own() {
        let fixture = Fixture::new();
        fixture.enable().await;
        let second = NodeId::parse("n2").unwrap();
        for (node, count) in [(&fixture.node, 2), (&second, 1)] {
            let journal = Arc::new(MemoryJournal::new(node, Arc::new(SystemClock)));
            write(&journal, count);
            assert_eq!(fixture.join(&mut fixture.world.service.joiner(journal, node)).await, count);
        }
        let nodes: Vec<_> = fixture.records().iter().map(|record| record["journal"]["node"].clone()).collect();
        assert_eq!(nodes, ["n1", "n1", "n2"]);
    }

    #[tokio::test]
    async fn a_device_that_fails_holds_the_journal_back_and_nobody_else() {
        let fixture = Fixture::new();
        let folder = fixture.dir.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        let body = json!({"type": "file", "options": {"file_path": folder.join("a").to_str().unwrap()}});
        fixture.world.ask(Verb::Write, "sys/audit/file", body).await.unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let journal = fixture.journal();
        write(&journal, 2);
        let mut joiner = fixture.world.service.joiner(Arc::clone(&journal) as _, &fixture.node);
        assert!(matches!(joiner.round().await, Err(JoinError::NotRecorded)));
        assert_eq!(fixture.world.service.audit_failures().requests, 0, "it was no request");
        std::fs::create_dir(&folder).unwrap();
        assert_eq!(fixture.join(&mut joiner).await, 2);
    }

    #[tokio::test]
    async fn a_journal_that_is_not_what_was_recorded_is_told_and_recorded_again() {
        let fixture = Fixture::new();
        fixture.enable().await;
        let journal = fixture.journal();
        write(&journal, 3);
        fixture.join(&mut fixture.world.service.joiner(journal, &fixture.node)).await;
        for (count, says) in [(2, "entry 3 was recorded here with the hash "), (4, "entry 2 was recorded here with the hash ")] {
            let before = fixture.records().len();
            let other = fixture.journal();
            (0..count).for_each(|_| other.record(Entry::new(Act::CeremonyReset)).unwrap());
            let mut joiner = fixture.world.service.joiner(other, &fixture.node);
            assert_eq!(fixture.join(&mut joiner).await, count);
            let records = fixture.records().split_off(before);
            assert!(records[0]["error"].as_str().unwrap().starts_with(says), "{}", records[0]);
            assert_eq!(records[0]["journal"], json!({"node": "n1"}));
            assert_eq!(records.len() as u64, count + 1);
        }
    }

    #[tokio::test]
    async fn a_record_that_somebody_else_wrote_meanwhile_is_not_overwritten() {
        let fixture = Fixture::new();
        fixture.enable().await;
        let journal = fixture.journal();
        write(&journal, 1);
        let view = fixture.world.barrier.view();
        let joiner = fixture.world.service.joiner(Arc::clone(&journal) as _, &fixture.node);
        let line = journal.after(0, 1).unwrap().remove(0);
        let joined = Joined { sequence: 1, hash: Some(line.hash) };
        joiner.commit(&view, joined, Revision::ABSENT).await.unwrap();
        assert!(matches!(joiner.commit(&view, Joined::default(), Revision::ABSENT).await, Err(CommitError::Conflict)));
        assert_eq!(fixture.join(&mut fixture.world.service.joiner(journal, &fixture.node)).await, 0);
    }

    #[tokio::test]
    async fn what_cannot_be_remembered_is_recorded_once() {
        let fixture = Fixture::new();
        fixture.enable().await;
        let journal = fixture.journal();
        write(&journal, 2);
        let full = FullStore(fixture.world.barrier.clone());
        let mut joiner = fixture.world.service.joiner(Arc::clone(&journal) as _, &fixture.node);
        joiner.store = &full;
        for _ in 0..3 {
            assert!(matches!(joiner.round().await, Err(JoinError::Commit(CommitError::DiskFull))));
        }
        write(&journal, 1);
        assert!(joiner.round().await.is_err());
        assert_eq!(fixture.sequences(), [1, 2, 3]);
        let store = crate::testing::MemoryStore(fixture.world.barrier.clone());
        joiner.store = &store;
        assert_eq!((fixture.join(&mut joiner).await, fixture.sequences()), (3, vec![1, 2, 3]));
    }

    /// Nothing can be written to it.
    struct FullStore(Arc<barrier::testing::MemoryBarrier>);

    #[async_trait::async_trait]
    impl Store for FullStore {
        async fn view(&self) -> Result<barrier::View, barrier::AccessError> {
            Ok(self.0.view())
        }

        async fn commit(&self, _view: &barrier::View, _plan: &Plan) -> Result<Revision, CommitError> {
            Err(CommitError::DiskFull)
        }

        fn leads(&self) -> bool {
            false
        }

        async fn seal(&self, _by: &str) -> Result<Vec<barrier::SealedNode>, String> {
            Ok(Vec::new())
        }

        async fn members(&self, _now: types::Timestamp) -> proto::http::HaStatus {
            proto::http::HaStatus { nodes: Vec::new() }
        }
    }

    /// More than one round's worth.
    #[tokio::test]
    async fn a_long_journal_is_recorded_in_parts() {
        let fixture = Fixture::new();
        fixture.enable().await;
        let journal = fixture.journal();
        let lines_max = LINES_MAX as u64;
        write(&journal, lines_max * 2 + 7);
        let mut joiner = fixture.world.service.joiner(journal, &fixture.node);
        assert!(matches!(joiner.round().await, Ok(Round::Joined(count)) if count == lines_max));
        fixture.join(&mut joiner).await;
        let want: Vec<u64> = (1..=lines_max * 2 + 7).collect();
        assert_eq!(fixture.sequences(), want);
    }
}

//! A node's disk stays in proportion to what it holds, on real files: 20 MB, written ten times over, take at most 2.5 times as much.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use proto::peer;
use raft::{AppendStream, Compaction, Flushing, Member, Observer, Parts, Peer, Raft, Sizes, Timing, Transport, TransportError};
use storage::feature_level::FEATURE_LEVELS;
use storage::table::{RedbTable, RedbTableOptions};
use storage::{Batch, Disk, FsDisk, Log, LogOptions, SnapshotStore, TableView, Write};
use types::{NodeId, SystemClock};

/// As the node's own.
const SEGMENT_BYTES: u64 = 4 << 20;
const LIVE_BYTES: usize = 20_000_000;
const ROUNDS: usize = 10;
const KEY_BYTES: usize = 60;
const BATCH: usize = 64;
/// How long it may take after the last write.
const PATIENCE: Duration = Duration::from_secs(60);

struct Nobody;

fn nobody<T: Send + 'static>(to: &Peer) -> BoxFuture<'static, Result<T, TransportError>> {
    futures::future::ready(Err(TransportError::Unreachable { peer: to.id.clone(), reason: "alone".into() })).boxed()
}

impl Transport for Nobody {
    fn append(
        &self,
        to: Arc<Peer>,
        _: BoxStream<'static, peer::AppendRequest>,
    ) -> BoxFuture<'static, Result<AppendStream, TransportError>> {
        nobody(&to)
    }
    fn vote(&self, to: Arc<Peer>, _: peer::VoteRequest) -> BoxFuture<'static, Result<peer::VoteResponse, TransportError>> {
        nobody(&to)
    }
    fn snapshot(
        &self,
        to: Arc<Peer>,
        _: BoxStream<'static, peer::SnapshotChunk>,
    ) -> BoxFuture<'static, Result<peer::SnapshotResponse, TransportError>> {
        nobody(&to)
    }
    fn transfer_leader(
        &self,
        to: Arc<Peer>,
        _: peer::TransferLeaderRequest,
    ) -> BoxFuture<'static, Result<peer::TransferLeaderResponse, TransportError>> {
        nobody(&to)
    }
    fn read_index(&self, to: Arc<Peer>, _: peer::ReadIndexRequest) -> BoxFuture<'static, Result<peer::ReadIndexResponse, TransportError>> {
        nobody(&to)
    }
    fn propose(&self, to: Arc<Peer>, _: peer::ProposeRequest) -> BoxFuture<'static, Result<peer::ProposeResponse, TransportError>> {
        nobody(&to)
    }
    fn check(&self, to: Arc<Peer>, _: peer::CheckRequest) -> BoxFuture<'static, Result<peer::CheckResponse, TransportError>> {
        nobody(&to)
    }
    fn membership(
        &self,
        to: Arc<Peer>,
        _: peer::MembershipRequest,
    ) -> BoxFuture<'static, Result<peer::MembershipResponse, TransportError>> {
        nobody(&to)
    }
    fn rejoin(&self, to: Arc<Peer>, _: peer::RejoinRequest) -> BoxFuture<'static, Result<peer::RejoinResponse, TransportError>> {
        nobody(&to)
    }
}

struct Deaf;

impl Observer for Deaf {
    fn applied(&self, _batch: &Batch) {}
    fn replaced(&self, _table: &dyn TableView) {}
}

async fn start(root: &Path) -> Raft {
    let disk: Arc<dyn Disk> = Arc::new(FsDisk);
    let options = LogOptions { segment_bytes: SEGMENT_BYTES, ..LogOptions::default() };
    let table = RedbTable::open(Arc::clone(&disk), &root.join("table.redb"), RedbTableOptions::default()).unwrap();
    let raft = Raft::start(Parts {
        node_id: NodeId::from(1),
        timing: Timing::default(),
        compaction: Compaction { interval: Duration::from_secs(2), ..Compaction::default() },
        log: Log::open(Arc::clone(&disk), &root.join("log"), options).unwrap(),
        flushing: Flushing::Thread,
        table: Arc::new(table),
        disk: (Arc::clone(&disk), root.to_owned()),
        snapshots: SnapshotStore::open(disk, &root.join("snapshots")).unwrap(),
        transport: Arc::new(Nobody),
        clock: Arc::new(SystemClock),
        observer: Arc::new(Deaf),
        feature_levels: FEATURE_LEVELS,
        read_consistency: raft::ReadConsistency::default(),
    })
    .await
    .unwrap();
    raft.begin(BTreeMap::from([(NodeId::from(1), Member::default())])).await.unwrap();
    raft
}

/// What the folder takes, as the file system says.
fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let of = |entry: std::fs::DirEntry| {
        let path = entry.path();
        if path.is_dir() { disk_bytes(&path) } else { path.metadata().map_or(0, |data| data.blocks() * 512) }
    };
    std::fs::read_dir(folder).unwrap().map(|entry| of(entry.unwrap())).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_over_takes_two_and_a_half_times_the_room() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("log")).unwrap();
    let raft = start(root.path()).await;
    let mut seed = 7_u64;
    let mut draw = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut most = 0;
    // Many small values, fewer large ones.
    let keys = LIVE_BYTES / (KEY_BYTES + 470);
    for batch in 0..ROUNDS * keys / BATCH {
        let writes = (0..BATCH).map(|at| {
            // Each key once a round, in an order that has nothing to do with theirs.
            let number = (batch * BATCH + at) % keys;
            let mut key = format!("{:064x}", u128::from(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
            key.truncate(KEY_BYTES + 4);
            let value = vec![batch as u8; if number.is_multiple_of(50) { 2000 + draw(4000) } else { 150 + draw(500) }];
            Write { key: Bytes::from(key.split_off(4)), value: Some(Bytes::from(value)) }
        });
        let batch_bytes = Batch { expectations: vec![], writes: writes.collect() }.encode().unwrap();
        raft.propose(batch_bytes).await.unwrap();
        if batch % 200 == 0 {
            most = most.max(disk_bytes(root.path()));
        }
    }
    let written = Instant::now();
    loop {
        let Sizes { live, log, table, snapshot } = raft.sizes();
        let total = disk_bytes(root.path());
        let ratio = total as f64 / live as f64;
        assert!(live > LIVE_BYTES as u64 * 4 / 5, "{live} live bytes");
        if ratio <= 2.5 {
            println!(
                "{live} live bytes take {total} ({ratio:.2}: log {log}, table {table}, snapshot {snapshot}) after {:?}; while writing {most}",
                written.elapsed()
            );
            // The metrics say what the file system says.
            let told = log + table + snapshot;
            assert!(told.abs_diff(total) < total / 10, "{told} told, {total} found");
            break;
        }
        assert!(written.elapsed() < PATIENCE, "{total} for {live} live bytes ({ratio:.2}: log {log}, table {table}, snapshot {snapshot})");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // The log presses at 64 MiB; a snapshot is made, and the table copied, beside what is there.
    assert!(most < 12 * LIVE_BYTES as u64, "{most} bytes while it was written");
    raft.shutdown().await;
}

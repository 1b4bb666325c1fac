//! A whole cluster in one process: real Raft, memory for disks, calls in place of a network.
//!
//! What is promised here: batches are applied once and everywhere, reads on every node are linearizable, learners catch up
//! (by snapshot if the log no longer reaches back), membership changes jointly, leadership is handed over.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]
#![expect(clippy::disallowed_methods, reason = "test tasks end with their test's runtime")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use proto::peer;
use raft::{
    AppendStream, ChangeError, ChangeOptions, Compaction, Flushing, Inbound, Member, MemberChange, MembersView, Observer, Parts, Peer,
    ProposeError, Raft, ReadConsistency, RefusalKind, Role, Timing, Transport, TransportError,
};
use storage::adoption::{Adoption, Staged};
use storage::feature_level::{FEATURE_LEVELS, LevelRecord};
use storage::{Batch, Disk, Expectation, Log, LogOptions, MemoryDisk, MemoryTable, SnapshotStore, TableView, Write};
use types::{FeatureLevel, FeatureLevels, NodeId, Revision, SystemClock};

/// Long enough for elections on a busy machine; nothing waits so long when all is well.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who can be called.
#[derive(Clone, Default)]
struct Switchboard(Arc<Mutex<BTreeMap<NodeId, Inbound>>>, Arc<AtomicU64>);

impl Switchboard {
    fn call<R, F>(&self, to: &Arc<Peer>, call: impl FnOnce(Inbound) -> F) -> BoxFuture<'static, Result<R, TransportError>>
    where
        F: Future<Output = Result<R, raft::InboundError>> + Send + 'static,
        R: Send + 'static,
    {
        let peer = to.id.clone();
        let Some(inbound) = self.0.lock().unwrap().get(&peer).cloned() else {
            self.1.fetch_add(1, Ordering::Relaxed);
            let error = TransportError::Unreachable { peer, reason: "not there".into() };
            return futures::future::ready(Err(error)).boxed();
        };
        let call = call(inbound);
        async move { call.await.map_err(|error| TransportError::Lost { peer, reason: error.to_string() }) }.boxed()
    }
}

impl Transport for Switchboard {
    fn append(
        &self,
        to: Arc<Peer>,
        requests: BoxStream<'static, peer::AppendRequest>,
    ) -> BoxFuture<'static, Result<AppendStream, TransportError>> {
        let peer = to.id.clone();
        self.call(&to, |inbound| async move {
            let responses = inbound.append(requests.map(Ok::<_, std::convert::Infallible>));
            let lost = move |error: raft::InboundError| TransportError::Lost { peer: peer.clone(), reason: error.to_string() };
            Ok(responses.map(move |response| response.map_err(&lost)).boxed())
        })
    }

    fn vote(&self, to: Arc<Peer>, request: peer::VoteRequest) -> BoxFuture<'static, Result<peer::VoteResponse, TransportError>> {
        self.call(&to, |inbound| async move { inbound.vote(request).await })
    }

    fn snapshot(
        &self,
        to: Arc<Peer>,
        chunks: BoxStream<'static, peer::SnapshotChunk>,
    ) -> BoxFuture<'static, Result<peer::SnapshotResponse, TransportError>> {
        self.call(&to, |inbound| async move { inbound.snapshot(chunks.map(Ok::<_, std::convert::Infallible>)).await })
    }

    fn transfer_leader(
        &self,
        to: Arc<Peer>,
        request: peer::TransferLeaderRequest,
    ) -> BoxFuture<'static, Result<peer::TransferLeaderResponse, TransportError>> {
        self.call(&to, |inbound| async move { inbound.transfer_leader(request).await })
    }

    fn read_index(
        &self,
        to: Arc<Peer>,
        request: peer::ReadIndexRequest,
    ) -> BoxFuture<'static, Result<peer::ReadIndexResponse, TransportError>> {
        self.call(&to, |inbound| async move { Ok(inbound.read_index(request).await) })
    }

    fn propose(&self, to: Arc<Peer>, request: peer::ProposeRequest) -> BoxFuture<'static, Result<peer::ProposeResponse, TransportError>> {
        self.call(&to, |inbound| async move { inbound.propose(request).await })
    }

    fn membership(
        &self,
        to: Arc<Peer>,
        request: peer::MembershipRequest,
    ) -> BoxFuture<'static, Result<peer::MembershipResponse, TransportError>> {
        self.call(&to, |inbound| async move { inbound.membership(request).await })
    }

    fn check(&self, to: Arc<Peer>, request: peer::CheckRequest) -> BoxFuture<'static, Result<peer::CheckResponse, TransportError>> {
        self.call(&to, |inbound| async move { Ok(inbound.check(request).await) })
    }

    fn rejoin(&self, to: Arc<Peer>, request: peer::RejoinRequest) -> BoxFuture<'static, Result<peer::RejoinResponse, TransportError>> {
        self.call(&to, |inbound| async move { inbound.rejoin(request).await })
    }
}

struct Deaf;

impl Observer for Deaf {
    fn applied(&self, _batch: &Batch) {}
    fn replaced(&self, _table: &dyn TableView) {}
}

fn member(number: u64) -> Member {
    Member { cluster_address: format!("https://127.0.0.1:{number}"), api_address: "http://127.0.0.1:1".into(), ..Member::default() }
}

fn id(number: u64) -> NodeId {
    NodeId::from(number)
}

async fn start(switchboard: &Switchboard, number: u64, snapshot_interval: u64) -> Raft {
    start_release(switchboard, number, snapshot_interval, FEATURE_LEVELS).await
}

/// Starts a node of a release that knows `feature_levels`.
async fn start_release(switchboard: &Switchboard, number: u64, snapshot_interval: u64, feature_levels: FeatureLevels) -> Raft {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    disk.create_dir_all(Path::new("/data")).unwrap();
    let raft = Raft::start(Parts {
        node_id: id(number),
        timing: Timing::default(),
        compaction: Compaction { interval: Duration::from_millis(50), entries: snapshot_interval, entries_kept: snapshot_interval / 4 },
        log: Log::open(Arc::clone(&disk), Path::new("/data/log"), LogOptions::default()).unwrap(),
        flushing: Flushing::Thread,
        table: Arc::new(MemoryTable::new()),
        disk: (Arc::clone(&disk), "/data".into()),
        snapshots: SnapshotStore::open(disk, Path::new("/data/snapshots")).unwrap(),
        transport: Arc::new(switchboard.clone()),
        clock: Arc::new(SystemClock),
        observer: Arc::new(Deaf),
        feature_levels,
        read_consistency: ReadConsistency::default(),
    })
    .await
    .unwrap();
    switchboard.0.lock().unwrap().insert(id(number), raft.inbound());
    raft
}

async fn cluster(size: u64, snapshot_interval: u64) -> (Switchboard, Vec<Raft>) {
    let switchboard = Switchboard::default();
    let mut nodes = Vec::new();
    for number in 1..=size {
        nodes.push(start(&switchboard, number, snapshot_interval).await);
    }
    let members: BTreeMap<_, _> = (1..=size).map(|number| (id(number), member(number))).collect();
    for node in &nodes {
        node.bootstrap(members.clone()).await.unwrap();
    }
    (switchboard, nodes)
}

fn put(key: &str, value: &str, expected: Option<Revision>) -> Bytes {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let expectations = expected.map(|revision| Expectation { key: key.clone(), revision }).into_iter().collect();
    let writes = vec![Write { key, value: Some(Bytes::copy_from_slice(value.as_bytes())) }];
    Batch { expectations, writes }.encode().unwrap()
}

async fn value(node: &Raft, key: &str) -> Option<String> {
    let view = node.read().await.unwrap();
    view.get(key.as_bytes()).unwrap().map(|cell| String::from_utf8(cell.value.to_vec()).unwrap())
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "in {PATIENCE:?} not: {what}");
}

fn leader(nodes: &[Raft]) -> Option<usize> {
    nodes.iter().position(|node| node.status().role == Role::Leader)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_through_any_node_is_seen_on_every_node_at_once() {
    let (_switchboard, nodes) = cluster(3, 10_000).await;
    for (round, writer) in nodes.iter().enumerate() {
        let written = round.to_string();
        writer.propose(put("k", &written, None)).await.unwrap();
        for reader in &nodes {
            assert_eq!(value(reader, "k").await, Some(written.clone()), "written through node {}", round + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_batches_that_expect_the_same_revision_one_is_applied() {
    let (_switchboard, nodes) = cluster(3, 10_000).await;
    let attempts = nodes.iter().map(|node| node.propose(put("once", "x", Some(Revision::ABSENT))));
    let results = futures::future::join_all(attempts).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    assert!(results.iter().all(|result| matches!(result, Ok(_) | Err(ProposeError::Conflict { expectation: 0, .. }))), "{results:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_batch_reach_no_log() {
    let (_switchboard, nodes) = cluster(1, 10_000).await;
    nodes[0].propose(put("k", "v", None)).await.unwrap();
    let before = nodes[0].status().committed;
    assert!(matches!(nodes[0].propose(Bytes::from_static(b"\xffnonsense")).await, Err(ProposeError::Malformed(_))));
    let request = peer::ProposeRequest { batches: vec![Bytes::from_static(b"nonsense")], from_reserve: false };
    assert!(nodes[0].inbound().propose(request).await.is_err(), "a peer's nonsense");
    assert_eq!(nodes[0].status().committed, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_catches_up_by_snapshot_then_votes_and_is_removed() {
    let (switchboard, mut nodes) = cluster(3, 50).await;
    for number in 0..200 {
        nodes[0].propose(put(&format!("key {number}"), "v", None)).await.unwrap();
    }
    let joining = start(&switchboard, 4, 50).await;
    nodes.push(joining);
    let add = nodes[1].change_members(MemberChange::Add { id: id(4), member: member(4) }, ChangeOptions::default()).await.unwrap();
    assert!(add.member(&id(4)).is_some_and(|facts| !facts.info.voter));
    // What was written long ago is purged from the log.
    eventually("the learner has caught up", || nodes[3].status().applied >= nodes[0].status().applied).await;
    assert_eq!(value(&nodes[3], "key 199").await.as_deref(), Some("v"));
    assert_eq!(value(&nodes[3], "key 0").await.as_deref(), Some("v"));

    for (at, change, voters) in
        [(3, MemberChange::Promote { id: id(4) }, [1, 2, 3, 4].as_slice()), (0, MemberChange::Remove { id: id(4) }, &[1, 2, 3])]
    {
        let voters: BTreeSet<NodeId> = voters.iter().copied().map(id).collect();
        nodes[at].change_members(change, ChangeOptions::default()).await.unwrap();
        eventually("every voter knows the new members", || {
            nodes[..3].iter().all(|node| {
                let known: BTreeSet<NodeId> = node.status().members.into_iter().filter(|info| info.voter).map(|info| info.id).collect();
                known == voters
            })
        })
        .await;
        nodes[1].propose(put("after the change", "v", None)).await.unwrap();
    }
}

fn voters(view: &MembersView) -> Vec<String> {
    view.members.iter().filter(|facts| facts.info.voter).map(|facts| facts.info.id.to_string()).collect()
}

fn kind<T: std::fmt::Debug>(outcome: Result<T, ChangeError>) -> RefusalKind {
    match outcome {
        Err(ChangeError::Refused(refusal)) => refusal.kind,
        other => panic!("no refusal, but {other:?}"),
    }
}

/// Asks for a change at a node, as an operator would.
async fn change(node: &Raft, change: MemberChange) -> Result<MembersView, ChangeError> {
    node.change_members(change, ChangeOptions::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_itself_is_demoted_replaced_and_removed_by_handing_over_first() {
    let (switchboard, mut nodes) = cluster(3, 10_000).await;
    nodes.push(start(&switchboard, 4, 10_000).await);
    nodes[0].propose(put("k", "v", None)).await.unwrap();
    let leading = |nodes: &[Raft]| nodes[0].status().leader.unwrap();

    let old = leading(&nodes);
    let view = change(&nodes[1], MemberChange::Demote { id: old.clone() }).await.unwrap();
    assert_ne!(view.leader, old);
    let facts = view.member(&old).unwrap();
    assert!(!facts.info.voter && facts.info.member.non_voter, "{facts:?}");
    let view = change(&nodes[2], MemberChange::Promote { id: old.clone() }).await.unwrap();
    assert!(view.member(&old).is_some_and(|facts| facts.info.voter && !facts.info.member.non_voter));

    let old = view.leader.clone();
    change(&nodes[0], MemberChange::Add { id: id(4), member: member(4) }).await.unwrap();
    let view = change(&nodes[0], MemberChange::Replace { old: old.clone(), new: id(4) }).await.unwrap();
    assert!(view.member(&old).is_none() && view.members.len() == 3, "{view:?}");
    let stayed: Vec<&Raft> = nodes.iter().filter(|node| view.members.iter().any(|facts| facts.info.id == *node_id(node))).collect();
    let view = change(stayed[0], MemberChange::Remove { id: view.leader.clone() }).await.unwrap();
    assert_eq!(view.members.len(), 2);
    let left = stayed.iter().find(|node| view.member(node_id(node)).is_some()).unwrap();
    left.propose(put("k", "w", None)).await.unwrap();
    assert_eq!(value(left, "k").await.as_deref(), Some("w"));
}

fn node_id(node: &Raft) -> &NodeId {
    node.node_id()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_break_the_cluster_is_refused() {
    let (switchboard, nodes) = cluster(3, 10_000).await;
    nodes[0].propose(put("k", "v", None)).await.unwrap();
    assert_eq!(kind(change(&nodes[0], MemberChange::Remove { id: id(9) }).await), RefusalKind::UnknownMember);
    assert_eq!(kind(change(&nodes[1], MemberChange::Add { id: id(3), member: member(9) }).await), RefusalKind::AlreadyMember);
    assert_eq!(kind(change(&nodes[2], MemberChange::Add { id: id(9), member: member(1) }).await), RefusalKind::AlreadyMember);

    // One is dead: the other two must not shrink to one, nor wait for a third that never answered.
    let leader = leader(&nodes).unwrap();
    let (dead, other) = ((leader + 1) % 3, (leader + 2) % 3);
    switchboard.0.lock().unwrap().remove(&id(dead as u64 + 1));
    nodes[dead].shutdown().await;
    eventually("the leader misses it", || {
        let view = nodes[leader].members_here();
        view.is_some_and(|view| view.member(&id(dead as u64 + 1)).is_some_and(|facts| facts.last_contact > Some(Duration::from_secs(2))))
    })
    .await;
    let demote = MemberChange::Demote { id: id(other as u64 + 1) };
    assert_eq!(kind(change(&nodes[other], demote).await), RefusalKind::NoQuorum);
    let to = Some(id(dead as u64 + 1));
    assert_eq!(kind(change(&nodes[other], MemberChange::Transfer { to }).await), RefusalKind::NoHeir);
    let view = change(&nodes[other], MemberChange::Remove { id: id(dead as u64 + 1) }).await.unwrap();
    assert_eq!(view.members.len(), 2);
    nodes[leader].propose(put("k", "w", None)).await.unwrap();
    assert_eq!(value(&nodes[other], "k").await.as_deref(), Some("w"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_voter_stays() {
    let (switchboard, mut nodes) = cluster(1, 10_000).await;
    nodes.push(start(&switchboard, 2, 10_000).await);
    nodes[0].propose(put("k", "v", None)).await.unwrap();
    change(&nodes[0], MemberChange::Add { id: id(2), member: member(2) }).await.unwrap();
    for last in [MemberChange::Remove { id: id(1) }, MemberChange::Demote { id: id(1) }, MemberChange::Transfer { to: None }] {
        assert_eq!(kind(change(&nodes[0], last).await), RefusalKind::LastVoter);
    }
    assert_eq!(kind(change(&nodes[0], MemberChange::Transfer { to: Some(id(2)) }).await), RefusalKind::NotAVoter);
    let view = change(&nodes[1], MemberChange::Replace { old: id(1), new: id(2) }).await.unwrap();
    assert_eq!(voters(&view), ["2"]);
    nodes[1].propose(put("k", "w", None)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_asked_for_everywhere_at_once_are_all_made() {
    let (switchboard, mut nodes) = cluster(3, 10_000).await;
    for number in 4..=7 {
        nodes.push(start(&switchboard, number, 10_000).await);
    }
    nodes[0].propose(put("k", "v", None)).await.unwrap();
    let adds = (4..=7).map(|number| {
        let at = &nodes[(number % 3) as usize];
        async move {
            let added = change(at, MemberChange::Add { id: id(number), member: member(number) }).await;
            added.map(|_| ())?;
            change(at, MemberChange::Promote { id: id(number) }).await.map(|_| ())
        }
    });
    let outcomes = futures::future::join_all(adds).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let view = nodes[5].members().await.unwrap();
    assert_eq!(voters(&view), ["1", "2", "3", "4", "5", "6", "7"]);
    // Again: nothing is to do.
    assert_eq!(voters(&change(&nodes[6], MemberChange::Promote { id: id(7) }).await.unwrap()), voters(&view));
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_goes_to_who_is_preferred() {
    let (_switchboard, nodes) = cluster(5, 10_000).await;
    nodes[0].propose(put("k", "v", None)).await.unwrap();
    let view = nodes[0].members().await.unwrap();
    for wanted in view.members.iter().map(|facts| &facts.info.id) {
        let from = nodes[0].members().await.unwrap().leader;
        if from == *wanted {
            continue;
        }
        eventually("the leader hears of all", || {
            nodes.iter().find_map(Raft::members_here).is_some_and(|view| view.members.iter().all(|facts| facts.health.healthy))
        })
        .await;
        let options = ChangeOptions { prefer: vec![wanted.clone()], ..ChangeOptions::default() };
        let view = nodes[1].change_members(MemberChange::Transfer { to: None }, options).await.unwrap();
        assert_eq!(view.leader, *wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_when_asked() {
    let (_switchboard, nodes) = cluster(3, 10_000).await;
    nodes[0].propose(put("k", "v", None)).await.unwrap();
    eventually("somebody leads", || leader(&nodes).is_some()).await;
    let old = leader(&nodes).unwrap();
    let heir = (old + 1) % 3;
    nodes[old].transfer_leader(id(heir as u64 + 1)).await.unwrap();
    eventually("another leads", || leader(&nodes).is_some_and(|leader| leader != old)).await;
    nodes[old].propose(put("k", "w", None)).await.unwrap();
    assert_eq!(value(&nodes[old], "k").await.as_deref(), Some("w"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_survivors_of_three_go_on_without_the_leader() {
    let (switchboard, nodes) = cluster(3, 10_000).await;
    nodes[0].propose(put("k", "v", None)).await.unwrap();
    eventually("somebody leads", || leader(&nodes).is_some()).await;
    let dead = leader(&nodes).unwrap();
    switchboard.0.lock().unwrap().remove(&id(dead as u64 + 1));
    nodes[dead].shutdown().await;
    let survivor = &nodes[(dead + 1) % 3];
    assert_eq!(value(survivor, "k").await.as_deref(), Some("v"));
    survivor.propose(put("k", "w", None)).await.unwrap();
    assert_eq!(value(&nodes[(dead + 2) % 3], "k").await.as_deref(), Some("w"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_not_there_is_called_now_and_then_not_without_pause() {
    let (switchboard, nodes) = cluster(3, 10_000).await;
    nodes[0].propose(put("k", "v", None)).await.unwrap();
    eventually("somebody leads", || leader(&nodes).is_some()).await;
    let absent = (leader(&nodes).unwrap() + 1) % 3;
    switchboard.0.lock().unwrap().remove(&id(absent as u64 + 1));
    nodes[absent].shutdown().await;
    nodes[(absent + 1) % 3].propose(put("k", "w", None)).await.unwrap();
    switchboard.1.store(0, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(2)).await;
    // A heartbeat each 50 ms, and a try at replication each half second.
    let calls = switchboard.1.load(Ordering::Relaxed);
    assert!((1..200).contains(&calls), "{calls} calls in two seconds");
}

fn levels(max: u32) -> FeatureLevels {
    FeatureLevels { min: FeatureLevel(1), max: FeatureLevel(max) }
}

/// Raises the cluster to `level` as release `software`, where it stands at `known`.
async fn raise(node: &Raft, known: Revision, level: u32, software: &str) -> Result<types::Index, ProposeError> {
    let (expectation, write) = raft::raising(known, &LevelRecord { level: FeatureLevel(level), software: software.into() });
    node.propose(Batch { expectations: vec![expectation], writes: vec![write] }.encode().unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raised_level_opens_the_gate_on_every_node() {
    let (_switchboard, nodes) = cluster(3, 10_000).await;
    let gate = |node: &Raft| node.require_feature_level(FeatureLevel(2));
    nodes[0].propose(put("k", "v", None)).await.unwrap();
    let adoption = Adoption {
        from: Bytes::from_static(b"staged/"),
        staged: Staged { keys: 1, ..Staged::default() },
        kept: vec![],
        batch: Batch::default(),
    };
    let adoption = adoption.encode().unwrap();
    let before = nodes[0].status().committed;
    let refused = raft::LevelTooLow { needed: FeatureLevel(2), level: FeatureLevel(1) };
    assert!(nodes.iter().all(|node| gate(node) == Err(refused)));
    assert!(refused.to_string().contains("conclave operator upgrade raise"), "{refused}");
    assert_eq!(nodes[1].propose(adoption.clone()).await, Err(ProposeError::FeatureLevel(refused)));
    assert_eq!(nodes[0].status().committed, before, "it reached no log");
    let index = raise(&nodes[0], Revision::ABSENT, 2, "0.2.0").await.unwrap();
    assert!(
        matches!(raise(&nodes[1], Revision::ABSENT, 2, "0.2.0").await, Err(ProposeError::Conflict { .. })),
        "of two raises one is done"
    );
    for node in &nodes {
        node.read().await.unwrap();
        assert_eq!((node.feature_level(), gate(node)), (FeatureLevel(2), Ok(())));
    }
    assert!(raise(&nodes[2], Revision::at(index), 2, "0.2.0").await.is_ok());
    assert!(matches!(nodes[1].propose(adoption).await, Err(ProposeError::Conflict { .. })), "nothing is staged, but it was let through");
}

/// Whether by the log or by a snapshot: what the older release does not know it does not apply.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_release_stops_at_the_raise_with_both_releases_named() {
    for snapshot_interval in [10_000, 20] {
        let (switchboard, nodes) = cluster(3, snapshot_interval).await;
        raise(&nodes[0], Revision::ABSENT, 2, "0.2.0").await.unwrap();
        for number in 0..60 {
            nodes[0].propose(put(&format!("key {number}"), "v", None)).await.unwrap();
        }
        let older = start_release(&switchboard, 4, snapshot_interval, levels(1)).await;
        let leader = loop {
            if let Some(leader) = leader(&nodes) {
                break nodes[leader].clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let adding = tokio::spawn(async move { change(&leader, MemberChange::Add { id: id(4), member: member(4) }).await.is_ok() });
        let why = tokio::time::timeout(PATIENCE, older.failed()).await.expect("it does not go on");
        adding.abort();
        for said in ["Conclave 0.2.0", "feature level 2", "start Conclave 0.2.0 or newer here"] {
            assert!(why.contains(said), "{snapshot_interval}: {why}");
        }
        assert_eq!(older.local().unwrap().get(b"key 59").unwrap(), None);
        assert_eq!(older.feature_level(), FeatureLevel(1));
    }
}

fn members(size: u64) -> BTreeMap<NodeId, Member> {
    (1..=size).map(|number| (id(number), member(number))).collect()
}

/// Ends a node and starts it anew with nothing; it begins as a node does.
async fn wipe(switchboard: &Switchboard, nodes: &mut [Raft], at: usize) {
    switchboard.0.lock().unwrap().remove(&id(at as u64 + 1));
    nodes[at].shutdown().await;
    let again = start(switchboard, at as u64 + 1, 10_000).await;
    let beginning = again.begin(members(nodes.len() as u64));
    tokio::spawn(async move { beginning.await.unwrap() });
    nodes[at] = again;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_disk_is_fed_again_and_votes_once_it_has_caught_up() {
    let (switchboard, mut nodes) = cluster(3, 10_000).await;
    for number in 0..20 {
        nodes[0].propose(put(&format!("key {number}"), "v", None)).await.unwrap();
    }
    eventually("somebody leads", || leader(&nodes).is_some()).await;
    let leads = leader(&nodes).unwrap();
    let term = nodes[leads].status().term;
    let (wiped, other) = ((leads + 1) % 3, (leads + 2) % 3);
    for round in 0..5 {
        wipe(&switchboard, &mut nodes, wiped).await;
        assert!(!nodes[wiped].takes_part());
        // In every other round nothing is written: the leader must find out by itself.
        if round % 2 == 0 {
            nodes[leads].propose(put("after", &round.to_string(), None)).await.unwrap();
        }
        eventually("it votes again", || nodes[wiped].takes_part()).await;
        let status = nodes[leads].status();
        assert_eq!((status.role, status.term), (Role::Leader, term), "the leader takes no harm");
        assert!(nodes[wiped].status().applied >= Some(types::Index(20)));
    }
    switchboard.0.lock().unwrap().remove(&id(leads as u64 + 1));
    nodes[leads].shutdown().await;
    eventually("the two elect one of them", || [wiped, other].iter().any(|node| nodes[*node].status().role == Role::Leader)).await;
    assert_eq!(value(&nodes[other], "after").await.as_deref(), Some("4"));
    assert_eq!(value(&nodes[wiped], "key 19").await.as_deref(), Some("v"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_disk_does_not_vote_while_another_voter_has_not_been_heard() {
    let (switchboard, mut nodes) = cluster(3, 10_000).await;
    nodes[0].propose(put("k", "v", None)).await.unwrap();
    eventually("somebody leads", || leader(&nodes).is_some()).await;
    let leads = leader(&nodes).unwrap();
    let (wiped, absent) = ((leads + 1) % 3, (leads + 2) % 3);
    let absent_id = id(absent as u64 + 1);
    let absent_inbound = switchboard.0.lock().unwrap().remove(&absent_id).unwrap();
    wipe(&switchboard, &mut nodes, wiped).await;
    // It replicates, so that the two of them commit.
    let last = nodes[leads].propose(put("k", "w", None)).await.unwrap();
    eventually("it has everything again", || nodes[wiped].status().applied >= Some(last)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(nodes[wiped].is_rejoining(), "what the absent one knows is not known");
    let term = nodes[wiped].status().term;
    let leader_inbound = switchboard.0.lock().unwrap().remove(&id(leads as u64 + 1)).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(nodes[wiped].status().term, term, "it neither stood nor voted");
    let vote = peer::VoteRequest {
        vote: Some(peer::Vote { term: term.0 + 1, node_id: absent_id.to_string(), committed: false }),
        last: Some(peer::Position { term: term.0, index: 1000 }),
        pre_vote: false,
        leadership_transfer: true,
    };
    assert!(matches!(nodes[wiped].inbound().vote(vote).await, Err(raft::InboundError::Abstains)));
    switchboard.0.lock().unwrap().insert(id(leads as u64 + 1), leader_inbound);
    switchboard.0.lock().unwrap().insert(absent_id, absent_inbound);
    eventually("it votes again", || nodes[wiped].takes_part()).await;
}

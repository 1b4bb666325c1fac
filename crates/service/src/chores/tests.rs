//! Chores over one table in memory: rounds that are lost half-way, two leaders, and what must be left at the end.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use barrier::testing::MemoryBarrier;
use barrier::{SealedNode, View};
use crypto::SecretBytes;
use proto::http::HaStatus;
use serde_json::{Value, json};
use types::{Revision, Verb};

use super::*;
use crate::lease::Undo;
use crate::request::Refusal;
use crate::testing::{World, software};

/// Carries out so many batches; then the node is gone, with whatever it was about to write.
struct Crashing {
    barrier: Arc<MemoryBarrier>,
    commits_left: AtomicUsize,
    leads: bool,
}

#[async_trait::async_trait]
impl Store for Crashing {
    async fn view(&self) -> Result<View, AccessError> {
        // Others come in between.
        tokio::task::yield_now().await;
        Ok(self.barrier.view())
    }

    async fn commit(&self, view: &View, plan: &Plan) -> Result<Revision, CommitError> {
        tokio::task::yield_now().await;
        let left = self.commits_left.load(Ordering::SeqCst);
        if left == 0 {
            return Err(CommitError::Indeterminate("the node is gone".into()));
        }
        self.commits_left.store(left - 1, Ordering::SeqCst);
        self.barrier.commit_at(view, plan).ok_or(CommitError::Conflict)
    }

    fn leads(&self) -> bool {
        self.leads
    }

    async fn seal(&self, _by: &str) -> Result<Vec<SealedNode>, String> {
        Ok(Vec::new())
    }

    async fn members(&self, _now: Timestamp) -> HaStatus {
        HaStatus { nodes: Vec::new() }
    }
}

struct Now(Timestamp);

impl Clock for Now {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// One round on a node that is gone after so many commits.
async fn round(world: &World, commits: usize, leads: bool, undoers: Undoers) -> Result<usize, RoundError> {
    let store = Crashing { barrier: Arc::clone(&world.barrier), commits_left: AtomicUsize::new(commits), leads };
    let (caches, clock, counters) = (Arc::default(), Now(world.now()), Counters::default());
    let wake = tokio::sync::Notify::new();
    let (counters, software) = (&counters, software());
    Reaper { store: &store, caches: &caches, clock: &clock, counters, wake: &wake, undoers, software }.round().await
}

async fn token(world: &World, parent: &str, body: Value) -> String {
    let answer = world.ask_as(parent, Verb::Write, "auth/token/create", body).await.unwrap();
    answer["auth"]["client_token"].as_str().unwrap().to_owned()
}

fn names(world: &World, below: &str) -> Vec<String> {
    let names = world.barrier.view().names_below(&Name::new(below), 100_000).unwrap();
    names.iter().map(|name| name.as_str().to_owned()).collect()
}

#[tokio::test]
async fn a_crash_at_any_commit_leaves_nothing_undone_and_nothing_behind() {
    for commits in 0..4 {
        let world = World::new(20 + commits as u64);
        let before = names(&world, "").len();
        let parent = token(&world, &world.root_token, json!({ "policies": ["root"], "ttl": "1h" })).await;
        for _ in 0..3 {
            let child = token(&world, &parent, json!({ "ttl": "2h" })).await;
            token(&world, &child, json!({ "ttl": "3h" })).await;
        }
        world.ask(Verb::Write, "auth/token/revoke", json!({ "token": parent })).await.unwrap();
        for _ in 0..10 {
            world.pass(1);
            // The new leader is lost again and again, but gets a commit further.
            let _ = round(&world, commits, true, lease::undoers).await;
        }
        for _ in 0..10 {
            world.pass(1);
            round(&world, 100, true, lease::undoers).await.unwrap();
        }
        assert_eq!(names(&world, "").len(), before, "{commits} commits: {:?}", names(&world, ""));
    }
}

#[tokio::test]
async fn two_that_believe_to_lead_do_no_harm() {
    let world = World::new(30);
    let before = names(&world, "").len();
    for number in 0..600 {
        token(&world, &world.root_token, json!({ "ttl": format!("{}s", 60 + number % 7), "policies": ["x"] })).await;
    }
    let lasting = token(&world, &world.root_token, json!({ "ttl": "2h", "policies": ["default"] })).await;
    world.pass(120);
    for _ in 0..8 {
        let (one, other) = tokio::join!(round(&world, 9_999, true, lease::undoers), round(&world, 9_999, true, lease::undoers));
        one.unwrap();
        other.unwrap();
    }
    // The token, its accessor, its lease, its end, and its parent's knowledge of it.
    assert_eq!(names(&world, "").len(), before + 5);
    assert!(world.ask_as(&lasting, Verb::Read, "auth/token/lookup-self", Value::Null).await.is_ok());
}

#[tokio::test]
async fn who_does_not_lead_does_nothing() {
    let world = World::new(31);
    token(&world, &world.root_token, json!({ "ttl": "60s", "policies": ["x"] })).await;
    world.pass(120);
    assert_eq!(round(&world, 0, false, lease::undoers).await.unwrap(), 0);
    assert_eq!(round(&world, 1, true, lease::undoers).await.unwrap(), 1);
}

#[tokio::test]
async fn a_renewed_token_outlives_the_chore_of_its_first_end() {
    let world = World::new(32);
    let renewed = token(&world, &world.root_token, json!({ "ttl": "60s", "policies": ["default"] })).await;
    // As if the chore had been left behind.
    let stale = names(&world, "core/due");
    let chore = world.barrier.view().read(&Name::new("core/due").join(&stale[0])).unwrap().value.unwrap();
    world.ask_as(&renewed, Verb::Write, "auth/token/renew-self", json!({ "increment": "2h" })).await.unwrap();
    assert_eq!(names(&world, "core/due").len(), 1);
    let mut plan = Plan::new();
    plan.put(Name::new("core/due").join(&stale[0]), SecretBytes::from(chore.expose().to_vec()));
    assert!(world.barrier.commit(&world.barrier.view(), &plan));
    world.pass(120);
    assert_eq!(round(&world, 9, true, lease::undoers).await.unwrap(), 1);
    assert!(world.ask_as(&renewed, Verb::Read, "auth/token/lookup-self", Value::Null).await.is_ok());
    assert_eq!(names(&world, "core/due").len(), 1, "the one of its new end");
}

#[tokio::test]
async fn what_was_unmounted_or_deleted_is_erased_piece_by_piece() {
    let world = World::new(33);
    let kept = names(&world, "").len();
    for first in (0..2_500).step_by(500) {
        let mut plan = Plan::new();
        for number in first..first + 500 {
            for root in ["mount/gone", "ns/gone01"] {
                plan.put(Name::new(root).join(&format!("a/{number}")), SecretBytes::from(vec![1]));
            }
        }
        assert!(world.barrier.commit(&world.barrier.view(), &plan));
    }
    let mut plan = Plan::new();
    plan.put(Name::new("mount/stays/a"), SecretBytes::from(vec![1]));
    due::put(&mut plan, world.now(), "mount-gone", Task::PurgeMount("gone".into()));
    due::put(&mut plan, world.now(), "ns-gone01", Task::PurgeNamespace("gone01".into()));
    assert!(world.barrier.commit(&world.barrier.view(), &plan));
    let mut left = vec![5_000];
    // Every second round is lost half-way.
    for number in 0..40 {
        let _ = round(&world, number % 2, true, lease::undoers).await;
        left.push(names(&world, "mount/gone").len() + names(&world, "ns/gone01").len());
    }
    assert!(left.windows(2).all(|pair| pair[0] >= pair[1] && pair[0] - pair[1] <= 2_000), "piece by piece: {left:?}");
    assert_eq!(left.last(), Some(&0));
    assert_eq!(names(&world, "").len(), kept + 1, "no chore is left either");
}

#[tokio::test]
async fn a_record_that_makes_no_sense_is_put_off_and_shown_and_holds_nobody_up() {
    let world = World::new(34);
    let mut plan = Plan::new();
    plan.put(Name::new("core/due/000000/00/00/00/odd"), SecretBytes::from(vec![0xff; 9]));
    due::put(&mut plan, world.now(), "mount-gone", Task::PurgeMount("gone".into()));
    assert!(world.barrier.commit(&world.barrier.view(), &plan));
    assert_eq!(round(&world, 1, true, lease::undoers).await.unwrap(), 2);
    assert_eq!(names(&world, "core/failing"), ["odd"]);
    assert_eq!(names(&world, "core/due").len(), 1);
}

thread_local! {
    static IS_AWAY: Cell<bool> = const { Cell::new(false) };
    static UNDONE: RefCell<Vec<(String, Vec<u8>)>> = const { RefCell::new(Vec::new()) };
}

/// An engine that is away at times.
struct TestEngine;

#[async_trait::async_trait]
impl Undo for TestEngine {
    async fn undo(&self, lease_id: &str, payload: &[u8]) -> Result<(), String> {
        if IS_AWAY.get() {
            return Err("the database is away".into());
        }
        UNDONE.with_borrow_mut(|undone| undone.push((lease_id.to_owned(), payload.to_vec())));
        Ok(())
    }
}

fn test_undoers(kind: &str) -> Option<&'static dyn Undo> {
    (kind == "test").then_some(&TestEngine as &dyn Undo)
}

fn undone() -> Vec<String> {
    UNDONE.with_borrow(|undone| undone.iter().map(|(id, _)| id.clone()).collect())
}

/// A lease of the token's, that ends in an hour.
fn grant(world: &World, id: &str, holder: &str, bound_ms: u64) {
    let view = world.barrier.view();
    let tag = view.token_tag(holder.as_bytes()).unwrap();
    let records = Records::new(view.clone(), Arc::default());
    let mounts = records.mounts(&crate::namespace::Namespace::root()).unwrap();
    let secret = stored::SecretLease {
        mount_accessor: mounts.iter().next().unwrap().accessor.clone(),
        kind: "test".into(),
        payload: b"user-17".to_vec(),
        created_ms: world.now().0,
        expires_ms: world.now().0 + 3_600_000,
        renewed_ms: 0,
        renewable: true,
        max_ttl_ms: 7_200_000,
        token: Some(stored::TokenParent { namespace_id: "root".into(), tag: tag.to_vec() }),
        bound_ms,
    };
    let mut plan = Plan::new();
    let reference = stored::LeaseReference { namespace_id: "root".into(), lease_id: id.into(), at_once: false, force: false };
    lease::store(&reference, secret, &mut plan);
    assert!(world.barrier.commit(&view, &plan));
}

async fn rounds(world: &World, count: usize) {
    for _ in 0..count {
        world.pass(1);
        round(world, 100, true, test_undoers).await.unwrap();
    }
}

#[tokio::test]
async fn an_engines_lease_is_undone_at_its_end_or_with_its_token_or_by_its_id() {
    let world = World::new(40);
    let before = names(&world, "").len();
    let holder = token(&world, &world.root_token, json!({ "policies": ["x"], "ttl": "3h" })).await;
    for id in ["db/creds/a/1", "db/creds/a/2", "db/creds/b/3"] {
        grant(&world, id, &holder, 0);
    }
    let renewed = world.ask(Verb::Write, "sys/leases/renew", json!({ "lease_id": "db/creds/b/3", "increment": "90m" })).await.unwrap();
    assert_eq!(renewed, Value::Null, "a lease and no data");
    world.ask(Verb::Write, "sys/leases/revoke", json!({ "lease_id": "db/creds/a/1" })).await.unwrap();
    rounds(&world, 2).await;
    assert_eq!(undone(), ["db/creds/a/1"]);
    assert_eq!(UNDONE.with_borrow(|undone| undone[0].1.clone()), b"user-17");
    world.pass(3600);
    rounds(&world, 2).await;
    assert_eq!(undone(), ["db/creds/a/1", "db/creds/a/2"], "the other one was renewed");
    world.ask(Verb::Write, "auth/token/revoke", json!({ "token": holder })).await.unwrap();
    rounds(&world, 4).await;
    assert_eq!(undone(), ["db/creds/a/1", "db/creds/a/2", "db/creds/b/3"]);
    assert_eq!(names(&world, "").len(), before, "{:?}", names(&world, ""));
}

#[tokio::test]
async fn what_cannot_be_undone_is_tried_for_ever_and_shown_until_it_is_undone_or_forced_out() {
    let world = World::new(41);
    let holder = token(&world, &world.root_token, json!({ "policies": ["x"], "ttl": "3h" })).await;
    let before = names(&world, "").len();
    for id in ["db/creds/a/1", "db/creds/a/2"] {
        grant(&world, id, &holder, 0);
    }
    IS_AWAY.set(true);
    world.ask(Verb::Write, "sys/leases/revoke-prefix/db/creds", json!({})).await.unwrap();
    rounds(&world, 40).await;
    let shown = world.ask(Verb::Read, "sys/leases", Value::Null).await.unwrap();
    assert_eq!(shown["lease_count"], json!(2));
    assert_eq!(shown["leases"][0]["error"], json!("the database is away"));
    let counted = world.ask(Verb::Read, "sys/leases/count", Value::Null).await.unwrap();
    let mount = shown["leases"][0]["mount_id"].as_str().unwrap();
    assert_eq!((&counted["lease_count"], &counted["counts"][mount]), (&json!(2), &json!(2)));
    let attempts = due::failing(&world.barrier.view(), 9).unwrap().iter().map(|chore| chore.attempts).max();
    assert_eq!(attempts, Some(6), "ever later: at 0, 1, 3, 7, 15 and 31 s");
    assert_eq!(world.ask(Verb::List, "sys/leases/lookup", Value::Null).await.unwrap()["keys"], json!(["auth/"]), "it has ended");
    world.ask(Verb::Write, "sys/leases/revoke-force/db/creds/a", json!({})).await.unwrap();
    rounds(&world, 2).await;
    assert_eq!(world.ask(Verb::Read, "sys/leases/count", Value::Null).await.unwrap()["lease_count"], json!(0));
    IS_AWAY.set(false);
    rounds(&world, 700).await;
    assert_eq!(undone(), [""; 0], "forced out, and so forgotten");
    assert_eq!(names(&world, "").len(), before);

    grant(&world, "db/creds/a/3", &holder, 0);
    IS_AWAY.set(true);
    world.ask(Verb::Write, "sys/revoke", json!({ "lease_id": "db/creds/a/3" })).await.unwrap();
    rounds(&world, 10).await;
    IS_AWAY.set(false);
    rounds(&world, 300).await;
    assert_eq!(undone(), ["db/creds/a/3"]);
    assert_eq!(names(&world, "").len(), before, "{:?}", names(&world, ""));
}

#[tokio::test]
async fn cve_2020_25816_a_lease_does_not_outlive_its_batch_token() {
    let world = World::new(42);
    grant(&world, "db/creds/a/1", "hvb.batch", world.now().0 + 4_000_000);
    let renew = async || world.ask(Verb::Write, "sys/leases/renew", json!({ "lease_id": "db/creds/a/1", "increment": "2h" })).await;
    renew().await.unwrap();
    let shown = world.ask(Verb::Write, "sys/leases/lookup", json!({ "lease_id": "db/creds/a/1" })).await.unwrap();
    assert_eq!(shown["ttl"], json!(4000));
    world.pass(3999);
    assert!(renew().await.is_ok(), "a second is left");
    world.pass(1);
    assert_eq!(renew().await, Err(Refusal::Refused("lease is not renewable".into())));
    rounds(&world, 2).await;
    assert_eq!(undone(), ["db/creds/a/1"]);
}

#[tokio::test]
async fn an_engine_of_no_known_kind_is_a_failure_that_is_shown() {
    let world = World::new(43);
    grant(&world, "db/creds/a/1", "x", 0);
    world.ask(Verb::Write, "sys/leases/revoke", json!({ "lease_id": "db/creds/a/1" })).await.unwrap();
    world.pass(1);
    round(&world, 9, true, lease::undoers).await.unwrap();
    let shown = world.ask(Verb::Read, "sys/leases", Value::Null).await.unwrap();
    assert_eq!(shown["leases"][0]["error"], json!("no engine of kind \"test\" undoes leases"));
}

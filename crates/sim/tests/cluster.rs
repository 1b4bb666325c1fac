//! The simulated cluster: scenarios of a few seeds, and proof that the harness catches what it should.
//!
//! `cargo xtask sim --histories N` runs many more; a seed that fails there becomes a named test here.

use std::thread;

use sim::cluster::{Cluster, PROBE_KEY};
use sim::dice::Dice;
use sim::disk::Honesty;
use sim::history::Acknowledged;
use sim::scenario::{Options, Report, run};
use sim::trace::{Shown, Trace};
use sim::witness::{Invariant, Violation};

/// Each seed in a thread of its own.
fn run_all(seeds: impl IntoIterator<Item = u64>, options: &Options) -> Vec<(u64, Result<Report, Violation>)> {
    thread::scope(|threads| {
        let running: Vec<_> = seeds.into_iter().map(|seed| (seed, threads.spawn(move || run(seed, options)))).collect();
        running.into_iter().map(|(seed, thread)| (seed, thread.join().expect("panics are caught inside"))).collect()
    })
}

fn expect_no_violation(seeds: impl IntoIterator<Item = u64>, options: &Options) {
    for (seed, outcome) in run_all(seeds, options) {
        match outcome {
            Ok(report) => {
                println!("seed {seed}: {report}");
                assert!(report.acknowledged > 20, "seed {seed} tries too little to prove anything: {report}");
            }
            Err(violation) => panic!("seed {seed}: {violation} (replay: cargo xtask sim --seed {seed} --trace, with {options:?})"),
        }
    }
}

#[test]
fn three_nodes_keep_their_promises() {
    expect_no_violation(1..=3, &Options { faults: 4, ..Options::default() });
}

#[test]
fn five_nodes_keep_their_promises() {
    expect_no_violation([5], &Options { nodes: 5, faults: 3, ..Options::default() });
}

#[test]
fn a_single_node_keeps_its_promises() {
    expect_no_violation([6], &Options { nodes: 1, faults: 4, ..Options::default() });
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let options = Options { faults: 2, ..Options::default() };
    let outcomes = run_all([7, 8, 7], &options);
    let [first, other, second] = &outcomes[..] else { unreachable!("three seeds") };
    let (first, other, second) = (first.1.as_ref().unwrap(), other.1.as_ref().unwrap(), second.1.as_ref().unwrap());
    assert_eq!(first, second);
    assert_ne!(first.trace_hash, other.trace_hash);
}

/// Runs seeds until one is caught.
fn caught_within(seeds: u64, honesty: Honesty) -> (u64, Violation) {
    let options = Options { honesty, ..Options::default() };
    let caught = (1..=seeds).find_map(|seed| run(seed, &options).err().map(|violation| (seed, violation)));
    caught.unwrap_or_else(|| panic!("{seeds} seeds did not catch {honesty:?} disks"))
}

#[test]
fn disks_that_do_not_sync_are_caught() {
    let (seed, violation) = caught_within(5, Honesty::Lying);
    println!("seed {seed}: {violation}");
}

#[test]
fn disks_that_sync_later_are_caught() {
    let (seed, violation) = caught_within(5, Honesty::Lagging);
    println!("seed {seed}: {violation}");
}

/// Lends a healthy cluster to `check`.
fn with_cluster(check: impl AsyncFnOnce(&mut Cluster)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let mut cluster = Cluster::start(3, Honesty::Honest, Dice::new(9), Trace::new(Shown::Nothing)).await.expect("it starts");
        cluster.initialize().await.expect("it can be initialised");
        cluster.heal().await.expect("it serves");
        check(&mut cluster).await;
    });
}

fn broken<T>(outcome: Result<T, Violation>) -> Option<Invariant> {
    outcome.err().map(|violation| violation.invariant)
}

#[test]
fn a_write_that_is_not_there_is_missed() {
    with_cluster(async |cluster| {
        let never_written = [Acknowledged { key: 0, version: 1, value: 1 }];
        assert_eq!(broken(cluster.check_acknowledged(&never_written).await), Some(Invariant::NothingAcknowledgedIsLost));
        // The operator's own probe was written, with another value.
        let another_value = [Acknowledged { key: PROBE_KEY, version: 1, value: 1_000 }];
        assert_eq!(broken(cluster.check_acknowledged(&another_value).await), Some(Invariant::NothingAcknowledgedIsLost));
        let as_written = [Acknowledged { key: PROBE_KEY, version: 1, value: 1 }];
        cluster.check_acknowledged(&as_written).await.unwrap();
    });
}

#[test]
fn plaintext_on_a_disk_is_found() {
    with_cluster(async |cluster| {
        cluster.check_disks().unwrap();
        let secret = cluster.client().path(3);
        let disk = cluster.nodes[1].disk.memory();
        disk.set_content("/data/forgotten.tmp".as_ref(), format!("....{secret}....").into_bytes());
        assert_eq!(broken(cluster.check_disks()), Some(Invariant::NoPlaintextBelowBarrier));
    });
}

#[test]
fn a_replica_that_stays_away_is_seen() {
    with_cluster(async |cluster| {
        cluster.check_convergence().await.unwrap();
        cluster.crash(2).await.unwrap();
        assert_eq!(broken(cluster.check_convergence().await), Some(Invariant::AllNodesConverge));
    });
}

/// Openraft steps down for whomever it is told to, and never leads again if that is no other voter. Found by seed 302 with one node.
#[test]
fn leadership_goes_to_another_voter_or_nowhere() {
    with_cluster(async |cluster| {
        let leader = cluster.leader().expect("a healthy cluster has a leader");
        let life = cluster.nodes[leader].life().expect("it runs");
        life.raft.transfer_leader(cluster.nodes[leader].id.clone()).await.expect("it leads already");
        let stranger = types::NodeId::parse("stranger").expect("an id");
        assert!(matches!(life.raft.transfer_leader(stranger).await, Err(raft::MembershipError::Refused(_))));
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        assert_eq!(cluster.leader(), Some(leader), "nothing has changed");
        let follower = (leader + 1) % cluster.nodes.len();
        life.raft.transfer_leader(cluster.nodes[follower].id.clone()).await.expect("it is a voter");
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        assert_eq!(cluster.leader(), Some(follower));
    });
}

#[test]
fn crashed_nodes_leave_no_task_behind() {
    with_cluster(async |cluster| {
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        assert!(tasks() > 20, "the cluster runs in tasks");
        cluster.stop().await.unwrap();
        assert_eq!(tasks(), 0);
    });
}

#[test]
fn a_task_that_outlives_its_node_is_seen() {
    with_cluster(async |cluster| {
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(std::future::pending::<()>());
        assert_eq!(broken(cluster.stop().await), Some(Invariant::CrashedNodesLeaveNothing));
    });
}

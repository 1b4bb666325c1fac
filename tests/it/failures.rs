//! Nodes that die: nothing acknowledged is lost, and the others go on.

use std::time::{Duration, Instant};

use tests::{Cluster, Load};
use tokio::time::sleep;

/// What the design promises, as a figure that is printed; what a slow machine may take, as a bound that is asserted.
const GAP_MAX: Duration = Duration::from_secs(10);
const CATCH_UP_MAX: Duration = Duration::from_secs(20);

/// Kills a node under load, and watches the others; restarts it, and opens it by shares that are entered at it.
async fn kill_under_load(kill_leader: bool) {
    let mut cluster = Cluster::builder().open().await;
    let leader = cluster.leader().await;
    let victim = if kill_leader { leader } else { (leader + 1) % 3 };
    let load = Load::start(&cluster, 2);
    sleep(Duration::from_secs(1)).await;

    let killed = Instant::now();
    cluster.nodes[victim].kill();
    sleep(Duration::from_secs(3)).await;
    let report = load.stop().await;
    let (write_gap, read_gap) = report.gaps(victim, killed);
    println!(
        "kill -9 of the {}: no write for {write_gap:?}, no read for {read_gap:?}; {} writes acknowledged, {} failures",
        if kill_leader { "leader" } else { "follower" },
        report.writes.len(),
        report.failures.len(),
    );
    assert!(write_gap < GAP_MAX && read_gap < GAP_MAX, "failures: {:?}", report.failures_by_text());
    let after = report.writes.iter().filter(|write| write.time > killed + write_gap).count();
    assert!(after > 0, "no write was acknowledged after the gap");
    report.assert_all_kept(&cluster.client()).await;

    cluster.restart(victim).await;
    assert!(cluster.client_at(victim).sys().seal_status().await.unwrap().sealed, "a node that restarts is sealed");
    cluster.await_caught_up(victim, CATCH_UP_MAX).await;
    assert!(cluster.client_at(victim).sys().seal_status().await.unwrap().sealed, "following the log opens nothing");
    cluster.unseal_at(&[victim]).await;
    report.assert_all_kept(&cluster.client_at(victim)).await;
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_costs_nothing_acknowledged_and_the_others_go_on() {
    kill_under_load(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_follower_costs_nothing_acknowledged_and_the_others_go_on() {
    kill_under_load(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_asked_to_stop_hands_over_and_loses_nothing() {
    let mut cluster = Cluster::builder().open().await;
    let leader = cluster.leader().await;
    let load = Load::start(&cluster, 2);
    sleep(Duration::from_secs(1)).await;

    let asked = Instant::now();
    cluster.nodes[leader].terminate();
    let status = tokio::task::block_in_place(|| cluster.nodes[leader].wait(Duration::from_secs(30)));
    let took = asked.elapsed();
    sleep(Duration::from_secs(1)).await;
    let report = load.stop().await;
    let (write_gap, read_gap) = report.gaps(leader, asked);
    println!("SIGTERM of the leader: it took {took:?}; no write for {write_gap:?}, no read for {read_gap:?}");
    assert_eq!(status.code(), Some(0), "a node that is asked to stop ends well");
    assert!(write_gap < GAP_MAX && read_gap < GAP_MAX, "failures: {:?}", report.failures_by_text());
    let trace = cluster.nodes[leader].trace();
    assert!(!trace.contains("nobody took the leadership over") && !trace.contains("panicked at"), "it handed over in time");
    assert_ne!(cluster.leader().await, leader);
    report.assert_all_kept(&cluster.client()).await;

    cluster.restart(leader).await;
    cluster.unseal_at(&[leader]).await;
    report.assert_all_kept(&cluster.client_at(leader)).await;
    cluster.assert_sound();
}

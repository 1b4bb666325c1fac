//! What clients notice when nodes stop, die or stand still: with the SDK's retries, no failed request, and never an answer from the past.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::{Cluster, Steady, eventually, fields, raw};
use tokio::time::sleep;

use crate::seals::{key_file, static_seal};

/// Printed are the figures; asserted is what a busy machine and a debug build may take.
const GAP_MAX: Duration = Duration::from_secs(5);
const P99_MAX: Duration = Duration::from_millis(1500);
const OPEN_MAX: Duration = Duration::from_secs(20);
const CLIENTS: usize = 6;

/// Three nodes that open themselves.
async fn self_opening(keys: &Path) -> Cluster {
    let key = key_file(keys, "static.key", 7);
    let mut cluster = Cluster::builder().more(&static_seal("a", &key)).start().await;
    cluster.init().await;
    cluster.await_sealed(&[0, 1, 2], false, OPEN_MAX).await;
    cluster.mount("secret").await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_under_load_fails_no_request() {
    let keys = tempfile::tempdir().unwrap();
    let mut cluster = self_opening(keys.path()).await;
    let leader = cluster.leader().await;
    let steady = Steady::start(&cluster, CLIENTS);
    sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    // The leader first: its office goes to a node that will be restarted too.
    for step in 0..3 {
        let at = (leader + step) % 3;
        cluster.nodes[at].terminate();
        let status = tokio::task::block_in_place(|| cluster.nodes[at].wait(Duration::from_secs(20)));
        assert_eq!(status.code(), Some(0), "{}", cluster.nodes[at].tail());
        cluster.restart(at).await;
        cluster.await_sealed(&[at], false, OPEN_MAX).await;
        cluster.await_caught_up(at, OPEN_MAX).await;
    }
    let took = began.elapsed();
    let samples = steady.stop().await;
    let (writes, reads) = (samples.percentile(true, 99), samples.percentile(false, 99));
    println!(
        "rolling restart in {took:?}: {} requests, {} failed; p99 of writes {writes:?}, of reads {reads:?}; longest without a write {:?}, \
         without a read {:?}",
        samples.0.len(),
        samples.failures().len(),
        samples.longest_gap(true, began),
        samples.longest_gap(false, began)
    );
    assert!(samples.failures().is_empty(), "{:?}", samples.failures());
    assert!(writes < P99_MAX && reads < P99_MAX);
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_replaced_before_clients_give_up() {
    let keys = tempfile::tempdir().unwrap();
    let mut cluster = self_opening(keys.path()).await;
    let leader = cluster.leader().await;
    let steady = Steady::start(&cluster, CLIENTS);
    sleep(Duration::from_millis(500)).await;
    let killed = Instant::now();
    cluster.nodes[leader].kill();
    sleep(Duration::from_secs(3)).await;
    let samples = steady.stop().await;
    let (write_gap, read_gap) = (samples.longest_gap(true, killed), samples.longest_gap(false, killed));
    println!(
        "kill -9 of the leader: no write for {write_gap:?}, no read for {read_gap:?}; {} of {} requests failed",
        samples.failures().len(),
        samples.0.len()
    );
    assert!(write_gap < GAP_MAX && read_gap < GAP_MAX);
    // Of a write that was on its way to the dead node nobody knows what became of it, and the SDK must not guess.
    let failures = samples.failures();
    assert!(failures.len() <= CLIENTS, "{failures:?}");
    assert!(failures.iter().all(|sample| sample.is_write), "a read can always be repeated: {failures:?}");
}

/// A hypervisor may hold a node still for as long as it likes. When it goes on it believes that it leads.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_leader_never_answers_from_the_past() {
    let mut cluster = Cluster::builder().open().await;
    cluster.client_at(0).kv("secret").put("paused", fields(json!({ "number": 1 })), None).await.unwrap();
    for round in 2..5 {
        let leader = cluster.leader().await;
        cluster.nodes[leader].pause();
        let other = (leader + 1) % 3;
        eventually("another leads, and takes a write", Duration::from_secs(15), async || {
            cluster.client_at(other).kv("secret").put("paused", fields(json!({ "number": round })), None).await
        })
        .await;
        // Asked while it stands still, so that it finds the requests before any news.
        let clients: Vec<_> = (0..8).map(|_| cluster.client_at(leader)).collect();
        let asked: Vec<_> =
            clients.into_iter().map(|client| tokio::spawn(async move { client.kv("secret").get("paused").await })).collect();
        sleep(Duration::from_millis(100)).await;
        cluster.nodes[leader].resume();
        for read in asked {
            // No answer is allowed; an old one is not.
            if let Ok(secret) = read.await.unwrap() {
                let found = secret.data.as_ref().and_then(|data| data.expose().get("number").cloned());
                assert_eq!(found, Some(json!(round)), "round {round}: an answer from the past");
            }
        }
        cluster.await_caught_up(leader, Duration::from_secs(15)).await;
    }
    cluster.assert_sound();
}

/// Shorter than its lease, a pause costs no election: terms stay flat.
#[tokio::test(flavor = "multi_thread")]
async fn short_pauses_of_any_node_change_no_leader() {
    let mut cluster = Cluster::builder().open().await;
    let leader = cluster.leader().await;
    let steady = Steady::start(&cluster, 2);
    let began = Instant::now();
    for round in 0..30 {
        let at = round % 3;
        cluster.nodes[at].pause();
        sleep(Duration::from_millis(80)).await;
        cluster.nodes[at].resume();
        sleep(Duration::from_millis(80)).await;
    }
    let samples = steady.stop().await;
    let elections = cluster.nodes.iter().map(|node| node.trace().matches("this node knows its leader").count()).max().unwrap_or_default();
    println!("30 pauses of 80 ms: {elections} leaders known at most, longest without a write {:?}", samples.longest_gap(true, began));
    assert!(samples.failures().is_empty(), "{:?}", samples.failures());
    assert_eq!(cluster.leader().await, leader, "the leader changed");
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_says_so_before_it_goes() {
    let mut cluster = Cluster::builder().more("shutdown_delay = \"5s\"").open().await;
    let at = cluster.leader().await;
    let client = cluster.client_at(at);
    let port = cluster.nodes[at].api_port;
    cluster.nodes[at].terminate();
    let told = eventually("health tells it", Duration::from_secs(3), async || {
        let answer = raw::exchange(port, b"GET /v1/sys/health?standbyok=true&activecode=200 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
        if answer.status == 503 { Ok(answer) } else { Err(answer.status) }
    })
    .await;
    assert!(told.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")), "{told:?}");
    client.kv("secret").put("late", fields(json!({ "number": 1 })), None).await.expect("it serves for as long as was asked");
    let (own, other) = (cluster.nodes[at].api_address(), cluster.client_at((at + 1) % 3));
    eventually("another leads while this one still runs", Duration::from_secs(5), async || {
        let leader = other.sys().leader().await.map_err(|error| error.to_string())?.leader_address;
        if leader == own || leader.is_empty() { Err(leader) } else { Ok(()) }
    })
    .await;
    assert!(cluster.nodes[at].is_running(), "it went before its time");
    let status = tokio::task::block_in_place(|| cluster.nodes[at].wait(Duration::from_secs(20)));
    assert_eq!(status.code(), Some(0));
}

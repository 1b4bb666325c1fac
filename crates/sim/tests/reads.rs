//! Reads that are stale are as fresh as they say; reads by quorum need no clock; slow disks and wires change no leader.

#![expect(clippy::disallowed_methods, reason = "test tasks are joined by their test")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raft::ReadConsistency;
use service::Reading;
use sim::client::{Client, Outcome};
use sim::cluster::Cluster;
use sim::dice::Dice;
use sim::disk::Honesty;
use sim::linearizability::register::{Action, Answer};
use sim::network::Weather;
use sim::node::Node;
use sim::trace::{Shown, Trace};
use tokio::time::{Instant, sleep};

const KEY: usize = 7;

fn simulated<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(test);
}

async fn serving(seed: u64) -> Cluster {
    let mut cluster = Cluster::start(3, Honesty::Honest, Dice::new(seed), Trace::new(Shown::Nothing)).await.expect("it starts");
    cluster.initialize().await.expect("it can be initialised");
    cluster.heal().await.expect("it serves");
    cluster
}

async fn found(client: &Client, node: &Node) -> Option<u64> {
    match client.operate(node, KEY, Action::Read).await {
        Outcome::Answered(Answer::Found(found)) => Some(found.map_or(0, |(_, value)| value)),
        Outcome::Answered(_) | Outcome::NothingDone(_) | Outcome::Unknown(_) => None,
    }
}

/// Values rise; when each was acknowledged.
#[derive(Default)]
struct Acknowledged(Mutex<Vec<(Instant, u64)>>);

impl Acknowledged {
    /// The newest that was acknowledged at `when` or before.
    fn at(&self, when: Instant) -> u64 {
        let known = self.0.lock().expect("nothing panics while it is held");
        known.iter().rev().find(|(acknowledged, _)| *acknowledged <= when).map_or(0, |(_, value)| *value)
    }
}

/// Nodes are cut off, crash and come back; the wires lose things. Meanwhile every stale read must keep its bound.
#[test]
fn a_bounded_stale_read_lacks_nothing_older_than_its_bound() {
    for seed in 190..192 {
        simulated(stale_history(seed));
    }
}

async fn stale_history(seed: u64) {
    let mut cluster = serving(seed).await;
    let (acknowledged, stop) = (Arc::new(Acknowledged::default()), Arc::new(AtomicBool::new(false)));
    let writer = {
        let (client, nodes, acknowledged, stop) =
            (cluster.client(), Arc::clone(&cluster.nodes), Arc::clone(&acknowledged), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut value = 0;
            while !stop.load(Ordering::Relaxed) {
                value += 1;
                let at = usize::try_from(value % 3).expect("small");
                if let Outcome::Answered(_) = client.operate(&nodes[at], KEY, Action::Write(value)).await {
                    acknowledged.0.lock().expect("nothing panics while it is held").push((Instant::now(), value));
                }
                sleep(Duration::from_millis(15)).await;
            }
        })
    };
    let mut readers = Vec::new();
    for (at, bound_ms) in [(0, 200), (1, 200), (2, 200), (0, 3_000), (1, 3_000), (2, 3_000)] {
        let bound = Duration::from_millis(bound_ms);
        let client = cluster.client().reading(Reading::Stale(bound));
        let (nodes, acknowledged, stop) = (Arc::clone(&cluster.nodes), Arc::clone(&acknowledged), Arc::clone(&stop));
        readers.push(tokio::spawn(async move {
            let (mut answered, mut behind) = (0_u64, 0_u64);
            while !stop.load(Ordering::Relaxed) {
                let asked = Instant::now();
                if let Some(value) = found(&client, &nodes[at]).await {
                    let least = asked.checked_sub(bound).map_or(0, |since| acknowledged.at(since));
                    assert!(
                        value >= least,
                        "seed {seed}, node {at}: {value} was read, {least} was acknowledged more than {bound:?} before"
                    );
                    answered += 1;
                    behind += u64::from(value < acknowledged.at(asked));
                }
                sleep(Duration::from_millis(20)).await;
            }
            (answered, behind)
        }));
    }
    for round in 0..4 {
        sleep(Duration::from_secs(2)).await;
        let victim = round % 3;
        if round % 2 == 0 {
            for other in (0..3).filter(|other| *other != victim) {
                cluster.network.cut(&cluster.nodes[victim].id, &cluster.nodes[other].id);
                cluster.network.cut(&cluster.nodes[other].id, &cluster.nodes[victim].id);
            }
            sleep(Duration::from_secs(4)).await;
        } else {
            cluster.network.set_weather(Weather::foul());
            cluster.crash(victim).await.expect("its tasks end");
            sleep(Duration::from_secs(2)).await;
        }
        cluster.heal().await.expect("it serves again");
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.expect("the writer ends");
    let (mut answered, mut behind) = (0, 0);
    for reader in readers {
        let (more, late) = reader.await.expect("a reader's bound was broken");
        answered += more;
        behind += late;
    }
    println!("seed {seed}: {answered} stale reads, {behind} of them lacked something");
    assert!(answered > 1_000 && behind > 10, "{answered} answered, {behind} behind: this proves nothing");
    assert_eq!(cluster.witness.violation(), None);
    cluster.stop().await.expect("all ends");
}

/// The leader's clock runs at a third of the right speed, so that its lease outlasts what the others wait. Cut off, it answers from the past
/// by its lease, and does not by a quorum.
async fn isolated_with_a_slow_clock(seed: u64, consistency: ReadConsistency) -> usize {
    let mut cluster = serving(seed).await;
    cluster.read_by(consistency);
    for at in 0..3 {
        cluster.crash(at).await.expect("its tasks end");
        if at == 0 {
            cluster.slow_clock(at, 3);
        }
        cluster.heal().await.expect("it serves");
    }
    let (client, mut stale, mut value) = (cluster.client(), 0, 1);
    for _ in 0..6 {
        let deadline = Instant::now() + Duration::from_secs(120);
        while cluster.leader() != Some(0) {
            assert!(Instant::now() < deadline, "the slow node never leads");
            if let Some(life) = cluster.leader().and_then(|leader| cluster.nodes[leader].life()) {
                drop(life.raft.transfer_leader(cluster.nodes[0].id.clone()).await);
            }
            sleep(Duration::from_millis(500)).await;
        }
        let _ = client.operate(&cluster.nodes[0], KEY, Action::Write(value)).await;
        for other in 1..3 {
            cluster.network.cut(&cluster.nodes[0].id, &cluster.nodes[other].id);
            cluster.network.cut(&cluster.nodes[other].id, &cluster.nodes[0].id);
        }
        value += 1;
        let wrote = async {
            while !matches!(client.operate(&cluster.nodes[1], KEY, Action::Write(value)).await, Outcome::Answered(_)) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        wrote.await;
        // Once it was acknowledged elsewhere, nobody may read what was there before.
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            let reading = tokio::time::timeout(Duration::from_millis(50), found(&client, &cluster.nodes[0])).await;
            stale += usize::from(matches!(reading, Ok(Some(read)) if read < value));
            sleep(Duration::from_millis(10)).await;
        }
        value += 1;
        cluster.heal().await.expect("it serves again");
    }
    cluster.stop().await.expect("all ends");
    stale
}

#[test]
fn reads_by_quorum_are_linearizable_whatever_the_clocks_do() {
    simulated(async { assert_eq!(isolated_with_a_slow_clock(195, ReadConsistency::Quorum).await, 0) });
}

/// The control: the same with leases, which rest on clocks of about the same speed.
#[test]
fn reads_by_lease_need_clocks_of_about_the_same_speed() {
    simulated(async {
        let stale = isolated_with_a_slow_clock(195, ReadConsistency::Lease).await;
        println!("{stale} stale reads by lease at a third of the right speed");
        assert!(stale > 0, "the test above would not notice a read by lease");
    });
}

fn term(cluster: &Cluster) -> u64 {
    cluster.nodes.iter().filter_map(Node::life).map(|life| life.raft.status().term.0).max().unwrap_or_default()
}

/// Terms rise with each election. Slow disks and slow wires, within what the timers allow, cause none.
#[test]
fn slow_disks_and_slow_wires_change_no_leader() {
    simulated(async {
        let mut cluster = serving(196).await;
        let client = cluster.client();
        // A heartbeat must be answered before the next one is due, 50 ms later.
        for (name, delay) in [("10 to 20 ms", 10..20), ("0 to 24 ms", 0..24)] {
            cluster
                .network
                .set_weather(Weather { delay: Duration::from_millis(delay.start)..Duration::from_millis(delay.end), loss_percent: 0 });
            let before = term(&cluster);
            for value in 0..200 {
                let _ = client.operate(&cluster.nodes[value % 3], KEY, Action::Write(value as u64)).await;
            }
            sleep(Duration::from_secs(20)).await;
            assert_eq!(term(&cluster), before, "wires of {name} cost elections");
        }
        cluster.stop().await.expect("all ends");
    });
}

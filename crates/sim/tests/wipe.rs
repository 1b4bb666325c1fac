//! A node that loses its disk comes back under its own id (reference F24): nothing acknowledged is lost, nobody is elected who
//! lacks any of it, and the leader takes no harm.
//!
//! `CONCLAVE_WIPES=50` makes the run of the reference; by default there are a few.

use std::sync::Arc;
use std::time::Duration;

use sim::client::Outcome;
use sim::cluster::Cluster;
use sim::dice::Dice;
use sim::disk::Honesty;
use sim::history::Acknowledged;
use sim::linearizability::register::{Action, Answer};
use sim::trace::{Shown, Trace};
use tokio::time::sleep;

const WIPES_DEFAULT: u64 = 8;
const WRITES: u64 = 12;

fn wipes() -> u64 {
    std::env::var("CONCLAVE_WIPES").map_or(WIPES_DEFAULT, |count| count.parse().expect("CONCLAVE_WIPES is a count"))
}

async fn write(cluster: &mut Cluster, acknowledged: &mut Vec<Acknowledged>, value: &mut u64) {
    let client = cluster.client();
    let nodes = Arc::clone(&cluster.nodes);
    for _ in 0..WRITES {
        *value += 1;
        let key = usize::try_from(cluster.dice().within(0..6)).expect("small");
        let at = usize::try_from(cluster.dice().within(0..3)).expect("small");
        match client.operate(&nodes[at], key, Action::Write(*value)).await {
            Outcome::Answered(Answer::Written(version)) => acknowledged.push(Acknowledged { key, version, value: *value }),
            Outcome::Answered(_) | Outcome::NothingDone(_) | Outcome::Unknown(_) => {}
        }
    }
}

/// Waits until every node votes.
async fn all_take_part(cluster: &Cluster, round: u64) {
    for _ in 0..600 {
        if cluster.nodes.iter().all(|node| node.life().is_some_and(|life| life.raft.takes_part())) {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("wipe {round}: after a minute not every node votes again");
}

#[test]
fn a_node_that_loses_its_disk_comes_back_and_nothing_acknowledged_is_lost() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let mut cluster = Cluster::start(3, Honesty::Honest, Dice::new(24), Trace::new(Shown::Nothing)).await.expect("it starts");
        cluster.initialize().await.expect("it can be initialised");
        cluster.heal().await.expect("it serves");
        let (mut acknowledged, mut value, mut harmless, mut abstained) = (Vec::new(), 0, 0, 0);
        for round in 0..wipes() {
            write(&mut cluster, &mut acknowledged, &mut value).await;
            let leader = cluster.leader().unwrap_or_default();
            let follower = (leader + 1 + usize::try_from(round % 2).expect("small")) % 3;
            // A leader that has lost its disk is a follower when it comes back.
            let victim = if round % 5 == 4 { leader } else { follower };
            cluster.crash(victim).await.expect("its tasks end");
            cluster.nodes[victim].wipe();
            if round % 3 == 1 {
                write(&mut cluster, &mut acknowledged, &mut value).await;
            }
            let before = cluster.nodes[leader].life().map(|life| life.raft.status().term);
            cluster.restart(victim).await.expect("it starts");
            match round % 4 {
                // Alone with one other, it must not elect: the other may lack what only the leader and it had.
                1 if victim != leader => {
                    let pause = cluster.dice().duration(Duration::from_millis(1)..Duration::from_millis(400));
                    sleep(pause).await;
                    cluster.crash(leader).await.expect("its tasks end");
                    sleep(Duration::from_secs(5)).await;
                    let has_caught_up = cluster.nodes[victim].life().expect("it runs").raft.takes_part();
                    assert!(has_caught_up || cluster.leader().is_none(), "wipe {round}: elected by a node that had forgotten");
                    abstained += u64::from(!has_caught_up);
                }
                // Again, while it is being fed.
                2 => {
                    let pause = cluster.dice().duration(Duration::from_millis(1)..Duration::from_millis(300));
                    sleep(pause).await;
                    cluster.crash(victim).await.expect("its tasks end");
                    if round % 8 == 6 {
                        cluster.nodes[victim].wipe();
                    }
                }
                _ => {
                    write(&mut cluster, &mut acknowledged, &mut value).await;
                    if victim != leader {
                        let after = cluster.nodes[leader].life().map(|life| life.raft.status().term);
                        harmless += u64::from(before == after);
                    }
                }
            }
            cluster.heal().await.unwrap_or_else(|violation| panic!("wipe {round}: {violation}"));
            all_take_part(&cluster, round).await;
            assert_eq!(cluster.witness.violation(), None, "wipe {round}");
        }
        cluster.check_acknowledged(&acknowledged).await.expect("nothing acknowledged is lost");
        cluster.check_convergence().await.expect("all hold the same");
        println!(
            "{} acknowledged writes, {harmless} wipes of a follower that changed no term, {abstained} times no election without the leader",
            acknowledged.len()
        );
        assert!(u64::try_from(acknowledged.len()).expect("small") > wipes() * WRITES / 3, "{} acknowledged", acknowledged.len());
        assert!(harmless > 0 && abstained > 0);
        cluster.stop().await.expect("nothing is left running");
    });
}

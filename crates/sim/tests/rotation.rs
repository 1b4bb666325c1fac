//! Rotation by count (reference T28): with a cap of 1 000 no value key encrypts more often, whatever crashes and whoever leads.

use std::sync::Arc;
use std::time::Duration;

use sim::client::Outcome;
use sim::cluster::Cluster;
use sim::dice::Dice;
use sim::disk::Honesty;
use sim::linearizability::register::Action;
use sim::trace::{Shown, Trace};
use tokio::time::sleep;

const OPERATIONS_MAX: u64 = 1_000;
/// Each ends with a crash: of the leader in every other.
const ROUNDS: u64 = 16;
const WRITES_A_ROUND: u64 = 120;

#[test]
fn no_value_key_is_used_more_often_than_the_cap_across_crashes_and_leaders() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let mut cluster = Cluster::start(3, Honesty::Honest, Dice::new(28), Trace::new(Shown::Nothing)).await.expect("it starts");
        cluster.rotate_after(OPERATIONS_MAX).await.expect("it starts again");
        cluster.initialize().await.expect("it can be initialised");
        cluster.heal().await.expect("it serves");
        let client = Arc::new(cluster.client());
        let (mut written, mut leaders) = (0_u64, Vec::new());
        for round in 0..ROUNDS {
            // All nodes at once, so that they set aside side by side.
            let writers = (0..cluster.nodes.len()).map(|at| {
                let (client, nodes) = (Arc::clone(&client), Arc::clone(&cluster.nodes));
                async move {
                    let mut answered = 0;
                    for write in 0..WRITES_A_ROUND / 3 {
                        let key = usize::try_from(write % 7).expect("small") + 10 * at;
                        match client.operate(&nodes[at], key, Action::Write(round * 1_000 + write)).await {
                            Outcome::Answered(_) => answered += 1,
                            Outcome::NothingDone(_) | Outcome::Unknown(_) => sleep(Duration::from_millis(10)).await,
                        }
                    }
                    answered
                }
            });
            written += futures::future::join_all(writers).await.into_iter().sum::<u64>();
            let leader = cluster.leader().unwrap_or_default();
            leaders.push(leader);
            // What the crashed node had set aside and not used stays counted.
            let victim = if round % 2 == 0 { leader } else { (leader + 1) % 3 };
            cluster.crash(victim).await.expect("its tasks end");
            sleep(Duration::from_secs(2)).await;
            cluster.heal().await.expect("it serves again");
            assert_eq!(cluster.witness.violation(), None, "round {round}");
        }
        let encryptions = cluster.witness.encryptions();
        println!("{written} writes, led by {leaders:?}: {encryptions:?}");
        assert!(written > ROUNDS * WRITES_A_ROUND / 2, "only {written} writes were answered");
        leaders.dedup();
        assert!(leaders.len() > 3, "leadership hardly changed: {leaders:?}");
        assert!(encryptions.len() > 3, "it did not rotate often enough to prove anything: {encryptions:?}");
        for (version, count) in &encryptions {
            assert!(*count as u64 <= OPERATIONS_MAX, "version {version} was used {count} times");
        }
        // Nor does it rotate for nothing: what is set aside and lost is a small part.
        let (newest, _) = encryptions.last_key_value().expect("something was written");
        let rotated = encryptions.iter().filter(|(version, _)| *version != newest);
        for (version, count) in rotated {
            assert!(
                *count as u64 > OPERATIONS_MAX / 4,
                "version {version} was used {count} times only (does each node that finds a key used up rotate?)"
            );
        }
        cluster.check_convergence().await.expect("all hold the same");
        cluster.stop().await.expect("all ends");
    });
}

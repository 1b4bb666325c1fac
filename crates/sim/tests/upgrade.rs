//! Upgrades node by node: releases of two feature levels in one cluster, the raise, and no way back.

use std::time::Duration;

use barrier::RaiseError;
use sim::client::Outcome;
use sim::cluster::Cluster;
use sim::dice::Dice;
use sim::disk::Honesty;
use sim::linearizability::register::Action;
use sim::trace::{Shown, Trace};
use tokio::time::sleep;
use types::{FeatureLevel, FeatureLevels};

const OLD: FeatureLevels = FeatureLevels { min: FeatureLevel(1), max: FeatureLevel(1) };
const NEW: FeatureLevels = FeatureLevels { min: FeatureLevel(1), max: FeatureLevel(2) };
const FIRST: FeatureLevel = FeatureLevel(1);
const RAISED: FeatureLevel = FeatureLevel(2);

fn simulated<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(test);
}

async fn old_cluster(seed: u64) -> Cluster {
    let mut cluster =
        Cluster::start_release(3, OLD, Honesty::Honest, Dice::new(seed), Trace::new(Shown::Nothing)).await.expect("it starts");
    cluster.initialize().await.expect("it can be initialised");
    cluster.heal().await.expect("it serves");
    cluster
}

fn levels(cluster: &Cluster) -> Vec<FeatureLevel> {
    cluster.nodes.iter().map(|node| node.life().expect("it runs").raft.feature_level()).collect()
}

/// Writes at every node, so that what each release writes is read by the others.
async fn write_everywhere(cluster: &mut Cluster, round: u64) {
    let client = cluster.client();
    for at in 0..cluster.nodes.len() {
        match client.operate(&cluster.nodes[at], at, Action::Write(round)).await {
            Outcome::Answered(_) => {}
            Outcome::NothingDone(why) | Outcome::Unknown(why) => panic!("round {round} at node {at}: {why}"),
        }
    }
}

async fn upgrade(cluster: &mut Cluster, at: usize, release: FeatureLevels, raise_after: Option<Duration>) {
    cluster.crash(at).await.expect("its tasks end");
    cluster.install(at, release, raise_after);
    cluster.heal().await.expect("releases of both kinds serve together");
}

#[test]
fn a_cluster_is_upgraded_node_by_node_and_then_nobody_can_go_back() {
    simulated(async {
        let mut cluster = old_cluster(171).await;
        for at in 0..3 {
            let asked = cluster.nodes[at].life().expect("it runs").barrier.raise_level(Some(RAISED)).await;
            match asked {
                Err(RaiseError::Unknown { to, members }) => assert_eq!((to, members.len()), (RAISED, 3 - at)),
                other => panic!("with {at} of 3 upgraded: {other:?}"),
            }
            upgrade(&mut cluster, at, NEW, None).await;
            write_everywhere(&mut cluster, at as u64).await;
            assert_eq!(levels(&cluster), [FIRST; 3], "nobody raised it");
        }
        // A release can be taken back until then.
        upgrade(&mut cluster, 1, OLD, None).await;
        write_everywhere(&mut cluster, 10).await;
        upgrade(&mut cluster, 1, NEW, None).await;

        let barrier = cluster.nodes[1].life().expect("it runs").barrier.clone();
        assert_eq!(barrier.raise_level(None).await.expect("every member knows it"), RAISED);
        assert_eq!(barrier.raise_level(None).await.expect("it is there already"), RAISED);
        assert!(matches!(barrier.raise_level(Some(FIRST)).await, Err(RaiseError::Lower { .. })));
        write_everywhere(&mut cluster, 11).await;
        assert_eq!(levels(&cluster), [RAISED; 3]);

        for at in 0..3 {
            cluster.crash(at).await.expect("its tasks end");
            cluster.install(at, OLD, None);
            let refused = cluster.restart(at).await.expect_err("an older release does not start");
            assert!(refused.seen.contains("feature level 2") && refused.seen.contains("or newer here"), "{refused}");
            cluster.install(at, NEW, None);
            cluster.heal().await.expect("the new release finds everything as it was");
        }
        assert_eq!(cluster.witness.violation(), None);
        cluster.check_convergence().await.expect("all hold the same");
        cluster.stop().await.expect("all ends");
    });
}

#[test]
fn the_level_rises_by_itself_once_every_member_has_known_it_for_long_enough() {
    const AFTER: Option<Duration> = Some(Duration::from_secs(20));
    simulated(async {
        let mut cluster = old_cluster(172).await;
        for at in 0..2 {
            upgrade(&mut cluster, at, NEW, AFTER).await;
        }
        sleep(Duration::from_secs(120)).await;
        assert_eq!(levels(&cluster), [FIRST; 3], "one member is older");
        upgrade(&mut cluster, 2, NEW, AFTER).await;
        sleep(Duration::from_secs(10)).await;
        assert_eq!(levels(&cluster), [FIRST; 3], "it has not been long enough");
        // A member that is down might come back with another release.
        cluster.crash(0).await.expect("its tasks end");
        sleep(Duration::from_secs(120)).await;
        assert_eq!(levels_of_running(&cluster), [FIRST; 2], "one member says nothing");
        cluster.heal().await.expect("it serves again");
        sleep(Duration::from_secs(60)).await;
        write_everywhere(&mut cluster, 1).await;
        assert_eq!(levels(&cluster), [RAISED; 3]);
        cluster.stop().await.expect("all ends");
    });
}

fn levels_of_running(cluster: &Cluster) -> Vec<FeatureLevel> {
    cluster.nodes.iter().filter_map(|node| node.life()).map(|life| life.raft.feature_level()).collect()
}

#[test]
fn a_new_cluster_begins_at_its_releases_level() {
    simulated(async {
        let mut cluster =
            Cluster::start_release(3, NEW, Honesty::Honest, Dice::new(173), Trace::new(Shown::Nothing)).await.expect("it starts");
        cluster.initialize().await.expect("it can be initialised");
        cluster.heal().await.expect("it serves");
        assert_eq!(levels(&cluster), [RAISED; 3]);
        cluster.stop().await.expect("all ends");
    });
}

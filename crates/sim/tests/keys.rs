//! Acts on the keys in a simulated cluster: at every moment the old shares or the new ones open it, and every node goes on.

use std::sync::Arc;
use std::time::Duration;

use barrier::{Act, ActError, Barrier, NewSplit, ShareError, Step, Verified};
use crypto::{Quorum, Share, Zeroizing};
use sim::cluster::Cluster;
use sim::dice::Dice;
use sim::disk::Honesty;
use sim::node::Life;
use sim::trace::{Shown, Trace};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// How long anything may take in a healthy cluster.
const MAX: Duration = Duration::from_secs(60);

type Texts = Vec<Zeroizing<Vec<u8>>>;

fn with_cluster(seed: u64, check: impl AsyncFnOnce(&mut Cluster)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let mut cluster = Cluster::start(3, Honesty::Honest, Dice::new(seed), Trace::new(Shown::Nothing)).await.expect("it starts");
        cluster.initialize().await.expect("it can be initialised");
        cluster.heal().await.expect("it serves");
        check(&mut cluster).await;
    });
}

fn life(cluster: &Cluster, at: usize) -> Arc<Life> {
    cluster.nodes[at].life().expect("it runs")
}

fn barrier(cluster: &Cluster, at: usize) -> Barrier {
    life(cluster, at).barrier.clone()
}

fn split(shares: u64, threshold: u64) -> NewSplit {
    NewSplit::nameless(Quorum::new(shares, threshold).expect("a quorum"))
}

fn share(bytes: &[u8]) -> Share {
    Share::from_bytes(bytes).expect("a share")
}

/// Again and again until it is done, as an operator would.
async fn done<T, E: std::fmt::Display>(what: &str, mut act: impl AsyncFnMut() -> Result<T, E>) -> T {
    let attempts = async {
        loop {
            match act().await {
                Ok(done) => return done,
                Err(error) => println!("{what}: {error}"),
            }
            sleep(Duration::from_millis(500)).await;
        }
    };
    timeout(MAX, attempts).await.unwrap_or_else(|_| panic!("{what} is not done"))
}

/// Starts a rekey, and enters old shares at one node after the other until the new ones are given out.
async fn rekeyed(cluster: &Cluster, old: &Texts, new: &NewSplit) -> (Texts, Uuid) {
    let started = done("start", async || barrier(cluster, 0).start_attempt(Act::Rekey, Vec::new(), "a test").await).await;
    let nonce = started.attempt.nonce;
    assert!(matches!(barrier(cluster, 1).start_attempt(Act::Rekey, Vec::new(), "a test").await, Err(ActError::UnderWay { .. })));
    for (at, text) in [(0, 0), (2, 1), (1, 2)] {
        match barrier(cluster, at).enter_share_for(Act::Rekey, nonce, share(&old[text])).await.unwrap_or_else(|error| panic!("{error}")) {
            Step::Waiting(status) => {
                assert_eq!((status.entered.len(), status.needed), (text + 1, 3), "the progress is the cluster's");
                let again = barrier(cluster, 1).enter_share_for(Act::Rekey, nonce, share(&old[text])).await;
                assert!(matches!(again, Err(ActError::Share(ShareError::Repeated { .. } | ShareError::Refused(_)))), "entered twice");
            }
            Step::Proven(proof) => {
                let made = barrier(cluster, at).rekey(&proof, new).await.unwrap_or_else(|error| panic!("{error}"));
                return (made.shares.iter().map(|share| Zeroizing::new(share.expose().to_vec())).collect(), made.verification_nonce);
            }
        }
    }
    panic!("three of five shares are a quorum");
}

async fn verified(cluster: &Cluster, new: &Texts, nonce: Uuid, needed: usize) {
    for (at, text) in new.iter().enumerate().take(needed) {
        let verified = barrier(cluster, at % 3).verify_share_of_rekey(nonce, share(text)).await.unwrap_or_else(|error| panic!("{error}"));
        match verified {
            Verified::Waiting(status) => assert_eq!(status.entered.len(), at + 1),
            Verified::InForce => assert_eq!(at + 1, needed),
        }
    }
}

async fn restart_all(cluster: &mut Cluster) {
    for at in 0..3 {
        cluster.crash(at).await.expect("it ran");
    }
    for at in 0..3 {
        cluster.restart(at).await.expect("it starts");
    }
}

async fn open_with(cluster: &Cluster, shares: &Texts, needed: usize) {
    for (at, text) in shares.iter().enumerate().take(needed) {
        done("unseal", async || match barrier(cluster, at % 3).enter_share(share(text), false).await {
            // It was taken the first time.
            Ok(_) | Err(ShareError::Repeated { .. }) => Ok(()),
            Err(error) => Err(error),
        })
        .await;
    }
    all_open(cluster).await;
}

async fn all_open(cluster: &Cluster) {
    for at in 0..3 {
        let mut open = barrier(cluster, at).watch_open();
        timeout(MAX, open.wait_for(|open| *open)).await.unwrap_or_else(|_| panic!("node {at} stays sealed")).expect("it runs");
    }
}

async fn refused(cluster: &Cluster, shares: &Texts) {
    let known = done("ask of a share", async || match barrier(cluster, 1).know_share(&share(&shares[0])).await {
        Err(ShareError::OtherSplit { .. }) => Ok(false),
        Ok(_) => Ok(true),
        Err(error) => Err(error),
    })
    .await;
    assert!(!known, "an old share is known still");
}

#[test]
fn after_a_rekey_the_new_shares_open_and_the_old_ones_are_refused() {
    with_cluster(1, async |cluster| {
        let old = cluster.shares();
        let (new, nonce) = rekeyed(cluster, &old, &split(4, 2)).await;
        verified(cluster, &new, nonce, 2).await;
        refused(cluster, &old).await;
        assert!(barrier(cluster, 1).attempt(Act::Rekey).await.unwrap().is_none(), "the attempt has ended");
        // Every node follows a rotation that comes after it, so each has got the key of the new keyring.
        for at in 0..3 {
            let rotated = done("rotate", async || barrier(cluster, at).rotate("a test").await).await;
            assert_eq!(rotated.version, u32::try_from(at).unwrap() + 2);
        }
        cluster.heal().await.unwrap();
        restart_all(cluster).await;
        open_with(cluster, &new, 2).await;
        cluster.set_shares(new);
        cluster.heal().await.unwrap();
        cluster.check_convergence().await.unwrap();
    });
}

#[test]
fn new_shares_that_were_never_verified_open_the_cluster_and_are_in_force_then() {
    with_cluster(2, async |cluster| {
        let old = cluster.shares();
        let (new, _) = rekeyed(cluster, &old, &split(3, 2)).await;
        restart_all(cluster).await;
        open_with(cluster, &new, 2).await;
        let settled = async || {
            let seals = barrier(cluster, 0).seals().await.map_err(|error| error.to_string())?;
            if seals.next.is_none() && seals.shamir.quorum.threshold() == 2 { Ok(()) } else { Err("both splits are at hand".to_owned()) }
        };
        done("the new shares come into force", settled).await;
        refused(cluster, &old).await;
        restart_all(cluster).await;
        open_with(cluster, &new, 2).await;
        cluster.set_shares(new);
        cluster.heal().await.unwrap();
    });
}

#[test]
fn until_the_new_shares_have_come_back_the_old_ones_open_and_a_cancelled_rekey_leaves_them() {
    with_cluster(3, async |cluster| {
        let old = cluster.shares();
        let (new, nonce) = rekeyed(cluster, &old, &split(3, 2)).await;
        verified(cluster, &new, nonce, 1).await;
        restart_all(cluster).await;
        open_with(cluster, &old, 3).await;
        let status = done("status", async || barrier(cluster, 2).attempt(Act::Rekey).await).await.expect("it is under way still");
        assert_eq!(
            (status.attempt.verification_nonce, status.entered.len()),
            (Some(nonce), 0),
            "what had come is lost with the coordinator"
        );
        done("cancel", async || barrier(cluster, 2).cancel_attempt(Act::Rekey, None, "a test").await).await;
        refused(cluster, &new).await;
        let late = barrier(cluster, 1).verify_share_of_rekey(nonce, share(&new[0])).await;
        assert!(matches!(late, Err(ActError::NotUnderWay { .. })));
        restart_all(cluster).await;
        open_with(cluster, &old, 3).await;
        cluster.heal().await.unwrap();
    });
}

#[test]
fn a_node_that_slept_through_a_rekey_is_opened_by_the_new_shares() {
    with_cluster(4, async |cluster| {
        let old = cluster.shares();
        let leader = cluster.leader().expect("a healthy cluster has a leader");
        let (new, nonce) = rekeyed(cluster, &old, &split(3, 2)).await;
        let away = (leader + 1) % 3;
        cluster.crash(away).await.unwrap();
        for text in &new[..2] {
            done("verify", async || match barrier(cluster, leader).verify_share_of_rekey(nonce, share(text)).await {
                Ok(_) | Err(ActError::NotUnderWay { .. } | ActError::Share(ShareError::Repeated { .. })) => Ok(()),
                Err(error) => Err(error),
            })
            .await;
        }
        done("rotate", async || barrier(cluster, leader).rotate("a test").await).await;
        cluster.restart(away).await.unwrap();
        for text in &new[..2] {
            done("unseal", async || match barrier(cluster, away).enter_share(share(text), false).await {
                Ok(_) | Err(ShareError::Repeated { .. }) => Ok(()),
                Err(error) => Err(error),
            })
            .await;
        }
        all_open(cluster).await;
        cluster.set_shares(new);
        cluster.heal().await.unwrap();
        cluster.check_convergence().await.unwrap();
    });
}

//! The members change while nodes crash and the network breaks: nothing acknowledged is lost, no term has two leaders, and once all is well
//! again every node can be a voter and holds the same.
//!
//! `CONCLAVE_MEMBER_CHANGES=500` makes the run long.

use std::time::Duration;

use engine::kv::VERSIONS_MAX;
use raft::{ChangeError, ChangeOptions, Member, MemberChange};
use sim::cluster::Cluster;
use sim::dice::Dice;
use sim::disk::Honesty;
use sim::history::History;
use sim::linearizability::check_by_key;
use sim::linearizability::register::Register;
use sim::trace::{Shown, Trace};
use sim::workload::Clients;
use tokio::time::{Instant, sleep, timeout};
use types::NodeId;

const NODES: u64 = 5;
const CLIENTS: usize = 3;
/// Of one seed, in every run.
const CHANGES: usize = 20;
/// Simulated: how long the last changes may take once nothing breaks any more.
const MENDING_MAX: Duration = Duration::from_secs(120);

/// Simulated: how long shares are entered after each change; a node that is no member does not open.
const UNSEALING_MAX: Duration = Duration::from_secs(3);

fn changes() -> usize {
    std::env::var("CONCLAVE_MEMBER_CHANGES").ok().and_then(|text| text.parse().ok()).unwrap_or(CHANGES)
}

/// As the cluster bootstraps it.
fn place(id: &NodeId) -> Member {
    let address = format!("http://{id}.simulated");
    Member { cluster_address: address.clone(), api_address: address, ..Member::default() }
}

/// What an operator might ask for.
fn any_change(cluster: &mut Cluster) -> MemberChange {
    let ids: Vec<NodeId> = cluster.nodes.iter().map(|node| node.id.clone()).collect();
    let id = cluster.dice().pick(&ids).clone();
    match cluster.dice().within(0..12) {
        0..3 => MemberChange::Remove { id },
        3..5 => MemberChange::Demote { id },
        5..7 => MemberChange::Promote { id },
        7..9 => MemberChange::Add { member: place(&id), id },
        9 => MemberChange::Replace { old: id, new: cluster.dice().pick(&ids).clone() },
        10 => MemberChange::Transfer { to: None },
        _ => MemberChange::Transfer { to: Some(id) },
    }
}

/// Asks at any running node for a change, while something breaks.
async fn change_under_fault(cluster: &mut Cluster, outcomes: &mut [usize; 3]) {
    let change = any_change(cluster);
    let running: Vec<usize> = (0..cluster.nodes.len()).filter(|at| cluster.nodes[*at].life().is_some()).collect();
    let asked = *cluster.dice().pick(&running);
    let raft = cluster.nodes[asked].life().expect("it runs").raft.clone();
    let force = cluster.dice().chance(10);
    let asking = async move {
        let options = ChangeOptions { force, ..ChangeOptions::default() };
        // An operator who is cut off gives up at some time.
        timeout(Duration::from_secs(5), raft.change_members(change, options)).await
    };
    let breaking = async {
        let victim = usize::try_from(cluster.dice().within(0..NODES)).expect("small");
        let pause = cluster.dice().duration(Duration::from_millis(1)..Duration::from_millis(400));
        sleep(pause).await;
        match cluster.dice().within(0..10) {
            0..3 => cluster.crash(victim).await.expect("its tasks end"),
            3 => {
                let leader = cluster.leader().unwrap_or(victim);
                cluster.crash(leader).await.expect("its tasks end");
            }
            4..6 => {
                let victim = cluster.nodes[victim].id.clone();
                for other in cluster.nodes.iter().map(|node| node.id.clone()).filter(|other| *other != victim) {
                    cluster.network.cut(&victim, &other);
                    cluster.network.cut(&other, &victim);
                }
            }
            _ => {}
        }
    };
    let (asked, ()) = tokio::join!(asking, breaking);
    outcomes[match asked {
        Ok(Ok(_)) => 0,
        Ok(Err(ChangeError::Refused(_))) => 1,
        _ => 2,
    }] += 1;
    let lasting = cluster.dice().duration(Duration::from_millis(10)..Duration::from_millis(1500));
    sleep(lasting).await;
    cluster.network.heal();
    for at in 0..cluster.nodes.len() {
        cluster.restart(at).await.expect("it starts again");
    }
    cluster.unseal_within(UNSEALING_MAX).await;
}

/// Makes every node a voter again, as an operator would when the storm is over.
async fn mend(cluster: &mut Cluster) {
    let deadline = Instant::now() + MENDING_MAX;
    let ids: Vec<NodeId> = cluster.nodes.iter().map(|node| node.id.clone()).collect();
    loop {
        let mut missing = Vec::new();
        for id in &ids {
            let mut done = None;
            for node in cluster.nodes.iter() {
                let Some(life) = node.life() else { continue };
                let add = MemberChange::Add { id: id.clone(), member: place(id) };
                if life.raft.change_members(add, ChangeOptions::default()).await.is_ok() {
                    let promote = MemberChange::Promote { id: id.clone() };
                    done = life.raft.change_members(promote, ChangeOptions::default()).await.ok();
                }
                if done.is_some() {
                    break;
                }
            }
            if done.is_none() {
                missing.push(id);
            }
        }
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{missing:?} cannot be made voters");
        sleep(Duration::from_millis(200)).await;
    }
}

fn torture(seed: u64, changes: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let mut cluster = Cluster::start(NODES, Honesty::Honest, Dice::new(seed), Trace::new(Shown::Nothing)).await.expect("it starts");
        cluster.initialize().await.expect("it can be initialised");
        cluster.heal().await.expect("it serves");
        let history = History::default();
        let clients = (0..CLIENTS).map(|_| (cluster.client(), cluster.dice().fork())).collect();
        let clients = Clients::start(clients, &cluster.nodes, &history);
        let mut outcomes = [0; 3];
        for number in 0..changes {
            change_under_fault(&mut cluster, &mut outcomes).await;
            assert_eq!(cluster.witness.violation(), None, "seed {seed}, change {number}");
            if number % 10 == 9 {
                mend(&mut cluster).await;
            }
        }
        mend(&mut cluster).await;
        clients.stop().await;
        cluster.heal().await.expect("every node serves again");
        let acknowledged = history.acknowledged();
        // What the engine still keeps of each key.
        let newest = |key| acknowledged.iter().filter(|it| it.key == key).map(|it| it.version).max().unwrap_or(0);
        let kept: Vec<_> = acknowledged.iter().filter(|it| it.version + u64::from(VERSIONS_MAX) / 2 > newest(it.key)).cloned().collect();
        cluster.check_acknowledged(&kept).await.expect("nothing acknowledged is lost");
        cluster.check_convergence().await.expect("all hold the same");
        cluster.check_disks().expect("ciphertext only");
        assert_eq!(cluster.witness.violation(), None, "seed {seed}");
        check_by_key::<Register, _>(history.entries()).unwrap_or_else(|(key, violation)| panic!("seed {seed}, key {key}: {violation:?}"));
        println!(
            "seed {seed}: {changes} changes: {} made, {} refused, {} unknown; {} writes",
            outcomes[0],
            outcomes[1],
            outcomes[2],
            acknowledged.len()
        );
        assert!(outcomes[0] * 5 > changes, "too few changes were made to prove anything: {outcomes:?}");
        assert!(acknowledged.len() > changes, "too few writes to prove anything");
        cluster.stop().await.expect("all ends");
    });
}

#[test]
fn members_change_while_nodes_crash_and_links_break() {
    torture(1, changes());
    torture(2, changes());
}

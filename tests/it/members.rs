//! Members come, go, get and lose their votes while clients write: no acknowledged write is lost, and every change is asked for at whichever
//! node is at hand.

use std::time::Duration;

use client::Method;
use serde_json::{Value, json};
use tests::{Cluster, Command, Load, eventually};
use tokio::time::sleep;

const CHANGE_MAX: Duration = Duration::from_secs(30);

/// Runs a command of the members at a node.
fn at(cluster: &Cluster, node: usize, words: &str) -> Command {
    let command = Command::new("operator").to(&cluster.nodes[node].api_address(), &cluster.keys().root_token);
    words.split_whitespace().fold(command, Command::arg)
}

/// Each member: its id, `L` for the leader, `V` for a voter, `l` for a learner, `n` for a non-voter.
fn shown(cluster: &Cluster, node: usize) -> Vec<String> {
    let members = at(cluster, node, "members -format=json").run().expect_code(0).json();
    let role = |member: &Value| match (member["active_node"].as_bool(), member["role"].as_str()) {
        (Some(true), _) => 'L',
        (_, Some("voter")) => 'V',
        (_, Some("learner")) => 'l',
        _ => 'n',
    };
    members["nodes"].as_array().unwrap().iter().map(|member| format!("{}{}", member["node_id"].as_str().unwrap(), role(member))).collect()
}

fn leader(cluster: &Cluster, node: usize) -> usize {
    let leader = shown(cluster, node).iter().position(|member| member.ends_with('L')).expect("somebody leads");
    let id = shown(cluster, node)[leader].trim_end_matches('L').to_owned();
    cluster.nodes.iter().position(|node| node.id.as_str() == id).expect("a node of this cluster")
}

async fn await_member(cluster: &Cluster, node: usize, member: &str) {
    eventually("the members are as expected", CHANGE_MAX, async || {
        let members = tokio::task::block_in_place(|| shown(cluster, node));
        if members.iter().any(|shown| shown == member) { Ok(()) } else { Err(format!("{members:?}, not {member}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_the_members_under_load_loses_no_acknowledged_write() {
    let cluster = Cluster::builder().nodes(5).open().await;
    let load = Load::start(&cluster, 1);
    let run = |node: usize, words: &str| tokio::task::block_in_place(|| at(&cluster, node, words).run().expect_code(0));
    run(0, "raft autopilot set-config -server-stabilization-time=1s");

    // Whoever does not lead, so that the nodes that are asked go on to be members.
    let first = leader(&cluster, 0);
    let others: Vec<usize> = (0..5).filter(|node| *node != first).collect();
    let [asked, _, demoted, removed] = others[..] else { unreachable!("four of five do not lead") };
    let id = |node: usize| cluster.nodes[node].id.as_str();

    run(asked, &format!("members demote {}", id(demoted)));
    assert!(shown(&cluster, first).contains(&format!("{}n", id(demoted))));
    run(first, &format!("raft remove-peer {}", id(removed)));
    assert_eq!(shown(&cluster, asked).len(), 4);
    run(asked, &format!("raft promote {}", id(demoted)));
    assert!(shown(&cluster, first).contains(&format!("{}V", id(demoted))));

    // It comes back with the log that it has, and autopilot gives it its vote.
    let place = format!("-cluster-addr={} -api-addr={}", cluster.nodes[removed].cluster_address(), cluster.nodes[removed].api_address());
    run(asked, &format!("members add {} {place}", id(removed)));
    await_member(&cluster, first, &format!("{}V", id(removed))).await;

    // The leader goes as well, whoever takes over.
    run(asked, "step-down");
    let second = leader(&cluster, asked);
    assert_ne!(second, first);
    run(second, &format!("members transfer {}", id(first)));
    assert_eq!(leader(&cluster, asked), first);
    run(asked, &format!("members remove {}", id(demoted)));
    let place = format!("-cluster-addr={} -api-addr={}", cluster.nodes[demoted].cluster_address(), cluster.nodes[demoted].api_address());
    run(asked, &format!("members add {} {place} -non-voter", id(demoted)));
    run(asked, &format!("members replace {} {}", id(first), id(demoted)));
    let members = shown(&cluster, asked);
    assert!(
        members.len() == 4 && members.contains(&format!("{}V", id(demoted))) && !members.iter().any(|member| member.starts_with(id(first))),
        "{members:?}"
    );

    let health = tokio::task::block_in_place(|| at(&cluster, asked, "raft autopilot state -format=json").run().expect_code(0).json());
    assert_eq!(health["data"]["voters"].as_array().map(Vec::len), Some(4), "{health}");
    let report = load.stop().await;
    println!("{} writes, {} reads; failures: {:?}", report.writes.len(), report.reads.len(), report.failures_by_text());
    assert!(report.writes.len() > 50, "too few writes to prove anything: {}", report.writes.len());
    report.assert_all_kept(&cluster.client_at(asked)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_harm_the_cluster_is_refused_with_a_cure() {
    let mut cluster = Cluster::builder().open().await;
    let leader = cluster.leader().await;
    let (other, dead) = ((leader + 1) % 3, (leader + 2) % 3);
    let refused = |words: String, code: i32, text: &str| {
        let said = tokio::task::block_in_place(|| at(&cluster, other, &words).run().expect_code(code));
        assert!(said.stderr.contains(text), "{words}: {}", said.stderr);
    };
    refused("members remove nobody".into(), 2, "nobody is no member of this cluster");
    refused("raft promote nobody".into(), 2, "nobody is no member of this cluster");
    refused(format!("members add n9 -api-addr=https://h:1 -cluster-addr={}", cluster.nodes[0].cluster_address()), 2, "already");
    tokio::task::block_in_place(|| at(&cluster, other, "members health").run().expect_code(0));

    let (other_id, dead_id) = (cluster.nodes[other].id.to_string(), cluster.nodes[dead].id.to_string());
    cluster.nodes[dead].kill();
    sleep(Duration::from_secs(3)).await;
    let refused = |words: String, code: i32, text: &str| {
        let said = tokio::task::block_in_place(|| at(&cluster, other, &words).run().expect_code(code));
        assert!(said.stderr.contains(text), "{words}: {}", said.stderr);
    };
    refused(format!("members remove {other_id}"), 2, "can be reached");
    refused(format!("members transfer {dead_id}"), 2, "cannot be reached");
    let fields = |path: &str| {
        let client = cluster.client_at(other);
        let path = path.to_owned();
        async move { client.request(Method::Get, &path).send().await.unwrap().json::<Value>().unwrap()["data"].clone() }
    };
    let state = fields("sys/storage/raft/autopilot/state").await;
    assert_eq!((&state["servers"].as_object().unwrap().len().into(), &state["failure_tolerance"]), (&json!(3), &json!(1)));
    tokio::task::block_in_place(|| at(&cluster, other, &format!("raft remove-peer {dead_id}")).run().expect_code(0));
    let configuration = fields("sys/storage/raft/configuration").await;
    assert_eq!(configuration["config"]["servers"].as_array().unwrap().len(), 2, "{configuration}");
}

//! Nodes that make their certificates themselves: found, join by token or by shares, renew; and who is refused (reference T5, T6).

use std::fs;
use std::time::Duration;

use client::Method;
use serde_json::{Value, json};
use tests::{Cluster, Command, Node, eventually};

const JOIN_MAX: Duration = Duration::from_secs(30);

/// Makes a join token with the command line.
fn token(cluster: &Cluster, args: &str) -> String {
    let command = Command::new("operator join-token -format=json").to(&cluster.nodes[0].api_address(), &cluster.keys().root_token);
    let made = args.split_whitespace().fold(command, Command::arg).run().expect_code(0).json();
    made["join_token"].as_str().expect("a token is text").to_owned()
}

fn give(node: &Node, token: &str) {
    fs::write(node.join_token_file(), format!("{token}\n")).unwrap();
}

/// The members as the node at `at` knows them: id, and whether it votes.
async fn members(cluster: &Cluster, at: usize) -> Result<Vec<(String, bool)>, String> {
    let answer = cluster.client_at(at).request(Method::Get, "sys/ha-status").send().await.map_err(|error| error.to_string())?;
    let answer: Value = answer.json().map_err(|error| error.to_string())?;
    let nodes = answer["data"]["nodes"].as_array().ok_or("no nodes")?;
    Ok(nodes.iter().map(|node| (node["node_id"].as_str().unwrap_or_default().to_owned(), node["role"] == "voter")).collect())
}

async fn await_members(cluster: &Cluster, at: usize, want: &[(&str, bool)]) {
    let want: Vec<(String, bool)> = want.iter().map(|(id, votes)| ((*id).to_owned(), *votes)).collect();
    eventually("the members are as expected", JOIN_MAX, async || {
        let found = members(cluster, at).await?;
        if found == want { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

/// Founds the cluster at its first node, and opens that.
async fn found(cluster: &mut Cluster) {
    cluster.init().await;
    cluster.unseal_at(&[0]).await;
    cluster.mount("secret").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_join_by_tokens_and_serve() {
    let mut cluster = Cluster::builder().managed("").start().await;
    found(&mut cluster).await;
    for at in [1, 2] {
        let id = cluster.nodes[at].id.clone();
        let token = token(&cluster, &format!("-node-id={id}"));
        give(&cluster.nodes[at], &token);
    }
    await_members(&cluster, 0, &[("n1", true), ("n2", true), ("n3", true)]).await;
    cluster.unseal_everywhere().await;
    let client = cluster.client_at(2);
    client.kv("secret").put("app", tests::fields(json!({ "a": "b" })), None).await.unwrap();
    cluster.assert_sound();

    // One that has gone and come back needs no token any more.
    fs::remove_file(cluster.nodes[1].join_token_file()).unwrap();
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    cluster.restart(1).await;
    cluster.unseal_at(&[1]).await;
    cluster.client_at(1).kv("secret").get("app").await.unwrap();
}

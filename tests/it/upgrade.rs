//! Releases of two feature levels on real nodes: a debug build plays the older one. With `CONCLAVE_OLD_BINARY` a real one is taken.

use std::path::PathBuf;
use std::time::Duration;

use client::Method;
use serde_json::{Value, json};
use tests::{Cluster, Command, eventually, fields};

/// Plays a release that knows the first level only.
const OLD_RELEASE: (&str, &str) = ("CONCLAVE_TEST_FEATURE_LEVEL_MAX", "1");
/// A program of a release before levels.
const OLD_BINARY: &str = "CONCLAVE_OLD_BINARY";
const END_MAX: Duration = Duration::from_secs(20);

async fn status(cluster: &Cluster, at: usize) -> Value {
    let response = cluster.client_at(at).request(Method::Get, "sys/storage/raft/feature-level").send().await.unwrap();
    response.json::<Value>().unwrap()["data"].clone()
}

fn play_old(cluster: &mut Cluster, at: usize, old: bool) {
    let node = &mut cluster.nodes[at];
    node.environment = if old { vec![OLD_RELEASE] } else { Vec::new() };
    node.program = std::env::var_os(OLD_BINARY).map(PathBuf::from).filter(|_| old);
}

async fn exchange(cluster: &mut Cluster, at: usize, old: bool) {
    cluster.nodes[at].terminate();
    tokio::task::block_in_place(|| cluster.nodes[at].wait(END_MAX));
    play_old(cluster, at, old);
    cluster.restart(at).await;
    cluster.unseal_at(&[at]).await;
    cluster.client_at(at).kv("secret").put("upgrade", fields(json!({ "at": at })), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_upgraded_node_by_node_and_an_older_release_then_refuses_its_data() {
    let mut cluster = Cluster::builder().more("feature_level_raise_after = \"never\"").lay_out();
    (0..3).for_each(|at| play_old(&mut cluster, at, true));
    // A release before this one does not know the key.
    if std::env::var_os(OLD_BINARY).is_some() {
        cluster.reconfigure(&[0, 1, 2], "");
    }
    cluster.start().await;
    cluster.init().await;
    cluster.unseal_everywhere().await;
    cluster.mount("secret").await;

    exchange(&mut cluster, 0, false).await;
    let shown = status(&cluster, 0).await;
    assert_eq!((&shown["level"], &shown["level_common"]), (&json!(1), &json!(1)), "{shown}");
    let raise = |cluster: &Cluster, at: usize| {
        let client = cluster.client_at(at);
        async move { client.request(Method::Post, "sys/storage/raft/feature-level").body(&json!({ "level": 2 })).send().await }
    };
    let refused = raise(&cluster, 0).await.err().unwrap().to_string();
    assert!(refused.contains("n2") && refused.contains("upgrade them first"), "{refused}");
    for at in 1..3 {
        exchange(&mut cluster, at, false).await;
    }
    // Back, and forth again: nothing has been written that the older release could not read.
    exchange(&mut cluster, 1, true).await;
    exchange(&mut cluster, 1, false).await;

    let told = Command::new("operator upgrade raise")
        .arg(format!("-address={}", cluster.nodes[2].api_address()))
        .env("CONCLAVE_TOKEN", &cluster.keys().root_token)
        .run()
        .expect_code(0);
    assert!(told.stdout.contains("Feature Level"), "{}", told.stdout);
    for at in 0..3 {
        eventually("the level is applied", Duration::from_secs(5), async || {
            let shown = status(&cluster, at).await;
            if shown["level"] == 2 { Ok(()) } else { Err(shown.to_string()) }
        })
        .await;
    }

    cluster.nodes[2].terminate();
    tokio::task::block_in_place(|| cluster.nodes[2].wait(END_MAX));
    play_old(&mut cluster, 2, true);
    cluster.nodes[2].start();
    let ended = tokio::task::block_in_place(|| cluster.nodes[2].wait(END_MAX));
    assert_ne!(ended.code(), Some(0));
    let trace = cluster.nodes[2].trace();
    if std::env::var_os(OLD_BINARY).is_none() {
        assert!(trace.contains("feature level 2") && trace.contains("or newer here"), "{}", cluster.nodes[2].tail());
    } else {
        assert!(trace.contains("has version 2, this release reads up to 1"), "{}", cluster.nodes[2].tail());
    }
    play_old(&mut cluster, 2, false);
    cluster.restart(2).await;
    cluster.unseal_at(&[2]).await;
    cluster.assert_sound();
}

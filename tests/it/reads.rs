//! How fresh reads are: certain as configured or as asked for, or as old as asked for, and no older.

use std::time::Duration;

use client::{Client, Method, Reading, Response};
use serde_json::{Value, json};
use tests::{Cluster, eventually, fields};
use tokio::time::{Instant, sleep};

const BOUND: Duration = Duration::from_secs(4);

async fn read(client: &Client) -> Result<Response, client::Error> {
    client.request(Method::Get, "secret/data/fresh").within(Some(Duration::from_secs(8))).send().await
}

fn number(response: &Response) -> Value {
    response.json::<Value>().unwrap()["data"]["data"]["number"].clone()
}

/// With its peers standing still a node can be certain of nothing. It answers who bears that by name, for as long as they bear it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_answers_stale_reads_within_their_bound_and_no_other() {
    let mut cluster = Cluster::builder().open().await;
    let leader = cluster.leader().await;
    let at = (leader + 1) % 3;
    let stale = cluster.client_at(at).reading(Reading::Stale(BOUND));
    cluster.client_at(at).kv("secret").put("fresh", fields(json!({ "number": 1 })), None).await.unwrap();
    let first = read(&stale).await.unwrap();
    assert!(first.age().is_some_and(|age| age <= BOUND), "{:?}", first.age());
    assert_eq!(read(&cluster.client_at(at)).await.unwrap().age(), None, "a read that does not ask has no age");

    let fresh = Instant::now();
    read(&cluster.client_at(at)).await.unwrap();
    for other in (0..3).filter(|other| *other != at) {
        cluster.nodes[other].pause();
    }
    let mut answered = 0;
    while fresh.elapsed() < BOUND - Duration::from_millis(500) {
        let response = read(&stale).await.expect("it knows that it is fresh enough");
        assert_eq!(number(&response), 1);
        assert!(response.age().is_some_and(|age| age <= BOUND), "{:?}", response.age());
        answered += 1;
        sleep(Duration::from_millis(100)).await;
    }
    assert!(answered > 5, "only {answered} answers");
    sleep(BOUND).await;
    for client in [&stale, &cluster.client_at(at), &cluster.client_at(at).reading(Reading::Quorum)] {
        let impatient = tokio::time::timeout(Duration::from_secs(3), read(client)).await;
        assert!(!matches!(impatient, Ok(Ok(_))), "nobody knows by now what the others have written");
    }
    for other in (0..3).filter(|other| *other != at) {
        cluster.nodes[other].resume();
    }
    eventually("it answers again", Duration::from_secs(10), async || read(&stale).await).await;
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_by_quorum_see_what_any_node_has_acknowledged() {
    let cluster = Cluster::builder().more("read_consistency = \"quorum\"\nstale_reads_max = \"0s\"").open().await;
    for round in 0..10 {
        for at in 0..3 {
            let written = cluster.client_at(at).kv("secret").put("fresh", fields(json!({ "number": round })), None).await.unwrap();
            for reader in 0..3 {
                let found = read(&cluster.client_at(reader)).await.unwrap();
                assert_eq!(
                    found.json::<Value>().unwrap()["data"]["metadata"]["version"],
                    written.number,
                    "written at {at}, read at {reader}"
                );
            }
        }
    }
    let refused = read(&cluster.client_at(0).reading(Reading::Stale(BOUND))).await.err().unwrap().to_string();
    assert!(refused.contains("stale_reads_max"), "{refused}");
}

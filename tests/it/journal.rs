//! The journal: what was done with the keys joins the audit log once the node is open, outlives `kill -9` and damage, and is checked
//! offline against the audit log (reference T9, T31).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use storage::journal::{Field, NewEntry};
use storage::{DataDir, FsDisk, Journal};
use tests::raw::request;
use tests::{Cluster, Command, Node, eventually};
use types::{NodeId, SystemClock};

const JOIN_MAX: Duration = Duration::from_secs(20);

/// Writes an act into the journal of a node that does not run, as the node does.
fn write(node: &Node, act: &'static str) {
    let id = NodeId::parse(&node.id).unwrap();
    let data = DataDir::open(Arc::new(FsDisk), &node.data_dir, &id, None).unwrap();
    let journal = Journal::open(data.disk(), &data.journal(), &id, data.cluster(), Arc::new(SystemClock)).unwrap();
    let fields = vec![("holder", Field::Text("alice".into())), ("share", Field::Number(2))];
    journal.append(NewEntry { act, outcome: "done".into(), fields, is_refusal: false }).unwrap();
}

/// The journal's records in an audit log, oldest first.
fn records(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.filter(|record| record["type"] == "journal").collect()
}

/// Waits until an act is in the audit log, and until that is remembered.
async fn await_act(cluster: &Cluster, file: &Path, act: &str) -> Vec<Value> {
    let token = format!("X-Vault-Token: {}", cluster.keys().root_token);
    eventually(&format!("{act} is in the audit log"), JOIN_MAX, async || {
        let metrics: Value = serde_json::from_str(&request(cluster.nodes[0].api_port, "GET /v1/sys/metrics", &[&token], "").body).unwrap();
        let gauge = |name: &str| {
            metrics["Gauges"].as_array().unwrap().iter().find(|gauge| gauge["Name"] == name).map(|gauge| gauge["Value"].clone())
        };
        let found = records(file);
        let is_there = found.iter().any(|record| record["journal"]["act"] == act);
        let (joined, last) = (gauge("conclave_journal_joined"), gauge("conclave_journal_entries"));
        if is_there && joined.is_some() && joined == last { Ok(found) } else { Err(format!("{joined:?} of {last:?}: {found:?}")) }
    })
    .await
}

fn verify(node: &Node, audit: &Path, code: i32) -> Value {
    let command = Command::new("operator journal verify -format=json").arg(data(node)).arg(format!("-audit={}", audit.display()));
    command.run().expect_code(code).json()
}

fn data(node: &Node) -> String {
    format!("-data={}", node.data_dir.display())
}

fn first_file(node: &Node) -> PathBuf {
    node.data_dir.join("journal/00000001.jsonl")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_while_sealed_joins_the_audit_log_and_agrees_with_it() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    let audit = cluster.folder().join("audit.log");
    cluster.client().sys().audit_enable("file", "file", &[("file_path", audit.to_str().unwrap())]).await.unwrap();
    for act in ["first_test", "second_test"] {
        cluster.nodes[0].kill();
        write(&cluster.nodes[0], act);
        cluster.restart(0).await;
        cluster.unseal_everywhere().await;
        await_act(&cluster, &audit, act).await;
    }
    let found = records(&audit);
    let of_test = found.iter().filter(|record| record["journal"]["act"] == "first_test").collect::<Vec<_>>();
    assert_eq!(of_test.len(), 1, "once, also after another restart: {found:?}");
    let shown = &of_test[0]["journal"];
    assert_eq!((&shown["node"], &shown["holder"], &shown["share"]), (&json!("n1"), &json!("alice"), &json!(2)));
    let sequences: Vec<u64> = found.iter().map(|record| record["journal"]["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.is_sorted(), "{sequences:?}");
    let report = verify(&cluster.nodes[0], &audit, 0);
    assert_eq!(report["whole"], json!(true));
    assert_eq!(report["journals"][0]["audit_records"], json!(found.len()), "{report}");
    let shown = Command::new("operator journal show -format=json").arg(data(&cluster.nodes[0])).run().expect_code(0).json();
    assert!(shown.as_array().unwrap().iter().any(|entry| entry["hash"] == of_test[0]["journal"]["hash"]), "{shown}");

    // Somebody rewrites an entry: the chain says so, and the node goes on.
    cluster.nodes[0].kill();
    let text = fs::read_to_string(first_file(&cluster.nodes[0])).unwrap();
    fs::write(first_file(&cluster.nodes[0]), text.replacen("\"alice\"", "\"mallory\"", 1)).unwrap();
    let report = verify(&cluster.nodes[0], &audit, 2);
    assert_eq!(report["whole"], json!(false));
    cluster.restart(0).await;
    cluster.unseal_everywhere().await;
    let found = await_act(&cluster, &audit, "journal_broken").await;
    assert!(found.iter().all(|record| record["journal"]["holder"] != "mallory"), "{found:?}");
    assert!(cluster.nodes[0].trace().contains("THE JOURNAL IS BROKEN"), "{}", cluster.nodes[0].tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_was_replaced_while_the_node_was_down_is_told_in_the_audit_log() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    let audit = cluster.folder().join("audit.log");
    cluster.client().sys().audit_enable("file", "file", &[("file_path", audit.to_str().unwrap())]).await.unwrap();
    cluster.nodes[0].kill();
    write(&cluster.nodes[0], "before_test");
    cluster.restart(0).await;
    cluster.unseal_everywhere().await;
    await_act(&cluster, &audit, "before_test").await;
    cluster.nodes[0].kill();
    fs::remove_dir_all(cluster.nodes[0].data_dir.join("journal")).unwrap();
    write(&cluster.nodes[0], "after_test");
    cluster.restart(0).await;
    cluster.unseal_everywhere().await;
    let found = await_act(&cluster, &audit, "after_test").await;
    let told = found.iter().any(|record| record["error"].as_str().is_some_and(|error| error.contains("was recorded here with the hash")));
    assert!(told, "{found:?}");
    // A whole chain it is; only the witness knows better.
    Command::new("operator journal verify").arg(data(&cluster.nodes[0])).run().expect_code(0);
    verify(&cluster.nodes[0], &audit, 2);
}

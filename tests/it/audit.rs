//! Audit: a record of every request and answer, no secret in it; no record, no answer (reference T31, T33, F30).

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests::raw::request;
use tests::{Cluster, fields};

const CANARY: &str = "canary-5c1b8e";

fn records(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("read {}: {error}", file.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_and_answer_has_its_record_and_no_record_has_a_secret() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    let file = cluster.folder().join("audit.log");
    let client = cluster.client();
    client.sys().audit_enable("file", "file", &[("file_path", file.to_str().unwrap())]).await.unwrap();
    let begun = records(&file).len();
    let port = cluster.nodes[0].api_port;
    let token = format!("X-Vault-Token: {}", cluster.keys().root_token);

    // (operation, path, error) of each; and each is answered or denied.
    client.kv("secret").put("app", fields(json!({"password": CANARY, "pin": 918_273, "list": [CANARY]})), None).await.unwrap();
    client.kv("secret").get("app").await.unwrap();
    client.kv_grpc("secret").get("app", None).await.unwrap();
    client.kv("secret").list("").await.unwrap();
    assert_eq!(request(port, "GET /v1/secret/data/app", &["X-Vault-Token: hvs.canary-wrong"], "").status, 403);
    assert_eq!(request(port, "GET /v1/secret/data/app", &[], "").status, 403);
    assert_eq!(request(port, "DELETE /v1/sys/mounts/secret", &["X-Vault-Token: hvs.canary-wrong"], "").status, 403);
    assert_eq!(request(port, "GET /v1/no/such/path", &[&token], "").status, 404);
    assert_eq!(request(port, "GET /v1/secret/data/nothing", &[&token], "").status, 404);
    let stale = json!({"data": {"password": CANARY}, "options": {"cas": 9}}).to_string();
    assert_eq!(request(port, "POST /v1/secret/data/app", &[&token], &stale).status, 400);
    client.kv("secret").delete("app").await.unwrap();

    let all = records(&file);
    let seen = &all[begun..];
    let text = fs::read_to_string(&file).unwrap();
    for secret in [CANARY, "918273", "canary-wrong", &cluster.keys().root_token] {
        assert!(!text.contains(secret), "a record shows a secret");
    }
    let mut denied = 0;
    let requests: Vec<&Value> = seen.iter().filter(|record| record["type"] == "request").collect();
    for record in &requests {
        let id = &record["request"]["id"];
        let answers: Vec<&Value> = seen.iter().filter(|other| other["type"] == "response" && other["request"]["id"] == *id).collect();
        assert_eq!(answers.len(), 1, "one answer for each request: {record}");
        assert!(
            record["time"].is_string() && record["request"]["path"].is_string() && record["request"]["operation"].is_string(),
            "{record}"
        );
        denied += usize::from(answers[0]["error"] == "permission denied");
    }
    assert_eq!((requests.len(), seen.len(), denied), (11, 22, 3), "{seen:#?}");
    let put = requests[0];
    assert_eq!((&put["request"]["path"], &put["request"]["operation"]), (&json!("secret/data/app"), &json!("create")));
    let shown = put["request"]["data"]["data"]["password"].as_str().unwrap_or_default();
    assert!(shown.starts_with("hmac-sha256:"), "{put}");
    let get =
        seen.iter().find(|record| record["type"] == "response" && record["request"]["operation"] == "read").expect("a read was answered");
    assert_eq!(get["response"]["data"]["data"]["password"], json!(shown), "equal values look equal, asked or answered");
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_record_there_is_no_answer_and_no_change() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    let folder = cluster.folder().join("audit");
    let file = folder.join("audit.log");
    fs::create_dir(&folder).unwrap();
    let client = cluster.client();
    let impossible = cluster.folder().join("none/audit.log");
    let refused = client.sys().audit_enable("no", "file", &[("file_path", impossible.to_str().unwrap())]).await;
    assert_eq!(refused.err().and_then(|error| error.status()), Some(400), "a device that cannot work is not enabled");
    client.sys().audit_enable("file", "file", &[("file_path", file.to_str().unwrap())]).await.unwrap();
    client.kv("secret").put("app", fields(json!({"x": CANARY})), None).await.unwrap();

    // The file's folder becomes a file: nothing can be written below it, by nobody.
    fs::rename(&folder, cluster.folder().join("audit-away")).unwrap();
    fs::write(&folder, "in the way").unwrap();
    cluster.nodes[0].kill();
    cluster.restart(0).await;
    cluster.unseal_everywhere().await;
    refuses(&cluster, "the folder is gone").await;

    fs::remove_file(&folder).unwrap();
    fs::rename(cluster.folder().join("audit-away"), &folder).unwrap();
    recovers(&cluster).await;

    // Deleted under the open file: what is written there is no record for anybody.
    fs::remove_dir_all(&folder).unwrap();
    refuses(&cluster, "the file was deleted").await;
    fs::create_dir(&folder).unwrap();
    recovers(&cluster).await;
    assert!(records(&file).len() >= 4, "it writes to the new file");
    cluster.assert_sound();
}

/// A read that would show the canary, a write and a denial: each gets a 500 and nothing else.
async fn refuses(cluster: &Cluster, when: &str) {
    let port = cluster.nodes[0].api_port;
    let token = format!("X-Vault-Token: {}", cluster.keys().root_token);
    for (line, token, body) in [
        ("GET /v1/secret/data/app", token.as_str(), String::new()),
        ("POST /v1/secret/data/unrecorded", &token, json!({"data": {"x": 1}}).to_string()),
        ("PUT /v1/sys/mounts/unrecorded", &token, json!({"type": "kv", "options": {"version": "2"}}).to_string()),
        ("DELETE /v1/sys/audit/file", &token, String::new()),
        ("PUT /v1/sys/seal", &token, String::new()),
        ("GET /v1/secret/data/app", "X-Vault-Token: hvs.wrong", String::new()),
    ] {
        let answer = request(port, line, &[token], &body);
        assert_eq!(answer.status, 500, "{when}: {line}: {answer:?}");
        assert!(answer.error().contains("no audit device could record") && !answer.body.contains(CANARY), "{when}: {line}: {answer:?}");
    }
    // What needs no token needs no record either: the operator still sees the node.
    assert!(!cluster.client().sys().seal_status().await.unwrap().sealed, "{when}: a refused seal seals nothing");
}

/// With room for records everything goes on by itself, and nothing that was refused has been done.
async fn recovers(cluster: &Cluster) {
    let client = cluster.client();
    let secret =
        tests::eventually("requests are answered again", Duration::from_secs(10), async || client.kv("secret").get("app").await).await;
    assert_eq!(secret.data.expect("it is not deleted").expose()["x"], json!(CANARY));
    let unrecorded = client.kv("secret").get("unrecorded").await.err().expect("a refused write wrote nothing");
    assert!(unrecorded.is_not_found(), "{unrecorded}");
    assert!(!client.sys().mounts().await.unwrap().contains_key("unrecorded/"), "a refused mount mounted nothing");
    assert!(client.sys().audit_devices().await.unwrap().contains_key("file/"), "a refused disabling disabled nothing");
}

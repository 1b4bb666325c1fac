//! Audit: a record of every request and answer, no secret in it; no record, no answer (reference T31, T32, T33, F30).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, kill_process};

use serde_json::{Value, json};
use tests::raw::request;
use tests::{Cluster, fields};

const CANARY: &str = "canary-5c1b8e";

/// The records of requests and answers; those of the journal come when they come.
fn records(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("read {}: {error}", file.display()));
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    records.filter(|record| record["type"] != "journal").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_and_answer_has_its_record_and_no_record_has_a_secret() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    let file = cluster.folder().join("audit.log");
    let client = cluster.client();
    client.sys().audit_enable("file", "file", &[("file_path", file.to_str().unwrap())]).await.unwrap();
    // A device that shows everything, beside it, must not make it show more (CVE-2024-0831).
    let raw = cluster.folder().join("raw.log");
    client.sys().audit_enable("raw", "file", &[("file_path", raw.to_str().unwrap()), ("log_raw", "true")]).await.unwrap();
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
    let text_raw = fs::read_to_string(&raw).unwrap();
    for secret in [CANARY, "918273", "canary-wrong", &cluster.keys().root_token] {
        assert!(!text.contains(secret), "a record shows a secret");
        assert!(text_raw.contains(secret), "it was there to be seen");
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

    // What a record shows can be asked for, also after a restart; and the other device shows something else.
    for _ in 0..2 {
        let hash = |device: &str| {
            let body = json!({ "input": CANARY }).to_string();
            request(port, &format!("POST /v1/sys/audit-hash/{device}"), &[&token], &body).json()["data"]["hash"].clone()
        };
        assert_eq!(hash("file"), json!(shown));
        assert_ne!(hash("raw"), json!(shown));
        cluster.nodes[0].kill();
        cluster.restart(0).await;
        cluster.unseal_everywhere().await;
    }
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

/// Requests of one after another, until told to stop; each was answered. Their number.
async fn load(client: client::Client, stop: tokio::sync::watch::Receiver<bool>) -> usize {
    let mut count = 0;
    while !*stop.borrow() {
        client.kv("secret").get("app").await.unwrap_or_else(|error| panic!("while the file is rotated: {error}"));
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_moved_deleted_or_replaced_loses_no_record() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    let file = cluster.folder().join("audit.log");
    let at = |name: &str| cluster.folder().join(name);
    let client = cluster.client();
    client.kv("secret").put("app", fields(json!({"x": CANARY})), None).await.unwrap();
    client.sys().audit_enable("file", "file", &[("file_path", file.to_str().unwrap())]).await.unwrap();

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut loads = tokio::task::JoinSet::new();
    for _ in 0..4 {
        loads.spawn(load(cluster.client(), stopped.clone()));
    }
    let grown = async |file: &Path| {
        let grows = async || {
            fs::metadata(file).map_err(|error| error.to_string()).and_then(|file| if file.len() > 0 { Ok(()) } else { Err("empty".into()) })
        };
        tests::eventually("records go to the new file", Duration::from_secs(10), grows).await;
    };
    for turn in 0..5 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        fs::rename(&file, at(&format!("audit.log.{turn}"))).unwrap();
        grown(&file).await;
    }
    // As some rotate: a new file is put in the place of the old one.
    fs::write(at("new"), "").unwrap();
    fs::hard_link(&file, at("audit.log.5")).unwrap();
    fs::rename(at("new"), &file).unwrap();
    grown(&file).await;
    stop.send(true).unwrap();
    let requests: usize = loads.join_all().await.into_iter().sum();

    let mut entries: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let rotated = (0..6).map(|turn| at(&format!("audit.log.{turn}")));
    for record in rotated.chain([file.clone()]).flat_map(|file| records(&file)) {
        if record["request"]["path"] == "secret/data/app" {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            entries.entry(text(&record["request"]["id"])).or_default().push(text(&record["type"]));
        }
    }
    assert!(entries.values().all(|types| *types == ["request", "response"]), "each has its pair, in this order");
    assert_eq!(entries.len(), requests);
    assert!(requests > 20, "{requests} requests are too few to show anything");
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_lets_a_moved_file_go() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    let (file, moved) = (cluster.folder().join("audit.log"), cluster.folder().join("audit.log.1"));
    let client = cluster.client();
    client.sys().audit_enable("file", "file", &[("file_path", file.to_str().unwrap())]).await.unwrap();
    client.kv("secret").list("").await.ok();
    let pid = cluster.nodes[0].pid();
    let is_open = |path: &Path| {
        let held = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        held.into_iter().any(|target| target == path)
    };
    fs::rename(&file, &moved).unwrap();
    assert!(is_open(&moved));
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::HUP).unwrap();
    let let_go = async || if is_open(&moved) { Err("it is still open") } else { Ok(()) };
    tests::eventually("the moved file is let go", Duration::from_secs(10), let_go).await;
    client.kv("secret").list("").await.ok();
    assert!(!records(&file).is_empty());
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_hold_records_is_refused_when_it_is_turned_on() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    let folder = cluster.folder().to_owned();
    let port = cluster.nodes[0].api_port;
    let token = format!("X-Vault-Token: {}", cluster.keys().root_token);
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let pipe = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.join("pipe"), pipe).unwrap();
    std::os::unix::fs::symlink(folder.join("target"), folder.join("link")).unwrap();
    fs::write(folder.join("keys"), "ssh-ed25519 AAAA\n").unwrap();
    for (options, says) in [
        (json!({"file_path": at("pipe")}), "not a regular file"),
        (json!({"file_path": at("link")}), "symbolic link"),
        (json!({"file_path": "/dev/null"}), "not a regular file"),
        (json!({"file_path": at("no/folder")}), "No such file"),
        (json!({"file_path": at("keys")}), "holds something else"),
        (json!({"file_path": "discard"}), "keeps no record"),
        (json!({"file_path": "audit.log"}), "absolute path"),
        (json!({"file_path": at("a"), "format": "jsonx"}), "use \"json\""),
        (json!({"file_path": at("a"), "mode": "0777"}), "nobody execute"),
        (json!({"file_path": at("a"), "prefix": "* * * * * root "}), "prefix must be"),
        (json!({"file_path": at("a"), "colour": "red"}), "unknown option"),
    ] {
        let begun = Instant::now();
        let body = json!({"type": "file", "options": options}).to_string();
        let answer = request(port, "PUT /v1/sys/audit/file", &[&token], &body);
        assert_eq!(answer.status, 400, "{options}: {answer:?}");
        assert!(answer.error().contains(says), "{options}: {answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{options}: a pipe without a reader holds nobody");
    }
    assert_eq!(fs::read_to_string(folder.join("keys")).unwrap(), "ssh-ed25519 AAAA\n", "nothing was spoiled");
    assert!(!folder.join("target").exists() && !folder.join("a").exists());
    assert!(cluster.client().sys().audit_devices().await.unwrap().is_empty());
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_devices_is_enough_and_none_is_not() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    let client = cluster.client();
    client.kv("secret").put("app", fields(json!({"x": CANARY})), None).await.unwrap();
    let folders = ["one", "two"].map(|name| cluster.folder().join(name));
    for folder in &folders {
        fs::create_dir(folder).unwrap();
        let name = folder.file_name().unwrap().to_str().unwrap();
        client.sys().audit_enable(name, "file", &[("file_path", folder.join("audit.log").to_str().unwrap())]).await.unwrap();
    }
    client.kv("secret").get("app").await.unwrap();
    fs::remove_dir_all(&folders[0]).unwrap();
    for _ in 0..20 {
        client.kv("secret").get("app").await.unwrap_or_else(|error| panic!("the second one records: {error}"));
    }
    let told = cluster.nodes[0].trace().lines().filter(|line| line.contains("an audit device fails")).count();
    assert_eq!(told, 1, "a device that fails is traced once, not for each record");
    fs::rename(&folders[1], cluster.folder().join("away")).unwrap();
    let refused = client.kv("secret").get("app").await.err().expect("nobody records");
    assert_eq!(refused.status(), Some(500), "{refused}");
    fs::create_dir(&folders[0]).unwrap();
    client.kv("secret").get("app").await.unwrap_or_else(|error| panic!("the first one records again: {error}"));
    assert_eq!(records(&folders[0].join("audit.log")).len(), 2);
    cluster.assert_sound();
}

/// Another process holds the file's lock, so that a write to it hangs, as on a disk that does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_hangs_holds_no_request_for_ever() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    let file = cluster.folder().join("audit.log");
    let client = cluster.client();
    client.kv("secret").put("app", fields(json!({"x": CANARY})), None).await.unwrap();
    client.sys().audit_enable("file", "file", &[("file_path", file.to_str().unwrap())]).await.unwrap();
    client.kv("secret").get("app").await.unwrap();
    let holder = fs::File::open(&file).unwrap();
    rustix::fs::flock(&holder, FlockOperation::LockExclusive).unwrap();
    let port = cluster.nodes[0].api_port;
    let token = format!("X-Vault-Token: {}", cluster.keys().root_token);
    let timed = || {
        let begun = Instant::now();
        let answer = request(port, "GET /v1/secret/data/app", &[&token], "");
        assert!(answer.status == 500 && !answer.body.contains(CANARY), "{answer:?}");
        begun.elapsed()
    };
    let first = timed();
    assert!(first > Duration::from_secs(5) && first < Duration::from_secs(15), "given up after {first:?}");
    for _ in 0..5 {
        let next = timed();
        assert!(next < Duration::from_secs(2), "nobody waits for a device that hangs: {next:?}");
    }
    rustix::fs::flock(&holder, FlockOperation::Unlock).unwrap();
    recovers(&cluster).await;
    cluster.assert_sound();
}

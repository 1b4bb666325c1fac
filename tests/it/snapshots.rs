//! Snapshots: saved while others write, restored in every direction, refused when anything about them is not as it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client::{Client, Method, SecretString};
use serde_json::{Value, json};
use tests::{Cluster, Command, Keys, Load, Output, eventually, fields};

const SEALED_MAX: Duration = Duration::from_secs(20);
const SETTLE_MAX: Duration = Duration::from_secs(30);
/// What `operator snapshot` ends with when a file is not whole.
const BROKEN: i32 = 2;

fn run(cluster: &Cluster, at: usize, args: &str, file: &Path) -> Output {
    Command::new(args).to(&cluster.nodes[at].api_address(), &cluster.keys().root_token).arg(file).run()
}

fn file(cluster: &Cluster, name: &str) -> PathBuf {
    cluster.folder().join(name)
}

async fn put(client: &Client, path: &str, value: &str) {
    client.kv("secret").put(path, fields(json!({ "value": value })), None).await.unwrap_or_else(|error| panic!("put {path}: {error}"));
}

async fn get(client: &Client, path: &str) -> Option<Value> {
    match client.kv("secret").get(path).await {
        Ok(secret) => secret.data.and_then(|data| data.expose().get("value").cloned()),
        Err(error) if error.is_not_found() => None,
        Err(error) => panic!("get {path}: {error}"),
    }
}

/// Each node by itself, so that all have restored.
async fn assert_everywhere(cluster: &Cluster, path: &str, want: Option<&str>) {
    for at in 0..cluster.nodes.len() {
        assert_eq!(get(&cluster.client_at(at), path).await, want.map(Value::from), "{path} at node {at}");
    }
}

async fn token(client: &Client, kind: &str) -> SecretString {
    let body = json!({ "policies": ["root"], "ttl": "1h", "type": kind });
    let body = if kind == "batch" { json!({ "policies": ["reader"], "ttl": "1h", "type": kind }) } else { body };
    let answer =
        client.request(Method::Post, "auth/token/create").body(&body).send().await.unwrap_or_else(|error| panic!("{kind}: {error}"));
    let answer: Value = answer.json().unwrap();
    answer["auth"]["client_token"].as_str().unwrap().to_owned().into()
}

async fn works(client: &Client, token: &SecretString) -> bool {
    let token = SecretString::from(token.expose().to_owned());
    client.with_token(Some(token)).request(Method::Get, "auth/token/lookup-self").send().await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_goes_back_to_what_it_was_and_stays_open() {
    let mut cluster = Cluster::builder().open().await;
    let (client, snapshot) = (cluster.client(), file(&cluster, "a.snap"));
    let policy = json!({ "policy": "path \"auth/token/lookup-self\" { capabilities = [\"read\"] }" });
    client.request(Method::Post, "sys/policies/acl/reader").body(&policy).send().await.unwrap();
    put(&client, "kept", "before").await;
    let early = [token(&client, "service").await, token(&client, "batch").await];

    // Saved at a node that does not lead, while others write: what was acknowledged before is in it.
    let follower = (cluster.leader().await + 1) % 3;
    let load = Load::start(&cluster, 2);
    tokio::time::sleep(Duration::from_millis(500)).await;
    put(&client, "last", "acknowledged").await;
    let saved = run(&cluster, follower, "operator snapshot save -format=json", &snapshot).expect_code(0).json();
    assert_eq!(saved["saved_by"], format!("n{}", follower + 1));
    let report = load.stop().await;
    assert!(report.wrong.is_empty() && report.writes.len() > 10, "{:?}", report.failures_by_text());

    let looked = Command::new("operator snapshot inspect -format=json").arg(&snapshot).run().expect_code(0).json();
    assert_eq!(looked, saved);
    let verified = run(&cluster, 0, "operator raft snapshot verify -online", &snapshot).expect_code(0);
    assert!(verified.stdout.contains("this cluster's own"), "{verified:?}");

    put(&client, "kept", "after").await;
    put(&client, "new", "x").await;
    let late = [token(&client, "service").await, token(&client, "batch").await];
    let term = |client: Client| async move {
        let status: Value = client.request(Method::Get, "sys/key-status").send().await.unwrap().json().unwrap();
        status["data"]["term"].as_u64().unwrap()
    };
    let before = term(client.clone()).await;
    for token in early.iter().chain(&late) {
        assert!(works(&client, token).await);
    }

    // While others write: what is answered before is gone, and what is answered after stays.
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (client, stop) = (client.clone(), Arc::clone(&stop));
        async move {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                put(&client, &format!("during/{number}"), "x").await;
            }
            number
        }
    });
    run(&cluster, follower, "operator snapshot restore", &snapshot).expect_code(0);
    put(&client, "after", "x").await;
    stop.store(true, Ordering::Relaxed);
    let written = writing.await.unwrap();
    assert!(written > 1);
    assert_everywhere(&cluster, &format!("during/{written}"), Some("x")).await;
    assert_everywhere(&cluster, "after", Some("x")).await;
    assert_everywhere(&cluster, "kept", Some("before")).await;
    assert_everywhere(&cluster, "last", Some("acknowledged")).await;
    assert_everywhere(&cluster, "new", None).await;
    assert_eq!(term(client.clone()).await, before + 1, "the keyring was rotated");
    for at in 0..3 {
        let client = cluster.client_at(at);
        assert!(works(&client, &early[0]).await && works(&client, &early[1]).await, "tokens of before");
        assert!(!works(&client, &late[0]).await && !works(&client, &late[1]).await, "tokens of later at node {at}");
        assert!(works(&client, &token(&client, "batch").await).await, "tokens of now");
    }
    let progress = run_progress(&cluster, follower);
    assert_eq!((progress["restore"].clone(), progress["cluster_epoch"].clone()), (Value::Null, json!(1)), "{progress}");
    assert_eq!(progress["last"]["snapshot_id"], saved["id"]);

    // It goes on from there, over a restart of every node and by the same shares.
    put(&client, "kept", "again").await;
    cluster.kill_all();
    for at in 0..3 {
        cluster.restart(at).await;
    }
    cluster.unseal_everywhere().await;
    assert_everywhere(&cluster, "kept", Some("again")).await;
    cluster.assert_sound();
}

fn run_progress(cluster: &Cluster, at: usize) -> Value {
    let args = "operator snapshot progress -format=json";
    Command::new(args).to(&cluster.nodes[at].api_address(), &cluster.keys().root_token).run().expect_code(0).json()["data"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clusters_snapshot_needs_force_and_its_own_shares() {
    let old = Cluster::builder().nodes(3).open().await;
    put(&old.client(), "of/old", "secret").await;
    let snapshot = file(&old, "old.snap");
    run(&old, 2, "operator snapshot save", &snapshot).expect_code(0);
    let old_keys = Keys { shares: old.keys().shares.clone(), root_token: old.keys().root_token.clone() };

    // From three nodes to one.
    let mut single = Cluster::builder().nodes(1).lay_out_beside(&old);
    single.start().await;
    single.init().await;
    single.unseal_everywhere().await;
    let refused = run(&single, 0, "operator snapshot restore", &snapshot).expect_code(2);
    assert!(refused.stderr.contains("another cluster"), "{refused:?}");
    assert!(run(&single, 0, "operator snapshot verify -online", &snapshot).expect_code(BROKEN).stderr.contains("does not authenticate"));
    run(&single, 0, "operator snapshot restore -force", &snapshot).expect_code(0);
    single.await_sealed(&[0], true, SEALED_MAX).await;
    let own_share = single.give_share(0, 0).await;
    assert!(own_share.is_err(), "its own shares open nothing any more");
    single.set_keys(old_keys);
    single.unseal_everywhere().await;
    assert_everywhere(&single, "of/old", Some("secret")).await;
    put(&single.client(), "of/new", "x").await;
    single.nodes[0].kill();
    single.restart(0).await;
    single.unseal_everywhere().await;
    assert_everywhere(&single, "of/new", Some("x")).await;
    single.assert_sound();

    // And from one node to three, of which one is away meanwhile.
    let back = file(&old, "back.snap");
    run(&single, 0, "operator snapshot save", &back).expect_code(0);
    let keys = Keys { shares: single.keys().shares.clone(), root_token: single.keys().root_token.clone() };
    drop(single);
    let mut third = Cluster::builder().nodes(3).lay_out_beside(&old);
    third.start().await;
    third.init().await;
    third.unseal_everywhere().await;
    let leader = third.leader().await;
    let away = (leader + 1) % 3;
    third.nodes[away].kill();
    run(&third, (leader + 2) % 3, "operator snapshot restore -force", &back).expect_code(0);
    let here: Vec<usize> = (0..3).filter(|at| *at != away).collect();
    third.await_sealed(&here, true, SEALED_MAX).await;
    third.set_keys(keys);
    third.unseal_at(&here).await;
    third.restart(away).await;
    third.await_caught_up(away, SETTLE_MAX).await;
    third.unseal_at(&[away]).await;
    assert_everywhere(&third, "of/old", Some("secret")).await;
    assert_everywhere(&third, "of/new", Some("x")).await;
    // Its folder has gone with the cluster.
    third.nodes[away].kill();
    third.restart(away).await;
    third.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_it_was_written_changes_nothing() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    let client = cluster.client();
    put(&client, "a", "before").await;
    let snapshot = file(&cluster, "a.snap");
    run(&cluster, 0, "operator snapshot save", &snapshot).expect_code(0);
    put(&client, "a", "after").await;
    let whole = std::fs::read(&snapshot).unwrap();
    let bad = file(&cluster, "bad.snap");
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let cases = [
        ("empty", Vec::new()),
        ("cut short", whole[..whole.len() / 2].to_vec()),
        ("cut at the end", whole[..whole.len() - 1].to_vec()),
        ("a bit of the state", flipped(whole.len() / 2)),
        ("a bit near the end", flipped(whole.len() - 700)),
        ("a byte more", [&whole[..], &[0]].concat()),
        ("something else", b"{\"a\": 1}".to_vec()),
    ];
    for (what, bytes) in cases {
        std::fs::write(&bad, &bytes).unwrap();
        for args in ["operator snapshot restore", "operator snapshot restore -force"] {
            let refused = run(&cluster, 0, args, &bad);
            assert_eq!(refused.code, Some(2), "{what}: {refused:?}");
        }
        assert_eq!(Command::new("operator snapshot inspect").arg(&bad).run().code, Some(BROKEN), "{what}");
        assert_everywhere(&cluster, "a", Some("after")).await;
    }
    // Who may not, may not, and is refused before anything is read.
    let mut denied = cluster.client();
    let token = token(&denied, "batch").await;
    denied = denied.with_token(Some(token));
    let refused = denied.request(Method::Get, "sys/storage/raft/snapshot").send().await.err().unwrap();
    assert_eq!(refused.status(), Some(403), "{refused}");
    let left = std::fs::read_dir(cluster.nodes[0].data_dir.join("snapshots")).unwrap().count();
    assert!(left <= 1, "temporary files stay");
    run(&cluster, 0, "operator snapshot restore", &snapshot).expect_code(0);
    assert_everywhere(&cluster, "a", Some("before")).await;
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_while_it_restores_leaves_everything_as_it_was() {
    let mut cluster = Cluster::builder().open().await;
    let client = cluster.client();
    // Enough to be caught half-way.
    let value = "x".repeat(300_000);
    for number in 0..30 {
        put(&client, &format!("bulk/{number}"), &value).await;
    }
    let snapshot = file(&cluster, "a.snap");
    run(&cluster, 0, "operator snapshot save", &snapshot).expect_code(0);
    put(&client, "later", "is kept").await;
    let victim = (cluster.leader().await + 1) % 3;
    let (address, token, path) = (cluster.nodes[victim].api_address(), cluster.keys().root_token.clone(), snapshot.clone());
    let restoring = std::thread::spawn(move || Command::new("operator snapshot restore").to(&address, &token).arg(&path).run());
    let other = (victim + 1) % 3;
    let staged = eventually("records are staged", SETTLE_MAX, async || {
        let progress = run_progress(&cluster, other);
        progress["restore"]["staged"].as_u64().filter(|staged| *staged > 2).ok_or_else(|| progress.to_string())
    })
    .await;
    cluster.nodes[victim].kill();
    restoring.join().unwrap().expect_code(2);
    assert!(staged > 2);
    assert_eq!(get(&cluster.client_at(other), "later").await, Some("is kept".into()));
    // What is left keeps the next one waiting until it is old, or until it is cancelled.
    let busy = run(&cluster, other, "operator snapshot restore", &snapshot).expect_code(2);
    assert!(busy.stderr.contains("restoring a snapshot now"), "{busy:?}");
    Command::new("operator snapshot cancel").to(&cluster.nodes[other].api_address(), &cluster.keys().root_token).run().expect_code(0);
    assert_eq!(run_progress(&cluster, other)["restore"], Value::Null);
    assert_eq!(get(&cluster.client_at(other), "later").await, Some("is kept".into()));
    run(&cluster, other, "operator snapshot restore", &snapshot).expect_code(0);
    assert_eq!(get(&cluster.client_at(other), "later").await, None);
    cluster.restart(victim).await;
    cluster.unseal_at(&[victim]).await;
    assert_everywhere(&cluster, "later", None).await;
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn scheduled_snapshots_are_kept_pruned_and_tried() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    let client = cluster.client();
    put(&client, "a", "x").await;
    let folder = file(&cluster, "backups");
    let name = "sys/storage/raft/snapshot-auto/config/often";
    let config = json!({ "interval": "1s", "retain": 2, "path_prefix": folder, "file_prefix": "often", "storage_type": "local",
        "local_max_space": 100_000_000 });
    client.request(Method::Post, name).body(&config).send().await.unwrap_or_else(|error| panic!("{error}"));
    let files = || {
        let mut names: Vec<_> =
            std::fs::read_dir(&folder).map(|folder| folder.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default();
        names.sort();
        names
    };
    let status = async || {
        let answer = client.request(Method::Get, "sys/storage/raft/snapshot-auto/status/often").send().await.unwrap();
        answer.json::<Value>().unwrap()["data"].clone()
    };
    let first = eventually("a snapshot is there", SETTLE_MAX, async || files().first().cloned().ok_or("no file")).await;
    eventually("older ones go", SETTLE_MAX, async || if first.exists() { Err("it is still there") } else { Ok(()) }).await;
    assert!(files().len() <= 3, "two, and one that is written: {:?}", files());
    let told = eventually("a drill was good", SETTLE_MAX, async || {
        let told = status().await;
        if told["last_restorable_snapshot"].is_string() { Ok(told) } else { Err(told.to_string()) }
    })
    .await;
    assert_eq!((told["last_snapshot_error"].clone(), told["last_drill_error"].clone()), (json!(""), json!("")), "{told}");
    let metrics = client.request(Method::Get, "sys/metrics").query("format", "prometheus").send().await.unwrap();
    let metrics = String::from_utf8_lossy(metrics.body()).into_owned();
    let restorable = metrics.lines().find(|line| line.starts_with("conclave_snapshot_last_restorable_timestamp_seconds ")).unwrap();
    assert!(restorable.split(' ').nth(1).unwrap().parse::<f64>().unwrap() > 1.7e9, "{restorable}");

    // No more of them: the newest is damaged, and a drill says so.
    let config = json!({ "interval": "100h", "retain": 2, "path_prefix": folder, "file_prefix": "often", "storage_type": "local",
        "local_max_space": 100_000_000, "drill": false });
    client.request(Method::Post, name).body(&config).send().await.unwrap();
    let drill = || Command::new("operator snapshot drill often").to(&cluster.nodes[0].api_address(), &cluster.keys().root_token).run();
    eventually("the last one was taken", SETTLE_MAX, async || {
        let next = status().await["next_snapshot_start"].as_str().map(str::to_owned);
        let told = status().await["last_snapshot_end"].as_str().map(str::to_owned);
        if next > told.clone().map(|told| format!("{told}~")) || next.as_deref() > told.as_deref() {
            Ok(())
        } else {
            Err(format!("{next:?} {told:?}"))
        }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    drill().expect_code(0);
    let newest = files().last().cloned().unwrap();
    run(&cluster, 0, "operator snapshot verify -online", &newest).expect_code(0);
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 8;
    std::fs::write(&newest, bytes).unwrap();
    let broken = drill().expect_code(BROKEN);
    assert!(broken.stderr.contains("could not be restored"), "{broken:?}");
    assert!(status().await["last_drill_error"].as_str().unwrap().contains("often-"), "{}", status().await);

    // One that does not fit is an error that is told, and not a file.
    let config = json!({ "interval": "1s", "path_prefix": folder, "file_prefix": "often", "storage_type": "local", "local_max_space": 1 });
    client.request(Method::Post, name).body(&config).send().await.unwrap();
    eventually("the error is told", SETTLE_MAX, async || {
        let told = status().await;
        if told["last_snapshot_error"].as_str().is_some_and(|error| error.contains("local_max_space")) {
            Ok(())
        } else {
            Err(told.to_string())
        }
    })
    .await;
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_secret_or_folder_comes_out_of_a_snapshot_and_all_else_stays() {
    let mut cluster = Cluster::builder().open().await;
    let client = cluster.client();
    for value in ["one", "two"] {
        put(&client, "team/a", value).await;
    }
    put(&client, "team/b", "canary-value").await;
    put(&client, "other", "before").await;
    let snapshot = file(&cluster, "a.snap");
    run(&cluster, 0, "operator snapshot save", &snapshot).expect_code(0);
    client.request(Method::Delete, "secret/metadata/team/a").send().await.unwrap();
    client.request(Method::Delete, "secret/metadata/team/b").send().await.unwrap();
    put(&client, "other", "after").await;
    put(&client, "later", "x").await;

    let preview = run(&cluster, 1, "operator snapshot extract -path=secret/team/ -preview -format=json", &snapshot).expect_code(0);
    assert!(!preview.stdout.contains("canary-value"), "values are shown");
    let told = preview.json()["data"].clone();
    assert_eq!((told["applied"].clone(), told["count"].clone()), (json!(false), json!(2)), "{told}");
    assert_eq!(told["secrets"][0]["metadata"]["current_version"], 2, "{told}");
    assert_eq!(get(&client, "team/a").await, None, "a preview writes nothing");

    run(&cluster, 1, "operator snapshot extract -path=secret/team/", &snapshot).expect_code(0);
    assert_everywhere(&cluster, "team/a", Some("two")).await;
    assert_everywhere(&cluster, "team/b", Some("canary-value")).await;
    assert_everywhere(&cluster, "other", Some("after")).await;
    assert_everywhere(&cluster, "later", Some("x")).await;
    let first = client.kv("secret").get_version("team/a", 1).await.unwrap();
    assert_eq!(first.data.unwrap().expose()["value"], "one", "with its history");

    let again = run(&cluster, 2, "operator snapshot extract -path=secret/team/", &snapshot).expect_code(2);
    assert!(again.stderr.contains("at the target already"), "{again:?}");
    run(&cluster, 2, "operator snapshot extract -path=secret/team/a -version=1", &snapshot).expect_code(0);
    assert_everywhere(&cluster, "team/a", Some("one")).await;
    assert_eq!(client.kv("secret").get("team/a").await.unwrap().version.number, 3, "as a new version");
    run(&cluster, 0, "operator snapshot extract -path=secret/other -to=secret/elsewhere", &snapshot).expect_code(0);
    assert_everywhere(&cluster, "elsewhere", Some("before")).await;
    run(&cluster, 0, "operator snapshot extract -path=secret/none", &snapshot).expect_code(2);

    // Sudo on the endpoint is not enough: the target needs the right to write, the source sudo.
    let policy = json!({ "policy": "path \"sys/storage/raft/snapshot-extract\" { capabilities = [\"update\", \"sudo\"] }" });
    client.request(Method::Post, "sys/policies/acl/extractor").body(&policy).send().await.unwrap();
    let body = json!({ "policies": ["extractor"], "ttl": "1h" });
    let answer: Value = client.request(Method::Post, "auth/token/create").body(&body).send().await.unwrap().json().unwrap();
    let limited = answer["auth"]["client_token"].as_str().unwrap();
    let args = "operator snapshot extract -path=secret/team/a -overwrite";
    let refused = Command::new(args).to(&cluster.nodes[0].api_address(), limited).arg(&snapshot).run();
    assert!(refused.code == Some(2) && refused.stderr.contains("permission denied"), "{refused:?}");
    let left: Vec<_> = std::fs::read_dir(&cluster.nodes[0].data_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("extract")), "{left:?}");
    cluster.assert_sound();
}

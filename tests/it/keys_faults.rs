//! A kill at each step of a rekey and of a rotation: afterwards the old shares or the new ones open the cluster, never neither.
//!
//! strace attaches to the node that is asked, and kills it when one of its threads enters its N-th sync; N grows until the act is done
//! before that.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::raw::{Answer, request};
use tests::{Cluster, Keys, THRESHOLD, eventually, fields};

const OPEN_MAX: Duration = Duration::from_secs(30);
const ATTACH_MAX: Duration = Duration::from_secs(10);
/// No act takes so many.
const SYNCS_MAX: usize = 200;

/// With this value of `CONCLAVE_TEST_NEEDS`, what the machine does not allow is passed over.
fn has_strace() -> bool {
    let runs = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    let skipped = std::env::var_os("CONCLAVE_TEST_NEEDS").is_some_and(|value| value == "none");
    assert!(runs || skipped, "strace is not there (install it; CONCLAVE_TEST_NEEDS=none passes this test over)");
    if !runs {
        eprintln!("skipped: strace is not there");
    }
    runs
}

/// strace, attached to a node.
struct Killer(Child);

impl Killer {
    /// The node dies as soon as one of its threads enters its `step`-th sync from now on.
    fn attach(pid: u32, step: usize) -> Killer {
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync"])
            .args(["-e", &format!("inject=fdatasync,fsync:signal=KILL:when={step}"), "-p", &pid.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .expect("strace starts");
        let killer = Killer(child);
        let deadline = Instant::now() + ATTACH_MAX;
        let own = format!("TracerPid:\t{}", killer.0.id());
        // Every thread, or one could sync unseen.
        let is_attached = || {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            tasks.map(|task| std::fs::read_to_string(task.path().join("status")).unwrap_or_default()).all(|status| status.contains(&own))
        };
        while !is_attached() {
            assert!(Instant::now() < deadline, "strace does not attach to {pid} (that takes root)");
            std::thread::sleep(Duration::from_millis(5));
        }
        killer
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks one node, with the root token.
fn ask(cluster: &Cluster, at: usize, line: &str, body: &Value) -> Answer {
    let (method, path) = line.split_once(' ').expect("METHOD path");
    let token = format!("X-Vault-Token: {}", cluster.keys().root_token);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    request(cluster.nodes[at].api_port, &format!("{method} /v1/sys/{path}"), &[&token], &body)
}

/// The answer, unless the node died over it.
fn answered(cluster: &Cluster, at: usize, line: &str, body: &Value) -> Option<Value> {
    let answer = ask(cluster, at, line, body);
    match answer.status {
        200 | 204 => Some(answer.json()),
        0 | 500.. => None,
        _ => panic!("{line}: {answer:?}"),
    }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().expect("a list").iter().map(|text| text.as_str().expect("texts").to_owned()).collect()
}

/// How far a rekey came.
struct Rekeyed {
    /// As the operators got them.
    new: Option<Vec<String>>,
    is_done: bool,
}

fn rekey(cluster: &Cluster, at: usize) -> Rekeyed {
    let mut rekeyed = Rekeyed { new: None, is_done: false };
    let mut walk = || -> Option<()> {
        let started = answered(cluster, at, "PUT rekey/init", &json!({ "secret_shares": 5, "secret_threshold": THRESHOLD }))?;
        let nonce = &started["nonce"];
        let mut last = Value::Null;
        for share in &cluster.keys().shares[..THRESHOLD as usize] {
            last = answered(cluster, at, "PUT rekey/update", &json!({ "key": share, "nonce": nonce }))?;
        }
        let new = texts(&last["keys_base64"]);
        rekeyed.new = Some(new.clone());
        for share in &new[..THRESHOLD as usize] {
            answered(cluster, at, "PUT rekey/verify", &json!({ "key": share, "nonce": last["verification_nonce"] }))?;
        }
        Some(())
    };
    let is_done = walk().is_some();
    Rekeyed { is_done, ..rekeyed }
}

/// Enters a quorum of these. False, and nothing was entered, when they are of no split that counts.
async fn opens(cluster: &Cluster, shares: &[String]) -> bool {
    for (place, share) in shares[..THRESHOLD as usize].iter().enumerate() {
        let at = place % cluster.nodes.len();
        let is_known = eventually("a share is taken or refused", OPEN_MAX, async || {
            let answer = ask(cluster, at, "PUT unseal", &json!({ "key": share }));
            match answer.status {
                200 => Ok(true),
                400 if answer.error().contains("earlier split") => Ok(false),
                400 if answer.error().contains("entered already") => Ok(true),
                _ => Err(format!("{answer:?}")),
            }
        })
        .await;
        if !is_known {
            assert_eq!(place, 0, "some shares of one split are known, and some are not");
            return false;
        }
    }
    let all: Vec<usize> = (0..cluster.nodes.len()).collect();
    cluster.await_sealed(&all, false, OPEN_MAX).await;
    true
}

async fn restart_all(cluster: &mut Cluster) {
    cluster.kill_all();
    for at in 0..cluster.nodes.len() {
        cluster.nodes[at].start();
    }
    for at in 0..cluster.nodes.len() {
        cluster.await_answer(at).await;
    }
}

async fn secret_is_there(cluster: &Cluster) {
    eventually("the secret is read", OPEN_MAX, async || cluster.client().kv("secret").get("x").await.map(drop)).await;
}

fn has_ended(cluster: &mut Cluster, at: usize) -> bool {
    // The process is gone a moment after its last answer.
    let deadline = Instant::now() + Duration::from_secs(2);
    while cluster.nodes[at].is_running() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

async fn rekey_is_killed_at_each_step(nodes: usize) {
    if !has_strace() {
        return;
    }
    let mut cluster = Cluster::builder().nodes(nodes).open().await;
    cluster.client().kv("secret").put("x", fields(json!({"a": 1})), None).await.unwrap();
    let mut outcomes = BTreeSet::new();
    for step in 1..SYNCS_MAX {
        let at = cluster.leader().await;
        let killer = Killer::attach(cluster.nodes[at].pid(), step);
        let rekeyed = rekey(&cluster, at);
        let was_killed = !rekeyed.is_done && has_ended(&mut cluster, at);
        drop(killer);
        assert!(was_killed || rekeyed.is_done, "step {step}: the rekey ended, but nobody killed the node:\n{}", cluster.nodes[at].tail());

        restart_all(&mut cluster).await;
        let old = cluster.keys().shares.clone();
        // Where both open it, each gets its turn.
        let prefers_new = step % 2 == 0;
        let by_new = match &rekeyed.new {
            Some(new) if prefers_new => opens(&cluster, new).await || !assert_opens(&cluster, &old, step).await,
            Some(new) => !opens(&cluster, &old).await && assert_opens(&cluster, new, step).await,
            None => !assert_opens(&cluster, &old, step).await,
        };
        assert!(by_new || !rekeyed.is_done, "step {step}: the new shares came back, and the old ones still open it");
        secret_is_there(&cluster).await;
        println!("step {step}: opened by the {} shares", if by_new { "new" } else { "old" });
        outcomes.insert(by_new);
        if by_new {
            let new = rekeyed.new.expect("they opened it");
            eventually("the new shares are in force", OPEN_MAX, async || {
                let answer = ask(&cluster, 0, "PUT verify-share", &json!({ "key": old[0] }));
                if answer.error().contains("earlier split") { Ok(()) } else { Err(format!("{answer:?}")) }
            })
            .await;
            let root_token = cluster.keys().root_token.clone();
            cluster.set_keys(Keys { shares: new, root_token });
        }
        // A rekey that was under way is still, for any node to go on with or to give up.
        eventually("an attempt that was left is cancelled", OPEN_MAX, async || match ask(&cluster, 0, "DELETE rekey/init", &Value::Null) {
            answer if matches!(answer.status, 200 | 204) => Ok(()),
            answer => Err(format!("{answer:?}")),
        })
        .await;
        if rekeyed.is_done {
            break;
        }
        assert!(step + 1 < SYNCS_MAX, "the rekey was never done");
    }
    assert_eq!(outcomes.len(), 2, "the kills came all before or all after the new shares");
    restart_all(&mut cluster).await;
    assert_opens(&cluster, &cluster.keys().shares.clone(), 0).await;
    cluster.assert_sound();
}

/// They must. True, for a sentence.
async fn assert_opens(cluster: &Cluster, shares: &[String], step: usize) -> bool {
    assert!(opens(cluster, shares).await, "step {step}: neither the old nor the new shares open the cluster");
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_killed_at_each_step_of_a_rekey_opens_by_the_old_shares_or_the_new() {
    rekey_is_killed_at_each_step(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_of_which_one_is_killed_at_each_step_of_a_rekey_open_by_the_old_shares_or_the_new() {
    rekey_is_killed_at_each_step(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_at_each_step_of_a_rotation_opens_and_reads_what_was_written_before() {
    if !has_strace() {
        return;
    }
    let mut cluster = Cluster::builder().nodes(1).open().await;
    cluster.client().kv("secret").put("x", fields(json!({"a": 1})), None).await.unwrap();
    let shares = cluster.keys().shares.clone();
    let version = |cluster: &Cluster| ask(cluster, 0, "GET key-status", &Value::Null).json()["data"]["term"].as_u64().expect("a version");
    for step in 1..SYNCS_MAX {
        let before = version(&cluster);
        let killer = Killer::attach(cluster.nodes[0].pid(), step);
        let is_done = answered(&cluster, 0, "PUT rotate", &Value::Null).is_some();
        let was_killed = !is_done && has_ended(&mut cluster, 0);
        drop(killer);
        assert!(was_killed || is_done, "step {step}: neither rotated nor killed:\n{}", cluster.nodes[0].tail());
        restart_all(&mut cluster).await;
        assert_opens(&cluster, &shares, step).await;
        secret_is_there(&cluster).await;
        let after = version(&cluster);
        println!("step {step}: version {before}, then {after}");
        assert!(after == before + 1 || (after == before && !is_done), "step {step}: version {before}, then {after}");
        // And it goes on under whichever key is the newest.
        let written = cluster.client().kv("secret").put(&format!("step-{step}"), fields(json!({"a": step})), None).await;
        written.unwrap_or_else(|error| panic!("step {step}: {error}"));
        if is_done {
            return cluster.assert_sound();
        }
    }
    panic!("the rotation was never done: more than {SYNCS_MAX} syncs");
}

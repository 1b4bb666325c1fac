//! Nodes that lose what they had, or find it damaged: they come back by themselves, without a vote until they have caught up, and
//! nothing acknowledged is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tests::{Cluster, Load, eventually};
use tokio::time::sleep;

const CAUGHT_UP_MAX: Duration = Duration::from_secs(20);
const CAUGHT_UP: &str = "caught up: this node votes again";

/// Waits until the trace of a node says so for the `times`th time.
async fn await_trace(cluster: &Cluster, at: usize, text: &str, times: usize) {
    let node = &cluster.nodes[at];
    eventually(&format!("{} says {text:?}", node.id), CAUGHT_UP_MAX, async || {
        let said = node.trace().matches(text).count();
        if said >= times { Ok(()) } else { Err(format!("{said} times")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_comes_back_by_itself_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::builder().open().await;
    let leader = cluster.leader().await;
    let (wiped, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let load = Load::start(&cluster, 2);
    sleep(Duration::from_secs(1)).await;
    cluster.nodes[wiped].kill();
    fs::remove_dir_all(&cluster.nodes[wiped].data_dir).unwrap();
    cluster.restart(wiped).await;
    await_trace(&cluster, wiped, CAUGHT_UP, 1).await;
    let report = load.stop().await;
    assert!(cluster.nodes[wiped].trace().contains("this node has lost its folder"));
    assert!(cluster.nodes[leader].is_running() && cluster.leader().await == leader, "the leader takes no harm");
    cluster.await_caught_up(wiped, CAUGHT_UP_MAX).await;
    cluster.unseal_at(&[wiped]).await;
    report.assert_all_kept(&cluster.client_at(wiped)).await;
    // It counts again: the two of them go on without the leader.
    cluster.nodes[leader].kill();
    eventually("the other two go on", CAUGHT_UP_MAX, async || {
        cluster
            .client_at(other)
            .kv("secret")
            .put("after", tests::fields(json!({ "a": "b" })), None)
            .await
            .map_err(|error| error.to_string())
    })
    .await;
    report.assert_all_kept(&cluster.client_at(other)).await;
    cluster.restart(leader).await;
    cluster.assert_sound();
}

/// Turns one bit of `file` over at each of `offsets`.
fn flip(file: &Path, offsets: impl IntoIterator<Item = usize>) {
    let mut content = fs::read(file).unwrap();
    for offset in offsets {
        if let Some(byte) = content.get_mut(offset) {
            *byte ^= 1 << (offset % 8);
        }
    }
    fs::write(file, content).unwrap();
}

fn first_in(folder: &Path, suffix: &str) -> PathBuf {
    let mut found: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.to_string_lossy().ends_with(suffix));
    found.sort();
    found.into_iter().next().unwrap_or_else(|| panic!("no {suffix} in {}", folder.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_any_file_is_named_and_the_node_is_rebuilt_from_its_peers() {
    let mut cluster = Cluster::builder().open().await;
    let load = Load::start(&cluster, 2);
    sleep(Duration::from_secs(1)).await;
    let report = load.stop().await;
    let victim = (cluster.leader().await + 1) % 3;
    let mut caught_up = 0;
    for (file, is_rebuilt) in [("log/1", true), ("identity", true), ("table.redb", false), ("log/durable", false)] {
        cluster.nodes[victim].kill();
        let data = cluster.nodes[victim].data_dir.clone();
        let before = cluster.nodes[victim].trace().len();
        let damaged = match file {
            "log/1" => first_in(&data.join("log"), ".log"),
            name => data.join(name),
        };
        match file {
            // A page that is in use: which one that is only redb knows.
            "table.redb" => {
                let length = fs::metadata(&damaged).unwrap().len() as usize;
                flip(&damaged, (4096..length).step_by(4096).map(|page| page + 33));
            }
            _ => flip(&damaged, [if file == "log/1" { 200 } else { 20 }]),
        }
        cluster.restart(victim).await;
        let said = cluster.nodes[victim].trace()[before..].to_owned();
        let name = damaged.file_name().unwrap().to_string_lossy().into_owned();
        assert!(said.contains(&name), "{file}: {said}");
        if is_rebuilt {
            caught_up += 1;
            await_trace(&cluster, victim, CAUGHT_UP, caught_up).await;
        }
        if file != "log/durable" {
            assert!(said.contains("aside"), "{file}: {said}");
            assert!(data.join("quarantine").is_dir(), "{file}");
        }
        cluster.await_caught_up(victim, CAUGHT_UP_MAX).await;
        cluster.unseal_at(&[victim]).await;
        report.assert_all_kept(&cluster.client_at(victim)).await;
    }
    let check = tests::Command::new("operator check -format=json").to(&cluster.nodes[0].api_address(), &cluster.keys().root_token).run();
    let data = check.expect_code(0).json();
    assert_eq!(data["data"]["equal"], true, "{data}");
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_refuses_to_start_on_a_damaged_log_and_changes_nothing() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    cluster.nodes[0].kill();
    let log = first_in(&cluster.nodes[0].data_dir.join("log"), ".log");
    let before = fs::read(&log).unwrap();
    flip(&log, [200]);
    cluster.nodes[0].start();
    assert!(!cluster.nodes[0].wait(CAUGHT_UP_MAX).success());
    let trace = cluster.nodes[0].trace();
    for said in ["is corrupt at byte", "there is no peer to rebuild it from"] {
        assert!(trace.contains(said), "{trace}");
    }
    // Put back from a copy, it goes on.
    fs::write(&log, before).unwrap();
    cluster.restart(0).await;
}

//! Canaries: what was stored, as value or as name, is in no file and no trace (reference T1, T24).

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use client::{Client, Method, SecretString};
use serde_json::{Map, Value, json};
use tests::raw::request;
use tests::{Cluster, fields};
use tokio::task::JoinSet;

const SECRETS: usize = 1_000;
const WRITES_AT_ONCE: usize = 16;
/// Letters and digits, so that JSON and URLs show them as they are.
const CANARY_CHARS: usize = 24;
const CATCH_UP_MAX: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_canaries_are_in_no_file_and_in_no_trace() {
    // Openraft sees ciphertext only, and at "debug" tells each of its steps: 100 MB in this test.
    let mut cluster = Cluster::builder().log_level("debug,openraft=info").open().await;
    let mut search = Search::default();
    let mut canary = |what: &str| {
        let canary = random_text();
        search.add(what, canary.as_bytes());
        canary
    };

    let mounts = [canary("a mount's path"), canary("a mount's path")];
    for mount in &mounts {
        cluster.mount(mount).await;
    }
    let mut tasks = JoinSet::new();
    let mut paths = Vec::new();
    for at in 0..SECRETS {
        let mount = mounts[at % 2].clone();
        let path = format!("{}/{}", canary("a folder's name"), canary("a secret's name"));
        let data = Map::from_iter([(canary("a field's name"), Value::from(canary("a value")))]);
        paths.push((mount.clone(), path.clone()));
        // Every way in: each node, HTTP and gRPC.
        let client = cluster.client_at(at % 3);
        if tasks.len() == WRITES_AT_ONCE {
            tasks.join_next().await.unwrap().unwrap();
        }
        tasks.spawn(async move {
            let written = match at % 4 {
                0 => client.kv_grpc(&mount).put(&path, data.into(), None).await.map(drop),
                _ => client.kv(&mount).put(&path, data.into(), None).await.map(drop),
            };
            written.unwrap_or_else(|error| panic!("write secret {at}: {error}"));
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let keys = cluster.keys();
    search.add("the root token", keys.root_token.as_bytes());
    for share in &keys.shares {
        search.add("a share's text", share.as_bytes());
        search.add("a share's bytes", &STANDARD.decode(share).unwrap()[2..]);
    }
    mishaps(&cluster, &mut canary_of(&mut search)).await;

    // The search finds what is there, in each of its forms; and there was something to search.
    search.assert_it_works(cluster.folder());
    for at in 0..3 {
        cluster.await_caught_up(at, CATCH_UP_MAX).await;
    }
    search.assert_absent(&cluster, "while the nodes run");

    cluster.kill_all();
    search.assert_absent(&cluster, "after kill -9 of every node");

    // Recovery, reads, deletion and an orderly stop write files too.
    for at in 0..3 {
        cluster.nodes[at].start();
        cluster.await_answer(at).await;
    }
    cluster.unseal_everywhere().await;
    read_and_delete(&cluster.client(), &paths[..SECRETS / 5]).await;
    cluster.client().sys().seal().await.unwrap();
    search.assert_absent(&cluster, "after seal");
    for node in &mut cluster.nodes {
        node.terminate();
        assert_eq!(tokio::task::block_in_place(|| node.wait(Duration::from_secs(30))).code(), Some(0));
    }
    search.assert_absent(&cluster, "after an orderly stop");
}

fn canary_of(search: &mut Search) -> impl FnMut(&str) -> String + '_ {
    |what| {
        let canary = random_text();
        search.add(what, canary.as_bytes());
        canary
    }
}

/// Requests that fail, each with a canary where it hurts.
async fn mishaps(cluster: &Cluster, canary: &mut impl FnMut(&str) -> String) {
    for (at, node) in cluster.nodes.iter().enumerate() {
        let token = format!("X-Vault-Token: {}", cluster.keys().root_token);
        let ask = |line: String, headers: &[&str], body: &str| request(node.api_port, &line, headers, body).status;
        let wrong = format!("X-Vault-Token: hvs.{}", canary("a wrong token"));
        assert_eq!(ask(format!("GET /v1/secret/data/{}", canary("a denied path")), &[&wrong], ""), 403);
        assert_eq!(ask("POST /v1/secret/data/a".into(), &[&token], &format!("{{\"data\":{{\"x\":\"{}", canary("a torn body"))), 400);
        assert_eq!(ask("POST /v1/secret/data/a".into(), &[&token], &json!({"data": canary("data of another kind")}).to_string()), 400);
        assert_eq!(ask(format!("GET /v1/{}/x", canary("an unknown mount")), &[&token], ""), 404);
        assert_eq!(ask(format!("GET /v1/secret/{}/x", canary("an unknown route")), &[&token], ""), 404);
        assert_eq!(ask(format!("GET /v1/secret/data/../{}", canary("a path that is refused")), &[&token], ""), 400);
        assert_eq!(ask(format!("GET /v1/secret/data/a?version={}", canary("a query")), &[&token], ""), 400);
        assert_eq!(ask("PUT /v1/sys/unseal".into(), &[], &json!({"key": canary("a wrong share")}).to_string()), 400);
        let stale =
            cluster.client_at(at).kv("secret").put(&canary("a path of a conflict"), fields(json!({"x": canary("a value")})), Some(7)).await;
        assert_eq!(stale.err().and_then(|error| error.status()), Some(400));
        let late = cluster.client_at(at).sys().unseal(&SecretString::from(cluster.keys().shares[4].clone())).await;
        assert!(late.is_ok(), "a share for an open node does nothing");
        let long = canary("a long path").repeat(60);
        assert_eq!(ask(format!("GET /v1/secret/data/{long}"), &[&token], ""), 400);
    }
}

async fn read_and_delete(client: &Client, paths: &[(String, String)]) {
    for (mount, path) in paths {
        client.kv(mount).get(path).await.unwrap_or_else(|error| panic!("a secret is gone: {error}"));
        client.kv(mount).delete_metadata(path).await.unwrap();
    }
    let listed = client.request(Method::List, &format!("{}/metadata", paths[0].0)).send().await.unwrap();
    assert!(listed.data::<Map<String, Value>>().unwrap()["keys"].as_array().is_some_and(|keys| !keys.is_empty()));
}

fn random_text() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    // Two keys of 128 bits from the system for each state; 64 bits of each hash.
    let bits = [RandomState::new().hash_one(0), RandomState::new().hash_one(1)];
    let bits = (u128::from(bits[0]) << 64) | u128::from(bits[1]);
    (0..CANARY_CHARS).map(|at| char::from(LETTERS[(bits >> (5 * at)) as usize % LETTERS.len()])).collect()
}

/// Finds any of many canaries in any of many forms, in one pass over each file.
#[derive(Default)]
struct Search {
    /// By their first eight bytes: what, in which form, and all its bytes.
    needles: HashMap<u64, Vec<(String, Vec<u8>)>>,
    /// True at the slot of each needle's first eight bytes: keeps almost every other place out of the map.
    slots: Vec<bool>,
    /// How much of each trace was searched already.
    searched: HashMap<PathBuf, usize>,
}

/// More than the longest form of a canary.
const OVERLAP_BYTES: usize = 1024;

/// Slots are numbered by this many bits.
const SLOT_BITS: u32 = 22;

/// Spreads eight bytes over the slots (Fibonacci hashing).
fn slot(eight: u64) -> usize {
    (eight.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOT_BITS)) as usize
}

impl Search {
    fn add(&mut self, what: &str, canary: &[u8]) {
        self.slots.resize(1 << SLOT_BITS, false);
        for (form, needle) in forms(canary) {
            let first = u64::from_be_bytes(needle[..8].try_into().expect("each form of a canary is longer than 8 bytes"));
            self.slots[slot(first)] = true;
            self.needles.entry(first).or_default().push((format!("{what}, as {form}"), needle));
        }
    }

    /// Plain steps, as this runs over hundreds of megabytes without optimisation.
    fn find(&self, bytes: &[u8]) -> Option<&str> {
        let mut eight = 0_u64;
        let mut next = 0;
        while next < bytes.len() {
            eight = eight << 8 | u64::from(bytes[next]);
            next += 1;
            if self.slots[slot(eight)] && next >= 8 {
                let needles = self.needles.get(&eight).map(Vec::as_slice).unwrap_or_default();
                if let Some((what, _)) = needles.iter().find(|(_, needle)| bytes[next - 8..].starts_with(needle)) {
                    return Some(what);
                }
            }
        }
        None
    }

    /// A search that finds nothing proves nothing: each needle is found when it is there.
    fn assert_it_works(&self, folder: &Path) {
        let file = folder.join("planted");
        for (what, needle) in self.needles.values().flatten() {
            let mut planted = b"\x17\0some bytes before".to_vec();
            planted.extend_from_slice(needle);
            planted.push(0xfe);
            assert!(self.find(&planted).is_some(), "{what} is not found where it is");
        }
        fs::write(&file, self.needles.values().flatten().next().map(|(_, needle)| needle.clone()).unwrap()).unwrap();
        assert!(self.find(&fs::read(&file).unwrap()).is_some());
        fs::remove_file(file).unwrap();
    }

    fn assert_absent(&mut self, cluster: &Cluster, when: &str) {
        let (mut count, mut bytes) = (0, 0);
        for node in &cluster.nodes {
            let mut files = files_below(&node.data_dir);
            assert!(files.len() >= 3, "{} has a log, a table and an identity: {files:?}", node.id);
            files.push(node.trace_file());
            for file in files {
                // A file may go while the node runs.
                let Ok(mut content) = fs::read(&file) else { continue };
                if file == node.trace_file() {
                    // Traces only grow: what was searched is not searched again, but for a piece that a canary may begin in.
                    let searched = self.searched.insert(file.clone(), content.len()).unwrap_or(0);
                    content.drain(..searched.saturating_sub(OVERLAP_BYTES));
                }
                let name = file.to_string_lossy().into_owned();
                for searched in [name.as_bytes(), &content] {
                    if let Some(what) = self.find(searched) {
                        panic!("{when}: {} holds {what}", file.display());
                    }
                }
                (count, bytes) = (count + 1, bytes + content.len());
            }
            let trace = node.trace();
            assert!(trace.contains("DEBUG"), "the traces were at debug level");
            assert!(!trace.contains("panicked at"), "{} has panicked", node.id);
        }
        println!("{when}: no canary in {count} files of {bytes} bytes");
    }
}

/// As it is, backwards, in hex, in base64 at each alignment, and in UTF-16.
fn forms(canary: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let hex: String = canary.iter().map(|byte| format!("{byte:02x}")).collect();
    let reversed: Vec<u8> = canary.iter().rev().copied().collect();
    let utf16 = |bytes: &[u8], order: fn(u16) -> [u8; 2]| bytes.iter().flat_map(|&byte| order(u16::from(byte))).collect::<Vec<u8>>();
    let mut forms = vec![
        ("it is", canary.to_vec()),
        ("it is, backwards", reversed.clone()),
        ("hex", hex.clone().into_bytes()),
        ("upper-case hex", hex.to_uppercase().into_bytes()),
        ("UTF-16, little end first", utf16(canary, u16::to_le_bytes)),
        ("UTF-16, big end first", utf16(canary, u16::to_be_bytes)),
        ("UTF-16, backwards", utf16(&reversed, u16::to_le_bytes)),
    ];
    for lead in 0..3 {
        let mut shifted = vec![0; lead];
        shifted.extend_from_slice(canary);
        for (name, engine) in [("base64", STANDARD), ("URL-safe base64", URL_SAFE)] {
            // The first and the last characters also hold bits of the neighbours.
            let encoded = engine.encode(&shifted).into_bytes();
            forms.push((name, encoded[(lead * 8).div_ceil(6)..shifted.len() * 8 / 6].to_vec()));
        }
    }
    forms
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("list {}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

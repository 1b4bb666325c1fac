//! What a namespace costs (reference: issue "Vault's API at its core").

use std::{fs, thread};

use serde_json::Value;
use tests::raw::request;
use tests::{Cluster, Node};

/// Namespaces that are made.
const NAMESPACES: usize = 1_000;
/// Requests at once.
const AT_ONCE: usize = 8;
/// What they may cost all together.
const COST_KIB_MAX: u64 = 20 * 1024;

/// Memory that a process holds, in KiB.
fn resident_kib(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_empty_namespaces_cost_less_than_20_mb() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    let token = format!("X-Vault-Token: {}", cluster.keys().root_token);
    let node = &cluster.nodes[0];
    let make = |name: &str| {
        let answer = request(node.api_port, &format!("POST /v1/sys/namespaces/{name}"), &[&token], "{}");
        assert_eq!(answer.status, 200, "{}", answer.error());
    };
    // What the first ones of everything cost is no namespace's.
    (0..20).for_each(|number| make(&format!("first{number}")));
    let before = resident_kib(node);
    let each = |act: &(dyn Fn(usize) + Sync)| {
        thread::scope(|scope| {
            for first in 0..AT_ONCE {
                scope.spawn(move || (first..NAMESPACES).step_by(AT_ONCE).for_each(act));
            }
        });
    };
    each(&|number| make(&format!("tenant{number}")));
    each(&|number| {
        let namespace = format!("X-Vault-Namespace: tenant{number}");
        let answer = request(node.api_port, "GET /v1/sys/mounts", &[&token, &namespace], "");
        assert!(answer.json()["data"]["sys/"] != Value::Null);
        assert_eq!(answer.header("x-vault-namespace"), namespace.split_once(": ").map(|(_, name)| name));
    });
    let cost = resident_kib(node).saturating_sub(before);
    println!("{NAMESPACES} namespaces cost {cost} KiB");
    assert!(cost < COST_KIB_MAX, "{NAMESPACES} namespaces cost {cost} KiB");
    cluster.assert_sound();
}

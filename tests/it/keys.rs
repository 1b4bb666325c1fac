//! Acts on the keys over HTTP: new shares, root tokens, rotation, one share or one node. And who may not.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Value, json};
use tests::raw::{Answer, request};
use tests::{Cluster, eventually};

/// How long a change of the keys may take to reach every node.
const SPREAD_MAX: Duration = Duration::from_secs(20);

/// Asks one node, with the root token or with none.
struct Asker<'a> {
    cluster: &'a Cluster,
    token: Option<String>,
}

impl<'a> Asker<'a> {
    fn root(cluster: &'a Cluster) -> Asker<'a> {
        Asker { cluster, token: Some(cluster.keys().root_token.clone()) }
    }

    fn stranger(cluster: &'a Cluster) -> Asker<'a> {
        Asker { cluster, token: None }
    }

    fn ask(&self, at: usize, line: &str, body: Value) -> Answer {
        let (method, path) = line.split_once(' ').expect("METHOD path");
        let token = self.token.as_ref().map(|token| format!("X-Vault-Token: {token}"));
        let headers: Vec<&str> = token.iter().map(String::as_str).collect();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        request(self.cluster.nodes[at].api_port, &format!("{method} /v1/sys/{path}"), &headers, &body)
    }

    /// The data of an answer that must be fine.
    fn data(&self, at: usize, line: &str, body: Value) -> Value {
        let answer = self.ask(at, line, body);
        assert_eq!(answer.status, 200, "{line}: {answer:?}");
        answer.json()["data"].clone()
    }

    fn expect(&self, at: usize, line: &str, body: Value, status: u16, says: &str) {
        let answer = self.ask(at, line, body);
        assert_eq!(answer.status, status, "{line}: {answer:?}");
        assert!(answer.error().contains(says), "{line}: {answer:?}");
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_are_renewed_and_only_the_new_ones_open_it_then() {
    let mut cluster = Cluster::builder().open().await;
    let old = cluster.keys().shares.clone();
    let holders = ["Ada", "Grace", "Barbara"];
    let (root, anyone) = (Asker::root(&cluster), Asker::stranger(&cluster));
    assert_eq!(anyone.data(1, "GET rekey/init", Value::Null)["started"], json!(false));
    let asked = json!({ "secret_shares": 3, "secret_threshold": 2, "holders": holders, "require_verification": false });
    let started = root.ask(0, "PUT rekey/init", asked.clone());
    let (warnings, started) = (started.json()["warnings"].to_string(), started.json());
    assert!(warnings.contains("come back"), "{warnings}");
    // As Vault's clients read it: at the top level, too.
    let nonce = text(&started["nonce"]);
    assert_eq!((&started["data"]["t"], &started["n"], &started["required"]), (&json!(2), &json!(3), &json!(3)));
    root.expect(2, "POST rotate/root/init", asked, 400, "under way already, started by root");

    // Whoever has no token sees how many have come, and no names.
    let seen = anyone.data(1, "GET rotate/root/init", Value::Null);
    assert_eq!((text(&seen["nonce"]), &seen["progress"]), (nonce.clone(), &json!(0)));
    assert!(seen.get("started_by").is_none() && seen.get("holders_missing").is_none(), "{seen}");
    anyone.expect(0, "PUT rekey/update", json!({ "key": old[0], "nonce": "6416df1d-fbe1-a3e5-b47b-d884021fcd30" }), 400, "not the nonce");
    anyone.expect(0, "PUT rekey/update", json!({ "nonce": nonce }), 400, "'key' must be specified");
    for at in 0..2 {
        let path = ["PUT rekey/update", "POST rotate/root/update"][at];
        let data = anyone.data(at, path, json!({ "key": old[at], "nonce": nonce }));
        assert_eq!(data["progress"], json!(at + 1));
    }
    anyone.expect(2, "PUT rekey/update", json!({ "key": old[1], "nonce": nonce }), 400, "entered already");
    let finished = anyone.data(2, "PUT rekey/update", json!({ "key": old[2], "nonce": nonce }));
    assert_eq!((&finished["complete"], &finished["verification_required"]), (&json!(true), &json!(true)));
    let new: Vec<String> = finished["keys_base64"].as_array().expect("new shares").iter().map(text).collect();
    assert_eq!(new.len(), 3);
    let verification = text(&finished["verification_nonce"]);

    // Both are good now, each where it is asked for.
    let known = anyone.ask(1, "PUT verify-share", json!({ "key": new[1] })).json();
    assert_eq!((&known["number"], &known["holder"], &known["is_next"]), (&json!(2), &json!("Grace"), &json!(true)));
    let known = anyone.ask(1, "PUT verify-share", json!({ "key": old[4] })).json();
    assert_eq!(
        (&known["number"], &known["valid"], &known["is_next"], &known["cluster_name"]),
        (&json!(5), &json!(true), &json!(false), &json!("conclave"))
    );
    anyone.expect(0, "PUT rekey/verify", json!({ "key": old[0], "nonce": verification }), 400, "the new ones are asked for");
    anyone.expect(0, "PUT rekey/update", json!({ "key": old[0], "nonce": nonce }), 400, "have to come back");
    let data = anyone.data(1, "PUT rekey/verify", json!({ "key": new[0], "nonce": verification }));
    assert_eq!((&data["progress"], &data["t"], &data["holders_missing"]), (&json!(1), &json!(2), &json!(["Grace", "Barbara"])));
    let restarted = root.data(0, "DELETE rotate/root/verify", Value::Null);
    assert_eq!(restarted["progress"], json!(0));
    let verification = text(&restarted["nonce"]);
    for (at, share) in [(0, &new[2]), (2, &new[0])] {
        let data = anyone.data(at, "PUT rekey/verify", json!({ "key": share, "nonce": verification }));
        assert_eq!(data.get("complete"), (at == 2).then_some(&json!(true)), "{data}");
    }
    root.expect(1, "GET rekey/verify", Value::Null, 400, "no rekey configuration found");

    // The old ones are of no use any more, and the new ones open a sealed cluster.
    eventually("every node knows the new shares", SPREAD_MAX, async || {
        let refused = (0..3).all(|at| anyone.ask(at, "PUT verify-share", json!({ "key": old[0] })).error().contains("earlier split"));
        if refused { Ok(()) } else { Err("an old share is still good".to_owned()) }
    })
    .await;
    let shamir = root.data(1, "GET seals", Value::Null)["shamir"].clone();
    let names: Vec<String> = shamir["holders"].as_array().expect("holders").iter().map(|holder| text(&holder["name"])).collect();
    assert_eq!((names, &shamir["threshold"]), (holders.map(str::to_owned).to_vec(), &json!(2)));
    assert_eq!(root.ask(0, "PUT seal", Value::Null).status, 204);
    cluster.await_sealed(&[0, 1, 2], true, SPREAD_MAX).await;
    let anyone = Asker::stranger(&cluster);
    anyone.expect(1, "PUT unseal", json!({ "key": old[0] }), 400, "earlier split");
    let progress = anyone.ask(1, "PUT unseal", json!({ "key": new[1] })).json();
    assert_eq!((&progress["holders_present"], &progress["holders_missing"]), (&json!(["Grace"]), &json!(["Ada", "Barbara"])));
    assert!(anyone.ask(1, "GET seal-status", Value::Null).json().get("holders_present").is_none());
    assert_eq!(anyone.ask(2, "PUT unseal", json!({ "key": new[2] })).status, 200);
    cluster.await_sealed(&[0, 1, 2], false, SPREAD_MAX).await;
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_token_comes_of_shares_alone() {
    let mut cluster = Cluster::builder().open().await;
    let shares = cluster.keys().shares.clone();
    let anyone = Asker::stranger(&cluster);
    // Every root token may be gone: a share stands in for one.
    let started = anyone.data(0, "PUT generate-root/attempt", json!({ "share": shares[4] }));
    let (nonce, otp) = (text(&started["nonce"]), text(&started["otp"]));
    assert_eq!((otp.len(), &started["otp_length"], &started["started_by"]), (28, &json!(28), &json!("the holder of share 5")));
    let seen = anyone.data(1, "GET generate-root-token/attempt", Value::Null);
    assert_eq!((&seen["otp"], &seen["progress"], &seen["required"]), (&json!(""), &json!(0), &json!(3)));
    for (at, share) in shares[..2].iter().enumerate() {
        let data = anyone.data(at, "PUT generate-root/update", json!({ "key": share, "nonce": nonce }));
        assert_eq!((&data["progress"], &data["complete"]), (&json!(at + 1), &json!(false)));
    }
    let finished = anyone.data(2, "POST generate-root/update", json!({ "key": shares[2], "nonce": nonce }));
    assert_eq!((&finished["complete"], &finished["encoded_token"]), (&json!(true), &finished["encoded_root_token"]));
    let encoded = STANDARD_NO_PAD.decode(text(&finished["encoded_token"])).expect("base64 without padding");
    let token: Vec<u8> = encoded.iter().zip(otp.as_bytes()).map(|(a, b)| a ^ b).collect();
    let token = String::from_utf8(token).expect("a token is text");
    assert!(token.starts_with("hvs."), "a token of the usual kind");
    let itself = request(cluster.nodes[1].api_port, "GET /v1/auth/token/lookup-self", &[&format!("X-Vault-Token: {token}")], "").json();
    let itself = &itself["data"];
    assert_eq!((&itself["policies"], &itself["orphan"], &itself["ttl"]), (&json!(["root"]), &json!(true), &json!(0)));
    assert_eq!((&itself["display_name"], &itself["path"]), (&json!("root"), &json!("auth/token/root")));

    // It was one token, and one attempt.
    anyone.expect(2, "PUT generate-root/update", json!({ "key": shares[2], "nonce": nonce }), 400, "is under way");
    assert_eq!(anyone.data(0, "GET generate-root/attempt", Value::Null)["started"], json!(false));
    // With an own password, which is not told again; cancelled, nothing comes of it.
    let root = Asker::root(&cluster);
    root.expect(0, "PUT generate-root/attempt", json!({ "otp": "short" }), 400, "incorrect length");
    let started = root.data(1, "PUT generate-root/attempt", json!({ "otp": "abcdefghijklmnopqrstuvwxyz01" }));
    assert_eq!(started["otp"], json!(""));
    let nonce = text(&started["nonce"]);
    anyone.data(0, "PUT generate-root/update", json!({ "key": shares[0], "nonce": nonce }));
    assert_eq!(root.ask(2, "DELETE generate-root-token/attempt", Value::Null).status, 204);
    anyone.expect(0, "PUT generate-root/update", json!({ "key": shares[1], "nonce": nonce }), 400, "is under way");
    cluster.assert_sound();
}

/// CVE-2026-5807: anybody could hold the one place for a rekey or a root token, and CVE-2025-52894: anybody could cancel them.
#[tokio::test(flavor = "multi_thread")]
async fn cve_2026_5807_cve_2025_52894_no_stranger_starts_or_cancels_an_act_on_the_keys() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    let shares = cluster.keys().shares.clone();
    let (root, anyone) = (Asker::root(&cluster), Asker::stranger(&cluster));
    let wrong = Asker { cluster: &cluster, token: Some("hvs.nobody".into()) };
    let rekey = json!({ "secret_shares": 3, "secret_threshold": 2 });
    let acts = [
        ("rekey/init", rekey.clone()),
        ("rotate/root/init", rekey),
        ("generate-root/attempt", json!({})),
        ("generate-root-token/attempt", json!({})),
        ("seals/attempt", json!({ "change": "add", "key_id": "k" })),
    ];
    let with = |body: &Value, share: &str| {
        let mut body = body.clone();
        body["share"] = json!(share);
        body
    };
    let foreign = "AgHyBskAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eH29H";
    for (path, body) in &acts {
        for stranger in [&anyone, &wrong] {
            stranger.expect(0, &format!("PUT {path}"), body.clone(), 403, "one of the cluster's shares");
            stranger.expect(0, &format!("DELETE {path}"), Value::Null, 403, "one of the cluster's shares");
        }
        anyone.expect(0, &format!("PUT {path}"), with(body, foreign), 400, "another cluster");
        assert_eq!(root.data(0, &format!("GET {path}"), Value::Null)["started"], json!(false), "{path}");

        // By a share it is started; not a byte of it may differ; nobody cancels it but who may.
        let started = anyone.data(0, &format!("PUT {path}"), with(body, &shares[0]));
        assert_eq!(started["started_by"], json!("the holder of share 1"), "{path}");
        for stranger in [&anyone, &wrong] {
            stranger.expect(0, &format!("DELETE {path}"), Value::Null, 403, "one of the cluster's shares");
        }
        anyone.expect(0, &format!("DELETE {path}"), json!({ "share": foreign }), 400, "another cluster");
        assert_eq!(root.data(0, &format!("GET {path}"), Value::Null)["nonce"], started["nonce"], "{path}");
        assert_eq!(anyone.ask(0, &format!("DELETE {path}"), json!({ "share": shares[1] })).status, 204, "{path}");
        assert_eq!(root.data(0, &format!("GET {path}"), Value::Null)["started"], json!(false), "{path}");
    }
    // New shares that wait to come back are no stranger's to throw away either.
    anyone.expect(0, "DELETE rekey/verify", Value::Null, 403, "one of the cluster's shares");
    anyone.expect(0, "PUT rotate/keyring", Value::Null, 403, "permission denied");
    anyone.expect(0, "GET rekey/backup", Value::Null, 403, "permission denied");
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_shares_by_the_dozen_have_to_wait() {
    let mut cluster = Cluster::builder().nodes(1).start().await;
    cluster.init().await;
    let shares = cluster.keys().shares.clone();
    let anyone = Asker::stranger(&cluster);
    let mut statuses = Vec::new();
    for _ in 0..70 {
        statuses.push(anyone.ask(0, "PUT verify-share", json!({ "key": "AAAA" })).status);
    }
    let refused = statuses.iter().filter(|status| **status == 400).count();
    assert_eq!((refused, statuses.last()), (60, Some(&429)), "{statuses:?}");
    anyone.expect(0, "PUT unseal", json!({ "key": shares[0] }), 429, "try again in");
    // Who sends no share is served as ever.
    assert_eq!(anyone.ask(0, "GET seal-status", Value::Null).status, 200);
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_and_nodes_are_sealed_one_by_one() {
    let mut cluster = Cluster::builder().open().await;
    let root = Asker::root(&cluster);
    let before = root.data(0, "GET key-status", Value::Null);
    assert!(before["encryptions"].as_u64().is_some_and(|count| count > 0), "{before}");
    for (at, path) in [(1, "PUT rotate"), (2, "POST rotate/keyring")] {
        assert_eq!(root.ask(at, path, Value::Null).status, 204, "{path}");
    }
    assert_eq!(root.ask(0, "GET key-status", Value::Null).json()["term"], json!(before["term"].as_u64().unwrap() + 2));
    let config = json!({ "enabled": true, "interval": 0, "max_operations": 3_865_470_566_u64 });
    assert_eq!(root.data(1, "GET rotate/config", Value::Null), config);
    root.expect(0, "PUT rotate/config", json!({ "max_operations": 5 }), 400, "max_operations must be");
    root.expect(0, "PUT rotate/config", json!({ "interval": "1h" }), 400, "interval must be");
    assert_eq!(root.ask(0, "PUT rotate/config", json!({ "interval": "48h", "max_operations": 2_000_000 })).status, 204);
    assert_eq!(
        root.data(2, "GET rotate/config", Value::Null),
        json!({ "enabled": true, "interval": "48h0m0s", "max_operations": 2_000_000 })
    );
    root.expect(
        0,
        "PUT rekey-recovery-key/init",
        json!({ "secret_shares": 1, "secret_threshold": 1 }),
        400,
        "recovery keys are not supported",
    );

    // One node, at itself.
    root.expect(0, "PUT seal", json!({ "node": "n2" }), 400, &cluster.nodes[1].api_address());
    root.expect(0, "PUT seal", json!({ "node": "n9" }), 400, "no node is called \"n9\" (the members are n1, n2, n3)");
    assert_eq!(root.ask(1, "PUT seal", json!({ "node": "n2" })).status, 204);
    cluster.await_sealed(&[1], true, SPREAD_MAX).await;
    assert_eq!(root.data(0, "GET key-status", Value::Null)["term"], json!(3), "the others go on");
    let report = root.data(2, "PUT seal", json!({ "report": true }));
    let nodes = report["nodes"].as_array().expect("nodes");
    assert!(nodes.len() == 3 && nodes.iter().all(|node| node["confirmed"] == json!(true)), "{report}");
    cluster.await_sealed(&[0, 1, 2], true, SPREAD_MAX).await;
    cluster.assert_sound();
}

/// The change of a static seal that a quorum asks for at one node; what it came to.
fn change_seals(cluster: &Cluster, change: &str, shares: &[String]) -> Answer {
    let (root, anyone) = (Asker::root(cluster), Asker::stranger(cluster));
    let started = root.data(0, "PUT seals/attempt", json!({ "change": change, "key_id": "2026-a" }));
    assert_eq!((&started["change"], &started["key_id"], &started["required"]), (&json!(change), &json!("2026-a"), &json!(3)));
    assert_eq!(anyone.data(0, "GET seals/attempt", Value::Null)["key_id"], json!(""), "no stranger is told which");
    let nonce = text(&started["nonce"]);
    for (at, share) in shares[..2].iter().enumerate() {
        let data = anyone.data(0, "PUT seals/update", json!({ "key": share, "nonce": nonce }));
        assert_eq!((&data["progress"], &data["complete"]), (&json!(at + 1), &json!(false)));
    }
    anyone.ask(0, "PUT seals/update", json!({ "key": shares[2], "nonce": nonce }))
}

#[tokio::test(flavor = "multi_thread")]
async fn static_seals_are_removed_and_added_online_by_a_quorum() {
    let folder = tempfile::tempdir().unwrap();
    let key = crate::seals::key_file(folder.path(), "key", 7);
    let mut cluster = Cluster::builder().nodes(1).more(&crate::seals::static_seal("2026-a", &key)).start().await;
    cluster.init().await;
    cluster.await_sealed(&[0], false, SPREAD_MAX).await;
    let shares = cluster.keys().shares.clone();
    let root = Asker::root(&cluster);
    let ids = || root.data(0, "GET seals", Value::Null)["static"].as_array().expect("a list").len();
    assert_eq!(ids(), 1);
    for (change, left) in [("remove", 0), ("add", 1)] {
        let done = change_seals(&cluster, change, &shares).json()["data"].clone();
        assert_eq!((&done["complete"], &done["change"], ids()), (&json!(true), &json!(change), left));
        assert_eq!(root.data(0, "GET seals/attempt", Value::Null)["started"], json!(false));
    }
    // What this node has no key for it cannot add; the attempt waits, and is cancelled.
    root.data(0, "PUT seals/attempt", json!({ "change": "add", "key_id": "other" }));
    root.expect(0, "PUT seals/attempt", json!({ "change": "swap", "key_id": "other" }), 400, "change must be add or remove");
    assert_eq!(root.ask(0, "DELETE seals/attempt", Value::Null).status, 204);
    cluster.assert_sound();
}

//! Seals beside the shares: nodes that open by a static key, migration there and back, and nodes that are opened by their peers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::Method;
use proto::peer::KeyringKeyRequest;
use proto::peer::ceremony_client::CeremonyClient;
use serde_json::{Value, json};
use tests::{Cluster, Command, THRESHOLD, eventually, fields, seal_status};
use tokio::time::sleep;

use crate::peers::connect;

const OPEN_MAX: Duration = Duration::from_secs(30);
const SEAL_ALL_MAX: Duration = Duration::from_secs(5);
/// How long a node that must stay sealed is watched: several times as long as one that opens takes.
const STAYS_SEALED: Duration = Duration::from_secs(4);

/// A key file that only its owner can read.
pub(crate) fn key_file(folder: &Path, name: &str, byte: u8) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("{}\n", format!("{byte:02x}").repeat(32))).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

pub(crate) fn static_seal(id: &str, file: &Path) -> String {
    format!("seal \"static\" {{\n  current_key_id = {id:?}\n  current_key = \"file://{}\"\n}}\n", file.display())
}

fn disabled(id: &str) -> String {
    format!("seal \"static\" {{\n  current_key_id = {id:?}\n  disabled = true\n}}\n")
}

fn restart_all(cluster: &mut Cluster) {
    cluster.kill_all();
    for node in &mut cluster.nodes {
        node.start();
    }
}

async fn is_sealed(cluster: &Cluster, at: usize) -> bool {
    cluster.client_at(at).sys().seal_status().await.unwrap().sealed
}

async fn assert_stays_sealed(cluster: &Cluster, at: usize, why: &str) {
    let deadline = tokio::time::Instant::now() + STAYS_SEALED;
    while tokio::time::Instant::now() < deadline {
        assert!(is_sealed(cluster, at).await, "n{} opened {why}", at + 1);
        sleep(Duration::from_millis(100)).await;
    }
}

async fn migration(cluster: &Cluster, at: usize) -> Value {
    seal_status(&cluster.client_at(at)).await["migration"].clone()
}

/// Opens the cluster by shares at all nodes, each with `migrate`.
async fn unseal_migrating(cluster: &Cluster) {
    for share in 0..THRESHOLD as usize {
        let client = cluster.client_at(share % cluster.nodes.len());
        let body = json!({ "key": cluster.keys().shares[share], "migrate": true });
        eventually(&format!("share {share}"), OPEN_MAX, async || {
            client.request(Method::Put, "sys/unseal").body(&body).send().await.map(drop)
        })
        .await;
    }
    let all: Vec<usize> = (0..cluster.nodes.len()).collect();
    cluster.await_sealed(&all, false, OPEN_MAX).await;
}

async fn await_migrated(cluster: &Cluster) {
    for at in 0..cluster.nodes.len() {
        eventually("the seals are those of the configuration", OPEN_MAX, async || match migration(cluster, at).await {
            Value::Bool(false) => Ok(()),
            other => Err(other.to_string()),
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_a_static_key_open_by_themselves_and_the_shares_open_them_too() {
    let keys = tempfile::tempdir().unwrap();
    let key = key_file(keys.path(), "a.key", 0xA1);
    let mut cluster = Cluster::builder().more(&static_seal("2026-a", &key)).start().await;
    for at in 0..3 {
        let output = Command::new("server -check -config").arg(cluster.nodes[at].config_file()).run().expect_code(0);
        assert!(!output.stdout.contains("a1a1"), "{output:?}");
    }
    cluster.init().await;
    cluster.await_sealed(&[0, 1, 2], false, OPEN_MAX).await;
    assert_eq!(migration(&cluster, 1).await, json!(false));
    cluster.mount("secret").await;
    cluster.client().kv("secret").put("x", fields(json!({"a": 1})), None).await.unwrap();

    // One by one, and all at once.
    for at in 0..3 {
        cluster.nodes[at].kill();
        cluster.restart(at).await;
        cluster.await_sealed(&[at], false, OPEN_MAX).await;
    }
    restart_all(&mut cluster);
    cluster.await_sealed(&[0, 1, 2], false, OPEN_MAX).await;
    cluster.client_at(2).kv("secret").get("x").await.unwrap();

    // Sealed on purpose it stays so until somebody comes, and shares do.
    cluster.client_at(1).sys().seal().await.unwrap();
    cluster.await_sealed(&[0, 1, 2], true, SEAL_ALL_MAX).await;
    for at in 0..3 {
        assert_stays_sealed(&cluster, at, "by itself after a seal").await;
    }
    cluster.unseal_everywhere().await;
    // As auto-unseal does elsewhere, a restart undoes a seal.
    cluster.client_at(0).sys().seal().await.unwrap();
    cluster.await_sealed(&[0, 1, 2], true, SEAL_ALL_MAX).await;
    cluster.nodes[2].kill();
    cluster.restart(2).await;
    cluster.await_sealed(&[0, 1, 2], false, OPEN_MAX).await;

    // Another key of the same id opens nothing, loudly; the shares do.
    key_file(keys.path(), "a.key", 0xA2);
    restart_all(&mut cluster);
    for at in 0..3 {
        cluster.await_answer(at).await;
    }
    assert_stays_sealed(&cluster, 0, "by a wrong key").await;
    for node in &cluster.nodes {
        eventually("the trace says so", OPEN_MAX, async || {
            let told = node.trace().lines().any(|line| line.contains("ERROR") && line.contains("does not open this cluster"));
            if told { Ok(()) } else { Err("not yet") }
        })
        .await;
    }
    cluster.unseal_everywhere().await;
    for node in &cluster.nodes {
        let trace = node.trace().to_lowercase();
        assert!(!trace.contains(&"a1".repeat(32)) && !trace.contains(&"a2".repeat(32)), "a trace repeats the key");
    }
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn seals_migrate_from_shares_to_a_key_to_another_key_and_back() {
    let keys = tempfile::tempdir().unwrap();
    let (a, b) = (key_file(keys.path(), "a.key", 0xA1), key_file(keys.path(), "b.key", 0xB1));
    let mut cluster = Cluster::builder().open().await;
    cluster.client().kv("secret").put("x", fields(json!({"a": 1})), None).await.unwrap();

    // Without -migrate the configuration changes nothing.
    cluster.reconfigure(&[0, 1, 2], &static_seal("a", &a));
    restart_all(&mut cluster);
    for at in 0..3 {
        cluster.await_answer(at).await;
    }
    assert_stays_sealed(&cluster, 1, "by a key of which there is no seal").await;
    cluster.unseal_everywhere().await;
    assert_eq!(migration(&cluster, 2).await, json!(true));
    restart_all(&mut cluster);
    for at in 0..3 {
        cluster.await_answer(at).await;
    }
    unseal_migrating(&cluster).await;
    await_migrated(&cluster).await;
    restart_all(&mut cluster);
    cluster.await_sealed(&[0, 1, 2], false, OPEN_MAX).await;

    // Another key: whoever opens by the one before adds it.
    let previous = format!("  previous_key_id = \"a\"\n  previous_key = \"file://{}\"\n}}\n", a.display());
    cluster.reconfigure(&[0, 1, 2], &(static_seal("b", &b).trim_end().trim_end_matches('}').to_owned() + &previous));
    restart_all(&mut cluster);
    cluster.await_sealed(&[0, 1, 2], false, OPEN_MAX).await;
    await_migrated(&cluster).await;
    cluster.reconfigure(&[0, 1, 2], &static_seal("b", &b));
    restart_all(&mut cluster);
    cluster.await_sealed(&[0, 1, 2], false, OPEN_MAX).await;

    // Back: the seals go, and the keys open nothing any more.
    cluster.reconfigure(&[0, 1, 2], &(disabled("a") + &disabled("b")));
    restart_all(&mut cluster);
    for at in 0..3 {
        cluster.await_answer(at).await;
    }
    assert_stays_sealed(&cluster, 0, "by a disabled key").await;
    assert_eq!(migration(&cluster, 0).await, json!(true));
    unseal_migrating(&cluster).await;
    await_migrated(&cluster).await;
    for (id, key) in [("a", &a), ("b", &b)] {
        cluster.reconfigure(&[0, 1, 2], &static_seal(id, key));
        restart_all(&mut cluster);
        for at in 0..3 {
            cluster.await_answer(at).await;
        }
        assert_stays_sealed(&cluster, 1, "by a key whose seal was removed").await;
    }
    cluster.unseal_everywhere().await;
    cluster.client_at(0).kv("secret").get("x").await.unwrap();
    cluster.assert_sound();
}

#[test]
fn the_check_finds_what_is_wrong_with_a_seal_and_repeats_no_key() {
    let cluster = Cluster::builder().nodes(1).lay_out();
    let keys = tempfile::tempdir().unwrap();
    let open = key_file(keys.path(), "open.key", 0xA1);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let config = fs::read_to_string(cluster.nodes[0].config_file()).unwrap();
    let inline = "c3".repeat(32);
    for (seal, says) in [
        (static_seal("a", &open), "everyone can use"),
        (static_seal("a", &keys.path().join("none")), "cannot be read"),
        (format!("seal \"static\" {{\n current_key_id = \"a\"\n current_key = \"{inline}\"\n}}"), "must say where the key is"),
        ("seal \"transit\" {}".to_owned(), "is not supported"),
    ] {
        let file = keys.path().join("node.hcl");
        fs::write(&file, format!("{config}\n{seal}\n")).unwrap();
        let output = Command::new("server -check -config").arg(&file).run();
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(output.code != Some(0) && said.contains(says), "{seal}: {said}");
        assert!(!said.contains(&inline) && !said.contains("a1a1"), "the key is repeated: {said}");
    }
}

const REJOIN: &str = "seal \"shamir\" {\n  rejoin = \"peers\"\n  rejoin_within = \"10s\"\n  rejoin_count = 2\n}\n";

async fn kill_and_restart(cluster: &mut Cluster, at: usize) {
    cluster.nodes[at].kill();
    cluster.restart(at).await;
}

/// What an open node says to somebody who asks for the keys.
async fn ask_for_keys(cluster: &Cluster, at: usize, identity: (&Path, &str)) -> tonic::Status {
    let channel = connect(cluster, at, Some(identity)).await.expect("the certificate is let in");
    let asked = CeremonyClient::new(channel).keyring_key(KeyringKeyRequest::default()).await;
    asked.err().expect("nobody who is no restarted member gets the keys")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_is_opened_by_its_peers_only_where_that_is_on_and_within_its_limits() {
    let mut cluster = Cluster::builder().open().await;
    kill_and_restart(&mut cluster, 1).await;
    assert_stays_sealed(&cluster, 1, "though rejoin is off").await;

    cluster.reconfigure(&[0, 1, 2], REJOIN);
    restart_all(&mut cluster);
    for at in 0..3 {
        cluster.await_answer(at).await;
    }
    assert_stays_sealed(&cluster, 0, "though no peer is open").await;
    cluster.unseal_everywhere().await;
    sleep(Duration::from_secs(1)).await;

    // Within the window, as often as is allowed.
    for _ in 0..2 {
        kill_and_restart(&mut cluster, 1).await;
        cluster.await_sealed(&[1], false, OPEN_MAX).await;
        sleep(Duration::from_secs(1)).await;
    }
    kill_and_restart(&mut cluster, 1).await;
    assert_stays_sealed(&cluster, 1, "though the count was used up").await;
    assert!(cluster.nodes[1].trace().contains("rejoin_count"), "its trace tells why");
    // The shares do, for it alone.
    cluster.unseal_at(&[1]).await;

    // After the window.
    cluster.nodes[2].kill();
    sleep(Duration::from_secs(11)).await;
    cluster.restart(2).await;
    assert_stays_sealed(&cluster, 2, "though it was away for too long").await;
    assert!(cluster.nodes[2].trace().contains("rejoin_within"), "its trace tells why");
    cluster.unseal_at(&[2]).await;

    // What was given and refused is in the journals.
    let journal = |at: usize| {
        let folder = cluster.nodes[at].data_dir.join("journal");
        let files = fs::read_dir(folder).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
        files.collect::<String>()
    };
    let all: String = (0..3).map(journal).collect();
    assert_eq!(all.matches("\"rejoin_granted\"").count(), 2, "{all}");
    assert_eq!(journal(1).matches("\"rejoined\"").count(), 2);
    assert!(all.contains("\"rejoin_refused\""));
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_ends_the_leave_to_rejoin_and_a_stolen_certificate_gets_nothing() {
    let mut cluster = Cluster::builder().more(&REJOIN.replace("10s", "15m")).open().await;
    sleep(Duration::from_secs(1)).await;

    // A copied certificate beside the running node, one of no member, one of another cluster.
    let certs = cluster.certs();
    let refused = ask_for_keys(&cluster, 0, (&certs, "n2")).await;
    assert!(refused.message().contains("open already"), "{refused}");
    let trace = cluster.nodes[0].trace();
    assert!(trace.lines().any(|line| line.contains("ERROR") && line.contains("refused to open a node")), "{trace}");
    let stolen = cluster.folder().join("stolen");
    fs::create_dir(&stolen).unwrap();
    for file in ["ca.pem", "ca-key.pem"] {
        fs::copy(certs.join(file), stolen.join(file)).unwrap();
    }
    for (name, id) in [("conclave", "n9"), ("other", "n2")] {
        let command = Command::new("operator certs -out").arg(&stolen).arg(format!("-cluster={name}"));
        command.arg(format!("{id}=127.0.0.1")).run().expect_code(0);
        let refused = ask_for_keys(&cluster, 0, (&stolen, id)).await;
        assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused}");
    }
    // The certificate of a node that is down, from elsewhere: nobody answers at its address.
    cluster.nodes[1].kill();
    let refused = ask_for_keys(&cluster, 0, (&certs, "n2")).await;
    assert!(refused.message().contains("does not answer"), "{refused}");

    // The cluster is sealed and opened again while a node is away: it was not seen open since.
    cluster.client_at(0).sys().seal().await.unwrap();
    cluster.await_sealed(&[0, 2], true, SEAL_ALL_MAX).await;
    cluster.unseal_at(&[0, 2]).await;
    // The coordinator hands the keys to members that come within half a minute: to be away for longer is what this is about.
    sleep(Duration::from_secs(31)).await;
    cluster.restart(1).await;
    assert_stays_sealed(&cluster, 1, "though the cluster was sealed since").await;
    assert!(cluster.nodes[1].trace().contains("sealed on purpose"), "its trace tells why");
    cluster.unseal_at(&[1]).await;
    sleep(Duration::from_secs(1)).await;
    kill_and_restart(&mut cluster, 1).await;
    cluster.await_sealed(&[1], false, OPEN_MAX).await;

    // One that was sealed alone waits for shares, whether it restarts or not; and may rejoin again once it was opened by them.
    cluster.client_at(1).request(Method::Put, "sys/seal").body(&json!({ "node": "n2" })).send().await.unwrap();
    cluster.await_sealed(&[1], true, SEAL_ALL_MAX).await;
    assert_stays_sealed(&cluster, 1, "though it was sealed on purpose").await;
    kill_and_restart(&mut cluster, 1).await;
    assert_stays_sealed(&cluster, 1, "though it was sealed on purpose before it restarted").await;
    cluster.unseal_at(&[1]).await;
    sleep(Duration::from_secs(1)).await;
    kill_and_restart(&mut cluster, 1).await;
    cluster.await_sealed(&[1], false, OPEN_MAX).await;
    cluster.assert_sound();
}

/// A rekey makes the seal of a static key anew: nodes open themselves before, under and after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rekey_renews_the_seal_of_a_static_key() {
    let keys = tempfile::tempdir().unwrap();
    let key = key_file(keys.path(), "a.key", 0xA1);
    let mut cluster = Cluster::builder().more(&static_seal("a", &key)).start().await;
    cluster.init().await;
    cluster.await_sealed(&[0, 1, 2], false, OPEN_MAX).await;
    let ask = async |cluster: &Cluster, path: &str, body: Value| -> Value {
        cluster
            .client_at(0)
            .request(Method::Put, path)
            .body(&body)
            .send()
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"))
            .json()
            .unwrap()
    };
    let old = cluster.keys().shares.clone();
    let started = ask(&cluster, "sys/rekey/init", json!({ "secret_shares": 5, "secret_threshold": 3 })).await;
    let mut last = Value::Null;
    for share in &old[..3] {
        last = ask(&cluster, "sys/rekey/update", json!({ "key": share, "nonce": started["nonce"] })).await;
    }
    let new: Vec<String> = last["keys_base64"].as_array().unwrap().iter().map(|share| share.as_str().unwrap().to_owned()).collect();
    restart_all(&mut cluster);
    cluster.await_sealed(&[0, 1, 2], false, OPEN_MAX).await;
    for share in &new[..3] {
        ask(&cluster, "sys/rekey/verify", json!({ "key": share, "nonce": last["verification_nonce"] })).await;
    }
    restart_all(&mut cluster);
    cluster.await_sealed(&[0, 1, 2], false, OPEN_MAX).await;
    // And the new shares are good without the key.
    cluster.reconfigure(&[0, 1, 2], "");
    restart_all(&mut cluster);
    for at in 0..3 {
        cluster.await_answer(at).await;
    }
    assert_stays_sealed(&cluster, 0, "without a key").await;
    let root_token = cluster.keys().root_token.clone();
    cluster.set_keys(tests::Keys { shares: new, root_token });
    cluster.unseal_everywhere().await;
    cluster.assert_sound();
}

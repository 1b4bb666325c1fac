//! Nodes that make their certificates themselves: found, join by token or by shares, renew; and who is refused (reference T5, T6).

use std::fs;
use std::path::Path;
use std::time::Duration;

use client::Method;
use proto::peer::ReadIndexRequest;
use proto::peer::raft_client::RaftClient;
use serde_json::{Value, json};
use tests::raw::request;
use tests::{Cluster, Command, Node, eventually, within};
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

const JOIN_MAX: Duration = Duration::from_secs(30);

/// Makes a join token with the command line.
fn token(cluster: &Cluster, args: &str) -> String {
    let command = Command::new("operator join-token -format=json").to(&cluster.nodes[0].api_address(), &cluster.keys().root_token);
    let made = args.split_whitespace().fold(command, Command::arg).run().expect_code(0).json();
    made["join_token"].as_str().expect("a token is text").to_owned()
}

fn give(node: &Node, token: &str) {
    fs::write(node.join_token_file(), format!("{token}\n")).unwrap();
}

/// The members as the node at `at` knows them: id, and whether it votes.
async fn members(cluster: &Cluster, at: usize) -> Result<Vec<(String, bool)>, String> {
    let answer = cluster.client_at(at).request(Method::Get, "sys/ha-status").send().await.map_err(|error| error.to_string())?;
    let answer: Value = answer.json().map_err(|error| error.to_string())?;
    let nodes = answer["data"]["nodes"].as_array().ok_or("no nodes")?;
    Ok(nodes.iter().map(|node| (node["node_id"].as_str().unwrap_or_default().to_owned(), node["role"] == "voter")).collect())
}

async fn await_members(cluster: &Cluster, at: usize, want: &[(&str, bool)]) {
    let want: Vec<(String, bool)> = want.iter().map(|(id, votes)| ((*id).to_owned(), *votes)).collect();
    eventually("the members are as expected", JOIN_MAX, async || {
        let found = members(cluster, at).await?;
        if found == want { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

/// Founds the cluster at its first node, and opens that.
async fn found(cluster: &mut Cluster) {
    cluster.init().await;
    cluster.unseal_at(&[0]).await;
    cluster.mount("secret").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_join_by_tokens_and_serve() {
    let mut cluster = Cluster::builder().managed("").start().await;
    found(&mut cluster).await;
    for at in [1, 2] {
        let id = cluster.nodes[at].id.clone();
        let token = token(&cluster, &format!("-node-id={id}"));
        give(&cluster.nodes[at], &token);
    }
    await_members(&cluster, 0, &[("n1", true), ("n2", true), ("n3", true)]).await;
    // At the first, which is open, a share would count for nothing.
    cluster.unseal_at(&[1, 2]).await;
    let client = cluster.client_at(2);
    client.kv("secret").put("app", tests::fields(json!({ "a": "b" })), None).await.unwrap();
    cluster.assert_sound();

    // One that has gone and come back needs no token any more.
    fs::remove_file(cluster.nodes[1].join_token_file()).unwrap();
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    cluster.restart(1).await;
    cluster.unseal_at(&[1]).await;
    cluster.client_at(1).kv("secret").get("app").await.unwrap();
}

/// Puts `body` to a node without a token: status and errors.
fn put(node: &Node, path: &str, body: &Value) -> (u16, String) {
    let response = request(node.api_port, &format!("PUT /v1/{path}"), &[], &body.to_string());
    (response.status, response.body)
}

fn join_with(node: &Node, of: &Node, token: &str) -> (u16, String) {
    put(node, "sys/storage/raft/join", &json!({ "leader_api_addr": of.api_address(), "join_token": token }))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_join_is_refused_and_told_why() {
    let mut cluster = Cluster::builder().managed("").nodes(4).start().await;
    found(&mut cluster).await;
    let (first, nodes) = cluster.nodes.split_first().unwrap();

    // Wrong, over, for another, ended, of another cluster.
    let good = token(&cluster, "");
    let mut digits: Vec<char> = good.chars().collect();
    let last = digits.len() - 1;
    digits[last] = if digits[last] == '0' { '1' } else { '0' };
    let miscopied: String = digits.into_iter().collect();
    assert!(join_with(&nodes[0], first, &miscopied).1.contains("checksum"));
    let over = token(&cluster, "-ttl=1s");
    let for_another = token(&cluster, "-node-id=n9");
    assert!(join_with(&nodes[0], first, &for_another).1.contains("is for node n9"));
    let ended = token(&cluster, "");
    let id = ended[6..22].to_owned();
    Command::new("operator join-token -revoke").arg(&id).to(&first.api_address(), &cluster.keys().root_token).run().expect_code(0);
    assert!(join_with(&nodes[0], first, &ended).1.contains("no such join token"));
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(join_with(&nodes[0], first, &over).1.contains("expired"));

    // A token is good once; for the same node again, should it not have got the answer.
    assert_eq!(join_with(&nodes[0], first, &good), (200, "{\"joined\":true}".into()));
    let (status, says) = join_with(&nodes[1], first, &good);
    assert!(status == 400 && says.contains("has been used by node n2"), "{says}");
    assert_eq!(join_with(&nodes[0], first, &good).0, 200, "it belongs to the cluster already");
    let listed = Command::new("operator join-token -list -format=json").to(&first.api_address(), &cluster.keys().root_token).run();
    let listed = listed.expect_code(0).json();
    assert!(listed["key_info"].as_object().unwrap().values().any(|token| token["used_by"] == "n2"), "{listed}");
    await_members(&cluster, 0, &[("n1", true), ("n2", true)]).await;

    // The id of a member, with another key: a node that lost its folder, or somebody else.
    let beside = Cluster::builder().managed("").nodes(2);
    let mut impostors = beside.lay_out_beside(&cluster);
    impostors.start().await;
    let second = token(&cluster, "");
    let (status, says) = join_with(&impostors.nodes[1], &cluster.nodes[0], &second);
    assert!(status == 400 && says.contains("node n2 is a member of this cluster already"), "{says}");
    // And a cluster of another name is not joined by mistake.
    let mut other = Cluster::builder().managed("").nodes(1).cluster_name("other").lay_out_beside(&cluster);
    other.start().await;
    let (status, says) = join_with(&other.nodes[0], &cluster.nodes[0], &token(&cluster, ""));
    assert!(status == 400 && says.contains("set cluster_name to"), "{says}");
    // A token of another cluster: neither side believes the other.
    let mut foreign = Cluster::builder().managed("").nodes(1).lay_out_beside(&cluster);
    foreign.start().await;
    found(&mut foreign).await;
    let (status, says) = join_with(&cluster.nodes[2], &foreign.nodes[0], &second);
    assert!(status == 400 && says.contains("no such join token"), "{says}");
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_is_refused_on_both_sides_and_rogues_get_nothing() {
    let mut cluster = Cluster::builder().managed("certificate_ttl = \"12s\"").nodes(2).start().await;
    found(&mut cluster).await;
    let used = token(&cluster, "-non-voter");
    give(&cluster.nodes[1], &used);
    await_members(&cluster, 0, &[("n1", true), ("n2", false)]).await;
    eventually("n2 has its certificate", JOIN_MAX, async || {
        if cluster.nodes[1].data_dir.join("peer/identity").is_file() { Ok(()) } else { Err("no file") }
    })
    .await;

    // Its certificate is renewed before it ends, also while it is sealed; the same key all along.
    let issued = fs::read(cluster.nodes[1].data_dir.join("peer/identity")).unwrap();
    let key = fs::read(cluster.nodes[1].data_dir.join("peer/key.pem")).unwrap();
    eventually("n2 has a new certificate", JOIN_MAX, async || {
        let now = fs::read(cluster.nodes[1].data_dir.join("peer/identity")).unwrap();
        if now == issued { Err("still the first") } else { Ok(()) }
    })
    .await;
    assert_eq!(fs::read(cluster.nodes[1].data_dir.join("peer/key.pem")).unwrap(), key);

    // One that was off until its certificate was over gets a new one by its key alone.
    cluster.nodes[1].kill();
    tokio::time::sleep(Duration::from_secs(13)).await;
    cluster.restart(1).await;
    cluster.await_caught_up(1, JOIN_MAX).await;

    // Somebody with an authority of his own, and nobody's certificate: the handshake fails.
    let folder = cluster.folder().join("rogue");
    let certs = Command::new("operator certs -out").arg(&folder).arg("-cluster=conclave").arg("n2=127.0.0.1");
    certs.run().expect_code(0);
    let answered = call(&cluster.nodes[0], &folder, "n2").await;
    assert!(answered.is_none(), "a rogue was answered: {answered:?}");
    for tls in ["-tls1_2", "-tls1_3"] {
        let port = cluster.nodes[0].cluster_port;
        let openssl = std::process::Command::new("openssl")
            .args(["s_client", "-brief", tls, "-connect", &format!("127.0.0.1:{port}")])
            .stdin(std::process::Stdio::null())
            .output();
        // Where there is no openssl, the unit tests of the listener have to do.
        if let Ok(said) = openssl {
            let said = String::from_utf8_lossy(&said.stderr).into_owned();
            assert_eq!(said.contains("CONNECTION ESTABLISHED"), tls == "-tls1_3", "{tls}: {said}");
        }
    }
    let http = request(cluster.nodes[0].cluster_port, "GET /v1/sys/health", &[], "");
    assert_eq!(http.status, 0, "the peers' port speaks TLS only: {http:?}");
    let (status, says) =
        put(&cluster.nodes[0], "sys/storage/raft/bootstrap/renew", &json!({ "node_id": "n2", "certificate_request": "AAAA" }));
    assert!(status == 400 && says.contains("malformed"), "{says}");
    cluster.assert_sound();
}

/// Calls a node as whoever has these files, without looking who answers; `None`: no connection.
async fn call(node: &Node, folder: &Path, id: &str) -> Option<Code> {
    let read = |name: String| fs::read_to_string(folder.join(name)).unwrap();
    let identity = Identity::from_pem(read(format!("{id}.pem")), read(format!("{id}-key.pem")));
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read("ca.pem".into())))
        .identity(identity)
        .domain_name("n1.conclave.conclave.internal");
    let endpoint = Channel::from_shared(node.cluster_address()).unwrap().tls_config(tls).unwrap();
    let channel = within("connect", JOIN_MAX, endpoint.connect()).await.ok()?;
    let answered = within("a call", JOIN_MAX, RaftClient::new(channel).read_index(ReadIndexRequest::default())).await;
    Some(answered.map_or_else(|status| status.code(), |_| Code::Ok))
}

/// How much memory a node holds, in bytes.
fn resident_bytes(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// `CONCLAVE_JOIN_ATTEMPTS`: how many; 100 000 for the long run.
#[tokio::test(flavor = "multi_thread")]
async fn attempts_to_join_hold_no_memory() {
    let attempts: usize = std::env::var("CONCLAVE_JOIN_ATTEMPTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000);
    let mut cluster = Cluster::builder().managed("").nodes(1).start().await;
    found(&mut cluster).await;
    let node = &cluster.nodes[0];
    let attempt = |number: usize| {
        let (status, says) = put(node, "sys/storage/raft/bootstrap/challenge", &json!({ "node_id": format!("n{}", number % 1000 + 2) }));
        assert_eq!(status, 200, "{says}");
        let body = json!({ "request": "CAESAA==", "mac": "AAAA" });
        let (status, says) = put(node, "sys/storage/raft/bootstrap/answer", &body);
        assert!([400, 429, 503].contains(&status), "{status} {says}");
    };
    (0..attempts.min(500)).for_each(&attempt);
    let before = resident_bytes(node);
    (0..attempts).for_each(&attempt);
    let after = resident_bytes(node);
    println!("{attempts} attempts: {before} bytes before, {after} after");
    assert!(after < before + 8 * 1024 * 1024, "{attempts} attempts: {before} bytes became {after}");
    cluster.assert_sound();
}

/// `PUT sys/storage/raft/join` without a token, then the shares at the new node: as Vault.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_by_shares_that_never_leave_it() {
    let mut cluster = Cluster::builder().managed("").nodes(2).start().await;
    found(&mut cluster).await;
    let body = json!({ "leader_api_addr": cluster.nodes[0].api_address() });
    assert_eq!(put(&cluster.nodes[1], "sys/storage/raft/join", &body), (200, "{\"joined\":true}".into()));
    let status = tests::seal_status(&cluster.client_at(1)).await;
    assert_eq!((&status["initialized"], &status["sealed"], &status["t"], &status["n"]), (&json!(true), &json!(true), &json!(3), &json!(5)));
    for share in 0..3 {
        let status = cluster.give_share(1, share).await.unwrap();
        assert_eq!(status.progress, if share == 2 { 0 } else { u32::try_from(share).unwrap() + 1 });
    }
    cluster.await_sealed(&[1], false, JOIN_MAX).await;
    await_members(&cluster, 1, &[("n1", true), ("n2", true)]).await;
    let refused = put(&cluster.nodes[1], "sys/storage/raft/join", &json!({ "leader_api_addr": "http://127.0.0.1:1", "auto_join": "x" }));
    assert!(refused.0 == 400 && refused.1.contains("auto_join"), "{refused:?}");
    cluster.assert_sound();
}

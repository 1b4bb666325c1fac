//! What keeps a node from starting: exit code 1, and words that name the place and the cure.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Cluster, Command, Node, conclave, eventually, raw};

/// How long a node may take to find out that it cannot start.
const REFUSE_MAX: Duration = Duration::from_secs(20);

/// Starts the node; it must end by itself with exit code 1, having said all of `says`.
fn refused(node: &mut Node, what: &str, says: &[&str]) {
    let before = node.trace().len();
    node.start();
    let status = node.wait(REFUSE_MAX);
    let trace = node.trace();
    let said = &trace[before..];
    assert_eq!(status.code(), Some(1), "{what}: {said}");
    for words in says {
        assert!(said.contains(words), "{what}: {words:?} is not said in: {said}");
    }
    assert!(!said.contains("panicked at"), "{what}: {said}");
}

fn rewrite(cluster: &Cluster, at: usize, change: impl Fn(&str) -> String) {
    let node = &cluster.nodes[at];
    let config = cluster.config(node);
    let changed = change(&config);
    assert_ne!(changed, config, "the change fits the configuration");
    fs::write(node.config_file(), changed).unwrap();
}

fn restore(cluster: &Cluster, at: usize) {
    let node = &cluster.nodes[at];
    fs::write(node.config_file(), cluster.config(node)).unwrap();
}

fn quoted(path: &Path) -> String {
    format!("{path:?}")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_node_from_starting_is_said_with_its_cure() {
    let mut cluster = Cluster::builder().nodes(2).start().await;

    // Another process on the same folder, and on the same ports.
    let running = cluster.nodes[0].pid().to_string();
    let [first_data, second_data] = [0, 1].map(|at| quoted(&cluster.nodes[at].data_dir));
    cluster.nodes[1].kill();
    rewrite(&cluster, 1, |config| config.replace(&second_data, &first_data));
    refused(&mut cluster.nodes[1], "a folder in use", &["is in use by", &running, "stop it"]);
    restore(&cluster, 1);
    for port in [cluster.nodes[1].api_port, cluster.nodes[1].cluster_port] {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        refused(&mut cluster.nodes[1], "a port in use", &["cannot listen on", &port.to_string(), "ss -ltnp"]);
        drop(taken);
    }

    // A folder of another node.
    cluster.nodes[0].kill();
    rewrite(&cluster, 1, |config| config.replace(&second_data, &first_data));
    refused(&mut cluster.nodes[1], "another node's folder", &["belongs to node n1, not to n2", "a node must keep its id"]);
    restore(&cluster, 1);

    // A folder that is none.
    let strange = cluster.folder().join("strange");
    fs::create_dir(&strange).unwrap();
    fs::write(strange.join("holiday.jpg"), "x").unwrap();
    rewrite(&cluster, 1, |config| config.replace(&second_data, &quoted(&strange)));
    refused(&mut cluster.nodes[1], "somebody's folder", &["holiday.jpg", "no data folder"]);
    assert_eq!(fs::read_dir(&strange).unwrap().count(), 1, "nothing was left in somebody's folder");
    restore(&cluster, 1);

    // Certificates.
    let certs = cluster.certs();
    let [own, other] = ["n2.pem", "n1.pem"].map(|name| quoted(&certs.join(name)));
    rewrite(&cluster, 1, |config| config.replace(&own, &other));
    refused(
        &mut cluster.nodes[1],
        "another node's certificate",
        &["cluster.tls_cert_file", "n1.conclave.conclave.internal", "not for \"n2.conclave.conclave.internal\""],
    );
    rewrite(&cluster, 1, |config| config.replace(&own, &quoted(&certs.join("nobody.pem"))));
    refused(&mut cluster.nodes[1], "a certificate that is not there", &["nobody.pem"]);
    fs::write(certs.join("rubbish.pem"), "rubbish").unwrap();
    rewrite(&cluster, 1, |config| config.replace(&own, &quoted(&certs.join("rubbish.pem"))));
    refused(&mut cluster.nodes[1], "a certificate that is none", &["tls_cert_file", "certificate"]);
    let [own_key, other_key] = ["n2-key.pem", "n1-key.pem"].map(|name| quoted(&certs.join(name)));
    rewrite(&cluster, 1, |config| config.replace(&own_key, &other_key));
    refused(&mut cluster.nodes[1], "a key of another certificate", &["key"]);
    rewrite(&cluster, 1, |config| config.replace("cluster_name = \"conclave\"", "cluster_name = \"other\""));
    refused(&mut cluster.nodes[1], "a certificate of another cluster", &["not for \"n2.other.conclave.internal\""]);
    restore(&cluster, 1);

    // After all that it starts as if nothing had been.
    cluster.nodes[0].start();
    cluster.nodes[1].start();
    for at in 0..2 {
        cluster.await_answer(at).await;
    }
    cluster.init().await;
    cluster.unseal_everywhere().await;
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_a_cluster_is_refused_under_another_clusters_name() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    cluster.nodes[0].terminate();
    assert_eq!(tokio::task::block_in_place(|| cluster.nodes[0].wait(REFUSE_MAX)).code(), Some(0));
    let certs = cluster.folder().join("other-certs");
    Command::new("operator certs -cluster=other -out").arg(&certs).arg("n1=127.0.0.1").run().expect_code(0);
    let own = cluster.certs();
    rewrite(&cluster, 0, |config| {
        config
            .replace("cluster_name = \"conclave\"", "cluster_name = \"other\"")
            .replace(&own.display().to_string(), &certs.display().to_string())
    });
    refused(&mut cluster.nodes[0], "another cluster's name", &["holds cluster \"conclave\"", "set cluster_name to \"conclave\""]);
    restore(&cluster, 0);
    cluster.restart(0).await;
    cluster.unseal_everywhere().await;
}

#[test]
fn every_mistake_of_a_configuration_is_told_at_once_with_file_line_and_cure() {
    let mut cluster = Cluster::builder().nodes(1).lay_out();
    let file = cluster.nodes[0].config_file();
    rewrite(&cluster, 0, |config| {
        let address = format!("address = \"127.0.0.1:{}\"", cluster.nodes[0].api_port);
        config
            .replace("log_level = \"info\"", "log_level = \"inof\"")
            .replace(&address, "address = \"0.0.0.0\"")
            .replace("node_id = \"n1\"", "node_id = \"N1\"\n  pth = \"x\"")
            .replace("tls_disable = true", "tls_disable = \"yes\"")
    });
    let text = fs::read_to_string(&file).unwrap();
    let line = |part: &str| 1 + text.lines().position(|line| line.contains(part)).unwrap_or_else(|| panic!("no {part} in {text}"));
    let wanted = [
        (line("inof"), "did you mean \"info\"?"),
        (line("0.0.0.0"), "has no port (try \"0.0.0.0:8200\")"),
        (line("\"yes\""), "write true or false"),
        (line("\"N1\""), "is no node id"),
        (line("pth"), "unknown key \"pth\""),
    ];
    let check = Command::new("server -check -config").arg(&file).run().expect_code(1);
    for (line, cure) in wanted {
        let told = check.stderr.lines().any(|said| said.contains(&format!("node.hcl:{line}: ")) && said.contains(cure));
        assert!(told, "line {line}, {cure:?}: {}", check.stderr);
    }
    refused(&mut cluster.nodes[0], "the same without -check", &["the configuration is wrong", "did you mean \"info\"?", "is no node id"]);
    assert!(!cluster.nodes[0].data_dir.exists(), "a wrong configuration touches nothing");

    restore(&cluster, 0);
    Command::new("server -check -config").arg(&file).run().expect_code(0);
    let empty = cluster.folder().join("empty.d");
    fs::create_dir(&empty).unwrap();
    for (what, path) in [("a file that is not there", cluster.folder().join("none.hcl")), ("a folder without any", empty)] {
        let output = Command::new("server -config").arg(&path).run().expect_code(1);
        assert!(output.stderr.contains(&path.display().to_string()), "{what}: {output:?}");
    }
}

/// A server that was started as a test suite starts one: with pipes that nobody reads. Killed when dropped.
struct Piped(Child);

impl Piped {
    fn start(arguments: &[String]) -> Piped {
        let mut command = std::process::Command::new(conclave());
        command.arg("server").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Piped(command.spawn().unwrap())
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn await_answer(port: u16) {
    eventually("the server answers", REFUSE_MAX, async || {
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vaults_json_starts_a_node_in_memory_that_serves_and_keeps_nothing() {
    let mut cluster = Cluster::builder().nodes(1).lay_out();
    let port = cluster.nodes[0].api_port;
    let file = cluster.folder().join("vault.json");
    let config = json!({
        "backend": {"inmem": {}},
        "listener": {"tcp": {"address": format!("127.0.0.1:{port}"), "tls_disable": "true"}},
        "disable_mlock": true,
        "default_lease_ttl": "768h",
        "max_lease_ttl": "768h",
        "pid_file": cluster.folder().join("pid"),
    });
    fs::write(&file, config.to_string()).unwrap();
    // A second file: the most that can be traced, so that a pipe is full at once.
    let more = cluster.folder().join("more.d");
    fs::create_dir(&more).unwrap();
    fs::write(more.join("log.hcl"), "log_level = \"trace,openraft=trace\"\napi_version = \"1.21.3\"\n").unwrap();
    fs::write(more.join("headers.json"), r#"{"enable_response_header_hostname": 1, "enable_response_header_raft_node_id": true}"#).unwrap();
    let arguments = [format!("-config={}", file.display()), "-config".to_owned(), more.display().to_string()];
    let check = Command::new("server -check").arg(&arguments[0]).arg(&arguments[1]).arg(&arguments[2]).run().expect_code(0);
    assert!(check.stderr.contains("backend: nothing is kept"), "{check:?}");

    let server = Piped::start(&arguments);
    await_answer(port).await;
    let post = |line: &str, token: &str, body: Value| raw::request(port, line, &[&format!("X-Vault-Token: {token}")], &body.to_string());
    let initialized = || raw::request(port, "GET /v1/sys/init", &[], "").json()["initialized"].clone();
    assert_eq!(initialized(), false);
    assert_eq!(fs::read_to_string(cluster.folder().join("pid")).unwrap(), format!("{}\n", server.0.id()));
    let made = eventually("init", REFUSE_MAX, async || {
        let made = post("PUT /v1/sys/init", "", json!({"secret_shares": 1, "secret_threshold": 1}));
        if made.status == 200 { Ok(made.json()) } else { Err(format!("{made:?}")) }
    })
    .await;
    let token = made["root_token"].as_str().unwrap();
    let status = post("PUT /v1/sys/unseal", "", json!({"key": made["keys"][0]})).json();
    assert_eq!((&status["sealed"], &status["storage_type"], &status["version"]), (&json!(false), &json!("inmem"), &json!("1.21.3")));
    let mounted = post("POST /v1/sys/mounts/secret", token, json!({"type": "kv", "options": {"version": "2"}}));
    assert_eq!(mounted.status, 204, "{mounted:?}");
    // Each request is traced at length; nobody reads, and nobody waits.
    for number in 0..200 {
        let written = post("PUT /v1/secret/data/a", token, json!({"data": {"number": number}}));
        assert_eq!(written.status, 200, "{number}: {written:?}");
    }
    let read = raw::request(port, "GET /v1/secret/data/a", &[&format!("X-Vault-Token: {token}")], "");
    assert_eq!(read.json()["data"]["data"]["number"], 199, "{read:?}");
    assert_eq!(read.header("x-vault-raft-node-id"), Some("n1"));
    assert!(read.header("x-vault-hostname").is_some_and(|name| !name.is_empty()), "{read:?}");
    let names: Vec<String> =
        fs::read_dir(cluster.folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!names.iter().any(|name| name.contains("memory") || name == "log" || name == "table.redb"), "{names:?}");
    drop(server);

    let _server = Piped::start(&arguments);
    await_answer(port).await;
    assert_eq!(initialized(), false, "nothing is kept");
    cluster.nodes[0].kill();
}

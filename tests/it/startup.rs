//! What keeps a node from starting: exit code 1, and words that name the place and the cure.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use tests::{Cluster, Command, Node};

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
            .replace("tls_disable = true", "tls_disable = \"true\"")
    });
    let text = fs::read_to_string(&file).unwrap();
    let line = |part: &str| 1 + text.lines().position(|line| line.contains(part)).unwrap_or_else(|| panic!("no {part} in {text}"));
    let wanted = [
        (line("inof"), "did you mean \"info\"?"),
        (line("0.0.0.0"), "has no port (try \"0.0.0.0:8200\")"),
        (line("\"true\""), "write true or false"),
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
    for (what, path) in [("a file that is not there", cluster.folder().join("none.hcl")), ("a folder", cluster.folder().to_owned())] {
        let output = Command::new("server -config").arg(&path).run().expect_code(1);
        assert!(output.stderr.contains(&path.display().to_string()), "{what}: {output:?}");
    }
}

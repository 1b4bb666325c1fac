//! What the parts of [`super::Config`] do together: the values, and the exact words of each mistake.

use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use tempfile::TempDir;

use super::section::Foreign;
use super::*;

const NODE: &str = r#"
api_addr = "http://127.0.0.1:8200"
listener "tcp" {
  address     = "127.0.0.1:8200"
  tls_disable = true
}
storage "raft" {
  path    = "data"
  node_id = "n1"
}
"#;

const CLUSTER: &str = r#"
listener "tcp" {
  address     = "127.0.0.1:8200"
  tls_disable = true
}
storage "raft" {
  path    = "data"
  node_id = "n1"
}
cluster {
  tls_ca_file   = "ca.pem"
  tls_cert_file = "n1.pem"
  tls_key_file  = "n1-key.pem"
  member "n1" { cluster_addr = "https://127.0.0.1:8201"  api_addr = "http://127.0.0.1:8200" }
  member "n2" { cluster_addr = "https://127.0.0.1:8203"  api_addr = "http://127.0.0.1:8202" }
  member "n3" { cluster_addr = "https://127.0.0.1:8205"  api_addr = "http://127.0.0.1:8204" }
}
"#;

/// A folder with the files that the examples name.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, mode) in [("ca.pem", 0o644), ("n1.pem", 0o644), ("n1-key.pem", 0o600), ("group-key.pem", 0o640), ("open-key.pem", 0o644)] {
        put(folder.path(), name, "-", mode);
    }
    folder
}

#[expect(clippy::disallowed_methods, reason = "a test's own files, which need not survive power loss")]
fn put(folder: &Path, name: &str, text: &str, mode: u32) {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, "node1.hcl", folder().path())
}

/// The mistakes of `text`, one a line.
fn mistakes(text: &str) -> String {
    match parse(text) {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(errors) => errors.to_string(),
    }
}

fn load(path: &Path) -> Result<Config, ConfigErrors> {
    Config::load(&[path.to_owned()])
}

fn warnings(config: &Config) -> Vec<String> {
    config.warnings.iter().map(Mistake::to_string).collect()
}

fn url(text: &str) -> Url {
    Url::parse(text, 8200, false).unwrap()
}

#[test]
fn a_single_node_has_vaults_defaults() {
    let folder = folder();
    let config = Config::parse(NODE, "node1.hcl", folder.path()).unwrap();
    assert_eq!(
        config,
        Config {
            cluster_name: "conclave".to_owned(),
            api_addr: url("http://127.0.0.1:8200"),
            cluster_addr: None,
            api_version: "1.17.0".to_owned(),
            lease_ttl_default: Duration::from_secs(2_764_800),
            lease_ttl_max: Duration::from_secs(2_764_800),
            read_consistency: raft::ReadConsistency::Lease,
            feature_level_raise_after: Some(FEATURE_LEVEL_RAISE_AFTER_DEFAULT),
            stale_reads_max: STALE_READS_MAX_DEFAULT,
            shutdown_delay: Duration::ZERO,
            lock_memory: true,
            pid_file: None,
            node_headers: NodeHeaders { hostname: false, node_id: false },
            telemetry: TelemetryConfig { prometheus: true },
            log: LogConfig { filter: "info".to_owned(), format: LogFormat::Text },
            listener: ListenerConfig {
                address: "127.0.0.1:8200".parse().unwrap(),
                tls: None,
                request_size_bytes_max: 33_554_432,
                request_duration_max: Duration::from_secs(90),
                header_read_timeout: Duration::from_secs(10),
                idle_timeout: Duration::from_secs(300),
                metrics_without_token: false,
            },
            storage: StorageConfig {
                node_id: NodeId::parse("n1").unwrap(),
                place: StoragePlace::Folder { path: folder.path().join("data"), table: TableKind::Redb },
                join: JoinConfig::default(),
                compaction: raft::Compaction::default(),
            },
            cluster: None,
            seal: SealConfig::default(),
            warnings: Vec::new(),
            sources: Vec::new(),
        }
    );
}

#[test]
fn every_key_is_heard() {
    let folder = folder();
    let text = r#"
        cluster_name = "prod"  # the end of a line
        api_addr     = "https://vault.example.com"
        cluster_addr = "https://n1.example.com:8201"
        log_level    = "info,raft=debug" // and of another
        log_format   = "json"
        api_version  = "1.20.1"
        max_lease_ttl     = "87600h"
        default_lease_ttl = 3600
        disable_mlock     = false
        pid_file          = "conclave.pid"
        enable_response_header_hostname     = true
        enable_response_header_raft_node_id = "true"
        listener "tcp" {
          address                  = "0.0.0.0:443"
          cluster_address          = "0.0.0.0:8201"
          tls_cert_file            = "n1.pem"
          tls_key_file             = "n1-key.pem"
          tls_min_version          = "tls12"
          tls_require_and_verify_client_cert = true
          tls_client_ca_file       = "ca.pem"
          tls_disable_client_certs = 0
          max_request_size         = "1048576"
          max_request_duration     = "1m30s"
          http_read_header_timeout = 5 /* seconds */
          http_idle_timeout        = "1m"
          telemetry { unauthenticated_metrics_access = true }
        }
        telemetry { disable_hostname = true, prometheus_retention_time = "0s" }
        storage "raft" { path = "/data", node_id = "n1", table = "redb" }
        cluster {
          listen        = "0.0.0.0:8201"
          tls_ca_file   = "ca.pem"
          tls_cert_file = "n1.pem"
          tls_key_file  = "n1-key.pem"
          member "n1" {
            cluster_addr = "https://n1.example.com:8201"
            api_addr     = "https://vault.example.com"
          }
        }
    "#;
    let config = Config::parse(text, "node1.hcl", folder.path()).unwrap();
    let at = |name: &str| folder.path().join(name);
    let cluster = config.cluster.unwrap();
    assert_eq!(config.cluster_name, "prod");
    assert_eq!(config.api_addr, url("https://vault.example.com:443"));
    assert_eq!(config.cluster_addr, Some(url("https://n1.example.com:8201")));
    assert_eq!(config.log, LogConfig { filter: "info,raft=debug".to_owned(), format: LogFormat::Json });
    assert_eq!(config.api_version, "1.20.1");
    assert_eq!(config.lease_ttl_default, Duration::from_secs(3600));
    assert_eq!(config.lease_ttl_max, Duration::from_secs(87_600 * 3600));
    assert_eq!(config.pid_file, Some(at("conclave.pid")));
    assert_eq!(config.node_headers, NodeHeaders { hostname: true, node_id: true });
    assert_eq!(config.telemetry, TelemetryConfig { prometheus: false });
    let client_certificate = ClientCertificate::Required { ca: at("ca.pem") };
    let tls = TlsFiles { cert: at("n1.pem"), key: at("n1-key.pem"), min_version: TlsVersion::Tls12, client_certificate };
    assert_eq!(config.listener.tls, Some(tls));
    assert_eq!(config.listener.idle_timeout, Duration::from_secs(60));
    assert!(config.listener.metrics_without_token);
    assert_eq!(config.listener.request_size_bytes_max, 1_048_576);
    assert_eq!(config.listener.request_duration_max, Duration::from_secs(90));
    assert_eq!(config.listener.header_read_timeout, Duration::from_secs(5));
    assert_eq!(config.storage.place, StoragePlace::Folder { path: "/data".into(), table: TableKind::Redb });
    assert_eq!(cluster.listen, "0.0.0.0:8201".parse().unwrap());
    let ClusterIdentity::Brought { tls, .. } = cluster.identity else { panic!("certificates were brought") };
    assert_eq!(tls, PeerTlsFiles { ca: at("ca.pem"), cert: at("n1.pem"), key: at("n1-key.pem") });
    assert_eq!(config.warnings, []);
}

#[test]
fn a_member_block_gives_this_nodes_addresses() {
    let config = parse(CLUSTER).unwrap();
    let cluster = config.cluster.unwrap();
    assert_eq!(config.api_addr, url("http://127.0.0.1:8200"));
    assert_eq!(config.cluster_addr, Some(url("https://127.0.0.1:8201")));
    assert_eq!(cluster.listen, "127.0.0.1:8201".parse().unwrap());
    let ClusterIdentity::Brought { members, .. } = cluster.identity else { panic!("certificates were brought") };
    assert_eq!(members.len(), 3);
    assert_eq!(members[&NodeId::parse("n3").unwrap()].api_addr, url("http://127.0.0.1:8204"));
}

#[test]
fn json_of_the_same_shape_is_the_same() {
    let folder = folder();
    let text = r#"{
        "listener": [{"tcp": {"address": "127.0.0.1:8200", "tls_disable": true}}],
        "storage" : {"raft": {"path": "d\u0061ta", "node_id": "n1"}},
        "cluster":
          {"tls_ca_file": "ca.pem", "tls_cert_file": "n1.pem", "tls_key_file": "n1-key.pem",
           "member": {
             "n1": {"cluster_addr": "https:\/\/127.0.0.1:8201", "api_addr": "http://127.0.0.1:8200"},
             "n2": {"cluster_addr": "https://127.0.0.1:8203", "api_addr": "http://127.0.0.1:8202"},
             "n3": {"cluster_addr": "https://127.0.0.1:8205", "api_addr": "http://127.0.0.1:8204"}}}
    }"#;
    let json = Config::parse(text, "node1.json", folder.path()).unwrap();
    let hcl = Config::parse(CLUSTER, "node1.hcl", folder.path()).unwrap();
    assert_eq!(json, hcl);
}

#[test]
fn each_mistake_names_its_place_and_cure() {
    let cases = [
        // The shape.
        (
            "",
            "node1.hcl: listener is missing (add listener \"tcp\" { address = \"127.0.0.1:8200\" } at the top of the file)\n\
              node1.hcl: storage is missing (add storage \"raft\" { path = \"/var/lib/conclave\", node_id = \"n1\" } at the top of the file)",
        ),
        (
            "adress = 1",
            "node1.hcl:1: unknown key \"adress\" (known here: cluster_name, api_addr, cluster_addr, api_version, default_lease_ttl, max_lease_ttl, read_consistency, stale_reads_max, feature_level_raise_after, shutdown_delay, disable_mlock, pid_file, log_level, log_format, enable_response_header_hostname, enable_response_header_raft_node_id, listener, storage, backend, cluster, telemetry, seal)",
        ),
        ("clustr_name = \"a\"", "node1.hcl:1: unknown key \"clustr_name\" (did you mean cluster_name?)"),
        ("log_format = \"xml\"", "node1.hcl:1: log_format: \"xml\" is not one of \"text\", \"json\""),
        ("log_level = 3", "node1.hcl:1: log_level: 3 is a number (write text in double quotes)"),
        ("log_level = \"inof\"", "node1.hcl:1: log_level: \"inof\" is no level (did you mean \"info\"?)"),
        (
            "log_level = \"info,raft=loud\"",
            "node1.hcl:1: log_level: \"info,raft=loud\" is no filter (write a level, or levels by part, such as \"info,raft=debug\")",
        ),
        (
            "cluster_name = \"Prod\"",
            "node1.hcl:1: cluster_name: \"Prod\" is no cluster name (use 1 to 32 of a-z, 0-9 and '-', not at either end)",
        ),
        ("cluster_name = null", "node1.hcl:1: cluster_name: null is no value (write text in double quotes)"),
        (
            "api_version = \"1.17\"",
            "node1.hcl:1: api_version: \"1.17\" is no version of Vault's that clients know (write MAJOR.MINOR.PATCH, such as \"1.17.0\")",
        ),
        (
            "default_lease_ttl = \"769h\"",
            "node1.hcl:1: default_lease_ttl: \"769h\" is longer than max_lease_ttl, \"768h\" (make it shorter, or that longer)",
        ),
        ("read_consistency = \"stale\"", "node1.hcl:1: read_consistency: \"stale\" is not one of \"lease\", \"quorum\""),
        (
            "feature_level_raise_after = \"20000h\"",
            "node1.hcl:1: feature_level_raise_after: \"20000h\" is out of range (write \"0s\" to \"8760h\")",
        ),
        ("pid_file = \"/none/there/x\"", "node1.hcl:1: pid_file: the folder of \"/none/there/x\" is not there (make it)"),
        (
            "plugin_directory = \"/p\"",
            "node1.hcl:1: plugin_directory: is not supported: engines are built in, and no other program is ever run (remove this line)",
        ),
        (
            "raw_storage_endpoint = true",
            "node1.hcl:1: raw_storage_endpoint: is not supported: what lies below the barrier is never served (remove this line)",
        ),
        ("backend = {}", "node1.hcl:1: backend: the block has no label (write backend \"…\" { … })"),
        (
            "telemetry { statsd_address = \"a:1\" }",
            "node1.hcl:1: telemetry.statsd_address: is not supported: metrics are fetched from sys/metrics (remove this line)",
        ),
        ("cluster = true", "node1.hcl:1: cluster: true is a truth value (write a block in braces)"),
        ("cluster = []", "node1.hcl:1: cluster: is an empty list (write a block in braces)"),
        // The syntax.
        ("log_level = info", "node1.hcl:1: \"info\" is no value (text goes in double quotes)"),
        ("log_level = \"info", "node1.hcl:1: text is not closed on its line (add a double quote)"),
        ("log_level", "node1.hcl:1: \"log_level\" has no value (write log_level = …, or log_level { … })"),
        ("log_level =", "node1.hcl:1: \"log_level\" has no value (write log_level = …)"),
        ("log_level = \"${x}\"", "node1.hcl:1: \"${\" starts a template, which is not read here (write \"$${\" for plain text)"),
        ("log_level = <<EOF", "node1.hcl:1: heredocs are not read here (write the text in double quotes)"),
        ("log_level = \"\\q\"", "node1.hcl:1: \"\\\\q\" is no escape (write \\\\ for a backslash)"),
        (
            "x {",
            "node1.hcl:1: this \"{\" is never closed (add \"}\" where the block ends)\n\
             node1.hcl:1: unknown key \"x\" (known here: cluster_name, api_addr, cluster_addr, api_version, default_lease_ttl, max_lease_ttl, read_consistency, stale_reads_max, feature_level_raise_after, shutdown_delay, disable_mlock, pid_file, log_level, log_format, enable_response_header_hostname, enable_response_header_raft_node_id, listener, storage, backend, cluster, telemetry, seal)",
        ),
        (
            "x = [",
            "node1.hcl:1: this \"[\" is never closed (add \"]\" where the list ends)\n\
             node1.hcl:1: unknown key \"x\" (known here: cluster_name, api_addr, cluster_addr, api_version, default_lease_ttl, max_lease_ttl, read_consistency, stale_reads_max, feature_level_raise_after, shutdown_delay, disable_mlock, pid_file, log_level, log_format, enable_response_header_hostname, enable_response_header_raft_node_id, listener, storage, backend, cluster, telemetry, seal)",
        ),
        ("}", "node1.hcl:1: \"}\" closes nothing (remove it)"),
        ("/* open", "node1.hcl:1: this comment is never closed (add \"*/\")"),
        ("= 1", "node1.hcl:1: \"=\" starts no key (write key = value)"),
    ];
    for (text, want) in cases {
        let found = mistakes(text);
        let first = found.lines().filter(|line| text.is_empty() || line.starts_with("node1.hcl:1:")).collect::<Vec<_>>().join("\n");
        assert_eq!(first, want, "{text}");
    }
}

#[test]
fn each_mistake_in_a_block_names_its_place_and_cure() {
    // In NODE or CLUSTER, replace this, by that: these lines and no others.
    let cases = [
        (
            NODE,
            r#""127.0.0.1:8200"
  tls"#,
            "\"0.0.0.0\"\n  tls",
            r#"node1.hcl:4: listener.address: "0.0.0.0" has no port (try "0.0.0.0:8200")"#,
        ),
        (
            NODE,
            "address     = \"127.0.0.1:8200\"",
            "adress = \"127.0.0.1:8200\"",
            "node1.hcl:4: listener: unknown key \"adress\" (did you mean address?)",
        ),
        (NODE, "tls_disable = true", "tls_disable = \"yes\"", r#"node1.hcl:5: listener.tls_disable: "yes" is text (write true or false)"#),
        (
            NODE,
            "tls_disable = true",
            "",
            "node1.hcl:3: listener: TLS is missing (add tls_cert_file = \"…\" and tls_key_file = \"…\", or tls_disable = true for plain HTTP, to this block)",
        ),
        (
            NODE,
            "tls_disable = true",
            "tls_cert_file = \"n1.pem\"",
            "node1.hcl:3: listener: tls_key_file is missing (add tls_key_file = \"…\" to this block)",
        ),
        (
            NODE,
            "tls_disable = true",
            "tls_disable = true\n  tls_cert_file = \"n1.pem\"",
            "node1.hcl:6: listener.tls_cert_file: contradicts tls_disable = true (remove one of them)",
        ),
        (
            NODE,
            "tls_disable = true",
            "tls_cert_file = \"n1.pem\"\n  tls_key_file = \"n1-key.pem\"",
            r#"node1.hcl:2: api_addr: "http://127.0.0.1:8200" is not https, but the listener speaks TLS (try "https://127.0.0.1:8200")"#,
        ),
        (
            NODE,
            "tls_disable = true",
            "tls_disable = true\n  max_request_size = 10",
            "node1.hcl:6: listener.max_request_size: 10 is out of range (write 1024 to 1073741824)",
        ),
        (
            NODE,
            "tls_disable = true",
            "tls_disable = true\n  max_request_duration = \"2h\"",
            r#"node1.hcl:6: listener.max_request_duration: "2h" is out of range (write "1s" to "1h")"#,
        ),
        (
            NODE,
            "tls_disable = true",
            "tls_disable = true\n  max_request_duration = \"soon\"",
            r#"node1.hcl:6: listener.max_request_duration: "soon" is no duration (write for example "30s", "1h30m", "7d", or seconds as in "900")"#,
        ),
        (
            NODE,
            "tls_disable = true",
            "tls_disable = true\n  tls_disable = false",
            "node1.hcl:6: listener.tls_disable: is given twice (first in line 5; keep one)",
        ),
        (NODE, "listener \"tcp\" {", "listener {", "node1.hcl:3: listener: the block has no label (write listener \"…\" { … })"),
        (NODE, "\"tcp\"", "\"unix\"", "node1.hcl:3: listener: \"unix\" is not supported (write listener \"tcp\")"),
        (NODE, "storage", "listener \"tcp\" {}\nstorage", "node1.hcl:7: listener: is given twice (first in line 3; keep one)"),
        (
            NODE,
            "tls_disable = true",
            "tls_disable = true\n  tls_client_ca_file = \"ca.pem\"",
            "node1.hcl:6: listener.tls_client_ca_file: contradicts tls_disable = true (remove one of them)",
        ),
        (
            NODE,
            "tls_disable = true",
            "tls_disable = true\n  x_forwarded_for_authorized_addrs = \"10.0.0.0/8\"",
            "node1.hcl:6: listener.x_forwarded_for_authorized_addrs: is not supported: a client's address is the connection's (remove this line)",
        ),
        (
            NODE,
            "storage \"raft\"",
            "storage \"file\"",
            r#"node1.hcl:7: storage: "file" is not supported (write storage "raft", or "inmem" for a test)"#,
        ),
        (
            NODE,
            "storage",
            "backend \"inmem\" {}\nstorage",
            "node1.hcl:7: backend: is another name of storage, which is given too (keep one)",
        ),
        (NODE, "storage", "storage \"inmem\" {}\nstorage", "node1.hcl:8: storage: is given twice (first in line 7; keep one)"),
        (
            NODE,
            "node_id = \"n1\"",
            "node_id = \"n1\"\n  retry_join { auto_join = \"provider=aws\" }",
            "node1.hcl:10: storage.retry_join.auto_join: is not supported: clouds are not searched for nodes (write a leader_api_addr, which may be a name with several addresses)\n\
             node1.hcl:10: storage.retry_join: leader_api_addr is missing (add leader_api_addr = \"https://10.0.0.1:8200\" to this block)",
        ),
        (
            CLUSTER,
            "storage \"raft\" {\n  path    = \"data\"\n",
            "storage \"inmem\" {\n",
            "node1.hcl:9: cluster: a node in memory forgets its votes, so it cannot have peers (write storage \"raft\", or remove this block)",
        ),
        (
            NODE,
            "node_id = \"n1\"",
            "node_id = \"N1\"",
            r#"node1.hcl:9: storage.node_id: "N1" is no node id (use 1 to 32 of a-z, 0-9 and '-', not at either end)"#,
        ),
        (
            NODE,
            "node_id = \"n1\"",
            "node_id = \"n1\"\n  table = \"rocksdb\"",
            r#"node1.hcl:10: storage.table: "rocksdb" is not one of "redb", "sled""#,
        ),
        (NODE, "\"data\"", "\"\"", r#"node1.hcl:8: storage.path: is empty (name the data folder, such as "/var/lib/conclave")"#),
        (
            CLUSTER,
            "  tls_key_file  = \"n1-key.pem\"\n",
            "",
            "node1.hcl:10: cluster: tls_key_file is missing (add tls_key_file = \"…\" to this block)",
        ),
        (
            CLUSTER,
            "node_id = \"n1\"",
            "node_id = \"n4\"",
            "node1.hcl:14: cluster.member: this node, \"n4\", is not among n1, n2, n3 (add member \"n4\" { … })",
        ),
        (
            CLUSTER,
            "8205",
            "8203",
            r#"node1.hcl:16: cluster.member.n3.cluster_addr: "https://127.0.0.1:8203" is taken by cluster.member.n2.cluster_addr (each address belongs to one listener)"#,
        ),
        (CLUSTER, "\"n3\"", "\"n2\"", "node1.hcl:16: cluster.member.n2: is given twice (first in line 15; keep one)"),
        (
            CLUSTER,
            "\"n3\"",
            "\"n_3\"",
            r#"node1.hcl:16: cluster.member.n_3: "n_3" is no node id (use 1 to 32 of a-z, 0-9 and '-', not at either end)"#,
        ),
        (
            CLUSTER,
            "https://127.0.0.1:8205",
            "http://127.0.0.1:8205",
            r#"node1.hcl:16: cluster.member.n3.cluster_addr: "http://127.0.0.1:8205" is not https, and peers speak TLS only (try "https://127.0.0.1:8205")"#,
        ),
        (
            CLUSTER,
            "cluster {",
            "api_addr = \"http://127.0.0.1:8299\"\ncluster {",
            r#"node1.hcl:10: api_addr: "http://127.0.0.1:8299" is not what this node's member block says, "http://127.0.0.1:8200" (make them equal, or remove this line)"#,
        ),
        (
            CLUSTER,
            "cluster {",
            "cluster {\n  listen = \"127.0.0.1:8200\"",
            "node1.hcl:11: cluster.listen: 127.0.0.1:8200 is the clients' listener's address too (give peers a port of their own)",
        ),
        (
            CLUSTER,
            "https://127.0.0.1:8201",
            "https://one:8201",
            "node1.hcl:10: cluster: listen is missing (add listen = \"0.0.0.0:8201\", as the host of cluster_addr is a name, to this block)",
        ),
    ];
    for (base, this, that, want) in cases {
        assert!(base.contains(this), "{this}");
        let text = base.replacen(this, that, 1);
        assert_eq!(mistakes(&text), want, "{text}");
    }
}

#[test]
fn a_node_id_may_come_from_the_environment() {
    let text = |name: &str| {
        format!("listener \"tcp\" {{\n tls_disable = true\n}}\nstorage \"raft\" {{\n path = \"data\"\n node_id = \"env://{name}\"\n}}\n")
    };
    // Cargo tells tests the name and the version of their package.
    assert_eq!(parse(&text("CARGO_PKG_NAME")).unwrap().storage.node_id.as_str(), "node");
    let unset = mistakes(&text("CONCLAVE_UNSET_NODE_ID"));
    assert_eq!(
        unset,
        "node1.hcl:6: storage.node_id: the environment variable CONCLAVE_UNSET_NODE_ID is not set, or is no text (set it for this process)"
    );
    let unfit = mistakes(&text("CARGO_PKG_VERSION"));
    assert!(unfit.starts_with("node1.hcl:6: storage.node_id: the environment variable CARGO_PKG_VERSION: \"0."), "{unfit}");
}

const MANAGED: &str = r#"
cluster_addr = "https://n2.example.com:8201"
listener "tcp" {
  address     = "127.0.0.1:8200"
  tls_disable = true
}
storage "raft" {
  path    = "data"
  node_id = "n2"
  retry_join {
    leader_api_addr       = "https://n1.example.com:8200"
    leader_ca_cert_file   = "ca.pem"
    leader_tls_servername = "n1"
    join_token_file       = "not-there-yet"
  }
  retry_join { leader_api_addr = "http://10.0.0.3:8200" }
  retry_join_as_non_voter = true
}
cluster {
  listen = "0.0.0.0:8201"
}
"#;

#[test]
fn without_certificates_a_node_makes_its_own_and_joins() {
    let folder = folder();
    let config = Config::parse(MANAGED, "node1.hcl", folder.path()).unwrap();
    assert_eq!(config.cluster.unwrap().identity, ClusterIdentity::Managed { certificate_ttl: Duration::from_secs(30 * 24 * 3600) });
    assert_eq!(config.api_addr, url("http://127.0.0.1:8200"));
    let JoinConfig { places, non_voter } = config.storage.join;
    assert!(non_voter);
    let first = JoinPlace {
        address: url("https://n1.example.com:8200"),
        ca: Some(folder.path().join("ca.pem")),
        client: None,
        server_name: Some("n1".to_owned()),
        token: Some(folder.path().join("not-there-yet")),
    };
    assert_eq!(places, [first, JoinPlace::named("http://10.0.0.3:8200", None).unwrap()]);
    for (this, that, want) in [
        ("https://n1.example.com:8200", "n1", "storage.retry_join.leader_api_addr"),
        ("leader_tls_servername = \"n1\"", "leader_tls_servername = \"a b\"", "is neither a host's name nor an address"),
        ("leader_ca_cert_file   = \"ca.pem\"", "leader_client_cert_file = \"ca.pem\"", "leader_client_key_file is missing"),
        ("listen = \"0.0.0.0:8201\"", "listen = \"0.0.0.0:8201\" certificate_ttl = \"1s\"", "cluster.certificate_ttl"),
        ("listen = \"0.0.0.0:8201\"", "listen = \"0.0.0.0:8201\" tls_ca_file = \"ca.pem\"", "cluster: tls_cert_file is missing"),
        ("cluster {\n  listen = \"0.0.0.0:8201\"\n}", "", "storage.retry_join: needs a cluster block"),
        ("cluster_addr = \"https://n2.example.com:8201\"", "", "cluster: cluster_addr is missing"),
    ] {
        assert!(MANAGED.contains(this), "{this}");
        let text = MANAGED.replacen(this, that, 1);
        let said = Config::parse(&text, "node1.hcl", folder.path()).unwrap_err().to_string();
        assert!(said.contains(want), "{want}: {said}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = r#"
cluster_name = "Prod"
listener "tcp" {
  address = "0.0.0.0"
  tls_cert = "n1.pem"
}
storage "raft" {
  path = "data" node_id = "n1"
  oops
}
"#;
    assert_eq!(
        mistakes(text),
        "node1.hcl:2: cluster_name: \"Prod\" is no cluster name (use 1 to 32 of a-z, 0-9 and '-', not at either end)\n\
         node1.hcl:3: listener: TLS is missing (add tls_cert_file = \"…\" and tls_key_file = \"…\", or tls_disable = true for plain HTTP, to this block)\n\
         node1.hcl:4: listener.address: \"0.0.0.0\" has no port (try \"0.0.0.0:8200\")\n\
         node1.hcl:5: listener: unknown key \"tls_cert\" (did you mean tls_cert_file?)\n\
         node1.hcl:9: \"oops\" has no value (write oops = …, or oops { … })"
    );
}

#[test]
fn doubtful_settings_are_warned_of() {
    for (base, this, that, want) in [
        (
            NODE,
            "api_addr",
            "ui = true\napi_addr",
            "node1.hcl:2: ui: does nothing here: there is no web interface; every other interface is always on",
        ),
        (
            NODE,
            "api_addr",
            "disable_mlock = true\napi_addr",
            "node1.hcl:2: disable_mlock: memory is not locked: keys may be swapped out (turn swap off, or remove this line)",
        ),
        (
            NODE,
            "api_addr",
            "cluster_addr = \"https://127.0.0.1:8201\"\napi_addr",
            "node1.hcl:2: cluster_addr: does nothing here: there is no cluster block, so this node has no peers",
        ),
        (
            NODE,
            "address     = \"127.0.0.1:8200\"",
            "address = \"127.0.0.1:8200\"\n  cluster_address = \"127.0.0.1:8201\"",
            "node1.hcl:5: listener.cluster_address: does nothing here: there is no cluster block, so this node has no peers",
        ),
        (
            NODE,
            "storage \"raft\" {\n  path    = \"data\"\n",
            "storage \"inmem\" {\n",
            "node1.hcl:7: storage: nothing is kept: all secrets and keys are lost when this process ends (write storage \"raft\" for anything but a test)",
        ),
        (
            NODE,
            "storage",
            "telemetry { prometheus_retention_time = \"30s\", disable_hostname = true }\nstorage",
            "node1.hcl:7: telemetry.prometheus_retention_time: only says that the format is served: values are kept for as long as the process runs (\"0s\" turns it off)",
        ),
        (
            NODE,
            "storage",
            "telemetry { disable_hostname = false }\nstorage",
            "node1.hcl:7: telemetry.disable_hostname: does nothing here: no metric's name holds the host's",
        ),
        (
            NODE,
            "address     = \"127.0.0.1:8200\"",
            "address = \"0.0.0.0:8200\"",
            "node1.hcl:5: listener.tls_disable: secrets cross the network in clear, as 0.0.0.0:8200 is not a loopback address",
        ),
        (
            NODE,
            "http://",
            "https://",
            "node1.hcl:5: listener.tls_disable: this listener speaks plain HTTP, but api_addr is \"https://127.0.0.1:8200\" (right only behind something that ends TLS)",
        ),
        (
            CLUSTER,
            "  member \"n3\" { cluster_addr = \"https://127.0.0.1:8205\"  api_addr = \"http://127.0.0.1:8204\" }\n",
            "",
            "node1.hcl:14: cluster.member: 2 members survive no more failures than 1 (an odd number is better)",
        ),
    ] {
        assert!(base.contains(this), "{this}");
        let config = parse(&base.replacen(this, that, 1)).unwrap();
        assert_eq!(warnings(&config), [want]);
    }
}

#[test]
fn files_must_be_there_and_keys_private() {
    let folder = folder();
    let shown = |name: &str| format!("{:?}", folder.path().join(name).display().to_string());
    for (this, that, want) in [
        (
            "ca.pem",
            "none.pem",
            format!("node1.hcl:11: cluster.tls_ca_file: {} cannot be read: No such file or directory (os error 2)", shown("none.pem")),
        ),
        (
            "n1-key.pem",
            "open-key.pem",
            format!("node1.hcl:13: cluster.tls_key_file: {} is a private key that everyone can use (chmod 600 it)", shown("open-key.pem")),
        ),
        ("n1.pem", ".", format!("node1.hcl:12: cluster.tls_cert_file: {} is not a file", shown("."))),
        (
            "n1-key.pem",
            "-----BEGIN PRIVATE KEY-----MC4",
            "node1.hcl:13: cluster.tls_key_file: must name a file, not hold its content (write the content to a file and name that)"
                .to_owned(),
        ),
        ("\"data\"", "\"ca.pem\"", format!("node1.hcl:7: storage.path: {} is not a folder", shown("ca.pem"))),
    ] {
        let errors = Config::parse(&CLUSTER.replacen(this, that, 1), "node1.hcl", folder.path()).unwrap_err();
        assert_eq!(errors.to_string(), want);
    }
    let shared = Config::parse(&CLUSTER.replacen("n1-key.pem", "group-key.pem", 1), "node1.hcl", folder.path()).unwrap();
    assert_eq!(
        shared.warnings[0].to_string(),
        format!(
            "node1.hcl:13: cluster.tls_key_file: {} is a private key that its group can use (chmod 600 it, unless that is meant)",
            shown("group-key.pem")
        )
    );
}

#[test]
fn a_file_is_read_from_its_own_folder_and_only_if_it_is_one() {
    let folder = folder();
    put(folder.path(), "node1.hcl", NODE, 0o644);
    let path = folder.path().join("node1.hcl");
    let place = StoragePlace::Folder { path: folder.path().join("data"), table: TableKind::Redb };
    assert_eq!(load(&path).unwrap().storage.place, place);
    assert_eq!(load(&path).unwrap().sources, [path]);

    put(folder.path(), "binary.hcl", "a = 1\n\u{0}", 0o644);
    put(folder.path(), "large.hcl", &"#".repeat(FILE_SIZE_BYTES_MAX + 1), 0o644);
    for (name, want) in [
        ("none.hcl", "cannot be read: No such file or directory (os error 2)"),
        ("large.hcl", "is larger than 1048576 bytes (is it a configuration?)"),
    ] {
        let path = folder.path().join(name);
        assert_eq!(load(&path).unwrap_err().to_string(), format!("{}: {want}", path.display()));
    }
    assert!(load(&folder.path().join("binary.hcl")).is_err());
}

#[test]
fn nesting_is_bounded() {
    for (open, lines) in [("a {\n", 40), ("a = [", 40), ("a = {", 40), ("[", 1)] {
        for count in [lines, 100_000] {
            assert!(parse(&open.repeat(count)).is_err());
        }
    }
    assert!(mistakes(&"a {\n".repeat(17)).contains("node1.hcl:17: nested deeper than 16 levels; the rest is not read"));
}

#[test]
fn no_more_mistakes_are_kept_than_anyone_reads() {
    let errors = parse(&"x\n".repeat(100_000)).unwrap_err();
    assert_eq!(errors.mistakes().len(), MISTAKES_MAX);
}

const MANUAL: &str = include_str!("../../../../docs/operate/configuration.md");

#[test]
fn snapshots_are_made_as_vaults_keys_say() {
    let storage = |keys: &str| {
        format!(
            "api_addr = \"http://127.0.0.1:8200\"\nlistener \"tcp\" {{\n tls_disable = true\n}}\nstorage \"raft\" {{\n path = \"/data\"\n node_id = \"n1\"\n{keys}\n}}\n"
        )
    };
    let given = parse(&storage("snapshot_interval = \"2m\"\n snapshot_threshold = \"8192\"\n trailing_logs = 100")).unwrap();
    let want = raft::Compaction { interval: Duration::from_secs(120), entries: 8192, entries_kept: 100 };
    assert_eq!((given.storage.compaction, given.warnings), (want, Vec::new()));
    for wrong in ["snapshot_interval = \"1ms\"", "snapshot_threshold = 5", "trailing_logs = -1"] {
        let key = wrong.split(' ').next().unwrap();
        let said = mistakes(&storage(wrong));
        assert!(said.contains(key), "{said}");
    }
}

/// The manual's part under `heading`.
fn part(heading: &str) -> &'static str {
    let start = MANUAL.find(&format!("## {heading}\n")).unwrap_or_else(|| panic!("no part {heading}"));
    let rest = &MANUAL[start + 3..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

#[test]
fn the_manuals_examples_load() {
    let examples: Vec<&str> = MANUAL.split("```hcl\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 3);
    for example in examples {
        let config = parse(example).unwrap();
        let expected = usize::from(example.contains("inmem"));
        assert_eq!(config.warnings.len(), expected, "{example}: {:?}", config.warnings);
    }
}

#[test]
fn the_manual_describes_each_key_where_it_belongs_and_no_other() {
    let root = [shape::ROOT_KEYS.own, shape::ROOT_KEYS.repeatable].concat();
    let cluster = [shape::CLUSTER_KEYS.own, shape::CLUSTER_KEYS.repeatable].concat();
    let raft = [shape::RAFT_KEYS.own, shape::RAFT_KEYS.repeatable].concat();
    for (heading, keys) in [
        ("At the top", &root[..]),
        ("`listener \"tcp\"`", listener::LISTENER_KEYS.own),
        ("`telemetry` of a listener", listener::LISTENER_TELEMETRY_KEYS.own),
        ("`storage \"raft\"`", &raft[..]),
        ("`retry_join` of a storage", join::KEYS.own),
        ("`storage \"inmem\"`", shape::MEMORY_KEYS.own),
        ("`cluster`", &cluster[..]),
        ("`seal \"static\"`", seal::STATIC_KEYS.own),
        ("`seal \"shamir\"`", seal::SHAMIR_KEYS.own),
        ("`member \"ID\"`", shape::MEMBER_KEYS.own),
        ("`telemetry`", shape::TELEMETRY_KEYS.own),
    ] {
        let described: Vec<&str> = part(heading).lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        assert_eq!(described, keys, "{heading}");
    }
}

#[test]
fn the_manual_says_what_becomes_of_vaults_other_keys_in_our_own_words() {
    let mut want = Vec::new();
    for (block, keys) in
        [("", foreign::ROOT), ("listener.", foreign::LISTENER), ("storage.", foreign::RAFT), ("telemetry.", foreign::TELEMETRY)]
    {
        want.extend(keys.iter().map(|(key, foreign)| match foreign {
            Foreign::Idle(why) => format!("| `{block}{key}` | a warning | {why} |"),
            Foreign::Refused(cure) => format!("| `{block}{key}` | refused | {cure} |"),
        }));
    }
    let described: Vec<&str> = part("Vault's other keys").lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(described.join("\n"), want.join("\n"));
}

#[test]
fn a_foreign_key_that_asks_for_nothing_is_let_be() {
    for line in [
        "ui = false",
        "raw_storage_endpoint = \"false\"",
        "plugin_directory = \"\"",
        "cache_size = 0",
        "experiments = []",
        "log_file = null",
    ] {
        let config = parse(&format!("{line}\n{NODE}")).unwrap_or_else(|errors| panic!("{line}: {errors}"));
        assert_eq!(config.warnings, [], "{line}");
    }
}

/// As hvac's own tests write it, after pyhcl has made JSON of it.
const HVAC: &str = r#"{
    "backend": {"inmem": {}},
    "listener": {"tcp": {"address": "127.0.0.1:8210", "tls_cert_file": "n1.pem", "tls_key_file": "n1-key.pem"}},
    "disable_mlock": true,
    "default_lease_ttl": "768h",
    "max_lease_ttl": "768h"
}"#;

#[test]
fn vaults_own_files_are_understood() {
    let config = parse(HVAC).unwrap();
    assert_eq!(
        config.storage,
        StorageConfig {
            node_id: NodeId::parse("n1").unwrap(),
            place: StoragePlace::Memory,
            compaction: raft::Compaction::default(),
            join: JoinConfig::default()
        }
    );
    assert_eq!(config.api_addr, url("https://127.0.0.1:8210"), "of the listener, where nothing else says it");
    assert_eq!(config.listener.tls.unwrap().client_certificate, ClientCertificate::Requested);
    assert!(!config.lock_memory);
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);

    // As its manual and charts write a single node.
    let text = r#"
        ui = false
        cluster_name = "vault-prod"
        api_addr     = "http://127.0.0.1:8200"
        cluster_addr = "https://127.0.0.1:8201"
        listener "tcp" {
          tls_disable = "1"
          address = "[::]:8200"
          cluster_address = "[::]:8201"
          telemetry { unauthenticated_metrics_access = "true" }
        }
        storage "raft" { path = "/vault/data" node_id = "n1" performance_multiplier = 1 }
        telemetry { prometheus_retention_time = "30s"  disable_hostname = true }
        disable_mlock = true
    "#;
    let config = parse(text).unwrap();
    assert_eq!(config.cluster_addr, None);
    assert!(config.listener.metrics_without_token && config.listener.tls.is_none());
    let places: Vec<&str> = config.warnings.iter().map(|warning| warning.place.as_str()).collect();
    assert_eq!(
        places,
        [
            "cluster_addr",
            "listener.tls_disable",
            "listener.cluster_address",
            "storage.performance_multiplier",
            "telemetry.prometheus_retention_time",
            "disable_mlock"
        ]
    );
}

#[test]
fn a_node_that_is_not_told_its_address_takes_its_listeners() {
    for (address, want) in [
        ("127.0.0.1:8300", Some("http://127.0.0.1:8300")),
        ("10.0.0.1:80", Some("http://10.0.0.1:80")),
        ("[::1]:8200", Some("http://[::1]:8200")),
        ("0.0.0.0:8200", Some("http://127.0.0.1:8200")),
        ("127.0.0.1:0", None),
    ] {
        let text = NODE.replace("api_addr = \"http://127.0.0.1:8200\"", "").replace("127.0.0.1:8200", address);
        match (parse(&text), want) {
            (Ok(config), Some(want)) => assert_eq!(config.api_addr, url(want), "{address}"),
            (Err(errors), None) => assert!(errors.to_string().contains("api_addr is missing"), "{errors}"),
            (other, _) => panic!("{address}: {other:?}"),
        }
    }
}

#[test]
fn what_is_asked_of_clients_is_unambiguous() {
    let tls = NODE
        .replace("http://", "https://")
        .replace("tls_disable = true", "tls_cert_file = \"n1.pem\"\n  tls_key_file = \"n1-key.pem\"\n  MORE");
    for (more, want) in [
        ("", Ok(ClientCertificate::Requested)),
        ("tls_disable_client_certs = true", Ok(ClientCertificate::Off)),
        ("tls_client_ca_file = \"ca.pem\"", Err("verifies nothing by itself")),
        ("tls_require_and_verify_client_cert = true", Err("needs the authority")),
        ("tls_require_and_verify_client_cert = true\n tls_disable_client_certs = true", Err("contradicts")),
        ("tls_require_and_verify_client_cert = true\n tls_client_ca_file = \"none.pem\"", Err("cannot be read")),
    ] {
        match (parse(&tls.replace("MORE", more)), want) {
            (Ok(config), Ok(want)) => assert_eq!(config.listener.tls.unwrap().client_certificate, want, "{more}"),
            (Err(errors), Err(want)) => assert!(errors.to_string().contains(want), "{more}: {errors}"),
            (other, _) => panic!("{more}: {other:?}"),
        }
    }
}

#[test]
fn several_files_are_one_configuration() {
    let folder = folder();
    let (first, rest) = NODE.split_at(NODE.find("storage").unwrap());
    put(folder.path(), "a.hcl", first, 0o644);
    put(folder.path(), "c.json", "{\"log_level\": \"warn\",\n \"adress\": 1}", 0o644);
    let conf = folder.path().join("conf.d");
    std::fs::create_dir(&conf).unwrap();
    put(&conf, "b.hcl", rest, 0o644);
    put(&conf, "notes.txt", "not one of them", 0o644);

    let [a, c] = ["a.hcl", "c.json"].map(|name| folder.path().join(name));
    let config = Config::load(&[a.clone(), conf.clone()]).unwrap();
    let place = StoragePlace::Folder { path: conf.join("data"), table: TableKind::Redb };
    assert_eq!(config.storage.place, place, "a relative path starts at its own file's folder");
    assert_eq!(config.sources, [a.clone(), conf.clone()]);

    let errors = Config::load(&[a.clone(), c.clone(), conf.clone()]).unwrap_err().to_string();
    assert!(errors.starts_with(&format!("{}:2: unknown key \"adress\"", c.display())), "{errors}");
    let errors = Config::load(&[a.clone(), conf.clone(), conf.clone()]).unwrap_err().to_string();
    let twice = format!("{0}:1: storage: is given twice (first in {0}:1; keep one)", conf.join("b.hcl").display());
    assert_eq!(errors, twice);
    let none = folder.path().join("none.hcl");
    let errors = Config::load(&[none.clone(), a.clone()]).unwrap_err().to_string();
    assert_eq!(errors, format!("{}: cannot be read: No such file or directory (os error 2)", none.display()));
    let empty = folder.path().join("empty.d");
    std::fs::create_dir(&empty).unwrap();
    let errors = load(&empty).unwrap_err().to_string();
    assert_eq!(errors, format!("{}: is a folder without a file *.hcl or *.json", empty.display()));
    for at in 0..=FILES_MAX {
        put(&empty, &format!("{at}.hcl"), "", 0o644);
    }
    assert!(Config::load(&[empty]).unwrap_err().to_string().contains("65 files are too many (at most 64 make a configuration)"));
    assert!(Config::load(&[]).unwrap_err().to_string().contains("no configuration file is named"));
}

#[test]
fn what_takes_a_restart_is_known() {
    let config = parse(HVAC).unwrap();
    assert_eq!(config.restart_needed(&config), Vec::<&str>::new());
    let mut renewed = parse(&HVAC.replace("8210", "8211").replace("\"max_lease_ttl\": \"768h\"", "\"max_lease_ttl\": \"800h\"")).unwrap();
    assert_eq!(config.restart_needed(&renewed), ["api_addr", "max_lease_ttl", "listener"]);
    renewed = config.clone();
    renewed.log.filter = "debug".to_owned();
    renewed.listener.tls.as_mut().unwrap().cert = "other.pem".into();
    assert_eq!(config.restart_needed(&renewed), Vec::<&str>::new(), "these change at once");
    renewed.listener.tls = None;
    assert_eq!(config.restart_needed(&renewed), ["listener"]);
}

#[test]
fn a_raise_may_be_left_to_operators() {
    let raise = |line: &str| parse(&format!("{line}\n{NODE}")).unwrap().feature_level_raise_after;
    assert_eq!(raise("feature_level_raise_after = \"never\""), None);
    assert_eq!(raise("feature_level_raise_after = \"0s\""), Some(Duration::ZERO));
    assert_eq!(raise("feature_level_raise_after = 90"), Some(Duration::from_secs(90)));
}

#[test]
fn the_manuals_defaults_are_ours() {
    for (heading, key, default) in [
        ("At the top", "cluster_name", format!("{CLUSTER_NAME_DEFAULT:?}")),
        ("At the top", "log_level", format!("{LOG_FILTER_DEFAULT:?}")),
        ("At the top", "stale_reads_max", format!("\"{}s\"", STALE_READS_MAX_DEFAULT.as_secs())),
        ("At the top", "feature_level_raise_after", format!("\"{}h\"", FEATURE_LEVEL_RAISE_AFTER_DEFAULT.as_secs() / 3600)),
        ("`listener \"tcp\"`", "max_request_size", REQUEST_SIZE_BYTES_MAX_DEFAULT.to_string()),
        ("`listener \"tcp\"`", "max_request_duration", format!("\"{}s\"", REQUEST_DURATION_MAX_DEFAULT.as_secs())),
        ("`listener \"tcp\"`", "http_read_header_timeout", format!("\"{}s\"", HEADER_READ_TIMEOUT_DEFAULT.as_secs())),
        ("`listener \"tcp\"`", "http_idle_timeout", format!("\"{}m\"", IDLE_TIMEOUT_DEFAULT.as_secs() / 60)),
        ("`listener \"tcp\"`", "address", format!("{ADDRESS_DEFAULT:?}")),
        ("At the top", "max_lease_ttl", format!("\"{}h\"", LEASE_TTL_DEFAULT.as_secs() / 3600)),
        ("At the top", "api_version", format!("{:?}", crate::API_VERSION)),
        ("`storage \"inmem\"`", "node_id", format!("{MEMORY_NODE_ID_DEFAULT:?}")),
        ("`seal \"shamir\"`", "rejoin_within", format!("\"{}m\"", REJOIN_WITHIN_DEFAULT.as_secs() / 60)),
        ("`seal \"shamir\"`", "rejoin_count", REJOIN_COUNT_DEFAULT.to_string()),
    ] {
        assert!(part(heading).contains(&format!("| `{key}` | `{default}` |")), "{key}");
    }
}

/// A key as a slip of the pen would put it into the file.
const INLINE_KEY: &str = "8f0e3d5c7b9a1f2e4d6c8b0a9f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c";

/// `NODE` or `CLUSTER` with seals, in a folder with keys.
fn sealed(base: &str, seals: &str) -> Result<Config, ConfigErrors> {
    let folder = folder();
    put(folder.path(), "a.key", INLINE_KEY, 0o600);
    put(folder.path(), "b.key", &format!("{INLINE_KEY}\n"), 0o600);
    put(folder.path(), "open.key", INLINE_KEY, 0o644);
    put(folder.path(), "short.key", &INLINE_KEY[2..], 0o600);
    Config::parse(&format!("{}{seals}", base.trim_start()), "node1.hcl", folder.path())
}

#[test]
fn a_static_key_is_named_and_never_kept() {
    assert_eq!(sealed(NODE, "").unwrap().seal, SealConfig::default());
    assert_eq!(sealed(NODE, "seal \"shamir\" {}").unwrap().seal, SealConfig::default());
    let text = "seal \"static\" {\n current_key_id = \"2\"\n current_key = \"file://a.key\"\n previous_key_id = \"1\"\n previous_key = \"file://b.key\"\n}";
    let config = sealed(NODE, text).unwrap();
    let known: Vec<_> = config.seal.static_keys.iter().map(|key| (key.id.as_str(), key.is_previous)).collect();
    assert_eq!(known, [("2", false), ("1", true)]);
    assert!(!format!("{config:?}").contains(INLINE_KEY));
    let shown = config.shown();
    assert_eq!(shown["seals"][1], serde_json::json!({ "type": "static", "disabled": false }));
    assert!(!shown.to_string().contains("a.key"), "{shown}");

    let disabled = |id: &str| format!("seal \"static\" {{\n current_key_id = {id:?}\n disabled = \"true\"\n}}\n");
    let config =
        sealed(NODE, &(disabled("1") + &disabled("2") + text.replace("\"2\"", "\"3\"").replace("\"1\"", "\"4\"").as_str())).unwrap();
    assert_eq!((config.seal.static_keys.len(), config.seal.disabled_keys.len()), (2, 2));
    let config = sealed(NODE, &disabled("1")).unwrap();
    assert_eq!((config.seal.static_keys.len(), config.seal.disabled_keys.as_slice()), (0, ["1".to_owned()].as_slice()));
    let folder = folder();
    put(folder.path(), "a.key", INLINE_KEY, 0o600);
    let text = format!("{NODE}seal \"static\" {{ current_key_id = \"1\" current_key = \"file://a.key\" }}");
    let config = Config::parse(&text, "node1.hcl", folder.path()).unwrap();
    assert_eq!(config.seal.opening().unwrap().static_keys.len(), 1);
    drop(folder);
    assert!(config.seal.opening().is_err_and(|error| error.to_string().contains("a.key") && error.to_string().contains("cannot be read")));
}

#[test]
fn what_is_wrong_with_a_seal_is_said_and_its_key_is_not() {
    let inline = format!("seal \"static\" {{\n current_key_id = \"1\"\n current_key = \"{INLINE_KEY}\"\n}}");
    let disabled = format!("seal \"static\" {{\n current_key_id = \"1\"\n current_key = \"{INLINE_KEY}\"\n disabled = true\n}}");
    let block = |lines: &str| format!("seal \"static\" {{\n{lines}\n}}");
    for (seals, want) in [
        (
            inline,
            "node1.hcl:12: seal.current_key: must say where the key is, not hold it (write \"file:///etc/conclave/seal.key\" or \"env://NAME\")",
        ),
        (disabled, "must say where the key is, not hold it"),
        (
            block("current_key = \"file://a.key\""),
            "node1.hcl:10: seal: current_key_id is missing (add current_key_id = \"2026-1\" to this block)",
        ),
        (
            block("current_key_id = \"1\""),
            "seal: current_key is missing (add current_key = \"file:///etc/conclave/seal.key\" or \"env://NAME\" to this block)",
        ),
        (block("current_key_id = \"1\"\ncurrent_key = \"file://none.key\""), "none.key\" cannot be read: No such file"),
        (
            block("current_key_id = \"1\"\ncurrent_key = \"file://open.key\""),
            "open.key\" is a private key that everyone can use (chmod 600 it)",
        ),
        (
            block("current_key_id = \"1\"\ncurrent_key = \"file://short.key\""),
            "short.key\" holds no key of 32 bytes in hex or base64 (make one: openssl rand -hex 32)",
        ),
        (
            block("current_key_id = \"1\"\ncurrent_key = \"env://CONCLAVE_TEST_NO_SUCH_KEY\""),
            "the environment variable CONCLAVE_TEST_NO_SUCH_KEY is not set",
        ),
        (block("current_key_id = \"1\"\ncurrent_key = \"env://a b\""), "names no environment variable"),
        (block("current_key_id = \"\"\ncurrent_key = \"file://a.key\""), "must be 1 to 128 bytes"),
        (
            block("current_key_id = \"1\"\ncurrent_key = \"file://a.key\"\nprevious_key_id = \"1\"\nprevious_key = \"file://b.key\""),
            "names another key already",
        ),
        (block("current_key_id = \"1\"\ncurrent_key = \"file://a.key\"\nprevious_key = \"file://b.key\""), "previous_key_id is missing"),
        (block("current_key_id = \"1\"\nkey = \"x\""), "unknown key \"key\""),
        ("seal \"shamir\" {}\nseal \"shamir\" {}".to_owned(), "is given twice (first in line 10; keep one)"),
        ("seal \"awskms\" { region = \"x\" }".to_owned(), "\"awskms\" is not supported (write seal \"static\""),
        (
            "seal \"shamir\" {\n rejoin = \"peers\"\n}".to_owned(),
            "rejoin = \"peers\" takes peers (add a cluster block, or remove that line)",
        ),
        ("seal \"shamir\" {\n rejoin = \"yes\"\n}".to_owned(), "\"yes\" is not one of \"off\", \"peers\""),
        ("seal \"shamir\" {\n rejoin_within = \"1s\"\n}".to_owned(), "\"1s\" is out of range"),
        ("seal \"shamir\" {\n rejoin_count = 0\n}".to_owned(), "0 is out of range (write 1 to 100)"),
        ("seal = 1".to_owned(), "write a block in braces"),
        ("seal {}".to_owned(), "the block has no label"),
    ] {
        let errors = sealed(NODE, &seals).expect_err(&seals).to_string();
        assert!(errors.contains(want), "{seals}: {errors}");
        assert!(!errors.contains(INLINE_KEY) && !errors.contains(&INLINE_KEY[2..]), "an error repeats a key: {errors}");
    }
}

#[test]
fn rejoin_is_off_unless_it_is_asked_for() {
    let rejoin = |lines: &str| sealed(CLUSTER, &format!("seal \"shamir\" {{\n{lines}\n}}")).unwrap();
    assert_eq!(rejoin("").seal.rejoin, None);
    let defaults = barrier::Rejoin { within: REJOIN_WITHIN_DEFAULT, count: REJOIN_COUNT_DEFAULT };
    assert_eq!(rejoin("rejoin = \"peers\"").seal.rejoin, Some(defaults));
    let config = rejoin("rejoin = \"peers\"\nrejoin_within = \"1h\"\nrejoin_count = 9");
    assert_eq!(config.seal.rejoin, Some(barrier::Rejoin { within: Duration::from_secs(3600), count: 9 }));
    let config = rejoin("rejoin_count = 9");
    assert_eq!(config.seal.rejoin, None);
    assert!(warnings(&config).iter().any(|warning| warning.contains("rejoin is off")), "{:?}", config.warnings);
}

/// Text made of what a configuration is made of.
fn pieces() -> impl Strategy<Value = String> {
    let words = [
        "cluster",
        "member",
        "listener",
        "storage",
        "backend",
        "\"inmem\"",
        "telemetry",
        "seal",
        "\"static\"",
        "\"shamir\"",
        "current_key",
        "current_key_id",
        "\"env://PATH\"",
        "rejoin",
        "ui",
        "retry_join",
        "\"tcp\"",
        "\"raft\"",
        "\"n1\"",
        "node_id",
        "path",
        "api_addr",
        "cluster_addr",
        "listen",
        "tls_disable",
        "tls_cert_file",
        "log_level",
        "max_request_size",
        "max_request_duration",
        "{",
        "}",
        "[",
        "]",
        "=",
        ":",
        ",",
        "\n",
        " ",
        "true",
        "null",
        "1",
        "-9",
        "1.5e9",
        "\"https://a:1\"",
        "\"127.0.0.1:1\"",
        "\"\\u",
        "\"\\uD83D\\uDE00\"",
        "\"",
        "${",
        "$${",
        "#",
        "//",
        "/*",
        "*/",
        "<<E",
        "\u{a0}",
        "é",
        "\0",
        "\r\n",
    ];
    proptest::collection::vec(prop_oneof![8 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => ".{0,4}"], 0..120)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_panics(text in prop_oneof![pieces(), any::<String>()]) {
        let _ = Config::parse(&text, "node1.hcl", Path::new("/nonexistent"));
    }

    #[test]
    fn no_change_of_a_good_file_panics(at in 0..CLUSTER.len(), length in 0..40usize, piece in pieces(), json in any::<bool>()) {
        let base = if json { CLUSTER.replace(" = ", ": ") } else { CLUSTER.to_owned() };
        let end = (at + length).min(base.len());
        let text = format!("{}{piece}{}", &base[..at.min(base.len())], &base[end.max(at.min(base.len()))..]);
        match Config::parse(&text, "node1.hcl", Path::new("/nonexistent")) {
            Ok(_) => prop_assert!(false, "its files are not there"),
            Err(errors) => for mistake in errors.mistakes() {
                let lines = text.matches('\n').count() + 1;
                prop_assert!(mistake.line.is_none_or(|line| (1..=lines).contains(&line)), "{mistake}");
            },
        }
    }
}

//! The clients' port and what a node tells of itself: health codes, metrics, reloading, connections that rest.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tests::raw::{self, Answer};
use tests::{Cluster, Node, eventually};

const TOLD_MAX: Duration = Duration::from_secs(20);

fn get(node: &Node, path: &str) -> Answer {
    raw::request(node.api_port, &format!("GET {path}"), &[], "")
}

/// Waits until the node has traced `words`, counted from the byte `from` of its trace.
async fn await_trace(node: &Node, from: usize, words: &str) {
    eventually(&format!("{} says {words:?}", node.id), TOLD_MAX, async || {
        let trace = node.trace();
        if trace.get(from..).is_some_and(|new| new.contains(words)) {
            Ok(())
        } else {
            Err(trace.get(from..).unwrap_or_default().to_owned())
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_a_load_balancer_what_it_asked_to_be_told() {
    let mut cluster = Cluster::builder().nodes(1).start().await;
    let health = |cluster: &Cluster, query: &str| {
        let answer = get(&cluster.nodes[0], &format!("/v1/sys/health{query}"));
        let body = answer.json();
        let head = raw::request(cluster.nodes[0].api_port, &format!("HEAD /v1/sys/health{query}"), &[], "");
        assert_eq!((head.status, head.body.as_str()), (answer.status, ""), "{query}");
        (answer.status, body)
    };
    let (status, body) = health(&cluster, "");
    assert_eq!((status, &body["initialized"], &body["sealed"]), (501, &false.into(), &true.into()), "{body}");
    assert_eq!(health(&cluster, "?uninitcode=299&sealedcode=298&activecode=297").0, 299);
    cluster.init().await;
    assert_eq!(health(&cluster, "").0, 503);
    assert_eq!(health(&cluster, "?uninitcode=299&sealedcode=298&activecode=297").0, 298);
    cluster.unseal_everywhere().await;
    let (status, body) = health(&cluster, "?standbyok&perfstandbyok=true");
    assert_eq!(status, 200, "{body}");
    for key in ["initialized", "sealed", "standby", "performance_standby", "server_time_utc", "version", "cluster_name", "cluster_id"] {
        assert!(!body[key].is_null(), "{key}: {body}");
    }
    assert_eq!(health(&cluster, "?uninitcode=299&sealedcode=298&activecode=297").0, 297);
    let bad = get(&cluster.nodes[0], "/v1/sys/health?activecode=ok");
    assert!(bad.status == 400 && bad.error().contains("activecode"), "{bad:?}");

    let leader = get(&cluster.nodes[0], "/v1/sys/leader").json();
    let since = leader["active_time"].as_str().unwrap().to_owned();
    assert!(since.starts_with("20") && since.ends_with('Z'), "{leader}");
    assert_eq!(get(&cluster.nodes[0], "/v1/sys/leader").json()["active_time"], since, "it has led since then");
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_has_not_led_since_any_time() {
    let mut cluster = Cluster::builder().nodes(3).start().await;
    let leader = cluster.leader().await;
    for at in 0..3 {
        let told = get(&cluster.nodes[at], "/v1/sys/leader").json();
        let is_zero = told["active_time"] == "0001-01-01T00:00:00Z";
        assert_eq!(is_zero, at != leader, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_pages_are_those_of_answers_below_ui_at_every_node() {
    let mut cluster = Cluster::builder().nodes(3).open().await;
    let token = format!("X-Vault-Token: {}", cluster.keys().root_token);
    let set = |at: usize, name: &str, body: &str| {
        let line = format!("POST /v1/sys/config/ui/headers/{name}");
        raw::request(cluster.nodes[at].api_port, &line, &[&token], body).status
    };
    assert_eq!(set(0, "x-frame-options", r#"{"values": ["DENY"]}"#), 200);
    assert_eq!(set(1, "content-type", r#"{"values": ["text/plain"]}"#), 200);
    assert_eq!(set(2, "x-two", r#"{"values": ["a", "b, c"]}"#), 200);
    assert_eq!(set(2, "content-length", r#"{"values": ["1"]}"#), 400);
    for node in &cluster.nodes {
        for path in ["/ui", "/ui/", "/ui/vault/auth?with=token", "/ui//../x"] {
            let answer = get(node, path);
            assert_eq!(answer.status, 404, "{path}: {answer:?}");
            assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}: {answer:?}");
            let of =
                |name: &str| answer.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect::<Vec<_>>();
            assert_eq!(of("content-type"), ["text/plain"], "in place of the answer's own");
            assert_eq!(of("x-two"), ["a", "b, c"]);
        }
        for path in ["/v1/sys/health", "/v1/secret/data/a", "/uinot", "/", "/v1/ui/"] {
            let answer = get(node, path);
            assert_eq!(answer.header("x-frame-options"), None, "{path}: {answer:?}");
        }
    }
    let removed = raw::request(cluster.nodes[0].api_port, "DELETE /v1/sys/config/ui/headers/X-Frame-Options", &[&token], "");
    assert_eq!(removed.status, 204, "{removed:?}");
    assert_eq!(get(&cluster.nodes[2], "/ui/").header("x-frame-options"), None, "at once, everywhere");
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_that_leads_is_remembered_with_the_time_since_when() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    let token = format!("X-Vault-Token: {}", cluster.keys().root_token);
    let history = |cluster: &Cluster| raw::request(cluster.nodes[0].api_port, "LIST /v1/sys/version-history", &[&token], "").json();
    eventually("the version is noted", TOLD_MAX, async || match history(&cluster)["data"]["keys"].as_array() {
        Some(keys) if keys.len() == 1 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let before = history(&cluster)["data"].clone();
    let version = before["keys"][0].as_str().unwrap();
    assert!(before["key_info"][version]["timestamp_installed"].as_str().is_some_and(|time| time.starts_with("20")), "{before}");
    assert!(before["key_info"][version]["previous_version"].is_null(), "{before}");
    cluster.nodes[0].kill();
    cluster.restart(0).await;
    cluster.unseal_everywhere().await;
    eventually("it serves", TOLD_MAX, async || match history(&cluster)["data"].clone() {
        data if data == before => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    cluster.assert_sound();
}

/// Metrics by name and labels; panics at a line that Prometheus would not read.
fn parse_prometheus(text: &str) -> Vec<(String, f64)> {
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let (mut family, mut kind) = (String::new(), String::new());
    let mut seen = Vec::new();
    let mut found = Vec::new();
    assert!(text.ends_with('\n'), "the last line ends too");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(is_name(name) && !words.is_empty() && !seen.contains(&name.to_owned()), "{line}");
            seen.push(name.to_owned());
            name.clone_into(&mut family);
        } else if let Some(told) = line.strip_prefix("# TYPE ") {
            let (name, of_kind) = told.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(name == family && ["counter", "gauge", "summary"].contains(&of_kind), "{line}");
            of_kind.clone_into(&mut kind);
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let (name, labels) = series.split_once('{').map_or((series, None), |(name, rest)| (name, Some(rest)));
            assert!(labels.is_none_or(|labels| labels.ends_with("\"}")), "{line}");
            let fits =
                name == family || (kind == "summary" && [format!("{family}_sum"), format!("{family}_count")].contains(&name.to_owned()));
            assert!(fits, "{line} belongs to {family}");
            assert!(!found.iter().any(|(known, _)| known == series), "{line} is there twice");
            found.push((series.to_owned(), value.parse().unwrap_or_else(|error| panic!("{line}: {error}"))));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_served_without_a_token_only_where_the_configuration_says_so() {
    let public = "telemetry { unauthenticated_metrics_access = true }";
    let mut cluster = Cluster::builder().nodes(1).listener(public).start().await;
    let sealed = get(&cluster.nodes[0], "/v1/sys/metrics?format=prometheus");
    assert_eq!(sealed.status, 200, "also while sealed: {sealed:?}");
    assert_eq!(sealed.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let value = |answer: &Answer, series: &str| {
        let all = parse_prometheus(&answer.body);
        all.iter().find(|(known, _)| known == series).unwrap_or_else(|| panic!("no {series} in {}", answer.body)).1
    };
    assert_eq!(value(&sealed, "vault_core_unsealed"), 0.0);
    cluster.init().await;
    cluster.unseal_everywhere().await;
    cluster.mount("secret").await;
    let before = value(&get(&cluster.nodes[0], "/v1/sys/metrics?format=prometheus"), "vault_core_handle_request_count");
    for _ in 0..3 {
        assert_eq!(get(&cluster.nodes[0], "/v1/secret/data/CANARY-PATH").status, 403);
    }
    get(&cluster.nodes[0], "/v1/sys/health");
    let open = get(&cluster.nodes[0], "/v1/sys/metrics?format=prometheus");
    assert_eq!(value(&open, "vault_core_unsealed"), 1.0);
    assert_eq!(value(&open, "vault_core_active"), 1.0);
    assert_eq!(value(&open, "vault_core_handle_request_count"), before + 3.0, "health and metrics are none");
    assert!(value(&open, "conclave_http_responses_total{class=\"4xx\"}") >= 3.0);
    for none in ["vault_audit_log_request_failure", "vault_audit_log_response_failure", "conclave_chores_failed_total"] {
        assert_eq!(value(&open, none), 0.0, "{none}");
    }
    assert!(value(&open, "process_resident_memory_bytes") > 1e6);
    assert!(!open.body.contains("CANARY"), "no metric names what was asked for");
    let json = get(&cluster.nodes[0], "/v1/sys/metrics").json();
    let names: Vec<&str> = json["Gauges"].as_array().unwrap().iter().filter_map(|gauge| gauge["Name"].as_str()).collect();
    assert!(names.contains(&"vault_core_unsealed") && json["Samples"][0]["Count"].as_u64() >= Some(3), "{json}");
    let unknown = get(&cluster.nodes[0], "/v1/sys/metrics?format=xml");
    assert!(unknown.status == 400 && unknown.error().contains("xml"), "{unknown:?}");
    let post = raw::request(cluster.nodes[0].api_port, "POST /v1/sys/metrics", &[], "");
    assert_eq!(post.status, 405, "{post:?}");
    cluster.assert_sound();
    drop(cluster);

    let cluster = Cluster::builder().nodes(1).open().await;
    assert_eq!(get(&cluster.nodes[0], "/v1/sys/metrics?format=prometheus").status, 403);
}

/// One request on a connection that is kept.
fn ask(stream: &mut TcpStream, path: &str) -> Answer {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let deadline = Instant::now() + TOLD_MAX;
    loop {
        let answer = raw::parse(&bytes);
        let length = answer.header("content-length").and_then(|length| length.parse().ok());
        if length.is_some_and(|length: usize| answer.body.len() >= length) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{path}: {bytes:?}");
        let count = stream.read(&mut buffer).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(count > 0, "{path}: the connection ended after {bytes:?}");
        bytes.extend_from_slice(&buffer[..count]);
    }
}

fn connect(node: &Node) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, node.api_port)).unwrap();
    stream.set_read_timeout(Some(TOLD_MAX)).unwrap();
    stream
}

fn hang_up(node: &Node) {
    let pid = i32::try_from(node.pid()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_changes_what_it_may_and_ends_no_connection() {
    let mut cluster = Cluster::builder().nodes(1).log_level("warn").open().await;
    let node = &cluster.nodes[0];
    let [audit, rotated] = ["audit.log", "audit.log.1"].map(|name| cluster.folder().join(name));
    let token = format!("X-Vault-Token: {}", cluster.keys().root_token);
    let device = format!(r#"{{"type": "file", "options": {{"file_path": {audit:?}}}}}"#);
    let enabled = raw::request(node.api_port, "PUT /v1/sys/audit/file", &[&token], &device);
    assert_eq!(enabled.status, 204, "{enabled:?}");
    fs::rename(&audit, &rotated).unwrap();
    let mut kept = connect(node);
    assert_eq!(ask(&mut kept, "/v1/sys/health").status, 200);

    let config = cluster.config(node);
    let from = node.trace().len();
    fs::write(
        node.config_file(),
        config.replace("\"warn\"", "\"info\"").replace("tls_disable = true", "tls_disable = true\n  max_request_size = 4096"),
    )
    .unwrap();
    hang_up(node);
    await_trace(node, from, "the configuration was read again").await;
    assert!(node.trace()[from..].contains("listener has changed: that takes a restart"), "{}", node.trace());

    let read = raw::request(node.api_port, "GET /v1/secret/data/a", &[&token], "");
    assert_eq!(read.status, 404, "{read:?}");
    assert!(fs::read_to_string(&audit).unwrap().contains("\"type\":\"response\""), "a new audit file was begun");

    let from = node.trace().len();
    fs::write(node.config_file(), config.replace("\"warn\"", "\"inof\"")).unwrap();
    hang_up(node);
    await_trace(node, from, "so nothing is changed").await;
    assert!(node.trace()[from..].contains("did you mean \"info\"?"), "{}", node.trace());

    assert_eq!(ask(&mut kept, "/v1/sys/health").status, 200, "the connection went on");
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_may_rest_for_so_long_and_no_longer() {
    let limits = "http_read_header_timeout = \"500ms\"\n  http_idle_timeout = \"2s\"";
    let mut cluster = Cluster::builder().nodes(1).listener(limits).start().await;
    let node = &cluster.nodes[0];
    // Longer than headers may take: this connection rests between two requests.
    let mut rests = connect(node);
    assert_eq!(ask(&mut rests, "/v1/sys/init").status, 200);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(ask(&mut rests, "/v1/sys/init").status, 200);
    let began = Instant::now();
    assert_eq!(rests.read(&mut [0; 64]).unwrap(), 0, "it is closed, without a word");
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1500) && took < Duration::from_secs(10), "{took:?}");

    // Headers that drip, on a connection that was used before.
    let mut drips = connect(node);
    assert_eq!(ask(&mut drips, "/v1/sys/init").status, 200);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) && drips.write_all(b"G").is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    cluster.assert_sound();
}

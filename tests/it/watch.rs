//! Watching a cluster: the page of metrics tells what nodes serve, alerts and dashboard name nothing else, `operator top` and
//! `operator debug` show the cluster as it is, and no secret.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::{Cluster, Command, eventually, raw};

const TOLD_MAX: Duration = Duration::from_secs(20);
const LIST_BEGIN: &str = "<!-- Written by the tests: CONCLAVE_WRITE_EXPECTED=1 cargo test -p tests --test it watch -->\n";
const LIST_END: &str = "<!-- End of the list. -->";

fn page(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/operate").join(name)
}

fn with_token(cluster: &Cluster, at: usize, args: &str) -> Command {
    Command::new(args)
        .to(&cluster.nodes[at].api_address(), &cluster.keys().root_token)
        .env("CONCLAVE_CACERT", cluster.certs().join("ca.pem"))
}

/// Kind, labels and help of a metric.
#[derive(Debug, Default, PartialEq, Eq)]
struct Family {
    kind: String,
    labels: BTreeSet<String>,
    help: String,
}

fn families(text: &str, found: &mut BTreeMap<String, Family>) {
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help.clone_into(&mut found.entry(name.to_owned()).or_default().help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kind.clone_into(&mut found.entry(name.to_owned()).or_default().kind);
        } else if let Some((name, labels)) = line.split_once('{') {
            let names = labels.split("=\"").filter_map(|part| part.rsplit([',', '{', '"']).next());
            let labels: BTreeSet<String> = names.filter(|name| !name.is_empty() && *name != "quantile").map(str::to_owned).collect();
            let labels = labels.into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
            if let Some(family) = found.get_mut(name) {
                family.labels.extend(labels);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_tells_every_metric_and_alerts_and_dashboard_name_no_other() {
    let mut cluster = Cluster::builder().tls().open().await;
    with_token(&cluster, 0, "audit enable file")
        .arg(format!("file_path={}", cluster.folder().join("audit.log").display()))
        .run()
        .expect_code(0);
    with_token(&cluster, 1, "kv put secret/a value=1").run().expect_code(0);
    let leader = cluster.leader().await;
    // The journal joins the audit log in its own time.
    let found = eventually("every node tells all of its metrics", TOLD_MAX, async || {
        let mut found = BTreeMap::new();
        for at in 0..cluster.nodes.len() {
            let text =
                cluster.client_at(at).request(client::Method::Get, "sys/metrics").query("format", "prometheus").send().await.unwrap();
            families(std::str::from_utf8(text.body()).unwrap(), &mut found);
        }
        let wanted = ["conclave_journal_joined", "conclave_audit_device_failures_total", "conclave_raft_member_silence_seconds"];
        match wanted.iter().find(|name| !found.contains_key(**name)) {
            Some(name) => Err(format!("{name} (the leader is {leader})")),
            None => Ok(found),
        }
    })
    .await;

    let row = |(name, family): (&String, &Family)| {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{name}` | {} | {} | {} |\n", family.kind, labels.join(", "), family.help)
    };
    let list = format!("| metric | kind | labels | what it is |\n|---|---|---|---|\n{}", found.iter().map(row).collect::<String>());
    let file = page("metrics.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once(LIST_BEGIN).expect("the page says where the list begins");
    let (kept, after) = rest.split_once(LIST_END).expect("the page says where the list ends");
    let want = format!("\n{list}\n");
    if std::env::var_os("CONCLAVE_WRITE_EXPECTED").is_some() {
        std::fs::write(&file, format!("{before}{LIST_BEGIN}{want}{LIST_END}{after}")).unwrap();
    } else {
        assert_eq!(kept, want, "docs/operate/metrics.md is not what nodes serve: run again with CONCLAVE_WRITE_EXPECTED=1");
    }

    for name in ["alerts.yaml", "grafana-dashboard.json", "metrics.md"] {
        let text = std::fs::read_to_string(page(name)).unwrap();
        let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        let named: BTreeSet<&str> = words
            .filter(|word| ["vault_", "conclave_", "process_"].iter().any(|prefix| word.starts_with(prefix) && word.len() > prefix.len()))
            .collect();
        assert!(named.len() > 10, "{name} names metrics");
        for metric in named {
            let base = ["_sum", "_count"].iter().find_map(|end| metric.strip_suffix(end)).unwrap_or(metric);
            assert!(found.contains_key(metric) || found.contains_key(base), "{name} names {metric}, which no node serves");
        }
    }
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(page("grafana-dashboard.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.iter().all(|panel| panel["targets"].as_array().is_some_and(|targets| !targets.is_empty())), "each panel asks something");
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn top_shows_each_node_as_it_is() {
    let mut cluster = Cluster::builder().open().await;
    let leader = cluster.leader().await;
    let look =
        |cluster: &Cluster, at: usize| with_token(cluster, at, "operator top -once -interval=1s -format=json").run().expect_code(0).json();
    let node = |look: &Value, id: &str| look["nodes"].as_array().unwrap().iter().find(|node| node["node_id"] == id).cloned().unwrap();

    with_token(&cluster, 0, "kv put secret/a value=1").run().expect_code(0);
    let all = look(&cluster, 0);
    let id = cluster.nodes[leader].id.clone();
    assert_eq!((&all["leader"], all["nodes"].as_array().unwrap().len()), (&Value::from(id.clone()), 3), "{all}");
    assert_eq!(all["warnings"], Value::Array(Vec::new()), "{all}");
    for at in 0..3 {
        let shown = node(&all, &cluster.nodes[at].id);
        assert_eq!((&shown["reachable"], &shown["sealed"]), (&true.into(), &false.into()), "{shown}");
        assert_eq!(shown["role"], if at == leader { "leader" } else { "follower" }, "{shown}");
        assert!(
            shown["lag"].is_u64() && shown["requests_per_second"].is_f64() && shown["certificate_days_left"].as_f64() > Some(1000.0),
            "{shown}"
        );
    }
    // The second look counts the requests of the first: one for its members, three for their metrics.
    let rate: f64 = (0..3).filter_map(|at| node(&all, &cluster.nodes[at].id)["requests_per_second"].as_f64()).sum();
    assert!(rate > 0.5, "{all}");

    // What everybody is told, without a token.
    let anonymous =
        Command::new("operator top -once -interval=1s").env("CONCLAVE_ADDRS", cluster.nodes[0].api_address()).run().expect_code(0);
    assert!(anonymous.stdout.contains("a token that may read sys/metrics is needed"), "{anonymous:?}");

    let (dead, other) = ((leader + 1) % 3, (leader + 2) % 3);
    with_token(&cluster, leader, &format!("operator seal -node={}", cluster.nodes[other].id)).run().expect_code(0);
    cluster.nodes[dead].kill();
    let text = with_token(&cluster, leader, "operator top -once -interval=1s").env("COLUMNS", "80").run().expect_code(0).stdout;
    let line = |id: &str| text.lines().find(|line| line.starts_with(id)).unwrap_or_default().to_owned();
    assert!(line(&cluster.nodes[dead].id).contains("no answer"), "{text}");
    assert!(line(&cluster.nodes[other].id).contains("sealed"), "{text}");
    assert!(line(&id).contains("leader") && text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains(&format!("! {} does not answer here", cluster.nodes[dead].id)), "{text}");

    let mut live = with_token(&cluster, leader, "operator top -interval=500ms").at_terminal(80);
    live.wait_for(&format!("leader {id}"));
    live.wait_for("no answer");
    live.wait_for("\u{1b}[H");
    live.type_line("q");
    let (code, shown) = live.end();
    assert!(code == Some(0) && shown.contains("\u{1b}[?1049h") && shown.trim_end().ends_with("\u{1b}[?1049l"), "{code:?} {shown:?}");

    let none = Command::new("operator top -once -interval=500ms").env("CONCLAVE_ADDRS", cluster.nodes[dead].api_address()).run();
    assert_eq!(none.code, Some(2), "{none:?}");
    let refused = Command::new("operator top -interval=1ms").run().expect_code(1);
    assert!(refused.stderr.contains("500ms"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_holds_what_every_node_tells_and_no_secret() {
    let mut cluster = Cluster::builder().open().await;
    // Where secrets could come from: values, names, passwords, tokens, shares, and requests that are refused.
    with_token(&cluster, 0, "kv put secret/CANARY-NAME-5c1 value=CANARY-VALUE-5c1").run().expect_code(0);
    with_token(&cluster, 1, "write sys/auth/userpass type=userpass").run().expect_code(0);
    with_token(&cluster, 1, "write auth/userpass/users/CANARY-USER-5c1 password=CANARY-PASSWORD-5c1").run().expect_code(0);
    let child = with_token(&cluster, 2, "token create -field=client_token").run().expect_code(0).stdout.trim().to_owned();
    Command::new("kv get secret/CANARY-NAME-5c1")
        .to(&cluster.nodes[1].api_address(), "hvs.CANARYTOKEN5c1aaaaaaaaaaaa")
        .run()
        .expect_code(2);
    let leader = cluster.leader().await;
    cluster.nodes[(leader + 1) % 3].kill();

    let folder = cluster.folder().join("bundle");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("b.tar.gz");
    let args = "operator debug -duration=3s -interval=1s -metrics-interval=1s";
    let output = with_token(&cluster, leader, args).arg(format!("-output={}", file.display())).run().expect_code(0);
    assert!(output.stdout.contains("b.tar.gz"), "{output:?}");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap()) & 0o777;
    assert_eq!(mode, 0o600);
    let again = with_token(&cluster, leader, args).arg(format!("-output={}", file.display())).run().expect_code(1);
    assert!(again.stderr.contains("there already"), "{again:?}");

    let opened = std::process::Command::new("tar").arg("-xzf").arg(&file).arg("-C").arg(&folder).output().unwrap();
    assert!(opened.status.success() && opened.stderr.is_empty(), "{opened:?}");
    let top = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path()).find(|path| path.is_dir()).unwrap();
    let read = |path: &str| std::fs::read_to_string(top.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let index: Value = serde_json::from_str(&read("index.json")).unwrap();
    let (alive, dead) = (cluster.nodes[leader].id.clone(), cluster.nodes[(leader + 1) % 3].id.clone());
    assert!(read(&format!("{alive}/metrics.prom")).matches("# TIME ").count() >= 2, "{index}");
    assert!(read(&format!("{alive}/health.jsonl")).lines().count() >= 2, "{index}");
    for file in ["config.json", "host-info.jsonl", "in-flight.jsonl", "leader.jsonl", "seal-status.jsonl"] {
        assert!(read(&format!("{alive}/{file}")).contains("\"data\""), "{file}");
    }
    assert!(read("cluster/members.jsonl").contains(&dead), "{index}");
    let errors = index["errors"].as_array().unwrap();
    assert!(errors.iter().any(|error| error["node"] == dead && error["target"] == "metrics"), "a dead node is noted: {index}");
    assert!(!errors.iter().any(|error| error["node"] == alive), "{index}");
    assert!(top.join(&alive).join("trace.log").exists(), "{index}");

    let mut secrets = cluster.keys().shares.clone();
    secrets.extend([cluster.keys().root_token.clone(), child]);
    secrets.extend(["CANARY-NAME-5c1", "CANARY-VALUE-5c1", "CANARY-USER-5c1", "CANARY-PASSWORD-5c1", "CANARYTOKEN5c1"].map(str::to_owned));
    for path in index["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).chain(["index.json"]) {
        let text = read(path);
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "a secret is in {path}");
        }
    }
    let refused = Command::new("operator debug -interval=1ms").run().expect_code(1);
    assert!(refused.stderr.contains("500ms"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_can_be_followed_until_the_node_is_sealed() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    let (port, token) = (cluster.nodes[0].api_port, format!("X-Vault-Token: {}", cluster.keys().root_token));
    let get = |query: &str, headers: &[&str]| raw::request(port, &format!("GET /v1/sys/monitor{query}"), headers, "");
    assert_eq!(get("", &[]).status, 403, "not without a token");
    for (query, says) in
        [("?log_level=loud", "unknown log level"), ("?log_format=xml", "unknown log format"), ("?duration=soon", "duration")]
    {
        let refused = get(query, &[&token]);
        assert!(refused.status == 400 && refused.error().contains(says), "{query}: {refused:?}");
    }
    let some = get("?duration=1s&log_level=trace", &[&token]);
    assert_eq!((some.status, some.header("content-type")), (200, Some("text/plain; charset=utf-8")), "{some:?}");

    let following = {
        let token = token.clone();
        tokio::task::spawn_blocking(move || raw::request(port, "GET /v1/sys/monitor?log_format=json", &[&token], ""))
    };
    // Until it follows, nothing that happens is for it: so it happens several times.
    let pid = Pid::from_raw(i32::try_from(cluster.nodes[0].pid()).unwrap()).unwrap();
    for _ in 0..5 {
        kill_process(pid, Signal::HUP).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(!following.is_finished(), "it goes on until it is ended");
    with_token(&cluster, 0, "operator seal").run().expect_code(0);
    let told = tests::within("the stream ends with the seal", TOLD_MAX, following).await.unwrap();
    let lines: Vec<Value> =
        told.body.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    assert!(lines.iter().any(|line| line["@message"].as_str().is_some_and(|text| text.contains("read again"))), "{told:?}");
    assert!(lines.iter().all(|line| line["@level"] != "debug"), "info when nothing is said: {told:?}");
    cluster.assert_sound();
}

//! Members by `bao` and by hvac, unchanged, at whichever node: also one that does not lead, which OpenBao sends away. The shapes are those
//! of a real OpenBao on Raft.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Cluster, eventually};

use crate::bao::{Bao, Output};
use crate::check::Tally;
use crate::check::Want::{Json, Says, Warns};
use crate::{clients, hvac, needs};

const SETTLE_MAX: Duration = Duration::from_secs(30);
const SETTINGS: &str = "-server-stabilization-time=1s -max-trailing-logs=500 -last-contact-threshold=5s";

/// Answers of which each field that OpenBao has must be in ours, with a value of the same kind.
const SHAPES: [&str; 4] = [
    "operator raft list-peers -format=json",
    "operator raft autopilot state -format=json",
    "operator raft autopilot get-config -format=json",
    "operator members -format=json",
];

#[tokio::test(flavor = "multi_thread")]
async fn bao_and_hvac_change_the_members_at_every_node() {
    let Some(program) = needs::bao() else { return };
    let mut cluster = Cluster::builder().nodes(3).open().await;
    let leader = cluster.leader().await;
    let [first, second] = [(leader + 1) % 3, (leader + 2) % 3];
    let bao = Bao::of(program.clone(), &cluster).token(&cluster.keys().root_token);
    let mut tally = Tally::default();
    let id = |at: usize| cluster.nodes[at].id.as_str();

    let theirs = OnRaft::start(&program);
    for line in SHAPES {
        let other = theirs.bao(&program).run_at(0, line, "");
        for at in 0..3 {
            let own = bao.run_at(at, line, "");
            let missing = if own.code == Some(0) { lacking(&own.json(), &other.json(), "") } else { Some(own.to_string()) };
            tally.note(&format!("{line} at node {} is as OpenBao's", at + 1), missing);
        }
    }

    bao.check_at(&mut tally, "list-peers", first, "operator raft list-peers", 0, &[Says("leader"), Says("follower"), Says("true")]);
    bao.check_at(&mut tally, "set-config", first, &format!("operator raft autopilot set-config {SETTINGS}"), 0, &[]);
    let settings = [
        Json("/server_stabilization_time", r#""1s""#),
        Json("/max_trailing_logs", "500"),
        Json("/last_contact_threshold", r#""5s""#),
        Json("/cleanup_dead_servers", "false"),
    ];
    bao.check_at(&mut tally, "get-config", second, "operator raft autopilot get-config -format=json", 0, &settings);
    let wrong = "operator raft autopilot set-config -cleanup-dead-servers=true -min-quorum=1";
    bao.check_at(&mut tally, "set-config without a quorum", leader, wrong, 2, &[Warns("Code: 400"), Warns("min_quorum")]);
    let state = [Json("/Healthy", "true"), Json("/FailureTolerance", "1")];
    bao.check_at(&mut tally, "autopilot state", second, "operator raft autopilot state -format=json", 0, &state);
    bao.check_at(&mut tally, "autopilot state for people", first, "operator raft autopilot state", 0, &[Says("Failure Tolerance")]);

    bao.check_at(&mut tally, "demote", first, &format!("operator raft demote {}", id(second)), 0, &[]);
    let state = bao.run_at(second, "operator raft autopilot state -format=json", "");
    let demoted = state.json()["NonVoters"] == json!([id(second)]);
    tally.note("a demoted member has no vote", (!demoted).then(|| state.to_string()));
    bao.check_at(&mut tally, "promote", second, &format!("operator raft promote {}", id(second)), 0, &[]);
    bao.check_at(&mut tally, "promote a stranger", second, "operator raft promote nobody", 2, &[Warns("nobody is no member")]);
    bao.check_at(&mut tally, "remove a stranger", first, "operator raft remove-peer nobody", 2, &[Warns("nobody is no member")]);

    bao.check_at(&mut tally, "step-down at a follower", first, "operator step-down", 0, &[]);
    let peers = bao.run_at(first, "operator raft list-peers -format=json", "").json();
    let leads = |peers: &Value| {
        peers["data"]["config"]["servers"].as_array().and_then(|servers| {
            servers.iter().find(|server| server["leader"] == true).map(|server| server["node_id"].as_str().unwrap_or_default().to_owned())
        })
    };
    tally.note("another leads", (leads(&peers).is_none_or(|now| now == id(leader))).then(|| peers.to_string()));
    bao.check_at(&mut tally, "members", second, "operator members", 0, &[Says("true"), Says("false")]);
    bao.check_at(&mut tally, "a write", first, "kv put secret/members value=x", 0, &[]);

    if let Some(python) = needs::python() {
        let addresses: Vec<String> = cluster.nodes.iter().map(|node| node.api_address()).collect();
        let input = json!({ "addresses": addresses, "token": cluster.keys().root_token });
        clients::run(&mut tally, "hvac", hvac::script(&python, "members.py"), cluster.folder(), &input);
    }

    // Whoever leads now goes, asked for at another node.
    let asked = if leads(&bao.run_at(first, "operator raft list-peers -format=json", "").json()).as_deref() == Some(id(first)) {
        second
    } else {
        first
    };
    let gone = leads(&bao.run_at(asked, "operator raft list-peers -format=json", "").json()).unwrap_or_default();
    bao.check_at(&mut tally, "remove the leader", asked, &format!("operator raft remove-peer {gone}"), 0, &[]);
    let peers = bao.run_at(asked, "operator raft list-peers -format=json", "").json();
    let left = peers["data"]["config"]["servers"].as_array().map_or(0, Vec::len);
    tally.note("two are left, and one of them leads", (left != 2 || leads(&peers).is_none()).then(|| peers.to_string()));
    eventually("what is left serves", SETTLE_MAX, async || {
        let read = tokio::task::block_in_place(|| bao.run_at(asked, "kv get -field=value secret/members", ""));
        if read.code == Some(0) { Ok(()) } else { Err(read.to_string()) }
    })
    .await;
    tally.finish(30);
}

/// What of `theirs` is not in `ours`. Names that are ids of members stand for one another.
fn lacking(ours: &Value, theirs: &Value, at: &str) -> Option<String> {
    match (ours, theirs) {
        (Value::Object(own), Value::Object(other)) if at.ends_with("/Servers") => {
            let (own, other) = (own.values().next(), other.values().next());
            own.zip(other).map_or_else(|| Some(format!("{at} is empty")), |(own, other)| lacking(own, other, &format!("{at}/*")))
        }
        (Value::Object(own), Value::Object(other)) => other.iter().find_map(|(name, value)| match own.get(name) {
            // Nothing to say there.
            None if value.is_null() => None,
            None => Some(format!("{at}/{name} is missing")),
            Some(found) => lacking(found, value, &format!("{at}/{name}")),
        }),
        (Value::Array(own), Value::Array(other)) => {
            own.first().zip(other.first()).and_then(|(own, other)| lacking(own, other, &format!("{at}/0")))
        }
        (_, Value::Null) | (Value::Null, _) => None,
        (own, other) if std::mem::discriminant(own) == std::mem::discriminant(other) => None,
        (own, other) => Some(format!("{at} is {own}, there {other}")),
    }
}

/// A real OpenBao whose storage is Raft: one node.
struct OnRaft {
    child: Child,
    address: String,
    token: String,
    _folder: tempfile::TempDir,
}

impl OnRaft {
    fn start(program: &Path) -> OnRaft {
        let folder = tempfile::tempdir().expect("the system has a temporary folder");
        let data = folder.path().join("data");
        std::fs::create_dir(&data).expect("a folder can be made in a new folder");
        let port = || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
            listener.local_addr().expect("a bound socket has an address").port()
        };
        let (api, peers) = (port(), port());
        let config = folder.path().join("server.hcl");
        let text = format!(
            "storage \"raft\" {{\n  path = \"{}\"\n  node_id = \"n1\"\n}}\nlistener \"tcp\" {{\n  address = \"127.0.0.1:{api}\"\n  cluster_address = \
             \"127.0.0.1:{peers}\"\n  tls_disable = true\n}}\napi_addr = \"http://127.0.0.1:{api}\"\ncluster_addr = \"https://127.0.0.1:{peers}\"\n",
            data.display()
        );
        std::fs::write(&config, text).expect("a file can be made in a new folder");
        let mut command = Command::new(program);
        command.arg("server").arg("-config").arg(&config).env("HOME", folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("run {}: {error}", program.display()));
        let mut server = OnRaft { child, address: format!("http://127.0.0.1:{api}"), token: String::new(), _folder: folder };
        let keys = server.eventually(program, "operator init -key-shares=1 -key-threshold=1 -format=json").json();
        server.token = keys["root_token"].as_str().unwrap_or_default().to_owned();
        server.eventually(program, &format!("operator unseal {}", keys["unseal_keys_b64"][0].as_str().unwrap_or_default()));
        for line in SHAPES {
            server.eventually(program, line);
        }
        server
    }

    fn bao(&self, program: &Path) -> Bao {
        Bao::new(program.to_owned(), vec![self.address.clone()]).token(&self.token)
    }

    fn eventually(&self, program: &Path, line: &str) -> Output {
        let deadline = Instant::now() + SETTLE_MAX;
        loop {
            let output = self.bao(program).run_at(0, line, "");
            if output.code == Some(0) {
                return output;
            }
            assert!(Instant::now() < deadline, "OpenBao does not serve within {SETTLE_MAX:?}\n{output}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for OnRaft {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

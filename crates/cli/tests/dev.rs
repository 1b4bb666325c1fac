//! `conclave dev` with real node processes: it serves, it stops cleanly, and nothing outlives it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A cold machine with two busy cores is slow.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running `conclave dev`. Killed when dropped: its nodes then end by themselves.
struct Dev {
    child: Child,
    folder: TempDir,
    ready_file: PathBuf,
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Dev {
    /// Its temporary folders lie in `folder`, so that left-overs are seen.
    fn start(flags: &[&str]) -> Dev {
        Dev::start_in(tempfile::tempdir().unwrap(), "ready.json", flags)
    }

    fn start_in(folder: TempDir, ready: &str, flags: &[&str]) -> Dev {
        let ready_file = folder.path().join(ready);
        let mut command = conclave();
        command.arg("dev").args(flags).args(["--quiet", "--ready-file"]).arg(&ready_file);
        command.env("TMPDIR", folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Dev { child: command.spawn().unwrap(), folder, ready_file }
    }

    fn ready(&mut self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // The file appears whole.
            if let Ok(bytes) = std::fs::read(&self.ready_file) {
                return serde_json::from_slice(&bytes).unwrap();
            }
            if self.child.try_wait().unwrap().is_some() || Instant::now() > deadline {
                let mut told = String::new();
                self.child.kill().unwrap();
                self.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
                panic!("not ready: {told}");
            }
            sleep(Duration::from_millis(50));
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id().cast_signed()).unwrap(), signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "does not end");
            sleep(Duration::from_millis(50));
        }
    }
}

/// The binary, without the caller's addresses and tokens.
fn conclave() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conclave"));
    for prefix in ["CONCLAVE", "BAO", "VAULT"] {
        for suffix in ["ADDR", "ADDRS", "TOKEN", "CACERT", "NAMESPACE", "FORMAT"] {
            command.env_remove(format!("{prefix}_{suffix}"));
        }
    }
    command
}

fn client(ready: &Value, line: &str) -> (i32, String) {
    let addresses: Vec<&str> = ready["nodes"].as_array().unwrap().iter().map(|node| node["api_addr"].as_str().unwrap()).collect();
    let output = conclave()
        .args(line.split(' '))
        .env("CONCLAVE_ADDRS", addresses.join(","))
        .env("CONCLAVE_TOKEN", ready["root_token"].as_str().unwrap())
        .env("CONCLAVE_CACERT", ready["ca_cert"].as_str().unwrap())
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn pids(ready: &Value) -> Vec<Pid> {
    let nodes = ready["nodes"].as_array().unwrap();
    nodes.iter().map(|node| Pid::from_raw(i32::try_from(node["pid"].as_i64().unwrap()).unwrap()).unwrap()).collect()
}

fn await_ends(pids: &[Pid]) {
    let deadline = Instant::now() + PATIENCE;
    while pids.iter().any(|pid| test_kill_process(*pid).is_ok()) {
        assert!(Instant::now() < deadline, "a node outlives its cluster");
        sleep(Duration::from_millis(50));
    }
}

fn entries(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn three_nodes_serve_lose_their_leader_and_stop_without_a_trace() {
    let mut dev = Dev::start(&["--nodes", "3", "--port", "0", "--tls"]);
    let ready = dev.ready();
    assert_eq!(ready["unseal_keys_b64"].as_array().unwrap().len(), 5);
    assert_eq!(client(&ready, "status").0, 0);
    let (code, told) = client(&ready, "kv put secret/a x=1");
    assert_eq!(code, 0, "{told}");

    let (_, members) = client(&ready, "operator members -format=json");
    let members: Value = serde_json::from_str(&members).unwrap();
    let leader = members["nodes"].as_array().unwrap().iter().position(|node| node["active_node"] == true).unwrap();
    kill_process(pids(&ready)[leader], Signal::KILL).unwrap();
    let (code, told) = client(&ready, "kv put -cas=1 secret/a x=2");
    assert_eq!(code, 0, "{told}");
    assert_eq!(client(&ready, "kv get -field=x secret/a"), (0, "2".to_owned()));

    dev.signal(Signal::TERM);
    assert!(dev.end().success());
    await_ends(&pids(&ready));
    assert_eq!(entries(dev.folder.path()), ["ready.json"], "the temporary folder is gone");
}

#[test]
fn a_kept_cluster_is_sealed_when_it_starts_again_and_nodes_end_with_a_killed_parent() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let flags = ["--nodes", "1", "--port", "0", "--data-dir", data.to_str().unwrap()];
    let mut dev = Dev::start_in(folder, "first.json", &flags);
    let first = dev.ready();
    assert_eq!(client(&first, "kv put secret/a x=kept").0, 0);
    dev.signal(Signal::KILL);
    dev.end();
    await_ends(&pids(&first));

    let folder = std::mem::replace(&mut dev.folder, tempfile::tempdir().unwrap());
    let mut dev = Dev::start_in(folder, "second.json", &flags);
    let second = dev.ready();
    assert_eq!((&second["root_token"], &second["unseal_keys_b64"]), (&"".into(), &serde_json::json!([])));
    assert_eq!(client(&second, "status").0, 2);
    for share in first["unseal_keys_b64"].as_array().unwrap().iter().take(3) {
        let (code, told) = client(&second, &format!("operator unseal {}", share.as_str().unwrap()));
        assert_eq!(code, 0, "{told}");
    }
    let mut whole = second.clone();
    whole["root_token"] = first["root_token"].clone();
    assert_eq!(client(&whole, "kv get -field=x secret/a"), (0, "kept".to_owned()));
    dev.signal(Signal::INT);
    assert!(dev.end().success());
    await_ends(&pids(&second));
}

#[test]
fn it_stops_before_the_ceremony_or_before_init_when_asked() {
    for (flag, initialized, shares) in [("--sealed", 0, 5), ("--uninitialized", 2, 0)] {
        let mut dev = Dev::start(&["--nodes", "1", "--port", "0", flag]);
        let ready = dev.ready();
        assert_eq!(ready["unseal_keys_b64"].as_array().unwrap().len(), shares, "{flag}");
        assert_eq!(client(&ready, "status").0, 2, "{flag}");
        assert_eq!(client(&ready, "operator init -status").0, initialized, "{flag}");
    }
}

#[test]
fn a_port_in_use_is_named_and_leaves_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut dev = Dev::start(&["--nodes", "1", "--port", &port]);
    assert_eq!(dev.end().code(), Some(1));
    let mut told = String::new();
    dev.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains(&port) && told.contains("Cure: "), "{told}");
    assert!(entries(dev.folder.path()).is_empty());
}

//! `conclave dev` as a person starts it, and its ready file.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tests::{Turn, conclave, turn};

/// Three nodes, certificates, ceremony.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A cluster by `conclave dev`; dropped, it is stopped.
pub(crate) struct Dev {
    child: Child,
    /// What its ready file holds.
    pub(crate) ready: Value,
    folder: TempDir,
    _turn: Turn,
}

impl Dev {
    /// Starts `conclave dev --nodes 3 … ARGS` and waits until it serves.
    pub(crate) fn start(args: &[&str]) -> Dev {
        let turn = turn();
        let folder = tempfile::tempdir().expect("the system has a temporary folder");
        let file = folder.path().join("ready.json");
        let mut command = Command::new(conclave());
        command.args(["dev", "--nodes", "3", "--port", "0", "--quiet", "--ready-file"]).arg(&file).args(args);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("conclave is there: it was just built");
        let deadline = Instant::now() + START_TIMEOUT;
        // It is renamed into place: once it is there, it is whole.
        while !file.is_file() {
            let ended = child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "conclave dev ended before it served: {ended:?}");
            if Instant::now() > deadline {
                let _ = child.kill();
                panic!("conclave dev does not serve within {START_TIMEOUT:?}");
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        let text = std::fs::read(&file).expect("the ready file can be read");
        let ready = serde_json::from_slice(&text).expect("the ready file is JSON");
        Dev { child, ready, folder, _turn: turn }
    }

    /// Where the nodes serve clients.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let nodes = self.ready["nodes"].as_array().expect("the ready file has nodes");
        nodes.iter().map(|node| node["api_addr"].as_str().expect("each has an api_addr").to_owned()).collect()
    }

    /// A text of the ready file.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap_or_else(|| panic!("the ready file has no text {name}"))
    }

    /// A folder that goes with the cluster.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        // As Ctrl-C does: then it stops its nodes and removes its folder.
        let asked = pid.is_some_and(|pid| rustix::process::kill_process(pid, rustix::process::Signal::INT).is_ok());
        if !asked {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

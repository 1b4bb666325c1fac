//! The node processes of a dev cluster.
//!
//! Always: they end with this process, however it ends: each holds the other end of a pipe, and stops when that closes.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::layout::{Layout, Place};
use crate::fault::Fault;
use crate::files;

/// How long the nodes may take to stop before they are killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often we look whether one has ended.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// How much of a trace is shown when a node has ended.
const TAIL_LINES: usize = 12;
const TAIL_BYTES: u64 = 8 * 1024;

/// All of them, in the order of the layout.
pub(super) struct Children(Vec<Node>);

struct Node {
    id: String,
    trace: PathBuf,
    pid: u32,
    child: Child,
    ended: Option<ExitStatus>,
}

/// A node that ended by itself.
pub(super) struct Death {
    pub(super) id: String,
    pub(super) pid: u32,
    pub(super) status: ExitStatus,
    /// The end of its trace.
    pub(super) tail: String,
}

impl std::fmt::Display for Death {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "node {} (pid {}) has ended: {}", self.id, self.pid, self.status)?;
        if self.tail.is_empty() { write!(f, "; its trace is empty") } else { write!(f, "; its last words:\n{}", self.tail) }
    }
}

impl Children {
    /// Starts a process for each node. When one cannot be started, those before it are killed.
    pub(super) fn start(layout: &Layout) -> Result<Children, Fault> {
        let nodes = layout.nodes.iter().map(|place| spawn(layout, place)).collect::<Result<_, _>>()?;
        Ok(Children(nodes))
    }

    /// Kills one, as when its machine fails, and waits until it is gone.
    pub(super) async fn kill_one(&mut self, at: usize) {
        let node = &mut self.0[at];
        // It may have ended a moment ago.
        let _ = node.child.kill().await;
        node.ended = node.child.wait().await.ok();
    }

    /// Starts one again that has ended.
    pub(super) fn start_one(&mut self, layout: &Layout, at: usize) -> Result<(), Fault> {
        self.0[at] = spawn(layout, &layout.nodes[at])?;
        Ok(())
    }

    /// Process ids, in the order of the layout.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.0.iter().map(|node| node.pid).collect()
    }

    /// How each ended; `None` while it runs.
    pub(super) fn states(&self) -> Vec<Option<ExitStatus>> {
        self.0.iter().map(|node| node.ended).collect()
    }

    /// Those that ended since the last call.
    pub(super) fn deaths(&mut self) -> Vec<Death> {
        let mut deaths = Vec::new();
        for node in self.0.iter_mut().filter(|node| node.ended.is_none()) {
            // An error here would mean that it is not our child.
            if let Ok(Some(status)) = node.child.try_wait() {
                node.ended = Some(status);
                deaths.push(Death { id: node.id.clone(), pid: node.pid, status, tail: tail(&node.trace) });
            }
        }
        deaths
    }

    /// Waits until one ends. May be dropped at any time.
    pub(super) async fn first_death(&mut self) -> Death {
        loop {
            if let Some(death) = self.deaths().into_iter().next() {
                return death;
            }
            sleep(WATCH_INTERVAL).await;
        }
    }

    /// The end of each trace, for a fault that no node told by ending.
    pub(super) fn tails(&self) -> String {
        self.0.iter().map(|node| format!("{}:\n{}\n", node.trace.display(), tail(&node.trace))).collect()
    }

    /// Asks all to stop, and waits for all within one deadline. Those that still run then are for [`Children::kill`].
    pub(super) async fn stop(&mut self) {
        for node in self.0.iter_mut().filter(|node| node.ended.is_none()) {
            // It is our child and was not waited for, so the id is still its own. It may have ended a moment ago.
            if let Some(pid) = i32::try_from(node.pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::TERM);
            }
            drop(node.child.stdin.take());
        }
        let all = async {
            for node in self.0.iter_mut().filter(|node| node.ended.is_none()) {
                node.ended = node.child.wait().await.ok();
            }
        };
        let _ = timeout(STOP_TIMEOUT, all).await;
    }

    /// Kills those that still run, and returns who they were.
    pub(super) async fn kill(&mut self) -> Vec<String> {
        let mut killed = Vec::new();
        for node in self.0.iter_mut().filter(|node| node.ended.is_none()) {
            // Kills, then waits, so that no process is left when this one ends. It may have ended a moment ago.
            let _ = node.child.kill().await;
            killed.push(node.id.clone());
        }
        killed
    }
}

fn spawn(layout: &Layout, place: &Place) -> Result<Node, Fault> {
    let program = std::env::current_exe().map_err(|error| Fault::local(format!("find our own program: {error}")))?;
    let trace = layout.trace_file(place);
    let open = || {
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&trace)?;
        Ok((log.try_clone()?, log))
    };
    let (stdout, stderr) = open().map_err(|error| files::fault("open", &trace, &error))?;
    let mut command = Command::new(&program);
    command.arg("server").arg("--config").arg(layout.config_file(place)).arg("--stop-on-stdin-close");
    // The terminal's Ctrl-C is for us, who stop them in order.
    command.process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(stdout).stderr(stderr);
    for name in ["CONCLAVE_TOKEN", "BAO_TOKEN", "VAULT_TOKEN"] {
        command.env_remove(name);
    }
    let child = command.spawn().map_err(|error| Fault::local(format!("start node {}: {error}", place.id)))?;
    let pid = child.id().expect("a child that was not waited for has an id");
    Ok(Node { id: place.id.clone(), trace, pid, child, ended: None })
}

/// The last lines of a trace; empty when there are none.
fn tail(trace: &Path) -> String {
    let read = || {
        let mut file = File::open(trace)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    match read() {
        Ok(bytes) => last_lines(&String::from_utf8_lossy(&bytes)),
        Err(error) => format!("  (its trace cannot be read: {error})"),
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| format!("  {line}\n")).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_trace_is_shown() {
        let text: String = (0..100).map(|at| format!("line {at}\n")).collect();
        let shown = last_lines(&text);
        assert_eq!(shown.lines().count(), TAIL_LINES);
        assert!(shown.ends_with("  line 99") && shown.starts_with("  line 88"), "{shown}");
        assert_eq!(last_lines(""), "");
        assert!(tail(Path::new("/nonexistent")).contains("cannot be read"));
    }
}

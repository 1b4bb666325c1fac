//! One node: a `conclave server` process, its folder, its ports and its trace.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::conclave;

const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Lines of a trace that are printed when a test fails.
const TAIL_LINES: usize = 60;

/// One node of a [`crate::Cluster`], running or not. Dropped, it is killed.
pub struct Node {
    /// `n1`, `n2`, …
    pub id: String,
    /// Holds its configuration, data and trace.
    pub folder: PathBuf,
    /// Its clients' port, on 127.0.0.1 unless it has a network of its own.
    pub api_port: u16,
    /// Its peers' port, likewise.
    pub cluster_port: u16,
    /// Where it keeps its log and table.
    pub data_dir: PathBuf,
    /// A program in place of the one under test: an older release.
    pub program: Option<PathBuf>,
    /// Variables of its environment.
    pub environment: Vec<(&'static str, &'static str)>,
    pub(crate) tls: bool,
    /// How many files its process may have open; `None`: as many as the test's.
    pub(crate) files_max: Option<u32>,
    pub(crate) hosts: Hosts,
    child: Option<Child>,
}

/// Where a node is.
pub(crate) struct Hosts {
    pub(crate) api: Ipv4Addr,
    pub(crate) cluster: Ipv4Addr,
    /// The network namespace that it runs in; `None`: the test's own.
    pub(crate) namespace: Option<String>,
}

impl Default for Hosts {
    fn default() -> Hosts {
        Hosts { api: Ipv4Addr::LOCALHOST, cluster: Ipv4Addr::LOCALHOST, namespace: None }
    }
}

impl Node {
    pub(crate) fn new(id: String, folder: PathBuf, ports: [u16; 2], tls: bool, hosts: Hosts) -> Node {
        let data_dir = folder.join("data");
        let (program, environment) = (None, Vec::new());
        Node {
            id,
            folder,
            api_port: ports[0],
            cluster_port: ports[1],
            data_dir,
            program,
            environment,
            tls,
            files_max: None,
            hosts,
            child: None,
        }
    }

    /// The URL for clients.
    pub fn api_address(&self) -> String {
        format!("{}://{}:{}", if self.tls { "https" } else { "http" }, self.hosts.api, self.api_port)
    }

    /// The URL for peers.
    pub fn cluster_address(&self) -> String {
        format!("https://{}:{}", self.hosts.cluster, self.cluster_port)
    }

    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.folder.join("node.hcl")
    }

    /// Where it finds its join token, in a cluster whose nodes make their certificates themselves.
    pub fn join_token_file(&self) -> PathBuf {
        self.folder.join("join-token")
    }

    /// Its stderr, of all its runs.
    pub fn trace_file(&self) -> PathBuf {
        self.folder.join("trace.log")
    }

    /// All of its trace.
    pub fn trace(&self) -> String {
        std::fs::read(self.trace_file()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Starts the process; panics when it runs already. Does not wait until it answers.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.id);
        let path = self.trace_file();
        let trace =
            OpenOptions::new().create(true).append(true).open(&path).unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
        let mut runs: Vec<OsString> = Vec::new();
        if let Some(namespace) = &self.hosts.namespace {
            runs.extend(["ip", "netns", "exec", namespace].map(OsString::from));
        }
        if let Some(files) = self.files_max {
            runs.extend(["sh".into(), "-c".into(), format!("ulimit -n {files} && exec \"$0\" \"$@\"").into()]);
        }
        runs.push(self.program.as_deref().unwrap_or_else(|| conclave()).into());
        let mut command = std::process::Command::new(&runs[0]);
        command.args(&runs[1..]).envs(self.environment.iter().copied());
        command.arg("server").arg("-config").arg(self.config_file());
        // Should this test die without a word, the pipe closes and the node ends.
        command.arg("--stop-on-stdin-close").stdin(Stdio::piped());
        command.stdout(trace.try_clone().expect("a file can be shared")).stderr(trace);
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("start {}: {error}", self.id)));
    }

    /// Its process id; panics when it was not started.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap_or_else(|| panic!("{} does not run", self.id)).id()
    }

    /// Whether its process is there.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// `kill -9`, and waits for the process to be gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM. Does not wait.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGSTOP: the process stands still, as under a hypervisor that gives it no time.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT: it goes on, and has noticed nothing.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("the system's process ids are above 0");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{signal:?} to {}: {error}", self.id));
    }

    /// Waits for the process to end by itself. Panics after `limit`. Blocks the thread.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let mut child = self.child.take().unwrap_or_else(|| panic!("{} does not run", self.id));
        let deadline = Instant::now() + limit;
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                return status;
            }
            if Instant::now() >= deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{} has not ended within {limit:?}", self.id);
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// The last lines of its trace.
    pub fn tail(&self) -> String {
        let trace = self.trace();
        let lines: Vec<&str> = trace.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Moves its data elsewhere, before it is started.
    pub(crate) fn keep_data_in(&mut self, folder: &Path) {
        folder.clone_into(&mut self.data_dir);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

//! `conclave` as a person at a shell runs it.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::conclave;

/// The longest that a command may take, unless something else is said.
const RUN_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A command line that is being put together. Its environment has none of the caller's `CONCLAVE_*`, `BAO_*` and `VAULT_*`.
pub struct Command {
    pub(crate) inner: std::process::Command,
    pub(crate) line: String,
    stdin: String,
    run_max: Duration,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Output {
    /// The arguments, for messages.
    pub line: String,
    /// Exit code; `None` when it was killed by a signal.
    pub code: Option<i32>,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

impl Command {
    /// `conclave ARGS`; `args` are divided by spaces.
    pub fn new(args: &str) -> Command {
        let mut inner = std::process::Command::new(conclave());
        for (name, _) in std::env::vars_os() {
            if ["CONCLAVE_", "BAO_", "VAULT_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                inner.env_remove(name);
            }
        }
        inner.args(args.split_whitespace());
        // No token of whoever runs the tests is found, and none is left behind.
        inner.env("HOME", "/nonexistent");
        Command { inner, line: args.to_owned(), stdin: String::new(), run_max: RUN_TIMEOUT }
    }

    /// One more argument, which may have spaces.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Command {
        self.line = format!("{} {}", self.line, arg.as_ref().to_string_lossy());
        self.inner.arg(arg);
        self
    }

    /// A variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Command {
        self.inner.env(name, value);
        self
    }

    /// The nodes it speaks to, and its token.
    pub fn to(self, address: &str, token: &str) -> Command {
        self.env("CONCLAVE_ADDRS", address).env("CONCLAVE_TOKEN", token)
    }

    /// What it reads from stdin (less than a pipe holds); nothing otherwise.
    pub fn stdin(mut self, text: &str) -> Command {
        text.clone_into(&mut self.stdin);
        self
    }

    /// How long it may take, in place of a minute.
    pub fn within(mut self, run_max: Duration) -> Command {
        self.run_max = run_max;
        self
    }

    /// Runs it to its end. Panics when it takes longer than a minute, or than was said. Blocks the thread.
    pub fn run(mut self) -> Output {
        self.inner.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.inner.spawn().unwrap_or_else(|error| panic!("run conclave {}: {error}", self.line));
        // A command that reads nothing may be gone already.
        let _ = child.stdin.take().expect("stdin is piped").write_all(self.stdin.as_bytes());
        let watched = end_by(&mut child, Instant::now() + self.run_max);
        let output = child.wait_with_output().expect("a child can be waited for");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let output = Output { line: self.line, code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
        assert!(watched, "it took longer than {:?}: {output:?}", self.run_max);
        output
    }
}

/// Waits; kills at `deadline`, and returns whether it ended before. Its output must fit into a pipe until then.
fn end_by(child: &mut Child, deadline: Instant) -> bool {
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL_INTERVAL),
            Ok(None) => {
                let _ = child.kill();
                return false;
            }
            _ => return true,
        }
    }
}

impl Output {
    /// The same, once the exit code is as expected. Panics with all that was said otherwise.
    pub fn expect_code(self, code: i32) -> Output {
        assert_eq!(self.code, Some(code), "conclave {}\nstdout: {}\nstderr: {}", self.line, self.stdout, self.stderr);
        self
    }

    /// Stdout as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("conclave {}: {error}: {}", self.line, self.stdout))
    }
}

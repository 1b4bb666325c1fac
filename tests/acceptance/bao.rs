//! Runs `bao` as a person at a shell does: one process a command, nothing of the caller's environment but `PATH`.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tests::Cluster;

use crate::check::{Check, Tally, Want};

/// A kept value that is shorter is not replaced by its name: it may be part of any word.
const KEPT_LENGTH_MIN: usize = 6;

/// `bao`, and the servers it speaks to in turn.
pub(crate) struct Bao {
    program: PathBuf,
    addresses: Vec<String>,
    next: usize,
    token: String,
    ca_file: Option<PathBuf>,
    /// Empty: no token of whoever runs the tests is found, and none is left behind.
    home: TempDir,
}

/// What a command said, and how it ended.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) line: String,
    pub(crate) address: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bao {
    /// Speaks to `addresses` in turn, without a token.
    pub(crate) fn new(program: PathBuf, addresses: Vec<String>) -> Bao {
        let home = tempfile::tempdir().expect("the system has a temporary folder");
        Bao { program, addresses, next: 0, token: String::new(), ca_file: None, home }
    }

    /// Speaks to the nodes of `cluster` in turn.
    pub(crate) fn of(program: PathBuf, cluster: &Cluster) -> Bao {
        Bao::new(program, cluster.nodes.iter().map(|node| node.api_address()).collect())
    }

    /// With this token.
    pub(crate) fn token(mut self, token: &str) -> Bao {
        token.clone_into(&mut self.token);
        self
    }

    /// Trusts the certificates that this authority signed, and no others.
    pub(crate) fn ca_file(mut self, file: PathBuf) -> Bao {
        self.ca_file = Some(file);
        self
    }

    /// Whose turn it is.
    pub(crate) fn turn(&mut self) -> usize {
        let at = self.next;
        self.next = (at + 1) % self.addresses.len();
        at
    }

    /// Runs `bao LINE` at the next server.
    pub(crate) fn run(&mut self, line: &str) -> Output {
        let at = self.turn();
        self.run_at(at, line, "")
    }

    /// Runs `bao LINE` at one server; it reads `stdin`.
    pub(crate) fn run_at(&self, at: usize, line: &str, stdin: &str) -> Output {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        self.run_as(at, &args, &self.token, stdin)
    }

    /// Runs `bao ARGS` at one server, with this token; it reads `stdin`.
    pub(crate) fn run_as(&self, at: usize, args: &[String], token: &str, stdin: &str) -> Output {
        let address = self.addresses[at].clone();
        let mut command = Command::new(&self.program);
        command.args(args).env_clear();
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path))).env("HOME", self.home.path());
        command.env("BAO_ADDR", &address).env("BAO_TOKEN", token).env("BAO_MAX_RETRIES", "0").env("BAO_CLIENT_TIMEOUT", "20s");
        if let Some(file) = &self.ca_file {
            command.env("BAO_CACERT", file);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("run {}: {error}", self.program.display()));
        // A command that reads nothing may be gone already.
        let _ = child.stdin.take().expect("stdin is piped").write_all(stdin.as_bytes());
        let output = child.wait_with_output().expect("a child can be waited for");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Output { line: args.join(" "), address, code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs a table, each line at the next server.
    pub(crate) fn check_all(&mut self, checks: &[Check], tally: &mut Tally) {
        for check in checks {
            let output = self.run(check.line);
            tally.judge(check.name, &output, check.code, check.wants);
        }
    }

    /// Runs one command at one server, and judges it.
    pub(crate) fn check_at(&self, tally: &mut Tally, name: &str, at: usize, line: &str, code: i32, wants: &[Want]) -> Output {
        let output = self.run_at(at, line, "");
        tally.judge(name, &output, code, wants);
        output
    }
}

impl Output {
    /// Stdout as JSON; `Null` when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_default()
    }

    /// Replaces the address and kept values by their names.
    pub(crate) fn rename(&mut self, kept: &BTreeMap<&'static str, String>) {
        for text in [&mut self.line, &mut self.stdout, &mut self.stderr] {
            *text = text.replace(&self.address, "ADDRESS");
            // The longer first: one may hold another.
            let mut values: Vec<_> = kept.iter().filter(|(_, value)| value.len() >= KEPT_LENGTH_MIN).collect();
            values.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
            for (name, value) in values {
                *text = text.replace(value.as_str(), &format!("{{{name}}}"));
            }
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        write!(f, "  at {}: bao {}\n  exit: {code}\n  stdout: {}\n  stderr: {}", self.address, self.line, self.stdout, self.stderr)
    }
}

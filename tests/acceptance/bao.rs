//! Runs `bao` as a person at a shell does: one process a command, nothing of the caller's environment but `PATH`.

use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tests::Cluster;

use crate::check::{Check, Tally, Want};

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
    line: String,
    address: String,
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

    /// Runs `bao LINE` at the next server.
    pub(crate) fn run(&mut self, line: &str) -> Output {
        let at = self.next;
        self.next = (at + 1) % self.addresses.len();
        self.run_at(at, line, "")
    }

    /// Runs `bao LINE` at one server; it reads `stdin`.
    pub(crate) fn run_at(&self, at: usize, line: &str, stdin: &str) -> Output {
        let address = self.addresses[at].clone();
        let mut command = Command::new(&self.program);
        command.args(line.split_whitespace()).env_clear();
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path))).env("HOME", self.home.path());
        command.env("BAO_ADDR", &address).env("BAO_TOKEN", &self.token).env("BAO_MAX_RETRIES", "0").env("BAO_CLIENT_TIMEOUT", "20s");
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
        Output { line: line.to_owned(), address, code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
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

    /// As `text`, without what differs between two servers by nature: address, times, ids.
    pub(crate) fn neutral(&self, text: &str) -> String {
        text.replace(&self.address, "ADDRESS").split_inclusive(|c: char| c.is_whitespace() || c == '"').map(neutral_word).collect()
    }
}

/// A time or a UUID becomes its kind; everything else stays.
fn neutral_word(word: &str) -> String {
    let end = word.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(word.len());
    let (bare, rest) = word.split_at(end);
    let (prefix, value) = bare.rsplit_once("_time:").map_or(("", bare), |(name, value)| (&bare[..name.len() + "_time:".len()], value));
    format!("{prefix}{}{rest}", kind_of(value).unwrap_or(value))
}

/// `TIME` for RFC 3339 in UTC, `UUID` for what has that form.
fn kind_of(value: &str) -> Option<&'static str> {
    let dashes = |at: &[usize]| at.iter().all(|&at| value.as_bytes().get(at) == Some(&b'-'));
    let is_uuid = value.len() == 36 && dashes(&[8, 13, 18, 23]) && value.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    let is_time = value.len() >= 20 && dashes(&[4, 7]) && value.as_bytes()[10] == b'T' && value.ends_with('Z');
    match (is_uuid, is_time) {
        (true, _) => Some("UUID"),
        (_, true) => Some("TIME"),
        _ => None,
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        write!(f, "  at {}: bao {}\n  exit: {code}\n  stdout: {}\n  stderr: {}", self.address, self.line, self.stdout, self.stderr)
    }
}

#[test]
fn times_and_ids_are_neutral() {
    let output = Output { line: String::new(), address: "http://a:1".into(), code: None, stdout: String::new(), stderr: String::new() };
    for (text, want) in [
        ("URL: GET http://a:1/v1/x", "URL: GET ADDRESS/v1/x"),
        (r#""created_time": "2026-11-24T06:33:30.99Z","#, r#""created_time": "TIME","#),
        (r#""created_time": "","#, r#""created_time": "","#),
        ("map[created_time:2026-11-24T06:33:30.99Z custom_metadata:<nil>]", "map[created_time:TIME custom_metadata:<nil>]"),
        ("request_id: 57ff4b2d-0ee7-4cc4-b6af-29e8cb7fcc1c\n", "request_id: UUID\n"),
        ("x      2\n", "x      2\n"),
    ] {
        assert_eq!(output.neutral(text), want);
    }
}

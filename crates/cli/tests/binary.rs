//! The binary as scripts see it: exit codes, what goes to stdout and to stderr, and where tokens come from.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

/// Answers `(method and path, status, body)`, and 404 to all else. Ends with the test process.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

type Answer = (&'static str, u16, &'static str);

impl Server {
    fn start(answers: &'static [Answer]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), answers, &seen);
            }
        });
        Server { address, requests }
    }
}

fn serve(mut stream: TcpStream, answers: &[Answer], seen: &Mutex<Vec<String>>) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let (head, length) = loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                break (head.to_owned(), length);
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    };
    let body = String::from_utf8_lossy(&bytes[bytes.len() - length..]).into_owned();
    seen.lock().unwrap().push(format!("{head}\r\n\r\n{body}"));
    let asked = head.split(" HTTP/").next().unwrap();
    let (status, body) =
        answers.iter().find(|(target, ..)| *target == asked).map_or((404, r#"{"errors":[]}"#), |(_, status, body)| (*status, *body));
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}

/// Runs the binary with a home of its own and none of the caller's variables.
struct Caller {
    home: TempDir,
    variables: Vec<(String, String)>,
}

impl Caller {
    fn new() -> Caller {
        Caller { home: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    fn with(mut self, name: &str, value: &str) -> Caller {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn run(&self, line: &str, stdin: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_conclave"));
        command.args(line.split_whitespace()).env_clear().env("HOME", self.home.path());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that does not read stdin may be gone already.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        child.wait_with_output().unwrap()
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// An address at which nobody listens.
fn nobody() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

const OPEN: &str = r#"{"type":"shamir","initialized":true,"sealed":false,"t":3,"n":5,"progress":0,"nonce":"","version":"1.17.0"}"#;
const SEALED: &str = r#"{"type":"shamir","initialized":true,"sealed":true,"t":3,"n":5,"progress":1,"nonce":"x","version":"1.17.0"}"#;
const REFUSED: &str = r#"{"errors":["permission denied"]}"#;
const KV2: &str = r#"{"request_id":"1","data":{"path":"secret/","options":{"version":"2"}}}"#;

#[test]
fn help_and_version_are_no_faults_and_nonsense_is_one() {
    let caller = Caller::new();
    for line in ["-h", "--help", "version", "-version", "kv -help", "completion bash", "completion zsh", "completion fish"] {
        let output = caller.run(line, "");
        assert_eq!(code(&output), 0, "{line}: {}", stderr(&output));
        assert!(!output.stdout.is_empty(), "{line}");
    }
    assert_eq!(stdout(&caller.run("-version", "")).split(' ').nth(1).unwrap().trim(), concat!("v", env!("CARGO_PKG_VERSION")));
    for line in ["", "nonsense", "status -nonsense", "status -format=xml", "kv put secret/a"] {
        let output = caller.run(line, "");
        assert_eq!(code(&output), 1, "{line}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{line}");
    }
}

#[test]
fn status_tells_open_sealed_and_absent_by_its_code() {
    let open = Server::start(&[("GET /v1/sys/seal-status", 200, OPEN)]);
    let sealed = Server::start(&[("GET /v1/sys/seal-status", 200, SEALED)]);
    for (address, want) in [(open.address.as_str(), 0), (&sealed.address, 2), (&nobody(), 1), ("nonsense", 1)] {
        let output = Caller::new().run(&format!("status -address {address}"), "");
        assert_eq!(code(&output), want, "{address}: {}", stderr(&output));
    }
    let output = Caller::new().run(&format!("status -format=json -address={}", sealed.address), "");
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&value["sealed"], &value["progress"]), (&true.into(), &1.into()));
    let output = Caller::new().run(&format!("status -field=t -address={}", sealed.address), "");
    assert_eq!(stdout(&output), "3");
}

#[test]
fn no_answer_and_refusals_are_the_servers_and_come_with_a_cure() {
    let refuses = Server::start(&[("GET /v1/sys/internal/ui/mounts/secret/a", 200, KV2), ("GET /v1/secret/data/a", 403, REFUSED)]);
    for (address, word) in [(refuses.address.as_str(), "permission denied"), (&nobody(), "Connection refused")] {
        let output = Caller::new().with("VAULT_ADDR", address).run("kv get secret/a", "");
        assert_eq!(code(&output), 2);
        assert!(output.stdout.is_empty());
        assert!(stderr(&output).contains(word) && stderr(&output).contains("Cure: "), "{}", stderr(&output));
    }
}

#[test]
fn the_token_comes_from_the_environment_or_the_file_and_never_from_argv() {
    let server =
        Server::start(&[("GET /v1/auth/token/lookup-self", 200, r#"{"request_id":"1","data":{"id":"hvs.canary","type":"service"}}"#)]);
    let caller = Caller::new().with("CONCLAVE_ADDR", &server.address);

    let output = caller.run("login hvs.canary", "");
    assert_eq!(code(&output), 1, "not from argv");
    assert!(server.requests.lock().unwrap().is_empty());

    let output = caller.run("login -", "hvs.canary\n");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(!stdout(&output).contains("canary"), "{}", stdout(&output));
    let file = caller.home.path().join(".vault-token");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "hvs.canary");
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);

    assert_eq!(code(&caller.run("token lookup", "")), 0);
    assert!(server.requests.lock().unwrap().last().unwrap().contains("x-vault-token: hvs.canary\r\n"), "from the file");
    let caller = caller.with("VAULT_TOKEN", "hvs.other");
    assert_eq!(code(&caller.run("token lookup", "")), 0);
    assert!(server.requests.lock().unwrap().last().unwrap().contains("x-vault-token: hvs.other\r\n"), "the environment goes first");
}

#[test]
fn a_bad_token_is_not_kept() {
    let server = Server::start(&[("GET /v1/auth/token/lookup-self", 403, REFUSED)]);
    let caller = Caller::new().with("CONCLAVE_ADDR", &server.address);
    let output = caller.run("login", "hvs.canary\n");
    assert_eq!(code(&output), 2);
    assert!(!stderr(&output).contains("canary"));
    assert!(!caller.home.path().join(".vault-token").exists());
    assert_eq!(code(&caller.run("login", "\n")), 1, "nothing was given");
}

#[test]
fn secrets_go_in_by_stdin_and_come_out_raw() {
    let server = Server::start(&[
        ("GET /v1/sys/internal/ui/mounts/secret/a", 200, KV2),
        ("PUT /v1/secret/data/a", 200, r#"{"request_id":"1","data":{"version":1}}"#),
        ("GET /v1/secret/data/a", 200, r#"{"request_id":"1","data":{"data":{"x":"1\n2"},"metadata":{"version":1}}}"#),
    ]);
    let caller = Caller::new().with("BAO_ADDR", &server.address);
    let output = caller.run("kv put -cas=0 secret/a x=-", "1\n2");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let sent = server.requests.lock().unwrap().last().unwrap().split("\r\n\r\n").nth(1).unwrap().to_owned();
    assert_eq!(sent, r#"{"data":{"x":"1\n2"},"options":{"cas":0}}"#);
    assert_eq!(stdout(&caller.run("kv get -field=x secret/a", "")), "1\n2");
    let output = caller.run("kv get -field=y secret/a", "");
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("it has x"), "{}", stderr(&output));
}

#[test]
fn a_share_goes_in_by_stdin() {
    let server = Server::start(&[("PUT /v1/sys/unseal", 200, SEALED)]);
    let caller = Caller::new().with("VAULT_ADDR", &server.address);
    for line in ["operator unseal", "operator unseal -"] {
        let output = caller.run(line, "c2hhcmU=\n");
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(stdout(&output).contains("1/3"));
        assert!(server.requests.lock().unwrap().last().unwrap().ends_with(r#"{"key":"c2hhcmU=","reset":false}"#));
    }
    assert_eq!(code(&caller.run("operator unseal -reset", "c2hhcmU=\n")), 0);
    assert!(server.requests.lock().unwrap().last().unwrap().ends_with(r#"{"key":"c2hhcmU=","reset":true}"#));
    let output = caller.run("operator unseal c2hhcmU=", "");
    assert!(stderr(&output).contains("history"), "an argument works, with a warning");
    assert_eq!(code(&output), 0);
}

#[test]
fn a_wrong_configuration_is_named_with_file_and_line() {
    let caller = Caller::new();
    let file = caller.home.path().join("node.hcl");
    Command::new("cp").arg("/dev/null").arg(&file).status().unwrap();
    for line in ["server -check -config", "server -config"] {
        let output = caller.run(&format!("{line} {}", file.display()), "");
        assert_eq!(code(&output), 1);
        assert!(stderr(&output).contains("node.hcl"), "{}", stderr(&output));
    }
    assert_eq!(code(&caller.run("server -config /nonexistent.hcl", "")), 1);
}

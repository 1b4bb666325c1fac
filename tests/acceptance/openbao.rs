//! A real OpenBao as the yardstick: the same commands, and where the answers differ.
//!
//! Always: each difference is one that [`KNOWN`] and `docs/compatibility.md` tell of, and each that they tell of is still there.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::bao::{Bao, Output};
use crate::check::Tally;

const START_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Of a server that holds nothing and lives for one test on loopback.
const ROOT_TOKEN: &str = "root";
const DOCUMENT: &str = include_str!("../../docs/compatibility.md");

/// Differences that are meant, or not yet mended: check, place (`exit`, `stdout`, `stderr`, or where in the JSON), and the title
/// under which `docs/compatibility.md` explains it.
const KNOWN: &[(&str, &str, &str)] = &[
    ("patch of nothing", "stderr", "Patch of a secret that is not there"),
    ("metadata patch of nothing", "stderr", "Patch of a secret that is not there"),
    ("read of no KV path", "stderr", "Warning about a path that KV does not have"),
    ("no such mount", "stderr", "Texts of 403"),
];

/// `bao server -dev`; dropped, it is killed.
pub(crate) struct OpenBao {
    child: Child,
    client: Bao,
    _folder: TempDir,
}

impl OpenBao {
    /// Starts it, with KV v2 at `secret/`, and waits until it serves.
    pub(crate) fn start(program: PathBuf) -> OpenBao {
        let folder = tempfile::tempdir().expect("the system has a temporary folder");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        drop(listener);
        let mut command = Command::new(&program);
        command.args(["server", "-dev", "-dev-no-store-token"]);
        command.arg(format!("-dev-listen-address={address}")).arg(format!("-dev-root-token-id={ROOT_TOKEN}"));
        command.env("HOME", folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("run {}: {error}", program.display()));
        let client = Bao::new(program, vec![format!("http://{address}")]).token(ROOT_TOKEN);
        let server = OpenBao { child, client, _folder: folder };
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            // Its mount answers 400 for a moment after its start.
            let output = server.run("read secret/config");
            if output.code == Some(0) {
                return server;
            }
            assert!(Instant::now() < deadline, "OpenBao does not serve within {START_TIMEOUT:?}\n{output}");
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Runs `bao LINE` at it.
    pub(crate) fn run(&self, line: &str) -> Output {
        self.client.run_at(0, line, "")
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where answers differed.
#[derive(Default)]
pub(crate) struct Differences(Vec<Difference>);

struct Difference {
    check: &'static str,
    place: String,
    ours: String,
    theirs: String,
}

impl Differences {
    /// Compares exit code, stdout (field by field if both are JSON) and stderr, but for ids, times and addresses.
    pub(crate) fn compare(&mut self, check: &'static str, ours: &Output, theirs: &Output) {
        let mut note = |place: &str, ours: String, theirs: String| {
            if ours != theirs {
                self.0.push(Difference { check, place: place.to_owned(), ours, theirs });
            }
        };
        note("exit", format!("{:?}", ours.code), format!("{:?}", theirs.code));
        note("stderr", ours.neutral(&ours.stderr), theirs.neutral(&theirs.stderr));
        let (own, other) = (ours.neutral(&ours.stdout), theirs.neutral(&theirs.stdout));
        match (serde_json::from_str(&own), serde_json::from_str(&other)) {
            (Ok(own), Ok(other)) => compare_values("", &own, &other, &mut note),
            _ => note("stdout", own, other),
        }
    }

    /// Each difference must be known, and each known one be there.
    pub(crate) fn judge(&self, tally: &mut Tally) {
        let explains =
            |known: &(&str, &str, &str), difference: &Difference| (known.0, known.1) == (difference.check, difference.place.as_str());
        let unknown = self.0.iter().filter(|difference| !KNOWN.iter().any(|known| explains(known, difference)));
        let unknown: Vec<String> = unknown
            .map(|Difference { check, place, ours, theirs }| format!("{check}: {place:?}\n  ours:   {ours:?}\n  theirs: {theirs:?}"))
            .collect();
        tally.note("answers are OpenBao's, but for what is known", (!unknown.is_empty()).then(|| unknown.join("\n")));
        let stale = KNOWN.iter().filter(|known| !self.0.iter().any(|difference| explains(known, difference)));
        let stale: Vec<String> = stale.map(|known| format!("{}: {} is no different any more", known.0, known.1)).collect();
        tally.note("each known difference is still there", (!stale.is_empty()).then(|| stale.join("\n")));
    }
}

fn compare_values(place: &str, ours: &Value, theirs: &Value, note: &mut impl FnMut(&str, String, String)) {
    match (ours, theirs) {
        (Value::Object(own), Value::Object(other)) => {
            let names = own.keys().chain(other.keys().filter(|name| !own.contains_key(*name)));
            for name in names {
                let (ours, theirs) = (own.get(name), other.get(name));
                let place = format!("{place}/{name}");
                match (ours, theirs) {
                    (Some(ours), Some(theirs)) => compare_values(&place, ours, theirs, note),
                    _ => note(&place, text(ours), text(theirs)),
                }
            }
        }
        _ => note(place, ours.to_string(), theirs.to_string()),
    }
}

fn text(value: Option<&Value>) -> String {
    value.map_or_else(|| "absent".to_owned(), Value::to_string)
}

#[test]
fn known_differences_are_explained() {
    for (check, place, title) in KNOWN {
        assert!(DOCUMENT.contains(&format!("### {title}\n")), "docs/compatibility.md has no section {title:?}, for {place} of {check:?}");
    }
}

#[test]
fn differences_are_found_field_by_field() {
    let mut found = Vec::new();
    let ours = serde_json::json!({"a": {"b": 1, "c": 2}, "d": [1], "e": null});
    let theirs = serde_json::json!({"a": {"b": 1, "c": 3}, "d": [1, 2], "f": null});
    compare_values("", &ours, &theirs, &mut |place, ours, theirs| {
        if ours != theirs {
            found.push(format!("{place}: {ours}, {theirs}"));
        }
    });
    assert_eq!(found, ["/a/c: 2, 3", "/d: [1], [1,2]", "/e: null, absent", "/f: absent, null"]);
}

//! Clients other than `bao`: each has a program of checks that drives a server by the client's own calls.
//!
//! Such a program is given addresses and token on stdin, as JSON: arguments and environments can be seen by others. It prints a
//! line a check, `ok NAME` or `FAILED NAME: WHY`, and ends with `N passed, N failed`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::check::Tally;

/// A command that has nothing of the caller's environment but `PATH`.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command
}

/// Runs `command`, of [`command`], and enters each of its checks into `tally`, under the client's name. Panics when it ends without its sum.
pub(crate) fn run(tally: &mut Tally, client: &str, mut command: Command, home: &Path, input: &Value) {
    command.env("HOME", home);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("run {client}'s checks: {error}"));
    let _ = child.stdin.take().expect("stdin is piped").write_all(input.to_string().as_bytes());
    let output = child.wait_with_output().expect("a child can be waited for");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let mut failed = 0;
    for check in checks(&stdout) {
        failed += u32::from(check.mistake.is_some());
        tally.note(&format!("{client}: {}", check.name), check.mistake);
    }
    let sum = stdout.lines().last().unwrap_or_default();
    let told = sum.ends_with(&format!(" passed, {failed} failed")) && output.status.success() == (failed == 0);
    assert!(told, "{client}'s checks: {sum:?}, {}\n{stdout}\n{stderr}", output.status);
}

struct Told {
    name: String,
    mistake: Option<String>,
}

/// Lines that belong to no check of their own are what its failure says further.
fn checks(stdout: &str) -> Vec<Told> {
    let mut found: Vec<Told> = Vec::new();
    for line in stdout.lines() {
        if let Some(name) = line.strip_prefix("ok ") {
            found.push(Told { name: name.trim().to_owned(), mistake: None });
        } else if let Some(rest) = line.strip_prefix("FAILED ") {
            let (name, mistake) = rest.split_once(": ").unwrap_or((rest, ""));
            found.push(Told { name: name.trim().to_owned(), mistake: Some(mistake.to_owned()) });
        } else if let Some(Told { mistake: Some(mistake), .. }) = found.last_mut() {
            mistake.push('\n');
            mistake.push_str(line);
        }
    }
    found
}

#[test]
fn each_check_is_counted() {
    let told = checks("ok      one\nFAILED  two: because\n  of that\nok      three\n1 passed, 1 failed\n");
    let told: Vec<_> = told.iter().map(|told| (told.name.as_str(), told.mistake.as_deref())).collect();
    assert_eq!(told, [("one", None), ("two", Some("because\n  of that")), ("three", None)]);
}

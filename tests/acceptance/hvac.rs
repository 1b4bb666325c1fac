//! Runs `hvac_checks.py`, in which hvac drives a cluster.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::Cluster;

use crate::needs;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/acceptance/hvac_checks.py");

#[tokio::test(flavor = "multi_thread")]
async fn hvac_drives_a_cluster_from_init_to_seal() {
    let Some(python) = needs::python() else { return };
    let cluster = Cluster::builder().start().await;
    let addresses: Vec<String> = cluster.nodes.iter().map(|node| node.api_address()).collect();
    run(&python, "whole", &addresses, None, cluster.folder());
}

/// Runs the script's part of this name. Panics if a check fails.
pub(crate) fn run(python: &Path, part: &str, addresses: &[String], ca_and_token: Option<(&str, &str)>, home: &Path) {
    let (ca_file, token) = ca_and_token.unzip();
    let input = serde_json::json!({ "addresses": addresses, "ca_file": ca_file, "token": token }).to_string();
    let mut command = Command::new(python);
    command.args([SCRIPT, part]).env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).env("HOME", home);
    // Otherwise Python would write its compiled form into the source tree.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("run {}: {error}", python.display()));
    // A token goes by stdin: arguments and environments can be seen by others.
    let _ = child.stdin.take().expect("stdin is piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("a child can be waited for");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{stdout}");
    let sum = stdout.lines().last().unwrap_or_default();
    assert!(output.status.success() && sum.ends_with(" passed, 0 failed"), "hvac: {sum:?}, {}\n{stdout}\n{stderr}", output.status);
}

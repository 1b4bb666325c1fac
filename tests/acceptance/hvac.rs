//! hvac, Vault's Python client: a cluster from init to seal, and its part of each area.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use tests::Cluster;

use crate::check::Tally;
use crate::{clients, needs};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/acceptance/hvac");

#[tokio::test(flavor = "multi_thread")]
async fn hvac_drives_a_cluster_from_init_to_seal() {
    let Some(python) = needs::python() else { return };
    let cluster = Cluster::builder().start().await;
    let addresses: Vec<String> = cluster.nodes.iter().map(|node| node.api_address()).collect();
    let mut tally = Tally::default();
    whole(&mut tally, &python, "whole", &addresses, None, cluster.folder());
    tally.finish(80);
}

/// `whole.py`, from init to seal or over TLS.
pub(crate) fn whole(tally: &mut Tally, python: &Path, part: &str, addresses: &[String], ca_and_token: Option<(&str, &str)>, home: &Path) {
    let (ca_file, token) = ca_and_token.unzip();
    let mut command = script(python, "whole.py");
    command.arg(part);
    clients::run(tally, "hvac", command, home, &json!({ "addresses": addresses, "ca_file": ca_file, "token": token }));
}

/// `areas.py`: the part of one area.
pub(crate) fn area(python: &Path, area: &str) -> Command {
    let mut command = script(python, "areas.py");
    command.arg(area);
    command
}

/// A script beside them.
pub(crate) fn script(python: &Path, name: &str) -> Command {
    let mut command = clients::command(python);
    // Otherwise Python would write its compiled form into the source tree.
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(format!("{FOLDER}/{name}"));
    command
}

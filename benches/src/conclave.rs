//! Starts Conclave: `conclave dev` with three node processes, mutual TLS between them and plain HTTP for clients on loopback.

use std::env;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tokio::process::Command;
use tokio::time::sleep;

use crate::cluster::{Cluster, NODES, Node};
use crate::load::Protocol;
use crate::openbao;
use crate::process::Processes;

const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What `--ready-file` holds, as far as it is needed here.
#[derive(Deserialize)]
struct Ready {
    nodes: Vec<ReadyNode>,
    root_token: String,
}

#[derive(Deserialize)]
struct ReadyNode {
    api_addr: String,
    pid: u32,
}

/// The program: the one given, or the one beside us, which is built first when Cargo runs us.
pub(crate) async fn program(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        return std::path::absolute(given).context("resolve --conclave");
    }
    let own = env::current_exe().context("find our own program")?;
    if let Some(cargo) = env::var_os("CARGO") {
        eprintln!("building conclave");
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "cli", "--bin", "conclave"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let status = build.kill_on_drop(true).status().await.context("run cargo build")?;
        if !status.success() {
            bail!("cargo build --package cli: {status}");
        }
    }
    let beside = own.with_file_name("conclave");
    if !beside.is_file() {
        bail!("there is no {} (try: cargo build --release --package cli, or --conclave FILE)", beside.display());
    }
    Ok(beside)
}

/// Starts three nodes below `folder` and waits until they serve.
pub(crate) async fn start(program: &Path, folder: &Path, protocol: Protocol, processes: &mut Processes) -> Result<Cluster> {
    let (data, ready, trace) = (folder.join("conclave"), folder.join("conclave.json"), folder.join("conclave.log"));
    let version = openbao::version(program).await?;
    let mut command = Command::new(program);
    command.args(["dev", "--quiet", "--port", "0", "--nodes"]).arg(NODES.to_string());
    command.arg("--data-dir").arg(&data).arg("--ready-file").arg(&ready);
    for name in ["CONCLAVE_TOKEN", "BAO_TOKEN", "VAULT_TOKEN"] {
        command.env_remove(name);
    }
    processes.start("conclave dev", &mut command, &trace, false)?;
    let deadline = Instant::now() + START_TIMEOUT;
    // It appears whole, once the cluster serves.
    while !ready.exists() {
        processes.all_run()?;
        if Instant::now() >= deadline {
            bail!("conclave does not serve after {START_TIMEOUT:?}");
        }
        sleep(POLL_INTERVAL).await;
    }
    let bytes = std::fs::read(&ready).context("read the ready file")?;
    let ready: Ready = serde_json::from_slice(&bytes).context("the ready file is JSON")?;
    let node = |node: ReadyNode| {
        let address = node.api_addr.strip_prefix("http://").context("the clients' listener speaks plain HTTP")?;
        anyhow::Ok(Node { address: address.parse().context("api_addr is host:port")?, id: node.pid })
    };
    let nodes = ready.nodes.into_iter().map(node).collect::<Result<_>>()?;
    Ok(Cluster { name: "Conclave", version, protocol, nodes, token: ready.root_token })
}

//! Starts the peer: OpenBao with three nodes, its integrated Raft storage and plain HTTP for clients on loopback.
//!
//! Always: as its documentation says to run it, with nothing changed that would make it slower: no audit device, and traces
//! of warnings only.

use std::env;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use http::Method;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::sleep;

use crate::cluster::{Cluster, NODES, Node};
use crate::http::{call, done};
use crate::load::Protocol;
use crate::process::Processes;

const START_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The program: the one given, or `bao` on PATH.
pub(crate) fn program(given: Option<&Path>) -> Option<PathBuf> {
    if let Some(given) = given {
        return std::path::absolute(given).ok();
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join("bao")).find(|file| file.is_file())
}

/// The first line of what `program` answers when asked for its version.
pub(crate) async fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("run {}", program.display()))?;
    if !output.status.success() {
        bail!("{} --version: {}", program.display(), output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    // "OpenBao v2.7.2 (commit), built date"
    Ok(text.lines().next().unwrap_or_default().split(" (").next().unwrap_or_default().to_owned())
}

/// Starts three nodes below `folder`, makes one key share, joins and unseals each.
pub(crate) async fn start(program: &Path, folder: &Path, processes: &mut Processes) -> Result<Cluster> {
    let version = version(program).await?;
    // All are held until all are known, so that none comes twice.
    let held: Vec<TcpListener> =
        (0..2 * NODES).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>().context("find free ports")?;
    let addresses: Vec<SocketAddr> = held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>().context("find free ports")?;
    drop(held);
    let mut nodes = Vec::with_capacity(NODES);
    for (at, pair) in addresses.chunks_exact(2).enumerate() {
        let name = format!("openbao-{}", at + 1);
        let (data, config, trace) = (folder.join(&name), folder.join(format!("{name}.json")), folder.join(format!("{name}.log")));
        std::fs::create_dir(&data).with_context(|| format!("make {}", data.display()))?;
        std::fs::write(&config, configuration(&name, &data, pair[0], pair[1]).to_string())
            .with_context(|| format!("write {}", config.display()))?;
        let mut command = Command::new(program);
        command.arg("server").arg("-log-level=warn").arg("-config").arg(&config).env("HOME", folder);
        for name in ["BAO_TOKEN", "VAULT_TOKEN"] {
            command.env_remove(name);
        }
        let id = processes.start(&name, &mut command, &trace, true)?;
        nodes.push(Node { address: pair[0], id });
    }
    for node in &nodes {
        await_answer(node, "/v1/sys/seal-status", processes, |_| true).await?;
    }
    let shares = json!({"secret_shares": 1, "secret_threshold": 1});
    let init = done(nodes[0].address, None, Method::PUT, "/v1/sys/init", Some(shares)).await?;
    let key = init["keys_base64"][0].as_str().context("init gives a key share")?;
    let token = init["root_token"].as_str().context("init gives a root token")?.to_owned();
    for (at, node) in nodes.iter().enumerate() {
        if at > 0 {
            let leader = json!({"leader_api_addr": format!("http://{}", nodes[0].address)});
            done(node.address, None, Method::POST, "/v1/sys/storage/raft/join", Some(leader)).await?;
        }
        done(node.address, None, Method::PUT, "/v1/sys/unseal", Some(json!({"key": key}))).await?;
        await_answer(node, "/v1/sys/seal-status", processes, |status| status["sealed"] == false).await?;
        await_answer(node, "/v1/sys/leader", processes, |status| {
            status["leader_address"].as_str().is_some_and(|leader| !leader.is_empty())
        })
        .await?;
    }
    Ok(Cluster { name: "OpenBao", version, protocol: Protocol::Http, nodes, token })
}

fn configuration(name: &str, data: &Path, api: SocketAddr, cluster: SocketAddr) -> Value {
    json!({
        "listener": [{"tcp": {"address": api.to_string(), "cluster_address": cluster.to_string(), "tls_disable": true}}],
        "storage": {"raft": {"path": data, "node_id": name}},
        "api_addr": format!("http://{api}"),
        "cluster_addr": format!("https://{cluster}"),
    })
}

/// Asks until the answer is as it should be.
async fn await_answer(node: &Node, path: &str, processes: &mut Processes, good: impl Fn(&Value) -> bool) -> Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        processes.all_run()?;
        if call(node.address, None, Method::GET, path, None).await.is_ok_and(|(status, answer)| status.is_success() && good(&answer)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("openbao at {}: {path} is not as it should be after {START_TIMEOUT:?}", node.address);
        }
        sleep(POLL_INTERVAL).await;
    }
}

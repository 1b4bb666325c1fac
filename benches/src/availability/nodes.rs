//! Three nodes that open themselves by a static key, each of which can be ended and started again.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use client::{Client, Error, Method, SecretString};
use rustix::process::Signal;
use serde_json::json;
use tokio::process::Command;
use tokio::time::sleep;

use crate::process::Processes;

const COUNT: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_PAUSE: Duration = Duration::from_millis(25);

/// The nodes and a client that knows all of them.
pub(super) struct Nodes {
    program: PathBuf,
    nodes: Vec<Node>,
    client: Client,
}

struct Node {
    id: String,
    address: String,
    folder: PathBuf,
    process: u32,
}

impl Nodes {
    /// Lays three nodes out below `folder`, starts them, makes their keys and mounts KV v2 at `secret/`.
    pub(super) async fn start(program: &Path, folder: &Path, processes: &mut Processes) -> Result<Nodes> {
        let ids: Vec<String> = (1..=COUNT).map(|number| format!("n{number}")).collect();
        let certs = folder.join("certs");
        let mut make = Command::new(program);
        make.args(["operator", "certs", "-out"]).arg(&certs);
        make.args(ids.iter().map(|id| format!("{id}=127.0.0.1,localhost"))).stdout(std::process::Stdio::null());
        if !make.status().await.context("run conclave operator certs")?.success() {
            bail!("conclave operator certs has failed");
        }
        let key = folder.join("static.key");
        fs::write(&key, "5a".repeat(32)).context("write the static key")?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).context("close the static key's file")?;
        let ports = free_ports(2 * COUNT)?;
        let members = ids.iter().zip(ports.chunks(2)).fold(String::new(), |mut text, (id, pair)| {
            let (api, cluster) = (pair[0], pair[1]);
            writeln!(text, "  member \"{id}\" {{ cluster_addr = \"https://127.0.0.1:{cluster}\" api_addr = \"http://127.0.0.1:{api}\" }}")
                .expect("writing to a String cannot fail");
            text
        });
        let mut nodes = Vec::new();
        for (id, pair) in ids.into_iter().zip(ports.chunks(2)) {
            let home = folder.join(&id);
            fs::create_dir(&home).context("make a node's folder")?;
            let config = format!(
                "api_addr = \"http://127.0.0.1:{}\"\nlistener \"tcp\" {{\n  address = \"127.0.0.1:{}\"\n  tls_disable = true\n}}\n\
                 storage \"raft\" {{\n  path = {:?}\n  node_id = {id:?}\n}}\n\
                 cluster {{\n  tls_ca_file = {:?}\n  tls_cert_file = {:?}\n  tls_key_file = {:?}\n{members}}}\n\
                 seal \"static\" {{\n  current_key_id = \"bench\"\n  current_key = \"file://{}\"\n}}\n",
                pair[0],
                pair[0],
                home.join("data"),
                certs.join("ca.pem"),
                certs.join(format!("{id}.pem")),
                certs.join(format!("{id}-key.pem")),
                key.display(),
            );
            fs::write(home.join("node.hcl"), config).context("write a node's configuration")?;
            nodes.push(Node { id, address: format!("http://127.0.0.1:{}", pair[0]), folder: home, process: 0 });
        }
        let addresses: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
        let client = Client::builder().addresses(addresses).build().context("a client of three plain addresses")?;
        let mut nodes = Nodes { program: program.to_owned(), nodes, client };
        for at in 0..COUNT {
            nodes.spawn(at, processes)?;
        }
        nodes.make_keys().await?;
        for at in 0..COUNT {
            nodes.await_serving(at).await?;
        }
        let mount = json!({ "type": "kv", "options": { "version": "2" } });
        nodes.client.request(Method::Post, "sys/mounts/secret").body(&mount).send().await.context("mount KV v2")?;
        Ok(nodes)
    }

    async fn make_keys(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let made = loop {
            match self.at(0)?.sys().init(1, 1).await {
                Ok(made) => break made,
                Err(Error::Unavailable { .. }) if Instant::now() < deadline => sleep(LOOK_PAUSE).await,
                Err(error) => return Err(error).context("init"),
            }
        };
        // EXPOSE: the benchmark's own token, of a cluster that ends with it.
        self.client = self.client.with_token(Some(SecretString::from(made.root_token.expose().to_owned())));
        Ok(())
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn count(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn id(&self, at: usize) -> &str {
        &self.nodes[at].id
    }

    fn at(&self, at: usize) -> Result<Client> {
        self.client.at(&self.nodes[at].address).context("a node's address is a URL")
    }

    /// Where the node is that leads.
    pub(super) async fn leader(&self) -> Result<usize> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let leader = self.client.sys().leader().await.context("ask who leads")?.leader_address;
            if let Some(at) = self.nodes.iter().position(|node| node.address == leader) {
                return Ok(at);
            }
            sleep(LOOK_PAUSE).await;
        }
        bail!("no node leads")
    }

    /// Ends a node.
    pub(super) async fn stop(&mut self, at: usize, signal: Signal, processes: &mut Processes) -> Result<()> {
        processes.end(self.nodes[at].process, signal).await
    }

    /// Starts a node again and waits until it serves.
    pub(super) async fn restart(&mut self, at: usize, processes: &mut Processes) -> Result<()> {
        self.spawn(at, processes)?;
        self.await_serving(at).await
    }

    fn spawn(&mut self, at: usize, processes: &mut Processes) -> Result<()> {
        let node = &mut self.nodes[at];
        let mut command = Command::new(&self.program);
        command.arg("server").arg("-config").arg(node.folder.join("node.hcl"));
        node.process = processes.start(&node.id, &mut command, &node.folder.join("trace.log"), true)?;
        Ok(())
    }

    /// Waits until a node is open and knows a leader.
    async fn await_serving(&self, at: usize) -> Result<()> {
        let (client, deadline) = (self.at(at)?, Instant::now() + PATIENCE);
        loop {
            let health = client.request(Method::Get, "sys/health").accept_any_status().within(Some(Duration::from_secs(1))).send().await;
            if health.is_ok_and(|health| health.status() == 200) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("{} does not serve", self.nodes[at].id);
            }
            sleep(LOOK_PAUSE).await;
        }
    }
}

/// All are held until all are known.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<_>>().context("find free ports")?;
    held.iter().map(|listener| Ok(listener.local_addr().context("a bound socket has an address")?.port())).collect()
}

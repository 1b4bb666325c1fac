//! A cluster of real nodes on loopback: configuration, certificates, ports, ceremony.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use client::{Client, Method, SecretData, SecretString};
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::node::Hosts;
use crate::{Command, Network, Node, Turn, eventually, turn};

/// Shares that [`Cluster::init`] asks for.
pub const SHARES: u32 = 5;
/// Shares that open such a cluster.
pub const THRESHOLD: u32 = 3;

/// How long nodes may take to answer, to elect, to open: generous, as machines that test are slow.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a cluster is laid out anew because somebody took one of its ports.
const LAYOUTS_MAX: u32 = 5;
/// Ports for nodes come from here. Not from the system's ephemeral range, as port 0 would: an outgoing connection could take
/// a port from there while its node is down.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// What init gave: the only copy.
pub struct Keys {
    /// In base64.
    pub shares: Vec<String>,
    /// The root token.
    pub root_token: String,
}

/// How a cluster is laid out.
#[derive(Default)]
pub struct Builder {
    nodes: usize,
    cluster_name: Option<String>,
    log_level: Option<String>,
    listener: String,
    more: String,
    network: Option<Network>,
    tls: bool,
    data_dirs: Vec<(usize, PathBuf)>,
    files_max: Option<u32>,
    managed: Option<String>,
}

impl Builder {
    /// How many nodes; 3 by default.
    pub fn nodes(mut self, nodes: usize) -> Builder {
        self.nodes = nodes;
        self
    }

    /// `cluster_name`; `conclave` by default.
    pub fn cluster_name(mut self, name: &str) -> Builder {
        self.cluster_name = Some(name.to_owned());
        self
    }

    /// `log_level`; `info` by default.
    pub fn log_level(mut self, filter: &str) -> Builder {
        self.log_level = Some(filter.to_owned());
        self
    }

    /// More lines for each `listener` block.
    pub fn listener(mut self, lines: &str) -> Builder {
        lines.clone_into(&mut self.listener);
        self
    }

    /// More lines at the end of each configuration.
    pub fn more(mut self, lines: &str) -> Builder {
        lines.clone_into(&mut self.more);
        self
    }

    /// A network of its own for each node.
    pub fn network(mut self, network: Network) -> Builder {
        self.network = Some(network);
        self
    }

    /// TLS for clients, with the peers' certificates.
    pub fn tls(mut self) -> Builder {
        self.tls = true;
        self
    }

    /// The nodes make their certificates themselves: the first founds the cluster at its init, the others ask it to be taken in by the join
    /// token in [`Node::join_token_file`], once there is one. `lines`: more for each `cluster` block.
    pub fn managed(mut self, lines: &str) -> Builder {
        self.managed = Some(lines.to_owned());
        self
    }

    /// How many files each node's process may have open, at most.
    pub fn files_max(mut self, files: u32) -> Builder {
        self.files_max = Some(files);
        self
    }

    /// Keeps the data of the node at `at` in `folder`.
    pub fn data_dir(mut self, at: usize, folder: &Path) -> Builder {
        self.data_dirs.push((at, folder.to_owned()));
        self
    }

    /// Waits for this test's turn, lays the cluster out, and starts nothing.
    pub fn lay_out(self) -> Cluster {
        let turn = turn();
        Cluster::lay_out(self, Some(turn))
    }

    /// Lays out a further cluster in a test that has the turn already.
    pub fn lay_out_beside(self, _other: &Cluster) -> Cluster {
        Cluster::lay_out(self, None)
    }

    /// Starts all nodes: they answer, without keys.
    pub async fn start(self) -> Cluster {
        let mut cluster = self.lay_out();
        cluster.start().await;
        cluster
    }

    /// Starts all, makes the keys, opens every node, mounts KV v2 at `secret/`.
    pub async fn open(self) -> Cluster {
        let mut cluster = self.start().await;
        cluster.init().await;
        cluster.unseal_everywhere().await;
        cluster.mount("secret").await;
        cluster
    }
}

/// Nodes, their files, and their keys once there are some.
pub struct Cluster {
    /// In the order of their ids.
    pub nodes: Vec<Node>,
    /// `conclave`, unless the builder said otherwise.
    pub name: String,
    keys: Option<Keys>,
    builder: Builder,
    /// Dropped after the nodes.
    folder: Option<TempDir>,
    _turn: Option<Turn>,
}

impl Cluster {
    /// Three nodes with defaults, unless something else is said.
    pub fn builder() -> Builder {
        Builder { nodes: 3, ..Builder::default() }
    }

    fn lay_out(builder: Builder, turn: Option<Turn>) -> Cluster {
        let folder = tempfile::Builder::new().prefix("conclave-it-").tempdir().expect("the system has a temporary folder");
        let name = builder.cluster_name.clone().unwrap_or_else(|| "conclave".to_owned());
        let ids: Vec<String> = (1..=builder.nodes).map(|number| format!("n{number}")).collect();
        let certs = ids.iter().fold(Command::new("operator certs -out").arg(folder.path().join("certs")), |command, id| {
            let mut names = "127.0.0.1,localhost".to_owned();
            if builder.network.is_some() {
                let hosts = hosts(&builder, id);
                names = format!("{names},{},{}", hosts.api, hosts.cluster);
            }
            command.arg(format!("{id}={names}"))
        });
        certs.arg(format!("-cluster={name}")).run().expect_code(0);
        let mut cluster = Cluster { nodes: Vec::new(), name, keys: None, builder, folder: Some(folder), _turn: turn };
        cluster.make_nodes(&ids);
        cluster
    }

    fn make_nodes(&mut self, ids: &[String]) {
        let ports = free_ports(2 * ids.len());
        let node = |(id, pair): (&String, &[u16])| {
            Node::new(id.clone(), self.folder().join(id), [pair[0], pair[1]], self.builder.tls, hosts(&self.builder, id))
        };
        self.nodes = ids.iter().zip(ports.chunks_exact(2)).map(node).collect();
        for (at, folder) in &self.builder.data_dirs {
            self.nodes[*at].keep_data_in(folder);
        }
        for node in &mut self.nodes {
            node.files_max = self.builder.files_max;
        }
        for node in &self.nodes {
            make_folder(&node.folder);
            write(&node.config_file(), &self.config(node));
        }
    }

    /// The configuration of `node`, as it was written to its file.
    pub fn config(&self, node: &Node) -> String {
        let certs = self.certs();
        let (ca, certificate, key) =
            (certs.join("ca.pem"), certs.join(format!("{}.pem", node.id)), certs.join(format!("{}-key.pem", node.id)));
        let tls = if self.builder.tls {
            format!("tls_cert_file = {certificate:?}\n  tls_key_file = {key:?}")
        } else {
            "tls_disable = true".to_owned()
        };
        let members: String = self.nodes.iter().fold(String::new(), |mut text, node| {
            let (cluster, api) = (node.cluster_address(), node.api_address());
            writeln!(text, "  member {:?} {{\n    cluster_addr = {cluster:?}\n    api_addr = {api:?}\n  }}", node.id)
                .expect("writing to a String cannot fail");
            text
        });
        let mut join = String::new();
        let mut cluster = format!("tls_ca_file = {ca:?}\n  tls_cert_file = {certificate:?}\n  tls_key_file = {key:?}\n\n{members}");
        if let Some(lines) = &self.builder.managed {
            cluster.clone_from(lines);
            if let Some(first) = self.nodes.first().filter(|first| first.id != node.id) {
                let (address, token) = (first.api_address(), node.join_token_file());
                join = format!("retry_join {{\n    leader_api_addr = {address:?}\n    join_token_file = {token:?}\n  }}\n");
            }
        }
        format!(
            "cluster_name = {:?}\napi_addr = {:?}\ncluster_addr = {:?}\nlog_level = {:?}\n\n\
             listener \"tcp\" {{\n  address = \"{}:{}\"\n  {tls}\n  {}\n}}\n\n\
             storage \"raft\" {{\n  path = {:?}\n  node_id = {:?}\n  {join}}}\n\n\
             cluster {{\n  {cluster}\n}}\n{}\n",
            self.name,
            node.api_address(),
            node.cluster_address(),
            self.builder.log_level.as_deref().unwrap_or("info"),
            node.hosts.api,
            node.api_port,
            self.builder.listener,
            node.data_dir,
            node.id,
            self.builder.more,
        )
    }

    /// Writes the configuration of the nodes at these places anew, with other lines at the end; they take effect at the next start.
    pub fn reconfigure(&mut self, nodes: &[usize], more: &str) {
        more.clone_into(&mut self.builder.more);
        for &at in nodes {
            write(&self.nodes[at].config_file(), &self.config(&self.nodes[at]));
        }
    }

    /// The nodes' network; panics when they have none of their own.
    pub fn network(&self) -> &Network {
        self.builder.network.as_ref().expect("the nodes have a network of their own")
    }

    /// Holds everything of this cluster; removed with it, unless the test failed.
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().expect("kept until the cluster is dropped").path()
    }

    /// `ca.pem`, `ca-key.pem`, and each node's `ID.pem` and `ID-key.pem`.
    pub fn certs(&self) -> PathBuf {
        self.folder().join("certs")
    }

    /// What init gave; panics before [`Cluster::init`].
    pub fn keys(&self) -> &Keys {
        self.keys.as_ref().expect("the cluster has keys")
    }

    /// Takes the keys over that a test made by itself.
    pub fn set_keys(&mut self, keys: Keys) {
        self.keys = Some(keys);
    }

    /// Starts every node for the first time, with other ports should one have been taken, and waits until each answers.
    pub async fn start(&mut self) {
        for _ in 0..LAYOUTS_MAX {
            for node in &mut self.nodes {
                node.start();
            }
            if self.answers_or_port_is_taken().await {
                return;
            }
            for node in &mut self.nodes {
                node.kill();
                // Members are written down at the first start: with other ports everything begins anew.
                let _ = std::fs::remove_dir_all(&node.data_dir);
                let _ = std::fs::remove_file(node.trace_file());
            }
            let ids: Vec<String> = self.nodes.iter().map(|node| node.id.clone()).collect();
            self.make_nodes(&ids);
        }
        panic!("ports that were free were taken {LAYOUTS_MAX} times");
    }

    async fn answers_or_port_is_taken(&mut self) -> bool {
        let deadline = Instant::now() + START_TIMEOUT;
        for at in 0..self.nodes.len() {
            while self.client_at(at).sys().seal_status().await.is_err() {
                if !self.nodes[at].is_running() {
                    assert!(self.nodes[at].trace().contains("cannot listen"), "{} has ended", self.nodes[at].id);
                    return false;
                }
                assert!(Instant::now() < deadline, "{} does not answer within {START_TIMEOUT:?}", self.nodes[at].id);
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        }
        true
    }

    /// Starts the node at `at` again, and waits until it answers.
    pub async fn restart(&mut self, at: usize) {
        self.nodes[at].start();
        self.await_answer(at).await;
    }

    /// Waits until the node at `at` answers; it needs no other for that.
    pub async fn await_answer(&mut self, at: usize) {
        let client = self.client_at(at);
        let node = &mut self.nodes[at];
        eventually(&format!("{} answers", node.id), START_TIMEOUT, async || {
            assert!(node.is_running(), "{} has ended", node.id);
            client.sys().seal_status().await
        })
        .await;
    }

    /// Asks any node, with the root token once there is one.
    pub fn client(&self) -> Client {
        self.client_of(self.nodes.iter().map(Node::api_address).collect())
    }

    /// Asks the node at `at` only.
    pub fn client_at(&self, at: usize) -> Client {
        self.client_of(vec![self.nodes[at].api_address()])
    }

    /// Asks the node at `at` only, without a token, and gives up after 15 s: for what may have no answer.
    pub fn impatient_client_at(&self, at: usize) -> Client {
        let builder = Client::builder().addresses(vec![self.nodes[at].api_address()]).ca_file(self.certs().join("ca.pem"));
        let builder =
            builder.timeout(Duration::from_secs(15)).attempt_timeout(Duration::from_secs(15)).connect_timeout(Duration::from_secs(1));
        builder.build().expect("the settings are right")
    }

    fn client_of(&self, addresses: Vec<String>) -> Client {
        let mut builder = Client::builder().addresses(addresses).ca_file(self.certs().join("ca.pem"));
        builder = builder.timeout(Duration::from_secs(20)).attempt_timeout(Duration::from_secs(5)).connect_timeout(Duration::from_secs(1));
        if let Some(keys) = &self.keys {
            builder = builder.token(SecretString::from(keys.root_token.clone()));
        }
        builder.build().expect("the settings are right")
    }

    /// Makes the keys: [`SHARES`], of which [`THRESHOLD`] open. Waits for the first leader.
    pub async fn init(&mut self) {
        let client = self.client_at(0);
        let init = eventually("init", START_TIMEOUT, async || match client.sys().init(SHARES, THRESHOLD).await {
            Err(error @ client::Error::Unavailable { .. }) => Err(error),
            other => Ok(other.unwrap_or_else(|error| panic!("init: {error}"))),
        })
        .await;
        let shares = init.shares.iter().map(|share| share.expose().to_owned()).collect();
        self.keys = Some(Keys { shares, root_token: init.root_token.expose().to_owned() });
    }

    /// Gives the share at `share` (from 0) to the node at `at`.
    pub async fn give_share(&self, at: usize, share: usize) -> Result<client::SealStatus, client::Error> {
        self.client_at(at).sys().unseal(&SecretString::from(self.keys().shares[share].clone())).await
    }

    /// Gives as many shares as are needed, each to another node around the circle, and waits until every node is open.
    pub async fn unseal_everywhere(&self) {
        self.unseal_at(&(0..self.nodes.len()).collect::<Vec<_>>()).await;
    }

    /// Gives as many shares as are needed to these nodes around the circle, and waits until each is open.
    pub async fn unseal_at(&self, nodes: &[usize]) {
        for share in 0..THRESHOLD as usize {
            let at = nodes[share % nodes.len()];
            let id = &self.nodes[at].id;
            eventually(&format!("share {share} at {id}"), START_TIMEOUT, async || match self.give_share(at, share).await {
                // Before a leader is there, nobody coordinates.
                Err(error @ client::Error::Unavailable { .. }) => Err(error),
                other => Ok(other.unwrap_or_else(|error| panic!("share {share} at {id}: {error}"))),
            })
            .await;
        }
        self.await_sealed(nodes, false, START_TIMEOUT).await;
    }

    /// Waits until each of these nodes is sealed, or open.
    pub async fn await_sealed(&self, nodes: &[usize], sealed: bool, limit: Duration) {
        for &at in nodes {
            let what = format!("{} is {}", self.nodes[at].id, if sealed { "sealed" } else { "open" });
            let client = self.client_at(at);
            eventually(&what, limit, async || match client.sys().seal_status().await {
                Ok(status) if status.sealed == sealed => Ok(()),
                Ok(status) => Err(format!("sealed: {}, progress {}", status.sealed, status.progress)),
                Err(error) => Err(error.to_string()),
            })
            .await;
        }
    }

    /// Mounts KV v2 at `path`, and waits until every open node serves it.
    pub async fn mount(&self, path: &str) {
        self.client().sys().mount(path, "kv", &[("version", "2")]).await.unwrap_or_else(|error| panic!("mount {path}: {error}"));
    }

    /// Which node leads, as those that run say; waits until they agree.
    pub async fn leader(&mut self) -> usize {
        let running: Vec<usize> = (0..self.nodes.len()).filter(|&at| self.nodes[at].is_running()).collect();
        eventually("the nodes agree on a leader", START_TIMEOUT, async || {
            let mut said = Vec::new();
            for &at in &running {
                said.push(self.client_at(at).sys().leader().await.map_err(|error| error.to_string())?.leader_address);
            }
            let leader = self.nodes.iter().position(|node| said.iter().all(|address| *address == node.api_address()));
            leader.filter(|at| running.contains(at)).ok_or_else(|| format!("they say {said:?}"))
        })
        .await
    }

    /// Waits until the node at `at`, sealed or not, has applied all that others have committed by now.
    pub async fn await_caught_up(&self, at: usize, limit: Duration) {
        let others = self.client();
        let target = others.sys().leader().await.unwrap_or_else(|error| panic!("ask for the commit index: {error}")).raft_committed_index;
        let client = self.client_at(at);
        eventually(&format!("{} has applied {target}", self.nodes[at].id), limit, async || {
            let applied = client.sys().leader().await.map_err(|error| error.to_string())?.raft_applied_index;
            if applied >= target { Ok(()) } else { Err(format!("it has applied {applied}")) }
        })
        .await;
    }

    /// Kills every node at once.
    pub fn kill_all(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
    }

    /// Panics when a node has panicked, or ended without being asked.
    pub fn assert_sound(&mut self) {
        for node in &mut self.nodes {
            assert!(node.is_running(), "{} has ended", node.id);
            let trace = node.trace();
            if let Some(line) = trace.lines().find(|line| line.contains("panicked at")) {
                panic!("{} has panicked: {line}", node.id);
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for node in &mut self.nodes {
            let state = if node.is_running() { "running" } else { "not running" };
            eprintln!("---- {} ({state}), the end of {}\n{}", node.id, node.trace_file().display(), node.tail());
            node.kill();
        }
        if let Some(folder) = self.folder.take() {
            eprintln!("---- kept: {}", folder.keep().display());
        }
    }
}

/// Where the node of this id is; ids count from `n1`.
fn hosts(builder: &Builder, id: &str) -> Hosts {
    let Some(network) = &builder.network else { return Hosts::default() };
    let at = id.trim_start_matches('n').parse::<usize>().expect("ids are n1, n2, …") - 1;
    let (api, cluster) = (network.client_address(at), network.peer_address(at));
    Hosts { api, cluster, namespace: Some(network.namespace(at)) }
}

/// A secret's fields from JSON; panics when `value` is no object.
pub fn fields(value: Value) -> SecretData {
    match value {
        Value::Object(fields) => SecretData::from(fields),
        other => panic!("{other} is no object"),
    }
}

/// `sys/seal-status` as it is on the wire.
pub async fn seal_status(client: &Client) -> Map<String, Value> {
    let response = client.request(Method::Get, "sys/seal-status").send().await.unwrap_or_else(|error| panic!("seal status: {error}"));
    response.json().unwrap_or_else(|error| panic!("seal status: {error}"))
}

/// All are held until all are known, so that none comes twice; the caller's processes take them a moment later.
fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let span = u32::from(PORTS.end - PORTS.start);
    let mut held = Vec::new();
    // Test processes that run side by side begin elsewhere.
    let first = std::process::id().wrapping_mul(7919);
    for _ in 0..span {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + u16::try_from(first.wrapping_add(step) % span).expect("the span is below 2^16");
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
        if held.len() == count {
            return held.iter().map(|listener| listener.local_addr().expect("a bound socket has an address").port()).collect();
        }
    }
    panic!("no {count} free ports in {PORTS:?}");
}

fn make_folder(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap_or_else(|error| panic!("make {}: {error}", folder.display()));
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap_or_else(|error| panic!("write {}: {error}", file.display()));
}

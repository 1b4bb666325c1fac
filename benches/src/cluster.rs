//! A three-node cluster that serves KV v2 at `secret/` by Vault's HTTP API, whoever made it.
//!
//! Always: what it is asked here is the same for every server that is measured.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use http::{Method, StatusCode};
use serde_json::json;
use tokio::time::sleep;

use crate::args::Via;
use crate::http::{call, done};
use crate::load::Protocol;

/// How many nodes each cluster has.
pub(crate) const NODES: usize = 3;
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a cluster is, and how it is asked.
pub(crate) struct Cluster {
    pub(crate) name: &'static str,
    /// What its program says its version is.
    pub(crate) version: String,
    pub(crate) protocol: Protocol,
    pub(crate) nodes: Vec<Node>,
    /// The root token. Never printed.
    pub(crate) token: String,
}

/// One node.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) id: u32,
}

impl Cluster {
    /// The nodes that `via` names: one, or all of them.
    pub(crate) async fn addresses(&self, via: Via) -> Result<Vec<SocketAddr>> {
        let all = self.nodes.iter().map(|node| node.address);
        if via == Via::All {
            return Ok(all.collect());
        }
        let leader = self.leader().await?;
        Ok(all.filter(|address| (*address == leader) == (via == Via::Leader)).take(1).collect())
    }

    async fn leader(&self) -> Result<SocketAddr> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let answer = done(self.nodes[0].address, None, Method::GET, "/v1/sys/leader", None).await?;
            let leader = answer["leader_address"].as_str().unwrap_or_default();
            if let Some(node) = self.nodes.iter().find(|node| leader == format!("http://{}", node.address)) {
                return Ok(node.address);
            }
            if Instant::now() >= deadline {
                bail!("{}: no node leads", self.name);
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until every node takes a write and reads it back, with KV v2 at `secret/`.
    pub(crate) async fn settle(&self) -> Result<()> {
        let token = Some(self.token.as_str());
        let mounts = done(self.nodes[0].address, token, Method::GET, "/v1/sys/mounts", None).await?;
        if mounts.get("secret/").is_none() {
            let mount = json!({"type": "kv", "options": {"version": "2"}});
            done(self.nodes[0].address, token, Method::POST, "/v1/sys/mounts/secret", Some(mount)).await?;
        }
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        for node in &self.nodes {
            for (method, body) in [(Method::POST, Some(json!({"data": {"settled": "yes"}}))), (Method::GET, None)] {
                while let Err(error) = self.settled(node, method.clone(), body.clone()).await {
                    if Instant::now() >= deadline {
                        return Err(error).with_context(|| format!("{}: the node at {} does not settle", self.name, node.address));
                    }
                    sleep(POLL_INTERVAL).await;
                }
            }
        }
        Ok(())
    }

    async fn settled(&self, node: &Node, method: Method, body: Option<serde_json::Value>) -> Result<()> {
        let (status, answer) = call(node.address, Some(&self.token), method, "/v1/secret/data/settle", body).await?;
        if status != StatusCode::OK {
            bail!("{status} {}", answer["errors"]);
        }
        Ok(())
    }
}

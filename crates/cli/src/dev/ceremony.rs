//! From processes to an open cluster: answers, init, unseal, a mount, a first secret. Every step waits within a deadline.

use std::time::{Duration, Instant};

use client::{Client, SealStatus, SecretData, SecretString};
use serde_json::{Map, Value};
use tokio::time::sleep;

use super::layout::Layout;
use super::progress::Progress;
use super::ready::Keys;
use crate::fault::Fault;

/// Shares of a dev cluster's key, and how many of them open it.
pub(super) const SHARES: u32 = 5;
pub(super) const THRESHOLD: u32 = 3;
/// How long the nodes may take to answer their first request.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long all nodes may take to open, once one has.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the new cluster may take to elect its first leader, and so to take its first write.
const FIRST_WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const MOUNT: &str = "secret";
const FIRST_SECRET: &str = "conclave/first";

/// Where the steps stop.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// Processes that answer.
    Answering,
    /// Keys, but sealed.
    Initialized,
    /// A first secret was written and read.
    Serving,
}

/// What was reached.
pub(super) struct Reached {
    pub(super) keys: Keys,
    /// Found sealed with keys that somebody else has: the shares must come from them.
    pub(super) needs_shares: bool,
}

/// The nodes of one cluster.
pub(super) struct Cluster<'a> {
    layout: &'a Layout,
    /// Asks any node.
    pub(super) client: Client,
    /// Each asks one node, in the order of the layout.
    pub(super) nodes: Vec<Client>,
}

impl<'a> Cluster<'a> {
    pub(super) fn new(layout: &'a Layout) -> Result<Cluster<'a>, Fault> {
        let builder = Client::builder().addresses(layout.nodes.iter().map(|place| layout.api_address(place)));
        // With plain HTTP there is nobody to trust, but it does no harm.
        let client = builder.ca_file(layout.ca_file()).build()?;
        let nodes = layout.nodes.iter().map(|place| client.at(&layout.api_address(place))).collect::<Result<_, _>>()?;
        Ok(Cluster { layout, client, nodes })
    }

    /// Walks towards `goal`. Dropped half-way, what was done stays done.
    pub(super) async fn bring_up(&self, goal: Goal, progress: &Progress) -> Result<Reached, Fault> {
        let count = self.nodes.len();
        progress.step(&format!("waiting for {count} node{} to answer", if count == 1 { "" } else { "s" }));
        let initialized = self.await_answers().await?;
        let mut keys = Keys { shares: Vec::new(), root_token: None, threshold: THRESHOLD };
        if initialized {
            let status = self.nodes[0].sys().seal_status().await?;
            keys.threshold = status.t;
            return Ok(Reached { keys, needs_shares: true });
        }
        if goal == Goal::Answering {
            return Ok(Reached { keys, needs_shares: false });
        }
        progress.step(&format!("making the keys: {SHARES} shares, of which {THRESHOLD} open the cluster"));
        let init = self.init().await?;
        keys.shares = init.shares;
        let token = init.root_token;
        if goal == Goal::Serving {
            progress.step(&format!("unsealing: {THRESHOLD} shares, at different nodes"));
            for (at, share) in keys.shares.iter().take(THRESHOLD as usize).enumerate() {
                self.give_share(at, share).await?;
            }
            self.await_open().await?;
            progress.step("mounting KV v2 at secret/, writing and reading a first secret");
            // EXPOSE: a copy for the client; wiped with it.
            let client = self.client.with_token(Some(token.expose().to_owned().into()));
            self.first_secret(&client).await?;
        }
        keys.root_token = Some(token);
        Ok(Reached { keys, needs_shares: false })
    }

    /// Waits until each node answers; tells whether there are keys.
    async fn await_answers(&self) -> Result<bool, Fault> {
        let deadline = Instant::now() + START_TIMEOUT;
        let mut initialized = false;
        for (node, place) in self.nodes.iter().zip(&self.layout.nodes) {
            initialized = loop {
                match node.sys().initialized().await {
                    Ok(initialized) => break initialized,
                    Err(error) if Instant::now() >= deadline => {
                        return Err(Fault::from(error).during(&format!("node {} does not answer", place.id)));
                    }
                    Err(_) => sleep(POLL_INTERVAL).await,
                }
            };
        }
        Ok(initialized)
    }

    /// Until the first leader is elected, nodes answer that nothing was done.
    async fn init(&self) -> Result<client::Init, Fault> {
        let deadline = Instant::now() + FIRST_WRITE_TIMEOUT;
        loop {
            match self.client.sys().init(SHARES, THRESHOLD).await {
                Ok(init) => return Ok(init),
                Err(client::Error::Unavailable { .. }) if Instant::now() < deadline => sleep(POLL_INTERVAL).await,
                Err(error) => return Err(Fault::from(error).during("init")),
            }
        }
    }

    /// The `at`-th share goes to the `at`-th node, around the circle.
    pub(super) async fn give_share(&self, at: usize, share: &SecretString) -> Result<SealStatus, Fault> {
        let at = at % self.nodes.len();
        let place = &self.layout.nodes[at];
        self.nodes[at].sys().unseal(share).await.map_err(|error| Fault::from(error).during(&format!("unseal at {}", place.id)))
    }

    /// Waits until each node is open.
    pub(super) async fn await_open(&self) -> Result<(), Fault> {
        let deadline = Instant::now() + OPEN_TIMEOUT;
        for (node, place) in self.nodes.iter().zip(&self.layout.nodes) {
            loop {
                let status = node.sys().seal_status().await;
                if status.as_ref().is_ok_and(|status| !status.sealed) {
                    break;
                }
                if Instant::now() >= deadline {
                    let act = format!("node {} stays sealed", place.id);
                    return Err(status.err().map_or_else(|| Fault::server(act.clone()), |error| Fault::from(error).during(&act)));
                }
                sleep(POLL_INTERVAL).await;
            }
        }
        Ok(())
    }

    /// Written at the first node, read at the last.
    async fn first_secret(&self, client: &Client) -> Result<(), Fault> {
        let at = |place| client.at(&self.layout.api_address(place));
        let writer = at(self.layout.nodes.first().expect("a layout has nodes"))?;
        let reader = at(self.layout.nodes.last().expect("a layout has nodes"))?;
        if !writer.sys().mounts().await?.contains_key("secret/") {
            writer.sys().mount(MOUNT, "kv", &[("version", "2")]).await.map_err(|error| Fault::from(error).during("mount secret/"))?;
        }
        let fields = Map::from_iter([("greeting".to_owned(), Value::from("the room is open"))]);
        let written = writer.kv(MOUNT).put(FIRST_SECRET, SecretData::from(fields.clone()), None).await;
        let written = written.map_err(|error| Fault::from(error).during("write the first secret"))?;
        let read = reader.kv(MOUNT).get(FIRST_SECRET).await.map_err(|error| Fault::from(error).during("read the first secret"))?;
        // EXPOSE: to compare.
        if read.version != written || read.data.is_none_or(|data| *data.expose() != fields) {
            return Err(Fault::server("the first secret, written at one node, is another when read at another node"));
        }
        Ok(())
    }
}

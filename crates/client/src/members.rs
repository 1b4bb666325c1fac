//! Who the cluster's members are, as the cluster tells it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{Client, Error, Method, builder};

/// The limit of asking, when a call does it on its own: the caller waits for something else.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(1);

impl Client {
    /// Asks the cluster for its members and its leader, and keeps both: later calls fail over to nodes that were not given
    /// to the builder. Members are taken only over the scheme that was given (TLS is never given up). Needs a token that
    /// may read `sys/ha-status`; without one only the leader is learned, from `sys/leader`.
    ///
    /// Returns the addresses that are known now.
    pub async fn discover(&self) -> Result<Vec<Arc<str>>, Error> {
        self.discover_within(None).await
    }

    /// Before a call, when the builder said so and it is time.
    pub(crate) async fn discover_if_due(&self) {
        let wanted = self.shared.settings.discover && self.pinned.is_none();
        if !wanted || !self.shared.nodes.take_discovery_turn(Instant::now()) {
            return;
        }
        // The call itself will tell what is wrong, if anything is.
        if let Err(error) = Box::pin(self.discover_within(Some(DISCOVERY_TIMEOUT))).await {
            tracing::debug!(%error, "members not learned");
        }
    }

    async fn discover_within(&self, timeout: Option<Duration>) -> Result<Vec<Arc<str>>, Error> {
        let secure = self.shared.nodes.addresses().iter().all(|address| address.starts_with("https://"));
        let usable = |text: &str| builder::parse_address(text).ok().filter(|address| !secure || address.starts_with("https://"));
        let request = self.request(Method::Get, "sys/ha-status").within(timeout).without_discovery();
        match request.send().await {
            Ok(response) => {
                let status: Members = response.data()?;
                let leader = status.nodes.iter().find(|node| node.active_node).and_then(|node| usable(&node.api_address));
                let members = status.nodes.iter().filter_map(|node| usable(&node.api_address)).collect();
                self.shared.nodes.learn(members, leader);
            }
            Err(Error::Refused(_)) => {
                let response = self.request(Method::Get, "sys/leader").within(timeout).without_discovery().send().await?;
                let leader = usable(&response.data::<LeaderAddress>()?.leader_address);
                self.shared.nodes.learn(leader.iter().cloned().collect(), leader);
            }
            Err(error) => return Err(error),
        }
        Ok(self.shared.nodes.addresses())
    }
}

/// The part of `sys/ha-status` that is needed, so that other versions and other Vault-like servers are understood too.
#[derive(serde::Deserialize)]
struct Members {
    nodes: Vec<Member>,
}

#[derive(serde::Deserialize)]
struct Member {
    api_address: String,
    #[serde(default)]
    active_node: bool,
}

#[derive(serde::Deserialize)]
struct LeaderAddress {
    #[serde(default)]
    leader_address: String,
}

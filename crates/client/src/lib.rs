//! The Rust SDK: one [`Client`] for a cluster whose every node answers reads and writes.
//!
//! Always: a call is bounded by one deadline; a write is sent again only when it surely was not applied, or when the
//! caller called it idempotent; a write whose fate is unknown is [`Error::Indeterminate`]; tokens, shares and values have
//! no `Debug` and are in no error. Knows no server crate: only `proto`, the shapes on the wire.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = client::Client::builder()
//!     .addresses(["http://127.0.0.1:8200", "http://127.0.0.1:8202"])
//!     .token("hvs.example".to_owned().into())
//!     .build()?;
//! let mut data = serde_json::Map::new();
//! data.insert("password".to_owned(), "hunter2".into());
//! let written = client.kv("secret").put("app", data.into(), None).await?;
//! let read = client.kv("secret").get("app").await?;
//! assert_eq!(read.version.number, written.number);
//! # Ok(())
//! # }
//! ```

mod builder;
mod duration;
mod error;
mod failover;
mod http;
mod kv;
mod kv_grpc;
mod members;
mod path;
mod policy;
mod secret;
mod sys;
mod tls;
mod transaction;
mod transfer;

use std::sync::Arc;

pub use builder::{BuildError, Builder, EnvironmentError};
pub use duration::{DurationError, parse_duration};
pub use error::{Attempt, Error, Failure, Refusal};
pub use http::{Method, Request, Response};
pub use kv::{Kv, Metadata, Secret, Version, VersionState};
pub use kv_grpc::KvGrpc;
pub use policy::{Denial, DenyingRule, GrantingPolicy, GrantingToken, WhoCan};
pub use proto::http::{HaNode, HaStatus, Health, Leader, Mount, MountConfig, SealStatus};
pub use secret::{SecretData, SecretString};
pub use sys::{Init, Sys, Transferred, TransferredSecret};
pub use tls::TlsError;
pub use transaction::{Transaction, TransactionError, TransactionResult};

use failover::Nodes;

/// Speaks to one cluster. Cheap to clone: clones share connections and what is known of the nodes.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    /// Sent with each request; its own for each clone made by [`Client::with_token`].
    token: Option<Arc<SecretString>>,
    /// Asked instead of every node, when set by [`Client::at`].
    pinned: Option<Arc<str>>,
    /// Sent with each HTTP request, when set by [`Client::wrapping`].
    wrap_ttl: Option<Arc<str>>,
    /// Sent with each read, when set by [`Client::reading`].
    reading: Reading,
}

/// How fresh the state must be that reads are answered from. Conclave only; Vault and OpenBao take no notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reading {
    /// Every write that was acknowledged before is seen, as the node's configuration has that made certain.
    #[default]
    Configured,
    /// As above, and a quorum was asked.
    Quorum,
    /// What was acknowledged within this time may be lacking; the node answers without a word to others where it can. The answer tells how
    /// old it can be ([`Response::age`]).
    Stale(std::time::Duration),
}

/// What all clones of a [`Client`] share.
struct Shared {
    http: reqwest::Client,
    tls: Arc<rustls::ClientConfig>,
    nodes: Nodes,
    settings: builder::Settings,
}

impl Client {
    /// A builder with its defaults; see [`Builder`].
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A client as the environment describes it: `CONCLAVE_*`, `BAO_*` and `VAULT_*`, in this order; see
    /// [`Builder::environment`].
    pub fn from_environment() -> Result<Client, BuildError> {
        Builder::default().environment()?.build()
    }

    /// The same connections with another token, or with none.
    pub fn with_token(&self, token: Option<SecretString>) -> Client {
        Client { token: token.map(Arc::new), ..self.clone() }
    }

    /// The same connections, but only the node at `address` is asked (it need not be one of [`Client::addresses`]).
    ///
    /// Errors when `address` is no `http://` or `https://` URL of a host.
    pub fn at(&self, address: &str) -> Result<Client, BuildError> {
        let address = builder::parse_address(address)?;
        Ok(Client { pinned: Some(address), ..self.clone() })
    }

    /// The same connections, but answers over HTTP are wrapped for `ttl` (`"5m"`, or seconds): they hold a token that gives the
    /// answer once, to whoever has it. `None`: answers as they are. Calls that read a typed answer find it missing.
    pub fn wrapping(&self, ttl: Option<&str>) -> Client {
        Client { wrap_ttl: ttl.map(Arc::from), ..self.clone() }
    }

    /// The same connections, but reads (over HTTP and gRPC) are answered from a state that is as fresh as `reading` says. Writes are not
    /// concerned. More staleness than the node allows is an error.
    pub fn reading(&self, reading: Reading) -> Client {
        Client { reading, ..self.clone() }
    }

    /// The nodes that are known, given or learned, in the order in which they were given.
    pub fn addresses(&self) -> Vec<Arc<str>> {
        match &self.pinned {
            Some(address) => vec![address.clone()],
            None => self.shared.nodes.addresses(),
        }
    }

    /// Whether requests carry a token.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// What operators do: init, unseal, seal, mounts, audit devices, health.
    pub fn sys(&self) -> Sys<'_> {
        Sys::new(self)
    }

    /// KV v2 over HTTP; `mount` is where the engine is mounted: `"secret"`.
    pub fn kv<'a>(&'a self, mount: &'a str) -> Kv<'a> {
        Kv::new(self, mount)
    }

    /// Several reads and writes of secrets (KV v2) as one; see [`Transaction`].
    pub fn transaction(&self) -> Transaction<'_> {
        Transaction::new(self)
    }

    /// KV v2 over gRPC; `mount` is where the engine is mounted: `"secret"`.
    pub fn kv_grpc<'a>(&'a self, mount: &'a str) -> KvGrpc<'a> {
        KvGrpc::new(self, mount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_can_be_made_from_any_thread() {
        fn sendable<T: Send>(_: T) {}
        let client = Client::builder().addresses(["http://127.0.0.1:1"]).build().unwrap();
        sendable(client.request(Method::Get, "sys/health").send());
        sendable(client.sys().seal_status());
        sendable(client.kv("secret").get("a"));
        sendable(client.kv_grpc("secret").get("a", None));
        sendable(client.kv_grpc("secret").put("a", SecretData::default(), None));
        sendable(client.discover());
        sendable(client.sys().explain("a"));
        sendable(client.transaction().get("secret", "a").commit());
        sendable(client.transaction().get("secret", "a").commit_grpc());
    }
}

//! What operators do: init, unseal, seal, health, members, mounts, audit devices.

use std::collections::BTreeMap;

use proto::http::{HaStatus, Health, InitRequest, InitResponse, Initialized, Leader, Mount, SealStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroize;

use crate::{Client, Error, Method, SecretString};

/// See [`Client::sys`].
pub struct Sys<'a> {
    pub(crate) client: &'a Client,
}

/// What [`Sys::init`] gives: the only time the shares are seen.
pub struct Init {
    /// Shares in base64.
    pub shares: Vec<SecretString>,
    /// The first token; revoke it when others exist.
    pub root_token: SecretString,
}

/// What [`Sys::move_secrets`] and [`Sys::copy_secrets`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transferred {
    /// Each secret, in the order of names.
    pub secrets: Vec<TransferredSecret>,
}

/// One secret of [`Transferred`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferredSecret {
    /// Mount and path.
    pub from: String,
    /// Mount and path.
    pub to: String,
    /// Whether another was there.
    pub replaced: bool,
}

/// `PUT sys/unseal`, lending the share: a copy would stay behind.
#[derive(Serialize)]
struct ShareBody<'a> {
    key: &'a str,
    reset: bool,
}

impl<'a> Sys<'a> {
    pub(crate) fn new(client: &'a Client) -> Sys<'a> {
        Sys { client }
    }

    /// Whether the cluster has keys.
    pub async fn initialized(&self) -> Result<bool, Error> {
        Ok(self.client.request(Method::Get, "sys/init").send().await?.json::<Initialized>()?.initialized)
    }

    /// Makes the keys, split into `shares` (1 to 255) of which `threshold` open the cluster. Sent again only when it surely
    /// did nothing; [`Error::Indeterminate`] means that a cluster may exist whose shares nobody has seen.
    pub async fn init(&self, shares: u32, threshold: u32) -> Result<Init, Error> {
        let body = InitRequest { secret_shares: shares, secret_threshold: threshold };
        let mut answer: InitResponse = self.client.request(Method::Put, "sys/init").body(&body).send().await?.json()?;
        answer.keys.iter_mut().for_each(Zeroize::zeroize);
        Ok(Init { shares: answer.keys_base64.into_iter().map(SecretString::from).collect(), root_token: answer.root_token.into() })
    }

    /// The seal of the node that answers, and how far the ceremony has come.
    pub async fn seal_status(&self) -> Result<SealStatus, Error> {
        self.client.request(Method::Get, "sys/seal-status").send().await?.json()
    }

    /// Gives one share (base64 or hex). After [`Error::Indeterminate`] it may be given again: the server tells a share that it
    /// already has.
    pub async fn unseal(&self, share: &SecretString) -> Result<SealStatus, Error> {
        // EXPOSE: the share goes to the server.
        let body = ShareBody { key: share.expose().trim(), reset: false };
        self.client.request(Method::Put, "sys/unseal").body(&body).send().await?.json()
    }

    /// Throws the shares that were given so far away. One share proves that a holder wants it; it is not counted.
    pub async fn unseal_reset(&self, proof: &SecretString) -> Result<SealStatus, Error> {
        // EXPOSE: the share goes to the server.
        let body = ShareBody { key: proof.expose().trim(), reset: true };
        self.client.request(Method::Put, "sys/unseal").body(&body).idempotent().send().await?.json()
    }

    /// Seals every node.
    pub async fn seal(&self) -> Result<(), Error> {
        self.client.request(Method::Put, "sys/seal").idempotent().send().await.map(drop)
    }

    /// The health of the node that answers, whatever status it gives.
    pub async fn health(&self) -> Result<Health, Error> {
        self.client.request(Method::Get, "sys/health").accept_any_status().send().await?.json()
    }

    /// Who leads, and how far the log of the node that answers has come.
    pub async fn leader(&self) -> Result<Leader, Error> {
        self.client.request(Method::Get, "sys/leader").send().await?.data()
    }

    /// Every member.
    pub async fn ha_status(&self) -> Result<HaStatus, Error> {
        self.client.request(Method::Get, "sys/ha-status").send().await?.data()
    }

    /// Every mount, by its path (which ends with `/`).
    pub async fn mounts(&self) -> Result<BTreeMap<String, Mount>, Error> {
        self.client.request(Method::Get, "sys/mounts").send().await?.data()
    }

    /// Mounts an engine at `path`. `options`: KV takes `version` = `"2"`.
    pub async fn mount(&self, path: &str, kind: &str, options: &[(&str, &str)]) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Body<'a> {
            #[serde(rename = "type")]
            kind: &'a str,
            options: BTreeMap<&'a str, &'a str>,
        }
        let body = Body { kind, options: options.iter().copied().collect() };
        let path = format!("sys/mounts/{path}");
        self.client.request(Method::Post, &path).body(&body).send().await.map(drop)
    }

    /// Every audit device, by its path (which ends with `/`).
    pub async fn audit_devices(&self) -> Result<BTreeMap<String, Value>, Error> {
        self.client.request(Method::Get, "sys/audit").send().await?.data()
    }

    /// Turns an audit device on. `options`: the file device takes `file_path`.
    pub async fn audit_enable(&self, path: &str, kind: &str, options: &[(&str, &str)]) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Body<'a> {
            #[serde(rename = "type")]
            kind: &'a str,
            options: BTreeMap<&'a str, &'a str>,
        }
        let body = Body { kind, options: options.iter().copied().collect() };
        let path = format!("sys/audit/{path}");
        self.client.request(Method::Put, &path).body(&body).send().await.map(drop)
    }

    /// Moves a secret, or (with `/` at both ends) a folder, with its history, to another path or KV mount; as one. What is at the target
    /// already is refused, or replaced when `overwrite` says so.
    pub async fn move_secrets(&self, from: &str, to: &str, overwrite: bool) -> Result<Transferred, Error> {
        self.transfer("sys/move", from, to, overwrite).await
    }

    /// Copies, as [`Sys::move_secrets`] moves.
    pub async fn copy_secrets(&self, from: &str, to: &str, overwrite: bool) -> Result<Transferred, Error> {
        self.transfer("sys/copy", from, to, overwrite).await
    }

    async fn transfer(&self, path: &str, from: &str, to: &str, overwrite: bool) -> Result<Transferred, Error> {
        #[derive(Serialize)]
        struct Body<'a> {
            from: &'a str,
            to: &'a str,
            overwrite: bool,
        }
        self.client.request(Method::Post, path).body(&Body { from, to, overwrite }).send().await?.data()
    }

    /// Turns an audit device off.
    pub async fn audit_disable(&self, path: &str) -> Result<(), Error> {
        let path = format!("sys/audit/{path}");
        self.client.request(Method::Delete, &path).idempotent().send().await.map(drop)
    }
}

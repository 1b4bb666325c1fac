//! JSON bodies of the HTTP API, as Vault's clients know them (`/v1/…`). Shapes only.
//!
//! Bodies that carry a secret have no `Debug`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The envelope of most answers. Every key is always there; clients demand it.
#[derive(Serialize, Deserialize)]
pub struct Envelope<D = Box<RawValue>, A = Box<RawValue>> {
    /// The id that the audit records carry.
    pub request_id: String,
    /// Empty when there is no lease.
    pub lease_id: String,
    /// Whether the lease can be renewed.
    pub renewable: bool,
    /// Seconds.
    pub lease_duration: u64,
    /// What was asked for.
    pub data: Option<D>,
    /// Response wrapping; null when the answer is not wrapped.
    pub wrap_info: Option<Box<RawValue>>,
    /// For people.
    pub warnings: Option<Vec<String>>,
    /// A login's token; null otherwise.
    pub auth: Option<A>,
}

/// Any refusal.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Errors {
    /// Empty for "not found".
    pub errors: Vec<String>,
}

/// `PUT sys/init`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InitRequest {
    /// How many shares to make; 1 to 255.
    pub secret_shares: u32,
    /// How many of them open the cluster.
    pub secret_threshold: u32,
}

/// The answer to `PUT sys/init`: the only time the shares are seen.
#[derive(Serialize, Deserialize)]
pub struct InitResponse {
    /// Shares in hex.
    pub keys: Vec<String>,
    /// The same shares in base64.
    pub keys_base64: Vec<String>,
    /// The first token; revoke it when others exist.
    pub root_token: String,
}

/// `GET sys/init`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Initialized {
    /// Whether the cluster has keys.
    pub initialized: bool,
}

/// `PUT sys/unseal`.
#[derive(Serialize, Deserialize, Default)]
pub struct UnsealRequest {
    /// A share, base64 or hex.
    #[serde(default)]
    pub key: Option<String>,
    /// Throw the progress away.
    #[serde(default)]
    pub reset: bool,
    /// Make the static seals those of the configuration, once the shares open the cluster.
    #[serde(default)]
    pub migrate: bool,
}

/// `GET sys/seal-status`, and the answer to `PUT sys/unseal`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SealStatus {
    /// "shamir".
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether the cluster has keys.
    pub initialized: bool,
    /// Whether this node is sealed.
    pub sealed: bool,
    /// Threshold.
    pub t: u32,
    /// Shares.
    pub n: u32,
    /// Shares entered so far, in the whole cluster.
    pub progress: u32,
    /// Names the attempt; changes on reset.
    pub nonce: String,
    /// A Vault-like version, on which clients gate features.
    pub version: String,
    /// RFC 3339.
    pub build_date: String,
    /// The same, under its newer name.
    pub commit_date: String,
    /// Always false: no seal migration under way.
    pub migration: bool,
    /// Empty until initialised.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster_name: String,
    /// Empty until initialised.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster_id: String,
    /// Whether recovery shares stand in for unseal shares.
    pub recovery_seal: bool,
    /// "raft".
    pub storage_type: String,
    /// Whose shares have come, by name: told only to who has just entered one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holders_present: Option<Vec<String>>,
    /// Who is still to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holders_missing: Option<Vec<String>>,
}

/// `GET sys/health`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Health {
    /// Whether the cluster has keys.
    pub initialized: bool,
    /// Whether this node is sealed.
    pub sealed: bool,
    /// Whether this node does not lead. It serves reads and writes all the same.
    pub standby: bool,
    /// Always false; vaultrs demands the key.
    pub performance_standby: bool,
    /// "disabled".
    pub replication_performance_mode: String,
    /// "disabled".
    pub replication_dr_mode: String,
    /// Seconds since 1970.
    pub server_time_utc: u64,
    /// A Vault-like version.
    pub version: String,
    /// Empty until initialised.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster_name: String,
    /// Empty until initialised.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster_id: String,
}

/// `GET sys/leader`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Leader {
    /// Always true.
    pub ha_enabled: bool,
    /// Whether the answering node leads.
    pub is_self: bool,
    /// RFC 3339; the zero time on a follower.
    pub active_time: String,
    /// URL for clients; empty when there is no leader.
    pub leader_address: String,
    /// URL of the peers' listener.
    pub leader_cluster_address: String,
    /// Always false.
    pub performance_standby: bool,
    /// Always 0.
    pub performance_standby_last_remote_wal: u64,
    /// This node's commit index.
    pub raft_committed_index: u64,
    /// This node's applied index.
    pub raft_applied_index: u64,
}

/// `GET sys/ha-status`, with what `conclave operator members` shows besides.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HaStatus {
    /// In the order of their ids.
    pub nodes: Vec<HaNode>,
}

/// One member of the cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HaNode {
    /// The node id.
    pub hostname: String,
    /// URL for clients.
    pub api_address: String,
    /// URL of the peers' listener.
    pub cluster_address: String,
    /// Whether it leads.
    pub active_node: bool,
    /// When it was last heard of (RFC 3339); absent when it cannot be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_echo: Option<String>,
    /// The software's version; empty when the node cannot be reached.
    pub version: String,
    /// The same, by OpenBao's other name for it.
    #[serde(default)]
    pub upgrade_version: String,
    /// The node id.
    pub node_id: String,
    /// "voter"; "learner", which is to vote; "non-voter", which is not.
    pub role: String,
    /// Whether it answers the leader and keeps up; absent when no leader answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// Since its last answer to the leader, as `12ms`; absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact: Option<String>,
    /// Entries of the leader's log that it is not known to have; absent when no leader answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// Absent when the node cannot be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<bool>,
    /// The node's applied index; absent when the node cannot be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_index: Option<u64>,
    /// Raft term; absent when the node cannot be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
}

/// A mount, as `GET sys/mounts` shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mount {
    /// The engine: "kv", "system", "token" …
    #[serde(rename = "type")]
    pub kind: String,
    /// For people.
    pub description: String,
    /// Names the mount for life.
    pub accessor: String,
    /// Lease times.
    pub config: MountConfig,
    /// KV: `{"version": "2"}`.
    pub options: Option<BTreeMap<String, String>>,
    /// Always false.
    pub local: bool,
    /// Always false.
    pub seal_wrap: bool,
    /// Always false.
    pub external_entropy_access: bool,
    /// Where its records lie.
    pub uuid: String,
    /// The plugin version: empty for built-in engines.
    pub plugin_version: String,
    /// The version that runs: empty for built-in engines.
    pub running_plugin_version: String,
    /// Always empty.
    pub running_sha256: String,
    /// "supported"; not there for what every namespace has.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub deprecation_status: String,
}

/// Lease times of a mount, in seconds; 0 means the system's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct MountConfig {
    /// Seconds.
    pub default_lease_ttl: u64,
    /// Seconds.
    pub max_lease_ttl: u64,
    /// Asked for; no cache ever answers with what is old.
    #[serde(default)]
    pub force_no_cache: bool,
}

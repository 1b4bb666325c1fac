//! Configuration: HCL or JSON, in one file or several, read into types that cannot be wrong.
//!
//! Always: every mistake is reported in one go, each with file, line and a cure; a [`Config`] that exists names files that
//! could be read and settings that agree with each other. A key is a setting, or a warning says that it does nothing, or it is
//! refused. Holds no secret: keys are named by file or environment variable.
//! Knows nothing of what is done with the values. Every key is described in `docs/operate/configuration.md`.

mod address;
mod files;
mod foreign;
mod join;
mod life;
mod listener;
mod load;
mod mistake;
mod seal;
mod section;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use raft::ReadConsistency;
use types::NodeId;

pub use address::{Scheme, Url};
pub use join::{JOIN_TOKEN_VARIABLE, JoinConfig, JoinPlace};
pub use life::{FEATURE_LEVEL_RAISE_AFTER_DEFAULT, STALE_READS_MAX_DEFAULT};
pub use mistake::{ConfigErrors, MISTAKES_MAX, Mistake};
pub use seal::{KeyError, KeyPlace, SealConfig, StaticKeyConfig};
pub use types::hcl::NESTING_MAX;

/// The largest configuration file.
pub const FILE_SIZE_BYTES_MAX: usize = 1024 * 1024;
/// The most files one configuration may have.
pub const FILES_MAX: usize = 64;
/// The most members one cluster block may list.
pub const MEMBERS_MAX: usize = 31;
/// `cluster_name` where none is given.
pub const CLUSTER_NAME_DEFAULT: &str = "conclave";
/// `log_level` where none is given.
pub const LOG_FILTER_DEFAULT: &str = "info";
/// `default_lease_ttl` and `max_lease_ttl` where none is given: Vault's, 32 days.
pub const LEASE_TTL_DEFAULT: Duration = Duration::from_secs(768 * 3600);
/// The longest `max_lease_ttl`: 100 years.
pub const LEASE_TTL_MAX: Duration = Duration::from_secs(876_000 * 3600);
/// `listener.address` where none is given: Vault's.
pub const ADDRESS_DEFAULT: &str = "127.0.0.1:8200";
/// `node_id` of a node in memory where none is given.
pub const MEMORY_NODE_ID_DEFAULT: &str = "n1";
/// `max_request_size` where none is given: Vault's, 32 MiB.
pub const REQUEST_SIZE_BYTES_MAX_DEFAULT: u64 = 32 * 1024 * 1024;
/// `max_request_duration` where none is given: Vault's, 90 s.
pub const REQUEST_DURATION_MAX_DEFAULT: Duration = Duration::from_secs(90);
/// `http_read_header_timeout` where none is given: Vault's, 10 s.
pub const HEADER_READ_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// `http_idle_timeout` where none is given: Vault's, 5 min.
pub const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(300);

/// `certificate_ttl` where none is given: 30 days.
pub const CERTIFICATE_TTL_DEFAULT: Duration = barrier::identity::CERTIFICATE_LIFE;
/// What `certificate_ttl` may be.
pub const CERTIFICATE_TTL_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(366 * 24 * 3600);
/// `rejoin_within` where none is given: 15 min.
pub const REJOIN_WITHIN_DEFAULT: Duration = Duration::from_secs(900);
/// `rejoin_count` where none is given.
pub const REJOIN_COUNT_DEFAULT: u32 = 3;

/// What one node is told when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The cluster's name, of the alphabet of node ids: part of each node's certificate name.
    pub cluster_name: String,
    /// The URL that clients and other nodes are told for this node.
    pub api_addr: Url,
    /// The URL of this node's peer listener; `Some` exactly if `cluster` is.
    pub cluster_addr: Option<Url>,
    /// The version that clients are told, of the form MAJOR.MINOR.PATCH. Default: [`crate::API_VERSION`].
    pub api_version: String,
    /// How long a lease or token lives where nothing else says so. At most `lease_ttl_max`.
    pub lease_ttl_default: Duration,
    /// The longest that a lease or token lives where no mount says otherwise. Default: [`LEASE_TTL_DEFAULT`].
    pub lease_ttl_max: Duration,
    /// How reads are made certain where the request does not ask for more. Default: by lease.
    pub read_consistency: ReadConsistency,
    /// How long every member must have known a higher feature level before the cluster is raised to it; `None`: an operator does it.
    pub feature_level_raise_after: Option<Duration>,
    /// The most staleness that a read may ask for. Default: [`STALE_READS_MAX_DEFAULT`].
    pub stale_reads_max: Duration,
    /// How long the node answers on once it is told to stop, while its health says that it will not for long. Default: zero.
    pub shutdown_delay: Duration,
    /// Whether memory is locked, so that no key is swapped out. Default: true.
    pub lock_memory: bool,
    /// Where the process's id is written while it runs.
    pub pid_file: Option<PathBuf>,
    /// Headers that name the node in every answer.
    pub node_headers: NodeHeaders,
    /// What is traced, and how.
    pub log: LogConfig,
    /// Which metrics are served.
    pub telemetry: TelemetryConfig,
    /// Where clients are served.
    pub listener: ListenerConfig,
    /// Where this node keeps its data, and who it is.
    pub storage: StorageConfig,
    /// The peers; `None` for a single node without any.
    pub cluster: Option<ClusterConfig>,
    /// How it opens, besides by shares.
    pub seal: SealConfig,
    /// What is allowed but doubtful, for the operator to read.
    pub warnings: Vec<Mistake>,
    /// The files and folders that it was read from, to be read again on SIGHUP; none where it was read from text.
    pub sources: Vec<PathBuf>,
}

impl Config {
    /// The configuration for people, in Vault's shape and without what is secret: paths of key files are left out.
    pub fn shown(&self) -> serde_json::Value {
        serde_json::json!({
            "api_addr": self.api_addr.to_string(),
            "cluster_addr": self.cluster_addr.as_ref().map(ToString::to_string),
            "cluster_name": self.cluster_name,
            "default_lease_ttl": self.lease_ttl_default.as_secs(),
            "max_lease_ttl": self.lease_ttl_max.as_secs(),
            "disable_mlock": !self.lock_memory,
            "log_level": self.log.filter,
            "log_format": match self.log.format {
                LogFormat::Text => "standard",
                LogFormat::Json => "json",
            },
            "listeners": [{
                "type": "tcp",
                "config": { "address": self.listener.address.to_string(), "tls_disable": self.listener.tls.is_none() },
            }],
            "storage": {
                "type": match self.storage.place {
                    StoragePlace::Folder { .. } => "raft",
                    StoragePlace::Memory => "inmem",
                },
                "cluster_addr": self.cluster_addr.as_ref().map(ToString::to_string),
                "redirect_addr": self.api_addr.to_string(),
            },
            "seals": self.shown_seals(),
        })
    }
}

impl Config {
    fn shown_seals(&self) -> Vec<serde_json::Value> {
        let seal = |kind: &str, disabled: bool| serde_json::json!({ "type": kind, "disabled": disabled });
        let mut seals = vec![seal("shamir", false)];
        if !self.seal.static_keys.is_empty() {
            seals.push(seal("static", false));
        }
        if !self.seal.disabled_keys.is_empty() {
            seals.push(seal("static", true));
        }
        seals
    }
}

/// Headers that name the node in every answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeHeaders {
    /// `X-Vault-Hostname`: the machine's name.
    pub hostname: bool,
    /// `X-Vault-Raft-Node-ID`: the node id.
    pub node_id: bool,
}

/// Which metrics are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// Whether `sys/metrics?format=prometheus` is served. Default: true.
    pub prometheus: bool,
}

/// What is traced, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// A filter that `tracing_subscriber::EnvFilter` accepts. Default: [`LOG_FILTER_DEFAULT`].
    pub filter: String,
    /// Default: text.
    pub format: LogFormat,
}

/// How traces are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object on each line.
    Json,
}

/// The clients' listener: HTTP API and native gRPC API on one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Where to listen; port 0 lets the system choose.
    pub address: SocketAddr,
    /// `None` only where the operator wrote `tls_disable = true`.
    pub tls: Option<TlsFiles>,
    /// A larger request body is refused. Bytes, from 1 KiB to 1 GiB.
    pub request_size_bytes_max: u64,
    /// A request that takes longer is ended. From 1 s to 1 h.
    pub request_duration_max: Duration,
    /// A connection whose request headers take longer is closed. From 100 ms to 5 min.
    pub header_read_timeout: Duration,
    /// A connection on which no request runs for longer is closed. From 1 s to 1 h.
    pub idle_timeout: Duration,
    /// Whether `sys/metrics` is served without a token.
    pub metrics_without_token: bool,
}

/// The clients' listener's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// A PEM file: the certificate, then its chain.
    pub cert: PathBuf,
    /// A PEM file: its private key. No one but owner and group can read it.
    pub key: PathBuf,
    /// The oldest version that is spoken. Default: TLS 1.3.
    pub min_version: TlsVersion,
    /// What is asked of clients. Default: requested.
    pub client_certificate: ClientCertificate,
}

/// What a TLS listener asks of its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCertificate {
    /// A certificate is taken if the client has one; whether it may be trusted is for who relies on it.
    Requested,
    /// A connection needs a certificate that these authorities have signed.
    Required {
        /// A PEM file.
        ca: PathBuf,
    },
    /// None is taken.
    Off,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Where this node keeps its data, and who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageConfig {
    /// This node's name for life.
    pub node_id: NodeId,
    /// Where log and table are kept.
    pub place: StoragePlace,
    /// Where it asks to be taken in while it belongs to no cluster.
    pub join: JoinConfig,
    /// When snapshots are made, and what is kept of the log.
    pub compaction: raft::Compaction,
}

/// Where log and table are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoragePlace {
    /// On disk.
    Folder {
        /// The data folder; made at the first start.
        path: PathBuf,
        /// Default: redb.
        table: TableKind,
    },
    /// In memory: all is lost when the process ends. Only without a cluster block.
    Memory,
}

/// Which engine keeps the table. (The log is always our own file.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// A copy-on-write B-tree; durable.
    Redb,
    /// Not durable by itself, so rebuilt from the log after an unclean stop. Only in builds with the feature `sled`.
    Sled,
}

/// The peers of this node, and how they talk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Where the peer listener listens. Default: host and port of `cluster_addr`.
    pub listen: SocketAddr,
    /// By what the nodes know each other.
    pub identity: ClusterIdentity,
}

/// By what the nodes of a cluster know each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterIdentity {
    /// The nodes make and renew their certificates themselves, by the cluster's own authority; nodes join by tokens or shares.
    Managed {
        /// How long a certificate is valid that this node signs.
        certificate_ttl: Duration,
    },
    /// Operators bring certificates and the list of members.
    Brought {
        /// The mutual TLS between nodes.
        tls: PeerTlsFiles,
        /// Every member, this node too. The same list on each node of a new cluster.
        members: BTreeMap<NodeId, Member>,
    },
}

/// The files for mutual TLS between nodes, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerTlsFiles {
    /// The cluster's certificate authority.
    pub ca: PathBuf,
    /// This node's certificate, for `<node_id>.<cluster_name>.conclave.internal`.
    pub cert: PathBuf,
    /// Its private key. No one but owner and group can read it.
    pub key: PathBuf,
}

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its peer listener; the scheme is https.
    pub cluster_addr: Url,
    /// Its client listener, as clients reach it.
    pub api_addr: Url,
}

impl Config {
    /// Reads files, and the files `*.hcl` and `*.json` of folders in the order of their names, as one configuration, and checks
    /// it and the files it names. Relative paths start at the folder of the file they stand in. A key stands in one of them only.
    ///
    /// # Errors
    /// Everything that is wrong, at once: a file unreadable, not HCL or JSON, unknown or missing keys, values out of range,
    /// settings that contradict each other, named files that cannot be read, private keys that everyone can read.
    pub fn load(paths: &[PathBuf]) -> Result<Config, ConfigErrors> {
        let config = load::paths(paths)?;
        Ok(Config { sources: paths.to_vec(), ..config })
    }

    /// Reads `text` as [`Config::load`] would read a file called `file` in `folder`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, file: &str, folder: &Path) -> Result<Config, ConfigErrors> {
        load::text(text, file, folder)
    }

    /// The settings in which `other` differs from this that only a restart changes, by their names in the file.
    pub(crate) fn restart_needed(&self, other: &Config) -> Vec<&'static str> {
        let tls_on = |config: &Config| config.listener.tls.is_some();
        let listener = |config: &Config| ListenerConfig { tls: None, ..config.listener.clone() };
        let cluster = |config: &Config| {
            config.cluster.as_ref().map(|cluster| match &cluster.identity {
                ClusterIdentity::Managed { .. } => (cluster.listen, cluster.identity.clone()),
                ClusterIdentity::Brought { members, .. } => {
                    let tls = PeerTlsFiles { ca: PathBuf::new(), cert: PathBuf::new(), key: PathBuf::new() };
                    (cluster.listen, ClusterIdentity::Brought { tls, members: members.clone() })
                }
            })
        };
        // A node that has joined asks nobody any more.
        let storage = |config: &Config| StorageConfig { join: JoinConfig::default(), ..config.storage.clone() };
        let differs = [
            ("cluster_name", self.cluster_name != other.cluster_name),
            ("api_addr", self.api_addr != other.api_addr),
            ("cluster_addr", self.cluster_addr != other.cluster_addr),
            ("api_version", self.api_version != other.api_version),
            ("default_lease_ttl", self.lease_ttl_default != other.lease_ttl_default),
            ("max_lease_ttl", self.lease_ttl_max != other.lease_ttl_max),
            ("read_consistency", self.read_consistency != other.read_consistency),
            ("stale_reads_max", self.stale_reads_max != other.stale_reads_max),
            ("shutdown_delay", self.shutdown_delay != other.shutdown_delay),
            ("feature_level_raise_after", self.feature_level_raise_after != other.feature_level_raise_after),
            ("disable_mlock", self.lock_memory != other.lock_memory),
            ("pid_file", self.pid_file != other.pid_file),
            ("enable_response_header_hostname, enable_response_header_raft_node_id", self.node_headers != other.node_headers),
            ("log_format", self.log.format != other.log.format),
            ("telemetry", self.telemetry != other.telemetry),
            ("listener", listener(self) != listener(other) || tls_on(self) != tls_on(other)),
            ("storage", storage(self) != storage(other)),
            ("cluster", cluster(self) != cluster(other)),
            ("seal", self.seal != other.seal),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

//! Configuration: one HCL (or JSON) file a node, read into types that cannot be wrong.
//!
//! Always: every mistake of the file is reported in one go, each with its line and a cure; a [`Config`] that exists names
//! files that could be read and settings that agree with each other. Holds no secret: private keys are named by file.
//! Knows nothing of what is done with the values. Every key is described in `docs/operate/configuration.md`.

mod address;
mod files;
mod mistake;
mod section;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use types::NodeId;
use types::hcl::{self, Interpolation};

pub use address::{Scheme, Url};
pub use mistake::{ConfigErrors, MISTAKES_MAX, Mistake};
pub use types::hcl::NESTING_MAX;

use mistake::Report;

/// The largest configuration file.
pub const FILE_SIZE_BYTES_MAX: usize = 1024 * 1024;
/// The most members one cluster block may list.
pub const MEMBERS_MAX: usize = 31;
/// `cluster_name` where none is given.
pub const CLUSTER_NAME_DEFAULT: &str = "conclave";
/// `log_level` where none is given.
pub const LOG_FILTER_DEFAULT: &str = "info";
/// `max_request_size` where none is given: Vault's, 32 MiB.
pub const REQUEST_SIZE_BYTES_MAX_DEFAULT: u64 = 32 * 1024 * 1024;
/// `max_request_duration` where none is given: Vault's, 90 s.
pub const REQUEST_DURATION_MAX_DEFAULT: Duration = Duration::from_secs(90);
/// `http_read_header_timeout` where none is given: Vault's, 10 s.
pub const HEADER_READ_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// What one node is told when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The cluster's name, of the alphabet of node ids: part of each node's certificate name.
    pub cluster_name: String,
    /// The URL that clients and other nodes are told for this node.
    pub api_addr: Url,
    /// The URL of this node's peer listener; `Some` exactly if `cluster` is.
    pub cluster_addr: Option<Url>,
    /// What is traced, and how.
    pub log: LogConfig,
    /// Where clients are served.
    pub listener: ListenerConfig,
    /// Where this node keeps its data, and who it is.
    pub storage: StorageConfig,
    /// The peers; `None` for a single node without any.
    pub cluster: Option<ClusterConfig>,
    /// What is allowed but doubtful, for the operator to read.
    pub warnings: Vec<Mistake>,
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
    /// The data folder; made at the first start.
    pub path: PathBuf,
    /// This node's name for life.
    pub node_id: NodeId,
    /// Default: redb.
    pub table: TableKind,
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
    /// The mutual TLS between nodes.
    pub tls: PeerTlsFiles,
    /// Every member, this node too. The same list on each node of a new cluster.
    pub members: BTreeMap<NodeId, Member>,
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
    /// Reads the file at `path` and checks it, and the files it names. Relative paths in it start at its folder.
    ///
    /// # Errors
    /// Everything that is wrong, at once: the file unreadable, not HCL or JSON, unknown or missing keys, values out of range,
    /// settings that contradict each other, named files that cannot be read, private keys that everyone can read.
    pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
        let shown = path.display().to_string();
        let report = Report::new(&shown);
        let text = read(path).map_err(|text| report.mistake(None, "", text)).ok();
        let folder = path.parent().unwrap_or(Path::new(""));
        finish(report, text.as_deref(), folder)
    }

    /// Reads `text` as [`Config::load`] would read a file called `file` in `folder`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, file: &str, folder: &Path) -> Result<Config, ConfigErrors> {
        finish(Report::new(file), Some(text), folder)
    }
}

fn finish(report: Report, text: Option<&str>, folder: &Path) -> Result<Config, ConfigErrors> {
    let config = text.and_then(|text| {
        let (body, errors) = hcl::parse(text, Interpolation::Refused);
        for error in errors {
            report.mistake(Some(error.line), "", error.text);
        }
        shape::config(&report, &body, folder)
    });
    let (config, warnings) = report.finish(config)?;
    Ok(Config { warnings, ..config })
}

/// The file's text, or what stands in its way.
fn read(path: &Path) -> Result<String, String> {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    let mut bytes = Vec::new();
    let limit = u64::try_from(FILE_SIZE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).map_err(cannot)?.take(limit).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > FILE_SIZE_BYTES_MAX {
        return Err(format!("is larger than {FILE_SIZE_BYTES_MAX} bytes (is it a configuration?)"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        format!("is not UTF-8 text (the first wrong byte is in line {line})")
    })
}

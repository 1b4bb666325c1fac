//! Shape: which blocks and keys a configuration has, and which settings must agree.
//!
//! Always: a block is read to its end whatever is wrong in it, so that every mistake is reported.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use raft::Compaction;
use tracing_subscriber::EnvFilter;
use types::NodeId;
use types::hcl::Body;

use super::address::{Scheme, Url, parse_socket_address};
use super::files::{self, Secrecy};
use super::listener::{self, LISTENER_KEYS};
use super::mistake::{Report, nearest, shown};
use super::section::{Keys, Section};
use super::{
    CERTIFICATE_TTL_DEFAULT, CERTIFICATE_TTL_RANGE, CLUSTER_NAME_DEFAULT, ClusterConfig, ClusterIdentity, Config, JoinConfig,
    LEASE_TTL_DEFAULT, LEASE_TTL_MAX, LOG_FILTER_DEFAULT, ListenerConfig, LogConfig, LogFormat, MEMBERS_MAX, MEMORY_NODE_ID_DEFAULT,
    Member, NodeHeaders, PeerTlsFiles, StorageConfig, StoragePlace, TableKind, TelemetryConfig, foreign, join, life, seal,
};
use crate::API_VERSION;

/// The port of the clients' listener, for examples.
pub(super) const API_PORT: u16 = 8200;
/// The port of the peers' listener, for examples.
const CLUSTER_PORT: u16 = 8201;

pub(super) const ROOT_KEYS: Keys = Keys {
    own: &[
        "cluster_name",
        "api_addr",
        "cluster_addr",
        "api_version",
        "default_lease_ttl",
        "max_lease_ttl",
        "read_consistency",
        "stale_reads_max",
        "feature_level_raise_after",
        "shutdown_delay",
        "disable_mlock",
        "pid_file",
        "log_level",
        "log_format",
        "enable_response_header_hostname",
        "enable_response_header_raft_node_id",
        "listener",
        "storage",
        "backend",
        "cluster",
        "telemetry",
    ],
    repeatable: &["seal"],
    foreign: foreign::ROOT,
};
pub(super) const RAFT_KEYS: Keys = Keys {
    own: &["path", "node_id", "table", "snapshot_interval", "snapshot_threshold", "trailing_logs", "retry_join_as_non_voter"],
    repeatable: &["retry_join"],
    foreign: foreign::RAFT,
};
pub(super) const MEMORY_KEYS: Keys = Keys { own: &["node_id"], repeatable: &[], foreign: &[] };
pub(super) const CLUSTER_KEYS: Keys =
    Keys { own: &["listen", "certificate_ttl", "tls_ca_file", "tls_cert_file", "tls_key_file"], repeatable: &["member"], foreign: &[] };
pub(super) const MEMBER_KEYS: Keys = Keys { own: &["cluster_addr", "api_addr"], repeatable: &[], foreign: &[] };
pub(super) const TELEMETRY_KEYS: Keys =
    Keys { own: &["prometheus_retention_time", "disable_hostname"], repeatable: &[], foreign: foreign::TELEMETRY };

/// Reads the whole configuration; `None` only after a mistake was reported.
pub(super) fn config(report: &Report, body: &Body) -> Option<Config> {
    let root = Section::root(report, body, ROOT_KEYS);
    let cluster_name = cluster_name(&root);
    let log = log(&root);
    let api_version = api_version(&root);
    let lease_ttls = lease_ttls(&root);
    let (read_consistency, raise_after) = (life::read_consistency(&root), life::raise_after(&root));
    let (stale_reads_max, shutdown_delay) = (life::stale_reads_max(&root), life::shutdown_delay(&root));
    let lock_memory = lock_memory(&root);
    let pid_file = pid_file(&root);
    let hostname = root.boolean("enable_response_header_hostname", false);
    let node_id_header = root.boolean("enable_response_header_raft_node_id", false);
    let telemetry = telemetry(&root);
    let api_addr = url(&root, "api_addr", false);
    let cluster_addr = url(&root, "cluster_addr", true);
    let listener_section = listener_section(&root);
    let listener = listener_section.as_ref().and_then(listener::listener);
    let storage = storage(&root);
    let cluster_section = root.block("cluster", CLUSTER_KEYS);
    let node_id = storage.as_ref().map(|storage| &storage.node_id);
    let is_managed = cluster_section.as_ref().is_some_and(is_managed);
    let members = cluster_section.as_ref().filter(|_| !is_managed).and_then(|section| members(section, node_id));
    let own = members.as_ref().zip(node_id).and_then(|(members, id)| members.get(id));

    let mut api_addr = own_address(&root, "api_addr", api_addr, own.map(|own| &own.api_addr));
    if (is_managed || !root.has("cluster")) && !root.has("api_addr") {
        api_addr = listener.as_ref().and_then(|listener| own_api_addr(&root, listener));
    }
    let cluster_addr = if is_managed {
        match &cluster_section {
            Some(_) if root.has("cluster_addr") => cluster_addr,
            section => section.as_ref().and_then(own_cluster_addr),
        }
    } else if root.has("cluster") {
        own_address(&root, "cluster_addr", cluster_addr, own.map(|own| &own.cluster_addr))
    } else {
        let idle = "does nothing here: there is no cluster block, so this node has no peers";
        if root.has("cluster_addr") {
            root.warning("cluster_addr", idle);
        }
        if let Some(section) = listener_section.as_ref().filter(|section| section.has("cluster_address")) {
            section.warning("cluster_address", idle);
        }
        None
    };
    if let (Some(section), Some(listener), Some(api_addr)) = (&listener_section, &listener, &api_addr) {
        listener::fits_api_addr(&root, section, listener, api_addr);
    }
    let cluster = match &cluster_section {
        None => (!root.has("cluster")).then_some(None),
        Some(section) => {
            let identity = if is_managed { managed(section) } else { brought(section, members) };
            cluster(section, cluster_addr.as_ref(), listener_section.as_ref().zip(listener.as_ref()), identity).map(Some)
        }
    };
    let seal = seal::seals(&root);
    if let Some(seal) = &seal {
        seal::fits_cluster(&root, seal, root.has("cluster"));
    }
    if let (Some(StorageConfig { place: StoragePlace::Memory, .. }), Some(section)) = (&storage, &cluster_section) {
        section.wrong("a node in memory forgets its votes, so it cannot have peers (write storage \"raft\", or remove this block)");
    }

    if !is_managed
        && let Some(StorageConfig { join: JoinConfig { places, .. }, .. }) = &storage
        && !places.is_empty()
    {
        let text = "needs a cluster block without certificates and members: a node that joins is given its certificate (write cluster { listen = \"0.0.0.0:8201\" })";
        root.mistake("storage.retry_join", text);
    }

    let (lease_ttl_default, lease_ttl_max) = lease_ttls?;
    Some(Config {
        cluster_name: cluster_name?,
        api_addr: api_addr?,
        cluster_addr,
        api_version: api_version?,
        lease_ttl_default,
        lease_ttl_max,
        read_consistency: read_consistency?,
        stale_reads_max: stale_reads_max?,
        feature_level_raise_after: raise_after?,
        shutdown_delay: shutdown_delay?,
        lock_memory: lock_memory?,
        pid_file: pid_file?,
        node_headers: NodeHeaders { hostname: hostname?, node_id: node_id_header? },
        log: log?,
        telemetry: telemetry?,
        listener: listener?,
        storage: storage?,
        cluster: cluster?,
        seal: seal?,
        warnings: Vec::new(),
        sources: Vec::new(),
    })
}

fn api_version(root: &Section<'_>) -> Option<String> {
    let Some(text) = root.text("api_version") else {
        return (!root.has("api_version")).then(|| API_VERSION.to_owned());
    };
    let is_number = |part: &str| !part.is_empty() && part.len() <= 9 && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = text.split('.').collect();
    if parts.len() != 3 || !parts.iter().all(|part| is_number(part)) {
        let text =
            format!("{} is no version of Vault's that clients know (write MAJOR.MINOR.PATCH, such as \"{API_VERSION}\")", shown(text));
        root.mistake("api_version", text);
        return None;
    }
    Some(text.to_owned())
}

/// `default_lease_ttl` and `max_lease_ttl`. Where only the longest is given, it bounds the default too.
fn lease_ttls(root: &Section<'_>) -> Option<(Duration, Duration)> {
    let range = Duration::from_secs(1)..=LEASE_TTL_MAX;
    let max = root.duration("max_lease_ttl", LEASE_TTL_DEFAULT, range.clone());
    let default = root.duration("default_lease_ttl", LEASE_TTL_DEFAULT.min(max.unwrap_or(LEASE_TTL_DEFAULT)), range);
    let (default, max) = (default?, max?);
    if default > max {
        let [default, max] = [default, max].map(types::duration::print);
        root.mistake(
            "default_lease_ttl",
            format!("\"{default}\" is longer than max_lease_ttl, \"{max}\" (make it shorter, or that longer)"),
        );
        return None;
    }
    Some((default, max))
}

fn lock_memory(root: &Section<'_>) -> Option<bool> {
    let disable = root.boolean("disable_mlock", false)?;
    if disable {
        root.warning("disable_mlock", "memory is not locked: keys may be swapped out (turn swap off, or remove this line)");
    }
    Some(!disable)
}

fn pid_file(root: &Section<'_>) -> Option<Option<std::path::PathBuf>> {
    // Vault's configurations name none by an empty text.
    if !root.has("pid_file") || root.text("pid_file").is_some_and(str::is_empty) {
        return Some(None);
    }
    files::to_be_made(root, "pid_file").map(Some)
}

fn telemetry(root: &Section<'_>) -> Option<TelemetryConfig> {
    let Some(section) = root.block("telemetry", TELEMETRY_KEYS) else {
        return (!root.has("telemetry")).then_some(TelemetryConfig { prometheus: true });
    };
    let range = Duration::ZERO..=LEASE_TTL_MAX;
    let retention = section.duration("prometheus_retention_time", Duration::from_secs(24 * 3600), range)?;
    if section.has("prometheus_retention_time") && !retention.is_zero() {
        let text = "only says that the format is served: values are kept for as long as the process runs (\"0s\" turns it off)";
        section.warning("prometheus_retention_time", text);
    }
    if section.has("disable_hostname") && !section.boolean("disable_hostname", true)? {
        section.warning("disable_hostname", "does nothing here: no metric's name holds the host's");
    }
    Some(TelemetryConfig { prometheus: !retention.is_zero() })
}

/// What clients are told where the configuration does not say it: the listener's own address.
fn own_api_addr(root: &Section<'_>, listener: &ListenerConfig) -> Option<Url> {
    let scheme = if listener.tls.is_some() { Scheme::Https } else { Scheme::Http };
    if listener.address.port() == 0 {
        root.missing("api_addr", &format!("api_addr = \"{scheme}://127.0.0.1:{API_PORT}\""));
        return None;
    }
    let mut address = listener.address;
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        root.warning("api_addr", format!("is not given, so clients are told \"{scheme}://{address}\" (write how they reach this node)"));
    }
    Some(Url::of(scheme, address))
}

/// The one listener block.
fn listener_section<'a>(root: &Section<'a>) -> Option<Section<'a>> {
    if !root.has("listener") {
        root.missing("listener", "listener \"tcp\" { address = \"127.0.0.1:8200\" }");
    }
    let mut found: Option<(usize, Section<'a>)> = None;
    for (label, line, body) in root.labels("listener") {
        if label != "tcp" {
            root.mistake_at(line, "listener", format!("{} is not supported (write listener \"tcp\")", shown(label)));
        } else if let Some((first, _)) = &found {
            root.twice(line, "listener", *first);
        } else {
            found = Some((line, root.labelled("listener".to_owned(), line, body, LISTENER_KEYS)));
        }
    }
    found.map(|(_, section)| section)
}

fn cluster_name(root: &Section<'_>) -> Option<String> {
    if !root.has("cluster_name") {
        return Some(CLUSTER_NAME_DEFAULT.to_owned());
    }
    let name = root.text("cluster_name")?;
    // The alphabet of node ids: both are labels of the name in a node's certificate.
    if NodeId::parse(name).is_err() {
        let text = format!("{} is no cluster name (use 1 to 32 of a-z, 0-9 and '-', not at either end)", shown(name));
        root.mistake("cluster_name", text);
        return None;
    }
    Some(name.to_owned())
}

const LOG_LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];

fn log(root: &Section<'_>) -> Option<LogConfig> {
    let format = root.choice("log_format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let filter = match root.text("log_level") {
        None if root.has("log_level") => None,
        None => Some(LOG_FILTER_DEFAULT.to_owned()),
        Some(text) => log_filter(text).map_err(|text| root.mistake("log_level", text)).ok(),
    };
    Some(LogConfig { filter: filter?, format: format? })
}

/// Checks a tracing filter. A bare word must be a level: to the filter it would be a target, and a misspelt level silence everything else.
fn log_filter(text: &str) -> Result<String, String> {
    for directive in text.split(',').map(str::trim) {
        let bare = !directive.contains(['=', '[', ':']);
        if bare && !LOG_LEVELS.contains(&directive.to_ascii_lowercase().as_str()) {
            let cure = match nearest(directive, &LOG_LEVELS) {
                Some(nearest) => format!("did you mean {nearest:?}?"),
                None => "write trace, debug, info, warn, error or off; for one part, such as \"info,raft=debug\"".to_owned(),
            };
            return Err(format!("{} is no level ({cure})", shown(directive)));
        }
    }
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("{} is no filter (write a level, or levels by part, such as \"info,raft=debug\")", shown(text))),
    }
}

fn url(section: &Section<'_>, key: &str, for_peers: bool) -> Option<Url> {
    let text = section.text(key)?;
    let port = if for_peers { CLUSTER_PORT } else { API_PORT };
    match Url::parse(text, port, for_peers) {
        Ok(url) if for_peers && url.scheme() == Scheme::Http => {
            section.mistake(key, format!("{} is not https, and peers speak TLS only (try \"https://{}\")", shown(text), url.authority()));
            None
        }
        Ok(url) => Some(url),
        Err(text) => {
            section.mistake(key, text);
            None
        }
    }
}

/// This node's own address: as given at the top, or as its member block says; both, if given, must agree.
fn own_address(root: &Section<'_>, key: &str, given: Option<Url>, member: Option<&Url>) -> Option<Url> {
    if let (Some(given), Some(member)) = (&given, member)
        && given != member
    {
        root.mistake(
            key,
            format!("\"{given}\" is not what this node's member block says, \"{member}\" (make them equal, or remove this line)"),
        );
    }
    if root.has(key) { given } else { member.cloned() }
}

pub(super) fn required_file(section: &Section<'_>, key: &str, secrecy: Secrecy) -> Option<std::path::PathBuf> {
    if !section.has(key) {
        section.missing(key, &format!("{key} = \"…\""));
    }
    files::named(section, key, secrecy)
}

/// The one block `storage` or, under its old name, `backend`.
fn storage(root: &Section<'_>) -> Option<StorageConfig> {
    let key = if root.has("backend") { "backend" } else { "storage" };
    if root.has("storage") && root.has("backend") {
        root.mistake("backend", "is another name of storage, which is given too (keep one)");
    } else if !root.has(key) {
        root.missing("storage", "storage \"raft\" { path = \"/var/lib/conclave\", node_id = \"n1\" }");
    }
    let mut first: Option<(usize, Option<StorageConfig>)> = None;
    for (label, line, body) in root.labels(key) {
        if let Some((first, _)) = &first {
            root.twice(line, key, *first);
            continue;
        }
        let section = |keys| root.labelled(key.to_owned(), line, body, keys);
        let config = match label {
            "raft" => raft_storage(&section(RAFT_KEYS)),
            "inmem" => memory_storage(&section(MEMORY_KEYS)),
            other => {
                let text = format!("{} is not supported (write {key} \"raft\", or \"inmem\" for a test)", shown(other));
                root.mistake_at(line, key, text);
                None
            }
        };
        first = Some((line, config));
    }
    first.and_then(|(_, config)| config)
}

/// As it stands there, or from the variable of the environment that it names: so one file does for all nodes.
fn node_id(section: &Section<'_>, text: &str) -> Option<NodeId> {
    let parsed = match text.strip_prefix("env://") {
        None => NodeId::parse(text).map_err(|error| error.to_string()),
        Some(name) => match std::env::var(name) {
            Ok(value) => NodeId::parse(&value).map_err(|error| format!("the environment variable {name}: {error}")),
            Err(_) => Err(format!("the environment variable {name} is not set, or is no text (set it for this process)")),
        },
    };
    parsed.map_err(|text| section.mistake("node_id", text)).ok()
}

fn raft_storage(section: &Section<'_>) -> Option<StorageConfig> {
    let path = files::data_folder(section, "path");
    let node_id = section.required_text("node_id", "n1").and_then(|text| node_id(section, text));
    let table = section.choice("table", &[("redb", TableKind::Redb), ("sled", TableKind::Sled)]);
    if table == Some(TableKind::Sled) && !cfg!(feature = "sled") {
        section.mistake("table", "\"sled\" is not in this build (write \"redb\", or build with --features sled)");
    }
    let compaction = compaction(section);
    let join = join::join(section);
    Some(StorageConfig {
        node_id: node_id?,
        place: StoragePlace::Folder { path: path?, table: table? },
        compaction: compaction?,
        join: join?,
    })
}

fn compaction(section: &Section<'_>) -> Option<Compaction> {
    let Compaction { interval, entries, entries_kept } = Compaction::default();
    let interval = section.duration("snapshot_interval", interval, Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60));
    let entries = section.integer("snapshot_threshold", entries, 100..=100_000_000);
    let entries_kept = section.integer("trailing_logs", entries_kept, 0..=100_000_000);
    Some(Compaction { interval: interval?, entries: entries?, entries_kept: entries_kept? })
}

fn memory_storage(section: &Section<'_>) -> Option<StorageConfig> {
    section
        .doubtful("nothing is kept: all secrets and keys are lost when this process ends (write storage \"raft\" for anything but a test)");
    let id = match section.text("node_id") {
        None if section.has("node_id") => return None,
        text => text.unwrap_or(MEMORY_NODE_ID_DEFAULT),
    };
    Some(StorageConfig {
        node_id: node_id(section, id)?,
        place: StoragePlace::Memory,
        compaction: Compaction::default(),
        join: JoinConfig::default(),
    })
}

pub(super) fn socket_address(section: &Section<'_>, key: &str, text: &str, port: u16) -> Option<SocketAddr> {
    parse_socket_address(text, port).map_err(|text| section.mistake(key, text)).ok()
}

/// Every member block; `None` when the list is not one that a cluster can start from.
fn members(section: &Section<'_>, own: Option<&NodeId>) -> Option<BTreeMap<NodeId, Member>> {
    let blocks = section.all_labelled("member", MEMBER_KEYS);
    let count = blocks.len();
    let mut members = BTreeMap::new();
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    for (label, block) in blocks {
        let id = NodeId::parse(label).map_err(|error| block.wrong(error.to_string())).ok();
        let cluster_addr = member_url(&block, "cluster_addr", "https://10.0.0.1:8201", &mut taken);
        let api_addr = member_url(&block, "api_addr", "https://10.0.0.1:8200", &mut taken);
        if let (Some(id), Some(cluster_addr), Some(api_addr)) = (id, cluster_addr, api_addr) {
            members.insert(id, Member { cluster_addr, api_addr });
        }
    }
    if count == 0 {
        section.missing("member", "member \"n1\" { cluster_addr = \"…\", api_addr = \"…\" } for each node");
    } else if count > MEMBERS_MAX {
        section.mistake("member", format!("{count} members are too many (the most is {MEMBERS_MAX})"));
    } else if count.is_multiple_of(2) {
        let text = format!("{count} members survive no more failures than {} (an odd number is better)", count - 1);
        section.warning("member", text);
    }
    if let Some(own) = own
        && members.len() == count
        && count > 0
        && !members.contains_key(own)
    {
        let names: Vec<&str> = members.keys().map(NodeId::as_str).collect();
        section.mistake("member", format!("this node, \"{own}\", is not among {} (add member \"{own}\" {{ … }})", names.join(", ")));
    }
    (members.len() == count).then_some(members)
}

/// A member's address, which no other may have.
fn member_url(block: &Section<'_>, key: &str, example: &str, taken: &mut BTreeMap<String, String>) -> Option<Url> {
    if !block.has(key) {
        block.missing(key, &format!("{key} = {example:?}"));
    }
    let url = url(block, key, key == "cluster_addr")?;
    if let Some(first) = taken.insert(url.authority(), block.at(key)) {
        block.mistake(key, format!("\"{url}\" is taken by {first} (each address belongs to one listener)"));
    }
    Some(url)
}

fn cluster(
    section: &Section<'_>,
    cluster_addr: Option<&Url>,
    listener: Option<(&Section<'_>, &ListenerConfig)>,
    identity: Option<ClusterIdentity>,
) -> Option<ClusterConfig> {
    // Vault's place for it is the listener block.
    let in_listener = listener.and_then(|(section, _)| {
        let text = section.text("cluster_address")?;
        socket_address(section, "cluster_address", text, CLUSTER_PORT).map(|address| (section, address))
    });
    let listen = match (section.text("listen"), cluster_addr) {
        (Some(text), _) => socket_address(section, "listen", text, CLUSTER_PORT),
        (None, _) if in_listener.is_some() => in_listener.map(|(_, address)| address),
        (None, Some(url)) if !section.has("listen") => {
            let address = url.socket_address();
            if address.is_none() {
                let example = format!("listen = \"0.0.0.0:{}\", as the host of cluster_addr is a name,", url.port());
                section.missing("listen", &example);
            }
            address
        }
        (None, _) => None,
    };
    if let (Some(listen), Some((in_listener, address))) = (listen, in_listener)
        && listen != address
    {
        in_listener.mistake("cluster_address", format!("{address} is not what cluster.listen says, {listen} (keep one)"));
    }
    if let (Some(listen), Some((_, listener))) = (listen, listener)
        && listen == listener.address
        && listen.port() != 0
    {
        section.mistake("listen", format!("{listen} is the clients' listener's address too (give peers a port of their own)"));
    }
    Some(ClusterConfig { listen: listen?, identity: identity? })
}

/// Whether the nodes make and renew their certificates themselves: nobody has brought any.
fn is_managed(section: &Section<'_>) -> bool {
    !["tls_ca_file", "tls_cert_file", "tls_key_file", "member"].iter().any(|key| section.has(key))
}

fn managed(section: &Section<'_>) -> Option<ClusterIdentity> {
    let certificate_ttl = section.duration("certificate_ttl", CERTIFICATE_TTL_DEFAULT, CERTIFICATE_TTL_RANGE)?;
    Some(ClusterIdentity::Managed { certificate_ttl })
}

fn brought(section: &Section<'_>, members: Option<BTreeMap<NodeId, Member>>) -> Option<ClusterIdentity> {
    if section.has("certificate_ttl") {
        section.mistake(
            "certificate_ttl",
            "is for certificates that the nodes make themselves (remove it, or tls_ca_file, tls_cert_file, tls_key_file and the members)",
        );
    }
    let ca = required_file(section, "tls_ca_file", Secrecy::Public);
    let cert = required_file(section, "tls_cert_file", Secrecy::Public);
    let key = required_file(section, "tls_key_file", Secrecy::Private);
    Some(ClusterIdentity::Brought { tls: PeerTlsFiles { ca: ca?, cert: cert?, key: key? }, members: members? })
}

/// What peers are told where the configuration does not say it: where this node listens to them.
fn own_cluster_addr(section: &Section<'_>) -> Option<Url> {
    let listen = section.text("listen").and_then(|text| parse_socket_address(text, CLUSTER_PORT).ok());
    match listen {
        Some(listen) if !listen.ip().is_unspecified() && listen.port() != 0 => Some(Url::of(Scheme::Https, listen)),
        _ => {
            section.missing(
                "cluster_addr",
                &format!("cluster_addr = \"https://10.0.0.1:{CLUSTER_PORT}\" at the top, or an address as listen,"),
            );
            None
        }
    }
}

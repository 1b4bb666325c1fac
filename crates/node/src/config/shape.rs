//! Shape: which blocks and keys a configuration has, and which settings must agree.
//!
//! Always: a block is read to its end whatever is wrong in it, so that every mistake is reported.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use types::NodeId;
use types::hcl::Body;

use super::address::{Scheme, Url, parse_socket_address};
use super::files::{self, Secrecy};
use super::mistake::{Report, nearest, shown};
use super::section::Section;
use super::{
    CLUSTER_NAME_DEFAULT, ClusterConfig, Config, HEADER_READ_TIMEOUT_DEFAULT, LOG_FILTER_DEFAULT, ListenerConfig, LogConfig, LogFormat,
    MEMBERS_MAX, Member, PeerTlsFiles, REQUEST_DURATION_MAX_DEFAULT, REQUEST_SIZE_BYTES_MAX_DEFAULT, StorageConfig, TableKind, TlsFiles,
    TlsVersion,
};

/// The port of the clients' listener, for examples.
const API_PORT: u16 = 8200;
/// The port of the peers' listener, for examples.
const CLUSTER_PORT: u16 = 8201;

pub(super) const ROOT_KEYS: [&str; 8] =
    ["cluster_name", "api_addr", "cluster_addr", "log_level", "log_format", "listener", "storage", "cluster"];
pub(super) const LISTENER_KEYS: [&str; 8] = [
    "address",
    "tls_disable",
    "tls_cert_file",
    "tls_key_file",
    "tls_min_version",
    "max_request_size",
    "max_request_duration",
    "http_read_header_timeout",
];
pub(super) const STORAGE_KEYS: [&str; 3] = ["path", "node_id", "table"];
/// Beside `member`, which may be there many times.
pub(super) const CLUSTER_KEYS: [&str; 4] = ["listen", "tls_ca_file", "tls_cert_file", "tls_key_file"];
pub(super) const MEMBER_KEYS: [&str; 2] = ["cluster_addr", "api_addr"];

/// Reads the whole file; `None` only after a mistake was reported.
pub(super) fn config(report: &Report, body: &Body, folder: &Path) -> Option<Config> {
    let root = Section::root(report, body, &ROOT_KEYS);
    let cluster_name = cluster_name(&root);
    let log = log(&root);
    let api_addr = url(&root, "api_addr", false);
    let cluster_addr = url(&root, "cluster_addr", true);
    let listener_section = only_label(&root, "listener", "tcp", &LISTENER_KEYS, "address = \"127.0.0.1:8200\"");
    let listener = listener_section.as_ref().and_then(|section| listener(section, folder));
    let storage = only_label(&root, "storage", "raft", &STORAGE_KEYS, "path = \"/var/lib/conclave\", node_id = \"n1\"")
        .and_then(|section| storage(&section, folder));
    let cluster_section = root.block("cluster", &CLUSTER_KEYS, &["member"]);
    let node_id = storage.as_ref().map(|storage| &storage.node_id);
    let members = cluster_section.as_ref().and_then(|section| members(section, node_id));
    let own = members.as_ref().zip(node_id).and_then(|(members, id)| members.get(id));

    let api_addr = own_address(&root, "api_addr", api_addr, own.map(|own| &own.api_addr));
    let cluster_addr = if root.has("cluster") {
        own_address(&root, "cluster_addr", cluster_addr, own.map(|own| &own.cluster_addr))
    } else {
        if root.has("cluster_addr") {
            root.mistake("cluster_addr", "has no cluster block to belong to (add cluster { … }, or remove this line)");
        }
        if !root.has("api_addr") {
            root.missing("api_addr", "api_addr = \"http://127.0.0.1:8200\"");
        }
        None
    };
    if let (Some(section), Some(listener), Some(api_addr)) = (&listener_section, &listener, &api_addr) {
        listener_fits_api_addr(&root, section, listener, api_addr);
    }
    let cluster = match cluster_section {
        None => (!root.has("cluster")).then_some(None),
        Some(section) => cluster(&section, folder, cluster_addr.as_ref(), listener.as_ref(), members).map(Some),
    };

    Some(Config {
        cluster_name: cluster_name?,
        api_addr: api_addr?,
        cluster_addr,
        log: log?,
        listener: listener?,
        storage: storage?,
        cluster: cluster?,
        warnings: Vec::new(),
    })
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

/// The section of the block `key "label"`; no other label is known.
fn only_label<'a>(root: &Section<'a>, key: &str, label: &str, keys: &[&'static str], example: &str) -> Option<Section<'a>> {
    if !root.has(key) {
        root.missing(key, &format!("{key} \"{label}\" {{ {example} }}"));
    }
    let mut found = None;
    for (given, section) in root.labelled(key, keys, false) {
        if given == label {
            found = Some(section);
        } else {
            section.wrong(format!("{} is not supported (write {key} \"{label}\")", shown(given)));
        }
    }
    found
}

fn listener(section: &Section<'_>, folder: &Path) -> Option<ListenerConfig> {
    let address = section.required_text("address", "127.0.0.1:8200").and_then(|text| socket_address(section, "address", text, API_PORT));
    let tls = listener_tls(section, folder);
    if let (Some(address), Some(None)) = (address, &tls)
        && !address.ip().is_loopback()
    {
        section.warning("tls_disable", format!("secrets cross the network in clear, as {address} is not a loopback address"));
    }
    let size = section.integer("max_request_size", REQUEST_SIZE_BYTES_MAX_DEFAULT, 1024..=1024 * 1024 * 1024);
    let duration_range = Duration::from_secs(1)..=Duration::from_secs(3600);
    let duration = section.duration("max_request_duration", REQUEST_DURATION_MAX_DEFAULT, duration_range);
    let header_range = Duration::from_millis(100)..=Duration::from_secs(300);
    let header = section.duration("http_read_header_timeout", HEADER_READ_TIMEOUT_DEFAULT, header_range);
    Some(ListenerConfig {
        address: address?,
        tls: tls?,
        request_size_bytes_max: size?,
        request_duration_max: duration?,
        header_read_timeout: header?,
    })
}

fn listener_tls(section: &Section<'_>, folder: &Path) -> Option<Option<TlsFiles>> {
    let disable = section.boolean("tls_disable", false)?;
    if disable {
        let contradictions: Vec<&str> =
            ["tls_cert_file", "tls_key_file", "tls_min_version"].into_iter().filter(|key| section.has(key)).collect();
        for key in &contradictions {
            section.mistake(key, "contradicts tls_disable = true (remove one of them)");
        }
        return contradictions.is_empty().then_some(None);
    }
    let min_version = section.choice("tls_min_version", &[("tls13", TlsVersion::Tls13), ("tls12", TlsVersion::Tls12)]);
    if !section.has("tls_cert_file") && !section.has("tls_key_file") {
        section.missing("TLS", "tls_cert_file = \"…\" and tls_key_file = \"…\", or tls_disable = true for plain HTTP,");
        return None;
    }
    let cert = required_file(section, "tls_cert_file", folder, Secrecy::Public);
    let key = required_file(section, "tls_key_file", folder, Secrecy::Private);
    Some(Some(TlsFiles { cert: cert?, key: key?, min_version: min_version? }))
}

fn required_file(section: &Section<'_>, key: &str, folder: &Path, secrecy: Secrecy) -> Option<std::path::PathBuf> {
    if !section.has(key) {
        section.missing(key, &format!("{key} = \"…\""));
    }
    files::named(section, key, folder, secrecy)
}

fn listener_fits_api_addr(root: &Section<'_>, section: &Section<'_>, listener: &ListenerConfig, api_addr: &Url) {
    match (listener.tls.is_some(), api_addr.scheme()) {
        (true, Scheme::Http) => {
            let text = format!("\"{api_addr}\" is not https, but the listener speaks TLS (try \"https://{}\")", api_addr.authority());
            root.mistake("api_addr", text);
        }
        (false, Scheme::Https) => {
            let text =
                format!("this listener speaks plain HTTP, but api_addr is \"{api_addr}\" (right only behind something that ends TLS)");
            section.warning("tls_disable", text);
        }
        (true, Scheme::Https) | (false, Scheme::Http) => {}
    }
}

fn storage(section: &Section<'_>, folder: &Path) -> Option<StorageConfig> {
    let path = files::data_folder(section, "path", folder);
    let node_id = section
        .required_text("node_id", "n1")
        .and_then(|text| NodeId::parse(text).map_err(|error| section.mistake("node_id", error.to_string())).ok());
    let table = section.choice("table", &[("redb", TableKind::Redb), ("sled", TableKind::Sled)]);
    if table == Some(TableKind::Sled) && !cfg!(feature = "sled") {
        section.mistake("table", "\"sled\" is not in this build (write \"redb\", or build with --features sled)");
    }
    Some(StorageConfig { path: path?, node_id: node_id?, table: table? })
}

fn socket_address(section: &Section<'_>, key: &str, text: &str, port: u16) -> Option<SocketAddr> {
    parse_socket_address(text, port).map_err(|text| section.mistake(key, text)).ok()
}

/// Every member block; `None` when the list is not one that a cluster can start from.
fn members(section: &Section<'_>, own: Option<&NodeId>) -> Option<BTreeMap<NodeId, Member>> {
    let blocks = section.labelled("member", &MEMBER_KEYS, true);
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
    folder: &Path,
    cluster_addr: Option<&Url>,
    listener: Option<&ListenerConfig>,
    members: Option<BTreeMap<NodeId, Member>>,
) -> Option<ClusterConfig> {
    let ca = required_file(section, "tls_ca_file", folder, Secrecy::Public);
    let cert = required_file(section, "tls_cert_file", folder, Secrecy::Public);
    let key = required_file(section, "tls_key_file", folder, Secrecy::Private);
    let listen = match (section.text("listen"), cluster_addr) {
        (Some(text), _) => socket_address(section, "listen", text, CLUSTER_PORT),
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
    if let (Some(listen), Some(listener)) = (listen, listener)
        && listen == listener.address
        && listen.port() != 0
    {
        section.mistake("listen", format!("{listen} is the clients' listener's address too (give peers a port of their own)"));
    }
    Some(ClusterConfig { listen: listen?, tls: PeerTlsFiles { ca: ca?, cert: cert?, key: key? }, members: members? })
}

//! The shape of `retry_join` in `storage "raft"`: where a new node asks to be taken in.
//!
//! Always: a token is named by file or environment variable, never written into the configuration.

use std::path::{Path, PathBuf};

use super::address::Url;
use super::files::{self, Secrecy};
use super::mistake::shown;
use super::section::{Foreign, Keys, Section};
use super::shape::API_PORT;
use super::{ClusterConfig, ClusterIdentity, Config};

const AUTO: Foreign =
    Foreign::Refused("clouds are not searched for nodes (write a leader_api_addr, which may be a name with several addresses)");
const INLINE: Foreign =
    Foreign::Refused("certificates and keys stand in files (write leader_ca_cert_file, leader_client_cert_file, leader_client_key_file)");

pub(super) const KEYS: Keys = Keys {
    own: &[
        "leader_api_addr",
        "leader_ca_cert_file",
        "leader_client_cert_file",
        "leader_client_key_file",
        "leader_tls_servername",
        "join_token_file",
    ],
    repeatable: &[],
    foreign: &[
        ("auto_join", AUTO),
        ("auto_join_scheme", AUTO),
        ("auto_join_port", AUTO),
        ("leader_ca_cert", INLINE),
        ("leader_client_cert", INLINE),
        ("leader_client_key", INLINE),
    ],
};

/// The environment variable that a join token may be in.
pub const JOIN_TOKEN_VARIABLE: &str = "CONCLAVE_JOIN_TOKEN";
/// The most places that one node may ask at.
const PLACES_MAX: usize = 31;

/// Where a new node asks to be taken in, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JoinConfig {
    /// Asked in turn, for ever; none: it waits for init, or to be told to join.
    pub places: Vec<JoinPlace>,
    /// It is not to become a voter.
    pub non_voter: bool,
}

/// One node of the cluster that is to be joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinPlace {
    /// Its clients' listener.
    pub address: Url,
    /// The authority of its certificate, PEM; without it any certificate will do: the join is authenticated by itself.
    pub ca: Option<PathBuf>,
    /// What this node shows as a client: certificate and key, PEM.
    pub client: Option<(PathBuf, PathBuf)>,
    /// The name in its certificate, where that is not the address's.
    pub server_name: Option<String>,
    /// The file of a join token. Without one the token is that of [`JOIN_TOKEN_VARIABLE`], or shares are waited for.
    pub token: Option<PathBuf>,
}

impl Config {
    /// Adds places to join at that a command line names.
    ///
    /// # Errors
    /// One of them is no URL, or this node's configuration lets it join nobody.
    pub fn add_join_places(&mut self, addresses: &[String], token: Option<&Path>) -> Result<(), String> {
        let is_managed = matches!(&self.cluster, Some(ClusterConfig { identity: ClusterIdentity::Managed { .. }, .. }));
        if !addresses.is_empty() && !is_managed {
            return Err("this node's configuration lets it join nobody (write a cluster block without certificates and members)".into());
        }
        for address in addresses {
            self.storage.join.places.push(JoinPlace::named(address, token.map(Path::to_owned))?);
        }
        Ok(())
    }
}

impl JoinPlace {
    /// One that a command line names.
    ///
    /// # Errors
    /// Not a URL that a node could be asked at.
    pub fn named(address: &str, token: Option<PathBuf>) -> Result<JoinPlace, String> {
        Ok(JoinPlace { address: Url::parse(address, API_PORT, false)?, ca: None, client: None, server_name: None, token })
    }
}

/// Reads `retry_join` and `retry_join_as_non_voter`; `None` only after a mistake was reported.
pub(super) fn join(section: &Section<'_>) -> Option<JoinConfig> {
    let non_voter = section.boolean("retry_join_as_non_voter", false)?;
    let blocks = section.all("retry_join", KEYS);
    let count = blocks.len();
    if count > PLACES_MAX {
        section.mistake("retry_join", format!("{count} blocks are too many (the most is {PLACES_MAX})"));
    }
    let places: Vec<JoinPlace> = blocks.iter().filter_map(place).collect();
    if non_voter && count == 0 {
        section.warning("retry_join_as_non_voter", "does nothing here: there is no retry_join block");
    }
    (places.len() == count && count <= PLACES_MAX).then_some(JoinConfig { places, non_voter })
}

fn place(section: &Section<'_>) -> Option<JoinPlace> {
    let address = section.required_text("leader_api_addr", "https://10.0.0.1:8200").and_then(|text| {
        let parsed = Url::parse(text, API_PORT, false);
        parsed.map_err(|text| section.mistake("leader_api_addr", text)).ok()
    });
    let ca = files::named(section, "leader_ca_cert_file", Secrecy::Public);
    let cert = files::named(section, "leader_client_cert_file", Secrecy::Public);
    let key = files::named(section, "leader_client_key_file", Secrecy::Private);
    // It may be brought later, and be gone once it was used.
    let token = files::path(section, "join_token_file");
    let server_name = section.text("leader_tls_servername");
    if let Some(name) = server_name
        && rustls::pki_types::ServerName::try_from(name).is_err()
    {
        section.mistake("leader_tls_servername", format!("{} is neither a host's name nor an address", shown(name)));
    }
    for (this, other) in [("leader_client_cert_file", "leader_client_key_file"), ("leader_client_key_file", "leader_client_cert_file")] {
        if section.has(this) && !section.has(other) {
            section.missing(other, &format!("{other} = \"…\""));
        }
    }
    let client = cert.zip(key);
    Some(JoinPlace { address: address?, ca, client, server_name: server_name.map(str::to_owned), token })
}

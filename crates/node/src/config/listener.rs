//! The shape of `listener "tcp"`: address, TLS, limits, and who may read the metrics.

use std::path::PathBuf;
use std::time::Duration;

use super::address::{Scheme, Url};
use super::files::Secrecy;
use super::section::{Keys, Section};
use super::shape::{API_PORT, required_file, socket_address};
use super::{
    ADDRESS_DEFAULT, ClientCertificate, HEADER_READ_TIMEOUT_DEFAULT, IDLE_TIMEOUT_DEFAULT, ListenerConfig, REQUEST_DURATION_MAX_DEFAULT,
    REQUEST_SIZE_BYTES_MAX_DEFAULT, TlsFiles, TlsVersion, files, foreign,
};

pub(super) const LISTENER_KEYS: Keys = Keys {
    own: &[
        "address",
        "cluster_address",
        "tls_disable",
        "tls_cert_file",
        "tls_key_file",
        "tls_min_version",
        "tls_require_and_verify_client_cert",
        "tls_client_ca_file",
        "tls_disable_client_certs",
        "max_request_size",
        "max_request_duration",
        "http_read_header_timeout",
        "http_idle_timeout",
        "telemetry",
    ],
    repeatable: &[],
    foreign: foreign::LISTENER,
};
pub(super) const LISTENER_TELEMETRY_KEYS: Keys = Keys { own: &["unauthenticated_metrics_access"], repeatable: &[], foreign: &[] };

/// Reads the block; `None` only after a mistake was reported.
pub(super) fn listener(section: &Section<'_>) -> Option<ListenerConfig> {
    let address = match section.text("address") {
        None if section.has("address") => None,
        text => socket_address(section, "address", text.unwrap_or(ADDRESS_DEFAULT), API_PORT),
    };
    let tls = tls(section);
    if let (Some(address), Some(None)) = (address, &tls)
        && !address.ip().is_loopback()
    {
        section.warning("tls_disable", format!("secrets cross the network in clear, as {address} is not a loopback address"));
    }
    let size = section.integer("max_request_size", REQUEST_SIZE_BYTES_MAX_DEFAULT, 1024..=1024 * 1024 * 1024);
    let duration_range = Duration::from_secs(1)..=Duration::from_secs(3600);
    let duration = section.duration("max_request_duration", REQUEST_DURATION_MAX_DEFAULT, duration_range.clone());
    let header_range = Duration::from_millis(100)..=Duration::from_secs(300);
    let header = section.duration("http_read_header_timeout", HEADER_READ_TIMEOUT_DEFAULT, header_range);
    let idle = section.duration("http_idle_timeout", IDLE_TIMEOUT_DEFAULT, duration_range);
    let telemetry = section.block("telemetry", LISTENER_TELEMETRY_KEYS);
    let metrics_without_token = match &telemetry {
        Some(telemetry) => telemetry.boolean("unauthenticated_metrics_access", false),
        None => (!section.has("telemetry")).then_some(false),
    };
    Some(ListenerConfig {
        address: address?,
        tls: tls?,
        request_size_bytes_max: size?,
        request_duration_max: duration?,
        header_read_timeout: header?,
        idle_timeout: idle?,
        metrics_without_token: metrics_without_token?,
    })
}

/// The keys that have no meaning without TLS.
const TLS_KEYS: [&str; 6] = [
    "tls_cert_file",
    "tls_key_file",
    "tls_min_version",
    "tls_require_and_verify_client_cert",
    "tls_client_ca_file",
    "tls_disable_client_certs",
];

fn tls(section: &Section<'_>) -> Option<Option<TlsFiles>> {
    if section.boolean("tls_disable", false)? {
        let contradictions: Vec<&str> = TLS_KEYS.into_iter().filter(|key| section.has(key)).collect();
        for key in &contradictions {
            section.mistake(key, "contradicts tls_disable = true (remove one of them)");
        }
        return contradictions.is_empty().then_some(None);
    }
    let min_version = section.choice("tls_min_version", &[("tls13", TlsVersion::Tls13), ("tls12", TlsVersion::Tls12)]);
    let client_certificate = client_certificate(section);
    if !section.has("tls_cert_file") && !section.has("tls_key_file") {
        section.missing("TLS", "tls_cert_file = \"…\" and tls_key_file = \"…\", or tls_disable = true for plain HTTP,");
        return None;
    }
    let cert = required_file(section, "tls_cert_file", Secrecy::Public);
    let key = required_file(section, "tls_key_file", Secrecy::Private);
    Some(Some(TlsFiles { cert: cert?, key: key?, min_version: min_version?, client_certificate: client_certificate? }))
}

/// What is asked of clients. An authority without verification is refused: whoever names one believes that it is verified.
fn client_certificate(section: &Section<'_>) -> Option<ClientCertificate> {
    let required = section.boolean("tls_require_and_verify_client_cert", false);
    let off = section.boolean("tls_disable_client_certs", false);
    let ca: Option<PathBuf> = files::named(section, "tls_client_ca_file", Secrecy::Public);
    match (required?, off?, section.has("tls_client_ca_file")) {
        (true, true, _) => {
            section.mistake("tls_disable_client_certs", "contradicts tls_require_and_verify_client_cert = true (remove one of them)");
            None
        }
        (true, false, false) => {
            let text = "needs the authority that signed the clients' certificates (add tls_client_ca_file = \"…\")";
            section.mistake("tls_require_and_verify_client_cert", text);
            None
        }
        (true, false, true) => Some(ClientCertificate::Required { ca: ca? }),
        (false, _, true) => {
            let text = "verifies nothing by itself (add tls_require_and_verify_client_cert = true, or remove this line)";
            section.mistake("tls_client_ca_file", text);
            None
        }
        (false, true, false) => Some(ClientCertificate::Off),
        (false, false, false) => Some(ClientCertificate::Requested),
    }
}

/// Compares the listener with what clients are told of it.
pub(super) fn fits_api_addr(root: &Section<'_>, section: &Section<'_>, listener: &ListenerConfig, api_addr: &Url) {
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

//! The certificates of a cluster: its authority, and one for each node.
//!
//! Always: a node's certificate names `<id>.<cluster>.conclave.internal`, for both sides of a connection (extended key usages
//! server and client), and the hosts and addresses at which it is reached. Keys are ECDSA P-256 (FIPS 186-5).

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use types::{Clock as _, NodeId, SystemClock};
use zeroize::Zeroizing;

/// Clocks may differ by this much.
const BACKDATING: Duration = Duration::from_secs(3600);

/// Signs nodes' certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

/// A certificate and its key, both PEM.
pub(crate) struct Identity {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: Zeroizing<String>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    /// Neither an address nor a DNS name.
    #[error("{text:?} is neither an IP address nor a host name")]
    Host {
        /// What was given.
        text: String,
    },
    /// The library refused.
    #[error("{0}")]
    Library(#[from] rcgen::Error),
}

impl Authority {
    /// A new one, which can sign nodes' certificates only.
    pub(crate) fn generate(cluster: &NodeId, validity: Duration) -> Result<Authority, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = valid_for(validity);
        params.distinguished_name.push(DnType::OrganizationName, "Conclave");
        params.distinguished_name.push(DnType::CommonName, format!("{cluster} cluster authority"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Authority { issuer: Issuer::new(params, key), certificate_pem })
    }

    /// One that was made before.
    pub(crate) fn load(certificate_pem: &str, key_pem: &str) -> Result<Authority, PkiError> {
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, KeyPair::from_pem(key_pem)?)?;
        Ok(Authority { issuer, certificate_pem: certificate_pem.to_owned() })
    }

    pub(crate) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub(crate) fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// A node's certificate, for its name in the cluster, for `localhost`, and for `hosts` (names or addresses).
    pub(crate) fn issue(&self, cluster: &NodeId, node: &NodeId, hosts: &[String], validity: Duration) -> Result<Identity, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = valid_for(validity);
        params.distinguished_name.push(DnType::OrganizationName, "Conclave");
        params.distinguished_name.push(DnType::CommonName, node.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = vec![SanType::DnsName(format!("{node}.{cluster}.conclave.internal").try_into()?)];
        for host in hosts.iter().map(String::as_str).chain(["localhost"]) {
            let name = alternative_name(host)?;
            if !params.subject_alt_names.contains(&name) {
                params.subject_alt_names.push(name);
            }
        }
        let certificate_pem = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity { certificate_pem, key_pem: Zeroizing::new(key.serialize_pem()) })
    }
}

fn valid_for(validity: Duration) -> CertificateParams {
    let now = Duration::from_secs(SystemClock.now().seconds());
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = date_time_ymd(1970, 1, 1) + now.saturating_sub(BACKDATING);
    params.not_after = date_time_ymd(1970, 1, 1) + now + validity;
    params
}

fn alternative_name(host: &str) -> Result<SanType, PkiError> {
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let refused = || PkiError::Host { text: host.chars().take(80).collect() };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return Err(refused());
    }
    Ok(SanType::DnsName(host.to_ascii_lowercase().try_into().map_err(|_| refused())?))
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::*;

    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 86400);

    fn id(text: &str) -> NodeId {
        NodeId::parse(text).unwrap()
    }

    fn names(pem: &str) -> Vec<String> {
        let (_, pem) = parse_x509_pem(pem.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        names.value.general_names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_nodes_certificate_names_the_node_and_is_signed_by_the_authority() {
        let authority = Authority::generate(&id("blue"), YEAR).unwrap();
        let hosts = ["10.0.0.1".to_owned(), "Vault1.Example".to_owned(), "localhost".to_owned()];
        let identity = authority.issue(&id("blue"), &id("n1"), &hosts, YEAR).unwrap();
        let names = names(&identity.certificate_pem);
        assert_eq!(names.len(), 4, "localhost comes once: {names:?}");
        assert!(names[0].contains("n1.blue.conclave.internal"), "{names:?}");
        assert!(names.iter().any(|name| name.contains("vault1.example")), "{names:?}");

        let (_, pem) = parse_x509_pem(identity.certificate_pem.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let (_, ca_pem) = parse_x509_pem(authority.certificate_pem().as_bytes()).unwrap();
        let ca = ca_pem.parse_x509().unwrap();
        assert_eq!(certificate.issuer(), ca.subject());
        assert!(ca.is_ca() && !certificate.is_ca());
        assert!(certificate.validity().is_valid() && ca.validity().is_valid());
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && usage.client_auth);
    }

    #[test]
    fn an_authority_signs_again_after_it_was_loaded() {
        let first = Authority::generate(&id("blue"), YEAR).unwrap();
        let loaded = Authority::load(first.certificate_pem(), &first.key_pem()).unwrap();
        let identity = loaded.issue(&id("blue"), &id("n4"), &[], YEAR).unwrap();
        assert!(names(&identity.certificate_pem)[0].contains("n4.blue"));
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for (host, fits) in [
            ("10.0.0.1", true),
            ("::1", true),
            ("[::1]", true),
            ("vault.example", true),
            ("a", true),
            ("", false),
            ("a b", false),
            ("-a", false),
            ("a..b", false),
            ("http://a", false),
        ] {
            assert_eq!(alternative_name(host).is_ok(), fits, "{host}");
        }
    }
}

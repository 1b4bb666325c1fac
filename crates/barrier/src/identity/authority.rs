//! Certificates: the cluster's authority, and what it signs for nodes.
//!
//! Always: the authority signs certificates of this cluster's nodes only (name constraints, RFC 5280, section 4.2.1.10), for the node that was
//! asked for, whatever a certificate request says besides its key. Keys are ECDSA P-256 (FIPS 186-5).

use std::time::Duration;

use crypto::{Rng, SecretBytes, Zeroizing};
use prost::Message;
use proto::stored;
use raft::KeyPin;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData, SanType, SerialNumber, date_time_ymd,
};
use types::{NodeId, Timestamp};

use crate::name::Name;

/// How long a node's certificate is valid where nobody says otherwise. Nodes renew it when two thirds of that are over.
pub const CERTIFICATE_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Clocks may differ by this much.
const BACKDATING: Duration = Duration::from_secs(3600);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The library refuses: a request that is none, a key of a kind that it does not know.
    #[error("{0}")]
    Library(#[from] rcgen::Error),
    /// The record is not what was written.
    #[error("the authority's record is malformed")]
    Malformed,
}

/// The authority, ready to sign.
pub(crate) struct Authority {
    certificate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
    created: Timestamp,
}

impl Authority {
    pub(crate) fn name() -> Name {
        Name::new("core/authority")
    }

    /// A new one. It does not end: a cluster whose authority ends would end with it, and what it signs is short-lived and pinned.
    pub(crate) fn generate(cluster_name: &str, now: Timestamp) -> Result<Authority, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("{cluster_name} cluster authority"));
        params.not_before = date_time_ymd(1970, 1, 1) + seconds(now).saturating_sub(BACKDATING);
        // RFC 5280, section 4.1.2.5: no end.
        params.not_after = date_time_ymd(9999, 12, 31) + Duration::from_secs(24 * 3600 - 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(format!("{cluster_name}.conclave.internal"))],
            excluded_subtrees: Vec::new(),
        });
        let certificate = params.self_signed(&key)?.der().to_vec();
        Ok(Authority { certificate, issuer: Issuer::new(params, key), created: now })
    }

    pub(crate) fn encode(&self) -> SecretBytes {
        // EXPOSE: the authority's key goes into its record, which the barrier encrypts.
        let key = Zeroizing::new(self.issuer.key().serialize_der());
        let mut record = stored::Authority { certificate: self.certificate.clone(), key: key.to_vec(), created_ms: self.created.0 };
        let bytes = SecretBytes::from(record.encode_to_vec());
        zeroize::Zeroize::zeroize(&mut record.key);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Authority, AuthorityError> {
        let record = stored::Authority::decode(bytes).map_err(|_| AuthorityError::Malformed)?;
        let key = Zeroizing::new(record.key);
        let key = KeyPair::try_from(key.as_slice())?;
        let issuer = Issuer::from_ca_cert_der(&record.certificate.as_slice().into(), key)?;
        Ok(Authority { certificate: record.certificate, issuer, created: Timestamp(record.created_ms) })
    }

    /// Its certificate, DER.
    pub(crate) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// A certificate for `node`, on the key of its request. DER.
    pub(crate) fn sign(
        &self,
        cluster_name: &str,
        node: &NodeId,
        key: &NodeKey,
        life: Duration,
        now: Timestamp,
        rng: &dyn Rng,
    ) -> Result<Vec<u8>, AuthorityError> {
        let mut params = CertificateParams::default();
        // Positive, and another for each certificate: RFC 5280, section 4.1.2.2.
        let mut serial = crypto::rng::generate_bytes::<16>(rng);
        serial[0] = serial[0] & 0x7f | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.distinguished_name = named(node.as_str());
        params.not_before = date_time_ymd(1970, 1, 1) + seconds(now).saturating_sub(BACKDATING);
        params.not_after = date_time_ymd(1970, 1, 1) + seconds(now) + life;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = vec![SanType::DnsName(raft::grpc::peer_name(node, cluster_name).try_into()?)];
        Ok(params.signed_by(&key.request.public_key, &self.issuer)?.der().to_vec())
    }
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Conclave");
    name.push(DnType::CommonName, common_name);
    name
}

fn seconds(time: Timestamp) -> Duration {
    Duration::from_secs(time.seconds())
}

/// A node's public key, out of a certificate request that shows that the sender has the private one.
pub struct NodeKey {
    request: CertificateSigningRequestParams,
}

impl NodeKey {
    /// Checks a PKCS #10 request (DER) and its signature.
    ///
    /// # Errors
    /// It is none, or not signed by the key that is in it.
    pub fn parse(request: &[u8]) -> Result<NodeKey, AuthorityError> {
        Ok(NodeKey { request: CertificateSigningRequestParams::from_der(&request.into())? })
    }

    /// What pins it in the membership.
    pub fn pin(&self) -> KeyPin {
        raft::grpc::pin(&self.request.public_key.subject_public_key_info())
    }
}

#[cfg(test)]
mod tests {
    use crypto::SeededRng;

    use super::*;

    fn request(key: &KeyPair) -> Vec<u8> {
        CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn an_authority_signs_for_the_node_that_it_is_told_of() {
        let (now, rng) = (Timestamp(1_795_510_800_000), SeededRng::dangerous_from_seed(1));
        let authority = Authority::generate("blue", now).unwrap();
        let authority = Authority::decode(authority.encode().expose()).unwrap();
        let (key, node) = (KeyPair::generate().unwrap(), NodeId::parse("n1").unwrap());
        // Whatever the request itself would like to be called.
        let wish = CertificateParams::new(["n9.blue.conclave.internal".to_owned()]).unwrap().serialize_request(&key).unwrap();
        let parsed = NodeKey::parse(wish.der()).unwrap();
        let certificate = authority.sign("blue", &node, &parsed, CERTIFICATE_LIFE, now, &rng).unwrap();
        assert_eq!(raft::grpc::certificate_names(&certificate).unwrap(), ["n1.blue.conclave.internal"]);
        assert_eq!(raft::grpc::certificate_key(&certificate).unwrap(), parsed.pin());
        assert_ne!(
            certificate,
            authority.sign("blue", &node, &parsed, CERTIFICATE_LIFE, now, &rng).unwrap(),
            "each has its own serial number"
        );

        let tls = raft::grpc::PeerTls::from_der(&node, "blue", authority.certificate(), &certificate, &key.serialize_der());
        let tls = tls.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((tls.key(), tls.valid_until().0), (parsed.pin(), now.0 + 30 * 24 * 3_600_000));
    }

    #[test]
    fn a_request_shows_that_its_sender_has_the_key() {
        let good = request(&KeyPair::generate().unwrap());
        assert!(NodeKey::parse(&good).is_ok());
        let mut forged = good.clone();
        *forged.last_mut().unwrap() ^= 1;
        for bad in [&forged[..], &good[..good.len() - 1], b"", b"not DER"] {
            assert!(NodeKey::parse(bad).is_err());
        }
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        for bad in [&b""[..], b"x", &stored::Authority::default().encode_to_vec()] {
            assert!(Authority::decode(bad).is_err());
        }
    }
}

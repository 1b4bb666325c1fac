//! Who a peer is: names and keys in certificates, what a node shows to its peers, and who is admitted.
//!
//! Always: a peer is whom the membership says, on both sides of a connection. Its certificate is of the cluster's CA and names node and
//! cluster; it is a member at the time of the call; and where its key is pinned ([`KeyPin`]), the certificate is for that key. Peers
//! speak TLS 1.3.
//! Does not know where certificates come from.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use crypto::Zeroizing;
use crypto::digest::sha256;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::transport::{ClientTlsConfig, Identity};
use tonic::{Request, Status};
use types::{NodeId, Timestamp};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::config::{KeyPin, Member};

/// The name that a node's certificate must carry.
pub fn peer_name(node_id: &NodeId, cluster_name: &str) -> String {
    format!("{node_id}{}", name_suffix(cluster_name))
}

fn name_suffix(cluster_name: &str) -> String {
    format!(".{cluster_name}.conclave.internal")
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, PeerTlsError> {
    X509Certificate::from_der(der).map(|(_, certificate)| certificate).map_err(|error| PeerTlsError::Certificate(error.to_string()))
}

/// The DNS names in a certificate (DER), as they stand in its subject alternative names.
pub fn certificate_names(der: &[u8]) -> Result<Vec<String>, PeerTlsError> {
    let certificate = parse(der)?;
    let names = certificate.subject_alternative_name().map_err(|error| PeerTlsError::Certificate(error.to_string()))?;
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    };
    Ok(names.map(|names| names.value.general_names.iter().filter_map(dns).collect()).unwrap_or_default())
}

/// What pins the key in a certificate (DER).
pub fn certificate_key(der: &[u8]) -> Result<KeyPin, PeerTlsError> {
    Ok(pin(parse(der)?.public_key().raw))
}

/// What pins a `SubjectPublicKeyInfo` (DER).
pub fn pin(public_key_info: &[u8]) -> KeyPin {
    KeyPin(sha256(public_key_info))
}

/// Why certificates cannot be used between peers.
#[derive(Debug, thiserror::Error)]
pub enum PeerTlsError {
    /// Not a certificate.
    #[error("not a usable certificate: {0}")]
    Certificate(String),
    /// Not a key, or not that of the certificate.
    #[error("not a usable key: {0}")]
    Key(String),
    /// It belongs to another node or cluster.
    #[error("the certificate is for {found:?}, not for {wanted:?}")]
    OtherNode {
        /// The name this node needs.
        wanted: String,
        /// The names it found.
        found: Vec<String>,
    },
}

/// This node's certificate and key and the cluster's CA. Clones share it; the key is wiped with the last of them, as far as TLS lets it.
#[derive(Clone)]
pub struct PeerTls(Arc<Shown>);

struct Shown {
    cluster_name: String,
    client: ClientTlsConfig,
    server: Arc<ServerConfig>,
    verifier: Arc<WebPkiServerVerifier>,
    certificate: CertificateDer<'static>,
    valid_from: Timestamp,
    valid_until: Timestamp,
    key: KeyPin,
}

/// What a node shows to its peers now; `None` while it has no identity yet. The newest one is for new connections.
pub type PeerIdentity = watch::Receiver<Option<PeerTls>>;

impl PeerTls {
    /// Checks that the certificate (the first, if it is a chain) names this node and this cluster, and is for the key.
    pub fn new(
        node_id: &NodeId,
        cluster_name: &str,
        ca_pem: &[u8],
        certificate_pem: &[u8],
        key_pem: &[u8],
    ) -> Result<PeerTls, PeerTlsError> {
        let certificate = |error: &dyn fmt::Display| PeerTlsError::Certificate(error.to_string());
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(certificate_pem).collect::<Result<_, _>>().map_err(|error| certificate(&error))?;
        let first = chain.first().ok_or_else(|| certificate(&"no certificate in it"))?.clone();
        let found = certificate_names(&first)?;
        let wanted = peer_name(node_id, cluster_name);
        if !found.contains(&wanted) {
            return Err(PeerTlsError::OtherNode { wanted, found });
        }
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(ca_pem) {
            roots.add(authority.map_err(|error| certificate(&error))?).map_err(|error| certificate(&error))?;
        }
        let roots = Arc::new(roots);
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| PeerTlsError::Key(error.to_string()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build();
        let parsed = parse(&first)?;
        let time = |seconds: i64| Timestamp(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000));
        let (valid_from, valid_until) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        Ok(PeerTls(Arc::new(Shown {
            cluster_name: cluster_name.to_owned(),
            client: ClientTlsConfig::new().identity(Identity::from_pem(certificate_pem, key_pem)),
            server: Arc::new(server_config(chain, key, roots, provider)?),
            verifier: verifier.map_err(|error| certificate(&error))?,
            valid_from: time(valid_from),
            valid_until: time(valid_until),
            key: pin(parsed.public_key().raw),
            certificate: first.clone(),
        })))
    }

    /// As [`PeerTls::new`], of DER: X.509, X.509, and PKCS #8.
    pub fn from_der(
        node_id: &NodeId,
        cluster_name: &str,
        authority: &[u8],
        certificate: &[u8],
        key: &[u8],
    ) -> Result<PeerTls, PeerTlsError> {
        let [authority, certificate] = [authority, certificate].map(|der| pem("CERTIFICATE", der));
        PeerTls::new(node_id, cluster_name, authority.as_bytes(), certificate.as_bytes(), pem("PRIVATE KEY", key).as_bytes())
    }

    /// From when on the certificate is valid.
    pub fn valid_from(&self) -> Timestamp {
        self.0.valid_from
    }

    /// Whether peers believe the certificate at `now`: that the authority has signed it for `node_id`, and that it is not over.
    ///
    /// # Errors
    /// Why they do not.
    pub fn check(&self, node_id: &NodeId, now: Timestamp) -> Result<(), PeerTlsError> {
        let refuse = |error: &dyn fmt::Display| PeerTlsError::Certificate(error.to_string());
        let name = ServerName::try_from(peer_name(node_id, &self.0.cluster_name)).map_err(|error| refuse(&error))?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.seconds()));
        let verified = self.0.verifier.verify_server_cert(&self.0.certificate, &[], &name, &[], now);
        verified.map(drop).map_err(|error| refuse(&error))
    }

    /// When the certificate ends.
    pub fn valid_until(&self) -> Timestamp {
        self.0.valid_until
    }

    /// The node's own key, as others may have pinned it.
    pub fn key(&self) -> KeyPin {
        self.0.key
    }

    /// For the peers' listener: only callers with a certificate of the cluster's CA get through.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.server)
    }

    /// For calls to `peer`: nobody else is accepted there.
    pub(super) fn client(&self, peer: &NodeId, key: Option<KeyPin>) -> (ClientTlsConfig, Arc<dyn ServerCertVerifier>) {
        let verifier = Pinned { chain: Arc::clone(&self.0.verifier), key };
        (self.0.client.clone().domain_name(peer_name(peer, &self.0.cluster_name)), Arc::new(verifier))
    }

    /// Whether both are one and the same, not only alike.
    pub(super) fn is(&self, other: &PeerTls) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// RFC 7468. Wiped, as it may be a key.
fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let digits = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(der));
    Zeroizing::new(format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", *digits))
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, PeerTlsError> {
    let callers = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
    let callers = callers.map_err(|error| PeerTlsError::Certificate(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| PeerTlsError::Key(error.to_string()))?
        .with_client_cert_verifier(callers)
        .with_single_cert(chain, key)
        .map_err(|error| PeerTlsError::Key(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Accepts a server of the cluster's CA, by the name that is asked for, and with the pinned key if there is one.
#[derive(Debug)]
struct Pinned {
    chain: Arc<WebPkiServerVerifier>,
    key: Option<KeyPin>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        match self.key {
            Some(key) if certificate_key(end_entity).ok() != Some(key) => {
                Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            _ => Ok(verified),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::PeerIncompatible(rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// A caller that is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RefusedPeer {
    /// No certificate came with the connection.
    #[error("no client certificate")]
    NoCertificate,
    /// The certificate names no node of this cluster.
    #[error("the certificate names no node of cluster {0:?}")]
    Foreign(String),
    /// A node of this cluster, but not a member now.
    #[error("{0} is not a member of this cluster")]
    NotAMember(NodeId),
    /// Its name is a member's, its key is another's.
    #[error("the certificate of {0} is for another key than the one that it joined with")]
    OtherKey(NodeId),
}

/// Tells of a node how it is a member now, if it is one.
pub type Members = Arc<dyn Fn(&NodeId) -> Option<Member> + Send + Sync>;

/// Decides which callers are answered.
#[derive(Clone)]
pub struct Admission {
    cluster_name: String,
    members: Members,
    told: Arc<Mutex<HashMap<RefusedPeer, Instant>>>,
}

/// A refusal is traced again only after so long: a node that was removed asks many times a second.
const TELL_INTERVAL: Duration = Duration::from_secs(10);
/// Refusals of which is known when they were traced; beyond that all are forgotten.
const TOLD_MAX: usize = 64;

impl Admission {
    /// Admits nodes of `cluster_name` that are `members` at the time of the call.
    pub fn new(cluster_name: &str, members: Members) -> Admission {
        Admission { cluster_name: cluster_name.to_owned(), members, told: Arc::default() }
    }

    /// Who calls, if it is a member.
    pub fn admit<T>(&self, request: &Request<T>) -> Result<NodeId, Status> {
        let certificates = request.peer_certs();
        let first = certificates.as_ref().and_then(|certificates| certificates.first());
        let caller = match first {
            None => Err(RefusedPeer::NoCertificate),
            Some(certificate) => self.caller(certificate),
        };
        caller.map_err(|refusal| {
            if self.is_news(&refusal) {
                tracing::warn!(%refusal, "peer refused");
            }
            Status::permission_denied(refusal.to_string())
        })
    }

    fn is_news(&self, refusal: &RefusedPeer) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(refusal).is_some_and(|at| at.elapsed() < TELL_INTERVAL) {
            return false;
        }
        if told.len() >= TOLD_MAX {
            told.clear();
        }
        told.insert(refusal.clone(), Instant::now());
        true
    }

    fn caller(&self, certificate: &[u8]) -> Result<NodeId, RefusedPeer> {
        let foreign = || RefusedPeer::Foreign(self.cluster_name.clone());
        let names = certificate_names(certificate).map_err(|_| foreign())?;
        let suffix = name_suffix(&self.cluster_name);
        let node = |name: &String| name.strip_suffix(&suffix).and_then(|id| NodeId::parse(id).ok());
        let caller = names.iter().find_map(node).ok_or_else(foreign)?;
        match (self.members)(&caller) {
            None => Err(RefusedPeer::NotAMember(caller)),
            Some(Member { key: Some(key), .. }) if certificate_key(certificate).ok() != Some(key) => Err(RefusedPeer::OtherKey(caller)),
            Some(_) => Ok(caller),
        }
    }
}

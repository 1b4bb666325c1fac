//! Who a peer is: names in certificates, and who is admitted.

use std::sync::Arc;

use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};
use tonic::{Request, Status};
use types::NodeId;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The name that a node's certificate must carry.
pub fn peer_name(node_id: &NodeId, cluster_name: &str) -> String {
    format!("{node_id}{}", name_suffix(cluster_name))
}

fn name_suffix(cluster_name: &str) -> String {
    format!(".{cluster_name}.conclave.internal")
}

/// The DNS names in a certificate (DER), as they stand in its subject alternative names.
pub fn certificate_names(der: &[u8]) -> Result<Vec<String>, PeerTlsError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| PeerTlsError::Certificate(error.to_string()))?;
    let names = certificate.subject_alternative_name().map_err(|error| PeerTlsError::Certificate(error.to_string()))?;
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    };
    Ok(names.map(|names| names.value.general_names.iter().filter_map(dns).collect()).unwrap_or_default())
}

/// Why certificates cannot be used between peers.
#[derive(Debug, thiserror::Error)]
pub enum PeerTlsError {
    /// Not a certificate.
    #[error("not a usable certificate: {0}")]
    Certificate(String),
    /// It belongs to another node or cluster.
    #[error("the certificate is for {found:?}, not for {wanted:?}")]
    OtherNode {
        /// The name this node needs.
        wanted: String,
        /// The names it found.
        found: Vec<String>,
    },
}

/// This node's certificate and key and the cluster's CA, all PEM.
#[derive(Clone)]
pub struct PeerTls {
    cluster_name: String,
    ca: Certificate,
    identity: Identity,
}

impl PeerTls {
    /// Checks that the certificate names this node and this cluster.
    pub fn new(
        node_id: &NodeId,
        cluster_name: &str,
        ca_pem: &[u8],
        certificate_pem: &[u8],
        key_pem: &[u8],
    ) -> Result<PeerTls, PeerTlsError> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate_pem).map_err(|error| PeerTlsError::Certificate(error.to_string()))?;
        let found = certificate_names(&pem.contents)?;
        let wanted = peer_name(node_id, cluster_name);
        if !found.contains(&wanted) {
            return Err(PeerTlsError::OtherNode { wanted, found });
        }
        Ok(PeerTls {
            cluster_name: cluster_name.to_owned(),
            ca: Certificate::from_pem(ca_pem),
            identity: Identity::from_pem(certificate_pem, key_pem),
        })
    }

    /// For the peers' listener: only callers with a certificate of the cluster's CA get through.
    pub fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new().identity(self.identity.clone()).client_ca_root(self.ca.clone()).client_auth_optional(false)
    }

    /// For calls to `peer`: nobody else is accepted there.
    pub(crate) fn client(&self, peer: &NodeId) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .identity(self.identity.clone())
            .ca_certificate(self.ca.clone())
            .domain_name(peer_name(peer, &self.cluster_name))
    }
}

/// A caller that is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
}

/// Decides which callers are answered.
#[derive(Clone)]
pub struct Admission {
    cluster_name: String,
    is_member: Arc<dyn Fn(&NodeId) -> bool + Send + Sync>,
}

impl Admission {
    /// Admits nodes of `cluster_name` for which `is_member` holds at the time of the call.
    pub fn new(cluster_name: &str, is_member: Arc<dyn Fn(&NodeId) -> bool + Send + Sync>) -> Admission {
        Admission { cluster_name: cluster_name.to_owned(), is_member }
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
            tracing::warn!(%refusal, "peer refused");
            Status::permission_denied(refusal.to_string())
        })
    }

    fn caller(&self, certificate: &[u8]) -> Result<NodeId, RefusedPeer> {
        let foreign = || RefusedPeer::Foreign(self.cluster_name.clone());
        let names = certificate_names(certificate).map_err(|_| foreign())?;
        let suffix = name_suffix(&self.cluster_name);
        let node = |name: &String| name.strip_suffix(&suffix).and_then(|id| NodeId::parse(id).ok());
        let caller = names.iter().find_map(node).ok_or_else(foreign)?;
        if (self.is_member)(&caller) { Ok(caller) } else { Err(RefusedPeer::NotAMember(caller)) }
    }
}

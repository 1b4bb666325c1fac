//! The clients' TLS: certificate and key, versions, and what is asked of clients; can be read anew while connections go on.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use tokio_rustls::TlsAcceptor;

use crate::boot::RunError;
use crate::config::{ClientCertificate, TlsFiles, TlsVersion};

/// The TLS of a listener. Clones share it.
#[derive(Clone)]
pub(crate) struct ListenerTls(Arc<ArcSwap<ServerConfig>>);

impl ListenerTls {
    /// Reads the files.
    pub(crate) fn load(files: &TlsFiles) -> Result<ListenerTls, RunError> {
        Ok(ListenerTls(Arc::new(ArcSwap::from(read(files)?))))
    }

    /// Reads the files anew, for the connections to come. After an error all stays as it was.
    pub(crate) fn reload(&self, files: &TlsFiles) -> Result<(), RunError> {
        self.0.store(read(files)?);
        Ok(())
    }

    /// For one connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
    }
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, RunError> {
    let refuse = |error: &dyn std::fmt::Display| RunError::ListenerTls(error.to_string());
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(&files.cert).and_then(Iterator::collect).map_err(|error| refuse(&error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| refuse(&error))?;
    let versions: &[&rustls::SupportedProtocolVersion] = match files.min_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier: Arc<dyn ClientCertVerifier> = match &files.client_certificate {
        ClientCertificate::Off => WebPkiClientVerifier::no_client_auth(),
        ClientCertificate::Requested => Arc::new(Unverified(provider.signature_verification_algorithms)),
        ClientCertificate::Required { ca } => required(ca, &provider)?,
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| refuse(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| refuse(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The key in a certificate, whatever else the certificate says.
fn key_of(cert: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(cert).ok()?;
    Some(SubjectPublicKeyInfoDer::from(parsed.public_key().raw.to_vec()))
}

fn required(ca: &std::path::Path, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, RunError> {
    let refuse = |error: &dyn std::fmt::Display| RunError::ClientAuthority(error.to_string());
    let mut roots = RootCertStore::empty();
    let authorities = CertificateDer::pem_file_iter(ca).map_err(|error| refuse(&error))?;
    for authority in authorities {
        roots.add(authority.map_err(|error| refuse(&error))?).map_err(|error| refuse(&error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    Ok(verifier.map_err(|error| refuse(&error))?)
}

/// Takes any certificate of a client, or none, as Vault does: it proves that the client has the certificate's key, and nothing
/// else. Whoever relies on the certificate must verify it.
#[derive(Debug)]
struct Unverified(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for Unverified {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0).or_else(|error| match key_of(cert) {
            // A certificate of X.509 version 1, as `openssl x509 -req` makes them, is none to the first; its key is one.
            Some(key) => verify_tls13_signature_with_raw_key(message, &key, signed, &self.0),
            None => Err(error),
        })
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

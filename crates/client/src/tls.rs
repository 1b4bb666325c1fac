//! TLS on the way to the nodes: whom we trust, and the connector that gRPC uses.
//!
//! Always: the provider is aws-lc-rs, chosen here by name, so it does not matter what else the process installs;
//! TLS 1.2 or newer.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

/// The largest CA file that is read.
const CA_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Whom to trust.
pub(crate) struct Trust {
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) skip_verify: bool,
    pub(crate) server_name: Option<String>,
    /// Whether any address speaks TLS: only then is it an error to have nobody to trust.
    pub(crate) needed: bool,
}

/// Why the TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA file cannot be read.
    #[error("CA file {}: {source}", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The CA file holds no certificate that can be used.
    #[error("CA file {}: {reason} (it must hold PEM certificates)", file.display())]
    Certificates {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system's certificates cannot be used.
    #[error("the system's certificate authorities: {source} (give a CA file)")]
    System {
        /// Why not.
        source: rustls::Error,
    },
    /// No host name or IP address.
    #[error("TLS server name {name:?} is neither a host name nor an IP address")]
    ServerName {
        /// What was given.
        name: String,
    },
}

/// A configuration without ALPN; the caller says what it speaks.
pub(crate) fn config(trust: &Trust) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = verifier(trust, &provider)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs has the cipher suites of TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(config)
}

fn verifier(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    if trust.skip_verify {
        return Ok(Arc::new(AnyCertificate(provider.clone())));
    }
    let verifier: Arc<dyn ServerCertVerifier> = if let Some(file) = &trust.ca_file {
        let reason = |reason: String| TlsError::Certificates { file: file.clone(), reason };
        let roots = Arc::new(read_roots(file)?);
        WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build().map_err(|error| reason(error.to_string()))?
    } else if trust.needed {
        Arc::new(Verifier::new(provider.clone()).map_err(|source| TlsError::System { source })?)
    } else {
        Arc::new(NoCertificate(provider.clone()))
    };
    match &trust.server_name {
        None => Ok(verifier),
        Some(name) => {
            let parsed = ServerName::try_from(name.clone()).map_err(|_| TlsError::ServerName { name: name.clone() })?;
            Ok(Arc::new(NamedServer { name: parsed, verifier }))
        }
    }
}

fn read_roots(file: &PathBuf) -> Result<RootCertStore, TlsError> {
    let read = |source| TlsError::Read { file: file.clone(), source };
    let reason = |reason: String| TlsError::Certificates { file: file.clone(), reason };
    let size = std::fs::metadata(file).map_err(read)?.len();
    if size > CA_FILE_BYTES_MAX {
        return Err(reason(format!("is larger than {CA_FILE_BYTES_MAX} bytes")));
    }
    let pem = std::fs::read(file).map_err(read)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| reason(error.to_string()))?;
        roots.add(certificate).map_err(|error| reason(error.to_string()))?;
    }
    if roots.is_empty() { Err(reason("holds no certificate".to_owned())) } else { Ok(roots) }
}

/// Asks `verifier`, but for another name than the address's host.
#[derive(Debug)]
struct NamedServer {
    name: ServerName<'static>,
    verifier: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for NamedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Accepts every certificate; the peer still proves that it has the key of the one it shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

/// Accepts none: for clients whose addresses are all plain HTTP, and which were given nobody to trust.
#[derive(Debug)]
struct NoCertificate(Arc<CryptoProvider>);

macro_rules! signatures_by_provider {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    signatures_by_provider!();
}

impl ServerCertVerifier for NoCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Err(rustls::Error::General("nobody to trust: give a CA file".to_owned()))
    }

    signatures_by_provider!();
}

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
    verifier.map(|verifier| verifier as _).map_err(|error| refuse(&error))
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_rustls::{TlsConnector, client, server};

    use super::*;

    /// Writes a certificate for `localhost` and its key; answers the certificate.
    #[expect(clippy::disallowed_methods, reason = "a test's own files, which need not survive power loss")]
    fn issue(folder: &Path) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
        std::fs::set_permissions(folder.join("key.pem"), PermissionsExt::from_mode(0o600)).unwrap();
        certificate.der().clone()
    }

    fn files(folder: &Path, client_certificate: ClientCertificate) -> TlsFiles {
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        TlsFiles { cert, key, min_version: TlsVersion::Tls12, client_certificate }
    }

    /// Trusts anybody: what is shown is compared by the test.
    #[derive(Debug)]
    struct Anybody(WebPkiSupportedAlgorithms);

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _end_entity: &CertificateDer<'_>,
            _intermediates: &[CertificateDer<'_>],
            _server_name: &ServerName<'_>,
            _ocsp_response: &[u8],
            _now: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
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
            verify_tls13_signature(message, cert, signed, &self.0)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.supported_schemes()
        }
    }

    type Identity = (CertificateDer<'static>, KeyPair);
    type Ends = (client::TlsStream<DuplexStream>, server::TlsStream<DuplexStream>);

    /// Connects, and says a word in both directions, so that both ends know whether they are accepted.
    async fn connect(
        tls: &ListenerTls,
        identity: Option<&Identity>,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Result<Ends, std::io::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = Arc::new(Anybody(provider.signature_verification_algorithms));
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![certificate.clone()], key).unwrap()
            }
        };
        let (near, far) = tokio::io::duplex(16 * 1024);
        let name = ServerName::try_from("localhost").unwrap();
        let (near, far) = tokio::join!(TlsConnector::from(Arc::new(config)).connect(name, near), tls.acceptor().accept(far));
        let (mut near, mut far) = (near?, far?);
        say(&mut near, &mut far).await?;
        Ok((near, far))
    }

    async fn say(near: &mut client::TlsStream<DuplexStream>, far: &mut server::TlsStream<DuplexStream>) -> Result<(), std::io::Error> {
        near.write_all(b"ask").await?;
        far.read_exact(&mut [0; 3]).await?;
        far.write_all(b"tell").await?;
        near.read_exact(&mut [0; 4]).await?;
        Ok(())
    }

    #[tokio::test]
    async fn a_new_certificate_is_shown_to_new_connections_and_ends_none() {
        let folder = tempfile::tempdir().unwrap();
        let first = issue(folder.path());
        let files = files(folder.path(), ClientCertificate::Requested);
        let tls = ListenerTls::load(&files).unwrap();
        let (mut near, mut far) = connect(&tls, None, &rustls::version::TLS13).await.unwrap();
        assert_eq!(near.get_ref().1.peer_certificates().unwrap(), [first]);

        let second = issue(folder.path());
        tls.reload(&files).unwrap();
        say(&mut near, &mut far).await.unwrap();
        let (renewed, _) = connect(&tls, None, &rustls::version::TLS13).await.unwrap();
        assert_eq!(renewed.get_ref().1.peer_certificates().unwrap(), std::slice::from_ref(&second));

        // The key of another certificate, as while somebody copies the files: all stays as it was.
        let other = tempfile::tempdir().unwrap();
        issue(other.path());
        let mixed = TlsFiles { key: other.path().join("key.pem"), ..files.clone() };
        assert!(tls.reload(&mixed).is_err());
        let (kept, _) = connect(&tls, None, &rustls::version::TLS13).await.unwrap();
        assert_eq!(kept.get_ref().1.peer_certificates().unwrap(), [second]);
    }

    #[tokio::test]
    async fn clients_are_asked_for_what_the_configuration_says() {
        let folder = tempfile::tempdir().unwrap();
        issue(folder.path());
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let ca = folder.path().join("ca.pem");
        #[expect(clippy::disallowed_methods, reason = "a test's own file, which need not survive power loss")]
        std::fs::write(&ca, authority.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let of_authority: Identity = (CertificateParams::new([]).unwrap().signed_by(&key, &authority).unwrap().der().clone(), key);
        let key = KeyPair::generate().unwrap();
        let of_nobody: Identity = (CertificateParams::new([]).unwrap().self_signed(&key).unwrap().der().clone(), key);

        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            for (asked, identity, is_taken, is_seen) in [
                (ClientCertificate::Requested, None, true, false),
                (ClientCertificate::Requested, Some(&of_authority), true, true),
                (ClientCertificate::Requested, Some(&of_nobody), true, true),
                (ClientCertificate::Off, None, true, false),
                (ClientCertificate::Off, Some(&of_nobody), true, false),
                (ClientCertificate::Required { ca: ca.clone() }, None, false, false),
                (ClientCertificate::Required { ca: ca.clone() }, Some(&of_nobody), false, false),
                (ClientCertificate::Required { ca: ca.clone() }, Some(&of_authority), true, true),
            ] {
                let what = format!("{asked:?} {version:?} {:?}", identity.map(|(certificate, _)| certificate.len()));
                let tls = ListenerTls::load(&files(folder.path(), asked)).unwrap();
                match connect(&tls, identity, version).await {
                    Ok((_, far)) => {
                        assert!(is_taken, "{what}");
                        assert_eq!(far.get_ref().1.peer_certificates().is_some(), is_seen, "{what}");
                    }
                    Err(error) => assert!(!is_taken, "{what}: {error}"),
                }
            }
        }
    }

    #[tokio::test]
    async fn a_certificate_without_its_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        issue(folder.path());
        let tls = ListenerTls::load(&files(folder.path(), ClientCertificate::Requested)).unwrap();
        let theirs = CertificateParams::new([]).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
        let own_key = KeyPair::generate().unwrap();
        // Rustls' own client refuses such a pair, so the resolver hands it over unseen.
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&PrivateKeyDer::try_from(own_key.serialize_der()).unwrap()).unwrap();
        let thief = Arc::new(Thief(Arc::new(rustls::sign::CertifiedKey::new(vec![theirs], key))));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = Arc::new(Anybody(provider.signature_verification_algorithms));
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[version]).unwrap();
            let builder = builder.dangerous().with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>);
            let config = builder.with_client_cert_resolver(Arc::clone(&thief) as Arc<dyn rustls::client::ResolvesClientCert>);
            let (near, far) = tokio::io::duplex(16 * 1024);
            let name = ServerName::try_from("localhost").unwrap();
            let connecting = TlsConnector::from(Arc::new(config)).connect(name, near);
            let (_near, far) = tokio::join!(connecting, tls.acceptor().accept(far));
            assert!(far.is_err(), "{version:?}");
        }
    }

    #[derive(Debug)]
    struct Thief(Arc<rustls::sign::CertifiedKey>);

    impl rustls::client::ResolvesClientCert for Thief {
        fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }

        fn has_certs(&self) -> bool {
            true
        }
    }
}

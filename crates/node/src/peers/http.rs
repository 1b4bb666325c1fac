//! A call to another node's clients' API: one connection for each, JSON both ways, within limits.
//!
//! Always: what is sent holds no secret, and what comes back is believed for its own sake only, so a server's certificate need not be: it is
//! verified where an authority is named.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_TYPE, HOST};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::{Scheme, Url};

/// How long a call may take, all in all.
const CALL_MAX: Duration = Duration::from_secs(20);
const CONNECT_MAX: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Another node's clients' listener, and how it is reached.
#[derive(Clone)]
pub(crate) struct Target {
    address: Url,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// PEM texts by which a target is reached.
#[derive(Default)]
pub(crate) struct TargetTls {
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) client: Option<(Vec<u8>, crypto::Zeroizing<Vec<u8>>)>,
    pub(crate) server_name: Option<String>,
}

/// Why a call brought no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// What it is reached by is wrong.
    #[error("{0}")]
    Unusable(String),
    /// Nothing came back.
    #[error("{address}: {reason}")]
    Lost { address: String, reason: String },
    /// It said no.
    #[error("{address} answers {status}: {text}")]
    Refused { address: String, status: u16, text: String },
}

impl Target {
    pub(crate) fn new(address: Url, tls: &TargetTls) -> Result<Target, CallError> {
        let unusable = |error: &dyn std::fmt::Display| CallError::Unusable(error.to_string());
        if address.scheme() == Scheme::Http {
            return Ok(Target { address, tls: None });
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match &tls.ca {
            None => Arc::new(Anybody(provider.signature_verification_algorithms)),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for authority in CertificateDer::pem_slice_iter(pem) {
                    roots.add(authority.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
                }
                let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
                verifier.map_err(|error| unusable(&error))?
            }
        };
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|error| unusable(&error))?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let config = match &tls.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unusable(&error))?;
                builder.with_client_auth_cert(chain.map_err(|error| unusable(&error))?, key).map_err(|error| unusable(&error))?
            }
        };
        let name = tls.server_name.as_deref().unwrap_or(address.host()).trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name).map_err(|error| unusable(&error))?;
        Ok(Target { address, tls: Some((Arc::new(config), name)) })
    }

    pub(crate) fn address(&self) -> &Url {
        &self.address
    }

    /// Posts `body` to `/v1/path`, and answers `data` of what comes back.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        let lost = |reason: String| CallError::Lost { address: self.address.to_string(), reason };
        let answer = tokio::time::timeout(CALL_MAX, self.exchange(path, body)).await;
        let (status, bytes) = answer.unwrap_or_else(|_| Err(format!("no answer in {CALL_MAX:?}"))).map_err(lost)?;
        let json: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if (200..300).contains(&status) {
            return Ok(json.get("data").cloned().unwrap_or_default());
        }
        let errors = json.get("errors").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let text = errors.collect::<Vec<_>>().join("; ").chars().take(1000).filter(|letter| !letter.is_control()).collect();
        Err(CallError::Refused { address: self.address.to_string(), status, text })
    }

    async fn exchange(&self, path: &str, body: &Value) -> Result<(u16, Vec<u8>), String> {
        let connecting = TcpStream::connect((self.address.host().trim_matches(['[', ']']), self.address.port()));
        let stream = match tokio::time::timeout(CONNECT_MAX, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("no connection in {CONNECT_MAX:?}")),
        };
        match &self.tls {
            None => self.ask(stream, path, body).await,
            Some((config, name)) => {
                let stream =
                    TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream).await.map_err(|error| error.to_string())?;
                self.ask(stream, path, body).await
            }
        }
    }

    async fn ask(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        path: &str,
        body: &Value,
    ) -> Result<(u16, Vec<u8>), String> {
        let said = |error: hyper::Error| error.to_string();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(said)?;
        let request = http::Request::post(format!("/v1/{path}"))
            .header(HOST, self.address.authority())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(bytes::Bytes::from(body.to_string())))
            .map_err(|error| error.to_string())?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(said)?;
            let status = response.status().as_u16();
            let whole = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
            Ok((status, whole.to_bytes().to_vec()))
        };
        tokio::pin!(exchange, connection);
        tokio::select! {
            biased;
            answer = &mut exchange => answer,
            // It drives the exchange, and may end before that has read the last of it.
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

/// Bytes out of base64 in an answer.
pub(crate) fn decoded(answer: &Value, name: &str) -> Option<bytes::Bytes> {
    Some(STANDARD.decode(answer.get(name)?.as_str()?).ok()?.into())
}

/// Bytes as base64, for a request.
pub(crate) fn encoded(bytes: &[u8]) -> Value {
    Value::String(STANDARD.encode(bytes))
}

/// Takes any server's certificate: what is asked and answered does not rest on it.
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

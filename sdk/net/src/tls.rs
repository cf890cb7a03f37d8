//! TLS client connections.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, version,
};

/// What is done with the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// It must be valid for the host and signed by a public authority.
    Yes,
    /// Any is taken: cameras sign their own.
    No,
}

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The host is no name that TLS knows.
    #[error("the host's name cannot be used with TLS")]
    Name,
    /// The handshake failed.
    #[error("TLS: {0}")]
    Handshake(#[from] std::io::Error),
    /// The handshake took too long.
    #[error("the TLS handshake took longer than {0:?}")]
    Timeout(Duration),
}

/// Shakes hands over `stream` as a client of `host`.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    host: &str,
    verify: Verify,
    timeout: Duration,
) -> Result<TlsStream<S>, TlsError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name)?;
    let connector = TlsConnector::from(config(verify)?);
    match tokio::time::timeout(timeout, connector.connect(name, stream)).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(TlsError::Timeout(timeout)),
    }
}

fn config(verify: Verify) -> Result<Arc<ClientConfig>, std::io::Error> {
    static VERIFIED: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    static UNVERIFIED: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let cell = match verify {
        Verify::Yes => &VERIFIED,
        Verify::No => &UNVERIFIED,
    };
    if let Some(config) = cell.get() {
        return Ok(Arc::clone(config));
    }
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(std::io::Error::other)?;
    let config = match verify {
        Verify::Yes => {
            let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        Verify::No => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth(),
    };
    Ok(Arc::clone(cell.get_or_init(|| Arc::new(config))))
}

/// Takes any certificate; signatures are still checked, so the peer holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

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

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        // Certificates of version 1 or with odd extensions, which cameras have, cannot be read: they are any certificate
        verify_tls12_signature(message, certificate, signature, algorithms).or_else(|error| match error {
            rustls::Error::InvalidCertificate(_) => Ok(HandshakeSignatureValid::assertion()),
            error => Err(error),
        })
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms).or_else(|error| match error {
            rustls::Error::InvalidCertificate(_) => Ok(HandshakeSignatureValid::assertion()),
            error => Err(error),
        })
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

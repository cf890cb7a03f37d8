//! TLS connections: to servers, and of clients.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme, version,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::SourceUrl;

/// What is done with the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// It must be valid for the host and signed by a public authority.
    Yes,
    /// Any is taken: cameras sign their own.
    No,
}

impl Verify {
    /// What is done when a URL does not say: a name has a certificate, an address has none that could be verified.
    pub fn of(url: &SourceUrl) -> Self {
        if url.host_is_ip() { Self::No } else { Self::Yes }
    }
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

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}")]
    File {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// There is no certificate in what should hold one.
    #[error("there is no certificate in PEM in the certificate's text")]
    Certificate,
    /// There is no key in what should hold one.
    #[error("there is no private key in PEM in the key's text")]
    Key,
    /// They do not fit together, or are of a kind that is not supported.
    #[error("the certificate and its key cannot be used: {0}")]
    Refused(#[from] rustls::Error),
}

/// Takes TLS connections with this certificate (chain) and private key: paths of PEM files, or the PEM text itself when
/// there is a line end in it.
pub fn acceptor(certificate: &str, key: &str) -> Result<TlsAcceptor, IdentityError> {
    let certificate = pem(certificate)?;
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(&certificate).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(IdentityError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&pem(key)?).map_err(|_| IdentityError::Key)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn pem(text: &str) -> Result<Vec<u8>, IdentityError> {
    if text.contains('\n') {
        return Ok(text.as_bytes().to_vec());
    }
    std::fs::read(text).map_err(|error| IdentityError::File { path: text.to_owned(), error })
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

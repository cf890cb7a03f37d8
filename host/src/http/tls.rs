//! The API's certificate.

use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig, version};

/// HTTP/2 among the protocols that TLS agrees on.
pub(super) const HTTP_2: &[u8] = b"h2";

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum IdentityError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}")]
    File {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// There is no certificate in what should hold one.
    #[error("tls_cert holds no certificate in PEM")]
    Certificate,
    /// There is no key in what should hold one.
    #[error("tls_key holds no private key in PEM")]
    Key,
    /// They do not fit together, or are of a kind that is not supported.
    #[error("tls_cert and tls_key cannot be used: {0}")]
    Refused(#[from] rustls::Error),
}

/// Takes TLS connections with this certificate (chain) and private key: paths of PEM files, or the PEM text itself when
/// there is a line end in it.
pub(super) fn acceptor(certificate: &str, key: &str) -> Result<TlsAcceptor, IdentityError> {
    let certificate = pem(certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(IdentityError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&pem(key)?).map_err(|_| IdentityError::Key)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![HTTP_2.to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn pem(text: &str) -> Result<Vec<u8>, IdentityError> {
    if text.contains('\n') {
        return Ok(text.as_bytes().to_vec());
    }
    std::fs::read(text).map_err(|error| IdentityError::File { path: text.to_owned(), error })
}

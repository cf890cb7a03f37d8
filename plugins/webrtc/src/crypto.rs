//! The crypto of `rtc`, with one more curve: FFmpeg's WHIP shows a P-224 key, which `ring` does not know.

use std::sync::Arc;

use p224::ecdsa::signature::hazmat::PrehashVerifier as _;
use p224::ecdsa::{Signature, VerifyingKey};
use rtc::crypto::providers::RingProvider;
use rtc::crypto::{CryptoError, PublicKey, RTCCryptoProvider, SignatureScheme};
use sha2::{Digest as _, Sha256};

mod over;

pub(crate) use over::{Layer, Over};

/// Bytes of an uncompressed P-224 point.
const P224_POINT_LEN: usize = 57;

/// `ring`, and signatures of P-224 keys.
pub struct Provider(RingProvider);

impl Provider {
    /// The provider, to be shared by all connections.
    pub fn shared() -> Arc<dyn RTCCryptoProvider> {
        Arc::new(Over(Self(RingProvider::new())))
    }
}

impl Layer for Provider {
    fn below(&self) -> &dyn RTCCryptoProvider {
        &self.0
    }

    fn name(&self) -> &'static str {
        "ring and p224"
    }

    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        public_key: PublicKey<'_>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        if scheme == SignatureScheme::EcdsaP256Sha256 && public_key.bytes.len() == P224_POINT_LEN {
            return verify_p224(public_key.bytes, message, signature);
        }
        self.0.crypto().verify_signature(scheme, public_key, message, signature)
    }
}

/// ECDSA over P-224 with SHA-256, of which the leftmost 224 bits count (FIPS 186-4 section 6.4).
fn verify_p224(point: &[u8], message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
    let key = VerifyingKey::from_sec1_bytes(point).map_err(|_| CryptoError::InvalidSignature)?;
    let signature = Signature::from_der(signature).map_err(|_| CryptoError::InvalidSignature)?;
    key.verify_prehash(&Sha256::digest(message), &signature).map_err(|_| CryptoError::InvalidSignature)
}

#[cfg(test)]
mod tests {
    use p224::ecdsa::SigningKey;
    use p224::ecdsa::signature::hazmat::PrehashSigner as _;
    use rtc::crypto::PublicKeyEncoding;

    use super::*;

    #[test]
    fn a_p224_key_is_verified_as_such() {
        let key = SigningKey::from_slice(&[7; 28]).unwrap();
        let signature: Signature = key.sign_prehash(&Sha256::digest(b"hello")).unwrap();
        let point = key.verifying_key().to_encoded_point(false);
        let public = PublicKey { encoding: PublicKeyEncoding::EcUncompressedPoint, bytes: point.as_bytes() };
        assert_eq!(public.bytes.len(), P224_POINT_LEN);
        let provider = Provider::shared();
        let verify = |message: &[u8]| {
            let scheme = SignatureScheme::EcdsaP256Sha256;
            provider.crypto().verify_signature(scheme, public, message, signature.to_der().as_bytes())
        };
        assert!(verify(b"hello").is_ok());
        assert!(verify(b"hellp").is_err());
    }
}

//! The crypto of `rtc`, with one more curve: FFmpeg's WHIP shows a P-224 key, which `ring` does not know.

use std::sync::Arc;

use p224::ecdsa::signature::hazmat::PrehashVerifier as _;
use p224::ecdsa::{Signature, VerifyingKey};
use rtc::crypto::providers::RingProvider;
use rtc::crypto::{
    ActiveKeyExchange, AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CbcAlgorithm, CbcCipher,
    CryptoAlgorithm, CryptoError, HashAlgorithm, HmacAlgorithm, KeyExchangeAlgorithm, Mac, PublicKey,
    RTCCrypto, RTCCryptoProvider, RTCRandom, SignatureScheme, SigningKey, StreamCipher,
    StreamCipherAlgorithm,
};
use sha2::{Digest as _, Sha256};

/// Bytes of an uncompressed P-224 point.
const P224_POINT_LEN: usize = 57;

/// `ring`, and signatures of P-224 keys.
pub struct Provider(RingProvider);

impl Provider {
    /// The provider, to be shared by all connections.
    pub fn shared() -> Arc<dyn RTCCryptoProvider> {
        Arc::new(Self(RingProvider::new()))
    }
}

impl RTCCryptoProvider for Provider {
    fn name(&self) -> &'static str {
        "ring and p224"
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        self
    }

    fn random(&self) -> &dyn RTCRandom {
        self.0.random()
    }
}

impl RTCCrypto for Provider {
    fn supports(&self, algorithm: CryptoAlgorithm) -> bool {
        self.0.crypto().supports(algorithm)
    }

    fn hash(&self, algorithm: HashAlgorithm, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.0.crypto().hash(algorithm, data)
    }

    fn block_encrypt(
        &self,
        algorithm: BlockCipherAlgorithm,
        key: &[u8],
        block: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.0.crypto().block_encrypt(algorithm, key, block)
    }

    fn new_hmac(&self, algorithm: HmacAlgorithm, key: &[u8]) -> Result<Box<dyn Mac>, CryptoError> {
        self.0.crypto().new_hmac(algorithm, key)
    }

    fn new_stream_cipher(
        &self,
        algorithm: StreamCipherAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn StreamCipher>, CryptoError> {
        self.0.crypto().new_stream_cipher(algorithm, key)
    }

    fn new_aead(&self, algorithm: AeadAlgorithm, key: &[u8]) -> Result<Box<dyn AeadCipher>, CryptoError> {
        self.0.crypto().new_aead(algorithm, key)
    }

    fn new_cbc(&self, algorithm: CbcAlgorithm, key: &[u8]) -> Result<Box<dyn CbcCipher>, CryptoError> {
        self.0.crypto().new_cbc(algorithm, key)
    }

    fn start_key_exchange(
        &self,
        algorithm: KeyExchangeAlgorithm,
    ) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        self.0.crypto().start_key_exchange(algorithm)
    }

    fn generate_signing_key(&self, scheme: SignatureScheme) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.0.crypto().generate_signing_key(scheme)
    }

    fn import_signing_key(
        &self,
        scheme: SignatureScheme,
        pkcs8_der: &[u8],
    ) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.0.crypto().import_signing_key(scheme, pkcs8_der)
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

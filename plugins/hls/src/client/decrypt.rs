//! Segments encrypted with AES-128 in CBC mode and PKCS #7 padding. RFC 8216 4.3.2.4 and 5.2.

use aes::Aes128;
use aes::cipher::{BlockDecryptMut as _, KeyIvInit as _};
use bytes::{Bytes, BytesMut};

/// Bytes of a key and of a block.
pub const BLOCK: usize = 16;

/// Why a segment cannot be decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecryptError {
    /// Its length is no multiple of a block.
    #[error("an encrypted segment is cut")]
    Cut,
    /// Its end is not as it should be: most often the key is another one.
    #[error("an encrypted segment does not fit its key")]
    Padding,
}

/// Decrypts one segment as its bytes come.
pub struct Decryptor {
    cipher: cbc::Decryptor<Aes128>,
    held: BytesMut,
}

impl Decryptor {
    /// With this key and initialization vector.
    pub fn new(key: [u8; BLOCK], iv: u128) -> Self {
        let cipher = cbc::Decryptor::new(&key.into(), &iv.to_be_bytes().into());
        Self { cipher, held: BytesMut::new() }
    }

    /// What these bytes make plain. The last block is held: it has the padding.
    pub fn push(&mut self, data: &[u8]) -> Bytes {
        self.held.extend_from_slice(data);
        let whole = self.held.len().saturating_sub(1) / BLOCK * BLOCK;
        let mut blocks = self.held.split_to(whole);
        for block in blocks.chunks_exact_mut(BLOCK) {
            self.cipher.decrypt_block_mut(block.into());
        }
        blocks.freeze()
    }

    /// The end of the segment.
    pub fn end(mut self) -> Result<Bytes, DecryptError> {
        let mut last = std::mem::take(&mut self.held);
        if last.len() != BLOCK {
            return Err(DecryptError::Cut);
        }
        self.cipher.decrypt_block_mut(last.as_mut().into());
        let padding = usize::from(last.last().copied().unwrap_or(0));
        let kept = BLOCK.checked_sub(padding).filter(|kept| *kept < BLOCK).ok_or(DecryptError::Padding)?;
        if last.iter().skip(kept).any(|byte| usize::from(*byte) != padding) {
            return Err(DecryptError::Padding);
        }
        last.truncate(kept);
        Ok(last.freeze())
    }
}

#[cfg(test)]
mod tests {
    use aes::cipher::BlockEncryptMut as _;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_vector_of_nist_sp_800_38a() {
        // F.2.2 CBC-AES128.Decrypt, block 1.
        let key = 0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c_u128.to_be_bytes();
        let cipher = 0x7649_abac_8119_b246_cee9_8e9b_12e9_197d_u128.to_be_bytes();
        let mut decryptor = Decryptor::new(key, 0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
        assert!(decryptor.push(&cipher).is_empty());
        let plain = decryptor.push(&[0]);
        assert_eq!(plain.as_ref(), 0x6bc1_bee2_2e40_9f96_e93d_7e11_7393_172a_u128.to_be_bytes());
        assert_eq!(decryptor.end(), Err(DecryptError::Cut));
        assert_eq!(Decryptor::new(key, 0).end(), Err(DecryptError::Cut));
    }

    proptest! {
        #[test]
        fn what_is_encrypted_is_decrypted(data: Vec<u8>, key: [u8; 16], iv: u128, chunk in 1_usize..40) {
            let mut encryptor = cbc::Encryptor::<Aes128>::new(&key.into(), &iv.to_be_bytes().into());
            let padding = BLOCK - data.len() % BLOCK;
            let mut secret = data.clone();
            secret.resize(data.len() + padding, u8::try_from(padding).unwrap());
            for block in secret.chunks_exact_mut(BLOCK) {
                encryptor.encrypt_block_mut(block.into());
            }
            let mut decryptor = Decryptor::new(key, iv);
            let mut plain = Vec::new();
            for piece in secret.chunks(chunk) {
                plain.extend_from_slice(&decryptor.push(piece));
            }
            plain.extend_from_slice(&decryptor.end().unwrap());
            prop_assert_eq!(plain, data);
        }

        #[test]
        fn any_bytes_never_panic(data: Vec<u8>, key: [u8; 16]) {
            let mut decryptor = Decryptor::new(key, 0);
            let _ = decryptor.push(&data);
            let _ = decryptor.end();
        }
    }
}

//! SRTP of outgoing packets (RFC 3711, RFC 7714), in place and without the layers of the connection.
//!
//! The connection makes the keys in its handshake and keeps them; what protects media packets of this side is learned by a
//! packet that never leaves (see [`Tap`]). From then on packets of media are written, encrypted and handed to the socket here,
//! once each. Everything else, RTCP too, goes its usual way.

use rtc::crypto::{AeadCipher, CryptoError, Mac, StreamCipher};

mod tap;

pub use tap::{Tap, watch};

/// Bytes of an RTP header without extensions.
pub const HEADER_LEN: usize = 12;

/// Bytes of a tag of AES-GCM.
const GCM_TAG_LEN: usize = 16;

/// Bytes of a tag of HMAC-SHA1 before it is cut.
const SHA1_LEN: usize = 20;

/// What a packet's header says besides its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Payload type.
    pub payload_type: u8,
    /// The marker bit.
    pub is_marked: bool,
    /// Sequence number, counted on past 65,535; the upper part is the rollover counter.
    pub index: u64,
    /// RTP time.
    pub timestamp: u32,
    /// The stream.
    pub ssrc: u32,
}

impl Head {
    fn bytes(&self) -> [u8; HEADER_LEN] {
        let [s0, s1] = self.sequence().to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [r0, r1, r2, r3] = self.ssrc.to_be_bytes();
        let marked = u8::from(self.is_marked) << 7;
        [0x80, self.payload_type & 0x7f | marked, s0, s1, t0, t1, t2, t3, r0, r1, r2, r3]
    }

    fn sequence(&self) -> u16 {
        (self.index & 0xffff) as u16
    }

    fn rollover(&self) -> u32 {
        (self.index >> 16) as u32
    }
}

/// Encrypts and authenticates packets of one direction of one connection.
pub struct Sealer {
    transform: Transform,
    tag_len: usize,
}

enum Transform {
    /// RFC 7714.
    Gcm { cipher: Box<dyn AeadCipher>, salt: [u8; 12] },
    /// RFC 3711 sections 4.1.1 and 4.2.1.
    Counter { cipher: Box<dyn StreamCipher>, mac: Box<dyn Mac>, salt: [u8; 14] },
}

impl Sealer {
    /// AES-GCM with this session salt.
    pub fn gcm(cipher: Box<dyn AeadCipher>, salt: [u8; 12]) -> Self {
        Self { transform: Transform::Gcm { cipher, salt }, tag_len: GCM_TAG_LEN }
    }

    /// AES in counter mode with HMAC-SHA1, cut to `tag_len` bytes.
    pub fn counter(cipher: Box<dyn StreamCipher>, mac: Box<dyn Mac>, salt: [u8; 14], tag_len: usize) -> Self {
        Self { transform: Transform::Counter { cipher, mac, salt }, tag_len: tag_len.min(SHA1_LEN) }
    }

    /// Bytes of a packet with so many bytes of payload.
    pub fn packet_len(&self, payload_len: usize) -> usize {
        HEADER_LEN + payload_len + self.tag_len
    }

    /// Appends a packet to `bytes`: the header, the parts of its payload one after the other, and its tag. After an error
    /// `bytes` is as it was.
    pub fn seal(&mut self, bytes: &mut Vec<u8>, head: &Head, payload: &[&[u8]]) -> Result<(), CryptoError> {
        let start = bytes.len();
        bytes.extend_from_slice(&head.bytes());
        for part in payload {
            bytes.extend_from_slice(part);
        }
        let sealed = self.seal_from(bytes, start, head);
        if sealed.is_err() {
            bytes.truncate(start);
        }
        sealed
    }

    fn seal_from(&mut self, bytes: &mut Vec<u8>, start: usize, head: &Head) -> Result<(), CryptoError> {
        let packet = bytes.get_mut(start..).unwrap_or_default();
        let Some((header, payload)) = packet.split_first_chunk_mut::<HEADER_LEN>() else {
            return Err(CryptoError::Provider("no packet".to_owned()));
        };
        match &mut self.transform {
            Transform::Gcm { cipher, salt } => {
                let mut tag = [0; GCM_TAG_LEN];
                cipher.seal_in_place(&gcm_nonce(salt, head), header, payload, &mut tag)?;
                bytes.extend_from_slice(&tag);
            }
            Transform::Counter { cipher, mac, salt } => {
                cipher.apply_keystream(&counter_block(salt, head), payload)?;
                let mut tag = [0; SHA1_LEN];
                mac.sign(&[packet, &head.rollover().to_be_bytes()], &mut tag)?;
                bytes.extend_from_slice(tag.get(..self.tag_len).unwrap_or_default());
            }
        }
        Ok(())
    }
}

/// RFC 7714 section 8.1. Applied to a nonce instead of the salt it gives the salt.
fn gcm_nonce(salt: &[u8; 12], head: &Head) -> [u8; 12] {
    let number =
        u128::from(head.ssrc) << 48 | u128::from(head.rollover()) << 16 | u128::from(head.sequence());
    let mut nonce = *salt;
    let mask = number.to_be_bytes();
    nonce.iter_mut().zip(mask.iter().skip(4)).for_each(|(byte, mask)| *byte ^= mask);
    nonce
}

/// RFC 3711 section 4.1.1: the salt 16 bits up, with the stream 64 bits up and the packet's index 16 bits up. Applied to a
/// block without its last two bytes it gives the salt.
fn counter_block(salt: &[u8; 14], head: &Head) -> [u8; 16] {
    let number = u128::from(head.ssrc) << 64 | u128::from(head.index & 0xffff_ffff_ffff) << 16;
    let mut block = number.to_be_bytes();
    block.iter_mut().zip(salt).for_each(|(byte, salt)| *byte ^= salt);
    block
}

#[cfg(test)]
mod tests;

//! How a [`Sealer`] gets its keys: the connection's crypto is asked to encrypt a packet that is known beforehand.
//!
//! A connection makes ciphers by its crypto provider, one for each direction and for RTP and RTCP, and does not say which
//! is which. So each keeps a copy of its key, and a probe is sent through the connection: the cipher that meets exactly
//! this packet is the one of outgoing RTP, and from the nonce it is given follows the salt. The probe comes out encrypted and is
//! thrown away; its stream is used for nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;
use rtc::crypto::{
    AeadAlgorithm, AeadCipher, CryptoError, HmacAlgorithm, Mac, RTCCryptoProvider, SecretVec, StreamCipher,
    StreamCipherAlgorithm,
};

use super::{HEADER_LEN, Head, Sealer, counter_block, gcm_nonce};
use crate::crypto::{Layer, Over};

/// Bytes of a probe's payload.
const PROBE_LEN: usize = 16;

/// Learns the keys of outgoing RTP of one connection.
pub struct Tap {
    crypto: Arc<dyn RTCCryptoProvider>,
    head: Head,
    payload: [u8; PROBE_LEN],
    /// Nothing is learned any more.
    is_known: AtomicBool,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    aead: Option<(AeadAlgorithm, SecretVec, [u8; 12])>,
    stream: Option<(StreamCipherAlgorithm, SecretVec, [u8; 14])>,
    mac: Option<SecretVec>,
}

/// A provider for one connection that does what `crypto` does, and what learns from it.
pub fn watch(crypto: &Arc<dyn RTCCryptoProvider>) -> (Arc<dyn RTCCryptoProvider>, Arc<Tap>) {
    let head =
        Head { payload_type: 0, is_marked: false, index: 0, timestamp: rand::random(), ssrc: rand::random() };
    let tap = Arc::new(Tap {
        crypto: Arc::clone(crypto),
        head,
        payload: rand::random(),
        is_known: AtomicBool::new(false),
        found: Mutex::default(),
    });
    (Arc::new(Over(Watched(Arc::clone(&tap)))), tap)
}

impl Tap {
    /// The packet to send through the connection.
    pub fn probe(&self) -> rtc::rtp::Packet {
        rtc::rtp::Packet {
            header: rtc::rtp::Header {
                version: 2,
                payload_type: self.head.payload_type,
                sequence_number: self.head.sequence(),
                timestamp: self.head.timestamp,
                ssrc: self.head.ssrc,
                ..rtc::rtp::Header::default()
            },
            payload: self.payload.to_vec().into(),
        }
    }

    /// Whether a packet that comes out of the connection is the probe: it must not leave.
    pub fn is_probe(&self, packet: &[u8]) -> bool {
        packet.first_chunk::<HEADER_LEN>() == Some(&self.head.bytes())
    }

    /// What encrypts as the connection did when `packet` came out of it; `None` when that was not seen.
    pub fn sealer(&self, packet: &[u8]) -> Option<Sealer> {
        let found = std::mem::take(&mut *self.found.lock());
        let crypto = self.crypto.crypto();
        let tag_len = packet.len().checked_sub(HEADER_LEN + PROBE_LEN)?;
        let sealer = if let Some((algorithm, key, salt)) = found.aead {
            Sealer::gcm(crypto.new_aead(algorithm, key.as_ref()).ok()?, salt)
        } else {
            let (algorithm, key, salt) = found.stream?;
            let cipher = crypto.new_stream_cipher(algorithm, key.as_ref()).ok()?;
            let mac = crypto.new_hmac(HmacAlgorithm::Sha1, found.mac?.as_ref()).ok()?;
            Sealer::counter(cipher, mac, salt, tag_len)
        };
        self.is_known.store(true, Relaxed);
        Some(sealer)
    }

    fn is_learning(&self) -> bool {
        !self.is_known.load(Relaxed)
    }
}

struct Watched(Arc<Tap>);

impl Layer for Watched {
    fn below(&self) -> &dyn RTCCryptoProvider {
        &*self.0.crypto
    }

    fn new_hmac(&self, algorithm: HmacAlgorithm, key: &[u8]) -> Result<Box<dyn Mac>, CryptoError> {
        let inner = self.below().crypto().new_hmac(algorithm, key)?;
        if algorithm != HmacAlgorithm::Sha1 {
            return Ok(inner);
        }
        Ok(Box::new(WatchedMac { inner, key: SecretVec::new(key.to_vec()), tap: Arc::clone(&self.0) }))
    }

    fn new_stream_cipher(
        &self,
        algorithm: StreamCipherAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn StreamCipher>, CryptoError> {
        let inner = self.below().crypto().new_stream_cipher(algorithm, key)?;
        let key = SecretVec::new(key.to_vec());
        Ok(Box::new(WatchedStream { inner, algorithm, key, tap: Arc::clone(&self.0) }))
    }

    fn new_aead(&self, algorithm: AeadAlgorithm, key: &[u8]) -> Result<Box<dyn AeadCipher>, CryptoError> {
        let inner = self.below().crypto().new_aead(algorithm, key)?;
        let key = SecretVec::new(key.to_vec());
        Ok(Box::new(WatchedAead { inner, algorithm, key, tap: Arc::clone(&self.0) }))
    }
}

struct WatchedAead {
    inner: Box<dyn AeadCipher>,
    algorithm: AeadAlgorithm,
    key: SecretVec,
    tap: Arc<Tap>,
}

impl AeadCipher for WatchedAead {
    fn tag_len(&self) -> usize {
        self.inner.tag_len()
    }

    fn seal_in_place(
        &mut self,
        nonce: &[u8],
        aad: &[u8],
        data: &mut [u8],
        tag: &mut [u8],
    ) -> Result<(), CryptoError> {
        if self.tap.is_learning()
            && aad == self.tap.head.bytes()
            && data == self.tap.payload
            && let Ok(nonce) = nonce.try_into()
        {
            let salt = gcm_nonce(nonce, &self.tap.head);
            self.tap.found.lock().aead = Some((self.algorithm, self.key.clone(), salt));
        }
        self.inner.seal_in_place(nonce, aad, data, tag)
    }

    fn open_in_place(
        &mut self,
        nonce: &[u8],
        aad: &[u8],
        data: &mut [u8],
        tag: &[u8],
    ) -> Result<(), CryptoError> {
        self.inner.open_in_place(nonce, aad, data, tag)
    }
}

struct WatchedStream {
    inner: Box<dyn StreamCipher>,
    algorithm: StreamCipherAlgorithm,
    key: SecretVec,
    tap: Arc<Tap>,
}

impl StreamCipher for WatchedStream {
    fn apply_keystream(&mut self, iv: &[u8], data: &mut [u8]) -> Result<(), CryptoError> {
        if self.tap.is_learning()
            && data == self.tap.payload
            && let Some(iv) = iv.first_chunk::<14>()
            && let Some(salt) = counter_block(iv, &self.tap.head).first_chunk::<14>()
        {
            self.tap.found.lock().stream = Some((self.algorithm, self.key.clone(), *salt));
        }
        self.inner.apply_keystream(iv, data)
    }
}

struct WatchedMac {
    inner: Box<dyn Mac>,
    key: SecretVec,
    tap: Arc<Tap>,
}

impl Mac for WatchedMac {
    fn output_len(&self) -> usize {
        self.inner.output_len()
    }

    fn sign(&mut self, input: &[&[u8]], output: &mut [u8]) -> Result<(), CryptoError> {
        if self.tap.is_learning() && input.first().is_some_and(|packet| self.tap.is_probe(packet)) {
            self.tap.found.lock().mac = Some(self.key.clone());
        }
        self.inner.sign(input, output)
    }

    fn verify(&mut self, input: &[&[u8]], expected: &[u8]) -> Result<(), CryptoError> {
        self.inner.verify(input, expected)
    }
}

use rtc::crypto::{AeadAlgorithm, HmacAlgorithm, StreamCipherAlgorithm};

use super::*;
use crate::crypto::Provider;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn the_packet_of_rfc_7714() {
    // Section 16.1.1.
    let key = bytes("000102030405060708090a0b0c0d0e0f");
    let salt = bytes("517569642070726f2071756f").try_into().unwrap();
    let cipher = Provider::shared().crypto().new_aead(AeadAlgorithm::Aes128Gcm, &key).unwrap();
    let mut sealer = Sealer::gcm(cipher, salt);
    let head = Head {
        payload_type: 0x40,
        is_marked: false,
        index: 0xf17b,
        timestamp: 0x8041_f8d3,
        ssrc: 0x5501_a0b2,
    };
    let mut packet = vec![1, 2, 3];
    sealer.seal(&mut packet, &head, &[b"Gallia est omnis ", b"divisa in partes tres"]).unwrap();
    let expected = bytes(
        "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf \
         8833899d 7f27beb1 6a9152cf 765ee439 0cce",
    );
    assert_eq!(&packet[..3], [1, 2, 3]);
    assert_eq!(&packet[3..], expected);
    assert_eq!(expected.len(), sealer.packet_len(38));
}

#[test]
fn the_key_stream_of_rfc_3711() {
    // Appendix B.2; the tag is checked by a whole connection, see tests/peer.rs.
    let key = bytes("2b7e151628aed2a6abf7158809cf4f3c");
    let salt = bytes("f0f1f2f3f4f5f6f7f8f9fafbfcfd").try_into().unwrap();
    let provider = Provider::shared();
    let cipher = provider.crypto().new_stream_cipher(StreamCipherAlgorithm::Aes128Ctr, &key).unwrap();
    let mac = provider.crypto().new_hmac(HmacAlgorithm::Sha1, &[0; 20]).unwrap();
    let mut sealer = Sealer::counter(cipher, mac, salt, 10);
    let head = Head { payload_type: 0, is_marked: true, index: 0, timestamp: 0, ssrc: 0 };
    let mut packet = Vec::new();
    sealer.seal(&mut packet, &head, &[&[0; 32]]).unwrap();
    assert_eq!(&packet[..4], [0x80, 0x80, 0, 0]);
    assert_eq!(&packet[12..44], bytes("e03ead0935c95e80e166b16dd92b4eb4 d23513162b02d0f72a43a2fe4a5f97ab"));
    assert_eq!(packet.len(), sealer.packet_len(32));
}

#[test]
fn nonces_give_their_salt_back() {
    let head = Head {
        payload_type: 0,
        is_marked: false,
        index: 0x1_2345_6789_abcd,
        timestamp: 0,
        ssrc: 0xdead_beef,
    };
    let salt = [7; 12];
    assert_eq!(gcm_nonce(&gcm_nonce(&salt, &head), &head), salt);
    // 16 bits of zero, stream, rollover counter, sequence number.
    assert_eq!(
        gcm_nonce(&[0; 12], &head),
        [0, 0, 0xde, 0xad, 0xbe, 0xef, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd]
    );
    let block = counter_block(&[0; 14], &head);
    assert_eq!(block, [0, 0, 0, 0, 0xde, 0xad, 0xbe, 0xef, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0, 0]);
    let start = *counter_block(&[7; 14], &head).first_chunk::<14>().unwrap();
    assert_eq!(counter_block(&start, &head).first_chunk::<14>(), Some(&[7; 14]));
}

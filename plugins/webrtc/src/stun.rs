//! The little of STUN (RFC 8489) that is needed beside the ICE agent: to whom a request belongs, and one's own public
//! address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hmac::{Hmac, Mac as _};
use sha1::Sha1;

/// Bytes of a message's head.
const HEAD_LEN: usize = 20;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_INDICATION: u16 = 0x0011;
const BINDING_SUCCESS: u16 = 0x0101;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// Bytes of MESSAGE-INTEGRITY's value.
const INTEGRITY_LEN: usize = 20;

/// Whether a datagram is STUN rather than DTLS or SRTP (RFC 7983 section 7).
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|byte| *byte < 4) && datagram.get(4..8) == Some(&COOKIE)
}

/// A binding request of an ICE agent.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    datagram: &'a [u8],
    /// User fragment of the side that it is sent to: what stands before the colon of USERNAME.
    pub ufrag: &'a str,
    /// Where MESSAGE-INTEGRITY begins, and its value.
    integrity: Option<(usize, &'a [u8])>,
}

impl<'a> Request<'a> {
    /// Reads a datagram; `None` when it is no binding request with a user name.
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        if !is_stun(datagram) || be16(datagram, 0)? != BINDING_REQUEST {
            return None;
        }
        let (mut ufrag, mut integrity) = (None, None);
        for (at, kind, value) in attributes(datagram) {
            match kind {
                USERNAME => ufrag = std::str::from_utf8(value).ok().and_then(|name| name.split(':').next()),
                MESSAGE_INTEGRITY => {
                    integrity = Some((at, value));
                    break;
                }
                _ => {}
            }
        }
        Some(Self { datagram, ufrag: ufrag?, integrity })
    }

    /// Whether MESSAGE-INTEGRITY was made with this password (RFC 8489 section 14.5).
    pub fn is_from(&self, password: &str) -> bool {
        let Some((at, value)) = self.integrity else { return false };
        let (Some(head), Some(rest)) = (self.datagram.get(..2), self.datagram.get(4..at)) else {
            return false;
        };
        let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(password.as_bytes()) else { return false };
        // The length counts up to the end of MESSAGE-INTEGRITY.
        let len = u16::try_from(at + 4 + INTEGRITY_LEN - HEAD_LEN).unwrap_or(0);
        mac.update(head);
        mac.update(&len.to_be_bytes());
        mac.update(rest);
        mac.verify_slice(value).is_ok()
    }
}

/// A binding request without credentials, to learn one's own public address.
pub fn binding_request(transaction: [u8; 12]) -> [u8; HEAD_LEN] {
    head(BINDING_REQUEST, transaction)
}

/// A binding indication: a sign of life that wants no answer (RFC 8445 section 11).
pub fn binding_indication(transaction: [u8; 12]) -> [u8; HEAD_LEN] {
    head(BINDING_INDICATION, transaction)
}

/// A message without attributes.
fn head(kind: u16, transaction: [u8; 12]) -> [u8; HEAD_LEN] {
    let mut message = [0; HEAD_LEN];
    let parts = kind.to_be_bytes().into_iter().chain([0, 0]).chain(COOKIE).chain(transaction);
    for (byte, value) in message.iter_mut().zip(parts) {
        *byte = value;
    }
    message
}

/// The address in the answer to [`binding_request`].
pub fn mapped_address(datagram: &[u8], transaction: [u8; 12]) -> Option<SocketAddr> {
    let is_answer = is_stun(datagram)
        && be16(datagram, 0)? == BINDING_SUCCESS
        && datagram.get(8..HEAD_LEN) == Some(&transaction[..]);
    if !is_answer {
        return None;
    }
    let (_, _, value) = attributes(datagram).find(|(_, kind, _)| *kind == XOR_MAPPED_ADDRESS)?;
    let port = be16(value, 2)? ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]]);
    let mask = COOKIE.into_iter().chain(transaction);
    let ip: IpAddr = match value.get(1)? {
        1 => {
            let mut octets: [u8; 4] = value.get(4..8)?.try_into().ok()?;
            octets.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
            Ipv4Addr::from(octets).into()
        }
        2 => {
            let mut octets: [u8; 16] = value.get(4..20)?.try_into().ok()?;
            octets.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
            Ipv6Addr::from(octets).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Place, type and value of each attribute.
fn attributes(datagram: &[u8]) -> impl Iterator<Item = (usize, u16, &[u8])> {
    let end = be16(datagram, 2).map_or(0, |len| HEAD_LEN + usize::from(len)).min(datagram.len());
    let mut at = HEAD_LEN;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (start, kind) = (at, be16(datagram, at)?);
        let len = usize::from(be16(datagram, at + 2)?);
        let value = datagram.get(at + 4..at + 4 + len).filter(|_| at + 4 + len <= end)?;
        at += 4 + len.next_multiple_of(4);
        Some((start, kind, value))
    })
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sent by FFmpeg 8.1 as ICE agent; the password is `abcdefghijklmnopqrstuv`.
    const FFMPEG: &str = "0001004c2112a4423bf7e04dc3a21a51277a1fba0006000d616263643a643261383830666500000000250000\
        002400047effffff802a00083ab92ff87a4487fa0008001430f2cd2b621b91cea15ff027c0b19a455fd7800980280004f2f873da";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn a_request_of_ffmpeg() {
        let datagram = bytes(FFMPEG);
        let request = Request::parse(&datagram).unwrap();
        assert_eq!(request.ufrag, "abcd");
        assert!(request.is_from("abcdefghijklmnopqrstuv"));
        assert!(!request.is_from("abcdefghijklmnopqrstuw"));
        let mut other = datagram.clone();
        other[30] ^= 1;
        assert!(!Request::parse(&other).unwrap().is_from("abcdefghijklmnopqrstuv"));
    }

    #[test]
    fn mapped_addresses_of_rfc_5769() {
        let transaction: [u8; 12] = bytes("b7e7a701bc34d686fa87dfae").try_into().unwrap();
        // RFC 5769 sections 2.2 and 2.3, without the attributes behind the address.
        let v4 = bytes("0101000c2112a442b7e7a701bc34d686fa87dfae002000080001a147e112a643");
        assert_eq!(mapped_address(&v4, transaction), Some("192.0.2.1:32853".parse().unwrap()));
        let v6 =
            bytes("010100182112a442b7e7a701bc34d686fa87dfae002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9");
        let address = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        assert_eq!(mapped_address(&v6, transaction), Some(address));
        assert_eq!(mapped_address(&v4, [0; 12]), None);
        assert_eq!(mapped_address(&binding_request(transaction), transaction), None);
        assert!(is_stun(&binding_request(transaction)));
    }

    proptest! {
        #[test]
        fn any_bytes(mut data in proptest::collection::vec(any::<u8>(), 0..120), stun in any::<bool>()) {
            if stun && data.len() >= 8 {
                data[..2].copy_from_slice(&[0, 1]);
                data[4..8].copy_from_slice(&COOKIE);
            }
            crate::fuzz::stun(&data);
        }
    }
}

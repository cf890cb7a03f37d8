//! The handshake of both sides: plain, and with the digests that Flash Media Server 3 brought.
//!
//! A peer says with a digest in its first 1,536 bytes that it wants one back. It stands in one of two places (schemes).

use bytes::{BufMut, Bytes, BytesMut};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Bytes of C1, S1, C2 and S2.
pub const BLOCK_BYTES: usize = 1_536;
/// Version of RTMP in C0 and S0.
const VERSION: u8 = 3;
const DIGEST_BYTES: usize = 32;

/// What digests are signed with: the first part signs blocks, the whole answers them.
const CLIENT_NAME: &[u8] = b"Genuine Adobe Flash Player 001";
const SERVER_NAME: &[u8] = b"Genuine Adobe Flash Media Server 001";
/// The second part of both keys.
const KEY_TAIL: [u8; 32] = [
    0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57, 0x6e,
    0xec, 0x5d, 0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
];
/// Version of the client whose handshake is used.
const CLIENT_VERSION: [u8; 4] = [9, 0, 124, 2];
/// Version of the server that answers digests.
const SERVER_VERSION: [u8; 4] = [3, 5, 1, 1];

/// A block of a handshake.
pub type Block = [u8; BLOCK_BYTES];

/// Where the digest stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    /// Behind a number in bytes 8 to 11.
    First,
    /// Behind a number in bytes 772 to 775.
    Second,
}

impl Scheme {
    /// Where the digest of `block` begins.
    fn place(self, block: &Block) -> usize {
        let at = if self == Self::First { 8 } else { 772 };
        let sum: usize = block.iter().skip(at).take(4).map(|byte| usize::from(*byte)).sum();
        at + 4 + sum % 728
    }

    /// Bytes before, in and behind the digest of `block`.
    fn split(self, block: &Block) -> (&[u8], &[u8], &[u8]) {
        let (before, rest) = block.split_at_checked(self.place(block)).unwrap_or((block, &[]));
        let (digest, behind) = rest.split_at_checked(DIGEST_BYTES).unwrap_or((rest, &[]));
        (before, digest, behind)
    }
}

/// The handshake broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not RTMP, or its encrypted variant.
    #[error("the peer speaks version {0} of RTMP, or no RTMP")]
    Version(u8),
}

/// A server's side: what comes in C0 and C1 decides the answer.
#[derive(Debug)]
pub struct Server {
    random: Box<Block>,
}

impl Server {
    /// A server whose blocks are made of `random`.
    pub fn new(random: Block) -> Self {
        Self { random: Box::new(random) }
    }

    /// Takes C0 and C1 off `buffer`: the answer S0, S1, S2. `None`: more bytes are needed. C2 follows, [`BLOCK_BYTES`] of
    /// anything.
    pub fn answer(&self, buffer: &mut BytesMut) -> Result<Option<Bytes>, Error> {
        let Some(c1) = take_first(buffer)? else { return Ok(None) };
        let mut out = BytesMut::with_capacity(1 + 2 * BLOCK_BYTES);
        out.put_u8(VERSION);
        match digest_of(&c1, CLIENT_NAME) {
            None => {
                let mut s1 = *self.random;
                put(&mut s1, 0, &[0; 8]);
                out.put_slice(&s1);
                out.put_slice(&c1);
            }
            Some((scheme, digest)) => {
                let mut s1 = *self.random;
                put(&mut s1, 0, &[0; 4]);
                put(&mut s1, 4, &SERVER_VERSION);
                sign(&mut s1, scheme, SERVER_NAME);
                out.put_slice(&s1);
                out.put_slice(&response(&self.random, &digest, SERVER_NAME));
            }
        }
        Ok(Some(out.freeze()))
    }
}

/// A client's side.
#[derive(Debug)]
pub struct Client {
    random: Box<Block>,
}

impl Client {
    /// A client whose blocks are made of `random`.
    pub fn new(random: Block) -> Self {
        Self { random: Box::new(random) }
    }

    /// C0 and C1, with a digest: servers that know none take it for random bytes.
    pub fn start(&self) -> Bytes {
        let mut c1 = *self.random;
        put(&mut c1, 0, &[0; 4]);
        put(&mut c1, 4, &CLIENT_VERSION);
        sign(&mut c1, Scheme::First, CLIENT_NAME);
        let mut out = BytesMut::with_capacity(1 + BLOCK_BYTES);
        out.put_u8(VERSION);
        out.put_slice(&c1);
        out.freeze()
    }

    /// Takes S0 and S1 off `buffer`: the answer C2. `None`: more bytes are needed. S2 follows, [`BLOCK_BYTES`] of anything.
    pub fn answer(&self, buffer: &mut BytesMut) -> Result<Option<Bytes>, Error> {
        let Some(s1) = take_first(buffer)? else { return Ok(None) };
        let c2 = match digest_of(&s1, SERVER_NAME) {
            None => s1,
            Some((_, digest)) => response(&self.random, &digest, CLIENT_NAME),
        };
        Ok(Some(Bytes::copy_from_slice(&c2)))
    }
}

/// Takes the version and the first block.
fn take_first(buffer: &mut BytesMut) -> Result<Option<Block>, Error> {
    match buffer.first() {
        None => return Ok(None),
        Some(version) if *version != VERSION => return Err(Error::Version(*version)),
        Some(_) => {}
    }
    let Some(block) = buffer.get(1..).and_then(|rest| rest.first_chunk::<BLOCK_BYTES>()) else {
        return Ok(None);
    };
    let block = *block;
    let _ = buffer.split_to(1 + BLOCK_BYTES);
    Ok(Some(block))
}

/// The digest of a block and where it stands, when it is right.
fn digest_of(block: &Block, name: &[u8]) -> Option<(Scheme, [u8; DIGEST_BYTES])> {
    [Scheme::First, Scheme::Second].into_iter().find_map(|scheme| {
        let (before, digest, behind) = scheme.split(block);
        let right = mac(&[name], &[before, behind]);
        (digest == right).then_some((scheme, right))
    })
}

fn sign(block: &mut Block, scheme: Scheme, name: &[u8]) {
    let (before, _, behind) = scheme.split(block);
    let digest = mac(&[name], &[before, behind]);
    put(block, scheme.place(block), &digest);
}

/// The answer to a block with `digest`: random bytes, signed with it at their end.
fn response(random: &Block, digest: &[u8], name: &[u8]) -> Block {
    let key = mac(&[name, &KEY_TAIL], &[digest]);
    let mut block = *random;
    let at = BLOCK_BYTES - DIGEST_BYTES;
    let signature = mac(&[&key], &[random.get(..at).unwrap_or_default()]);
    put(&mut block, at, &signature);
    block
}

fn mac(key: &[&[u8]], parts: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    // A key of any length is taken.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key.concat()) else { return [0; DIGEST_BYTES] };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn put(block: &mut Block, at: usize, bytes: &[u8]) {
    if let Some(place) = block.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(seed: u32) -> Block {
        let mut state = seed | 1;
        std::array::from_fn(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        })
    }

    #[test]
    fn both_sides_agree_on_digests() {
        for seed in 0..50 {
            let (client, server) = (Client::new(block(seed)), Server::new(block(seed + 1_000)));
            let mut wire = BytesMut::from(client.start().as_ref());
            assert_eq!(&wire[1..9], [0, 0, 0, 0, 9, 0, 124, 2]);
            let c1: Block = wire[1..].try_into().unwrap();
            let (scheme, c1_digest) = digest_of(&c1, CLIENT_NAME).unwrap();
            assert_eq!(scheme, Scheme::First);
            let answer = server.answer(&mut wire).unwrap().unwrap();
            let (s1, s2): (Block, Block) =
                (answer[1..=BLOCK_BYTES].try_into().unwrap(), answer[1 + BLOCK_BYTES..].try_into().unwrap());
            let (_, s1_digest) = digest_of(&s1, SERVER_NAME).unwrap();
            assert_eq!(s2, response(&block(seed + 1_000), &c1_digest, SERVER_NAME));
            let c2 = client.answer(&mut BytesMut::from(&answer[..])).unwrap().unwrap();
            assert_eq!(&c2[..], response(&block(seed), &s1_digest, CLIENT_NAME));
        }
    }

    #[test]
    fn the_second_scheme_is_answered_in_kind() {
        let mut c1 = block(7);
        put(&mut c1, 4, &[128, 0, 3, 2]);
        sign(&mut c1, Scheme::Second, CLIENT_NAME);
        let mut wire = BytesMut::from(&[&[3][..], &c1].concat()[..]);
        let answer = Server::new(block(8)).answer(&mut wire).unwrap().unwrap();
        let s1: Block = answer[1..=BLOCK_BYTES].try_into().unwrap();
        assert_eq!(digest_of(&s1, SERVER_NAME).map(|(scheme, _)| scheme), Some(Scheme::Second));
    }

    #[test]
    fn plain_blocks_are_echoed() {
        let c1 = block(3);
        for piece in [1, 700, 4_000] {
            let (mut wire, mut answer) = (BytesMut::new(), None);
            for part in [&[3][..], &c1, b"rest"].concat().chunks(piece) {
                wire.extend_from_slice(part);
                if answer.is_none() {
                    answer = Server::new(block(4)).answer(&mut wire).unwrap();
                }
            }
            let answer = answer.unwrap();
            assert_eq!(answer.len(), 1 + 2 * BLOCK_BYTES);
            assert_eq!(answer[1..9], [0; 8]);
            assert_eq!(&answer[1 + BLOCK_BYTES..], c1);
            assert_eq!(&wire[..], b"rest");
            let c2 = Client::new(block(5)).answer(&mut BytesMut::from(&answer[..])).unwrap().unwrap();
            assert_eq!(&c2[..], &answer[1..=BLOCK_BYTES]);
        }
        let mut http = BytesMut::from(&b"GET / HTTP/1.1"[..]);
        assert_eq!(Server::new(block(4)).answer(&mut http), Err(Error::Version(b'G')));
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(data: Vec<u8>) {
            let _ = Server::new(block(1)).answer(&mut BytesMut::from(&data[..]));
            let long = [&[3][..], &data.repeat(BLOCK_BYTES / data.len().max(1) + 1), &[0; BLOCK_BYTES]].concat();
            let _ = Client::new(block(1)).answer(&mut BytesMut::from(&long[..]));
        }
    }
}

//! Role `output`: pictures as parts of a multipart stream, or each alone.

use bytes::{BufMut as _, Bytes, BytesMut};
use patchbay_sdk::api::Chunk;
use patchbay_sdk::api::abi::chunk_flags;
use patchbay_sdk::api::message::History;
use patchbay_sdk::media::jpeg::huffman;
use patchbay_sdk::media::{Codec, Parameters, Unit};
use patchbay_sdk::output::{Joined, Request};
use patchbay_sdk::{Config, Error, Mux, Output, Plugin};

/// What stands between the parts.
const BOUNDARY: &str = "--frame\r\n";

/// The plugin.
pub struct Mjpeg;

impl Plugin for Mjpeg {
    fn start(_: Config) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Output for Mjpeg {
    type Mux = Pictures;

    fn mux(&self, request: &Request) -> Result<Pictures, Error> {
        match request.tracks.as_slice() {
            [track] if track.codec == Codec::Mjpeg => Ok(Pictures { in_parts: request.format == "mpjpeg" }),
            _ => Err(Error::unsupported("mjpeg: one track of JPEG pictures is needed")),
        }
    }
}

/// A running muxer.
pub struct Pictures {
    /// Parts of a multipart stream, else each picture alone (WebSocket).
    in_parts: bool,
}

impl Pictures {
    /// A browser shows a picture when the next boundary comes, so it is sent behind the picture that it ends.
    fn part(&self, unit: &Unit) -> Bytes {
        let picture = huffman::complete(&unit.data);
        if !self.in_parts {
            return picture;
        }
        let head = format!("Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", picture.len());
        let mut part = BytesMut::with_capacity(head.len() + picture.len() + 2 + BOUNDARY.len());
        part.put_slice(head.as_bytes());
        part.put_slice(&picture);
        part.put_slice(b"\r\n");
        part.put_slice(BOUNDARY.as_bytes());
        part.freeze()
    }
}

impl Mux for Pictures {
    fn mime(&self) -> String {
        if self.in_parts { "multipart/x-mixed-replace; boundary=frame" } else { "image/jpeg" }.to_owned()
    }

    fn init(&mut self) -> Bytes {
        if self.in_parts { Bytes::from_static(BOUNDARY.as_bytes()) } else { Bytes::new() }
    }

    fn push(&mut self, _: usize, unit: &Unit, chunks: &mut Vec<Chunk>) {
        chunks.push(Chunk { data: self.part(unit), flags: chunk_flags::KEY, ..Chunk::default() });
    }

    fn configure(&mut self, _: usize, parameters: &Parameters, _: &mut Vec<Chunk>) -> Result<bool, Error> {
        if parameters.codec == Codec::Mjpeg {
            return Ok(false);
        }
        Err(Error::unsupported("mjpeg: the stream has other codecs now"))
    }

    fn history(&mut self, _: usize, units: &[Unit], history: History) -> Joined {
        let shown = units.last().filter(|_| history != History::None);
        Joined { data: shown.map(|unit| self.part(unit)).unwrap_or_default(), starts: Vec::new() }
    }

    fn still(&mut self, _: usize, unit: &Unit) -> Bytes {
        huffman::complete(&unit.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_viewer_gets_whole_parts_with_their_length() {
        let mut pictures = Pictures { in_parts: true };
        let unit = Unit::new(0, true, Bytes::from_static(&[0xff, 0xd8, 1, 2, 0xff, 0xd9]));
        let mut sent = pictures.init().to_vec();
        sent.extend(pictures.history(0, std::slice::from_ref(&unit), History::Live).data);
        let mut chunks = Vec::new();
        pictures.push(0, &unit, &mut chunks);
        sent.extend(&chunks[0].data);
        let part =
            b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 6\r\n\r\n\xff\xd8\x01\x02\xff\xd9\r\n";
        assert_eq!(sent, [part.as_slice(), part, b"--frame\r\n"].concat());
    }
}

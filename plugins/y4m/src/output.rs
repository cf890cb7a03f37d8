//! Role `output`: a line before each frame.

use bytes::{BufMut, Bytes, BytesMut};
use patchbay_sdk::api::Chunk;
use patchbay_sdk::api::abi::chunk_flags;
use patchbay_sdk::api::message::History;
use patchbay_sdk::media::{Codec, Parameters, Unit};
use patchbay_sdk::output::{Joined, Request};
use patchbay_sdk::{Config, Error, Mux, Output, Plugin};

use crate::header::MAGIC;

/// The line before each frame.
const FRAME: &[u8] = b"FRAME\n";

/// The plugin.
pub struct Y4m;

impl Plugin for Y4m {
    fn start(_: Config) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Output for Y4m {
    type Mux = Frames;

    fn mux(&self, request: &Request) -> Result<Frames, Error> {
        match request.tracks.as_slice() {
            [track] => Ok(Frames { header: header_of(track)? }),
            _ => Err(Error::unsupported("y4m: one track of raw video, no more")),
        }
    }
}

/// A running muxer.
#[derive(Debug)]
pub struct Frames {
    header: Bytes,
}

/// The header line, from the parameters that the track has kept.
fn header_of(track: &Parameters) -> Result<Bytes, Error> {
    if track.codec != Codec::Rawvideo || track.extradata.is_empty() || track.extradata.contains(&b'\n') {
        return Err(Error::unsupported(format!("y4m: no {} in YUV4MPEG2", track.codec.name())));
    }
    let mut line = BytesMut::from(MAGIC);
    line.put_u8(b' ');
    line.put_slice(&track.extradata);
    line.put_u8(b'\n');
    Ok(line.freeze())
}

fn frame(unit: &Unit) -> Bytes {
    let mut frame = BytesMut::with_capacity(FRAME.len() + unit.data.len());
    frame.put_slice(FRAME);
    frame.put_slice(&unit.data);
    frame.freeze()
}

impl Mux for Frames {
    fn mime(&self) -> String {
        "video/x-yuv4mpeg".to_owned()
    }

    fn init(&mut self) -> Bytes {
        self.header.clone()
    }

    fn push(&mut self, _: usize, unit: &Unit, chunks: &mut Vec<Chunk>) {
        chunks.push(Chunk { data: frame(unit), flags: chunk_flags::KEY, ..Chunk::default() });
    }

    fn configure(&mut self, _: usize, parameters: &Parameters, _: &mut Vec<Chunk>) -> Result<bool, Error> {
        let header = header_of(parameters)?;
        if header != self.header {
            // The header stands once, at the start.
            return Err(Error::eof("y4m: the pictures have another form now"));
        }
        Ok(false)
    }

    fn history(&mut self, _: usize, units: &[Unit], history: History) -> Joined {
        let newest = units.last().filter(|_| history != History::None);
        Joined { data: newest.map(frame).unwrap_or_default(), starts: Vec::new() }
    }

    fn still(&mut self, _: usize, unit: &Unit) -> Bytes {
        let frame = frame(unit);
        Bytes::from([self.header.as_ref(), &frame].concat())
    }
}

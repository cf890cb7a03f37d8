//! Role `output`: a header before each frame.

use bytes::{BufMut, Bytes, BytesMut};
use patchbay_sdk::api::Chunk;
use patchbay_sdk::api::abi::chunk_flags;
use patchbay_sdk::api::message::History;
use patchbay_sdk::media::aac::{AudioSpecificConfig, adts};
use patchbay_sdk::media::{Codec, Parameters, Unit};
use patchbay_sdk::output::{Joined, Request};
use patchbay_sdk::{Config, Error, Mux, Output, Plugin};

/// The plugin.
pub struct Adts;

impl Plugin for Adts {
    fn start(_: Config) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Output for Adts {
    type Mux = Frames;

    fn mux(&self, request: &Request) -> Result<Frames, Error> {
        match request.tracks.as_slice() {
            [track] => Ok(Frames { config: config_of(track)? }),
            _ => Err(Error::unsupported("adts: one track of AAC, no more")),
        }
    }
}

/// A running muxer.
#[derive(Debug)]
pub struct Frames {
    config: AudioSpecificConfig,
}

impl Frames {
    /// A unit with its header; nothing when it is longer than a frame may be (8,191 bytes).
    fn frame(&self, unit: &Unit) -> Bytes {
        let Some(header) = adts::build(&self.config, unit.data.len()) else { return Bytes::new() };
        let mut frame = BytesMut::with_capacity(header.len() + unit.data.len());
        frame.put_slice(&header);
        frame.put_slice(&unit.data);
        frame.freeze()
    }
}

/// What the headers say; an error for AAC that ADTS cannot carry.
fn config_of(track: &Parameters) -> Result<AudioSpecificConfig, Error> {
    if track.codec != Codec::Aac {
        return Err(Error::unsupported(format!("adts: no {} in ADTS", track.codec.name())));
    }
    let config = AudioSpecificConfig::parse(&track.extradata)
        .map_err(|error| Error::unsupported(format!("adts: {error}")))?;
    match adts::build(&config, 0) {
        Some(_) => Ok(config),
        None => Err(Error::unsupported(format!(
            "adts: AAC of object type {} with {} samples a second cannot be told in ADTS",
            config.object_type, config.sample_rate
        ))),
    }
}

impl Mux for Frames {
    fn mime(&self) -> String {
        "audio/aac".to_owned()
    }

    fn init(&mut self) -> Bytes {
        Bytes::new()
    }

    fn push(&mut self, _: usize, unit: &Unit, chunks: &mut Vec<Chunk>) {
        let data = self.frame(unit);
        if !data.is_empty() {
            chunks.push(Chunk { data, flags: chunk_flags::KEY, ..Chunk::default() });
        }
    }

    fn configure(&mut self, _: usize, parameters: &Parameters, _: &mut Vec<Chunk>) -> Result<bool, Error> {
        self.config = config_of(parameters)?;
        Ok(false)
    }

    fn history(&mut self, _: usize, _: &[Unit], _: History) -> Joined {
        // Sound begins now.
        Joined::default()
    }

    fn still(&mut self, _: usize, unit: &Unit) -> Bytes {
        self.frame(unit)
    }
}

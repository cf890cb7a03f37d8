//! Role `output`: one fMP4 run for all viewers of the same tracks.

use bytes::Bytes;
use patchbay_mux::Mode;
use patchbay_mux::fmp4::{self, Muxer, Reconfigured, Rotation};
use patchbay_sdk::api::Chunk;
use patchbay_sdk::api::abi::chunk_flags;
use patchbay_sdk::api::message::History;
use patchbay_sdk::media::{Kind, Parameters, Unit};
use patchbay_sdk::output::{Joined, Request};
use patchbay_sdk::{Config, Error, Mux, Output, Plugin};

use crate::routes::pixel_aspect;

/// The plugin.
pub struct Mp4;

impl Plugin for Mp4 {
    fn start(_: Config) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Output for Mp4 {
    type Mux = Fragments;

    fn mux(&self, request: &Request) -> Result<Fragments, Error> {
        let option = |key: &str| request.options.get(key).map_or("", String::as_str);
        let options = fmp4::Options {
            rotation: match option("rotate") {
                "90" => Rotation::Clockwise90,
                "180" => Rotation::Half,
                "270" => Rotation::Clockwise270,
                _ => Rotation::None,
            },
            pixel_aspect: pixel_aspect(option("scale")),
            ..fmp4::Options::default()
        };
        let muxer = Muxer::new(&request.tracks, options)
            .map_err(|error| Error::unsupported(format!("mp4: {error}")))?;
        let video = request.tracks.iter().position(|track| track.codec.kind() == Kind::Video);
        Ok(Fragments { muxer, keys_of: video.filter(|_| request.options.contains_key("keyframes")) })
    }
}

/// A running muxer.
pub struct Fragments {
    muxer: Muxer,
    /// Only key pictures of this track, as stills (WebSocket message `mp4`).
    keys_of: Option<usize>,
}

impl Mux for Fragments {
    fn mime(&self) -> String {
        self.muxer.mime()
    }

    fn init(&mut self) -> Bytes {
        if self.keys_of.is_some() { Bytes::new() } else { self.muxer.init() }
    }

    fn push(&mut self, index: usize, unit: &Unit, chunks: &mut Vec<Chunk>) {
        match self.keys_of {
            Some(track) if track == index && unit.key => {
                let data = self.still(index, unit);
                chunks.push(Chunk { data, flags: chunk_flags::KEY, ..Chunk::default() });
            }
            Some(_) => {}
            None => chunks.extend(self.muxer.push(index, unit).map(Chunk::from)),
        }
    }

    fn configure(
        &mut self,
        index: usize,
        parameters: &Parameters,
        chunks: &mut Vec<Chunk>,
    ) -> Result<bool, Error> {
        let done = self.muxer.reconfigure(index, parameters.clone());
        match done.map_err(|error| Error::unsupported(format!("mp4: {error}")))? {
            Reconfigured::Init { chunk, .. } => {
                chunks.extend(chunk.map(Chunk::from));
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn history(&mut self, index: usize, units: &[Unit], history: History) -> Joined {
        if self.keys_of.is_some() {
            return Joined::default();
        }
        let mode = match history {
            History::None => return Joined { data: Bytes::new(), starts: self.starts(index, units) },
            History::Raw => Mode::Raw,
            _ => Mode::Squeezed,
        };
        let made = self.muxer.history(units, index, mode);
        Joined { data: made.data, starts: made.starts }
    }

    fn still(&mut self, index: usize, unit: &Unit) -> Bytes {
        self.muxer.keyframe(index, unit).unwrap_or_default()
    }
}

impl Fragments {
    fn starts(&mut self, index: usize, units: &[Unit]) -> Vec<i64> {
        self.muxer.starts(units.first().map(|unit| (index, unit)))
    }
}

//! Role `output`: one FLV run for all viewers of the same tracks.

use bytes::Bytes;
use patchbay_mux::flv::Muxer;
use patchbay_mux::{Chunk as MuxChunk, Mode};
use patchbay_sdk::api::Chunk;
use patchbay_sdk::api::message::History;
use patchbay_sdk::media::{Parameters, Unit};
use patchbay_sdk::output::{Joined, Request};
use patchbay_sdk::{Config, Error, Mux, Output, Plugin};

/// The plugin.
pub struct Flv;

impl Plugin for Flv {
    fn start(_: Config) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Output for Flv {
    type Mux = Tags;

    fn mux(&self, request: &Request) -> Result<Tags, Error> {
        let muxer = Muxer::new(&request.tracks).map_err(|error| Error::unsupported(error.to_string()))?;
        Ok(Tags { muxer, made: Vec::new() })
    }
}

/// A running muxer. Every tag's time is patched per viewer: players want it to begin near 0.
pub struct Tags {
    muxer: Muxer,
    made: Vec<MuxChunk>,
}

impl Mux for Tags {
    fn mime(&self) -> String {
        self.muxer.mime().to_owned()
    }

    fn init(&mut self) -> Bytes {
        self.muxer.init()
    }

    fn push(&mut self, index: usize, unit: &Unit, chunks: &mut Vec<Chunk>) {
        self.muxer.push(index, unit, &mut self.made);
        chunks.extend(self.made.drain(..).map(Chunk::from));
    }

    fn configure(
        &mut self,
        index: usize,
        parameters: &Parameters,
        _: &mut Vec<Chunk>,
    ) -> Result<bool, Error> {
        // They go out with the next key unit; the file header stays.
        self.muxer
            .reconfigure(index, parameters.clone())
            .map_err(|error| Error::unsupported(error.to_string()))?;
        Ok(false)
    }

    fn history(&mut self, index: usize, units: &[Unit], history: History) -> Joined {
        let made = match (history, units.first()) {
            (History::None, Some(next)) => self.muxer.start_at(index, next),
            (History::Raw, _) => self.muxer.history(units, index, Mode::Raw),
            _ => self.muxer.history(units, index, Mode::Squeezed),
        };
        Joined { data: made.data, starts: made.starts }
    }

    fn still(&mut self, index: usize, unit: &Unit) -> Bytes {
        self.muxer.keyframe(index, unit)
    }
}

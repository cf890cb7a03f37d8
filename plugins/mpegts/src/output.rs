//! Role `output`: one TS run for all viewers of the same tracks.

use bytes::Bytes;
use patchbay_mux::Mode;
use patchbay_mux::mpegts::{MuxOptions, Muxer};
use patchbay_sdk::api::Chunk;
use patchbay_sdk::api::message::History;
use patchbay_sdk::media::{Parameters, Unit};
use patchbay_sdk::output::{Joined, Request};
use patchbay_sdk::{Config, Error, Mux, Output, Plugin};

/// The plugin.
pub struct MpegTs;

impl Plugin for MpegTs {
    fn start(_: Config) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Output for MpegTs {
    type Mux = Packets;

    fn mux(&self, request: &Request) -> Result<Packets, Error> {
        let muxer = Muxer::new(&request.tracks, MuxOptions::default())
            .map_err(|error| Error::unsupported(format!("mpegts: {error}")))?;
        Ok(Packets { muxer })
    }
}

/// A running muxer. Players of transport streams take any start of the clock, so nothing is patched per viewer.
pub struct Packets {
    muxer: Muxer,
}

impl Mux for Packets {
    fn mime(&self) -> String {
        self.muxer.mime().to_owned()
    }

    fn init(&mut self) -> Bytes {
        Bytes::new()
    }

    fn push(&mut self, index: usize, unit: &Unit, chunks: &mut Vec<Chunk>) {
        chunks.extend(self.muxer.push(index, unit).map(Chunk::from));
    }

    fn configure(
        &mut self,
        index: usize,
        parameters: &Parameters,
        _: &mut Vec<Chunk>,
    ) -> Result<bool, Error> {
        self.muxer
            .reconfigure(index, parameters.clone())
            .map_err(|error| Error::unsupported(format!("mpegts: {error}")))?;
        Ok(false)
    }

    fn history(&mut self, index: usize, units: &[Unit], history: History) -> Joined {
        let mode = match history {
            History::None => return Joined::default(),
            History::Raw => Mode::Raw,
            _ => Mode::Squeezed,
        };
        Joined { data: self.muxer.history(units, index, mode), starts: Vec::new() }
    }

    fn still(&mut self, index: usize, unit: &Unit) -> Bytes {
        self.muxer.history(std::slice::from_ref(unit), index, Mode::Squeezed)
    }
}

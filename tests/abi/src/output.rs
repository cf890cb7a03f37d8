//! Role `output`: the format `fixture` out, each unit's bytes behind their length as four bytes.

use bytes::{BufMut as _, Bytes, BytesMut};
use patchbay_sdk::api::Chunk;
use patchbay_sdk::api::abi::chunk_flags;
use patchbay_sdk::api::message::History;
use patchbay_sdk::media::{Parameters, Unit};
use patchbay_sdk::output::{Joined, Request};
use patchbay_sdk::{Error, Mux, Output};

use crate::{Behaviour, Fixture};

/// What every viewer gets first.
pub const INIT: &[u8] = b"FIXO";

/// The muxer.
#[derive(Debug)]
pub struct Records {
    behaviour: Behaviour,
    tracks: usize,
}

fn record(unit: &Unit) -> Bytes {
    let mut bytes = BytesMut::with_capacity(unit.data.len() + 4);
    bytes.put_u32(u32::try_from(unit.data.len()).unwrap_or(u32::MAX));
    bytes.put_slice(&unit.data);
    bytes.freeze()
}

impl Output for Fixture {
    type Mux = Records;

    fn mux(&self, request: &Request) -> Result<Records, Error> {
        let behaviour = request.options.get("behaviour").map_or(Behaviour::Ok, |word| Behaviour::of(word));
        behaviour.panic_if(Behaviour::PanicOpen);
        if behaviour == Behaviour::NotFound {
            return Err(Error::unsupported("fixture: these codecs do not fit"));
        }
        Ok(Records { behaviour, tracks: request.tracks.len() })
    }
}

impl Mux for Records {
    fn mime(&self) -> String {
        "video/x-fixture".to_owned()
    }

    fn init(&mut self) -> Bytes {
        Bytes::from_static(INIT)
    }

    fn push(&mut self, index: usize, unit: &Unit, chunks: &mut Vec<Chunk>) {
        self.behaviour.panic_if(Behaviour::PanicTask);
        if self.behaviour == Behaviour::Garbage {
            // A chunk over the limit, and one for a viewer that does not exist.
            chunks.push(Chunk { data: Bytes::from(vec![0; 65 << 20]), ..Chunk::default() });
            chunks.push(Chunk { flags: chunk_flags::HISTORY, join: u64::MAX, ..Chunk::default() });
        }
        let flags = if unit.key && index == 0 { chunk_flags::KEY } else { 0 };
        chunks.push(Chunk { data: record(unit), flags, ..Chunk::default() });
    }

    fn configure(&mut self, _: usize, _: &Parameters, _: &mut Vec<Chunk>) -> Result<bool, Error> {
        Ok(true)
    }

    fn history(&mut self, _: usize, units: &[Unit], _: History) -> Joined {
        let data: Vec<u8> = units.iter().flat_map(|unit| record(unit).to_vec()).collect();
        Joined { data: data.into(), starts: vec![0; self.tracks] }
    }

    fn still(&mut self, _: usize, unit: &Unit) -> Bytes {
        record(unit)
    }
}

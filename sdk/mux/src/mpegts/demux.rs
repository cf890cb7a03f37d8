//! Transport streams from bytes that come in any pieces.

use bytes::Bytes;
use patchbay_media::Kind;

use super::CLOCK_RATE;
use super::packet::{Packet, Packets};
use super::pes::Unwrapper;
use super::psi::{self, Sections};
use super::stream::{Content, Stream};
use crate::lineup::{Lineup, Output, Slot};

/// Bytes after which the tracks that are known are announced, others follow.
pub const PROBE_BYTES: u64 = 4 << 20;
/// Media time after which they are, in ticks of [`CLOCK_RATE`] (5 s).
const PROBE_TICKS: i64 = 5 * CLOCK_RATE as i64;
/// Bytes in which a transport stream must show itself.
const MAX_JUNK: u64 = 1 << 20;
const PID_PAT: u16 = 0;

/// What the demuxer does beyond the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Stream types 0x90 and 0x91 are G.711 A-law and mu-law at 8 kHz, as some cameras use them.
    pub private_pcm: bool,
}

/// What the demuxer has to say; all clocks run at [`CLOCK_RATE`].
pub type Event = patchbay_media::Event<Error>;

/// Why bytes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No packets in the first MiB, or to the end.
    #[error("not an MPEG transport stream")]
    NoPackets,
    /// Packets, but no track that this server knows.
    #[error("mpegts: no track with a known codec")]
    NoTracks,
}

/// The demuxer: [`Demuxer::push`] bytes, then [`Demuxer::poll`] until it needs more.
#[derive(Debug)]
pub struct Demuxer {
    options: Options,
    packets: Packets,
    ended: bool,
    done: bool,
    received: u64,
    seen_packet: bool,
    pat: Sections,
    maps: Vec<Map>,
    /// The program that is read, once one has a track.
    program: Option<(u16, u16)>,
    streams: Vec<Stream>,
    /// One per stream, with the same index.
    slots: Vec<Slot>,
    /// Places of streams that went, by their kind: one that comes back goes on there.
    left: Vec<(Kind, Slot)>,
    lineup: Lineup<Error>,
    clock: Unwrapper,
    held_since: Option<i64>,
}

#[derive(Debug)]
struct Map {
    program: u16,
    pid: u16,
    sections: Sections,
}

impl Demuxer {
    /// A demuxer that looks for packets.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            packets: Packets::default(),
            ended: false,
            done: false,
            received: 0,
            seen_packet: false,
            pat: Sections::default(),
            maps: Vec::new(),
            program: None,
            streams: Vec::new(),
            slots: Vec::new(),
            left: Vec::new(),
            lineup: Lineup::default(),
            clock: Unwrapper::default(),
            held_since: None,
        }
    }

    /// Adds bytes.
    pub fn push(&mut self, data: &Bytes) {
        self.received += data.len() as u64;
        self.packets.push(data);
    }

    /// No more bytes come.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Bytes held, without the units that wait for the tracks to be announced.
    #[doc(hidden)]
    pub fn buffered(&self) -> usize {
        self.packets.len() + self.streams.iter().map(Stream::held).sum::<usize>()
    }

    /// What comes next.
    pub fn poll(&mut self) -> Event {
        loop {
            if let Some(event) = self.lineup.events.pop_front() {
                return event;
            }
            if self.done {
                return Event::End;
            }
            if let Some(packet) = self.packets.next(self.ended) {
                self.seen_packet = true;
                self.packet(&packet);
                continue;
            }
            if !self.seen_packet && (self.ended || self.packets.skipped > MAX_JUNK) {
                self.done = true;
                return Event::Error(Error::NoPackets);
            }
            if !self.ended {
                return Event::NeedData;
            }
            self.finish();
        }
    }

    fn finish(&mut self) {
        let mut out = Vec::new();
        for index in 0..self.streams.len() {
            if let Some(stream) = self.streams.get_mut(index) {
                stream.end(&mut out);
            }
            self.take(index, &mut out);
        }
        self.announce();
        if self.lineup.is_empty() {
            self.lineup.events.push_back(Event::Error(Error::NoTracks));
        }
        self.done = true;
    }

    fn packet(&mut self, packet: &Packet) {
        if let Some(index) = self.streams.iter().position(|stream| stream.pid == packet.pid) {
            let mut out = Vec::new();
            if let Some(stream) = self.streams.get_mut(index) {
                stream.packet(packet, &mut self.clock, &mut out);
            }
            self.take(index, &mut out);
            return;
        }
        let Some(payload) = packet.payload.as_ref().filter(|_| !packet.unusable) else { return };
        if packet.pid == PID_PAT {
            for section in self.pat.push(payload, packet.starts) {
                self.programs(&section);
            }
        } else if let Some(map) = self.maps.iter_mut().find(|map| map.pid == packet.pid) {
            for section in map.sections.push(payload, packet.starts) {
                self.program_map(packet.pid, &section);
            }
        }
    }

    fn programs(&mut self, section: &[u8]) {
        let Some(programs) = psi::parse_pat(section) else { return };
        // A table in several sections adds up.
        for (program, pid) in programs {
            let room = self.maps.len() < psi::MAX_PROGRAMS;
            match self.maps.iter_mut().find(|map| map.program == program) {
                Some(map) if map.pid == pid => {}
                Some(map) => *map = Map { program, pid, sections: Sections::default() },
                None if room => {
                    self.maps.push(Map { program, pid, sections: Sections::default() });
                }
                None => {}
            }
        }
    }

    fn program_map(&mut self, pid: u16, section: &[u8]) {
        let Some((program, streams)) = psi::parse_pmt(section) else { return };
        let known = streams.iter().filter_map(|s| Some((s.pid, Content::of(s, self.options.private_pcm)?)));
        let known: Vec<(u16, Content)> = known.collect();
        match self.program {
            // Another program takes the place of one that went.
            Some((current, _))
                if current != program && self.maps.iter().any(|map| map.program == current) =>
            {
                return;
            }
            _ if known.is_empty() => return,
            _ => self.program = Some((program, pid)),
        }
        let same = self.streams.len() == known.len()
            && self.streams.iter().zip(&known).all(|(stream, known)| (stream.pid, stream.content) == *known);
        if !same {
            self.replace_streams(&known);
        }
    }

    /// The program has other streams: what is the same goes on, the rest ends, new ones take the tracks of their kind.
    fn replace_streams(&mut self, known: &[(u16, Content)]) {
        if !self.lineup.is_announced() {
            // The probe starts anew.
            self.lineup.clear();
            self.held_since = None;
            self.streams.clear();
            self.slots.clear();
        }
        // Those that end give their last unit to their track.
        let mut out = Vec::new();
        for index in 0..self.streams.len() {
            let Some(stream) = self.streams.get_mut(index) else { continue };
            if self.lineup.is_announced() && !known.contains(&(stream.pid, stream.content)) {
                stream.end(&mut out);
                self.take(index, &mut out);
            }
        }
        let mut old: Vec<Option<(Stream, Slot)>> = std::mem::take(&mut self.streams)
            .into_iter()
            .zip(std::mem::take(&mut self.slots))
            .map(Some)
            .collect();
        let mut take = |fits: &dyn Fn(&Stream) -> bool| {
            old.iter_mut()
                .find(|old| old.as_ref().is_some_and(|(stream, _)| fits(stream)))
                .and_then(Option::take)
        };
        let mut places: Vec<Option<(Stream, Slot)>> =
            known.iter().map(|wanted| take(&|stream| (stream.pid, stream.content) == *wanted)).collect();
        for (place, (pid, content)) in places.iter_mut().zip(known) {
            if place.is_none() {
                let kind = content.kind();
                let left = |left: &mut Vec<(Kind, Slot)>| {
                    let at = left.iter().position(|(of, _)| *of == kind)?;
                    Some(left.remove(at).1)
                };
                let slot = match take(&|stream| stream.content.kind() == kind) {
                    Some((_, slot)) => slot.anew(),
                    None => match left(&mut self.left) {
                        Some(slot) => slot.anew(),
                        None => self.lineup.slot(CLOCK_RATE),
                    },
                };
                *place = Some((Stream::new(*pid, *content), slot));
            }
        }
        // Before the tracks are announced nothing is left.
        self.left.extend(old.into_iter().flatten().map(|(stream, slot)| (stream.content.kind(), slot)));
        (self.streams, self.slots) = places.into_iter().flatten().unzip();
    }

    /// Takes what stream `index` gave.
    fn take(&mut self, index: usize, out: &mut Vec<Output>) {
        for output in out.drain(..) {
            if let Output::Unit(unit) = &output {
                self.held_since.get_or_insert(unit.dts);
            }
            self.lineup.take(&mut self.slots, index, output);
        }
        if self.lineup.is_announced() || self.lineup.held().is_empty() {
            return;
        }
        let newest = self.lineup.held().iter().rev().find_map(|(_, output)| match output {
            Output::Unit(unit) => Some(unit.dts),
            Output::Parameters(_) => None,
        });
        let long = newest
            .zip(self.held_since)
            .is_some_and(|(newest, since)| newest.abs_diff(since) > PROBE_TICKS as u64);
        let waited = self.received > PROBE_BYTES && newest.is_some();
        if self.slots.iter().all(|slot| slot.ready) && newest.is_some() || long || waited {
            self.announce();
        }
    }

    /// Says which tracks there are, in the order of the program map, and hands out what waited.
    fn announce(&mut self) {
        if !self.lineup.is_announced() {
            let order = 0..self.slots.len();
            self.lineup.announce(&mut self.slots, order);
        }
    }
}

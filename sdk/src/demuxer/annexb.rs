//! H.264 and H.265 as byte streams (Annex B): no container, no times.

use std::collections::VecDeque;
use std::time::Duration;

use patchbay_media::access_unit::{AccessUnit, Role, role};
use patchbay_media::annexb::Splitter;
use patchbay_media::assembler::Flags;
use patchbay_media::order::{GUESSED_DEPTH, PictureOrder, Place, Reorder};
use patchbay_media::{AccessUnitSplitter, Assembler, Codec, Parameters};

use super::clock::FrameClock;
use super::{Container, Event, Piece};
use crate::error::Error;

/// Ticks per second.
const CLOCK_RATE: u32 = 90_000;
/// Bytes in which the parameter sets must come.
const PROBE_BYTES: u64 = 5 << 20;
/// Most bytes of pictures that wait for their time of presentation; with more they get one.
const MAX_HELD_BYTES: usize = 32 << 20;

/// Reads a byte stream of one codec.
///
/// Pictures get their time from the frame rate in the SPS (25 a second without one) in a file, from their arrival when
/// live, and their order of presentation from their slices. A picture is whole only when the next one begins.
#[derive(Debug)]
pub struct AnnexB {
    codec: Codec,
    splitter: Splitter,
    access_units: AccessUnitSplitter,
    order: PictureOrder,
    reorder: Reorder<AccessUnit>,
    held_bytes: usize,
    assembler: Assembler,
    clock: FrameClock,
    received: u64,
    announced: bool,
    /// Something before the next unit was dropped.
    lost: bool,
    done: bool,
    events: VecDeque<Event>,
}

impl AnnexB {
    /// A reader of `codec`, which is H.265 or else H.264.
    pub fn new(codec: Codec, live: bool) -> Self {
        Self {
            codec,
            splitter: Splitter::new(),
            access_units: AccessUnitSplitter::new(codec),
            order: PictureOrder::new(codec),
            // Live, a picture waits only when the stream says that it must.
            reorder: Reorder::new(if live { 0 } else { GUESSED_DEPTH }),
            held_bytes: 0,
            assembler: Assembler::new(codec, CLOCK_RATE, &[]),
            clock: FrameClock::new(CLOCK_RATE, live),
            received: 0,
            announced: false,
            lost: false,
            done: false,
            events: VecDeque::new(),
        }
    }

    fn take(&mut self, unit: AccessUnit, at: Duration) {
        let nals = || unit.nals.iter().map(AsRef::as_ref);
        let place = self.order.push(nals());
        let has_picture = || nals().any(|nal| matches!(role(self.codec, nal), Some(Role::Slice { .. })));
        let place = match place {
            Some(place) => place,
            // Its parameter sets are lost: it is shown where it stands.
            None if has_picture() => Place { count: 0, begins: true, field: false },
            None => {
                let assembled = self.assembler.push_access_unit(0, Some(0), nals(), Flags::default());
                self.announce(assembled.new_parameters);
                return;
            }
        };
        let timing = self.order.timing();
        self.clock.configure(timing.frame_rate);
        self.reorder.configure(timing.reorder_depth);
        self.held_bytes += bytes_of(&unit);
        self.reorder.push(unit, place, self.clock.next(at, place.field));
        if self.held_bytes > MAX_HELD_BYTES {
            self.reorder.flush();
        }
        self.drain();
    }

    /// Hands on the pictures whose time is known.
    fn drain(&mut self) {
        while let Some((unit, pts)) = self.reorder.pop() {
            self.held_bytes = self.held_bytes.saturating_sub(bytes_of(&unit));
            let flags = Flags { discontinuity: self.lost, incomplete: unit.cut };
            let nals = unit.nals.iter().map(AsRef::as_ref);
            let assembled = self.assembler.push_access_unit(pts, None, nals, flags);
            self.announce(assembled.new_parameters);
            self.lost = assembled.oversize.is_some();
            if let Some(unit) = assembled.unit.filter(|_| self.announced) {
                self.events.push_back(Event::Unit { track: 0, unit });
            }
        }
    }

    fn announce(&mut self, parameters: Option<Parameters>) {
        let Some(parameters) = parameters else { return };
        self.events.push_back(if self.announced {
            Event::TrackChanged { track: 0, parameters }
        } else {
            Event::Tracks(vec![parameters])
        });
        self.announced = true;
    }

    fn fail(&mut self, why: &str) {
        let name = self.codec.name();
        self.events.push_back(Event::Error(Error::protocol(format!("{name}: {why}"))));
        self.done = true;
    }
}

impl Container for AnnexB {
    fn push(&mut self, piece: Piece) {
        if self.done {
            return;
        }
        self.received += piece.data.len() as u64;
        let mut done = Vec::new();
        let access_units = &mut self.access_units;
        self.splitter.push(&piece.data, |nal| done.extend(access_units.push(nal)));
        for unit in done {
            self.take(unit, piece.at);
        }
        if !self.announced && self.received > PROBE_BYTES {
            self.fail("no parameter sets in the first 5 MiB");
        }
    }

    fn end(&mut self) {
        if self.done {
            return;
        }
        let mut done = Vec::new();
        let access_units = &mut self.access_units;
        self.splitter.flush(|nal| done.extend(access_units.push(nal)));
        done.extend(self.access_units.flush());
        for unit in done {
            self.take(unit, Duration::ZERO);
        }
        self.reorder.flush();
        self.drain();
        if !self.announced {
            self.fail("the bytes end before the first picture with its parameter sets");
        }
        self.done = true;
    }

    fn poll(&mut self) -> Event {
        let quiet = if self.done { Event::End } else { Event::NeedData };
        self.events.pop_front().unwrap_or(quiet)
    }
}

fn bytes_of(unit: &AccessUnit) -> usize {
    unit.nals.iter().map(bytes::Bytes::len).sum()
}

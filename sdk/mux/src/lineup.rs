//! The tracks of a stream that says only by and by what it holds: which streams are tracks, what waits until that is known, and
//! times that go on over faults.

use std::collections::VecDeque;

use patchbay_media::{Event, Parameters, Unit};

use crate::timeline::Timeline;

/// What came out of an elementary stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Output {
    /// Its parameters from here on.
    Parameters(Parameters),
    Unit(Unit),
}

/// A stream's place among tracks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    track: Option<usize>,
    /// Index in the timeline.
    time: usize,
    offset: i64,
    /// Its parameters came.
    pub(crate) ready: bool,
}

impl Slot {
    /// The same track's place for another stream.
    pub(crate) fn anew(self) -> Self {
        Self { ready: false, ..self }
    }
}

/// Tracks and their events.
#[derive(Debug)]
pub(crate) struct Lineup<E> {
    tracks: Vec<Parameters>,
    announced: bool,
    timeline: Timeline,
    /// What came before the tracks are announced, by stream.
    held: VecDeque<(usize, Output)>,
    pub(crate) events: VecDeque<Event<E>>,
}

impl<E> Default for Lineup<E> {
    fn default() -> Self {
        Self {
            tracks: Vec::new(),
            announced: false,
            timeline: Timeline::new([]),
            held: VecDeque::new(),
            events: VecDeque::new(),
        }
    }
}

impl<E> Lineup<E> {
    /// The place of a new stream.
    pub(crate) fn slot(&mut self, clock_rate: u32) -> Slot {
        Slot { track: None, time: self.timeline.add(clock_rate), offset: 0, ready: false }
    }

    /// Whether the tracks were announced; until then everything waits.
    pub(crate) fn is_announced(&self) -> bool {
        self.announced
    }

    /// Whether there is no track.
    pub(crate) fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// What waits.
    pub(crate) fn held(&self) -> &VecDeque<(usize, Output)> {
        &self.held
    }

    /// Forgets what waits.
    pub(crate) fn clear(&mut self) {
        self.held.clear();
    }

    /// Takes what stream `index` gave.
    pub(crate) fn take(&mut self, slots: &mut [Slot], index: usize, output: Output) {
        let Some(slot) = slots.get_mut(index) else { return };
        slot.ready |= matches!(output, Output::Parameters(_));
        if self.announced {
            self.emit(slot, output);
        } else {
            self.held.push_back((index, output));
        }
    }

    /// Says which tracks there are, streams in this `order`, and hands out what waited.
    pub(crate) fn announce(&mut self, slots: &mut [Slot], order: impl IntoIterator<Item = usize>) {
        self.announced = true;
        let held = std::mem::take(&mut self.held);
        for index in order {
            let first = held.iter().find_map(|(of, output)| match output {
                Output::Parameters(parameters) if *of == index => Some(parameters.clone()),
                _ => None,
            });
            if let (Some(slot), Some(parameters)) = (slots.get_mut(index), first) {
                slot.track = Some(self.tracks.len());
                self.tracks.push(parameters);
            }
        }
        if !self.tracks.is_empty() {
            self.events.push_back(Event::Tracks(self.tracks.clone()));
        }
        for (index, output) in held {
            if let Some(slot) = slots.get_mut(index) {
                self.emit(slot, output);
            }
        }
    }

    fn emit(&mut self, slot: &mut Slot, output: Output) {
        match output {
            Output::Parameters(parameters) => match slot.track {
                Some(track) => {
                    let Some(known) = self.tracks.get_mut(track).filter(|known| **known != parameters) else {
                        return;
                    };
                    known.clone_from(&parameters);
                    self.events.push_back(Event::TrackChanged { track, parameters });
                }
                None => {
                    slot.track = Some(self.tracks.len());
                    self.tracks.push(parameters);
                    self.events.push_back(Event::Tracks(self.tracks.clone()));
                }
            },
            Output::Unit(mut unit) => {
                let Some(track) = slot.track else { return };
                let times = self.timeline.place(slot.time, unit.pts, unit.dts, unit.discontinuity);
                let offset = self.timeline.offset(slot.time);
                unit.discontinuity |= std::mem::replace(&mut slot.offset, offset) != offset;
                unit.dts = times.dts;
                unit.pts = times.pts.max(times.dts);
                self.events.push_back(Event::Unit { track, unit });
            }
        }
    }
}

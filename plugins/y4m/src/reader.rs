//! Frames behind the header line become units.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use patchbay_sdk::Error;
use patchbay_sdk::demuxer::{Container, Event, FrameClock, Piece};
use patchbay_sdk::media::{Codec, Parameters, Unit};

use crate::header::{Header, MAGIC, MAX_LINE};

/// Ticks per second.
const CLOCK_RATE: u32 = 90_000;

/// Reads one stream of raw pictures.
#[derive(Debug)]
pub struct Reader {
    buffer: BytesMut,
    header: Option<Header>,
    /// A frame's line was read, its bytes follow.
    in_frame: bool,
    clock: FrameClock,
    done: bool,
    events: VecDeque<Event>,
}

impl Reader {
    /// A reader at the start of the stream.
    pub fn new(live: bool) -> Self {
        Self {
            buffer: BytesMut::new(),
            header: None,
            in_frame: false,
            clock: FrameClock::new(CLOCK_RATE, live),
            done: false,
            events: VecDeque::new(),
        }
    }

    /// Takes what is whole; false: more bytes must come.
    fn step(&mut self, at: Duration) -> Result<bool, Error> {
        let Some(header) = self.header else {
            let Some(line) = self.line()? else { return Ok(false) };
            let parameters =
                line.strip_prefix(MAGIC).ok_or_else(|| Error::protocol("y4m: no YUV4MPEG2 header"))?;
            let header = Header::parse(parameters)?;
            let mut track = Parameters::video(Codec::Rawvideo, CLOCK_RATE);
            (track.width, track.height) = (header.width, header.height);
            track.extradata = Bytes::copy_from_slice(parameters.trim_ascii());
            self.clock.configure(header.frame_rate);
            self.events.push_back(Event::Tracks(vec![track]));
            self.header = Some(header);
            return Ok(true);
        };
        if !self.in_frame {
            let Some(line) = self.line()? else { return Ok(false) };
            if !line.starts_with(b"FRAME") {
                return Err(Error::protocol("y4m: no frame where one must begin"));
            }
            self.in_frame = true;
        }
        if self.buffer.len() < header.frame_bytes {
            // One allocation for the frame, not one for each doubling.
            self.buffer.reserve(header.frame_bytes - self.buffer.len());
            return Ok(false);
        }
        let data = self.buffer.split_to(header.frame_bytes).freeze();
        self.in_frame = false;
        let unit = Unit::new(self.clock.next(at, false), true, data);
        self.events.push_back(Event::Unit { track: 0, unit });
        Ok(true)
    }

    /// The next line, when it is whole.
    fn line(&mut self) -> Result<Option<Bytes>, Error> {
        let head = self.buffer.get(..MAX_LINE).unwrap_or(&self.buffer);
        let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
            if head.len() >= MAX_LINE {
                return Err(Error::protocol("y4m: a line of more than 1024 bytes"));
            }
            return Ok(None);
        };
        let line = self.buffer.split_to(end).freeze();
        self.buffer.advance(1);
        Ok(Some(line))
    }

    fn fail(&mut self, error: Error) {
        self.events.push_back(Event::Error(error));
        self.done = true;
        self.buffer.clear();
    }
}

impl Container for Reader {
    fn push(&mut self, piece: Piece) {
        if self.done {
            return;
        }
        self.buffer.extend_from_slice(&piece.data);
        loop {
            match self.step(piece.at) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return self.fail(error),
            }
        }
    }

    fn end(&mut self) {
        if !self.done && self.header.is_none() {
            self.fail(Error::protocol("y4m: the bytes end before the header does"));
        }
        self.done = true;
    }

    fn poll(&mut self) -> Event {
        let quiet = if self.done { Event::End } else { Event::NeedData };
        self.events.pop_front().unwrap_or(quiet)
    }
}

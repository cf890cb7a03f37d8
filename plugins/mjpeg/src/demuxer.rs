//! Role `demuxer`: JPEG files one after another, whatever stands between them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use patchbay_sdk::demuxer::{Container, Event, Input, Piece, Request, run};
use patchbay_sdk::media::jpeg::{self, Splitter};
use patchbay_sdk::media::{Codec, Parameters, Unit};
use patchbay_sdk::source::Session;
use patchbay_sdk::{Demuxer, Error};

use crate::output::Mjpeg;

/// Ticks per second of the pictures' times.
const CLOCK_RATE: u32 = 90_000;

/// Ticks between the pictures of a file, which tells no times: 25 a second, as FFmpeg takes it.
const FILE_STEP: i64 = 3_600;

/// Bytes without a picture after which a stream is no stream of pictures: the largest picture and its framing.
const MAX_WITHOUT: u64 = 16 << 20;

impl Demuxer for Mjpeg {
    async fn demux(self: Arc<Self>, request: Request, input: Input, session: Session) -> Result<(), Error> {
        let pictures = Pictures::new(request.head.live);
        run(&request, input, session, pictures).await
    }
}

/// Pictures of a byte stream, with the times of their arrival when it is live, else 25 a second.
pub struct Pictures {
    splitter: Splitter,
    is_live: bool,
    /// Whole pictures with their times.
    ready: VecDeque<(i64, Bytes)>,
    last: Option<i64>,
    known: Option<Parameters>,
    ended: bool,
}

impl Pictures {
    /// A demuxer for a stream that is made while it is read, or for a file.
    pub fn new(is_live: bool) -> Self {
        Self {
            splitter: Splitter::new(),
            is_live,
            ready: VecDeque::new(),
            last: None,
            known: None,
            ended: false,
        }
    }

    /// Adds bytes that arrived `at`.
    fn add(&mut self, data: &[u8], at: Duration) {
        let arrival = i64::try_from(at.as_micros() * u128::from(CLOCK_RATE) / 1_000_000).unwrap_or(i64::MAX);
        let Self { splitter, is_live, ready, last, .. } = self;
        splitter.push(data, |picture| {
            let pts = match *last {
                // Two pictures in one piece still follow each other.
                Some(last) if *is_live => arrival.max(last.saturating_add(1)),
                None if *is_live => arrival,
                Some(last) => last + FILE_STEP,
                None => 0,
            };
            *last = Some(pts);
            ready.push_back((pts, picture));
        });
    }

    /// What the picture says of the track, when that is new.
    fn renewed(&mut self, picture: &[u8]) -> Option<Parameters> {
        let (width, height) = jpeg::size(picture).ok().filter(|(width, height)| *width > 0 && *height > 0)?;
        let known = self.known.as_ref().map(|known| (known.width, known.height));
        if known == Some((u32::from(width), u32::from(height))) {
            return None;
        }
        let mut parameters = Parameters::video(Codec::Mjpeg, CLOCK_RATE);
        parameters.width = u32::from(width);
        parameters.height = u32::from(height);
        self.known = Some(parameters.clone());
        Some(parameters)
    }
}

impl Container for Pictures {
    fn push(&mut self, piece: Piece) {
        self.add(&piece.data, piece.at);
    }

    fn end(&mut self) {
        self.ended = true;
    }

    fn poll(&mut self) -> Event {
        loop {
            let Some((pts, picture)) = self.ready.pop_front() else {
                return match (self.ended, &self.known) {
                    (true, None) => Event::Error(Error::protocol("mjpeg: no picture in the whole stream")),
                    (true, Some(_)) => Event::End,
                    (false, _) if self.splitter.passed() > MAX_WITHOUT => {
                        Event::Error(Error::protocol("mjpeg: 16 MiB without a picture"))
                    }
                    (false, _) => Event::NeedData,
                };
            };
            let first = self.known.is_none();
            if let Some(parameters) = self.renewed(&picture) {
                self.ready.push_front((pts, picture));
                return if first {
                    Event::Tracks(vec![parameters])
                } else {
                    Event::TrackChanged { track: 0, parameters }
                };
            }
            // A picture without a size is none.
            if self.known.is_some()
                && jpeg::size(&picture).is_ok_and(|(width, height)| width > 0 && height > 0)
            {
                return Event::Unit { track: 0, unit: Unit::new(pts, true, picture) };
            }
        }
    }
}

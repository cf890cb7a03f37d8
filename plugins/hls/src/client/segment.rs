//! The containers of segments: MPEG-TS, fragmented MP4, and AAC in ADTS with a time in an ID3 tag (RFC 8216 3.1 to 3.4).

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use patchbay_media::aac::adts;
use patchbay_media::{Codec, Event, Parameters, Unit};
use patchbay_mux::{mp4, mpegts};

/// Largest segment that is read, in bytes.
pub const MAX_SEGMENT_BYTES: usize = 50 << 20;
/// Bytes that show what a segment is.
const PROBE: usize = 10;
/// Owner of the ID3 frame with the time of a packed audio segment.
const PRIV_OWNER: &[u8] = b"com.apple.streaming.transportStreamTimestamp\0";
/// Ticks per second of that time.
const TS_CLOCK: i64 = 90_000;

/// Why a segment cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// It begins as no container that segments may have.
    #[error("a segment is neither MPEG-TS, MP4 nor AAC")]
    Unknown,
    /// Samples of fragmented MP4 that are elsewhere.
    #[error("a segment's samples lie outside of it")]
    Outside,
    /// Broken MPEG-TS.
    #[error(transparent)]
    MpegTs(#[from] mpegts::Error),
    /// Broken MP4.
    #[error(transparent)]
    Mp4(#[from] mp4::Error),
}

/// Reads the segments of one rendition, one behind the other.
#[derive(Default)]
pub struct Segments {
    inner: Option<Inner>,
    /// First bytes, until they show what they are; all bytes of packed audio.
    head: BytesMut,
    out: VecDeque<Event>,
    known: Vec<Parameters>,
}

enum Inner {
    MpegTs(Box<mpegts::Demuxer>),
    Mp4 { demuxer: Box<mp4::Demuxer>, at: u64 },
    Packed(Packed),
}

#[derive(Default)]
struct Packed {
    /// Samples since the time of the first segment.
    next: Option<i64>,
    rate: u32,
}

impl Segments {
    /// What follows does not continue what came before: another init segment, or other times.
    pub fn restart(&mut self) -> Result<(), SegmentError> {
        if let Some(Inner::MpegTs(demuxer)) = &mut self.inner {
            demuxer.end();
            self.poll()?;
        }
        self.inner = None;
        self.head.clear();
        Ok(())
    }

    /// Takes bytes of a segment, or of an init segment.
    pub fn push(&mut self, data: &Bytes) -> Result<(), SegmentError> {
        if self.inner.is_none() {
            self.head.extend_from_slice(data);
            if self.head.len() < PROBE {
                return Ok(());
            }
            self.inner = Some(detect(&self.head).ok_or(SegmentError::Unknown)?);
            if matches!(self.inner, Some(Inner::Packed(_))) {
                return Ok(());
            }
            let head = self.head.split().freeze();
            return self.feed(&head);
        }
        self.feed(data)
    }

    fn feed(&mut self, data: &Bytes) -> Result<(), SegmentError> {
        match &mut self.inner {
            Some(Inner::MpegTs(demuxer)) => demuxer.push(data),
            Some(Inner::Mp4 { demuxer, at }) => {
                demuxer.push(*at, data.clone());
                *at += data.len() as u64;
            }
            // Its end must be known.
            Some(Inner::Packed(_)) => self.head.extend_from_slice(data),
            None => {}
        }
        self.poll()
    }

    /// The segment is complete.
    pub fn segment_end(&mut self) -> Result<(), SegmentError> {
        if let Some(Inner::Packed(packed)) = &mut self.inner {
            let data = self.head.split().freeze();
            packed.read(&data, &mut self.known, &mut self.out);
        }
        Ok(())
    }

    /// Nothing follows: what is held comes out.
    pub fn end(&mut self) -> Result<(), SegmentError> {
        self.restart()
    }

    /// `hls/` and the container.
    pub fn format(&self) -> &'static str {
        match &self.inner {
            Some(Inner::Mp4 { .. }) => "hls/fmp4",
            Some(Inner::Packed(_)) => "hls/aac",
            _ => "hls/mpegts",
        }
    }

    /// What came out; tracks again when they are others.
    pub fn event(&mut self) -> Option<Event> {
        self.out.pop_front()
    }

    fn poll(&mut self) -> Result<(), SegmentError> {
        loop {
            let event = match &mut self.inner {
                Some(Inner::MpegTs(demuxer)) => demuxer.poll().map_error(SegmentError::from),
                // A fragment's data lies behind it.
                Some(Inner::Mp4 { demuxer, .. }) => {
                    demuxer.poll().map(SegmentError::from, |_| SegmentError::Outside)
                }
                _ => return Ok(()),
            };
            self.out.push_back(match event {
                patchbay_media::Event::NeedData | patchbay_media::Event::End => return Ok(()),
                patchbay_media::Event::Error(error) | patchbay_media::Event::Seek(error) => {
                    return Err(error);
                }
                patchbay_media::Event::Tracks(tracks) => Event::Tracks(tracks),
                patchbay_media::Event::TrackChanged { track, parameters } => {
                    Event::TrackChanged { track, parameters }
                }
                patchbay_media::Event::Unit { track, unit } => Event::Unit { track, unit },
            });
        }
    }
}

fn detect(head: &[u8]) -> Option<Inner> {
    let kind = head.get(4..8)?;
    if head.starts_with(b"ID3") || matches!(head, [0xff, second, ..] if second & 0xf6 == 0xf0) {
        Some(Inner::Packed(Packed::default()))
    } else if [b"ftyp", b"styp", b"moov", b"moof", b"sidx", b"emsg", b"prft", b"free"]
        .iter()
        .any(|k| kind == *k)
    {
        Some(Inner::Mp4 { demuxer: Box::default(), at: 0 })
    } else if head.first() == Some(&0x47) {
        Some(Inner::MpegTs(Box::new(mpegts::Demuxer::new(mpegts::Options::default()))))
    } else {
        None
    }
}

impl Packed {
    /// Reads one whole segment.
    fn read(&mut self, data: &[u8], known: &mut Vec<Parameters>, out: &mut VecDeque<Event>) {
        let (time, audio) = id3(data);
        for (header, frame) in adts::split(audio) {
            let rate = header.config.output_sample_rate().max(1);
            let channels = header.config.output_channels();
            let mut parameters = Parameters::audio(Codec::Aac, rate, channels);
            parameters.extradata = header.config.build().unwrap_or_default();
            if known.first() != Some(&parameters) {
                let first = known.is_empty();
                known.clear();
                known.push(parameters.clone());
                self.rate = rate;
                out.push_back(if first {
                    Event::Tracks(known.clone())
                } else {
                    Event::TrackChanged { track: 0, parameters }
                });
            }
            let at = self
                .next
                .unwrap_or_else(|| time.map_or(0, |time| time.saturating_mul(i64::from(rate)) / TS_CLOCK));
            let length = i64::from(header.config.output_frame_length());
            self.next = Some(at.saturating_add(length));
            let mut unit = Unit::new(at, true, Bytes::copy_from_slice(frame));
            unit.duration = u32::try_from(length).unwrap_or(0);
            out.push_back(Event::Unit { track: 0, unit });
        }
    }
}

/// The time (90 kHz) in the ID3 tags before packed audio, and what is behind them. ID3v2.4 3.1, 4.27; RFC 8216 3.4.
fn id3(data: &[u8]) -> (Option<i64>, &[u8]) {
    let (mut rest, mut time) = (data, None);
    // 10 bytes of header; the size in 4 x 7 bits.
    while let [b'I', b'D', b'3', _, _, _, a, b, c, d, ..] = *rest {
        let size = [a, b, c, d].iter().fold(0_usize, |size, byte| size << 7 | usize::from(byte & 0x7f));
        let (tag, behind) = rest.split_at_checked(10 + size).unwrap_or((rest, &[]));
        let found = tag.windows(PRIV_OWNER.len()).position(|window| window == PRIV_OWNER);
        let bytes =
            found.and_then(|at| tag.get(at + PRIV_OWNER.len()..)).and_then(|tail| tail.first_chunk::<8>());
        time = time.or(bytes.map(|bytes| i64::from_be_bytes(*bytes) & 0x1_ffff_ffff));
        rest = behind;
    }
    (time, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(time: i64, frames: usize) -> Vec<u8> {
        let mut frame = b"PRIV\0\0\0\x35\0\0".to_vec();
        frame.extend_from_slice(PRIV_OWNER);
        frame.extend(time.to_be_bytes());
        let mut data = b"ID3\x04\0\0\0\0\0".to_vec();
        data.push(u8::try_from(frame.len()).unwrap());
        data.extend(frame);
        let config = patchbay_media::aac::AudioSpecificConfig::lc(48_000, 1);
        for _ in 0..frames {
            data.extend(adts::build(&config, 4).unwrap());
            data.extend([1, 2, 3, 4]);
        }
        data
    }

    #[test]
    fn packed_audio_takes_its_time_from_the_tag() {
        let mut segments = Segments::default();
        for (number, chunk) in [(0, 7), (1, 1000)] {
            let data = packed(900_000 + number * 90_000, 3);
            for piece in data.chunks(chunk) {
                segments.push(&Bytes::copy_from_slice(piece)).unwrap();
            }
            segments.segment_end().unwrap();
        }
        let events: Vec<Event> = std::iter::from_fn(|| segments.event()).collect();
        assert!(matches!(&events[0], Event::Tracks(tracks) if tracks[0].codec == Codec::Aac));
        let times: Vec<i64> = events
            .iter()
            .filter_map(|e| if let Event::Unit { unit, .. } = e { Some(unit.dts) } else { None })
            .collect();
        assert_eq!(times, [480_000, 481_024, 482_048, 483_072, 484_096, 485_120]);
    }

    #[test]
    fn what_is_no_container_is_an_error() {
        assert_eq!(
            Segments::default().push(&Bytes::from_static(b"<html><body>")),
            Err(SegmentError::Unknown)
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_never_panic(data: Vec<u8>, start in 0_usize..4) {
            let mut segments = Segments::default();
            let begin: &[u8] = [&b"G"[..], b"\0\0\0\x08moof", b"ID3\x04\0\0\0\0\0\x10", b"\xff\xf1"][start];
            let all = Bytes::from([begin, &data].concat());
            for piece in all.chunks(13) {
                if segments.push(&Bytes::copy_from_slice(piece)).is_err() {
                    return Ok(());
                }
            }
            let _ = segments.segment_end();
            let _ = segments.end();
            while segments.event().is_some() {}
        }
    }
}

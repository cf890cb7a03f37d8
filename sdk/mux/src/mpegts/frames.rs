//! Audio frames in the bytes of a stream: ADTS, LOAS, MPEG audio, Opus.

use bytes::{Buf, Bytes, BytesMut};
use patchbay_media::aac::{AudioSpecificConfig, adts, latm};
use patchbay_media::{Codec, Parameters, mpa, opus};

use super::CLOCK_RATE;

/// Most bytes that wait for the rest of a frame.
const MAX_WAITING: usize = 64 << 10;
/// Least rate that a configuration may state: below that no device speaks.
const MIN_SAMPLE_RATE: u32 = 1_000;

/// How frames are found.
#[derive(Debug)]
pub(super) enum Framing {
    Adts,
    Loas(latm::Demuxer),
    /// MPEG-1 and 2 audio.
    Mpeg,
    Opus,
    /// A PES packet is a unit of 8 kHz samples.
    Pcm(Codec),
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// Where it begins in the stream.
    pub at: u64,
    pub data: Bytes,
    pub samples: u32,
    pub sample_rate: u32,
}

/// Cuts the bytes of one stream into frames.
#[derive(Debug)]
pub(super) struct Framer {
    framing: Framing,
    buffer: BytesMut,
    /// Place of the buffer in the stream.
    at: u64,
    /// The last frame ended where the buffer begins, so another one must begin there.
    locked: bool,
    /// What the frames say of themselves.
    pub parameters: Option<Parameters>,
    /// Channels that the program map states.
    channels: u8,
}

enum Step {
    /// A frame of `size` bytes in all, the parts of it that are units, and what it says.
    Frame {
        size: usize,
        units: Vec<Bytes>,
        samples: u32,
        sample_rate: u32,
        parameters: Option<Parameters>,
    },
    Skip(usize),
    More,
}

impl Framer {
    pub(super) fn new(framing: Framing, channels: u8) -> Self {
        Self { framing, buffer: BytesMut::new(), at: 0, locked: false, parameters: None, channels }
    }

    /// Place behind all bytes so far.
    pub(super) fn end(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    /// Bytes were lost.
    pub(super) fn lost(&mut self) {
        self.at = self.end();
        self.buffer.clear();
        self.locked = false;
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The frames that are whole. `end`: a PES packet ends here, which ends a PCM unit; `last`: the stream does.
    pub(super) fn frames(&mut self, end: bool, last: bool) -> Vec<Frame> {
        let mut frames = Vec::new();
        while !self.buffer.is_empty() {
            match self.step(end, last) {
                Step::Frame { size, units, samples, sample_rate, parameters } => {
                    frames.extend(units.into_iter().map(|data| Frame {
                        at: self.at,
                        data,
                        samples,
                        sample_rate,
                    }));
                    if parameters.is_some() {
                        self.parameters = parameters;
                    }
                    self.locked = true;
                    self.advance(size);
                }
                Step::Skip(bytes) => {
                    self.locked = false;
                    self.advance(bytes);
                }
                Step::More if self.buffer.len() > MAX_WAITING => self.lost(),
                Step::More => break,
            }
        }
        frames
    }

    fn advance(&mut self, bytes: usize) {
        let bytes = bytes.clamp(1, self.buffer.len());
        self.buffer.advance(bytes);
        self.at += bytes as u64;
    }

    fn step(&mut self, end: bool, last: bool) -> Step {
        let (data, locked) = (&self.buffer, self.locked);
        match &mut self.framing {
            Framing::Adts => adts_step(data, locked, last),
            Framing::Loas(demuxer) => loas_step(data, locked, last, demuxer),
            Framing::Mpeg => mpeg_step(data, locked, last),
            Framing::Opus => opus_step(data, self.channels),
            Framing::Pcm(_) if !end => Step::More,
            Framing::Pcm(codec) => {
                let parameters = Parameters { clock_rate: CLOCK_RATE, ..Parameters::audio(*codec, 8_000, 1) };
                let samples = u32::try_from(data.len()).unwrap_or(u32::MAX);
                let units = vec![Bytes::copy_from_slice(data)];
                Step::Frame {
                    size: data.len(),
                    units,
                    samples,
                    sample_rate: 8_000,
                    parameters: Some(parameters),
                }
            }
        }
    }
}

/// Distance to the next byte that may start a frame.
fn next_start(data: &[u8], byte: u8) -> Step {
    let rest = data.get(1..).unwrap_or_default();
    Step::Skip(1 + rest.iter().position(|b| *b == byte).unwrap_or(rest.len()))
}

fn aac(config: &AudioSpecificConfig, extradata: Option<Bytes>) -> Option<Parameters> {
    let rate = config.output_sample_rate();
    let extradata = extradata.or_else(|| config.build())?;
    (rate >= MIN_SAMPLE_RATE).then(|| Parameters {
        extradata,
        clock_rate: CLOCK_RATE,
        ..Parameters::audio(Codec::Aac, rate, config.output_channels())
    })
}

fn adts_step(data: &[u8], locked: bool, last: bool) -> Step {
    let header = match adts::parse(data) {
        Ok(Some(header)) => header,
        Ok(None) => return Step::More,
        Err(_) => return next_start(data, 0xff),
    };
    let Some(behind) = data.get(header.frame_len..) else { return Step::More };
    if !locked && !last {
        // The next header must follow before the first frame counts.
        match adts::parse(behind) {
            Ok(None) => return Step::More,
            Ok(Some(next)) if next.config == header.config => {}
            _ => return next_start(data, 0xff),
        }
    }
    let units = match data.get(header.header_len..header.frame_len) {
        Some(payload) if header.blocks == 1 && !payload.is_empty() => vec![Bytes::copy_from_slice(payload)],
        _ => Vec::new(),
    };
    Step::Frame {
        size: header.frame_len,
        units,
        samples: u32::from(header.config.frame_length),
        sample_rate: header.config.sample_rate,
        parameters: aac(&header.config, None),
    }
}

fn loas_step(data: &[u8], locked: bool, last: bool, demuxer: &mut latm::Demuxer) -> Step {
    let [0x56, high, low, ..] = *data else {
        return if data.len() < 3 && data.first() == Some(&0x56) {
            Step::More
        } else {
            next_start(data, 0x56)
        };
    };
    if high & 0xe0 != 0xe0 {
        return next_start(data, 0x56);
    }
    let size = 3 + (usize::from(high & 0x1f) << 8 | usize::from(low));
    let Some(element) = data.get(3..size) else { return Step::More };
    if !locked && !last {
        match data.get(size) {
            None => return Step::More,
            Some(0x56) => {}
            Some(_) => return next_start(data, 0x56),
        }
    }
    // A damaged element is passed over.
    let units = demuxer.push(element).unwrap_or_default();
    let config = demuxer.config();
    Step::Frame {
        size,
        units: units.into_iter().filter(|unit| !unit.is_empty()).collect(),
        samples: config.map_or(1_024, |c| c.config.output_frame_length()),
        sample_rate: config.map_or(48_000, |c| c.config.output_sample_rate()).max(MIN_SAMPLE_RATE),
        parameters: config.and_then(|c| aac(&c.config, Some(c.extradata.clone()))),
    }
}

fn mpeg_step(data: &[u8], locked: bool, last: bool) -> Step {
    if data.len() < 4 {
        return if data.first() == Some(&0xff) { Step::More } else { next_start(data, 0xff) };
    }
    let Some(header) = mpa::Header::parse(data) else { return next_start(data, 0xff) };
    let Some(frame) = data.get(..header.len) else { return Step::More };
    if !locked && !last {
        match data.get(header.len..header.len + mpa::Header::LEN) {
            None => return Step::More,
            Some(next) if mpa::Header::parse(next).is_some() => {}
            Some(_) => return next_start(data, 0xff),
        }
    }
    let codec = if header.layer == 3 { Codec::Mp3 } else { Codec::Mp2 };
    Step::Frame {
        size: header.len,
        units: vec![Bytes::copy_from_slice(frame)],
        samples: header.samples,
        sample_rate: header.sample_rate,
        parameters: Some(Parameters {
            clock_rate: CLOCK_RATE,
            ..Parameters::audio(codec, header.sample_rate, header.channels)
        }),
    }
}

/// The control header of Opus in MPEG-TS: 11 bits `3ff`, start trim, end trim, extension, then sizes.
fn opus_step(data: &[u8], stated_channels: u8) -> Step {
    let Some([0x7f, flags, rest @ ..]) = data.get(..) else {
        return if data.len() < 2 { Step::More } else { next_start(data, 0x7f) };
    };
    if flags & 0xe0 != 0xe0 {
        return next_start(data, 0x7f);
    }
    let run = rest.iter().take_while(|byte| **byte == 0xff).count();
    let Some(tail) = rest.get(run) else { return Step::More };
    let size = run * 255 + usize::from(*tail);
    let mut at = 2 + run + 1;
    at += if flags & 0x10 != 0 { 2 } else { 0 };
    at += if flags & 0x08 != 0 { 2 } else { 0 };
    if flags & 0x04 != 0 {
        let Some(extension) = data.get(at) else { return Step::More };
        at += 1 + usize::from(*extension);
    }
    if size > MAX_WAITING {
        return next_start(data, 0x7f);
    }
    let Some(packet) = data.get(at..at + size) else { return Step::More };
    let Some(samples) = opus::packet_samples(packet) else { return Step::Skip(at + size) };
    let channels =
        if stated_channels > 0 { stated_channels } else { opus::packet_channels(packet).unwrap_or(2) };
    let head = opus::Head::new(channels, 0);
    Step::Frame {
        size: at + size,
        units: vec![Bytes::copy_from_slice(packet)],
        samples,
        sample_rate: opus::CLOCK_RATE,
        parameters: Some(Parameters {
            clock_rate: CLOCK_RATE,
            extradata: head.build(),
            ..Parameters::audio(Codec::Opus, opus::CLOCK_RATE, channels)
        }),
    }
}

/// The control header of an Opus packet of `size` bytes.
pub(super) fn opus_control_header(size: usize, out: &mut BytesMut) {
    use bytes::BufMut;
    out.put_slice(&[0x7f, 0xe0]);
    out.extend(std::iter::repeat_n(0xff, size / 255));
    out.put_u8(u8::try_from(size % 255).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn opus_headers() {
        let header = |size| {
            let mut out = BytesMut::new();
            opus_control_header(size, &mut out);
            out.to_vec()
        };
        assert_eq!(header(254), [0x7f, 0xe0, 0xfe]);
        assert_eq!(header(255), [0x7f, 0xe0, 0xff, 0x00]);
        assert_eq!(header(300), [0x7f, 0xe0, 0xff, 0x2d]);
        // Of FFmpeg: 307 bytes, start trim of 312 samples.
        let mut data = vec![0x7f, 0xf0, 0xff, 0x34, 0x01, 0x38, 0xf8];
        data.resize(6 + 307, 9);
        let mut framer = Framer::new(Framing::Opus, 0);
        framer.push(&data);
        let frames = framer.frames(true, false);
        assert_eq!((frames.len(), frames[0].data.len(), frames[0].samples), (1, 307, 960));
    }

    fn adts_stream(sizes: &[usize]) -> Vec<u8> {
        let config = AudioSpecificConfig::lc(48_000, 2);
        let frame = |size: &usize| [&adts::build(&config, *size).unwrap()[..], &vec![7; *size]].concat();
        sizes.iter().flat_map(frame).collect()
    }

    proptest! {
        #[test]
        fn frames_cross_any_border(sizes in proptest::collection::vec(1_usize..600, 2..8), piece in 1_usize..300, junk in 0_usize..20) {
            let data = [vec![0x12; junk], adts_stream(&sizes)].concat();
            let mut framer = Framer::new(Framing::Adts, 0);
            let mut frames = Vec::new();
            for piece in data.chunks(piece) {
                framer.push(piece);
                frames.extend(framer.frames(false, false));
            }
            frames.extend(framer.frames(true, true));
            prop_assert_eq!(frames.iter().map(|f| f.data.len()).collect::<Vec<_>>(), sizes);
            prop_assert_eq!(frames[0].at, junk as u64);
            prop_assert_eq!(framer.parameters.unwrap().sample_rate, 48_000);
        }

        #[test]
        fn any_bytes_never_panic(data: Vec<u8>, piece in 1_usize..50) {
            for framing in [Framing::Adts, Framing::Loas(latm::Demuxer::new()), Framing::Mpeg, Framing::Opus, Framing::Pcm(Codec::PcmAlaw)] {
                let mut framer = Framer::new(framing, 0);
                for piece in data.chunks(piece) {
                    framer.push(piece);
                    framer.frames(false, false);
                }
                framer.frames(true, true);
                prop_assert!(framer.len() <= MAX_WAITING);
            }
        }
    }
}

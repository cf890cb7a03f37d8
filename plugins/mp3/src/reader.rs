//! Frames of MPEG audio become units. ISO/IEC 11172-3 2.4.1, ISO/IEC 13818-3.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use patchbay_sdk::demuxer::{FrameParser, FrameReader, Frames};
use patchbay_sdk::media::mpa::Header;
use patchbay_sdk::media::{Codec, Parameters};

/// Bytes of an ID3v2 tag's header.
const TAG_HEADER: usize = 10;

/// Reads a stream of frames.
pub type Reader = FrameReader<MpegAudio>;

/// Layer, rate and channels.
type Kind = (u8, u32, u8);

/// Finds frames of MPEG audio.
#[derive(Debug)]
pub struct MpegAudio {
    buffer: BytesMut,
    /// Bytes of a tag that are still to come.
    tag: usize,
    /// The last frame ended where the buffer begins, so another one must begin there.
    locked: bool,
    /// Here a tag may begin: at the start, behind a tag, behind a frame. Elsewhere it would depend on how the bytes are cut.
    is_seam: bool,
}

impl Default for MpegAudio {
    fn default() -> Self {
        Self { buffer: BytesMut::new(), tag: 0, locked: false, is_seam: true }
    }
}

impl FrameParser for MpegAudio {
    const FORMAT: &'static str = "mp3";
    type Kind = Kind;

    fn push(&mut self, data: &[u8], at: Duration, frames: &mut Frames<Kind>) {
        self.buffer.extend_from_slice(data);
        self.read(at, false, frames);
    }

    fn end(&mut self, frames: &mut Frames<Kind>) {
        self.read(Duration::ZERO, true, frames);
    }
}

impl MpegAudio {
    /// Takes what is whole; `last`: nothing follows.
    fn read(&mut self, at: Duration, last: bool, frames: &mut Frames<Kind>) {
        loop {
            let skipped = self.tag.min(self.buffer.len());
            self.buffer.advance(skipped);
            self.tag -= skipped;
            frames.skip_tag(skipped);
            match self.step(last) {
                Step::Tag(size) => (self.tag, self.locked) = (size, false),
                Step::Skip(bytes) => {
                    self.buffer.advance(bytes.min(self.buffer.len()));
                    if frames.has_begun() {
                        frames.lose();
                    }
                    (self.locked, self.is_seam) = (false, false);
                }
                Step::Frame(header) => {
                    self.frame(header, at, frames);
                    (self.locked, self.is_seam) = (true, true);
                }
                Step::More => return,
            }
        }
    }

    fn step(&self, last: bool) -> Step {
        let data: &[u8] = &self.buffer;
        if self.is_seam && b"ID3".starts_with(data.get(..3).unwrap_or(data)) && !data.is_empty() {
            return match tag_size(data) {
                Some(size) => Step::Tag(size),
                None if last || data.len() >= TAG_HEADER => Step::Skip(1),
                None => Step::More,
            };
        }
        let Some(header) = Header::parse(data) else {
            return if data.len() < Header::LEN && !last { Step::More } else { next_start(data) };
        };
        if data.len() < header.len {
            return if last { next_start(data) } else { Step::More };
        }
        let behind = data.get(header.len..).unwrap_or_default();
        let is_followed = match Header::parse(behind) {
            // Sound of one kind, or it was no header.
            Some(next) => (next.layer, next.sample_rate) == (header.layer, header.sample_rate),
            None if behind.len() < Header::LEN && last => true,
            None if behind.len() < Header::LEN && !self.locked => return Step::More,
            None => false,
        };
        if self.locked || is_followed { Step::Frame(header) } else { next_start(data) }
    }

    fn frame(&mut self, header: Header, at: Duration, frames: &mut Frames<Kind>) {
        let Header { layer, sample_rate, channels, .. } = header;
        let codec = if layer == 3 { Codec::Mp3 } else { Codec::Mp2 };
        let parameters = || Some(Parameters::audio(codec, sample_rate, channels));
        frames.is_of((layer, sample_rate, channels), sample_rate, parameters);
        let data = self.buffer.split_to(header.len).freeze();
        frames.push(at, u64::from(header.samples), sample_rate, Some(data));
    }
}

enum Step {
    /// A tag of so many bytes.
    Tag(usize),
    /// So many bytes are no frame.
    Skip(usize),
    Frame(Header),
    More,
}

/// Distance to the next byte that may start a frame.
fn next_start(data: &[u8]) -> Step {
    let rest = data.get(1..).unwrap_or_default();
    match (data.is_empty(), rest.iter().position(|byte| *byte == 0xff)) {
        (true, _) => Step::More,
        (_, Some(at)) => Step::Skip(1 + at),
        (_, None) => Step::Skip(data.len()),
    }
}

/// Bytes of the ID3v2 tag that begins here (id3.org, ID3v2.4 3.1): four times seven bits, a header and maybe a footer.
fn tag_size(data: &[u8]) -> Option<usize> {
    let [b'I', b'D', b'3', _, _, flags, size @ ..] = data.first_chunk::<TAG_HEADER>()? else { return None };
    let is_size = size.iter().all(|byte| byte & 0x80 == 0);
    let size = size.iter().fold(0_usize, |size, byte| size << 7 | usize::from(*byte));
    is_size.then_some(size + TAG_HEADER * if flags & 0x10 != 0 { 2 } else { 1 })
}

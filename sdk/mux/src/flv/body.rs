//! Bodies of audio and video tags.

use bytes::{Buf, Bytes};
use patchbay_media::Codec;

/// Most extensions before a packet (`ModEx`).
const MAX_EXTENSIONS: usize = 8;
/// Packet type: parts of several tracks, in an audio tag.
const AUDIO_MULTITRACK: u8 = 5;
/// The same in a video tag.
const VIDEO_MULTITRACK: u8 = 6;
/// Packet type: an extension, with the real type behind.
const MOD_EX: u8 = 7;

/// A part of a body that belongs to one track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Number among the tracks of its kind; 0 is the main one.
    pub(super) track: u8,
    pub(super) codec: Codec,
    pub(super) content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// The decoder's configuration; empty: not known yet.
    Config(Bytes),
    Frame {
        /// Presentation less decoding time, in milliseconds.
        offset: i32,
        key: bool,
        data: Bytes,
    },
}

/// Rate and channels that a legacy audio tag states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stated {
    pub(super) sample_rate: u32,
    pub(super) channels: u8,
}

/// The parts of a video tag; none of codecs that are not known, commands and broken bodies.
pub(super) fn video(body: &Bytes) -> Vec<Part> {
    let mut rest = body.clone();
    let Some(first) = take(&mut rest) else { return Vec::new() };
    if first & 0x80 != 0 {
        let key = first >> 4 & 7 == 1;
        let is_command = first >> 4 & 7 == 5;
        return enhanced(first & 0x0f, VIDEO_MULTITRACK, rest, |fourcc, kind, data| {
            let codec = match fourcc {
                b"avc1" => Codec::H264,
                b"hvc1" => Codec::Hevc,
                b"av01" => Codec::Av1,
                b"vp09" => Codec::Vp9,
                b"vp08" => Codec::Vp8,
                _ => return None,
            };
            let offset = match (kind, codec) {
                _ if is_command => return None,
                (0, _) => return Some((codec, Content::Config(data))),
                (1, Codec::H264 | Codec::Hevc) => return coded(codec, key, data),
                (1 | 3, _) => 0,
                _ => return None,
            };
            Some((codec, Content::Frame { offset, key, data }))
        });
    }
    let codec = match first & 0x0f {
        7 => Codec::H264,
        12 => Codec::Hevc,
        _ => return Vec::new(),
    };
    // 5: a command of the player.
    let (true, Some(kind)) = (first >> 4 != 5, take(&mut rest)) else { return Vec::new() };
    let key = first >> 4 == 1;
    let part = match kind {
        0 if rest.len() >= 3 => {
            rest.advance(3);
            Some((codec, Content::Config(rest)))
        }
        1 => coded(codec, key, rest),
        _ => None,
    };
    part.map(|(codec, content)| Part { track: 0, codec, content }).into_iter().collect()
}

/// The parts of an audio tag, and what a legacy one says.
pub(super) fn audio(body: &Bytes) -> (Vec<Part>, Stated) {
    let mut rest = body.clone();
    let Some(first) = take(&mut rest) else { return Default::default() };
    let format = first >> 4;
    if format == 9 {
        let parts = enhanced(first & 0x0f, AUDIO_MULTITRACK, rest, |fourcc, kind, data| {
            let codec = match fourcc {
                b"mp4a" => Codec::Aac,
                b"Opus" => Codec::Opus,
                b"fLaC" => Codec::Flac,
                b".mp3" => Codec::Mp3,
                _ => return None,
            };
            match kind {
                0 => Some((codec, Content::Config(data))),
                1 => Some((codec, Content::Frame { offset: 0, key: true, data })),
                _ => None,
            }
        });
        return (parts, Stated::default());
    }
    let stated = Stated {
        sample_rate: [5_512, 11_025, 22_050, 44_100].get(usize::from(first >> 2 & 3)).copied().unwrap_or(0),
        channels: 1 + (first & 1),
    };
    let wide = first & 2 != 0;
    let (codec, stated) = match format {
        2 => (Codec::Mp3, stated),
        // 0: in the order of the encoder's machine, which is this one today.
        0 | 3 if wide => (Codec::PcmS16le, stated),
        // Whatever the rate bits say.
        7 => (Codec::PcmAlaw, Stated { sample_rate: 8_000, channels: 1 }),
        8 => (Codec::PcmMulaw, Stated { sample_rate: 8_000, channels: 1 }),
        10 => (Codec::Aac, stated),
        14 => (Codec::Mp3, Stated { sample_rate: 8_000, ..stated }),
        _ => return Default::default(),
    };
    let content = match (codec, format) {
        (Codec::Aac, _) => match take(&mut rest) {
            Some(0) => Content::Config(rest),
            Some(1) => Content::Frame { offset: 0, key: true, data: rest },
            _ => return Default::default(),
        },
        _ => Content::Frame { offset: 0, key: true, data: rest },
    };
    (vec![Part { track: 0, codec, content }], stated)
}

/// A picture behind its composition offset of 24 bits with a sign.
fn coded(codec: Codec, key: bool, mut data: Bytes) -> Option<(Codec, Content)> {
    let [a, b, c] = *data.first_chunk::<3>()?;
    data.advance(3);
    Some((codec, Content::Frame { offset: i32::from_be_bytes([a, b, c, 0]) >> 8, key, data }))
}

/// The body behind the first byte of an enhanced tag. Enhanced RTMP v2, "Enhanced Audio" and "Enhanced Video".
fn enhanced(
    mut kind: u8,
    multitrack: u8,
    mut rest: Bytes,
    part: impl Fn(&[u8; 4], u8, Bytes) -> Option<(Codec, Content)>,
) -> Vec<Part> {
    for _ in 0..MAX_EXTENSIONS {
        if kind != MOD_EX {
            break;
        }
        let Some(next) = extension(&mut rest) else { return Vec::new() };
        kind = next;
    }
    let mut parts = Vec::new();
    if kind != multitrack {
        if let Some(fourcc) = take_fourcc(&mut rest) {
            parts.extend(part(&fourcc, kind, rest).map(|(codec, content)| Part { track: 0, codec, content }));
        }
        return parts;
    }
    let Some(byte) = take(&mut rest) else { return parts };
    let (layout, kind) = (byte >> 4, byte & 0x0f);
    // 0: one track, 1: many of one codec, 2: many codecs.
    let shared = if layout == 2 { None } else { take_fourcc(&mut rest) };
    while !rest.is_empty() && layout <= 2 {
        let fourcc = if layout == 2 { take_fourcc(&mut rest) } else { shared };
        let (Some(fourcc), Some(track)) = (fourcc, take(&mut rest)) else { break };
        let size = match (layout, rest.first_chunk::<3>()) {
            (0, _) => rest.len(),
            (_, Some([a, b, c])) => {
                let size = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                rest.advance(3);
                size
            }
            _ => break,
        };
        if size > rest.len() {
            break;
        }
        let data = rest.split_to(size);
        parts.extend(part(&fourcc, kind, data).map(|(codec, content)| Part { track, codec, content }));
    }
    parts
}

/// Passes over an extension; the type of the packet behind it. The only one there is adds nanoseconds to a time, which is
/// below the clock used here.
fn extension(rest: &mut Bytes) -> Option<u8> {
    let mut size = usize::from(take(rest)?) + 1;
    if size == 256 {
        size = usize::from(u16::from_be_bytes([take(rest)?, take(rest)?])) + 1;
    }
    if size > rest.len() {
        return None;
    }
    rest.advance(size);
    Some(take(rest)? & 0x0f)
}

fn take(rest: &mut Bytes) -> Option<u8> {
    let byte = *rest.first()?;
    rest.advance(1);
    Some(byte)
}

fn take_fourcc(rest: &mut Bytes) -> Option<[u8; 4]> {
    let fourcc = *rest.first_chunk::<4>()?;
    rest.advance(4);
    Some(fourcc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(codec: Codec, offset: i32, key: bool, data: &[u8]) -> Part {
        let data = Bytes::copy_from_slice(data);
        Part { track: 0, codec, content: Content::Frame { offset, key, data } }
    }

    fn config(codec: Codec, data: &[u8]) -> Part {
        Part { track: 0, codec, content: Content::Config(Bytes::copy_from_slice(data)) }
    }

    fn of_video(body: &[u8]) -> Vec<Part> {
        video(&Bytes::copy_from_slice(body))
    }

    /// Measured with ffmpeg 9.
    #[test]
    fn bodies_of_ffmpeg() {
        assert_eq!(of_video(b"\x17\0\0\0\0\x01\xf4"), [config(Codec::H264, b"\x01\xf4")]);
        assert_eq!(of_video(b"\x17\x01\0\0\xc8\0"), [frame(Codec::H264, 200, true, b"\0")]);
        assert_eq!(of_video(b"\x90hvc1\x01\x04"), [config(Codec::Hevc, b"\x01\x04")]);
        assert_eq!(of_video(b"\x91hvc1\0\0\xc8\x07"), [frame(Codec::Hevc, 200, true, b"\x07")]);
        assert_eq!(of_video(b"\xa1hvc1\0\x01\xf4\x07"), [frame(Codec::Hevc, 500, false, b"\x07")]);
        assert_eq!(of_video(b"\xa3hvc1\x07"), [frame(Codec::Hevc, 0, false, b"\x07")]);
        assert_eq!(of_video(b"\xd4hvc1\x02\0\x09colorInfo"), []);
        assert_eq!(of_video(b"\x90av01"), [config(Codec::Av1, b"")]);
        assert_eq!(of_video(b"\xa1av01\x12\0"), [frame(Codec::Av1, 0, false, b"\x12\0")]);
        let of = |body: &[u8]| audio(&Bytes::copy_from_slice(body)).0;
        assert_eq!(of(b"\xaf\0\x12\x08"), [config(Codec::Aac, b"\x12\x08")]);
        assert_eq!(of(b"\xaf\x01\x21"), [frame(Codec::Aac, 0, true, b"\x21")]);
        assert_eq!(of(b"\x90OpusOpusHead"), [config(Codec::Opus, b"OpusHead")]);
        assert_eq!(of(b"\x94Opus\x01\x01\0\0\0\x04"), []);
        assert_eq!(of(b"\x91Opus\xf8"), [frame(Codec::Opus, 0, true, b"\xf8")]);
    }

    #[test]
    fn other_senders() {
        // H.265 as codec 12, a negative offset, the end of a sequence, a command frame.
        assert_eq!(of_video(b"\x2c\x01\xff\xff\xd8\x09"), [frame(Codec::Hevc, -40, false, b"\x09")]);
        assert_eq!(of_video(b"\x17\x02\0\0\0"), []);
        assert_eq!(of_video(b"\x57\x00"), []);
        // Sorenson.
        assert_eq!(of_video(b"\x22\x00\x00"), []);
        let (parts, stated) = audio(&Bytes::from_static(b"\x7fab"));
        assert_eq!(parts, [frame(Codec::PcmAlaw, 0, true, b"ab")]);
        assert_eq!(stated, Stated { sample_rate: 8_000, channels: 1 });
        let (parts, stated) = audio(&Bytes::from_static(b"\x3fab"));
        assert_eq!((parts[0].codec, stated.sample_rate, stated.channels), (Codec::PcmS16le, 44_100, 2));
    }

    /// Enhanced RTMP v2: several tracks, extensions.
    #[test]
    fn several_tracks_and_extensions() {
        let one = b"\x96\x01hvc1\x03\0\0\x05ab";
        let part = Part { track: 3, ..frame(Codec::Hevc, 5, true, b"ab") };
        assert_eq!(of_video(one), [part]);
        let many = b"\x96\x13avc1\0\0\0\x02ab\x01\0\0\x01c\x02\0\0\x09d";
        let parts = of_video(many);
        assert_eq!(parts.iter().map(|p| p.track).collect::<Vec<_>>(), [0, 1], "the third is cut off");
        let codecs = b"\x96\x20av01\0\0\0\x01avvc1\x01\0\0\x01b\x00";
        assert_eq!(of_video(codecs), [config(Codec::Av1, b"a")]);
        // A time in nanoseconds before a coded frame.
        assert_eq!(of_video(b"\xa7\x02\x01\x02\x03\x03avc1x"), [frame(Codec::H264, 0, false, b"x")]);
        let long = [&b"\xa7\xff\x00\xff"[..], &[0; 256], b"\x03avc1x"].concat();
        assert_eq!(of_video(&long), [frame(Codec::H264, 0, false, b"x")]);
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(body: Vec<u8>) {
            let body = Bytes::from(body);
            video(&body);
            audio(&body);
        }
    }
}

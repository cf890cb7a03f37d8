//! Units to tags, or to the media messages of RTMP.

use bytes::{BufMut, Bytes, BytesMut};
use patchbay_media::{Codec, Kind, Parameters, Unit};

use super::CLOCK_RATE;
use super::amf::{self, Value};
use super::tag::TagKind;
use crate::history::{Mode, squeeze};
use crate::timeline::{Timeline, rescale};

/// Sound further behind than this has stopped, in milliseconds.
const MAX_LEAD_IN_MS: i64 = 1_000;

/// A track that FLV has no place for, or whose parameters are not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("flv: unsupported codec: {} ({sample_rate} Hz)", codec.name())]
pub struct Unsupported {
    /// Its codec.
    pub codec: Codec,
    /// Its rate; FLV has only some for PCM.
    pub sample_rate: u32,
}

/// The bytes of a body before a unit's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    bytes: [u8; 8],
    length: u8,
}

impl Head {
    fn new(parts: &[&[u8]]) -> Self {
        let mut head = Self { bytes: [0; 8], length: 0 };
        for (slot, byte) in head.bytes.iter_mut().zip(parts.iter().copied().flatten()) {
            *slot = *byte;
            head.length += 1;
        }
        head
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// A unit's place in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The kind of its tag.
    pub kind: TagKind,
    /// Decoding time in milliseconds after that of the first unit of all.
    pub time: i64,
    /// What its body begins with; the unit's data follows.
    pub head: Head,
    /// A viewer can start here.
    pub key: bool,
}

/// Makes tags of the units of an output's tracks: the first with pictures and the first with sound.
#[derive(Debug, Clone)]
pub struct TagMuxer {
    tracks: Vec<Track>,
    timeline: Timeline,
    /// Time of the first unit: the 0 of all times that come out.
    origin: Option<i64>,
    started: bool,
    changed: bool,
}

#[derive(Debug, Clone)]
struct Track {
    parameters: Parameters,
    form: Form,
    /// A further track of its kind: nothing of it goes out.
    unused: bool,
}

/// How a track's units become bodies.
#[derive(Debug, Clone, Copy)]
enum Form {
    H264,
    /// The FourCC, and whether presentation times go with it.
    Enhanced([u8; 4], bool),
    /// The first byte, and whether a packet type follows (AAC).
    Sound(u8, bool),
}

impl Form {
    fn of(p: &Parameters) -> Result<Self, Unsupported> {
        let unsupported = Unsupported { codec: p.codec, sample_rate: p.sample_rate };
        let known = |form| if p.extradata.is_empty() { Err(unsupported) } else { Ok(form) };
        let stereo = u8::from(p.channels > 1);
        // Bits: 4 format, 2 rate, 1 samples of 16 bits, 1 stereo.
        let rate = |rate: u32| [5_512, 11_025, 22_050, 44_100].iter().position(|known| *known == rate);
        let sound = |format: u8, rate: usize| format << 4 | (rate as u8 & 3) << 2 | 2 | stereo;
        match p.codec {
            Codec::H264 => known(Self::H264),
            Codec::Hevc => known(Self::Enhanced(*b"hvc1", true)),
            Codec::Av1 => Ok(Self::Enhanced(*b"av01", false)),
            Codec::Vp9 => Ok(Self::Enhanced(*b"vp09", false)),
            Codec::Vp8 => Ok(Self::Enhanced(*b"vp08", false)),
            // Always 44.1 kHz stereo; the configuration decides.
            Codec::Aac => known(Self::Sound(0xaf, true)),
            Codec::Opus => known(Self::Enhanced(*b"Opus", false)),
            Codec::Flac => known(Self::Enhanced(*b"fLaC", false)),
            Codec::Mp3 if p.sample_rate == 8_000 => Ok(Self::Sound(sound(14, 0), false)),
            // A rate that has no bits stands in the frames.
            Codec::Mp3 => Ok(Self::Sound(sound(2, rate(p.sample_rate).unwrap_or(3)), false)),
            Codec::PcmAlaw if (p.sample_rate, p.channels) == (8_000, 1) => Ok(Self::Sound(0x72, false)),
            Codec::PcmMulaw if (p.sample_rate, p.channels) == (8_000, 1) => Ok(Self::Sound(0x82, false)),
            Codec::PcmS16le if p.channels <= 2 => {
                rate(p.sample_rate).map(|rate| Self::Sound(sound(3, rate), false)).ok_or(unsupported)
            }
            _ => Err(unsupported),
        }
    }
}

impl TagMuxer {
    /// A muxer for `tracks`, whose times count from the same instant.
    pub fn new(tracks: &[Parameters]) -> Result<Self, Unsupported> {
        let mut list: Vec<Track> = Vec::new();
        for p in tracks {
            let kind = p.codec.kind();
            let unused = list.iter().any(|track| track.parameters.codec.kind() == kind);
            list.push(Track { parameters: p.clone(), form: Form::of(p)?, unused });
        }
        Ok(Self {
            timeline: Timeline::new(list.iter().map(|_| CLOCK_RATE)),
            tracks: list,
            origin: None,
            started: false,
            changed: false,
        })
    }

    /// Takes new parameters of a track. The caller sends [`TagMuxer::configs`] before the next key unit.
    pub fn reconfigure(&mut self, track: usize, parameters: Parameters) -> Result<(), Unsupported> {
        let form = Form::of(&parameters)?;
        if let Some(track) = self.tracks.get_mut(track) {
            self.changed |= track.parameters.extradata != parameters.extradata
                || track.parameters.codec != parameters.codec
                || track.parameters.sample_rate != parameters.sample_rate;
            track.form = form;
            track.parameters = parameters;
        }
        Ok(())
    }

    /// Whether some parameters are other than at the start.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// Whether there are pictures.
    pub fn has_video(&self) -> bool {
        self.tracks.iter().any(|track| track.parameters.codec.kind() == Kind::Video)
    }

    /// Whether there is sound.
    pub fn has_audio(&self) -> bool {
        self.tracks.iter().any(|track| track.parameters.codec.kind() == Kind::Audio)
    }

    /// Body of the script tag `onMetaData`.
    pub fn metadata(&self) -> Bytes {
        let mut members: Vec<(String, Value)> = Vec::new();
        let mut put = |name: &str, value: Value| members.push((name.to_owned(), value));
        for track in self.tracks.iter().filter(|track| !track.unused) {
            let p = &track.parameters;
            let id = match track.form {
                Form::H264 => 7.0,
                Form::Enhanced(fourcc, _) => f64::from(u32::from_be_bytes(fourcc)),
                Form::Sound(first, _) => f64::from(first >> 4),
            };
            if p.codec.kind() == Kind::Video {
                if p.width > 0 && p.height > 0 {
                    put("width", f64::from(p.width).into());
                    put("height", f64::from(p.height).into());
                }
                put("videocodecid", id.into());
            } else {
                put("audiocodecid", id.into());
                put("audiosamplerate", f64::from(p.sample_rate).into());
                put("audiochannels", f64::from(p.channels).into());
                put("stereo", (p.channels > 1).into());
            }
        }
        put("encoder", "Patchbay".into());
        let mut out = BytesMut::new();
        amf::write_all(&["onMetaData".into(), Value::EcmaArray(members)], &mut out);
        out.freeze()
    }

    /// Bodies of the tags that decoders need before the first unit, one per track at most.
    pub fn configs(&self) -> Vec<(TagKind, Bytes)> {
        let configs = self.tracks.iter().filter(|track| !track.unused).filter_map(|track| {
            let mut out = BytesMut::new();
            let kind = kind_of(&track.parameters);
            match (track.form, kind) {
                (Form::H264, _) => out.put_slice(&[0x17, 0, 0, 0, 0]),
                (Form::Enhanced(..), _) if track.parameters.extradata.is_empty() => return None,
                // Sequence start: of key frame type for pictures, format 9 for sound.
                (Form::Enhanced(fourcc, _), _) => {
                    out.put_u8(0x90);
                    out.put_slice(&fourcc);
                }
                (Form::Sound(first, true), _) => out.put_slice(&[first, 0]),
                (Form::Sound(_, false), _) => return None,
            }
            if track.parameters.codec == Codec::Flac && !track.parameters.extradata.starts_with(b"fLaC") {
                out.put_slice(b"fLaC\x80\0\0\x22");
            }
            out.put_slice(&track.parameters.extradata);
            Some((kind, out.freeze()))
        });
        configs.collect()
    }

    /// Places a unit. `None`: nothing of it goes out, such as everything before the first key picture.
    pub fn place(&mut self, index: usize, unit: &Unit) -> Option<Placed> {
        let track = self.tracks.get(index).filter(|track| !track.unused)?;
        let (rate, form, kind) = (track.parameters.clock_rate, track.form, kind_of(&track.parameters));
        let has_video = self.has_video();
        let key = unit.key && (kind == TagKind::Video || !has_video);
        self.started |= key;
        if unit.data.is_empty() || !self.started {
            return None;
        }
        let to = |ticks| rescale(ticks, rate.max(1), CLOCK_RATE);
        let times = self.timeline.place(index, to(unit.pts), to(unit.dts), unit.discontinuity);
        let origin = *self.origin.get_or_insert(times.dts);
        let head = head(form, unit.key, times.pts.saturating_sub(times.dts));
        Some(Placed { kind, time: times.dts.saturating_sub(origin), head, key })
    }

    /// The places of `units` of track `index`, from the newest key unit to the newest unit that was placed, with times that
    /// begin near 0 and end where live goes on; and the time that live messages then call 0. `None` without units.
    ///
    /// 0 is for the sound that is still to come and older than the first picture, as it usually is a little.
    pub fn history(&self, index: usize, units: &[Unit], mode: Mode) -> Option<(Vec<Placed>, i64)> {
        let track = self.tracks.get(index).filter(|track| !track.unused)?;
        let (kind, form) = (kind_of(&track.parameters), track.form);
        let times: Vec<(i64, i64)> = units.iter().map(|unit| self.times(index, unit)).collect();
        let newest = self.newest(index).unwrap_or(times.last()?.1);
        let (placed, start): (Vec<(i64, i64)>, i64) = match mode {
            Mode::Raw => {
                let start = times.first()?.1;
                (times.iter().map(|(pts, dts)| (*pts - start, *dts - start)).collect(), start)
            }
            Mode::Squeezed => {
                let pts: Vec<i64> = times.iter().map(|(pts, _)| *pts).collect();
                // The newest unit's own decoding time is `newest`.
                let (placed, total) = squeeze(&pts, newest, 1);
                let placed = placed.iter().map(|p| (p.presentation, p.decode)).collect();
                (placed, newest.saturating_add(1).saturating_sub(total))
            }
        };
        let lead_in = self.lead_in(index, start);
        let places = units.iter().zip(placed).map(|(unit, (pts, dts))| Placed {
            kind,
            time: dts.saturating_add(lead_in),
            head: head(form, unit.key, pts.saturating_sub(dts)),
            key: unit.key,
        });
        Some((places.collect(), start.saturating_sub(lead_in)))
    }

    /// The head of a key unit of track `index` that is shown when it is decoded.
    pub(super) fn still(&self, index: usize) -> Option<(TagKind, Head)> {
        let track = self.tracks.get(index).filter(|track| !track.unused)?;
        Some((kind_of(&track.parameters), head(track.form, true, 0)))
    }

    /// How far what comes next of other tracks than `index` may be older than `start`, in milliseconds.
    fn lead_in(&self, index: usize, start: i64) -> i64 {
        let others = (0..self.tracks.len()).filter(|other| *other != index);
        let next = others.filter_map(|other| self.newest(other)).map(|newest| newest.saturating_add(1)).min();
        let behind = next.map_or(0, |next| start.saturating_sub(next));
        // One that is further behind has stopped.
        if (0..=MAX_LEAD_IN_MS).contains(&behind) { behind } else { 0 }
    }

    /// Presentation and decoding time of a unit that was placed, in milliseconds.
    fn times(&self, index: usize, unit: &Unit) -> (i64, i64) {
        let rate = self.tracks.get(index).map_or(CLOCK_RATE, |track| track.parameters.clock_rate.max(1));
        let moved = self.timeline.offset(index).saturating_sub(self.origin.unwrap_or(0));
        let to = |ticks| rescale(ticks, rate, CLOCK_RATE).saturating_add(moved);
        (to(unit.pts), to(unit.dts))
    }

    /// Decoding time of the newest unit of track `index`, in milliseconds.
    fn newest(&self, index: usize) -> Option<i64> {
        Some(self.timeline.last(index)?.saturating_sub(self.origin?))
    }

    /// What a viewer that starts with the next unit calls 0, in milliseconds: the time of that unit, `next` if it is
    /// known (track and unit), or that of the sound before it; else the newest time of all.
    pub fn start(&self, next: Option<(usize, &Unit)>) -> i64 {
        match next {
            Some((index, unit)) => {
                let time = self.clone().place(index, unit).map_or(0, |placed| placed.time);
                time.saturating_sub(self.lead_in(index, time))
            }
            None => (0..self.tracks.len()).filter_map(|index| self.newest(index)).max().unwrap_or(0),
        }
    }
}

fn kind_of(parameters: &Parameters) -> TagKind {
    if parameters.codec.kind() == Kind::Video { TagKind::Video } else { TagKind::Audio }
}

fn head(form: Form, key: bool, offset: i64) -> Head {
    // 24 bits with a sign.
    let offset = i32::try_from(offset.clamp(-(1 << 23), (1 << 23) - 1)).unwrap_or(0);
    let [_, offset @ ..] = offset.to_be_bytes();
    // Frame type 1 is a key frame, 2 another; format 9 is enhanced sound, whose packets are all of type 1.
    match form {
        Form::H264 => Head::new(&[&[if key { 0x17 } else { 0x27 }, 1], &offset]),
        Form::Enhanced(fourcc, timed) => {
            let first = if key { 0x91 } else { 0xa1 };
            Head::new(&[&[first], &fourcc, if timed { &offset } else { &[] }])
        }
        Form::Sound(first, true) => Head::new(&[&[first, 1]]),
        Form::Sound(first, false) => Head::new(&[&[first]]),
    }
}

//! Units to a transport stream that starts anywhere: tables come every 100 ms and before each key picture.

use bytes::{BufMut, Bytes, BytesMut};
use patchbay_media::aac::{AudioSpecificConfig, adts};
use patchbay_media::{Codec, Kind, Parameters, Unit, annexb, h264, h265, nal};

use super::CLOCK_RATE;
use super::frames::opus_control_header;
use super::packet::PACKET_BYTES;
use super::pes::{self, ID_AUDIO, ID_PRIVATE, ID_VIDEO};
use super::psi::{self, Stream};
use crate::chunk::Chunk;
use crate::history::{Mode, squeeze};
use crate::timeline::{Timeline, rescale};

const PROGRAM: u16 = 1;
const PID_PAT: u16 = 0;
const PID_PMT: u16 = 0x1000;
/// PID of the first track.
const PID_FIRST: u16 = 0x100;
/// What decoders have for buffering: decoding times are ahead of the program clock by this, in ticks (200 ms).
const DELAY: i64 = 18_000;
/// Added to all times, so that small negative ones do not wrap, in ticks (10 s).
const LEAD_IN: i64 = 900_000;
/// Longest distance of tables, in ticks (100 ms).
const TABLES_EVERY: i64 = 9_000;
/// Longest distance of clock references when something is sent, in ticks (40 ms).
const PCR_EVERY: i64 = 3_600;
/// Most tracks: their map fits in one section.
const MAX_TRACKS: usize = 16;

/// A track that a transport stream has no place for, or whose parameters are not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("mpegts: unsupported codec: {}", codec.name())]
pub struct Unsupported {
    /// Its codec.
    pub codec: Codec,
}

/// What the muxer does beyond the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// G.711 at 8 kHz goes out as stream types 0x90 and 0x91, which few players know; else it is unsupported.
    pub private_pcm: bool,
}

/// Muxes the units of an output's tracks. Its chunks are the same for every viewer: players take any start.
#[derive(Debug, Clone)]
pub struct Muxer {
    options: Options,
    tracks: Vec<Track>,
    timeline: Timeline,
    pmt_version: u8,
    continuity_pat: u8,
    continuity_pmt: u8,
    /// Index of the track with the program clock.
    clock_track: usize,
    last_tables: Option<i64>,
    last_pcr: Option<i64>,
    /// A key picture, or any sound without pictures, has come.
    started: bool,
    /// The next packet of the clock's track says that continuity starts anew.
    restart: bool,
}

#[derive(Debug, Clone)]
struct Track {
    parameters: Parameters,
    form: Form,
    continuity: u8,
}

/// How a track's units become payloads.
#[derive(Debug, Clone)]
enum Form {
    /// The parameter sets that go before key pictures.
    H264(Vec<Bytes>),
    Hevc(Vec<Bytes>),
    Adts(AudioSpecificConfig),
    Opus,
    Whole,
}

impl Form {
    fn of(parameters: &Parameters, options: Options) -> Result<Self, Unsupported> {
        let unsupported = Unsupported { codec: parameters.codec };
        let record = &parameters.extradata;
        Ok(match parameters.codec {
            Codec::H264 => {
                let sets = h264::parse_avcc(record).map_err(|_| unsupported)?;
                Self::H264([sets.sps, sets.pps].concat())
            }
            Codec::Hevc => {
                let sets = h265::parse_hvcc(record).map_err(|_| unsupported)?;
                Self::Hevc([sets.vps, sets.sps, sets.pps].concat())
            }
            Codec::Aac => {
                let config = AudioSpecificConfig::parse(record)
                    .unwrap_or_else(|_| AudioSpecificConfig::lc(parameters.sample_rate, parameters.channels));
                adts::build(&config, 0).ok_or(unsupported)?;
                Self::Adts(config)
            }
            Codec::Opus => Self::Opus,
            Codec::Mp2 | Codec::Mp3 => Self::Whole,
            Codec::PcmAlaw | Codec::PcmMulaw
                if options.private_pcm && (parameters.sample_rate, parameters.channels) == (8_000, 1) =>
            {
                Self::Whole
            }
            _ => return Err(unsupported),
        })
    }
}

impl Muxer {
    /// A muxer for `tracks`, whose times count from the same instant.
    pub fn new(tracks: &[Parameters], options: Options) -> Result<Self, Unsupported> {
        let list: Result<Vec<Track>, Unsupported> = tracks
            .iter()
            .take(MAX_TRACKS)
            .map(|p| Ok(Track { parameters: p.clone(), form: Form::of(p, options)?, continuity: 0 }))
            .collect();
        let clock_track = tracks.iter().position(|p| p.codec.kind() == Kind::Video).unwrap_or(0);
        Ok(Self {
            options,
            tracks: list?,
            timeline: Timeline::new(tracks.iter().map(|_| CLOCK_RATE)),
            pmt_version: 0,
            continuity_pat: 0,
            continuity_pmt: 0,
            clock_track,
            last_tables: None,
            last_pcr: None,
            started: false,
            restart: false,
        })
    }

    /// The content type.
    pub fn mime(&self) -> &'static str {
        "video/mp2t"
    }

    /// The next unit goes out behind the tables: a segment begins with it.
    pub fn repeat_tables(&mut self) {
        self.last_tables = None;
    }

    /// Takes new parameters of a track; they go out with the next unit.
    pub fn reconfigure(&mut self, track: usize, parameters: Parameters) -> Result<(), Unsupported> {
        let form = Form::of(&parameters, self.options)?;
        if let Some(track) = self.tracks.get_mut(track) {
            if stream_type(track.parameters.codec) != stream_type(parameters.codec) {
                self.pmt_version = self.pmt_version.wrapping_add(1) & 0x1f;
                self.last_tables = None;
            }
            track.form = form;
            track.parameters = parameters;
        }
        Ok(())
    }

    /// Muxes a unit. Before the first key picture nothing comes out.
    pub fn push(&mut self, track: usize, unit: &Unit) -> Option<Chunk> {
        let is_video = self.tracks.get(track)?.parameters.codec.kind() == Kind::Video;
        let has_video = self.has_video();
        self.started |= !has_video || is_video && unit.key;
        if unit.data.is_empty() || !self.started {
            return None;
        }
        let rate = self.tracks.get(track)?.parameters.clock_rate;
        let to = |ticks| rescale(ticks, rate.max(1), CLOCK_RATE);
        let times = self.timeline.place(track, to(unit.pts), to(unit.dts), unit.discontinuity);
        let mut out = BytesMut::with_capacity(unit.data.len() + unit.data.len() / 32 + 6 * PACKET_BYTES);
        self.unit(track, unit, times.pts, times.dts, &mut out);
        let key = if has_video { is_video && unit.key } else { true };
        Some(Chunk { data: out.freeze(), key, ..Chunk::default() })
    }

    /// What a viewer gets that joins now: the pictures of `track` from the newest key unit to the newest unit pushed, in
    /// decoding order, with times that end where live goes on. Empty without units.
    pub fn history(&self, units: &[Unit], track: usize, mode: Mode) -> Bytes {
        let (Some(t), Some(newest)) = (self.tracks.get(track), units.last()) else { return Bytes::new() };
        let to = |ticks| {
            rescale(ticks, t.parameters.clock_rate.max(1), CLOCK_RATE)
                .saturating_add(self.timeline.offset(track))
        };
        let next = self.timeline.last(track).unwrap_or_else(|| to(newest.dts));
        let times: Vec<(i64, i64)> = match mode {
            Mode::Raw => units.iter().map(|unit| (to(unit.pts), to(unit.dts))).collect(),
            Mode::Squeezed => {
                let pts: Vec<i64> = units.iter().map(|unit| to(unit.pts)).collect();
                // The newest unit's own decoding time is `next`.
                let (placed, total) = squeeze(&pts, next, 1);
                let start = next.saturating_add(1).saturating_sub(total);
                placed
                    .iter()
                    .map(|p| (start.saturating_add(p.presentation), start.saturating_add(p.decode)))
                    .collect()
            }
        };
        let mut muxer = self.clone();
        muxer.restart = true;
        muxer.last_tables = None;
        muxer.last_pcr = None;
        let mut out = BytesMut::with_capacity(units.iter().map(|unit| unit.data.len() + 512).sum());
        for (unit, (pts, dts)) in units.iter().zip(times) {
            muxer.unit(track, unit, pts, dts, &mut out);
        }
        // Live packets count on from the muxer's counters: those of the history end there.
        for packet in out.chunks_exact_mut(PACKET_BYTES) {
            let (before, after) = (self.counter_of(packet), muxer.counter_of(packet));
            if let Some(byte) = packet.get_mut(3) {
                *byte = *byte & 0xf0 | byte.wrapping_add(before).wrapping_sub(after) & 0x0f;
            }
        }
        out.freeze()
    }

    fn has_video(&self) -> bool {
        self.tracks.iter().any(|track| track.parameters.codec.kind() == Kind::Video)
    }

    /// The counter of the packet's PID.
    fn counter_of(&self, packet: &[u8]) -> u8 {
        let [_, high, low, ..] = *packet else { return 0 };
        match u16::from(high & 0x1f) << 8 | u16::from(low) {
            PID_PAT => self.continuity_pat,
            PID_PMT => self.continuity_pmt,
            pid => {
                self.tracks.get(usize::from(pid.wrapping_sub(PID_FIRST))).map_or(0, |track| track.continuity)
            }
        }
    }

    fn unit(&mut self, index: usize, unit: &Unit, pts: i64, dts: i64, out: &mut BytesMut) {
        let Some(track) = self.tracks.get(index) else { return };
        let is_video = track.parameters.codec.kind() == Kind::Video;
        let random_access = unit.key && (is_video || !self.has_video());
        let due = self
            .last_tables
            .is_none_or(|last| dts.saturating_sub(last) >= TABLES_EVERY || dts < last - TABLES_EVERY);
        if due || is_video && unit.key {
            self.tables(out);
            self.last_tables = Some(dts);
        }
        let Some(track) = self.tracks.get(index) else { return };
        let payload = payload(track, unit);
        let id = match track.parameters.codec {
            Codec::Opus => ID_PRIVATE,
            codec if codec.kind() == Kind::Video => ID_VIDEO,
            _ => ID_AUDIO,
        };
        let (pts, dts) = (pts.saturating_add(LEAD_IN), dts.saturating_add(LEAD_IN));
        let mut data = BytesMut::with_capacity(payload.len() + 32);
        let length = (!is_video).then_some(payload.len());
        pes::build(id, length, pts, dts, &mut data);
        data.put_slice(&payload);
        let clock = self.clock(index, dts);
        self.packets(index, &data, random_access, clock, out);
    }

    /// The clock reference that goes with a unit of track `index` due at `dts`. Where pictures are far apart, sound
    /// carries the clock in packets of its own.
    fn clock(&mut self, index: usize, dts: i64) -> Option<i64> {
        let now = dts.saturating_sub(DELAY);
        let pcr = match self.last_pcr {
            None => now,
            Some(last) if index == self.clock_track => now.max(last.saturating_add(1)),
            Some(last) => {
                // Never ahead of the picture that comes next.
                let latest = self.timeline.last(self.clock_track).map_or(now, |t| t.saturating_add(LEAD_IN));
                let now = now.min(latest);
                if now.saturating_sub(last) < PCR_EVERY {
                    return None;
                }
                now
            }
        };
        self.last_pcr = Some(pcr);
        Some(pcr)
    }

    fn tables(&mut self, out: &mut BytesMut) {
        let pcr_pid = pid(self.clock_track);
        let streams = self.tracks.iter().enumerate().map(|(index, track)| {
            let channels = track.parameters.channels.max(1);
            let descriptors = match track.parameters.codec {
                Codec::Opus => {
                    Bytes::copy_from_slice(&[5, 4, b'O', b'p', b'u', b's', 0x7f, 2, 0x80, channels])
                }
                _ => Bytes::new(),
            };
            Stream { stream_type: stream_type(track.parameters.codec), pid: pid(index), descriptors }
        });
        let pmt = psi::build_pmt(PROGRAM, self.pmt_version, pcr_pid, &streams.collect::<Vec<_>>());
        let pat = psi::build_pat(PROGRAM, PID_PMT);
        for (pid, section, continuity) in
            [(PID_PAT, pat, &mut self.continuity_pat), (PID_PMT, pmt, &mut self.continuity_pmt)]
        {
            *continuity = continuity.wrapping_add(1) & 0x0f;
            let start = out.len();
            out.put_slice(&header(pid, true, 1, *continuity));
            out.put_u8(0);
            out.put_slice(&section);
            out.resize(start + PACKET_BYTES, 0xff);
        }
    }

    /// Cuts a PES packet into transport packets.
    fn packets(
        &mut self,
        index: usize,
        data: &[u8],
        random_access: bool,
        clock: Option<i64>,
        out: &mut BytesMut,
    ) {
        let own_clock = index == self.clock_track;
        if let Some(pcr) = clock.filter(|_| !own_clock) {
            let continuity = self.tracks.get(self.clock_track).map_or(0, |track| track.continuity);
            // No payload: the counter stays.
            let restart = std::mem::take(&mut self.restart);
            let start = out.len();
            out.put_slice(&header(pid(self.clock_track), false, 2, continuity));
            put_adaptation(out, PACKET_BYTES - 5, restart, false, Some(pcr));
            out.resize(start + PACKET_BYTES, 0xff);
        }
        let restart = own_clock && std::mem::take(&mut self.restart);
        let Some(track) = self.tracks.get_mut(index) else { return };
        let (mut rest, mut first) = (data, true);
        while !rest.is_empty() {
            let pcr = clock.filter(|_| first && own_clock);
            let flagged = first && (random_access || restart);
            // Length byte, flags, clock.
            let needed = match (pcr.is_some(), flagged) {
                (true, _) => 8,
                (false, true) => 2,
                _ => 0,
            };
            let room = PACKET_BYTES - 4;
            let take = rest.len().min(room - needed);
            let adaptation = room - take;
            track.continuity = track.continuity.wrapping_add(1) & 0x0f;
            out.put_slice(&header(pid(index), first, if adaptation > 0 { 3 } else { 1 }, track.continuity));
            if adaptation > 0 {
                put_adaptation(out, adaptation - 1, first && restart, first && random_access, pcr);
            }
            let (now, later) = rest.split_at_checked(take).unwrap_or((rest, &[]));
            out.put_slice(now);
            rest = later;
            first = false;
        }
    }
}

fn pid(index: usize) -> u16 {
    PID_FIRST + u16::try_from(index).unwrap_or(0)
}

fn stream_type(codec: Codec) -> u8 {
    match codec {
        Codec::H264 => 0x1b,
        Codec::Hevc => 0x24,
        Codec::Aac => 0x0f,
        Codec::Mp2 | Codec::Mp3 => 0x03,
        Codec::PcmAlaw => 0x90,
        Codec::PcmMulaw => 0x91,
        _ => 0x06,
    }
}

/// The first 4 bytes of a packet; `control` 1 payload, 2 adaptation field, 3 both.
fn header(pid: u16, starts: bool, control: u8, continuity: u8) -> [u8; 4] {
    let [high, low] = pid.to_be_bytes();
    [0x47, u8::from(starts) << 6 | high & 0x1f, low, control << 4 | continuity & 0x0f]
}

/// An adaptation field with `length` bytes behind its length.
fn put_adaptation(
    out: &mut BytesMut,
    length: usize,
    discontinuity: bool,
    random_access: bool,
    pcr: Option<i64>,
) {
    let end = out.len() + 1 + length;
    out.put_u8(u8::try_from(length).unwrap_or(0));
    if length > 0 {
        out.put_u8(
            u8::from(discontinuity) << 7 | u8::from(random_access) << 6 | u8::from(pcr.is_some()) << 4,
        );
    }
    if let Some(pcr) = pcr {
        out.put_slice(&pes::pcr(pcr));
    }
    out.resize(end, 0xff);
}

fn payload(track: &Track, unit: &Unit) -> Bytes {
    let mut out = BytesMut::with_capacity(unit.data.len() + 64);
    match &track.form {
        Form::H264(sets) | Form::Hevc(sets) => {
            let delimiter: &[u8] =
                if matches!(track.form, Form::H264(_)) { &[0x09, 0xf0] } else { &[0x46, 0x01, 0x50] };
            let sets = sets.iter().filter(|_| unit.key).map(AsRef::as_ref);
            annexb::write([delimiter].into_iter().chain(sets).chain(nal::units(&unit.data)), &mut out);
        }
        Form::Adts(config) => {
            // A frame that is too long for its header would break the stream behind it.
            let Some(header) = adts::build(config, unit.data.len()) else { return Bytes::new() };
            out.put_slice(&header);
            out.put_slice(&unit.data);
        }
        Form::Opus => {
            opus_control_header(unit.data.len(), &mut out);
            out.put_slice(&unit.data);
        }
        Form::Whole => return unit.data.clone(),
    }
    out.freeze()
}

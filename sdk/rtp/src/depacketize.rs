//! Payloads of RTP packets to units, one [`Depacketizer`] per media.
//!
//! | what | rows |
//! |---|---|
//! | order, loss, other payload types | C41, C86, C87, R2, R5 |
//! | times | [`Depacketizer::pts_of`], R3, R4, R6, R45 |
//! | access units of H.264 and H.265 | R1, R2, R10 to R19, R30 to R36 |
//! | audio | R40 to R56 |
//! | JPEG | R60 to R66 |
//! | AV1, VP8, VP9, MPEG-4 Visual | R71, R72 |

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use patchbay_media::assembler::Flags;
use patchbay_media::{Assembler, Codec, DtsEstimator, Parameters, Unit, h265 as hevc};

use self::nal_units::NalUnits;
use self::pictures::Pictures;
use self::timeline::{Stamp, Timeline};
use crate::sdp::Media;
use crate::{RtpPacket, Unsupported};

mod aac;
mod access_unit;
mod av1;
mod h264;
mod h265;
mod jpeg;
mod latm;
mod mpa;
mod mpeg4;
mod nal_units;
mod pictures;
mod simple;
mod timeline;
mod vpx;

/// A step back of more sequence numbers than this is a sender that began anew, less a late packet (C67).
const MAX_LATE: i16 = 64;

/// After so long without a key unit in a stream that never had one, units are let through without (R18).
const MAX_WAIT_FOR_FIRST_KEY: Duration = Duration::from_secs(5);

/// What comes out of a [`Depacketizer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A unit.
    Unit(Unit),
    /// The configuration from the next unit on.
    Parameters(Parameters),
    /// Packets are missing.
    Lost {
        /// How many, at least.
        packets: u32,
    },
}

/// Faults that were passed over, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Packets whose payload could not be read, or not all of it (R5, R15).
    pub malformed_packets: u64,
    /// Packets that came twice or too late, or with a payload type of another media.
    pub ignored_packets: u64,
    /// Packets that never came.
    pub lost_packets: u64,
    /// Units that were dropped because they, or what they need, are incomplete or too large (R2, X10).
    pub dropped_units: u64,
}

/// Units of one media. Packets go in in sequence order: over UDP put [`crate::Reorder`] before it.
///
/// `pts` is the RTP time, endless and repaired, in ticks of [`Parameters::clock_rate`]; it begins with the first packet's
/// value, or with [`Self::start_at_arrival`] at its arrival. After a loss units of video (but JPEG) are dropped up to the next key unit,
/// unless [`Self::keep_incomplete`] was called; the next unit is marked as a discontinuity.
#[derive(Debug)]
pub struct Depacketizer {
    parameters: Parameters,
    payload_types: Vec<u8>,
    format: Format,
    order: Order,
    timeline: Timeline,
    loss: LossPolicy,
    /// `None` for other codecs than H.264 and H.265.
    assembler: Option<Assembler>,
    /// Decoding times of MPEG-4 Visual; other codecs have none of their own.
    decoding_times: Option<DtsEstimator>,
    /// The next unit does not continue the one before.
    discontinuity: bool,
    frames: Vec<Frame>,
    items: VecDeque<Item>,
    faults: Faults,
}

/// A frame as the payload formats give it, before it has its time.
#[derive(Debug)]
struct Frame {
    timestamp: u32,
    arrival: Duration,
    /// In ticks of the track's clock, 0 unknown.
    duration: u32,
    /// Small deviations from the end of the frame before are jitter (R45).
    snap: bool,
    incomplete: bool,
    picture: Option<Picture>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Data(Bytes),
    NalUnits(Vec<Bytes>),
    /// A picture, and whether decoding can start with it.
    Picture {
        data: Bytes,
        key: bool,
    },
    /// New configuration.
    Parameters(Parameters),
}

/// What the loss policy must know of an access unit.
#[derive(Debug, Clone, Copy)]
struct Picture {
    /// Packets were lost before it.
    gap_before: bool,
    is_reference: bool,
}

impl Frame {
    /// A whole audio frame or picture that stands for itself.
    fn whole(packet: &RtpPacket, arrival: Duration, duration: u32, data: Bytes) -> Self {
        Self {
            timestamp: packet.timestamp,
            arrival,
            duration,
            snap: false,
            incomplete: false,
            picture: None,
            body: Body::Data(data),
        }
    }

    fn parameters(parameters: Parameters) -> Self {
        Self {
            timestamp: 0,
            arrival: Duration::ZERO,
            duration: 0,
            snap: false,
            incomplete: false,
            picture: None,
            body: Body::Parameters(parameters),
        }
    }
}

/// A payload could not be read.
#[derive(Debug)]
struct Malformed;

#[derive(Debug)]
enum Format {
    H264(NalUnits<h264::H264>),
    H265(NalUnits<h265::H265>),
    Aac(aac::Aac),
    Latm(latm::Latm),
    Jpeg(Box<jpeg::Jpeg>),
    Mpa(mpa::Mpa),
    Vp8(Pictures<vpx::Vp8>),
    Vp9(Pictures<vpx::Vp9>),
    Av1(Pictures<av1::Av1>),
    Mpeg4(Pictures<mpeg4::Mpeg4>),
    Simple(simple::Simple),
}

impl Depacketizer {
    /// A depacketizer for the chosen payload type of `media`.
    pub fn new(media: &Media) -> Result<Self, Unsupported> {
        let unsupported = || Unsupported { encoding: media.encoding.clone() };
        let parameters = media.parameters().ok_or_else(unsupported)?;
        let format = match media.encoding.as_str() {
            "H264" => Format::H264(NalUnits::new()),
            "H265" => Format::H265(NalUnits::new()),
            "MPEG4-GENERIC" => Format::Aac(aac::Aac::new(media, &parameters)),
            "MP4A-LATM" => Format::Latm(latm::Latm::new(media, &parameters)),
            "JPEG" => Format::Jpeg(Box::new(jpeg::Jpeg::new(media.dimensions, &parameters))),
            "MPA" => Format::Mpa(mpa::Mpa::new(&parameters)),
            "VP8" => Format::Vp8(Pictures::new(vpx::Vp8, &parameters)),
            "VP9" => Format::Vp9(Pictures::new(vpx::Vp9, &parameters)),
            "AV1" => Format::Av1(Pictures::new(av1::Av1::default(), &parameters)),
            "MP4V-ES" => Format::Mpeg4(Pictures::new(mpeg4::Mpeg4, &parameters)),
            encoding => Format::Simple(simple::Simple::new(encoding, &parameters).ok_or_else(unsupported)?),
        };
        let assembler = matches!(parameters.codec, Codec::H264 | Codec::Hevc)
            .then(|| Assembler::new(parameters.codec, parameters.clock_rate, &parameters.extradata));
        Ok(Self {
            timeline: Timeline::new(parameters.clock_rate),
            payload_types: media.payload_types.clone(),
            decoding_times: (parameters.codec == Codec::Mpeg4)
                .then(|| DtsEstimator::new(parameters.clock_rate)),
            parameters,
            format,
            order: Order::default(),
            loss: LossPolicy::default(),
            assembler,
            discontinuity: false,
            frames: Vec::new(),
            items: VecDeque::new(),
            faults: Faults::default(),
        })
    }

    /// Lets units through that are incomplete, marked so, and those that need them (R2).
    pub fn keep_incomplete(&mut self) {
        self.loss.keep = true;
    }

    /// The first unit's time is its arrival, rather than its RTP time. RTP times of each media start anywhere, so this is what
    /// lets the medias of a session count from one instant, until sender reports say better.
    pub fn start_at_arrival(&mut self) {
        self.timeline.start_at_arrival();
    }

    /// The RTP time `timestamp`, which is that of the first packet or near it, is presented at `at` on the clock of the
    /// arrivals. After the first unit it changes nothing.
    pub fn start_at(&mut self, timestamp: u32, at: Duration) {
        self.timeline.start_at(timestamp, at);
    }

    /// The size of JPEG pictures, when the user states it (`#size=WxH`, R60).
    pub fn set_size(&mut self, width: u32, height: u32) {
        if let Format::Jpeg(jpeg) = &mut self.format {
            jpeg.set_stated_size(width, height);
        }
    }

    /// The configuration as known now; [`Item::Parameters`] tells of changes.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The presentation time of an RTP time near the newest one, for sender reports; `None` before the first unit.
    pub fn pts_of(&self, timestamp: u32) -> Option<i64> {
        self.timeline.pts_of(timestamp)
    }

    /// Faults since the start.
    pub fn faults(&self) -> Faults {
        self.faults
    }

    /// Takes the next packet, which arrived at `arrival` (monotonic).
    pub fn push(&mut self, packet: &RtpPacket, arrival: Duration) {
        let is_listed = self.payload_types.is_empty() || self.payload_types.contains(&packet.payload_type);
        match self.order.next(packet, is_listed) {
            Next::Ignore => {
                self.faults.ignored_packets += 1;
                return;
            }
            Next::Follows => {}
            Next::After { lost } => {
                self.faults.lost_packets += u64::from(lost);
                self.items.push_back(Item::Lost { packets: lost });
                self.lost();
            }
            Next::Restart => {
                self.end_frame();
                self.lost();
                self.timeline.restart();
                self.loss.waits_for_key = true;
            }
        }
        if !is_listed {
            self.faults.ignored_packets += 1;
            return;
        }
        if packet.payload.is_empty() {
            return;
        }
        let out = &mut self.frames;
        let result = match &mut self.format {
            Format::H264(format) => format.push(packet, arrival, out),
            Format::H265(format) => format.push(packet, arrival, out),
            Format::Aac(format) => format.push(packet, arrival, out),
            Format::Latm(format) => format.push(packet, arrival, out),
            Format::Jpeg(format) => format.push(packet, arrival, out),
            Format::Mpa(format) => format.push(packet, arrival, out),
            Format::Vp8(format) => format.push(packet, arrival, out),
            Format::Vp9(format) => format.push(packet, arrival, out),
            Format::Av1(format) => format.push(packet, arrival, out),
            Format::Mpeg4(format) => format.push(packet, arrival, out),
            Format::Simple(format) => format.push(packet, arrival, out),
        };
        if result.is_err() {
            self.faults.malformed_packets += 1;
        }
        self.drain();
    }

    /// The next item.
    pub fn poll(&mut self) -> Option<Item> {
        self.items.pop_front()
    }

    /// No more packets come: the unit in progress is complete.
    pub fn flush(&mut self) {
        self.end_frame();
    }

    fn end_frame(&mut self) {
        match &mut self.format {
            Format::H264(format) => format.flush(&mut self.frames),
            Format::H265(format) => format.flush(&mut self.frames),
            Format::Vp8(format) => format.flush(&mut self.frames),
            Format::Vp9(format) => format.flush(&mut self.frames),
            Format::Av1(format) => format.flush(&mut self.frames),
            Format::Mpeg4(format) => format.flush(&mut self.frames),
            _ => {}
        }
        self.drain();
    }

    fn lost(&mut self) {
        match &mut self.format {
            Format::H264(format) => format.lost(),
            Format::H265(format) => format.lost(),
            Format::Aac(format) => format.lost(),
            Format::Latm(format) => format.lost(),
            Format::Jpeg(format) => format.lost(),
            Format::Mpa(format) => format.lost(),
            Format::Vp8(format) => format.lost(),
            Format::Vp9(format) => format.lost(),
            Format::Av1(format) => format.lost(),
            Format::Mpeg4(format) => format.lost(),
            Format::Simple(_) => {}
        }
        self.discontinuity = true;
    }

    fn drain(&mut self) {
        let mut frames = std::mem::take(&mut self.frames);
        for frame in frames.drain(..) {
            self.frame(frame);
        }
        self.frames = frames;
    }

    fn frame(&mut self, frame: Frame) {
        let data = match frame.body {
            Body::Parameters(parameters) => {
                if parameters != self.parameters {
                    self.parameters = parameters.clone();
                    self.items.push_back(Item::Parameters(parameters));
                }
                return;
            }
            Body::Data(data) => data,
            Body::NalUnits(nals) => {
                let stamp = self.timeline.stamp(frame.timestamp, frame.arrival, 0, false);
                self.discontinuity |= stamp.discontinuity;
                if let Some(picture) = frame.picture {
                    self.access_unit(stamp, picture, frame.incomplete, &nals);
                }
                return;
            }
            Body::Picture { data, key } => {
                let stamp = self.timeline.stamp(frame.timestamp, frame.arrival, 0, false);
                self.discontinuity |= stamp.discontinuity;
                if let Some(picture) = frame.picture {
                    let mut unit = Unit::new(stamp.pts, key, data);
                    unit.incomplete = frame.incomplete;
                    self.picture(unit, picture);
                }
                return;
            }
        };
        let stamp = self.timeline.stamp(frame.timestamp, frame.arrival, frame.duration, frame.snap);
        let mut unit = Unit::new(stamp.pts, true, data);
        unit.duration = frame.duration;
        unit.incomplete = frame.incomplete;
        unit.discontinuity = std::mem::take(&mut self.discontinuity) | stamp.discontinuity;
        self.items.push_back(Item::Unit(unit));
    }

    fn picture(&mut self, mut unit: Unit, picture: Picture) {
        if unit.incomplete && !self.loss.keep {
            self.loss.waits_for_key |= picture.is_reference || picture.gap_before;
        }
        let is_of_use = !unit.data.is_empty() && (!unit.incomplete || self.loss.keep);
        if !is_of_use || !self.loss.passes(&unit, picture, false, self.parameters.clock_rate) {
            self.faults.dropped_units += 1;
            self.discontinuity = true;
            return;
        }
        if let Some(times) = &mut self.decoding_times {
            let time = times.push(unit.pts);
            unit.dts = time.dts;
            self.discontinuity |= !time.continues;
        }
        unit.discontinuity |= std::mem::take(&mut self.discontinuity);
        self.items.push_back(Item::Unit(unit));
    }

    fn access_unit(&mut self, stamp: Stamp, picture: Picture, incomplete: bool, nals: &[Bytes]) {
        let Some(assembler) = &mut self.assembler else { return };
        if incomplete && !self.loss.keep {
            self.faults.dropped_units += 1;
            self.discontinuity = true;
            self.loss.waits_for_key |= picture.is_reference || picture.gap_before;
            return;
        }
        let flags = Flags { discontinuity: false, incomplete };
        let assembled = assembler.push_access_unit(stamp.pts, None, nals.iter().map(Bytes::as_ref), flags);
        if assembled.oversize.is_some() {
            self.faults.dropped_units += 1;
            self.discontinuity = true;
            self.loss.waits_for_key |= picture.is_reference;
        }
        if let Some(parameters) = assembled.new_parameters {
            self.parameters = parameters.clone();
            self.items.push_back(Item::Parameters(parameters));
        }
        let Some(mut unit) = assembled.unit else { return };
        let is_rasl = self.parameters.codec == Codec::Hevc && hevc::is_rasl(nals.iter().map(Bytes::as_ref));
        if !self.loss.passes(&unit, picture, is_rasl, self.parameters.clock_rate) {
            self.faults.dropped_units += 1;
            self.discontinuity = true;
            return;
        }
        unit.discontinuity |= std::mem::take(&mut self.discontinuity);
        self.items.push_back(Item::Unit(unit));
    }
}

/// Which access units come through after a loss (R2).
#[derive(Debug, Default)]
struct LossPolicy {
    keep: bool,
    waits_for_key: bool,
    /// The newest key was reached without the pictures before it: the leading pictures that need those are skipped (R34).
    skips_rasl: bool,
    had_key: bool,
    first_pts: Option<i64>,
}

impl LossPolicy {
    fn passes(&mut self, unit: &Unit, picture: Picture, is_rasl: bool, clock_rate: u32) -> bool {
        let first_pts = *self.first_pts.get_or_insert(unit.pts);
        if unit.key && !unit.incomplete {
            self.skips_rasl = self.waits_for_key || picture.gap_before;
            self.had_key = true;
            self.waits_for_key = false;
            return true;
        }
        self.waits_for_key |= picture.gap_before;
        if is_rasl && self.skips_rasl && !self.keep {
            return false;
        }
        let limit = i64::from(clock_rate).saturating_mul(MAX_WAIT_FOR_FIRST_KEY.as_secs() as i64);
        if !self.had_key && unit.pts.saturating_sub(first_pts) >= limit {
            // An encoder that never sends keys: it refreshes the picture gradually.
            self.waits_for_key = false;
        }
        self.keep || !self.waits_for_key
    }
}

/// Follows the sequence numbers.
#[derive(Debug, Default)]
struct Order {
    last: Option<(u32, u16)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Follows,
    After {
        lost: u32,
    },
    /// The sender began anew.
    Restart,
    /// A duplicate, or too late.
    Ignore,
}

impl Order {
    fn next(&mut self, packet: &RtpPacket, is_listed: bool) -> Next {
        let here = (packet.ssrc, packet.sequence);
        let Some((ssrc, sequence)) = self.last else {
            if is_listed {
                self.last = Some(here);
            }
            return if is_listed { Next::Follows } else { Next::Ignore };
        };
        let step = packet.sequence.wrapping_sub(sequence) as i16;
        let next = if ssrc != packet.ssrc {
            // Another source with another payload type is none of ours.
            if is_listed { Next::Restart } else { Next::Ignore }
        } else if step == 1 {
            Next::Follows
        } else if step > 1 {
            Next::After { lost: u32::from(step.unsigned_abs()) - 1 }
        } else if step < -MAX_LATE {
            if is_listed { Next::Restart } else { Next::Ignore }
        } else {
            Next::Ignore
        };
        if next != Next::Ignore {
            self.last = Some(here);
        }
        next
    }
}

//! AAC in LATM (RFC 6416): configuration in the SDP or in the packets (R46, R47).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use patchbay_media::Parameters;
use patchbay_media::aac::latm::{Demuxer, StreamMuxConfig, payload_length};

use super::aac::{FrameTiming, MAX_FRAME_LEN};
use super::{Body, Frame, Malformed};
use crate::RtpPacket;
use crate::sdp::Media;

#[derive(Debug)]
pub(super) struct Latm {
    mode: Mode,
    parameters: Parameters,
    timing: Option<FrameTiming>,
    /// Packets of one multiplex element so far, without a gap.
    element: BytesMut,
    timestamp: u32,
    /// The packets up to the next marker cannot be used.
    skips: bool,
}

#[derive(Debug)]
enum Mode {
    /// `cpresent=0`.
    OutOfBand,
    /// `cpresent=1`.
    InBand(Demuxer),
}

impl Latm {
    pub(super) fn new(media: &Media, parameters: &Parameters) -> Self {
        let config = media.stream_mux_config();
        let in_band = match media.fmtp.get("cpresent").map(String::as_str) {
            Some("0") => false,
            Some(_) => true,
            None => config.is_none(),
        };
        let timing = config.map(|mux| FrameTiming::of(&mux.config, parameters.clock_rate));
        Self {
            mode: if in_band { Mode::InBand(Demuxer::new()) } else { Mode::OutOfBand },
            parameters: parameters.clone(),
            timing,
            element: BytesMut::new(),
            timestamp: 0,
            skips: false,
        }
    }

    pub(super) fn lost(&mut self) {
        // The lost packet may have been the start of what follows.
        self.element.clear();
        self.skips = true;
    }

    pub(super) fn push(
        &mut self,
        packet: &RtpPacket,
        arrival: Duration,
        out: &mut Vec<Frame>,
    ) -> Result<(), Malformed> {
        if self.skips {
            self.skips = !packet.marker && packet.timestamp == self.timestamp;
            self.timestamp = packet.timestamp;
            if matches!(self.mode, Mode::InBand(_)) || !starts_whole(&packet.payload) {
                return Ok(());
            }
            self.skips = false;
        }
        if packet.timestamp != self.timestamp {
            self.element.clear();
        }
        self.timestamp = packet.timestamp;
        if self.element.len() + packet.payload.len() > MAX_FRAME_LEN {
            self.element.clear();
            return Err(Malformed);
        }
        self.element.extend_from_slice(&packet.payload);
        let element = self.element.clone().freeze();
        let frames = match &mut self.mode {
            Mode::OutOfBand => {
                let (frames, is_whole) = split(&element);
                if !is_whole && !packet.marker {
                    return Ok(());
                }
                self.element.clear();
                if !is_whole && frames.is_empty() {
                    return Err(Malformed);
                }
                frames
            }
            Mode::InBand(_) if !packet.marker => return Ok(()),
            Mode::InBand(demuxer) => {
                self.element.clear();
                let frames = demuxer.push(&element).map_err(|_| Malformed)?;
                let mux = demuxer.config().cloned();
                if let Some(mux) = mux {
                    self.configure(mux, out);
                }
                frames
            }
        };
        let timing = self.timing.unwrap_or(FrameTiming { ticks: 0, exact: false });
        let mut timestamp = packet.timestamp;
        for data in frames.into_iter().filter(|data| !data.is_empty()) {
            out.push(Frame {
                timestamp,
                arrival,
                duration: timing.ticks,
                snap: timing.exact,
                incomplete: false,
                picture: None,
                body: Body::Data(data),
            });
            timestamp = timestamp.wrapping_add(timing.ticks);
        }
        Ok(())
    }

    fn configure(&mut self, mux: StreamMuxConfig, out: &mut Vec<Frame>) {
        if self.parameters.extradata == mux.extradata {
            return;
        }
        self.timing = Some(FrameTiming::of(&mux.config, self.parameters.clock_rate));
        self.parameters.sample_rate = mux.config.output_sample_rate();
        self.parameters.channels = mux.config.output_channels().max(1);
        self.parameters.extradata = mux.extradata;
        out.push(Frame::parameters(self.parameters.clone()));
    }
}

/// The frames in `element`, and whether they fill it.
fn split(element: &Bytes) -> (Vec<Bytes>, bool) {
    let mut frames = Vec::new();
    let mut rest = element.as_ref();
    while !rest.is_empty() {
        let Some((frame, after)) = payload_length(rest).and_then(|(len, after)| after.split_at_checked(len))
        else {
            return (frames, false);
        };
        if !frame.is_empty() {
            frames.push(element.slice_ref(frame));
        }
        rest = after;
    }
    (frames, true)
}

/// Whether frames with their lengths fill the payload exactly, as they hardly do by chance.
fn starts_whole(payload: &Bytes) -> bool {
    matches!(split(payload), (frames, true) if !frames.is_empty())
}

//! MPEG audio, layers 2 and 3 (RFC 2250 section 3.5).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use patchbay_media::mpa::Header;
use patchbay_media::{Codec, Parameters};

use super::aac::MAX_FRAME_LEN;
use super::{Body, Frame, Malformed};
use crate::RtpPacket;

#[derive(Debug)]
pub(super) struct Mpa {
    parameters: Parameters,
    /// A frame over several packets, so far without a gap.
    partial: BytesMut,
}

impl Mpa {
    pub(super) fn new(parameters: &Parameters) -> Self {
        Self { parameters: parameters.clone(), partial: BytesMut::new() }
    }

    pub(super) fn lost(&mut self) {
        self.partial.clear();
    }

    pub(super) fn push(
        &mut self,
        packet: &RtpPacket,
        arrival: Duration,
        out: &mut Vec<Frame>,
    ) -> Result<(), Malformed> {
        let ([_, _, o0, o1], body) = packet.payload.split_first_chunk::<4>().ok_or(Malformed)?;
        let offset = usize::from(u16::from_be_bytes([*o0, *o1]));
        let mut rest = packet.payload.slice_ref(body);
        if offset > 0 {
            if offset != self.partial.len() || offset + rest.len() > MAX_FRAME_LEN {
                self.partial.clear();
                return Err(Malformed);
            }
            self.partial.extend_from_slice(&rest);
            rest = self.partial.clone().freeze();
        }
        self.partial.clear();
        let mut timestamp = packet.timestamp;
        while !rest.is_empty() {
            let header = Header::parse(&rest).filter(|header| header.layer > 1).ok_or(Malformed)?;
            if header.len > rest.len() {
                if timestamp == packet.timestamp {
                    self.partial.extend_from_slice(&rest);
                    return Ok(());
                }
                return Err(Malformed);
            }
            let data = rest.split_to(header.len);
            timestamp = timestamp.wrapping_add(self.emit(header, timestamp, data, arrival, out));
        }
        Ok(())
    }

    /// Gives the frame out; its ticks.
    fn emit(
        &mut self,
        header: Header,
        timestamp: u32,
        data: Bytes,
        arrival: Duration,
        out: &mut Vec<Frame>,
    ) -> u32 {
        let codec = if header.layer == 3 { Codec::Mp3 } else { Codec::Mp2 };
        let known = (self.parameters.codec, self.parameters.sample_rate, self.parameters.channels);
        if known != (codec, header.sample_rate, header.channels) {
            (self.parameters.codec, self.parameters.sample_rate, self.parameters.channels) =
                (codec, header.sample_rate, header.channels);
            out.push(Frame::parameters(self.parameters.clone()));
        }
        let ticks =
            u64::from(header.samples) * u64::from(self.parameters.clock_rate) / u64::from(header.sample_rate);
        let ticks = u32::try_from(ticks).unwrap_or(0);
        let body = Body::Data(data);
        out.push(Frame {
            timestamp,
            arrival,
            duration: ticks,
            snap: false,
            incomplete: false,
            picture: None,
            body,
        });
        ticks
    }
}

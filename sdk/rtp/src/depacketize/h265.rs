//! H.265 (RFC 7798), without decoding order numbers, which nobody sends (R30).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use patchbay_media::{Codec, MAX_UNIT_BYTES};

use super::access_unit::AccessUnits;
use super::h264::{Fragments, without_start_code};
use super::{Frame, Malformed};
use crate::RtpPacket;

/// Aggregation packet, fragmentation unit.
const AP: u8 = 48;
const FU: u8 = 49;

#[derive(Debug)]
pub(super) struct H265 {
    units: AccessUnits,
    /// The fragmented NAL unit so far, without a gap.
    fragments: Option<Fragments>,
}

impl H265 {
    pub(super) fn new() -> Self {
        Self { units: AccessUnits::new(Codec::Hevc), fragments: None }
    }

    pub(super) fn lost(&mut self) {
        self.fragments = None;
        self.units.lost();
    }

    pub(super) fn push(
        &mut self,
        packet: &RtpPacket,
        arrival: Duration,
        out: &mut Vec<Frame>,
    ) -> Result<(), Malformed> {
        let result = self.payload(packet, arrival, out);
        if packet.marker {
            self.complete(out);
            self.units.marker(out);
        }
        result
    }

    pub(super) fn flush(&mut self, out: &mut Vec<Frame>) {
        if self.fragments.take().is_some() {
            self.units.lost();
        }
        self.units.flush(out);
    }

    fn payload(
        &mut self,
        packet: &RtpPacket,
        arrival: Duration,
        out: &mut Vec<Frame>,
    ) -> Result<(), Malformed> {
        let payload = without_start_code(&packet.payload);
        let kind = payload.first().ok_or(Malformed)? >> 1 & 0x3f;
        if kind != FU {
            self.complete(out);
        }
        match kind {
            0..AP if payload.len() > 2 => {
                self.units.begin(&payload, packet.timestamp, arrival, out);
                self.units.push(payload, packet.timestamp, arrival, out);
                Ok(())
            }
            AP => self.aggregate(&payload, packet.timestamp, arrival, out),
            FU => self.fragment(&payload, packet.timestamp, arrival, out),
            // PACI (R31) and undefined types.
            _ => Err(Malformed),
        }
    }

    /// RFC 7798 section 4.4.2. Stops at an empty or overlong entry, keeping those before.
    fn aggregate(
        &mut self,
        payload: &Bytes,
        timestamp: u32,
        arrival: Duration,
        out: &mut Vec<Frame>,
    ) -> Result<(), Malformed> {
        let mut rest = payload.get(2..).ok_or(Malformed)?;
        while let Some((len, after)) = rest.split_first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes(*len));
            if len == 0 {
                break;
            }
            let nal = after.get(..len).ok_or(Malformed)?;
            rest = after.get(len..).unwrap_or_default();
            let nal = without_start_code(&payload.slice_ref(nal));
            if nal.len() < 3 {
                continue;
            }
            self.units.begin(&nal, timestamp, arrival, out);
            self.units.push(nal, timestamp, arrival, out);
        }
        Ok(())
    }

    /// RFC 7798 section 4.4.3. The type is the first fragment's.
    fn fragment(
        &mut self,
        payload: &Bytes,
        timestamp: u32,
        arrival: Duration,
        out: &mut Vec<Frame>,
    ) -> Result<(), Malformed> {
        let (&[h0, h1, header], body) = payload.split_first_chunk::<3>().ok_or(Malformed)?;
        let (is_start, is_end) = (header & 0x80 != 0, header & 0x40 != 0);
        if is_start {
            self.complete(out);
            let mut nal = BytesMut::with_capacity(payload.len() * 8);
            match without_start_code(&payload.slice_ref(body)) {
                inner if inner.len() < body.len() => nal.extend_from_slice(&inner),
                inner => {
                    nal.extend_from_slice(&[h0 & 0x81 | (header & 0x3f) << 1, h1]);
                    nal.extend_from_slice(&inner);
                }
            }
            self.units.begin(&nal, timestamp, arrival, out);
            self.fragments = Some(Fragments { nal, timestamp, arrival });
        } else {
            let Some(Fragments { nal, .. }) = &mut self.fragments else {
                self.units.lost();
                return Err(Malformed);
            };
            if nal.len() + body.len() > MAX_UNIT_BYTES {
                self.lost();
                return Err(Malformed);
            }
            nal.extend_from_slice(body);
        }
        if is_end {
            self.complete(out);
        }
        Ok(())
    }

    /// The NAL unit in fragments is whole: its last fragment came, or another begins although nothing was lost (R13).
    fn complete(&mut self, out: &mut Vec<Frame>) {
        if let Some(Fragments { nal, timestamp, arrival }) = self.fragments.take() {
            self.units.push(nal.freeze(), timestamp, arrival, out);
        }
    }
}

//! H.264 (RFC 6184), of any packetization mode (C52).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use patchbay_media::{Codec, MAX_UNIT_BYTES};

use super::access_unit::AccessUnits;
use super::{Frame, Malformed};
use crate::RtpPacket;

/// STAP-A, FU-A.
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

#[derive(Debug)]
pub(super) struct H264 {
    units: AccessUnits,
    /// The fragmented NAL unit so far, without a gap.
    fragments: Option<Fragments>,
}

impl H264 {
    pub(super) fn new() -> Self {
        Self { units: AccessUnits::new(Codec::H264), fragments: None }
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
        // A leading start code (R12) would read as type 0.
        let payload = without_start_code(&packet.payload);
        let first = *payload.first().ok_or(Malformed)?;
        let kind = first & 0x1f;
        if kind != FU_A {
            self.complete(out);
        }
        match kind {
            1..=23 => {
                self.units.begin(&payload, packet.timestamp, arrival, out);
                self.units.push(payload, packet.timestamp, arrival, out);
                Ok(())
            }
            STAP_A => self.aggregate(&payload.slice(1..), packet.timestamp, arrival, out),
            FU_A => self.fragment(&payload, packet.timestamp, arrival, out),
            // STAP-B, MTAP and FU-B need interleaving, the rest is undefined (R15).
            _ => Err(Malformed),
        }
    }

    /// RFC 6184 section 5.7.1. Stops at an empty or overlong entry, keeping those before (R14).
    fn aggregate(
        &mut self,
        entries: &Bytes,
        timestamp: u32,
        arrival: Duration,
        out: &mut Vec<Frame>,
    ) -> Result<(), Malformed> {
        let mut rest = entries.as_ref();
        while let Some((len, after)) = rest.split_first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes(*len));
            if len == 0 {
                break;
            }
            let nal = after.get(..len).ok_or(Malformed)?;
            rest = after.get(len..).unwrap_or_default();
            let nal = without_start_code(&entries.slice_ref(nal));
            if nal.is_empty() {
                continue;
            }
            self.units.begin(&nal, timestamp, arrival, out);
            self.units.push(nal, timestamp, arrival, out);
        }
        Ok(())
    }

    /// RFC 6184 section 5.8. The type is the first fragment's (R13).
    fn fragment(
        &mut self,
        payload: &Bytes,
        timestamp: u32,
        arrival: Duration,
        out: &mut Vec<Frame>,
    ) -> Result<(), Malformed> {
        let (&[indicator, header], body) = payload.split_first_chunk::<2>().ok_or(Malformed)?;
        let (is_start, is_end) = (header & 0x80 != 0, header & 0x40 != 0);
        if is_start {
            self.complete(out);
            let mut nal = BytesMut::with_capacity(payload.len() * 8);
            // A camera may have put a start code and a NAL unit of its own into the fragments (R12).
            match without_start_code(&payload.slice_ref(body)) {
                inner if inner.len() < body.len() => nal.extend_from_slice(&inner),
                inner => {
                    nal.extend_from_slice(&[indicator & 0xe0 | header & 0x1f]);
                    nal.extend_from_slice(&inner);
                }
            }
            self.units.begin(&nal, timestamp, arrival, out);
            self.fragments = Some(Fragments { nal, timestamp, arrival });
        } else {
            let Some(Fragments { nal, .. }) = &mut self.fragments else {
                // The first fragment never came (R13).
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

/// A fragmented NAL unit, and when it began.
#[derive(Debug)]
pub(super) struct Fragments {
    pub(super) nal: BytesMut,
    pub(super) timestamp: u32,
    pub(super) arrival: Duration,
}

/// `payload` behind a start code of three or four bytes.
pub(super) fn without_start_code(payload: &Bytes) -> Bytes {
    match payload.as_ref() {
        [0, 0, 1, ..] => payload.slice(3..),
        [0, 0, 0, 1, ..] => payload.slice(4..),
        _ => payload.clone(),
    }
}

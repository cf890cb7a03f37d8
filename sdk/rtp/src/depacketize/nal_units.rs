//! What H.264 and H.265 do alike: NAL units alone, several in a packet, and one in fragments.

use std::marker::PhantomData;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use patchbay_media::{Codec, MAX_UNIT_BYTES};

use super::access_unit::AccessUnits;
use super::{Frame, Malformed};
use crate::RtpPacket;

/// A payload format of NAL units.
pub(super) trait Format {
    const CODEC: Codec;
    /// Bytes before the entries of an aggregate: those of a NAL unit's header.
    const HEADER_BYTES: usize;
    /// A NAL unit in an aggregate that is shorter is passed over.
    const LEAST_BYTES: usize;
    /// What a payload is, by its header.
    fn kind(payload: &[u8]) -> Option<Kind>;
    /// A fragment's FU header, the header of the NAL unit that it belongs to, and what is behind both.
    fn fragment(payload: &[u8]) -> Option<(u8, impl AsRef<[u8]>, &[u8])>;
}

/// What a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A NAL unit.
    Single,
    /// Several, each behind its length.
    Aggregate,
    /// A part of one.
    Fragment,
}

#[derive(Debug)]
pub(super) struct NalUnits<F> {
    units: AccessUnits,
    /// The fragmented NAL unit so far, without a gap.
    fragments: Option<Fragments>,
    format: PhantomData<F>,
}

/// A fragmented NAL unit, and when it began.
#[derive(Debug)]
struct Fragments {
    nal: BytesMut,
    timestamp: u32,
    arrival: Duration,
}

impl<F: Format> NalUnits<F> {
    pub(super) fn new() -> Self {
        Self { units: AccessUnits::new(F::CODEC), fragments: None, format: PhantomData }
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
        // A leading start code (R12) would read as another type.
        let payload = without_start_code(&packet.payload);
        if payload.is_empty() {
            return Err(Malformed);
        }
        let kind = F::kind(&payload);
        if kind != Some(Kind::Fragment) {
            self.complete(out);
        }
        match kind.ok_or(Malformed)? {
            Kind::Single => {
                self.units.begin(&payload, packet.timestamp, arrival, out);
                self.units.push(payload, packet.timestamp, arrival, out);
                Ok(())
            }
            Kind::Aggregate => self.aggregate(&payload, packet.timestamp, arrival, out),
            Kind::Fragment => self.fragment(&payload, packet.timestamp, arrival, out),
        }
    }

    /// RFC 6184 section 5.7.1, RFC 7798 section 4.4.2. Stops at an empty or overlong entry, keeping those before (R14).
    fn aggregate(
        &mut self,
        payload: &Bytes,
        timestamp: u32,
        arrival: Duration,
        out: &mut Vec<Frame>,
    ) -> Result<(), Malformed> {
        let mut rest = payload.get(F::HEADER_BYTES..).ok_or(Malformed)?;
        while let Some((len, after)) = rest.split_first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes(*len));
            if len == 0 {
                break;
            }
            let nal = after.get(..len).ok_or(Malformed)?;
            rest = after.get(len..).unwrap_or_default();
            let nal = without_start_code(&payload.slice_ref(nal));
            if nal.len() < F::LEAST_BYTES {
                continue;
            }
            self.units.begin(&nal, timestamp, arrival, out);
            self.units.push(nal, timestamp, arrival, out);
        }
        Ok(())
    }

    /// RFC 6184 section 5.8, RFC 7798 section 4.4.3. The type is the first fragment's (R13).
    fn fragment(
        &mut self,
        payload: &Bytes,
        timestamp: u32,
        arrival: Duration,
        out: &mut Vec<Frame>,
    ) -> Result<(), Malformed> {
        let (fu_header, header, body) = F::fragment(payload).ok_or(Malformed)?;
        let (is_start, is_end) = (fu_header & 0x80 != 0, fu_header & 0x40 != 0);
        if is_start {
            self.complete(out);
            let mut nal = BytesMut::with_capacity(payload.len() * 8);
            // A camera may have put a start code and a NAL unit of its own into the fragments (R12).
            match without_start_code(&payload.slice_ref(body)) {
                inner if inner.len() < body.len() => nal.extend_from_slice(&inner),
                inner => {
                    nal.extend_from_slice(header.as_ref());
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

/// `payload` behind a start code of three or four bytes.
fn without_start_code(payload: &Bytes) -> Bytes {
    match payload.as_ref() {
        [0, 0, 1, ..] => payload.slice(3..),
        [0, 0, 0, 1, ..] => payload.slice(4..),
        _ => payload.clone(),
    }
}

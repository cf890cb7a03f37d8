//! What payload formats of whole pictures do alike: parts of one picture up to the marker, or up to another time (R1, R2).

use std::fmt::Debug;
use std::time::Duration;

use bytes::BytesMut;
use patchbay_media::{MAX_UNIT_BYTES, Parameters};

use super::{Body, Frame, Malformed, Picture};
use crate::RtpPacket;

/// A payload format whose packets are parts of one picture.
pub(super) trait Format: Debug {
    /// Appends what `payload` has of the picture to `data`.
    fn append(&mut self, payload: &[u8], data: &mut BytesMut) -> Result<Part, Malformed>;

    /// Packets are missing here, or the picture has ended. Gives whether nothing was begun that did not end.
    fn end(&mut self) -> bool {
        true
    }

    /// Whether decoding can start with the picture, whose configuration then goes into `parameters` where it is known.
    fn is_key(&self, data: &[u8], parameters: &mut Parameters) -> bool;
}

/// What a payload is of its picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// It is the first.
    pub(super) starts: bool,
    /// Other pictures may need this one. In doubt they do.
    pub(super) is_reference: bool,
}

#[derive(Debug)]
pub(super) struct Pictures<F> {
    format: F,
    parameters: Parameters,
    data: BytesMut,
    is_open: bool,
    timestamp: u32,
    arrival: Duration,
    is_reference: bool,
    incomplete: bool,
    /// Packets were lost before the first of this picture.
    gap_before: bool,
    /// Packets were lost since the last one, or the stream begins.
    gap: bool,
    /// A marker ended the picture before.
    has_markers: bool,
}

impl<F: Format> Pictures<F> {
    pub(super) fn new(format: F, parameters: &Parameters) -> Self {
        Self {
            format,
            parameters: parameters.clone(),
            data: BytesMut::new(),
            is_open: false,
            timestamp: 0,
            arrival: Duration::ZERO,
            is_reference: false,
            incomplete: false,
            gap_before: false,
            gap: true,
            has_markers: false,
        }
    }

    pub(super) fn lost(&mut self) {
        self.gap = true;
        self.format.end();
        self.incomplete |= self.is_open;
    }

    pub(super) fn push(
        &mut self,
        packet: &RtpPacket,
        arrival: Duration,
        out: &mut Vec<Frame>,
    ) -> Result<(), Malformed> {
        if self.is_open && packet.timestamp != self.timestamp {
            self.finish(out);
        }
        let is_first = !self.is_open;
        if is_first {
            self.is_open = true;
            self.gap_before = std::mem::take(&mut self.gap);
            (self.timestamp, self.arrival) = (packet.timestamp, arrival);
        }
        self.gap = false;
        let room = MAX_UNIT_BYTES.saturating_sub(self.data.len());
        let part = match packet.payload.len() {
            len if len > room => Err(Malformed),
            _ => self.format.append(&packet.payload, &mut self.data),
        };
        match part {
            Ok(part) => {
                self.incomplete |= is_first && !part.starts;
                self.is_reference |= part.is_reference;
            }
            Err(Malformed) => (self.incomplete, self.is_reference) = (true, true),
        }
        if packet.marker {
            self.finish(out);
            self.has_markers = true;
        }
        part.map(|_| ())
    }

    /// The stream ends. Where markers ended the pictures before, one without is not whole.
    pub(super) fn flush(&mut self, out: &mut Vec<Frame>) {
        self.incomplete |= self.has_markers;
        self.finish(out);
    }

    /// Ends the picture in progress.
    fn finish(&mut self, out: &mut Vec<Frame>) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        let data = self.data.split().freeze();
        let incomplete =
            std::mem::take(&mut self.incomplete) | !self.format.end() | (data.len() > MAX_UNIT_BYTES);
        let is_reference = std::mem::take(&mut self.is_reference);
        let mut parameters = self.parameters.clone();
        let key = self.format.is_key(&data, &mut parameters);
        if key && !incomplete && parameters != self.parameters {
            self.parameters = parameters.clone();
            out.push(Frame::parameters(parameters));
        }
        // Delimiters alone are no picture.
        if !data.is_empty() || incomplete {
            out.push(Frame {
                timestamp: self.timestamp,
                arrival: self.arrival,
                duration: 0,
                snap: false,
                incomplete: incomplete || data.is_empty(),
                picture: Some(Picture { gap_before: self.gap_before, is_reference }),
                body: Body::Picture { data, key },
            });
        } else {
            self.gap |= self.gap_before;
        }
    }
}

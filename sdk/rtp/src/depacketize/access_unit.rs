//! NAL units of RTP packets to access units (R1, R2, R10, R19, R35, R36).

use std::time::Duration;

use bytes::Bytes;
use patchbay_media::access_unit::{Role, role};
use patchbay_media::{Codec, MAX_UNIT_BYTES, annexb};

use super::{Body, Frame, Picture};

/// Most NAL units in one access unit; a longer one is dropped.
pub(super) const MAX_NALS: usize = 8192;

/// Other pictures may need this slice. In doubt they do.
fn is_reference(codec: Codec, slice: &[u8]) -> bool {
    let Some(first) = slice.first() else { return true };
    match codec {
        // Even types below 16 are sub-layer non-reference pictures (H.265 table 7-1).
        Codec::Hevc => !matches!(first >> 1 & 0x3f, 0 | 2 | 4 | 6 | 8 | 10 | 12 | 14),
        _ => first & 0x60 != 0,
    }
}

/// Gathers the NAL units of one access unit.
#[derive(Debug)]
pub(super) struct AccessUnits {
    codec: Codec,
    nals: Vec<Bytes>,
    len: usize,
    timestamp: u32,
    arrival: Duration,
    has_picture: bool,
    is_reference: bool,
    /// Something of this unit is missing.
    incomplete: bool,
    /// Packets were lost before the first of this unit.
    gap_before: bool,
    /// Packets were lost since the last NAL unit, or the stream begins.
    gap: bool,
    /// The marker bit ends units. Lost once a camera sets it within a picture.
    marker_ends: bool,
    /// Time of the unit before, when a marker ended it.
    ended: Option<u32>,
    /// A marker ended the unit before.
    has_markers: bool,
}

impl AccessUnits {
    pub(super) fn new(codec: Codec) -> Self {
        Self {
            codec,
            nals: Vec::new(),
            len: 0,
            timestamp: 0,
            arrival: Duration::ZERO,
            has_picture: false,
            is_reference: false,
            incomplete: false,
            gap_before: false,
            gap: true,
            marker_ends: true,
            ended: None,
            has_markers: false,
        }
    }

    /// Packets are missing here, or a fragmented NAL unit is.
    pub(super) fn lost(&mut self) {
        self.gap = true;
        if self.is_open() {
            self.incomplete = true;
        }
    }

    /// A NAL unit, or its first fragment, begins: ends the unit before when this one belongs to the next.
    pub(super) fn begin(&mut self, start: &[u8], timestamp: u32, arrival: Duration, out: &mut Vec<Frame>) {
        let role = role(self.codec, start);
        let (is_slice, is_first) = match role {
            Some(Role::Slice { first }) => (true, first),
            _ => (false, false),
        };
        // Parameter sets, delimiters and SEI open a unit and never close one, whatever their marker and time (R10, R36).
        let opens = is_first || matches!(role, Some(Role::Set(_) | Role::Delimiter | Role::Prefix));
        if self.has_picture && (timestamp != self.timestamp || opens) {
            self.finish(out);
        }
        if !self.is_open() {
            self.gap_before = std::mem::take(&mut self.gap);
            let continues = is_slice && !is_first || role == Some(Role::Suffix);
            if self.ended.take() == Some(timestamp) && continues && !self.gap_before {
                self.marker_ends = false;
                self.incomplete = is_slice;
            }
            self.arrival = arrival;
        }
        if !self.has_picture {
            // Parameter sets may have another time than their picture (R10).
            self.timestamp = timestamp;
            self.gap_before |= self.gap;
            self.incomplete |= is_slice && self.gap_before && !is_first;
        }
        self.gap = false;
        self.has_picture |= is_slice;
        self.is_reference |= is_slice && is_reference(self.codec, start);
    }

    /// The whole NAL unit that began. Splits it where a camera glued several with start codes (R12).
    pub(super) fn push(&mut self, nal: Bytes, timestamp: u32, arrival: Duration, out: &mut Vec<Frame>) {
        let glued = annexb::find_start_code(&nal).is_some();
        if !glued {
            self.append(nal);
            return;
        }
        // Only the first part is known to have begun.
        let mut begun = true;
        for part in annexb::split_glued(&nal) {
            let part = nal.slice_ref(part);
            if !std::mem::take(&mut begun) {
                self.begin(&part, timestamp, arrival, out);
            }
            self.append(part);
        }
    }

    /// The marker bit was set on the packet with the last NAL unit. Only pictures are ended by it (R1, R10).
    pub(super) fn marker(&mut self, out: &mut Vec<Frame>) {
        if self.has_picture && self.marker_ends {
            self.ended = Some(self.timestamp);
            self.finish(out);
            self.has_markers = true;
        }
    }

    /// The stream ends. Where markers ended the units before, one without is not whole.
    pub(super) fn flush(&mut self, out: &mut Vec<Frame>) {
        self.incomplete |= self.has_markers && self.is_open();
        self.finish(out);
    }

    /// Ends the unit in progress.
    fn finish(&mut self, out: &mut Vec<Frame>) {
        if self.has_picture && (!self.nals.is_empty() || self.incomplete) {
            out.push(Frame {
                timestamp: self.timestamp,
                arrival: self.arrival,
                duration: 0,
                snap: false,
                incomplete: self.incomplete || self.nals.is_empty(),
                picture: Some(Picture { gap_before: self.gap_before, is_reference: self.is_reference }),
                body: Body::NalUnits(std::mem::take(&mut self.nals)),
            });
        }
        self.reset();
    }

    /// Whether a unit is in progress.
    fn is_open(&self) -> bool {
        self.has_picture || !self.nals.is_empty()
    }

    fn append(&mut self, nal: Bytes) {
        self.len += nal.len();
        if self.len > MAX_UNIT_BYTES || self.nals.len() >= MAX_NALS {
            self.incomplete = true;
            return;
        }
        self.nals.push(nal);
    }

    fn reset(&mut self) {
        self.has_markers = false;
        self.nals.clear();
        self.len = 0;
        self.has_picture = false;
        self.is_reference = false;
        self.incomplete = false;
        self.gap_before = false;
    }
}

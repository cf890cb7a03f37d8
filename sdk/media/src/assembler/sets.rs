//! The parameter sets of a stream and the configuration they make.

use bytes::Bytes;

use crate::access_unit::Set;
use crate::bits::BitReader;
use crate::codec::Codec;
use crate::{h264, h265};

/// Most bytes of all sets of a stream; further ones are ignored.
const MAX_BYTES: usize = 256 << 10;

/// A configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) extradata: Bytes,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) reorder_depth: Option<u8>,
    pub(super) frame_rate: Option<(u32, u32)>,
}

#[derive(Debug)]
struct Entry {
    set: Set,
    id: u8,
    /// The set this one refers to: a PPS's SPS.
    refers_to: u8,
    nal: Bytes,
    /// Seen since the last picture.
    fresh: bool,
}

/// The newest set of each kind and id.
#[derive(Debug)]
pub(super) struct Sets {
    codec: Codec,
    entries: Vec<Entry>,
    active_sps: Option<u8>,
    /// Some bytes are other than at the last [`Self::take_change`].
    changed: bool,
}

impl Sets {
    pub(super) fn new(codec: Codec) -> Self {
        Self { codec, entries: Vec::new(), active_sps: None, changed: false }
    }

    /// Adds the sets of an avcC or hvcC record; none when it cannot be read.
    pub(super) fn add_record(&mut self, record: &[u8]) {
        if self.codec == Codec::Hevc {
            if let Ok(sets) = h265::parse_hvcc(record) {
                sets.vps.iter().for_each(|nal| self.add(Set::Vps, nal));
                sets.sps.iter().for_each(|nal| self.add(Set::Sps, nal));
                sets.pps.iter().for_each(|nal| self.add(Set::Pps, nal));
            }
        } else if let Ok(sets) = h264::parse_avcc(record) {
            sets.sps.iter().for_each(|nal| self.add(Set::Sps, nal));
            sets.pps.iter().for_each(|nal| self.add(Set::Pps, nal));
        }
    }

    pub(super) fn add(&mut self, set: Set, nal: &[u8]) {
        let Some((id, refers_to)) = self.ids(set, nal) else { return };
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.set == set && entry.nal == nal) {
            entry.fresh = true;
            return;
        }
        let others: usize = self
            .entries
            .iter()
            .filter(|entry| (entry.set, entry.id) != (set, id))
            .map(|entry| entry.nal.len())
            .sum();
        if others + nal.len() > MAX_BYTES || u16::try_from(nal.len()).is_err() {
            return;
        }
        self.entries.retain(|entry| (entry.set, entry.id) != (set, id));
        self.entries.push(Entry { set, id, refers_to, nal: Bytes::copy_from_slice(nal), fresh: true });
        self.entries.sort_by_key(|entry| (entry.set, entry.id));
        self.changed = true;
    }

    /// Finds the sets that a picture's first slice uses. A key picture that brings a complete configuration of its own
    /// together with changes replaces all that was known: the sets of another encoder run would only confuse.
    pub(super) fn activate(&mut self, slice: &[u8], key: bool) {
        let pps_id = match self.codec {
            Codec::Hevc => h265::slice_pps_id(slice),
            _ => h264::parse_slice(slice, None).ok().map(|header| header.pps_id),
        };
        let Some(pps) = pps_id.and_then(|id| self.find(Set::Pps, id)) else { return };
        let (sps_id, pps_fresh) = (pps.refers_to, pps.fresh);
        let Some(sps) = self.find(Set::Sps, sps_id) else { return };
        let has_fresh_vps = || self.entries.iter().any(|entry| entry.set == Set::Vps && entry.fresh);
        let complete = pps_fresh && sps.fresh && (self.codec != Codec::Hevc || has_fresh_vps());
        if key && complete && self.changed {
            self.entries.retain(|entry| entry.fresh);
        }
        if self.active_sps != Some(sps_id) {
            self.active_sps = Some(sps_id);
            self.changed = true;
        }
    }

    /// The sets of the next picture come from here on.
    pub(super) fn picture_done(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.fresh = false);
    }

    /// The configuration, when sets changed and a complete one is there.
    pub(super) fn take_change(&mut self) -> Option<Picture> {
        if !self.changed {
            return None;
        }
        let (vps, sps, pps) = (self.nals(Set::Vps), self.nals(Set::Sps), self.nals(Set::Pps));
        let first = sps.first().filter(|_| !pps.is_empty())?;
        let picture = if self.codec == Codec::Hevc {
            let parsed = (!vps.is_empty()).then(|| h265::parse_sps(first).ok())?;
            Picture {
                width: parsed.as_ref().map_or(0, |sps| sps.width),
                height: parsed.as_ref().map_or(0, |sps| sps.height),
                reorder_depth: parsed.as_ref().map_or(Some(0), |sps| sps.num_reorder_frames),
                frame_rate: parsed.as_ref().and_then(|sps| sps.frame_rate),
                extradata: h265::hvcc(&vps, &sps, &pps),
            }
        } else {
            let parsed = h264::parse_sps(first).ok();
            Picture {
                width: parsed.as_ref().map_or(0, |sps| sps.width),
                height: parsed.as_ref().map_or(0, |sps| sps.height),
                reorder_depth: parsed.as_ref().map_or(Some(0), h264::Sps::reorder_depth),
                frame_rate: parsed.as_ref().and_then(|sps| sps.frame_rate),
                extradata: h264::avcc(&sps, &pps),
            }
        };
        self.changed = false;
        (!picture.extradata.is_empty()).then_some(picture)
    }

    /// The sets of a kind, the active SPS first.
    fn nals(&self, set: Set) -> Vec<&[u8]> {
        let mut entries: Vec<_> = self.entries.iter().filter(|entry| entry.set == set).collect();
        if set == Set::Sps {
            entries.sort_by_key(|entry| Some(entry.id) != self.active_sps);
        }
        entries.iter().map(|entry| entry.nal.as_ref()).collect()
    }

    fn find(&self, set: Set, id: u8) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.set == set && entry.id == id)
    }

    /// A set's id and that of the set it refers to. `None` for bytes too broken to have one. An SPS that cannot be read
    /// counts as id 0: it may still be right for a decoder.
    fn ids(&self, set: Set, nal: &[u8]) -> Option<(u8, u8)> {
        match (self.codec, set) {
            (Codec::Hevc, Set::Vps) => Some((nal.get(2)? >> 4, 0)),
            (Codec::Hevc, Set::Sps) => {
                h265::general_profile(nal).ok()?;
                Some((h265::parse_sps(nal).map_or(0, |sps| sps.id), 0))
            }
            (Codec::Hevc, Set::Pps) => h265::parse_pps(nal).ok().map(|pps| (pps.id, pps.sps_id)),
            (_, Set::Sps) => {
                let mut r = BitReader::new(nal.get(4..)?);
                Some((r.ue().and_then(|id| u8::try_from(id).ok()).filter(|id| *id < 32).unwrap_or(0), 0))
            }
            (_, Set::Pps) => h264::parse_pps(nal).ok().map(|pps| (pps.id, pps.sps_id)),
            (_, Set::Vps) => None,
        }
    }
}

//! What the assembler makes of sets that change, SEI without picture, oversize and missing times.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use patchbay_media::assembler::{Assembled, Assembler, Flags};
use patchbay_media::bits::BitWriter;
use patchbay_media::{Codec, MAX_UNIT_BYTES, annexb, h264, h265, nal};

/// An SPS of `profile` and `mbs` macroblocks in a square, with room for reordering.
struct Sps {
    id: u32,
    profile: u8,
    mbs: u32,
    ref_frames: u32,
    crop_right: u32,
    /// num_units_in_tick, time_scale.
    timing: Option<(u32, u32)>,
    reorder: Option<u32>,
    trailing: &'static [u8],
}

const SPS: Sps = Sps {
    id: 0,
    profile: 77,
    mbs: 4,
    ref_frames: 4,
    crop_right: 0,
    timing: None,
    reorder: None,
    trailing: &[],
};

impl Sps {
    fn nal(&self) -> Vec<u8> {
        let mut w = BitWriter::new();
        w.bits(24, u32::from(self.profile) << 16 | 30);
        w.ue(self.id);
        w.ue(0); // log2_max_frame_num_minus4
        w.ue(0); // pic_order_cnt_type
        w.ue(4); // log2_max_pic_order_cnt_lsb_minus4
        w.ue(self.ref_frames);
        w.flag(false);
        w.ue(self.mbs - 1);
        w.ue(self.mbs - 1);
        w.bits(2, 0b11); // frame_mbs_only, direct_8x8
        w.flag(self.crop_right > 0);
        if self.crop_right > 0 {
            [0, self.crop_right, 0, 0].into_iter().for_each(|offset| w.ue(offset));
        }
        let vui = self.timing.is_some() || self.reorder.is_some();
        w.flag(vui);
        if vui {
            w.bits(4, 0); // aspect ratio, overscan, video signal, chroma location
            w.flag(self.timing.is_some());
            if let Some((units, scale)) = self.timing {
                w.bits(32, units);
                w.bits(32, scale);
                w.flag(true);
            }
            w.bits(3, 0); // HRDs, pic_struct
            w.flag(self.reorder.is_some());
            if let Some(depth) = self.reorder {
                w.flag(true);
                let fields = [0, 0, 10, 10, depth, depth.max(self.ref_frames)];
                fields.into_iter().for_each(|value| w.ue(value));
            }
        }
        w.flag(true);
        let mut rbsp = vec![0x67];
        rbsp.extend(w.finish());
        rbsp.extend(self.trailing);
        nal::escape(&rbsp)
    }
}

fn pps(id: u32, sps_id: u32) -> Vec<u8> {
    let mut w = BitWriter::new();
    w.ue(id);
    w.ue(sps_id);
    w.bits(8, 0xff);
    let mut nal = vec![0x68];
    nal.extend(w.finish());
    nal
}

/// A slice with `first_mb_in_slice` 0 that names `pps_id`.
fn slice(header: u8, pps_id: u32) -> Vec<u8> {
    let mut w = BitWriter::new();
    w.ue(0);
    w.ue(7);
    w.ue(pps_id);
    w.bits(16, 0xaaaa);
    let mut nal = vec![header];
    nal.extend(w.finish());
    nal.push(0x80);
    nal
}

fn push(assembler: &mut Assembler, pts: i64, nals: &[&[u8]]) -> Assembled {
    assembler.push_access_unit(pts, None, nals.iter().copied(), Flags::default())
}

#[test]
fn a_configuration_comes_once_and_again_when_it_changes() {
    let (small, large) = (SPS.nal(), Sps { mbs: 8, ..SPS }.nal());
    let mut assembler = Assembler::new(Codec::H264, 90_000, &[]);
    let first = push(&mut assembler, 0, &[&small, &pps(0, 0), &slice(0x65, 0)]).new_parameters.unwrap();
    assert_eq!((first.width, first.height), (64, 64));
    assert_eq!(push(&mut assembler, 3600, &[&slice(0x41, 0)]).new_parameters, None);
    assert_eq!(push(&mut assembler, 7200, &[&small, &pps(0, 0), &slice(0x65, 0)]).new_parameters, None);
    let second = push(&mut assembler, 10_800, &[&large, &pps(0, 0), &slice(0x65, 0)]);
    let parameters = second.new_parameters.unwrap();
    assert_eq!((parameters.width, parameters.height), (128, 128));
    assert!(first.needs_new_init(&parameters));
    assert!(second.unit.unwrap().key);
}

#[test]
fn sets_that_arrive_alone_wait_for_the_picture() {
    let sps = SPS.nal();
    let mut assembler = Assembler::new(Codec::H264, 90_000, &[]);
    assert_eq!(push(&mut assembler, 0, &[&sps]), Assembled::default());
    assert_eq!(push(&mut assembler, 1, &[&pps(0, 0), &[0x06, 5, 1, 7, 0x80]]), Assembled::default());
    let assembled = push(&mut assembler, 2, &[&slice(0x65, 0)]);
    assert_eq!(assembled.new_parameters.unwrap().extradata, h264::avcc(&[&sps], &[&pps(0, 0)]));
    let unit = assembled.unit.unwrap();
    let idr = slice(0x65, 0);
    assert_eq!(nal::units(&unit.data).collect::<Vec<_>>(), [&[0x06, 5, 1, 7, 0x80][..], &idr]);
}

#[test]
fn a_new_encoder_run_replaces_all_sets() {
    let mut assembler = Assembler::new(Codec::H264, 90_000, &[]);
    let old = SPS.nal();
    push(&mut assembler, 0, &[&old, &pps(0, 0), &pps(1, 0), &slice(0x65, 1)]);
    let new = Sps { mbs: 6, ..SPS }.nal();
    let parameters = push(&mut assembler, 3600, &[&new, &pps(0, 0), &slice(0x65, 0)]).new_parameters.unwrap();
    assert_eq!(parameters.extradata, h264::avcc(&[&new], &[&pps(0, 0)]), "PPS 1 belonged to the old run");
}

#[test]
fn a_set_repeated_alone_keeps_the_others() {
    let mut assembler = Assembler::new(Codec::H264, 90_000, &[]);
    let sps = SPS.nal();
    push(&mut assembler, 0, &[&sps, &pps(0, 0), &slice(0x65, 0)]);
    let parameters = push(&mut assembler, 3600, &[&pps(1, 0), &slice(0x41, 1)]).new_parameters.unwrap();
    assert_eq!(parameters.extradata, h264::avcc(&[&sps], &[&pps(0, 0), &pps(1, 0)]));
}

#[test]
fn the_size_is_that_of_the_set_in_use() {
    let (a, b) = (SPS.nal(), Sps { id: 1, mbs: 2, ..SPS }.nal());
    let record = h264::avcc(&[&a, &b], &[&pps(0, 0), &pps(1, 1)]);
    let mut assembler = Assembler::new(Codec::H264, 90_000, &record);
    assert_eq!(assembler.parameters().width, 64);
    let parameters = push(&mut assembler, 0, &[&slice(0x65, 1)]).new_parameters.unwrap();
    assert_eq!(
        (parameters.width, &parameters.extradata[8..8 + b.len()]),
        (32, &b[..]),
        "the active set comes first"
    );
}

#[test]
fn delimiters_filler_and_padding_go() {
    let mut assembler = Assembler::new(Codec::H264, 90_000, &[]);
    let mut padded = slice(0x65, 0);
    padded.extend([0, 0, 0]);
    let unit = push(&mut assembler, 0, &[&[0x09, 0x10], &padded, &[0x0c, 0xff, 0x80], &[], &[0x1e, 9]])
        .unit
        .unwrap();
    let idr = slice(0x65, 0);
    assert_eq!(nal::units(&unit.data).collect::<Vec<_>>(), [&idr[..], &[0x1e, 9]], "unknown types stay");
}

#[test]
fn a_recovery_point_is_a_key() {
    let mut assembler = Assembler::new(Codec::H264, 90_000, &[]);
    let key =
        |assembler: &mut Assembler, sei: &[u8]| push(assembler, 0, &[sei, &slice(0x41, 0)]).unit.unwrap().key;
    assert!(key(&mut assembler, &[0x06, 6, 1, 0xc4, 0x80]));
    assert!(!key(&mut assembler, &[0x06, 6, 1, 0x44, 0x80]), "right only after one more frame");
    assert!(!key(&mut assembler, &[0x06, 5, 1, 0xc4, 0x80]));
}

#[test]
fn oversize_units_are_dropped_and_told() {
    let mut assembler = Assembler::new(Codec::H264, 90_000, &[]);
    let mut large = slice(0x65, 0);
    large.resize(MAX_UNIT_BYTES - 4, 1);
    assert_eq!(push(&mut assembler, 0, &[&large]).unit.unwrap().data.len(), MAX_UNIT_BYTES);
    large.push(1);
    let assembled = push(&mut assembler, 1, &[&large]);
    assert_eq!((assembled.unit, assembled.oversize), (None, Some(MAX_UNIT_BYTES + 1)));
}

#[test]
fn flags_and_given_times_are_passed_on() {
    let mut assembler = Assembler::new(Codec::H264, 90_000, &[]);
    let flags = Flags { discontinuity: true, incomplete: true };
    let idr = slice(0x65, 0);
    let unit = assembler.push_access_unit(100, Some(40), [&idr[..]], flags).unit.unwrap();
    assert_eq!((unit.pts, unit.dts, unit.discontinuity, unit.incomplete), (100, 40, true, true));
    let unit = assembler.push_access_unit(200, Some(240), [&idr[..]], Flags::default()).unit.unwrap();
    assert_eq!((unit.pts, unit.dts), (200, 200), "never above the presentation time");
}

/// Without a word in the VUI two frames of delay are assumed where B-frames are possible, none where they are not.
#[test]
fn unknown_reordering_costs_at_most_two_frames() {
    let times = |sps: &Sps| {
        let mut assembler = Assembler::new(Codec::H264, 25, &h264::avcc(&[&sps.nal()], &[&pps(0, 0)]));
        [0, 3, 1, 2, 6, 4, 5].map(|pts| push(&mut assembler, pts, &[&slice(0x41, 0)]).unit.unwrap().dts)
    };
    assert_eq!(times(&SPS), [-2, -1, 0, 1, 2, 3, 4]);
    assert_eq!(times(&Sps { reorder: Some(1), ..SPS }), [-1, 0, 1, 2, 3, 4, 5]);
    let in_order = |sps: &Sps| h264::parse_sps(&sps.nal()).unwrap().reorder_depth();
    assert_eq!(in_order(&Sps { profile: 66, ..SPS }), Some(0));
    assert_eq!(in_order(&Sps { ref_frames: 1, ..SPS }), Some(0));
    assert_eq!(in_order(&SPS), None);
}

/// Faults of real cameras: bytes behind the set, a clock of 0, cropping past the edge, a level too small for the size.
#[test]
fn faulty_sps_are_read() {
    let good = Sps { timing: Some((1, 50)), reorder: Some(0), ..SPS };
    let parse = |sps: &Sps| h264::parse_sps(&sps.nal()).unwrap();
    assert_eq!((parse(&good).frame_rate, parse(&good).num_reorder_frames), (Some((25, 1)), Some(0)));
    let padded = parse(&Sps { trailing: &[0x80, 1, 2, 3], ..good });
    assert_eq!((padded.width, padded.frame_rate, padded.num_reorder_frames), (64, Some((25, 1)), Some(0)));
    let stopped = parse(&Sps { timing: Some((0, 50)), ..good });
    assert_eq!((stopped.width, stopped.frame_rate, stopped.num_reorder_frames), (64, None, Some(0)));
    assert_eq!(parse(&Sps { crop_right: 4, ..SPS }).width, 56);
    assert_eq!(parse(&Sps { crop_right: 40, ..SPS }).width, 64, "cropping all away is no cropping");
    assert_eq!(parse(&Sps { mbs: 200, ..SPS }).width, 3200, "level 3.0 ends at 1,620 macroblocks");
    assert!(h264::parse_sps(&Sps { mbs: 5000, ..SPS }.nal()).is_err());
    assert!(h264::parse_sps(&[0x68, 1, 2]).is_err());
    assert!(h264::parse_sps(&SPS.nal()[..6]).is_err());
}

#[test]
fn small_vui_changes_need_no_new_init() {
    let parameters = |sps: &Sps, pps_id| {
        let record = h264::avcc(&[&sps.nal()], &[&pps(pps_id, 0)]);
        Assembler::new(Codec::H264, 90_000, &record).parameters().clone()
    };
    let old = parameters(&Sps { timing: Some((1, 50)), ..SPS }, 0);
    assert!(!old.needs_new_init(&old));
    assert!(!old.needs_new_init(&parameters(&Sps { timing: Some((1, 30)), ..SPS }, 0)));
    assert!(old.needs_new_init(&parameters(&Sps { reorder: Some(2), ..SPS }, 0)));
    assert!(old.needs_new_init(&parameters(&SPS, 1)));
}

#[test]
fn h265_needs_all_three_kinds_of_sets() {
    let data = include_bytes!("data/x265_main.h265");
    let nals: Vec<_> = annexb::split(data).collect();
    let of_type = |kind| *nals.iter().find(|nal| h265::nal_type(nal) == Some(kind)).unwrap();
    let (vps, sps, pps, idr) = (of_type(32), of_type(33), of_type(34), of_type(20));
    let mut assembler = Assembler::new(Codec::Hevc, 90_000, &[]);
    assert_eq!(push(&mut assembler, 0, &[sps, pps, idr]).new_parameters, None);
    let parameters = push(&mut assembler, 1, &[vps, idr]).new_parameters.unwrap();
    assert_eq!(parameters.extradata, h265::hvcc(&[vps], &[sps], &[pps]));
    assert_eq!((parameters.width, parameters.height), (130, 66));
}

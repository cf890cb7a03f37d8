//! Sequence parameter set, read so that faults behind the picture size cost nothing but the field they are in.

use super::{NalType, vui};
use crate::bits::BitReader;
use crate::error::{Error, Field};
use crate::nal::unescape;

/// Most macroblocks in a row or column that are believed: 65,536 pixels.
const MAX_MBS: u32 = 4096;

/// How a picture's order is coded. H.264 8.2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PicOrderCnt {
    /// `pic_order_cnt_type` 0: each slice carries the low bits.
    Lsb {
        /// How many bits (4 to 16).
        log2_max: u8,
    },
    /// `pic_order_cnt_type` 1: expected from a cycle of frame numbers.
    Cycle {
        /// `delta_pic_order_always_zero_flag`: slices carry nothing more.
        delta_always_zero: bool,
    },
    /// `pic_order_cnt_type` 2: output order is decoding order.
    DecodingOrder,
}

/// What is read of a sequence parameter set. H.264 7.3.2.1.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sps {
    /// `seq_parameter_set_id`, 0 to 31.
    pub id: u8,
    /// Width in pixels after cropping.
    pub width: u32,
    /// Height in pixels after cropping.
    pub height: u32,
    /// `profile_idc`.
    pub profile: u8,
    /// The byte of `constraint_setN_flag`s, set 0 in the highest bit.
    pub constraints: u8,
    /// `level_idc`.
    pub level: u8,
    /// `chroma_format_idc`: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format: u8,
    /// `separate_colour_plane_flag`.
    pub separate_colour_planes: bool,
    /// Bits per luma sample, 8 to 14.
    pub bit_depth_luma: u8,
    /// Bits per chroma sample, 8 to 14.
    pub bit_depth_chroma: u8,
    /// Bits of `frame_num` in a slice header, 4 to 16.
    pub log2_max_frame_num: u8,
    /// How the order of pictures is coded.
    pub pic_order_cnt: PicOrderCnt,
    /// `max_num_ref_frames`.
    pub max_num_ref_frames: u32,
    /// No picture is a field: `frame_mbs_only_flag`.
    pub frames_only: bool,
    /// `max_num_reorder_frames` of the VUI: frames that come before another in decoding order and after it in output
    /// order. `None` when the stream does not say.
    pub num_reorder_frames: Option<u8>,
    /// Frames per second as a fraction, from the VUI's timing.
    pub frame_rate: Option<(u32, u32)>,
    /// `video_full_range_flag`: black is 0 and white 255, not 16 and 235.
    pub is_full_range: bool,
    /// `matrix_coefficients`, H.264 table E-5: 1 BT.709, 5 and 6 BT.601; `None` when the stream does not say.
    pub matrix_coefficients: Option<u8>,
}

impl Sps {
    /// How many frames a decoder must hold back to put them in order: what the VUI says, 0 where the profile or the
    /// order coding leaves no room for B-frames, `None` unknown.
    pub fn reorder_depth(&self) -> Option<u8> {
        let intra_only =
            self.constraints & 0x10 != 0 && matches!(self.profile, 44 | 86 | 100 | 110 | 122 | 244);
        let in_order = intra_only
            || self.profile == 66
            || self.pic_order_cnt == PicOrderCnt::DecodingOrder
            || self.max_num_ref_frames <= 1;
        self.num_reorder_frames.or(in_order.then_some(0))
    }
}

/// Reads a sequence parameter set NAL unit. Extra bytes behind it, a broken VUI and impossible cropping are tolerated.
pub fn parse_sps(nal: &[u8]) -> Result<Sps, Error> {
    let found = nal.first().field("nal_unit_type")? & 0x1f;
    if NalType::of(nal) != Some(NalType::Sps) {
        return Err(Error::WrongNalType { expected: 7, found });
    }
    let rbsp = unescape(nal);
    let rbsp = rbsp.get(1..).unwrap_or_default();
    let mut sps = read(&mut BitReader::new(rbsp))?;
    if let Some(vui) = vui::read(rbsp) {
        sps.num_reorder_frames = vui.num_reorder_frames;
        sps.frame_rate = vui.frame_rate;
        sps.is_full_range = vui.is_full_range;
        sps.matrix_coefficients = vui.matrix_coefficients;
    }
    Ok(sps)
}

/// Everything before the VUI.
fn read(r: &mut BitReader<'_>) -> Result<Sps, Error> {
    let profile = r.byte(8).field("profile_idc")?;
    let constraints = r.byte(8).field("constraint_set_flags")?;
    let level = r.byte(8).field("level_idc")?;
    let id = small(r, "seq_parameter_set_id", 31)?;
    let chroma = if has_chroma_info(profile) { Chroma::read(r)? } else { Chroma::default() };
    let log2_max_frame_num = small(r, "log2_max_frame_num_minus4", 12)? + 4;
    let pic_order_cnt = read_pic_order_cnt(r)?;
    let max_num_ref_frames = r.ue().field("max_num_ref_frames")?;
    r.flag().field("gaps_in_frame_num_value_allowed_flag")?;
    let mbs_wide = mbs(r, "pic_width_in_mbs_minus1")?;
    let map_units_high = mbs(r, "pic_height_in_map_units_minus1")?;
    let frames_only = r.flag().field("frame_mbs_only_flag")?;
    if !frames_only {
        r.flag().field("mb_adaptive_frame_field_flag")?;
    }
    r.flag().field("direct_8x8_inference_flag")?;
    let fields = if frames_only { 1 } else { 2 };
    let (width, height) = (mbs_wide * 16, map_units_high * 16 * fields);
    let (crop_width, crop_height) = read_cropping(r, chroma.format, chroma.separate_planes, fields);
    Ok(Sps {
        id,
        width: width.checked_sub(crop_width).filter(|width| *width > 0).unwrap_or(width),
        height: height.checked_sub(crop_height).filter(|height| *height > 0).unwrap_or(height),
        profile,
        constraints,
        level,
        chroma_format: chroma.format,
        separate_colour_planes: chroma.separate_planes,
        bit_depth_luma: chroma.bit_depth_luma,
        bit_depth_chroma: chroma.bit_depth_chroma,
        log2_max_frame_num,
        pic_order_cnt,
        max_num_ref_frames,
        frames_only,
        num_reorder_frames: None,
        frame_rate: None,
        is_full_range: false,
        matrix_coefficients: None,
    })
}

/// Profiles whose set carries the chroma format. H.264 7.3.2.1.1.
pub(super) fn has_chroma_info(profile: u8) -> bool {
    matches!(profile, 44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244)
}

struct Chroma {
    format: u8,
    separate_planes: bool,
    bit_depth_luma: u8,
    bit_depth_chroma: u8,
}

impl Default for Chroma {
    fn default() -> Self {
        Self { format: 1, separate_planes: false, bit_depth_luma: 8, bit_depth_chroma: 8 }
    }
}

impl Chroma {
    fn read(r: &mut BitReader<'_>) -> Result<Self, Error> {
        let format = small(r, "chroma_format_idc", 3)?;
        let separate_planes = format == 3 && r.flag().field("separate_colour_plane_flag")?;
        let bit_depth_luma = small(r, "bit_depth_luma_minus8", 6)? + 8;
        let bit_depth_chroma = small(r, "bit_depth_chroma_minus8", 6)? + 8;
        r.flag().field("qpprime_y_zero_transform_bypass_flag")?;
        if r.flag().field("seq_scaling_matrix_present_flag")? {
            let lists = if format == 3 { 12 } else { 8 };
            for list in 0..lists {
                if r.flag().field("seq_scaling_list_present_flag")? {
                    skip_scaling_list(r, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
        Ok(Self { format, separate_planes, bit_depth_luma, bit_depth_chroma })
    }
}

/// H.264 7.3.2.1.1.1.
fn skip_scaling_list(r: &mut BitReader<'_>, size: u32) -> Result<(), Error> {
    let mut last = 8_i64;
    for _ in 0..size {
        let delta = r.se().field("delta_scale")?;
        let next = (last + i64::from(delta)).rem_euclid(256);
        if next == 0 {
            break;
        }
        last = next;
    }
    Ok(())
}

fn read_pic_order_cnt(r: &mut BitReader<'_>) -> Result<PicOrderCnt, Error> {
    match small(r, "pic_order_cnt_type", 2)? {
        0 => Ok(PicOrderCnt::Lsb { log2_max: small(r, "log2_max_pic_order_cnt_lsb_minus4", 12)? + 4 }),
        1 => {
            let delta_always_zero = r.flag().field("delta_pic_order_always_zero_flag")?;
            r.se().field("offset_for_non_ref_pic")?;
            r.se().field("offset_for_top_to_bottom_field")?;
            for _ in 0..small(r, "num_ref_frames_in_pic_order_cnt_cycle", 255)? {
                r.se().field("offset_for_ref_frame")?;
            }
            Ok(PicOrderCnt::Cycle { delta_always_zero })
        }
        _ => Ok(PicOrderCnt::DecodingOrder),
    }
}

/// Pixels cut from width and height; none when the bytes end or the numbers overflow.
fn read_cropping(r: &mut BitReader<'_>, chroma_format: u8, separate_planes: bool, fields: u32) -> (u32, u32) {
    if r.flag() != Some(true) {
        return (0, 0);
    }
    let (sub_width, sub_height) = match chroma_format {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let (unit_x, unit_y) = if separate_planes { (1, fields) } else { (sub_width, sub_height * fields) };
    let mut pair = |unit: u32| Some((u64::from(r.ue()?) + u64::from(r.ue()?)) * u64::from(unit));
    let (Some(x), Some(y)) = (pair(unit_x), pair(unit_y)) else { return (0, 0) };
    (u32::try_from(x).unwrap_or(u32::MAX), u32::try_from(y).unwrap_or(u32::MAX))
}

fn mbs(r: &mut BitReader<'_>, field: &'static str) -> Result<u32, Error> {
    let minus1 = r.ue().field(field)?;
    if minus1 >= MAX_MBS {
        return Err(Error::OutOfRange { field, value: u64::from(minus1) });
    }
    Ok(minus1 + 1)
}

/// `ue(v)` of at most `max`.
fn small(r: &mut BitReader<'_>, field: &'static str, max: u8) -> Result<u8, Error> {
    let value = r.ue().field(field)?;
    u8::try_from(value)
        .ok()
        .filter(|small| *small <= max)
        .ok_or(Error::OutOfRange { field, value: u64::from(value) })
}

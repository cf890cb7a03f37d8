//! Sequence parameter set and profile, tier and level.

use super::{expect_type, nal_type, small, vui};
use crate::bits::BitReader;
use crate::error::{Error, Field};
use crate::nal::unescape;

/// Most pixels in a row or column that are believed.
const MAX_SIZE: u32 = 65_536;
/// Most frames a decoded picture buffer holds. H.265 A.4.2.
const MAX_DPB_FRAMES: u32 = 16;

/// `general_` fields of `profile_tier_level`. H.265 7.3.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GeneralProfile {
    /// `general_profile_space`, 0 to 3.
    pub space: u8,
    /// High tier: `general_tier_flag`.
    pub high_tier: bool,
    /// `general_profile_idc`, 0 to 31.
    pub profile: u8,
    /// `general_profile_compatibility_flag`s, flag 0 in the highest bit.
    pub compatibility: u32,
    /// The 48 bits from `general_progressive_source_flag` on.
    pub constraints: [u8; 6],
    /// `general_level_idc`: 30 times the level.
    pub level: u8,
}

/// What is read of a sequence parameter set. H.265 7.3.2.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sps {
    /// `sps_seq_parameter_set_id`, 0 to 15.
    pub id: u8,
    /// Width in pixels inside the conformance window.
    pub width: u32,
    /// Height in pixels inside the conformance window.
    pub height: u32,
    /// Profile, tier and level of the whole stream.
    pub general: GeneralProfile,
    /// `sps_max_sub_layers_minus1` + 1, 1 to 7.
    pub temporal_layers: u8,
    /// `sps_temporal_id_nesting_flag`.
    pub temporal_id_nested: bool,
    /// `chroma_format_idc`: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format: u8,
    /// Bits per luma sample, 8 to 16.
    pub bit_depth_luma: u8,
    /// Bits per chroma sample, 8 to 16.
    pub bit_depth_chroma: u8,
    /// Bits of `slice_pic_order_cnt_lsb`, 4 to 16.
    pub log2_max_pic_order_cnt_lsb: u8,
    /// `sps_max_num_reorder_pics` of the highest layer: pictures that come before another in decoding order and after
    /// it in output order. `None` when the bytes end before.
    pub num_reorder_frames: Option<u8>,
    /// Frames per second as a fraction, from the VUI's timing.
    pub frame_rate: Option<(u32, u32)>,
}

/// Reads a sequence parameter set NAL unit. Faults behind the picture size cost only the fields behind them.
pub fn parse_sps(nal: &[u8]) -> Result<Sps, Error> {
    expect_type(nal, nal_type::SPS)?;
    let rbsp = unescape(nal);
    let mut r = BitReader::new(rbsp.get(2..).unwrap_or_default());
    let r = &mut r;
    r.skip(4).field("sps_video_parameter_set_id")?;
    let max_sub_layers_minus1 = r.byte(3).field("sps_max_sub_layers_minus1")?;
    let temporal_id_nested = r.flag().field("sps_temporal_id_nesting_flag")?;
    let general = read_general(r).field("profile_tier_level")?;
    skip_sub_layers(r, max_sub_layers_minus1).field("profile_tier_level")?;
    let id = small(r, "sps_seq_parameter_set_id", 15)?;
    let chroma_format = small(r, "chroma_format_idc", 3)?;
    if chroma_format == 3 {
        r.flag().field("separate_colour_plane_flag")?;
    }
    let width = size(r, "pic_width_in_luma_samples")?;
    let height = size(r, "pic_height_in_luma_samples")?;
    let (crop_width, crop_height) = read_window(r, chroma_format);
    let mut sps = Sps {
        id,
        width: width.checked_sub(crop_width).filter(|width| *width > 0).unwrap_or(width),
        height: height.checked_sub(crop_height).filter(|height| *height > 0).unwrap_or(height),
        general,
        temporal_layers: max_sub_layers_minus1 + 1,
        temporal_id_nested,
        chroma_format,
        bit_depth_luma: small(r, "bit_depth_luma_minus8", 8)? + 8,
        bit_depth_chroma: small(r, "bit_depth_chroma_minus8", 8)? + 8,
        log2_max_pic_order_cnt_lsb: small(r, "log2_max_pic_order_cnt_lsb_minus4", 12)? + 4,
        num_reorder_frames: None,
        frame_rate: None,
    };
    sps.num_reorder_frames = read_num_reorder(r, max_sub_layers_minus1);
    if sps.num_reorder_frames.is_some() {
        sps.frame_rate = vui::read_frame_rate(r, sps.log2_max_pic_order_cnt_lsb);
    }
    Ok(sps)
}

/// Profile, tier and level of a sequence parameter set NAL unit, even when the rest cannot be read.
pub fn general_profile(sps: &[u8]) -> Result<GeneralProfile, Error> {
    expect_type(sps, nal_type::SPS)?;
    let rbsp = unescape(sps);
    let mut r = BitReader::new(rbsp.get(3..).unwrap_or_default());
    read_general(&mut r).field("profile_tier_level")
}

fn read_general(r: &mut BitReader<'_>) -> Option<GeneralProfile> {
    let space = r.byte(2)?;
    let high_tier = r.flag()?;
    let profile = r.byte(5)?;
    let compatibility = r.bits(32)?;
    let mut constraints = [0; 6];
    for byte in &mut constraints {
        *byte = r.byte(8)?;
    }
    Some(GeneralProfile { space, high_tier, profile, compatibility, constraints, level: r.byte(8)? })
}

fn skip_sub_layers(r: &mut BitReader<'_>, max_sub_layers_minus1: u8) -> Option<()> {
    if max_sub_layers_minus1 == 0 {
        return Some(());
    }
    let mut bits = 0;
    for layer in 0..8 {
        let (profile_present, level_present) = (r.flag()?, r.flag()?);
        if layer < max_sub_layers_minus1 {
            bits += if profile_present { 88 } else { 0 } + if level_present { 8 } else { 0 };
        }
    }
    r.skip(bits)
}

/// Pixels cut from width and height; none when the bytes end or the numbers overflow.
fn read_window(r: &mut BitReader<'_>, chroma_format: u8) -> (u32, u32) {
    if r.flag() != Some(true) {
        return (0, 0);
    }
    let (unit_x, unit_y) = match chroma_format {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let mut pair = |unit: u64| Some((u64::from(r.ue()?) + u64::from(r.ue()?)) * unit);
    let (Some(x), Some(y)) = (pair(unit_x), pair(unit_y)) else { return (0, 0) };
    (u32::try_from(x).unwrap_or(u32::MAX), u32::try_from(y).unwrap_or(u32::MAX))
}

/// The reorder depth of the highest temporal layer, which comes last.
fn read_num_reorder(r: &mut BitReader<'_>, max_sub_layers_minus1: u8) -> Option<u8> {
    let each_layer = r.flag()?;
    let mut depth = 0;
    for _ in 0..=if each_layer { max_sub_layers_minus1 } else { 0 } {
        r.ue()?;
        depth = r.ue()?;
        r.ue()?;
    }
    u8::try_from(depth.min(MAX_DPB_FRAMES)).ok()
}

fn size(r: &mut BitReader<'_>, field: &'static str) -> Result<u32, Error> {
    let value = r.ue().field(field)?;
    if value == 0 || value > MAX_SIZE {
        return Err(Error::OutOfRange { field, value: u64::from(value) });
    }
    Ok(value)
}

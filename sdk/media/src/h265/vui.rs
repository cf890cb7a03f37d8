//! The way from the reorder depth of an SPS to the frame rate in its VUI. H.265 7.3.2.2, E.2.1.

use crate::bits::BitReader;

/// Most `st_ref_pic_set`s in an SPS.
const MAX_SETS: u32 = 64;
/// Most pictures in one reference picture set.
const MAX_PICTURES: usize = 16;
/// Most `lt_ref_pic_poc_lsb_sps` entries.
const MAX_LONG_TERM: u32 = 32;

/// Frames per second as a fraction, with `r` behind the sub-layer ordering information.
pub(super) fn read_frame_rate(r: &mut BitReader<'_>, log2_max_poc_lsb: u8) -> Option<(u32, u32)> {
    // Two coding block sizes, two transform block sizes, two hierarchy depths.
    for _ in 0..6 {
        r.ue()?;
    }
    if r.flag()? && r.flag()? {
        skip_scaling_lists(r)?;
    }
    r.skip(2)?; // amp_enabled_flag, sample_adaptive_offset_enabled_flag
    if r.flag()? {
        r.skip(8)?; // PCM sample bit depths
        r.ue()?;
        r.ue()?;
        r.skip(1)?;
    }
    skip_short_term_sets(r)?;
    if r.flag()? {
        let count = r.ue().filter(|count| *count <= MAX_LONG_TERM)?;
        for _ in 0..count {
            r.skip(usize::from(log2_max_poc_lsb) + 1)?;
        }
    }
    r.skip(2)?; // sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag
    if r.flag()? { read_vui_timing(r) } else { None }
}

fn read_vui_timing(r: &mut BitReader<'_>) -> Option<(u32, u32)> {
    if r.flag()? && r.bits(8)? == 255 {
        r.skip(32)?; // sar_width, sar_height
    }
    if r.flag()? {
        r.skip(1)?; // overscan_appropriate_flag
    }
    if r.flag()? {
        r.skip(4)?; // video_format, video_full_range_flag
        if r.flag()? {
            r.skip(24)?; // colour description
        }
    }
    if r.flag()? {
        r.ue()?; // chroma sample locations
        r.ue()?;
    }
    r.skip(3)?; // neutral_chroma_indication_flag, field_seq_flag, frame_field_info_present_flag
    if r.flag()? {
        for _ in 0..4 {
            r.ue()?; // default display window
        }
    }
    if !r.flag()? {
        return None;
    }
    let (units, scale) = (r.bits(32)?, r.bits(32)?);
    (units > 0 && scale > 0).then_some((scale, units))
}

/// H.265 7.3.4.
fn skip_scaling_lists(r: &mut BitReader<'_>) -> Option<()> {
    for size_id in 0_u32..4 {
        let matrices = if size_id == 3 { 2 } else { 6 };
        for _ in 0..matrices {
            if !r.flag()? {
                r.ue()?; // scaling_list_pred_matrix_id_delta
                continue;
            }
            if size_id > 1 {
                r.se()?; // scaling_list_dc_coef_minus8
            }
            for _ in 0..(1_u32 << (4 + 2 * size_id)).min(64) {
                r.se()?; // scaling_list_delta_coef
            }
        }
    }
    Some(())
}

/// H.265 7.3.7 and the derivation (7-61) to (7-70): how many pictures a set has decides how many bits the next one has.
fn skip_short_term_sets(r: &mut BitReader<'_>) -> Option<()> {
    let count = r.ue().filter(|count| *count <= MAX_SETS)?;
    let mut previous: Vec<i64> = Vec::new();
    for index in 0..count {
        let predicted = index > 0 && r.flag()?;
        previous = if predicted { read_predicted_set(r, &previous)? } else { read_explicit_set(r)? };
        if previous.len() > MAX_PICTURES {
            return None;
        }
    }
    Some(())
}

fn read_predicted_set(r: &mut BitReader<'_>, reference: &[i64]) -> Option<Vec<i64>> {
    let negative = r.flag()?;
    let magnitude = i64::from(r.ue()?) + 1;
    let delta = if negative { -magnitude } else { magnitude };
    let mut set = Vec::with_capacity(reference.len() + 1);
    for picture in reference.iter().chain(&[0]) {
        let used = r.flag()?;
        let keep = used || r.flag()?;
        let moved = picture + delta;
        if keep && moved != 0 {
            set.push(moved);
        }
    }
    // Earlier pictures first, each side from the nearest on.
    set.sort_unstable_by_key(|picture| (*picture > 0, picture.abs()));
    Some(set)
}

fn read_explicit_set(r: &mut BitReader<'_>) -> Option<Vec<i64>> {
    let negative = usize::try_from(r.ue()?).ok().filter(|count| *count <= MAX_PICTURES)?;
    let positive = usize::try_from(r.ue()?).ok().filter(|count| *count <= MAX_PICTURES)?;
    let mut set = Vec::with_capacity(negative + positive);
    for (count, sign) in [(negative, -1), (positive, 1)] {
        let mut distance = 0;
        for _ in 0..count {
            distance += i64::from(r.ue()?) + 1;
            r.skip(1)?; // used_by_curr_pic_flag
            set.push(sign * distance);
        }
    }
    Some(set)
}

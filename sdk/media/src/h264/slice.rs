//! Picture parameter sets and slice headers, as far as they tell which picture a slice belongs to.

use super::{NalType, PicOrderCnt, Sps};
use crate::bits::BitReader;
use crate::error::{Error, Field};
use crate::nal::unescape;

/// Bytes of a slice that hold the fields read here, emulation prevention included.
const HEADER_BYTES: usize = 64;

/// What is read of a picture parameter set. H.264 7.3.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pps {
    /// `pic_parameter_set_id`, 0 to 255.
    pub id: u8,
    /// `seq_parameter_set_id`, 0 to 31.
    pub sps_id: u8,
}

/// Reads the ids of a picture parameter set NAL unit.
pub fn parse_pps(nal: &[u8]) -> Result<Pps, Error> {
    let found = nal.first().field("nal_unit_type")? & 0x1f;
    if NalType::of(nal) != Some(NalType::Pps) {
        return Err(Error::WrongNalType { expected: 8, found });
    }
    let head = unescape(nal.get(1..nal.len().min(HEADER_BYTES)).unwrap_or_default());
    let mut r = BitReader::new(&head);
    let id = r.ue().field("pic_parameter_set_id")?;
    let sps_id = r.ue().field("seq_parameter_set_id")?;
    let out_of_range = |field, value| Error::OutOfRange { field, value: u64::from(value) };
    Ok(Pps {
        id: u8::try_from(id).map_err(|_| out_of_range("pic_parameter_set_id", id))?,
        sps_id: u8::try_from(sps_id)
            .ok()
            .filter(|id| *id < 32)
            .ok_or_else(|| out_of_range("seq_parameter_set_id", sps_id))?,
    })
}

/// The start of a slice header. H.264 7.3.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceHeader {
    /// `first_mb_in_slice`.
    pub first_mb: u32,
    /// `pic_parameter_set_id`.
    pub pps_id: u8,
    /// `frame_num`; `None` without the SPS.
    pub frame_num: Option<u32>,
    /// The picture is a field: `true` the bottom field, `false` the top field.
    pub bottom_field: Option<bool>,
    /// `pic_order_cnt_lsb`; `None` without the SPS, or where the order is coded otherwise.
    pub pic_order_cnt_lsb: Option<u32>,
}

/// Reads the header of the slice `nal` (types 1, 2, 5) with the set it refers to, when that is known.
pub fn parse_slice(nal: &[u8], sps: Option<&Sps>) -> Result<SliceHeader, Error> {
    let kind = NalType::of(nal).field("nal_unit_type")?;
    if !matches!(kind, NalType::Slice | NalType::PartitionA | NalType::Idr) {
        return Err(Error::WrongNalType { expected: 1, found: nal.first().map_or(0, |byte| byte & 0x1f) });
    }
    let head = unescape(nal.get(1..nal.len().min(HEADER_BYTES)).unwrap_or_default());
    let mut r = BitReader::new(&head);
    let first_mb = r.ue().field("first_mb_in_slice")?;
    r.ue().field("slice_type")?;
    let pps_id = r.ue().field("pic_parameter_set_id")?;
    let mut header = SliceHeader {
        first_mb,
        pps_id: u8::try_from(pps_id)
            .map_err(|_| Error::OutOfRange { field: "pic_parameter_set_id", value: u64::from(pps_id) })?,
        frame_num: None,
        bottom_field: None,
        pic_order_cnt_lsb: None,
    };
    if let Some(sps) = sps {
        // A header that ends early is still good for what came before.
        let _ = read_frame(&mut r, sps, kind == NalType::Idr, &mut header);
    }
    Ok(header)
}

fn read_frame(r: &mut BitReader<'_>, sps: &Sps, idr: bool, header: &mut SliceHeader) -> Option<()> {
    if sps.separate_colour_planes {
        r.skip(2)?;
    }
    header.frame_num = Some(r.bits(u32::from(sps.log2_max_frame_num))?);
    if !sps.frames_only && r.flag()? {
        header.bottom_field = Some(r.flag()?);
    }
    if idr {
        r.ue()?; // idr_pic_id
    }
    if let PicOrderCnt::Lsb { log2_max } = sps.pic_order_cnt {
        header.pic_order_cnt_lsb = Some(r.bits(u32::from(log2_max))?);
    }
    Some(())
}

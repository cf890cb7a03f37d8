//! The video usability information of an SPS, by the strict reader of `h264-reader` with the trailing-bits check off:
//! what it refuses is simply not known.

use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::rbsp::{BitRead, BitReader, BitReaderError, Integer, Primitive};

/// What is taken from the VUI.
pub(super) struct Vui {
    pub(super) num_reorder_frames: Option<u8>,
    pub(super) frame_rate: Option<(u32, u32)>,
    pub(super) is_full_range: bool,
    pub(super) matrix_coefficients: Option<u8>,
}

/// Most frames a decoded picture buffer holds. H.264 A.3.1.
const MAX_DPB_FRAMES: u32 = 16;

/// Reads the VUI of the set `rbsp` (without NAL header and emulation prevention).
pub(super) fn read(rbsp: &[u8]) -> Option<Vui> {
    let sps = SeqParameterSet::from_bits(WithoutEnd(BitReader::new(rbsp))).ok()?;
    let vui = sps.vui_parameters?;
    let num_reorder_frames = vui
        .bitstream_restrictions
        .map(|restrictions| restrictions.max_num_reorder_frames.min(MAX_DPB_FRAMES))
        .and_then(|frames| u8::try_from(frames).ok());
    let frame_rate = vui.timing_info.and_then(|timing| rate(timing.time_scale, timing.num_units_in_tick));
    let signal = vui.video_signal_type;
    let is_full_range = signal.as_ref().is_some_and(|signal| signal.video_full_range_flag);
    let matrix_coefficients =
        signal.and_then(|signal| signal.colour_description).map(|colour| colour.matrix_coefficients);
    Some(Vui { num_reorder_frames, frame_rate, is_full_range, matrix_coefficients })
}

/// Two ticks make a frame. H.264 E.2.1.
fn rate(time_scale: u32, num_units_in_tick: u32) -> Option<(u32, u32)> {
    let (scale, units) = if time_scale.is_multiple_of(2) {
        (time_scale / 2, num_units_in_tick)
    } else {
        (time_scale, num_units_in_tick.checked_mul(2)?)
    };
    (scale > 0 && units > 0).then_some((scale, units))
}

/// A bit reader for which any end of the set is a good end.
struct WithoutEnd<'a>(BitReader<&'a [u8]>);

impl BitRead for WithoutEnd<'_> {
    fn read_ue(&mut self, name: &'static str) -> Result<u32, BitReaderError> {
        self.0.read_ue(name)
    }

    fn read_se(&mut self, name: &'static str) -> Result<i32, BitReaderError> {
        self.0.read_se(name)
    }

    fn read_bit(&mut self, name: &'static str) -> Result<bool, BitReaderError> {
        self.0.read_bit(name)
    }

    fn read<const BITS: u32, I: Integer>(&mut self, name: &'static str) -> Result<I, BitReaderError> {
        self.0.read::<BITS, I>(name)
    }

    fn read_var<I: Integer>(&mut self, bit_count: u32, name: &'static str) -> Result<I, BitReaderError> {
        self.0.read_var(bit_count, name)
    }

    fn read_to<V: Primitive>(&mut self, name: &'static str) -> Result<V, BitReaderError> {
        self.0.read_to(name)
    }

    fn skip(&mut self, bit_count: u32, name: &'static str) -> Result<(), BitReaderError> {
        self.0.skip(bit_count, name)
    }

    fn byte_aligned(&self) -> bool {
        self.0.byte_aligned()
    }

    fn has_more_rbsp_data(&mut self, name: &'static str) -> Result<bool, BitReaderError> {
        self.0.has_more_rbsp_data(name)
    }

    fn finish_rbsp(self) -> Result<(), BitReaderError> {
        Ok(())
    }

    fn finish_sei_payload(self) -> Result<(), BitReaderError> {
        Ok(())
    }
}

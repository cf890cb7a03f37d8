//! What a media section says about its codec.

use bytes::Bytes;
use patchbay_media::aac::AudioSpecificConfig;
use patchbay_media::aac::latm::StreamMuxConfig;
use patchbay_media::{Codec, Parameters, h264, h265, opus};

use super::{Media, fmtp};

impl Media {
    /// The codec of the chosen payload type; `None` when it is none that units can carry, such as MPEG-TS or metadata.
    pub fn codec(&self) -> Option<Codec> {
        Some(match self.encoding.as_str() {
            "H264" => Codec::H264,
            "H265" => Codec::Hevc,
            "AV1" => Codec::Av1,
            "VP8" => Codec::Vp8,
            "VP9" => Codec::Vp9,
            "JPEG" => Codec::Mjpeg,
            "MP4V-ES" => Codec::Mpeg4,
            "MPEG4-GENERIC" | "MP4A-LATM" => Codec::Aac,
            "OPUS" => Codec::Opus,
            "PCMA" => Codec::PcmAlaw,
            "PCMU" => Codec::PcmMulaw,
            "L16" => Codec::PcmS16be,
            "L24" => Codec::PcmS24be,
            "L8" => Codec::PcmU8,
            // Hikvision and FFmpeg say PCM for little-endian samples (R51).
            "PCM" => Codec::PcmS16le,
            "G722" => Codec::AdpcmG722,
            "MPA" => Codec::Mp3,
            name if name.contains("G726-") => Codec::AdpcmG726,
            _ => return None,
        })
    }

    /// Codec, clock and what is known of its configuration. Broken parameter sets count as missing (C47).
    pub fn parameters(&self) -> Option<Parameters> {
        let codec = self.codec()?;
        let mut parameters = match codec.kind() {
            patchbay_media::Kind::Audio => Parameters::audio(codec, self.clock_rate, self.channels.max(1)),
            _ => Parameters::video(codec, self.clock_rate),
        };
        match codec {
            Codec::H264 => self.h264(&mut parameters),
            Codec::Hevc => self.hevc(&mut parameters),
            Codec::Aac => self.aac(&mut parameters),
            Codec::Opus => {
                // RFC 7587 section 7.1: the rtpmap always says 2 channels (R52).
                parameters.channels =
                    if self.fmtp.get("sprop-stereo").is_some_and(|v| v == "0") { 1 } else { 2 };
                parameters.sample_rate = 48000;
                parameters.extradata = opus::Head::new(parameters.channels, 0).build();
            }
            // The clock says 8000, the codec makes 16000 samples (R53).
            Codec::AdpcmG722 => parameters.sample_rate = self.clock_rate.saturating_mul(2),
            Codec::Mp3 => parameters.sample_rate = 0,
            Codec::Mpeg4 => parameters.extradata = self.config().into(),
            _ => {}
        }
        if let Some((width, height)) = self.dimensions
            && codec.kind() == patchbay_media::Kind::Video
            && parameters.width == 0
        {
            (parameters.width, parameters.height) = (width, height);
        }
        Some(parameters)
    }

    /// NAL units of the `sprop-` parameter of this name.
    fn sprop(&self, name: &str) -> Vec<Bytes> {
        self.fmtp.get(name).map(|list| fmtp::nal_units(list)).unwrap_or_default()
    }

    /// The bytes of `config=`.
    pub(crate) fn config(&self) -> Vec<u8> {
        self.fmtp.get("config").map(|text| fmtp::hex(text)).unwrap_or_default()
    }

    /// The multiplex configuration of MP4A-LATM, when it is out of band (RFC 6416 section 6).
    pub(crate) fn stream_mux_config(&self) -> Option<StreamMuxConfig> {
        StreamMuxConfig::parse(&self.config()).ok()
    }

    fn h264(&self, parameters: &mut Parameters) {
        let units = self.sprop("sprop-parameter-sets");
        let of_type = |kind: u8| -> Vec<&[u8]> {
            units
                .iter()
                .filter(|nal| nal.first().is_some_and(|b| b & 0x1f == kind))
                .map(|nal| nal.as_ref())
                .collect()
        };
        let (sps, pps) = (of_type(7), of_type(8));
        let (Some(first), false) = (sps.first(), pps.is_empty()) else { return };
        let Ok(parsed) = h264::parse_sps(first) else { return };
        (parameters.width, parameters.height) = (parsed.width, parsed.height);
        parameters.extradata = h264::avcc(&sps, &pps);
    }

    fn hevc(&self, parameters: &mut Parameters) {
        let of_type = |name: &str, kind: u8| -> Vec<Bytes> {
            let mut units = self.sprop(name);
            units.retain(|nal| nal.first().is_some_and(|b| b >> 1 & 0x3f == kind));
            units
        };
        let (vps, sps, pps) = (of_type("sprop-vps", 32), of_type("sprop-sps", 33), of_type("sprop-pps", 34));
        // Only when all three are there and readable (C49).
        let Some(Ok(first)) = sps.first().map(|nal| h265::parse_sps(nal)) else { return };
        if vps.is_empty() || pps.is_empty() {
            return;
        }
        (parameters.width, parameters.height) = (first.width, first.height);
        parameters.extradata = h265::hvcc(&slices(&vps), &slices(&sps), &slices(&pps));
    }

    fn aac(&self, parameters: &mut Parameters) {
        let (asc, extradata) = if self.encoding == "MP4A-LATM" {
            let Some(mux) = self.stream_mux_config() else { return };
            (mux.config, mux.extradata)
        } else {
            let bytes = self.config();
            let Ok(asc) = AudioSpecificConfig::parse(&bytes) else { return };
            (asc, bytes.into())
        };
        // The configuration decides for the decoder, the rtpmap for the clock (C46, R44).
        parameters.extradata = extradata;
        parameters.sample_rate = asc.output_sample_rate();
        if asc.output_channels() > 0 {
            parameters.channels = asc.output_channels();
        }
    }
}

fn slices(units: &[Bytes]) -> Vec<&[u8]> {
    units.iter().map(|nal| nal.as_ref()).collect()
}

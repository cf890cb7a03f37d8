//! Formats that this side knows by numbers of its own: those that it offers, and those that a peer may offer later.

use rtc::rtp_transceiver::rtp_sender::{RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters};

/// Formats of an offer of this side, as go2rtc numbers them: payload type, name, clock, channels, parameters.
const VIDEO: [(u8, &str, &str); 4] = [
    (96, "video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f"),
    (97, "video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
    (98, "video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640032"),
    (100, "video/H265", ""),
];

const AUDIO: [(u8, &str, u32, u16, &str); 3] = [
    (101, "audio/opus", 48_000, 2, "minptime=10;useinbandfec=1"),
    (0, "audio/PCMU", 8000, 0, ""),
    (8, "audio/PCMA", 8000, 0, ""),
];

/// Formats of video that are offered.
pub(crate) fn video() -> Vec<RTCRtpCodecParameters> {
    let feedback = |(typ, parameter): (&str, &str)| RTCPFeedback {
        typ: typ.to_owned(),
        parameter: parameter.to_owned(),
    };
    let codec = |(payload_type, mime_type, fmtp): (u8, &str, &str)| {
        let rtcp_feedback =
            [("goog-remb", ""), ("ccm", "fir"), ("nack", ""), ("nack", "pli")].map(feedback).to_vec();
        let rtp_codec = RTCRtpCodec {
            mime_type: mime_type.to_owned(),
            clock_rate: 90_000,
            channels: 0,
            sdp_fmtp_line: fmtp.to_owned(),
            rtcp_feedback,
        };
        RTCRtpCodecParameters { rtp_codec, payload_type }
    };
    VIDEO.into_iter().map(codec).collect()
}

/// Formats of audio that are offered.
pub(crate) fn audio() -> Vec<RTCRtpCodecParameters> {
    let codec = |(payload_type, mime_type, clock_rate, channels, fmtp): (u8, &str, u32, u16, &str)| {
        let rtp_codec = RTCRtpCodec {
            mime_type: mime_type.to_owned(),
            clock_rate,
            channels,
            sdp_fmtp_line: fmtp.to_owned(),
            rtcp_feedback: Vec::new(),
        };
        RTCRtpCodecParameters { rtp_codec, payload_type }
    };
    AUDIO.into_iter().map(codec).collect()
}

//! The targets of what is no plugin.
#![allow(unused_attributes)] // theirs, which are programs elsewhere

extern crate patchbay_replay as libfuzzer_sys;

libfuzzer_sys::targets! {
    annexb_demux api_calls audio_aac audio_mpa audio_opus audio_transcode manifest media_adts media_annexb
    media_asc media_assembler media_frames media_h264_sps media_h265_sps media_jpeg media_latm mux_flv mux_mp4 mux_ts
    net_auth net_http net_url picture_jpeg ring_reader rtp_depacketize rtp_jpeg rtp_rtcp rtp_rtp rtp_sdp
}

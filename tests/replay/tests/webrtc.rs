//! The targets of the plugin `webrtc`.
#![allow(unused_attributes)] // theirs, which are programs elsewhere

extern crate patchbay_replay as libfuzzer_sys;

libfuzzer_sys::targets! {
    webrtc_sdp webrtc_stun webrtc_tcp_frames webrtc_turn_messages
}

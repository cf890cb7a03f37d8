//! The targets of the plugin `rtsp`.
#![allow(unused_attributes)] // theirs, which are programs elsewhere

extern crate patchbay_replay as libfuzzer_sys;

libfuzzer_sys::targets! {
    rtsp_client_session rtsp_message rtsp_server_session rtsp_tunnel
}

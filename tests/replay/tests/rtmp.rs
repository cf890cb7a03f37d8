//! The targets of the plugin `rtmp`.
#![allow(unused_attributes)] // theirs, which are programs elsewhere

extern crate patchbay_replay as libfuzzer_sys;

libfuzzer_sys::targets! {
    rtmp_client_session rtmp_server_session
}

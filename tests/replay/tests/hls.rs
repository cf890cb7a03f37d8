//! The targets of the plugin `hls`.
#![allow(unused_attributes)] // theirs, which are programs elsewhere

extern crate patchbay_replay as libfuzzer_sys;

libfuzzer_sys::targets! {
    hls_playlist hls_segment
}

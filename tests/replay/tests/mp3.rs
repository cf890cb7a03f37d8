//! The targets of the plugin `mp3`.
#![allow(unused_attributes)] // theirs, which are programs elsewhere

extern crate patchbay_replay as libfuzzer_sys;

libfuzzer_sys::targets! {
    mp3_demux
}

//! The targets of the plugin `y4m`.
#![allow(unused_attributes)] // theirs, which are programs elsewhere

extern crate patchbay_replay as libfuzzer_sys;

libfuzzer_sys::targets! {
    y4m_demux
}

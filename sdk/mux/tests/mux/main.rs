//! Tests of the public API, one module per subject; those named `peers`, `players` and `files` compare with FFmpeg.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

mod fixtures;
mod flv_peers;
mod flv_shapes;
mod fmp4_header;
mod fmp4_players;
mod fmp4_viewers;
mod mp4_files;
mod mp4_shapes;
mod mpegts_peers;
mod mpegts_shapes;
mod peers;

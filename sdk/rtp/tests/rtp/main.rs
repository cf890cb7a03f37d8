//! Tests of the public API, one module per subject. Names begin with the row or vector that they prove.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod audio;
mod captures;
mod h264;
mod h265;
mod history;
mod jpeg;
mod order;
mod pictures;
mod properties;
mod round_trip;
mod sdp;
mod server;
mod support;
mod wire;

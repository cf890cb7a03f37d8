//! The stream core against a scripted clock.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

mod rig;
mod streams;
mod talk;
mod transcoders;

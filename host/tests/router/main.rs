//! The stream core against a scripted clock.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

mod relays;
mod rig;
mod streams;
mod talk;
mod transcoders;

//! The server: its session without sockets, then players and publishers by script on real ones.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a test

mod memory;
mod multicast;
mod peer;
mod play;
mod publish;
mod session;
mod tunnels;

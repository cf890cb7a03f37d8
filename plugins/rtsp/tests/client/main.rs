//! The client: its session against a scripted camera without sockets, then its sources against cameras on sockets.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a test

mod emulator;
mod golden;
mod handshake;
mod media;
mod receiver;
mod source;
mod talk;

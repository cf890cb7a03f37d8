//! One flow of buffers to many sockets, with almost no cost per socket.
//!
//! ```text
//! Fanout::push(buffer) ─▶ log (short, shared) ─▶ one try_write per viewer, done by the pushing task itself
//!                              ▲                        │ socket full
//!                              └── position ── Writer::drive (the viewer's own task, runs only then)
//! ```
//!
//! | start here | for |
//! |---|---|
//! | [`Fanout`] | pushing buffers; never waits for a viewer |
//! | [`Writer`] | one viewer's socket: replies, joining a fan-out, catching up |
//! | [`Limits`] | how far a viewer may fall behind before it skips to the next key buffer |
//!
//! A viewer that keeps up costs one `write` and two uncontended locks per buffer: no task wake, no allocation. One that
//! does not holds a *position* in the shared log and the rest of at most one buffer, never a queue of its own. Buffers
//! and replies are written whole and in order: nothing ever cuts into a buffer. What a skip leaves out are whole
//! stretches up to a key buffer, and it is counted.
//!
//! The crate knows no protocol, reads no clock and spawns no task.
#![forbid(unsafe_code)]

mod counters;
mod log;
mod pass;
mod socket;
mod viewer;

pub use counters::Counters;
pub use log::{Buffer, Limits, Position, Tracks};
pub use pass::{Fanout, Join};
pub use socket::Socket;
pub use viewer::{Rewrite, SendError, Sent, Writer};

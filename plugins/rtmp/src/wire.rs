//! RTMP's layers, without sockets and clocks. Adobe's Real Time Messaging Protocol 1.0.
//!
//! | part | what it does |
//! |---|---|
//! | [`handshake`] | 1,536 random bytes each way, with and without digests |
//! | [`chunk`] | messages cut into chunks |
//! | [`message`] | what messages mean |

pub mod chunk;
pub mod handshake;
pub mod message;

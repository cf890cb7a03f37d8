//! One connection's protocol, without sockets and clocks: bytes in, bytes and events out.
//!
//! | part | what it does |
//! |---|---|
//! | [`link`] | handshake, chunks, acknowledgements and pings of either side |
//! | [`server`] | what players and publishers ask, and the answers |
//! | [`client`] | playing from a server, with Adobe's login |
//! | [`adobe`] | that login |

pub mod adobe;
pub mod client;
pub mod link;
pub mod server;

use crate::wire::{chunk, handshake};

/// The peer broke the protocol; the connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The handshake.
    #[error(transparent)]
    Handshake(#[from] handshake::Error),
    /// The chunks.
    #[error(transparent)]
    Chunk(#[from] chunk::Error),
}

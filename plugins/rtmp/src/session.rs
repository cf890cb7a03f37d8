//! One connection's protocol, without sockets and clocks: bytes in, bytes and events out.
//!
//! | part | what it does |
//! |---|---|
//! | [`link`] | handshake, chunks, acknowledgements and pings of either side |
//! | [`server`] | what players and publishers ask, and the answers |
//! | [`client`] | playing from a server or publishing to one, with Adobe's login |
//! | [`adobe`] | that login |

pub mod adobe;
pub mod client;
pub mod link;
pub mod login;
pub mod server;

use patchbay_mux::flv::amf::Value;

use crate::wire::message::Command;
use crate::wire::{chunk, handshake};

/// FourCCs of the codecs that are understood.
pub(crate) const FOURCCS: [&str; 9] =
    ["avc1", "hvc1", "av01", "vp09", "vp08", "mp4a", "Opus", "fLaC", ".mp3"];
/// Most FourCCs that are kept of a peer.
const MAX_FOURCCS: usize = 64;

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

/// Codecs that a peer says it understands. Enhanced RTMP v1 and v2.
fn fourccs(command: &Command) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    if let Some(Value::StrictArray(values)) = command.member("fourCcList") {
        list.extend(values.iter().filter_map(|value| value.as_str().map(str::to_owned)));
    }
    for map in ["videoFourCcInfoMap", "audioFourCcInfoMap"] {
        // Bit 0: it decodes.
        let members = command.member(map).map(Value::members).unwrap_or_default();
        let decodes = |value: &Value| value.as_f64().is_some_and(|bits| bits as u32 & 1 != 0);
        list.extend(members.iter().filter(|(_, value)| decodes(value)).map(|(name, _)| name.clone()));
    }
    list.truncate(MAX_FOURCCS);
    list
}

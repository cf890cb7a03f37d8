//! RTP, RTCP, payload formats and SDP, without I/O: bytes and times go in, bytes and units come out.
//!
//! | start here | for |
//! |---|---|
//! | [`sdp::parse`], [`sdp::build`] | session descriptions |
//! | [`RtpPacket`], [`rtcp`] | packets on the wire |
//! | [`Reorder`] | UDP |
//! | [`Depacketizer`] | packets of one media to units |
//! | [`Packetizer`] | units of one track to packets, once for all viewers |
//! | [`clock`] | sender reports as times of units |
//!
//! Rows such as "R13" or "C47" in the sources name the behaviours of real cameras listed in `README.md` of this crate.
#![forbid(unsafe_code)]

pub mod clock;
pub mod depacketize;
pub mod packet;
pub mod packetize;
pub mod reorder;
pub mod rtcp;
pub mod sdp;
pub mod sequence;

mod jfif;

#[doc(hidden)]
pub mod fuzz;

pub use depacketize::{Depacketizer, Item};
pub use packet::{PacketError, RtpPacket, is_rtcp};
pub use packetize::{Packetizer, Packets};
pub use reorder::Reorder;

/// The payload format is not implemented.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no RTP payload format for {encoding:?}")]
pub struct Unsupported {
    /// The encoding name of the `rtpmap`, or FFmpeg's name of the codec.
    pub encoding: String,
}

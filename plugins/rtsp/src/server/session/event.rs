//! What a session tells its application, and what it is told.

use std::net::IpAddr;

use bytes::Bytes;
use patchbay_media::Parameters;

/// A media that a player may set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Codec and what its decoder needs.
    pub parameters: Parameters,
    /// Payload type.
    pub payload_type: u8,
    /// The packetizing run's RTP channel over TCP; RTCP is the next one.
    pub channel: u8,
    /// The run's SSRC.
    pub ssrc: u32,
}

/// `RTP-Info` of one media (S9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpInfo {
    /// The media's index among the offers.
    pub track: usize,
    /// Sequence number of the first packet that will be sent; `None` leaves the media out.
    pub sequence: Option<u16>,
    /// Its RTP time, when it is known.
    pub timestamp: Option<u32>,
}

/// Where one media of a connection goes to or comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Frames on the connection, RTP on this channel and RTCP on the other.
    Tcp(u8, u8),
    /// Datagrams between these ports: the client's and the server's RTP port, each with RTCP on the second.
    Udp {
        /// The client's ports.
        client: (u16, u16),
        /// The server's.
        server: (u16, u16),
    },
    /// Datagrams to a group.
    Multicast(Place),
}

/// Where a media is sent to by multicast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The group.
    pub group: IpAddr,
    /// Ports for RTP and RTCP.
    pub ports: (u16, u16),
    /// Time to live.
    pub ttl: u8,
    /// The sender's address.
    pub source: IpAddr,
}

/// What the application must do. Answers are methods of [`Session`](super::Session).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A player asks for a stream: [`Session::described`](super::Session::described) or [`Session::refuse`](super::Session::refuse).
    Describe {
        /// The stream's decoded name.
        stream: String,
        /// Codec filters and options, not decoded.
        query: String,
        /// The player could talk back.
        backchannel: bool,
        /// `User-Agent`.
        user_agent: String,
    },
    /// A publisher offers a stream: [`Session::announced`](super::Session::announced) or [`Session::refuse`](super::Session::refuse).
    Announce {
        /// The stream's decoded name.
        stream: String,
        /// Options, not decoded.
        query: String,
        /// Its description.
        sdp: Bytes,
        /// `User-Agent`.
        user_agent: String,
    },
    /// Datagrams are wanted: [`Session::udp`](super::Session::udp) or [`Session::refuse`](super::Session::refuse) with 461.
    Udp {
        /// The media's index.
        track: usize,
        /// The client's ports.
        client: (u16, u16),
    },
    /// The place of a media in its stream's group is wanted: [`Session::multicast`](super::Session::multicast) or
    /// [`Session::refuse`](super::Session::refuse) with 461.
    Multicast {
        /// The media's index.
        track: usize,
    },
    /// The player will speak: [`Session::hears`](super::Session::hears) or [`Session::refuse`](super::Session::refuse).
    Talk,
    /// Start to send: [`Session::played`](super::Session::played).
    Play {
        /// The medias that were set up.
        tracks: Vec<(usize, Path)>,
    },
    /// Stop to send until the next `Play`. The reply follows.
    Pause,
    /// The client has ended what it set up; the connection stays a while.
    Teardown,
    /// Packets of these medias will come; they may have come already (S61).
    Record {
        /// The medias that were set up.
        tracks: Vec<(usize, Path)>,
    },
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes.
    Send(Bytes),
    /// Tell the application.
    Event(Event),
    /// Close the connection once all was sent.
    Close(Reason),
}

/// Why the server closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The client said TEARDOWN and did not close.
    #[error("teardown")]
    Teardown,
    /// Nothing came in time.
    #[error("silence")]
    Silence,
    /// Too many wrong logins.
    #[error("wrong login")]
    Login,
    /// Too many requests at once.
    #[error("too many requests at once")]
    Flood,
}

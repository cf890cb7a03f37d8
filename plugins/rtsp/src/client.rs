//! The client's side of RTSP, without I/O: what a camera sends goes in, what to send, open and deliver comes out.
//!
//! | start here | for |
//! |---|---|
//! | [`Session`] | the conversation: one mutation, then [`Session::poll`] until it answers [`Output::WakeAt`] |
//! | [`Receiver`] | packets of the medias to units, clocks and receiver reports |
//! | [`control`] | which URLs SETUP and PLAY name |
//!
//! Rows such as "C25" name the behaviours of real cameras listed in this plugin's README.

pub mod control;
mod error;
mod exchange;
mod handshake;
mod receiver;
mod session;
mod setup;
mod starts;
mod talk;
mod timers;

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
pub use patchbay_net::tls::Verify;
use patchbay_net::{Credentials, SourceUrl};
use patchbay_rtp::sdp;

use crate::wire::Lower;

pub use error::{Error, Wait};
pub use receiver::{Delivery, MediaFilter, Receiver};
pub use session::Session;
pub use starts::Starts;

/// Whom to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// TLS and whether certificates are verified; `None` for plain TCP (C1).
    pub tls: Option<Verify>,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// What a session needs to know before it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// The camera; its user info logs in.
    pub url: SourceUrl,
    /// TCP, or UDP or multicast with fallback to TCP (C60).
    pub lower: Lower,
    /// Limits of every wait.
    pub timeouts: Timeouts,
    /// `User-Agent`, not empty: some cameras answer 400 or 401 without (C5).
    pub user_agent: String,
    /// Ask for the media that takes sound to the camera (C21).
    pub backchannel: bool,
    /// Set that media up from the start, not only when somebody speaks: it takes a new session then.
    pub speaks: bool,
    /// Fresh randomness, for client nonces.
    pub seed: u64,
}

/// Limits of every wait (C4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS connection.
    pub dial: Duration,
    /// Each reply.
    pub reply: Duration,
    /// From the PLAY reply to the first packet of each media.
    pub first_media: Duration,
    /// Between anything and anything while playing (C89).
    pub silence: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            dial: Duration::from_secs(5),
            reply: Duration::from_secs(5),
            first_media: Duration::from_secs(10),
            silence: Duration::from_secs(10),
        }
    }
}

impl Timeouts {
    /// What `#timeout=` sets: it replaces all of them.
    pub fn all(timeout: Duration) -> Self {
        Self {
            dial: timeout,
            reply: timeout,
            first_media: timeout * 2,
            silence: timeout.max(Self::default().silence),
        }
    }
}

impl Config {
    /// The login of the URL.
    fn credentials(&self) -> Option<Credentials> {
        self.url.credentials().cloned()
    }
}

/// What happened outside.
#[derive(Debug)]
pub enum Input<'a> {
    /// The connection that [`Output::Connect`] asked for is there.
    Connected,
    /// Bytes of the connection came. Empty when they were read into [`Session::receive_buffer`].
    Received(&'a [u8]),
    /// The camera closed the connection.
    Eof,
    /// The time of [`Output::WakeAt`] has come.
    Timeout,
    /// The ports that [`Output::BindUdp`] asked for: RTP here, RTCP one above.
    UdpBound {
        /// Media.
        index: usize,
        /// Port of RTP.
        port: u16,
    },
    /// A datagram came from the camera's address.
    Datagram {
        /// Media.
        index: usize,
        /// It came to the RTCP port.
        to_rtcp: bool,
        /// The port it came from.
        from_port: u16,
        /// The datagram.
        data: Bytes,
    },
    /// The medias that are wanted now, by index. None: the session with the camera is ended until some are wanted.
    Wanted(&'a [usize]),
    /// Somebody speaks to the camera from now on, by the media of this index; nobody any more.
    Talk(Option<usize>),
    /// An RTP packet for the media of the talk. Passed over while the camera does not play.
    SendRtp(&'a [u8]),
    /// RTCP to be sent for a media.
    SendRtcp {
        /// Media.
        index: usize,
        /// A compound packet.
        data: Bytes,
    },
    /// End: TEARDOWN when there is something to tear down, then [`Output::Closed`] (C11).
    Stop,
}

/// What to do outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Close the connection and the UDP sockets if there are any, and dial.
    Connect {
        /// Whom.
        target: Target,
        /// How long to try.
        timeout: Duration,
        /// Why this is not the first connection.
        why: Option<Reconnect>,
    },
    /// Close the connection and the UDP sockets.
    Disconnect,
    /// Write to the connection.
    Send(Bytes),
    /// The camera's description. Comes once: a later description with other medias ends the session.
    Described(Box<Described>),
    /// Bind an even port and the one above it for a media (C64); answer with [`Input::UdpBound`].
    BindUdp {
        /// Media.
        index: usize,
    },
    /// Join a group, from the interface of the connection (C68). Nothing is answered: a group that brings nothing is given up
    /// after a while.
    JoinMulticast {
        /// Media.
        index: usize,
        /// The group.
        group: IpAddr,
        /// Its ports for RTP and RTCP.
        ports: (u16, u16),
    },
    /// Send a datagram to the camera's address, or to the group of a media that has joined one.
    SendUdp {
        /// Media.
        index: usize,
        /// From the RTCP port.
        from_rtcp: bool,
        /// The camera's port.
        port: u16,
        /// The datagram.
        data: Bytes,
    },
    /// The camera plays.
    Playing,
    /// Where it says that its tracks begin, which may be a lie (C82).
    Starts(Starts),
    /// An RTP or RTCP packet.
    Media {
        /// Media.
        index: usize,
        /// RTCP rather than RTP.
        is_rtcp: bool,
        /// The packet.
        data: Bytes,
    },
    /// Receiver reports are due: give them back by [`Input::SendRtcp`] (C90).
    ReportsDue,
    /// Nothing to do until something happens or this time, on the clock of the inputs, has come.
    WakeAt(Duration),
    /// The end. `Ok` after [`Input::Stop`].
    Closed(Result<(), Error>),
}

/// What DESCRIBE brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The description.
    pub session: sdp::Session,
    /// Its text.
    pub text: Bytes,
    /// `Server` header.
    pub server: String,
}

/// Why a new connection is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reconnect {
    /// The camera sent a redirect (C9).
    Redirected,
    /// UDP is refused or brings nothing: TCP from now on (C29, C60).
    UdpFails,
    /// Some medias came, others did not (C105).
    MediaMissing,
    /// The camera does not bear being asked for its backchannel (C21).
    BackchannelRefused,
    /// Medias are wanted, or spoken to, that are not set up, or some are wanted again.
    Wanted,
}

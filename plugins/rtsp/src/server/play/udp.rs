//! Viewers over UDP: the same frames as over TCP, one datagram per packet.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use patchbay_fanout::{Buffer, Position, Tracks};
use tokio::net::UdpSocket;

use super::frames::Frames;

/// Datagrams of history that go out at once; then there is a pause of [`PAUSE`], so that the receiver's buffer (208 KiB
/// by default on Linux) does not overflow.
const BURST: usize = 48;
const PAUSE: Duration = Duration::from_millis(4);
/// Live buffers that wait while history goes out; when they are more, the viewer resumes at the next key unit.
const BACKLOG_MAX: usize = 512;

/// Where one track of a viewer goes.
#[derive(Debug)]
pub struct UdpTrack {
    /// Index among the room's offers.
    pub track: usize,
    /// Sends RTP.
    pub rtp: Arc<UdpSocket>,
    /// Sends RTCP.
    pub rtcp: Arc<UdpSocket>,
    /// The client's addresses for RTP and RTCP.
    pub to: (SocketAddr, SocketAddr),
}

/// One viewer over UDP.
#[derive(Debug)]
pub struct Datagrams {
    /// RTP channel of the run, and where its packets go.
    tracks: Vec<(u8, UdpTrack)>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Live buffers may be sent; before that they wait.
    is_live: bool,
    head: Vec<Bytes>,
    backlog: VecDeque<(Position, Buffer)>,
    position: Option<Position>,
    tracks: Tracks,
    keyed: Tracks,
    await_key: Tracks,
}

impl Datagrams {
    pub(super) fn new(tracks: Vec<(u8, UdpTrack)>) -> Self {
        Self { tracks, state: Mutex::default() }
    }

    pub(super) fn set(
        &self,
        head: Vec<Bytes>,
        position: Position,
        tracks: Tracks,
        keyed: Tracks,
        await_key: Tracks,
    ) {
        let mut state = self.state.lock();
        state.head = head;
        state.backlog.retain(|(at, _)| *at >= position);
        (state.position, state.tracks, state.keyed, state.await_key) =
            (Some(position), tracks, keyed, await_key);
    }

    /// A live buffer; gives the number of datagrams that the socket did not take.
    pub(super) fn push(&self, position: Position, buffer: &Buffer) -> u64 {
        let mut state = self.state.lock();
        if state.position.is_some_and(|from| position < from) {
            return 0;
        }
        if state.is_live {
            return if state.wants(buffer) { self.send(&buffer.bytes) } else { 0 };
        }
        state.backlog.push_back((position, buffer.clone()));
        if state.backlog.len() > BACKLOG_MAX {
            state.backlog.clear();
            state.await_key = state.keyed;
        }
        0
    }

    /// Sends the history at a pace that a receiver can take, then what came meanwhile, then all that comes.
    pub async fn start(&self) {
        let head = std::mem::take(&mut self.state.lock().head);
        let mut sent = 0;
        for frames in &head {
            for (channel, packet) in Frames(frames) {
                self.send_one(channel, packet);
                sent += 1;
                if sent % BURST == 0 {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        loop {
            let mut state = self.state.lock();
            let Some((_, buffer)) = state.backlog.pop_front() else {
                state.is_live = true;
                return;
            };
            if state.wants(&buffer) {
                self.send(&buffer.bytes);
            }
        }
    }

    fn send(&self, frames: &[u8]) -> u64 {
        Frames(frames).map(|(channel, packet)| u64::from(!self.send_one(channel, packet))).sum()
    }

    fn send_one(&self, channel: u8, packet: &[u8]) -> bool {
        let Some((_, track)) = self.tracks.iter().find(|(rtp, _)| *rtp == channel & !1) else { return true };
        let sent = if channel & 1 == 0 {
            track.rtp.try_send_to(packet, track.to.0)
        } else {
            track.rtcp.try_send_to(packet, track.to.1)
        };
        sent.is_ok()
    }
}

impl State {
    fn wants(&mut self, buffer: &Buffer) -> bool {
        let of_interest = buffer.tracks & self.tracks;
        if buffer.key {
            self.await_key &= !of_interest;
        }
        of_interest & !self.await_key != 0
    }
}

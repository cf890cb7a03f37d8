//! SETUP and PLAY: the way that each media comes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use super::exchange::Sent;
use super::handshake::status_error;
use super::session::{After, Session, Step};
use super::timers::Playing;
use super::{Error, Output, Reconnect, Starts, control};
use crate::wire::{BACKCHANNEL, Lower, Response, Transport};

/// RTP datagram that opens a NAT's port (C65).
const PUNCH_RTP: [u8; 12] = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// RTCP datagram that does: an empty receiver report.
const PUNCH_RTCP: [u8; 8] = [0x80, 0xc9, 0, 1, 0, 0, 0, 0];

/// How the medias of a session are carried.
#[derive(Debug, Default)]
pub(super) struct Ways {
    by_media: BTreeMap<usize, Way>,
    /// Medias that the camera refused, with its answer.
    refused: BTreeMap<usize, Error>,
    /// The media whose SETUP or ports are awaited, with the number of its transport.
    current: Option<(usize, u8)>,
    play_retried: bool,
}

/// How one media is carried.
#[derive(Debug, Clone, Copy)]
enum Way {
    Tcp {
        rtp: u8,
        rtcp: u8,
    },
    /// The camera's ports as its answer named them and as packets came from them.
    Udp {
        named: Option<(u16, u16)>,
        rtp: Option<u16>,
        rtcp: Option<u16>,
    },
    /// The group's ports.
    Multicast {
        ports: (u16, u16),
    },
}

impl Ways {
    pub(super) fn media_of_channel(&self, channel: u8) -> Option<usize> {
        let is_it = |way: &Way| matches!(way, Way::Tcp { rtp, rtcp } if *rtp == channel || *rtcp == channel);
        self.by_media.iter().find(|(_, way)| is_it(way)).map(|(index, _)| *index)
    }

    /// Whether a media is set up.
    pub(super) fn has(&self, index: usize) -> bool {
        self.by_media.contains_key(&index)
    }

    pub(super) fn rtp_channel(&self, index: usize) -> Option<u8> {
        match self.by_media.get(&index)? {
            Way::Tcp { rtp, .. } => Some(*rtp),
            Way::Udp { .. } | Way::Multicast { .. } => None,
        }
    }

    pub(super) fn rtcp_channel(&self, index: usize) -> Option<u8> {
        match self.by_media.get(&index)? {
            Way::Tcp { rtcp, .. } => Some(*rtcp),
            Way::Udp { .. } | Way::Multicast { .. } => None,
        }
    }

    /// The camera's port for RTP or RTCP, as seen, else as named.
    pub(super) fn peer_port(&self, index: usize, is_rtcp: bool) -> Option<u16> {
        match self.by_media.get(&index)? {
            Way::Tcp { .. } => None,
            Way::Multicast { ports: (rtp, rtcp) } => Some(if is_rtcp { *rtcp } else { *rtp }),
            Way::Udp { named, rtp, rtcp } => {
                let seen = if is_rtcp { *rtcp } else { *rtp };
                seen.or(named.map(|(rtp, rtcp)| if is_rtcp { rtcp } else { rtp }))
            }
        }
    }

    /// Whether a datagram is taken: RTP with a payload type of the media fixes its sender's port, whatever port the answer
    /// named (C66).
    pub(super) fn accept(
        &mut self,
        index: usize,
        to_rtcp: bool,
        from_port: u16,
        is_rtcp: bool,
        data: &Bytes,
        payload_types: &[u8],
    ) -> bool {
        let payload_type = data.get(1).map(|b| b & 0x7f);
        let is_ours = is_rtcp || payload_type.is_some_and(|pt| payload_types.contains(&pt));
        let peer = match self.by_media.get_mut(&index) {
            Some(Way::Udp { rtp, rtcp, .. }) => {
                if to_rtcp {
                    rtcp
                } else {
                    rtp
                }
            }
            Some(Way::Multicast { .. }) => return is_ours,
            Some(Way::Tcp { .. }) | None => return false,
        };
        if let Some(peer) = peer {
            return *peer == from_port;
        }
        // RTCP on the RTP port must not fix that port's peer
        if is_ours && is_rtcp == to_rtcp {
            *peer = Some(from_port);
        }
        is_ours
    }

    pub(super) fn medias(&self) -> impl Iterator<Item = usize> {
        self.by_media.keys().copied()
    }
}

impl Session {
    /// Sets up the next wanted media; when all are, plays.
    pub(super) fn set_up_next(&mut self) {
        if self.wanted.is_empty() && !(self.is_talking && self.backchannel().is_some()) {
            self.step = Step::Idle { since: self.now };
            return;
        }
        self.step = Step::Handshake;
        let medias = self.described.as_ref().map_or(0, |d| d.session.medias.len());
        let done = |ways: &Ways, i: usize| ways.by_media.contains_key(&i) || ways.refused.contains_key(&i);
        self.wanted.retain(|index| *index < medias);
        let next = self.wanted.iter().copied().find(|i| !done(&self.ways, *i));
        // Behind the others (C110), and alone only while somebody speaks.
        let alone = self.is_talking || !self.ways.by_media.is_empty();
        let talks = || self.backchannel().filter(|i| alone && !done(&self.ways, *i));
        let next = next.or_else(talks);
        match next {
            Some(index) => {
                let number = (self.ways.by_media.len() + self.ways.refused.len()) as u8;
                self.ways.current = Some((index, number.min(127)));
                match self.lower {
                    Lower::Udp => self.out.push_back(Output::BindUdp { index }),
                    Lower::Multicast => self.set_up(index, &Transport::multicast()),
                    Lower::Tcp => self.set_up(index, &Transport::tcp(number.min(127) * 2)),
                }
            }
            None if self.ways.by_media.is_empty() => {
                let error = self.ways.refused.pop_first().map_or(Error::NoMedia, |(_, error)| error);
                self.leave(After::Close(Err(error)));
            }
            None => self.play(),
        }
    }

    pub(super) fn udp_bound(&mut self, index: usize, port: u16) {
        if self.lower == Lower::Udp && self.ways.current.is_some_and(|(current, _)| current == index) {
            self.set_up(index, &Transport::udp(port));
        }
    }

    fn set_up(&mut self, index: usize, transport: &Transport) {
        let Some(described) = &self.described else { return };
        let media = described.session.medias.get(index);
        let url = control::join(&described.base, media.and_then(|m| m.control.as_deref()));
        let mut headers = vec![("Transport", transport.to_string())];
        if self.backchannel() == Some(index) {
            headers.push(("Require", BACKCHANNEL.to_owned()));
        }
        self.ask("SETUP", &url, headers);
    }

    /// The media that takes sound to the camera, when it is to be set up.
    pub(super) fn backchannel(&self) -> Option<usize> {
        let speaks = self.asks_backchannel && self.speaks;
        let medias = &self.described.as_ref().filter(|_| speaks)?.session.medias;
        let chosen =
            self.talk_media.filter(|index| medias.get(*index).is_some_and(|media| media.is_backchannel));
        chosen.or_else(|| medias.iter().position(|media| media.is_backchannel))
    }

    pub(super) fn setup_answered(&mut self, sent: &Sent, response: &Response) {
        let Some((index, number)) = self.ways.current.take() else { return };
        if response.status != 200 {
            if response.status == 461 && self.lower != Lower::Tcp {
                return self.fall_back_to_tcp();
            }
            if self.backchannel() == Some(index) {
                // Somebody else may have it; some cameras then refuse all (C22).
                return self.without_backchannel();
            }
            self.ways.refused.insert(index, status_error(sent.method, response));
            return self.set_up_next();
        }
        let header = response.headers.get("Transport").unwrap_or_default();
        let answer = Transport::parse_all(header).into_iter().next().unwrap_or_default();
        let way = match self.lower {
            Lower::Udp if answer.lower() != Lower::Udp => return self.fall_back_to_tcp(),
            Lower::Multicast => match self.group(index, &answer) {
                Some((group, ports)) => {
                    self.out.push_back(Output::JoinMulticast { index, group, ports });
                    Way::Multicast { ports }
                }
                None => return self.fall_back_to_tcp(),
            },
            Lower::Udp => {
                // 0-1 and the like are no ports (OpenIPC, C61)
                let named = answer.server_port.filter(|(rtp, rtcp)| *rtp > 1 && *rtcp > 1);
                Way::Udp { named, rtp: None, rtcp: None }
            }
            Lower::Tcp => {
                let asked = number * 2;
                let free = |(rtp, _): &(u8, u8)| self.ways.media_of_channel(*rtp).is_none();
                let rtp = answer.interleaved.filter(free).map_or(asked, |(rtp, _)| rtp);
                Way::Tcp { rtp, rtcp: rtp.saturating_add(1) }
            }
        };
        self.ways.by_media.insert(index, way);
        self.set_up_next();
    }

    /// The group of an answer, else of the description (C68). What is no group is not joined.
    fn group(&self, index: usize, answer: &Transport) -> Option<(IpAddr, (u16, u16))> {
        let media = self.described.as_ref()?.session.medias.get(index)?;
        let told = answer.destination.as_deref().and_then(|address| address.parse().ok());
        let group = told.or(media.connection.map(|connection| connection.address));
        let described = (media.port > 0).then_some((media.port, media.port.saturating_add(1)));
        let ports = answer.port.filter(|(rtp, rtcp)| *rtp > 0 && *rtcp > 0).or(described);
        group.filter(IpAddr::is_multicast).zip(ports)
    }

    fn fall_back_to_tcp(&mut self) {
        self.lower = Lower::Tcp;
        self.leave(After::Reconnect(Reconnect::UdpFails));
    }

    /// UDP brought nothing (C60).
    pub(super) fn udp_silent(&mut self) {
        self.fall_back_to_tcp();
    }

    fn play(&mut self) {
        self.punch();
        let url = self.described.as_ref().map_or(&self.request_url, |d| &d.control).clone();
        let mut headers = vec![("Range", "npt=0.000-".to_owned())];
        let told = self.described.as_ref().is_some_and(|d| d.session.medias.iter().any(|m| m.is_backchannel));
        if self.asks_backchannel && told {
            // GStreamer's ONVIF server takes a range for a wish to seek, and answers 503 from then on
            headers.clear();
        }
        self.ask("PLAY", &url, headers);
    }

    /// Opens the ports of a NAT before PLAY and while playing (C65).
    pub(super) fn punch(&mut self) {
        if self.lower != Lower::Udp {
            return;
        }
        for index in self.ways.medias().collect::<Vec<_>>() {
            for (from_rtcp, data) in [(false, &PUNCH_RTP[..]), (true, &PUNCH_RTCP[..])] {
                if let Some(port) = self.ways.peer_port(index, from_rtcp) {
                    let data = Bytes::copy_from_slice(data);
                    self.out.push_back(Output::SendUdp { index, from_rtcp, port, data });
                }
            }
        }
    }

    pub(super) fn play_answered(&mut self, sent: &Sent, response: &Response) {
        match response.status {
            200 => {
                self.step = Step::Playing;
                let interval = keepalive_interval(self.exchange.session_timeout);
                let talks = self.backchannel();
                let medias = self.ways.medias().filter(|index| Some(*index) != talks);
                self.playing = Some(Playing::new(self.now, interval, self.lower, medias));
                self.out.push_back(Output::Playing);
                let starts = Starts::parse(response.headers.get("RTP-Info").unwrap_or_default());
                if !starts.is_empty() {
                    self.out.push_back(Output::Starts(starts));
                }
                let is_new =
                    |i: &usize| !self.ways.by_media.contains_key(i) && !self.ways.refused.contains_key(i);
                if self.wanted.iter().any(is_new) || talks.as_ref().is_some_and(is_new) {
                    self.leave(After::Reconnect(Reconnect::Wanted));
                }
            }
            // Some want the request's URL, some no Range (C80)
            404 | 457 if !self.ways.play_retried => {
                self.ways.play_retried = true;
                let url = if response.status == 404 { self.request_url.clone() } else { sent.url.clone() };
                self.ask("PLAY", &url, Vec::new());
            }
            _ => self.leave(After::Close(Err(status_error("PLAY", response)))),
        }
    }
}

/// Time between keepalives (C101).
fn keepalive_interval(timeout: Duration) -> Duration {
    let early = timeout.saturating_sub(Duration::from_secs(5));
    early.min(timeout / 2).clamp(Duration::from_secs(2), Duration::from_secs(30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c101_intervals() {
        for (timeout, interval) in [(5, 2), (6, 2), (10, 5), (20, 10), (60, 30), (600, 30)] {
            let got = keepalive_interval(Duration::from_secs(timeout));
            assert_eq!(got, Duration::from_secs(interval), "{timeout}");
        }
    }
}

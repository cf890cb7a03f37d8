//! SETUP (S2, S8, S10, S40, S60).

use super::{Event, Offer, Output, Path, Pending, Place, Session, State, Wait};
use crate::server::url;
use crate::wire::{Lower, Request, Response, Transport};

impl Session {
    pub(super) fn setup(&mut self, cseq: Option<String>, request: &Request) {
        let record = match self.state {
            State::Described => false,
            State::Announced => true,
            _ => return self.reply(cseq, Response::new(455)),
        };
        let track = match url::track(&request.url) {
            Some(track) if record => self.media_of(&request.url).unwrap_or(track),
            Some(track) => track,
            None if record => match self.media_of(&request.url).or_else(|| self.next_track()) {
                Some(track) => track,
                None => return self.reply(cseq, Response::new(404)),
            },
            None => match self.next_track() {
                Some(track) => track,
                None => return self.reply(cseq, Response::new(404)),
            },
        };
        if track >= self.paths.len() {
            return self.reply(cseq, Response::new(404));
        }
        let is_talk = !record && self.talk_track() == Some(track);
        let header = request.headers.get("Transport").unwrap_or_default();
        let mut choices = Transport::parse_all(header).into_iter();
        let is_taken = |choice: &Transport| {
            is_supported(choice) && (!choice.multicast || (self.config.has_multicast && !record && !is_talk))
        };
        let Some(choice) = choices.find(is_taken) else {
            return self.reply(cseq, Response::new(461));
        };
        if self.paths.iter().flatten().any(|path| lower_of(path) != choice.lower()) {
            // One connection sends one way: a mixture would lose the order between its medias.
            return self.reply(cseq, Response::new(461));
        }
        if is_talk && !self.hears {
            self.pending = Some(Pending { cseq, wait: Wait::Talk(Box::new(request.clone())) });
            return self.outputs.push_back(Output::Event(Event::Talk));
        }
        match (choice.lower(), choice.client_port) {
            (Lower::Tcp, _) => {
                let channels = self.channels(track, record, choice.interleaved);
                let mut transport = Transport::tcp(channels.0);
                transport.interleaved = Some(channels);
                self.finish_setup(cseq, track, Path::Tcp(channels.0, channels.1), transport, record);
            }
            (Lower::Udp, Some(client)) => {
                let wait = Wait::Setup { track, client, record, profile: choice.profile };
                self.pending = Some(Pending { cseq, wait });
                self.outputs.push_back(Output::Event(Event::Udp { track, client }));
            }
            (Lower::Multicast, _) => {
                self.pending =
                    Some(Pending { cseq, wait: Wait::Multicast { track, profile: choice.profile } });
                self.outputs.push_back(Output::Event(Event::Multicast { track }));
            }
            (Lower::Udp, None) => self.reply(cseq, Response::new(461)),
        }
    }

    /// Answer to [`Event::Multicast`]: where the media is sent to.
    pub fn multicast(&mut self, place: Place) {
        let Some(pending) = self.pending.take() else { return };
        match pending.wait {
            Wait::Multicast { track, profile } => {
                let transport = Transport {
                    profile,
                    multicast: true,
                    destination: Some(place.group.to_string()),
                    source: Some(place.source.to_string()),
                    port: Some(place.ports),
                    ttl: Some(place.ttl),
                    ..Transport::default()
                };
                self.finish_setup(pending.cseq, track, Path::Multicast(place), transport, false);
                self.proceed();
            }
            wait => self.pending = Some(Pending { wait, ..pending }),
        }
    }

    /// Answer to [`Event::Udp`]: the server's ports.
    pub fn udp(&mut self, server: (u16, u16)) {
        let Some(pending) = self.pending.take() else { return };
        match pending.wait {
            Wait::Setup { track, client, record, profile } => {
                let transport = Transport {
                    profile,
                    client_port: Some(client),
                    server_port: Some(server),
                    ..Transport::default()
                };
                self.finish_setup(pending.cseq, track, Path::Udp { client, server }, transport, record);
                self.proceed();
            }
            wait => self.pending = Some(Pending { wait, ..pending }),
        }
    }

    fn finish_setup(
        &mut self,
        cseq: Option<String>,
        track: usize,
        path: Path,
        mut transport: Transport,
        record: bool,
    ) {
        if let Some(slot) = self.paths.get_mut(track) {
            *slot = Some(path);
        }
        if record {
            transport.mode = Some("record".to_owned());
        } else {
            transport.ssrc = self.offers.get(track).map(|offer| offer.ssrc);
        }
        self.reply(cseq, Response::new(200).header("Transport", transport.to_string()));
    }

    /// Channels of a media: a publisher's wish is honoured when it is free (S60); a player gets those of the packetizing
    /// run, and its reply says so (S10).
    fn channels(&self, track: usize, record: bool, wish: Option<(u8, u8)>) -> (u8, u8) {
        let own = match self.offers.get(track).filter(|_| !record) {
            Some(offer) => offer.channel,
            None => u8::try_from(track * 2).unwrap_or(u8::MAX - 1),
        };
        let own = (own, own.saturating_add(1));
        let is_talk = !record && self.talk_track() == Some(track);
        let is_free = |channel: u8| {
            let offered =
                |offer: &Offer| offer.channel == channel || offer.channel.saturating_add(1) == channel;
            self.of_channel(channel).is_none_or(|(other, _)| other == track)
                && !(is_talk && self.offers.iter().any(offered))
        };
        match wish.filter(|(rtp, rtcp)| (record || is_talk) && rtp != rtcp && is_free(*rtp) && is_free(*rtcp))
        {
            Some(wish) => wish,
            None if !(record || is_talk) || (is_free(own.0) && is_free(own.1)) => own,
            None => (0..u8::MAX)
                .step_by(2)
                .map(|rtp| (rtp, rtp + 1))
                .find(|(rtp, rtcp)| is_free(*rtp) && is_free(*rtcp))
                .unwrap_or(own),
        }
    }

    fn next_track(&self) -> Option<usize> {
        self.paths.iter().position(Option::is_none)
    }
}

fn lower_of(path: &Path) -> Lower {
    match path {
        Path::Tcp(..) => Lower::Tcp,
        Path::Udp { .. } => Lower::Udp,
        Path::Multicast(_) => Lower::Multicast,
    }
}

/// RTP over the connection, over unicast UDP or by multicast; the first choice that is one of these is taken (S10).
fn is_supported(choice: &Transport) -> bool {
    let profile = choice.profile.to_ascii_uppercase();
    profile.starts_with("RTP/AVP")
        && !profile.starts_with("RTP/AVPF")
        && (choice.lower() != Lower::Udp || choice.client_port.is_some())
}

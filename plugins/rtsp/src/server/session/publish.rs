//! ANNOUNCE and RECORD (S60 to S65).

use patchbay_rtp::sdp;

use super::{Event, Output, Pending, Session, State, Wait, user_agent};
use crate::wire::{Request, Response};

impl Session {
    pub(super) fn announce(&mut self, cseq: Option<String>, request: &Request) {
        if !matches!(self.state, State::Init | State::Described | State::TornDown) {
            return self.reply(cseq, Response::new(455));
        }
        let description = sdp::parse(&request.body);
        if description.medias.is_empty() || description.is_srtp {
            return self.reply(cseq, Response::new(400));
        }
        self.set_target(&request.url);
        self.outputs.push_back(Output::Event(Event::Announce {
            stream: self.target.stream(),
            query: self.target.query.clone(),
            sdp: request.body.clone(),
            user_agent: user_agent(request),
        }));
        self.pending = Some(Pending { cseq, wait: Wait::Announce(description) });
    }

    pub(super) fn record(&mut self, cseq: Option<String>) {
        match self.state {
            State::Announced if self.paths.iter().any(Option::is_some) => {
                self.state = State::Recording;
                self.alive_at = self.now;
                self.outputs.push_back(Output::Event(Event::Record { tracks: self.paths() }));
                self.reply(cseq, Response::new(200));
            }
            State::Recording => self.reply(cseq, Response::new(200)),
            _ => self.reply(cseq, Response::new(455)),
        }
    }

    /// The announced media whose `a=control` this SETUP names. Controls that are absent or not unique count for nothing:
    /// then the order of the medias decides (S65).
    pub(super) fn media_of(&self, url: &str) -> Option<usize> {
        let path = url.split_once('?').map_or(url, |(path, _)| path);
        let named = |control: &str| {
            let control = control.trim_matches('/');
            !control.is_empty()
                && control != "*"
                && [url, path].iter().any(|u| {
                    u.trim_end_matches('/')
                        .strip_suffix(control)
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('/') || rest.ends_with('='))
                })
        };
        let mut found = self
            .medias
            .iter()
            .enumerate()
            .filter(|(_, media)| media.control.as_deref().is_some_and(named))
            .map(|(track, _)| track);
        match (found.next(), found.next()) {
            (Some(track), None) => Some(track),
            (Some(_), Some(_)) => self.next_track_for_publish(),
            (None, _) => None,
        }
    }

    fn next_track_for_publish(&self) -> Option<usize> {
        self.paths.iter().position(Option::is_none)
    }
}

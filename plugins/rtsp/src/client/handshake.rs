//! OPTIONS, DESCRIBE and redirects.

use patchbay_rtp::sdp;

use super::exchange::Exchange;
use super::session::{After, DEFAULT_PORT, Session};
use super::{Described, Error, Output, Reconnect, Target, Verify, control};
use crate::wire::{BACKCHANNEL, Response};

/// Most redirects in a row (C9).
const MAX_REDIRECTS: u32 = 5;
/// Longest piece of an error's body that is told, in characters.
const MAX_ERROR_TEXT: usize = 200;

/// What is remembered of DESCRIBE.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) session: sdp::Session,
    pub(super) base: String,
    pub(super) control: String,
}

impl Session {
    pub(super) fn options_answered(&mut self, response: &Response) {
        // Whatever it says is not fatal; Public selects the keepalive (C20)
        if response.status == 200 {
            let methods = response.headers.all("Public").flat_map(|line| line.split(','));
            self.public = methods.map(|m| m.trim().to_ascii_uppercase()).collect();
        }
        let url = self.request_url.clone();
        let mut headers = vec![("Accept", "application/sdp".to_owned())];
        if self.asks_backchannel {
            headers.push(("Require", BACKCHANNEL.to_owned()));
        }
        self.ask("DESCRIBE", &url, headers);
    }

    pub(super) fn describe_answered(&mut self, response: &Response) {
        if response.status != 200 && self.asks_backchannel {
            return self.without_backchannel();
        }
        if response.status != 200 {
            return self.leave(After::Close(Err(status_error("DESCRIBE", response))));
        }
        let session = sdp::parse(&response.body);
        if session.medias.is_empty() {
            return self.leave(After::Close(Err(Error::NoMedia)));
        }
        if session.is_srtp && session.medias.iter().all(sdp::Media::is_srtp) {
            return self.leave(After::Close(Err(Error::Srtp)));
        }
        let base = control::base(
            response.headers.get("Content-Base"),
            response.headers.get("Content-Location"),
            &self.request_url,
        );
        let control = control::join(&base, session.control.as_deref());
        let before = self.described.replace(Description { session: session.clone(), base, control });
        match before {
            None => self.out.push_back(Output::Described(Box::new(Described {
                session,
                text: response.body.clone(),
                server: response.headers.get("Server").unwrap_or_default().to_owned(),
            }))),
            Some(before) if !same_medias(&before.session, &session) => {
                return self.leave(After::Close(Err(Error::MediasChanged)));
            }
            Some(_) => {}
        }
        self.redirects = 0;
        self.set_up_next();
    }

    pub(super) fn redirect(&mut self, response: &Response) {
        self.redirects += 1;
        let location = response.headers.get("Location").unwrap_or_default();
        let url = patchbay_net::SourceUrl::parse(location)
            .ok()
            .filter(|url| self.redirects <= MAX_REDIRECTS && matches!(url.scheme(), "rtsp" | "rtsps"));
        let Some(url) = url else { return self.leave(After::Close(Err(Error::Redirect))) };
        let tls = match (url.scheme(), self.target.tls) {
            ("rtsp", Some(_)) => return self.leave(After::Close(Err(Error::RedirectDowngrade))),
            ("rtsp", None) => None,
            (_, Some(verify)) => Some(verify),
            (_, None) => Some(Verify::of(&url)),
        };
        self.request_url = url.request_url(url.scheme());
        self.target = Target { tls, host: url.host().to_owned(), port: url.port().unwrap_or(DEFAULT_PORT) };
        if let Some(credentials) = url.credentials() {
            let seed = self.config.seed;
            self.exchange = Exchange::new(Some(credentials.clone()), self.config.user_agent.clone(), seed);
        }
        self.leave(After::Reconnect(Reconnect::Redirected));
    }
}

/// The error of an answer, with its text for people (C28).
pub(super) fn status_error(method: &'static str, response: &Response) -> Error {
    let text = String::from_utf8_lossy(&response.body);
    let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_ERROR_TEXT).collect();
    Error::Status {
        method,
        status: response.status,
        reason: response.reason.chars().filter(|c| !c.is_control()).take(MAX_ERROR_TEXT).collect(),
        text: text.trim().to_owned(),
    }
}

/// Whether two descriptions mean the same medias by the same numbers. A camera that is no longer asked for its backchannel,
/// which is behind the others, does not tell of it.
fn same_medias(a: &sdp::Session, b: &sdp::Session) -> bool {
    let key = |m: &sdp::Media| (m.kind_name.clone(), m.encoding.clone(), m.clock_rate, m.channels);
    let is_back = |m: &&sdp::Media| !m.is_backchannel;
    let heard = |session: &sdp::Session| session.medias.iter().take_while(is_back).count();
    let all = |session: &sdp::Session| session.medias.iter().filter(is_back).count();
    a.medias.iter().map(key).eq(b.medias.iter().map(key))
        || (heard(a) == all(a)
            && heard(b) == all(b)
            && a.medias.iter().take(heard(a)).map(key).eq(b.medias.iter().take(heard(b)).map(key)))
}

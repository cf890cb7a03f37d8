//! Entry points of the fuzz targets: they panic when something that must hold does not.

use std::time::Duration;

use patchbay_media::{Codec, Parameters};

use super::session::{Config, Event, Offer, Output, Place, Session};
use crate::wire::{Item, Parser};

/// Any bytes of a connection: each request has exactly one answer, and every wake-up lies ahead.
pub fn session(data: &[u8]) {
    let config = Config {
        id: "0123456789abcdef".to_owned(),
        login: None,
        has_multicast: true,
        origin: "rtsp://h".to_owned(),
    };
    let mut now = Duration::ZERO;
    let mut session = Session::new(config, now);
    let mut parser = Parser::new();
    let (choice, bytes) = data.split_first().unwrap_or((&0, &[]));
    parser.push(bytes);
    let (mut asked, mut answered, mut is_closed) = (0_usize, 0_usize, false);
    while let Ok(Some(item)) = parser.next_item() {
        let Item::Request(request) = item else { continue };
        asked += 1;
        session.request(now, request);
        while let Some(output) = session.poll() {
            match output {
                Output::Send(_) => answered += 1,
                Output::Close(_) => is_closed = true,
                Output::Event(event) => match event {
                    Event::Describe { .. }
                    | Event::Talk
                    | Event::Announce { .. }
                    | Event::Udp { .. }
                    | Event::Multicast { .. }
                        if choice & 1 == 1 =>
                    {
                        session.refuse(404, None);
                    }
                    Event::Describe { .. } => {
                        let talk = (choice & 2 == 2).then(|| Offer {
                            parameters: Parameters::audio(Codec::PcmMulaw, 8000, 1),
                            payload_type: 0,
                            channel: 0,
                            ssrc: 0,
                        });
                        session.described(
                            vec![Offer {
                                parameters: Parameters::video(Codec::H264, 90_000),
                                payload_type: 96,
                                channel: 0,
                                ssrc: 1,
                            }],
                            talk,
                        );
                    }
                    Event::Talk => session.hears(),
                    Event::Announce { .. } => session.announced(),
                    Event::Udp { .. } => session.udp((2, 3)),
                    Event::Multicast { .. } => session.multicast(Place {
                        group: [239, 1, 1, 1].into(),
                        ports: (2, 3),
                        ttl: 1,
                        source: [127, 0, 0, 1].into(),
                    }),
                    Event::Play { .. } => answered += usize::from(!session.played(&[]).is_empty()),
                    Event::Pause | Event::Record { .. } | Event::Teardown => {}
                },
            }
        }
        assert!(is_closed || answered == asked, "{answered} answers to {asked} requests");
        assert!(session.wake_at().is_none_or(|at| at >= now), "a wake-up in the past");
        now += Duration::from_secs(u64::from(choice >> 1));
        session.timeout(now);
        while let Some(output) = session.poll() {
            is_closed |= matches!(output, Output::Close(_));
        }
        if is_closed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_conversation_holds(
            choice: u8,
            requests in prop::collection::vec(
                ("(OPTIONS|DESCRIBE|ANNOUNCE|SETUP|PLAY|PAUSE|RECORD|TEARDOWN|FOO)", "[ -~]{0,30}", "[ -~]{0,40}"),
                0..20,
            ),
        ) {
            let mut data = vec![choice];
            for (method, url, transport) in requests {
                let url: String = url.split_whitespace().collect();
                let text = format!("{method} rtsp://h/{url} RTSP/1.0\r\nCSeq: 1\r\nTransport: {transport}\r\n\r\n");
                data.extend_from_slice(text.as_bytes());
            }
            super::session(&data);
        }

        #[test]
        fn any_bytes_hold(data: Vec<u8>) {
            super::session(&data);
        }
    }
}

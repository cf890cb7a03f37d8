//! Entry points of the fuzz targets.

use std::time::Duration;

use bytes::BytesMut;
use patchbay_net::SourceUrl;

use crate::client::{Config, Input, Output, Session, Timeouts};
use crate::tunnel::body::Decoder;
use crate::tunnel::http::RequestHead;
use crate::wire::{Lower, Parser, SessionHeader, Transport};

/// The session's login. A camera that says it itself gets it back.
const LOGIN: &str = "viewer:f0rest";

/// Steps after which a session that does not come to rest is a fault.
const MAX_STEPS: usize = 1 << 20;

/// Parses a connection's bytes whole and cut in two (at the first byte's value): the items must be equal.
pub fn message(data: &[u8]) {
    let Some((cut, data)) = data.split_first() else { return };
    let drain = |parser: &mut Parser, items: &mut Vec<_>| {
        while let Ok(Some(item)) = parser.next_item() {
            items.push(item);
        }
    };
    let (mut whole, mut whole_items) = (Parser::new(), Vec::new());
    whole.push(data);
    drain(&mut whole, &mut whole_items);
    let (mut parser, mut items) = (Parser::new(), Vec::new());
    let (a, b) = data.split_at(usize::from(*cut).min(data.len()));
    for piece in [a, b] {
        parser.push(piece);
        drain(&mut parser, &mut items);
    }
    assert_eq!(items, whole_items);
    let text = String::from_utf8_lossy(data);
    let _ = (SessionHeader::parse(&text), Transport::parse_all(&text));
}

/// A client session against a camera that answers with `data`: the first byte chooses UDP, multicast or TCP and the medias wanted,
/// the rest is cut at each 0xFE, where half a second passes as well. Answers get the number that is awaited.
pub fn client_session(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let Ok(url) = SourceUrl::parse(&format!("rtsp://{LOGIN}@192.0.2.1/cam?x=1")) else { return };
    let lower = match choice & 9 {
        1 => Lower::Udp,
        9 => Lower::Multicast,
        _ => Lower::Tcp,
    };
    let mut session = Session::new(Config {
        url,
        lower,
        backchannel: choice & 16 != 0,
        speaks: choice & 32 != 0,
        timeouts: Timeouts::default(),
        user_agent: "fuzz".to_owned(),
        seed: 1,
    });
    let wanted: Vec<usize> = (0..usize::from(choice >> 1 & 3)).collect();
    let mut now = Duration::ZERO;
    let mut steps = 0;
    let mut cseq = 0u32;
    let said: Vec<u8> = data.iter().copied().filter(|b| *b != 0xfe).collect();
    let echoed = said.windows(LOGIN.len()).any(|window| window == LOGIN.as_bytes());
    for piece in data.split(|b| *b == 0xfe) {
        if !rest(&mut session, now, &wanted, &mut steps, &mut cseq, &echoed) {
            return;
        }
        // `#` stands for the number awaited, which a fuzzer cannot guess
        let number = cseq.to_string();
        let bytes: Vec<u8> = piece
            .iter()
            .flat_map(|b| if *b == b'#' { number.as_bytes().to_vec() } else { vec![*b] })
            .collect();
        session.handle(now, Input::Received(&bytes));
        now += Duration::from_millis(500);
        session.handle(now, Input::Timeout);
    }
    session.handle(now, Input::Stop);
    if rest(&mut session, now, &wanted, &mut steps, &mut cseq, &echoed) {
        session.handle(now + Duration::from_secs(1), Input::Timeout);
        let ended = !rest(&mut session, now, &wanted, &mut steps, &mut cseq, &echoed);
        assert!(ended, "a stopped session ends within a second");
    }
}

/// The head of an HTTP request and the base64 behind it, whole and cut in two (at the first byte's value).
pub fn tunnel(data: &[u8]) {
    let Some((cut, data)) = data.split_first() else { return };
    let (a, b) = data.split_at(usize::from(*cut).min(data.len()));
    let head = RequestHead::take(&mut BytesMut::from(data));
    let mut buffer = BytesMut::from(a);
    if RequestHead::take(&mut buffer) == Ok(None) {
        buffer.extend_from_slice(b);
        assert_eq!(RequestHead::take(&mut buffer), head);
    }
    let (mut whole, mut pieces) = (BytesMut::new(), BytesMut::new());
    let expected = Decoder::default().push(data, &mut whole);
    let mut decoder = Decoder::default();
    let found = decoder.push(a, &mut pieces).and_then(|()| decoder.push(b, &mut pieces));
    assert_eq!((expected, whole), (found, pieces));
}

/// Drains the outputs; `false` when the session has ended.
fn rest(
    session: &mut Session,
    now: Duration,
    wanted: &[usize],
    steps: &mut usize,
    cseq: &mut u32,
    echoed: &bool,
) -> bool {
    loop {
        *steps += 1;
        assert!(*steps < MAX_STEPS, "the session does not come to rest");
        match session.poll() {
            Output::WakeAt(at) => {
                assert!(at > now);
                return true;
            }
            Output::Closed(_) => return false,
            Output::Connect { .. } => session.handle(now, Input::Connected),
            Output::Described(_) => session.handle(now, Input::Wanted(wanted)),
            Output::BindUdp { index } => session.handle(now, Input::UdpBound { index, port: 20_000 }),
            Output::Send(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                let number = text.split("CSeq: ").nth(1).and_then(|rest| rest.split('\r').next());
                *cseq = number.and_then(|n| n.parse().ok()).unwrap_or(*cseq);
                assert!(!text.contains(LOGIN) || *echoed, "the login is never sent in a URL");
            }
            Output::ReportsDue => {
                session.handle(now, Input::SendRtcp { index: 0, data: bytes::Bytes::from_static(b"abcd") });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arb_piece() -> impl Strategy<Value = Vec<u8>> {
        let text = |t: &'static str| Just(t.as_bytes().to_vec());
        prop_oneof![
            text("RTSP/1.0 200 OK\r\nCSeq: #\r\n\r\n"),
            text("RTSP/1.0 200 OK\r\nCSeq: #\r\nPublic: GET_PARAMETER\r\n\r\n"),
            text("RTSP/1.0 401 No\r\nCSeq: #\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n\r\n"),
            text("RTSP/1.0 302 No\r\nCSeq: #\r\nLocation: rtsp://192.0.2.2/y\r\n\r\n"),
            text("RTSP/1.0 454 No\r\nCSeq: #\r\n\r\n"),
            text("RTSP/1.0 461 No\r\nCSeq: #\r\n\r\n"),
            text(
                "RTSP/1.0 200 OK\r\nCSeq: #\r\n\r\nv=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\nm=audio 0 RTP/AVP 8\r\n"
            ),
            text(
                "RTSP/1.0 200 OK\r\nCSeq: #\r\nSession: 1;timeout=10\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n\r\n"
            ),
            text(
                "RTSP/1.0 200 OK\r\nCSeq: #\r\nSession: 2\r\nTransport: RTP/AVP;server_port=6000-6001\r\n\r\n"
            ),
            text(
                "RTSP/1.0 200 OK\r\nCSeq: #\r\nSession: 2\r\nTransport: RTP/AVP;multicast;destination=239.1.1.1;port=6000-6001\r\n\r\n"
            ),
            text("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
            text("TEARDOWN * RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
            text("$\x00\x00\x0c\x00`aaaaaaaaaa"),
            Just(vec![0xfe]),
            Just(vec![0xfe; 25]),
            proptest::collection::vec(any::<u8>(), 0..30),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn a_session_survives_any_camera(choice: u8, pieces in proptest::collection::vec(arb_piece(), 0..30)) {
            let separated: Vec<Vec<u8>> = pieces.into_iter().flat_map(|p| [p, vec![0xfe]]).collect();
            client_session(&[vec![choice], separated.concat()].concat());
        }

        #[test]
        fn any_tunnel_any_cut(cut: u8, text in "(GET /a HTTP/1.0\r\n)?[ -~\r\n]{0,100}") {
            tunnel(&[&[cut], text.as_bytes()].concat());
        }

        #[test]
        fn any_message_any_cut(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            message(&data);
        }
    }
}

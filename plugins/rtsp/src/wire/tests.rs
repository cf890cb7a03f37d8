use super::*;
use proptest::prelude::*;
use std::time::Duration;

fn items(bytes: &[u8]) -> Vec<Item> {
    let mut parser = Parser::new();
    parser.push(bytes);
    drain(&mut parser)
}

fn drain(parser: &mut Parser) -> Vec<Item> {
    let mut items = Vec::new();
    while let Ok(Some(item)) = parser.next_item() {
        items.push(item);
    }
    items
}

fn response(item: &Item) -> &Response {
    let Item::Response(response) = item else { panic!("no response: {item:?}") };
    response
}

#[test]
fn c6_odd_heads_parse() {
    for head in [
        "RTSP/1.0 200 OK\r\nCSeq: 3\r\n\r\n",
        "RTSP/1.0 200 OK\nCseq:3\n\n",
        "RTSP/1.0 200\r\ncseq : 3  \r\n\r\n",
        "\r\n\r\nRTSP/1.1  200   OK\r\nX: a\r\n b\r\nCSEQ:\t3\r\n\r\n",
        "RTSP/1.0 200 OK\r\nno colon\r\nCSeq: 3\r\n\r\n",
    ] {
        let items = items(head.as_bytes());
        assert_eq!(items.len(), 1, "{head:?}");
        assert_eq!(response(&items[0]).status, 200, "{head:?}");
        assert_eq!(response(&items[0]).headers.cseq(), Some(3), "{head:?}");
    }
}

#[test]
fn c6_folded_header_joins() {
    let items = items(b"RTSP/1.0 200 OK\r\nPublic: OPTIONS,\r\n\tDESCRIBE\r\n\r\n");
    assert_eq!(response(&items[0]).headers.get("public"), Some("OPTIONS, DESCRIBE"));
}

#[test]
fn c10_body_without_length_ends_at_next_response_or_silence() {
    for length in ["", "Content-Length: -1\r\n", "Content-Length: \r\n"] {
        let mut parser = Parser::new();
        parser.set_body_until_next(true);
        parser.push(format!("RTSP/1.0 200 OK\r\n{length}\r\nv=0\r\nm=video 0 RTP/AVP 96\r\n").as_bytes());
        assert_eq!(parser.next_item(), Ok(None));
        assert!(parser.is_in_body());
        let ended = parser.end_body().unwrap();
        assert_eq!(&response(&ended).body[..], b"v=0\r\nm=video 0 RTP/AVP 96\r\n");
    }
    let mut parser = Parser::new();
    parser.set_body_until_next(true);
    parser.push(b"RTSP/1.0 200 OK\r\n\r\nv=0\r\ns=RTSP/1.0\r\nRTSP/1.0 404 Gone\r\n\r\n");
    let items = drain(&mut parser);
    assert_eq!(&response(&items[0]).body[..], b"v=0\r\ns=RTSP/1.0\r\n");
    assert_eq!(response(&items[1]).status, 404);
}

#[test]
fn c10_short_body_ends_by_silence() {
    let mut parser = Parser::new();
    parser.push(b"RTSP/1.0 200 OK\r\nContent-Length: 100\r\n\r\nv=0\r\n");
    assert_eq!(parser.next_item(), Ok(None));
    assert_eq!(&response(&parser.end_body().unwrap()).body[..], b"v=0\r\n");
}

#[test]
fn c83_resync_behind_junk() {
    let frame = |n: u8| [b'$', 0, 0, 4, 0x80, n, 2, 3];
    // Dollars, unlikely channels; dollars, likely channels and lengths, but no header behind
    let pattern = [[0x00, b'$', 0xff, 0x01, 0x80, b'R', b'T'], [0x00, b'$', 0x01, 0x00, 0x01, 0x00, 0x00]];
    for (junk, pattern) in [1usize, 7, 1500, 20_000].into_iter().flat_map(|n| pattern.map(|p| (n, p))) {
        let mut bytes = frame(1).to_vec();
        bytes.extend((0..junk).map(|i| pattern[i % 7]));
        bytes.extend(frame(2));
        bytes.extend(frame(3));
        bytes.extend(b"RTSP/1.0 200 OK\r\nCSeq: 9\r\n\r\n");
        bytes.extend(frame(4));
        let items = items(&bytes);
        let frames: Vec<u8> = items
            .iter()
            .filter_map(|i| match i {
                Item::Interleaved { data, .. } => Some(data[1]),
                _ => None,
            })
            .collect();
        assert_eq!(frames, [1, 2, 3, 4], "{junk} bytes of junk");
        assert_eq!(items.len(), 5);
    }
}

#[test]
fn c83_junk_has_a_limit() {
    let mut parser = Parser::new();
    parser.push(&vec![0u8; MAX_JUNK_BYTES]);
    assert_eq!(parser.next_item(), Ok(None));
    parser.push(&[0, 0]);
    assert_eq!(parser.next_item(), Err(WireError::Junk));
    assert_eq!(parser.next_item(), Err(WireError::Junk));
}

#[test]
fn limits_are_errors() {
    let mut parser = Parser::new();
    parser.push(b"OPTIONS rtsp://h/ RTSP/1.0\r\nX: ");
    parser.push(&vec![b'a'; MAX_HEADER_BYTES]);
    assert_eq!(parser.next_item(), Err(WireError::HeadTooLong));
    for (head, max) in
        [("ANNOUNCE rtsp://h/ RTSP/1.0", MAX_REQUEST_BODY), ("RTSP/1.0 200 OK", MAX_RESPONSE_BODY)]
    {
        let mut parser = Parser::new();
        parser.push(format!("{head}\r\nContent-Length: {}\r\n\r\n", max + 1).as_bytes());
        assert_eq!(parser.next_item(), Err(WireError::BodyTooLong { len: max as u64 + 1, max }));
    }
}

#[test]
fn unknown_methods_are_requests() {
    let items = items(b"FOO_BAR rtsp://h/x RTSP/1.0\r\nCSeq: 1\r\n\r\n$\x05\x00\x00");
    assert!(matches!(&items[0], Item::Request(r) if r.method == "FOO_BAR" && r.url == "rtsp://h/x"));
    assert_eq!(items[1], Item::Interleaved { channel: 5, data: Bytes::new() });
}

#[test]
fn interleaved_payload_is_a_slice_of_the_receive_buffer() {
    let mut parser = Parser::new();
    parser.push(b"$\x00\x00\x04abcd$\x01\x00\x02ef");
    let base = parser.buffer_mut().as_ptr() as usize;
    let Ok(Some(Item::Interleaved { data, .. })) = parser.next_item() else { panic!() };
    assert_eq!(data.as_ptr() as usize, base + 4);
}

#[test]
fn c61_transport_variants() {
    for (text, channels) in [
        ("RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=D6D66270", Some((0, 1))),
        ("RTP/AVP/TCP;ssrc=D6D66270;interleaved=10-11;mode=\"play\"", Some((10, 11))),
        ("RTP/AVP/TCP;interleaved=4", Some((4, 5))),
        ("RTP/AVP;unicast; interleaved = 2-3", Some((2, 3))),
        ("RTP/AVP/TCP;unicast", None),
        ("RTP/AVP/TCP;interleaved=999-1000", None),
    ] {
        let transport = Transport::parse(text);
        assert_eq!(transport.interleaved, channels, "{text}");
        assert_eq!(transport.lower(), Lower::Tcp, "{text}");
    }
    let udp = Transport::parse("RTP/AVP;unicast;client_port=5000-5001;server_port=0-1;source=cam.local");
    assert_eq!((udp.lower(), udp.server_port), (Lower::Udp, Some((0, 1))));
    let multicast = Transport::parse("RTP/AVP;multicast;destination=239.1.2.3;port=5000-5001;ttl=16");
    assert_eq!((multicast.port, multicast.ttl, multicast.multicast), (Some((5000, 5001)), Some(16), true));
}

#[test]
fn k4_ssrc_texts() {
    for (text, value) in
        [("D6D66270", Some(0xd6d6_6270)), ("A046", Some(0xa046)), ("0x6f7c", None), ("1234567890", None)]
    {
        assert_eq!(Transport::parse(&format!("RTP/AVP;ssrc={text}")).ssrc, value, "{text}");
    }
}

#[test]
fn c62_session_timeouts() {
    for (text, id, secs) in [
        ("1234;timeout=30", "1234", 30),
        ("  77 ; Timeout = 0", "77", 60),
        ("a", "a", 60),
        ("a;timeout=7200", "a", 600),
        ("a;timeout=1", "a", 5),
        ("a;timeout=x", "a", 60),
    ] {
        let header = SessionHeader::parse(text).unwrap();
        assert_eq!((header.id.as_str(), header.timeout), (id, Duration::from_secs(secs)), "{text}");
    }
    assert_eq!(SessionHeader::parse(" ;timeout=60"), None);
}

#[test]
fn c5_cseq_is_written_as_given_and_lines_cannot_be_injected() {
    let request = Request::new("OPTIONS", "rtsp://h/a\r\nX: y").header("CSeq", "1").header("A", "b\r\nC: d");
    assert_eq!(&request.encode()[..], b"OPTIONS rtsp://h/a  X: y RTSP/1.0\r\nCSeq: 1\r\nA: b  C: d\r\n\r\n");
}

fn arb_piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        (0u8..40, proptest::collection::vec(any::<u8>(), 0..60)).prop_map(|(channel, payload)| {
            let mut out = BytesMut::new();
            write_interleaved(channel, &payload, &mut out);
            out.to_vec()
        }),
        (100u16..999, proptest::collection::vec(any::<u8>(), 0..40)).prop_map(|(status, body)| {
            Response::new(status).header("CSeq", "7").body(body).encode().to_vec()
        }),
        Just(Request::new("OPTIONS", "rtsp://h/x?y=1").header("CSeq", "2").encode().to_vec()),
        Just(b"RTSP/1.0 200\nContent-Length: -4\n\nv=0\n".to_vec()),
        Just(b"\r\nRTSP/".to_vec()),
        Just(b"SETUP ".to_vec()),
    ]
}

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), open: bool) {
        let mut parser = Parser::new();
        parser.set_body_until_next(open);
        parser.push(&bytes);
        drain(&mut parser);
        parser.end_body();
        drain(&mut parser);
    }

    #[test]
    fn any_chunking_gives_the_same_items(
        pieces in proptest::collection::vec(arb_piece(), 0..12),
        cuts in proptest::collection::vec(1usize..50, 1..20),
        open: bool,
    ) {
        let bytes = pieces.concat();
        let mut whole = Parser::new();
        whole.set_body_until_next(open);
        whole.push(&bytes);
        let expected = drain(&mut whole);
        let mut parser = Parser::new();
        parser.set_body_until_next(open);
        let mut got = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            parser.push(now);
            got.extend(drain(&mut parser));
            rest = later;
        }
        prop_assert_eq!(got, expected);
        prop_assert_eq!(parser.junk_bytes(), whole.junk_bytes());
    }

    #[test]
    fn messages_round_trip(
        url in "rtsp://[a-z0-9./?=&]{1,40}",
        status in 100u16..1000,
        headers in proptest::collection::vec(("[A-Za-z-]{1,12}", "[a-zA-Z0-9=\",;/]{0,30}"), 0..6),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let headers: Headers = headers.into_iter().filter(|(n, _)| !n.eq_ignore_ascii_case("content-length")).collect();
        let request = Request { headers: headers.clone(), ..Request::new("DESCRIBE", url).body(body.clone()) };
        let Item::Request(mut parsed) = items(&request.encode()).remove(0) else { panic!() };
        prop_assert_eq!(parsed.headers.content_length().unwrap_or(0) as usize, body.len());
        parsed.headers = headers.clone();
        prop_assert_eq!(parsed, request);
        let response = Response { headers: headers.clone(), ..Response::new(status).body(body) };
        let Item::Response(mut parsed) = items(&response.encode()).remove(0) else { panic!() };
        parsed.headers = headers;
        prop_assert_eq!(parsed, response);
    }
}

/// Found by the fuzz target `rtsp_message`: the limit on a method's length held only while the line was incomplete.
#[test]
fn a_long_method_is_junk_however_it_is_cut() {
    let line = [&[b'R'; 80][..], b" x RTSP/1.0\nCSeq: 1\n\nOPTIONS * RTSP/1.0\nCSeq: 2\n\n"].concat();
    let whole = items(&line);
    assert_eq!(whole.len(), 1, "{whole:?}");
    for cut in 0..line.len() {
        let mut parser = Parser::new();
        parser.push(&line[..cut]);
        let mut found = drain(&mut parser);
        parser.push(&line[cut..]);
        found.extend(drain(&mut parser));
        assert_eq!(found, whole, "cut at {cut}");
    }
}

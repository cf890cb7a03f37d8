//! Both sides of a connection in memory, and servers and clients of other kinds.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use bytes::{Bytes, BytesMut};
use patchbay_mux::flv::TagKind;
use patchbay_mux::flv::amf::{self, Value};
use patchbay_net::Credentials;
use patchbay_plugin_rtmp::session::client::{self, Config, End, Mode};
use patchbay_plugin_rtmp::session::server::{self, Phase, Wish};
use patchbay_plugin_rtmp::wire::chunk::{self, Message, Reader};
use patchbay_plugin_rtmp::wire::message::{self, Command, Incoming, Writer, kind};
use proptest::prelude::*;

const BLOCK: usize = 1_536;

fn config(mode: Mode) -> Config {
    Config {
        app: "live".to_owned(),
        tc_url: "rtmp://h/live".to_owned(),
        name: "cam?token=1".to_owned(),
        credentials: None,
        mode,
    }
}

fn client(mode: Mode) -> client::Session {
    client::Session::new(config(mode), [1; BLOCK], 0x00c0_ffee)
}

fn server_events(session: &mut server::Session) -> Vec<server::Event> {
    std::iter::from_fn(|| session.poll().unwrap()).collect()
}

fn client_events(session: &mut client::Session) -> Vec<client::Event> {
    std::iter::from_fn(|| session.poll().unwrap()).collect()
}

/// Carries bytes in pieces of `piece` until both are silent; what each of them said.
fn talk(
    client: &mut client::Session,
    server: &mut server::Session,
    piece: usize,
) -> (Vec<client::Event>, Vec<server::Event>) {
    let (mut of_client, mut of_server) = (Vec::new(), Vec::new());
    loop {
        let (up, down) = (client.take(), server.take());
        if up.is_empty() && down.is_empty() {
            return (of_client, of_server);
        }
        for piece in up.chunks(piece) {
            server.receive(piece).unwrap();
            of_server.extend(server_events(server));
        }
        for piece in down.chunks(piece) {
            client.receive(piece).unwrap();
            of_client.extend(client_events(client));
        }
    }
}

fn wished(events: &[server::Event]) -> Wish {
    match events {
        [server::Event::Play(wish) | server::Event::Publish(wish)] => wish.clone(),
        other => panic!("{other:?}"),
    }
}

/// Media as a server or client sends it.
fn media(kind: TagKind, time: u32, body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    chunk::write(6, (kind as u8, time, 1), &[body], chunk::OUR_CHUNK_BYTES, &mut out);
    out.freeze()
}

#[test]
fn a_player_gets_its_stream() {
    for piece in [1, 100, 10_000] {
        let (mut client, mut server) = (client(Mode::Play), server::Session::new([2; BLOCK]));
        let (_, asked) = talk(&mut client, &mut server, piece);
        let wish = wished(&asked);
        assert_eq!(wish.names, ["live/cam", "live", "cam"]);
        assert_eq!(wish.query, "token=1");
        assert!(wish.fourccs.iter().any(|fourcc| fourcc == "hvc1"));
        server.played("live/cam");
        let (told, _) = talk(&mut client, &mut server, piece);
        // Then what Flash players need to look at pixels.
        assert!(matches!(
            told[..],
            [client::Event::Started, client::Event::Media { kind: TagKind::Script, .. }]
        ));
        client.receive(&media(TagKind::Video, 40, &[0x17, 1, 2])).unwrap();
        let body = Bytes::from_static(&[0x17, 1, 2]);
        let expected = client::Event::Media { kind: TagKind::Video, timestamp: 40, body };
        assert_eq!(client_events(&mut client), [expected]);
        client.stop();
        let (_, stopped) = talk(&mut client, &mut server, piece);
        assert_eq!(stopped, [server::Event::Stop]);
        assert_eq!(server.phase(), Phase::New);
    }
}

#[test]
fn a_publisher_sends_and_another_may_follow_on_the_same_connection() {
    let (mut client, mut server) = (client(Mode::Publish), server::Session::new([2; BLOCK]));
    let (_, asked) = talk(&mut client, &mut server, 700);
    assert!(matches!(asked[..], [server::Event::Publish(_)]), "{asked:?}");
    // What comes before the answer waits.
    server.receive(&media(TagKind::Audio, 5, &[0xaf, 1, 2])).unwrap();
    assert_eq!(server_events(&mut server), []);
    server.published("live");
    assert!(matches!(server_events(&mut server)[..], [server::Event::Media { timestamp: 5, .. }]));
    let (told, _) = talk(&mut client, &mut server, 700);
    assert_eq!(told, [client::Event::Started]);
    client.stop();
    assert_eq!(talk(&mut client, &mut server, 700).1, [server::Event::Stop]);
}

#[test]
fn m8_acknowledgements_are_given_at_half_the_window() {
    let (mut client, mut server) = (client(Mode::Publish), server::Session::new([2; BLOCK]));
    talk(&mut client, &mut server, 3_000);
    server.published("live");
    talk(&mut client, &mut server, 3_000);
    let mut sent = Vec::new();
    for time in 0..130 {
        server.receive(&media(TagKind::Video, time, &[0x27; 10_000])).unwrap();
        assert_eq!(server_events(&mut server).len(), 1);
        sent.extend_from_slice(&server.take());
    }
    // Type 3 with 4 bytes on chunk stream 2: how much has come.
    let head = [2, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0];
    let places: Vec<usize> =
        sent.windows(head.len()).enumerate().filter(|(_, w)| *w == head).map(|(at, _)| at).collect();
    assert_eq!(places.len(), 1, "of 1.3 MB the half of 2.5 MB is told once");
    let count = u32::from_be_bytes(sent[places[0] + 12..places[0] + 16].try_into().unwrap());
    assert!((1_250_000..1_270_000).contains(&count), "{count}");
}

#[test]
fn refusals_say_why() {
    for (unknown, expected) in [
        (true, End::NotFound("NetStream.Play.StreamNotFound stream not found".to_owned())),
        (false, End::Refused("NetStream.Play.Failed stream not found".to_owned())),
    ] {
        let (mut client, mut server) = (client(Mode::Play), server::Session::new([2; BLOCK]));
        talk(&mut client, &mut server, 3_000);
        server.refuse(unknown, "stream not found");
        assert_eq!(server.phase(), Phase::Refused);
        let (told, _) = talk(&mut client, &mut server, 3_000);
        let [client::Event::Ended(end)] = &told[..] else { panic!("{told:?}") };
        if unknown {
            assert_eq!(*end, expected);
        } else {
            // The words decide, where the code does not.
            assert!(matches!(end, End::NotFound(_)));
        }
    }
}

#[test]
fn the_end_of_a_stream_is_told() {
    let (mut client, mut server) = (client(Mode::Play), server::Session::new([2; BLOCK]));
    talk(&mut client, &mut server, 3_000);
    server.played("cam");
    talk(&mut client, &mut server, 3_000);
    server.over("the camera is gone");
    let (told, _) = talk(&mut client, &mut server, 3_000);
    assert_eq!(told[0], client::Event::Ended(End::Eof));
}

/// A peer that speaks by hand: a server or client of any kind.
struct ByHand {
    reader: Reader,
    writer: Writer,
}

impl ByHand {
    /// Behind a plain handshake with a dialling session.
    fn server_of(session: &mut client::Session) -> Self {
        session.take();
        session.receive(&[&[3][..], &[0; 2 * BLOCK]].concat()).unwrap();
        let first = session.take();
        let mut reader = Reader::new();
        // C2, then messages.
        reader.push(&first[BLOCK..]);
        Self { reader, writer: Writer::default() }
    }

    /// Behind a plain handshake with a listening session.
    fn client_of(session: &mut server::Session) -> Self {
        session.receive(&[&[3][..], &[0; 2 * BLOCK]].concat()).unwrap();
        assert_eq!(session.take().len(), 1 + 2 * BLOCK);
        Self { reader: Reader::new(), writer: Writer::default() }
    }

    fn messages(&mut self, bytes: &[u8]) -> Vec<Message> {
        self.reader.push(bytes);
        std::iter::from_fn(|| self.reader.poll().unwrap()).collect()
    }

    fn commands(&mut self, bytes: &[u8]) -> Vec<Command> {
        let incoming = self.messages(bytes).into_iter().flat_map(message::read);
        incoming.filter_map(|i| if let Incoming::Command(c) = i { Some(c) } else { None }).collect()
    }
}

fn names(commands: &[Command]) -> Vec<&str> {
    commands.iter().map(|command| command.name.as_str()).collect()
}

#[test]
fn servers_that_number_nothing() {
    let mut session = client(Mode::Play);
    let mut server = ByHand::server_of(&mut session);
    let connect = server.commands(&[]);
    assert_eq!(names(&connect), ["connect"]);
    assert_eq!(connect[0].text("app"), "live");
    // YouTube: something else first. Reolink: transactions of 0.
    server.writer.command("onBWDone", 0.0, &[Value::Null], 0);
    let code = amf::object([("code", "NetConnection.Connect.Success".into())]);
    server.writer.command("_result", 0.0, &[Value::Null, code], 0);
    session.receive(&server.writer.take()).unwrap();
    assert_eq!(client_events(&mut session), []);
    let asked = server.commands(&session.take());
    assert_eq!(names(&asked), ["createStream"]);
    server.writer.command("_result", 0.0, &[Value::Null, 7.0.into()], 0);
    session.receive(&server.writer.take()).unwrap();
    assert_eq!(client_events(&mut session), []);
    let asked = server.commands(&session.take());
    assert_eq!(names(&asked), ["play"]);
    assert_eq!((asked[0].stream_id, asked[0].argument(0)), (7, Some(&"cam?token=1".into())));
    // Pictures without a word.
    let mut out = BytesMut::new();
    chunk::write(6, (kind::VIDEO, 0, 7), &[&[0x27, 1]], 128, &mut out);
    session.receive(&out).unwrap();
    assert!(matches!(client_events(&mut session)[..], [client::Event::Started, client::Event::Media { .. }]));
    // A ping and the window.
    server.writer.control(kind::WINDOW_ACKNOWLEDGEMENT_SIZE, &[100]);
    server.writer.user(message::user::PING_REQUEST, &[9]);
    session.receive(&server.writer.take()).unwrap();
    client_events(&mut session);
    session.receive(&media(TagKind::Video, 0, &[0x27; 60])).unwrap();
    client_events(&mut session);
    let kinds: Vec<u8> = server.messages(&session.take()).iter().map(|m| m.kind).collect();
    assert_eq!(kinds, [kind::USER_CONTROL, kind::ACKNOWLEDGEMENT]);
}

#[test]
fn adobes_login_takes_three_connections() {
    let config = Config { credentials: Some(Credentials::new("bob", "secret")), ..config(Mode::Play) };
    let mut session = client::Session::new(config, [1; BLOCK], 0x00c0_ffee);
    let reject = |session: &mut client::Session, description: &str| -> (String, Vec<client::Event>) {
        let mut server = ByHand::server_of(session);
        let connect = server.commands(&[]);
        let info = amf::object([
            ("level", "error".into()),
            ("code", "NetConnection.Connect.Rejected".into()),
            ("description", description.into()),
        ]);
        server.writer.command("_error", 1.0, &[Value::Null, info], 0);
        session.receive(&server.writer.take()).unwrap();
        (connect[0].text("app").to_owned(), client_events(session))
    };
    let (app, told) = reject(&mut session, "[ code=403 need auth; authmod=adobe ]");
    assert_eq!((app.as_str(), &told[..]), ("live", &[client::Event::Redial][..]));
    session.restart([2; BLOCK]);
    let ask = "[ authmod=adobe ] : ?reason=needauth&user=bob&salt=kq==&challenge=xyz123&opaque=opq456";
    let (app, told) = reject(&mut session, ask);
    assert_eq!((app.as_str(), &told[..]), ("live?authmod=adobe&user=bob", &[client::Event::Redial][..]));
    session.restart([3; BLOCK]);
    let (app, told) = reject(&mut session, "[ authmod=adobe ] : ?reason=authfailed");
    assert_eq!(
        app,
        "live?authmod=adobe&user=bob&challenge=00c0ffee&response=ce7q8TaWwzqFOd2scFq4Ng==&opaque=opq456"
    );
    assert!(matches!(told[..], [client::Event::Ended(End::Login(_))]));
}

#[test]
fn old_servers_that_want_a_login_we_do_not_have() {
    let mut session = client(Mode::Play);
    let mut server = ByHand::server_of(&mut session);
    let info = amf::object([("description", "[ authmod=adobe ] code=403".into())]);
    server.writer.command("_error", 1.0, &[Value::Null, info], 0);
    session.receive(&server.writer.take()).unwrap();
    assert!(matches!(client_events(&mut session)[..], [client::Event::Ended(End::Login(_))]));
}

#[test]
fn encoders_of_other_kinds() {
    // App and key, what is looked up in which order, and the query.
    let cases: [(&str, &str, &[&str], &str); 6] = [
        ("cam", "", &["cam"], ""),
        ("live", "cam", &["live/cam", "live", "cam"], ""),
        ("live/a?x=1", "b?token=2", &["live/a/b", "live/a", "b"], "x=1&token=2"),
        ("", "cam", &["cam"], ""),
        ("/cam/", "?only=query", &["cam"], "only=query"),
        ("", "", &["released"], ""),
    ];
    for (app, key, expected, query) in cases {
        let mut session = server::Session::new([2; BLOCK]);
        let mut peer = ByHand::client_of(&mut session);
        let object = amf::object([("app", app.into()), ("flashVer", "FMLE/3.0".into())]);
        peer.writer.command("connect", 1.0, &[object], 0);
        peer.writer.command("releaseStream", 2.0, &[Value::Null, "released".into()], 0);
        peer.writer.command("FCPublish", 3.0, &[Value::Null, "released".into()], 0);
        peer.writer.command("_checkbw", 4.0, &[Value::Null], 0);
        peer.writer.command("createStream", 5.0, &[Value::Null], 0);
        peer.writer.command("publish", 6.0, &[Value::Null, key.into(), "live".into()], 1);
        session.receive(&peer.writer.take()).unwrap();
        let wish = wished(&server_events(&mut session));
        assert_eq!(
            (&wish.names[..], &wish.query[..]),
            (&expected.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()[..], query)
        );
        assert_eq!((wish.user_agent.as_str(), wish.fourccs.len()), ("FMLE/3.0", 0));
        let answers = peer.commands(&session.take());
        let transactions: Vec<f64> = answers.iter().map(|answer| answer.transaction).collect();
        assert_eq!((names(&answers), transactions), (vec!["_result"; 4], vec![1.0, 2.0, 3.0, 5.0]));
        assert!(answers[0].member("fourCcList").is_none(), "an old encoder is told nothing new");
    }
}

#[test]
fn what_enhanced_players_say_of_themselves() {
    let mut session = server::Session::new([2; BLOCK]);
    let mut peer = ByHand::client_of(&mut session);
    let object = amf::object([
        ("app", "cam".into()),
        ("fourCcList", Value::StrictArray(vec!["hvc1".into()])),
        // 1: decodes, 2: encodes.
        ("videoFourCcInfoMap", amf::object([("av01", 1.0.into()), ("vp09", 2.0.into())])),
        ("audioFourCcInfoMap", amf::object([("Opus", 3.0.into())])),
    ]);
    peer.writer.command("connect", 1.0, &[object], 0);
    peer.writer.command("play", 4.0, &[Value::Null, "".into()], 1);
    session.receive(&peer.writer.take()).unwrap();
    assert_eq!(wished(&server_events(&mut session)).fourccs, ["hvc1", "av01", "Opus"]);
    assert!(peer.commands(&session.take())[0].member("fourCcList").is_some());
}

#[test]
fn large_messages_need_a_reason() {
    let mut session = server::Session::new([2; BLOCK]);
    ByHand::client_of(&mut session);
    let early = [4, 0, 0, 0, 2, 0, 0, 9, 1, 0, 0, 0];
    session.receive(&early).unwrap();
    assert!(session.poll().is_err(), "128 KiB before it has said what it wants");
}

proptest! {
    #[test]
    fn any_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        patchbay_plugin_rtmp::fuzz::server(&data);
        patchbay_plugin_rtmp::fuzz::client(&data);
    }

    #[test]
    fn any_pieces_say_the_same(piece in 1_usize..4_000) {
        let (mut client, mut server) = (client(Mode::Play), server::Session::new([2; BLOCK]));
        let (_, asked) = talk(&mut client, &mut server, piece);
        prop_assert_eq!(wished(&asked).names, ["live/cam", "live", "cam"]);
    }
}

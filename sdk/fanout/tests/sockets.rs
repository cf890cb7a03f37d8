//! Real loopback sockets: fast, slow, stalled and vanished viewers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use patchbay_fanout::{Buffer, Fanout, Join, Limits, Position, Rewrite, Writer};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

const VIDEO: u32 = 1;
const AUDIO: u32 = 2;
/// How long a test may wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A buffer that says what it is: length, number, track, key; then filler that depends on the number.
fn buffer(number: u32, track: u32, key: bool, len: usize) -> Buffer {
    let mut bytes = BytesMut::with_capacity(len);
    bytes.extend_from_slice(&(len as u32).to_be_bytes());
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&[track as u8, u8::from(key)]);
    bytes.resize(len, number as u8);
    Buffer {
        bytes: bytes.freeze(),
        tracks: track,
        key,
        at: Duration::from_millis(u64::from(number) * 33),
        meta: (),
    }
}

#[derive(Debug, PartialEq, Clone, Copy)]
struct Got {
    number: u32,
    track: u32,
    key: bool,
}

/// Cuts a received byte stream back into buffers and checks every byte.
fn parse(mut bytes: &[u8]) -> Vec<Got> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let len = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
        let number = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
        assert!(bytes.len() >= len, "the last buffer is cut");
        assert!(bytes[10..len].iter().all(|b| *b == number as u8), "buffer {number} is damaged");
        all.push(Got { number, track: u32::from(bytes[8]), key: bytes[9] == 1 });
        bytes = &bytes[len..];
    }
    all
}

async fn pair(receive_buffer: Option<usize>) -> (Writer<TcpStream>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    if let Some(size) = receive_buffer {
        socket.set_recv_buffer_size(size).unwrap();
    }
    let address: SocketAddr = listener.local_addr().unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let client = TcpStream::from_std(socket.into()).unwrap();
    let (server, _) = listener.accept().await.unwrap();
    if receive_buffer.is_some() {
        SockRef::from(&server).set_send_buffer_size(16 << 10).unwrap();
    }
    (Writer::new(server), client)
}

fn join(position: Position, head: &[&'static [u8]]) -> Join {
    Join {
        tracks: VIDEO | AUDIO,
        keyed: VIDEO,
        await_key: 0,
        position,
        head: head.iter().map(|b| Bytes::from_static(b)).collect(),
        rewrite: None,
    }
}

/// Reads to the end while the writer's own task drives; the writer is dropped once the log is out.
async fn drain(writer: Writer<TcpStream>, fanout: &Fanout<TcpStream>, mut client: TcpStream) -> Vec<u8> {
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        all
    });
    let end = fanout.end();
    tokio::select! {
        error = writer.drive() => panic!("{error}"),
        () = writer.caught_up(end) => {}
    }
    drop(writer);
    tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_fast_viewer_gets_every_byte_in_order_without_its_task() {
    let fanout = Fanout::new(Limits::default());
    let (writer, mut client) = pair(None).await;
    fanout.join(&writer, join(fanout.end(), &[b"hello"]));
    for number in 0..200 {
        fanout.push(buffer(number, if number % 3 == 2 { AUDIO } else { VIDEO }, number % 30 == 0, 500));
    }
    // No `drive`: the pushing task alone wrote all of it.
    assert_eq!(fanout.counters().writes.load(std::sync::atomic::Ordering::Relaxed), 200);
    drop(writer);
    let mut all = Vec::new();
    client.read_to_end(&mut all).await.unwrap();
    assert_eq!(&all[..5], b"hello");
    let got = parse(&all[5..]);
    assert_eq!(got.iter().map(|g| g.number).collect::<Vec<_>>(), (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn tracks_are_filtered_and_a_track_begins_with_its_key() {
    let fanout = Fanout::new(Limits::default());
    let (writer, mut client) = pair(None).await;
    let mut how = join(fanout.end(), &[]);
    how.tracks = VIDEO;
    how.await_key = VIDEO;
    fanout.join(&writer, how);
    for number in 0..40 {
        fanout.push(buffer(number, if number % 2 == 1 { AUDIO } else { VIDEO }, number == 10, 100));
    }
    drop(writer);
    let mut all = Vec::new();
    client.read_to_end(&mut all).await.unwrap();
    let numbers: Vec<u32> = parse(&all).iter().map(|g| g.number).collect();
    assert_eq!(numbers, (10..40).step_by(2).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_slow_viewer_gets_every_byte_when_it_stays_within_the_limits() {
    let fanout = Fanout::new(Limits::default());
    let (writer, client) = pair(Some(4 << 10)).await;
    fanout.join(&writer, join(fanout.end(), &[]));
    for number in 0..50 {
        fanout.push(buffer(number, VIDEO, number % 25 == 0, 15_000));
    }
    assert!(writer.waiting_bytes() > 0, "the socket was meant to be full");
    let got = parse(&drain(writer, &fanout, client).await);
    assert_eq!(got.iter().map(|g| g.number).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    assert_eq!(fanout.counters().skips.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_stalled_viewer_resumes_at_a_key_and_the_gap_is_counted() {
    let fanout = Fanout::new(Limits::default());
    let (writer, client) = pair(Some(4 << 10)).await;
    fanout.join(&writer, join(fanout.end(), &[]));
    // 10 s of video with a key every second, and audio between.
    for number in 0..300 {
        fanout.push(buffer(number, if number % 3 == 2 { AUDIO } else { VIDEO }, number % 30 == 0, 9_000));
    }
    let got = parse(&drain(writer, &fanout, client).await);
    let numbers: Vec<u32> = got.iter().map(|g| g.number).collect();
    let hole = numbers.windows(2).position(|w| w[1] != w[0] + 1).expect("a hole");
    assert!(numbers.windows(2).skip(hole + 1).all(|w| w[1] == w[0] + 1), "one hole only: {numbers:?}");
    assert!(got[hole + 1].key, "resumes at a key: {:?}", got[hole + 1]);
    assert_eq!(*numbers.last().unwrap(), 299);
    let skipped = fanout.counters().skipped.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(skipped, u64::from(numbers[hole + 1] - numbers[hole] - 1));
    assert!(fanout.counters().skips.load(std::sync::atomic::Ordering::Relaxed) >= 1);
}

#[tokio::test]
async fn without_a_recent_key_a_stalled_viewer_waits_for_the_next_but_hears_on() {
    let fanout = Fanout::new(Limits::default());
    let (writer, mut client) = pair(Some(4 << 10)).await;
    fanout.join(&writer, join(fanout.end(), &[]));
    for number in 0..300 {
        fanout.push(buffer(number, VIDEO, number == 0, 9_000));
    }
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        all
    });
    tokio::select! {
        error = writer.drive() => panic!("{error}"),
        () = writer.caught_up(fanout.end()) => {}
    }
    for number in 300..400 {
        fanout.push(buffer(number, if number % 10 == 5 { AUDIO } else { VIDEO }, number == 360, 100));
    }
    drop(writer);
    let got = parse(&tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap());
    let late: Vec<Got> = got.into_iter().filter(|g| g.number >= 300).collect();
    assert!(late.iter().filter(|g| g.track == VIDEO).all(|g| g.number >= 360), "{late:?}");
    assert_eq!(late.iter().filter(|g| g.track == VIDEO).count(), 36);
    assert_eq!(late.iter().filter(|g| g.track == AUDIO).count(), 10);
}

#[tokio::test]
async fn a_reply_never_cuts_into_a_buffer() {
    let fanout = Fanout::new(Limits::default());
    let (writer, client) = pair(Some(4 << 10)).await;
    fanout.join(&writer, join(fanout.end(), &[]));
    for number in 0..40 {
        fanout.push(buffer(number, VIDEO, true, 15_000));
        // A reply that looks like a buffer to the parser.
        writer.send(buffer(1000 + number, 0, false, 40).bytes).unwrap();
    }
    let got = parse(&drain(writer, &fanout, client).await);
    let replies: Vec<u32> = got.iter().map(|g| g.number).filter(|n| *n >= 1000).collect();
    assert_eq!(replies, (1000..1040).collect::<Vec<_>>());
    let media: Vec<u32> = got.iter().map(|g| g.number).filter(|n| *n < 1000).collect();
    assert_eq!(media, (0..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_peer_that_asks_on_without_reading_is_cut_off() {
    let fanout: Fanout<TcpStream> = Fanout::new(Limits::default());
    let (writer, _client) = pair(Some(4 << 10)).await;
    fanout.join(&writer, join(fanout.end(), &[]));
    let reply = Bytes::from(vec![b'x'; 8 << 10]);
    let sent = (0..10_000).take_while(|_| writer.send(reply.clone()).is_ok()).count();
    assert!(sent < 400, "{sent} replies were kept");
}

#[tokio::test]
async fn vanished_viewers_are_found_and_forgotten() {
    let fanout = Fanout::new(Limits::default());
    let (writer, client) = pair(None).await;
    fanout.join(&writer, join(fanout.end(), &[]));
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let pushing = async {
        for number in 0.. {
            fanout.push(buffer(number, VIDEO, true, 1_000));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        error = tokio::time::timeout(PATIENCE, writer.drive()) => { error.expect("the failure shows"); }
        () = pushing => {}
    }
    assert_eq!(fanout.counters().viewers(), 0);
    assert!(writer.send(Bytes::from_static(b"x")).is_err());
}

#[tokio::test]
async fn two_hundred_viewers_leave_at_once_and_descriptors_return() {
    let fanout = Fanout::new(Limits::default());
    for _ in 0..3 {
        let mut viewers = Vec::new();
        for _ in 0..200 {
            let (writer, client) = pair(None).await;
            fanout.join(&writer, join(fanout.end(), &[b"hi"]));
            viewers.push((writer, client));
        }
        fanout.push(buffer(0, VIDEO, true, 100));
        assert_eq!(fanout.counters().viewers(), 200);
        let mut clients = Vec::new();
        for (writer, client) in viewers {
            drop(writer);
            clients.push(client);
        }
        assert_eq!(fanout.counters().viewers(), 0);
        // Nothing is pushed, and yet each peer sees its end: no descriptor is kept by the list.
        for mut client in clients {
            let mut all = Vec::new();
            tokio::time::timeout(PATIENCE, client.read_to_end(&mut all)).await.unwrap().unwrap();
            assert_eq!(all.len(), 102);
        }
    }
}

/// Puts a running number of its own over bytes 4 to 8.
struct Renumber(u32);

impl Rewrite<()> for Renumber {
    fn rewrite(&mut self, buffer: &Buffer, head: &mut BytesMut) -> usize {
        head.extend_from_slice(&buffer.bytes[..4]);
        head.extend_from_slice(&self.0.to_be_bytes());
        head.extend_from_slice(&buffer.bytes[8..10]);
        head.resize(buffer.bytes.len(), self.0 as u8);
        self.0 += 1;
        buffer.bytes.len()
    }
}

#[tokio::test]
async fn a_rewriting_viewer_has_no_gap_even_after_a_skip() {
    for receive_buffer in [None, Some(4 << 10)] {
        let fanout = Fanout::new(Limits::default());
        let (writer, client) = pair(receive_buffer).await;
        let mut how = join(fanout.end(), &[]);
        how.rewrite = Some(Box::new(Renumber(7000)));
        fanout.join(&writer, how);
        for number in 0..300 {
            fanout.push(buffer(
                number,
                VIDEO,
                number % 30 == 0,
                if receive_buffer.is_some() { 9_000 } else { 90 },
            ));
        }
        let got = parse(&drain(writer, &fanout, client).await);
        assert!(got.iter().zip(7000..).all(|(g, n)| g.number == n));
        assert_eq!(got.len() < 300, receive_buffer.is_some());
    }
}

#[tokio::test]
async fn a_long_head_on_a_slow_link_costs_no_buffer() {
    let fanout = Fanout::new(Limits::default());
    let (writer, client) = pair(Some(4 << 10)).await;
    let mut how = join(fanout.end(), &[]);
    how.head = vec![buffer(5000, 0, false, 3 << 20).bytes];
    fanout.join(&writer, how);
    // 3 s and 1.8 MB arrive meanwhile: more than a viewer may be behind, but it is joining.
    for number in 0..90 {
        fanout.push(buffer(number, VIDEO, number == 0, 20_000));
    }
    let got = parse(&drain(writer, &fanout, client).await);
    assert_eq!(got.iter().map(|g| g.number).collect::<Vec<_>>(), [vec![5000], (0..90).collect()].concat());
}

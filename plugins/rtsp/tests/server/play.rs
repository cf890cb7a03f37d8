//! Players by script against the server on real sockets.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use patchbay_media::{Codec, Parameters};
use patchbay_plugin_rtsp::server::Config;
use patchbay_rtp::rtcp::{self, Rtcp};
use patchbay_sdk::reader::Item;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, UdpSocket};

use crate::memory::{Memory, picture, picture_number, sound};
use crate::peer::{Got, Host, PATIENCE, Peer, Rtp, controls, header, host, nals, rtp, rtp_info};

const SPS: [u8; 4] = [0x67, 0x42, 0xe0, 0x1f];
const PPS: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];

fn video() -> Parameters {
    let mut parameters = Parameters::video(Codec::H264, 90_000);
    parameters.extradata = patchbay_media::h264::avcc(&[&SPS], &[&PPS]);
    parameters
}

fn audio() -> Parameters {
    Parameters::audio(Codec::PcmAlaw, 8000, 1)
}

async fn camera() -> Host {
    let host = host(Config::default()).await;
    host.memory.stream("cam", &[(1, 0, video()), (1, 1, audio())]);
    host
}

/// `count` pictures from `first` on, a key every 25, and their sound.
fn push(memory: &Memory, first: i64, count: i64) {
    for number in first..first + count {
        memory.push(1, 0, picture(number, number % 25 == 0, 3_000));
        memory.push(1, 1, sound(2 * number));
        memory.push(1, 1, sound(2 * number + 1));
    }
}

/// Reads frames until `done`; RTP by channel, and the sender reports.
async fn frames(
    peer: &mut Peer,
    mut done: impl FnMut(&[Vec<Rtp>; 2]) -> bool,
) -> ([Vec<Rtp>; 2], Vec<(u8, Rtcp)>) {
    let (mut media, mut reports) = ([Vec::new(), Vec::new()], Vec::new());
    while !done(&media) {
        let (channel, packet) = peer.next_frame().await;
        match channel {
            0 | 2 => media[usize::from(channel / 2)].push(rtp(&packet)),
            _ => reports.push((channel, rtcp::parse(&packet).remove(0))),
        }
    }
    (media, reports)
}

fn slices(packets: &[Rtp]) -> Vec<i64> {
    nals(packets).iter().filter(|nal| matches!(nal[0] & 31, 1 | 5)).map(|nal| picture_number(nal)).collect()
}

fn is_last(packets: &[Rtp], wanted: i64) -> bool {
    packets.last().is_some_and(|p| p.marker) && slices(packets).last() == Some(&wanted)
}

fn assert_in_sequence(packets: &[Rtp]) {
    assert!(
        packets.windows(2).all(|w| w[1].sequence == w[0].sequence.wrapping_add(1)),
        "a gap in sequence numbers"
    );
}

/// The conditions of S9 and S45 for one track: RTP-Info is right and a report with the right SSRC came first.
fn assert_start(info: (Option<u16>, Option<u32>), packets: &[Rtp], reports: &[(u8, Rtcp)], channel: u8) {
    assert_eq!(
        info,
        (Some(packets[0].sequence), Some(packets[0].timestamp)),
        "RTP-Info of channel {channel}"
    );
    let report = reports.iter().find(|(c, _)| *c == channel + 1).expect("a sender report");
    let Rtcp::SenderReport(report, _) = &report.1 else { panic!("{report:?}") };
    assert_eq!(report.ssrc, packets[0].ssrc);
    let unix_ns = rtcp::unix_ns_from_ntp(report.ntp);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
    assert!(unix_ns.abs_diff(now) < 60_000_000_000, "true wall time");
}

#[tokio::test]
async fn s09_s11_s45_the_first_viewer_of_a_fresh_source() {
    let host = camera().await;
    let mut peer = Peer::connect(&host, "cam").await;
    let (_, reply) = peer.play().await;
    // The source begins inside of a GOP: nothing undecodable may be sent.
    push(&host.memory, 22, 10);
    let (media, reports) = frames(&mut peer, |m| is_last(&m[0], 31)).await;
    let info = rtp_info(&reply);
    assert_start(info[0], &media[0], &reports, 0);
    assert_start(info[1], &media[1], &reports, 2);
    assert_eq!(slices(&media[0]), (25..32).collect::<Vec<_>>());
    let first = nals(&media[0]);
    assert_eq!([&first[0][..], &first[1][..]], [&SPS[..], &PPS[..]], "parameter sets in-band (S42)");
    assert_in_sequence(&media[0]);
    assert_in_sequence(&media[1]);
}

#[tokio::test]
async fn s09_a_source_that_counts_milliseconds_begins_where_it_was_said() {
    let host = host(Config::default()).await;
    let mut video = video();
    video.clock_rate = 1000;
    let mut audio = Parameters::audio(Codec::Aac, 48_000, 1);
    (audio.clock_rate, audio.extradata) = (1000, Bytes::from_static(&[0x11, 0x88]));
    host.memory.stream("cam", &[(1, 0, video), (1, 1, audio)]);
    let mut peer = Peer::connect(&host, "cam?history=0").await;
    let (description, reply) = peer.play().await;
    assert!(description.contains("MPEG4-GENERIC/48000/1"), "{description}");
    push(&host.memory, 0, 30);
    let (media, reports) = frames(&mut peer, |m| is_last(&m[0], 29) && !m[1].is_empty()).await;
    let info = rtp_info(&reply);
    assert_start(info[0], &media[0], &reports, 0);
    assert_start(info[1], &media[1], &reports, 2);
}

#[tokio::test]
async fn s09_s45_a_late_viewer_gets_the_group_so_far_squeezed_and_then_live() {
    let host = camera().await;
    let mut first = Peer::connect(&host, "cam").await;
    first.play().await;
    push(&host.memory, 0, 45);
    frames(&mut first, |m| is_last(&m[0], 44) && m[1].len() >= 90).await;
    let mut late = Peer::connect(&host, "cam").await;
    let (_, reply) = late.play().await;
    push(&host.memory, 45, 10);
    let (media, reports) = frames(&mut late, |m| is_last(&m[0], 54) && m[1].len() >= 21).await;
    let info = rtp_info(&reply);
    assert_start(info[0], &media[0], &reports, 0);
    assert_start(info[1], &media[1], &reports, 2);
    assert_eq!(slices(&media[0]), (25..55).collect::<Vec<_>>(), "from the newest key, none missing");
    assert_in_sequence(&media[0]);
    assert_in_sequence(&media[1]);
    // One frame apart live; history ends one frame before it, one tick apart.
    let mut times: Vec<u32> = media[0].iter().map(|p| p.timestamp).collect();
    times.dedup();
    let steps: Vec<u32> = times.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
    assert_eq!(steps[..19], [1; 19]);
    assert_eq!(steps[19..], [3600; 10]);
    // Only the newest sound goes before live, none older.
    assert_eq!(media[1][0].payload[0], 89);
    // Both see the same packets live.
    let (of_first, _) = frames(&mut first, |m| is_last(&m[0], 54)).await;
    let tail = &media[0][media[0].len() - of_first[0].len()..];
    assert_eq!(tail, &of_first[0][..]);
    assert_eq!(host.memory.histories(), 2, "one per join, the first found nothing");
    assert_eq!(host.memory.readers(), 1);
}

#[tokio::test]
async fn history_0_starts_at_the_next_key_and_raw_keeps_times() {
    let host = camera().await;
    let mut first = Peer::connect(&host, "cam").await;
    first.play().await;
    push(&host.memory, 0, 30);
    frames(&mut first, |m| is_last(&m[0], 29)).await;
    let mut none = Peer::connect(&host, "cam?history=0&video").await;
    let (_, reply) = none.play().await;
    assert_eq!(header(&reply, "RTP-Info"), None, "not known yet");
    let mut raw = Peer::connect(&host, "cam?history=raw&video").await;
    let (_, reply) = raw.play().await;
    push(&host.memory, 30, 30);
    let (media, _) = frames(&mut none, |m| is_last(&m[0], 59)).await;
    assert_eq!(slices(&media[0]), (50..60).collect::<Vec<_>>());
    let (media, reports) = frames(&mut raw, |m| is_last(&m[0], 59)).await;
    assert_start(rtp_info(&reply)[0], &media[0], &reports, 0);
    assert_eq!(slices(&media[0]), (25..60).collect::<Vec<_>>());
    let mut times: Vec<u32> = media[0].iter().map(|p| p.timestamp).collect();
    times.dedup();
    assert!(times.windows(2).all(|w| w[1].wrapping_sub(w[0]) == 3600));
}

#[tokio::test]
async fn s10_the_channels_of_the_run_are_answered_and_used() {
    let host = camera().await;
    let mut peer = Peer::connect(&host, "cam?audio").await;
    let described = peer.describe().await;
    let reply =
        peer.ask("SETUP", &controls(&described)[0], "Transport: RTP/AVP/TCP;interleaved=0-1\r\n", "").await;
    assert!(header(&reply, "Transport").unwrap().contains("interleaved=2-3"), "{reply}");
    let url = peer.url.clone();
    peer.ask("PLAY", &url, "", "").await;
    push(&host.memory, 0, 1);
    let (media, _) = frames(&mut peer, |m| m[1].len() == 2).await;
    assert!(media[0].is_empty());
}

#[tokio::test]
async fn s12_a_slow_camera_is_waited_for_and_unknown_names_are_not() {
    let host = camera().await;
    host.memory.slow_stream("slow");
    let mut peer = Peer::connect(&host, "nothing").await;
    assert!(peer.describe().await.starts_with("RTSP/1.0 404"));
    peer.url = peer.url.replace("nothing", "slow");
    let url = peer.url.clone();
    peer.send("DESCRIBE", &url, "", "").await;
    while host.memory.claims("slow") == 0 {
        tokio::task::yield_now().await;
    }
    host.memory.bind("slow", &[(2, 0, video())]);
    let Got::Reply(reply) = peer.next().await else { panic!() };
    assert!(reply.starts_with("RTSP/1.0 200"), "on the same connection: {reply}");
}

#[tokio::test]
async fn s13_s14_a_slash_behind_the_name_and_filters() {
    let host = camera().await;
    host.memory.stream("a/b c", &[(3, 0, video())]);
    for path in ["cam", "cam/", "a/b%20c", "a/b%20c/"] {
        let described = Peer::connect(&host, path).await.describe().await;
        assert!(described.starts_with("RTSP/1.0 200"), "{path}: {described}");
    }
    let described = Peer::connect(&host, "cam?video=h264&pkt_size=9000").await.describe().await;
    assert_eq!(controls(&described).len(), 1);
    let queries = host.memory.queries();
    assert_eq!(queries.first().unwrap(), "video&audio");
    assert_eq!(queries.last().unwrap(), "video=h264&pkt_size=9000");
}

#[tokio::test]
async fn s42_the_description_says_all_at_once() {
    let host = camera().await;
    let described = Peer::connect(&host, "cam").await.describe().await;
    for line in [
        "m=video 0 RTP/AVP 96",
        "a=rtpmap:96 H264/90000",
        "a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0LgHw==,aM48gA==; profile-level-id=42E01F",
        "m=audio 0 RTP/AVP 8",
        "a=rtpmap:8 PCMA/8000",
        "t=0 0",
    ] {
        assert!(described.contains(&format!("{line}\r\n")), "{line} in {described}");
    }
    assert!(!described.contains("a=range"));
}

#[tokio::test]
async fn s42_parameter_sets_that_come_late_are_waited_for() {
    let host = camera().await;
    host.memory.stream("late", &[(4, 0, Parameters::video(Codec::H264, 90_000))]);
    let mut peer = Peer::connect(&host, "late").await;
    let url = peer.url.clone();
    peer.send("DESCRIBE", &url, "", "").await;
    while host.memory.claims("late") == 0 {
        tokio::task::yield_now().await;
    }
    host.memory.bind("late", &[(4, 0, video())]);
    let Got::Reply(reply) = peer.next().await else { panic!() };
    assert!(reply.contains("sprop-parameter-sets=Z0LgHw==,aM48gA=="), "{reply}");
}

#[tokio::test]
async fn s43_a_packet_size_makes_a_run_of_its_own() {
    let host = camera().await;
    let mut small = Peer::connect(&host, "cam?video").await;
    let mut large = Peer::connect(&host, "cam?video&pkt_size=65000").await;
    small.play().await;
    large.play().await;
    host.memory.push(1, 0, picture(0, true, 50_000));
    let (media, _) = frames(&mut small, |m| is_last(&m[0], 0)).await;
    assert!(media[0].iter().all(|p| p.payload.len() <= 1440));
    let (media, _) = frames(&mut large, |m| is_last(&m[0], 0)).await;
    assert!(media[0].len() <= 3, "{} packets", media[0].len());
    assert_eq!(host.server.hub().counters().runs.load(Relaxed), 2);
}

#[tokio::test]
async fn s44_markers_and_times() {
    let host = camera().await;
    let mut peer = Peer::connect(&host, "cam").await;
    peer.play().await;
    push(&host.memory, 0, 3);
    let (media, _) = frames(&mut peer, |m| is_last(&m[0], 2) && m[1].len() == 6).await;
    let marks = media[0].iter().filter(|p| p.marker).count();
    assert_eq!(marks, 3, "one per picture");
    for pair in media[0].windows(2) {
        assert_eq!(pair[0].marker, pair[1].timestamp != pair[0].timestamp);
    }
    assert!(media[1].iter().skip(1).all(|p| !p.marker));
    assert!(media[1].iter().all(|p| p.payload_type == 8));
}

#[tokio::test]
async fn s46_little_endian_pcm_goes_out_as_l16() {
    let host = host(Config::default()).await;
    host.memory.stream("mic", &[(9, 0, Parameters::audio(Codec::PcmS16le, 16_000, 1))]);
    let mut peer = Peer::connect(&host, "mic").await;
    let (described, _) = peer.play().await;
    assert!(described.contains("L16/16000"), "{described}");
    host.memory.push(9, 0, patchbay_media::Unit::new(0, true, Bytes::from_static(&[1, 2, 3, 4])));
    let (media, _) = frames(&mut peer, |m| !m[0].is_empty()).await;
    assert_eq!(media[0][0].payload, [2, 1, 4, 3]);
}

/// A player that stops reading for a while, with small buffers so that the server notices.
#[tokio::test]
async fn s47_a_stalled_player_loses_whole_groups_only() {
    let host = camera().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let socket = socket.connect(host.address).await.unwrap();
    let mut peer = Peer::on(socket, &host, "cam?video");
    peer.play().await;
    // Enough to fill what the kernel keeps on its own (up to 4 MB on loopback) and the log.
    let total = 25 * 60;
    for number in 0..total {
        host.memory.push(1, 0, picture(number, number % 25 == 0, 12_000));
        if number % 25 == 24 {
            let counters = host.server.hub().counters();
            while counters.units.load(Relaxed) <= number as u64 {
                tokio::task::yield_now().await;
            }
        }
    }
    let (media, _) = frames(&mut peer, |m| is_last(&m[0], total - 1)).await;
    let seen = slices(&media[0]);
    assert!(seen.len() < total as usize, "it was meant to lose something");
    for pair in seen.windows(2) {
        assert!(pair[1] == pair[0] + 1 || pair[1] % 25 == 0, "resumes at {} after {}", pair[1], pair[0]);
    }
    let fanout = &host.server.hub().fanouts()[0];
    assert!(fanout.counters().skips.load(Relaxed) > 0);
    let lost = total as usize - seen.len();
    assert_eq!(fanout.counters().skipped.load(Relaxed), lost as u64);
}

#[tokio::test]
async fn s48_replies_never_cut_into_frames_under_load() {
    let host = camera().await;
    let mut peer = Peer::connect(&host, "cam").await;
    peer.play().await;
    let memory = host.memory.clone();
    let pushing = tokio::spawn(async move {
        for number in 0..200 {
            push(&memory, number, 1);
            tokio::task::yield_now().await;
        }
    });
    let url = peer.url.clone();
    let (mut asked, mut replies, mut video) = (0, 0, Vec::new());
    while replies < 100 || !is_last(&video, 199) {
        if asked < 100 {
            peer.send(if asked % 2 == 0 { "OPTIONS" } else { "GET_PARAMETER" }, &url, "", "").await;
            asked += 1;
        }
        match peer.next().await {
            Got::Reply(reply) => {
                assert!(reply.starts_with("RTSP/1.0 200"));
                replies += 1;
            }
            Got::Frame(0, packet) => video.push(rtp(&packet)),
            Got::Frame(..) => {}
            Got::End => panic!("closed"),
        }
    }
    pushing.await.unwrap();
    assert_in_sequence(&video);
    assert_eq!(slices(&video), (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn s08_pause_and_play_again() {
    let host = camera().await;
    let mut peer = Peer::connect(&host, "cam?video").await;
    peer.play().await;
    push(&host.memory, 0, 3);
    frames(&mut peer, |m| is_last(&m[0], 2)).await;
    let url = peer.url.clone();
    peer.ask("PAUSE", &url, "", "").await;
    push(&host.memory, 3, 5);
    let reply = peer.ask("PLAY", &url, "", "").await;
    push(&host.memory, 8, 2);
    let (media, reports) = frames(&mut peer, |m| is_last(&m[0], 9)).await;
    assert_start(rtp_info(&reply)[0], &media[0], &reports, 0);
    assert_eq!(slices(&media[0])[0], 0, "from the key again");
}

#[tokio::test]
async fn s40_s45_a_player_over_udp() {
    let host = camera().await;
    let mut peer = Peer::connect(&host, "cam?video").await;
    let described = peer.describe().await;
    let rtp_socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let rtcp_socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let ports = (rtp_socket.local_addr().unwrap().port(), rtcp_socket.local_addr().unwrap().port());
    let transport = format!("Transport: RTP/AVP;unicast;client_port={}-{}\r\n", ports.0, ports.1);
    let reply = peer.ask("SETUP", &controls(&described)[0], &transport, "").await;
    let answered = header(&reply, "Transport").unwrap();
    let server_port: u16 =
        answered.split("server_port=").nth(1).unwrap().split('-').next().unwrap().parse().unwrap();
    assert_eq!(server_port % 2, 0);
    push(&host.memory, 0, 20);
    let url = peer.url.clone();
    let reply = peer.ask("PLAY", &url, "", "").await;
    push(&host.memory, 20, 10);
    let (mut packets, mut buffer) = (Vec::new(), vec![0; 2000]);
    while !is_last(&packets, 29) {
        let (len, from) =
            tokio::time::timeout(PATIENCE, rtp_socket.recv_from(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(from.port(), server_port);
        assert!(len <= 1440 + 12);
        packets.push(rtp(&buffer[..len]));
    }
    assert_in_sequence(&packets);
    assert_eq!(slices(&packets), (0..30).collect::<Vec<_>>());
    assert_eq!(rtp_info(&reply)[0], (Some(packets[0].sequence), Some(packets[0].timestamp)));
    let (len, from) =
        tokio::time::timeout(PATIENCE, rtcp_socket.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(from.port(), server_port + 1);
    let reports = rtcp::parse(&buffer[..len]);
    assert!(
        matches!(&reports[0], Rtcp::SenderReport(report, _) if report.ssrc == packets[0].ssrc),
        "{reports:?}"
    );
    peer.ask("TEARDOWN", &url, "", "").await;
    assert_eq!(host.memory.claims("cam"), 0);
}

#[tokio::test]
async fn s22_loopback_needs_no_login_unless_wanted() {
    let locked = Config { username: "u".to_owned(), password: "p".to_owned(), ..Config::default() };
    let open = host(locked.clone()).await;
    open.memory.stream("cam", &[(1, 0, video())]);
    assert!(Peer::connect(&open, "cam").await.describe().await.starts_with("RTSP/1.0 200"));
    let closed = host(Config { local_auth: true, ..locked }).await;
    closed.memory.stream("cam", &[(1, 0, video())]);
    let mut peer = Peer::connect(&closed, "cam").await;
    assert!(peer.describe().await.starts_with("RTSP/1.0 401"));
    let url = peer.url.clone();
    let reply = peer.ask("DESCRIBE", &url, "Authorization: Basic dTpw\r\n", "").await;
    assert!(reply.starts_with("RTSP/1.0 200"), "{reply}");
}

#[tokio::test]
async fn tracks_of_two_sources_share_a_connection_without_sharing_channels() {
    let host = host(Config::default()).await;
    host.memory.stream("mixed", &[(1, 0, video()), (2, 0, audio())]);
    let mut peer = Peer::connect(&host, "mixed").await;
    peer.play().await;
    host.memory.push(1, 0, picture(0, true, 3_000));
    host.memory.push(2, 0, sound(7));
    let (media, reports) = frames(&mut peer, |m| is_last(&m[0], 0) && m[1].len() == 1).await;
    assert_eq!(media[1][0].payload[0], 7);
    let mut channels: Vec<u8> = reports.iter().map(|(channel, _)| *channel).collect();
    channels.sort_unstable();
    assert_eq!(channels, [1, 3]);
}

#[tokio::test]
async fn times_grow_over_a_break_and_reports_tell_the_shift() {
    let host = camera().await;
    let mut peer = Peer::connect(&host, "cam?video").await;
    peer.play().await;
    push(&host.memory, 0, 10);
    // The source comes back: it begins 30 ms before its last picture.
    for number in 0..10 {
        let mut unit = picture(25 + number, number == 0, 100);
        unit.pts = 9 * 3600 - 2700 + number * 3600;
        unit.dts = unit.pts;
        unit.discontinuity = number == 0;
        host.memory.push(1, 0, unit);
    }
    let (media, _) = frames(&mut peer, |m| is_last(&m[0], 34)).await;
    let mut times: Vec<u32> = media[0].iter().map(|p| p.timestamp).collect();
    times.dedup();
    assert_eq!(times.len(), 20);
    assert!(times.windows(2).all(|w| w[1].wrapping_sub(w[0]) == 3600), "{times:?}");
    // A viewer that joins now has the same times.
    let mut late = Peer::connect(&host, "cam?video&history=raw").await;
    late.play().await;
    let (media, reports) = frames(&mut late, |m| is_last(&m[0], 34)).await;
    assert_eq!(media[0].last().unwrap().timestamp, *times.last().unwrap());
    let Rtcp::SenderReport(report, _) = &reports[0].1 else { panic!() };
    assert_eq!(report.rtp_timestamp, *times.last().unwrap());
}

#[tokio::test]
async fn a_source_that_counts_anew_does_not_jump() {
    for start in [7_000_000_000_i64, -7_000_000_000, i64::MAX - 1_000_000, i64::MIN + 1_000_000] {
        let host = camera().await;
        let mut peer = Peer::connect(&host, "cam?video").await;
        peer.play().await;
        push(&host.memory, 0, 10);
        for number in 0..10 {
            let mut unit = picture(25 + number, number == 0, 100);
            unit.pts = start + number * 3600;
            unit.dts = unit.pts;
            unit.discontinuity = number == 0;
            host.memory.push(1, 0, unit);
        }
        let (media, _) = frames(&mut peer, |m| is_last(&m[0], 34)).await;
        let mut times: Vec<u32> = media[0].iter().map(|p| p.timestamp).collect();
        times.dedup();
        let steps: Vec<u32> = times.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
        assert!(steps.iter().all(|step| (3600..900_000).contains(step)), "{start}: {steps:?}");
        assert_eq!(steps.iter().filter(|step| **step != 3600).count(), usize::from(steps[9] != 3600));
    }
}

#[tokio::test]
async fn another_codec_ends_the_players_with_a_reason() {
    let host = camera().await;
    let mut peer = Peer::connect(&host, "cam?video").await;
    peer.play().await;
    push(&host.memory, 0, 1);
    frames(&mut peer, |m| is_last(&m[0], 0)).await;
    // New parameter sets of the same codec go on in-band.
    let mut again = video();
    again.extradata = patchbay_media::h264::avcc(&[&[0x67, 0x64, 0, 0x1f]], &[&PPS]);
    host.memory.item(1, Item::Parameters { track: 0, parameters: again });
    host.memory.push(1, 0, picture(25, true, 100));
    let (media, _) = frames(&mut peer, |m| is_last(&m[0], 25)).await;
    assert_eq!(nals(&media[0])[0], [0x67, 0x64, 0, 0x1f]);
    let hevc = Parameters::video(Codec::Hevc, 90_000);
    host.memory.item(1, Item::Parameters { track: 0, parameters: hevc });
    assert_eq!(peer.next().await, Got::End);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_players_share_one_run_and_leave_at_once() {
    let host = camera().await;
    for round in 0..3 {
        let mut peers = Vec::new();
        for _ in 0..500 {
            let mut peer = Peer::connect(&host, "cam").await;
            peer.play().await;
            peers.push(peer);
        }
        let counters = host.server.hub().counters();
        assert_eq!(counters.runs.load(Relaxed), 2 * (round + 1), "one per track while somebody watches");
        let units = counters.units.load(Relaxed);
        let first = i64::try_from(round).unwrap() * 25;
        push(&host.memory, first, 10);
        for peer in &mut peers {
            let (media, _) = frames(peer, |m| is_last(&m[0], first + 9)).await;
            assert_in_sequence(&media[0]);
        }
        while counters.units.load(Relaxed) < units + 30 {
            tokio::task::yield_now().await;
        }
        assert_eq!(counters.units.load(Relaxed), units + 30, "each unit once for all");
        let fanout = host.server.hub().fanouts().pop().unwrap();
        assert_eq!(fanout.counters().viewers(), 500);
        drop(peers);
        // Keeps coming while they go.
        push(&host.memory, first + 10, 5);
        tokio::time::timeout(PATIENCE, async {
            while host.memory.claims("cam") > 0 || !host.server.hub().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("all are gone");
        assert_eq!(fanout.counters().viewers(), 0);
    }
}

#[tokio::test]
async fn counters_of_a_player_are_reported_at_its_end() {
    let host = camera().await;
    let mut peer = Peer::connect(&host, "cam?video").await;
    peer.play().await;
    push(&host.memory, 0, 4);
    frames(&mut peer, |m| is_last(&m[0], 3)).await;
    drop(peer);
    tokio::time::timeout(PATIENCE, async {
        while host.memory.counted().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let counted = host.memory.counted()[0];
    assert_eq!((counted.packets, counted.drops), (4, 0));
    assert!(counted.bytes > 12_000);
}

#[tokio::test]
async fn garbage_closes_one_connection_only() {
    let host = camera().await;
    let mut good = Peer::connect(&host, "cam?video").await;
    good.play().await;
    for garbage in [
        vec![0xff; 100_000],
        vec![b'A'; 70_000],
        b"DESCRIBE rtsp://x RTSP/1.0\r\nContent-Length: 99999999\r\n\r\n".to_vec(),
    ] {
        let mut bad = Peer::connect(&host, "cam").await;
        let _ = bad.socket.write_all(&garbage).await;
        let _ = bad.socket.shutdown().await;
        while bad.next().await != Got::End {}
    }
    push(&host.memory, 0, 1);
    frames(&mut good, |m| is_last(&m[0], 0)).await;
}

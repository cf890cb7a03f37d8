//! AV1, VP8, VP9 and MPEG-4 Visual: R71, R72.

use bytes::Bytes;
use patchbay_media::{Codec, Parameters, Unit};
use patchbay_rtp::{Depacketizer, Item, Packetizer, Packets};
use proptest::prelude::*;
use std::time::Duration;

use crate::support::{Feed, data, media_of, packets, parameters, units};

const VP8: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n";
const VP9: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 VP9/90000\r\n";
const AV1: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 AV1/90000\r\n";
const MPEG4: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 MP4V-ES/90000\r\na=fmtp:96 profile-level-id=3; config=000001b003\r\n";

/// The beginning of a key frame of 320x240: libvpx through ffmpeg 5.1.
const VP8_KEY: &str = "706e009d012a4001f0000007";
/// The same of VP9.
const VP9_KEY: &str = "824983420013f00ef6043824";
/// The sequence header of 640x360: libaom through ffmpeg 5.1.
const AV1_SEQUENCE: &str = "0a0b0000000cc4ff6736be4010";

#[test]
fn r71_vp8_in_several_packets() {
    let mut feed = Feed::new(VP8);
    let half = VP8_KEY.len() / 4 * 2;
    feed.hex(0, false, &format!("10{}", &VP8_KEY[..half])).hex(0, true, &format!("00{}", &VP8_KEY[half..]));
    // With picture id, TL0PICIDX and TID; not referred to.
    feed.hex(3000, true, "b0e0910733 20 51aabb");
    let items = feed.items();
    assert_eq!(parameters(&items).iter().map(|p| (p.width, p.height)).collect::<Vec<_>>(), [(320, 240)]);
    let units = units(items);
    assert_eq!(data(&units), [VP8_KEY, "51aabb"]);
    assert_eq!(units.iter().map(|unit| (unit.key, unit.pts)).collect::<Vec<_>>(), [(true, 0), (false, 3000)]);
}

#[test]
fn r71_vp9_of_two_spatial_layers() {
    let mut feed = Feed::new(VP9);
    let key = VP9_KEY.replace(' ', "");
    // The higher layer begins a frame, not a picture.
    feed.hex(0, false, &format!("ac 01 00 00 {key}")).hex(0, true, "ec 01 03 00 860102");
    feed.hex(3000, true, "4c 8603");
    let items = feed.items();
    assert_eq!(parameters(&items).iter().map(|p| (p.width, p.height)).collect::<Vec<_>>(), [(320, 240)]);
    let units = units(items);
    assert_eq!(data(&units), [format!("{key}860102"), "8603".to_owned()]);
    assert_eq!(units.iter().map(|unit| unit.key).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn r71_av1_elements_with_and_without_lengths() {
    let sequence = AV1_SEQUENCE.replace(' ', "");
    let (header, body) = (&sequence[..2], &sequence[4..]);
    // As in the bitstream, but without sizes: 0a is a sequence header with, 08 one without.
    assert_eq!(header, "0a");
    let expected = format!("{sequence}32051011121314");
    for (name, payloads) in [
        ("lengths", vec![format!("08 02 1200 0c 08{body} 06 301011121314")]),
        ("two, the last without", vec![format!("28 0c 08{body} 301011121314")]),
        ("with sizes inside", vec![format!("28 0d {sequence} 32051011121314")]),
        ("cut", vec![format!("68 0c 08{body} 301011"), "90 121314".to_owned()]),
        (
            "cut twice",
            vec![format!("48 0c 08{body} 03 301011"), "c0 01 12".to_owned(), "80 02 1314".to_owned()],
        ),
    ] {
        let mut feed = Feed::new(AV1);
        let last = payloads.len() - 1;
        for (number, payload) in payloads.iter().enumerate() {
            feed.hex(0, number == last, payload);
        }
        let items = feed.items();
        let known = parameters(&items);
        assert_eq!(known.iter().map(|p| (p.width, p.height)).collect::<Vec<_>>(), [(640, 360)], "{name}");
        let record: String = known[0].extradata.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(record, format!("81010c00{sequence}"), "{name}");
        let units = units(items);
        assert_eq!(data(&units), std::slice::from_ref(&expected), "{name}");
        assert!(units[0].key, "{name}");
    }
}

#[test]
fn r71_a_lost_part_costs_the_pictures_up_to_the_next_key() {
    let sequence = AV1_SEQUENCE.replace(' ', "");
    let key = format!("20 {:02x} 08{} 301011", sequence.len() / 2 - 1, &sequence[4..]);
    let mut feed = Feed::new(AV1);
    feed.hex(0, true, &key).hex(3000, false, "50 302021").skip(1).hex(3000, true, "90 2223");
    feed.hex(6000, true, "10 302021").hex(9000, true, &key).hex(12_000, true, "10 302021");
    let received = feed.units();
    let times: Vec<(i64, bool)> = received.iter().map(|unit| (unit.pts, unit.discontinuity)).collect();
    assert_eq!(times, [(0, false), (9000, true), (12_000, false)]);

    let mut feed = Feed::new(VP8);
    let key = format!("10{VP8_KEY}");
    feed.hex(0, true, &key)
        .hex(3000, false, "10 31aa")
        .skip(1)
        .hex(3000, true, "00 bb")
        .hex(6000, true, "10 3102");
    feed.hex(9000, true, &key);
    assert_eq!(feed.units().iter().map(|unit| unit.pts).collect::<Vec<_>>(), [0, 9000]);
    // One that nobody needs, lost in its middle.
    feed.hex(12_000, false, "30 31aa").skip(1).hex(12_000, true, "20 bb").hex(15_000, true, "10 3102");
    assert_eq!(feed.units().iter().map(|unit| unit.pts).collect::<Vec<_>>(), [15_000]);
}

#[test]
fn r72_mpeg4_keeps_its_configuration_and_its_times() {
    let media = media_of(MPEG4);
    assert_eq!(media.parameters().unwrap().extradata.as_ref(), [0, 0, 1, 0xb0, 3]);
    let described = crate::server::describe(&media.parameters().unwrap());
    assert!(described.contains("a=fmtp:96 profile-level-id=3; config=000001B003\r\n"), "{described}");
    let mut feed = Feed::new(MPEG4);
    feed.hex(0, false, "000001b610aa").hex(0, true, "bbcc");
    // A picture that is shown before the one that it is sent behind.
    feed.hex(7200, true, "000001b65001").hex(3600, true, "000001b69002").hex(14_400, true, "000001b65003");
    let units = feed.units();
    assert_eq!(data(&units), ["000001b610aabbcc", "000001b65001", "000001b69002", "000001b65003"]);
    assert_eq!(units.iter().map(|unit| unit.pts).collect::<Vec<_>>(), [0, 7200, 3600, 14_400]);
    assert!(units.iter().all(|unit| unit.dts <= unit.pts) && units[0].key && !units[1].key);
    assert!(units[1..].windows(2).all(|pair| pair[1].dts > pair[0].dts || pair[1].discontinuity));
}

#[test]
fn r1_pictures_end_without_markers() {
    let mut feed = Feed::new(VP8);
    feed.hex(0, false, &format!("10{VP8_KEY}")).hex(3000, false, "10 3101").hex(6000, false, "10 3102");
    assert_eq!(data(&feed.finish()), [VP8_KEY, "3101", "3102"]);
}

/// A unit of a codec whose first bytes tell that it is a key, or not, and bytes of any values behind.
fn unit(codec: Codec, number: usize, key: bool, bytes: &[u8]) -> Unit {
    let hex = |text: &str| crate::support::hex(&text.replace(' ', ""));
    let head = match (codec, key) {
        (Codec::Vp8, true) => hex(VP8_KEY),
        (Codec::Vp8, false) => vec![0x31],
        (Codec::Vp9, true) => hex(VP9_KEY),
        (Codec::Vp9, false) => vec![0x86],
        (Codec::Mpeg4, true) => vec![0, 0, 1, 0xb6, 0x10],
        (Codec::Mpeg4, false) => vec![0, 0, 1, 0xb6, 0x50],
        (_, _) => {
            let mut data = if key { hex(AV1_SEQUENCE) } else { Vec::new() };
            for bytes in bytes.chunks(700) {
                let len = bytes.len() + 1;
                let size =
                    if len < 0x80 { vec![len as u8] } else { vec![len as u8 | 0x80, (len >> 7) as u8] };
                data.extend([&[0x32], &size[..], &[if key { 0x10 } else { 0x30 }], bytes].concat());
            }
            return Unit::new(number as i64 * 3600, key, data.into());
        }
    };
    Unit::new(number as i64 * 3600, key, [&head, bytes].concat().into())
}

fn transfer(codec: Codec, sent: &[Unit], max_payload: usize, lost: Option<usize>) -> (Vec<Unit>, usize) {
    let mut given = Parameters::video(codec, 90_000);
    if codec == Codec::Mpeg4 {
        given.extradata = Bytes::from_static(&[0, 0, 1, 0xb0, 3]);
    }
    let mut packetizer = Packetizer::new(&given, 96, 1, 65_500, 0, max_payload).unwrap();
    let mut out = Packets::new(0);
    for unit in sent {
        packetizer.packetize(unit, unit.key.then_some(&given), &mut out);
    }
    let packets = packets(&out);
    assert!(packets.iter().all(|packet| packet.payload.len() <= max_payload));
    let mut depacketizer = Depacketizer::new(&media_of(&crate::server::describe(&given))).unwrap();
    let lost = lost.and_then(|lost| lost.checked_rem(packets.len()));
    for (_, packet) in packets.iter().enumerate().filter(|(index, _)| Some(*index) != lost) {
        depacketizer.push(packet, Duration::ZERO);
    }
    depacketizer.flush();
    let items: Vec<Item> = std::iter::from_fn(|| depacketizer.poll()).collect();
    (units(items), packets.len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_pictures_there_and_back(
        bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..3000), 1..10),
        max_payload in 256_usize..3000,
        codec in proptest::sample::select(vec![Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::Mpeg4]),
        lost: Option<usize>,
    ) {
        let sent: Vec<Unit> =
            bodies.iter().enumerate().map(|(number, body)| unit(codec, number, number % 3 == 0, body)).collect();
        let (received, count) = transfer(codec, &sent, max_payload, None);
        prop_assert_eq!(&received, &sent);
        // Nothing tells that the first or the last packet of all is missing.
        if let Some(lost) = lost.and_then(|lost| lost.checked_rem(count)).filter(|lost| *lost > 0 && *lost + 1 < count) {
            let (received, _) = transfer(codec, &sent, max_payload, Some(lost));
            prop_assert!(received.len() < sent.len());
            for unit in &received {
                let same = sent.iter().find(|sent| sent.pts == unit.pts).map(|sent| (&sent.data, sent.key));
                prop_assert_eq!(same, Some((&unit.data, unit.key)));
            }
        }
    }
}

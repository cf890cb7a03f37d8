//! Units into packets and back, for every codec.

use bytes::{BufMut, Bytes, BytesMut};
use patchbay_media::aac::AudioSpecificConfig;
use patchbay_media::{Codec, Parameters, Unit, nal};
use patchbay_rtp::{Depacketizer, Packetizer, Packets, RtpPacket, sdp};
use proptest::prelude::*;
use std::time::Duration;

use crate::support::{media_of, packets, units};

/// The parameters of the first media of a description.
fn described(text: &str, index: usize) -> Parameters {
    sdp::parse(text.as_bytes()).medias[index].parameters().unwrap()
}

fn h264() -> Parameters {
    described(include_str!("../data/reolink.sdp"), 0)
}

fn h265() -> Parameters {
    described(include_str!("../data/dahua_h265_pcma.sdp"), 0)
}

fn aac() -> Parameters {
    described(include_str!("../data/bunny.sdp"), 0)
}

/// A depacketizer for what our own description of `parameters` says.
fn receiver(parameters: &Parameters) -> Depacketizer {
    let text = crate::server::describe(parameters);
    Depacketizer::new(&media_of(&text)).unwrap()
}

/// The units as received; `lost` leaves out the packet with this index.
fn transfer(
    parameters: &Parameters,
    units_in: &[Unit],
    max_payload: usize,
    lost: Option<usize>,
) -> Vec<Unit> {
    let (sent, _) = send(parameters, units_in, max_payload);
    let mut depacketizer = receiver(parameters);
    for (index, packet) in sent.iter().enumerate() {
        if Some(index) != lost {
            depacketizer.push(packet, Duration::ZERO);
        }
    }
    depacketizer.flush();
    units(std::iter::from_fn(|| depacketizer.poll()).collect())
}

/// All packets, and the unit that each belongs to.
fn send(parameters: &Parameters, units: &[Unit], max_payload: usize) -> (Vec<RtpPacket>, Vec<usize>) {
    let mut packetizer = Packetizer::new(parameters, 96, 0xabcd, 65_500, 0, max_payload).unwrap();
    let mut out = Packets::new(0);
    let mut owners = Vec::new();
    for (index, unit) in units.iter().enumerate() {
        let count = packetizer.packetize(unit, unit.key.then_some(parameters), &mut out);
        owners.extend(std::iter::repeat_n(index, count));
    }
    let sent = packets(&out);
    assert!(sent.iter().all(|packet| packet.payload.len() <= max_payload.max(1275)));
    (sent, owners)
}

/// Bytes without zeros, so that no start code stands in them.
fn body(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|n| (n as u8).wrapping_mul(31).wrapping_add(seed) | 1).collect()
}

/// An access unit: SEI, then slices of these sizes.
fn picture(codec: Codec, number: usize, key: bool, slices: &[usize]) -> Unit {
    let mut data = BytesMut::new();
    let mut put = |head: &[u8], body: &[u8]| {
        data.put_u32((head.len() + body.len()) as u32);
        data.put_slice(head);
        data.put_slice(body);
    };
    let is_hevc = codec == Codec::Hevc;
    put(if is_hevc { &[0x4e, 1, 5] } else { &[6, 5] }, &[2, 0x80 | number as u8, 0x80]);
    for (index, len) in slices.iter().enumerate() {
        let first = if index == 0 { 0x81 } else { 0x41 };
        let head: &[u8] = match (is_hevc, key) {
            (true, true) => &[0x26, 1, first],
            (true, false) => &[0x02, 1, first],
            (false, true) => &[0x65, first],
            (false, false) => &[0x41, first],
        };
        put(head, &body(*len, number as u8));
    }
    Unit::new(number as i64 * 3600, key, data.freeze())
}

fn stripped(mut unit: Unit) -> Unit {
    (unit.dts, unit.discontinuity) = (unit.pts, false);
    unit
}

#[test]
fn video_of_many_sizes() {
    for (codec, parameters) in [(Codec::H264, h264()), (Codec::Hevc, h265())] {
        for max_payload in [256, 1440, 65_000] {
            let sizes =
                [1, 200, 250, 252, 253, 254, 255, 256, 257, 1437, 1438, 1439, 1440, 1441, 70_000, 200_000];
            let units: Vec<Unit> = sizes
                .iter()
                .enumerate()
                .map(|(number, size)| picture(codec, number, number % 4 == 0, &[*size, 3, *size / 2]))
                .collect();
            assert!(units.iter().all(|unit| nal::well_formed(&unit.data)));
            let received = transfer(&parameters, &units, max_payload, None);
            assert_eq!(
                received.into_iter().map(stripped).collect::<Vec<_>>(),
                units,
                "{codec:?} {max_payload}"
            );
        }
    }
}

#[test]
fn the_receiver_knows_what_the_sender_knew() {
    for parameters in [h264(), h265(), aac()] {
        let depacketizer = receiver(&parameters);
        assert_eq!(depacketizer.parameters(), &parameters);
    }
}

#[test]
fn r2_no_lost_packet_of_any_codec_gives_a_broken_unit() {
    for (codec, parameters) in [(Codec::H264, h264()), (Codec::Hevc, h265())] {
        let units: Vec<Unit> =
            (0..8).map(|number| picture(codec, number, number % 4 == 0, &[300, 600, 3])).collect();
        lose_each(&parameters, &units);
    }
    let units: Vec<Unit> = (0..8i64).map(|n| Unit::new(n * 1024, true, body(700, n as u8).into())).collect();
    lose_each(&aac(), &units);
    let pictures: Vec<Unit> = [include_bytes!("../data/testsrc-422.jpg"); 4]
        .iter()
        .enumerate()
        .map(|(n, picture)| Unit::new(n as i64 * 3600, true, Bytes::from_static(*picture)))
        .collect();
    let parameters = Parameters::video(Codec::Mjpeg, 90_000);
    // The file itself changes on the way, but not its pictures.
    let whole = transfer(&parameters, &pictures, 256, None);
    lose_each(&parameters, &whole);
}

fn lose_each(parameters: &Parameters, units: &[Unit]) {
    let (sent, owners) = send(parameters, units, 256);
    // Nothing tells that a packet before the first is missing.
    for (lost, owner) in owners.iter().enumerate().take(sent.len()).skip(1) {
        let received = transfer(parameters, units, 256, Some(lost));
        for unit in &received {
            let same = units.iter().find(|u| u.pts == unit.pts).unwrap();
            assert_eq!(
                (&unit.data, unit.key, unit.incomplete),
                (&same.data, same.key, false),
                "packet {lost}"
            );
        }
        // Parameter sets and SEI of a key unit may be lost without harm to the picture.
        let missing = received.iter().all(|unit| unit.pts != units[*owner].pts);
        assert!(
            missing || units[*owner].key && parameters.codec.kind() == patchbay_media::Kind::Video,
            "packet {lost}"
        );
        // Whatever came after the loss first is marked, unless all of its own was there.
        let next = received.iter().find(|unit| unit.pts > units[*owner].pts);
        assert!(next.is_none_or(|unit| unit.discontinuity) || !missing, "packet {lost}");
    }
}

#[test]
fn aac_frames_of_many_sizes() {
    for max_payload in [256, 1440, 65_000] {
        let sizes = [1usize, 100, 251, 252, 253, 504, 1436, 1437, 8191];
        let units: Vec<Unit> = sizes
            .iter()
            .enumerate()
            .map(|(n, size)| {
                let mut unit = Unit::new(n as i64 * 1024, true, body(*size, n as u8).into());
                unit.duration = 1024;
                unit
            })
            .collect();
        assert_eq!(transfer(&aac(), &units, max_payload, None), units, "{max_payload}");
    }
    let mut out = Packets::new(0);
    let mut packetizer = Packetizer::new(&aac(), 96, 1, 0, 0, 1440).unwrap();
    assert_eq!(packetizer.packetize(&Unit::new(0, true, vec![1; 8192].into()), None, &mut out), 0, "13 bits");
}

#[test]
fn samples_are_divided_between_packets_and_keep_their_times() {
    for (codec, channels, frame_len) in [
        (Codec::PcmAlaw, 1u8, 1usize),
        (Codec::PcmMulaw, 2, 2),
        (Codec::PcmS16be, 1, 2),
        (Codec::PcmS16le, 2, 4),
        (Codec::PcmS24be, 2, 6),
        (Codec::PcmU8, 1, 1),
        (Codec::AdpcmG722, 1, 1),
    ] {
        let mut parameters = Parameters::audio(codec, 8000, channels);
        if codec == Codec::AdpcmG722 {
            parameters.sample_rate = 16_000;
        }
        let ticks = 1000;
        let data = body(ticks * frame_len, 3);
        let unit = Unit::new(160, true, data.clone().into());
        let received = transfer(&parameters, &[unit], 256, None);
        let mut joined: Vec<u8> = received.iter().flat_map(|unit| unit.data.to_vec()).collect();
        if codec == Codec::PcmS16le {
            // S46: big endian on the wire.
            joined = patchbay_media::pcm::swap_bytes(&joined).to_vec();
        }
        assert_eq!(joined, data, "{codec:?}");
        let mut time = 160;
        for unit in &received {
            assert_eq!((unit.pts, unit.data.len() % frame_len), (time, 0), "{codec:?}");
            time += i64::from(unit.duration);
        }
        assert_eq!(time, 160 + ticks as i64);
    }
}

#[test]
fn opus_and_mpeg_audio() {
    let mut parameters = Parameters::audio(Codec::Opus, 48_000, 2);
    parameters.extradata = patchbay_media::opus::Head::new(2, 0).build();
    let mut units: Vec<Unit> = (0..5i64)
        .map(|n| Unit::new(n * 960, true, [&[0xfc], &body(60 + n as usize, 1)[..]].concat().into()))
        .collect();
    units.iter_mut().for_each(|unit| unit.duration = 960);
    assert_eq!(transfer(&parameters, &units, 1440, None), units);
    // A clock in milliseconds, as a container may have, becomes 48 kHz.
    parameters.clock_rate = 1000;
    let unit = Unit::new(40, true, Bytes::from_static(&[0xfc, 1]));
    assert_eq!(transfer(&parameters, &[unit], 1440, None)[0].pts, 1920);

    let frame = [&[0xff, 0xfb, 0x90, 0x44], &body(413, 5)[..]].concat();
    let mut parameters = Parameters::audio(Codec::Mp3, 44_100, 2);
    parameters.clock_rate = 90_000;
    let units: Vec<Unit> = (0..3i64).map(|n| Unit::new(n * 2351, true, frame.clone().into())).collect();
    let received = transfer(&parameters, &units, 256, None);
    assert!(
        received.len() == 3 && received.iter().zip(&units).all(|(a, b)| (a.pts, &a.data) == (b.pts, &b.data))
    );
}

#[test]
fn r1_markers_removed_the_same_units() {
    for (codec, parameters) in [(Codec::H264, h264()), (Codec::Hevc, h265())] {
        let units: Vec<Unit> = (0..8).map(|n| picture(codec, n, n % 4 == 0, &[300, 600, 3])).collect();
        let (mut sent, _) = send(&parameters, &units, 256);
        let mut depacketizer = receiver(&parameters);
        for packet in &mut sent {
            packet.marker = false;
            depacketizer.push(packet, Duration::ZERO);
        }
        depacketizer.flush();
        let received = crate::support::units(std::iter::from_fn(|| depacketizer.poll()).collect());
        assert_eq!(received.into_iter().map(stripped).collect::<Vec<_>>(), units);
    }
}

#[test]
fn b_frames_keep_their_times() {
    let parameters = described(include_str!("../data/missing_content_type.sdp"), 0);
    let mut units: Vec<Unit> = (0..9).map(|n| picture(Codec::H264, n, n == 0, &[100])).collect();
    for (unit, time) in units.iter_mut().zip([0, 4, 2, 1, 3, 8, 6, 5, 7]) {
        unit.pts = 1_000_000 + time * 3600;
    }
    let received = transfer(&parameters, &units, 1440, None);
    assert!(received.iter().zip(&units).all(|(a, b)| a.pts == b.pts && a.data == b.data && a.dts <= a.pts));
    assert!(received.windows(2).all(|w| w[1].dts > w[0].dts));
}

fn slices() -> impl Strategy<Value = Vec<Vec<usize>>> {
    proptest::collection::vec(proptest::collection::vec(1usize..3000, 1..5), 1..12)
}

proptest! {
    #[test]
    fn any_video_there_and_back(sizes in slices(), max_payload in 256usize..3000, hevc: bool, lost: Option<usize>) {
        let (codec, parameters) = if hevc { (Codec::Hevc, h265()) } else { (Codec::H264, h264()) };
        let units: Vec<Unit> = sizes.iter().enumerate().map(|(n, s)| picture(codec, n, n % 3 == 0, s)).collect();
        let received = transfer(&parameters, &units, max_payload, None);
        prop_assert_eq!(received.into_iter().map(stripped).collect::<Vec<_>>(), units.clone());
        if let Some(lost) = lost {
            // Nothing tells that the last packet of a stream's only unit is missing.
            let count = send(&parameters, &units, max_payload).0.len() - usize::from(units.len() == 1);
            for unit in transfer(&parameters, &units, max_payload, lost.checked_rem(count)) {
                prop_assert!(!unit.incomplete && units.iter().any(|u| u.pts == unit.pts && u.data == unit.data));
            }
        }
    }

    /// Several AAC frames in a packet, as FFmpeg sends them.
    #[test]
    fn any_aac_frames_together(sizes in proptest::collection::vec(1usize..600, 1..8)) {
        let config = AudioSpecificConfig::lc(48_000, 2);
        let mut parameters = Parameters::audio(Codec::Aac, 48_000, 2);
        parameters.extradata = config.build().unwrap();
        let mut payload = ((sizes.len() * 16) as u16).to_be_bytes().to_vec();
        payload.extend(sizes.iter().flat_map(|size| ((size << 3) as u16).to_be_bytes()));
        for (n, size) in sizes.iter().enumerate() {
            payload.extend(body(*size, n as u8));
        }
        let packet = RtpPacket {
            marker: true, payload_type: 96, sequence: 1, timestamp: 5, ssrc: 1, extension: None, payload: payload.into(),
        };
        let mut depacketizer = receiver(&parameters);
        depacketizer.push(&packet, Duration::ZERO);
        let received = crate::support::units(std::iter::from_fn(|| depacketizer.poll()).collect());
        prop_assert_eq!(received.len(), sizes.len());
        for (n, unit) in received.iter().enumerate() {
            prop_assert_eq!((unit.pts, unit.data.as_ref()), (5 + n as i64 * 1024, &body(sizes[n], n as u8)[..]));
        }
    }
}

//! Motion JPEG out of packets, into packets and back.

use bytes::Bytes;
use patchbay_media::{Codec, Parameters, Unit, jpeg};
use patchbay_rtp::packetize::Refused;
use patchbay_rtp::{Packetizer, Packets};
use proptest::prelude::*;

use crate::support::{Feed, hex, packets, parameters, units};

const MEDIA: &str = "m=video 0 RTP/AVP 26\r\n";

const PICTURE_420: &[u8] = include_bytes!("../data/testsrc-420.jpg");
const PICTURE_422: &[u8] = include_bytes!("../data/testsrc-422.jpg");

/// The scan of a grey picture: blocks with no coefficients. One MCU of 4:2:0 is 32 bits.
fn grey_420(mcus: usize) -> Vec<u8> {
    [0x28, 0xa2, 0x8a, 0x00].repeat(mcus)
}

/// The same in 4:2:2, 20 bits an MCU, padded with ones.
fn grey_422(mcus: usize) -> Vec<u8> {
    let pair = [0x28, 0xa0, 0x02, 0x8a, 0x00];
    let mut scan = pair.repeat(mcus / 2);
    if mcus % 2 == 1 {
        scan.extend([0x28, 0xa0, 0x0f]);
    }
    scan
}

/// A main header with quality 50.
fn header(offset: usize, kind: u8, width: u8, height: u8) -> Vec<u8> {
    let [_, o0, o1, o2] = (offset as u32).to_be_bytes();
    vec![0, o0, o1, o2, kind, 50, width, height]
}

/// Sends a whole scan in packets of at most 60000 bytes; its size as decoded, as announced in parameters and in the file.
fn size_of(feed: &mut Feed, kind: u8, width: u8, height: u8, scan: &[u8]) -> (u32, u32) {
    let count = scan.len().div_ceil(60_000);
    for (number, part) in scan.chunks(60_000).enumerate() {
        let payload = [header(number * 60_000, kind, width, height), part.to_vec()].concat();
        feed.bytes(0, number + 1 == count, &payload);
    }
    let items = feed.items();
    let found = units(items);
    let (file_width, file_height) = jpeg::size(&found[0].data).unwrap();
    let size = (u32::from(file_width), u32::from(file_height));
    let known = feed.depacketizer.parameters();
    assert_eq!((known.width, known.height), size);
    size
}

#[test]
fn k19_r60_sizes_by_counting() {
    let sizes = [
        // 640x480; 2560x1440 as 512x1440; 2592x1944 as 544x1944; 3840x2160 and 2304x1296 of known cameras.
        ((0x50, 0x3c), (640, 480)),
        ((0x40, 0xb4), (2560, 1440)),
        ((0x44, 0xf3), (2592, 1944)),
        ((0xe0, 0x0e), (3840, 2160)),
        ((0x20, 0xa2), (2304, 1296)),
        ((0x00, 0x80), (2048, 1024)),
    ];
    for ((width_field, height_field), (width, height)) in sizes {
        let mcus = |mcu_height: u32| (width / 16 * u32::div_ceil(height, mcu_height)) as usize;
        let found = size_of(&mut Feed::new(MEDIA), 1, width_field, height_field, &grey_420(mcus(16)));
        assert_eq!(found, (width, height), "4:2:0");
        let found = size_of(&mut Feed::new(MEDIA), 0, width_field, height_field, &grey_422(mcus(8)));
        assert_eq!(found, (width, height), "4:2:2");
    }
    assert_eq!((2560 / 16 * 1440 / 16, 512 / 16 * 1440 / 16, 3840 / 16 * 2160 / 16), (14_400, 2880, 32_400));
}

#[test]
fn r60_the_order_of_sources() {
    let scan = grey_420(2880);
    // A size in the extension, whatever the fields say.
    let mut feed = Feed::new(MEDIA);
    let extension = hex("ffc000110805a00a000301220002110103110100");
    feed.extension = Some((0xffd8, Bytes::from(extension)));
    assert_eq!(size_of(&mut feed, 1, 0, 0, &scan), (2560, 1440));
    // The SDP, when the fields can stand for it.
    let announced = "m=video 0 RTP/AVP 26\r\na=x-dimensions:2560,1440\r\n";
    assert_eq!(size_of(&mut Feed::new(announced), 1, 0x40, 0xb4, &scan), (2560, 1440));
    assert_eq!(size_of(&mut Feed::new(announced), 1, 0, 0, &scan), (2560, 1440));
    assert_eq!(
        size_of(&mut Feed::new(announced), 1, 80, 60, &grey_420(1200)),
        (640, 480),
        "an old announcement"
    );
    let announced = "m=video 0 RTP/AVP 26\r\na=framesize:26 2560-1440\r\n";
    assert_eq!(size_of(&mut Feed::new(announced), 1, 0x40, 0xb4, &scan), (2560, 1440));
    // The user.
    let mut feed = Feed::new(MEDIA);
    feed.depacketizer.set_size(2560, 1440);
    assert_eq!(size_of(&mut feed, 1, 0x40, 0xb4, &scan), (2560, 1440));
    // The list, when the scan cannot be counted.
    assert_eq!(size_of(&mut Feed::new(MEDIA), 1, 64, 180, &[0xff, 0x01, 0x02]), (2560, 1440));
    assert_eq!(size_of(&mut Feed::new(MEDIA), 1, 224, 14, &[0xff, 0x01, 0x02]), (3840, 2160));
}

#[test]
fn r60_counting_passes_restart_markers() {
    let mut scan = Vec::new();
    for number in 0..300u16 {
        scan.extend(grey_420(4));
        scan.extend([0xff, 0xd0 + (number % 8) as u8]);
    }
    let payload = [hex("00000000 41 32 50 3c 0004 ffff"), scan].concat();
    let mut feed = Feed::new(MEDIA);
    feed.bytes(0, true, &payload);
    assert_eq!(jpeg::size(&feed.units()[0].data), Ok((640, 480)));
}

/// Positions of a marker segment.
fn segment(file: &[u8], marker: u8) -> Option<usize> {
    file.windows(2).position(|pair| pair == [0xff, marker])
}

#[test]
fn k19_r62_one_table_serves_luma_and_chroma() {
    let mut feed = Feed::new(MEDIA);
    let table: Vec<u8> = (1..=64).collect();
    // As FFmpeg sends it: 64 bytes; then the second packet.
    let first = [hex("0000000001ff503c 00000040"), table.clone(), grey_420(600)].concat();
    let second = [hex("0000096001ff503c"), grey_420(600)].concat();
    feed.bytes(0, false, &first).bytes(0, true, &second);
    let file = feed.units().remove(0).data;
    let tables = file.windows(2).filter(|pair| *pair == [0xff, 0xdb]).count();
    let at = segment(&file, 0xdb).unwrap();
    assert_eq!((tables, &file[at + 5..at + 69]), (1, &table[..]));
    let frame = segment(&file, 0xc0).unwrap();
    assert_eq!((file[frame + 12], file[frame + 15], file[frame + 18]), (0, 0, 0), "all use table 0");
    assert!(file.ends_with(&[0xff, 0xd9]));
}

#[test]
fn r61_tables_are_cached_per_quality_but_not_for_255() {
    let scan = grey_420(1200);
    let picture = |quality: u8, len: u8, tables: &[u8]| {
        [&[0, 0, 0, 0, 1, quality, 80, 60, 0, 0, 0, len], tables, &scan].concat()
    };
    let mut feed = Feed::new(MEDIA);
    feed.bytes(0, true, &picture(200, 0, &[]));
    assert!(feed.units().is_empty(), "not known yet");
    feed.bytes(0, true, &picture(200, 128, &[9; 128])).bytes(3600, true, &picture(201, 128, &[5; 128]));
    feed.bytes(7200, true, &picture(200, 0, &[]));
    let files = feed.units();
    assert_eq!(files[0].data, files[2].data);
    assert_ne!(files[0].data, files[1].data);
    feed.bytes(0, true, &picture(255, 128, &[9; 128])).bytes(3600, true, &picture(255, 0, &[]));
    assert_eq!(feed.units().len(), 1);
}

#[test]
fn r62_tables_of_16_bits() {
    let mut wide = hex("0000000001c8503c 00030100");
    wide.extend([1, 0x2c].repeat(128));
    wide.extend(grey_420(1200));
    let mut feed = Feed::new(MEDIA);
    feed.bytes(0, true, &wide);
    let file = feed.units().remove(0).data;
    let at = segment(&file, 0xdb).unwrap();
    assert_eq!(&file[at + 2..at + 7], [0, 131, 0x10, 1, 0x2c]);
    assert!(segment(&file, 0xc1).is_some(), "no baseline frame");
}

#[test]
fn k19_r63_restart_intervals_and_odd_types() {
    let head = hex("0000000041ff503c 0004ffff 00000080");
    let payload = [head, vec![7; 128], grey_420(1200)].concat();
    let mut feed = Feed::new(MEDIA);
    feed.bytes(0, true, &payload);
    let file = feed.units().remove(0).data;
    let at = segment(&file, 0xdd).unwrap();
    assert_eq!(&file[at..at + 6], [0xff, 0xdd, 0, 4, 0, 4]);
    // Types above 1 are taken by their lowest bit.
    for (kind, sampling) in [(0, 0x21), (1, 0x22), (6, 0x21), (63, 0x22)] {
        feed.bytes(3600, true, &[header(0, kind, 8, 6), grey_420(12)].concat());
        let file = feed.units().remove(0).data;
        assert_eq!(file[segment(&file, 0xc0).unwrap() + 11], sampling, "type {kind}");
    }
}

#[test]
fn r64_a_lost_packet_costs_the_picture() {
    for lost in 0..3 {
        let mut feed = Feed::new(MEDIA);
        feed.bytes(0, true, &[header(0, 1, 40, 30), grey_420(300)].concat());
        assert_eq!(feed.units().len(), 1);
        for part in 0..3 {
            if part == lost {
                feed.skip(1);
            } else {
                feed.bytes(1800, part == 2, &[header(part * 400, 1, 40, 30), grey_420(100)].concat());
            }
        }
        feed.bytes(3600, true, &[header(0, 1, 40, 30), grey_420(300)].concat());
        let found = feed.units();
        assert_eq!((found.len(), found[0].pts, found[0].discontinuity), (1, 3600, true), "packet {lost}");
    }
    // No gap in the numbers, but in the offsets.
    let mut feed = Feed::new(MEDIA);
    feed.bytes(0, false, &[header(0, 1, 40, 30), grey_420(100)].concat());
    feed.bytes(0, true, &[header(404, 1, 40, 30), grey_420(100)].concat());
    assert!(feed.units().is_empty());
}

#[test]
fn r1_pictures_without_markers() {
    let mut feed = Feed::new(MEDIA);
    for frame in 0..3 {
        feed.bytes(frame * 3600, false, &[header(0, 1, 40, 30), grey_420(100)].concat());
        feed.bytes(frame * 3600, false, &[header(400, 1, 40, 30), grey_420(200)].concat());
    }
    assert_eq!(feed.units().len(), 2);
}

#[test]
fn r65_whole_files_missing_ends_and_padding() {
    let mut feed = Feed::new(MEDIA);
    feed.bytes(0, true, &[header(0, 1, 40, 30), PICTURE_420.to_vec()].concat());
    let items = feed.items();
    assert_eq!((parameters(&items)[0].width, parameters(&items)[0].height), (64, 48));
    assert_eq!(units(items)[0].data, PICTURE_420);
    for end in [&[][..], &[0xff, 0xd9], &[0xff, 0xd9, 0, 0, 0]] {
        feed.bytes(3600, true, &[&header(0, 1, 8, 6)[..], &grey_420(12), end].concat());
        let file = feed.units().remove(0).data;
        assert!(file.ends_with(&[0x8a, 0x00, 0xff, 0xd9]) || file.ends_with(&[0x8a, 0xff, 0xd9]), "{end:?}");
        assert!(!file.ends_with(&[0xff, 0xd9, 0xff, 0xd9]));
    }
}

fn packetizer(max_payload: usize) -> Packetizer {
    Packetizer::new(&Parameters::video(Codec::Mjpeg, 90_000), 26, 1, 0, 0, max_payload).unwrap()
}

/// What decides the picture: tables, frame header, restart interval and scan.
fn essence(file: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>, Vec<u8>) {
    let (mut tables, mut frame, mut rest) = (Vec::new(), Vec::new(), &file[2..]);
    loop {
        let (marker, len) = (rest[1], usize::from(u16::from_be_bytes([rest[2], rest[3]])));
        let body = &rest[4..2 + len];
        rest = &rest[2 + len..];
        match marker {
            0xdb => tables.extend(body.chunks(65).map(|table| table[1..].to_vec())),
            0xc0 => frame = [&body[..6], &[body[7], body[10], body[13]]].concat(),
            0xda => return (tables, frame, rest.to_vec()),
            _ => {}
        }
    }
}

#[test]
fn r67_real_pictures_there_and_back() {
    for picture in [PICTURE_420, PICTURE_422] {
        for max_payload in [256, 300, 1440, 65_000] {
            let unit = Unit::new(5000, true, Bytes::from_static(picture));
            let mut out = Packets::new(0);
            let count = packetizer(max_payload).packetize(&unit, None, &mut out);
            let sent = packets(&out);
            assert_eq!(sent.len(), count);
            assert!(sent.iter().all(|packet| packet.payload.len() <= max_payload));
            let mut feed = Feed::new(MEDIA);
            for packet in &sent {
                feed.bytes(packet.timestamp, packet.marker, &packet.payload);
            }
            let found = feed.units();
            let (tables, frame, scan) = essence(&found[0].data);
            let (mut own_tables, own_frame, own_scan) = essence(picture);
            // One table for all components is sent for luma and chroma.
            own_tables.resize(2, own_tables[0].clone());
            assert_eq!((tables, &frame[..6], scan), (own_tables, &own_frame[..6], own_scan));
            assert_eq!(found[0].pts, 5000);
        }
    }
}

#[test]
fn r67_large_pictures_name_their_size_in_an_extension() {
    let mut feed = Feed::new("m=video 0 RTP/AVP 26\r\na=x-dimensions:2560,1440\r\n");
    feed.bytes(0, true, &[header(0, 1, 0, 0), grey_420(14_400)].concat());
    let unit = feed.units().remove(0);
    let mut out = Packets::new(0);
    packetizer(1440).packetize(&unit, None, &mut out);
    let sent = packets(&out);
    assert_eq!(sent[0].payload[..8], [0, 0, 0, 0, 1, 255, 0, 0]);
    assert!(
        sent[0].extension.as_ref().is_some_and(|(id, data)| *id == 0xffd8 && data.starts_with(&[0xff, 0xc0]))
    );
    assert!(sent[1..].iter().all(|packet| packet.extension.is_none()));
    let mut feed = Feed::new(MEDIA);
    for packet in sent {
        feed.extension = packet.extension;
        feed.bytes(packet.timestamp, packet.marker, &packet.payload);
    }
    assert_eq!(feed.units()[0].data, unit.data);
}

/// The same coefficients in both, by FFmpeg 5 (`-huffman optimal` and `default`) and by Pillow (`optimize`; the last with
/// restart markers).
const RECODED: [(&[u8], &[u8]); 3] = [
    (include_bytes!("../data/huffman-own-420.jpg"), include_bytes!("../data/huffman-standard-420.jpg")),
    (include_bytes!("../data/huffman-own-422.jpg"), include_bytes!("../data/huffman-standard-422.jpg")),
    (
        include_bytes!("../data/huffman-own-restart.jpg"),
        include_bytes!("../data/huffman-standard-restart.jpg"),
    ),
];

/// What receivers make of a file.
fn sent(file: Bytes) -> Option<Bytes> {
    let mut out = Packets::new(0);
    packetizer(1440).packetize(&Unit::new(0, true, file), None, &mut out);
    let mut feed = Feed::new(MEDIA);
    for packet in packets(&out) {
        feed.bytes(packet.timestamp, packet.marker, &packet.payload);
    }
    feed.units().first().map(|unit| unit.data.clone())
}

#[test]
fn r67_own_huffman_tables_become_the_standard_ones() {
    for (own, standard) in RECODED {
        assert_ne!(own, standard);
        let (own, standard) = (sent(Bytes::from_static(own)), sent(Bytes::from_static(standard)));
        assert!(own.is_some());
        assert_eq!(own, standard);
    }
}

#[test]
fn r67_a_scan_that_is_cut_is_sent_as_far_as_it_goes() {
    let (own, standard) = RECODED[2];
    let at = own.windows(2).rposition(|pair| pair == [0xff, 0xd3]).unwrap();
    let (cut, whole) =
        (sent(Bytes::from_static(&own[..at])).unwrap(), sent(Bytes::from_static(standard)).unwrap());
    let same = cut.iter().zip(&whole).take_while(|(a, b)| a == b).count();
    assert!(same + 4 > cut.len() && same > whole.len() / 8, "{same} of {} of {}", cut.len(), whole.len());
}

#[test]
fn r67_other_jpegs_are_not_sent() {
    let replaced = |from: &[u8], to: &[u8]| {
        let mut file = PICTURE_420.to_vec();
        let at = file.windows(from.len()).position(|w| w == from).unwrap();
        file[at..at + to.len()].copy_from_slice(to);
        file
    };
    let files = [
        replaced(&[0xff, 0xc0], &[0xff, 0xc2]),
        replaced(&[0x22, 0x00], &[0x11, 0x00]),
        replaced(&[0xff, 0xc4, 0x01, 0xa2, 0x00, 0x00], &[0xff, 0xc4, 0x01, 0xa2, 0x00, 0x01]),
        PICTURE_420[..100].to_vec(),
        Vec::new(),
    ];
    let mut refused = Vec::new();
    for file in files {
        let mut out = Packets::new(0);
        let unit = Unit::new(0, true, file.into());
        let mut packetizer = packetizer(1440);
        assert_eq!(packetizer.packetize(&unit, None, &mut out), 0);
        assert!(out.is_empty());
        refused.push(packetizer.refused().unwrap());
    }
    use Refused::{Damaged, JpegIsProgressive, JpegSampling};
    assert_eq!(refused, [JpegIsProgressive, JpegSampling, Damaged, Damaged, Damaged]);
}

proptest! {
    #[test]
    fn hurt_scans_never_panic(which in 0usize..3, at: proptest::sample::Index, hurt: Vec<u8>) {
        let (own, _) = RECODED[which];
        let mut file = own.to_vec();
        let at = at.index(file.len());
        let end = (at + hurt.len()).min(file.len());
        file[at..end].copy_from_slice(&hurt[..end - at]);
        sent(file.into());
    }

    #[test]
    fn any_file_never_panics(mut data: Vec<u8>, start in 0usize..900, keep: bool) {
        if keep {
            let at = start.min(PICTURE_420.len());
            data = [&PICTURE_420[..at], &data].concat();
        }
        let mut out = Packets::new(0);
        packetizer(300).packetize(&Unit::new(0, true, data.into()), None, &mut out);
    }
}

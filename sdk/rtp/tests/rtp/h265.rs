//! H.265 out of packets.

use patchbay_media::h265::parse_hvcc;

use crate::support::{Feed, H265, data, hex, parameters, units};

/// IDR_W_RADL and TRAIL_R with first_slice_segment_in_pic_flag set, and a second slice.
const KEY: &str = "2601810203";
const KEY_UNIT: &str = "000000052601810203";
const TRAIL: &str = "0201d001";

fn started() -> Feed {
    let mut feed = Feed::new(H265);
    feed.hex(0, true, KEY);
    assert_eq!(feed.units().len(), 1);
    feed
}

#[test]
fn k13_r30_aggregates_and_fragments() {
    let mut feed = Feed::new(H265);
    feed.depacketizer.keep_incomplete();
    feed.hex(9, false, "6001000440010c0100044201010100044401c172");
    feed.hex(9, false, "620193010203").hex(9, false, "620113040506").hex(9, true, "620153070809");
    assert_eq!(data(&feed.units()), ["0000000b2601010203040506070809"]);
}

/// The parameter sets of a real Dahua camera (tests/data/dahua_h265_pcma.sdp) in an aggregate.
#[test]
fn r32_sets_from_the_stream() {
    let media = crate::support::media_of(include_str!("../data/dahua_h265_pcma.sdp"));
    let known = media.parameters().unwrap();
    let sets = parse_hvcc(&known.extradata).unwrap();
    let mut aggregate = hex("6001");
    for set in [&sets.vps[0], &sets.sps[0], &sets.pps[0]] {
        aggregate.extend((set.len() as u16).to_be_bytes());
        aggregate.extend_from_slice(set);
    }
    let mut feed = Feed::new(H265);
    feed.bytes(0, true, &aggregate).hex(0, true, KEY);
    let items = feed.items();
    assert_eq!(parameters(&items), [known]);
    assert_eq!(data(&units(items)), [KEY_UNIT]);
}

#[test]
fn r31_whole_fragments_and_skipped_types() {
    let mut feed = started();
    feed.hex(3600, true, "6201d3810203");
    // PACI and undefined types.
    feed.hex(7200, false, "640101020304").hex(7200, false, "7e0101020304").hex(7200, true, KEY);
    assert_eq!(data(&feed.units()), [KEY_UNIT, KEY_UNIT]);
    assert_eq!(feed.depacketizer.faults().malformed_packets, 2);
}

#[test]
fn r34_irap_types_are_keys_and_type_0_is_valid() {
    let mut feed = started();
    for (frame, kind) in (16u8..=21).chain([0, 1, 9]).enumerate() {
        feed.bytes(3600 * (frame as u32 + 1), true, &[kind << 1, 1, 0x80, 1]);
    }
    let keys: Vec<bool> = feed.units().iter().map(|unit| unit.key).collect();
    assert_eq!(keys, [true, true, true, true, true, true, false, false, false]);
}

#[test]
fn r34_rasl_pictures_are_dropped_when_joining_at_a_cra_and_only_then() {
    const CRA: &str = "2a01810203";
    const RASL: &str = "1001d001";
    const RADL: &str = "0e01d001";
    let send = |feed: &mut Feed, from: u32| {
        for (frame, payload) in [CRA, RASL, RADL, RASL, TRAIL].iter().enumerate() {
            feed.hex((from + frame as u32) * 3600, true, payload);
        }
        let found = feed.units();
        (found.len(), found.iter().filter(|unit| unit.discontinuity).count())
    };
    let mut feed = Feed::new(H265);
    assert_eq!(send(&mut feed, 0), (3, 2), "joined here");
    assert_eq!(send(&mut feed, 5), (5, 0), "the pictures before are there");
    feed.skip(1);
    assert_eq!(send(&mut feed, 10), (3, 3), "after a loss");
}

#[test]
fn r35_slices_of_one_picture() {
    let mut feed = started();
    for frame in 1..3u32 {
        feed.hex(3600 * frame, false, TRAIL).hex(3600 * frame, false, "02015002");
    }
    assert_eq!(data(&feed.finish()), ["000000040201d0010000000402015002"; 2]);
    // Equal times: the flag alone tells pictures apart.
    feed.hex(9000, false, TRAIL).hex(9000, false, "02015002").hex(9000, false, TRAIL);
    assert_eq!(feed.finish().len(), 2);
}

#[test]
fn r36_suffix_sei_belongs_to_the_picture_before() {
    let mut feed = started();
    // Delimiter and prefix SEI carry the marker, suffix SEI ends its picture.
    feed.hex(3600, true, "460150").hex(3600, true, "4e01050102").hex(3600, false, TRAIL).hex(
        3600,
        true,
        "5001050102",
    );
    feed.hex(7200, true, TRAIL);
    let expected = "000000054e01050102000000040201d001000000055001050102";
    assert_eq!(data(&feed.units()), [expected, "000000040201d001"]);
}

#[test]
fn r2_lose_each_packet_in_turn() {
    // Key, reference, and a sub-layer picture that nobody needs, each in three fragments.
    let kinds = [19u8, 1, 0, 1, 19, 1, 0, 1];
    let packets: Vec<(u32, bool, Vec<u8>)> = (0..kinds.len() * 3)
        .map(|number| {
            let (frame, part) = (number / 3, number % 3);
            let flags = [0x80, 0, 0x40][part];
            let body = if part == 0 { 0x80 } else { 1 + number as u8 };
            let payload = vec![0x62, 1, flags | kinds[frame], body, 1 + number as u8];
            (frame as u32 * 3600, part == 2, payload)
        })
        .collect();
    let send = |lost: Option<usize>| {
        let mut feed = Feed::new(H265);
        for (number, (timestamp, marker, payload)) in packets.iter().enumerate() {
            if Some(number) == lost {
                feed.skip(1);
            } else {
                feed.bytes(*timestamp, *marker, payload);
            }
        }
        feed.finish()
    };
    let whole = send(None);
    assert_eq!(whole.len(), 8);
    for lost in 0..packets.len() {
        let frame = lost / 3;
        let units = send(Some(lost));
        for unit in &units {
            let index = usize::try_from(unit.pts).unwrap() / 3600;
            assert_eq!(unit.data, whole[index].data, "{lost}");
            let end = if frame < 4 { 4 } else { 8 };
            assert!(index < frame || index >= end || kinds[frame] == 0 && index != frame, "{lost}: {index}");
        }
    }
}

//! H.264 out of packets. The NAL units of K12: an SPS that nothing can read, a PPS and an IDR slice.

use patchbay_media::h264::parse_avcc;
use patchbay_rtp::Item;

use crate::support::{Feed, H264, data, hex, parameters};

const SETS: &str = "7800046742e01f000468ce3c80";
const IDR: &str = "65010203040506070809";
/// A first slice (first_mb_in_slice 0) has its top bit set.
const KEY: &str = "6588010203";
const KEY_UNIT: &str = "000000056588010203";

/// A feed that had its first key unit.
fn started() -> Feed {
    let mut feed = Feed::new(H264);
    feed.hex(0, true, KEY);
    assert_eq!(feed.units().len(), 1);
    feed
}

#[test]
fn k12a_k12b_sets_together_and_fragments() {
    let mut feed = Feed::new(H264);
    feed.hex(9, false, SETS);
    feed.hex(9, false, "7c85810203").hex(9, false, "7c05040506").hex(9, true, "7c45070809");
    let items = feed.items();
    let sets = parse_avcc(&parameters(&items)[0].extradata).unwrap();
    assert_eq!((sets.sps[0].as_ref(), sets.pps[0].as_ref()), (&hex("6742e01f")[..], &hex("68ce3c80")[..]));
    let units = crate::support::units(items);
    assert_eq!(data(&units), ["0000000a65810203040506070809"]);
    assert!(units[0].key && !units[0].incomplete && !units[0].discontinuity);
}

#[test]
fn k12_the_vectors_byte_for_byte() {
    let mut feed = Feed::new(H264);
    feed.depacketizer.keep_incomplete();
    feed.hex(9, false, SETS);
    feed.hex(9, false, "7c85010203").hex(9, false, "7c05040506").hex(9, true, "7c45070809");
    assert_eq!(data(&feed.units()), [format!("0000000a{IDR}")]);
}

#[test]
fn k12c_r12_glued_in_one_packet() {
    let mut feed = Feed::new(H264);
    feed.hex(9, true, "6742e01f0000000168ce3c800000000165810203040506070809");
    assert_eq!(data(&feed.units()), ["0000000a65810203040506070809"]);
}

#[test]
fn r12_glued_in_fragments_and_aggregates_and_a_leading_start_code() {
    let mut feed = Feed::new(H264);
    // Fragments whose inside is a byte stream of its own.
    feed.hex(9, false, "7c870000000167 42e01f00").hex(9, false, "7c07000001 68ce3c80 0000").hex(
        9,
        true,
        "7c470001 6588010203",
    );
    assert_eq!(data(&feed.units()), [KEY_UNIT]);
    // Fragments of an SPS that the other units are glued to.
    feed.hex(3609, false, "7c8742e01f00").hex(3609, true, "7c47000001 68ce3c80 000001 6588010203");
    assert_eq!(data(&feed.units()), [KEY_UNIT]);
    let glued = "6742e01f 00000001 68ce3c80 000001 6588010203";
    let len = hex(glued).len();
    feed.hex(7209, true, &format!("78{len:04x}{glued}"));
    feed.hex(10809, true, &format!("00000001{KEY}"));
    feed.hex(14409, true, &format!("000001{KEY}"));
    assert_eq!(data(&feed.units()), [KEY_UNIT, KEY_UNIT, KEY_UNIT]);
}

#[test]
fn k12d_r13_start_and_end_in_one_fragment() {
    let mut feed = Feed::new(H264);
    feed.hex(0, false, SETS).hex(0, true, "7cc5810203040506070809");
    assert_eq!(data(&feed.units()), ["0000000a65810203040506070809"]);
}

#[test]
fn r13_odd_fragments() {
    let mut feed = started();
    // The type of later fragments differs, one is empty, the reserved bit is set.
    feed.hex(3600, false, "7ca58801")
        .hex(3600, false, "7c01")
        .hex(3600, false, "7c0102")
        .hex(3600, true, "7c4103");
    assert_eq!(data(&feed.units()), [KEY_UNIT]);
    // No end bit: the marker, the next start or the next packet ends it.
    feed.hex(7200, false, "7c858801").hex(7200, true, "7c050203");
    assert_eq!(data(&feed.units()), [KEY_UNIT]);
    feed.hex(10_800, false, "7c858801").hex(10_800, false, "7c050203").hex(14_400, true, KEY);
    assert_eq!(data(&feed.units()), [KEY_UNIT, KEY_UNIT]);
    feed.hex(18_000, false, "7c858801").hex(18_000, false, "7c050203").hex(18_000, true, "7cc50411");
    assert_eq!(data(&feed.units()), ["00000005658801020300000003650411"]);
    // No start: nothing until a start, and it counts as lost.
    feed.hex(21_600, false, "7c050203").hex(21_600, true, "7c450405");
    feed.hex(25_200, true, "419a01").hex(28_800, true, KEY);
    let units = feed.units();
    assert_eq!(data(&units), [KEY_UNIT]);
    assert!(units[0].discontinuity);
}

#[test]
fn r14_aggregates_that_end_early() {
    let mut feed = started();
    // Padding behind an entry of size zero; a size past the end.
    feed.hex(3600, true, &format!("780005{KEY}0000000000"));
    feed.hex(7200, true, &format!("780005{KEY}00ff0102"));
    assert_eq!(data(&feed.units()), [KEY_UNIT, KEY_UNIT]);
    assert_eq!(feed.depacketizer.faults().malformed_packets, 1);
}

#[test]
fn r15_other_types_are_skipped_and_counted() {
    let mut feed = started();
    for kind in [0u8, 25, 26, 27, 29, 30, 31] {
        feed.bytes(3600, false, &[0x60 | kind, 1, 2, 3]);
    }
    feed.hex(3600, true, KEY);
    assert_eq!(data(&feed.units()), [KEY_UNIT]);
    assert_eq!(feed.depacketizer.faults().malformed_packets, 7);
}

#[test]
fn r16_trailing_zeros_are_cut() {
    let mut feed = started();
    feed.hex(3600, true, &format!("{KEY}000000"));
    assert_eq!(data(&feed.units()), [KEY_UNIT]);
}

#[test]
fn r17_an_unreadable_sps_still_plays() {
    let mut feed = Feed::new(H264);
    feed.hex(9, false, SETS).hex(9, true, KEY);
    let items = feed.items();
    assert_eq!((parameters(&items)[0].width, crate::support::units(items).len()), (0, 1));
}

#[test]
fn r1_without_markers_the_same_units() {
    let send = |marker: bool| {
        let mut feed = Feed::new(H264);
        for frame in 0..6u32 {
            let timestamp = frame * 3600;
            if frame % 3 == 0 {
                feed.hex(timestamp, false, SETS)
                    .hex(timestamp, false, "7c8588")
                    .hex(timestamp, false, "7c0501");
                feed.hex(timestamp, marker, "7c450203");
            } else {
                // Two slices: macroblock 0, then another.
                feed.hex(timestamp, false, "419a01").hex(timestamp, marker, "415a02");
            }
        }
        feed.finish()
    };
    let units = send(true);
    assert_eq!(units.len(), 6);
    assert_eq!(units, send(false));
}

#[test]
fn r1_equal_times_without_markers_are_cut_at_first_slices() {
    let mut feed = started();
    for _ in 0..3 {
        feed.hex(3600, false, KEY);
    }
    let units = feed.finish();
    assert_eq!(data(&units), [KEY_UNIT; 3]);
    assert!(units.windows(2).all(|w| w[1].pts > w[0].pts));
}

#[test]
fn r1_a_marker_on_every_slice_stops_being_believed() {
    let mut feed = started();
    for frame in 1..4u32 {
        feed.hex(frame * 3600, true, KEY).hex(frame * 3600, true, "655a02");
    }
    let units = feed.finish();
    let last = data(&units).pop().unwrap();
    assert_eq!(last, format!("{KEY_UNIT}00000003655a02"), "both slices in one unit");
    assert!(units.iter().all(|unit| !unit.incomplete));
}

#[test]
fn r10_sets_and_sei_never_close_a_unit() {
    // Markers, and other times, on SPS, PPS, SEI and delimiter (Tapo TC70, Reolink Duo 2).
    let mut feed = started();
    feed.hex(3590, true, "6742e01f")
        .hex(3595, true, "68ce3c80")
        .hex(3599, true, "0605010203")
        .hex(3600, true, KEY);
    feed.hex(7200, true, "09f0").hex(7200, true, "419a01");
    let units = feed.units();
    assert_eq!(data(&units), [format!("000000050605010203{KEY_UNIT}"), "00000003419a01".into()]);
    assert_eq!((units[0].pts, units[1].pts), (3600, 7200));
}

#[test]
fn r11_r19_order_of_amcrest_and_slices_of_all_kinds() {
    let mut feed = Feed::new(H264);
    feed.hex(0, false, "09f0").hex(0, false, "6742e01f").hex(0, false, "68ce3c80").hex(
        0,
        false,
        "0605010203",
    );
    // A slice alone, two in an aggregate, one in fragments.
    feed.hex(0, false, KEY).hex(0, false, "78 0003 655a02 0003 655a03");
    feed.hex(0, false, "7c855a").hex(0, true, "7c4504");
    let expected = format!("000000050605010203{KEY_UNIT}00000003655a0200000003655a0300000003655a04");
    assert_eq!(data(&feed.units()), [expected]);
}

#[test]
fn k12e_two_units_in_an_aggregate_of_importance_zero() {
    let mut feed = started();
    feed.hex(3600, true, "18 0004 6742e01f 0005 6588010203");
    assert_eq!(data(&feed.units()), [KEY_UNIT]);
}

#[test]
fn r18_recovery_points_are_keys() {
    let mut feed = Feed::new(H264);
    // SEI 6, one byte: recovery_frame_cnt 0, exact match; then a slice that is not IDR.
    feed.hex(0, false, "060601c480").hex(0, true, "419a01").hex(3600, true, "419a02");
    let units = feed.units();
    assert_eq!(units.iter().map(|unit| unit.key).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn r18_a_stream_without_any_key_comes_through_after_5_s() {
    let mut feed = Feed::new(H264);
    for frame in 0..150u32 {
        feed.hex(frame * 3600, true, "419a01");
    }
    let units = feed.units();
    assert_eq!((units.len(), units[0].pts, units[0].discontinuity), (25, 450_000, true));
    assert!(units[1..].iter().all(|unit| !unit.discontinuity));
}

/// Key, two references and one picture that nobody needs, each in three slices and packets.
fn group() -> Vec<(u32, bool, String)> {
    let mut packets = Vec::new();
    for frame in 0..8u32 {
        let head = match frame % 4 {
            0 => 0x65,
            3 => 0x01,
            _ => 0x41,
        };
        for slice in 0..3u8 {
            let first = if slice == 0 { 0x9a } else { 0x5a };
            let payload = format!("{head:02x}{first:02x}{:02x}", frame as u8 * 8 + slice + 1);
            packets.push((frame * 3600, slice == 2, payload));
        }
    }
    packets
}

#[test]
fn r2_lose_each_packet_in_turn() {
    let packets = group();
    let send = |lost: Option<usize>, keep: bool, markers: bool| {
        let mut feed = Feed::new(H264);
        if keep {
            feed.depacketizer.keep_incomplete();
        }
        for (number, (timestamp, marker, payload)) in packets.iter().enumerate() {
            if Some(number) == lost {
                feed.skip(1);
            } else {
                feed.hex(*timestamp, *marker && markers, payload);
            }
        }
        feed.finish()
    };
    let whole = send(None, false, true);
    assert_eq!(whole.len(), 8);
    for markers in [true, false] {
        // That the very last packet is missing only its marker could tell.
        for lost in 0..packets.len() - usize::from(!markers) {
            let frame = lost / 3;
            let units = send(Some(lost), false, markers);
            let kept: Vec<usize> =
                units.iter().map(|unit| usize::try_from(unit.pts).unwrap() / 3600).collect();
            // Nothing incomplete, nothing altered, nothing that needs what is missing.
            for unit in &units {
                let frame = usize::try_from(unit.pts).unwrap() / 3600;
                assert_eq!(unit.data, whole[frame].data);
                assert!(!unit.incomplete);
            }
            assert!(!kept.contains(&frame), "{lost}: {kept:?}");
            if frame % 4 != 3 {
                let end = if frame < 4 { 4 } else { 8 };
                assert!(kept.iter().all(|k| *k < frame || *k >= end), "{lost}: {kept:?}");
            }
            let after = units.iter().find(|unit| unit.pts > frame as i64 * 3600);
            assert!(after.is_none_or(|unit| unit.discontinuity), "{lost}: marked");

            // Kept when asked, and marked.
            let units = send(Some(lost), true, markers);
            for unit in &units {
                let frame = usize::try_from(unit.pts).unwrap() / 3600;
                assert!(unit.incomplete || unit.data == whole[frame].data, "{lost}: broken and unmarked");
            }
            assert!(units.len() >= 7);
        }
    }
}

#[test]
fn r2_a_loss_within_a_picture_nobody_needs_costs_only_it() {
    let mut feed = Feed::new(H264);
    for (number, (timestamp, marker, payload)) in group().iter().enumerate() {
        if number == 10 {
            feed.skip(1);
        } else {
            feed.hex(*timestamp, *marker, payload);
        }
    }
    assert_eq!(feed.finish().len(), 7);
    assert_eq!(feed.depacketizer.faults().lost_packets, 1);
}

#[test]
fn lost_packets_are_told() {
    let mut feed = started();
    feed.skip(5).hex(3600, true, KEY);
    assert_eq!(feed.items()[0], Item::Lost { packets: 5 });
}

#[test]
fn x10_a_unit_over_8_mib_is_dropped() {
    let mut feed = started();
    let slice = |fill: u8| {
        let mut body = vec![fill; 60_000];
        body[0] = 0x7c;
        body[1] = 0x05;
        body
    };
    for mebibytes in [79, 81] {
        feed.hex(3600 * mebibytes, false, "7c8588");
        let fragments = (mebibytes as usize * (1 << 20) / 10) / 59_998;
        for _ in 0..fragments {
            feed.bytes(3600 * mebibytes, false, &slice(0x11));
        }
        let mut end = slice(0x11);
        end[1] = 0x45;
        feed.bytes(3600 * mebibytes, true, &end);
    }
    feed.hex(3600 * 90, true, KEY);
    let units = feed.units();
    assert_eq!(units.len(), 2, "7.9 MiB passes, 8.1 MiB does not");
    assert!(units[0].data.len() > 7_800_000 && units[1].discontinuity);
    assert_eq!(feed.depacketizer.faults().dropped_units, 1);
}

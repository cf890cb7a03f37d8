use super::*;
use proptest::prelude::*;

fn read(data: &[u8], piece: usize) -> Result<Vec<Message>, Error> {
    let mut reader = Reader::new();
    reader.allow_media();
    let mut messages = Vec::new();
    for piece in data.chunks(piece) {
        reader.push(piece);
        while let Some(message) = reader.poll()? {
            messages.push(message);
        }
    }
    Ok(messages)
}

fn hex(text: &str) -> Vec<u8> {
    let text: String = text.split_whitespace().collect();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn shape(messages: &[Message]) -> Vec<(u8, u32, usize)> {
    messages.iter().map(|m| (m.kind, m.timestamp, m.payload.len())).collect()
}

/// 130 bytes at 0x01000005 on chunk stream 6 in chunks of 128.
#[test]
fn extended_times_stand_in_every_chunk() {
    let body = [7; 130];
    let expected =
        [hex("06ffffff000082090100000001000005"), vec![7; 128], hex("c601000005"), vec![7; 2]].concat();
    let mut out = BytesMut::new();
    write(6, (9, 0x0100_0005, 1), &[&body[..50], &body[50..]], 128, &mut out);
    assert_eq!(out, expected);
    // A sender that does not repeat it.
    let short = [&expected[..144], &[0xc6], &expected[149..]].concat();
    for (data, piece) in [(&expected, 1), (&expected, 1_000), (&short, 1), (&short, 1_000)] {
        let messages = read(data, piece).unwrap();
        let message =
            Message { kind: 9, timestamp: 0x0100_0005, stream_id: 1, payload: body.to_vec().into() };
        assert_eq!(messages, [message]);
    }
}

#[test]
fn the_four_types_of_headers() {
    let data = hex("
        04 0003e8 000001 08 01000000 aa
        c4 bb
        44 000014 000002 09 cccc
        84 000005 dddd
        c4 eeee
        04 000000 000001 08 01000000 ff");
    for piece in [1, 3, 100] {
        assert_eq!(
            shape(&read(&data, piece).unwrap()),
            // Type 3 behind type 0 steps by the absolute time, behind the others by their step.
            [(8, 1_000, 1), (8, 2_000, 1), (9, 2_020, 2), (9, 2_025, 2), (9, 2_030, 2), (8, 0, 1)]
        );
    }
    // Steps may go back.
    let data = hex("04 000064 000001 08 01000000 aa  44 ffffff 000001 08 ffffff9c bb");
    assert_eq!(shape(&read(&data, 5).unwrap()), [(8, 100, 1), (8, 0, 1)]);
}

#[test]
fn chunk_streams_have_one_two_or_three_bytes() {
    let data = hex("3f 000001 000001 08 01000000 aa
        00 00 000002 000001 08 01000000 aa  00 ff 000003 000001 08 01000000 aa
        01 00ff 000004 000001 08 01000000 aa  c0 ff bb");
    let times: Vec<u32> = read(&data, 1).unwrap().iter().map(|m| m.timestamp).collect();
    assert_eq!(times, [1, 2, 3, 4, 6]);
}

#[test]
fn messages_interleave() {
    let (a, b) = ([1; 200], [2; 300]);
    let mut data = hex("04 000000 0000c8 08 01000000");
    data.extend(&a[..128]);
    data.extend(hex("06 000000 00012c 09 01000000"));
    data.extend(&b[..128]);
    data.extend(hex("02 000000 000004 04 00000000 00000000"));
    data.push(0xc4);
    data.extend(&a[128..]);
    data.push(0xc6);
    data.extend(&b[128..256]);
    data.push(0xc6);
    data.extend(&b[256..]);
    for piece in [1, 64, 1_000] {
        assert_eq!(shape(&read(&data, piece).unwrap()), [(4, 0, 4), (8, 0, 200), (9, 0, 300)]);
    }
}

#[test]
fn chunk_sizes_and_aborts() {
    // 4096, then a message in one chunk.
    let mut data = hex("02 000000 000004 01 00000000 00001000  04 000000 0000c8 08 01000000");
    data.extend([1; 200]);
    assert_eq!(shape(&read(&data, 7).unwrap()), [(8, 0, 200)]);
    // Half a message, dropped.
    let mut data = hex("04 000000 0000c8 08 01000000");
    data.extend([1; 128]);
    data.extend(hex("02 000000 000004 02 00000000 00000004  04 000000 000001 08 01000000 aa"));
    assert_eq!(shape(&read(&data, 7).unwrap()), [(8, 0, 1)]);
    assert_eq!(read(&hex("02 000000 000004 01 00000000 00000000"), 100), Err(Error::ChunkSize));
}

#[test]
fn limits() {
    assert_eq!(read(&hex("c4 00"), 1), Err(Error::NoHeader { kind: 3, id: 4 }));
    let long = hex("04 000000 ffffff 08 01000000");
    assert_eq!(read(&long, 100), Err(Error::TooLong { size: 0xff_ffff, max: MAX_MESSAGE_BYTES }));
    let mut early = Reader::new();
    early.push(&hex("04 000000 010001 08 01000000"));
    assert_eq!(early.poll(), Err(Error::TooLong { size: 65_537, max: MAX_EARLY_MESSAGE_BYTES }));
    let many: Vec<u8> =
        (0..=MAX_CHUNK_STREAMS).flat_map(|i| [0, i as u8, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0]).collect();
    assert_eq!(read(&many, 100), Err(Error::TooManyStreams));
    // Messages of 10 MiB, half of each, on one chunk stream after the other.
    let mut reader = Reader::new();
    reader.allow_media();
    reader.push(&hex("02 000000 000004 01 00000000 00500000"));
    let mut results = Vec::new();
    for id in 4..9 {
        reader.push(&[&[id][..], &hex("000000 a00000 09 01000000"), &vec![0; 5 << 20]].concat());
        results.push(reader.poll());
    }
    assert_eq!(results, [Ok(None), Ok(None), Ok(None), Ok(None), Err(Error::TooMuch)]);
}

#[test]
fn buffers_are_timed_anew() {
    let (a, b) = (vec![1; 300], vec![2; 70]);
    let mut both = BytesMut::new();
    write(6, (9, 1_000, 1), &[&a], 128, &mut both);
    let first = both.len();
    write(4, (8, 1_000, 1), &[&b], 128, &mut both);
    let header = retimed_header(&both, 77).unwrap();
    let patched = [&header[..], &both[HEADER_BYTES..first]].concat();
    assert_eq!(shape(&read(&patched, 1_000).unwrap()), [(9, 77, 300)]);
    for time in [0, EXTENDED - 1, EXTENDED, u32::MAX] {
        let mut again = BytesMut::new();
        retime(&both, time, 128, &mut again);
        let messages = read(&again, 1_000).unwrap();
        assert_eq!(shape(&messages), [(9, time, 300), (8, time, 70)]);
        assert_eq!((&messages[0].payload[..], &messages[1].payload[..]), (&a[..], &b[..]));
    }
}

proptest! {
    #[test]
    fn messages_round_trip(
        messages in proptest::collection::vec((2_u8..64, any::<u8>(), any::<u32>(), 0_usize..700), 1..8),
        chunk_bytes in 1_usize..400, piece in 1_usize..300,
    ) {
        let mut out = BytesMut::new();
        write(2, (1, 0, 0), &[&(chunk_bytes as u32).to_be_bytes()], 128, &mut out);
        let mut expected = Vec::new();
        for (id, kind, timestamp, size) in messages {
            let kind = kind.max(3);
            let payload: Vec<u8> = (0..size).map(|i| i as u8 ^ kind).collect();
            write(id, (kind, timestamp, 1), &[&payload], chunk_bytes, &mut out);
            expected.push(Message { kind, timestamp, stream_id: 1, payload: payload.into() });
        }
        prop_assert_eq!(read(&out, piece).unwrap(), expected);
    }

    #[test]
    fn any_bytes_never_panic(data: Vec<u8>, piece in 1_usize..50) {
        let _ = read(&data, piece);
    }
}

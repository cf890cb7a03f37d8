//! Packetized elementary streams: headers and times. ISO/IEC 13818-1 2.4.3.6.

use bytes::{BufMut, BytesMut};

/// `stream_id` of the first video stream.
pub(super) const ID_VIDEO: u8 = 0xe0;
/// `stream_id` of the first audio stream.
pub(super) const ID_AUDIO: u8 = 0xc0;
/// `stream_id` of `private_stream_1`.
pub(super) const ID_PRIVATE: u8 = 0xbd;
/// Times have 33 bits.
pub(super) const WRAP: i64 = 1 << 33;

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Header {
    /// Bytes of the header.
    pub size: usize,
    /// Bytes behind the header; `None`: until the next packet starts.
    pub payload: Option<usize>,
    pub pts: Option<u64>,
    pub dts: Option<u64>,
}

/// What the bytes at the start of a PES packet are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed {
    Header(Header),
    More,
    Bad,
}

/// Reads a header.
pub(super) fn parse(data: &[u8]) -> Parsed {
    if !data.starts_with(&[0, 0, 1]) {
        return if [0, 0, 1].starts_with(data) { Parsed::More } else { Parsed::Bad };
    }
    let Some(([_, _, _, id, l0, l1], rest)) = data.split_first_chunk::<6>() else { return Parsed::More };
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    // These have no further header: padding, maps, private 2, ECM and the like.
    if matches!(id, 0xbc | 0xbe | 0xbf | 0xf0..=0xf2 | 0xf8 | 0xff) {
        return Parsed::Bad;
    }
    let Some(([flags, what, header_length], rest)) = rest.split_first_chunk::<3>() else {
        return Parsed::More;
    };
    if flags & 0xc0 != 0x80 {
        return Parsed::Bad;
    }
    let header_length = usize::from(*header_length);
    let Some(fields) = rest.get(..header_length) else { return Parsed::More };
    let payload = match length {
        0 => None,
        // Shorter than its own header: as if it did not say.
        length => length.checked_sub(3 + header_length),
    };
    let pts = if what & 0x80 != 0 { fields.first_chunk::<5>().and_then(time) } else { None };
    let dts = if what & 0xc0 == 0xc0 {
        fields.get(5..).and_then(|f| f.first_chunk::<5>()).and_then(time)
    } else {
        None
    };
    Parsed::Header(Header { size: 9 + header_length, payload, pts, dts })
}

/// Writes a header. Without `payload` bytes the length stays open, which only video may do.
pub(super) fn build(id: u8, payload: Option<usize>, pts: i64, dts: i64, out: &mut BytesMut) {
    let (what, times) = if pts == dts { (0x80, 5) } else { (0xc0, 10) };
    let length = payload.and_then(|payload| u16::try_from(payload + 3 + times).ok()).unwrap_or(0);
    out.put_slice(&[0, 0, 1, id]);
    out.put_u16(length);
    out.put_slice(&[0x80, what, u8::try_from(times).unwrap_or(0)]);
    if pts == dts {
        put_time(2, pts, out);
    } else {
        put_time(3, pts, out);
        put_time(1, dts, out);
    }
}

/// 33 bits among marker bits; `None` when the markers are not there.
fn time(field: &[u8; 5]) -> Option<u64> {
    let [b0, b1, b2, b3, b4] = field.map(u64::from);
    if b0 & 1 == 0 || b2 & 1 == 0 || b4 & 1 == 0 {
        return None;
    }
    Some((b0 >> 1 & 7) << 30 | b1 << 22 | (b2 >> 1) << 15 | b3 << 7 | b4 >> 1)
}

fn put_time(prefix: u8, time: i64, out: &mut BytesMut) {
    let time = time.rem_euclid(WRAP);
    let low = |value: i64| u8::try_from(value & 0xff).unwrap_or(0);
    out.put_slice(&[
        prefix << 4 | low(time >> 29 & 0x0e) | 1,
        low(time >> 22),
        low(time >> 14 & 0xfe) | 1,
        low(time >> 7),
        low(time << 1 & 0xfe) | 1,
    ]);
}

/// The program clock reference `time`, in ticks of 90 kHz. 2.4.3.5.
pub(super) fn pcr(time: i64) -> [u8; 6] {
    let time = time.rem_euclid(WRAP);
    let low = |value: i64| u8::try_from(value & 0xff).unwrap_or(0);
    [low(time >> 25), low(time >> 17), low(time >> 9), low(time >> 1), low((time & 1) << 7) | 0x7e, 0]
}

/// Brings times of 33 bits to 64, near the last one.
#[derive(Debug, Default)]
pub(super) struct Unwrapper {
    last: Option<i64>,
}

impl Unwrapper {
    pub(super) fn unwrap(&mut self, time: u64) -> i64 {
        let time = i64::try_from(time).unwrap_or(0) % WRAP;
        let near = match self.last {
            None => time,
            Some(last) => {
                let ahead = (time - last).rem_euclid(WRAP);
                last.saturating_add(if ahead >= WRAP / 2 { ahead - WRAP } else { ahead })
            }
        };
        self.last = Some(near);
        near
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Computed from the definitions of ISO/IEC 13818-1.
    #[test]
    fn known_times() {
        let mut out = BytesMut::new();
        put_time(2, 90_000, &mut out);
        assert_eq!(hex(&out.split()), "210005bf21");
        build(ID_VIDEO, None, 90_000, 86_400, &mut out);
        assert_eq!(hex(&out.split()), "000001e0000080c00a310005bf21110005a301");
        put_time(2, 0x1_ffff_ffff, &mut out);
        assert_eq!(hex(&out), "2fffffffff");
        assert_eq!(hex(&pcr(90_000)), "0000afc87e00");
        // Of FFmpeg, an Opus packet.
        let header = [0, 0, 1, 0xbd, 0x04, 0x22, 0x80, 0x80, 0x05, 0x21, 0x00, 0x09, 0x60, 0x6f];
        let Parsed::Header(parsed) = parse(&header) else { panic!("a header") };
        assert_eq!((parsed.size, parsed.payload, parsed.dts), (14, Some(0x422 - 8), None));
        let mut again = BytesMut::new();
        build(ID_PRIVATE, parsed.payload, parsed.pts.unwrap() as i64, parsed.pts.unwrap() as i64, &mut again);
        assert_eq!(&again[..], header);
    }

    #[test]
    fn times_go_on_over_the_wrap() {
        let mut unwrapper = Unwrapper::default();
        assert_eq!(unwrapper.unwrap((1 << 33) - 1_800), (1 << 33) - 1_800);
        assert_eq!(unwrapper.unwrap(1_800), (1 << 33) + 1_800);
        assert_eq!(unwrapper.unwrap((1 << 33) - 3_600), (1 << 33) - 3_600);
    }

    proptest! {
        #[test]
        fn headers_round_trip(pts in 0_i64..WRAP, dts in 0_i64..WRAP, payload in proptest::option::of(1_usize..60_000)) {
            let mut out = BytesMut::new();
            build(ID_AUDIO, payload, pts, dts, &mut out);
            let header = Header {
                size: out.len(),
                payload,
                pts: Some(pts as u64),
                dts: (pts != dts).then_some(dts as u64),
            };
            prop_assert_eq!(parse(&out), Parsed::Header(header));
            for cut in 0..out.len() {
                prop_assert_eq!(parse(&out[..cut]), Parsed::More);
            }
        }

        #[test]
        fn any_bytes_never_panic(data: Vec<u8>) {
            let _ = parse(&data);
            let _ = parse(&[&[0, 0, 1, 0xe0][..], &data].concat());
        }
    }
}

//! Entry points of the fuzz targets: any bytes, and what must hold after them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use patchbay_media::{Codec, MAX_UNIT_BYTES, Parameters, Unit, nal};

use crate::{Depacketizer, Item, Packetizer, Packets, RtpPacket, rtcp, sdp};

/// SDPs whose media the first byte picks.
const MEDIAS: [&str; 22] = [
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n",
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\n",
    "m=audio 0 RTP/AVP 96\r\na=rtpmap:96 MPEG4-GENERIC/16000\r\n",
    "m=audio 0 RTP/AVP 96\r\na=rtpmap:96 MPEG4-GENERIC/48000/2\r\na=fmtp:96 config=1190;sizelength=6;indexlength=2;indexdeltalength=3\r\n",
    "m=audio 0 RTP/AVP 96\r\na=rtpmap:96 MP4A-LATM/24000\r\na=fmtp:96 cpresent=0;config=400026203fc0\r\n",
    "m=audio 0 RTP/AVP 96\r\na=rtpmap:96 MP4A-LATM/24000\r\na=fmtp:96 cpresent=1\r\n",
    "m=audio 0 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n",
    "m=audio 0 RTP/AVP 8\r\n",
    "m=audio 0 RTP/AVP 10\r\n",
    "m=audio 0 RTP/AVP 9\r\n",
    "m=audio 0 RTP/AVP 14\r\n",
    "m=video 0 RTP/AVP 26\r\n",
    "m=audio 0 RTP/AVP 96\r\na=rtpmap:96 G726-40/8000\r\n",
    "m=audio 0 RTP/AVP 96\r\na=rtpmap:96 AAL2-G726-24/8000\r\n",
    "m=audio 0 RTP/AVP 96\r\na=rtpmap:96 MPEG4-GENERIC/16000\r\na=fmtp:96 constantsize=7\r\n",
    "m=video 0 RTP/AVP 26\r\na=x-dimensions:2560,1440\r\n",
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n",
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 VP9/90000\r\n",
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 AV1/90000\r\n",
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 MP4V-ES/90000\r\na=fmtp:96 config=000001B001\r\n",
    "m=audio 0 RTP/AVP 96\r\na=rtpmap:96 L24/48000/2\r\n",
    "m=audio 0 RTP/AVP 96\r\na=rtpmap:96 L8/8000\r\n",
];

/// An RTP packet.
pub fn rtp(data: &[u8]) {
    let datagram = Bytes::copy_from_slice(data);
    let Ok(packet) = RtpPacket::parse(&datagram) else { return };
    let mut written = BytesMut::new();
    packet.write(&mut written);
    assert_eq!(RtpPacket::parse(&written.freeze()), Ok(packet), "what is written reads the same");
}

/// An RTCP compound.
pub fn rtcp(data: &[u8]) {
    assert!(rtcp::parse(data).len() <= data.len() / 4);
}

/// A session description.
pub fn sdp(data: &[u8]) {
    let session = sdp::parse(data);
    assert!(session.medias.len() <= sdp::MAX_MEDIAS);
    for media in &session.medias {
        assert!(media.clock_rate > 0);
        assert!(media.attributes.len() <= sdp::MAX_ATTRIBUTES);
        let parameters = media.parameters();
        if let Ok(depacketizer) = Depacketizer::new(media) {
            assert_eq!(Some(depacketizer.parameters()), parameters.as_ref());
        }
        let Some(parameters) = parameters else { continue };
        assert!(parameters.clock_rate > 0);
        let described = sdp::MediaDescription {
            payload_type: 96,
            port: 0,
            control: "rtsp://a/b\r\nm=c".into(),
            direction: sdp::Direction::RecvOnly,
            parameters,
        };
        let description = sdp::Description {
            session_name: session.name.clone().unwrap_or_default(),
            session_id: 1,
            address: "0.0.0.0".into(),
            control: session.control.clone().unwrap_or_default(),
            medias: vec![described],
        };
        if let Ok(text) = sdp::build(&description) {
            assert_eq!(sdp::parse(text.as_bytes()).medias.len(), 1, "no value adds a media");
        }
    }
}

/// Packets for a depacketizer: the first byte picks the codec, then per packet one byte of flags (sequence step, time
/// step, marker), one of length, and the payload.
pub fn depacketize(data: &[u8]) {
    let Some((choice, mut rest)) = data.split_first() else { return };
    let text = MEDIAS.get(usize::from(choice & 15 | (choice & 0x20) >> 1)).copied().unwrap_or_default();
    let session = sdp::parse(text.as_bytes());
    let Some(Ok(mut depacketizer)) = session.medias.first().map(Depacketizer::new) else { return };
    if choice & 0x10 != 0 {
        depacketizer.keep_incomplete();
    }
    let keeps = choice & 0x10 != 0;
    let (mut sequence, mut timestamp, mut arrival) = (65_530u16, u32::MAX - 5000, Duration::ZERO);
    while let Some(([flags, len], after)) = rest.split_first_chunk::<2>() {
        let (payload, after) = after.split_at_checked(usize::from(*len)).unwrap_or((after, &[]));
        rest = after;
        sequence = sequence.wrapping_add(if flags & 3 == 3 { 2 } else { 1 });
        timestamp = match flags >> 2 & 7 {
            0..=3 => timestamp,
            4 | 5 => timestamp.wrapping_add(3000),
            6 => timestamp.wrapping_sub(3000),
            _ => timestamp.wrapping_add(0x4000_0000),
        };
        arrival += Duration::from_millis(u64::from(flags >> 6));
        let packet = RtpPacket {
            marker: flags & 0x20 != 0,
            payload_type: session.medias.first().map_or(96, |media| media.payload_type),
            sequence,
            timestamp,
            ssrc: 1,
            extension: None,
            payload: Bytes::copy_from_slice(payload),
        };
        depacketizer.push(&packet, arrival);
        check(&mut depacketizer, keeps);
    }
    depacketizer.flush();
    check(&mut depacketizer, keeps);
}

/// Takes all items; each unit must be one that its codec's packetizer accepts.
fn check(depacketizer: &mut Depacketizer, keeps: bool) {
    let clock_rate = depacketizer.parameters().clock_rate;
    while let Some(item) = depacketizer.poll() {
        let Item::Unit(unit) = item else { continue };
        assert!(!unit.data.is_empty() && unit.data.len() <= MAX_UNIT_BYTES + 4 * 8192);
        assert!(unit.dts <= unit.pts);
        assert!(keeps || !unit.incomplete);
        let parameters = depacketizer.parameters().clone();
        assert_eq!(parameters.clock_rate, clock_rate);
        if matches!(parameters.codec, Codec::H264 | Codec::Hevc) {
            assert!(nal::well_formed(&unit.data));
        }
        let Ok(mut packetizer) = Packetizer::new(&parameters, 96, 1, 0, 0, 1400) else { continue };
        let mut packets = Packets::new(0);
        packetizer.packetize(&unit, Some(&parameters), &mut packets);
        assert!(packets.datagrams().all(|packet| packet.len() <= 65_535));
    }
}

/// A JPEG file: it is sent, or there is a reason.
pub fn jpeg(data: &[u8]) {
    let parameters = Parameters::video(Codec::Mjpeg, 90_000);
    let Ok(mut packetizer) = Packetizer::new(&parameters, 26, 1, 0, 0, 1400) else { return };
    let mut packets = Packets::new(0);
    packetizer.packetize(&Unit::new(0, true, Bytes::copy_from_slice(data)), None, &mut packets);
    assert_eq!(packets.is_empty(), packetizer.refused().is_some());
    assert!(packets.datagrams().all(|packet| packet.len() <= 1600));
    let session = sdp::parse(b"m=video 0 RTP/AVP 26\r\n");
    let Some(Ok(mut depacketizer)) = session.medias.first().map(Depacketizer::new) else { return };
    for datagram in packets.datagrams() {
        let Ok(packet) = RtpPacket::parse(&Bytes::copy_from_slice(datagram)) else { return };
        depacketizer.push(&packet, Duration::ZERO);
    }
    depacketizer.flush();
    check(&mut depacketizer, false);
}

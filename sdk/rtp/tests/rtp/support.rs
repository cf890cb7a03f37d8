//! Packets and units for tests.

use std::time::Duration;

use bytes::Bytes;
use patchbay_media::{Parameters, Unit};
use patchbay_rtp::{Depacketizer, Item, RtpPacket, sdp};

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

/// A depacketizer for one media section.
pub(crate) fn depacketizer(media: &str) -> Depacketizer {
    Depacketizer::new(&media_of(media)).unwrap()
}

pub(crate) fn media_of(text: &str) -> sdp::Media {
    sdp::parse(text.as_bytes()).medias.remove(0)
}

pub(crate) const H264: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n";
pub(crate) const H265: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\n";

/// Feeds packets with running sequence numbers.
pub(crate) struct Feed {
    pub(crate) depacketizer: Depacketizer,
    pub(crate) sequence: u16,
    pub(crate) payload_type: u8,
    pub(crate) extension: Option<(u16, Bytes)>,
}

impl Feed {
    pub(crate) fn new(media: &str) -> Self {
        let parsed = media_of(media);
        let depacketizer = Depacketizer::new(&parsed).unwrap();
        Self { depacketizer, sequence: 65_533, payload_type: parsed.payload_type, extension: None }
    }

    /// One packet with this payload in hexadecimal.
    pub(crate) fn hex(&mut self, timestamp: u32, marker: bool, payload: &str) -> &mut Self {
        self.bytes(timestamp, marker, &hex(payload))
    }

    pub(crate) fn bytes(&mut self, timestamp: u32, marker: bool, payload: &[u8]) -> &mut Self {
        let packet = RtpPacket {
            marker,
            payload_type: self.payload_type,
            sequence: self.sequence,
            timestamp,
            ssrc: 7,
            extension: self.extension.take(),
            payload: Bytes::copy_from_slice(payload),
        };
        self.sequence = self.sequence.wrapping_add(1);
        self.depacketizer.push(&packet, Duration::ZERO);
        self
    }

    /// Leaves out `packets` sequence numbers.
    pub(crate) fn skip(&mut self, packets: u16) -> &mut Self {
        self.sequence = self.sequence.wrapping_add(packets);
        self
    }

    pub(crate) fn items(&mut self) -> Vec<Item> {
        std::iter::from_fn(|| self.depacketizer.poll()).collect()
    }

    pub(crate) fn units(&mut self) -> Vec<Unit> {
        units(self.items())
    }

    /// All units, the last one ended by the end of the stream.
    pub(crate) fn finish(&mut self) -> Vec<Unit> {
        self.depacketizer.flush();
        self.units()
    }
}

pub(crate) fn units(items: Vec<Item>) -> Vec<Unit> {
    let unit = |item| if let Item::Unit(unit) = item { Some(unit) } else { None };
    items.into_iter().filter_map(unit).collect()
}

pub(crate) fn parameters(items: &[Item]) -> Vec<Parameters> {
    let parameters = |item: &Item| if let Item::Parameters(p) = item { Some(p.clone()) } else { None };
    items.iter().filter_map(parameters).collect()
}

/// Data of units as hexadecimal text.
pub(crate) fn data(units: &[Unit]) -> Vec<String> {
    units.iter().map(|unit| unit.data.iter().map(|byte| format!("{byte:02x}")).collect()).collect()
}

/// The RTP packets in a list of interleaved frames.
pub(crate) fn packets(list: &patchbay_rtp::Packets) -> Vec<RtpPacket> {
    list.datagrams().map(|datagram| RtpPacket::parse(&Bytes::copy_from_slice(datagram)).unwrap()).collect()
}

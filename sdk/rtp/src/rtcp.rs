//! RTCP (RFC 3550 section 6): reports out, and what cameras send in, read as far as it goes.

use bytes::{Bytes, BytesMut};
use rtcp_types::{
    Bye, Compound, CompoundBuilder, ReceiverReport, RtcpPacketParser, RtcpPacketWriter, RtcpPacketWriterExt,
    Sdes, SdesChunk, SdesItem, SenderReport as WireSenderReport,
};

pub use self::reception::Reception;

mod reception;

/// Longest CNAME that is written, in bytes (RFC 3550 section 6.5).
pub const MAX_CNAME_LEN: usize = 255;

/// Most report blocks in one report (5-bit count).
pub const MAX_REPORT_BLOCKS: usize = 31;

/// Seconds from the NTP epoch (1900) to the Unix epoch (1970).
const NTP_UNIX_SECONDS: i64 = 2_208_988_800;

/// What a sender states about its stream (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// The sender.
    pub ssrc: u32,
    /// Wall clock as NTP timestamp: seconds since 1900 in the upper half, fraction in the lower.
    pub ntp: u64,
    /// The same instant in RTP time.
    pub rtp_timestamp: u32,
    /// RTP packets sent so far, modulo 2^32.
    pub packets: u32,
    /// Payload bytes sent so far, modulo 2^32.
    pub octets: u32,
}

/// Reception quality of one sender (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// The sender that is reported on.
    pub ssrc: u32,
    /// Packets lost since the previous report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the start, 24 bits.
    pub cumulative_lost: u32,
    /// Highest sequence number with its cycles in the upper half.
    pub extended_sequence: u32,
    /// Interarrival jitter in ticks of the stream's clock.
    pub jitter: u32,
    /// The middle 32 bits of the last sender report's NTP time, 0 for none.
    pub last_sender_report: u32,
    /// Time since that report, in 1/65536 s.
    pub delay_since_last: u32,
}

/// One packet of a compound.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rtcp {
    /// Packet type 200.
    SenderReport(SenderReport, Vec<ReportBlock>),
    /// Packet type 201: who reports, and on whom.
    ReceiverReport(u32, Vec<ReportBlock>),
    /// Packet type 202: the canonical name of a source.
    Cname(u32, String),
    /// Packet type 203: these sources have ended.
    Bye(Vec<u32>),
    /// Any other packet type.
    Other(u8),
}

/// A sender report with its CNAME, as one compound.
pub fn sender_report(report: &SenderReport, cname: &str) -> Bytes {
    let sr = WireSenderReport::builder(report.ssrc)
        .ntp_timestamp(report.ntp)
        .rtp_timestamp(report.rtp_timestamp)
        .packet_count(report.packets)
        .octet_count(report.octets);
    write(Compound::builder().add_packet(sr), report.ssrc, cname)
}

/// A receiver report with its CNAME, as one compound. At most [`MAX_REPORT_BLOCKS`] blocks are written.
pub fn receiver_report(ssrc: u32, blocks: &[ReportBlock], cname: &str) -> Bytes {
    let mut rr = ReceiverReport::builder(ssrc);
    for block in blocks.iter().take(MAX_REPORT_BLOCKS) {
        let block = rtcp_types::ReportBlock::builder(block.ssrc)
            .fraction_lost(block.fraction_lost)
            .cumulative_lost(block.cumulative_lost & 0x00ff_ffff)
            .extended_sequence_number(block.extended_sequence)
            .interarrival_jitter(block.jitter)
            .last_sender_report_timestamp(block.last_sender_report)
            .delay_since_last_sender_report_timestamp(block.delay_since_last);
        rr = rr.add_report_block(block);
    }
    write(Compound::builder().add_packet(rr), ssrc, cname)
}

/// An empty receiver report with its CNAME and BYE, as one compound.
pub fn bye(ssrc: u32, cname: &str) -> Bytes {
    let compound = with_cname(Compound::builder().add_packet(ReceiverReport::builder(ssrc)), ssrc, cname);
    finish(&compound.add_packet(Bye::builder().add_source(ssrc)))
}

/// NTP time of a Unix time in nanoseconds.
pub fn ntp_from_unix_ns(unix_ns: i64) -> u64 {
    let seconds = unix_ns.div_euclid(1_000_000_000).saturating_add(NTP_UNIX_SECONDS);
    let nanos = unix_ns.rem_euclid(1_000_000_000) as u64;
    let fraction = ((nanos << 32) + 500_000_000) / 1_000_000_000;
    ((seconds as u64) << 32).wrapping_add(fraction)
}

/// Unix time in nanoseconds of an NTP time of the era that ends in 2036 or, with a seconds' top bit of 0, of the next.
pub fn unix_ns_from_ntp(ntp: u64) -> i64 {
    let mut seconds = (ntp >> 32) as i64 - NTP_UNIX_SECONDS;
    if ntp >> 63 == 0 {
        seconds += 1 << 32;
    }
    let nanos = ((ntp & 0xffff_ffff) * 1_000_000_000 + (1 << 31)) >> 32;
    seconds * 1_000_000_000 + nanos as i64
}

/// Reads the packets of a compound. What cannot be read is left out: broken compounds are no reason to end a session
/// (C88).
pub fn parse(datagram: &[u8]) -> Vec<Rtcp> {
    let mut found = Vec::new();
    let mut rest = datagram;
    while let Some([first, kind, l0, l1]) = rest.first_chunk::<4>().copied() {
        if first >> 6 != 2 {
            break;
        }
        let len = (usize::from(u16::from_be_bytes([l0, l1])) + 1) * 4;
        // A packet that claims more than there is: read what is there.
        let packet = rest.get(..len).unwrap_or(rest);
        found.extend(parse_one(kind, packet));
        rest = rest.get(len..).unwrap_or_default();
    }
    found
}

fn parse_one(kind: u8, packet: &[u8]) -> Vec<Rtcp> {
    match kind {
        200 => WireSenderReport::parse(packet)
            .map(|sr| {
                let report = SenderReport {
                    ssrc: sr.ssrc(),
                    ntp: sr.ntp_timestamp(),
                    rtp_timestamp: sr.rtp_timestamp(),
                    packets: sr.packet_count(),
                    octets: sr.octet_count(),
                };
                Rtcp::SenderReport(report, sr.report_blocks().map(ReportBlock::from).collect())
            })
            .into_iter()
            .collect(),
        201 => ReceiverReport::parse(packet)
            .map(|rr| Rtcp::ReceiverReport(rr.ssrc(), rr.report_blocks().map(ReportBlock::from).collect()))
            .into_iter()
            .collect(),
        202 => cname(packet).into_iter().collect(),
        203 => Bye::parse(packet).map(|bye| Rtcp::Bye(bye.ssrcs().collect())).into_iter().collect(),
        other => vec![Rtcp::Other(other)],
    }
}

/// The CNAME of the first chunk, which may lack its END item (K7, Hanwha).
fn cname(packet: &[u8]) -> Option<Rtcp> {
    let (ssrc, mut items) = packet.get(4..)?.split_first_chunk::<4>()?;
    while let Some(([kind, len], rest)) = items.split_first_chunk::<2>() {
        if *kind == 0 {
            break;
        }
        let text = rest.get(..usize::from(*len))?;
        if *kind == 1 {
            return Some(Rtcp::Cname(u32::from_be_bytes(*ssrc), String::from_utf8_lossy(text).into_owned()));
        }
        items = rest.get(usize::from(*len)..).unwrap_or_default();
    }
    None
}

impl From<rtcp_types::ReportBlock<'_>> for ReportBlock {
    fn from(block: rtcp_types::ReportBlock<'_>) -> Self {
        Self {
            ssrc: block.ssrc(),
            fraction_lost: block.fraction_lost(),
            cumulative_lost: block.cumulative_lost(),
            extended_sequence: block.extended_sequence_number(),
            jitter: block.interarrival_jitter(),
            last_sender_report: block.last_sender_report_timestamp(),
            delay_since_last: block.delay_since_last_sender_report_timestamp(),
        }
    }
}

fn write(compound: CompoundBuilder<'_>, ssrc: u32, cname: &str) -> Bytes {
    finish(&with_cname(compound, ssrc, cname))
}

fn with_cname<'a>(compound: CompoundBuilder<'a>, ssrc: u32, cname: &'a str) -> CompoundBuilder<'a> {
    let mut end = cname.len().min(MAX_CNAME_LEN);
    while !cname.is_char_boundary(end) {
        end -= 1;
    }
    let item = SdesItem::builder(SdesItem::CNAME, cname.get(..end).unwrap_or_default());
    compound.add_packet(Sdes::builder().add_chunk(SdesChunk::builder(ssrc).add_item(item)))
}

fn finish(compound: &CompoundBuilder<'_>) -> Bytes {
    let mut out = BytesMut::zeroed(compound.calculate_size().unwrap_or(0));
    match compound.write_into(&mut out) {
        Ok(len) => out.truncate(len),
        Err(_) => out.clear(),
    }
    out.freeze()
}

//! Motion JPEG (RFC 2435), also larger than 2040 pixels (R60 to R66).

mod size;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use patchbay_media::{MAX_UNIT_BYTES, Parameters};

use self::size::Sizes;
use super::{Body, Frame, Malformed};
use crate::RtpPacket;
use crate::jfif::{Headers, QuantTable, quality_tables};

/// Room for everything before the scan.
const HEADERS_LEN: usize = 1024;

/// Header extension that holds parts of the JPEG headers (ONVIF streaming specification, section on JPEG over RTP).
const ONVIF_JPEG_EXTENSION: u16 = 0xffd8;

#[derive(Debug)]
pub(super) struct Jpeg {
    parameters: Parameters,
    sizes: Sizes,
    /// Tables sent for the qualities 128 to 254 (R61).
    cached: Vec<(u8, Vec<QuantTable>)>,
    picture: Option<Picture>,
}

/// A picture so far, without a gap.
#[derive(Debug)]
struct Picture {
    timestamp: u32,
    arrival: Duration,
    header: MainHeader,
    restart_interval: u16,
    tables: Vec<QuantTable>,
    extension_size: Option<(u32, u32)>,
    scan: BytesMut,
}

/// RFC 2435 section 3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MainHeader {
    offset: usize,
    kind: u8,
    quality: u8,
    /// In blocks of 8 pixels.
    width: u8,
    height: u8,
}

impl MainHeader {
    fn is_420(self) -> bool {
        // Types are 0 or 1, plus 64 with restart markers; some cameras use others (R63).
        self.kind & 1 == 1
    }
}

impl Jpeg {
    pub(super) fn new(announced: Option<(u32, u32)>, parameters: &Parameters) -> Self {
        Self {
            parameters: parameters.clone(),
            sizes: Sizes::new(announced),
            cached: Vec::new(),
            picture: None,
        }
    }

    pub(super) fn set_stated_size(&mut self, width: u32, height: u32) {
        self.sizes.set_stated(width, height);
    }

    pub(super) fn lost(&mut self) {
        self.picture = None;
    }

    pub(super) fn push(
        &mut self,
        packet: &RtpPacket,
        arrival: Duration,
        out: &mut Vec<Frame>,
    ) -> Result<(), Malformed> {
        let (header, rest) = packet.payload.split_first_chunk::<8>().ok_or(Malformed)?;
        let [_, o0, o1, o2, kind, quality, width, height] = *header;
        let offset = u32::from_be_bytes([0, o0, o1, o2]) as usize;
        let header = MainHeader { offset, kind, quality, width, height };
        let mut rest = rest;
        let mut restart_interval = 0;
        if kind & 0x40 != 0 {
            let ([i0, i1, _, _], after) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
            restart_interval = u16::from_be_bytes([*i0, *i1]);
            rest = after;
        }
        if offset == 0 {
            // Without a marker the next picture ends this one (R1).
            self.finish(out);
            if quality == 0 {
                return Err(Malformed);
            }
            let tables;
            (tables, rest) = self.tables(quality, rest).ok_or(Malformed)?;
            let extension = packet.extension.as_ref().filter(|(id, _)| *id == ONVIF_JPEG_EXTENSION);
            self.picture = Some(Picture {
                timestamp: packet.timestamp,
                arrival,
                header,
                restart_interval,
                tables,
                extension_size: extension.and_then(|(_, data)| size::of_frame_header(data)),
                scan: BytesMut::with_capacity(rest.len() * 8),
            });
        }
        // The first packet may be lost, or the sender may skip (R64).
        let picture = self.picture.as_mut().ok_or(Malformed)?;
        let fits = picture.scan.len() + rest.len() <= MAX_UNIT_BYTES - HEADERS_LEN;
        if picture.scan.len() != offset || picture.timestamp != packet.timestamp || !fits {
            self.picture = None;
            return Err(Malformed);
        }
        picture.scan.extend_from_slice(rest);
        if packet.marker {
            self.finish(out);
        }
        Ok(())
    }

    /// The tables for this quality and what follows their header (RFC 2435 section 3.1.8).
    fn tables<'a>(&mut self, quality: u8, rest: &'a [u8]) -> Option<(Vec<QuantTable>, &'a [u8])> {
        if quality < 128 {
            return Some((quality_tables(quality).to_vec(), rest));
        }
        let ([_, precision, l0, l1], rest) = rest.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_be_bytes([*l0, *l1]));
        let (data, rest) = rest.split_at_checked(len)?;
        if len == 0 {
            let cached = self.cached.iter().find(|(q, _)| *q == quality && quality != 255)?;
            return Some((cached.1.clone(), rest));
        }
        let tables = parse_tables(*precision, data);
        if tables.is_empty() {
            return None;
        }
        if quality != 255 {
            self.cached.retain(|(q, _)| *q != quality);
            self.cached.push((quality, tables.clone()));
        }
        Some((tables, rest))
    }

    fn finish(&mut self, out: &mut Vec<Frame>) {
        let Some(mut picture) = self.picture.take() else { return };
        if picture.scan.is_empty() {
            return;
        }
        let (data, size) = if picture.scan.starts_with(&[0xff, 0xd8]) {
            // The payload has headers of its own (R65).
            end(&mut picture.scan);
            let file = picture.scan.freeze();
            let size = patchbay_media::jpeg::size(&file).map(|(w, h)| (u32::from(w), u32::from(h)));
            (file, size.unwrap_or_default())
        } else {
            let size = self.sizes.of(&picture);
            (picture.file(size), size)
        };
        if (self.parameters.width, self.parameters.height) != size && size.0 > 0 {
            (self.parameters.width, self.parameters.height) = size;
            out.push(Frame::parameters(self.parameters.clone()));
        }
        out.push(Frame {
            timestamp: picture.timestamp,
            arrival: picture.arrival,
            duration: 0,
            snap: false,
            incomplete: false,
            picture: None,
            body: Body::Data(data),
        });
    }
}

impl Picture {
    /// The whole file.
    fn file(&mut self, (width, height): (u32, u32)) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADERS_LEN + self.scan.len());
        let headers = Headers {
            width: u16::try_from(width).unwrap_or(0),
            height: u16::try_from(height).unwrap_or(0),
            is_420: self.header.is_420(),
            tables: &self.tables,
            restart_interval: self.restart_interval,
        };
        headers.write(&mut out);
        end(&mut self.scan);
        out.put_slice(&self.scan);
        out.freeze()
    }
}

/// Makes an end-of-image marker the last thing (R65).
fn end(data: &mut BytesMut) {
    let kept = data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if data.get(..kept).is_some_and(|data| data.ends_with(&[0xff, 0xd9])) {
        data.truncate(kept);
    } else {
        data.put_slice(&[0xff, 0xd9]);
    }
}

/// One or two tables of 64 values, each of 8 or, by its bit in `precision`, 16 bits (R62).
fn parse_tables(precision: u8, data: &[u8]) -> Vec<QuantTable> {
    let mut tables = Vec::new();
    let mut rest = data;
    for number in 0..2 {
        let is_wide = precision >> number & 1 == 1;
        let mut table = [0; 64];
        if is_wide {
            let Some((bytes, after)) = rest.split_first_chunk::<128>() else { break };
            for (value, pair) in table.iter_mut().zip(bytes.chunks_exact(2)) {
                *value = pair.iter().fold(0, |value, byte| value << 8 | u16::from(*byte));
            }
            rest = after;
        } else {
            let Some((bytes, after)) = rest.split_first_chunk::<64>() else { break };
            for (value, byte) in table.iter_mut().zip(bytes) {
                *value = u16::from(*byte);
            }
            rest = after;
        }
        tables.push(table);
    }
    tables
}

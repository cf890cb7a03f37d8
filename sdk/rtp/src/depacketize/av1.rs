//! AV1 (RTP Payload Format For AV1, version 1.0): elements that are OBUs or parts of them.

use bytes::BytesMut;
use patchbay_media::av1::{self, Obu, kind, leb128};
use patchbay_media::{MAX_UNIT_BYTES, Parameters};

use super::Malformed;
use super::pictures::{Format, Part};

#[derive(Debug, Default)]
pub(super) struct Av1 {
    /// An OBU that goes on in the next packet.
    partial: Option<BytesMut>,
}

impl Format for Av1 {
    /// Section 4.4: whether the first element goes on from the last packet, whether the last one goes on in the next, and how many
    /// there are when the last one has no length.
    fn append(&mut self, payload: &[u8], data: &mut BytesMut) -> Result<Part, Malformed> {
        let (&header, mut rest) = payload.split_first().ok_or(Malformed)?;
        let (continues, is_cut, count) = (header & 0x80 != 0, header & 0x40 != 0, header >> 4 & 3);
        let before = self.partial.take();
        if before.is_some() != continues {
            // Of the first element the beginning is missing, or of the one before the end.
            if !continues {
                return Err(Malformed);
            }
            let (_, behind) = element(rest, count == 1).ok_or(Malformed)?;
            rest = behind;
            self.elements(rest, 1, count, is_cut, None, data)?;
            return Ok(Part { starts: false, is_reference: true });
        }
        self.elements(rest, 0, count, is_cut, before, data)?;
        Ok(Part { starts: !continues, is_reference: true })
    }

    fn end(&mut self) -> bool {
        self.partial.take().is_none()
    }

    fn is_key(&self, data: &[u8], parameters: &mut Parameters) -> bool {
        if let Some((header, record)) = av1::configuration(data) {
            (parameters.width, parameters.height) = (header.width, header.height);
            parameters.extradata = record;
        }
        av1::is_key(data)
    }
}

impl Av1 {
    /// Takes elements, of which `number` were there; the first one continues `before`.
    fn elements(
        &mut self,
        mut rest: &[u8],
        mut number: u8,
        count: u8,
        is_cut: bool,
        mut before: Option<BytesMut>,
        data: &mut BytesMut,
    ) -> Result<(), Malformed> {
        while !rest.is_empty() {
            number = number.saturating_add(1);
            let (bytes, behind) = element(rest, number == count).ok_or(Malformed)?;
            rest = behind;
            let is_partial = rest.is_empty() && is_cut;
            match before.take() {
                None if is_partial => self.partial = Some(BytesMut::from(bytes)),
                None => write(bytes, data)?,
                Some(mut begun) => {
                    if begun.len() + bytes.len() > MAX_UNIT_BYTES {
                        return Err(Malformed);
                    }
                    begun.extend_from_slice(bytes);
                    if is_partial {
                        self.partial = Some(begun);
                    } else {
                        write(&begun, data)?;
                    }
                }
            }
        }
        // One of no bytes may go on, too.
        if let Some(before) = before {
            self.partial = Some(before);
        }
        Ok(())
    }
}

/// An element and what follows it.
fn element(rest: &[u8], is_last: bool) -> Option<(&[u8], &[u8])> {
    if is_last {
        return Some((rest, &[]));
    }
    let (len, behind) = leb128(rest)?;
    behind.split_at_checked(len)
}

/// Appends an OBU with its size. Those that only matter to the transport are left out.
fn write(bytes: &[u8], data: &mut BytesMut) -> Result<(), Malformed> {
    if bytes.is_empty() {
        return Ok(());
    }
    let (obu, behind) = Obu::parse(bytes).ok_or(Malformed)?;
    if !behind.is_empty() || data.len() + obu.len() > MAX_UNIT_BYTES {
        return Err(Malformed);
    }
    if !matches!(obu.kind(), kind::TEMPORAL_DELIMITER | kind::TILE_LIST | kind::PADDING) {
        obu.write(data);
    }
    Ok(())
}

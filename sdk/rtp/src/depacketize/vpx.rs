//! VP8 (RFC 7741) and VP9 (RFC 9628): a descriptor before each part of a frame.

use bytes::BytesMut;
use patchbay_media::vp9::KeyFrame;
use patchbay_media::{Parameters, vp8, vp9};

use super::Malformed;
use super::pictures::{Format, Part};

#[derive(Debug)]
pub(super) struct Vp8;

impl Format for Vp8 {
    fn append(&mut self, payload: &[u8], data: &mut BytesMut) -> Result<Part, Malformed> {
        let (part, body) = vp8_part(payload).ok_or(Malformed)?;
        data.extend_from_slice(body);
        Ok(part)
    }

    fn is_key(&self, data: &[u8], parameters: &mut Parameters) -> bool {
        if let Some(size) = vp8::size(data) {
            (parameters.width, parameters.height) = size;
        }
        vp8::is_key(data)
    }
}

/// What is behind a descriptor (RFC 7741 section 4.2).
fn vp8_part(payload: &[u8]) -> Option<(Part, &[u8])> {
    let (&first, mut rest) = payload.split_first()?;
    if first & 0x80 != 0 {
        let (&extensions, behind) = rest.split_first()?;
        rest = behind;
        if extensions & 0x80 != 0 {
            rest = behind_picture_id(rest)?;
        }
        let more = usize::from(extensions & 0x40 != 0) + usize::from(extensions & 0x30 != 0);
        rest = rest.get(more..)?;
    }
    // S and the partition's index; N.
    let part = Part { starts: first & 0x17 == 0x10, is_reference: first & 0x20 == 0 };
    (!rest.is_empty()).then_some((part, rest))
}

#[derive(Debug)]
pub(super) struct Vp9;

impl Format for Vp9 {
    fn append(&mut self, payload: &[u8], data: &mut BytesMut) -> Result<Part, Malformed> {
        let (part, body) = vp9_part(payload).ok_or(Malformed)?;
        data.extend_from_slice(body);
        Ok(part)
    }

    fn is_key(&self, data: &[u8], parameters: &mut Parameters) -> bool {
        if let Some(header) = KeyFrame::parse(data) {
            (parameters.width, parameters.height) = (header.width, header.height);
        }
        vp9::is_key(data)
    }
}

/// What is behind a descriptor (RFC 9628 section 4.2). A picture may have a frame for each spatial layer; it starts with that of the
/// lowest.
fn vp9_part(payload: &[u8]) -> Option<(Part, &[u8])> {
    let (&first, mut rest) = payload.split_first()?;
    let has = |flag: u8| first & flag != 0;
    let (picture_id, inter, layers, flexible, begins, structure) =
        (has(0x80), has(0x40), has(0x20), has(0x10), has(0x08), has(0x02));
    if picture_id {
        rest = behind_picture_id(rest)?;
    }
    let mut spatial_layer = 0;
    if layers {
        let (&indices, behind) = rest.split_first()?;
        spatial_layer = indices >> 1 & 7;
        rest = if flexible { behind } else { behind.get(1..)? };
    }
    if flexible && inter {
        for _ in 0..3 {
            let (&difference, behind) = rest.split_first()?;
            rest = behind;
            if difference & 1 == 0 {
                break;
            }
        }
    }
    if structure {
        rest = behind_structure(rest)?;
    }
    let part = Part { starts: begins && spatial_layer == 0, is_reference: true };
    (!rest.is_empty()).then_some((part, rest))
}

/// A picture id of 7 or 15 bits.
fn behind_picture_id(rest: &[u8]) -> Option<&[u8]> {
    let is_long = rest.first()? & 0x80 != 0;
    rest.get(1 + usize::from(is_long)..)
}

/// A scalability structure (RFC 9628 section 4.2.1).
fn behind_structure(rest: &[u8]) -> Option<&[u8]> {
    let (&first, mut rest) = rest.split_first()?;
    if first & 0x10 != 0 {
        rest = rest.get(4 * (usize::from(first >> 5) + 1)..)?;
    }
    if first & 0x08 != 0 {
        let (&pictures, behind) = rest.split_first()?;
        rest = behind;
        for _ in 0..pictures {
            let (&picture, behind) = rest.split_first()?;
            rest = behind.get(usize::from(picture >> 2 & 3)..)?;
        }
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_of_vp8() {
        let of = |payload: &[u8]| {
            vp8_part(payload).map(|(part, body)| (part.starts, part.is_reference, body.to_vec()))
        };
        assert_eq!(of(&[0x10, 7]), Some((true, true, vec![7])));
        assert_eq!(of(&[0x00, 7]), Some((false, true, vec![7])));
        // Another partition begins; a frame that no other needs.
        assert_eq!(of(&[0x11, 7]), Some((false, true, vec![7])));
        assert_eq!(of(&[0x30, 7]), Some((true, false, vec![7])));
        // Picture ids of 7 and 15 bits, TL0PICIDX, TID or KEYIDX.
        assert_eq!(of(&[0x90, 0x80, 0x11, 7]), Some((true, true, vec![7])));
        assert_eq!(of(&[0x90, 0xf0, 0x91, 0x22, 0x33, 0x44, 7]), Some((true, true, vec![7])));
        assert_eq!(of(&[0x90, 0x10, 0x44, 7]), Some((true, true, vec![7])));
        for short in [&[][..], &[0x10], &[0x90], &[0x90, 0x80], &[0x90, 0xf0, 0x91, 0x22, 0x33, 0x44]] {
            assert_eq!(of(short), None, "{short:x?}");
        }
    }

    #[test]
    fn descriptors_of_vp9() {
        let of = |payload: &[u8]| vp9_part(payload).map(|(part, body)| (part.starts, body.to_vec()));
        assert_eq!(of(&[0x0c, 7]), Some((true, vec![7])));
        assert_eq!(of(&[0x44, 7]), Some((false, vec![7])));
        // Picture id, layers with TL0PICIDX; the second spatial layer starts no picture.
        assert_eq!(of(&[0xa8, 0x91, 0x22, 0x00, 0x33, 7]), Some((true, vec![7])));
        assert_eq!(of(&[0xa8, 0x11, 0x02, 0x33, 7]), Some((false, vec![7])));
        // Flexible: two differences.
        assert_eq!(of(&[0xf8, 0x11, 0x00, 0x03, 0x04, 7]), Some((true, vec![7])));
        // A structure with a size for two layers and two pictures.
        let structure = [0x0a, 0x38, 1, 2, 3, 4, 5, 6, 7, 8, 2, 0x04, 1, 0x08, 1, 2, 7];
        assert_eq!(of(&structure), Some((true, vec![7])));
        for len in 0..structure.len() {
            assert_eq!(of(&structure[..len]), None);
        }
    }
}

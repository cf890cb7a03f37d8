//! MPEG-4 Visual (RFC 6416 section 5): the bytes of a VOP, cut anywhere.

use bytes::BytesMut;
use patchbay_media::{Parameters, mpeg4};

use super::Malformed;
use super::pictures::{Format, Part};

#[derive(Debug)]
pub(super) struct Mpeg4;

impl Format for Mpeg4 {
    fn append(&mut self, payload: &[u8], data: &mut BytesMut) -> Result<Part, Malformed> {
        data.extend_from_slice(payload);
        // A cut VOP may go on with a start code (section 5.2); it begins with one in any case.
        Ok(Part { starts: payload.starts_with(&[0, 0, 1]), is_reference: true })
    }

    fn is_key(&self, data: &[u8], _: &mut Parameters) -> bool {
        mpeg4::is_key(data)
    }
}

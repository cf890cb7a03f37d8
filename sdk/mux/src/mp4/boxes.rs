//! Boxes: reading them where they lie. ISO/IEC 14496-12 4.2.

use bytes::{Buf, Bytes};

/// The header of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: [u8; 4],
    /// Bytes of the header: 8 or 16.
    pub header: u64,
    /// Bytes of the whole box; `None` means to the end of the file.
    pub size: Option<u64>,
}

/// Why a header could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// 16 bytes are needed.
    Short,
    /// The size is less than the header's.
    Size,
}

impl Header {
    pub(super) fn parse(data: &[u8]) -> Result<Self, HeaderError> {
        let (&[s0, s1, s2, s3, k0, k1, k2, k3], rest) =
            data.split_first_chunk::<8>().ok_or(HeaderError::Short)?;
        let kind = [k0, k1, k2, k3];
        match u32::from_be_bytes([s0, s1, s2, s3]) {
            0 => Ok(Self { kind, header: 8, size: None }),
            1 => {
                let (large, _) = rest.split_first_chunk::<8>().ok_or(HeaderError::Short)?;
                let size = u64::from_be_bytes(*large);
                if size < 16 {
                    Err(HeaderError::Size)
                } else {
                    Ok(Self { kind, header: 16, size: Some(size) })
                }
            }
            size if size < 8 => Err(HeaderError::Size),
            size => Ok(Self { kind, header: 8, size: Some(u64::from(size)) }),
        }
    }
}

/// The boxes in `body`, one behind the other, until the first that does not fit.
pub(super) fn children(body: &Bytes) -> impl Iterator<Item = ([u8; 4], Bytes)> + use<> {
    let mut rest = body.clone();
    std::iter::from_fn(move || {
        let header = Header::parse(&rest).ok()?;
        let size = header.size.map_or(Some(rest.len()), |size| usize::try_from(size).ok())?;
        if size > rest.len() {
            return None;
        }
        let mut child = rest.split_to(size);
        child.advance(usize::try_from(header.header).ok()?.min(child.len()));
        Some((header.kind, child))
    })
}

/// The first box `kind` in `body`.
pub(super) fn child(body: &Bytes, kind: &[u8; 4]) -> Option<Bytes> {
    children(body).find(|(k, _)| k == kind).map(|(_, body)| body)
}

/// Reads fields from the front of a box.
#[derive(Debug, Clone)]
pub(super) struct Fields(pub Bytes);

impl Fields {
    pub(super) fn u8(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.0.try_get_u16().ok()
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.0.try_get_u32().ok()
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.0.try_get_u64().ok()
    }

    /// Version and flags of a full box.
    pub(super) fn full(&mut self) -> Option<(u8, u32)> {
        let word = self.u32()?;
        Some((u8::try_from(word >> 24).ok()?, word & 0x00ff_ffff))
    }

    /// 64 bits in version 1, else 32.
    pub(super) fn versioned(&mut self, version: u8) -> Option<u64> {
        if version == 1 { self.u64() } else { self.u32().map(u64::from) }
    }

    pub(super) fn skip(&mut self, bytes: usize) -> Option<()> {
        if self.0.len() < bytes {
            return None;
        }
        self.0.advance(bytes);
        Some(())
    }

    pub(super) fn take(&mut self, bytes: usize) -> Option<Bytes> {
        (self.0.len() >= bytes).then(|| self.0.split_to(bytes))
    }
}

/// A table of big-endian 32-bit words behind its count, read where it lies.
#[derive(Debug, Clone, Default)]
pub(super) struct Words {
    data: Bytes,
}

impl Words {
    /// `count` entries of `width` words at the front of `data`; fewer when it ends before.
    pub(super) fn new(data: &Bytes, count: u32, width: usize) -> Self {
        let bytes = (usize::try_from(count).unwrap_or(usize::MAX)).saturating_mul(width * 4);
        let whole = data.len() - data.len() % (width * 4);
        Self { data: data.slice(..bytes.min(whole)) }
    }

    pub(super) fn get(&self, index: usize) -> Option<u32> {
        let at = index.checked_mul(4)?;
        self.data.get(at..at.checked_add(4)?).and_then(|word| Some(u32::from_be_bytes(word.try_into().ok()?)))
    }

    pub(super) fn get_u64(&self, index: usize) -> Option<u64> {
        let (high, low) =
            (self.get(index.checked_mul(2)?)?, self.get(index.checked_mul(2)?.checked_add(1)?)?);
        Some(u64::from(high) << 32 | u64::from(low))
    }

    /// Number of words.
    pub(super) fn len(&self) -> usize {
        self.data.len() / 4
    }
}

//! The true size of a picture: the header's fields are modulo 2048 (R60).

use super::{MainHeader, Picture};
use crate::jfif::{Restart, count_mcus};

/// Largest side that is searched for, in pixels.
const MAX_SIDE: u32 = 8192;

/// Sizes that cameras are known to send as other ones: fields in pixels, then the size.
const KNOWN: [((u32, u32), (u32, u32)); 4] = [
    ((512, 1920), (2560, 1920)),
    ((512, 1440), (2560, 1440)),
    ((1792, 112), (3840, 2160)),
    ((256, 1296), (2304, 1296)),
];

/// Where sizes come from, and the one found last.
#[derive(Debug)]
pub(super) struct Sizes {
    announced: Option<(u32, u32)>,
    stated: Option<(u32, u32)>,
    /// The size found by counting for these fields.
    counted: Option<Counted>,
}

/// The size that the scan has under these fields.
#[derive(Debug, Clone, Copy)]
struct Counted {
    fields: (u8, u8, u8),
    size: (u32, u32),
}

impl Sizes {
    pub(super) fn new(announced: Option<(u32, u32)>) -> Self {
        Self { announced, stated: None, counted: None }
    }

    pub(super) fn set_stated(&mut self, width: u32, height: u32) {
        self.stated =
            Some((width, height)).filter(|(w, h)| (1..=65535).contains(w) && (1..=65535).contains(h));
    }

    /// The size of a picture: of the header extension, the SDP, the user, the scan, the list, the fields.
    pub(super) fn of(&mut self, picture: &Picture) -> (u32, u32) {
        let header = picture.header;
        let announced = self.announced.filter(|size| agrees(header, *size));
        if let Some(size) = picture.extension_size.or(announced).or(self.stated) {
            return size;
        }
        let fields = (header.width, header.height, header.kind);
        if let Some(counted) = self.counted.filter(|counted| counted.fields == fields) {
            return counted.size;
        }
        let pixels = (u32::from(header.width) * 8, u32::from(header.height) * 8);
        let listed = KNOWN.iter().find(|(fields, _)| *fields == pixels).map(|(_, size)| *size);
        let restart = Restart { interval: picture.restart_interval };
        let count = count_mcus(&picture.scan, header.is_420(), restart);
        let size = count.and_then(|count| search(header, count)).or(listed).unwrap_or(pixels);
        self.counted = Some(Counted { fields, size });
        size
    }
}

/// Whether the fields can stand for this size; 0 stands for any.
fn agrees(header: MainHeader, (width, height): (u32, u32)) -> bool {
    let fits = |field: u8, side: u32| field == 0 || side.div_ceil(8) % 256 == u32::from(field);
    fits(header.width, width) && fits(header.height, height)
}

/// The size with this number of MCUs; of several the one whose shape is most like a picture's.
fn search(header: MainHeader, mcus: u32) -> Option<(u32, u32)> {
    let mcu_height = if header.is_420() { 16 } else { 8 };
    let sides =
        |field: u8| (0..).map(move |k| u32::from(field) * 8 + 2048 * k).take_while(|s| *s <= MAX_SIDE);
    let mut best: Option<(u32, (u32, u32))> = None;
    for width in sides(header.width) {
        for height in sides(header.height) {
            if width == 0 || height == 0 || width.div_ceil(16) * height.div_ceil(mcu_height) != mcus {
                continue;
            }
            // Distance from 3:2 in thousandths, between the usual 4:3 and 16:9.
            let distance = (width * 1000 / height).abs_diff(1500);
            if best.is_none_or(|(least, _)| distance < least) {
                best = Some((distance, (width, height)));
            }
        }
    }
    best.map(|(_, size)| size)
}

/// The size in a frame header (SOF0 to SOF2) among marker segments.
pub(super) fn of_frame_header(data: &[u8]) -> Option<(u32, u32)> {
    let mut rest = data;
    while let Some(head) = rest.first_chunk::<9>() {
        if let [0xff, 0xc0..=0xc2, _, _, _, h0, h1, w0, w1] = *head {
            let (width, height) = (u16::from_be_bytes([w0, w1]), u16::from_be_bytes([h0, h1]));
            return Some((u32::from(width), u32::from(height))).filter(|(w, h)| *w > 0 && *h > 0);
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    None
}

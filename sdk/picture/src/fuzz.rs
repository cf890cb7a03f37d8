//! The function of the fuzz target: any bytes in, a panic when an invariant does not hold.

use bytes::Bytes;
use patchbay_media::{Codec, Parameters};

use crate::{from_jpeg, from_raw};

/// Most pixels that are worth the time here.
const SMALL: u64 = 1 << 20;

/// A JPEG file, and a raw frame behind the first line as its header.
pub fn picture(data: &[u8]) {
    let small = |width: u64, height: u64| width * height <= SMALL;
    if patchbay_media::jpeg::size(data).is_ok_and(|(w, h)| small(w.into(), h.into()))
        && let Ok(picture) = from_jpeg(&Bytes::copy_from_slice(data))
    {
        assert_eq!(
            picture.rgb.len(),
            picture.width as usize * picture.height as usize * 3,
            "every pixel is there"
        );
        assert!(picture.to_jpeg(50).is_ok(), "a picture can be written");
    }
    let mut lines = data.splitn(2, |byte| *byte == b'\n');
    if let (Some(header), Some(frame)) = (lines.next(), lines.next()) {
        let mut parameters = Parameters::video(Codec::Rawvideo, 90_000);
        parameters.extradata = Bytes::copy_from_slice(header);
        if let Ok(picture) = from_raw(&parameters, frame) {
            assert_eq!(
                picture.rgb.len(),
                picture.width as usize * picture.height as usize * 3,
                "every pixel is there"
            );
            assert!(picture.turned(1).rgb.len() == picture.rgb.len(), "turning loses nothing");
        }
    }
}

//! Raw frames: planes as the header of a YUV4MPEG2 stream says.

use patchbay_media::Parameters;
use yuv::{YuvPlanarImage, YuvRange, YuvStandardMatrix, yuv420_to_rgb, yuv422_to_rgb, yuv444_to_rgb};

use crate::error::PictureError;
use crate::picture::{Picture, check_size};

/// The picture of a frame of a `rawvideo` track: 8 bits, 4:2:0, 4:2:2, 4:4:4 or gray.
pub fn from_raw(parameters: &Parameters, frame: &[u8]) -> Result<Picture, PictureError> {
    let broken = |reason: &str| PictureError::Broken { codec: "rawvideo", reason: reason.to_owned() };
    let header = String::from_utf8_lossy(&parameters.extradata);
    let value = |key: char| header.split_ascii_whitespace().find_map(|part| part.strip_prefix(key));
    let side = |key, known: u32| value(key).and_then(|text| text.parse::<u32>().ok()).unwrap_or(known);
    let (width, height) = (side('W', parameters.width), side('H', parameters.height));
    check_size(width, height)?;
    let colours = value('C').unwrap_or("420");
    // `X` parameters may follow each other: the range is one of them.
    let is_full = header.split_ascii_whitespace().any(|part| part == "XCOLORRANGE=FULL");
    let range = if is_full { YuvRange::Full } else { YuvRange::Limited };
    let half = |side: u32| side.div_ceil(2);
    let (chroma_width, chroma_height) = match colours {
        "422" => (half(width), height),
        "444" => (width, height),
        "mono" => (0, 0),
        "420" | "420jpeg" | "420mpeg2" | "420paldv" => (half(width), half(height)),
        _ => return Err(broken(&format!("colour space {colours}"))),
    };
    let luma = width as usize * height as usize;
    let chroma = chroma_width as usize * chroma_height as usize;
    let planes = frame.split_at_checked(luma).and_then(|(y, rest)| {
        let (u, rest) = rest.split_at_checked(chroma)?;
        Some((y, u, rest.get(..chroma)?))
    });
    let (y_plane, u_plane, v_plane) = planes.ok_or_else(|| broken("the frame is cut"))?;
    if colours == "mono" {
        let expand =
            |luma: u8| if is_full { luma } else { ((i32::from(luma) - 16) * 255 / 219).clamp(0, 255) as u8 };
        let rgb = y_plane.iter().flat_map(|luma| [expand(*luma); 3]).collect();
        return Ok(Picture { width, height, rgb });
    }
    let image = YuvPlanarImage {
        y_plane,
        y_stride: width,
        u_plane,
        u_stride: chroma_width,
        v_plane,
        v_stride: chroma_width,
        width,
        height,
    };
    let mut rgb = Picture::buffer(width, height)?;
    let convert = match colours {
        "422" => yuv422_to_rgb,
        "444" => yuv444_to_rgb,
        _ => yuv420_to_rgb,
    };
    convert(&image, &mut rgb, width * 3, range, YuvStandardMatrix::Bt601)
        .map_err(|error| broken(&error.to_string()))?;
    Ok(Picture { width, height, rgb })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use patchbay_media::Codec;

    fn frame(header: &'static str, data: Vec<u8>) -> Result<Picture, PictureError> {
        let mut parameters = Parameters::video(Codec::Rawvideo, 90_000);
        parameters.extradata = Bytes::from_static(header.as_bytes());
        from_raw(&parameters, &data)
    }

    #[test]
    fn white_is_white_in_every_colour_space() {
        for (header, chroma) in [
            ("W4 H2 F25:1 C420jpeg", 4),
            ("W4 H2 C422", 8),
            ("W4 H2 C444", 16),
            ("W4 H2 Cmono", 0),
            ("W3 H1", 4),
        ] {
            let luma = if header == "W3 H1" { 3 } else { 8 };
            let data = [vec![235; luma], vec![128; chroma]].concat();
            let picture = frame(header, data).unwrap();
            assert!(picture.rgb.iter().all(|value| *value >= 253), "{header}: {:?}", picture.rgb);
            assert_eq!(picture.rgb.len(), luma * 3, "{header}");
        }
    }

    #[test]
    fn cut_frames_and_unknown_colours_are_errors() {
        assert!(matches!(frame("W4 H2", vec![0; 11]), Err(PictureError::Broken { .. })));
        assert!(matches!(frame("W4 H2 C420p10", vec![0; 99]), Err(PictureError::Broken { .. })));
        assert!(matches!(frame("W0 H2", vec![]), Err(PictureError::Size { .. })));
        assert!(matches!(frame("W4294967295 H4294967295", vec![]), Err(PictureError::Size { .. })));
    }
}

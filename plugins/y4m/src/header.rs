//! The line at the start of a YUV4MPEG2 stream, as mjpegtools and FFmpeg write it (yuv4mpeg(5)).

use patchbay_sdk::Error;

/// First word of the stream.
pub const MAGIC: &[u8] = b"YUV4MPEG2";
/// Longest header line, in bytes.
pub const MAX_LINE: usize = 1024;
/// Largest frame, in bytes: what a raw unit may have.
pub const MAX_FRAME: usize = 32 << 20;
/// Most pixels in a row or column.
const MAX_SIZE: u32 = 16_384;

/// What the parameters say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Frames per second as a fraction, when it is known.
    pub frame_rate: Option<(u32, u32)>,
    /// Bytes of a frame.
    pub frame_bytes: usize,
}

impl Header {
    /// Reads the parameters: the line behind [`MAGIC`], without its line feed. Their order is free.
    pub fn parse(parameters: &[u8]) -> Result<Self, Error> {
        let text = str::from_utf8(parameters).map_err(|_| Error::protocol("y4m: the header is no text"))?;
        let (mut width, mut height, mut frame_rate, mut colours) = (None, None, None, "420jpeg");
        for word in text.split_ascii_whitespace() {
            let (key, value) = word.split_at_checked(1).unwrap_or((word, ""));
            match key {
                "W" => width = value.parse::<u32>().ok(),
                "H" => height = value.parse::<u32>().ok(),
                "F" => frame_rate = rate(value),
                "C" => colours = value,
                // Interlacing, pixel aspect, comments: for whoever shows the pictures.
                _ => {}
            }
        }
        let size = |value: Option<u32>| value.filter(|size| (1..=MAX_SIZE).contains(size));
        let (Some(width), Some(height)) = (size(width), size(height)) else {
            return Err(Error::protocol("y4m: the header tells no size"));
        };
        let frame_bytes = frame_bytes(colours, width, height)
            .ok_or_else(|| Error::unsupported(format!("y4m: unsupported colour space: {colours:.20}")))?;
        if frame_bytes > MAX_FRAME {
            return Err(Error::unsupported(format!(
                "y4m: frames of {width}x{height} are larger than 32 MiB"
            )));
        }
        Ok(Self { width, height, frame_rate, frame_bytes })
    }
}

fn rate(value: &str) -> Option<(u32, u32)> {
    let (num, den) = value.split_once(':')?;
    let (num, den) = (num.parse().ok()?, den.parse().ok()?);
    (num > 0 && den > 0).then_some((num, den))
}

/// Bytes of a frame: luma and twice chroma, samples above 8 bits in two bytes (`420p10`).
fn frame_bytes(colours: &str, width: u32, height: u32) -> Option<usize> {
    let (width, height) = (width as usize, height as usize);
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    let (layout, depth) = match colours {
        "420jpeg" | "420mpeg2" | "420paldv" => ("420", ""),
        "mono9" | "mono10" | "mono12" | "mono14" | "mono16" => ("mono", "p16"),
        _ => colours.find('p').and_then(|at| colours.split_at_checked(at)).unwrap_or((colours, "")),
    };
    let bytes = match depth {
        "" => 1,
        "p9" | "p10" | "p12" | "p14" | "p16" => 2,
        _ => return None,
    };
    let chroma = match layout {
        "420" => half_width * half_height,
        "411" => width.div_ceil(4) * height,
        "422" => half_width * height,
        "444" => width * height,
        "mono" => 0,
        _ => return None,
    };
    Some((width * height + 2 * chroma) * bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by ffmpeg 5.1.
    #[test]
    fn ffmpeg_s_header_is_read() {
        let header = Header::parse(b" W16 H16 F10:1 Ip A1:1 C420jpeg XYSCSS=420JPEG").unwrap();
        assert_eq!(header, Header { width: 16, height: 16, frame_rate: Some((10, 1)), frame_bytes: 384 });
        let any_order = Header::parse(b" C444 XSOMETHING H3 F0:0 W5").unwrap();
        assert_eq!(any_order, Header { width: 5, height: 3, frame_rate: None, frame_bytes: 45 });
    }

    #[test]
    fn frames_have_their_size() {
        for (colours, bytes) in [
            ("420", 15 + 2 * 6),
            ("420mpeg2", 15 + 2 * 6),
            ("420p10", 2 * (15 + 2 * 6)),
            ("411", 15 + 2 * 6),
            ("422", 15 + 2 * 9),
            ("422p12", 2 * (15 + 2 * 9)),
            ("444", 45),
            ("mono", 15),
            ("mono10", 30),
        ] {
            assert_eq!(frame_bytes(colours, 5, 3), Some(bytes), "{colours}");
        }
        for colours in ["", "444alpha", "420p11", "rgb"] {
            assert_eq!(frame_bytes(colours, 5, 3), None, "{colours}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for parameters in ["", " W16", " W0 H16", " W16384 H16384 C444", " W-1 H2", " W2 H2 Cnone"] {
            assert!(Header::parse(parameters.as_bytes()).is_err(), "{parameters}");
        }
    }
}

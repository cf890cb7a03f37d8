//! The rest: an ffmpeg process takes one byte stream and gives one picture (PPM).

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use parking_lot::Mutex;
use patchbay_picture::{MAX_PIXELS, Picture, check_size};
use patchbay_sdk::media::{Codec, Parameters, Unit, annexb, h264, h265, nal};

use crate::error::SnapshotError;

/// A process that has given no picture by then is killed.
const LIMIT: Duration = Duration::from_secs(8);

/// Most bytes of a PPM file: the pixels and its header.
const MAX_PPM: u64 = MAX_PIXELS * 3 + 64;

/// Bytes that are read of what the program says.
const MAX_SAID: u64 = 8 << 10;

/// Decodes a key unit.
pub(super) fn decode(parameters: &Parameters, unit: &Unit, program: &str) -> Result<Picture, SnapshotError> {
    let codec = parameters.codec.name();
    let (format, stream) = stream(parameters, unit).ok_or(SnapshotError::Codec { codec })?;
    let (output, said) = run(program, format, stream).map_err(|error| SnapshotError::NoFfmpeg {
        codec,
        program: program.to_owned(),
        reason: error.to_string(),
    })?;
    let said = || {
        let text = String::from_utf8_lossy(&said);
        text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing was said").to_owned()
    };
    parse_ppm(output).ok_or_else(|| SnapshotError::Ffmpeg { codec, said: said() })
}

/// What the program is fed: its name of the format, and the key unit in it.
fn stream(parameters: &Parameters, unit: &Unit) -> Option<(&'static str, Bytes)> {
    let mut out = BytesMut::with_capacity(unit.data.len() + 1024);
    let extradata = &parameters.extradata;
    let format = match parameters.codec {
        Codec::H264 => {
            let sets = h264::parse_avcc(extradata).map(|sets| [sets.sps, sets.pps].concat());
            annexb::write(sets.unwrap_or_default().iter().map(AsRef::as_ref), &mut out);
            annexb::write(nal::units(&unit.data), &mut out);
            "h264"
        }
        Codec::Hevc => {
            let sets = h265::parse_hvcc(extradata).map(|sets| [sets.vps, sets.sps, sets.pps].concat());
            annexb::write(sets.unwrap_or_default().iter().map(AsRef::as_ref), &mut out);
            annexb::write(nal::units(&unit.data), &mut out);
            "hevc"
        }
        Codec::Mpeg4 => {
            out.put_slice(extradata);
            out.put_slice(&unit.data);
            "m4v"
        }
        Codec::Vp8 => ivf(*b"VP80", &[&unit.data], &mut out),
        Codec::Vp9 => ivf(*b"VP90", &[&unit.data], &mut out),
        // A temporal delimiter, the sequence header of the record (AV1 in ISOBMFF section 2.3.3), the unit.
        Codec::Av1 => {
            let header = extradata.get(4..).unwrap_or_default();
            ivf(*b"AV01", &[&[0x12, 0x00], header, &unit.data], &mut out)
        }
        _ => return None,
    };
    Some((format, out.freeze()))
}

/// An IVF file of one frame, little-endian.
fn ivf(fourcc: [u8; 4], parts: &[&[u8]], out: &mut BytesMut) -> &'static str {
    out.put_slice(b"DKIF");
    out.put_u16_le(0);
    out.put_u16_le(32);
    out.put_slice(&fourcc);
    // The size stands in the frame.
    out.put_u32_le(0);
    for value in [25, 1, 1, 0, parts.iter().map(|part| part.len() as u32).sum(), 0, 0] {
        out.put_u32_le(value);
    }
    parts.iter().for_each(|part| out.put_slice(part));
    "ivf"
}

/// Starts the program, feeds it, and gives what it wrote and said.
fn run(program: &str, format: &str, input: Bytes) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let mut child = Command::new(program)
        .args(["-hide_banner", "-v", "error", "-f", format, "-i", "pipe:0", "-frames:v", "1"])
        .args(["-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "pipe:1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let child = Arc::new(Mutex::new(child));
    // The writer may wait for a program that reads no more: it ends when that is killed.
    let writer = std::thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(&input);
        }
    });
    let listener = std::thread::spawn(move || {
        let mut said = Vec::new();
        if let Some(stderr) = stderr {
            let _ = stderr.take(MAX_SAID).read_to_end(&mut said);
        }
        said
    });
    let (done, watched) = channel::<()>();
    let watcher = {
        let child = Arc::clone(&child);
        std::thread::spawn(move || {
            if watched.recv_timeout(LIMIT).is_err() {
                end(&child);
            }
        })
    };
    let mut output = Vec::new();
    let read = stdout.map(|stdout| stdout.take(MAX_PPM).read_to_end(&mut output));
    // It has closed its output, or writes more than a picture: either way there is nothing to wait for.
    let _ = done.send(());
    end(&child);
    let _ = (writer.join(), watcher.join());
    let said = listener.join().unwrap_or_default();
    read.transpose()?;
    Ok((output, said))
}

fn end(child: &Mutex<Child>) {
    let mut child = child.lock();
    let _ = child.kill();
    let _ = child.wait();
}

/// A binary PPM file with 8 bits a sample (netpbm's `P6`), without comments, as ffmpeg writes it.
pub fn parse_ppm(file: Vec<u8>) -> Option<Picture> {
    let mut fields = [0_u32; 3];
    let mut at = 2;
    file.strip_prefix(b"P6")?;
    for field in &mut fields {
        let rest = file.get(at..)?;
        let start = rest.iter().take(8).position(|byte| !byte.is_ascii_whitespace())?;
        let digits = rest.get(start..)?.iter().take(8).take_while(|byte| byte.is_ascii_digit()).count();
        *field = std::str::from_utf8(rest.get(start..start + digits)?).ok()?.parse().ok()?;
        at += start + digits;
    }
    // One white space stands before the pixels.
    at += 1;
    let [width, height, 255] = fields else { return None };
    check_size(width, height).ok()?;
    let length = width as usize * height as usize * 3;
    let mut rgb = file;
    if rgb.len() < at + length {
        return None;
    }
    rgb.drain(..at);
    rgb.truncate(length);
    Some(Picture { width, height, rgb })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ppm_files_are_read() {
        let picture = parse_ppm(b"P6\n2 1\n255\nabcdefrest".to_vec()).unwrap();
        assert_eq!((picture.width, picture.height, &picture.rgb[..]), (2, 1, &b"abcdef"[..]));
        for file in [
            "P6\n2 1\n255\nabcde",
            "P5\n2 1\n255\nabcdef",
            "P6\n2 1\n65535\nabcdefabcdef",
            "P6\n0 1\n255\n",
            "",
        ] {
            assert_eq!(parse_ppm(file.as_bytes().to_vec()), None, "{file}");
        }
    }

    #[test]
    fn a_missing_program_is_named() {
        let unit = Unit::new(0, true, Bytes::from_static(&[0, 0, 0, 1, 0x26]));
        let parameters = Parameters::video(Codec::Hevc, 90_000);
        let error = decode(&parameters, &unit, "/nowhere/ffmpeg").unwrap_err();
        assert!(error.to_string().contains("`/nowhere/ffmpeg` cannot be started"), "{error}");
    }

    /// The head that ffmpeg 5.1 writes, but for the size and the number of frames.
    #[test]
    fn ivf_files_have_one_frame() {
        let (format, file) =
            stream(&Parameters::video(Codec::Vp9, 90_000), &Unit::new(0, true, Bytes::from_static(b"abc")))
                .unwrap();
        assert_eq!(format, "ivf");
        assert_eq!(file.len(), 32 + 12 + 3);
        assert_eq!(file[..16], *b"DKIF\0\0\x20\0VP90\0\0\0\0");
        assert_eq!(file[16..24], [25, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(file[32..], *b"\x03\0\0\0\0\0\0\0\0\0\0\0abc");
        assert!(
            stream(&Parameters::video(Codec::Mjpeg, 90_000), &Unit::new(0, true, Bytes::new())).is_none()
        );
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(data: Vec<u8>, text in "P6[ \n0-9]{0,30}") {
            let _ = parse_ppm(data);
            let _ = parse_ppm(text.into_bytes());
        }
    }
}

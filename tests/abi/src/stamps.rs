//! `fixture:stamps`: H.264 of 4 Mbit/s that no decoder understands; each picture begins with the time at which it was pushed.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use patchbay_sdk::Error;
use patchbay_sdk::media::{Codec, Parameters, Unit};
use patchbay_sdk::source::{Session, Tracks};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, sleep_until};

/// What stands before the time, which is in ns of the monotonic clock as 16 hexadecimal digits.
pub const MARK: &[u8] = b"PBSTAMP0";

/// Bytes of a picture.
const LEN: usize = 20_000;

/// Time between two pictures, and the ticks of 90 kHz in it.
const STEP: (Duration, i64) = (Duration::from_millis(40), 3600);

/// Pictures from one key picture to the next.
const GOP: i64 = 50;

/// `AVCDecoderConfigurationRecord` of 1280x720 at 25 pictures a second (measured with ffmpeg 5.1 and libx264).
const EXTRADATA: &[u8] =
    b"\x01\x42\xc0\x1f\xff\xe1\x00\x17\x67\x42\xc0\x1f\xda\x01\x40\x16\xec\x04\x40\x00\x00\x03\x00\x40\
    \x00\x00\x0c\x83\xc6\x0c\xa8\x01\x00\x04\x68\xce\x0f\xc8";

/// Announces the track and sends pictures until the session is closed.
pub async fn play(session: &Session) -> Result<(), Error> {
    let mut video = Parameters::video(Codec::H264, 90_000);
    (video.extradata, video.width, video.height) = (Bytes::from_static(EXTRADATA), 1280, 720);
    session.tracks(&Tracks { receive: vec![video.into()], ..Tracks::default() })?;
    session.wanted().await?;
    let start = Instant::now();
    for turn in 0.. {
        let due = start + STEP.0 * u32::try_from(turn).unwrap_or(u32::MAX);
        tokio::select! {
            () = sleep_until(due) => {}
            () = session.closed() => return Ok(()),
        }
        session.push(0, &Unit::new(turn * STEP.1, turn % GOP == 0, picture(turn % GOP == 0)))?;
    }
    Ok(())
}

fn picture(key: bool) -> Bytes {
    let mut bytes = BytesMut::with_capacity(LEN);
    bytes.put_u32(LEN as u32 - 4);
    // A slice of an IDR picture, or of another one, that begins with macroblock 0.
    bytes.put_slice(if key { b"\x65\x88\x84" } else { b"\x41\x9a\x24" });
    let now = clock_gettime(ClockId::Monotonic);
    bytes.put_slice(MARK);
    bytes.put_slice(format!("{:016x}", now.tv_sec * 1_000_000_000 + now.tv_nsec).as_bytes());
    bytes.resize(LEN, 0xaa);
    bytes.freeze()
}

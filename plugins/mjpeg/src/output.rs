//! Role `output`: pictures as parts of a multipart stream, each alone, or as text.

use bytes::{BufMut as _, Bytes, BytesMut};
use patchbay_picture::{PictureError, from_jpeg, from_raw};
use patchbay_sdk::api::Chunk;
use patchbay_sdk::api::abi::chunk_flags;
use patchbay_sdk::api::message::History;
use patchbay_sdk::media::jpeg::huffman;
use patchbay_sdk::media::{Codec, Parameters, Unit};
use patchbay_sdk::output::{Joined, Request};
use patchbay_sdk::{Config, Error, Mux, Output, Plugin};

use crate::ascii::{self, Style};

/// What stands between the parts.
const BOUNDARY: &str = "--frame\r\n";

/// Quality of raw frames as JPEG.
const QUALITY: u8 = 80;

/// The plugin.
pub struct Mjpeg;

impl Plugin for Mjpeg {
    fn start(_: Config) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Output for Mjpeg {
    type Mux = Pictures;

    fn mux(&self, request: &Request) -> Result<Pictures, Error> {
        let [track] = request.tracks.as_slice() else {
            return Err(Error::unsupported("mjpeg: one track of pictures is needed"));
        };
        let form = match request.format.as_str() {
            "mpjpeg" => Form::Parts,
            "ascii" => Form::Text(Box::new(Style::parse(|key| request.options.get(key).cloned()))),
            _ => Form::Files,
        };
        let mut pictures = Pictures { form, parameters: track.clone(), last: None };
        pictures.take(track)?;
        Ok(pictures)
    }
}

/// A running muxer.
pub struct Pictures {
    form: Form,
    /// Of the track.
    parameters: Parameters,
    /// The picture that was made last: a viewer that joins shows it.
    last: Option<(i64, Bytes)>,
}

enum Form {
    /// Parts of a multipart stream.
    Parts,
    /// Each picture alone (WebSocket).
    Files,
    /// Text for a terminal.
    Text(Box<Style>),
}

impl Pictures {
    fn take(&mut self, parameters: &Parameters) -> Result<(), Error> {
        if !matches!(parameters.codec, Codec::Mjpeg | Codec::Rawvideo) {
            return Err(Error::unsupported("mjpeg: the stream has no JPEG pictures and no raw frames"));
        }
        self.parameters = parameters.clone();
        Ok(())
    }

    /// What a viewer gets of a picture; empty when it cannot be made.
    fn made(&mut self, unit: &Unit) -> Bytes {
        if let Some((_, made)) = self.last.as_ref().filter(|(pts, _)| *pts == unit.pts) {
            return made.clone();
        }
        let made = match (&self.form, self.parameters.codec) {
            (Form::Parts, Codec::Mjpeg) => Ok(part(&huffman::complete(&unit.data))),
            (Form::Files, Codec::Mjpeg) => Ok(huffman::complete(&unit.data)),
            // Milliseconds of work: the worker's other tasks go on elsewhere.
            _ => tokio::task::block_in_place(|| self.drawn(unit)),
        };
        let made = made.unwrap_or_else(|error| {
            tracing::debug!("mjpeg: {error}");
            Bytes::new()
        });
        self.last = Some((unit.pts, made.clone()));
        made
    }

    /// What takes decoding or encoding.
    fn drawn(&self, unit: &Unit) -> Result<Bytes, PictureError> {
        let picture = match self.parameters.codec {
            Codec::Mjpeg => from_jpeg(&unit.data)?,
            _ => from_raw(&self.parameters, &unit.data)?,
        };
        Ok(match &self.form {
            Form::Parts => part(&picture.to_jpeg(QUALITY)?),
            Form::Files => picture.to_jpeg(QUALITY)?,
            Form::Text(style) => style.write(&picture)?.into(),
        })
    }
}

/// A browser shows a picture when the next boundary comes, so it is sent behind the picture that it ends.
fn part(picture: &Bytes) -> Bytes {
    let head = format!("Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", picture.len());
    let mut part = BytesMut::with_capacity(head.len() + picture.len() + 2 + BOUNDARY.len());
    part.put_slice(head.as_bytes());
    part.put_slice(picture);
    part.put_slice(b"\r\n");
    part.put_slice(BOUNDARY.as_bytes());
    part.freeze()
}

impl Mux for Pictures {
    fn mime(&self) -> String {
        let mime = match self.form {
            Form::Parts => "multipart/x-mixed-replace; boundary=frame",
            Form::Files => "image/jpeg",
            Form::Text(_) => "text/plain; charset=utf-8",
        };
        mime.to_owned()
    }

    fn init(&mut self) -> Bytes {
        let init = match self.form {
            Form::Parts => BOUNDARY,
            Form::Files => "",
            Form::Text(_) => ascii::CLEAR,
        };
        Bytes::from_static(init.as_bytes())
    }

    fn push(&mut self, _: usize, unit: &Unit, chunks: &mut Vec<Chunk>) {
        let data = self.made(unit);
        if !data.is_empty() {
            let flags = chunk_flags::KEY | chunk_flags::ALONE;
            chunks.push(Chunk { data, flags, ..Chunk::default() });
        }
    }

    fn configure(&mut self, _: usize, parameters: &Parameters, _: &mut Vec<Chunk>) -> Result<bool, Error> {
        self.take(parameters)?;
        Ok(false)
    }

    fn history(&mut self, _: usize, units: &[Unit], history: History) -> Joined {
        let shown = units.last().filter(|_| history != History::None);
        Joined { data: shown.map(|unit| self.made(unit)).unwrap_or_default(), starts: Vec::new() }
    }

    fn still(&mut self, _: usize, unit: &Unit) -> Bytes {
        self.made(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_sdk::media::jpeg;

    fn pictures(format: &str, parameters: &Parameters) -> Result<Pictures, Error> {
        let tracks = vec![parameters.clone()];
        Mjpeg.mux(&Request { format: format.to_owned(), tracks, options: Default::default() })
    }

    #[test]
    fn every_viewer_gets_whole_parts_with_their_length() {
        let mut pictures = pictures("mpjpeg", &Parameters::video(Codec::Mjpeg, 90_000)).unwrap();
        let unit = |pts| Unit::new(pts, true, Bytes::from_static(&[0xff, 0xd8, 1, 2, 0xff, 0xd9]));
        let mut sent = pictures.init().to_vec();
        sent.extend(pictures.history(0, &[unit(0)], History::Live).data);
        let mut chunks = Vec::new();
        pictures.push(0, &unit(3600), &mut chunks);
        sent.extend(&chunks[0].data);
        let part =
            b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 6\r\n\r\n\xff\xd8\x01\x02\xff\xd9\r\n";
        assert_eq!(sent, [part.as_slice(), part, b"--frame\r\n"].concat());
    }

    #[test]
    fn raw_frames_are_made_into_files_and_broken_ones_left_out() {
        let mut raw = Parameters::video(Codec::Rawvideo, 90_000);
        raw.extradata = Bytes::from_static(b"W32 H16 C420");
        let mut files = pictures("mjpeg", &raw).unwrap();
        let file = files.still(0, &Unit::new(0, true, vec![128; 32 * 16 * 3 / 2].into()));
        assert_eq!(jpeg::size(&file), Ok((32, 16)));
        let mut chunks = Vec::new();
        files.push(0, &Unit::new(1, true, Bytes::from_static(&[1, 2])), &mut chunks);
        assert!(chunks.is_empty());
        assert!(pictures("mjpeg", &Parameters::video(Codec::H264, 90_000)).is_err());
    }

    #[test]
    fn text_is_cleared_once() {
        let mut raw = Parameters::video(Codec::Rawvideo, 90_000);
        raw.extradata = Bytes::from_static(b"W2 H2 Cmono");
        let mut text = pictures("ascii", &raw).unwrap();
        assert_eq!(text.init(), "\x1b[2J");
        let shown = text.history(0, &[Unit::new(0, true, vec![235; 4].into())], History::Live);
        assert_eq!(shown.data, "\x1b[H@@\n@@\n\x1b[0m");
    }
}

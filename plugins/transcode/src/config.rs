//! What a URL asks for.

use std::time::Duration;

use patchbay_audio::{Decoder, PACKET, Target};
use patchbay_sdk::api::message::{Connection, Consume, Media};

use crate::error::Error;

/// How long the stream has to say what it is, ms.
const BOUND_LIMIT_MS: u64 = 15_000;

/// What `ffmpeg:` lines name that is neither a stream nor a URL, besides paths.
const OWN_INPUTS: [&str; 3] = ["device?", "virtual?", "tts?"];

/// Most tracks that one URL may ask for.
const MAX_TRACKS: usize = 8;

/// `transcode:NAME` with its `#options`, or an `ffmpeg:` line that asks for no more than that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The stream.
    pub stream: String,
    /// One track of sound each.
    pub audio: Vec<Audio>,
    /// The picture is passed on.
    pub video: bool,
}

/// A track of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audio {
    /// As it comes.
    Copy,
    /// In this codec.
    Encode(Target),
}

impl Wish {
    /// Reads a URL. Options that it does not know are ignored, as everywhere.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let mut parts = url.split('#');
        let name = parts.next().unwrap_or_default();
        let (scheme, stream) = name.split_once(':').unwrap_or_default();
        let (is_ffmpeg, stream) = (scheme == "ffmpeg", stream.trim().to_owned());
        if stream.is_empty() {
            return Err(Error::NoStream);
        }
        if is_ffmpeg && (stream.starts_with('/') || OWN_INPUTS.iter().any(|input| stream.starts_with(input)))
        {
            return Err(Error::Input { input: stream });
        }
        let options: Vec<(&str, &str)> =
            parts.map(|part| part.split_once('=').unwrap_or((part, ""))).collect();
        let all = |key: &'static str| {
            options.iter().filter(move |(known, _)| *known == key).map(|(_, value)| *value)
        };
        let packet = match all("ptime").next_back() {
            Some(text) => {
                let ms = text.parse::<u16>().map_err(|_| Error::Ptime { text: text.to_owned() })?;
                Duration::from_millis(ms.into())
            }
            None => PACKET,
        };
        let audio = all("audio").take(MAX_TRACKS).map(|text| match text {
            "copy" => Ok(Audio::Copy),
            _ => Ok(Audio::Encode(Target::parse(text, packet)?)),
        });
        let audio = audio.collect::<Result<Vec<Audio>, Error>>()?;
        if let Some(text) = all("video").find(|text| *text != "copy") {
            let text = text.to_owned();
            return Err(if is_ffmpeg { Error::Picture { text } } else { Error::Video { text } });
        }
        let video = all("video").next().is_some();
        if is_ffmpeg && audio.is_empty() && !video {
            return Ok(Self { stream, audio: vec![Audio::Copy], video: true });
        }
        if audio.is_empty() && !video {
            return Err(Error::Nothing);
        }
        Ok(Self { stream, audio, video })
    }

    /// The claim on the stream. `url` is this source, which its own stream must not give it.
    pub fn consume(&self, url: &str) -> Consume {
        let media = |kind: &str, codecs: Vec<String>| Media { kind: kind.to_owned(), codecs };
        let mut medias = Vec::new();
        if self.video {
            medias.push(media("video", vec!["any".to_owned()]));
        }
        if self.audio.contains(&Audio::Copy) {
            medias.push(media("audio", vec!["any".to_owned()]));
        } else if !self.audio.is_empty() {
            medias
                .push(media("audio", Decoder::CODECS.iter().map(|codec| codec.name().to_owned()).collect()));
        }
        Consume {
            stream: self.stream.clone(),
            medias,
            source: url.to_owned(),
            connection: Connection { format_name: "transcode".to_owned(), ..Connection::default() },
            timeout_ms: BOUND_LIMIT_MS,
            ..Consume::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_media::Codec;

    #[test]
    fn urls_say_what_is_wanted() {
        let wish = Wish::parse("transcode:yard#audio=opus/48000/2#ptime=40#linger=9").unwrap();
        assert_eq!((wish.stream.as_str(), wish.video, wish.audio.len()), ("yard", false, 1));
        let Audio::Encode(target) = wish.audio[0] else { panic!("{wish:?}") };
        assert_eq!((target.codec, target.packet), (Codec::Opus, Duration::from_millis(40)));
        let wish = Wish::parse("transcode:talk:17#audio=pcm_alaw/8000").unwrap();
        assert_eq!(wish.stream, "talk:17");
        let wish = Wish::parse("transcode:cam#video=copy#audio=copy#audio=pcmu").unwrap();
        assert_eq!((wish.audio.len(), wish.video, wish.consume("x").medias.len()), (2, true, 2));
        // Home Assistant's line, and a URL that is passed on as it is.
        let wish = Wish::parse("ffmpeg:camera.yard#audio=opus#query=log_level=debug").unwrap();
        assert_eq!((wish.stream.as_str(), wish.video, wish.audio.len()), ("camera.yard", false, 1));
        let wish = Wish::parse("ffmpeg:rtsp://u:p@192.0.2.7/x").unwrap();
        let copied = vec![Audio::Copy];
        assert_eq!(wish, Wish { stream: "rtsp://u:p@192.0.2.7/x".to_owned(), audio: copied, video: true });
        for (url, error) in [
            ("transcode:", "transcode: no stream is named: transcode:NAME#audio=opus"),
            (
                "transcode:cam#video=h264",
                "transcode: video=h264 is not transcoded yet (#video=copy passes it on)",
            ),
            (
                "ffmpeg:cam#video=h264#audio=copy#rotate=90",
                "ffmpeg: video=h264: pictures are not transcoded yet (#video=copy passes them on)",
            ),
            (
                "ffmpeg:device?video=0#video=copy",
                "ffmpeg: device?video=0: only streams and URLs are read yet",
            ),
            ("ffmpeg:/a.mp4", "ffmpeg: /a.mp4: only streams and URLs are read yet"),
            ("transcode:cam#audio=opus#ptime=x", "transcode: ptime=x is no number of milliseconds"),
            (
                "transcode:cam#audio=mp3",
                "transcode: audio=mp3 is not encoded here: opus, aac, pcma, pcmu, pcm and pcml are",
            ),
        ] {
            assert_eq!(Wish::parse(url).unwrap_err().to_string(), error);
        }
        assert_eq!(Wish::parse("transcode:cam"), Err(Error::Nothing));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in ".{0,60}") {
            let _ = Wish::parse(&format!("transcode:{text}"));
            let _ = Wish::parse(&format!("ffmpeg:{text}"));
        }
    }
}

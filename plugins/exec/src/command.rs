//! The command line in a URL, and its options.

use std::time::Duration;

use md5::{Digest as _, Md5};
use patchbay_sdk::api::message::SendTrack;
use patchbay_sdk::media::{Codec, Parameters, flac};
use patchbay_sdk::process::{Ending, KILL_AFTER, Signal};

/// Stands for the URL that the program publishes to.
const OUTPUT: &str = "{output}";

/// `#audio=flac`.
const FLAC: &str = "flac";

/// Longest command line, in bytes.
const MAX_COMMAND: usize = 64 << 10;

/// Longest time that an option may tell.
const MAX_TIME: Duration = Duration::from_secs(3600);

/// How long the program may take to its first byte.
const START_LIMIT: Duration = Duration::from_secs(30);

/// What a URL asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Program and arguments.
    pub words: Vec<String>,
    /// The text up to the options: what `exec:` and `{output}` in it name.
    pub source: String,
    /// `#killsignal=N` and `#killtimeout=SECONDS`.
    pub ending: Ending,
    /// `#starttimeout=SECONDS`.
    pub start_limit: Duration,
    /// `#backchannel=1` with `#audio=CODEC/RATE/CHANNELS`: the program takes what players say, like this.
    pub hears: Option<Hears>,
}

/// What a program takes of what players say.
#[derive(Debug, Clone, PartialEq)]
pub struct Hears {
    /// What comes to the plugin.
    pub track: SendTrack,
    /// The program gets it as FLAC.
    pub as_flac: bool,
}

/// Why a URL cannot be run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// It has no words, or its quotes are empty or do not end.
    #[error("exec: the command is empty, or its quotes are empty or do not end")]
    Words,
    /// It is longer than 64 KiB.
    #[error("exec: the command is longer than 64 KiB")]
    TooLong,
    /// `#audio=` that is not known.
    #[error("pcm: unsupported audio format: {0}")]
    Audio(String),
    /// A signal that there is not.
    #[error("exec: no signal has the number {0:?}")]
    Signal(String),
    /// A time that is none.
    #[error("exec: {option}={value:?} is no time in seconds")]
    Time {
        /// The option.
        option: &'static str,
        /// What it says.
        value: String,
    },
}

impl Command {
    /// Reads `exec:COMMAND#options`.
    pub fn parse(url: &str) -> Result<Self, CommandError> {
        let text = url.strip_prefix("exec:").unwrap_or(url);
        let mut parts = text.split('#');
        let line = parts.next().unwrap_or_default();
        if line.len() > MAX_COMMAND {
            return Err(CommandError::TooLong);
        }
        let source = format!("exec:{line}");
        let mut command = Self {
            words: split(line),
            source,
            ending: Ending::default(),
            start_limit: START_LIMIT,
            hears: None,
        };
        if command.words.is_empty() {
            return Err(CommandError::Words);
        }
        let mut kill_after = None;
        let (mut hears, mut audio) = (false, "s16le/16000");
        for option in parts {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match key {
                "killsignal" => {
                    let signal = value.parse().ok().and_then(Signal::from_named_raw);
                    command.ending.signal = signal.ok_or_else(|| CommandError::Signal(value.to_owned()))?;
                }
                "killtimeout" => kill_after = Some(time("killtimeout", value)?),
                "starttimeout" => command.start_limit = time("starttimeout", value)?,
                "backchannel" => hears = value == "1",
                "audio" => audio = value,
                _ => {}
            }
        }
        if hears {
            command.hears = Some(format(audio)?);
        }
        command.ending.kill_after = kill_after.unwrap_or(KILL_AFTER);
        Ok(command)
    }

    /// Whether the program publishes instead of writing to its standard output.
    pub fn publishes(&self) -> bool {
        self.source.contains(OUTPUT)
    }

    /// The name that it publishes to: the MD5 of [`Self::source`] in hex, so that it is the same at every start.
    pub fn token(&self) -> String {
        let digest: [u8; 16] = Md5::digest(self.source.as_bytes()).into();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// `source` and the words with `url` in the place of `{output}`.
    pub fn publishing_to(&self, url: &str) -> (String, Vec<String>) {
        let words = self.words.iter().map(|word| word.replace(OUTPUT, url)).collect();
        (self.source.replace(OUTPUT, url), words)
    }

    /// The URL behind the first `-i`: what a program like ffmpeg reads from.
    pub fn input(&self) -> Option<&str> {
        let at = self.words.iter().position(|word| word == "-i")?;
        self.words.get(at + 1).map(String::as_str).filter(|word| word.contains("://"))
    }
}

/// `CODEC[/RATE[/CHANNELS]]`, with FFmpeg's names and short ones. FLAC is made here, of samples.
fn format(text: &str) -> Result<Hears, CommandError> {
    let mut parts = text.split('/');
    let wrong = || CommandError::Audio(text.to_owned());
    let (codec, default_rate) = match parts.next().unwrap_or_default() {
        "pcm_s16be" | "s16be" | "pcm" => ("pcm_s16be", 16_000),
        "pcm_s16le" | "s16le" | "pcml" => ("pcm_s16le", 16_000),
        "pcm_alaw" | "alaw" | "pcma" | "g711a" => ("pcm_alaw", 8000),
        "pcm_mulaw" | "mulaw" | "pcmu" | "g711u" => ("pcm_mulaw", 8000),
        "aac" | "mpeg4-generic" => ("aac", 16_000),
        "opus" => ("opus", 48_000),
        "flac" => (FLAC, 16_000),
        _ => return Err(wrong()),
    };
    let mut number = |default: u32| match parts.next() {
        None => Ok(default),
        Some(text) => text.parse::<u32>().ok().filter(|n| (1..=384_000).contains(n)).ok_or_else(wrong),
    };
    let (sample_rate, channels) = (number(default_rate)?, number(1)?);
    let as_flac = codec == FLAC;
    let codec = if as_flac { Codec::PcmS16le.name() } else { codec };
    if as_flac {
        let channels = u8::try_from(channels).map_err(|_| wrong())?;
        flac::Framer::new(&Parameters::audio(Codec::PcmS16le, sample_rate, channels)).ok_or_else(wrong)?;
    }
    Ok(Hears { track: SendTrack { codec: codec.to_owned(), sample_rate, channels, packet_ms: 20 }, as_flac })
}

fn time(option: &'static str, value: &str) -> Result<Duration, CommandError> {
    let wrong = || CommandError::Time { option, value: value.to_owned() };
    let seconds: f64 = value.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(seconds).ok().filter(|time| *time <= MAX_TIME).ok_or_else(wrong)
}

/// Words between blanks. One that starts with a quote goes to the same quote, whatever stands between; the text behind it
/// starts another word. An empty or endless quote makes no words at all.
pub fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(first) = rest.chars().next() else { return words };
        let (word, behind) = if first == '"' || first == '\'' {
            let Some((word, behind)) = rest.get(1..).and_then(|rest| rest.split_once(first)) else {
                return Vec::new();
            };
            if word.is_empty() {
                return Vec::new();
            }
            (word, behind)
        } else {
            let end = rest.find([' ', '\t', '\r', '\n']).unwrap_or(rest.len());
            rest.split_at_checked(end).unwrap_or((rest, ""))
        };
        words.push(word.to_owned());
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_those_of_the_reference() {
        for (line, words) in [
            (r#"ffmpeg -i "a b" -c 'd e'"#, &["ffmpeg", "-i", "a b", "-c", "d e"][..]),
            (r#"a"b c""#, &["a\"b", "c\""]),
            (r#"a "unterminated"#, &[]),
            (r#"x  "" y"#, &[]),
            ("\ta\r\n b ", &["a", "b"]),
            (r#"'it"s' "a"b"#, &["it\"s", "a", "b"]),
            ("  ", &[]),
        ] {
            assert_eq!(split(line), words, "{line}");
        }
    }

    #[test]
    fn options_are_read() {
        let command =
            Command::parse("exec:sleep 100#killsignal=15#killtimeout=2.5#starttimeout=7#other").unwrap();
        assert_eq!(command.words, ["sleep", "100"]);
        let ending = Ending { signal: Signal::TERM, kill_after: Duration::from_millis(2500) };
        assert_eq!((command.ending, command.start_limit), (ending, Duration::from_secs(7)));
        let plain = Command::parse("exec:a").unwrap();
        assert_eq!((plain.ending.signal, plain.start_limit), (Signal::KILL, START_LIMIT));
        let ffmpeg = Command::parse("exec:ffmpeg -i rtsp://192.0.2.1/a -f h264 -").unwrap();
        assert_eq!(ffmpeg.input(), Some("rtsp://192.0.2.1/a"));
        assert_eq!(Command::parse("exec:ffmpeg -i a.mp4 -").unwrap().input(), None);
    }

    #[test]
    fn programs_hear_what_they_ask_for() {
        for (option, codec, sample_rate, channels, as_flac) in [
            ("", "pcm_s16le", 16_000, 1, false),
            ("#audio=alaw", "pcm_alaw", 8000, 1, false),
            ("#audio=aac/48000/2", "aac", 48_000, 2, false),
            ("#audio=flac", "pcm_s16le", 16_000, 1, true),
            ("#audio=flac/48000/2", "pcm_s16le", 48_000, 2, true),
        ] {
            let track = SendTrack { codec: codec.to_owned(), sample_rate, channels, packet_ms: 20 };
            let command = Command::parse(&format!("exec:a#backchannel=1{option}")).unwrap();
            assert_eq!(command.hears, Some(Hears { track, as_flac }), "{option}");
        }
        assert_eq!(Command::parse("exec:a#audio=flac").unwrap().hears, None);
    }

    #[test]
    fn a_publisher_has_the_name_of_its_command() {
        let command = Command::parse("exec:sleep 100 {output}#killsignal=15").unwrap();
        assert!(command.publishes());
        assert_eq!(command.token(), "ae82519f436c80a42933d05d9acbd16b");
        let (source, words) = command.publishing_to("rtsp://127.0.0.1:8554/x");
        assert_eq!(source, "exec:sleep 100 rtsp://127.0.0.1:8554/x");
        assert_eq!(words, ["sleep", "100", "rtsp://127.0.0.1:8554/x"]);
    }

    #[test]
    fn what_cannot_be_run_is_told() {
        for (url, message) in [
            ("exec:", "exec: the command is empty, or its quotes are empty or do not end"),
            ("exec:a \"b", "exec: the command is empty, or its quotes are empty or do not end"),
            ("exec:a#backchannel=1#audio=ac3", "pcm: unsupported audio format: ac3"),
            ("exec:a#backchannel=1#audio=flac/12345", "pcm: unsupported audio format: flac/12345"),
            ("exec:a#backchannel=1#audio=flac/16000/300", "pcm: unsupported audio format: flac/16000/300"),
            ("exec:a#killsignal=99", "exec: no signal has the number \"99\""),
            ("exec:a#killtimeout=-1", "exec: killtimeout=\"-1\" is no time in seconds"),
            ("exec:a#starttimeout=1e9", "exec: starttimeout=\"1e9\" is no time in seconds"),
        ] {
            assert_eq!(Command::parse(url).unwrap_err().to_string(), message, "{url}");
        }
        assert_eq!(Command::parse(&"x".repeat(70_000)), Err(CommandError::TooLong));
    }

    proptest! {
        #[test]
        fn any_text_never_panics(text in ".*") {
            let _ = Command::parse(&text);
        }

        #[test]
        fn quoted_words_come_back(words in proptest::collection::vec("[a-z\\- ]{1,8}", 1..6)) {
            let line: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
            prop_assert_eq!(split(&line.join(" ")), words);
        }
    }
}

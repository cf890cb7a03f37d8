//! What is wrong with a URL.

use patchbay_audio::TargetError;

/// Why a URL is not transcoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It names no stream.
    #[error("transcode: no stream is named: transcode:NAME#audio=opus")]
    NoStream,
    /// It does not say what is wanted.
    #[error(
        "transcode: it does not say what is wanted: #audio=opus, aac, pcma, pcmu, pcm, pcml or copy, #video=copy"
    )]
    Nothing,
    /// Pictures can be passed on only.
    #[error("transcode: video={text} is not transcoded yet (#video=copy passes it on)")]
    Video {
        /// What was written.
        text: String,
    },
    /// Pictures can be passed on only, for a line that would have them transcoded.
    #[error("ffmpeg: video={text}: pictures are not transcoded yet (#video=copy passes them on)")]
    Picture {
        /// What was written.
        text: String,
    },
    /// A device, a generated picture or a file by its path.
    #[error("ffmpeg: {input}: only streams and URLs are read yet")]
    Input {
        /// What was written.
        input: String,
    },
    /// The sound that is wanted is not made here.
    #[error("transcode: {0}")]
    Audio(#[from] TargetError),
    /// The length of packets is no number of milliseconds.
    #[error("transcode: ptime={text} is no number of milliseconds")]
    Ptime {
        /// What was written.
        text: String,
    },
}

impl From<Error> for patchbay_sdk::Error {
    fn from(error: Error) -> Self {
        Self::unsupported(error.to_string())
    }
}

//! Why there is no picture.

use patchbay_picture::PictureError;

/// Why there is no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The picture cannot be decoded here and the ffmpeg program cannot be started.
    #[error(
        "snapshot: {codec} pictures of this kind are decoded by ffmpeg, and `{program}` cannot be started ({reason}): \
         install ffmpeg, or name it in `snapshot: {{ffmpeg: PATH}}`"
    )]
    NoFfmpeg {
        /// FFmpeg's name of the codec.
        codec: &'static str,
        /// What was started.
        program: String,
        /// What the system said.
        reason: String,
    },
    /// The ffmpeg program gave no picture.
    #[error("snapshot: ffmpeg gave no {codec} picture: {said}")]
    Ffmpeg {
        /// FFmpeg's name of the codec.
        codec: &'static str,
        /// The last line that it wrote.
        said: String,
    },
    /// No decoder is known.
    #[error("snapshot: no decoder for {codec} pictures")]
    Codec {
        /// FFmpeg's name of the codec.
        codec: &'static str,
    },
    /// The picture cannot be decoded or made.
    #[error("snapshot: {0}")]
    Picture(#[from] PictureError),
    /// The step did not come to its end.
    #[error("snapshot: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
    /// The plugin is ending.
    #[error("snapshot: the plugin is ending")]
    Ending,
}

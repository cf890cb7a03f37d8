//! Why there is no picture.

/// Why there is no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The decoder refused the bytes.
    #[error("the {codec} picture cannot be decoded: {reason}")]
    Broken {
        /// FFmpeg's name of the codec.
        codec: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// No pixels, or more than are decoded or made.
    #[error("a picture of {width}x{height} pixels is not made")]
    Size {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// The encoder or scaler refused the picture.
    #[error("the picture cannot be made: {reason}")]
    Make {
        /// What it said.
        reason: String,
    },
}

//! The plugin: the streams that are served now.

use patchbay_sdk::{Config, Error, Plugin};

use crate::server::stream::Streams;

/// The plugin.
#[derive(Default)]
pub struct Hls {
    pub(crate) streams: Streams,
}

impl Plugin for Hls {
    fn start(_: Config) -> Result<Self, Error> {
        Ok(Self::default())
    }
}

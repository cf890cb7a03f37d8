//! The plugin: its settings and its roles.

use std::sync::Arc;

use patchbay_sdk::{Config, Error, Plugin, Server};

use crate::server;
use crate::source::Refusals;

/// The plugin.
pub struct Rtsp {
    server: server::Config,
    /// What its sources have learned.
    pub(crate) refusals: Refusals,
}

impl Plugin for Rtsp {
    fn start(config: Config) -> Result<Self, Error> {
        Ok(Self { server: config.parse()?, refusals: Refusals::default() })
    }
}

impl Server for Rtsp {
    async fn serve(self: Arc<Self>, context: patchbay_sdk::server::Context) -> Result<(), Error> {
        server::serve(self.server.clone(), context).await
    }
}

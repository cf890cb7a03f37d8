//! The plugin: its settings and its roles.

use std::sync::Arc;

use patchbay_sdk::{Config, Error, Plugin, Server};

use crate::server;

/// The plugin.
pub struct Rtmp {
    server: server::Config,
}

impl Plugin for Rtmp {
    fn start(config: Config) -> Result<Self, Error> {
        Ok(Self { server: config.parse()? })
    }
}

impl Server for Rtmp {
    async fn serve(self: Arc<Self>, context: patchbay_sdk::server::Context) -> Result<(), Error> {
        server::serve(self.server.clone(), context).await
    }
}

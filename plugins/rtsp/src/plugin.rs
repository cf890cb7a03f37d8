//! The plugin: its settings and its roles.

use std::sync::Arc;

use patchbay_sdk::routes::{Body, Reply, Request};
use patchbay_sdk::{Config, Error, Plugin, Routes, Server};

use crate::server::{self, Running};
use crate::source::Refusals;

/// The plugin.
pub struct Rtsp {
    server: server::Config,
    running: Running,
    /// What its sources have learned.
    pub(crate) refusals: Refusals,
}

impl Plugin for Rtsp {
    fn start(config: Config) -> Result<Self, Error> {
        Ok(Self { server: config.parse()?, running: Running::default(), refusals: Refusals::default() })
    }
}

impl Server for Rtsp {
    async fn serve(self: Arc<Self>, context: patchbay_sdk::server::Context) -> Result<(), Error> {
        server::serve(self.server.clone(), context, &self.running).await
    }
}

/// RTSP and its tunnels on the API's port.
impl Routes for Rtsp {
    async fn request(self: Arc<Self>, request: Request, mut body: Body) -> Result<Reply, Error> {
        if !request.raw {
            return Ok(Reply::text(404, "404 page not found"));
        }
        let Some(server) = self.running.get() else {
            return Err(Error::not_found("the RTSP server is off"));
        };
        let Some(socket) = body.connection().await else { return Ok(Reply::Done) };
        tokio::select! {
            taken = server.take_over(socket, &request) => taken?,
            () = body.closed() => {}
        }
        Ok(Reply::Done)
    }
}

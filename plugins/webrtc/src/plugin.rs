//! The plugin: its settings and its roles.

use std::sync::Arc;

use patchbay_sdk::routes::{Body, Reply, Request};
use patchbay_sdk::server::Context;
use patchbay_sdk::{Config, Error, Plugin, Routes, Server, Service, Source};

use crate::server::Engine;
use crate::{routes, server, service, source};

/// The plugin.
pub struct WebRtc {
    engine: Arc<Engine>,
}

impl Plugin for WebRtc {
    fn start(config: Config) -> Result<Self, Error> {
        Ok(Self { engine: Engine::new(config.parse()?) })
    }
}

impl Server for WebRtc {
    async fn serve(self: Arc<Self>, context: Context) -> Result<(), Error> {
        server::serve(&self.engine, context).await
    }
}

impl Routes for WebRtc {
    async fn request(self: Arc<Self>, request: Request, body: Body) -> Result<Reply, Error> {
        routes::answer(&self.engine, &request, body).await
    }
}

impl Source for WebRtc {
    async fn run(
        self: Arc<Self>,
        request: patchbay_sdk::source::Request,
        session: patchbay_sdk::source::Session,
    ) -> Result<(), Error> {
        source::run(Arc::clone(&self.engine), request, session).await
    }
}

impl Service for WebRtc {
    async fn serve(
        self: Arc<Self>,
        request: patchbay_sdk::service::Request,
        session: patchbay_sdk::service::Session,
    ) -> Result<(), Error> {
        service::serve(Arc::clone(&self.engine), request, session).await
    }
}

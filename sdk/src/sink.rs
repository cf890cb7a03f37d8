//! Role `sink`: a stream is pushed to a URL.

use std::future::Future;
use std::sync::Arc;

use patchbay_plugin_api::Code;
use patchbay_plugin_api::message;

use crate::Plugin;
use crate::entry::Opening;
use crate::error::Error;
use crate::server::Context;

/// For the macro.
#[doc(hidden)]
pub const ROLE: u32 = message::role::SINK;

/// What is pushed, and where to.
pub type Request = message::SinkOpen;

/// A plugin that pushes streams to URLs.
pub trait Sink: Plugin {
    /// Consumes the stream ([`Context::consume`]) and sends it until [`Context::closed`] or an error. The host begins again
    /// after a while, also when this returns without an error.
    fn push(
        self: Arc<Self>,
        request: Request,
        context: Context,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

/// For the macro.
#[doc(hidden)]
pub fn open<P: Sink>(plugin: Arc<P>, request: &[u8], session: Opening) -> Result<(), Code> {
    let request: Request = serde_json::from_slice(request).map_err(|_| Code::Invalid)?;
    session.run(move |link, commands| async move {
        // Nothing is commanded to a sink itself; the queue must live as long as the session.
        let _commands = commands;
        plugin.push(request, Context::new(link)).await
    })
}

//! What plugin authors build on.
//!
//! A plugin is a `cdylib` with a manifest, a type that implements [`Plugin`] and one trait per role:
//!
//! ```ignore
//! patchbay_sdk::plugin! {
//!     manifest: "../manifest.json",   // from src/lib.rs
//!     plugin: source::Acme,
//!     roles: [source],
//! }
//! ```
//!
//! | role | trait | in | out |
//! |---|---|---|---|
//! | source | [`Source`] | a URL | tracks and units |
//! | demuxer | [`Demuxer`] | bytes | tracks and units |
//! | transport | [`Transport`] | a URL | bytes |
//! | output | [`Output`] | tracks and units | chunks that the host fans out |
//! | server | [`Server`] | its own listeners | consumers and publishers |
//! | routes | [`Routes`] | HTTP requests, WebSocket messages | answers |
//! | service | [`Service`] | calls of other plugins | answers; tracks and units for the caller's source |
//!
//! Every session runs as a task on the plugin's own tokio runtime, started at the first `open`. A panic ends its session
//! with a line in the log, `tracing` events reach the host's log, and nothing may block a worker.

pub mod blob;
pub mod clock;
pub mod demuxer;
pub mod entry;
pub mod error;

mod log;
pub mod output;
pub mod pacer;
pub mod process;
pub mod reader;
pub mod routes;
mod runtime;
pub mod server;
pub mod service;
mod session;
pub mod sink;
pub mod source;
pub mod talk;
pub mod track;
pub mod transport;

pub use demuxer::Demuxer;
pub use error::Error;
pub use output::{Mux, Output};
pub use patchbay_media as media;
pub use patchbay_plugin_api as api;
pub use patchbay_plugin_api::message::Class;
pub use routes::Routes;
pub use runtime::{blocking, or_pending, spawn};
pub use server::Server;
pub use service::Service;
pub use sink::Sink;
pub use source::Source;
pub use transport::Transport;

/// What every plugin has: it is made once, when the host starts it.
pub trait Plugin: Send + Sync + Sized + 'static {
    /// Reads the settings. Must not block; an error is shown to the user and the plugin stays off.
    fn start(config: Config) -> Result<Self, Error>;
}

/// The plugin's settings.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// YAML text of the plugin's section; empty when there is none.
    pub yaml: String,
}

impl Config {
    /// The settings as `T`; missing ones take `T`'s defaults.
    pub fn parse<T: serde::de::DeserializeOwned + Default>(&self) -> Result<T, Error> {
        if self.yaml.trim().is_empty() {
            return Ok(T::default());
        }
        serde_yaml::from_str::<Option<T>>(&self.yaml)
            .map(Option::unwrap_or_default)
            .map_err(|error| Error::unsupported(format!("its settings cannot be read: {error}")))
    }
}

/// Declares a library as a Patchbay plugin: its manifest, its type and its roles.
#[macro_export]
macro_rules! plugin {
    (manifest: $manifest:literal, plugin: $plugin:ty, roles: [$($role:ident),* $(,)?] $(,)?) => {
        #[doc(hidden)]
        pub enum PatchbayEntry {}
        impl $crate::entry::Definition for PatchbayEntry {
            type Plugin = $plugin;
            fn open(
                plugin: ::std::sync::Arc<$plugin>,
                role: u32,
                request: &[u8],
                session: $crate::entry::Opening,
            ) -> ::std::result::Result<(), $crate::api::Code> {
                $(if role == $crate::$role::ROLE {
                    return $crate::$role::open(plugin, request, session);
                })*
                let _ = (plugin, request, session);
                ::std::result::Result::Err($crate::api::Code::Unsupported)
            }
        }
        $crate::api::export!($crate::entry::Entry<PatchbayEntry>);
        $crate::api::manifest_section!(concat!(
            "{\"abi\":\"", $crate::api::abi_version!(),
            "\",\"name\":\"", env!("CARGO_PKG_NAME"),
            "\",\"version\":\"", env!("CARGO_PKG_VERSION"),
            "\",\"licence\":\"", env!("CARGO_PKG_LICENSE"),
            "\",\"home\":\"", env!("CARGO_PKG_HOMEPAGE"),
            "\",\"description\":\"", env!("CARGO_PKG_DESCRIPTION"),
            "\",\"manifest\":", include_str!($manifest), "}"
        ));
        /// The plugin's table, for tests that link it.
        #[doc(hidden)]
        pub fn patchbay_table() -> $crate::api::abi::PluginTableRef {
            $crate::api::entry::plugin_table::<$crate::entry::Entry<PatchbayEntry>>()
        }
    };
}

//! A plugin with every role, for tests. What stands after the first `:` of its URLs says how it behaves: [`Behaviour`].
#![deny(unsafe_code)]

pub mod attempts;
pub mod behaviour;
pub mod bytes_side;
pub mod faults;
pub mod output;
pub mod server;
pub mod service;
pub mod sink;
pub mod source;
pub mod stamps;
pub mod talk;

pub use behaviour::Behaviour;

use patchbay_sdk::{Config, Error, Plugin};

/// The plugin.
#[derive(Debug)]
pub struct Fixture {
    /// Address of the server, empty: none.
    pub listen: String,
}

impl Plugin for Fixture {
    fn start(config: Config) -> Result<Self, Error> {
        assert!(!config.yaml.contains("start: panic"), "the fixture was told to panic (start)");
        let listen = config.yaml.lines().find_map(|line| line.trim().strip_prefix("listen:"));
        Ok(Self { listen: listen.unwrap_or_default().trim().trim_matches('"').to_owned() })
    }
}

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: Fixture,
    roles: [source, demuxer, transport, output, server, routes, sink, service],
}

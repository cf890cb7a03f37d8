//! What `open` carries, by role, and what comes with the session of a route.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BoundTrack, Head};

/// `open` of a source.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceOpen {
    /// The URL with its `#options`, as configured.
    pub url: String,
    /// What it is dialled for: a class of [`super::Demand`]. A camera that sleeps to save its battery may end with
    /// [`super::Class::Asleep`] instead of waking up, unless it is `live` or `talk`.
    pub class: String,
}

/// `open` of a sink: it consumes the stream by itself ([`super::event::CONSUME`]) and sends it to the URL until it is closed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkOpen {
    /// Where to, with `#options`.
    pub url: String,
    /// The stream.
    pub stream: String,
}

/// `open` of a demuxer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DemuxerOpen {
    /// Format of the plugin's manifest that matched.
    pub format: String,
    /// The source's URL with its `#options`.
    pub url: String,
    /// The transport's head.
    pub head: Head,
}

/// `open` of a transport.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TransportOpen {
    /// The URL with its `#options`, as configured.
    pub url: String,
    /// Listeners of other plugins, as configured, with the port that was bound: protocol to address.
    pub endpoints: BTreeMap<String, String>,
}

/// `open` of an output.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OutputOpen {
    /// Format of the plugin's manifest.
    pub format: String,
    /// The tracks, in the order of the mux; the index is the `track` of patches and starts.
    pub tracks: Vec<BoundTrack>,
    /// Mux options, part of what makes two viewers share one run.
    pub options: BTreeMap<String, String>,
}

/// `open` of a server: nothing; its settings came with `start`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerOpen {}

/// `open` of a route: one HTTP request, or one message on `/api/ws`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteOpen {
    /// The route's `path` (or `ws` type) in the manifest.
    pub route: String,
    /// Method; empty for a WebSocket message.
    pub method: String,
    /// Path below the base path.
    pub path: String,
    /// Raw query string without `?`.
    pub query: String,
    /// Header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// `ip:port` of the client.
    pub remote: String,
    /// Value of the WebSocket message, when it had one.
    pub value: Option<serde_json::Value>,
    /// Tells messages of one WebSocket connection from those of others; 0 for a request.
    pub socket: u64,
    /// A connection of another protocol on the host's port ([`crate::manifest::Raw`]): [`super::command::RAW`] brings it, the host
    /// reads and writes nothing, and `ENDED` says that the plugin is done with it. `route` is what it matched.
    pub raw: bool,
    /// `ip:port` of the host's end, of a raw connection; empty over a Unix socket, as `remote` is.
    pub local: String,
    /// The raw connection came over TLS, which the host has taken off.
    pub tls: bool,
    /// The host would have asked this client for its login: the plugin has to ask for its own, or refuse.
    pub login: bool,
}

/// A connection that is handed over.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Raw {
    /// Number of a connected stream socket in the plugin's process: TCP or Unix, non-blocking or not.
    pub fd: i32,
}

/// A text message to the client of a route on `/api/ws`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SocketMessage {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its value.
    pub value: serde_json::Value,
}

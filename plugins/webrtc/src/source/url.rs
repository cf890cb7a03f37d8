//! `webrtc:` URLs.

use patchbay_net::{SourceUrl, UrlError as Malformed};

use crate::config::IceServer;

/// How the signalling goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `http(s)`: RFC draft WHEP.
    Whep,
    /// `http(s)#format=creality`: printers.
    Creality,
    /// `http(s)#format=milestone`: XProtect.
    Milestone,
    /// `http(s)#format=wyze`: docker-wyze-bridge.
    Wyze,
    /// `ws(s)`: go2rtc, Patchbay.
    Go2rtc,
    /// `ws(s)#format=kinesis`: Amazon Kinesis Video Streams.
    Kinesis,
    /// `ws(s)#format=switchbot`: the same with two more keys.
    Switchbot,
    /// `ws(s)#format=openipc`: the camera offers.
    OpenIpc,
}

impl Format {
    /// For `/api/streams`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whep | Self::Go2rtc => "webrtc",
            Self::Creality => "webrtc/creality",
            Self::Milestone => "webrtc/milestone",
            Self::Wyze => "webrtc/wyze",
            Self::Kinesis => "webrtc/kinesis",
            Self::Switchbot => "webrtc/switchbot",
            Self::OpenIpc => "webrtc/openipc",
        }
    }

    /// Whether it signals over a WebSocket.
    pub fn is_socket(self) -> bool {
        matches!(self, Self::Go2rtc | Self::Kinesis | Self::Switchbot | Self::OpenIpc)
    }
}

/// Why a URL cannot be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// What is behind `webrtc:` is no URL.
    #[error("webrtc: {0}")]
    Url(#[from] Malformed),
    /// Neither ws nor http.
    #[error("webrtc: the scheme {0}:// is not supported: http, https, ws, wss")]
    Scheme(String),
}

/// What a URL asks for.
#[derive(Debug, Clone)]
pub struct Dial {
    /// How to signal.
    pub format: Format,
    /// The service, with its options.
    pub url: SourceUrl,
    /// `#ice_servers=`, a JSON list.
    pub ice_servers: Option<Vec<IceServer>>,
    /// `#ice_transport_policy=relay`: only through a TURN server.
    pub relay_only: bool,
}

impl Dial {
    /// Reads a source URL.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let url = SourceUrl::parse(text.strip_prefix("webrtc:").unwrap_or(text))?;
        let format = match (url.scheme(), url.option("format").unwrap_or("")) {
            ("ws" | "wss", "kinesis") => Format::Kinesis,
            ("ws" | "wss", "switchbot") => Format::Switchbot,
            ("ws" | "wss", "openipc") => Format::OpenIpc,
            ("ws" | "wss", _) => Format::Go2rtc,
            ("http" | "https", "creality") => Format::Creality,
            ("http" | "https", "milestone") => Format::Milestone,
            ("http" | "https", "wyze") => Format::Wyze,
            ("http" | "https", _) => Format::Whep,
            (scheme, _) => return Err(UrlError::Scheme(scheme.to_owned())),
        };
        let ice_servers = url.option("ice_servers").and_then(|json| match serde_json::from_str(json) {
            Ok(servers) => Some(servers),
            Err(error) => {
                tracing::warn!("#ice_servers cannot be read: {error}");
                None
            }
        });
        let relay_only = url.option("ice_transport_policy") == Some("relay");
        Ok(Self { format, url, ice_servers, relay_only })
    }

    /// The value of an option, empty when it is not there.
    pub fn option(&self, key: &str) -> &str {
        self.url.option(key).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_and_the_format_say_how_to_signal() {
        let format = |text: &str| Dial::parse(text).map(|dial| dial.format);
        assert_eq!(format("webrtc:ws://192.168.1.123:1984/api/ws?src=camera1"), Ok(Format::Go2rtc));
        assert_eq!(format("webrtc:http://192.168.1.123:1984/api/webrtc?src=camera1"), Ok(Format::Whep));
        assert_eq!(format("webrtc:wss://x/y#format=kinesis#client_id=a"), Ok(Format::Kinesis));
        assert_eq!(format("webrtc:http://x/y?kvs#format=wyze"), Ok(Format::Wyze));
        assert_eq!(format("webrtc:rtsp://x"), Err(UrlError::Scheme("rtsp".to_owned())));
        assert!(matches!(format("webrtc:x"), Err(UrlError::Url(_))));
    }

    #[test]
    fn servers_come_as_json() {
        let text = r#"webrtc:ws://x#format=openipc#ice_servers=[{"urls":"stun:a:1"},{"urls":["turn:b"],"username":"u","credential":null}]"#;
        let servers = Dial::parse(text).unwrap().ice_servers.unwrap();
        assert_eq!(servers[0].urls, ["stun:a:1"]);
        assert_eq!((servers[1].username.as_deref(), servers[1].credential.as_deref()), (Some("u"), None));
        assert_eq!(Dial::parse("webrtc:ws://x#ice_servers=nonsense").unwrap().ice_servers, None);
    }
}

//! A source's URL and options.

use std::time::Duration;

use patchbay_net::{SourceUrl, UrlError};

use crate::client::{MediaFilter, Timeouts};
use crate::wire::Lower;

/// Largest `#timeout=`, in seconds.
const MAX_TIMEOUT_SECS: u64 = 3600;

/// What a source URL asks for (C3).
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// The URL.
    pub url: SourceUrl,
    /// `#transport=`.
    pub lower: Lower,
    /// What carries the connection, by `#transport=` too.
    pub via: Via,
    /// `#timeout=`.
    pub timeouts: Timeouts,
    /// `#media=`.
    pub media: MediaFilter,
    /// `#backchannel=`: `None` when not written.
    pub backchannel: Option<bool>,
    /// It has options of its own, whichever.
    has_options: bool,
    /// Options that are not known here, for one warning.
    pub unknown: Vec<String>,
}

/// What carries the RTSP connection.
#[derive(Debug, Clone, Default)]
pub enum Via {
    /// TCP, or TLS as the scheme says.
    #[default]
    Direct,
    /// Two HTTP requests to the camera's RTSP port, or over TLS as the scheme says (C69).
    Http,
    /// A WebSocket at this URL, with a login of its own (C70).
    WebSocket(SourceUrl),
}

/// Why a source URL cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not a URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Neither rtsp, rtsps nor rtspx.
    #[error("the scheme {0}:// is not RTSP")]
    Scheme(String),
    /// `#transport=` that is not known.
    #[error("#transport={0} is not supported: tcp, udp, multicast, http, ws://HOST/PATH or wss://HOST/PATH")]
    Transport(String),
}

impl SourceConfig {
    /// Reads a source URL. Options with unusable values are as if unknown, but for `transport`.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let url = SourceUrl::parse(text)?;
        if !matches!(url.scheme(), "rtsp" | "rtsps" | "rtspx") {
            return Err(ConfigError::Scheme(url.scheme().to_owned()));
        }
        let mut config = Self {
            url: url.clone(),
            lower: Lower::Tcp,
            via: Via::Direct,
            timeouts: Timeouts::default(),
            media: MediaFilter::All,
            backchannel: None,
            has_options: false,
            unknown: Vec::new(),
        };
        for (key, value) in url.options() {
            config.has_options |= !matches!(key, "track" | "linger" | "history");
            match (key, value) {
                ("transport", "tcp") => config.lower = Lower::Tcp,
                ("transport", "udp") => config.lower = Lower::Udp,
                ("transport", "multicast") => config.lower = Lower::Multicast,
                ("transport", "http") => config.via = Via::Http,
                ("transport", other) if other.starts_with("ws://") || other.starts_with("wss://") => {
                    config.via = Via::WebSocket(SourceUrl::parse(other)?);
                }
                ("transport", other) => {
                    let scheme = other.split_once("://").map_or(other, |(scheme, _)| scheme);
                    return Err(ConfigError::Transport(scheme.to_owned()));
                }
                ("media", "video") => config.media = MediaFilter::Video,
                ("media", "audio") => config.media = MediaFilter::Audio,
                ("backchannel", "0" | "1") => config.backchannel = Some(value == "1"),
                ("timeout", _) => match value.parse::<u64>() {
                    Ok(secs @ 1..=MAX_TIMEOUT_SECS) => {
                        config.timeouts = Timeouts::all(Duration::from_secs(secs));
                    }
                    _ => config.unknown.push(key.to_owned()),
                },
                // Options of the host
                ("track" | "linger" | "history", _) => {}
                _ => config.unknown.push(key.to_owned()),
            }
        }
        Ok(config)
    }

    /// Whether the camera is asked for its backchannel: without options, or when told to (as go2rtc does).
    pub fn asks_backchannel(&self) -> bool {
        self.backchannel.unwrap_or(!self.has_options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c3_options() {
        let config =
            SourceConfig::parse("rtsp://h/x#timeout=30#media=video#backchannel=1#transport=udp#foo=1")
                .unwrap();
        assert_eq!(config.lower, Lower::Udp);
        assert_eq!(config.timeouts, Timeouts::all(Duration::from_secs(30)));
        assert_eq!(config.timeouts.first_media, Duration::from_secs(60));
        assert_eq!((config.media, config.backchannel), (MediaFilter::Video, Some(true)));
        assert_eq!(config.unknown, ["foo"]);
        let plain = SourceConfig::parse("rtspx://h/x").unwrap();
        assert_eq!((plain.lower, plain.backchannel), (Lower::Tcp, None));
        assert_eq!(plain.timeouts, Timeouts::default());
        let asks = |url: &str| SourceConfig::parse(url).unwrap().asks_backchannel();
        assert!(plain.asks_backchannel() && config.asks_backchannel() && asks("rtsp://h/x#linger=9"));
        assert!(!asks("rtsp://h/x#timeout=30") && !asks("rtsp://h/x#backchannel=0"));
        assert!(asks("rtsp://h/x#transport=udp#backchannel=1"));
    }

    #[test]
    fn c69_c70_tunnels() {
        let of = |options: &str| SourceConfig::parse(&format!("rtsp://u:p@h/x{options}")).unwrap();
        assert!(matches!(of("#transport=http").via, Via::Http));
        let Via::WebSocket(url) = of("#transport=ws://v:q@h:81/rtsp-over-websocket").via else { panic!() };
        assert_eq!((url.host(), url.port(), url.path_and_query()), ("h", Some(81), "/rtsp-over-websocket"));
        assert!(url.credentials().is_some());
        assert!(matches!(of("#transport=tcp").via, Via::Direct));
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_secrets() {
        assert_eq!(SourceConfig::parse("http://h/").unwrap_err(), ConfigError::Scheme("http".to_owned()));
        assert_eq!(
            SourceConfig::parse("rtsp://h/#transport=quic://u:secret@h/x").unwrap_err(),
            ConfigError::Transport("quic".to_owned())
        );
    }
}

//! A source's URL and options.

use std::time::Duration;

use patchbay_net::tls::Verify;
use patchbay_net::{SourceUrl, UrlError};

use crate::session::client::{Config, Mode};

/// Port of RTMP.
const PORT: u16 = 1_935;
/// Port of RTMP over TLS.
const TLS_PORT: u16 = 443;
/// Largest `#timeout=`, in seconds.
const MAX_TIMEOUT_SECS: u64 = 3_600;

/// What a source URL asks for.
#[derive(Debug, Clone)]
pub struct Target {
    /// The URL.
    pub url: SourceUrl,
    /// Its port, or that of its scheme.
    pub port: u16,
    /// TLS, and whether the certificate must be valid.
    pub tls: Option<Verify>,
    /// Application and stream.
    pub config: Config,
    /// `#timeout=`: for answers and silence.
    pub timeout: Option<Duration>,
    /// `#video=` and `#audio=` as a query: what is published.
    pub filters: String,
    /// Options that are not known here.
    pub unknown: Vec<String>,
}

/// Why a source URL cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not a URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Neither rtmp, rtmps nor rtmpx.
    #[error("the scheme {0}:// is not RTMP")]
    Scheme(String),
}

impl Target {
    /// Reads a source URL. The application is the first part of the path, the stream is the rest with the query.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let url = SourceUrl::parse(text)?;
        let tls = match url.scheme() {
            "rtmp" => None,
            // Certificates are seldom made for addresses.
            "rtmps" => Some(Verify::of(&url)),
            "rtmpx" => Some(Verify::No),
            other => return Err(ConfigError::Scheme(other.to_owned())),
        };
        let port = url.port().unwrap_or(if tls.is_some() { TLS_PORT } else { PORT });
        let path = url.path_and_query();
        let path = path.strip_prefix('/').unwrap_or(path);
        let path_end = path.find('?').unwrap_or(path.len());
        let (app, name) = match path.find('/').filter(|slash| *slash < path_end) {
            Some(slash) => (path.get(..slash).unwrap_or(path), path.get(slash + 1..).unwrap_or_default()),
            None => (path, ""),
        };
        let scheme = if tls.is_some() { "rtmps" } else { "rtmp" };
        let config = Config {
            app: app.to_owned(),
            tc_url: format!("{scheme}://{}/{app}", url.authority()),
            name: name.to_owned(),
            credentials: url.credentials().cloned(),
            mode: Mode::Play,
        };
        let (mut timeout, mut filters, mut unknown) = (None, Vec::new(), Vec::new());
        for (key, value) in url.options() {
            match (key, value.parse::<u64>()) {
                ("timeout", Ok(secs @ 1..=MAX_TIMEOUT_SECS)) => timeout = Some(Duration::from_secs(secs)),
                ("video" | "audio", _) => {
                    filters.push(if value.is_empty() { key.to_owned() } else { format!("{key}={value}") })
                }
                // Options of the host
                ("track" | "linger" | "history", _) => {}
                _ => unknown.push(key.to_owned()),
            }
        }
        Ok(Self { url, port, tls, config, timeout, filters: filters.join("&"), unknown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applications_and_streams() {
        let of = |url: &str| {
            let target = Target::parse(url).unwrap();
            (target.config.app, target.config.name, target.config.tc_url, target.port)
        };
        let case = |app: &str, name: &str, tc_url: &str, port| {
            (app.to_owned(), name.to_owned(), tc_url.to_owned(), port)
        };
        assert_eq!(of("rtmp://h/live/cam"), case("live", "cam", "rtmp://h/live", 1_935));
        assert_eq!(of("rtmp://h:1936/live/a/b?t=1"), case("live", "a/b?t=1", "rtmp://h:1936/live", 1_936));
        assert_eq!(of("rtmp://u:p@h/demo"), case("demo", "", "rtmp://h/demo", 1_935));
        assert_eq!(of("rtmps://h/app?key=a/b"), case("app?key=a/b", "", "rtmps://h/app?key=a/b", 443));
        // Reolink: byte for byte.
        let name = "channel0_main.bcs?channel=0&stream=0&user=admin&password=p%20w";
        assert_eq!(
            of(&format!("rtmp://192.0.2.1/bcs/{name}")),
            case("bcs", name, "rtmp://192.0.2.1/bcs", 1_935)
        );
    }

    #[test]
    fn tls_and_options() {
        let target = Target::parse("rtmps://h/a/b#timeout=20#foo=1#linger=3").unwrap();
        assert_eq!((target.tls, target.timeout), (Some(Verify::Yes), Some(Duration::from_secs(20))));
        assert_eq!(target.unknown, ["foo"]);
        assert_eq!(Target::parse("rtmps://192.0.2.1/a/b").unwrap().tls, Some(Verify::No));
        assert_eq!(Target::parse("rtmpx://h/a/b").unwrap().tls, Some(Verify::No));
        assert!(matches!(Target::parse("http://h/a"), Err(ConfigError::Scheme(_))));
    }
}

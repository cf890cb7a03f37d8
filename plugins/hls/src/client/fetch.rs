//! HTTP for playlists and segments: the headers and login of the source's URL, and cookies.

use parking_lot::Mutex;
use patchbay_net::SourceUrl;
use patchbay_net::http::{Client, HttpError, Request, Response, Timeouts};
use patchbay_sdk::Error;

use super::playlist::ByteRange;

/// Most cookies that are kept, and the longest.
const MAX_COOKIES: usize = 64;
const MAX_COOKIE_BYTES: usize = 4 << 10;

/// Fetches what belongs to one source.
pub struct Fetcher {
    client: Client,
    origin: SourceUrl,
    /// Of the source's `#header=` options.
    headers: Vec<(String, String)>,
    cookies: Mutex<Vec<Cookie>>,
}

struct Cookie {
    host: String,
    name: String,
    value: String,
}

impl Fetcher {
    /// For the source at `origin`.
    pub fn new(origin: &SourceUrl) -> Self {
        let user_agent = concat!("Patchbay/", env!("CARGO_PKG_VERSION")).to_owned();
        Self {
            client: Client { user_agent, timeouts: Timeouts::default() },
            headers: Request::get(origin.clone()).headers,
            origin: origin.clone(),
            cookies: Mutex::default(),
        }
    }

    /// Asks for `url`, or a part of it. An answer other than success is an error.
    pub async fn get(&self, url: &SourceUrl, range: Option<ByteRange>) -> Result<Response, Error> {
        let mut request = Request::get(url.clone());
        let trusted = self.origin.may_share_secrets(url);
        let secret = |name: &str| ["authorization", "cookie"].contains(&name.to_ascii_lowercase().as_str());
        request.headers = self.headers.iter().filter(|(name, _)| trusted || !secret(name)).cloned().collect();
        if let Some(range) = range {
            let last = range.offset.saturating_add(range.length.saturating_sub(1));
            request = request.header("Range", format!("bytes={}-{last}", range.offset));
        }
        let cookies: Vec<String> = {
            let all = self.cookies.lock();
            let own = all.iter().filter(|cookie| cookie.host.eq_ignore_ascii_case(url.host()));
            own.map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect()
        };
        if !cookies.is_empty() && !request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("cookie"))
        {
            request = request.header("Cookie", cookies.join("; "));
        }
        let response = self.client.send(&request).await.map_err(failed)?;
        self.remember(&response);
        response.expect(|status| matches!(status, 200 | 206)).map_err(named)
    }

    fn remember(&self, response: &Response) {
        let mut cookies = self.cookies.lock();
        for line in response.head.all("Set-Cookie") {
            let pair = line.split(';').next().unwrap_or_default();
            let Some((name, value)) = pair.split_once('=') else { continue };
            let (host, name) = (response.url.host().to_owned(), name.trim().to_owned());
            cookies.retain(|cookie| cookie.host != host || cookie.name != name);
            if cookies.len() < MAX_COOKIES && pair.len() <= MAX_COOKIE_BYTES {
                cookies.push(Cookie { host, name, value: value.trim().to_owned() });
            }
        }
    }
}

/// What became of a connection, for the host.
pub fn failed(error: HttpError) -> Error {
    named(error.into())
}

fn named(error: Error) -> Error {
    Error { message: format!("hls: {}", error.message), ..error }
}

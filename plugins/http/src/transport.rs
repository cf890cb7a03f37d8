//! Fetches a URL, from where the demuxer wants it.

use std::sync::Arc;
use std::time::Duration;

use patchbay_net::http::{Client, HttpError, Request as HttpRequest, Response, Timeouts};
use patchbay_net::url::SourceUrl;
use patchbay_sdk::api::message::{Connection, Head};
use patchbay_sdk::transport::{Request, Session, Written};
use patchbay_sdk::{Config, Error, Plugin, Transport};
use tokio::time::{Instant, sleep_until};

/// A still picture is not asked for more often.
const POLL_EVERY: Duration = Duration::from_millis(40);

/// The plugin.
pub struct Http;

impl Plugin for Http {
    fn start(_: Config) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Transport for Http {
    async fn fetch(self: Arc<Self>, request: Request, mut session: Session) -> Result<(), Error> {
        let url =
            SourceUrl::parse(&request.url).map_err(|error| Error::unsupported(format!("http: {error}")))?;
        let user_agent = concat!("Patchbay/", env!("CARGO_PKG_VERSION")).to_owned();
        let client = Client { user_agent, timeouts: Timeouts::default() };
        let mut response = tokio::select! {
            response = ask(&client, &url, 0) => response?,
            () = session.closed() => return Ok(()),
        };
        if is_picture(&response) {
            return poll(&client, &url, response, session).await;
        }
        let size = response.content_length();
        let ranges =
            response.head.get("Accept-Ranges").is_some_and(|unit| unit.trim().eq_ignore_ascii_case("bytes"));
        session.head(&Head {
            mime: response.head.get("Content-Type").unwrap_or_default().to_owned(),
            size,
            seekable: ranges && size.is_some(),
            // Without a length it is made while it is sent.
            live: size.is_none(),
            connection: describe(&url, &response),
            ..Head::default()
        })?;
        loop {
            let chunk = tokio::select! {
                chunk = response.chunk() => chunk.map_err(failed)?,
                () = session.closed() => return Ok(()),
            };
            let wanted = match chunk {
                Some(data) => match session.write(data).await? {
                    Written::All => continue,
                    Written::Seek(offset) => offset,
                },
                None if response.is_truncated() => {
                    return Err(Error::eof("http: the server closed in the middle"));
                }
                None => match session.finished().await? {
                    Some(offset) => offset,
                    None => return Ok(()),
                },
            };
            response = tokio::select! {
                response = ask(&client, &url, wanted) => response?,
                () = session.closed() => return Ok(()),
            };
        }
    }
}

fn describe(url: &SourceUrl, response: &Response) -> Connection {
    Connection {
        protocol: if url.scheme() == "http" { "http" } else { "https" }.to_owned(),
        remote_addr: response.peer.to_string(),
        user_agent: response.head.get("Server").unwrap_or_default().to_owned(),
        ..Connection::default()
    }
}

/// Whether the answer is one still picture.
fn is_picture(response: &Response) -> bool {
    let kind = response.head.get("Content-Type").unwrap_or_default().split(';').next().unwrap_or_default();
    ["image/jpeg", "image/jpg"].iter().any(|picture| kind.trim().eq_ignore_ascii_case(picture))
}

/// Fetches a still picture again and again: a stream whose pictures are the answers.
async fn poll(client: &Client, url: &SourceUrl, first: Response, mut session: Session) -> Result<(), Error> {
    session.head(&Head {
        mime: "image/jpeg".to_owned(),
        hint: "image".to_owned(),
        live: true,
        connection: describe(url, &first),
        ..Head::default()
    })?;
    let mut next = Some(first);
    loop {
        let asked = Instant::now();
        let mut response = match next.take() {
            Some(response) => response,
            None => tokio::select! {
                response = ask(client, url, 0) => response?,
                () = session.closed() => return Ok(()),
            },
        };
        loop {
            let chunk = tokio::select! {
                chunk = response.chunk() => chunk.map_err(failed)?,
                () = session.closed() => return Ok(()),
            };
            let Some(data) = chunk else { break };
            // The demuxer of pictures never seeks.
            let _ = session.write(data).await?;
        }
        tokio::select! {
            () = sleep_until(asked + POLL_EVERY) => {}
            () = session.closed() => return Ok(()),
        }
    }
}

/// Asks for the bytes from `offset` on.
async fn ask(client: &Client, url: &SourceUrl, offset: u64) -> Result<Response, Error> {
    let mut request = HttpRequest::get(url.clone());
    if offset > 0 {
        request = request.header("Range", format!("bytes={offset}-"));
    }
    let response = client.send(&request).await.map_err(failed)?;
    match response.head.status {
        200 if offset > 0 => {
            Err(Error::unsupported("http: the server promised ranges and sent the whole file"))
        }
        _ => response.expect(|status| matches!(status, 200 | 206)),
    }
}

fn failed(error: HttpError) -> Error {
    let error = Error::from(error);
    Error { message: format!("http: {}", error.message), ..error }
}

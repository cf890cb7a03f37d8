//! A WebSocket as a stream of bytes: frames may cut messages of RTSP anywhere.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream as _};
use patchbay_net::Credentials;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{SUBPROTOCOL, Stream};

/// Largest message of a peer.
const MAX_MESSAGE: usize = 1 << 20;
/// Bytes that may wait for the socket.
const MAX_WAITING: usize = 1 << 20;

/// The bytes of a WebSocket.
#[derive(Debug)]
pub struct WebSocket<S> {
    socket: WebSocketStream<S>,
    /// What is left of the newest message.
    rest: Bytes,
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_WAITING)
}

/// Answers the request that `stream` begins with. The subprotocol is echoed when it was asked for (S27).
// The size of the error is the crate's choice.
#[allow(clippy::result_large_err)]
pub async fn accept<S: Stream>(stream: S) -> io::Result<WebSocket<S>> {
    let answer = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        let is_ours = |value: &HeaderValue| {
            value.to_str().is_ok_and(|list| list.split(',').any(|name| name.trim() == SUBPROTOCOL))
        };
        if offered.into_iter().any(is_ours) {
            let name = HeaderValue::from_static(SUBPROTOCOL);
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, name);
        }
        Ok(response)
    };
    let accepted = tokio_tungstenite::accept_hdr_async_with_config(stream, answer, Some(config())).await;
    Ok(WebSocket { socket: accepted.map_err(into_io)?, rest: Bytes::new() })
}

/// Asks for a WebSocket at `url` (`ws:` or `wss:`, whose TLS `stream` has already) over `stream`.
pub async fn connect<S: Stream>(
    stream: S,
    url: &str,
    credentials: Option<&Credentials>,
) -> Result<WebSocket<S>, Box<Error>> {
    let mut request = url.into_client_request()?;
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    if let Some(login) = credentials {
        let pair = format!("{}:{}", login.user.expose(), login.password.expose());
        let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)));
        if let Ok(mut value) = value {
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
    }
    let connected = tokio_tungstenite::client_async_with_config(request, stream, Some(config())).await;
    match connected {
        // Cameras do not all name the subprotocol in their answers.
        Ok((socket, _)) => Ok(WebSocket { socket, rest: Bytes::new() }),
        Err(error) => Err(Box::new(error)),
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::ConnectionAborted.into(),
        error => io::Error::other(error),
    }
}

impl<S: Stream> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                // Some send the text of RTSP as text.
                Some(Ok(Message::Text(text))) => self.rest = text.into(),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
            }
        }
        let len = self.rest.len().min(buf.remaining());
        buf.put_slice(self.rest.get(..len).unwrap_or_default());
        self.rest.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> AsyncWrite for WebSocket<S> {
    /// One message per call.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        ready!(socket.as_mut().poll_ready(cx)).map_err(into_io)?;
        socket.start_send(Message::Binary(Bytes::copy_from_slice(buf))).map_err(into_io)?;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(into_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(into_io)
    }
}

//! Signalling over a WebSocket, and go2rtc's messages.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use patchbay_net::tls::Verify;
use patchbay_net::{SourceUrl, auth, dial};
use patchbay_sdk::{Class, Error};
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::client::Wants;
use super::{Call, Client, Hangup};

/// Largest message that is read, in bytes.
const MAX_MESSAGE: usize = 1 << 20;

/// How long dialling may take, and each of the handshakes again.
const DIAL_LIMIT: Duration = Duration::from_secs(5);

/// A WebSocket connection.
pub(super) struct Socket {
    stream: WebSocketStream<Box<dyn patchbay_net::Stream>>,
}

impl Socket {
    /// Dials `ws://` or `wss://`; user info becomes a login.
    pub(super) async fn dial(url: &SourceUrl) -> Result<Self, Error> {
        let is_tls = url.scheme() == "wss";
        let port = url.port().unwrap_or(if is_tls { 443 } else { 80 });
        let verify = is_tls.then(|| Verify::of(url));
        let dialled = dial(url.host(), port, verify, DIAL_LIMIT).await.map_err(Error::from);
        let stream =
            dialled.map_err(|error| Error { message: format!("webrtc: {}", error.message), ..error })?.stream;
        let mut request =
            url.request_url(url.scheme()).into_client_request().map_err(|error| failed(&error))?;
        if let Some(credentials) = url.credentials()
            && let Ok(value) = HeaderValue::from_str(&auth::basic(credentials))
        {
            request.headers_mut().insert("authorization", value);
        }
        let config =
            WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        let shaking = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
        let shaken = tokio::time::timeout(DIAL_LIMIT, shaking).await;
        let (stream, _) = shaken
            .map_err(|_| Error::timeout("webrtc: the service does not answer"))?
            .map_err(|error| failed(&error))?;
        Ok(Self { stream })
    }

    pub(super) async fn send(&mut self, message: &Value) -> Result<(), Error> {
        let text = Message::Text(message.to_string().into());
        self.stream.send(text).await.map_err(|error| failed(&error))
    }

    /// The next JSON message; others are passed over. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Value, Error> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    if let Ok(message) = serde_json::from_str(&text) {
                        return Ok(message);
                    }
                }
                Some(Ok(Message::Close(_))) | None => {
                    return Err(Error::eof("webrtc: the service has closed the connection"));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(failed(&error)),
            }
        }
    }

    pub(super) async fn close(mut self) {
        let _ = tokio::time::timeout(DIAL_LIMIT, self.stream.close(None)).await;
    }
}

fn failed(error: &WsError) -> Error {
    let class = match error {
        WsError::Http(response) => match response.status().as_u16() {
            401 | 403 => Class::Auth,
            404 => Class::NotFound,
            _ => Class::Protocol,
        },
        _ => Class::Protocol,
    };
    Error::new(class, format!("webrtc: {error}"))
}

/// go2rtc's `/api/ws`: the offer at once, candidates of both sides as they are found; closed once connected.
pub(super) async fn go2rtc(call: &Call) -> Result<(Client, Hangup), Error> {
    let mut socket = Socket::dial(&call.dial.url).await?;
    let mut client = call.client(&call.ice_servers, Wants::Both).await?;
    let offer = client.offer().await?;
    socket.send(&json!({"type": "webrtc/offer", "value": offer})).await?;
    let mut is_answered = false;
    while !client.is_connected() {
        tokio::select! {
            message = socket.next() => {
                let message = message?;
                let value = message.get("value").and_then(Value::as_str).unwrap_or("");
                match message.get("type").and_then(Value::as_str).unwrap_or("") {
                    "webrtc/answer" if !is_answered => {
                        client.accept(value).await?;
                        is_answered = true;
                    }
                    "webrtc/candidate" if is_answered => client.add_candidate(value).await,
                    _ if !is_answered => {
                        return Err(Error::protocol(format!("webrtc: wrong answer: {value}")));
                    }
                    _ => {}
                }
            }
            line = client.advance() => {
                if let Some(line) = line? {
                    socket.send(&json!({"type": "webrtc/candidate", "value": line})).await?;
                }
            }
        }
    }
    socket.close().await;
    Ok((client, Hangup::Nothing))
}

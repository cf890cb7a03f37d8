//! OpenIPC cameras: the camera offers as soon as somebody connects.

use patchbay_sdk::Error;
use serde_json::{Value, json};

use super::client::Wants;
use super::socket::Socket;
use super::{Call, Client, Hangup};

/// Dials the camera.
pub(super) async fn dial(call: &Call) -> Result<(Client, Hangup), Error> {
    let mut socket = Socket::dial(&call.dial.url).await?;
    let servers = call.dial.ice_servers.clone().unwrap_or_default();
    let mut client = call.client(&servers, Wants::Answer).await?;
    let mut is_answered = false;
    while !client.is_connected() {
        tokio::select! {
            message = socket.next() => {
                let message = message?;
                let data = message.get("data");
                let text = |key: &str| data.and_then(|data| data.get(key)).and_then(Value::as_str);
                match message.get("reply").and_then(Value::as_str) {
                    // It is the offer, whatever its name.
                    Some("webrtc_answer") if !is_answered => {
                        if let Some(sdp) = text("sdp") {
                            let answer = client.answer(sdp).await?;
                            is_answered = true;
                            socket.send(&json!({"data": answer, "req": "answer"})).await?;
                        }
                    }
                    Some("webrtc_candidate") if is_answered => {
                        if let Some(line) = text("candidate") {
                            client.add_candidate(line).await;
                        }
                    }
                    _ => {}
                }
            }
            line = client.advance(), if is_answered => {
                if let Some(line) = line? {
                    socket.send(&json!({"data": line, "req": "candidate"})).await?;
                }
            }
        }
    }
    socket.close().await;
    Ok((client, Hangup::Nothing))
}

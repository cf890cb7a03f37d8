//! Amazon Kinesis Video Streams as a viewer, and the two services that hand out its URLs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use patchbay_net::SourceUrl;
use patchbay_net::http::Request;
use patchbay_sdk::Error;
use serde_json::{Value, json};

use super::client::Wants;
use super::socket::Socket;
use super::url::Format;
use super::{Call, Client, Hangup, http};
use crate::config::IceServer;

/// Where to dial, and as whom.
pub(super) struct Channel {
    url: SourceUrl,
    client_id: String,
    ice_servers: Vec<IceServer>,
}

/// Dials a signalling channel whose URL is signed already.
pub(super) async fn viewer(call: &Call, channel: Option<Channel>) -> Result<(Client, Hangup), Error> {
    let dial = &call.dial;
    let channel = channel.unwrap_or_else(|| Channel {
        url: dial.url.clone(),
        client_id: dial.option("client_id").to_owned(),
        // Only the servers of the URL.
        ice_servers: dial.ice_servers.clone().unwrap_or_default(),
    });
    let wants = if dial.format == Format::Switchbot { Wants::Video } else { Wants::Both };
    let mut socket = Socket::dial(&channel.url).await?;
    let mut client = call.client(&channel.ice_servers, wants).await?;
    let offer = client.offer().await?;
    socket.send(&message("SDP_OFFER", &channel.client_id, &offer_of(call, &offer))).await?;
    while !client.is_connected() {
        tokio::select! {
            message = socket.next() => match read(&message?) {
                Some(Heard::Answer(sdp)) => client.accept(&sdp).await?,
                Some(Heard::Candidate(line)) => client.add_candidate(&line).await,
                None => {}
            },
            line = client.advance() => {
                if let Some(line) = line? {
                    let payload = json!({"candidate": line, "sdpMid": "0", "sdpMLineIndex": 0}).to_string();
                    socket.send(&message("ICE_CANDIDATE", &channel.client_id, &payload)).await?;
                }
            }
        }
    }
    socket.close().await;
    Ok((client, Hangup::Nothing))
}

/// docker-wyze-bridge: asks for the channel first.
pub(super) async fn wyze(call: &Call) -> Result<(Client, Hangup), Error> {
    let (_, body) = http::ask(call, &Request::get(call.dial.url.clone())).await?;
    let reply: Value = serde_json::from_str(&body).unwrap_or_default();
    let text = |key: &str| reply.get(key).and_then(Value::as_str).unwrap_or("");
    if text("result") != "ok" {
        return Err(Error::protocol(format!("webrtc: the bridge answered {:?}", text("result"))));
    }
    let url = SourceUrl::parse(text("signalingUrl"))
        .map_err(|error| Error::protocol(format!("webrtc: {error}")))?;
    let servers = reply.get("servers").cloned().unwrap_or_default();
    let channel = Channel {
        url,
        client_id: text("ClientId").to_owned(),
        ice_servers: serde_json::from_value(servers).unwrap_or_default(),
    };
    viewer(call, Some(channel)).await
}

fn message(action: &str, client_id: &str, payload: &str) -> Value {
    json!({"action": action, "recipientClientId": client_id, "messagePayload": STANDARD.encode(payload)})
}

/// The payload of the offer; SwitchBot wants to know the resolution too.
fn offer_of(call: &Call, sdp: &str) -> String {
    let resolution = match call.dial.option("resolution") {
        "sd" => 1,
        "auto" => 2,
        _ => 0,
    };
    let play_type = call.dial.option("play_type").parse().unwrap_or(0);
    payload(sdp, (call.dial.format == Format::Switchbot).then_some((resolution, play_type)))
}

/// The keys in this order.
fn payload(sdp: &str, switchbot: Option<(i64, i64)>) -> String {
    let sdp = Value::from(sdp);
    match switchbot {
        None => format!("{{\"type\":\"offer\",\"sdp\":{sdp}}}"),
        Some((resolution, play_type)) => format!(
            "{{\"type\":\"offer\",\"sdp\":{sdp},\"resolution\":{resolution},\"play_type\":{play_type}}}"
        ),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Answer(String),
    Candidate(String),
}

fn read(message: &Value) -> Option<Heard> {
    let kind = message.get("messageType")?.as_str()?;
    let payload = STANDARD.decode(message.get("messagePayload")?.as_str()?).ok()?;
    let payload: Value = serde_json::from_slice(&payload).ok()?;
    let text = |key: &str| payload.get(key).and_then(Value::as_str).map(str::to_owned);
    match kind {
        "SDP_ANSWER" => text("sdp").map(Heard::Answer),
        "ICE_CANDIDATE" => text("candidate").map(Heard::Candidate),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_base64_of_json() {
        let encoded = |switchbot| STANDARD.encode(payload("v=0\r\n", switchbot));
        assert_eq!(encoded(None), "eyJ0eXBlIjoib2ZmZXIiLCJzZHAiOiJ2PTBcclxuIn0=");
        assert_eq!(
            encoded(Some((0, 0))),
            "eyJ0eXBlIjoib2ZmZXIiLCJzZHAiOiJ2PTBcclxuIiwicmVzb2x1dGlvbiI6MCwicGxheV90eXBlIjowfQ=="
        );
    }

    #[test]
    fn answers_and_candidates_are_read() {
        let answer = STANDARD.encode(r#"{"type":"answer","sdp":"v=0"}"#);
        let message = json!({"messageType": "SDP_ANSWER", "messagePayload": answer, "senderClientId": "m"});
        assert_eq!(read(&message), Some(Heard::Answer("v=0".to_owned())));
        let line = STANDARD.encode(r#"{"candidate":"candidate:1","sdpMid":"0","sdpMLineIndex":0}"#);
        let message = json!({"messageType": "ICE_CANDIDATE", "messagePayload": line});
        assert_eq!(read(&message), Some(Heard::Candidate("candidate:1".to_owned())));
        assert_eq!(read(&json!({"messageType": "STATUS_RESPONSE"})), None);
    }
}

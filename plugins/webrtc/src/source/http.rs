//! Signalling over HTTP: WHEP, and the services that have their own way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use patchbay_net::SourceUrl;
use patchbay_net::http::{HttpError, Request, Response};
use patchbay_sdk::Error;
use serde_json::{Value, json};

use super::client::Wants;
use super::{Call, Client, Hangup};
use crate::sdp::MAX_LEN;

/// Asks, and gives the answer's body; any status but 2xx is an error.
pub(super) async fn ask(call: &Call, request: &Request) -> Result<(Response, String), Error> {
    let response = call.http.send(request).await.map_err(failed)?;
    let mut response = response.expect(|status| (200..300).contains(&status)).map_err(|error| Error {
        message: format!("webrtc: the service answered {}", error.message),
        ..error
    })?;
    let body = response.bytes(2 * MAX_LEN).await.map_err(failed)?;
    Ok((response, String::from_utf8_lossy(&body).into_owned()))
}

fn failed(error: HttpError) -> Error {
    let error = Error::from(error);
    Error { message: format!("webrtc: {}", error.message), ..error }
}

/// WHEP (draft-ietf-wish-whep): the whole offer, the whole answer, DELETE at the end.
pub(super) async fn whep(call: &Call) -> Result<(Client, Hangup), Error> {
    let mut client = call.client(&call.ice_servers, Wants::Both).await?;
    let offer = client.whole_offer().await?;
    let request = Request::post(call.dial.url.clone(), "application/sdp", offer);
    let (response, answer) = ask(call, &request).await?;
    client.accept(&answer).await?;
    let location = response.head.get("Location").and_then(|location| resolve(&response.url, location));
    let hangup = location.map_or(Hangup::Nothing, |url| {
        let mut request = Request::get(url);
        "DELETE".clone_into(&mut request.method);
        if let Some(credentials) = call.dial.url.credentials() {
            request = request.header("Authorization", patchbay_net::auth::basic(credentials));
        }
        Hangup::Delete(Box::new(request))
    });
    Ok((client, hangup))
}

/// The URL that a `Location` of an answer from `base` names; another server's is not followed.
fn resolve(base: &SourceUrl, location: &str) -> Option<SourceUrl> {
    let location = location.trim();
    let server = format!("{}://{}", base.scheme(), base.authority());
    let text = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with('/') {
        format!("{server}{location}")
    } else {
        let path = base.path_and_query().split('?').next().unwrap_or("");
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{server}{folder}/{location}")
    };
    SourceUrl::parse(&text).ok().filter(|url| url.host() == base.host())
}

/// Creality printers: base64 of JSON both ways, and an answer that needs mending.
pub(super) async fn creality(call: &Call) -> Result<(Client, Hangup), Error> {
    let mut client = call.client(&call.ice_servers, Wants::Video).await?;
    let offer = client.whole_offer().await?;
    // The printer wants this content type.
    let request = Request::post(call.dial.url.clone(), "plain/text", wrapped(&offer));
    let (_, body) = ask(call, &request).await?;
    let answer =
        unwrapped(&body).ok_or_else(|| Error::protocol("webrtc: the printer's answer cannot be read"))?;
    client.accept(&mended(&answer)).await?;
    Ok((client, Hangup::Nothing))
}

/// Base64 of a JSON object with a description.
fn wrapped(offer: &str) -> String {
    // The keys in this order.
    let sdp = Value::from(offer);
    STANDARD.encode(format!("{{\"sdp\":{sdp},\"type\":\"offer\"}}"))
}

fn unwrapped(body: &str) -> Option<String> {
    let json: Value = serde_json::from_slice(&STANDARD.decode(body.trim()).ok()?).ok()?;
    json.get("sdp")?.as_str().map(str::to_owned)
}

/// The printer lists two formats and sends the second; parameters that only browsers know are dropped.
fn mended(answer: &str) -> String {
    let mut first = None;
    let mut is_first_section = true;
    let lines = answer.lines().map(str::trim_end).filter_map(|line| {
        if line.starts_with("m=") && first.is_none() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            if let [media, port, protocol, dropped, rest @ ..] = &words[..]
                && !rest.is_empty()
            {
                first = Some((*dropped).to_owned());
                return Some(format!("{media} {port} {protocol} {}", rest.join(" ")));
            }
            first = Some(String::new());
        } else if line.starts_with("m=") {
            is_first_section = false;
        }
        let is_dropped = is_first_section
            && first.as_ref().is_some_and(|first| {
                ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"].iter().any(|name| {
                    line.strip_prefix(name).and_then(|rest| rest.split(' ').next()) == Some(first)
                })
            });
        let is_foreign = line.starts_with("a=fmtp:") && line.contains("x-google");
        (!is_dropped && !is_foreign).then(|| line.to_owned())
    });
    lines.map(|line| line + "\r\n").collect()
}

/// Milestone XProtect: a token, a session whose offer the server makes, and the answer.
pub(super) async fn milestone(call: &Call) -> Result<(Client, Hangup), Error> {
    let dial = &call.dial;
    let base = dial.url.request_url(dial.url.scheme());
    let base = base.trim_end_matches('/');
    let url = |path: &str| {
        SourceUrl::parse(&format!("{base}{path}")).map_err(|error| Error::unsupported(error.to_string()))
    };
    let form = format!(
        "client_id=GrantValidatorClient&grant_type=password&username={}&password={}",
        encoded(dial.option("username")),
        encoded(dial.option("password"))
    );
    let request = Request::post(url("/IDP/connect/token")?, "application/x-www-form-urlencoded", form);
    let (_, body) = ask(call, &request).await?;
    let text = |json: &Value, key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
    let parsed = |body: &str| serde_json::from_str::<Value>(body).unwrap_or_default();
    let missing = |what: &str| Error::protocol(format!("webrtc: the server's answer has no {what}"));
    let token = text(&parsed(&body), "access_token").ok_or_else(|| missing("access_token"))?;
    let bearer = format!("Bearer {token}");
    let request =
        Request::post(url("/REST/v1/WebRTC/Session")?, "application/json", session_of(call).to_string());
    let (_, body) = ask(call, &request.header("Authorization", bearer.clone())).await?;
    let session = parsed(&body);
    let id = text(&session, "sessionId").ok_or_else(|| missing("sessionId"))?;
    let offer = text(&session, "offerSDP").ok_or_else(|| missing("offerSDP"))?;
    let offer = text(&parsed(&offer), "sdp").ok_or_else(|| missing("sdp"))?;
    let mut client = call.client(&[], Wants::Answer).await?;
    let answer = client.answer(&offer).await?;
    let answer = json!({"type": "answer", "sdp": answer}).to_string();
    let body = json!({"answerSDP": answer}).to_string();
    let mut request =
        Request::post(url(&format!("/REST/v1/WebRTC/Session/{}", encoded(&id)))?, "application/json", body);
    "PATCH".clone_into(&mut request.method);
    ask(call, &request.header("Authorization", bearer)).await?;
    Ok((client, Hangup::Nothing))
}

fn session_of(call: &Call) -> Value {
    let dial = &call.dial;
    let mut node = serde_json::Map::new();
    if !dial.option("playbackTime").is_empty() {
        node.insert("playbackTime".to_owned(), dial.option("playbackTime").into());
    }
    if dial.url.option("skipGaps").is_some() {
        node.insert("skipGaps".to_owned(), true.into());
    }
    if let Ok(speed) = dial.option("speed").parse::<f64>() {
        node.insert("speed".to_owned(), speed.into());
    }
    let mut session = json!({"cameraId": dial.option("cameraId"), "playbackTimeNode": node});
    if !dial.option("streamId").is_empty()
        && let Some(session) = session.as_object_mut()
    {
        session.insert("streamId".to_owned(), dial.option("streamId").into());
    }
    session
}

/// Percent-encodes a form's value.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creality_wraps_descriptions() {
        assert_eq!(wrapped("v=0\r\n"), "eyJzZHAiOiJ2PTBcclxuIiwidHlwZSI6Im9mZmVyIn0=");
        assert_eq!(unwrapped("eyJzZHAiOiJ2PTBcclxuIiwidHlwZSI6Im9mZmVyIn0=").as_deref(), Some("v=0\r\n"));
        assert_eq!(unwrapped("e30="), None);
    }

    #[test]
    fn the_printers_first_format_is_dropped() {
        let answer = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 98\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=0\r\n\
                      a=rtpmap:98 H264/90000\r\na=fmtp:98 packetization-mode=1\r\na=fmtp:98 x-google-max-bitrate=1\r\n";
        let mended = mended(answer);
        assert_eq!(
            mended,
            "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 98\r\na=rtpmap:98 H264/90000\r\na=fmtp:98 packetization-mode=1\r\n"
        );
    }

    #[test]
    fn locations_are_resolved_on_the_same_server() {
        let base = SourceUrl::parse("http://u:p@192.0.2.1:1984/api/webrtc?src=a").unwrap();
        let at = |location| resolve(&base, location).map(|url| url.expose().to_owned());
        assert_eq!(at("webrtc?id=1").as_deref(), Some("http://192.0.2.1:1984/api/webrtc?id=1"));
        assert_eq!(at("/session/1").as_deref(), Some("http://192.0.2.1:1984/session/1"));
        assert_eq!(at("http://192.0.2.1/x").as_deref(), Some("http://192.0.2.1/x"));
        assert_eq!(at("http://192.0.2.2/x"), None);
    }

    #[test]
    fn forms_are_encoded() {
        assert_eq!(encoded("a b&c=ä"), "a%20b%26c%3D%C3%A4");
    }
}

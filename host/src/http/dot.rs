//! `GET /api/streams.dot`: who sends what to whom, for Graphviz.

use std::fmt::Write as _;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use serde_json::Value;

use super::{Call, streams};

pub(super) fn page(call: &Call) -> Response {
    let names = call.query.all("src");
    let all = streams::masked(call, call.app.info(None).unwrap_or_default());
    let chosen = all.as_object().into_iter().flatten();
    let chosen =
        chosen.filter(|(name, _)| names.is_empty() || names.contains(name)).map(|(_, stream)| stream);
    let mut response = Response::new(Body::from(graph(chosen)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/vnd.graphviz"));
    response
}

/// The graph of streams as `/api/streams` shows them.
fn graph<'a>(streams: impl Iterator<Item = &'a Value>) -> String {
    let mut out = "digraph {\n".to_owned();
    for stream in streams {
        for producer in list(stream, "producers").filter(|producer| producer.get("id").is_some()) {
            let (host, id) = (host(producer), number(producer, "id"));
            connection(&mut out, producer, &host, "producer");
            let _ = writeln!(out, "{host} -> {id} [label=\"{}\"];", bytes(number(producer, "bytes_recv")));
            for receiver in list(producer, "receivers") {
                let to = number(receiver, "id");
                let _ = writeln!(out, "{id} -> {to} [label=\"{}\"];", bytes(number(receiver, "bytes")));
                let codec = receiver.get("codec").unwrap_or(&Value::Null);
                let (name, title) = (text(codec, "codec_name"), title(codec, &CODEC));
                let name = if name.is_empty() { "unknown" } else { name };
                let _ = writeln!(out, "{to} [group=node, label=\"{}\", title=\"{title}\"];", quoted(name));
            }
        }
        for consumer in list(stream, "consumers") {
            let (host, id) = (host(consumer), number(consumer, "id"));
            connection(&mut out, consumer, &host, "consumer");
            let _ = writeln!(out, "{id} -> {host} [label=\"{}\"];", bytes(number(consumer, "bytes_send")));
            for sender in list(consumer, "senders") {
                let (parent, sent) = (number(sender, "parent"), bytes(number(sender, "bytes")));
                let _ = writeln!(out, "{parent} -> {id} [label=\"{sent}\"];");
            }
        }
    }
    out.push('}');
    out
}

const CONNECTION: [&str; 5] = ["format_name", "protocol", "source", "url", "user_agent"];
const CODEC: [&str; 5] = ["codec_name", "sample_rate", "channels", "profile", "level"];

fn connection(out: &mut String, value: &Value, host: &str, group: &str) {
    let (id, label, title) = (number(value, "id"), text(value, "format_name"), title(value, &CONNECTION));
    let _ = writeln!(out, "{host} [group=host];");
    let _ = writeln!(out, "{id} [group={group}, label=\"{}\", title=\"{title}\"];", quoted(label));
}

fn title(value: &Value, keys: &[&str]) -> String {
    let line = |key: &&str| {
        let shown = match value.get(*key)? {
            Value::String(text) => quoted(text),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        Some(format!("{key}={shown}"))
    };
    keys.iter().filter_map(line).collect::<Vec<_>>().join("\\n")
}

/// No text ends the quotes that it stands in.
fn quoted(text: &str) -> String {
    text.replace('"', "'").replace('\\', "/").replace(['\n', '\r'], " ")
}

/// The address of the other end without its port, in quotes where Graphviz needs them.
fn host(connection: &Value) -> String {
    let address = match text(connection, "protocol") {
        "pipe" => "127.0.0.1",
        _ => text(connection, "remote_addr"),
    };
    let address = address.split_once("forwarded ").map_or(address, |(_, client)| client);
    let address = match address.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
        Some(v6) => v6,
        None => address.split([' ', ',', ':']).next().unwrap_or_default(),
    };
    format!("\"{}\"", quoted(if address.is_empty() { "unknown" } else { address }))
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while value >= 1000.0 && units.len() > 0 {
        value /= 1000.0;
        unit = units.next();
    }
    format!("{value:.2} {}", unit.unwrap_or(&"PB"))
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn producers_tracks_and_consumers_are_nodes() {
        let stream = json!({
            "producers": [
                {"url": "rtsp://idle"},
                {"id": 7, "format_name": "rtsp", "protocol": "rtsp+tcp", "remote_addr": "192.0.2.1:554", "url": "rtsp://\"c\"",
                 "bytes_recv": 1_234_567, "receivers": [{"id": 448, "bytes": 999, "codec": {"codec_name": "h264"}}]},
            ],
            "consumers": [{"id": 9, "format_name": "mp4", "remote_addr": "127.0.0.1:5 forwarded 192.0.2.9", "bytes_send": 1000,
                           "senders": [{"parent": 448}]}],
        });
        let graph = graph([&stream].into_iter());
        let lines: Vec<&str> = graph.lines().collect();
        assert_eq!(lines.first(), Some(&"digraph {"));
        assert!(graph.ends_with("];\n}"), "{graph}");
        for line in [
            "\"192.0.2.1\" [group=host];",
            r#"7 [group=producer, label="rtsp", title="format_name=rtsp\nprotocol=rtsp+tcp\nurl=rtsp://'c'"];"#,
            r#""192.0.2.1" -> 7 [label="1.23 MB"];"#,
            r#"7 -> 448 [label="999 B"];"#,
            r#"448 [group=node, label="h264", title="codec_name=h264"];"#,
            r#"9 -> "192.0.2.9" [label="1.00 KB"];"#,
            r#"448 -> 9 [label="0 B"];"#,
        ] {
            assert!(lines.contains(&line), "{line} in {graph}");
        }
        assert_eq!((bytes(0), bytes(2_000_000_000_000_000_000)), ("0 B".into(), "2000.00 PB".into()));
    }
}

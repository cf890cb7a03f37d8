//! Rules of the role `routes`: requests, messages on `/api/ws`, connections of other protocols.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

use patchbay_plugin_api::message::{Raw, Response, RouteOpen, command, event, role};
use patchbay_plugin_api::{Code, Manifest, manifest};

use crate::Kit;
use crate::host;
use crate::rules::LOCAL_LIMIT;

/// Bytes of a body that no plugin expects.
const BODY: &[u8] = &[0xa5; 20_000];

/// Role `routes`.
pub(crate) fn routes(kit: &mut Kit, manifest: &Manifest) {
    for route in &manifest.routes {
        let name = if route.ws.is_empty() { &route.path } else { &route.ws };
        for query in ["", "src=%ff%fe&src=&=&&x", "src=nope"] {
            let outcome = asked(kit, route, "GET", query);
            kit.rule(&format!("routes {name}: answers ?{query}"), outcome);
        }
        let outcome = asked(kit, route, "POST", "");
        kit.rule(&format!("routes {name}: takes a body that is garbage"), outcome);
    }
    for raw in &manifest.raw {
        let outcome = handed_over(kit, raw);
        kit.rule(&format!("routes {:?}: ends with a connection that it was given", raw.request), outcome);
    }
}

/// One request or message, and whatever answer.
fn asked(kit: &mut Kit, route: &manifest::Route, method: &str, query: &str) -> Result<(), String> {
    let session = kit.session();
    let is_message = !route.ws.is_empty();
    let open = RouteOpen {
        route: if is_message { route.ws.clone() } else { route.path.clone() },
        method: if is_message { "" } else { method }.to_owned(),
        path: route.path.clone(),
        query: query.to_owned(),
        headers: vec![("content-type".to_owned(), "application/x-conformance".to_owned())],
        remote: "127.0.0.1:1".to_owned(),
        value: (is_message && method == "POST")
            .then(|| serde_json::json!([{"conformance": [null, 1e300, "\u{0}"]}])),
        ..RouteOpen::default()
    };
    let opened = kit.caller.open(session, role::ROUTES, &open);
    let mut sent = Ok(Code::Ok);
    if method == "POST" && !is_message {
        sent = kit.caller.command_bytes(session, command::BODY, BODY.to_vec());
    }
    let sent = sent.and_then(|_| kit.caller.command_bytes(session, command::BODY_END, Vec::new()));
    let (seen, came) = host::wait(session, LOCAL_LIMIT, |seen| {
        [event::RESPONSE, event::SERVE, event::MESSAGE, event::ENDED].iter().any(|kind| seen.has(*kind))
    });
    let status = seen
        .last(event::RESPONSE)
        .map(|event| serde_json::from_slice::<Response>(&event.payload).unwrap_or_default().status);
    let _ = kit.caller.close(session);
    opened.and(sent).and(match status {
        _ if !came => Err("no answer within 5 s".to_owned()),
        Some(status) if !(100..600).contains(&status) => Err(format!("status {status}")),
        _ => Ok(()),
    })
}

/// A connection on the HTTP port that begins as the manifest says, and then ends.
fn handed_over(kit: &mut Kit, raw: &manifest::Raw) -> Result<(), String> {
    let why = |error: std::io::Error| format!("no connection on this machine: {error}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(why)?;
    let mut client = TcpStream::connect(listener.local_addr().map_err(why)?).map_err(why)?;
    let (given, remote) = listener.accept().map_err(why)?;
    let session = kit.session();
    let open = RouteOpen {
        route: raw.request.clone(),
        raw: true,
        remote: remote.to_string(),
        local: listener.local_addr().map_err(why)?.to_string(),
        ..RouteOpen::default()
    };
    let head = format!("{} * HTTP/1.0\r\n{}: {}\r\n\r\n", raw.request, raw.header, raw.value);
    client.write_all(head.as_bytes()).map_err(why)?;
    if kit.caller.open(session, role::ROUTES, &open)? != Code::Ok {
        return Err("open was refused".to_owned());
    }
    let fd = Raw { fd: given.as_raw_fd() };
    let told = kit.caller.command(session, command::RAW, &fd);
    // The plugin has its own by now.
    drop(given);
    told?;
    client.write_all(BODY).or_else(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => Ok(()),
        _ => Err(why(error)),
    })?;
    let _ = client.shutdown(std::net::Shutdown::Write);
    let _ = client.set_read_timeout(Some(LOCAL_LIMIT));
    // Whatever it says; it must come to an end.
    let mut said = [0; 4096];
    while matches!(client.read(&mut said), Ok(len) if len > 0) {}
    drop(client);
    let (_, over) = host::wait(session, LOCAL_LIMIT, |seen| seen.has(event::ENDED));
    let panics = host::panics();
    match (panics.is_empty(), over) {
        (false, _) => Err(panics.join(", ")),
        (true, true) => Ok(()),
        (true, false) => {
            kit.closes(session)?;
            Err("no ENDED within 5 s of the end of the connection".to_owned())
        }
    }
}

//! Rules of roles that talk with others through the host: sinks with streams, services with their callers.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::Duration;

use patchbay_plugin_api::message::{
    Bound, BoundTrack, Call, Class, Ended, ServiceOpen, SinkOpen, command, event, role, with_bytes,
};
use patchbay_plugin_api::{Code, Manifest};

use crate::Kit;
use crate::host::{self, SOURCE};
use crate::rules::{FIRST_LIMIT, LOCAL_LIMIT, ended, offers, second};

/// Name of the stream that sinks are to push.
const STREAM: &str = "conformance";

/// How long a peer that says nothing is listened to.
const PEER_LIMIT: Duration = Duration::from_secs(60);

fn calm() -> Result<(), String> {
    let panics = host::panics();
    if panics.is_empty() { Ok(()) } else { Err(panics.join(", ")) }
}

/// A peer that takes every connection, reads and says nothing: its port.
fn silent_peer() -> Option<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    let port = listener.local_addr().ok()?.port();
    thread::spawn(move || {
        for mut peer in listener.incoming().flatten() {
            thread::spawn(move || {
                let _ = peer.set_read_timeout(Some(PEER_LIMIT));
                let mut buf = [0_u8; 4096];
                while matches!(peer.read(&mut buf), Ok(len) if len > 0) {}
            });
        }
    });
    Some(port)
}

/// Role `sink`.
pub(crate) fn sink(kit: &mut Kit, manifest: &Manifest) {
    let Some(scheme) = manifest.schemes.iter().find(|scheme| scheme.role == "sink") else {
        return kit.rule("sink: has a scheme", Err("no scheme of role sink in its manifest".to_owned()));
    };
    host::take_claims(true);
    let session = kit.session();
    let open = |port: u16| SinkOpen {
        url: format!("{}://127.0.0.1:{port}/live", scheme.name),
        stream: STREAM.to_owned(),
    };
    let opened = kit.caller.open(session, role::SINK, &open(1));
    // One that asks for the stream first is refused it, as one whose target is not there is.
    let asked = || host::claim().is_some();
    let (seen, _) = host::wait(session, FIRST_LIMIT, |seen| seen.has(event::ENDED) || asked());
    if let Some((claim, _)) = host::claim().filter(|_| !seen.has(event::ENDED)) {
        let refusal =
            Ended { class: Class::NotFound, message: "stream not found".to_owned(), retry_after_ms: 0 };
        let _ = kit.caller.command(claim, command::REFUSED, &refusal);
    }
    let (seen, _) = host::wait(session, FIRST_LIMIT, |seen| seen.has(event::ENDED));
    let outcome = opened.and(match ended(&seen) {
        Some(ended) if ended.message.is_empty() => Err("it ended without a message".to_owned()),
        Some(_) => Ok(()),
        None => Err("no ENDED within 20 s".to_owned()),
    });
    kit.rule("sink: says why it cannot push", outcome);

    let Some(port) = silent_peer() else { return host::take_claims(false) };
    host::take_claims(true);
    let session = kit.session();
    let opened = kit.caller.open(session, role::SINK, &open(port));
    let (_, _) = host::wait(session, Duration::from_secs(1), |seen| seen.has(event::ENDED) || asked());
    let mut outcome = opened.map(drop);
    if let Some((claim, consume)) = host::claim() {
        if consume.stream != STREAM {
            outcome = outcome.and(Err(format!("it asks for the stream {:?}", consume.stream)));
        }
        for tracks in offers() {
            host::set_tracks(&tracks);
            second(&tracks, 0);
            let bound = |info: &_| BoundTrack { source: SOURCE, epoch: 0, info: Clone::clone(info) };
            let bound = Bound { tracks: tracks.iter().map(bound).collect(), ..Bound::default() };
            outcome = outcome.and(kit.caller.command(claim, command::BOUND, &bound).map(drop));
            second(&tracks, 1);
        }
    }
    kit.rule("sink: takes tracks that change", outcome.and(calm()));
    let outcome = kit.closes(session).or_else(|why| {
        let (seen, _) = host::wait(session, Duration::ZERO, |_| true);
        // It may have ended by itself before.
        if seen.has(event::ENDED) { Ok(()) } else { Err(why) }
    });
    kit.rule("sink: ends when it is closed", outcome);
    host::take_claims(false);
}

/// Role `service`.
pub(crate) fn service(kit: &mut Kit, manifest: &Manifest) {
    if manifest.services.is_empty() {
        return kit.rule("service: has a name", Err("no services in its manifest".to_owned()));
    }
    for name in &manifest.services {
        let session = kit.session();
        let open = ServiceOpen {
            service: name.clone(),
            method: "conformance".to_owned(),
            caller: "conformance".to_owned(),
            ..ServiceOpen::default()
        };
        let mut outcome = match kit.caller.open(session, role::SERVICE, &open) {
            Ok(Code::Ok) => Ok(()),
            Ok(code) => Err(format!("open returned {code:?}")),
            Err(why) => Err(why),
        };
        // A method that it does not know is no harm: it may end, with a message, or pass over it.
        let call = Call { method: "conformance".to_owned(), ..Call::default() };
        let payloads = [
            Vec::new(),
            b"{".to_vec(),
            vec![0, 0, 0, 0, 200, b'{'],
            vec![0xff; 64],
            with_bytes(&call, Some(&[7; 1000])),
            with_bytes(&call, None),
        ];
        for payload in payloads {
            let called = kit.caller.command_bytes(session, command::CALL, payload);
            outcome = outcome.and(called.map(drop));
        }
        let outcome = outcome.and(calm());
        kit.rule(&format!("service {name}: survives calls that are garbage"), outcome);
        let closed = kit.closes(session);
        let (seen, _) = host::wait(session, LOCAL_LIMIT, |seen| seen.has(event::ENDED));
        let silent = ended(&seen).is_some_and(|ended| ended.class != Class::Eof && ended.message.is_empty());
        let outcome = match (seen.has(event::ENDED), silent) {
            (true, false) => Ok(()),
            (true, true) => Err("it ended without a message".to_owned()),
            _ => closed,
        };
        kit.rule(&format!("service {name}: ends when it is closed"), outcome);
    }
}

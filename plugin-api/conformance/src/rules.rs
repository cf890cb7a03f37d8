//! The rules, by role.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use patchbay_plugin_api::abi::chunk_flags;
use patchbay_plugin_api::message::{
    BoundTrack, Class, Credit, Demand, DemuxerOpen, Ended, Head, History, Join, Listening, OutputOpen,
    ServerOpen, SourceOpen, TrackInfo, Tracks, TransportOpen, command, event, role,
};
use patchbay_plugin_api::{Code, Manifest};

use crate::host::{self, SOURCE, Seen, WINDOW};
use crate::{Kit, Material, Verdict, talk};

/// How long a session has to end after `close`.
pub(crate) const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// How long a source or transport has to say its first word.
pub(crate) const FIRST_LIMIT: Duration = Duration::from_secs(20);

/// How long anything on this machine has.
pub(crate) const LOCAL_LIMIT: Duration = Duration::from_secs(5);

pub(crate) fn ended(seen: &Seen) -> Option<Ended> {
    seen.last(event::ENDED).map(|event| serde_json::from_slice(&event.payload).unwrap_or_default())
}

/// The faults of a session as an outcome.
fn clean(seen: &Seen) -> Result<(), String> {
    if seen.faults.is_empty() { Ok(()) } else { Err(seen.faults.join("; ")) }
}

impl Kit {
    /// Closes a session and sees it end.
    pub(crate) fn closes(&self, session: u64) -> Result<(), String> {
        self.caller.close(session)?;
        let (_, over) = host::wait(session, CLOSE_LIMIT, |seen| seen.has(event::ENDED));
        if over { Ok(()) } else { Err("no ENDED within 3 s of close".to_owned()) }
    }
}

/// What holds for every plugin.
pub(crate) fn every(kit: &mut Kit) {
    let session = kit.session();
    let outcome = kit.caller.open_bytes(session, 4_000, b"{}".to_vec()).and_then(|code| match code {
        Code::Ok => Err("open of a role that does not exist returned Ok".to_owned()),
        _ => Ok(()),
    });
    kit.rule("plugin: refuses roles that it does not have", outcome);
    let outcome = kit
        .caller
        .command(77_777, command::DEMAND, &Demand::default())
        .and_then(|_| kit.caller.command_bytes(77_777, 60_000, vec![0xff; 100]))
        .and_then(|_| kit.caller.close(77_777))
        .map(drop);
    kit.rule("plugin: ignores sessions that it does not know", outcome);
    let mut outcome = Ok(());
    for wanted in 1..=8 {
        for request in [&b""[..], b"{", b"[]", b"null", &[0xff; 64], b"{\"url\":5}"] {
            let session = kit.session();
            outcome =
                outcome.and_then(|()| kit.caller.open_bytes(session, wanted, request.to_vec()).map(drop));
            outcome = outcome.and_then(|()| kit.caller.close(session).map(drop));
        }
    }
    let panics = host::panics();
    let outcome = outcome.and(if panics.is_empty() { Ok(()) } else { Err(panics.join(", ")) });
    kit.rule("plugin: survives requests that are garbage", outcome);
    let pinged = kit.caller.command_bytes(0, command::PING, b"7".to_vec());
    let (_, answered) = host::wait(0, Duration::from_secs(2), |seen| seen.has(event::PONG));
    let outcome = pinged.and(if answered { Ok(()) } else { Err("no PONG within 2 s".to_owned()) });
    kit.rule("plugin: its runtime answers a ping", outcome);
}

/// Opens a source and waits for tracks and `units` units.
fn play(kit: &mut Kit, url: &str, units: u64) -> (u64, Result<Seen, String>) {
    let session = kit.session();
    let open = SourceOpen { url: url.to_owned(), ..SourceOpen::default() };
    if let Err(error) = kit.caller.open(session, role::SOURCE, &open) {
        return (session, Err(error));
    }
    let (seen, _) =
        host::wait(session, FIRST_LIMIT, |seen| seen.has(event::TRACKS) || seen.has(event::ENDED));
    if let Some(ended) = ended(&seen) {
        return (session, Err(format!("it ended: {}", ended.message)));
    }
    if !seen.has(event::TRACKS) {
        return (session, Err("no TRACKS within 20 s".to_owned()));
    }
    let demand = Demand { tracks: (0..64).collect(), class: "live".to_owned() };
    if let Err(error) = kit.caller.command(session, command::DEMAND, &demand) {
        return (session, Err(error));
    }
    // A camera may have a loudspeaker and nothing else.
    let units = if announced(&seen).is_some_and(|tracks| tracks.receive.is_empty()) { 0 } else { units };
    let (seen, came) = host::wait(session, FIRST_LIMIT, |seen| seen.units >= units || seen.has(event::ENDED));
    let outcome = if came { Ok(seen) } else { Err(format!("{} units within 20 s", seen.units)) };
    (session, outcome)
}

/// The last tracks of a session.
fn announced(seen: &Seen) -> Option<Tracks> {
    serde_json::from_slice(&seen.last(event::TRACKS)?.payload).ok()
}

/// Role `source`.
pub(crate) fn source(kit: &mut Kit, manifest: &Manifest, material: &Material) {
    let scheme = manifest.schemes.iter().find(|scheme| scheme.role == "source");
    if let Some(scheme) = scheme {
        let session = kit.session();
        let open = SourceOpen { url: format!("{}://127.0.0.1:1/", scheme.name), ..SourceOpen::default() };
        let opened = kit.caller.open(session, role::SOURCE, &open);
        let (seen, _) =
            host::wait(session, FIRST_LIMIT, |seen| seen.has(event::ENDED) || seen.has(event::TRACKS));
        let outcome = opened.and(match ended(&seen) {
            Some(ended) if ended.message.is_empty() => Err("it ended without a message".to_owned()),
            Some(ended) if ended.class == Class::Eof => Err("it ended as a file does".to_owned()),
            // A source that needs no camera may well play.
            _ if seen.has(event::TRACKS) => kit.closes(session),
            Some(_) => Ok(()),
            None => Err("neither TRACKS nor ENDED within 20 s".to_owned()),
        });
        kit.rule("source: says why a camera cannot be reached", outcome);
    }
    let Some(url) = material.url.clone().filter(|url| {
        manifest.schemes.iter().any(|s| s.role == "source" && url.starts_with(&format!("{}:", s.name)))
    }) else {
        return kit.note("source: plays", Verdict::Skipped("no URL that plays"));
    };
    let (session, outcome) = play(kit, &url, 25);
    let seen = outcome.as_ref().ok().cloned();
    kit.rule("source: plays", outcome.map(drop));
    if let Some(seen) = &seen {
        kit.rule("source: units are valid", clean(seen));
    }
    if let Some(tracks) = seen.as_ref().and_then(announced).filter(|tracks| !tracks.send.is_empty()) {
        talk::rules(kit, "source", session, &tracks);
    }
    if seen.is_some() {
        let outcome = kit.caller.command(session, command::DEMAND, &Demand::default()).map(drop);
        kit.rule("source: takes an empty demand", outcome);
    }
    let outcome = kit.closes(session);
    kit.rule("source: ends when it is closed", outcome);
    let (first, one) = play(kit, &url, 3);
    let (second, two) = play(kit, &url, 3);
    let closed = kit.closes(first).and_then(|()| kit.closes(second));
    // A camera may allow one session only: that is no fault.
    let outcome = one.and(closed);
    let outcome =
        outcome.and(two.map(drop).or_else(|why| if why.starts_with("it ended") { Ok(()) } else { Err(why) }));
    kit.rule("source: starts again, and twice", outcome);
    let session = kit.session();
    let outcome = kit
        .caller
        .open(session, role::SOURCE, &SourceOpen { url, ..SourceOpen::default() })
        .and_then(|_| kit.closes(session));
    kit.rule("source: can be closed while it dials", outcome);
    let Some(refused) = material.refused.clone() else {
        return kit.note("source: tells a refused login", Verdict::Skipped("no URL whose login is refused"));
    };
    let session = kit.session();
    let opened =
        kit.caller.open(session, role::SOURCE, &SourceOpen { url: refused, ..SourceOpen::default() });
    let (seen, _) = host::wait(session, FIRST_LIMIT, |seen| seen.has(event::ENDED));
    let outcome = opened.and(match ended(&seen).map(|ended| ended.class) {
        Some(Class::Auth) => Ok(()),
        other => Err(format!("it ended with {other:?}")),
    });
    kit.rule("source: tells a refused login", outcome);
}

/// Feeds a demuxer with `data` in pieces of `step`, then the end.
fn feed(kit: &mut Kit, format: &str, data: &[u8], step: usize) -> Result<Seen, String> {
    let session = kit.session();
    let head = Head { live: true, ..Head::default() };
    let open = DemuxerOpen { format: format.to_owned(), url: "file:conformance".to_owned(), head };
    if kit.caller.open(session, role::DEMUXER, &open)? != Code::Ok {
        return Err("open was refused".to_owned());
    }
    let demand = Demand { tracks: (0..64).collect(), class: "live".to_owned() };
    kit.caller.command(session, command::DEMAND, &demand)?;
    for piece in data.chunks(step.max(1)) {
        kit.caller.command_bytes(session, command::DATA, piece.to_vec())?;
    }
    kit.caller.command(session, command::DATA_END, &Ended { class: Class::Eof, ..Ended::default() })?;
    let (seen, over) = host::wait(session, FIRST_LIMIT, |seen| seen.has(event::ENDED));
    if over {
        return Ok(seen);
    }
    kit.closes(session)?;
    Err("no ENDED within 20 s of the end of the bytes".to_owned())
}

/// Role `demuxer`.
pub(crate) fn demuxer(kit: &mut Kit, manifest: &Manifest, material: &Material) {
    for demuxes in &manifest.demuxes {
        let format = demuxes.format.as_str();
        // Bare samples of 8000 Hz are live sound and may be played as slowly: 5 s.
        let noise: Vec<u8> = (0..40_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let outcome = feed(kit, format, &noise, 4096).map(drop);
        kit.rule(&format!("demuxer {format}: noise ends in an error"), outcome);
        let outcome = feed(kit, format, b"", 1).map(drop);
        kit.rule(&format!("demuxer {format}: nothing ends too"), outcome);
        let session = kit.session();
        let open = DemuxerOpen { format: format.to_owned(), ..DemuxerOpen::default() };
        let outcome = kit.caller.open(session, role::DEMUXER, &open).and_then(|_| kit.closes(session));
        kit.rule(&format!("demuxer {format}: ends while it waits for bytes"), outcome);
    }
    let (Some(input), [only]) = (&material.input, manifest.demuxes.as_slice()) else {
        return kit.note("demuxer: reads its format", Verdict::Skipped("no bytes of its format"));
    };
    let format = only.format.as_str();
    let whole = feed(kit, format, input, 64 << 10);
    let units = whole.as_ref().map_or(0, |seen| seen.units);
    let outcome = whole.and_then(|seen| {
        clean(&seen)?;
        if seen.units > 0 { Ok(()) } else { Err(ended(&seen).map_or("no unit".to_owned(), |e| e.message)) }
    });
    kit.rule(&format!("demuxer {format}: reads its format"), outcome);
    let outcome = feed(kit, format, input, 777).and_then(|seen| {
        clean(&seen)?;
        if seen.units == units { Ok(()) } else { Err(format!("{} units instead of {units}", seen.units)) }
    });
    kit.rule(&format!("demuxer {format}: how bytes are cut does not matter"), outcome);
    let mut spoiled = input.clone();
    for byte in spoiled.iter_mut().skip(input.len() / 3).step_by(97) {
        *byte ^= 0x5a;
    }
    let outcome = feed(kit, format, &spoiled, 4096).map(drop);
    kit.rule(&format!("demuxer {format}: spoiled bytes do no harm"), outcome);
}

/// Role `transport`.
pub(crate) fn transport(kit: &mut Kit, material: &Material) {
    let Some(url) = material.url.clone() else {
        return kit.note("transport: brings bytes", Verdict::Skipped("no URL"));
    };
    let session = kit.session();
    let opened =
        kit.caller.open(session, role::TRANSPORT, &TransportOpen { url, ..TransportOpen::default() });
    let bytes = |seen: &Seen| seen.outstanding;
    let (seen, _) = host::wait(session, FIRST_LIMIT, |seen| {
        bytes(seen) > 0 || seen.has(event::TRACKS) || seen.has(event::ENDED)
    });
    if let Some(tracks) = announced(&seen).filter(|tracks| !tracks.send.is_empty() && !seen.has(event::HEAD))
    {
        talk::rules(kit, "transport", session, &tracks);
        let outcome = opened.and_then(|_| kit.closes(session));
        return kit.rule("transport: ends when it is closed", outcome);
    }
    let outcome = opened.and(match ended(&seen) {
        Some(ended) if bytes(&seen) == 0 => Err(format!("it ended: {}", ended.message)),
        _ if !seen.has(event::HEAD) => Err("bytes before HEAD".to_owned()),
        _ => Ok(()),
    });
    kit.rule("transport: brings bytes behind their HEAD", outcome);
    // Nothing is granted: it must stop.
    let (seen, _) = host::wait(session, Duration::from_secs(1), |seen| bytes(seen) > WINDOW + (1 << 20));
    let outcome = if bytes(&seen) <= WINDOW + (1 << 20) {
        Ok(())
    } else {
        Err(format!("{} bytes were written into a window of {WINDOW}", bytes(&seen)))
    };
    kit.rule("transport: waits for a slow reader", outcome);
    let granted = host::take_written(session, true);
    let outcome = kit
        .caller
        .command(session, command::WRITABLE, &Credit { bytes: granted })
        .and_then(|_| kit.closes(session));
    kit.rule("transport: ends when it is closed", outcome);
}

/// Raw pictures of two by two.
const Y4M: &[u8] = b"W2 H2 F25:1 C420jpeg";

/// SPS and PPS of 640x360 as `avcC`.
const AVCC: &[u8] = b"\x01\x64\x00\x1e\xff\xe1\x00\x17\x67\x64\x00\x1e\xac\xb3\x01\x40\x5f\xf2\xe0\x22\x00\x00\x03\x00\x02\x00\x00\x03\x00\x64\x1e\x2c\x5c\xd0\x01\x00\x06\x68\xe9\x70\x29\x2c\x8b";

/// Tracks that an output is offered, one set after the other until it takes one.
pub(crate) fn offers() -> Vec<Vec<TrackInfo>> {
    let h264 = host::described(0, "video", "h264", 90_000, AVCC);
    let aac = host::described(1, "audio", "aac", 48_000, &[0x11, 0x88]);
    let only = |info: &TrackInfo| vec![TrackInfo { id: 0, ..info.clone() }];
    vec![
        vec![h264.clone(), aac.clone()],
        only(&h264),
        only(&aac),
        only(&host::described(0, "video", "mjpeg", 90_000, &[])),
        only(&host::described(0, "audio", "pcm_alaw", 8_000, &[])),
        only(&host::described(0, "video", "rawvideo", 90_000, Y4M)),
    ]
}

/// A second of media: 25 pictures, the first a key, and as much sound.
pub(crate) fn second(tracks: &[TrackInfo], number: i64) {
    for at in 0..25_i64 {
        for track in tracks {
            let time = (number * 25 + at) * i64::from(track.clock_rate) / 25;
            let (key, data): (bool, &[u8]) = match track.codec.as_str() {
                "h264" if at == 0 => (true, b"\0\0\0\x08\x65\x88\x84\0\x33\xff\xfe\xf6"),
                "h264" => (false, b"\0\0\0\x06\x41\x9a\x24\x6c\x41\x4f"),
                "mjpeg" => (true, b"\xff\xd8\xff\xd9"),
                _ => (true, b"\x21\x10\x04\x60\x8c\x1c"),
            };
            host::push_unit(track.id as u16, key, time, data);
        }
    }
}

/// Role `output`.
pub(crate) fn output(kit: &mut Kit, manifest: &Manifest) {
    for format in &manifest.outputs {
        let mut taken = None;
        for tracks in offers() {
            host::set_tracks(&tracks);
            second(&tracks, 0);
            let session = kit.session();
            let bound = tracks
                .iter()
                .map(|info| BoundTrack { source: SOURCE, epoch: 0, info: info.clone() })
                .collect();
            let open = OutputOpen { format: format.clone(), tracks: bound, ..OutputOpen::default() };
            let opened = kit.caller.open(session, role::OUTPUT, &open);
            let (seen, _) =
                host::wait(session, LOCAL_LIMIT, |seen| seen.has(event::OUTPUT) || seen.has(event::ENDED));
            if opened.is_ok() && seen.has(event::OUTPUT) {
                taken = Some((session, tracks));
                break;
            }
        }
        let Some((session, tracks)) = taken else {
            kit.rule(&format!("output {format}: muxes"), Err("it took none of the usual codecs".to_owned()));
            continue;
        };
        second(&tracks, 1);
        let live = |seen: &Seen| {
            seen.written.iter().any(|w| w.flags & chunk_flags::HISTORY == 0 && !w.data.is_empty())
        };
        let (_, came) = host::wait(session, LOCAL_LIMIT, live);
        kit.rule(
            &format!("output {format}: muxes"),
            if came { Ok(()) } else { Err("no live chunk".to_owned()) },
        );
        for (join, history) in (1..).zip([History::Live, History::Raw, History::None, History::Keyframe]) {
            let asked = kit.caller.command(session, command::JOIN, &Join { join, history });
            second(&tracks, 1 + join as i64);
            let answer = |seen: &Seen| {
                seen.written.iter().any(|w| w.join == join && w.flags & chunk_flags::HISTORY != 0)
            };
            let (_, came) = host::wait(session, LOCAL_LIMIT, answer);
            let outcome =
                asked.and(if came { Ok(()) } else { Err("no history chunk names the join".to_owned()) });
            kit.rule(&format!("output {format}: admits a viewer ({history:?})"), outcome);
        }
        let outcome = kit.closes(session);
        kit.rule(&format!("output {format}: ends when it is closed"), outcome);
    }
}

/// Role `server`.
pub(crate) fn server(kit: &mut Kit) {
    let session = kit.session();
    let opened = kit.caller.open(session, role::SERVER, &ServerOpen {});
    let (seen, _) =
        host::wait(session, LOCAL_LIMIT, |seen| seen.has(event::LISTENING) || seen.has(event::ENDED));
    let address = seen.last(event::LISTENING).and_then(|event| {
        let listening: Listening = serde_json::from_slice(&event.payload).ok()?;
        Some(listening.addr)
    });
    let outcome = match (&address, ended(&seen)) {
        (Some(_), _) => opened.map(drop),
        (None, Some(ended)) => Err(format!("it ended: {}", ended.message)),
        (None, None) => Err("no LISTENING within 5 s".to_owned()),
    };
    kit.rule("server: says where it listens", outcome);
    if let Some(mut peer) = address.as_ref().and_then(|address| TcpStream::connect(address).ok()) {
        let _ = peer.set_write_timeout(Some(LOCAL_LIMIT));
        let _ = peer.write_all(&[0xa5; 100_000]);
        let _ = peer.shutdown(Shutdown::Both);
        let panics = host::panics();
        let outcome = if panics.is_empty() { Ok(()) } else { Err(panics.join(", ")) };
        kit.rule("server: survives a peer that sends garbage", outcome);
    }
    let drained = kit.caller.command_bytes(session, command::DRAIN, Vec::new());
    let (seen, _) = host::wait(session, Duration::from_secs(1), |seen| {
        seen.has(event::DRAINING) || seen.has(event::ENDED)
    });
    // One that does not drain is closed while it listens.
    if seen.has(event::DRAINING) {
        // Of a listener that is said otherwise nothing is known.
        let address = address.as_deref().and_then(|address| address.parse::<SocketAddr>().ok());
        let free = || address.is_none_or(|address| TcpListener::bind(address).is_ok());
        let free = host::until(LOCAL_LIMIT, free);
        let outcome =
            if free { Ok(()) } else { Err("its address is still taken 5 s after DRAINING".to_owned()) };
        kit.rule("server: leaves its address to another when it drains", drained.and(outcome));
    }
    let outcome = if seen.has(event::ENDED) { Ok(()) } else { kit.closes(session) };
    kit.rule("server: ends when it is closed", outcome);
}

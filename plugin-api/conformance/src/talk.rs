//! Rules of whoever takes what players say: a source, or a transport that brings no bytes.

use std::time::Duration;

use patchbay_plugin_api::message::{SendTrack, TalkEnd, TalkOpen, Tracks, command, event};

use crate::Kit;
use crate::host::{self, SOURCE};
use crate::rules::{FIRST_LIMIT, LOCAL_LIMIT, ended};

/// Packets of 20 ms that are said at once.
const PACKETS: i64 = 20;

/// Says `count` packets more.
fn say(rate: u32, from: i64, count: i64) {
    for packet in from..from + count {
        host::push_unit(0, true, packet * i64::from(rate) / 50, &[0xd5; 160]);
    }
}

/// Waits for the session to go on: a unit more, when it sends any.
fn goes_on(session: u64, sends: bool, before: u64) -> Result<(), String> {
    let (seen, _) =
        host::wait(session, if sends { FIRST_LIMIT } else { Duration::from_millis(100) }, |seen| {
            seen.units > before || seen.has(event::ENDED)
        });
    match ended(&seen) {
        Some(ended) => Err(format!("it ended: {}", ended.message)),
        None if sends && seen.units <= before => Err("no unit within 20 s of a talk".to_owned()),
        None => Ok(()),
    }
}

/// One talk of what `send` says, as the `index` of its tracks: begun, heard, ended.
fn talk(kit: &Kit, session: u64, index: u32, send: &SendTrack) -> Result<bool, String> {
    let rate = if send.sample_rate == 0 { 8000 } else { send.sample_rate };
    let track = host::described(0, "audio", &send.codec, rate, &[]);
    host::set_tracks(std::slice::from_ref(&track));
    let before = host::units_read();
    kit.caller.command(session, command::TALK, &TalkOpen { source: SOURCE, send: index, track })?;
    // What was said before it began to read is not heard: it is spoken to until it hears. Whoever comes back for more has used what
    // it read first; a talk that ended before that would leave the camera's loudspeaker silent.
    let mut said = 0;
    let mut hears = |before| {
        host::until(LOCAL_LIMIT, || {
            say(rate, said, PACKETS);
            said += PACKETS;
            host::units_read() > before
        })
    };
    let heard = hears(before) && hears(host::units_read());
    // A talk that cannot be read is no harm to the one under way, and neither is an end that comes twice.
    kit.caller.command_bytes(session, command::TALK, b"{".to_vec())?;
    kit.caller.command(session, command::TALK_END, &TalkEnd { source: SOURCE })?;
    kit.caller.command(session, command::TALK_END, &TalkEnd { source: SOURCE })?;
    Ok(heard)
}

/// Speaks to each of the tracks that it accepts, and to one that it has not.
pub(crate) fn rules(kit: &mut Kit, role: &str, session: u64, tracks: &Tracks) {
    let sends = !tracks.receive.is_empty();
    let units = || host::wait(session, Duration::ZERO, |_| true).0.units;
    let mut outcome = Ok(());
    for (index, send) in (0..).zip(&tracks.send) {
        outcome = outcome.and_then(|()| {
            if send.codec.is_empty() {
                return Err("a track that it accepts has no codec".to_owned());
            }
            if talk(kit, session, index, send)? {
                Ok(())
            } else {
                Err(format!("nothing was read of a talk in {} within 5 s", send.codec))
            }
        });
    }
    kit.rule(&format!("{role}: hears what players say"), outcome);
    let outcome = goes_on(session, sends, units());
    kit.rule(&format!("{role}: goes on when a talk ends"), outcome);
    let none = SendTrack { codec: "pcm_alaw".to_owned(), sample_rate: 8000, channels: 1, packet_ms: 20 };
    let before = units();
    let outcome = kit
        .caller
        .command(
            session,
            command::TALK,
            &TalkOpen {
                source: SOURCE,
                send: 4_000_000,
                track: host::described(0, "audio", &none.codec, none.sample_rate, &[]),
            },
        )
        .and_then(|_| kit.caller.command(session, command::TALK_END, &TalkEnd { source: SOURCE }))
        .and_then(|_| goes_on(session, sends, before));
    kit.rule(&format!("{role}: passes over a talk that it did not offer"), outcome);
}

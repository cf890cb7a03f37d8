//! Sound to a camera, by script (C110).

use std::time::Duration;

use patchbay_plugin_rtsp::client::{Input, Reconnect};

use crate::emulator::{Act, Rig, Seen};

const SDP: &str = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:trackID=0\r\n\
    m=audio 0 RTP/AVP 8\r\na=control:trackID=1\r\nm=audio 0 RTP/AVP 0\r\na=control:trackID=2\r\na=sendonly\r\n";

/// A sound packet.
const PACKET: &[u8] = b"\x80\x80\0\x01\0\0\0\0\0\0\0\x09hello";

fn described(seen: &Seen) -> Option<Vec<Act>> {
    if seen.method == "DESCRIBE" { seen.answer("200 OK", &[], SDP) } else { None }
}

/// A camera that is asked, whose backchannel is set up when somebody speaks.
fn rig(want: &[usize], script: impl FnMut(&Seen) -> Option<Vec<Act>> + 'static) -> Rig {
    let mut rig = Rig::asking("rtsp://10.0.0.2/cam", script);
    rig.want = want.to_vec();
    rig.streams = want.to_vec();
    rig
}

/// Channels of the sound that the camera got.
fn heard(rig: &Rig) -> Vec<u8> {
    let of_talk = rig.interleaved.iter().filter(|(.., data)| data == PACKET);
    of_talk.map(|(_, channel, _)| *channel).collect()
}

fn backchannels(rig: &Rig) -> usize {
    rig.of("SETUP").iter().filter(|seen| seen.header("Require").is_some()).count()
}

#[test]
fn c110_a_session_is_begun_anew_when_somebody_speaks_and_only_then() {
    let mut rig = rig(&[0, 1], described);
    rig.run(5.0);
    assert_eq!((rig.playing, backchannels(&rig)), (1, 0));
    rig.session.handle(rig.now, Input::SendRtp(PACKET));
    rig.session.handle(rig.now, Input::Talk(Some(2)));
    rig.run(7.0);
    assert_eq!((rig.playing, backchannels(&rig)), (2, 1));
    assert_eq!(rig.connects[1].2, Some(Reconnect::Wanted));
    assert!(heard(&rig).is_empty(), "nothing that was said before");
    rig.session.handle(rig.now, Input::SendRtp(PACKET));
    rig.run(8.0);
    assert_eq!(heard(&rig), [4]);
    // Another talk needs no other session, the end of one neither.
    rig.session.handle(rig.now, Input::Talk(None));
    rig.session.handle(rig.now, Input::Talk(Some(2)));
    rig.run(10.0);
    assert_eq!((rig.playing, rig.closed.is_none()), (2, true));
}

#[test]
fn c89_a_camera_that_only_hears_is_no_silent_one() {
    let mut rig = rig(&[], described);
    rig.run(0.5);
    rig.session.handle(rig.now, Input::Talk(Some(2)));
    rig.run(90.0);
    let urls: Vec<&str> = rig.of("SETUP").iter().map(|seen| seen.url.as_str()).collect();
    assert_eq!(urls, ["rtsp://10.0.0.2/cam/trackID=2"]);
    assert_eq!((rig.playing, &rig.closed), (1, &None), "{:?}", rig.methods());
    rig.session.handle(rig.now, Input::Talk(None));
    rig.run(95.0);
    assert_eq!(rig.of("TEARDOWN").len(), 1);
}

#[test]
fn c22_a_backchannel_that_is_taken_meanwhile_is_done_without() {
    let mut rig = rig(&[0, 1], |seen| match seen.method.as_str() {
        "SETUP" if seen.header("Require").is_some() => seen.status("453 Not Enough Bandwidth"),
        // Whoever is not asked for it does not tell of it.
        "DESCRIBE" if seen.header("Require").is_none() => {
            seen.answer("200 OK", &[], SDP.split("m=audio 0 RTP/AVP 0").next().unwrap())
        }
        _ => described(seen),
    });
    rig.run(3.0);
    rig.session.handle(rig.now, Input::Talk(Some(2)));
    rig.run(8.0);
    let why: Vec<Option<Reconnect>> = rig.connects.iter().map(|connect| connect.2).collect();
    assert_eq!(why, [None, Some(Reconnect::Wanted), Some(Reconnect::BackchannelRefused)]);
    assert_eq!((rig.playing, &rig.closed), (2, &None));
    rig.session.handle(rig.now, Input::SendRtp(PACKET));
    rig.run(9.0);
    assert!(heard(&rig).is_empty());
}

#[test]
fn sound_goes_to_the_cameras_udp_port() {
    let mut rig = Rig::asking("rtsp://10.0.0.2/cam#transport=udp", described);
    rig.session.handle(Duration::ZERO, Input::Talk(Some(2)));
    rig.run(3.0);
    rig.session.handle(rig.now, Input::SendRtp(PACKET));
    rig.run(3.1);
    let sent: Vec<(usize, bool)> = rig
        .udp
        .iter()
        .filter(|(.., data)| data == PACKET)
        .map(|(_, index, rtcp, ..)| (*index, *rtcp))
        .collect();
    assert_eq!(sent, [(2, false)]);
}

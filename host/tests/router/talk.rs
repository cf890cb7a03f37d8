//! Talk in the stream core against a scripted clock.

use patchbay::router::{Action, TALK_SILENCE, Told};
use patchbay_plugin_api::message::{Class, Consume, Ended, SendTrack, Talk, TrackInfo};

use crate::rig::{at, core, dialled, drain, gone, refused, track};

pub(crate) fn says(codec: &str, rate: u32) -> Talk {
    let track = TrackInfo {
        id: 9,
        kind: "audio".to_owned(),
        codec: codec.to_owned(),
        clock_rate: rate,
        sample_rate: rate,
        channels: 1,
        ..TrackInfo::default()
    };
    Talk { stream: "cam".to_owned(), track, ..Talk::default() }
}

pub(crate) fn hears(codecs: &[(&str, u32)]) -> Told {
    let send = |(codec, rate): &(&str, u32)| SendTrack {
        codec: (*codec).to_owned(),
        sample_rate: *rate,
        channels: 1,
        packet_ms: 20,
    };
    Told { is_final: true, send: codecs.iter().map(send).collect(), ..Told::default() }
}

fn video() -> Vec<(u32, TrackInfo)> {
    vec![track(0, "video", "mjpeg")]
}

fn passed(actions: &[Action], talk: u64) -> Option<(u64, u32)> {
    actions.iter().find_map(|action| match action {
        Action::Talk { talk: id, source, send, .. } if *id == talk => Some((*source, *send)),
        _ => None,
    })
}

#[test]
fn a_talker_starts_the_camera_keeps_it_and_leaves_it() {
    let mut core = core(&["rtsp://a"]);
    let first = core.talk(at(0), &says("pcm_alaw", 8000), None).unwrap();
    let source = dialled(&mut core);
    core.tracks(at(1), source, video(), hears(&[("pcm_mulaw", 8000), ("pcm_alaw", 8000)]));
    let actions = drain(&mut core);
    let order: Vec<usize> = [
        actions.iter().position(|a| *a == Action::Create { source: first }),
        actions.iter().position(
            |a| matches!(a, Action::TalkAccepted { talk, track } if *talk == first && track.id == 0),
        ),
        actions.iter().position(|a| matches!(a, Action::Talk { .. })),
    ]
    .into_iter()
    .map(Option::unwrap)
    .collect();
    assert!(order.is_sorted(), "{actions:?}");
    assert_eq!(passed(&actions, first), Some((source, 1)));
    // Nobody watches, and the source is kept all the same.
    core.media(at(8), first);
    core.tick(at(9));
    assert!(!drain(&mut core).iter().any(|a| matches!(a, Action::Close { .. })));
    // One at a time.
    let second = core.talk(at(10), &says("pcm_mulaw", 8000), None).unwrap();
    assert_eq!(refused(&drain(&mut core), second).unwrap().0, Class::Busy);
    core.talk_over(at(11), first);
    let actions = drain(&mut core);
    assert_eq!(actions, [Action::TalkEnd { talk: first, source }, Action::Drop { source: first }]);
    let third = core.talk(at(11), &says("pcm_mulaw", 8000), None).unwrap();
    assert_eq!(passed(&drain(&mut core), third), Some((source, 0)));
    core.talk_over(at(11), third);
    core.tick(at(30));
    let actions = drain(&mut core);
    assert!(actions.contains(&Action::Close { source }), "{actions:?}");
}

#[test]
fn silence_of_a_minute_leaves_the_camera_to_others() {
    let mut core = core(&["rtsp://a"]);
    let talk = core.talk(at(0), &says("opus", 48_000), None).unwrap();
    let source = dialled(&mut core);
    core.tracks(at(1), source, video(), hears(&[("opus", 16_000)]));
    assert_eq!(passed(&drain(&mut core), talk), Some((source, 0)), "rates of Opus are nominal");
    for second in 1..90 {
        core.media(at(second), talk);
        core.tick(at(second));
    }
    assert!(refused(&drain(&mut core), talk).is_none());
    assert_eq!(core.next_wake(), Some(at(89) + TALK_SILENCE));
    core.tick(at(89) + TALK_SILENCE);
    assert_eq!(refused(&drain(&mut core), talk).unwrap().0, Class::Timeout);
}

#[test]
fn codecs_must_match_and_the_refusal_names_both() {
    let mut core = core(&["rtsp://a", "rtsp://b"]);
    let talk = core.talk(at(0), &says("opus", 48_000), None).unwrap();
    let first = dialled(&mut core);
    core.tracks(at(1), first, video(), hears(&[("pcm_alaw", 8000)]));
    let second = dialled(&mut core);
    core.tracks(at(1), second, video(), hears(&[]));
    let (class, message) = refused(&drain(&mut core), talk).unwrap();
    assert_eq!(class, Class::Unsupported);
    assert_eq!(message, "talk: codecs not matched: the camera takes PCMA/8000, not OPUS/48000");
    let talk = core.talk(at(2), &says("pcm_alaw", 16_000), None).unwrap();
    assert_eq!(refused(&drain(&mut core), talk).unwrap().0, Class::Unsupported, "another rate");
}

#[test]
fn a_camera_that_is_dialled_anew_is_spoken_to_again() {
    let mut core = core(&["rtsp://a"]);
    let talk = core.talk(at(0), &says("pcm_alaw", 8000), None).unwrap();
    let source = dialled(&mut core);
    core.tracks(at(1), source, video(), hears(&[("pcm_alaw", 8000)]));
    drain(&mut core);
    core.media(at(20), talk);
    core.ended(at(20), source, Ended { class: Class::Eof, message: "gone".to_owned(), retry_after_ms: 0 });
    assert!(refused(&drain(&mut core), talk).is_none());
    core.tick(at(23));
    assert_eq!(dialled(&mut core), source);
    core.tracks(at(24), source, video(), hears(&[("pcm_mulaw", 8000), ("pcm_alaw", 8000)]));
    let actions = drain(&mut core);
    assert_eq!(passed(&actions, talk), Some((source, 1)));
    assert!(!actions.iter().any(|a| matches!(a, Action::TalkAccepted { .. })), "it was accepted already");
    // What is dialled now takes another codec.
    core.ended(at(25), source, Ended { class: Class::Eof, message: "gone".to_owned(), retry_after_ms: 0 });
    core.tick(at(28));
    drain(&mut core);
    core.tracks(at(29), source, video(), hears(&[("aac", 16_000)]));
    assert_eq!(refused(&drain(&mut core), talk).unwrap().0, Class::Unsupported);
}

#[test]
fn a_camera_that_is_offline_or_silent_is_told() {
    let mut core = core(&["rtsp://a"]);
    let talk = core.talk(at(0), &says("pcm_alaw", 8000), None).unwrap();
    let source = dialled(&mut core);
    core.ended(at(1), source, gone("no route"));
    let (class, message) = refused(&drain(&mut core), talk).unwrap();
    assert_eq!((class, message.as_str()), (Class::NotFound, "talk: the camera is offline: no route"));
    let talk = core.talk(at(100), &says("pcm_alaw", 8000), None);
    let talk = talk.unwrap();
    core.tick(at(101));
    core.tick(at(120));
    assert!(refused(&drain(&mut core), talk).is_some(), "not waited for for ever");
    assert!(core.talk(at(0), &Talk { stream: "none".to_owned(), ..Talk::default() }, None).is_err());
}

#[test]
fn consumers_are_told_what_the_cameras_take_and_the_api_shows_who_speaks() {
    let mut core = core(&["rtsp://a"]);
    let ask = Consume { stream: "cam".to_owned(), query: "video".to_owned(), ..Consume::default() };
    let consumer = core.attach(at(0), &ask, "").unwrap();
    let source = dialled(&mut core);
    core.tracks(at(1), source, video(), hears(&[("pcm_alaw", 8000)]));
    let told = drain(&mut core).into_iter().find_map(|action| match action {
        Action::Bound { consumer: id, bound } if id == consumer => Some(bound.send),
        _ => None,
    });
    assert_eq!(told.unwrap()[0].codec, "pcm_alaw");
    let talk = core.talk(at(2), &says("pcm_alaw", 8000), Some(consumer)).unwrap();
    let alone = core.talk(at(2), &says("pcm_alaw", 8000), None).unwrap();
    assert!(refused(&drain(&mut core), alone).is_some());
    let counts = |id: u64| if id == talk { vec![(1600, 10)] } else { vec![(5, 1)] };
    let info = core.info("cam", &counts).unwrap();
    let producer = &info["producers"][0];
    assert_eq!(producer["medias"][1], "audio, sendonly, PCMA/8000/1");
    assert_eq!((&producer["senders"][0]["bytes"], &producer["bytes_send"]), (&1600.into(), &1600.into()));
    let shown = &info["consumers"][0];
    assert_eq!(shown["medias"][1], "audio, recvonly, PCMA/8000/1");
    assert_eq!(shown["receivers"][0]["childs"][0], producer["senders"][0]["id"]);
    assert_eq!(shown["receivers"][0]["id"], producer["senders"][0]["parent"]);
    // The same without a viewer is a consumer of its own.
    core.detach(at(3), consumer);
    let info = core.info("cam", &counts).unwrap();
    assert_eq!(info["consumers"][0]["receivers"][0]["packets"], 10);
}

#[test]
fn a_stream_that_is_removed_takes_its_talker_with_it() {
    let mut core = core(&["rtsp://a"]);
    let talk = core.talk(at(0), &says("pcm_alaw", 8000), None).unwrap();
    let source = dialled(&mut core);
    core.tracks(at(1), source, video(), hears(&[("pcm_alaw", 8000)]));
    drain(&mut core);
    core.remove_stream("cam");
    core.renew(at(2), "cam");
    let actions = drain(&mut core);
    assert!(actions.contains(&Action::TalkEnd { talk, source }), "{actions:?}");
    assert_eq!(refused(&actions, talk).unwrap().0, Class::NotFound);
}

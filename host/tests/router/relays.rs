//! Talk through a transcoder, and sources that are played to cameras, against a scripted clock.

use std::time::Duration;

use patchbay::router::{Action, Core};
use patchbay_plugin_api::manifest::Transcodes;
use patchbay_plugin_api::message::{Class, Consume, Ended, Talk, TrackInfo};

use crate::rig::{at, core, dialled, drain, opened, refused, told};
use crate::talk::{hears, says};

fn sound(id: u32, codec: &str, rate: u32) -> TrackInfo {
    TrackInfo {
        id,
        kind: "audio".to_owned(),
        codec: codec.to_owned(),
        clock_rate: rate,
        sample_rate: rate,
        channels: 1,
        extradata: "AQ==".to_owned(),
        ..TrackInfo::default()
    }
}

fn over(class: Class, message: &str) -> Ended {
    Ended { class, message: message.to_owned(), retry_after_ms: 0 }
}

/// Ring, source, index and codec of what a camera is told to read.
fn passed(actions: &[Action]) -> Option<(u64, u64, u32, String)> {
    actions.iter().find_map(|action| match action {
        Action::Talk { talk, source, send, track } => Some((*talk, *source, *send, track.codec.clone())),
        _ => None,
    })
}

fn demanded(actions: &[Action], id: u64) -> Option<Vec<u32>> {
    actions.iter().rev().find_map(|action| match action {
        Action::Demand { source, demand } if *source == id => Some(demand.tracks.clone()),
        _ => None,
    })
}

/// A stream, with a plugin that makes AAC, PCM and A-law of Opus, A-law and MP3.
fn transcoding(urls: &[&str]) -> Core {
    let mut core = core(urls);
    let to = [("aac", "aac"), ("pcm_alaw", "pcma/8000"), ("pcm_s16le", "pcml/8000")];
    core.set_transcoders(vec![Transcodes {
        scheme: "transcode".to_owned(),
        kind: "audio".to_owned(),
        from: ["opus", "pcm_alaw", "mp3"].map(str::to_owned).to_vec(),
        to: to.iter().map(|(codec, text)| ((*codec).to_owned(), (*text).to_owned())).collect(),
    }]);
    core
}

/// The claim of the transcoder that was dialled.
fn reads(url: &str) -> Consume {
    let stream = url.split('#').next().unwrap().split_once(':').unwrap().1.to_owned();
    Consume { stream, source: url.to_owned(), ..Consume::default() }
}

/// A talk of Opus to a camera that takes AAC: the talk, the camera, the transcoder and its claim.
fn through(core: &mut Core) -> (u64, u64, u64, u64) {
    let talk = core.talk(at(0), &says("opus", 48_000), None).unwrap();
    let camera = dialled(core);
    core.tracks(at(1), camera, vec![], hears(&[("adpcm_g726", 8000), ("aac", 16_000)]));
    let actions = drain(core);
    assert!(actions.contains(&Action::Create { source: talk }), "{actions:?}");
    assert!(actions.iter().any(|action| matches!(action, Action::TalkAccepted { .. })), "{actions:?}");
    assert_eq!(passed(&actions), None, "nothing is made of it yet");
    let (made, url) = opened(&actions).remove(0);
    assert_eq!(url, format!("transcode:talk:{talk}#audio=aac/16000/1"));
    let claim = core.attach(at(1), &reads(&url), "").unwrap();
    let actions = drain(core);
    let bound = actions.iter().find_map(|action| match action {
        Action::Bound { consumer, bound } if *consumer == claim => Some(bound.tracks[0].clone()),
        _ => None,
    });
    let bound = bound.unwrap();
    assert_eq!((bound.source, bound.info.codec.as_str()), (talk, "opus"));
    core.tracks(at(1), made, vec![(0, sound(0, "aac", 16_000))], told());
    let actions = drain(core);
    assert_eq!(passed(&actions), Some((made, camera, 1, "aac".to_owned())));
    assert_eq!(demanded(&actions, made), Some(vec![0]));
    (talk, camera, made, claim)
}

#[test]
fn what_a_camera_does_not_take_is_transcoded_for_it_alone() {
    let mut core = transcoding(&["rtsp://a"]);
    let (talk, camera, made, claim) = through(&mut core);
    let counts = |id: u64| if id == made { vec![(700, 7)] } else { vec![(100, 1)] };
    let info = core.info("cam", &counts).unwrap();
    let sender = &info["producers"][0]["senders"][0];
    assert_eq!((&sender["codec"]["codec_name"], &sender["bytes"]), (&"aac".into(), &700.into()));
    assert_eq!(info["producers"].as_array().unwrap().len(), 1, "what is between is not shown: {info}");
    assert_eq!(info["consumers"][0]["medias"][0], "audio, recvonly, OPUS/48000/1");
    // Another one is told that it is busy, whatever it says.
    let second = core.talk(at(2), &says("aac", 16_000), None).unwrap();
    assert_eq!(refused(&drain(&mut core), second).unwrap().0, Class::Busy);
    // A pause of the speaker is none of the transcoder's.
    core.tick(at(40));
    let actions = drain(&mut core);
    assert!(refused(&actions, talk).is_none() && opened(&actions).is_empty(), "{actions:?}");
    core.talk_over(at(41), talk);
    let actions = drain(&mut core);
    assert!(actions.contains(&Action::TalkEnd { talk: made, source: camera }), "{actions:?}");
    for gone in [Action::Close { source: made }, Action::Drop { source: made }, Action::Drop { source: talk }]
    {
        assert!(actions.contains(&gone), "{gone:?}: {actions:?}");
    }
    assert_eq!(refused(&actions, claim).unwrap().0, Class::Eof);
    let third = core.talk(at(42), &says("aac", 16_000), None).unwrap();
    assert_eq!(passed(&drain(&mut core)), Some((third, camera, 1, "aac".to_owned())), "as it is");
}

#[test]
fn what_fits_is_never_transcoded() {
    let mut core = transcoding(&["rtsp://a", "rtsp://b"]);
    let exact = Talk { exact: true, ..says("pcm_alaw", 8000) };
    let talk = core.talk(at(0), &exact, None).unwrap();
    let first = dialled(&mut core);
    core.tracks(at(1), first, vec![], hears(&[("aac", 16_000)]));
    let second = dialled(&mut core);
    core.tracks(at(1), second, vec![], hears(&[("pcm_s16le", 16_000)]));
    let (class, message) = refused(&drain(&mut core), talk).unwrap();
    assert_eq!(class, Class::Unsupported);
    assert_eq!(message, "talk: codecs not matched: the camera takes AAC/16000, PCML/16000, not PCMA/8000");
    // A later camera that takes it as it is comes before the first that does not.
    core.tracks(at(2), second, vec![], hears(&[("pcm_alaw", 16_000), ("pcm_alaw", 8_000)]));
    let talk = core.talk(at(2), &says("pcm_alaw", 8000), None).unwrap();
    assert_eq!(passed(&drain(&mut core)), Some((talk, second, 1, "pcm_alaw".to_owned())));
    let other = core.talk(at(3), &says("flac", 8000), None).unwrap();
    assert_eq!(refused(&drain(&mut core), other).unwrap().0, Class::Unsupported, "nobody reads it");
}

#[test]
fn consumers_are_told_of_what_can_be_transcoded() {
    let mut core = transcoding(&["rtsp://a"]);
    let ask = Consume { stream: "cam".to_owned(), query: "audio".to_owned(), ..Consume::default() };
    let consumer = core.attach(at(0), &ask, "").unwrap();
    let camera = dialled(&mut core);
    core.tracks(at(1), camera, vec![(0, sound(0, "pcm_alaw", 8000))], hears(&[("pcm_alaw", 16_000)]));
    let send = drain(&mut core).into_iter().find_map(|action| match action {
        Action::Bound { consumer: id, bound } if id == consumer => Some(bound.send),
        _ => None,
    });
    let send: Vec<(String, u32)> = send.unwrap().into_iter().map(|s| (s.codec, s.sample_rate)).collect();
    let codecs = [("pcm_alaw", 16_000), ("opus", 0), ("pcm_alaw", 0), ("mp3", 0)];
    assert_eq!(send, codecs.map(|(codec, rate)| (codec.to_owned(), rate)));
}

#[test]
fn the_talk_goes_on_over_ends_of_camera_and_transcoder() {
    let mut core = transcoding(&["rtsp://a"]);
    let (talk, camera, made, _) = through(&mut core);
    // The transcoder's process has died.
    core.ended(at(2), made, over(Class::Timeout, "it has died"));
    core.again(at(2), made, Duration::ZERO);
    core.media(at(2), talk);
    core.tick(at(3));
    let actions = drain(&mut core);
    assert_eq!(opened(&actions)[0].0, made, "{actions:?}");
    core.tracks(at(3), made, vec![(0, sound(0, "aac", 16_000))], told());
    assert_eq!(passed(&drain(&mut core)), Some((made, camera, 1, "aac".to_owned())));
    // The camera comes back and takes other sound.
    core.ended(at(4), camera, over(Class::Eof, "gone"));
    core.tick(at(6));
    drain(&mut core);
    core.tracks(at(7), camera, vec![], hears(&[("pcm_s16le", 16_000)]));
    let actions = drain(&mut core);
    assert!(actions.contains(&Action::Drop { source: made }), "{actions:?}");
    let (other, url) = opened(&actions).remove(0);
    assert_eq!(url, format!("transcode:talk:{talk}#audio=pcml/16000/1"));
    core.attach(at(7), &reads(&url), "").unwrap();
    core.tracks(at(7), other, vec![(0, sound(0, "pcm_s16le", 16_000))], told());
    assert_eq!(passed(&drain(&mut core)), Some((other, camera, 0, "pcm_s16le".to_owned())));
    // Back again, with what the player says.
    core.ended(at(8), camera, over(Class::Eof, "gone"));
    core.tick(at(11));
    drain(&mut core);
    core.tracks(at(12), camera, vec![], hears(&[("opus", 48_000)]));
    let actions = drain(&mut core);
    assert_eq!(passed(&actions), Some((talk, camera, 0, "opus".to_owned())));
    assert!(actions.contains(&Action::Drop { source: other }), "{actions:?}");
    core.talk_over(at(13), talk);
    assert!(drain(&mut core).contains(&Action::TalkEnd { talk, source: camera }));
}

#[test]
fn a_transcoder_that_cannot_ends_the_talk() {
    let mut core = transcoding(&["rtsp://a"]);
    let (talk, _, made, _) = through(&mut core);
    core.ended(at(2), made, over(Class::Unsupported, "transcode: no such rate"));
    let (class, message) = refused(&drain(&mut core), talk).unwrap();
    assert_eq!((class, message.as_str()), (Class::Unsupported, "talk: transcode: no such rate"));
}

#[test]
fn only_its_own_transcoder_reads_a_talk() {
    let mut core = transcoding(&["rtsp://a"]);
    let (talk, ..) = through(&mut core);
    let other =
        Consume { stream: format!("talk:{talk}"), source: "transcode:x".to_owned(), ..Consume::default() };
    assert!(core.attach(at(2), &other, "").is_err());
    assert!(core.attach(at(2), &Consume { source: String::new(), ..other }, "").is_err());
}

#[test]
fn a_source_is_played_once_to_its_end() {
    let mut core = transcoding(&["rtsp://a"]);
    assert!(core.play(at(0), "none", "http://x/a.mp3", "http://x/a.mp3").is_err());
    let play = core.play(at(0), "cam", "http://x/a.mp3", "http://x/a.mp3").unwrap();
    let (file, url) = opened(&drain(&mut core)).remove(0);
    assert_eq!(url, "http://x/a.mp3");
    let tracks = || {
        vec![
            (0, TrackInfo { kind: "video".to_owned(), ..TrackInfo::default() }),
            (0, sound(1, "mp3", 44_100)),
        ]
    };
    core.tracks(at(0), file, tracks(), told());
    let actions = drain(&mut core);
    assert_eq!(demanded(&actions, file), None, "it begins when it is heard");
    let camera = opened(&actions)[0].0;
    core.tracks(at(1), camera, vec![], hears(&[("pcm_alaw", 8000)]));
    let actions = drain(&mut core);
    assert!(
        actions.iter().any(|action| matches!(action, Action::TalkAccepted { talk, .. } if *talk == play))
    );
    assert!(!actions.contains(&Action::Create { source: play }), "the source's ring is read");
    let (made, url) = opened(&actions).remove(0);
    assert_eq!(url, format!("transcode:talk:{play}#audio=pcma/8000/1"));
    core.attach(at(1), &reads(&url), "").unwrap();
    let bound = drain(&mut core).into_iter().find_map(|action| match action {
        Action::Bound { bound, .. } => Some((bound.tracks[0].source, bound.tracks[0].info.id)),
        _ => None,
    });
    assert_eq!(bound, Some((file, 1)));
    core.tracks(at(1), made, vec![(0, sound(0, "pcm_alaw", 8000))], told());
    let actions = drain(&mut core);
    assert_eq!(passed(&actions), Some((made, camera, 0, "pcm_alaw".to_owned())));
    assert_eq!(demanded(&actions, file), Some(vec![1]));
    let info = core.info("cam", &|_| vec![]).unwrap();
    assert_eq!(
        (&info["producers"][1]["type"], &info["producers"][1]["url"]),
        (&"play".into(), &"http://x/a.mp3".into())
    );
    // Somebody else has to wait.
    let player = core.talk(at(2), &says("opus", 48_000), None).unwrap();
    assert_eq!(refused(&drain(&mut core), player).unwrap().0, Class::Busy);
    // Its last words are heard, and it is not dialled again.
    for second in 2..70 {
        core.media(at(second), file);
        core.tick(at(second));
    }
    core.ended(at(70), file, over(Class::Eof, "the end of the file"));
    let actions = drain(&mut core);
    assert!(refused(&actions, play).is_none(), "{actions:?}");
    assert_eq!(core.next_wake(), Some(at(71)));
    // So are those that the transcoder had still to make.
    core.media(at(71), made);
    core.tick(at(71));
    assert!(refused(&drain(&mut core), play).is_none());
    assert_eq!(core.next_wake(), Some(at(72)));
    core.tick(at(72));
    let actions = drain(&mut core);
    assert_eq!(refused(&actions, play).unwrap().0, Class::Eof);
    for gone in [
        Action::TalkEnd { talk: made, source: camera },
        Action::Drop { source: made },
        Action::Drop { source: file },
    ] {
        assert!(actions.contains(&gone), "{gone:?}: {actions:?}");
    }
    assert!(opened(&actions).is_empty());
    core.tick(at(100));
    assert!(opened(&drain(&mut core)).is_empty());
}

#[test]
fn what_is_played_gives_way_to_the_next_and_is_stopped() {
    let mut core = transcoding(&["rtsp://a"]);
    let first = core.play(at(0), "cam", "file:a.wav", "file:a.wav").unwrap();
    let source = dialled(&mut core);
    core.tracks(at(0), source, vec![(0, sound(0, "pcm_alaw", 8000))], told());
    let camera = dialled(&mut core);
    core.tracks(at(0), camera, vec![], hears(&[("pcm_alaw", 8000)]));
    assert_eq!(passed(&drain(&mut core)), Some((source, camera, 0, "pcm_alaw".to_owned())));
    let second = core.play(at(1), "cam", "file:a.wav", "file:a.wav").unwrap();
    let actions = drain(&mut core);
    assert_eq!(refused(&actions, first).unwrap().1, "it was stopped");
    let again = opened(&actions)[0].0;
    assert_ne!(again, source, "it begins at its beginning");
    core.tracks(at(1), again, vec![(0, sound(0, "pcm_alaw", 8000))], told());
    assert_eq!(passed(&drain(&mut core)), Some((again, camera, 0, "pcm_alaw".to_owned())));
    core.stop_play(at(2), "cam");
    let actions = drain(&mut core);
    assert!(
        refused(&actions, second).is_some()
            && actions.contains(&Action::TalkEnd { talk: again, source: camera })
    );
    // A player that speaks is not stopped by it.
    let talk = core.talk(at(3), &says("pcm_alaw", 8000), None).unwrap();
    assert!(passed(&drain(&mut core)).is_some());
    let third = core.play(at(3), "cam", "file:b.wav", "file:b.wav").unwrap();
    let source = dialled(&mut core);
    core.tracks(at(3), source, vec![(0, sound(0, "pcm_alaw", 8000))], told());
    let actions = drain(&mut core);
    assert_eq!(refused(&actions, third).unwrap().0, Class::Busy);
    assert!(refused(&actions, talk).is_none() && actions.contains(&Action::Drop { source }), "{actions:?}");
}

#[test]
fn a_stream_that_a_transcoder_makes_is_played() {
    let mut core = transcoding(&["rtsp://a"]);
    core.set_stream("phone", &["transcode:cam#audio=pcma".to_owned()]);
    let url = "transcode:phone#audio=copy#play";
    let play = core.play(at(0), "cam", url, "phone").unwrap();
    let (copy, dialled) = opened(&drain(&mut core)).remove(0);
    assert_eq!(dialled, url);
    let claim = core.attach(at(0), &reads(url), "audio").unwrap();
    let (made, dialled) = opened(&drain(&mut core)).remove(0);
    assert_eq!(dialled, "transcode:cam#audio=pcma");
    core.tracks(at(1), made, vec![(0, sound(0, "pcm_alaw", 8000))], told());
    let bound = drain(&mut core).into_iter().find_map(|action| match action {
        Action::Bound { consumer, bound } if consumer == claim => Some(bound.tracks[0].source),
        _ => None,
    });
    assert_eq!(bound, Some(made));
    core.tracks(at(1), copy, vec![(0, sound(0, "pcm_alaw", 8000))], told());
    let camera = opened(&drain(&mut core)).remove(0).0;
    core.tracks(at(1), camera, vec![], hears(&[("pcm_alaw", 8000)]));
    assert_eq!(passed(&drain(&mut core)), Some((copy, camera, 0, "pcm_alaw".to_owned())));
    let shown = |name: &str| core.info(name, &|_| vec![]).unwrap()["producers"].as_array().unwrap().clone();
    let played: Vec<_> = shown("cam").into_iter().filter(|one| one["type"] == "play").collect();
    assert_eq!((played.len(), &played[0]["url"]), (1, &"phone".into()));
    assert_eq!(shown("phone").len(), 1, "it is none of its sources");
    // One of the stream's own sources still is not given to another.
    let own = Consume { query: "audio".to_owned(), ..reads("transcode:phone#audio=aac") };
    let other = core.attach(at(2), &own, "").unwrap();
    assert!(refused(&drain(&mut core), other).is_some());
    core.stop_play(at(3), "cam");
    assert_eq!(refused(&drain(&mut core), play).unwrap().1, "it was stopped");
}

#[test]
fn what_cannot_be_played_is_told() {
    let mut core = transcoding(&["rtsp://a"]);
    let play = core.play(at(0), "cam", "http://x/none", "http://x/none").unwrap();
    let source = dialled(&mut core);
    core.ended(at(1), source, over(Class::NotFound, "http: 404 Not Found"));
    let actions = drain(&mut core);
    assert_eq!(refused(&actions, play).unwrap(), (Class::NotFound, "http: 404 Not Found".to_owned()));
    assert!(actions.contains(&Action::Drop { source }));
    let play = core.play(at(2), "cam", "http://x/silent", "http://x/silent").unwrap();
    let source = dialled(&mut core);
    core.tracks(
        at(2),
        source,
        vec![(0, TrackInfo { kind: "video".to_owned(), ..TrackInfo::default() })],
        told(),
    );
    assert_eq!(refused(&drain(&mut core), play).unwrap().1, "play: the source has no sound");
    let play = core.play(at(3), "cam", "http://x/slow", "http://x/slow").unwrap();
    drain(&mut core);
    core.tick(at(11));
    let told = refused(&drain(&mut core), play).unwrap();
    assert_eq!(told, (Class::Timeout, "play: nothing was heard of the source in time".to_owned()));
}

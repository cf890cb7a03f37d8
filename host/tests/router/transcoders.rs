//! Transcoders that the stream core adds by itself, against a scripted clock.

use patchbay::router::{Action, Core, LINGER};
use patchbay_plugin_api::manifest::Transcodes;
use patchbay_plugin_api::message::Consume;

use crate::rig::{
    ask, at, bound_to, core, dialled, drain, gone, opened, picture_and_sound, refused, told, track,
};

/// A stream whose sound is AAC, with a plugin that makes Opus and G.711 of it.
fn transcoding() -> Core {
    let mut core = core(&["rtsp://a"]);
    let to = [("opus", "opus/48000/2"), ("pcm_alaw", "pcma/8000")];
    core.set_transcoders(vec![Transcodes {
        scheme: "transcode".to_owned(),
        kind: "audio".to_owned(),
        from: vec!["aac".to_owned()],
        to: to.iter().map(|(codec, text)| ((*codec).to_owned(), (*text).to_owned())).collect(),
    }]);
    core
}

#[test]
fn sound_that_nobody_takes_is_transcoded_once_for_all_who_want_the_same() {
    let mut core = transcoding();
    let browser = core.attach(at(0), &ask("cam", "video&audio=opus,pcma"), "").unwrap();
    let player = core.attach(at(0), &ask("cam", "video&audio"), "").unwrap();
    let camera = dialled(&mut core);
    core.tracks(at(1), camera, picture_and_sound(), told());
    let actions = drain(&mut core);
    let transcoder = opened(&actions)[0].clone();
    assert_eq!(transcoder.1, "transcode:cam#audio=opus/48000/2");
    assert_eq!(bound_to(&actions, browser), None, "it waits for its sound");
    assert_eq!(bound_to(&actions, player).unwrap()[1], (camera, "aac".to_owned()), "as it comes");
    // The transcoder's own claim.
    let mut wish = ask("cam", "audio=aac");
    wish.source.clone_from(&transcoder.1);
    let reads = core.attach(at(1), &wish, "").unwrap();
    assert_eq!(bound_to(&drain(&mut core), reads).unwrap(), [(camera, "aac".to_owned())]);
    core.tracks(at(1), transcoder.0, vec![track(0, "audio", "opus")], told());
    let wanted = [(camera, "h264".to_owned()), (transcoder.0, "opus".to_owned())];
    assert_eq!(bound_to(&drain(&mut core), browser).unwrap(), wanted);
    for _ in 0..9 {
        let another = core.attach(at(2), &ask("cam", "video&audio=opus"), "").unwrap();
        let actions = drain(&mut core);
        assert_eq!(bound_to(&actions, another).unwrap(), wanted);
        assert!(opened(&actions).is_empty(), "one for ten");
    }
    let info = core.info("cam", &|_| Vec::new()).unwrap();
    let urls: Vec<&str> =
        info["producers"].as_array().unwrap().iter().filter_map(|p| p["url"].as_str()).collect();
    assert_eq!(urls, ["rtsp://a", "transcode:cam#audio=opus/48000/2"]);
    // Other parameters are another one.
    core.attach(at(3), &ask("cam", "audio=pcma"), "").unwrap();
    assert_eq!(opened(&drain(&mut core))[0].1, "transcode:cam#audio=pcma/8000");
}

#[test]
fn the_camera_may_go_and_come_back_under_a_transcoder() {
    let mut core = transcoding();
    let browser = core.attach(at(0), &ask("cam", "video&audio=opus"), "").unwrap();
    let camera = dialled(&mut core);
    core.tracks(at(1), camera, picture_and_sound(), told());
    let transcoder = dialled(&mut core);
    core.tracks(at(1), transcoder, vec![track(0, "audio", "opus")], told());
    drain(&mut core);
    core.ended(at(5), camera, gone("gone"));
    core.ended(at(15), transcoder, gone("no media"));
    let actions = drain(&mut core);
    assert!(bound_to(&actions, browser).is_none(), "it keeps what it has: {actions:?}");
    core.tick(at(17));
    core.ended(at(32), transcoder, gone("no stream"));
    drain(&mut core);
    core.tracks(at(33), camera, picture_and_sound(), told());
    core.tick(at(33));
    let actions = drain(&mut core);
    assert!(opened(&actions).iter().any(|(id, _)| *id == transcoder), "at once: {actions:?}");
    // The camera speaks Opus itself now.
    core.tracks(at(34), camera, vec![track(0, "video", "h264"), track(1, "audio", "opus")], told());
    let wanted = [(camera, "h264".to_owned()), (camera, "opus".to_owned())];
    assert_eq!(bound_to(&drain(&mut core), browser).unwrap(), wanted);
    core.tick(at(34) + LINGER);
    assert!(drain(&mut core).contains(&Action::Close { source: transcoder }), "nobody wants it any more");
}

#[test]
fn a_transcoder_that_fails_or_is_off_leaves_the_picture() {
    let mut core = transcoding();
    let browser = core.attach(at(0), &ask("cam", "video&audio=opus"), "").unwrap();
    let camera = dialled(&mut core);
    core.tracks(at(1), camera, picture_and_sound(), told());
    let transcoder = dialled(&mut core);
    core.ended(at(1), transcoder, gone("broken"));
    let picture = [(camera, "h264".to_owned())];
    assert_eq!(bound_to(&drain(&mut core), browser).unwrap(), picture);
    // It hangs.
    let mut core = transcoding();
    let browser =
        core.attach(at(0), &Consume { timeout_ms: 20_000, ..ask("cam", "video&audio=opus") }, "").unwrap();
    let camera = dialled(&mut core);
    core.tracks(at(1), camera, picture_and_sound(), told());
    drain(&mut core);
    assert!(core.next_wake().is_some_and(|wake| wake <= at(6)));
    core.tick(at(6));
    assert_eq!(bound_to(&drain(&mut core), browser).unwrap(), [(camera, "h264".to_owned())]);
    // Off.
    let mut core = transcoding();
    core.set_transcoders(Vec::new());
    let browser = core.attach(at(0), &ask("cam", "video&audio=opus"), "").unwrap();
    let camera = dialled(&mut core);
    core.tracks(at(1), camera, picture_and_sound(), told());
    let actions = drain(&mut core);
    assert_eq!(bound_to(&actions, browser).unwrap(), [(camera, "h264".to_owned())]);
    assert!(opened(&actions).is_empty());
}

#[test]
fn transcoders_of_one_stream_do_not_read_each_other() {
    let mut core = transcoding();
    let urls = ["rtsp://a", "transcode:cam#audio=opus", "transcode:cam#audio=pcma"];
    core.set_stream("cam", &urls.map(str::to_owned));
    let mut wish = ask("cam", "audio=aac,opus,pcma");
    wish.source = "transcode:cam#audio=opus".to_owned();
    let claim = core.attach(at(0), &wish, "").unwrap();
    let camera = opened(&drain(&mut core));
    assert_eq!(camera.len(), 1);
    core.tracks(at(1), camera[0].0, vec![track(0, "video", "h264")], told());
    let actions = drain(&mut core);
    assert!(opened(&actions).is_empty(), "{actions:?}");
    assert!(refused(&actions, claim).is_some());
}

#[test]
fn who_wants_to_see_and_cannot_is_refused_as_before() {
    let mut core = transcoding();
    let flv = core.attach(at(0), &ask("cam", "video=h264&audio=opus"), "").unwrap();
    let sound = core.attach(at(0), &ask("cam", "audio=opus"), "").unwrap();
    let camera = dialled(&mut core);
    core.tracks(at(1), camera, vec![track(0, "video", "hevc"), track(1, "audio", "aac")], told());
    let actions = drain(&mut core);
    let message = "streams: codecs not matched: video:H265, audio:AAC => video:H264, audio:OPUS";
    assert_eq!(refused(&actions, flv).unwrap().1, message);
    assert_eq!(opened(&actions).len(), 1, "for {sound}, who wants sound alone");
}

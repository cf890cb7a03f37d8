//! When sources are dialled, and what consumers of streams are told.

use std::time::Duration;

use patchbay::router::{Action, Core, FIRST_DIAL, LINGER, MAX_TEMPORARY};
use patchbay_plugin_api::message::{Class, Connection, Consume, Ended, TrackInfo};

use crate::rig::{
    ask, at, bound_to, core, dialled, drain, gone, opened, picture_and_sound, refused, told, track,
};

#[test]
fn a_source_is_dialled_for_its_first_reader_once_for_all_and_closed_after_the_linger() {
    let mut core = core(&["rtsp://a"]);
    assert!(drain(&mut core).is_empty());
    let first = core.attach(at(1), &ask("cam", "video"), "").unwrap();
    let second = core.attach(at(1), &ask("cam", "video&audio"), "").unwrap();
    let actions = drain(&mut core);
    assert_eq!(opened(&actions).len(), 1, "{actions:?}");
    let source = opened(&actions)[0].0;
    core.tracks(at(2), source, picture_and_sound(), told());
    let actions = drain(&mut core);
    let bound = |id: u64| bound_to(&actions, id).map(|tracks| tracks.len());
    assert_eq!((bound(first), bound(second)), (Some(1), Some(2)));
    assert!(
        actions.iter().any(|a| matches!(a, Action::Demand { demand, .. } if demand.tracks == [0, 1])),
        "{actions:?}"
    );
    core.detach(at(5), first);
    core.detach(at(5), second);
    assert!(!drain(&mut core).iter().any(|a| matches!(a, Action::Close { .. })));
    assert!(core.next_wake().is_some_and(|wake| wake <= at(5) + LINGER));
    core.tick(at(5) + LINGER);
    let actions = drain(&mut core);
    assert_eq!(actions, [Action::Close { source }, Action::Drop { source }]);
}

#[test]
fn tracks_that_say_by_their_units_what_they_are_are_demanded_before_anybody_has_them() {
    let mut core = core(&["rtsp://a"]);
    let player = core.attach(at(0), &ask("cam", "video&audio"), "").unwrap();
    let source = opened(&drain(&mut core))[0].0;
    let mut tracks = picture_and_sound();
    tracks[0].1.extradata.clear();
    tracks.push((0, TrackInfo { id: 2, extradata: String::new(), ..tracks[0].1.clone() }));
    core.tracks(at(1), source, tracks.clone(), told());
    let actions = drain(&mut core);
    let demanded = |actions: &[Action]| {
        let demand = |action: &Action| match action {
            Action::Demand { demand, .. } => Some(demand.tracks.clone()),
            _ => None,
        };
        actions.iter().filter_map(demand).collect::<Vec<_>>()
    };
    assert_eq!(demanded(&actions), [[0, 1]], "the sound with it, not the other picture: {actions:?}");
    assert_eq!(bound_to(&actions, player), None);
    tracks[0].1.extradata = "AQ==".to_owned();
    core.tracks(at(2), source, tracks, told());
    let actions = drain(&mut core);
    assert_eq!(bound_to(&actions, player).map(|tracks| tracks.len()), Some(2));
    assert!(
        demanded(&actions).iter().all(|tracks| *tracks == [0, 1]),
        "the session goes on as it is: {actions:?}"
    );
}

#[test]
fn a_later_source_is_not_dialled_when_an_earlier_one_has_everything() {
    let mut core = core(&["rtsp://a", "rtsp://b"]);
    core.attach(at(0), &ask("cam", "video&audio"), "").unwrap();
    let first = opened(&drain(&mut core));
    assert_eq!(first.len(), 1);
    core.tracks(at(1), first[0].0, vec![track(0, "video", "h264")], told());
    let second = opened(&drain(&mut core));
    assert_eq!(
        second.iter().map(|(_, url)| url.as_str()).collect::<Vec<_>>(),
        ["rtsp://b"],
        "audio is missing"
    );
    let mut core = self::core(&["rtsp://a", "rtsp://b"]);
    core.attach(at(0), &ask("cam", "video&audio"), "").unwrap();
    let first = opened(&drain(&mut core));
    core.tracks(at(1), first[0].0, vec![track(0, "video", "h264"), track(1, "audio", "opus")], told());
    assert!(opened(&drain(&mut core)).is_empty());
}

#[test]
fn a_player_waits_for_sound_that_is_dialled_for_the_first_time_but_not_for_long() {
    let cold = || {
        let mut core = core(&["rtsp://a", "rtsp://b"]);
        let consumer = core.attach(at(0), &ask("cam", "video&audio"), "").unwrap();
        let first = dialled(&mut core);
        core.tracks(at(1), first, vec![track(0, "video", "h264")], told());
        let actions = drain(&mut core);
        assert_eq!(bound_to(&actions, consumer), None, "the sound is on its way");
        let second = opened(&actions)[0].0;
        (core, consumer, first, second)
    };
    let (mut core, consumer, first, second) = cold();
    core.tracks(Duration::from_millis(1500), second, vec![track(0, "audio", "opus")], told());
    let both = [(first, "h264".to_owned()), (second, "opus".to_owned())];
    assert_eq!(bound_to(&drain(&mut core), consumer).unwrap(), both);
    let (mut core, consumer, first, second) = cold();
    core.ended(Duration::from_millis(1500), second, gone("connection refused"));
    assert_eq!(bound_to(&drain(&mut core), consumer).unwrap(), [(first, "h264".to_owned())]);
    drop((core, second));
    let (mut core, consumer, first, _) = cold();
    core.tick(FIRST_DIAL);
    assert_eq!(bound_to(&drain(&mut core), consumer).unwrap(), [(first, "h264".to_owned())]);
}

#[test]
fn a_source_that_played_to_its_end_plays_again_at_once() {
    let mut core = core(&["file:x"]);
    core.attach(at(0), &ask("cam", "video"), "").unwrap();
    let source = dialled(&mut core);
    let over = || Ended { class: Class::Eof, ..gone("the end of the file") };
    for run in 0..5 {
        let begin = at(10 * run + 1);
        core.tracks(begin, source, vec![track(0, "video", "h264")], told());
        core.media(begin, source);
        core.ended(begin + at(3), source, over());
        core.tick(begin + at(3) + Duration::from_millis(100));
        assert_eq!(opened(&drain(&mut core)).len(), 1, "run {run}");
    }
    // One that ends as soon as it has begun is a failure.
    core.tracks(at(60), source, vec![track(0, "video", "h264")], told());
    core.ended(at(60), source, over());
    core.tick(at(60) + Duration::from_millis(700));
    assert!(opened(&drain(&mut core)).is_empty());
}

#[test]
fn failed_dials_back_off_and_a_waiting_consumer_has_its_own_limit() {
    let mut core = core(&["rtsp://a"]);
    let consumer = core.attach(at(0), &ask("cam", "video"), "").unwrap();
    let source = dialled(&mut core);
    core.ended(at(0), source, gone("connection refused"));
    assert!(drain(&mut core).is_empty(), "the consumer still waits");
    core.tick(Duration::from_millis(700));
    assert!(drain(&mut core).is_empty(), "1 s less 20 %");
    core.tick(Duration::from_millis(1_250));
    assert_eq!(opened(&drain(&mut core)).len(), 1, "1 s and 20 %");
    core.ended(Duration::from_millis(1_250), source, gone("connection refused"));
    core.tick(at(3));
    let actions = drain(&mut core);
    let expected = gone("streams: connection refused");
    assert!(actions.contains(&Action::Refused { consumer, ended: expected }), "{actions:?}");
    core.tick(at(60));
    assert_eq!(drain(&mut core), [Action::Drop { source }], "nobody wants it any more");
}

#[test]
fn a_bound_consumer_stays_over_an_outage_and_a_new_codec_is_told() {
    let mut core = core(&["rtsp://a"]);
    let consumer = core.attach(at(0), &ask("cam", "video"), "").unwrap();
    let source = dialled(&mut core);
    core.tracks(at(1), source, vec![track(0, "video", "h264")], told());
    drain(&mut core);
    core.ended(at(2), source, gone("gone"));
    core.tick(at(4));
    let actions = drain(&mut core);
    assert_eq!(opened(&actions), [(source, "rtsp://a".to_owned())], "the same ring goes on");
    assert!(!actions.iter().any(|a| matches!(a, Action::Refused { .. })));
    core.tracks(at(5), source, vec![track(0, "video", "h264")], told());
    let actions = drain(&mut core);
    assert!(!actions.iter().any(|a| matches!(a, Action::Bound { .. })), "nothing has changed: {actions:?}");
    assert!(
        actions.iter().any(|a| matches!(a, Action::Demand { .. })),
        "the new session must be told: {actions:?}"
    );
    core.ended(at(6), source, gone("gone"));
    core.tick(at(12));
    drain(&mut core);
    core.tracks(at(13), source, vec![track(0, "video", "hevc")], told());
    let actions = drain(&mut core);
    assert_eq!(bound_to(&actions, consumer).unwrap(), [(source, "hevc".to_owned())], "{actions:?}");
}

#[test]
fn codecs_that_do_not_match_are_named_as_the_reference_does() {
    let mut core = core(&["x:a"]);
    let consumer = core.attach(at(0), &ask("cam", "video=h264,h265&audio=aac"), "").unwrap();
    let source = dialled(&mut core);
    core.tracks(at(1), source, vec![track(0, "video", "mjpeg")], told());
    let message = "streams: codecs not matched: video:JPEG => video:H264, video:H265, audio:AAC";
    let actions = drain(&mut core);
    assert_eq!(refused(&actions, consumer).unwrap().1, message);
}

#[test]
fn aliases_and_loopback_urls_are_the_same_stream() {
    let mut core = core(&["rtsp://a"]);
    core.set_alias("other", "cam");
    for name in ["cam", "other", "cam/", "rtsp://host:8554/cam", "rtsp://h/other?video"] {
        assert_eq!(core.resolve(name).as_deref(), Some("cam"), "{name}");
    }
    assert_eq!(core.resolve("rtsp://host/nope"), None);
    assert!(core.attach(at(0), &ask("nope", ""), "video").is_err());
}

#[test]
fn a_stream_does_not_read_itself() {
    let mut core = core(&["rtsp://a", "ffmpeg:cam#audio=opus"]);
    let mut wish = ask("cam", "audio=opus");
    wish.source = "ffmpeg:cam#audio=opus".to_owned();
    core.attach(at(0), &wish, "").unwrap();
    let first = opened(&drain(&mut core));
    core.tracks(at(1), first[0].0, vec![track(0, "video", "h264")], told());
    assert!(opened(&drain(&mut core)).is_empty());
}

#[test]
fn a_second_publisher_of_the_same_kind_replaces_the_first() {
    let mut core = core(&[]);
    let first = core.publish(at(0), "cam", Connection::default()).unwrap();
    core.tracks(at(0), first, vec![track(0, "video", "h264")], told());
    let consumer = core.attach(at(1), &ask("cam", "video"), "").unwrap();
    drain(&mut core);
    let second = core.publish(at(2), "cam", Connection::default()).unwrap();
    assert!(
        !drain(&mut core).iter().any(|a| matches!(a, Action::Unpublished { .. })),
        "it has shown nothing yet"
    );
    core.tracks(at(3), second, vec![track(0, "video", "h264")], told());
    let actions = drain(&mut core);
    let replaced = |a: &Action| matches!(a, Action::Unpublished { source, .. } if *source == first);
    assert!(actions.iter().any(replaced), "{actions:?}");
    assert_eq!(bound_to(&actions, consumer).unwrap(), [(second, "h264".to_owned())], "{actions:?}");
}

#[test]
fn viewers_of_a_publisher_that_leaves_wait_for_the_next() {
    let mut core = core(&[]);
    let first = core.publish(at(0), "cam", Connection::default()).unwrap();
    core.tracks(at(0), first, vec![track(0, "video", "h264")], told());
    let consumer = core.attach(at(1), &ask("cam", "video"), "").unwrap();
    drain(&mut core);
    core.ended(at(2), first, gone("left"));
    core.tick(at(100));
    assert!(!drain(&mut core).iter().any(|a| matches!(a, Action::Refused { .. })));
    let second = core.publish(at(101), "cam", Connection::default()).unwrap();
    core.tracks(at(101), second, vec![track(0, "video", "h264")], told());
    let actions = drain(&mut core);
    assert!(bound_to(&actions, consumer).is_some(), "{actions:?}");
}

#[test]
fn players_stay_with_the_sources_that_a_client_has_replaced_until_these_end() {
    let mut core = core(&["rtsp://a"]);
    let old = core.attach(at(0), &ask("cam", "video"), "").unwrap();
    let first = dialled(&mut core);
    core.tracks(at(1), first, vec![track(0, "video", "h264")], told());
    drain(&mut core);
    core.set_stream("cam", &["rtsp://b".to_owned()]);
    core.renew_waiting(at(2), "cam");
    assert_eq!(drain(&mut core), [], "nothing happens to whom has a picture");
    let new = core.attach(at(3), &ask("cam", "video"), "").unwrap();
    let opened = opened(&drain(&mut core));
    assert_eq!(opened[0].1, "rtsp://b", "who comes gets the new one");
    core.tracks(at(4), opened[0].0, vec![track(0, "video", "h264")], told());
    let actions = drain(&mut core);
    assert_eq!(bound_to(&actions, new).unwrap()[0].0, opened[0].0);
    assert!(bound_to(&actions, old).is_none(), "{actions:?}");
    core.ended(at(5), first, gone("the camera left"));
    let actions = drain(&mut core);
    assert_eq!(bound_to(&actions, old).unwrap()[0].0, opened[0].0, "{actions:?}");
    core.tick(at(5) + LINGER);
    assert!(drain(&mut core).contains(&Action::Drop { source: first }));
}

#[test]
fn equal_sources_of_two_streams_are_one_run() {
    let mut core = core(&["rtsp://a"]);
    core.set_stream("lens", &["rtsp://a#track=1".to_owned()]);
    core.attach(at(0), &ask("cam", "video"), "").unwrap();
    core.attach(at(0), &ask("lens", "video"), "").unwrap();
    assert_eq!(opened(&drain(&mut core)).len(), 1);
}

proptest::proptest! {
    /// Whatever happens in whatever order: nothing panics, nothing is opened while it is open, and every consumer hears
    /// `Bound` or `Refused` within its limit.
    #[test]
    fn any_order_of_events(events in proptest::collection::vec((0_u8..8, 0_u64..6, 1_u64..5), 1..200)) {
        let mut core = core(&["rtsp://a", "rtsp://b"]);
        let mut now = Duration::ZERO;
        let mut open = std::collections::BTreeSet::new();
        let mut waiting = std::collections::BTreeMap::new();
        for (kind, which, seconds) in events {
            now += Duration::from_secs(seconds);
            let source = open.iter().nth(which as usize).copied();
            match (kind, source) {
                (0 | 1, _) => {
                    let queries = ["video", "audio", "video&audio", "video=all", "audio=opus", "mp4"];
                    let id = core.attach(now, &ask("cam", queries[which as usize]), "").unwrap();
                    waiting.insert(id, now);
                }
                (2, _) => {
                    let id = waiting.keys().nth(which as usize).copied();
                    if let Some(id) = id {
                        core.detach(now, id);
                        waiting.remove(&id);
                    }
                }
                (3 | 4, Some(source)) => {
                    core.tracks(now, source, picture_and_sound(), told());
                    core.media(now, source);
                }
                (5, Some(source)) => {
                    open.remove(&source);
                    core.ended(now, source, gone("gone"));
                }
                (6, Some(source)) => core.track_changed(now, source, 1, track(0, "video", "hevc").1),
                _ => {}
            }
            core.tick(now);
            for action in drain(&mut core) {
                match action {
                    Action::Open { source, .. } => proptest::prop_assert!(open.insert(source), "{} is open", source),
                    Action::Close { source } | Action::Drop { source } => {
                        open.remove(&source);
                    }
                    Action::Bound { consumer, .. } | Action::Refused { consumer, .. } => {
                        waiting.remove(&consumer);
                    }
                    _ => {}
                }
            }
            for (id, since) in &waiting {
                proptest::prop_assert!(now - *since < Duration::from_secs(3), "{} has waited", id);
            }
        }
    }
}

#[test]
fn who_cannot_be_helped_by_waiting_is_told_at_once() {
    for (class, told_at_once) in [
        (Class::Auth, true),
        (Class::Unsupported, true),
        (Class::NotFound, false),
        (Class::Timeout, false),
        (Class::Eof, false),
    ] {
        let mut core = core(&["rtsp://a"]);
        let consumer = core.attach(at(0), &ask("cam", "video"), "").unwrap();
        let source = dialled(&mut core);
        let ended = Ended { class, message: "no".to_owned(), retry_after_ms: 0 };
        core.ended(at(1), source, ended);
        let wanted = told_at_once.then(|| (class, "streams: no".to_owned()));
        assert_eq!(refused(&drain(&mut core), consumer), wanted, "{class:?}");
    }
}

#[test]
fn a_plugins_death_does_not_count_against_the_camera() {
    let mut core = core(&["rtsp://a"]);
    core.attach(at(0), &Consume { timeout_ms: 60_000, ..ask("cam", "video") }, "").unwrap();
    let source = dialled(&mut core);
    for turn in 0..10 {
        let now = at(1 + turn);
        core.ended(now, source, Ended { class: Class::Timeout, ..gone("it died") });
        core.again(now, source, Duration::from_millis(200));
        core.tick(now + Duration::from_millis(200));
        assert_eq!(opened(&drain(&mut core)).len(), 1, "turn {turn}");
    }
}

#[test]
fn a_url_from_outside_goes_where_the_configuration_has_a_place_for_it() {
    let mut core = core(&["ffmpeg:{input}#audio=opus", "rtsp://b"]);
    core.redirect("cam", "rtsp://one");
    assert_eq!(core.urls("cam").unwrap(), ["ffmpeg:rtsp://one#audio=opus", "rtsp://one"]);
    core.redirect("cam", "rtsp://two");
    assert_eq!(core.urls("cam").unwrap(), ["ffmpeg:rtsp://two#audio=opus", "rtsp://two"]);
    core.redirect("new", "rtsp://two");
    assert_eq!(core.urls("new").unwrap(), ["rtsp://two"]);
}

#[test]
fn temporary_streams_have_a_limit_and_the_oldest_unused_goes() {
    let mut core = core(&["rtsp://a"]);
    let name = |n: usize| format!("rtsp://camera/{n}");
    for n in 0..MAX_TEMPORARY {
        assert!(core.set_temporary(&name(n), &name(n)));
    }
    core.attach(at(0), &ask(&name(0), "video"), "").unwrap();
    assert!(core.set_temporary("more", "rtsp://more"));
    assert!(core.urls(&name(0)).is_some(), "somebody watches it");
    assert!(core.urls(&name(1)).is_none() && core.urls("more").is_some() && core.urls("cam").is_some());
    for n in 2..MAX_TEMPORARY {
        core.attach(at(0), &ask(&name(n), "video"), "").unwrap();
    }
    core.attach(at(0), &ask("more", "video"), "").unwrap();
    assert!(!core.set_temporary("none", "rtsp://none"));
    assert!(core.urls("none").is_none());
}

fn demands(actions: &[Action]) -> Vec<(Vec<u32>, String)> {
    let demand = |action: &Action| match action {
        Action::Demand { demand, .. } => Some((demand.tracks.clone(), demand.class.clone())),
        _ => None,
    };
    actions.iter().filter_map(demand).collect()
}

fn ask_for(class: &str) -> Consume {
    Consume { class: class.to_owned(), ..ask("cam", "video") }
}

#[test]
fn the_most_urgent_consumer_decides_the_class_of_a_demand() {
    let mut core = core(&["rtsp://a"]);
    core.attach(at(0), &ask_for("background"), "").unwrap();
    let source = dialled(&mut core);
    assert_eq!(core.class_of(source), "background");
    core.tracks(at(1), source, vec![track(0, "video", "h264")], told());
    assert_eq!(demands(&drain(&mut core)), [(vec![0], "background".to_owned())]);
    let record = core.attach(at(2), &ask_for("record"), "").unwrap();
    let viewer = core.attach(at(2), &ask_for(""), "").unwrap();
    core.attach(at(2), &ask_for("still"), "").unwrap();
    let classes: Vec<String> = demands(&drain(&mut core)).into_iter().map(|(_, class)| class).collect();
    assert_eq!(classes, ["record", "live"], "the still changes nothing");
    core.detach(at(3), viewer);
    core.detach(at(3), record);
    let classes: Vec<String> = demands(&drain(&mut core)).into_iter().map(|(_, class)| class).collect();
    assert_eq!(classes, ["record", "still"]);
}

#[test]
fn a_camera_sleeps_on_until_somebody_looks() {
    let asleep = || Ended { class: Class::Asleep, message: "it sleeps".to_owned(), retry_after_ms: 0 };
    let state = |core: &Core| {
        let info = core.info("cam", &|_| Vec::new()).unwrap();
        info["producers"][0]["state"].as_str().unwrap().to_owned()
    };
    let mut core = core(&["rtsp://a"]);
    let still = core.attach(at(0), &ask_for("still"), "").unwrap();
    let source = dialled(&mut core);
    core.ended(at(1), source, asleep());
    assert!(refused(&drain(&mut core), still).unwrap().1.contains("it sleeps"));
    assert_eq!(state(&core), "asleep");
    core.tick(at(2));
    assert!(opened(&drain(&mut core)).is_empty());
    // A viewer wakes it at once, and then sleep is a failure like others.
    core.attach(at(2), &ask_for("live"), "").unwrap();
    core.tick(at(2));
    assert_eq!(opened(&drain(&mut core)).len(), 1);
    core.ended(at(3), source, asleep());
    core.tick(Duration::from_millis(4_500));
    assert_eq!(opened(&drain(&mut core)).len(), 1, "it is tried again soon");
}

#[test]
fn key_units_are_asked_for_once_a_second_at_most() {
    let mut core = core(&["rtsp://a"]);
    let viewer = core.attach(at(0), &ask("cam", "video"), "").unwrap();
    let source = dialled(&mut core);
    core.want_key(at(0), viewer);
    assert!(drain(&mut core).is_empty(), "nothing runs yet");
    core.tracks(at(1), source, picture_and_sound(), told());
    let other = core.attach(at(1), &ask("cam", "video"), "").unwrap();
    let listener = core.attach(at(1), &ask("cam", "audio"), "").unwrap();
    drain(&mut core);
    core.want_key(at(2), listener);
    assert!(drain(&mut core).is_empty(), "sound needs none");
    core.want_key(at(2), viewer);
    core.want_key(at(2), other);
    assert_eq!(drain(&mut core), [Action::Keyframe { source }]);
    core.want_key(Duration::from_millis(2_900), other);
    assert!(drain(&mut core).is_empty());
    core.want_key(at(3), other);
    assert_eq!(drain(&mut core), [Action::Keyframe { source }]);
}

#[test]
fn states_say_since_when_and_of_what_class_an_end_is() {
    const ZERO: u64 = 1_700_000_000_000;
    let mut core = core(&["rtsp://a"]);
    core.set_clock(at(0), ZERO);
    let consumer = core.attach(at(1), &Consume { timeout_ms: 60_000, ..ask("cam", "video") }, "").unwrap();
    let source = dialled(&mut core);
    let shown = |core: &Core| {
        let info = core.info("cam", &|_| Vec::new()).unwrap();
        assert_eq!(info["consumers"][0]["since"], ZERO + 1000, "consumer {consumer}: {info}");
        let producer = &info["producers"][0];
        let word = |key: &str| producer[key].as_str().unwrap_or("").to_owned();
        (word("state"), producer["since"].as_u64().unwrap() - ZERO, word("error_class"))
    };
    assert_eq!(shown(&core), ("connecting".to_owned(), 1000, String::new()));
    core.ended(at(2), source, gone("no such path"));
    assert_eq!(shown(&core), ("offline".to_owned(), 2000, "not_found".to_owned()));
    // A new try is no new outage.
    core.tick(at(4));
    assert_eq!(shown(&core), ("connecting".to_owned(), 2000, "not_found".to_owned()));
    core.ended(at(5), source, gone("no such path"));
    assert_eq!(shown(&core), ("offline".to_owned(), 2000, "not_found".to_owned()));
    core.tick(at(9));
    core.tracks(at(10), source, vec![track(0, "video", "h264")], told());
    core.media(at(11), source);
    assert_eq!(shown(&core), ("live".to_owned(), 10_000, String::new()));
    let wide = TrackInfo { width: 640, height: 360, ..track(0, "video", "h264").1 };
    core.track_changed(at(12), source, 1, wide);
    let codec = core.info("cam", &|_| Vec::new()).unwrap()["producers"][0]["receivers"][0]["codec"].clone();
    assert_eq!((&codec["width"], &codec["height"]), (&640.into(), &360.into()));
}

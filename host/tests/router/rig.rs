//! A core with one stream, `cam`, and words to script it with.

use std::time::Duration;

use patchbay::router::{Action, Core, Told};
use patchbay_plugin_api::message::{Class, Consume, Ended, TrackInfo};

pub(crate) fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A core whose stream `cam` has these sources.
pub(crate) fn core(urls: &[&str]) -> Core {
    let mut core = Core::new(7);
    core.set_stream("cam", &urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>());
    core
}

pub(crate) fn track(id: u32, kind: &str, codec: &str) -> (u32, TrackInfo) {
    let info = TrackInfo {
        id,
        kind: kind.to_owned(),
        codec: codec.to_owned(),
        clock_rate: 90_000,
        extradata: "AQ==".to_owned(),
        ..TrackInfo::default()
    };
    (0, info)
}

/// H.264 and AAC.
pub(crate) fn picture_and_sound() -> Vec<(u32, TrackInfo)> {
    vec![track(0, "video", "h264"), track(1, "audio", "aac")]
}

/// What a source says that has shown all its tracks.
pub(crate) fn told() -> Told {
    Told { is_final: true, ..Told::default() }
}

pub(crate) fn ask(stream: &str, query: &str) -> Consume {
    Consume { stream: stream.to_owned(), query: query.to_owned(), timeout_ms: 3_000, ..Consume::default() }
}

/// An end of a source that is tried again.
pub(crate) fn gone(message: &str) -> Ended {
    Ended { class: Class::NotFound, message: message.to_owned(), retry_after_ms: 0 }
}

pub(crate) fn drain(core: &mut Core) -> Vec<Action> {
    std::iter::from_fn(|| core.poll()).collect()
}

/// The sources that are dialled, with their URLs.
pub(crate) fn opened(actions: &[Action]) -> Vec<(u64, String)> {
    let open = |action: &Action| match action {
        Action::Open { source, url } => Some((*source, url.clone())),
        _ => None,
    };
    actions.iter().filter_map(open).collect()
}

/// The first source that is dialled now.
pub(crate) fn dialled(core: &mut Core) -> u64 {
    opened(&drain(core))[0].0
}

/// What a consumer gets now: sources and codecs.
pub(crate) fn bound_to(actions: &[Action], consumer: u64) -> Option<Vec<(u64, String)>> {
    actions.iter().rev().find_map(|action| match action {
        Action::Bound { consumer: c, bound } if *c == consumer => {
            Some(bound.tracks.iter().map(|t| (t.source, t.info.codec.clone())).collect())
        }
        _ => None,
    })
}

/// Why a consumer or talker gets nothing.
pub(crate) fn refused(actions: &[Action], consumer: u64) -> Option<(Class, String)> {
    actions.iter().find_map(|action| match action {
        Action::Refused { consumer: c, ended } if *c == consumer => {
            Some((ended.class, ended.message.clone()))
        }
        _ => None,
    })
}

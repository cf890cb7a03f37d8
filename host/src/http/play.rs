//! What is played to cameras: `POST /api/streams?dst=NAME&src=` and `POST /api/ffmpeg?dst=NAME`.

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use axum::response::Response;

use super::streams::{check, check_text, masked, scheme_of};
use super::{Call, Query, empty, json, text};
use crate::app::App;
use crate::redact::mask_userinfo;

/// Lines for a program that most of them do not need here.
const FFMPEG: &str = "ffmpeg:";

/// What of them is spoken, in front of its query.
const TTS: &str = "tts?";

/// Characters that go2rtc takes out of no text to be spoken, and the one at which its options would begin.
const UNSPOKEN: [char; 6] = ['\'', '"', '&', '%', '$', '#'];

/// What is to be heard.
struct Sound {
    /// What is dialled; empty: what is played now is stopped.
    url: String,
    /// What `/api/streams` says of it.
    asked: String,
    /// The program that speaks, when it is a text.
    speaker: Option<String>,
}

impl Sound {
    fn new(url: impl Into<String>, asked: impl Into<String>) -> Self {
        Self { url: url.into(), asked: asked.into(), speaker: None }
    }
}

/// Why something cannot be played, as an answer.
type Refused = (StatusCode, String);

fn bad(message: impl Into<String>) -> Refused {
    (StatusCode::BAD_REQUEST, message.into())
}

/// The sound of `source` goes to the camera of the stream `dst`; an empty one stops what does.
pub(super) async fn play(call: &Call, dst: &str, source: &str) -> Response {
    match sound(&call.app, source) {
        Ok(sound) => answer(call, dst, sound).await,
        Err((status, message)) => text(status, &message),
    }
}

async fn answer(call: &Call, dst: &str, sound: Sound) -> Response {
    match call.app.play(dst, &sound.url, &sound.asked).await {
        Ok(()) => json(&masked(call, call.app.info(Some(dst)).unwrap_or_default())),
        Err(message) => {
            let message = sound.speaker.map_or(message.clone(), |program| silent(&program, &message));
            text(StatusCode::INTERNAL_SERVER_ERROR, &mask_userinfo(&message))
        }
    }
}

/// `POST /api/ffmpeg?dst=NAME&file=|live=|text=[&voice=]`: the same in other words, or words.
pub(super) async fn by_ffmpeg(call: &Call) -> Response {
    if call.method != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "");
    }
    let Some(dst) =
        call.query.get("dst").filter(|dst| call.app.streams(|core, _| core.resolve(dst)).is_some())
    else {
        return text(StatusCode::NOT_FOUND, "");
    };
    let given = |key: &str| call.query.get(key).filter(|value| !value.trim().is_empty());
    let sound = match (given("file").or_else(|| given("live")), given("text")) {
        (Some(source), _) => sound(&call.app, &format!("{FFMPEG}{source}#audio=auto")),
        (None, Some(words)) => speech(&call.app, words, given("voice")),
        (None, None) => return text(StatusCode::BAD_REQUEST, ""),
    };
    let answer = match sound {
        Ok(sound) => answer(call, dst, sound).await,
        Err((status, message)) => text(status, &message),
    };
    if answer.status() == StatusCode::OK { empty(StatusCode::OK) } else { answer }
}

/// What is dialled to play `source`. Lines for ffmpeg (`ffmpeg:INPUT#audio=pcma#input=file`) need none: what the camera takes is made of
/// it anyway, and it comes in real time. They may name a file, as in go2rtc: only its sound gets out, and only to a camera.
fn sound(app: &Arc<App>, source: &str) -> Result<Sound, Refused> {
    if source.is_empty() {
        return Ok(Sound::new("", ""));
    }
    let has = |scheme: &str| app.catalogue().scheme(scheme).is_some();
    let Some(line) = source.strip_prefix(FFMPEG) else {
        return match stream(app, source, source).filter(|_| !has(scheme_of(source))) {
            Some(sound) => sound,
            None => check(app, source).map(|()| Sound::new(source, source)).map_err(bad),
        };
    };
    let input = line.split('#').next().unwrap_or(line);
    if let Some(query) = input.strip_prefix(TTS) {
        let query = Query::parse(query);
        return speech(app, query.get("text").unwrap_or_default(), query.get("voice"));
    }
    if let Some(sound) = stream(app, input, source).filter(|_| !input.contains("://")) {
        return sound;
    }
    check_text(line).map_err(bad)?;
    if input.starts_with('/') {
        let url = format!("file:{input}");
        return Ok(Sound::new(url.clone(), url));
    }
    check(app, input).map(|()| Sound::new(input, input)).map_err(bad)
}

/// The sound of a stream, when there is one of that name. The transcoder passes it on as it is, whatever becomes of its source; it does
/// not know `#play`, by which no stream has the same source.
fn stream(app: &Arc<App>, name: &str, asked: &str) -> Option<Result<Sound, Refused>> {
    let name = app.streams(|core, _| core.resolve(name)).filter(|name| !name.contains('#'))?;
    if !is_there(app, "transcode") {
        let message = "play: the plugin transcode, which reads the sound of a stream, is not there";
        return Some(Err((StatusCode::INTERNAL_SERVER_ERROR, message.to_owned())));
    }
    Some(Ok(Sound::new(format!("transcode:{name}#audio=copy#play"), asked)))
}

/// Whether a scheme is known and its module is not switched off.
fn is_there(app: &App, scheme: &str) -> bool {
    let (catalogue, config) = (app.catalogue(), app.config());
    catalogue.scheme(scheme).is_some_and(|(_, scheme)| config.allows_module(scheme.module.as_deref()))
}

/// A text, spoken by ffmpeg's filter flite in one of its voices.
fn speech(app: &App, words: &str, voice: Option<&str>) -> Result<Sound, Refused> {
    let voice = voice.filter(|voice| !voice.is_empty());
    if words.trim().is_empty() {
        return Err(bad("ffmpeg: there is no text to be spoken"));
    }
    let is_unspoken = |c: char| UNSPOKEN.contains(&c) || c.is_control();
    if words.contains(is_unspoken) {
        return Err(bad("ffmpeg: a text to be spoken has none of ' \" & % $ # and no control characters"));
    }
    if voice.is_some_and(|voice| !voice.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')) {
        return Err(bad("ffmpeg: the name of a voice has letters, digits, - and _"));
    }
    if !is_there(app, "exec") {
        let message = "ffmpeg: a text is spoken by ffmpeg; the plugin exec, which would run it, is not there";
        return Err((StatusCode::INTERNAL_SERVER_ERROR, message.to_owned()));
    }
    let config = app.config();
    let bin = config.section(FFMPEG.trim_end_matches(':')).and_then(|section| section.get("bin")?.text());
    let bin = bin.filter(|bin| !bin.trim().is_empty()).unwrap_or("ffmpeg");
    let mut asked = format!("{FFMPEG}{TTS}text={words}");
    let mut option = String::new();
    if let Some(voice) = voice {
        asked = format!("{asked}&voice={voice}");
        option = format!(":voice={voice}");
    }
    let url = format!(
        "exec:{bin} -hide_banner -v error -f lavfi -i \"flite=text='{}'{option}\" -f wav -",
        filter_option(words)
    );
    Ok(Sound { url, asked, speaker: Some(bin.to_owned()) })
}

/// A text as the value of a filter's option: behind the quotes around it these two still mean something to ffmpeg.
fn filter_option(words: &str) -> String {
    words.replace('\\', "\\\\").replace(':', "\\:")
}

/// Why a text was not spoken: what is missing, if anything is.
fn silent(program: &str, message: &str) -> String {
    let why = if message.contains("No such filter") {
        format!("{program} has no filter flite: it takes an ffmpeg that was built with libflite")
    } else if message.contains("Could not find voice") {
        format!("{program} has no such voice")
    } else {
        message.to_owned()
    };
    format!("ffmpeg: a text is spoken by ffmpeg: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told() {
        let filter = "exec/pipe: EOF exit status 1\n[lavfi @ 0x1] No such filter: 'flite'\nflite=text='a'";
        assert_eq!(
            silent("ffmpeg", filter),
            "ffmpeg: a text is spoken by ffmpeg: ffmpeg has no filter flite: it takes an ffmpeg that was built with libflite"
        );
        let program = "exec: cannot run ffmpeg: No such file or directory (os error 2)";
        assert_eq!(silent("ffmpeg", program), format!("ffmpeg: a text is spoken by ffmpeg: {program}"));
    }

    #[test]
    fn a_text_is_one_option_of_a_filter() {
        assert_eq!(filter_option(r"at 10:30, [a\b]; c"), r"at 10\:30, [a\\b]; c");
    }
}

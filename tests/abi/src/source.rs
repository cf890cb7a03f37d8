//! Role `source`: `fixture:WORD` sends JPEG pictures, 20 a second.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use patchbay_sdk::api::message::Clock;
use patchbay_sdk::media::{Codec, Parameters, Unit};
use patchbay_sdk::source::{Request, Session, Tracks};
use patchbay_sdk::{Error, Source};
use tokio::time::sleep;

use crate::{Behaviour, Fixture};

/// Ticks between two pictures at 90 kHz.
pub const STEP: i64 = 4500;

/// The shortest thing that starts and ends as a JPEG does.
pub const PICTURE: &[u8] = b"\xff\xd8\xff\xd9";

/// The fixture's one track.
pub fn parameters() -> Parameters {
    Parameters::video(Codec::Mjpeg, 90_000)
}

impl Source for Fixture {
    fn run(
        self: Arc<Self>,
        request: Request,
        session: Session,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        let behaviour = Behaviour::of(&request.url);
        behaviour.panic_if(Behaviour::PanicOpen);
        play(behaviour, session)
    }
}

/// Announces the track and sends pictures until the session is closed.
pub async fn play(behaviour: Behaviour, session: Session) -> Result<(), Error> {
    behaviour.begin().await?;
    if behaviour == Behaviour::Garbage {
        garbage(&session);
    }
    if behaviour == Behaviour::Stamps {
        return crate::stamps::play(&session).await;
    }
    if behaviour == Behaviour::Talk {
        return crate::talk::camera(&session).await;
    }
    if behaviour == Behaviour::Delegate {
        return crate::service::delegate(&session).await;
    }
    let send = if behaviour == Behaviour::Deaf { vec![crate::talk::send()] } else { Vec::new() };
    session.tracks(&Tracks { receive: vec![parameters().into()], send, ..Tracks::default() })?;
    session.wanted().await?;
    for turn in 0.. {
        if turn > 0 {
            behaviour.panic_if(Behaviour::PanicTask);
        }
        if behaviour == Behaviour::Eof && turn == 10 {
            return Err(Error::eof("fixture: the end"));
        }
        if behaviour == Behaviour::Garbage {
            garbage(&session);
        }
        session.push(0, &Unit::new(turn * STEP, true, Bytes::from_static(PICTURE)))?;
        while crate::faults::floods_units() {
            session.push(0, &Unit::new(turn * STEP, true, Bytes::from_static(PICTURE)))?;
        }
        while crate::faults::floods_events() {
            session.clock(Clock::default())?;
        }
        tokio::select! {
            () = sleep(Duration::from_millis(50)) => {}
            () = session.closed() => return Ok(()),
        }
    }
    Ok(())
}

/// Everything that a plugin must not say, as far as the sdk lets it.
fn garbage(session: &Session) {
    let empty = Unit::new(0, true, Bytes::new());
    let huge = Unit::new(0, true, Bytes::from(vec![0; 40 << 20]));
    let mut backwards = Unit::new(i64::MIN, false, Bytes::from_static(PICTURE));
    backwards.dts = i64::MAX;
    backwards.duration = u32::MAX;
    for unit in [&empty, &huge, &backwards] {
        for track in [0, 1, 63, 64, u32::MAX] {
            let _ = session.push(track, unit);
        }
    }
    let _ = session.track_changed(63, &Parameters::video(Codec::H264, 1));
    let many = vec![parameters().into(); 200];
    let _ = session.tracks(&Tracks { receive: many, ..Tracks::default() });
    let _ = session.tracks(&Tracks::default());
}

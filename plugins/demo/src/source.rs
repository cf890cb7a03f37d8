//! Plays the clip in real time.

use std::sync::Arc;
use std::time::Duration;

use patchbay_sdk::api::message::Connection;
use patchbay_sdk::pacer::Pacer;
use patchbay_sdk::source::{Request, Session, Tracks};
use patchbay_sdk::{Config, Error, Plugin, Source};
use tokio::time::{Instant, sleep_until};

use crate::clip::Clip;

/// The plugin.
pub struct Demo {
    clip: Clip,
}

impl Plugin for Demo {
    fn start(_: Config) -> Result<Self, Error> {
        Ok(Self { clip: Clip::load()? })
    }
}

impl Source for Demo {
    async fn run(self: Arc<Self>, _: Request, session: Session) -> Result<(), Error> {
        let clip = &self.clip;
        session.tracks(&Tracks {
            receive: vec![clip.video.clone().into(), clip.audio.clone().into()],
            connection: Connection {
                format_name: "demo".to_owned(),
                protocol: "demo".to_owned(),
                ..Connection::default()
            },
            paced: true,
            ..Tracks::default()
        })?;
        session.wanted().await?;
        let mut pacer = Pacer::default();
        let start = Instant::now();
        for turn in 0.. {
            for (track, unit) in clip.turn(turn) {
                let rate = if track == 0 { clip.video.clock_rate } else { clip.audio.clock_rate };
                let due = start + pacer.due(Duration::ZERO, unit.dts, rate);
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = session.closed() => return Ok(()),
                }
                session.push(track, &unit)?;
            }
        }
        Ok(())
    }
}

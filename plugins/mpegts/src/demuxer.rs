//! Role `demuxer`.

use std::sync::Arc;

use patchbay_mux::mpegts::{Demuxer as TsDemuxer, Event, Options};
use patchbay_sdk::api::message::{Class, Connection};
use patchbay_sdk::demuxer::{Data, Input, Request};
use patchbay_sdk::media::Parameters;
use patchbay_sdk::pacer::Pacer;
use patchbay_sdk::source::{Session, Tracks};
use patchbay_sdk::{Demuxer, Error};
use tokio::time::{Instant, sleep_until};

use crate::output::MpegTs;

impl Demuxer for MpegTs {
    async fn demux(
        self: Arc<Self>,
        request: Request,
        mut input: Input,
        session: Session,
    ) -> Result<(), Error> {
        let mut demuxer = TsDemuxer::new(Options::default());
        let mut known: Vec<Parameters> = Vec::new();
        let mut pacer = Pacer::default();
        let start = Instant::now();
        loop {
            match demuxer.poll() {
                Event::NeedData => match input.next().await? {
                    Data::Bytes(_, data) => demuxer.push(&data),
                    Data::End(ended) if ended.class == Class::Eof => demuxer.end(),
                    Data::End(ended) => return Err(ended.into()),
                },
                Event::Tracks(tracks) => {
                    let first = known.is_empty();
                    known.clone_from(&tracks);
                    session.tracks(&Tracks {
                        receive: tracks.into_iter().map(Into::into).collect(),
                        connection: Connection { format_name: "mpegts".to_owned(), ..Connection::default() },
                        paced: !request.head.live,
                        ..Tracks::default()
                    })?;
                    if first && !request.head.live {
                        input.wanted(&session).await?;
                    }
                }
                Event::TrackChanged { track, parameters } => {
                    session.track_changed(track as u32, &parameters)?;
                    if let Some(slot) = known.get_mut(track) {
                        *slot = parameters;
                    }
                }
                Event::Unit { track, unit } => {
                    let rate = known.get(track).map_or(1, |parameters| parameters.clock_rate);
                    if !request.head.live {
                        let due = start + pacer.due(start.elapsed(), unit.dts, rate);
                        tokio::select! {
                            () = sleep_until(due) => {}
                            () = session.closed() => return Ok(()),
                        }
                    }
                    input.handle_waiting()?;
                    session.push(track as u32, &unit)?;
                }
                Event::Error(error) => return Err(Error::protocol(format!("mpegts: {error}"))),
                Event::End => return Err(Error::eof("the end of the stream")),
            }
        }
    }
}

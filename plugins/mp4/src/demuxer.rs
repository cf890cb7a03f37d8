//! Role `demuxer`: MP4 files, whole (also with their index at the end) and fragmented.

use std::sync::Arc;

use patchbay_mux::mp4::{Demuxer as Mp4Demuxer, Event};
use patchbay_sdk::api::message::{Class, Connection};
use patchbay_sdk::demuxer::{Data, Input, Request};
use patchbay_sdk::media::Parameters;
use patchbay_sdk::pacer::Pacer;
use patchbay_sdk::source::{Session, Tracks};
use patchbay_sdk::{Demuxer, Error};
use tokio::time::{Instant, sleep_until};

use crate::output::Mp4;

/// Bytes that are read ahead for a file that cannot be read from any place.
const MAX_UNSEEKABLE: u64 = 64 << 20;

impl Demuxer for Mp4 {
    async fn demux(
        self: Arc<Self>,
        request: Request,
        mut input: Input,
        session: Session,
    ) -> Result<(), Error> {
        let mut demuxer = Mp4Demuxer::new();
        let mut known: Vec<Parameters> = Vec::new();
        let mut pacer = Pacer::default();
        let start = Instant::now();
        let mut read = 0_u64;
        loop {
            match demuxer.poll() {
                Event::NeedData => match input.next().await? {
                    Data::Bytes(offset, data) => {
                        read += data.len() as u64;
                        demuxer.push(offset, data);
                    }
                    Data::End(ended) if ended.class == Class::Eof => demuxer.end(),
                    Data::End(ended) => return Err(ended.into()),
                },
                Event::Seek(offset) if request.head.seekable => input.seek(offset)?,
                Event::Seek(offset) => {
                    let class = if read > MAX_UNSEEKABLE { "after 64 MiB" } else { "" };
                    return Err(Error::unsupported(format!(
                        "mp4: the file must be read from byte {offset} {class}, and its transport cannot: \
                         put its index first (ffmpeg -movflags +faststart)"
                    )));
                }
                Event::Tracks(tracks) => {
                    known.clone_from(&tracks);
                    session.tracks(&Tracks {
                        receive: tracks.into_iter().map(Into::into).collect(),
                        connection: Connection { format_name: "mp4".to_owned(), ..Connection::default() },
                        paced: true,
                        ..Tracks::default()
                    })?;
                    // Reading on without a reader would only fill the ring.
                    input.wanted(&session).await?;
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
                Event::Error(error) => return Err(Error::protocol(format!("mp4: {error}"))),
                Event::End => return Err(Error::eof("the end of the file")),
            }
        }
    }
}

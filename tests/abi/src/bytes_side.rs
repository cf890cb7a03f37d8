//! Roles `transport` and `demuxer`: `fixturebytes:WORD` sends the format `fixture`: `FIXT`, then pictures, each behind
//! its length as one byte.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use patchbay_sdk::api::message::Head;
use patchbay_sdk::demuxer::{self, Data, Input};
use patchbay_sdk::media::Unit;
use patchbay_sdk::source::{self, Tracks};
use patchbay_sdk::transport::{self, Written};
use patchbay_sdk::{Demuxer, Error, Transport};
use tokio::time::sleep;

use crate::source::{PICTURE, parameters};
use crate::{Behaviour, Fixture};

/// Start of the format.
const MAGIC: &[u8] = b"FIXT";

/// One picture behind its length.
const RECORD: &[u8] = b"\x04\xff\xd8\xff\xd9";

impl Transport for Fixture {
    async fn fetch(
        self: Arc<Self>,
        request: transport::Request,
        mut session: transport::Session,
    ) -> Result<(), Error> {
        let behaviour = Behaviour::of(&request.url);
        behaviour.panic_if(Behaviour::PanicOpen);
        behaviour.begin().await?;
        // The hint names the format at once: without it the host gathers bytes first, and these come slowly.
        let (mime, hint) = ("video/x-fixture".to_owned(), "fixture".to_owned());
        session.head(&Head { mime, hint, live: true, ..Head::default() })?;
        session.write(Bytes::from_static(MAGIC)).await?;
        for turn in 0.. {
            if turn > 0 {
                behaviour.panic_if(Behaviour::PanicTask);
            }
            if behaviour == Behaviour::Eof && turn == 10 {
                break;
            }
            if behaviour == Behaviour::Garbage {
                session.write(Bytes::from(vec![0xaa; 300 << 10])).await?;
            }
            if let Written::Seek(offset) = session.write(Bytes::from_static(RECORD)).await? {
                return Err(Error::unsupported(format!("fixture: cannot seek to {offset}")));
            }
            tokio::select! {
                () = sleep(Duration::from_millis(50)) => {}
                () = session.closed() => return Ok(()),
            }
        }
        session.finished().await?;
        Ok(())
    }
}

impl Demuxer for Fixture {
    fn demux(
        self: Arc<Self>,
        request: demuxer::Request,
        input: Input,
        session: source::Session,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        let behaviour = Behaviour::of(&request.url);
        behaviour.panic_if(Behaviour::PanicDemuxerOpen);
        pictures(behaviour, input, session)
    }
}

async fn pictures(behaviour: Behaviour, mut input: Input, session: source::Session) -> Result<(), Error> {
    let mut waiting = BytesMut::new();
    let mut announced = false;
    let mut pts = 0;
    loop {
        match input.next().await? {
            Data::Bytes(_, bytes) => waiting.extend_from_slice(&bytes),
            Data::End(ended) => return Err(ended.into()),
        }
        if !announced {
            if waiting.len() < MAGIC.len() {
                continue;
            }
            if !waiting.starts_with(MAGIC) {
                return Err(Error::protocol("fixture: it does not start with FIXT"));
            }
            waiting.advance(MAGIC.len());
            session.tracks(&Tracks { receive: vec![parameters().into()], ..Tracks::default() })?;
            input.wanted(&session).await?;
            announced = true;
        }
        while let Some(len) = waiting.first().map(|len| usize::from(*len)) {
            if waiting.len() <= len {
                break;
            }
            let picture = waiting.split_to(len + 1).split_off(1).freeze();
            if behaviour != Behaviour::Garbage && picture != PICTURE {
                return Err(Error::protocol("fixture: that is no picture"));
            }
            session.push(0, &Unit::new(pts, true, picture))?;
            pts += 4500;
            behaviour.panic_if(Behaviour::PanicDemuxerTask);
        }
    }
}

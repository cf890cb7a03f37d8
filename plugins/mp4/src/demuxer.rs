//! Role `demuxer`: MP4 files, whole (also with their index at the end) and fragmented.

use std::sync::Arc;

use patchbay_mux::mp4;
use patchbay_sdk::demuxer::{Container, Event, Input, Piece, Place, Request, run};
use patchbay_sdk::source::Session;
use patchbay_sdk::{Demuxer, Error};

use crate::output::Mp4;

impl Demuxer for Mp4 {
    async fn demux(self: Arc<Self>, request: Request, input: Input, session: Session) -> Result<(), Error> {
        run(&request, input, session, File(mp4::Demuxer::new())).await
    }
}

struct File(mp4::Demuxer);

impl Container for File {
    fn push(&mut self, piece: Piece) {
        self.0.push(piece.offset, piece.data);
    }

    fn end(&mut self) {
        self.0.end();
    }

    fn poll(&mut self) -> Event {
        let advice = "put its index first (ffmpeg -movflags +faststart)";
        self.0.poll().map(|error| Error::protocol(format!("mp4: {error}")), |offset| Place { offset, advice })
    }
}

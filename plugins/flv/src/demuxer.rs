//! Role `demuxer`.

use std::sync::Arc;

use patchbay_mux::flv;
use patchbay_sdk::demuxer::{Container, Event, Input, Piece, Request, run};
use patchbay_sdk::source::Session;
use patchbay_sdk::{Demuxer, Error};

use crate::output::Flv;

impl Demuxer for Flv {
    async fn demux(self: Arc<Self>, request: Request, input: Input, session: Session) -> Result<(), Error> {
        run(&request, input, session, Tags(flv::Demuxer::new())).await
    }
}

struct Tags(flv::Demuxer);

impl Container for Tags {
    fn push(&mut self, piece: Piece) {
        self.0.push(&piece.data, piece.at);
    }

    fn end(&mut self) {
        self.0.end();
    }

    fn poll(&mut self) -> Event {
        self.0.poll().map_error(|error| Error::protocol(error.to_string()))
    }
}

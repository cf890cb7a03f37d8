//! Role `sink`: `fixturesink://HOST:PORT#WORD` sends the units of the stream there, each behind its length.

use std::sync::Arc;

use patchbay_sdk::server::Context;
use patchbay_sdk::sink::Request;
use patchbay_sdk::{Error, Sink};
use tokio::net::TcpStream;

use crate::{Behaviour, Fixture, server};

impl Sink for Fixture {
    async fn push(self: Arc<Self>, request: Request, context: Context) -> Result<(), Error> {
        let (address, word) = request.url.split_once('#').unwrap_or((&request.url, ""));
        let behaviour = Behaviour::of(word);
        behaviour.panic_if(Behaviour::PanicOpen);
        behaviour.begin().await?;
        let address = address.rsplit("//").next().unwrap_or(address);
        let mut stream = TcpStream::connect(address).await?;
        behaviour.panic_if(Behaviour::PanicTask);
        tokio::select! {
            ended = server::play(&request.stream, &mut stream, &context) => ended,
            () = context.closed() => Ok(()),
        }
    }
}

//! Roles `server` and `routes`. The server takes one line per connection: `play NAME` answers with the units of that
//! stream behind their length, `publish NAME WORD` becomes a source of that stream.

use std::future::Future;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use patchbay_sdk::api::message::{Consume, History, Listening, Media, Publish, Response, Serve};
use patchbay_sdk::reader::{Item, Reader};
use patchbay_sdk::routes::{Body, Reply, Request, query_values};
use patchbay_sdk::server::Context;
use patchbay_sdk::{Error, Routes, Server, blocking, spawn};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::{Behaviour, Fixture, source};

/// Largest body that a route reads, in bytes.
const MAX_BODY: usize = 64 << 10;

impl Server for Fixture {
    fn serve(self: Arc<Self>, context: Context) -> impl Future<Output = Result<(), Error>> + Send {
        let behaviour = Behaviour::of(&self.listen);
        behaviour.panic_if(Behaviour::PanicOpen);
        let address = if behaviour == Behaviour::PanicTask { "127.0.0.1:0" } else { self.listen.as_str() };
        listen(behaviour, address.to_owned(), context)
    }
}

async fn listen(behaviour: Behaviour, address: String, context: Context) -> Result<(), Error> {
    behaviour.begin().await?;
    let listener = TcpListener::bind(address).await?;
    let addr = listener.local_addr()?.to_string();
    context.listening(&Listening { protocol: "fixture".to_owned(), addr, ..Listening::default() })?;
    behaviour.panic_if(Behaviour::PanicTask);
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            () = context.closed() => return Ok(()),
        };
        let context = context.clone();
        spawn(async move {
            // How a connection ends is the client's business.
            let _ = connection(stream, &context).await;
        });
    }
}

async fn connection(stream: TcpStream, context: &Context) -> Result<(), Error> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["play", name] => play(name, stream.get_mut(), context).await,
        ["publish", name, word] => {
            let publish = Publish { stream: (*name).to_owned(), ..Publish::default() };
            let mut publisher = context.publish(&publish).await?;
            let session = publisher.session();
            tokio::select! {
                ended = source::play(Behaviour::of(word), session) => ended,
                ended = publisher.run() => Err(ended),
            }
        }
        ["talk", name, codec, count] => {
            let count = count.parse().map_err(|_| Error::protocol("fixture: how many?"))?;
            crate::talk::speak(name, codec, count, stream.get_mut(), context).await
        }
        ["listen", name] => crate::talk::listen(name, stream.get_mut(), context).await,
        _ => Err(Error::protocol("fixture: neither play nor publish")),
    }
}

/// Sends the units of a stream, each behind its length.
pub(crate) async fn play(name: &str, stream: &mut TcpStream, context: &Context) -> Result<(), Error> {
    let video = Media { kind: "video".to_owned(), codecs: vec!["any".to_owned()] };
    let consume = Consume { stream: name.to_owned(), medias: vec![video], ..Consume::default() };
    let mut consumer = context.consume(&consume)?;
    let bound = consumer.next().await?;
    let Some(track) = bound.tracks.first() else { return Err(Error::not_found("fixture: no track")) };
    let wanted = [(track.info.id, track.epoch)];
    let mut reader = Reader::live(context.host(), track.source, &wanted, Some(track.info.id))?;
    loop {
        let item = tokio::select! {
            item = reader.next() => item?,
            ended = consumer.next() => match ended {
                Ok(_) => continue,
                Err(error) => return Err(error),
            },
        };
        if let Item::Unit { unit, .. } = item {
            stream.write_u32(u32::try_from(unit.data.len()).unwrap_or(u32::MAX)).await?;
            stream.write_all(&unit.data).await?;
        }
    }
}

impl Routes for Fixture {
    async fn request(self: Arc<Self>, request: Request, mut body: Body) -> Result<Reply, Error> {
        let word = |key| query_values(&request.query, key).into_iter().next().unwrap_or_default();
        let behaviour = Behaviour::of(&word("behaviour"));
        if let Some(attempt) = query_values(&request.query, "try").into_iter().next() {
            let outcome = blocking(move || crate::attempts::outcome(&attempt)).await?;
            return Ok(Reply::text(200, &outcome));
        }
        crate::faults::cause(&word("fault"));
        behaviour.panic_if(Behaviour::PanicOpen);
        behaviour.begin().await?;
        if request.route == "api/stream.fixture" || request.route == "fixture" {
            return Ok(Reply::Serve(Box::new(Serve {
                consume: Consume { stream: word("src"), query: "video=all".to_owned(), ..Consume::default() },
                format: "fixture".to_owned(),
                options: [("behaviour".to_owned(), word("behaviour"))].into(),
                history: History::Live,
                ..Serve::default()
            })));
        }
        let mut given = BytesMut::new();
        if request.method == "POST" {
            while let Some(part) = body.next().await {
                given.extend_from_slice(&part);
                if given.len() > MAX_BODY {
                    return Ok(Reply::text(413, "fixture: that is too much"));
                }
            }
        }
        if behaviour == Behaviour::Garbage {
            let headers = vec![("bad name\r\n".to_owned(), "bad\r\nvalue".to_owned())];
            return Ok(Reply::Whole(Response { status: 42, headers }, Bytes::from(vec![0; 3 << 20])));
        }
        behaviour.panic_if(Behaviour::PanicTask);
        Ok(Reply::Whole(Response { status: 200, headers: Vec::new() }, given.freeze()))
    }
}

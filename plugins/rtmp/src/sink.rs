//! Streams pushed to other servers: units of a stream through a publishing [`crate::session::client`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use patchbay_media::{Kind, Unit};
use patchbay_mux::flv::amf::{self, Value};
use patchbay_mux::flv::{TagKind, TagMuxer};
use patchbay_net::Stream;
use patchbay_sdk::api::message::{Bound, Connection as Shown, Consume, ConsumerCounters};
use patchbay_sdk::reader::{Item, Reader};
use patchbay_sdk::server::{Consumer, Context};
use patchbay_sdk::sink::Request;
use patchbay_sdk::{Error, Sink};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::plugin::Rtmp;
use crate::server::play::{Wanted, bind, tracks_of, wanted_of};
use crate::session::client::{Event, Mode, Session};
use crate::session::server::Wish;
use crate::source::{ANSWER_TIMEOUT, READ_BYTES, Target, dial, of_end};
use crate::wire::chunk::{self, OUR_CHUNK_BYTES};

/// Longest wait for the server to take what is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Items that wait for the socket; more stay in the ring, where the oldest are passed over.
const QUEUE: usize = 64;
const REPORT_EVERY: Duration = Duration::from_secs(5);

impl Sink for Rtmp {
    async fn push(self: Arc<Self>, request: Request, context: Context) -> Result<(), Error> {
        let mut target =
            Target::parse(&request.url).map_err(|error| Error::unsupported(error.to_string()))?;
        target.config.mode = Mode::Publish;
        // Servers rarely say what they understand: H.264 with AAC, or what the URL chooses.
        let (query, medias) = tracks_of(&Wish { query: target.filters.clone(), ..Wish::default() });
        let shown = Shown {
            format_name: "flv".to_owned(),
            protocol: if target.tls.is_some() { "rtmps" } else { "rtmp" }.to_owned(),
            remote_addr: format!("{}:{}", target.url.host(), target.port),
            ..Shown::default()
        };
        let consume = Consume {
            stream: request.stream,
            query,
            medias,
            connection: shown,
            class: "record".to_owned(),
            ..Consume::default()
        };
        let (consumer, wanted) = bind(&context, &consume).await?;
        let mut session = Session::new(target.config.clone(), rand::random(), rand::random());
        let (read, write) = connect(&target, &mut session, &context).await?;
        let parameters: Vec<_> = wanted.iter().map(|w| w.parameters.clone()).collect();
        let mux = TagMuxer::new(&parameters).map_err(|error| Error::unsupported(error.to_string()))?;
        let (items, queue) = mpsc::channel(QUEUE);
        let _readers = read_tracks(&context, &wanted, &items)?;
        drop(items);
        let push = Push {
            session,
            write,
            mux,
            wanted,
            consumer,
            sent: ConsumerCounters::default(),
            has_headers: false,
        };
        push.run(read, queue, &context).await
    }
}

/// Dials until the server takes what is published.
async fn connect(
    target: &Target,
    session: &mut Session,
    context: &Context,
) -> Result<(ReadHalf<Box<dyn Stream>>, WriteHalf<Box<dyn Stream>>), Error> {
    let limit = target.timeout.unwrap_or(ANSWER_TIMEOUT);
    loop {
        let (mut read, mut write) = tokio::io::split(dial(target).await?.stream);
        let mut buffer = BytesMut::new();
        let until = Instant::now() + limit;
        let redials = loop {
            send(&mut write, session.take()).await?;
            buffer.reserve(READ_BYTES);
            tokio::select! {
                read = timeout(until.saturating_duration_since(Instant::now()), read.read_buf(&mut buffer)) => {
                    match read {
                        Err(_) => return Err(Error::timeout("the server does not answer")),
                        Ok(read) => if read? == 0 {
                            return Err(Error::eof("the server has closed the connection"));
                        }
                    }
                }
                () = context.closed() => return Err(Error::eof("closed")),
            }
            let data = buffer.split();
            session.receive(&data).map_err(|error| Error::protocol(error.to_string()))?;
            match session.poll().map_err(|error| Error::protocol(error.to_string()))? {
                Some(Event::Started) => break false,
                Some(Event::Redial) => break true,
                Some(Event::Ended(end)) => return Err(of_end(&end)),
                Some(Event::Media { .. }) | None => {}
            }
        };
        if !redials {
            send(&mut write, session.take()).await?;
            return Ok((read, write));
        }
        session.restart(rand::random());
    }
}

/// Follows each source; the readers end with what is given back.
fn read_tracks(
    context: &Context,
    wanted: &[Wanted],
    items: &mpsc::Sender<Result<(u64, Item), Error>>,
) -> Result<JoinSet<()>, Error> {
    let mut of_source: BTreeMap<u64, Vec<&Wanted>> = BTreeMap::new();
    for track in wanted {
        of_source.entry(track.source).or_default().push(track);
    }
    let mut readers = JoinSet::new();
    for (source, tracks) in of_source {
        let key = tracks.iter().find(|w| w.parameters.codec.kind() == Kind::Video).map(|w| w.track);
        let ids: Vec<(u32, u32)> = tracks.iter().map(|w| (w.track, w.epoch)).collect();
        let mut reader = Reader::live(context.host(), source, &ids, key)?;
        let items = items.clone();
        readers.spawn(async move {
            loop {
                let item = reader.next().await.map(|item| (source, item));
                let is_over = item.is_err();
                if items.send(item).await.is_err() || is_over {
                    return;
                }
            }
        });
    }
    Ok(readers)
}

struct Push {
    session: Session,
    write: WriteHalf<Box<dyn Stream>>,
    mux: TagMuxer,
    wanted: Vec<Wanted>,
    consumer: Consumer,
    sent: ConsumerCounters,
    /// `onMetaData` and what decoders need went out.
    has_headers: bool,
}

impl Push {
    async fn run(
        mut self,
        mut read: ReadHalf<Box<dyn Stream>>,
        mut queue: mpsc::Receiver<Result<(u64, Item), Error>>,
        context: &Context,
    ) -> Result<(), Error> {
        let mut buffer = BytesMut::new();
        let mut report = tokio::time::interval(REPORT_EVERY);
        loop {
            buffer.reserve(READ_BYTES);
            tokio::select! {
                () = context.closed() => {
                    self.session.stop();
                    return send(&mut self.write, self.session.take()).await;
                }
                item = queue.recv() => match item {
                    Some(Ok((source, item))) => self.item(source, item).await?,
                    Some(Err(error)) => return Err(error),
                    None => return Err(Error::eof("the stream has ended")),
                },
                read = read.read_buf(&mut buffer) => {
                    if read? == 0 {
                        return Err(Error::eof("the server has closed the connection"));
                    }
                    let data = buffer.split();
                    self.session.receive(&data).map_err(|error| Error::protocol(error.to_string()))?;
                    while let Some(event) =
                        self.session.poll().map_err(|error| Error::protocol(error.to_string()))?
                    {
                        if let Event::Ended(end) = event {
                            return Err(of_end(&end));
                        }
                    }
                    send(&mut self.write, self.session.take()).await?;
                }
                bound = self.consumer.next() => self.rebound(&bound?)?,
                _ = report.tick() => self.consumer.counters(&self.sent),
            }
        }
    }

    /// Other tracks need another session.
    fn rebound(&self, bound: &Bound) -> Result<(), Error> {
        let key = |w: &Wanted| (w.source, w.track, w.parameters.codec);
        let now = wanted_of(bound);
        // Nothing: the source is away, or not known yet.
        let goes_on = now.is_empty() || now.iter().map(key).eq(self.wanted.iter().map(key));
        if goes_on { Ok(()) } else { Err(Error::eof("the stream has other tracks now")) }
    }

    async fn item(&mut self, source: u64, item: Item) -> Result<(), Error> {
        let index_of = |wanted: &[Wanted], track: u32| {
            wanted.iter().position(|w| (w.source, w.track) == (source, track))
        };
        match item {
            Item::Unit { track, unit, .. } => match index_of(&self.wanted, track) {
                Some(index) => self.unit(index, &unit).await,
                None => Ok(()),
            },
            Item::Parameters { track, parameters } => {
                if let Some(index) = index_of(&self.wanted, track) {
                    self.mux
                        .reconfigure(index, parameters)
                        .map_err(|error| Error::unsupported(error.to_string()))?;
                    self.has_headers = false;
                }
                Ok(())
            }
            Item::Gap { .. } => {
                self.sent.drops += 1;
                Ok(())
            }
        }
    }

    async fn unit(&mut self, index: usize, unit: &Unit) -> Result<(), Error> {
        let Some(placed) = self.mux.place(index, unit) else { return Ok(()) };
        let mut out = BytesMut::with_capacity(unit.data.len() + 1_024);
        let (id, time) = (self.session.stream_id(), placed.time.max(0) as u32);
        let mut put = |kind: TagKind, parts: &[&[u8]]| {
            let chunks = if kind == TagKind::Audio { 4 } else { 6 };
            chunk::write(chunks, (kind as u8, time, id), parts, OUR_CHUNK_BYTES, &mut out);
        };
        if placed.key && !std::mem::replace(&mut self.has_headers, true) {
            let mut name = BytesMut::new();
            amf::write_all(&[Value::from("@setDataFrame")], &mut name);
            put(TagKind::Script, &[&name, &self.mux.metadata()]);
            for (kind, body) in self.mux.configs() {
                put(kind, &[&body]);
            }
        }
        put(placed.kind, &[placed.head.as_slice(), &unit.data]);
        self.sent.packets += 1;
        self.sent.bytes += out.len() as u64;
        send(&mut self.write, out.freeze()).await
    }
}

async fn send(stream: &mut WriteHalf<Box<dyn Stream>>, bytes: Bytes) -> Result<(), Error> {
    if bytes.is_empty() {
        return Ok(());
    }
    let write = async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    };
    match timeout(WRITE_TIMEOUT, write).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Error::timeout("the server takes nothing")),
    }
}

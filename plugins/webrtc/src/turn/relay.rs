//! One allocation on a TURN server, shared by all sessions of the server.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rtc::crypto::RTCCryptoProvider;
use rtc::sansio::Protocol as _;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use rtc::turn::client::{Client, ClientConfig, Event};
use tokio::sync::{mpsc, oneshot};

use super::Server;
use super::wire::{Ends, Wire};
use crate::mux::Hub;

/// How long a session waits for an allocation before it goes on without.
const ALLOCATE_LIMIT: Duration = Duration::from_secs(3);

/// A server that did not answer is left alone for so long.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// An allocation that no session was on for so long is given back.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// How often it is looked whether sessions are left.
const IDLE_EVERY: Duration = Duration::from_secs(5);

/// Packets that wait for the task; more are lost, as datagrams are.
const QUEUE: usize = 4096;

/// Packets that wait for the server's permission to send to one address.
const MAX_WAITING: usize = 32;

/// Addresses that wait for one.
const MAX_ASKED: usize = 256;

/// A packet for an address.
type Packet = (SocketAddr, Bytes);

/// An allocation. Over when the server or the way to it fails, or nobody needs it for a while.
pub struct Relay {
    address: SocketAddr,
    /// Its end gives the allocation back.
    queue: mpsc::Sender<Packet>,
}

impl Relay {
    /// The address at the server that reaches this side.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends datagrams of `segment` bytes each, the last may be shorter; false when one is lost here.
    pub fn send(&self, remote: SocketAddr, contents: &[u8], segment: usize) -> bool {
        let mut packets = contents.chunks(segment.max(1));
        packets.all(|packet| self.queue.try_send((remote, Bytes::copy_from_slice(packet))).is_ok())
    }

    /// Whether it can be used.
    pub fn is_open(&self) -> bool {
        !self.queue.is_closed()
    }
}

/// The allocations of all configured servers, made when they are needed.
pub struct Relays {
    servers: Vec<Server>,
    crypto: Arc<dyn RTCCryptoProvider>,
    known: tokio::sync::Mutex<HashMap<usize, Known>>,
}

enum Known {
    Open(Arc<Relay>),
    Failed(Instant),
}

impl Relays {
    /// None yet.
    pub fn new(servers: Vec<Server>, crypto: &Arc<dyn RTCCryptoProvider>) -> Self {
        Self { servers, crypto: Arc::clone(crypto), known: tokio::sync::Mutex::default() }
    }

    /// The allocations of all servers that answer, known to `hub`.
    pub async fn open(&self, hub: &Arc<Hub>) -> Vec<Arc<Relay>> {
        if self.servers.is_empty() {
            return Vec::new();
        }
        let mut known = self.known.lock().await;
        let is_missing = |index: &usize| match known.get(index) {
            Some(Known::Open(relay)) => !relay.is_open() || !hub.has_relay(relay),
            Some(Known::Failed(at)) => at.elapsed() >= RETRY_AFTER,
            None => true,
        };
        let missing: Vec<usize> = (0..self.servers.len()).filter(is_missing).collect();
        let made = missing.iter().filter_map(|index| {
            let (server, crypto) = (self.servers.get(*index)?.clone(), Arc::clone(&self.crypto));
            Some(async move { (*index, allocate(server, crypto, Arc::downgrade(hub)).await) })
        });
        for (index, result) in futures_util::future::join_all(made).await {
            let now = match result {
                Ok(relay) => {
                    let relay = Arc::new(relay);
                    hub.add_relay(&relay);
                    Known::Open(relay)
                }
                Err(error) => {
                    tracing::warn!("turn: no relay at {:?}: {error}", self.servers.get(index));
                    Known::Failed(Instant::now())
                }
            };
            known.insert(index, now);
        }
        let open = |index| match known.get(&index) {
            Some(Known::Open(relay)) if relay.is_open() => Some(Arc::clone(relay)),
            _ => None,
        };
        (0..self.servers.len()).filter_map(open).collect()
    }

    /// Gives all allocations back.
    pub async fn close(&self) {
        self.known.lock().await.clear();
    }
}

/// Makes an allocation and keeps it.
async fn allocate(server: Server, crypto: Arc<dyn RTCCryptoProvider>, hub: Weak<Hub>) -> io::Result<Relay> {
    let (told, answer) = oneshot::channel();
    let (queue, packets) = mpsc::channel(QUEUE);
    let task = tokio::spawn(async move {
        let mut told = Some(told);
        if let Err(error) = run(&server, crypto, hub, packets, &mut told).await {
            match told.take() {
                Some(told) => drop(told.send(Err(error))),
                None => tracing::warn!("turn: the relay at {server:?} is gone: {error}"),
            }
        }
    });
    let Ok(answer) = tokio::time::timeout(ALLOCATE_LIMIT, answer).await else {
        task.abort();
        return Err(io::ErrorKind::TimedOut.into());
    };
    let address = answer.map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))??;
    tracing::debug!(%address, "turn: a relay is allocated");
    Ok(Relay { address, queue })
}

/// What the task of an allocation works with.
struct Session {
    client: Client,
    ends: Ends,
    relayed: Option<SocketAddr>,
    /// Packets that wait for permissions.
    waiting: HashMap<SocketAddr, VecDeque<Bytes>>,
}

async fn run(
    server: &Server,
    crypto: Arc<dyn RTCCryptoProvider>,
    hub: Weak<Hub>,
    mut packets: mpsc::Receiver<Packet>,
    told: &mut Option<oneshot::Sender<io::Result<SocketAddr>>>,
) -> io::Result<()> {
    let (mut wire, ends) = Wire::dial(server).await?;
    let config = ClientConfig {
        turn_serv_addr: ends.remote.to_string(),
        local_addr: ends.local,
        username: server.username.clone(),
        password: server.credential.clone(),
        ..ClientConfig::default()
    };
    let mut client = Client::new(config, crypto).map_err(io::Error::other)?;
    client.allocate(Instant::now()).map_err(io::Error::other)?;
    let mut session = Session { client, ends, relayed: None, waiting: HashMap::new() };
    let sender = wire.sender();
    let mut idle = tokio::time::interval(IDLE_EVERY);
    let mut used = Instant::now();
    loop {
        while let Some(event) = session.client.poll_event() {
            session.event(event, &hub, told)?;
        }
        while let Some(message) = session.client.poll_write() {
            sender.send(&message.message);
        }
        let due = session.client.poll_timeout();
        tokio::select! {
            message = wire.receive() => session.receive(message?),
            packet = packets.recv() => match packet {
                Some((remote, packet)) => session.send(remote, packet),
                None => break,
            },
            () = until(due) => drop(session.client.handle_timeout(Instant::now())),
            _ = idle.tick() => match hub.upgrade() {
                Some(hub) if hub.entries().0 > 0 => used = Instant::now(),
                Some(_) if used.elapsed() < IDLE_LIMIT => {}
                _ => break,
            },
        }
    }
    session.close();
    while let Some(message) = session.client.poll_write() {
        sender.send(&message.message);
    }
    Ok(())
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

impl Session {
    fn receive(&mut self, message: BytesMut) {
        let Ends { local, remote } = self.ends;
        let transport = TransportContext {
            local_addr: local,
            peer_addr: remote,
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        };
        if let Err(error) =
            self.client.handle_read(TaggedBytesMut { now: Instant::now(), transport, message })
        {
            tracing::debug!("turn: a message was passed over: {error}");
        }
    }

    fn send(&mut self, remote: SocketAddr, packet: Bytes) {
        let Some(mut relay) = self.relayed.and_then(|relayed| self.client.relay(relayed).ok()) else {
            return;
        };
        if relay.send_to(Instant::now(), &packet, remote).is_ok() {
            return;
        }
        // It needs the server's permission first.
        if self.waiting.len() >= MAX_ASKED && !self.waiting.contains_key(&remote) {
            return;
        }
        let _ = relay.create_permission(Instant::now(), remote);
        let waiting = self.waiting.entry(remote).or_default();
        if waiting.len() < MAX_WAITING {
            waiting.push_back(packet);
        }
    }

    fn event(
        &mut self,
        event: Event,
        hub: &Weak<Hub>,
        told: &mut Option<oneshot::Sender<io::Result<SocketAddr>>>,
    ) -> io::Result<()> {
        match event {
            Event::AllocateResponse(_, relayed) => {
                self.relayed = Some(relayed);
                if let Some(told) = told.take() {
                    let _ = told.send(Ok(relayed));
                }
            }
            Event::AllocateError(_, error) => return Err(io::Error::other(error.to_string())),
            Event::TransactionTimeout(_) if self.relayed.is_none() => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Event::CreatePermissionResponse(_, remote) => {
                for packet in self.waiting.remove(&remote).unwrap_or_default() {
                    self.send(remote, packet);
                }
            }
            Event::CreatePermissionError(_, error) => tracing::debug!("turn: {error}"),
            Event::DataIndicationOrChannelData(_, remote, data) => {
                if let (Some(hub), Some(relayed)) = (hub.upgrade(), self.relayed) {
                    hub.dispatch(relayed, remote, &data);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self) {
        if let Some(mut relay) = self.relayed.and_then(|relayed| self.client.relay(relayed).ok()) {
            let _ = relay.close(Instant::now());
        }
    }
}

//! A TURN server over TCP or TLS for who speaks to one over UDP only.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Server;
use super::wire::Wire;

/// Largest datagram, in bytes.
const MAX_DATAGRAM: usize = 8 << 10;

/// Clients, of which each gets a connection of its own: an allocation belongs to one.
const MAX_CLIENTS: usize = 16;

/// Datagrams that wait while the connection is dialled.
const QUEUE: usize = 256;

/// A UDP port on this machine that leads to the server. Dropping it closes all connections.
pub struct Bridge {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Bridge {
    /// Opens a port at `ip`. The server is dialled when the first datagram comes.
    pub async fn open(server: Server, ip: IpAddr) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind((ip, 0)).await?);
        let address = socket.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(run(socket, server));
        Ok(Self { address, _tasks: tasks })
    }

    /// The server as its clients are to see it.
    pub fn url(&self) -> String {
        format!("turn:{}?transport=udp", self.address)
    }
}

async fn run(socket: Arc<UdpSocket>, server: Server) {
    let mut connections = JoinSet::new();
    let mut clients: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let Ok((len, client)) = socket.recv_from(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        clients.retain(|_, queue| !queue.is_closed());
        if !clients.contains_key(&client) {
            if clients.len() >= MAX_CLIENTS {
                continue;
            }
            let (queue, waiting) = mpsc::channel(QUEUE);
            connections.spawn(serve(Arc::clone(&socket), server.clone(), client, waiting));
            clients.insert(client, queue);
        }
        if let (Some(queue), Some(datagram)) = (clients.get(&client), buffer.get(..len)) {
            let _ = queue.try_send(datagram.to_vec());
        }
    }
}

async fn serve(
    socket: Arc<UdpSocket>,
    server: Server,
    client: SocketAddr,
    mut waiting: mpsc::Receiver<Vec<u8>>,
) {
    let mut wire = match Wire::dial(&server).await {
        Ok((wire, _)) => wire,
        Err(error) => {
            tracing::warn!("turn: cannot reach {server:?}: {error}");
            return;
        }
    };
    let sender = wire.sender();
    loop {
        tokio::select! {
            datagram = waiting.recv() => match datagram {
                Some(datagram) => sender.send(&datagram),
                None => return,
            },
            message = wire.receive() => match message {
                Ok(message) => drop(socket.try_send_to(&message, client)),
                Err(error) => {
                    tracing::debug!("turn: {server:?}: {error}");
                    return;
                }
            },
        }
    }
}

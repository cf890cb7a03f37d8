//! Listeners: where to bind, and the loop that takes connections.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::error::Error;

/// Pause after a connection could not be accepted, such as when all file descriptors are in use.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// From one line about connections that are too many to the next.
const REFUSED_EVERY: Duration = Duration::from_secs(10);

/// Binds `host:port`; an empty host is every address of both families.
pub async fn listen(address: &str) -> Result<TcpListener, Error> {
    let explain = |error: io::Error| {
        let mut error = Error::from(error);
        error.message = format!("cannot listen on {address}: {}", error.message);
        error
    };
    match address.strip_prefix(':') {
        None => TcpListener::bind(address).await.map_err(explain),
        Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
            Ok(listener) => Ok(listener),
            // A machine without IPv6.
            Err(_) => TcpListener::bind(format!("0.0.0.0:{port}")).await.map_err(explain),
        },
    }
}

/// The address as configured, with the port that was bound.
pub(super) fn shown(configured: &str, bound: SocketAddr) -> String {
    match configured.rsplit_once(':') {
        Some((host, _)) => format!("{host}:{}", bound.port()),
        None => bound.to_string(),
    }
}

/// Runs `connection` for every connection of the listeners, `max` at once (more are closed unanswered), until this future
/// is dropped, which ends them, or until the last has left after `draining`. `drained` is called when nothing listens any
/// more.
pub async fn accept<F: Future<Output = ()> + Send + 'static>(
    listeners: Vec<TcpListener>,
    max: usize,
    connection: impl Fn(TcpStream, SocketAddr) -> F,
    draining: impl Future<Output = ()>,
    drained: impl FnOnce(),
) {
    let mut connections = JoinSet::new();
    let mut refused = Refused::default();
    let mut draining = pin!(draining);
    loop {
        tokio::select! {
            () = &mut draining => break,
            accepted = accept_any(&listeners) => match accepted {
                Ok((stream, remote)) if connections.len() < max => {
                    connections.spawn(connection(stream, remote));
                }
                Ok((_, remote)) => refused.one(max, remote, Instant::now()),
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!("a connection panicked");
                }
            }
        }
    }
    drop(listeners);
    drained();
    while connections.join_next().await.is_some() {}
}

/// Connections that were one too many: told when it begins, then their number now and then.
#[derive(Default)]
struct Refused {
    count: u64,
    told: Option<Instant>,
}

impl Refused {
    fn one(&mut self, max: usize, remote: SocketAddr, now: Instant) {
        self.count += 1;
        if self.told.is_none_or(|told| now.saturating_duration_since(told) >= REFUSED_EVERY) {
            tracing::warn!(max, refused = self.count, last = %remote.ip(), "too many connections");
            (self.count, self.told) = (0, Some(now));
        }
    }
}

/// The next connection of any listener.
async fn accept_any(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, oneshot};
    use tokio::time::timeout;
    use tokio_util::sync::CancellationToken;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    async fn is_closed(stream: &TcpStream) {
        timeout(PATIENCE, stream.readable()).await.unwrap().unwrap();
        assert!(matches!(stream.try_read(&mut [0]), Ok(0)));
    }

    #[tokio::test]
    async fn connections_past_the_limit_are_closed_and_the_others_outlive_the_listeners() {
        let listeners = vec![listen("127.0.0.1:0").await.unwrap(), listen("127.0.0.1:0").await.unwrap()];
        let addresses: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
        let (drain, draining) = oneshot::channel::<()>();
        let (drained, is_drained) = oneshot::channel();
        let (came, mut coming) = mpsc::unbounded_channel();
        let leave = CancellationToken::new();
        let leaving = leave.clone();
        let connection = move |stream: TcpStream, _| {
            let (came, leaving) = (came.clone(), leaving.clone());
            async move {
                came.send(()).unwrap();
                leaving.cancelled().await;
                drop(stream);
            }
        };
        let draining = async { drop(draining.await) };
        let serving = tokio::spawn(accept(listeners, 2, connection, draining, || drained.send(()).unwrap()));
        let mut inside = Vec::new();
        for address in &addresses {
            inside.push(TcpStream::connect(address).await.unwrap());
            timeout(PATIENCE, coming.recv()).await.unwrap().unwrap();
        }
        is_closed(&TcpStream::connect(addresses[0]).await.unwrap()).await;
        drain.send(()).unwrap();
        timeout(PATIENCE, is_drained).await.unwrap().unwrap();
        assert!(TcpStream::connect(addresses[0]).await.is_err(), "nothing listens");
        assert!(!serving.is_finished());
        leave.cancel();
        timeout(PATIENCE, serving).await.unwrap().unwrap();
        for stream in &inside {
            is_closed(stream).await;
        }
    }

    #[test]
    fn the_port_that_was_bound_is_shown() {
        let bound = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(shown(":0", bound("[::]:8554")), ":8554");
        assert_eq!(shown("127.0.0.1:0", bound("127.0.0.1:4000")), "127.0.0.1:4000");
    }
}

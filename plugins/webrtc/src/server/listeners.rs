//! The sockets of all sessions, at the addresses that the machine has now: DHCP, another network or a late link change them.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use patchbay_sdk::Error;
use patchbay_sdk::api::message::Listening;
use patchbay_sdk::server::Context;
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;

use super::Engine;
use crate::candidate;
use crate::config::{Config, Listen, Transport};
use crate::mux::{Hub, Mux};

/// How often the addresses are looked at while nobody comes.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Why something is not listened on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum ListenError {
    /// The setting cannot be read.
    #[error("listen: {listen:?} is no address")]
    Unreadable {
        /// The setting.
        listen: String,
    },
    /// Nothing to bind at: no network yet, or the filters leave nothing.
    #[error("this machine has none of the addresses to listen on")]
    Away,
    /// The system does not let it.
    #[error("cannot listen on {listen:?}: {why}")]
    Refused {
        /// The setting.
        listen: String,
        /// The system's reason.
        why: String,
    },
}

/// All sockets, and what they are bound by.
#[derive(Default)]
pub(super) struct Listeners {
    mux: Mux,
    /// What the host name in `listen` stands for.
    resolved: Vec<IpAddr>,
}

impl Listeners {
    /// What sessions need of them.
    pub(super) fn hub(&self) -> &Arc<Hub> {
        self.mux.hub()
    }

    /// Binds what is missing and leaves what the machine has no more. After an error the rest is bound, and another call tries it again.
    pub(super) async fn look(&mut self, config: &Config) -> Result<(), ListenError> {
        let listen = Listen::parse(&config.listen);
        if listen.is_none() && !config.listen.is_empty() {
            return Err(ListenError::Unreadable { listen: config.listen.clone() });
        }
        let refused = |why: String| ListenError::Refused { listen: config.listen.clone(), why };
        let host = listen.as_ref().map_or("", |listen| listen.host.as_str());
        let ips = self.addresses(host, config).await.map_err(|error| refused(error.to_string()))?;
        let allowed = |transport: Transport| {
            let ips = ips.iter().copied();
            ips.filter(|ip| config.filters.allows_network(transport, *ip)).collect::<Vec<_>>()
        };
        let (udp, tcp) = (allowed(Transport::Udp), allowed(Transport::Tcp));
        // Without UDP on the fixed port sessions use one that the system chooses.
        let port = listen.as_ref().filter(|listen| listen.udp).map_or(0, |listen| listen.port);
        let mut failed = self.mux.bind(Instant::now(), &udp, port).map(|error| error.to_string());
        if !self.hub().udp_addresses().is_empty() {
            // Enough that one is bound: some are not ready at first.
            failed = None;
        }
        if let Some(listen) = listen.as_ref().filter(|listen| listen.tcp && !tcp.is_empty()) {
            failed = self.accept(listen).await.err().map(|error| error.message).or(failed);
        }
        self.mux.reached_at(if listen.as_ref().is_some_and(|listen| listen.tcp) { &tcp } else { &[] });
        match failed {
            Some(why) => Err(refused(why)),
            None if ips.is_empty() => Err(ListenError::Away),
            None => Ok(()),
        }
    }

    /// The addresses that `host` stands for, as far as the machine has them.
    async fn addresses(&mut self, host: &str, config: &Config) -> std::io::Result<Vec<IpAddr>> {
        if is_any(host) {
            return candidate::local_addresses(&config.filters);
        }
        if let Ok(ip) = host.parse() {
            return Ok(Some(ip).filter(|ip| is_here(*ip)).into_iter().collect());
        }
        // Asked once: a name server that is slow or away must not hold up players.
        if self.resolved.is_empty() {
            let found = tokio::net::lookup_host((host, 0)).await?;
            self.resolved = found.map(|address| address.ip()).collect();
        }
        Ok(self.resolved.clone())
    }

    /// Listens on TCP, if it does not yet.
    async fn accept(&mut self, listen: &Listen) -> Result<(), Error> {
        if self.hub().tcp_port().is_some() {
            return Ok(());
        }
        // With port 0 both are the one that UDP got.
        let port = match listen.port {
            0 => self.hub().udp_addresses().first().map_or(0, SocketAddr::port),
            port => port,
        };
        let listener: TcpListener = patchbay_sdk::server::listen(&address(&listen.host, port)).await?;
        self.mux.listen(listener);
        Ok(())
    }
}

/// Whether `host` stands for every address.
fn is_any(host: &str) -> bool {
    matches!(host, "" | "0.0.0.0" | "::")
}

/// `host:port`, as it is bound.
fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Whether the machine has an address now.
fn is_here(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).map_or_else(|error| error.kind() != ErrorKind::AddrNotAvailable, |_| true)
}

/// Looks at the addresses for ever, and tells the host what is listened on. Ends when nothing can be: the first time for another reason
/// than a network that is away.
pub(super) async fn keep(engine: &Engine, context: &Context) -> Error {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told, mut is_first, mut has_warned) = (Vec::new(), true, false);
    loop {
        every.tick().await;
        let (hub, looked) = match engine.look().await {
            Ok(both) => both,
            Err(error) => return error,
        };
        match looked {
            Ok(()) => has_warned = false,
            Err(error) if is_first && !is_bound(&hub) && !matches!(error, ListenError::Away) => {
                return Error::unsupported(error.to_string());
            }
            Err(_) if has_warned => {}
            Err(error) => {
                has_warned = true;
                let seconds = LOOK_EVERY.as_secs();
                tracing::warn!("{error}; tried again every {seconds} s and whenever somebody comes");
            }
        }
        is_first = false;
        if let Err(error) = tell(&engine.config.listen, &hub, context, &mut told) {
            return error;
        }
    }
}

/// Whether anything is listened on.
pub(super) fn is_bound(hub: &Hub) -> bool {
    hub.tcp_port().is_some() || !hub.udp_addresses().is_empty()
}

/// Tells the host what is listened on, once.
fn tell(listen: &str, hub: &Hub, context: &Context, told: &mut Vec<&'static str>) -> Result<(), Error> {
    let host = listen.split('/').next().and_then(|a| a.rsplit_once(':')).map_or("", |(host, _)| host);
    let mut info = serde_json::Map::new();
    info.insert("listen".to_owned(), listen.into());
    let udp = hub.udp_addresses().first().map(SocketAddr::port);
    for (name, port) in [("tcp", hub.tcp_port()), ("udp", udp)] {
        if let Some(port) = port.filter(|_| !told.contains(&name)) {
            let addr = format!("{host}:{port}/{name}");
            context.listening(&Listening { protocol: "webrtc".to_owned(), addr, info: info.clone() })?;
            told.push(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str) -> Config {
        Config { listen: listen.to_owned(), ..Config::default() }
    }

    #[tokio::test]
    async fn an_address_that_is_not_there_yet_is_no_refusal() {
        // 192.0.2.0/24 is for documentation (RFC 5737): no machine has it.
        let mut listeners = Listeners::default();
        let looked = listeners.look(&config("192.0.2.1:18555")).await;
        assert!(matches!(looked, Err(ListenError::Away)) && !is_bound(listeners.hub()), "{looked:?}");
        // The same sockets, once it is there.
        listeners.look(&config("127.0.0.1:0")).await.unwrap();
        let (udp, tcp) = (listeners.hub().udp_addresses(), listeners.hub().tcp_addresses());
        assert_eq!((udp.len(), &udp), (1, &tcp));
        let generation = listeners.hub().generation();
        listeners.look(&config("127.0.0.1:0")).await.unwrap();
        assert_eq!((listeners.hub().udp_addresses(), listeners.hub().generation()), (udp, generation));
        // And when it is gone again.
        let looked = listeners.look(&config("192.0.2.1:18555")).await;
        assert!(matches!(looked, Err(ListenError::Away)), "{looked:?}");
        assert!(listeners.hub().udp_addresses().is_empty() && listeners.hub().generation() > generation);
    }

    #[tokio::test]
    async fn a_port_of_somebody_else_is_a_refusal() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let listen = format!("{}/udp", taken.local_addr().unwrap());
        let mut listeners = Listeners::default();
        let looked = listeners.look(&config(&listen)).await;
        assert!(matches!(looked, Err(ListenError::Refused { .. })), "{looked:?}");
        drop(taken);
        listeners.look(&config(&listen)).await.unwrap();
        assert!(listeners.look(&config("nothing")).await.is_err());
    }
}

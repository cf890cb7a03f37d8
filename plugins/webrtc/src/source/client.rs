//! A connection that this side makes: the `webrtc` crate gathers candidates, asks STUN and TURN servers and drives it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use patchbay_sdk::{Class, Error};
use rtc::crypto::RTCCryptoProvider;
use rtc::interceptor::{Registry, Slot};
use rtc::peer_connection::configuration::RTCIceTransportPolicy;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use tokio::sync::{mpsc, watch};
use webrtc::data_channel::DataChannel;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCIceCandidateInit, RTCIceGatheringState, RTCIceServer, RTCPeerConnectionIceEvent,
    RTCPeerConnectionState, RTCSessionDescription, SettingEngineBuilder, register_default_interceptors,
};

use crate::candidate;
use crate::config::{Config, IceServer, Transport};
use crate::peer::feedback::{Feedback, Listener, Seen};
use crate::sdp::Description;
use crate::service::talk::Voice;
use crate::turn::{self, Bridge};

mod sections;

use sections::engine;

/// Packets and events that wait; packets past that are lost.
const QUEUE: usize = 2048;

/// Bytes of a data channel that the other side has not taken yet; more wait.
const SEND_BUFFER: usize = 1 << 20;

/// How long candidates are gathered before what there is is used.
const GATHER_LIMIT: Duration = Duration::from_secs(4);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    /// Video and audio are offered.
    Both,
    /// Video alone is offered.
    Video,
    /// The other side offers.
    Answer,
}

/// How the other side is reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way<'a> {
    /// STUN and TURN servers.
    pub(crate) ice_servers: &'a [IceServer],
    /// Only through a TURN server.
    pub(crate) relay_only: bool,
}

/// What comes of a connection.
pub enum Event {
    /// A candidate of this side, for the other one.
    Candidate(String),
    /// There will be no more candidates.
    Gathered,
    /// Media may flow.
    Connected,
    /// It is over, and why.
    Over(&'static str),
    /// The other side has opened a data channel.
    Channel(Arc<dyn DataChannel>),
    /// A media packet.
    Packet(rtc::rtp::Packet),
    /// A sender report.
    SenderReport {
        /// The reported stream.
        ssrc: u32,
        /// NTP time.
        ntp: u64,
        /// RTP time of the same instant.
        rtp_time: u32,
    },
}

/// A connection, from its offer to its end.
pub struct Client {
    connection: Arc<dyn PeerConnection>,
    events: mpsc::Receiver<Event>,
    tracks: Arc<Tracks>,
    remote: String,
    is_connected: bool,
    voice: watch::Sender<Option<Voice>>,
    /// Ways to TURN servers that are not reached over UDP.
    _bridges: Vec<Bridge>,
}

struct Handler {
    events: mpsc::Sender<Event>,
    feedback: Arc<Mutex<Feedback>>,
    tracks: Arc<Tracks>,
}

/// What the other side sends.
#[derive(Default)]
pub struct Tracks(Mutex<Vec<Arc<dyn TrackRemote>>>);

impl Tracks {
    /// Asks for key units of these streams.
    pub fn want_keyframes(&self, streams: Vec<u32>) {
        let tracks = self.0.lock().clone();
        tokio::spawn(async move {
            for track in tracks {
                for media_ssrc in track.ssrcs().await.into_iter().filter(|ssrc| streams.contains(ssrc)) {
                    let _ = track
                        .write_rtcp(vec![Box::new(PictureLossIndication { sender_ssrc: 0, media_ssrc })])
                        .await;
                }
            }
        });
    }
}

impl Handler {
    fn tell(&self, event: Event) {
        let _ = self.events.try_send(event);
    }
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        if let Ok(init) = event.candidate.to_json() {
            self.tell(Event::Candidate(candidate::normalised(&init.candidate)));
        }
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.tell(Event::Gathered);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        match state {
            RTCPeerConnectionState::Connected => self.tell(Event::Connected),
            RTCPeerConnectionState::Disconnected => self.tell(Event::Over("disconnected")),
            RTCPeerConnectionState::Failed => self.tell(Event::Over("failed")),
            RTCPeerConnectionState::Closed => self.tell(Event::Over("closed")),
            _ => {}
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        self.tell(Event::Channel(channel));
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        self.tracks.0.lock().push(Arc::clone(&track));
        let (events, feedback) = (self.events.clone(), Arc::clone(&self.feedback));
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                let TrackRemoteEvent::OnRtpPacket(packet) = event else { continue };
                let seen = std::mem::take(&mut feedback.lock().seen);
                for seen in seen {
                    if let Seen::SenderReport { ssrc, ntp, rtp_time } = seen {
                        let _ = events.try_send(Event::SenderReport { ssrc, ntp, rtp_time });
                    }
                }
                if let Err(mpsc::error::TrySendError::Closed(_)) = events.try_send(Event::Packet(packet)) {
                    return;
                }
            }
        });
    }
}

impl Client {
    /// A connection that is not dialled yet.
    pub(crate) async fn new(
        config: &Config,
        crypto: &Arc<dyn RTCCryptoProvider>,
        way: Way<'_>,
        wants: Wants,
    ) -> Result<Self, Error> {
        let (sender, events) = mpsc::channel(QUEUE);
        let feedback: Arc<Mutex<Feedback>> = Arc::default();
        let tracks: Arc<Tracks> = Arc::default();
        let handler = Arc::new(Handler {
            events: sender,
            feedback: Arc::clone(&feedback),
            tracks: Arc::clone(&tracks),
        });
        let mut engine = engine().map_err(failed)?;
        let registry = register_default_interceptors(Registry::new(), &mut engine).map_err(failed)?;
        let registry = registry.with(Slot::from(crate::peer::setup::LISTENER_SLOT), Listener::new(feedback));
        let local = addresses(config);
        let (servers, bridges) = bridged(way.ice_servers, &local).await;
        let policy = if way.relay_only { RTCIceTransportPolicy::Relay } else { RTCIceTransportPolicy::All };
        let configuration = RTCConfigurationBuilder::new()
            .with_ice_servers(servers)
            .with_ice_transport_policy(policy)
            .build();
        let connection = PeerConnectionBuilder::new()
            .with_configuration(configuration)
            .with_media_engine(engine)
            .with_setting_engine(SettingEngineBuilder::new().with_crypto_provider(Arc::clone(crypto)).build())
            .with_interceptor_registry(registry)
            .with_handler(handler)
            .with_udp_addrs(local)
            .with_data_channel_send_buffer_limit(SEND_BUFFER)
            .build()
            .await
            .map_err(failed)?;
        let connection: Arc<dyn PeerConnection> = Arc::new(connection);
        let kinds: &[RtpCodecKind] = match wants {
            Wants::Both => &[RtpCodecKind::Video, RtpCodecKind::Audio],
            Wants::Video => &[RtpCodecKind::Video],
            Wants::Answer => &[],
        };
        for kind in kinds {
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                streams: Vec::new(),
                send_encodings: Vec::new(),
            };
            connection.add_transceiver_from_kind(*kind, Some(init)).await.map_err(failed)?;
        }
        Ok(Self {
            connection,
            events,
            tracks,
            remote: String::new(),
            is_connected: false,
            voice: watch::channel(None).0,
            _bridges: bridges,
        })
    }

    /// This side's offer; candidates follow as events.
    pub(super) async fn offer(&self) -> Result<String, Error> {
        let offer = self.connection.create_offer(None).await.map_err(failed)?;
        self.connection.set_local_description(offer.clone()).await.map_err(failed)?;
        Ok(offer.sdp)
    }

    /// This side's offer with all candidates.
    pub(super) async fn whole_offer(&mut self) -> Result<String, Error> {
        let offer = self.offer().await?;
        self.gather().await?;
        Ok(self.connection.local_description().await.map_or(offer, |description| description.sdp))
    }

    /// Answers the other side's offer, with all candidates.
    pub(super) async fn answer(&mut self, offer: &str) -> Result<String, Error> {
        let text = reduced(offer)?;
        let offer = RTCSessionDescription::offer(crate::sdp::one_transport(&text)).map_err(failed)?;
        self.connection.set_remote_description(offer).await.map_err(failed)?;
        self.remote = text;
        let answer = self.connection.create_answer(None).await.map_err(failed)?;
        self.connection.set_local_description(answer.clone()).await.map_err(failed)?;
        self.gather().await?;
        Ok(self.connection.local_description().await.map_or(answer.sdp, |description| description.sdp))
    }

    async fn gather(&mut self) -> Result<(), Error> {
        let gathered = tokio::time::timeout(GATHER_LIMIT, async {
            loop {
                match self.next().await {
                    Event::Gathered => return Ok(()),
                    Event::Over(why) => return Err(Error::new(Class::Timeout, format!("webrtc: {why}"))),
                    _ => {}
                }
            }
        });
        // What there is after the time is used.
        gathered.await.unwrap_or(Ok(()))
    }

    /// Takes the other side's answer.
    pub(super) async fn accept(&mut self, answer: &str) -> Result<(), Error> {
        let text = reduced(answer)?;
        let answer = RTCSessionDescription::answer(text.clone()).map_err(failed)?;
        self.connection.set_remote_description(answer).await.map_err(failed)?;
        self.remote = text;
        Ok(())
    }

    /// Takes a candidate of the other side.
    pub(crate) async fn add_candidate(&self, line: &str) {
        let candidate = candidate::normalised(line);
        if !candidate::is_usable(&candidate) {
            return;
        }
        let init = RTCIceCandidateInit { candidate, ..RTCIceCandidateInit::default() };
        if let Err(error) = self.connection.add_ice_candidate(init).await {
            tracing::debug!("a candidate cannot be used: {error}");
        }
    }

    /// What the other side described.
    pub(super) fn remote_description(&self) -> &str {
        &self.remote
    }

    /// Whether media may flow.
    pub(super) fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// What comes next. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Event {
        let event = self.events.recv().await.unwrap_or(Event::Over("closed"));
        self.is_connected |= matches!(event, Event::Connected);
        event
    }

    /// Waits for something on the way to a connection; its end is an error.
    pub(super) async fn advance(&mut self) -> Result<Option<String>, Error> {
        match self.next().await {
            Event::Candidate(line) => Ok(Some(line)),
            Event::Over(why) => Err(Error::new(Class::Timeout, format!("webrtc: {why}"))),
            _ => Ok(None),
        }
    }

    /// Asks for key units of these streams.
    pub(super) fn want_keyframes(&self, streams: Vec<u32>) {
        self.tracks.want_keyframes(streams);
    }

    /// What the other side sends.
    pub(crate) fn tracks(&self) -> Arc<Tracks> {
        Arc::clone(&self.tracks)
    }

    /// The connection itself.
    pub(crate) fn connection(&self) -> &dyn PeerConnection {
        &*self.connection
    }

    /// Takes the events for somebody else; [`Client::next`] brings none any more.
    pub(crate) fn take_events(&mut self) -> mpsc::Receiver<Event> {
        std::mem::replace(&mut self.events, mpsc::channel(1).1)
    }

    /// Ends the connection and tells the other side.
    pub(crate) async fn close(&mut self) {
        let _ = self.connection.close().await;
    }
}

/// A description with what the connection's own parser does not like taken out.
fn reduced(text: &str) -> Result<String, Error> {
    let description = Description::parse(text).map_err(|error| Error::protocol(error.to_string()))?;
    Ok(description.reduced(&[]))
}

/// What the connection complains of.
pub(crate) fn failed(error: rtc::shared::error::Error) -> Error {
    Error::protocol(format!("webrtc: {error}"))
}

/// Where to send from: each of the machine's addresses, at a port of the configured range or of the system's choice.
fn addresses(config: &Config) -> Vec<SocketAddr> {
    let ips = candidate::local_addresses(&config.filters).unwrap_or_default();
    let allowed = ips.into_iter().filter(|ip| config.filters.allows_network(Transport::Udp, *ip));
    let range = match config.filters.udp_ports.as_deref() {
        Some([first, last]) => Some((*first, *last)),
        _ => None,
    };
    allowed.map(|ip| SocketAddr::new(ip, range.map_or(0, |range| free_port(ip, range)))).collect()
}

/// The servers as the `webrtc` crate takes them: TURN servers over TCP and TLS get a UDP port on this machine, one per family.
async fn bridged(servers: &[IceServer], local: &[SocketAddr]) -> (Vec<RTCIceServer>, Vec<Bridge>) {
    let mut bridges = Vec::new();
    let mut out = Vec::new();
    for server in servers {
        let username = server.username.clone().unwrap_or_default();
        let credential = server.credential.clone().unwrap_or_default();
        let mut urls = Vec::new();
        for url in &server.urls {
            let turn = turn::Server::parse(url, &username, &credential);
            let Some(turn) = turn.filter(|turn| turn.carrier != turn::Carrier::Udp) else {
                urls.push(url.clone());
                continue;
            };
            for v4 in [true, false] {
                let Some(ip) = local.iter().map(SocketAddr::ip).find(|ip| ip.is_ipv4() == v4) else {
                    continue;
                };
                match Bridge::open(turn.clone(), ip).await {
                    Ok(bridge) => {
                        urls.push(bridge.url());
                        bridges.push(bridge);
                    }
                    Err(error) => tracing::warn!("turn: no port for {turn:?}: {error}"),
                }
            }
        }
        out.push(RTCIceServer { urls, username, credential });
    }
    (out, bridges)
}

/// A port of the range that is free now, else one of the system's choice.
fn free_port(ip: IpAddr, (first, last): (u16, u16)) -> u16 {
    let span = u32::from(last.saturating_sub(first)) + 1;
    let start = rand::random::<u32>() % span;
    let ports = (0..span).map(|step| u32::from(first) + (start + step) % span);
    let mut ports = ports.filter_map(|port| u16::try_from(port).ok());
    ports.find(|port| UdpSocket::bind((ip, *port)).is_ok()).unwrap_or(0)
}

//! Data channels of one connection, by number.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use patchbay_sdk::service::Sender;
use patchbay_sdk::service::webrtc::{Channel, ChannelState, Data, MAX_CHANNELS, MAX_DATA};
use patchbay_sdk::{Error, spawn};
use tokio_util::sync::CancellationToken;
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};

/// The data channels. Each has a task of its own, because the caller may be slow.
pub(super) struct Channels {
    answers: Sender,
    gone: CancellationToken,
    open: Mutex<Vec<Arc<dyn DataChannel>>>,
}

/// What the `webrtc` crate calls a channel's properties.
pub(super) fn init(channel: &Channel) -> RTCDataChannelInit {
    RTCDataChannelInit {
        ordered: channel.ordered,
        max_packet_life_time: channel.max_packet_life_time.filter(|_| channel.max_retransmits.is_none()),
        max_retransmits: channel.max_retransmits,
        protocol: channel.protocol.clone(),
        negotiated: channel.negotiated,
    }
}

impl Channels {
    /// No channels yet. Their tasks end with `gone`.
    pub(super) fn new(answers: Sender, gone: CancellationToken) -> Self {
        Self { answers, gone, open: Mutex::default() }
    }

    /// Takes a channel; `is_open`: the peer has opened it.
    pub(super) async fn add(&self, channel: Arc<dyn DataChannel>, is_open: bool) -> Result<(), Error> {
        let number = {
            let mut open = self.open.lock();
            if open.len() >= MAX_CHANNELS {
                tracing::debug!("a data channel past {MAX_CHANNELS} is passed over");
                return Ok(());
            }
            open.push(Arc::clone(&channel));
            u32::try_from(open.len() - 1).unwrap_or(u32::MAX)
        };
        let state = ChannelState {
            channel: number,
            label: channel.label().await.unwrap_or_default(),
            protocol: channel.protocol().await.unwrap_or_default(),
            ordered: channel.ordered().await.unwrap_or(true),
            open: false,
        };
        let (answers, gone) = (self.answers.clone(), self.gone.clone());
        spawn(async move {
            tokio::select! {
                // How it ends is told by the conversation.
                _ = listen(&*channel, &answers, state, is_open) => {}
                () = gone.cancelled() => {}
            }
        });
        Ok(())
    }

    /// Sends the caller's message; waits while the peer is slow.
    pub(super) async fn send(&self, data: Data, bytes: &Bytes) -> Result<(), Error> {
        let channel = self.open.lock().get(data.channel as usize).cloned();
        let channel = channel
            .ok_or_else(|| Error::protocol(format!("webrtc: there is no data channel {}", data.channel)))?;
        if bytes.len() > MAX_DATA {
            return Err(Error::protocol(format!("webrtc: a message of more than {MAX_DATA} bytes")));
        }
        let sent = if data.text {
            let text =
                std::str::from_utf8(bytes).map_err(|_| Error::protocol("webrtc: text that is not UTF-8"))?;
            channel.send_text(text).await
        } else {
            channel.send(BytesMut::from(&bytes[..])).await
        };
        if let Err(error) = sent {
            // The caller hears that it is closed.
            tracing::debug!(channel = data.channel, "a message was not sent: {error}");
        }
        Ok(())
    }
}

/// Tells what a channel does until it is closed.
async fn listen(
    channel: &dyn DataChannel,
    answers: &Sender,
    mut state: ChannelState,
    is_open: bool,
) -> Result<(), Error> {
    if is_open {
        state.open = true;
        answers.send("channel", &state)?;
    }
    while let Some(event) = channel.poll().await {
        match event {
            DataChannelEvent::OnOpen if !state.open => {
                state.open = true;
                answers.send("channel", &state)?;
            }
            DataChannelEvent::OnMessage(message) if message.data.len() <= MAX_DATA => {
                let data = Data { channel: state.channel, text: message.is_string };
                answers.send_bytes("data", &data, &message.data).await?;
            }
            DataChannelEvent::OnClose => break,
            _ => {}
        }
    }
    state.open = false;
    answers.send("channel", &state)
}

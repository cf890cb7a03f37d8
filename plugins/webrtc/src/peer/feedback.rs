//! RTCP of the peer that matters here: requests for key units and for lost packets, and sender reports.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

/// Most that is remembered between two looks.
const MAX_SEEN: usize = 256;

/// Something that the peer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It cannot go on without a key unit of this stream.
    KeyframeWanted {
        /// The stream.
        ssrc: u32,
    },
    /// It lacks packets of this stream.
    Lost {
        /// The stream.
        ssrc: u32,
        /// Number of the first one.
        sequence: u16,
        /// Which of the sixteen behind it, the next one lowest.
        also: u16,
    },
    /// Wall time of a stream that it sends.
    SenderReport {
        /// The stream.
        ssrc: u32,
        /// NTP time.
        ntp: u64,
        /// RTP time of the same instant.
        rtp_time: u32,
    },
}

/// What was seen since the last look.
#[derive(Debug, Default)]
pub struct Feedback {
    /// The oldest first.
    pub seen: VecDeque<Seen>,
}

impl Feedback {
    fn note(&mut self, seen: Seen) {
        if self.seen.len() < MAX_SEEN && self.seen.back() != Some(&seen) {
            self.seen.push_back(seen);
        }
    }
}

/// Looks at packets on their way in and changes nothing: by itself RTCP ends inside the connection.
pub(crate) struct Listener {
    feedback: Arc<Mutex<Feedback>>,
    inbound: VecDeque<TaggedPacket>,
    outbound: VecDeque<TaggedPacket>,
}

impl Listener {
    /// A listener that notes what it hears.
    pub(crate) fn new(feedback: Arc<Mutex<Feedback>>) -> Self {
        Self { feedback, inbound: VecDeque::new(), outbound: VecDeque::new() }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Listener {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &message.message.packet {
            let mut feedback = self.feedback.lock();
            for packet in packets {
                let any = packet.as_any();
                if let Some(request) = any.downcast_ref::<PictureLossIndication>() {
                    feedback.note(Seen::KeyframeWanted { ssrc: request.media_ssrc });
                } else if let Some(request) = any.downcast_ref::<FullIntraRequest>() {
                    for entry in &request.fir {
                        feedback.note(Seen::KeyframeWanted { ssrc: entry.ssrc });
                    }
                } else if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
                    for pair in &nack.nacks {
                        let (sequence, also) = (pair.packet_id, pair.lost_packets);
                        feedback.note(Seen::Lost { ssrc: nack.media_ssrc, sequence, also });
                    }
                } else if let Some(report) = any.downcast_ref::<SenderReport>() {
                    let (ssrc, ntp, rtp_time) = (report.ssrc, report.ntp_time, report.rtp_time);
                    feedback.note(Seen::SenderReport { ssrc, ntp, rtp_time });
                }
            }
        }
        self.inbound.push_back(message);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.inbound.pop_front()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Result<(), Error> {
        self.outbound.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.outbound.pop_front()
    }

    fn handle_timeout(&mut self, _: Instant) -> Result<(), Error> {
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }
}

impl Interceptor for Listener {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

//! Where a camera says that its tracks begin (`RTP-Info`, RFC 2326 section 12.33; C82).

use std::time::Duration;

use patchbay_rtp::RtpPacket;

/// Most medias that are listened to.
const MEDIAS_MAX: usize = 32;
/// Packets that may be lost before the first one that comes.
const LOST_MAX: u16 = 16;
/// Seconds between the instant that is told and the first packet.
const AWAY_MAX_S: i64 = 10;
/// A track is not set further from its arrival than this.
const DISAGREEMENT_MAX_NS: i128 = 2_000_000_000;
/// The same where the times that are told are those of the first packets: some servers put these there, which are not of one
/// instant. It is less than is seen.
const PLAIN_MAX_NS: i128 = 40_000_000;

/// One instant of each media, as the answer to PLAY tells it. Many cameras lie: what does not fit the packets that come is
/// not used, and sender reports overrule it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Starts {
    /// Sequence number of a media's first packet, and its RTP time at the instant.
    told: Vec<(u16, u32)>,
    /// When the instant was, by the first packet that fits; and whether that had just this time.
    instant: Option<(i128, bool)>,
}

impl Starts {
    /// Reads the value of the header. Medias without a number or a time are left out.
    pub fn parse(value: &str) -> Self {
        let media = |media: &str| {
            let field = |name: &str| {
                let fields = media.split(';').filter_map(|field| field.split_once('='));
                fields.map(|(key, value)| (key.trim(), value.trim())).find(|field| field.0 == name)
            };
            Some((field("seq")?.1.parse().ok()?, field("rtptime")?.1.parse().ok()?))
        };
        Self { told: value.split(',').filter_map(media).take(MEDIAS_MAX).collect(), instant: None }
    }

    /// Whether nothing was told.
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// When the first packet of a media, which came at `arrival`, is presented. `None`: nothing that fits was told.
    pub fn place(&mut self, packet: &RtpPacket, clock_rate: u32, arrival: Duration) -> Option<Duration> {
        let rate = i64::from(clock_rate.max(1));
        let after = |time: u32| i64::from(packet.timestamp.wrapping_sub(time) as i32);
        // The number finds the media: the URLs are often others than those that were set up.
        let fits = |told: &&(u16, u32)| {
            packet.sequence.wrapping_sub(told.0) <= LOST_MAX && after(told.1).abs() <= AWAY_MAX_S * rate
        };
        let ticks = after(self.told.iter().find(fits)?.1);
        let after_ns = i128::from(ticks) * 1_000_000_000 / i128::from(rate);
        let arrival_ns = i128::try_from(arrival.as_nanos()).ok()?;
        let Some((instant_ns, is_plain)) = self.instant else {
            self.instant = Some((arrival_ns - after_ns, ticks == 0));
            return Some(arrival);
        };
        let at_ns = instant_ns + after_ns;
        let limit = if is_plain && ticks == 0 { PLAIN_MAX_NS } else { DISAGREEMENT_MAX_NS };
        let at = u64::try_from(at_ns).ok().filter(|_| (at_ns - arrival_ns).abs() <= limit)?;
        Some(Duration::from_nanos(at))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    /// gst-rtsp-server 1.22 with live pictures and sound.
    const GST: &str = "url=rtsp://127.0.0.1:10942/cam/stream=0;seq=9507;rtptime=506678902, \
        url=rtsp://127.0.0.1:10942/cam/stream=1;seq=7340;rtptime=2327482483";
    const NOW: Duration = Duration::from_secs(9);

    fn packet(sequence: u16, timestamp: u32) -> RtpPacket {
        let mut bytes = vec![0x80, 96];
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend([0; 8]);
        RtpPacket::parse(&Bytes::from(bytes)).unwrap()
    }

    #[test]
    fn c82_rtp_info_that_fits_sets_sound_beside_the_picture() {
        let mut starts = Starts::parse(GST);
        assert_eq!(starts.place(&packet(9507, 506_679_568), 90_000, NOW), Some(NOW));
        // The picture was 666 ticks, 7.4 ms, after the sound, which came 92 ms behind it.
        let late = NOW + Duration::from_millis(92);
        assert_eq!(
            starts.place(&packet(7340, 2_327_482_483), 8_000, late),
            Some(NOW - Duration::from_micros(7400))
        );
    }

    #[test]
    fn c82_rtp_info_that_does_not_fit_is_nothing() {
        for odd in [
            "url=rtsp://other/trackID=1;seq=0;rtptime=-1;",
            "url=trackID=1;seq=65536;rtptime=99999999999",
            "url=trackID=1;seq=9507",
            ",;=",
            "",
        ] {
            assert!(Starts::parse(odd).is_empty(), "{odd}");
        }
        let mut starts = Starts::parse(GST);
        assert_eq!(starts.place(&packet(9506, 506_679_568), 90_000, NOW), None, "a number from before");
        assert_eq!(starts.place(&packet(9524, 506_679_568), 90_000, NOW), None, "a number far ahead");
        assert_eq!(starts.place(&packet(9507, 1_506_679_568), 90_000, NOW), None, "a time of another count");
        assert_eq!(starts.place(&packet(9507, 506_679_568), 90_000, NOW), Some(NOW));
        let late = NOW + Duration::from_secs(3);
        assert_eq!(
            starts.place(&packet(7340, 2_327_482_483), 8_000, late),
            None,
            "the sound would be 3 s early"
        );
    }

    #[test]
    fn c82_times_of_the_first_packets_are_believed_as_far_as_is_not_seen() {
        for (late_ms, is_believed) in [(39, true), (41, false)] {
            let mut starts = Starts::parse("seq=1;rtptime=10,seq=65000;rtptime=20");
            assert_eq!(starts.place(&packet(1, 10), 90_000, NOW), Some(NOW));
            let late = NOW + Duration::from_millis(late_ms);
            assert_eq!(starts.place(&packet(65_001, 20), 8_000, late), is_believed.then_some(NOW));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_told_a_track_stays_near_its_arrival(
            value in "(url=[a-z/:]{0,9};)?(seq=[0-9]{0,6};?){0,2}(rtptime=[0-9]{0,11})?(,seq=[0-9]{1,5};rtptime=[0-9]{1,10}){0,3}",
            packets in prop::collection::vec((any::<u16>(), any::<u32>(), any::<u32>(), 0_u64..1 << 50), 0..6),
        ) {
            let mut starts = Starts::parse(&value);
            for (sequence, timestamp, rate, arrival) in packets {
                let arrival = Duration::from_nanos(arrival);
                if let Some(at) = starts.place(&packet(sequence, timestamp), rate, arrival) {
                    prop_assert!(at.abs_diff(arrival) <= Duration::from_secs(2));
                }
            }
        }
    }
}

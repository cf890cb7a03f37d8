#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use proptest::prelude::*;

use super::*;

/// Shortened offer of Chromium 156.
const CHROMIUM: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
m=video 9 UDP/TLS/RTP/SAVPF 96 102 103 108 109\r\nc=IN IP4 0.0.0.0\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n\
a=candidate:1 2 udp 1 192.0.2.1 10 typ host\r\na=mid:0\r\na=recvonly\r\na=rtpmap:96 VP8/90000\r\n\
a=rtpmap:102 H264/90000\r\na=rtcp-fb:102 nack pli\r\na=fmtp:102 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f\r\n\
a=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\na=rtpmap:108 H264/90000\r\n\
a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8\r\na=mid:1\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10\r\n";

#[test]
fn an_offer_is_taken_apart() {
    let offer = Description::parse(CHROMIUM).unwrap();
    let [video, audio] = &offer.sections[..] else { panic!("two sections") };
    assert_eq!((video.kind, video.sends, video.receives), (Kind::Video, false, true));
    assert_eq!(video.codecs(), [Codec::Vp8, Codec::H264]);
    assert_eq!(video.format(Codec::H264).unwrap().payload_type, 108, "packetization mode 1");
    assert_eq!((audio.sends, audio.receives), (true, false));
    assert_eq!(audio.codecs(), [Codec::Opus, Codec::PcmMulaw, Codec::PcmAlaw]);
    assert_eq!(audio.formats[0].fmtp, "minptime=10");
}

#[test]
fn only_the_chosen_formats_are_left() {
    let offer = Description::parse(CHROMIUM).unwrap();
    let text = offer.reduced(&[Some(108), Some(8)]);
    assert!(text.contains("m=video 9 UDP/TLS/RTP/SAVPF 108\r\n"));
    assert!(text.contains("m=audio 9 UDP/TLS/RTP/SAVPF 8\r\n"));
    assert!(!text.contains("102") && !text.contains("111") && !text.contains("VP8"));
    assert_eq!(text.matches("a=candidate").count(), 1, "component 1 alone");
    let again = Description::parse(&text).unwrap();
    assert_eq!(again.sections[0].formats.len(), 1);
}

#[test]
fn candidates_stand_in_the_first_section() {
    let answer = Description::parse(CHROMIUM).unwrap().with_candidates(&["candidate:2 x".to_owned()]);
    let (before, after) = answer.split_once("m=audio").unwrap();
    assert!(before.ends_with("a=candidate:2 x\r\na=end-of-candidates\r\n"));
    assert!(!after.contains("candidate"));
    assert_eq!(answer.matches("a=candidate").count(), 1);
}

#[test]
fn what_is_no_description_is_refused() {
    assert_eq!(Description::parse("abc"), Err(SdpError::Syntax("a".to_owned())));
    assert_eq!(Description::parse("v=0\r\nm=application 9 x y\r\n"), Err(SdpError::NoMedia));
    let many = format!("v=0\r\n{}", "m=audio 9 x 0\r\n".repeat(MAX_SECTIONS + 1));
    assert_eq!(Description::parse(&many), Err(SdpError::TooManySections));
    assert_eq!(Description::parse(&"v".repeat(MAX_LEN + 1)), Err(SdpError::TooLong));
}

#[test]
fn fragments_of_a_trickle() {
    let text = "a=ice-ufrag:EsAw\r\na=mid:0\r\na=candidate:1 1 UDP 2130706431 192.0.2.1 54609 typ host\r\n\
                a=candidate:1 2 UDP 1 192.0.2.1 5 typ host\r\na=end-of-candidates\r\n";
    assert_eq!(fragment_candidates(text), ["candidate:1 1 udp 2130706431 192.0.2.1 54609 typ host"]);
}

proptest! {
    /// Any text: no panic, and what comes out can be read again.
    #[test]
    fn any_text(text in "(v=0\r?\n)?(([a-z]=[ -~]{0,40}|m=(video|audio|x) 9 UDP/TLS/RTP/SAVPF( [0-9]{1,3}){0,5}|a=rtpmap:[0-9]{1,3} (H264/90000|opus/48000/2)|a=candidate:[ -~]{0,40})\r?\n){0,30}", kept in proptest::collection::vec(proptest::option::of(0_u8..128), 0..4)) {
        if let Ok(description) = Description::parse(&text) {
            let reduced = description.reduced(&kept);
            prop_assert_eq!(Description::parse(&reduced).unwrap().sections.len(), description.sections.len());
            let with = description.with_candidates(&["candidate:1 1 udp 1 192.0.2.1 9 typ host".to_owned()]);
            prop_assert_eq!(Description::parse(&with).unwrap().sections.len(), description.sections.len());
        }
    }
}

#[test]
fn a_bundle_has_the_transport_of_its_first_section() {
    let offer = "v=0\r\na=group:BUNDLE 0 1\r\nm=video 1\r\na=ice-ufrag:a\r\na=ice-pwd:b\r\na=candidate:1\r\n\
                 m=audio 2\r\na=ice-ufrag:c\r\na=ice-pwd:d\r\na=candidate:2\r\na=mid:1\r\n";
    let wanted = "v=0\r\na=group:BUNDLE 0 1\r\nm=video 1\r\na=ice-ufrag:a\r\na=ice-pwd:b\r\na=candidate:1\r\n\
                  m=audio 2\r\na=ice-ufrag:a\r\na=ice-pwd:b\r\na=mid:1\r\n";
    assert_eq!(one_transport(offer), wanted);
    assert_eq!(one_transport(wanted), wanted);
    let apart = offer.replace("a=group:BUNDLE 0 1\r\n", "");
    assert_eq!(one_transport(&apart), apart);
}

#[test]
fn a_section_gets_a_title() {
    let titled =
        titled("v=0\r\nm=video 9 x 96\r\na=x\r\nm=audio 9 x 8\r\na=inactive\r\n", 1, "busy\r\nm=evil");
    assert_eq!(titled, "v=0\r\nm=video 9 x 96\r\na=x\r\nm=audio 9 x 8\r\ni=busym=evil\r\na=inactive\r\n");
}

#[test]
fn the_dtls_client_says_so() {
    let of = |setup: &str| {
        let text = format!("v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=setup:{setup}\r\n");
        Description::parse(&text).unwrap().is_dtls_client()
    };
    assert_eq!([of("active"), of("actpass"), of("passive")], [true, false, false]);
}

#[test]
fn sections_that_are_given_up_or_silent_are_shown_otherwise() {
    let offer = "v=0\r\nm=audio 0 x 8\r\na=mid:a\r\na=inactive\r\nm=video 0 x 96\r\na=mid:b\r\na=bundle-only\r\na=sendonly\r\n\
                 m=audio 9 x 8\r\na=mid:c\r\na=inactive\r\nm=audio 9 x 8\r\na=mid:d\r\n";
    let offer = Description::parse(offer).unwrap();
    let seen = |section: &Section| (section.mid().to_owned(), section.sends, section.receives);
    let sections: Vec<(String, bool, bool)> = offer.sections.iter().map(seen).collect();
    let section = |mid: &str, sends, receives| (mid.to_owned(), sends, receives);
    let wanted = [
        section("a", false, false),
        section("b", true, false),
        section("c", false, false),
        section("d", true, true),
    ];
    assert_eq!(sections, wanted);
    let shown = offer.shown(&[]);
    let directions: Vec<&str> = shown.lines().filter(|line| direction(line).is_some()).collect();
    assert_eq!(directions, ["a=recvonly", "a=sendonly", "a=recvonly", "a=sendrecv"]);
    assert_eq!(shown.matches("a=rtpmap:8 PCMA/8000\r\n").count(), 3, "{shown}");
}

#[test]
fn offers_of_one_connection_are_told_from_others() {
    let of = |origin: &str, print: &str| {
        let text = format!("v=0\r\no={origin}\r\nm=video 9 x 96\r\na=fingerprint:sha-256 {print}\r\n");
        Description::parse(&text).unwrap().identity()
    };
    let first = of("- 46117 2 IN IP4 127.0.0.1", "AA");
    assert_eq!(first, of("- 46117 3 IN IP4 192.0.2.1", "AA"), "the next version");
    assert_ne!(first, of("- 46118 2 IN IP4 127.0.0.1", "AA"));
    assert_ne!(first, of("- 46117 2 IN IP4 127.0.0.1", "AB"));
}

#[test]
fn a_restart_has_other_credentials() {
    let before = "v=0\r\na=group:BUNDLE 0\r\nm=video 9 x 96\r\na=mid:0\r\na=ice-ufrag:a\r\na=ice-pwd:b\r\na=candidate:1\r\n";
    let after = with_credentials(before, "c", "d");
    assert_eq!((credentials(before), credentials(&after)), (Some(("a", "b")), Some(("c", "d"))));
    assert!(!after.contains("candidate"));
    let wanted = "a=group:BUNDLE 0\r\nm=video 9 x 96\r\na=mid:0\r\na=ice-ufrag:c\r\na=ice-pwd:d\r\na=candidate:2\r\na=end-of-candidates\r\n";
    assert_eq!(fragment(&after, &["candidate:2".to_owned()]), wanted);
    assert_eq!(credentials("a=ice-ufrag:a\r\n"), None);
}

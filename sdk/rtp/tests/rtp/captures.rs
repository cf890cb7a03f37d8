//! Session descriptions of real cameras (`tests/data/README.md`): what must be found in each.

use patchbay_media::{Codec, Kind, h264, h265};
use patchbay_rtp::sdp::{self, Direction, Media, Session};

/// What one media must read as: payload type, encoding, clock, channels, control, whether parameters are complete.
type Expected = (u8, &'static str, u32, u8, &'static str, bool);

fn assert_medias(session: &Session, expected: &[Expected]) {
    let found: Vec<_> = session
        .medias
        .iter()
        .map(|media| {
            let known = media.parameters().is_some_and(|p| !p.extradata.is_empty());
            let control = media.control.as_deref().unwrap_or("-");
            (media.payload_type, media.encoding.as_str(), media.clock_rate, media.channels, control, known)
        })
        .collect();
    assert_eq!(found, expected);
}

fn parse(text: &[u8]) -> Session {
    let session = sdp::parse(text);
    assert!(!session.is_srtp && session.medias.iter().all(|media| !media.is_backchannel));
    session
}

fn size(media: &Media) -> (u32, u32) {
    media.parameters().map(|p| (p.width, p.height)).unwrap()
}

macro_rules! capture {
    ($name:literal) => {
        parse(include_bytes!(concat!("../data/", $name, ".sdp")))
    };
}

#[test]
fn c49_anjvision() {
    let session = capture!("anjvision");
    assert_medias(&session, &[(96, "H265", 90_000, 0, "trackID=1", true)]);
    assert_eq!(session.control.as_deref(), Some("*"));
    assert_eq!(session.name.as_deref(), Some("RTSP/RTP stream from anjvision ipcamera"));
    // The camera announces a size that its SPS does not have; FFmpeg reads 1280 x 704 too.
    assert_eq!(session.medias[0].dimensions, Some((1280, 720)));
    assert_eq!(size(&session.medias[0]), (1280, 704));
    let sets = h265::parse_hvcc(&session.medias[0].parameters().unwrap().extradata).unwrap();
    assert_eq!((sets.vps.len(), sets.sps.len(), sets.pps.len()), (1, 1, 1));
}

/// C44: `rtpmap` on a static payload type; C47: a video `config=` and a doubled comma.
#[test]
fn c44_c47_anpviz() {
    let session = capture!("anpviz");
    let expected =
        [(96, "H264", 90_000, 0, "trackID=1", true), (0, "MPEG4-GENERIC", 16_000, 2, "trackID=2", true)];
    assert_medias(&session, &expected);
    assert_eq!(size(&session.medias[0]), (704, 576));
    let audio = session.medias[1].parameters().unwrap();
    assert_eq!(
        (audio.codec, audio.sample_rate, audio.channels),
        (Codec::Aac, 16_000, 1),
        "R44: the config decides"
    );
}

#[test]
fn bunny() {
    let session = capture!("bunny");
    let expected =
        [(96, "MPEG4-GENERIC", 12_000, 2, "trackID=1", true), (97, "H264", 90_000, 0, "trackID=2", true)];
    assert_medias(&session, &expected);
    assert_eq!(size(&session.medias[1]), (240, 160));
    assert_eq!(session.medias[1].dimensions, Some((240, 160)));
}

#[test]
fn dahua_with_metadata() {
    let session = capture!("dahua_h264_aac_onvif");
    let expected = [
        (96, "H264", 90_000, 0, "trackID=0", true),
        (97, "MPEG4-GENERIC", 48_000, 1, "trackID=1", true),
        (107, "VND.ONVIF.METADATA", 90_000, 0, "trackID=4", false),
    ];
    assert_medias(&session, &expected);
    assert_eq!(size(&session.medias[0]), (704, 480));
    assert_eq!((session.medias[2].kind, session.medias[2].codec()), (Kind::Data, None));
    assert_eq!(session.medias[0].direction, Some(Direction::RecvOnly));
}

#[test]
fn dahua_h265() {
    let session = capture!("dahua_h265_pcma");
    assert_medias(
        &session,
        &[(98, "H265", 90_000, 0, "trackID=0", true), (8, "PCMA", 8000, 1, "trackID=1", false)],
    );
    assert_eq!(size(&session.medias[0]), (704, 480));
}

/// X4, C44: an audio media without `rtpmap`.
#[test]
fn c44_foscam() {
    let session = capture!("foscam");
    assert_medias(
        &session,
        &[(96, "H264", 90_000, 0, "track1", true), (0, "PCMU", 8000, 1, "track2", false)],
    );
    assert_eq!(session.medias[0].bandwidth_kbps, Some(96));
}

#[test]
fn geovision() {
    let session = capture!("geovision");
    let expected = [
        (105, "H264", 90_000, 0, "rtsp://192.168.5.237/media/video1/video", true),
        (107, "VND.ONVIF.METADATA", 90_000, 0, "rtsp://192.168.5.237/media/video1/metadata", false),
    ];
    assert_medias(&session, &expected);
    assert_eq!(session.medias[0].connection.unwrap().address.to_string(), "192.168.5.237");
}

/// C44: `rtpmap:8 PCMU`; C47: start codes behind the parameter sets; C48: a decimal profile-level-id.
#[test]
fn c44_c47_c48_gw() {
    let session = capture!("gw_main");
    assert_medias(&session, &[(96, "H264", 90_000, 0, "video", true), (8, "PCMU", 8000, 1, "audio", false)]);
    for session in [session, capture!("gw_sub")] {
        let sets = h264::parse_avcc(&session.medias[0].parameters().unwrap().extradata).unwrap();
        assert!(
            !sets.sps[0].ends_with(&[0, 0, 0, 1]) && !sets.sps[0].ends_with(&[0]),
            "{:02x?}",
            sets.sps[0]
        );
        assert_eq!(sets.pps[0].as_ref(), [0x68, 0xee, 0x3c, 0x80]);
    }
}

/// C45: a blank behind the rate, and no `rtpmap` for audio.
#[test]
fn c44_c45_h264dvr() {
    let session = capture!("h264dvr");
    assert_medias(
        &session,
        &[(96, "H264", 90_000, 0, "trackID=3", true), (8, "PCMA", 8000, 1, "trackID=4", false)],
    );
    let connection = session.medias[0].connection.unwrap();
    assert_eq!((connection.address.to_string().as_str(), connection.ttl), ("192.168.168.100", None));
}

#[test]
fn hikvision() {
    let session = capture!("hikvision");
    let base = "rtsp://192.168.5.106:554/Streaming/Channels/101/";
    assert_eq!(session.control.as_deref(), Some(&*format!("{base}?transportmode=unicast&profile=Profile_1")));
    assert_eq!(
        session.medias[0].control.as_deref(),
        Some(&*format!("{base}trackID=1?transportmode=unicast&profile=Profile_1"))
    );
    assert_eq!(size(&session.medias[0]), (1920, 1080));
    assert_eq!(session.medias[0].dimensions, Some((1920, 1080)));
}

#[test]
fn ipcam() {
    let session = capture!("ipcam");
    assert_medias(&session, &[(96, "H264", 90_000, 0, "trackID=1", true)]);
    assert_eq!(size(&session.medias[0]), (1280, 960));
}

/// C40: no `o=`; C48: profile-level-id in base64.
#[test]
fn c40_c48_macrovideo() {
    let session = capture!("macrovideo");
    assert_medias(&session, &[(96, "H264", 90_000, 0, "track1", true)]);
    assert_eq!(size(&session.medias[0]), (1280, 720));
}

#[test]
fn ffmpeg_58() {
    let session = capture!("missing_content_type");
    let expected =
        [(96, "H264", 90_000, 0, "streamid=0", true), (97, "MPEG4-GENERIC", 48_000, 2, "streamid=1", true)];
    assert_medias(&session, &expected);
    assert_eq!(session.medias[1].parameters().unwrap().extradata.as_ref(), [0x11, 0x90, 0x56, 0xe5, 0x00]);
}

#[test]
fn reolink() {
    for session in [capture!("reolink"), capture!("reolink_control_first")] {
        let expected =
            [(96, "H264", 90_000, 0, "trackID=1", true), (97, "MPEG4-GENERIC", 16_000, 1, "trackID=2", true)];
        assert_medias(&session, &expected);
        assert_eq!(session.control.as_deref(), Some("*"));
        assert_eq!(size(&session.medias[0]), (2560, 1440));
    }
}

/// C40: `o=` with seven fields; C41: `m=application/TP-LINK`.
#[test]
fn c40_c41_tplink() {
    let session = capture!("tplink");
    let expected = [
        (96, "H265", 90_000, 0, "track1", true),
        (8, "PCMA", 8000, 1, "track2", false),
        (95, "TP-LINK", 90_000, 0, "track3", false),
    ];
    assert_medias(&session, &expected);
    assert_eq!(session.medias[2].kind, Kind::Data);
    assert_eq!(size(&session.medias[0]), (2560, 1440));
}

/// C42: two medias with payload type 96; C50: an empty `fmtp`, keys in mixed case and a `;` at the end.
#[test]
fn c42_c50_ubiquiti() {
    let session = capture!("ubiquiti");
    let expected = [
        (96, "MPEG4-GENERIC", 48_000, 1, "trackID=0", true),
        (96, "OPUS", 48_000, 2, "trackID=1", true),
        (97, "H264", 90_000, 0, "trackID=2", true),
    ];
    assert_medias(&session, &expected);
    assert_eq!(session.medias[0].fmtp.get("sizelength").map(String::as_str), Some("13"));
    assert!(session.medias[1].fmtp.is_empty());
}

/// C41: a TAB behind the payload type; C45: `PCMA/8000/1`.
#[test]
fn c41_vstarcam() {
    let session = capture!("vstarcam");
    assert_medias(
        &session,
        &[(96, "H264", 90_000, 0, "track0", true), (8, "PCMA", 8000, 1, "track1", false)],
    );
    assert_eq!(session.medias[1].bandwidth_kbps, Some(64));
}

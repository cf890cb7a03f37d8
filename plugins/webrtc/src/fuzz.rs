//! Entry points of the fuzz targets.

use bytes::BytesMut;

use crate::{candidate, mux, sdp, stun, turn};

/// Reads a datagram as STUN.
pub fn stun(data: &[u8]) {
    if let Some(request) = stun::Request::parse(data) {
        let _ = request.is_from("password");
    }
    let _ = stun::mapped_address(data, [7; 12]);
}

/// Reads bytes of a TCP connection.
pub fn tcp_frames(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    let mut len = 0;
    while let Ok(Some(frame)) = mux::tcp::take_frame(&mut buffer) {
        len += frame.len() + 2;
    }
    assert!(len <= data.len());
}

/// Reads bytes of a connection to a TURN server.
pub fn turn_messages(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    let mut len = 0;
    while let Ok(Some(message)) = turn::take_message(&mut buffer) {
        len += message.len().next_multiple_of(4);
    }
    assert!(len <= data.len());
}

/// Reads a description, cuts it down and reads it again.
pub fn sdp(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for line in sdp::fragment_candidates(&text) {
        assert!(candidate::is_usable(&line));
    }
    let Ok(description) = sdp::Description::parse(&text) else { return };
    let kept: Vec<Option<u8>> =
        description.sections.iter().map(|section| section.formats.first().map(|f| f.payload_type)).collect();
    let again = sdp::Description::parse(&description.reduced(&kept)).map(|again| again.sections.len());
    assert_eq!(again, Ok(description.sections.len()));
}

//! The rules that every plugin keeps.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use patchbay_media::{Codec, Parameters, Unit};
use patchbay_mux::flv::TagMuxer;
use patchbay_plugin_rtmp::session::server::{Event, STREAM_ID, Session};
use patchbay_plugin_rtmp::wire::chunk::{self, OUR_CHUNK_BYTES};
use patchbay_testkit::{Emulator, Material, assert_conforms};

/// A server that plays G.711 to whoever asks, in real time.
fn camera(mut stream: TcpStream) {
    let mut session = Session::new([3; 1_536]);
    let mut buffer = [0; 4_096];
    loop {
        let Ok(1..) = stream.read(&mut buffer).inspect(|count| {
            let _ = session.receive(&buffer[..*count]);
        }) else {
            return;
        };
        let event = session.poll().unwrap();
        if let Some(Event::Play(wish)) = &event {
            assert_eq!(wish.names, ["live/cam", "live", "cam"]);
            session.played("live/cam");
        }
        if stream.write_all(&session.take()).is_err() {
            return;
        }
        if event.is_some() {
            break;
        }
    }
    let mut muxer = TagMuxer::new(&[Parameters::audio(Codec::PcmAlaw, 8_000, 1)]).unwrap();
    for at in 0.. {
        let data = [0xd5; 320];
        let placed = muxer.place(0, &Unit::new(at * 320, true, data.to_vec().into())).unwrap();
        let mut out = BytesMut::new();
        let message = (placed.kind as u8, placed.time as u32, STREAM_ID);
        chunk::write(4, message, &[placed.head.as_slice(), &data], OUR_CHUNK_BYTES, &mut out);
        if stream.write_all(&out).is_err() {
            return;
        }
        // The camera's own pace: sound of 40 ms.
        std::thread::sleep(Duration::from_millis(40));
    }
}

#[test]
fn keeps_the_rules() {
    let camera = Emulator::start(camera).unwrap();
    let url = format!("rtmp://{}/live/cam", camera.address());
    let material = Material { url: Some(url), ..Material::default() };
    assert_conforms(
        patchbay_plugin_rtmp::patchbay_table(),
        "rtmp",
        include_str!("../manifest.json"),
        &material,
    );
}

//! The rules that every plugin keeps, with an emulated camera that checks what it is told.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use patchbay_plugin_{{name}}::wire::{HEADER, Message, kind};
use patchbay_testkit::{Emulator, Material, assert_conforms};

/// SPS, PPS and a key slice of 640x360, and a slice that is none.
const KEY: &[u8] = b"\0\0\0\x01\x67\x64\x00\x1e\xac\xb3\x01\x40\x5f\xf2\xe0\x22\x00\x00\x03\x00\x02\x00\x00\x03\x00\x64\x1e\
    \x2c\x5c\xd0\0\0\0\x01\x68\xe9\x70\x29\x2c\x8b\0\0\0\x01\x65\x88\x84\x00\x33\xff\xfe\xf6";
const DELTA: &[u8] = b"\0\0\0\x01\x41\x9a\x24\x6c\x41\x4f";

/// Packets of sound that came for the loudspeaker.
static HEARD: AtomicUsize = AtomicUsize::new(0);

/// The camera's loudspeaker: nothing but sound comes after the login.
fn listen(mut peer: TcpStream) {
    let mut packet = [0; HEADER + 160];
    while peer.read_exact(&mut packet).is_ok() {
        assert_eq!(packet[..8], [0, 0, 0, kind::SOUND as u8, 0, 0, 0, 160]);
        HEARD.fetch_add(1, Ordering::Relaxed);
    }
}

/// Plays the camera: a login, then 50 pictures a second for as long as anybody reads.
fn camera(mut peer: TcpStream) {
    let mut head = [0; HEADER];
    if peer.read_exact(&mut head).is_err() {
        return; // the rule that closes a source while it dials
    }
    assert_eq!(
        head[..4],
        kind::LOGIN.to_be_bytes(),
        "the first message is a login"
    );
    let mut login = vec![0; head[7].into()];
    peer.read_exact(&mut login).unwrap();
    let code = u8::from(login != b"user:right");
    let answer = Message {
        kind: kind::ANSWER,
        time_us: 0,
        payload: vec![code].into(),
    };
    let mut sent = peer.write_all(&answer.build());
    let loudspeaker = peer.try_clone().unwrap();
    thread::spawn(|| listen(loudspeaker));
    let mut number = 0;
    while sent.is_ok() && code == 0 {
        let payload = if number % 25 == 0 { KEY } else { DELTA }.into();
        sent = peer.write_all(
            &Message {
                kind: kind::PICTURE,
                time_us: number * 20_000,
                payload,
            }
            .build(),
        );
        number += 1;
        thread::sleep(Duration::from_millis(20)); // the camera's frame rate
    }
}

#[test]
fn keeps_the_rules() {
    let camera = Emulator::start(camera).unwrap();
    let url = |login: &str| Some(format!("{{name}}://{login}@{}/", camera.address()));
    let material = Material {
        url: url("user:right"),
        refused: url("user:wrong"),
        ..Material::default()
    };
    assert_conforms(
        patchbay_plugin_{{name}}::patchbay_table(),
        "{{name}}",
        include_str!("../manifest.json"),
        &material,
    );
    assert!(camera.connections() >= 4);
    // What was sent last may still be on its way to the thread that listens.
    let end = Instant::now() + Duration::from_secs(30);
    while HEARD.load(Ordering::Relaxed) == 0 && Instant::now() < end {
        thread::sleep(Duration::from_millis(5));
    }
    assert!(HEARD.load(Ordering::Relaxed) > 0, "nobody spoke");
}

//! Targets of the fuzz tests: any bytes in, invariants checked.
#![allow(clippy::expect_used)]

use crate::session::{client, login, server};
use crate::wire::chunk::{MAX_EARLY_MESSAGE_BYTES, MAX_PARTIAL_BYTES};
use crate::wire::handshake::BLOCK_BYTES;

/// What the peer sends behind a handshake that needs no bytes of the input.
fn hands() -> Vec<u8> {
    let mut hands = vec![0; 1 + 2 * BLOCK_BYTES];
    if let Some(version) = hands.first_mut() {
        *version = 3;
    }
    hands
}

/// A listening session ends or goes on, and holds little before it is known what the peer wants.
pub fn server(data: &[u8]) {
    let (head, body) = data.split_first().unwrap_or((&0, data));
    let mut session = match head {
        0xff => server::Session::with_login([7; BLOCK_BYTES]),
        _ => server::Session::new([7; BLOCK_BYTES]),
    };
    let mut logins = login::Logins::new("bob", "secret");
    session.receive(&hands()).expect("a plain handshake");
    for piece in body.chunks(usize::from(*head) + 1) {
        if session.receive(piece).is_err() {
            return;
        }
        loop {
            match session.poll() {
                Err(_) => return,
                Ok(None) => break,
                Ok(Some(server::Event::Connect(app))) => match logins.judge(&app, [1, 2, 3]) {
                    login::Verdict::Allowed => session.connected(),
                    login::Verdict::Refused(reason) => session.reject(&reason),
                },
                Ok(Some(server::Event::Play(wish))) => {
                    assert!(wish.names.iter().all(|name| !name.is_empty()));
                    if wish.query.is_empty() { session.played("x") } else { session.refuse(true, "no") }
                }
                Ok(Some(server::Event::Publish(_))) => session.published("x"),
                Ok(Some(server::Event::Media { .. } | server::Event::Stop)) => {}
            }
        }
        let limit = if session.phase() == server::Phase::Publishing {
            MAX_PARTIAL_BYTES
        } else {
            MAX_EARLY_MESSAGE_BYTES * 65
        };
        assert!(session.phase() == server::Phase::New || session.held() <= limit + body.len());
        session.take();
    }
}

/// A dialling session ends or goes on.
pub fn client(data: &[u8]) {
    let (head, body) = data.split_first().unwrap_or((&0, data));
    let config = client::Config {
        credentials: Some(patchbay_net::Credentials::new("u", "secret")),
        ..client::Config::default()
    };
    let mut session = client::Session::new(config, [7; BLOCK_BYTES], 1);
    session.receive(&hands()).expect("a plain handshake");
    for piece in body.chunks(usize::from(*head) + 1) {
        if session.receive(piece).is_err() {
            return;
        }
        loop {
            match session.poll() {
                Err(_) | Ok(Some(client::Event::Ended(_))) => return,
                Ok(None) => break,
                Ok(Some(client::Event::Redial)) => session.restart([8; BLOCK_BYTES]),
                Ok(Some(_)) => {}
            }
        }
        session.take();
    }
}

//! The HTTP client against scripted servers on loopback.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use patchbay_net::auth::{Rejected, Server};
use patchbay_net::http::{Client, HeadError, HttpError, Request, Timeouts};
use patchbay_net::tls::Verify;
use patchbay_net::{DialError, SourceUrl, dial};
use patchbay_sdk::{Class, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

type Seen = Arc<Mutex<Vec<String>>>;

/// A server that answers each connection's request by `answer` and closes, or holds the connection open when the answer is
/// empty.
async fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> (u16, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut text = Vec::new();
            let mut body = None;
            while body.is_none_or(|(at, len)| text.len() < at + len) {
                if socket.read_buf(&mut text).await.unwrap() == 0 {
                    break;
                }
                body = text.windows(4).position(|w| w == b"\r\n\r\n").map(|at| {
                    let head = String::from_utf8_lossy(&text[..at]).to_ascii_lowercase();
                    let len = head
                        .split("content-length: ")
                        .nth(1)
                        .map_or(0, |rest| rest.lines().next().unwrap().trim().parse().unwrap());
                    (at + 4, len)
                });
            }
            let text = String::from_utf8(text).unwrap();
            let bytes = answer(&text);
            log.lock().unwrap().push(text);
            if bytes.is_empty() {
                held.push(socket);
                continue;
            }
            let _ = socket.write_all(&bytes).await;
        }
    });
    (port, seen)
}

fn client() -> Client {
    let long = Duration::from_secs(60);
    Client { user_agent: "Test/1".to_owned(), timeouts: Timeouts { dial: long, head: long, idle: long } }
}

/// One that soon gives up waiting for an answer, or for more of it.
fn hasty(head: bool) -> Client {
    let (mut client, short) = (client(), Duration::from_millis(300));
    *(if head { &mut client.timeouts.head } else { &mut client.timeouts.idle }) = short;
    client
}

fn get(url: String) -> Request {
    Request::get(SourceUrl::parse(&url).unwrap())
}

async fn body_of(answer: &'static [u8]) -> Result<(Vec<u8>, bool), HttpError> {
    let (port, _) = serve(move |_| answer.to_vec()).await;
    let mut response = client().send(&get(format!("http://127.0.0.1:{port}/x"))).await?;
    let body = response.bytes(1 << 20).await?;
    Ok((body.to_vec(), response.is_truncated()))
}

#[tokio::test]
async fn bodies_of_any_length() {
    for (answer, truncated) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..], false),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more", false),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", true),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhello", false),
        (b"HTTP/1.0 200 OK\n\nhello", false),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\ncontent-LENGTH:5\r\n\r\nhello", false),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\nT: 1\r\n\r\n", false),
        (b"ICY 200 OK\r\n\r\nhello", false),
    ] {
        assert_eq!(body_of(answer).await.unwrap(), (b"hello".to_vec(), truncated), "{}", answer.escape_ascii());
    }
}

#[tokio::test]
async fn what_is_no_response() {
    let error = body_of(b"\x00\x01garbage").await.unwrap_err();
    assert!(matches!(error, HttpError::Head(HeadError::NotHttp)), "{error}");
    let error = body_of(b"HTTP/1.1 200 OK\r\n").await.unwrap_err();
    assert!(matches!(error, HttpError::Head(HeadError::Ended { received: 17 })), "{error}");
    let error = body_of(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n").await.unwrap_err();
    assert!(matches!(error, HttpError::Encoding(_)), "{error}");
    let (port, _) = serve(|_| Vec::new()).await;
    let url = format!("http://127.0.0.1:{port}/");
    let error = hasty(true).send(&get(url)).await.err().unwrap();
    assert!(matches!(error, HttpError::Timeout("answer")), "{error}");
    let (port, _) = serve(|_| b"HTTP/1.1 200 OK\r\n\r\n0123456789".to_vec()).await;
    let mut response = client().send(&get(format!("http://127.0.0.1:{port}/"))).await.unwrap();
    assert!(matches!(response.bytes(9).await, Err(HttpError::TooLarge { max: 9 })));
}

#[tokio::test]
async fn a_body_that_stalls_is_a_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await.unwrap();
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest).await;
    });
    let mut response = hasty(false).send(&get(format!("http://127.0.0.1:{port}/"))).await.unwrap();
    assert_eq!(response.content_length(), Some(10));
    assert_eq!(response.chunk().await.unwrap().unwrap(), "hello");
    assert!(matches!(response.chunk().await, Err(HttpError::Timeout("go on"))));
    drop(response);
    server.await.unwrap();
}

#[tokio::test]
async fn logins() {
    for sha256 in [false, true] {
        let credentials = patchbay_net::Credentials::new("admin", "p@ss");
        let mut server = Server::new("cam", credentials);
        if sha256 {
            server = server.with_sha256();
        }
        let (port, seen) = serve(move |text| {
            let line = text.lines().find_map(|l| l.strip_prefix("Authorization: ")).unwrap_or_default();
            match server.verify(line, "GET", "nonce1") {
                Ok(Some(uri)) if uri == "/x?a=b" => b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec(),
                _ => {
                    let mut text = "HTTP/1.1 401 Unauthorized\r\n".to_owned();
                    for line in server.challenges("nonce1", false) {
                        text += &format!("WWW-Authenticate: {line}\r\n");
                    }
                    (text + "Connection: close\r\n\r\n<html>").into_bytes()
                }
            }
        })
        .await;
        let url = format!("http://admin:p%40ss@127.0.0.1:{port}/x?a=b");
        let mut response = client().send(&get(url)).await.unwrap();
        assert_eq!(response.bytes(100).await.unwrap(), "hello");
        let requests = seen.lock().unwrap().clone();
        assert_eq!(requests.len(), 2);
        assert!(!requests[0].contains("Authorization"), "no login before it is asked for");
        assert!(!requests.concat().contains("p@ss") && !requests.concat().contains("p%40ss"));
        let wrong = client().send(&get(format!("http://admin:wrong@127.0.0.1:{port}/x?a=b"))).await;
        assert!(matches!(wrong, Err(HttpError::Auth(Rejected::Refused))), "{wrong:?}");
        let none = client().send(&get(format!("http://127.0.0.1:{port}/"))).await;
        assert!(matches!(none, Err(HttpError::Auth(Rejected::NoCredentials))), "{none:?}");
    }
}

#[tokio::test]
async fn redirects() {
    let (port, seen) = serve(|text| {
        if text.starts_with("GET /target") {
            b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec()
        } else if text.contains("/loop") {
            b"HTTP/1.1 302 Found\r\nLocation: /loop\r\n\r\n".to_vec()
        } else {
            b"HTTP/1.1 302 Found\r\nLocation: /target?x=1\r\nContent-Length: 0\r\n\r\n".to_vec()
        }
    })
    .await;
    let url = SourceUrl::parse(&format!("http://127.0.0.1:{port}/a/b")).unwrap();
    let mut response = client().send(&Request::post(url, "text/plain", "data")).await.unwrap();
    assert_eq!(response.url.path_and_query(), "/target?x=1");
    assert_eq!(response.bytes(100).await.unwrap(), "hello");
    let requests = seen.lock().unwrap().clone();
    assert!(requests[0].starts_with("POST /a/b") && requests[0].ends_with("\r\n\r\ndata"), "{requests:?}");
    assert!(requests[1].starts_with("GET /target?x=1 HTTP/1.1\r\n"));
    let endless = client().send(&get(format!("http://127.0.0.1:{port}/loop"))).await;
    assert!(matches!(endless, Err(HttpError::Redirect)));
    assert_eq!(seen.lock().unwrap().len(), 2 + 6);
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = client().send(&get(format!("http://u:secret@127.0.0.1:{port}/"))).await.unwrap_err();
    assert!(matches!(&error, HttpError::Dial { .. }) && !error.to_string().contains("secret"), "{error}");
    let error = client().send(&get("ftp://127.0.0.1/".to_owned())).await.unwrap_err();
    assert!(matches!(error, HttpError::Scheme(_)));
}

#[tokio::test]
async fn ends_have_the_class_that_they_mean() {
    for (status, class) in [
        ("403 No", Class::Auth),
        ("404 Not Found", Class::NotFound),
        ("410 Gone", Class::NotFound),
        ("429 Later", Class::Busy),
        ("503 Later", Class::Busy),
        ("500 Oh", Class::Protocol),
    ] {
        let (port, _) = serve(move |_| format!("HTTP/1.1 {status}\r\n\r\n").into_bytes()).await;
        let response = client().send(&get(format!("http://127.0.0.1:{port}/"))).await.unwrap();
        let error = response.expect(|status| status == 200).err().unwrap();
        assert_eq!((error.class, error.message.as_str()), (class, status));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let dialling = dial("127.0.0.1", port, Some(Verify::No), Duration::from_secs(20));
    let (plain, _) = tokio::join!(dialling, async {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"no TLS here").await.unwrap();
        socket
    });
    let plain = plain.err().unwrap();
    assert!(matches!(plain, DialError::Tls { .. }), "{plain}");
    assert_eq!(Error::from(plain).class, Class::Protocol);
    drop(listener);
    let refused = Error::from(dial("127.0.0.1", port, None, Duration::from_secs(5)).await.err().unwrap());
    assert_eq!(refused.class, Class::NotFound);
    assert!(refused.message.starts_with(&format!("cannot connect to 127.0.0.1:{port}: ")), "{refused}");
}

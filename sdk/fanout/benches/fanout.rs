//! CPU per viewer and buffer: the fan-out beside a bare `write(2)` loop over the same sockets and buffers.
//!
//! `cargo bench -p patchbay-fanout`. The readers live in a child process, so that only writing is measured.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use patchbay_fanout::{Buffer, Fanout, Join, Limits, Writer};
use rustix::time::{ClockId, clock_gettime};

const VIEWERS: usize = 500;
const BUFFERS: u32 = 150;
const LEN: usize = 16_700;
const PACE: Duration = Duration::from_millis(33);

fn main() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("drain") {
        drain(&args.next().unwrap());
        return;
    }
    println!("{VIEWERS} viewers, {BUFFERS} buffers of {LEN} bytes, one each {PACE:?}");
    for round in 0..3 {
        let floor = floor();
        let fanout = fanout();
        println!(
            "round {round}: write(2) loop {floor:.2} us, fan-out {fanout:.2} us per write, x{:.2}",
            fanout / floor
        );
    }
}

/// The readers: as many connections, each read to its end by one thread in turn.
fn drain(address: &str) {
    let mut sockets: Vec<TcpStream> = (0..VIEWERS).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut buffer = vec![0; 256 << 10];
    loop {
        for socket in &mut sockets {
            if socket.read(&mut buffer).unwrap() == 0 {
                return;
            }
        }
    }
}

fn viewers() -> (Child, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["drain", &listener.local_addr().unwrap().to_string()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    (child, (0..VIEWERS).map(|_| listener.accept().unwrap().0).collect())
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn per_write(cpu: Duration) -> f64 {
    cpu.as_secs_f64() * 1e6 / (VIEWERS as f64 * f64::from(BUFFERS))
}

fn floor() -> f64 {
    let (mut child, mut sockets) = viewers();
    let bytes = vec![0x5a; LEN];
    let start = cpu();
    for _ in 0..BUFFERS {
        for socket in &mut sockets {
            socket.write_all(&bytes).unwrap();
        }
        std::thread::sleep(PACE);
    }
    let used = cpu() - start;
    drop(sockets);
    child.wait().unwrap();
    per_write(used)
}

fn fanout() -> f64 {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (mut child, sockets) = viewers();
    let used = runtime.block_on(async {
        let fanout = Fanout::new(Limits::default());
        for socket in sockets {
            socket.set_nonblocking(true).unwrap();
            let writer = Writer::new(tokio::net::TcpStream::from_std(socket).unwrap());
            fanout.join(
                &writer,
                Join {
                    tracks: 1,
                    keyed: 1,
                    await_key: 0,
                    position: fanout.end(),
                    head: Vec::new(),
                    rewrite: None,
                },
            );
            tokio::spawn(async move { writer.drive().await });
        }
        let bytes = Bytes::from(vec![0x5a; LEN]);
        let start = cpu();
        let pushing = fanout.clone();
        tokio::spawn(async move {
            let mut pace = tokio::time::interval(PACE);
            for n in 0..BUFFERS {
                pace.tick().await;
                pushing.push(Buffer {
                    bytes: bytes.clone(),
                    tracks: 1,
                    key: n % 30 == 0,
                    at: PACE * n,
                    meta: (),
                });
            }
        })
        .await
        .unwrap();
        let used = cpu() - start;
        println!("  {:?}", fanout.counters());
        used
    });
    drop(runtime);
    child.wait().unwrap();
    per_write(used)
}

//! Two real processes and a ring between them; each of them is killed and stopped at any moment.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use patchbay_ring::{BackingKind, Limits, Mapped, ReadOutcome, Ring, RingHandle, UnitHeader, flags};
use rustix::process::{Pid, Signal, kill_process};

const ROLE: &str = "PATCHBAY_RING_ROLE";

/// What the unit `number` holds: any byte out of place shows.
fn unit(number: u64) -> Vec<u8> {
    let len = 64 + (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50) as usize;
    (0..len as u64).map(|i| (number.wrapping_mul(31) ^ i.wrapping_mul(7)) as u8).collect()
}

fn header(number: u64) -> UnitHeader {
    let key = if number % 50 == 1 { flags::KEY } else { 0 };
    UnitHeader {
        flags: key,
        pts: number as i64,
        dts: number as i64,
        arrival_ns: number * 1_000_000,
        ..UnitHeader::default()
    }
}

/// Checks every record of a read; numbers of the first and last.
fn check(buf: &[u8], outcome: &ReadOutcome, after: u64) -> u64 {
    let mut rest = &buf[..outcome.written as usize];
    let mut last = after;
    while let Some((head, tail)) = rest.split_first_chunk::<64>() {
        let header = UnitHeader::from_record(head);
        assert!(header.sequence > last, "sequences grow");
        last = header.sequence;
        let len = header.len as usize;
        assert!(tail[..len] == unit(header.sequence)[..], "unit {last} is not what was pushed");
        rest = &tail[len.next_multiple_of(8)..];
    }
    last
}

/// This test binary again, in a role.
fn spawn(role: &str, fd: i32) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "role", "--nocapture", "--test-threads=1"])
        .env(ROLE, format!("{role} {} {fd}", std::process::id()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

/// The next line of a child that is one of its own.
fn line(out: &mut BufReader<ChildStdout>) -> Option<String> {
    loop {
        let mut text = String::new();
        if out.read_line(&mut text).ok()? == 0 {
            return None;
        }
        if let Some((_, mine)) = text.trim_end().split_once("@ ") {
            return Some(mine.to_owned());
        }
    }
}

/// Maps a descriptor of another process.
fn map(pid: &str, fd: &str) -> Mapped {
    Mapped::map(File::open(format!("/proc/{pid}/fd/{fd}")).unwrap().into()).unwrap()
}

/// Not a test of its own: what the children do.
#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let words: Vec<&str> = role.split(' ').collect();
    let mut out = std::io::stdout();
    match words[0] {
        // Reads what the parent writes, and says now and then how far it is.
        "reader" => {
            let mapped = map(words[1], words[2]);
            let (mut cursor, mut last, mut buf, mut lost) = (1, 0, vec![0_u8; 1 << 18], 0);
            let mut said = Instant::now();
            writeln!(out, "@ ready").unwrap();
            loop {
                let outcome = mapped.read(cursor, 1, buf.as_mut_slice());
                last = check(&buf, &outcome, last);
                cursor = outcome.next;
                lost += outcome.lost;
                if said.elapsed() > Duration::from_millis(10) {
                    said = Instant::now();
                    if writeln!(out, "@ {last} {lost}").is_err() {
                        return;
                    }
                }
            }
        }
        // Writes a ring as fast as it can until it is killed.
        "writer" => {
            let mut ring = fixed();
            let exported = ring.handle().export().unwrap();
            writeln!(out, "@ {}", exported.fd.as_raw_fd()).unwrap();
            for number in 1.. {
                ring.push(&header(number), &unit(number)).unwrap();
            }
        }
        other => panic!("{other}"),
    }
}

/// A ring that never changes its memory: what it needs is there from the start.
fn fixed() -> Ring {
    let mut ring =
        Ring::new(BackingKind::Memfd, Limits { keyframe_only_ms: 0, ..Limits::default() }).unwrap();
    ring.set_track(0, 90_000, false);
    ring
}

/// A reader of this process that must see everything.
struct Witness {
    handle: Arc<RingHandle>,
    cursor: u64,
    last: u64,
    buf: Vec<u8>,
}

impl Witness {
    fn read(&mut self) {
        let outcome = self.handle.read(self.cursor, 1, self.buf.as_mut_slice());
        assert_eq!(outcome.lost, 0, "another reader's fate is none of mine");
        self.last = check(&self.buf, &outcome, self.last);
        self.cursor = outcome.next;
    }
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Tests that count descriptors run one after the other.
static ALONE: Mutex<()> = Mutex::new(());

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_reader_that_is_killed_or_stopped_costs_nobody_anything() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ring = fixed();
    let fd = ring.handle().export().unwrap().fd;
    let mut witness = Witness { handle: ring.handle(), cursor: 1, last: 0, buf: vec![0; 1 << 18] };
    let mut number = 0;
    let mut push = |ring: &mut Ring, witness: &mut Witness, count: u64| {
        for _ in 0..count {
            number += 1;
            ring.push(&header(number), &unit(number)).unwrap();
            if number % 8 == 0 {
                witness.read();
            }
        }
    };
    let start = descriptors();
    for round in 0..12_u64 {
        let (mut child, mut out) = spawn("reader", fd.as_raw_fd());
        assert_eq!(line(&mut out).as_deref(), Some("ready"));
        push(&mut ring, &mut witness, 500 + round * 37);
        if round % 3 == 0 {
            signal(&child, Signal::STOP);
            push(&mut ring, &mut witness, 3000);
            signal(&child, Signal::CONT);
            let behind = witness.last;
            // It goes on behind the hole, with units that are whole.
            let mut seen = 0;
            while seen < behind {
                push(&mut ring, &mut witness, 50);
                let text = line(&mut out).expect("a reader that found a broken unit ends");
                seen = text.split(' ').next().unwrap().parse().unwrap();
            }
        }
        signal(&child, Signal::KILL);
        push(&mut ring, &mut witness, 100);
        child.wait().unwrap();
    }
    assert_eq!(descriptors(), start);
    witness.read();
    assert_eq!(ring.stats().generation, 1);
}

#[test]
fn a_killed_writer_leaves_only_whole_units() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let start = descriptors();
    for round in 0..12 {
        let (mut child, mut out) = spawn("writer", 0);
        let pid = child.id().to_string();
        let fd = line(&mut out).unwrap();
        let mapped = map(&pid, &fd);
        let (mut cursor, mut last, mut buf) = (1, 0, vec![0_u8; 1 << 18]);
        let mut read = |times: u32| {
            for _ in 0..times {
                let outcome = mapped.read(cursor, 1, buf.as_mut_slice());
                last = check(&buf, &outcome, last);
                cursor = outcome.next;
            }
            last
        };
        while read(1) < 100 + round * 50 {}
        signal(&child, Signal::KILL);
        child.wait().unwrap();
        read(2000);
        let (end, again) = (mapped.head(), mapped.read(mapped.head(), 1, [0_u8; 64].as_mut_slice()));
        assert!(again.end && again.next == end, "{again:?}");
        drop(mapped);
        drop(out);
    }
    assert_eq!(descriptors(), start);
}

/// The read-only mapping gives what the handle gives, over growth, epochs and the end.
#[test]
fn mapped_reads_are_the_handles_reads() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ring = Ring::new(BackingKind::Memfd, Limits::default()).unwrap();
    ring.set_track(0, 90_000, true);
    let handle = ring.handle();
    let mut mapped = Mapped::map(handle.export().unwrap().fd).unwrap();
    let (mut cursor, mut replaced) = (1, 0);
    let (mut a, mut b) = (vec![0_u8; 1 << 20], vec![0_u8; 1 << 20]);
    for number in 1..=2000_u64 {
        let header = UnitHeader {
            epoch: (number / 300) as u32,
            flags: if number % 900 == 1 { flags::KEY } else { 0 },
            ..header(number)
        };
        ring.push(&header, &unit(number)).unwrap();
        if number % 5 != 0 {
            continue;
        }
        loop {
            let there = mapped.read(cursor, 1, b.as_mut_slice());
            if there.end && there.units == 0 && mapped.replaced() == Some(handle.generation()) {
                mapped = Mapped::map(handle.export().unwrap().fd).unwrap();
                assert_eq!(mapped.generation(), handle.generation());
                replaced += 1;
                continue;
            }
            let here = handle.read(cursor, 1, a.as_mut_slice());
            if mapped.replaced().is_none() {
                assert_eq!(
                    (here.units, here.written, here.next, here.lost),
                    (there.units, there.written, there.next, there.lost)
                );
                assert_eq!(a[..here.written as usize], b[..there.written as usize]);
            }
            assert_eq!(there.lost, 0);
            cursor = there.next;
            if there.units == 0 {
                break;
            }
        }
    }
    assert!(replaced > 0, "the ring has grown");
    ring.close(7);
    assert_eq!(mapped.closed(), Some(7));
}

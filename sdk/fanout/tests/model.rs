//! Any sequence of pushes, replies and socket states against what must hold.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{self, IoSlice};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use patchbay_fanout::{Buffer, Fanout, Join, Limits, Rewrite, Socket, Writer};
use proptest::prelude::*;

const VIDEO: u32 = 1;
const AUDIO: u32 = 2;

/// A socket that takes as many bytes as it was granted.
#[derive(Default)]
struct Pipe(Mutex<(usize, Vec<u8>)>);

impl Pipe {
    fn grant(&self, bytes: usize) {
        self.0.lock().unwrap().0 += bytes;
    }
}

impl Socket for Pipe {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write_vectored(&[IoSlice::new(bytes)])
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut guard = self.0.lock().unwrap();
        let (room, out) = &mut *guard;
        let before = out.len();
        for slice in slices {
            let n = slice.len().min(*room);
            out.extend_from_slice(&slice[..n]);
            *room -= n;
        }
        if out.len() == before { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(out.len() - before) }
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// Length, kind (0 reply, else the track), key, number.
fn bytes(kind: u32, key: bool, number: u32, len: usize) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.extend_from_slice(&(len as u16).to_be_bytes());
    bytes.extend_from_slice(&[kind as u8, u8::from(key)]);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.resize(len, number as u8);
    bytes.freeze()
}

fn parse(mut bytes: &[u8]) -> Vec<(u32, bool, u32)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let len = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        let number = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
        assert!(bytes[8..len].iter().all(|b| *b == number as u8), "cut into");
        all.push((u32::from(bytes[2]), bytes[3] == 1, number));
        bytes = &bytes[len..];
    }
    all
}

#[derive(Debug, Clone)]
enum Step {
    Push { video: bool, key: bool, len: usize },
    Reply(usize),
    Grant(usize),
    Drive,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (prop::bool::weighted(0.7), prop::bool::weighted(0.2), 8..600_usize)
            .prop_map(|(video, key, len)| Step::Push { video, key, len }),
        1 => (8..60_usize).prop_map(Step::Reply),
        3 => (1..900_usize).prop_map(Step::Grant),
        3 => Just(Step::Drive),
    ]
}

fn drive(writer: &Writer<Pipe>) {
    let mut driving = pin!(writer.drive());
    // Twice: a wake that was kept is used up by the first.
    for _ in 0..2 {
        assert!(driving.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
}

/// Sends the first bytes of each buffer from a copy.
struct Head(usize);

impl Rewrite<()> for Head {
    fn rewrite(&mut self, buffer: &Buffer, head: &mut BytesMut) -> usize {
        let len = self.0.min(buffer.bytes.len());
        head.extend_from_slice(&buffer.bytes[..len]);
        len
    }
}

fn run(steps: Vec<Step>, rewrite: Option<usize>) -> Result<(), TestCaseError> {
    let limits = Limits {
        behind_bytes: 2_000,
        behind_time: Duration::from_secs(3600),
        log_bytes: 5_000,
        log_time: Duration::from_secs(3600),
    };
    let fanout = Fanout::new(limits);
    let writer = Writer::new(Pipe::default());
    let pipe = Arc::clone(writer.socket());
    fanout.join(
        &writer,
        Join {
            tracks: VIDEO | AUDIO,
            keyed: VIDEO,
            await_key: VIDEO,
            position: fanout.end(),
            head: vec![bytes(0, false, 9_999, 100)],
            rewrite: rewrite.map(|len| Box::new(Head(len)) as Box<dyn Rewrite<()>>),
        },
    );
    let (mut pushed, mut replies) = (Vec::new(), 0);
    for step in steps {
        match step {
            Step::Push { video, key, len } => {
                let (track, number) = (if video { VIDEO } else { AUDIO }, pushed.len() as u32);
                let bytes = bytes(track, key, number, len);
                fanout.push(Buffer { bytes, tracks: track, key, at: Duration::ZERO, meta: () });
                pushed.push((track, key, number));
            }
            Step::Reply(len) => {
                writer.send(bytes(0, false, replies, len)).unwrap();
                replies += 1;
            }
            Step::Grant(room) => pipe.grant(room),
            Step::Drive => drive(&writer),
        }
    }
    pipe.grant(1 << 20);
    drive(&writer);
    let got = parse(&pipe.0.lock().unwrap().1);
    prop_assert_eq!(got[0], (0, false, 9_999), "the head comes first");
    let answered: Vec<u32> = got.iter().skip(1).filter(|(kind, ..)| *kind == 0).map(|(.., n)| *n).collect();
    prop_assert_eq!(answered, (0..replies).collect::<Vec<_>>(), "each reply once, in order");
    let media: Vec<_> = got.into_iter().filter(|(kind, ..)| *kind != 0).collect();
    prop_assert!(media.windows(2).all(|w| w[0].2 < w[1].2), "in order");
    prop_assert!(media.iter().all(|m| pushed[m.2 as usize] == *m), "the bytes that were pushed");
    // Video goes on where it was, or at a key.
    let of_video: Vec<u32> = pushed.iter().filter(|p| p.0 == VIDEO).map(|p| p.2).collect();
    let mut previous = None;
    for (_, key, number) in media.iter().filter(|m| m.0 == VIDEO) {
        let index = of_video.iter().position(|n| n == number).unwrap();
        prop_assert!(
            *key || previous == index.checked_sub(1) && previous.is_some(),
            "video {} of {:?}",
            number,
            media
        );
        previous = Some(index);
    }
    let sent = writer.sent();
    prop_assert_eq!(sent.buffers, media.len() as u64);
    prop_assert_eq!(sent.buffers + sent.skipped, pushed.len() as u64, "what is missing is counted");
    prop_assert_eq!(writer.waiting_bytes(), 0);
    Ok(())
}

proptest! {
    #[test]
    fn whole_buffers_in_order_and_gaps_end_at_keys(
        steps in prop::collection::vec(step(), 1..120),
        rewrite in prop::option::of(0..700_usize),
    ) {
        run(steps, rewrite)?;
    }
}

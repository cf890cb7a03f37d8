//! The ring: push, read-out and wake, beside `memcpy` and `tokio::sync::broadcast<Bytes>` in the same run.
//!
//! `cargo bench -p patchbay-bench --bench ring`. With 500 rings each iteration goes to the next ring, so that caches are cold
//! as in a server with 500 cameras.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)] // a bench

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use patchbay_ring::{BackingKind, Limits, Ring, UnitHeader, Wake, flags};
use tokio::sync::broadcast;

const SIZES: [usize; 3] = [1400, 40 << 10, 256 << 10];

struct Rings {
    rings: Vec<Ring>,
    next: usize,
    number: u64,
}

impl Rings {
    fn new(count: usize) -> Self {
        let ring = |_| {
            let mut ring = Ring::new(BackingKind::Memfd, Limits::default()).unwrap();
            ring.set_track(0, 90_000, true);
            ring
        };
        Self { rings: (0..count).map(ring).collect(), next: 0, number: 0 }
    }

    fn push(&mut self, data: &[u8]) -> usize {
        let at = self.next;
        self.next = (self.next + 1) % self.rings.len();
        self.number += 1;
        // Short GOPs: the ring keeps its size.
        let key = (self.number / self.rings.len() as u64).is_multiple_of(4);
        let flags = if key { flags::KEY } else { 0 };
        let header = UnitHeader { flags, arrival_ns: self.number, ..UnitHeader::default() };
        self.rings[at].push(&header, data).unwrap();
        at
    }
}

fn push_and_read(criterion: &mut Criterion) {
    for count in [1, 500] {
        let mut group = criterion.benchmark_group(format!("{count} rings"));
        for size in SIZES {
            let data = vec![7_u8; size];
            group.throughput(Throughput::Bytes(size as u64));
            let mut rings = Rings::new(count);
            group.bench_function(BenchmarkId::new("push", size), |b| b.iter(|| rings.push(black_box(&data))));
            let mut cursors: Vec<u64> = rings.rings.iter().map(|ring| ring.handle().head()).collect();
            let mut out = vec![0_u8; size + 128];
            group.bench_function(BenchmarkId::new("push + read", size), |b| {
                b.iter(|| {
                    let at = rings.push(black_box(&data));
                    let outcome = rings.rings[at].handle().read(cursors[at], 1, out.as_mut_slice());
                    assert_eq!(outcome.units, 1);
                    cursors[at] = outcome.next;
                });
            });
            let buffers: Vec<Vec<u8>> = (0..count).map(|_| vec![0_u8; size]).collect();
            let mut buffers = buffers;
            let mut next = 0;
            group.bench_function(BenchmarkId::new("memcpy", size), |b| {
                b.iter(|| {
                    next = (next + 1) % buffers.len();
                    buffers[next].copy_from_slice(black_box(&data));
                    black_box(&buffers[next]);
                });
            });
            let mut channels: Vec<_> = (0..count).map(|_| broadcast::channel::<Bytes>(16)).collect();
            group.bench_function(BenchmarkId::new("broadcast send + recv", size), |b| {
                b.iter(|| {
                    next = (next + 1) % channels.len();
                    let (sender, receiver) = &mut channels[next];
                    sender.send(Bytes::copy_from_slice(black_box(&data))).unwrap();
                    black_box(receiver.try_recv().unwrap());
                });
            });
        }
        group.finish();
    }
}

struct Count(AtomicU64);

impl Wake for Count {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What waking costs the writer: nobody sleeps; one sleeper that is armed anew each time, whose wake writes an eventfd.
fn wake(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wake");
    let data = vec![7_u8; 1400];
    let mut rings = Rings::new(1);
    let handle = rings.rings[0].handle();
    let count = Arc::new(Count(AtomicU64::new(0)));
    let subscription = handle.subscribe(Arc::<Count>::clone(&count));
    group.bench_function("push, reader awake", |b| b.iter(|| rings.push(black_box(&data))));
    group.bench_function("push, reader asleep (arm + flag)", |b| {
        b.iter(|| {
            subscription.arm(1, handle.head());
            rings.push(black_box(&data));
        });
    });
    assert!(count.0.load(Ordering::Relaxed) > 0);
    let fd = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    group.bench_function("eventfd write", |b| {
        b.iter(|| {
            let _ = rustix::io::write(&fd, &1_u64.to_ne_bytes());
        });
    });
    group.finish();
}

criterion_group!(benches, push_and_read, wake);
criterion_main!(benches);

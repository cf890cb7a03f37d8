//! Large chunks and answers on their way to clients of HTTP: handed on by handle, and bounded in what stalled clients keep of them.
//!
//! A live chunk is one block of memory for all viewers of its run; the start of a stream is often made for one viewer alone.
//! HTTP's queue of a client holds handles of parts of them, never copies, so a block lives until its last client has taken
//! it. What clients hold is counted by block, once however many share it: 500 viewers of one key picture count as one
//! picture, 500 that connected and read nothing as 500 starts. Past [`MAX_HELD`] the blocks for which none of the holders has
//! taken anything for [`STALLED`] are given up, those first that waited longest, by ending the work of their clients: an
//! HTTP/1 connection is closed, and its queue with all handles is gone at once. A block that somebody still takes is left
//! to all of its holders, as giving up one of them frees nothing.
//!
//! Over HTTP/2, where one connection serves many requests, a request is reset and the others go on. What HTTP/2 has queued
//! for a connection that is stuck leaves only with that connection, so there a part is copied when it is handed on, as
//! encryption does once more anyway: at most a part per request stays.
//!
//! Chunks up to [`PART`] are not counted: HTTP's queue bounds them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::hub::Piece;

/// Bytes of one part: what HTTP's queue takes.
const PART: usize = 64 << 10;

/// Bytes that all clients may have yet to take; past them those that have stalled longest are given up.
const MAX_HELD: usize = 64 << 20;

/// A client that takes nothing for so long has stalled.
const STALLED: Duration = Duration::from_secs(10);

static HELD: LazyLock<Mutex<Held>> = LazyLock::new(|| Mutex::new(Held::new(MAX_HELD)));

tokio::task_local! {
    /// The client for whom this task works.
    static CLIENT: Arc<Client>;
}

/// Bytes that clients have yet to take, and how many clients were given up so far.
pub(super) fn figures() -> (u64, u64) {
    let held = HELD.lock();
    (held.bytes as u64, held.given_up)
}

/// Does the work for one client, which ends early when the client is given up.
pub(super) async fn serve(parts: Parts, work: impl Future) {
    let client = Client::new(parts);
    tokio::select! {
        _ = CLIENT.scope(Arc::clone(&client), work) => {}
        () = client.end.notified() => {}
    }
}

/// A whole answer, in pieces; the head of the response says how long it is.
pub(super) fn body(pieces: impl IntoIterator<Item = Bytes>) -> Body {
    let mut pieces: VecDeque<Bytes> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
    if pieces.len() <= 1 && pieces.iter().all(|piece| piece.len() <= PART) {
        return Body::from(pieces.pop_front().unwrap_or_default());
    }
    let chunks: VecDeque<Chunk> = pieces.into_iter().map(|piece| Chunk::new(piece.into())).collect();
    Body::from_stream(stream::unfold(chunks, |mut chunks| async move {
        loop {
            let part = chunks.front_mut()?.next();
            if !part.is_empty() {
                return Some((Ok::<_, Infallible>(part), chunks));
            }
            chunks.pop_front();
        }
    }))
}

/// How parts of a large chunk leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    /// By handle: with the end of the work goes the queue that they are in.
    Shared,
    /// Copied: the queue may outlive the work.
    Copied,
}

/// Someone who takes chunks: a connection of HTTP/1, a request of HTTP/2.
struct Client {
    parts: Parts,
    /// When it took something.
    at: Mutex<Instant>,
    is_given_up: AtomicBool,
    end: Notify,
}

impl Client {
    fn new(parts: Parts) -> Arc<Self> {
        let (at, end) = (Mutex::new(Instant::now()), Notify::new());
        Arc::new(Self { parts, at, is_given_up: AtomicBool::new(false), end })
    }

    /// Ends its work; whether this was the first time.
    fn give_up(&self) -> bool {
        self.end.notify_one();
        !self.is_given_up.swap(true, Ordering::Relaxed)
    }
}

/// A chunk on its way to the client for whom the task works: its own head, then what it shares.
pub(super) struct Chunk([Way; 2]);

impl Chunk {
    /// All of it counts as held from now on, whenever it is taken.
    pub(super) fn new(piece: Piece) -> Self {
        Self([Way::new(piece.head), Way::new(piece.rest)])
    }

    /// The next part; empty: there is no more.
    pub(super) fn next(&mut self) -> Bytes {
        let [head, rest] = &mut self.0;
        let part = head.next();
        if part.is_empty() { rest.next() } else { part }
    }
}

enum Way {
    Small(Bytes),
    Large {
        lease: Arc<Lease>,
        /// Bytes handed on.
        taken: usize,
    },
}

impl Way {
    fn new(data: Bytes) -> Self {
        if data.len() <= PART {
            return Self::Small(data);
        }
        let client = CLIENT.try_with(Arc::clone).unwrap_or_else(|_| Client::new(Parts::Copied));
        Self::Large { lease: Lease::new(data, client), taken: 0 }
    }

    fn next(&mut self) -> Bytes {
        let Self::Large { lease, taken } = self else {
            let Self::Small(data) = self else { return Bytes::new() };
            return std::mem::take(data);
        };
        let (from, to) = (*taken, lease.all.len().min(*taken + PART));
        let (part, lease) = (lease.all.slice(from..to), Arc::clone(lease));
        *taken = to;
        if to == lease.all.len() {
            *self = Self::Small(Bytes::new());
        }
        *lease.client.at.lock() = Instant::now();
        match lease.client.parts {
            Parts::Shared => Bytes::from_owner(Part { part, _lease: lease }),
            Parts::Copied => Bytes::copy_from_slice(&part),
        }
    }
}

/// A part in HTTP's queue.
struct Part {
    part: Bytes,
    _lease: Arc<Lease>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.part
    }
}

/// A client's hold on a block: of what is to be handed on of it, and of its parts in HTTP's queue.
struct Lease {
    id: u64,
    all: Bytes,
    client: Arc<Client>,
}

impl Lease {
    fn new(all: Bytes, client: Arc<Client>) -> Arc<Self> {
        let now = Instant::now();
        *client.at.lock() = now;
        let id = HELD.lock().keep(&all, &client, now);
        Arc::new(Self { id, all, client })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        HELD.lock().release(self.id);
    }
}

struct Held {
    most: usize,
    next: u64,
    leases: BTreeMap<u64, (usize, Arc<Client>)>,
    /// By address.
    blocks: HashMap<usize, Block>,
    /// Of all blocks.
    bytes: usize,
    given_up: u64,
}

struct Block {
    len: usize,
    leases: usize,
}

impl Held {
    fn new(most: usize) -> Self {
        Self { most, next: 0, leases: BTreeMap::new(), blocks: HashMap::new(), bytes: 0, given_up: 0 }
    }

    fn keep(&mut self, all: &Bytes, client: &Arc<Client>, now: Instant) -> u64 {
        let place = all.as_ptr().addr();
        let block = self.blocks.entry(place).or_insert(Block { len: all.len(), leases: 0 });
        block.leases += 1;
        if block.leases == 1 {
            self.bytes += block.len;
        }
        let id = self.next;
        self.next += 1;
        self.leases.insert(id, (place, Arc::clone(client)));
        if self.bytes > self.most {
            self.give_up(now);
        }
        id
    }

    fn release(&mut self, id: u64) {
        let Some((place, _)) = self.leases.remove(&id) else { return };
        let Some(block) = self.blocks.get_mut(&place) else { return };
        block.leases -= 1;
        if block.leases == 0 {
            self.bytes -= block.len;
            self.blocks.remove(&place);
        }
    }

    fn give_up(&mut self, now: Instant) {
        let mut blocks: HashMap<usize, (Instant, Vec<u64>)> = HashMap::new();
        for (id, (place, client)) in &self.leases {
            let at = *client.at.lock();
            let (last, leases) = blocks.entry(*place).or_insert((at, Vec::new()));
            *last = at.max(*last);
            leases.push(*id);
        }
        let mut stalled: Vec<(Instant, Vec<u64>)> =
            blocks.into_values().filter(|(at, _)| now.saturating_duration_since(*at) >= STALLED).collect();
        stalled.sort_unstable();
        for (_, leases) in stalled {
            if self.bytes <= self.most {
                return;
            }
            for id in leases {
                if let Some((_, client)) = self.leases.get(&id) {
                    self.given_up += u64::from(client.give_up());
                }
                // Its client ends in a moment.
                self.release(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(at: Instant) -> Arc<Client> {
        let client = Client::new(Parts::Shared);
        *client.at.lock() = at;
        client
    }

    #[test]
    fn blocks_that_nobody_takes_are_given_up_when_it_is_too_much() {
        let (mut held, start) = (Held::new(1_000_000), Instant::now());
        let large = |byte| Bytes::from(vec![byte; 400_000]);
        let (shared, private, third, fourth) = (large(1), large(2), large(3), large(4));
        let clients: Vec<_> = (0..5).map(|_| client(start)).collect();
        held.keep(&shared, &clients[0], start);
        held.keep(&shared, &clients[1], start);
        held.keep(&private, &clients[2], start + Duration::from_secs(1));
        assert_eq!(held.bytes, 800_000, "what is shared counts once");
        let later = start + STALLED + Duration::from_secs(1);
        *clients[1].at.lock() = later;
        *clients[3].at.lock() = later;
        held.keep(&third, &clients[3], later);
        let given_up: Vec<bool> =
            clients.iter().map(|client| client.is_given_up.load(Ordering::Relaxed)).collect();
        assert_eq!(given_up, [false, false, true, false, false], "the shared one is still taken by another");
        assert_eq!((held.bytes, held.given_up), (800_000, 1));
        *clients[4].at.lock() = later;
        held.keep(&fourth, &clients[4], later);
        assert_eq!((held.bytes, held.given_up), (1_200_000, 1), "none has stalled");
    }

    #[test]
    fn those_that_waited_longest_go_first_and_count_once() {
        let (mut held, start) = (Held::new(1_000_000), Instant::now());
        let blocks: Vec<Bytes> = (0..4).map(|byte| Bytes::from(vec![byte; 300_000])).collect();
        let (first, second) = (client(start), client(start + Duration::from_secs(1)));
        let ids = [held.keep(&blocks[1], &second, start), held.keep(&blocks[0], &first, start)];
        held.keep(&blocks[0], &first, start);
        held.keep(&blocks[2], &second, start);
        let later = start + STALLED * 2;
        let last = held.keep(&blocks[3], &client(later), later);
        assert_eq!((held.bytes, held.given_up), (900_000, 1));
        assert!(first.is_given_up.load(Ordering::Relaxed) && !second.is_given_up.load(Ordering::Relaxed));
        assert!(held.leases.contains_key(&ids[0]) && !held.leases.contains_key(&ids[1]));
        held.release(ids[1]);
        held.release(last);
        assert_eq!(held.bytes, 600_000, "what was given up is released once");
    }

    #[tokio::test]
    async fn a_client_given_up_keeps_nothing() {
        let block = Bytes::from(vec![7; 3 * PART]);
        let (sender, queue) = tokio::sync::oneshot::channel();
        let kept = block.clone();
        let work = tokio::spawn(serve(Parts::Shared, async move {
            let mut chunk = Chunk::new(kept.into());
            // HTTP's queue, which belongs to the connection's task.
            let queued = chunk.next();
            assert!(sender.send((queued.as_ptr().addr(), CLIENT.with(Arc::clone))).is_ok());
            std::future::pending::<()>().await;
            drop((chunk, queued));
        }));
        let (place, client) = queue.await.unwrap();
        assert_eq!(place, block.as_ptr().addr(), "not copied");
        assert!(!block.is_unique());
        assert!(client.give_up());
        work.await.unwrap();
        assert!(block.is_unique());
    }

    #[tokio::test]
    async fn a_part_in_the_queue_keeps_its_block_counted() {
        let block = Bytes::from(vec![7; 2 * PART + 1]);
        let is_held = |block: &Bytes| HELD.lock().blocks.contains_key(&block.as_ptr().addr());
        let work = async {
            let mut chunk = Chunk::new(Piece { head: Bytes::from_static(b"head"), rest: block.clone() });
            assert_eq!(chunk.next(), "head");
            let parts = [chunk.next(), chunk.next(), chunk.next()];
            assert_eq!(parts.each_ref().map(Bytes::len), [PART, PART, 1]);
            assert!(chunk.next().is_empty());
            let [first, second, third] = parts;
            drop((first, second));
            assert!(is_held(&block));
            drop(third);
            assert!(!is_held(&block), "the chunk itself has handed on everything");
        };
        serve(Parts::Shared, work).await;
        let work = async {
            let mut chunk = Chunk::new(block.clone().into());
            let part = chunk.next();
            drop(chunk);
            assert!(!is_held(&block) && part.as_ptr() != block.as_ptr(), "a copy holds nothing");
        };
        serve(Parts::Copied, work).await;
    }

    #[tokio::test]
    async fn a_whole_answer_keeps_its_order() {
        for lens in [vec![], vec![0], vec![5], vec![0, 70_000], vec![70_000, 1, 200_000]] {
            let pieces: Vec<Bytes> = lens.iter().map(|len| Bytes::from(vec![*len as u8; *len])).collect();
            let all = axum::body::to_bytes(body(pieces.clone()), usize::MAX).await.unwrap();
            assert_eq!(all, pieces.concat());
        }
    }

    proptest! {
        #[test]
        fn parts_add_up(head in 0_usize..200_000, rest in 0_usize..300_000) {
            let all: Bytes = (0..head + rest).map(|at| at as u8).collect();
            let piece = Piece { head: all.slice(..head), rest: all.slice(head..) };
            let (mut chunk, mut came) = (Chunk::new(piece), Vec::new());
            loop {
                let part = chunk.next();
                if part.is_empty() {
                    break;
                }
                prop_assert!(part.len() <= PART);
                came.extend_from_slice(&part);
            }
            prop_assert_eq!(came, all);
        }

        #[test]
        fn nothing_stays(steps in proptest::collection::vec((0_usize..4, 0_usize..3, any::<bool>()), 0..40)) {
            let now = Instant::now();
            let blocks: Vec<Bytes> = (1..5).map(|len| Bytes::from(vec![0; len * 1000])).collect();
            let clients: Vec<_> = (0..3).map(|_| client(now)).collect();
            let (mut held, mut ids) = (Held::new(5_000), Vec::new());
            for (block, client, leaves) in steps {
                if leaves && !ids.is_empty() {
                    held.release(ids.swap_remove(block % ids.len()));
                } else {
                    ids.push(held.keep(&blocks[block], &clients[client], now + STALLED * block as u32));
                }
                let sum: usize = held.blocks.values().map(|block| block.len).sum();
                prop_assert_eq!(held.bytes, sum);
            }
            for id in ids {
                held.release(id);
            }
            prop_assert_eq!((held.bytes, held.leases.len(), held.blocks.len()), (0, 0, 0));
        }
    }
}

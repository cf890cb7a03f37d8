//! What readers of this process hold.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::backing::Backing;
use crate::layout::Geometry;
use crate::output::Output;
use crate::reader::{ReadOutcome, Target, View};
use crate::wake::{Gate, Sleeper, Wake};

/// One memory of a ring.
pub(crate) struct Generation {
    pub(crate) backing: Arc<dyn Backing>,
    pub(crate) geometry: Geometry,
    pub(crate) number: u64,
}

impl Generation {
    fn view(&self) -> View<'_> {
        View { words: self.backing.words(), geometry: self.geometry }
    }
}

/// The reading side of a [`Ring`](crate::Ring), for any number of threads. It follows the ring through replacements of
/// its memory and keeps the last memory readable after the ring has gone. Reading takes no lock.
pub struct RingHandle {
    current: ArcSwap<Generation>,
    gate: Gate,
    sleepers: ArcSwap<Vec<Arc<Sleeper>>>,
}

/// A memory file for another process.
#[derive(Debug)]
#[non_exhaustive]
pub struct Exported {
    /// To be mapped by [`Mapped::map`](crate::Mapped::map).
    pub fd: OwnedFd,
    /// Which memory of the ring it is: send a new one when [`RingHandle::generation`] is another.
    pub generation: u64,
}

impl RingHandle {
    pub(crate) fn new(generation: Generation) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwap::from_pointee(generation),
            gate: Gate::new(),
            sleepers: ArcSwap::from_pointee(Vec::new()),
        })
    }

    /// Copies as many whole units as fit into `out`: those from sequence `cursor` on (0 and 1 mean the first) whose
    /// track's bit is set in `mask`, oldest first, each as a [`UnitHeader`](crate::UnitHeader) and its payload padded
    /// to 8 bytes. Stateless, and never waits for the writer.
    pub fn read<O: Output + ?Sized>(&self, cursor: u64, mask: u64, out: &mut O) -> ReadOutcome {
        self.current.load().view().read(cursor, mask, out)
    }

    /// The sequence to read from, or `None` when there is no such unit (any more).
    pub fn locate(&self, target: Target) -> Option<u64> {
        self.current.load().view().locate(target)
    }

    /// The next sequence to be written.
    pub fn head(&self) -> u64 {
        self.current.load().view().head()
    }

    /// Why the ring was closed, once it is.
    pub fn closed(&self) -> Option<u64> {
        self.current.load().view().closed()
    }

    /// Number of the current memory, from 1 on; another one after each replacement.
    pub fn generation(&self) -> u64 {
        self.current.load().number
    }

    /// Bytes of the current memory.
    pub fn bytes(&self) -> u64 {
        self.current.load().geometry.bytes()
    }

    /// A descriptor of the current memory for another process; `None` on the heap.
    pub fn export(&self) -> Option<Exported> {
        let generation = self.current.load();
        generation.backing.export().map(|fd| Exported { fd, generation: generation.number })
    }

    /// Registers a reader that wants to sleep until something comes.
    pub fn subscribe(self: &Arc<Self>, wake: Arc<dyn Wake>) -> Subscription {
        let sleeper = Arc::new(Sleeper::new(wake));
        self.sleepers.rcu(|list| {
            let mut list = Vec::clone(list);
            list.push(Arc::clone(&sleeper));
            list
        });
        Subscription { handle: Arc::clone(self), sleeper }
    }

    /// Writer: reads go to `generation` from now on.
    pub(crate) fn switch(&self, generation: Generation) {
        self.current.store(Arc::new(generation));
    }

    /// Writer: wakes who waits for the unit just published.
    pub(crate) fn announce(&self, track: u16, sequence: u64) {
        if self.gate.announce(track, sequence) {
            self.fire(1 << track);
        }
    }

    /// Writer: wakes everybody for good.
    pub(crate) fn close(&self, reason: u64) {
        self.gate.close(reason);
        self.fire(u64::MAX);
    }

    #[cold]
    fn fire(&self, bits: u64) {
        self.gate.fire(bits, self.sleepers.load().iter().map(|sleeper| &**sleeper));
    }
}

/// A reader's right to be woken; dropped, it is over.
pub struct Subscription {
    handle: Arc<RingHandle>,
    sleeper: Arc<Sleeper>,
}

impl Subscription {
    /// Arms one wake for units of `mask` at or after `cursor`, or for the close. False: there already is one (read
    /// instead of sleeping). Arming again replaces what was armed. A wake may come without a new unit, and once after a false.
    pub fn arm(&self, mask: u64, cursor: u64) -> bool {
        self.handle.gate.arm(&self.sleeper, mask, cursor)
    }

    /// The ring it belongs to.
    pub fn handle(&self) -> &Arc<RingHandle> {
        &self.handle
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.handle.sleepers.rcu(|list| -> Vec<Arc<Sleeper>> {
            list.iter().filter(|other| !Arc::ptr_eq(other, &self.sleeper)).cloned().collect()
        });
    }
}

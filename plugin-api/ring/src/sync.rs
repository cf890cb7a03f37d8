//! The only atomics of the crate: std's, or loom's under `--cfg loom`.
//!
//! Under loom each ordering that the ring relies on has a name ([`Site`]) and can be weakened at run time, so that a
//! model can show that it is needed. In a normal build the names cost nothing.

pub(crate) use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, fence};

use std::sync::atomic::Ordering;

/// An ordering (or check) without which the ring is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Site {
    /// Writer: the raised floor before the bytes that it excludes. Partner: [`Site::Validate`].
    Floor,
    /// Writer: payload and slot before the new head. Partner: [`Site::Head`].
    Publish,
    /// Reader: the head before slot and payload. Partner: [`Site::Publish`].
    Head,
    /// Reader: slot and payload before the floor is looked at again. Partner: [`Site::Floor`].
    Validate,
    /// Reader: looking at the floor again at all.
    Check,
    /// Writer: the newest sequence before the look at who sleeps. Partner: [`Site::Sleep`].
    Wake,
    /// Reader: having gone to sleep before the look at the newest sequence. Partner: [`Site::Wake`].
    Sleep,
    /// Reader: its own mask before the shared one. Partner: [`Site::Collect`].
    Arm,
    /// Writer: the shared mask before each reader's own. Partner: [`Site::Arm`].
    Collect,
    /// Writer: the head before the newest sequence that an arming reader looks at. Partner: [`Site::See`].
    Newest,
    /// Reader: the newest sequence before its next read. Partner: [`Site::Newest`].
    See,
}

#[cfg(not(loom))]
#[inline(always)]
pub(crate) fn strong(_site: Site) -> bool {
    true
}

#[cfg(loom)]
pub(crate) fn strong(site: Site) -> bool {
    crate::model::weakened() != Some(site)
}

/// `fence(ordering)`, unless a model weakened `site`.
#[inline(always)]
pub(crate) fn fence_at(site: Site, ordering: Ordering) {
    if strong(site) {
        fence(ordering);
    }
}

/// `ordering`, unless a model weakened `site`.
#[inline(always)]
pub(crate) fn ordering_at(site: Site, ordering: Ordering) -> Ordering {
    if strong(site) { ordering } else { Relaxed }
}

//! What `read` and `locate` of the host's table mean to a ring, in the server's process and in a plugin's own.

use patchbay_plugin_api::Code;
use patchbay_plugin_api::abi::{ReadOut, target};
use patchbay_ring::{ReadOutcome, Target};

/// Tells a plugin what was read, but for whether it will be woken: with [`Code::Ok`] at the end of the ring that is the caller's to
/// say. `is_gone`: the source has ended.
pub(crate) fn report(read: &ReadOutcome, is_gone: bool, out: &mut ReadOut) -> Code {
    out.next = read.next;
    out.units = u64::from(read.units);
    out.written = read.written;
    out.lost = read.lost;
    out.needed = read.needed;
    out.end = 0;
    if read.units == 0 && read.needed > 0 {
        return Code::TooSmall;
    }
    if read.end && read.units == 0 && (read.closed.is_some() || is_gone) {
        return Code::Closed;
    }
    Code::Ok
}

/// The place that a number of [`target`] and its argument name.
pub(crate) fn place(what: u32, arg: u64) -> Result<Target, Code> {
    let track = |bits: u64| u16::try_from(bits).map_err(|_| Code::Invalid);
    Ok(match what {
        target::NEWEST_KEY => Target::NewestKey { track: track(arg)? },
        target::KEY_BEFORE => Target::KeyBefore { track: track(arg >> 32)?, ms: arg & 0xffff_ffff },
        target::OLDEST => Target::Oldest,
        target::HEAD => Target::Head,
        _ => return Err(Code::Unsupported),
    })
}

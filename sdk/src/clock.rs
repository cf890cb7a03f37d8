//! The clocks of the machine.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now on the clock that the host places units on (`CLOCK_MONOTONIC`), ns.
pub fn host_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

/// Now as Unix time, ns.
pub fn unix_ns() -> i64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(unix.as_nanos()).unwrap_or(i64::MAX)
}

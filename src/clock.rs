//! The clock that V4L2 and GPIO events are stamped with.

use rustix::time::{ClockId, clock_gettime};

/// Microseconds on `CLOCK_MONOTONIC`.
pub fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // It counts from boot and is never negative.
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

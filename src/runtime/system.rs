//! What Linux can do for a thread that must be on time: priority, locked memory, a core, a watchdog.
//!
//! `unsafe` because the C library has no safe form of these calls; each takes plain numbers, or a pointer to a
//! value on the stack. Nothing here may stop the station: what the system does not allow is reported.
#![allow(unsafe_code)]

use crate::clock::now_us;
use crate::line::Micros;
pub use crate::priority::low_priority;
use std::fs::File;
use std::io::Error;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Now, on the clock that V4L2 and GPIO events are stamped with.
pub fn now() -> Micros {
    Micros(now_us())
}

/// Locks a mutex, even if a thread has panicked while it held it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A moment by the system's clock, as it is set now: RFC 3339, UTC, with milliseconds.
pub fn utc(at: Micros) -> String {
    let ago = i64::try_from(now().since(at)).unwrap_or(i64::MAX);
    let then = jiff::Timestamp::now().checked_sub(jiff::SignedDuration::from_micros(ago));
    then.map_or_else(|_| String::new(), written)
}

/// A moment as it stands in everything that the station writes: RFC 3339, UTC, with milliseconds.
pub fn written(moment: jiff::Timestamp) -> String {
    format!("{moment:.3}")
}

/// Gives the calling thread a real-time priority, 1..=99 (SCHED_FIFO).
///
/// # Errors
/// The system's reason: without CAP_SYS_NICE or an rtprio limit it is "operation not permitted".
pub fn real_time(priority: u32) -> Result<(), Error> {
    let parameters = libc::sched_param {
        sched_priority: priority.clamp(1, 99) as i32,
    };
    // SAFETY: reads one sched_param; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// Keeps every page of the process in memory once it has been used.
///
/// # Errors
/// The system's reason: without CAP_IPC_LOCK the limit on locked memory (`ulimit -l`) is too low.
pub fn lock_memory() -> Result<(), Error> {
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: takes flags only.
    match unsafe { libc::mlockall(flags) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// Keeps the calling thread on one core.
///
/// # Errors
/// The system's reason, for example that there is no such core.
pub fn on_core(core: u32) -> Result<(), Error> {
    let core = core as usize;
    if core >= libc::CPU_SETSIZE as usize {
        return Err(Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: an all-zero cpu_set_t is the empty set; CPU_SET is given a core within its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        set
    };
    // SAFETY: reads one cpu_set_t; 0 is the calling thread.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// Sets the time-out of a watchdog device, seconds.
///
/// # Errors
/// The system's reason; some watchdogs have one time-out that cannot be changed.
pub fn watchdog_timeout(device: &File, seconds: u32) -> Result<(), Error> {
    // WDIOC_SETTIMEOUT of linux/watchdog.h: _IOWR('W', 6, int).
    const SET_TIMEOUT: u32 = 0xc004_5706;
    let mut seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
    // SAFETY: the call reads and writes one int, on the stack; the descriptor is open.
    match unsafe { libc::ioctl(device.as_raw_fd(), SET_TIMEOUT as _, &mut seconds) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_in_microseconds() {
        let (start, instant) = (now(), std::time::Instant::now());
        while instant.elapsed().as_micros() < 2_000 {}
        let elapsed = now().since(start);
        assert!(elapsed >= 2_000, "{elapsed}");
    }

    #[test]
    fn a_core_that_does_not_exist_is_refused() {
        assert!(on_core(u32::MAX).is_err());
        assert!(on_core(1023).is_err());
    }
}

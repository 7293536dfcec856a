//! Threads that give way to all others, and what they must not do: hold a lock that others wait for while they are
//! kept from the processor. Measured: a page's thread that was interrupted so kept the serial port for 115 ms.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// What threads have that give way, and what they had before.
const LOW: i32 = 10;
static USUAL: OnceLock<i32> = OnceLock::new();

/// Makes the calling thread give way to others: nice 10, but while it holds (`hold`) a lock.
///
/// # Errors
/// The system's reason.
pub fn low_priority() -> Result<(), std::io::Error> {
    // On Linux the calling thread's alone (setpriority(2), notes).
    let usual = rustix::process::getpriority_process(None)?;
    rustix::process::setpriority_process(None, LOW)?;
    USUAL.get_or_init(|| usual);
    Ok(())
}

/// A lock that is held with the usual priority.
pub struct Held<'a, T> {
    /// First: it is given back before the priority is.
    lock: MutexGuard<'a, T>,
    _raised: Raised,
}

/// The calling thread has the usual priority; what it gave up before, it gives up again.
struct Raised(bool);

impl Drop for Raised {
    fn drop(&mut self) {
        if self.0 {
            // Fails only where no thread may be lowered.
            let _ = rustix::process::setpriority_process(None, LOW);
        }
    }
}

/// Locks what threads of usual priority wait for, in a thread that called [`low_priority`]. Coming back to the usual
/// priority needs the limit on nice (`LimitNICE` of a service) or CAP_SYS_NICE; without, it stays low.
/// A panic elsewhere does not take the lock away.
pub fn hold<T>(mutex: &Mutex<T>) -> Held<'_, T> {
    let raised = USUAL
        .get()
        .is_some_and(|usual| rustix::process::setpriority_process(None, *usual).is_ok());
    let raised = Raised(raised);
    Held {
        lock: mutex.lock().unwrap_or_else(PoisonError::into_inner),
        _raised: raised,
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.lock
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_gives_way_does_not_while_others_wait_for_it() {
        // Threads keep what they gave up: one of its own.
        let thread = std::thread::spawn(|| {
            let nice = || rustix::process::getpriority_process(None).unwrap();
            let usual = nice();
            low_priority().unwrap();
            assert_eq!(nice(), LOW);
            let lock = Mutex::new(1);
            let may = match rustix::process::setpriority_process(None, usual) {
                Ok(()) => usual,
                // Nobody but root may without a limit of its own.
                Err(_) => LOW,
            };
            low_priority().unwrap();
            let mut held = hold(&lock);
            *held += 1;
            assert_eq!(nice(), may);
            assert!(lock.try_lock().is_err());
            drop(held);
            assert_eq!((nice(), *lock.lock().unwrap()), (LOW, 2));
        });
        thread.join().unwrap();
    }
}

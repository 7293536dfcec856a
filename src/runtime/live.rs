//! The last part's picture for whoever looks on: drawn only while somebody does, and only so often.

use super::system::lock;
use crate::line::{Micros, PartId};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Microseconds for which a look at the picture has the next ones drawn.
const WATCHED: u64 = 3_000_000;

/// Microseconds between two pictures.
const EVERY: u64 = 250_000;

/// A part's frame under its heat map.
pub struct Shown {
    /// Whose.
    pub part: PartId,
    /// JPEG.
    pub jpeg: Vec<u8>,
}

/// See the module.
#[derive(Default)]
pub struct Live {
    /// Nobody looks on after that, microseconds.
    until: AtomicU64,
    /// The next picture is due then, microseconds.
    next: AtomicU64,
    shown: Mutex<Option<Arc<Shown>>>,
}

impl Live {
    /// Somebody looks on.
    pub fn ask(&self, now: Micros) {
        self.until.store(now.0 + WATCHED, Ordering::Relaxed);
    }

    /// The last picture that was drawn.
    pub fn shown(&self) -> Option<Arc<Shown>> {
        lock(&self.shown).clone()
    }

    /// Whether a part's picture is to be drawn. Never waits; of several networks one at most is told so.
    pub(super) fn takes(&self, now: Micros) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        let due = now.0 < self.until.load(Ordering::Relaxed) && now.0 >= next;
        due && self
            .next
            .compare_exchange(next, now.0 + EVERY, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    pub(super) fn show(&self, part: PartId, jpeg: Vec<u8>) {
        *lock(&self.shown) = Some(Arc::new(Shown { part, jpeg }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_drawn_while_somebody_looks_on_and_only_so_often() {
        let live = Live::default();
        let at = |us| Micros(10_000_000 + us);
        assert!(!live.takes(at(0)), "nobody looks on");
        live.ask(at(0));
        assert!(live.takes(at(1)));
        assert!(!live.takes(at(2)), "so soon");
        assert!(live.takes(at(1 + EVERY)));
        assert!(!live.takes(at(WATCHED)), "not any more");
    }
}

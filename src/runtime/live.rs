//! The last part's picture for the web page: drawn only while somebody looks at it, and only so often.

use super::system::lock;
use crate::line::{Micros, PartId};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// For how long after a request pictures go on being drawn, microseconds.
const WATCHED: u64 = 3_000_000;

/// Least time between two pictures, microseconds.
const EVERY: u64 = 250_000;

/// The picture of a part: its frame under its heat map.
pub struct Shown {
    /// The part that the picture shows.
    pub part: PartId,
    /// The picture as a JPEG file.
    pub jpeg: Vec<u8>,
}

/// The picture of one camera that was drawn last, and whether the next one is wanted; see the module.
#[derive(Default)]
pub struct Live {
    /// Pictures are drawn until this time, microseconds.
    until: AtomicU64,
    /// The next picture is due at this time, microseconds.
    next: AtomicU64,
    shown: Mutex<Option<Arc<Shown>>>,
}

impl Live {
    /// Says that somebody looks at the pictures now.
    pub fn ask(&self, now: Micros) {
        self.until.store(now.0 + WATCHED, Ordering::Relaxed);
    }

    /// The last picture that was drawn.
    pub fn shown(&self) -> Option<Arc<Shown>> {
        lock(&self.shown).clone()
    }

    /// Whether the picture of the present part is to be drawn. Never waits; of several networks that ask at the
    /// same time at most one gets `true`.
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

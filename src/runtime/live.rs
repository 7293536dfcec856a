//! The last part's picture for the web page: asked for only while somebody looks at it, and only so often.
//!
//! A judge says by one atomic whether the present part's picture is wanted; the recorder hands over what it is drawn from,
//! which takes microseconds; the page's own thread, which has low priority, draws it when a browser asks. A picture that
//! the archive keeps is drawn already.

use super::system::lock;
use crate::line::{Micros, PartId};
use image::ImageError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

/// For how long after a request pictures go on being asked for, microseconds.
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

/// Draws a picture; gives it as a JPEG file.
pub(super) type Draw = Box<dyn FnOnce() -> Result<Vec<u8>, ImageError> + Send>;

/// A picture that nobody has drawn yet.
struct Offered {
    /// Later pictures have higher numbers, here and in [`Slot::newest`].
    number: u64,
    part: PartId,
    draw: Draw,
}

#[derive(Default)]
struct Slot {
    /// How many pictures have come.
    count: u64,
    offered: Option<Offered>,
    /// The newest that is drawn, with its number.
    newest: Option<(u64, Arc<Shown>)>,
}

/// The picture of one camera that came last, and whether the next one is wanted; see the module.
#[derive(Default)]
pub struct Live {
    /// Pictures are wanted until this time, microseconds.
    until: AtomicU64,
    /// The next picture is due at this time, microseconds.
    next: AtomicU64,
    slot: Mutex<Slot>,
    /// Held while somebody draws.
    drawing: Mutex<()>,
}

impl Live {
    /// Says that somebody looks at the pictures now.
    pub fn ask(&self, now: Micros) {
        self.until.store(now.0 + WATCHED, Ordering::Relaxed);
    }

    /// The last picture, drawn now if nobody has drawn it yet: tens of milliseconds of work. Two threads never draw at
    /// the same time: the second one gets the picture before.
    pub fn shown(&self) -> Option<Arc<Shown>> {
        if let Some(_alone) = free(&self.drawing) {
            let offered = lock(&self.slot).offered.take();
            if let Some(Offered { number, part, draw }) = offered {
                match draw() {
                    Ok(jpeg) => self.place(number, part, jpeg),
                    Err(e) => log::warn!("part {}: its picture cannot be drawn: {e}", part.0),
                }
            }
        }
        let slot = lock(&self.slot);
        slot.newest.as_ref().map(|(_, shown)| Arc::clone(shown))
    }

    /// The last picture that was drawn, and whether none is newer. Takes no time.
    pub fn drawn(&self) -> (Option<Arc<Shown>>, bool) {
        let slot = lock(&self.slot);
        let shown = slot.newest.as_ref().map(|(_, shown)| Arc::clone(shown));
        (shown, slot.offered.is_none())
    }

    fn place(&self, number: u64, part: PartId, jpeg: Vec<u8>) {
        let mut slot = lock(&self.slot);
        // The archive may have drawn a later one meanwhile.
        if slot.newest.as_ref().is_none_or(|(n, _)| *n < number) {
            slot.newest = Some((number, Arc::new(Shown { part, jpeg })));
        }
    }

    /// Whether the picture of the present part is wanted. Never waits; of several networks that ask at the
    /// same time at most one gets `true`.
    pub(super) fn takes(&self, now: Micros) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        let due = now.0 < self.until.load(Ordering::Relaxed) && now.0 >= next;
        due && self
            .next
            .compare_exchange(next, now.0 + EVERY, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Takes a picture that is drawn. Never waits for a thread of low priority: while one is just here, it is left out.
    pub(super) fn show(&self, part: PartId, jpeg: Vec<u8>) {
        if let Some(mut slot) = free(&self.slot) {
            slot.count += 1;
            slot.offered = None;
            slot.newest = Some((slot.count, Arc::new(Shown { part, jpeg })));
        }
    }

    /// Takes a picture that is drawn once somebody asks for it; never waits, as [`Live::show`].
    pub(super) fn offer(&self, part: PartId, draw: Draw) {
        if let Some(mut slot) = free(&self.slot) {
            slot.count += 1;
            let number = slot.count;
            slot.offered = Some(Offered { number, part, draw });
        }
    }
}

/// Locks if nobody else has; a panic elsewhere does not take the lock away.
fn free<T>(mutex: &Mutex<T>) -> Option<std::sync::MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread::{self, ThreadId};

    #[test]
    fn pictures_are_wanted_while_somebody_looks_on_and_only_so_often() {
        let live = Live::default();
        let at = |us| Micros(10_000_000 + us);
        assert!(!live.takes(at(0)), "nobody looks on");
        live.ask(at(0));
        assert!(live.takes(at(1)));
        assert!(!live.takes(at(2)), "so soon");
        assert!(live.takes(at(1 + EVERY)));
        assert!(!live.takes(at(WATCHED)), "not any more");
    }

    fn seen(live: &Live) -> Option<(u64, Vec<u8>)> {
        live.shown().map(|s| (s.part.0, s.jpeg.clone()))
    }

    /// A picture that says who draws it.
    fn offer(live: &Live, part: u64, drawn: &std::sync::mpsc::Sender<(u64, ThreadId)>) {
        let drawn = drawn.clone();
        let draw = move || {
            drawn.send((part, thread::current().id())).unwrap();
            Ok(vec![part as u8])
        };
        live.offer(PartId(part), Box::new(draw));
    }

    #[test]
    fn a_picture_is_drawn_by_who_asks_for_it_once_and_only_the_last_one() {
        let live = Live::default();
        let (sender, drawn) = channel();
        assert!(seen(&live).is_none());
        offer(&live, 1, &sender);
        offer(&live, 2, &sender);
        assert!(drawn.try_recv().is_err(), "nobody has asked");
        let (before, newest) = live.drawn();
        assert!(before.is_none() && !newest);
        thread::scope(|scope| {
            let page = scope.spawn(|| (seen(&live), thread::current().id()));
            let (picture, page) = page.join().unwrap();
            assert_eq!(picture, Some((2, vec![2])));
            assert_eq!(drawn.try_recv(), Ok((2, page)));
        });
        assert_eq!(seen(&live), Some((2, vec![2])));
        assert!(live.drawn().1 && drawn.try_recv().is_err(), "drawn twice");
        // The archive's is drawn already, and is later than one that waits.
        offer(&live, 3, &sender);
        live.show(PartId(4), vec![40]);
        assert_eq!(seen(&live), Some((4, vec![40])));
        assert!(drawn.try_recv().is_err());
        // One that cannot be drawn leaves the last.
        let wrong = std::io::Error::other("no memory");
        live.offer(PartId(5), Box::new(|| Err(ImageError::IoError(wrong))));
        assert_eq!(seen(&live), Some((4, vec![40])));
    }

    #[test]
    fn while_one_draws_nobody_waits_and_a_later_picture_stays() {
        let live = Live::default();
        live.show(PartId(1), vec![1]);
        let (begun, begins) = channel();
        let (go, goes) = channel::<()>();
        live.offer(
            PartId(2),
            Box::new(move || {
                begun.send(()).unwrap();
                goes.recv().unwrap();
                Ok(vec![2])
            }),
        );
        thread::scope(|scope| {
            let page = scope.spawn(|| seen(&live));
            begins.recv().unwrap();
            assert_eq!(seen(&live), Some((1, vec![1])), "the picture before");
            live.show(PartId(3), vec![3]);
            go.send(()).unwrap();
            assert_eq!(page.join().unwrap(), Some((3, vec![3])));
        });
        assert_eq!(seen(&live), Some((3, vec![3])));
    }
}

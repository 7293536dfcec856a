//! Frames in memory, in a fixed number of places that are used again and again.
//!
//! A place is free, being filled by the camera thread, waiting for its part, or being judged: its
//! number goes from hand to hand, so that no two ever want the same one.

use super::mailbox::{Mailbox, Post, mailbox};
use crate::line::FrameId;
use image::RgbImage;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// More numbers than there are places, so that there is room for every place while one is being taken.
const ROOM: usize = 64;

/// One frame.
#[derive(Debug, Default)]
pub struct Slot {
    /// The picture.
    pub image: RgbImage,
    /// What to call it.
    pub name: String,
    /// Whether the part is defective, where the source knows.
    pub defective: Option<bool>,
    /// Why there is no usable picture.
    pub error: Option<String>,
}

/// All places.
#[derive(Clone)]
pub struct Slots(Arc<[Mutex<Slot>]>);

/// Takes free places.
pub struct Free(Mailbox<FrameId, ROOM>);

/// Gives places back.
#[derive(Clone)]
pub struct Release(Post<FrameId, ROOM>);

impl Slots {
    /// So many free places, fewer than 64.
    pub fn new(count: usize) -> (Slots, Free, Release) {
        let slots = (0..count).map(|_| Mutex::default()).collect();
        debug_assert!(count < ROOM);
        let (release, free) = mailbox();
        let release = Release(release);
        (0..count).for_each(|i| release.give(FrameId(i as u64)));
        (Slots(slots), Free(free), release)
    }

    /// A place, for whoever has its number.
    pub fn at(&self, frame: FrameId) -> MutexGuard<'_, Slot> {
        let place = &self.0[frame.0 as usize % self.0.len()];
        // Whoever panicked while holding it left a frame that is overwritten before it is used again.
        place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Free {
    /// A free place.
    ///
    /// # Errors
    /// None became free in time.
    pub fn take(&self, timeout: Duration) -> Result<FrameId, RecvTimeoutError> {
        self.0.recv_timeout(timeout)
    }
}

impl Release {
    /// Gives a place back. Never waits: there is room for every place.
    pub fn give(&self, frame: FrameId) {
        // Fails only if nobody takes places any more.
        let _ = self.0.try_send(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_once_until_it_is_given_back() {
        let (slots, free, release) = Slots::new(2);
        let take = || free.take(Duration::ZERO).ok();
        let (a, b) = (take().unwrap(), take().unwrap());
        assert!(a != b && take().is_none());
        slots.at(a).name = "a".into();
        release.give(b);
        assert_eq!((take(), take()), (Some(b), None));
        assert_eq!(slots.at(a).name, "a");
    }
}

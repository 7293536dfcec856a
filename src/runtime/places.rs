//! Frames in memory, in a fixed number of places that are used again and again.
//!
//! A place is free, being filled by the camera thread, waiting for its part, or being judged: its
//! number goes from hand to hand, so that no two ever want the same one.

use super::mailbox::{Mailbox, Post};
use crate::line::FrameId;
use image::RgbImage;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One frame.
#[derive(Debug, Default)]
pub struct Place {
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
pub struct Places(Arc<[Mutex<Place>]>);

/// Takes free places.
pub struct FreePlaces {
    free: Vec<FrameId>,
    given: Mailbox<FrameId>,
    /// How many there are.
    count: usize,
}

/// Gives places back.
pub struct GiveBack(Post<FrameId>);

impl Places {
    /// So many free places.
    pub fn new(count: usize) -> (Places, FreePlaces) {
        let places = (0..count).map(|_| Mutex::default()).collect();
        let free = FreePlaces {
            // The first one is taken first.
            free: (0..count).rev().map(|i| FrameId(i as u64)).collect(),
            given: Mailbox::default(),
            count,
        };
        (Places(places), free)
    }

    /// A place, for whoever has its number.
    pub fn at(&self, frame: FrameId) -> MutexGuard<'_, Place> {
        let place = &self.0[frame.0 as usize % self.0.len()];
        // Whoever panicked while holding it left a frame that is overwritten before it is used again.
        place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FreePlaces {
    /// Somebody else who gives places back.
    pub fn giver(&mut self) -> GiveBack {
        GiveBack(self.given.lane(self.count))
    }

    /// A free place.
    ///
    /// # Errors
    /// None became free in time.
    pub fn take(&mut self, timeout: Duration) -> Result<FrameId, RecvTimeoutError> {
        match self.free.pop() {
            Some(place) => Ok(place),
            None => self.given.recv_timeout(timeout),
        }
    }

    /// Gives back what was taken here and not used.
    pub fn put(&mut self, frame: FrameId) {
        self.free.push(frame);
    }
}

impl GiveBack {
    /// Gives a place back. Never waits: there is room for every place.
    pub fn give(&mut self, frame: FrameId) {
        // Fails only if nobody takes places any more.
        let _ = self.0.try_send(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_once_until_it_is_given_back() {
        let (places, mut free) = Places::new(2);
        let mut giver = free.giver();
        let take = |free: &mut FreePlaces| free.take(Duration::ZERO).ok();
        let (a, b) = (take(&mut free).unwrap(), take(&mut free).unwrap());
        assert!(a != b && take(&mut free).is_none());
        places.at(a).name = "a".into();
        giver.give(b);
        assert_eq!((take(&mut free), take(&mut free)), (Some(b), None));
        free.put(b);
        assert_eq!((take(&mut free), take(&mut free)), (Some(b), None));
        assert_eq!(places.at(a).name, "a");
    }
}

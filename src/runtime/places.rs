//! Frames in memory, in a fixed number of places that are used again and again.
//!
//! A place is free, being filled by the camera thread, waiting for its part, or being judged: its
//! number goes from hand to hand, so that no two ever want the same one.

use super::mailbox::{Mailbox, Post};
use crate::line::{FrameId, View};
use image::RgbImage;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A place: one frame in memory, and what is known of it.
#[derive(Debug, Default)]
pub struct Place {
    /// The picture, 8-bit RGB.
    pub image: RgbImage,
    /// Name of the frame in reports.
    pub name: String,
    /// Whether the part is defective, where the source knows.
    pub defective: Option<bool>,
    /// Why the frame cannot be judged; `None`: it can.
    pub error: Option<String>,
    /// Whether the picture is what the camera saw, also where it cannot be judged. Of a damaged frame it may be half, or
    /// the one before.
    pub whole: bool,
}

/// All places: every camera has the same number of them.
#[derive(Clone)]
pub struct Places {
    all: Arc<[Mutex<Place>]>,
    /// How many places each camera has.
    each: usize,
}

/// The free places of all cameras, before they are handed out to the cameras' threads.
pub struct FreePlaces(Vec<CameraPlaces>);

/// Takes free places of one camera.
pub struct CameraPlaces {
    free: Vec<FrameId>,
    given: Mailbox<FrameId>,
    /// How many places the camera has.
    count: usize,
}

/// Returns places to the camera that they belong to.
pub struct GiveBack {
    lanes: Vec<Post<FrameId>>,
    each: usize,
}

impl Places {
    /// Makes `each` free places for each of `cameras` cameras.
    pub fn new(cameras: usize, each: usize) -> (Places, FreePlaces) {
        let all = (0..cameras * each).map(|_| Mutex::default()).collect();
        let of = |camera: usize| CameraPlaces {
            // Lowest number first.
            free: (camera * each..(camera + 1) * each)
                .rev()
                .map(|i| FrameId(i as u64))
                .collect(),
            given: Mailbox::default(),
            count: each,
        };
        let free = FreePlaces((0..cameras).map(of).collect());
        (Places { all, each }, free)
    }

    /// The camera that a place belongs to.
    pub fn view(&self, frame: FrameId) -> View {
        let camera = frame.0 as usize / self.each.max(1);
        View::ALL.get(camera).copied().unwrap_or_default()
    }

    /// Locks a place, for the thread that holds its number.
    pub fn at(&self, frame: FrameId) -> MutexGuard<'_, Place> {
        let place = &self.all[frame.0 as usize % self.all.len()];
        // Whoever panicked while holding it left a frame that is overwritten before it is used again.
        place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FreePlaces {
    /// One more handle that returns places, for another thread.
    pub fn giver(&mut self) -> GiveBack {
        let each = self.0.first().map_or(1, |camera| camera.count.max(1));
        let lanes = self.0.iter_mut().map(|c| c.given.lane(c.count)).collect();
        GiveBack { lanes, each }
    }

    /// The free places, camera by camera.
    pub fn by_camera(self) -> Vec<CameraPlaces> {
        self.0
    }
}

impl CameraPlaces {
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
        if let Some(lane) = self.lanes.get_mut(frame.0 as usize / self.each) {
            // Fails only if nobody takes places any more.
            let _ = lane.try_send(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_once_until_it_is_given_back() {
        let (places, mut free) = Places::new(1, 2);
        let mut giver = free.giver();
        let mut free = free.by_camera().remove(0);
        let take = |free: &mut CameraPlaces| free.take(Duration::ZERO).ok();
        let (a, b) = (take(&mut free).unwrap(), take(&mut free).unwrap());
        assert!(a != b && take(&mut free).is_none());
        places.at(a).name = "a".into();
        giver.give(b);
        assert_eq!((take(&mut free), take(&mut free)), (Some(b), None));
        free.put(b);
        assert_eq!((take(&mut free), take(&mut free)), (Some(b), None));
        assert_eq!(places.at(a).name, "a");
    }

    #[test]
    fn a_place_goes_back_to_its_own_camera() {
        let (places, mut free) = Places::new(2, 3);
        let mut giver = free.giver();
        let mut cameras = free.by_camera();
        let mut take = |camera: usize| cameras[camera].take(Duration::ZERO).ok();
        let first: Vec<FrameId> = (0..3).filter_map(|_| take(0)).collect();
        let second: Vec<FrameId> = (0..3).filter_map(|_| take(1)).collect();
        assert!((first.len(), second.len()) == (3, 3) && take(0).is_none());
        assert!(first.iter().all(|f| places.view(*f) == View::FIRST));
        assert!(second.iter().all(|f| places.view(*f) == View::ALL[1]));
        giver.give(second[1]);
        assert_eq!((take(0), take(1)), (None, Some(second[1])));
    }
}

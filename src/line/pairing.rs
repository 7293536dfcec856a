//! Which frame shows which part: the one whose exposure lies where the trigger says, within a window.
//!
//! Must never guess: parts are further apart than twice the window, so a frame fits one part or none. A
//! part without a frame is rejected at its deadline, a frame without a part is counted and dropped.

use super::bounds::{SettingError, in_range};
use super::outcome::Cause;
use super::time::{FrameId, Micros};
use super::view::View;
use heapless::Deque;

/// Frames of one camera that wait for a trigger that is reported later than they are.
pub const HELD_FRAMES: usize = 8;

/// How much later than its frame a trigger may be reported, us. Both come from the kernel with the time at
/// which they happened; threads may swap them by less than this.
pub const TRIGGER_DELAY_US: u64 = 50_000;

/// How long after its trigger a part is exposed, and how far apart parts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pairing {
    delay_us: u32,
    window_us: u32,
    spacing_us: u32,
}

impl Pairing {
    /// The exposure comes `delay_us` (0..=1,000,000) after the trigger, give or take `window_us`
    /// (1..=1,000,000); parts closer than `spacing_us` (at most 60,000,000) cannot be distinguished.
    ///
    /// # Errors
    /// [`SettingError::OutOfRange`], [`SettingError::SpacingWithinWindow`].
    pub fn new(delay_us: u32, window_us: u32, spacing_us: u32) -> Result<Self, SettingError> {
        let pairing = Pairing {
            delay_us: in_range("exposure delay (us)", delay_us, 0, 1_000_000)?,
            window_us: in_range("pairing window (us)", window_us, 1, 1_000_000)?,
            spacing_us: in_range("part spacing (us)", spacing_us, 1, 60_000_000)?,
        };
        if spacing_us <= 2 * window_us {
            return Err(SettingError::SpacingWithinWindow);
        }
        Ok(pairing)
    }

    /// From the trigger to the exposure, us.
    pub(super) fn delay_us(&self) -> u64 {
        u64::from(self.delay_us)
    }

    /// From the trigger to the last moment of the exposure, us.
    pub(super) fn latest_us(&self) -> u64 {
        u64::from(self.delay_us) + u64::from(self.window_us)
    }

    /// The least distance of two parts, us.
    pub(super) fn spacing_us(&self) -> u64 {
        u64::from(self.spacing_us)
    }

    /// Whether the part triggered then is the one exposed then.
    pub(super) fn fits(&self, triggered: Micros, exposed: Micros) -> bool {
        let expected = triggered.plus(u64::from(self.delay_us));
        exposed.0.abs_diff(expected.0) <= u64::from(self.window_us)
    }

    /// Whether every part triggered then or earlier is exposed too early to be the one exposed then.
    pub(super) fn too_early(&self, triggered: Micros, exposed: Micros) -> bool {
        triggered
            .plus(u64::from(self.delay_us) + u64::from(self.window_us))
            .0
            < exposed.0
    }

    /// When the trigger of a frame can no longer be expected.
    fn gives_up(&self, exposed: Micros) -> Micros {
        let latest = exposed.plus(u64::from(self.window_us));
        Micros(latest.since(Micros(u64::from(self.delay_us)))).plus(TRIGGER_DELAY_US)
    }
}

/// A frame, as the camera reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The number that the caller gave it.
    pub id: FrameId,
    /// Which camera took it.
    pub view: View,
    /// When it was exposed.
    pub exposed: Micros,
    /// Why it cannot be judged, if so: it is incomplete, nothing can be seen on it, or there is no memory for it.
    pub flaw: Option<Cause>,
}

/// Frames of one camera that came before their trigger.
#[derive(Debug, Default)]
pub(super) struct HeldFrames {
    frames: Deque<Frame, HELD_FRAMES>,
}

impl HeldFrames {
    /// Keeps a frame; returns the one that has to make room for it.
    pub(super) fn hold(&mut self, frame: Frame) -> Option<Frame> {
        let evicted = if self.frames.is_full() {
            self.frames.pop_front()
        } else {
            None
        };
        match self.frames.push_back(frame) {
            Ok(()) => evicted,
            Err(frame) => Some(frame),
        }
    }

    /// The frame of the part triggered then.
    pub(super) fn take(&mut self, triggered: Micros, pairing: &Pairing) -> Option<Frame> {
        let mut found = None;
        for _ in 0..self.frames.len() {
            let frame = self.frames.pop_front()?;
            if found.is_none() && pairing.fits(triggered, frame.exposed) {
                found = Some(frame);
            } else {
                // There is room: it was just taken out.
                let _ = self.frames.push_back(frame);
            }
        }
        found
    }

    /// A frame whose trigger can no longer be expected.
    pub(super) fn expired(&mut self, now: Micros, pairing: &Pairing) -> Option<Frame> {
        self.frames
            .pop_front_if(|f| pairing.gives_up(f.exposed) <= now)
    }

    /// Takes out all frames, one per call.
    pub(super) fn drain(&mut self) -> Option<Frame> {
        self.frames.pop_front()
    }

    /// When the first one expires.
    pub(super) fn wake(&self, pairing: &Pairing) -> Option<Micros> {
        self.frames.front().map(|f| pairing.gives_up(f.exposed))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(id: u64, exposed: u64) -> Frame {
        Frame {
            id: FrameId(id),
            view: View::FIRST,
            exposed: Micros(exposed),
            flaw: None,
        }
    }

    #[test]
    fn a_frame_fits_its_part_only() {
        let pairing = Pairing::new(2000, 500, 1001).unwrap();
        for (triggered, exposed, fits) in [
            (10_000, 11_500, true),
            (10_000, 12_500, true),
            (10_000, 11_499, false),
            (10_000, 12_501, false),
        ] {
            assert_eq!(pairing.fits(Micros(triggered), Micros(exposed)), fits);
        }
        assert_eq!(
            Pairing::new(0, 500, 1000),
            Err(SettingError::SpacingWithinWindow)
        );
    }

    #[test]
    fn frames_wait_for_their_trigger_and_make_room() {
        let pairing = Pairing::new(2000, 500, 2000).unwrap();
        let mut held = HeldFrames::default();
        for i in 0..HELD_FRAMES as u64 {
            assert_eq!(held.hold(frame(i, 100_000 + 2000 * i)), None);
        }
        assert_eq!(held.hold(frame(8, 116_000)), Some(frame(0, 100_000)));
        assert_eq!(
            held.take(Micros(100_100), &pairing),
            Some(frame(1, 102_000))
        );
        assert_eq!(held.take(Micros(100_100), &pairing), None);
        assert_eq!(held.len(), HELD_FRAMES - 1);
        let end = held.wake(&pairing).unwrap();
        assert_eq!(end, Micros(104_000 + 500 - 2000 + TRIGGER_DELAY_US));
        assert_eq!(held.expired(Micros(end.0 - 1), &pairing), None);
        assert_eq!(held.expired(end, &pairing), Some(frame(2, 104_000)));
    }
}

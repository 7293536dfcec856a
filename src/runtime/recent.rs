//! The last parts that were judged, as teaching wants them: "the part that was just rejected was good".
//!
//! A few rejects and a few parts that passed, in memory that is there from the start: nothing is allocated per
//! part, and nobody waits. While a lesson takes parts, they go to its thread as well.

use super::system::lock;
use crate::inspector::Inspection;
use crate::line::PartId;
use crate::memory::course::{Edit, Sample};
use crate::memory::part::Rows;
use crate::memory::{Layout, Light, ZeroShot};
use image::RgbImage;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

/// Bytes of the parts that are remembered, at most; and how many of either kind.
const ROOM: usize = 16 << 20;
const PARTS: usize = 12;

/// A part that is remembered.
struct Kept {
    part: PartId,
    rows: Rows,
    zero_shot: ZeroShot,
    groups: Vec<f32>,
}

/// What the thread of a lesson is told.
pub(super) enum Inbox {
    /// A good part, with its picture if that was wanted.
    Part(Box<Sample>, Option<Box<RgbImage>>),
    /// Somebody changes what was taught.
    Edit(Edit),
}

/// Where a lesson's parts go.
pub(super) struct Lane {
    /// To its thread.
    pub inbox: SyncSender<Inbox>,
    /// Parts that it still takes.
    pub left: usize,
    /// Of how many of the next ones it wants the picture too.
    pub pictures: usize,
}

/// See the module.
pub struct Recent {
    layout: Layout,
    /// Those that passed, and the rejects; the last one stands at the end.
    kept: Mutex<[VecDeque<Kept>; 2]>,
    lesson: Mutex<Option<Lane>>,
    teaching: AtomicBool,
}

impl Recent {
    /// Of an encoder with these places: nothing yet.
    pub fn new(layout: Layout) -> Recent {
        let numbers = layout.places() * layout.dim;
        let count = (ROOM / 2 / numbers.max(1)).clamp(2, PARTS);
        let places = || {
            let kept = || Kept {
                part: PartId(u64::MAX),
                rows: Rows::with_room(numbers, layout.places()),
                zero_shot: ZeroShot::default(),
                groups: Vec::with_capacity(8),
            };
            (0..count).map(|_| kept()).collect()
        };
        Recent {
            layout,
            kept: Mutex::new([places(), places()]),
            lesson: Mutex::default(),
            teaching: AtomicBool::new(false),
        }
    }

    /// A part was judged. While somebody looks at those that are remembered, it is not among them.
    pub(super) fn judged(
        &self,
        part: PartId,
        reject: bool,
        inspection: &Inspection,
        descriptors: &[f32],
    ) {
        let Ok(mut kept) = self.kept.try_lock() else {
            return;
        };
        let kind = &mut kept[usize::from(reject)];
        // There are always some.
        let Some(mut oldest) = kind.pop_front() else {
            return;
        };
        let taken = oldest.rows.take(descriptors, self.layout.dim);
        oldest.part = match taken {
            Ok(()) => part,
            // No frame that was judged gets here.
            Err(_) => PartId(u64::MAX),
        };
        oldest.zero_shot = inspection.as_zero_shot();
        oldest.groups.clear();
        oldest.groups.extend_from_slice(inspection.groups());
        kind.push_back(oldest);
    }

    /// The same part for a lesson, if one takes parts.
    pub(super) fn offer(
        &self,
        part: PartId,
        inspection: &Inspection,
        descriptors: &[f32],
        frame: &RgbImage,
    ) {
        if !self.teaching.load(Ordering::Relaxed) {
            return;
        }
        let mut lesson = lock(&self.lesson);
        let Some(lane) = lesson.as_mut().filter(|lane| lane.left > 0) else {
            return;
        };
        let sample = Box::new(Sample {
            name: part.0.to_string(),
            descriptors: descriptors.to_vec(),
            zero_shot: inspection.as_zero_shot(),
            groups: inspection.groups().to_vec(),
            light: Some(Light::of(frame)),
        });
        let picture = (lane.pictures > 0).then(|| Box::new(frame.clone()));
        // One that finds no room is not taught: the next one is.
        if lane.inbox.try_send(Inbox::Part(sample, picture)).is_ok() {
            lane.left -= 1;
            lane.pictures = lane.pictures.saturating_sub(1);
        }
        if lane.left == 0 {
            self.teaching.store(false, Ordering::Relaxed);
            *lesson = None;
        }
    }

    /// Whether a lesson takes parts.
    pub(super) fn takes_parts(&self) -> bool {
        self.teaching.load(Ordering::Relaxed)
    }

    /// From now on parts go there too.
    pub(super) fn teach(&self, lane: Option<Lane>) {
        self.teaching.store(lane.is_some(), Ordering::Relaxed);
        *lock(&self.lesson) = lane;
    }

    /// A part by its number, or the last one that passed or was rejected; `None`: it is not remembered.
    pub(super) fn find(&self, part: Option<u64>, reject: bool) -> Option<Sample> {
        let kept = lock(&self.kept);
        let known = |k: &&Kept| k.part.0 != u64::MAX;
        let found = match part {
            None => kept[usize::from(reject)].back().filter(known),
            Some(number) => {
                let mut all = kept.iter().flatten().filter(known);
                all.find(|k| k.part.0 == number)
            }
        }?;
        Some(Sample {
            name: found.part.0.to_string(),
            descriptors: found.rows.numbers(self.layout.dim),
            zero_shot: found.zero_shot,
            groups: found.groups.clone(),
            // That frame is gone.
            light: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reject_and_the_last_good_part_are_found_and_older_ones_by_number() {
        let layout = Layout {
            grid: 2,
            tiles: crate::tiling::Tiling::WHOLE,
            dim: 3,
        };
        let recent = Recent::new(layout);
        assert_eq!(recent.find(None, true), None);
        let inspection = Inspection::blank(2, 8);
        for part in 1..=40u64 {
            let descriptors: Vec<f32> = (0..12).map(|i| (part + i) as f32).collect();
            recent.judged(PartId(part), part % 10 == 0, &inspection, &descriptors);
        }
        let reject = recent.find(None, true).unwrap();
        assert_eq!(reject.name, "40");
        assert!((reject.descriptors[11] - 51.0).abs() < 0.3);
        assert_eq!(recent.find(None, false).unwrap().name, "39");
        assert_eq!(recent.find(Some(10), true).unwrap().name, "10");
        assert_eq!(recent.find(Some(1), false), None, "too long ago");
    }
}

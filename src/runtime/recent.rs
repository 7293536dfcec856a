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

/// Most bytes of the parts that are remembered.
const ROOM: usize = 16 << 20;
const PARTS: usize = 12;

/// A part that is remembered: its number and what teaching needs of it.
struct Kept {
    part: PartId,
    rows: Rows,
    zero_shot: ZeroShot,
    groups: Vec<f32>,
}

/// A message to the thread of a lesson.
pub(super) enum Inbox {
    /// A good part, with its picture if the lesson wants that.
    Part(Box<Sample>, Option<Box<RgbImage>>),
    /// A change of what was taught.
    Edit(Edit),
}

/// Where parts go while a lesson takes them.
pub(super) struct Lane {
    /// The lesson's thread.
    pub inbox: SyncSender<Inbox>,
    /// How many more parts the lesson takes.
    pub left: usize,
    /// For how many of the next parts it wants the picture too.
    pub pictures: usize,
}

/// The last parts that were judged; see the module.
pub struct Recent {
    layout: Layout,
    /// The parts that passed, and the rejects, oldest first.
    kept: Mutex<[VecDeque<Kept>; 2]>,
    lesson: Mutex<Option<Lane>>,
    teaching: AtomicBool,
}

impl Recent {
    /// Makes room for parts of an encoder with this layout; nothing is remembered yet.
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

    /// Remembers a part that was judged. While another thread reads the remembered parts it is left out.
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
        // There always is one: the room is filled with empty parts at the start.
        let Some(mut oldest) = kind.pop_front() else {
            return;
        };
        let taken = oldest.rows.take(descriptors, self.layout.dim);
        oldest.part = match taken {
            Ok(()) => part,
            // No frame that was judged has this number.
            Err(_) => PartId(u64::MAX),
        };
        oldest.zero_shot = inspection.as_zero_shot();
        oldest.groups.clear();
        oldest.groups.extend_from_slice(inspection.groups());
        kind.push_back(oldest);
    }

    /// Offers the same part to a lesson, if one takes parts.
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

    /// From now on parts go to this lesson too; `None`: to none.
    pub(super) fn teach(&self, lane: Option<Lane>) {
        self.teaching.store(lane.is_some(), Ordering::Relaxed);
        *lock(&self.lesson) = lane;
    }

    /// Finds a part by its number, or the last one that passed or was rejected; `None`: it is not remembered.
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
            // The frame, and so its light, is gone.
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

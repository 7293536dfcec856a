//! When the reject output is active: scheduled pulses, in order, overlapping ones merged.
//!
//! For programs that schedule pulses themselves. A [`Station`](super::Station) does not: whether a part is
//! rejected is only certain when it arrives.

use embedded_hal::digital::OutputPin;
use heapless::Deque;

/// Pulses that can wait. A belt holds fewer parts between camera and reject station.
pub const CAPACITY: usize = 64;

/// The output is active from `start` until just before `end`, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// First millisecond.
    pub start: u64,
    /// First millisecond after it.
    pub end: u64,
}

/// The schedule holds no further pulse; the caller must keep the output active until it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleFull;

/// Pulses to come. Disjoint and in order of time at any moment.
#[derive(Debug, Default)]
pub struct RejectSchedule {
    pulses: Deque<Pulse, CAPACITY>,
}

impl RejectSchedule {
    /// No pulses.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pulse. Parts come in order, so it may not start before the last one did; one that
    /// touches the last pulse lengthens it.
    ///
    /// # Errors
    /// [`ScheduleFull`].
    pub fn add(&mut self, pulse: Pulse) -> Result<(), ScheduleFull> {
        if let Some(last) = self.pulses.back_mut()
            && pulse.start <= last.end
        {
            last.start = last.start.min(pulse.start);
            last.end = last.end.max(pulse.end);
            return Ok(());
        }
        self.pulses.push_back(pulse).map_err(|_| ScheduleFull)
    }

    /// Drives `pin` as it must be at `now` and forgets pulses that are over. Returns when something
    /// changes next.
    ///
    /// # Errors
    /// The pin's.
    pub fn drive<P: OutputPin>(&mut self, now: u64, pin: &mut P) -> Result<Option<u64>, P::Error> {
        while self.pulses.front().is_some_and(|p| p.end <= now) {
            self.pulses.pop_front();
        }
        match self.pulses.front() {
            Some(p) if p.start <= now => pin.set_high().map(|()| Some(p.end)),
            next => pin.set_low().map(|()| next.map(|p| p.start)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::SimulatedPin;
    use proptest::prelude::*;

    #[test]
    fn a_full_schedule_says_so() {
        let mut schedule = RejectSchedule::new();
        for i in 0..CAPACITY as u64 {
            schedule
                .add(Pulse {
                    start: 10 * i,
                    end: 10 * i + 5,
                })
                .unwrap();
        }
        assert_eq!(
            schedule.add(Pulse {
                start: 10_000,
                end: 10_001
            }),
            Err(ScheduleFull)
        );
        assert_eq!(
            schedule.add(Pulse {
                start: 10 * (CAPACITY as u64 - 1),
                end: 700
            }),
            Ok(())
        );
    }

    proptest! {
        /// The output is active exactly in the union of all pulses, whenever it is looked at.
        #[test]
        fn output_is_the_union_of_the_pulses(gaps in prop::collection::vec((0u64..30, 1u64..25), 1..20), step in 1u64..7) {
            let (mut schedule, mut pin) = (RejectSchedule::new(), SimulatedPin::default());
            let mut start = 5;
            let pulses: Vec<Pulse> = gaps.iter().map(|(gap, width)| {
                start += gap;
                Pulse { start, end: start + width }
            }).collect();
            pulses.iter().for_each(|p| schedule.add(*p).unwrap());
            let last = pulses.iter().map(|p| p.end).max().unwrap();
            let mut now = 0;
            while now < last + 10 {
                schedule.drive(now, &mut pin).unwrap();
                let wanted = pulses.iter().any(|p| (p.start..p.end).contains(&now));
                prop_assert_eq!(pin.is_high(), wanted, "at {}", now);
                now += step;
            }
        }

        /// Driven only when it asked to be, no edge is missed.
        #[test]
        fn the_next_change_is_told(gaps in prop::collection::vec((0u64..30, 1u64..25), 1..20)) {
            let (mut schedule, mut pin) = (RejectSchedule::new(), SimulatedPin::default());
            let mut start = 5;
            let mut milliseconds = std::collections::BTreeSet::new();
            for (gap, width) in &gaps {
                start += gap;
                schedule.add(Pulse { start, end: start + width }).unwrap();
                milliseconds.extend(start..start + width);
            }
            let (mut now, mut active) = (0, 0);
            while let Some(next) = schedule.drive(now, &mut pin).unwrap() {
                prop_assert!(next > now);
                active += if pin.is_high() { next - now } else { 0 };
                now = next;
            }
            prop_assert!(!pin.is_high());
            prop_assert_eq!(active, milliseconds.len() as u64);
        }
    }
}

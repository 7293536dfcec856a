//! What says that a part is there: settings of each source, and the rules that a trigger must pass.
//!
//! Must never swallow a part: an edge is either the same part's bounce, or a part, or a part too close
//! to its neighbour to be distinguished from it, which is rejected together with that neighbour.

use super::bounds::{Debounce, Pitch, SettingError, in_range};
use super::pairing::Pairing;
use super::time::Micros;

/// Parts that one call may make up for, if an interval or an encoder has run ahead of the calls. What
/// exceeds it is counted as skipped and raises an alarm.
pub const CATCH_UP: usize = 64;

/// Where triggers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Every frame is a part, triggered by its exposure.
    FreeRun,
    /// The station triggers itself.
    Interval(Interval),
    /// A light barrier: edges with the time at which they happened.
    Edge {
        /// Edges this close to the last are its bounces.
        debounce: Debounce,
        /// How frames find their part.
        pairing: Pairing,
    },
    /// The station triggers itself whenever the belt has moved on by so much.
    Encoder {
        /// By how much.
        pitch: Pitch,
        /// How frames find their part.
        pairing: Pairing,
    },
    /// A command, for example over the serial port.
    Command {
        /// How frames find their part.
        pairing: Pairing,
    },
}

impl Trigger {
    /// How frames find their part; `None` if each is one.
    pub(super) fn pairing(&self) -> Option<Pairing> {
        match self {
            Trigger::FreeRun => None,
            Trigger::Interval(interval) => Some(interval.pairing),
            Trigger::Edge { pairing, .. }
            | Trigger::Encoder { pairing, .. }
            | Trigger::Command { pairing } => Some(*pairing),
        }
    }

    /// From a trigger to the middle of its exposure, us; 0 if the exposure is the trigger.
    pub fn exposure_delay_us(&self) -> u64 {
        self.pairing().map_or(0, |p| p.delay_us())
    }

    /// From a trigger to the last moment of its exposure, us; `None` if the exposure is the trigger.
    pub fn exposure_window_us(&self) -> Option<u64> {
        self.pairing().map(|p| p.latest_us())
    }

    /// Time between the triggers that the station gives itself, us.
    pub(super) fn interval_us(&self) -> Option<u64> {
        match self {
            Trigger::Interval(interval) => Some(interval.period_us),
            _ => None,
        }
    }

    /// Belt between the triggers that the station gives itself, counts.
    pub(super) fn pitch(&self) -> Option<u64> {
        match self {
            Trigger::Encoder { pitch, .. } => Some(u64::from(pitch.get())),
            _ => None,
        }
    }

    /// Edges this close to the last are its bounces, us.
    pub(super) fn debounce_us(&self) -> u64 {
        match self {
            Trigger::Edge { debounce, .. } => u64::from(debounce.get()),
            _ => 0,
        }
    }
}

/// A trigger every so many milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    period_us: u64,
    pairing: Pairing,
}

impl Interval {
    /// Every `period_ms`, 1..=60,000.
    ///
    /// # Errors
    /// [`SettingError::OutOfRange`], [`SettingError::IntervalBelowSpacing`].
    pub fn new(period_ms: u32, pairing: Pairing) -> Result<Self, SettingError> {
        let period_us = u64::from(in_range("trigger interval (ms)", period_ms, 1, 60_000)?) * 1000;
        if period_us < pairing.spacing_us() {
            return Err(SettingError::IntervalBelowSpacing);
        }
        Ok(Interval { period_us, pairing })
    }
}

/// What a trigger is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// The same part as the last trigger's.
    Bounced,
    /// Another part, with the time of its trigger.
    Part(Micros),
    /// A part that cannot be distinguished from the one before it.
    TooClose(Micros),
}

/// Tells parts from bounces by the time of the last part.
#[derive(Debug, Default)]
pub(super) struct Filter {
    last: Option<Micros>,
}

impl Filter {
    /// Judges a trigger. The time of a part is never before that of the part before it: one that comes
    /// out of order cannot be placed and is too close.
    pub(super) fn judge(&mut self, at: Micros, debounce_us: u64, spacing_us: u64) -> Edge {
        let Some(last) = self.last else {
            self.last = Some(at);
            return Edge::Part(at);
        };
        if at.0.abs_diff(last.0) < debounce_us {
            return Edge::Bounced;
        }
        let placed = at.max(last);
        self.last = Some(placed);
        if at < last || at.since(last) < spacing_us {
            Edge::TooClose(placed)
        } else {
            Edge::Part(placed)
        }
    }
}

/// Triggers at equal distances of time or belt.
#[derive(Debug, Default)]
pub(super) struct Pace {
    next: Option<u64>,
}

impl Pace {
    /// The first trigger is one `step` after `from`.
    pub(super) fn start(&mut self, from: u64, step: u64) {
        self.next = Some(from.saturating_add(step));
    }

    pub(super) fn stop(&mut self) {
        self.next = None;
    }

    pub(super) fn next(&self) -> Option<u64> {
        self.next
    }

    /// The next trigger at or before `now`.
    pub(super) fn take(&mut self, now: u64, step: u64) -> Option<u64> {
        let due = self.next.filter(|next| *next <= now)?;
        self.next = Some(due.saturating_add(step));
        Some(due)
    }

    /// Passes over all triggers up to `now`; says how many.
    pub(super) fn skip(&mut self, now: u64, step: u64) -> u64 {
        match self.next {
            Some(next) if next <= now => {
                let skipped = (now - next) / step + 1;
                self.next = Some(next.saturating_add(skipped.saturating_mul(step)));
                skipped
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_bounces_parts_or_too_close() {
        let mut filter = Filter::default();
        let mut judge = |at| filter.judge(Micros(at), 100, 1000);
        assert_eq!(judge(5000), Edge::Part(Micros(5000)));
        assert_eq!(judge(5099), Edge::Bounced);
        assert_eq!(judge(4901), Edge::Bounced);
        assert_eq!(judge(5100), Edge::TooClose(Micros(5100)));
        assert_eq!(judge(6099), Edge::TooClose(Micros(6099)));
        assert_eq!(judge(7099), Edge::Part(Micros(7099)));
        // Out of order: kept as a part, placed where the last one was.
        assert_eq!(judge(6500), Edge::TooClose(Micros(7099)));
    }

    #[test]
    fn bounces_do_not_hold_off_parts_for_ever() {
        let mut filter = Filter::default();
        let parts = (0..100).filter(|i| filter.judge(Micros(i * 60), 100, 0) != Edge::Bounced);
        assert_eq!(parts.count(), 50);
    }

    #[test]
    fn a_pace_gives_each_trigger_once() {
        let mut pace = Pace::default();
        assert_eq!(pace.take(100, 10), None);
        pace.start(100, 10);
        assert_eq!(pace.take(109, 10), None);
        assert_eq!(pace.take(125, 10), Some(110));
        assert_eq!(pace.take(125, 10), Some(120));
        assert_eq!(pace.take(125, 10), None);
        assert_eq!(pace.skip(150, 10), 3);
        assert_eq!(pace.next(), Some(160));
        assert_eq!(pace.skip(150, 10), 0);
    }
}

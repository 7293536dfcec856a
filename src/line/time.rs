//! Time and place, as numbers that are given. The core has no clock: whoever calls it says when it is.

/// A moment: microseconds on one monotonic clock, the same for triggers, exposures and calls (on Linux
/// `CLOCK_MONOTONIC`, which V4L2 and GPIO events are stamped with).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

impl Micros {
    /// This many milliseconds after the clock's zero.
    pub const fn from_millis(ms: u64) -> Self {
        Micros(ms.saturating_mul(1000))
    }

    /// `us` microseconds later; the end of time at most.
    pub const fn plus(self, us: u64) -> Self {
        Micros(self.0.saturating_add(us))
    }

    /// Microseconds from `earlier` to here; 0 if that is not earlier.
    pub const fn since(self, earlier: Micros) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A place on the belt, on the axis that the reject delay is set in: microseconds for a belt of
/// constant speed, encoder counts for any other. Grows towards the reject station.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

impl Position {
    /// `length` further down the belt, in the axis' unit.
    pub const fn plus(self, length: u64) -> Self {
        Position(self.0.saturating_add(length))
    }
}

/// A part, numbered as triggered: 0, 1, 2, ... A number is never used again; who persists the counters
/// starts the next run with the number after the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartId(pub u64);

/// A frame, by the caller's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameId(pub u64);

//! Numbers that cannot be out of range, and why one is refused. What settings, triggers and alarms are made of.

use core::fmt;

/// Why a setting is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingError {
    /// The value is outside its range.
    OutOfRange {
        /// Which setting, with its unit.
        setting: &'static str,
        /// What was asked for.
        value: u32,
        /// The smallest value that is allowed.
        low: u32,
        /// The largest value that is allowed.
        high: u32,
    },
    /// The verdict would be due before the part is triggered: the lead exceeds the delay.
    LeadExceedsDelay,
    /// A frame could belong to either of two parts: the spacing is not above twice the window.
    SpacingWithinWindow,
    /// The interval triggers parts closer than their spacing allows.
    IntervalBelowSpacing,
    /// The threshold is not a number from 0 to 1.
    Threshold,
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingError::OutOfRange {
                setting,
                value,
                low,
                high,
            } => {
                write!(f, "{setting} = {value} is not in {low}..{high}")
            }
            SettingError::LeadExceedsDelay => f.write_str("reject lead exceeds the reject delay"),
            SettingError::SpacingWithinWindow => {
                f.write_str("part spacing must exceed twice the pairing window")
            }
            SettingError::IntervalBelowSpacing => {
                f.write_str("trigger interval is below the part spacing")
            }
            SettingError::Threshold => f.write_str("threshold is not a number from 0 to 1"),
        }
    }
}

impl core::error::Error for SettingError {}

/// `value`, if it is in range.
pub(super) const fn in_range(
    setting: &'static str,
    value: u32,
    low: u32,
    high: u32,
) -> Result<u32, SettingError> {
    if value < low || value > high {
        return Err(SettingError::OutOfRange {
            setting,
            value,
            low,
            high,
        });
    }
    Ok(value)
}

macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident, $setting:literal, $low:literal..=$high:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(u32);

        impl $name {
            /// Checks the value.
            ///
            /// # Errors
            /// [`SettingError::OutOfRange`].
            pub const fn new(value: u32) -> Result<Self, SettingError> {
                match in_range($setting, value, $low, $high) {
                    Ok(value) => Ok($name(value)),
                    Err(e) => Err(e),
                }
            }

            /// The value, in the unit that its type names.
            pub const fn get(self) -> u32 {
                self.0
            }
        }
    };
}

bounded!(
    /// How long the output is active for one part, 1..=10,000 ms.
    PulseWidth, "pulse width (ms)", 1..=10_000
);
bounded!(
    /// How long after the start of its reject a part must be seen in the bin, 100..=9,900 ms.
    ConfirmWindow, "confirm window (ms)", 100..=9_900
);
bounded!(
    /// Edges closer than this to the last one that counted are the same part's, 0..=1,000,000 us.
    Debounce, "debounce (us)", 0..=1_000_000
);
bounded!(
    /// Belt between two parts, 1..=1,000,000 encoder counts.
    Pitch, "part pitch (counts)", 1..=1_000_000
);
bounded!(
    /// How long the strobe is on after a trigger, 10..=1,000,000 us.
    StrobeWidth, "strobe width (us)", 10..=1_000_000
);
bounded!(
    /// Latency from trigger to verdict that raises an alarm, 1..=10,000 ms.
    LatencyLimit, "latency limit (ms)", 1..=10_000
);
bounded!(
    /// Rejects in a row that raise an alarm, 1..=100 parts.
    ConsecutiveRejects, "consecutive rejects", 1..=100
);
bounded!(
    /// Test pieces of a challenge, 1..=255.
    Pieces, "test pieces", 1..=255
);

impl PulseWidth {
    pub(super) const fn us(self) -> u64 {
        self.0 as u64 * 1000
    }
}

impl ConfirmWindow {
    pub(super) const fn us(self) -> u64 {
        self.0 as u64 * 1000
    }
}

impl ConsecutiveRejects {
    /// Three rejects in a row, the usual number.
    pub(super) const THREE: ConsecutiveRejects = ConsecutiveRejects(3);
}

/// The share of rejects among the last parts above which an alarm is raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectRate {
    window: u32,
    percent: u32,
}

impl RejectRate {
    /// More than `percent` (1..=99) of the last `window` (10..=256) parts.
    ///
    /// # Errors
    /// [`SettingError::OutOfRange`].
    pub const fn new(window: u32, percent: u32) -> Result<Self, SettingError> {
        match (
            in_range("reject rate window (parts)", window, 10, 256),
            in_range("reject rate (percent)", percent, 1, 99),
        ) {
            (Ok(window), Ok(percent)) => Ok(RejectRate { window, percent }),
            (Err(e), _) | (_, Err(e)) => Err(e),
        }
    }

    pub(super) const fn window(self) -> usize {
        self.window as usize
    }

    /// Whether so many rejects in a full window are too many.
    pub(super) const fn exceeded(self, rejects: u32) -> bool {
        rejects * 100 > self.percent * self.window
    }
}

/// Scores above it are rejects: a number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold(f32);

impl Threshold {
    /// Checks the number.
    ///
    /// # Errors
    /// [`SettingError::Threshold`].
    pub fn new(value: f32) -> Result<Self, SettingError> {
        if (0.0..=1.0).contains(&value) {
            Ok(Threshold(value))
        } else {
            Err(SettingError::Threshold)
        }
    }

    /// The number.
    pub const fn get(self) -> f32 {
        self.0
    }
}

//! What a station is set to, in types that cannot hold nonsense: checked here once, never again.
//!
//! Milliseconds where people set them, microseconds where a belt of 1,000 parts per second needs them;
//! every constructor's argument says which.

pub use super::bounds::*;

use super::alarms::AlarmSet;
use super::bounds::in_range;
use super::lanes::Lane;
use super::trigger::Trigger;
use super::view::{VIEWS, View};

/// What the reject delay is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Microseconds: the belt's speed is constant, and it stands still only while the station is stopped.
    Time,
    /// Encoder counts: the belt may change its speed and stop.
    Counts,
}

/// Where the reject station is, seen from the trigger, and how long before it a verdict must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectDelay {
    axis: Axis,
    delay: u64,
    lead: u64,
}

impl RejectDelay {
    /// The output switches `delay_ms` (0..=10,000) after the trigger; verdicts that come later than
    /// `lead_ms` before that are late. The lead is what the way from verdict to output needs.
    ///
    /// # Errors
    /// [`SettingError::OutOfRange`], [`SettingError::LeadExceedsDelay`].
    pub const fn millis(delay_ms: u32, lead_ms: u32) -> Result<Self, SettingError> {
        match in_range("reject delay (ms)", delay_ms, 0, 10_000) {
            Err(e) => Err(e),
            Ok(_) if lead_ms > delay_ms => Err(SettingError::LeadExceedsDelay),
            Ok(_) => Ok(RejectDelay {
                axis: Axis::Time,
                delay: delay_ms as u64 * 1000,
                lead: lead_ms as u64 * 1000,
            }),
        }
    }

    /// Delay and lead in encoder counts, 0..=1,000,000. The pulse's width stays a time.
    ///
    /// # Errors
    /// [`SettingError::OutOfRange`], [`SettingError::LeadExceedsDelay`].
    pub const fn counts(delay: u32, lead: u32) -> Result<Self, SettingError> {
        match in_range("reject delay (counts)", delay, 0, 1_000_000) {
            Err(e) => Err(e),
            Ok(_) if lead > delay => Err(SettingError::LeadExceedsDelay),
            Ok(_) => Ok(RejectDelay {
                axis: Axis::Counts,
                delay: delay as u64,
                lead: lead as u64,
            }),
        }
    }

    /// Whether it is a time or a number of encoder counts.
    pub const fn axis(self) -> Axis {
        self.axis
    }

    /// From trigger to output, in us or counts.
    pub(super) const fn delay(self) -> u64 {
        self.delay
    }

    /// From trigger to the last moment for a verdict, in us or counts.
    pub(super) const fn deadline(self) -> u64 {
        self.delay - self.lead
    }
}

/// Which way the ejector is wired, and with it which output is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// Output `good` is on only while a part known to be good passes, so a broken wire rejects. The
    /// default of the industry for safety, and of this station.
    EnergiseForGood {
        /// A sensor in the bin, if there is one.
        confirm: Option<ConfirmWindow>,
    },
    /// Output `reject` is on while a part to be rejected passes. A broken wire lets it pass, so a sensor
    /// must see it in the bin.
    EnergiseToReject {
        /// The sensor's window.
        confirm: ConfirmWindow,
    },
}

impl Default for Wiring {
    fn default() -> Self {
        Wiring::EnergiseForGood { confirm: None }
    }
}

impl Wiring {
    /// The sensor's window, if there is a sensor.
    pub(super) fn confirm(self) -> Option<ConfirmWindow> {
        match self {
            Wiring::EnergiseForGood { confirm } => confirm,
            Wiring::EnergiseToReject { confirm } => Some(confirm),
        }
    }
}

/// What raises an alarm, and which alarms stop the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmSettings {
    /// Rejects in a row that raise alarm 1; `None`: never.
    pub consecutive: Option<ConsecutiveRejects>,
    /// Share of rejects that raises alarm 2; `None`: never.
    pub rate: Option<RejectRate>,
    /// Latency of a verdict that raises alarm 8; `None`: never.
    pub latency: Option<LatencyLimit>,
    /// Alarms that stop the line, besides [`AlarmSet::ALWAYS_STOP`].
    pub stop_on: AlarmSet,
}

impl Default for AlarmSettings {
    /// Three rejects in a row; every alarm stops the line except those of the camera and its frames and
    /// latency, during which parts are rejected one by one, and results, which are not needed to reject any.
    fn default() -> Self {
        AlarmSettings {
            consecutive: Some(ConsecutiveRejects::THREE),
            rate: None,
            latency: None,
            stop_on: AlarmSet::DEFAULT_STOP,
        }
    }
}

/// Everything that a station is set to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// What says that a part is there.
    pub trigger: Trigger,
    /// Scores above it are rejects.
    pub threshold: Threshold,
    /// The same for the second to the fourth camera.
    pub further_thresholds: [Threshold; VIEWS - 1],
    /// How far the reject station is behind the trigger.
    pub delay: RejectDelay,
    /// How long a part takes to pass the reject station.
    pub width: PulseWidth,
    /// Which output the ejector is wired to.
    pub wiring: Wiring,
    /// Light or camera trigger, on from every trigger; `None`: never.
    pub strobe: Option<StrobeWidth>,
    /// Which alarms stop the line, and after how many events they come.
    pub alarms: AlarmSettings,
    /// Where rejects go that have no lane of their own, and whatever passes while nothing is known to be good;
    /// `None`: no lane output is on for them.
    pub default_lane: Option<Lane>,
}

impl Settings {
    /// The threshold of a camera.
    pub fn threshold_of(&self, view: View) -> Threshold {
        let further = view.index().checked_sub(1);
        further.map_or(self.threshold, |i| self.further_thresholds[i])
    }
}

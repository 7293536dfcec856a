//! PAUSE: nothing is inspected for some minutes, for a reason, and then again by itself.
//!
//! To the station it is a DISARM: READY is off, the line is asked to stop, whatever passes is rejected. Must never end
//! while an alarm is latched that ARM would refuse: the station stays disarmed then, and the log says so.

use super::{Control, Who, line};
use crate::control::host::{ControlledStation, Mode, Order};
use crate::control::refusal::{Code, Refusal, allowed};
use crate::control::table::Access;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// Minutes of a pause.
pub const MINUTES: RangeInclusive<u32> = 1..=480;
/// Minutes if nothing else is said.
pub const USUAL: u32 = 5;
/// Characters of a reason.
pub const REASON: usize = 64;

/// A pause that lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// It ends then.
    pub until: Instant,
    /// Why, as whoever paused said it; may be empty.
    pub reason: String,
    /// Their level and port, as the log has them.
    pub by: String,
}

impl Pause {
    /// Seconds that are left, rounded up.
    pub fn left(&self, now: Instant) -> u64 {
        let left = self.until.saturating_duration_since(now);
        left.as_secs() + u64::from(left.subsec_nanos() > 0)
    }
}

impl<H: ControlledStation> Control<H> {
    /// The pause that lasts, if any.
    pub fn pause(&self) -> Option<&Pause> {
        self.pause.as_ref()
    }

    /// Pauses the inspection, or sets a pause's end and reason anew.
    ///
    /// # Errors
    /// An access code, [`Code::OutOfRange`], [`Code::WrongMode`] of a station that is disarmed or not yet ready, and
    /// the host's.
    pub fn begin_pause(
        &mut self,
        who: &Who<'_>,
        minutes: u32,
        reason: &str,
        now: Instant,
    ) -> Result<(), Refusal> {
        allowed(who.access, Access::Operator)?;
        if !MINUTES.contains(&minutes) {
            let text = format!("{} to {} minutes", MINUTES.start(), MINUTES.end());
            return Err(Refusal::new(Code::OutOfRange, text));
        }
        if self.pause.is_none() {
            match self.host.snapshot().mode {
                // A pause would end it by itself.
                Mode::Disarmed => {
                    let text = "it is disarmed: only ARM ends that";
                    return Err(Refusal::new(Code::WrongMode, text));
                }
                Mode::Starting => {
                    return Err(Refusal::new(Code::WrongMode, "it is not ready yet"));
                }
                Mode::Running | Mode::Stopped | Mode::Blind | Mode::Halted => (),
            }
            self.host.order(Order::Disarm)?;
        }
        let printable = reason
            .chars()
            .filter(|c| matches!(c, ' '..='~') && *c != '"');
        let reason: String = printable.take(REASON).collect();
        // The log's values have no commas.
        let noted = reason.replace(',', ";");
        self.note(&line(
            who,
            "pause",
            "",
            format!("minutes={minutes} {noted}").trim_end(),
        ));
        self.pause = Some(Pause {
            until: now + Duration::from_secs(60 * u64::from(minutes)),
            reason,
            by: format!("{}@{}", who.access.name(), who.port),
        });
        Ok(())
    }

    /// Somebody armed or disarmed: that is what counts now.
    pub(super) fn pause_is_over(&mut self, who: &Who<'_>, how: &str) {
        if let Some(pause) = self.pause.take() {
            let old = pause.reason.replace(',', ";");
            self.note(&line(who, "pause", &old, how));
        }
    }

    /// Ends a pause whose time is over.
    pub(super) fn watch_pause(&mut self, now: Instant) {
        let Some(pause) = self.pause.take_if(|p| p.until <= now) else {
            return;
        };
        let result = match self.host.order(Order::Arm) {
            Ok(()) => "ended by its time".into(),
            Err(e) => {
                log::error!("the pause is over and the station stays disarmed: {e}");
                format!("ended by its time; stays disarmed: {e}").replace(',', ";")
            }
        };
        let old = pause.reason.replace(',', ";");
        self.noted("pause", &old, &result);
    }
}

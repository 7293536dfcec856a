//! What a station reports while it works, one event at a time and in order.

use super::alarms::{Alarm, AlarmSet};
use super::challenge::ChallengeReport;
use super::lanes::Lane;
use super::outcome::Outcome;
use super::time::{FrameId, Micros, PartId, Position};

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is a part.
    Triggered {
        /// Its number.
        part: PartId,
        /// When it was triggered.
        at: Micros,
        /// Where the reject station is for it.
        due: Position,
    },
    /// This frame shows this part: judge it.
    Paired {
        /// The part.
        part: PartId,
        /// The frame.
        frame: FrameId,
    },
    /// This frame cannot be judged, or shows no part: its memory is free. Every frame is paired or dropped
    /// once.
    Dropped {
        /// The frame.
        frame: FrameId,
        /// The part that the frame shows if it cannot be judged; it is rejected.
        part: Option<PartId>,
    },
    /// What became of a part, reported once for each: when it reaches the reject station, or at once if it
    /// found the queue full.
    Outcome {
        /// The part.
        part: PartId,
        /// What became of it.
        outcome: Outcome,
        /// The lane that its reject starts in; `None` of a good part, of one that another's reject takes along,
        /// of one on a belt that is cleared, and where there is no lane for it.
        lane: Option<Lane>,
    },
    /// An alarm is raised, and latched.
    Alarm(Alarm),
    /// These alarms were reset; those that have reason to are raised again.
    Reset(AlarmSet),
    /// A challenge is over.
    Challenge(ChallengeReport),
}

/// Who gets the events. Called in the middle of the station's work: must be short, and must not block.
pub trait Observer {
    /// Takes one event; `now` is the time of the call that caused it.
    fn event(&mut self, now: Micros, event: Event);
}

impl<F: FnMut(Micros, Event)> Observer for F {
    fn event(&mut self, now: Micros, event: Event) {
        self(now, event);
    }
}

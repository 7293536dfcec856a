//! Alarms: what raises them, and that they stay until somebody resets them.

use super::bounds::{ConsecutiveRejects, RejectRate};
use super::time::Micros;
use core::fmt;

/// What is wrong. Numbers leave the machine: only append.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// Too many rejects in a row.
    ConsecutiveRejects = 1,
    /// Too many rejects among the last parts.
    RejectRate = 2,
    /// A part that was to be rejected was not seen in the bin.
    RejectUnconfirmed = 3,
    /// The reject bin has been full for 4 s.
    BinFull = 4,
    /// The reject bin has been open for 20 s.
    BinOpen = 5,
    /// The ejector lacks air.
    LowAir = 6,
    /// The camera is down.
    Camera = 7,
    /// A verdict took too long.
    Latency = 8,
    /// A test piece was not rejected by its verdict.
    Challenge = 9,
    /// More parts were on the belt than the queue holds.
    QueueFull = 10,
    /// The core was called so late that a reject came when half its part had passed, or triggers were
    /// skipped.
    Overrun = 11,
    /// An output cannot be switched. Stops the line whatever is set.
    Output = 12,
    /// Results are not written: their thread ended or hangs, or the disk takes no more.
    Results = 13,
    /// The stored bundle cannot judge: the last network that could is in use, or none. Without one the line stops
    /// whatever is set.
    Network = 14,
    /// Parts were triggered and the encoder did not move: where they are is not known. Stops the line
    /// whatever is set.
    Encoder = 15,
    /// Nothing can be seen on the frames: they are dark, overexposed or of one brightness.
    NothingVisible = 16,
    /// The camera delivers the same frame again and again.
    Frozen = 17,
    /// What was taught cannot be used: its file is missing, damaged, or of another encoder. Nothing judges and the line
    /// stops whatever is set, or FAPrompt alone judges, if that was chosen.
    Taught = 18,
    /// Frames are darker, brighter or less sharp than the good parts were that the station was taught.
    Light = 19,
    /// Parts that pass no longer look as they were taught.
    Drift = 20,
}

/// Every alarm, by number.
pub const ALARMS: [Alarm; 20] = [
    Alarm::ConsecutiveRejects,
    Alarm::RejectRate,
    Alarm::RejectUnconfirmed,
    Alarm::BinFull,
    Alarm::BinOpen,
    Alarm::LowAir,
    Alarm::Camera,
    Alarm::Latency,
    Alarm::Challenge,
    Alarm::QueueFull,
    Alarm::Overrun,
    Alarm::Output,
    Alarm::Results,
    Alarm::Network,
    Alarm::Encoder,
    Alarm::NothingVisible,
    Alarm::Frozen,
    Alarm::Taught,
    Alarm::Light,
    Alarm::Drift,
];

/// A set of alarms; bit n stands for the alarm with number n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlarmSet(u32);

impl AlarmSet {
    /// The empty set.
    pub const NONE: AlarmSet = AlarmSet(0);

    /// The alarms that stop the line whatever is set.
    pub const ALWAYS_STOP: AlarmSet =
        AlarmSet::of(&[Alarm::Challenge, Alarm::Output, Alarm::Encoder]);

    /// The default of the parameters `alarm_stop` and `alarm_stop_from_16`. These alarms do not stop the line by default:
    /// camera, frames on which nothing can be seen, frozen camera, latency, results, network, taught, light, drift. Output
    /// and encoder are not in the set because they always stop it. So stored settings that an older program may read, after
    /// it was put back, hold no bit that it does not know.
    pub const DEFAULT_STOP: AlarmSet = AlarmSet::of(&ALARMS)
        .without(Alarm::Camera)
        .without(Alarm::Latency)
        .without(Alarm::Output)
        .without(Alarm::Results)
        .without(Alarm::Network)
        .without(Alarm::Encoder)
        .without(Alarm::NothingVisible)
        .without(Alarm::Frozen)
        .without(Alarm::Taught)
        .without(Alarm::Light)
        .without(Alarm::Drift);

    /// The set of these alarms.
    pub const fn of(alarms: &[Alarm]) -> AlarmSet {
        let (mut bits, mut i) = (0, 0);
        while i < alarms.len() {
            bits |= 1 << alarms[i] as u8;
            i += 1;
        }
        AlarmSet(bits)
    }

    /// The set with this alarm.
    pub const fn with(self, alarm: Alarm) -> AlarmSet {
        AlarmSet(self.0 | (1 << alarm as u8))
    }

    /// The set without this alarm.
    pub const fn without(self, alarm: Alarm) -> AlarmSet {
        AlarmSet(self.0 & !(1 << alarm as u8))
    }

    /// The alarms of this set and of the other one.
    pub const fn and(self, others: AlarmSet) -> AlarmSet {
        AlarmSet(self.0 | others.0)
    }

    /// The alarms of this set that the other one lacks.
    pub const fn minus(self, others: AlarmSet) -> AlarmSet {
        AlarmSet(self.0 & !others.0)
    }

    /// Whether the set has this alarm.
    pub const fn contains(self, alarm: Alarm) -> bool {
        self.0 & (1 << alarm as u8) != 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set as a number: bit n is alarm n.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Adds an alarm, and returns whether it is new.
    pub(super) fn insert(&mut self, alarm: Alarm) -> bool {
        let new = !self.contains(alarm);
        *self = self.with(alarm);
        new
    }
}

/// Shows numbers and names, or "none".
impl fmt::Display for AlarmSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let latched = ALARMS.into_iter().filter(|a| self.contains(*a));
        for (i, alarm) in latched.enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} {alarm:?}", alarm as u8)?;
        }
        Ok(())
    }
}

/// What happened to alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmChange {
    /// This one was raised, and latched.
    Raised(Alarm),
    /// These were reset.
    Reset(AlarmSet),
}

/// Most changes that a history holds: more than a PLC makes that resets alarms which last, ten times a second, while
/// nobody looks for a second.
const CHANGES: usize = 64;

/// The last changes of alarms and their times. Each change has a number, from 0 on: who looks now and then goes on
/// behind the last one that it has seen, and notices when changes made way before that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmHistory {
    /// The change with number n stands at n modulo their count.
    changes: [(Micros, AlarmChange); CHANGES],
    /// The number that the next change gets.
    end: u64,
}

impl Default for AlarmHistory {
    /// Nothing has happened yet.
    fn default() -> Self {
        AlarmHistory {
            changes: [(Micros(0), AlarmChange::Reset(AlarmSet::NONE)); CHANGES],
            end: 0,
        }
    }
}

impl AlarmHistory {
    /// Takes down a change; the oldest makes way. A reset of no alarm is none.
    pub fn push(&mut self, at: Micros, change: AlarmChange) {
        if change != AlarmChange::Reset(AlarmSet::NONE) {
            self.changes[place(self.end)] = (at, change);
            self.end += 1;
        }
    }

    /// The changes from this number on that are still there, oldest first, each with its number and time.
    pub fn since(&self, number: u64) -> impl Iterator<Item = (u64, Micros, AlarmChange)> + '_ {
        let oldest = self.end.saturating_sub(CHANGES as u64);
        (number.max(oldest)..self.end).map(|number| {
            let (at, change) = self.changes[place(number)];
            (number, at, change)
        })
    }
}

fn place(number: u64) -> usize {
    (number % CHANGES as u64) as usize
}

/// Counts rejects in a row and among the last parts.
#[derive(Debug)]
pub(super) struct RejectWatch {
    consecutive: Option<ConsecutiveRejects>,
    row: u32,
    rate: Option<RejectRate>,
    /// The last 256 parts, a bit each; 1 is a reject.
    history: [u64; 4],
    parts: usize,
    rejects: u32,
}

impl RejectWatch {
    pub(super) fn new(consecutive: Option<ConsecutiveRejects>, rate: Option<RejectRate>) -> Self {
        RejectWatch {
            consecutive,
            row: 0,
            rate,
            history: [0; 4],
            parts: 0,
            rejects: 0,
        }
    }

    /// Takes a part into account, and returns the alarms that it raises.
    pub(super) fn part(&mut self, reject: bool) -> [Option<Alarm>; 2] {
        self.row = if reject {
            self.row.saturating_add(1)
        } else {
            0
        };
        let row = self.consecutive.is_some_and(|n| self.row >= n.get());
        let rate = self.rate.is_some_and(|rate| self.count(rate, reject));
        [
            row.then_some(Alarm::ConsecutiveRejects),
            rate.then_some(Alarm::RejectRate),
        ]
    }

    fn count(&mut self, rate: RejectRate, reject: bool) -> bool {
        let slot = self.parts % rate.window();
        let (word, bit) = (slot / 64, 1 << (slot % 64));
        self.rejects -= u32::from(self.history[word] & bit != 0);
        self.rejects += u32::from(reject);
        self.history[word] &= !bit;
        if reject {
            self.history[word] |= bit;
        }
        self.parts += 1;
        if self.parts == 2 * rate.window() {
            self.parts = rate.window();
        }
        self.parts >= rate.window() && rate.exceeded(self.rejects)
    }

    /// Forgets all parts.
    pub(super) fn reset(&mut self) {
        *self = RejectWatch::new(self.consecutive, self.rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_never_change() {
        assert_eq!(
            ALARMS.map(|a| a as u8),
            [
                1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20
            ]
        );
        assert_eq!(AlarmSet::of(&[Alarm::BinFull]).bits(), 16);
        assert!(!AlarmSet::DEFAULT_STOP.contains(Alarm::Camera));
        assert!(AlarmSet::DEFAULT_STOP.contains(Alarm::Challenge));
        assert_eq!(AlarmSet::ALWAYS_STOP.bits(), 1 << 9 | 1 << 12 | 1 << 15);
        assert!(AlarmSet::NONE.is_empty());
        let two = AlarmSet::of(&[Alarm::Camera, Alarm::BinFull]);
        assert_eq!(two.to_string(), "4 BinFull, 7 Camera");
    }

    #[test]
    fn a_history_holds_the_last_changes_under_their_numbers() {
        let mut history = AlarmHistory::default();
        assert_eq!(history.since(0).count(), 0);
        history.push(Micros(5), AlarmChange::Raised(Alarm::Camera));
        history.push(Micros(6), AlarmChange::Reset(AlarmSet::NONE));
        history.push(
            Micros(7),
            AlarmChange::Reset(AlarmSet::of(&[Alarm::Camera])),
        );
        let raised = (0, Micros(5), AlarmChange::Raised(Alarm::Camera));
        let reset = AlarmChange::Reset(AlarmSet::of(&[Alarm::Camera]));
        assert!(history.since(0).eq([raised, (1, Micros(7), reset)]));
        assert!(history.since(1).eq([(1, Micros(7), reset)]));
        assert_eq!(history.since(2).count(), 0);
        for at in 8..8 + CHANGES as u64 {
            history.push(Micros(at), AlarmChange::Raised(Alarm::Light));
        }
        let light = AlarmChange::Raised(Alarm::Light);
        assert_eq!(history.since(0).count(), CHANGES);
        assert_eq!(history.since(0).next(), Some((2, Micros(8), light)));
        let last = CHANGES as u64 + 1;
        assert!(history.since(last).eq([(last, Micros(last + 6), light)]));
    }

    #[test]
    fn rejects_in_a_row() {
        let mut watch = RejectWatch::new(Some(ConsecutiveRejects::new(3).unwrap()), None);
        let raised = [true, true, false, true, true, true, true].map(|r| watch.part(r)[0]);
        let alarm = Some(Alarm::ConsecutiveRejects);
        assert_eq!(raised, [None, None, None, None, None, alarm, alarm]);
        watch.reset();
        assert_eq!(watch.part(true)[0], None);
    }

    /// Against counting from scratch, over many times the window.
    #[test]
    fn reject_rate() {
        for window in [10, 64, 100, 256] {
            let rate = RejectRate::new(window, 20).unwrap();
            let mut watch = RejectWatch::new(None, Some(rate));
            let (mut parts, mut random) = (Vec::new(), 1u32);
            for _ in 0..2000 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                parts.push(random >> 24 < 50);
                let last = parts.iter().rev().take(window as usize);
                let rejects = last.filter(|r| **r).count();
                let full = parts.len() >= window as usize;
                let wanted = full && rejects * 100 > 20 * window as usize;
                let raised = watch.part(*parts.last().unwrap())[1];
                assert_eq!(raised, wanted.then_some(Alarm::RejectRate));
            }
        }
    }
}

//! Exactly one outcome per part, and how often each happened.

/// Why a part is rejected without a verdict. Numbers leave the machine: only append.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The camera gave no usable frame: it is down, or the frame is damaged.
    CameraFault = 0,
    /// The network failed.
    InferenceError = 1,
    /// The verdict came after the part's deadline, or never; or the output was switched after the part.
    Late = 2,
    /// More parts were on the belt than the queue holds.
    QueueFull = 3,
    /// The part was triggered, but no frame of it came.
    NoFrame = 4,
    /// It cannot be distinguished from its neighbour: too close to it, so close that its neighbour's reject takes it
    /// along, or a trigger out of order.
    Unknown = 5,
    /// The station was not inspecting: starting, stopped, or not yet past what it missed then.
    NotReady = 6,
    /// A test piece of a challenge that the network called good.
    Challenge = 7,
    /// Nothing can be seen on the frame: it is dark, overexposed or of one brightness.
    NothingVisible = 8,
    /// The frame is the one before it once more: the camera is frozen.
    Frozen = 9,
    /// The network was still busy with earlier frames: it is slower than the line.
    Overload = 10,
    /// The frame is darker, brighter or less sharp than the good parts were that the station was taught.
    Light = 11,
}

impl Cause {
    /// Every cause, by number.
    pub const ALL: [Cause; CAUSES] = [
        Cause::CameraFault,
        Cause::InferenceError,
        Cause::Late,
        Cause::QueueFull,
        Cause::NoFrame,
        Cause::Unknown,
        Cause::NotReady,
        Cause::Challenge,
        Cause::NothingVisible,
        Cause::Frozen,
        Cause::Overload,
        Cause::Light,
    ];
}

/// The number of causes.
pub const CAUSES: usize = 12;

/// What became of a part. Whatever is not known to be good is a reject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The score is at or below the threshold, and came in time.
    Good,
    /// The score is above the threshold.
    Reject,
    /// There is no verdict that counts: the part is rejected, to be on the safe side.
    RejectBecause(Cause),
}

impl Outcome {
    /// The verdict of a score. NaN cannot be compared and is a reject.
    pub fn of(score: f32, threshold: f32) -> Outcome {
        if score <= threshold {
            Outcome::Good
        } else {
            Outcome::Reject
        }
    }

    /// Its name in every report and protocol.
    pub const fn word(self) -> &'static str {
        match self {
            Outcome::Good => "good",
            Outcome::Reject => "reject",
            Outcome::RejectBecause(Cause::CameraFault) => "reject: camera fault",
            Outcome::RejectBecause(Cause::InferenceError) => "reject: inference error",
            Outcome::RejectBecause(Cause::Late) => "reject: late",
            Outcome::RejectBecause(Cause::QueueFull) => "reject: queue full",
            Outcome::RejectBecause(Cause::NoFrame) => "reject: no frame",
            Outcome::RejectBecause(Cause::Unknown) => "reject: unknown",
            Outcome::RejectBecause(Cause::NotReady) => "reject: not ready",
            Outcome::RejectBecause(Cause::Challenge) => "reject: missed test piece",
            Outcome::RejectBecause(Cause::NothingVisible) => "reject: nothing visible",
            Outcome::RejectBecause(Cause::Frozen) => "reject: frozen camera",
            Outcome::RejectBecause(Cause::Overload) => "reject: network too slow",
            Outcome::RejectBecause(Cause::Light) => "reject: light changed",
        }
    }

    /// Whether the part leaves the belt.
    pub fn is_reject(self) -> bool {
        self != Outcome::Good
    }
}

/// Counts of outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The number of all parts.
    pub parts: u64,
    /// The number of good parts.
    pub good: u64,
    /// Rejects by score.
    pub rejects: u64,
    /// Rejects without a verdict, by [`Cause`].
    pub failed: [u64; CAUSES],
}

impl Counters {
    /// Counts one part.
    pub fn count(&mut self, outcome: Outcome) {
        self.parts += 1;
        match outcome {
            Outcome::Good => self.good += 1,
            Outcome::Reject => self.rejects += 1,
            Outcome::RejectBecause(cause) => self.failed[cause as usize] += 1,
        }
    }

    /// Parts that left the belt, whatever the reason.
    pub fn all_rejects(&self) -> u64 {
        self.parts - self.good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_known_to_be_good_is_a_reject() {
        assert_eq!(Outcome::of(0.5, 0.5), Outcome::Good);
        assert_eq!(Outcome::of(0.500001, 0.5), Outcome::Reject);
        assert_eq!(Outcome::of(f32::NAN, 0.5), Outcome::Reject);
        assert_eq!(Outcome::of(0.1, f32::NAN), Outcome::Reject);
        assert!(Outcome::RejectBecause(Cause::Late).is_reject());
    }

    #[test]
    fn every_part_is_counted_once() {
        let mut counters = Counters::default();
        for outcome in [
            Outcome::Good,
            Outcome::Reject,
            Outcome::RejectBecause(Cause::Late),
            Outcome::RejectBecause(Cause::Challenge),
            Outcome::Good,
        ] {
            counters.count(outcome);
        }
        assert_eq!(
            counters,
            Counters {
                parts: 5,
                good: 2,
                rejects: 1,
                failed: [0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0]
            }
        );
        assert_eq!(counters.all_rejects(), 3);
    }

    #[test]
    fn numbers_never_change() {
        assert_eq!(
            Cause::ALL.map(|c| c as u8),
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
        );
    }
}

//! The station as whoever configures it sees it: a picture of its state, orders, results.
//!
//! Implemented by the runtime. Control never touches a pin, a camera or the station itself.

use super::table::Effect;
use super::values::Values;
use crate::line::settings::Pieces;
use crate::line::{
    AlarmSet, ChallengeReport, Micros, Outcome, Outputs, PartId, Settings, Statistics,
};

/// What the station is doing. Numbers leave the machine: only append.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Bundle, camera or pins are being made ready.
    Starting = 0,
    /// Parts are inspected.
    Running = 1,
    /// Disarmed by an order; nothing is inspected, everything is rejected.
    Disarmed = 2,
    /// An alarm or the stop input stopped the line; reset asked for.
    Stopped = 3,
    /// The camera is down; everything is rejected.
    Blind = 4,
    /// The camera came back too often: stays down until an engineer acts.
    Halted = 5,
}

/// What became of a part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PartResult {
    /// Its number.
    pub part: PartId,
    /// What became of it.
    pub outcome: Outcome,
    /// Its anomaly score, 0..=1; `None` if it was not judged.
    pub score: Option<f32>,
    /// From trigger to verdict, microseconds; `None` if it was not judged.
    pub latency_us: Option<u64>,
}

/// How the self-test stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelfTest {
    /// It was not asked for since the start.
    None,
    /// It runs.
    Running,
    /// Everything works.
    Passed,
    /// This does not.
    Failed(&'static str),
}

/// The station at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// When, on CLOCK_MONOTONIC.
    pub now: Micros,
    /// What it does.
    pub mode: Mode,
    /// Its outputs.
    pub outputs: Outputs,
    /// Latched alarms.
    pub alarms: AlarmSet,
    /// All counters.
    pub statistics: Statistics,
    /// The challenge that runs, or the last one.
    pub challenge: Option<ChallengeReport>,
    /// The last part that got its outcome.
    pub last: Option<PartResult>,
    /// The self-test that runs, or the last one.
    pub self_test: SelfTest,
}

/// What the station can be told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One trigger, now (only with the trigger source `command`).
    Trigger,
    /// Inspect.
    Arm,
    /// Stop inspecting; everything that passes is rejected.
    Disarm,
    /// Clear the latched alarms, end a stop.
    Reset,
    /// The next parts are test pieces.
    Challenge(Pieces),
    /// Set all counters to zero; part numbers go on.
    ResetCounters,
    /// Have every network judge the known frame.
    SelfTest,
    /// Leave in an orderly way and be started again by the system.
    Reboot,
}

/// Why an order was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Something else is under way.
    #[error("busy: {0}")]
    Busy(&'static str),
    /// The station is in another mode.
    #[error("not possible now: {0}")]
    Mode(&'static str),
    /// A device failed.
    #[error("hardware: {0}")]
    Hardware(&'static str),
}

/// The station behind control. All calls return at once or within milliseconds.
pub trait Host {
    /// The state now.
    fn snapshot(&mut self) -> Snapshot;
    /// Gives an order.
    ///
    /// # Errors
    /// [`Refused`].
    fn order(&mut self, order: Order) -> Result<(), Refused>;
    /// Works with other values from now on; `settings` are made of them. `effect` is the hardest of those
    /// that changed: [`Effect::NextPart`] must leave the parts on the belt alone, while after
    /// [`Effect::BeltCleared`] those that are on it are rejected. What takes effect with a restart is
    /// read at the start only.
    ///
    /// # Errors
    /// [`Refused`]: it goes on with the values that it had.
    fn apply(
        &mut self,
        values: &Values,
        settings: &Settings,
        effect: Effect,
    ) -> Result<(), Refused>;
    /// Output FAULT must be on because of control's memory (a damaged file, a failed write), besides any
    /// reason of the station's own.
    fn fault(&mut self, on: bool);
    /// The next part's result since the last call, in order. Results that nobody fetches are dropped
    /// after 256, oldest first.
    fn next_result(&mut self) -> Option<PartResult>;
}

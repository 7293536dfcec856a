//! The station as control sees it: its state, orders to it, results.
//!
//! Implemented by the runtime. Control never touches a pin, a camera or the station itself.

use super::table::Effect;
use super::values::Values;
use crate::line::settings::Pieces;
use crate::line::{
    AlarmHistory, AlarmSet, ChallengeReport, DefectType, Lane, Micros, NetworkState, Outcome,
    Outputs, PartId, Settings, Statistics, VIEWS, View,
};
use crate::memory::Views;
use crate::memory::course::Report;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

/// Mode of the station. Numbers leave the machine: only append.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Bundle, camera or pins are being made ready.
    Starting = 0,
    /// Parts are inspected.
    Running = 1,
    /// Disarmed by an order; nothing is inspected, everything is rejected.
    Disarmed = 2,
    /// An alarm or the input STOP has stopped the line; a reset is needed.
    Stopped = 3,
    /// The camera is down; everything is rejected.
    Blind = 4,
    /// The camera has failed too often: it stays down until an engineer acts.
    Halted = 5,
}

/// The scores that a part's score is fused of, where good parts were taught.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Opinions {
    /// FAPrompt's score, 0..=1.
    pub zero_shot: f32,
    /// The memory's score: how far the part is from good ones, in the unit of its kind.
    pub memory: f32,
}

/// The result of a part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PartResult {
    /// Number of the part.
    pub part: PartId,
    /// Good or reject, and the cause.
    pub outcome: Outcome,
    /// Its anomaly score, 0..=1; `None` if it was not judged. Where there are several cameras: that of the first
    /// view that rejects it, else the largest.
    pub score: Option<f32>,
    /// The camera that the score is from.
    pub view: View,
    /// The scores that it is fused of; `None` where no good parts were taught.
    pub opinions: Option<Opinions>,
    /// From trigger to verdict, microseconds; `None` if it was not judged.
    pub latency_us: Option<u64>,
    /// The type of its defect, if its score rejected it.
    pub defect: DefectType,
    /// Share of that type among all types, 0..=1; `None` where the type is unknown or the network has none.
    pub share: Option<f32>,
    /// The lane that its reject started in.
    pub lane: Option<Lane>,
}

impl PartResult {
    /// Name of the type of its defect, among those of the network that judged it; `None` if it has none.
    pub fn type_name<'a>(&self, types: &'a [String]) -> Option<&'a str> {
        match self.defect {
            DefectType::None => None,
            DefectType::Unknown => Some(UNKNOWN),
            DefectType::Number(number) => Some(
                types
                    .get(usize::from(number))
                    .map_or(UNKNOWN, String::as_str),
            ),
        }
    }
}

/// Name of the type of a part where two types are about as likely.
pub const UNKNOWN: &str = "unknown";

/// State of the self-test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelfTest {
    /// No self-test was asked for since the start.
    None,
    /// It is running.
    Running,
    /// All networks give the known frame the score that it must have.
    Passed,
    /// It failed, for this reason.
    Failed(&'static str),
}

/// What was to be kept and is lost since the program's start: the disk was full, away or too slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Lines of results and events.
    pub lines: u64,
    /// Pictures.
    pub pictures: u64,
}

/// State of the station at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// The moment, on CLOCK_MONOTONIC.
    pub now: Micros,
    /// Its mode.
    pub mode: Mode,
    /// The state of its outputs.
    pub outputs: Outputs,
    /// The alarms that are latched.
    pub alarms: AlarmSet,
    /// What happened to alarms since the program's start: between two looks one may have been raised and reset.
    pub alarm_history: AlarmHistory,
    /// Counters since they were last set to zero.
    pub statistics: Statistics,
    /// The challenge that runs, or the last one.
    pub challenge: Option<ChallengeReport>,
    /// The last part that got its outcome.
    pub last: Option<PartResult>,
    /// How many cameras there are.
    pub cameras: usize,
    /// Whether each camera is down.
    pub down: [bool; VIEWS],
    /// The self-test that runs, or the last one.
    pub self_test: SelfTest,
    /// What could not be kept.
    pub lost: Lost,
}

/// An order to the station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One trigger, now (only with the trigger source `command`).
    Trigger,
    /// Begin to inspect.
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

/// Why the station refused an order.
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
    /// The bundle cannot be used.
    #[error("hardware: {0}")]
    Network(&'static str),
    /// The regions cannot be used.
    #[error("regions: {0}")]
    Regions(&'static str),
    /// The taught parts cannot be used.
    #[error("taught: {0}")]
    Taught(&'static str),
    /// There is no such part.
    #[error("{0}")]
    NoSuchPart(&'static str),
    /// A file cannot be written.
    #[error("{0}")]
    Memory(&'static str),
}

/// An order about a lesson.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Teach<'a> {
    /// Begin a new lesson: the next parts, this many, are good.
    Begin(u32),
    /// Add the next parts, this many, to those that were taught: they are good too.
    Add(u32),
    /// Take out the part, or the test piece, of this name.
    Forget(&'a str),
    /// Add a part that was good: the one with this number, or the last reject.
    Good(Option<u64>),
    /// Add a part that was bad as a test piece: the one with this number, or the last that passed.
    Bad(Option<u64>),
    /// End the lesson: it was accepted, or is dropped.
    End,
}

/// Settings of a lesson.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TeachSettings {
    /// The share of good parts that may be rejected, 0..1.
    pub false_rejects: f64,
    /// Further views in which each part is learned.
    pub views: Views,
}

/// State of a lesson. Numbers leave the machine: only append.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LessonState {
    /// It waits for parts.
    Running = 1,
    /// The memory is being made from the parts.
    Preparing = 2,
    /// It waits for somebody to look at it and accept it.
    Done = 3,
    /// It failed, and can only be ended.
    Failed = 4,
}

/// A lesson that is going on, or waits to be accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    /// Its state.
    pub state: LessonState,
    /// How many good parts it has.
    pub parts: usize,
    /// How many good parts it is to have.
    pub wanted: usize,
    /// Its report, and the bytes of the file to be stored; only in state `Done`.
    pub result: Option<(Arc<Report>, Arc<[u8]>)>,
    /// Why it failed, or why the last change of it was refused.
    pub problem: Option<String>,
}

/// The taught parts that a network compares with.
#[derive(Clone, Debug, PartialEq)]
pub struct GoodParts {
    /// Name of their file, as in the parameters.
    pub name: String,
    /// How many there are.
    pub parts: usize,
    /// Name of the kind of memory.
    pub kind: &'static str,
    /// The most good parts of 1000 that will be rejected at the limit of 0.5, with 95 % confidence.
    pub bound_per_mille: Option<u16>,
}

/// What reports say of the network that judged a part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkLabel {
    /// Path of the bundle's file.
    pub bundle: String,
    /// Whether a recipe names it, in place of the bundle that the station was started with.
    pub from_recipe: bool,
    /// Name in the bundle's manifest.
    pub name: String,
    /// SHA-256 over the digests of all its parts, in hexadecimal: the same bytes are the same network.
    pub digest: String,
    /// What a memory of good parts is bound to: SHA-256 over the encoder's weights, its input's size and taps, in
    /// hexadecimal; empty if it cannot be taught.
    pub encoder: String,
    /// A warning of the bundle that must not be missed.
    pub warning: Option<&'static str>,
    /// Name of the arithmetic that weights are multiplied in; a threshold belongs to it.
    pub arithmetic: &'static str,
    /// Gaussian smoothing of its maps, pixels of its input.
    pub smoothing_sigma: f32,
    /// Names of the types of defects that it distinguishes, by number; empty for most methods.
    pub types: Vec<String>,
    /// The taught parts that it compares with; `None`: FAPrompt judges alone.
    pub taught: Option<GoodParts>,
}

/// The network that judges now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judging {
    /// Number of the loadout, counted since the start.
    pub generation: u32,
    /// Whether it is the stored network; `None` while the first one is being prepared.
    pub state: Option<NetworkState>,
    /// What reports say of it; `None` if nothing judges.
    pub network: Option<Arc<NetworkLabel>>,
}

/// Everything that the station is to work with from now on.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The values of all parameters.
    pub values: Values,
    /// Settings of the line's core, made from the parameters.
    pub settings: Settings,
    /// The hardest effect of those that changed: [`Effect::NextPart`] must leave the parts on the belt
    /// alone, while after [`Effect::BeltCleared`] those that are on it are rejected. What takes effect with
    /// a restart is read at the start only.
    pub effect: Effect,
    /// Whether the network is the stored one, or the last good one.
    pub state: NetworkState,
    /// Whether the line stays stopped until a reset, because somebody must look first.
    pub stop: bool,
    /// The bytes of the file of taught parts that the values name, if it is not written yet.
    pub taught: Option<Arc<[u8]>>,
}

/// A loadout that is being prepared, or is ready at once.
#[derive(Debug)]
pub struct Preparing<L>(Stage<L>);

#[derive(Debug)]
enum Stage<L> {
    Ready(Result<L, Refused>),
    Awaited(Receiver<Result<L, Refused>>),
    Taken,
}

impl<L> Preparing<L> {
    /// The result is there already.
    pub fn ready(result: Result<L, Refused>) -> Self {
        Preparing(Stage::Ready(result))
    }

    /// The result will come from another thread.
    pub fn awaited(result: Receiver<Result<L, Refused>>) -> Self {
        Preparing(Stage::Awaited(result))
    }

    /// The result, once; `None`: not yet. Never waits.
    pub fn poll(&mut self) -> Option<Result<L, Refused>> {
        if let Stage::Awaited(result) = &self.0 {
            let result = match result.try_recv() {
                Ok(result) => result,
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => {
                    Err(Refused::Hardware("the preparing thread failed"))
                }
            };
            self.0 = Stage::Ready(result);
        }
        match std::mem::replace(&mut self.0, Stage::Taken) {
            Stage::Ready(result) => Some(result),
            Stage::Awaited(_) | Stage::Taken => None,
        }
    }
}

/// The station behind control. All calls return at once or within milliseconds.
pub trait ControlledStation {
    /// Everything that a change puts into force, prepared. If it is dropped, nothing has changed.
    type Loadout: Send + 'static;
    /// The state of the station now.
    fn snapshot(&mut self) -> Snapshot;
    /// Gives the station an order.
    ///
    /// # Errors
    /// [`Refused`] with the reason.
    fn order(&mut self, order: Order) -> Result<(), Refused>;
    /// The network that judges now.
    fn judging(&mut self) -> Arc<Judging>;
    /// Begins to prepare the loadout that the values ask for: everything that is slow or can fail, such as a
    /// bundle and the camera's answer. Meanwhile the station goes on as it is.
    fn prepare(&mut self, wanted: &Wanted) -> Preparing<Self::Loadout>;
    /// Names of the types of defects of the network that will judge with this loadout; `None` if that is not known.
    fn types(&mut self, _: &Self::Loadout) -> Option<Vec<String>> {
        None
    }
    /// Puts a loadout into force. Cannot fail.
    fn swap(&mut self, loadout: Self::Loadout);
    /// Says that no stored network can judge: the line stays stopped.
    fn no_network(&mut self);
    /// Says that the taught parts cannot be used, and nothing is to judge without them: the line stays stopped.
    fn untaught(&mut self) {
        self.no_network();
    }
    /// Gives an order about a lesson. Another thread does what takes long; [`ControlledStation::lesson`] reports
    /// how far it is.
    ///
    /// # Errors
    /// [`Refused`]; a station that cannot be taught refuses everything.
    fn teach(&mut self, _: Teach<'_>, _: TeachSettings) -> Result<(), Refused> {
        Err(Refused::Mode("this station cannot be taught"))
    }
    /// Resumes a lesson that waited when the station ended, from the bytes in its [`Lesson::result`].
    ///
    /// # Errors
    /// As [`ControlledStation::teach`].
    fn resume_lesson(&mut self, _: Arc<[u8]>, _: TeachSettings) -> Result<(), Refused> {
        Err(Refused::Mode("this station cannot be taught"))
    }
    /// The lesson that is going on, or waits to be accepted; `None`: there is none.
    fn lesson(&mut self) -> Option<Lesson> {
        None
    }
    /// Whether output FAULT must be on because of control's stored settings (a damaged file, a failed write),
    /// besides any reason of the station's own.
    fn fault(&mut self, on: bool);
    /// The next part's result since the last call, in order. Results that nobody fetches are dropped
    /// after 256, oldest first.
    fn next_result(&mut self) -> Option<PartResult>;
}

//! The station as whoever configures it sees it: a picture of its state, orders, results.
//!
//! Implemented by the runtime. Control never touches a pin, a camera or the station itself.

use super::table::Effect;
use super::values::Values;
use crate::line::settings::Pieces;
use crate::line::{
    AlarmSet, ChallengeReport, DefectType, Lane, Micros, NetworkState, Outcome, Outputs, PartId,
    Settings, Statistics, VIEWS, View,
};
use crate::memory::Views;
use crate::memory::course::Report;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

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

/// What a score is made of, where good parts were taught.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Opinions {
    /// FAPrompt's score, 0..=1.
    pub zero_shot: f32,
    /// The memory's: how far the part is from good ones, in the unit of its kind.
    pub memory: f32,
}

/// What became of a part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PartResult {
    /// Its number.
    pub part: PartId,
    /// What became of it.
    pub outcome: Outcome,
    /// Its anomaly score, 0..=1; `None` if it was not judged. Where there are several cameras: that of the first
    /// view that rejects it, else the largest.
    pub score: Option<f32>,
    /// The camera whose score it is.
    pub view: View,
    /// What that is made of; `None` where no good parts were taught.
    pub opinions: Option<Opinions>,
    /// From trigger to verdict, microseconds; `None` if it was not judged.
    pub latency_us: Option<u64>,
    /// The type of its defect, if its score rejected it.
    pub defect: DefectType,
    /// Share of that type among all types, 0..=1; `None` where it is unknown or there are none.
    pub share: Option<f32>,
    /// The lane that its reject started in.
    pub lane: Option<Lane>,
}

impl PartResult {
    /// The name of its type of defect, among those of the network that judged it; `None` if it has none.
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

/// What the type of a part is called where two are about as likely.
pub const UNKNOWN: &str = "unknown";

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
    /// How many cameras there are.
    pub cameras: usize,
    /// Those that are down.
    pub down: [bool; VIEWS],
    /// The self-test that runs, or the last one.
    pub self_test: SelfTest,
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
    /// What was taught cannot be used.
    #[error("taught: {0}")]
    Taught(&'static str),
    /// A part that is not there.
    #[error("{0}")]
    NoSuchPart(&'static str),
    /// A file cannot be written.
    #[error("{0}")]
    Memory(&'static str),
}

/// What the station is to do about a lesson.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Teach<'a> {
    /// The next parts are good: a new lesson of so many.
    Begin(u32),
    /// The next parts are good too: so many more than were taught.
    Add(u32),
    /// Without the part, or the test piece, of this name.
    Forget(&'a str),
    /// This part was good: the one of this number, or the last reject.
    Good(Option<u64>),
    /// This part was bad: the one of this number, or the last that passed. It is kept as a test piece.
    Bad(Option<u64>),
    /// Dropped, or over because it was accepted.
    End,
}

/// How a lesson teaches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TeachSettings {
    /// The share of good parts that may be rejected, 0..1.
    pub false_rejects: f64,
    /// What each part is shown as, beside what it is.
    pub views: Views,
}

/// How far a lesson is. Numbers leave the machine: only append.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LessonState {
    /// Parts are awaited.
    Running = 1,
    /// What came is being made into what judges.
    Preparing = 2,
    /// It waits to be looked at and accepted.
    Done = 3,
    /// It failed: it can only be ended.
    Failed = 4,
}

/// A lesson that is going on, or waits to be accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    /// How far it is.
    pub state: LessonState,
    /// Good parts that it has.
    pub parts: usize,
    /// Good parts that it is to have.
    pub wanted: usize,
    /// What it came to, and what is to be stored; as long as it is done.
    pub result: Option<(Arc<Report>, Arc<[u8]>)>,
    /// Why it failed, or why the last change of it was refused.
    pub problem: Option<String>,
}

/// What good parts a network compares with.
#[derive(Clone, Debug, PartialEq)]
pub struct GoodParts {
    /// As the parameters call them.
    pub name: String,
    /// How many there are.
    pub parts: usize,
    /// How parts are compared.
    pub kind: &'static str,
    /// The most good parts of 1000 that will be rejected at the limit of 0.5, with 95 % confidence.
    pub bound_per_mille: Option<u16>,
}

/// What reports say of the network that judged a part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkLabel {
    /// The file that it was read from.
    pub bundle: String,
    /// Whether a recipe names it, in place of the bundle that the station was started with.
    pub from_recipe: bool,
    /// What its manifest calls it.
    pub name: String,
    /// SHA-256 over the digests of all its parts, in hexadecimal: the same bytes are the same network.
    pub digest: String,
    /// What a memory of good parts is bound to: SHA-256 over the encoder's weights, its input's size and taps, in
    /// hexadecimal; empty if it cannot be taught.
    pub encoder: String,
    /// A line that must not be missed.
    pub warning: Option<&'static str>,
    /// How its weights are multiplied: what a threshold that was taught here goes with.
    pub arithmetic: &'static str,
    /// Gaussian smoothing of its maps, pixels of its input.
    pub smoothing_sigma: f32,
    /// The types of defects that it tells apart, by number; none of most methods.
    pub types: Vec<String>,
    /// What good parts it compares with; `None`: FAPrompt judges alone.
    pub taught: Option<GoodParts>,
}

/// What judges now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judging {
    /// Counts what was put into force since the start.
    pub generation: u32,
    /// Whether it is what is stored; `None` while the first one is being made ready.
    pub state: Option<NetworkState>,
    /// Its name; `None` if nothing judges.
    pub network: Option<Arc<NetworkLabel>>,
}

/// What a station is to be made of from now on.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// All parameters.
    pub values: Values,
    /// What the line core is set to, made of them.
    pub settings: Settings,
    /// The hardest effect of those that changed: [`Effect::NextPart`] must leave the parts on the belt
    /// alone, while after [`Effect::BeltCleared`] those that are on it are rejected. What takes effect with
    /// a restart is read at the start only.
    pub effect: Effect,
    /// Whether it is what is stored, or what judged before that.
    pub state: NetworkState,
    /// The line stays stopped until a reset: somebody must look first.
    pub stop: bool,
    /// The bytes of the file that the values name as what was taught, if it is yet to be written.
    pub taught: Option<Arc<[u8]>>,
}

/// Something that is being made ready: at once, or by another thread.
#[derive(Debug)]
pub struct Preparing<L>(Stage<L>);

#[derive(Debug)]
enum Stage<L> {
    Ready(Result<L, Refused>),
    Awaited(Receiver<Result<L, Refused>>),
    Taken,
}

impl<L> Preparing<L> {
    /// It is ready, or refused.
    pub fn ready(result: Result<L, Refused>) -> Self {
        Preparing(Stage::Ready(result))
    }

    /// Another thread tells.
    pub fn awaited(result: Receiver<Result<L, Refused>>) -> Self {
        Preparing(Stage::Awaited(result))
    }

    /// What came of it, once; `None`: nothing yet. Never waits.
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
    /// Everything that a change puts into force, made ready. Dropped, it leaves no trace.
    type Loadout: Send + 'static;
    /// The state now.
    fn snapshot(&mut self) -> Snapshot;
    /// Gives an order.
    ///
    /// # Errors
    /// [`Refused`].
    fn order(&mut self, order: Order) -> Result<(), Refused>;
    /// What judges now.
    fn judging(&mut self) -> Arc<Judging>;
    /// Begins to make ready what the values ask for: everything that is slow or can fail, a bundle and the
    /// camera's answer among it. The station goes on as it is meanwhile.
    fn prepare(&mut self, wanted: &Wanted) -> Preparing<Self::Loadout>;
    /// Works with it from now on. Cannot fail.
    fn swap(&mut self, loadout: Self::Loadout);
    /// Nothing that is stored can judge: the line stays stopped.
    fn no_network(&mut self);
    /// What was taught cannot be used, and nothing is to judge without it: the line stays stopped.
    fn untaught(&mut self) {
        self.no_network();
    }
    /// Teaches. What takes long is done by another thread: [`ControlledStation::lesson`] tells.
    ///
    /// # Errors
    /// [`Refused`]; a station that cannot be taught refuses everything.
    fn teach(&mut self, _: Teach<'_>, _: TeachSettings) -> Result<(), Refused> {
        Err(Refused::Mode("this station cannot be taught"))
    }
    /// Begins a lesson as it waited when the station ended: the bytes of [`Lesson::result`] then.
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
    /// Output FAULT must be on because of control's memory (a damaged file, a failed write), besides any
    /// reason of the station's own.
    fn fault(&mut self, on: bool);
    /// The next part's result since the last call, in order. Results that nobody fetches are dropped
    /// after 256, oldest first.
    fn next_result(&mut self) -> Option<PartResult>;
}

//! The station: triggers, frames, verdicts, inputs and time in, logical outputs and events out.
//!
//! Every call says when it is made, does everything that was due by then, and then its own work; after
//! it, [`Station::outputs`] is what the pins must show until [`Station::tick`] is called at the time that
//! the last one asked for. The same calls give the same outputs, always.
//!
//! What holds whatever happens:
//! - Every part gets exactly one outcome. It is given when the part reaches the reject station, so that
//!   it is what physically happens to the part; a verdict in time is only what it is based on.
//! - Whatever is not known to be good is rejected. While the station is blind (not started, stopped,
//!   camera down), and until everything it may have missed has passed, nothing is known to be good:
//!   output `good` stays off, or `reject` on, whichever is wired.
//! - One lane at most is on, and only while something passes that is rejected: the part's own, or the default
//!   lane, where whatever goes that is not known to be of one lane.
//! - A part is good only if every camera's view of it is. The first that is known of any view to make it a reject
//!   is its outcome; what comes of the other views later is counted.
//! - A verdict that is late, repeated or of an unknown part is counted and never acted on.
//!
//! Must never allocate, block, read a clock, or touch a pin.

mod belt;
mod calls;

use super::alarms::{ALARMS, Alarm, AlarmSet, RejectWatch};
use super::challenge::{Challenge, ChallengeError, ChallengeReport};
use super::counters::Statistics;
use super::event::{Event, Observer};
use super::gate::Gate;
use super::inputs::{BIN_FULL_US, BIN_OPEN_US, Confirmations, Lasting};
use super::lanes::Sorting;
use super::outcome::{Cause, Outcome};
use super::outputs::Outputs;
use super::pairing::HeldFrames;
use super::queue::{Queue, State};
use super::settings::{Axis, Pieces, Settings, Threshold, Wiring};
use super::time::{Micros, PartId, Position};
use super::trigger::{Filter, Pace};
use super::view::{VIEWS, View, ViewSet};
use heapless::Deque;

/// Parts between trigger and reject station if nothing else is said, the last one being room for those
/// that exceed it: 1,000 parts/s over one second of belt.
pub const PARTS: usize = 1024;

/// What came out of judging a part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Its anomaly score.
    Score(f32),
    /// Its anomaly score, and what the type of its defect decides.
    Sorted(f32, Sorting),
    /// The network failed.
    Error,
}

/// Which network judges parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkState {
    /// The network of the stored settings.
    #[default]
    Stored,
    /// The last network that could judge, because the stored one cannot.
    LastGood,
    /// No network judges: every part is rejected.
    Missing,
    /// No network judges: what was taught cannot be used, and nothing else is to judge instead.
    Untaught,
    /// The stored network without what was taught, which cannot be used (parameter `taught_unusable`).
    ZeroShot,
}

impl NetworkState {
    /// The alarm that stops the line whatever is set, because nobody judges.
    pub const fn stops_by(self) -> Option<Alarm> {
        match self {
            NetworkState::Missing => Some(Alarm::Network),
            NetworkState::Untaught => Some(Alarm::Taught),
            NetworkState::Stored | NetworkState::LastGood | NetworkState::ZeroShot => None,
        }
    }
}

/// How a verdict was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictUse {
    /// It decides the part.
    Taken,
    /// It came after the part's deadline: the part is or was rejected.
    Late,
    /// The part already had a verdict.
    Duplicate,
    /// There is no such part, or it has no frame.
    Unknown,
    /// The part's reject was certain already.
    Ignored,
}

/// An inspection station that tracks up to `N - 1` parts (`N` at least 4). About 60 bytes per part and
/// 6 kB, all in place: put it where that much memory is.
#[derive(Debug)]
pub struct Station<O, const N: usize = PARTS> {
    settings: Settings,
    observer: O,
    statistics: Statistics,
    filter: Filter,
    pace: Pace,
    held: [HeldFrames; VIEWS],
    queue: Queue<N>,
    gate: Gate,
    confirmations: Option<Confirmations>,
    watch: RejectWatch,
    /// What a change of settings does not touch.
    kept: Kept,
    /// Parts without counts.
    standing: Standing,
    stopped: bool,
    strobe_until: Micros,
    /// Late parts that have left, and when they were triggered.
    owed: Deque<(PartId, Micros), OWED>,
    /// How far before the reject station something may lie that was missed; more than the delay only
    /// while a part that was placed by a longer one may be on the belt.
    reach: u64,
}

/// What a change of settings does not touch: what the machine around says, and what was latched.
#[derive(Debug)]
struct Kept {
    now: Micros,
    /// Furthest count of the encoder.
    count: Option<u64>,
    alarms: AlarmSet,
    challenge: Challenge,
    bin_full: Lasting,
    bin_open: Lasting,
    low_air: Lasting,
    confirm_input: bool,
    stop_input: bool,
    /// `None`: nothing was reported yet.
    reset_input: Option<bool>,
    started: bool,
    /// The cameras that there are.
    cameras: ViewSet,
    /// Those that are down.
    down: ViewSet,
    results_lost: bool,
    network: NetworkState,
    draining: bool,
}

impl Default for Kept {
    fn default() -> Self {
        Kept {
            now: Micros(0),
            count: None,
            alarms: AlarmSet::NONE,
            challenge: Challenge::default(),
            bin_full: Lasting::new(BIN_FULL_US),
            bin_open: Lasting::new(BIN_OPEN_US),
            low_air: Lasting::new(0),
            confirm_input: false,
            stop_input: false,
            reset_input: None,
            started: false,
            cameras: ViewSet::of(1),
            down: ViewSet::NONE,
            results_lost: false,
            network: NetworkState::Stored,
            draining: false,
        }
    }
}

/// Parts that were triggered since the encoder last moved.
#[derive(Debug, Default)]
struct Standing {
    count: Option<u64>,
    parts: u32,
    /// When the first of them was triggered.
    since: Option<Micros>,
}

/// So many parts that left before their verdict came are remembered, so that it is known how long it took.
const OWED: usize = 16;

/// So many parts in a row that a belt brings past a sensor move it. More without a count, and the encoder is
/// broken: nobody knows where they are, and a reject would never come.
const STANDING_PARTS: u32 = 3;

/// Triggers that come by time alone come from a belt that stands, too. One that stands for longer than this, us,
/// while the station takes it for running, has a broken encoder or is to be triggered by it.
const STANDING_US: u64 = 10_000_000;

impl<O: Observer, const N: usize> Station<O, N> {
    /// A station that is not started. Goes on counting from `statistics` (those of the last run, or
    /// the default) and numbers parts from there.
    pub fn new(settings: Settings, statistics: Statistics, observer: O) -> Self {
        Station {
            settings,
            observer,
            statistics,
            filter: Filter::default(),
            pace: Pace::default(),
            held: Default::default(),
            queue: Queue::new(),
            gate: Gate::new(settings.default_lane),
            confirmations: settings
                .wiring
                .confirm()
                .map(|window| Confirmations::new(window.us())),
            watch: RejectWatch::new(settings.alarms.consecutive, settings.alarms.rate),
            kept: Kept::default(),
            standing: Standing::default(),
            stopped: false,
            strobe_until: Micros(0),
            owed: Deque::new(),
            reach: settings.delay.delay(),
        }
    }

    /// The same station with so many cameras, 1 to 4, on one trigger. More than one need a trigger: in free run,
    /// where each frame of the first camera is a part, no frame of another camera finds its part.
    pub fn with_cameras(mut self, cameras: usize) -> Self {
        self.kept.cameras = ViewSet::of(cameras);
        self
    }

    /// Gives the station other settings. What is on the belt was placed by the old ones: it is
    /// rejected, over the longer of both delays. What the machine around says, alarms, a stop, a camera
    /// that is down and the last challenge stay. If the delay's axis changes, nobody knows where that is:
    /// the line stops until [`Station::reset`].
    pub fn renew(mut self, settings: Settings, now: Micros) -> Self {
        self.advance(now);
        let (old, was_stopped) = (self.settings, self.stopped);
        self.halt();
        let rejected_until = self.gate.rejects_until();
        let unseen = self.confirmations.take();
        self.empty();
        let Station {
            kept,
            statistics,
            observer,
            reach,
            ..
        } = self;
        let same_axis = old.delay.axis() == settings.delay.axis();
        let new = Station::new(settings, statistics, observer);
        let mut new = Station {
            kept,
            reach: if same_axis {
                new.reach.max(reach)
            } else {
                new.reach
            },
            ..new
        };
        if let (Some(new), Some(old)) = (&mut new.confirmations, unseen) {
            new.take_over(old);
        }
        // A reject is never shortened.
        new.gate.pass_reject(None, now, rejected_until);
        let counted = new.kept.count.zip(settings.trigger.pitch());
        if let (Some((count, pitch)), false) = (counted, new.kept.draining) {
            new.pace.start(count, pitch);
        }
        new.stopped = was_stopped || !same_axis || ALARMS.into_iter().any(|a| new.stops(a));
        new.resume();
        new
    }

    /// Takes over alarms that an earlier run left latched: they stay until [`Station::reset`], and stop
    /// the line if they would have.
    pub fn latch(&mut self, alarms: AlarmSet, now: Micros) {
        self.advance(now);
        for alarm in ALARMS.into_iter().filter(|a| alarms.contains(*a)) {
            self.raise(alarm);
        }
    }

    /// Judges verdicts from now on by this camera's threshold. Everything else is fixed for a station's life.
    pub fn set_threshold(&mut self, view: View, threshold: Threshold) {
        match view.index().checked_sub(1) {
            None => self.settings.threshold = threshold,
            Some(i) => self.settings.further_thresholds[i] = threshold,
        }
    }

    /// Sets all counters to zero; part numbers go on.
    pub fn reset_counters(&mut self) {
        self.statistics = Statistics {
            next_part: self.statistics.next_part,
            ..Statistics::default()
        };
    }

    /// Inspects from now on: camera and network are ready. Does nothing if it is started; a stop that is
    /// in force stays so.
    pub fn start(&mut self, now: Micros) {
        self.advance(now);
        if !self.kept.started {
            self.kept.started = true;
            self.resume();
        }
    }

    /// Stops the line until [`Station::reset`]. Everything on the belt that is not a reject becomes one:
    /// where it is when the belt moves again is not known.
    pub fn stop(&mut self, now: Micros) {
        self.advance(now);
        self.halt();
    }

    /// Makes no more parts, because there will be no more frames. Those on the belt get their outcome as usual.
    pub fn drain(&mut self, now: Micros) {
        self.advance(now);
        self.kept.draining = true;
        self.pace.stop();
    }

    /// Clears the alarms and ends a stop, unless an alarm that stops the line has reason to be raised
    /// again or the stop input is active. An alarm that is only raised in this call was seen by nobody,
    /// and stays.
    pub fn reset(&mut self, now: Micros) {
        let seen = self.kept.alarms;
        self.advance(now);
        self.report(Event::Reset(seen));
        self.kept.alarms = self.kept.alarms.minus(seen);
        self.watch.reset();
        self.standing = Standing::default();
        let was_stopped = self.stopped;
        self.stopped = self.kept.stop_input || ALARMS.into_iter().any(|a| self.stops(a));
        self.conditions();
        if was_stopped {
            self.resume();
        }
    }

    /// The next parts to be triggered are test pieces: they must all be rejected by their verdicts. One
    /// that is not stops the line.
    ///
    /// # Errors
    /// Every [`ChallengeError`].
    pub fn challenge(&mut self, pieces: Pieces, now: Micros) -> Result<(), ChallengeError> {
        self.advance(now);
        if self.blind().is_some() {
            return Err(ChallengeError::NotReady);
        }
        if self.kept.challenge.is_running() {
            return Err(ChallengeError::Running);
        }
        self.kept.challenge.start(pieces);
        Ok(())
    }

    /// The challenge that runs, or the last one.
    pub fn challenge_report(&self) -> Option<ChallengeReport> {
        self.kept.challenge.report()
    }

    /// Does what is due. Returns when to call it next at the latest; `None`: nothing is due unless
    /// something is reported.
    pub fn tick(&mut self, now: Micros) -> Option<Micros> {
        self.advance(now);
        self.wake()
    }

    /// What the pins must show.
    pub fn outputs(&self) -> Outputs {
        let barred = self.barred().is_some();
        let (good, reject) = match self.settings.wiring {
            Wiring::EnergiseForGood { .. } => (!barred && self.gate.good(self.kept.now), false),
            Wiring::EnergiseToReject { .. } => (false, barred || self.gate.reject(self.kept.now)),
        };
        let lane = match barred {
            true => self.settings.default_lane,
            false => self.gate.lane(self.kept.now),
        };
        let ready = self.blind().is_none();
        Outputs {
            good,
            reject,
            ready,
            busy: self.queue.open() > 0,
            result: ready && self.queue.is_good(),
            fault: !self.kept.down.is_empty() || !self.kept.alarms.is_empty(),
            line_stop: self.stopped,
            strobe: self.kept.now < self.strobe_until,
            lane,
        }
    }

    /// All counters.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The latched alarms.
    pub fn alarms(&self) -> AlarmSet {
        self.kept.alarms
    }

    /// Who gets the events.
    pub fn observer(&mut self) -> &mut O {
        &mut self.observer
    }

    /// Ends the station: every part on the belt gets its outcome. From here on the outputs are
    /// [`Outputs::safe`].
    pub fn finish(mut self, now: Micros) -> (Statistics, O) {
        self.advance(now);
        self.halt();
        self.empty();
        (self.statistics, self.observer)
    }

    /// Gives every part on a belt that has halted its outcome.
    fn empty(&mut self) {
        while let Some(entry) = self.queue.drain() {
            let outcome = match entry.state {
                State::Judged { good: false } => Outcome::Reject,
                State::Closed(cause) => Outcome::RejectBecause(cause),
                // Closed by the halt.
                State::Judged { good: true } | State::Waiting | State::Framed => {
                    Outcome::RejectBecause(Cause::NotReady)
                }
            };
            if !entry.block {
                self.give(entry.part, outcome, false, entry.sorting.defect, None);
            }
        }
        while self
            .confirmations
            .as_mut()
            .is_some_and(Confirmations::give_up)
        {
            self.statistics.confirms.missing += 1;
        }
    }

    /// Why parts are not inspected, if so.
    fn blind(&self) -> Option<Cause> {
        if !self.kept.started || self.stopped {
            Some(Cause::NotReady)
        } else {
            (!self.kept.down.is_empty()).then_some(Cause::CameraFault)
        }
    }

    /// Why nothing that passes the reject station is known to be good, if so.
    fn barred(&self) -> Option<Cause> {
        self.blind().or_else(|| self.gate.flushing())
    }

    fn halt(&mut self) {
        if self.stopped {
            return;
        }
        self.stopped = true;
        self.queue.forget_verdict();
        self.queue.close_all(Cause::NotReady);
        self.drop_held();
        if self.settings.trigger.interval_us().is_some() {
            self.pace.stop();
        }
        if let Some(report) = self.kept.challenge.break_off() {
            self.report(Event::Challenge(report));
        }
    }

    /// Inspects again, if nothing speaks against it: what passed the camera until now was missed.
    fn resume(&mut self) {
        if !self.kept.started || self.stopped {
            return;
        }
        self.gate
            .flush(self.here().plus(self.reach), Cause::NotReady);
        if let (Some(step), false) = (self.settings.trigger.interval_us(), self.kept.draining) {
            self.pace.start(self.kept.now.0, step);
        }
    }

    fn raise(&mut self, alarm: Alarm) {
        if self.kept.alarms.insert(alarm) {
            self.report(Event::Alarm(alarm));
        }
        if self.stops(alarm) {
            self.halt();
        }
    }

    /// Whether an alarm is latched and stops the line.
    fn stops(&self, alarm: Alarm) -> bool {
        let stop_on = self.settings.alarms.stop_on;
        let nobody = self.kept.network.stops_by() == Some(alarm);
        let stops = nobody || stop_on.contains(alarm) || AlarmSet::ALWAYS_STOP.contains(alarm);
        self.kept.alarms.contains(alarm) && stops
    }

    /// Raises the alarms whose reason lasts.
    fn conditions(&mut self) {
        for (alarm, on) in [
            (Alarm::BinFull, self.kept.bin_full.lasted(self.kept.now)),
            (Alarm::BinOpen, self.kept.bin_open.lasted(self.kept.now)),
            (Alarm::LowAir, self.kept.low_air.lasted(self.kept.now)),
            (Alarm::Camera, !self.kept.down.is_empty()),
            (Alarm::Results, self.kept.results_lost),
            (
                Alarm::Network,
                matches!(
                    self.kept.network,
                    NetworkState::LastGood | NetworkState::Missing
                ),
            ),
            (
                Alarm::Taught,
                matches!(
                    self.kept.network,
                    NetworkState::Untaught | NetworkState::ZeroShot
                ),
            ),
        ] {
            if on {
                self.raise(alarm);
            }
        }
    }

    fn report(&mut self, event: Event) {
        self.observer.event(self.kept.now, event);
    }

    /// Where a part that has come from the trigger's place zero is now.
    fn here(&self) -> Position {
        match self.settings.delay.axis() {
            Axis::Time => Position(self.kept.now.0),
            Axis::Counts => Position(self.kept.count.unwrap_or(0)),
        }
    }
}

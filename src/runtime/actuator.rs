//! The thread that drives the pins: the only one that owns the station's core.
//!
//! Everything that happens is a message to it; between messages it sleeps until the core says that
//! something is due. The way from a verdict to a pin allocates nothing and waits for nobody: what it
//! has to tell goes into queues with room, and what finds no room is counted. Whatever way it ends, a
//! panic included, the pins are left in their safe state.

mod pins;
mod tell;

use super::mailbox::Mailbox;
use super::message::{LineLoadout, Message};
use super::shared::Shared;
use super::system::{self, now};
use super::threads::Sign;
use super::wired::Lack;
use crate::control::host::{Lost, Mode, Order, Refused, SelfTest, Snapshot};
use crate::line::counters::Latency;
use crate::line::station::PARTS;
use crate::line::{
    Alarm, AlarmHistory, AlarmSet, Micros, NetworkState, Outcome, Outputs, Pin, Pins, Settings,
    Station, Statistics, Trigger, VIEWS, Verdict, View,
};
use pins::SafePins;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
pub use tell::Outlets;
use tell::{NOT_JUDGED, Tell};

/// Longest time between two signs of life of this thread while nothing happens.
const BEAT: Duration = Duration::from_millis(50);
/// At most this many messages are taken before time goes on, so that a flood of them cannot hold up what is due.
const BATCH: usize = 32;

/// What a station reports when it has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The counters of parts, rejects and causes.
    pub statistics: Statistics,
    /// The alarms that are latched.
    pub alarms: AlarmSet,
    /// How often output `good` came on.
    pub good_pulses: u64,
    /// How often output `reject` came on.
    pub reject_pulses: u64,
    /// How much later than it was due the thread woke up, microseconds.
    pub jitter: Latency,
}

impl Ended {
    /// What is known of a station whose thread panicked: the state that it published last.
    pub(super) fn lost(shown: &Snapshot) -> Self {
        Ended {
            statistics: shown.statistics,
            alarms: shown.alarms,
            good_pulses: 0,
            reject_pulses: 0,
            jitter: Latency::default(),
        }
    }
}

/// Scheduling of the output thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealTime {
    /// SCHED_FIFO priority, 1..=99; `None`: an ordinary thread.
    pub priority: Option<u32>,
    /// The core that the thread is pinned to, numbered from 0; `None`: any core.
    pub core: Option<u32>,
}

impl RealTime {
    /// Asks the system for priority, locked memory and a core. What the system refuses is logged, and the station
    /// runs without it.
    fn ask(self) {
        let log_result = |what: &str, result: Result<(), std::io::Error>| match result {
            Ok(()) => log::info!("output thread: {what}"),
            Err(e) => log::warn!("output thread: no {what}: {e}"),
        };
        if let Some(priority) = self.priority {
            log_result("real-time priority", system::real_time(priority));
            log_result("locked memory", system::lock_memory());
        }
        if let Some(core) = self.core {
            log_result("core of its own", system::on_core(core));
        }
    }
}

/// State that the station's core does not keep itself.
#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    /// For each camera: whether it delivers frames. Cameras that the station does not have count as delivering.
    cameras: [bool; VIEWS],
    /// Whether control has put in a network or said that there is none; before that nothing is inspected.
    network: bool,
    disarmed: bool,
    /// Whether the lines of the inputs cannot be read, so that no trigger can be seen.
    inputs_lost: bool,
    halted: [bool; VIEWS],
    down: [bool; VIEWS],
    /// Whether something outside of the station asks for FAULT.
    fault: bool,
    draining: bool,
}

impl Flags {
    /// The flags at the start of a station with this many cameras, none of which delivers yet.
    fn of(cameras: usize) -> Flags {
        Flags {
            // Those that there are not need no start.
            cameras: View::ALL.map(|view| view.index() >= cameras),
            ..Flags::default()
        }
    }

    fn mode(self, outputs: Outputs) -> Mode {
        match () {
            () if self.cameras.contains(&false) || !self.network => Mode::Starting,
            () if self.halted.contains(&true) => Mode::Halted,
            () if self.disarmed => Mode::Disarmed,
            () if outputs.line_stop => Mode::Stopped,
            () if self.down.contains(&true) => Mode::Blind,
            () => Mode::Running,
        }
    }
}

/// State of the output thread.
pub struct Actuator<P: Pin> {
    station: Option<Station<Tell>>,
    settings: Settings,
    pins: SafePins<P>,
    messages: Mailbox<Message>,
    sign: Sign,
    shared: Arc<Shared>,
    real_time: RealTime,
    jitter: Latency,
    flags: Flags,
}

impl<P: Pin> Actuator<P> {
    /// Makes a station that is not started, with its outputs safe.
    pub fn new(
        settings: Settings,
        (statistics, latched, stopped): (Statistics, AlarmSet, bool),
        pins: Pins<P>,
        messages: Mailbox<Message>,
        outlets: Outlets,
        (shared, sign): (Arc<Shared>, Sign),
        real_time: RealTime,
    ) -> Self {
        let tell = Tell {
            outlets,
            shared: shared.clone(),
            scores: Box::new([NOT_JUDGED; PARTS]),
            generation: 0,
            triggered: 0,
            finished: 0,
            alarm_history: AlarmHistory::default(),
            last: None,
        };
        let cameras = shared.cameras;
        let mut station = Station::new(settings, statistics, tell).with_cameras(cameras);
        station.latch(latched, now());
        if stopped {
            station.stop(now());
        }
        if let Some(lack) = shared.wired.lacks(&settings) {
            log::error!("the line stays stopped: {}", lack.why());
            if let Lack::Input(_) = lack {
                station.on_lost_edges(1, now());
            }
            station.stop(now());
        }
        let safe = Outputs::safe(settings.wiring);
        let mut pins = SafePins {
            pins,
            wiring: settings.wiring,
            written: safe,
            good_pulses: 0,
            reject_pulses: 0,
            failed: None,
            looked: Micros(0),
        };
        pins.drive(safe);
        Actuator {
            station: Some(station),
            settings,
            pins,
            messages,
            sign,
            shared,
            real_time,
            jitter: Latency::default(),
            flags: Flags::of(cameras),
        }
    }

    /// Runs until it gets [`Message::Finish`], is drained, or no sender is left.
    pub fn run(mut self) -> Ended {
        self.real_time.ask();
        let mut next = self.turn();
        loop {
            match self.wait(next) {
                Some(Message::Finish) => break,
                Some(message) => self.take(message),
                None if self.shared.stopping() => break,
                None => (),
            }
            next = self.turn();
            if self.flags.draining && self.is_empty() && next.is_none() {
                break;
            }
        }
        self.end()
    }

    /// The next message, or `None` when something is due or it is time for a sign of life.
    fn wait(&mut self, next: Option<Micros>) -> Option<Message> {
        let due = next.map(|at| Duration::from_micros(at.since(now())));
        match self.messages.recv_timeout(due.unwrap_or(BEAT).min(BEAT)) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(at) = next
                    && now() >= at
                {
                    self.jitter.record(now().since(at));
                }
                None
            }
            Err(RecvTimeoutError::Disconnected) => Some(Message::Finish),
        }
    }

    fn take(&mut self, message: Message) {
        self.handle(message);
        for _ in 1..BATCH {
            match self.messages.try_recv() {
                Some(Message::Finish) => {
                    self.shared.stop.store(true, Ordering::Relaxed);
                    return;
                }
                Some(message) => {
                    self.turn();
                    self.handle(message);
                }
                None => return,
            }
        }
    }

    /// Does what is due, drives the pins and publishes the state. Returns when the next thing is due; `None`:
    /// nothing is.
    fn turn(&mut self) -> Option<Micros> {
        let station = self.station.as_mut()?;
        let next = station.tick(now());
        let mut outputs = station.outputs();
        outputs.fault |= self.flags.fault;
        self.pins.look(now());
        let lack = self.shared.wired.lacks(&self.settings);
        let unwired = matches!(lack, Some(Lack::Output(_)));
        if !self.pins.drive(outputs) || unwired {
            // A `good` that stays on passes whatever comes, and so does an ejector at an output that is never
            // switched: the belt stops, until a reset finds every pin working.
            station.on_output_failed(now());
            outputs = station.outputs();
            self.pins.drive(outputs);
        }
        let snapshot = Snapshot {
            now: now(),
            mode: self.flags.mode(outputs),
            outputs,
            alarms: station.alarms(),
            alarm_history: station.observer().alarm_history,
            statistics: *station.statistics(),
            challenge: station.challenge_report(),
            last: station.observer().last,
            cameras: self.shared.cameras,
            down: self.flags.down,
            // Shown by who runs it; the same of what is lost.
            self_test: SelfTest::None,
            lost: Lost::default(),
        };
        self.shared.publish(snapshot);
        self.sign.beat();
        next
    }

    /// Whether every part has its outcome.
    fn is_empty(&mut self) -> bool {
        self.station.as_mut().is_none_or(|s| {
            let tell = s.observer();
            tell.triggered == tell.finished
        })
    }

    fn handle(&mut self, message: Message) {
        let now = now();
        let stands = self.stands();
        let cameras = self.shared.cameras;
        let Some(station) = self.station.as_mut() else {
            return;
        };
        match message {
            Message::Start(view) => {
                self.flags.cameras[view.index()] = true;
                if self.flags.network && !self.flags.cameras.contains(&false) {
                    station.start(now);
                }
            }
            Message::Trigger(at) => station.on_trigger(at, now),
            Message::Frame(frame) => station.on_frame(frame, now),
            Message::Verdict {
                part,
                view,
                verdict,
                score,
                share,
                opinions,
            } => {
                let known = station.observer().of(part);
                let sorting = match verdict {
                    Verdict::Sorted(_, sorting) => Some(sorting),
                    Verdict::Score(_) | Verdict::Error => None,
                };
                let own = self.settings.threshold_of(view);
                let threshold = sorting.and_then(|s| s.threshold).unwrap_or(own);
                let rejects = score.is_some_and(|s| Outcome::of(s, threshold.get()).is_reject());
                if known.part == part {
                    // A part waits for the last of its cameras.
                    known.latency_us = Some(now.since(known.at));
                }
                if known.part == part && known.is_replaced_by(score, rejects, cameras) {
                    (known.score, known.opinions) = (score, opinions);
                    (known.view, known.rejects) = (view, rejects);
                    known.share = share;
                    known.defect = sorting.map_or(known.defect, |s| s.defect);
                }
                station.on_verdict(part, view, verdict, now);
            }
            Message::Input { input, active, at } => {
                let reset = station.on_input(input, active, at, now);
                if reset {
                    self.shared.retry_cameras();
                }
                // A reset does not arm what was disarmed by an order, nor what has to stand.
                if self.flags.disarmed || stands.is_some() {
                    station.stop(now);
                }
            }
            Message::Inputs { there } => {
                self.flags.inputs_lost = !there;
                if !there {
                    station.on_lost_edges(1, now);
                    station.stop(now);
                }
            }
            Message::Encoder(count) => station.on_encoder(count, now),
            Message::LostEdges(lost) => station.on_lost_edges(lost, now),
            Message::Camera { view, up, halted } => {
                self.flags.halted[view.index()] = halted;
                self.flags.down[view.index()] = !up;
                station.on_camera(view, up, now);
            }
            Message::Results { written } => station.on_results(written, now),
            Message::Drift => station.on_drift(now),
            Message::Order(order, answer) => {
                let result = self.order(order);
                // Whoever asked may have given up waiting.
                let _ = answer.try_send(result);
            }
            Message::Loadout(loadout) => self.swap(&loadout),
            Message::NoNetwork(why) => self.judged_by(why),
            Message::Fault(on) => self.flags.fault = on,
            Message::Drain => {
                self.flags.draining = true;
                station.drain(now);
            }
            Message::Finish => (),
        }
    }

    /// Why the line has to stand whatever is ordered, if so: no trigger is seen, the place of no part is known, or no
    /// part would be rejected.
    fn stands(&self) -> Option<&'static str> {
        match self.flags.inputs_lost {
            true => Some("the inputs' lines are away"),
            false => self.shared.wired.lacks(&self.settings).map(Lack::why),
        }
    }

    fn order(&mut self, order: Order) -> Result<(), Refused> {
        let now = now();
        let stands = self.stands();
        let station = self
            .station
            .as_mut()
            .ok_or(Refused::Mode("the station has ended"))?;
        match order {
            Order::Trigger => {
                if !matches!(self.settings.trigger, Trigger::Command { .. }) {
                    return Err(Refused::Mode("the trigger source is not `command`"));
                }
                station.on_trigger(now, now);
            }
            Order::Disarm => {
                self.flags.disarmed = true;
                station.stop(now);
            }
            Order::Arm if !self.flags.disarmed => (),
            Order::Arm => {
                // Their reason may last, and lets no part pass that must be rejected.
                let bearable =
                    AlarmSet::of(&[Alarm::Camera, Alarm::Results, Alarm::Network, Alarm::Taught]);
                if !station.alarms().minus(bearable).is_empty() {
                    return Err(Refused::Mode("alarms are latched, acknowledge them first"));
                }
                if let Some(why) = stands {
                    return Err(Refused::Hardware(why));
                }
                self.flags.disarmed = false;
                station.reset(now);
            }
            Order::Reset => {
                station.reset(now);
                if self.flags.disarmed || stands.is_some() {
                    station.stop(now);
                }
            }
            Order::Challenge(pieces) => station.challenge(pieces, now).map_err(|e| match e {
                crate::line::ChallengeError::NotReady => Refused::Mode("the station is not ready"),
                crate::line::ChallengeError::Running => Refused::Busy("a challenge is running"),
            })?,
            Order::ResetCounters => station.reset_counters(),
            Order::SelfTest | Order::Reboot => {
                return Err(Refused::Mode("not for the output thread"));
            }
        }
        Ok(())
    }

    /// Puts another loadout into force: its settings, its generation and what judges.
    fn swap(&mut self, loadout: &LineLoadout) {
        self.apply(loadout.settings, loadout.clear);
        if let Some(station) = self.station.as_mut() {
            station.observer().generation = loadout.generation;
            if loadout.stop {
                station.stop(now());
            }
        }
        self.judged_by(loadout.network);
    }

    fn judged_by(&mut self, network: NetworkState) {
        self.flags.network = true;
        if let Some(station) = self.station.as_mut() {
            station.on_network(network, now());
            if !self.flags.cameras.contains(&false) {
                station.start(now());
            }
        }
    }

    /// Only a new threshold leaves the belt as it is. Anything else is a new station: what is on the
    /// belt was placed by the old settings and is rejected.
    fn apply(&mut self, settings: Settings, clear: bool) {
        let now = now();
        let Some(mut station) = self.station.take() else {
            return;
        };
        let only_threshold = Settings {
            threshold: settings.threshold,
            further_thresholds: settings.further_thresholds,
            ..self.settings
        } == settings;
        if only_threshold && !clear {
            for view in View::ALL {
                station.set_threshold(view, settings.threshold_of(view));
            }
        } else {
            station = station.renew(settings, now);
            self.pins.wiring = settings.wiring;
        }
        self.shared.set(&settings);
        self.settings = settings;
        self.station = Some(station);
    }

    fn end(mut self) -> Ended {
        let alarms = self.station.as_ref().map(Station::alarms);
        let station = self.station.take();
        let statistics = station.map(|s| s.finish(now()).0).unwrap_or_default();
        self.pins.drive(Outputs::safe(self.pins.wiring));
        self.shared.publish(Snapshot {
            statistics,
            outputs: Outputs::safe(self.pins.wiring),
            ..self.shared.snapshot()
        });
        Ended {
            statistics,
            alarms: alarms.unwrap_or_default(),
            good_pulses: self.pins.good_pulses,
            reject_pulses: self.pins.reject_pulses,
            jitter: self.jitter,
        }
    }
}

#[cfg(test)]
mod tests;

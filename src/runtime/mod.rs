//! The station on this machine: threads around the conveyor's core.
//!
//! ```text
//! camera thread --frame--> actuator --part + frame--> inference thread --verdict--> actuator --> pins
//! input thread  --edge---> actuator --what happened--> recorder --> files, listeners
//! ```
//!
//! Modules use those above them in this table, never those below:
//!
//! | module | what it does |
//! |---|---|
//! | [`system`] | clock, priority, locked memory, watchdog |
//! | `mailbox` | messages to one thread, a lane per sender |
//! | [`threads`] | the table of threads and their signs of life |
//! | [`archive`] | which pictures are kept |
//! | [`limits`] | what a frame must show |
//! | [`message`] | the messages to the output thread |
//! | [`places`] | the frames in memory |
//! | [`wired`] | which inputs the board has, as far as settings rest on them |
//! | `drift` | whether parts that pass still look as taught |
//! | [`shared`] | what the threads show each other |
//! | [`record`] | results, overlays, alarms to disk |
//! | `adjust` | what is asked of a camera while it runs, agreed or taken back |
//! | [`camera`] | fills places; keeps the camera alive |
//! | [`live`] | the last picture, for whoever looks on |
//! | [`recent`] | the last parts that were judged, for whoever teaches |
//! | [`deferred`] | where a network ends that nobody judges with any more |
//! | [`loadout`] | everything that a change of parameters can replace, as one value |
//! | [`mod@judges`] | the lanes to the networks |
//! | [`inference`] | frame to verdict; a thread per network |
//! | `teacher` | the thread of a lesson |
//! | [`actuator`] | owns the core and the pins; the only thread that must be on time |
//! | `inputs` | what the machine around says |
//! | [`handle`] | control's handle |
//!
//! No part may pass as good that nothing looked at: whichever thread fails, the station ends and its outputs are
//! safe. Except for threads that only report: without them the station goes on, with FAULT on if results are not
//! written.

pub mod actuator;
mod adjust;
#[cfg(test)]
mod allocations;
pub mod archive;
pub mod camera;
pub mod deferred;
mod drift;
#[cfg(test)]
mod endurance;
pub mod handle;
pub mod inference;
mod inputs;
pub mod judges;
pub mod limits;
pub mod live;
pub mod loadout;
mod mailbox;
pub mod message;
pub mod places;
pub mod recent;
pub mod record;
pub mod shared;
pub mod system;
mod teacher;
#[cfg(test)]
mod tests;
pub mod threads;
pub mod wired;

use crate::board::Inputs;
use crate::capture::Adjustment;
use crate::control::host::Judging;
use crate::control::store::shelf::Shelf;
use crate::control::table::CAMERAS;
use crate::control::types::TypeRules;
use crate::line::outputs::SIGNALS;
use crate::line::pairing::HELD_FRAMES;
use crate::line::{
    AlarmSet, Micros, NetworkState, Pin, Pins, Settings, Statistics, Trigger, VIEWS, View,
};
use crate::memory::region::blinds;
use crate::ops::tract::TractError;
use actuator::{Actuator, Ended, Outlets, RealTime};
use adjust::CameraLane;
use archive::Archive;
use camera::{CameraThread, Exposing, Open};
use deferred::DropThread;
use handle::{Handle, Load};
use inference::Inference;
use judges::{Overseer, judges};
use limits::FrameLimits;
use loadout::{Choice, Network, SelfTestError};
use mailbox::Mailbox;
use message::{FLOW, LineLoadout, Message, SELDOM, ToActuator, actuator_mailbox};
use places::Places;
use record::{Recorder, Records};
use shared::{Shared, Truth};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use threads::{Needed, Sign as LifeSign, Threads};
use wired::Wired;

/// Frames in memory at once: those that wait for their trigger, one that the camera fills, and some that
/// wait to be judged.
const PLACES: usize = HELD_FRAMES + 4;
/// The most frames that are judged side by side.
pub const PARALLEL: usize = 16;
/// How often the threads' signs of life are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A sign of life of the whole station, for the watchdogs.
pub enum Sign<'a> {
    /// Every thread that is needed makes progress; reported again and again.
    Alive(&'a Shared),
    /// The station has ended, its outputs are safe; reported once.
    Safe {
        /// Whether no thread failed.
        orderly: bool,
    },
}

/// What a station is made of, apart from devices.
pub struct Config {
    /// Settings of the station's core.
    pub settings: Settings,
    /// The counters at the end of the last run.
    pub statistics: Statistics,
    /// The alarms that were latched at the end of the last run.
    pub latched: AlarmSet,
    /// Whether the line stays stopped until a reset, because somebody must look at the settings first.
    pub stopped: bool,
    /// Exposure time and gain of each camera.
    pub adjustments: [Adjustment; VIEWS],
    /// Settings of the archive.
    pub archive: Archive,
    /// The name of the recipe in use.
    pub recipe: String,
    /// Limits that a frame must keep to be judged.
    pub frames: FrameLimits,
    /// What each type of defect decides.
    pub types: TypeRules,
    /// Scheduling of the output thread.
    pub real_time: RealTime,
    /// Folder for results.
    pub out: PathBuf,
    /// Whether results of an earlier run in that folder are kept.
    pub keep: bool,
    /// Whether a line per part goes to standard output.
    pub lines: bool,
    /// Ends after this many exposures; `None`: never.
    pub limit: Option<u64>,
    /// Frames that are judged side by side, 1..=[`PARALLEL`].
    pub parallel: usize,
    /// Exposures per second of a camera that exposes when asked; `None`: one after the other.
    pub rate: Option<f64>,
    /// The network that judges; `None`: control puts one in, and nothing is inspected before.
    pub network: Option<Network>,
}

/// Why a station cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The network does not pass its self-test.
    #[error("self-test: {0}")]
    Network(#[from] SelfTestError),
    /// A result could not be written.
    #[error("{path}: cannot be written: {source}", path = path.display())]
    Output {
        /// Path of the file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The network cannot be copied as often as `--parallel` asks for.
    #[error("--parallel: {0:#}")]
    Parallel(TractError),
    /// A thread could not be started.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
}

/// How a station ended.
#[derive(Clone, Debug)]
pub struct Report {
    /// Counters, alarms and pulses of the station's core.
    pub ended: Ended,
    /// How parts fared of which the source knows whether they are defective.
    pub truth: Truth,
    /// Lines of results and events that were lost.
    pub lost: u64,
    /// Pictures that were to be kept and were not.
    pub pictures_lost: u64,
    /// Those of them that could not be written.
    pub pictures_unwritten: u64,
    /// Whether the process is to be started again, because an order asked for that.
    pub restart: bool,
    /// Name of the thread that failed; `None`: the station ended as it should.
    pub failed: Option<&'static str>,
}

/// A station that runs.
pub struct Running {
    shared: Arc<Shared>,
    threads: Threads,
    messages: ToActuator,
    actuator: JoinHandle<Ended>,
    /// Control's lanes, until [`handle`](Self::handle) takes them.
    control: Option<(ToActuator, Overseer)>,
    cameras: Vec<Arc<CameraLane>>,
    drops: DropThread<Box<Network>>,
}

/// What the station knows of the recorder, and of the other threads that only report.
#[derive(Default)]
struct Recording {
    /// Lines that were lost, and pictures that could not be written.
    lost: u64,
    /// Whether results are not written.
    failing: bool,
    /// Those threads that do not work: name and reason.
    broken: Vec<(&'static str, &'static str)>,
}

fn spawn<T: Send + 'static>(
    name: &'static str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StartError> {
    Builder::new()
        .name(name.into())
        .spawn(body)
        .map_err(StartError::Thread)
}

/// Starts a station: the outputs go to their safe state, the threads start, and inspection begins when the
/// cameras deliver and there is a network. There are 1 to 4 cameras; more than one need a trigger.
///
/// # Errors
/// Every [`StartError`].
pub fn start<P: Pin + Send + 'static>(
    config: Config,
    pins: Pins<P>,
    inputs: Inputs,
    cameras: Vec<Open>,
) -> Result<Running, StartError> {
    let settings = config.settings;
    // Control says it of what it puts into force.
    let views = View::ALL.into_iter().take(cameras.len());
    for view in views.filter(|_| config.network.is_some()) {
        let threshold = settings.threshold_of(view).get();
        let name = CAMERAS[view.index()].threshold.name();
        let offset = (config.network.as_ref()).map_or(0.0, |n| n.highest_offset(view));
        if threshold >= 1.0 {
            log::warn!("{name} is 1: no part is ever rejected by it");
        } else if blinds(threshold, offset) {
            log::warn!("a region raises {name} to 1 or more: no part is ever rejected there");
        }
    }
    let shared = Shared::new(&settings, config.statistics, config.latched);
    let shared = shared.with_cameras(cameras.len());
    let outputs = SIGNALS.map(|signal| pins.pin(signal).is_some());
    let shared = Arc::new(shared.with_wired(Wired::of(inputs.pins(), outputs)));
    shared.set_archive(config.archive);
    shared.set_recipe(&config.recipe);
    shared.set_limits(config.frames);
    shared.set_types(config.types, config.network.as_ref().map(|n| &*n.label));
    let mut threads = Threads::default();
    let (outcomes, judgements, records) = Records::new(config.parallel);
    let recorder_sign = threads.row("recorder", Needed::ToTell);
    let recorder = Recorder::create(
        (&config.out, config.keep, config.lines),
        records,
        (shared.clone(), recorder_sign.clone()),
    )
    .map_err(|(path, source)| StartError::Output { path, source })?;
    threads.runs(&recorder_sign, spawn("recorder", || recorder.run())?);
    let drops = DropThread::start().map_err(StartError::Thread)?;
    let networks = match config.network {
        Some(network) => {
            shared.judge_by(Judging {
                generation: 0,
                state: Some(NetworkState::Stored),
                network: Some(network.label.clone()),
            });
            network.compares(&shared, &settings);
            let networks = network.side_by_side(config.parallel);
            networks.map_err(StartError::Parallel)?
        }
        None => Vec::new(),
    };
    let judging = !networks.is_empty();

    let exposing = match config.rate {
        Some(rate) => Exposing::Every(Duration::from_secs_f64(1.0 / rate)),
        None => Exposing::OneByOne,
    };
    let in_turn = cameras.iter().all(|camera| !camera.live)
        && matches!(exposing, Exposing::OneByOne)
        && matches!(settings.trigger, Trigger::FreeRun);
    let count = if in_turn {
        config.parallel
    } else {
        PLACES + config.parallel - 1
    };
    let (places, mut free) = Places::new(cameras.len(), count);
    let (stop_input, mut received) = actuator_mailbox();
    let (judges, overseer, waiting) = judges(config.parallel, count * cameras.len());
    let mut triggers: Vec<Mailbox<Micros>> = cameras.iter().map(|_| Mailbox::default()).collect();
    let outlets = Outlets {
        judges,
        expose: triggers.iter_mut().map(|t| t.lane(FLOW)).collect(),
        back: free.giver(),
        record: outcomes,
    };
    let names = camera::NAMES.into_iter().take(cameras.len());
    let camera_signs: Vec<LifeSign> = names
        .map(|name| threads.row(name, Needed::ToInspect))
        .collect();
    let mut others = camera_signs.clone();
    others.push(recorder_sign.clone());
    let mut networks = networks.into_iter();
    for (mut jobs, record) in waiting.into_iter().zip(judgements) {
        let sign = threads.row("inference", Needed::ToInspect);
        let inference = Inference {
            network: networks
                .next()
                .map(|network| drops.takes(Box::new(network))),
            places: places.clone(),
            back: free.giver(),
            messages: received.lane(SELDOM),
            record,
            sign: sign.clone(),
            others: others.clone(),
            shared: shared.clone(),
            passed: 0,
            unjudged: Default::default(),
        };
        threads.runs(&sign, spawn("inference", move || inference.run(&mut jobs))?);
    }
    let mut lanes = Vec::new();
    let own = triggers.into_iter().zip(free.by_camera());
    let own = cameras.into_iter().zip(own).zip(camera_signs);
    for (view, ((open, (triggers, free)), sign)) in View::ALL.into_iter().zip(own) {
        let adjustment = config.adjustments[view.index()];
        let (lane, adjusts) = CameraLane::new(adjustment);
        lanes.push(lane);
        let thread = CameraThread {
            view,
            open,
            adjustment,
            adjusts,
            exposing,
            triggers,
            limit: config.limit,
            places: places.clone(),
            free,
            messages: received.lane(FLOW),
            sign: sign.clone(),
            shared: shared.clone(),
        };
        let name = camera::NAMES[view.index()];
        threads.runs(&sign, spawn(name, move || thread.run())?);
    }
    if !inputs.is_empty() {
        let lanes = inputs::Lanes {
            stop: stop_input,
            edges: received.lane(FLOW),
        };
        let sign = threads.row("inputs", Needed::ToInspect);
        let (beats, shared) = (sign.clone(), shared.clone());
        let body = move || inputs::watch(inputs, lanes, &beats, &shared);
        threads.runs(&sign, spawn("inputs", body)?);
    }
    let mut messages = received.lane(SELDOM);
    let control = received.lane(SELDOM);
    if judging {
        // There is room, and nobody reads yet.
        let _ = messages.try_send(Message::Loadout(Box::new(LineLoadout {
            generation: 0,
            settings,
            clear: false,
            network: NetworkState::Stored,
            stop: false,
        })));
    }
    let actuator = Actuator::new(
        settings,
        (config.statistics, config.latched, config.stopped),
        pins,
        received,
        outlets,
        (shared.clone(), threads.row("actuator", Needed::ToInspect)),
        config.real_time,
    );
    Ok(Running {
        actuator: spawn("actuator", || actuator.run())?,
        threads,
        shared,
        messages,
        control: Some((control, overseer)),
        cameras: lanes,
        drops,
    })
}

impl Running {
    /// A handle for control, once. `choice` is what the parameters say of the network that judges, if one does;
    /// `shelf` is where files of good parts are.
    pub fn handle(&mut self, load: Load, choice: Option<Choice>, shelf: Shelf) -> Option<Handle> {
        let (messages, overseer) = self.control.take()?;
        Some(Handle::new(
            self.shared.clone(),
            messages,
            overseer,
            self.cameras.clone(),
            (load, shelf, self.drops.clone()),
            choice,
        ))
    }

    /// What the threads show each other; set `stop` to end the station.
    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// A row for one more thread, that the line can do without.
    pub fn watch(&mut self, name: &'static str) -> LifeSign {
        self.threads.row(name, Needed::ToTell)
    }

    /// Logs which threads that only report do not work, and reports to the station whether results are written.
    fn look_at_tellers(&mut self, known: &mut Recording) {
        let mut broken = vec![];
        for name in self.threads.tellers() {
            if let Err(why) = self.threads.work(name) {
                broken.push((name, why));
            }
        }
        for (name, why) in broken.iter().filter(|b| !known.broken.contains(b)) {
            log::error!("the {name} thread {why}; the line goes on");
        }
        for (name, _) in known.broken.iter().filter(|b| !broken.contains(b)) {
            log::info!("the {name} thread goes on");
        }
        let pictures = self.shared.pictures_unwritten.load(Ordering::Relaxed);
        let lost = self.shared.lost.load(Ordering::Relaxed) + pictures;
        let recorder = broken.iter().any(|(name, _)| *name == "recorder");
        known.broken = broken;
        let unwritten = self.shared.unwritten.load(Ordering::Relaxed);
        let failing = recorder || unwritten || lost != known.lost;
        let written = !failing;
        let mut sent = || self.messages.try_send(Message::Results { written }).is_ok();
        if failing == known.failing || sent() {
            (known.failing, known.lost) = (failing, lost);
        }
    }

    /// Waits until the station has ended, by itself or because it was asked to, and calls `tell` again and again
    /// meanwhile, so that the watchdogs are fed.
    pub fn wait(mut self, mut tell: impl FnMut(Sign)) -> Report {
        let mut failed = None;
        let mut recording = Recording::default();
        while !self.actuator.is_finished() && !self.shared.stopping() {
            if let Some(stood) = self.threads.look(Instant::now()) {
                let ms = stood.as_millis();
                log::error!(
                    "the whole program stood still for {ms} ms: parts may have passed meanwhile"
                );
            }
            // Whoever was asked to end meanwhile has not failed. Order matters: they are asked before they end.
            failed = self.threads.failed();
            failed = failed.filter(|_| !self.shared.stopping());
            if let Some(thread) = failed {
                log::error!("the {thread} thread failed: the station ends, its outputs are safe");
                break;
            }
            self.look_at_tellers(&mut recording);
            tell(Sign::Alive(&self.shared));
            std::thread::sleep(LOOK);
        }
        if failed == Some("actuator") {
            // It owns the pins and is not waited for: with the process, the system takes them back, and
            // whoever started it makes them safe.
            std::process::abort();
        }
        self.shared.stop.store(true, Ordering::Relaxed);
        let restart = self.shared.restart.load(Ordering::Relaxed);
        let _ = self.messages.try_send(Message::Finish);
        drop((self.messages, self.control, self.cameras));
        let ended = self.actuator.join();
        // The others may have to write yet, on a disk that takes seconds.
        tell(Sign::Safe {
            orderly: failed.is_none() && ended.is_ok(),
        });
        // One that hangs is not waited for: the process is about to end.
        for name in self.threads.join(failed) {
            match name {
                // At least the record that it was writing is lost.
                "recorder" => _ = self.shared.lost.fetch_add(1, Ordering::Relaxed),
                name => failed = failed.or(Some(name)),
            }
        }
        if ended.is_err() {
            failed = failed.or(Some("actuator"));
        }
        let truth = *shared::lock(&self.shared.truth);
        Report {
            ended: ended.unwrap_or_else(|_| Ended::lost(&self.shared.snapshot())),
            truth,
            lost: self.shared.lost.load(Ordering::Relaxed),
            pictures_lost: self.shared.pictures_lost.load(Ordering::Relaxed),
            pictures_unwritten: self.shared.pictures_unwritten.load(Ordering::Relaxed),
            restart,
            failed,
        }
    }
}

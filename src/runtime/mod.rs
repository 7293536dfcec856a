//! The station on this machine: threads around the conveyor's core.
//!
//! ```text
//! camera thread --frame--> actuator --part + frame--> inference thread --verdict--> actuator --> pins
//! input thread  --edge---> actuator --what happened--> recorder --> files, listeners
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`actuator`] | owns the core and the pins; the only thread that must be on time |
//! | [`camera`] | fills frame places; keeps the camera alive |
//! | [`inference`] | frame to verdict; a thread per network |
//! | [`record`] | results, overlays, alarms to disk |
//! | [`shared`] | state, signs of life, control's handle |
//! | [`slots`] | the frames in memory |
//! | [`system`] | clock, priority, locked memory, watchdog |
//!
//! Must never let a part pass as good that nothing looked at: whichever thread fails, the station ends
//! and its outputs are safe. All but the recorder, which no verdict needs: the station goes on, with FAULT on.

pub mod actuator;
#[cfg(test)]
mod allocations;
pub mod camera;
pub mod inference;
mod mailbox;
pub mod record;
pub mod shared;
pub mod slots;
pub mod system;
#[cfg(test)]
mod tests;

use crate::board::{InputLine, Inputs};
use crate::capture::Adjustment;
use crate::inspector::Inspector;
use crate::line::pairing::HELD_FRAMES;
use crate::line::{AlarmSet, Micros, Pins, Settings, Statistics, Trigger};
use actuator::{Actuator, Ended, Message, Outlets, RealTime, ToActuator};
use camera::{Adjust, CameraThread, Exposing, Open};
use embedded_hal::digital::OutputPin;
use inference::{Inference, Judges, SelfTestError, self_test};
use mailbox::mailbox;
use record::{Archive, Recorder, Style, Truth};
use shared::{Beat, Handle, Load, Shared};
use slots::Slots;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use tract_core::prelude::TractError;

/// Frames in memory at once: those that wait for their trigger, one that the camera fills, and some that
/// wait to be judged.
const PLACES: usize = HELD_FRAMES + 4;
/// The most frames that are judged side by side.
pub const PARALLEL: usize = 16;
/// A thread that gave no sign of life for so long hangs.
const SILENCE: Duration = Duration::from_secs(3);
/// How often the threads are looked after.
const LOOK: Duration = Duration::from_millis(50);

/// What is told of a running station.
pub enum Sign<'a> {
    /// Every thread makes progress; told again and again.
    Alive(&'a Shared),
    /// The station has ended, its outputs are safe; told once.
    Safe {
        /// Whether no thread failed.
        orderly: bool,
    },
}

/// What a station is made of, apart from devices.
pub struct Config {
    /// The core's settings.
    pub settings: Settings,
    /// The counters of the last run.
    pub statistics: Statistics,
    /// The alarms that it left latched.
    pub latched: AlarmSet,
    /// The line stays stopped until a reset: somebody must look at the settings first.
    pub stopped: bool,
    /// Exposure time and gain of the camera.
    pub adjustment: Adjustment,
    /// Which pictures are kept.
    pub archive: Archive,
    /// How the output thread is run.
    pub real_time: RealTime,
    /// Folder for results.
    pub out: PathBuf,
    /// Whether results of an earlier run in that folder are kept.
    pub keep: bool,
    /// Whether a line per part goes to standard output.
    pub lines: bool,
    /// End after so many exposures.
    pub limit: Option<u64>,
    /// Frames that are judged side by side, 1..=[`PARALLEL`].
    pub parallel: usize,
    /// Exposures per second of a camera that exposes when asked; `None`: one after the other.
    pub rate: Option<f64>,
}

/// Why a station does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The network does not pass its self-test.
    #[error("self-test: {0}")]
    Network(#[from] SelfTestError),
    /// A result could not be written.
    #[error("{path}: cannot be written: {source}", path = path.display())]
    Output {
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The network cannot be had so many times.
    #[error("--parallel: {0:#}")]
    Parallel(TractError),
    /// A thread could not be started.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
}

/// How a station ended.
#[derive(Clone, Debug)]
pub struct Report {
    /// The core's part.
    pub ended: Ended,
    /// What was made of parts whose truth is known.
    pub truth: Truth,
    /// Records that were lost.
    pub lost: u64,
    /// Whether it is to be started again.
    pub restart: bool,
    /// The thread that failed.
    pub failed: Option<&'static str>,
}

/// A station that runs.
pub struct Running {
    shared: Arc<Shared>,
    messages: ToActuator,
    judges: Judges,
    adjust: SyncSender<Adjust>,
    adjustment: Adjustment,
    actuator: JoinHandle<Ended>,
    recorder: JoinHandle<Truth>,
    others: Vec<(&'static str, JoinHandle<()>)>,
    /// A frame may take as long before the inference or the camera thread is taken for hanging, a record
    /// before the recorder is.
    patience: Duration,
}

/// What is known of the recorder.
struct Recording {
    /// Its thread works.
    works: bool,
    /// Records that were lost.
    lost: u64,
    /// What the station was told.
    written: bool,
}

fn silent(limit: Duration, beat: &Beat) -> bool {
    u128::from(beat.silent_us()) > limit.as_micros()
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

/// Tells the actuator what the inputs do.
fn watch_inputs(mut inputs: Inputs, messages: &ToActuator, shared: &Shared) {
    let mut lost = 0;
    while !shared.stopping() {
        let change = match inputs.next(LOOK) {
            Ok(change) => change,
            Err(e) => {
                // Without triggers parts would pass unseen: the station ends.
                log::error!("inputs: {e}");
                return;
            }
        };
        if inputs.lost() > lost {
            let edges = inputs.lost() - lost;
            lost = inputs.lost();
            log::error!("inputs: {edges} edges lost");
            if messages.send(Message::LostEdges(edges)).is_err() {
                return;
            }
        }
        let Some(change) = change else { continue };
        let at = Micros(change.at_us);
        let message = match change.what {
            InputLine::Trigger if change.active => Message::Trigger(at),
            InputLine::Trigger => continue,
            InputLine::Input(input) => Message::Input {
                input,
                active: change.active,
                at,
            },
            InputLine::Encoder { count } => Message::Encoder(count),
        };
        if messages.send(message).is_err() {
            return;
        }
    }
}

/// Starts a station: the network judges its known frame, the outputs go to their safe state, the threads
/// start, and inspection begins when the camera delivers.
///
/// # Errors
/// Every [`StartError`].
pub fn start<P: OutputPin + Send + 'static>(
    config: Config,
    pins: Pins<P>,
    inputs: Inputs,
    open: Open,
    mut inspector: Inspector,
) -> Result<Running, StartError> {
    let settings = config.settings;
    let shared = Arc::new(Shared::new(
        &settings,
        config.statistics,
        config.latched,
        config.parallel,
    ));
    shared.archive.set(config.archive);
    let style = Style {
        warning: inspector.manifest().warning(),
        smoothing_sigma: inspector.manifest().scores.smoothing_sigma,
        lines: config.lines,
    };
    let (recorder, record) = Recorder::create(&config.out, config.keep, style, shared.clone())
        .map_err(|(path, source)| StartError::Output { path, source })?;
    // The first frame is slower than all others: memory is touched for the first time.
    let known = self_test(&mut inspector)?;
    let second = Instant::now();
    self_test(&mut inspector)?;
    let patience = SILENCE.max(second.elapsed() * 20);

    let exposing = match config.rate {
        Some(rate) => Exposing::Every(Duration::from_secs_f64(1.0 / rate)),
        None => Exposing::OneByOne,
    };
    let in_turn = !open.live
        && matches!(exposing, Exposing::OneByOne)
        && matches!(settings.trigger, Trigger::FreeRun);
    let places = if in_turn {
        config.parallel
    } else {
        PLACES + config.parallel - 1
    };
    let (slots, free, release) = Slots::new(places);
    let (messages, received) = mailbox();
    let (jobs, waiting): (Vec<_>, Vec<_>) = (0..config.parallel).map(|_| mailbox()).unzip();
    let judges = Judges::new(jobs);
    let (expose, triggers) = mailbox();
    let outlets = Outlets {
        judges: judges.clone(),
        expose,
        release: release.clone(),
        record: record.clone(),
    };
    let actuator = Actuator::new(
        settings,
        (config.statistics, config.latched, config.stopped),
        pins,
        received,
        outlets,
        shared.clone(),
        config.real_time,
    );
    let networks = inspector
        .side_by_side(config.parallel)
        .map_err(StartError::Parallel)?;
    let mut others = vec![];
    for (index, (inspector, jobs)) in networks.into_iter().zip(waiting).enumerate() {
        let inference = Inference {
            index,
            inspector,
            slots: slots.clone(),
            release: release.clone(),
            messages: messages.clone(),
            record: record.clone(),
            shared: shared.clone(),
        };
        let run = move || inference.run(&jobs, known);
        others.push(("inference", spawn("inference", run)?));
    }
    // It ends when nobody has anything to write any more.
    drop(record);
    let (adjust, adjusts) = sync_channel(1);
    let camera = CameraThread {
        open,
        adjustment: config.adjustment,
        adjusts,
        exposing,
        triggers,
        limit: config.limit,
        slots,
        free,
        release,
        messages: messages.clone(),
        shared: shared.clone(),
    };
    others.push(("camera", spawn("camera", move || camera.run())?));
    if !inputs.is_empty() {
        let (messages, shared) = (messages.clone(), shared.clone());
        let body = move || watch_inputs(inputs, &messages, &shared);
        others.push(("inputs", spawn("inputs", body)?));
    }
    shared.begin();
    Ok(Running {
        recorder: spawn("recorder", || recorder.run())?,
        actuator: spawn("actuator", || actuator.run())?,
        others,
        shared,
        messages,
        judges,
        adjust,
        adjustment: config.adjustment,
        patience,
    })
}

impl Running {
    /// A handle for control. `bundle` is what the parameters call the bundle that is in use.
    pub fn handle(&self, load: Load, bundle: &str) -> Handle {
        Handle::new(
            self.shared.clone(),
            self.messages.clone(),
            self.judges.clone(),
            (self.adjust.clone(), self.adjustment),
            load,
            bundle.into(),
        )
    }

    /// What the threads show each other; set `stop` to end the station.
    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// The thread that failed: it ended although nobody asked it to, or gives no sign of life.
    fn failed(&self) -> Option<&'static str> {
        if silent(SILENCE, &self.shared.actuator) {
            return Some("actuator");
        }
        let mut networks = self.shared.inference.iter();
        if networks.any(|beat| silent(self.patience, beat)) {
            return Some("inference");
        }
        // A camera that is being opened takes its time, but the station knows that it is blind then.
        let sees = self.shared.snapshot().outputs.ready && !self.shared.drained();
        if sees && silent(self.patience, &self.shared.camera) {
            return Some("camera");
        }
        // The camera thread ends when there are no more frames; it then has told so.
        let ended = |(name, thread): &&(&str, JoinHandle<()>)| {
            thread.is_finished() && (*name != "camera" || !self.shared.drained())
        };
        self.others.iter().find(ended).map(|(name, _)| *name)
    }

    /// Tells the station whether results are written.
    fn look_at_recorder(&self, known: &mut Recording) {
        // It ends before the end only by a panic.
        let ended = self.recorder.is_finished() && !self.shared.stopping();
        let works = !ended && !silent(self.patience, &self.shared.recorder);
        if works != std::mem::replace(&mut known.works, works) {
            match works {
                true => log::info!("the recorder thread goes on"),
                false => {
                    let what = if ended { "failed" } else { "hangs" };
                    log::error!(
                        "the recorder thread {what}: results are not written, the line goes on"
                    );
                }
            }
        }
        let lost = self.shared.lost.load(Ordering::Relaxed);
        let written = works && lost == known.lost;
        let told = || {
            let message = Message::Results { written };
            self.messages.try_send(message).is_ok()
        };
        if written == known.written || told() {
            (known.written, known.lost) = (written, lost);
        }
    }

    /// Waits until the station has ended, by itself or because it was asked to, and tells of it: what keeps
    /// watchdogs quiet.
    pub fn wait(self, mut tell: impl FnMut(Sign)) -> Report {
        let mut failed = None;
        let mut recording = Recording {
            works: true,
            lost: 0,
            written: true,
        };
        while !self.actuator.is_finished() && !self.shared.stopping() {
            failed = self.failed();
            if let Some(thread) = failed {
                log::error!("the {thread} thread failed: the station ends, its outputs are safe");
                break;
            }
            self.look_at_recorder(&mut recording);
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
        drop((self.messages, self.judges, self.adjust));
        let ended = self.actuator.join();
        // The others may have to write yet, on a disk that takes seconds.
        tell(Sign::Safe {
            orderly: failed.is_none() && ended.is_ok(),
        });
        for (name, thread) in self.others {
            // One that hangs is not waited for: the process is about to end.
            if failed != Some(name) && thread.join().is_err() {
                failed = failed.or(Some(name));
            }
        }
        let truth = match failed {
            Some("inference") => Truth::default(),
            _ => self.recorder.join().unwrap_or_else(|_| {
                // At least the record that it was at.
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
                Truth::default()
            }),
        };
        if ended.is_err() {
            failed = failed.or(Some("actuator"));
        }
        Report {
            ended: ended.unwrap_or_else(|_| Ended::lost(&self.shared.snapshot())),
            truth,
            lost: self.shared.lost.load(Ordering::Relaxed),
            restart,
            failed,
        }
    }
}

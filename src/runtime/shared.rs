//! State that the threads of a station share.

use super::archive::Archive;
use super::drift::DriftWatch;
use super::limits::{FrameLimits, FrameSetting};
use super::live::Live;
pub(super) use super::system::lock;
use super::system::now;
use super::wired::Wired;
use crate::control::host::{Judging, Lost, Mode, NetworkLabel, PartResult, SelfTest, Snapshot};
use crate::control::types::TypeRules;
use crate::line::{AlarmHistory, AlarmSet, Outputs, Settings, Statistics, VIEWS, View};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Results that wait for one listener at most.
const RESULTS: usize = 256;

/// State of a self-test of all networks.
#[derive(Debug)]
struct Tests {
    /// Result so far: passed, unless one network has failed.
    found: SelfTest,
    /// How many networks have yet to report.
    left: usize,
}

impl Tests {
    fn shown(&self) -> SelfTest {
        match self.left {
            0 => self.found,
            _ => SelfTest::Running,
        }
    }
}

/// Results that wait for a listener.
pub(super) type Results = Arc<Mutex<VecDeque<PartResult>>>;

/// How parts fared of which the source knows whether they are defective.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// How many defective parts there were.
    pub defective: u64,
    /// How many of those were rejected.
    pub rejected: u64,
}

/// State that the threads of one station share.
pub struct Shared {
    /// How many cameras there are.
    pub cameras: usize,
    /// Which inputs the board has.
    pub(super) wired: Wired,
    snapshot: Mutex<Snapshot>,
    listeners: Mutex<Vec<Results>>,
    self_test: Mutex<Tests>,
    judging: Mutex<Arc<Judging>>,
    archive: Mutex<Archive>,
    /// The name of the recipe in use.
    recipe: Mutex<Arc<str>>,
    /// What each type of defect decides.
    types: Mutex<Arc<TypeRules>>,
    /// Limits that a frame must keep to be judged, by camera.
    pub(super) frames: [FrameSetting; VIEWS],
    /// Watches whether parts that pass look as taught, by camera.
    pub(super) drift: [DriftWatch; VIEWS],
    /// Settings of the station's core.
    settings: Mutex<Settings>,
    pub(super) truth: Mutex<Truth>,
    /// The picture of the last part for the web page, by camera.
    pub live: Arc<[Live; VIEWS]>,
    /// Set when every thread must end.
    pub stop: AtomicBool,
    /// By camera: one that was given up is to be opened again.
    retry: [AtomicBool; VIEWS],
    /// Set when the source has no more frames.
    pub(super) source_ended: AtomicBool,
    /// Set when [`Order::Reboot`](crate::control::host::Order::Reboot) asked for the end.
    pub restart: AtomicBool,
    /// Lines of results and events that found no room or could not be written.
    pub lost: AtomicU64,
    /// Set while the folder of results cannot be written.
    pub(super) unwritten: AtomicBool,
    /// Pictures that were to be kept and were not: too many waited to be drawn, or drawing or writing failed.
    pub pictures_lost: AtomicU64,
    /// Those of them that could not be written.
    pub(super) pictures_unwritten: AtomicU64,
    /// Each camera's threshold, above which a score is a reject, as the bits of an f32.
    thresholds: [AtomicU32; VIEWS],
}

impl Shared {
    /// The state before any thread runs.
    pub(super) fn new(settings: &Settings, statistics: Statistics, alarms: AlarmSet) -> Self {
        Shared {
            cameras: 1,
            wired: Wired::ALL,
            snapshot: Mutex::new(Snapshot {
                now: now(),
                mode: Mode::Starting,
                outputs: Outputs::safe(settings.wiring),
                alarms,
                alarm_history: AlarmHistory::default(),
                statistics,
                challenge: None,
                last: None,
                cameras: 1,
                down: [false; VIEWS],
                self_test: SelfTest::None,
                lost: Lost::default(),
            }),
            self_test: Mutex::new(Tests {
                found: SelfTest::None,
                left: 0,
            }),
            listeners: Mutex::default(),
            judging: Mutex::default(),
            archive: Mutex::default(),
            recipe: Mutex::new("".into()),
            types: Mutex::default(),
            frames: Default::default(),
            drift: Default::default(),
            settings: Mutex::new(*settings),
            truth: Mutex::default(),
            live: Arc::default(),
            stop: AtomicBool::new(false),
            retry: Default::default(),
            source_ended: AtomicBool::new(false),
            restart: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            unwritten: AtomicBool::new(false),
            pictures_lost: AtomicU64::new(0),
            pictures_unwritten: AtomicU64::new(0),
            thresholds: View::ALL
                .map(|view| AtomicU32::new(settings.threshold_of(view).get().to_bits())),
        }
    }

    /// The same state for a station with this many cameras.
    pub(super) fn with_cameras(self, cameras: usize) -> Self {
        Shared { cameras, ..self }
    }

    /// The same state for a station whose board has these inputs; before, it has all.
    pub(super) fn with_wired(self, wired: Wired) -> Self {
        Shared { wired, ..self }
    }

    /// Asks for cameras that were given up to be opened again.
    pub(super) fn retry_cameras(&self) {
        self.retry
            .iter()
            .for_each(|r| r.store(true, Ordering::Relaxed));
    }

    /// Whether a camera that was given up is to be opened again; `true` once per request.
    pub(super) fn retries(&self, view: View) -> bool {
        self.retry[view.index()].swap(false, Ordering::Relaxed)
    }

    /// Publishes the state. Called by the output thread, which never waits: while another thread reads, the
    /// published state stays as it was until the next turn.
    pub(super) fn publish(&self, snapshot: Snapshot) {
        if let Ok(mut shown) = self.snapshot.try_lock() {
            *shown = snapshot;
        }
    }

    /// The state that was published last.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            self_test: lock(&self.self_test).shown(),
            lost: self.losses(),
            ..*lock(&self.snapshot)
        }
    }

    /// What was to be kept and is lost so far.
    pub(super) fn losses(&self) -> Lost {
        Lost {
            lines: self.lost.load(Ordering::Relaxed),
            pictures: self.pictures_lost.load(Ordering::Relaxed),
        }
    }

    /// Which network judges, and its generation.
    pub fn judging(&self) -> Arc<Judging> {
        lock(&self.judging).clone()
    }

    pub(super) fn judge_by(&self, judging: Judging) {
        *lock(&self.judging) = Arc::new(judging);
    }

    /// Sets the limits that frames of every camera must keep.
    pub(super) fn set_limits(&self, limits: FrameLimits) {
        self.frames.iter().for_each(|frames| frames.set(limits));
    }

    /// Settings of the archive.
    pub(super) fn archive(&self) -> Archive {
        *lock(&self.archive)
    }

    /// The name of the recipe in use.
    pub(super) fn recipe(&self) -> Arc<str> {
        lock(&self.recipe).clone()
    }

    pub(super) fn set_recipe(&self, name: &str) {
        *lock(&self.recipe) = name.into();
    }

    pub(super) fn set_archive(&self, archive: Archive) {
        *lock(&self.archive) = archive;
    }

    /// What each type of defect decides.
    pub(super) fn types(&self) -> Arc<TypeRules> {
        lock(&self.types).clone()
    }

    /// Sets what each type of defect decides, and logs the types in the rules that `network` does not have.
    pub(super) fn set_types(&self, rules: TypeRules, network: Option<&NetworkLabel>) {
        for (parameter, name) in network.iter().flat_map(|n| rules.strangers(&n.types)) {
            log::warn!(
                "{}: the bundle has no type `{name}`; parts go to the default lane, by threshold",
                parameter.name()
            );
        }
        *lock(&self.types) = Arc::new(rules);
    }

    /// Begins a self-test of this many networks; `false` if one is going on already.
    pub(super) fn testing(&self, networks: usize) -> bool {
        let mut tests = lock(&self.self_test);
        if tests.left > 0 {
            return false;
        }
        *tests = Tests {
            found: SelfTest::Passed,
            left: networks,
        };
        true
    }

    /// Takes in the result of one network's self-test.
    pub(super) fn tested(&self, result: SelfTest) {
        let mut tests = lock(&self.self_test);
        tests.left = tests.left.saturating_sub(1);
        if tests.found == SelfTest::Passed {
            tests.found = result;
        }
    }

    /// A new listener, which gets every result.
    pub(super) fn listen(&self) -> Results {
        let results = Results::default();
        lock(&self.listeners).push(results.clone());
        results
    }

    /// Removes a listener.
    pub(super) fn leave(&self, results: &Results) {
        lock(&self.listeners).retain(|r| !Arc::ptr_eq(r, results));
    }

    /// Hands a result to all listeners.
    pub(super) fn tell(&self, result: PartResult) {
        for results in lock(&self.listeners).iter() {
            let mut results = lock(results);
            if results.len() == RESULTS {
                results.pop_front();
            }
            results.push_back(result);
        }
    }

    /// A camera's threshold that is in force, for reports.
    pub fn threshold(&self, view: View) -> f32 {
        f32::from_bits(self.thresholds[view.index()].load(Ordering::Relaxed))
    }

    /// Settings of the station's core.
    pub(super) fn settings(&self) -> Settings {
        *lock(&self.settings)
    }

    pub(super) fn set(&self, settings: &Settings) {
        for (view, threshold) in View::ALL.into_iter().zip(&self.thresholds) {
            let own = settings.threshold_of(view).get();
            threshold.store(own.to_bits(), Ordering::Relaxed);
        }
        *lock(&self.settings) = *settings;
    }

    /// Whether the source has no more frames.
    pub fn drained(&self) -> bool {
        self.source_ended.load(Ordering::Relaxed)
    }

    /// Whether every thread must end.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

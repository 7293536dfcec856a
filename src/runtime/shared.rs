//! What the threads show each other: the station's state, and that everybody must end.

use super::archive::Archive;
use super::drift::DriftWatch;
use super::limits::{FrameLimits, FrameSetting};
use super::live::Live;
pub(super) use super::system::lock;
use super::system::now;
use crate::control::host::{Judging, Mode, NetworkLabel, PartResult, SelfTest, Snapshot};
use crate::control::types::TypeRules;
use crate::line::{AlarmSet, Outputs, Settings, Statistics, VIEWS, View};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Results that wait for one listener.
const RESULTS: usize = 256;

/// The self-test of all networks.
#[derive(Debug)]
struct Tests {
    /// What they said so far: passed, unless one has failed.
    found: SelfTest,
    /// Networks that have yet to say.
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

/// What was made of the parts whose truth the source knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Defective ones.
    pub defective: u64,
    /// Of those, how many left the belt.
    pub rejected: u64,
}

/// Between the threads of one station.
pub struct Shared {
    /// How many cameras there are.
    pub cameras: usize,
    snapshot: Mutex<Snapshot>,
    listeners: Mutex<Vec<Results>>,
    self_test: Mutex<Tests>,
    judging: Mutex<Arc<Judging>>,
    archive: Mutex<Archive>,
    /// The name of the recipe in use.
    recipe: Mutex<Arc<str>>,
    /// What types of defects decide.
    types: Mutex<Arc<TypeRules>>,
    /// What a frame of each camera must show.
    pub(super) frames: [FrameSetting; VIEWS],
    /// Whether parts that pass look as taught, by camera.
    pub(super) drift: [DriftWatch; VIEWS],
    /// What the station is set to.
    settings: Mutex<Settings>,
    pub(super) truth: Mutex<Truth>,
    /// The last part's picture, for whoever looks on, by camera.
    pub live: Arc<[Live; VIEWS]>,
    /// Everybody must end.
    pub stop: AtomicBool,
    /// A camera that is given up is to be tried again.
    retry: [AtomicBool; VIEWS],
    /// The source has no more frames.
    pub(super) source_ended: AtomicBool,
    /// The end was asked for by [`Order::Reboot`](crate::control::host::Order::Reboot).
    pub restart: AtomicBool,
    /// Records that found no room or could not be written.
    pub lost: AtomicU64,
    /// The folder of results cannot be written.
    pub(super) unwritten: AtomicBool,
    /// Pictures that were to be kept and were not: too many waited to be drawn, or drawing failed.
    pub pictures_lost: AtomicU64,
    /// Scores of each camera above it are rejects; the bits of an f32.
    thresholds: [AtomicU32; VIEWS],
}

impl Shared {
    /// Before anything runs.
    pub(super) fn new(settings: &Settings, statistics: Statistics, alarms: AlarmSet) -> Self {
        Shared {
            cameras: 1,
            snapshot: Mutex::new(Snapshot {
                now: now(),
                mode: Mode::Starting,
                outputs: Outputs::safe(settings.wiring),
                alarms,
                statistics,
                challenge: None,
                last: None,
                cameras: 1,
                down: [false; VIEWS],
                self_test: SelfTest::None,
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
            thresholds: View::ALL
                .map(|view| AtomicU32::new(settings.threshold_of(view).get().to_bits())),
        }
    }

    /// The same of a station with so many cameras.
    pub(super) fn with_cameras(self, cameras: usize) -> Self {
        Shared { cameras, ..self }
    }

    /// Cameras that are given up are to be tried again.
    pub(super) fn retry_cameras(&self) {
        self.retry
            .iter()
            .for_each(|r| r.store(true, Ordering::Relaxed));
    }

    /// Whether a camera is to be tried again; asked once.
    pub(super) fn retries(&self, view: View) -> bool {
        self.retry[view.index()].swap(false, Ordering::Relaxed)
    }

    /// Shows the state. Called by the actuator, which never waits: while somebody reads, the picture
    /// stays as it was until the next turn.
    pub(super) fn publish(&self, snapshot: Snapshot) {
        if let Ok(mut shown) = self.snapshot.try_lock() {
            *shown = snapshot;
        }
    }

    /// The state that was shown last.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            self_test: lock(&self.self_test).shown(),
            ..*lock(&self.snapshot)
        }
    }

    /// What judges.
    pub fn judging(&self) -> Arc<Judging> {
        lock(&self.judging).clone()
    }

    pub(super) fn judge_by(&self, judging: Judging) {
        *lock(&self.judging) = Arc::new(judging);
    }

    /// What a frame must show, of every camera.
    pub(super) fn set_limits(&self, limits: FrameLimits) {
        self.frames.iter().for_each(|frames| frames.set(limits));
    }

    /// Which pictures are kept.
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

    /// What types of defects decide.
    pub(super) fn types(&self) -> Arc<TypeRules> {
        lock(&self.types).clone()
    }

    /// From now on they decide this, for what `network` judges.
    pub(super) fn set_types(&self, rules: TypeRules, network: Option<&NetworkLabel>) {
        for name in network.iter().flat_map(|n| rules.strangers(&n.types)) {
            log::warn!(
                "lanes, type_thresholds: the bundle has no type `{name}`; parts go to the default lane, by threshold"
            );
        }
        *lock(&self.types) = Arc::new(rules);
    }

    /// So many networks test themselves; `false` if they do so already.
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

    /// How a network's self-test went.
    pub(super) fn tested(&self, result: SelfTest) {
        let mut tests = lock(&self.self_test);
        tests.left = tests.left.saturating_sub(1);
        if tests.found == SelfTest::Passed {
            tests.found = result;
        }
    }

    /// Somebody who hears every result.
    pub(super) fn listen(&self) -> Results {
        let results = Results::default();
        lock(&self.listeners).push(results.clone());
        results
    }

    /// Who hears no more.
    pub(super) fn leave(&self, results: &Results) {
        lock(&self.listeners).retain(|r| !Arc::ptr_eq(r, results));
    }

    /// Tells a result to all who listen.
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

    /// What the station is set to.
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

    /// Whether everybody must end.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

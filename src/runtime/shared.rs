//! What the threads show each other: the station's state, its signs of life, and the handle that
//! control holds on it.

use super::actuator::{Message, ToActuator};
use super::camera::Adjust;
use super::inference::Judges;
use super::record::{Archive, ArchiveSetting};
use super::system::now;
use crate::capture::Adjustment;
use crate::control::host::{Host, Mode, Order, PartResult, Refused, SelfTest, Snapshot};
use crate::control::table::{Effect, Parameter};
use crate::control::values::Values;
use crate::inspector::Inspector;
use crate::line::{AlarmSet, Micros, Outputs, Settings, Statistics};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Results that wait for one listener.
const RESULTS: usize = 256;
/// An order is answered within the station's next turn; longer means that it hangs.
const ANSWER: Duration = Duration::from_secs(2);

/// A thread's last sign of life, microseconds on CLOCK_MONOTONIC.
#[derive(Debug)]
pub struct Beat(AtomicU64);

impl Beat {
    fn new() -> Self {
        Beat(AtomicU64::new(now().0))
    }

    /// It is alive.
    pub fn beat(&self) {
        self.0.store(now().0, Ordering::Relaxed);
    }

    /// Microseconds since the last sign.
    pub fn silent_us(&self) -> u64 {
        now().since(Micros(self.0.load(Ordering::Relaxed)))
    }
}

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

type Results = Arc<Mutex<VecDeque<PartResult>>>;

/// Between the threads of one station.
pub struct Shared {
    snapshot: Mutex<Snapshot>,
    listeners: Mutex<Vec<Results>>,
    self_test: Mutex<Tests>,
    /// The actuator's.
    pub actuator: Beat,
    /// The inference threads'; they beat when a frame is done, and while there is none.
    pub inference: Vec<Beat>,
    /// The camera thread's.
    pub camera: Beat,
    /// The recorder's, one per record, and while there is none.
    pub recorder: Beat,
    /// Which pictures are kept.
    pub(super) archive: ArchiveSetting,
    /// What the station is set to.
    settings: Mutex<Settings>,
    /// Everybody must end.
    pub stop: AtomicBool,
    /// A camera that is given up is to be tried again.
    pub(super) retry: AtomicBool,
    /// The source has no more frames.
    pub(super) source_ended: AtomicBool,
    /// The end was asked for by [`Order::Reboot`].
    pub restart: AtomicBool,
    /// Records that found no room or could not be written.
    pub lost: AtomicU64,
    /// Scores above it are rejects; the bits of an f32.
    threshold: AtomicU32,
}

/// A lock that a panic elsewhere does not take away.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Before anything runs.
    /// `judges` is the number of networks.
    pub(super) fn new(
        settings: &Settings,
        statistics: Statistics,
        alarms: AlarmSet,
        judges: usize,
    ) -> Self {
        Shared {
            snapshot: Mutex::new(Snapshot {
                now: now(),
                mode: Mode::Starting,
                outputs: Outputs::safe(settings.wiring),
                alarms,
                statistics,
                challenge: None,
                last: None,
                self_test: SelfTest::None,
            }),
            self_test: Mutex::new(Tests {
                found: SelfTest::None,
                left: 0,
            }),
            listeners: Mutex::default(),
            actuator: Beat::new(),
            inference: std::iter::repeat_with(Beat::new).take(judges).collect(),
            camera: Beat::new(),
            recorder: Beat::new(),
            archive: ArchiveSetting::default(),
            settings: Mutex::new(*settings),
            stop: AtomicBool::new(false),
            retry: AtomicBool::new(false),
            source_ended: AtomicBool::new(false),
            restart: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            threshold: AtomicU32::new(settings.threshold.get().to_bits()),
        }
    }

    /// All threads live from now on: what was done before they ran, self-tests of seconds among it, is not
    /// their silence.
    pub(super) fn begin(&self) {
        let threads = [&self.actuator, &self.camera, &self.recorder];
        threads
            .into_iter()
            .chain(&self.inference)
            .for_each(Beat::beat);
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

    /// So many networks test themselves; `false` if they do so already.
    fn testing(&self, networks: usize) -> bool {
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

    /// The threshold that is in force, for reports.
    pub fn threshold(&self) -> f32 {
        f32::from_bits(self.threshold.load(Ordering::Relaxed))
    }

    /// What the station is set to.
    pub(super) fn settings(&self) -> Settings {
        *lock(&self.settings)
    }

    pub(super) fn set(&self, settings: &Settings) {
        let threshold = settings.threshold.get();
        self.threshold.store(threshold.to_bits(), Ordering::Relaxed);
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

/// Makes a network of a bundle's path; an empty path is the bundle that the station was started with.
pub type Load = Box<dyn FnMut(&str) -> Result<Inspector, String> + Send>;

/// Control's handle on the station.
pub struct Handle {
    shared: Arc<Shared>,
    messages: ToActuator,
    judges: Judges,
    results: Results,
    adjust: SyncSender<Adjust>,
    adjustment: Adjustment,
    load: Load,
    /// The bundle that is in use, as the parameters name it.
    bundle: String,
}

impl Handle {
    pub(super) fn new(
        shared: Arc<Shared>,
        messages: ToActuator,
        judges: Judges,
        (adjust, adjustment): (SyncSender<Adjust>, Adjustment),
        load: Load,
        bundle: String,
    ) -> Self {
        let results = Results::default();
        lock(&shared.listeners).push(results.clone());
        Handle {
            shared,
            messages,
            judges,
            results,
            adjust,
            adjustment,
            load,
            bundle,
        }
    }

    /// Gives the camera other exposure time and gain, if they are others.
    fn adjust(&mut self, adjustment: Adjustment) -> Result<(), Refused> {
        if adjustment == self.adjustment {
            return Ok(());
        }
        let (answer, answered) = sync_channel(1);
        self.adjust
            .try_send(Adjust { adjustment, answer })
            .map_err(|_| Refused::Busy("the camera is being adjusted"))?;
        let result = answered.recv_timeout(ANSWER);
        result.map_err(|_| Refused::Hardware("the camera does not answer"))??;
        self.adjustment = adjustment;
        Ok(())
    }

    fn self_test(&self) -> Result<(), Refused> {
        if !self.shared.testing(self.judges.count()) {
            return Err(Refused::Busy("the self-test runs"));
        }
        for _ in 0..self.judges.self_test() {
            let failed = SelfTest::Failed("a network cannot be asked");
            self.shared.tested(failed);
        }
        Ok(())
    }
}

/// What the parameters say of the camera.
pub fn adjustment(values: &Values) -> Adjustment {
    Adjustment {
        exposure_us: values.optional(Parameter::CameraExposureUs),
        gain: values.optional(Parameter::CameraGain),
    }
}

/// What the parameters say of the system's log.
pub fn log_level(values: &Values) -> log::LevelFilter {
    match values.text(Parameter::LogLevel) {
        "error" => log::LevelFilter::Error,
        "warn" => log::LevelFilter::Warn,
        "debug" => log::LevelFilter::Debug,
        _ => log::LevelFilter::Info,
    }
}

const GONE: Refused = Refused::Hardware("the station does not answer");

impl Drop for Handle {
    fn drop(&mut self) {
        lock(&self.shared.listeners).retain(|r| !Arc::ptr_eq(r, &self.results));
    }
}

impl Host for Handle {
    fn snapshot(&mut self) -> Snapshot {
        self.shared.snapshot()
    }

    fn order(&mut self, order: Order) -> Result<(), Refused> {
        match order {
            Order::SelfTest => self.self_test(),
            Order::Reboot => {
                self.shared.restart.store(true, Ordering::Relaxed);
                self.shared.stop.store(true, Ordering::Relaxed);
                Ok(())
            }
            order => {
                if order == Order::Reset {
                    self.shared.retry.store(true, Ordering::Relaxed);
                }
                let (answer, answered) = sync_channel(1);
                self.messages
                    .send(Message::Order(order, answer))
                    .map_err(|_| GONE)?;
                answered.recv_timeout(ANSWER).map_err(|_| GONE)?
            }
        }
    }

    fn apply(
        &mut self,
        values: &Values,
        settings: &Settings,
        effect: Effect,
    ) -> Result<(), Refused> {
        // What can be refused comes first: nothing is changed then.
        let bundle = values.text(Parameter::Bundle);
        let inspector = match bundle == self.bundle {
            true => None,
            false => Some((self.load)(bundle).map_err(|e| {
                log::error!("bundle `{bundle}`: {e}");
                Refused::Hardware("the bundle cannot be used, the log says why")
            })?),
        };
        self.adjust(adjustment(values))?;
        self.shared.archive.set(Archive::of(values));
        log::set_max_level(log_level(values));
        if let Some(inspector) = inspector {
            self.judges.replace(inspector).map_err(|e| {
                log::error!("bundle `{bundle}`: {e:#}");
                GONE
            })?;
            self.bundle = bundle.into();
        }
        let apply = Message::Apply {
            settings: Box::new(*settings),
            clear: effect >= Effect::BeltCleared,
        };
        self.messages.send(apply).map_err(|_| GONE)
    }

    fn fault(&mut self, on: bool) {
        // Fails only when the station has ended: its FAULT is on then.
        let _ = self.messages.send(Message::Fault(on));
    }

    fn next_result(&mut self) -> Option<PartResult> {
        lock(&self.results).pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::table::Effect;
    use crate::control::values::Value;
    use crate::runtime::actuator::MESSAGES;
    use crate::runtime::inference::{JOBS, Job};
    use crate::runtime::mailbox::{Mailbox, mailbox};
    use std::sync::mpsc::Receiver;

    #[test]
    fn what_was_done_before_is_no_threads_silence() {
        let settings = Values::default().settings().unwrap();
        let shared = Shared::new(&settings, Statistics::default(), AlarmSet::NONE, 2);
        let threads = [&shared.actuator, &shared.camera, &shared.recorder];
        let beats: Vec<&Beat> = shared.inference.iter().chain(threads).collect();
        beats.iter().for_each(|b| b.0.store(0, Ordering::Relaxed));
        shared.begin();
        assert!(beats.iter().all(|b| b.0.load(Ordering::Relaxed) > 0));
    }

    /// A handle on a station of `N` networks, and what comes to its threads: messages, jobs, adjustments. It
    /// finds no other bundle.
    struct Bench<const N: usize> {
        handle: Handle,
        told: Mailbox<Message, MESSAGES>,
        jobs: [Mailbox<Job, JOBS>; N],
        adjusts: Receiver<Adjust>,
    }

    fn bench<const N: usize>() -> Bench<N> {
        let settings = Values::default().settings().unwrap();
        let shared = Arc::new(Shared::new(
            &settings,
            Statistics::default(),
            AlarmSet::NONE,
            N,
        ));
        let (messages, told) = mailbox();
        let mut judges = vec![];
        let jobs = [(); N].map(|()| {
            let (post, jobs) = mailbox();
            judges.push(post);
            jobs
        });
        let (adjust, adjusts) = sync_channel(1);
        let adjust = (adjust, Adjustment::default());
        let load = Box::new(|_: &str| Err("damaged".to_string()));
        let judges = Judges::new(judges);
        Bench {
            handle: Handle::new(shared, messages, judges, adjust, load, String::new()),
            told,
            jobs,
            adjusts,
        }
    }

    #[test]
    fn a_bundle_that_is_refused_leaves_the_camera_alone() {
        let mut bench = bench::<1>();
        let mut values = Values::default();
        let settings = values.settings().unwrap();
        let set = [
            (Parameter::Bundle, Value::Text("other".into())),
            (Parameter::CameraExposureUs, Value::Number(5000)),
        ];
        for (parameter, value) in set {
            values.set(parameter, value).unwrap();
        }
        let apply = bench.handle.apply(&values, &settings, Effect::BeltCleared);
        assert!(matches!(apply, Err(Refused::Hardware(_))), "{apply:?}");
        assert!(bench.adjusts.try_recv().is_err() && bench.told.try_recv().is_none());
    }

    #[test]
    fn the_self_test_passes_only_if_every_network_does() {
        let failed = SelfTest::Failed("on purpose");
        for wrong in [None, Some(0), Some(1), Some(2)] {
            let Bench {
                mut handle, jobs, ..
            } = bench::<3>();
            handle.order(Order::SelfTest).unwrap();
            for (network, jobs) in jobs.iter().enumerate() {
                assert_eq!(handle.snapshot().self_test, SelfTest::Running);
                let again = handle.order(Order::SelfTest);
                assert!(matches!(again, Err(Refused::Busy(_))), "{again:?}");
                let asked = matches!(jobs.try_recv(), Some(Job::SelfTest));
                assert!(asked && jobs.try_recv().is_none(), "network {network}");
                let found = if wrong == Some(network) {
                    failed
                } else {
                    SelfTest::Passed
                };
                handle.shared.tested(found);
            }
            let found = if wrong.is_some() {
                failed
            } else {
                SelfTest::Passed
            };
            assert_eq!(handle.snapshot().self_test, found);
        }
        // One that is gone.
        let Bench {
            mut handle,
            jobs: [first, gone],
            ..
        } = bench::<2>();
        drop(gone);
        handle.order(Order::SelfTest).unwrap();
        assert!(first.try_recv().is_some());
        handle.shared.tested(SelfTest::Passed);
        assert!(matches!(handle.snapshot().self_test, SelfTest::Failed(_)));
    }
}

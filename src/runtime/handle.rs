//! Control's handle on the station: looks at it, gives it orders, and puts other loadouts into force.

use super::adjust::{Adjusted, CameraLane};
use super::archive::Archive;
use super::deferred::DropThread;
use super::judges::Overseer;
use super::limits::FrameLimits;
use super::loadout::{CameraError, Choice, Loadout, Network};
use super::message::{LineLoadout, Message, ToActuator};
use super::recent::Recent;
use super::shared::{Results, Shared, lock};
use super::teacher::{Start, Teacher};
use super::wired::Lack;
use crate::capture::Adjustment;
use crate::control::host::{
    ControlledStation, Judging, Lesson, LessonState, Order, PartResult, Preparing, Refused,
    SelfTest, Snapshot, Teach, TeachSettings, Wanted,
};
use crate::control::store::shelf::Shelf;
use crate::control::table::{CAMERAS, Effect, Parameter};
use crate::control::types::TypeRules;
use crate::control::values::Values;
use crate::line::{NetworkState, Settings, Trigger, VIEWS, View};
use crate::memory::course::{Edit, Sample};
use crate::memory::file::TaughtError;
use crate::memory::region::blinds;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// The station answers an order within its next turn; longer means that it hangs.
const ANSWER: Duration = Duration::from_secs(2);

/// Loads and tests the network that the parameters ask for. An error says what is wrong and what to do.
pub type Load = Box<dyn FnMut(&Choice) -> Result<Network, String> + Send>;

/// Control's handle on the station.
pub struct Handle {
    shared: Arc<Shared>,
    messages: ToActuator,
    judges: Overseer,
    results: Results,
    cameras: Vec<Arc<CameraLane>>,
    load: Arc<Mutex<Load>>,
    /// Where files of taught parts are stored.
    shelf: Shelf,
    /// Where networks end that are replaced, or were made ready in vain.
    drops: DropThread<Box<Network>>,
    /// The thread that prepares a loadout, while there is one.
    preparing: Option<JoinHandle<()>>,
    /// The choice of parameters whose network is in force; `None` before the first loadout.
    choice: Option<Choice>,
    /// The choice that was tried last, at the start or with a change, whether or not it could be used.
    tried: Choice,
    generation: u32,
    /// By how much regions raise each camera's threshold at most, 0..=1.
    offsets: [f32; VIEWS],
    /// The last parts that the networks in force judged; `None` if they cannot be taught.
    recent: Option<Arc<Recent>>,
    /// The lesson that is going on.
    teacher: Option<Teacher>,
}

/// A judge lends a network between two frames; longer means that it does not judge.
const LENT: Duration = Duration::from_secs(10);

/// The refusal of a station with several cameras that would take every frame for a part.
pub const NEED_A_TRIGGER: &str =
    "several cameras need a trigger: set trigger_source to edge, interval, encoder or command";

const TAUGHT_FROM_FILES: &str = "several cameras: make a file of good parts of each (`faprompt-edge teach`) \
    and set taught, camera2_taught, ...";

const GONE: Refused = Refused::Hardware("the station does not answer");

impl Handle {
    /// `choice` is what the parameters say of the network that judges already, if one does.
    pub(super) fn new(
        shared: Arc<Shared>,
        messages: ToActuator,
        judges: Overseer,
        cameras: Vec<Arc<CameraLane>>,
        (load, shelf, drops): (Load, Shelf, DropThread<Box<Network>>),
        choice: Option<Choice>,
    ) -> Self {
        Handle {
            results: shared.listen(),
            shared,
            messages,
            judges,
            cameras,
            load: Arc::new(Mutex::new(load)),
            shelf,
            drops,
            preparing: None,
            choice,
            tried: Choice::default(),
            generation: 0,
            offsets: [0.0; VIEWS],
            recent: None,
            teacher: None,
        }
    }

    fn self_test(&mut self) -> Result<(), Refused> {
        if !self.shared.testing(self.judges.count()) {
            return Err(Refused::Busy("the self-test runs"));
        }
        for _ in 0..self.judges.self_test() {
            let failed = SelfTest::Failed("a network cannot be asked");
            self.shared.tested(failed);
        }
        Ok(())
    }

    /// Whether the last good network judges in place of the wanted one: it then keeps its own thresholds.
    fn judges_by_its_own(&self, wanted: &Wanted) -> bool {
        let judging = self.shared.judging();
        judging.state == Some(NetworkState::LastGood)
            && wanted.state == NetworkState::Stored
            && self.choice == Some(Choice::of(&wanted.values))
    }

    fn nothing_judges(&mut self, why: NetworkState) {
        self.generation += 1;
        self.shared.judge_by(Judging {
            generation: self.generation,
            state: Some(why),
            network: None,
        });
        self.choice = Some(std::mem::take(&mut self.tried));
        // Fails only when the station has ended: all its parts are rejected then.
        let _ = self.messages.send(Message::NoNetwork(why));
    }

    /// Begins a lesson, which takes parts or changes what was taught.
    fn begin(&mut self, start: Start, how: TeachSettings) -> Result<(), Refused> {
        let recent = self.recent.clone();
        let recent = recent.ok_or(Refused::Mode("nothing judges that could be taught"))?;
        match self.shared.judging().state {
            Some(NetworkState::Stored | NetworkState::ZeroShot) => (),
            _ => {
                return Err(Refused::Mode(
                    "the stored bundle does not judge: put it right first",
                ));
            }
        }
        let lent = self.judges.lend();
        let before = (self.taught_parts().unwrap_or(0), how);
        let teacher = Teacher::start(start, before, lent, recent);
        self.teacher = Some(teacher.map_err(|e| {
            log::error!("the teaching thread: {e}");
            Refused::Hardware("a thread cannot be started")
        })?);
        Ok(())
    }

    fn edit(&mut self, edit: Edit, how: TeachSettings) -> Result<(), Refused> {
        let lesson = self.teacher.as_ref().map(|t| (t, t.lesson().state));
        match lesson {
            None => {
                self.taught_parts()?;
                self.begin(Start::Edit(edit), how)
            }
            Some((_, LessonState::Failed)) => Err(Refused::Mode("the lesson failed: CANCEL")),
            Some((_, LessonState::Running)) if !matches!(edit, Edit::Bad(_)) => {
                Err(Refused::Busy("the lesson still takes parts"))
            }
            Some((teacher, _)) => match teacher.edit(edit) {
                true => Ok(()),
                false => Err(Refused::Busy("the lesson is being made")),
            },
        }
    }

    /// How many good parts the network in force was taught.
    fn taught_parts(&self) -> Result<usize, Refused> {
        let judging = self.shared.judging();
        let taught = judging.network.as_ref().and_then(|n| n.taught.as_ref());
        let taught = taught.ok_or(Refused::Mode("nothing was taught yet: TEACH n"))?;
        Ok(taught.parts)
    }

    /// Finds a part that was judged lately, by its number, or the last one that passed or was rejected.
    fn remembered(&self, part: Option<u64>, reject: bool) -> Result<Sample, Refused> {
        let found = self.recent.as_ref().and_then(|r| r.find(part, reject));
        found.ok_or(Refused::NoSuchPart(
            "no such part is remembered: the last rejects and the last good parts are",
        ))
    }
}

/// Refuses a threshold that a region raises so far that no score lies above it, or, if that is in force already or stands
/// at a start, says so in the log.
fn can_reject(settings: &Settings, offsets: [f32; VIEWS], bearable: bool) -> Result<(), Refused> {
    const WHY: &str = "a region raises the threshold to 1 or more: no part would ever be rejected there; lower its offset";
    let is_blind = |(view, offset): (View, f32)| blinds(settings.threshold_of(view).get(), offset);
    match View::ALL.into_iter().zip(offsets).any(is_blind) {
        false => Ok(()),
        true if bearable => {
            log::error!("regions: {WHY}");
            Ok(())
        }
        true => Err(Refused::Regions(WHY)),
    }
}

/// What a thread needs to prepare a network that differs from the one that judges.
struct Making {
    choice: Choice,
    load: Arc<Mutex<Load>>,
    shelf: Shelf,
    /// Brings a network with the same bundle, if one judges; otherwise the bundle is loaded.
    lent: Option<Receiver<Option<Box<Network>>>>,
    /// How many cameras there are.
    cameras: usize,
    /// The file of taught parts that is to be stored first, if any.
    taught: Option<Arc<[u8]>>,
}

impl Making {
    /// Prepares the network. Returns it, and whether it judges without what was taught.
    fn make(self) -> Result<(Network, bool), Refused> {
        let Choice {
            bundle,
            taught,
            alone,
            ..
        } = &self.choice;
        if let Some(bytes) = &self.taught {
            self.shelf.put(bytes).map_err(|e| {
                log::error!(
                    "{}: cannot be written: {e}",
                    self.shelf.path(taught).display()
                );
                Refused::Memory(
                    "what was taught cannot be written: is the disk full? The log says why",
                )
            })?;
        }
        let lent = self.lent.and_then(|l| l.recv_timeout(LENT).ok().flatten());
        let network = match lent {
            Some(network) => network.forgetful().map_err(|e| e.to_string()),
            None => lock(&self.load)(&self.choice),
        };
        let mut network = network.map_err(|e| {
            log::error!("bundle `{bundle}`: {e}");
            Refused::Network("the bundle cannot be used: the system's log says why")
        })?;
        network.look(&self.choice).map_err(|e| {
            log::error!("{e}");
            Refused::Regions("their file cannot be used, the system's log says why")
        })?;
        // What was just written is read again, too: what is accepted is what the next start will find.
        let learnt = match taught.is_empty() {
            true => Ok(()),
            false => network.learn(taught, &self.shelf),
        };
        let left_out = match learnt {
            Ok(()) => false,
            Err(e) if *alone => {
                log::error!("{e}; FAPrompt judges alone (taught_unusable)");
                true
            }
            Err(e) => {
                log::error!("{e}");
                return Err(Refused::Taught(unusable(&e)));
            }
        };
        let further = network.for_cameras(self.cameras, &self.choice, &self.shelf);
        match further {
            Ok(further) => Ok((network, left_out || further)),
            Err(e) => {
                log::error!("{e}");
                Err(match e {
                    CameraError::Taught(_) => Refused::Taught(
                        "a further camera's file (the log says which): SET camera2_taught \"\" (or 3, 4), COMMIT",
                    ),
                    CameraError::Regions { .. } => Refused::Regions(
                        "a camera's file cannot be used, or decides nothing; the system's log says why",
                    ),
                    CameraError::Failed(_) => {
                        Refused::Network("the bundle cannot be used: the system's log says why")
                    }
                })
            }
        }
    }
}

/// Why what was taught cannot be used, and what to do.
fn unusable(error: &TaughtError) -> &'static str {
    match error {
        TaughtError::File { .. } => {
            "its file is missing or cannot be read: SET taught \"\", COMMIT and TEACH again"
        }
        TaughtError::Another(_) => {
            "another encoder, arithmetic, tiles or regions than now: SET taught \"\", COMMIT and TEACH again"
        }
        TaughtError::Version(_) | TaughtError::Damaged(_) => {
            "its file is damaged: SET taught \"\", COMMIT and TEACH again"
        }
        TaughtError::Failed(_) => {
            "it cannot be compared with: SET taught \"\", COMMIT and TEACH again"
        }
    }
}

/// Exposure time and gain of each camera, as the parameters say.
pub fn adjustments(values: &Values) -> [Adjustment; VIEWS] {
    CAMERAS.map(|camera| Adjustment {
        exposure_us: values.optional(camera.exposure_us),
        gain: values.optional(camera.gain),
    })
}

/// How much goes to the system's log, as the parameters say.
pub fn log_level(values: &Values) -> log::LevelFilter {
    match values.text(Parameter::LogLevel) {
        "error" => log::LevelFilter::Error,
        "warn" => log::LevelFilter::Warn,
        "debug" => log::LevelFilter::Debug,
        _ => log::LevelFilter::Info,
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.leave(&self.results);
    }
}

impl ControlledStation for Handle {
    type Loadout = Box<Loadout>;

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
                    self.shared.retry_cameras();
                }
                let (answer, answered) = sync_channel(1);
                self.messages
                    .send(Message::Order(order, answer))
                    .map_err(|_| GONE)?;
                answered.recv_timeout(ANSWER).map_err(|_| GONE)?
            }
        }
    }

    fn judging(&mut self) -> Arc<Judging> {
        self.shared.judging()
    }

    fn prepare(&mut self, wanted: &Wanted) -> Preparing<Box<Loadout>> {
        let choice = Choice::of(&wanted.values);
        let same_network = self.choice.as_ref() == Some(&choice)
            && wanted.state == NetworkState::Stored
            && wanted.taught.is_none();
        let wants = adjustments(&wanted.values);
        let several = self.shared.cameras > 1;
        if several && matches!(wanted.settings.trigger, Trigger::FreeRun) {
            return Preparing::ready(Err(Refused::Mode(NEED_A_TRIGGER)));
        }
        let starts = self.choice.is_none();
        // At a start the line stands, and the log says why: the ports are to be served.
        // They were checked with the settings.
        let types = TypeRules::of(&wanted.values).unwrap_or_default();
        let wired = self.shared.wired;
        let lack = wired.lacks(&wanted.settings).map(Lack::why);
        if !starts && let Some(why) = lack.or_else(|| wired.lacks_lane(&types)) {
            return Preparing::ready(Err(Refused::Hardware(why)));
        }
        if wanted.state == NetworkState::Stored {
            self.tried = choice.clone();
        }
        let own = self.judges_by_its_own(wanted);
        let lanes = self.cameras.iter().cloned().zip(wants);
        let adjusted: Vec<_> = lanes
            .filter(|(camera, wants)| *wants != camera.agreed() && !own)
            .collect();
        let adjusts = !adjusted.is_empty();
        let mut settings = wanted.settings;
        let mut state = wanted.state;
        if own {
            log::warn!("the last good network judges, by its own thresholds");
            let now = self.shared.settings();
            settings.threshold = now.threshold;
            settings.further_thresholds = now.further_thresholds;
            state = NetworkState::LastGood;
        } else if same_network && let Some(now) = self.shared.judging().state {
            state = now;
        }
        let bearable = starts || can_reject(&self.shared.settings(), self.offsets, false).is_err();
        if same_network && let Err(refused) = can_reject(&settings, self.offsets, bearable) {
            return Preparing::ready(Err(refused));
        }
        let mut loadout = Box::new(Loadout {
            networks: None,
            line: LineLoadout {
                generation: 0,
                settings,
                clear: wanted.effect >= Effect::BeltCleared,
                network: state,
                stop: wanted.stop,
            },
            adjusted: Vec::new(),
            archive: Archive::of(&wanted.values),
            recipe: wanted.values.text(Parameter::RecipeName).into(),
            frames: FrameLimits::of(&wanted.values),
            types,
            log: log_level(&wanted.values),
            choice: choice.clone(),
        });
        if same_network && !adjusts {
            return Preparing::ready(Ok(loadout));
        }
        if self.preparing.as_ref().is_some_and(|t| !t.is_finished()) {
            let busy = Refused::Busy("another change is still being made ready");
            return Preparing::ready(Err(busy));
        }
        let judges_so = self.choice.as_ref().is_some_and(|c| c.sees_as(&choice))
            && matches!(
                self.shared.judging().state,
                Some(NetworkState::Stored | NetworkState::ZeroShot)
            );
        let making = (!same_network).then(|| Making {
            choice,
            load: self.load.clone(),
            shelf: self.shelf.clone(),
            lent: judges_so.then(|| self.judges.lend()),
            cameras: self.shared.cameras,
            taught: wanted.taught.clone(),
        });
        let (result, prepared) = sync_channel(1);
        let (count, drops) = (self.judges.count(), self.drops.clone());
        let work = move || {
            let prepare = || -> Result<(), Refused> {
                if let Some(making) = making {
                    let (network, alone) = making.make()?;
                    let offsets = View::ALL.map(|view| network.highest_offset(view));
                    can_reject(&loadout.line.settings, offsets, bearable)?;
                    let networks = network.side_by_side(count).map_err(|e| {
                        log::error!("{e:#}");
                        Refused::Network("the bundle cannot be used: the system's log says why")
                    })?;
                    let networks = networks.into_iter().map(|n| drops.takes(Box::new(n)));
                    loadout.networks = Some(networks.collect());
                    if alone {
                        loadout.line.network = NetworkState::ZeroShot;
                    }
                }
                // The last step that can fail: a camera takes the change at once. At the start a camera may not be
                // there yet, so it is sent the values and nobody waits for its answer.
                for (camera, wants) in adjusted {
                    match starts {
                        true => camera.tell(wants),
                        false => loadout.adjusted.push(camera.ask(wants)?),
                    }
                }
                Ok(())
            };
            let prepared = prepare();
            // Whoever asked may be gone: then it is dropped here.
            let _ = result.send(prepared.map(|()| loadout));
        };
        match Builder::new().name("prepare".into()).spawn(work) {
            Ok(thread) => {
                self.preparing = Some(thread);
                Preparing::awaited(prepared)
            }
            Err(e) => {
                log::error!("the preparing thread: {e}");
                Preparing::ready(Err(Refused::Hardware("a thread cannot be started")))
            }
        }
    }

    fn types(&mut self, loadout: &Box<Loadout>) -> Option<Vec<String>> {
        // The last good network has other names than what is stored is meant for.
        let (NetworkState::Stored | NetworkState::ZeroShot) = loadout.line.network else {
            return None;
        };
        match &loadout.networks {
            Some(networks) => networks.first().map(|n| n.label.types.clone()),
            None => (self.shared.judging().network.as_ref()).map(|n| n.types.clone()),
        }
    }

    fn swap(&mut self, loadout: Box<Loadout>) {
        let mut loadout = *loadout;
        self.generation += 1;
        loadout.line.generation = self.generation;
        self.shared.set_archive(loadout.archive);
        self.shared.set_recipe(&loadout.recipe);
        self.shared.set_limits(loadout.frames);
        log::set_max_level(loadout.log);
        let before = self.shared.judging();
        let network = match &loadout.networks {
            Some(networks) => {
                self.recent = networks.first().and_then(|n| n.recent.clone());
                networks.first().map(|n| n.label.clone())
            }
            None => before.network.clone(),
        };
        self.shared.set_types(loadout.types, network.as_deref());
        self.shared.judge_by(Judging {
            generation: self.generation,
            state: Some(loadout.line.network),
            network,
        });
        if let Some(network) = loadout.networks.as_ref().and_then(|n| n.first()) {
            network.compares(&self.shared, &loadout.line.settings);
            self.offsets = View::ALL.map(|view| network.highest_offset(view));
        }
        // Judges first: a frame that goes to them with this generation finds its network there.
        if let Some(networks) = loadout.networks {
            self.judges.replace(self.generation, networks);
        }
        loadout.adjusted.into_iter().for_each(Adjusted::agree);
        self.choice = Some(match loadout.line.network {
            NetworkState::Stored | NetworkState::ZeroShot => loadout.choice,
            // What is stored is still the one that was tried.
            _ => self
                .choice
                .take()
                .unwrap_or_else(|| std::mem::take(&mut self.tried)),
        });
        // Fails only when the station has ended: all its parts are rejected then.
        let _ = self.messages.send(Message::Loadout(Box::new(loadout.line)));
    }

    fn no_network(&mut self) {
        self.nothing_judges(NetworkState::Missing);
    }

    fn untaught(&mut self) {
        self.nothing_judges(NetworkState::Untaught);
    }

    fn teach(&mut self, order: Teach<'_>, how: TeachSettings) -> Result<(), Refused> {
        if self.shared.cameras > 1 && order != Teach::End {
            return Err(Refused::Mode(TAUGHT_FROM_FILES));
        }
        match order {
            Teach::Begin(parts) => self.begin(Start::Fresh(parts as usize), how),
            Teach::Add(parts) => {
                self.taught_parts()?;
                self.begin(Start::More(parts as usize), how)
            }
            Teach::Forget(name) => self.edit(Edit::Forget(name.into()), how),
            Teach::Good(part) => {
                let sample = self.remembered(part, true)?;
                self.edit(Edit::Good(sample), how)
            }
            Teach::Bad(part) => {
                let sample = self.remembered(part, false)?;
                self.edit(Edit::Bad(sample), how)
            }
            Teach::End => {
                self.teacher = None;
                Ok(())
            }
        }
    }

    fn resume_lesson(&mut self, lesson: Arc<[u8]>, how: TeachSettings) -> Result<(), Refused> {
        if self.shared.cameras > 1 {
            return Err(Refused::Mode(TAUGHT_FROM_FILES));
        }
        self.begin(Start::Waiting(lesson), how)
    }

    fn lesson(&mut self) -> Option<Lesson> {
        self.teacher.as_ref().map(Teacher::lesson)
    }

    fn fault(&mut self, on: bool) {
        // Fails only when the station has ended: its FAULT is on then.
        let _ = self.messages.send(Message::Fault(on));
    }

    fn next_result(&mut self) -> Option<PartResult> {
        lock(&self.results).pop_front()
    }
}

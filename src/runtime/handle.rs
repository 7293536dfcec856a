//! Control's handle on the station: looks at it, gives it orders, and puts other loadouts into force.

use super::archive::Archive;
use super::camera::{CameraLane, FrameLimits};
use super::judges::Overseer;
use super::loadout::{Choice, Loadout, Network};
use super::message::{LineLoadout, Message, ToActuator};
use super::shared::{Results, Shared, lock};
use crate::capture::Adjustment;
use crate::control::host::{
    Host, Judging, Order, PartResult, Preparing, Refused, SelfTest, Snapshot, Wanted,
};
use crate::control::table::{Effect, Parameter};
use crate::control::types::TypeRules;
use crate::control::values::Values;
use crate::line::NetworkState;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// An order is answered within the station's next turn; longer means that it hangs.
const ANSWER: Duration = Duration::from_secs(2);

/// Makes a tested network of what the parameters say. Says what is wrong and what to do.
pub type Load = Box<dyn FnMut(&Choice) -> Result<Network, String> + Send>;

/// Control's handle on the station.
pub struct Handle {
    shared: Arc<Shared>,
    messages: ToActuator,
    judges: Overseer,
    results: Results,
    camera: Arc<CameraLane>,
    load: Arc<Mutex<Load>>,
    /// Makes a loadout ready.
    preparing: Option<JoinHandle<()>>,
    /// The network that is in force, as the parameters say it; `None` before the first loadout.
    choice: Option<Choice>,
    /// What is stored and was tried at the start.
    tried: Choice,
    generation: u32,
}

const GONE: Refused = Refused::Hardware("the station does not answer");

impl Handle {
    /// `choice` is what the parameters say of the network that judges already, if one does.
    pub(super) fn new(
        shared: Arc<Shared>,
        messages: ToActuator,
        judges: Overseer,
        camera: Arc<CameraLane>,
        load: Load,
        choice: Option<Choice>,
    ) -> Self {
        Handle {
            results: shared.listen(),
            shared,
            messages,
            judges,
            camera,
            load: Arc::new(Mutex::new(load)),
            preparing: None,
            choice,
            tried: Choice::default(),
            generation: 0,
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

    /// While the last good network judges, it judges by its own threshold.
    fn judges_by_its_own(&self, wanted: &Wanted) -> bool {
        let judging = self.shared.judging();
        judging.state == Some(NetworkState::LastGood)
            && wanted.state == NetworkState::Stored
            && self.choice.as_ref() == Some(&Choice::of(&wanted.values))
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

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.leave(&self.results);
    }
}

impl Host for Handle {
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

    fn judging(&mut self) -> Arc<Judging> {
        self.shared.judging()
    }

    fn prepare(&mut self, wanted: &Wanted) -> Preparing<Box<Loadout>> {
        let choice = Choice::of(&wanted.values);
        let same_network =
            self.choice.as_ref() == Some(&choice) && wanted.state == NetworkState::Stored;
        let adjustment = adjustment(&wanted.values);
        let starts = self.choice.is_none();
        if starts && wanted.state == NetworkState::Stored {
            self.tried = choice.clone();
        }
        let own = self.judges_by_its_own(wanted);
        let adjusts = adjustment != self.camera.agreed() && !own;
        let mut settings = wanted.settings;
        let mut state = wanted.state;
        if own {
            log::warn!("the last good network judges, by its own threshold");
            settings.threshold = self.shared.settings().threshold;
            state = NetworkState::LastGood;
        } else if same_network && let Some(now) = self.shared.judging().state {
            state = now;
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
            adjusted: None,
            archive: Archive::of(&wanted.values),
            frames: FrameLimits::of(&wanted.values),
            // They were checked with the settings.
            types: TypeRules::of(&wanted.values).unwrap_or_default(),
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
        let (result, prepared) = sync_channel(1);
        let (load, camera, count) = (self.load.clone(), self.camera.clone(), self.judges.count());
        let work = move || {
            let mut prepare = || -> Result<(), Refused> {
                if !same_network {
                    let side_by_side = |network: Network| {
                        network.side_by_side(count).map_err(|e| format!("{e:#}"))
                    };
                    let networks = lock(&load)(&choice).and_then(side_by_side);
                    loadout.networks = Some(networks.map_err(|e| {
                        log::error!("bundle `{}`: {e}", choice.bundle);
                        Refused::Hardware("the bundle cannot be used, the log says why")
                    })?);
                }
                // Last of what can fail: the camera shows it at once. At the start it may not be there
                // yet: it is told, not asked.
                match adjusts {
                    true if starts => camera.tell(adjustment),
                    true => loadout.adjusted = Some(camera.ask(adjustment)?),
                    false => (),
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

    fn swap(&mut self, loadout: Box<Loadout>) {
        let mut loadout = *loadout;
        self.generation += 1;
        loadout.line.generation = self.generation;
        self.shared.set_archive(loadout.archive);
        self.shared.frames.set(loadout.frames);
        log::set_max_level(loadout.log);
        let before = self.shared.judging();
        let network = match &loadout.networks {
            Some(networks) => networks.first().map(|n| n.label.clone()),
            None => before.network.clone(),
        };
        self.shared.set_types(loadout.types, network.as_deref());
        self.shared.judge_by(Judging {
            generation: self.generation,
            state: Some(loadout.line.network),
            network,
        });
        if let Some(network) = loadout.networks.as_ref().and_then(|n| n.first()) {
            self.shared.frames.taught(network);
            let threshold = loadout.line.settings.threshold.get();
            self.shared
                .drift
                .taught(network.inspector.taught(), threshold);
        }
        // Judges first: a frame that goes to them with this generation finds its network there.
        if let Some(networks) = loadout.networks {
            self.judges.replace(self.generation, networks);
        }
        if let Some(adjusted) = loadout.adjusted {
            adjusted.agree();
        }
        self.choice = Some(match loadout.line.network {
            NetworkState::Stored => loadout.choice,
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
        self.generation += 1;
        self.shared.judge_by(Judging {
            generation: self.generation,
            state: Some(NetworkState::Missing),
            network: None,
        });
        self.choice = Some(std::mem::take(&mut self.tried));
        let _ = self.messages.send(Message::NoNetwork);
    }

    fn fault(&mut self, on: bool) {
        // Fails only when the station has ended: its FAULT is on then.
        let _ = self.messages.send(Message::Fault(on));
    }

    fn next_result(&mut self) -> Option<PartResult> {
        lock(&self.results).pop_front()
    }
}

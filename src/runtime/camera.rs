//! The thread that fills frame places, and keeps the camera alive.
//!
//! Every exposure is reported to the station, with or without a picture: one that found no free place, that was
//! missed or is damaged still shows a part, and that part must be rejected.

use super::adjust::Adjust;
use super::mailbox::Mailbox;
use super::message::{Message, NO_PICTURE, ToActuator};
use super::places::{CameraPlaces, Place, Places};
use super::shared::Shared;
use super::system::now;
use super::threads::Sign;
use crate::capture::{Adjustment, Camera, CaptureError, Exposure, Pace, Step, Watch, Watchman};
use crate::control::host::{Mode, Refused};
use crate::line::{Cause, Frame, FrameId, Micros, Trigger, VIEWS, View};
use image::RgbImage;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// How long one wait for the camera takes at most: a station that is being stopped waits as long for this thread.
const LOOK: Duration = Duration::from_millis(100);
/// A simulated belt that has waited this long for the station logs what it waits for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest time from the end of an exposure until its frame has arrived.
const TRANSFER: Duration = Duration::from_millis(500);
/// Up to this many missed exposures are reported one by one. A longer gap is reported as a camera that was down:
/// everything that passed meanwhile is rejected.
const MISSED: u64 = 32;

/// Names of the cameras' threads, and of the cameras in the log.
pub const NAMES: [&str; VIEWS] = ["camera", "camera 2", "camera 3", "camera 4"];

/// How a camera is opened.
pub struct Open {
    /// Opens the camera. One that exposes by itself is opened again and again until that works.
    pub open: Box<dyn FnMut() -> Result<Box<dyn Camera>, CaptureError> + Send>,
    /// Whether the camera exposes by itself; otherwise this thread asks it for each exposure.
    pub live: bool,
}

/// When a camera exposes that does so only when asked, unless the station triggers it.
#[derive(Clone, Copy, Debug)]
pub enum Exposing {
    /// One pulse width after the last exposure has been judged.
    OneByOne,
    /// At a fixed interval, whether or not the last exposure has been judged.
    Every(Duration),
}

/// State of a camera's thread.
pub struct CameraThread {
    /// Which of the station's cameras this is.
    pub view: View,
    /// How the camera is opened.
    pub open: Open,
    /// When exposures happen, unless the camera exposes by itself or the station triggers.
    pub exposing: Exposing,
    /// Receives the times of the station's triggers.
    pub triggers: Mailbox<Micros>,
    /// Exposure time and gain at the start.
    pub adjustment: Adjustment,
    /// Receives changes of exposure time and gain.
    pub adjusts: Mailbox<Adjust>,
    /// Ends after this many exposures; `None`: never.
    pub limit: Option<u64>,
    /// All frames in memory.
    pub places: Places,
    /// The places of this camera that are free.
    pub free: CameraPlaces,
    /// The lane to the output thread.
    pub messages: ToActuator,
    /// This thread's sign of life.
    pub sign: Sign,
    /// State that the threads of the station share.
    pub shared: Arc<Shared>,
}

/// The station has ended, and nobody receives messages any more.
struct Gone;

impl CameraThread {
    /// Runs until the source has no more frames, the limit is reached or the station ends.
    pub fn run(mut self) {
        let ended = match self.open.live {
            true => self.live(),
            false => self.simulated(),
        };
        // Order matters: whoever looks after this thread must know why it ends.
        self.sign.done();
        self.shared.source_ended.store(true, Ordering::Relaxed);
        if ended.is_ok() {
            let _ = self.messages.send(Message::Drain);
        }
    }

    /// Passes the changes of exposure time and gain since the last call to the camera. Of several the last one
    /// counts.
    fn adjust(&mut self, mut camera: Option<&mut Box<dyn Camera>>) {
        let mut last: Option<Adjust> = None;
        while let Some(adjust) = self.adjusts.try_recv() {
            if let Some(answer) = last.replace(adjust).and_then(|older| older.answer) {
                let _ = answer.try_send(Err(Refused::Busy("the camera is being adjusted")));
            }
        }
        let Some(Adjust { adjustment, answer }) = last else {
            return;
        };
        let result = match camera.as_mut() {
            None => Err(Refused::Mode("the camera is down")),
            Some(camera) => camera.adjust(adjustment).map_err(|e| {
                log::error!("{}: {e}", self.name());
                Refused::Hardware("the camera refuses exposure or gain, the log says why")
            }),
        };
        if result.is_ok() || answer.is_none() {
            self.adjustment = adjustment;
        }
        // Whoever asked may have given up waiting.
        if let Some(answer) = answer {
            let _ = answer.try_send(result);
        }
    }

    /// Opens the camera, with exposure time and gain as they are to be.
    fn opened(&mut self) -> Result<Box<dyn Camera>, CaptureError> {
        let (open, adjustment) = (&mut self.open.open, self.adjustment);
        // Opening takes time; the station is blind meanwhile, and knows it.
        self.sign.excused(|| {
            let mut camera = open()?;
            camera.adjust(adjustment)?;
            Ok(camera)
        })
    }

    fn name(&self) -> &'static str {
        NAMES[self.view.index()]
    }

    fn tell(&mut self, message: Message) -> Result<(), Gone> {
        self.sign.beat();
        self.messages.send(message).map_err(|_| Gone)
    }

    /// Reports an exposure of which there is no picture, and why.
    fn blank(&mut self, exposed: Micros, cause: Cause) -> Result<(), Gone> {
        self.tell(Message::Frame(Frame {
            id: NO_PICTURE,
            view: self.view,
            exposed,
            flaw: Some(cause),
        }))
    }

    /// Reports an exposure that found no free place, because all of them wait for the network; the first time,
    /// logs it.
    fn overloaded(&mut self, exposed: Micros, logged: &mut bool) -> Result<(), Gone> {
        if !std::mem::replace(logged, true) {
            log::warn!(
                "the network is slower than the line: frames find no place and their parts are rejected; fewer \
                 parts per second, or see --threads and --parallel"
            );
        }
        self.blank(exposed, Cause::Overload)
    }

    /// Puts what is known of an exposure beside its picture. Returns why it cannot be judged, if so.
    fn fill(&self, slot: &mut Place, exposure: Exposure, watchman: &mut Watchman) -> Option<Cause> {
        slot.name = exposure.name;
        slot.defective = exposure.defective;
        slot.error = None;
        slot.whole = exposure.whole;
        if !exposure.whole {
            slot.error = Some("the frame is damaged".into());
            return Some(Cause::CameraFault);
        }
        let (cause, error) = self.shared.frames[self.view.index()].flaw(&slot.image, watchman)?;
        slot.error = Some(error);
        Some(cause)
    }

    /// Waits until the station inspects, and a pulse width longer: a part that is triggered earlier may
    /// overlap what was missed before, and would be rejected with it.
    fn ready(&self) {
        let start = Instant::now();
        let mut logged = false;
        while !self.shared.stopping() {
            let shown = self.shared.snapshot();
            if shown.outputs.ready {
                break;
            }
            self.sign.beat();
            std::thread::sleep(Duration::from_millis(1));
            if !logged && shown.mode != Mode::Starting && start.elapsed() > PATIENCE {
                logged = true;
                log::warn!(
                    "the line is stopped; alarms to acknowledge: {}",
                    shown.alarms
                );
            }
        }
        let width = self.shared.settings().width.get();
        self.rest(Instant::now() + Duration::from_millis(u64::from(width) + 2));
    }

    /// Sleeps until then, with signs of life.
    fn rest(&self, until: Instant) {
        while !self.shared.stopping() && Instant::now() < until {
            self.sign.beat();
            std::thread::sleep(until.saturating_duration_since(Instant::now()).min(LOOK));
        }
    }

    /// Serves a camera that exposes when it is asked to.
    fn simulated(&mut self) -> Result<(), Gone> {
        let mut camera = match self.opened() {
            Ok(camera) => camera,
            Err(e) => {
                log::error!("{e}");
                return self.tell(Message::Camera {
                    view: self.view,
                    up: false,
                    halted: true,
                });
            }
        };
        self.tell(Message::Start(self.view))?;
        self.ready();
        let start = Instant::now();
        let (mut taken, mut up, mut last) = (0, true, None);
        let (mut watchman, mut overload_logged) = (Watchman::default(), false);
        while self.limit.is_none_or(|limit| taken < limit) && !self.shared.stopping() {
            self.sign.beat();
            self.adjust(Some(&mut camera));
            let trigger = self.shared.settings().trigger;
            let triggered = if matches!(trigger, Trigger::FreeRun) {
                while self.triggers.try_recv().is_some() {}
                match (self.exposing, last) {
                    (Exposing::Every(period), _) => {
                        let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
                        self.rest(start + Duration::from_nanos(period.saturating_mul(taken)));
                    }
                    // Parts of a belt that waits for verdicts lie further apart than a pulse is long: a
                    // reject takes none of its neighbours along.
                    (Exposing::OneByOne, Some(last)) => {
                        let width = self.shared.settings().width.get();
                        self.rest(last + Duration::from_millis(u64::from(width) + 2));
                    }
                    (Exposing::OneByOne, None) => (),
                }
                None
            } else {
                match self.triggers.recv_timeout(LOOK) {
                    Ok(at) => Some(at),
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return Err(Gone),
                }
            };
            // Who waits for verdicts has a place soon; a belt waits for nobody.
            let waits = triggered.is_none() && matches!(self.exposing, Exposing::OneByOne);
            let place = self.free.take(if waits { LOOK } else { Duration::ZERO });
            if place.is_err() && waits {
                continue;
            }
            let exposed = triggered.map(|at| at.plus(trigger.exposure_delay_us()));
            taken += 1;
            last = Some(Instant::now());
            match place {
                Ok(place) => {
                    if !self.expose(camera.as_mut(), place, exposed, (&mut up, &mut watchman))? {
                        return Ok(());
                    }
                }
                // The belt does not wait: this part passes without a picture.
                Err(_) => {
                    if let Err(CaptureError::End) = camera.capture(&mut RgbImage::default(), LOOK) {
                        return Ok(());
                    }
                    self.overloaded(exposed.unwrap_or_else(now), &mut overload_logged)?;
                }
            }
        }
        Ok(())
    }

    /// Takes one picture into a place, and returns whether there was one. Reports when the camera goes down, and
    /// when it is `up` again: it comes back by itself.
    fn expose(
        &mut self,
        camera: &mut dyn Camera,
        place: FrameId,
        exposed: Option<Micros>,
        (up, watchman): (&mut bool, &mut Watchman),
    ) -> Result<bool, Gone> {
        let places = self.places.clone();
        let mut slot = places.at(place);
        let result = camera.capture(&mut slot.image, LOOK);
        let works = !matches!(&result, Err(e) if e.needs_reopening());
        if works != std::mem::replace(up, works) {
            let halted = false;
            let (view, up) = (self.view, works);
            self.tell(Message::Camera { view, up, halted })?;
        }
        let (taken, flaw) = match result {
            Ok(exposure) => {
                let at = exposed.unwrap_or(Micros(exposure.at_us));
                (at, self.fill(&mut slot, exposure, watchman))
            }
            Err(CaptureError::End) => return Ok(false),
            Err(e) => {
                slot.name = e
                    .path()
                    .map(|p| p.display().to_string())
                    .unwrap_or_default();
                slot.defective = None;
                slot.whole = false;
                slot.error = Some(e.to_string());
                (exposed.unwrap_or_else(now), Some(Cause::CameraFault))
            }
        };
        drop(slot);
        let frame = Frame {
            id: place,
            view: self.view,
            exposed: taken,
            flaw,
        };
        self.tell(Message::Frame(frame)).map(|()| true)
    }

    fn down(&mut self, halted: bool) -> Result<(), Gone> {
        let (view, up) = (self.view, false);
        self.tell(Message::Camera { view, up, halted })
    }

    /// Serves a camera that exposes by itself. While it is down every part is rejected, and it is opened again
    /// when its [`Watch`] says so.
    fn live(&mut self) -> Result<(), Gone> {
        let mut camera = None;
        let mut trigger = self.shared.settings().trigger;
        let mut watch = Watch::new(pace(&trigger, None), now().0);
        match self.opened() {
            Ok(opened) => {
                watch = Watch::new(pace(&trigger, opened.frame_time()), now().0);
                camera = Some(opened);
            }
            Err(e) => {
                log::error!("{}: {e}", self.name());
                watch.failed(now().0);
                self.down(false)?;
            }
        }
        let (mut up, mut halted) = (false, false);
        let mut started = false;
        let mut spare = RgbImage::default();
        let (mut taken, mut last) = (0u64, None);
        let (mut watchman, mut overload_logged) = (Watchman::default(), false);
        while self.limit.is_none_or(|limit| taken < limit) && !self.shared.stopping() {
            self.sign.beat();
            self.adjust(camera.as_mut());
            let set_to = self.shared.settings().trigger;
            if set_to != trigger && !watch.is_blind() {
                trigger = set_to;
                let frame_time = camera.as_ref().and_then(|c| c.frame_time());
                watch = Watch::new(pace(&trigger, frame_time), now().0);
            }
            while let Some(at) = self.triggers.try_recv() {
                watch.triggered(at.0);
            }
            if self.shared.retries(self.view) {
                watch.try_again();
            }
            let step = watch.step(now().0);
            if watch.is_blind() && (up || halted != (step == Step::Halted)) {
                up = false;
                halted = step == Step::Halted;
                match halted {
                    true => log::error!(
                        "{}: lost for too long or too often, it stays down until ACK (or the input `reset`)",
                        self.name()
                    ),
                    false => log::error!("{}: down; every part is rejected", self.name()),
                }
                self.down(halted)?;
            }
            match step {
                Step::Capture { .. } => (),
                Step::Wait { until_us } => {
                    let wait = Duration::from_micros(until_us.saturating_sub(now().0));
                    std::thread::sleep(wait.min(LOOK));
                    continue;
                }
                Step::Halted => {
                    std::thread::sleep(LOOK);
                    continue;
                }
                Step::Reopen => {
                    let opened = match camera.as_mut() {
                        Some(camera) => self.sign.excused(|| camera.reopen()),
                        None => self.opened().map(|opened| camera = Some(opened)),
                    };
                    match opened {
                        Ok(()) => watch.opened(now().0),
                        Err(e) => {
                            log::error!("{}: {e}", self.name());
                            watch.failed(now().0);
                        }
                    }
                    continue;
                }
            }
            // The station's own clock makes parts only once it has started. A camera that their strobe exposes would
            // wait for ever, and the station for it.
            let own_clock = matches!(trigger, Trigger::Interval(_));
            if !started && own_clock && watch.is_settled(now().0) {
                started = true;
                self.tell(Message::Start(self.view))?;
            }
            let Some(open) = camera.as_mut() else {
                continue;
            };
            let place = self.free.take(Duration::ZERO).ok();
            let result = match place {
                Some(place) => open.capture(&mut self.places.at(place).image, LOOK),
                None => open.capture(&mut spare, LOOK),
            };
            let exposure = match result {
                Ok(exposure) => exposure,
                Err(e) => {
                    if let Some(place) = place {
                        self.free.put(place);
                    }
                    match e {
                        CaptureError::Timeout(_) => (),
                        CaptureError::End => return Ok(()),
                        e if e.needs_reopening() => {
                            log::error!("{}: {e}", self.name());
                            watch.failed(now().0);
                        }
                        // There was an exposure, and it cannot be used.
                        e => {
                            log::warn!("{}: {e}", self.name());
                            watch.exposure(now().0);
                            self.blank(now(), Cause::CameraFault)?;
                        }
                    }
                    continue;
                }
            };
            watch.exposure(now().0);
            taken += 1;
            if !up {
                up = true;
                self.tell(Message::Camera {
                    view: self.view,
                    up: true,
                    halted: false,
                })?;
            }
            if !started {
                started = true;
                self.tell(Message::Start(self.view))?;
            }
            let at = Micros(exposure.at_us);
            if matches!(trigger, Trigger::FreeRun) {
                self.gap(exposure.missed, last, at)?;
            }
            last = Some(at);
            match place {
                Some(id) => {
                    let places = self.places.clone();
                    let flaw = self.fill(&mut places.at(id), exposure, &mut watchman);
                    let exposed = at;
                    let view = self.view;
                    self.tell(Message::Frame(Frame {
                        id,
                        view,
                        exposed,
                        flaw,
                    }))?;
                }
                None => self.overloaded(at, &mut overload_logged)?,
            }
        }
        Ok(())
    }

    /// Reports exposures that the driver dropped between the last frame and this one: parts that nobody looked at.
    fn gap(&mut self, missed: u64, last: Option<Micros>, at: Micros) -> Result<(), Gone> {
        if missed > MISSED {
            for up in [false, true] {
                let (view, halted) = (self.view, false);
                self.tell(Message::Camera { view, up, halted })?;
            }
            return Ok(());
        }
        let from = last.unwrap_or(at);
        for i in 1..=missed {
            self.blank(
                from.plus(at.since(from) * i / (missed + 1)),
                Cause::CameraFault,
            )?;
        }
        Ok(())
    }
}

/// How long the camera may be silent before it counts as stalled.
fn pace(trigger: &Trigger, frame_time: Option<Duration>) -> Pace {
    let us = |time: Duration| time.as_micros() as u64;
    match trigger.exposure_window_us() {
        None => Pace::FreeRunning {
            frame_time_us: frame_time.map(us),
        },
        Some(window) => Pace::Triggered {
            answer_us: window + us(TRANSFER),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{FaultInjector, FaultPlan, PatternCamera};
    use crate::control::table::Parameter;
    use crate::control::values::Values;
    use crate::line::{AlarmSet, Statistics};
    use crate::runtime::adjust::CameraLane;
    use crate::runtime::mailbox::Post;
    use crate::runtime::message::FLOW;
    use crate::runtime::places::GiveBack;

    /// The thread of a camera that exposes by itself, under these parameters; its messages, and what it needs of others.
    fn live(
        open: impl FnMut() -> Result<Box<dyn Camera>, CaptureError> + Send + 'static,
        parameters: &[(&str, &str)],
        limit: Option<u64>,
    ) -> (CameraThread, Mailbox<Message>, (Post<Micros>, GiveBack)) {
        let mut values = Values::default();
        for (name, value) in parameters {
            let parameter = Parameter::named(name).unwrap();
            let value = parameter.entry().parse(value).unwrap();
            values.set(parameter, value).unwrap();
        }
        let settings = values.settings().unwrap();
        let nothing = (Statistics::default(), AlarmSet::NONE);
        let shared = Arc::new(Shared::new(&settings, nothing.0, nothing.1));
        let mut received = Mailbox::default();
        let mut triggers = Mailbox::default();
        let expose = triggers.lane(8);
        let (places, mut free) = Places::new(1, 32);
        let giver = free.giver();
        let free = free.by_camera().remove(0);
        let (_camera, adjusts) = CameraLane::new(Adjustment::default());
        let thread = CameraThread {
            view: View::FIRST,
            open: Open {
                open: Box::new(open),
                live: true,
            },
            exposing: Exposing::OneByOne,
            triggers,
            adjustment: Adjustment::default(),
            adjusts,
            limit,
            places,
            free,
            messages: received.lane(FLOW),
            sign: Sign::default(),
            shared,
        };
        (thread, received, (expose, giver))
    }

    /// Runs a camera with these faults; returns what it reports of this many exposures.
    fn reported(plan: &str, limit: u64) -> Vec<Message> {
        let plan: FaultPlan = plan.parse().unwrap();
        let open = move || -> Result<Box<dyn Camera>, CaptureError> {
            let pattern = Box::new(PatternCamera::new(1)) as Box<dyn Camera>;
            Ok(Box::new(FaultInjector::new(pattern, plan.clone())))
        };
        let (thread, mut received, _others) = live(open, &[], Some(limit));
        thread.run();
        std::iter::from_fn(|| received.try_recv()).collect()
    }

    /// A camera in hardware that the station's own strobe exposes: without a trigger it shows nothing.
    struct Strobed;

    impl Camera for Strobed {
        fn capture(&mut self, _: &mut RgbImage, wait: Duration) -> Result<Exposure, CaptureError> {
            std::thread::sleep(wait);
            Err(CaptureError::Timeout(wait))
        }

        fn reopen(&mut self) -> Result<(), CaptureError> {
            Ok(())
        }
    }

    /// The interval runs only once the station has started, and without it there is no strobe: whoever waits for the
    /// first frame waits for ever.
    #[test]
    fn a_camera_that_the_stations_own_strobe_exposes_starts_the_interval() {
        let interval = [("trigger_source", "interval")];
        let open = || -> Result<Box<dyn Camera>, CaptureError> { Ok(Box::new(Strobed)) };
        let (thread, mut received, _others) = live(open, &interval, None);
        let shared = thread.shared.clone();
        let since = Instant::now();
        let runs = std::thread::spawn(|| thread.run());
        let first = received.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(matches!(first, Message::Start(_)));
        // One that exposes by itself has shown something by then.
        assert!(since.elapsed() > Duration::from_millis(1900));
        shared.stop.store(true, Ordering::Relaxed);
        runs.join().unwrap();
    }

    fn frames(messages: &[Message], blank: bool) -> usize {
        let of = |m: &&Message| matches!(m, Message::Frame(f) if (f.id == NO_PICTURE) == blank);
        messages.iter().filter(of).count()
    }

    /// In free run every exposure is a part: one that the driver dropped shows one that nobody looked at.
    #[test]
    fn exposures_that_a_free_running_camera_dropped_are_reported_as_parts_without_a_picture() {
        let all = reported("late@99:1ms", 6);
        assert_eq!((frames(&all, false), frames(&all, true)), (6, 0));
        let some = reported("drop@3,drop@4", 6);
        assert_eq!((frames(&some, false), frames(&some, true)), (6, 2));
        // In the order of their times, before the next one that is whole.
        let times: Vec<u64> = some
            .iter()
            .filter_map(|m| match m {
                Message::Frame(frame) => Some(frame.exposed.0),
                _ => None,
            })
            .collect();
        assert!(times.is_sorted(), "{times:?}");
    }
}

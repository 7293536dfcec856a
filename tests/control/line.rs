//! A real station on a simulated line: control's host in these tests. Time goes on only when parts pass.

use faprompt_edge::control::host::{GoodParts, Lesson, LessonState, Lost, Teach, TeachSettings};
use faprompt_edge::control::values::{Values, alarms};
use faprompt_edge::control::{
    ControlledStation, Effect, Judging, Mode, NetworkLabel, Order, Parameter, PartResult,
    Preparing, Refused, SelfTest, Snapshot, Wanted,
};
use faprompt_edge::line::{
    AlarmSet, ChallengeError, DefectType, Event, Frame, FrameId, Input, Lane, Micros, NetworkState,
    Observer, Outcome, PartId, Settings, Sorting, Station, Statistics, Trigger, Verdict, View,
};
use faprompt_edge::memory::course::{Course, Edit, Sample};
use faprompt_edge::memory::region::Regions;
use faprompt_edge::memory::{Fusion, Kind, Layout, Settings as Taught, ZeroShot};
use faprompt_edge::tiling::Tiling;
use std::collections::VecDeque;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

#[derive(Debug, Default)]
struct Events {
    paired: Vec<PartId>,
    outcomes: Vec<(PartId, Outcome, Option<Lane>)>,
}

impl Observer for Events {
    fn event(&mut self, _: Micros, event: Event) {
        match event {
            Event::Paired { part, .. } => self.paired.push(part),
            Event::Outcome {
                part,
                outcome,
                lane,
            } => self.outcomes.push((part, outcome, lane)),
            _ => (),
        }
    }
}

#[derive(Debug)]
pub struct Line {
    /// `None` only within a change of settings.
    station: Option<Station<Events>>,
    settings: Settings,
    now: u64,
    frames: u64,
    judged: Vec<(PartId, f32, DefectType)>,
    /// Latched before the station was made.
    latched: AlarmSet,
    disarmed: bool,
    results: VecDeque<PartResult>,
    last: Option<PartResult>,
    self_test: SelfTest,
    /// What control says of its memory.
    pub fault: bool,
    pub effects: Vec<Effect>,
    pub reboots: u32,
    /// The next change of settings is refused.
    pub refuse: bool,
    /// The lesson that is going on, as long as it takes parts, and why its last change was refused.
    lesson: Option<(Course, bool, Option<String>)>,
    /// What was taught and is in force.
    taught: Option<(String, Arc<[u8]>)>,
    /// The next change of settings is ready when whoever holds this says so.
    pub slow: Option<Slow>,
}

/// What a change that is being made ready waits for.
pub type Slow = Arc<Mutex<Option<(SyncSender<Result<Wanted, Refused>>, Wanted)>>>;

/// What the simulated encoder sees.
const PLACES: Layout = Layout {
    grid: 2,
    tiles: Tiling::WHOLE,
    dim: 4,
};

/// A part that looks the farther from good the larger its score is.
fn sample(part: u64, score: f32) -> Sample {
    let noise = |i: u64| ((part * 31 + i * 17) % 23) as f32 / 200.0;
    let place = |i: u64| (i % 4) as f32 + noise(i) + if i < 4 { 2.0 * score } else { 0.0 };
    Sample {
        name: part.to_string(),
        descriptors: (0..16).map(place).collect(),
        zero_shot: ZeroShot {
            score,
            highest: score,
        },
        groups: vec![score],
        light: None,
    }
}

/// From one part to the next; from a trigger to its exposure and its verdict; us.
const PART: u64 = 3_000_000;
const EXPOSURE: u64 = 1000;
const JUDGING: u64 = 12_500;

impl Line {
    pub fn new(values: &Values, statistics: Statistics, latched: AlarmSet) -> Self {
        let settings = values.settings().expect("valid settings");
        let mut line = Line {
            station: Some(Station::new(settings, statistics, Events::default())),
            settings,
            now: 0,
            frames: 0,
            judged: Vec::new(),
            latched,
            disarmed: false,
            results: VecDeque::new(),
            last: None,
            self_test: SelfTest::None,
            fault: false,
            effects: Vec::new(),
            reboots: 0,
            refuse: false,
            lesson: None,
            taught: None,
            slow: None,
        };
        let now = Micros(line.now);
        line.station().start(now);
        if !latched.is_empty() {
            line.station().stop(now);
        }
        line.run(PART);
        line
    }

    fn station(&mut self) -> &mut Station<Events> {
        self.station.as_mut().expect("a station")
    }

    /// Lets time go on.
    pub fn run(&mut self, us: u64) {
        let end = self.now + us;
        loop {
            let now = Micros(self.now);
            let wake = self.station().tick(now);
            self.collect();
            match wake {
                Some(wake) if wake.0 <= end => self.now = wake.0,
                _ => break,
            }
        }
        self.now = end;
        let now = Micros(self.now);
        self.station().tick(now);
        self.collect();
    }

    fn collect(&mut self) {
        let outcomes = std::mem::take(&mut self.station().observer().outcomes);
        for (part, outcome, lane) in outcomes {
            let score = self
                .judged
                .iter()
                .find(|(p, _, _)| *p == part)
                .map(|(_, s, t)| (*s, *t));
            let defect = match outcome {
                Outcome::Reject => score.map(|(_, defect)| defect),
                _ => None,
            };
            let score = score.map(|(score, _)| score);
            let result = PartResult {
                part,
                outcome,
                score,
                view: View::FIRST,
                opinions: None,
                latency_us: score.map(|_| JUDGING),
                defect: defect.unwrap_or_default(),
                share: matches!(defect, Some(DefectType::Number(_))).then_some(0.75),
                lane,
            };
            self.last = Some(result);
            self.results.push_back(result);
        }
    }

    /// One part passes: trigger (if its source is outside), frame, verdict, reject station.
    pub fn part(&mut self, score: f32) {
        self.sorted(score, Sorting::default());
    }

    /// The same with a verdict that sorts.
    pub fn sorted(&mut self, score: f32, sorting: Sorting) {
        let triggered = self.now;
        let now = Micros(triggered);
        if let Trigger::Edge { .. } | Trigger::Command { .. } = self.settings.trigger {
            self.station().on_trigger(now, now);
            self.run(EXPOSURE);
        }
        let exposed = self.now;
        let frame = Frame {
            id: FrameId(self.frames),
            view: View::FIRST,
            exposed: Micros(exposed),
            flaw: None,
        };
        self.frames += 1;
        let now = Micros(self.now);
        self.station().on_frame(frame, now);
        let paired = std::mem::take(&mut self.station().observer().paired);
        self.run(triggered + JUDGING - self.now);
        let now = Micros(self.now);
        for part in paired {
            self.judged.push((part, score, sorting.defect));
            if let Some((course, taking, problem)) = &mut self.lesson
                && *taking
            {
                course.part(&sample(part.0, score)).expect("a part");
                if course.taken() == course.wanted() {
                    *problem = course.finish().err().map(|e| e.to_string());
                    *taking = false;
                }
            }
            let verdict = Verdict::Sorted(score, sorting);
            self.station().on_verdict(part, View::FIRST, verdict, now);
        }
        self.run(PART);
    }

    pub fn bin_full(&mut self, full: bool) {
        let now = Micros(self.now);
        self.station().on_input(Input::BinFull, full, now, now);
        self.run(5_000_000);
    }

    pub fn statistics(&mut self) -> Statistics {
        *self.station().statistics()
    }

    fn alarms(&mut self) -> AlarmSet {
        alarms(self.station().alarms().bits() | self.latched.bits())
    }
}

impl ControlledStation for Line {
    type Loadout = Wanted;

    fn snapshot(&mut self) -> Snapshot {
        let mut outputs = self.station().outputs();
        let alarms = self.alarms();
        outputs.fault |= self.fault || !alarms.is_empty();
        let mode = match (self.disarmed, outputs.line_stop) {
            (true, _) => Mode::Disarmed,
            (false, true) => Mode::Stopped,
            (false, false) => Mode::Running,
        };
        Snapshot {
            now: Micros(self.now),
            mode,
            outputs,
            alarms,
            alarm_history: Default::default(),
            statistics: self.statistics(),
            challenge: self.station().challenge_report(),
            last: self.last,
            cameras: 1,
            down: Default::default(),
            self_test: self.self_test,
            lost: Lost::default(),
        }
    }

    fn order(&mut self, order: Order) -> Result<(), Refused> {
        let now = Micros(self.now);
        match order {
            Order::Trigger => self.part(0.25),
            Order::Arm | Order::Reset => {
                if order == Order::Reset {
                    self.latched = AlarmSet::NONE;
                }
                self.disarmed &= order == Order::Reset;
                self.station().reset(now);
                if self.disarmed {
                    // A reset does not arm what an order disarmed.
                    self.station().stop(now);
                }
                self.run(PART);
            }
            Order::Disarm => {
                self.disarmed = true;
                self.station().stop(now);
            }
            Order::Challenge(pieces) => {
                self.station().challenge(pieces, now).map_err(|e| match e {
                    ChallengeError::NotReady => Refused::Mode("the station is not ready"),
                    ChallengeError::Running => Refused::Busy("a challenge is running"),
                })?;
            }
            Order::ResetCounters => {
                let next_part = self.statistics().next_part;
                let zero = Statistics {
                    next_part,
                    ..Statistics::default()
                };
                self.renew(zero);
            }
            Order::SelfTest => self.self_test = SelfTest::Passed,
            Order::Reboot => self.reboots += 1,
        }
        Ok(())
    }

    fn judging(&mut self) -> Arc<Judging> {
        let taught = self.taught.as_ref().map(|(name, bytes)| {
            let taught = faprompt_edge::memory::Taught::from_bytes(bytes).expect("whole");
            GoodParts {
                name: name.clone(),
                parts: taught.about().told.len(),
                kind: taught.about().kind.name(),
                bound_per_mille: None,
            }
        });
        Arc::new(Judging {
            generation: self.effects.len() as u32,
            state: Some(NetworkState::Stored),
            network: Some(Arc::new(NetworkLabel {
                types: vec!["scratch".into(), "faulty imprint".into()],
                taught,
                ..NetworkLabel::default()
            })),
        })
    }

    fn teach(&mut self, order: Teach<'_>, how: TeachSettings) -> Result<(), Refused> {
        let before = self
            .taught
            .as_ref()
            .map(|(_, bytes)| faprompt_edge::memory::Taught::from_bytes(bytes).expect("whole"));
        let settings = Taught {
            kind: Some(Kind::Position),
            fusion: Fusion::default(),
            false_rejects: how.false_rejects,
            regions: Regions::default(),
            views: how.views,
        };
        let goes_on = (how.false_rejects, how.views);
        let nothing = Refused::Mode("nothing was taught yet: TEACH n");
        let judged = self.judged.clone();
        let find = |part: Option<u64>| {
            let mut all = judged.iter().rev();
            let found = all.find(|(p, ..)| part.is_none_or(|wanted| p.0 == wanted));
            let found = found.ok_or(Refused::NoSuchPart("no such part is remembered"))?;
            Ok(sample(found.0.0, found.1))
        };
        let edit = match order {
            Teach::Begin(parts) => {
                let bound = ("encoder", "f32");
                let before = before.as_ref();
                let course = Course::begin(PLACES, settings, bound, parts as usize, before);
                self.lesson = Some((course.expect("a lesson"), true, None));
                return Ok(());
            }
            Teach::Add(parts) => {
                let course = Course::resume(before.ok_or(nothing)?, goes_on, parts as usize);
                self.lesson = Some((course.expect("a lesson"), true, None));
                return Ok(());
            }
            Teach::End => {
                self.lesson = None;
                return Ok(());
            }
            Teach::Forget(name) => Edit::Forget(name.into()),
            Teach::Good(part) => Edit::Good(find(part)?),
            Teach::Bad(part) => Edit::Bad(find(part)?),
        };
        if self.lesson.is_none() {
            let course = Course::resume(before.ok_or(nothing)?, goes_on, 0);
            self.lesson = Some((course.expect("a lesson"), false, None));
        }
        let (course, _, problem) = self.lesson.as_mut().expect("a lesson");
        *problem = course.edit(edit).err().map(|e| e.to_string());
        Ok(())
    }

    fn resume_lesson(&mut self, lesson: Arc<[u8]>, how: TeachSettings) -> Result<(), Refused> {
        let whole = |bytes: &[u8]| faprompt_edge::memory::Taught::from_bytes(bytes).expect("whole");
        let before = self.taught.as_ref().map(|(_, bytes)| whole(bytes));
        let course = Course::waiting(
            whole(&lesson),
            (how.false_rejects, how.views),
            before.as_ref(),
        );
        self.lesson = Some((course.expect("a lesson"), false, None));
        Ok(())
    }

    fn lesson(&mut self) -> Option<Lesson> {
        let (course, taking, problem) = self.lesson.as_mut()?;
        let result = course.result().ok();
        Some(Lesson {
            state: if *taking {
                LessonState::Running
            } else {
                LessonState::Done
            },
            parts: course.taken(),
            wanted: course.wanted(),
            result: result.map(|(report, bytes)| (Arc::new(report), bytes)),
            problem: problem.clone(),
        })
    }

    fn prepare(&mut self, wanted: &Wanted) -> Preparing<Wanted> {
        if std::mem::take(&mut self.refuse) {
            return Preparing::ready(Err(Refused::Hardware("the camera refuses")));
        }
        match self.slow.take() {
            None => Preparing::ready(Ok(wanted.clone())),
            Some(result) => {
                let (done, awaited) = sync_channel(1);
                *result.lock().unwrap() = Some((done, wanted.clone()));
                Preparing::awaited(awaited)
            }
        }
    }

    fn types(&mut self, _: &Wanted) -> Option<Vec<String>> {
        self.judging().network.as_ref().map(|n| n.types.clone())
    }

    fn swap(&mut self, wanted: Wanted) {
        let name = wanted.values.text(Parameter::Taught).to_string();
        match wanted.taught {
            Some(bytes) => self.taught = Some((name, bytes)),
            None if name.is_empty() => self.taught = None,
            None => (),
        }
        self.effects.push(wanted.effect);
        self.settings = wanted.settings;
        let statistics = self.statistics();
        self.renew(statistics);
    }

    fn no_network(&mut self) {}

    fn fault(&mut self, on: bool) {
        self.fault = on;
    }

    fn next_result(&mut self) -> Option<PartResult> {
        self.results.pop_front()
    }
}

impl Line {
    fn renew(&mut self, statistics: Statistics) {
        self.latched = self.alarms();
        let stopped = self.station().outputs().line_stop;
        let now = Micros(self.now);
        let old = self.station.take().expect("a station");
        let (_, events) = old.finish(now);
        let mut station = Station::new(self.settings, statistics, events);
        station.start(now);
        if stopped {
            station.stop(now);
        }
        self.station = Some(station);
        self.run(PART);
    }
}

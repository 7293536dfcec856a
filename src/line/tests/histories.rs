//! All rules at once over random histories: triggers, frames and verdicts in and out of order, on time,
//! late, missing and twice; camera faults, stops, resets, inputs, a jittering encoder, a queue too small.
//!
//! Histories are made here; what must come of them is worked out in `oracle`.

use super::oracle::{FrameReport, Oracle, VerdictRecord};
use super::rules::{pairing, settings, to_reject};
use super::simulation::Simulation;
use crate::line::settings::*;
use crate::line::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::BTreeMap;

/// An encoder gives about 10 counts per millisecond and is reported every 2 ms.
const DELAY_COUNTS: u32 = 500;
const LEAD_COUNTS: u32 = 50;
const PITCH: u32 = 80;

/// Something that is done to the station at a time of its own.
#[derive(Clone, Copy, Debug)]
enum Act {
    Trigger {
        at: u64,
    },
    Frame {
        view: View,
        exposed: u64,
        whole: bool,
        verdict: u32,
    },
    Verdict {
        frame: u64,
        score: u32,
    },
    /// Of any part, or none.
    Stray {
        view: View,
        part: u64,
    },
    Input(Input, bool),
    Camera(View, bool),
    Start,
    Stop,
    Reset,
    Challenge,
    Encoder,
    Tick,
    /// Other settings: how the ejector is wired, the delay, the threshold.
    Renew(u32),
    /// Another threshold alone.
    Threshold(u32),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    FreeRun,
    Interval,
    Edge,
    Encoder,
}

/// A station and what is done to it.
struct History<const N: usize> {
    cameras: usize,
    line: Simulation<N>,
    source: Source,
    counts: bool,
    agenda: BTreeMap<(u64, u32), Act>,
    serial: u32,
    random: u64,
    speed: u64,
    /// Events that were looked at.
    seen: usize,
    stop_input: bool,
    /// Settings change.
    renews: bool,
    oracle: Oracle,
}

/// Most are good. Some come with a type, its lane and perhaps a threshold.
fn score(of: u32) -> Verdict {
    let score = match of % 16 {
        0..10 => 0.2,
        10..14 => 0.8,
        14 => f32::NAN,
        _ => return Verdict::Error,
    };
    let more = of >> 5;
    if more.is_multiple_of(3) {
        return Verdict::Score(score);
    }
    let sorting = Sorting {
        defect: DefectType::Number((more % 5) as u8),
        threshold: match more % 7 {
            0 => Threshold::new(0.1).ok(),
            1 => Threshold::new(0.9).ok(),
            _ => None,
        },
        lane: Lane::new(more % 4).ok(),
    };
    Verdict::Sorted(score, sorting)
}

impl<const N: usize> History<N> {
    fn new(setup: u32) -> Self {
        Self::with_cameras(1, setup)
    }

    /// Several cameras need a trigger, and have thresholds of their own.
    fn with_cameras(cameras: usize, setup: u32) -> Self {
        let source = match setup % 8 {
            0 if cameras == 1 => Source::FreeRun,
            1 => Source::Interval,
            2 | 3 => Source::Encoder,
            _ => Source::Edge,
        };
        let counts = setup & 8 != 0;
        let mut settings = settings();
        if setup & 512 != 0 {
            settings.further_thresholds[0] = Threshold::new(0.1).unwrap();
        }
        settings.trigger = match source {
            Source::FreeRun => Trigger::FreeRun,
            Source::Interval => Trigger::Interval(Interval::new(8, pairing()).unwrap()),
            Source::Edge => settings.trigger,
            Source::Encoder => Trigger::Encoder {
                pitch: Pitch::new(PITCH).unwrap(),
                pairing: pairing(),
            },
        };
        if counts {
            settings.delay = RejectDelay::counts(DELAY_COUNTS, LEAD_COUNTS).unwrap();
        }
        if setup & 16 != 0 {
            settings.wiring = to_reject();
        }
        settings.default_lane = Lane::new((setup >> 7) % 3).ok();
        if setup & 96 == 96 {
            settings.alarms = AlarmSettings {
                rate: Some(RejectRate::new(10, 50).unwrap()),
                latency: Some(LatencyLimit::new(60).unwrap()),
                ..AlarmSettings::default()
            };
        }
        History {
            cameras,
            line: Simulation::with_cameras(cameras, settings),
            source,
            counts,
            agenda: BTreeMap::new(),
            serial: 0,
            random: u64::from(setup) | 1,
            speed: 20,
            seen: 0,
            stop_input: false,
            renews: false,
            oracle: Oracle::new(cameras, source == Source::FreeRun, counts, settings),
        }
    }

    fn plan(&mut self, time: u64, act: Act) {
        // Nothing else happens when the encoder is reported, so that it is certain where the belt was.
        let with_encoder = time % 2_000 == 1_000 && !matches!(act, Act::Encoder);
        let time = time + u64::from(with_encoder);
        // Nor when the settings change.
        let time = match act {
            Act::Renew(_) | Act::Threshold(_) => time / 2_000 * 2_000 + 1_999,
            _ if self.renews && time % 2_000 == 1_999 => time + 1,
            _ => time,
        };
        self.serial += 1;
        self.agenda.insert((time, self.serial), act);
    }

    /// Pictures and verdicts of a part triggered at `time`.
    fn story(&mut self, time: u64, r: u32) {
        for view in View::first(self.cameras) {
            let own = r ^ (view.index() as u32).wrapping_mul(2_654_435_761);
            self.story_of(view, time, own);
        }
    }

    /// What one camera makes of it.
    fn story_of(&mut self, view: View, time: u64, r: u32) {
        let exposed = match (r >> 8) % 16 {
            0 => return,
            1 => time + 1_000 + u64::from(r >> 12) % 6_000,
            _ => time + u64::from(r >> 12) % 2_001,
        };
        let reported = exposed + u64::from(r >> 16) % 4_000;
        let whole = !(r >> 4).is_multiple_of(16);
        let frame = Act::Frame {
            view,
            exposed,
            whole,
            verdict: r,
        };
        self.plan(reported, frame);
        if (r >> 6).is_multiple_of(32) {
            self.plan(reported + 10, frame);
        }
    }

    /// One step of the script: something happens at `time`.
    fn script(&mut self, time: u64, kind: u8, r: u32) {
        let from_outside = self.source == Source::Edge;
        let later = u64::from(r >> 10);
        match kind {
            0..60 if from_outside => {
                let delay = if r % 4 == 1 { later % 3_000 } else { 0 };
                self.plan(time + delay, Act::Trigger { at: time });
                self.story(time, r);
            }
            0..60 if self.source == Source::FreeRun => self.story(time, r | 0x200),
            60..63 if from_outside => {
                for at in [time, time + later % 500, time + later % 3_500] {
                    self.plan(at, Act::Trigger { at });
                    self.story(at, r.rotate_left(at as u32 % 7));
                }
            }
            63..66 => {
                let view = View::ALL[r as usize % self.cameras];
                self.plan(time, Act::Camera(view, false));
                self.plan(time + later % 40_000, Act::Camera(view, true));
            }
            66..68 => {
                self.plan(time, Act::Stop);
                self.plan(time + later % 60_000, Act::Reset);
            }
            68..72 => {
                let input = [Input::BinFull, Input::BinOpen, Input::LowAir, Input::Stop];
                let input = input[r as usize % 4];
                self.plan(time, Act::Input(input, true));
                self.plan(time + later % 6_000_000, Act::Input(input, false));
                self.plan(time + later % 100_000, Act::Input(Input::Reset, true));
                self.plan(time + later % 100_000 + 1, Act::Input(Input::Reset, false));
            }
            72..82 => {
                self.plan(time + 60_000, Act::Input(Input::RejectConfirm, true));
                self.plan(time + 60_500, Act::Input(Input::RejectConfirm, false));
            }
            82..86 => {
                let part = u64::from(r % 24);
                let view = View::ALL[later as usize % self.cameras];
                self.plan(time, Act::Stray { view, part });
            }
            86..88 => {
                let exposed = time + 5_000 - later % 10_000;
                let (whole, verdict) = (true, r);
                let view = View::ALL[r as usize % self.cameras];
                let stray = Act::Frame {
                    view,
                    exposed,
                    whole,
                    verdict,
                };
                self.plan(time, stray);
            }
            88 => self.plan(time, Act::Challenge),
            89..92 => self.plan(time, Act::Reset),
            92..94 => self.speed = 2 + u64::from(r % 3) * 15,
            // Only where settings change and inputs are stuck.
            100..104 => self.plan(time, Act::Renew(r)),
            104..106 => self.plan(time, Act::Threshold(r)),
            106..110 => {
                let inputs = [
                    Input::BinFull,
                    Input::LowAir,
                    Input::Stop,
                    Input::Reset,
                    Input::RejectConfirm,
                ];
                self.plan(time, Act::Input(inputs[r as usize % 5], true));
                self.plan(time + later % 90_000, Act::Reset);
            }
            _ => self.plan(time, Act::Tick),
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.random >> 33) % below
    }

    fn act(&mut self, time: u64, act: Act) {
        self.line.run_to(time);
        let time = self.line.now;
        match act {
            Act::Trigger { at } => {
                self.oracle.edges += 1;
                self.line.trigger(time, at);
            }
            Act::Frame {
                view,
                exposed,
                whole,
                verdict,
            } => {
                let flaw = (!whole).then_some(Cause::CameraFault);
                let frame = self.line.frame_of(view, time, exposed, flaw);
                self.oracle.frames.push(FrameReport {
                    reported: time,
                    view,
                    exposed,
                    whole,
                });
                let after = u64::from(verdict >> 3) % 64_000;
                if whole && after < 60_000 {
                    let slow = verdict % 8 == 0;
                    let time = time + if slow { after } else { after % 30_000 };
                    let score = verdict;
                    self.plan(time, Act::Verdict { frame, score });
                    if verdict % 29 == 0 {
                        let score = verdict / 29;
                        self.plan(time + 3, Act::Verdict { frame, score });
                    }
                }
            }
            Act::Verdict { frame, score: of } => {
                let record = &self.line.frames[&frame];
                if let (Some(part), view) = (record.part, record.view) {
                    self.judge(time, part, view, score(of));
                }
            }
            Act::Stray { view, part } => self.judge(time, part, view, Verdict::Score(0.2)),
            Act::Input(input, active) => {
                if input == Input::Stop {
                    self.stop_input = active;
                }
                self.line.input(time, input, active);
            }
            Act::Camera(view, up) => {
                self.line.at(time, |s, now| s.on_camera(view, up, now));
                self.oracle.camera(view, time, up);
            }
            Act::Start => {
                self.line.at(time, |s, now| s.start(now));
                self.oracle.started = time;
            }
            Act::Stop => {
                self.line.at(time, |s, now| s.stop(now));
                assert!(self.line.station.outputs().line_stop);
            }
            Act::Reset => self.line.at(time, |s, now| s.reset(now)),
            Act::Challenge => {
                let two = Pieces::new(2).unwrap();
                if self.line.at(time, |s, now| s.challenge(two, now)).is_ok() {
                    let first = self.line.station.statistics().next_part.0;
                    self.oracle.challenges.push((time, first));
                }
            }
            Act::Encoder => {
                let jitter = self.random(13);
                let furthest = self.oracle.counted.last().map(|c| c.1);
                let count = furthest.unwrap_or(1_000) + self.speed + jitter - 6;
                let furthest = furthest.unwrap_or(0).max(count);
                self.oracle.counted.push((time, furthest));
                self.line.at(time, |s, now| s.on_encoder(count, now));
            }
            Act::Tick => self.line.at(time, |_, _| ()),
            // One change at a time: what is between two is nobody's.
            Act::Renew(_) | Act::Threshold(_)
                if self.oracle.settings.last().is_some_and(|s| s.0 == time) => {}
            Act::Renew(r) => {
                let settings = self.other_settings(r);
                self.line.renew(time, settings);
                self.oracle.renewals.push(time);
                self.oracle.settings.push((time, settings));
            }
            Act::Threshold(r) => {
                let threshold = self.other_settings(r).threshold;
                self.line
                    .at(time, |s, _| s.set_threshold(View::FIRST, threshold));
                let settings = Settings {
                    threshold,
                    ..*self.oracle.settings_at(time)
                };
                self.oracle.settings.push((time, settings));
            }
        }
        let outputs = self.line.station.outputs();
        let sees = self.oracle.is_up() && time >= self.oracle.started && !self.stop_input;
        assert!(sees || !outputs.ready, "ready while blind");
        assert!(
            outputs.ready || !outputs.good && !outputs.result,
            "good while blind"
        );
    }

    /// Other settings on the same axis with the same trigger.
    fn other_settings(&self, r: u32) -> Settings {
        let mut settings = self.oracle.settings[0].1;
        let longer = r & 1 != 0;
        settings.delay = match (self.counts, longer) {
            (_, false) => settings.delay,
            (false, true) => RejectDelay::millis(80, 5).unwrap(),
            (true, true) => RejectDelay::counts(DELAY_COUNTS + 300, LEAD_COUNTS).unwrap(),
        };
        if r & 2 != 0 {
            settings.wiring = match settings.wiring {
                Wiring::EnergiseForGood { .. } => to_reject(),
                Wiring::EnergiseToReject { .. } => Wiring::default(),
            };
        }
        // Of scores 0.2 and 0.8.
        let thresholds = [0.5, 0.5, 0.1, 0.9];
        settings.threshold = Threshold::new(thresholds[(r >> 2) as usize % 4]).unwrap();
        settings
    }

    fn judge(&mut self, time: u64, part: u64, view: View, verdict: Verdict) {
        let used = self.line.verdict_of(view, time, part, verdict);
        let record = VerdictRecord {
            part,
            view,
            time,
            verdict,
            used,
        };
        self.oracle.verdicts.push(record);
    }

    /// Plays the script to its end and a little further, until every part has arrived.
    fn run(mut self, script: &[(u8, u32)]) {
        let mut time = 5_000;
        let late = script.len().is_multiple_of(5);
        self.plan(if late { 90_000 } else { 1 }, Act::Start);
        for (kind, r) in script {
            time += match kind {
                99 => 120_000,
                _ => u64::from(r >> 3) % 14_000,
            };
            self.script(time, *kind, *r);
        }
        let end = time + 200_000;
        if self.counts || self.source == Source::Encoder {
            (1_000..end)
                .step_by(2_000)
                .for_each(|t| self.plan(t, Act::Encoder));
        }
        while let Some(((time, _), act)) = self.agenda.pop_first() {
            if time > end {
                break;
            }
            self.act(time, act);
            self.give_pictures();
        }
        self.line.run_to(end);
        self.oracle.check(self.line);
    }

    /// Parts that the station triggered itself get their picture.
    fn give_pictures(&mut self) {
        let new: Vec<(u64, Event)> = self.line.events()[self.seen..].to_vec();
        self.seen += new.len();
        for (_, event) in new {
            if let Event::Triggered { part, at, .. } = event
                && matches!(self.source, Source::Interval | Source::Encoder)
            {
                let r = (part.0 as u32 + 7).wrapping_mul(2_654_435_761) ^ self.random as u32;
                self.story(at.0, r);
            }
        }
    }
}

/// 60,000 histories per property, the same ones every time.
fn config(seed: u64) -> ProptestConfig {
    ProptestConfig {
        cases: 60_000,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn script(steps: usize) -> impl Strategy<Value = Vec<(u8, u32)>> {
    prop::collection::vec((0u8..100, any::<u32>()), 1..steps)
}

proptest! {
    #![proptest_config(config(1))]

    /// Ticked on time, with room for every part.
    #[test]
    fn every_part_gets_what_it_deserves(setup in any::<u32>(), script in script(30)) {
        History::<64>::new(setup).run(&script);
    }
}

proptest! {
    #![proptest_config(config(2))]

    /// The same with a queue that holds three parts.
    #[test]
    fn with_a_queue_too_small(setup in any::<u32>(), script in script(30)) {
        History::<4>::new(setup).run(&script);
    }
}

proptest! {
    #![proptest_config(config(4))]

    /// The same with settings that change on the way, inputs that are stuck, some of them from the start.
    #[test]
    fn settings_change_and_inputs_are_stuck(
        setup in any::<u32>(),
        script in prop::collection::vec((0u8..110, any::<u32>()), 1..30),
    ) {
        let mut history = History::<64>::new(setup);
        history.renews = true;
        for input in [Input::Reset, Input::RejectConfirm] {
            if setup >> (20 + input as u32) & 1 != 0 {
                history.plan(0, Act::Input(input, true));
            }
        }
        history.run(&script);
    }
}

proptest! {
    #![proptest_config(config(3))]

    /// The same with ticks that come up to 4 ms late.
    #[test]
    fn called_late(setup in any::<u32>(), script in script(30)) {
        let mut history = History::<64>::new(setup);
        let mut random = setup;
        history.line.lateness = Box::new(move || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u64::from(random >> 20)
        });
        history.oracle.late_ticks = true;
        history.run(&script);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100_000, ..config(5) })]

    /// Two cameras on one trigger: views that are missing, late, damaged, good, bad, twice, and in any order; cameras
    /// that go down one by one.
    #[test]
    fn every_part_with_two_views_gets_what_it_deserves(
        setup in any::<u32>(),
        script in script(30),
    ) {
        History::<64>::with_cameras(2, setup).run(&script);
    }
}

//! A station in simulated time: ticked exactly when it asks to be (or late, if the test says so), everything that
//! goes in and comes out on record.

use crate::line::*;
use std::collections::HashMap;

#[derive(Debug, Default)]
pub struct Log(pub Vec<(u64, Event)>);

impl Observer for Log {
    fn event(&mut self, now: Micros, event: Event) {
        self.0.push((now.0, event));
    }
}

/// What was reported of a frame and is known of it since.
#[derive(Debug)]
pub struct FrameRecord {
    pub view: View,
    pub part: Option<u64>,
    pub dropped: u32,
}

pub struct Simulation<const N: usize> {
    pub station: Station<Log, N>,
    /// Outputs, from then on.
    pub trace: Vec<(u64, Outputs)>,
    pub now: u64,
    wake: Option<u64>,
    /// How late the next tick is called.
    pub lateness: Box<dyn FnMut() -> u64>,
    pub frames: HashMap<u64, FrameRecord>,
    next_frame: u64,
    read: usize,
}

impl<const N: usize> Simulation<N> {
    pub fn new(settings: Settings) -> Self {
        Simulation::with_cameras(1, settings)
    }

    pub fn with_cameras(cameras: usize, settings: Settings) -> Self {
        let station = Station::new(settings, Statistics::default(), Log::default());
        let station = station.with_cameras(cameras);
        Simulation {
            trace: vec![(0, station.outputs())],
            station,
            now: 0,
            wake: None,
            lateness: Box::new(|| 0),
            frames: HashMap::new(),
            next_frame: 0,
            read: 0,
        }
    }

    /// Lets time go on, with every tick that the station asks for.
    pub fn run_to(&mut self, time: u64) {
        while let Some(wake) = self.wake {
            let at = (wake + (self.lateness)()).max(self.now);
            if at > time {
                break;
            }
            self.now = at;
            self.tick();
        }
        self.now = self.now.max(time);
    }

    fn tick(&mut self) {
        self.wake = self.station.tick(Micros(self.now)).map(|t| t.0);
        let past = self.wake.is_some_and(|wake| wake <= self.now);
        assert!(
            !past,
            "asks to be called at {:?}, but it is {}",
            self.wake, self.now
        );
        self.record();
    }

    /// Calls the station at `time`.
    pub fn at<T>(&mut self, time: u64, call: impl FnOnce(&mut Station<Log, N>, Micros) -> T) -> T {
        self.run_to(time);
        let result = call(&mut self.station, Micros(self.now));
        self.record();
        self.tick();
        result
    }

    fn record(&mut self) {
        let outputs = self.station.outputs();
        if self.trace.last().is_none_or(|(_, last)| *last != outputs) {
            self.trace.push((self.now, outputs));
        }
        let events = &self.station.observer().0;
        for (_, event) in &events[self.read..] {
            match event {
                Event::Paired { part, frame } => {
                    let frame = self
                        .frames
                        .get_mut(&frame.0)
                        .expect("a frame that was reported");
                    assert!(frame.part.replace(part.0).is_none(), "paired twice");
                }
                Event::Dropped { frame, .. } => {
                    self.frames
                        .get_mut(&frame.0)
                        .expect("a frame that was reported")
                        .dropped += 1;
                }
                _ => (),
            }
        }
        self.read = events.len();
    }

    pub fn frame(&mut self, time: u64, exposed: u64, whole: bool) -> u64 {
        let flaw = (!whole).then_some(Cause::CameraFault);
        self.frame_with(time, exposed, flaw)
    }

    pub fn frame_with(&mut self, time: u64, exposed: u64, flaw: Option<Cause>) -> u64 {
        self.frame_of(View::FIRST, time, exposed, flaw)
    }

    pub fn frame_of(&mut self, view: View, time: u64, exposed: u64, flaw: Option<Cause>) -> u64 {
        let id = self.next_frame;
        self.next_frame += 1;
        let record = FrameRecord {
            view,
            part: None,
            dropped: 0,
        };
        self.frames.insert(id, record);
        let frame = Frame {
            id: FrameId(id),
            view,
            exposed: Micros(exposed),
            flaw,
        };
        self.at(time, |s, now| s.on_frame(frame, now));
        id
    }

    pub fn trigger(&mut self, time: u64, at: u64) {
        self.at(time, |s, now| s.on_trigger(Micros(at), now));
    }

    pub fn verdict(&mut self, time: u64, part: u64, verdict: Verdict) -> VerdictUse {
        self.verdict_of(View::FIRST, time, part, verdict)
    }

    pub fn verdict_of(&mut self, view: View, time: u64, part: u64, verdict: Verdict) -> VerdictUse {
        self.at(time, |s, now| {
            s.on_verdict(PartId(part), view, verdict, now)
        })
    }

    pub fn input(&mut self, time: u64, input: Input, active: bool) {
        self.at(time, |s, now| s.on_input(input, active, now, now));
    }

    /// Trigger, frame and verdict of one part, all in time: 1 ms to the exposure, 5 ms to the verdict.
    pub fn part(&mut self, time: u64, score: f32) -> u64 {
        self.judged(time, Verdict::Score(score))
    }

    /// The same with any verdict.
    pub fn judged(&mut self, time: u64, verdict: Verdict) -> u64 {
        self.trigger(time, time);
        let id = self.frame(time + 2_000, time + 1_000, true);
        let part = self.frames[&id].part.expect("a part for this frame");
        self.verdict(time + 5_000, part, verdict);
        part
    }

    /// The same line, other settings.
    pub fn renew(&mut self, time: u64, settings: Settings) {
        self.run_to(time);
        let unused = Station::new(settings, Statistics::default(), Log::default());
        let old = std::mem::replace(&mut self.station, unused);
        self.station = old.renew(settings, Micros(self.now));
        self.record();
        self.tick();
    }

    pub fn events(&mut self) -> &[(u64, Event)] {
        &self.station.observer().0
    }

    pub fn outcome(&mut self, part: u64) -> Option<Outcome> {
        self.events().iter().find_map(|(_, e)| match e {
            Event::Outcome {
                part: p, outcome, ..
            } if p.0 == part => Some(*outcome),
            _ => None,
        })
    }

    /// Where a part's reject started.
    pub fn lane(&mut self, part: u64) -> Option<u8> {
        self.events().iter().find_map(|(_, e)| match e {
            Event::Outcome { part: p, lane, .. } if p.0 == part => lane.map(Lane::get),
            _ => None,
        })
    }

    pub fn alarm(&self, alarm: Alarm) -> bool {
        self.station.alarms().contains(alarm)
    }

    /// When an output was on: from, until.
    pub fn on(&self, signal: Signal) -> Vec<(u64, u64)> {
        let mut spans: Vec<(u64, u64)> = Vec::new();
        let mut last = false;
        for (time, outputs) in &self.trace {
            match (last, outputs.get(signal)) {
                (false, true) => spans.push((*time, u64::MAX)),
                (true, false) => spans.last_mut().expect("a span").1 = *time,
                _ => (),
            }
            last = outputs.get(signal);
        }
        spans.retain(|(from, until)| from < until);
        spans
    }
}

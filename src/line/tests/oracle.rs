//! What must come of a history, worked out part by part from what went in.
//!
//! Knows the rules, not the station: no queue, no windows that move, no order of calls. Where two things
//! happen in the same microsecond their order is the station's, and nothing is expected of the part.

use super::simulation::Simulation;
use crate::line::counters::ViewCounts;
use crate::line::settings::Settings;
use crate::line::trigger::Trigger;
use crate::line::*;

/// As `rules::settings` has them, us.
const LEAD: u64 = 5_000;
const WIDTH: u64 = 10_000;
const SPACING: u64 = 3_000;
const EXPOSURE: u64 = 1_000;
const WINDOW: u64 = 1_000;
const PERIOD: u64 = 8_000;
const LEAD_COUNTS: u64 = 50;
const PITCH: u64 = 80;

const NEVER: u64 = u64::MAX;

/// From, until.
type Span = (u64, u64);

pub struct VerdictRecord {
    pub part: u64,
    pub view: View,
    pub time: u64,
    pub verdict: Verdict,
    pub used: VerdictUse,
}

pub struct FrameReport {
    pub reported: u64,
    pub view: View,
    pub exposed: u64,
    pub whole: bool,
}

/// What went in.
pub struct Oracle {
    cameras: usize,
    free_run: bool,
    counts: bool,
    /// From then on.
    pub settings: Vec<(u64, Settings)>,
    /// When all settings changed, and what was on the belt was given up; nothing else happens then.
    pub renewals: Vec<u64>,
    /// Ticks come late: windows may end later than they should, in the trace.
    pub late_ticks: bool,
    pub edges: u64,
    pub frames: Vec<FrameReport>,
    pub verdicts: Vec<VerdictRecord>,
    /// When the encoder was reported, and its furthest count then.
    pub counted: Vec<(u64, u64)>,
    pub started: u64,
    /// When each was accepted, and the part that comes next.
    pub challenges: Vec<(u64, u64)>,
    /// While each camera was down.
    down: [Vec<Span>; VIEWS],
    /// While any of them was.
    blind: Vec<Span>,
}

/// What is seen of a part.
struct Part {
    at: u64,
    reported: u64,
    due: u64,
    /// When it reaches the reject station.
    arrives: u64,
    outcome: Outcome,
    lane: Option<Lane>,
    /// When it was given.
    given: u64,
    /// Given at once, before it arrived.
    overflowed: bool,
    /// On the belt when the settings changed.
    cleared: bool,
}

/// When what was what.
struct Times {
    /// Stopped or not started.
    halted: Vec<Span>,
    /// Not ready.
    blind: Vec<Span>,
    /// What was missed passes.
    flush: Vec<Span>,
}

#[derive(Clone, Copy, Debug)]
enum Life {
    Frame(View, bool),
    Verdict(View, Verdict),
    Deadline,
    Follower,
    Halt,
    CameraDown(View),
}

fn within(spans: &[Span], time: u64) -> bool {
    spans
        .iter()
        .any(|(from, until)| (*from..*until).contains(&time))
}

fn touches(spans: &[Span], time: u64) -> bool {
    spans
        .iter()
        .any(|(from, until)| *from == time || *until == time)
}

/// While `what` held of the outputs.
fn spans(trace: &[(u64, Outputs)], what: impl Fn(u64, &Outputs) -> bool) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut last = false;
    for (time, outputs) in trace {
        let holds = what(*time, outputs);
        match (last, holds) {
            (false, true) => spans.push((*time, NEVER)),
            (true, false) => spans.last_mut().expect("a span").1 = *time,
            _ => (),
        }
        last = holds;
    }
    spans
}

/// Begins or ends the last span.
fn switch(spans: &mut Vec<Span>, time: u64, up: bool) {
    let open = spans.last().is_some_and(|(_, until)| *until == NEVER);
    match (open, up) {
        (false, false) => spans.push((time, NEVER)),
        (true, true) => spans.last_mut().expect("a span").1 = time,
        _ => (),
    }
}

impl Oracle {
    pub fn new(cameras: usize, free_run: bool, counts: bool, settings: Settings) -> Self {
        Oracle {
            cameras,
            free_run,
            counts,
            settings: vec![(0, settings)],
            renewals: Vec::new(),
            late_ticks: false,
            edges: 0,
            frames: Vec::new(),
            verdicts: Vec::new(),
            counted: Vec::new(),
            started: NEVER,
            challenges: Vec::new(),
            down: Default::default(),
            blind: Vec::new(),
        }
    }

    /// What the station is set to.
    pub fn settings_at(&self, time: u64) -> &Settings {
        let until = self.settings.partition_point(|(from, _)| *from <= time);
        &self.settings[until - 1].1
    }

    /// It is always the same.
    fn trigger(&self) -> Trigger {
        self.settings[0].1.trigger
    }

    fn delay_at(&self, time: u64) -> u64 {
        self.settings_at(time).delay.delay()
    }

    /// What a verdict says of a part; `None`: that it could not be judged.
    fn judged(&self, view: View, verdict: Verdict, time: u64) -> Option<Outcome> {
        let (score, threshold) = match verdict {
            Verdict::Error => return None,
            Verdict::Score(score) => (score, None),
            Verdict::Sorted(score, sorting) => (score, sorting.threshold),
        };
        let own = self.settings_at(time).threshold_of(view);
        let threshold = threshold.unwrap_or(own);
        let good = score <= threshold.get();
        Some(if good { Outcome::Good } else { Outcome::Reject })
    }

    fn is_good(&self, verdict: &VerdictRecord) -> bool {
        self.judged(verdict.view, verdict.verdict, verdict.time) == Some(Outcome::Good)
    }

    /// Whether every view of a part had a verdict in time that is good, before then.
    fn all_good(&self, part: u64, before: impl Fn(u64) -> bool) -> bool {
        View::first(self.cameras).all(|view| {
            self.verdicts.iter().any(|v| {
                let taken = v.used == VerdictUse::Taken && before(v.time);
                (v.part, v.view) == (part, view) && self.is_good(v) && taken
            })
        })
    }

    /// Whether all settings changed from one moment to the other. What happens by itself in the same moment comes
    /// before.
    fn renewed(&self, from: u64, to: u64) -> bool {
        self.renewals.iter().any(|time| (from..to).contains(time))
    }

    pub fn camera(&mut self, view: View, time: u64, up: bool) {
        let was_up = self.is_up();
        switch(&mut self.down[view.index()], time, up);
        if self.is_up() != was_up {
            switch(&mut self.blind, time, !was_up);
        }
    }

    /// Whether every camera is up.
    pub fn is_up(&self) -> bool {
        let up = |down: &Vec<Span>| down.last().is_none_or(|(_, until)| *until != NEVER);
        self.down.iter().all(up)
    }

    /// When a place on the belt is reached, seen from `reported`.
    fn reached(&self, place: u64, reported: u64) -> u64 {
        if !self.counts {
            return place.max(reported);
        }
        // At `reported` itself the place is compared with the count reported last.
        let first = self.counted.partition_point(|(time, _)| *time < reported);
        if first > 0 && self.counted[first - 1].1 >= place {
            return reported;
        }
        let found = self.counted[first..]
            .iter()
            .find(|(_, count)| *count >= place);
        found.map_or(NEVER, |(time, _)| *time)
    }

    /// Checks a line at the end of its history.
    pub fn check<const N: usize>(&self, mut line: Simulation<N>) {
        let end = line.now;
        let trace = std::mem::take(&mut line.trace);
        let times = self.times(&trace);
        let events = line.events().to_vec();
        let frames = line.frames.values();
        let given: Vec<_> = frames.map(|f| (f.part, f.view, f.dropped)).collect();
        let alarms = line.station.alarms();
        let (statistics, log) = line.station.finish(Micros(end));
        let at_end = &log.0[events.len()..];
        let parts = self.parts(&events, at_end, end);
        for (i, part) in parts.iter().enumerate() {
            self.check_part::<N>(i, part, &parts, &times, end);
            self.check_lane(i, &parts, &trace, &times, end);
        }
        self.check_outputs(&trace, &parts, &times, end);
        self.check_frames(&given, at_end);
        self.check_alarms(&events, alarms);
        self.check_counters(&statistics, &parts, &times);
    }

    fn times(&self, trace: &[(u64, Outputs)]) -> Times {
        // The start shows in the outputs only if nothing else keeps the station from being ready.
        let before = trace.partition_point(|(time, _)| *time < self.started);
        let mut with_start = trace.to_vec();
        with_start.insert(before, (self.started, trace[before - 1].1));
        let halted = spans(&with_start, |time, o| time < self.started || o.line_stop);
        let blind = spans(trace, |_, o| !o.ready);
        let resumed = halted.iter().map(|(_, until)| *until);
        let recovered = self
            .blind
            .iter()
            .map(|(_, until)| *until)
            .filter(|_| self.free_run);
        let first_count = self.counted.first().map_or(NEVER, |c| c.0);
        let mut missed: Vec<u64> = resumed
            .chain(recovered)
            .chain(self.renewals.iter().copied())
            .filter(|t| *t != NEVER)
            .collect();
        missed.sort_unstable();
        let mut flush: Vec<Span> = Vec::new();
        // What was missed lies no further than the longest delay since something was known to be good.
        let (mut last, mut reach) = (0, self.delay_at(0));
        for from in missed {
            let ends = flush.iter().chain(&blind).map(|(_, until)| *until);
            let mut ends = ends.filter(|end| (last..from).contains(end));
            if ends.any(|end| !within(&flush, end) && !within(&blind, end)) {
                reach = self.delay_at(from - 1);
            }
            last = from;
            reach = reach.max(self.delay_at(from));
            if within(&halted, from) {
                continue;
            }
            let passed = if self.counts {
                let from = from.max(first_count);
                let until = self.counted.partition_point(|(time, _)| *time <= from);
                let here = until.checked_sub(1).map_or(NEVER, |i| self.counted[i].1);
                self.reached(here.saturating_add(reach), from)
            } else {
                from + reach
            };
            flush.push((from, passed.saturating_add(WIDTH)));
        }
        Times {
            halted,
            blind,
            flush,
        }
    }

    /// Every part, with its one outcome.
    fn parts(&self, events: &[(u64, Event)], at_end: &[(u64, Event)], end: u64) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let mut outcomes = std::collections::HashMap::new();
        for (now, event) in events.iter().chain(at_end) {
            match event {
                Event::Triggered { part, at, due } => {
                    assert_eq!(part.0, parts.len() as u64, "numbers in order, none twice");
                    parts.push(Part {
                        at: at.0,
                        reported: *now,
                        due: due.0,
                        arrives: self.reached(due.0, *now),
                        outcome: Outcome::Good,
                        lane: None,
                        given: NEVER,
                        overflowed: false,
                        cleared: false,
                    });
                }
                Event::Outcome {
                    part,
                    outcome,
                    lane,
                } => {
                    let second = outcomes.insert(part.0, (*now, *outcome, *lane));
                    assert_eq!(second, None, "a second outcome of part {}", part.0);
                }
                _ => (),
            }
        }
        for (i, part) in parts.iter_mut().enumerate() {
            let (given, outcome, lane) = outcomes[&(i as u64)];
            part.outcome = outcome;
            part.lane = lane;
            part.given = given;
            part.cleared = self.renewals.contains(&given) && part.arrives > given;
            let at_once = given == part.reported && part.arrives > given && given != end;
            part.overflowed = at_once && !part.cleared;
        }
        assert_eq!(outcomes.len(), parts.len(), "an outcome of no part");
        parts
    }

    fn check_part<const N: usize>(
        &self,
        i: usize,
        part: &Part,
        parts: &[Part],
        times: &Times,
        end: u64,
    ) {
        self.check_place(i, part);
        if let Some(last) = i.checked_sub(1).map(|i| &parts[i]) {
            // Behind a change of settings, parts before it are no neighbours.
            assert!(
                part.due >= last.due && part.at >= last.at
                    || self.renewed(last.reported, part.reported),
                "part {i} before the last one"
            );
        }
        assert_ne!(part.given, NEVER);
        if part.overflowed {
            let before = parts[..i].iter().filter(|p| p.arrives >= part.reported);
            let before = before.count();
            assert!(before >= N - 1, "part {i}: full with {before} parts");
            assert!(part.outcome.is_reject());
            return;
        }
        if !self.late_ticks && part.arrives <= end && !part.cleared {
            assert_eq!(
                part.given, part.arrives,
                "part {i}: outcome when it arrives"
            );
        }
        if self.late_ticks && part.arrives <= end && part.given < end {
            assert!(part.given >= part.arrives && part.given <= part.arrives + 4_100);
        }
        if part.outcome == Outcome::Good {
            let known = self.all_good(i as u64, |time| time <= part.given);
            assert!(known, "part {i} is good without a verdict of each view");
        }
        if let Some(expected) = self.expected(i, parts, times, end) {
            assert_eq!(part.outcome, expected, "part {i}");
        }
    }

    /// Where a part goes by its own verdict, or by the lack of one.
    fn own_lane(&self, i: usize, part: &Part) -> Option<Lane> {
        let mut taken = self
            .verdicts
            .iter()
            .filter(|v| v.part == i as u64 && v.used == VerdictUse::Taken && !self.is_good(v));
        let sorted = match (part.outcome, taken.next().map(|v| v.verdict)) {
            (Outcome::Reject, Some(Verdict::Sorted(_, sorting))) => sorting.lane,
            _ => None,
        };
        sorted.or(self.settings[0].1.default_lane)
    }

    /// A reject goes to its own lane or the default one and to no other; with nothing near it, to its own, from
    /// its first moment to its last.
    fn check_lane(
        &self,
        i: usize,
        parts: &[Part],
        trace: &[(u64, Outputs)],
        times: &Times,
        end: u64,
    ) {
        let part = &parts[i];
        let own = self.own_lane(i, part);
        assert!(part.outcome.is_reject() || part.lane.is_none());
        let default = self.settings[0].1.default_lane;
        assert!(
            [own, default, None].contains(&part.lane),
            "part {i} in {:?}",
            part.lane
        );
        let passes = part.given..part.given + WIDTH;
        let barred = |span: &Span| span.0 <= passes.end && span.1 >= passes.start;
        let alone = self.close(i, parts).next().is_none()
            && !parts.iter().any(|p| p.overflowed)
            && ![&times.flush, &times.blind, &times.halted]
                .into_iter()
                .any(|spans| spans.iter().any(barred));
        if !alone || !part.outcome.is_reject() || passes.end >= end {
            return;
        }
        assert_eq!(part.lane, own, "part {i}");
        let first = trace.partition_point(|(time, _)| *time <= passes.start) - 1;
        let seen = trace[first..]
            .iter()
            .take_while(|(time, _)| *time < passes.end);
        for (time, outputs) in seen {
            assert_eq!(outputs.lane, own, "part {i} at {time}");
        }
    }

    /// Where the reject station is for a part.
    fn check_place(&self, i: usize, part: &Part) {
        if self.renewals.contains(&part.reported) {
            // Triggered by what was due before the settings changed.
            return assert!(part.cleared, "part {i}");
        }
        if !self.counts {
            assert_eq!(part.due, part.at + self.delay_at(part.reported), "part {i}");
            return;
        }
        let place = part.due - self.delay_at(part.reported);
        if let Trigger::Encoder { .. } = self.trigger() {
            // They are counted off from the first count, or from where the belt was when the settings changed.
            let renewed = self.renewals.iter().rfind(|time| **time < part.reported);
            let counted = renewed.map_or(0, |time| self.counted.partition_point(|c| c.0 <= *time));
            let first = self.counted[counted.saturating_sub(1)].1;
            assert!(
                place > first && (place - first).is_multiple_of(PITCH),
                "part {i}"
            );
            return;
        }
        let furthest = |n: usize| n.checked_sub(1).map_or(0, |n| self.counted[n].1);
        let before = self
            .counted
            .partition_point(|(time, _)| *time < part.reported);
        let at = self
            .counted
            .partition_point(|(time, _)| *time <= part.reported);
        assert!(
            place == furthest(before) || place == furthest(at),
            "part {i} at {place}"
        );
    }

    /// What the rules say of a part; nothing if two things happen at the same time.
    fn expected(&self, i: usize, parts: &[Part], times: &Times, end: u64) -> Option<Outcome> {
        let part = &parts[i];
        let because = |cause| Some(Outcome::RejectBecause(cause));
        let changes = [&times.blind, &times.halted, &self.blind];
        if changes
            .into_iter()
            .any(|spans| touches(spans, part.reported))
        {
            return None;
        }
        let mut closed = None;
        if within(&times.halted, part.reported) {
            closed = because(Cause::NotReady);
        } else if within(&self.blind, part.reported) {
            closed = because(Cause::CameraFault);
        } else if self.is_too_close(i, parts) {
            closed = because(Cause::Unknown);
        }
        let mut life = self.life(i, parts, times)?;
        life.sort_by_key(|(time, _)| *time);
        let given = part.given;
        life.retain(|(time, _)| *time <= given);
        if life.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return None;
        }
        let (mut framed, mut good, mut judged) = (vec![], vec![], None);
        for (time, what) in life {
            if closed.is_some() || time == given && !matches!(what, Life::Deadline) {
                continue;
            }
            match (what, judged) {
                (Life::Halt, None | Some(Outcome::Good)) => closed = because(Cause::NotReady),
                (Life::Follower, None | Some(Outcome::Good)) => closed = because(Cause::Unknown),
                (_, Some(_)) => (),
                (Life::Deadline, None) if framed.len() == self.cameras => {
                    closed = because(Cause::Late)
                }
                (Life::Deadline, None) => closed = because(Cause::NoFrame),
                (Life::CameraDown(view), None) if !framed.contains(&view) => {
                    closed = because(Cause::CameraFault);
                }
                (Life::Frame(view, _), None) if framed.contains(&view) => (),
                (Life::Frame(view, true), None) => framed.push(view),
                (Life::Frame(_, false), None) => closed = because(Cause::CameraFault),
                (Life::Verdict(view, verdict), None)
                    if framed.contains(&view) && !good.contains(&view) =>
                {
                    match self.judged(view, verdict, time) {
                        None => closed = because(Cause::InferenceError),
                        Some(Outcome::Good) if good.len() + 1 < self.cameras => good.push(view),
                        Some(Outcome::Good) if self.is_piece(i as u64, part.reported, times) => {
                            closed = because(Cause::Challenge);
                        }
                        some => judged = some,
                    }
                }
                _ => (),
            }
        }
        if part.cleared {
            let rejected = judged.filter(|o| o.is_reject());
            return closed.or(rejected).or(because(Cause::NotReady));
        }
        if closed.is_some() || judged != Some(Outcome::Good) {
            return closed.or(judged);
        }
        let changes = [&times.blind, &times.halted, &times.flush];
        if given == end || changes.into_iter().any(|spans| touches(spans, given)) {
            return None;
        }
        if within(&times.halted, given) {
            return because(Cause::NotReady);
        }
        if within(&times.blind, given) || within(&times.flush, given) {
            // Which of the two is a matter of which was last.
            assert!(
                part.outcome.is_reject(),
                "part {i} is good while nothing can be known to be"
            );
            return None;
        }
        // One that is close may be rejected, or may have been when this one arrived: then it is taken along.
        let mut close = self.close(i, parts);
        close
            .all(|j| self.known_good(j, parts, given))
            .then_some(Outcome::Good)
    }

    /// The parts that pass the reject station while this one does, by their times there or at the trigger.
    fn close<'a>(&self, i: usize, parts: &'a [Part]) -> impl Iterator<Item = usize> + 'a {
        let width = WIDTH + if self.late_ticks { 4_100 } else { 0 };
        let near = move |a: u64, b: u64| a.abs_diff(b) < width;
        (0..parts.len()).filter(move |j| {
            let (a, b) = (&parts[i], &parts[*j]);
            i != *j && (near(a.arrives, b.arrives) || near(a.at, b.at) || near(a.given, b.given))
        })
    }

    /// Whether a part was known to be good then, and nothing changed it.
    fn known_good(&self, i: usize, parts: &[Part], then: u64) -> bool {
        parts[i].outcome == Outcome::Good && self.all_good(i as u64, |time| time < then)
    }

    /// Whether a part was rejected by another's pulse alone, and has none of its own; `None`: that cannot be
    /// decided.
    fn taken_along(&self, i: usize, parts: &[Part]) -> Option<bool> {
        let part = &parts[i];
        let unknown = part.outcome == Outcome::RejectBecause(Cause::Unknown);
        if !unknown || part.overflowed || part.cleared {
            return Some(false);
        }
        let follower = parts.get(i + 1).filter(|_| self.is_too_close(i + 1, parts));
        let missed =
            matches!(self.trigger(), Trigger::Interval(_)) && part.reported >= part.at + PERIOD;
        let closed = self.is_too_close(i, parts)
            || missed
            || follower.is_some_and(|next| next.reported < part.given);
        match follower.is_some_and(|next| next.reported == part.given) {
            true if !closed => None,
            _ => Some(!closed),
        }
    }

    fn is_too_close(&self, i: usize, parts: &[Part]) -> bool {
        let Some(last) = i.checked_sub(1).map(|i| &parts[i]) else {
            return false;
        };
        if self.renewed(last.reported, parts[i].reported) {
            return false;
        }
        match self.trigger() {
            Trigger::FreeRun => {
                // Every frame is a part.
                self.frames[i].exposed.min(parts[i].reported) < last.at
            }
            Trigger::Interval(_) => false,
            _ => parts[i].at - last.at < SPACING,
        }
    }

    /// The next two parts after a challenge was accepted, unless the line was stopped before them.
    fn is_piece(&self, part: u64, reported: u64, times: &Times) -> bool {
        self.challenges.iter().any(|(from, first)| {
            let stopped = times
                .halted
                .iter()
                .any(|(halt, _)| *from <= *halt && *halt < reported)
                || self.renewed(*from, reported);
            (*first..first + 2).contains(&part) && !stopped
        })
    }

    /// What happens to a part, and when; nothing if that hangs on an order that is not known.
    fn life(&self, i: usize, parts: &[Part], times: &Times) -> Option<Vec<(u64, Life)>> {
        let part = &parts[i];
        let lead = if self.counts { LEAD_COUNTS } else { LEAD };
        let mut life = vec![(self.reached(part.due - lead, part.reported), Life::Deadline)];
        if let Some(next) = parts.get(i + 1)
            && self.is_too_close(i + 1, parts)
        {
            life.push((next.reported, Life::Follower));
        }
        if let Trigger::Interval(_) = self.trigger()
            && part.reported >= part.at + PERIOD
        {
            // Its moment was missed: as if another had come too close.
            life.push((part.reported, Life::Follower));
        }
        let after = |time: &u64| *time > part.reported;
        let halts = times.halted.iter().map(|(from, _)| *from).filter(after);
        life.extend(halts.map(|time| (time, Life::Halt)));
        for view in View::first(self.cameras) {
            let downs = self.down[view.index()].iter().map(|(from, _)| *from);
            life.extend(downs.filter(after).map(|t| (t, Life::CameraDown(view))));
        }
        let mut seen = vec![];
        for (n, frame) in self.frames.iter().enumerate() {
            let FrameReport {
                reported,
                view,
                exposed,
                whole,
            } = frame;
            let first = !seen.contains(view);
            let fits = if self.free_run {
                n == i
            } else {
                exposed.abs_diff(part.at + EXPOSURE) <= WINDOW
            };
            // A frame that came first is held, but not by a station that is or becomes blind.
            let lost = |blind: &Span| blind.0 < part.reported && blind.1 > *reported;
            let dropped = *reported < part.reported && times.blind.iter().any(lost)
                || self.renewed(*reported, part.reported);
            if fits && *reported < part.reported && touches(&times.blind, *reported) {
                return None;
            }
            let expired = *reported <= part.reported && exposed + 40_000 < part.reported;
            if fits && !dropped && !expired && (first || self.free_run) {
                seen.push(*view);
                life.push(((*reported).max(part.reported), Life::Frame(*view, *whole)));
            }
        }
        let verdicts = self.verdicts.iter().filter(|v| v.part == i as u64);
        life.extend(verdicts.map(|v| (v.time, Life::Verdict(v.view, v.verdict))));
        Some(life)
    }

    /// The outputs, at every moment at which something begins or ends.
    fn check_outputs(&self, trace: &[(u64, Outputs)], parts: &[Part], times: &Times, end: u64) {
        let (mut good, mut reject): (Vec<Span>, Vec<Span>) = (Vec::new(), Vec::new());
        let mut unknown: Vec<Span> = Vec::new();
        let mut lanes: Vec<(Span, Option<Lane>)> = Vec::new();
        for (i, part) in parts.iter().enumerate().filter(|(_, p)| !p.cleared) {
            match self.taken_along(i, parts) {
                Some(false) => (),
                Some(true) => {
                    assert!(self.close(i, parts).next().is_some(), "part {i}: by whom?");
                    continue;
                }
                None => {
                    unknown.push((part.given, part.given + WIDTH));
                    continue;
                }
            }
            let from = if part.overflowed {
                part.arrives
            } else {
                part.given
            };
            if part.outcome.is_reject() {
                let span = (from, from.saturating_add(WIDTH));
                reject.push(span);
                lanes.push((span, part.lane));
                if let Some(next) = parts.get(i + 1).filter(|next| {
                    part.overflowed && next.overflowed && part.arrives > next.reported
                }) {
                    reject.push((from, next.arrives));
                }
            } else {
                // Reported late, a window still ends when the part has passed.
                let from = if self.counts { part.given } else { part.due };
                good.push((part.given, from + WIDTH));
            }
        }
        let mut moments: Vec<u64> = trace.iter().map(|(time, _)| *time).collect();
        if !self.late_ticks {
            let spans = good.iter().chain(&reject).chain(&times.flush);
            moments.extend(spans.flat_map(|(from, until)| [*from, *until]));
            moments.sort_unstable();
        }
        moments.retain(|time| *time < end && !within(&unknown, *time));
        moments.dedup();
        let for_good = |time| {
            matches!(
                self.settings_at(time).wiring,
                Wiring::EnergiseForGood { .. }
            )
        };
        for time in moments {
            let until = trace.partition_point(|(from, _)| *from <= time);
            let outputs = trace[until - 1].1;
            let barred = !outputs.ready || within(&times.flush, time);
            let rejects = within(&reject, time);
            let default = self.settings[0].1.default_lane;
            let its = |(span, lane): &(Span, Option<Lane>)| {
                within(&[*span], time) && *lane == outputs.lane
            };
            match (barred, rejects) {
                (true, _) => assert_eq!(outputs.lane, default, "lane at {time}"),
                (false, false) => assert_eq!(outputs.lane, None, "lane at {time}"),
                (false, true) => assert!(
                    outputs.lane == default || lanes.iter().any(its),
                    "lane {:?} at {time} is no part's",
                    outputs.lane
                ),
            }
            if for_good(time) {
                let wanted = within(&good, time) && !rejects && !barred;
                assert_eq!(outputs.good, wanted, "good at {time}");
                assert!(!outputs.reject);
            } else {
                let wanted = rejects || barred;
                assert_eq!(outputs.reject, wanted, "reject at {time}");
                assert!(!outputs.good);
            }
        }
        // What is reported of a good part is what the ejector did with it. (By counts, how soon the next one
        // comes is not known when it arrives.)
        if self.late_ticks || self.counts {
            return;
        }
        for (i, part) in parts.iter().enumerate().filter(|(_, p)| !p.cleared) {
            if for_good(part.given) {
                continue;
            }
            let passes = part.given..(part.given + WIDTH).min(end);
            let seen = || trace.iter().filter(|(t, _)| passes.contains(t));
            // While it is blind the station ejects whatever passes.
            if seen().any(|(_, o)| !o.ready) {
                continue;
            }
            let ejected = seen().find(|(time, o)| o.reject && !within(&times.flush, *time));
            assert!(
                part.outcome != Outcome::Good || ejected.is_none(),
                "part {i} is good and was ejected: {ejected:?}"
            );
        }
    }

    /// Every frame was paired or dropped, once.
    fn check_frames(&self, given: &[(Option<u64>, View, u32)], at_end: &[(u64, Event)]) {
        let dropped = at_end
            .iter()
            .filter(|(_, e)| matches!(e, Event::Dropped { .. }));
        let waiting = given.iter().filter(|f| f.0.is_none() && f.2 == 0).count();
        assert_eq!(
            dropped.count(),
            waiting,
            "frames neither paired nor dropped"
        );
        assert!(
            given
                .iter()
                .all(|(part, _, dropped)| u32::from(part.is_some()) + dropped <= 1)
        );
        let mut paired: Vec<(u64, View)> = given.iter().filter_map(|f| Some((f.0?, f.1))).collect();
        paired.sort_unstable();
        assert!(
            paired.windows(2).all(|p| p[0] != p[1]),
            "two frames of one view of a part"
        );
    }

    /// Alarms are reported once and stay until reset.
    fn check_alarms(&self, events: &[(u64, Event)], at_end: AlarmSet) {
        let mut latched: Vec<Alarm> = Vec::new();
        for (_, event) in events {
            match event {
                Event::Alarm(alarm) => {
                    assert!(!latched.contains(alarm), "{alarm:?} raised twice");
                    latched.push(*alarm);
                }
                Event::Reset(of) => {
                    // One that is raised by the very call that resets stays.
                    assert!(AlarmSet::of(&latched).bits() & of.bits() == of.bits());
                    latched.retain(|alarm| !of.contains(*alarm));
                }
                _ => (),
            }
        }
        assert_eq!(at_end, AlarmSet::of(&latched));
    }

    fn check_counters(&self, counted: &Statistics, parts: &[Part], times: &Times) {
        let mut outcomes = Counters::default();
        parts.iter().for_each(|p| outcomes.count(p.outcome));
        assert_eq!(counted.outcomes, outcomes);
        let by_score = |parts: &[Part]| {
            let rejects = parts.iter().filter(|p| p.outcome == Outcome::Reject);
            rejects.count() as u64
        };
        let sorted = counted.sorted;
        assert!(sorted.unknown + sorted.types.iter().sum::<u64>() <= by_score(parts));
        let in_lanes = parts.iter().filter(|p| p.lane.is_some()).count() as u64;
        assert_eq!(sorted.lanes.iter().sum::<u64>(), in_lanes);
        assert_eq!(counted.next_part, PartId(parts.len() as u64));
        let sum = outcomes.good + outcomes.rejects + outcomes.failed.iter().sum::<u64>();
        assert_eq!(sum, outcomes.parts);
        if matches!(self.trigger(), Trigger::Edge { .. }) {
            assert_eq!(self.edges, outcomes.parts + counted.triggers.bounced);
        }
        let frames = counted.frames;
        let all = frames.paired + frames.damaged + frames.unpaired + frames.ignored;
        assert_eq!(all, self.frames.len() as u64);
        let v = counted.verdicts;
        let used = |used| self.verdicts.iter().filter(|v| v.used == used).count() as u64;
        assert_eq!(
            [v.taken, v.late, v.duplicate, v.unknown, v.ignored],
            [
                used(VerdictUse::Taken),
                used(VerdictUse::Late),
                used(VerdictUse::Duplicate),
                used(VerdictUse::Unknown),
                used(VerdictUse::Ignored)
            ]
        );
        match self.cameras {
            1 => assert!(counted.latency.count >= v.taken),
            _ => assert!(counted.latency.count <= v.taken + v.late),
        }
        for (i, view) in counted.views.iter().enumerate() {
            let of = |used| {
                let own = self.verdicts.iter().filter(|v| v.view.index() == i);
                own.filter(|v| v.used == used).count() as u64
            };
            // Those that came when another view had decided are counted for their camera all the same.
            let said = view.good + view.rejects + view.errors;
            let taken = of(VerdictUse::Taken);
            assert!((taken..=taken + of(VerdictUse::Ignored)).contains(&said));
        }
        let damaged = counted.views.iter().map(|view| view.damaged);
        assert_eq!(damaged.sum::<u64>(), frames.damaged);
        let sum = |of: fn(&ViewCounts) -> u64| counted.views.iter().map(of).sum::<u64>();
        assert!(sum(|view| view.missing) >= outcomes.failed[Cause::NoFrame as usize]);
        let judged = sum(|view| view.good + view.rejects + view.errors);
        assert!(
            judged + sum(|view| view.late) <= frames.paired,
            "a view counts once"
        );
        assert_eq!(
            counted.latency.buckets.iter().sum::<u64>(),
            counted.latency.count
        );
        let confirms = counted.confirms.confirmed + counted.confirms.missing;
        let confirmed = self.settings[0].1.wiring.confirm().is_some() && self.renewals.is_empty();
        let overflowed = parts.iter().any(|p| p.overflowed);
        assert!(confirms <= outcomes.all_rejects());
        if confirmed && !overflowed && times.halted.len() == 1 {
            let taken: Vec<_> = (0..parts.len())
                .map(|i| self.taken_along(i, parts))
                .collect();
            let expected = parts.iter().zip(&taken).filter(|(p, taken)| {
                let started = p.given > times.halted[0].1 && p.arrives <= p.given;
                p.outcome.is_reject() && started && **taken == Some(false)
            });
            if taken.iter().all(Option::is_some) {
                assert_eq!(confirms, expected.count() as u64, "confirmations");
            }
        }
    }
}

//! What is reported to the station: triggers, frames, verdicts, inputs, encoder, camera.

use super::{NetworkState, STANDING_PARTS, STANDING_US, Standing, Station, Verdict, VerdictUse};
use crate::line::alarms::Alarm;
use crate::line::event::{Event, Observer};
use crate::line::inputs::Input;
use crate::line::lanes::Sorting;
use crate::line::outcome::{Cause, Outcome};
use crate::line::pairing::Frame;
use crate::line::queue::State;
use crate::line::settings::{Axis, LatencyLimit};
use crate::line::time::{Micros, PartId, Position};
use crate::line::trigger::{CATCH_UP, Edge, Trigger};
use crate::line::view::View;

impl<O: Observer, const N: usize> Station<O, N> {
    /// A trigger from outside ([`Trigger::Edge`], [`Trigger::Command`]) that happened `at`. With any
    /// other source, and after [`Station::drain`], it is counted and makes no part.
    pub fn on_trigger(&mut self, at: Micros, now: Micros) {
        self.advance(now);
        let from_outside = matches!(
            self.settings.trigger,
            Trigger::Edge { .. } | Trigger::Command { .. }
        );
        if from_outside && !self.kept.draining {
            // A trigger that has not happened yet is a clock that is off: it cannot be later than now.
            let at = at.min(self.kept.now);
            self.edge(at, None);
            self.advance(now);
        } else {
            self.statistics.triggers.unexpected += 1;
        }
    }

    /// A frame came. It is paired at once, or held until its trigger is reported, or dropped: events say so.
    /// In free run it is a part if it is the first camera's.
    pub fn on_frame(&mut self, frame: Frame, now: Micros) {
        self.advance(now);
        match self.settings.trigger.pairing() {
            None if frame.view != View::FIRST => self.drop_frame(frame),
            None => {
                let at = frame.exposed.min(self.kept.now);
                self.edge(at, None);
                let part = PartId(self.statistics.next_part.0.saturating_sub(1));
                match self.queue.find(part).map(|e| e.state) {
                    Some(State::Waiting) => self.pair(part, frame),
                    _ => self.drop_frame(frame),
                }
                self.advance(now);
            }
            Some(pairing) => match self.queue.waiting_for(frame.view, frame.exposed, &pairing) {
                Some(part) => self.pair(part, frame),
                None if self.blind().is_some() => self.drop_frame(frame),
                None => {
                    if let Some(evicted) = self.held[frame.view.index()].hold(frame) {
                        self.drop_frame(evicted);
                    }
                }
            },
        }
    }

    /// A view of a part was judged.
    pub fn on_verdict(
        &mut self,
        part: PartId,
        view: View,
        verdict: Verdict,
        now: Micros,
    ) -> VerdictUse {
        self.advance(now);
        let counts = &mut self.statistics.verdicts;
        let Some(entry) = self.queue.find(part) else {
            return if part >= self.statistics.next_part {
                counts.unknown += 1;
                VerdictUse::Unknown
            } else if self.queue.is_past(part) {
                counts.late += 1;
                let owed = self.owed.iter().find(|(owed, _)| *owed == part);
                if let Some((_, triggered)) = owed.copied() {
                    self.latency(triggered);
                }
                VerdictUse::Late
            } else {
                // In the block of those that found the queue full.
                counts.ignored += 1;
                VerdictUse::Ignored
            };
        };
        match entry.state {
            State::Waiting | State::Framed if entry.judged.contains(view) => {
                counts.duplicate += 1;
                VerdictUse::Duplicate
            }
            State::Waiting | State::Framed if entry.framed.contains(view) => {
                counts.taken += 1;
                let (outcome, sorting) = self.judged(part, view, verdict);
                let all = entry.judged.with(view) == self.kept.cameras;
                let state = match outcome {
                    // The others must be good, too.
                    Outcome::Good if !all => return VerdictUse::Taken,
                    Outcome::Good if entry.piece => State::Closed(Cause::Challenge),
                    Outcome::Good => State::Judged { good: true },
                    Outcome::Reject => {
                        self.queue.sort(part, sorting);
                        State::Judged { good: false }
                    }
                    Outcome::RejectBecause(cause) => State::Closed(cause),
                };
                self.queue.set(part, state);
                self.latency(entry.triggered);
                VerdictUse::Taken
            }
            State::Closed(Cause::Late) => {
                counts.late += 1;
                self.latency(entry.triggered);
                VerdictUse::Late
            }
            State::Judged { .. } | State::Closed(Cause::InferenceError | Cause::Challenge)
                if entry.judged.contains(view) =>
            {
                counts.duplicate += 1;
                VerdictUse::Duplicate
            }
            State::Waiting | State::Framed => {
                counts.unknown += 1;
                VerdictUse::Unknown
            }
            State::Judged { .. } | State::Closed(_) => {
                counts.ignored += 1;
                if entry.framed.minus(entry.judged).contains(view) {
                    self.judged(part, view, verdict);
                }
                VerdictUse::Ignored
            }
        }
    }

    /// What a verdict says of a view, counted for its camera.
    fn judged(&mut self, part: PartId, view: View, verdict: Verdict) -> (Outcome, Sorting) {
        let (score, sorting) = match verdict {
            Verdict::Score(score) => (Some(score), Sorting::default()),
            Verdict::Sorted(score, sorting) => (Some(score), sorting),
            Verdict::Error => (None, Sorting::default()),
        };
        let own = self.settings.threshold_of(view);
        let threshold = sorting.threshold.unwrap_or(own);
        let outcome = match score {
            Some(score) => Outcome::of(score, threshold.get()),
            None => Outcome::RejectBecause(Cause::InferenceError),
        };
        self.queue
            .view(part, |entry| entry.judged = entry.judged.with(view));
        let counts = &mut self.statistics.views[view.index()];
        match outcome {
            Outcome::Good => counts.good += 1,
            Outcome::Reject => counts.rejects += 1,
            Outcome::RejectBecause(_) => counts.errors += 1,
        }
        (outcome, sorting)
    }

    /// An input changed `at`. Reporting its state again changes nothing. A reset is one that becomes active
    /// after it was seen inactive: one that is stuck from the start acknowledges nothing. Returns whether
    /// this was one.
    pub fn on_input(&mut self, input: Input, active: bool, at: Micros, now: Micros) -> bool {
        let mut reset = false;
        let at = at.min(now.max(self.kept.now));
        match input {
            Input::RejectConfirm => {
                // Before time goes on: what was seen in its window must not expire because it was reported late.
                if active && !self.kept.confirm_input {
                    let counts = &mut self.statistics.confirms;
                    match self.confirmations.as_mut().map(|c| c.seen(at)) {
                        Some(true) => counts.confirmed += 1,
                        Some(false) | None => counts.unexpected += 1,
                    }
                }
                self.kept.confirm_input = active;
            }
            Input::Reset => {
                reset = active && self.kept.reset_input == Some(false);
                if reset {
                    self.reset(now);
                }
                self.kept.reset_input = Some(active);
            }
            Input::BinFull | Input::BinOpen | Input::LowAir | Input::Stop => (),
        }
        self.advance(now);
        match input {
            Input::BinFull => self.kept.bin_full.set(active, at),
            Input::BinOpen => self.kept.bin_open.set(active, at),
            Input::LowAir => self.kept.low_air.set(active, at),
            Input::Stop => {
                self.kept.stop_input = active;
                if active {
                    self.halt();
                }
            }
            Input::RejectConfirm | Input::Reset => (),
        }
        self.conditions();
        reset
    }

    /// The encoder stands at `count`, unwrapped to 64 bits by the driver. A belt that runs back for a
    /// moment is waited for: its furthest count is what counts.
    pub fn on_encoder(&mut self, count: u64, now: Micros) {
        self.advance(now);
        let pitch = self.settings.trigger.pitch();
        match self.kept.count {
            None => {
                self.kept.count = Some(count);
                if let (Some(pitch), false) = (pitch, self.kept.draining) {
                    self.pace.start(count, pitch);
                }
                if self.settings.delay.axis() == Axis::Counts && self.gate.flush_end().is_some() {
                    // What was missed could not be placed before the first count.
                    self.resume();
                }
            }
            Some(last) if count < last => self.statistics.encoder_reversals += 1,
            Some(_) => self.kept.count = Some(count),
        }
        if let Some(pitch) = pitch {
            for _ in 0..CATCH_UP {
                let Some(place) = self.pace.take(count, pitch) else {
                    break;
                };
                self.edge(self.kept.now, Some(Position(place)));
            }
            let skipped = self.pace.skip(count, pitch);
            self.skipped(skipped);
        }
        self.advance(now);
    }

    /// Reports that edges of trigger or encoder were lost: parts may pass that nobody knows of.
    pub fn on_lost_edges(&mut self, lost: u64, now: Micros) {
        self.advance(now);
        self.skipped(lost);
    }

    /// A camera is up, or down. Parts without its frame are rejected at once if it is down, and so is every part
    /// until all are up again; in free run, what passed meanwhile is rejected when it reaches the reject station.
    pub fn on_camera(&mut self, view: View, up: bool, now: Micros) {
        self.advance(now);
        let was_down = self.kept.down.contains(view);
        if !up && !was_down {
            self.kept.down = self.kept.down.with(view);
            self.queue.forget_verdict();
            self.queue.close_waiting(view, Cause::CameraFault);
            self.drop_held();
        }
        if up && was_down {
            self.kept.down = self.kept.down.without(view);
            if self.kept.down.is_empty() && self.settings.trigger == Trigger::FreeRun {
                self.gate
                    .flush(self.here().plus(self.reach), Cause::CameraFault);
            }
        }
        self.conditions();
    }

    /// An output cannot be switched: what the ejector does with a part is not known.
    pub fn on_output_failed(&mut self, now: Micros) {
        self.advance(now);
        self.raise(Alarm::Output);
    }

    /// Results are written, or lost. What becomes of a part does not depend on it.
    pub fn on_results(&mut self, written: bool, now: Micros) {
        self.advance(now);
        self.kept.results_lost = !written;
        self.conditions();
    }

    /// Parts that pass no longer look as they were taught. What becomes of a part does not depend on it.
    pub fn on_drift(&mut self, now: Micros) {
        self.advance(now);
        self.raise(Alarm::Drift);
    }

    /// Reports what judges from now on. Without a network the line stays stopped; with another one than the stored
    /// one it goes on, and says so until the stored one judges and somebody has reset the alarm.
    pub fn on_network(&mut self, state: NetworkState, now: Micros) {
        self.advance(now);
        self.kept.network = state;
        self.conditions();
        if self.stops(Alarm::Network) || self.stops(Alarm::Taught) {
            self.halt();
        }
    }

    /// Where something that happened `at` is, or the nearest that is known of it.
    pub(super) fn place(&self, at: Micros) -> Position {
        match self.settings.delay.axis() {
            Axis::Time => Position(at.0),
            Axis::Counts => self.here(),
        }
    }

    /// A trigger; the encoder's come with the count that they stand for.
    fn edge(&mut self, at: Micros, count: Option<Position>) {
        let trigger = self.settings.trigger;
        let spacing_us = trigger.pairing().map_or(0, |p| p.spacing_us());
        let edge = self.filter.judge(at, trigger.debounce_us(), spacing_us);
        if edge != Edge::Bounced {
            self.watch_encoder();
        }
        match edge {
            Edge::Bounced => self.statistics.triggers.bounced += 1,
            Edge::Part(at) => self.part(at, self.place_of(at, count), None),
            Edge::TooClose(at) => {
                // Either frame could be of either part: neither is known.
                self.statistics.triggers.too_close += 1;
                self.queue.close_newest(Cause::Unknown);
                self.part(at, self.place_of(at, count), Some(Cause::Unknown));
            }
        }
    }

    /// A part was triggered. If it was seen from outside, the belt has moved, and an encoder must have counted;
    /// one that is triggered by time must move sooner or later. (An encoder that triggers counts.)
    pub(super) fn watch_encoder(&mut self) {
        let patience_us = match self.settings.trigger {
            Trigger::Edge { .. } | Trigger::Command { .. } => 0,
            Trigger::FreeRun | Trigger::Interval(_) => STANDING_US,
            Trigger::Encoder { .. } => return,
        };
        if self.settings.delay.axis() != Axis::Counts {
            return;
        }
        // While the line is stopped the belt may stand.
        let by_time = patience_us > 0;
        if self.standing.count != self.kept.count || by_time && self.blind().is_some() {
            self.standing = Standing {
                count: self.kept.count,
                ..Standing::default()
            };
        }
        let now = self.kept.now;
        let standing = &mut self.standing;
        standing.parts = standing.parts.saturating_add(1);
        let since = *standing.since.get_or_insert(now);
        if standing.parts > STANDING_PARTS && now.since(since) >= patience_us {
            self.standing = Standing::default();
            self.raise(Alarm::Encoder);
        }
    }

    fn place_of(&self, at: Micros, count: Option<Position>) -> Position {
        match (self.settings.delay.axis(), count) {
            (Axis::Counts, Some(count)) => count,
            _ => self.place(at),
        }
    }

    fn latency(&mut self, triggered: Micros) {
        let us = self.kept.now.since(triggered);
        self.statistics.latency.record(us);
        let limit = self.settings.alarms.latency.map(LatencyLimit::get);
        if limit.is_some_and(|ms| us > u64::from(ms) * 1000) {
            self.raise(Alarm::Latency);
        }
    }

    pub(super) fn pair(&mut self, part: PartId, frame: Frame) {
        let view = frame.view;
        let Some(entry) = self.queue.find(part) else {
            return;
        };
        let awaited = entry.awaited.without(view);
        // Another view may have made it a reject already.
        let open = matches!(entry.state, State::Waiting | State::Framed);
        let framed = match frame.flaw {
            None => entry.framed.with(view),
            Some(_) => entry.framed,
        };
        self.queue.view(part, |entry| {
            (entry.awaited, entry.framed) = (awaited, framed)
        });
        let Some(cause) = frame.flaw else {
            self.statistics.frames.paired += 1;
            if open && awaited.is_empty() {
                self.queue.set(part, State::Framed);
            }
            let frame = frame.id;
            self.report(Event::Paired { part, frame });
            return;
        };
        self.statistics.frames.damaged += 1;
        self.statistics.views[view.index()].damaged += 1;
        if open {
            self.queue.set(part, State::Closed(cause));
        }
        self.report(Event::Dropped {
            frame: frame.id,
            part: Some(part),
        });
        match cause {
            Cause::NothingVisible => self.raise(Alarm::NothingVisible),
            Cause::Frozen => self.raise(Alarm::Frozen),
            Cause::Light => self.raise(Alarm::Light),
            _ => (),
        }
    }

    pub(super) fn drop_frame(&mut self, frame: Frame) {
        if self.blind().is_some() {
            self.statistics.frames.ignored += 1;
        } else {
            self.statistics.frames.unpaired += 1;
        }
        self.report(Event::Dropped {
            frame: frame.id,
            part: None,
        });
    }

    pub(super) fn drop_held(&mut self) {
        for view in 0..self.held.len() {
            while let Some(frame) = self.held[view].drain() {
                self.drop_frame(frame);
            }
        }
    }
}

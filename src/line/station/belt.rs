//! What happens by itself: parts are made, closed at their deadline, and get their outcome at the reject
//! station; windows, confirmations and inputs run out.

use super::Station;
use crate::line::alarms::Alarm;
use crate::line::event::{Event, Observer};
use crate::line::inputs::Confirmations;
use crate::line::lanes::{DefectType, Lane, Sorting};
use crate::line::outcome::{Cause, Outcome};
use crate::line::queue::{Arrival, Entry, Pushed, State};
use crate::line::settings::{Axis, Wiring};
use crate::line::time::{Micros, PartId, Position};
use crate::line::trigger::CATCH_UP;
use crate::line::view::ViewSet;

impl<O: Observer, const N: usize> Station<O, N> {
    /// Does everything that is due by `now`. Time never goes back: an earlier `now` is the last one.
    pub(super) fn advance(&mut self, now: Micros) {
        self.kept.now = self.kept.now.max(now);
        self.intervals();
        let here = self.here();
        let counts = &mut self.statistics.views;
        self.queue.close_overdue(here, |frame, verdict| {
            frame.iter().for_each(|v| counts[v.index()].missing += 1);
            verdict.iter().for_each(|v| counts[v.index()].late += 1);
        });
        if let Some(end) = self.gate.flush_end().filter(|end| *end <= self.here()) {
            let passed = self.reached(end).plus(self.settings.width.us());
            self.gate.flush_passes(passed);
        }
        self.gate.advance(self.kept.now);
        if self.barred().is_none() {
            self.reach = self.settings.delay.delay();
        }
        self.arrivals();
        self.unconfirmed();
        self.conditions();
        if let Some(pairing) = self.settings.trigger.pairing() {
            for view in 0..self.held.len() {
                while let Some(frame) = self.held[view].expired(self.kept.now, &pairing) {
                    self.drop_frame(frame);
                }
            }
        }
    }

    /// When something is due next.
    pub(super) fn wake(&self) -> Option<Micros> {
        let on_axis = match self.settings.delay.axis() {
            Axis::Time => [self.queue.next(self.here()), self.gate.flush_end()],
            Axis::Counts => [None, None],
        };
        let interval = self.settings.trigger.interval_us();
        let interval = interval.and_then(|_| self.pace.next());
        let pairing = self.settings.trigger.pairing();
        let strobe = (self.strobe_until > self.kept.now).then_some(self.strobe_until);
        [
            interval.map(Micros),
            self.gate.wake(self.kept.now),
            self.confirmations.as_ref().and_then(Confirmations::wake),
            self.kept.bin_full.wake(self.kept.now),
            self.kept.bin_open.wake(self.kept.now),
            pairing.and_then(|p| self.held.iter().filter_map(|held| held.wake(&p)).min()),
            strobe,
        ]
        .into_iter()
        .chain(on_axis.map(|place| place.map(|p| Micros(p.0))))
        .flatten()
        .min()
    }

    /// The station's own triggers by time. Those whose moment was missed are parts without a picture.
    fn intervals(&mut self) {
        let Some(step) = self.settings.trigger.interval_us() else {
            return;
        };
        for _ in 0..CATCH_UP {
            let Some(at) = self.pace.take(self.kept.now.0, step).map(Micros) else {
                return;
            };
            let place = self.place(at);
            let missed = self.pace.next().is_some_and(|next| next <= self.kept.now.0);
            self.statistics.triggers.skipped += u64::from(missed);
            self.watch_encoder();
            self.part(at, place, missed.then_some(Cause::Unknown));
        }
        let skipped = self.pace.skip(self.kept.now.0, step);
        self.skipped(skipped);
    }

    /// Triggers were passed over.
    pub(super) fn skipped(&mut self, skipped: u64) {
        if skipped > 0 {
            self.statistics.triggers.skipped += skipped;
            self.raise(Alarm::Overrun);
        }
    }

    /// Makes a part. With a cause it is rejected whatever comes.
    pub(super) fn part(&mut self, triggered: Micros, place: Position, cause: Option<Cause>) {
        let part = self.statistics.next_part;
        self.statistics.next_part = PartId(part.0.saturating_add(1));
        let delay = self.settings.delay;
        let due = place.plus(delay.delay());
        let blind = self.blind();
        let closed = blind.or(cause);
        let piece = self.kept.challenge.take_piece();
        let pushed = self.queue.push(Entry {
            part,
            triggered,
            deadline: place.plus(delay.deadline()),
            due,
            last_due: due,
            piece,
            state: closed.map_or(State::Waiting, State::Closed),
            awaited: match closed {
                None => self.kept.cameras,
                Some(_) => ViewSet::NONE,
            },
            framed: ViewSet::NONE,
            judged: ViewSet::NONE,
            sorting: Sorting::default(),
            block: false,
        });
        if let Some(width) = self.settings.strobe {
            self.strobe_until = self.kept.now.plus(u64::from(width.get()));
        }
        let at = triggered;
        self.report(Event::Triggered { part, at, due });
        if pushed == Pushed::Overflowed {
            let cause = closed.unwrap_or(Cause::QueueFull);
            let lane = self.settings.default_lane;
            let outcome = Outcome::RejectBecause(cause);
            self.give(part, outcome, piece, DefectType::None, lane);
            if blind.is_none() {
                self.raise(Alarm::QueueFull);
            }
        } else if closed.is_none()
            && let Some(pairing) = self.settings.trigger.pairing()
        {
            for view in 0..self.held.len() {
                if let Some(frame) = self.held[view].take(triggered, &pairing) {
                    self.pair(part, frame);
                }
            }
        }
    }

    /// When a place that has been reached was reached, as far as is known.
    fn reached(&self, place: Position) -> Micros {
        match self.settings.delay.axis() {
            Axis::Time => self.kept.now.min(Micros(place.0)),
            Axis::Counts => self.kept.now,
        }
    }

    fn arrivals(&mut self) {
        loop {
            match self.queue.arrival(self.here()) {
                Arrival::Nothing => return,
                Arrival::Block => {
                    self.gate.set_block(true);
                    return;
                }
                Arrival::Entry(entry) => self.arrive(&entry),
            }
        }
    }

    /// A part is at the reject station, or the last one of a block.
    fn arrive(&mut self, entry: &Entry) {
        // It was a reject already when these did not come.
        let counts = &mut self.statistics.views;
        for view in entry.awaited.iter() {
            counts[view.index()].missing += 1;
        }
        for view in entry.framed.minus(entry.judged).iter() {
            counts[view.index()].late += 1;
        }
        let barred = self.barred();
        let outcome = match (entry.state, barred) {
            (State::Judged { good: true }, None) => Outcome::Good,
            (State::Judged { good: true }, Some(cause)) => Outcome::RejectBecause(cause),
            (State::Judged { good: false }, _) => Outcome::Reject,
            (State::Closed(cause), _) => Outcome::RejectBecause(cause),
            // Closed at the deadline, which is never behind the reject station.
            (State::Waiting | State::Framed, _) => Outcome::RejectBecause(Cause::Late),
        };
        let reached = self.reached(entry.last_due);
        let width = self.settings.width.us();
        if entry.state == State::Closed(Cause::Late) {
            if self.owed.is_full() {
                self.owed.pop_front();
            }
            // Cannot fail: one place is free.
            let _ = self.owed.push_back((entry.part, entry.triggered));
        }
        // Output `good` was off while the part passed: the ejector has taken it.
        let ejected = matches!(self.settings.wiring, Wiring::EnergiseForGood { .. })
            && self.kept.now >= reached.plus(width);
        let outcome = match outcome {
            Outcome::Good if ejected => Outcome::RejectBecause(Cause::Late),
            outcome => outcome,
        };
        let taken_along = outcome == Outcome::Good && self.is_taken_along(entry);
        if entry.state == (State::Judged { good: true }) && (outcome.is_reject() || taken_along) {
            self.queue.forget_verdict();
        }
        if taken_along {
            // By a pulse that is another part's: it has none of its own, or each would take the next.
            let taken = Outcome::RejectBecause(Cause::Unknown);
            self.give(entry.part, taken, entry.piece, DefectType::None, None);
        } else if outcome.is_reject() {
            let own = match outcome {
                Outcome::Reject if barred.is_none() && !self.splits(entry) => entry.sorting.lane,
                _ => None,
            };
            // From now, not from when it should have been: a reject is never shortened.
            let now = self.kept.now;
            let lane = self.gate.pass_reject(own, now, now.plus(width));
            if entry.block {
                self.gate.set_block(false);
            }
            // Before it, output `good` may have been on for the part in front.
            if barred.is_none() && self.kept.now >= reached.plus(width / 2) {
                self.statistics.actuated_late += 1;
                self.raise(Alarm::Overrun);
            }
            self.expect_confirmation();
            if !entry.block {
                self.give(entry.part, outcome, entry.piece, entry.sorting.defect, lane);
            }
        } else {
            self.gate.pass_good(reached.plus(width));
            self.give(entry.part, outcome, entry.piece, DefectType::None, None);
        }
    }

    /// Whether a good part that arrives is so close to a reject that the ejector takes it along: one that is
    /// passing, or one that comes, or may come, before it has passed.
    fn is_taken_along(&self, entry: &Entry) -> bool {
        self.gate.reject(self.kept.now) || self.queue.rejects_any(|e| self.is_near(entry, e))
    }

    /// Whether a reject that arrives is so close to others that it has no lane to itself, and one of them goes
    /// elsewhere, or may yet: then all go to the default lane, before the first has passed.
    fn splits(&self, entry: &Entry) -> bool {
        self.queue.splits(entry, |a, b| self.is_near(a, b))
    }

    /// Whether `next` comes before `entry` has passed the reject station.
    fn is_near(&self, entry: &Entry, next: &Entry) -> bool {
        let width = self.settings.width.us();
        match self.settings.delay.axis() {
            Axis::Time => next.due < entry.due.plus(width),
            // They come as soon one after the other as they were triggered, or as near to it as is known.
            Axis::Counts => next.triggered < entry.triggered.plus(width),
        }
    }

    /// Gives a part its outcome.
    pub(super) fn give(
        &mut self,
        part: PartId,
        outcome: Outcome,
        piece: bool,
        defect: DefectType,
        lane: Option<Lane>,
    ) {
        self.statistics.outcomes.count(outcome);
        if outcome == Outcome::Reject {
            self.statistics.sorted.defect(defect);
        }
        self.statistics.sorted.lane(lane);
        if outcome == Outcome::RejectBecause(Cause::NoFrame) {
            self.statistics.triggers.unpaired += 1;
        }
        self.report(Event::Outcome {
            part,
            outcome,
            lane,
        });
        if piece {
            if let Some(report) = self.kept.challenge.record(outcome).filter(|r| r.is_over()) {
                self.report(Event::Challenge(report));
            }
            if outcome != Outcome::Reject {
                self.raise(Alarm::Challenge);
            }
            return;
        }
        // Blindness has its own alarm and says nothing of the parts.
        let blind = matches!(
            outcome,
            Outcome::RejectBecause(
                Cause::NotReady
                    | Cause::CameraFault
                    | Cause::NothingVisible
                    | Cause::Frozen
                    | Cause::Light
            )
        );
        if !blind && self.barred().is_none() {
            for alarm in self.watch.part(outcome.is_reject()).into_iter().flatten() {
                self.raise(alarm);
            }
        }
    }

    /// A reject starts: the sensor in the bin must see it. While the line is stopped none arrives there.
    fn expect_confirmation(&mut self) {
        if !self.kept.started || self.stopped {
            return;
        }
        let now = self.kept.now;
        if self.confirmations.as_mut().is_some_and(|c| !c.expect(now)) {
            self.statistics.confirms.missing += 1;
            self.raise(Alarm::RejectUnconfirmed);
        }
    }

    fn unconfirmed(&mut self) {
        let now = self.kept.now;
        while self.confirmations.as_mut().is_some_and(|c| c.missing(now)) {
            self.statistics.confirms.missing += 1;
            // Though the line may have stopped meanwhile: where the part is, is not known.
            self.raise(Alarm::RejectUnconfirmed);
        }
    }
}

//! The reject station: what is passing it, and what the ejector has to do.
//!
//! Keeps windows of time during which a part passes. A window of a part that is not good always wins
//! over one of a good part. Rejects that touch share a lane: the first one's, until one comes that has another,
//! and then the default lane until the last has passed. Must never end a reject early.

use super::lanes::Lane;
use super::outcome::Cause;
use super::time::{Micros, Position};

/// How much of what the station missed while it was blind has yet to pass the reject station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    /// No flush is due.
    None,
    /// Everything up to this place.
    Until(Position),
    /// The last of it passes until then.
    Passing(Micros),
}

/// The windows that are open.
#[derive(Debug)]
pub(super) struct Gate {
    good_until: Micros,
    reject_until: Micros,
    block: bool,
    flush: Flush,
    flush_cause: Cause,
    default_lane: Option<Lane>,
    /// The lane of the rejects that pass.
    lane: Option<Lane>,
}

impl Gate {
    pub(super) fn new(default_lane: Option<Lane>) -> Self {
        Gate {
            default_lane,
            lane: None,
            good_until: Micros(0),
            reject_until: Micros(0),
            block: false,
            flush: Flush::None,
            flush_cause: Cause::NotReady,
        }
    }

    /// A good part passes until then.
    pub(super) fn pass_good(&mut self, until: Micros) {
        self.good_until = self.good_until.max(until);
    }

    /// A part that is not good passes until then, from `now` on; overlapping windows become one. It goes to its
    /// own lane, or to the default one. Returns where it goes.
    pub(super) fn pass_reject(
        &mut self,
        lane: Option<Lane>,
        now: Micros,
        until: Micros,
    ) -> Option<Lane> {
        let lane = lane.or(self.default_lane);
        self.lane = match self.reject(now) {
            true if self.lane(now) != lane => self.default_lane,
            _ => lane,
        };
        self.reject_until = self.reject_until.max(until);
        self.lane
    }

    /// The lane of what passes and is not good.
    pub(super) fn lane(&self, now: Micros) -> Option<Lane> {
        match (self.block, self.reject(now)) {
            (true, _) => self.default_lane,
            (false, true) => self.lane,
            (false, false) => None,
        }
    }

    /// Until when rejects pass that are known by now.
    pub(super) fn rejects_until(&self) -> Micros {
        self.reject_until
    }

    /// Whether a block of parts is passing.
    pub(super) fn set_block(&mut self, passing: bool) {
        self.block = passing;
    }

    /// The station sees again: what it missed lies before this place.
    pub(super) fn flush(&mut self, until: Position, cause: Cause) {
        self.flush = Flush::Until(until);
        self.flush_cause = cause;
    }

    /// Where what was missed ends, if that has not arrived.
    pub(super) fn flush_end(&self) -> Option<Position> {
        match self.flush {
            Flush::Until(place) => Some(place),
            Flush::None | Flush::Passing(_) => None,
        }
    }

    /// What was missed has arrived, and passes until then.
    pub(super) fn flush_passes(&mut self, until: Micros) {
        self.flush = Flush::Passing(until);
    }

    /// Ends what is over.
    pub(super) fn advance(&mut self, now: Micros) {
        if matches!(self.flush, Flush::Passing(until) if until <= now) {
            self.flush = Flush::None;
        }
    }

    /// Why nothing that passes now can be known to be good, if so.
    pub(super) fn flushing(&self) -> Option<Cause> {
        (self.flush != Flush::None).then_some(self.flush_cause)
    }

    /// Whether a part known to be good passes, and no other.
    pub(super) fn good(&self, now: Micros) -> bool {
        now < self.good_until && !self.reject(now)
    }

    /// Whether a part that is not good passes.
    pub(super) fn reject(&self, now: Micros) -> bool {
        self.block || now < self.reject_until
    }

    /// When a window ends next.
    pub(super) fn wake(&self, now: Micros) -> Option<Micros> {
        let passing = match self.flush {
            Flush::Passing(until) => until,
            Flush::None | Flush::Until(_) => now,
        };
        [self.good_until, self.reject_until, passing]
            .into_iter()
            .filter(|t| *t > now)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reject_wins_over_a_good_part_and_is_never_shortened() {
        let mut gate = Gate::new(None);
        gate.pass_good(Micros(40));
        assert!(gate.good(Micros(39)) && !gate.good(Micros(40)));
        gate.pass_reject(None, Micros(0), Micros(30));
        gate.pass_reject(None, Micros(10), Micros(20));
        assert!(!gate.good(Micros(29)) && gate.reject(Micros(29)));
        assert!(gate.good(Micros(30)) && !gate.reject(Micros(30)));
        assert_eq!(gate.wake(Micros(10)), Some(Micros(30)));
        assert_eq!(gate.wake(Micros(40)), None);
        gate.set_block(true);
        assert!(!gate.good(Micros(35)) && gate.reject(Micros(99)));
    }

    #[test]
    fn rejects_that_touch_and_have_different_lanes_end_in_the_default_lane() {
        let lane = |n| Some(Lane::new(n).unwrap());
        let mut gate = Gate::new(lane(8));
        assert_eq!(gate.lane(Micros(0)), None);
        assert_eq!(gate.pass_reject(lane(1), Micros(0), Micros(10)), lane(1));
        assert_eq!(gate.pass_reject(lane(1), Micros(9), Micros(19)), lane(1));
        assert_eq!(gate.pass_reject(lane(2), Micros(18), Micros(28)), lane(8));
        assert_eq!(gate.pass_reject(lane(2), Micros(27), Micros(37)), lane(8));
        assert_eq!(
            (gate.lane(Micros(36)), gate.lane(Micros(37))),
            (lane(8), None)
        );
        assert_eq!(gate.pass_reject(lane(2), Micros(37), Micros(47)), lane(2));
        gate.set_block(true);
        assert_eq!(gate.lane(Micros(40)), lane(8));
        gate.set_block(false);
        assert_eq!(gate.pass_reject(None, Micros(50), Micros(60)), lane(8));
    }

    #[test]
    fn what_was_missed_is_flushed_until_it_has_passed() {
        let mut gate = Gate::new(None);
        gate.flush(Position(500), Cause::NotReady);
        gate.advance(Micros(9999));
        assert_eq!(gate.flushing(), Some(Cause::NotReady));
        assert_eq!(gate.flush_end(), Some(Position(500)));
        gate.flush_passes(Micros(10_100));
        gate.advance(Micros(10_099));
        assert_eq!(gate.flushing(), Some(Cause::NotReady));
        assert_eq!(gate.wake(Micros(10_099)), Some(Micros(10_100)));
        gate.advance(Micros(10_100));
        assert_eq!(gate.flushing(), None);
    }
}

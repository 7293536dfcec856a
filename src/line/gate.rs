//! The reject station: what is passing it, and what the ejector has to do.
//!
//! Keeps windows of time during which a part passes. A window of a part that is not good always wins
//! over one of a good part. Must never end a reject early.

use super::outcome::Cause;
use super::time::{Micros, Position};

/// What the station missed while it was blind, and has yet to pass the reject station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    /// Nothing.
    None,
    /// The last of it is before this place.
    Until(Position),
    /// The last of it is passing until then.
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
}

impl Gate {
    pub(super) fn new() -> Self {
        Gate {
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

    /// A part that is not good passes until then; overlapping windows become one.
    pub(super) fn pass_reject(&mut self, until: Micros) {
        self.reject_until = self.reject_until.max(until);
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
        let mut gate = Gate::new();
        gate.pass_good(Micros(40));
        assert!(gate.good(Micros(39)) && !gate.good(Micros(40)));
        gate.pass_reject(Micros(30));
        gate.pass_reject(Micros(20));
        assert!(!gate.good(Micros(29)) && gate.reject(Micros(29)));
        assert!(gate.good(Micros(30)) && !gate.reject(Micros(30)));
        assert_eq!(gate.wake(Micros(10)), Some(Micros(30)));
        assert_eq!(gate.wake(Micros(40)), None);
        gate.set_block(true);
        assert!(!gate.good(Micros(35)) && gate.reject(Micros(99)));
    }

    #[test]
    fn what_was_missed_is_flushed_until_it_has_passed() {
        let mut gate = Gate::new();
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

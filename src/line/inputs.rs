//! What the machine around the station says, and for how long it must say so.

use super::time::Micros;
use heapless::Deque;

/// A full bin raises its alarm after this long, us. (The industry's usual 4 s: parts pile up for a
/// moment in front of the sensor.)
pub const BIN_FULL_US: u64 = 4_000_000;

/// An open bin raises its alarm after this long, us. (20 s: time to empty it.)
pub const BIN_OPEN_US: u64 = 20_000_000;

/// Rejects that can wait for their confirmation. What exceeds it counts as unconfirmed.
pub const CONFIRMATIONS: usize = 256;

/// An input, as a logical state: whether the contact closes for it is the board's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The sensor in the reject bin sees a part.
    RejectConfirm,
    /// The reject bin is full.
    BinFull,
    /// The reject bin is open.
    BinOpen,
    /// The ejector lacks air.
    LowAir,
    /// Stop, as long as it is active and until reset.
    Stop,
    /// Reset, when it becomes active.
    Reset,
}

/// An input that means something once it has lasted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lasting {
    since: Option<Micros>,
    least_us: u64,
}

impl Lasting {
    pub(super) fn new(least_us: u64) -> Self {
        Lasting {
            since: None,
            least_us,
        }
    }

    /// Its state since then; reporting the same state again changes nothing.
    pub(super) fn set(&mut self, active: bool, at: Micros) {
        match (active, self.since) {
            (true, None) => self.since = Some(at),
            (false, _) => self.since = None,
            (true, Some(_)) => (),
        }
    }

    /// Since when it has lasted long enough.
    fn end(&self) -> Option<Micros> {
        self.since.map(|t| t.plus(self.least_us))
    }

    /// Whether it has lasted long enough.
    pub(super) fn lasted(&self, now: Micros) -> bool {
        self.end().is_some_and(|end| end <= now)
    }

    /// When it will have.
    pub(super) fn wake(&self, now: Micros) -> Option<Micros> {
        self.end().filter(|end| *end > now)
    }
}

/// Rejects that the sensor in the bin has yet to see, oldest first.
#[derive(Debug)]
pub(super) struct Confirmations {
    started: Deque<Micros, CONFIRMATIONS>,
    window_us: u64,
}

impl Confirmations {
    pub(super) fn new(window_us: u64) -> Self {
        Confirmations {
            started: Deque::new(),
            window_us,
        }
    }

    /// Waits for those that others waited for, too.
    pub(super) fn take_over(&mut self, others: Confirmations) {
        self.started = others.started;
    }

    /// A reject started: the sensor must see it within the window. Whether there was room.
    pub(super) fn expect(&mut self, started: Micros) -> bool {
        self.started.push_back(started).is_ok()
    }

    /// The sensor saw a part: the oldest reject that can be it. Whether there is one. Those whose window is
    /// over by then are left to [`Confirmations::missing`].
    pub(super) fn seen(&mut self, at: Micros) -> bool {
        let over = |t: &Micros| at.since(*t) > self.window_us;
        let expired = self.started.iter().take_while(|t| over(t)).count();
        if self
            .started
            .get(expired)
            .is_none_or(|started| *started > at)
        {
            return false;
        }
        // Those before it move up by one.
        for place in (0..expired).rev() {
            self.started.swap(place, place + 1);
        }
        self.started.pop_front().is_some()
    }

    /// Takes out a reject whose window is over before `now`.
    pub(super) fn missing(&mut self, now: Micros) -> bool {
        let window_us = self.window_us;
        self.started
            .pop_front_if(|started| now.since(*started) > window_us)
            .is_some()
    }

    /// Takes out a reject that nobody waits for any more.
    pub(super) fn give_up(&mut self) -> bool {
        self.started.pop_front().is_some()
    }

    /// When the first window is over.
    pub(super) fn wake(&self) -> Option<Micros> {
        self.started.front().map(|t| t.plus(self.window_us + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_counts_once_it_has_lasted() {
        let mut bin = Lasting::new(BIN_FULL_US);
        bin.set(true, Micros(10));
        bin.set(true, Micros(500));
        assert!(!bin.lasted(Micros(10 + BIN_FULL_US - 1)));
        assert_eq!(bin.wake(Micros(500)), Some(Micros(10 + BIN_FULL_US)));
        assert!(bin.lasted(Micros(10 + BIN_FULL_US)));
        bin.set(false, Micros(20 + BIN_FULL_US));
        assert!(!bin.lasted(Micros(u64::MAX)));
    }

    #[test]
    fn each_reject_is_confirmed_once_within_its_window() {
        let mut confirm = Confirmations::new(100_000);
        assert!(confirm.expect(Micros(1000)) && confirm.expect(Micros(50_000)));
        assert!(!confirm.seen(Micros(999)));
        assert!(confirm.seen(Micros(101_000)));
        assert!(!confirm.missing(Micros(150_000)));
        assert_eq!(confirm.wake(), Some(Micros(150_001)));
        assert!(!confirm.seen(Micros(150_001)) && confirm.missing(Micros(150_001)));
        assert!(!confirm.missing(Micros(u64::MAX)));
        // One that is over hides no later one.
        assert!([0, 1000, 90_000, 95_000].map(|t| confirm.expect(Micros(t))) == [true; 4]);
        assert!(confirm.seen(Micros(110_000)));
        assert_eq!(confirm.wake(), Some(Micros(100_001)));
        assert!(confirm.missing(Micros(120_000)) && confirm.missing(Micros(120_000)));
        assert_eq!(confirm.wake(), Some(Micros(195_001)));
        assert!(confirm.seen(Micros(100_000)) && !confirm.seen(Micros(100_000)));
        assert!((0..CONFIRMATIONS).all(|_| confirm.expect(Micros(0))));
        assert!(!confirm.expect(Micros(0)));
        assert!((0..CONFIRMATIONS).all(|_| confirm.give_up()) && !confirm.give_up());
    }
}

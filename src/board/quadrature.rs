//! A quadrature encoder's two channels to a count.
//!
//! Every edge is a count (four per period). A bounce is a step there and back and leaves no trace.

/// One of the two channels of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    /// The channel that leads while the belt runs forward.
    A,
    /// The channel that follows by a quarter of a period then.
    B,
}

/// An edge is missing: the channel had that level already. By how much the count is off is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missed;

/// Levels of both channels, and how far they have turned.
#[derive(Debug)]
pub(super) struct Quadrature {
    a: bool,
    b: bool,
    count: u64,
}

impl Quadrature {
    /// Where counting starts: far enough from zero that a belt running back does not get there.
    pub(super) const START: u64 = 1 << 32;

    /// Counting starts at these levels.
    pub(super) fn new(a: bool, b: bool) -> Self {
        Quadrature {
            a,
            b,
            count: Self::START,
        }
    }

    /// Counting goes on from where it was, at these levels.
    pub(super) fn resume(&mut self, a: bool, b: bool) {
        (self.a, self.b) = (a, b);
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// A channel went to this level. Forward is 00, 10, 11, 01 (A, B): A changes away from B, B to A.
    pub(super) fn edge(&mut self, channel: Channel, high: bool) -> Result<(), Missed> {
        let (own, other) = match channel {
            Channel::A => (&mut self.a, self.b),
            Channel::B => (&mut self.b, self.a),
        };
        if *own == high {
            return Err(Missed);
        }
        *own = high;
        let forward = (high != other) == (channel == Channel::A);
        self.count = if forward {
            self.count.saturating_add(1)
        } else {
            self.count.saturating_sub(1)
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The levels at a position, as an encoder's disc has them.
    fn disc(position: i64) -> (bool, bool) {
        [(false, false), (true, false), (true, true), (false, true)]
            [position.rem_euclid(4) as usize]
    }

    proptest! {
        /// Any walk ends where it ended, whatever it started at and however it bounced.
        #[test]
        fn counts_follow_the_disc(start in 0..4i64, steps in prop::collection::vec((any::<bool>(), 0..3usize), 0..300)) {
            let (a, b) = disc(start);
            let mut decoder = Quadrature::new(a, b);
            let mut position = start;
            for (forward, bounces) in steps {
                let (from, to) = (disc(position), disc(position + if forward { 1 } else { -1 }));
                let (channel, old, new) = if from.0 == to.0 {
                    (Channel::B, from.1, to.1)
                } else {
                    (Channel::A, from.0, to.0)
                };
                for _ in 0..bounces {
                    decoder.edge(channel, new).unwrap();
                    decoder.edge(channel, old).unwrap();
                }
                decoder.edge(channel, new).unwrap();
                position += if forward { 1 } else { -1 };
                let expected = Quadrature::START.wrapping_add_signed(position - start);
                prop_assert_eq!(decoder.count(), expected);
                prop_assert_eq!(decoder.edge(channel, new), Err(Missed));
                prop_assert_eq!(decoder.count(), expected);
            }
        }
    }
}

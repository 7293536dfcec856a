//! Everything that is counted, as plain data: read it at any time, store it, start again with it.

use super::lanes::SortCounts;
use super::outcome::Counters;
use super::time::PartId;
use super::view::VIEWS;

/// Triggers that did not make an ordinary part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TriggerErrors {
    /// Bounces of a contact: they make no part.
    pub bounced: u64,
    /// Parts too close to the one before them, or out of order.
    pub too_close: u64,
    /// Parts of which no frame came.
    pub unpaired: u64,
    /// Triggers from outside although the station triggers itself: they make no part.
    pub unexpected: u64,
    /// Intervals and pitches that a late call could not trigger in time. Up to
    /// [`CATCH_UP`](super::trigger::CATCH_UP) per call became parts that are rejected.
    pub skipped: u64,
}

/// What became of the frames. Their sum is the number of frames that were reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts {
    /// Frames that found their part and can be judged.
    pub paired: u64,
    /// Frames that found their part, but cannot be judged (damaged, nothing to be seen): the part is rejected.
    pub damaged: u64,
    /// Frames that found no part.
    pub unpaired: u64,
    /// Frames that came while the station was not inspecting.
    pub ignored: u64,
}

/// What became of the verdicts. Their sum is the number of verdicts that were reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerdictCounts {
    /// Verdicts that came in time.
    pub taken: u64,
    /// Verdicts after the deadline: the part is or was rejected.
    pub late: u64,
    /// Verdicts for a part that had one.
    pub duplicate: u64,
    /// Verdicts for a part that was never triggered, or has no frame.
    pub unknown: u64,
    /// Verdicts for a part whose reject was certain already.
    pub ignored: u64,
}

/// Rejects and the sensor in the bin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfirmCounts {
    /// Rejects that the sensor saw in time.
    pub confirmed: u64,
    /// Rejects that it did not see within the window, or that nobody waits for any more at the end.
    pub missing: u64,
    /// Parts that it saw although no reject was due.
    pub unexpected: u64,
}

/// What one camera said of the parts. Whatever it said, another may have made a part a reject before: those who
/// look for a side that is often bad, or a camera that often fails, find it here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewCounts {
    /// Good by their score, in time.
    pub good: u64,
    /// Rejects by their score, in time.
    pub rejects: u64,
    /// The network failed.
    pub errors: u64,
    /// A frame was there that could not be judged.
    pub damaged: u64,
    /// No frame came.
    pub missing: u64,
    /// A frame was there, and its verdict was not when the part was due.
    pub late: u64,
}

/// How many buckets [`Latency`] has.
pub const BUCKETS: usize = 176;

/// Buckets per doubling: 8 keep a percentile within 12.5 %.
const PER_OCTAVE: usize = 8;

/// Latencies from trigger to verdict, microseconds, in a histogram of fixed size. Buckets are 1 us wide
/// up to 8 us, then 8 per doubling up to 16.8 s; longer ones share the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// The number of latencies.
    pub count: u64,
    /// Their sum, us.
    pub sum_us: u64,
    /// The shortest, us; `u64::MAX` if there are none.
    pub min_us: u64,
    /// The longest, us.
    pub max_us: u64,
    /// The number of latencies in each bucket.
    pub buckets: [u64; BUCKETS],
}

impl Default for Latency {
    fn default() -> Self {
        Latency {
            count: 0,
            sum_us: 0,
            min_us: u64::MAX,
            max_us: 0,
            buckets: [0; BUCKETS],
        }
    }
}

impl Latency {
    fn bucket(us: u64) -> usize {
        let Some(octave) = (us / PER_OCTAVE as u64).checked_ilog2() else {
            return us as usize;
        };
        let within = (us >> octave) as usize - PER_OCTAVE;
        ((octave as usize + 1) * PER_OCTAVE + within).min(BUCKETS - 1)
    }

    /// The longest latency that falls into a bucket.
    fn upper_us(bucket: usize) -> u64 {
        match (bucket / PER_OCTAVE).checked_sub(1) {
            None => bucket as u64,
            Some(octave) => (((bucket % PER_OCTAVE + PER_OCTAVE + 1) as u64) << octave) - 1,
        }
    }

    /// Counts a latency.
    pub fn record(&mut self, us: u64) {
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.min_us = self.min_us.min(us);
        self.max_us = self.max_us.max(us);
        self.buckets[Self::bucket(us)] += 1;
    }

    /// The mean latency in us, rounded down; `None` if there are none.
    pub fn mean_us(&self) -> Option<u64> {
        self.sum_us.checked_div(self.count)
    }

    /// The latency that `percent` (0..=100) of all do not exceed; at most 12.5 % too high.
    pub fn percentile_us(&self, percent: u8) -> Option<u64> {
        let share = u128::from(self.count) * u128::from(percent.min(100));
        let rank = (share.div_ceil(100) as u64).max(1);
        let mut seen = 0;
        self.buckets
            .iter()
            .position(|n| {
                seen += n;
                seen >= rank
            })
            .map(|bucket| match bucket {
                bucket if bucket == BUCKETS - 1 => self.max_us,
                bucket => Self::upper_us(bucket).min(self.max_us),
            })
    }
}

/// All counters of a station.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// The number that the next part gets.
    pub next_part: PartId,
    /// What became of the parts; those on the belt have no outcome yet.
    pub outcomes: Counters,
    /// What became of trigger edges that made no part of their own.
    pub triggers: TriggerErrors,
    /// What became of the frames.
    pub frames: FrameCounts,
    /// What became of the verdicts.
    pub verdicts: VerdictCounts,
    /// What the sensor in the bin confirmed.
    pub confirms: ConfirmCounts,
    /// Calls in which the encoder had run back.
    pub encoder_reversals: u64,
    /// Parts for which the reject could only start when half of them had passed. Known only if the reject
    /// delay is a time.
    pub actuated_late: u64,
    /// From trigger to verdict, of verdicts in time and late ones.
    pub latency: Latency,
    /// Rejects by type of defect and by lane.
    pub sorted: SortCounts,
    /// By camera.
    pub views: [ViewCounts; VIEWS],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_join_without_gaps() {
        assert_eq!(Latency::bucket(0), 0);
        let mut last = 0;
        for us in 1..100_000 {
            let bucket = Latency::bucket(us);
            assert!(bucket == last || bucket == last + 1, "{us}");
            assert!(us <= Latency::upper_us(bucket) && Latency::upper_us(bucket) <= us + us / 8);
            last = bucket;
        }
        assert_eq!(Latency::bucket(16_777_215), BUCKETS - 1);
        assert_eq!(Latency::bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_near_the_exact_ones() {
        let mut latency = Latency::default();
        assert_eq!((latency.percentile_us(99), latency.mean_us()), (None, None));
        (1..=10_000).rev().for_each(|us| latency.record(us));
        for percent in [1, 50, 99, 100] {
            let (exact, got) = (
                u64::from(percent) * 100,
                latency.percentile_us(percent).unwrap(),
            );
            assert!(got >= exact && got <= exact + exact / 8, "{percent}: {got}");
        }
        assert_eq!((latency.min_us, latency.max_us), (1, 10_000));
        assert_eq!(latency.mean_us(), Some(5000));
        latency.record(u64::MAX);
        assert_eq!(latency.percentile_us(100), Some(u64::MAX));
    }
}

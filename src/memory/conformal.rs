//! What held-out good parts say of the good parts to come: split conformal prediction.
//!
//! Of n scores of good parts that the memory has not learned from, the k-th smallest is the limit. If the
//! parts to come are like those (exchangeable), a good one lies above it with probability
//! (n - k + 1) / (n + 1); and the rate that one particular teaching will have is distributed as
//! Beta(n - k + 1, k) (Vovk, "Conditional validity of inductive conformal predictors", 2012).

use statrs::distribution::{Beta, ContinuousCDF};

/// The spread of FAPrompt's scores of good parts that is expected of a product that nothing is known of. On seven
/// sets it is 0.02 to 0.14.
const SPREAD: f32 = 0.1;
/// As many parts count as much as [`SPREAD`].
const ELSEWHERE: f32 = 16.0;

/// The confidence of [`Promise::bound`], 0..1.
pub const CONFIDENCE: f64 = 0.95;

/// The share of good parts that teaching promises to be rejected at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Promise {
    /// n, the number of good parts that were held out.
    pub parts: usize,
    /// k: the limit is the k-th smallest of their scores; n for the largest.
    pub rank: usize,
    /// The share of good parts, 0..=1, that will be rejected, on average over teachings.
    pub expected: f64,
    /// The share, 0..=1, that no more than one teaching of twenty exceeds.
    pub bound: f64,
}

impl Promise {
    /// The promise if the limit is the `rank`-th smallest of `parts` held-out scores, 1..=parts. `None` outside of
    /// that.
    pub fn new(parts: usize, rank: usize) -> Option<Promise> {
        if !(1..=parts).contains(&rank) {
            return None;
        }
        let (n, k) = (parts as f64, rank as f64);
        let above = n - k + 1.0;
        let bound = if rank == parts {
            // Exact: Beta(1, n) has the quantile 1 - (1 - q)^(1 / n).
            1.0 - (1.0 - CONFIDENCE).powf(1.0 / n)
        } else {
            Beta::new(above, k).ok()?.inverse_cdf(CONFIDENCE)
        };
        Some(Promise {
            parts,
            rank,
            expected: above / (n + 1.0),
            bound,
        })
    }

    /// The bound in parts of 1000, rounded up: no promise too much.
    pub fn per_mille(&self) -> u16 {
        (self.bound * 1000.0).ceil() as u16
    }

    /// How many held-out parts it takes before no more than `share` of the good parts will be rejected, with
    /// the largest score as the limit.
    pub fn parts_for(share: f64) -> usize {
        ((1.0 - CONFIDENCE).ln() / (1.0 - share).ln()).ceil() as usize
    }
}

impl std::fmt::Display for Promise {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(
            f,
            "with {} parts at most {:.1} of 100 good parts will be rejected, {:.1} on average",
            self.parts,
            100.0 * self.bound,
            100.0 * self.expected
        )?;
        if self.bound > 0.01 {
            write!(
                f,
                "; at most 1 of 100 takes {} parts",
                Promise::parts_for(0.01)
            )?;
        }
        Ok(())
    }
}

/// The rank of the limit among `parts` held-out scores if a share of `wanted` good parts may be rejected on
/// average: ceil((n + 1) (1 - a)), and the largest where there are too few parts for so small a share.
pub fn rank(parts: usize, wanted: f64) -> usize {
    let rank = ((parts + 1) as f64 * (1.0 - wanted)).ceil() as usize;
    rank.clamp(1, parts.max(1))
}

/// The median, of an even number the mean of the middle two; 0 of none.
pub fn median(values: &[f32]) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// Where good parts lie: the median and the spread (1.4826 times the median distance from it, which is the
/// standard deviation where scores are normal).
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usual {
    /// The median.
    pub middle: f32,
    /// The spread, above 0.
    pub spread: f32,
}

impl Usual {
    /// Median and spread of held-out scores. The spread is at least a hundredth of the median: among a handful of
    /// parts most may happen to be equal.
    pub fn of(scores: &[f32]) -> Usual {
        let middle = median(scores);
        let off: Vec<f32> = scores.iter().map(|s| (s - middle).abs()).collect();
        let least = (0.01 * middle.abs()).max(1e-6);
        Usual {
            middle,
            spread: (1.4826 * median(&off)).max(least),
        }
    }

    /// The same of FAPrompt's scores, 0..=1: what a few parts say of the spread is put together with what other
    /// products have, as if that had been seen in 16 parts. Too small a spread would make FAPrompt shout
    /// down the memory.
    pub fn of_zero_shot(scores: &[f32]) -> Usual {
        let Usual { middle, spread } = Usual::of(scores);
        let (own, others) = (scores.len() as f32, ELSEWHERE);
        let square = own * spread * spread + others * SPREAD * SPREAD;
        Usual {
            middle,
            spread: (square / (own + others)).sqrt(),
        }
    }

    /// How many spreads a score lies above the middle.
    pub fn z(&self, score: f32) -> f32 {
        (score - self.middle) / self.spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promise_is_that_of_the_beta_distribution() {
        // 1 / (n + 1) and 1 - 0.05^(1 / n).
        for (n, expected, bound) in [
            (20, 4.8, 13.9),
            (50, 2.0, 5.8),
            (100, 1.0, 3.0),
            (300, 0.33, 1.0),
            (1000, 0.10, 0.30),
        ] {
            let p = Promise::new(n, n).unwrap();
            assert!((100.0 * p.expected - expected).abs() < 0.05, "{p:?}");
            assert!((100.0 * p.bound - bound).abs() < 0.05, "{p:?}");
        }
        // scipy.stats.beta.ppf(0.95, 3, 98) = 0.06157, (11, 90): 0.16283.
        for (k, bound) in [(98, 0.061566), (90, 0.162833)] {
            let p = Promise::new(100, k).unwrap();
            assert!((p.bound - bound).abs() < 2e-3, "{p:?}");
        }
        // The largest is the limit of the general formula.
        let (exact, general) = (
            Promise::new(60, 60).unwrap().bound,
            Beta::new(1.0, 60.0).unwrap().inverse_cdf(CONFIDENCE),
        );
        assert!((exact - general).abs() < 1e-6);
        assert_eq!((Promise::new(5, 0), Promise::new(5, 6)), (None, None));
        assert_eq!(Promise::parts_for(0.01), 299);
    }

    #[test]
    fn the_promise_in_words() {
        let words = Promise::new(50, 50).unwrap().to_string();
        assert_eq!(
            words,
            "with 50 parts at most 5.8 of 100 good parts will be rejected, 2.0 on average; at most 1 of 100 \
             takes 299 parts"
        );
    }

    #[test]
    fn ranks() {
        assert_eq!(
            (rank(100, 0.01), rank(99, 0.01), rank(50, 0.01)),
            (100, 99, 50)
        );
        assert_eq!((rank(100, 0.05), rank(0, 0.1), rank(3, 1.0)), (96, 1, 1));
    }

    #[test]
    fn usual_scores() {
        let usual = Usual::of(&[1.0, 2.0, 3.0, 4.0, 100.0]);
        assert_eq!((usual.middle, usual.spread), (3.0, 1.4826));
        assert!(Usual::of(&[2.0; 4]).spread > 0.0 && Usual::of(&[]).spread > 0.0);
        // 16 parts with a spread of 0 and 16 with one of 0.1; many parts speak for themselves.
        let few = Usual::of_zero_shot(&[0.0; 16]);
        assert!(few.middle == 0.0 && (few.spread - 0.5f32.sqrt() * 0.1).abs() < 1e-6);
        let many: Vec<f32> = (0..10_000).map(|i| i as f32 * 1e-4).collect();
        let (own, shrunk) = (Usual::of(&many).spread, Usual::of_zero_shot(&many).spread);
        assert!((own - shrunk).abs() < 1e-3 && own > 0.3, "{own} {shrunk}");
    }
}

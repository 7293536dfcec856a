//! Detects that the line no longer looks as it was taught: a conformal test martingale.
//!
//! Each part that passes has a p value, its rank from above among all scores so far, the taught ones
//! included, ties broken at random. As long as parts come from one source, p values are independent and
//! uniform, whatever the scores look like. A martingale bets against that: its capital grows only where
//! they are not, and the chance that it ever reaches a hundred times its start is at most 1 % (Ville). The
//! bets are the Simple Jumper's (Vovk, Petej, Nouretdinov et al. 2021).
//!
//! Capital that was lost in a million quiet parts would be missing when the line changes. So only half of
//! it is in play from the start, and what is held back follows little by little, 1 / ln(e + t) of it being
//! still held back before part t: the sum stays a martingale.

use super::taught::{LIMIT, Taught};
use serde::{Deserialize, Serialize};

/// Bars of the histogram of scores, 0..=1.
const BARS: usize = 512;
/// Share of the capital that changes its bet at each part, 0..1.
const JUMP: f64 = 0.01;
/// Capital at which the line counts as changed: at most one unchanged line in 100 ever reaches it.
pub const ALARM: f64 = 100.0;

/// State of the test. Its size does not depend on how many parts have passed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// Histogram of the scores so far, [`BARS`] bars over 0..=1.
    counts: Vec<u32>,
    /// How many parts were tested.
    tested: u64,
    /// Capital that bets on small, on no, and on large p values.
    capital: [f64; 3],
    /// State of the random numbers that break ties.
    random: u64,
}

/// The share of the capital that is still held back before part `t`, 0..=1.
fn held_back(t: u64) -> f64 {
    0.5 / (std::f64::consts::E + t as f64).ln()
}

fn bar(score: f32) -> usize {
    ((score.clamp(0.0, 1.0) * BARS as f32) as usize).min(BARS - 1)
}

/// A score from which on a part says nothing of drift: a bad part is no news, and what the limit was made of knows
/// it. Below it, taught parts and parts that pass are drawn alike.
fn end(threshold: f32) -> f32 {
    threshold.min(LIMIT)
}

/// A line that is watched since it was taught. Parts that passed are compared with each other, and with taught parts
/// that the memory has not learned from, if there are any: what it says of those that it has learned from, had it
/// not, is a little different, and that would be taken for drift (on 3 of 100 lines, by simulation).
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    taught: Vec<f32>,
    seed: u64,
    end: f32,
    drift: Drift,
}

impl Watch {
    /// Watches a line that was taught this, and rejects scores above `threshold`. `seed` is of the random numbers
    /// that break ties; its value does not matter.
    pub fn new(taught: &Taught, threshold: f32, seed: u64) -> Watch {
        let end = end(threshold);
        let mut taught = taught.later_scores();
        taught.retain(|s| *s < end);
        Watch {
            drift: Drift::new(&taught, seed),
            taught,
            seed,
            end,
        }
    }

    /// Whether the watch was made for this threshold.
    pub fn is_for(&self, threshold: f32) -> bool {
        self.end == end(threshold)
    }

    /// Takes in the score of a part, as [`About::score`](super::About::score) gives it. `None` if this score says
    /// nothing of drift, otherwise whether the line no longer looks as taught: then the watch begins anew, and
    /// reports it again if that lasts.
    pub fn part(&mut self, score: f32) -> Option<bool> {
        if score.is_nan() || score >= self.end {
            return None;
        }
        self.drift.part(score);
        let changed = self.drift.has_changed();
        if changed {
            self.seed = self.seed.wrapping_add(1);
            self.drift.restart(&self.taught, self.seed);
        }
        Some(changed)
    }
}

impl Drift {
    /// The test after teaching, with the scores of the parts that were held out. `seed` is of the random numbers
    /// that break ties; its value does not matter.
    pub fn new(taught: &[f32], seed: u64) -> Drift {
        let mut drift = Drift {
            counts: vec![0; BARS],
            tested: 0,
            capital: [0.0; 3],
            random: 0,
        };
        drift.restart(taught, seed);
        drift
    }

    /// Begins anew without allocating.
    fn restart(&mut self, taught: &[f32], seed: u64) {
        self.counts.fill(0);
        for score in taught {
            self.counts[bar(*score)] += 1;
        }
        (self.tested, self.random) = (0, seed);
        self.capital = [(1.0 - held_back(0)) / 3.0; 3];
    }

    /// A random number in 0..1 (SplitMix64).
    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Takes in the score of a part that has passed, 0..=1; returns its p value, 0..=1. NaN counts as a score of
    /// 1.
    pub fn part(&mut self, score: f32) -> f64 {
        let at = bar(if score.is_nan() { 1.0 } else { score });
        let sum = |counts: &[u32]| counts.iter().map(|c| u64::from(*c)).sum::<u64>() as f64;
        let (all, above) = (sum(&self.counts), sum(&self.counts[at + 1..]));
        let ties = f64::from(self.counts[at]) + 1.0;
        let p = (above + self.uniform() * ties) / (all + 1.0);
        self.counts[at] = self.counts[at].saturating_add(1);

        let fresh = held_back(self.tested) - held_back(self.tested + 1);
        self.tested += 1;
        let jumping = JUMP / 3.0 * self.capital.iter().sum::<f64>();
        for (capital, bet) in self.capital.iter_mut().zip([-1.0, 0.0, 1.0]) {
            *capital = ((1.0 - JUMP) * *capital + jumping) * (1.0 + bet * (p - 0.5));
            *capital += fresh / 3.0;
        }
        p
    }

    /// The capital of the martingale; 1 at the start.
    pub fn capital(&self) -> f64 {
        self.capital.iter().sum::<f64>() + held_back(self.tested)
    }

    /// Whether the line no longer looks as taught.
    pub fn has_changed(&self) -> bool {
        self.capital() >= ALARM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(seed: u64, n: usize, shift: f64) -> Vec<f32> {
        let mut source = Drift::new(&[], seed);
        let mut score =
            || (0.2 + 0.05 * (0..6).map(|_| source.uniform()).sum::<f64>() + shift) as f32;
        (0..n).map(|_| score()).collect()
    }

    #[test]
    fn a_line_as_taught_raises_no_alarm() {
        let mut alarms = 0;
        for seed in 0..300 {
            let all = scores(seed, 3030, 0.0);
            let mut drift = Drift::new(&all[..30], seed ^ 77);
            alarms += usize::from(all[30..].iter().any(|s| {
                drift.part(*s);
                drift.has_changed()
            }));
        }
        // At most 1 of 100 on average; 8 or more of 300 have a chance of 1 %.
        assert!(alarms <= 7, "{alarms} false alarms of 300");
    }

    #[test]
    fn a_line_that_changed_is_noticed_early_and_late() {
        for quiet in [50, 5000] {
            let mut drift = Drift::new(&scores(1, 50, 0.0), 3);
            for s in scores(2, quiet, 0.0) {
                drift.part(s);
            }
            assert!(!drift.has_changed());
            let after = scores(3, 400, 0.12);
            let noticed = after.iter().position(|s| {
                drift.part(*s);
                drift.has_changed()
            });
            assert!(
                noticed.is_some_and(|n| n < 120),
                "after {quiet}: {noticed:?}"
            );
        }
    }

    #[test]
    fn scores_all_alike_and_no_numbers_are_no_news() {
        let mut drift = Drift::new(&[0.25; 20], 9);
        let p: Vec<f64> = (0..2000).map(|_| drift.part(0.25)).collect();
        let mean = p.iter().sum::<f64>() / p.len() as f64;
        assert!((mean - 0.5).abs() < 0.03 && !drift.has_changed(), "{mean}");
        assert!(drift.part(f32::NAN) < 0.01);
        let text = serde_json::to_string(&drift).unwrap();
        let back: Drift = serde_json::from_str(&text).unwrap();
        assert_eq!((&back.counts, back.tested), (&drift.counts, drift.tested));
        assert!((back.capital() - drift.capital()).abs() < 1e-9);
    }
}

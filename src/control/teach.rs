//! Teaching: a threshold from the scores of good parts alone.

use super::memory::RecipeNumber;
use super::table::STEPS;

/// Fewest and most parts of a TEACH.
pub const PARTS: std::ops::RangeInclusive<u32> = 5..=1000;

/// Bars of the histogram.
const BARS: usize = 12;
/// Characters of its longest bar.
const LONGEST_BAR: u64 = 40;

/// The threshold, in steps of 0.0001: the score that `quantile` (steps of 0.0001) of the scores do not
/// exceed (nearest rank), plus `margin` (steps), rounded up and at most 1. `None` of no scores.
pub fn threshold(scores: &[f32], quantile: u32, margin: u32) -> Option<u32> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f32::total_cmp);
    let rank = (sorted.len() as u64 * u64::from(quantile)).div_ceil(u64::from(STEPS));
    let place = usize::try_from(rank).ok()?.max(1) - 1;
    let score = *sorted.get(place.min(sorted.len().checked_sub(1)?))?;
    // What f32 adds to a decimal must not lift it by a step.
    let steps = (f64::from(score) * f64::from(STEPS) - 1e-3).ceil() as u32;
    Some(steps.saturating_add(margin).min(STEPS))
}

/// A TEACH under way or waiting to be accepted.
#[derive(Debug)]
pub(super) struct Teach {
    pub(super) recipe: RecipeNumber,
    wanted: usize,
    scores: Vec<f32>,
    /// Parts that passed without a score.
    pub(super) not_judged: u32,
}

impl Teach {
    pub(super) fn new(recipe: RecipeNumber, parts: u32) -> Self {
        Teach {
            recipe,
            wanted: parts as usize,
            scores: Vec::with_capacity(parts as usize),
            not_judged: 0,
        }
    }

    /// A part has passed.
    pub(super) fn part(&mut self, score: Option<f32>) {
        match score.filter(|s| s.is_finite()) {
            _ if self.is_done() => (),
            Some(score) => self.scores.push(score),
            None => self.not_judged += 1,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.scores.len() >= self.wanted
    }

    pub(super) fn scores(&self) -> &[f32] {
        &self.scores
    }

    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// The histogram: `from,to,count,bar` per line. `threshold` (steps) is marked by a line of its own.
    pub(super) fn histogram(&self, threshold: u32) -> Vec<String> {
        let steps = |s: &f32| (f64::from(*s) * f64::from(STEPS)).round().max(0.0) as u64;
        let all: Vec<u64> = self.scores.iter().map(steps).collect();
        let low = all.iter().min().copied().unwrap_or(0);
        let high = all.iter().max().copied().unwrap_or(0);
        let width = ((high - low) / BARS as u64 + 1).max(1);
        let mut counts = [0u64; BARS];
        for step in &all {
            counts[((step - low) / width) as usize] += 1;
        }
        let most = counts.iter().max().copied().unwrap_or(0).max(1);
        let used = ((high - low) / width) as usize + 1;
        let decimal = |steps: u64| format!("{:.4}", steps as f64 / f64::from(STEPS));
        let mut lines: Vec<String> = counts[..used]
            .iter()
            .zip(0u64..)
            .map(|(count, i)| {
                let from = low + i * width;
                let bar = "#".repeat((count * LONGEST_BAR).div_ceil(most) as usize);
                format!(
                    "{},{},{count},{bar}",
                    decimal(from),
                    decimal(from + width - 1)
                )
            })
            .collect();
        let at = decimal(u64::from(threshold));
        lines.push(format!("{at},{at},0,| threshold"));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantile_is_nearest_rank_and_rounded_up() {
        let scores: Vec<f32> = (1..=20).rev().map(|i| i as f32 / 100.0).collect();
        assert_eq!(threshold(&scores, 10_000, 0), Some(2000));
        assert_eq!(threshold(&scores, 9_500, 0), Some(1900));
        assert_eq!(threshold(&scores, 9_501, 0), Some(2000));
        assert_eq!(threshold(&scores, 5_000, 50), Some(1050));
        assert_eq!(threshold(&[0.123_41], 9_000, 0), Some(1235));
        assert_eq!(threshold(&[0.99], 9_000, 500), Some(10_000));
        assert_eq!(threshold(&[], 9_000, 0), None);
    }

    proptest! {
        /// With quantile 1, no taught part is a reject; every part is in the histogram once.
        #[test]
        fn taught_parts_are_good(scores in prop::collection::vec(0.0f32..=1.0, 5..200)) {
            let steps = threshold(&scores, STEPS, 0).unwrap();
            let value = steps as f32 / STEPS as f32;
            prop_assert!(scores.iter().all(|s| *s <= value + 1e-6));
            let mut teach = Teach::new(RecipeNumber::FIRST, scores.len() as u32);
            scores.iter().for_each(|s| teach.part(Some(*s)));
            let lines = teach.histogram(steps);
            let count: usize = lines.iter().map(|l| l.split(',').nth(2).unwrap().parse::<usize>().unwrap()).sum();
            prop_assert_eq!(count, scores.len());
            prop_assert!(lines.iter().all(|l| l.len() < 80));
        }
    }
}

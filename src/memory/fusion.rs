//! Fusion of FAPrompt's score and the memory's to one score, 0..=1.
//!
//! Each is put on one scale first, by what is usual for held-out good parts (median and spread): 0.5 is three
//! spreads above the median. Rules of the literature then make one of two; and the limit that teaching found
//! becomes 0.5 of the result, so that a threshold means the same whatever was taught: 0.5 is the limit that
//! held-out good parts set, half of them lie below 0.2, and 1 is never reached. All of it is monotone: no
//! order changes.

use super::conformal::Usual;
use serde::{Deserialize, Serialize};

/// A score this many spreads above the median becomes 0.5.
const ODD: f32 = 3.0;
/// After teaching, half of the good parts lie below this score, 0..=1.
const GOOD: f32 = 0.2;

/// How two scores become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Fusion {
    /// The memory alone.
    Memory,
    /// FAPrompt's score counts as much as one good part: half of the sum with one part, a seventeenth with 16
    #[default]
    HandOver,
    /// Four parts memory, one part FAPrompt.
    Weighted,
    /// The mean: WinCLIP+.
    Mean,
    /// The sum, as APRIL-GAN adds its memory: of the memory's score and half of FAPrompt's, which its map has
    /// beside each other.
    Sum,
    /// The larger one.
    Max,
    /// 1 / (1 / memory + 1 / FAPrompt): PromptAD, AdaptCLIP.
    Harmonic,
}

/// Maps the real numbers to 0..1, and 0 to 0.5, without ever reaching 0 or 1; monotone, and slow enough that far
/// outliers stay apart.
fn squashed(t: f32) -> f32 {
    0.5 + 0.5 * t / (1.0 + t.abs())
}

/// A score on the common scale, above 0 and below 1.
pub fn common(usual: &Usual, score: f32) -> f32 {
    squashed((usual.z(score) - ODD) / ODD)
}

impl Fusion {
    /// Fuses two scores on the common scale to one; larger means more abnormal. The range depends on the rule.
    /// `parts` is the number of good parts that were taught.
    pub fn fuse(self, memory: f32, zero_shot: f32, parts: usize) -> f32 {
        match self {
            Fusion::Memory => memory,
            Fusion::HandOver => {
                let parts = parts as f32;
                (parts * memory + zero_shot) / (parts + 1.0)
            }
            Fusion::Weighted => 0.8 * memory + 0.2 * zero_shot,
            Fusion::Mean => 0.5 * (memory + zero_shot),
            Fusion::Sum => memory + 0.5 * zero_shot,
            Fusion::Max => memory.max(zero_shot),
            Fusion::Harmonic => 1.0 / (1.0 / memory + 1.0 / zero_shot),
        }
    }
}

/// Brings fused scores to 0..=1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The fused score that becomes 0.5.
    pub limit: f32,
    /// The difference of fused scores that is 1 in `squashed`, chosen so that the middle becomes `GOOD`.
    pub unit: f32,
}

impl Scale {
    /// Half of the good parts' fused scores lie below `middle`; `limit` becomes 0.5.
    pub fn new(middle: f32, limit: f32) -> Scale {
        // squashed(t) = GOOD.
        let t = (1.0 - 2.0 * GOOD) / (2.0 * GOOD);
        Scale {
            limit,
            unit: ((limit - middle) / t).max(1e-4),
        }
    }

    /// Brings a fused score to 0..=1.
    pub fn apply(&self, fused: f32) -> f32 {
        squashed((fused - self.limit) / self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Fusion; 7] = [
        Fusion::Memory,
        Fusion::HandOver,
        Fusion::Weighted,
        Fusion::Mean,
        Fusion::Sum,
        Fusion::Max,
        Fusion::Harmonic,
    ];

    #[test]
    fn rules_of_the_literature() {
        let two = |rule: Fusion| rule.fuse(0.8, 0.4, 3);
        assert_eq!(two(Fusion::Memory), 0.8);
        assert!((two(Fusion::HandOver) - 0.7).abs() < 1e-6);
        assert!((Fusion::HandOver.fuse(0.8, 0.4, 1) - 0.6).abs() < 1e-6);
        assert!((two(Fusion::Weighted) - 0.72).abs() < 1e-6);
        assert!((two(Fusion::Mean) - 0.6).abs() < 1e-6);
        assert!((two(Fusion::Sum) - 1.0).abs() < 1e-6);
        assert_eq!(two(Fusion::Max), 0.8);
        assert!((two(Fusion::Harmonic) - 0.8 * 0.4 / 1.2).abs() < 1e-6);
    }

    #[test]
    fn the_limit_is_one_half_and_the_middle_one_fifth() {
        let scale = Scale::new(0.3, 0.6);
        assert_eq!(scale.apply(0.6), 0.5);
        assert!((scale.apply(0.3) - 0.2).abs() < 1e-6);
        let usual = Usual {
            middle: 2.0,
            spread: 0.5,
        };
        assert_eq!(common(&usual, 3.5), 0.5);
    }

    proptest! {
        /// More abnormal is never less abnormal, and far outliers stay apart.
        #[test]
        fn every_step_is_monotone(a in 0f32..50.0, more in 0.01f32..50.0, other in 0f32..50.0) {
            let usual = Usual { middle: 1.0, spread: 0.2 };
            let scale = Scale::new(0.2, 0.5);
            for rule in ALL {
                let of = |m: f32, z: f32| scale.apply(rule.fuse(common(&usual, m), common(&usual, z), 4));
                let (low, high) = (of(a, other), of(a + more, other));
                prop_assert!((0.0..=1.0).contains(&low) && low <= high, "{rule:?}: {low} then {high}");
                prop_assert!(of(other, a) <= of(other, a + more));
            }
            let alone = |m| scale.apply(Fusion::Memory.fuse(common(&usual, m), 0.5, 4));
            prop_assert!(alone(a) < alone(a + more));
        }
    }
}

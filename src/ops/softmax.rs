//! Softmax over rows of scores, without the last step: who uses the weights divides by their sum.

use super::fold_lanes;
use super::simd::{multiply_add, vectorised};

/// e^x for x at most 0, within 3e-7 of it; below -86, where the result would not be a normal number,
/// e^-86. The constants are those of Cephes' expf.
#[inline(always)]
fn exp<const FUSED: bool>(x: f32) -> f32 {
    // Adding it leaves the nearest integer in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    let x = if x < -86.0 { -86.0 } else { x };
    let add = multiply_add::<FUSED>;
    let shifted = add(x, std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = add(n, 2.121_944_4e-4, add(n, -0.693_359_375, x));
    let mut p = 1.987_569_15e-4;
    for c in [
        1.398_199_950_7e-3,
        8.333_451_907_3e-3,
        4.166_579_589_4e-2,
        1.666_666_545_9e-1,
        5.000_000_120_1e-1,
    ] {
        p = add(p, r, c);
    }
    let y = add(p * r, r, r) + 1.0;
    f32::from_bits(y.to_bits().wrapping_add(shifted.to_bits() << 23))
}

vectorised! {
    /// Turns a row of scores into e^(score - the largest one), and returns what these add up to. A NaN
    /// among the scores makes the sum NaN.
    pub fn exp_row(row: &mut [f32]) -> f32 {
        const LANES: usize = 16;
        let (chunks, rest) = row.as_chunks_mut::<LANES>();
        let mut max = [f32::NEG_INFINITY; LANES];
        for chunk in &*chunks {
            for (m, v) in max.iter_mut().zip(chunk) {
                *m = if *v > *m { *v } else { *m };
            }
        }
        let max = fold_lanes(max, |a, b| if a > b { a } else { b });
        let max = rest.iter().fold(max, |m, v| if *v > m { *v } else { m });
        let mut sums = [0f32; LANES];
        for chunk in chunks {
            for (sum, v) in sums.iter_mut().zip(chunk) {
                *v = exp::<FUSED>(*v - max);
                *sum += *v;
            }
        }
        let mut sum = fold_lanes(sums, |a, b| a + b);
        for v in rest {
            *v = exp::<FUSED>(*v - max);
            sum += *v;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_are_exponentials(row in prop::collection::vec(-60f32..60.0, 1..200)) {
            let max = row.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v));
            let mut got = row.clone();
            let sum = f64::from(exp_row(&mut got));
            let want: Vec<f64> = row.iter().map(|v| f64::from((v - max).max(-86.0)).exp()).collect();
            for (got, want) in got.iter().zip(&want) {
                prop_assert!((f64::from(*got) - want).abs() <= 3e-7 * want, "{} for {}", got, want);
            }
            prop_assert!((sum / want.iter().sum::<f64>() - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for at in [0, 33, 65] {
            let mut row = [1.0; 66];
            row[at] = f32::NAN;
            assert!(exp_row(&mut row).is_nan(), "{at}");
        }
        assert!(exp_row(&mut [f32::NAN; 40]).is_nan());
    }
}

//! Layer normalisation over the last axis, one pass over each row's statistics.

use super::scratch::Output;
use super::simd::{multiply_add, vectorised};
use super::{par_rows, slice, sum_lanes};
use tract_core::internal::*;

/// The epsilon of PyTorch's LayerNorm and of nearly every CLIP; a bundle's manifest may name another.
pub const EPSILON: f32 = 1e-5;

/// `gamma * (x - mean) / sqrt(var + epsilon) + beta` over the last axis of [rows, width] f32.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    /// Scale, [width].
    pub gamma: Arc<Tensor>,
    /// Shift, [width].
    pub beta: Arc<Tensor>,
    /// Added to the variance; positive and finite.
    pub epsilon: f32,
}

// Equality is total: a manifest whose epsilon is NaN is refused.
impl Eq for LayerNorm {}

/// The numbers of a [`LayerNorm`].
#[derive(Clone, Copy)]
pub struct Norm<'a> {
    /// Scale of each channel, [C].
    pub gamma: &'a [f32],
    /// Shift of each channel, [C].
    pub beta: &'a [f32],
    /// Added to the variance.
    pub epsilon: f32,
}

impl Norm<'_> {
    /// Normalises the rows of `x` to those of `out` over all threads.
    ///
    /// # Errors
    /// `x` and `out` differ in length, or are no whole number of rows.
    pub fn rows(&self, x: &[f32], out: &mut [f32]) -> TractResult<()> {
        let width = self.gamma.len();
        ensure!(
            x.len() == out.len() && x.len().is_multiple_of(width),
            "{} elements into {} in rows of {width}",
            x.len(),
            out.len()
        );
        par_rows(out, width, 1, |first, out| {
            let x = x[first * width..].chunks_exact(width);
            x.zip(out.chunks_exact_mut(width))
                .for_each(|(x, out)| self.row(x, out));
            Ok(())
        })
    }

    /// Normalises one row.
    pub fn row(&self, x: &[f32], out: &mut [f32]) {
        normalise(x, self.gamma, self.beta, self.epsilon, out);
    }
}

vectorised! {
    fn normalise(x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32, out: &mut [f32]) {
        let width = x.len() as f32;
        let mean = sum_lanes(x, |v| v) / width;
        let variance = sum_lanes(x, |v| (v - mean) * (v - mean)) / width;
        let inverse = 1.0 / (variance + epsilon).sqrt();
        for ((out, v), (g, b)) in out.iter_mut().zip(x).zip(gamma.iter().zip(beta)) {
            *out = multiply_add::<FUSED>((*v - mean) * inverse, *g, *b);
        }
    }
}

impl LayerNorm {
    /// Its scale, shift and epsilon as slices.
    ///
    /// # Errors
    /// Scale or shift is not plain f32.
    pub fn norm(&self) -> TractResult<Norm<'_>> {
        Ok(Norm {
            gamma: slice(&self.gamma)?,
            beta: slice(&self.beta)?,
            epsilon: self.epsilon,
        })
    }
}

impl Op for LayerNorm {
    fn name(&self) -> StaticName {
        "LayerNorm".into()
    }
    op_as_typed_op!();
}

impl EvalOp for LayerNorm {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut out = Output::take(ctx, inputs[0].shape())?;
        self.norm()?.rows(slice(&inputs[0])?, out.slice()?)?;
        Ok(tvec!(out.hand_on()))
    }
}

impl TypedOp for LayerNorm {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let width = self.gamma.len();
        ensure!(
            width > 0 && self.beta.len() == width,
            "LayerNorm: gamma and beta differ in length"
        );
        ensure!(
            inputs[0].datum_type == DatumType::F32
                && inputs[0].shape.last() == Some(&width.to_dim()),
            "LayerNorm of width {width} on {:?}",
            inputs[0]
        );
        Ok(tvec!(inputs[0].without_value()))
    }
    as_op!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_definition() {
        let row: Vec<f32> = (0..37)
            .map(|i| ((i * 7919) % 101) as f32 / 10.0 - 3.0)
            .collect();
        let gamma: Vec<f32> = (0..37).map(|i| 0.5 + i as f32 / 37.0).collect();
        let beta: Vec<f32> = (0..37).map(|i| i as f32 / 10.0).collect();
        let mean = row.iter().map(|v| *v as f64).sum::<f64>() / 37.0;
        let var = row.iter().map(|v| (*v as f64 - mean).powi(2)).sum::<f64>() / 37.0;
        for epsilon in [EPSILON, 1e-6, 0.5] {
            let mut got = row.clone();
            Norm {
                gamma: &gamma,
                beta: &beta,
                epsilon,
            }
            .row(&row, &mut got);
            for i in 0..37 {
                let want = gamma[i] as f64 * (row[i] as f64 - mean)
                    / (var + f64::from(epsilon)).sqrt()
                    + beta[i] as f64;
                assert!((got[i] as f64 - want).abs() < 1e-5);
            }
        }
    }
}

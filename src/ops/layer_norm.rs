//! Layer normalisation over the last axis, one pass over each row's statistics.

use super::{slice, slice_mut, sum_lanes};
use tract_core::internal::*;

/// CLIP's epsilon, in both towers.
pub const EPSILON: f32 = 1e-5;

/// `gamma * (x - mean) / sqrt(var + 1e-5) + beta` over the last axis of [rows, width] f32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerNorm {
    /// Scale, [width].
    pub gamma: Arc<Tensor>,
    /// Shift, [width].
    pub beta: Arc<Tensor>,
}

/// Normalises one row in place.
pub fn normalise_row(row: &mut [f32], gamma: &[f32], beta: &[f32]) {
    let width = row.len() as f32;
    let mean = sum_lanes(row, |v| v) / width;
    let variance = sum_lanes(row, |v| (v - mean) * (v - mean)) / width;
    let inverse = 1.0 / (variance + EPSILON).sqrt();
    for ((v, g), b) in row.iter_mut().zip(gamma).zip(beta) {
        *v = (*v - mean) * inverse * g + b;
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

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut x = args_1!(inputs).into_tensor();
        let (gamma, beta) = (slice(&self.gamma)?, slice(&self.beta)?);
        let width = gamma.len();
        let total = x.len();
        tract_linalg::multithread::par_chunks_mut(slice_mut(&mut x)?, width, total, |_, rows| {
            rows.chunks_exact_mut(width)
                .for_each(|row| normalise_row(row, gamma, beta));
            Ok(())
        })?;
        Ok(tvec!(x.into_tvalue()))
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
        let mut got = row.clone();
        normalise_row(&mut got, &gamma, &beta);
        for i in 0..37 {
            let want =
                gamma[i] as f64 * (row[i] as f64 - mean) / (var + 1e-5).sqrt() + beta[i] as f64;
            assert!((got[i] as f64 - want).abs() < 1e-5);
        }
    }
}

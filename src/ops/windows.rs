//! What is particular to windows: attention within groups of few rows, and a row of each group.

use super::scratch::{Output, Scratch};
use super::{dot, slice};
use tract_core::internal::*;

/// Rows of all groups: (how many, rows of each), one kind behind the other.
fn total(groups: &[(usize, usize)]) -> usize {
    groups.iter().map(|(n, rows)| n * rows).sum()
}

/// The first row and the number of rows of each group.
fn spans(groups: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut first = 0;
    let mut spans = vec![];
    for (n, rows) in groups {
        for _ in 0..*n {
            spans.push((first, *rows));
            first += rows;
        }
    }
    spans
}

/// softmax(q k^T / sqrt(d)) v within each group of rows: [rows, 3 * width] to [rows, width].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowAttention {
    /// Number of heads.
    pub heads: usize,
    /// How many groups of how many rows, in the order of the rows.
    pub groups: Vec<(usize, usize)>,
}

impl WindowAttention {
    /// A group's rows of `qkv` to its rows of `out`.
    fn group(&self, qkv: &[f32], out: &mut [f32], rows: usize, width: usize) {
        let (d, stride) = (width / self.heads, 3 * width);
        let scale = 1.0 / (d as f32).sqrt();
        let mut weights = Scratch::take(rows);
        for (i, target) in out.chunks_exact_mut(width).enumerate() {
            for at in (0..width).step_by(d) {
                let query = &qkv[i * stride + at..][..d];
                for (j, weight) in weights.iter_mut().enumerate() {
                    *weight = dot(query, &qkv[j * stride + width + at..][..d]) * scale;
                }
                let max = weights.iter().fold(f32::NEG_INFINITY, |m, w| m.max(*w));
                weights.iter_mut().for_each(|w| *w = (*w - max).exp());
                let inverse = 1.0 / weights.iter().sum::<f32>();
                let target = &mut target[at..at + d];
                target.fill(0.0);
                for (j, w) in weights.iter().enumerate() {
                    let (w, value) = (w * inverse, &qkv[j * stride + 2 * width + at..][..d]);
                    target.iter_mut().zip(value).for_each(|(t, v)| *t += w * v);
                }
            }
        }
    }
}

impl Op for WindowAttention {
    fn name(&self) -> StaticName {
        "WindowAttention".into()
    }
    op_as_typed_op!();
}

impl EvalOp for WindowAttention {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let width = inputs[0].shape()[1] / 3;
        let qkv = slice(&inputs[0])?;
        let mut out = Output::take(ctx, &[total(&self.groups), width])?;
        let mut rest = out.slice()?;
        let mut first = 0;
        // Groups of one kind lie evenly, so that threads can share them.
        for (n, rows) in &self.groups {
            let (these, others) = rest.split_at_mut(n * rows * width);
            let qkv = &qkv[first * 3 * width..][..n * rows * 3 * width];
            super::par_rows(these, rows * width, 1, |group, out| {
                for (g, out) in out.chunks_exact_mut(rows * width).enumerate() {
                    let own = &qkv[(group + g) * rows * 3 * width..][..rows * 3 * width];
                    self.group(own, out, *rows, width);
                }
                Ok(())
            })?;
            (rest, first) = (others, first + n * rows);
        }
        Ok(tvec!(out.hand_on()))
    }
}

impl TypedOp for WindowAttention {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs[0].rank() == 2, "WindowAttention of {:?}", inputs[0]);
        let (rows, columns) = (
            inputs[0].shape[0].to_usize()?,
            inputs[0].shape[1].to_usize()?,
        );
        ensure!(
            rows == total(&self.groups)
                && self.groups.iter().all(|(n, rows)| n * rows > 0)
                && columns.is_multiple_of(3)
                && self.heads > 0
                && (columns / 3).is_multiple_of(self.heads),
            "WindowAttention: {self:?} of {rows} x {columns}"
        );
        Ok(tvec!(f32::fact([rows, columns / 3])))
    }
    as_op!();
}

/// The first row of each group: [rows, width] to [groups, width].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PickEach {
    /// How many groups of how many rows, in the order of the rows.
    pub groups: Vec<(usize, usize)>,
}

impl Op for PickEach {
    fn name(&self) -> StaticName {
        "PickEach".into()
    }
    op_as_typed_op!();
}

impl EvalOp for PickEach {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let width = inputs[0].shape()[1];
        let source = slice(&inputs[0])?;
        let spans = spans(&self.groups);
        let mut out = Output::take(ctx, &[spans.len(), width])?;
        for ((first, _), row) in spans.iter().zip(out.slice()?.chunks_exact_mut(width)) {
            row.copy_from_slice(&source[first * width..][..width]);
        }
        Ok(tvec!(out.hand_on()))
    }
}

impl TypedOp for PickEach {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(
            inputs[0].rank() == 2 && inputs[0].shape[0] == total(&self.groups).to_dim(),
            "PickEach: {self:?} of {:?}",
            inputs[0]
        );
        let count: usize = self.groups.iter().map(|(n, _)| n).sum();
        Ok(tvec!(f32::fact([
            count.to_dim(),
            inputs[0].shape[1].clone()
        ])))
    }
    as_op!();
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn rows_of_other_windows_are_not_seen() {
        let (heads, width) = (2, 8);
        let op = WindowAttention {
            heads,
            groups: vec![(2, 3), (1, 5)],
        };
        let qkv = testing::tensor(&[11, 3 * width], 1);
        let all = slice(&qkv).unwrap();
        let got = testing::eval(&op, &[&qkv]);
        for (first, rows) in spans(&op.groups) {
            for h in 0..heads {
                let d = width / heads;
                let part = |which: usize| -> Vec<Vec<f32>> {
                    (first..first + rows)
                        .map(|r| all[(r * 3 + which) * width + h * d..][..d].to_vec())
                        .collect()
                };
                let want = testing::attention(&part(0), &part(1), &part(2), |_, _| true);
                for r in 0..rows {
                    for c in 0..d {
                        let got = slice(&got[0]).unwrap()[(first + r) * width + h * d + c] as f64;
                        assert!((got - want[r][c]).abs() < 1e-5, "row {}", first + r);
                    }
                }
            }
        }
    }

    #[test]
    fn each_window_gives_its_first_row() {
        let values: Vec<f32> = (0..11).map(|v| v as f32).collect();
        let x = Tensor::from_shape(&[11, 1], &values).unwrap();
        let op = PickEach {
            groups: vec![(2, 3), (1, 5)],
        };
        let got = testing::eval(&op, &[&x]);
        assert_eq!(slice(&got[0]).unwrap(), &[0.0, 3.0, 6.0]);
    }
}

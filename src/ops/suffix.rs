//! What is particular to the prompt tower: short suffixes that share a cached prefix.
//!
//! The tokens before A^k are the same for every prompt and every image, and the mask is causal, so
//! their keys and values are constants of each block: only the suffix rows are ever computed.

use super::scratch::{Output, Scratch};
use super::{dot, slice};
use tract_core::internal::*;

/// The suffix rows of all prompts with the prior added to their abnormal tokens: [1, width] to
/// [prompts * rows, width].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuffixEmbed {
    /// Token plus positional embeddings without the prior, [prompts * rows, width].
    pub base: Arc<Tensor>,
    /// Rows per prompt.
    pub rows: usize,
    /// How many rows at the start of each prompt's suffix take the prior (E').
    pub shifted: usize,
}

impl Op for SuffixEmbed {
    fn name(&self) -> StaticName {
        "SuffixEmbed".into()
    }
    op_as_typed_op!();
}

impl EvalOp for SuffixEmbed {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let prior = slice(&inputs[0])?;
        let mut out = Output::take(ctx, self.base.shape())?;
        let rows = out.slice()?;
        rows.copy_from_slice(slice(&self.base)?);
        for (i, row) in rows.chunks_exact_mut(prior.len()).enumerate() {
            if i % self.rows < self.shifted {
                row.iter_mut().zip(prior).for_each(|(v, p)| *v += p);
            }
        }
        Ok(tvec!(out.hand_on()))
    }
}

impl TypedOp for SuffixEmbed {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shape = self.base.shape();
        ensure!(
            shape.len() == 2 && self.rows > 0 && shape[0].is_multiple_of(self.rows),
            "SuffixEmbed: {shape:?}"
        );
        ensure!(
            *inputs[0].shape == [1.to_dim(), shape[1].to_dim()],
            "SuffixEmbed: a prior of {:?}",
            inputs[0]
        );
        Ok(tvec!(f32::fact(shape)))
    }
    as_op!();
}

/// Overwrites the first rows of each prompt's suffix: deep prompts that are longer than the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverwriteRows {
    /// The new rows, [rows to overwrite, width], the same for every prompt.
    pub with: Arc<Tensor>,
    /// Rows per prompt.
    pub rows: usize,
}

impl Op for OverwriteRows {
    fn name(&self) -> StaticName {
        "OverwriteRows".into()
    }
    op_as_typed_op!();
}

impl EvalOp for OverwriteRows {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut out = Output::take(ctx, inputs[0].shape())?;
        let rows = out.slice()?;
        rows.copy_from_slice(slice(&inputs[0])?);
        let with = slice(&self.with)?;
        let width = self.with.shape()[1];
        for prompt in rows.chunks_exact_mut(self.rows * width) {
            prompt[..with.len()].copy_from_slice(with);
        }
        Ok(tvec!(out.hand_on()))
    }
}

impl TypedOp for OverwriteRows {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(
            self.with.rank() == 2
                && self.with.shape()[0] <= self.rows
                && inputs[0].shape.last() == Some(&self.with.shape()[1].to_dim()),
            "OverwriteRows: {:?} into {} rows of {:?}",
            self.with.shape(),
            self.rows,
            inputs[0]
        );
        Ok(tvec!(inputs[0].without_value()))
    }
    as_op!();
}

/// Causal attention of each prompt's suffix over the cached prefix and itself.
///
/// One input: [prompts * rows, 3 * width], q, k and v side by side; the output has a row for each.
/// Two inputs: queries [prompts, width] of the last rows alone and [prompts * rows, 2 * width] keys
/// and values; the output is [prompts, width].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuffixAttention {
    /// Number of heads.
    pub heads: usize,
    /// Rows per prompt.
    pub rows: usize,
    /// Keys of the prefix, [prefix, width].
    pub prefix_keys: Arc<Tensor>,
    /// Values of the prefix, [prefix, width].
    pub prefix_values: Arc<Tensor>,
}

impl Op for SuffixAttention {
    fn name(&self) -> StaticName {
        "SuffixAttention".into()
    }
    op_as_typed_op!();
}

impl EvalOp for SuffixAttention {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let width = self.prefix_keys.shape()[1];
        let d = width / self.heads;
        let whole = inputs.len() == 1;
        let (q, kv) = (&inputs[0], &inputs[inputs.len() - 1]);
        let (q_stride, kv_stride) = (q.shape()[1], kv.shape()[1]);
        let (k_column, v_column) = if whole {
            (width, 2 * width)
        } else {
            (0, width)
        };
        let (q, kv) = (slice(q)?, slice(kv)?);
        let (prefix_keys, prefix_values) = (slice(&self.prefix_keys)?, slice(&self.prefix_values)?);
        let prefix = self.prefix_keys.shape()[0];
        let queries = if whole { self.rows } else { 1 };
        let mut out = Output::take(ctx, &[q.len() / q_stride, width])?;
        let scale = 1.0 / (d as f32).sqrt();
        let total = kv.len();
        tract_linalg::multithread::par_chunks_mut(
            out.slice()?,
            queries * width,
            total,
            |first, chunk| {
                let mut weights = Scratch::take(prefix + self.rows);
                for (p, target) in chunk.chunks_exact_mut(queries * width).enumerate() {
                    let prompt = first + p;
                    let own =
                        &kv[prompt * self.rows * kv_stride..(prompt + 1) * self.rows * kv_stride];
                    for (i, target) in target.chunks_exact_mut(width).enumerate() {
                        let query = &q[(prompt * queries + i) * q_stride..][..width];
                        // The row that asks sees the prefix and its own prompt up to itself.
                        let visible = if whole { i + 1 } else { self.rows };
                        for h in 0..self.heads {
                            let at = h * d;
                            let keys = (0..prefix)
                                .map(|j| &prefix_keys[j * width + at..][..d])
                                .chain(
                                    (0..visible)
                                        .map(|j| &own[j * kv_stride + k_column + at..][..d]),
                                );
                            let weights = &mut weights[..prefix + visible];
                            for (weight, key) in weights.iter_mut().zip(keys) {
                                *weight = dot(&query[at..at + d], key) * scale;
                            }
                            let max = weights.iter().fold(f32::NEG_INFINITY, |m, w| m.max(*w));
                            weights.iter_mut().for_each(|w| *w = (*w - max).exp());
                            let inverse = 1.0 / weights.iter().sum::<f32>();
                            let values = (0..prefix)
                                .map(|j| &prefix_values[j * width + at..][..d])
                                .chain(
                                    (0..visible)
                                        .map(|j| &own[j * kv_stride + v_column + at..][..d]),
                                );
                            let target = &mut target[at..at + d];
                            target.fill(0.0);
                            for (w, value) in weights.iter().zip(values) {
                                let w = w * inverse;
                                target.iter_mut().zip(value).for_each(|(t, v)| *t += w * v);
                            }
                        }
                    }
                }
                Ok(())
            },
        )?;
        Ok(tvec!(out.hand_on()))
    }
}

impl TypedOp for SuffixAttention {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(
            self.prefix_keys.rank() == 2 && self.prefix_keys.shape() == self.prefix_values.shape(),
            "SuffixAttention: prefix"
        );
        let width = self.prefix_keys.shape()[1];
        ensure!(
            self.heads > 0 && self.rows > 0 && width.is_multiple_of(self.heads),
            "SuffixAttention: {} heads in {width}",
            self.heads
        );
        let shape = |i: usize| -> TractResult<TVec<usize>> {
            inputs[i]
                .shape
                .as_concrete()
                .map(TVec::from)
                .context("SuffixAttention wants concrete shapes")
        };
        let prompts = match inputs.len() {
            1 => {
                let x = shape(0)?;
                ensure!(
                    x.len() == 2 && x[1] == 3 * width && x[0] % self.rows == 0,
                    "SuffixAttention: {x:?}"
                );
                x[0]
            }
            2 => {
                let (q, kv) = (shape(0)?, shape(1)?);
                ensure!(
                    q.len() == 2
                        && kv.len() == 2
                        && q[1] == width
                        && kv[1] == 2 * width
                        && kv[0] == q[0] * self.rows,
                    "SuffixAttention: {q:?} and {kv:?}"
                );
                q[0]
            }
            n => bail!("SuffixAttention: {n} inputs"),
        };
        Ok(tvec!(f32::fact([prompts, width])))
    }
    as_op!();
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn suffix_attention_equals_causal_attention_over_whole_prompts() {
        let (prompts, rows, prefix, heads, width) = (3, 4, 5, 2, 12);
        let d = width / heads;
        let op = SuffixAttention {
            heads,
            rows,
            prefix_keys: Arc::new(testing::tensor(&[prefix, width], 1)),
            prefix_values: Arc::new(testing::tensor(&[prefix, width], 2)),
        };
        let qkv = testing::tensor(&[prompts * rows, 3 * width], 3);
        let all = slice(&qkv).unwrap();
        let whole = testing::eval(&op, &[&qkv]);
        let eos: Vec<f32> = (0..prompts)
            .flat_map(|p| all[((p + 1) * rows - 1) * 3 * width..][..width].to_vec())
            .collect();
        let kv: Vec<f32> = all
            .chunks_exact(3 * width)
            .flat_map(|r| r[width..].to_vec())
            .collect();
        let eos = Tensor::from_shape(&[prompts, width], &eos).unwrap();
        let kv = Tensor::from_shape(&[prompts * rows, 2 * width], &kv).unwrap();
        let last = testing::eval(&op, &[&eos, &kv]);
        for (p, h) in (0..prompts).flat_map(|p| (0..heads).map(move |h| (p, h))) {
            let part = |which: usize, cached: Option<&Tensor>| -> Vec<Vec<f32>> {
                let cached = cached.map(|t| {
                    slice(t)
                        .unwrap()
                        .chunks_exact(width)
                        .map(|r| r[h * d..(h + 1) * d].to_vec())
                });
                let own = (0..rows)
                    .map(|r| all[((p * rows + r) * 3 + which) * width + h * d..][..d].to_vec());
                cached.into_iter().flatten().chain(own).collect()
            };
            let (k, v) = (
                part(1, Some(&op.prefix_keys)),
                part(2, Some(&op.prefix_values)),
            );
            let want = testing::attention(&part(0, None), &k, &v, |i, j| j <= prefix + i);
            for r in 0..rows {
                for c in 0..d {
                    let got = slice(&whole[0]).unwrap()[(p * rows + r) * width + h * d + c] as f64;
                    assert!(
                        (got - want[r][c]).abs() < 1e-5,
                        "prompt {p}, row {r}: {got} for {}",
                        want[r][c]
                    );
                }
            }
            for c in 0..d {
                let got = slice(&last[0]).unwrap()[p * width + h * d + c] as f64;
                assert!((got - want[rows - 1][c]).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn the_prior_shifts_abnormal_tokens_only_and_deep_prompts_overwrite() {
        let base = testing::tensor(&[6, 2], 1);
        let prior = Tensor::from_shape(&[1, 2], &[10f32, 20.]).unwrap();
        let out = testing::eval(
            &SuffixEmbed {
                base: Arc::new(base.clone()),
                rows: 3,
                shifted: 2,
            },
            &[&prior],
        );
        let (out, base) = (slice(&out[0]).unwrap(), slice(&base).unwrap());
        for i in 0..12 {
            let shift = if i / 2 % 3 < 2 {
                [10.0, 20.0][i % 2]
            } else {
                0.0
            };
            assert_eq!(out[i], base[i] + shift);
        }
        let with = Tensor::from_shape(&[1, 2], &[7f32, 8.]).unwrap();
        let x = testing::tensor(&[6, 2], 2);
        let out = testing::eval(
            &OverwriteRows {
                with: Arc::new(with),
                rows: 3,
            },
            &[&x],
        );
        let (out, x) = (slice(&out[0]).unwrap(), slice(&x).unwrap());
        assert_eq!((&out[..2], &out[6..8]), (&[7., 8.][..], &[7., 8.][..]));
        assert_eq!((&out[2..6], &out[8..]), (&x[2..6], &x[8..]));
    }
}
